//! Who is a member and who owns what.

use super::*;
use crate::cluster::{Error, Stop};
use crate::store::{Error as StoreError, Matcher};

#[tokio::test(start_paused = true)]
async fn shards_spread_evenly_as_members_come_and_go() {
    let world = World::new(7);
    let [a, b, c] = world.start_all().await;
    let count = async |node: &str| {
        world.shards().await.values().filter(|record| record.owner == node).count()
    };
    assert!(world.all_owned().await);
    let mut counts = [count("a").await, count("b").await, count("c").await];
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3]);
    b.cluster.stop(Stop::Graceful);
    assert_eq!(b.ended().await, Ended::Left);
    assert!(world.all_owned().await, "its shards moved in the same commit");
    settle().await;
    let mut counts = [count("a").await, count("c").await];
    counts.sort_unstable();
    assert_eq!(counts, [3, 4]);
    let owned = a.cluster.owned_shards().borrow().len() + c.cluster.owned_shards().borrow().len();
    assert_eq!(owned, 7);
}

#[tokio::test(start_paused = true)]
async fn more_nodes_than_shards_work() {
    let world = World::new(1);
    let _nodes: [Node; 3] = world.start_all().await;
    assert!(world.all_owned().await);
    let version = world.remove(BUCKET.0).await;
    assert!(world.purgeable(BUCKET.0, version).await < Duration::from_millis(50));
    for node in ["a", "b", "c"] {
        assert!(world.seen(node).await.unwrap() >= version);
    }
}

