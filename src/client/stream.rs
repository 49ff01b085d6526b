use std::fmt::Display;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::{Address, Error};
use crate::tls::rustls::pki_types::ServerName;
use crate::tls::{self, rustls};

/// A connection, with or without TLS.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Connects to where an address says.
pub(super) async fn connect(address: &Address) -> Result<Stream, Error> {
    let away = |error| Error::Unreachable { place: address.place(), error };
    let untrusted =
        |why: &dyn Display| Error::Untrusted { place: address.place(), why: why.to_string() };
    // Files that cannot be read are told before anybody is bothered.
    let connector = address.tls.as_ref().map(tls::connector).transpose()?;
    let stream = TcpStream::connect(address.endpoint()).await.map_err(away)?;
    stream.set_nodelay(true).map_err(away)?;
    let Some(connector) = connector else { return Ok(Either::Left(stream)) };
    let (host, _) = address.endpoint();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| untrusted(&error))?;
    match TlsConnector::from(connector).connect(name, stream).await {
        Ok(stream) => Ok(Either::Right(Box::new(stream))),
        Err(error) => Err(match error.get_ref().and_then(|why| why.downcast_ref()) {
            Some(rustls::Error::InvalidMessage(_)) => {
                untrusted(&"the port speaks no TLS; without it is redis://")
            }
            Some(why) => untrusted(why),
            None => away(error),
        }),
    }
}
