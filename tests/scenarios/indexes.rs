//! Builds of indexes against everything that can happen meanwhile: writes, the
//! death of the node, a shard that moves, REMOVE, RESTORE, PURGE and DROP;
//! scenarios 4 and 5 with the work that they are about.

use std::time::Duration;

use bson::oid::ObjectId;
use lethe::cluster::mutation::Mutations;
use lethe::codec::record::{
    self, BucketRecord, HistogramRecord, IndexTaskRecord, TaskKind, TaskStatus,
};
use lethe::codec::{BucketId, keys};
use lethe::document::{self, Document, Home, Limits, NewDocument, Origin};
use lethe::metadata::bucket::invalidate;
use lethe::resp::Reply;
use lethe::store::{Error as StoreError, Read};

use crate::cluster::{Claim, Cluster, NAMESPACE, claim, fail, field, line};

const SOON: Duration = Duration::from_secs(10);
/// More than two batches of a build.
const DOCUMENTS: u32 = 500;
const NUMBERS: &str = r#"{"number":{"bson_type":"int32","name":"n"}}"#;
const UNIQUE: &str = r#"{"number":{"bson_type":"int32","name":"n","unique":true}}"#;

fn parse(number: u32) -> Claim<Document> {
    let text = format!("{{\"number\":{number}}}");
    Document::from_json(text.as_bytes(), Limits::default()).map_err(fail)
}

/// Inserts documents with these numbers and gives their ids.
async fn fill(
    cluster: &Cluster,
    node: &str,
    numbers: impl Iterator<Item = u32>,
) -> Claim<Vec<ObjectId>> {
    let ids = &cluster.node(node).services().object_ids;
    let mut documents = Vec::new();
    for number in numbers {
        documents.push(NewDocument::new(parse(number)?, Origin::Json, ids).map_err(fail)?);
    }
    let batch = documents.as_slice();
    let catalog = cluster.node(node).lifecycle().catalog();
    let body = |txn, live| async move {
        let home = Home::from(&live);
        document::insert(&txn, &home, batch, 0).await
    };
    catalog.write_data("insert", NAMESPACE, "b", body).await.map_err(fail)?;
    Ok(documents.iter().map(NewDocument::id).collect())
}

/// Gives a document another number, or deletes it.
async fn change(cluster: &Cluster, node: &str, id: ObjectId, number: Option<u32>) -> Claim {
    let new = number.map(parse).transpose()?;
    let new = match &new {
        // With the id of the one that it replaces.
        Some(new) => {
            let mut fields: bson::Document =
                bson::deserialize_from_slice(new.bytes()).map_err(fail)?;
            fields.insert("_id", id);
            let bytes = bson::serialize_to_vec(&fields).map_err(fail)?;
            Some(Document::from_bson(bytes.into(), Limits::default()).map_err(fail)?)
        }
        None => None,
    };
    let new = &new;
    let catalog = cluster.node(node).lifecycle().catalog();
    let deletion = &document::Deletion {
        removal: lethe::codec::RemovalId(catalog.cluster().ids().next().await.map_err(fail)?),
        by: record::Actor { user: "default".to_owned(), client: String::new() },
        reason: None,
        retention: lethe::codec::duration::Retention::For(Duration::ZERO),
        continues: false,
    };
    let body = |txn, live| async move {
        let home = Home::from(&live);
        let old = document::get(&txn, &home, &id, Read::Conflict).await?;
        let old = old.ok_or_else(|| lethe::error::Error::syntax("it is gone"))?;
        match new {
            Some(new) => document::replace(&txn, &home, &id, (&old, new), 0).await,
            None => document::delete(&txn, &home, &[(id, old)], deletion, 0).await.map(|_| ()),
        }
    };
    catalog.write_data("change", NAMESPACE, "b", body).await.map_err(fail)?;
    Ok(())
}

async fn described(cluster: &Cluster, node: &str) -> Claim<Reply> {
    cluster.run(node, "BUCKET.INDEX DESCRIBE b n").await
}

