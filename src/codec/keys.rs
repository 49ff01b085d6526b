//! The key space: one function per key, in the order of docs/keyspace.md.
//!
//! Every key is a tuple whose first element tells the kind. A function named
//! after a kind makes a key; one ending in `_prefix` makes the prefix of all
//! keys of that kind (or below an id); [`range`] turns a prefix into the bounds
//! of a range read. Functions named `parse_...` take keys apart again.

use foundationdb_tuple::{
    Bytes, TuplePack, TupleUnpack, Versionstamp as TupleVersionstamp, unpack,
};

use super::{BucketId, DecodeError, NamespaceId, RemovalId, Sequence, Versionstamp};

pub mod copy;
pub mod feed;
pub mod index;
mod removal;

pub use removal::*;

pub use feed::{change_from, change_now, change_prefix, parse_change};

/// The kinds of keys. The numbers are on disk: never change or reuse one.
pub mod kind {
    pub const CLUSTER: u16 = 1;
    pub const NEXT_ID: u16 = 2;
    pub const NAMESPACE_NAME: u16 = 10;
    pub const NAMESPACE_RECORD: u16 = 11;
    pub const BUCKET_NAME: u16 = 12;
    pub const BUCKET_RECORD: u16 = 13;
    pub const FENCE: u16 = 14;
    pub const REMOVAL: u16 = 20;
    pub const RETENTION: u16 = 21;
    pub const HOLD: u16 = 22;
    pub const REMOVED_BY_NAME: u16 = 23;
    pub const REMOVED_BY_TIME: u16 = 24;
    pub const REMOVAL_OF: u16 = 25;
    pub const RESERVED_NAME: u16 = 26;
    pub const EXPIRY: u16 = 27;
    pub const REQUEST: u16 = 28;
    pub const GRAVE: u16 = 29;
    pub const RECLAIM: u16 = 30;
    pub const INDEX_TASK: u16 = 31;
    pub const INDEX_TASK_SIGNAL: u16 = 32;
    pub const REMOVED_NAMESPACE_BY_NAME: u16 = 33;
    pub const REMOVED_NAMESPACE_BY_TIME: u16 = 34;
    pub const COPY: u16 = 35;
    pub const COPY_SIGNAL: u16 = 36;
    pub const RESERVED_NAMESPACE_NAME: u16 = 37;
    pub const GUARD: u16 = 38;
    pub const PARKED: u16 = 39;
    pub const DATA: u16 = 40;
    pub const JOURNAL: u16 = 50;
    pub const JOURNAL_HEAD: u16 = 51;
    pub const MEMBER: u16 = 52;
    pub const BEAT: u16 = 53;
    pub const SEEN: u16 = 54;
    pub const SHARD: u16 = 55;
    pub const WITNESS: u16 = 56;
    pub const BUSY: u16 = 57;
    pub const BARRIER_SIGNAL: u16 = 58;
    pub const OBSERVER: u16 = 59;
    pub const CLUSTER_TIME: u16 = 60;
    pub const PURGE_PAUSE: u16 = 61;
    pub const REPLICA: u16 = 62;
    pub const MEMBERSHIP_SIGNAL: u16 = 63;
    pub const JOURNAL_MARK: u16 = 64;
    pub const DUE_SIGNAL: u16 = 65;
    pub const OPERATION: u16 = 70;
    pub const ATTEMPT: u16 = 71;
    pub const AUDIT: u16 = 72;
    pub const USER: u16 = 73;
    pub const USERS_SIGNAL: u16 = 74;
}

/// What stands below `data/<bucket>/`.
pub mod data {
    pub const DOCUMENT: u16 = 1;
    pub const BODY: u16 = 2;
    pub const CHANGE: u16 = 3;
    pub const COUNT: u16 = 4;
    pub const INDEX: u16 = 5;
    pub const TOMBSTONE: u16 = 6;
    pub const DELETED_BY: u16 = 7;
    pub const TRIM: u16 = 8;
    pub const INDEX_MARK: u16 = 9;
    pub const INDEX_COUNT: u16 = 10;
    pub const INDEX_TASK: u16 = 11;
    pub const HISTOGRAM: u16 = 12;
    pub const EXPIRING: u16 = 16;
    pub const VACUUM: u16 = 17;
    pub const TTL: u16 = 18;
    pub const WAITING: u16 = 19;
    pub const HEAD: u16 = 20;
    pub const FLOOR: u16 = 21;
    pub const ORIGIN: u16 = 22;
    pub const REGISTERED: u16 = 23;
    pub const COPY: u16 = 24;
}

