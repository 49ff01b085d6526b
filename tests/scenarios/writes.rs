//! Writes that were begun before a removal: scenarios 1 to 5 and 18.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::cluster::work::Scope;
use lethe::codec::BucketId;
use lethe::config::Config;
use lethe::error::{Error, Result as DomainResult};
use lethe::lifecycle::Lifecycle;
use lethe::store::{Error as StoreError, Resolve, Transaction};
use tokio::task::JoinHandle;

use crate::cluster::{Claim, Cluster, NAMESPACE, claim, fail, put};

const SOON: Duration = Duration::from_secs(5);

/// A batch of an index build, as a worker sends it: under the epoch of its
/// shard, on a bucket that is active.
fn batch(
    cluster: &Cluster,
    node: &str,
    bucket: BucketId,
    (shard, epoch): (u16, i64),
) -> JoinHandle<DomainResult<()>> {
    async fn send(
        lifecycle: Lifecycle,
        bucket: BucketId,
        shard: u16,
        epoch: i64,
    ) -> DomainResult<()> {
        let catalog = lifecycle.catalog();
        let body = |txn: Transaction| async move {
            catalog.cluster().check_shard(&txn, shard, epoch).await?;
            let live = catalog.handles().open_id(&txn, bucket).await?;
            put(&txn, &live, 99, 0)
        };
        catalog.store().run("build", Resolve::Report, body).await?;
        Ok(())
    }
    tokio::spawn(send(cluster.node(node).lifecycle().clone(), bucket, shard, epoch))
}

