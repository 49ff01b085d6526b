//! Retention limits, locks and quotas of namespaces: what each refuses, at which moment it
//! is judged, and that nobody gets around it.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::store::Error as StoreError;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, field, line};
use crate::namespaces::{seat, world};

/// Longer than any worker sleeps.
const LONG: Duration = Duration::from_secs(90);
/// Longer than counting takes to come.
const COUNTED: Duration = Duration::from_secs(5);

/// By no command, no option and no detour.
pub async fn under_compliance_nothing_goes_before_its_time(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut a = seat(&cluster, "A", "n.x").await?;
    let mut b = seat(&cluster, "B", "n.x").await?;
    let lock = "NAMESPACE POLICY n SET lock compliance retention 30d tombstone-retention 10d";
    b.expect(lock, "OK").await?;
    for (command, refused) in [
        ("BUCKET.REMOVE b RETAIN 1d", "RETENTIONOUTOFRANGE"),
        ("BUCKET.REMOVE b RETAIN 0s BYPASS-GOVERNANCE", "RETENTIONOUTOFRANGE"),
        ("NAMESPACE REMOVE n RETAIN 1d", "RETENTIONOUTOFRANGE"),
        ("BUCKET.DELETE b {} RETAIN 1d", "RETENTIONOUTOFRANGE"),
        ("BUCKET.ALTER b TOMBSTONE-RETENTION 1d", "RETENTIONOUTOFRANGE"),
        ("BUCKET.CREATE c TOMBSTONE-RETENTION 1d", "RETENTIONOUTOFRANGE"),
        ("NAMESPACE MOVE n.x y", "HELD"),
        ("NAMESPACE MOVE n.x y BYPASS-GOVERNANCE", "HELD"),
        ("NAMESPACE POLICY n UNSET lock", "HELD"),
        ("NAMESPACE POLICY n SET lock governance", "HELD"),
        ("NAMESPACE POLICY n SET retention 29d", "HELD"),
        ("NAMESPACE POLICY n.x SET retention 29d", "HELD"),
        ("NAMESPACE POLICY n.x SET retention-max 1d", "HELD"),
    ] {
        a.expect_start(command, refused).await?;
    }
    a.done("BUCKET.DELETE b {}").await?;
    a.expect_start("BUCKET.EXPUNGE b {} BYPASS-GOVERNANCE", "HELD").await?;
    let vacuumed = a.done("BUCKET.VACUUM b").await?;
    claim!(line(field(&vacuumed, "purged")?) == "0", "vacuumed {}", line(&vacuumed));
    a.expect("BUCKET.REMOVE b", "OK").await?;
    for command in [
        "BUCKET.PURGE b",
        "BUCKET.PURGE b BYPASS-GOVERNANCE",
        "BUCKET.RETAIN b 29d",
        "BUCKET.RETAIN b 29d BYPASS-GOVERNANCE",
        "BUCKET.RESTORE b INTO global",
        "BUCKET.RESTORE b INTO global BYPASS-GOVERNANCE",
    ] {
        a.expect_start(command, "HELD").await?;
    }
    a.expect("BUCKET.RETAIN b 40d", "OK").await?;
    a.expect_start("BUCKET.RETAIN b 35d", "HELD").await?;
    a.expect("NAMESPACE POLICY n SET retention 31d", "OK").await?;
    // Brought back and taken out is no way either.
    a.expect("BUCKET.RESTORE b", "OK").await?;
    a.expect_start("NAMESPACE POLICY n UNSET lock", "HELD").await?;
    a.expect("BUCKET.REMOVE b", "OK").await?;
    a.expect("NAMESPACE REMOVE n", "OK").await?;
    b.expect_start("NAMESPACE PURGE n", "HELD Namespace 'n' is locked until").await?;
    b.expect("NAMESPACE RESTORE n AS m", "OK").await?;
    cluster.finish().await
}

/// When the time is over everything goes by itself, and an empty namespace is free.
pub async fn a_lock_ends_when_the_time_is_over(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut a = seat(&cluster, "A", "n.x").await?;
    a.expect("NAMESPACE POLICY n SET lock compliance retention 60s", "OK").await?;
    a.expect("BUCKET.REMOVE b", "OK").await?;
    a.expect_start("BUCKET.PURGE b", "HELD").await?;
    sleep(Duration::from_secs(30)).await;
    a.expect_start("BUCKET.PURGE b", "HELD").await?;
    sleep(LONG).await;
    a.expect("BUCKET.REMOVED", "[]").await?;
    a.expect_start("NAMESPACE POLICY n UNSET lock", "HELD").await?;
    a.expect("NAMESPACE REMOVE n.x", "OK").await?;
    sleep(LONG + LONG).await;
    let mut global = seat(&cluster, "A", "global").await?;
    global.expect("NAMESPACE POLICY n UNSET lock", "OK").await?;
    cluster.finish().await
}

