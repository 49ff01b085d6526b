//! UPDATE and DELETE beside removals, with unknown results, and what becomes of
//! deleted documents.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::codec::duration::Retention;
use lethe::codec::{BucketId, keys};
use lethe::config::Config;
use lethe::resp::Reply;
use lethe::store::Error as StoreError;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, field, line};

pub const SOON: Duration = Duration::from_secs(5);

/// Two nodes and a bucket with a document, whose number is 1.
pub async fn world(
    mutations: Mutations,
    settings: impl Fn(&mut Config),
) -> Claim<(Cluster, BucketId)> {
    let cluster = Cluster::with(&["A", "B"], mutations, settings).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("A", "b", 1).await?;
    let bucket = cluster.id("A", "b").await?;
    Ok((cluster, bucket))
}

/// Deleted documents are kept for so long.
pub fn keep(seconds: u64) -> impl Fn(&mut Config) {
    move |config| config.tombstone_retention = Retention::For(Duration::from_secs(seconds))
}

pub async fn count(cluster: &Cluster, bucket: BucketId, part: u16) -> Claim<usize> {
    Ok(cluster.rows(&keys::data_part(bucket, part)).await?.len())
}

/// How many documents a change says that it changed.
pub fn changed(reply: &Reply) -> Claim<usize> {
    match reply {
        Reply::Array(parts) => match parts.get(1) {
            Some(Reply::Array(ids)) => Ok(ids.len()),
            _ => Err(format!("no ids in {}", line(reply))),
        },
        other => Err(format!("it answered {}", line(other))),
    }
}

/// A reply larger than one value of the store is answered again, and forgotten as a whole.
pub async fn a_large_reply_is_remembered_by_its_operation(mutations: Mutations) -> Claim {
    const MANY: usize = 7_000;
    let (cluster, bucket) = world(mutations, |_| {}).await?;
    let mut words: Vec<String> =
        ["BUCKET.INSERT", "b", "OPID", "many", "DOCS"].map(str::to_owned).into();
    words.extend(std::iter::repeat_n("{}".to_owned(), MANY));
    let first = cluster.ask_words("A", words.clone()).answer().await?;
    claim!(matches!(&first, Reply::Array(ids) if ids.len() == MANY), "no ids");
    let again = cluster.ask_words("B", words).answer().await?;
    claim!(line(&first) == line(&again), "another reply");
    let documents = count(&cluster, bucket, keys::data::DOCUMENT).await?;
    claim!(documents == MANY + 1, "{documents} documents");
    let rows = keys::operation("default", "many");
    let pieces = cluster.rows(&rows).await?.len();
    claim!(pieces > 1, "it fits one value");
    for node in ["A", "B"] {
        cluster.clock(node).jump(25 * 3_600_000);
    }
    sleep(SOON * 5).await;
    cluster.run("A", "CLUSTER.CLOCK CONFIRM").await?;
    let patience = Duration::from_secs(120);
    cluster
        .eventually("the operation is forgotten", patience, async || {
            Ok(cluster.rows(&rows).await?.is_empty())
        })
        .await?;
    cluster.finish().await
}

/// Scenario 19, with UPDATE itself.
pub async fn an_update_with_an_unknown_result_is_applied_once(mutations: Mutations) -> Claim {
    for opid in ["", " OPID one"] {
        for landed_first in [true, false] {
            let (cluster, bucket) = world(mutations, |_| {}).await?;
            let command = format!("BUCKET.UPDATE b {{}} {{\"$inc\":{{\"number\":1}}}}{opid}");
            let lost = cluster.lose("B", "update");
            let update = cluster.ask("B", &command);
            lost.arrived().await;
            let mut lost = Some(lost);
            if landed_first && let Some(lost) = lost.take() {
                claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
            }
            let reply = update.answer().await?;
            claim!(changed(&reply)? == 1, "the update answered {}", line(&reply));
            if let Some(lost) = lost {
                let landed = lost.land();
                claim!(matches!(landed, Some(Err(StoreError::Conflict))), "it landed: {landed:?}");
            }
            if !opid.is_empty() {
                let again = cluster.run("A", &command).await?;
                claim!(changed(&again)? == 1, "another reply: {}", line(&again));
            }
            let found = cluster.run("A", "BUCKET.QUERY b {\"number\":2}").await?;
            claim!(changed(&found)? == 1, "not applied once: {}", line(&found));
            let changes = count(&cluster, bucket, keys::data::CHANGE).await?;
            claim!(changes == 2, "{changes} changes instead of 2");
            cluster.finish().await?;
        }
    }
    Ok(())
}

