//! Dropped prefixes give their bytes back.

use std::path::Path;

use lethe::store::{Reclaim, Store};

use super::{copy, disk_bytes, open, rows};

const LARGE: usize = 300;

fn noise(seed: usize) -> Vec<u8> {
    (0..50_000)
        .map(|n: usize| (n.wrapping_mul(2_654_435_761 + seed) >> 13).to_le_bytes()[0])
        .collect()
}

/// About 15 MB below `gone/`, and a little beside it.
async fn fill(store: &Store) {
    for n in 0..LARGE {
        let txn = store.begin("fill");
        txn.set(format!("gone/{n:04}").as_bytes(), &noise(n)).unwrap();
        txn.set(format!("kept/{n:04}").as_bytes(), b"small").unwrap();
        txn.commit().await.unwrap();
    }
}

async fn drop_gone(store: &Store) {
    let txn = store.begin("drop");
    txn.drop_prefix(b"gone/").unwrap();
    txn.commit().await.unwrap();
}

async fn reclaimed(store: &Store) -> Reclaim {
    store.reclaimed(b"gone/").await.unwrap()
}

/// Whether a file of the folder holds the bytes of a value or a key that was dropped.
fn holds_traces(folder: &Path) -> bool {
    let (value, key) = (noise(7), b"gone/0007");
    super::files(folder).iter().any(|file| {
        let bytes = std::fs::read(file).unwrap();
        let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
        has(&value[..64]) || has(key)
    })
}

#[tokio::test]
async fn a_dropped_prefix_gives_its_bytes_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    fill(&store).await;
    store.close().await;
    let full = disk_bytes(folder.path());
    assert!(full > 14 << 20, "{full}");
    assert!(holds_traces(folder.path()));

    let store = open(folder.path()).await.unwrap();
    drop_gone(&store).await;
    let progress = reclaimed(&store).await;
    assert!(progress.returned_bytes.unwrap() > 10 << 20, "{progress:?}");
    assert_eq!(rows(&store).await.unwrap().len(), LARGE);
    assert_eq!(store.stats().dropped_prefixes, 0);
    store.close().await;

    let store = open(folder.path()).await.unwrap();
    let left = disk_bytes(folder.path());
    assert!(left < 3 << 20, "{left} of {full} bytes are left");
    assert!(!holds_traces(folder.path()), "no byte of it is left in any file");
    assert_eq!(rows(&store).await.unwrap().len(), LARGE);
    store.close().await;
}

#[tokio::test]
async fn reclaiming_goes_on_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (live, killed) = (folder.path().join("live"), folder.path().join("killed"));
    let store = open(&live).await.unwrap();
    fill(&store).await;
    // A snapshot from before holds the reclaimer up, so that the kill comes before it has done anything.
    let older = store.begin("older");
    older.read_version().await.unwrap();
    drop_gone(&store).await;
    copy(&live, &killed);
    assert!(!store.reclaim_progress(b"gone/").await.unwrap().done);
    assert_eq!(store.stats().dropped_prefixes, 1);
    drop(older);
    reclaimed(&store).await;
    store.close().await;

    let store = open(&killed).await.unwrap();
    assert_eq!(rows(&store).await.unwrap().len(), LARGE, "hidden from the first moment on");
    assert!(reclaimed(&store).await.done);
    assert_eq!(rows(&store).await.unwrap().len(), LARGE);
    store.close().await;
    let store = open(&killed).await.unwrap();
    assert!(disk_bytes(&killed) < 3 << 20);
    store.close().await;
}

#[tokio::test]
async fn rows_cleared_one_by_one_before_the_drop_leave_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    fill(&store).await;
    store.close().await;
    let store = open(folder.path()).await.unwrap();
    let txn = store.begin("clear");
    txn.clear_range(b"gone/", b"gone0").unwrap();
    txn.commit().await.unwrap();
    drop_gone(&store).await;
    reclaimed(&store).await;
    store.close().await;
    open(folder.path()).await.unwrap().close().await;
    assert!(!holds_traces(folder.path()));
}

#[tokio::test]
async fn waiting_for_bytes_ends_when_the_store_closes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    fill(&store).await;
    let older = store.begin("older");
    older.read_version().await.unwrap();
    drop_gone(&store).await;
    let waiting = store.clone();
    let waiting = tokio::spawn(async move { waiting.reclaimed(b"gone/").await });
    store.close().await;
    waiting.await.unwrap().unwrap_err();
}

/// A long job says how far it is while it goes on, not only when it ends.
#[tokio::test]
async fn how_far_it_is_is_told_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    fill(&store).await;
    drop_gone(&store).await;
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |progress: Reclaim| told.lock().unwrap().push(progress);
    let end = store.reclaimed_telling(b"gone/", &tell).await.unwrap();
    store.close().await;
    let told = told.into_inner().unwrap();
    let (last, before) = told.split_last().unwrap();
    assert_eq!(*last, end);
    assert_eq!((end.done, end.pending_bytes), (true, Some(0)));
    assert!(before.iter().all(|progress| !progress.done), "{told:?}");
    let mut figures: Vec<_> =
        before.iter().map(|progress| (progress.pending_bytes, progress.returned_bytes)).collect();
    figures.dedup();
    assert!(figures.len() > 1, "they stood still: {told:?}");
}
