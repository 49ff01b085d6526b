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

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch as the engine writes it. The places of its checksum and of the keyspace's number, which only the engine
    /// checks, are returned too.
    fn batch(before: Option<Link>, sequence: u64) -> (Vec<u8>, Link) {
        let previous = before.map_or(0, |link| link.state.chain);
        let mut state = State {
            version: before.map_or(1, |link| link.state.version + 1),
            previous,
            previous_end: before.map_or(0, |link| link.sequence + 1),
            ..State::default()
        };
        let rows: [(Kind, &[u8], &[u8]); 2] =
            [(Kind::Write, b"key", b"value"), (Kind::Clear, b"gone", b"")];
        let mut chain = Chain::new(previous);
        for (kind, key, value) in rows {
            chain.item(kind, key, value);
        }
        state.chain = chain.finish(&state);
        let encoded = state.encode();
        let mut bytes = vec![TAG_START, 3, 0, 0, 0];
        bytes.extend_from_slice(&sequence.to_le_bytes());
        for (kind, key, value) in
            rows.into_iter().chain([(Kind::Write, STATE_KEY, encoded.as_slice())])
        {
            let value_bytes = u32::try_from(value.len()).unwrap().to_le_bytes();
            bytes.extend_from_slice(&[TAG_ITEM, u8::from(kind == Kind::Clear), 0]);
            bytes.extend_from_slice(&1u64.to_le_bytes());
            bytes.extend_from_slice(&u16::try_from(key.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(&value_bytes);
            bytes.extend_from_slice(&value_bytes);
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
        }
        bytes.push(TAG_END);
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(TRAILER);
        (bytes, Link { state, sequence })
    }

    #[test]
    fn the_chain_alone_notices_every_change_of_a_row_and_of_the_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.jnl");
        let (one, first) = batch(None, 5);
        let (two, second) = batch(Some(first), 6);
        let (three, last) = batch(Some(second), 7);
        let whole = [one.clone(), two.clone(), three.clone(), vec![0; 500]].concat();
        std::fs::write(&path, &whole).unwrap();
        let (scanned, tail) = scan(folder.path()).unwrap();
        assert_eq!(scanned, Some(Scanned { first, last }));
        assert!(tail.is_none(), "zeros are no tail");

        let accepted = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            scan(folder.path()).is_ok_and(|(scanned, _)| scanned == Some(Scanned { first, last }))
        };
        let mut unnoticed = Vec::new();
        for at in 0..one.len() + two.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            if accepted(&bytes) {
                unnoticed.push(at % one.len());
            }
        }
        // The engine's own checksum (8 bytes) and three times the number of the keyspace (8 bytes), in each of two batches.
        assert_eq!(unnoticed.len(), 2 * (8 + 3 * 8), "{unnoticed:?}");
        assert!(!accepted(&[one.clone(), three.clone()].concat()), "a batch is missing");
        assert!(
            !accepted(&[one.clone(), two.clone(), two, three].concat()),
            "a batch is there twice"
        );
        assert!(!accepted(&one), "the end is missing");
    }

    #[test]
    fn a_torn_tail_is_told_from_zeros_and_can_be_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("3.jnl");
        let (one, first) = batch(None, 5);
        let (two, _) = batch(Some(first), 6);
        let torn = [&one, &two[..40], &[0; 300][..]].concat();
        std::fs::write(&path, &torn).unwrap();
        let (scanned, tail) = scan(folder.path()).unwrap();
        assert_eq!(scanned, Some(Scanned { first, last: first }));
        let tail = tail.unwrap();
        tail.cut().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), one);
        tail.restore().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), torn);
        // A file that is followed by another may not end like that, and no number may be missing.
        std::fs::write(folder.path().join("4.jnl"), b"").unwrap();
        assert!(scan(folder.path()).is_err());
        std::fs::write(&path, &one).unwrap();
        assert!(scan(folder.path()).is_ok());
        std::fs::rename(folder.path().join("4.jnl"), folder.path().join("5.jnl")).unwrap();
        assert!(scan(folder.path()).is_err());
    }
}
