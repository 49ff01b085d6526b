//! Reading a bucket's change log.
//!
//! ```text
//! data/<bucket>/change/<shard>/<version> -> op, oid      one log for each shard
//! ```
//!
//! Versions are ordered over all shards, so one position stands for all of
//! them: a page reads each shard from that position on, in one snapshot, and
//! merges them in the order of commits. A commit that is not in the snapshot has a
//! higher version than all that are, so a reader that goes on where its page
//! ended meets each change once.
//!
//! Not here: waiting for changes (`waiting`), who may not miss any (`replica`).

use std::collections::VecDeque;

use bson::oid::ObjectId;

use super::join_all;
use super::{Document, Home, get_many, replica};
use crate::codec::record::{self, Change, ChangeOp};
use crate::codec::{Sequence, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Transaction};

/// Documents of one page, in bytes: the one that reaches it is the last.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// Changes are counted so far.
pub const COUNTED_MAX: u64 = 10_000;

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest change that is kept.
    Oldest,
    /// Behind all there are.
    Now,
    /// Behind a position.
    After(Sequence),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub sequence: Sequence,
    pub op: ChangeOp,
    pub id: ObjectId,
    /// The document as it is now, where it was asked for and there is one.
    pub document: Option<Document>,
}

/// A part of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of commits.
    pub changes: Vec<Entry>,
    /// Where to go on.
    pub next: Sequence,
}

/// Reads at most `limit` changes, by snapshot.
///
/// # Errors
/// `FEEDTRUNCATED` below what is kept; `ERR` for a position ahead of the log;
/// those of the store.
pub async fn changes(
    txn: &Transaction,
    home: &Home,
    from: From,
    limit: usize,
    with_documents: bool,
) -> Result<Page> {
    let now = Sequence::last_visible_at(txn.read_version().await?);
    let floor = replica::floor(txn, home.bucket(), Read::Snapshot).await?;
    let from = match from {
        From::Oldest => floor,
        From::Now => now,
        From::After(from) if from < floor => return Err(Error::FeedTruncated(floor)),
        From::After(from) if from > now => return Err(replica::ahead(from)),
        From::After(from) => from,
    };
    let mut page = merged(txn, home, from, limit, now).await?;
    if with_documents {
        attach(txn, home, &mut page).await?;
    }
    if page.next < now && !page.changes.is_empty() {
        // As a reader's checkpoint stands: the floor may come up to that, and not pass who goes on here.
        page.next = replica::settled(txn, home, page.next).await?;
    }
    Ok(page)
}

/// The part of one shard that has been read.
struct Part {
    rows: VecDeque<(Sequence, Change)>,
    /// Behind them there are others.
    more: bool,
}

async fn merged(
    txn: &Transaction,
    home: &Home,
    from: Sequence,
    limit: usize,
    now: Sequence,
) -> Result<Page> {
    let reads = home.shards().iter().map(|shard| part(txn, home, *shard, from, limit));
    let mut parts = join_all(reads).await?;
    let mut page = Page { changes: Vec::new(), next: now };
    loop {
        // Until the next change of each shard is known, nobody knows which is the first.
        let unknown = parts.iter().any(|part| part.rows.is_empty() && part.more);
        let first = parts.iter_mut().filter(|part| !part.rows.is_empty()).min_by_key(|part| {
            part.rows.front().map_or(Sequence::START, |(sequence, _)| *sequence)
        });
        let Some(first) = first.filter(|_| !unknown && page.changes.len() < limit) else { break };
        let Some((sequence, Change { op, oid, .. })) = first.rows.pop_front() else { break };
        let id = ObjectId::from_bytes(oid);
        page.changes.push(Entry { sequence, op, id, document: None });
    }
    if parts.iter().any(|part| part.more || !part.rows.is_empty()) {
        page.next = page.changes.last().map_or(from, |last| last.sequence);
    }
    Ok(page)
}

async fn part(
    txn: &Transaction,
    home: &Home,
    shard: u16,
    from: Sequence,
    limit: usize,
) -> Result<Part> {
    let (rows, more) = of_shard(txn, home, shard, from, limit, Read::Snapshot).await?;
    Ok(Part { rows: rows.into(), more })
}

/// The changes of one shard behind a position, and whether there may be more.
///
/// # Errors
/// Those of the store; damage.
pub async fn of_shard(
    txn: &Transaction,
    home: &Home,
    shard: u16,
    from: Sequence,
    limit: usize,
    read: Read,
) -> Result<(Vec<(Sequence, Change)>, bool)> {
    let begin = keys::feed::change_behind(home.bucket(), shard, from);
    let end = keys::after(&keys::change_prefix(home.bucket(), shard));
    let range = RangeRead { read, ..RangeRead::new(begin, end).limit(limit) };
    let page = txn.range(range).await?;
    let mut rows = Vec::with_capacity(page.rows.len());
    for (key, value) in &page.rows {
        let (_, _, version, order) = keys::parse_change(key)?;
        rows.push((Sequence::new(version, order), record::decode_change(value)?));
    }
    Ok((rows, page.more))
}

/// Gives the changes their documents; a page whose documents are too large ends early.
async fn attach(txn: &Transaction, home: &Home, page: &mut Page) -> Result<()> {
    let mut ids: Vec<ObjectId> = page.changes.iter().map(|change| change.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let stored = get_many(txn, home, &ids, Read::Snapshot).await?;
    let mut bytes = 0;
    for at in 0..page.changes.len() {
        if bytes >= DOCUMENT_BYTES_MAX {
            page.changes.truncate(at);
            page.next = page.changes.last().map_or(page.next, |last| last.sequence);
            return Ok(());
        }
        let Some(change) = page.changes.get_mut(at) else { break };
        let found = stored.binary_search_by_key(&change.id, |(id, _)| *id);
        if let Some((_, stored)) = found.ok().and_then(|place| stored.get(place)) {
            let document = stored.clone().load(txn, home, Read::Snapshot).await?;
            bytes += document.bytes().len();
            change.document = Some(document);
        }
    }
    Ok(())
}

/// How many changes lie behind each of these positions, the newest first, each
/// counted up to [`COUNTED_MAX`].
///
/// # Errors
/// Those of the store.
pub async fn behind(txn: &Transaction, home: &Home, newest_first: &[Sequence]) -> Result<Vec<u64>> {
    let mut counts = Vec::with_capacity(newest_first.len());
    let (mut count, mut until) = (0_u64, None);
    for position in newest_first {
        for shard in home.shards() {
            let begin = keys::feed::change_behind(home.bucket(), *shard, *position);
            let end = until.map_or_else(
                || keys::after(&keys::change_prefix(home.bucket(), *shard)),
                |until| keys::feed::change_behind(home.bucket(), *shard, until),
            );
            let mut next = (begin < end).then(|| RangeRead::new(begin, end).snapshot());
            while let Some(range) = next.take_if(|_| count < COUNTED_MAX) {
                let page = txn.range(range.clone()).await?;
                count = count.saturating_add(u64::try_from(page.rows.len()).unwrap_or(u64::MAX));
                next = range.after(&page);
            }
        }
        count = count.min(COUNTED_MAX);
        counts.push(count);
        until = Some(*position);
    }
    Ok(counts)
}
