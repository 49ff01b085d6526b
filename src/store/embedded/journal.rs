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

use std::fs::{File, OpenOptions};
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

/// What follows the last whole batch of the journal.
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

    /// Cuts it off. The engine would do so too, but not everything that a torn write leaves is something it can stumble over unhurt.
    pub(super) fn cut(&self) -> Result<()> {
        let file =
            OpenOptions::new().write(true).open(&self.path).map_err(io("open", &self.path))?;
        file.set_len(u64::try_from(self.at).unwrap_or_default())
            .map_err(io("write", &self.path))?;
        file.sync_all().map_err(io("sync", &self.path))
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

/// Journal files that the engine is not to see, because all that is in them is in tables.
#[derive(Debug)]
pub(super) struct SetAside {
    folder: PathBuf,
    /// The name under which each is set aside, and its own.
    files: Vec<(PathBuf, PathBuf)>,
}

const ASIDE: &str = "aside";

impl SetAside {
    /// Sets all of them aside.
    pub(super) fn set(folder: &Path) -> Result<Self> {
        let mut aside = Self::left_over(folder)?;
        let files = journal_files(folder)?;
        for (_, path) in &files {
            let away = path.with_extension(ASIDE);
            std::fs::rename(path, &away).map_err(io("rename", path))?;
            aside.files.push((away, path.clone()));
        }
        // Without any journal file the engine would begin its sequence numbers anew, below those in its tables.
        if let Some((_, last)) = files.last() {
            File::create_new(last).map_err(io("create", last))?;
        }
        Ok(aside)
    }

    /// Those that a start which did not finish has set aside.
    pub(super) fn left_over(folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io("list", folder))? {
            let path = entry.map_err(io("list", folder))?.path();
            if path.extension().is_some_and(|extension| extension == ASIDE) {
                files.push((path.clone(), path.with_extension("jnl")));
            }
        }
        Ok(Self { folder: folder.to_owned(), files })
    }

    /// The store is open without them.
    pub(super) fn remove(self) -> Result<()> {
        for (path, _) in &self.files {
            std::fs::remove_file(path).map_err(io("remove", path))?;
        }
        Ok(())
    }

    /// The store is refused: it is left as it was found.
    pub(super) fn put_back(self) -> Result<()> {
        for (_, path) in journal_files(&self.folder)? {
            std::fs::remove_file(&path).map_err(io("remove", &path))?;
        }
        for (away, path) in &self.files {
            std::fs::rename(away, path).map_err(io("rename", away))?;
        }
        Ok(())
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
        let Some(end) = last_nonzero(rest) else { continue };
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

/// Where the last byte that is not zero lies. The zeros behind a journal are many, so whole blocks of them are compared.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    for block in bytes.rchunks(ZEROS.len()) {
        if ZEROS.get(..block.len()) != Some(block) {
            let last = block.iter().rposition(|byte| *byte != 0)?;
            return Some(end - block.len() + last);
        }
        end -= block.len();
    }
    None
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
        if before.sequence >= state.previous_end || state.previous_end > batch.sequence {
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
