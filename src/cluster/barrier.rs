//! The barrier: whether everybody has acknowledged a removal.

use super::errors::Result;
use super::mutation::Mutations;
use super::rows;
use super::work::Scope;
use crate::codec::duration::format_instant;
use crate::codec::record::{self, BusyRecord, ClusterRecord};
use crate::codec::{Versionstamp, keys};
use crate::store::{RangeRead, Read, Transaction};

/// Work that is still open on a removed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    pub node: String,
    /// The epoch of its shard; 0 for work of a member.
    pub epoch: i64,
    pub what: Vec<String>,
    /// Milliseconds since 1970, by the clock of its node.
    pub since: i64,
}

/// A shard's part of a barrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardBarrier {
    pub shard: u16,
    pub node: String,
    pub epoch: i64,
    /// The owner is a member. While it is not, the shard agrees to nothing.
    pub owned: bool,
    pub witnessed: Versionstamp,
    /// Open work for this shard, whoever does it.
    pub busy: Vec<Busy>,
    pub satisfied: bool,
}

/// A member that has not agreed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberBarrier {
    pub node: String,
    pub seen: Versionstamp,
    /// Its own open work.
    pub busy: Vec<Busy>,
}

/// A barrier as one snapshot shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarrierState {
    pub object: u64,
    /// What everybody must have seen: the version of the removal.
    pub required: Versionstamp,
    /// Every shard.
    pub shards: Vec<ShardBarrier>,
    /// The members that lag; the others agree.
    pub lagging: Vec<MemberBarrier>,
}

impl BarrierState {
    /// Whether everybody has agreed.
    #[must_use]
    pub fn satisfied(&self) -> bool {
        // Without any shard there is no cluster that could have agreed.
        !self.shards.is_empty()
            && self.lagging.is_empty()
            && self.shards.iter().all(|shard| shard.satisfied)
    }

    /// Who is missing and what is still busy there, for people; empty when
    /// the barrier is satisfied.
    #[must_use]
    pub fn missing_text(&self) -> String {
        let mut parts = Vec::new();
        for shard in self.shards.iter().filter(|shard| !shard.satisfied) {
            let mut part = format!("shard {}", shard.shard);
            if shard.owned {
                push(&mut part, format_args!(" on {}", shard.node));
            } else {
                part.push_str(" has no owner");
            }
            if shard.witnessed < self.required {
                push(&mut part, format_args!(" witnessed {}", shard.witnessed));
            }
            push_busy(&mut part, &shard.busy, Some(&shard.node));
            parts.push(part);
        }
        for member in &self.lagging {
            let mut part = format!("member {}", member.node);
            if member.seen < self.required {
                push(&mut part, format_args!(" has seen {}", member.seen));
            }
            push_busy(&mut part, &member.busy, Some(&member.node));
            parts.push(part);
        }
        parts.join("; ")
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.push_str(&more.to_string());
}

/// Names the node of the work only where it is another one.
fn push_busy(text: &mut String, busy: &[Busy], owner: Option<&str>) {
    for busy in busy {
        push(text, format_args!(" busy with {}", busy.what.join(", ")));
        if Some(busy.node.as_str()) != owner {
            push(text, format_args!(" on {}", busy.node));
        }
        push(text, format_args!(" since {}", format_instant(busy.since)));
    }
}

/// Evaluates the barrier of an object that was removed with `version`, for the
/// transaction that rests on it (rule 17): reads all `member/`, all `shard/`
/// and the busy range of the object with conflict, `seen/` and `witness/` by
/// snapshot, since they only grow.
///
/// Missing means never: a member without seen, a shard without witness or
/// without row has agreed to nothing. A busy row counts as long as its node is
/// a member with the row's incarnation, whoever owns its shard by now.
///
/// # Errors
/// Those of the store; rows that do not decode.
pub async fn evaluate(
    txn: &Transaction,
    object: u64,
    version: Versionstamp,
    mutations: Mutations,
) -> Result<BarrierState> {
    let mut busy_rows = RangeRead::prefix(keys::busy_prefix(object));
    if mutations.flip_ignores_busy_range {
        busy_rows = busy_rows.snapshot();
    }
    let (members, mut shards, busy_rows, seen, witness_rows) = tokio::try_join!(
        rows::members(txn, Read::Conflict),
        rows::shards(txn, Read::Conflict),
        rows::all(txn, busy_rows),
        rows::seen(txn),
        rows::witnesses(txn),
    )?;
    // Fixed for ever, so that no conflict is needed.
    if let Some(cluster) = txn.get(&keys::cluster(), Read::Snapshot).await? {
        let cluster: ClusterRecord = record::decode("cluster", &cluster)?;
        for shard in 0..cluster.shards {
            let missing = || record::ShardRecord { owner: String::new(), epoch: 0 };
            shards.entry(shard).or_insert_with(missing);
        }
    }
    let mut busy: Vec<(Scope, Busy)> = Vec::new();
    for (key, value) in busy_rows {
        let (_, node, scope) = keys::parse_busy(&key)?;
        let record: BusyRecord = record::decode("busy", &value)?;
        let live = members.get(&node).is_some_and(|m| m.incarnation == record.incarnation);
        if let Some(scope) = Scope::from_number(scope)
            && live
            && !mutations.busy_rows_ignored
        {
            let BusyRecord { epoch, what, since, .. } = record;
            busy.push((scope, Busy { node, epoch, what, since }));
        }
    }
    let of = |wanted: Scope, node: Option<&str>| -> Vec<Busy> {
        let fits = |(scope, busy): &&(Scope, Busy)| {
            *scope == wanted && node.is_none_or(|node| busy.node == node)
        };
        busy.iter().filter(fits).map(|(_, busy)| busy.clone()).collect()
    };
    let mut state = BarrierState { object, required: version, shards: vec![], lagging: vec![] };
    for (&shard, record) in &shards {
        let owned = members.contains_key(&record.owner);
        let witnessed = witness_rows.get(&shard).copied().unwrap_or_default();
        let busy = of(Scope::Shard(shard), None);
        state.shards.push(ShardBarrier {
            shard,
            node: record.owner.clone(),
            epoch: record.epoch,
            owned,
            witnessed,
            satisfied: owned && witnessed >= version && busy.is_empty(),
            busy,
        });
    }
    // Work for a shard that the cluster does not have would otherwise not count.
    let stray = busy
        .iter()
        .filter(|(scope, _)| matches!(scope, Scope::Shard(shard) if !shards.contains_key(shard)));
    let stray: Vec<Busy> = stray.map(|(_, busy)| busy.clone()).collect();
    for node in members.keys() {
        let shardless = shards.values().all(|record| record.owner != *node);
        if mutations.members_without_shards_ignored && shardless {
            continue;
        }
        let seen = seen.get(node).copied().unwrap_or_default();
        let mut busy = of(Scope::Member, Some(node));
        busy.extend(stray.iter().filter(|stray| stray.node == *node).cloned());
        if seen < version || !busy.is_empty() {
            state.lagging.push(MemberBarrier { node: node.clone(), seen, busy });
        }
    }
    Ok(state)
}
