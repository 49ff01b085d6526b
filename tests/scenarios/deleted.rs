//! UNDELETE, EXPUNGE, VACUUM and TTL beside each other, beside removals, with
//! unknown results and with nodes that die.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::codec::{BucketId, keys};
use lethe::document::{Home, replica};
use lethe::resp::Reply;
use lethe::store::Error as StoreError;
use tokio::time::sleep;

use crate::changes::{SOON, changed, count, keep, never_lands, world};
use crate::cluster::{Claim, Cluster, EPOCH, NAMESPACE, claim, fail, field, line};

/// The numbers in the reply of EXPUNGE or VACUUM.
fn told(reply: &Reply, names: &[&str]) -> Claim<Vec<String>> {
    names.iter().map(|name| field(reply, name).map(line)).collect()
}

async fn expunged(cluster: &Cluster, node: &str, what: &str) -> Claim<Vec<String>> {
    let reply = cluster.run(node, &format!("BUCKET.EXPUNGE b {what}")).await?;
    told(&reply, &["purged", "waiting_for_replicas"])
}

async fn undeleted(cluster: &Cluster, node: &str) -> Claim<usize> {
    changed(&cluster.run(node, "BUCKET.UNDELETE b {}").await?)
}

/// Nothing is left of any deleted document.
async fn nothing_deleted(cluster: &Cluster, bucket: BucketId) -> Claim {
    use keys::data::{BODY, DELETED_BY, EXPIRING, TOMBSTONE, WAITING};
    for part in [TOMBSTONE, DELETED_BY, EXPIRING, WAITING, BODY] {
        claim!(count(cluster, bucket, part).await? == 0, "part {part} is not empty");
    }
    Ok(())
}

/// Scenario 19, with UNDELETE, with and without an operation id.
pub async fn an_undeletion_with_an_unknown_result_happens_once(mutations: Mutations) -> Claim {
    for opid in ["", " OPID one"] {
        for landed_first in [true, false] {
            let (cluster, bucket) = world(mutations, |_| {}).await?;
            cluster.run("A", "BUCKET.DELETE b {}").await?;
            let command = format!("BUCKET.UNDELETE b {{}}{opid}");
            let lost = cluster.lose("B", "undelete");
            let undelete = cluster.ask("B", &command);
            lost.arrived().await;
            let mut lost = Some(lost);
            if landed_first && let Some(lost) = lost.take() {
                claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
            }
            let reply = undelete.answer().await?;
            claim!(changed(&reply)? == 1, "it answered {}", line(&reply));
            if let Some(lost) = lost {
                let landed = lost.land();
                claim!(matches!(landed, Some(Err(StoreError::Conflict))), "it landed: {landed:?}");
            }
            let again = changed(&cluster.run("A", &command).await?)?;
            claim!(again == usize::from(!opid.is_empty()), "sent again it answered {again} ids");
            claim!(cluster.documents(bucket).await? == 1, "not brought back once");
            let changes = count(&cluster, bucket, keys::data::CHANGE).await?;
            claim!(changes == 3, "{changes} changes instead of 3");
            nothing_deleted(&cluster, bucket).await?;
            cluster.finish().await?;
        }
    }
    Ok(())
}

/// Scenario 1, with UNDELETE and EXPUNGE.
pub async fn an_undeletion_under_way_when_its_bucket_is_removed_never_lands(
    mutations: Mutations,
) -> Claim {
    for (label, command) in
        [("undelete", "BUCKET.UNDELETE b {}"), ("expunge", "BUCKET.EXPUNGE b {}")]
    {
        let (cluster, bucket) = world(mutations, |_| {}).await?;
        cluster.run("A", "BUCKET.DELETE b {}").await?;
        never_lands(cluster, bucket, label, command).await?;
    }
    Ok(())
}

