//! The exact conflict sets of the commits of a whole node: what each rests on,
//! and what rests on it. Those of the cluster's own commits are tested there.

use std::time::Duration;

use lethe::clock::milliseconds;
use lethe::cluster::mutation::Mutations;
use lethe::codec::record::{self, GraveRecord, OperationRecord, RetentionRecord};
use lethe::codec::{BucketId, NamespaceId, ObjectKind, RemovalId, Versionstamp, keys};
use lethe::resp::Reply;
use lethe::store::{Held, RangeRead, Store, Transaction};

use crate::cluster::{Claim, Cluster, NAMESPACE, claim, fail, line, patiently};

const NAME: &str = "b";

/// What is expected, made of the same calls as the real thing.
pub struct Expected(pub Transaction);

impl Expected {
    pub fn new(store: &Store) -> Self {
        Self(store.begin("expected"))
    }

    pub fn reads(&self, all: &[Vec<u8>]) -> Claim {
        all.iter().try_for_each(|key| self.0.add_read_conflict_key(key)).map_err(fail)
    }

    pub fn reads_prefixes(&self, all: &[Vec<u8>]) -> Claim {
        let read = |prefix: &Vec<u8>| {
            let (begin, end) = keys::range(prefix);
            self.0.add_read_conflict_range(&begin, &end)
        };
        all.iter().try_for_each(read).map_err(fail)
    }

    pub fn writes(&self, all: &[Vec<u8>]) -> Claim {
        all.iter().try_for_each(|key| self.0.set(key, b"")).map_err(fail)
    }

    pub fn stamped(&self, all: &[Vec<u8>]) -> Claim {
        all.iter().try_for_each(|key| self.0.set_versionstamped_key(key, b"")).map_err(fail)
    }

    pub fn clears(&self, begin: &[u8], end: &[u8]) -> Claim {
        self.0.clear_range(begin, end).map_err(fail)
    }

    /// An event and an audit row, as every transition has them.
    pub fn transition(&self) -> Claim {
        self.writes(&[keys::journal_head()])?;
        self.stamped(&[keys::journal_now(0), keys::audit_now(0)])
    }
}

type Ranges = [(Vec<u8>, Vec<u8>)];

fn same(what: &str, found: &Ranges, expected: &Ranges) -> Claim {
    let without = |all: &Ranges, others: &Ranges| -> Vec<String> {
        let more = all.iter().filter(|range| !others.contains(range));
        more.map(|(begin, end)| {
            let kind = keys::kind_of(begin).unwrap_or_default();
            format!("{} to {} (kind {kind})", begin.escape_ascii(), end.escape_ascii())
        })
        .collect()
    };
    let (more, missing) = (without(found, expected), without(expected, found));
    claim!(
        more.is_empty() && missing.is_empty(),
        "{what} too much: {more:#?}, too little: {missing:#?}"
    );
    Ok(())
}

/// A bucket with one document on a node, and what its keys are made of.
struct Scene {
    cluster: Cluster,
    bucket: BucketId,
    namespace: NamespaceId,
    shard: u16,
}

impl Scene {
    async fn new() -> Claim<Self> {
        let change = |config: &mut lethe::config::Config| {
            config.changes_retention = Duration::from_secs(10);
        };
        let cluster = Cluster::with(&["A"], Mutations::default(), change).await?;
        cluster.expect("A", "BUCKET.CREATE b SHARDS 2", "OK").await?;
        cluster.insert("A", NAME, 1).await?;
        let catalog = cluster.node("A").lifecycle().catalog();
        let (bucket, record) = catalog.bucket(NAMESPACE, NAME).await.map_err(fail)?;
        Ok(Self { cluster, bucket, namespace: record.namespace, shard: 2 })
    }

    fn expected(&self) -> Expected {
        Expected::new(self.cluster.store())
    }

    /// When the trims of the bucket are scheduled.
    async fn trims(&self) -> Claim<Vec<i64>> {
        let rows = self.cluster.rows(&keys::data_part(self.bucket, keys::data::TRIM)).await?;
        rows.iter().map(|(key, _)| Ok(keys::parse_trim(key).map_err(fail)?.1)).collect()
    }

    async fn trim_expiries(&self) -> Claim<Vec<Vec<u8>>> {
        let number = self.bucket.0.to_be_bytes();
        let row = |at: &i64| keys::expiry(*at, keys::due::TRIM, &number);
        Ok(self.trims().await?.iter().map(row).collect())
    }

