//! Bad input, nodes that are not there, nodes that lie, and what is said then.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::json;

use super::{Ran, TestNode, lethe};

#[test]
fn what_cannot_be_meant_is_a_usage_error_and_says_why() {
    for (words, said) in [
        (["ls", "--url", "http://h"].as_slice(), ["its scheme is unknown", "user:password@host"]),
        (&["ls", "--url", "redis://ada:geheim@h:port"], ["its port is none", "***@h:port"]),
        (
            &["ls", "--url", "redis://ada@127.0.0.1"],
            ["no password for the user 'ada'", "LETHE_PASSWORD"],
        ),
        (&["rm"], ["PATH", "required"]),
        (&["rm", "/users"], ["no namespace", "/users"]),
        (&["rm", "a\\b"], ["backslash", "a\\b"]),
        (&["rm", "users", "--retention", "0s"], ["lethe purge", "nothing could be restored"]),
        (&["rm", "users", "--retention", "soon"], ["soon", "7d"]),
        (&["top", "--interval", "1ms"], ["1ms", "500ms"]),
        (&["purge", "users", "--timeout", "soon"], ["soon", "--timeout"]),
        (&["bin", "--sort", "colour"], ["colour", "removed"]),
    ] {
        let ran = Ran::of(&mut lethe(words));
        ran.expect(2, &said);
        assert!(!ran.err.contains("geheim"), "{ran:?}");
    }
    let ran = Ran::of(&mut lethe(&["rm", "--json"]));
    ran.expect(2, &["PATH"]);
    assert_eq!((ran.err.lines().count(), &ran.error()["code"]), (1, &json!("USAGE")), "{ran:?}");
    let help = Ran::of(lethe(&["ls", "--help"]).env("LETHE_URL", "redis://ada:geheim@h"));
    assert!(help.out.contains("LETHE_URL") && !help.out.contains("geheim"), "{help:?}");
}

#[test]
fn bad_input_that_a_node_sees_changes_nothing() {
    let node = TestNode::start();
    for (words, said) in [
        (["rm", "/"].as_slice(), "the whole database cannot be removed"),
        (&["purge", "/", "--yes", "/"], "the whole database cannot be purged"),
        (&["rm", "r_0000000000000000000000000A"], "form of an id"),
        (&["bin", "--after", "noon"], "--after"),
        (&["bin", "--expiring-within", "soon"], "--expiring-within"),
        (&["restore", "users", "--as", "n_"], "NOSUCHBUCKET"),
        (&["restore", "global/", "--replace"], "--replace exchanges buckets"),
        (&["rm", "global/"], "global"),
    ] {
        let ran = node.lethe(words);
        assert!((1..=2).contains(&ran.status), "{ran:?}");
        assert!(ran.err.contains(said), "{words:?}: {ran:?}");
        assert_eq!(ran.out, "", "{words:?}");
    }
}

#[test]
fn an_id_of_another_cluster_means_nothing_here() {
    let (here, there) = (TestNode::start(), TestNode::start());
    for node in [&here, &there] {
        node.play("BUCKET.CREATE users");
    }
    let removed = there.json(&["rm", "users"]);
    here.ok(&["rm", "users"]);
    let id = removed["removed"][0]["removal_id"].as_str().unwrap();
    let ran = here.lethe(&["restore", id, "--json"]);
    assert_eq!(ran.error()["code"], "NOSUCHREMOVAL", "{ran:?}");
    there.ok(&["restore", id]);
}

