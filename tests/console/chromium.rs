//! The console in a real browser.

use lethe::command::Reply;

use crate::browser::Browser;
use crate::house::House;
use crate::looks::furnished;

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
fn who_has_to_log_in_finds_and_restores_all_the_same() {
    let Some(mut browser) = Browser::start() else { return };
    let house = House::with_users(&["ada ~shop +@read +@restore"]);
    house.done("NAMESPACE CREATE shop");
    house.done_in("shop", ["BUCKET.CREATE", "drafts"]);
    house.done_in("shop", ["BUCKET.INSERT", "drafts", "DOCS", "{}", "{}"]);
    house.done_in("shop", ["BUCKET.REMOVE", "drafts", "REASON", "a slip of the finger"]);
    browser.open(&format!("http://{}/", house.address));
    assert!(!browser.text().contains("drafts"));
    assert_eq!(browser.evaluate("document.activeElement.id"), "name", "one can type at once");
    browser.fill("#name", "ada");
    browser.fill("#password", "falsch");
    browser.click("main form button");
    assert!(browser.text().contains("The name or the password is wrong"), "{}", browser.text());
    assert_eq!(browser.evaluate("document.activeElement.id"), "password");
    browser.complaints.clear();
    browser.fill("#password", "geheim");
    browser.click("main form button");
    let text = browser.text();
    assert!(text.contains("a slip of the finger") && text.contains("Log out"), "{text}");
    assert!(!text.contains("Audit log") && !text.contains("Cluster"), "{text}");
    browser.click_text("Restore…");
    browser.click("main form button[type=submit]");
    assert!(browser.text().contains("It is back"), "{}", browser.text());
    assert_eq!(house.run("shop", ["BUCKET.COUNT", "drafts", "{}"]), Reply::Integer(2));
    browser.click_text("Log out");
    assert!(browser.text().contains("You are logged out."), "{}", browser.text());
    browser.open(&format!("http://{}/console/bin", house.address));
    assert!(!browser.text().contains("Recycle bin"), "{}", browser.text());
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_live_page_asks_who_it_is_when_its_user_is_gone() {
    let Some(mut browser) = Browser::start() else { return };
    let house = House::with_users(&["ada ~* +@read"]);
    browser.open(&format!("http://{}/console", house.address));
    browser.fill("#name", "ada");
    browser.fill("#password", "geheim");
    browser.click("main form button");
    browser.wait_for("document.getElementById('link').textContent === 'Live'");
    browser.expect_page();
    house.done("ACL DELUSER ada");
    browser.loaded();
    assert!(browser.text().contains("Password"), "{}", browser.text());
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
