use bson::oid::ObjectId;

use super::entry::{self, Entries, entries};
use super::{Index, Indexes};
use crate::codec::{BucketId, keys};
use crate::error::{Error, Result};
use crate::store::{Atomic, RangeRead, Read, Transaction};
use crate::value::{Raw, collation::DATA_VERSION};

/// Whether a write asks if an index allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Ask,
    /// Another bucket with the same indexes has allowed it.
    Trust,
}

/// Where a document is: its bucket, its shard, its id.
#[derive(Clone, Copy, Debug)]
struct Place {
    bucket: BucketId,
    shard: u16,
    id: ObjectId,
}

/// Brings all indexes of a bucket up to a write of one document: `old` is what
/// stood there before, `new` what stands there afterwards. `shard` is that of
/// the document; the counters of the indexes are spread as those of the documents are.
///
/// # Errors
/// `DUPLICATEKEY`, `INDEXTYPE_MISMATCH`, `INDEXSTALE`, `ERR` when the document has too many
/// entries; those of the store. The transaction must not be committed then.
pub async fn maintain(
    txn: &Transaction,
    bucket: BucketId,
    shard: u16,
    indexes: &Indexes,
    id: &ObjectId,
    old: Option<Raw<'_>>,
    new: Option<Raw<'_>>,
) -> Result<()> {
    write(txn, Place { bucket, shard, id: *id }, indexes, (old, new), Rules::Ask).await
}

/// As [`maintain`], for a copy of a document whose bucket has the same indexes:
/// what is unique there, in one snapshot, need not be so in a copy that is made
/// of several, and is again when the copy is complete.
///
/// # Errors
/// Those of the store.
pub async fn mirror(
    txn: &Transaction,
    bucket: BucketId,
    shard: u16,
    indexes: &Indexes,
    id: &ObjectId,
    old: Option<Raw<'_>>,
    new: Option<Raw<'_>>,
) -> Result<()> {
    write(txn, Place { bucket, shard, id: *id }, indexes, (old, new), Rules::Trust).await
}

async fn write(
    txn: &Transaction,
    place: Place,
    indexes: &Indexes,
    (old, new): (Option<Raw<'_>>, Option<Raw<'_>>),
    rules: Rules,
) -> Result<()> {
    for index in indexes.kept() {
        expect_current(index)?;
        let before = match old {
            Some(old) => Entries::of_stored(index, old),
            None => Entries::default(),
        };
        let after = match new {
            Some(new) if rules == Rules::Ask => entries(index, new, indexes.is_strict())?,
            Some(new) => Entries::of_stored(index, new),
            None => Entries::default(),
        };
        change(txn, place, index, (&before, &after), new, rules).await?;
    }
    Ok(())
}

/// Adds the entries of a document that was there before the index, as the build
/// does. The document must have been read with conflict in this transaction.
///
/// # Errors
/// As [`maintain`].
pub async fn add(
    txn: &Transaction,
    bucket: BucketId,
    shard: u16,
    index: &Index,
    strict: bool,
    id: &ObjectId,
    document: Raw<'_>,
) -> Result<()> {
    expect_current(index)?;
    let place = Place { bucket, shard, id: *id };
    let after = entries(index, document, strict)?;
    change(txn, place, index, (&Entries::default(), &after), Some(document), Rules::Ask).await
}

/// Refuses to write entries among those of other collation data: neither would
/// find the other, so an answer would be wrong and a duplicate not be seen.
fn expect_current(index: &Index) -> Result<()> {
    if index.is_stale() { Err(stale(index)) } else { Ok(()) }
}

/// Why nothing may be written into an index.
#[must_use]
pub fn stale(index: &Index) -> Error {
    Error::IndexStale {
        index: index.name().to_owned(),
        built: index.record().collation_data.clone(),
        here: DATA_VERSION,
    }
}

impl Entries {
    /// The entries of a document that is there already. One with too many of
    /// them cannot have come in, so it has none.
    fn of_stored(index: &Index, document: Raw<'_>) -> Self {
        entries(index, document, false).unwrap_or_default()
    }
}

async fn change(
    txn: &Transaction,
    place: Place,
    index: &Index,
    (before, after): (&Entries, &Entries),
    document: Option<Raw<'_>>,
    rules: Rules,
) -> Result<()> {
    let prefix = keys::index::entries(place.bucket, index.id());
    let mut count = 0_i64;
    for (values, _) in &before.rows {
        if find(after, values).is_some() {
            continue;
        }
        let key = entry_key(&prefix, values, &place.id);
        // The build may not have come here yet: then there is nothing to take away.
        if !index.is_building() || txn.get(&key, Read::Conflict).await?.is_some() {
            txn.clear(&key)?;
            count -= 1;
        }
    }
    for (values, held) in &after.rows {
        let key = entry_key(&prefix, values, &place.id);
        let known = if index.is_building() {
            txn.get(&key, Read::Conflict).await?.map(|held| held.to_vec())
        } else {
            find(before, values).map(<[u8]>::to_vec)
        };
        if known.as_ref() == Some(held) {
            continue;
        }
        if known.is_none() {
            if rules == Rules::Ask && index.is_unique() {
                expect_alone(txn, place, index, &prefix, values, document).await?;
            }
            count += 1;
        }
        txn.set(&key, held)?;
    }
    for (field, what) in &after.marks {
        let key = keys::index::mark(place.bucket, index.id(), *field, *what);
        // Without conflict: it is written once, and whoever reads it with conflict must not
        // fail over every array.
        if txn.get(&key, Read::Snapshot).await?.is_none() {
            txn.set(&key, b"")?;
        }
    }
    if count != 0 {
        let key = keys::index::count(place.bucket, index.id(), place.shard);
        txn.atomic(Atomic::Add, &key, &count.to_le_bytes())?;
    }
    Ok(())
}

fn find<'a>(entries: &'a Entries, values: &[u8]) -> Option<&'a [u8]> {
    let at = entries.rows.binary_search_by(|(key, _)| key[..].cmp(values)).ok()?;
    entries.rows.get(at).map(|(_, held)| &held[..])
}

fn entry_key(prefix: &[u8], values: &[u8], id: &ObjectId) -> Vec<u8> {
    [prefix, values, &id.bytes()].concat()
}

/// Fails if another document has these values, with conflict on its coming to have them.
async fn expect_alone(
    txn: &Transaction,
    place: Place,
    index: &Index,
    prefix: &[u8],
    values: &[u8],
    document: Option<Raw<'_>>,
) -> Result<()> {
    let range = RangeRead::prefix([prefix, values].concat()).limit(2);
    let page = txn.range(range).await?;
    let own = place.id.bytes();
    if page.rows.iter().all(|(key, _)| key.ends_with(&own)) {
        return Ok(());
    }
    let shown = document.map(|document| entry::shown(index, document, values));
    let what = match index.field(0) {
        Some((field, _)) if !index.is_compound() => &field.selector,
        _ => index.name(),
    };
    Err(Error::DuplicateKey(format!("'{what}' {}", shown.unwrap_or_default())))
}
