//! What went wrong in other databases, where no other scenario shows it.
//!
//! The rows of the design's list ("a purge that re-opens its bucket by name",
//! and so on) and the ten tests that the complaints of users ask for; which test
//! shows which row stands in docs/verification.md.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::codec::keys;
use lethe::codec::record::{self, GraveRecord, ShardRecord};
use lethe::config::Config;
use lethe::store::Error as StoreError;
use tokio::time::sleep;

use crate::cluster::{
    Claim, Cluster, NAMESPACE, Removed, SILENT_AFTER, claim, fail, field, line, within,
};

const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(90);

async fn one_bucket(names: &[&'static str], mutations: Mutations) -> Claim<Cluster> {
    let cluster = Cluster::with(names, mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("A", "b", 1).await?;
    Ok(cluster)
}

/// Asks for a purge, which must not take longer.
async fn purge_within(cluster: &Cluster, removed: &Removed, limit: Duration) -> Claim {
    let purge = format!("BUCKET.PURGE {} TIMEOUT 600000", removed.removal);
    let purge = cluster.ask("A", &purge);
    cluster.purged(removed, limit).await?;
    purge.expect("OK").await
}

/// A purge that is sent again, and one whose result was unknown, when the name has been taken again.
pub async fn a_purge_that_is_sent_again_leaves_the_namesake_alone(mutations: Mutations) -> Claim {
    for again in ["BUCKET.PURGE b OPID once", "BUCKET.PURGE r"] {
        let cluster = one_bucket(&["A", "B"], mutations).await?;
        let removed = cluster.remove("A", "b").await?;
        cluster.expect("A", "BUCKET.PURGE b OPID once", "OK").await?;
        cluster.purged(&removed, SOON).await?;
        cluster.expect("B", "BUCKET.CREATE b", "OK").await?;
        cluster.insert("B", "b", 2).await?;
        let again = again.replace(" r", &format!(" {}", removed.removal));
        cluster.expect("B", &again, "OK").await?;
        // Also when the namesake is removed itself.
        let namesake = cluster.remove("B", "b").await?;
        cluster.expect("A", &again, "OK").await?;
        sleep(LONG).await;
        claim!(!cluster.is_purged(&namesake).await?, "'{again}' purged a namesake");
        cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
        claim!(cluster.documents(namesake.bucket).await? == 1, "the namesake lost its document");
        cluster.finish().await?;
    }
    // The flip lands late, behind everything.
    let cluster = one_bucket(&["A", "B"], mutations).await?;
    let removed = cluster.remove("A", "b").await?;
    let lost = cluster.lose("A", "flip");
    let purge = cluster.ask("A", "BUCKET.PURGE b");
    lost.arrived().await;
    purge.expect("OK").await?;
    cluster.expect("B", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("B", "b", 2).await?;
    let landed = lost.land();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "a late flip landed: {landed:?}");
    cluster.purged(&removed, SOON).await?;
    let id = cluster.id("A", "b").await?;
    claim!(cluster.documents(id).await? == 1, "the namesake lost its document");
    cluster.finish().await
}

/// A shard that belongs to nobody blocks no purge.
pub async fn a_shard_without_an_owner_blocks_nothing(mutations: Mutations) -> Claim {
    let cluster = one_bucket(&["A", "B"], mutations).await?;
    let (shard, epoch) = cluster.shard_of("B")?;
    let txn = cluster.store().begin("damage");
    let row = ShardRecord { owner: "ghost".to_owned(), epoch: epoch + 1 };
    txn.set(&keys::shard(shard), &record::encode(&row)).map_err(fail)?;
    // As every change of owners does, so that all look.
    let signal = [&[0xff; 10][..], &[0; 4]].concat();
    txn.set_versionstamped_value(&keys::membership_signal(), &signal).map_err(fail)?;
    txn.commit().await.map_err(fail)?;
    let removed = cluster.remove("A", "b").await?;
    purge_within(&cluster, &removed, SILENT_AFTER * 3).await?;
    cluster.finish().await
}

/// A member that was away for longer than the journal is kept, while more was
/// removed than any list would remember.
async fn away_for_hours() -> Claim {
    const REMOVALS: usize = 501;
    let calm = |config: &mut Config| {
        config.cluster.heartbeat = Duration::from_secs(5);
        config.cluster.silent_after = Duration::from_secs(20);
    };
    let mut cluster = Cluster::with(&["A", "C"], Mutations::default(), calm).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("A", "b", 1).await?;
    // C has handles of all of them.
    for number in 0..REMOVALS {
        cluster.expect("A", &format!("BUCKET.CREATE x{number}"), "OK").await?;
    }
    for number in [0, 250, 500] {
        cluster.insert("C", &format!("x{number}"), 1).await?;
    }
    cluster.pause("C");
    let out = async || Ok(!cluster.is_member("C").await?);
    cluster.eventually("putting C out", LONG, out).await?;
    for number in 0..REMOVALS {
        let name = format!("x{number}");
        cluster.expect("A", &format!("BUCKET.REMOVE {name} RETAIN 0s"), "OK").await?;
    }
    let journal = keys::kind_prefix(keys::kind::JOURNAL);
    let full = cluster.rows(&journal).await?.len();
    let graves = keys::kind_prefix(keys::kind::GRAVE);
    cluster
        .eventually("the purge of all of them", LONG * 4, async || {
            Ok(cluster.rows(&graves).await?.len() == REMOVALS)
        })
        .await?;
    sleep(Duration::from_secs(3 * 3_600)).await;
    let left = cluster.rows(&journal).await?.len();
    claim!(left < full / 10, "the journal still has {left} of {full} events");
    // It stood still all the while; its clients are answered by what is.
    let gone = "NOSUCHBUCKET No such bucket: 'x250'";
    cluster.insert_later("C", "x250", 2).expect(gone).await?;
    cluster.resume("C");
    cluster.ended("C").await?;
    cluster.restart("C").await?;
    for number in [0, 250, 500] {
        let gone = format!("NOSUCHBUCKET No such bucket: 'x{number}'");
        cluster.insert_later("C", &format!("x{number}"), 2).expect(&gone).await?;
    }
    // Every one of them is remembered, and C takes part in the next purge.
    for (_, value) in cluster.rows(&graves).await? {
        let grave: GraveRecord = record::decode("grave", &value).map_err(fail)?;
        let bucket = grave.object.bucket().ok_or("a grave of something else")?;
        claim!(cluster.raw_scan(bucket).await? == 0, "{bucket} came back");
    }
    cluster.insert("C", "b", 2).await?;
    let removed = cluster.remove("A", "b").await?;
    purge_within(&cluster, &removed, SOON).await?;
    sleep(LONG).await;
    cluster.finish().await
}

only_in_memory! { "it waits for three hours",
    who_was_away_longer_than_the_journal_is_kept_reloads:
        within(Duration::from_secs(6 * 3_600), away_for_hours());
}

/// All nodes die; what was promised about a removal is what it was.
pub async fn a_restart_forgets_nothing_of_a_removal(mutations: Mutations) -> Claim {
    let mut cluster = one_bucket(&["A", "B"], mutations).await?;
    // Renamed first: an age that hangs on the name or on a file would be another.
    cluster.expect("A", "BUCKET.RENAME b c", "OK").await?;
    let removed = cluster.remove("A", "c RETAIN 10m REASON tidying").await?;
    let listed = async |cluster: &Cluster| -> Claim<String> {
        let reply = cluster.run("A", "BUCKET.REMOVED c").await?;
        let lethe::resp::Reply::Array(rows) = &reply else { return Err(line(&reply)) };
        let row = rows.first().ok_or("nothing is listed")?;
        let names = ["removal_id", "removed_at", "removed_by", "reason", "expires_at", "version"];
        let fields: Claim<Vec<String>> =
            names.iter().map(|name| field(row, name).map(line)).collect();
        Ok(fields?.join(" "))
    };
    let before = listed(&cluster).await?;
    sleep(Duration::from_secs(240)).await;
    cluster.kill("B").await;
    cluster.kill("A").await;
    sleep(Duration::from_secs(60)).await;
    cluster.start("A").await?;
    cluster.start("B").await?;
    sleep(SOON).await;
    let after = listed(&cluster).await?;
    claim!(before == after, "'{before}' has become '{after}'");
    sleep(Duration::from_secs(240)).await;
    claim!(!cluster.is_purged(&removed).await?, "purged before its time");
    cluster.purged(&removed, Duration::from_secs(120)).await?;
    cluster.finish().await
}

/// A replica registers, and an index is created, when deleted documents are just being destroyed.
pub async fn a_replica_that_registers_stops_a_vacuum_under_way(mutations: Mutations) -> Claim {
    let cluster = one_bucket(&["A", "B"], mutations).await?;
    cluster.expect("A", "BUCKET.REPLICA REGISTER b early", "OK").await?;
    let held = cluster.hold_any("vacuum");
    cluster.run("A", "BUCKET.DELETE b {} RETAIN 2s").await?;
    cluster.insert("B", "b", 2).await?;
    // The first replica keeps what it has not read; without it the vacuum begins.
    sleep(SOON).await;
    cluster.expect("A", "BUCKET.REPLICA UNREGISTER b early", "OK").await?;
    held.arrived().await;
    let index = r#"{"number":{"bson_type":"int32","name":"n"}}"#;
    cluster.expect("B", "BUCKET.REPLICA REGISTER b late FROM 0", "OK").await?;
    cluster.expect("B", &format!("BUCKET.INDEX CREATE b {index}"), "OK").await?;
    let landed = held.release();
    claim!(
        matches!(landed, None | Some(Err(StoreError::Conflict))),
        "deleted documents were destroyed under a replica that had not read of them: {landed:?}"
    );
    let changes = line(&cluster.run("B", "BUCKET.CHANGES b FROM 0").await?);
    claim!(changes.contains("delete"), "the replica does not hear of the deletion: {changes}");
    sleep(LONG).await;
    let changes = line(&cluster.run("B", "BUCKET.CHANGES b FROM 0").await?);
    claim!(changes.contains("delete"), "what the replica has not read is gone: {changes}");
    let id = cluster.id("A", "b").await?;
    let tombstones = cluster.rows(&keys::data_part(id, keys::data::TOMBSTONE)).await?.len();
    claim!(tombstones == 1, "{tombstones} deleted documents wait for the replica");
    let found = line(&cluster.run("A", r#"BUCKET.COUNT b {"number":{"$gte":0}}"#).await?);
    claim!(found == "1", "the new index finds {found} documents");
    cluster.finish().await
}

/// A replica that was silent for longer than its lease is told so, and fed nothing.
pub async fn a_replica_that_was_silent_too_long_starts_anew(mutations: Mutations) -> Claim {
    let cluster = one_bucket(&["A", "B"], mutations).await?;
    cluster.expect("A", "BUCKET.REPLICA REGISTER b slow FROM 0 LEASE 30s", "OK").await?;
    cluster.run("A", "BUCKET.DELETE b {} RETAIN 1s").await?;
    let id = cluster.id("A", "b").await?;
    let tombstones = async || -> Claim<usize> {
        Ok(cluster.rows(&keys::data_part(id, keys::data::TOMBSTONE)).await?.len())
    };
    sleep(Duration::from_secs(20)).await;
    claim!(tombstones().await? == 1, "destroyed within the lease of a replica that lacks it");
    cluster.eventually("the vacuum", LONG * 2, async || Ok(tombstones().await? == 0)).await?;
    cluster.expect_start("B", "BUCKET.CHANGES b FROM 0", "FEEDTRUNCATED ").await?;
    let zeros = "0".repeat(24);
    let ack = format!("BUCKET.REPLICA ACK b slow {zeros}");
    cluster.expect_start("B", &ack, "RESYNCREQUIRED ").await?;
    cluster.expect_start("B", "BUCKET.REPLICA REGISTER b slow FROM 0", "RESYNCREQUIRED ").await?;
    cluster.expect("B", "BUCKET.REPLICA REGISTER b slow", "OK").await?;
    let open = cluster.node("B").lifecycle().catalog().bucket(NAMESPACE, "b").await;
    claim!(open.is_ok(), "the bucket is gone");
    cluster.finish().await
}

/// What Redis has for destroying things, or for writing over them, destroys nothing.
pub async fn commands_of_redis_that_destroy_are_refused(mutations: Mutations) -> Claim {
    let cluster = one_bucket(&["A"], mutations).await?;
    let id = cluster.id("A", "b").await?;
    let before = cluster.raw_scan(id).await?;
    for command in DESTROYERS {
        let name = command.split(' ').next().unwrap_or_default();
        let expected = format!("ERR {name} is not supported: ");
        let text = cluster.expect_start("A", command, &expected).await?;
        let instead = ["BUCKET.", "SIGTERM"];
        claim!(instead.iter().any(|it| text.contains(it)), "'{text}' does not say what to use");
        claim!(cluster.raw_scan(id).await? == before, "{command} has changed something");
    }
    cluster.insert("A", "b", 2).await?;
    cluster.finish().await
}

/// Every command of Redis that destroys keys or all data, or writes over them.
const DESTROYERS: [&str; 24] = [
    "COPY b c REPLACE",
    "DEBUG RELOAD",
    "DEL b",
    "EXPIRE b 0",
    "EXPIREAT b 0",
    "FLUSHALL",
    "FLUSHALL ASYNC",
    "FLUSHDB",
    "FLUSHDB SYNC",
    "GETDEL b",
    "GETEX b EX 1",
    "MIGRATE 127.0.0.1 1 b 0 1",
    "MOVE b 1",
    "PEXPIRE b 0",
    "PEXPIREAT b 0",
    "RENAME b c",
    "RENAMENX b c",
    "REPLICAOF NO ONE",
    "RESTORE b 0 x REPLACE",
    "SET b x",
    "SHUTDOWN NOSAVE",
    "SLAVEOF NO ONE",
    "SWAPDB 0 1",
    "UNLINK b",
];
