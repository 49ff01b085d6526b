use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::finding::{Kind, Report};
use crate::codec::record::{
    self, BucketRecord, ClusterRecord, ClusterTimeRecord, MemberRecord, NamespaceRecord,
    ReclaimRecord, RemovalRecord, RetentionRecord, State,
};
use crate::codec::{
    BucketId, DecodeError, NamespaceId, Object, RemovalId, Versionstamp, keys, readable,
};
use crate::document::{Document, Home, Stored};
use crate::metadata::name::DEPTH_MAX;
use crate::store::{RangeRead, Read, Result, Store, Transaction};

/// A row that another one speaks of.
#[derive(Debug)]
pub(super) enum Row<T> {
    Absent,
    /// It is there but does not decode, which is a finding of its own.
    Broken,
    Is(T),
}

impl<T> Row<T> {
    fn of(value: Option<Bytes>, decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>) -> Self {
        match value.map(|value| decode(&value)) {
            None => Self::Absent,
            Some(Err(_)) => Self::Broken,
            Some(Ok(row)) => Self::Is(row),
        }
    }

    pub(super) const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// To whom the keys below a data prefix belong.
#[derive(Debug, Clone)]
pub(super) enum Owner {
    /// A bucket, active or removed.
    Bucket(Box<BucketRecord>),
    /// A bucket that was purged; its prefix waits to be dropped.
    Waiting,
    /// A bucket that was purged, and its prefix is said to have been dropped.
    Dropped,
    /// The record or the job is damaged, which is a finding of its own.
    Unclear,
    Nobody,
}

/// A bucket or a namespace, as far as they are alike.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) state: State,
    pub(super) parent: NamespaceId,
    pub(super) name: String,
}

/// What lies above something.
#[derive(Debug)]
pub(super) struct Above {
    /// From the lowest one up, as far as there are records.
    pub(super) chain: Vec<NamespaceId>,
    /// One of them was purged, and this goes with it.
    pub(super) going: bool,
}

/// The store at one snapshot, with what many rules ask for.
#[derive(Debug)]
pub(super) struct Look {
    txn: Transaction,
    /// The last commit that this snapshot can hold.
    pub(super) newest: Versionstamp,
    pub(super) cluster: Option<ClusterRecord>,
    /// `None`: there is none, or it does not decode.
    pub(super) next_id: Option<u64>,
    /// Incarnations by node.
    pub(super) members: BTreeMap<String, u64>,
    /// Cluster time.
    pub(super) now: Option<i64>,
    owner: Option<(BucketId, Owner)>,
}

