//! What can be said of a bucket only from all its documents and tombstones:
//! whether its counters are exact, and whether one of them refers to each body.
//!
//! A bucket whose documents are read within the life of one snapshot is counted
//! in that snapshot. A larger one is counted in several, each where the last
//! one ended; the sum of a shard is then compared only if neither its counters
//! nor its change log has moved from the first snapshot to the last. A shard
//! that was written to during each of [`PASSES_MAX`] passes is not compared:
//! nothing certain can be said of it while it is that busy. A removed bucket
//! stands still, so it is always compared.
//!
//! A body is written in the commit that writes the key of its document, stays
//! where it is when that becomes a tombstone, and goes in one commit with it, so a body that was there before all documents were
//! looked at, that none of them refers to, and that is still there afterwards,
//! belongs to nobody. No single snapshot is needed for that.

use std::collections::{BTreeMap, BTreeSet};

use bson::oid::ObjectId;

use super::finding::{Finding, Kind, Report};
use super::look::{Look, Row};
use super::scan::Patience;
use crate::codec::record::{self, BucketRecord};
use crate::codec::{BucketId, keys};
use crate::document::{Home, Stored, Tombstone};
use crate::store::{RangeRead, Result, Store};

/// Passes over the documents of a bucket before its busy shards are given up.
const PASSES_MAX: usize = 4;
/// Bodies looked for in one pass over the documents.
const BODIES_AT_ONCE: usize = 10_000;
/// Most bodies without a document that are reported of one bucket.
const BODIES_REPORTED_MAX: usize = 100;

/// Findings about a bucket as a whole, verified.
pub(super) async fn check(store: &Store, bucket: BucketId) -> Result<Vec<Finding>> {
    let mut findings = counters(store, bucket).await?;
    findings.extend(bodies(store, bucket).await?);
    Ok(findings)
}

/// What the documents of a shard come to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sums {
    documents: i64,
    bytes: i64,
    tombstones: i64,
    /// Entries of each index.
    entries: BTreeMap<u32, i64>,
    /// A document could not be read, which is a finding of its own.
    unclear: bool,
}

impl Sums {
    fn add(&mut self, stored: Option<&Stored>) {
        self.documents += 1;
        match stored {
            Some(stored) => {
                self.bytes += i64::try_from(stored.length()).unwrap_or(i64::MAX);
            }
            None => self.unclear = true,
        }
    }
}

/// The counters of a shard, and how far its change log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    /// `None`: the counter does not decode, which is a finding of its own.
    documents: Option<i64>,
    bytes: Option<i64>,
    tombstones: Option<i64>,
    /// Entries of each index that has some.
    entries: BTreeMap<u32, Option<i64>>,
    last_change: Option<bytes::Bytes>,
}

type Marks = BTreeMap<u16, Mark>;

async fn counters(store: &Store, bucket: BucketId) -> Result<Vec<Finding>> {
    let mut before: Option<Vec<Finding>> = None;
    for _ in 0..PASSES_MAX {
        let Some((wrong, busy)) = compare(store, bucket).await? else { return Ok(Vec::new()) };
        if wrong.is_empty() && !busy {
            return Ok(wrong);
        }
        if let Some(before) = &before {
            let both: Vec<Finding> =
                wrong.iter().filter(|finding| before.contains(finding)).cloned().collect();
            if !both.is_empty() {
                return Ok(both);
            }
        }
        before = Some(wrong);
    }
    Ok(Vec::new())
}

