//! The store dies under load and comes back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::client::{Client, Value};
use crate::process::Process;
use crate::world::{PATIENCE, World, at_last, call, error, field, insert, ok, text};

const CLIENTS: usize = 6;
/// Acknowledged inserts before the server is killed, and again after it is back.
const INSERTS: usize = 300;

#[test]
fn what_was_acknowledged_survives_the_death_of_the_store_and_what_was_removed_stays_removed() {
    let Some(world) = World::start(3, 7) else { return };
    let mut client = world.nodes[0].connect();
    for bucket in ["load", "removed", "purged"] {
        ok(&mut client, &format!("BUCKET.CREATE {bucket}"));
        insert(&mut client, bucket, 0).unwrap();
    }
    ok(&mut client, "BUCKET.REMOVE removed");
    ok(&mut client, "BUCKET.REMOVE purged");
    ok(&mut client, "BUCKET.PURGE purged");
    let listed = ok(&mut client, "BUCKET.REMOVED removed");

    let acknowledged = Arc::new(Mutex::new(BTreeSet::from([0])));
    let (next, done) = (AtomicUsize::new(1), AtomicUsize::new(0));
    for round in 1..=2 {
        let (told, inserted) = channel();
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let mut client = world.nodes[number % world.nodes.len()].connect();
                let (acknowledged, next, done) = (&acknowledged, &next, &done);
                let told = told.clone();
                scope.spawn(move || {
                    while done.load(Ordering::Relaxed) < 2 * INSERTS * round {
                        // Each number is sent once, so that whatever is there twice was applied twice.
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        match insert(&mut client, "load", n) {
                            Ok(()) => {
                                acknowledged.lock().unwrap().insert(n);
                                done.fetch_add(1, Ordering::Relaxed);
                                told.send(()).unwrap();
                            }
                            Err(error) => assert!(may_happen(&error), "{error}"),
                        }
                    }
                });
            }
            for _ in 0..INSERTS {
                inserted.recv_timeout(PATIENCE).expect("the load runs");
            }
            world.server.kill();
            // While there is nothing, a removed bucket is not served either.
            let answer = error(&mut world.nodes[1].connect(), "BUCKET.QUERY removed {}");
            assert!(may_happen(&answer), "{answer}");
            world.server.go_on();
        });
    }

    let found = numbers(&mut client);
    let distinct: BTreeSet<usize> = found.iter().copied().collect();
    assert_eq!(distinct.len(), found.len(), "something was applied twice");
    let acknowledged = acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged.difference(&distinct).collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    for node in &world.nodes {
        let client = &mut node.connect();
        assert!(error(client, "BUCKET.QUERY removed {}").starts_with("BUCKETBEINGREMOVED"));
        assert!(error(client, "BUCKET.QUERY purged {}").starts_with("NOSUCHBUCKET"));
    }
    let expiry = |listed: &Value| {
        let Value::Array(rows) = listed else { panic!("a list") };
        text(field(&rows[0], "expires_at"))
    };
    assert_eq!(expiry(&ok(&mut client, "BUCKET.REMOVED removed")), expiry(&listed));
    // Nobody needed a hand: all are members, and the barrier is reached again.
    ok(&mut client, &format!("BUCKET.PURGE removed TIMEOUT {}", PATIENCE.as_millis()));
    world.settled();
    world.finish();
}

/// What may be answered while the store is away.
fn may_happen(error: &str) -> bool {
    ["STOREUNAVAILABLE ", "COMMIT_UNKNOWN_RESULT ", "TRANSACTION_TOO_OLD ", "BUCKETBEINGREMOVED "]
        .iter()
        .any(|code| error.starts_with(code))
}

/// The numbers in the bucket, batch by batch.
fn numbers(client: &mut Client) -> Vec<usize> {
    let mut found = Vec::new();
    let mut reply = call(client, "BUCKET.QUERY load {} LIMIT 1000");
    loop {
        let Value::Array(parts) = &reply else { panic!("{reply:?}") };
        let Value::Array(entries) = &parts[1] else { panic!("{reply:?}") };
        if entries.is_empty() {
            return found;
        }
        found.extend(entries.iter().map(|entry| {
            let entry = text(entry);
            let number = entry.split(&[':', ','][..]).nth(1).unwrap().trim();
            number.parse::<usize>().unwrap()
        }));
        let cursor = text(&parts[0]);
        reply = call(client, &format!("BUCKET.ADVANCE QUERY {cursor}"));
    }
}

/// That a node starts although the store is away, or says clearly that it cannot, is asked of one node here.
#[test]
fn a_node_that_cannot_reach_its_store_ends_with_a_clear_error() {
    let Some(world) = World::start(1, 7) else { return };
    world.server.kill();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lethe"))
        .args(["server", "--store", "foundationdb", "--port", "0", "--cluster-file"])
        .arg(world.server.cluster_file())
        .env("LETHE_FOUNDATIONDB_TIMEOUT", "2s")
        .env("LETHE_HTTP_BIND", "")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("fdb.cluster"), "{message}");
    world.server.go_on();
    let node: &Process = &world.nodes[0];
    let mut client = node.connect();
    at_last("it serves again", || !matches!(call(&mut client, "BUCKET.LIST"), Value::Error(_)));
    world.finish();
}