/// Governance is passed by only by who says so, and the minimum by nobody.
pub async fn governance_yields_to_who_says_so_and_a_minimum_to_nobody(
    mutations: Mutations,
) -> Claim {
    let cluster = world(mutations).await?;
    let mut a = seat(&cluster, "A", "n.x").await?;
    a.expect("NAMESPACE POLICY n SET lock governance retention 30d", "OK").await?;
    a.expect_start("BUCKET.REMOVE b RETAIN 1d", "RETENTIONOUTOFRANGE").await?;
    a.expect_start("NAMESPACE MOVE n.x y", "HELD").await?;
    a.expect("BUCKET.REMOVE b RETAIN 20d BYPASS-GOVERNANCE", "OK").await?;
    a.expect_start("BUCKET.RETAIN b 10d", "HELD").await?;
    a.expect("BUCKET.RETAIN b 10d BYPASS-GOVERNANCE", "OK").await?;
    a.expect_start("BUCKET.PURGE b", "HELD Bucket 'b' is locked until").await?;
    a.expect_start("BUCKET.RESTORE b INTO global", "HELD").await?;
    a.expect("NAMESPACE POLICY n SET retention-min 5d", "OK").await?;
    a.expect_start("BUCKET.PURGE b BYPASS-GOVERNANCE", "HELD Bucket 'b' is kept until").await?;
    a.expect_start("BUCKET.RETAIN b 4d BYPASS-GOVERNANCE", "RETENTIONOUTOFRANGE").await?;
    a.expect("NAMESPACE POLICY n UNSET retention-min", "OK").await?;
    // RETAIN was refused, so nothing but the lock was promised.
    a.expect("BUCKET.PURGE b BYPASS-GOVERNANCE", "OK").await?;
    cluster.finish().await
}

/// What was in force at the removal and what is in force now: the strictest.
pub async fn a_removal_keeps_the_strictest_of_then_and_now(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut a = seat(&cluster, "A", "n.x").await?;
    a.expect("NAMESPACE POLICY n SET retention-min 1h retention-max 8d", "OK").await?;
    a.expect_start("BUCKET.REMOVE b RETAIN 9d", "RETENTIONOUTOFRANGE").await?;
    a.expect_start("BUCKET.REMOVE b RETAIN forever", "RETENTIONOUTOFRANGE").await?;
    a.expect("BUCKET.REMOVE b RETAIN 2h", "OK").await?;
    a.expect("NAMESPACE POLICY n UNSET retention-min retention-max", "OK").await?;
    a.expect_start("BUCKET.PURGE b", "HELD Bucket 'b' is kept until").await?;
    a.expect_start("BUCKET.RETAIN b 1m", "RETENTIONOUTOFRANGE").await?;
    // A limit that comes later.
    a.expect("BUCKET.CREATE c", "OK").await?;
    a.expect("BUCKET.REMOVE c RETAIN 30s", "OK").await?;
    a.expect("NAMESPACE POLICY n.x SET retention-min 1h", "OK").await?;
    sleep(LONG).await;
    a.expect_start("BUCKET.PURGE c", "HELD").await?;
    let shown = a.say("BUCKET.REMOVED c").await;
    claim!(shown.contains("lock: minimum"), "{shown}");
    cluster.finish().await
}

/// A policy below something that is removed, and what was promised below something that is
/// purged.
pub async fn what_is_above_a_lock_waits_for_it(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut a = seat(&cluster, "A", "n.x").await?;
    let mut global = seat(&cluster, "B", "global").await?;
    a.expect("NAMESPACE POLICY n.x SET lock compliance retention 300s", "OK").await?;
    global
        .expect_start("NAMESPACE REMOVE n", "HELD Namespace 'n.x' has a policy of its own")
        .await?;
    global.expect("NAMESPACE MOVE n k.l", "OK").await?;
    global.expect_start("NAMESPACE REMOVE k", "HELD Namespace 'k.l.x'").await?;
    global.expect("NAMESPACE MOVE k.l n", "OK").await?;
    global.expect("NAMESPACE REMOVE k", "OK").await?;
    global.expect("NAMESPACE REMOVE n.x", "OK").await?;
    global.expect("NAMESPACE REMOVE n RETAIN 10s", "OK").await?;
    global.expect_start("NAMESPACE PURGE n", "HELD Namespace 'n.x' is locked until").await?;
    sleep(LONG).await;
    let shown = global.say("NAMESPACE REMOVED").await;
    claim!(shown.contains("n.x"), "it went before its time: {shown}");
    sleep(LONG * 5).await;
    global.expect_start("NAMESPACE DESCRIBE n", "NOSUCHNAMESPACE").await?;
    cluster.finish().await
}

