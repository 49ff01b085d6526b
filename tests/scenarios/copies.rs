//! Copies against everything that can happen while they are made: writes from every
//! node, the death of the node, a shard that moves, REMOVE and RESTORE.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::oid::ObjectId;
use lethe::cluster::mutation::Mutations;
use lethe::codec::record::{self, BucketRecord, CopyPhase, CopyRecord};
use lethe::codec::{BucketId, keys};
use lethe::document::carry::reader_name;
use lethe::store::Error as StoreError;

use crate::cluster::{Asked, Claim, Cluster, claim, fail, field, line};

pub const SOON: Duration = Duration::from_secs(20);
const NODES: [&str; 3] = ["A", "B", "C"];

/// The id of a document, by its number.
pub fn id(number: u32) -> ObjectId {
    let mut bytes = [7; 12];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

pub fn insert(number: u32, value: &str) -> String {
    format!("BUCKET.INSERT b DOCS {{\"_id\":\"{}\",\"v\":\"{value}\"}}", id(number).to_hex())
}

pub fn update(number: u32, value: &str) -> String {
    let id = id(number).to_hex();
    format!("BUCKET.UPDATE b {{\"_id\":\"{id}\"}} {{\"$set\":{{\"v\":\"{value}\"}}}}")
}

pub fn delete(number: u32) -> String {
    format!("BUCKET.DELETE b {{\"_id\":\"{}\"}}", id(number).to_hex())
}

/// What all that was acknowledged comes to.
#[derive(Debug, Default)]
pub struct Model {
    pub documents: BTreeMap<ObjectId, String>,
    round: u32,
}

impl Model {
    /// Writes from every node, each to a document of its own: inserts, updates and deletes.
    pub async fn round(&mut self, cluster: &Cluster) -> Claim {
        let asked = self.ask(cluster);
        self.answered(asked).await
    }

    pub fn ask(&mut self, cluster: &Cluster) -> Vec<(u32, Option<String>, Asked)> {
        self.round += 1;
        let round = self.round;
        let of = |place: u32| (round * 7 + place * 13) % 120;
        let mut known = std::collections::BTreeSet::new();
        let numbers: Vec<u32> = (0..9).map(of).filter(|number| known.insert(*number)).collect();
        let ask = |(place, number): (usize, u32)| {
            let node = NODES[place % NODES.len()];
            let there = self.documents.contains_key(&id(number));
            let value = format!("{round}.{number}");
            let (value, command) = match (there, round % 3) {
                (true, 0) => (None, delete(number)),
                (true, _) => (Some(value.clone()), update(number, &value)),
                (false, _) => (Some(value.clone()), insert(number, &value)),
            };
            (number, value, cluster.ask(node, &command))
        };
        numbers.into_iter().enumerate().map(ask).collect()
    }

    pub async fn answered(&mut self, asked: Vec<(u32, Option<String>, Asked)>) -> Claim {
        for (number, value, asked) in asked {
            let answer = asked.line().await?;
            claim!(answer.starts_with('['), "a write answered '{answer}'");
            match value {
                Some(value) => self.documents.insert(id(number), value),
                None => self.documents.remove(&id(number)),
            };
        }
        Ok(())
    }
}

/// What a bucket holds, whatever its state.
pub async fn content(cluster: &Cluster, bucket: BucketId) -> Claim<BTreeMap<ObjectId, String>> {
    let mut documents = BTreeMap::new();
    for (key, value) in cluster.rows(&keys::data_part(bucket, keys::data::DOCUMENT)).await? {
        let (_, oid) = keys::parse_document(&key).map_err(fail)?;
        let document: bson::Document = bson::deserialize_from_slice(&value[1..]).map_err(fail)?;
        let value = document.get_str("v").map_err(fail)?.to_owned();
        documents.insert(ObjectId::from_bytes(oid), value);
    }
    Ok(documents)
}

/// Claims that two buckets hold the same, key by key: documents, deleted ones, the change log, index entries and sums.
pub async fn same(cluster: &Cluster, one: BucketId, other: BucketId, live_only: bool) -> Claim {
    use keys::data;
    let deleted = [data::TOMBSTONE, data::DELETED_BY, data::EXPIRING];
    let parts = [data::DOCUMENT, data::CHANGE, data::INDEX, data::INDEX_COUNT, data::COUNT];
    for part in parts.into_iter().chain(deleted) {
        let mut all = Vec::new();
        for bucket in [one, other] {
            let prefix = keys::data_part(bucket, part);
            let mut rows = cluster.rows(&prefix).await?;
            if [data::COUNT, data::INDEX_COUNT].contains(&part) {
                // A sum that came to nothing may stand there or not.
                rows.retain(|(_, value)| value.iter().any(|byte| *byte != 0));
            }
            if live_only && part == data::COUNT {
                let counts = |key: &[u8]| keys::parse_count(key).is_ok_and(|it| it.2 < 3);
                rows.retain(|(key, _)| counts(key));
            }
            let rest = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
                (key.slice(prefix.len()..), value.clone())
            };
            all.push(rows.iter().map(rest).collect::<Vec<_>>());
        }
        if live_only && deleted.contains(&part) {
            claim!(all[1].is_empty(), "part {part}: {} rows were not left behind", all[1].len());
            continue;
        }
        claim!(all[0] == all[1], "part {part}: {} rows and {}", all[0].len(), all[1].len());
    }
    Ok(())
}