/// The bounds `[begin, end)` of all keys with a prefix.
#[must_use]
pub fn range(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (prefix.to_vec(), after(prefix))
}

/// The first key behind all keys with a prefix. Prefixes of our key space never
/// consist of `0xff` only.
#[must_use]
pub fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The first key behind this one.
#[must_use]
pub fn next(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// Bytes for which a key has room from the start: few are longer, and none is built of pieces that grow.
const KEY_BYTES: usize = 64;

fn pack<K: TuplePack>(key: &K) -> Vec<u8> {
    let mut packed = Vec::with_capacity(KEY_BYTES);
    key.pack_into_vec(&mut packed);
    packed
}

fn decode<'de, T: TupleUnpack<'de>>(what: &'static str, key: &'de [u8]) -> Result<T, DecodeError> {
    unpack(key).map_err(|error| DecodeError::new(what, error))
}

/// The first element of a key: its kind.
///
/// # Errors
/// When the key does not begin with a small integer.
pub fn kind_of(key: &[u8]) -> Result<u16, DecodeError> {
    match key {
        [0x15, kind, ..] => Ok(u16::from(*kind)),
        _ => Err(DecodeError::new("key", "it does not begin with a kind")),
    }
}

/// The prefix of all keys of a kind.
#[must_use]
pub fn kind_prefix(kind: u16) -> Vec<u8> {
    pack(&(kind,))
}

fn stamp(version: Versionstamp) -> TupleVersionstamp {
    TupleVersionstamp::complete(*version.as_bytes(), 0)
}

fn stamped<K: TuplePack>(key: &K) -> Vec<u8> {
    let mut packed = Vec::with_capacity(KEY_BYTES);
    key.pack_into_vec_with_versionstamp(&mut packed);
    packed
}

/// `cluster`: what all nodes must agree on ([`super::record::ClusterRecord`]).
#[must_use]
pub fn cluster() -> Vec<u8> {
    pack(&(kind::CLUSTER,))
}

/// `next-id`: the first id of the next block, as a little-endian counter.
#[must_use]
pub fn next_id() -> Vec<u8> {
    pack(&(kind::NEXT_ID,))
}

/// `namespace/name/<parent>/<segment>` -> id of the active namespace there.
#[must_use]
pub fn namespace_name(parent: NamespaceId, segment: &str) -> Vec<u8> {
    pack(&(kind::NAMESPACE_NAME, parent.0, segment))
}

/// All names directly below a namespace.
#[must_use]
pub fn namespace_name_prefix(parent: NamespaceId) -> Vec<u8> {
    pack(&(kind::NAMESPACE_NAME, parent.0))
}

/// # Errors
/// When the key is no `namespace/name` key.
pub fn parse_namespace_name(key: &[u8]) -> Result<(NamespaceId, String), DecodeError> {
    let (_, parent, segment): (u16, u64, String) = decode("namespace/name", key)?;
    Ok((NamespaceId(parent), segment))
}

/// `namespace/record/<id>`.
#[must_use]
pub fn namespace_record(id: NamespaceId) -> Vec<u8> {
    pack(&(kind::NAMESPACE_RECORD, id.0))
}

/// `bucket/name/<namespace>/<name>` -> id of the active bucket of that name.
#[must_use]
pub fn bucket_name(namespace: NamespaceId, name: &str) -> Vec<u8> {
    pack(&(kind::BUCKET_NAME, namespace.0, name))
}

/// All active bucket names of a namespace.
#[must_use]
pub fn bucket_name_prefix(namespace: NamespaceId) -> Vec<u8> {
    pack(&(kind::BUCKET_NAME, namespace.0))
}

/// # Errors
/// When the key is no `bucket/name` key.
pub fn parse_bucket_name(key: &[u8]) -> Result<(NamespaceId, String), DecodeError> {
    let (_, namespace, name): (u16, u64, String) = decode("bucket/name", key)?;
    Ok((NamespaceId(namespace), name))
}

/// `bucket/record/<id>`.
#[must_use]
pub fn bucket_record(id: BucketId) -> Vec<u8> {
    pack(&(kind::BUCKET_RECORD, id.0))
}

/// `fence/<id>` of a bucket or a namespace: a versionstamp; absent means gone.
#[must_use]
pub fn fence(object: u64) -> Vec<u8> {
    pack(&(kind::FENCE, object))
}

/// `removal/<id>`: ten bytes of version, then the record.
#[must_use]
pub fn removal(id: RemovalId) -> Vec<u8> {
    pack(&(kind::REMOVAL, id.0))
}

/// `retention/<removal>` -> when it expires.
#[must_use]
pub fn retention(id: RemovalId) -> Vec<u8> {
    pack(&(kind::RETENTION, id.0))
}

/// `hold/<removal>`: an order that this must not be purged.
#[must_use]
pub fn hold(id: RemovalId) -> Vec<u8> {
    pack(&(kind::HOLD, id.0))
}

/// `removal-of/<object>` -> the removal in which an instance is.
#[must_use]
pub fn removal_of(object: u64) -> Vec<u8> {
    pack(&(kind::REMOVAL_OF, object))
}

/// `expiry/<time>/<what>/<id>`: what is due when. The time is in milliseconds
/// since 1970; `what` is one of the constants of [`due`].
#[must_use]
pub fn expiry(at: i64, what: u16, id: &[u8]) -> Vec<u8> {
    pack(&(kind::EXPIRY, at, what, id))
}

/// What an expiry row points at.
pub mod due {
    /// The id is a removal's number, eight bytes big-endian.
    pub const REMOVAL: u16 = 1;
    /// The id is the key of an operation row.
    pub const OPERATION: u16 = 2;
    /// The id is a removal's number: its grave.
    pub const GRAVE: u16 = 3;
    /// The id is a bucket's number: its change log is to be trimmed.
    pub const TRIM: u16 = 4;
    /// The id is the number of a namespace that is active again: what was parked below it is due.
    pub const UNPARK: u16 = 5;
    /// The id is a bucket's number: tombstones in it may have expired.
    pub const VACUUM: u16 = 10;
    /// The id is a bucket's number: documents in it may have expired by their TTL.
    pub const TTL: u16 = 12;
}

/// # Errors
/// When the key is no `expiry` key.
pub fn parse_expiry(key: &[u8]) -> Result<(i64, u16, Vec<u8>), DecodeError> {
    let (_, at, what, id): (u16, i64, u16, Vec<u8>) = decode("expiry", key)?;
    Ok((at, what, id))
}

/// The `expiry` row by which what is parked under a namespace is put back: due at once,
/// whatever the clocks have shown when that was asked for.
#[must_use]
pub fn unpark(namespace: NamespaceId) -> Vec<u8> {
    expiry(0, due::UNPARK, &namespace.0.to_be_bytes())
}

/// `request/<removal>`: a purge that was asked for and waits.
#[must_use]
pub fn request(id: RemovalId) -> Vec<u8> {
    pack(&(kind::REQUEST, id.0))
}

/// `grave/<removal>`: what was purged, when, by whom.
#[must_use]
pub fn grave(id: RemovalId) -> Vec<u8> {
    pack(&(kind::GRAVE, id.0))
}

/// `reclaim/<removal>`: a prefix that is being destroyed physically.
#[must_use]
pub fn reclaim(id: RemovalId) -> Vec<u8> {
    pack(&(kind::RECLAIM, id.0))
}

/// The number behind the kind, of the keys that are a kind and one number.
///
/// # Errors
/// When the key has another form.
pub fn parse_number(what: &'static str, key: &[u8]) -> Result<u64, DecodeError> {
    let (_, number): (u16, u64) = decode(what, key)?;
    Ok(number)
}

/// `data/<bucket>/`: everything that a bucket holds. Purge drops it whole.
#[must_use]
pub fn data_prefix(bucket: BucketId) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0))
}

