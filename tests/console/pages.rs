//! What each page shows.

use crate::house::{House, percent};

/// A node with something for every page.
fn furnished() -> (House, String) {
    let house = House::build();
    house.bucket("users", 3);
    house.bucket("old", 2);
    house.done("BUCKET.REPLICA REGISTER users mirror");
    house.done_in("global", ["BUCKET.DELETE", "users", "{\"n\":1}", "REASON", "a test"]);
    house.done("NAMESPACE CREATE shop.orders");
    house.done_in("shop.orders", ["BUCKET.CREATE", "invoices"]);
    house.done_in("global", ["BUCKET.REMOVE", "old", "REASON", "not needed"]);
    let removal = house.removal();
    (house, removal)
}

fn all(removal: &str) -> Vec<String> {
    let of = |action: &str| format!("/console/{action}?id={removal}");
    let mut pages: Vec<String> = [
        "/console",
        "/console/namespace?name=global",
        "/console/namespace?name=shop",
        "/console/bucket?namespace=global&name=users",
        "/console/deleted?namespace=global&bucket=users",
        "/console/bin",
        "/console/bin?kind=namespaces",
        "/console/reclaim",
        "/console/replicas",
        "/console/cluster",
        "/console/audit",
    ]
    .map(str::to_owned)
    .to_vec();
    pages.extend(["removal", "restore", "purge", "hold", "retain", "unhold"].map(of));
    pages
}