/// Scenario 19, with DELETE.
pub async fn a_deletion_with_an_unknown_result_leaves_one_tombstone(mutations: Mutations) -> Claim {
    for landed_first in [true, false] {
        let (cluster, bucket) = world(mutations, |_| {}).await?;
        let lost = cluster.lose("B", "delete");
        let delete = cluster.ask("B", "BUCKET.DELETE b {}");
        lost.arrived().await;
        let mut lost = Some(lost);
        if landed_first && let Some(lost) = lost.take() {
            claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
        }
        let reply = delete.answer().await?;
        claim!(changed(&reply)? == 1, "the deletion answered {}", line(&reply));
        if let Some(lost) = lost {
            let landed = lost.land();
            claim!(matches!(landed, Some(Err(StoreError::Conflict))), "it landed: {landed:?}");
        }
        let tombstones = count(&cluster, bucket, keys::data::TOMBSTONE).await?;
        claim!(tombstones == 1, "{tombstones} tombstones");
        let told = cluster.run("A", "BUCKET.DESCRIBE b").await?;
        let told = (line(field(&told, "documents")?), line(field(&told, "tombstones")?));
        claim!(told == ("0".to_owned(), "1".to_owned()), "DESCRIBE counts {told:?}");
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 1, with UPDATE, an upsert, and DELETE.
pub async fn a_change_under_way_when_its_bucket_is_removed_never_lands(
    mutations: Mutations,
) -> Claim {
    for (label, command) in [
        ("update", "BUCKET.UPDATE b {} {\"$set\":{\"number\":9}}"),
        ("update", "BUCKET.UPDATE b {\"x\":1} {\"$set\":{\"y\":9},\"upsert\":true}"),
        ("delete", "BUCKET.DELETE b {}"),
    ] {
        let (cluster, bucket) = world(mutations, |_| {}).await?;
        never_lands(cluster, bucket, label, command).await?;
    }
    Ok(())
}

/// A command whose commit, of this label, is held while its bucket is removed.
pub async fn never_lands(cluster: Cluster, bucket: BucketId, label: &str, command: &str) -> Claim {
    let before = cluster.rows(&keys::data_prefix(bucket)).await?;
    let held = cluster.hold("B", label);
    let change = cluster.ask("B", command);
    held.arrived().await;
    cluster.remove("A", "b").await?;
    let landed = held.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "a write to a bucket landed after its REMOVE: {landed:?}"
    );
    change.expect("BUCKETBEINGREMOVED Bucket 'b' is being removed").await?;
    let after = cluster.rows(&keys::data_prefix(bucket)).await?;
    claim!(before == after, "the removed bucket is not what it was");
    cluster.finish().await
}

/// Two upserts at the same time: one inserts, the other finds what it inserted.
pub async fn of_two_upserts_one_inserts(mutations: Mutations) -> Claim {
    let (cluster, bucket) = world(mutations, |_| {}).await?;
    let command = "BUCKET.UPDATE b {\"x\":1} {\"$inc\":{\"n\":1},\"upsert\":true}";
    let held = cluster.hold("B", "update");
    let late = cluster.ask("B", command);
    held.arrived().await;
    claim!(changed(&cluster.run("A", command).await?)? == 1, "nothing was in its way");
    let landed = held.release();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "both inserted: {landed:?}");
    claim!(changed(&late.answer().await?)? == 1, "the second one changed nothing");
    claim!(cluster.documents(bucket).await? == 2, "not one document more");
    let found = cluster.run("A", "BUCKET.QUERY b {\"x\":1,\"n\":2}").await?;
    claim!(changed(&found)? == 1, "not both applied: {}", line(&found));
    cluster.finish().await
}

