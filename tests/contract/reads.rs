//! Reads: own writes, ranges, pages.

use lethe::store::{Atomic, Error, Page, RangeRead, Read, Store, Transaction};

use super::{get, put};

fn texts(page: &Page) -> Vec<(String, String)> {
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    page.rows.iter().map(|(key, value)| (text(key), text(value))).collect()
}

fn keys(page: &Page) -> String {
    texts(page).into_iter().map(|(key, _)| key).collect::<Vec<_>>().join(" ")
}

pub async fn own_writes_are_seen_in_gets(store: &Store) {
    put(store, &[("a", "0"), ("b", "0"), ("n", "\u{1}")]).await;
    let txn = store.begin("own");
    txn.set(b"a", b"1").unwrap();
    txn.clear(b"b").unwrap();
    txn.atomic(Atomic::Add, b"n", &[2]).unwrap();
    txn.atomic(Atomic::Add, b"n", &[3]).unwrap();
    txn.atomic(Atomic::Max, b"new", &[9]).unwrap();
    assert_eq!(get(&txn, "a").await.as_deref(), Some("1"));
    assert_eq!(get(&txn, "b").await, None);
    assert_eq!(get(&txn, "n").await.as_deref(), Some("\u{6}"));
    assert_eq!(get(&txn, "new").await.as_deref(), Some("\t"));
    txn.clear_range(b"a", b"z").unwrap();
    assert_eq!(get(&txn, "n").await, None);
    txn.atomic(Atomic::Add, b"n", &[7]).unwrap();
    assert_eq!(get(&txn, "n").await.as_deref(), Some("\u{7}"));
    txn.set(b"c", b"2").unwrap();
    txn.commit().await.unwrap();
    let page = store.begin("after").range(RangeRead::new("a", "z")).await.unwrap();
    assert_eq!(texts(&page), [("c".into(), "2".into()), ("n".into(), "\u{7}".into())]);
}

pub async fn own_writes_are_seen_in_ranges(store: &Store) {
    put(store, &[("a", "0"), ("c", "0"), ("e", "0"), ("g", "0"), ("i", "0")]).await;
    let txn = store.begin("own");
    txn.set(b"b", b"1").unwrap();
    txn.set(b"c", b"1").unwrap();
    txn.clear(b"e").unwrap();
    txn.clear_range(b"f", b"h").unwrap();
    txn.set(b"f5", b"1").unwrap();
    txn.set(b"z", b"1").unwrap();
    let all = txn.range(RangeRead::new("", "\u{7f}")).await.unwrap();
    assert_eq!(keys(&all), "a b c f5 i z");
    assert_eq!(texts(&all)[2].1, "1");
    let reverse = txn.range(RangeRead::new("", "\u{7f}").reverse()).await.unwrap();
    assert_eq!(keys(&reverse), "z i f5 c b a");
    let limited = txn.range(RangeRead::new("b", "z").limit(3)).await.unwrap();
    assert_eq!(keys(&limited), "b c f5");
    assert!(limited.more);
    let last = txn.range(RangeRead::new("b", "z").limit(2).reverse()).await.unwrap();
    assert_eq!(keys(&last), "i f5");
}

pub async fn own_writes_hide_no_conflict_but_their_own(store: &Store) {
    // What an own write decides alone is not read from the store.
    let txn = store.begin("own");
    txn.set(b"k", b"1").unwrap();
    get(&txn, "k").await;
    assert_eq!(txn.read_conflicts(), vec![]);
    // A change upon a stored value is.
    txn.atomic(Atomic::Add, b"n", &[1]).unwrap();
    get(&txn, "n").await;
    assert_eq!(txn.read_conflicts(), vec![(b"n".to_vec(), b"n\0".to_vec())]);
    put(store, &[("n", "x")]).await;
    assert!(matches!(txn.commit().await, Err(Error::Conflict)));
}