/// `data/<bucket>/<part>/`, with a part from [`data`].
#[must_use]
pub fn data_part(bucket: BucketId, part: u16) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, part))
}

/// `data/<bucket>/doc/<oid>`.
#[must_use]
pub fn document(bucket: BucketId, oid: &[u8; 12]) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::DOCUMENT, Bytes::from(&oid[..])))
}

/// # Errors
/// When the key is no `data/<bucket>/doc` key.
pub fn parse_document(key: &[u8]) -> Result<(BucketId, [u8; 12]), DecodeError> {
    let (_, bucket, _, oid): (u16, u64, u16, Bytes<'_>) = decode("document", key)?;
    Ok((BucketId(bucket), oid_of("document", &oid)?))
}

/// `data/<bucket>/body/<body>/<chunk>`.
#[must_use]
pub fn body_chunk(bucket: BucketId, body: u64, chunk: u32) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::BODY, body, chunk))
}

/// All chunks of one body.
#[must_use]
pub fn body_prefix(bucket: BucketId, body: u64) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::BODY, body))
}

/// # Errors
/// When the key is no `data/<bucket>/body` key.
pub fn parse_body_chunk(key: &[u8]) -> Result<(BucketId, u64, u32), DecodeError> {
    let (_, bucket, _, body, chunk): (u16, u64, u16, u64, u32) = decode("body", key)?;
    Ok((BucketId(bucket), body, chunk))
}

