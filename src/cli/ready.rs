use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::shown::escape;
use super::{Failure, Outcome, ReadyArgs, ServerArgs};
use crate::config::Config;
use crate::tls::rustls::pki_types::ServerName;
use crate::tls::rustls::{ClientConfig, ClientConnection, Error as TlsError, StreamOwned};
use crate::tls::{self, Trust};

/// How long each step of asking may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More than any answer of `/readyz` has.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// `lethe ready`: asks a node on this machine, as a container's health check does.
///
/// # Errors
/// When nobody answers, or nobody is to be asked.
pub(super) fn ready(args: &ReadyArgs) -> Result<Outcome, Failure> {
    let server = ServerArgs { config: args.config.clone(), ..ServerArgs::default() };
    let config = server.load()?;
    let address = match args.http {
        Some(address) => address,
        None => configured(&config)?,
    };
    let (status, why) = ask(address, connector(&config)?)
        .map_err(|error| Failure::Told(format!("no answer from {address}: {error}")))?;
    let mut out = io::stdout();
    if status == 200 {
        writeln!(out, "ready")?;
        return Ok(Outcome::Done);
    }
    // Whoever answered may be no node.
    let why = why.trim_end();
    writeln!(out, "not ready: {}", escape(why.strip_prefix("not ready: ").unwrap_or(why)))?;
    Ok(Outcome::Findings)
}

/// Where a node with these settings answers HTTP.
fn configured(config: &Config) -> Result<SocketAddr, Failure> {
    let first = config.http.listen.first().ok_or_else(|| {
        Failure::Told("the settings give no address for HTTP (http.bind)".to_owned())
    })?;
    // Who listens everywhere listens on the loopback.
    let ip = match first.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, first.port()))
}

/// What is needed for a node with these settings, if it speaks HTTPS. Where it asks for certificates, it is shown its own.
fn connector(config: &Config) -> Result<Option<Arc<ClientConfig>>, Failure> {
    let Some(files) = config.tls.as_ref().filter(|_| config.http.tls) else { return Ok(None) };
    let asked = config.http.client_certificates.are_asked_for();
    let own = (files.cert_file.clone(), files.key_file.clone());
    let trust = Trust { ca_file: None, identity: asked.then_some(own) };
    let connector = tls::local_connector(&trust);
    Ok(Some(connector.map_err(|error| Failure::Told(error.to_string()))?))
}

/// The status and the body of `/readyz`.
fn ask(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> io::Result<(u16, String)> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let answer = match tls {
        None => exchange(stream, address)?,
        Some(config) => {
            let broken = |error: TlsError| io::Error::new(io::ErrorKind::InvalidData, error);
            let name = ServerName::from(address.ip());
            let session = ClientConnection::new(config, name).map_err(broken)?;
            exchange(StreamOwned::new(session, stream), address)?
        }
    };
    let answer = String::from_utf8_lossy(&answer);
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not HTTP"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

fn exchange(mut stream: impl Read + Write, address: SocketAddr) -> io::Result<Vec<u8>> {
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}
