//! Logging in: who gets in, how long it lasts, and what somebody else can make of it.

use lethe::command::Reply;

use crate::house::{House, Visitor, encoded, hidden, location};

const READER: &str = "ada ~* +@read";

/// Whether the console shows itself to this visitor.
fn is_in(visitor: &mut Visitor) -> bool {
    let answer = visitor.ask("/console", "");
    match answer.status {
        200 => answer.body.contains("<title>Overview"),
        303 => {
            assert_eq!(location(&answer), "/console/login");
            false
        }
        status => panic!("{status}: {}", answer.body),
    }
}

#[test]
fn who_has_not_logged_in_sees_the_same_whatever_he_asks_for() {
    let house = House::with_users(&[]);
    house.bucket("users", 1);
    house.done("BUCKET.REMOVE users");
    let removal = house.removal();
    for path in [
        "bucket?name=users",
        "bucket?name=nothing",
        "removal?id=x",
        "nothing",
        "audit",
        &format!("removal?id={removal}"),
    ] {
        let answer = house.visitor().ask(&format!("/console/{path}"), "");
        let back = crate::house::percent(&format!("/console/{path}"));
        let to = location(&answer);
        let (page, query) = to.split_once("?back=").unwrap();
        assert_eq!(page, "/console/login");
        assert!(same(query, &back), "{to}");
        assert_eq!(answer.body, "");
    }
    let mut visitor = house.visitor();
    let page = visitor.page("/console/login");
    assert!(!page.contains("users<") && !page.contains("<nav"), "{page}");
    let form = encoded(&[("token", hidden(&page, "token")), ("operation", "x")]);
    for path in ["restore?id=x", &format!("restore?id={removal}"), "nothing"] {
        let answer = visitor.post(&format!("/console/{path}"), "", &form);
        assert_eq!(answer.status, 401, "{path}: {}", answer.body);
        assert!(
            answer.body.contains("Nothing was changed.") && answer.body.contains("/console/login")
        );
    }
    assert_eq!(house.removal(), removal);
}

/// Whether two queries say the same, however they are escaped; heads are read in lower case.
fn same(one: &str, other: &str) -> bool {
    let plain = |text: &str| {
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            plain.push(char::from(u8::from_str_radix(&after[..2], 16).unwrap()));
            rest = &after[2..];
        }
        plain + rest
    };
    plain(one) == plain(other).to_lowercase()
}

#[test]
fn who_logs_in_comes_to_where_he_wanted_and_is_shown_by_name() {
    let house = House::with_users(&[READER]);
    let mut visitor = house.visitor();
    assert!(!is_in(&mut visitor));
    let before = visitor.cookies.clone();
    let fields = [("name", "ada"), ("password", "geheim")];
    let answer =
        visitor.fill("/console/login?back=%2Fconsole%2Fbucket%3Fname%3Dx%26namespace%3Dy", &fields);
    assert_eq!(location(&answer), "/console/bucket?name=x&namespace=y");
    let set = answer.head.lines().find(|line| line.starts_with("set-cookie: ")).unwrap();
    assert!(set.ends_with("; path=/console; httponly; samesite=strict"), "{set}");
    assert_ne!(visitor.cookies, before, "another cookie than before");
    let page = visitor.page("/console");
    assert!(page.contains(">ada</b>") && page.contains("Log out"), "{page}");
    for elsewhere in ["https://evil.example", "//evil.example/console", "/consolex", "/metrics"] {
        let login = format!("/console/login?back={}", crate::house::percent(elsewhere));
        assert_eq!(location(&visitor.fill(&login, &fields)), "/console", "{elsewhere}");
    }
}