/// `data/<bucket>/count/<shard>/<what>`: a little-endian signed 64-bit sum.
#[must_use]
pub fn count(bucket: BucketId, shard: u16, what: u16) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::COUNT, shard, what))
}

/// What a count key counts.
pub mod counted {
    pub const DOCUMENTS: u16 = 1;
    pub const BYTES: u16 = 2;
    pub const TOMBSTONES: u16 = 3;
}

/// # Errors
/// When the key is no `data/<bucket>/count` key.
pub fn parse_count(key: &[u8]) -> Result<(BucketId, u16, u16), DecodeError> {
    let (_, bucket, _, shard, what): (u16, u64, u16, u16, u16) = decode("count", key)?;
    Ok((BucketId(bucket), shard, what))
}

/// `data/<bucket>/trim/<time>`: says that `expiry/<time>` has a row for this
/// bucket, so that whoever takes the bucket away finds it.
#[must_use]
pub fn trim(bucket: BucketId, at: i64) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::TRIM, at))
}

/// # Errors
/// When the key is no `data/<bucket>/trim` key.
pub fn parse_trim(key: &[u8]) -> Result<(BucketId, i64), DecodeError> {
    let (_, bucket, _, at): (u16, u64, u16, i64) = decode("trim", key)?;
    Ok((BucketId(bucket), at))
}

/// `data/<bucket>/tombstone/<oid>/<removal>`.
#[must_use]
pub fn tombstone(bucket: BucketId, oid: &[u8; 12], removal: RemovalId) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::TOMBSTONE, Bytes::from(&oid[..]), removal.0))
}

/// All tombstones of one `_id`.
#[must_use]
pub fn tombstone_prefix(bucket: BucketId, oid: &[u8; 12]) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::TOMBSTONE, Bytes::from(&oid[..])))
}

/// # Errors
/// When the key is no `data/<bucket>/tombstone` key.
pub fn parse_tombstone(key: &[u8]) -> Result<(BucketId, [u8; 12], RemovalId), DecodeError> {
    let (_, bucket, _, oid, removal): (u16, u64, u16, Bytes<'_>, u64) = decode("tombstone", key)?;
    Ok((BucketId(bucket), oid_of("tombstone", &oid)?, RemovalId(removal)))
}

/// `data/<bucket>/deleted-by/<removal>/<oid>`.
#[must_use]
pub fn deleted_by(bucket: BucketId, removal: RemovalId, oid: &[u8; 12]) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::DELETED_BY, removal.0, Bytes::from(&oid[..])))
}

/// What one removal deleted, in the order of ids.
#[must_use]
pub fn deleted_by_prefix(bucket: BucketId, removal: RemovalId) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::DELETED_BY, removal.0))
}

/// # Errors
/// When the key is no `data/<bucket>/deleted-by` key.
pub fn parse_deleted_by(key: &[u8]) -> Result<(BucketId, RemovalId, [u8; 12]), DecodeError> {
    let (_, bucket, _, removal, oid): (u16, u64, u16, u64, Bytes<'_>) = decode("deleted-by", key)?;
    Ok((BucketId(bucket), RemovalId(removal), oid_of("deleted-by", &oid)?))
}

/// The time of what never comes due.
pub const NEVER: i64 = i64::MAX;

/// `data/<bucket>/expiring/<time>/<removal>/<oid>`: the tombstone that expires
/// at this time of the bucket's own clock, or [`NEVER`].
#[must_use]
pub fn expiring(bucket: BucketId, at: i64, removal: RemovalId, oid: &[u8; 12]) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::EXPIRING, at, removal.0, Bytes::from(&oid[..])))
}

