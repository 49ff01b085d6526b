//! Who does not get in: certificates of both sides, and what is no TLS at all.

use super::*;

/// What a node shows.
type Shown = fn(&Authority) -> Identity;

/// That this client does not get in, and why in its own words; somebody else still does.
async fn check_refused(house: &House, connector: &TlsConnector, why: &str, counted: Failure) {
    let before = house.failures(counted);
    let error = house.enter(connector).await.unwrap_err().to_string();
    assert!(error.contains(why), "{error:?} does not say {why:?}");
    house.failed(counted, before + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_refuses_a_certificate_that_is_not_good() {
    let others = Authority::new("nobody knows it");
    let cases: [(Shown, &str); 3] = [
        (|authority| authority.expired(&["127.0.0.1"]), "expired"),
        (|authority| authority.server(&["db.example.org", "10.0.0.7"]), "not valid for name"),
        (
            |authority| {
                authority.sign(&["127.0.0.1"], |params| {
                    params.not_before = rcgen::date_time_ymd(2200, 1, 1);
                })
            },
            "not valid yet",
        ),
    ];
    for (identity, why) in cases {
        // The node starts all the same: its other ports are of use.
        let house = House::with(|authority, plan| plan.identity = identity(authority)).await;
        check_refused(&house, &house.trusting(), why, Failure::RefusedByClient).await;
        house.node.stop().await;
    }
    let house = House::open().await;
    let distrusting = connector(&others.pem(), None);
    check_refused(&house, &distrusting, "UnknownIssuer", Failure::RefusedByClient).await;
    assert!(house.enter(&house.trusting()).await.is_ok());
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn required_certificates_of_clients_have_to_be_there_and_good() {
    let house = House::asking(ClientCertificates::Required).await;
    let refused = Failure::ClientCertificate;
    check_refused(&house, &house.trusting(), "CertificateRequired", refused).await;
    check_bad_ones(&house).await;
    let good = house.authority.client("ada");
    let mut talk = house.enter(&house.showing(&good)).await.unwrap();
    assert_eq!(talk.call("PING").await.unwrap(), "+PONG");
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_certificates_of_clients_may_be_missing_but_not_bad() {
    let house = House::asking(ClientCertificates::Optional).await;
    check_bad_ones(&house).await;
    assert!(house.enter(&house.trusting()).await.is_ok());
    assert!(house.enter(&house.showing(&house.authority.client("ada"))).await.is_ok());
    house.node.stop().await;
}

async fn check_bad_ones(house: &House) {
    let refused = Failure::ClientCertificate;
    let expired = house.authority.expired(&["ada"]);
    check_refused(house, &house.showing(&expired), "CertificateExpired", refused).await;
    let strange = Authority::new("nobody knows it").client("ada");
    check_refused(house, &house.showing(&strange), "UnknownCA", refused).await;
    // It is good, but for servers.
    let server = house.authority.server(&["ada"]);
    check_refused(house, &house.showing(&server), "alert", refused).await;
}

/// A session that is taken up again would bring its client in without another look at the certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_expired_since_the_last_connection_is_refused() {
    let house = House::asking(ClientCertificates::Required).await;
    let ada = house.authority.sign(&["ada"], |params| {
        params.not_after = rcgen::date_time_ymd(2027, 1, 16);
    });
    let showing = house.showing(&ada);
    drop(house.enter(&showing).await.unwrap());
    house.clock.jump(24 * 3_600 * 1_000);
    check_refused(&house, &showing, "CertificateExpired", Failure::ClientCertificate).await;
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_being_asked_for_nobody_has_to_have_a_good_certificate() {
    let house = House::asking(ClientCertificates::Off).await;
    let expired = house.authority.expired(&["ada"]);
    assert!(house.enter(&house.showing(&expired)).await.is_ok());
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_is_dropped_and_the_port_goes_on() {
    let house = House::open().await;
    let record_too_long = [b"\x16\x03\x01\xff\xff".as_slice(), &vec![0; 70_000]].concat();
    let hello_that_is_none = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".as_slice();
    let cases: [&[u8]; 5] = [
        b"PING\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &record_too_long,
        hello_that_is_none,
    ];
    for (count, bytes) in (1..).zip(cases) {
        let mut stream = TcpStream::connect(house.address()).await.unwrap();
        // It may be cut off before all is sent.
        let sent = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.len() < 20, "{answer:?}, {sent:?}, {read:?}");
        house.failed(Failure::Protocol, count).await;
    }
    assert!(house.enter(&house.trusting()).await.is_ok());
    house.connected(0).await;
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_at_the_port_without_it_is_dropped_too() {
    let house = House::open().await;
    let plain = house.node.addresses()[0];
    let error = Talk::begin(plain, "127.0.0.1", &house.trusting()).await.unwrap_err();
    // What it got is the word that this is no RESP.
    assert!(error.to_string().contains("InvalidContentType"), "{error}");
    assert!(house.enter(&house.trusting()).await.is_ok());
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_in_the_middle_is_forgotten() {
    let house = House::open().await;
    let mut stream = TcpStream::connect(house.address()).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    drop(stream);
    house.failed(Failure::Gone, 1).await;
    house.connected(0).await;
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_to_its_end_gives_its_place_back() {
    let house = House::with(|_, plan| {
        plan.config.server.max_clients = 1;
        plan.config.tls.as_mut().unwrap().handshake_timeout = Duration::from_millis(100);
    })
    .await;
    let mut slow = TcpStream::connect(house.address()).await.unwrap();
    slow.write_all(b"\x16\x03\x01").await.unwrap();
    house.connected(1).await;
    // Meanwhile it has the one place there is.
    assert!(house.enter(&house.trusting()).await.is_err());
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}, {ended:?}");
    house.failed(Failure::Timeout, 1).await;
    house.connected(0).await;
    assert!(house.enter(&house.trusting()).await.is_ok());
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_stand_still_keep_nobody_out_and_no_shutdown_up() {
    let house = House::with(|_, plan| {
        plan.config.server.shutdown_timeout = Duration::from_hours(1);
        plan.config.tls.as_mut().unwrap().handshake_timeout = Duration::from_hours(1);
    })
    .await;
    let mut still = Vec::new();
    for _ in 0..50 {
        still.push(TcpStream::connect(house.address()).await.unwrap());
    }
    let mut talk = house.enter(&house.trusting()).await.unwrap();
    house.connected(51).await;
    // The first of them can be killed like any client.
    let first = house.node.services().clients.list()[0].id();
    assert_eq!(talk.call(&format!("CLIENT KILL ID {first}")).await.unwrap(), ":1");
    house.connected(50).await;
    tokio::time::timeout(PATIENCE, house.node.stop()).await.expect("it waits for none of them");
    for mut stream in still {
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
        assert!(rest.is_empty(), "{rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_with_tls_is_as_protected_as_one_without() {
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let started = House::try_start(|_, plan| {
        plan.config.server.listen.clear();
        plan.config.server.listen_tls = vec![anywhere];
        plan.config.server.client_certificates = ClientCertificates::Required;
    });
    let error = started.await.err().expect("it refuses");
    assert!(matches!(error, StartError::Unprotected(address) if address == anywhere), "{error}");
}
