//! Everything at once, by chance: commands on three nodes, work that stops late
//! or never, nodes that crash, stand still, are cut off and come back, commits
//! that are refused, lost and late. What must always hold is looked at after
//! every step, what must hold in the end at the end.

use std::ops::Range;
use std::time::Duration;

use lethe::cluster::mutation::{Mutation, Mutations};
use lethe::cluster::work::{Scope, Work};
use lethe::codec::record::{self, GraveRecord, MemberRecord, RemovalRecord};
use lethe::codec::{BucketId, RemovalId, keys};
use lethe::resp::Reply;
use lethe::store::{Chaos, RangeRead, Read, Transaction};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::cluster::{Asked, Claim, Cluster, NAMESPACE, claim, fail, line, patiently};

const SEEDS: u64 = 10;
/// A mistake is found within so many, usually within ten.
const FOUND_WITHIN: u64 = 200;
const STEPS: usize = 150;
const NODES: [&str; 3] = ["A", "B", "C"];
const NAMES: [&str; 2] = ["x", "y"];
const COMMANDS: [&str; 12] = [
    "BUCKET.CREATE",
    "BUCKET.CREATE",
    "BUCKET.REMOVE",
    "BUCKET.REMOVE",
    "BUCKET.REMOVE",
    "BUCKET.REMOVE RETAIN",
    "BUCKET.RESTORE",
    "BUCKET.RESTORE",
    "BUCKET.PURGE",
    "BUCKET.PURGE",
    "BUCKET.INSERT",
    "BUCKET.INSERT",
];

/// Work that is open on a bucket that was active when it began.
struct Open {
    node: &'static str,
    incarnation: u64,
    bucket: BucketId,
    work: Work,
}

struct Simulation {
    cluster: Cluster,
    random: StdRng,
    open: Vec<Open>,
    asked: Vec<Asked>,
}