#[test]
fn the_overview_shows_namespaces_and_buckets_with_sizes_and_what_was_removed() {
    let (house, removal) = furnished();
    let page = house.visitor().page("/console");
    for text in [
        "<title>Overview · Lethe</title>",
        "1 of 1 alive",
        "/console/namespace?name=shop.orders",
        "/console/bucket?namespace=shop.orders&amp;name=invoices",
        "/console/bucket?namespace=global&amp;name=users",
        "/console/deleted?namespace=global&amp;bucket=users",
        "1 bucket, ",
        "not needed",
        "restorable",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(page.contains(&format!("/console/restore?id={removal}")));
}

#[test]
fn the_page_of_a_bucket_shows_its_figures_replicas_and_namesakes() {
    let (house, _) = furnished();
    let mut visitor = house.visitor();
    let page = visitor.page("/console/bucket?namespace=global&name=users");
    for text in ["Deleted documents", "mirror", "live", "Kept after removal", "primary-index"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let gone = visitor.page("/console/bucket?namespace=global&name=old");
    assert!(gone.contains("This bucket was removed.") && gone.contains("/console/restore?id="));
    house.bucket("old", 1);
    let again = visitor.page("/console/bucket?namespace=global&name=old");
    assert!(again.contains("Removed buckets of this name"), "{again}");
}

#[test]
fn the_bin_tells_what_when_who_and_why_and_finds_by_part_of_a_name() {
    let (house, removal) = furnished();
    let mut visitor = house.visitor();
    let page = visitor.page("/console/bin");
    for text in ["old", "in global", "6 d 23 h", "by default", "not needed", "2</td>"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(page.contains(&format!("/console/removal?id={removal}")));
    let found = |visitor: &mut crate::house::Visitor, query: &str| {
        visitor.page(&format!("/console/bin?{query}")).contains(&removal)
    };
    assert!(found(&mut visitor, "find=ol"));
    assert!(found(&mut visitor, "find=o*d&namespace=global&by=default"));
    for query in ["find=users", "by=somebody", "namespace=shop", "kind=namespaces"] {
        assert!(!found(&mut visitor, query), "{query}");
    }
    house.done("NAMESPACE REMOVE shop");
    let namespaces = visitor.page("/console/bin?kind=namespaces");
    assert!(namespaces.contains(">shop<"), "{namespaces}");
}

#[test]
fn long_lists_are_paged() {
    let house = House::build();
    for number in 0..53 {
        house.done(&format!("BUCKET.CREATE b{number:02}"));
        house.done(&format!("BUCKET.REMOVE b{number:02}"));
    }
    let mut visitor = house.visitor();
    for page in ["bin", "audit?action=remove"] {
        let one = visitor.page(&format!("/console/{page}"));
        let (first, last, next) =
            (one.contains(">b52<"), one.contains(">b03<"), one.contains(">b02<"));
        assert_eq!((first, last, next), (true, true, false), "{page}: {one}");
        let (_, rest) = one.split_once("rel=\"next\" href=\"").unwrap();
        let next = rest.split('"').next().unwrap().replace("&amp;", "&");
        let two = visitor.page(&next);
        assert!(two.contains("First page") && two.contains(">b02<"), "{page}: {two}");
        assert!(two.contains(">b00<") && !two.contains(">b03<"), "{page}: {two}");
    }
}

#[test]
fn the_page_of_a_removal_shows_the_barrier_shard_by_shard() {
    let (house, removal) = furnished();
    let page = house.visitor().page(&format!("/console/removal?id={removal}"));
    for text in
        ["Barrier", "of 7 shards have let go", "<progress", "not needed", &removal, "Purge…"]
    {
        assert!(page.contains(text), "{text}: {page}");
    }
    // Besides the shards a member may be listed that lags at the moment.
    let shards = page.split("data-label=\"Shard\">").skip(1);
    assert_eq!(
        shards.filter(|cell| cell.starts_with(|first: char| first.is_ascii_digit())).count(),
        7
    );
}

#[test]
fn members_shards_replicas_reclaim_and_the_audit_log_have_their_pages() {
    let (house, _) = furnished();
    let mut visitor = house.visitor();
    let cluster = visitor.page("/console/cluster");
    assert_eq!(cluster.matches("data-label=\"Owner\"").count(), 7);
    assert!(cluster.contains("here") && cluster.contains("alive"));
    let replicas = visitor.page("/console/replicas");
    assert!(replicas.contains("mirror") && replicas.contains("change"), "{replicas}");
    assert!(visitor.page("/console/reclaim").contains("Nothing is being reclaimed"));
    house.done("PURGE.PAUSE");
    assert!(visitor.page("/console/reclaim").contains("paused by user <strong>default</strong>"));
    assert!(visitor.page("/console").contains("Nothing is purged at the moment"));
    let log = visitor.page("/console/audit");
    assert!(log.contains("not needed") && log.contains("<strong>remove</strong>"), "{log}");
    assert!(!visitor.page("/console/audit?bucket=users").contains("not needed"));
    assert!(visitor.page("/console/audit?action=remove&by=default").contains("not needed"));
}

#[test]
fn what_a_policy_says_and_where_from_is_shown() {
    let house = House::build();
    house.done("NAMESPACE CREATE ledger.2026");
    house.done("NAMESPACE POLICY ledger SET retention 90d retention-min 30d lock compliance");
    house.done("NAMESPACE POLICY ledger.2026 SET quota-documents 10");
    house.done_in("ledger.2026", ["BUCKET.CREATE", "entries"]);
    house.done_in("ledger.2026", ["BUCKET.INSERT", "entries", "DOCS", "{}", "{}"]);
    let mut visitor = house.visitor();
    for page in ["namespace?name=ledger.2026", "bucket?namespace=ledger.2026&name=entries"] {
        let page = visitor.page(&format!("/console/{page}"));
        for text in
            ["90 d", "at least 30 d", "(of namespace ledger)", "compliance", "of 10 documents"]
        {
            assert!(page.contains(text), "{text}: {page}");
        }
    }
    house.done_in("ledger.2026", ["BUCKET.REMOVE", "entries"]);
    let removal = house.removal();
    let page = visitor.page(&format!("/console/removal?id={removal}"));
    assert!(page.contains("A lock of compliance keeps it: nobody can purge it before"), "{page}");
    assert!(!page.contains("/console/purge?"), "{page}");
    let refused = visitor.fill(&format!("/console/purge?id={removal}"), &[("name", "entries")]);
    assert_eq!(refused.status, 409, "{}", refused.body);
}

#[test]
fn what_was_purged_is_shown_until_its_bytes_are_given_back() {
    let (house, removal) = furnished();
    let mut visitor = house.visitor();
    let held = house.until("reclaim-done", || drop(house.done("BUCKET.PURGE old")));
    let reclaim = visitor.page("/console/reclaim");
    for text in [">old<", "bucket in global", "Given back", "Purged"] {
        assert!(reclaim.contains(text), "{text}: {reclaim}");
    }
    let page = visitor.page(&format!("/console/removal?id={removal}"));
    assert!(page.contains("It is purged.") && !page.contains("/console/restore?"), "{page}");
    assert!(visitor.page("/console").contains("1 object"));
    drop(held.release());
    let done = ["PURGE.STATUS"];
    house.wait_for(done, |jobs| *jobs == lethe::command::Reply::Array(Vec::new()));
    assert!(visitor.page("/console/reclaim").contains("Nothing is being reclaimed"));
    assert_eq!(visitor.ask(&format!("/console/removal?id={removal}"), "").status, 404);
}

#[test]
fn deleted_documents_are_listed_with_who_and_why() {
    let (house, _) = furnished();
    let page = house.visitor().page("/console/deleted?namespace=global&bucket=users");
    for text in ["a test", "by default", "Bring back…", "&quot;n&quot;:1"] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[test]
fn no_page_has_script_or_style_in_it_and_every_answer_its_guards() {
    let (house, removal) = furnished();
    let mut visitor = house.visitor();
    for path in all(&removal) {
        let answer = visitor.ask(&path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        for guard in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(answer.head.contains(guard), "{path}: {guard}: {}", answer.head);
        }
        let body = answer.body;
        assert_eq!(body.matches("<script").count(), 1, "{path}");
        for never in [" style=", "<style", " onclick", "javascript:", "http://", "https://"] {
            assert!(!body.contains(never), "{path}: {never}");
        }
        assert_eq!(body.matches("<h1").count(), 1, "{path}");
        assert!(body.contains("class=\"skip\" href=\"#main\""), "{path}");
    }
}

#[test]
fn files_and_the_way_in_are_served() {
    let house = House::build();
    let mut visitor = house.visitor();
    assert_eq!(crate::house::location(&visitor.ask("/", "")), "/console");
    let page = visitor.page("/console/");
    for (file, kind) in [
        ("console.css", "text/css"),
        ("console.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ] {
        let (_, rest) = page.split_once(&format!("\"/console/static/{file}")).unwrap();
        let version = rest.split('"').next().unwrap();
        let answer = visitor.ask(&format!("/console/static/{file}{version}"), "");
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains(&format!("content-type: {kind}")), "{}", answer.head);
        assert!(answer.head.contains("immutable") && answer.body.len() > 100);
    }
    assert_eq!(visitor.ask("/console/static/other.css", "").status, 404);
}

#[test]
fn what_is_not_there_has_a_page_that_says_so() {
    let (house, _) = furnished();
    let mut visitor = house.visitor();
    let no_removal = format!("/console/removal?id={}", "r_".to_owned() + &"0".repeat(26));
    for (path, status, text) in [
        ("/console/nothing", 404, "no such page"),
        ("/console/bucket?name=nothing", 404, "No such bucket"),
        ("/console/bucket?namespace=none.such&name=x", 404, "No such namespace"),
        ("/console/namespace?name=none.such", 404, "No such namespace"),
        ("/console/namespace", 400, "is missing"),
        ("/console/removal?id=users", 404, "No such removal"),
        (&no_removal, 404, "removal"),
        ("/console/bin?cursor=zz", 400, "CURSOR"),
        ("/console/audit?cursor=zz", 400, "CURSOR"),
        ("/console/bin?kind=x", 400, "buckets and namespaces"),
    ] {
        let answer = visitor.ask(path, "");
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(text) && answer.body.contains("To the overview"), "{path}");
    }
    house.done("NAMESPACE REMOVE shop");
    let gone = visitor.ask("/console/namespace?name=shop", "");
    assert_eq!(gone.status, 410);
    assert!(gone.body.contains("Look in the recycle bin"), "{}", gone.body);
}

#[test]
fn the_theme_is_remembered_and_leads_back_to_this_console_only() {
    let house = House::build();
    let mut visitor = house.visitor();
    assert!(!visitor.page("/console/bin?find=x").contains("data-theme"));
    let page = visitor.page("/console/bin?find=x");
    assert!(page.contains("name=\"back\" value=\"/console/bin?find=x\""), "{page}");
    let token = crate::house::hidden(&page, "token").to_owned();
    for (back, to) in [
        ("/console/bin?find=x", "/console/bin?find=x"),
        ("//evil.example/console", "/console"),
        ("https://evil.example", "/console"),
        ("/consolex", "/console"),
    ] {
        let form = format!("token={token}&theme=dark&back={}", percent(back));
        let answer = visitor.post("/console/theme", "", &form);
        assert_eq!(crate::house::location(&answer), to);
    }
    assert!(visitor.page("/console").contains("data-theme=\"dark\""));
    assert!(visitor.page("/console").contains("value=\"dark\" aria-pressed=\"true\""));
    visitor.post("/console/theme", "", &format!("token={token}&theme=auto"));
    assert!(!visitor.page("/console").contains("data-theme"));
    assert_eq!(visitor.post("/console/theme", "", &format!("token={token}&theme=x")).status, 400);
}