/// How far a copy is.
pub async fn progress(cluster: &Cluster, copy: BucketId) -> Claim<CopyRecord> {
    let row = cluster.get(&keys::copy::progress(copy)).await?.ok_or("no copy")?;
    record::decode("copy", &row).map_err(fail)
}

/// Waits until a copy has followed everything.
pub async fn caught_up(cluster: &Cluster, name: &str) -> Claim {
    cluster
        .eventually("the copy", SOON, async || {
            let described = cluster.run("A", &format!("BUCKET.DESCRIBE {name}")).await?;
            let copy = field(&described, "copy")?;
            let following = line(field(copy, "phase")?) == "following";
            Ok(following && line(field(copy, "behind")?) == "0")
        })
        .await?;
    Ok(())
}

/// The node that makes a copy.
pub fn copier(cluster: &Cluster, copy: BucketId) -> &'static str {
    let owns = |node: &&&str| {
        let shards = cluster.node(node).cluster().owned_shards();
        let shards = shards.borrow();
        shards.keys().any(|shard| u64::from(*shard) == copy.0 % 4)
    };
    NODES.iter().find(owns).copied().unwrap_or("A")
}

pub fn other(node: &str) -> &'static str {
    NODES.iter().find(|other| **other != node).copied().unwrap_or("A")
}

/// Three nodes and a bucket on two shards, with an index and documents, some of them deleted.
pub async fn scene(mutations: Mutations) -> Claim<(Cluster, Model)> {
    let cluster = Cluster::with(&NODES, mutations, |_| {}).await?;
    let index = r#"{"v":{"bson_type":"string","name":"v"}}"#;
    cluster.expect("A", &format!("BUCKET.CREATE b SHARDS 1 2 INDEXES {index}"), "OK").await?;
    let mut model = Model::default();
    for _ in 0..30 {
        model.round(&cluster).await?;
    }
    Ok((cluster, model))
}

