//! Registered readers of a bucket's change log, and what they keep from being
//! destroyed.
//!
//! ```text
//! replica/<bucket>/<name>   checkpoint, lease, last word
//! data/<bucket>/floor       up to where the past is no longer kept
//! data/<bucket>/registered  the last commit that registered a reader or took one away
//! ```
//!
//! A reader registers before it reads; from then on changes and tombstones go
//! only below its checkpoint. Whoever destroys them asks [`readers`] in the
//! transaction that destroys, and raises the floor in it. A registration writes
//! `registered` and reads the floor with conflict, and [`readers`] reads `registered`
//! with conflict: of the two the one that commits second sees the other.
//!
//! An ACK writes neither, so that readers that move on do not get in the way of
//! whoever destroys. [`readers`] may therefore see a checkpoint from before an ACK
//! that commits first. That is safe: a checkpoint only moves forward, so everything
//! at or below the earlier one has been passed by the later one as well, and less is
//! destroyed than might be. Nor can the floor rise above the checkpoint of a reader
//! that an ACK finds live: who raises it has seen that reader's checkpoint at the
//! floor or above, or has marked the reader as stale, and that is written to the row
//! that the ACK reads with conflict. And who finds a lease over reads the reader's
//! row with conflict, so an ACK that comes just in time counts.
//!
//! A replica that has been silent for its lease is stale: what it has not read may
//! go, and it must start again from a snapshot. A lease is measured on a clock that
//! stands still while the bucket is removed and while the clocks are suspect. The
//! readers inside the cluster (a copy) have a name that no client may take, and no
//! lease. The build of an index rests on documents, not on this log, so it is none.
//!
//! # Invariants
//!
//! * A checkpoint never goes back, and is never above what could be read.
//! * The checkpoint of a replica that is not stale is never below the floor.
//! * The floor never goes down.
//!
//! Not here: reading the log (`feed`), the commands.

use crate::cluster::time;
use crate::codec::record::{self, ClusterTimeRecord, ReplicaRecord};
use crate::codec::{BucketId, Sequence, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::metadata::bucket;
use crate::store::{Atomic, RangeRead, Read, Transaction};

use super::{Home, vacuum};

/// Most readers of one bucket.
pub const PER_BUCKET_MAX: usize = 100;
/// Longest name of a reader, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Readers that the figures of all buckets count.
const COUNTED_MAX: usize = 1_000;

/// Checks the name that a client chose.
///
/// # Errors
/// `ERR` when it is empty, too long, no text, or has the form of a reader inside the cluster.
pub fn check_name(name: &[u8]) -> Result<&str> {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:@/".contains(byte);
    match std::str::from_utf8(name) {
        Ok(text)
            if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.iter().all(is_allowed) =>
        {
            Ok(text)
        }
        _ => Err(Error::syntax(format!(
            "A replica's name has 1 to {NAME_BYTES_MAX} letters, digits or any of -_.:@/"
        ))),
    }
}

/// The name of a reader inside the cluster; no client may take it.
#[must_use]
pub fn internal_name(what: &str) -> String {
    format!("~{what}")
}

/// Whether a reader stands inside the cluster.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    name.starts_with('~')
}

/// How long a reader may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Milliseconds.
    For(i64),
    /// Never ends: for readers inside the cluster, whose end somebody else sees to.
    Never,
}

impl Lease {
    const fn ms(self) -> Option<i64> {
        match self {
            Self::For(ms) => Some(ms),
            Self::Never => None,
        }
    }
}

/// A registered reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub name: String,
    pub record: ReplicaRecord,
    /// Silent for longer than its lease, or already passed over.
    pub is_stale: bool,
}

