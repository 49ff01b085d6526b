//! Passwords that stand on no command line, and servers that want the terminal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::{Ran, TestNode, lethe, on_a_terminal, report};

const EVIL: &str = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}1A";

/// That nothing was said that a terminal obeys, and that there was something of the kind.
#[track_caller]
fn tamed(ran: &Ran) {
    let both = format!("{}{}", ran.out, ran.err);
    assert!(both.contains("\\u{1b}]0;owned"), "{ran:?}");
    let is_unsafe = |letter: char| letter != '\n' && letter.is_control() || letter == '\u{202e}';
    assert_eq!(both.chars().find(|letter| is_unsafe(*letter)), None, "{ran:?}");
}

fn guarded() -> TestNode {
    let node = TestNode::start();
    node.play("BUCKET.CREATE users; BUCKET.INSERT users DOCS '{\"n\": 1}'");
    node.play("ACL SETUSER ada on >geheim ~* +@all");
    node
}

#[test]
fn a_copy_is_made_with_the_password_of_the_variable() {
    let node = guarded();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("copy");
    let url = format!("redis://ada@{}", node.address);
    let backup = || lethe(&["backup", "--node", &url, to.to_str().unwrap()]);
    Ran::of(&mut backup()).expect(2, &["no password for the user 'ada'", "LETHE_PASSWORD"]);
    Ran::of(backup().env("LETHE_PASSWORD", "falsch")).expect(2, &["WRONGPASS"]);
    assert!(!to.exists());
    let ran = Ran::of(backup().env("LETHE_PASSWORD", "geheim"));
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.starts_with("copied ") && to.join("MANIFEST").exists(), "{ran:?}");
}

#[test]
fn who_sits_at_a_terminal_is_asked_for_the_password() {
    let node = guarded();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("copy");
    let url = format!("redis://ada@{}", node.address);
    let backup = lethe(&["backup", "--node", &url, to.to_str().unwrap()]);
    let Some(ran) = on_a_terminal(&backup, "geheim") else {
        report::skipped("passwords on a terminal: there is no script(1)");
        return;
    };
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("Password of ada at ") && ran.out.contains("copied "), "{ran:?}");
}

#[test]
fn a_replication_takes_a_password_for_each_side() {
    let (from, to) = (guarded(), TestNode::start());
    to.play("ACL SETUSER bob on >anders ~* +@all");
    let (source, target) =
        (format!("lethe://ada@{}", from.address), format!("lethe://bob@{}", to.address));
    let replicate =
        || lethe(&["replicate", "--from", &source, "--to", &target, "--bucket", "users", "--once"]);
    let mut half = replicate();
    half.env("LETHE_FROM_PASSWORD", "geheim");
    // That of the other subcommands is for neither side.
    half.env("LETHE_PASSWORD", "anders");
    Ran::of(&mut half).expect(2, &["no password for the user 'bob'", "LETHE_TO_PASSWORD"]);
    let mut both = replicate();
    both.env("LETHE_FROM_PASSWORD", "geheim").env("LETHE_TO_PASSWORD", "anders");
    assert_eq!(Ran::of(&mut both).status, 0);
    assert!(to.ok(&["ls", "users"]).contains(" 1 "));
    // A node takes them for no settings.
    let mut ready = lethe(&["ready", "--http", "127.0.0.1:1"]);
    ready.env("LETHE_FROM_PASSWORD", "x").env("LETHE_TO_PASSWORD", "y");
    Ran::of(&mut ready).expect(2, &["no answer from 127.0.0.1:1"]);
}

/// A server of one connection, which answers each line of a request, or its end, with this.
fn hostile(answer: String, line: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        if lines.any(|read| read.unwrap().ends_with(line)) {
            stream.write_all(answer.as_bytes()).unwrap();
        }
        finish(stream);
    });
    (address, served)
}

/// Reads on until the other side has gone, so that it gets what was written.
fn finish(mut stream: TcpStream) {
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    drop(stream.read_to_end(&mut Vec::new()));
}

#[test]
fn no_server_takes_the_terminal_over_whatever_it_is_asked() {
    for answer in
        [format!("-ERR {EVIL}\r\n"), format!("+{EVIL}\r\n"), format!("*1\r\n-ERR {EVIL}\r\n")]
    {
        let (address, served) = hostile(answer, "/copy");
        let ran = Ran::of(&mut lethe(&["backup", "--node", &address.to_string(), "/copy"]));
        if ran.status == 0 {
            // A list without the figures.
            assert!(!ran.out.contains('\u{1b}'), "{ran:?}");
        } else {
            tamed(&ran);
        }
        served.join().unwrap();
    }
    let body = format!("not ready: {EVIL}\n");
    let page = format!("HTTP/1.1 503 Service Unavailable\r\n\r\n{body}");
    let (address, served) = hostile(page, "");
    let ran = Ran::of(&mut lethe(&["ready", "--http", &address.to_string()]));
    tamed(&ran);
    assert!(ran.out.starts_with("not ready: x\\u{1b}"), "{ran:?}");
    served.join().unwrap();

    let refusal = format!("-ERR {EVIL}\r\n");
    let (from, _) = hostile(refusal.clone(), "");
    let (to, _) = hostile(refusal, "");
    let (from, to) = (format!("lethe://{from}"), format!("lethe://{to}"));
    let words = ["replicate", "--from", &from, "--to", &to, "--bucket", "b", "--once"];
    tamed(&Ran::of(&mut lethe(&words)));
}

/// What is no matter of a server is treated alike.
#[test]
fn an_error_is_told_without_what_a_terminal_obeys() {
    tamed(&Ran::of(&mut lethe(&["backup", "--data-dir", EVIL, "copy"])));
}