/// # Errors
/// When the key is no `data/<bucket>/expiring` key.
pub fn parse_expiring(key: &[u8]) -> Result<(BucketId, i64, RemovalId, [u8; 12]), DecodeError> {
    let (_, bucket, _, at, removal, oid): (u16, u64, u16, i64, u64, Bytes<'_>) =
        decode("expiring", key)?;
    Ok((BucketId(bucket), at, RemovalId(removal), oid_of("expiring", &oid)?))
}

fn oid_of(what: &'static str, oid: &[u8]) -> Result<[u8; 12], DecodeError> {
    <[u8; 12]>::try_from(oid).map_err(|_| DecodeError::new(what, "its id has not twelve bytes"))
}

/// `data/<bucket>/vacuum/<time>`: says that `expiry/<time>` has a row for this
/// bucket's tombstones, so that whoever takes the bucket away finds it.
#[must_use]
pub fn vacuum(bucket: BucketId, at: i64) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::VACUUM, at))
}

/// # Errors
/// When the key is no `data/<bucket>/vacuum` key.
pub fn parse_vacuum(key: &[u8]) -> Result<(BucketId, i64), DecodeError> {
    let (_, bucket, _, at): (u16, u64, u16, i64) = decode("vacuum", key)?;
    Ok((BucketId(bucket), at))
}

/// `data/<bucket>/ttl`: how far the search for documents that have expired by
/// their TTL has come.
#[must_use]
pub fn ttl(bucket: BucketId) -> Vec<u8> {
    data_part(bucket, data::TTL)
}

/// The bucket and the part of any key below `data/`.
///
/// # Errors
/// When the key does not begin like one.
pub fn parse_data(key: &[u8]) -> Result<(BucketId, u16), DecodeError> {
    // Bucket ids and parts are integers: their length stands in their first byte.
    let wrong = || DecodeError::new("data", "neither bucket nor part");
    let length = usize::from(key.get(2).ok_or_else(wrong)?.checked_sub(0x14).ok_or_else(wrong)?);
    if length > 8 {
        return Err(wrong());
    }
    let head = key.get(..length + 5).ok_or_else(wrong)?;
    let (_, bucket, part): (u16, u64, u16) = decode("data", head)?;
    Ok((BucketId(bucket), part))
}

/// `journal/<versionstamp>` with the version of the writing commit.
#[must_use]
pub fn journal_now(order: u16) -> Vec<u8> {
    stamped(&(kind::JOURNAL, TupleVersionstamp::incomplete(order)))
}

/// `journal/<versionstamp>`: the first event at or behind a version.
#[must_use]
pub fn journal_from(version: Versionstamp) -> Vec<u8> {
    pack(&(kind::JOURNAL, stamp(version)))
}

/// The first journal key behind all events of a version.
#[must_use]
pub fn journal_after(version: Versionstamp) -> Vec<u8> {
    after(&pack(&(kind::JOURNAL, TupleVersionstamp::complete(*version.as_bytes(), u16::MAX))))
}

/// # Errors
/// When the key is no `journal` key.
pub fn parse_journal(key: &[u8]) -> Result<Versionstamp, DecodeError> {
    let (_, version): (u16, TupleVersionstamp) = decode("journal", key)?;
    from_tuple(&version)
}

/// `journal-head`: rewritten with each event, so that followers can watch it.
#[must_use]
pub fn journal_head() -> Vec<u8> {
    pack(&(kind::JOURNAL_HEAD,))
}

/// `member/<node>`.
#[must_use]
pub fn member(node: &str) -> Vec<u8> {
    pack(&(kind::MEMBER, node))
}

/// `beat/<node>`: heartbeat counter and clock.
#[must_use]
pub fn beat(node: &str) -> Vec<u8> {
    pack(&(kind::BEAT, node))
}

/// `seen/<node>`: how far the node has applied the journal.
#[must_use]
pub fn seen(node: &str) -> Vec<u8> {
    pack(&(kind::SEEN, node))
}

