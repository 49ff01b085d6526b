//! Users and rights on several nodes: what changes at one counts on all of them at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lethe::access::Right;
use lethe::clock::TestClock;
use lethe::codec::keys;
use lethe::command::registry::table;
use lethe::command::{Group, Spec, flags, rights_of};
use lethe::config::{Config, UserRules};
use lethe::node::{Node, NodeOptions, StartError};
use lethe::resp::Reply;
use lethe::store::{RangeRead, Store, Transaction};
use tokio::time::Instant;

use crate::cluster::{Claim, Cluster, EPOCH, claim, fail, line};
use crate::seat::Seat;
use crate::smoke::Connection;

here_in_memory! {
    a_right_that_is_taken_away_counts_on_every_node_at_once
    a_write_under_way_does_not_commit_when_its_right_is_taken_away
    a_purge_under_way_does_not_commit_when_its_right_is_taken_away
    who_waits_for_changes_is_told_when_his_right_is_taken_away
    a_user_who_is_deleted_is_logged_out_everywhere
    without_its_right_no_command_does_anything
    a_refusal_is_the_same_whether_the_thing_is_there_or_not
    who_may_restore_his_own_sees_nothing_of_others
    who_may_remove_cannot_destroy_by_a_short_retention
    who_may_set_policies_cannot_destroy_by_one
    who_passes_by_a_lock_could_lift_it
    a_bad_rule_changes_nothing
    nobody_locks_everybody_out
    passwords_are_shown_nowhere
    guessing_is_slowed
    a_node_listens_to_others_only_where_somebody_has_to_log_in
}

