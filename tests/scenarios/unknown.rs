//! Commits whose result is unknown, and commands that are sent again: scenario 19.

use std::time::Duration;

use bson::oid::ObjectId;
use lethe::cluster::mutation::Mutations;
use lethe::codec::{BucketId, keys, record};
use lethe::error::{Error, Result as DomainResult};
use lethe::lifecycle::Lifecycle;
use lethe::metadata::LiveBucket;
use lethe::resp::Reply;
use lethe::store::{Error as StoreError, Read, Transaction};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, NAMESPACE, SILENT_AFTER, claim, fail, field, line};

const SOON: Duration = Duration::from_secs(2);
const COUNTER: [u8; 12] = [7; 12];

async fn one_bucket(mutations: Mutations) -> Claim<Cluster> {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("B", "b", 1).await?;
    Ok(cluster)
}

/// Scenario 19: with and without OPID, landed before the retry and after it.
pub async fn a_removal_that_is_tried_again_happens_once(mutations: Mutations) -> Claim {
    for opid in ["", " OPID one"] {
        for landed_first in [true, false] {
            let cluster = one_bucket(mutations).await?;
            let id = cluster.id("A", "b").await?;
            let lost = cluster.lose("B", "remove");
            let remove = cluster.ask("B", &format!("BUCKET.REMOVE b INFO{opid}"));
            lost.arrived().await;
            let reply = if landed_first {
                claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
                // Before the retry begins.
                cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
                remove.answer().await?
            } else {
                let reply = remove.answer().await?;
                cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
                let landed = lost.land();
                claim!(
                    matches!(landed, Some(Err(StoreError::Conflict))),
                    "the first attempt landed after the second: {landed:?}"
                );
                reply
            };
            let removal = line(field(&reply, "removal_id")?);
            let rows = cluster.audit().await?;
            let removals: Vec<_> = rows.iter().filter(|row| row.action == "remove").collect();
            claim!(removals.len() == 1, "{} removals in the audit log", removals.len());
            claim!(removals[0].removal.as_ref() == Some(&removal), "the reply names another one");
            // The restored bucket stays.
            claim!(cluster.id("B", "b").await? == id, "the retry removed the bucket again");
            if !opid.is_empty() {
                let again = cluster.run("A", &format!("BUCKET.REMOVE b INFO{opid}")).await?;
                claim!(line(&again) == line(&reply), "another reply: {}", line(&again));
                claim!(cluster.id("B", "b").await? == id, "the same operation removed it again");
            }
            cluster.finish().await?;
        }
    }
    Ok(())
}

/// The node that had been asked is gone; the client asks another one.
pub async fn an_operation_is_answered_again_by_another_node(mutations: Mutations) -> Claim {
    let mut cluster = one_bucket(mutations).await?;
    let lost = cluster.lose("B", "remove");
    drop(cluster.ask("B", "BUCKET.REMOVE b OPID one"));
    lost.arrived().await;
    cluster.kill("B").await;
    claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
    cluster.expect("A", "BUCKET.REMOVE b OPID one", "OK").await?;
    cluster.start("B").await?;
    cluster.expect("B", "BUCKET.REMOVE b OPID one", "OK").await?;
    let other = "ERR OPID 'one' was already used for another command";
    cluster.expect("B", "BUCKET.RESTORE b OPID one", other).await?;
    for command in
        ["BUCKET.RESTORE b OPID two", "BUCKET.REMOVE b OPID three", "BUCKET.PURGE b OPID four"]
    {
        let first = line(&cluster.run("A", command).await?);
        cluster.expect("B", command, &first).await?;
    }
    // What they had done is not done again, though the name would allow it.
    cluster.expect("A", "BUCKET.CREATE b OPID five", "OK").await?;
    cluster.expect("B", "BUCKET.REMOVE b OPID one", "OK").await?;
    cluster.expect("B", "BUCKET.PURGE b OPID four", "OK").await?;
    cluster.expect("B", "BUCKET.CREATE b OPID five", "OK").await?;
    claim!(cluster.id("B", "b").await.is_ok(), "an operation was done a second time");
    let removals = cluster.audit().await?.iter().filter(|row| row.action == "remove").count();
    claim!(removals == 2, "{removals} removals in the audit log");
    cluster.finish().await
}

