//! The exact conflict sets of each commit: what it rests on, what rests on it.

use std::collections::BTreeSet;

use super::*;
use crate::cluster::acknowledge::{self, Acknowledgment};
use crate::cluster::membership::{self, Silent};
use crate::cluster::rows::Identity;
use crate::cluster::work::Scope;

type Ranges = Vec<(Vec<u8>, Vec<u8>)>;

/// Keys and prefixes as sorted ranges, joined where they touch.
fn ranges(keys: &[Vec<u8>], prefixes: &[Vec<u8>]) -> Ranges {
    let mut all: Ranges = keys.iter().map(|key| (key.clone(), keys::next(key))).collect();
    all.extend(prefixes.iter().map(|prefix| keys::range(prefix)));
    all.sort();
    let mut joined: Ranges = Vec::new();
    for (begin, end) in all {
        match joined.last_mut() {
            Some(last) if begin <= last.1 => last.1 = end.max(last.1.clone()),
            _ => joined.push((begin, end)),
        }
    }
    joined
}

fn kind(kind: u16) -> Vec<u8> {
    keys::kind_prefix(kind)
}

fn check(txn: &Transaction, reads: (&[Vec<u8>], &[Vec<u8>]), writes: (&[Vec<u8>], &[Vec<u8>])) {
    assert_eq!(txn.read_conflicts(), ranges(reads.0, reads.1), "reads");
    assert_eq!(txn.write_conflicts(), ranges(writes.0, writes.1), "writes");
}

fn signals() -> Vec<Vec<u8>> {
    vec![keys::membership_signal(), keys::barrier_signal()]
}

/// What there is of a member, and of the two shards that are its own.
fn member_of_two(node: &str) -> Vec<Vec<u8>> {
    let mut rows = vec![keys::member(node), keys::seen(node), keys::beat(node)];
    rows.extend([keys::shard(0), keys::shard(1), keys::witness(0), keys::witness(1)]);
    rows
}

fn with(mut keys: Vec<Vec<u8>>, more: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    keys.extend(more);
    keys
}

fn identity(cluster: &Cluster, world: &Members) -> Identity {
    let row = record::encode(&world[cluster.node()]).into();
    Identity { node: cluster.node().to_owned(), incarnation: cluster.incarnation(), row }
}

#[tokio::test(start_paused = true)]
async fn the_first_join_reads_everything_it_decides_from_and_makes_the_cluster() {
    let world = World::new(2);
    let txn = world.store.begin("join");
    membership::join_in(&txn, 1, EPOCH, &world.options("a")).await.unwrap();
    let first = vec![keys::cluster(), keys::cluster_time(), keys::observer()];
    let writes = with(with(first, member_of_two("a")), signals());
    let kinds = [kind(keys::kind::MEMBER), kind(keys::kind::SHARD)];
    check(&txn, (&[keys::cluster()], &kinds), (&writes, &[]));
}

#[tokio::test(start_paused = true)]
async fn a_further_join_takes_only_shards_without_a_member() {
    let world = World::new(2);
    let a = world.join("a").await.unwrap();
    let txn = world.store.begin("join");
    membership::join_in(&txn, 77, EPOCH, &world.options("b")).await.unwrap();
    let own = vec![keys::member("b"), keys::seen("b"), keys::beat("b")];
    let kinds = [kind(keys::kind::MEMBER), kind(keys::kind::SHARD)];
    check(&txn, (&[keys::cluster()], &kinds), (&with(own, signals()), &[]));
    // Again as a: the shards of the former incarnation, under the next epoch. Since it
    // is alone it observes, and says what time it is.
    let txn = world.store.begin("join");
    let joined = membership::join_in(&txn, 78, EPOCH, &world.options("a")).await.unwrap();
    let own = with(vec![keys::observer()], member_of_two("a"));
    let reads = (&[keys::cluster(), keys::cluster_time()][..], &kinds[..]);
    let former = [keys::attempt_prefix(a.incarnation())];
    check(&txn, reads, (&with(own, signals()), &former));
    assert_eq!(joined.shards, BTreeMap::from([(0, 2), (1, 2)]));
}

