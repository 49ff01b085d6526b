//! Certificates are read again while connections are open: what is good counts for those who come, what is
//! not good changes nothing.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

const RELOAD: &str = "CONFIG RELOAD-CERTIFICATES";

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_counts_for_new_connections_and_open_ones_go_on() {
    let house = House::open().await;
    let mut open = house.enter(&house.trusting()).await.unwrap();
    let before = open.shown();
    let next = house.authority.server(&["127.0.0.1"]);
    next.write(house.folder.path(), "node");
    assert_eq!(open.call(RELOAD).await.unwrap(), "*2");
    assert_eq!(open.line().await.unwrap(), "$11");
    assert_eq!(open.line().await.unwrap(), "valid_until");
    assert_eq!(open.line().await.unwrap(), "$24");
    assert_eq!(open.line().await.unwrap(), "4096-01-01T00:00:00.000Z");
    let new = house.enter(&house.trusting()).await.unwrap();
    assert!(new.shown() == der(&next) && new.shown() != before);
    assert_eq!(open.call("PING").await.unwrap(), "+PONG");
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_good_changes_nothing_and_is_named() {
    let house = House::asking(ClientCertificates::Required).await;
    let ada = house.authority.client("ada");
    let mut talk = house.enter(&house.showing(&ada)).await.unwrap();
    let before = talk.shown();
    let good = house.authority.server(&["127.0.0.1"]);
    let expired = house.authority.expired(&["127.0.0.1"]);
    let early = house.authority.sign(&["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2200, 1, 1);
    });
    let mixed = Identity { key: expired.key.clone(), ..good.clone() };
    let empty = Identity { cert: String::new(), ..good.clone() };
    let cases = [
        (&expired, "has expired: it was valid until 2020-01-01T00:00:00.000Z"),
        (&early, "is not valid yet: it will be from 2200-01-01T00:00:00.000Z on"),
        (&mixed, "does not belong to the certificate"),
        (&empty, "there is no certificate in it"),
    ];
    for (identity, why) in cases {
        identity.write(house.folder.path(), "node");
        let answer = talk.call(RELOAD).await.unwrap();
        assert!(answer.starts_with("-ERR ") && answer.contains(why), "{answer}");
        assert!(answer.contains("node.pem") && answer.ends_with("nothing was changed"), "{answer}");
        assert_eq!(house.enter(&house.showing(&ada)).await.unwrap().shown(), before);
    }
    // All is good but the authorities of clients: neither is taken.
    good.write(house.folder.path(), "node");
    std::fs::remove_file(house.file("clients.pem")).unwrap();
    let answer = talk.call(RELOAD).await.unwrap();
    assert!(answer.contains("clients.pem"), "{answer}");
    assert_eq!(house.enter(&house.showing(&ada)).await.unwrap().shown(), before);
    let certificates = house.node.services().certificates.as_ref().unwrap();
    assert_eq!(certificates.reloads(), (0, 5));

    // Other authorities count from the next connection on.
    let others = Authority::new("another authority");
    std::fs::write(house.file("clients.pem"), others.pem()).unwrap();
    assert_eq!(talk.call(RELOAD).await.unwrap(), "*2");
    for _ in 0..4 {
        talk.line().await.unwrap();
    }
    assert!(house.enter(&house.showing(&ada)).await.is_err());
    let eve = others.client("eve");
    assert_eq!(house.enter(&house.showing(&eve)).await.unwrap().shown(), der(&good));
    assert_eq!(talk.call("PING").await.unwrap(), "+PONG");
    assert_eq!(certificates.reloads(), (1, 5));
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_certificate_is_valid_can_be_seen() {
    let house = House::with(|authority, plan| {
        plan.identity = authority.sign(&["127.0.0.1"], |params| {
            params.not_after = rcgen::date_time_ymd(2027, 1, 16);
        });
    })
    .await;
    let certificates = house.node.services().certificates.as_ref().unwrap();
    let hours = |hours: i64| hours * 3_600 * 1_000;
    let left = certificates.milliseconds_left();
    assert!((hours(15)..=hours(16)).contains(&left), "{left}");
    house.clock.jump(hours(20));
    assert!((hours(-5)..=hours(-4)).contains(&certificates.milliseconds_left()));
    // Who does not look at the time is served all the same.
    assert!(house.enter(&house.trusting()).await.is_ok());
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_tls_says_that_there_is_nothing_to_read() {
    let house = House::with(|_, plan| {
        plan.config.server.listen_tls.clear();
        plan.config.tls = None;
    })
    .await;
    let mut stream = TcpStream::connect(house.node.addresses()[0]).await.unwrap();
    stream.write_all(format!("{RELOAD}\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 512];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("-ERR no port of this node speaks TLS"), "{answer}");
    house.node.stop().await;
}

/// The program as a process: what it says at its start, and what a signal does.
#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_certificates_again_and_ends_nothing() {
    let authority = Authority::new("the authority of a test");
    let folder = tempfile::tempdir().unwrap();
    let first = authority.server(&["127.0.0.1"]);
    let (cert, key) = first.write(folder.path(), "node");
    let mut program = Command::new(env!("CARGO_BIN_EXE_lethe"))
        .args(["--store", "memory", "--port", "0", "--tls-bind", "127.0.0.1", "--tls-port", "0"])
        .arg("--tls-cert-file")
        .arg(&cert)
        .arg("--tls-key-file")
        .arg(&key)
        .env_remove("LETHE_LOG")
        .env("LETHE_LOG_FILTER", "lethe::tls=info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(program.stdout.take().unwrap()).lines();
    let port = said.find_map(|line| {
        line.unwrap().strip_prefix("Connect with: redis-cli --tls -h 127.0.0.1 -p ")?.parse().ok()
    });
    let address = SocketAddr::from(([127, 0, 0, 1], port.unwrap()));
    let mut log = BufReader::new(program.stderr.take().unwrap()).lines();
    let trusting = connector(&authority.pem(), None);
    let mut open = Talk::begin(address, "127.0.0.1", &trusting).await.unwrap();
    assert_eq!(open.shown(), der(&first));

    let pid = program.id().to_string();
    let hang_up = || assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let mut logged = |text: &str| {
        let line = log.find(|line| line.as_ref().is_ok_and(|line| line.contains(text)));
        line.unwrap_or_else(|| panic!("the log never says {text:?}")).unwrap()
    };
    let second = authority.server(&["127.0.0.1"]);
    second.write(folder.path(), "node");
    hang_up();
    logged("certificates read again");
    let new = Talk::begin(address, "127.0.0.1", &trusting).await.unwrap();
    assert_eq!(new.shown(), der(&second));

    std::fs::write(&key, &first.key).unwrap();
    hang_up();
    let line = logged("the old ones stay in force");
    assert!(line.contains("does not belong") && !line.contains("BEGIN"), "{line}");
    let new = Talk::begin(address, "127.0.0.1", &trusting).await.unwrap();
    assert_eq!(new.shown(), der(&second));
    assert_eq!(open.call("PING").await.unwrap(), "+PONG");
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(program.wait().unwrap().success());
}

/// Whoever reloads all his services with one signal must not end those without certificates.
#[tokio::test(flavor = "multi_thread")]
async fn sighup_ends_no_node_without_tls() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_lethe"))
        .args(["--store", "memory", "--port", "0"])
        .env_remove("LETHE_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(program.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("Connect with:")));
    let pid = program.id().to_string();
    let send = |name: &str| {
        assert!(Command::new("kill").args([name, pid.as_str()]).status().unwrap().success());
    };
    send("-HUP");
    let mut log = BufReader::new(program.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("nothing to read again")));
    send("-TERM");
    assert!(program.wait().unwrap().success());
}

#[test]
fn the_program_says_which_file_keeps_it_from_starting() {
    let output = Command::new(env!("CARGO_BIN_EXE_lethe"))
        .args(["--store", "memory", "--port", "0", "--tls-bind", "127.0.0.1"])
        .args(["--tls-cert-file", "/no/such/node.pem", "--tls-key-file", "/no/such/key.pem"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("cannot read /no/such/node.pem"), "{message}");
}
