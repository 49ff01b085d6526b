//! What the store holds at one moment, taken apart: the ground that the model stands on.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use lethe::codec::record::{
    self, BeatRecord, BucketRecord, BusyRecord, Change, ClusterTimeRecord, GraveRecord,
    MemberRecord, NamespaceRecord, PauseRecord, RemovalRecord, ReplicaRecord, RetentionRecord,
    ShardRecord, State, TombstoneRecord,
};
use lethe::codec::{BucketId, NamespaceId, Sequence, Versionstamp, keys};
use lethe::store::{Read, Store, Transaction};
use serde::de::DeserializeOwned;

use crate::cluster::look::rows;
use crate::cluster::{Claim, fail};

pub type Oid = [u8; 12];

/// A deleted document: which, and by which removal.
pub type Deleted = (Oid, u64);

/// What is kept of a deleted document.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub record: TombstoneRecord,
    /// What stood under the document's key; empty when that was destroyed.
    pub stored: Bytes,
    /// Of the commit that deleted it.
    pub version: Option<Versionstamp>,
}

/// What lies below the prefix of one bucket.
#[derive(Debug, Default)]
pub struct Content {
    /// What stands under the document's key.
    pub documents: BTreeMap<Oid, Bytes>,
    pub tombstones: BTreeMap<Deleted, Kept>,
    pub changes: Vec<(Versionstamp, Change)>,
    /// Of all that may not change while the bucket is removed.
    pub digest: u64,
    pub rows: usize,
}

/// One snapshot of the store.
#[derive(Debug, Default)]
pub struct Look {
    /// Since the beginning.
    pub at: Duration,
    /// No commit that it shows is newer.
    pub version: u64,
    pub buckets: BTreeMap<u64, BucketRecord>,
    pub namespaces: BTreeMap<u64, NamespaceRecord>,
    pub removals: BTreeMap<u64, (Versionstamp, RemovalRecord)>,
    pub retention: BTreeMap<u64, Option<i64>>,
    pub holds: BTreeSet<u64>,
    pub requests: BTreeSet<u64>,
    pub graves: BTreeMap<u64, GraveRecord>,
    pub reclaims: BTreeSet<u64>,
    pub members: BTreeMap<String, MemberRecord>,
    pub beats: BTreeMap<String, BeatRecord>,
    pub seen: BTreeMap<String, Bytes>,
    pub shards: BTreeMap<u16, ShardRecord>,
    pub witnesses: BTreeMap<u16, Bytes>,
    pub busy: Vec<(u64, String, BusyRecord)>,
    pub pause: Option<PauseRecord>,
    pub time: Option<ClusterTimeRecord>,
    /// By bucket and name.
    pub replicas: BTreeMap<(u64, String), ReplicaRecord>,
    /// By bucket: up to where the past is no longer kept.
    pub floors: BTreeMap<u64, Sequence>,
    /// By bucket; only of a thorough look.
    pub contents: Option<BTreeMap<u64, Content>>,
}

/// Reads all there is of one kind.
async fn of_kind(txn: &Transaction, kind: u16) -> Claim<Vec<(Bytes, Bytes)>> {
    rows(txn, &keys::kind_prefix(kind)).await
}

fn numbered(key: &[u8]) -> Claim<u64> {
    keys::parse_number("look", key).map_err(fail)
}

async fn records<T: DeserializeOwned>(txn: &Transaction, kind: u16) -> Claim<BTreeMap<u64, T>> {
    let mut records = BTreeMap::new();
    for (key, value) in of_kind(txn, kind).await? {
        records.insert(numbered(&key)?, record::decode("look", &value).map_err(fail)?);
    }
    Ok(records)
}

async fn numbers(txn: &Transaction, kind: u16) -> Claim<BTreeSet<u64>> {
    of_kind(txn, kind).await?.iter().map(|(key, _)| numbered(key)).collect()
}

async fn nodes<T>(
    txn: &Transaction,
    kind: u16,
    value: impl Fn(&Bytes) -> Claim<T>,
) -> Claim<BTreeMap<String, T>> {
    let mut nodes = BTreeMap::new();
    for (key, row) in of_kind(txn, kind).await? {
        nodes.insert(keys::parse_node(&key).map_err(fail)?, value(&row)?);
    }
    Ok(nodes)
}

