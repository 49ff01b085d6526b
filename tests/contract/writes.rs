//! Atomic changes, versionstamps, limits.

use lethe::codec::Versionstamp;
use lethe::store::{Atomic, Error, RangeRead, Read, Store, limits};

use super::{get, put, value};

pub async fn atomic_changes_follow_foundationdb(store: &Store) {
    type Case = (Atomic, Option<&'static [u8]>, &'static [u8], &'static [u8]);
    let cases: [Case; 9] = [
        (Atomic::Add, None, &[1, 0], &[1, 0]),
        (Atomic::Add, Some(&[255, 1]), &[1, 0], &[0, 2]),
        (Atomic::Add, Some(&[255, 255]), &[1, 0], &[0, 0]),
        (Atomic::Min, Some(&[0, 1]), &[255, 0], &[255, 0]),
        (Atomic::Min, None, &[255, 0], &[255, 0]),
        (Atomic::Max, Some(&[0, 1]), &[255, 0], &[0, 1]),
        (Atomic::ByteMin, Some(b"b"), b"abc", b"abc"),
        (Atomic::ByteMax, Some(b"b"), b"abc", b"b"),
        (Atomic::ByteMax, Some(b"b"), b"ba", b"ba"),
    ];
    for (op, old, operand, expected) in cases {
        let txn = store.begin("old");
        match old {
            Some(old) => txn.set(b"k", old).unwrap(),
            None => txn.clear(b"k").unwrap(),
        }
        txn.commit().await.unwrap();
        let txn = store.begin("atomic");
        txn.atomic(op, b"k", operand).unwrap();
        let own = txn.get(b"k", Read::Snapshot).await.unwrap().unwrap();
        assert_eq!(own, expected, "{op:?} {old:?} {operand:?}, as the transaction sees it");
        txn.commit().await.unwrap();
        let stored = store.begin("check").get(b"k", Read::Snapshot).await.unwrap().unwrap();
        assert_eq!(stored, expected, "{op:?} {old:?} {operand:?}");
    }
}

pub async fn atomic_changes_do_not_conflict(store: &Store) {
    let txns: Vec<_> = (0..20).map(|_| store.begin("add")).collect();
    for txn in &txns {
        txn.read_version().await.unwrap();
        txn.atomic(Atomic::Add, b"n", &5u64.to_le_bytes()).unwrap();
        txn.atomic(Atomic::Add, b"n", &1u64.to_le_bytes()).unwrap();
    }
    let commits: Vec<_> = txns.into_iter().map(|txn| tokio::spawn(txn.commit())).collect();
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    let total = store.begin("check").get(b"n", Read::Snapshot).await.unwrap().unwrap();
    assert_eq!(total.as_ref(), 120u64.to_le_bytes());
}

fn with_place(prefix: &[u8], suffix: &[u8]) -> Vec<u8> {
    let mut form = prefix.to_vec();
    form.extend_from_slice(&[0xff; 10]);
    form.extend_from_slice(suffix);
    form.extend_from_slice(&u32::try_from(prefix.len()).unwrap().to_le_bytes());
    form
}

pub async fn versionstamped_keys_sort_in_commit_order(store: &Store) {
    let commits: Vec<_> = (0..40u8)
        .map(|n| {
            let txn = store.begin("stamp");
            txn.set_versionstamped_key(&with_place(b"j/", &[n]), &[n]).unwrap();
            tokio::spawn(async move { (n, txn.commit().await.unwrap()) })
        })
        .collect();
    let mut expected = Vec::new();
    for commit in commits {
        let (n, committed) = commit.await.unwrap();
        let stamp = committed.versionstamp.unwrap();
        assert_eq!(stamp.version(), committed.version);
        expected.push((stamp, n));
    }
    expected.sort_unstable();
    expected.windows(2).for_each(|pair| assert!(pair[0].0 < pair[1].0, "no two are the same"));
    let page = store.begin("check").range(RangeRead::prefix("j/")).await.unwrap();
    let stored: Vec<(Versionstamp, u8)> = page
        .rows
        .iter()
        .map(|(key, value)| (Versionstamp::from_bytes(key[2..12].try_into().unwrap()), value[0]))
        .collect();
    assert_eq!(stored, expected);
    assert!(
        page.rows.iter().all(|(key, value)| key[12..] == value[..]),
        "the rest of the key stays"
    );
}

pub async fn versionstamped_values_hold_the_commit(store: &Store) {
    let txn = store.begin("stamp");
    txn.set_versionstamped_value(b"v", &with_place(b"<", b">")).unwrap();
    let stamp = txn.commit().await.unwrap().versionstamp.unwrap();
    let stored = store.begin("check").get(b"v", Read::Snapshot).await.unwrap().unwrap();
    assert_eq!(stored[..], [b"<", stamp.as_bytes().as_slice(), b">"].concat()[..]);
}

pub async fn a_clear_takes_away_a_versionstamped_key_of_its_own(store: &Store) {
    let txn = store.begin("stamp");
    txn.set_versionstamped_key(&with_place(b"j/", b""), b"before").unwrap();
    txn.clear_range(b"j/", b"j0").unwrap();
    txn.set_versionstamped_key(&with_place(b"j/", b"+"), b"after").unwrap();
    txn.commit().await.unwrap();
    let page = store.begin("check").range(RangeRead::prefix("j/")).await.unwrap();
    let values: Vec<_> = page.rows.iter().map(|(_, value)| value.as_ref()).collect();
    assert_eq!(values, [b"after"]);
}

pub async fn limits_are_checked_in_front(store: &Store) {
    let txn = store.begin("limits");
    let key = vec![b'k'; limits::KEY_BYTES_MAX + 1];
    let value_too_large = vec![0; limits::VALUE_BYTES_MAX + 1];
    let key_refused = |result| match result {
        Err(Error::KeyTooLarge { size, limit }) => {
            assert_eq!((size, limit), (limits::KEY_BYTES_MAX + 1, limits::KEY_BYTES_MAX));
        }
        other => panic!("{other:?}"),
    };
    key_refused(txn.set(&key, b""));
    key_refused(txn.clear(&key));
    key_refused(txn.get(&key, Read::Snapshot).await.map(drop));
    key_refused(txn.watch(&key).map(drop));
    key_refused(txn.drop_prefix(&key));
    assert!(matches!(
        txn.set(b"k", &value_too_large),
        Err(Error::ValueTooLarge { size: 100_001, limit: 100_000 })
    ));
    assert_eq!(txn.approximate_size(), 0, "what was refused is not in it");
    // The longest that are allowed, as the only keys of a range too.
    txn.set(&key[1..], &value_too_large[1..]).unwrap();
    txn.commit().await.unwrap();
    let mut range = RangeRead::new(&key[1..], lethe::store::key_after(&key[1..]));
    range.bytes = usize::MAX;
    assert_eq!(store.begin("check").range(range).await.unwrap().rows.len(), 1);

    let txn = store.begin("limits");
    let mut writes = 0u32;
    let refused = loop {
        match txn.set(&writes.to_be_bytes(), &value_too_large[1..]) {
            Ok(()) => writes += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::TransactionTooLarge { limit: 10_000_000, .. }), "{refused}");
    assert_eq!(writes, 99);
    assert!(txn.approximate_size() <= 10_000_000);
    txn.commit().await.unwrap();
}

pub async fn keys_of_the_store_itself_are_out_of_reach(store: &Store) {
    let txn = store.begin("system");
    let refused = |result| assert!(matches!(result, Err(Error::KeyOutsideLegalRange)));
    refused(txn.set(b"\xff", b""));
    refused(txn.set(b"\xff/state", b""));
    refused(txn.clear_range(b"a", b"\xff\xff"));
    refused(txn.get(b"\xff/state", Read::Snapshot).await.map(drop));
    refused(txn.range(RangeRead::new("a", b"\xff\xff".to_vec())).await.map(drop));
    refused(txn.drop_prefix(b""));
    put(store, &[("a", "1")]).await;
    let page = store.begin("all").range(RangeRead::prefix("")).await.unwrap();
    assert_eq!(page.rows.len(), 1, "nothing but what was written");
    let txn = store.begin("clear all");
    txn.clear_range(b"", b"\xff").unwrap();
    txn.commit().await.unwrap();
    assert_eq!(value(store, "a").await, None);
    put(store, &[("a", "2")]).await;
    assert_eq!(value(store, "a").await.as_deref(), Some("2"), "the store still works");
}

pub async fn bad_ranges_and_offsets_are_refused(store: &Store) {
    let txn = store.begin("bad");
    assert!(matches!(txn.clear_range(b"b", b"a"), Err(Error::InvertedRange)));
    assert!(matches!(txn.range(RangeRead::new("b", "a")).await, Err(Error::InvertedRange)));
    assert!(matches!(txn.add_read_conflict_range(b"b", b"a"), Err(Error::InvertedRange)));
    for form in
        [b"".as_slice(), b"abc", &[0; 13], b"0123456789\x01\0\0\0", b"0123456789\xff\xff\xff\xff"]
    {
        let refused = txn.set_versionstamped_key(form, b"");
        assert!(matches!(refused, Err(Error::BadVersionstampOffset)), "{form:?}");
        let refused = txn.set_versionstamped_value(b"k", form);
        assert!(matches!(refused, Err(Error::BadVersionstampOffset)), "{form:?}");
    }
    txn.clear_range(b"a", b"a").unwrap();
    assert_eq!(get(&txn, "a").await, None);
    txn.commit().await.unwrap();
}
