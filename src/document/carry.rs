//! Makes the documents of one bucket those of another: how a copy is written.
//!
//! A document is taken over as it is in the snapshot of the transaction, so
//! doing it again changes nothing, and whoever does it for every document that was
//! changed since comes to what the source is. Entries of the change log are taken
//! over as they are, with their versions: whoever reads the log of the source goes on at
//! the same place of the copy's.
//!
//! Not here: which documents, and when (`lifecycle`).

use std::collections::VecDeque;

use bson::oid::ObjectId;
use xxhash_rust::xxh3::xxh3_64;

use super::change::Sums;
use super::replica;
use super::stored::{self, Stored};
use super::tombstone::{self, Tombstone};
use super::{Document, Home};
use crate::codec::record::{self, Change};
use crate::codec::{BucketId, RemovalId, Sequence, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::index::{self, Written};
use crate::store::limits::TRANSACTION_BYTES_MAX;
use crate::store::{RangeRead, Read, Transaction, join_all};

/// Begins the names of copies among the readers of a log.
const READER: &str = "copy-";
/// Documents read at the same time.
const READS_AT_ONCE: usize = 32;
/// Deleted documents of one id that are read at the same time, and their bytes.
const TOMBSTONES: usize = 16;
const TOMBSTONE_BYTES: usize = 128 << 10;
/// What a transaction writes of deleted documents of one id, besides the first of them.
const WRITE_BYTES: usize = TRANSACTION_BYTES_MAX / 8;

/// From where to where documents are taken over, in one transaction.
#[derive(Debug)]
pub struct Carry<'a> {
    pub txn: &'a Transaction,
    pub source: &'a Home,
    pub copy: &'a Home,
    /// Deleted documents are left behind.
    pub live_only: bool,
    sums: Sums,
}

/// What stands under an id on both sides.
#[derive(Debug)]
pub struct Both {
    id: ObjectId,
    source: Side,
    copy: Side,
}

/// What stands under an id in one bucket.
#[derive(Debug)]
struct Side {
    document: Option<Stored>,
    tombstones: Tombstones,
}

impl Both {
    pub fn id(&self) -> ObjectId {
        self.id
    }
}

impl<'a> Carry<'a> {
    /// Both buckets must have been opened in this transaction.
    pub fn new(txn: &'a Transaction, source: &'a Home, copy: &'a Home, live_only: bool) -> Self {
        Self { txn, source, copy, live_only, sums: Sums::default() }
    }

    /// Adds what was taken over to the counters. To be called once, at the end.
    ///
    /// # Errors
    /// Those of the store.
    pub fn finish(self) -> Result<()> {
        self.sums.write(self.txn, self.copy)
    }