/// A policy that is changed while a command is about to commit is obeyed by it.
pub async fn a_policy_is_judged_in_the_commit(mutations: Mutations) -> Claim {
    for (label, prepare, command, refused) in [
        ("remove", None, "BUCKET.REMOVE b RETAIN 1s", "RETENTIONOUTOFRANGE"),
        ("flip", Some("BUCKET.REMOVE b"), "BUCKET.PURGE b", "HELD"),
        ("retain", Some("BUCKET.REMOVE b"), "BUCKET.RETAIN b 1m", "RETENTIONOUTOFRANGE"),
        ("restore", Some("BUCKET.REMOVE b"), "BUCKET.RESTORE b INTO other", "HELD"),
        ("delete", None, "BUCKET.DELETE b {} RETAIN 1s", "RETENTIONOUTOFRANGE"),
    ] {
        let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
        cluster.expect("A", "NAMESPACE CREATE other", "OK").await?;
        cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
        cluster.insert("A", "b", 1).await?;
        if let Some(prepare) = prepare {
            cluster.expect("A", prepare, "OK").await?;
            sleep(Duration::from_secs(3)).await;
        }
        let held = cluster.hold("A", label);
        let asked = cluster.ask("A", command);
        held.arrived().await;
        let policy = "NAMESPACE POLICY global SET lock compliance retention-min 1h \
                      tombstone-retention-min 1h";
        cluster.expect("B", policy, "OK").await?;
        let landed = held.release();
        claim!(
            matches!(landed, Some(Err(StoreError::Conflict))),
            "{command} committed against the policy: {landed:?}"
        );
        let answer = asked.line().await?;
        claim!(answer.starts_with(refused), "{command} answered '{answer}'");
        cluster.finish().await?;
    }
    // And the other way about: what is made while a lock is being lifted keeps it.
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "NAMESPACE CREATE n", "OK").await?;
    cluster.expect("A", "NAMESPACE POLICY n SET lock compliance", "OK").await?;
    let mut a = seat(&cluster, "A", "n").await?;
    let held = cluster.hold("B", "namespace-policy");
    let asked = cluster.ask("B", "NAMESPACE POLICY n UNSET lock");
    held.arrived().await;
    a.expect("BUCKET.CREATE b", "OK").await?;
    claim!(matches!(held.release(), Some(Err(StoreError::Conflict))), "the lock was lifted");
    let answer = asked.line().await?;
    claim!(answer.starts_with("HELD"), "answered '{answer}'");
    cluster.finish().await
}

/// Writes are refused, what makes room is not, on every node.
pub async fn a_quota_refuses_writes_and_nothing_that_makes_room(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let (mut a, mut b) = (seat(&cluster, "A", "n.x").await?, seat(&cluster, "B", "n.x").await?);
    a.expect("NAMESPACE POLICY n SET quota-documents 3", "OK").await?;
    for client in [&mut a, &mut b] {
        client.done("BUCKET.INSERT b DOCS {}").await?;
    }
    sleep(COUNTED).await;
    for client in [&mut a, &mut b] {
        let full = "QUOTAEXCEEDED Namespace 'n': 3 of 3 documents, removed ones included";
        client.expect_start("BUCKET.INSERT b DOCS {}", full).await?;
        // What changes a document and adds none is no matter of documents.
        client.done("BUCKET.UPDATE b {} {\"$set\":{\"k\":1}}").await?;
    }
    a.done("BUCKET.DELETE b {} LIMIT 1").await?;
    sleep(COUNTED).await;
    a.done("BUCKET.UNDELETE b {}").await?;
    sleep(COUNTED).await;
    a.expect_start("BUCKET.INSERT b DOCS {}", "QUOTAEXCEEDED").await?;
    a.expect("BUCKET.REMOVE b", "OK").await?;
    a.expect("BUCKET.CREATE c", "OK").await?;
    sleep(COUNTED).await;
    // What is removed still counts, unless the policy says otherwise.
    a.expect_start("BUCKET.INSERT c DOCS {}", "QUOTAEXCEEDED").await?;
    a.expect("NAMESPACE POLICY n.x SET quota-bytes 1000000 quota-counts-removed no", "OK").await?;
    a.expect_start("BUCKET.INSERT c DOCS {}", "QUOTAEXCEEDED Namespace 'n'").await?;
    a.expect("NAMESPACE POLICY n SET quota-counts-removed no", "OK").await?;
    sleep(COUNTED).await;
    a.done("BUCKET.INSERT c DOCS {}").await?;
    sleep(COUNTED).await;
    a.done("BUCKET.INSERT c DOCS {}").await?;
    sleep(COUNTED).await;
    a.expect_start("BUCKET.RESTORE b", "QUOTAEXCEEDED").await?;
    a.expect("BUCKET.REMOVE c", "OK").await?;
    sleep(COUNTED).await;
    a.expect("BUCKET.RESTORE b", "OK").await?;
    a.expect("BUCKET.PURGE c", "OK").await?;
    sleep(COUNTED).await;
    let described = a.done("NAMESPACE POLICY n").await?;
    claim!(line(&described).contains("documents: 3"), "{}", line(&described));
    cluster.finish().await
}

