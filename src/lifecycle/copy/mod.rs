//! COPY and SWAP: a bucket made anew from another, and put in its place.
//!
//! ```text
//!            COPY                          the worker, in small transactions              SWAP
//!   users ----------> users2, read-only   documents, tombstones, then the change log  ----------> users
//!     |  the log is kept from here on ........................................ |        one commit:
//!     +--- written to all the time ------------------------------------------->+        the name goes over,
//!                                                                                       the old one is removed
//! ```
//!
//! A copy begins with a place in the change log of its source, which is kept for it
//! from then on. It then takes over the documents, each as it is at that moment, and then
//! every document that the log speaks of behind that place, again as it is at that moment.
//! So it comes to what the source is, whatever was written meanwhile, and doing a part of it again
//! changes nothing. The entries of the log are taken over with their versions: after the swap,
//! whoever reads the log goes on where he was.
//!
//! # Invariants
//!
//! * All parts of one copy read and write its progress with conflict, so they happen one
//!   after the other, whoever does them.
//! * A swap commits only if in its own snapshot nothing stands in the log behind what the
//!   copy has followed, read with conflict. What the writers are told meanwhile makes that likely,
//!   and is never needed for it to be right.
//! * Until it is swapped nobody but its copying writes to a copy.
//!
//! Not here: who does the copying and when (`worker::copy`), how a document is taken over
//! (`document::carry`), how writers wait (`metadata::pause`).

mod step;
pub mod swap;

use crate::codec::record::{self, BucketRecord, CopyOf, CopyPhase, CopyRecord, IndexStatus, State};
use crate::codec::{BucketId, Sequence, Versionstamp, keys};
use crate::document::replica::{self, Lease};
use crate::document::{Home, carry, feed};
use crate::error::{Error, Result};
use crate::metadata::audit::{self, Entry};
use crate::metadata::bucket;
use crate::metadata::namespace;
use crate::metadata::{Caller, Path};
use crate::store::{RangeRead, Read, Transaction};

use super::Lifecycle;

pub use step::{Stepped, step};

/// Most changes that are counted to tell how far a copy is behind.
const BEHIND_MAX: usize = 1_000;

/// What COPY was asked to do.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    pub namespace: Path,
    pub bucket: String,
    pub copy: String,
    /// Leave deleted documents behind.
    pub live_only: bool,
}

/// How far a copy is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyState {
    pub source: BucketId,
    /// The name of the source; `None` when it is gone.
    pub name: Option<String>,
    pub live_only: bool,
    pub record: CopyRecord,
    pub lag: Lag,
}

/// How far a copy is behind its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Changes not followed yet; what lies beyond [`Lag::more`] is not counted.
    pub changes: usize,
    pub more: bool,
    /// When the oldest of them was made, in cluster time.
    pub since: Option<i64>,
}

impl Lifecycle {
    /// Creates a bucket and begins to make it a copy of another.
    ///
    /// # Errors
    /// `NOSUCHNAMESPACE`, `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`, `BUCKETALREADYEXISTS`;
    /// `ERR` for a bucket that is a copy itself, or whose indexes are not ready.
    pub async fn copy(&self, caller: &Caller, request: &CopyRequest) -> Result<()> {
        let catalog = self.catalog();
        let id = BucketId(catalog.cluster().ids().next().await?);
        let now = catalog.now();
        catalog
            .run("copy", caller, |txn: Transaction| async move {
                begin(&txn, caller, request, id, now).await
            })
            .await
    }

    /// How far a copy is; `None` when the bucket is none.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn copy_state(
        &self,
        id: BucketId,
        record: &BucketRecord,
    ) -> Result<Option<CopyState>> {
        let Some(of) = record.copy else { return Ok(None) };
        self.catalog()
            .read("copy-state", |txn: Transaction| async move {
                let txn = &txn;
                let Some(record) = read(txn, id, Read::Snapshot).await? else { return Ok(None) };
                let source = match bucket::read_record(txn, of.source, Read::Snapshot).await {
                    Ok(source) => Some(source),
                    Err(Error::NoSuchBucket(_)) => None,
                    Err(error) => return Err(error),
                };
                let lag = match &source {
                    Some(source) if record.phase == CopyPhase::Following => {
                        lag(txn, &Home::of_record(of.source, source), source, &record, BEHIND_MAX)
                            .await?
                    }
                    _ => Lag::default(),
                };
                let name = source.map(|source| source.name);
                let (source, live_only) = (of.source, of.live_only);
                Ok(Some(CopyState { source, name, live_only, record, lag }))
            })
            .await
    }
}