    async fn removal_expiry(&self, removal: RemovalId) -> Claim<Vec<u8>> {
        let row = self.cluster.get(&keys::retention(removal)).await?.ok_or("no retention")?;
        let row: RetentionRecord = record::decode("retention", &row).map_err(fail)?;
        let at = row.expires_at.ok_or("no expiry")?;
        Ok(keys::expiry(at, keys::due::REMOVAL, &removal.0.to_be_bytes()))
    }

    /// The rows of an operation that has been committed.
    async fn operation(&self, id: &str) -> Claim<Vec<Vec<u8>>> {
        let key = keys::operation("default", id);
        let row = self.cluster.get(&key).await?.ok_or("no operation")?;
        let row: OperationRecord = record::decode("operation", &row).map_err(fail)?;
        let due = keys::expiry(row.until, keys::due::OPERATION, &key);
        Ok(vec![key, due])
    }

    fn rows_of(&self, removal: RemovalId) -> Vec<Vec<u8>> {
        vec![
            keys::removal(removal),
            keys::retention(removal),
            keys::removed_by_name(ObjectKind::Bucket, self.namespace, NAME, removal),
        ]
    }
}

/// Copies the sets, lets the commit land, and gives it back as a held one would.
pub struct Sets {
    pub reads: Vec<(Vec<u8>, Vec<u8>)>,
    pub writes: Vec<(Vec<u8>, Vec<u8>)>,
}

pub async fn landed(held: Held) -> Claim<Sets> {
    held.arrived().await;
    let (reads, writes) = held.conflicts().ok_or("nothing is held")?;
    claim!(held.release().is_some_and(|landed| landed.is_ok()), "it did not land");
    // Its caller goes on.
    tokio::task::yield_now().await;
    Ok(Sets { reads, writes })
}

impl Sets {
    pub fn check(&self, expected: &Expected) -> Claim {
        same("reads", &self.reads, &expected.0.read_conflicts())?;
        same("writes", &self.writes, &expected.0.write_conflicts())
    }
}

async fn removal() -> Claim {
    let scene = Scene::new().await?;
    let held = scene.cluster.hold("A", "remove");
    let remove = scene.cluster.ask("A", "BUCKET.REMOVE b OPID o");
    let sets = landed(held).await?;
    remove.expect("OK").await?;
    let (n, b) = (scene.namespace, scene.bucket);
    let of = scene.cluster.get(&keys::removal_of(b.0)).await?.ok_or("no removal")?;
    let removal = RemovalId(u64::from_be_bytes(of[..].try_into().map_err(fail)?));
    let expected = scene.expected();
    expected.reads(&[keys::user("default")])?;
    expected.reads(&[
        keys::operation("default", "o"),
        keys::namespace_name(NamespaceId::ROOT, NAMESPACE),
        keys::fence(n.0),
        keys::bucket_name(n, NAME),
        keys::bucket_record(b),
    ])?;
    expected.writes(&[
        keys::bucket_name(n, NAME),
        keys::bucket_record(b),
        keys::fence(b.0),
        keys::removal_of(b.0),
        scene.removal_expiry(removal).await?,
    ])?;
    expected.writes(&scene.rows_of(removal))?;
    expected.writes(&scene.operation("o").await?)?;
    expected.stamped(&[
        keys::removed_by_time_now(ObjectKind::Bucket, n),
        keys::removed_by_time_now(ObjectKind::Bucket, NamespaceId::ROOT),
    ])?;
    expected.transition()?;
    expected.0.touch_metadata_version().map_err(fail)?;
    sets.check(&expected)?;
    scene.cluster.finish().await
}

async fn restore() -> Claim {
    let scene = Scene::new().await?;
    let removal = scene.cluster.remove("A", NAME).await?.removal;
    let row = scene.cluster.get(&keys::removal(removal)).await?.ok_or("no removal")?;
    let version = Versionstamp::decode(&row[..10]).map_err(fail)?;
    let removal_expiry = scene.removal_expiry(removal).await?;
    let held = scene.cluster.hold("A", "restore");
    let restore = scene.cluster.ask("A", &format!("BUCKET.RESTORE {removal} OPID o"));
    let sets = landed(held).await?;
    restore.expect("OK").await?;
    let (n, b) = (scene.namespace, scene.bucket);
    let expected = scene.expected();
    expected.reads(&[keys::user("default")])?;
    expected.reads(&[
        keys::operation("default", "o"),
        keys::removal(removal),
        keys::retention(removal),
        keys::hold(removal),
        keys::request(removal),
        keys::bucket_record(b),
        keys::bucket_name(n, NAME),
        keys::reserved_name(ObjectKind::Bucket, n, NAME),
        keys::namespace_record(n),
        keys::fence(n.0),
    ])?;
    expected.writes(&scene.rows_of(removal))?;
    expected.writes(&[
        keys::hold(removal),
        keys::request(removal),
        removal_expiry,
        keys::removal_of(b.0),
        keys::removed_by_time(ObjectKind::Bucket, n, version),
        keys::removed_by_time(ObjectKind::Bucket, NamespaceId::ROOT, version),
        keys::bucket_name(n, NAME),
        keys::bucket_record(b),
    ])?;
    expected.writes(&scene.trim_expiries().await?)?;
    expected.writes(&scene.operation("o").await?)?;
    expected.transition()?;
    sets.check(&expected)?;
    scene.cluster.finish().await
}

