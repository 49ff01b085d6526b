//! Reading the rows of the cluster, typed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::errors::{Error, Result};
use crate::codec::record::{self, BeatRecord, MemberRecord, ShardRecord};
use crate::codec::{Versionstamp, keys};
use crate::store::{RangeRead, Read, Transaction};

/// Who this node is: its member row as it wrote it. A cheap handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) node: String,
    pub(super) incarnation: u64,
    /// The exact bytes of the row.
    pub(super) row: Bytes,
}

impl Identity {
    /// Reads the own member row with conflict, so that the transaction lands
    /// only while this incarnation is a member.
    pub(super) async fn check(&self, txn: &Transaction) -> Result<()> {
        let row = txn.get(&keys::member(&self.node), Read::Conflict).await?;
        if row.as_ref() == Some(&self.row) { Ok(()) } else { Err(self.lost()) }
    }

    /// As [`Identity::check`], in members that were read already.
    pub(super) fn check_in(&self, members: &Members) -> Result<()> {
        let found = members.get(&self.node).map(|member| member.incarnation);
        if found == Some(self.incarnation) { Ok(()) } else { Err(self.lost()) }
    }

    pub(super) fn lost(&self) -> Error {
        Error::NotMember { node: self.node.clone(), incarnation: self.incarnation }
    }
}

pub(super) type Members = BTreeMap<String, MemberRecord>;
pub(super) type Shards = BTreeMap<u16, ShardRecord>;

/// All rows of a range, page by page.
pub(super) async fn all(txn: &Transaction, range: RangeRead) -> Result<Vec<(Bytes, Bytes)>> {
    let mut rows = Vec::new();
    let mut next = Some(range);
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        next = range.after(&page);
        rows.extend(page.rows);
    }
    Ok(rows)
}

/// All rows of a kind.
pub(super) fn kind(kind: u16, read: Read) -> RangeRead {
    let range = RangeRead::prefix(keys::kind_prefix(kind));
    RangeRead { read, ..range }
}

/// `member/`: nobody can join, leave or be evicted before the commit, when
/// read with conflict.
pub(super) async fn members(txn: &Transaction, read: Read) -> Result<Members> {
    let rows = all(txn, kind(keys::kind::MEMBER, read)).await?;
    let member = |(key, value): &(Bytes, Bytes)| {
        Ok((keys::parse_node(key)?, record::decode("member", value)?))
    };
    rows.iter().map(member).collect()
}

/// One member, by snapshot.
pub(super) async fn member(txn: &Transaction, node: &str) -> Result<Option<MemberRecord>> {
    let row = txn.get(&keys::member(node), Read::Snapshot).await?;
    Ok(row.map(|row| record::decode("member", &row)).transpose()?)
}

/// `shard/`.
pub(super) async fn shards(txn: &Transaction, read: Read) -> Result<Shards> {
    let rows = all(txn, kind(keys::kind::SHARD, read)).await?;
    let shard = |(key, value): &(Bytes, Bytes)| {
        Ok((keys::parse_shard(key)?, record::decode("shard", value)?))
    };
    rows.iter().map(shard).collect()
}

/// `beat/`, by snapshot: heartbeats conflict with nothing.
pub(super) async fn beats(txn: &Transaction) -> Result<BTreeMap<String, BeatRecord>> {
    let rows = all(txn, kind(keys::kind::BEAT, Read::Snapshot)).await?;
    let beat = |(key, value): &(Bytes, Bytes)| {
        Ok((keys::parse_node(key)?, record::decode("beat", value)?))
    };
    rows.iter().map(beat).collect()
}

/// The heartbeat of one member, by snapshot.
pub(super) async fn beat(txn: &Transaction, node: &str) -> Result<Option<BeatRecord>> {
    let row = txn.get(&keys::beat(node), Read::Snapshot).await?;
    Ok(row.map(|row| record::decode("beat", &row)).transpose()?)
}

/// `seen/`, by snapshot: it only grows.
pub(super) async fn seen(txn: &Transaction) -> Result<BTreeMap<String, Versionstamp>> {
    let rows = all(txn, kind(keys::kind::SEEN, Read::Snapshot)).await?;
    let seen =
        |(key, value): &(Bytes, Bytes)| Ok((keys::parse_node(key)?, Versionstamp::decode(value)?));
    rows.iter().map(seen).collect()
}

/// `witness/`, by snapshot: it only grows.
pub(super) async fn witnesses(txn: &Transaction) -> Result<BTreeMap<u16, Versionstamp>> {
    let rows = all(txn, kind(keys::kind::WITNESS, Read::Snapshot)).await?;
    let witness =
        |(key, value): &(Bytes, Bytes)| Ok((keys::parse_shard(key)?, Versionstamp::decode(value)?));
    rows.iter().map(witness).collect()
}

/// Tells whoever waits for a barrier to look again.
pub(super) fn signal_barrier(txn: &Transaction) -> Result<()> {
    Ok(txn.set_versionstamped_value(&keys::barrier_signal(), &Versionstamp::placeholder())?)
}

/// Tells all followers that members or owners have changed.
pub(super) fn signal_membership(txn: &Transaction) -> Result<()> {
    Ok(txn.set_versionstamped_value(&keys::membership_signal(), &Versionstamp::placeholder())?)
}