#[test]
fn a_wrong_name_and_a_wrong_password_are_answered_alike() {
    let house = House::with_users(&["off ~* +@read"]);
    house.done("ACL SETUSER off off");
    let mut said = Vec::new();
    for (name, password) in
        [("root", "falsch"), ("nobody", "geheim"), ("off", "geheim"), ("default", ""), ("root", "")]
    {
        let mut visitor = house.visitor();
        let answer = visitor.log_in(name, password);
        assert_eq!(answer.status, 403, "{name}: {}", answer.body);
        assert!(!is_in(&mut visitor), "{name}");
        let token = hidden(&answer.body, "token");
        said.push(
            answer.body.replace(token, "TOKEN").replace(&format!("value=\"{name}\""), "NAME"),
        );
        assert!(!answer.body.contains("falsch") && !answer.body.contains("geheim"));
    }
    assert!(said.iter().all(|page| *page == said[0]), "{said:?}");
    assert!(
        said[0].contains("The name or the password is wrong, or the user is switched off."),
        "{}",
        said[0]
    );
}

#[test]
fn guessing_is_slowed_together_with_guesses_of_any_client() {
    let house = House::with_users(&[]);
    let mut visitor = house.visitor();
    visitor.log_in("root", "falsch");
    // Ten it has to spare, for ten it waits; whoever has given up by then has paid all the same.
    house.guess(25);
    for password in ["falsch", "geheim"] {
        let answer = visitor.log_in("root", password);
        assert_eq!(answer.status, 429, "{}", answer.body);
        assert!(answer.body.contains("try again in 1"), "{}", answer.body);
    }
    assert!(!is_in(&mut visitor));
}

#[test]
fn logging_out_ends_the_session_in_all_windows() {
    let house = House::with_users(&[READER]);
    let mut visitor = house.logged_in("ada");
    let mut window = house.visitor();
    window.cookies.clone_from(&visitor.cookies);
    assert!(is_in(&mut window));
    let page = visitor.page("/console");
    let answer = visitor.post("/console/logout", "", &format!("token={}", hidden(&page, "token")));
    assert_eq!(location(&answer), "/console/login?done=left");
    assert!(visitor.page("/console/login?done=left").contains("You are logged out."));
    assert!(!is_in(&mut visitor) && !is_in(&mut window));
    // Of nobody nothing ends.
    let page = visitor.page("/console/login");
    let form = format!("token={}", hidden(&page, "token"));
    assert_eq!(visitor.post("/console/logout", "", &form).status, 303);
    assert_eq!(visitor.ask("/console/logout", "").status, 303, "a link does nothing");
}

#[test]
fn a_cookie_that_somebody_else_put_there_is_worth_nothing() {
    let house = House::with_users(&[READER]);
    let planted = "5a".repeat(32);
    let mut victim = house.visitor();
    victim.cookies.insert(victim.name(), planted.clone());
    assert_eq!(location(&victim.log_in("ada", "geheim")), "/console");
    assert!(is_in(&mut victim));
    assert_ne!(victim.cookies[&victim.name()], planted);
    let mut thief = house.visitor();
    thief.cookies.insert(thief.name(), planted);
    assert!(!is_in(&mut thief));
    // Also not of one who was logged in himself when somebody else logged in on it.
    let old = victim.cookies.clone();
    victim.log_in("root", "geheim");
    let mut thief = house.visitor();
    thief.cookies = old;
    assert!(!is_in(&mut thief));
}

#[test]
fn a_login_form_of_another_site_is_refused() {
    let house = House::with_users(&[READER]);
    let mut visitor = house.visitor();
    let page = visitor.page("/console/login");
    let token = hidden(&page, "token").to_owned();
    let fields = [("token", &*token), ("name", "ada"), ("password", "geheim")];
    let form = encoded(&fields);
    let mut stranger = house.visitor();
    stranger.page("/console/login");
    assert_eq!(visitor.post("/console/login", "", &encoded(&fields[1..])).status, 403);
    assert_eq!(house.visitor().post("/console/login", "", &form).status, 403, "no cookie");
    assert_eq!(stranger.post("/console/login", "", &form).status, 403, "another's");
    for origin in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(visitor.post("/console/login", origin, &form).status, 403, "{origin}");
    }
    assert!(!is_in(&mut visitor));
    assert_eq!(visitor.post("/console/login", "", &form).status, 303);
    // What was made before the login is not taken after it.
    let page = visitor.page("/console");
    assert_ne!(hidden(&page, "token"), token);
    assert_eq!(visitor.post("/console/logout", "", &format!("token={token}")).status, 403);
    assert!(is_in(&mut visitor));
}

