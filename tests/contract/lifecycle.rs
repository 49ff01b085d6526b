//! The life of transactions, dropped prefixes, versions, closing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lethe::codec::Versionstamp;
use lethe::store::{Error, RangeRead, Read, Resolve, Store, Transaction, Transactions};

use super::{get, put, value};

pub async fn a_snapshot_lives_five_seconds(store: &Store) {
    put(store, &[("k", "0")]).await;
    let reading = store.begin("read");
    get(&reading, "k").await;
    let blind = store.begin("blind");
    blind.set(b"b", b"").unwrap();
    let writing = store.begin("write");
    get(&writing, "k").await;
    writing.set(b"out", b"").unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(4900)).await;
    get(&reading, "k").await;
    tokio::time::advance(Duration::from_millis(200)).await;
    assert!(matches!(reading.get(b"k", Read::Snapshot).await, Err(Error::TooOld)));
    assert!(matches!(reading.range(RangeRead::prefix("k")).await, Err(Error::TooOld)));
    assert!(matches!(reading.metadata_version().await, Err(Error::TooOld)));
    assert!(matches!(writing.commit().await, Err(Error::TooOld)));
    blind.commit().await.unwrap();
    assert_eq!(value(store, "out").await, None);
    tokio::time::resume();
}

pub async fn a_committed_transaction_cannot_be_used(store: &Store) {
    let txn = store.begin("used");
    let copy = txn.clone();
    txn.set(b"k", b"1").unwrap();
    txn.commit().await.unwrap();
    let used = |result| assert!(matches!(result, Err(Error::UsedDuringCommit)));
    used(copy.set(b"k", b"2"));
    used(copy.get(b"k", Read::Snapshot).await.map(drop));
    used(copy.range(RangeRead::prefix("k")).await.map(drop));
    used(copy.watch(b"k").map(drop));
    used(copy.commit().await.map(drop));
    assert_eq!(value(store, "k").await.as_deref(), Some("1"));
}

pub async fn the_metadata_version_is_that_of_its_last_touch(store: &Store) {
    let before = store.begin("before");
    assert_eq!(before.metadata_version().await.unwrap(), Versionstamp::MIN);
    let (one, two) = (store.begin("one"), store.begin("two"));
    for txn in [&one, &two] {
        txn.metadata_version().await.unwrap();
        txn.touch_metadata_version().unwrap();
        assert!(matches!(txn.metadata_version().await, Err(Error::AccessedUnreadable)));
    }
    let first = one.commit().await.unwrap().versionstamp.unwrap();
    assert_eq!(store.begin("read").metadata_version().await.unwrap(), first);
    let second = two.commit().await.unwrap().versionstamp.unwrap();
    assert!(second > first, "touches do not conflict");
    put(store, &[("k", "1")]).await;
    assert_eq!(store.begin("read").metadata_version().await.unwrap(), second);
    assert_eq!(before.metadata_version().await.unwrap(), Versionstamp::MIN, "as of its snapshot");
}

pub async fn a_dropped_prefix_is_gone_at_once_and_its_neighbours_stay(store: &Store) {
    put(store, &[("a", "1"), ("d", "1"), ("d/1", "1"), ("d/2", "1"), ("d0", "1"), ("e", "1")])
        .await;
    let txn = store.begin("drop");
    txn.drop_prefix(b"d/").unwrap();
    assert_eq!(get(&txn, "d/1").await, None, "its own transaction sees it too");
    txn.commit().await.unwrap();
    for reverse in [false, true] {
        let range = RangeRead::prefix("");
        let range = if reverse { range.reverse() } else { range };
        let page = store.begin("check").range(range).await.unwrap();
        let mut keys: Vec<_> = page.rows.iter().map(|(key, _)| key.as_ref()).collect();
        keys.sort_unstable();
        assert_eq!(keys, [b"a".as_slice(), b"d", b"d0", b"e"]);
    }
    assert_eq!(value(store, "d/2").await, None);
    assert!(store.reclaimed(b"d/").await.unwrap().done);
    assert!(store.reclaim_progress(b"d/").await.unwrap().done);
    assert_eq!(store.stats().dropped_prefixes, 0);
    assert_eq!(value(store, "d/1").await, None);
    assert_eq!(value(store, "d0").await.as_deref(), Some("1"));
}

