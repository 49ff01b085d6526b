use bson::oid::ObjectId;
use bytes::Bytes;

use super::Index;
use super::bounds::KeyRange;
use super::covered::Covered;
use crate::codec::{BucketId, keys};
use crate::error::Result;
use crate::store::{RangeRead, Read, Transaction};

/// How a range of an index is read.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// From the end to the beginning.
    pub reverse: bool,
    /// Most entries of one page.
    pub rows_max: usize,
    /// The page ends with the entry that reaches so many bytes.
    pub bytes_max: usize,
    pub read: Read,
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The document.
    pub id: ObjectId,
    /// What is known of it without reading it.
    pub covered: Covered,
    /// The whole key: where to go on.
    pub key: Bytes,
}

/// One page of a scan.
#[derive(Clone, Debug)]
pub struct Page {
    /// A document may come several times, once for each of its entries.
    pub entries: Vec<Entry>,
    /// The rest of the range, when there may be more.
    pub rest: Option<KeyRange>,
}

/// Reads one page of a range that [`super::Bounds`] made.
///
/// # Errors
/// Those of the store; damage.
pub async fn scan(txn: &Transaction, range: &KeyRange, scan: Scan) -> Result<Page> {
    if range.is_empty() {
        return Ok(Page { entries: Vec::new(), rest: None });
    }
    let read = RangeRead {
        begin: range.begin.clone(),
        end: range.end.clone(),
        reverse: scan.reverse,
        limit: scan.rows_max,
        bytes: scan.bytes_max,
        read: scan.read,
    };
    let page = txn.range(read.clone()).await?;
    let rest = read.after(&page);
    let rest = rest.map(|rest| KeyRange { begin: rest.begin, end: rest.end, exact: range.exact });
    let mut entries = Vec::with_capacity(page.rows.len());
    for (key, held) in page.rows {
        let id = ObjectId::from_bytes(keys::index::parse_entry(&key)?.id);
        entries.push(Entry { id, covered: Covered::decode(held)?, key });
    }
    Ok(Page { entries, rest })
}

/// What documents an index has seen: for each field whether an array was ever
/// under it, and whether a value was ever cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    list: Vec<(u16, u16)>,
}

impl Marks {
    /// Whether a document may have several entries because of the field at this position.
    #[must_use]
    pub fn has_array(&self, position: usize) -> bool {
        self.has(position, keys::index::marked::ARRAY)
    }

    /// Whether the order of the entries may not be that of the values of this field.
    #[must_use]
    pub fn has_cut(&self, position: usize) -> bool {
        self.has(position, keys::index::marked::CUT)
    }

    /// Whether no field has either.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn has(&self, position: usize, what: u16) -> bool {
        u16::try_from(position).is_ok_and(|field| self.list.contains(&(field, what)))
    }
}

/// Reads the marks of an index. A transaction that writes what it finds through
/// them must read them with conflict: a mark may come at any time, and never goes.
///
/// # Errors
/// Those of the store; damage.
pub async fn marks(
    txn: &Transaction,
    bucket: BucketId,
    index: &Index,
    read: Read,
) -> Result<Marks> {
    let range = RangeRead::prefix(keys::index::mark_prefix(bucket, index.id()));
    let page = txn.range(RangeRead { read, ..range }).await?;
    let mut marks = Marks::default();
    for (key, _) in &page.rows {
        let (_, _, field, what) = keys::index::parse_mark(key)?;
        marks.list.push((field, what));
    }
    Ok(marks)
}
