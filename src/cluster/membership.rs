//! Joining, leaving and being removed: rules 10, 12, 13 and 14.
//!
//! Whoever writes an owner into a shard has read that owner's member row with
//! conflict, and whoever removes a member row gives its shards away in the same
//! commit. So after every commit each shard belongs to a member, as long as
//! there is one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::assignment::assign;
use super::errors::{Error, Result};
use super::ids::IdBlocks;
use super::mutation::Mutations;
use super::rows::{self, Identity, Members, Shards, signal_barrier, signal_membership};
use super::time;
use super::types::ClusterOptions;
use crate::clock::Clock;
use crate::codec::record::{
    self, BeatRecord, ClusterRecord, ClusterTimeRecord, MemberRecord, ObserverRecord, ShardRecord,
};
use crate::codec::{Versionstamp, keys};
use crate::store::{Atomic, Read, Resolve, Store, Transaction};

/// The version of the key space that this program reads and writes.
pub const FORMAT: u32 = 1;

/// A node that has just become a member.
#[derive(Debug, Clone)]
pub(super) struct Joined {
    pub(super) identity: Identity,
    pub(super) record: ClusterRecord,
    /// Everything up to here is known to this incarnation.
    pub(super) seen: Versionstamp,
    /// Epochs of the shards that it owns.
    pub(super) shards: BTreeMap<u16, i64>,
    /// Nobody else was a member: it has the observer's duty from the start.
    pub(super) alone: bool,
    pub(super) time: ClusterTimeRecord,
}

/// Joins as a new incarnation, and makes the cluster if there is none. All
/// handles and work of the node's former incarnation must be gone.
pub(super) async fn join(
    store: &Store,
    ids: &IdBlocks,
    clock: &dyn Clock,
    options: &ClusterOptions,
) -> Result<Joined> {
    let body = |txn: Transaction| async move {
        // Each attempt is an incarnation of its own: one whose result was
        // unknown counts as a former incarnation, which is gone.
        let incarnation = ids.next().await?;
        join_in(&txn, incarnation, clock.now(), options).await
    };
    Ok(store.run("join", Resolve::Idempotent, body).await?.value)
}

pub(super) async fn join_in(
    txn: &Transaction,
    incarnation: u64,
    now: i64,
    options: &ClusterOptions,
) -> Result<Joined> {
    let node = options.node.as_str();
    let record = cluster_record(txn, now, options).await?;
    let mut members = rows::members(txn, Read::Conflict).await?;
    let mut shards = rows::shards(txn, Read::Conflict).await?;
    for number in 0..record.shards {
        let unowned = || ShardRecord { owner: String::new(), epoch: 0 };
        shards.entry(number).or_insert_with(unowned);
    }
    if let Some(former) = members.remove(node) {
        clear_prefix(txn, &keys::attempt_prefix(former.incarnation))?;
    }
    if options.exclusive {
        // The store is locked by this process: no other member can be alive.
        for (other, member) in std::mem::take(&mut members) {
            clear_member(txn, &other, member.incarnation)?;
        }
    }
    let alone = members.is_empty();
    let stored = time::read(txn, if alone { Read::Conflict } else { Read::Snapshot }).await?;
    // Nobody kept cluster time while nobody was here.
    let time = if alone { time::judge_alone(&stored, node, now) } else { stored.clone() };
    if time != stored {
        txn.set(&keys::cluster_time(), &record::encode(&time))?;
    }
    if alone {
        let observer = ObserverRecord { node: node.to_owned(), incarnation };
        txn.set(&keys::observer(), &record::encode(&observer))?;
    }
    // What the former incarnation of this node owned has no owner now.
    let unowned: BTreeSet<u16> = without_member(&shards, &members);
    let member = MemberRecord {
        incarnation,
        address: options.address.clone(),
        joined_at: now,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let row = Bytes::from(record::encode(&member));
    let identity = Identity { node: node.to_owned(), incarnation, row };
    members.insert(node.to_owned(), member);
    let seen = Versionstamp::last_visible_at(txn.read_version().await?);
    txn.set(&keys::member(node), &identity.row)?;
    txn.atomic(Atomic::ByteMax, &keys::seen(node), seen.as_bytes())?;
    let beat = BeatRecord { incarnation, counter: 0, clock: now };
    txn.set(&keys::beat(node), &record::encode(&beat))?;
    // As far as possible the former owner of a shard keeps it, also this node itself.
    let given = give_away(txn, &members, &mut shards, &unowned)?;
    for shard in given.iter().filter(|(_, owner)| owner.as_str() == node).map(|(shard, _)| *shard) {
        txn.atomic(Atomic::ByteMax, &keys::witness(shard), seen.as_bytes())?;
    }
    signal_membership(txn)?;
    signal_barrier(txn)?;
    let shards = owned(&shards, node);
    Ok(Joined { identity, record, seen, shards, alone, time })
}

/// Reads what the cluster was made with, or makes it.
async fn cluster_record(
    txn: &Transaction,
    now: i64,
    options: &ClusterOptions,
) -> Result<ClusterRecord> {
    let found = txn.get(&keys::cluster(), Read::Conflict).await?;
    let Some(found) = found else {
        let record = ClusterRecord {
            name: options.name.clone(),
            shards: options.shards,
            format: FORMAT,
            created_at: now,
            id: format!("{:032x}", rand::random::<u128>()),
        };
        txn.set(&keys::cluster(), &record::encode(&record))?;
        let time =
            ClusterTimeRecord { now, suspect: None, pending: None, accepted: None, doubted_ms: 0 };
        txn.set(&keys::cluster_time(), &record::encode(&time))?;
        return Ok(record);
    };
    let record: ClusterRecord = record::decode("cluster", &found)?;
    if record.format != FORMAT {
        return Err(Error::Setting(format!(
            "the store has key space format {}, but this program reads and writes format {FORMAT}",
            record.format
        )));
    }
    if record.name != options.name {
        return Err(Error::Setting(format!(
            "the store belongs to the cluster '{}', but cluster.name is '{}'",
            record.name, options.name
        )));
    }
    if record.shards != options.shards {
        return Err(Error::Setting(format!(
            "the cluster was made with {} shards, which is fixed for ever, but cluster.shards is {}",
            record.shards, options.shards
        )));
    }
    Ok(record)
}

/// Leaves the cluster on the node's own account, in one commit: the member row
/// goes and its shards get new owners. Gives whether it was still a member.
pub(super) async fn depart(
    store: &Store,
    label: &'static str,
    identity: &Identity,
) -> Result<bool> {
    let body = |txn: Transaction| async move { depart_in(&txn, identity).await };
    Ok(store.run(label, Resolve::Idempotent, body).await?.value)
}

pub(super) async fn depart_in(txn: &Transaction, identity: &Identity) -> Result<bool> {
    let mut members = rows::members(txn, Read::Conflict).await?;
    if identity.check_in(&members).is_err() {
        return Ok(false);
    }
    let mut shards = rows::shards(txn, Read::Conflict).await?;
    let observer = txn.get(&keys::observer(), Read::Conflict).await?;
    if let Some(observer) = observer {
        let observer: ObserverRecord = record::decode("observer", &observer)?;
        if observer.incarnation == identity.incarnation {
            // So that somebody else takes the duty at once.
            txn.clear(&keys::observer())?;
        }
    }
    members.remove(&identity.node);
    clear_member(txn, &identity.node, identity.incarnation)?;
    let unowned = without_member(&shards, &members);
    give_away(txn, &members, &mut shards, &unowned)?;
    signal_membership(txn)?;
    signal_barrier(txn)?;
    Ok(true)
}

/// A member as the observer saw it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Silent {
    pub(super) node: String,
    pub(super) incarnation: u64,
    pub(super) counter: i64,
}

