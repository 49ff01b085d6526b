//! Handovers, the journal, the clocks, and mistakes that are seen at once.

use super::scenarios::{one_bucket, stuck};
use super::*;
use crate::cluster::work::Scope;

#[tokio::test(start_paused = true)]
async fn a_busy_row_is_not_written_for_what_has_been_purged() {
    let world = one_bucket(2).await;
    let [_a, b] = world.start_all().await;
    let _work = stuck(&b, BUCKET, Scope::Member);
    world.remove(BUCKET.0).await;
    sleep(Duration::from_secs(1)).await;
    world.write(|txn| txn.clear(&keys::fence(BUCKET.0)).unwrap()).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.busy(BUCKET.0).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_handed_over_only_when_its_work_is_drained() {
    let world = one_bucket(2).await;
    let a = world.start("a").await;
    settle().await;
    let (zero, one) = (stuck(&a, BUCKET, Scope::Shard(0)), stuck(&a, BUCKET, Scope::Shard(1)));
    let b = world.start("b").await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.owner_of(1).await, "a");
    assert!(one.is_stopped() && !zero.is_stopped());
    assert_eq!(a.cluster.owned_shards().borrow().keys().copied().collect::<Vec<_>>(), [0]);
    drop(one);
    settle().await;
    assert_eq!(world.owner_of(1).await, "b");
    assert_eq!(b.cluster.owned_shards().borrow().get(&1), Some(&2));
    // The new owner agrees to an older removal with no further event.
    let version = world.remove(77).await;
    world.purgeable(77, version).await;
}

#[tokio::test(start_paused = true)]
async fn seen_set_to_the_journals_head_agrees_to_what_was_not_applied() {
    for mutation in [None, Some(Mutation::SeenIsJournalHead)] {
        let mut world = one_bucket(2).await;
        if let Some(mutation) = mutation {
            world.mutations = Mutations::of(&[mutation]);
        }
        let [_a, b] = world.start_all().await;
        let _work = stuck(&b, BUCKET, Scope::Member);
        // While it waits for other work to drain, the second removal comes.
        let _slow = stuck(&b, BucketId(777), Scope::Member);
        world.remove(777).await;
        sleep(Duration::from_millis(1_900)).await;
        let version = world.remove(BUCKET.0).await;
        sleep(Duration::from_millis(500)).await;
        assert_eq!(world.satisfied(BUCKET.0, version).await, mutation.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_witness_before_the_drain_agrees_while_work_goes_on() {
    for mutation in [Mutation::WitnessBeforeDrain, Mutation::BusyRowsIgnored] {
        let mut world = one_bucket(2).await;
        world.mutations = Mutations::of(&[mutation]);
        let [_a, b] = world.start_all().await;
        let work = stuck(&b, BUCKET, Scope::Member);
        let version = world.remove(BUCKET.0).await;
        sleep(Duration::from_secs(3)).await;
        assert!(world.satisfied(BUCKET.0, version).await, "{mutation:?} is a mistake");
        drop(work);
    }
}

#[tokio::test(start_paused = true)]
async fn the_journal_is_trimmed_when_all_have_seen_it_and_an_hour_has_passed() {
    let world = one_bucket(2).await;
    let _nodes: [Node; 2] = world.start_all().await;
    let rows = async || {
        let txn = world.store.begin("count");
        journal::count_after(&txn, Versionstamp::MIN, 100).await.unwrap()
    };
    for _ in 0..3 {
        world.remove(BUCKET.0).await;
    }
    sleep(Duration::from_secs(3_000)).await;
    assert_eq!(rows().await, 3);
    sleep(Duration::from_secs(1_000)).await;
    assert_eq!(rows().await, 0);
}

#[tokio::test(start_paused = true)]
async fn clocks_that_jump_stop_purging_and_are_believed_later_or_on_order() {
    let world = World::new(1);
    let [a] = world.start_all().await;
    assert_eq!(a.cluster.time().suspect(), None);
    let record = async || {
        crate::cluster::time::read(&world.store.begin("time"), Read::Snapshot).await.unwrap()
    };
    world.clock.jump(3_600_000);
    sleep(Duration::from_secs(3)).await;
    assert!(record().await.suspect.unwrap().contains("jumped"));
    assert!(a.cluster.time().suspect().is_some());
    assert!(a.cluster.time().now() >= EPOCH + 3_600_000);
    assert!(a.cluster.time().certain() < EPOCH + 60_000);
    sleep(Duration::from_secs(620)).await;
    assert_eq!(record().await.suspect, None);
    assert!(record().await.now > EPOCH + 3_600_000);
    world.clock.jump(3_600_000);
    sleep(Duration::from_secs(3)).await;
    assert!(record().await.suspect.is_some());
    a.cluster.confirm_time().await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(record().await.suspect, None);
    assert!(a.cluster.time().certain() > EPOCH + 7_200_000);
}

#[tokio::test(start_paused = true)]
async fn a_removal_announced_again_is_acknowledged_without_waiting_again() {
    let world = one_bucket(2).await;
    let [_a, b] = world.start_all().await;
    let _work = stuck(&b, BUCKET, Scope::Member);
    world.remove(BUCKET.0).await;
    sleep(Duration::from_secs(3)).await;
    let again = world.remove(BUCKET.0).await;
    sleep(Duration::from_millis(10)).await;
    assert!(world.seen("b").await.unwrap() >= again);
    assert_eq!(world.busy(BUCKET.0).await.len(), 1);
}