impl Look {
    pub(super) async fn open(store: &Store) -> Result<Self> {
        let txn = store.begin("check");
        let newest = Versionstamp::last_visible_at(txn.read_version().await?);
        let mut look = Self {
            txn,
            newest,
            cluster: None,
            next_id: None,
            members: BTreeMap::new(),
            now: None,
            owner: None,
        };
        if let Row::Is(cluster) = look.record("cluster", &keys::cluster()).await? {
            look.cluster = Some(cluster);
        }
        if let Row::Is(time) = look.record("cluster-time", &keys::cluster_time()).await? {
            let ClusterTimeRecord { now, .. } = time;
            look.now = Some(now);
        }
        let next_id = look.get(&keys::next_id()).await?;
        look.next_id =
            next_id.and_then(|value| <[u8; 8]>::try_from(&value[..]).ok()).map(u64::from_le_bytes);
        let mut next = Some(RangeRead::prefix(keys::kind_prefix(keys::kind::MEMBER)).snapshot());
        while let Some(range) = next {
            let page = look.range(range.clone()).await?;
            for (key, value) in &page.rows {
                let record = record::decode::<MemberRecord>("member", value);
                if let (Ok(node), Ok(record)) = (keys::parse_node(key), record) {
                    look.members.insert(node, record.incarnation);
                }
            }
            next = range.after(&page);
        }
        Ok(look)
    }

    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.txn.get(key, Read::Snapshot).await
    }

    /// A document put together from its pieces. `Err`: what is wrong with it.
    pub(super) async fn document(
        &self,
        stored: Stored,
        home: &Home,
    ) -> Result<Result<Document, String>> {
        match stored.load(&self.txn, home, Read::Snapshot).await {
            Ok(document) => Ok(Ok(document)),
            Err(crate::error::Error::Store(error)) => Err(error),
            Err(damage) => Ok(Err(damage.to_string())),
        }
    }

    pub(super) async fn exists(&self, key: &[u8]) -> Result<bool> {
        Ok(self.get(key).await?.is_some())
    }

    /// A row that has to be there: `wrong` is what is so without it.
    pub(super) async fn expect(
        &self,
        report: &mut Report<'_>,
        key: &[u8],
        wrong: impl Into<String>,
    ) -> Result<()> {
        if !self.exists(key).await? {
            report.add(Kind::Missing, wrong, readable::key(key));
        }
        Ok(())
    }

    pub(super) async fn range(&self, range: RangeRead) -> Result<crate::store::Page> {
        self.txn.range(range.snapshot()).await
    }

    /// A row that is one record.
    pub(super) async fn record<T: DeserializeOwned>(
        &self,
        what: &'static str,
        key: &[u8],
    ) -> Result<Row<T>> {
        Ok(Row::of(self.get(key).await?, |value| record::decode(what, value)))
    }

    pub(super) async fn bucket(&self, id: BucketId) -> Result<Row<BucketRecord>> {
        self.record("bucket/record", &keys::bucket_record(id)).await
    }

    pub(super) async fn namespace(&self, id: NamespaceId) -> Result<Row<NamespaceRecord>> {
        self.record("namespace/record", &keys::namespace_record(id)).await
    }

    pub(super) async fn removal(
        &self,
        id: RemovalId,
    ) -> Result<Row<(Versionstamp, RemovalRecord)>> {
        let value = self.get(&keys::removal(id)).await?;
        Ok(Row::of(value, |value| record::decode_versioned("removal", value)))
    }

    pub(super) async fn retention(&self, id: RemovalId) -> Result<Row<RetentionRecord>> {
        self.record("retention", &keys::retention(id)).await
    }

    /// A row whose value is an id.
    pub(super) async fn pointer(&self, key: &[u8]) -> Result<Row<u64>> {
        Ok(Row::of(self.get(key).await?, |value| number("pointer", value)))
    }

    /// What a removal or a fence may be about, whatever its kind.
    pub(super) async fn instance(&self, object: Object) -> Result<Row<Instance>> {
        Ok(match object {
            Object::Bucket(id) => match self.bucket(id).await? {
                Row::Is(is) => {
                    let BucketRecord { state, namespace, name, .. } = is;
                    Row::Is(Instance { state, parent: namespace, name })
                }
                Row::Broken => Row::Broken,
                Row::Absent => Row::Absent,
            },
            Object::Namespace(id) => match self.namespace(id).await? {
                Row::Is(is) => {
                    let NamespaceRecord { state, parent, segment, .. } = is;
                    Row::Is(Instance { state, parent, name: segment })
                }
                Row::Broken => Row::Broken,
                Row::Absent => Row::Absent,
            },
        })
    }

    /// Whether a namespace without a record was purged, and what was in it is being
    /// taken apart.
    pub(super) async fn is_going(&self, id: NamespaceId) -> Result<bool> {
        let Row::Is(removal) = self.pointer(&keys::removal_of(id.0)).await? else {
            return Ok(false);
        };
        let key = keys::reclaim(RemovalId(removal));
        Ok(match self.record::<ReclaimRecord>("reclaim", &key).await? {
            Row::Is(job) => job.object == Object::Namespace(id),
            Row::Broken => true,
            Row::Absent => false,
        })
    }

    /// What may be said of what lies in a namespace, from all that is above.
    pub(super) async fn above(&self, id: NamespaceId) -> Result<Above> {
        let mut found = Above { chain: Vec::new(), going: false };
        let mut at = id;
        while at != NamespaceId::ROOT && found.chain.len() <= DEPTH_MAX {
            found.chain.push(at);
            match self.namespace(at).await? {
                Row::Is(record) => at = record.parent,
                Row::Broken => break,
                Row::Absent => {
                    found.going = self.is_going(at).await?;
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Whether something that is due waits for one of these namespaces.
    pub(super) async fn is_parked(
        &self,
        above: &Above,
        at: i64,
        what: u16,
        id: &[u8],
    ) -> Result<bool> {
        for namespace in &above.chain {
            if self.exists(&keys::parked(*namespace, at, what, id)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// To whom the keys below `data/<bucket>/` belong. The last answer is kept.
    pub(super) async fn owner(&mut self, bucket: BucketId) -> Result<Owner> {
        if let Some((known, owner)) = &self.owner
            && *known == bucket
        {
            return Ok(owner.clone());
        }
        let owner = match self.bucket(bucket).await? {
            Row::Is(record) => Owner::Bucket(Box::new(record)),
            Row::Broken => Owner::Unclear,
            Row::Absent => self.reclaimer(bucket).await?,
        };
        self.owner = Some((bucket, owner.clone()));
        Ok(owner)
    }

    async fn reclaimer(&self, bucket: BucketId) -> Result<Owner> {
        let state = |job: ReclaimRecord| if job.dropped { Owner::Dropped } else { Owner::Waiting };
        if let Row::Is(removal) = self.pointer(&keys::removal_of(bucket.0)).await? {
            match self
                .record::<ReclaimRecord>("reclaim", &keys::reclaim(RemovalId(removal)))
                .await?
            {
                Row::Is(job) if job.object == Object::Bucket(bucket) => return Ok(state(job)),
                Row::Broken => return Ok(Owner::Unclear),
                Row::Is(_) | Row::Absent => {}
            }
        }
        // A job that outlives its grave is found only among all of them.
        let mut next = Some(RangeRead::prefix(keys::kind_prefix(keys::kind::RECLAIM)));
        let mut unclear = false;
        while let Some(range) = next {
            let page = self.range(range.clone()).await?;
            for (_, value) in &page.rows {
                match record::decode::<ReclaimRecord>("reclaim", value) {
                    Ok(job) if job.object == Object::Bucket(bucket) => return Ok(state(job)),
                    Ok(_) => {}
                    Err(_) => unclear = true,
                }
            }
            next = range.after(&page);
        }
        Ok(if unclear { Owner::Unclear } else { Owner::Nobody })
    }

    /// Reports an id that may be given a second time.
    pub(super) fn expect_reserved(&self, report: &mut Report<'_>, id: u64) {
        let next = self.next_id.unwrap_or(1);
        if id >= next {
            report.add(
                Kind::IdBeyondCounter,
                format!("it uses the id {id}, but the next block begins at {next}"),
                "next-id above every id in use",
            );
        }
    }

    /// Reports a version that no commit of this snapshot has.
    pub(super) fn expect_past(&self, report: &mut Report<'_>, version: Versionstamp) {
        if version > self.newest {
            report.add(
                Kind::FutureVersion,
                format!("version {version} lies ahead of every commit"),
                format!("at most {}", self.newest),
            );
        }
    }
}

/// Reads an id that is a value: eight bytes, big-endian.
pub(super) fn number(what: &'static str, value: &[u8]) -> Result<u64, DecodeError> {
    <[u8; 8]>::try_from(value)
        .map(u64::from_be_bytes)
        .map_err(|_| DecodeError::new(what, "not eight bytes"))
}
