//! The change log of a bucket, where each shard of it ends, what is no longer
//! kept, and who reads it.

use foundationdb_tuple::{Bytes, Versionstamp as TupleVersionstamp};

use super::{after, data, decode, from_tuple, kind, next, oid_of, pack, stamp, stamped};
use crate::codec::{BucketId, DecodeError, RemovalId, Sequence, Versionstamp};

/// `data/<bucket>/change/<shard>/<versionstamp>`, with the version of the
/// writing commit; `order` tells the changes of one commit apart.
#[must_use]
pub fn change_now(bucket: BucketId, shard: u16, order: u16) -> Vec<u8> {
    stamped(&(kind::DATA, bucket.0, data::CHANGE, shard, TupleVersionstamp::incomplete(order)))
}

/// All changes of one shard of a bucket, in commit order.
#[must_use]
pub fn change_prefix(bucket: BucketId, shard: u16) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::CHANGE, shard))
}

/// The first change at or behind a version.
#[must_use]
pub fn change_from(bucket: BucketId, shard: u16, version: Versionstamp) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::CHANGE, shard, stamp(version)))
}

/// # Errors
/// When the key is no `data/<bucket>/change` key.
pub fn parse_change(key: &[u8]) -> Result<(BucketId, u16, Versionstamp, u16), DecodeError> {
    let (_, bucket, _, shard, version): (u16, u64, u16, u16, TupleVersionstamp) =
        decode("change", key)?;
    Ok((BucketId(bucket), shard, from_tuple(&version)?, version.user_version()))
}

/// The first change behind a position.
#[must_use]
pub fn change_behind(bucket: BucketId, shard: u16, sequence: Sequence) -> Vec<u8> {
    let version = TupleVersionstamp::complete(*sequence.version().as_bytes(), sequence.order());
    next(&pack(&(kind::DATA, bucket.0, data::CHANGE, shard, version)))
}

/// `data/<bucket>/head/<shard>`: the version of the last commit that wrote to
/// this shard of the change log, for readers to watch.
#[must_use]
pub fn head(bucket: BucketId, shard: u16) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::HEAD, shard))
}

/// # Errors
/// When the key is no `data/<bucket>/head` key.
pub fn parse_head(key: &[u8]) -> Result<(BucketId, u16), DecodeError> {
    let (_, bucket, _, shard): (u16, u64, u16, u16) = decode("head", key)?;
    Ok((BucketId(bucket), shard))
}

/// The first tombstone that expires at a time of the bucket's own clock, or later.
#[must_use]
pub fn expiring_from(bucket: BucketId, at: i64) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::EXPIRING, at))
}

/// `data/<bucket>/waiting/<version>/<removal>/<oid>`: a tombstone that has expired and
/// waits for readers of the change log, under the version of the commit that deleted it.
#[must_use]
pub fn waiting(
    bucket: BucketId,
    version: Versionstamp,
    removal: RemovalId,
    oid: &[u8; 12],
) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::WAITING, stamp(version), removal.0, Bytes::from(&oid[..])))
}

/// # Errors
/// When the key is no `data/<bucket>/waiting` key.
pub fn parse_waiting(
    key: &[u8],
) -> Result<(BucketId, Versionstamp, RemovalId, [u8; 12]), DecodeError> {
    let (_, bucket, _, version, removal, oid): (u16, u64, u16, TupleVersionstamp, u64, Bytes<'_>) =
        decode("waiting", key)?;
    let oid = oid_of("waiting", &oid)?;
    Ok((BucketId(bucket), from_tuple(&version)?, RemovalId(removal), oid))
}

/// The first tombstone that waits for a reader which has read up to `sequence`.
#[must_use]
pub fn waiting_behind(bucket: BucketId, sequence: Sequence) -> Vec<u8> {
    let version = sequence.version();
    let first = pack(&(kind::DATA, bucket.0, data::WAITING, stamp(version)));
    if sequence == Sequence::end_of(version) { after(&first) } else { first }
}

/// `data/<bucket>/registered`: the last commit that registered a reader of the change
/// log, or took one away.
#[must_use]
pub fn registered(bucket: BucketId) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::REGISTERED))
}

/// `data/<bucket>/floor`: up to where the past of the bucket is no longer kept.
#[must_use]
pub fn floor(bucket: BucketId) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::FLOOR))
}

/// `data/<bucket>/origin`: the buckets whose changes this one takes over.
#[must_use]
pub fn origin(bucket: BucketId) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::ORIGIN))
}

/// `replica/<bucket>/<name>`: a reader of the change log and its checkpoint.
#[must_use]
pub fn replica(bucket: BucketId, name: &str) -> Vec<u8> {
    pack(&(kind::REPLICA, bucket.0, name))
}

/// All readers of a bucket's change log.
#[must_use]
pub fn replica_prefix(bucket: BucketId) -> Vec<u8> {
    pack(&(kind::REPLICA, bucket.0))
}

/// # Errors
/// When the key is no `replica` key.
pub fn parse_replica(key: &[u8]) -> Result<(BucketId, String), DecodeError> {
    let (_, bucket, name): (u16, u64, String) = decode("replica", key)?;
    Ok((BucketId(bucket), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::keys::change_from;

    #[test]
    fn the_first_change_behind_a_position_is_behind_it_and_before_the_next() {
        let (bucket, version) = (BucketId(9), Versionstamp::new(5, 2));
        let entry = |order| {
            let version = TupleVersionstamp::complete(*version.as_bytes(), order);
            pack(&(kind::DATA, bucket.0, data::CHANGE, 3_u16, version))
        };
        let behind = change_behind(bucket, 3, Sequence::new(version, 7));
        assert!(entry(7) < behind && behind < entry(8));
        assert!(change_behind(bucket, 3, Sequence::START) < change_from(bucket, 3, version));
        let end = change_behind(bucket, 3, Sequence::end_of(version));
        assert!(entry(u16::MAX) < end && end < change_from(bucket, 3, Versionstamp::new(5, 3)));
    }

    #[test]
    fn what_a_reader_has_passed_waits_in_front_of_what_it_has_not() {
        let bucket = BucketId(9);
        let at = |version| waiting(bucket, version, RemovalId(u64::MAX), &[0xff; 12]);
        let (passed, next) = (Versionstamp::new(5, 2), Versionstamp::new(5, 3));
        let end = waiting_behind(bucket, Sequence::end_of(passed));
        assert!(at(passed) < end && end < at(next));
        let half = waiting_behind(bucket, Sequence::new(passed, 7));
        assert!(at(Versionstamp::new(5, 1)) < half && half < at(passed));
        let key = at(passed);
        assert_eq!(parse_waiting(&key).unwrap(), (bucket, passed, RemovalId(u64::MAX), [0xff; 12]));
    }

    #[test]
    fn keys_read_back() {
        let key = replica(BucketId(300), "b\0c");
        assert_eq!(parse_replica(&key).unwrap(), (BucketId(300), "b\0c".to_owned()));
        assert!(key.starts_with(&replica_prefix(BucketId(300))));
        assert_eq!(parse_head(&head(BucketId(1), 6)).unwrap(), (BucketId(1), 6));
        assert!(parse_head(&floor(BucketId(1))).is_err());
    }
}