/// The node name of a `member`, `beat` or `seen` key.
///
/// # Errors
/// When the key has another form.
pub fn parse_node(key: &[u8]) -> Result<String, DecodeError> {
    let (_, node): (u16, String) = decode("node", key)?;
    Ok(node)
}

/// `shard/<n>` -> owner and epoch.
#[must_use]
pub fn shard(shard: u16) -> Vec<u8> {
    pack(&(kind::SHARD, shard))
}

/// `witness/<n>`: how far the shard's owner has applied the journal for it.
#[must_use]
pub fn witness(shard: u16) -> Vec<u8> {
    pack(&(kind::WITNESS, shard))
}

/// The shard of a `shard` or `witness` key.
///
/// # Errors
/// When the key has another form.
pub fn parse_shard(key: &[u8]) -> Result<u16, DecodeError> {
    let (_, shard): (u16, u16) = decode("shard", key)?;
    Ok(shard)
}

/// `busy/<object>/<node>/<scope>`: the scope is a shard number, or -1 for work
/// of the member itself.
#[must_use]
pub fn busy(object: u64, node: &str, scope: i32) -> Vec<u8> {
    pack(&(kind::BUSY, object, node, scope))
}

/// All busy rows of an object.
#[must_use]
pub fn busy_prefix(object: u64) -> Vec<u8> {
    pack(&(kind::BUSY, object))
}

/// All busy rows of one node for an object.
#[must_use]
pub fn busy_of_node_prefix(object: u64, node: &str) -> Vec<u8> {
    pack(&(kind::BUSY, object, node))
}

/// # Errors
/// When the key is no `busy` key.
pub fn parse_busy(key: &[u8]) -> Result<(u64, String, i32), DecodeError> {
    let (_, object, node, scope): (u16, u64, String, i32) = decode("busy", key)?;
    Ok((object, node, scope))
}

/// `barrier-signal`: rewritten by each commit that may complete a barrier.
#[must_use]
pub fn barrier_signal() -> Vec<u8> {
    pack(&(kind::BARRIER_SIGNAL,))
}

/// `membership-signal`: rewritten whenever a member comes or goes or a shard
/// gets another owner, so that followers can watch it.
#[must_use]
pub fn membership_signal() -> Vec<u8> {
    pack(&(kind::MEMBERSHIP_SIGNAL,))
}

/// `due-signal`: rewritten by each command after which a removal may be due
/// that was not before, so that the worker who owns it can watch it.
#[must_use]
pub fn due_signal() -> Vec<u8> {
    pack(&(kind::DUE_SIGNAL,))
}

/// `journal-mark`: where the journal ended at some time, so that what is older
/// than an hour can be told.
#[must_use]
pub fn journal_mark() -> Vec<u8> {
    pack(&(kind::JOURNAL_MARK,))
}

/// `observer`: who has the duty of noticing silent members.
#[must_use]
pub fn observer() -> Vec<u8> {
    pack(&(kind::OBSERVER,))
}

/// `cluster-time`: the cluster's clock and whether it is suspect.
#[must_use]
pub fn cluster_time() -> Vec<u8> {
    pack(&(kind::CLUSTER_TIME,))
}

/// `purge-pause`: present while all destruction is stopped.
#[must_use]
pub fn purge_pause() -> Vec<u8> {
    pack(&(kind::PURGE_PAUSE,))
}

/// `operation/<user>/<operation id>`.
#[must_use]
pub fn operation(user: &str, operation: &str) -> Vec<u8> {
    pack(&(kind::OPERATION, user, operation))
}

/// `operation/<user>/<operation id>/<piece>`: a part of a large result.
#[must_use]
pub fn operation_piece(user: &str, operation: &str, piece: u32) -> Vec<u8> {
    pack(&(kind::OPERATION, user, operation, piece))
}

/// The user, the operation's id, and which piece of its result this is, if it is one.
///
/// # Errors
/// When the key is no `operation` key.
pub fn parse_operation(key: &[u8]) -> Result<(String, String, Option<u32>), DecodeError> {
    if let Ok((_, user, operation)) = decode::<(u16, String, String)>("operation", key) {
        return Ok((user, operation, None));
    }
    let (_, user, operation, piece): (u16, String, String, u32) = decode("operation", key)?;
    Ok((user, operation, Some(piece)))
}

