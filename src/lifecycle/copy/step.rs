//! One part of the work of a copy: a transaction.

use std::collections::HashSet;
use std::ops::Bound;

use bson::oid::ObjectId;
use tokio::time::{Duration, Instant};

use crate::codec::record::{BucketRecord, Change, CopyOf, CopyPhase, CopyRecord};
use crate::codec::{BucketId, Sequence, keys};
use crate::document::carry::{self, Carry};
use crate::document::{self, Home, Tombstone, feed, replica};
use crate::error::{Error, Result};
use crate::metadata::{Catalog, LiveBucket};
use crate::store::limits::TRANSACTION_BYTES_MAX;
use crate::store::{RangeRead, Read, Transaction};

use super::{read, write};

/// Documents that a part takes over.
const DOCUMENTS: usize = 200;
/// Changes that a part follows, and those that speak only of what was there before the copy.
const CHANGES: usize = 500;
const OLD_CHANGES: usize = 5_000;
/// Changes whose documents are held at the same time.
const LOOKED_AT_ONCE: usize = 64;
/// A part ends when it has read so many bytes, will write so many, or has taken so long.
const READ_BYTES: usize = 1 << 20;
const WRITE_BYTES: usize = TRANSACTION_BYTES_MAX / 8;
const STEP_TIME: Duration = Duration::from_secs(1);

/// What a part of the work came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// There is more to do.
    More,
    /// Everything in this snapshot has been followed.
    CaughtUp,
    /// There is nothing to do any more, for nobody.
    Over,
}

/// A copy and its source, both active in a transaction.
pub(super) struct Pair {
    pub(super) source: LiveBucket,
    pub(super) copy: LiveBucket,
    pub(super) of: CopyOf,
    pub(super) progress: CopyRecord,
}

impl Pair {
    /// Opens both, with their fences; `None` when the copy is none any more, or nobody goes on with it.
    ///
    /// # Errors
    /// `BUCKETBEINGREMOVED` and its like when one of them is not active; those of the store.
    pub(super) async fn open(
        catalog: &Catalog,
        txn: &Transaction,
        source: BucketId,
        copy: BucketId,
    ) -> Result<Option<Self>> {
        let live = match catalog.handles().open_id(txn, copy).await {
            Err(Error::NoSuchBucket(_)) => return Ok(None),
            live => live?,
        };
        let Some(of) = live.record().copy.filter(|of| of.source == source) else { return Ok(None) };
        let Some(progress) = read(txn, copy, Read::Conflict).await? else { return Ok(None) };
        if progress.phase == CopyPhase::Failed {
            return Ok(None);
        }
        let source = catalog.handles().open_id(txn, source).await?;
        Ok(Some(Self { source, copy: live, of, progress }))
    }
}

/// Does the next part of the work of a copy. `part` makes it smaller, each time by half.
///
/// # Errors
/// `BUCKETBEINGREMOVED` and its like when copy or source are not active; those of the store.
pub async fn step(
    catalog: &Catalog,
    txn: &Transaction,
    (source, copy): (BucketId, BucketId),
    part: u32,
) -> Result<Stepped> {
    let opened = match Pair::open(catalog, txn, source, copy).await {
        Err(Error::NoSuchBucket(name)) => {
            // Purged: nothing of it will ever come back.
            let why = format!("the bucket {name} that it is a copy of was purged");
            let of = CopyOf { source, live_only: false };
            super::fail(txn, copy, of, &why, catalog.now()).await?;
            return Ok(Stepped::Over);
        }
        opened => opened?,
    };
    let Some(pair) = opened else {
        txn.clear(&keys::copy::queued(source, copy))?;
        return Ok(Stepped::Over);
    };
    let homes = (Home::from(&pair.source), Home::from(&pair.copy));
    let mut step = Step {
        txn,
        carry: Carry::new(txn, &homes.0, &homes.1, pair.of.live_only),
        record: pair.source.record(),
        progress: pair.progress,
        part: part.min(16),
        began: Instant::now(),
    };
    let stepped = match step.progress.phase {
        CopyPhase::Documents => step.documents().await?,
        CopyPhase::Tombstones => step.tombstones().await?,
        CopyPhase::Following | CopyPhase::Failed => step.follow().await?,
    };
    step.end(catalog.now(), copy).await?;
    Ok(stepped)
}

struct Step<'a> {
    txn: &'a Transaction,
    carry: Carry<'a>,
    record: &'a BucketRecord,
    progress: CopyRecord,
    part: u32,
    began: Instant,
}

