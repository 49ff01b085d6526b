//! What a visitor without a right sees, and what happens when he tries all the same.

use std::collections::BTreeMap;

use lethe::command::Reply;

use crate::house::{House, Visitor, encoded, field, hidden, location, percent};
use crate::http;

/// Everybody's password is `geheim`.
const USERS: [&str; 6] = [
    "reader ~* +@read",
    "restorer ~* +@read +@restore",
    "own ~* +@read +@write +@remove +@restore-own",
    "keeper ~* +@read +@restore +@hold",
    "here ~shop ~shop.* +@read +@write +@remove +@restore +@purge +@hold",
    "manager ~* +@admin +@read",
];

/// What was removed.
struct Removals {
    global: String,
    shop: String,
    archive: String,
}

/// A namespace that all may see, and one below it; each with a bucket that is there and one that was.
fn furnished() -> (House, Removals) {
    let house = House::with_users(&USERS);
    house.done("NAMESPACE CREATE shop.archive");
    let mut removals = Vec::new();
    for namespace in ["global", "shop", "shop.archive"] {
        for bucket in ["kept", "lost"] {
            house.done_in(namespace, ["BUCKET.CREATE", bucket]);
            house.done_in(namespace, ["BUCKET.INSERT", bucket, "DOCS", "{}", "{}"]);
        }
        house.done_in(namespace, ["BUCKET.DELETE", "kept", "{}", "LIMIT", "1"]);
        house.done_in(namespace, ["BUCKET.REMOVE", "lost", "REASON", "a-slip"]);
        removals.push(house.removal());
    }
    let [global, shop, archive] = removals.try_into().unwrap();
    (house, Removals { global, shop, archive })
}

/// The addresses that a page leads to.
fn links(page: &str) -> Vec<String> {
    let all = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    all.filter(|link| !link.contains("/static/")).map(|link| link.replace("&amp;", "&")).collect()
}

/// What the menu of a page offers.
fn menu(page: &str) -> Vec<&str> {
    let (_, nav) = page.split_once("<nav").unwrap();
    let items = nav.split("</nav>").next().unwrap().split("</a>");
    let labels = items.filter_map(|item| item.rsplit_once("<a ")?.1.rsplit_once('>'));
    labels.map(|(_, label)| label).collect()
}

#[test]
fn each_sees_what_is_for_him_in_the_menu() {
    let (house, _) = furnished();
    let all = ["Overview", "Recycle bin", "Reclaim", "Replicas", "Cluster", "Audit log"];
    for (user, expected) in [
        ("root", &all[..]),
        ("reader", &["Overview", "Replicas"]),
        ("restorer", &["Overview", "Recycle bin", "Replicas"]),
        ("own", &["Overview", "Recycle bin", "Replicas"]),
        ("here", &["Overview", "Recycle bin", "Replicas"]),
        ("manager", &["Overview", "Recycle bin", "Replicas", "Cluster", "Audit log"]),
    ] {
        assert_eq!(menu(&house.logged_in(user).page("/console")), expected, "{user}");
    }
}

/// Follows all links from the overview on. None may lead to a refusal: a page offers only what its
/// visitor may do.
fn wander(visitor: &mut Visitor) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut ways = vec!["/console".to_owned()];
    while let Some(way) = ways.pop() {
        if seen.contains_key(&way) {
            continue;
        }
        let answer = visitor.ask(&way, "");
        assert_eq!(answer.status, 200, "{way}: {}", answer.body);
        ways.extend(links(&answer.body).into_iter().filter(|link| link.starts_with("/console")));
        seen.insert(way, answer.body);
    }
    seen
}

fn is_led_to(seen: &BTreeMap<String, String>, action: &str) -> bool {
    seen.keys().any(|way| way.starts_with(&format!("/console/{action}?")))
}

#[test]
fn nobody_is_offered_what_he_would_be_refused() {
    let (house, _) = furnished();
    house.done_in("global", ["BUCKET.HOLD", &house.removal(), "REASON", "x"]);
    house.done("NAMESPACE CREATE gone");
    house.done("NAMESPACE REMOVE gone");
    let actions = ["restore", "retain", "hold", "unhold", "purge", "undelete"];
    for (user, offered) in [
        ("root", &actions[..]),
        ("reader", &[]),
        ("restorer", &["restore", "retain", "undelete"]),
        ("own", &[]),
        ("keeper", &["restore", "retain", "hold", "unhold", "undelete"]),
        ("here", &actions[..]),
        ("manager", &["restore", "retain", "hold", "unhold", "undelete"]),
    ] {
        let seen = wander(&mut house.logged_in(user));
        for action in actions {
            assert_eq!(is_led_to(&seen, action), offered.contains(&action), "{user}: {action}");
        }
        let told = seen.values().any(|page| page.contains("a-slip"));
        assert_eq!(told, !["reader", "own"].contains(&user), "{user} sees what was removed");
        if user == "here" {
            let strange = seen.iter().find(|(_, page)| page.contains("in global"));
            assert!(strange.is_none(), "{strange:?}");
        }
    }
    // Only to look is no attempt.
    let log = house.done("AUDIT.LOG");
    assert!(!format!("{log:?}").contains("NOPERM"), "{log:?}");
}

