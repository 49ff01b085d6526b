use bson::oid::ObjectId;
use xxhash_rust::xxh3::xxh3_64;

use super::change::{Sums, indexes, log, written};
use super::stored::{self, Stored};
use super::{Document, Home};
use crate::codec::keys;
use crate::codec::record::ChangeOp;
use crate::error::{Error, Result};
use crate::store::{Read, Transaction};

/// Puts `new` in the place of `old`, both with the `_id` `id`. `old` must have
/// been read in this transaction; that it is still so is guarded until the
/// commit. `at` is cluster time, for the change log.
///
/// # Errors
/// Those of [`crate::index::maintain`] and of the store.
pub async fn replace(
    txn: &Transaction,
    home: &Home,
    id: &ObjectId,
    (old, new): (&Document, &Document),
    at: i64,
) -> Result<()> {
    let mut body = xxh3_64(&id.bytes());
    if let Stored::Reference(reference) = hold(txn, home, id, old).await? {
        body = reference.body();
        let (begin, end) = keys::range(&keys::body_prefix(home.bucket(), body));
        txn.clear_range(&begin, &end)?;
    }
    let value = stored::write(txn, home, new, body).await?;
    txn.set(&home.key(id), &value)?;
    indexes(txn, home, &[written(home, id, Some(old), Some(new))]).await?;
    log(txn, home, ChangeOp::Update, id, at)?;
    let mut sums = Sums::default();
    sums.of(home, id).replaced(old, new);
    sums.write(txn, home)
}

/// Lets the commit fail if the document is changed before, and gives how it
/// lies in the store. Only of a large one does that cost a read.
pub(super) async fn hold(
    txn: &Transaction,
    home: &Home,
    id: &ObjectId,
    document: &Document,
) -> Result<Stored> {
    let key = home.key(id);
    if document.bytes().len() <= stored::CHUNK_BYTES {
        txn.add_read_conflict_key(&key)?;
        return Ok(Stored::Inline(document.clone()));
    }
    let value = txn.get(&key, Read::Conflict).await?;
    let value = value
        .ok_or_else(|| Error::Internal(format!("document {id} is changed but was not read")))?;
    Stored::decode(&value)
}
