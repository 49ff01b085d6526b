//! Commands that are safe to send again: operation rows.
//!
//! A command that changes metadata reads the row of its operation id first, in
//! the very transaction that does the work; if the row is there, the stored
//! result is the answer (protocol.md, rule 20). Thus a retry after an unknown
//! commit result, by us or by the client with the same `OPID`, finds what it
//! has done instead of doing it twice.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson};
use serde::{Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::Xxh3;

use crate::access::{Permit, Place, Right};
use crate::codec::record::{self, Actor, OperationRecord, ResultRecord};
use crate::codec::{DecodeError, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::store::{Read, Transaction};

/// How long an operation id is remembered.
pub const OPERATION_RETENTION_MS: i64 = 24 * 3_600 * 1_000;
/// Most bytes of an operation id.
pub const OPERATION_ID_BYTES_MAX: usize = 255;

/// Bytes of a result in one row. A reply may hold more ids than one value does.
const PIECE_BYTES: usize = 90_000;

/// How the versionstamp of a commit stands in its operation row.
type Stamp = Option<Binary>;

/// Who runs a command, and how its retry is recognised.
#[derive(Debug, Clone)]
pub struct Caller {
    pub actor: Actor,
    pub operation: Option<Operation>,
    /// What allows it, which every transaction of the command holds; the system needs none.
    pub permit: Option<Permit>,
}

impl Caller {
    /// A background worker of the system.
    #[must_use]
    pub fn system(worker: &str) -> Self {
        Self { actor: Actor::system(worker), operation: None, permit: None }
    }

    /// Makes a transaction of this caller obey what the user may do in its snapshot.
    ///
    /// # Errors
    /// `NOPERM`, `NOAUTH`; those of the store.
    pub async fn hold(&self, txn: &Transaction) -> Result<()> {
        match &self.permit {
            Some(permit) => permit.hold(txn).await,
            None => Ok(()),
        }
    }

    /// Expects another right of the user, in the places of the command.
    ///
    /// # Errors
    /// `NOPERM`.
    pub fn expect(&self, right: Right) -> Result<()> {
        self.permit.as_ref().map_or(Ok(()), |permit| permit.expect(right))
    }

    /// Expects another right of the user, in another place than those of the command.
    ///
    /// # Errors
    /// `NOPERM`.
    pub fn expect_at(&self, right: Right, place: Place) -> Result<()> {
        self.permit.as_ref().map_or(Ok(()), |permit| permit.expect_at(right, place))
    }

    /// What is said of something that could not be found, where only one's own may be restored:
    /// the same as of what somebody else has removed.
    #[must_use]
    pub fn hide(&self, error: Error) -> Error {
        match (&self.permit, error) {
            (_, error @ Error::Store(_)) => error,
            (Some(permit), _) if permit.own_only() => permit.denied(),
            (_, error) => error,
        }
    }

    /// Refuses what somebody else has removed, where only one's own may be restored.
    ///
    /// # Errors
    /// `NOPERM`.
    pub fn expect_own(&self, removed_by: &Actor) -> Result<()> {
        self.permit.as_ref().map_or(Ok(()), |permit| permit.expect_own(&removed_by.user))
    }
}

/// The identity of one command.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The `OPID`, or an id made for this one execution.
    pub id: String,
    /// Of all words of the command.
    pub hash: String,
}

impl Operation {
    /// An operation whose id the client chose.
    ///
    /// # Errors
    /// When the id is empty, too long, or not printable.
    pub fn from_client<'a>(id: &[u8], words: impl Iterator<Item = &'a [u8]>) -> Result<Self> {
        let text = std::str::from_utf8(id).ok().filter(|text| {
            (1..=OPERATION_ID_BYTES_MAX).contains(&text.len())
                && !text.chars().any(char::is_control)
        });
        let id = text.ok_or_else(|| {
            Error::syntax("OPID must be 1 to 255 bytes of text without control characters")
        })?;
        let mut hasher = Xxh3::new();
        for word in words {
            hasher.update(&word.len().to_le_bytes());
            hasher.update(word);
        }
        Ok(Self { id: id.to_owned(), hash: format!("{:032x}", hasher.digest128()) })
    }

    /// An operation that only this execution knows.
    #[must_use]
    pub fn internal(unique: u64) -> Self {
        // A client's id cannot hold a control character, so never equals this.
        Self { id: format!("\u{1}{unique}"), hash: String::new() }
    }

    pub(super) fn key(&self, actor: &Actor) -> Vec<u8> {
        keys::operation(&actor.user, &self.id)
    }

    /// The result of this operation, if it has been committed before. Must be
    /// the first read of the transaction.
    ///
    /// # Errors
    /// When the id was used for another command.
    pub async fn replay<T: DeserializeOwned>(
        &self,
        txn: &Transaction,
        actor: &Actor,
    ) -> Result<Option<T>> {
        let Some(value) = txn.get(&self.key(actor), Read::Conflict).await? else {
            return Ok(None);
        };
        let record: OperationRecord = record::decode("operation", &value)?;
        if record.hash != self.hash {
            return Err(Error::syntax(format!(
                "OPID '{}' was already used for another command",
                self.id
            )));
        }
        let result = match record.pieces {
            0 => record.result,
            pieces => self.joined(txn, actor, pieces).await?,
        };
        bson::deserialize_from_bson(result)
            .map(Some)
            .map_err(|error| DecodeError::new("operation", error).into())
    }

    /// A result that lies in pieces. They are written and cleared with the row that was read.
    async fn joined(&self, txn: &Transaction, actor: &Actor, pieces: u32) -> Result<Bson> {
        let mut bytes = Vec::new();
        for piece in 0..pieces {
            let key = keys::operation_piece(&actor.user, &self.id, piece);
            let part = txn.get(&key, Read::Snapshot).await?;
            bytes.extend_from_slice(
                &part.ok_or_else(|| DecodeError::new("operation", "a piece is missing"))?,
            );
        }
        let record: ResultRecord = record::decode("operation", &bytes)?;
        Ok(record.result)
    }

    /// Writes the result, in the commit that does the work.
    ///
    /// # Errors
    /// Those of the store.
    pub fn record<T: Serialize>(
        &self,
        txn: &Transaction,
        actor: &Actor,
        result: &T,
        now: i64,
    ) -> Result<()> {
        let result = bson::serialize_to_bson(result)
            .map_err(|error| Error::Internal(format!("a result does not fit BSON: {error}")))?;
        txn.set(&self.key(actor), &self.encoded(txn, actor, result, now)?)?;
        Ok(())
    }

    /// As [`Operation::record`], where the result is the versionstamp of this very
    /// commit, or that there was nothing to commit.
    ///
    /// # Errors
    /// Those of the store.
    pub fn record_stamped(
        &self,
        txn: &Transaction,
        actor: &Actor,
        writes: bool,
        now: i64,
    ) -> Result<()> {
        if !writes {
            return self.record(txn, actor, &Stamp::None, now);
        }
        // Nothing else in the record has ten such bytes in a row: texts are UTF-8, the time is eight bytes.
        let place = Versionstamp::MAX.as_bytes();
        let stamp = Binary { subtype: BinarySubtype::Generic, bytes: place.to_vec() };
        let mut value = self.encoded(txn, actor, Bson::Binary(stamp), now)?;
        let at = value.windows(place.len()).position(|window| window == place);
        let at = at.and_then(|at| u32::try_from(at).ok()).ok_or_else(|| {
            Error::Internal("a record has no place for its versionstamp".to_owned())
        })?;
        value.extend(at.to_le_bytes());
        txn.set_versionstamped_value(&self.key(actor), &value)?;
        Ok(())
    }

    /// What [`Operation::record_stamped`] has recorded.
    ///
    /// # Errors
    /// As [`Operation::replay`].
    pub async fn replay_stamped(
        &self,
        txn: &Transaction,
        actor: &Actor,
    ) -> Result<Option<Option<Versionstamp>>> {
        let Some(found) = self.replay::<Stamp>(txn, actor).await? else { return Ok(None) };
        let stamp = found.map(|stamp| Versionstamp::decode(&stamp.bytes)).transpose()?;
        Ok(Some(stamp))
    }

    /// The record, and its expiry on the schedule.
    fn encoded(&self, txn: &Transaction, actor: &Actor, result: Bson, now: i64) -> Result<Vec<u8>> {
        let until = now.saturating_add(OPERATION_RETENTION_MS);
        let key = self.key(actor);
        txn.set(&keys::expiry(until, keys::due::OPERATION, &key), b"")?;
        let hash = self.hash.clone();
        let whole = OperationRecord { hash, result, pieces: 0, until };
        let encoded = record::encode(&whole);
        if encoded.len() <= PIECE_BYTES {
            return Ok(encoded);
        }
        let result = record::encode(&ResultRecord { result: whole.result });
        let mut pieces = 0;
        for part in result.chunks(PIECE_BYTES) {
            txn.set(&keys::operation_piece(&actor.user, &self.id, pieces), part)?;
            pieces += 1;
        }
        Ok(record::encode(&OperationRecord { result: Bson::Null, pieces, ..whole }))
    }
}
