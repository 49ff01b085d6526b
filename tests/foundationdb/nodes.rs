//! Whole nodes on a FoundationDB.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe::clock::SystemClock;
use lethe::config::Config;
use lethe::node::{Node, NodeOptions};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use super::clean::assert_clean;
use super::fdb::{self, Server};

/// Longer than a server takes to come back.
const PATIENCE: Duration = Duration::from_secs(120);

async fn start(server: &Server, prefix: &str, name: &str) -> (Node, MultiplexedConnection) {
    let store = server.store_with(prefix, Duration::from_secs(10)).await;
    let mut config = Config::default();
    config.server.listen = vec![([127, 0, 0, 1], 0).into()];
    let options = NodeOptions { name: Some(name.to_owned()), ..NodeOptions::default() };
    let node =
        Node::start_on(store, Arc::new(config), Arc::new(SystemClock), options).await.unwrap();
    let url = format!("redis://{}", node.addresses()[0]);
    (node, connect(&url).await)
}

async fn connect(url: &str) -> MultiplexedConnection {
    // A command may wait for a server that comes back.
    let settings = redis::AsyncConnectionConfig::new()
        .set_response_timeout(Some(PATIENCE))
        .set_connection_timeout(Some(PATIENCE));
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection_with_config(&settings).await.unwrap()
}

async fn run(client: &mut MultiplexedConnection, line: &[&str]) -> Result<Value, RedisError> {
    let mut command = redis::cmd(line[0]);
    command.arg(&line[1..]);
    command.query_async(client).await
}

async fn insert(
    client: &mut MultiplexedConnection,
    bucket: &str,
    n: u32,
) -> Result<Value, RedisError> {
    run(client, &["BUCKET.INSERT", bucket, "DOCS", &format!(r#"{{"n": {n}}}"#)]).await
}

/// Sends the command until it succeeds, for errors that say that it may.
async fn at_last(client: &mut MultiplexedConnection, line: &[&str]) -> Value {
    let began = Instant::now();
    loop {
        match run(client, line).await {
            Ok(value) => return value,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{line:?}: {error}"),
        }
    }
}

fn code(error: &RedisError) -> String {
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_agree_on_what_is_removed_and_purged() {
    let Some(server) = fdb::shared() else { return };
    let prefix = server.new_prefix();
    let (one, mut a) = start(server, &prefix, "one").await;
    let (two, mut b) = start(server, &prefix, "two").await;
    run(&mut a, &["BUCKET.CREATE", "users"]).await.unwrap();
    for n in 0..20 {
        insert(if n % 2 == 0 { &mut a } else { &mut b }, "users", n).await.unwrap();
    }
    let listed = run(&mut b, &["BUCKET.LIST"]).await.unwrap();
    assert!(format!("{listed:?}").contains("users"), "{listed:?}");
    run(&mut a, &["BUCKET.REMOVE", "users"]).await.unwrap();
    let refused = insert(&mut b, "users", 100).await.unwrap_err();
    assert!(code(&refused).contains("BUCKETBEINGREMOVED"), "{refused}");
    run(&mut b, &["BUCKET.RESTORE", "users"]).await.unwrap();
    insert(&mut a, "users", 21).await.unwrap();
    run(&mut b, &["BUCKET.REMOVE", "users"]).await.unwrap();
    at_last(&mut a, &["BUCKET.PURGE", "users"]).await;
    let refused = insert(&mut b, "users", 100).await.unwrap_err();
    assert!(code(&refused).contains("NOSUCHBUCKET"), "{refused}");
    two.stop().await;
    one.stop().await;
    assert_clean(&server.store_with(&prefix, PATIENCE).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_go_on_after_their_server_was_killed() {
    let Some(server) = Server::start() else { return };
    let (one, mut a) = start(&server, "nodes", "one").await;
    let (two, mut b) = start(&server, "nodes", "two").await;
    run(&mut a, &["BUCKET.CREATE", "users"]).await.unwrap();
    for n in 0..10 {
        insert(&mut a, "users", n).await.unwrap();
    }
    server.kill();
    server.go_on();
    at_last(&mut b, &["BUCKET.INSERT", "users", "DOCS", r#"{"n": 10}"#]).await;
    let counted = at_last(&mut a, &["BUCKET.QUERY", "users", "{}"]).await;
    assert!(format!("{counted:?}").matches("\\\"n\\\"").count() >= 11, "{counted:?}");
    // The journal is followed again: the other node lets go, so that the barrier is reached.
    at_last(&mut a, &["BUCKET.REMOVE", "users"]).await;
    at_last(&mut b, &["BUCKET.PURGE", "users"]).await;
    two.stop().await;
    one.stop().await;
    assert_clean(&server.store_with("nodes", PATIENCE).await).await;
}

/// The real program; killed when it goes out of scope.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn lethe(server: &Server, prefix: &str, first: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lethe"));
    command.args(first).args(["--store", "foundationdb", "--key-prefix", prefix, "--cluster-file"]);
    command.arg(server.cluster_file());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_runs_on_foundationdb_ends_in_order_and_checks() {
    let Some(server) = fdb::shared() else { return };
    let prefix = server.new_prefix();
    for round in 0..2 {
        let mut child = lethe(server, &prefix, &["server", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let mut program = Program(child);
        let mut lines = BufReader::new(output).lines().map(Result::unwrap);
        let ready = lines.next().unwrap();
        assert!(ready.contains("FoundationDB") && ready.contains(&prefix), "{ready}");
        let connect_with = lines.find(|line| line.contains("redis-cli")).unwrap();
        let port = connect_with.split_whitespace().last().unwrap();
        let mut client = connect(&format!("redis://127.0.0.1:{port}")).await;
        if round == 0 {
            run(&mut client, &["BUCKET.CREATE", "users"]).await.unwrap();
        }
        insert(&mut client, "users", round).await.unwrap();
        let checked = run(&mut client, &["CHECK"]).await.unwrap();
        println!("{checked:?}");
        let id = program.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(program.0.wait().unwrap().success());
    }
    let output = lethe(server, &prefix, &["check"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", stderr(&output));
    assert!(told.contains("keys checked: 0 errors"), "{told}");
}

#[test]
fn the_program_says_where_it_looked_for_a_foundationdb() {
    let output = Command::new(env!("CARGO_BIN_EXE_lethe"))
        .args(["server", "--store", "foundationdb", "--cluster-file", "/nowhere/fdb.cluster"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/fdb.cluster"), "{}", stderr(&output));
}