#[tokio::test(start_paused = true)]
async fn leaving_reads_members_and_shards_and_gives_the_shards_away() {
    let world = World::new(1);
    let a = world.join("a").await.unwrap();
    world.join("b").await.unwrap();
    let txn = world.store.begin("leave");
    let identity = identity(&a, &world.members().await);
    assert!(membership::depart_in(&txn, &identity).await.unwrap());
    let writes =
        vec![keys::observer(), keys::member("a"), keys::seen("a"), keys::beat("a"), keys::shard(0)];
    check(
        &txn,
        (&[keys::observer()], &[kind(keys::kind::MEMBER), kind(keys::kind::SHARD)]),
        (&with(writes, signals()), &[keys::attempt_prefix(a.incarnation())]),
    );
}

#[tokio::test(start_paused = true)]
async fn an_eviction_reads_the_counter_the_members_and_the_shards() {
    let world = World::new(2);
    let a = world.join("a").await.unwrap();
    let b = world.join("b").await.unwrap();
    let observer = identity(&b, &world.members().await);
    let silent = Silent { node: "a".to_owned(), incarnation: a.incarnation(), counter: 0 };
    let txn = world.store.begin("evict");
    let evicted = membership::evict_in(&txn, &observer, &silent, Mutations::default()).await;
    assert!(evicted.unwrap());
    let writes = member_of_two("a");
    let reads = [kind(keys::kind::MEMBER), kind(keys::kind::SHARD)];
    let attempts = [keys::attempt_prefix(a.incarnation())];
    check(&txn, (&[keys::beat("a")], &reads), (&with(writes.clone(), signals()), &attempts));
    // The mistake is exactly that the counter is not among what it reads.
    let txn = world.store.begin("evict");
    let mistake = Mutations::of(&[Mutation::EvictWithoutCounter]);
    assert!(membership::evict_in(&txn, &observer, &silent, mistake).await.unwrap());
    check(&txn, (&[], &reads), (&with(writes, signals()), &attempts));
}