impl Simulation {
    async fn new(seed: u64, mutations: Mutations) -> Claim<Self> {
        let cluster = Cluster::with(&NODES, mutations, |_| {}).await?;
        let chaos = Chaos { delay_max: Duration::from_millis(30), ..Chaos::with_seed(seed) };
        cluster.chaos(Some(chaos));
        let random = StdRng::seed_from_u64(seed);
        Ok(Self { cluster, random, open: Vec::new(), asked: Vec::new() })
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.random_range(0..all.len())]
    }

    async fn step(&mut self) -> Claim {
        let node = self.one_of(&NODES);
        match self.random.random_range(0..20) {
            0..11 => self.command(node),
            11..14 => self.begin_work(node).await?,
            14..16 => {
                if !self.open.is_empty() {
                    let ends = self.random.random_range(0..self.open.len());
                    drop(self.open.swap_remove(ends));
                }
            }
            16 => {
                self.open.retain(|open| open.node != node);
                self.cluster.end_outage(node);
                self.cluster.restart(node).await?;
            }
            17 => self.cluster.pause(node),
            18 => self.cluster.outage(node),
            _ => {
                for node in NODES {
                    self.cluster.resume(node);
                    self.cluster.end_outage(node);
                }
            }
        }
        // Mostly close together, so that they meet.
        let longest = if self.random.random_bool(0.8) { 10 } else { 1_500 };
        let pause = self.random.random_range(0..longest);
        sleep(Duration::from_millis(pause)).await;
        self.replace_the_ended().await?;
        self.nothing_open_is_purged().await?;
        self.nothing_removed_is_written_to().await
    }

    fn command(&mut self, node: &str) {
        let (command, name) = (self.one_of(&COMMANDS), self.one_of(&NAMES));
        let words = match command {
            "BUCKET.INSERT" => format!("{command} {name} DOCS {{}}"),
            "BUCKET.REMOVE RETAIN" => format!("BUCKET.REMOVE {name} RETAIN 2s"),
            "BUCKET.RESTORE" => format!("{command} {name} LATEST"),
            "BUCKET.PURGE" => format!("{command} {name} LATEST TIMEOUT 3000"),
            _ => format!("{command} {name}"),
        };
        self.asked.push(self.cluster.ask(node, &words));
    }

    /// As a worker does: entered, then the check in a snapshot, then opened.
    async fn begin_work(&mut self, node: &'static str) -> Claim {
        let name = self.one_of(&NAMES);
        let catalog = self.cluster.node(node).lifecycle().catalog().clone();
        let member = catalog.cluster();
        let Ok((bucket, _)) = catalog.bucket(NAMESPACE, name).await else { return Ok(()) };
        let shard = member.owned_shards().borrow().keys().next().copied();
        let scope = match shard {
            Some(shard) if self.random.random_bool(0.5) => Scope::Shard(shard),
            _ => Scope::Member,
        };
        let work = member.work().enter(bucket, scope, "simulated work");
        let txn: Transaction = catalog.store().begin("work");
        let active = catalog.handles().open_id(&txn, bucket).await.is_ok();
        if active && work.open().is_ok() {
            let incarnation = member.incarnation();
            self.open.push(Open { node, incarnation, bucket, work });
        }
        Ok(())
    }

    /// An incarnation that is over is followed by another.
    async fn replace_the_ended(&mut self) -> Claim {
        for node in NODES {
            if self.cluster.is_over(node).await {
                self.open.retain(|open| open.node != node);
                self.cluster.end_outage(node);
                self.cluster.restart(node).await?;
            }
        }
        Ok(())
    }

    /// As long as a node is a member its open work keeps what it works on.
    async fn nothing_open_is_purged(&self) -> Claim {
        let txn = self.cluster.store().begin("look");
        for open in &self.open {
            let member = txn.get(&keys::member(open.node), Read::Snapshot).await.map_err(fail)?;
            let member: Option<MemberRecord> =
                member.map(|row| record::decode("member", &row)).transpose().map_err(fail)?;
            let live = member.is_some_and(|member| member.incarnation == open.incarnation);
            let record = txn.get(&keys::bucket_record(open.bucket), Read::Snapshot).await;
            claim!(
                !live || record.map_err(fail)?.is_some(),
                "{} was purged while {} had work open on it, stopped: {}",
                open.bucket,
                open.node,
                open.work.is_stopped()
            );
        }
        Ok(())
    }

    /// The change log of a removed bucket ends before the removal.
    async fn nothing_removed_is_written_to(&self) -> Claim {
        let txn = self.cluster.store().begin("look");
        let all = RangeRead::prefix(keys::kind_prefix(keys::kind::REMOVAL)).snapshot();
        for (_, value) in txn.range(all).await.map_err(fail)?.rows {
            let (removed, row) =
                record::decode_versioned::<RemovalRecord>("removal", &value).map_err(fail)?;
            let Some(bucket) = row.object.bucket() else { continue };
            let changes = RangeRead::prefix(keys::data_part(bucket, keys::data::CHANGE));
            for (key, _) in txn.range(changes.snapshot()).await.map_err(fail)?.rows {
                let (bucket, _, changed, _) = keys::parse_change(&key).map_err(fail)?;
                claim!(changed < removed, "{bucket} was written to after its removal");
            }
        }
        Ok(())
    }

    async fn end(mut self) -> Claim {
        self.cluster.chaos(None);
        for node in NODES {
            self.cluster.end_outage(node);
            self.cluster.resume(node);
        }
        self.open.clear();
        self.replace_the_ended().await?;
        sleep(Duration::from_secs(8)).await;
        self.replace_the_ended().await?;
        let mut inserted = Vec::new();
        for asked in self.asked {
            // A client of a node that crashed has no answer.
            if let Ok(Reply::Array(ids)) = asked.answer().await {
                inserted.extend(ids.iter().map(line));
            }
        }
        let purges = self.cluster.rows(&keys::kind_prefix(keys::kind::GRAVE)).await?;
        each_once(&self.cluster, &inserted, purges.is_empty()).await?;
        // Nothing that is left stands in the way of a purge.
        for (key, _) in self.cluster.rows(&keys::kind_prefix(keys::kind::REMOVAL)).await? {
            let removal = RemovalId(keys::parse_number("removal", &key).map_err(fail)?);
            let purge = format!("BUCKET.PURGE {removal} TIMEOUT 5000");
            self.cluster.expect("A", &purge, "OK").await?;
        }
        self.cluster.finish().await
    }
}