#[test]
fn who_restores_his_own_finds_it_and_nothing_else() {
    let (house, removals) = furnished();
    let mut visitor = house.logged_in("own");
    assert!(visitor.page("/console/bin").contains("The bin is empty"));
    house.run_as("own", "global", ["BUCKET.REMOVE", "kept"]);
    let page = visitor.page("/console/bin");
    assert!(page.contains(">kept<") && !page.contains(">lost<"), "{page}");
    let seen = wander(&mut visitor);
    assert!(is_led_to(&seen, "restore") && !is_led_to(&seen, "purge"));
    let way = seen.keys().find(|way| way.starts_with("/console/restore?")).unwrap();
    location(&visitor.fill(way, &[("as", "kept")]));
    assert_eq!(visitor.ask(&format!("/console/restore?id={}", removals.global), "").status, 404);
}

#[test]
fn who_may_in_one_namespace_finds_and_restores_there() {
    let (house, removals) = furnished();
    let mut visitor = house.logged_in("here");
    let bin = visitor.page("/console/bin");
    assert!(bin.contains("in shop<") && bin.contains("in shop.archive<"), "{bin}");
    let overview = visitor.page("/console");
    assert!(overview.contains("Removed last") && overview.contains("a-slip"), "{overview}");
    for removal in [&removals.shop, &removals.archive] {
        let way = links(&bin)
            .into_iter()
            .find(|link| link.contains("/restore?") && link.contains(removal));
        location(&visitor.fill(&way.unwrap(), &[("as", "lost")]));
        // Also by the id alone, as somebody may have sent it.
        assert_eq!(visitor.ask(&format!("/console/removal?id={removal}"), "").status, 403);
    }
}

/// Sends the form of an action, as if its page had been shown.
fn attempt(visitor: &mut Visitor, way: &str) -> http::Answer {
    let page = visitor.page("/console");
    let fields = [
        ("token", hidden(&page, "token")),
        ("operation", "00000000000000000000000000000007"),
        ("name", "lost"),
        ("as", "lost"),
        ("reason", "x"),
        ("for", "90d"),
    ];
    visitor.post(way, "", &encoded(&fields))
}

#[test]
fn a_form_without_the_right_is_refused_and_recorded() {
    let (house, removals) = furnished();
    let undelete = format!("undelete?namespace=global&bucket=kept&removal={}", removals.global);
    let mut tried = 0;
    for (user, refused) in [
        ("reader", &["restore", "retain", "hold", "unhold", "purge"][..]),
        ("own", &["retain", "hold", "unhold", "purge"]),
        ("restorer", &["hold", "unhold", "purge"]),
        ("keeper", &["purge"]),
        ("manager", &["purge"]),
        ("here", &["restore", "retain", "hold", "unhold", "purge"]),
    ] {
        let mut visitor = house.logged_in(user);
        for action in refused {
            let way = format!("/console/{action}?id={}", removals.global);
            let answer = attempt(&mut visitor, &way);
            // Who may restore his own is told that there is nothing of his.
            let expected = if user == "own" { 404 } else { 403 };
            assert_eq!(answer.status, expected, "{user}: {action}: {}", answer.body);
            assert_eq!(visitor.ask(&way, "").status, expected, "{user}: {action}");
            tried += usize::from(expected == 403);
        }
        if ["reader", "own", "here"].contains(&user) {
            let answer = attempt(&mut visitor, &format!("/console/{undelete}"));
            assert_eq!(answer.status, 403, "{user}: {}", answer.body);
            assert!(answer.body.contains("bucket.undelete"), "{}", answer.body);
            tried += 1;
        }
    }
    assert_eq!(house.removal(), removals.archive, "nothing was changed");
    for (user, actions) in [
        ("reader", &["restore", "hold", "purge"][..]),
        ("restorer", &["hold", "purge"]),
        ("keeper", &["purge"]),
        ("manager", &["purge"]),
        ("here", &["restore", "hold", "purge"]),
    ] {
        for action in actions {
            let entries = ["AUDIT.LOG", "BY", user, "ACTION", action];
            let log = house.wait_for(entries, |log| *log != Reply::Array(Vec::new()));
            assert_eq!(field(&log, "outcome"), "NOPERM", "{user}: {action}");
        }
    }
    assert!(tried > 15, "{tried}");
}

