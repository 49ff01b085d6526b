use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Server;
use crate::clock::SystemClock;
use crate::command::Services;
use crate::command::testing::{Gate, gate};
use crate::config::Config;

/// A server on a free port.
struct Running {
    services: Arc<Services>,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(change: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::default();
    config.server.listen[0].set_port(0);
    change(&mut config);
    let services = Arc::new(Services::new(Arc::new(config), Arc::new(SystemClock)));
    let server = Server::bind(Arc::clone(&services)).unwrap();
    let address = server.addresses()[0];
    let stop = CancellationToken::new();
    let task = tokio::spawn(server.run(stop.clone()));
    Running { services, address, stop, task }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection whose `TEST.WAIT` has begun.
    async fn connect_and_wait(&self, name: &str) -> (TcpStream, Arc<Gate>) {
        let mut stream = self.connect().await;
        let gate = gate(name);
        send(&mut stream, &format!("TEST.WAIT {name}\r\n")).await;
        arrived(&gate.begun).await;
        (stream, gate)
    }
}

async fn arrived(semaphore: &tokio::sync::Semaphore) {
    tokio::time::timeout(Duration::from_secs(20), semaphore.acquire())
        .await
        .expect("it happens")
        .unwrap()
        .forget();
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut got = vec![0; text.len()];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut got));
    read.await.expect("a reply").expect("a whole reply");
    assert_eq!(String::from_utf8_lossy(&got), text);
}

async fn expect_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
    // A reset is an end too.
    if read.await.expect("an end").is_ok() {
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_command() {
    let server = start(|config| config.server.hangup_grace = Duration::ZERO);
    let (stream, gate) = server.connect_and_wait("hangs-up").await;
    drop(stream);
    arrived(&gate.dropped).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_behind_many_commands_ends_the_one_that_runs() {
    let server = start(|config| config.server.hangup_grace = Duration::ZERO);
    let (mut stream, gate) = server.connect_and_wait("hangs-up-behind-many").await;
    // More than is read ahead while a command runs, and little enough that the end behind it arrives.
    send(&mut stream, &"PING\r\n".repeat(14_000)).await;
    drop(stream);
    arrived(&gate.dropped).await;
}

#[tokio::test]
async fn a_client_that_has_sent_all_still_gets_its_replies() {
    let server = start(|config| config.server.hangup_grace = Duration::from_hours(1));
    let (mut stream, gate) = server.connect_and_wait("half-closed").await;
    send(&mut stream, "PING\r\n").await;
    stream.shutdown().await.unwrap();
    gate.release.add_permits(1);
    expect(&mut stream, "+RELEASED\r\n+PONG\r\n").await;
    expect_end(&mut stream).await;
}

#[tokio::test]
async fn client_kill_ends_a_running_command_and_its_connection() {
    let server = start(|_| {});
    let (mut victim, gate) = server.connect_and_wait("killed").await;
    let client = Arc::clone(&server.services.clients.list()[0]);
    let (index, _) = crate::command::registry::table().find(b"TEST.WAIT").unwrap();
    while client.last_command() != Some(index) {
        tokio::task::yield_now().await;
    }
    let id = client.id();
    let mut other = server.connect().await;
    send(&mut other, &format!("CLIENT KILL ID {id}\r\n")).await;
    expect(&mut other, ":1\r\n").await;
    arrived(&gate.dropped).await;
    expect_end(&mut victim).await;
}

#[tokio::test]
async fn replies_go_out_before_a_command_that_takes_its_time() {
    let server = start(|_| {});
    let mut stream = server.connect().await;
    let gate = gate("after-ping");
    send(&mut stream, "PING\r\nTEST.WAIT after-ping\r\nPING\r\n").await;
    expect(&mut stream, "+PONG\r\n").await;
    gate.release.add_permits(1);
    expect(&mut stream, "+RELEASED\r\n+PONG\r\n").await;
}

#[tokio::test]
async fn commands_that_await_answer_in_order() {
    let server = start(|_| {});
    let mut stream = server.connect().await;
    let names = ["ECHO", "TEST.LATER", "TEST.LATER"];
    let numbers = (1_000..2_000).zip(names.into_iter().cycle());
    let requests: Vec<String> =
        numbers.clone().map(|(number, name)| format!("{name} {number}\r\n")).collect();
    let replies: Vec<String> = numbers.map(|(number, _)| format!("$4\r\n{number}\r\n")).collect();
    send(&mut stream, &requests.concat()).await;
    expect(&mut stream, &replies.concat()).await;
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_only() {
    let server = start(|_| {});
    let mut other = server.connect().await;
    for name in ["TEST.PANIC", "TEST.PANIC-LATER"] {
        let mut stream = server.connect().await;
        send(&mut stream, &format!("{name} x\r\nPING\r\n")).await;
        expect(&mut stream, "-ERR internal error: the command failed; the log says where\r\n")
            .await;
        expect_end(&mut stream).await;
    }
    send(&mut other, "PING\r\n").await;
    expect(&mut other, "+PONG\r\n").await;
}

#[tokio::test]
async fn a_shutdown_lets_commands_end_and_begins_no_more() {
    let server = start(|config| config.server.shutdown_timeout = Duration::from_hours(1));
    let mut idle = server.connect().await;
    send(&mut idle, "PING\r\n").await;
    expect(&mut idle, "+PONG\r\n").await;
    let (mut stream, gate) = server.connect_and_wait("shutdown").await;
    send(&mut stream, "PING\r\n").await;
    server.stop.cancel();
    expect_end(&mut idle).await;
    gate.release.add_permits(1);
    expect(&mut stream, "+RELEASED\r\n-ERR server is shutting down\r\n").await;
    expect_end(&mut stream).await;
    server.task.await.unwrap();
    assert!(server.services.clients.is_empty());
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_waits_for_no_command_for_ever() {
    let server = start(|config| config.server.shutdown_timeout = Duration::from_millis(10));
    let (mut stream, gate) = server.connect_and_wait("shutdown-bounded").await;
    server.stop.cancel();
    server.task.await.unwrap();
    arrived(&gate.dropped).await;
    expect_end(&mut stream).await;
}

#[tokio::test]
async fn a_full_house_says_so_and_has_room_again_later() {
    let server = start(|config| config.server.max_clients = 1);
    let mut first = server.connect().await;
    send(&mut first, "PING\r\n").await;
    expect(&mut first, "+PONG\r\n").await;
    let mut second = server.connect().await;
    send(&mut second, "PING\r\n").await;
    expect(&mut second, "-ERR max number of clients reached\r\n").await;
    expect_end(&mut second).await;
    send(&mut first, "QUIT\r\n").await;
    expect(&mut first, "+OK\r\n").await;
    drop(first);
    while !server.services.clients.is_empty() {
        tokio::task::yield_now().await;
    }
    let mut third = server.connect().await;
    send(&mut third, "PING\r\n").await;
    expect(&mut third, "+PONG\r\n").await;
}
