//! The bounds of the contract. They are FoundationDB's and hold on every
//! engine, so that what works on one works on all.

use std::time::Duration;

use super::{Error, Result};

/// Longest key, in bytes: FoundationDB's 10,000 without what `PREFIX_BYTES_MAX` and the offset behind a versionstamped
/// key may need.
pub const KEY_BYTES_MAX: usize = 9_900;
/// Longest prefix of all keys of one store, packed, where several share a FoundationDB.
#[cfg(feature = "foundationdb")]
pub(super) const PREFIX_BYTES_MAX: usize = 96;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 100_000;
/// Most bytes of one transaction: keys, values and conflict ranges.
pub const TRANSACTION_BYTES_MAX: usize = 10_000_000;
/// What FoundationDB counts for a write beside its bytes: the mutation and its conflict range.
pub(super) const WRITE_BYTES: usize = 80;
/// What it counts for a read conflict beside its bytes.
pub(super) const READ_BYTES: usize = 28;
/// Longest life of a snapshot.
pub const TRANSACTION_TIME_MAX: Duration = Duration::from_secs(5);
/// Most watches of one store, armed or about to be.
pub const WATCHES_MAX: usize = 10_000;
/// Rows of a page when the reader sets no limit.
pub const PAGE_ROWS: usize = 10_000;
/// Bytes of a page when the reader sets no limit.
pub const PAGE_BYTES: usize = 1 << 20;
/// How long [`super::Store::run`] tries before it hands out the last error.
pub const RETRY_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes of a versionstamp in a key or value.
pub(super) const VERSIONSTAMP_BYTES: usize = 10;
/// First byte of the keys that belong to the store itself.
pub(super) const SYSTEM: u8 = 0xff;

/// A key that may be read or written.
pub(super) fn check_key(key: &[u8]) -> Result<()> {
    if key.first() == Some(&SYSTEM) {
        return Err(Error::KeyOutsideLegalRange);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::KeyTooLarge { size: key.len(), limit: KEY_BYTES_MAX });
    }
    Ok(())
}

/// A value that may be written.
pub(super) fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::ValueTooLarge { size: value.len(), limit: VALUE_BYTES_MAX });
    }
    Ok(())
}

/// A range of keys that may be read or written; its end may be `\xff` itself.
pub(super) fn check_range(begin: &[u8], end: &[u8]) -> Result<()> {
    check_bound(begin)?;
    check_bound(end)?;
    if begin > end {
        return Err(Error::InvertedRange);
    }
    Ok(())
}

/// One byte longer than a key is allowed: the key that follows the longest key.
fn check_bound(bound: &[u8]) -> Result<()> {
    if bound > [SYSTEM].as_slice() {
        return Err(Error::KeyOutsideLegalRange);
    }
    if bound.len() > KEY_BYTES_MAX + 1 {
        return Err(Error::KeyTooLarge { size: bound.len(), limit: KEY_BYTES_MAX });
    }
    Ok(())
}