/// Registers a reader, from now on or from an earlier position. One that is
/// live keeps its checkpoint, unless `from` is ahead of it, and gets a new lease;
/// one that is stale starts again. Gives the checkpoint.
///
/// `at` is cluster time.
///
/// # Errors
/// `RESYNCREQUIRED` when `from` is below the floor; `ERR` for a position that
/// is ahead of the log or behind the checkpoint of a live reader, and for one
/// reader too many.
pub async fn register(
    txn: &Transaction,
    home: &Home,
    name: &str,
    from: Option<Sequence>,
    lease: Lease,
    at: i64,
) -> Result<Sequence> {
    let time = time::read(txn, Read::Snapshot).await?;
    let known = read_one(txn, home, name, &time).await?;
    if known.is_none() {
        let all =
            RangeRead::prefix(keys::feed::replica_prefix(home.bucket())).limit(PER_BUCKET_MAX);
        // With conflict, so that two at the same time do not exceed the limit.
        if txn.range(all).await?.rows.len() >= PER_BUCKET_MAX {
            return Err(Error::syntax(format!(
                "A bucket can have at most {PER_BUCKET_MAX} replicas"
            )));
        }
    }
    let floor = floor(txn, home.bucket(), Read::Conflict).await?;
    let from = match from {
        Some(from) => Some(settled(txn, home, from).await?),
        None => None,
    };
    if from.is_some_and(|from| from < floor) {
        return Err(resync(name, floor));
    }
    let mut fresh = ReplicaRecord {
        checkpoint: Sequence::START,
        lease_ms: lease.ms(),
        lease_until: lease.ms().map(|ms| lease_clock(home, &time, at).saturating_add(ms)),
        registered_at: at,
        last_ack_at: None,
        stale: false,
    };
    let live = known.filter(|known| !known.is_stale && known.record.checkpoint >= floor);
    let mut passed = None;
    if let Some(Replica { record, .. }) = live {
        if from.is_some_and(|from| from < record.checkpoint) {
            return Err(Error::syntax(format!(
                "Replica '{name}' has passed this sequence: it is at {}",
                record.checkpoint
            )));
        }
        fresh.checkpoint = from.unwrap_or(record.checkpoint);
        passed = Some(record.checkpoint);
        fresh.registered_at = record.registered_at;
        fresh.last_ack_at = record.last_ack_at;
    } else {
        let now = Sequence::last_visible_at(txn.read_version().await?);
        fresh.checkpoint = from.unwrap_or(now);
    }
    write(txn, home.bucket(), name, &fresh)?;
    note_registration(txn, home.bucket())?;
    if let Some(before) = passed {
        let_go(txn, home, before, Some(fresh.checkpoint), at).await?;
    }
    Ok(fresh.checkpoint)
}

/// Notes that there are other readers than before, for whoever destroys at the moment.
///
/// # Errors
/// Those of the store.
pub fn note_registration(txn: &Transaction, bucket: BucketId) -> Result<()> {
    let key = keys::feed::registered(bucket);
    Ok(txn.set_versionstamped_value(&key, &Versionstamp::placeholder())?)
}

/// Notes that a reader has taken over everything up to a position, and renews
/// its lease. A position behind its checkpoint renews only the lease.
///
/// # Errors
/// `NOSUCHREPLICA`; `RESYNCREQUIRED` when it is stale; `ERR` for a position
/// ahead of the log.
pub async fn ack(
    txn: &Transaction,
    home: &Home,
    name: &str,
    sequence: Sequence,
    at: i64,
) -> Result<()> {
    let time = time::read(txn, Read::Snapshot).await?;
    let replica = read_one(txn, home, name, &time).await?;
    let mut replica = replica.ok_or_else(|| Error::NoSuchReplica(name.to_owned()))?;
    // Needs no conflict: see above.
    let floor = floor(txn, home.bucket(), Read::Snapshot).await?;
    if replica.is_stale || replica.record.checkpoint < floor {
        return Err(resync(name, floor));
    }
    let sequence = settled(txn, home, sequence).await?;
    let record = &mut replica.record;
    let before = record.checkpoint;
    record.checkpoint = before.max(sequence);
    record.last_ack_at = Some(at);
    let until = record.lease_ms.map(|ms| lease_clock(home, &time, at).saturating_add(ms));
    record.lease_until = record.lease_until.max(until);
    write(txn, home.bucket(), name, record)?;
    let_go(txn, home, before, Some(record.checkpoint), at).await
}

/// Takes a reader away, stale or not.
///
/// # Errors
/// `NOSUCHREPLICA`.
pub async fn unregister(txn: &Transaction, home: &Home, name: &str, at: i64) -> Result<()> {
    let key = keys::feed::replica(home.bucket(), name);
    let Some(value) = txn.get(&key, Read::Conflict).await? else {
        return Err(Error::NoSuchReplica(name.to_owned()));
    };
    let record: ReplicaRecord = record::decode("replica", &value)?;
    txn.clear(&key)?;
    note_registration(txn, home.bucket())?;
    let_go(txn, home, record.checkpoint, None, at).await
}