#[test]
fn a_refusal_says_what_to_do() {
    let node = TestNode::start();
    node.play("BUCKET.CREATE users; BUCKET.CREATE orders; NAMESPACE CREATE shop.open");
    node.play("BUCKET.PROTECT orders ON; BUCKET.REMOVE users");
    let check = |words: &[&str], said: &[&str]| node.lethe(words).expect(1, said);
    check(
        &["ls", "global/user"],
        &["global/user: NOSUCHBUCKET", "`lethe bin` lists what was removed"],
    );
    check(&["restore", "user"], &["NOSUCHBUCKET", "did you mean global/users (removed)?"]);
    check(&["rm", "order"], &["NOSUCHBUCKET", "did you mean global/orders?"]);
    check(&["rm", "shop"], &["NOSUCHBUCKET", "there is a namespace of this name", "shop/"]);
    check(&["ls", "global/a/b"], &["namespaces are separated by dots", "global.a/b"]);
    check(&["ls", "shop.opne/"], &["NOSUCHNAMESPACE", "did you mean shop.open/?"]);
    check(&["rm", "users"], &["BUCKETBEINGREMOVED", "lethe restore global/users"]);
    check(&["rm", "orders"], &["PROTECTED", "BUCKET.PROTECT orders OFF"]);
    check(&["rm", "global/orders", "--json"], &[r#""code":"PROTECTED""#]);
    check(&["restore", "orders"], &["is not removed", "it is there"]);
    check(&["purge", "orders", "--yes", "orders"], &["is not removed"]);
    node.play("BUCKET.HOLD users REASON 'until the audit'");
    check(
        &["purge", "users", "--yes", "users"],
        &["HELD", "until the audit", "held by default", "BUCKET.UNHOLD r_"],
    );
    node.play("BUCKET.CREATE users; BUCKET.REMOVE users REASON second");
    check(&["restore", "users"], &["AMBIGUOUSREMOVED", "--latest", "by default: second"]);
    check(&["purge", "users", "--yes", "users"], &["AMBIGUOUSREMOVED", "--latest"]);
    assert!(node.ok(&["restore", "users", "--latest"]).starts_with("restored global/users"));
    node.play("NAMESPACE USE shop.open; BUCKET.CREATE inner; NAMESPACE REMOVE shop");
    check(&["ls", "shop.open/inner"], &["NAMESPACEBEINGREMOVED", "lethe restore shop/", "--as"]);
    node.play("PURGE.PAUSE");
    check(&["purge", "shop/", "--yes", "shop"], &["PURGEPAUSED", "PURGE.RESUME"]);
    node.play("PURGE.RESUME");
    for (lock, said) in
        [("governance", "BYPASS-GOVERNANCE"), ("compliance", "nobody ends that early")]
    {
        node.play(&format!(
            "NAMESPACE CREATE {lock}; NAMESPACE POLICY {lock} SET lock {lock}; \
             NAMESPACE USE {lock}; BUCKET.CREATE users; BUCKET.REMOVE users"
        ));
        let bucket = format!("{lock}/users");
        check(&["purge", &bucket, "--yes", "users"], &["HELD", said, "NAMESPACE POLICY"]);
    }
}

#[test]
fn a_node_that_is_not_there_is_named_with_what_to_try() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("redis://{address}");
    let ran = Ran::of(&mut lethe(&["bin", "--url", &url]));
    ran.expect(3, &[&address.to_string(), "lethe server", "LETHE_URL"]);
    let ran = Ran::of(&mut lethe(&["bin", "--url", &url, "--json"]));
    assert_eq!((ran.status, &ran.error()["code"]), (3, &json!("UNREACHABLE")));
    let ran = Ran::of(&mut lethe(&["ls", "--url", "redis://no-such-host.invalid:1"]));
    ran.expect(3, &["no-such-host.invalid:1"]);
}

#[test]
fn a_wrong_password_is_refused_and_not_repeated() {
    let node = TestNode::start();
    let url = format!("redis://ada@{}", node.address);
    let ran = Ran::of(lethe(&["ls", "--url", &url]).env("LETHE_PASSWORD", "geheim"));
    ran.expect(1, &["WRONGPASS", "LETHE_PASSWORD"]);
    assert!(!ran.err.contains("geheim"), "{ran:?}");
    let ran = node.lethe(&["ls", "--url", &format!("{}/nowhere", node.url())]);
    ran.expect(1, &["NOSUCHNAMESPACE", "--url"]);
}

/// A node that is not ours: what it answers to a command.
fn liar(answer: impl Fn(&str) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // Who hangs up is waited for no longer.
            drop(lie(stream, &answer));
        }
    });
    address
}

