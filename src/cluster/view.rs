//! The cluster as people see it.

use super::errors::Result;
use super::membership;
use super::{journal, rows};
use crate::codec::record::{self, ObserverRecord};
use crate::codec::{Versionstamp, keys};
use crate::store::{Read, Transaction};

/// More events behind than this are not counted.
pub const BEHIND_MAX: usize = 1_000;

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    pub node: String,
    pub incarnation: u64,
    pub address: String,
    /// The program's version.
    pub version: String,
    /// Cluster time when it joined, milliseconds since 1970.
    pub joined_at: i64,
    /// Its heartbeat has moved lately, as the answering node sees it.
    pub alive: bool,
    pub counter: i64,
    /// Its own clock at its last heartbeat, milliseconds since 1970.
    pub beat_clock: Option<i64>,
    /// Since its last heartbeat, as the answering node sees it.
    pub last_seen_ms: i64,
    pub seen: Versionstamp,
    /// Journal events that it has not reported as seen, at most [`BEHIND_MAX`].
    pub behind: usize,
    pub shards: Vec<u16>,
    /// Its clock minus cluster time; `None` until its heartbeat was seen to move.
    pub clock_offset_ms: Option<i64>,
    pub observer: bool,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardView {
    pub shard: u16,
    pub node: String,
    pub epoch: i64,
    /// Its owner is a member.
    pub owned: bool,
    pub witnessed: Versionstamp,
}

/// Members and shards at one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    pub members: Vec<MemberView>,
    pub shards: Vec<ShardView>,
    /// The version of the last journal event.
    pub journal_head: Versionstamp,
}

/// Reads the view; what only the asking node knows is filled in by the caller.
pub(super) async fn read(txn: &Transaction) -> Result<ClusterView> {
    let (members, shards, seen, witnesses, beats) = tokio::try_join!(
        rows::members(txn, Read::Snapshot),
        rows::shards(txn, Read::Snapshot),
        rows::seen(txn),
        rows::witnesses(txn),
        rows::beats(txn),
    )?;
    let head = txn.get(&keys::journal_head(), Read::Snapshot).await?;
    let journal_head = head.map(|head| Versionstamp::decode(&head)).transpose()?;
    let observer = txn.get(&keys::observer(), Read::Snapshot).await?;
    let observer: Option<ObserverRecord> =
        observer.map(|row| record::decode("observer", &row)).transpose()?;
    let mut view = ClusterView {
        members: Vec::new(),
        shards: Vec::new(),
        journal_head: journal_head.unwrap_or_default(),
    };
    for (node, member) in &members {
        let seen = seen.get(node).copied().unwrap_or_default();
        view.members.push(MemberView {
            node: node.clone(),
            incarnation: member.incarnation,
            address: member.address.clone(),
            version: member.version.clone(),
            joined_at: member.joined_at,
            alive: true,
            counter: beats.get(node).map_or(0, |beat| beat.counter),
            beat_clock: beats.get(node).map(|beat| beat.clock),
            last_seen_ms: 0,
            seen,
            behind: journal::count_after(txn, seen, BEHIND_MAX).await?,
            shards: membership::owned(&shards, node).into_keys().collect(),
            clock_offset_ms: None,
            observer: observer.as_ref().is_some_and(|o| o.incarnation == member.incarnation),
        });
    }
    for (&shard, record) in &shards {
        view.shards.push(ShardView {
            shard,
            node: record.owner.clone(),
            epoch: record.epoch,
            owned: members.contains_key(&record.owner),
            witnessed: witnesses.get(&shard).copied().unwrap_or_default(),
        });
    }
    Ok(view)
}
