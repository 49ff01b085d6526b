//! What the barrier waits for: scenarios 6 to 11, and what PURGE answers.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::cluster::work::Scope;
use lethe::cluster::{Ended, Stop};
use lethe::codec::Versionstamp;
use lethe::resp::Reply;
use lethe::store::Error as StoreError;
use tokio::time::sleep;

use crate::cluster::{
    Asked, Claim, Cluster, DRAIN_LIMIT, GRACE, Removed, SILENT_AFTER, claim, fail, field, line,
};

const SOON: Duration = Duration::from_secs(2);
const NOT_YET: &str = "BARRIERNOTSATISFIED Barrier not satisfied: not all shards observed version ";

/// A bucket `b` with a document, on nodes A and B.
async fn one_bucket(mutations: Mutations) -> Claim<Cluster> {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("B", "b", 1).await?;
    Ok(cluster)
}

/// Of the member B, or of a shard that it owns.
fn scope(cluster: &Cluster, member: bool) -> Claim<Scope> {
    Ok(if member { Scope::Member } else { Scope::Shard(cluster.shard_of("B")?.0) })
}

/// Scenario 6.
pub async fn work_beyond_the_grace_is_named_and_waited_for(mutations: Mutations) -> Claim {
    for member in [false, true] {
        let cluster = one_bucket(mutations).await?;
        let id = cluster.id("A", "b").await?;
        let (shard, _) = cluster.shard_of("B")?;
        let scope = if member { Scope::Member } else { Scope::Shard(shard) };
        let work = cluster.work("B", id, scope, "index build")?;
        let removed = cluster.remove("A", "b").await?;
        let text = cluster.expect_start("A", "BUCKET.PURGE b TIMEOUT 2500", NOT_YET).await?;
        let named = if member {
            "member B busy with index build since ".to_owned()
        } else {
            format!("shard {shard} on B busy with index build since ")
        };
        claim!(text.contains(&named), "'{named}' is not in '{text}'");
        claim!(work.is_stopped(), "nobody told the work to stop");
        let view = cluster.view().await?;
        claim!(view.members.iter().all(|member| member.behind == 0), "seen did not advance");
        let purge = cluster.ask("A", "BUCKET.PURGE b TIMEOUT 60000");
        sleep(SOON).await;
        claim!(!purge.is_answered(), "PURGE did not wait for open work");
        claim!(!cluster.is_purged(&removed).await?, "purged while work was open on it");
        drop(work);
        purge.expect("OK").await?;
        cluster.purged(&removed, SOON).await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 7.
pub async fn a_node_with_work_that_never_stops_gives_itself_up(mutations: Mutations) -> Claim {
    for member in [false, true] {
        let mut cluster = one_bucket(mutations).await?;
        let id = cluster.id("A", "b").await?;
        let scope = scope(&cluster, member)?;
        let work = cluster.work("B", id, scope, "subscription")?;
        let removed = cluster.remove("A", "b").await?;
        let purge = cluster.ask("A", "BUCKET.PURGE b TIMEOUT 600000");
        let left = cluster.eventually("B gives itself up", DRAIN_LIMIT * 2, async || {
            let purged = cluster.is_purged(&removed).await?;
            let member = cluster.is_member("B").await?;
            claim!(!(purged && member), "purged while B is a member with open work");
            Ok(!member)
        });
        let took = left.await?;
        claim!(took + SOON >= DRAIN_LIMIT, "B gave itself up after {took:?}");
        purge.expect("OK").await?;
        let ended = cluster.ended("B").await?;
        let Ended::GaveUp(stuck) = ended else { return Err(format!("B ended by {ended:?}")) };
        claim!(stuck[0].starts_with("subscription on "), "B was stuck in {stuck:?}");
        drop(work);
        cluster.restart("B").await?;
        cluster.expect("B", "BUCKET.RESTORE b", "NOSUCHBUCKET No such bucket: 'b'").await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 8.
pub async fn a_late_clear_leaves_the_busy_row_of_a_later_removal(mutations: Mutations) -> Claim {
    for member in [true, false] {
        late_clear(mutations, member).await?;
    }
    Ok(())
}

async fn late_clear(mutations: Mutations, member: bool) -> Claim {
    let cluster = one_bucket(mutations).await?;
    let id = cluster.id("A", "b").await?;
    let scope = scope(&cluster, member)?;
    let first = cluster.work("B", id, scope, "first")?;
    cluster.remove("A", "b").await?;
    sleep(GRACE * 2).await;
    claim!(cluster.busy(id).await? == 1, "no busy row");
    let clear = cluster.lose("B", "acknowledge");
    drop(first);
    clear.arrived().await;
    sleep(Duration::from_millis(200)).await;
    claim!(cluster.busy(id).await? == 0, "the retry did not clear the busy row");
    cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
    let second = cluster.work("B", id, scope, "second")?;
    let removed = cluster.remove("A", "b").await?;
    sleep(GRACE * 2).await;
    claim!(cluster.busy(id).await? == 1, "no busy row for the second removal");
    let landed = clear.land();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "the clear landed late: {landed:?}");
    claim!(cluster.busy(id).await? == 1, "a late clear took the busy row away");
    cluster.expect_start("A", "BUCKET.PURGE b NOWAIT", NOT_YET).await?;
    drop(second);
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// Scenario 9, the first commit late and refused, or landed while its result was unknown.
pub async fn a_late_busy_row_is_not_revived(mutations: Mutations) -> Claim {
    for (landed_first, member) in [(false, true), (true, true), (false, false), (true, false)] {
        let cluster = one_bucket(mutations).await?;
        let id = cluster.id("A", "b").await?;
        let work = cluster.work("B", id, scope(&cluster, member)?, "scan")?;
        let lost = cluster.lose("B", "acknowledge");
        let retry = cluster.hold("B", "acknowledge");
        let removed = cluster.remove("A", "b").await?;
        lost.arrived().await;
        if landed_first {
            claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
            claim!(cluster.busy(id).await? == 1, "no busy row");
            drop(work);
            retry.arrived().await;
            claim!(retry.release().is_some_and(|landed| landed.is_ok()), "the retry failed");
        } else {
            retry.arrived().await;
            drop(work);
            // The retry still reports the work; the next commit clears it.
            claim!(retry.release().is_some_and(|landed| landed.is_ok()), "the retry failed");
            sleep(Duration::from_millis(200)).await;
            claim!(cluster.busy(id).await? == 0, "the busy row was not cleared");
            let landed = lost.land();
            claim!(matches!(landed, Some(Err(StoreError::Conflict))), "landed late: {landed:?}");
        }
        sleep(Duration::from_millis(200)).await;
        claim!(cluster.busy(id).await? == 0, "a busy row is left of work that is over");
        cluster.expect("A", "BUCKET.PURGE b TIMEOUT 1000", "OK").await?;
        cluster.purged(&removed, SOON).await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 10.
pub async fn a_late_seen_lowers_nothing(mutations: Mutations) -> Claim {
    let cluster = one_bucket(mutations).await?;
    cluster.expect("A", "BUCKET.CREATE c", "OK").await?;
    let seen = async || -> Claim<Versionstamp> {
        let view = cluster.view().await?;
        let member = view.members.iter().find(|member| member.node == "B");
        Ok(member.ok_or("B is no member")?.seen)
    };
    let lost = cluster.lose("B", "acknowledge");
    cluster.remove("A", "b").await?;
    lost.arrived().await;
    sleep(Duration::from_millis(200)).await;
    let second = seen().await?;
    let removed = cluster.remove("A", "c").await?;
    sleep(Duration::from_millis(200)).await;
    let third = seen().await?;
    claim!(third > second, "B has not seen the second removal");
    let flip = cluster.hold("A", "flip");
    let purge = cluster.ask("A", "BUCKET.PURGE c");
    flip.arrived().await;
    let landed = lost.land();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "landed late: {landed:?}");
    claim!(seen().await? == third, "a late commit lowered seen");
    let landed = flip.release();
    claim!(matches!(landed, Some(Ok(_))), "the flip had nothing in its way: {landed:?}");
    purge.expect("OK").await?;
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// Scenario 11.
pub async fn the_busy_row_stays_until_the_last_work_ends(mutations: Mutations) -> Claim {
    for member in [false, true] {
        two_works(mutations, member).await?;
    }
    Ok(())
}

async fn two_works(mutations: Mutations, member: bool) -> Claim {
    let cluster = one_bucket(mutations).await?;
    let id = cluster.id("A", "b").await?;
    let scope = scope(&cluster, member)?;
    let (one, two) = (cluster.work("B", id, scope, "one")?, cluster.work("B", id, scope, "two")?);
    let removed = cluster.remove("A", "b").await?;
    let text = cluster.expect_start("A", "BUCKET.PURGE b TIMEOUT 2000", NOT_YET).await?;
    claim!(text.contains("busy with one, two since "), "both are open: {text}");
    drop(one);
    let text = cluster.expect_start("A", "BUCKET.PURGE b TIMEOUT 2000", NOT_YET).await?;
    claim!(text.contains("busy with two since "), "one is open: {text}");
    claim!(cluster.busy(id).await? == 1, "the busy row went with the first work");
    drop(two);
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// A removal that comes while the follower waits for work on another one.
pub async fn what_was_not_applied_is_not_acknowledged(mutations: Mutations) -> Claim {
    let cluster = one_bucket(mutations).await?;
    cluster.expect("A", "BUCKET.CREATE c", "OK").await?;
    let (b, c) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
    let work = cluster.work("B", b, Scope::Member, "scan")?;
    let slow = cluster.work("B", c, Scope::Member, "slow")?;
    cluster.remove("A", "c").await?;
    sleep(GRACE.mul_f64(0.9)).await;
    let removed = cluster.remove("A", "b").await?;
    // B has acknowledged c, with a busy row, and has only just heard of b.
    sleep(Duration::from_millis(300)).await;
    claim!(cluster.busy(c).await? == 1, "B has not acknowledged the first removal");
    cluster.expect_start("A", "BUCKET.PURGE b NOWAIT", NOT_YET).await?;
    sleep(GRACE * 2).await;
    claim!(!cluster.is_purged(&removed).await?, "purged while work was open on it");
    drop((work, slow));
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// A busy row that comes between what the flip has read and its commit.
pub async fn a_busy_row_that_comes_before_the_flip_commits_stops_it(mutations: Mutations) -> Claim {
    let cluster = one_bucket(mutations).await?;
    let removed = cluster.remove("A", "b").await?;
    sleep(Duration::from_millis(200)).await;
    // Cluster time is among what the flip reads, too: it stands still meanwhile.
    cluster.pause_observers();
    let flip = cluster.hold("A", "flip");
    let purge = cluster.ask("A", "BUCKET.PURGE b TIMEOUT 60000");
    flip.arrived().await;
    // A scan is entered and has not looked yet whether its bucket is active,
    // when the removal is announced once more.
    let work = cluster.node("B").cluster().work().enter(removed.bucket, Scope::Member, "scan");
    let txn = cluster.store().begin("announce");
    let announcer = cluster.node("A").cluster();
    announcer.announce(&txn, removed.bucket.0, removed.removal).map_err(fail)?;
    txn.commit().await.map_err(fail)?;
    sleep(GRACE * 2).await;
    claim!(cluster.busy(removed.bucket).await? == 1, "no busy row");
    let landed = flip.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "the flip committed against a busy row: {landed:?}"
    );
    sleep(SOON).await;
    claim!(!purge.is_answered(), "PURGE did not wait for open work");
    drop(work);
    purge.expect("OK").await?;
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// The reply names shards, nodes and what is busy; all else goes on; a retry succeeds.
pub async fn barrier_not_satisfied_names_who_is_missing_and_a_retry_succeeds(
    mutations: Mutations,
) -> Claim {
    let cluster = one_bucket(mutations).await?;
    let id = cluster.id("A", "b").await?;
    let (shard, epoch) = cluster.shard_of("B")?;
    let work = cluster.work("B", id, Scope::Shard(shard), "index build")?;
    cluster.pause("B");
    let removed = cluster.remove("A", "b").await?;
    let text = cluster.expect_start("A", "BUCKET.PURGE b TIMEOUT 500", NOT_YET).await?;
    for named in [format!("shard {shard} on B witnessed "), "member B has seen ".to_owned()] {
        claim!(text.contains(&named), "'{named}' is not in '{text}'");
    }
    claim!(!text.contains(" on A "), "A has agreed: {text}");
    cluster.resume("B");
    sleep(GRACE * 2).await;
    let Reply::Array(rows) = cluster.run("A", "BUCKET.BARRIER b").await? else {
        return Err("BUCKET.BARRIER gives no array".to_owned());
    };
    let mut found = false;
    for row in &rows {
        if field(row, "shard").is_ok_and(|number| line(number) == shard.to_string()) {
            found = true;
            let shown = (line(field(row, "node")?), line(field(row, "epoch")?));
            claim!(shown == ("B".to_owned(), epoch.to_string()), "{}", line(row));
            let busy = line(field(row, "busy")?);
            claim!(busy.contains("index build"), "not busy: {busy}");
            claim!(line(field(row, "satisfied")?) == "false", "satisfied: {}", line(row));
        }
    }
    claim!(found, "the shard is not listed");
    // Restoring and removing again waits for nobody.
    cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
    cluster.insert("A", "b", 2).await?;
    let again = cluster.remove("A", "b").await?;
    cluster.expect_start("B", "BUCKET.PURGE b NOWAIT", NOT_YET).await?;
    drop(work);
    cluster.expect("B", "BUCKET.PURGE b", "OK").await?;
    cluster.purged(&again, SOON).await?;
    claim!(!cluster.is_purged(&removed).await?, "the restored removal was purged");
    cluster.finish().await
}

/// The shards of a node that died or left move on, and the purge goes through.
pub async fn a_dead_node_does_not_block_a_purge(mutations: Mutations) -> Claim {
    for graceful in [false, true] {
        let mut cluster = one_bucket(mutations).await?;
        if graceful {
            cluster.node("B").cluster().stop(Stop::Graceful);
            cluster.ended("B").await?;
        } else {
            cluster.kill("B").await;
        }
        let removed = cluster.remove("A", "b").await?;
        if !graceful {
            let text = cluster.expect_start("A", "BUCKET.PURGE b NOWAIT", NOT_YET).await?;
            claim!(text.contains("member B has seen"), "B is not named: {text}");
        }
        let purge: Asked = cluster.ask("A", "BUCKET.PURGE b TIMEOUT 10000");
        purge.expect("OK").await?;
        let took = cluster.purged(&removed, SILENT_AFTER * 2).await?;
        claim!(took < SILENT_AFTER * 2, "it took {took:?}");
        cluster.all_owned().await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// PURGE NOWAIT leaves a request, and the worker finishes it alone.
pub async fn a_request_is_finished_by_the_worker(mutations: Mutations) -> Claim {
    let cluster = one_bucket(mutations).await?;
    let id = cluster.id("A", "b").await?;
    let work = cluster.work("B", id, Scope::Member, "scan")?;
    let removed: Removed = cluster.remove("A", "b").await?;
    let command = format!("BUCKET.PURGE {} NOWAIT", removed.removal);
    cluster.expect_start("A", &command, NOT_YET).await?;
    // Again, from both sides: harmless.
    cluster.expect_start("B", &command, NOT_YET).await?;
    sleep(GRACE * 2).await;
    drop(work);
    let took = cluster.purged(&removed, SOON).await?;
    claim!(took < Duration::from_millis(500), "the worker took {took:?} to notice");
    cluster.expect("A", &command, "OK").await?;
    let by = cluster.audit().await?.into_iter().find(|row| row.action == "purge");
    claim!(by.is_some_and(|row| row.by.user == "default"), "the purge has another author");
    cluster.finish().await
}