fn decoded<T: DeserializeOwned>(value: &[u8]) -> Claim<T> {
    record::decode("look", value).map_err(fail)
}

impl Look {
    /// Looks at the store; thoroughly, also at what lies in the buckets.
    pub async fn take(store: &Store, at: Duration, thorough: bool) -> Claim<Self> {
        use keys::kind;
        let txn = &store.begin("look");
        let mut look = Self {
            at,
            version: txn.read_version().await.map_err(fail)?,
            buckets: records(txn, kind::BUCKET_RECORD).await?,
            namespaces: records(txn, kind::NAMESPACE_RECORD).await?,
            holds: numbers(txn, kind::HOLD).await?,
            requests: numbers(txn, kind::REQUEST).await?,
            graves: records(txn, kind::GRAVE).await?,
            reclaims: numbers(txn, kind::RECLAIM).await?,
            members: nodes(txn, kind::MEMBER, |row| decoded(row)).await?,
            beats: nodes(txn, kind::BEAT, |row| decoded(row)).await?,
            seen: nodes(txn, kind::SEEN, |row| Ok(row.clone())).await?,
            ..Self::default()
        };
        for (key, value) in of_kind(txn, kind::REMOVAL).await? {
            let removal = record::decode_versioned("removal", &value).map_err(fail)?;
            look.removals.insert(numbered(&key)?, removal);
        }
        for (removal, row) in records::<RetentionRecord>(txn, kind::RETENTION).await? {
            look.retention.insert(removal, row.expires_at);
        }
        for (key, value) in of_kind(txn, kind::SHARD).await? {
            look.shards.insert(keys::parse_shard(&key).map_err(fail)?, decoded(&value)?);
        }
        for (key, value) in of_kind(txn, kind::WITNESS).await? {
            look.witnesses.insert(keys::parse_shard(&key).map_err(fail)?, value);
        }
        for (key, value) in of_kind(txn, kind::BUSY).await? {
            let (object, node, _) = keys::parse_busy(&key).map_err(fail)?;
            look.busy.push((object, node, decoded(&value)?));
        }
        for (key, value) in of_kind(txn, kind::REPLICA).await? {
            let (bucket, name) = keys::feed::parse_replica(&key).map_err(fail)?;
            look.replicas.insert((bucket.0, name), decoded(&value)?);
        }
        for id in look.buckets.keys() {
            let floor = keys::feed::floor(BucketId(*id));
            if let Some(floor) = txn.get(&floor, Read::Snapshot).await.map_err(fail)? {
                look.floors.insert(*id, Sequence::decode(&floor).map_err(fail)?);
            }
        }
        let pause = txn.get(&keys::purge_pause(), Read::Snapshot).await.map_err(fail)?;
        look.pause = pause.map(|row| decoded(&row)).transpose()?;
        let time = txn.get(&keys::cluster_time(), Read::Snapshot).await.map_err(fail)?;
        look.time = time.map(|row| decoded(&row)).transpose()?;
        if thorough {
            look.contents = Some(contents(txn).await?);
        }
        Ok(look)
    }

    /// In which removal an instance itself is.
    pub fn own_removal_of(&self, object: u64) -> Option<u64> {
        let found = self.removals.iter().find(|(_, (_, row))| row.object.number() == object);
        found.map(|(removal, _)| *removal)
    }

    /// The namespaces in which a bucket or a namespace is, the nearest first.
    pub fn lineage(&self, object: u64) -> Vec<u64> {
        let mut lineage = Vec::new();
        let parent = self.namespaces.get(&object).map(|record| record.parent);
        let mut next = self.buckets.get(&object).map(|record| record.namespace).or(parent);
        while let Some(id) = next.filter(|id| !lineage.contains(&id.0)) {
            lineage.push(id.0);
            next = self.namespaces.get(&id.0).map(|record| record.parent);
        }
        lineage
    }

    /// In which removal a bucket is, be it that of a namespace.
    pub fn removal_of(&self, bucket: u64) -> Option<u64> {
        let above = self.lineage(bucket).into_iter().find_map(|id| self.own_removal_of(id));
        self.own_removal_of(bucket).or(above)
    }

