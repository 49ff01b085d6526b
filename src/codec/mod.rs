//! How things are written down: keys, ids, records, versions, durations.
//!
//! Everything here is pure: bytes in, bytes out. No module here knows which
//! engine stores the bytes, what a command is, or what the clock says.
//!
//! * [`keys`]: the key space, one function per key. Keys are tuples packed with
//!   `foundationdb-tuple`, so their byte order is the order of their elements.
//! * [`id`]: ids of buckets, namespaces and removals, and their text form.
//! * [`record`]: what the values of metadata keys hold (BSON through serde).
//! * [`versionstamp`]: commit versions, the one order that everything agrees on.
//! * [`collation`]: how strings of a bucket or an index are ordered.
//! * [`duration`]: durations and instants as people write them.
//! * [`glob`]: patterns as Redis knows them.
//!
//! Not here: documents (`document`), frames on the wire (`resp`).

pub mod collation;
pub mod duration;
pub mod glob;
pub mod id;
pub mod keys;
pub mod readable;
pub mod record;
pub mod sequence;
pub mod versionstamp;

pub use id::{BucketId, NamespaceId, Object, ObjectKind, RemovalId};
pub use sequence::Sequence;
pub use versionstamp::Versionstamp;

/// A value or a key that is not what its place in the key space says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be decoded: {detail}")]
pub struct DecodeError {
    /// What was being decoded, in the words of docs/keyspace.md.
    pub what: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

impl DecodeError {
    pub(crate) fn new(what: &'static str, detail: impl std::fmt::Display) -> Self {
        Self { what, detail: detail.to_string() }
    }
}
