//! Watches fire once and never miss.

use std::future::Future;
use std::time::Duration;

use lethe::store::{Error, Read, Store, Watch};

use super::put;

/// A watch on `key` as a transaction sees it now.
async fn watch(store: &Store, key: &str) -> Watch {
    let txn = store.begin("watch");
    let watch = txn.watch(key.as_bytes()).unwrap();
    txn.commit().await.unwrap();
    watch
}

/// Waits, but not for ever: a watch that misses its change must fail the test.
async fn fired(watch: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::time::timeout(Duration::from_secs(60), watch).await.expect("the watch does not fire")
}

/// Whether it has not fired although everything that could fire it is done.
async fn silent(watch: &mut Watch) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *watch).poll(context).is_pending())
    })
    .await
}

pub async fn a_watch_fires_when_the_value_changes(store: &Store) {
    put(store, &[("k", "0")]).await;
    let mut first = watch(store, "k").await;
    let second = watch(store, "k").await;
    let absent = watch(store, "absent").await;
    assert!(silent(&mut first).await);
    put(store, &[("k", "1")]).await;
    fired(first).await.unwrap();
    fired(second).await.unwrap();
    put(store, &[("absent", "")]).await;
    fired(absent).await.unwrap();

    // Of a transaction whose snapshot is older than the change, it fires at once.
    let txn = store.begin("watch");
    txn.read_version().await.unwrap();
    let late = txn.watch(b"k").unwrap();
    put(store, &[("k", "2")]).await;
    txn.commit().await.unwrap();
    fired(late).await.unwrap();
}

pub async fn a_watch_does_not_fire_for_other_keys_or_the_same_value(store: &Store) {
    put(store, &[("k", "0")]).await;
    let mut watch = watch(store, "k").await;
    put(store, &[("k0", "1"), ("j", "1"), ("k", "0")]).await;
    assert!(silent(&mut watch).await);
    put(store, &[("k", "1")]).await;
    fired(watch).await.unwrap();
}

pub async fn a_watch_fires_for_clears_and_dropped_prefixes(store: &Store) {
    put(store, &[("c/1", ""), ("d/1", "")]).await;
    let (cleared, dropped) = (watch(store, "c/1").await, watch(store, "d/1").await);
    let txn = store.begin("clear");
    txn.clear_range(b"c/", b"c0").unwrap();
    txn.drop_prefix(b"d/").unwrap();
    txn.commit().await.unwrap();
    fired(cleared).await.unwrap();
    fired(dropped).await.unwrap();
}

pub async fn a_watch_of_an_own_write_waits_for_the_next(store: &Store) {
    put(store, &[("k", "0")]).await;
    let txn = store.begin("own");
    txn.set(b"k", b"1").unwrap();
    txn.atomic(lethe::store::Atomic::Add, b"n", &[1]).unwrap();
    let mut own = txn.watch(b"k").unwrap();
    let mut changed = txn.watch(b"n").unwrap();
    txn.commit().await.unwrap();
    assert!(silent(&mut own).await && silent(&mut changed).await);
    put(store, &[("k", "0"), ("n", "")]).await;
    fired(own).await.unwrap();
    fired(changed).await.unwrap();
}

pub async fn a_watch_ends_with_the_error_of_its_commit(store: &Store) {
    let txn = store.begin("conflict");
    txn.get(b"k", Read::Conflict).await.unwrap();
    txn.set(b"out", b"").unwrap();
    let watch = txn.watch(b"k").unwrap();
    put(store, &[("k", "1")]).await;
    assert!(matches!(txn.commit().await, Err(Error::Conflict)));
    assert!(matches!(fired(watch).await, Err(Error::Conflict)));
}

pub async fn a_watch_of_a_dropped_transaction_is_cancelled(store: &Store) {
    let txn = store.begin("dropped");
    let watch = txn.watch(b"k").unwrap();
    drop(txn);
    assert!(matches!(fired(watch).await, Err(Error::Cancelled)));
}

pub async fn a_dropped_watch_gives_its_place_back(store: &Store) {
    let txn = store.begin("many");
    let limit = lethe::store::limits::WATCHES_MAX;
    let watches: Vec<Watch> = (0..limit).map(|n| txn.watch(&n.to_be_bytes()).unwrap()).collect();
    assert!(matches!(txn.watch(b"one more"), Err(Error::TooManyWatches { .. })));
    txn.commit().await.unwrap();
    assert_eq!(store.stats().watches, u64::try_from(limit).unwrap());
    drop(watches);
    assert_eq!(store.stats().watches, 0);
    put(store, &[("x", "")]).await;
    drop(watch(store, "x").await);
}

/// A writer counts up as fast as it can; readers that wait for each change by watch alone always reach the end.
pub async fn no_watch_misses_a_change(store: &Store) {
    const LAST: u64 = 300;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut wakes = 0;
                loop {
                    let txn = store.begin("reader");
                    let seen = txn.get(b"n", Read::Snapshot).await.unwrap();
                    if seen.is_some_and(|seen| seen.as_ref() == LAST.to_be_bytes()) {
                        return wakes;
                    }
                    let watch = txn.watch(b"n").unwrap();
                    txn.commit().await.unwrap();
                    fired(watch).await.unwrap();
                    wakes += 1;
                }
            })
        })
        .collect();
    for n in 1..=LAST {
        let txn = store.begin("writer");
        txn.set(b"n", &n.to_be_bytes()).unwrap();
        txn.commit().await.unwrap();
        if n % 3 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for reader in readers {
        let wakes = reader.await.unwrap();
        assert!((1..=LAST).contains(&wakes), "{wakes} wakes for {LAST} changes");
    }
}
