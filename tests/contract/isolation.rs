//! Which transactions conflict, and which do not.

use lethe::store::{Error, RangeRead, Read, Resolve, Store};

use super::{get, put, value};

pub async fn a_lost_update_conflicts(store: &Store) {
    put(store, &[("k", "0")]).await;
    let (one, two) = (store.begin("one"), store.begin("two"));
    for txn in [&one, &two] {
        assert_eq!(get(txn, "k").await.as_deref(), Some("0"));
        txn.set(b"k", txn.label().as_bytes()).unwrap();
    }
    one.commit().await.unwrap();
    assert!(matches!(two.commit().await, Err(Error::Conflict)));
    assert_eq!(value(store, "k").await.as_deref(), Some("one"));
}

pub async fn write_skew_conflicts(store: &Store) {
    put(store, &[("a", "on"), ("b", "on")]).await;
    let (one, two) = (store.begin("one"), store.begin("two"));
    for (txn, off) in [(&one, "a"), (&two, "b")] {
        assert!(get(txn, "a").await.is_some() && get(txn, "b").await.is_some());
        txn.clear(off.as_bytes()).unwrap();
    }
    one.commit().await.unwrap();
    assert!(matches!(two.commit().await, Err(Error::Conflict)));
}

pub async fn a_phantom_conflicts(store: &Store) {
    put(store, &[("p/1", "x")]).await;
    let counting = store.begin("count");
    let page = counting.range(RangeRead::prefix("p/")).await.unwrap();
    counting.set(b"count", page.rows.len().to_string().as_bytes()).unwrap();
    put(store, &[("p/2", "y")]).await;
    assert!(matches!(counting.commit().await, Err(Error::Conflict)));
}

pub async fn a_clear_of_a_range_that_was_read_conflicts(store: &Store) {
    put(store, &[("k/5", "x")]).await;
    let reading = store.begin("read");
    get(&reading, "k/5").await;
    reading.set(b"seen", b"5").unwrap();
    let clearing = store.begin("clear");
    clearing.clear_range(b"k/", b"k0").unwrap();
    clearing.commit().await.unwrap();
    assert!(matches!(reading.commit().await, Err(Error::Conflict)));
}

pub async fn what_lies_behind_the_end_of_a_page_does_not_conflict(store: &Store) {
    put(store, &[("r/1", "x"), ("r/2", "x"), ("r/3", "x")]).await;
    let (forward, backward) = (store.begin("forward"), store.begin("backward"));
    forward.range(RangeRead::prefix("r/").limit(1)).await.unwrap();
    backward.range(RangeRead::prefix("r/").limit(1).reverse()).await.unwrap();
    forward.set(b"f", b"").unwrap();
    backward.set(b"b", b"").unwrap();
    put(store, &[("r/2", "y")]).await;
    forward.commit().await.unwrap();
    backward.commit().await.unwrap();

    let forward = store.begin("forward");
    forward.range(RangeRead::prefix("r/").limit(2)).await.unwrap();
    forward.set(b"f", b"").unwrap();
    put(store, &[("r/11", "y")]).await;
    assert!(
        matches!(forward.commit().await, Err(Error::Conflict)),
        "before the last row of the page"
    );
}

pub async fn snapshot_reads_do_not_conflict(store: &Store) {
    put(store, &[("s/1", "x")]).await;
    let txn = store.begin("snapshot");
    txn.get(b"s/1", Read::Snapshot).await.unwrap();
    txn.range(RangeRead::prefix("s/").snapshot()).await.unwrap();
    txn.set(b"out", b"").unwrap();
    assert_eq!(txn.read_conflicts(), vec![]);
    put(store, &[("s/1", "y"), ("s/2", "y")]).await;
    txn.commit().await.unwrap();
}

pub async fn blind_writes_do_not_conflict(store: &Store) {
    let (one, two) = (store.begin("one"), store.begin("two"));
    one.set(b"k", b"one").unwrap();
    two.set(b"k", b"two").unwrap();
    two.read_version().await.unwrap();
    one.commit().await.unwrap();
    two.commit().await.unwrap();
    assert_eq!(value(store, "k").await.as_deref(), Some("two"));
}

pub async fn a_transaction_that_only_reads_never_conflicts(store: &Store) {
    put(store, &[("k", "0")]).await;
    let reading = store.begin("read");
    get(&reading, "k").await;
    put(store, &[("k", "1")]).await;
    let committed = reading.commit().await.unwrap();
    assert_eq!(committed.versionstamp, None);
}

pub async fn all_reads_are_of_one_snapshot(store: &Store) {
    put(store, &[("a", "0"), ("b", "0")]).await;
    let txn = store.begin("read");
    let version = txn.read_version().await.unwrap();
    assert_eq!(get(&txn, "a").await.as_deref(), Some("0"));
    let other = store.begin("write");
    other.set(b"a", b"1").unwrap();
    other.set(b"b", b"1").unwrap();
    other.clear(b"c").unwrap();
    assert_eq!(get(&txn, "b").await.as_deref(), Some("0"), "not yet committed");
    let committed = other.commit().await.unwrap();
    assert!(committed.version > version);
    assert_eq!(get(&txn, "a").await.as_deref(), Some("0"));
    assert_eq!(get(&txn, "b").await.as_deref(), Some("0"));
    let page = txn.range(RangeRead::new("a", "z").snapshot()).await.unwrap();
    assert!(page.rows.iter().all(|(_, value)| value.as_ref() == b"0"));
    assert_eq!(txn.read_version().await.unwrap(), version);
}

