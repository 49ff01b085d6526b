use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Failure, Outcome, ReadyArgs, ServerArgs};

/// How long each step of asking may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More than any answer of `/readyz` has.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// `lethe ready`: asks a node on this machine, as a container's health check does.
///
/// # Errors
/// When nobody answers, or nobody is to be asked.
pub(super) fn ready(args: &ReadyArgs) -> Result<Outcome, Failure> {
    let address = match args.http {
        Some(address) => address,
        None => configured(args)?,
    };
    let (status, why) = ask(address)
        .map_err(|error| Failure::Told(format!("no answer from {address}: {error}")))?;
    let mut out = io::stdout();
    if status == 200 {
        writeln!(out, "ready")?;
        return Ok(Outcome::Done);
    }
    writeln!(out, "not ready: {}", why.trim_end())?;
    Ok(Outcome::Findings)
}

/// Where a node with these settings answers HTTP.
fn configured(args: &ReadyArgs) -> Result<SocketAddr, Failure> {
    let server = ServerArgs { config: args.config.clone(), ..ServerArgs::default() };
    let listen = server.load()?.http.listen;
    let first = listen.first().ok_or_else(|| {
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

/// The status and the body of `/readyz`.
fn ask(address: SocketAddr) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not HTTP"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
