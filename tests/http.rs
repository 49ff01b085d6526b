//! Metrics and health over real HTTP: what is shown, who is ready, what a hostile client can't do.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "support/http.rs"]
mod http;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http::{Answer, get, request, send};
use lethe::clock::SystemClock;
use lethe::cluster::Stop;
use lethe::command::{Context, Reply, Services, execute};
use lethe::config::Config;
use lethe::http::Http;
use lethe::node::{Node, NodeOptions};
use lethe::resp::Words;
use lethe::session::{Client, Session};
use lethe::store::Store;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what happens on its own.
const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> Config {
    let mut config = Config::default();
    config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.cluster.heartbeat = Duration::from_millis(50);
    config.cluster.silent_after = Duration::from_secs(2);
    config
}

async fn start(store: &Store, name: &str, config: Config) -> Node {
    let options =
        NodeOptions { name: Some(name.to_owned()), exclusive: false, ..NodeOptions::default() };
    let store = store.as_client(name);
    Node::start_on(store, Arc::new(config), Arc::new(SystemClock), options).await.unwrap()
}

async fn node() -> Node {
    start(&Store::memory(), "a", config()).await
}

async fn run(node: &Node, line: &str) -> Reply {
    let services = node.services();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let client = Arc::new(Client::new(7, nowhere, nowhere));
    let mut session = Session::new(client, Arc::clone(&services.config));
    let mut context = Context { session: &mut session, services };
    execute(&mut context, Words::from_words(line.split(' '))).await
}

/// Gets a page of a node without keeping its runtime from answering.
async fn page(node: &Node, path: &'static str) -> Answer {
    let address = node.http_addresses()[0];
    tokio::task::spawn_blocking(move || get(address, path)).await.unwrap()
}

/// Asks until the answer is as expected: pages have no event, and what they show may be a second old.
async fn eventually(node: &Node, path: &'static str, holds: impl Fn(&Answer) -> bool) -> Answer {
    let asking = async {
        loop {
            let answer = page(node, path).await;
            if holds(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(late) => panic!("never as expected, {late}: {:?}", page(node, path).await),
    }
}

async fn ready(node: &Node) {
    eventually(node, "/readyz", |answer| answer.status == 200).await;
}

/// Families by name, counters with `_total`: kind and label names.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

fn families(page: &str) -> Families {
    let mut families = Families::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let found = families.insert(format!("{name}{suffix}"), (kind.to_owned(), [].into()));
            assert!(found.is_none(), "{name} is there twice");
        } else if !line.starts_with('#') {
            let (name, labels) =
                line.split_once(' ').unwrap().0.split_once('{').unwrap_or((line, ""));
            let name = name.split(' ').next().unwrap();
            let parts = ["_bucket", "_sum", "_count"];
            let whole = parts.iter().find_map(|part| {
                name.strip_suffix(part)
                    .filter(|name| families.get(*name).is_some_and(|(kind, _)| kind == "histogram"))
            });
            let family = families.get_mut(whole.unwrap_or(name));
            let (_, names) = family.unwrap_or_else(|| panic!("{name} has no type"));
            let labels = labels.trim_end_matches('}').split("\",");
            let labels = labels.filter_map(|label| Some(label.split_once("=\"")?.0.to_owned()));
            names.extend(labels.filter(|label| label != "le"));
        }
    }
    families
}

fn documented() -> Families {
    let page = include_str!("../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `lethe_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" |").map(str::trim).collect();
        let words = |cell: &str| -> Vec<String> {
            cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        assert!(cells[3].len() > 5, "{row} says nothing");
        (words(cells[0]).remove(0), (cells[1].to_owned(), words(cells[2]).into_iter().collect()))
    })
    .collect()
}

/// The value of one line of the page.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

