use std::ops::Bound;

use bson::oid::ObjectId;

use super::{Document, Home, join_all, stored::Stored};
use crate::codec::keys;
use crate::error::Result;
use crate::store::{RangeRead, Read, Transaction, key_after};

/// Documents read by id at the same time.
const READS_AT_ONCE: usize = 64;

/// One document by its id: one point read, and its pieces if it lies in pieces.
///
/// # Errors
/// Those of the store; damage.
pub async fn get(
    txn: &Transaction,
    home: &Home,
    id: &ObjectId,
    read: Read,
) -> Result<Option<Document>> {
    match txn.get(&home.key(id), read).await? {
        None => Ok(None),
        Some(value) => Ok(Some(Stored::decode(&value)?.load(txn, home, read).await?)),
    }
}

/// What stands under these ids, read at the same time, in their order.
///
/// # Errors
/// Those of the store; damage.
pub async fn get_many(
    txn: &Transaction,
    home: &Home,
    ids: &[ObjectId],
    read: Read,
) -> Result<Vec<(ObjectId, Stored)>> {
    let mut found = Vec::with_capacity(ids.len());
    for part in ids.chunks(READS_AT_ONCE) {
        let reads = part.iter().map(|id| async move { txn.get(&home.key(id), read).await });
        for (id, value) in part.iter().zip(join_all(reads).await?) {
            if let Some(value) = value {
                found.push((*id, Stored::decode(&value)?));
            }
        }
    }
    Ok(found)
}

/// A part of a bucket's documents, in the order of their ids.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    pub begin: Bound<ObjectId>,
    pub end: Bound<ObjectId>,
    /// From the end to the beginning.
    pub reverse: bool,
    /// Most documents of one page.
    pub rows_max: usize,
    /// The page ends with the row that reaches so many bytes.
    pub bytes_max: usize,
    pub read: Read,
}

/// One page of a [`Scan`].
#[derive(Debug)]
pub struct Page {
    pub rows: Vec<(ObjectId, Stored)>,
    /// There may be more behind the last row.
    pub more: bool,
}

/// Reads one page.
///
/// # Errors
/// Those of the store; damage.
pub async fn scan(txn: &Transaction, home: &Home, scan: &Scan) -> Result<Page> {
    let (first, last) = home.documents();
    let begin = match scan.begin {
        Bound::Unbounded => first,
        Bound::Included(id) => home.key(&id),
        Bound::Excluded(id) => key_after(&home.key(&id)),
    };
    let end = match scan.end {
        Bound::Unbounded => last,
        Bound::Included(id) => key_after(&home.key(&id)),
        Bound::Excluded(id) => home.key(&id),
    };
    if begin >= end {
        return Ok(Page { rows: Vec::new(), more: false });
    }
    let range = RangeRead {
        begin,
        end,
        reverse: scan.reverse,
        limit: scan.rows_max,
        bytes: scan.bytes_max,
        read: scan.read,
    };
    let page = txn.range(range).await?;
    let mut rows = Vec::with_capacity(page.rows.len());
    for (key, value) in &page.rows {
        let (_, id) = keys::parse_document(key)?;
        rows.push((ObjectId::from_bytes(id), Stored::decode(value)?));
    }
    Ok(Page { rows, more: page.more })
}
