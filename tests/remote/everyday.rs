//! What people do every day, and what the subcommands promise to scripts.

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value as Json, json};

use super::{Ran, TestNode, lethe};

/// Two namespaces with something in them, and something in the bin.
fn filled() -> TestNode {
    let node = TestNode::start();
    node.play("BUCKET.CREATE users; BUCKET.INSERT users DOCS '{\"n\": 1}' '{\"n\": 2}'");
    node.play("NAMESPACE CREATE shop.orders; NAMESPACE USE shop; BUCKET.CREATE items");
    node.play(
        "NAMESPACE USE shop.orders; BUCKET.CREATE open; BUCKET.INSERT open DOCS '{\"n\": 1}'",
    );
    node
}

/// The values of a field of each object in a list.
fn each<'a>(list: &'a Json, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|it| it[field].as_str().unwrap_or("null")).collect()
}

#[test]
fn json_has_what_the_manual_lists() {
    let node = filled();
    let listed = node.json(&["ls"]);
    assert_eq!(each(&listed["entries"], "path"), ["global/", "shop/", "global/users"]);
    assert_eq!(listed["complete"], true);
    let users = &listed["entries"][2];
    assert_eq!(
        (&users["kind"], &users["namespace"], &users["bucket"], &users["state"]),
        (&json!("bucket"), &json!("global"), &json!("users"), &json!("active"))
    );
    assert_eq!((&users["documents"], &users["protected"]), (&json!(2), &json!(false)));
    assert!(users["bytes"].as_i64().unwrap() > 0 && users["removal_id"].is_null());

    let summed = node.json(&["ls", "/", "--sum"]);
    assert_eq!(summed["entries"][1]["documents"], 1, "of shop.orders/open");
    let all = node.json(&["ls", "-R", "shop"]);
    assert_eq!(each(&all["entries"], "path"), ["shop.orders/", "shop/items", "shop.orders/open"]);

    let removed = node.json(&["rm", "users", "shop.orders/", "--reason", "old"]);
    assert_eq!(removed["dry_run"], false);
    assert_eq!(each(&removed["removed"], "path"), ["global/users", "shop.orders/"]);
    let id = removed["removed"][0]["removal_id"].as_str().unwrap();
    assert_eq!(removed["removed"][0]["documents"], 2);
    let expires_at = removed["removed"][0]["expires_at"].as_str().unwrap();
    assert!(expires_at.starts_with("2027-01-22T08:0"), "{expires_at}");

    let bin = node.json(&["bin"]);
    let users =
        bin["removed"].as_array().unwrap().iter().find(|it| it["kind"] == "bucket").unwrap();
    assert_eq!((&users["removal_id"], &users["reason"]), (&json!(id), &json!("old")));
    assert_eq!(users["removed_by"], "default");
    let left = users["seconds_left"].as_i64().unwrap();
    assert!((604_000..=604_900).contains(&left), "{left}");
    assert_eq!((&users["state"], &users["restorable"]), (&json!("removed"), &json!(true)));
    assert_eq!(users["shards"], 7);

    let restored = node.json(&["restore", id, "--as", "people"]);
    assert_eq!(restored["restored"]["path"], "global/people");
    assert_eq!(restored["restored"]["documents"], 2);
    let purged = node.json(&["purge", "shop.orders/", "--yes", "shop.orders"]);
    assert_eq!(purged["purged"]["state"], "purged");
    assert_eq!(purged["purged"]["kind"], "namespace");

    let top = node.json(&["top"]);
    assert_eq!((&top["node"], &top["store"]), (&json!("n1"), &json!("memory")));
    assert_eq!(top["members"][0]["shards"].as_array().unwrap().len(), 7);
    assert!(top["operations"]["total"].as_u64().unwrap() > 10);
    let commands = each(&top["commands"], "command");
    assert!(commands.contains(&"bucket.insert"), "{commands:?}");
}