/// A cluster of these nodes with a user `ada` who has these rules and the password `geheim`.
pub async fn with_ada(nodes: &[&'static str], rules: &str) -> Claim<Cluster> {
    let cluster = Cluster::new(nodes).await?;
    let rules = format!("ACL SETUSER ada on >geheim {rules}");
    cluster.expect("A", &rules, "OK").await?;
    Ok(cluster)
}

/// A client of a node who has logged in as `ada`.
pub async fn ada_at(cluster: &Cluster, node: &str) -> Claim<Seat> {
    let mut ada = Seat::at(cluster, node);
    // The other node learns of a new user when its watch fires.
    for _ in 0..100 {
        if ada.say("AUTH ada geheim").await == "OK" {
            return Ok(ada);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("nobody can log in as ada".to_owned())
}

const NO_WRITE: &str = "NOPERM User ada has no permissions to run the 'bucket.insert' command \
                        in namespace 'global': it takes @write";

async fn a_right_that_is_taken_away_counts_on_every_node_at_once() -> Claim {
    let cluster = with_ada(&["A", "B"], "~global +@read +@write").await?;
    cluster.expect("A", "BUCKET.CREATE users", "OK").await?;
    let mut ada = ada_at(&cluster, "B").await?;
    ada.done("BUCKET.INSERT users DOCS {}").await?;
    ada.done("BEGIN").await?;
    ada.done("BUCKET.INSERT users DOCS {}").await?;
    cluster.expect("A", "ACL SETUSER ada -@write", "OK").await?;
    let ended = ada.say("COMMIT").await;
    claim!(ended == NO_WRITE || ended.starts_with("NOT_COMMITTED"), "COMMIT answered '{ended}'");
    // At once: not even a watch has had time to fire.
    ada.expect("BUCKET.INSERT users DOCS {}", NO_WRITE).await?;
    ada.expect_documents("BUCKET.QUERY users {}", 1).await?;
    cluster.finish().await
}

async fn a_write_under_way_does_not_commit_when_its_right_is_taken_away() -> Claim {
    let cluster = with_ada(&["A", "B"], "~global +@read +@write").await?;
    cluster.expect("A", "BUCKET.CREATE users", "OK").await?;
    let mut ada = ada_at(&cluster, "B").await?;
    let held = cluster.hold("B", "insert");
    let asked = tokio::spawn(async move { ada.say("BUCKET.INSERT users DOCS {}").await });
    held.arrived().await;
    cluster.expect("A", "ACL SETUSER ada -@write", "OK").await?;
    let landed = held.release();
    claim!(matches!(landed, Some(Err(_))), "it landed: {landed:?}");
    let said = asked.await.map_err(fail)?;
    claim!(said == NO_WRITE, "answered '{said}'");
    cluster.finish().await
}

async fn a_purge_under_way_does_not_commit_when_its_right_is_taken_away() -> Claim {
    let cluster = with_ada(&["A", "B"], "~global +@read +@purge").await?;
    cluster.expect("A", "BUCKET.CREATE users", "OK").await?;
    let removed = cluster.remove("A", "users").await?;
    let mut ada = ada_at(&cluster, "B").await?;
    let held = cluster.hold("B", "flip");
    let asked = tokio::spawn(async move { ada.say("BUCKET.PURGE users").await });
    held.arrived().await;
    cluster.expect("A", "ACL SETUSER ada -@purge", "OK").await?;
    let landed = held.release();
    claim!(matches!(landed, Some(Err(_))), "it landed: {landed:?}");
    let said = asked.await.map_err(fail)?;
    claim!(said.starts_with("NOPERM User ada has no permissions"), "answered '{said}'");
    cluster.expect("A", &format!("BUCKET.RESTORE {}", removed.removal), "OK").await?;
    cluster.finish().await
}

async fn who_waits_for_changes_is_told_when_his_right_is_taken_away() -> Claim {
    let cluster = with_ada(&["A", "B"], "~global +@read").await?;
    cluster.expect("A", "BUCKET.CREATE users", "OK").await?;
    ada_at(&cluster, "B").await?;
    let mut ada = Connection::open(cluster.node("B").addresses()[0]).await?;
    ada.expect("AUTH ada geheim", "+OK").await?;
    let asked = tokio::spawn(async move { ada.send("BUCKET.CHANGES users BLOCK 20000").await });
    // It waits: the command is shown as the one that runs.
    for _ in 0..100 {
        let clients = line(&cluster.run("B", "CLIENT LIST").await?);
        if clients.contains("cmd=bucket.changes user=ada") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.expect("A", "ACL SETUSER ada -@read", "OK").await?;
    let said = asked.await.map_err(fail)??;
    claim!(said.starts_with("-NOPERM User ada"), "answered '{said}'");
    cluster.finish().await
}

async fn a_user_who_is_deleted_is_logged_out_everywhere() -> Claim {
    let cluster = with_ada(&["A", "B"], "~* +@all").await?;
    cluster.expect("A", "BUCKET.CREATE users", "OK").await?;
    let mut ada = ada_at(&cluster, "B").await?;
    ada.done("BUCKET.INSERT users DOCS {}").await?;
    cluster.expect("A", "ACL DELUSER ada nobody", "1").await?;
    ada.expect("BUCKET.INSERT users DOCS {}", "NOAUTH Authentication required.").await?;
    // One of the same name is another.
    cluster.expect("A", "ACL SETUSER ada on >geheim ~* +@all", "OK").await?;
    ada.expect("BUCKET.INSERT users DOCS {}", "NOAUTH Authentication required.").await?;
    cluster.expect("A", "ACL SETUSER ada off", "OK").await?;
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    tokio::time::sleep(Duration::from_secs(1)).await;
    ada.expect("AUTH ada geheim", wrong).await?;
    cluster.finish().await
}

/// A call of a command that has all words it needs: a bucket or a namespace.
pub fn call(spec: &Spec, bucket: &str, namespace: &str) -> String {
    let at_least = usize::from(spec.arity.unsigned_abs());
    let named = match spec.group {
        Group::Namespace => namespace,
        _ => bucket,
    };
    let mut words: Vec<&str> = spec.name.split(' ').collect();
    match spec.name {
        "BUCKET.DELETE" | "BUCKET.EXPUNGE" | "BUCKET.QUERY" | "BUCKET.UNDELETE" => {
            words.extend([bucket, "{}"]);
        }
        "BUCKET.INSERT" => words.extend([bucket, "DOCS", "{}"]),
        "BUCKET.UPDATE" => words.extend([bucket, "{}", "{\"$set\":{\"a\":1}}"]),
        "BUCKET.HOLD" | "NAMESPACE HOLD" => words.extend([named, "REASON", "x"]),
        "BUCKET.PROTECT" | "NAMESPACE PROTECT" => words.extend([named, "ON"]),
        "BUCKET.RETAIN" | "NAMESPACE RETAIN" => words.extend([named, "7d"]),
        "BUCKET.RENAME" | "NAMESPACE MOVE" => words.extend([named, "other"]),
        "NAMESPACE CREATE" => words.push("new"),
        "NAMESPACE POLICY" => words.extend([named, "SET", "lock", "none"]),
        "ACL SETUSER" => words.extend(["eve", "on"]),
        _ => {}
    }
    while words.len() < at_least {
        words.push(named);
    }
    words.join(" ")
}

/// All rows that commands write, but for what tells of time, members and refusals.
async fn rows(cluster: &Cluster) -> Claim<BTreeMap<Vec<u8>, Vec<u8>>> {
    let txn: Transaction = cluster.store().begin("rows");
    let mut rows = BTreeMap::new();
    let mut next = Some(RangeRead::new(Vec::new(), vec![0xff]).snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await.map_err(fail)?;
        for (key, value) in &page.rows {
            let kind = keys::kind_of(key).map_err(fail)?;
            let counts = (10..50).contains(&kind) || kind == keys::kind::USER;
            // Also what is only remembered for a while is on the schedule.
            if counts && kind != keys::kind::EXPIRY {
                rows.insert(key.to_vec(), value.to_vec());
            }
        }
        next = range.after(&page);
    }
    Ok(rows)
}

async fn without_its_right_no_command_does_anything() -> Claim {
    let cluster = with_ada(&["A"], "").await?;
    for command in [
        "BUCKET.CREATE users",
        "BUCKET.INSERT users DOCS {} {}",
        "NAMESPACE CREATE there",
        "BUCKET.CREATE gone",
        "BUCKET.REMOVE gone",
    ] {
        let reply = cluster.run("A", command).await?;
        claim!(!matches!(reply, Reply::Error(_)), "'{command}' answered '{}'", line(&reply));
    }
    let mut judged = 0;
    for right in Right::ALL {
        let rules = format!("ACL SETUSER ada resetkeys ~* +@all -@{} -@admin", right.name());
        cluster.expect("A", &rules, "OK").await?;
        let mut ada = ada_at(&cluster, "A").await?;
        let before = rows(&cluster).await?;
        for spec in table().specs().iter().filter(|spec| !spec.has(flags::REFUSED)) {
            // What goes on with a cursor is of the cursor's right, and there is none.
            if spec.name == "BUCKET.ADVANCE" || !rights_of(spec).any(|of| of == right) {
                continue;
            }
            if right == Right::Restore {
                // Who restores his own asks as well; that is another scenario.
                cluster.expect("A", "ACL SETUSER ada -@restore-own", "OK").await?;
            }
            let command = call(spec, "users", "there");
            let said = ada.say(&command).await;
            let expected = format!(
                "NOPERM User ada has no permissions to run the '{}' command",
                spec.full_name().to_ascii_lowercase()
            );
            claim!(said.starts_with(&expected), "'{command}' without {right:?}: '{said}'");
            judged += 1;
        }
        let after = rows(&cluster).await?;
        let user = keys::user("ada");
        let changed = before
            .keys()
            .chain(after.keys())
            .find(|key| **key != user && before.get(*key) != after.get(*key));
        claim!(changed.is_none(), "without {right:?} this was changed: {changed:?}");
    }
    claim!(judged > 60, "only {judged} commands were judged");
    cluster.finish().await
}

async fn a_refusal_is_the_same_whether_the_thing_is_there_or_not() -> Claim {
    let cluster = with_ada(&["A"], "~mine +@all").await?;
    cluster.expect("A", "NAMESPACE CREATE mine", "OK").await?;
    for bucket in ["users", "gone"] {
        cluster.expect("A", &format!("BUCKET.CREATE {bucket}"), "OK").await?;
    }
    let gone = cluster.remove("A", "gone").await?;
    let mut ada = ada_at(&cluster, "A").await?;
    let unknown = lethe::codec::RemovalId(gone.removal.0 + 1_000_000);
    let nobody = lethe::codec::BucketId(gone.bucket.0 + 1_000_000);
    for (there, nowhere) in [
        ("BUCKET.QUERY users {}".to_owned(), "BUCKET.QUERY nothing {}".to_owned()),
        ("BUCKET.PURGE gone".to_owned(), "BUCKET.PURGE nothing".to_owned()),
        (format!("BUCKET.PURGE {}", gone.removal), format!("BUCKET.PURGE {unknown}")),
        (format!("BUCKET.RESTORE {}", gone.bucket), format!("BUCKET.RESTORE {nobody}")),
        (format!("BUCKET.DESCRIBE {}", gone.bucket), format!("BUCKET.DESCRIBE {nobody}")),
    ] {
        let (said, of_nothing) = (ada.say(&there).await, ada.say(&nowhere).await);
        claim!(said.starts_with("NOPERM"), "'{there}' answered '{said}'");
        claim!(said == of_nothing, "'{said}', but of nothing '{of_nothing}'");
    }
    for hidden in ["NAMESPACE USE global", "NAMESPACE USE nowhere", "NAMESPACE EXISTS global"] {
        let said = ada.say(hidden).await;
        claim!(said.starts_with("NOPERM"), "'{hidden}' answered '{said}'");
    }
    ada.expect("NAMESPACE LIST", "[mine]").await?;
    ada.expect("NAMESPACE USE mine", "OK").await?;
    ada.expect("BUCKET.CREATE users", "OK").await?;
    // What was refused stands in the audit log, under the name of who tried.
    let mut rows = String::new();
    for _ in 0..50 {
        rows = line(&cluster.run("A", "AUDIT.LOG").await?);
        if rows.contains("outcome: NOPERM") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    claim!(rows.contains("user: ada") && rows.contains("outcome: NOPERM"), "the log has '{rows}'");
    cluster.finish().await
}

async fn who_may_restore_his_own_sees_nothing_of_others() -> Claim {
    let rules = "~global +@read +@write +@remove +@restore-own";
    let cluster = with_ada(&["A"], rules).await?;
    let mut ada = ada_at(&cluster, "A").await?;
    for bucket in ["hers", "other"] {
        cluster.expect("A", &format!("BUCKET.CREATE {bucket}"), "OK").await?;
    }
    cluster.expect("A", "BUCKET.REMOVE other", "OK").await?;
    ada.expect("BUCKET.REMOVE hers", "OK").await?;
    let listed = ada.say("BUCKET.REMOVED").await;
    claim!(listed.contains("bucket: hers") && !listed.contains("other"), "she sees '{listed}'");
    let denied = ada.expect_start("BUCKET.RESTORE other", "NOPERM").await?;
    ada.expect("BUCKET.RESTORE nothing", &denied).await?;
    ada.expect_start("BUCKET.REMOVED BY default", "NOPERM").await?;
    ada.expect_start("BUCKET.PURGE hers", "NOPERM").await?;
    ada.expect("BUCKET.RESTORE hers", "OK").await?;
    cluster.expect("A", "BUCKET.RESTORE other", "OK").await?;
    cluster.finish().await
}

async fn who_may_remove_cannot_destroy_by_a_short_retention() -> Claim {
    let cluster = with_ada(&["A"], "~global +@read +@write +@remove +@restore").await?;
    let mut ada = ada_at(&cluster, "A").await?;
    cluster.expect("A", "BUCKET.CREATE users", "OK").await?;
    for command in [
        "BUCKET.REMOVE users RETAIN 0s",
        "BUCKET.REMOVE users REASON x RETAIN 1s",
        "BUCKET.DELETE users {} RETAIN 1s",
        "BUCKET.ALTER users TOMBSTONE-RETENTION 0s",
    ] {
        let said = ada.say(command).await;
        claim!(said.ends_with("it takes @purge"), "'{command}' answered '{said}'");
    }
    ada.expect("BUCKET.REMOVE users RETAIN 30d", "OK").await?;
    ada.expect("BUCKET.RETAIN users 60d", "OK").await?;
    ada.expect_start("BUCKET.RETAIN users 1s", "NOPERM").await?;
    ada.expect("BUCKET.RESTORE users", "OK").await?;
    cluster.finish().await
}

async fn who_may_set_policies_cannot_destroy_by_one() -> Claim {
    let cluster = with_ada(&["A"], "~n* +@read +@write +@remove +@admin").await?;
    cluster.expect("A", "NAMESPACE CREATE n.x", "OK").await?;
    let mut ada = ada_at(&cluster, "A").await?;
    for change in ["retention 1s", "retention-max 1s", "tombstone-retention 0s"] {
        let said = ada.say(&format!("NAMESPACE POLICY n SET {change}")).await;
        claim!(said.ends_with("it takes @purge"), "'{change}' answered '{said}'");
    }
    ada.expect("NAMESPACE POLICY n SET retention 30d", "OK").await?;
    ada.expect_start("NAMESPACE POLICY n UNSET retention", "NOPERM").await?;
    // A lock keeps what lies below it from a shorter maximum, whoever sets it.
    cluster.expect("A", "NAMESPACE POLICY n SET lock compliance", "OK").await?;
    for change in ["retention-max 5s", "tombstone-retention-max 5s"] {
        let change = format!("NAMESPACE POLICY n.x SET {change}");
        let said = cluster.run("A", &change).await?;
        claim!(line(&said).starts_with("HELD"), "'{change}' answered '{}'", line(&said));
    }
    cluster.finish().await
}

async fn who_passes_by_a_lock_could_lift_it() -> Claim {
    let destroys = "~n* +@read +@write +@remove +@restore +@purge";
    let cluster = with_ada(&["A"], destroys).await?;
    cluster.expect("A", "NAMESPACE CREATE n.x", "OK").await?;
    cluster.expect("A", "NAMESPACE POLICY n SET lock governance retention 5d", "OK").await?;
    let mut ada = ada_at(&cluster, "A").await?;
    ada.done("NAMESPACE USE n.x").await?;
    ada.expect("BUCKET.CREATE users", "OK").await?;
    ada.done("BUCKET.INSERT users DOCS {}").await?;
    ada.done("NAMESPACE POLICY n.x").await?;
    for command in [
        "NAMESPACE POLICY n SET lock none",
        "NAMESPACE POLICY n UNSET lock",
        "BUCKET.REMOVE users BYPASS-GOVERNANCE RETAIN 1d",
        "NAMESPACE REMOVE n BYPASS-GOVERNANCE RETAIN 1d",
        "NAMESPACE MOVE n.x m BYPASS-GOVERNANCE",
        "BUCKET.DELETE users {} RETAIN 0s BYPASS-GOVERNANCE",
        "BUCKET.EXPUNGE users {} BYPASS-GOVERNANCE",
        // Also when the one before it was allowed.
        "BUCKET.PURGE users BYPASS-GOVERNANCE",
        "BUCKET.RETAIN users 1d BYPASS-GOVERNANCE",
        "BUCKET.RESTORE users BYPASS-GOVERNANCE",
        "NAMESPACE PURGE n BYPASS-GOVERNANCE",
    ] {
        ada.done("BUCKET.DELETED users {}").await?;
        ada.say("BUCKET.EXPUNGE users {}").await;
        let said = ada.say(command).await;
        claim!(said.starts_with("NOPERM User ada"), "'{command}' answered '{said}'");
    }
    // Less than what applies here is as good as a purge, more than usual or not.
    cluster.expect("A", "NAMESPACE POLICY n SET lock none retention 60d", "OK").await?;
    cluster.expect("A", "ACL SETUSER ada -@purge", "OK").await?;
    ada.expect_start("BUCKET.REMOVE users RETAIN 30d", "NOPERM User ada").await?;
    cluster.expect("A", "ACL SETUSER ada +@purge", "OK").await?;
    ada.expect("BUCKET.REMOVE users RETAIN 30d", "OK").await?;
    ada.expect("BUCKET.RESTORE users", "OK").await?;
    cluster.expect("A", "NAMESPACE POLICY n SET lock governance", "OK").await?;
    cluster.expect("A", "ACL SETUSER ada +@admin", "OK").await?;
    ada.expect("BUCKET.REMOVE users BYPASS-GOVERNANCE RETAIN 1d", "OK").await?;
    ada.expect_start("BUCKET.PURGE users", "HELD").await?;
    ada.expect("BUCKET.PURGE users BYPASS-GOVERNANCE", "OK").await?;
    ada.expect("NAMESPACE POLICY n UNSET lock", "OK").await?;
    cluster.finish().await
}

async fn a_bad_rule_changes_nothing() -> Claim {
    let cluster = with_ada(&["A"], "~global +@read").await?;
    let before = line(&cluster.run("A", "ACL GETUSER ada").await?);
    for (rules, expected) in [
        (
            "off +@nonsense",
            "ERR Error in ACL SETUSER modifier '+@nonsense': Unknown command or category name in ACL",
        ),
        (
            "+@purge +get",
            "ERR Error in ACL SETUSER modifier '+get': Unknown command or category name in ACL",
        ),
        ("+@purge nonsense", "ERR Error in ACL SETUSER modifier 'nonsense': Syntax error"),
        (
            "off <falsch",
            "ERR Error in ACL SETUSER modifier '<...': The password you are trying to remove from the user does not exist",
        ),
        (
            "off #abc",
            "ERR Error in ACL SETUSER modifier '#...': The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
        ),
        ("off (+@purge", "ERR Unmatched parenthesis in acl selector starting at '(+@purge'."),
        ("off &x", "ERR Error in ACL SETUSER modifier '&x': there are no channels"),
    ] {
        cluster.expect("A", &format!("ACL SETUSER ada {rules}"), expected).await?;
        cluster.expect("A", &format!("ACL SETUSER bob {rules}"), expected).await?;
    }
    let after = line(&cluster.run("A", "ACL GETUSER ada").await?);
    claim!(before == after, "'{before}' became '{after}'");
    cluster.expect("A", "ACL USERS", "[ada, default]").await?;
    cluster.expect_start("A", "ACL SETUSER system:x on", "ERR Invalid user name").await?;
    cluster.finish().await
}

async fn nobody_locks_everybody_out() -> Claim {
    let cluster = Cluster::new(&["A"]).await?;
    let refused = "ERR no user would be left that can log in and has +@admin on ~*";
    for rules in ["off", "resetpass", "-@admin", "resetkeys ~global", "reset"] {
        cluster.expect_start("A", &format!("ACL SETUSER default {rules}"), refused).await?;
    }
    cluster.expect("A", "ACL DELUSER default", "ERR The 'default' user cannot be removed").await?;
    let mut root = Seat::at(&cluster, "A");
    root.expect("ACL SETUSER root on >geheim ~* +@all", "OK").await?;
    root.expect("ACL SETUSER default off", "OK").await?;
    // Who never said who he was has to say so now.
    root.expect("PING", "NOAUTH Authentication required.").await?;
    root.expect_start("HELLO 3", "NOAUTH HELLO must be called").await?;
    root.expect("AUTH root geheim", "OK").await?;
    root.expect_start("ACL DELUSER root", refused).await?;
    root.expect("ACL WHOAMI", "root").await?;
    root.expect("ACL SETUSER default on nopass ~* +@all", "OK").await?;
    cluster.finish().await
}

async fn passwords_are_shown_nowhere() -> Claim {
    let cluster = with_ada(&["A"], "~* +@all").await?;
    let mut ada = ada_at(&cluster, "A").await?;
    // SHA-256 of `geheim`.
    let digest = "addb0f5e7826c857d7376d1bd9bc33c0c544790a2eac96144a8af22b1298c940";
    let mut told = Vec::new();
    for command in [
        "AUTH ada geheim2 geheim",
        "AUTH ada geheimfalsch",
        "HELLO 3 AUTH ada geheimfalsch",
        "HELLO 3 AUTH ada geheim SETNAME",
        "ACL SETUSER ada <geheimfalsch",
        "ACL SETUSER ada >geheim nonsense",
        "ACL SETUSER ada (>geheim)",
        "ACL SETUSER ada (>geheim",
        "ACL GETUSER ada",
        "ACL LIST",
        "INFO",
        "CONFIG GET *",
        "CLIENT LIST",
        "CLIENT INFO",
        "SLOWLOG GET",
        "AUDIT.LOG",
        "COMMAND DOCS",
    ] {
        told.push((command.to_owned(), ada.say(command).await));
    }
    for (key, value) in all(cluster.store()).await? {
        let of_a_user = keys::kind_of(&key) == Ok(keys::kind::USER);
        let of = if of_a_user { "user/ada" } else { "a row" };
        told.push((of.to_owned(), String::from_utf8_lossy(&value).into_owned()));
    }
    let config = Config {
        first_users: UserRules(vec!["ada on >geheim ~* +@all".to_owned()]),
        ..Config::default()
    };
    told.push(("settings".to_owned(), format!("{config:?}")));
    let account = cluster.node("A").services().users.get("ada");
    told.push(("a user".to_owned(), format!("{account:?}")));
    for (of, text) in told {
        let shows = text.contains("geheim") || text.contains(digest);
        claim!(!shows, "'{of}' shows a password: '{text}'");
        claim!(
            !text.contains("argon2id") || of.starts_with("user/"),
            "'{of}' shows a hash: '{text}'"
        );
    }
    cluster.finish().await
}

async fn all(store: &Store) -> Claim<Vec<(Vec<u8>, Vec<u8>)>> {
    let txn = store.begin("rows");
    let mut rows = Vec::new();
    let mut next = Some(RangeRead::new(Vec::new(), vec![0xff]).snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await.map_err(fail)?;
        rows.extend(page.rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        next = range.after(&page);
    }
    Ok(rows)
}

async fn guessing_is_slowed() -> Claim {
    let cluster = with_ada(&["A"], "~* +@all").await?;
    let began = Instant::now();
    for name in ["ada", "nobody"] {
        for _ in 0..10 {
            // A connection of its own each time: it is the address that pays.
            let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
            Seat::at(&cluster, "A").expect(&format!("AUTH {name} falsch"), wrong).await?;
        }
    }
    let took = began.elapsed();
    claim!(took >= Duration::from_secs(8), "twenty guesses took {took:?}");
    // Who knows it waits his turn, and pays nothing.
    Seat::at(&cluster, "A").expect("AUTH ada geheim", "OK").await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let began = Instant::now();
    for _ in 0..20 {
        Seat::at(&cluster, "A").expect("AUTH ada geheim", "OK").await?;
    }
    claim!(began.elapsed() < Duration::from_secs(1), "logging in took {:?}", began.elapsed());
    cluster.finish().await
}

pub async fn start(change: impl FnOnce(&mut Config)) -> Result<Node, StartError> {
    let mut config = Config::default();
    config.server.listen = vec![SocketAddr::from(([0, 0, 0, 0], 0))];
    config.http.listen = Vec::new();
    change(&mut config);
    let options = NodeOptions { exclusive: true, ..NodeOptions::default() };
    let clock = Arc::new(TestClock::starting_at(EPOCH));
    Node::start_on(Store::memory(), Arc::new(config), clock, options).await
}

async fn a_node_listens_to_others_only_where_somebody_has_to_log_in() -> Claim {
    for rules in [Vec::new(), vec!["default on nopass ~* +@all".to_owned()]] {
        let refused = start(|config| config.first_users = UserRules(rules)).await;
        let Err(error) = refused else { return Err("it listens".to_owned()) };
        claim!(matches!(error, StartError::Unprotected(_)), "refused by '{error}'");
        let text = error.to_string();
        claim!(text.contains("--insecure") && text.contains("auth.users"), "it says '{text}'");
    }
    start(|config| config.server.insecure = true).await.map_err(fail)?.stop().await;
    let node = start(|config| {
        config.first_users = UserRules(vec!["root on >geheim ~* +@all".to_owned()]);
    });
    let node = node.await.map_err(fail)?;
    let address = SocketAddr::from(([127, 0, 0, 1], node.addresses()[0].port()));
    let mut client = Connection::open(address).await?;
    client.expect("PING", "-NOAUTH Authentication required.").await?;
    client.expect("AUTH root geheim", "+OK").await?;
    client.expect("PING", "+PONG").await?;
    node.stop().await;
    for (rules, expected) in [
        ("root on >geheim ~* +@read", "no user would be left"),
        ("root on >geheim ~* +@nonsense", "modifier '+@nonsense'"),
    ] {
        let rules = vec!["bob on >geheim".to_owned(), rules.to_owned()];
        let refused = start(|config| config.first_users = UserRules(rules)).await;
        let Err(error) = refused else { return Err("it starts".to_owned()) };
        let text = error.to_string();
        claim!(text.contains(expected) && !text.contains("geheim"), "it says '{text}'");
    }
    Ok(())
}