/// Of whoever brings back and whoever destroys the same document one wins.
pub async fn of_an_undeletion_and_an_expunge_one_wins(mutations: Mutations) -> Claim {
    let (cluster, bucket) = world(mutations, |_| {}).await?;
    cluster.run("A", "BUCKET.DELETE b {}").await?;
    let held = cluster.hold("B", "undelete");
    let undelete = cluster.ask("B", "BUCKET.UNDELETE b {}");
    held.arrived().await;
    claim!(expunged(&cluster, "A", "{}").await? == ["1", "0"], "nothing was in its way");
    let landed = held.release();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "brought back: {landed:?}");
    claim!(changed(&undelete.answer().await?)? == 0, "it brought back what was destroyed");
    claim!(cluster.documents(bucket).await? == 0, "it is there again");

    cluster.insert("A", "b", 2).await?;
    cluster.run("A", "BUCKET.DELETE b {}").await?;
    let held = cluster.hold("B", "expunge");
    let expunge = cluster.ask("B", "BUCKET.EXPUNGE b {}");
    held.arrived().await;
    claim!(undeleted(&cluster, "A").await? == 1, "nothing was in its way");
    let landed = held.release();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "destroyed: {landed:?}");
    let told = told(&expunge.answer().await?, &["purged", "waiting_for_replicas"])?;
    claim!(told == ["0", "0"], "it says that it destroyed {told:?}");
    let found = cluster.run("A", "BUCKET.QUERY b {\"number\":2}").await?;
    claim!(changed(&found)? == 1, "it is gone: {}", line(&found));
    nothing_deleted(&cluster, bucket).await?;
    cluster.finish().await
}

