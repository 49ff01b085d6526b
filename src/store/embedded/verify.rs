//! Checks of the engine's files that the engine itself does not make.
//!
//! The engine checksums every block of its tables when it reads it. It does not check the file that lists the tables, though it
//! keeps a checksum of it; and it deletes the folder of a keyspace that it does not find in the list of keyspaces. Both
//! are checked here before it may open anything.
//!
//! ```text
//! fjall/keyspaces/<n>/current      number: u64, checksum of v<number>: u128, kind of checksum: u8
//!                    /v<number>    the list of tables, among it the checksum of each whole table file
//!                    /tables/<id>
//! ```

use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use super::folder::io;
use crate::store::{Error, Result};

const MARKER: &[u8] = b"FJL\x03";
/// The keyspace in which the engine keeps the list of keyspaces.
const META: &str = "0";

/// Checks everything below the engine's folder but the journal and the blocks of the tables.
pub(super) fn check(engine: &Path) -> Result<()> {
    let marker = engine.join("version");
    if std::fs::read(&marker).map_err(io("read", &marker))? != MARKER {
        return Err(damaged(&marker, "it does not hold what was written to it"));
    }
    let keyspaces = engine.join("keyspaces");
    for entry in std::fs::read_dir(&keyspaces).map_err(io("list", &keyspaces))? {
        let keyspace = entry.map_err(io("list", &keyspaces))?.path();
        if keyspace.is_dir() {
            check_keyspace(&keyspace)?;
        }
    }
    let meta = keyspaces.join(META);
    if !meta.is_dir() {
        return Err(damaged(&meta, "it is missing"));
    }
    Ok(())
}

fn check_keyspace(keyspace: &Path) -> Result<()> {
    let current_path = keyspace.join("current");
    let current = std::fs::read(&current_path).map_err(io("read", &current_path))?;
    let (number, checksum) =
        parse_current(&current).ok_or_else(|| damaged(&current_path, "it cannot be read"))?;
    let list_path = keyspace.join(format!("v{number}"));
    let list = std::fs::read(&list_path).map_err(io("read", &list_path))?;
    if xxh3_128(&list) != checksum {
        return Err(damaged(&list_path, "its checksum is not the one in 'current'"));
    }
    Ok(())
}

fn parse_current(current: &[u8]) -> Option<(u64, u128)> {
    let (number, rest) = current.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (kind == [0]).then(|| (u64::from_le_bytes(*number), u128::from_le_bytes(*checksum)))
}

fn damaged(path: &Path, detail: &str) -> Error {
    Error::Corrupt { detail: format!("{}: {detail}", path.display()) }
}
