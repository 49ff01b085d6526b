//! What each form does.

use lethe::command::Reply;

use crate::house::{House, encoded, field, hidden, location};

/// A bucket with documents that was removed, and the id of its removal.
fn removed(house: &House, name: &str, documents: usize) -> String {
    house.bucket(name, documents);
    house.done_in("global", ["BUCKET.REMOVE", name, "REASON", "by mistake"]);
    house.removal()
}

fn at(action: &str, removal: &str) -> String {
    format!("/console/{action}?id={removal}")
}

/// A field of a removal, as the command tells it.
fn told(house: &House, removal: &str, name: &str) -> String {
    let words = ["BUCKET.REMOVED", "NAMESPACE", "*", "REMOVAL", removal];
    field(&house.done_in("global", words), name)
}

#[test]
fn a_removed_bucket_comes_back_with_all_its_documents() {
    let house = House::build();
    let removal = removed(&house, "users", 3);
    let mut visitor = house.visitor();
    let page = visitor.page(&at("restore", &removal));
    for text in
        ["Restore bucket &#39;users&#39;", "3 documents, ", "until ", "It returns to namespace"]
    {
        assert!(
            page.contains(text) || page.contains(&text.replace("&#39;", "'")),
            "{text}: {page}"
        );
    }
    let answer = visitor.fill(&at("restore", &removal), &[("as", "users"), ("into", "global")]);
    let to = location(&answer);
    assert_eq!(to, "/console/bucket?namespace=global&name=users&done=restored");
    assert!(visitor.page(&to).contains("It is back, with everything that was in it."));
    assert_eq!(house.count("users"), Reply::Integer(3));
    assert_eq!(visitor.ask(&at("restore", &removal), "").status, 404);
}

#[test]
fn a_taken_name_is_told_and_another_name_or_place_is_taken() {
    let house = House::build();
    let removal = removed(&house, "users", 2);
    house.bucket("users", 1);
    let mut visitor = house.visitor();
    let page = visitor.page(&at("restore", &removal));
    assert!(page.contains("has the name") && page.contains("name=\"replace\""), "{page}");
    let taken = visitor.fill(&at("restore", &removal), &[("as", "users"), ("into", "global")]);
    assert_eq!(taken.status, 409);
    assert!(
        taken.body.contains("already exists: users") && taken.body.contains("Nothing was changed.")
    );
    house.done("NAMESPACE CREATE other");
    let fields = [("as", "users2"), ("into", "other")];
    let to = location(&visitor.fill(&at("restore", &removal), &fields));
    assert_eq!(to, "/console/bucket?namespace=other&name=users2&done=restored");
    assert_eq!(house.run("other", ["BUCKET.COUNT", "users2", "{}"]), Reply::Integer(2));
    assert_eq!(house.count("users"), Reply::Integer(1));
}

#[test]
fn it_can_take_the_place_of_the_one_that_has_its_name() {
    let house = House::build();
    let removal = removed(&house, "users", 2);
    house.bucket("users", 1);
    let fields = [("as", "users"), ("into", "global"), ("replace", "yes")];
    location(&house.visitor().fill(&at("restore", &removal), &fields));
    assert_eq!(house.count("users"), Reply::Integer(2));
    assert_eq!(told(&house, &house.removal(), "bucket"), "users");
}

#[test]
fn a_purge_names_what_goes_and_wants_the_name() {
    let house = House::build();
    let removal = removed(&house, "users", 3);
    let mut visitor = house.visitor();
    let page = visitor.page(&at("purge", &removal));
    for text in ["3 documents, ", "This cannot be undone.", "it can be restored", "until "] {
        assert!(page.contains(text), "{text}: {page}");
    }
    for wrong in ["", "Users", "user"] {
        let answer = visitor.fill(&at("purge", &removal), &[("name", wrong)]);
        assert_eq!(answer.status, 422, "{}", answer.body);
        assert!(answer.body.contains("This is not its name. Nothing was changed."));
    }
    assert_eq!(told(&house, &removal, "state"), "removed");
    let to = location(&visitor.fill(&at("purge", &removal), &[("name", "users")]));
    assert_eq!(to, "/console/reclaim?done=purged");
    assert!(visitor.page(&to).contains("It is purged."));
    let restore = ["BUCKET.RESTORE", &removal];
    assert!(matches!(house.run("global", restore), Reply::Error(_)));
}

#[test]
fn a_hold_keeps_a_purge_away_until_it_is_lifted() {
    let house = House::build();
    let removal = removed(&house, "users", 1);
    let mut visitor = house.visitor();
    let fields = [("reason", "an <i>audit</i>"), ("review", "2031-02-03")];
    let to = location(&visitor.fill(&at("hold", &removal), &fields));
    let page = visitor.page(&to);
    assert!(page.contains("It is on hold: nobody can purge it"), "{page}");
    assert!(
        page.contains("an &lt;i&gt;audit&lt;/i&gt;") && page.contains("2031-02-03 00:00:00 UTC")
    );
    assert!(visitor.page("/console/bin").contains("on hold"));
    assert!(!visitor.page(&at("purge", &removal)).contains("Purge for good"));
    let purge = visitor.fill(&at("purge", &removal), &[("name", "users")]);
    assert_eq!(purge.status, 409, "{}", purge.body);
    location(&visitor.fill(&at("unhold", &removal), &[]));
    location(&visitor.fill(&at("purge", &removal), &[("name", "users")]));
}

#[test]
fn a_hold_needs_a_reason_and_a_day_that_exists() {
    let house = House::build();
    let removal = removed(&house, "users", 1);
    let mut visitor = house.visitor();
    for fields in [[("reason", ""), ("review", "")], [("reason", "x"), ("review", "2031-02-31")]] {
        let answer = visitor.fill(&at("hold", &removal), &fields);
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.contains("Nothing was changed."), "{}", answer.body);
    }
    assert!(!visitor.page("/console/bin").contains("on hold"));
}

