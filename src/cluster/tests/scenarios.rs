//! The scenarios of the protocol's section 4, as far as this layer goes.

use super::*;
use crate::cluster::work::{Scope, Work};
use crate::cluster::{Controls, Error, Stop};
use crate::codec::record::EventKind;
use crate::store::{Error as StoreError, Matcher};

/// The label of the follower's commits, of this client.
fn acknowledgment(client: &str) -> Matcher {
    Matcher::any().client(client).label("acknowledge")
}

/// Enters and opens work that ends only when the test drops it.
pub(super) fn stuck(node: &Node, bucket: BucketId, scope: Scope) -> Work {
    let work = node.cluster.work().enter(bucket, scope, "index build");
    work.open().unwrap();
    work
}

/// A shard that this node owns.
fn shard_of(node: &Node) -> u16 {
    *node.cluster.owned_shards().borrow().keys().next().unwrap()
}

pub(super) async fn one_bucket(shards: u16) -> World {
    let world = World::new(shards);
    world.create(BUCKET, NamespaceId(601), NamespaceId::ROOT).await;
    world
}

#[tokio::test(start_paused = true)]
async fn on_an_idle_cluster_the_barrier_holds_at_once() {
    let world = one_bucket(7).await;
    let nodes: [Node; 3] = world.start_all().await;
    let version = world.remove(BUCKET.0).await;
    assert!(!world.satisfied(BUCKET.0, version).await);
    assert!(world.purgeable(BUCKET.0, version).await < Duration::from_millis(10));
    for node in &nodes {
        assert_eq!(node.objects(), [BUCKET.0]);
    }
    assert!(world.witnesses().await.values().all(|witnessed| *witnessed >= version));
}

#[tokio::test(start_paused = true)]
async fn events_that_remove_nothing_cause_no_commit_of_their_own() {
    let world = one_bucket(2).await;
    let [a] = world.start_all().await;
    // Between two heartbeats.
    let before = world.store.stats().commits;
    world.event(BUCKET.0, EventKind::Changed).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(a.objects(), [BUCKET.0]);
    assert_eq!(world.store.stats().commits, before + 1);
    // The heartbeat carries it in time.
    let version = world.event(BUCKET.0, EventKind::Changed).await;
    sleep(Duration::from_secs(11)).await;
    assert!(world.seen("a").await.unwrap() >= version);
}

