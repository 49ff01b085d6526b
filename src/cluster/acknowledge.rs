//! The commits of the follower: rules 8, 9 and 11.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::errors::Result;
use super::mutation::Mutations;
use super::rows::{self, Identity, signal_barrier};
use super::work::{Scope, WorkInfo, WorkTable};
use crate::codec::record::{self, BeatRecord, BucketRecord, BusyRecord, NamespaceRecord};
use crate::codec::{BucketId, NamespaceId, Versionstamp, keys};
use crate::store::{Atomic, Read, Transaction};

/// Most pieces of work that one busy row names.
const WHAT_MAX: usize = 20;
/// Most characters of one of them.
const WHAT_LENGTH: usize = 200;

/// What one commit of the follower is to say.
#[derive(Debug)]
pub(super) struct Acknowledgment<'a> {
    pub(super) identity: &'a Identity,
    /// The last event that was applied.
    pub(super) applied: Versionstamp,
    /// The shards that this node owns, with their epochs.
    pub(super) shards: &'a BTreeMap<u16, i64>,
    /// The objects whose removal it acknowledges, or has acknowledged with
    /// busy rows that may still be there.
    pub(super) objects: &'a BTreeSet<u64>,
    /// Those of them for which an attempt, which may land whatever its result
    /// said, wrote busy rows; each attempt adds its own.
    pub(super) touched: &'a Mutex<BTreeSet<u64>>,
    pub(super) mutations: Mutations,
}

/// What such a commit would have done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// The objects that have busy rows now.
    pub(super) busy: BTreeSet<u64>,
    /// The shards for which a witness was written.
    pub(super) witnessed: BTreeMap<u16, i64>,
}

/// Writes seen, the witnesses of all shards, and the busy rows as the work
/// table is now.
///
/// It reads *and writes* `seen/<node>`, so that of two commits of one node
/// whichever comes second in order cannot land after the other has: a late one
/// neither lowers seen nor revives or erases a busy row.
pub(super) async fn acknowledge(
    txn: &Transaction,
    work: &WorkTable,
    acknowledgment: &Acknowledgment<'_>,
) -> Result<Acknowledged> {
    let Acknowledgment { identity, shards, objects, touched, mutations, .. } = *acknowledgment;
    let node = identity.node.as_str();
    txn.get(&keys::seen(node), Read::Conflict).await?;
    if !mutations.follower_ignores_membership {
        identity.check(txn).await?;
    }
    let mut applied = acknowledgment.applied;
    if mutations.seen_is_journal_head {
        let head = txn.get(&keys::journal_head(), Read::Snapshot).await?;
        applied = head.map_or(Ok(applied), |head| Versionstamp::decode(&head))?.max(applied);
    }
    let mut done = Acknowledged::default();
    for (&shard, &epoch) in shards {
        if mutations.follower_ignores_membership || owns(txn, node, shard, epoch).await? {
            done.witnessed.insert(shard, epoch);
        }
    }
    for (object, scopes) in open_work(txn, work, objects).await? {
        if !mutations.follower_ignores_membership {
            for scope in scopes.keys() {
                // Also for a row of a shard that has moved away: whoever moves it waits for this.
                if let Scope::Shard(shard) = scope {
                    txn.get(&keys::shard(*shard), Read::Conflict).await?;
                }
            }
        }
        let was_touched = {
            let mut touched = touched.lock().unwrap_or_else(PoisonError::into_inner);
            let known = touched.contains(&object);
            if !scopes.is_empty() {
                touched.insert(object);
            }
            known
        };
        if was_touched {
            super::membership::clear_prefix(txn, &keys::busy_of_node_prefix(object, node))?;
        }
        for (scope, entries) in scopes {
            let epoch = match scope {
                Scope::Member => 0,
                Scope::Shard(shard) => shards.get(&shard).copied().unwrap_or_default(),
            };
            let row = busy_row(identity, epoch, &entries);
            txn.set(&keys::busy(object, node, scope.number()), &record::encode(&row))?;
            done.busy.insert(object);
        }
    }
    txn.atomic(Atomic::ByteMax, &keys::seen(node), applied.as_bytes())?;
    for &shard in done.witnessed.keys() {
        txn.atomic(Atomic::ByteMax, &keys::witness(shard), applied.as_bytes())?;
    }
    signal_barrier(txn)?;
    Ok(done)
}

/// Reads a shard with conflict.
async fn owns(txn: &Transaction, node: &str, shard: u16, epoch: i64) -> Result<bool> {
    let row = txn.get(&keys::shard(shard), Read::Conflict).await?;
    let Some(row) = row else { return Ok(false) };
    let record: record::ShardRecord = record::decode("shard", &row)?;
    Ok(record.owner == node && record.epoch == epoch)
}

type Scopes = BTreeMap<Scope, Vec<WorkInfo>>;