pub async fn an_older_snapshot_still_sees_a_dropped_prefix(store: &Store) {
    put(store, &[("d/1", "1")]).await;
    let older = store.begin("older");
    older.read_version().await.unwrap();
    let txn = store.begin("drop");
    txn.drop_prefix(b"d/").unwrap();
    txn.commit().await.unwrap();
    assert_eq!(get(&older, "d/1").await.as_deref(), Some("1"));
    assert_eq!(older.range(RangeRead::prefix("d/")).await.unwrap().rows.len(), 1);
}

pub async fn a_dropped_prefix_conflicts_with_its_readers(store: &Store) {
    put(store, &[("d/1", "1")]).await;
    let (reading, apart) = (store.begin("reading"), store.begin("apart"));
    get(&reading, "d/7").await;
    get(&apart, "d").await;
    reading.set(b"x", b"").unwrap();
    apart.set(b"y", b"").unwrap();
    let txn = store.begin("drop");
    txn.drop_prefix(b"d/").unwrap();
    assert_eq!(txn.write_conflicts(), vec![(b"d/".to_vec(), b"d0".to_vec())]);
    txn.commit().await.unwrap();
    assert!(matches!(reading.commit().await, Err(Error::Conflict)));
    apart.commit().await.unwrap();
}

pub async fn versions_only_grow(store: &Store) {
    let mut last = store.begin("first").read_version().await.unwrap();
    for n in 0..20u8 {
        let txn = store.begin("grow");
        txn.set(&[n], b"").unwrap();
        let committed = txn.commit().await.unwrap();
        assert!(committed.version > last);
        last = committed.version;
    }
}

pub async fn statistics_count(store: &Store) {
    let before = store.stats();
    let open = store.begin("open");
    put(store, &[("k", "0")]).await;
    get(&open, "k").await;
    open.set(b"o", b"").unwrap();
    put(store, &[("k", "1")]).await;
    let other = store.begin("other");
    assert_eq!(store.stats().open_transactions, before.open_transactions + 2);
    drop(other);
    assert!(open.commit().await.is_err());
    let after = store.stats();
    assert_eq!(after.open_transactions, before.open_transactions);
    assert_eq!(after.commits, before.commits + 2);
    assert_eq!(after.conflicts, before.conflicts + 1);
    assert!(after.batches > before.batches && after.version > before.version);
    let sizes = (after.batch_sizes.count(), after.batch_sizes.sum);
    assert_eq!(sizes, (after.batches, after.commits));
    assert!(after.written_bytes > before.written_bytes);
}

pub async fn attempts_of_a_run_are_counted_by_how_they_end(store: &Store) {
    let store = &store.as_client("counted");
    assert_eq!(store.stats().transactions, Transactions::default());
    let disturbed = AtomicBool::new(false);
    let disturbed = &disturbed;
    let body = |txn: Transaction| async move {
        get(&txn, "k").await;
        if !disturbed.swap(true, Ordering::Relaxed) {
            let other = store.begin("other");
            other.set(b"k", b"")?;
            other.commit().await?;
        }
        txn.set(b"k", b"1")
    };
    store.run("disturbed", Resolve::Idempotent, body).await.unwrap();
    let refused = |_| async { Err::<(), _>(Error::InvertedRange) };
    store.run("refused", Resolve::Idempotent, refused).await.unwrap_err();
    let counted = store.stats().transactions;
    let expected = Transactions {
        begun: 4,
        committed: 1,
        conflicts: 1,
        failed: 1,
        retries: 1,
        ..Transactions::default()
    };
    assert_eq!(counted, expected);
}

pub async fn a_closed_store_says_so(store: &Store) {
    put(store, &[("k", "0")]).await;
    let txn = store.begin("watch");
    let watch = txn.watch(b"k").unwrap();
    let reading = store.begin("read");
    get(&reading, "k").await;
    txn.commit().await.unwrap();
    store.close().await;
    assert!(matches!(watch.await, Err(Error::Cancelled)));
    let closed = |result| assert!(matches!(result, Err(Error::Unavailable(_))));
    closed(reading.get(b"k", Read::Snapshot).await.map(drop));
    closed(store.begin("late").get(b"k", Read::Snapshot).await.map(drop));
    let writing = store.begin("late");
    writing.set(b"k", b"1").unwrap();
    closed(writing.commit().await.map(drop));
    store.close().await;
}