#[test]
fn a_bin_is_filtered_and_sorted() {
    let node = TestNode::start();
    for (name, retention) in [("a", "9d"), ("b", "2d"), ("c", "forever")] {
        node.play(&format!("BUCKET.CREATE {name}; BUCKET.REMOVE {name} RETAIN {retention}"));
        node.clock.jump(1_000);
    }
    node.play("NAMESPACE CREATE x.y; NAMESPACE REMOVE x.y; BUCKET.HOLD c REASON audit");
    let paths = |words: &[&str]| {
        let words: Vec<&str> = ["bin"].iter().chain(words).copied().collect();
        each(&node.json(&words)["removed"], "path").join(" ")
    };
    assert_eq!(paths(&["--sort", "left"]), "global/b x.y/ global/a global/c");
    assert_eq!(paths(&["--sort", "name"]), "global/a global/b global/c x.y/");
    assert_eq!(paths(&["--sort", "name", "--reverse"]), "x.y/ global/c global/b global/a");
    assert_eq!(paths(&["--held"]), "global/c");
    assert_eq!(paths(&["--expiring-within", "3d"]), "global/b");
    assert_eq!(paths(&["--matching", "[ab]", "--sort", "name"]), "global/a global/b");
    assert_eq!(paths(&["--by", "nobody"]), "");
    assert_eq!(paths(&["x/"]), "x.y/");
    assert_eq!(paths(&["b"]), "global/b");
    let bin = node.json(&["bin", "--sort", "name"]);
    for (at, path) in ["global/a", "global/b", "global/c", "x.y/"].into_iter().enumerate() {
        for id in ["id", "removal_id"] {
            assert_eq!(paths(&[bin["removed"][at][id].as_str().unwrap()]), path);
        }
    }
    // What was removed from a namespace that is removed, and whose name another one has.
    node.play("NAMESPACE CREATE z; NAMESPACE USE z; BUCKET.CREATE q; BUCKET.REMOVE q");
    let inner = node.json(&["bin", "z/"])["removed"][0]["removal_id"].clone();
    node.play("NAMESPACE REMOVE z");
    assert_eq!(paths(&["z/", "--sort", "name"]), "z/ z/q");
    node.play("NAMESPACE CREATE z");
    assert_eq!(paths(&["z/"]), "");
    assert_eq!(paths(&[inner.as_str().unwrap()]), "z/q");
    node.play("NAMESPACE REMOVE z; NAMESPACE PURGE z LATEST");
    assert_eq!(paths(&["--before", "2027-01-01T00:00:00Z"]), "");
    let limited = node.json(&["bin", "--limit", "1"]);
    assert_eq!((each(&limited["removed"], "path").len(), &limited["complete"]), (1, &json!(false)));
    assert!(node.ok(&["bin", "--long"]).contains("on hold by default: audit"));
}

#[test]
fn what_a_dry_run_tells_is_not_done() {
    let node = filled();
    let told = node.ok(&["rm", "--dry-run", "users", "shop/"]);
    assert!(told.starts_with("would remove global/users (2 documents"), "{told}");
    assert!(told.contains("would remove shop/"), "{told}");
    assert_eq!(each(&node.json(&["bin"])["removed"], "path"), [""; 0]);
    node.ok(&["rm", "users"]);
    let told = node.ok(&["restore", "users", "-n", "--as", "shop/users"]);
    assert!(told.starts_with("would restore shop/users (2 documents"), "{told}");
    assert_eq!(each(&node.json(&["bin"])["removed"], "path"), ["global/users"]);
}

/// Where nobody can be asked nothing is asked, and nothing is destroyed.
#[test]
fn without_a_terminal_nobody_is_asked_and_nothing_is_coloured() {
    let node = filled();
    assert!(!node.ok(&["ls"]).contains('\x1b'));
    assert!(!node.ok(&["top"]).contains('\x1b'));
    assert!(node.ok(&["ls", "--color", "always"]).contains("\x1b[1mNAME"));
    // What can be restored is removed without a question.
    node.ok(&["rm", "shop/"]);
    node.lethe(&["purge", "shop/"]).expect(2, &["must be agreed to", "--yes shop"]);
    node.lethe(&["purge", "shop/", "--yes", "global"]).expect(1, &["nothing was done", "shop"]);
    let told = node.lethe(&["purge", "shop/", "--json"]);
    assert_eq!((told.status, &told.error()["code"]), (2, &json!("USAGE")));
    node.ok(&["restore", "shop/"]);
    assert!(node.ok(&["ls", "shop.orders"]).contains("shop.orders/open"));
}

