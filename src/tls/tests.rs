use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::Instant;

use super::*;
use crate::clock::SystemClock;
use crate::config::{Config, TlsConfig};

const PATIENCE: Duration = Duration::from_secs(7);

fn certificates() -> Arc<Certificates> {
    let folder = tempfile::tempdir().unwrap();
    let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&cert_file, made.cert.pem()).unwrap();
    std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
    let tls = TlsConfig { cert_file, key_file, client_ca_file: None, handshake_timeout: PATIENCE };
    let config = Config { tls: Some(tls), ..Config::default() };
    Certificates::load(&config, Arc::new(SystemClock)).unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stands_still_or_crawls_ends_in_time() {
    let certificates = certificates();
    for crawls in [false, true] {
        let (mut client, node) = duplex(64);
        let began = Instant::now();
        let accepting = certificates.accept(Port::Resp, node);
        let crawling = async {
            // A byte a second of a record that never ends.
            while crawls && client.write_all(&[0x16, 3, 1, 64, 0][..1]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            accepted = accepting => assert!(accepted.is_none()),
            () = crawling => unreachable!("it never ends"),
        }
        assert!(began.elapsed() <= PATIENCE, "{:?}", began.elapsed());
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
    }
    let failed = |failure| certificates.failures(Port::Resp, failure);
    assert_eq!(failed(Failure::Timeout) + failed(Failure::Protocol), 2);
    assert!(failed(Failure::Timeout) >= 1);
}

#[test]
fn all_ports_and_failures_are_at_their_places() {
    assert!(Port::ALL.iter().enumerate().all(|(place, port)| *port as usize == place));
    assert!(Failure::ALL.iter().enumerate().all(|(place, failure)| *failure as usize == place));
}

#[test]
fn nothing_of_a_key_is_in_a_debug_form() {
    let certificates = certificates();
    let text = format!("{certificates:?}");
    assert!(text.contains("cert.pem") && text.len() < 500, "{text}");
}