/// Removes a member that has been silent too long, unless its counter has
/// moved since. Gives whether it was removed.
pub(super) async fn evict(
    store: &Store,
    identity: &Identity,
    silent: &Silent,
    mutations: Mutations,
) -> Result<bool> {
    let body = |txn: Transaction| async move { evict_in(&txn, identity, silent, mutations).await };
    Ok(store.run("evict", Resolve::Idempotent, body).await?.value)
}

pub(super) async fn evict_in(
    txn: &Transaction,
    identity: &Identity,
    silent: &Silent,
    mutations: Mutations,
) -> Result<bool> {
    let mut members = rows::members(txn, Read::Conflict).await?;
    identity.check_in(&members)?;
    let present = members.get(&silent.node).map(|member| member.incarnation);
    if present != Some(silent.incarnation) {
        return Ok(false);
    }
    if !mutations.evict_without_counter {
        let beat = txn.get(&keys::beat(&silent.node), Read::Conflict).await?;
        if let Some(beat) = beat {
            let beat: BeatRecord = record::decode("beat", &beat)?;
            if (beat.incarnation, beat.counter) != (silent.incarnation, silent.counter) {
                return Ok(false);
            }
        }
    }
    let mut shards = rows::shards(txn, Read::Conflict).await?;
    members.remove(&silent.node);
    clear_member(txn, &silent.node, silent.incarnation)?;
    reassign_in(txn, identity, &members, &mut shards).await?;
    signal_membership(txn)?;
    signal_barrier(txn)?;
    Ok(true)
}

/// Gives shards whose owner is no member to members. Gives which.
pub(super) async fn reassign(store: &Store, identity: &Identity) -> Result<Vec<(u16, String)>> {
    let body = |txn: Transaction| async move {
        let txn = &txn;
        let members = rows::members(txn, Read::Conflict).await?;
        identity.check_in(&members)?;
        let mut shards = rows::shards(txn, Read::Conflict).await?;
        let given = reassign_in(txn, identity, &members, &mut shards).await?;
        if !given.is_empty() {
            signal_membership(txn)?;
            signal_barrier(txn)?;
        }
        Ok::<_, Error>(given)
    };
    Ok(store.run("reassign", Resolve::Idempotent, body).await?.value)
}