async fn flip() -> Claim {
    let scene = Scene::new().await?;
    let removal = scene.cluster.remove("A", NAME).await?.removal;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let removal_expiry = scene.removal_expiry(removal).await?;
    let trims = scene.trim_expiries().await?;
    claim!(trims.len() == 1, "{} trims are scheduled", trims.len());
    let held = scene.cluster.hold("A", "flip");
    let purge = scene.cluster.ask("A", &format!("BUCKET.PURGE {removal} OPID o"));
    let sets = landed(held).await?;
    purge.expect("OK").await?;
    let (n, b) = (scene.namespace, scene.bucket);
    let grave = scene.cluster.get(&keys::grave(removal)).await?.ok_or("no grave")?;
    let grave: GraveRecord = record::decode("grave", &grave).map_err(fail)?;
    let expected = scene.expected();
    expected.reads(&[keys::user("default")])?;
    expected.reads(&[
        keys::operation("default", "o"),
        keys::removal(removal),
        keys::retention(removal),
        keys::hold(removal),
        keys::request(removal),
        keys::bucket_record(b),
        keys::fence(b.0),
        keys::purge_pause(),
        keys::cluster_time(),
        keys::namespace_record(n),
        keys::fence(n.0),
    ])?;
    // Not among them, since they only grow: seen and witnesses.
    expected.reads_prefixes(&[
        keys::kind_prefix(keys::kind::MEMBER),
        keys::kind_prefix(keys::kind::SHARD),
        keys::busy_prefix(b.0),
        // A copy that ends, and readers whose leases do, schedule looks also in what is removed.
        keys::data_part(b, keys::data::TRIM),
        keys::data_part(b, keys::data::VACUUM),
    ])?;
    expected.writes(&scene.rows_of(removal))?;
    expected.writes(&trims)?;
    expected.writes(&[
        keys::hold(removal),
        keys::request(removal),
        removal_expiry,
        keys::bucket_record(b),
        keys::fence(b.0),
        keys::grave(removal),
        keys::expiry(grave.until, keys::due::GRAVE, &removal.0.to_be_bytes()),
        keys::reclaim(removal),
    ])?;
    let (begin, end) = keys::range(&keys::busy_prefix(b.0));
    expected.clears(&begin, &end)?;
    let (begin, end) = keys::range(&keys::index::queued_tasks_of(b));
    expected.clears(&begin, &end)?;
    let (begin, end) = keys::range(&keys::feed::replica_prefix(b));
    expected.clears(&begin, &end)?;
    expected.writes(&scene.operation("o").await?)?;
    expected.transition()?;
    sets.check(&expected)?;
    scene.cluster.finish().await
}

async fn insert() -> Claim {
    let scene = Scene::new().await?;
    let held = scene.cluster.hold("A", "insert");
    let insert = scene.cluster.ask("A", "BUCKET.INSERT b DOCS {\"number\":2}");
    let sets = landed(held).await?;
    let Reply::Array(ids) = insert.answer().await? else { return Err("no ids".to_owned()) };
    let oid = bson::oid::ObjectId::parse_str(line(&ids[0])).map_err(fail)?;
    let (n, b, shard) = (scene.namespace, scene.bucket, scene.shard);
    let slot = keys::attempt(scene.cluster.node("A").cluster().incarnation(), 0);
    let expected = scene.expected();
    expected.reads(&[keys::user("default")])?;
    expected.reads(&[slot.clone(), keys::fence(n.0), keys::fence(b.0)])?;
    expected.writes(&[
        slot,
        keys::document(b, &oid.bytes()),
        keys::count(b, shard, keys::counted::DOCUMENTS),
        keys::count(b, shard, keys::counted::BYTES),
        keys::feed::head(b, shard),
    ])?;
    expected.stamped(&[keys::change_now(b, shard, 0)])?;
    sets.check(&expected)?;
    scene.cluster.finish().await
}

