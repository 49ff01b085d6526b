//! Documents: their text and bytes, how they are stored, and the order of
//! their values.
//!
//! A document is BSON inside. [`Document`] is the proof that bytes were
//! checked: it is made only by [`Document::from_json`] and
//! [`Document::from_bson`], and everything behind them walks the bytes with
//! [`crate::value`], without decoding.
//!
//! # Invariants
//!
//! * Whatever bytes come in, nothing here panics or grows without bound.
//! * An insert is whole or not at all; it reads only the ids that a client chose.
//! * What is stored is valid BSON, nested at most [`Limits::depth_max`] deep, with no name given twice.
//!
//! How a document lies in the store: [`stored`]. Every write of a document is
//! one of four: [`insert()`], [`replace()`], [`delete()`], [`undelete()`]. Besides the document's own
//! key each writes one entry of the change log and adds to the counters, both
//! of the shard that the id falls to. What `delete` takes away stays as a
//! [`Tombstone`] until that has expired.
//!
//! Not here: filters and plans (`query`), replies (`command`).

mod builder;
pub mod carry;
mod change;
mod delete;
pub mod feed;
mod home;
mod id;
mod insert;
pub mod json;
pub mod mirror;
mod read;
mod replace;
pub mod replica;
pub mod stored;
mod tombstone;
mod undelete;
mod vacuum;
mod waiting;

use bytes::Bytes;

use crate::value::{Raw, Value, raw};

pub(crate) use crate::store::join_all;
pub use builder::Builder;
pub use change::is_unchanged;
pub use delete::{Deletion, delete};
pub use home::Home;
pub use id::ObjectIds;
pub use insert::{NewDocument, Origin, insert};
pub use json::JsonError;
pub use read::{Page, Scan, get, get_many, scan};
pub use replace::{Replaced, replace, replace_all};
pub use stored::{Reference, Stored};
pub use tombstone::Tombstone;
pub use undelete::undelete;
pub use vacuum::{
    Purged, count_waiting, expunge, is_waiting, last_expiry, next_expiry, next_look, vacuum,
};
pub use waiting::{Places, Waiter, Waiters};

/// What a document may be. The defaults are those of `config/lethe.toml`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Documents and arrays inside each other.
    pub depth_max: usize,
    /// Bytes of BSON. One transaction has to hold a document.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth_max: 100, bytes_max: 8 << 20 }
    }
}

/// Why input is not a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Not JSON, or JSON that does not fit BSON.
    #[error("Invalid JSON: {0}")]
    Json(#[from] JsonError),
    /// Not BSON.
    #[error("Invalid BSON: {what} at byte {at}")]
    Bson { what: &'static str, at: usize },
    /// Above the limit of bytes.
    #[error("Document of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge { size: usize, limit: usize },
}

/// One valid BSON document. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document(Bytes);

impl Document {
    /// Reads JSON text: strict, extended or relaxed.
    pub fn from_json(text: &[u8], limits: Limits) -> Result<Self, InputError> {
        Ok(Self(json::read(text, limits.depth_max, limits.bytes_max)?.into()))
    }

    /// Checks BSON bytes and keeps them as they are.
    pub fn from_bson(bytes: Bytes, limits: Limits) -> Result<Self, InputError> {
        if bytes.len() > limits.bytes_max {
            return Err(InputError::TooLarge { size: bytes.len(), limit: limits.bytes_max });
        }
        raw::validate(&bytes, limits.depth_max)
            .map_err(|malformed| InputError::Bson { what: malformed.what, at: malformed.at })?;
        Ok(Self(bytes))
    }

    /// JSON or BSON, told apart by looking: BSON starts with its own length,
    /// which no JSON text of that size does.
    pub fn sniff(input: &Bytes, limits: Limits) -> Result<Self, InputError> {
        if Raw::new(input).is_some() {
            Self::from_bson(input.clone(), limits)
        } else {
            Self::from_json(input, limits)
        }
    }

    /// What the store holds, which was checked before it came there. `None` where not even its length is right.
    fn stored(bytes: Bytes) -> Option<Self> {
        Raw::new(&bytes)?;
        Some(Self(bytes))
    }

    /// Bytes put together here from those of a valid document.
    fn built(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The BSON bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The document as a view that walks its bytes.
    pub fn raw(&self) -> Raw<'_> {
        // The frame was checked when this was made; an empty document is never seen.
        Raw::new(&self.0).unwrap_or(Raw::EMPTY)
    }

    /// Its `_id`, which is an ObjectId in all that is stored.
    pub fn object_id(&self) -> Option<bson::oid::ObjectId> {
        match self.raw().get(b"_id")?.value() {
            Value::ObjectId(id) => Some(id),
            _ => None,
        }
    }

    /// The BSON bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The document as relaxed extended JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() + self.0.len() / 4);
        json::write(self.raw(), &mut out);
        out
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