/// Every refused attempt to destroy something is in the audit log, and every change.
pub async fn refused_attempts_are_in_the_audit_log(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut a = seat(&cluster, "A", "n.x").await?;
    let mut expected = Vec::new();
    for (command, action, outcome) in [
        (
            "NAMESPACE POLICY n SET lock compliance retention 10d tombstone-retention 10d",
            "policy",
            "OK",
        ),
        ("NAMESPACE POLICY n UNSET lock", "policy", "HELD"),
        ("NAMESPACE MOVE n.x y", "move", "HELD"),
        ("BUCKET.REMOVE b RETAIN 1s", "remove", "RETENTIONOUTOFRANGE"),
        ("BUCKET.DELETE b {} RETAIN 1s", "delete", "RETENTIONOUTOFRANGE"),
        ("BUCKET.ALTER b TOMBSTONE-RETENTION 1s", "alter", "RETENTIONOUTOFRANGE"),
        ("BUCKET.CREATE c TOMBSTONE-RETENTION 1s", "create", "RETENTIONOUTOFRANGE"),
        ("BUCKET.PROTECT b ON", "protect", "OK"),
        ("BUCKET.REMOVE b", "remove", "PROTECTED"),
        ("NAMESPACE REMOVE n", "remove", "PROTECTED"),
        ("BUCKET.PROTECT b OFF", "unprotect", "OK"),
        ("BUCKET.REMOVE b", "remove", "OK"),
        ("BUCKET.PURGE b", "purge", "HELD"),
        ("BUCKET.RETAIN b 1h", "retain", "HELD"),
        ("BUCKET.RETAIN b UNTIL 2001-01-01T00:00:00Z", "retain", "RETENTIONOUTOFRANGE"),
        ("BUCKET.RESTORE b INTO global", "restore", "HELD"),
        ("BUCKET.RETAIN b 20d", "retain", "OK"),
        ("BUCKET.HOLD b REASON why", "hold", "OK"),
        ("BUCKET.UNHOLD b", "unhold", "OK"),
        ("BUCKET.RESTORE b", "restore", "OK"),
        ("PURGE.PAUSE", "purge-pause", "OK"),
        ("BUCKET.VACUUM b", "vacuum", "PURGEPAUSED"),
        ("PURGE.RESUME", "purge-resume", "OK"),
    ] {
        let answer = a.say(command).await;
        claim!(answer.starts_with(outcome), "'{command}' answered '{answer}'");
        expected.push((action, outcome));
    }
    a.done("BUCKET.DELETE b {}").await?;
    a.expect_start("BUCKET.EXPUNGE b {}", "HELD").await?;
    expected.push(("expunge", "HELD"));
    sleep(COUNTED).await;
    let audit = cluster.audit().await?;
    for (action, outcome) in expected {
        claim!(
            audit.iter().any(|row| row.action == action && row.outcome == outcome),
            "no row '{action}' with '{outcome}' in {audit:?}"
        );
    }
    cluster.finish().await
}

/// Wherever a hold is shown, and in the metrics.
pub async fn a_hold_shows_that_its_review_date_has_passed(mutations: Mutations) -> Claim {
    let cluster = Cluster::with(&["A"], mutations, |_| {}).await?;
    let holds = [("b", "2026-01-01T00:00:00Z", true), ("c", "2999-01-01T00:00:00Z", false)];
    for (name, review, _) in holds {
        cluster.expect("A", &format!("BUCKET.CREATE {name}"), "OK").await?;
        cluster.expect("A", &format!("BUCKET.REMOVE {name}"), "OK").await?;
        let hold = format!("BUCKET.HOLD {name} REASON why REVIEW {review}");
        cluster.expect("A", &hold, "OK").await?;
    }
    for (name, _, overdue) in holds {
        for command in ["BUCKET.REMOVED", "BUCKET.DESCRIBE"] {
            let shown = line(&cluster.run("A", &format!("{command} {name}")).await?);
            claim!(shown.contains("hold: {owner: default, reason: why, review_at: 2"), "{shown}");
            claim!(shown.contains(&format!("review_overdue: {overdue}")), "{shown}");
        }
    }
    sleep(LONG).await;
    let census = cluster.node("A").lifecycle().meters().census();
    claim!((census.holds, census.holds_overdue) == (2, 1), "{census:?}");
    cluster.finish().await
}
