//! The file COMMITTED: which commit was the last one synced, kept apart from the engine's files.
//!
//! The engine cuts its journal at the first thing in it that it does not understand. What is cut may be the torn tail of a
//! commit that nobody was told of, or a year of data behind a flipped byte. This file tells the two apart: the store
//! must open with this commit or a later one.
//!
//! It has two places of 64 bytes, in sectors of their own, written in turn, each checksummed. It is written after the
//! journal was synced, so it never names a commit that the journal lacks. It is not synced itself: a crash of the process does not
//! need that, and after a crash of the machine it names an earlier commit at worst.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::folder::io;
use crate::store::{Error, Result};

const MAGIC: u64 = u64::from_le_bytes(*b"LETHECMT");
const PLACE_BYTES: usize = 64;
const SECTOR: u64 = 512;

/// What is known about the last synced commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Committed {
    /// The commit version.
    pub(super) version: u64,
    /// The hash over all batches up to this one.
    pub(super) chain: u128,
    /// Where the engine's sequence numbers stood after the batch: above its own.
    pub(super) sequence_end: u64,
    /// All commits up to this version are in tables, so that the journal is not needed for them.
    pub(super) flushed: u64,
}

/// The open file.
#[derive(Debug)]
pub(super) struct CommittedFile {
    file: File,
    turn: u64,
}

impl CommittedFile {
    /// Creates the file, naming this commit.
    pub(super) fn create(path: &Path, committed: Committed) -> Result<Self> {
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(path);
        let mut created = Self { file: file.map_err(io("create", path))?, turn: 0 };
        created.write(committed)?;
        created.write(committed)?;
        created.file.sync_all().map_err(io("sync", path))?;
        Ok(created)
    }

    /// Opens the file; gives what it names.
    pub(super) fn open(path: &Path) -> Result<(Self, Committed)> {
        let damaged =
            |detail: &str| Error::Corrupt { detail: format!("{}: {detail}", path.display()) };
        let file =
            OpenOptions::new().read(true).write(true).open(path).map_err(io("open", path))?;
        let mut places = Vec::new();
        for turn in 0..2 {
            let mut place = [0; PLACE_BYTES];
            file.read_exact_at(&mut place, turn * SECTOR)
                .map_err(|_| damaged("it is too short"))?;
            places.push(parse(&place).ok_or_else(|| {
                damaged("it does not hold what was written to it; if the other files are whole, restore it from a backup")
            })?);
        }
        let newest = places.into_iter().max_by_key(|(turn, _)| *turn);
        let (turn, committed) = newest.ok_or_else(|| damaged("it is empty"))?;
        Ok((Self { file, turn }, committed))
    }

    /// Names a commit that has been synced.
    pub(super) fn write(&mut self, committed: Committed) -> Result<()> {
        self.turn += 1;
        let place = serialize(self.turn, committed);
        let at = (self.turn % 2) * SECTOR;
        self.file
            .write_all_at(&place, at)
            .map_err(|error| Error::io("cannot write COMMITTED", error))
    }

    /// Makes what was written last durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io("cannot sync COMMITTED", error))
    }
}

fn serialize(turn: u64, committed: Committed) -> [u8; PLACE_BYTES] {
    let mut bytes = Vec::with_capacity(PLACE_BYTES);
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&committed.version.to_le_bytes());
    bytes.extend_from_slice(&committed.chain.to_le_bytes());
    bytes.extend_from_slice(&committed.sequence_end.to_le_bytes());
    bytes.extend_from_slice(&committed.flushed.to_le_bytes());
    bytes.extend_from_slice(&turn.to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    let mut place = [0; PLACE_BYTES];
    place.copy_from_slice(&bytes);
    place
}

fn parse(place: &[u8; PLACE_BYTES]) -> Option<(u64, Committed)> {
    let number = |at: usize| Some(u64::from_le_bytes(place.get(at..at + 8)?.try_into().ok()?));
    let chain = u128::from(number(16)?) | (u128::from(number(24)?) << 64);
    let (version, sequence_end, flushed, turn) =
        (number(8)?, number(32)?, number(40)?, number(48)?);
    let committed = Committed { version, chain, sequence_end, flushed };
    (serialize(turn, committed) == *place).then_some((turn, committed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_commit_is_found_and_every_flipped_byte_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("COMMITTED");
        let commit =
            |version| Committed { version, chain: 7 << 80, sequence_end: version * 2, flushed: 1 };
        let mut file = CommittedFile::create(&path, commit(1)).unwrap();
        for version in 2..5 {
            file.write(commit(version)).unwrap();
            let (mut reopened, found) = CommittedFile::open(&path).unwrap();
            assert_eq!(found, commit(version));
            reopened.write(commit(version)).unwrap();
            assert_eq!(CommittedFile::open(&path).unwrap().1, commit(version));
        }
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            std::fs::write(&path, &flipped).unwrap();
            let whole = CommittedFile::open(&path).map(|(_, found)| found);
            // Between the two places nothing is kept.
            let kept = !(PLACE_BYTES..512).contains(&at);
            assert_eq!(whole.ok(), (!kept).then_some(commit(4)), "byte {at}");
        }
    }
}
