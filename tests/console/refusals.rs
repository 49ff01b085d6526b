//! What is refused, with which status, and that nothing is changed then.

use std::io::Write as _;
use std::net::TcpStream;

use crate::house::{House, encoded, hidden};
use crate::http;

struct Scene {
    house: House,
    removal: String,
}

impl Scene {
    fn set() -> Self {
        let house = House::build();
        house.bucket("users", 1);
        house.done("BUCKET.REMOVE users");
        let removal = house.removal();
        Self { house, removal }
    }

    fn restore(&self) -> String {
        format!("/console/restore?id={}", self.removal)
    }

    /// Fails unless the bucket is still removed, and nothing has been noted.
    #[track_caller]
    fn expect_unchanged(&self) {
        assert_eq!(self.house.removal(), self.removal);
        let log = self.house.done("AUDIT.LOG ACTION restore");
        assert_eq!(log, lethe::command::Reply::Array(Vec::new()));
    }
}

#[test]
fn a_form_without_its_token_cookie_or_origin_is_refused() {
    let scene = Scene::set();
    let mut visitor = scene.house.visitor();
    let page = visitor.page(&scene.restore());
    let fields = [
        ("token", hidden(&page, "token")),
        ("operation", hidden(&page, "operation")),
        ("as", "users"),
        ("into", "global"),
    ];
    let form = encoded(&fields);
    let without = encoded(&fields[1..]);
    let wrong = form.replacen("token=%", "token=%30%", 1);
    for form in [&without, &wrong, ""] {
        let answer = visitor.post(&scene.restore(), "", form);
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert!(answer.body.contains("no longer valid"), "{}", answer.body);
    }
    for elsewhere in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: none\r\n",
    ] {
        let answer = visitor.post(&scene.restore(), elsewhere, &form);
        assert_eq!(answer.status, 403, "{elsewhere}");
        assert!(answer.body.contains("came from another site"), "{elsewhere}");
    }
    let mut stranger = scene.house.visitor();
    assert_eq!(stranger.post(&scene.restore(), "", &form).status, 403, "no cookie");
    stranger.page("/console");
    assert_eq!(
        stranger.post(&scene.restore(), "", &form).status,
        403,
        "a cookie of another visitor"
    );
    scene.expect_unchanged();
    let origin =
        format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", scene.house.address);
    assert_eq!(visitor.post(&scene.restore(), &origin, &form).status, 303);
}

