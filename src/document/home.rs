use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use bson::oid::ObjectId;

use crate::cluster::mutation::Mutations;
use crate::codec::record::BucketRecord;
use crate::codec::{BucketId, keys};
use crate::error::Result;
use crate::metadata::policy::{NOTHING, Policy};
use crate::metadata::usage::Governed;
use crate::metadata::{Indexes, LiveBucket};

/// Where the documents of an active bucket lie. Made from a [`LiveBucket`], so
/// whoever holds one has passed the fence in its transaction; it must not
/// outlive that. Only the check, which writes nothing, makes one of a record.
#[derive(Clone, Debug)]
pub struct Home {
    bucket: BucketId,
    shards: Vec<u16>,
    stood_still_ms: i64,
    indexes: Arc<Indexes>,
    mutations: Mutations,
    governed: Option<Arc<Governed>>,
}

impl From<&LiveBucket> for Home {
    fn from(bucket: &LiveBucket) -> Self {
        Self {
            bucket: bucket.id(),
            shards: bucket.shards().to_vec(),
            stood_still_ms: bucket.stood_still_ms(),
            indexes: Arc::clone(bucket.indexes()),
            mutations: bucket.mutations(),
            governed: bucket.governed().cloned(),
        }
    }
}

impl Home {
    /// For tests of this module and of queries, which need no catalogue.
    #[cfg(test)]
    pub(crate) fn for_test(bucket: u64, shards: &[u16]) -> Self {
        let (shards, indexes) = (shards.to_vec(), Arc::default());
        let mutations = Mutations::default();
        let bucket = BucketId(bucket);
        Self { bucket, shards, stood_still_ms: 0, indexes, mutations, governed: None }
    }

    /// Where the documents of a bucket lie, active or removed: for reading by
    /// somebody who shows them to nobody.
    pub fn of_record(bucket: BucketId, record: &BucketRecord) -> Self {
        Self {
            bucket,
            shards: record.shards.clone(),
            stood_still_ms: record.stood_still_ms,
            indexes: Arc::new(Indexes::of(record)),
            mutations: Mutations::default(),
            governed: None,
        }
    }

    /// As it is below namespaces whose clock is behind cluster time by this much.
    #[must_use]
    pub fn below(mut self, stood_still_ms: i64) -> Self {
        self.stood_still_ms = self.stood_still_ms.saturating_add(stood_still_ms);
        self
    }

    /// The bucket.
    pub fn bucket(&self) -> BucketId {
        self.bucket
    }

    /// The shards over which its change log and counters are spread.
    pub fn shards(&self) -> &[u16] {
        &self.shards
    }

    /// The bucket's own clock: cluster time without the time that it, or a namespace above
    /// it, was removed.
    pub fn clock(&self, now: i64) -> i64 {
        now.saturating_sub(self.stood_still_ms)
    }

    /// The cluster time at which the bucket's own clock shows this, unless it is removed meanwhile.
    pub fn cluster_time(&self, clock: i64) -> i64 {
        clock.saturating_add(self.stood_still_ms)
    }

    /// The indexes that writes to the bucket keep.
    pub fn indexes(&self) -> &Indexes {
        &self.indexes
    }

    /// The deliberate mistakes of tests.
    pub(super) const fn mutations(&self) -> Mutations {
        self.mutations
    }

    /// What the policies of its namespaces say.
    pub fn policy(&self) -> &Policy {
        self.governed.as_ref().map_or(&NOTHING, |governed| &governed.policy)
    }

    /// Refuses a write that adds so much, if a quota of its namespaces would be exceeded.
    ///
    /// # Errors
    /// `QUOTAEXCEEDED`.
    pub fn expect_room(&self, documents: i64, bytes: i64) -> Result<()> {
        self.governed.as_ref().map_or(Ok(()), |governed| governed.expect_room(documents, bytes))
    }

    /// The shard whose change log and counters a document belongs to.
    pub fn shard_of(&self, id: &ObjectId) -> u16 {
        let count = u64::try_from(self.shards.len()).unwrap_or(1).max(1);
        let index = usize::try_from(xxh3_64(&id.bytes()) % count).unwrap_or_default();
        self.shards.get(index).copied().unwrap_or_default()
    }

    /// The key of a document.
    pub fn key(&self, id: &ObjectId) -> Vec<u8> {
        keys::document(self.bucket, &id.bytes())
    }

    /// The bounds of the keys of all documents.
    pub fn documents(&self) -> (Vec<u8>, Vec<u8>) {
        keys::range(&keys::data_part(self.bucket, keys::data::DOCUMENT))
    }
}