#[test]
fn a_session_ends_at_once_with_its_user() {
    let house = House::with_users(&[READER, "bob ~* +@read", "eve ~* +@all"]);
    house.bucket("users", 1);
    house.done("BUCKET.REMOVE users");
    let mut visitors = ["ada", "bob", "eve"].map(|name| house.logged_in(name));
    assert!(visitors.iter_mut().all(is_in));
    let [ada, bob, eve] = &mut visitors;
    house.done("ACL DELUSER ada");
    house.done("ACL SETUSER bob off");
    let restore = format!("/console/restore?id={}", house.removal());
    let page = eve.page(&restore);
    house.done("ACL SETUSER eve -@restore -@restore-own -@admin");
    assert!(!is_in(ada) && !is_in(bob));
    let form =
        encoded(&[("token", hidden(&page, "token")), ("operation", hidden(&page, "operation"))]);
    let answer = eve.post(&restore, "", &form);
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(answer.body.contains("User eve has no permissions"), "{}", answer.body);
    assert!(is_in(eve));
    house.done("ACL SETUSER eve >another <geheim");
    assert!(!is_in(eve), "the password is another one");
    // One of the same name is another.
    house.done("ACL SETUSER ada on >geheim ~* +@all");
    assert!(!is_in(ada));
    let fourth = house.done("AUDIT.LOG ACTION restore");
    let Reply::Array(rows) = fourth else { panic!("{fourth:?}") };
    assert!(rows.len() <= 1, "{rows:?}");
}

#[test]
fn a_page_that_waits_ends_with_its_session() {
    let house = House::with_users(&[READER]);
    let mut visitor = house.logged_in("ada");
    let first = visitor.ask("/console", "");
    let tag = first.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let wait = format!("If-None-Match: {tag}\r\nPrefer: wait=20\r\n");
    let mut window = house.visitor();
    window.cookies.clone_from(&visitor.cookies);
    let waiting = std::thread::spawn(move || window.ask("/console", &wait));
    house.done("ACL DELUSER ada");
    let answer = waiting.join().unwrap();
    assert_eq!(location(&answer), "/console/login");
}

#[test]
fn under_a_name_of_a_stranger_only_who_gives_a_password_gets_in() {
    let house = House::build();
    house.done("ACL SETUSER ada on >geheim ~* +@read");
    house.done("ACL SETUSER open on nopass ~* +@all");
    let mut misled = house.visitor();
    misled.host = Some(format!("evil.example:{}", house.address.port()));
    let answer = misled.ask("/console", "");
    assert_eq!(answer.status, 421, "{}", answer.body);
    assert!(answer.body.contains("/console/login"), "{}", answer.body);
    for name in ["default", "open"] {
        assert_eq!(misled.log_in(name, "x").status, 421, "{name}");
        assert_eq!(misled.ask("/console", "").status, 421, "{name}");
    }
    assert_eq!(location(&misled.log_in("ada", "geheim")), "/console");
    assert!(is_in(&mut misled));
}

#[test]
fn nobody_has_to_log_in_on_a_fresh_node_and_who_wants_to_can() {
    let house = House::build();
    let mut visitor = house.visitor();
    let page = visitor.page("/console");
    assert!(page.contains(">default</b>") && !page.contains("Log in"), "{page}");
    house.done("ACL SETUSER ada on >geheim ~* +@read");
    assert!(visitor.page("/console").contains("href=\"/console/login\""));
    assert_eq!(location(&visitor.log_in("ada", "geheim")), "/console");
    assert!(visitor.page("/console").contains(">ada</b>"));
}