/// Scenario 1.
pub async fn an_insert_under_way_when_its_bucket_is_removed_never_lands(
    mutations: Mutations,
) -> Claim {
    // With the purge behind the removal, and with the removal alone.
    for purge in [true, false] {
        let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
        cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
        cluster.insert("B", "b", 1).await?;
        let held = cluster.hold("B", "insert");
        let insert = cluster.insert_later("B", "b", 2);
        held.arrived().await;
        let removed = cluster.remove("A", "b").await?;
        if purge {
            cluster.expect("A", "BUCKET.PURGE b", "OK").await?;
            cluster.purged(&removed, SOON / 2).await?;
        }
        let landed = held.release();
        claim!(
            matches!(landed, Some(Err(StoreError::Conflict))),
            "a write to a bucket landed after its REMOVE: {landed:?}"
        );
        let expected = if purge {
            "NOSUCHBUCKET No such bucket: 'b'"
        } else {
            "BUCKETBEINGREMOVED Bucket 'b' is being removed"
        };
        insert.expect(expected).await?;
        if purge {
            claim!(cluster.raw_scan(removed.bucket).await? == 0, "the purge left keys");
        } else {
            claim!(cluster.documents(removed.bucket).await? == 1, "not the documents of before");
        }
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 2.
pub async fn a_snapshot_from_before_the_removal_never_writes_into_the_old_instance(
    mutations: Mutations,
) -> Claim {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("B", "b", 1).await?;
    let catalog = cluster.node("B").lifecycle().catalog();
    let txn = catalog.store().begin("insert");
    txn.read_version().await.map_err(fail)?;
    let old = cluster.remove("A", "b").await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    // Refills the cache of B with the new instance.
    cluster.insert("B", "b", 2).await?;
    match catalog.handles().open(&txn, NAMESPACE, "b").await {
        Ok(live) => {
            put(&txn, &live, 3, 0).map_err(fail)?;
            let landed = txn.commit().await;
            claim!(landed.is_err(), "a write landed in {}, which was removed", old.bucket);
        }
        Err(error) => claim!(matches!(error, Error::BucketBeingRemoved(_)), "{error}"),
    }
    claim!(cluster.documents(old.bucket).await? == 1, "the old instance got a document");
    // What the stale transaction left in the cache does no harm.
    cluster.insert("B", "b", 4).await?;
    let new = cluster.id("A", "b").await?;
    claim!(cluster.documents(new).await? == 2, "the new instance lacks a document");
    cluster.finish().await
}

/// Scenario 3.
pub async fn work_that_was_checked_before_the_removal_does_not_open_after_it(
    mutations: Mutations,
) -> Claim {
    for member in [true, false] {
        let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
        cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
        let id = cluster.id("B", "b").await?;
        let scope = if member { Scope::Member } else { Scope::Shard(cluster.shard_of("B")?.0) };
        let catalog = cluster.node("B").lifecycle().catalog();
        let work = catalog.cluster().work().enter(id, scope, "scan");
        let txn = catalog.store().begin("scan");
        catalog.handles().open_id(&txn, id).await.map_err(fail)?;
        // Here it stops, while the removal goes by.
        let removed = cluster.remove("A", "b").await?;
        let text = cluster
            .expect_start("A", "BUCKET.PURGE b TIMEOUT 2500", "BARRIERNOTSATISFIED ")
            .await?;
        claim!(text.contains("busy with scan"), "the scan is not named: {text}");
        claim!(work.open().is_err(), "work opened on a bucket whose removal had been acknowledged");
        drop(work);
        cluster.purged(&removed, SOON).await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 4.
pub async fn a_batch_that_lands_after_the_purge_is_refused(mutations: Mutations) -> Claim {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("A", "b", 1).await?;
    let id = cluster.id("B", "b").await?;
    let shard = cluster.shard_of("B")?;
    let work = cluster.work("B", id, Scope::Shard(shard.0), "index build")?;
    let held = cluster.hold("B", "build");
    let build = batch(&cluster, "B", id, shard);
    held.arrived().await;
    let removed = cluster.remove("A", "b").await?;
    work.stopped().await;
    // The worker ends as told; its batch is under way.
    build.abort();
    drop(work);
    cluster.expect("A", "BUCKET.PURGE b", "OK").await?;
    cluster.purged(&removed, SOON / 2).await?;
    let landed = held.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "a stopped worker's batch landed after the purge: {landed:?}"
    );
    claim!(cluster.raw_scan(id).await? == 0, "the purge left keys");
    cluster.finish().await
}

/// Scenario 4 with the job that every bucket has: its change log is trimmed.
pub async fn a_trim_under_way_is_named_and_refused(mutations: Mutations) -> Claim {
    let settings = |config: &mut Config| config.changes_retention = Duration::from_secs(5);
    let cluster = Cluster::with(&["A", "B"], mutations, settings).await?;
    let (shard, _) = cluster.shard_of("B")?;
    cluster.expect("A", &format!("BUCKET.CREATE b SHARDS {shard}"), "OK").await?;
    cluster.insert("A", "b", 1).await?;
    let id = cluster.id("A", "b").await?;
    let before = cluster.raw_scan(id).await?;
    let held = cluster.hold("B", "trim");
    held.arrived().await;
    let removed = cluster.remove("A", "b").await?;
    let text =
        cluster.expect_start("A", "BUCKET.PURGE b TIMEOUT 2500", "BARRIERNOTSATISFIED ").await?;
    let named = format!("shard {shard} on B busy with trim of the change log since ");
    claim!(text.contains(&named), "'{named}' is not in '{text}'");
    let landed = held.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "a trim landed in a removed bucket: {landed:?}"
    );
    claim!(cluster.raw_scan(id).await? == before, "the removed bucket is not what it was");
    // The worker ends, and the request is carried out.
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// Scenario 5: on a bucket that is removed meanwhile, and on one that is not.
pub async fn a_batch_of_a_former_incarnation_is_refused(mutations: Mutations) -> Claim {
    for remove in [true, false] {
        let mut cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
        cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
        let id = cluster.id("B", "b").await?;
        let shard = cluster.shard_of("B")?;
        let work = cluster.work("B", id, Scope::Shard(shard.0), "index build")?;
        let lost = cluster.lose("B", "build");
        let build = batch(&cluster, "B", id, shard);
        lost.arrived().await;
        build.abort();
        cluster.kill("B").await;
        drop(work);
        let removed = if remove { Some(cluster.remove("A", "b").await?) } else { None };
        cluster.start("B").await?;
        let landed = lost.land();
        claim!(
            matches!(landed, Some(Err(StoreError::Conflict))),
            "a write of a former incarnation landed beside the new one: {landed:?}"
        );
        if let Some(removed) = removed {
            cluster.expect("A", "BUCKET.PURGE b", "OK").await?;
            cluster.purged(&removed, SOON).await?;
        }
        claim!(cluster.raw_scan(id).await? == 0, "the batch has left keys");
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 18, for buckets: RENAME, and names that are swapped by renames.
/// With a follower that lags, too: only the fence is to be trusted.
pub async fn a_renamed_bucket_is_reached_by_what_its_name_means_now(mutations: Mutations) -> Claim {
    for paused in [false, true] {
        let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
        for (name, number) in [("b", 1), ("d", 2)] {
            cluster.expect("A", &format!("BUCKET.CREATE {name}"), "OK").await?;
            cluster.insert("B", name, number).await?;
        }
        let (b, d) = (cluster.id("A", "b").await?, cluster.id("A", "d").await?);
        if paused {
            cluster.pause("B");
        }
        cluster.expect("A", "BUCKET.RENAME b c", "OK").await?;
        let gone = cluster.insert_later("B", "b", 3);
        gone.expect("NOSUCHBUCKET No such bucket: 'b'").await?;
        cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
        cluster.insert("B", "b", 4).await?;
        cluster.insert("B", "c", 5).await?;
        let new = cluster.id("A", "b").await?;
        let counts = (cluster.documents(b).await?, cluster.documents(new).await?);
        claim!(counts == (2, 1), "documents of c and b are {counts:?}");
        // c and d change places.
        for command in ["BUCKET.RENAME c t", "BUCKET.RENAME d c", "BUCKET.RENAME t d"] {
            cluster.expect("A", command, "OK").await?;
        }
        cluster.insert("B", "d", 6).await?;
        let counts = (cluster.documents(b).await?, cluster.documents(d).await?);
        claim!(counts == (3, 1), "documents of d and c are {counts:?}");
        cluster.insert("B", "c", 7).await?;
        let counts = (cluster.documents(b).await?, cluster.documents(d).await?);
        claim!(counts == (3, 2), "documents of d and c are {counts:?}");
        cluster.finish().await?;
    }
    Ok(())
}
