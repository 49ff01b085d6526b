//! The HTTP port with TLS: pages, cookies, the check of a container.

use super::*;

async fn house() -> House {
    House::with(|_, plan| {
        plan.config.http.tls = true;
        plan.config.cluster.heartbeat = Duration::from_millis(50);
    })
    .await
}

/// Asks for a page; the whole answer.
async fn get(house: &House, connector: &TlsConnector, path: &str) -> io::Result<String> {
    let address = house.node.http_addresses()[0];
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TcpStream::connect(address).await?;
    let mut stream = connector.connect(name, stream).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_come_by_https_and_cookies_are_for_https_only() {
    let house = house().await;
    let trusting = house.trusting();
    let answer = get(&house, &trusting, "/healthz").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("alive\n"), "{answer}");
    let console = get(&house, &trusting, "/console").await.unwrap();
    let cookies: Vec<&str> = console
        .lines()
        .filter(|line| line.to_ascii_lowercase().starts_with("set-cookie:"))
        .collect();
    assert!(!cookies.is_empty(), "{console}");
    assert!(cookies.iter().all(|cookie| cookie.ends_with("; Secure")), "{cookies:?}");
    let metrics = get(&house, &trusting, "/metrics").await.unwrap();
    let left = metrics
        .lines()
        .find_map(|line| line.strip_prefix("lethe_tls_certificate_expires_seconds "));
    assert!(left.is_some_and(|left| left.parse::<f64>().is_ok_and(|left| left > 1e9)), "{left:?}");
    let strange = connector(&Authority::new("nobody knows it").pem(), None);
    assert!(get(&house, &strange, "/healthz").await.is_err());
    let counted = "lethe_tls_handshakes_failed_total{port=\"http\",reason=\"refused_by_client\"} 1";
    assert!(get(&house, &trusting, "/metrics").await.unwrap().contains(counted));
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_at_the_port_of_https_is_dropped() {
    let house = house().await;
    let mut stream = TcpStream::connect(house.node.http_addresses()[0]).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.len() < 20 && !answer.starts_with(b"HTTP"), "{answer:?}, {read:?}");
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn https_asks_for_certificates_by_a_setting_of_its_own() {
    let house = House::with(|_, plan| {
        plan.config.http.tls = true;
        plan.config.http.client_certificates = ClientCertificates::Required;
    })
    .await;
    assert!(get(&house, &house.trusting(), "/metrics").await.is_err());
    let prometheus = house.showing(&house.authority.client("prometheus"));
    assert!(get(&house, &prometheus, "/metrics").await.unwrap().starts_with("HTTP/1.1 200"));
    // Clients come in without.
    assert!(house.enter(&house.trusting()).await.is_ok());
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_do_not_begin_keep_no_shutdown_up() {
    let house = house().await;
    let _still = TcpStream::connect(house.node.http_addresses()[0]).await.unwrap();
    assert!(get(&house, &house.trusting(), "/healthz").await.is_ok());
    tokio::time::timeout(PATIENCE, house.node.stop()).await.expect("it waits for nobody");
}

/// `lethe ready` finds out by the settings that there is TLS, and shows the node its own certificate if that asks for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_asks_whether_it_is_ready_by_https() {
    for asked in [ClientCertificates::Off, ClientCertificates::Required] {
        let house = House::with(|authority, plan| {
            plan.config.http.tls = true;
            plan.config.http.client_certificates = asked;
            // Of another name, as seen from the machine itself.
            plan.identity = authority.sign(&["db.example.org"], |_| {});
        })
        .await;
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lethe"));
        let address = house.node.http_addresses()[0].to_string();
        command.args(["ready", "--http", &address]);
        command.env("LETHE_HTTP_TLS", "true");
        command.env("LETHE_TLS_CERT_FILE", house.file("node.pem"));
        command.env("LETHE_TLS_KEY_FILE", house.file("node-key.pem"));
        if asked == ClientCertificates::Required {
            command.env("LETHE_HTTP_TLS_CLIENT_CERTIFICATES", "required");
            command.env("LETHE_TLS_CLIENT_CA_FILE", house.file("clients.pem"));
        }
        let asking = async {
            loop {
                let mut again = std::process::Command::new(command.get_program());
                again.args(command.get_args());
                again.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
                let output =
                    tokio::task::spawn_blocking(move || again.output().unwrap()).await.unwrap();
                // A node that has just started is there and not ready yet.
                assert!([Some(0), Some(1)].contains(&output.status.code()), "{output:?}");
                if output.status.success() {
                    return String::from_utf8_lossy(&output.stdout).into_owned();
                }
            }
        };
        let said = tokio::time::timeout(PATIENCE, asking).await.expect("it becomes ready");
        assert_eq!(said, "ready\n");
        house.node.stop().await;
    }
}
