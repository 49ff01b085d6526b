//! Servers that stop answering, end, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lethe::store::{Atomic, Error, Read, Resolve, Slot, Store, Transaction, Watch};
use tokio::sync::Semaphore;

use super::fdb::Server;

/// Short, since these tests wait for it.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Longer than a server takes to come back.
const PATIENCE: Duration = Duration::from_secs(120);

fn slot(n: usize) -> Resolve {
    Resolve::Token(Slot {
        key: format!("attempt/{n}").into_bytes(),
        guard_key: b"member".to_vec(),
        guard_value: b"here".to_vec(),
    })
}

async fn put(store: &Store, key: &[u8], value: &[u8]) {
    let body = |txn: Transaction| async move { txn.set(key, value) };
    store.run("put", Resolve::Idempotent, body).await.unwrap();
}

async fn number(store: &Store, key: &[u8]) -> u64 {
    let value = store.begin("number").get(key, Read::Snapshot).await.unwrap();
    value.map_or(0, |value| u64::from_le_bytes(value.as_ref().try_into().unwrap()))
}

/// Waits until a commit has got no answer: the client tells nobody but who called it, and the store counts.
async fn unanswered(store: &Store) {
    let began = Instant::now();
    while store.stats().transactions.unknown == 0 {
        assert!(began.elapsed() < PATIENCE, "every commit was answered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answering_gives_a_clear_error_in_time_and_is_used_again() {
    let Some(server) = Server::start() else { return };
    let store = server.store_with("silent", TIMEOUT).await;
    put(&store, b"k", b"1").await;
    let begun = store.begin("begun");
    begun.read_version().await.unwrap();
    begun.add_read_conflict_key(b"k").unwrap();
    begun.set(b"k", b"2").unwrap();

    server.pause();
    let began = Instant::now();
    let refused = store.begin("new").get(b"k", Read::Snapshot).await.unwrap_err();
    let Error::Unavailable(message) = &refused else { panic!("{refused:?}") };
    assert!(message.contains("did not answer within 1s 500ms"), "{message}");
    let blind = store.begin("blind");
    blind.set(b"k", b"3").unwrap();
    let refused = blind.commit().await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "nothing was sent: {refused:?}");
    let unknown = begun.commit().await.unwrap_err();
    assert!(unknown.maybe_committed(), "it was sent: {unknown:?}");
    assert!(began.elapsed() < 6 * TIMEOUT, "{:?}", began.elapsed());

    server.resume();
    let began = Instant::now();
    let value = loop {
        match store.begin("again").get(b"k", Read::Snapshot).await {
            Ok(value) => break value.unwrap(),
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert!(value == "1" || value == "2", "{value:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_got_no_answer_is_applied_once() {
    let Some(server) = Server::start() else { return };
    let store = server.store_with("unknown", TIMEOUT).await;
    put(&store, b"member", b"here").await;
    let starts = &AtomicU32::new(0);
    let paused = &server;
    let body = |txn: Transaction| async move {
        if starts.fetch_add(1, Ordering::Relaxed) == 0 {
            // Its snapshot is there; its commit goes out to nobody.
            paused.pause();
        }
        txn.atomic(Atomic::Add, b"n", &1u64.to_le_bytes())
    };
    let resume = async {
        unanswered(&store).await;
        server.resume();
    };
    let (outcome, ()) = tokio::join!(store.run("add", slot(1), body), resume);
    let outcome = outcome.unwrap();
    assert!(outcome.attempts > 1, "{outcome:?}");
    assert_eq!(number(&store, b"n").await, 1);
    store.run("add", slot(1), body).await.unwrap();
    assert_eq!(number(&store, b"n").await, 2, "the slot can be used again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_done_twice_when_the_server_is_killed() {
    const TASKS: usize = 8;
    /// Acknowledged commits before each kill.
    const COMMITS: u32 = 200;
    let Some(server) = Server::start() else { return };
    let store = server.store_with("load", Duration::from_secs(30)).await;
    put(&store, b"member", b"here").await;
    let (stop, total) = (Arc::new(AtomicBool::new(false)), Arc::new(Semaphore::new(0)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (store, stop, total) = (store.clone(), Arc::clone(&stop), Arc::clone(&total));
            tokio::spawn(async move {
                let key = format!("n/{task}").into_bytes();
                let (mut done, mut doubtful) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    let key = &key;
                    let body = |txn: Transaction| async move {
                        txn.atomic(Atomic::Add, key, &1u64.to_le_bytes())
                    };
                    match store.run("add", slot(task), body).await {
                        Ok(_) => {
                            done += 1;
                            total.add_permits(1);
                        }
                        Err(Error::CommitUnknown) => doubtful += 1,
                        // Certain to have changed nothing.
                        Err(error) => assert!(!error.maybe_committed(), "{error}"),
                    }
                }
                (key, done, doubtful)
            })
        })
        .collect();
    let more = async || {
        total.forget_permits(usize::MAX);
        let more = tokio::time::timeout(PATIENCE, total.acquire_many(COMMITS)).await;
        more.expect("commits go on").unwrap().forget();
    };
    for _ in 0..2 {
        more().await;
        server.kill();
        server.go_on();
    }
    more().await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        let (key, done, doubtful) = task.await.unwrap();
        let found = number(&store, &key).await;
        assert!(
            (done..=done + doubtful).contains(&found),
            "{found} found, {done} acknowledged, {doubtful} doubtful"
        );
    }
}

/// A watch on `key` as a transaction sees it now.
async fn watch(store: &Store, key: &[u8]) -> Watch {
    let txn = store.begin("watch");
    let watch = txn.watch(key).unwrap();
    txn.commit().await.unwrap();
    watch
}

async fn fires(watch: Watch) {
    tokio::time::timeout(PATIENCE, watch).await.expect("the watch does not fire").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_outlives_its_server() {
    let Some(server) = Server::start() else { return };
    // Also longer than any of its transactions may last.
    let store = server.store_with("watch", TIMEOUT).await;
    let patient = server.store_with("watch", Duration::from_secs(60)).await;
    put(&patient, b"before", b"0").await;
    let (before, after, silent) = (
        watch(&store, b"before").await,
        watch(&store, b"after").await,
        watch(&store, b"silent").await,
    );
    server.kill();
    server.go_on();
    // As soon as the server takes it, most likely before the watches are there again.
    put(&patient, b"before", b"1").await;
    fires(before).await;
    put(&patient, b"after", b"1").await;
    fires(after).await;
    let mut silent = silent;
    let fired = tokio::time::timeout(Duration::ZERO, &mut silent).await;
    assert!(fired.is_err(), "its value has not changed");
    put(&patient, b"silent", b"1").await;
    fires(silent).await;
}

#[tokio::test]
async fn nobody_at_the_address_of_the_cluster_file_is_told_in_time() {
    let Some(server) = Server::start() else { return };
    server.kill();
    let options = lethe::store::FoundationDbOptions {
        cluster_file: Some(server.cluster_file()),
        timeout: TIMEOUT,
        ..Default::default()
    };
    let began = Instant::now();
    let refused = Store::foundationdb(&options).await.unwrap_err().to_string();
    assert!(began.elapsed() < 4 * TIMEOUT, "{:?}", began.elapsed());
    let file = options.cluster_file.unwrap().display().to_string();
    assert!(refused.contains("did not answer") && refused.contains(&file), "{refused}");

    let missing = server.cluster_file().with_file_name("missing");
    let options =
        lethe::store::FoundationDbOptions { cluster_file: Some(missing), ..Default::default() };
    let refused = Store::foundationdb(&options).await.unwrap_err().to_string();
    assert!(refused.contains("cannot read the cluster file"), "{refused}");
}