/// Adds one to a counter in the bucket. Reads by snapshot, so that nothing but
/// the attempt slot keeps two attempts apart.
fn increment(cluster: &Cluster, node: &str) -> JoinHandle<DomainResult<()>> {
    async fn change(txn: Transaction, live: LiveBucket) -> DomainResult<()> {
        let key = keys::document(live.id(), &COUNTER);
        let value = txn.get(&key, Read::Snapshot).await?;
        let value = value.ok_or_else(|| Error::NoSuchBucket("no counter".to_owned()))?;
        let mut document: bson::Document = record::decode("counter", &value[1..])?;
        let number = document.get_i64("number").unwrap_or_default();
        document.insert("number", number + 1);
        txn.set(&key, &[&[1], record::encode(&document).as_slice()].concat())?;
        Ok(())
    }
    async fn run(lifecycle: Lifecycle) -> DomainResult<()> {
        let catalog = lifecycle.catalog();
        catalog.write_data("increment", NAMESPACE, "b", change).await?;
        Ok(())
    }
    tokio::spawn(run(cluster.node(node).lifecycle().clone()))
}

async fn with_counter(mutations: Mutations) -> Claim<(Cluster, BucketId)> {
    let cluster = one_bucket(mutations).await?;
    let id = ObjectId::from_bytes(COUNTER).to_hex();
    let insert =
        format!("BUCKET.INSERT b DOCS {{\"_id\":\"{id}\",\"number\":{{\"$numberLong\":\"0\"}}}}");
    let reply = cluster.run("A", &insert).await?;
    claim!(matches!(reply, Reply::Array(_)), "{}", line(&reply));
    let bucket = cluster.id("A", "b").await?;
    Ok((cluster, bucket))
}

async fn counted(cluster: &Cluster, bucket: BucketId) -> Claim<i64> {
    let value = cluster.get(&keys::document(bucket, &COUNTER)).await?.ok_or("no counter")?;
    let document: bson::Document = record::decode("counter", &value[1..]).map_err(fail)?;
    document.get_i64("number").map_err(fail)
}