    /// For how long the clock of a bucket has stood still.
    pub fn stood_still(&self, bucket: u64) -> i64 {
        let own = self.buckets.get(&bucket).map_or(0, |record| record.stood_still_ms);
        let above = self.lineage(bucket).into_iter().filter_map(|id| self.namespaces.get(&id));
        above.fold(own, |sum, namespace| sum + namespace.stood_still_ms)
    }

    /// The path of an active namespace in which a bucket is; nothing when one is not active.
    pub fn path(&self, bucket: u64) -> Option<String> {
        let mut segments = Vec::new();
        for id in self.lineage(bucket) {
            match self.namespaces.get(&id) {
                Some(namespace) if namespace.state == State::Active => {
                    segments.push(namespace.segment.as_str());
                }
                None if id == NamespaceId::ROOT.0 => {}
                Some(_) | None => return None,
            }
        }
        segments.reverse();
        Some(segments.join("."))
    }

    /// A digest of all of it, for the trace.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.at, self.version).hash(&mut hasher);
        for (id, bucket) in &self.buckets {
            (id, &bucket.name, bucket.created_at, bucket.stood_still_ms).hash(&mut hasher);
        }
        for (id, (version, removal)) in &self.removals {
            (id, version, removal.removed_at).hash(&mut hasher);
        }
        (&self.retention, &self.holds, &self.requests, &self.seen).hash(&mut hasher);
        for (node, beat) in &self.beats {
            (node, beat.incarnation, beat.counter, beat.clock).hash(&mut hasher);
        }
        for (id, content) in self.contents.iter().flatten() {
            (id, content.digest, content.rows).hash(&mut hasher);
        }
        hasher.finish()
    }
}

async fn contents(txn: &Transaction) -> Claim<BTreeMap<u64, Content>> {
    use keys::data;
    let mut contents: BTreeMap<u64, (Content, DefaultHasher)> = BTreeMap::new();
    let mut versions: BTreeMap<(u64, Deleted), Versionstamp> = BTreeMap::new();
    for (key, value) in of_kind(txn, keys::kind::DATA).await? {
        let (bucket, part) = keys::parse_data(&key).map_err(fail)?;
        let (content, digest) = contents.entry(bucket.0).or_default();
        content.rows += 1;
        let frozen = [data::DOCUMENT, data::BODY, data::TOMBSTONE, data::CHANGE, data::INDEX];
        if frozen.contains(&part) {
            (&key, &value).hash(digest);
        }
        match part {
            data::DOCUMENT => {
                let (_, oid) = keys::parse_document(&key).map_err(fail)?;
                content.documents.insert(oid, value);
            }
            data::TOMBSTONE => {
                let (_, id, removal) = keys::parse_tombstone(&key).map_err(fail)?;
                let length = value.first_chunk().map_or(0, |length| i32::from_le_bytes(*length));
                let length = usize::try_from(length).map_err(fail)?;
                let kept = Kept {
                    record: decoded(&value[..length])?,
                    stored: value.slice(length..),
                    version: None,
                };
                content.tombstones.insert((id, removal.0), kept);
            }
            data::EXPIRING => {
                let (bucket, _, removal, oid) = keys::parse_expiring(&key).map_err(fail)?;
                let version = Versionstamp::decode(&value).map_err(fail)?;
                versions.insert((bucket.0, (oid, removal.0)), version);
            }
            // Of one that waits for a replica.
            data::DELETED_BY if !value.is_empty() => {
                let (bucket, removal, oid) = keys::parse_deleted_by(&key).map_err(fail)?;
                let version = Versionstamp::decode(&value).map_err(fail)?;
                versions.insert((bucket.0, (oid, removal.0)), version);
            }
            data::CHANGE => {
                let (_, _, version, _) = keys::parse_change(&key).map_err(fail)?;
                let change = record::decode_change(&value).map_err(fail)?;
                content.changes.push((version, change));
            }
            _ => {}
        }
    }
    let finish = |(bucket, (mut content, digest)): (u64, (Content, DefaultHasher))| {
        content.digest = digest.finish();
        for (deleted, kept) in &mut content.tombstones {
            kept.version = versions.get(&(bucket, *deleted)).copied();
        }
        (bucket, content)
    };
    Ok(contents.into_iter().map(finish).collect())
}
