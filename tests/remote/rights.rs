//! Users who may do some things and not others: what they may do works, and the audit log
//! tells of no attempt that was refused unless it was theirs.

use std::process::Command;

use serde_json::{Value as Json, json};

use super::{Ran, TestNode, client, lethe, on_a_terminal, report};

/// Two namespaces, one below the other, that users have rights in, and one that they have none in.
fn filled() -> TestNode {
    let node = TestNode::start();
    node.play("BUCKET.CREATE mine; NAMESPACE CREATE shop.orders");
    node.play("NAMESPACE USE shop; BUCKET.CREATE items; BUCKET.INSERT items DOCS '{\"n\": 1}'");
    node.play("NAMESPACE USE shop; BUCKET.CREATE old; BUCKET.REMOVE old REASON done");
    node.play("NAMESPACE USE shop.orders; BUCKET.CREATE open; BUCKET.CREATE gone");
    node.play("NAMESPACE USE shop.orders; BUCKET.REMOVE gone");
    for (user, rights) in [
        ("reader", "+@read"),
        ("remover", "+@read +@remove"),
        ("sweeper", "+@remove"),
        ("restorer", "+@restore"),
        ("keeper", "+@read +@restore"),
        ("purger", "+@purge"),
        ("destroyer", "+@read +@purge"),
    ] {
        node.play(&format!("ACL SETUSER {user} on >geheim ~shop ~shop.* {rights}"));
    }
    node
}

impl TestNode {
    fn run_as(&self, user: &str, words: &[&str]) -> Ran {
        Ran::of(&mut self.command_as(user, words))
    }

    fn command_as(&self, user: &str, words: &[&str]) -> Command {
        let mut command = lethe(words);
        command.env("LETHE_URL", format!("redis://{user}@{}", self.address));
        command.env("LETHE_PASSWORD", "geheim");
        command
    }

    /// Which must succeed.
    #[track_caller]
    fn ok_as(&self, user: &str, words: &[&str]) -> String {
        let ran = self.run_as(user, words);
        assert_eq!(ran.status, 0, "{user} {words:?}: {ran:?}");
        ran.out
    }

    /// The paths of a list.
    #[track_caller]
    fn paths_as(&self, user: &str, words: &[&str]) -> String {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let list: Json = serde_json::from_str(&self.ok_as(user, &words)).unwrap();
        let rows = list.get("entries").or_else(|| list.get("removed")).unwrap();
        let mut paths: Vec<&str> =
            rows.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap()).collect();
        paths.sort_unstable();
        paths.join(" ")
    }

    /// The attempts that were refused, as user and right.
    fn refused(&self) -> Vec<(String, String)> {
        let runtime = self.runtime.as_ref().unwrap();
        let lifecycle = self.node.as_ref().unwrap().services().lifecycle().unwrap();
        runtime.block_on(lifecycle.write_refusals()).unwrap();
        let client::Value::Array(rows) = self.play("AUDIT.LOG COUNT 1000") else { panic!() };
        let field = |row: &client::Value, name: &str| {
            let client::Value::Array(fields) = row else { panic!("{row:?}") };
            let named = |pair: &&[client::Value]| text(&pair[0]) == name;
            text(&fields.chunks(2).find(named).unwrap()[1])
        };
        rows.iter()
            .filter(|row| field(row, "outcome") == "NOPERM")
            .map(|row| (field(row, "user"), field(row, "action")))
            .collect()
    }

    #[track_caller]
    pub(super) fn none_refused(&self) {
        assert_eq!(self.refused(), []);
    }
}