async fn status(cluster: &Cluster, node: &str) -> Claim<String> {
    Ok(line(field(&described(cluster, node).await?, "status")?))
}

/// Waits until the index is ready and holds so many entries.
async fn ready(cluster: &Cluster, node: &str, entries: i64) -> Claim {
    cluster
        .eventually("the index", SOON, async || Ok(status(cluster, node).await? == "READY"))
        .await?;
    let described = described(cluster, node).await?;
    let found = line(field(field(&described, "statistics")?, "cardinality")?);
    claim!(found == entries.to_string(), "{found} entries instead of {entries}");
    Ok(())
}

async fn task(cluster: &Cluster, bucket: BucketId) -> Claim<IndexTaskRecord> {
    task_of(cluster, bucket, TaskKind::Build).await
}

async fn task_of(cluster: &Cluster, bucket: BucketId, kind: TaskKind) -> Claim<IndexTaskRecord> {
    let row = cluster.get(&keys::index::task(bucket, 1, kind.number())).await?;
    let row = row.ok_or("there is no such task")?;
    record::decode_versioned("task", &row).map(|(_, task)| task).map_err(fail)
}

/// The node that builds the indexes of a bucket.
fn builder(cluster: &Cluster, bucket: BucketId) -> &'static str {
    let owns = |node: &str| {
        let shards = cluster.node(node).cluster().owned_shards();
        let shards = shards.borrow();
        shards.keys().any(|shard| u64::from(*shard) == bucket.0 % 4)
    };
    if owns("A") { "A" } else { "B" }
}

fn other(node: &str) -> &'static str {
    if node == "A" { "B" } else { "A" }
}

/// A bucket with documents, and who builds its indexes.
async fn scene(mutations: Mutations) -> Claim<(Cluster, BucketId, Vec<ObjectId>, &'static str)> {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    let ids = fill(&cluster, "A", 0..DOCUMENTS).await?;
    let id = cluster.id("A", "b").await?;
    let owner = builder(&cluster, id);
    Ok((cluster, id, ids, owner))
}

