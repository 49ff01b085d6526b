//! Ways around a policy: who may do all that some user may, short of what the policy forbids him,
//! does not get it by a detour. What a policy forbids outright is in `policy` and `compliance`.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::codec::keys;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, fail, field, line};
use crate::namespaces::{seat, world};
use crate::seat::Seat;

/// Longer than any worker sleeps.
const LONG: Duration = Duration::from_secs(90);
/// Longer than counting takes to come.
const COUNTED: Duration = Duration::from_secs(5);
/// All rights but those of an administrator.
const NO_ADMIN: &str = "~* +@read +@write +@remove +@restore +@purge +@hold";

/// A client of node A who has logged in as a new user with these rules.
async fn user(cluster: &Cluster, name: &str, rules: &str, namespace: &str) -> Claim<Seat> {
    let rules = format!("ACL SETUSER {name} on >geheim {rules}");
    cluster.expect("A", &rules, "OK").await?;
    let mut seat = Seat::at(cluster, "A");
    seat.expect(&format!("AUTH {name} geheim"), "OK").await?;
    seat.expect(&format!("NAMESPACE USE {namespace}"), "OK").await?;
    Ok(seat)
}

/// How long something is kept that is removed here, as DESCRIBE has it.
async fn kept(seat: &mut Seat, namespace: &str) -> Claim<String> {
    let removed = seat.done(&format!("NAMESPACE DESCRIBE {namespace}")).await?;
    Ok(line(field(field(&removed, "policy")?, "retention")?))
}

/// Neither without a lock nor past one of governance, for what is active and what is removed.
pub async fn a_minimum_is_left_by_no_detour(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    let mut bob = user(&cluster, "bob", NO_ADMIN, "n.x").await?;
    for namespace in ["free", "n.y.z"] {
        root.expect(&format!("NAMESPACE CREATE {namespace}"), "OK").await?;
    }
    root.expect("NAMESPACE POLICY n SET retention-min 30d", "OK").await?;
    bob.expect("BUCKET.REMOVE b", "OK").await?;
    bob.expect_start("BUCKET.PURGE b", "HELD").await?;
    let bound = "HELD Bucket 'b' is bound by the minimum 30d of namespace 'n'";
    bob.expect_start("BUCKET.RESTORE b INTO free", bound).await?;
    root.expect_start("BUCKET.RESTORE b INTO free BYPASS-GOVERNANCE", bound).await?;
    let bound = "HELD Namespace 'n.y' is bound by the minimum 30d of namespace 'n'";
    bob.expect_start("NAMESPACE MOVE n.y free.y", bound).await?;
    root.expect("NAMESPACE POLICY n SET lock governance", "OK").await?;
    root.expect_start("NAMESPACE MOVE n.y free.y BYPASS-GOVERNANCE", bound).await?;
    bob.expect("NAMESPACE REMOVE n.y", "OK").await?;
    root.expect_start("NAMESPACE RESTORE n.y AS free.y BYPASS-GOVERNANCE", bound).await?;
    bob.expect("NAMESPACE RESTORE n.y AS n.w", "OK").await?;
    bob.expect("NAMESPACE MOVE n.w n.y", "OK").await?;
    // It is promised what was in force: what is left of it.
    let all = "lock retention retention-min tombstone-retention";
    root.expect(&format!("NAMESPACE POLICY n UNSET {all}"), "OK").await?;
    bob.expect_start("BUCKET.RESTORE b INTO free", "HELD Bucket 'b' is").await?;
    root.expect("NAMESPACE POLICY free SET retention-min 30d", "OK").await?;
    bob.expect("BUCKET.RESTORE b INTO free", "OK").await?;
    // Out of a removed namespace that was promised something, too.
    root.expect("NAMESPACE POLICY n SET retention-min 40d", "OK").await?;
    let mut inside = seat(&cluster, "A", "n.y.z").await?;
    inside.expect("BUCKET.CREATE c", "OK").await?;
    let id = line(field(&inside.done("BUCKET.DESCRIBE c").await?, "id")?);
    bob.expect("NAMESPACE REMOVE n.y", "OK").await?;
    root.expect("NAMESPACE POLICY n UNSET retention-min", "OK").await?;
    bob.expect_start(&format!("BUCKET.RESTORE {id} INTO free"), "HELD Bucket 'c' is").await?;
    bob.expect("NAMESPACE RESTORE n.y", "OK").await?;
    // That of deleted documents as well.
    root.expect("NAMESPACE POLICY n SET tombstone-retention-min 9d", "OK").await?;
    bob.expect_start("NAMESPACE MOVE n.y free.y", "HELD").await?;
    cluster.finish().await
}