    /// Takes over a document that the copy does not have yet.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn add(&mut self, id: &ObjectId, document: Document) -> Result<()> {
        self.put(id, None, Some(document)).await
    }

    /// Takes over a deleted document that the copy does not have yet.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn add_tombstone(&mut self, mut tombstone: Tombstone) -> Result<()> {
        let (txn, id) = (self.txn, tombstone.id);
        tombstone.look_up_version(txn, self.source).await?;
        let value = match tombstone.stored.take() {
            Some(stored) => {
                let document = stored.load(txn, self.source, Read::Snapshot).await?;
                stored::write(txn, self.copy, &document, xxh3_64(&id.bytes())).await?
            }
            None => Vec::new(),
        };
        tombstone::write_again(txn, self.copy, &tombstone, &value)?;
        self.sums.of(self.copy, &id).tombstone_added();
        Ok(())
    }

    /// Takes a deleted document of the copy away.
    fn drop_tombstone(&mut self, tombstone: &Tombstone) -> Result<()> {
        tombstone::clear(self.txn, self.copy, tombstone)?;
        if let Some(stored) = &tombstone.stored {
            tombstone::clear_body(self.txn, self.copy, stored)?;
        }
        self.sums.of(self.copy, &tombstone.id).tombstone_taken_away();
        Ok(())
    }

    /// What stands under these ids, for [`Carry::refresh`].
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn look(&self, ids: &[ObjectId]) -> Result<VecDeque<Both>> {
        let mut found = VecDeque::with_capacity(ids.len());
        for part in ids.chunks(READS_AT_ONCE) {
            let reads = part.iter().map(|id| async move {
                let sides = [self.source, self.copy].map(|home| self.side(home, id));
                Ok::<_, Error>((*id, join_all(sides).await?))
            });
            for (id, sides) in join_all(reads).await? {
                let mut sides = sides.into_iter();
                if let (Some(source), Some(copy)) = (sides.next(), sides.next()) {
                    found.push_back(Both { id, source, copy });
                }
            }
        }
        Ok(found)
    }

    async fn side(&self, home: &Home, id: &ObjectId) -> Result<Side> {
        let value = self.txn.get(&home.key(id), Read::Snapshot).await?;
        let document = value.as_ref().map(Stored::decode).transpose()?;
        let mut tombstones = Tombstones::default();
        if !self.live_only {
            let range = RangeRead::prefix(keys::tombstone_prefix(home.bucket(), &id.bytes()));
            let range = range.limit(TOMBSTONES).bytes(TOMBSTONE_BYTES).snapshot();
            tombstones.next = Some(range);
            tombstones.next(self.txn).await?;
        }
        Ok(Side { document, tombstones })
    }

    /// Makes the copy have of an id what the source has. False: the transaction is full
    /// and something is left to do.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn refresh(&mut self, both: Both) -> Result<bool> {
        let Both { id, source, copy } = both;
        let new = match source.document {
            Some(stored) => Some(stored.load(self.txn, self.source, Read::Snapshot).await?),
            None => None,
        };
        self.put(&id, copy.document, new).await?;
        self.tombstones(source.tombstones, copy.tombstones).await
    }

    async fn put(
        &mut self,
        id: &ObjectId,
        stored: Option<Stored>,
        new: Option<Document>,
    ) -> Result<()> {
        let (txn, home) = (self.txn, self.copy);
        let mut number = xxh3_64(&id.bytes());
        let old = match &stored {
            Some(stored) => Some(stored.clone().load(txn, home, Read::Snapshot).await?),
            None => None,
        };
        if old == new {
            return Ok(());
        }
        if let Some(stored) = &stored {
            tombstone::clear_body(txn, home, stored)?;
            if let Stored::Reference(reference) = stored {
                number = reference.body();
            }
        }
        match &new {
            Some(document) => {
                let value = stored::write(txn, home, document, number).await?;
                txn.set(&home.key(id), &value)?;
            }
            None => txn.clear(&home.key(id))?,
        }
        if !home.indexes().is_empty() {
            let (old, new) = (old.as_ref().map(Document::raw), new.as_ref().map(Document::raw));
            let written = Written { shard: home.shard_of(id), id: *id, old, new };
            index::mirror(txn, home.bucket(), home.indexes(), written).await?;
        }
        let sum = self.sums.of(home, id);
        match (&old, &new) {
            (None, Some(new)) => sum.inserted(new),
            (Some(old), Some(new)) => sum.replaced(old, new),
            (Some(old), None) => sum.deleted(old),
            (None, None) => {}
        }
        Ok(())
    }

    /// Makes the copy have the deleted documents that the source has of an id.
    async fn tombstones(&mut self, mut here: Tombstones, mut there: Tombstones) -> Result<bool> {
        let mut wrote = false;
        loop {
            let missing = match (here.next(self.txn).await?, there.next(self.txn).await?) {
                (None, None) => return Ok(true),
                (Some((removal, mine)), Some((other, theirs))) if removal == other => {
                    if mine.stored.is_none() && theirs.stored.is_some() {
                        // Destroyed in the source before its time.
                        let mine = mine.clone();
                        self.drop_tombstone(&theirs.clone())?;
                        self.add_tombstone(mine).await?;
                    }
                    here.pass();
                    there.pass();
                    continue;
                }
                (Some((removal, _)), Some((other, _))) => removal < other,
                (Some(_), None) => true,
                (None, Some(_)) => false,
            };
            let front = if missing { here.front() } else { there.front() };
            let Some((_, tombstone)) = front else { return Ok(true) };
            if missing {
                let length = tombstone.length();
                let full = self.txn.approximate_size().saturating_add(length) > WRITE_BYTES;
                if full && (wrote || self.txn.approximate_size() > WRITE_BYTES) {
                    return Ok(false);
                }
                let tombstone = tombstone.clone();
                here.pass();
                self.add_tombstone(tombstone).await?;
                wrote = true;
            } else {
                let gone = tombstone.clone();
                self.drop_tombstone(&gone)?;
                there.pass();
            }
        }
    }
}

/// The deleted documents of an id, read page by page.
#[derive(Debug, Default)]
struct Tombstones {
    next: Option<RangeRead>,
    rows: VecDeque<(RemovalId, Tombstone)>,
}

impl Tombstones {
    async fn next(&mut self, txn: &Transaction) -> Result<Option<&(RemovalId, Tombstone)>> {
        while self.rows.is_empty() {
            let Some(range) = self.next.take() else { break };
            let page = txn.range(range.clone()).await?;
            self.next = range.after(&page);
            for (key, value) in &page.rows {
                let tombstone = Tombstone::decode(key, value)?;
                self.rows.push_back((tombstone.removal, tombstone));
            }
        }
        Ok(self.rows.front())
    }

    fn front(&self) -> Option<&(RemovalId, Tombstone)> {
        self.rows.front()
    }

    fn pass(&mut self) {
        self.rows.pop_front();
    }
}

/// The name under which a copy reads the log of its source.
#[must_use]
pub fn reader_name(copy: BucketId) -> String {
    replica::internal_name(&format!("{READER}{copy}"))
}

/// The copy that reads under this name.
#[must_use]
pub fn reader_of(name: &str) -> Option<BucketId> {
    let (_, id) = name.split_once(READER).filter(|_| replica::is_internal(name))?;
    BucketId::parse(id)
}

/// Notes that this commit writes to a shard of the log, for those who wait for that.
///
/// # Errors
/// Those of the store.
pub fn note_head(txn: &Transaction, home: &Home, shard: u16) -> Result<()> {
    let head = keys::feed::head(home.bucket(), shard);
    Ok(txn.set_versionstamped_value(&head, &Versionstamp::placeholder())?)
}

/// Writes a change of another bucket as it stands in its log.
///
/// # Errors
/// Those of the store.
pub fn log_again(
    txn: &Transaction,
    home: &Home,
    shard: u16,
    (at, change): &(Sequence, Change),
) -> Result<()> {
    let key = keys::copy::change(home.bucket(), shard, *at);
    Ok(txn.set(&key, &record::encode_change(change))?)
}
