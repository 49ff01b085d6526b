//! What the store of a cluster holds, read past its nodes.

use lethe::cluster::view::ClusterView;
use lethe::codec::record::{self, AuditRecord};
use lethe::codec::{BucketId, keys};
use lethe::store::{RangeRead, Read, Transaction};

use super::{Claim, Cluster, Removed, claim, fail};

/// All rows below a prefix, in the snapshot of a transaction.
pub async fn rows(txn: &Transaction, prefix: &[u8]) -> Claim<Vec<(bytes::Bytes, bytes::Bytes)>> {
    let mut rows = Vec::new();
    let mut next = Some(RangeRead::prefix(prefix).snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await.map_err(fail)?;
        next = range.after(&page);
        rows.extend(page.rows);
    }
    Ok(rows)
}

impl Cluster {
    /// The documents of an instance, whatever its state.
    pub async fn documents(&self, bucket: BucketId) -> Claim<usize> {
        Ok(self.rows(&keys::data_part(bucket, keys::data::DOCUMENT)).await?.len())
    }

    /// Everything that lies below the prefix of an instance.
    pub async fn raw_scan(&self, bucket: BucketId) -> Claim<usize> {
        Ok(self.rows(&keys::data_prefix(bucket)).await?.len())
    }

    /// All rows below a prefix.
    pub async fn rows(&self, prefix: &[u8]) -> Claim<Vec<(bytes::Bytes, bytes::Bytes)>> {
        rows(&self.store.begin("scan"), prefix).await
    }

    /// One value.
    pub async fn get(&self, key: &[u8]) -> Claim<Option<bytes::Bytes>> {
        self.store.begin("scan").get(key, Read::Snapshot).await.map_err(fail)
    }

    /// Members and shards, as the store has them.
    pub async fn view(&self) -> Claim<ClusterView> {
        let (_, running) = self.nodes.first_key_value().ok_or("no node runs")?;
        running.node.cluster().view().await.map_err(fail)
    }

    pub async fn is_member(&self, node: &str) -> Claim<bool> {
        Ok(self.get(&keys::member(node)).await?.is_some())
    }

    /// Every shard belongs to a member.
    pub async fn all_owned(&self) -> Claim {
        let members = self.rows(&keys::kind_prefix(keys::kind::MEMBER)).await?;
        let members: Vec<String> = members
            .iter()
            .map(|(key, _)| keys::parse_node(key))
            .collect::<Result<_, _>>()
            .map_err(fail)?;
        let shards = self.rows(&keys::kind_prefix(keys::kind::SHARD)).await?;
        claim!(shards.len() == self.config.cluster.shards as usize, "a shard has no row");
        for (key, value) in &shards {
            let record: record::ShardRecord = record::decode("shard", value).map_err(fail)?;
            let shard = keys::parse_shard(key).map_err(fail)?;
            claim!(
                members.contains(&record.owner),
                "shard {shard} belongs to '{}', who is no member",
                record.owner
            );
        }
        Ok(())
    }

    /// The busy rows of an object.
    pub async fn busy(&self, bucket: BucketId) -> Claim<usize> {
        Ok(self.rows(&keys::busy_prefix(bucket.0)).await?.len())
    }

    /// The audit log, oldest first.
    pub async fn audit(&self) -> Claim<Vec<AuditRecord>> {
        let rows = self.rows(&keys::kind_prefix(keys::kind::AUDIT)).await?;
        rows.iter().map(|(_, row)| record::decode("audit", row).map_err(fail)).collect()
    }

    pub async fn is_purged(&self, removed: &Removed) -> Claim<bool> {
        Ok(self.get(&keys::grave(removed.removal)).await?.is_some())
    }
}