fn lie(mut stream: TcpStream, answer: &impl Fn(&str) -> String) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(head) = lines.next().transpose()? {
        let mut words = Vec::new();
        for _ in 0..head.trim_start_matches('*').parse().unwrap_or(0) {
            lines.next().transpose()?;
            words.push(lines.next().transpose()?.unwrap_or_default());
        }
        stream.write_all(answer(&words.join(" ")).as_bytes())?;
    }
    Ok(())
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn flat(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| bulk(name) + value).collect();
    format!("*{}\r\n{}", fields.len() * 2, fields.concat())
}

#[test]
fn nothing_that_a_node_says_reaches_the_terminal_as_a_command() {
    const EVIL: &str = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}1A";
    let address = liar(|command| match command {
        "NAMESPACE CURRENT" => bulk("global"),
        "TIME" => format!("*2\r\n{}{}", bulk("1800000000"), bulk("0")),
        "CLUSTER.DESCRIBE" => flat(&[
            ("cluster", bulk(EVIL)),
            ("store", bulk(EVIL)),
            ("node", bulk(EVIL)),
            ("cluster_time", bulk("2027-01-15T08:00:00.000Z")),
            ("purging_stopped", bulk(EVIL)),
        ]),
        "CLUSTER.MEMBERS" | "PURGE.STATUS" => "*0\r\n".to_owned(),
        "INFO default commandstats" => bulk(&format!("cmdstat_{EVIL}:calls=1\r\n")),
        command if command.starts_with("BUCKET.REMOVED") => {
            let row = flat(&[
                ("removal_id", bulk(EVIL)),
                ("id", bulk(EVIL)),
                ("namespace", bulk(EVIL)),
                ("bucket", bulk(EVIL)),
                ("state", bulk(EVIL)),
                ("removed_at", bulk(EVIL)),
                ("removed_by", bulk(EVIL)),
                ("reason", bulk(EVIL)),
                ("expires_at", bulk(EVIL)),
            ]);
            format!("*2\r\n{}*1\r\n{row}", bulk("0"))
        }
        command if command.starts_with("NAMESPACE REMOVED") => {
            format!("*2\r\n{}*0\r\n", bulk("0"))
        }
        _ => format!("-ERR {EVIL}\r\n"),
    });
    let url = format!("redis://{address}");
    for words in [["bin", "--long"].as_slice(), &["top"], &["ls"], &["rm", "x"], &["restore", "x"]]
    {
        let ran = Ran::of(lethe(words).env("LETHE_URL", &url));
        let both = format!("{}{}", ran.out, ran.err);
        assert!(both.contains("\\u{1b}]0;owned"), "{words:?}: {ran:?}");
        let unsafe_letter =
            |letter: &char| *letter != '\n' && letter.is_control() || *letter == '\u{202e}';
        assert_eq!(both.chars().find(unsafe_letter), None, "{words:?}: {ran:?}");
    }
}

#[test]
fn answers_that_are_none_end_in_an_error() {
    for answer in [":1\r\n", "*-1\r\n", "*1\r\n$1\r\nx\r\n", "what?\r\n", "$-1\r\n"] {
        let address = liar(move |command| match command {
            "NAMESPACE CURRENT" => bulk("global"),
            _ => answer.to_owned(),
        });
        let url = format!("redis://{address}");
        for words in [["bin"].as_slice(), &["top"], &["ls"], &["rm", "x"], &["restore", "x"]] {
            let ran = Ran::of(lethe(words).env("LETHE_URL", &url));
            ran.expect(1, &["cannot be understood"]);
        }
    }
    // One that never comes to the end of its list.
    let address = liar(|command| match command {
        "NAMESPACE CURRENT" => bulk("global"),
        _ => format!("*2\r\n{}*0\r\n", bulk("7")),
    });
    let ran = Ran::of(lethe(&["ls", "global/"]).env("LETHE_URL", format!("redis://{address}")));
    ran.expect(1, &["cannot be understood"]);
}