#[test]
fn several_paths_are_removed_as_far_as_that_goes() {
    let node = filled();
    let ran = node.lethe(&["rm", "nobody", "users", "nothing/", "shop/items"]);
    ran.expect(1, &["global/nobody: NOSUCHBUCKET", "nothing/: NOSUCHNAMESPACE"]);
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
    let ran = node.lethe(&["rm", "nobody", "none", "--json"]);
    let errors: Vec<Json> =
        ran.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((ran.status, errors.len(), ran.out.as_str()), (1, 2, ""));
    assert_eq!(errors[1]["error"]["path"], "global/none");
}

#[test]
fn one_bucket_comes_out_of_a_removed_namespace_and_one_takes_the_place_of_another() {
    let node = filled();
    node.ok(&["rm", "shop.orders/"]);
    let bin = node.json(&["bin"]);
    let removal = bin["removed"][0]["removal_id"].as_str().unwrap();
    let inside = node.json(&["ls", removal]);
    assert_eq!(each(&inside["entries"], "path"), ["shop.orders/", "shop.orders/open"]);
    let id = inside["entries"][1]["id"].as_str().unwrap();
    node.ok(&["restore", id, "--as", "global/open"]);
    assert!(node.ok(&["ls", "global/open"]).contains(" 1 "));

    node.ok(&["rm", "open"]);
    node.play("BUCKET.CREATE open");
    node.lethe(&["restore", "open"]).expect(1, &["BUCKETALREADYEXISTS", "--as", "--replace"]);
    let told = node.ok(&["restore", "open", "--replace"]);
    assert!(told.contains("the one that had the name is in the bin"), "{told}");
}

#[test]
fn names_that_need_it_are_escaped_and_can_be_typed_as_they_are_shown() {
    let node = TestNode::start();
    node.play("NAMESPACE CREATE a/b; NAMESPACE USE a/b; BUCKET.CREATE 'c\\d'");
    node.play("NAMESPACE USE a/b; BUCKET.CREATE '\u{202e}größe 日本'");
    let listed = node.ok(&["ls", "a\\/b/"]);
    let hostile = "a\\/b/\\u{202e}größe 日本";
    assert!(listed.contains("a\\/b/c\\\\d ") && listed.contains(hostile), "{listed}");
    let columns: Vec<usize> = listed
        .lines()
        .filter_map(|line| line.find("active").map(|at| line[..at].chars().count()))
        .collect();
    // Two letters of it are two columns wide.
    assert_eq!(columns, [columns[0], columns[0] - 2], "{listed}");
    node.ok(&["rm", hostile, "a\\/b/c\\\\d"]);
    node.ok(&["purge", hostile, "--yes", hostile]);
    node.ok(&["restore", "a\\/b/c\\\\d"]);
}

#[test]
fn who_wants_no_more_of_the_output_is_not_bothered() {
    let node = filled();
    for words in [["ls", "-R"].as_slice(), &["bin"], &["top"], &["completions", "bash"], &["man"]] {
        let mut child = lethe(words)
            .env("LETHE_URL", node.url())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        let quiet =
            said.replace("lethe: the bin is empty, or holds nothing that was asked for\n", "");
        assert!(status.success() && quiet.is_empty(), "{words:?}: {status} {said}");
    }
}

#[test]
fn completions_and_pages_for_man_know_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = Ran::of(&mut lethe(&["completions", shell]));
        assert_eq!(ran.status, 0, "{ran:?}");
        for word in ["restore", "purge", "retention", "replicate"] {
            assert!(ran.out.contains(word), "{shell}: {word}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("man1");
    assert_eq!(Ran::of(&mut lethe(&["man", to.to_str().unwrap()])).status, 0);
    for name in ["ls", "rm", "restore", "purge", "bin", "top"] {
        let page = std::fs::read_to_string(to.join(format!("lethe-{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains("Examples"), "{name}: {page}");
    }
    assert!(Ran::of(&mut lethe(&["man"])).out.contains("lethe\\-purge"));
}