/// Schedules a look at what waits, if this reader was one for which the first of it
/// waited and is none any more. Whether others still are is seen then: two readers
/// that let go at the same time do not see each other.
async fn let_go(
    txn: &Transaction,
    home: &Home,
    before: Sequence,
    after: Option<Sequence>,
    at: i64,
) -> Result<()> {
    // Many readers that move on at once schedule one look.
    const STEP_MS: i64 = 1_000;
    if after == Some(before) {
        return Ok(());
    }
    // With conflict, so that what begins to wait meanwhile, for the checkpoint that is
    // left here, is not forgotten.
    let first = vacuum::first_waiting(txn, home, Read::Conflict).await?;
    let Some(end) = first.map(Sequence::end_of) else { return Ok(()) };
    if before >= end || after.is_some_and(|after| after < end) {
        return Ok(());
    }
    let next = at.div_euclid(STEP_MS).saturating_add(1).saturating_mul(STEP_MS);
    bucket::schedule_vacuum(txn, home.bucket(), next)
}

/// All readers of a bucket, by name.
///
/// # Errors
/// Those of the store; damage.
pub async fn list(txn: &Transaction, home: &Home) -> Result<Vec<Replica>> {
    let time = time::read(txn, Read::Snapshot).await?;
    all(txn, home, &time).await
}

async fn all(txn: &Transaction, home: &Home, time: &ClusterTimeRecord) -> Result<Vec<Replica>> {
    let all = RangeRead::prefix(keys::feed::replica_prefix(home.bucket()));
    let mut replicas = Vec::new();
    let mut next = Some(all.snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (key, value) in &page.rows {
            let name = keys::feed::parse_replica(key)?.1;
            replicas.push(judged(name, record::decode("replica", value)?, home, time));
        }
        next = range.after(&page);
    }
    Ok(replicas)
}

/// How many readers there are in all buckets, and how they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub live: u64,
    /// Passed over by what was destroyed.
    pub stale: u64,
    /// When the live replica spoke that is silent longest, in cluster time.
    pub silent_since: Option<i64>,
}

/// Counts the readers of all buckets, up to 1,000.
///
/// # Errors
/// Those of the store; damage.
pub async fn figures(txn: &Transaction) -> Result<Figures> {
    let all = RangeRead::prefix(keys::kind_prefix(keys::kind::REPLICA));
    let page = txn.range(all.limit(COUNTED_MAX).snapshot()).await?;
    let mut figures = Figures::default();
    for (_, value) in &page.rows {
        let record: ReplicaRecord = record::decode("replica", value)?;
        if record.stale {
            figures.stale += 1;
            continue;
        }
        figures.live += 1;
        // Readers inside the cluster have no lease; others see to them.
        let spoke = record.lease_ms.map(|_| record.last_ack_at.unwrap_or(record.registered_at));
        figures.silent_since = figures.silent_since.into_iter().chain(spoke).min();
    }
    Ok(figures)
}

/// What the readers of a bucket still need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readers {
    /// The lowest checkpoint of all that are live, and whose it is.
    pub lowest: Option<(Sequence, String)>,
    /// The checkpoint of each that is live, and when its lease ends.
    live: Vec<(Sequence, Option<i64>)>,
    /// What the clock of leases was at some time, and cluster time was then.
    clock: i64,
    now: i64,
}

impl Readers {
    /// Whether all have passed everything that a commit did.
    #[must_use]
    pub fn have_passed(&self, version: Versionstamp) -> bool {
        self.have_read(Sequence::end_of(version))
    }

    /// Whether all have read up to a position.
    #[must_use]
    pub fn have_read(&self, sequence: Sequence) -> bool {
        self.lowest.as_ref().is_none_or(|(lowest, _)| *lowest >= sequence)
    }

    /// When all that have not passed what a commit did will be stale if they stay
    /// silent, in cluster time; `None`: not all ever will.
    pub(super) fn passed_at(&self, version: Versionstamp) -> Option<i64> {
        let end = Sequence::end_of(version);
        let mut ends = self.live.iter().filter(|(at, _)| *at < end).map(|(_, until)| *until);
        let last = ends.try_fold(self.clock, |last, until| Some(last.max(until?)))?;
        Some(self.now.saturating_add(last.saturating_sub(self.clock)).saturating_add(1))
    }
}