async fn trim() -> Claim {
    let scene = Scene::new().await?;
    let held = scene.cluster.hold("A", "trim");
    let (n, b, shard) = (scene.namespace, scene.bucket, scene.shard);
    let prefix = keys::change_prefix(b, shard);
    let changes = scene.cluster.rows(&prefix).await?;
    claim!(changes.len() == 1, "{} changes", changes.len());
    let waited = tokio::time::Instant::now();
    let sets = landed(held).await?;
    claim!(milliseconds(waited.elapsed()) >= 7_000, "trimmed before the retention was over");
    let expected = scene.expected();
    // Whoever registers meanwhile makes it look again; an ACK does not.
    let registered = keys::feed::registered(b);
    expected.reads(&[keys::shard(shard), keys::fence(n.0), keys::fence(b.0), registered])?;
    expected.writes(&[keys::feed::floor(b)])?;
    expected.clears(&RangeRead::prefix(prefix).begin, &keys::next(&changes[0].0))?;
    sets.check(&expected)?;
    scene.cluster.finish().await
}

async fn swap() -> Claim {
    let scene = Scene::new().await?;
    scene.cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    crate::copies::caught_up(&scene.cluster, "c").await?;
    let held = scene.cluster.hold("A", "swap");
    let swap = scene.cluster.ask("A", "BUCKET.SWAP b c OPID o");
    held.arrived().await;
    let (n, b, c) = (scene.namespace, scene.bucket, scene.cluster.id("A", "c").await?);
    let followed = crate::copies::progress(&scene.cluster, c).await?.positions[0];
    let sets = landed(held).await?;
    swap.expect("OK").await?;
    let of = scene.cluster.get(&keys::removal_of(b.0)).await?.ok_or("no removal")?;
    let removal = RemovalId(u64::from_be_bytes(of[..].try_into().map_err(fail)?));
    let reader = keys::feed::replica(b, &lethe::document::carry::reader_name(c));
    let expected = scene.expected();
    expected.reads(&[keys::user("default")])?;
    expected.reads(&[
        keys::operation("default", "o"),
        keys::namespace_name(NamespaceId::ROOT, NAMESPACE),
        keys::fence(n.0),
        keys::bucket_name(n, NAME),
        keys::bucket_record(b),
        keys::fence(b.0),
        keys::bucket_name(n, "c"),
        keys::bucket_record(c),
        keys::fence(c.0),
        keys::copy::progress(c),
        keys::feed::floor(b),
        reader.clone(),
    ])?;
    // Everything that could come into the log behind what the copy has followed, and all who read it.
    let log = keys::feed::change_behind(b, scene.shard, followed);
    let end = keys::after(&keys::change_prefix(b, scene.shard));
    expected.0.add_read_conflict_range(&log, &end).map_err(fail)?;
    let waiting = keys::data_part(b, keys::data::WAITING);
    expected.reads_prefixes(&[keys::feed::replica_prefix(b), waiting])?;
    let trims = scene.cluster.rows(&keys::data_part(c, keys::data::TRIM)).await?;
    let trim = trims.first().ok_or("no trim is scheduled")?;
    let (_, at) = keys::parse_trim(&trim.0).map_err(fail)?;
    expected.writes(&scene.rows_of(removal))?;
    expected.writes(&[
        keys::bucket_name(n, NAME),
        keys::bucket_record(b),
        keys::fence(b.0),
        keys::removal_of(b.0),
        scene.removal_expiry(removal).await?,
        keys::bucket_name(n, "c"),
        keys::bucket_record(c),
        keys::fence(c.0),
        keys::copy::queued(b, c),
        reader,
        keys::feed::registered(b),
        keys::feed::registered(c),
        keys::feed::floor(c),
        keys::trim(c, at),
        keys::expiry(at, keys::due::TRIM, &c.0.to_be_bytes()),
    ])?;
    let (begin, end) = keys::range(&keys::copy::progress(c));
    expected.clears(&begin, &end)?;
    expected.writes(&scene.operation("o").await?)?;
    expected.stamped(&[
        keys::removed_by_time_now(ObjectKind::Bucket, n),
        keys::removed_by_time_now(ObjectKind::Bucket, NamespaceId::ROOT),
    ])?;
    expected.transition()?;
    expected.stamped(&[keys::journal_now(1), keys::audit_now(1)])?;
    expected.0.touch_metadata_version().map_err(fail)?;
    sets.check(&expected)?;
    scene.cluster.finish().await
}

