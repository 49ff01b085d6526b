use std::collections::{BTreeSet, HashSet};

use bson::oid::ObjectId;
use bytes::Bytes;

use super::entry::{self, Entries, entries};
use super::{Index, Indexes};
use crate::codec::{BucketId, keys};
use crate::error::{Error, Result};
use crate::store::{Atomic, RangeRead, Read, Transaction, join_all};
use crate::value::{Raw, collation::DATA_VERSION};

/// Changes of indexes whose reads are asked for together, and bytes of their entries.
const CHANGES_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 1 << 20;

/// Whether a write asks if an index allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Ask,
    /// Another bucket with the same indexes has allowed it.
    Trust,
}

/// A write of one document: what stood there before, and what stands there afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// That of the document; the counters of the indexes are spread as those of the documents are.
    pub shard: u16,
    pub id: ObjectId,
    pub old: Option<Raw<'a>>,
    pub new: Option<Raw<'a>>,
}

/// Brings all indexes of a bucket up to the writes of these documents, which
/// are all new or all gone, or one alone. What has to be read of the store is
/// asked for together: nothing that one of them gives up is free for another.
///
/// # Errors
/// `DUPLICATEKEY`, `INDEXTYPE_MISMATCH`, `INDEXSTALE`, `ERR` when a document has too many
/// entries; those of the store. The transaction must not be committed then.
pub async fn maintain(
    txn: &Transaction,
    bucket: BucketId,
    indexes: &Indexes,
    documents: &[Written<'_>],
) -> Result<()> {
    let mut changes = Changes::new(txn, bucket, Rules::Ask);
    for written in documents {
        changes.of_document(indexes, *written).await?;
    }
    changes.make().await
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
    indexes: &Indexes,
    written: Written<'_>,
) -> Result<()> {
    let mut changes = Changes::new(txn, bucket, Rules::Trust);
    changes.of_document(indexes, written).await?;
    changes.make().await
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
    let written = Written { shard, id: *id, old: None, new: Some(document) };
    let mut changes = Changes::new(txn, bucket, Rules::Ask);
    let after = entries(index, document, strict)?;
    changes.add(index, written, Entries::default(), after).await?;
    changes.make().await
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

    fn find(&self, values: &[u8]) -> Option<&[u8]> {
        let at = self.rows.binary_search_by(|(key, _)| key[..].cmp(values)).ok()?;
        self.rows.get(at).map(|(_, held)| &held[..])
    }

    fn size(&self) -> usize {
        self.rows.iter().map(|(values, held)| values.len() + held.len()).sum()
    }
}

/// Changes that are made together.
struct Changes<'a> {
    txn: &'a Transaction,
    bucket: BucketId,
    rules: Rules,
    waiting: Vec<Change<'a>>,
    size: usize,
    /// Marks that this transaction is done with.
    marked: BTreeSet<(u32, u16, u16)>,
}

/// What a document changes in one index.
struct Change<'a> {
    index: &'a Index,
    /// Nobody else may have an entry that comes.
    unique: bool,
    written: Written<'a>,
    before: Entries,
    after: Entries,
    prefix: Vec<u8>,
}

/// What a change has to know of the store; for each of its entries, in their order.
#[derive(Default)]
struct Looked {
    /// While the index is built: which of the entries that go are there.
    gone: Vec<bool>,
    /// While the index is built: what there is already of those that stay or come.
    known: Vec<Option<Bytes>>,
    /// Where it is unique: whether another document has an entry that comes.
    taken: Vec<bool>,
}

impl<'a> Changes<'a> {
    fn new(txn: &'a Transaction, bucket: BucketId, rules: Rules) -> Self {
        Self { txn, bucket, rules, waiting: Vec::new(), size: 0, marked: BTreeSet::new() }
    }

    async fn of_document(&mut self, indexes: &'a Indexes, written: Written<'a>) -> Result<()> {
        for index in indexes.kept() {
            expect_current(index)?;
            let before = match written.old {
                Some(old) => Entries::of_stored(index, old),
                None => Entries::default(),
            };
            let after = match written.new {
                Some(new) if self.rules == Rules::Ask => entries(index, new, indexes.is_strict())?,
                Some(new) => Entries::of_stored(index, new),
                None => Entries::default(),
            };
            self.add(index, written, before, after).await?;
        }
        Ok(())
    }

    async fn add(
        &mut self,
        index: &'a Index,
        written: Written<'a>,
        before: Entries,
        after: Entries,
    ) -> Result<()> {
        let prefix = keys::index::entries(self.bucket, index.id());
        self.size += before.size() + after.size();
        let unique = self.rules == Rules::Ask && index.is_unique();
        self.waiting.push(Change { index, unique, written, before, after, prefix });
        if self.waiting.len() >= CHANGES_AT_ONCE || self.size >= BYTES_AT_ONCE {
            self.make().await?;
        }
        Ok(())
    }