fn text(value: &client::Value) -> String {
    match value {
        client::Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn who_may_only_read_lists_and_is_told_what_else_it_takes() {
    let node = filled();
    let ls = |words: &[&str]| node.paths_as("reader", words);
    assert_eq!(ls(&["ls", "shop/"]), "shop.orders/ shop/items");
    assert_eq!(ls(&["ls", "shop"]), "shop.orders/ shop/items");
    assert_eq!(ls(&["ls", "shop/items"]), "shop/items");
    assert_eq!(ls(&["ls", "-R", "--sum", "/"]), "shop.orders/ shop.orders/open shop/ shop/items");
    assert_eq!(ls(&["ls", "-R", "-l", "shop/"]), "shop.orders/ shop.orders/open shop/items");
    let ran = node.run_as("reader", &["ls"]);
    ran.expect(0, &["takes the right read: global/"]);
    assert!(ran.out.contains("shop/") && !ran.out.contains("mine"), "{ran:?}");
    node.run_as("reader", &["ls", "global/"]).expect(1, &["NOPERM", "in namespace 'global'"]);
    // A hint after a slip, too, asks for nothing that it takes more for.
    let slip = |words: &[&str], said: &[&str]| node.run_as("reader", words).expect(1, said);
    slip(&["ls", "shop/item"], &["NOSUCHBUCKET", "did you mean shop/items?"]);
    slip(&["ls", "shop/odl"], &["NOSUCHBUCKET", "`lethe bin` lists"]);
    slip(&["ls", "shop.ordres/"], &["NOSUCHNAMESPACE", "did you mean shop.orders/?"]);
    let id = node.json(&["ls", "shop/"])["entries"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(ls(&["ls", &id]), "shop.orders/ shop.orders/open");
    assert!(node.ok_as("reader", &["top", "--node-only"]).contains("Commands of this node"));
    node.none_refused();

    slip(&["ls", "--removed", "shop/"], &["NOPERM", "takes the right restore"]);
    slip(&["rm", "shop/items"], &["NOPERM", "'bucket.remove'"]);
    slip(&["bin", "shop/"], &["NOPERM", "takes the right restore"]);
    slip(&["restore", "shop/old"], &["NOPERM", "'bucket.restore'"]);
    slip(&["purge", "shop/old", "--yes", "old"], &["NOPERM", "'bucket.purge'"]);
    slip(&["top"], &["NOPERM", "the right admin in all namespaces", "--node-only"]);
    let mut refused = node.refused();
    refused.sort_unstable();
    let actions: Vec<&str> = refused.iter().map(|(_, action)| action.as_str()).collect();
    // Each that the user has made, and no other.
    assert_eq!(actions, ["admin", "purge", "remove", "restore", "restore", "restore"]);
    assert!(refused.iter().all(|(user, _)| user == "reader"), "{refused:?}");
}

#[test]
fn who_may_remove_removes_with_and_without_a_question() {
    let node = filled();
    node.ok_as("remover", &["rm", "--dry-run", "shop.orders/", "shop/items"]);
    node.ok_as("remover", &["rm", "shop/items", "shop.orders/"]);
    assert_eq!(node.paths_as("remover", &["ls", "-R", "/"]), "shop/");
    let slip = node.run_as("remover", &["rm", "shop/itms", "nowhere/x"]);
    slip.expect(1, &["NOSUCHBUCKET", "NOPERM"]);
    // Without the right to read there is no hint, and what was asked for happens.
    node.ok_as("sweeper", &["rm", "shop/"]);
    let refused = node.refused();
    assert_eq!(refused, [], "reading somewhere else is no such attempt");
}

/// On a terminal, which the program sees at both ends.
#[test]
fn who_may_remove_and_no_more_is_asked_on_a_terminal() {
    let node = filled();
    let ask = |user: &str, answer: &str| {
        let ran = on_a_terminal(&node.command_as(user, &["rm", "shop/"]), answer)?;
        Some(ran.out)
    };
    let Some(no) = ask("sweeper", "no") else {
        report::skipped("questions on a terminal: there is no script(1)");
        return;
    };
    assert!(no.contains("shop/ holds 2 buckets, 1 document ("), "{no}");
    assert!(no.contains("1 namespace directly below it"), "{no}");
    assert!(no.contains("the answer was not yes"), "{no}");
    let yes = ask("sweeper", "y").unwrap();
    assert!(yes.contains("removed shop/"), "{yes}");
    node.none_refused();
}

#[test]
fn who_may_only_restore_sees_the_bin_and_empties_nothing() {
    let node = filled();
    let bin = |words: &[&str]| node.paths_as("restorer", words);
    assert_eq!(bin(&["bin", "shop/"]), "shop.orders/gone shop/old");
    assert_eq!(bin(&["bin", "shop.orders/"]), "shop.orders/gone");
    assert_eq!(bin(&["bin", "shop/old"]), "shop/old");
    assert_eq!(
        bin(&["bin", "shop/", "--after", "2h", "--expiring-within", "30d"]),
        "shop.orders/gone shop/old"
    );
    let id = node.json(&["bin", "shop/old"])["removed"][0]["removal_id"].clone();
    let id = id.as_str().unwrap();
    // By an id, whose namespace may be looked up with the right to read alone.
    assert_eq!(node.paths_as("keeper", &["bin", id]), "shop/old");
    assert_eq!(
        node.paths_as("keeper", &["ls", "--removed", "shop/"]),
        "shop.orders/ shop/items shop/old"
    );
    assert_eq!(
        node.paths_as("keeper", &["ls", "--removed", "-R", "shop/"]),
        "shop.orders/ shop.orders/gone shop.orders/open shop/items shop/old"
    );
    node.run_as("restorer", &["restore", "shop/olds"])
        .expect(1, &["NOSUCHBUCKET", "did you mean shop/old (removed)?"]);
    assert!(node.ok_as("restorer", &["restore", "shop/old"]).contains("restored shop/old"));
    node.play("NAMESPACE USE shop; BUCKET.REMOVE old; BUCKET.CREATE old; BUCKET.REMOVE old");
    node.run_as("restorer", &["restore", "shop/old"])
        .expect(1, &["AMBIGUOUSREMOVED", "removed", "by default"]);
    node.ok_as("restorer", &["restore", "shop/old", "--latest"]);
    node.play("NAMESPACE REMOVE shop.orders");
    assert_eq!(bin(&["bin", "shop/"]), "shop.orders/ shop/old");
    node.ok_as("restorer", &["restore", "shop.orders/"]);
    // What the times are reckoned by is open to all.
    node.ok_as("restorer", &["top", "--node-only", "--json"]);
    node.none_refused();

    node.run_as("restorer", &["bin"]).expect(1, &["NOPERM", "name a namespace"]);
    node.run_as("restorer", &["rm", "shop/items"]).expect(1, &["NOPERM", "'bucket.remove'"]);
    let refused: Vec<String> = node.refused().into_iter().map(|(_, action)| action).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
}

/// Whoever has a right in one namespace alone, and not in those below it.
#[test]
fn what_is_below_a_namespace_is_left_out_for_who_may_not_see_it() {
    let node = filled();
    node.play("ACL SETUSER eve on >geheim ~shop +@restore (~shop.orders +@read)");
    let ran = node.run_as("eve", &["bin", "shop/"]);
    ran.expect(0, &["not all of these is shown", "shop.orders/"]);
    assert!(ran.out.contains("shop/old") && !ran.out.contains("gone"), "{ran:?}");
    let listed = node.run_as("eve", &["bin", "shop/", "--json"]);
    let listed: Json = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed["complete"], false);
}

#[test]
fn who_may_purge_purges_by_name_if_he_may_read_and_by_id_in_any_case() {
    let node = filled();
    let id = |path: &str| {
        let bin = node.json(&["bin", path]);
        bin["removed"][0]["removal_id"].as_str().unwrap().to_owned()
    };
    let old = id("shop/old");
    node.run_as("purger", &["purge", "shop/old", "--yes", "old"])
        .expect(1, &["NOPERM", "'bucket.describe'", "by its id"]);
    node.run_as("purger", &["purge", &old]).expect(2, &["must be agreed to", &old]);
    let purged = node.ok_as("purger", &["purge", &old, "--yes", &old, "--json"]);
    let purged: Json = serde_json::from_str(&purged).unwrap();
    assert_eq!(purged["purged"]["state"], "purged");
    assert_eq!(purged["purged"]["namespace"], json!(null));
    node.run_as("purger", &["purge", "r_0000000000000000000000000A", "--yes", "x"]).expect(1, &[]);

    let purge = |words: &[&str]| node.run_as("destroyer", &[&["purge"], words].concat());
    let told = node.ok_as("destroyer", &["purge", "shop.orders/gone", "--yes", "gone"]);
    assert!(told.starts_with("purged shop.orders/gone (0 document"), "{told}");
    purge(&["shop/gnoe", "--yes", "gnoe"]).expect(1, &["NOSUCHBUCKET"]);
    purge(&["shop/items", "--yes", "items"]).expect(1, &["is not removed"]);
    node.play("NAMESPACE USE shop; BUCKET.CREATE two; BUCKET.REMOVE two");
    node.play("NAMESPACE USE shop; BUCKET.CREATE two; BUCKET.REMOVE two");
    purge(&["shop/two", "--yes", "two"])
        .expect(1, &["AMBIGUOUSREMOVED", "--latest", "0 documents, kept until 2027-01-22"]);
    let newest = node.json(&["bin", "shop/two"])["removed"][0]["removal_id"].clone();
    let latest = ["shop/two", "--yes", "two", "--latest", "--json"];
    let purged: Json = serde_json::from_str(&purge(&latest).out).unwrap();
    assert_eq!(purged["purged"]["removal_id"], newest);
    node.play("NAMESPACE USE shop; BUCKET.HOLD two REASON audit");
    purge(&["shop/two", "--yes", "two"]).expect(1, &["HELD", "BUCKET.UNHOLD r_"]);
    node.play("NAMESPACE USE shop; BUCKET.UNHOLD two; NAMESPACE REMOVE shop.orders");
    purge(&["shop.orders/", "--yes", "shop.orders"]).expect(0, &[]);
    node.none_refused();

    // While something active has the name only the list tells what was removed under it.
    node.play("NAMESPACE USE shop; BUCKET.CREATE two");
    purge(&["shop/two", "--yes", "two"]).expect(1, &["NOPERM", "'bucket.removed'"]);
    assert_eq!(node.refused(), [("destroyer".to_owned(), "restore".to_owned())]);
    let told = node.ok(&["purge", "shop/two", "--yes", "two"]);
    assert!(told.starts_with("purged shop/two"), "{told}");
}

#[test]
fn an_administrator_sees_what_is_at_work_without_the_right_to_purge() {
    let node = filled();
    node.play("ACL SETUSER boss on >geheim ~* +@admin");
    let top = node.ok_as("boss", &["top"]);
    assert!(top.contains("Members") && top.contains("takes the right purge"), "{top}");
    let top: Json = serde_json::from_str(&node.ok_as("boss", &["top", "--json"])).unwrap();
    assert_eq!((&top["reclaim"], &top["cluster"]), (&json!(null), &json!("lethe")));
    assert_eq!(top["removals"].as_array().unwrap().len(), 2);
    let all: Json = serde_json::from_str(&node.ok(&["top", "--json"])).unwrap();
    assert_eq!(all["reclaim"], json!([]));
    let own: Json = serde_json::from_str(&node.ok(&["top", "--node-only", "--json"])).unwrap();
    assert_eq!((&own["node"], &own["store"]), (&json!("n1"), &json!("memory")));
    let unseen = ["cluster", "cluster_time", "members", "removals", "reclaim"];
    assert!(unseen.iter().all(|name| own[name].is_null()), "{own}");
    node.none_refused();
}
