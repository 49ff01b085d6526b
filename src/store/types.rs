//! The plain values of the contract.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::limits::{PAGE_BYTES, PAGE_ROWS, SYSTEM};
use crate::codec::Versionstamp;
use crate::meter::Distribution;

/// Whether what is read must still hold at commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// The commit fails if another transaction has written it since.
    Conflict,
    /// Nobody minds.
    Snapshot,
}

/// A range to read: from `begin` (included) to `end` (excluded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRead {
    pub begin: Vec<u8>,
    pub end: Vec<u8>,
    /// From the end to the beginning.
    pub reverse: bool,
    /// Most rows of the page.
    pub limit: usize,
    /// The page ends with the row that reaches so many bytes of keys and values.
    pub bytes: usize,
    pub read: Read,
}

impl RangeRead {
    /// Forward, with conflicts, bounded by [`PAGE_ROWS`] and [`PAGE_BYTES`].
    pub fn new(begin: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self {
            begin: begin.into(),
            end: end.into(),
            reverse: false,
            limit: PAGE_ROWS,
            bytes: PAGE_BYTES,
            read: Read::Conflict,
        }
    }

    /// All keys that start with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let begin = prefix.into();
        let end = prefix_end(&begin);
        Self::new(begin, end)
    }

    /// The same range from its end.
    #[must_use]
    pub fn reverse(self) -> Self {
        Self { reverse: true, ..self }
    }

    /// At most so many rows.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// At most about so many bytes.
    #[must_use]
    pub fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// Without read conflicts.
    #[must_use]
    pub fn snapshot(self) -> Self {
        Self { read: Read::Snapshot, ..self }
    }

    /// What to read after `page`, which was read with this range; `None` when it was the last.
    pub fn after(&self, page: &Page) -> Option<Self> {
        if !page.more {
            return None;
        }
        let (last, _) = page.rows.last()?;
        let mut next = self.clone();
        if self.reverse {
            next.end = last.to_vec();
        } else {
            next.begin = key_after(last);
        }
        Some(next)
    }
}

/// A part of a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values in the order asked for.
    pub rows: Vec<(Bytes, Bytes)>,
    /// The page ended at a limit, so there may be more: see [`RangeRead::after`].
    pub more: bool,
}

/// A change that needs no read of the old value. A missing value is the operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomic {
    /// Little-endian sum, wrapping, in as many bytes as the operand has.
    Add,
    /// The smaller little-endian unsigned number, in as many bytes as the operand has.
    Min,
    /// The larger one.
    Max,
    /// The value that sorts first.
    ByteMin,
    /// The value that sorts last.
    ByteMax,
}

impl Atomic {
    /// The value after the change.
    pub(super) fn apply(self, old: Option<&[u8]>, operand: &Bytes) -> Bytes {
        let Some(old) = old else { return operand.clone() };
        // As FoundationDB: the old number is cut or extended to the operand's length.
        let sized = || old.iter().copied().chain(std::iter::repeat(0)).take(operand.len());
        match self {
            Self::Add => {
                let mut carry = 0u16;
                let sum = sized().zip(operand.iter()).map(|(a, b)| {
                    let sum = u16::from(a) + u16::from(*b) + carry;
                    carry = sum >> 8;
                    sum.to_le_bytes()[0]
                });
                sum.collect()
            }
            Self::Min | Self::Max => {
                let old: Vec<u8> = sized().collect();
                let old_is_larger = old.iter().rev().gt(operand.iter().rev());
                if old_is_larger == (self == Self::Max) { old.into() } else { operand.clone() }
            }
            Self::ByteMin => Bytes::copy_from_slice(old.min(operand)),
            Self::ByteMax => Bytes::copy_from_slice(old.max(operand)),
        }
    }
}

/// A commit that has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The commit version; of a read-only transaction, its read version.
    pub version: u64,
    /// What filled the places for versionstamps; `None` for a read-only transaction.
    pub versionstamp: Option<Versionstamp>,
}

/// Which FoundationDB a store lies in, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundationDbOptions {
    /// The cluster file; by default that of `FDB_CLUSTER_FILE`, then `fdb.cluster` here, then
    /// `/etc/foundationdb/fdb.cluster`.
    pub cluster_file: Option<PathBuf>,
    /// Stores with different prefixes do not see each other.
    pub key_prefix: String,
    /// How long FoundationDB may take for the reads of a transaction, and for its commit.
    pub timeout: Duration,
}

impl Default for FoundationDbOptions {
    fn default() -> Self {
        Self {
            cluster_file: None,
            key_prefix: "lethe".to_owned(),
            timeout: Duration::from_secs(10),
        }
    }
}

