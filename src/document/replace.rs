use std::collections::HashSet;

use bson::oid::ObjectId;
use xxhash_rust::xxh3::xxh3_64;

use super::change::{Sums, indexes, log, written};
use super::stored::{self, Stored};
use super::{Document, Home, join_all};
use crate::codec::keys;
use crate::codec::record::ChangeOp;
use crate::error::{Error, Result};
use crate::index::{self, Index};
use crate::store::{Read, Transaction};

/// Documents whose reads are asked for together.
const READS_AT_ONCE: usize = 64;

/// A document, as it was read and as it is to be.
#[derive(Clone, Debug)]
pub struct Replaced {
    pub id: ObjectId,
    pub old: Document,
    pub new: Document,
}

/// Puts `new` in the place of `old`, both with the `_id` `id`; see [`replace_all`].
///
/// # Errors
/// As [`replace_all`].
pub async fn replace(
    txn: &Transaction,
    home: &Home,
    id: &ObjectId,
    documents: (&Document, &Document),
    at: i64,
) -> Result<()> {
    let mut sums = Sums::default();
    replace_counted(txn, home, id, documents, at, &mut sums).await?;
    sums.write(txn, home)
}

/// As [`replace`], which leaves it to the caller to write the sums.
pub(super) async fn replace_counted(
    txn: &Transaction,
    home: &Home,
    id: &ObjectId,
    (old, new): (&Document, &Document),
    at: i64,
    sums: &mut Sums,
) -> Result<()> {
    let one = Replaced { id: *id, old: old.clone(), new: new.clone() };
    all_counted(txn, home, &[one], at, sums).await
}

/// Puts the new documents in the place of the old ones, in this order and each `_id` once. The
/// old ones must have been read in this transaction; that they are still so is guarded until
/// the commit. `at` is cluster time, for the change log.
///
/// # Errors
/// Those of [`crate::index::maintain`] and of the store.
pub async fn replace_all(
    txn: &Transaction,
    home: &Home,
    documents: &[Replaced],
    at: i64,
) -> Result<()> {
    let mut sums = Sums::default();
    all_counted(txn, home, documents, at, &mut sums).await?;
    sums.write(txn, home)
}

async fn all_counted(
    txn: &Transaction,
    home: &Home,
    documents: &[Replaced],
    at: i64,
    sums: &mut Sums,
) -> Result<()> {
    let mut rest = documents;
    if let [one] = documents {
        let held = hold(txn, home, &one.id, &one.old).await?;
        put(txn, home, one, &held, at, sums).await?;
    } else {
        for part in documents.chunks(READS_AT_ONCE) {
            let holds = part.iter().map(|one| hold(txn, home, &one.id, &one.old));
            for (one, held) in part.iter().zip(join_all(holds).await?) {
                put(txn, home, one, &held, at, sums).await?;
            }
        }
    }
    if let [Replaced { id, old, new }] = documents {
        indexes(txn, home, &[written(home, id, Some(old), Some(new))]).await?;
        rest = &[];
    }
    while !rest.is_empty() {
        let (together, behind) = rest.split_at(apart(home, rest));
        let changes = together.iter().map(|Replaced { id, old, new }| async move {
            indexes(txn, home, &[written(home, id, Some(old), Some(new))]).await
        });
        join_all(changes).await?;
        rest = behind;
    }
    Ok(())
}

/// Writes one, all but its entries in indexes.
async fn put(
    txn: &Transaction,
    home: &Home,
    one: &Replaced,
    held: &Stored,
    at: i64,
    sums: &mut Sums,
) -> Result<()> {
    let Replaced { id, old, new } = one;
    let mut body = xxh3_64(&id.bytes());
    if let Stored::Reference(reference) = held {
        body = reference.body();
        let (begin, end) = keys::range(&keys::body_prefix(home.bucket(), body));
        txn.clear_range(&begin, &end)?;
    }
    let value = stored::write(txn, home, new, body).await?;
    txn.set(&home.key(id), &value)?;
    log(txn, home, ChangeOp::Update, id, at)?;
    sums.of(home, id).replaced(old, new);
    Ok(())
}

/// How many of these, from the first on, can have their indexes brought up at the same time: no two of
/// them give up or take the same value of a unique index, for there it matters which comes first.
fn apart(home: &Home, documents: &[Replaced]) -> usize {
    let unique: Vec<&Index> = home.indexes().kept().filter(|index| index.is_unique()).collect();
    let mut touched = HashSet::new();
    for (at, one) in documents.iter().take(READS_AT_ONCE).enumerate() {
        let mut own = HashSet::new();
        for index in &unique {
            let keys = |document: &Document| {
                let entries = index::entries(index, document.raw(), false).unwrap_or_default();
                entries.rows.into_iter().map(|(key, _)| key).collect::<HashSet<_>>()
            };
            let (before, after) = (keys(&one.old), keys(&one.new));
            let changed = before.symmetric_difference(&after);
            own.extend(changed.map(|key| (index.id(), key.clone())));
        }
        if at > 0 && own.iter().any(|value| touched.contains(value)) {
            return at;
        }
        touched.extend(own);
    }
    documents.len().min(READS_AT_ONCE)
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