pub async fn a_snapshot_is_taken_by_the_first_read(store: &Store) {
    let early = store.begin("early");
    put(store, &[("k", "new")]).await;
    assert_eq!(get(&early, "k").await.as_deref(), Some("new"));
    early.set(b"out", b"").unwrap();
    early.commit().await.unwrap();
}

pub async fn a_commit_is_seen_by_every_later_transaction(store: &Store) {
    for n in 0..50 {
        let txn = store.begin("write");
        txn.set(b"k", n.to_string().as_bytes()).unwrap();
        let committed = txn.commit().await.unwrap();
        let reading = store.begin("read");
        assert!(reading.read_version().await.unwrap() >= committed.version);
        assert_eq!(get(&reading, "k").await, Some(n.to_string()));
    }
}

pub async fn conflict_ranges_can_be_added_by_hand(store: &Store) {
    // A read conflict without a read.
    let reading = store.begin("read");
    reading.read_version().await.unwrap();
    reading.add_read_conflict_key(b"fence").unwrap();
    reading.add_read_conflict_range(b"r/a", b"r/m").unwrap();
    reading.set(b"out", b"").unwrap();
    let copy = store.begin("copy");
    copy.read_version().await.unwrap();
    copy.add_read_conflict_range(b"r/a", b"r/m").unwrap();
    copy.set(b"out2", b"").unwrap();
    put(store, &[("r/m", "the end is not in it")]).await;
    copy.commit().await.unwrap();
    put(store, &[("fence", "x")]).await;
    assert!(matches!(reading.commit().await, Err(Error::Conflict)));

    // A write conflict without a write.
    let (one, two) = (store.begin("one"), store.begin("two"));
    for txn in [&one, &two] {
        get(txn, "w/5").await;
        txn.set(txn.label().as_bytes(), b"").unwrap();
    }
    let writing = store.begin("write");
    writing.add_write_conflict_range(b"w/", b"w0").unwrap();
    let committed = writing.commit().await.unwrap();
    assert!(committed.versionstamp.is_some(), "it has a place in the order of commits");
    assert!(matches!(one.commit().await, Err(Error::Conflict)));
    assert!(matches!(two.commit().await, Err(Error::Conflict)));

    let reading = store.begin("read");
    get(&reading, "key").await;
    reading.set(b"out", b"").unwrap();
    let writing = store.begin("write");
    writing.add_write_conflict_key(b"key").unwrap();
    writing.commit().await.unwrap();
    assert!(matches!(reading.commit().await, Err(Error::Conflict)));
    assert_eq!(value(store, "key").await, None);
}

pub async fn the_exact_conflict_sets_can_be_asked_for(store: &Store) {
    put(store, &[("l/1", "x"), ("l/2", "x")]).await;
    let txn = store.begin("sets");
    get(&txn, "b").await;
    get(&txn, "a").await;
    get(&txn, "a").await;
    txn.range(RangeRead::prefix("l/").limit(1)).await.unwrap();
    txn.add_read_conflict_range(b"x", b"z").unwrap();
    txn.add_read_conflict_range(b"y", b"zz").unwrap();
    txn.set(b"w", b"").unwrap();
    txn.clear_range(b"c/", b"c0").unwrap();
    txn.add_write_conflict_key(b"v").unwrap();
    let pair = |begin: &[u8], end: &[u8]| (begin.to_vec(), end.to_vec());
    assert_eq!(
        txn.read_conflicts(),
        vec![pair(b"a", b"a\0"), pair(b"b", b"b\0"), pair(b"l/", b"l/1\0"), pair(b"x", b"zz")]
    );
    assert_eq!(
        txn.write_conflicts(),
        vec![pair(b"c/", b"c0"), pair(b"v", b"v\0"), pair(b"w", b"w\0")]
    );
}

pub async fn many_tasks_lose_no_update(store: &Store) {
    let tasks = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                let body = |txn: lethe::store::Transaction| async move {
                    let old = txn.get(b"n", Read::Conflict).await?;
                    let old =
                        old.map_or(0, |old| u64::from_le_bytes(old.as_ref().try_into().unwrap()));
                    tokio::task::yield_now().await;
                    txn.set(b"n", &(old + 1).to_le_bytes())?;
                    Ok::<_, Error>(())
                };
                store.run("count", Resolve::Idempotent, body).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let txn = store.begin("check");
    let total = txn.get(b"n", Read::Snapshot).await.unwrap().unwrap();
    assert_eq!(total.as_ref(), 160u64.to_le_bytes());
}