#[test]
fn a_name_that_a_stranger_could_own_is_not_answered() {
    let scene = Scene::set();
    for (host, status) in [
        ("evil.example", 421),
        ("127.0.0.1.evil.example:9484", 421),
        ("", 421),
        ("localhost", 200),
        ("[::1]:80", 200),
    ] {
        let request = format!("GET /console HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = http::send(scene.house.address, request.as_bytes());
        assert_eq!(answer.status, status, "{host}: {}", answer.body);
        assert_eq!(answer.body.contains("users"), status == 200, "{host}");
    }
    // What tells nothing is told under any name.
    assert_eq!(http::get(scene.house.address, "/healthz").status, 200);
}

#[test]
fn methods_and_kinds_that_make_no_sense_are_refused() {
    let scene = Scene::set();
    let mut visitor = scene.house.visitor();
    let host = scene.house.address;
    for method in ["PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let head =
            format!("{method} /console HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = visitor.send(&head);
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: get, head, post"), "{}", answer.head);
        assert!(answer.body.contains("Method not allowed"));
    }
    let head = format!("HEAD /console HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = visitor.send(&head);
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    let page = visitor.page("/console");
    let token = format!("token={}", hidden(&page, "token"));
    assert_eq!(visitor.post("/console/bin", "", &token).status, 405);
    assert_eq!(visitor.post("/console/nothing", "", &token).status, 404);
    for kind in ["text/plain", "application/json", "multipart/form-data; boundary=x"] {
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: 2\r\n\r\na=",
            scene.restore()
        );
        assert_eq!(visitor.send(&request).status, 415, "{kind}");
    }
    scene.expect_unchanged();
}

#[test]
fn forms_have_a_bound_in_size_and_fields() {
    let scene = Scene::set();
    let mut visitor = scene.house.visitor();
    let page = visitor.page(&scene.restore());
    let token = format!("token={}", hidden(&page, "token"));
    let large = format!("{token}&as={}", "x".repeat(70_000));
    let answer = visitor.post(&scene.restore(), "", &large);
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert!(answer.body.contains("at most 64 KiB"));
    let host = scene.house.address;
    let claimed = format!(
        "POST {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 999999999\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n",
        scene.restore()
    );
    assert_eq!(visitor.send(&claimed).status, 413);
    let many: Vec<String> = (0..40).map(|n| format!("f{n}=1")).collect();
    assert_eq!(visitor.post(&scene.restore(), "", &many.join("&")).status, 400);
    let operation = hidden(&page, "operation");
    for wrong in ["as=%00", "as=%ff%fe", "as=a%0d%0ab", "as=1&as=2"] {
        let form = format!("{token}&operation={operation}&{wrong}");
        let answer = visitor.post(&scene.restore(), "", &form);
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
    }
    // A name that is too long is for the command to refuse; the form is shown once more.
    let long = [("as", "x".repeat(300)), ("into", "global".to_owned())];
    let long: Vec<(&str, &str)> =
        long.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = visitor.fill(&scene.restore(), &long);
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("longer than 255 bytes"), "{}", answer.body);
    scene.expect_unchanged();
}

#[test]
fn tricks_with_paths_and_queries_lead_nowhere() {
    let scene = Scene::set();
    let mut visitor = scene.house.visitor();
    for path in [
        "/console/../metrics",
        "/console/%2e%2e/metrics",
        "/console/static/../mod.rs",
        "/console/static/%2e%2e%2fmod.rs",
        "/console/static/console.css%00",
        "/console//bin",
        "/console/bin/",
        "/console/b%69n",
        "/console/%c0%ae",
    ] {
        assert_eq!(visitor.ask(path, "").status, 404, "{path}");
    }
    for query in ["name=%00", "name=%c0%ae", "name=%ff", "name=a&name=b", "name=%0a"] {
        let answer = visitor.ask(&format!("/console/bucket?{query}"), "");
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains("makes no sense"), "{}", answer.body);
    }
    let long = format!("/console/bin?find={}", "x".repeat(20_000));
    assert!([414, 431].contains(&visitor.ask(&long, "").status));
}

#[test]
fn malformed_cookies_let_nobody_in_and_break_nothing() {
    let scene = Scene::set();
    let address = scene.house.address;
    let ask = |cookie: &[u8]| {
        let mut request =
            format!("GET /console HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nCookie: ")
                .into_bytes();
        request.extend_from_slice(cookie);
        request.extend_from_slice(b"\r\n\r\n");
        http::send(address, &request)
    };
    let name = scene.house.visitor().name();
    for cookie in ["", ";;;", "NAME", "NAME=", "NAME=x; =; a", "lethe_theme=\"><script>"] {
        let answer = ask(cookie.replace("NAME", &name).as_bytes());
        assert_eq!(answer.status, 200, "{cookie}");
        assert!(answer.head.contains(&format!("set-cookie: {name}=")), "{cookie}: a new one");
        assert!(answer.head.contains("path=/console; httponly; samesite=strict"));
    }
    let twice = format!("{name}={0}; {name}={0}", "ab".repeat(32));
    let answer = ask(twice.as_bytes());
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("is given twice"), "{}", answer.body);
    let answer = ask(b"lethe_visitor=\xff\xfe");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("cookies are not plain text"), "{}", answer.body);
}

#[test]
fn a_link_from_elsewhere_does_not_cost_the_visitor_his_cookie() {
    let house = House::build();
    let mut visitor = house.visitor();
    let answer = visitor.ask("/console/bin", "Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("http-equiv=\"refresh\""), "{}", answer.body);
    assert!(!answer.head.contains("set-cookie"));
    let answer = visitor.ask("/console/bin", "Sec-Fetch-Site: same-origin\r\n");
    assert!(answer.body.contains("Recycle bin") && answer.head.contains("set-cookie"));
}

#[test]
fn a_client_that_sends_half_a_form_disturbs_nobody() {
    let scene = Scene::set();
    let address = scene.house.address;
    let mut slow = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken=",
        scene.restore()
    );
    slow.write_all(head.as_bytes()).unwrap();
    assert!(scene.house.visitor().page("/console").contains("users"));
    drop(slow);
    scene.expect_unchanged();
}