/// What the readers of a bucket still need, for a transaction that destroys: it
/// does not commit when a reader registers meanwhile. Those whose lease is over
/// are marked as stale, so that they stay so whatever the clock says later.
///
/// # Errors
/// Those of the store; damage.
pub async fn readers(txn: &Transaction, home: &Home) -> Result<Readers> {
    let time = time::read(txn, Read::Snapshot).await?;
    let clock = lease_clock(home, &time, time.now);
    let mut readers = Readers { clock, now: time.now, ..Readers::default() };
    txn.add_read_conflict_key(&keys::feed::registered(home.bucket()))?;
    for Replica { name, mut record, is_stale } in all(txn, home, &time).await? {
        if is_stale {
            if !record.stale {
                // An ACK that commits first renews the lease.
                txn.add_read_conflict_key(&keys::feed::replica(home.bucket(), &name))?;
                record.stale = true;
                write(txn, home.bucket(), &name, &record)?;
            }
            continue;
        }
        readers.live.push((record.checkpoint, record.lease_until));
        let lower = |(lowest, _): &(Sequence, String)| record.checkpoint < *lowest;
        if readers.lowest.as_ref().is_none_or(lower) {
            readers.lowest = Some((record.checkpoint, name));
        }
    }
    Ok(readers)
}

/// Up to where the past of a bucket is no longer kept.
///
/// # Errors
/// Those of the store; damage.
pub async fn floor(txn: &Transaction, bucket: BucketId, read: Read) -> Result<Sequence> {
    let value = txn.get(&keys::feed::floor(bucket), read).await?;
    Ok(value.map_or(Ok(Sequence::START), |value| Sequence::decode(&value))?)
}

/// Raises the floor of a bucket, as part of the transaction that destroys what
/// lies below. It never goes down.
///
/// # Errors
/// Those of the store.
pub fn raise_floor(txn: &Transaction, bucket: BucketId, to: Sequence) -> Result<()> {
    Ok(txn.atomic(Atomic::ByteMax, &keys::feed::floor(bucket), &to.to_bytes())?)
}

/// Takes all readers of a bucket that is purged away.
///
/// # Errors
/// Those of the store.
pub fn forget_bucket(txn: &Transaction, bucket: BucketId) -> Result<()> {
    let (begin, end) = keys::range(&keys::feed::replica_prefix(bucket));
    Ok(txn.clear_range(&begin, &end)?)
}

fn write(txn: &Transaction, bucket: BucketId, name: &str, record: &ReplicaRecord) -> Result<()> {
    Ok(txn.set(&keys::feed::replica(bucket, name), &record::encode(record))?)
}

async fn read_one(
    txn: &Transaction,
    home: &Home,
    name: &str,
    time: &ClusterTimeRecord,
) -> Result<Option<Replica>> {
    let key = keys::feed::replica(home.bucket(), name);
    let Some(value) = txn.get(&key, Read::Conflict).await? else { return Ok(None) };
    Ok(Some(judged(name.to_owned(), record::decode("replica", &value)?, home, time)))
}

/// The clock on which leases are measured, when cluster time is `at`: the bucket's own,
/// without the time for which the clocks were suspect.
fn lease_clock(home: &Home, time: &ClusterTimeRecord, at: i64) -> i64 {
    home.clock(at).saturating_sub(time.doubted_ms)
}

fn judged(name: String, record: ReplicaRecord, home: &Home, time: &ClusterTimeRecord) -> Replica {
    let clock = lease_clock(home, time, time.now);
    // While the clocks are suspect nobody knows how much time has passed.
    let over = time.suspect.is_none() && record.lease_until.is_some_and(|until| until < clock);
    Replica { is_stale: record.stale || over, name, record }
}

fn resync(name: &str, floor: Sequence) -> Error {
    Error::ResyncRequired { replica: name.to_owned(), floor }
}

/// The error for a position that nothing has been read from.
pub(super) fn ahead(sequence: Sequence) -> Error {
    Error::syntax(format!("Invalid sequence '{sequence}': it is ahead of every change"))
}

/// A position as a checkpoint: one at the last change of a commit stands behind
/// the whole commit.
pub(super) async fn settled(
    txn: &Transaction,
    home: &Home,
    sequence: Sequence,
) -> Result<Sequence> {
    if sequence > Sequence::last_visible_at(txn.read_version().await?) {
        return Err(ahead(sequence));
    }
    let end = Sequence::end_of(sequence.version());
    for shard in home.shards() {
        let begin = keys::feed::change_behind(home.bucket(), *shard, sequence);
        let behind = keys::feed::change_behind(home.bucket(), *shard, end);
        if begin < behind
            && !txn.range(RangeRead::new(begin, behind).limit(1).snapshot()).await?.rows.is_empty()
        {
            return Ok(sequence);
        }
    }
    Ok(if sequence == Sequence::START { sequence } else { end })
}

#[cfg(test)]
mod tests;