/// Counts the documents once. Gives the counters that differ, and whether a
/// shard could not be compared; `None` when the bucket is gone.
async fn compare(store: &Store, bucket: BucketId) -> Result<Option<(Vec<Finding>, bool)>> {
    let mut walk = Walk::new(store, bucket);
    let mut sums: BTreeMap<u16, Sums> = BTreeMap::new();
    let mut begin: Option<Marks> = None;
    let mut spans = false;
    let end = loop {
        match walk.step().await? {
            Step::Gone => return Ok(None),
            Step::Opened if begin.is_some() => spans = true,
            Step::Opened => match walk.marks().await? {
                Some(marks) => begin = Some(marks),
                None => return Ok(Some((Vec::new(), true))),
            },
            Step::Documents(documents) => {
                for (shard, stored) in documents {
                    sums.entry(shard).or_default().add(stored.as_ref());
                }
            }
            Step::Tombstones(tombstones) => {
                for (shard, _) in tombstones {
                    sums.entry(shard).or_default().tombstones += 1;
                }
            }
            Step::Entries(entries) => {
                for (shard, index) in entries {
                    *sums.entry(shard).or_default().entries.entry(index).or_default() += 1;
                }
            }
            Step::End => match walk.marks().await? {
                Some(marks) => break marks,
                None => return Ok(Some((Vec::new(), true))),
            },
        }
    };
    let (mut wrong, mut busy) = (Vec::new(), false);
    for (shard, end) in end {
        let sums = sums.get(&shard).cloned().unwrap_or_default();
        if spans && begin.as_ref().and_then(|begin| begin.get(&shard)) != Some(&end) {
            busy = true;
            continue;
        }
        wrong.extend(entries(bucket, shard, &end, &sums));
        let counters = [
            (keys::counted::DOCUMENTS, end.documents, sums.documents, "documents"),
            (keys::counted::BYTES, end.bytes, sums.bytes, "bytes"),
            (keys::counted::TOMBSTONES, end.tombstones, sums.tombstones, "tombstones"),
        ];
        for (what, says, is, unit) in counters {
            if let Some(says) = says
                && says != is
                && !(sums.unclear && what == keys::counted::BYTES)
            {
                let key = keys::count(bucket, shard, what);
                let mut report = Report::on(&key);
                report.add(
                    Kind::WrongCount,
                    format!("it says {says} {unit}, but there are {is}"),
                    format!("{is} {unit}"),
                );
                wrong.extend(report.into_findings());
            }
        }
    }
    Ok(Some((wrong, busy)))
}

/// The counters of indexes of one shard that differ.
fn entries(bucket: BucketId, shard: u16, says: &Mark, is: &Sums) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for (index, says) in &says.entries {
        let is = is.entries.get(index).copied().unwrap_or_default();
        if let Some(says) = says
            && *says != is
        {
            let key = keys::index::count(bucket, *index, shard);
            let mut report = Report::on(&key);
            report.add(
                Kind::WrongCount,
                format!("it says {says} entries, but there are {is}"),
                format!("{is} entries"),
            );
            wrong.extend(report.into_findings());
        }
    }
    wrong
}

/// A pass over the documents of a bucket and then its tombstones, in as many snapshots as it takes.
struct Walk<'a> {
    store: &'a Store,
    bucket: BucketId,
    look: Option<(Look, BucketRecord)>,
    part: u16,
    next: Option<RangeRead>,
    patience: Patience,
}

enum Step {
    /// The bucket has no record any more.
    Gone,
    /// A snapshot was opened, the first or another.
    Opened,
    /// Documents, each with its shard; `None` where it cannot be read.
    Documents(Vec<(u16, Option<Stored>)>),
    /// The same of tombstones.
    Tombstones(Vec<(u16, Option<Stored>)>),
    /// Entries of indexes, each with the shard of its document.
    Entries(Vec<(u16, u32)>),
    End,
}

impl<'a> Walk<'a> {
    fn new(store: &'a Store, bucket: BucketId) -> Self {
        let next = Some(RangeRead::prefix(keys::data_part(bucket, keys::data::DOCUMENT)));
        let part = keys::data::DOCUMENT;
        Self { store, bucket, look: None, part, next, patience: Patience::default() }
    }

    async fn step(&mut self) -> Result<Step> {
        loop {
            match self.try_step().await {
                Ok(step) => return Ok(step),
                Err(error) => {
                    self.look = None;
                    self.patience.wait(error).await?;
                }
            }
        }
    }