/// The transaction of COPY.
async fn begin(
    txn: &Transaction,
    caller: &Caller,
    request: &CopyRequest,
    id: BucketId,
    now: i64,
) -> Result<()> {
    let namespace = namespace::resolve(txn, &request.namespace, Read::Conflict).await?;
    namespace.conflict_on_fences(txn)?;
    let source = bucket::find(txn, namespace.id(), &request.bucket).await?;
    bucket::expect_free(txn, namespace.id(), &request.copy).await?;
    if source.record.copy.is_some() {
        return Err(Error::syntax(format!(
            "Bucket '{}' is a copy itself: swap it first",
            request.bucket
        )));
    }
    let building = |index: &&record::IndexRecord| index.status == IndexStatus::Building;
    if let Some(index) = source.record.indexes.iter().find(building) {
        return Err(Error::syntax(format!(
            "Index '{}' of bucket '{}' is being built: copy the bucket when it is ready",
            index.name, request.bucket
        )));
    }
    let counts = bucket::counts(txn, source.id).await?;
    let tombstones = if request.live_only { 0 } else { counts.tombstones };
    let record = BucketRecord {
        name: request.copy.clone(),
        state: State::Active,
        created_at: now,
        protected: false,
        copy: Some(CopyOf { source: source.id, live_only: request.live_only }),
        paused: None,
        // What expires in its source goes here, too.
        ttl: None,
        // One that has failed has no entries, and serves nobody.
        indexes: ready(&source.record),
        ..source.record.clone()
    };
    bucket::write_new(txn, id, &record)?;
    // As of this snapshot: what is taken over is read later, so the log has all that is changed since.
    let home = Home::of_record(source.id, &source.record);
    let name = carry::reader_name(id);
    let registered = replica::register(txn, &home, &name, None, Lease::Never, now).await?;
    let progress = CopyRecord {
        phase: CopyPhase::Documents,
        registered,
        started_at: now,
        cursor: None,
        cursor_removal: None,
        positions: vec![Sequence::START; record.shards.len()],
        done: 0,
        total: counts.documents.saturating_add(tombstones),
        changes: 0,
        error: None,
    };
    write(txn, id, &progress)?;
    txn.set(&keys::copy::queued(source.id, id), b"")?;
    wake(txn)?;
    let entry = Entry {
        action: "copy",
        namespace: namespace.path.as_str(),
        bucket: &request.bucket,
        id: Some(source.id.into()),
        removal: None,
        reason: Some(&request.copy),
    };
    audit::append(txn, 0, &caller.actor, now, &entry, "OK", 1)
}

/// The indexes that a copy has.
fn ready(record: &BucketRecord) -> Vec<record::IndexRecord> {
    let ready = |index: &&record::IndexRecord| index.status == IndexStatus::Ready;
    record.indexes.iter().filter(ready).cloned().collect()
}

/// How far a copy is, if the bucket is one.
///
/// # Errors
/// Those of the store; damage.
pub async fn read(txn: &Transaction, copy: BucketId, read: Read) -> Result<Option<CopyRecord>> {
    let value = txn.get(&keys::copy::progress(copy), read).await?;
    Ok(value.map(|value| record::decode("copy", &value)).transpose()?)
}

fn write(txn: &Transaction, copy: BucketId, progress: &CopyRecord) -> Result<()> {
    Ok(txn.set(&keys::copy::progress(copy), &record::encode(progress))?)
}

/// Counts, up to a bound, what a copy has not followed yet.
async fn lag(
    txn: &Transaction,
    source: &Home,
    record: &BucketRecord,
    progress: &CopyRecord,
    most: usize,
) -> Result<Lag> {
    let mut lag = Lag::default();
    for (shard, position) in record.shards.iter().zip(&progress.positions) {
        let room = most.saturating_sub(lag.changes).max(1);
        let (changes, more) =
            feed::of_shard(txn, source, *shard, *position, room, Read::Snapshot).await?;
        let oldest = changes.first().map(|(_, change)| change.at);
        lag.since = lag.since.into_iter().chain(oldest).min();
        lag.changes += changes.len();
        lag.more |= more;
    }
    Ok(lag)
}

/// Tells all workers to look which copies there are.
///
/// # Errors
/// Those of the store.
pub fn wake(txn: &Transaction) -> Result<()> {
    Ok(txn.set_versionstamped_value(&keys::copy::signal(), &Versionstamp::placeholder())?)
}

/// Tells the workers that a bucket is active again, if it is being copied.
///
/// # Errors
/// Those of the store.
pub async fn wake_for(txn: &Transaction, source: BucketId) -> Result<()> {
    let queued = RangeRead::prefix(keys::copy::queued_prefix(source)).limit(1).snapshot();
    if txn.range(queued).await?.rows.is_empty() { Ok(()) } else { wake(txn) }
}

/// Ends a copy that cannot go on, and lets go of the log that is kept for it.
///
/// # Errors
/// Those of the store; damage.
pub async fn fail(
    txn: &Transaction,
    copy: BucketId,
    of: CopyOf,
    why: &str,
    now: i64,
) -> Result<()> {
    if let Some(mut progress) = read(txn, copy, Read::Conflict).await?
        && progress.phase != CopyPhase::Failed
    {
        progress.phase = CopyPhase::Failed;
        progress.error = Some(why.to_owned());
        write(txn, copy, &progress)?;
    }
    let_go(txn, copy, of, now).await
}

/// Writes down what went wrong with a copy that is tried again.
///
/// # Errors
/// Those of the store; damage.
pub async fn note_error(txn: &Transaction, copy: BucketId, error: &str) -> Result<()> {
    if let Some(mut progress) = read(txn, copy, Read::Conflict).await? {
        progress.error = Some(error.to_owned());
        write(txn, copy, &progress)?;
    }
    Ok(())
}

/// Takes a copy off the queue and off the readers of its source's log.
///
/// # Errors
/// Those of the store; damage.
pub async fn let_go(txn: &Transaction, copy: BucketId, of: CopyOf, now: i64) -> Result<()> {
    txn.clear(&keys::copy::queued(of.source, copy))?;
    txn.add_read_conflict_key(&keys::fence(of.source.0))?;
    let source = match bucket::read_record(txn, of.source, Read::Conflict).await {
        // Purged, and its readers with it.
        Err(Error::NoSuchBucket(_)) => return Ok(()),
        source => source?,
    };
    let home = Home::of_record(of.source, &source);
    match replica::unregister(txn, &home, &carry::reader_name(copy), now).await {
        Err(Error::NoSuchReplica(_)) => Ok(()),
        done => done,
    }
}
