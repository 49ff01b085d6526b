//! `lethe replicate` between clusters of one node each, over real sockets: what
//! it promises, and that it keeps it when anything in between is killed.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lethe::check;
use lethe::client::{Answer, Client};
use lethe::clock::TestClock;
use lethe::config::Config;
use lethe::node::{Node, NodeOptions};
use lethe::replicate::{self, Address, Error, Options, Progress};
use lethe::store::Store;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

const EPOCH: i64 = 1_800_000_000_000;
const BUCKET: &str = "b";

/// A cluster of one node.
struct Cluster {
    store: Store,
    node: Node,
    clock: TestClock,
}

impl Cluster {
    async fn start() -> Self {
        Self::on(Store::memory(), TestClock::starting_at(EPOCH)).await
    }

    async fn on(store: Store, clock: TestClock) -> Self {
        let mut config = Config::default();
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.http.listen.clear();
        config.cluster.node = Some("n".to_owned());
        config.cluster.heartbeat = Duration::from_millis(20);
        config.cluster.silent_after = Duration::from_millis(500);
        let options = NodeOptions { exclusive: true, ..NodeOptions::default() };
        let node =
            Node::start_on(store.clone(), Arc::new(config), Arc::new(clock.clone()), options);
        Self { node: node.await.unwrap(), store, clock }
    }

    /// Ends as by kill -9, and starts again over the same store.
    async fn kill_and_start(self) -> Self {
        let Self { store, node, clock } = self;
        node.kill();
        Self::on(store, clock).await
    }

    fn address(&self) -> Address {
        self.node.addresses()[0].to_string().parse().unwrap()
    }

    async fn client(&self) -> Client {
        Client::connect(self.node.addresses()[0]).await.unwrap()
    }

    async fn call(&self, argv: &[&str]) -> Answer {
        self.client().await.call(argv).await.unwrap()
    }

    async fn ok(&self, argv: &[&str]) -> Answer {
        let answer = self.call(argv).await;
        assert!(!matches!(answer, Answer::Error(_)), "{argv:?}: {answer:?}");
        answer
    }

    /// All documents, as their bytes, in the order of their ids.
    async fn documents(&self) -> Vec<Vec<u8>> {
        let mut client = self.client().await;
        client.call(&["SESSION.ATTRIBUTE", "SET", "reply_type", "bson"]).await.unwrap();
        let query = ["BUCKET.QUERY", BUCKET, "{}", "SORTBY", "_id", "ASC", "LIMIT", "9999"];
        let answer = client.call(&query).await.unwrap();
        let bytes = |entry: &Answer| entry.bytes().unwrap().to_vec();
        answer.list()[1].list().iter().map(bytes).collect()
    }