/// What is taken to where it is kept for less is destroyed sooner.
pub async fn to_where_less_is_kept_takes_the_right_to_purge(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    let rules = "~* +@read +@write +@remove +@restore";
    let mut ada = user(&cluster, "ada", rules, "n.x").await?;
    root.expect("NAMESPACE CREATE brief", "OK").await?;
    root.expect("NAMESPACE POLICY brief SET retention 1h", "OK").await?;
    let denied = "NOPERM User ada has no permissions to run the";
    ada.expect_start("NAMESPACE MOVE n.x brief.x", denied).await?;
    ada.expect("BUCKET.REMOVE b", "OK").await?;
    ada.expect_start("BUCKET.RESTORE b INTO brief", denied).await?;
    ada.expect("NAMESPACE REMOVE n.x", "OK").await?;
    ada.expect_start("NAMESPACE RESTORE n.x AS brief.x", denied).await?;
    ada.expect("NAMESPACE RESTORE n.x", "OK").await?;
    // Where it is kept as long, or longer, it may go.
    root.expect("NAMESPACE POLICY brief SET retention 60d", "OK").await?;
    ada.expect("NAMESPACE MOVE n.x brief.x", "OK").await?;
    // And it may with the right, where it comes from.
    let rules = "~* +@read +@write +@remove +@restore (~brief ~brief.* +@purge)";
    let mut carl = user(&cluster, "carl", rules, "brief.x").await?;
    carl.expect("BUCKET.RESTORE b INTO n", "OK").await?;
    cluster.finish().await
}

/// A lock of compliance rests on what is in force, also where shorter values were set before.
pub async fn a_lock_of_compliance_pins_what_is_in_force(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    // A default that a lock above has made longer.
    root.expect("NAMESPACE POLICY n.x SET retention 10d", "OK").await?;
    root.expect("NAMESPACE POLICY n SET lock governance retention 30d", "OK").await?;
    root.expect("NAMESPACE POLICY n.x SET lock compliance", "OK").await?;
    root.expect("NAMESPACE POLICY n SET lock none retention 1d", "OK").await?;
    let shown = kept(&mut root, "n.x").await?;
    claim!(shown.contains("30d"), "n.x keeps for {shown}");
    // A minimum above one's own.
    root.expect("NAMESPACE CREATE m.x", "OK").await?;
    root.expect("NAMESPACE POLICY m.x SET retention 10d retention-min 5d", "OK").await?;
    root.expect("NAMESPACE POLICY m SET retention-min 30d", "OK").await?;
    root.expect("NAMESPACE POLICY m.x SET lock compliance", "OK").await?;
    root.expect("NAMESPACE POLICY m UNSET retention-min", "OK").await?;
    let shown = kept(&mut root, "m.x").await?;
    claim!(shown.contains("30d"), "m.x keeps for {shown}");
    // A minimum above a maximum, both from above.
    root.expect("NAMESPACE CREATE k.l.x", "OK").await?;
    root.expect("NAMESPACE POLICY k SET retention-max 3d", "OK").await?;
    root.expect("NAMESPACE POLICY k.l SET quota-documents 100", "OK").await?;
    root.expect("NAMESPACE CREATE k.l.x.y", "OK").await?;
    root.expect("NAMESPACE POLICY k.l.x SET retention-max 4d", "OK").await?;
    root.expect("NAMESPACE POLICY k UNSET retention-max", "OK").await?;
    root.expect("NAMESPACE POLICY k SET retention-min 9d", "OK").await?;
    root.expect("NAMESPACE POLICY k.l.x.y SET lock compliance", "OK").await?;
    let shown = kept(&mut root, "k.l.x.y").await?;
    claim!(shown.contains("9d"), "k.l.x.y keeps for {shown}");
    // What is asked for is not changed.
    let asked = "NAMESPACE POLICY k.l SET lock compliance retention 2d";
    root.expect_start(asked, "RETENTIONOUTOFRANGE").await?;
    // What is tightened above later can be loosened there again.
    root.expect("NAMESPACE POLICY n SET retention 50d retention-min 50d", "OK").await?;
    root.expect("NAMESPACE POLICY n.x SET quota-documents 100", "OK").await?;
    root.expect("NAMESPACE POLICY n SET retention 1d retention-min 1d", "OK").await?;
    let shown = kept(&mut root, "n.x").await?;
    claim!(shown.contains("30d"), "n.x keeps for {shown}");
    cluster.finish().await
}