#[test]
fn what_may_not_be_seen_looks_the_same_whether_it_is_there_or_not() {
    let (house, removals) = furnished();
    let unknown = "r_".to_owned() + &"0".repeat(removals.global.len() - 2);
    let pairs = |page: &str, there: &str, nowhere: &str| {
        [there, nowhere].map(|what| format!("/console/{page}{}", percent(what)))
    };
    let mut visitors = ["reader", "here"].map(|user| house.logged_in(user));
    let (reader, here) = (0, 1);
    for (visitor, asked) in [
        (here, pairs("bucket?namespace=global&name=", "kept", "nothing")),
        (here, pairs("bucket?namespace=global&name=", "lost", "nothing")),
        (here, pairs("namespace?name=", "global", "nowhere")),
        (here, pairs("deleted?namespace=global&bucket=", "kept", "nothing")),
        (here, pairs("bin?namespace=", "global", "nowhere")),
        (here, pairs("bin?kind=namespaces&namespace=", "global", "nowhere")),
        (here, pairs("removal?id=", &removals.global, &unknown)),
        (here, pairs("purge?id=", &removals.global, &unknown)),
        (reader, pairs("removal?id=", &removals.global, &unknown)),
        (reader, pairs("restore?id=", &removals.global, &unknown)),
        (reader, pairs("bin?find=", "lost", "nothing")),
        (reader, pairs("deleted?namespace=global&bucket=", "kept", "nothing")),
        (reader, pairs("undelete?namespace=global&removal=x&bucket=", "kept", "nothing")),
    ] {
        let visitor = &mut visitors[visitor];
        let mut seen = Vec::new();
        for way in &asked {
            let before = house.commands();
            let answer = visitor.ask(way, "");
            let ran: Vec<(String, i64)> = house
                .commands()
                .into_iter()
                .map(|(command, count)| {
                    let before = before.get(&command).copied().unwrap_or(0);
                    (command, count - before)
                })
                .filter(|(_, count)| *count != 0)
                .collect();
            assert!([403, 404].contains(&answer.status), "{way}: {}", answer.body);
            seen.push((answer.status, without(&answer.body, way), ran));
        }
        assert_eq!(seen[0], seen[1], "{asked:?}");
    }
}

/// A page without the word that was asked for, which stands at the end of the address.
fn without(page: &str, way: &str) -> String {
    let escaped = way.rsplit('=').next().unwrap();
    let bytes = escaped.split('%').skip(1).map(|code| u8::from_str_radix(code, 16).unwrap());
    let word = String::from_utf8(bytes.collect()).unwrap();
    page.replace(escaped, "WORD").replace(&word, "WORD")
}

#[test]
fn a_refusal_over_http_is_the_one_over_resp() {
    let (house, removals) = furnished();
    let answer =
        attempt(&mut house.logged_in("keeper"), &format!("/console/purge?id={}", removals.shop));
    let said = house.run_as("keeper", "global", ["BUCKET.PURGE", &removals.shop]);
    let Reply::Error(line) = said else { panic!("{said:?}") };
    let (code, message) = line.split_once(' ').unwrap();
    assert_eq!((code, answer.status), ("NOPERM", 403));
    assert!(answer.body.contains(&message.replace('\'', "&#39;")) || answer.body.contains(message));
    let log =
        house.wait_for(["AUDIT.LOG", "BY", "keeper"], |log| format!("{log:?}").contains("NOPERM"));
    assert_eq!(field(&log, "action"), "purge");
}

#[test]
fn whoever_manages_some_namespaces_is_asked_for_one_in_the_bin() {
    let house = House::with_users(&["manager ~shop ~shop.* +@admin", "reader ~shop +@read"]);
    house.done("NAMESPACE CREATE shop");
    house.done_in("shop", ["BUCKET.CREATE", "users"]);
    house.done_in("shop", ["BUCKET.REMOVE", "users"]);
    let mut manager = house.logged_in("manager");
    assert!(manager.page("/console/bin").contains("Name a namespace"));
    assert!(manager.page("/console/bin?namespace=shop").contains("users"));
    assert_eq!(house.logged_in("reader").ask("/console/bin", "").status, 403);
}
