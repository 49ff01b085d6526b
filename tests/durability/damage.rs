//! Flipped bytes: in every file of a folder, at many places. Each is reported when the store is opened or read, or it lies
//! where it cannot change an answer; nothing is ever served that was not written, and nothing is cut away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lethe::store::{EmbeddedOptions, Error, RangeRead, Read, Store};

use super::{Rows, copy, files, open, rows, rows_in};

/// Places per file that are tried, besides its first and last bytes.
const PLACES: usize = 16;
const EDGE: usize = 32;

/// A store with tables on several levels, commits in the journal only, and cleared rows.
async fn fill(store: &Store) -> Rows {
    let mut model = Rows::new();
    for round in 0..40u32 {
        let txn = store.begin("fill");
        for n in 0..20u32 {
            let key = format!("row/{:05}", (round * 20 + n) * 7 % 600).into_bytes();
            let value = format!("{round} {n} ").repeat(20).into_bytes();
            txn.set(&key, &value).unwrap();
            model.insert(key, value);
        }
        let cleared = format!("row/{:05}", round * 31 % 600).into_bytes();
        txn.clear(&cleared).unwrap();
        model.remove(&cleared);
        txn.commit().await.unwrap();
    }
    model
}

async fn build(path: &Path) -> (Store, Rows) {
    let options = EmbeddedOptions { memtable_bytes: 64 << 10, ..EmbeddedOptions::default() };
    let store = Store::open(path, options.clone()).await.unwrap();
    fill(&store).await;
    store.close().await;
    let store = Store::open(path, options).await.unwrap();
    let txn = store.begin("last");
    txn.set(b"only in the journal", b"1").unwrap();
    txn.clear(b"row/00033").unwrap();
    txn.commit().await.unwrap();
    let model = rows(&store).await.unwrap();
    assert!(model.len() > 300, "{}", model.len());
    (store, model)
}

/// The places of a file that are tried: both ends, and some between, never beyond what was written.
fn places(bytes: &[u8]) -> Vec<usize> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
    if end <= 2 * EDGE + PLACES {
        return (0..bytes.len().min(2 * EDGE + PLACES)).collect();
    }
    let between = (1..=PLACES).map(|n| EDGE + n * (end - 2 * EDGE) / (PLACES + 1));
    (0..EDGE).step_by(3).chain(between).chain((end - EDGE..end).step_by(2)).collect()
}

/// Everything that can be read, in every way; an error is a report.
async fn read_everything(path: &Path, model: &Rows) -> Result<Rows, Error> {
    let store = open(path).await?;
    let read = async {
        let forward = rows(&store).await?;
        let backward = rows_in(&store, RangeRead::prefix("").reverse()).await?;
        assert_eq!(forward, backward);
        let txn = store.begin("get");
        for (key, value) in model {
            let stored = txn.get(key, Read::Snapshot).await?;
            assert_eq!(
                stored.as_deref(),
                Some(value.as_slice()),
                "served and not what was written"
            );
        }
        Ok(forward)
    };
    let result = read.await;
    store.close().await;
    result
}

async fn every_flip_is_reported_or_harmless(folder: &Path, model: &Rows) {
    let work = folder.with_extension("flipped");
    let mut reported = BTreeMap::<PathBuf, (usize, usize)>::new();
    for file in files(folder) {
        let name = file.strip_prefix(folder).unwrap().to_owned();
        let original = std::fs::read(&file).unwrap();
        for place in places(&original) {
            copy(folder, &work);
            let mut bytes = original.clone();
            bytes[place] ^= 1 << (place % 8);
            std::fs::write(work.join(&name), bytes).unwrap();
            let counts = reported.entry(name.clone()).or_default();
            match read_everything(&work, model).await {
                Ok(rows) => {
                    assert!(
                        rows == *model,
                        "byte {place} of {} was cut away silently",
                        name.display()
                    );
                    counts.1 += 1;
                }
                Err(Error::Corrupt { .. } | Error::Io { .. } | Error::Format(_)) => counts.0 += 1,
                Err(other) => panic!("byte {place} of {}: {other}", name.display()),
            }
            std::fs::remove_dir_all(&work).unwrap();
        }
    }
    for (name, (reported, harmless)) in &reported {
        println!("{}: {reported} flips reported, {harmless} without effect", name.display());
    }
    let all: usize = reported.values().map(|(reported, _)| reported).sum();
    assert!(all > 100, "the flips hit something");
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_after_a_close_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("closed");
    let (store, model) = build(&path).await;
    store.close().await;
    every_flip_is_reported_or_harmless(&path, &model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_after_a_kill_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (live, killed) = (folder.path().join("live"), folder.path().join("killed"));
    let (store, model) = build(&live).await;
    copy(&live, &killed);
    store.close().await;
    every_flip_is_reported_or_harmless(&killed, &model).await;
}

#[tokio::test]
async fn every_byte_of_the_journal_is_guarded() {
    let folder = tempfile::tempdir().unwrap();
    let (live, killed) = (folder.path().join("live"), folder.path().join("killed"));
    let store = open(&live).await.unwrap();
    for n in 0..3u8 {
        super::put(&store, &[b'k', n], &[n; 10]).await;
    }
    let model = rows(&store).await.unwrap();
    copy(&live, &killed);
    store.close().await;
    let journal = Path::new("fjall/0.jnl");
    let original = std::fs::read(killed.join(journal)).unwrap();
    let end = original.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for place in 0..end {
        let work = folder.path().join("work");
        copy(&killed, &work);
        let mut bytes = original.clone();
        bytes[place] ^= 1 << (place % 8);
        std::fs::write(work.join(journal), &bytes).unwrap();
        match read_everything(&work, &model).await {
            Ok(_) => panic!("the flip at byte {place} of {end} was not noticed"),
            Err(Error::Corrupt { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        // A refused folder is left as it was found.
        let left = std::fs::read(work.join(journal)).unwrap();
        assert!(left == bytes, "refusing changed the journal (byte {place})");
        std::fs::remove_dir_all(&work).unwrap();
    }
}

#[tokio::test]
async fn missing_and_shortened_files_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (live, killed) = (folder.path().join("live"), folder.path().join("killed"));
    let (store, model) = build(&live).await;
    copy(&live, &killed);
    store.close().await;
    for file in files(&killed) {
        let name = file.strip_prefix(&killed).unwrap();
        if name.ends_with("LOCK") || name.ends_with("lock") {
            continue;
        }
        for shorten in [false, true] {
            let work = folder.path().join("work");
            copy(&killed, &work);
            let target = work.join(name);
            let bytes = std::fs::read(&target).unwrap();
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if shorten {
                std::fs::write(&target, &bytes[..end / 2]).unwrap();
            } else {
                std::fs::remove_file(&target).unwrap();
            }
            match read_everything(&work, &model).await {
                Ok(rows) => {
                    assert!(
                        rows == model,
                        "{} gone or short, and rows are missing",
                        name.display()
                    );
                }
                Err(Error::Corrupt { .. } | Error::Io { .. } | Error::Format(_)) => {}
                Err(other) => panic!("{}: {other}", name.display()),
            }
            std::fs::remove_dir_all(&work).unwrap();
        }
    }
}