/// One of governance says what is kept, too: nothing below says less.
pub async fn a_lock_of_governance_pins_the_defaults(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    root.expect("NAMESPACE POLICY n.x SET retention 1h", "OK").await?;
    root.expect("NAMESPACE POLICY n SET lock governance", "OK").await?;
    let shown = kept(&mut root, "n.x").await?;
    claim!(shown.contains("7d"), "n.x keeps for {shown}");
    root.expect_start("NAMESPACE POLICY n.x SET retention 2h", "HELD").await?;
    // What was written down is no retention that somebody asked for.
    root.expect("NAMESPACE POLICY n SET retention-min 9d", "OK").await?;
    root.expect("NAMESPACE POLICY n UNSET retention-min", "OK").await?;
    root.expect("NAMESPACE POLICY n.x SET retention-max 100d", "OK").await?;
    root.expect_start("BUCKET.REMOVE b RETAIN 101d", "RETENTIONOUTOFRANGE").await?;
    // Neither where it is moved to.
    root.expect("NAMESPACE CREATE m", "OK").await?;
    root.expect("NAMESPACE POLICY m SET lock governance", "OK").await?;
    root.expect("NAMESPACE POLICY n.x UNSET retention-max", "OK").await?;
    root.expect("NAMESPACE MOVE n.x m.x", "OK").await?;
    let shown = kept(&mut root, "m.x").await?;
    claim!(shown.contains("7d"), "m.x keeps for {shown}");
    cluster.finish().await
}

/// Restoring ends a hold, which takes the right to lift it, and stands in the audit log.
pub async fn a_hold_ends_with_a_restore_only_for_who_may_lift_it(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    let rules = "~* +@read +@write +@remove +@restore";
    let mut bob = user(&cluster, "bob", rules, "n.x").await?;
    let mut own = user(&cluster, "own", "~* +@read +@remove +@restore-own", "n.x").await?;
    let mut auditor =
        user(&cluster, "auditor", "~* +@read +@write +@hold +@restore", "n.x").await?;
    root.expect("NAMESPACE CREATE free", "OK").await?;
    root.expect("BUCKET.CREATE inside", "OK").await?;
    root.expect("BUCKET.CREATE removed", "OK").await?;
    let inside = line(field(&root.done("BUCKET.DESCRIBE inside").await?, "id")?);
    let removed = line(field(&root.done("BUCKET.DESCRIBE removed").await?, "id")?);
    own.expect("BUCKET.REMOVE b", "OK").await?;
    auditor.expect("BUCKET.HOLD b REASON trial", "OK").await?;
    for command in
        ["BUCKET.RESTORE b", "BUCKET.RESTORE b AS c", "BUCKET.RESTORE b INTO free DRYRUN"]
    {
        let denied = "NOPERM User bob has no permissions to run the 'bucket.restore' command in \
                      namespace 'n.x': it takes @hold";
        bob.expect_start(command, denied).await?;
    }
    own.expect_start("BUCKET.RESTORE b", "NOPERM").await?;
    auditor.done("BUCKET.RESTORE b DRYRUN").await?;
    auditor.expect("BUCKET.RESTORE b", "OK").await?;
    // What is in something held is held as well.
    bob.expect("BUCKET.REMOVE removed", "OK").await?;
    bob.expect("NAMESPACE REMOVE n.x", "OK").await?;
    auditor.expect("NAMESPACE HOLD n.x REASON court", "OK").await?;
    bob.expect("NAMESPACE REMOVE n", "OK").await?;
    for id in [&inside, &removed] {
        let out = format!("BUCKET.RESTORE {id} INTO free");
        bob.expect_start(&out, "NOPERM").await?;
        auditor.expect(&out, "OK").await?;
    }
    bob.expect("NAMESPACE RESTORE n", "OK").await?;
    for command in ["NAMESPACE RESTORE n.x", "NAMESPACE RESTORE n.x AS free.x"] {
        bob.expect_start(command, "NOPERM").await?;
    }
    auditor.expect_start("NAMESPACE RESTORE n.x", "OK").await?;
    sleep(COUNTED).await;
    let audit = cluster.audit().await?;
    let rows = |action: &str, outcome: &str| {
        audit
            .iter()
            .filter(|row| row.action == action && row.outcome == outcome)
            .map(|row| {
                let reason = row.reason.clone().unwrap_or_default();
                (row.by.user.clone(), format!("{}/{}", row.namespace, row.bucket), reason)
            })
            .collect::<Vec<_>>()
    };
    let said = |what: &str, hold: &str| format!("restored; {what} was on hold by auditor: {hold}");
    let lifted = |place: &str, reason: String| ("auditor".to_owned(), place.to_owned(), reason);
    let expected = vec![
        lifted("n.x/b", said("bucket 'b'", "trial")),
        lifted("free/inside", said("namespace 'n.x'", "court")),
        lifted("free/removed", said("namespace 'n.x'", "court")),
        lifted("n.x/", said("namespace 'n.x'", "court")),
    ];
    let found = rows("unhold", "OK");
    claim!(found == expected, "lifted are {found:?} instead of {expected:?}");
    let refused = rows("restore", "NOPERM");
    for place in ["n.x/b", "n.x/"] {
        let is = |(by, at, _): &(String, String, String)| by == "bob" && at == place;
        claim!(refused.iter().any(is), "no refusal of '{place}' in {refused:?}");
    }
    cluster.finish().await
}