#[tokio::test(start_paused = true)]
async fn a_handover_reads_members_and_shards_and_writes_the_shard_only() {
    let world = World::new(2);
    let a = world.join("a").await.unwrap();
    world.join("b").await.unwrap();
    let txn = world.store.begin("hand-over");
    let identity = identity(&a, &world.members().await);
    let given = membership::hand_over_in(&txn, &identity, &BTreeMap::from([(1, 1)])).await;
    assert_eq!(given.unwrap(), [(1, "b".to_owned())]);
    check(
        &txn,
        (&[], &[kind(keys::kind::MEMBER), kind(keys::kind::SHARD)]),
        (&[keys::shard(1), keys::membership_signal()], &[]),
    );
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgment_reads_and_writes_seen_and_reads_member_and_shards() {
    let world = World::new(3);
    let a = world.join("a").await.unwrap();
    let identity = identity(&a, &world.members().await);
    let (owned, objects) = (BTreeMap::from([(0, 1), (2, 1)]), BTreeSet::from([BUCKET.0]));
    let acknowledgment = Acknowledgment {
        identity: &identity,
        applied: Versionstamp::new(9, 0),
        shards: &owned,
        objects: &objects,
        touched: &Mutex::default(),
        mutations: Mutations::default(),
    };
    let txn = world.store.begin("acknowledge");
    acknowledge::acknowledge(&txn, a.work(), &acknowledgment).await.unwrap();
    let reads = vec![keys::seen("a"), keys::member("a"), keys::shard(0), keys::shard(2)];
    let writes = vec![keys::seen("a"), keys::witness(0), keys::witness(2), keys::barrier_signal()];
    check(&txn, (&reads, &[]), (&writes, &[]));

    // With open work: the fence, the ancestors and the shard of the work as well.
    let (inner, outer) = (NamespaceId(601), NamespaceId(602));
    world.create(BUCKET, inner, outer).await;
    let _shard = a.work().enter(BUCKET, Scope::Shard(1), "build");
    let _member = a.work().enter(BUCKET, Scope::Member, "scan");
    let txn = world.store.begin("acknowledge");
    acknowledge::acknowledge(&txn, a.work(), &acknowledgment).await.unwrap();
    let more = vec![
        keys::fence(BUCKET.0),
        keys::bucket_record(BUCKET),
        keys::namespace_record(inner),
        keys::namespace_record(outer),
        keys::shard(1),
    ];
    let rows = vec![keys::busy(BUCKET.0, "a", 1), keys::busy(BUCKET.0, "a", -1)];
    check(&txn, (&with(reads.clone(), more.clone()), &[]), (&with(writes.clone(), rows), &[]));

    // Once a row may be there it is cleared, or written anew, by range.
    let txn = world.store.begin("acknowledge");
    acknowledge::acknowledge(&txn, a.work(), &acknowledgment).await.unwrap();
    let mine = [keys::busy_of_node_prefix(BUCKET.0, "a")];
    check(&txn, (&with(reads, more), &[]), (&writes, &mine));

    // The mistake is exactly that member and shards are not among what it reads.
    let txn = world.store.begin("acknowledge");
    let mistaken = Acknowledgment {
        objects: &BTreeSet::new(),
        mutations: Mutations::of(&[Mutation::FollowerIgnoresMembership]),
        ..acknowledgment
    };
    acknowledge::acknowledge(&txn, a.work(), &mistaken).await.unwrap();
    check(&txn, (&[keys::seen("a")], &[]), (&writes, &[]));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_conflicts_with_nothing_but_the_own_member_row() {
    let world = World::new(1);
    let a = world.join("a").await.unwrap();
    let identity = identity(&a, &world.members().await);
    let txn = world.store.begin("heartbeat");
    acknowledge::beat(&txn, &identity, 1, EPOCH, None).await.unwrap();
    check(&txn, (&[keys::member("a")], &[]), (&[keys::beat("a")], &[]));
    let txn = world.store.begin("heartbeat");
    let seen = Some(Versionstamp::new(9, 0));
    acknowledge::beat(&txn, &identity, 1, EPOCH, seen).await.unwrap();
    check(
        &txn,
        (&[keys::member("a"), keys::seen("a")], &[]),
        (&[keys::beat("a"), keys::seen("a")], &[]),
    );
}

#[tokio::test(start_paused = true)]
async fn the_barrier_reads_all_members_all_shards_and_the_busy_range_of_its_object() {
    let world = World::new(2);
    world.join("a").await.unwrap();
    let txn = world.store.begin("flip");
    barrier::evaluate(&txn, 5, Versionstamp::MIN, Mutations::default()).await.unwrap();
    let reads = [kind(keys::kind::MEMBER), kind(keys::kind::SHARD), keys::busy_prefix(5)];
    check(&txn, (&[], &reads), (&[], &[]));
}

#[tokio::test(start_paused = true)]
async fn work_rests_on_its_shard_or_on_its_member() {
    let world = World::new(2);
    let a = world.join("a").await.unwrap();
    let txn = world.store.begin("work");
    a.check_shard(&txn, 1, 1).await.unwrap();
    check(&txn, (&[keys::shard(1)], &[]), (&[], &[]));
    assert!(a.check_shard(&txn, 1, 2).await.is_err());
    let txn = world.store.begin("work");
    a.check_member(&txn).await.unwrap();
    check(&txn, (&[keys::member("a")], &[]), (&[], &[]));
    let again = world.join("a").await.unwrap();
    assert!(a.check_member(&world.store.begin("work")).await.is_err());
    assert!(a.check_shard(&world.store.begin("work"), 1, 1).await.is_err());
    again.check_shard(&world.store.begin("work"), 1, 2).await.unwrap();
}