pub async fn ranges_go_both_ways_and_stop_at_limits(store: &Store) {
    put(store, &[("k1", ""), ("k2", ""), ("k3", ""), ("k4", "")]).await;
    let txn = store.begin("ranges");
    for (begin, end, reverse, limit, expected, more) in [
        ("k1", "k4", false, 10, "k1 k2 k3", false),
        ("k1", "k4", true, 10, "k3 k2 k1", false),
        ("k1", "k5", false, 2, "k1 k2", true),
        ("k1", "k5", true, 2, "k4 k3", true),
        ("k11", "k4", false, 10, "k2 k3", false),
        ("k2", "k2", false, 10, "", false),
        ("x", "z", true, 10, "", false),
    ] {
        let range = RangeRead::new(begin, end).limit(limit);
        let page = txn.range(if reverse { range.reverse() } else { range }).await.unwrap();
        assert_eq!((keys(&page).as_str(), page.more), (expected, more), "{begin}..{end}");
    }
}

pub async fn a_page_ends_at_its_bytes(store: &Store) {
    put(store, &[("b1", "0123456789"), ("b2", "0123456789"), ("b3", "0123456789")]).await;
    let txn = store.begin("bytes");
    let page = txn.range(RangeRead::prefix("b").bytes(13)).await.unwrap();
    assert_eq!((keys(&page).as_str(), page.more), ("b1 b2", true));
    let page = txn.range(RangeRead::prefix("b").bytes(1)).await.unwrap();
    assert_eq!(keys(&page), "b1", "one row at least");
}

async fn read_all(txn: &Transaction, range: RangeRead) -> Vec<String> {
    let mut all = Vec::new();
    let mut next = Some(range);
    while let Some(range) = next {
        let page = txn.range(range.clone()).await.unwrap();
        all.extend(texts(&page).into_iter().map(|(key, _)| key));
        next = range.after(&page);
    }
    all
}

pub async fn pages_follow_each_other(store: &Store) {
    let rows: Vec<String> = (0..25).map(|n| format!("p/{n:02}")).collect();
    let txn = store.begin("put");
    for row in &rows {
        txn.set(row.as_bytes(), b"").unwrap();
    }
    txn.commit().await.unwrap();
    let txn = store.begin("pages");
    for limit in [1, 5, 7, 25, 26] {
        assert_eq!(read_all(&txn, RangeRead::prefix("p/").limit(limit)).await, rows);
        let mut reversed = read_all(&txn, RangeRead::prefix("p/").limit(limit).reverse()).await;
        reversed.reverse();
        assert_eq!(reversed, rows);
    }
}

pub async fn a_long_range_is_read_whole(store: &Store) {
    let rows: Vec<String> = (0..3000).map(|n| format!("long/{n:05}")).collect();
    let txn = store.begin("put");
    for row in &rows {
        txn.set(row.as_bytes(), row.as_bytes()).unwrap();
    }
    txn.commit().await.unwrap();
    let txn = store.begin("long");
    txn.clear(b"long/00700").unwrap();
    txn.set(b"long/00700x", b"").unwrap();
    let mut expected = rows.clone();
    expected[700].push('x');
    assert_eq!(read_all(&txn, RangeRead::prefix("long/")).await, expected);
    let mut reversed = read_all(&txn, RangeRead::prefix("long/").reverse()).await;
    reversed.reverse();
    assert_eq!(reversed, expected);
}

pub async fn what_is_not_known_before_the_commit_cannot_be_read(store: &Store) {
    let txn = store.begin("unreadable");
    let mut key = b"j/".to_vec();
    key.extend_from_slice(&[0; 10]);
    key.extend_from_slice(&2u32.to_le_bytes());
    txn.set_versionstamped_key(&key, b"").unwrap();
    txn.set_versionstamped_value(b"v", &[0; 14]).unwrap();
    let unreadable = |result| matches!(result, Err(Error::AccessedUnreadable));
    assert!(unreadable(txn.get(b"v", Read::Snapshot).await.map(drop)));
    assert!(unreadable(txn.range(RangeRead::prefix("j/")).await.map(drop)));
    assert!(unreadable(txn.range(RangeRead::new("u", "w")).await.map(drop)));
    assert!(unreadable(txn.get(b"j/\x01\0\0\0\0\0\0\0\0\0", Read::Snapshot).await.map(drop)));
    txn.get(b"other", Read::Snapshot).await.unwrap();
    txn.set(b"v", b"known").unwrap();
    assert_eq!(get(&txn, "v").await.as_deref(), Some("known"));
    txn.commit().await.unwrap();
}
