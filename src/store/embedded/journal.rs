//! Reads the engine's journal before the engine does, which would cut it silently at the first flipped byte.
//!
//! The journal is files `<n>.jnl`, each preallocated with zeros, holding batches:
//!
//! ```text
//! start   01, items: u32, sequence number: u64           (not covered by the engine's checksum)
//! item    02, kind, compression, keyspace: u64, key length: u16, value length: u32, stored length: u32, key, value
//! end     03, checksum of the items: u64, trailer "FJL\x03"
//! ```
//!
//! Each batch of ours ends with the item [`super::state::STATE_KEY`], whose value holds the commit version and a hash over all batches
//! up to this one. So the chain of batches proves itself: none is missing, none was changed, none moved. Only what follows the
//! last whole batch may be cut, and only if that batch is at least the one that COMMITTED names.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::folder::io;
use super::state::{Chain, Kind, STATE_KEY, State};
use crate::store::{Error, Result};

const TRAILER: &[u8] = b"FJL\x03";
const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;

/// What the journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scanned {
    /// The first batch.
    pub(super) first: Link,
    /// The last whole batch.
    pub(super) last: Link,
}

/// One batch of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) state: State,
    pub(super) sequence: u64,
}

/// What the engine will cut off the end of the journal.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    at: usize,
    file_bytes: usize,
    bytes: Vec<u8>,
}

impl Tail {
    /// How many bytes that are not zero-filled space.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts it back, so that a refused folder is as it was found.
    pub(super) fn restore(&self) -> Result<()> {
        let file =
            OpenOptions::new().write(true).open(&self.path).map_err(io("open", &self.path))?;
        let length = u64::try_from(self.file_bytes).unwrap_or_default();
        file.set_len(length).map_err(io("write", &self.path))?;
        let at = u64::try_from(self.at).unwrap_or_default();
        file.write_all_at(&self.bytes, at).map_err(io("write", &self.path))
    }
}

/// Reads all journal files in a folder: the chain of batches, if there are any, and what follows it.
pub(super) fn scan(folder: &Path) -> Result<(Option<Scanned>, Option<Tail>)> {
    let files = journal_files(folder)?;
    let mut scanned: Option<Scanned> = None;
    let mut tail = None;
    for (index, (_, path)) in files.iter().enumerate() {
        let bytes = std::fs::read(path).map_err(io("read", path))?;
        let rest = scan_file(path, &bytes, &mut scanned)?;
        let Some(end) = rest.iter().rposition(|byte| *byte != 0) else { continue };
        let at = bytes.len() - rest.len();
        if index + 1 < files.len() {
            // Every file but the last was closed with all its batches whole and zeros behind them.
            return Err(damaged(path, at, "unreadable bytes follow the last whole batch"));
        }
        let bytes_cut = rest.get(..=end).unwrap_or(rest).to_vec();
        tail = Some(Tail { path: path.clone(), at, file_bytes: bytes.len(), bytes: bytes_cut });
    }
    Ok((scanned, tail))
}

/// The journal files in order; a gap in their numbers is damage.
fn journal_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io("list", folder))? {
        let path = entry.map_err(io("list", folder))?.path();
        if path.extension().is_none_or(|extension| extension != "jnl") {
            continue;
        }
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let number: u64 = number.ok_or_else(|| damaged(&path, 0, "it has no number"))?;
        files.push((number, path));
    }
    files.sort();
    for pair in files.windows(2) {
        if let [(before, _), (after, path)] = pair
            && before + 1 != *after
        {
            return Err(damaged(path, 0, "the journal file before it is missing"));
        }
    }
    Ok(files)
}

/// Follows the chain through one file; gives what lies behind its last whole batch.
fn scan_file<'a>(path: &Path, bytes: &'a [u8], scanned: &mut Option<Scanned>) -> Result<&'a [u8]> {
    let mut rest = bytes;
    loop {
        let at = bytes.len() - rest.len();
        let mut reader = Reader(rest);
        let Some(batch) = read_batch(&mut reader) else { return Ok(rest) };
        let before = scanned.map(|scanned| scanned.last);
        let link = verify(&batch, before).map_err(|detail| damaged(path, at, detail))?;
        let first = scanned.map_or(link, |scanned| scanned.first);
        *scanned = Some(Scanned { first, last: link });
        rest = reader.0;
    }
}

#[derive(Debug)]
struct RawBatch<'a> {
    sequence: u64,
    items: Vec<(Kind, &'a [u8], &'a [u8])>,
}

/// The next whole batch, `None` if there is none.
fn read_batch<'a>(reader: &mut Reader<'a>) -> Option<RawBatch<'a>> {
    if reader.u8()? != TAG_START {
        return None;
    }
    let count = reader.u32()?;
    let sequence = reader.u64()?;
    let mut items = Vec::new();
    loop {
        match reader.u8()? {
            TAG_ITEM => {
                let kind = Kind::from_byte(reader.u8()?)?;
                let compression = reader.u8()?;
                let _keyspace = reader.u64()?;
                let key_bytes = reader.u16()?;
                let value_bytes = reader.u32()?;
                let stored_bytes = reader.u32()?;
                if compression != 0 || value_bytes != stored_bytes {
                    return None;
                }
                let key = reader.take(usize::from(key_bytes))?;
                let value = reader.take(usize::try_from(stored_bytes).ok()?)?;
                items.push((kind, key, value));
            }
            TAG_END => {
                let _checksum = reader.u64()?;
                let trailer = reader.take(TRAILER.len())?;
                let whole = trailer == TRAILER && usize::try_from(count).ok()? == items.len();
                return whole.then_some(RawBatch { sequence, items });
            }
            _ => return None,
        }
    }
}

/// Whether a batch goes on from the one before it.
fn verify(batch: &RawBatch<'_>, before: Option<Link>) -> Result<Link, &'static str> {
    let Some(((_, key, value), items)) = batch.items.split_last() else {
        return Err("a batch is empty");
    };
    if *key != STATE_KEY {
        return Err("a batch bears no commit number");
    }
    let state = State::decode(value).ok_or("a commit number cannot be read")?;
    let mut chain = Chain::new(state.previous);
    for (kind, key, value) in items {
        chain.item(*kind, key, value);
    }
    if chain.finish(&state) != state.chain {
        return Err("a batch does not hold what was written to it");
    }
    if let Some(before) = before {
        if state.version != before.state.version + 1 || state.previous != before.state.chain {
            return Err("the chain of commits is broken");
        }
        if batch.sequence <= before.sequence || state.previous_sequence != before.sequence {
            return Err("a batch is out of order");
        }
    }
    Ok(Link { state, sequence: batch.sequence })
}

fn damaged(path: &Path, at: usize, detail: &str) -> Error {
    Error::Corrupt { detail: format!("{} at byte {at}: {detail}", path.display()) }
}

/// Takes numbers off the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