    async fn tombstones(&self) -> i64 {
        let described = self.ok(&["BUCKET.DESCRIBE", BUCKET]).await;
        match described.field("tombstones") {
            Some(Answer::Integer(count)) => *count,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the worker who purges, by the changes that it leaves.
    async fn until_tombstones(&self, expected: i64) {
        let mut client = self.client().await;
        let mut from = "$".to_owned();
        for _ in 0..100 {
            let mut look = vec!["BUCKET.CHANGES", BUCKET, "FROM", &from];
            if from != "$" {
                look.extend(["BLOCK", "30000"]);
            }
            let page = client.call(&look).await.unwrap();
            from = page.field("sequence").and_then(Answer::text).unwrap().to_owned();
            if self.tombstones().await == expected {
                return;
            }
        }
        panic!("{} tombstones instead of {expected}", self.tombstones().await);
    }

    /// The replica at this source.
    async fn replica(&self) -> Answer {
        let rows = self.ok(&["BUCKET.REPLICA", "LIST", BUCKET]).await;
        assert_eq!(rows.list().len(), 1, "{rows:?}");
        rows.list()[0].clone()
    }

    async fn expect_clean(&self) {
        let found = check::all(&self.store).await.unwrap();
        assert!(found.is_empty(), "{found:?}");
    }
}

fn id(number: u32) -> String {
    format!("6835a1c0e4b0f72a{number:08x}")
}

fn document(number: u32, fields: &str) -> String {
    format!("{{\"_id\": \"{}\", {fields}}}", id(number))
}

fn by_id(number: u32) -> String {
    format!("{{\"_id\": \"{}\"}}", id(number))
}

fn options(from: &Cluster, to: &Cluster) -> Options {
    Options {
        from: from.address(),
        to: to.address(),
        bucket: BUCKET.to_owned(),
        to_bucket: BUCKET.to_owned(),
        name: None,
        lease: Some("200s".to_owned()),
        once: true,
    }
}

/// Replicates until nothing is left; gives what was told meanwhile.
async fn replicate(from: &Cluster, to: &Cluster) -> Vec<Progress> {
    let mut told = Vec::new();
    let stop = CancellationToken::new();
    replicate::run(&options(from, to), &stop, |progress| told.push(progress)).await.unwrap();
    told
}

fn is_snapshot(progress: &Progress) -> bool {
    matches!(progress, Progress::Snapshot { .. })
}

async fn expect_same(a: &Cluster, b: &Cluster) {
    assert_eq!(a.documents().await, b.documents().await);
    a.expect_clean().await;
    b.expect_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_then_every_change_with_all_types_byte_for_byte() {
    let (a, b) = (Cluster::start().await, Cluster::start().await);
    a.ok(&["BUCKET.CREATE", BUCKET, "SHARDS", "1", "4"]).await;
    let long = document(2, &format!("\"t\": \"{}\"", "x".repeat(300_000)));
    let typed = document(
        3,
        "\"d\": {\"$date\": \"2026-01-01T00:00:00Z\"}, \"l\": {\"$numberLong\": \"5\"}, \"n\": null, \"a\": [1, 2.5]",
    );
    a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(1, "\"n\": 1"), &long, &typed]).await;
    for number in 10..450 {
        a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(number, "\"k\": 1")]).await;
    }
    let told = replicate(&a, &b).await;
    let last = told.iter().rfind(|progress| is_snapshot(progress)).unwrap();
    assert_eq!(*last, Progress::Snapshot { documents: 443, deleted: 0 });
    expect_same(&a, &b).await;

    a.ok(&["BUCKET.UPDATE", BUCKET, "{\"k\": 1}", "{\"$set\": {\"k\": 2}}", "LIMIT", "300"]).await;
    a.ok(&["BUCKET.DELETE", BUCKET, &by_id(2)]).await;
    a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(5, "\"late\": true")]).await;
    let told = replicate(&a, &b).await;
    assert!(!told.iter().any(is_snapshot), "it goes on from its checkpoint");
    assert_eq!(told.last(), Some(&Progress::CaughtUp { applied: 302 }));
    expect_same(&a, &b).await;
    assert_eq!(b.tombstones().await, 1, "a delete is a delete");
    assert_eq!(a.replica().await.field("behind"), Some(&Answer::Integer(0)));
}

/// What is deleted at the source is kept at the target as the target's bucket says.
#[tokio::test(flavor = "multi_thread")]
async fn the_target_keeps_what_was_deleted_for_as_long_as_its_own_bucket_says() {
    for (retention, kept) in [("0s", None), ("5d", Some(5 * 86_400_000))] {
        let (a, b) = (Cluster::start().await, Cluster::start().await);
        a.ok(&["BUCKET.CREATE", BUCKET, "TOMBSTONE-RETENTION", "9d"]).await;
        b.ok(&["BUCKET.CREATE", BUCKET, "TOMBSTONE-RETENTION", retention]).await;
        a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(1, "\"n\": 1")]).await;
        replicate(&a, &b).await;
        a.ok(&["BUCKET.DELETE", BUCKET, &by_id(1)]).await;
        replicate(&a, &b).await;
        expect_same(&a, &b).await;
        let deleted = b.ok(&["BUCKET.DELETED", BUCKET]).await;
        let entries = deleted.list()[1].list();
        let span = entries.first().map(|entry| {
            let entry: serde_json::Value = serde_json::from_str(&entry.line()).unwrap();
            let time = |name: &str| {
                let text = entry[name].as_str().or_else(|| entry[name]["$date"].as_str());
                bson::DateTime::parse_rfc3339_str(text.unwrap()).unwrap().timestamp_millis()
            };
            time("expires_at") - time("deleted_at")
        });
        assert_eq!(span, kept, "{entries:?}");
    }
}