/// What expires while it is brought back is there or gone, but not both.
pub async fn of_an_undeletion_and_a_vacuum_one_wins(mutations: Mutations) -> Claim {
    for vacuum_first in [true, false] {
        let (cluster, bucket) = world(mutations, keep(60)).await?;
        cluster.run("A", "BUCKET.DELETE b {}").await?;
        sleep(Duration::from_millis(59_500)).await;
        let undelete = cluster.hold("B", "undelete");
        let asked = cluster.ask("B", "BUCKET.UNDELETE b {}");
        undelete.arrived().await;
        let vacuum = cluster.hold_any("vacuum");
        vacuum.arrived().await;
        let (first, second) = if vacuum_first { (vacuum, undelete) } else { (undelete, vacuum) };
        let landed = first.release();
        claim!(landed.is_some_and(|landed| landed.is_ok()), "nothing was in its way");
        let landed = second.release();
        claim!(matches!(landed, Some(Err(StoreError::Conflict))), "both won: {landed:?}");
        let ids = changed(&asked.answer().await?)?;
        claim!(ids == usize::from(!vacuum_first), "it answered {ids} ids");
        claim!(cluster.documents(bucket).await? == ids, "it says what is not so");
        let gone = async || Ok(count(&cluster, bucket, keys::data::TOMBSTONE).await? == 0);
        cluster.eventually("no tombstone is left", SOON, gone).await?;
        nothing_deleted(&cluster, bucket).await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// An `_id` that is taken before the commit is taken.
pub async fn an_undeletion_meets_an_insert_of_the_same_id(mutations: Mutations) -> Claim {
    const ID: &str = "6835a1c0e4b0f72a3c000001";
    let (cluster, bucket) = world(mutations, |_| {}).await?;
    let insert = format!("BUCKET.INSERT b DOCS {{\"_id\":\"{ID}\",\"number\":5}}");
    cluster.run("A", &insert).await?;
    cluster.run("A", "BUCKET.DELETE b {\"number\":5}").await?;
    let held = cluster.hold("B", "undelete");
    let undelete = cluster.ask("B", "BUCKET.UNDELETE b {}");
    held.arrived().await;
    cluster.run("A", &insert).await?;
    let landed = held.release();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "it landed: {landed:?}");
    undelete.expect(&format!("DUPLICATEKEY Duplicate key: _id '{ID}'")).await?;
    claim!(cluster.documents(bucket).await? == 2, "two documents of one id");
    let skipped = changed(&cluster.run("B", "BUCKET.UNDELETE b {} ON-CONFLICT SKIP").await?)?;
    claim!(skipped == 0, "{skipped} came back");
    cluster.finish().await
}

/// A document as large as they come beside small ones.
fn secret(number: u32, size: usize) -> String {
    format!("{{\"number\":{number},\"secret\":\"{}\"}}", "Mene tekel ".repeat(size))
}

/// After an expunge no key and no value of the store has anything of the document.
pub async fn what_was_expunged_is_nowhere_in_the_store(mutations: Mutations) -> Claim {
    let (cluster, bucket) = world(mutations, |_| {}).await?;
    let schema = "{\"secret\":{\"bson_type\":\"string\"}}";
    cluster.expect("A", &format!("BUCKET.INDEX CREATE b {schema}"), "OK").await?;
    for (number, size) in [(7, 1), (8, 20_000)] {
        let words = ["BUCKET.INSERT", "b", "DOCS"].map(str::to_owned);
        let words = words.into_iter().chain([secret(number, size)]).collect();
        cluster.ask_words("A", words).answer().await?;
    }
    cluster.run("B", "BUCKET.DELETE b {\"number\":{\"$gt\":5}}").await?;
    let found = async || {
        let rows = cluster.rows(&[]).await?;
        let has = |bytes: &[u8]| bytes.windows(10).any(|part| part == b"Mene tekel");
        Ok::<_, String>(rows.iter().filter(|(key, value)| has(key) || has(value)).count())
    };
    claim!(found().await? > 3, "it was never there");
    claim!(expunged(&cluster, "A", "{\"number\":7}").await? == ["1", "0"], "the small one");
    let ids = "{\"@deleted_by\":\"default\"}";
    claim!(expunged(&cluster, "A", ids).await? == ["1", "0"], "the large one");
    claim!(found().await? == 0, "{} rows still have it", found().await?);
    claim!(cluster.documents(bucket).await? == 1, "a live document went, too");
    nothing_deleted(&cluster, bucket).await?;
    let rows = cluster.audit().await?;
    let rows: Vec<_> = rows.iter().filter(|row| row.action == "expunge").collect();
    claim!(rows.iter().map(|row| row.count).eq([1, 1]), "{rows:?}");
    cluster.finish().await
}

/// Figures of indexes name values of documents; when the last document with such a value is
/// destroyed, however that happens, they name it no more.
pub async fn values_of_what_was_destroyed_leave_the_figures_of_indexes(
    mutations: Mutations,
) -> Claim {
    for how in ["expunge", "expiry", "at once", "expunge, though a replica waits"] {
        let (cluster, bucket) = world(mutations, |_| {}).await?;
        let schema = "{\"secret\":{\"bson_type\":\"string\",\"name\":\"secret\"}}";
        cluster.expect("A", &format!("BUCKET.INDEX CREATE b {schema}"), "OK").await?;
        let soon = Duration::from_secs(65);
        let figures = async || Ok(count(&cluster, bucket, keys::data::HISTOGRAM).await? == 1);
        cluster.eventually("it is built", soon, figures).await?;
        // Each part of a histogram ends at a value, here at each.
        for (number, secret) in [(5, "common"), (6, "common"), (7, "Mene tekel")] {
            let document = format!("{{\"number\":{number},\"secret\":\"{secret}\"}}");
            let words = ["BUCKET.INSERT", "b", "DOCS"].map(str::to_owned);
            let words = words.into_iter().chain([document]).collect();
            cluster.ask_words("A", words).answer().await?;
        }
        let with = async |part: Option<u16>, text: &'static str| {
            let prefix = part.map_or_else(Vec::new, |part| keys::data_part(bucket, part));
            let has = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            let rows = cluster.rows(&prefix).await?;
            Ok::<_, String>(rows.iter().filter(|(key, value)| has(key) || has(value)).count())
        };
        let named =
            async |text| Ok::<_, String>(with(Some(keys::data::HISTOGRAM), text).await? == 1);
        cluster.expect("A", "BUCKET.INDEX ANALYZE b secret", "OK").await?;
        cluster.eventually("it is analyzed", soon, async || named("Mene tekel").await).await?;
        if how.ends_with("waits") {
            cluster.expect("A", "BUCKET.REPLICA REGISTER b far", "OK").await?;
        }
        let destroy = async |number: u32| {
            let retain = match how {
                "expiry" => " RETAIN 2s",
                "at once" => " RETAIN 0s",
                _ => "",
            };
            let delete = format!("BUCKET.DELETE b {{\"number\":{number}}}{retain}");
            claim!(
                changed(&cluster.run("B", &delete).await?)? == 1,
                "{how}: {number} is not there"
            );
            if how.starts_with("expunge") {
                expunged(&cluster, "A", "{}").await?;
            }
            let gone = async || {
                let rows = cluster.rows(&keys::data_part(bucket, keys::data::TOMBSTONE)).await?;
                let kept = |value: &[u8]| !value.windows(6).any(|part| part == b"secret");
                Ok(rows.iter().all(|(_, value)| kept(value)))
            };
            cluster.eventually("it is destroyed", soon, gone).await.map(drop)
        };
        // Another document has the value still: the figures hold.
        destroy(5).await?;
        claim!(named("common").await? && named("Mene tekel").await?, "{how}: they are gone");
        destroy(7).await?;
        claim!(with(None, "Mene tekel").await? == 0, "{how}: it is still somewhere");
        // They are made anew, without it.
        cluster.eventually("there are others", soon, async || named("common").await).await?;
        claim!(with(None, "Mene tekel").await? == 0, "{how}: it came back");
        cluster.finish().await?;
    }
    Ok(())
}

