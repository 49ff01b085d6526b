//! Nodes, work and removals at random, over a store that loses and delays
//! commits. A purge here is what the flip is to this layer: the barrier, and
//! the busy range and the fence gone in the same commit.
//!
//! What must hold: when a purge commits, no member has opened work on the
//! object; every purge comes to an end; and nothing is left of it.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::cluster::membership::clear_prefix;
use crate::cluster::work::Scope;
use crate::store::{Chaos, Resolve};

const BUCKETS: u64 = 4;
const NODES: [&str; 3] = ["a", "b", "c"];

/// Open work: the bucket and the incarnation that does it.
type Open = Arc<Mutex<Vec<(BucketId, u64)>>>;

fn bucket(number: u64) -> BucketId {
    BucketId(1_000_000 + number)
}

struct Opened {
    open: Open,
    entry: (BucketId, u64),
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap();
        let at = open.iter().position(|entry| *entry == self.entry).unwrap();
        open.swap_remove(at);
    }
}

fn pause(random: &mut StdRng, most: u64) -> Duration {
    Duration::from_millis(random.random_range(0..most))
}

/// Works on random buckets for ever, by the rules.
async fn worker(store: Store, cluster: Cluster, open: Open, mut random: StdRng) {
    loop {
        sleep(pause(&mut random, 1_000)).await;
        let bucket = bucket(random.random_range(0..BUCKETS));
        let owned = cluster.owned_shards().borrow().clone();
        let shard = owned.keys().next().filter(|_| random.random::<bool>());
        let scope = shard.map_or(Scope::Member, |shard| Scope::Shard(*shard));
        let work = cluster.work().enter(bucket, scope, "work");
        sleep(pause(&mut random, 50)).await;
        let txn = store.begin("check");
        let Ok(row) = txn.get(&keys::bucket_record(bucket), Read::Snapshot).await else { continue };
        let record = row.map(|row| record::decode::<BucketRecord>("bucket", &row).unwrap());
        if record.is_none_or(|record| record.state != State::Active) {
            continue;
        }
        sleep(pause(&mut random, 50)).await;
        if work.open().is_err() {
            continue;
        }
        let entry = (bucket, cluster.incarnation());
        open.lock().unwrap().push(entry);
        let opened = Opened { open: Arc::clone(&open), entry };
        let length = pause(&mut random, 60_000);
        drop(tokio::time::timeout(length, work.stopped()).await);
        // Most stop soon; some take longer than the grace, a few longer than the limit.
        let linger = match random.random_range(0..20) {
            0 => 80_000,
            1..8 => 6_000,
            _ => 100,
        };
        sleep(pause(&mut random, linger)).await;
        drop(opened);
        drop(work);
    }
}

/// A node that starts again whenever its incarnation is over, and is killed
/// and paused now and then.
async fn node(world: Arc<World>, name: &'static str, open: Open, mut random: StdRng) {
    loop {
        let Ok(cluster) = world.join(name).await else { continue };
        let mut parts = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let random = StdRng::seed_from_u64(random.random());
            let store = world.store.as_client(name);
            parts.spawn(worker(store, cluster.clone(), Arc::clone(&open), random));
        }
        let running = cluster.clone();
        let mut run = tokio::spawn(async move { running.run(Vec::new()).await });
        let trouble = async {
            sleep(pause(&mut random, 120_000)).await;
            if random.random::<bool>() {
                cluster.pause();
                sleep(pause(&mut random, 20_000)).await;
                cluster.resume();
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            ended = &mut run => drop(ended),
            () = trouble => run.abort(),
        }
        // All work of the incarnation is gone before the next one begins.
        parts.shutdown().await;
        sleep(pause(&mut random, 5_000)).await;
    }
}

async fn set_removed(world: &World, bucket: BucketId) -> Versionstamp {
    let removed = |txn: Transaction| async move {
        let key = keys::bucket_record(bucket);
        let row = txn.get(&key, Read::Conflict).await?.unwrap();
        let mut record: BucketRecord = record::decode("bucket", &row).unwrap();
        record.state = State::Removed;
        txn.set(&key, &record::encode(&record))?;
        let event = Event { kind: EventKind::Removed, object: bucket.0, removal: None };
        journal::append(&txn, 0, &event)?;
        // Read back: the version when the commit's result was unknown.
        txn.set_versionstamped_value(&keys::fence(bucket.0), &Versionstamp::placeholder())?;
        Ok::<_, super::super::Error>(())
    };
    while world.store.run("remove", Resolve::Idempotent, removed).await.is_err() {}
    loop {
        let fence = world.store.begin("fence").get(&keys::fence(bucket.0), Read::Snapshot).await;
        if let Ok(Some(fence)) = fence {
            return Versionstamp::decode(&fence).unwrap();
        }
    }
}