/// Not before their time, and then without a trace but in the change log.
pub async fn deleted_documents_are_purged_when_they_have_expired(mutations: Mutations) -> Claim {
    let (cluster, bucket) = world(mutations, keep(60)).await?;
    cluster.insert("A", "b", 2).await?;
    cluster.run("B", "BUCKET.DELETE b {\"number\":1}").await?;
    sleep(Duration::from_secs(30)).await;
    cluster.run("B", "BUCKET.DELETE b {\"number\":2}").await?;
    sleep(Duration::from_secs(25)).await;
    claim!(count(&cluster, bucket, keys::data::TOMBSTONE).await? == 2, "purged before its time");
    let left = async |left| Ok(count(&cluster, bucket, keys::data::TOMBSTONE).await? == left);
    cluster.eventually("the first is purged", SOON * 3, || left(1)).await?;
    cluster.eventually("the second is purged", SOON * 7, || left(0)).await?;
    let settled = async || Ok(count(&cluster, bucket, keys::data::VACUUM).await? == 0);
    cluster.eventually("nothing is left to look for", SOON, settled).await?;
    for part in [keys::data::DELETED_BY, keys::data::EXPIRING, keys::data::BODY] {
        claim!(count(&cluster, bucket, part).await? == 0, "part {part} is not empty");
    }
    let changes = count(&cluster, bucket, keys::data::CHANGE).await?;
    claim!(changes == 6, "{changes} changes: inserted, deleted and purged twice are 6");
    cluster.finish().await
}

/// A restore shortens no promise.
pub async fn while_a_bucket_is_removed_its_deleted_documents_do_not_expire(
    mutations: Mutations,
) -> Claim {
    let (cluster, bucket) = world(mutations, keep(60)).await?;
    cluster.run("A", "BUCKET.DELETE b {}").await?;
    sleep(Duration::from_secs(20)).await;
    cluster.remove("A", "b").await?;
    sleep(Duration::from_secs(600)).await;
    cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
    sleep(Duration::from_secs(30)).await;
    claim!(count(&cluster, bucket, keys::data::TOMBSTONE).await? == 1, "purged before its time");
    let purged = async || Ok(count(&cluster, bucket, keys::data::TOMBSTONE).await? == 0);
    // The worker looks once a minute when nobody tells it.
    cluster.eventually("it is purged", Duration::from_secs(75), purged).await?;
    cluster.finish().await
}

/// PURGE.PAUSE is for them, too.
pub async fn a_pause_keeps_deleted_documents(mutations: Mutations) -> Claim {
    let (cluster, bucket) = world(mutations, keep(10)).await?;
    cluster.run("A", "BUCKET.DELETE b {}").await?;
    cluster.expect("A", "PURGE.PAUSE", "OK").await?;
    sleep(Duration::from_secs(120)).await;
    claim!(count(&cluster, bucket, keys::data::TOMBSTONE).await? == 1, "purged in spite of it");
    cluster.expect("A", "PURGE.RESUME", "OK").await?;
    let purged = async || Ok(count(&cluster, bucket, keys::data::TOMBSTONE).await? == 0);
    cluster.eventually("it is purged", Duration::from_secs(65), purged).await?;
    cluster.finish().await
}

/// Scenario 4, with the worker that purges deleted documents.
pub async fn a_vacuum_under_way_is_named_and_refused(mutations: Mutations) -> Claim {
    let (cluster, bucket) = world(mutations, keep(5)).await?;
    let held = cluster.hold_any("vacuum");
    cluster.run("A", "BUCKET.DELETE b {}").await?;
    let before = cluster.raw_scan(bucket).await?;
    held.arrived().await;
    let removed = cluster.remove("A", "b").await?;
    let text =
        cluster.expect_start("A", "BUCKET.PURGE b TIMEOUT 2500", "BARRIERNOTSATISFIED ").await?;
    let named = "busy with vacuum of deleted documents since ";
    claim!(text.contains(named), "'{named}' is not in '{text}'");
    let landed = held.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "a vacuum landed in a removed bucket: {landed:?}"
    );
    claim!(cluster.raw_scan(bucket).await? == before, "the removed bucket is not what it was");
    // The worker ends, and the request is carried out.
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}