    async fn try_step(&mut self) -> Result<Step> {
        let Some((look, record)) = &self.look else {
            let look = Look::open(self.store).await?;
            let Row::Is(record) = look.bucket(self.bucket).await? else { return Ok(Step::Gone) };
            self.look = Some((look, record));
            return Ok(Step::Opened);
        };
        let Some(range) = &self.next else {
            self.part = match self.part {
                keys::data::DOCUMENT => keys::data::TOMBSTONE,
                keys::data::TOMBSTONE if !record.indexes.is_empty() => keys::data::INDEX,
                _ => return Ok(Step::End),
            };
            self.next = Some(RangeRead::prefix(keys::data_part(self.bucket, self.part)));
            return Ok(Step::Tombstones(Vec::new()));
        };
        let home = Home::of_record(self.bucket, record);
        let page = look.range(range.clone()).await?;
        self.next = range.after(&page);
        self.patience.renew();
        // A key that does not decode is a finding of its own.
        if self.part == keys::data::INDEX {
            let entries = page.rows.iter().filter_map(|(key, _)| {
                let entry = keys::index::parse_entry(key).ok()?;
                Some((home.shard_of(&ObjectId::from_bytes(entry.id)), entry.index))
            });
            return Ok(Step::Entries(entries.collect()));
        }
        let rows = page.rows.iter().filter_map(|(key, value)| {
            let (oid, stored) = if self.part == keys::data::DOCUMENT {
                (keys::parse_document(key).ok()?.1, Stored::decode(value).ok())
            } else {
                let stored =
                    Tombstone::decode(key, value).ok().and_then(|tombstone| tombstone.stored);
                (keys::parse_tombstone(key).ok()?.1, stored)
            };
            Some((home.shard_of(&ObjectId::from_bytes(oid)), stored))
        });
        let rows = rows.collect();
        Ok(if self.part == keys::data::DOCUMENT {
            Step::Documents(rows)
        } else {
            Step::Tombstones(rows)
        })
    }

