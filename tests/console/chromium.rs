//! The console in a real browser.

use lethe::command::Reply;

use crate::browser::Browser;
use crate::house::House;

/// A node with something on every page, also long names.
fn furnished() -> (House, String) {
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

#[test]
fn a_stranger_finds_a_removed_bucket_and_brings_it_back() {
    let Some(mut browser) = Browser::start() else { return };
    let (house, _) = furnished();
    for script in [true, false] {
        let off = serde_json::json!({ "value": !script });
        browser.call("Emulation.setScriptExecutionDisabled", off);
        browser.open(&format!("http://{}/", house.address));
        assert!(browser.text().contains("Removed last"));
        browser.click_text("Recycle bin");
        browser.fill("#find", "draf");
        browser.click_text("Find");
        let text = browser.text();
        assert!(text.contains("a slip of the finger") && !text.contains("sessions"), "{text}");
        browser.click_text("Restore…");
        assert!(browser.text().contains("The bucket drafts comes back with 4 documents"));
        browser.click("main form button[type=submit]");
        let text = browser.text();
        assert!(text.contains("It is back, with everything that was in it."), "{text}");
        assert_eq!(house.count("drafts"), Reply::Integer(4));
        house.done_in("global", ["BUCKET.REMOVE", "drafts", "REASON", "a slip of the finger"]);
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_live_page_follows_what_happens() {
    let Some(mut browser) = Browser::start() else { return };
    let house = House::build();
    house.bucket("users", 1);
    browser.open(&format!("http://{}/console/bin", house.address));
    browser.wait_for("document.getElementById('link').textContent === 'Live'");
    assert!(browser.text().contains("The bin is empty"));
    house.done("BUCKET.REMOVE users REASON seen-at-once");
    browser.wait_for("document.body.innerText.includes('seen-at-once')");
    // What has the focus keeps it.
    browser.evaluate("document.querySelector('td.does a').focus(), 0");
    house.bucket("others", 1);
    house.done("BUCKET.REMOVE others REASON seen-as-well");
    browser.wait_for("document.body.innerText.includes('seen-as-well')");
    let focused = browser.evaluate("document.activeElement.getAttribute('aria-label')");
    assert_eq!(focused, "Restore users");
    let removal = house.removal();
    browser.open(&format!("http://{}/console/removal?id={removal}", house.address));
    browser.wait_for("document.body.innerText.includes('7 of 7 shards have let go')");
    house.done_in("global", ["BUCKET.RETAIN", &removal, "40d"]);
    browser.wait_for("document.body.innerText.includes('39 d')");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn it_is_used_by_keyboard() {
    let Some(mut browser) = Browser::start() else { return };
    let (house, removal) = furnished();
    browser.open(&format!("http://{}/console/removal?id={removal}", house.address));
    browser.press("Tab", 9);
    let skip = browser.evaluate("document.activeElement.textContent");
    assert_eq!(skip, "Skip to the content");
    let outline = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.evaluate(outline), "solid", "the focus is seen");
    browser.press("Enter", 13);
    assert_eq!(browser.evaluate("document.activeElement.id"), "main");
    browser.press("Tab", 9);
    browser.press("Tab", 9);
    assert_eq!(browser.evaluate("document.activeElement.textContent"), "Restore…");
    browser.enter();
    browser.evaluate("document.querySelector('#as').focus(), 0");
    browser.enter();
    assert!(browser.text().contains("It is back"), "{}", browser.text());
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn every_page_reads_well_in_both_themes_and_on_a_phone() {
    let Some(mut browser) = Browser::start() else { return };
    let (house, removal) = furnished();
    let of = |action: &str| format!("{action}?id={removal}");
    let mut pages: Vec<(&str, String)> = [
        ("overview", ""),
        ("namespace", "namespace?name=shop.orders"),
        ("bucket", "bucket?namespace=global&name=users"),
        ("bucket-removed", "bucket?namespace=global&name=sessions"),
        ("deleted", "deleted?namespace=global&bucket=users"),
        ("bin", "bin"),
        ("bin-none", "bin?find=nothing-like-this"),
        ("bin-namespaces", "bin?kind=namespaces"),
        ("reclaim", "reclaim"),
        ("replicas", "replicas"),
        ("cluster", "cluster"),
        ("audit", "audit"),
        ("fault", "nothing"),
        ("waits", "bin?done=purge-waits"),
    ]
    .map(|(name, page)| (name, page.to_owned()))
    .to_vec();
    for action in ["removal", "restore", "purge", "hold", "retain"] {
        pages.push((action, of(action)));
    }
    for (name, page) in pages {
        browser.open(&format!("http://{}/console/{page}", house.address));
        for (size, width, height) in [("desk", 1280, 800), ("phone", 360, 740)] {
            for dark in [false, true] {
                browser.look_as(width, height, dark);
                let theme = if dark { "dark" } else { "light" };
                browser.picture(&format!("{name}-{size}-{theme}"));
                let wide = browser.evaluate("document.documentElement.scrollWidth");
                assert!(wide.as_u64() <= Some(width.into()), "{name} {size}: {wide}");
                let faint = browser.evaluate(FAINT);
                assert_eq!(faint, serde_json::json!([]), "{name} {size} {theme}");
            }
        }
        assert_eq!(browser.evaluate(NAMELESS), serde_json::json!([]), "{name}");
        let expected = usize::from(name == "fault");
        assert_eq!(browser.complaints.len(), expected, "{name}: {:?}", browser.complaints);
        browser.complaints.clear();
    }
}