#[tokio::test(start_paused = true)]
async fn every_shard_belongs_to_a_member_at_every_commit() {
    for seed in 0..20 {
        let world = World::new(5);
        world.faults().chaos(Some(crate::store::Chaos::with_seed(seed)));
        let _a = world.start("a").await;
        let watching = tokio::spawn({
            let store = world.store.clone();
            async move {
                let mut version = 0;
                loop {
                    let txn = store.begin("check");
                    let members = rows::members(&txn, Read::Snapshot).await.unwrap();
                    let shards = rows::shards(&txn, Read::Snapshot).await.unwrap();
                    for (shard, record) in &shards {
                        assert!(members.contains_key(&record.owner), "{shard} of {record:?}");
                    }
                    version = txn.read_version().await.unwrap().max(version);
                    let watch = txn.watch(&keys::membership_signal()).unwrap();
                    txn.commit().await.unwrap();
                    drop(tokio::time::timeout(Duration::from_millis(100), watch).await);
                }
            }
        });
        for _ in 0..4 {
            let b = world.start("b").await;
            sleep(Duration::from_millis(700)).await;
            let c = world.start("c").await;
            sleep(Duration::from_millis(700)).await;
            b.cluster.stop(Stop::Graceful);
            assert_eq!(b.ended().await, Ended::Left);
            c.kill().await;
        }
        sleep(Duration::from_secs(30)).await;
        assert!(!watching.is_finished(), "seed {seed}");
        watching.abort();
        assert_eq!(world.members().await.len(), 1, "the killed one was evicted");
        assert!(world.all_owned().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_a_new_incarnation_and_refuses_the_old_one() {
    let world = World::new(3);
    let a = world.start("a").await;
    settle().await;
    let (first, epochs) = (a.cluster.incarnation(), world.shards().await);
    let old = a.cluster.clone();
    a.kill().await;
    let a = world.start("a").await;
    assert!(a.cluster.incarnation() > first);
    for (shard, record) in world.shards().await {
        assert_eq!((record.owner.as_str(), record.epoch), ("a", epochs[&shard].epoch + 1));
    }
    let txn = world.store.begin("late");
    assert!(matches!(old.check_member(&txn).await, Err(Error::NotMember { .. })));
    assert!(matches!(old.check_shard(&txn, 0, 1).await, Err(Error::ShardMoved { .. })));
    a.cluster.check_shard(&txn, 0, epochs[&0].epoch + 1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn settings_that_differ_from_the_clusters_are_refused() {
    let world = World::new(3);
    world.join("a").await.unwrap();
    let join = async |options: ClusterOptions| {
        let clock = Arc::new(world.clock.clone());
        Cluster::join(world.store.clone(), clock, options).await.unwrap_err().to_string()
    };
    let error = join(ClusterOptions { shards: 4, ..world.options("b") }).await;
    assert!(error.contains("made with 3 shards") && error.contains("cluster.shards is 4"));
    let error = join(ClusterOptions { name: "x".to_owned(), ..world.options("b") }).await;
    assert!(error.contains("'lethe'") && error.contains("'x'"));
    let error = join(ClusterOptions { shards: 0, ..world.options("b") }).await;
    assert!(error.contains("at least 1"));
    assert_eq!(world.members().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_joiner_removes_the_dead_at_once() {
    let world = World::new(4);
    let [a, b] = world.start_all().await;
    let version = world.remove(BUCKET.0).await;
    a.kill().await;
    b.kill().await;
    let options = ClusterOptions { exclusive: true, ..world.options("c") };
    let clock = Arc::new(world.clock.clone());
    let c = Cluster::join(world.store.clone(), clock, options).await.unwrap();
    let members: Vec<String> = world.members().await.into_keys().collect();
    assert_eq!(members, ["c"]);
    assert_eq!(c.owned_shards().borrow().len(), 4);
    assert!(world.satisfied(BUCKET.0, version).await, "it joined behind the removal");
}

#[tokio::test(start_paused = true)]
async fn a_start_after_a_long_night_stops_purging_and_shortens_no_promise() {
    let world = World::new(1);
    let a = world.start("a").await;
    settle().await;
    a.cluster.stop(Stop::Graceful);
    assert_eq!(a.ended().await, Ended::Left);
    world.clock.jump(8 * 3_600_000);
    let a = world.start("a").await;
    assert!(a.cluster.time().suspect().unwrap().contains("jumped"));
    assert!(a.cluster.time().now() >= EPOCH + 8 * 3_600_000);
    assert!(a.cluster.time().certain() < EPOCH + 60_000);
    sleep(Duration::from_secs(615)).await;
    assert_eq!(a.cluster.time().suspect(), None);
    assert!(a.cluster.time().certain() > EPOCH + 8 * 3_600_000);
}

#[tokio::test(start_paused = true)]
async fn a_join_with_unknown_result_is_repeated_as_another_incarnation() {
    let world = World::new(3);
    let lost = world.faults().lose(Matcher::any().label("join"));
    let a = world.join("a").await.unwrap();
    let late = lost.land().unwrap();
    assert!(matches!(late, Err(StoreError::Conflict)));
    assert_eq!(world.members().await["a"].incarnation, a.incarnation());
    assert!(world.all_owned().await);
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_evicted_within_its_lease_and_its_rows_are_cleared() {
    let world = World::new(4);
    let [a, b] = world.start_all().await;
    let (slots, dead) = (b.cluster.slots().clone(), b.cluster.incarnation());
    world.write(|txn| txn.set(&slots.acquire().slot().key, b"token").unwrap()).await;
    world
        .write(|txn| {
            let row = BusyRecord { incarnation: dead, epoch: 1, what: vec![], since: 0 };
            txn.set(&keys::busy(5, "b", 1), &record::encode(&row)).unwrap();
        })
        .await;
    b.kill().await;
    sleep(Duration::from_secs(9)).await;
    assert_eq!(world.members().await.len(), 2);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(world.members().await.len(), 1);
    assert!(world.all_owned().await);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.get(&keys::beat("b")).await, None);
    assert_eq!(world.get(&keys::seen("b")).await, None);
    assert_eq!(world.get(&slots.acquire().slot().key).await, None);
    assert_eq!(world.busy(5).await, []);
    drop(a);
}

#[tokio::test(start_paused = true)]
async fn a_dead_observer_is_replaced_and_evicted_within_twice_the_lease() {
    let world = World::new(4);
    let [a, b, c] = world.start_all().await;
    let view = b.cluster.view().await.unwrap();
    let observer = view.members.iter().find(|member| member.observer).unwrap();
    assert_eq!(observer.node, "a");
    a.kill().await;
    sleep(Duration::from_secs(25)).await;
    let members: Vec<String> = world.members().await.into_keys().collect();
    assert_eq!(members, ["b", "c"]);
    assert!(world.all_owned().await);
    drop((b, c));
}

#[tokio::test(start_paused = true)]
async fn the_view_tells_who_is_alive_and_what_they_have_seen() {
    let world = World::new(2);
    let [a, b] = world.start_all().await;
    let version = world.remove(BUCKET.0).await;
    settle().await;
    b.kill().await;
    world.event(7, EventKind::Changed).await;
    sleep(Duration::from_secs(5)).await;
    let view = a.cluster.view().await.unwrap();
    let [first, second] = &view.members[..] else { panic!("two members") };
    assert_eq!((first.node.as_str(), first.alive, first.shards.len()), ("a", true, 1));
    assert!(first.last_seen_ms < 1_500);
    assert_eq!(second.node, "b");
    assert!((4_000..7_000).contains(&second.last_seen_ms), "{}", second.last_seen_ms);
    assert_eq!((second.seen, second.behind), (version, 1));
    assert!(first.clock_offset_ms.unwrap().abs() < 2_000);
    assert!(view.shards.iter().all(|shard| shard.owned && shard.witnessed >= version));
    assert!(view.journal_head > version);
    assert_eq!(view.shards.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn in_a_large_cluster_the_silent_are_evicted_and_so_is_a_silent_observer() {
    const NODES: usize = 55;
    let world = World::new(3);
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(world.start(&format!("node{number:02}")).await);
    }
    sleep(Duration::from_secs(5)).await;
    assert!(world.all_owned().await);
    let observer = nodes.remove(0);
    assert!(observer.cluster.view().await.unwrap().members[0].observer);
    // Somebody without the duty shows how long ago everybody was heard of, too.
    let view = nodes[0].cluster.view().await.unwrap();
    assert_eq!(view.members.len(), NODES);
    assert!(view.members.iter().all(|member| member.alive));
    let other = nodes.pop().unwrap();
    other.kill().await;
    sleep(Duration::from_secs(12)).await;
    assert_eq!(world.members().await.len(), NODES - 1);
    observer.kill().await;
    sleep(Duration::from_secs(25)).await;
    assert_eq!(world.members().await.len(), NODES - 2);
    assert!(world.all_owned().await);
    let version = world.remove(BUCKET.0).await;
    assert!(world.purgeable(BUCKET.0, version).await < Duration::from_millis(200));
}