/// Delete on A, network down, purge on A: the document does not survive on B, and does not come back to A.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_while_the_network_is_down_survives_nowhere() {
    let (a, b) = (Cluster::start().await, Cluster::start().await);
    a.ok(&["BUCKET.CREATE", BUCKET]).await;
    a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(1, "\"n\": 1"), &document(2, "\"n\": 2")])
        .await;
    replicate(&a, &b).await;
    // The network is down: nobody replicates. The deletion expires, but B has not heard of it.
    a.ok(&["BUCKET.DELETE", BUCKET, &by_id(1), "RETAIN", "1s"]).await;
    a.clock.jump(100_000);
    a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(3, "\"n\": 3")]).await;
    assert_eq!(b.documents().await.len(), 2);
    // The network is back.
    replicate(&a, &b).await;
    expect_same(&a, &b).await;
    // B has heard of it, so now it is purged on A, and then on B.
    a.until_tombstones(0).await;
    replicate(&a, &b).await;
    b.until_tombstones(0).await;
    expect_same(&a, &b).await;
    // Nor does it come back from B.
    let stop = CancellationToken::new();
    let back = replicate::run(&options(&b, &a), &stop, |_| {}).await;
    assert!(
        matches!(&back, Err(Error::Refused { error, .. }) if error.starts_with("REPLICATIONLOOP")),
        "{back:?}"
    );
    assert_eq!(a.documents().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_beyond_its_lease_starts_from_a_snapshot_and_brings_nothing_back() {
    let (a, b) = (Cluster::start().await, Cluster::start().await);
    a.ok(&["BUCKET.CREATE", BUCKET]).await;
    for number in 0..500 {
        a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(number, "\"n\": 1")]).await;
    }
    replicate(&a, &b).await;
    a.ok(&["BUCKET.DELETE", BUCKET, "{\"n\": 1}", "LIMIT", "350", "RETAIN", "1s"]).await;
    a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(900, "\"n\": 2")]).await;
    assert_eq!(a.tombstones().await, 350);
    // Its lease is over: A waits for it no longer.
    a.clock.jump(250_000);
    // Whoever goes lets the worker look at once; by itself it looks within a minute.
    a.ok(&["BUCKET.REPLICA", "REGISTER", BUCKET, "other"]).await;
    a.ok(&["BUCKET.REPLICA", "UNREGISTER", BUCKET, "other"]).await;
    a.until_tombstones(0).await;
    assert_eq!(a.replica().await.field("state"), Some(&Answer::Text("stale".to_owned())));
    assert_eq!(b.documents().await.len(), 500);
    let told = replicate(&a, &b).await;
    let last = told.iter().rfind(|progress| is_snapshot(progress)).unwrap();
    assert_eq!(*last, Progress::Snapshot { documents: 151, deleted: 350 });
    expect_same(&a, &b).await;
    assert_eq!(a.replica().await.field("state"), Some(&Answer::Text("live".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_are_refused_however_long_and_in_whatever_order_they_are_made() {
    let (a, b, c) = (Cluster::start().await, Cluster::start().await, Cluster::start().await);
    for cluster in [&a, &b, &c] {
        cluster.ok(&["BUCKET.CREATE", BUCKET]).await;
    }
    let stop = CancellationToken::new();
    let itself = replicate::run(&options(&a, &a), &stop, |_| {}).await;
    assert!(matches!(itself, Err(Error::Refused { .. })), "{itself:?}");
    replicate(&a, &b).await;
    replicate(&c, &a).await;
    // B does not know yet that A follows C.
    replicate(&b, &c).await;
    let closed = replicate::run(&options(&a, &b), &stop, |_| {}).await;
    let again = replicate::run(&options(&b, &c), &stop, |_| {}).await;
    assert!(closed.is_err() || again.is_err(), "{closed:?} {again:?}");
    // Whoever stands on its own may be followed again.
    a.ok(&["BUCKET.REPLICA", "ORIGIN", BUCKET, "CLEAR"]).await;
    b.ok(&["BUCKET.REPLICA", "ORIGIN", BUCKET, "CLEAR"]).await;
    c.ok(&["BUCKET.REPLICA", "ORIGIN", BUCKET, "CLEAR"]).await;
    replicate(&b, &a).await;
}

/// Begins a snapshot and kills the replicator when so many pages are safe at the target.
async fn replicate_and_kill(from: &Cluster, to: &Cluster, pages: usize) {
    let stop = CancellationToken::new();
    let mut told = 0;
    let kill = |progress| {
        told += usize::from(is_snapshot(&progress));
        if told == pages {
            stop.cancel();
        }
    };
    replicate::run(&options(from, to), &stop, kill).await.unwrap();
    assert_eq!(told, pages, "it was not killed in the middle");
}

/// What changes meanwhile in what the snapshot has passed, and in what it has not.
async fn change_all_over(a: &Cluster, round: u32) {
    for base in [round * 20, 1_300 + round * 20] {
        let set = format!("{{\"$set\": {{\"round\": {round}}}}}");
        a.ok(&["BUCKET.UPDATE", BUCKET, &by_id(base), &set]).await;
        a.ok(&["BUCKET.DELETE", BUCKET, &by_id(base + 2)]).await;
        a.ok(&["BUCKET.DELETE", BUCKET, &by_id(base + 4)]).await;
        a.ok(&["BUCKET.EXPUNGE", BUCKET, &by_id(base + 4)]).await;
        a.ok(&["BUCKET.DELETE", BUCKET, &by_id(base + 6), "RETAIN", "0s"]).await;
        let new = document(base + 1, "\"new\": true");
        a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &new]).await;
    }
}

/// The last thing told of a snapshot, and whether it went on from where one was.
fn snapshot_of(told: &[Progress]) -> (u64, bool) {
    let documents = told.iter().rev().find_map(|progress| match progress {
        Progress::Snapshot { documents, .. } => Some(*documents),
        _ => None,
    });
    let resumed = told.iter().any(|progress| matches!(progress, Progress::Resumed { .. }));
    (documents.unwrap(), resumed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_interrupted_goes_on_where_it_was_and_misses_no_change() {
    let (mut a, mut b) = (Cluster::start().await, Cluster::start().await);
    a.ok(&["BUCKET.CREATE", BUCKET]).await;
    b.ok(&["BUCKET.CREATE", BUCKET]).await;
    for part in 0..5 {
        let texts: Vec<String> =
            (0..200).map(|n| document((part * 200 + n) * 2, "\"n\": 1")).collect();
        let words = ["BUCKET.INSERT", BUCKET, "DOCS"].into_iter();
        a.ok(&words.chain(texts.iter().map(String::as_str)).collect::<Vec<_>>()).await;
    }
    // One that the source does not have, among those that it passes after the kills.
    b.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(9_000, "\"stranger\": 1")]).await;
    replicate_and_kill(&a, &b, 2).await;
    change_all_over(&a, 1).await;
    b = b.kill_and_start().await;
    replicate_and_kill(&a, &b, 1).await;
    change_all_over(&a, 2).await;
    a = a.kill_and_start().await;
    let told = replicate(&a, &b).await;
    // Three pages of 200 were safe. Of the rest two times three are gone, and two are new.
    assert_eq!(snapshot_of(&told), (400 - 6 + 2, true));
    expect_same(&a, &b).await;
    assert_eq!(a.documents().await.len(), 1_000 - 12 + 4);
    let origin = b.ok(&["BUCKET.REPLICA", "ORIGIN", BUCKET]).await;
    let snapshots = origin.field("snapshots").map(|snapshots| snapshots.list().len());
    assert_eq!(snapshots, Some(0), "the first change behind it says that it is complete");
    a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(9_001, "\"n\": 1")]).await;
    replicate(&a, &b).await;
    let origin = b.ok(&["BUCKET.REPLICA", "ORIGIN", BUCKET]).await;
    assert_eq!(origin.field("snapshots").map(|snapshots| snapshots.list().len()), Some(0));
    expect_same(&a, &b).await;
}