/// A minimum that comes after a document was deleted keeps it from going with what it lies in.
pub async fn deleted_documents_keep_what_they_lie_in_for_their_minimum(
    mutations: Mutations,
) -> Claim {
    what_deleted_documents_lie_in_waits(mutations, "none").await
}

/// As without a lock.
pub async fn deleted_documents_keep_what_they_lie_in_under_compliance(
    mutations: Mutations,
) -> Claim {
    what_deleted_documents_lie_in_waits(mutations, "compliance").await
}

async fn what_deleted_documents_lie_in_waits(mutations: Mutations, lock: &str) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    root.expect("BUCKET.CREATE empty", "OK").await?;
    let policy = format!("NAMESPACE POLICY n SET lock {lock} retention 60s");
    root.expect(&format!("{policy} tombstone-retention 60s"), "OK").await?;
    root.done("BUCKET.DELETE b {}").await?;
    let longer = "NAMESPACE POLICY n SET tombstone-retention 6m tombstone-retention-min 6m";
    root.expect(longer, "OK").await?;
    root.expect_start("BUCKET.EXPUNGE b {}", "HELD").await?;
    let retain = if lock == "none" { " RETAIN 0s" } else { "" };
    root.expect(&format!("BUCKET.REMOVE b{retain}"), "OK").await?;
    // Nothing was deleted in it.
    root.expect(&format!("BUCKET.REMOVE empty{retain}"), "OK").await?;
    sleep(LONG).await;
    root.expect_start("BUCKET.PURGE empty", "NOSUCHBUCKET").await?;
    let held = "HELD A deleted document of bucket 'b' is";
    let said = root.say("BUCKET.PURGE b").await;
    claim!(said.starts_with("HELD"), "under '{lock}' PURGE answered '{said}'");
    claim!(lock != "none" || said.starts_with(held), "{said}");
    // Nor with a namespace, active or removed on its own before.
    root.expect("BUCKET.RESTORE b ALLOW-EXPIRED", "OK").await?;
    let mut global = seat(&cluster, "B", "global").await?;
    global.expect(&format!("NAMESPACE REMOVE n.x{retain}"), "OK").await?;
    sleep(LONG).await;
    global.expect_start("NAMESPACE PURGE n.x", "HELD").await?;
    global.expect("NAMESPACE RESTORE n.x ALLOW-EXPIRED", "OK").await?;
    root.expect(&format!("BUCKET.REMOVE b{retain}"), "OK").await?;
    global.expect(&format!("NAMESPACE REMOVE n.x{retain}"), "OK").await?;
    sleep(LONG).await;
    global.expect_start("NAMESPACE PURGE n.x", "HELD").await?;
    // When all of it is over it goes by itself.
    sleep(Duration::from_secs(8 * 60)).await;
    global.expect_start("NAMESPACE DESCRIBE n.x", "NOSUCHNAMESPACE").await?;
    cluster.finish().await
}