/// An EXPUNGE with an OPID is answered again, also one that died half way and went on.
pub async fn an_expunge_sent_again_counts_all_that_it_destroyed(mutations: Mutations) -> Claim {
    let (mut cluster, bucket) = world(mutations, |_| {}).await?;
    for _ in 0..6 {
        let words = ["BUCKET.INSERT", "b", "DOCS"].map(str::to_owned);
        let words = words.into_iter().chain((0..100).map(|n| format!("{{\"n\":{n}}}")));
        cluster.ask_words("A", words.collect()).answer().await?;
    }
    let mut deleted = 0;
    while cluster.documents(bucket).await? > 0 {
        deleted += changed(&cluster.run("A", "BUCKET.DELETE b {} LIMIT 100").await?)?;
    }
    claim!(deleted == 601, "{deleted} deleted");
    let command = "{} OPID again";
    // The first page lands, and the second dies with its node.
    let first = cluster.hold("B", "expunge");
    let dying = cluster.ask("B", &format!("BUCKET.EXPUNGE b {command}"));
    first.arrived().await;
    let second = cluster.hold("B", "expunge");
    claim!(first.release().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
    second.arrived().await;
    cluster.kill("B").await;
    drop(dying);
    let left = count(&cluster, bucket, keys::data::TOMBSTONE).await?;
    claim!(left == 101, "{left} are left of 601: a page are 500");
    for _ in 0..2 {
        let told = expunged(&cluster, "A", command).await?;
        claim!(told == ["601", "0"], "it destroyed {told:?}");
    }
    let landed = second.release();
    claim!(!matches!(landed, Some(Ok(_))), "a page landed twice: {landed:?}");
    nothing_deleted(&cluster, bucket).await?;
    // Once it is done nothing else is, also of what was deleted since.
    cluster.insert("A", "b", 2).await?;
    cluster.run("A", "BUCKET.DELETE b {}").await?;
    let told = expunged(&cluster, "A", command).await?;
    claim!(told == ["601", "0"], "it destroyed {told:?}");
    claim!(count(&cluster, bucket, keys::data::TOMBSTONE).await? == 1, "it did it again");
    let other = cluster.run("A", "BUCKET.EXPUNGE b {\"n\":1} OPID again").await?;
    let refused = "ERR OPID 'again' was already used for another command";
    claim!(line(&other) == refused, "another command: {}", line(&other));
    let due = cluster.rows(&keys::kind_prefix(keys::kind::EXPIRY)).await?;
    let is_its = |key: &[u8]| {
        keys::parse_expiry(key).is_ok_and(|(_, what, id)| {
            what == keys::due::OPERATION && id[..] == keys::operation("default", "again")[..]
        })
    };
    let rows = due.iter().filter(|(key, _)| is_its(key)).count();
    claim!(rows == 1, "{rows} rows say when it is to be forgotten");
    cluster.finish().await
}

/// What a replica still has to hear of loses its document at once and the rest
/// when the replica has heard.
pub async fn an_expunge_waits_for_replicas_with_nothing_but_a_name(mutations: Mutations) -> Claim {
    let (cluster, bucket) = world(mutations, |_| {}).await?;
    let node = cluster.node("A");
    let live = async || {
        let txn = cluster.store().begin("open");
        let live = node.lifecycle().catalog().handles().open(&txn, NAMESPACE, "b").await;
        live.map(|live| (txn, Home::from(&live))).map_err(fail)
    };
    let (txn, home) = live().await?;
    let lease = replica::Lease::For(600_000);
    replica::register(&txn, &home, "far", None, lease, EPOCH).await.map_err(fail)?;
    txn.commit().await.map_err(fail)?;
    for command in ["BUCKET.DELETE b {}", "BUCKET.DELETE b {} RETAIN 0s"] {
        if command.ends_with("0s") {
            cluster.insert("A", "b", 2).await?;
        }
        cluster.run("A", command).await?;
    }
    // The second one was not to be kept: only its name is.
    let shown = changed(&cluster.run("A", "BUCKET.DELETED b").await?)?;
    claim!(shown == 1, "{shown} can be brought back");
    let all = [keys::data::TOMBSTONE, keys::data::DELETED_BY, keys::data::WAITING];
    claim!(expunged(&cluster, "A", "{}").await? == ["0", "1"], "the replica was not waited for");
    claim!(expunged(&cluster, "A", "{}").await? == ["0", "0"], "it was destroyed twice");
    claim!(undeleted(&cluster, "A").await? == 0, "it came back");
    let reply = cluster.run("A", "BUCKET.VACUUM b").await?;
    let names = ["purged", "kept", "waiting_for_replicas"];
    claim!(told(&reply, &names)? == ["0", "0", "2"], "{}", line(&reply));
    for part in all {
        claim!(count(&cluster, bucket, part).await? == 2, "part {part} is gone already");
    }
    let changes = count(&cluster, bucket, keys::data::CHANGE).await?;
    claim!(changes == 6, "{changes} changes: inserted, deleted and purged twice are 6");
    let (txn, home) = live().await?;
    let now = replica::list(&txn, &home).await.map_err(fail)?;
    claim!(now.len() == 1 && !now[0].is_stale, "{now:?}");
    replica::unregister(&txn, &home, "far", node.lifecycle().catalog().now())
        .await
        .map_err(fail)?;
    txn.commit().await.map_err(fail)?;
    let gone = async || Ok(count(&cluster, bucket, keys::data::TOMBSTONE).await? == 0);
    cluster.eventually("the names go, too", Duration::from_secs(65), gone).await?;
    nothing_deleted(&cluster, bucket).await?;
    let changes = count(&cluster, bucket, keys::data::CHANGE).await?;
    claim!(changes == 6, "{changes} changes: a purge was told twice");
    cluster.finish().await
}

/// A node that dies in the middle leaves whole pages, and another goes on.
pub async fn an_expunge_that_dies_half_way_is_finished_by_the_next(mutations: Mutations) -> Claim {
    let (mut cluster, bucket) = world(mutations, |_| {}).await?;
    let words = ["BUCKET.INSERT", "b", "DOCS"].map(str::to_owned);
    let words =
        words.into_iter().chain((2..=1200).map(|n| format!("{{\"number\":{n}}}"))).collect();
    cluster.ask_words("A", words).answer().await?;
    cluster.run("A", "BUCKET.DELETE b {} LIMIT 9999").await?;
    let deleted = count(&cluster, bucket, keys::data::TOMBSTONE).await?;
    claim!(deleted == 1200, "{deleted} deleted");
    let first = cluster.hold("B", "expunge");
    let _dies = cluster.ask("B", "BUCKET.EXPUNGE b {}");
    first.arrived().await;
    let second = cluster.hold("B", "expunge");
    claim!(first.release().is_some_and(|landed| landed.is_ok()), "the first page");
    second.arrived().await;
    cluster.kill("B").await;
    let left = count(&cluster, bucket, keys::data::TOMBSTONE).await?;
    claim!(left == 700, "{left} left after one page");
    let rest = expunged(&cluster, "A", "{}").await?;
    claim!(rest == ["700", "0"], "the next one destroyed {rest:?}");
    let landed = second.release();
    claim!(!matches!(landed, Some(Ok(_))), "a page landed twice: {landed:?}");
    nothing_deleted(&cluster, bucket).await?;
    let rows = cluster.audit().await?;
    let audited: i64 = rows.iter().filter(|row| row.action == "expunge").map(|row| row.count).sum();
    claim!(audited == 1200, "the audit log tells of {audited}");
    cluster.finish().await
}

/// The command and the worker at the same time purge each document once.
pub async fn a_vacuum_by_command_beside_the_worker_purges_once(mutations: Mutations) -> Claim {
    let (cluster, bucket) = world(mutations, keep(5)).await?;
    let held = cluster.hold_any("vacuum");
    cluster.run("A", "BUCKET.DELETE b {}").await?;
    cluster.insert("A", "b", 2).await?;
    cluster.run("A", "BUCKET.DELETE b {} RETAIN 1h").await?;
    held.arrived().await;
    let reply = cluster.run("B", "BUCKET.VACUUM b").await?;
    let names = ["purged", "kept", "waiting_for_replicas"];
    claim!(told(&reply, &names)? == ["1", "1", "0"], "{}", line(&reply));
    let landed = held.release();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "purged twice: {landed:?}");
    sleep(Duration::from_secs(65)).await;
    let changes = count(&cluster, bucket, keys::data::CHANGE).await?;
    claim!(changes == 5, "{changes} changes: two inserted and deleted, one purged are 5");
    cluster.expect("A", "PURGE.PAUSE", "OK").await?;
    cluster.expect_start("A", "BUCKET.VACUUM b", "PURGEPAUSED ").await?;
    cluster.expect_start("A", "BUCKET.EXPUNGE b {}", "PURGEPAUSED ").await?;
    claim!(undeleted(&cluster, "A").await? == 1, "a pause keeps nothing from coming back");
    cluster.finish().await
}

