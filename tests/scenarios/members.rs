//! Members that fall silent, come, go and are put out: scenarios 12 to 15.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::cluster::work::Scope;
use lethe::cluster::{Ended, Stop};
use lethe::codec::keys;
use lethe::store::Error as StoreError;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, GRACE, HEARTBEAT, SILENT_AFTER, claim};

const SOON: Duration = Duration::from_secs(2);
const NOT_YET: &str = "BARRIERNOTSATISFIED ";
const PURGED: &str = "NOSUCHBUCKET No such bucket: 'b'";
/// Evicting takes the silence, the observer's rounds, and some of the commits.
const EVICTED_WITHIN: Duration = Duration::from_millis(4_500);

async fn one_bucket(names: &[&'static str], mutations: Mutations) -> Claim<Cluster> {
    let cluster = Cluster::with(names, mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("B", "b", 1).await?;
    Ok(cluster)
}

/// Scenario 12: its acknowledgment is under way when it falls silent.
pub async fn a_silent_member_delays_a_purge_by_its_lease_and_is_refused_on_waking(
    mutations: Mutations,
) -> Claim {
    let mut cluster = one_bucket(&["A", "B"], mutations).await?;
    let (shard, epoch) = cluster.shard_of("B")?;
    let held = cluster.hold("B", "acknowledge");
    let removed = cluster.remove("A", "b").await?;
    held.arrived().await;
    let purge = cluster.ask("A", "BUCKET.PURGE b TIMEOUT 60000");
    let took = cluster.purged(&removed, EVICTED_WITHIN).await?;
    claim!(took > SOON, "B was not waited for: {took:?}");
    purge.expect("OK").await?;
    cluster.all_owned().await?;
    // Wake it: nothing that it still does lands.
    let late = cluster.node("B").cluster().clone();
    let txn = cluster.store().begin("woken");
    claim!(late.check_shard(&txn, shard, epoch).await.is_err(), "shard work of B is let through");
    claim!(late.check_member(&txn).await.is_err(), "member work of B is let through");
    let landed = held.release();
    // On a FoundationDB it may have become too old meanwhile.
    let refused = matches!(landed, Some(Err(StoreError::Conflict | StoreError::TooOld)));
    claim!(refused, "seen landed late: {landed:?}");
    let ended = cluster.ended("B").await?;
    claim!(ended == Ended::Evicted, "B ended by {ended:?}");
    cluster.restart("B").await?;
    cluster.insert_later("B", "b", 2).expect(PURGED).await?;
    cluster.expect("B", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("B", "b", 3).await?;
    cluster.finish().await
}

/// Scenario 12: it stands still before its acknowledgment begins.
pub async fn who_was_put_out_acknowledges_nothing(mutations: Mutations) -> Claim {
    let mut cluster = one_bucket(&["A", "B"], mutations).await?;
    let id = cluster.id("A", "b").await?;
    let work = cluster.work("B", id, Scope::Member, "scan")?;
    let removed = cluster.remove("A", "b").await?;
    cluster.expect_start("A", "BUCKET.PURGE b NOWAIT", NOT_YET).await?;
    // It waits for the work; then it stands still until it is out of the cluster.
    sleep(GRACE / 2).await;
    cluster.pause("B");
    cluster.purged(&removed, EVICTED_WITHIN).await?;
    cluster.resume("B");
    let ended = cluster.ended("B").await?;
    claim!(ended == Ended::Evicted, "B ended by {ended:?}");
    let seen = cluster.get(&keys::seen("B")).await?;
    claim!(seen.is_none(), "B is no member and has reported what it has seen");
    claim!(cluster.busy(id).await? == 0, "B is no member and has reported open work");
    drop(work);
    cluster.restart("B").await?;
    cluster.finish().await
}

/// Scenario 12: the clients of a node that does not know yet that it is out.
/// Its handles are of before the removal, and the fence is gone.
pub async fn clients_of_a_member_that_was_put_out_get_right_answers(mutations: Mutations) -> Claim {
    for create in [false, true] {
        let mut cluster = one_bucket(&["A", "B"], mutations).await?;
        cluster.pause("B");
        let removed = cluster.remove("A", "b").await?;
        cluster.expect("A", "BUCKET.PURGE b TIMEOUT 60000", "OK").await?;
        cluster.purged(&removed, SOON).await?;
        claim!(!cluster.is_member("B").await?, "B is still a member");
        if create {
            cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
            cluster.insert("B", "b", 2).await?;
            let new = cluster.id("A", "b").await?;
            claim!(cluster.documents(new).await? == 1, "the insert went somewhere else");
        } else {
            cluster.insert_later("B", "b", 2).expect(PURGED).await?;
        }
        let left = cluster.raw_scan(removed.bucket).await?;
        claim!(left == 0, "{left} keys were written into a purged bucket");
        cluster.resume("B");
        cluster.ended("B").await?;
        cluster.restart("B").await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 13.
pub async fn a_heartbeat_before_the_eviction_commits_saves_the_member(
    mutations: Mutations,
) -> Claim {
    let cluster = one_bucket(&["A", "B"], mutations).await?;
    let incarnation = cluster.node("B").cluster().incarnation();
    let held = cluster.hold("A", "evict");
    cluster.pause("B");
    held.arrived().await;
    cluster.resume("B");
    sleep(HEARTBEAT * 3).await;
    let landed = held.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "a member was put out though its heart beats: {landed:?}"
    );
    sleep(SILENT_AFTER * 2).await;
    let view = cluster.view().await?;
    let stayed = view.members.iter().any(|member| member.incarnation == incarnation);
    claim!(stayed, "B is out");
    cluster.finish().await
}

/// Scenario 13: the store cannot be reached, by all nodes and by one.
pub async fn an_outage_of_the_store_puts_nobody_out(mutations: Mutations) -> Claim {
    // An observer that was cut off for a while must not blame the others either.
    let all: &[&str] = &["A", "B", "C"];
    for (cut_off, duration) in [(all, SILENT_AFTER * 5), (&["A"], SILENT_AFTER.mul_f64(0.7))] {
        let cluster = one_bucket(&["A", "B", "C"], mutations).await?;
        let before = cluster.rows(&keys::kind_prefix(keys::kind::MEMBER)).await?;
        for node in cut_off {
            cluster.outage(node);
        }
        sleep(duration).await;
        for node in cut_off {
            cluster.end_outage(node);
        }
        sleep(SILENT_AFTER * 5).await;
        let after = cluster.rows(&keys::kind_prefix(keys::kind::MEMBER)).await?;
        claim!(before == after, "an outage changed the members");
        cluster.insert("C", "b", 2).await?;
        let removed = cluster.remove("C", "b").await?;
        cluster.expect("B", "BUCKET.PURGE b", "OK").await?;
        cluster.purged(&removed, SOON).await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 14: B is put out, its shards going to C, while C goes, both orders.
pub async fn evictions_that_cross_leave_every_shard_with_a_member(mutations: Mutations) -> Claim {
    // C goes first: the eviction of B must not give it anything.
    let mut cluster = one_bucket(&["A", "B", "C"], mutations).await?;
    let evict = cluster.hold("A", "evict");
    cluster.pause("B");
    evict.arrived().await;
    cluster.node("C").cluster().stop(Stop::Graceful);
    cluster.ended("C").await?;
    claim!(!cluster.is_member("C").await?, "C is still a member");
    cluster.all_owned().await?;
    let landed = evict.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "shards were given to a member that has gone: {landed:?}"
    );
    cluster.all_owned().await?;
    let out = async || Ok(!cluster.is_member("B").await?);
    cluster.eventually("B is put out", SILENT_AFTER * 2, out).await?;
    cluster.all_owned().await?;
    for name in ["B", "C"] {
        cluster.restart(name).await?;
    }
    cluster.finish().await?;

    // B is put out first: C must not leave with what it has just been given.
    let mut cluster = one_bucket(&["A", "B", "C"], mutations).await?;
    let leave = cluster.hold("C", "leave");
    cluster.pause("B");
    sleep(SILENT_AFTER.mul_f64(0.8)).await;
    cluster.node("C").cluster().stop(Stop::Graceful);
    leave.arrived().await;
    let out = async || Ok(!cluster.is_member("B").await?);
    cluster.eventually("B is put out", SILENT_AFTER, out).await?;
    claim!(cluster.is_member("C").await?, "C was put out, too");
    cluster.all_owned().await?;
    let landed = leave.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "a member left with shards that it had just been given: {landed:?}"
    );
    cluster.ended("C").await?;
    cluster.all_owned().await?;
    for name in ["B", "C"] {
        cluster.restart(name).await?;
    }
    cluster.finish().await
}

/// Scenario 15: somebody owns no shard and has work of its own.
pub async fn a_member_without_a_shard_is_waited_for(mutations: Mutations) -> Claim {
    let settings = |config: &mut lethe::config::Config| config.cluster.shards = 2;
    let cluster = Cluster::with(&["A", "B", "C"], mutations, settings).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    let id = cluster.id("A", "b").await?;
    let Some(idle) = ["A", "B", "C"].into_iter().find(|node| cluster.shard_of(node).is_err())
    else {
        return Err("two shards, three members, and each has one".to_owned());
    };
    let work = cluster.work(idle, id, Scope::Member, "subscription")?;
    let removed = cluster.remove("A", "b").await?;
    let text = cluster.expect_start("A", "BUCKET.PURGE b TIMEOUT 2500", NOT_YET).await?;
    let named = format!("member {idle} busy with subscription");
    claim!(text.contains(&named), "'{named}' is not in '{text}'");
    drop(work);
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// Scenario 15: a node joins while a purge waits, and nothing happens afterwards.
pub async fn a_member_that_joins_does_not_block_a_purge_that_waits(mutations: Mutations) -> Claim {
    let mut cluster = one_bucket(&["A", "B"], mutations).await?;
    let id = cluster.id("A", "b").await?;
    let work = cluster.work("B", id, Scope::Member, "scan")?;
    let removed = cluster.remove("A", "b").await?;
    let purge = cluster.ask("A", "BUCKET.PURGE b TIMEOUT 60000");
    sleep(GRACE * 2).await;
    cluster.start("C").await?;
    sleep(SOON).await;
    claim!(!purge.is_answered(), "PURGE did not wait for open work");
    drop(work);
    purge.expect("OK").await?;
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// Scenario 15: a node joins between what the flip has read and its commit.
pub async fn a_join_before_the_flip_commits_makes_it_look_again(mutations: Mutations) -> Claim {
    let mut cluster = one_bucket(&["A", "B"], mutations).await?;
    let removed = cluster.remove("A", "b").await?;
    sleep(Duration::from_millis(200)).await;
    let flip = cluster.hold("A", "flip");
    let purge = cluster.ask("A", "BUCKET.PURGE b");
    flip.arrived().await;
    cluster.start("C").await?;
    let landed = flip.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "the flip committed though a member had joined: {landed:?}"
    );
    purge.expect("OK").await?;
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}