/// Purges once the barrier holds; gives the members at that moment.
async fn purge(world: &World, bucket: BucketId, version: Versionstamp) -> Option<BTreeSet<u64>> {
    let mutations = world.mutations;
    let flip = |txn: Transaction| async move {
        let members = rows::members(&txn, Read::Conflict).await?;
        let state = barrier::evaluate(&txn, bucket.0, version, mutations).await?;
        if !state.satisfied() {
            return Ok(None);
        }
        clear_prefix(&txn, &keys::busy_prefix(bucket.0))?;
        txn.clear(&keys::fence(bucket.0))?;
        let live = members.values().map(|member| member.incarnation).collect();
        Ok::<_, super::super::Error>(Some(live))
    };
    world.store.run("flip", Resolve::Idempotent, flip).await.ok().and_then(|done| done.value)
}

async fn remove_and_purge(
    world: &World,
    bucket: BucketId,
    open: &Open,
    mut random: StdRng,
) -> Result<(), String> {
    let version = set_removed(world, bucket).await;
    let asked = Instant::now();
    let live = loop {
        if let Some(live) = purge(world, bucket, version).await {
            break live;
        }
        if asked.elapsed() > Duration::from_secs(400) {
            let state = world.barrier(bucket.0, version).await;
            return Err(format!("purge waits for ever: {}", state.missing_text()));
        }
        sleep(pause(&mut random, 200)).await;
    };
    let open = open.lock().unwrap();
    if open.iter().any(|(busy, incarnation)| *busy == bucket && live.contains(incarnation)) {
        return Err(format!("{bucket} was purged while a member worked on it"));
    }
    Ok(())
}

/// One run; gives what went wrong.
async fn run(seed: u64, mutations: Mutations) -> Result<(), String> {
    let world = Arc::new(World { mutations, ..World::new(2) });
    for number in 0..BUCKETS {
        world.create(bucket(number), NamespaceId(601), NamespaceId::ROOT).await;
    }
    world.faults().chaos(Some(Chaos::with_seed(seed)));
    let mut random = StdRng::seed_from_u64(seed);
    let open = Open::default();
    let mut nodes = tokio::task::JoinSet::new();
    for name in NODES {
        let random = StdRng::seed_from_u64(random.random());
        nodes.spawn(node(Arc::clone(&world), name, Arc::clone(&open), random));
    }
    // In two bursts, so that a removal comes while another is being drained.
    let mut purges = tokio::task::JoinSet::new();
    let bursts = [pause(&mut random, 30_000), pause(&mut random, 90_000)];
    for (number, burst) in (0..BUCKETS).zip(bursts.into_iter().cycle()) {
        let begin = burst + pause(&mut random, 2_500);
        let random = StdRng::seed_from_u64(random.random());
        let (world, open) = (Arc::clone(&world), Arc::clone(&open));
        purges.spawn(async move {
            sleep(begin).await;
            remove_and_purge(&world, bucket(number), &open, random).await
        });
    }
    for result in purges.join_all().await {
        result?;
    }
    world.faults().chaos(None);
    sleep(Duration::from_secs(60)).await;
    nodes.shutdown().await;
    for number in 0..BUCKETS {
        if !world.busy(bucket(number).0).await.is_empty() {
            return Err("a busy row of a purged bucket is left".to_owned());
        }
    }
    if !world.all_owned().await {
        return Err("a shard has no member".to_owned());
    }
    Ok(())
}

/// Each run has its own paused clock.
fn check(seed: u64, mutations: Mutations) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(run(seed, mutations))
}

#[test]
fn no_purge_commits_while_a_member_works_on_its_object() {
    // More of them: LETHE_SEEDS=1000 cargo nextest run no_purge_commits
    let seeds = std::env::var("LETHE_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        assert_eq!(check(seed, Mutations::default()), Ok(()), "seed {seed}");
    }
}

/// The seed with which a mistake is found.
fn found(mutation: Mutation) -> u64 {
    let found = (0..300).find(|seed| check(*seed, Mutations::of(&[mutation])).is_err());
    found.unwrap_or_else(|| panic!("{mutation:?} was not found"))
}

#[test]
fn a_witness_before_the_drain_is_found() {
    found(Mutation::WitnessBeforeDrain);
}

#[test]
fn ignored_busy_rows_are_found() {
    found(Mutation::BusyRowsIgnored);
}

#[test]
fn seen_set_to_the_journals_head_is_found() {
    found(Mutation::SeenIsJournalHead);
}

#[test]
fn ignored_members_without_shards_are_found() {
    found(Mutation::MembersWithoutShardsIgnored);
}