/// What [`super::Store::run`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome<T> {
    /// What the body returned in the attempt that was committed.
    pub value: T,
    /// `None`: found committed by its token after an unknown result, so the version is not known.
    pub committed: Option<Committed>,
    /// How often the body was started.
    pub attempts: u32,
}

/// How far the bytes below a dropped prefix have been given back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// Nothing below the prefix is left on disk.
    pub done: bool,
    /// Bytes on disk still to be looked through; `None`: the engine cannot tell.
    pub pending_bytes: Option<u64>,
    /// Bytes on disk given back since the drop; `None`: the engine cannot tell.
    pub returned_bytes: Option<u64>,
}

/// Counters of a store since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions that wrote and committed.
    pub commits: u64,
    /// Keys and pages of ranges that the engine was asked for. Those of one transaction share its snapshot, and what is asked
    /// for together costs one round trip where the engine is on the network.
    pub reads: u64,
    /// Commits refused because of a conflict.
    pub conflicts: u64,
    /// Batches written; `commits / batches` is the mean group size.
    pub batches: u64,
    /// Commits in the largest batch.
    pub batch_max: u64,
    /// Syncs of the journal to disk.
    pub fsyncs: u64,
    /// Transactions begun and neither committed nor dropped.
    pub open_transactions: u64,
    /// Watches armed or about to be.
    pub watches: u64,
    /// The last commit version.
    pub version: u64,
    /// Write ranges kept to find conflicts.
    pub history: u64,
    /// Dropped prefixes whose bytes are not all given back.
    pub dropped_prefixes: u64,
    /// Bytes of the tables on disk, without the journal; 0 for an engine in memory.
    pub disk_bytes: u64,
    /// Bytes of keys and values written.
    pub written_bytes: u64,
    /// Commits in each batch.
    pub batch_sizes: Distribution<11>,
    /// Microseconds that each batch took to be written and made durable.
    pub batch_times: Distribution<17>,
    /// What the user of this handle has asked for.
    pub transactions: Transactions,
}

/// How the transactions of one user of a store ended, each attempt counted. What was begun by hand and
/// not by [`super::Store::run`] is only counted as begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transactions {
    /// Transactions begun.
    pub begun: u64,
    /// Committed, also where nothing was written.
    pub committed: u64,
    /// Refused because of a conflict.
    pub conflicts: u64,
    /// Ended because their snapshot was too old, or too new for the server asked.
    pub too_old: u64,
    /// Commits whose result was not known.
    pub unknown: u64,
    /// Ended by another error of the store.
    pub failed: u64,
    /// Given up by what runs in them: a name is taken, a bucket removed.
    pub given_up: u64,
    /// Attempts after the first.
    pub retries: u64,
}

/// The first key that sorts after `key`.
pub fn key_after(key: &[u8]) -> Vec<u8> {
    let mut after = Vec::with_capacity(key.len() + 1);
    after.extend_from_slice(key);
    after.push(0);
    after
}

/// The first key that sorts after all keys with this prefix; `\xff` at most.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    vec![SYSTEM]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: Atomic, old: Option<&[u8]>, operand: &'static [u8], expected: &[u8]) {
        assert_eq!(op.apply(old, &Bytes::from_static(operand)), expected);
    }

    #[test]
    fn add_wraps_and_takes_the_length_of_the_operand() {
        check(Atomic::Add, None, &[1, 0], &[1, 0]);
        check(Atomic::Add, Some(&[255, 0]), &[1, 0], &[0, 1]);
        check(Atomic::Add, Some(&[255, 255]), &[1, 0], &[0, 0]);
        check(Atomic::Add, Some(&[5]), &[1, 0, 0], &[6, 0, 0]);
        check(Atomic::Add, Some(&[5, 9, 9]), &[1], &[6]);
    }

    #[test]
    fn min_and_max_compare_numbers_and_the_byte_forms_compare_bytes() {
        check(Atomic::Max, Some(&[0, 1]), &[255, 0], &[0, 1]);
        check(Atomic::Min, Some(&[0, 1]), &[255, 0], &[255, 0]);
        check(Atomic::Min, None, &[7], &[7]);
        check(Atomic::ByteMax, Some(b"a"), b"ab", b"ab");
        check(Atomic::ByteMin, Some(b"b"), b"ab", b"ab");
    }

    #[test]
    fn the_end_of_a_prefix_skips_trailing_ff() {
        assert_eq!(prefix_end(b"a"), b"b");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b""), b"\xff");
    }
}
