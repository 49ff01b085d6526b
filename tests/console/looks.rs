//! How every page looks: wide and on a phone, in light and dark; that all text can be read and nothing is
//! cut off. With `CONSOLE_SCREENSHOTS=<folder>` pictures are kept, to be looked at.

use crate::browser::Browser;
use crate::house::{House, field};

/// A node with something on every page, also long names.
pub(crate) fn furnished() -> (House, String) {
    let house = House::build();
    house.bucket("users", 12);
    house.bucket("carts", 3);
    house.done_in("global", ["BUCKET.DELETE", "users", "{\"n\":{\"$lt\":3}}", "REASON", "a test"]);
    house.done("BUCKET.REPLICA REGISTER users mirror-in-another-place");
    house.done("BUCKET.PROTECT carts ON");
    house.done("NAMESPACE CREATE shop.orders.archive");
    let long = format!("a-name-of-the-longest-kind-{}", "x".repeat(200));
    house.done_in("shop.orders", ["BUCKET.CREATE", &long]);
    house.done_in("shop.orders", ["BUCKET.CREATE", "invoices"]);
    house.done_in("shop.orders", ["BUCKET.REMOVE", &long, "RETAIN", "90m"]);
    for (name, reason) in [("sessions", "nobody needs them"), ("drafts", "a slip of the finger")] {
        house.bucket(name, 4);
        house.done_in("global", ["BUCKET.REMOVE", name, "REASON", reason]);
    }
    let removal = house.removal();
    house.done_in("global", ["BUCKET.HOLD", "sessions", "REASON", "asked for by the auditors"]);
    house.done("NAMESPACE CREATE gone.away");
    house.done("NAMESPACE REMOVE gone");
    (house, removal)
}

/// What a page says of its own that is hard to read: text whose contrast is below WCAG AA, as a list.
const FAINT: &str = r#"(() => {
  const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number);
  const light = (c) => {
    const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !e.checkVisibility()) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(parse(style.color).slice(0, 3)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) faint.push(walk.currentNode.textContent.trim() + " " + ratio.toFixed(2));
  }
  return faint;
})()"#;

/// Fields without a label, links and buttons without a name.
const NAMELESS: &str = r#"Array.from(document.querySelectorAll("input:not([type=hidden]),select,a,button"))
  .filter((e) => !(e.labels && e.labels.length) && !e.innerText.trim() && !e.getAttribute("aria-label"))
  .map((e) => e.outerHTML)"#;

/// Words that are cut off by what they stand in.
const CUT: &str = r#"Array.from(document.querySelectorAll("main *"))
  .filter((e) => e.children.length === 0 && e.textContent.trim() && e.checkVisibility())
  .filter((e) => {
    for (let at = e.parentElement; at.tagName !== "MAIN"; at = at.parentElement) {
      const hides = getComputedStyle(at).overflowX === "hidden";
      if (hides && e.getBoundingClientRect().right > at.getBoundingClientRect().right + 1) return true;
    }
    return false;
  })
  .map((e) => e.textContent)"#;

