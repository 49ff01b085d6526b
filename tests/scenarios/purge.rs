//! What is purged, when, and what forbids it: scenarios 16 and 17, and expiry.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::cluster::work::Scope;
use lethe::store::Error as StoreError;
use tokio::time::{sleep, timeout};

use crate::cluster::{AT_ONCE, Claim, Cluster, GRACE, NAMESPACE, claim, fail, field, line};

const SOON: Duration = Duration::from_secs(2);
const NO_SUCH: &str = "NOSUCHBUCKET No such bucket: 'b'";
const NOT_REMOVED: &str = "ERR Bucket 'b' is not removed";
/// Longer than any worker sleeps.
const LONG: Duration = Duration::from_secs(90);

async fn one_bucket(mutations: Mutations) -> Claim<Cluster> {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("B", "b", 1).await?;
    Ok(cluster)
}

/// Scenario 16.
pub async fn a_request_of_an_earlier_removal_does_not_purge_a_later_one(
    mutations: Mutations,
) -> Claim {
    let cluster = one_bucket(mutations).await?;
    let id = cluster.id("A", "b").await?;
    let work = cluster.work("B", id, Scope::Member, "scan")?;
    let first = cluster.remove("A", "b").await?;
    let purge = cluster.ask("A", "BUCKET.PURGE b TIMEOUT 60000");
    sleep(GRACE * 2).await;
    cluster.expect("B", "BUCKET.RESTORE b", "OK").await?;
    // Whoever waits for the purge learns at once that there will be none.
    let told = timeout(AT_ONCE, purge.expect(NOT_REMOVED)).await;
    told.map_err(|_| "PURGE waits on for a bucket that was restored")??;
    drop(work);
    let second = cluster.remove("B", "b").await?;
    sleep(LONG).await;
    claim!(!cluster.is_purged(&second).await?, "an old request purged a later removal");
    claim!(!cluster.is_purged(&first).await?, "a removal that was restored has been purged");
    cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
    claim!(cluster.documents(id).await? == 1, "the restored bucket has lost its document");
    cluster.finish().await
}

