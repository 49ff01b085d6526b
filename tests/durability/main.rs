//! What the embedded store keeps when its process is killed, its disk is full or its files are damaged.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "one binary in several files")]

mod backup;
mod damage;
mod disk;
#[path = "../support/http.rs"]
#[allow(dead_code, reason = "one page is asked for")]
mod http;
mod kill;
mod reclaim;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lethe::store::{EmbeddedOptions, Error, RangeRead, Store};

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

pub async fn open(path: &Path) -> Result<Store, Error> {
    Store::open(path, EmbeddedOptions::default()).await
}

/// Writes one row.
pub async fn put(store: &Store, key: &[u8], value: &[u8]) -> u64 {
    let txn = store.begin("put");
    txn.set(key, value).unwrap();
    txn.commit().await.unwrap().version
}

/// Everything in the store, read forward.
pub async fn rows(store: &Store) -> Result<Rows, Error> {
    rows_in(store, RangeRead::prefix("")).await
}

/// Everything in a range.
pub async fn rows_in(store: &Store, range: RangeRead) -> Result<Rows, Error> {
    let txn = store.begin("rows");
    let mut rows = Rows::new();
    let mut next = Some(range);
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        rows.extend(page.rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        next = range.after(&page);
    }
    Ok(rows)
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// Bytes that a folder takes on disk; holes take none.
pub fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    files(folder).iter().map(|file| file.metadata().unwrap().blocks() * 512).sum()
}

/// Copies a folder as it is, also under a store that has it open: what a kill would leave behind, since the operating system keeps
/// what a killed process has written.
pub fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        copy_sparse(&file, &target);
    }
    // The engine expects its folders even when they are empty.
    for folder in ["fjall/keyspaces/0/tables", "fjall/keyspaces/1/tables"] {
        if from.join(folder).exists() {
            std::fs::create_dir_all(to.join(folder)).unwrap();
        }
    }
}

/// The engine's journal files are preallocated and mostly holes: the copy ends soon after what is written.
fn copy_sparse(from: &Path, to: &Path) {
    let is_journal = from.extension().is_some_and(|extension| extension == "jnl");
    let mut file = File::open(from).unwrap();
    let (mut bytes, mut end, zeros) = (Vec::new(), 0, vec![0; 64 << 10]);
    loop {
        let at = bytes.len();
        let read = (&mut file).take(64 << 10).read_to_end(&mut bytes).unwrap();
        if read == 0 {
            break;
        }
        if bytes[at..] != zeros[..read] {
            end = bytes.len();
        }
    }
    if is_journal {
        bytes.truncate(end);
    }
    std::fs::write(to, bytes).unwrap();
}
