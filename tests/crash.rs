//! The real program, killed with SIGKILL under load and started again.
//!
//! What was acknowledged is there, what was removed stays removed with the same
//! expiry, what was purged stays gone, and the check finds nothing.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value};
use tokio::sync::Mutex;

/// A `lethe` process; killed when it goes out of scope.
struct Node {
    child: Child,
    url: String,
}

impl Node {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lethe"))
            .args(["--port", "0", "--data-dir"])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains("redis-cli"))
            .expect("the program tells how to connect");
        let words: Vec<&str> = line.split_whitespace().collect();
        let [.., host, "-p", port] = words.as_slice() else { panic!("unexpected line: {line}") };
        Self { child, url: format!("redis://{host}:{port}") }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        redis::Client::open(self.url.as_str())?.get_multiplexed_async_connection().await
    }

    /// SIGKILL: the process gets no chance to finish anything.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, as an operator stops it.
    fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn run(connection: &mut MultiplexedConnection, line: &str) -> Result<Value, RedisError> {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command.query_async(connection).await
}

async fn insert(connection: &mut MultiplexedConnection, n: usize) -> RedisResult<String> {
    let ids: Vec<String> = redis::cmd("BUCKET.INSERT")
        .arg("load")
        .arg("DOCS")
        .arg(format!(r#"{{"n": {n}, "text": "{}"}}"#, "x".repeat(n % 300)))
        .query_async(connection)
        .await?;
    Ok(ids[0].clone())
}

/// The field of a map reply in RESP2, as text.
fn field(reply: &Value, name: &str) -> Option<String> {
    let Value::Array(items) = reply else { return None };
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    };
    items
        .chunks(2)
        .find(|pair| text(&pair[0]).as_deref() == Some(name))
        .and_then(|pair| text(&pair[1]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_removed_comes_back_after_kill_9() {
    const ROUNDS: usize = 3;
    const CLIENTS: usize = 8;
    /// Acknowledged inserts of a round, after which the process is killed.
    const INSERTS: usize = 400;

    let folder = tempfile::tempdir().unwrap();
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let mut removals: Vec<(String, String)> = Vec::new();

    let node = Node::start(folder.path());
    let mut connection = node.connect().await.unwrap();
    run(&mut connection, "BUCKET.CREATE load").await.unwrap();
    let mut node = Some(node);

    for round in 0..ROUNDS {
        let running = node.take().unwrap();
        let mut connection = running.connect().await.unwrap();

        // One bucket to be removed, one to be purged, just before the crash.
        for name in ["kept", "gone"] {
            run(&mut connection, &format!("BUCKET.CREATE {name}{round}")).await.unwrap();
        }
        let count = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (acknowledged, count) = (Arc::clone(&acknowledged), Arc::clone(&count));
                let url = running.url.clone();
                tokio::spawn(async move {
                    let mut connection = redis::Client::open(url)
                        .unwrap()
                        .get_multiplexed_async_connection()
                        .await
                        .unwrap();
                    let mut n = client;
                    // The error is the killed connection.
                    while let Ok(id) = insert(&mut connection, n).await {
                        acknowledged.lock().await.insert(id);
                        count.fetch_add(1, Ordering::Relaxed);
                        n += CLIENTS;
                    }
                })
            })
            .collect();
        let reply = run(&mut connection, &format!("BUCKET.REMOVE kept{round} INFO")).await.unwrap();
        removals.push((field(&reply, "removal_id").unwrap(), field(&reply, "expires_at").unwrap()));
        run(&mut connection, &format!("BUCKET.REMOVE gone{round}")).await.unwrap();
        run(&mut connection, &format!("BUCKET.PURGE gone{round}")).await.unwrap();
        // Built while the others write, and perhaps not ready when the process is killed.
        if round > 0 {
            run(&mut connection, "BUCKET.INDEX DROP load by-n").await.unwrap();
        }
        let schema = r#"{"n":{"bson_type":"int32","name":"by-n"}}"#;
        run(&mut connection, &format!("BUCKET.INDEX CREATE load {schema}")).await.unwrap();
        while count.load(Ordering::Relaxed) < INSERTS {
            tokio::task::yield_now().await;
        }
        running.kill();
        for client in clients {
            client.await.unwrap();
        }

        let restarted = Node::start(folder.path());
        let mut connection = restarted.connect().await.unwrap();
        for id in acknowledged.lock().await.iter() {
            let filter = format!(r#"{{"_id":"{id}"}}"#);
            let reply = run(&mut connection, &format!("BUCKET.QUERY load {filter}")).await.unwrap();
            let Value::Array(parts) = reply else { panic!("a query answers an array") };
            assert!(matches!(&parts[1], Value::Array(found) if found.len() == 1), "{id} is lost");
        }
        let reply = run(&mut connection, "BUCKET.REMOVED").await.unwrap();
        let Value::Array(listed) = reply else { panic!("a list answers an array") };
        for (removal, expires_at) in &removals {
            let row = listed
                .iter()
                .find(|row| field(row, "removal_id").as_ref() == Some(removal))
                .unwrap_or_else(|| panic!("removal {removal} is lost"));
            assert_eq!(field(row, "expires_at").as_ref(), Some(expires_at));
            assert_eq!(field(row, "state").as_deref(), Some("removed"));
        }
        for old in 0..=round {
            let error =
                run(&mut connection, &format!("BUCKET.DESCRIBE gone{old}")).await.unwrap_err();
            assert_eq!(error.code(), Some("NOSUCHBUCKET"), "gone{old} is back");
            let query = format!("BUCKET.QUERY kept{old} {{}}");
            let error = run(&mut connection, &query).await.unwrap_err();
            assert_eq!(error.code(), Some("BUCKETBEINGREMOVED"), "kept{old} is back");
        }
        node = Some(restarted);
    }

    // What was counted is what there is, and a restore brings all of it back.
    let node = node.unwrap();
    let mut connection = node.connect().await.unwrap();
    let before = run(&mut connection, "BUCKET.DESCRIBE load").await.unwrap();
    assert!(
        field(&before, "documents").unwrap().parse::<usize>().unwrap()
            >= acknowledged.lock().await.len()
    );
    run(&mut connection, "BUCKET.REMOVE load").await.unwrap();
    node.kill();
    let node = Node::start(folder.path());
    let mut connection = node.connect().await.unwrap();
    run(&mut connection, "BUCKET.RESTORE load").await.unwrap();
    let after = run(&mut connection, "BUCKET.DESCRIBE load").await.unwrap();
    for name in ["id", "documents", "bytes", "created_at"] {
        assert_eq!(field(&before, name), field(&after, name));
    }
    let status = async |connection: &mut MultiplexedConnection| {
        let reply = run(connection, "BUCKET.INDEX DESCRIBE load by-n").await.unwrap();
        field(&reply, "status").unwrap()
    };
    while status(&mut connection).await != "READY" {
        tokio::task::yield_now().await;
    }
    node.stop();

    let check = Command::new(env!("CARGO_BIN_EXE_lethe"))
        .args(["check", "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
