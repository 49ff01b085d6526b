//! Programs and libraries that people use, and our own, through TLS.

use std::process::{Command, Output};

use redis::{ClientTlsConfig, TlsCertificates};

use super::*;

/// A client of the `redis` crate.
fn library(house: &House, authority: &str, identity: Option<&Identity>) -> redis::Client {
    let certificates = TlsCertificates {
        client_tls: identity.map(|identity| ClientTlsConfig {
            client_cert: identity.cert.clone().into_bytes(),
            client_key: identity.key.clone().into_bytes(),
        }),
        root_cert: Some(authority.as_bytes().to_vec()),
    };
    let url = format!("rediss://{}/?protocol=resp3", house.address());
    redis::Client::build_with_tls(url, certificates).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_library_works_and_refuses_another_name() {
    let house = House::asking(ClientCertificates::Required).await;
    let ada = house.authority.client("ada");
    let client = library(&house, &house.authority.pem(), Some(&ada));
    // Its own half a second is little on a busy machine.
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let connecting = client.get_multiplexed_async_connection_with_config(&patient);
    let mut link = connecting.await.unwrap();
    let created: String =
        redis::cmd("BUCKET.CREATE").arg("tls").query_async(&mut link).await.unwrap();
    assert_eq!(created, "OK");
    let mut pipeline = redis::pipe();
    for n in 0..500 {
        pipeline.cmd("BUCKET.INSERT").arg("tls").arg("DOCS").arg(format!("{{\"n\": {n}}}"));
    }
    let ids: Vec<Vec<String>> = pipeline.query_async(&mut link).await.unwrap();
    assert_eq!(ids.len(), 500);
    let counted: i64 = redis::cmd("BUCKET.COUNT").arg("tls").query_async(&mut link).await.unwrap();
    assert_eq!(counted, 500);
    let without = library(&house, &house.authority.pem(), None);
    assert!(without.get_multiplexed_async_connection().await.is_err());
    house.node.stop().await;

    let house =
        House::with(|authority, plan| plan.identity = authority.server(&["db.example.org"])).await;
    let client = library(&house, &house.authority.pem(), None);
    let error = client.get_multiplexed_async_connection().await.err().unwrap().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    house.node.stop().await;
}

/// Runs a program beside the node; `None` when there is no such program.
async fn run(mut command: Command) -> Option<Output> {
    let run = move || match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{command:?}: {error}"),
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Why the programs of Redis cannot be asked, if they cannot.
async fn without_redis_cli() -> Option<&'static str> {
    let mut help = Command::new("redis-cli");
    help.arg("--help");
    let Some(output) = run(help).await else { return Some("not installed") };
    // Some versions print it as an error.
    let said = text(&[output.stdout, output.stderr].concat());
    (!said.contains("--cacert")).then_some("it was built without TLS")
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_cli_works_through_tls_and_checks_both_certificates() {
    if let Some(why) = without_redis_cli().await {
        report::skipped(&format!("redis-cli --tls against a node: {why}"));
        return;
    }
    let house = House::asking(ClientCertificates::Required).await;
    let (cert, key) = house.authority.client("ada").write(house.folder.path(), "ada");
    let authority = house.file("clients.pem");
    let port = house.address().port().to_string();
    let call = |shown: bool, argv: &[&str]| {
        let mut command = Command::new("redis-cli");
        command.args(["--tls", "-p", &port, "--cacert"]).arg(&authority);
        if shown {
            command.arg("--cert").arg(&cert).arg("--key").arg(&key);
        }
        command.args(argv);
        run(command)
    };
    let said = |output: Option<Output>| text(&output.unwrap().stdout);
    assert_eq!(said(call(true, &["BUCKET.CREATE", "users"]).await), "OK\n");
    let inserted = call(true, &["BUCKET.INSERT", "users", "DOCS", r#"{"name": "Ada"}"#]).await;
    assert_eq!(said(inserted).trim_end().len(), 24);
    let found = said(call(true, &["BUCKET.QUERY", "users", "{}"]).await);
    assert!(found.contains(r#""name":"Ada""#), "{found}");
    let refused = call(false, &["PING"]).await.unwrap();
    assert!(!text(&refused.stdout).contains("PONG"), "{refused:?}");
    house.node.stop().await;

    // An authority that has not signed.
    let house = House::open().await;
    let strange = house.file("strange.pem");
    std::fs::write(&strange, Authority::new("nobody knows it").pem()).unwrap();
    let mut command = Command::new("redis-cli");
    let port = house.address().port().to_string();
    command.args(["--tls", "-p", &port, "--cacert"]).arg(&strange).arg("PING");
    let output = run(command).await.unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("certificate verify failed"));
    // It may try twice, and hang up before all has reached it, so that its word is lost.
    let failures = || house.failures(Failure::RefusedByClient) + house.failures(Failure::Gone);
    until("a failure", || failures() > 0).await;
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_py_works_through_tls() {
    let Ok(python) = std::env::var("TEST_PYTHON") else {
        report::skipped("redis-py through TLS: TEST_PYTHON is not set");
        return;
    };
    let house = House::asking(ClientCertificates::Optional).await;
    let (cert, key) = house.authority.client("ada").write(house.folder.path(), "ada");
    let mut command = Command::new(python);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/redis_py_tls.py");
    command.arg(script).arg(house.address().port().to_string());
    command.arg(house.file("clients.pem")).arg(cert).arg(key);
    let output = run(command).await.unwrap();
    assert_eq!(text(&output.stdout), "ok\n", "{}", text(&output.stderr));
    house.node.stop().await;
}

/// Our own program, on a node.
fn lethe(house: &House, host: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lethe"));
    for name in
        ["LETHE_CACERT", "LETHE_CERT", "LETHE_KEY", "LETHE_PASSWORD", "LETHE_LOG", "LETHE_CONFIG"]
    {
        command.env_remove(name);
    }
    command.env("LETHE_URL", format!("rediss://{host}:{}", house.address().port()));
    command.args(words);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_program_trusts_whom_it_is_told_to() {
    let house = House::asking(ClientCertificates::Required).await;
    let (cert, key) = house.authority.client("ada").write(house.folder.path(), "ada");
    let authority = house.file("clients.pem");
    let mut ls = lethe(&house, "127.0.0.1", &["ls", "--cacert"]);
    ls.arg(&authority).arg("--cert").arg(&cert).arg("--key").arg(&key);
    let output = run(ls).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("global/"), "{output:?}");

    // From variables, as in a container.
    let mut bin = lethe(&house, "localhost", &["bin", "--json"]);
    bin.env("LETHE_CACERT", &authority).env("LETHE_CERT", &cert).env("LETHE_KEY", &key);
    assert!(run(bin).await.unwrap().status.success());

    let mut backup = lethe(&house, "127.0.0.1", &["backup", "--node"]);
    backup.arg(format!("rediss://{}", house.address())).arg(house.file("copy"));
    backup.env("LETHE_CACERT", &authority).env("LETHE_CERT", &cert).env("LETHE_KEY", &key);
    let output = run(backup).await.unwrap();
    assert!(text(&output.stdout).starts_with("copied "), "{output:?}");

    let mut without = lethe(&house, "127.0.0.1", &["ls", "--cacert"]);
    without.arg(&authority);
    let output = run(without).await.unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("CertificateRequired"), "{output:?}");

    // The authorities of this machine have not signed it.
    let output = run(lethe(&house, "127.0.0.1", &["ls"])).await.unwrap();
    assert!([Some(2), Some(3)].contains(&output.status.code()), "{output:?}");
    assert!(text(&output.stderr).contains("certificate"), "{output:?}");

    let strange = house.file("strange.pem");
    std::fs::write(&strange, Authority::new("nobody knows it").pem()).unwrap();
    let mut ls = lethe(&house, "127.0.0.1", &["ls", "--json", "--cacert"]);
    let output = run({
        ls.arg(&strange);
        ls
    })
    .await
    .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("UNTRUSTED"), "{output:?}");
    assert!(text(&output.stderr).contains("--cacert"), "{output:?}");

    let mut ls = lethe(&house, "127.0.0.1", &["ls", "--cacert"]);
    let output = run({
        ls.arg(house.file("no-such.pem"));
        ls
    })
    .await
    .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("no-such.pem"), "{output:?}");
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_program_says_when_only_one_side_speaks_tls() {
    let house = House::open().await;
    let mut plain = lethe(&house, "127.0.0.1", &["ls"]);
    plain.env("LETHE_URL", format!("redis://{}", house.address()));
    let output = run(plain).await.unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("rediss://"), "{output:?}");
    let mut tls = lethe(&house, "127.0.0.1", &["ls"]);
    tls.env("LETHE_URL", format!("rediss://{}", house.node.addresses()[0]));
    tls.env("LETHE_CACERT", house.file("clients.pem"));
    let output = run(tls).await.unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("speaks no TLS"), "{output:?}");
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_program_refuses_another_name() {
    let house =
        House::with(|authority, plan| plan.identity = authority.server(&["db.example.org"])).await;
    let mut ls = lethe(&house, "localhost", &["ls", "--cacert"]);
    ls.arg(house.file("clients.pem"));
    let output = run(ls).await.unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("not valid for name \"localhost\""), "{output:?}");
    house.node.stop().await;
}