    /// Makes those that wait.
    async fn make(&mut self) -> Result<()> {
        let changes = std::mem::take(&mut self.waiting);
        self.size = 0;
        let mut looked = Vec::new();
        if changes.iter().any(Change::has_to_look) {
            looked = join_all(changes.iter().map(|change| change.look(self.txn))).await?;
        }
        let nothing = Looked::default();
        let mut together = HashSet::new();
        for (at, change) in changes.iter().enumerate() {
            let looked = looked.get(at).unwrap_or(&nothing);
            change.write(self.txn, self.bucket, looked, &mut together)?;
        }
        self.mark(&changes).await
    }

    /// Sets the marks that are not there yet.
    async fn mark(&mut self, changes: &[Change<'_>]) -> Result<()> {
        let mut new = Vec::new();
        for change in changes {
            for (field, what) in &change.after.marks {
                if self.marked.insert((change.index.id(), *field, *what)) {
                    new.push(keys::index::mark(self.bucket, change.index.id(), *field, *what));
                }
            }
        }
        // Without conflict: it is written once, and whoever reads it with conflict must not
        // fail over every array.
        let there = join_all(new.iter().map(|key| self.txn.get(key, Read::Snapshot))).await?;
        for (key, there) in new.iter().zip(there) {
            if there.is_none() {
                self.txn.set(key, b"")?;
            }
        }
        Ok(())
    }
}

impl Change<'_> {
    fn key(&self, values: &[u8]) -> Vec<u8> {
        [&self.prefix, values, &self.written.id.bytes()].concat()
    }

    /// The entries that go.
    fn going(&self) -> impl Iterator<Item = &[u8]> {
        let values = self.before.rows.iter().map(|(values, _)| &values[..]);
        values.filter(|values| self.after.find(values).is_none())
    }

    /// Whether what it has to know is not known from the document alone.
    fn has_to_look(&self) -> bool {
        self.index.is_building() || self.unique
    }

    async fn look(&self, txn: &Transaction) -> Result<Looked> {
        let mut looked = Looked::default();
        if self.index.is_building() {
            // The build may not have come here yet: then there is nothing to take away.
            looked.gone = join_all(self.going().map(|values| async move {
                Ok::<_, Error>(txn.get(&self.key(values), Read::Conflict).await?.is_some())
            }))
            .await?;
            looked.known = join_all(self.after.rows.iter().map(|(values, _)| async move {
                txn.get(&self.key(values), Read::Conflict).await
            }))
            .await?;
        }
        if self.unique {
            let rows = self.after.rows.iter().enumerate();
            let known = &looked.known;
            looked.taken = join_all(rows.map(|(at, (values, _))| async move {
                let comes = self.known(known, at, values).is_none();
                Ok::<_, Error>(comes && self.is_taken(txn, values).await?)
            }))
            .await?;
        }
        Ok(looked)
    }

    /// What there is already of an entry that stays or comes.
    fn known<'c>(
        &'c self,
        known: &'c [Option<Bytes>],
        at: usize,
        values: &[u8],
    ) -> Option<&'c [u8]> {
        if self.index.is_building() { known.get(at)?.as_deref() } else { self.before.find(values) }
    }

    /// Whether another document has these values, with conflict on its coming to have them.
    async fn is_taken(&self, txn: &Transaction, values: &[u8]) -> Result<bool> {
        let range = RangeRead::prefix([&self.prefix, values].concat()).limit(2);
        let page = txn.range(range).await?;
        let own = self.written.id.bytes();
        Ok(page.rows.iter().any(|(key, _)| !key.ends_with(&own)))
    }

    /// `together` has what the changes made together with this one put into unique indexes.
    fn write<'c>(
        &'c self,
        txn: &Transaction,
        bucket: BucketId,
        looked: &Looked,
        together: &mut HashSet<(u32, &'c [u8])>,
    ) -> Result<()> {
        let index = self.index;
        let mut count = 0_i64;
        for (at, values) in self.going().enumerate() {
            if looked.gone.get(at).copied().unwrap_or(true) {
                txn.clear(&self.key(values))?;
                count -= 1;
            }
        }
        for (at, (values, held)) in self.after.rows.iter().enumerate() {
            let known = self.known(&looked.known, at, values);
            if known == Some(&held[..]) {
                continue;
            }
            if known.is_none() {
                let taken = looked.taken.get(at).copied().unwrap_or(false);
                if taken || self.unique && !together.insert((index.id(), values)) {
                    return Err(self.duplicate(values));
                }
                count += 1;
            }
            txn.set(&self.key(values), held)?;
        }
        if count != 0 {
            let key = keys::index::count(bucket, index.id(), self.written.shard);
            txn.atomic(Atomic::Add, &key, &count.to_le_bytes())?;
        }
        Ok(())
    }

    fn duplicate(&self, values: &[u8]) -> Error {
        let shown = self.written.new.map(|document| entry::shown(self.index, document, values));
        let what = match self.index.field(0) {
            Some((field, _)) if !self.index.is_compound() => &field.selector,
            _ => self.index.name(),
        };
        Error::DuplicateKey(format!("'{what}' {}", shown.unwrap_or_default()))
    }
}