#[test]
fn how_long_something_is_kept_can_be_changed() {
    let house = House::build();
    let removal = removed(&house, "users", 1);
    let mut visitor = house.visitor();
    let retain = |visitor: &mut crate::house::Visitor, time: &str, day: &str| {
        visitor.fill(&at("retain", &removal), &[("for", time), ("until", day)])
    };
    let to = location(&retain(&mut visitor, "90d", ""));
    assert!(visitor.page(&to).contains("89 d"), "{to}");
    location(&retain(&mut visitor, "", "2077-01-02"));
    assert_eq!(told(&house, &removal, "expires_at"), "2077-01-02T00:00:00.000Z");
    for (time, day) in [("", ""), ("7d", "2077-01-02"), ("-1", ""), ("", "tomorrow")] {
        assert_eq!(retain(&mut visitor, time, day).status, 400, "{time} {day}");
    }
    assert_eq!(told(&house, &removal, "expires_at"), "2077-01-02T00:00:00.000Z");
    location(&retain(&mut visitor, "forever", ""));
    assert!(visitor.page(&at("removal", &removal)).contains("forever"));
}

#[test]
fn a_namespace_goes_through_the_same_forms() {
    let house = House::build();
    house.done("NAMESPACE CREATE shop.orders");
    house.done_in("shop", ["BUCKET.CREATE", "carts"]);
    house.done_in("shop", ["BUCKET.INSERT", "carts", "DOCS", "{\"a\":1}"]);
    house.done("NAMESPACE REMOVE shop REASON closed");
    let removal = field(&house.done("NAMESPACE REMOVED"), "removal_id");
    let mut visitor = house.visitor();
    assert!(visitor.page(&at("removal", &removal)).contains("closed"));
    let purge = visitor.page(&at("purge", &removal));
    assert!(purge.contains("1 bucket with 1 document"), "{purge}");
    let to = location(&visitor.fill(&at("restore", &removal), &[("as", "market")]));
    assert_eq!(to, "/console/namespace?name=market&done=restored");
    assert!(visitor.page(&to).contains("carts"));
    house.done("NAMESPACE REMOVE market");
    let removal = field(&house.done("NAMESPACE REMOVED"), "removal_id");
    location(&visitor.fill(&at("purge", &removal), &[("name", "market")]));
    assert!(matches!(house.run("market", ["BUCKET.COUNT", "carts", "{}"]), Reply::Error(_)));
}

#[test]
fn a_bucket_of_a_removed_namespace_comes_back_into_another() {
    let house = House::build();
    house.done("NAMESPACE CREATE shop");
    house.done_in("shop", ["BUCKET.CREATE", "carts"]);
    house.done_in("shop", ["BUCKET.REMOVE", "carts"]);
    let removal = house.removal();
    house.done("NAMESPACE REMOVE shop");
    let mut visitor = house.visitor();
    let page = visitor.page(&at("restore", &removal));
    assert!(page.contains("was removed itself"), "{page}");
    let to =
        location(&visitor.fill(&at("restore", &removal), &[("as", "carts"), ("into", "global")]));
    assert_eq!(to, "/console/bucket?namespace=global&name=carts&done=restored");
    assert_eq!(house.count("carts"), Reply::Integer(0));
}

#[test]
fn a_form_that_is_sent_twice_is_done_once() {
    let house = House::build();
    let removal = removed(&house, "users", 1);
    let mut visitor = house.visitor();
    let page = visitor.page(&at("hold", &removal));
    let fields = [
        ("token", hidden(&page, "token")),
        ("operation", hidden(&page, "operation")),
        ("reason", "twice"),
    ];
    let form = encoded(&fields);
    for _ in 0..2 {
        location(&visitor.post(&at("hold", &removal), "", &form));
    }
    let Reply::Array(rows) = house.done("AUDIT.LOG ACTION hold") else { panic!() };
    assert_eq!(rows.len(), 1);
}

#[test]
fn deleted_documents_come_back_one_by_one_and_all_together() {
    let house = House::build();
    house.bucket("users", 5);
    house.done_in("global", ["BUCKET.DELETE", "users", "{\"n\":{\"$lt\":4}}"]);
    let mut visitor = house.visitor();
    let list = "/console/deleted?namespace=global&bucket=users";
    let page = visitor.page(list);
    let links: Vec<String> = page
        .split("href=\"/console/undelete?")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&"))
        .map(|query| format!("/console/undelete?{query}"))
        .collect();
    assert_eq!(links.len(), 4);
    let asked = visitor.page(&links[0]);
    assert!(asked.contains("comes back as it was"), "{asked}");
    let to = location(&visitor.fill(&links[0], &[]));
    assert!(visitor.page(&to).contains("The documents are back."));
    assert_eq!(house.count("users"), Reply::Integer(2));
    let (all, _) = links[1].split_once("&document=").unwrap();
    location(&visitor.fill(all, &[]));
    assert_eq!(house.count("users"), Reply::Integer(5));
    assert!(visitor.page(list).contains("No deleted documents"));
}

#[test]
fn what_is_done_stands_in_the_audit_log_with_the_visitors_address() {
    let house = House::build();
    let removal = removed(&house, "users", 1);
    location(
        &house.visitor().fill(&at("restore", &removal), &[("as", "users"), ("into", "global")]),
    );
    let log = house.done("AUDIT.LOG ACTION restore");
    assert_eq!(field(&log, "removal_id"), removal);
    assert!(field(&log, "client").starts_with("127.0.0.1:"));
}