/// Scenario 19: an increment lands late, or had landed, and is tried again.
pub async fn an_increment_with_an_unknown_result_is_applied_once(mutations: Mutations) -> Claim {
    for landed_first in [true, false] {
        let (cluster, bucket) = with_counter(mutations).await?;
        let lost = cluster.lose("B", "increment");
        let change = increment(&cluster, "B");
        lost.arrived().await;
        if landed_first {
            claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
            change.await.map_err(fail)?.map_err(fail)?;
        } else {
            change.await.map_err(fail)?.map_err(fail)?;
            let landed = lost.land();
            claim!(
                matches!(landed, Some(Err(StoreError::Conflict))),
                "the first attempt landed after the second: {landed:?}"
            );
        }
        let number = counted(&cluster, bucket).await?;
        claim!(number == 1, "applied {number} times");
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 19: put out, and its attempt rows cleaned away, before the retry commits.
pub async fn who_was_put_out_does_not_try_an_increment_again(mutations: Mutations) -> Claim {
    for landed_first in [true, false] {
        let (mut cluster, bucket) = with_counter(mutations).await?;
        let lost = cluster.lose("B", "increment");
        let retry = cluster.hold("B", "increment");
        cluster.pause("B");
        sleep(SOON).await;
        let change = increment(&cluster, "B");
        lost.arrived().await;
        if !landed_first {
            // Its retry has looked for the token, and is on its way.
            retry.arrived().await;
        }
        let mut lost = Some(lost);
        if landed_first && let Some(lost) = lost.take() {
            claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
            // The retry reads nothing before the node is out.
            cluster.outage("B");
        }
        let out = async || Ok(!cluster.is_member("B").await?);
        cluster.eventually("B is put out", SILENT_AFTER * 2, out).await?;
        let attempts = cluster.rows(&keys::kind_prefix(keys::kind::ATTEMPT)).await?;
        let incarnation = cluster.node("B").cluster().incarnation();
        let of_b = |key: &[u8]| keys::parse_attempt(key).is_ok_and(|(of, _)| of == incarnation);
        claim!(!attempts.iter().any(|(key, _)| of_b(key)), "B is out and has attempt rows");
        cluster.end_outage("B");
        if let Some(lost) = lost {
            let landed = lost.land();
            claim!(
                matches!(landed, Some(Err(StoreError::Conflict))),
                "an attempt of a node that is out landed: {landed:?}"
            );
            let landed = retry.release();
            claim!(
                matches!(landed, Some(Err(StoreError::Conflict))),
                "a retry of a node that is out landed: {landed:?}"
            );
        } else {
            drop(retry);
        }
        let result = change.await.map_err(fail)?;
        let unknown = matches!(&result, Err(Error::Store(StoreError::CommitUnknown)));
        claim!(unknown, "it claims to know: {result:?}");
        let number = counted(&cluster, bucket).await?;
        claim!(number == i64::from(landed_first), "applied {number} times");
        cluster.restart("B").await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 19, with INSERT itself.
pub async fn an_insert_with_an_unknown_result_inserts_once(mutations: Mutations) -> Claim {
    for landed_first in [true, false] {
        let cluster = one_bucket(mutations).await?;
        let bucket = cluster.id("A", "b").await?;
        let lost = cluster.lose("B", "insert");
        let insert = cluster.insert_later("B", "b", 2);
        lost.arrived().await;
        let mut lost = Some(lost);
        if landed_first && let Some(lost) = lost.take() {
            claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
        }
        let reply = insert.answer().await?;
        claim!(matches!(reply, Reply::Array(_)), "the insert answered {}", line(&reply));
        if let Some(lost) = lost {
            let landed = lost.land();
            claim!(matches!(landed, Some(Err(StoreError::Conflict))), "landed late: {landed:?}");
        }
        let documents = cluster.documents(bucket).await?;
        claim!(documents == 2, "{documents} documents instead of 2");
        let changes = cluster.rows(&keys::data_part(bucket, keys::data::CHANGE)).await?.len();
        claim!(changes == 2, "{changes} changes instead of 2");
        let told = cluster.run("A", "BUCKET.DESCRIBE b").await?;
        let told = line(field(&told, "documents")?);
        claim!(told == "2", "DESCRIBE counts {told} documents");
        cluster.finish().await?;
    }
    Ok(())
}

/// An INSERT with an operation id, sent again to another node, also when the
/// bucket has been removed since.
pub async fn an_insert_that_is_sent_again_gets_the_stored_ids(mutations: Mutations) -> Claim {
    let mut cluster = one_bucket(mutations).await?;
    let bucket = cluster.id("A", "b").await?;
    let command = "BUCKET.INSERT b OPID one DOCS {\"number\":2}";
    let lost = cluster.lose("B", "insert");
    drop(cluster.ask("B", command));
    lost.arrived().await;
    cluster.kill("B").await;
    claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
    let first = cluster.run("A", command).await?;
    claim!(matches!(first, Reply::Array(_)), "the insert answered {}", line(&first));
    cluster.start("B").await?;
    cluster.remove("A", "b").await?;
    let again = cluster.run("B", command).await?;
    claim!(again == first, "{} and then {}", line(&first), line(&again));
    claim!(cluster.documents(bucket).await? == 2, "inserted more than once");
    let other = "ERR OPID 'one' was already used for another command";
    cluster.expect("A", "BUCKET.INSERT b OPID one DOCS {}", other).await?;
    cluster.finish().await
}