#[tokio::test(start_paused = true)]
async fn scenario_3_work_entered_before_the_removal_never_opens_after_the_follower_passed() {
    let world = one_bucket(2).await;
    let [_a, b] = world.start_all().await;
    let work = b.cluster.work().enter(BUCKET, Scope::Member, "scan");
    let version = world.remove(BUCKET.0).await;
    sleep(Duration::from_secs(3)).await;
    assert!(!world.satisfied(BUCKET.0, version).await, "it counts as not drained");
    assert!(matches!(work.open(), Err(Error::WorkStopped)));
    drop(work);
    assert!(world.purgeable(BUCKET.0, version).await < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn scenario_5_a_restart_within_a_second_refuses_what_was_sent_before() {
    for mutation in [None, Some(Mutation::WorkersIgnoreEpoch)] {
        let mut world = one_bucket(2).await;
        if let Some(mutation) = mutation {
            world.mutations = Mutations::of(&[mutation]);
        }
        let [_a, b] = world.start_all().await;
        let (shard, epoch) =
            b.cluster.owned_shards().borrow().first_key_value().map(|(s, e)| (*s, *e)).unwrap();
        let txn = world.store.as_client("b").begin("batch");
        b.cluster.check_shard(&txn, shard, epoch).await.unwrap();
        txn.set(b"below the bucket", b"x").unwrap();
        let lost = world.faults().lose(Matcher::any().label("batch"));
        assert!(matches!(txn.commit().await, Err(StoreError::CommitUnknown)));
        b.kill().await;
        let _b = world.start("b").await;
        let late = lost.land().unwrap();
        assert_eq!(late.is_err(), mutation.is_none(), "{mutation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn scenario_6_a_busy_row_names_the_work_until_it_ends() {
    let world = one_bucket(4).await;
    let [_a, b] = world.start_all().await;
    let shard = shard_of(&b);
    let work = stuck(&b, BUCKET, Scope::Shard(shard));
    let version = world.remove(BUCKET.0).await;
    sleep(Duration::from_secs(1)).await;
    assert!(world.seen("b").await.unwrap() < version, "within the grace it waits");
    assert!(work.is_stopped());
    sleep(Duration::from_secs(2)).await;
    assert!(world.seen("b").await.unwrap() >= version);
    let state = world.barrier(BUCKET.0, version).await;
    assert!(!state.satisfied());
    assert_eq!(state.lagging, []);
    let missing = state.missing_text();
    assert!(
        missing.starts_with(&format!("shard {shard} on b busy with index build since ")),
        "{missing}"
    );
    let waiting = tokio::spawn(async move {
        let took = world.purgeable(BUCKET.0, version).await;
        (world, took)
    });
    sleep(Duration::from_secs(20)).await;
    assert!(!waiting.is_finished());
    drop(work);
    let (world, took) = waiting.await.unwrap();
    assert!(took < Duration::from_millis(20_100), "{took:?}");
    assert_eq!(world.busy(BUCKET.0).await, []);
}

#[tokio::test(start_paused = true)]
async fn scenario_7_what_never_stops_ends_its_incarnation_after_the_drain_limit() {
    for member_scope in [false, true] {
        let world = one_bucket(4).await;
        let [_a, b] = world.start_all().await;
        let scope = if member_scope { Scope::Member } else { Scope::Shard(shard_of(&b)) };
        let work = stuck(&b, BUCKET, scope);
        let version = world.remove(BUCKET.0).await;
        sleep(Duration::from_secs(59)).await;
        assert!(world.members().await.contains_key("b"));
        assert!(!world.satisfied(BUCKET.0, version).await);
        assert!(world.purgeable(BUCKET.0, version).await < Duration::from_secs(2));
        assert!(!world.members().await.contains_key("b"));
        assert!(world.all_owned().await);
        let Ended::GaveUp(stuck) = b.ended().await else { panic!("it gave up") };
        assert_eq!(stuck, [format!("index build on {BUCKET} did not stop")]);
        drop(work);
        let _b = world.start("b").await;
        settle().await;
        assert!(world.satisfied(BUCKET.0, version).await);
    }
}

#[tokio::test(start_paused = true)]
async fn scenario_8_a_late_clear_does_not_erase_the_busy_row_of_a_later_removal() {
    let world = one_bucket(2).await;
    let [_a, b] = world.start_all().await;
    let first = stuck(&b, BUCKET, Scope::Member);
    world.remove(BUCKET.0).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.busy(BUCKET.0).await.len(), 1);
    // The clear is reported as unknown, and so are its retries until it is late.
    let clear = world.faults().lose(acknowledgment("b"));
    drop(first);
    clear.arrived().await;
    settle().await;
    world.event(BUCKET.0, EventKind::Restored).await;
    let second = stuck(&b, BUCKET, Scope::Member);
    let again = world.remove(BUCKET.0).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.busy(BUCKET.0).await.len(), 1);
    assert!(matches!(clear.land(), Some(Err(StoreError::Conflict))));
    assert_eq!(world.busy(BUCKET.0).await.len(), 1);
    assert!(!world.satisfied(BUCKET.0, again).await);
    drop(second);
    world.purgeable(BUCKET.0, again).await;
}

#[tokio::test(start_paused = true)]
async fn scenario_9_a_late_busy_row_is_not_revived() {
    let world = one_bucket(2).await;
    let [_a, b] = world.start_all().await;
    let work = stuck(&b, BUCKET, Scope::Member);
    let lost = world.faults().lose(acknowledgment("b"));
    let version = world.remove(BUCKET.0).await;
    lost.arrived().await;
    drop(work);
    settle().await;
    assert!(matches!(lost.land(), Some(Err(StoreError::Conflict))));
    assert_eq!(world.busy(BUCKET.0).await, []);
    assert!(world.satisfied(BUCKET.0, version).await);
}

#[tokio::test(start_paused = true)]
async fn scenario_9_a_busy_row_that_landed_unknown_is_cleared_by_the_retry() {
    let world = one_bucket(2).await;
    let [_a, b] = world.start_all().await;
    let work = stuck(&b, BUCKET, Scope::Member);
    // Held until the work has ended; then it lands, though its caller is told nothing.
    let lost = world.faults().lose(acknowledgment("b"));
    let retry = world.faults().lose(acknowledgment("b"));
    let version = world.remove(BUCKET.0).await;
    lost.arrived().await;
    assert!(lost.land().unwrap().is_ok());
    assert_eq!(world.busy(BUCKET.0).await.len(), 1);
    drop(work);
    retry.arrived().await;
    drop(retry);
    world.purgeable(BUCKET.0, version).await;
    assert_eq!(world.busy(BUCKET.0).await, []);
}

#[tokio::test(start_paused = true)]
async fn scenario_10_a_late_seen_never_lowers_it() {
    let world = one_bucket(2).await;
    let [_a, b] = world.start_all().await;
    let lost = world.faults().lose(acknowledgment("b"));
    let second = world.remove(BUCKET.0).await;
    lost.arrived().await;
    settle().await;
    let third = world.remove(BUCKET.0).await;
    settle().await;
    assert_eq!(world.seen("b").await, Some(third));
    assert!(lost.land().unwrap().is_err());
    assert_eq!(world.seen("b").await, Some(third));
    assert!(third > second && world.satisfied(BUCKET.0, third).await);
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn scenario_11_the_busy_row_stays_until_the_last_work_ends() {
    let world = one_bucket(2).await;
    let [_a, b] = world.start_all().await;
    let scope = Scope::Shard(shard_of(&b));
    let (one, two) = (stuck(&b, BUCKET, scope), stuck(&b, BUCKET, scope));
    let version = world.remove(BUCKET.0).await;
    sleep(Duration::from_secs(3)).await;
    drop(one);
    settle().await;
    assert_eq!(world.busy(BUCKET.0).await[0].2, ["index build"]);
    assert!(!world.satisfied(BUCKET.0, version).await);
    drop(two);
    settle().await;
    assert!(world.satisfied(BUCKET.0, version).await);
}

#[tokio::test(start_paused = true)]
async fn scenario_12_a_paused_member_delays_a_purge_by_its_lease_and_is_refused_on_waking() {
    // Below the five seconds after which the store refuses the held commit for its age alone.
    let mut world = one_bucket(4).await;
    world.silent_after = Duration::from_secs(2);
    let [_a, b] = world.start_all().await;
    let (shard, epoch) =
        b.cluster.owned_shards().borrow().first_key_value().map(|(s, e)| (*s, *e)).unwrap();
    let held = world.faults().hold(acknowledgment("b"));
    let version = world.remove(BUCKET.0).await;
    held.arrived().await;
    let took = world.purgeable(BUCKET.0, version).await;
    assert!((2_000..4_500).contains(&took.as_millis()), "{took:?}");
    assert!(world.all_owned().await);
    // Wake it.
    let txn = world.store.begin("woken");
    assert!(b.cluster.check_shard(&txn, shard, epoch).await.is_err());
    assert!(b.cluster.check_member(&txn).await.is_err());
    assert!(matches!(held.release(), Some(Err(StoreError::Conflict))));
    assert_eq!(b.ended().await, Ended::Evicted);
    assert_eq!(world.seen("b").await, None);
    let b = world.start("b").await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(b.cluster.owned_shards().borrow().len(), 2);
    assert!(world.satisfied(BUCKET.0, version).await);
}

#[tokio::test(start_paused = true)]
async fn scenario_12_who_was_evicted_before_its_acknowledgment_began_does_not_make_it() {
    for mutation in [None, Some(Mutation::FollowerIgnoresMembership)] {
        let mut world = one_bucket(4).await;
        if let Some(mutation) = mutation {
            world.mutations = Mutations::of(&[mutation]);
        }
        let [_a, b] = world.start_all().await;
        let work = stuck(&b, BUCKET, Scope::Member);
        let version = world.remove(BUCKET.0).await;
        // It waits for the work; then it stands still until it is out of the cluster.
        sleep(Duration::from_secs(1)).await;
        b.cluster.pause();
        sleep(Duration::from_secs(14)).await;
        assert!(world.satisfied(BUCKET.0, version).await);
        b.cluster.resume();
        assert_eq!(b.ended().await, Ended::Evicted);
        assert_eq!(world.seen("b").await.is_none(), mutation.is_none(), "{mutation:?}");
        assert_eq!(world.busy(BUCKET.0).await.is_empty(), mutation.is_none());
        drop(work);
    }
}

#[tokio::test(start_paused = true)]
async fn scenario_12_a_paused_node_that_wakes_finds_itself_out() {
    let world = one_bucket(4).await;
    let [a, b] = world.start_all().await;
    b.cluster.pause();
    sleep(Duration::from_secs(15)).await;
    assert_eq!(world.members().await.len(), 1);
    b.cluster.resume();
    assert_eq!(b.ended().await, Ended::Evicted);
    // One whose heartbeat alone fails looks dead, too.
    let b = world.start("b").await;
    settle().await;
    b.cluster.control(Controls { heartbeat_frozen: true, ..Controls::default() });
    assert_eq!(b.ended().await, Ended::Evicted);
    a.cluster.stop(Stop::Halt);
    assert_eq!(a.ended().await, Ended::Halted);
}

#[tokio::test(start_paused = true)]
async fn scenario_13_a_heartbeat_between_reading_and_eviction_saves_the_member() {
    for mutation in [None, Some(Mutation::EvictWithoutCounter)] {
        let mut world = one_bucket(2).await;
        if let Some(mutation) = mutation {
            world.mutations = Mutations::of(&[mutation]);
        }
        let [_a, b] = world.start_all().await;
        let held = world.faults().hold(Matcher::any().label("evict"));
        b.cluster.pause();
        held.arrived().await;
        b.cluster.resume();
        sleep(Duration::from_secs(2)).await;
        let evicted = held.release().unwrap();
        match mutation {
            None => assert!(matches!(evicted, Err(StoreError::Conflict))),
            Some(_) => assert!(evicted.is_ok(), "the mistake would evict a live member"),
        }
        settle().await;
        assert_eq!(world.members().await.contains_key("b"), mutation.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn scenario_13_an_outage_of_the_store_evicts_nobody() {
    let world = one_bucket(4).await;
    let nodes: [Node; 3] = world.start_all().await;
    let before = world.members().await;
    for node in ["a", "b", "c"] {
        world.faults().outage(node);
    }
    sleep(Duration::from_secs(15)).await;
    for node in ["a", "b", "c"] {
        world.faults().end_outage(node);
    }
    sleep(Duration::from_secs(15)).await;
    assert_eq!(world.members().await, before);
    for node in &nodes {
        assert!(!node.task.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn scenario_13_the_observer_cut_off_evicts_nobody_when_it_comes_back() {
    let world = one_bucket(4).await;
    let nodes: [Node; 2] = world.start_all().await;
    world.faults().outage("a");
    sleep(Duration::from_secs(8)).await;
    world.faults().end_outage("a");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(world.members().await.len(), 2);
    drop(nodes);
}

#[tokio::test(start_paused = true)]
async fn scenario_14_evictions_that_cross_leave_every_shard_with_a_member() {
    use crate::cluster::membership::{self, Silent};
    use crate::cluster::rows::Identity;
    for b_first in [true, false] {
        let world = World::new(3);
        let mut ids = BTreeMap::new();
        for node in ["a", "b", "c"] {
            let cluster = world.join(node).await.unwrap();
            let row = record::encode(&world.members().await[node]).into();
            let incarnation = cluster.incarnation();
            ids.insert(node, Identity { node: node.to_owned(), incarnation, row });
        }
        // A evicts C while C evicts B: nobody may get shards from whoever is just going.
        let silent = |node: &str| Silent {
            node: node.to_owned(),
            incarnation: ids[node].incarnation,
            counter: 0,
        };
        let (one, two) = (world.store.begin("evict"), world.store.begin("evict"));
        let none = Mutations::default();
        assert!(membership::evict_in(&one, &ids["c"], &silent("b"), none).await.unwrap());
        assert!(membership::evict_in(&two, &ids["a"], &silent("c"), none).await.unwrap());
        let (first, second) = if b_first { (one, two) } else { (two, one) };
        first.commit().await.unwrap();
        assert!(world.all_owned().await);
        assert!(matches!(second.commit().await, Err(StoreError::Conflict)));
        assert!(world.all_owned().await);
    }
}

#[tokio::test(start_paused = true)]
async fn scenario_14_a_shard_is_not_handed_to_a_member_that_is_being_evicted() {
    let world = one_bucket(2).await;
    let a = world.start("a").await;
    settle().await;
    let held = world.faults().hold(Matcher::any().label("hand-over"));
    let b = world.start("b").await;
    held.arrived().await;
    // It leaves while its share is on the way.
    b.cluster.stop(Stop::Graceful);
    assert_eq!(b.ended().await, Ended::Left);
    assert!(matches!(held.release(), Some(Err(StoreError::Conflict))));
    settle().await;
    assert!(world.all_owned().await);
    assert_eq!(a.cluster.owned_shards().borrow().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn scenario_15_a_member_without_shards_counts() {
    for mutation in [None, Some(Mutation::MembersWithoutShardsIgnored)] {
        let mut world = one_bucket(2).await;
        if let Some(mutation) = mutation {
            world.mutations = Mutations::of(&[mutation]);
        }
        let nodes: [Node; 3] = world.start_all().await;
        let c = &nodes[2];
        assert!(c.cluster.owned_shards().borrow().is_empty());
        let work = stuck(c, BUCKET, Scope::Member);
        let version = world.remove(BUCKET.0).await;
        sleep(Duration::from_secs(3)).await;
        let state = world.barrier(BUCKET.0, version).await;
        assert_eq!(state.satisfied(), mutation.is_some(), "{mutation:?}");
        if mutation.is_none() {
            assert_eq!(state.lagging.len(), 1);
            let missing = state.missing_text();
            assert!(missing.starts_with("member c busy with index build since"), "{missing}");
            drop(work);
            world.purgeable(BUCKET.0, version).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn scenario_15_a_joiner_does_not_hold_up_a_waiting_purge() {
    let world = one_bucket(2).await;
    let [_a, b] = world.start_all().await;
    let work = stuck(&b, BUCKET, Scope::Member);
    let version = world.remove(BUCKET.0).await;
    sleep(Duration::from_secs(3)).await;
    let _c = world.start("c").await;
    settle().await;
    let state = world.barrier(BUCKET.0, version).await;
    assert!(state.lagging.iter().all(|member| member.node == "b"));
    drop(work);
    assert!(world.purgeable(BUCKET.0, version).await < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn scenario_15_a_join_between_the_flips_snapshot_and_its_commit_makes_it_retry() {
    let world = one_bucket(2).await;
    let [_a] = world.start_all().await;
    let version = world.remove(BUCKET.0).await;
    world.purgeable(BUCKET.0, version).await;
    let flip = world.store.begin("flip");
    assert!(world_barrier(&flip, version).await);
    flip.set(b"flipped", b"").unwrap();
    world.join("b").await.unwrap();
    assert!(matches!(flip.commit().await, Err(StoreError::Conflict)));
}

async fn world_barrier(txn: &Transaction, version: Versionstamp) -> bool {
    barrier::evaluate(txn, BUCKET.0, version, Mutations::default()).await.unwrap().satisfied()
}

#[tokio::test(start_paused = true)]
async fn scenario_20_work_below_a_namespace_holds_up_its_purge_and_those_of_all_above() {
    let world = World::new(2);
    let (x, n, m) = (NamespaceId(601), NamespaceId(602), NamespaceId(603));
    world.create(BUCKET, x, n).await;
    world.create(BucketId(502), n, NamespaceId::ROOT).await;
    world.create(BucketId(503), m, NamespaceId::ROOT).await;
    let [_a, b] = world.start_all().await;
    let work = stuck(&b, BUCKET, Scope::Member);
    let other = stuck(&b, BucketId(503), Scope::Member);
    // (c) the namespace first, then the bucket: each removal has its own row.
    let whole = world.remove(n.0).await;
    sleep(Duration::from_secs(3)).await;
    assert!(work.is_stopped() && !other.is_stopped());
    let part = world.remove(BUCKET.0).await;
    sleep(Duration::from_secs(3)).await;
    assert!(!world.satisfied(n.0, whole).await);
    assert!(!world.satisfied(BUCKET.0, part).await);
    // (b) moved below another namespace before that one goes.
    let moved = NamespaceRecord::new(m, "x", EPOCH);
    world.write(|txn| txn.set(&keys::namespace_record(x), &record::encode(&moved)).unwrap()).await;
    let third = world.remove(m.0).await;
    sleep(Duration::from_secs(3)).await;
    assert!(other.is_stopped());
    drop(other);
    settle().await;
    assert!(!world.satisfied(m.0, third).await);
    drop(work);
    for (object, version) in [(n.0, whole), (BUCKET.0, part), (m.0, third)] {
        world.purgeable(object, version).await;
        assert_eq!(world.busy(object).await, []);
    }
}
