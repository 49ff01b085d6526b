//! The server over real TCP: protocol, order, limits, shutdown.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod commands;
mod frames;
mod program;
mod session;

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
    addresses: Vec<SocketAddr>,
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
                tell.send((server.addresses().to_vec(), services)).unwrap();
                server.run(token).await;
            });
        });
        let (addresses, services) = told.recv().unwrap();
        Self { address: addresses[0], addresses, services, stop, thread: Some(thread) }
    }

    fn connect(&self) -> Raw {
        Raw::connect(self.address)
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
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream }
    }

    /// Reads a line, without its end.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
    }

    /// Reads a bulk string.
    fn bulk(&mut self) -> String {
        let header = self.line();
        let length: usize = header.strip_prefix('$').and_then(|text| text.parse().ok()).unwrap();
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

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

impl Raw {
    /// Reads until the server closes; what came before.
    fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => String::from_utf8_lossy(&rest).into_owned(),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&rest)),
        }
    }

    /// One command as a line, one reply.
    fn check(&mut self, line: &str, reply: &str) {
        self.send(format!("{line}\r\n"));
        self.expect(reply);
    }
}

/// What goes wrong on one fresh connection: the reply, and then its end.
fn check_closes(server: &Running, request: impl AsRef<[u8]>, reply: &str) {
    let mut client = server.connect();
    client.send(request);
    assert_eq!(client.rest(), reply);
}

fn array(words: &[&str]) -> String {
    let words: Vec<String> =
        words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{}", words.len(), words.concat())
}