/// Whatever it is that keeps less: a limit or a lock counts further down.
pub async fn to_loosen_a_policy_takes_the_right_to_purge(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    let mut admin = user(&cluster, "admin", "~n ~n.* +@admin +@read", "n.x").await?;
    root.expect("NAMESPACE POLICY n.x SET retention 60d", "OK").await?;
    let start =
        "NAMESPACE POLICY n SET retention-min 2d tombstone-retention-max 90d lock governance";
    admin.expect_start(start, "NOPERM").await?;
    root.expect(start, "OK").await?;
    for loosened in [
        "SET retention-max 10d",
        "UNSET retention-min",
        "SET retention-min 1d",
        "SET tombstone-retention-max 80d",
        "SET lock none",
        "UNSET lock",
        "SET retention 6d",
    ] {
        let command = format!("NAMESPACE POLICY n {loosened}");
        admin.expect_start(&command, "NOPERM").await?;
    }
    for tightened in [
        "SET retention-min 3d",
        "SET tombstone-retention-max 95d",
        "UNSET tombstone-retention-max",
        "SET retention 8d",
        "SET quota-documents 10",
    ] {
        admin.expect(&format!("NAMESPACE POLICY n {tightened}"), "OK").await?;
    }
    cluster.finish().await
}

/// What was restored above something gives it a grace, and to end that is to shorten.
pub async fn a_grace_is_shortened_only_with_the_right_to_purge(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    let mut bob = user(&cluster, "bob", "~* +@read +@restore", "n.x").await?;
    root.expect("BUCKET.REMOVE b RETAIN 60s", "OK").await?;
    root.expect("NAMESPACE REMOVE n", "OK").await?;
    sleep(LONG).await;
    root.expect("NAMESPACE RESTORE n", "OK").await?;
    bob.expect_start("BUCKET.RETAIN b 1m", "NOPERM").await?;
    bob.expect("BUCKET.RETAIN b 2h", "OK").await?;
    cluster.finish().await
}

/// Neither a dry run nor a purge that waits lets anything go that was promised a time.
pub async fn only_the_flip_lets_go_what_was_promised(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    root.expect("NAMESPACE POLICY n.x SET lock governance retention 30d", "OK").await?;
    root.expect("BUCKET.REMOVE b", "OK").await?;
    // Before the removal, so that the purge has to wait for it.
    cluster.pause("B");
    root.expect("NAMESPACE REMOVE n.x", "OK").await?;
    let promised = async || -> Claim<_> {
        let guards = cluster.rows(&keys::kind_prefix(keys::kind::GUARD)).await?;
        let terms = cluster.rows(&keys::kind_prefix(keys::kind::RETENTION)).await?;
        Ok((guards, terms))
    };
    let before = promised().await?;
    claim!(before.0.len() >= 2, "nothing guards: {before:?}");
    root.expect_start("NAMESPACE PURGE n.x DRYRUN", "HELD").await?;
    let waits = root.say("NAMESPACE PURGE n.x NOWAIT BYPASS-GOVERNANCE").await;
    claim!(waits.starts_with("BARRIERNOTSATISFIED"), "answered '{waits}'");
    claim!(promised().await? == before, "a purge that waits let something go");
    root.expect("NAMESPACE RESTORE n.x", "OK").await?;
    cluster.resume("B");
    root.expect("NAMESPACE REMOVE n.x", "OK").await?;
    sleep(COUNTED).await;
    let before = promised().await?;
    root.expect("NAMESPACE PURGE n.x DRYRUN BYPASS-GOVERNANCE", "OK").await?;
    claim!(promised().await? == before, "a dry run let something go");
    root.expect("NAMESPACE PURGE n.x BYPASS-GOVERNANCE", "OK").await?;
    cluster.finish().await
}