    /// The counters at the present snapshot; `None` when it has grown too old.
    async fn marks(&self) -> Result<Option<Marks>> {
        let Some((look, record)) = &self.look else { return Ok(None) };
        let mut marks = Marks::new();
        for &shard in &record.shards {
            match mark(look, self.bucket, record, shard).await {
                Ok(mark) => marks.insert(shard, mark),
                Err(error) if error.is_retryable() => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        Ok(Some(marks))
    }
}

async fn mark(look: &Look, bucket: BucketId, record: &BucketRecord, shard: u16) -> Result<Mark> {
    let mut entries = BTreeMap::new();
    for index in &record.indexes {
        let key = keys::index::count(bucket, index.id, shard);
        entries.insert(index.id, sum(look, &key).await?);
    }
    let changes = RangeRead::prefix(keys::change_prefix(bucket, shard)).reverse().limit(1);
    Ok(Mark {
        documents: sum(look, &keys::count(bucket, shard, keys::counted::DOCUMENTS)).await?,
        bytes: sum(look, &keys::count(bucket, shard, keys::counted::BYTES)).await?,
        tombstones: sum(look, &keys::count(bucket, shard, keys::counted::TOMBSTONES)).await?,
        entries,
        last_change: look.range(changes).await?.rows.into_iter().next().map(|(key, _)| key),
    })
}

async fn sum(look: &Look, key: &[u8]) -> Result<Option<i64>> {
    Ok(record::decode_sum("count", look.get(key).await?.as_deref()).ok())
}

async fn bodies(store: &Store, bucket: BucketId) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let (mut from, _) = keys::range(&keys::data_part(bucket, keys::data::BODY));
    loop {
        let (mut lonely, next) = some_bodies(store, bucket, &from).await?;
        let mut walk = Walk::new(store, bucket);
        while !lonely.is_empty() {
            match walk.step().await? {
                Step::Gone => return Ok(Vec::new()),
                Step::Opened | Step::Entries(_) => {}
                Step::Documents(rows) | Step::Tombstones(rows) => {
                    for (_, stored) in rows {
                        if let Some(Stored::Reference(reference)) = stored {
                            lonely.remove(&reference.body());
                        }
                    }
                }
                Step::End => break,
            }
        }
        for body in lonely {
            let Some(key) = first_piece(store, bucket, body).await? else { continue };
            if findings.len() < BODIES_REPORTED_MAX {
                let mut report = Report::on(&key);
                report.add(
                    Kind::OrphanedBody,
                    "nothing refers to this body, of which this is the first piece",
                    "a document or a tombstone that refers to it",
                );
                findings.extend(report.into_findings());
            }
        }
        match next {
            Some(next) => from = next,
            None => return Ok(findings),
        }
    }
}

/// The first piece of a body, if it is still there.
async fn first_piece(store: &Store, bucket: BucketId, body: u64) -> Result<Option<bytes::Bytes>> {
    let pieces = RangeRead::prefix(keys::body_prefix(bucket, body)).limit(1);
    let mut patience = Patience::default();
    loop {
        let read = async { Look::open(store).await?.range(pieces.clone()).await };
        match read.await {
            Ok(page) => return Ok(page.rows.into_iter().next().map(|(key, _)| key)),
            Err(error) => patience.wait(error).await?,
        }
    }
}

/// The numbers of the next bodies, and where to go on.
async fn some_bodies(
    store: &Store,
    bucket: BucketId,
    from: &[u8],
) -> Result<(BTreeSet<u64>, Option<Vec<u8>>)> {
    let mut found = BTreeSet::new();
    let end = keys::after(&keys::data_part(bucket, keys::data::BODY));
    let mut at = from.to_vec();
    let mut patience = Patience::default();
    loop {
        let result = async {
            let look = Look::open(store).await?;
            while found.len() < BODIES_AT_ONCE {
                let range = RangeRead::new(at.clone(), end.clone()).limit(1);
                let page = look.range(range).await?;
                let Some((key, _)) = page.rows.first() else { return Ok(true) };
                patience.renew();
                at = if let Ok((_, body, _)) = keys::parse_body_chunk(key) {
                    found.insert(body);
                    keys::after(&keys::body_prefix(bucket, body))
                } else {
                    keys::next(key)
                };
            }
            Ok(false)
        };
        match result.await {
            Ok(true) => return Ok((found, None)),
            Ok(false) => return Ok((found, Some(at))),
            Err(error) => patience.wait(error).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::TestClock;
    use crate::codec::NamespaceId;
    use crate::document::{Document, Limits, NewDocument, ObjectIds, Origin, insert};

    const BUCKET: BucketId = BucketId(7);

    async fn bucket_of(store: &Store, documents: usize) {
        let record = BucketRecord::new(NamespaceId(1), "x", vec![2, 5], 0);
        let txn = store.begin("create");
        txn.set(&keys::bucket_record(BUCKET), &record::encode(&record)).unwrap();
        txn.commit().await.unwrap();
        let ids = ObjectIds::new([1; 5], Arc::new(TestClock::starting_at(0)));
        let home = Home::of_record(BUCKET, &record);
        let text = format!("{{t: '{}'}}", "x".repeat(80_000));
        for _ in 0..documents {
            let document = Document::from_json(text.as_bytes(), Limits::default()).unwrap();
            let new = NewDocument::new(document, Origin::Json, &ids).unwrap();
            let txn = store.begin("insert");
            insert(&txn, &home, &[new], 0).await.unwrap();
            txn.commit().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_walk_goes_on_in_another_snapshot_and_shows_each_document_once() {
        let store = Store::memory();
        bucket_of(&store, 40).await;
        let mut walk = Walk::new(&store, BUCKET);
        let (mut opened, mut shown) = (0, 0);
        loop {
            match walk.step().await.unwrap() {
                Step::Opened => opened += 1,
                Step::Documents(documents) => {
                    shown += documents.len();
                    // Longer than a snapshot lives.
                    tokio::time::advance(Duration::from_secs(6)).await;
                }
                Step::Tombstones(_) | Step::Entries(_) => {
                    tokio::time::advance(Duration::from_secs(6)).await;
                }
                Step::End => break,
                Step::Gone => panic!("the bucket is there"),
            }
        }
        assert_eq!(shown, 40);
        assert!(opened > 2, "{opened} snapshots");
        assert!(walk.marks().await.unwrap().is_none(), "the last one is too old by now");
        assert_eq!(compare(&store, BUCKET).await.unwrap(), Some((Vec::new(), false)));
    }
}
