//! Several stores in one FoundationDB.

use lethe::store::{RangeRead, Read, Store};

use super::fdb;

async fn put(store: &Store, key: &str, value: &str) {
    let txn = store.begin("put");
    txn.set(key.as_bytes(), value.as_bytes()).unwrap();
    txn.commit().await.unwrap();
}

/// All keys and values, forward; backward there must be the same.
async fn all(store: &Store) -> Vec<String> {
    let txn = store.begin("all");
    let text = |range| async {
        let page = txn.range(range).await.unwrap();
        let row = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
            format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
        };
        page.rows.iter().map(row).collect::<Vec<_>>()
    };
    let forward = text(RangeRead::prefix("")).await;
    let mut backward = text(RangeRead::prefix("").reverse()).await;
    backward.reverse();
    assert_eq!(forward, backward);
    forward
}

#[tokio::test]
async fn stores_with_different_prefixes_do_not_see_each_other() {
    let Some(server) = fdb::shared() else { return };
    let own = server.new_prefix();
    let timeout = std::time::Duration::from_secs(30);
    // Each is the beginning of the next.
    let names = [String::new(), own.clone(), format!("{own}b"), format!("{own}b\0c")];
    let mut stores = Vec::new();
    for name in &names {
        stores.push(server.store_with(name, timeout).await);
    }
    for (n, store) in stores.iter().enumerate() {
        put(store, "", &n.to_string()).await;
        put(store, "b", &n.to_string()).await;
    }
    for (n, store) in stores.iter().enumerate() {
        assert_eq!(all(store).await, [format!("={n}"), format!("b={n}")]);
    }
    // What one clears the others keep.
    let txn = stores[1].begin("clear");
    txn.clear_range(b"", b"\xff").unwrap();
    txn.commit().await.unwrap();
    assert!(all(&stores[1]).await.is_empty());
    for n in [0, 2, 3] {
        assert_eq!(all(&stores[n]).await.len(), 2);
    }
    // The same prefix is the same store.
    let again = server.store_with(&names[2], timeout).await;
    put(&again, "c", "again").await;
    assert_eq!(all(&stores[2]).await.len(), 3);
}

#[tokio::test]
async fn transactions_of_different_prefixes_do_not_conflict() {
    let Some(server) = fdb::shared() else { return };
    let (one, two) = (server.store().await, server.store().await);
    let reading = one.begin("reading");
    reading.range(RangeRead::prefix("")).await.unwrap();
    reading.set(b"out", b"").unwrap();
    put(&two, "k", "1").await;
    reading.commit().await.unwrap();
}

#[tokio::test]
async fn a_touch_by_another_store_is_seen_and_changes_nothing_else() {
    // On its own: another test claims what the metadata version of the shared server is.
    let Some(server) = fdb::Server::start() else { return };
    let (one, two) = (server.store().await, server.store().await);
    let txn = two.begin("touch");
    txn.touch_metadata_version().unwrap();
    let touched = txn.commit().await.unwrap().versionstamp.unwrap();
    let txn = one.begin("read");
    assert_eq!(txn.metadata_version().await.unwrap(), touched);
    assert_eq!(txn.get(b"k", Read::Snapshot).await.unwrap(), None);
}

#[tokio::test]
async fn a_closed_store_leaves_others_open() {
    let Some(server) = fdb::shared() else { return };
    let prefix = server.new_prefix();
    let timeout = std::time::Duration::from_secs(30);
    let (one, two) =
        (server.store_with(&prefix, timeout).await, server.store_with(&prefix, timeout).await);
    put(&one, "k", "1").await;
    one.close().await;
    assert_eq!(all(&two).await, ["k=1"]);
    // The same process, the same network thread.
    let three = server.store_with(&prefix, timeout).await;
    assert_eq!(all(&three).await, ["k=1"]);
}