/// Who passes by a lock could as well lift it: where it was set, not where he stands.
pub async fn governance_is_passed_by_only_by_who_could_lift_it(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    let mut sub = user(&cluster, "sub", "~n.x ~n.x.* ~free +@all", "n.x").await?;
    for namespace in ["free", "n.x.y"] {
        root.expect(&format!("NAMESPACE CREATE {namespace}"), "OK").await?;
    }
    root.expect("BUCKET.CREATE c", "OK").await?;
    root.done("BUCKET.INSERT c DOCS {}").await?;
    root.expect("NAMESPACE POLICY n SET lock governance retention 30d", "OK").await?;
    sub.expect_start("NAMESPACE POLICY n SET lock none", "NOPERM").await?;
    let denied = "NOPERM User sub has no permissions to run the";
    for command in [
        "BUCKET.REMOVE b RETAIN 1d BYPASS-GOVERNANCE",
        "BUCKET.DELETE b {} RETAIN 1s BYPASS-GOVERNANCE",
        "NAMESPACE REMOVE n.x.y RETAIN 1d BYPASS-GOVERNANCE",
        "NAMESPACE MOVE n.x.y free.y BYPASS-GOVERNANCE",
    ] {
        sub.expect_start(command, denied).await?;
    }
    sub.done("BUCKET.DELETE c {} BYPASS-GOVERNANCE").await?;
    // Nothing is passed by.
    sub.expect("BUCKET.REMOVE b RETAIN 40d BYPASS-GOVERNANCE", "OK").await?;
    sub.expect("NAMESPACE REMOVE n.x.y", "OK").await?;
    for command in [
        "BUCKET.EXPUNGE c {} BYPASS-GOVERNANCE",
        "BUCKET.PURGE b BYPASS-GOVERNANCE",
        "BUCKET.RETAIN b 1d BYPASS-GOVERNANCE",
        "BUCKET.RESTORE b INTO free BYPASS-GOVERNANCE",
        "NAMESPACE PURGE n.x.y BYPASS-GOVERNANCE",
        "NAMESPACE PURGE n.x.y BYPASS-GOVERNANCE DRYRUN",
        "NAMESPACE RESTORE n.x.y AS free.y BYPASS-GOVERNANCE",
    ] {
        sub.expect_start(command, denied).await?;
    }
    // A lock of his own he passes by.
    root.expect("NAMESPACE POLICY n SET lock none", "OK").await?;
    sub.expect("NAMESPACE POLICY n.x SET lock governance", "OK").await?;
    sub.expect("BUCKET.REMOVE c RETAIN 1d BYPASS-GOVERNANCE", "OK").await?;
    sub.expect("BUCKET.PURGE c BYPASS-GOVERNANCE", "OK").await?;
    cluster.finish().await
}

/// Who asked for a purge passed by the lock that there was, and not by another one's later.
pub async fn a_purge_that_waits_passes_by_no_later_lock(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    let mut sub = user(&cluster, "sub", "~n.x ~n.x.* +@all", "n.x").await?;
    sub.expect("NAMESPACE POLICY n.x SET lock governance retention 30d", "OK").await?;
    sub.expect("BUCKET.CREATE late", "OK").await?;
    cluster.pause("B");
    sub.expect("BUCKET.REMOVE b", "OK").await?;
    let asked = "BUCKET.PURGE b NOWAIT BYPASS-GOVERNANCE";
    sub.expect_start(asked, "BARRIERNOTSATISFIED").await?;
    root.expect("NAMESPACE POLICY n SET lock governance retention 60d", "OK").await?;
    cluster.resume("B");
    sleep(LONG).await;
    sub.expect_start("BUCKET.PURGE b BYPASS-GOVERNANCE", "NOPERM").await?;
    sub.expect("BUCKET.RESTORE b", "OK").await?;
    // By its own it goes on.
    root.expect("NAMESPACE POLICY n SET lock none", "OK").await?;
    sub.expect("BUCKET.REMOVE late RETAIN 0s BYPASS-GOVERNANCE", "OK").await?;
    sleep(LONG).await;
    sub.expect_start("BUCKET.RESTORE late", "NOSUCHBUCKET").await?;
    cluster.finish().await
}