/// Scenario 16.
pub async fn a_purge_touches_only_the_removal_that_it_names(mutations: Mutations) -> Claim {
    for namesake in [true, false] {
        let cluster = one_bucket(mutations).await?;
        let first = cluster.remove("A", "b").await?;
        cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
        cluster.insert("A", "b", 2).await?;
        let second = cluster.remove("A", "b").await?;
        if namesake {
            cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
            cluster.insert("A", "b", 3).await?;
        }
        cluster.expect_start("A", "BUCKET.PURGE b", "AMBIGUOUSREMOVED ").await?;
        cluster.expect("A", &format!("BUCKET.PURGE {}", first.removal), "OK").await?;
        sleep(SOON).await;
        claim!(!cluster.is_purged(&second).await?, "another removal was purged");
        claim!(cluster.documents(second.bucket).await? == 1, "another removal lost a document");
        claim!(cluster.raw_scan(first.bucket).await? == 0, "the purge left keys");
        if namesake {
            let active = cluster.id("B", "b").await?;
            claim!(cluster.documents(active).await? == 1, "the active namesake lost a document");
            cluster.insert("B", "b", 4).await?;
        }
        let restore = format!("BUCKET.RESTORE {} AS old", second.removal);
        cluster.expect("B", &restore, "OK").await?;
        cluster.insert("A", "old", 5).await?;
        // By id again it is done, by name there is nothing.
        cluster.expect("B", &format!("BUCKET.PURGE {}", first.bucket), "OK").await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Who commits first in scenario 17, and what is known of the other's commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// It is held, and let go when the other has won.
    Loses,
    /// Its result is unknown, its retry is held; both land when the other has won.
    LosesLate,
    /// It has landed when the other comes, but its result was unknown.
    WinsUnknown,
}

/// Scenario 17.
pub async fn of_a_restore_and_a_purge_exactly_one_wins(mutations: Mutations) -> Claim {
    for late in ["flip", "restore"] {
        for course in [Course::Loses, Course::LosesLate, Course::WinsUnknown] {
            let told = |violated: String| format!("{late} {course:?}: {violated}");
            restore_against_purge(mutations, late, course).await.map_err(told)?;
        }
    }
    Ok(())
}

async fn restore_against_purge(mutations: Mutations, late: &str, course: Course) -> Claim {
    let cluster = one_bucket(mutations).await?;
    let removed = cluster.remove("A", "b").await?;
    sleep(Duration::from_millis(200)).await;
    let (purge, restore) = ("BUCKET.PURGE b", "BUCKET.RESTORE b");
    let flips = late == "flip";
    let (first, second) = if flips { (purge, restore) } else { (restore, purge) };
    let refused = if flips { NOT_REMOVED } else { NO_SUCH };

    let lost = (course != Course::Loses).then(|| cluster.lose("A", late));
    let held = cluster.hold("A", late);
    let one = cluster.ask("A", first);
    let purge_wins;
    if course == Course::WinsUnknown {
        let Some(lost) = lost else { return Err("nothing was lost".to_owned()) };
        lost.arrived().await;
        claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
        purge_wins = flips;
        cluster.expect("B", second, if flips { NO_SUCH } else { NOT_REMOVED }).await?;
        drop(held);
        one.expect("OK").await?;
    } else {
        held.arrived().await;
        purge_wins = !flips;
        cluster.expect("B", second, "OK").await?;
        if let Some(lost) = lost {
            let landed = lost.land();
            let refused = matches!(landed, Some(Err(StoreError::Conflict)));
            claim!(refused, "both won: the late {late} landed: {landed:?}");
        }
        let landed = held.release();
        let conflict = matches!(landed, Some(Err(StoreError::Conflict)));
        claim!(conflict, "both won: the {late} landed: {landed:?}");
        one.expect(refused).await?;
    }
    sleep(SOON).await;
    claim!(cluster.is_purged(&removed).await? == purge_wins, "the grave tells something else");
    let documents = cluster.documents(removed.bucket).await?;
    if purge_wins {
        claim!(cluster.raw_scan(removed.bucket).await? == 0, "the purge left keys");
        cluster.insert_later("B", "b", 2).expect(NO_SUCH).await?;
    } else {
        claim!(documents == 1, "{documents} documents were restored");
        cluster.insert("B", "b", 2).await?;
    }
    cluster.finish().await
}

/// Expiry, by cluster time, with nobody asking.
pub async fn what_has_expired_is_purged_and_not_before(mutations: Mutations) -> Claim {
    let cluster = one_bucket(mutations).await?;
    let removed = cluster.remove("A", "b RETAIN 30s").await?;
    sleep(Duration::from_secs(28)).await;
    claim!(!cluster.is_purged(&removed).await?, "purged before its time");
    cluster.purged(&removed, Duration::from_secs(15)).await?;
    let row = cluster.audit().await?.into_iter().find(|row| row.action == "purge");
    claim!(row.is_some_and(|row| row.by.user == "system:expiry"), "the author is another");
    cluster.finish().await
}

/// The worker's flip of what has expired, held, while somebody thinks better of it.
pub async fn a_restore_wins_over_an_expiry_under_way(mutations: Mutations) -> Claim {
    for keep in ["BUCKET.RESTORE b ALLOW-EXPIRED", "BUCKET.RETAIN b 1h"] {
        let cluster = one_bucket(mutations).await?;
        let flip = cluster.hold_any("flip");
        let removed = cluster.remove("A", "b RETAIN 2s").await?;
        flip.arrived().await;
        cluster.expect_start("B", "BUCKET.RESTORE b", "REMOVEDEXPIRED ").await?;
        cluster.expect("B", keep, "OK").await?;
        let landed = flip.release();
        claim!(
            matches!(landed, Some(Err(StoreError::Conflict))),
            "the flip committed against {keep}: {landed:?}"
        );
        sleep(LONG).await;
        claim!(!cluster.is_purged(&removed).await?, "purged against {keep}");
        claim!(cluster.documents(removed.bucket).await? == 1, "the document is gone");
        cluster.finish().await?;
    }
    Ok(())
}

/// RETAIN 0s.
pub async fn what_is_removed_without_retention_is_purged_at_once(mutations: Mutations) -> Claim {
    let cluster = one_bucket(mutations).await?;
    let removed = cluster.remove("A", "b RETAIN 0s").await?;
    cluster.purged(&removed, SOON).await?;
    // Not before everybody has let go of it.
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    let id = cluster.id("A", "b").await?;
    let work = cluster.work("B", id, Scope::Member, "scan")?;
    let removed = cluster.remove("A", "b RETAIN 0s").await?;
    sleep(SOON * 2).await;
    claim!(!cluster.is_purged(&removed).await?, "purged while work was open on it");
    drop(work);
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// HOLD, PURGE.PAUSE and RETAIN stop the expiry and PURGE; undoing them lets it happen.
pub async fn holds_and_pauses_keep_what_has_expired(mutations: Mutations) -> Claim {
    for (stop, refused, undo) in [
        ("BUCKET.HOLD b REASON audit", "HELD ", "BUCKET.UNHOLD b"),
        ("PURGE.PAUSE", "PURGEPAUSED ", "PURGE.RESUME"),
    ] {
        let cluster = one_bucket(mutations).await?;
        let removed = cluster.remove("A", "b RETAIN 10s").await?;
        cluster.expect("B", stop, "OK").await?;
        cluster.expect_start("A", "BUCKET.PURGE b", refused).await?;
        sleep(LONG).await;
        claim!(!cluster.is_purged(&removed).await?, "{stop} did not prevent the purge");
        cluster.expect("B", "BUCKET.RETAIN b 3600s", "OK").await?;
        cluster.expect("A", undo, "OK").await?;
        sleep(LONG).await;
        claim!(!cluster.is_purged(&removed).await?, "RETAIN did not prevent the purge");
        cluster.expect("B", "BUCKET.RETAIN b 5s", "OK").await?;
        cluster.purged(&removed, Duration::from_secs(20)).await?;
        // Of the refused attempt there is a row, too.
        let code = refused.trim();
        let rows = cluster.audit().await?;
        claim!(rows.iter().any(|row| row.outcome == code), "no audit row of the refusal");
        cluster.finish().await?;
    }
    // Undone after the expiry has passed, it is purged soon.
    let cluster = one_bucket(mutations).await?;
    let removed = cluster.remove("A", "b RETAIN 10s").await?;
    cluster.expect("B", "BUCKET.HOLD b REASON audit", "OK").await?;
    cluster.expect("B", "PURGE.PAUSE", "OK").await?;
    sleep(LONG).await;
    cluster.expect("B", "BUCKET.UNHOLD b", "OK").await?;
    sleep(LONG).await;
    claim!(!cluster.is_purged(&removed).await?, "the pause did not prevent the purge");
    cluster.expect("A", "PURGE.RESUME", "OK").await?;
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// A hold that comes between what the flip has read and its commit.
pub async fn a_hold_before_the_flip_commits_wins(mutations: Mutations) -> Claim {
    for (stop, refused) in [
        ("BUCKET.HOLD b REASON audit", "HELD Bucket 'b' is on hold by default: audit"),
        ("PURGE.PAUSE", "PURGEPAUSED Purging is paused since "),
    ] {
        let cluster = one_bucket(mutations).await?;
        let removed = cluster.remove("A", "b").await?;
        sleep(Duration::from_millis(200)).await;
        let flip = cluster.hold("A", "flip");
        let purge = cluster.ask("A", "BUCKET.PURGE b");
        flip.arrived().await;
        cluster.expect("B", stop, "OK").await?;
        let landed = flip.release();
        claim!(
            matches!(landed, Some(Err(StoreError::Conflict))),
            "the flip committed against {stop}: {landed:?}"
        );
        let answer = purge.line().await?;
        claim!(answer.starts_with(refused), "PURGE answered '{answer}'");
        sleep(SOON).await;
        claim!(!cluster.is_purged(&removed).await?, "purged against {stop}");
        cluster.finish().await?;
    }
    Ok(())
}

/// Clocks that cannot be trusted stop purging, and nothing else.
pub async fn nothing_is_purged_while_the_clocks_are_suspect(mutations: Mutations) -> Claim {
    let cluster = one_bucket(mutations).await?;
    cluster.expect("A", "BUCKET.CREATE c", "OK").await?;
    let b = cluster.remove("A", "b RETAIN 30m").await?;
    let c = cluster.remove("A", "c").await?;
    for node in ["A", "B"] {
        cluster.clock(node).jump(3_600_000);
    }
    sleep(SOON * 5).await;
    cluster.expect_start("B", "BUCKET.PURGE c", "CLOCKSUSPECT ").await?;
    sleep(LONG).await;
    claim!(!cluster.is_purged(&b).await?, "purged by a clock that nobody trusts");
    // Restoring goes on.
    cluster.expect("B", "BUCKET.RESTORE c", "OK").await?;
    let reply = cluster.run("A", "CLUSTER.DESCRIBE").await?;
    let stopped = line(field(&reply, "purging_stopped")?);
    claim!(stopped.contains("jumped"), "CLUSTER.DESCRIBE tells '{stopped}'");
    cluster.run("A", "CLUSTER.CLOCK CONFIRM").await?;
    cluster.purged(&b, Duration::from_secs(20)).await?;
    claim!(!cluster.is_purged(&c).await?, "the restored bucket was purged");
    cluster.finish().await
}

/// RESERVE-NAME.
pub async fn a_reserved_name_is_taken_until_the_purge(mutations: Mutations) -> Claim {
    let cluster = one_bucket(mutations).await?;
    let removed = cluster.remove("A", "b RESERVE-NAME").await?;
    let taken = "BUCKETBEINGREMOVED Bucket 'b' is being removed";
    cluster.expect("B", "BUCKET.CREATE b", taken).await?;
    cluster.expect("B", "BUCKET.CREATE b IF-NOT-EXISTS", taken).await?;
    cluster.expect("B", "BUCKET.CREATE c", "OK").await?;
    cluster.expect("B", "BUCKET.RENAME c b", taken).await?;
    let other = cluster.remove("B", "c").await?;
    cluster.expect("B", &format!("BUCKET.RESTORE {} AS b", other.removal), taken).await?;
    // Its own restore may take it, also back again.
    cluster.expect("B", "BUCKET.RESTORE b", "OK").await?;
    let again = cluster.remove("B", "b RESERVE-NAME").await?;
    cluster.expect("A", "BUCKET.CREATE b", taken).await?;
    cluster.expect("A", "BUCKET.PURGE b", "OK").await?;
    cluster.purged(&again, SOON).await?;
    claim!(!cluster.is_purged(&removed).await?, "the restored removal was purged");
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    cluster.finish().await
}

/// The same instance with all it had, also under another name and in another
/// namespace, while its trims were due.
pub async fn a_restore_gives_back_exactly_what_was_removed(mutations: Mutations) -> Claim {
    let cluster = one_bucket(mutations).await?;
    cluster.expect("A", "NAMESPACE CREATE other", "OK").await?;
    for number in 2..=10 {
        cluster.insert("A", "b", number).await?;
    }
    let id = cluster.id("A", "b").await?;
    let prefix = lethe::codec::keys::data_prefix(id);
    let before = cluster.rows(&prefix).await?;
    let removed = cluster.remove("A", "b").await?;
    // The name goes on to another life meanwhile.
    cluster.expect("B", "BUCKET.CREATE b", "OK").await?;
    cluster.insert("B", "b", 1).await?;
    let taken = "BUCKETALREADYEXISTS Bucket already exists: b";
    cluster.expect("B", "BUCKET.RESTORE b", taken).await?;
    cluster.expect("B", "BUCKET.RESTORE b INTO other AS kept", "OK").await?;
    claim!(cluster.rows(&prefix).await? == before, "the restored bucket is not what it was");
    let catalog = cluster.node("A").lifecycle().catalog();
    let (found, record) = catalog.bucket("other", "kept").await.map_err(fail)?;
    claim!(found == id && record.name == "kept", "another instance came back");
    claim!(catalog.bucket(NAMESPACE, "b").await.is_ok(), "the namesake is gone");
    claim!(!cluster.is_purged(&removed).await?, "a restored removal was purged");
    cluster.finish().await
}
