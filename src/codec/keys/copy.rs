//! The keys of copies: which there are, and how far each is.

use foundationdb_tuple::Versionstamp as TupleVersionstamp;

use super::{data, decode, kind, pack};
use crate::codec::{BucketId, DecodeError, Sequence};

/// `copy/<source>/<copy>`: the queue of the copies that are being made.
#[must_use]
pub fn queued(source: BucketId, copy: BucketId) -> Vec<u8> {
    pack(&(kind::COPY, source.0, copy.0))
}

/// The copies that are being made of one bucket.
#[must_use]
pub fn queued_prefix(source: BucketId) -> Vec<u8> {
    pack(&(kind::COPY, source.0))
}

/// # Errors
/// When the key is no `copy` key.
pub fn parse_queued(key: &[u8]) -> Result<(BucketId, BucketId), DecodeError> {
    let (_, source, copy): (u16, u64, u64) = decode("copy", key)?;
    Ok((BucketId(source), BucketId(copy)))
}

/// `copy-signal`: rewritten when there may be a copy that was not there or
/// could not go on, so that workers can watch it.
#[must_use]
pub fn signal() -> Vec<u8> {
    pack(&(kind::COPY_SIGNAL,))
}

/// `data/<copy>/copy`: how far the copy is.
#[must_use]
pub fn progress(copy: BucketId) -> Vec<u8> {
    pack(&(kind::DATA, copy.0, data::COPY))
}

/// `data/<bucket>/change/<shard>/<versionstamp>`: the change at a position.
#[must_use]
pub fn change(bucket: BucketId, shard: u16, at: Sequence) -> Vec<u8> {
    let version = TupleVersionstamp::complete(*at.version().as_bytes(), at.order());
    pack(&(kind::DATA, bucket.0, data::CHANGE, shard, version))
}
