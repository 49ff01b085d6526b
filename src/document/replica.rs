//! Registered readers of a bucket's change log, and what they keep from being
//! destroyed.
//!
//! ```text
//! replica/<bucket>/<name>   checkpoint, lease, last word
//! data/<bucket>/floor       up to where the past is no longer kept
//! ```
//!
//! A reader registers before it reads; from then on changes and tombstones go
//! only below its checkpoint. Whoever destroys them asks [`readers`] in the
//! transaction that destroys, and raises the floor in it. [`readers`] reads with
//! conflict, and a registration reads the floor with conflict: of the two the one
//! that commits second sees the other.
//!
//! A replica that has been silent for its lease, on the bucket's own clock, is
//! stale: what it has not read may go, and it must start again from a snapshot.
//! While the clocks are suspect, or the bucket is removed, no lease ends. The
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
use crate::codec::record::{self, ReplicaRecord};
use crate::codec::{BucketId, Sequence, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::metadata::bucket;
use crate::store::{Atomic, RangeRead, Read, Transaction};

use super::Home;

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
    let known = read_one(txn, home, name).await?;
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
        lease_until: lease.ms().map(|ms| home.clock(at).saturating_add(ms)),
        registered_at: at,
        last_ack_at: None,
        stale: false,
    };
    let live = known.filter(|known| !known.is_stale && known.record.checkpoint >= floor);
    if let Some(Replica { record, .. }) = live {
        if from.is_some_and(|from| from < record.checkpoint) {
            return Err(Error::syntax(format!(
                "Replica '{name}' has passed this sequence: it is at {}",
                record.checkpoint
            )));
        }
        fresh.checkpoint = from.unwrap_or(record.checkpoint);
        fresh.registered_at = record.registered_at;
        fresh.last_ack_at = record.last_ack_at;
    } else {
        let now = Sequence::last_visible_at(txn.read_version().await?);
        fresh.checkpoint = from.unwrap_or(now);
    }
    write(txn, home.bucket(), name, &fresh)?;
    Ok(fresh.checkpoint)
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
    let mut replica = existing(txn, home, name).await?;
    let floor = floor(txn, home.bucket(), Read::Conflict).await?;
    if replica.is_stale || replica.record.checkpoint < floor {
        return Err(resync(name, floor));
    }
    let sequence = settled(txn, home, sequence).await?;
    let record = &mut replica.record;
    let moved = sequence > record.checkpoint;
    record.checkpoint = record.checkpoint.max(sequence);
    record.last_ack_at = Some(at);
    let until = record.lease_ms.map(|ms| home.clock(at).saturating_add(ms));
    record.lease_until = record.lease_until.max(until);
    write(txn, home.bucket(), name, record)?;
    if moved { let_go(txn, home, name, at).await } else { Ok(()) }
}

/// Takes a reader away, stale or not.
///
/// # Errors
/// `NOSUCHREPLICA`.
pub async fn unregister(txn: &Transaction, home: &Home, name: &str, at: i64) -> Result<()> {
    let key = keys::feed::replica(home.bucket(), name);
    if txn.get(&key, Read::Conflict).await?.is_none() {
        return Err(Error::NoSuchReplica(name.to_owned()));
    }
    txn.clear(&key)?;
    let_go(txn, home, name, at).await
}

/// Schedules a look at deleted documents that have expired, when it may have
/// been this reader for which they waited.
async fn let_go(txn: &Transaction, home: &Home, name: &str, at: i64) -> Result<()> {
    // Many readers that move on at once schedule one look.
    const STEP_MS: i64 = 1_000;
    let due = super::due(txn, home, home.clock(at), 0, None).await?;
    if due.more.is_none() {
        return Ok(());
    }
    let others = list(txn, home, Read::Snapshot).await?;
    let moved = others.iter().find(|replica| replica.name == name);
    let holds = |other: &&Replica| {
        !other.is_stale
            && moved.is_some_and(|moved| other.record.checkpoint < moved.record.checkpoint)
    };
    if others.iter().any(|other| holds(&other)) {
        return Ok(());
    }
    let next = at.div_euclid(STEP_MS).saturating_add(1).saturating_mul(STEP_MS);
    bucket::schedule_vacuum(txn, home.bucket(), next)
}

/// All readers of a bucket, by name.
///
/// # Errors
/// Those of the store; damage.
pub async fn list(txn: &Transaction, home: &Home, read: Read) -> Result<Vec<Replica>> {
    let clock = trusted_clock(txn, home).await?;
    let all = RangeRead::prefix(keys::feed::replica_prefix(home.bucket()));
    let mut replicas = Vec::new();
    let mut next = Some(RangeRead { read, ..all });
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (key, value) in &page.rows {
            let name = keys::feed::parse_replica(key)?.1;
            replicas.push(judged(name, record::decode("replica", value)?, clock));
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
    /// When the lease of the first of them ends, on the bucket's own clock.
    pub lease_ends: Option<i64>,
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
}

/// What the readers of a bucket still need, for a transaction that destroys: it
/// does not commit when a reader registers meanwhile. Those whose lease is over
/// are marked as stale, so that they stay so whatever the clock says later.
///
/// # Errors
/// Those of the store; damage.
pub async fn readers(txn: &Transaction, home: &Home) -> Result<Readers> {
    let mut readers = Readers::default();
    for Replica { name, mut record, is_stale } in list(txn, home, Read::Conflict).await? {
        if is_stale {
            if !record.stale {
                record.stale = true;
                write(txn, home.bucket(), &name, &record)?;
            }
            continue;
        }
        readers.lease_ends = readers.lease_ends.into_iter().chain(record.lease_until).min();
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

async fn read_one(txn: &Transaction, home: &Home, name: &str) -> Result<Option<Replica>> {
    let key = keys::feed::replica(home.bucket(), name);
    let Some(value) = txn.get(&key, Read::Conflict).await? else { return Ok(None) };
    let clock = trusted_clock(txn, home).await?;
    Ok(Some(judged(name.to_owned(), record::decode("replica", &value)?, clock)))
}

async fn existing(txn: &Transaction, home: &Home, name: &str) -> Result<Replica> {
    let replica = read_one(txn, home, name).await?;
    replica.ok_or_else(|| Error::NoSuchReplica(name.to_owned()))
}

/// The bucket's own clock as the store has it; `None` while the clocks are suspect.
async fn trusted_clock(txn: &Transaction, home: &Home) -> Result<Option<i64>> {
    let time = time::read(txn, Read::Snapshot).await?;
    Ok(time.suspect.is_none().then(|| home.clock(time.now)))
}

fn judged(name: String, record: ReplicaRecord, clock: Option<i64>) -> Replica {
    let over = record.lease_until.zip(clock).is_some_and(|(until, clock)| until < clock);
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