/// `attempt/<incarnation>/<slot>`.
#[must_use]
pub fn attempt(incarnation: u64, slot: u32) -> Vec<u8> {
    pack(&(kind::ATTEMPT, incarnation, slot))
}

/// All attempt slots of one incarnation.
#[must_use]
pub fn attempt_prefix(incarnation: u64) -> Vec<u8> {
    pack(&(kind::ATTEMPT, incarnation))
}

/// # Errors
/// When the key is no `attempt` key.
pub fn parse_attempt(key: &[u8]) -> Result<(u64, u32), DecodeError> {
    let (_, incarnation, slot): (u16, u64, u32) = decode("attempt", key)?;
    Ok((incarnation, slot))
}

/// `audit/<versionstamp>` with the version of the writing commit.
#[must_use]
pub fn audit_now(order: u16) -> Vec<u8> {
    stamped(&(kind::AUDIT, TupleVersionstamp::incomplete(order)))
}

/// `audit/<versionstamp>` of a row that is there.
#[must_use]
pub fn audit(at: Sequence) -> Vec<u8> {
    pack(&(kind::AUDIT, TupleVersionstamp::complete(*at.version().as_bytes(), at.order())))
}

/// The commit of a row, and its place among the rows of that commit.
///
/// # Errors
/// When the key is no `audit` key.
pub fn parse_audit(key: &[u8]) -> Result<Sequence, DecodeError> {
    let (_, version): (u16, TupleVersionstamp) = decode("audit", key)?;
    Ok(Sequence::new(from_tuple(&version)?, version.user_version()))
}

/// `user/<name>`: who may do what ([`super::record::UserRecord`]).
#[must_use]
pub fn user(name: &str) -> Vec<u8> {
    pack(&(kind::USER, name))
}

/// # Errors
/// When the key is no `user` key.
pub fn parse_user(key: &[u8]) -> Result<String, DecodeError> {
    let (_, name): (u16, String) = decode("user", key)?;
    Ok(name)
}

/// `users-signal`: the version of the last commit that changed a user.
#[must_use]
pub fn users_signal() -> Vec<u8> {
    pack(&(kind::USERS_SIGNAL,))
}

fn from_tuple(version: &TupleVersionstamp) -> Result<Versionstamp, DecodeError> {
    Versionstamp::decode(version.transaction_version())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_bucket_holds_lies_under_its_prefix_and_under_no_other() {
        for id in [1, 5, 255, 256, 65_535, 1 << 40] {
            let bucket = BucketId(id);
            let prefix = data_prefix(bucket);
            for key in [
                document(bucket, &[0xff; 12]),
                body_chunk(bucket, 9, 3),
                count(bucket, 6, counted::BYTES),
                change_prefix(bucket, 2),
            ] {
                assert!(key.starts_with(&prefix));
                assert_eq!(parse_data(&key).unwrap().0, bucket);
                for other in [2, 254, 257, 65_536] {
                    assert!(!key.starts_with(&data_prefix(BucketId(other))));
                }
            }
        }
    }

    #[test]
    fn versionstamped_keys_end_in_the_offset_of_their_placeholder() {
        let key = journal_now(3);
        let (body, offset) = key.split_at(key.len() - 4);
        let offset = u32::from_le_bytes(offset.try_into().unwrap()) as usize;
        assert_eq!(&body[offset..offset + 10], &[0xff; 10]);
        let version = Versionstamp::new(7, 1);
        let mut written = body.to_vec();
        written[offset..offset + 10].copy_from_slice(version.as_bytes());
        assert_eq!(parse_journal(&written).unwrap(), version);
        assert!(journal_from(version) < written && written < journal_after(version));
    }

    #[test]
    fn keys_read_back() {
        let key = document(BucketId(300), &[0; 12]);
        assert_eq!(parse_document(&key).unwrap(), (BucketId(300), [0; 12]));
        assert_eq!(kind_of(&key).unwrap(), kind::DATA);
        let key = busy(9, "a\0b", -1);
        assert_eq!(parse_busy(&key).unwrap(), (9, "a\0b".to_owned(), -1));
        assert!(parse_data(&[0x15, 40]).is_err());
        assert!(parse_data(&[0x15, 40, 0xff, 1, 2]).is_err());
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_every_key_with_it() {
        assert_eq!(after(b"ab"), b"ac");
        assert_eq!(after(b"a\xff\xff"), b"b");
    }
}