/// Creates an index and holds a batch of its build: the one behind `passed` others.
async fn held_build(
    cluster: &Cluster,
    owner: &str,
    schema: &str,
    passed: usize,
) -> Claim<lethe::store::Held> {
    // The first commit fixes what is to be looked at.
    let mut held = cluster.hold(owner, "index-build");
    cluster.expect(other(owner), &format!("BUCKET.INDEX CREATE b {schema}"), "OK").await?;
    for _ in 0..=passed {
        held.arrived().await;
        let next = cluster.hold(owner, "index-build");
        claim!(held.release().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
        held = next;
    }
    held.arrived().await;
    Ok(held)
}

pub async fn a_build_misses_no_write(mutations: Mutations) -> Claim {
    let (cluster, _, ids, owner) = scene(mutations).await?;
    let held = held_build(&cluster, owner, NUMBERS, 0).await?;
    // In the batch that is under way, in one that is to come, and behind all of them.
    for node in ["A", "B"] {
        let at = usize::from(node == "B");
        change(&cluster, node, ids[10 + at], Some(1_000)).await?;
        change(&cluster, node, ids[20 + at], None).await?;
        change(&cluster, node, ids[400 + at], Some(1_001)).await?;
        change(&cluster, node, ids[410 + at], None).await?;
        fill(&cluster, node, 2_000..2_010).await?;
    }
    let landed = held.release();
    let conflict = matches!(landed, Some(Err(StoreError::Conflict)));
    claim!(conflict, "a batch with documents that have changed meanwhile landed: {landed:?}");
    ready(&cluster, "A", i64::from(DOCUMENTS) - 4 + 20).await?;
    cluster.finish().await
}

pub async fn a_write_begun_before_the_index_is_not_missed(mutations: Mutations) -> Claim {
    for documents in [0, 3] {
        let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
        cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
        fill(&cluster, "B", 0..documents).await?;
        let held = cluster.hold("B", "insert");
        let insert = cluster.insert_later("B", "b", 100);
        held.arrived().await;
        cluster.expect("A", &format!("BUCKET.INDEX CREATE b {NUMBERS}"), "OK").await?;
        ready(&cluster, "A", i64::from(documents)).await?;
        let landed = held.release();
        let conflict = matches!(landed, Some(Err(StoreError::Conflict)));
        claim!(conflict, "a write that knows nothing of the index landed: {landed:?}");
        insert.answer().await?;
        ready(&cluster, "B", i64::from(documents) + 1).await?;
        cluster.finish().await?;
    }
    Ok(())
}

pub async fn a_build_goes_on_after_the_death_of_its_node(mutations: Mutations) -> Claim {
    let (mut cluster, id, _, owner) = scene(mutations).await?;
    let held = held_build(&cluster, owner, NUMBERS, 1).await?;
    let before = task(&cluster, id).await?;
    claim!(before.status == TaskStatus::Running && before.done > 0, "not begun: {before:?}");
    cluster.kill(owner).await;
    drop(held);
    ready(&cluster, other(owner), i64::from(DOCUMENTS)).await?;
    let after = task(&cluster, id).await?;
    claim!(after.done == i64::from(DOCUMENTS), "looked at twice: {after:?}");
    claim!(after.started_at == before.started_at, "it began anew: {after:?}");
    cluster.finish().await
}

pub async fn a_build_goes_on_with_the_next_owner_of_its_shard(mutations: Mutations) -> Claim {
    let (mut cluster, id, _, owner) = scene(mutations).await?;
    let held = held_build(&cluster, owner, NUMBERS, 1).await?;
    // It leaves in order: its work is ended first.
    drop(held);
    cluster.leave(owner).await;
    ready(&cluster, other(owner), i64::from(DOCUMENTS)).await?;
    let after = task(&cluster, id).await?;
    claim!(after.done == i64::from(DOCUMENTS), "looked at twice: {after:?}");
    cluster.finish().await
}

/// Scenario 4.
pub async fn a_batch_of_a_build_under_way_is_named_and_refused(mutations: Mutations) -> Claim {
    let (cluster, id, _, owner) = scene(mutations).await?;
    let asks = other(owner);
    let held = held_build(&cluster, owner, NUMBERS, 1).await?;
    let removed = cluster.remove(asks, "b").await?;
    let before = cluster.raw_scan(id).await?;
    let text =
        cluster.expect_start(asks, "BUCKET.PURGE b TIMEOUT 2500", "BARRIERNOTSATISFIED ").await?;
    let named = format!("on {owner} busy with build of index 1 since ");
    claim!(text.contains(&named), "'{named}' is not in '{text}'");
    let landed = held.release();
    let conflict = matches!(landed, Some(Err(StoreError::Conflict)));
    claim!(conflict, "a batch of a build landed in a removed bucket: {landed:?}");
    claim!(cluster.raw_scan(id).await? == before, "the removed bucket is not what it was");
    cluster.purged(&removed, SOON).await?;
    claim!(cluster.raw_scan(id).await? == 0, "the purge left keys");
    let queued = cluster.rows(&keys::kind_prefix(keys::kind::INDEX_TASK)).await?;
    claim!(queued.is_empty(), "the purge left a task in the queue");
    cluster.finish().await
}

pub async fn a_restored_bucket_goes_on_with_its_builds(mutations: Mutations) -> Claim {
    let (cluster, id, _, owner) = scene(mutations).await?;
    let held = held_build(&cluster, owner, NUMBERS, 1).await?;
    let before = task(&cluster, id).await?;
    cluster.remove(other(owner), "b").await?;
    held.release();
    // The build has been told to stop, and nobody builds what is removed.
    tokio::time::sleep(SOON).await;
    claim!(task(&cluster, id).await? == before, "a removed bucket is being built on");
    cluster.expect(other(owner), "BUCKET.RESTORE b", "OK").await?;
    ready(&cluster, owner, i64::from(DOCUMENTS)).await?;
    let after = task(&cluster, id).await?;
    claim!(after.done == i64::from(DOCUMENTS), "looked at twice: {after:?}");
    cluster.finish().await
}

/// Scenario 5.
pub async fn a_batch_of_a_build_of_a_former_incarnation_is_refused(mutations: Mutations) -> Claim {
    for remove in [true, false] {
        let (mut cluster, id, _, owner) = scene(mutations).await?;
        let held = held_build(&cluster, owner, NUMBERS, 0).await?;
        let lost = cluster.lose(owner, "index-build");
        drop(held);
        lost.arrived().await;
        cluster.kill(owner).await;
        let removed = if remove { Some(cluster.remove(other(owner), "b").await?) } else { None };
        cluster.start(owner).await?;
        let landed = lost.land();
        let conflict = matches!(landed, Some(Err(StoreError::Conflict)));
        claim!(conflict, "a batch of a former incarnation landed: {landed:?}");
        match removed {
            Some(removed) => {
                cluster.expect(other(owner), "BUCKET.PURGE b", "OK").await?;
                cluster.purged(&removed, SOON).await?;
                claim!(cluster.raw_scan(id).await? == 0, "the purge left keys");
            }
            None => ready(&cluster, owner, i64::from(DOCUMENTS)).await?,
        }
        cluster.finish().await?;
    }
    Ok(())
}

pub async fn a_build_that_finds_a_duplicate_fails_and_lets_writes_alone(
    mutations: Mutations,
) -> Claim {
    let (cluster, id, ids, owner) = scene(mutations).await?;
    change(&cluster, "A", ids[450], Some(3)).await?;
    cluster.expect("A", &format!("BUCKET.INDEX CREATE b {UNIQUE}"), "OK").await?;
    let limit = SOON;
    cluster
        .eventually("the failure", limit, async || Ok(status(&cluster, "B").await? == "FAILED"))
        .await?;
    let told = line(field(&described(&cluster, owner).await?, "error")?);
    claim!(told == "DUPLICATEKEY Duplicate key: 'number' 3", "it says '{told}'");
    let tasks = line(&cluster.run("B", "BUCKET.INDEX TASKS b n").await?);
    claim!(tasks.contains("FAILED") && tasks.contains("Duplicate key: 'number' 3"), "{tasks}");
    let entries = cluster.rows(&keys::index::entries(id, 1)).await?.len();
    claim!(entries == 0, "{entries} entries are left of a build that failed");
    // It refuses nothing, and takes no name for ever.
    cluster.insert("A", "b", 3).await?;
    cluster.expect("B", "BUCKET.INDEX DROP b n", "OK").await?;
    cluster.expect("A", &format!("BUCKET.INDEX CREATE b {NUMBERS}"), "OK").await?;
    ready(&cluster, "B", i64::from(DOCUMENTS) + 1).await?;
    cluster.finish().await
}

pub async fn an_index_that_is_dropped_while_it_is_built_is_gone(mutations: Mutations) -> Claim {
    let (cluster, id, _, owner) = scene(mutations).await?;
    let held = held_build(&cluster, owner, NUMBERS, 1).await?;
    cluster.expect(other(owner), "BUCKET.INDEX DROP b n", "OK").await?;
    let landed = held.release();
    let conflict = matches!(landed, Some(Err(StoreError::Conflict)));
    claim!(conflict, "a batch landed in an index that was dropped: {landed:?}");
    cluster.expect("A", "BUCKET.INDEX DESCRIBE b n", "NOSUCHINDEX No such index: 'n'").await?;
    let queue = keys::kind_prefix(keys::kind::INDEX_TASK);
    cluster
        .eventually("the end of its task", SOON, async || {
            Ok(cluster.rows(&queue).await?.is_empty())
        })
        .await?;
    claim!(cluster.rows(&keys::index::entries(id, 1)).await?.is_empty(), "entries are left");
    // The next one has another number.
    cluster.expect("B", &format!("BUCKET.INDEX CREATE b {NUMBERS}"), "OK").await?;
    ready(&cluster, "A", i64::from(DOCUMENTS)).await?;
    let number = line(field(&described(&cluster, "A").await?, "id")?);
    claim!(number == "2", "the number {number} is used again");
    cluster.finish().await
}

pub async fn an_index_on_an_empty_bucket_is_ready_at_once(mutations: Mutations) -> Claim {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.expect("A", &format!("BUCKET.INDEX CREATE b {UNIQUE}"), "OK").await?;
    claim!(status(&cluster, "B").await? == "READY", "it is not ready");
    cluster.insert("B", "b", 7).await?;
    let twice = cluster.insert_later("A", "b", 7);
    twice.expect("DUPLICATEKEY Duplicate key: 'number' 7").await?;
    cluster.finish().await
}

/// Documents with so many entries together that an analysis takes several transactions.
async fn many_entries(cluster: &Cluster) -> Claim<i64> {
    const EACH: u32 = 499;
    let ids = &cluster.node("A").services().object_ids;
    for part in 0..5 {
        let numbers: Vec<String> = (0..EACH).map(|n| (part * EACH + n).to_string()).collect();
        let text = format!("{{\"number\":[{}]}}", numbers.join(","));
        let document = Document::from_json(text.as_bytes(), Limits::default()).map_err(fail)?;
        let new = NewDocument::new(document, Origin::Json, ids).map_err(fail)?;
        let batch = std::slice::from_ref(&new);
        let catalog = cluster.node("A").lifecycle().catalog();
        let body = |txn, live| async move {
            let home = Home::from(&live);
            document::insert(&txn, &home, batch, 0).await
        };
        catalog.write_data("insert", NAMESPACE, "b", body).await.map_err(fail)?;
    }
    // Each array has an entry as a whole, too.
    Ok(i64::from(5 * (EACH + 1)))
}

pub async fn an_analysis_goes_on_after_the_death_of_its_node(mutations: Mutations) -> Claim {
    let mut cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.expect("A", &format!("BUCKET.INDEX CREATE b {NUMBERS}"), "OK").await?;
    let entries = many_entries(&cluster).await?;
    let id = cluster.id("A", "b").await?;
    let owner = builder(&cluster, id);
    let mut held = cluster.hold(owner, "index-analyze");
    cluster.expect(other(owner), "BUCKET.INDEX ANALYZE b n", "OK").await?;
    // Its beginning and its first part land, the second does not.
    for _ in 0..2 {
        held.arrived().await;
        let next = cluster.hold(owner, "index-analyze");
        claim!(held.release().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
        held = next;
    }
    held.arrived().await;
    let before = task_of(&cluster, id, TaskKind::Analyze).await?;
    claim!(before.analysis.is_some() && before.done > 0 && before.done < entries, "{before:?}");
    cluster.kill(owner).await;
    drop(held);
    cluster
        .eventually("the end of the analysis", SOON, async || {
            Ok(task_of(&cluster, id, TaskKind::Analyze).await?.status == TaskStatus::Completed)
        })
        .await?;
    let after = task_of(&cluster, id, TaskKind::Analyze).await?;
    claim!(after.done == entries && after.analysis.is_none(), "{after:?}");
    claim!(after.started_at == before.started_at, "it began anew: {after:?}");
    let row = cluster.get(&keys::index::histogram(id, 1)).await?.ok_or("no histogram")?;
    let found: HistogramRecord = record::decode("histogram", &row).map_err(fail)?;
    let sum: i64 = found.buckets.iter().map(|bucket| bucket.entries).sum();
    claim!((found.entries, sum, found.distinct) == (entries, entries, entries), "{found:?}");
    cluster.finish().await
}

const NAMES: &str =
    r#"{"name":{"bson_type":"string","name":"n","unique":true,"collation":{"locale":"en"}}}"#;

/// A bucket with a unique index by collation on three documents, which claims to
/// be built with this data.
async fn built_with(cluster: &Cluster, data: &str) -> Claim<BucketId> {
    cluster.expect("A", &format!("BUCKET.CREATE b INDEXES {NAMES}"), "OK").await?;
    for name in ["ada", "Bob", "eve"] {
        insert_name(cluster, "A", name).await?;
    }
    let id = cluster.id("A", "b").await?;
    let txn = cluster.store().begin("tamper");
    let key = keys::bucket_record(id);
    let value = txn.get(&key, Read::Conflict).await.map_err(fail)?.ok_or("no record")?;
    let mut record: BucketRecord = record::decode("bucket/record", &value).map_err(fail)?;
    for index in &mut record.indexes {
        data.clone_into(&mut index.collation_data);
    }
    txn.set(&key, &record::encode(&record)).map_err(fail)?;
    invalidate(&txn, id.0).map_err(fail)?;
    txn.commit().await.map_err(fail)?;
    claim!(status(cluster, "B").await? == "STALE", "it is taken for current");
    Ok(id)
}

async fn insert_name(cluster: &Cluster, node: &str, name: &str) -> Claim<String> {
    let document = format!("{{\"name\":\"{name}\"}}");
    Ok(line(&cluster.run(node, &format!("BUCKET.INSERT b DOCS {document}")).await?))
}

/// What a query finds must not depend on the index, and EXPLAIN says why it is not used.
async fn found_without_it(cluster: &Cluster) -> Claim {
    let query = r#"b {"name":{"$gte":"b"}} COLLATION {"locale":"en"}"#;
    cluster.expect("B", &format!("BUCKET.COUNT {query}"), "2").await?;
    let explained = line(&cluster.run("B", &format!("BUCKET.EXPLAIN {query}")).await?);
    claim!(explained.contains("FULL_SCAN"), "{explained}");
    claim!(explained.contains("it was built with other collation data"), "{explained}");
    Ok(())
}

pub async fn an_index_of_older_collation_data_is_built_anew_by_the_next_write(
    mutations: Mutations,
) -> Claim {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    let id = built_with(&cluster, "icu4x-2.3").await?;
    found_without_it(&cluster).await?;
    // The write is done, and the index is on its way.
    let answer = insert_name(&cluster, "B", "zoe").await?;
    claim!(!answer.contains("INDEXSTALE"), "{answer}");
    ready(&cluster, "A", 4).await?;
    claim!(cluster.rows(&keys::index::entries(id, 1)).await?.is_empty(), "old entries are left");
    let twice = insert_name(&cluster, "A", "Bob").await?;
    claim!(twice == "DUPLICATEKEY Duplicate key: 'name' Bob", "{twice}");
    cluster.finish().await
}

pub async fn an_index_of_newer_collation_data_is_not_written_and_not_read(
    mutations: Mutations,
) -> Claim {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    let id = built_with(&cluster, "icu4x-99.1").await?;
    found_without_it(&cluster).await?;
    let before = cluster.raw_scan(id).await?;
    let answer = insert_name(&cluster, "B", "zoe").await?;
    claim!(
        answer.starts_with("INDEXSTALE Index 'n' was built with collation data icu4x-99.1"),
        "{answer}"
    );
    claim!(cluster.raw_scan(id).await? == before, "a refused write left keys");
    // Whoever goes back to older data says so.
    cluster.expect("B", "BUCKET.INDEX REINDEX b n", "OK").await?;
    ready(&cluster, "A", 3).await?;
    let answer = insert_name(&cluster, "B", "ada").await?;
    claim!(answer == "DUPLICATEKEY Duplicate key: 'name' ada", "{answer}");
    cluster.finish().await
}