/// When the source has not kept what has changed meanwhile there is nothing to go on from.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_changes_were_let_go_begins_anew() {
    let (a, b) = (Cluster::start().await, Cluster::start().await);
    a.ok(&["BUCKET.CREATE", BUCKET]).await;
    for number in 0..500 {
        a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(number, "\"n\": 1")]).await;
    }
    replicate_and_kill(&a, &b, 1).await;
    let name = a.replica().await.field("replica").and_then(Answer::text).unwrap().to_owned();
    a.ok(&["BUCKET.REPLICA", "UNREGISTER", BUCKET, &name]).await;
    a.ok(&["BUCKET.DELETE", BUCKET, &by_id(5), "RETAIN", "0s"]).await;
    let told = replicate(&a, &b).await;
    assert_eq!(snapshot_of(&told), (499, false));
    expect_same(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_unique_index_that_documents_have_swapped_come_through() {
    let (a, b) = (Cluster::start().await, Cluster::start().await);
    for cluster in [&a, &b] {
        let schema = r#"{"u": {"bson_type": "int32", "unique": true}}"#;
        cluster.ok(&["BUCKET.CREATE", BUCKET, "INDEXES", schema]).await;
    }
    a.ok(&["BUCKET.INSERT", BUCKET, "DOCS", &document(1, "\"u\": 1"), &document(2, "\"u\": 2")])
        .await;
    replicate(&a, &b).await;
    for (number, value) in [(1, 9), (2, 1), (1, 2)] {
        let set = format!("{{\"$set\": {{\"u\": {value}}}}}");
        a.ok(&["BUCKET.UPDATE", BUCKET, &by_id(number), &set]).await;
    }
    replicate(&a, &b).await;
    expect_same(&a, &b).await;
}

/// Random writes, a replicator that is killed at random, nodes that are killed at random.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_replicator_source_or_target_is_killed() {
    let mut random = StdRng::seed_from_u64(7);
    let (mut a, mut b) = (Cluster::start().await, Cluster::start().await);
    a.ok(&["BUCKET.CREATE", BUCKET, "SHARDS", "0", "3"]).await;
    for round in 0..12 {
        let stop = CancellationToken::new();
        let endless = Options { once: false, ..options(&a, &b) };
        let following = tokio::spawn(async move { replicate::run(&endless, &stop, |_| {}).await });
        for _ in 0..random.random_range(5..40) {
            let number = random.random_range(0..60);
            let text = document(number, &format!("\"r\": {round}"));
            let set = format!("{{\"$set\": {{\"r\": {round}, \"x\": {number}}}}}");
            match random.random_range(0..4) {
                0 | 1 => a.call(&["BUCKET.INSERT", BUCKET, "DOCS", &text]).await,
                2 => a.call(&["BUCKET.UPDATE", BUCKET, &by_id(number), &set]).await,
                _ => a.call(&["BUCKET.DELETE", BUCKET, &by_id(number)]).await,
            };
        }
        match round % 3 {
            0 => following.abort(),
            1 => {
                a = a.kill_and_start().await;
                following.abort();
            }
            _ => {
                b = b.kill_and_start().await;
                following.abort();
            }
        }
        drop(following.await);
    }
    replicate(&a, &b).await;
    expect_same(&a, &b).await;
}
