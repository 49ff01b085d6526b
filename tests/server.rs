//! The server over real TCP: protocol, order, limits, shutdown.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use lethe::clock::SystemClock;
use lethe::command::Services;
use lethe::config::Config;
use lethe::server::Server;
use tokio_util::sync::CancellationToken;

/// A running server on a free port, in a runtime of its own; it stops when dropped.
struct Running {
    address: SocketAddr,
    services: Arc<Services>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        for address in &mut config.server.listen {
            address.set_port(0);
        }
        change(&mut config);
        let stop = CancellationToken::new();
        let (tell, told) = std::sync::mpsc::channel();
        let token = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let services = Arc::new(Services::new(Arc::new(config), Arc::new(SystemClock)));
                let server = Server::bind(Arc::clone(&services)).unwrap();
                tell.send((server.addresses()[0], services)).unwrap();
                server.run(token).await;
            });
        });
        let (address, services) = told.recv().unwrap();
        Self { address, services, stop, thread: Some(thread) }
    }

    fn connect(&self) -> Raw {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Raw { stream }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A socket that sends and expects bytes.
struct Raw {
    stream: TcpStream,
}

impl Raw {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads exactly as many bytes as are expected.
    fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let expected = bytes.as_ref();
        let mut got = vec![0; expected.len()];
        let mut read = 0;
        while read < got.len() {
            match self.stream.read(&mut got[read..]) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) => panic!("{error} after {:?}", got[..read].escape_ascii().to_string()),
            }
        }
        assert_eq!(got[..read].escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

#[test]
fn ping_and_echo_answer_over_tcp() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.send("*1\r\n$4\r\nPING\r\n*2\r\n$4\r\necho\r\n$3\r\na\r\n\r\nping hello\r\n");
    client.expect("+PONG\r\n$3\r\na\r\n\r\n$5\r\nhello\r\n");
    assert_eq!(server.services.clients.len(), 1);
}