async fn reassign_in(
    txn: &Transaction,
    identity: &Identity,
    members: &Members,
    shards: &mut Shards,
) -> Result<Vec<(u16, String)>> {
    let unowned = without_member(shards, members);
    let given = give_away(txn, members, shards, &unowned)?;
    if given.iter().all(|(_, owner)| *owner != identity.node) {
        return Ok(given);
    }
    // What this member has seen holds for its new shards as well: it has no work for them yet.
    let seen = txn.get(&keys::seen(&identity.node), Read::Snapshot).await?;
    if let Some(seen) = seen {
        for (shard, _) in given.iter().filter(|(_, owner)| *owner == identity.node) {
            txn.atomic(Atomic::ByteMax, &keys::witness(*shard), &seen)?;
        }
    }
    Ok(given)
}

/// Gives shards of this node, whose work is drained, to those who should own
/// them. Gives which went to whom.
pub(super) async fn hand_over(
    store: &Store,
    identity: &Identity,
    drained: &BTreeMap<u16, i64>,
) -> Result<Vec<(u16, String)>> {
    let body = |txn: Transaction| async move { hand_over_in(&txn, identity, drained).await };
    Ok(store.run("hand-over", Resolve::Idempotent, body).await?.value)
}

pub(super) async fn hand_over_in(
    txn: &Transaction,
    identity: &Identity,
    drained: &BTreeMap<u16, i64>,
) -> Result<Vec<(u16, String)>> {
    let members = rows::members(txn, Read::Conflict).await?;
    identity.check_in(&members)?;
    let shards = rows::shards(txn, Read::Conflict).await?;
    let wished = wished_owners(&members, &shards);
    let mut given = Vec::new();
    for (&shard, &epoch) in drained {
        let Some(record) = shards.get(&shard) else { continue };
        let Some(&owner) = wished.get(&shard) else { continue };
        if record.owner == identity.node && record.epoch == epoch && owner != identity.node {
            write_owner(txn, shard, owner, epoch + 1)?;
            given.push((shard, owner.to_owned()));
        }
    }
    if !given.is_empty() {
        signal_membership(txn)?;
    }
    Ok(given)
}

/// Who should own each shard.
pub(super) fn wished_owners<'a>(
    members: &'a Members,
    shards: &'a Shards,
) -> BTreeMap<u16, &'a str> {
    let owners = shards
        .iter()
        .map(|(&shard, record)| {
            let owner = record.owner.as_str();
            (shard, members.contains_key(owner).then_some(owner))
        })
        .collect();
    assign(members.keys().map(String::as_str), &owners)
}

/// Shards whose owner is no member.
pub(super) fn without_member(shards: &Shards, members: &Members) -> BTreeSet<u16> {
    let unowned = shards.iter().filter(|(_, record)| !members.contains_key(&record.owner));
    unowned.map(|(&shard, _)| shard).collect()
}

/// The shards of a node with their epochs.
pub(super) fn owned(shards: &Shards, node: &str) -> BTreeMap<u16, i64> {
    let mine = shards.iter().filter(|(_, record)| record.owner == node);
    mine.map(|(&shard, record)| (shard, record.epoch)).collect()
}

/// Writes an owner and the next epoch into each of these shards. With no
/// member left they stay without one, under the next epoch all the same, so
/// that nothing under the old one lands any more.
fn give_away(
    txn: &Transaction,
    members: &Members,
    shards: &mut Shards,
    unowned: &BTreeSet<u16>,
) -> Result<Vec<(u16, String)>> {
    let wished: BTreeMap<u16, String> = wished_owners(members, shards)
        .into_iter()
        .map(|(shard, owner)| (shard, owner.to_owned()))
        .collect();
    let mut given = Vec::new();
    for &shard in unowned {
        let Some(record) = shards.get_mut(&shard) else { continue };
        if let Some(owner) = wished.get(&shard) {
            record.owner.clone_from(owner);
            given.push((shard, owner.clone()));
        }
        record.epoch += 1;
        write_owner(txn, shard, &record.owner, record.epoch)?;
    }
    Ok(given)
}

fn write_owner(txn: &Transaction, shard: u16, owner: &str, epoch: i64) -> Result<()> {
    let record = ShardRecord { owner: owner.to_owned(), epoch };
    Ok(txn.set(&keys::shard(shard), &record::encode(&record))?)
}

/// Clears the rows of a member that goes. Its busy rows no longer count and
/// are swept later.
fn clear_member(txn: &Transaction, node: &str, incarnation: u64) -> Result<()> {
    txn.clear(&keys::member(node))?;
    txn.clear(&keys::seen(node))?;
    txn.clear(&keys::beat(node))?;
    clear_prefix(txn, &keys::attempt_prefix(incarnation))
}

pub(super) fn clear_prefix(txn: &Transaction, prefix: &[u8]) -> Result<()> {
    let (begin, end) = keys::range(prefix);
    Ok(txn.clear_range(&begin, &end)?)
}