/// A right that a command turns out to need, and that is taken away while it is under way.
pub async fn what_a_command_turns_out_to_need_is_judged_in_its_commit(
    mutations: Mutations,
) -> Claim {
    let sub = "resetkeys ~n.x ~free";
    for (label, command, taken) in [
        ("restore", "BUCKET.RESTORE held", "-@hold -@admin"),
        ("restore", "BUCKET.RESTORE b INTO free BYPASS-GOVERNANCE", sub),
        ("flip", "BUCKET.PURGE b BYPASS-GOVERNANCE", sub),
        ("retain", "BUCKET.RETAIN b 1d BYPASS-GOVERNANCE", sub),
        ("expunge", "BUCKET.EXPUNGE c {} BYPASS-GOVERNANCE", sub),
    ] {
        let cluster = world(mutations).await?;
        let mut root = seat(&cluster, "B", "n.x").await?;
        root.expect("NAMESPACE CREATE free", "OK").await?;
        let mut eve = user(&cluster, "eve", "~n ~n.* ~free +@all", "n.x").await?;
        let policy = "NAMESPACE POLICY n SET lock governance retention 30d tombstone-retention 9d";
        root.expect(policy, "OK").await?;
        for name in ["held", "c"] {
            root.expect(&format!("BUCKET.CREATE {name}"), "OK").await?;
        }
        root.done("BUCKET.INSERT c DOCS {}").await?;
        root.done("BUCKET.DELETE c {}").await?;
        for name in ["held", "b"] {
            root.expect(&format!("BUCKET.REMOVE {name}"), "OK").await?;
        }
        root.expect("BUCKET.HOLD held REASON trial", "OK").await?;
        sleep(COUNTED).await;
        let held = cluster.hold("A", label);
        let asked = tokio::spawn(async move { eve.say(command).await });
        held.arrived().await;
        cluster.expect("B", &format!("ACL SETUSER eve {taken}"), "OK").await?;
        let landed = held.release();
        claim!(matches!(landed, Some(Err(_))), "'{command}' landed: {landed:?}");
        let said = asked.await.map_err(fail)?;
        claim!(said.starts_with("NOPERM User eve"), "'{command}' answered '{said}'");
        cluster.finish().await?;
    }
    Ok(())
}

/// What a replica replaces makes room for what replaces it.
pub async fn a_replica_goes_on_at_a_full_quota(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut a = seat(&cluster, "A", "n.x").await?;
    a.expect("NAMESPACE POLICY n SET quota-documents 2", "OK").await?;
    a.expect("BUCKET.CREATE mirror", "OK").await?;
    a.done("BUCKET.REPLICA ORIGIN mirror ADD elsewhere/users").await?;
    // Then what is replaced goes before all of it comes.
    let index = "{\"mail\":{\"bson_type\":\"string\",\"unique\":true}}";
    a.done(&format!("BUCKET.INDEX CREATE mirror {index}")).await?;
    let apply = "BUCKET.REPLICA APPLY mirror elsewhere/users";
    let document = |number: u8| format!("6835a1c0e4b0f72a3c00000{number}");
    let put = |number, mail| {
        let id = document(number);
        format!("PUT {{\"_id\":\"{id}\",\"mail\":\"{mail}\"}}")
    };
    let first = format!("{apply} 000000ff0000000700000000 {}", put(1, "somebody@b"));
    a.expect(&first, "1").await?;
    sleep(COUNTED).await;
    a.expect_start("BUCKET.INSERT mirror DOCS {}", "QUOTAEXCEEDED").await?;
    let smaller = format!("{apply} 000000ff0000000800000000 {}", put(1, "a@b"));
    a.expect(&smaller, "1").await?;
    let gone = format!("DELETE {}", document(1));
    let other = format!("{apply} 000000ff0000000900000000 {gone} {}", put(2, "a@b"));
    a.expect(&other, "2").await?;
    let more = format!("{apply} 000000ff0000000a00000000 {}", put(3, "c@b"));
    a.expect_start(&more, "QUOTAEXCEEDED").await?;
    cluster.finish().await
}

/// As it refuses what is restored there; what makes no more of it may move.
pub async fn what_moves_into_a_full_namespace_is_refused(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    root.expect("NAMESPACE CREATE full.y", "OK").await?;
    root.expect("NAMESPACE POLICY full SET quota-documents 1", "OK").await?;
    let mut full = seat(&cluster, "A", "full.y").await?;
    full.expect("BUCKET.CREATE c", "OK").await?;
    full.done("BUCKET.INSERT c DOCS {}").await?;
    sleep(COUNTED).await;
    full.expect_start("BUCKET.INSERT c DOCS {}", "QUOTAEXCEEDED").await?;
    root.expect_start("NAMESPACE MOVE n.x full.x", "QUOTAEXCEEDED Namespace 'full'").await?;
    root.expect("NAMESPACE MOVE full.y full.z", "OK").await?;
    root.expect("NAMESPACE REMOVE n.x", "OK").await?;
    root.expect_start("NAMESPACE RESTORE n.x AS full.x", "QUOTAEXCEEDED").await?;
    root.expect("NAMESPACE RESTORE n.x", "OK").await?;
    cluster.finish().await
}