/// The bucket's own retention counts where the command does not say, and what was
/// promised before stays promised.
pub async fn a_bucket_can_keep_deleted_documents_longer_or_not_at_all(
    mutations: Mutations,
) -> Claim {
    let (cluster, bucket) = world(mutations, keep(60)).await?;
    cluster.run("B", "BUCKET.DELETE b {}").await?;
    cluster.expect("A", "BUCKET.ALTER b TOMBSTONE-RETENTION 300s", "OK").await?;
    cluster.insert("A", "b", 2).await?;
    cluster.run("B", "BUCKET.DELETE b {}").await?;
    cluster.expect("A", "BUCKET.ALTER b TOMBSTONE-RETENTION 0s", "OK").await?;
    cluster.insert("A", "b", 3).await?;
    cluster.run("B", "BUCKET.DELETE b {}").await?;
    claim!(count(&cluster, bucket, keys::data::TOMBSTONE).await? == 2, "the third was kept");
    let left = async |left| Ok(count(&cluster, bucket, keys::data::TOMBSTONE).await? == left);
    cluster.eventually("the first expires", Duration::from_secs(70), || left(1)).await?;
    sleep(Duration::from_secs(150)).await;
    claim!(left(1).await?, "the second expired early");
    cluster.eventually("the second expires", Duration::from_secs(200), || left(0)).await?;
    cluster.finish().await
}