/// With writes from every node the copy loses none, and brings back nothing that was deleted; the swap
/// fails no write.
pub async fn a_copy_loses_no_write_and_a_swap_fails_none(mutations: Mutations) -> Claim {
    for live_only in ["", " LIVE-ONLY"] {
        let (cluster, mut model) = scene(mutations).await?;
        let source = cluster.id("A", "b").await?;
        cluster.expect("B", &format!("BUCKET.COPY b c{live_only}"), "OK").await?;
        let copy = cluster.id("A", "c").await?;
        for _ in 0..20 {
            model.round(&cluster).await?;
        }
        // Writes under way from every node while it is swapped.
        let swap = cluster.ask("C", "BUCKET.SWAP b c");
        let mut rounds = 0;
        while !swap.is_answered() {
            model.round(&cluster).await?;
            rounds += 1;
            claim!(rounds < 1_000, "the swap never answered");
        }
        swap.expect("OK").await?;
        for _ in 0..5 {
            model.round(&cluster).await?;
        }
        claim!(cluster.id("B", "b").await? == copy, "the name does not mean the copy");
        let found = content(&cluster, copy).await?;
        claim!(found == model.documents, "{found:?} instead of {:?}", model.documents);
        cluster.expect("A", "BUCKET.LIST", "[b]").await?;
        cluster.expect("A", &format!("BUCKET.RESTORE {source} AS old"), "OK").await?;
        cluster.expect("A", "BUCKET.LIST", "[b, old]").await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Once nobody writes any more the copy is the source, key by key.
pub async fn a_copy_is_its_source_key_by_key(mutations: Mutations) -> Claim {
    for live_only in [false, true] {
        let (cluster, mut model) = scene(mutations).await?;
        let source = cluster.id("A", "b").await?;
        let option = if live_only { " LIVE-ONLY" } else { "" };
        cluster.expect("B", &format!("BUCKET.COPY b c{option}"), "OK").await?;
        let copy = cluster.id("A", "c").await?;
        for _ in 0..10 {
            model.round(&cluster).await?;
        }
        caught_up(&cluster, "c").await?;
        same(&cluster, source, copy, live_only).await?;
        let record = cluster.get(&keys::bucket_record(copy)).await?.ok_or("no record")?;
        let record: BucketRecord = record::decode("bucket", &record).map_err(fail)?;
        claim!(record.indexes.len() == 1 && record.shards == [1, 2], "{record:?}");
        cluster.expect("A", "BUCKET.SWAP b c", "OK").await?;
        same(&cluster, source, copy, live_only).await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Nobody writes to a copy or changes its indexes or its source's.
/// How many rows of BUCKET.LIST ALL say that a bucket is in a state.
async fn listed(cluster: &Cluster, name: &str, state: &str) -> Claim<usize> {
    let rows = cluster.run("A", "BUCKET.LIST ALL").await?;
    let lethe::resp::Reply::Array(rows) = &rows else { return Err(line(&rows)) };
    let mut found = 0;
    for row in rows {
        let is = line(field(row, "bucket")?) == name && line(field(row, "state")?) == state;
        found += usize::from(is);
    }
    Ok(found)
}

/// A copy is listed as what it is, until it takes the place of its source.
pub async fn a_copy_is_listed_as_one(mutations: Mutations) -> Claim {
    let (cluster, _) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    claim!(listed(&cluster, "c", "copying").await? == 1, "c is no copy");
    claim!(listed(&cluster, "b", "active").await? == 1, "b is not active");
    caught_up(&cluster, "c").await?;
    claim!(listed(&cluster, "c", "copying").await? == 1, "c is no copy any more");
    cluster.expect("A", "BUCKET.SWAP b c", "OK").await?;
    claim!(listed(&cluster, "b", "active").await? == 1, "the copy has not taken its place");
    claim!(listed(&cluster, "b", "removed").await? == 1, "the old one is not removed");
    claim!(listed(&cluster, "c", "copying").await? == 0, "it has two names");
    cluster.finish().await
}

pub async fn a_copy_is_read_only_and_indexes_stay(mutations: Mutations) -> Claim {
    let (cluster, model) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    caught_up(&cluster, "c").await?;
    let read_only =
        "ERR Bucket 'c' is a copy that is being made: it is read-only until BUCKET.SWAP";
    let index = r#"{"w":{"bson_type":"int32"}}"#;
    for command in [
        "BUCKET.INSERT c DOCS {\"a\":1}".to_owned(),
        "BUCKET.UPDATE c {} {\"$set\":{\"a\":1}}".to_owned(),
        "BUCKET.DELETE c {}".to_owned(),
        "BUCKET.INSERT c OPID o DOCS {\"a\":1}".to_owned(),
        format!("BUCKET.INDEX CREATE c {index}"),
        "BUCKET.INDEX DROP c v".to_owned(),
        "BUCKET.INDEX ANALYZE c v".to_owned(),
    ] {
        cluster.expect("B", &command, read_only).await?;
    }
    let copied = "ERR Bucket 'b' is being copied to 'c': swap the copy or remove it before its indexes change";
    for command in [format!("BUCKET.INDEX CREATE b {index}"), "BUCKET.INDEX DROP b v".to_owned()] {
        cluster.expect("C", &command, copied).await?;
    }
    let counted = cluster.run("C", "BUCKET.COUNT c {}").await?;
    claim!(line(&counted) == model.documents.len().to_string(), "{}", line(&counted));
    cluster
        .expect("A", "BUCKET.COPY c d", "ERR Bucket 'c' is a copy itself: swap it first")
        .await?;
    cluster.expect("A", "BUCKET.COPY b c", "BUCKETALREADYEXISTS Bucket already exists: c").await?;
    cluster
        .expect(
            "A",
            "BUCKET.SWAP c b",
            "ERR Bucket 'b' is no copy of 'c': make one with BUCKET.COPY",
        )
        .await?;
    cluster.expect("A", "BUCKET.REMOVE c", "OK").await?;
    cluster.expect("A", "BUCKET.INDEX DROP b v", "OK").await?;
    cluster.finish().await
}

/// The owner of the copy's shard dies in the middle; a late part of its work is refused.
pub async fn a_copy_goes_on_after_the_death_of_its_node(mutations: Mutations) -> Claim {
    for restart in [false, true] {
        let (mut cluster, mut model) = scene(mutations).await?;
        cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
        let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
        let owner = copier(&cluster, copy);
        let held = cluster.hold(owner, "copy");
        model.round(&cluster).await?;
        held.arrived().await;
        if restart {
            cluster.restart(owner).await?;
        } else {
            cluster.kill(owner).await;
        }
        let node = other(owner);
        let moved = async || {
            let rows = cluster.rows(&keys::kind_prefix(keys::kind::SHARD)).await?;
            let is_old = |(_, row): &(bytes::Bytes, bytes::Bytes)| {
                record::decode::<record::ShardRecord>("shard", row)
                    .is_ok_and(|shard| !restart && shard.owner == owner)
            };
            Ok(!rows.iter().any(is_old))
        };
        cluster.eventually("another owner", SOON, moved).await?;
        if restart {
            // Its former incarnation's epoch is over once it is there again.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let late = held.release();
        claim!(late.is_none_or(|late| late.is_err()), "a part of the work of a dead owner landed");
        cluster
            .eventually("the copy", SOON, async || {
                let row = progress(&cluster, copy).await?;
                Ok(row.phase == CopyPhase::Following && row.positions[0] > row.registered)
            })
            .await?;
        let swap = cluster.run(node, "BUCKET.SWAP b c").await?;
        claim!(line(&swap) == "OK", "{}", line(&swap));
        same(&cluster, source, copy, false).await?;
        claim!(content(&cluster, copy).await? == model.documents, "a write is lost");
        cluster.finish().await?;
    }
    Ok(())
}

/// The node with the copy's shard leaves in order: the next owner goes on.
pub async fn a_copy_goes_on_with_the_next_owner_of_its_shard(mutations: Mutations) -> Claim {
    let (mut cluster, mut model) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
    caught_up(&cluster, "c").await?;
    let owner = copier(&cluster, copy);
    model.round(&cluster).await?;
    cluster.leave(owner).await;
    let node = other(owner);
    cluster
        .eventually("the swap", SOON, async || {
            Ok(line(&cluster.run(node, "BUCKET.SWAP b c TIMEOUT 0").await?) == "OK")
        })
        .await?;
    same(&cluster, source, copy, false).await?;
    claim!(content(&cluster, copy).await? == model.documents, "a write is lost");
    cluster.finish().await
}

/// While the source is removed the copy waits; when it is restored it goes on. Its purge ends the copy.
pub async fn a_copy_waits_for_its_source_and_ends_with_it(mutations: Mutations) -> Claim {
    let (cluster, mut model) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
    caught_up(&cluster, "c").await?;
    let removed = cluster.remove("A", "b").await?;
    cluster
        .expect("B", "BUCKET.SWAP b c", "BUCKETBEINGREMOVED Bucket 'b' is being removed")
        .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    claim!(progress(&cluster, copy).await?.phase == CopyPhase::Following, "it did not wait");
    cluster.expect("B", &format!("BUCKET.RESTORE {}", removed.removal), "OK").await?;
    model.round(&cluster).await?;
    caught_up(&cluster, "c").await?;
    same(&cluster, source, copy, false).await?;
    // The barrier is reached, although a copy is being made of it.
    cluster.remove("A", "b").await?;
    cluster.expect("B", "BUCKET.PURGE b", "OK").await?;
    cluster
        .eventually("the end of the copy", Duration::from_secs(90), async || {
            Ok(progress(&cluster, copy).await?.phase == CopyPhase::Failed)
        })
        .await?;
    let described = cluster.run("C", "BUCKET.DESCRIBE c").await?;
    let error = line(field(field(&described, "copy")?, "last_error")?);
    claim!(error.ends_with("was purged"), "{error}");
    cluster.finish().await
}

/// A copy that ends lets its source go, also when that is removed: what it schedules there at the
/// moment of the flip goes with the source.
pub async fn a_copy_that_ends_at_the_flip_of_its_source_leaves_nothing(
    mutations: Mutations,
) -> Claim {
    let (cluster, _) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
    caught_up(&cluster, "c").await?;
    // The copy stands still, so that what expires in the source waits for it.
    let stopped = cluster.hold(copier(&cluster, copy), "copy");
    cluster.run("A", "BUCKET.DELETE b {} RETAIN 1s").await?;
    stopped.arrived().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let vacuumed = line(&cluster.run("A", "BUCKET.VACUUM b").await?);
    claim!(!vacuumed.contains("waiting_for_replicas: 0"), "nothing waits: {vacuumed}");
    let removed = cluster.remove("A", "b").await?;
    drop(stopped.release());
    // Everybody lets go of it first, so that what is held is the flip itself.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let flip = cluster.hold_any("flip");
    let purge = cluster.ask("B", &format!("BUCKET.PURGE {}", removed.removal));
    flip.arrived().await;
    let scheduled = keys::data_part(source, keys::data::VACUUM);
    let before = cluster.rows(&scheduled).await?.len();
    cluster.remove("A", "c").await?;
    cluster
        .eventually("a look for what waited for the copy", Duration::from_secs(3), async || {
            Ok(cluster.rows(&scheduled).await?.len() > before)
        })
        .await?;
    let landed = flip.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "the flip did not see it: {landed:?}"
    );
    purge.expect("OK").await?;
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// The removal of a copy stops its work, which the barrier waits for, and lets go of the log; restored it is over.
pub async fn a_removed_copy_is_stopped_and_keeps_nothing(mutations: Mutations) -> Claim {
    let (cluster, mut model) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
    caught_up(&cluster, "c").await?;
    let owner = copier(&cluster, copy);
    let reader = keys::feed::replica(source, &reader_name(copy));
    claim!(cluster.get(&reader).await?.is_some(), "nothing keeps the log");
    // A part of its work is under way when it is removed.
    let held = cluster.hold(owner, "copy");
    model.round(&cluster).await?;
    held.arrived().await;
    let removed = cluster.remove("B", "c").await?;
    let purge = cluster
        .expect_start(
            "B",
            &format!("BUCKET.PURGE {} TIMEOUT 3000", removed.removal),
            "BARRIERNOTSATISFIED",
        )
        .await?;
    claim!(purge.contains("copying of"), "nobody is named: {purge}");
    claim!(cluster.get(&reader).await?.is_none(), "the log is still kept");
    let late = held.release();
    claim!(
        matches!(late, Some(Err(StoreError::Conflict))),
        "it landed after the removal: {late:?}"
    );
    cluster.purged(&removed, SOON).await?;
    // Another one, restored: nobody goes on with it.
    cluster.expect("A", "BUCKET.COPY b d", "OK").await?;
    let removed = cluster.remove("B", "d").await?;
    cluster.expect("B", &format!("BUCKET.RESTORE {}", removed.removal), "OK").await?;
    let failed = "ERR Bucket 'b' was not swapped: its copy 'd' has failed: \
                  it was removed while it was being made";
    cluster.expect("B", "BUCKET.SWAP b d", failed).await?;
    let refused = "ERR Bucket 'd' is a copy that is being made: it is read-only until BUCKET.SWAP";
    cluster.expect("B", "BUCKET.DELETE d {}", refused).await?;
    cluster.finish().await
}

/// Values of a unique index that change their documents while they are copied meet no wall, and
/// the index is unique again afterwards.
pub async fn unique_values_that_move_are_copied(mutations: Mutations) -> Claim {
    let cluster = Cluster::with(&NODES, mutations, |_| {}).await?;
    let index = r#"{"v":{"bson_type":"string","name":"v","unique":true}}"#;
    cluster.expect("A", &format!("BUCKET.CREATE b INDEXES {index}"), "OK").await?;
    for number in 0..4 {
        cluster.expect_start("A", &insert(number, &format!("v{number}")), "[").await?;
    }
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
    let owner = copier(&cluster, copy);
    // All values move by one place, again and again, while nothing is followed.
    for _ in 0..5 {
        let held = cluster.hold(owner, "copy");
        cluster.expect_start("B", &update(0, "x"), "[").await?;
        for (number, value) in [(3, "v0"), (2, "v3"), (1, "v2"), (0, "v1")] {
            cluster.expect_start("B", &update(number, value), "[").await?;
        }
        // And back, so that only the first of them differs in the end.
        for (number, value) in [(0, "y"), (1, "v1"), (2, "v2"), (3, "v3"), (0, "v0")] {
            cluster.expect_start("C", &update(number, value), "[").await?;
        }
        for (number, value) in [(0, "z"), (1, "v0"), (0, "v1")] {
            cluster.expect_start("C", &update(number, value), "[").await?;
        }
        for (number, value) in [(0, "z"), (1, "v1"), (0, "v0")] {
            cluster.expect_start("C", &update(number, value), "[").await?;
        }
        drop(held);
    }
    for (number, value) in [(0, "z"), (1, "v0"), (0, "v1")] {
        cluster.expect_start("A", &update(number, value), "[").await?;
    }
    cluster.expect("A", "BUCKET.SWAP b c", "OK").await?;
    same(&cluster, source, copy, false).await?;
    let taken = insert(9, "v1");
    cluster.expect_start("B", &taken, "DUPLICATEKEY").await?;
    cluster.finish().await
}
