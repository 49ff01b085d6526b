//! FoundationDB's own limits: what we take it takes, and what it refuses has its name.

use std::time::Duration;

use lethe::store::{Atomic, Error, Read, Store, Transaction};

use super::fdb;

/// FoundationDB forgets the versions of a snapshot; our own clock, which stands still, does not say so first.
#[tokio::test]
async fn a_snapshot_from_before_a_jump_of_versions_is_too_old() {
    let Some(server) = fdb::Server::start() else { return };
    let store = server.store().await;
    tokio::time::pause();
    let (reading, writing) = (store.begin("reading"), store.begin("writing"));
    let version = reading.read_version().await.unwrap();
    writing.get(b"k", Read::Conflict).await.unwrap();
    writing.set(b"k", b"1").unwrap();
    server.cli(&format!("advanceversion {}", version + 1_000_000_000));
    let now = store.begin("now").read_version().await.unwrap();
    assert!(now > version + 900_000_000);
    // Its storage server forgets them a moment later.
    let began = std::time::Instant::now();
    let refused = loop {
        match reading.get(b"k", Read::Snapshot).await {
            Ok(_) => {
                assert!(began.elapsed() < Duration::from_secs(60), "the version is still there");
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::TooOld), "{refused}");
    assert!(matches!(writing.commit().await, Err(Error::TooOld)));
    assert_eq!(store.begin("read").get(b"k", Read::Snapshot).await.unwrap(), None);
}

type Step = fn(&Transaction, u32) -> Result<(), Error>;

/// As much of one kind as our limit takes; FoundationDB has to take it too.
async fn fill(store: &Store, step: Step) {
    // It reads nothing, so that it may take its time on a busy machine.
    let txn = store.begin("fill");
    let mut steps = 0;
    while txn.approximate_size() < lethe::store::limits::TRANSACTION_BYTES_MAX - 1000 {
        step(&txn, steps).unwrap();
        steps += 1;
    }
    txn.set(b"x", b"").unwrap();
    assert!(steps > 10_000, "{steps}");
    txn.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foundationdb_takes_what_our_limit_takes() {
    let Some(server) = fdb::shared() else { return };
    let store = server.store().await;
    let steps: [Step; 5] = [
        |txn, n| txn.set(&n.to_be_bytes(), b""),
        |txn, n| txn.clear(&n.to_be_bytes()),
        |txn, n| txn.clear_range(&(2 * n).to_be_bytes(), &(2 * n + 1).to_be_bytes()),
        |txn, n| txn.atomic(Atomic::Add, &n.to_be_bytes(), &[1]),
        |txn, n| txn.set_versionstamped_value(&n.to_be_bytes(), &[0; 14]),
    ];
    for step in steps {
        fill(&store, step).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_conflicts_alone_has_the_same_limit() {
    let Some(server) = fdb::shared() else { return };
    let store = server.store().await;
    let txn = store.begin("conflicts");
    txn.read_version().await.unwrap();
    let add = |txn: &Transaction, keys: u32| {
        // Every second one, so that they do not become one range.
        (0..keys).for_each(|n| txn.add_read_conflict_key(&(2 * n).to_be_bytes()).unwrap());
    };
    add(&txn, 100_000);
    txn.set(b"x", b"").unwrap();
    txn.commit().await.unwrap();

    let txn = store.begin("conflicts");
    txn.read_version().await.unwrap();
    txn.set(b"x", b"").unwrap();
    add(&txn, 300_000);
    assert!(matches!(txn.commit().await, Err(Error::TransactionTooLarge { .. })));
}