impl Step<'_> {
    fn is_full(&self, read: usize) -> bool {
        read >= READ_BYTES
            || self.txn.approximate_size() >= WRITE_BYTES
            || self.began.elapsed() >= STEP_TIME
    }

    fn at_most(&self, count: usize) -> usize {
        (count >> self.part).max(1)
    }

    async fn documents(&mut self) -> Result<Stepped> {
        let scan = document::Scan {
            begin: self.progress.cursor.map_or(Bound::Unbounded, Bound::Excluded),
            end: Bound::Unbounded,
            reverse: false,
            rows_max: self.at_most(DOCUMENTS),
            bytes_max: READ_BYTES,
            read: Read::Snapshot,
        };
        let page = document::scan(self.txn, self.carry.source, &scan).await?;
        let (mut read, mut left) = (0, page.rows.len());
        for (id, stored) in page.rows {
            let document = stored.load(self.txn, self.carry.source, Read::Snapshot).await?;
            read += document.bytes().len();
            self.carry.add(&id, document).await?;
            left -= 1;
            self.progress.cursor = Some(id);
            self.progress.done += 1;
            if self.is_full(read) {
                break;
            }
        }
        if left == 0 && !page.more {
            self.progress.cursor = None;
            self.progress.phase =
                if self.carry.live_only { CopyPhase::Following } else { CopyPhase::Tombstones };
        }
        Ok(Stepped::More)
    }

    async fn tombstones(&mut self) -> Result<Stepped> {
        let bucket = self.carry.source.bucket();
        let mut range = RangeRead {
            bytes: READ_BYTES,
            ..RangeRead::prefix(keys::data_part(bucket, keys::data::TOMBSTONE))
                .limit(self.at_most(DOCUMENTS))
                .snapshot()
        };
        if let Some((id, removal)) = self.progress.cursor.zip(self.progress.cursor_removal) {
            range.begin = keys::next(&keys::tombstone(bucket, &id.bytes(), removal));
        }
        let page = self.txn.range(range).await?;
        let (mut read, mut left) = (0, page.rows.len());
        for (key, value) in &page.rows {
            let tombstone = Tombstone::decode(key, value)?;
            read += tombstone.length();
            self.progress.cursor = Some(tombstone.id);
            self.progress.cursor_removal = Some(tombstone.removal);
            self.carry.add_tombstone(tombstone).await?;
            left -= 1;
            self.progress.done += 1;
            if self.is_full(read) {
                break;
            }
        }
        if left == 0 && !page.more {
            (self.progress.cursor, self.progress.cursor_removal) = (None, None);
            self.progress.phase = CopyPhase::Following;
        }
        Ok(Stepped::More)
    }

    /// Follows the log: takes over its entries, and every document that they speak of.
    async fn follow(&mut self) -> Result<Stepped> {
        let visible = Sequence::last_visible_at(self.txn.read_version().await?);
        let mut known = HashSet::new();
        for (at, shard) in self.record.shards.iter().enumerate() {
            let after = self.progress.positions.get(at).copied().unwrap_or_default();
            let old = after < self.progress.registered;
            let limit = self.at_most(if old { OLD_CHANGES } else { CHANGES });
            let (changes, more) =
                feed::of_shard(self.txn, self.carry.source, *shard, after, limit, Read::Snapshot)
                    .await?;
            let (reached, all) = self.take_over(*shard, &changes, &mut known).await?;
            if reached.is_some() {
                carry::note_head(self.txn, self.carry.copy, *shard)?;
            }
            let done = all && !more;
            let position = if done { Some(visible) } else { reached };
            if let Some((place, position)) = self.progress.positions.get_mut(at).zip(position) {
                *place = position.max(*place);
            }
            if !done {
                return Ok(Stepped::More);
            }
        }
        Ok(Stepped::CaughtUp)
    }

    /// Takes over changes of a shard in their order; gives the last one, and whether it was all of them.
    async fn take_over(
        &mut self,
        shard: u16,
        changes: &[(Sequence, Change)],
        known: &mut HashSet<ObjectId>,
    ) -> Result<(Option<Sequence>, bool)> {
        let mut reached = None;
        for part in changes.chunks(LOOKED_AT_ONCE) {
            // What was there when the documents were read is in them.
            let registered = self.progress.registered;
            let ids: Vec<ObjectId> = part
                .iter()
                .filter(|(at, _)| *at > registered)
                .map(|(_, change)| ObjectId::from_bytes(change.oid))
                .filter(|id| known.insert(*id))
                .collect();
            let mut looked = self.carry.look(&ids).await?;
            for logged in part {
                let (at, change) = logged;
                if *at > registered {
                    let id = ObjectId::from_bytes(change.oid);
                    if let Some(both) = looked.pop_front_if(|both| both.id() == id)
                        && !self.carry.refresh(both).await?
                    {
                        return Ok((reached, false));
                    }
                    self.progress.changes += 1;
                }
                carry::log_again(self.txn, self.carry.copy, shard, logged)?;
                reached = Some(*at);
                if self.is_full(0) {
                    let all = changes.last().is_none_or(|(last, _)| last == at);
                    return Ok((reached, all));
                }
            }
        }
        Ok((reached, true))
    }

    async fn end(mut self, now: i64, copy: BucketId) -> Result<()> {
        self.progress.error = None;
        if self.progress.phase == CopyPhase::Following {
            let (name, checkpoint) = (carry::reader_name(copy), self.progress.checkpoint());
            replica::ack(self.txn, self.carry.source, &name, checkpoint, now).await?;
        }
        write(self.txn, copy, &self.progress)?;
        self.carry.finish()
    }
}