/// Looks at the page that is open.
fn look(browser: &mut Browser, name: &str) {
    for (size, width, height) in [("desk", 1280, 800), ("phone", 360, 740)] {
        for dark in [false, true] {
            browser.look_as(width, height, dark);
            let theme = if dark { "dark" } else { "light" };
            browser.picture(&format!("{name}-{size}-{theme}"));
            let wide = browser.evaluate("document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(width.into()), "{name} {size}: {wide}");
            let cut = browser.evaluate(CUT);
            assert_eq!(cut, serde_json::json!([]), "{name} {size}");
            let faint = browser.evaluate(FAINT);
            assert_eq!(faint, serde_json::json!([]), "{name} {size} {theme}");
        }
    }
    assert_eq!(browser.evaluate(NAMELESS), serde_json::json!([]), "{name}");
}

/// Opens pages and looks at them. Those whose name begins with `fault` are answered with an error, of
/// which the browser tells.
fn look_at(browser: &mut Browser, house: &House, pages: &[(&str, &str)]) {
    for (name, page) in pages {
        browser.open(&format!("http://{}/console/{page}", house.address));
        look(browser, name);
        let expected = usize::from(name.starts_with("fault"));
        assert_eq!(browser.complaints.len(), expected, "{name}: {:?}", browser.complaints);
        browser.complaints.clear();
    }
}

#[test]
fn every_page_reads_well_in_both_themes_and_on_a_phone() {
    let Some(mut browser) = Browser::start() else { return };
    let (house, removal) = furnished();
    let pages = [
        ("overview", ""),
        ("namespace", "namespace?name=shop.orders"),
        ("bucket", "bucket?namespace=global&name=users"),
        ("bucket-removed", "bucket?namespace=global&name=sessions"),
        ("deleted", "deleted?namespace=global&bucket=users"),
        ("bin", "bin"),
        ("bin-none", "bin?find=nothing-like-this"),
        ("bin-namespaces", "bin?kind=namespaces"),
        ("reclaim-none", "reclaim"),
        ("replicas", "replicas"),
        ("cluster", "cluster"),
        ("audit", "audit"),
        ("fault-no-page", "nothing"),
        ("fault-no-bucket", "bucket?name=nothing"),
        ("fault-removed", "namespace?name=gone"),
        ("fault-nonsense", "bin?kind=x"),
        ("waits", "bin?done=purge-waits"),
    ];
    look_at(&mut browser, &house, &pages);
    for action in ["removal", "restore", "purge", "hold", "retain"] {
        look_at(&mut browser, &house, &[(action, &format!("{action}?id={removal}"))]);
    }
}

#[test]
fn what_is_out_of_the_ordinary_reads_well_too() {
    let Some(mut browser) = Browser::start() else { return };
    let (house, removal) = furnished();
    let sessions = ["BUCKET.REMOVED", "sessions", "NAMESPACE", "*"];
    let held = field(&house.done_in("global", sessions), "removal_id");
    house.bucket("drafts", 1);
    for action in ["removal", "unhold", "restore", "purge"] {
        let (name, page) = (format!("held-{action}"), format!("{action}?id={held}"));
        look_at(&mut browser, &house, &[(&name, &page)]);
    }
    look_at(&mut browser, &house, &[("restore-taken", &format!("restore?id={removal}"))]);
    browser.click("main form button[type=submit]");
    look(&mut browser, "restore-refused");
    browser.open(&format!("http://{}/console/purge?id={removal}", house.address));
    browser.fill("#name", "another");
    browser.click("main form button[type=submit]");
    look(&mut browser, "purge-refused");
    let deleted = "deleted?namespace=global&bucket=users";
    browser.open(&format!("http://{}/console/{deleted}", house.address));
    browser.click_text("what went with it");
    look(&mut browser, "deleted-removal");
    browser.click_text("Bring all of this removal back…");
    look(&mut browser, "undelete");
    browser.complaints.clear();
    house.done("PURGE.PAUSE");
    let gone = field(&house.done("NAMESPACE REMOVED"), "removal_id");
    for (name, page) in [
        ("paused-overview", String::new()),
        ("paused-cluster", "cluster".to_owned()),
        ("paused-reclaim", "reclaim".to_owned()),
        ("namespace-removal", format!("removal?id={gone}")),
        ("namespace-restore", format!("restore?id={gone}")),
        ("namespace-purge", format!("purge?id={gone}")),
        ("bucket-namesake", "bucket?namespace=global&name=drafts".to_owned()),
    ] {
        look_at(&mut browser, &house, &[(name, &page)]);
    }
    house.done("PURGE.RESUME");
    house.done("BUCKET.REMOVE users REASON to-be-purged");
    let purging = format!("removal?id={}", house.removal());
    let held = house.until("reclaim-done", || drop(house.done("BUCKET.PURGE users")));
    for (name, page) in [
        ("reclaim", "reclaim"),
        ("purging-removal", &purging),
        ("purging-bin", "bin"),
        ("purging-overview", ""),
        ("audit-purge", "audit?action=purge"),
    ] {
        look_at(&mut browser, &house, &[(name, page)]);
    }
    drop(held.release());
}

#[test]
fn what_a_policy_says_reads_well() {
    let Some(mut browser) = Browser::start() else { return };
    let house = House::build();
    house.done("NAMESPACE CREATE ledger.2026");
    house.done(
        "NAMESPACE POLICY ledger SET retention 90d retention-min 30d tombstone-retention 30d",
    );
    house.done("NAMESPACE POLICY ledger.2026 SET quota-documents 100 quota-bytes 1000000");
    for bucket in ["entries", "drafts"] {
        house.done_in("ledger.2026", ["BUCKET.CREATE", bucket]);
        house.done_in("ledger.2026", ["BUCKET.INSERT", bucket, "DOCS", "{}", "{}"]);
    }
    house.done_in("ledger.2026", ["BUCKET.REMOVE", "drafts"]);
    let kept = house.removal();
    house.done("NAMESPACE POLICY ledger SET lock compliance");
    house.done_in("ledger.2026", ["BUCKET.CREATE", "closed"]);
    house.done_in("ledger.2026", ["BUCKET.REMOVE", "closed"]);
    let locked = house.removal();
    for (name, page) in [
        ("policy-namespace", "namespace?name=ledger.2026"),
        ("policy-bucket", "bucket?namespace=ledger.2026&name=entries"),
        ("policy-removal", &format!("removal?id={locked}")),
        ("policy-purge", &format!("purge?id={kept}")),
    ] {
        look_at(&mut browser, &house, &[(name, page)]);
    }
}

#[test]
fn a_barrier_that_waits_for_somebody_reads_well() {
    let Some(mut browser) = Browser::start() else { return };
    let house = House::with_a_silent_member();
    house.bucket("users", 3);
    house.done("BUCKET.REMOVE users REASON spring-cleaning");
    let page = format!("removal?id={}", house.removal());
    look_at(&mut browser, &house, &[("cluster-two", "cluster"), ("barrier-waits", &page)]);
    assert!(browser.text().contains("not reached yet"), "{}", browser.text());
}

#[test]
fn an_empty_node_reads_well() {
    let Some(mut browser) = Browser::start() else { return };
    let house = House::build();
    let pages = [
        ("empty-overview", ""),
        ("empty-bin", "bin"),
        ("empty-namespaces", "bin?kind=namespaces"),
        ("empty-audit", "audit"),
        ("empty-replicas", "replicas"),
    ];
    look_at(&mut browser, &house, &pages);
    house.done("NAMESPACE CREATE shop");
    look_at(&mut browser, &house, &[("empty-namespace", "namespace?name=shop")]);
    house.bucket("users", 0);
    let of_bucket = [
        ("empty-bucket", "bucket?namespace=global&name=users"),
        ("empty-deleted", "deleted?namespace=global&bucket=users"),
    ];
    look_at(&mut browser, &house, &of_bucket);
}

#[test]
fn logging_in_and_pages_for_few_read_well() {
    let Some(mut browser) = Browser::start() else { return };
    let name = "a-user-with-a-name-as-long-as-a-name-may-be-which-is-64-letters-";
    let house = House::with_users(&[&format!("{name} ~shop +@read +@restore"), "ada ~* +@read"]);
    house.done("NAMESPACE CREATE shop");
    house.done_in("shop", ["BUCKET.CREATE", "carts"]);
    house.done_in("shop", ["BUCKET.CREATE", "old-carts"]);
    house.done_in("shop", ["BUCKET.REMOVE", "old-carts", "REASON", "a slip"]);
    look_at(&mut browser, &house, &[("login", "bin")]);
    let log_in = |browser: &mut Browser, name: &str, password: &str| {
        browser.fill("#name", name);
        browser.fill("#password", password);
        browser.click("main form button");
    };
    log_in(&mut browser, "ada", "falsch");
    look(&mut browser, "login-refused");
    log_in(&mut browser, "ada", "geheim");
    look(&mut browser, "fault-noperm");
    browser.complaints.clear();
    look_at(&mut browser, &house, &[("reader-overview", ""), ("fault-cluster", "cluster")]);
    browser.click_text("Log out");
    look(&mut browser, "left");
    log_in(&mut browser, name, "geheim");
    let pages =
        [("few-overview", ""), ("few-bin", "bin"), ("few-namespaces", "bin?kind=namespaces")];
    look_at(&mut browser, &house, &pages);
}
