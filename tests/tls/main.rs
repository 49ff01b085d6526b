//! TLS on the ports of a node: who gets in, who does not, what is said about it, and what an open
//! connection does not notice.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../support/certificates.rs"]
mod certificates;
mod clients;
mod files;
mod handshakes;
mod https;
mod reload;
#[path = "../support/report.rs"]
mod report;
mod talk;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use certificates::{Authority, Identity};
use lethe::clock::TestClock;
use lethe::config::{ClientCertificates, Config, TlsConfig};
use lethe::node::{Node, NodeOptions, StartError};
use lethe::store::Store;
use lethe::tls::rustls::pki_types::pem::PemObject;
use lethe::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use lethe::tls::rustls::{ClientConfig, RootCertStore};
use lethe::tls::{Failure, Port};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a test waits for what happens on its own.
const PATIENCE: Duration = Duration::from_secs(20);

/// 2027-01-15T08:00:00Z.
const EPOCH: i64 = 1_800_000_000_000;

/// A node with TLS, and the authority that its clients trust.
struct House {
    authority: Authority,
    folder: TempDir,
    clock: TestClock,
    node: Node,
}

/// What [`House::start`] may change.
struct Plan {
    identity: Identity,
    config: Config,
}

impl House {
    /// A node with a good certificate.
    async fn open() -> Self {
        Self::with(|_, _| {}).await
    }

    /// A node whose settings and certificate are changed first.
    async fn with(change: impl FnOnce(&Authority, &mut Plan)) -> Self {
        Self::try_start(change).await.unwrap()
    }

    async fn try_start(change: impl FnOnce(&Authority, &mut Plan)) -> Result<Self, StartError> {
        let authority = Authority::new("the authority of a test");
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.server.listen_tls = config.server.listen.clone();
        let [cert_file, key_file, ca_file] =
            ["node.pem", "node-key.pem", "clients.pem"].map(|name| folder.path().join(name));
        std::fs::write(&ca_file, authority.pem()).unwrap();
        config.tls = Some(TlsConfig {
            cert_file,
            key_file,
            client_ca_file: Some(ca_file),
            handshake_timeout: PATIENCE,
        });
        let identity = authority.server(&["127.0.0.1", "localhost"]);
        let mut plan = Plan { identity, config };
        change(&authority, &mut plan);
        plan.identity.write(folder.path(), "node");
        let clock = TestClock::starting_at(EPOCH);
        let options = NodeOptions { exclusive: true, ..NodeOptions::default() };
        let (config, time) = (Arc::new(plan.config), Arc::new(clock.clone()));
        let node = Node::start_on(Store::memory(), config, time, options).await?;
        Ok(Self { authority, folder, clock, node })
    }

    /// A node that asks for certificates of clients.
    async fn asking(what: ClientCertificates) -> Self {
        Self::with(|_, plan| plan.config.server.client_certificates = what).await
    }

    fn address(&self) -> SocketAddr {
        self.node.tls_addresses()[0]
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Who trusts the authority of this node and shows nothing.
    fn trusting(&self) -> TlsConnector {
        connector(&self.authority.pem(), None)
    }

    /// The same with a certificate to show.
    fn showing(&self, identity: &Identity) -> TlsConnector {
        connector(&self.authority.pem(), Some(identity))
    }

    /// Connects and is answered.
    async fn enter(&self, connector: &TlsConnector) -> io::Result<Talk> {
        Talk::begin(self.address(), "127.0.0.1", connector).await
    }

    fn failures(&self, failure: Failure) -> u64 {
        self.node.services().certificates.as_ref().unwrap().failures(Port::Resp, failure)
    }

    /// Waits until as many handshakes have failed for this reason: the node counts after the client has noticed.
    async fn failed(&self, failure: Failure, count: u64) {
        until(&format!("{count} of {failure:?}"), || self.failures(failure) == count).await;
    }

    /// Waits until as many are connected.
    async fn connected(&self, count: usize) {
        let clients = &self.node.services().clients;
        until(&format!("{count} clients"), || clients.len() == count).await;
    }
}

/// Waits for what happens on its own and tells nobody.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never {what}"));
}

fn connector(authority: &str, identity: Option<&Identity>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// A connection through TLS.
#[derive(Debug)]
struct Talk(TlsStream<TcpStream>);

impl Talk {
    async fn begin(address: SocketAddr, name: &str, connector: &TlsConnector) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TcpStream::connect(address).await?;
        let connecting = tokio::time::timeout(PATIENCE, connector.connect(name, stream));
        let mut talk = Self(connecting.await.expect("an answer")?);
        // Only now it is known what the node thinks of us.
        assert_eq!(talk.call("PING").await?, "+PONG");
        Ok(talk)
    }

    /// Sends a line and reads one.
    async fn call(&mut self, line: &str) -> io::Result<String> {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.0.flush().await?;
        self.line().await
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = tokio::time::timeout(PATIENCE, self.0.read_u8()).await.expect("a reply")?;
            line.push(byte);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8(line).unwrap())
    }

    /// What comes until the node closes.
    async fn rest(&mut self) -> io::Result<String> {
        let mut rest = Vec::new();
        let reading = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest));
        reading.await.expect("an end")?;
        Ok(String::from_utf8(rest).unwrap())
    }

    /// The certificate that the node has shown.
    fn shown(&self) -> CertificateDer<'static> {
        let (_, session) = self.0.get_ref();
        session.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

fn der(identity: &Identity) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap()
}