/// For each object what work is left on it and below it, by scope; nothing for
/// an object that is gone.
///
/// What lies below an object is decided from the ancestors as this transaction
/// reads them, and whether the object is still there from its fence, all with
/// conflict. The entries found are counted: their end is news.
async fn open_work(
    txn: &Transaction,
    work: &WorkTable,
    objects: &BTreeSet<u64>,
) -> Result<Vec<(u64, Scopes)>> {
    let entries = if objects.is_empty() { Vec::new() } else { work.list() };
    let mut lineages: BTreeMap<BucketId, BTreeSet<u64>> = BTreeMap::new();
    for bucket in entries.iter().map(|entry| entry.bucket).collect::<BTreeSet<_>>() {
        lineages.insert(bucket, lineage(txn, bucket, Read::Conflict).await?);
    }
    let mut open = Vec::new();
    let mut counted = BTreeSet::new();
    for &object in objects {
        let mut scopes = Scopes::new();
        let below = |entry: &&WorkInfo| {
            lineages.get(&entry.bucket).is_some_and(|lineage| lineage.contains(&object))
        };
        for entry in entries.iter().filter(below) {
            scopes.entry(entry.scope).or_default().push(entry.clone());
        }
        if !scopes.is_empty() && txn.get(&keys::fence(object), Read::Conflict).await?.is_none() {
            // Purged: the flip has cleared the busy range, and nobody asks any more.
            scopes.clear();
        }
        counted.extend(scopes.values().flatten().map(|entry| entry.id));
        open.push((object, scopes));
    }
    work.count(&counted);
    Ok(open)
}

/// A bucket and all namespaces above it, by number.
pub(super) async fn lineage(
    txn: &Transaction,
    bucket: BucketId,
    read: Read,
) -> Result<BTreeSet<u64>> {
    let mut lineage = BTreeSet::from([bucket.0]);
    let Some(row) = txn.get(&keys::bucket_record(bucket), read).await? else {
        return Ok(lineage);
    };
    let mut namespace = record::decode::<BucketRecord>("bucket/record", &row)?.namespace;
    // A path that leads back to itself would be damage: do not walk it for ever.
    while namespace != NamespaceId::ROOT && lineage.insert(namespace.0) {
        let Some(row) = txn.get(&keys::namespace_record(namespace), read).await? else { break };
        namespace = record::decode::<NamespaceRecord>("namespace/record", &row)?.parent;
    }
    Ok(lineage)
}

fn busy_row(identity: &Identity, epoch: i64, entries: &[WorkInfo]) -> BusyRecord {
    let shorten = |entry: &WorkInfo| entry.what.chars().take(WHAT_LENGTH).collect();
    let mut what: Vec<String> = entries.iter().take(WHAT_MAX).map(shorten).collect();
    if let Some(rest) = entries.len().checked_sub(WHAT_MAX).filter(|rest| *rest > 0) {
        what.push(format!("{rest} more"));
    }
    let since = entries.iter().map(|entry| entry.since).min().unwrap_or_default();
    BusyRecord { incarnation: identity.incarnation, epoch, what, since }
}

/// Writes the heartbeat, and `seen` with it when given.
pub(super) async fn beat(
    txn: &Transaction,
    identity: &Identity,
    counter: i64,
    clock: i64,
    seen: Option<Versionstamp>,
) -> Result<()> {
    identity.check(txn).await?;
    let record = BeatRecord { incarnation: identity.incarnation, counter, clock };
    txn.set(&keys::beat(&identity.node), &record::encode(&record))?;
    if let Some(seen) = seen {
        txn.add_read_conflict_key(&keys::seen(&identity.node))?;
        txn.atomic(Atomic::ByteMax, &keys::seen(&identity.node), seen.as_bytes())?;
    }
    Ok(())
}

/// Who is in the cluster and who owns what, as of one value of the membership signal. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Roster(Arc<RosterRows>);

#[derive(Debug)]
struct RosterRows {
    signal: Option<Bytes>,
    members: rows::Members,
    shards: rows::Shards,
}

impl Roster {
    pub(super) fn members(&self) -> &rows::Members {
        &self.0.members
    }

    pub(super) fn shards(&self) -> &rows::Shards {
        &self.0.shards
    }
}

/// What a follower's look at the store shows, at one snapshot.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) roster: Roster,
    pub(super) batch: super::journal::Batch,
}

/// Reads the next events and how the cluster is, by snapshot. The own member
/// row is among it: a node that was evicted may miss trimmed events.
///
/// Every commit that changes a member or an owner rewrites the membership
/// signal, so while that stands as it did, the roster known from before holds:
/// a look costs the same however many members there are.
pub(super) async fn look(
    txn: &Transaction,
    identity: &Identity,
    applied: Versionstamp,
    known: Option<&Roster>,
) -> Result<Look> {
    let read = Read::Snapshot;
    let (own, signal, batch) = tokio::try_join!(
        async { Ok(txn.get(&keys::member(&identity.node), read).await?) },
        async { Ok(txn.get(&keys::membership_signal(), read).await?) },
        super::journal::read_after(txn, applied, super::journal::PAGE_EVENTS),
    )?;
    if own.as_ref() != Some(&identity.row) {
        return Err(identity.lost());
    }
    if let Some(known) = known.filter(|known| known.0.signal == signal) {
        return Ok(Look { roster: known.clone(), batch });
    }
    let (members, shards) = tokio::try_join!(rows::members(txn, read), rows::shards(txn, read))?;
    let roster = Roster(Arc::new(RosterRows { signal, members, shards }));
    Ok(Look { roster, batch })
}