/// A part of a copy's work rests on the fences of both, its progress, its shard and its place among the readers.
async fn copying() -> Claim {
    let scene = Scene::new().await?;
    scene.cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    crate::copies::caught_up(&scene.cluster, "c").await?;
    let (n, b, c) = (scene.namespace, scene.bucket, scene.cluster.id("A", "c").await?);
    let held = scene.cluster.hold("A", "copy");
    let reply = scene.cluster.run("A", "BUCKET.INSERT b DOCS {\"number\":2}").await?;
    let Reply::Array(ids) = &reply else { return Err("no ids".to_owned()) };
    let oid = bson::oid::ObjectId::parse_str(line(&ids[0])).map_err(fail)?;
    let sets = landed(held).await?;
    let reader = keys::feed::replica(b, &lethe::document::carry::reader_name(c));
    let own = u16::try_from(c.0 % 4).map_err(fail)?;
    let expected = scene.expected();
    expected.reads(&[
        keys::shard(own),
        keys::fence(n.0),
        keys::fence(b.0),
        keys::fence(c.0),
        keys::copy::progress(c),
        reader.clone(),
    ])?;
    // What begins to wait for the copy at this moment is not forgotten.
    expected.reads_prefixes(&[keys::data_part(b, keys::data::WAITING)])?;
    let rows = scene.cluster.rows(&keys::change_prefix(c, scene.shard)).await?;
    expected.writes(&[
        keys::copy::progress(c),
        reader,
        keys::document(c, &oid.bytes()),
        rows.last().ok_or("no change")?.0.to_vec(),
        keys::feed::head(c, scene.shard),
        keys::count(c, scene.shard, keys::counted::DOCUMENTS),
        keys::count(c, scene.shard, keys::counted::BYTES),
    ])?;
    sets.check(&expected)?;
    scene.cluster.finish().await
}

/// What is forgotten when its time is over is forgotten on behalf of a shard.
async fn forgetting() -> Claim {
    const DAY: i64 = 86_400_000;
    let scene = Scene::new().await?;
    let cluster = &scene.cluster;
    let later = async |days: i64| {
        cluster.clock("A").jump(days * DAY);
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        cluster.run("A", "CLUSTER.CLOCK CONFIRM").await.map(drop)
    };
    // Those of the start go first.
    later(2).await?;
    cluster.expect("A", "BUCKET.CREATE c OPID o", "OK").await?;
    let operation = scene.operation("o").await?;
    let held = cluster.hold("A", "forget-operation");
    later(2).await?;
    let sets = landed(held).await?;
    let expected = scene.expected();
    expected.reads(&[keys::shard(0), operation[0].clone()])?;
    expected.clears(&operation[0], &lethe::store::prefix_end(&operation[0]))?;
    expected.writes(&operation[1..])?;
    sets.check(&expected)?;

    let removed = cluster.remove("A", "c").await?;
    cluster.expect("A", "BUCKET.PURGE c", "OK").await?;
    let (removal, object) = (removed.removal, removed.bucket.0);
    let grave = cluster.get(&keys::grave(removal)).await?.ok_or("no grave")?;
    let grave: lethe::codec::record::GraveRecord = record::decode("grave", &grave).map_err(fail)?;
    let held = cluster.hold("A", "forget-grave");
    later(91).await?;
    let sets = landed(held).await?;
    let expected = scene.expected();
    let shard = u16::try_from(removal.0 % 4).map_err(fail)?;
    expected.reads(&[keys::shard(shard), keys::grave(removal)])?;
    let due = keys::expiry(grave.until, keys::due::GRAVE, &removal.0.to_be_bytes());
    expected.writes(&[keys::grave(removal), keys::removal_of(object), due])?;
    // Not the usual end: that counts graves, and this one is forgotten.
    sets.check(&expected)
}

on_each_store! {
    a_removal_reads_names_and_writes_no_key_of_the_data: patiently(removal());
    a_restore_reads_the_removal_the_name_and_the_fences_above: patiently(restore());
    the_flip_reads_all_that_it_rests_on: patiently(flip());
    an_insert_reads_its_slot_and_the_fences: patiently(insert());
    a_trim_reads_its_shard_and_the_fences: patiently(trim());
    a_swap_reads_the_log_behind_the_copy: patiently(swap());
    a_part_of_a_copy_reads_the_fences_of_both: patiently(copying());
    whoever_forgets_reads_the_shard_it_does_so_for: patiently(forgetting());
}