async fn purge_something(node: &Node) {
    for line in [
        "BUCKET.CREATE users",
        "BUCKET.INSERT users DOCS {\"a\":1} {\"a\":2}",
        "BUCKET.REMOVE users",
        "BUCKET.PURGE users",
    ] {
        let reply = run(node, line).await;
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_and_its_manual_agree() {
    let node = node().await;
    ready(&node).await;
    purge_something(&node).await;
    run(&node, "NOSUCHCOMMAND").await;
    let answer = eventually(&node, "/metrics", |answer| {
        value(&answer.body, "lethe_reclaims_total") == Some(1.0)
            && value(&answer.body, "lethe_cluster_members") == Some(1.0)
    })
    .await;
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(answer.body.ends_with("# EOF\n"));
    let (shown, told) = (families(&answer.body), documented());
    let names = |families: &Families| families.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&shown), names(&told));
    assert_eq!(shown, told);
    assert!(shown.len() > 50);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_counted_by_name_and_outcome() {
    let node = node().await;
    ready(&node).await;
    for line in ["PING", "PING", "PING a b", "BUCKET.QUERY missing {}", "ECHO"] {
        run(&node, line).await;
    }
    let page = page(&node, "/metrics").await.body;
    let count = |command: &str, outcome: &str| {
        let series = format!("lethe_commands_total{{command=\"{command}\",outcome=\"{outcome}\"}}");
        value(&page, &series)
    };
    assert_eq!((count("ping", "ok"), count("ping", "error")), (Some(2.0), Some(1.0)));
    assert_eq!(count("bucket.query", "error"), Some(1.0));
    assert_eq!((count("echo", "ok"), count("echo", "rejected")), (Some(0.0), Some(1.0)));
    assert_eq!(count("reset", "ok"), None);
    let errors =
        |code: &str| value(&page, &format!("lethe_command_errors_total{{code=\"{code}\"}}"));
    assert_eq!((errors("ERR"), errors("NOSUCHBUCKET")), (Some(2.0), Some(1.0)));
    let series = "lethe_command_duration_seconds_bucket{command=\"ping\",le=\"+Inf\"}";
    let series = series.replace("command=\"ping\",le=\"+Inf\"", "le=\"+Inf\",command=\"ping\"");
    assert_eq!(value(&page, &series), Some(3.0), "{page}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_is_counted_until_it_is_purged() {
    let node = node().await;
    ready(&node).await;
    for line in ["BUCKET.CREATE users", "BUCKET.INSERT users DOCS {\"a\":1} {\"a\":2}"] {
        run(&node, line).await;
    }
    run(&node, "BUCKET.REMOVE users").await;
    let removed = "lethe_removed_objects{kind=\"bucket\"}";
    let is = |series: &'static str, count: f64| {
        move |answer: &Answer| value(&answer.body, series) == Some(count)
    };
    let counted = eventually(&node, "/metrics", is(removed, 1.0)).await.body;
    assert_eq!(value(&counted, "lethe_removed_documents"), Some(2.0));
    assert!(value(&counted, "lethe_removed_bytes").unwrap() > 20.0);
    assert_eq!(value(&counted, "lethe_removed_incomplete"), Some(0.0));
    run(&node, "PURGE.PAUSE").await;
    assert!(matches!(run(&node, "BUCKET.PURGE users").await, Reply::Error(_)));
    eventually(&node, "/metrics", is("lethe_purging_paused", 1.0)).await;
    run(&node, "PURGE.RESUME").await;
    assert_eq!(run(&node, "BUCKET.PURGE users").await, Reply::Ok);
    let gone = eventually(&node, "/metrics", is(removed, 0.0)).await.body;
    assert_eq!(value(&gone, "lethe_removed_documents"), Some(0.0));
    let waited = "lethe_purge_barrier_wait_seconds_count{outcome=\"reached\"}";
    assert_eq!(value(&gone, waited), Some(1.0));
    eventually(&node, "/metrics", is("lethe_reclaims_total", 1.0)).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_in_one_process_count_for_themselves() {
    let store = Store::memory();
    let (mut one, mut other) =
        (start(&store, "a", config()).await, start(&store, "b", config()).await);
    ready(&one).await;
    ready(&other).await;
    run(&one, "PING").await;
    let ping = "lethe_commands_total{command=\"ping\",outcome=\"ok\"}";
    assert_eq!(value(&page(&one, "/metrics").await.body, ping), Some(1.0));
    assert_eq!(value(&page(&other, "/metrics").await.body, ping), None);
    let two = |answer: &Answer| value(&answer.body, "lethe_cluster_members") == Some(2.0);
    eventually(&one, "/metrics", two).await;
    let all = f64::from(one.cluster().shard_count());
    let owned = "lethe_shards_owned";
    let half = |answer: &Answer| value(&answer.body, owned).is_some_and(|n| n > 0.0 && n < all);
    eventually(&other, "/metrics", half).await;
    eventually(&one, "/metrics", half).await;
    other.leave(Stop::Graceful).await;
    one.leave(Stop::Graceful).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_starting_lives_and_is_not_ready() {
    let services = Arc::new(Services::new(Arc::new(config()), Arc::new(SystemClock)));
    let http = Http::bind(services).unwrap();
    let address = http.addresses()[0];
    let stop = CancellationToken::new();
    let task = tokio::spawn(http.run(stop.clone()));
    let pages = ["/healthz", "/readyz", "/metrics"];
    let asked = move || pages.map(|path| get(address, path));
    let [health, ready, metrics] = tokio::task::spawn_blocking(asked).await.unwrap();
    assert_eq!((health.status, health.body.as_str()), (200, "alive\n"));
    assert_eq!((ready.status, ready.body.as_str()), (503, "not ready: the node is starting\n"));
    assert_eq!(metrics.status, 200);
    let names = |families: Families| families.into_keys().collect::<BTreeSet<_>>();
    assert_eq!(names(families(&metrics.body)), names(documented()), "also without a store");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_store_is_not_ready_until_it_is_back() {
    let store = Store::memory();
    let node = start(&store, "a", config()).await;
    ready(&node).await;
    store.faults().unwrap().outage("a");
    let answer = eventually(&node, "/readyz", |answer| answer.status == 503).await;
    assert!(answer.body.contains("the store"), "{}", answer.body);
    assert_eq!(page(&node, "/healthz").await.status, 200);
    assert_eq!(page(&node, "/metrics").await.status, 200);
    store.faults().unwrap().end_outage("a");
    ready(&node).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_follow_the_journal_is_not_ready() {
    let mut config = config();
    config.cluster.silent_after = Duration::from_millis(200);
    let node = start(&Store::memory(), "a", config).await;
    ready(&node).await;
    node.cluster().pause();
    let answer = eventually(&node, "/readyz", |answer| answer.status == 503).await;
    assert!(answer.body.contains("no heartbeat"), "{}", answer.body);
    node.cluster().resume();
    ready(&node).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_that_it_stops_before_it_refuses_commands() {
    let mut config = config();
    config.server.shutdown_notice = Duration::from_secs(600);
    let mut node = start(&Store::memory(), "a", config).await;
    ready(&node).await;
    let (address, services) = (node.http_addresses()[0], Arc::clone(node.services()));
    let leaving = tokio::spawn(async move { node.leave(Stop::Graceful).await });
    let told = async {
        loop {
            let answer =
                tokio::task::spawn_blocking(move || get(address, "/readyz")).await.unwrap();
            if answer.status == 503 {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert_eq!(answer.body, "not ready: the node is stopping\n");
    assert!(services.is_leaving() && !services.is_stopping());
    leaving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_reach_its_store_stops_all_the_same() {
    let mut config = config();
    config.cluster.silent_after = Duration::from_millis(200);
    config.cluster.drain_grace = Duration::from_millis(100);
    let store = Store::memory();
    let mut node = start(&store, "a", config).await;
    ready(&node).await;
    store.faults().unwrap().outage("a");
    tokio::time::timeout(PATIENCE, node.leave(Stop::Graceful)).await.unwrap();
}

#[test]
fn what_is_not_asked_for_rightly_is_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(node());
    let address = node.http_addresses()[0];
    assert_eq!(get(address, "/").status, 303);
    assert_eq!(get(address, "/nothing").status, 404);
    assert_eq!(get(address, "/metrics/").status, 404);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = send(address, request(method, "/metrics").as_bytes());
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
    }
    let head = send(address, request("HEAD", "/metrics").as_bytes());
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let long = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(20_000));
    assert_eq!(send(address, long.as_bytes()).status, 431);
    let fields: Vec<String> = (0..100).map(|n| format!("A{n}: 1\r\n")).collect();
    let fields = fields.concat();
    let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    assert_eq!(send(address, many.as_bytes()).status, 431);
    let nonsense = send(address, b"*1\r\n$4\r\nPING\r\n\r\n");
    assert_eq!(nonsense.status, 400);
    assert_eq!(get(address, "/healthz").status, 200);
    runtime.block_on(node.stop());
}

#[test]
fn who_asks_for_nothing_keeps_nobody_out() {
    use std::io::{Read, Write};
    let mut config = config();
    config.http.max_connections = 4;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(start(&Store::memory(), "a", config));
    let address = node.http_addresses()[0];
    let begun = tokio::time::Instant::now();
    let begins = ["", "GET /readyz HTTP/1.1\r\nX:", "POST /console/login HTTP/1.1\r\nHost: "];
    let mut hostile: Vec<TcpStream> = (0..20)
        .map(|number| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(begins[number % begins.len()].as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(get(address, "/healthz").status, 200);
    }
    // The first of them were told to go when the others came.
    hostile[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(hostile[0].read(&mut [0]), Ok(0) | Err(_)));
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited until they were too slow");
    runtime.block_on(node.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn http_can_be_switched_off() {
    let mut config = config();
    config.http.listen.clear();
    let node = start(&Store::memory(), "a", config).await;
    assert!(node.http_addresses().is_empty());
    assert_eq!(run(&node, "PING").await, Reply::Simple("PONG".into()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_asks_a_node_whether_it_is_ready() {
    let ask = |address: String| {
        std::process::Command::new(env!("CARGO_BIN_EXE_lethe"))
            .args(["ready", "--http", &address])
            .output()
            .unwrap()
    };
    let node = node().await;
    let address = node.http_addresses()[0];
    let output = ask(address.to_string());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\n");
    assert!(output.status.success());
    node.stop().await;
    let output = ask(address.to_string());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no answer"));
}