/// What was acknowledged is there, at most once; not at all only if it may have been purged.
async fn each_once(cluster: &Cluster, inserted: &[String], nothing_purged: bool) -> Claim {
    let rows = cluster.rows(&keys::kind_prefix(keys::kind::DATA)).await?;
    let documents: Vec<String> = rows
        .iter()
        .filter_map(|(key, _)| keys::parse_document(key).ok())
        .map(|(_, oid)| bson::oid::ObjectId::from_bytes(oid).to_hex())
        .collect();
    for id in inserted {
        let count = documents.iter().filter(|document| *document == id).count();
        claim!(count <= 1, "document {id} is there {count} times");
        claim!(count == 1 || !nothing_purged, "document {id} is lost, and nothing was purged");
    }
    // Of what is purged and given back no document is left, acknowledged or not.
    for (key, value) in cluster.rows(&keys::kind_prefix(keys::kind::GRAVE)).await? {
        let removal = RemovalId(keys::parse_number("grave", &key).map_err(fail)?);
        if cluster.get(&keys::reclaim(removal)).await?.is_some() {
            continue;
        }
        let grave: GraveRecord = record::decode("grave", &value).map_err(fail)?;
        let Some(bucket) = grave.object.bucket() else { continue };
        let left = cluster.documents(bucket).await?;
        claim!(left == 0, "{left} documents are left of {bucket}");
    }
    Ok(())
}

async fn simulate(seed: u64, mutations: Mutations) -> Claim {
    let run = async {
        let mut simulation = Simulation::new(seed, mutations).await?;
        for _ in 0..STEPS {
            simulation.step().await?;
        }
        simulation.end().await
    };
    patiently(run).await.map_err(|violated| format!("seed {seed}: {violated}"))
}

/// The seeds to try: `LETHE_SEEDS=1000`, or `LETHE_SEEDS=500..600`, for another search than usual.
fn seeds() -> Range<u64> {
    let wanted = std::env::var("LETHE_SEEDS").unwrap_or_default();
    let (begin, end) = wanted.split_once("..").unwrap_or(("0", &wanted));
    begin.parse().unwrap_or(0)..end.parse().unwrap_or(SEEDS)
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_nothing_is_purged_early_and_all_is_in_order_in_the_end() {
    for seed in seeds() {
        if let Err(violated) = simulate(seed, Mutations::default()).await {
            panic!("{violated}");
        }
    }
}

/// A mistake must be found, and as what it is.
async fn finds(mistake: Mutation, violated: &str) {
    for seed in 0..FOUND_WITHIN {
        if let Err(text) = simulate(seed, Mutations::of(&[mistake])).await {
            assert!(text.contains(violated), "{mistake:?} was found by '{text}'");
            return;
        }
    }
    panic!("{mistake:?} was not found");
}

#[tokio::test(start_paused = true)]
async fn the_simulation_finds_writes_that_land_after_a_removal() {
    finds(Mutation::NoFenceConflict, "was written to after its removal").await;
}

#[tokio::test(start_paused = true)]
async fn the_simulation_finds_purges_of_what_is_in_use() {
    finds(Mutation::BusyRowsIgnored, "had work open on it").await;
    finds(Mutation::WitnessBeforeDrain, "had work open on it").await;
}
