//! Files that are not what they should be: the node does not start, and says which file it is and why.

use super::*;

/// In the form of a certificate, and none.
const BROKEN: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

/// That a node whose files were changed does not start, and names all of these.
async fn check_refused(change: impl FnOnce(&Authority, &mut Plan), named: &[&str]) {
    let error = House::try_start(change).await.err().expect("it refuses");
    assert!(matches!(error, StartError::Tls(_)), "{error:?}");
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("SECRET"), "{text}");
    }
    let text = error.to_string();
    for part in named {
        assert!(text.contains(part), "{text:?} does not name {part:?}");
    }
}

fn files(plan: &mut Plan) -> &mut TlsConfig {
    plan.config.tls.as_mut().unwrap()
}

#[tokio::test]
async fn files_that_cannot_be_read_are_named() {
    check_refused(
        |_, plan| files(plan).cert_file = "/no/such/node.pem".into(),
        &["/no/such/node.pem", "No such file"],
    )
    .await;
    check_refused(
        |_, plan| files(plan).key_file = "/no/such/key.pem".into(),
        &["/no/such/key.pem"],
    )
    .await;
    check_refused(|_, plan| files(plan).cert_file = "/".into(), &["cannot read /", "no file"])
        .await;
    // Reading it would never end.
    check_refused(|_, plan| files(plan).key_file = "/dev/zero".into(), &["/dev/zero", "no file"])
        .await;
    check_refused(
        |_, plan| {
            plan.config.server.client_certificates = ClientCertificates::Required;
            files(plan).client_ca_file = Some("/no/such/clients.pem".into());
        },
        &["/no/such/clients.pem"],
    )
    .await;
}

#[tokio::test]
async fn what_is_in_a_file_has_to_be_what_belongs_there() {
    let no_certificate = ["node.pem", "no certificate"];
    check_refused(|_, plan| plan.identity.cert = String::new(), &no_certificate).await;
    check_refused(|_, plan| plan.identity.cert = "SECRET\n".repeat(100), &no_certificate).await;
    check_refused(|_, plan| plan.identity.cert = plan.identity.key.clone(), &no_certificate).await;
    check_refused(|_, plan| plan.identity.cert.truncate(200), &["node.pem", "damaged"]).await;
    check_refused(
        |_, plan| {
            plan.identity.cert = BROKEN.to_owned();
        },
        &["node.pem", "cannot be used"],
    )
    .await;
    let no_key = ["node-key.pem", "no private key"];
    check_refused(|_, plan| plan.identity.key = String::new(), &no_key).await;
    check_refused(|_, plan| plan.identity.key = plan.identity.cert.clone(), &no_key).await;
    let encrypted = |text: &str| text.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    check_refused(
        |_, plan| plan.identity.key = encrypted(&plan.identity.key),
        &["node-key.pem", "not encrypted"],
    )
    .await;
    for damage in ["SECRET==!", "U0VDUkVU"] {
        let key = format!("-----BEGIN PRIVATE KEY-----\n{damage}\n-----END PRIVATE KEY-----\n");
        check_refused(|_, plan| plan.identity.key = key, &["node-key.pem", "damaged"]).await;
    }
    check_refused(|_, plan| plan.identity.cert = "x".repeat(5 << 20), &["node.pem", "larger"])
        .await;
}

#[tokio::test]
async fn a_key_has_to_belong_to_its_certificate() {
    check_refused(
        |authority, plan| plan.identity.key = authority.server(&["localhost"]).key,
        &["node-key.pem", "does not belong to the certificate in", "node.pem"],
    )
    .await;
}

/// The certificate of the node may have others behind it, and its file things beside them.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_with_comments_is_read() {
    let house = House::with(|authority, plan| {
        let comment = "subject=the node\nissuer=somebody\n";
        plan.identity.cert = format!("{comment}{}\n{}", plan.identity.cert, authority.pem());
        plan.identity.key = format!("{comment}{}", plan.identity.key);
    })
    .await;
    assert!(house.enter(&house.trusting()).await.is_ok());
    house.node.stop().await;
}

#[tokio::test]
async fn a_damaged_authority_is_named() {
    let ask = |plan: &mut Plan, file: PathBuf| {
        plan.config.server.client_certificates = ClientCertificates::Optional;
        files(plan).client_ca_file = Some(file);
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.pem");
    std::fs::write(&file, BROKEN).unwrap();
    check_refused(|_, plan| ask(plan, file.clone()), &["broken.pem", "certificate 1"]).await;
    std::fs::write(&file, "").unwrap();
    check_refused(|_, plan| ask(plan, file.clone()), &["broken.pem", "no certificate"]).await;
}
