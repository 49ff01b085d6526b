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

#[test]
fn ping_and_echo_answer_over_tcp() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.send("*1\r\n$4\r\nPING\r\n*2\r\n$4\r\necho\r\n$3\r\na\r\n\r\nping hello\r\n");
    client.expect("+PONG\r\n$3\r\na\r\n\r\n$5\r\nhello\r\n");
    client.check("PING ''", "+PONG\r\n");
    client.check("PING a b", "-ERR wrong number of arguments for 'PING' command\r\n");
    client.check("ECHO", "-ERR wrong number of arguments for 'ECHO' command\r\n");
}

#[test]
fn ten_thousand_pipelined_commands_answer_in_order() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for number in 0..10_000 {
        let text = number.to_string();
        requests.push(array(&["ECHO", &text]));
        replies.push(format!("${}\r\n{text}\r\n", text.len()));
    }
    client.send(requests.concat());
    client.expect(replies.concat());
}

#[test]
fn a_command_may_come_byte_by_byte() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.stream.set_nodelay(true).unwrap();
    for byte in array(&["ECHO", "a\r\nb"]).bytes() {
        client.send([byte]);
    }
    client.expect("$4\r\na\r\nb\r\n");
}

/// Client libraries send a whole pipeline before they read the first reply.
#[test]
fn a_client_may_send_everything_before_it_reads() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    let word = "x".repeat(20_000);
    let request = array(&["ECHO", &word]);
    for _ in 0..1_000 {
        client.send(&request);
    }
    let reply = format!("$20000\r\n{word}\r\n");
    for _ in 0..1_000 {
        client.expect(&reply);
    }
}

#[test]
fn a_client_that_reads_all_along_may_get_more_than_the_buffer_holds() {
    let server = Running::start(|config| config.server.output_bytes_max = 1_024);
    let mut client = server.connect();
    let mut sender = client.stream.try_clone().unwrap();
    let word = "x".repeat(10_000);
    let request = array(&["ECHO", &word]).repeat(1_000);
    let sending = std::thread::spawn(move || sender.write_all(request.as_bytes()).unwrap());
    let reply = format!("$10000\r\n{word}\r\n");
    for _ in 0..1_000 {
        client.expect(&reply);
    }
    sending.join().unwrap();
}

#[test]
fn a_client_that_does_not_read_is_closed_and_counted() {
    let server = Running::start(|config| {
        config.server.output_bytes_max = 1_024;
        config.server.output_timeout = Duration::from_millis(50);
    });
    let mut client = server.connect();
    client.stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = array(&["ECHO", &"x".repeat(100_000)]);
    while client.stream.write_all(request.as_bytes()).is_ok() {}
    let closed = server.services.stats.closed_slow.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(closed, 1);
}

#[test]
fn a_request_beyond_a_limit_gets_its_own_error_and_the_connection_closes() {
    let server = Running::start(|config| {
        config.server.request_bytes_max = 10_000;
        config.server.arguments_max = 16;
        config.server.nesting_max = 4;
        config.server.inline_bytes_max = 100;
    });
    check_closes(
        &server,
        "*2\r\n$4\r\nECHO\r\n$10001\r\n",
        "-ERR Protocol error: invalid bulk length\r\n",
    );
    check_closes(
        &server,
        format!("*3\r\n$4\r\nECHO\r\n$9000\r\n{}\r\n$1000\r\n", "x".repeat(9_000)),
        "-ERR Protocol error: request is larger than 10000 bytes\r\n",
    );
    check_closes(&server, "*17\r\n", "-ERR Protocol error: invalid multibulk length\r\n");
    check_closes(
        &server,
        "*1\r\n".repeat(200_000),
        "-ERR Protocol error: nesting is deeper than 4\r\n",
    );
    check_closes(&server, "x".repeat(101), "-ERR Protocol error: too big inline request\r\n");
    let count = server.services.stats.closed_protocol.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(count, 5);
}

/// The client is still sending what is refused: it has to be able to read why.
#[test]
fn an_oversized_request_under_way_gets_its_error() {
    let server = Running::start(|config| config.server.request_bytes_max = 10_000);
    let mut client = server.connect();
    client.send("*2\r\n$4\r\nECHO\r\n$1000000\r\n");
    client.send(vec![b'x'; 1_000_002]);
    client.expect("-ERR Protocol error: invalid bulk length\r\n");
}

#[test]
fn requests_of_all_clients_together_are_bounded() {
    let server = Running::start(|config| config.server.buffer_bytes_max = 32 << 20);
    let large = "x".repeat(60 << 20);
    let mut client = server.connect();
    // How much of it is taken before the refusal is a matter of time; the reply is not.
    let mut sender = client.stream.try_clone().unwrap();
    let request = array(&["ECHO", &large]);
    let sending = std::thread::spawn(move || drop(sender.write_all(request.as_bytes())));
    client.expect("-ERR the requests of all clients are too large together, try again later\r\n");
    drop(client);
    sending.join().unwrap();
    // What was taken is given back.
    let small = "x".repeat(1 << 20);
    for _ in 0..10 {
        let mut client = server.connect();
        client.send(array(&["PING", &small]));
        client.expect(format!("$1048576\r\n{small}\r\n"));
    }
    let closed = server.services.stats.closed_memory.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(closed, 1);
}

#[test]
fn a_protocol_error_is_told_after_the_replies_before_it() {
    let server = Running::start(|_| {});
    check_closes(
        &server,
        "PING\r\n*1\r\n!\r\nPING\r\n",
        "+PONG\r\n-ERR Protocol error: expected '$', got '!'\r\n",
    );
    check_closes(&server, "ECHO 'a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n");
}

#[test]
fn an_array_for_a_word_is_refused_and_the_connection_goes_on() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.send("*2\r\n$4\r\nECHO\r\n*1\r\n$1\r\na\r\nPING\r\n");
    client.expect("-ERR the words of a command are bulk strings, not arrays\r\n+PONG\r\n");
}

#[test]
fn an_idle_client_is_told_and_closed() {
    let server =
        Running::start(|config| config.server.idle_timeout = Some(Duration::from_millis(20)));
    let mut client = server.connect();
    client.check("PING", "+PONG\r\n");
    assert_eq!(client.rest(), "-ERR idle timeout\r\n");
    let closed = server.services.stats.closed_idle.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(closed, 1);
}

#[test]
fn a_web_page_cannot_make_a_browser_send_commands() {
    let server = Running::start(|_| {});
    check_closes(&server, "POST / HTTP/1.1\r\nHost: localhost\r\n\r\nFLUSHALL\r\n", "");
    check_closes(
        &server,
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n",
        "-ERR unknown command 'GET', with args beginning with: '/' 'HTTP/1.1' \r\n",
    );
}

#[test]
fn several_addresses_are_served_until_the_stop() {
    let server = Running::start(|config| {
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0)); 2];
    });
    assert_eq!(server.addresses.len(), 2);
    for address in &server.addresses {
        Raw::connect(*address).check("PING", "+PONG\r\n");
    }
}

#[test]
fn hello_chooses_the_protocol_or_changes_nothing() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    let version = env!("CARGO_PKG_VERSION");
    let fields = |proto: u8| {
        format!(
            "$6\r\nserver\r\n$5\r\nlethe\r\n$7\r\nversion\r\n${}\r\n{version}\r\n$5\r\nproto\r\n:{proto}\r\n\
             $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
            version.len()
        )
    };
    client.check("HELLO", &format!("*14\r\n{}", fields(2)));
    client.check("HELLO 3 SETNAME me", &format!("%7\r\n{}", fields(3)));
    client.check("HELLO", &format!("%7\r\n{}", fields(3)));
    client.check("CLIENT GETNAME", "$2\r\nme\r\n");
    client.check("HELLO 4", "-NOPROTO unsupported protocol version\r\n");
    client.check("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n");
    client.check("HELLO 2 AUTH a", "-ERR Syntax error in HELLO option 'AUTH'\r\n");
    client.check("HELLO 2 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'\r\n");
    client.check("HELLO 2 NOPE", "-ERR Syntax error in HELLO option 'NOPE'\r\n");
    client.check(
        "HELLO 2 SETNAME you AUTH default x",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    );
    client.check(
        "HELLO 2 SETNAME 'a b'",
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
    );
    // Still RESP3 and still that name.
    client.check("CLIENT GETNAME", "$2\r\nme\r\n");
    client.check("SESSION.ATTRIBUTE NOPE", "-ERR Invalid subcommand status: NOPE\r\n");
    client.check("RESET", "+RESET\r\n");
    client.check("CLIENT GETNAME", "$-1\r\n");
}

#[test]
fn auth_says_that_there_are_no_users() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.check(
        "AUTH secret",
        "-ERR AUTH <password> called without any password configured for the default user. \
         Are you sure your configuration is correct?\r\n",
    );
    client.check("AUTH a b", "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    client.check("AUTH a b c", "-ERR wrong number of arguments for 'AUTH' command\r\n");
}

#[test]
fn there_is_one_database() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.check("SELECT 0", "+OK\r\n");
    client.check("SELECT 1", "-ERR DB index is out of range\r\n");
    client.check("SELECT x", "-ERR value is not an integer or out of range\r\n");
}

#[test]
fn session_attributes_are_listed_and_set() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    let defaults = "*8\r\n$10\r\nreply_type\r\n$4\r\njson\r\n$10\r\ninput_type\r\n$4\r\njson\r\n\
                    $5\r\nlimit\r\n:100\r\n$16\r\nobject_id_format\r\n$3\r\nhex\r\n";
    client.check("SESSION.ATTRIBUTE LIST", defaults);
    for line in ["REPLY_TYPE BSON", "input_type Bson", "limit 7", "object_id_format bytes"] {
        client.check(&format!("SESSION.ATTRIBUTE SET {line}"), "+OK\r\n");
    }
    client.check(
        "session.attribute list",
        "*8\r\n$10\r\nreply_type\r\n$4\r\nbson\r\n$10\r\ninput_type\r\n$4\r\nbson\r\n\
         $5\r\nlimit\r\n:7\r\n$16\r\nobject_id_format\r\n$5\r\nbytes\r\n",
    );
    for (line, error) in [
        ("reply_type xml", "Invalid reply type: xml"),
        ("input_type xml", "Invalid input type: xml"),
        ("object_id_format xml", "Invalid object id format: xml"),
        ("limit 0", "'limit' must be greater than 0"),
        ("limit -1", "'limit' must be greater than 0"),
        ("limit x", "value is not an integer or out of range"),
        ("limit 99999999999", "value is not an integer or out of range"),
        ("nope x", "Invalid session attribute: 'nope'"),
        ("limit", "invalid number of parameters"),
        ("limit 1 2", "invalid number of parameters"),
    ] {
        client.check(&format!("SESSION.ATTRIBUTE SET {line}"), &format!("-ERR {error}\r\n"));
    }
    client.check("CLIENT SETNAME me", "+OK\r\n");
    client.check("SESSION.CLOSE", "+OK\r\n");
    client.check("SESSION.ATTRIBUTE LIST", defaults);
    client.check("CLIENT GETNAME", "$-1\r\n");
}

#[test]
fn session_close_keeps_the_protocol_and_reset_does_not() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.send("HELLO 3\r\nSESSION.CLOSE\r\nCLIENT GETNAME\r\nRESET\r\nCLIENT GETNAME\r\n");
    let mut text = vec![0; 4_096];
    let mut got = String::new();
    while !got.ends_with("$-1\r\n") {
        let read = client.stream.read(&mut text).unwrap();
        assert!(read > 0, "{got}");
        got.push_str(&String::from_utf8_lossy(&text[..read]));
    }
    assert!(got.ends_with("+OK\r\n_\r\n+RESET\r\n$-1\r\n"), "{got}");
}

#[test]
fn client_reply_turns_replies_off_and_skips() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.send("CLIENT REPLY SKIP\r\nPING a\r\nPING b\r\n");
    client.expect("$1\r\nb\r\n");
    client.send("CLIENT REPLY OFF\r\nPING a\r\nCLIENT REPLY SKIP\r\nPING b\r\nNOPE\r\n");
    client.check("CLIENT REPLY ON", "+OK\r\n");
    client.check("PING c", "$1\r\nc\r\n");
    client.check("CLIENT REPLY MAYBE", "-ERR syntax error\r\n");
}

#[test]
fn clients_are_named_listed_and_killed() {
    let server = Running::start(|_| {});
    let mut admin = server.connect();
    admin.check("CLIENT ID", ":1\r\n");
    admin.check("CLIENT SETNAME admin", "+OK\r\n");
    admin.check("CLIENT SETINFO lib-name Some-Lib(1.0)", "+OK\r\n");
    admin.check("CLIENT SETINFO lib-ver 1.2.3", "+OK\r\n");
    admin.check("CLIENT SETINFO lib-nope x", "-ERR Unrecognized option 'lib-nope'\r\n");
    admin.check(
        "CLIENT SETINFO lib-name",
        "-ERR wrong number of arguments for 'CLIENT|SETINFO' command\r\n",
    );
    admin.check(
        "CLIENT SETINFO lib-name 'a b'",
        "-ERR lib-name cannot contain spaces, newlines or special characters.\r\n",
    );
    admin.check("CLIENT NO-EVICT ON", "+OK\r\n");
    admin.check("CLIENT NO-TOUCH off", "+OK\r\n");
    admin.check("CLIENT NO-TOUCH maybe", "-ERR syntax error\r\n");
    admin.send("CLIENT INFO\r\n");
    let line = admin.bulk();
    for part in [
        "id=1 addr=127.0.0.1:",
        "name=admin",
        "flags=Ne",
        "cmd=client|info",
        "resp=2",
        "lib-name=Some-Lib(1.0) lib-ver=1.2.3",
        "tot-cmds=10",
    ] {
        assert!(line.contains(part), "{line} lacks {part}");
    }

    let mut victim = server.connect();
    victim.check("CLIENT ID", ":2\r\n");
    let victim_address = victim.stream.local_addr().unwrap();
    admin.send("CLIENT LIST\r\nCLIENT LIST ID 2 7\r\nCLIENT LIST TYPE replica\r\n");
    assert_eq!(admin.bulk().lines().count(), 2);
    let listed = admin.bulk();
    assert!(listed.starts_with(&format!("id=2 addr={victim_address} ")), "{listed}");
    assert_eq!(listed.lines().count(), 1);
    assert_eq!(admin.bulk(), "");
    admin.check("CLIENT LIST TYPE nope", "-ERR Unknown client type 'nope'\r\n");
    admin.check("CLIENT LIST ID 0", "-ERR client-id should be greater than 0\r\n");
    admin.check("CLIENT LIST NOPE", "-ERR syntax error\r\n");

    admin.check("CLIENT KILL 1.2.3.4:5", "-ERR No such client\r\n");
    admin.check("CLIENT KILL ID 99", ":0\r\n");
    admin.check("CLIENT KILL TYPE pubsub", ":0\r\n");
    admin.check("CLIENT KILL USER nope", "-ERR No such user 'nope'\r\n");
    admin.check("CLIENT KILL ID", "-ERR No such client\r\n");
    admin.check("CLIENT KILL ID 2 NOPE", "-ERR syntax error\r\n");
    admin.check("CLIENT KILL ID 2 MAXAGE 1000", ":0\r\n");
    victim.check("PING", "+PONG\r\n");
    admin.check(&format!("CLIENT KILL {victim_address}"), "+OK\r\n");
    assert_eq!(victim.rest(), "");

    let mut victim = server.connect();
    victim.check("PING", "+PONG\r\n");
    let local = server.address;
    admin.check(&format!("CLIENT KILL LADDR {local} SKIPME yes"), ":1\r\n");
    assert_eq!(victim.rest(), "");
    admin.check("CLIENT KILL TYPE normal SKIPME no", ":1\r\n");
    assert_eq!(admin.rest(), "");
}

#[test]
fn unknown_commands_are_answered_as_in_redis() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.check("Nope", "-ERR unknown command 'Nope', with args beginning with: \r\n");
    client.check(
        "nope a 'b c'",
        "-ERR unknown command 'nope', with args beginning with: 'a' 'b c' \r\n",
    );
    client.check(
        r#"nope "a\r\n+OK""#,
        "-ERR unknown command 'nope', with args beginning with: 'a  +OK' \r\n",
    );
    client.check("COMMAND nope", "-ERR unknown subcommand: 'nope'. Try COMMAND HELP.\r\n");
    client.check("CONFIG SET a b", "-ERR unknown subcommand: 'SET'. Try CONFIG HELP.\r\n");
}

#[test]
fn what_destroys_at_once_in_redis_is_refused() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    for (line, instead) in [
        ("FLUSHALL", "BUCKET.REMOVE"),
        ("FLUSHDB ASYNC", "BUCKET.REMOVE"),
        ("DEL a b", "BUCKET.REMOVE"),
        ("UNLINK a", "BUCKET.REMOVE"),
        ("GETDEL a", "BUCKET.REMOVE"),
        ("SHUTDOWN NOSAVE", "SIGTERM"),
    ] {
        client.send(format!("{line}\r\n"));
        let reply = client.line();
        assert!(reply.starts_with("-ERR ") && reply.contains(instead), "{reply}");
    }
    client.check("PING", "+PONG\r\n");
}

#[test]
fn config_get_shows_what_matches() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.check("CONFIG GET nope", "*0\r\n");
    client.check("CONFIG GET session.l* NOPE", "*2\r\n$13\r\nsession.limit\r\n$3\r\n100\r\n");
    client.check("CONFIG GET SESSION.LIMIT", "*2\r\n$13\r\nsession.limit\r\n$3\r\n100\r\n");
    // What redis-benchmark asks for before it starts.
    client.check("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
    client.check("CONFIG GET", "-ERR wrong number of arguments for 'CONFIG|GET' command\r\n");
}

#[test]
fn info_shows_the_sections_that_are_asked_for() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    client.send("INFO\r\n");
    let info = client.bulk();
    for part in [
        "# Server\r\n",
        "redis_version:7.",
        "redis_mode:standalone\r\n",
        "connected_clients:1\r\n",
        "total_commands_processed:0\r\n",
        "total_net_input_bytes:6\r\n",
        "\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n",
    ] {
        assert!(info.contains(part), "{info} lacks {part}");
    }
    assert!(!info.contains("cmdstat_"));
    client.send("INFO commandstats CLUSTER\r\n");
    let info = client.bulk();
    assert!(info.starts_with("# Commandstats\r\ncmdstat_info:calls=1,"), "{info}");
    assert!(info.contains("# Cluster") && !info.contains("# Server"), "{info}");
    client.send("INFO all\r\nINFO nope\r\n");
    assert!(client.bulk().contains("# Commandstats"));
    assert_eq!(client.bulk(), "");
}

#[test]
fn command_describes_the_table() {
    let server = Running::start(|_| {});
    let mut client = server.connect();
    let count = lethe::command::registry::table().commands().count();
    client.check("COMMAND COUNT", &format!(":{count}\r\n"));
    client.check(
        "COMMAND INFO PING nope",
        "*2\r\n*10\r\n$4\r\nping\r\n:-1\r\n*1\r\n+fast\r\n:0\r\n:0\r\n:0\r\n*2\r\n+@connection\r\n+@fast\r\n\
         *0\r\n*0\r\n*0\r\n*-1\r\n",
    );
    client.check(
        "COMMAND DOCS ECHO nope",
        "*2\r\n$4\r\necho\r\n*10\r\n$7\r\nsummary\r\n$32\r\nAnswers the message it is given.\r\n\
         $5\r\nsince\r\n$3\r\n0.1\r\n$5\r\ngroup\r\n$10\r\nconnection\r\n$10\r\ncomplexity\r\n$4\r\nO(1)\r\n\
         $9\r\narguments\r\n*1\r\n*6\r\n$4\r\nname\r\n$7\r\nmessage\r\n$4\r\ntype\r\n$6\r\nstring\r\n\
         $12\r\ndisplay_text\r\n$7\r\nmessage\r\n",
    );
    client.check(
        "COMMAND LIST FILTERBY PATTERN Client|set*",
        "*2\r\n$14\r\nclient|setinfo\r\n$14\r\nclient|setname\r\n",
    );
    client.check("COMMAND LIST FILTERBY MODULE nope", "*0\r\n");
    client.check("COMMAND LIST FILTERBY NOPE x", "-ERR syntax error\r\n");
    client.check("COMMAND LIST NOPE", "-ERR syntax error\r\n");
    client.check("COMMAND GETKEYS PING", "-ERR The command has no key arguments\r\n");
    client.check("COMMAND GETKEYS nope x", "-ERR Invalid command specified\r\n");
    client.check(
        "COMMAND GETKEYS ECHO",
        "-ERR Invalid number of arguments specified for command\r\n",
    );
}

/// The client library for Rust, in both protocol versions.
#[tokio::test]
async fn the_redis_crate_connects_and_pipelines() {
    let server = Running::start(|_| {});
    for suffix in ["", "?protocol=resp3"] {
        let client = redis::Client::open(format!("redis://{}/{suffix}", server.address)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let pong: String = redis::cmd("PING").query_async(&mut connection).await.unwrap();
        assert_eq!(pong, "PONG");
        let mut pipeline = redis::pipe();
        for number in 0..1_000 {
            pipeline.cmd("ECHO").arg(number);
        }
        let echoes: Vec<i64> = pipeline.query_async(&mut connection).await.unwrap();
        assert_eq!(echoes, (0..1_000).collect::<Vec<_>>());
        let attributes: std::collections::HashMap<String, String> =
            redis::cmd("SESSION.ATTRIBUTE").arg("LIST").query_async(&mut connection).await.unwrap();
        assert_eq!(attributes["limit"], "100");
        let info: redis::InfoDict = redis::cmd("INFO").query_async(&mut connection).await.unwrap();
        assert_eq!(info.get::<String>("redis_mode").as_deref(), Some("standalone"));
        let error = redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap_err();
        assert!(error.to_string().contains("BUCKET.REMOVE"), "{error}");
    }
}

/// The program itself, on a store in memory.
struct Program {
    child: std::process::Child,
    address: SocketAddr,
}

impl Program {
    fn start() -> Self {
        Self::with(&[], std::process::Stdio::inherit())
    }

    fn with(variables: &[(&str, &str)], log: std::process::Stdio) -> Self {
        use std::io::BufRead;
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_lethe"))
            .args(["--store", "memory", "--port", "0"])
            .envs(variables.iter().copied())
            .env_remove("LETHE_LOG")
            .stderr(log)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            line.unwrap().split_once(" -p ").map(|(_, port)| port.parse::<u16>().unwrap())
        });
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port.unwrap())) }
    }

    /// Sends a signal and gives the status with which the program ends.
    fn signal(mut self, name: &str) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

#[test]
fn sigterm_and_sigint_end_the_program_in_good_order() {
    for name in ["-TERM", "-INT"] {
        let program = Program::start();
        let mut client = Raw::connect(program.address);
        client.check("PING", "+PONG\r\n");
        let status = program.signal(name);
        assert!(status.success(), "{name}: {status}");
        assert_eq!(client.rest(), "");
    }
}

#[test]
fn a_wrong_setting_stops_the_start_and_is_named() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lethe"))
        .env("LETHE_SERVER_MAX_CLIENTS", "many")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("server.max_clients") && message.contains("many"), "{message}");
}

#[test]
fn the_slow_log_keeps_what_was_slow_and_no_secrets() {
    let server = Running::start(|config| {
        config.slow_log.threshold = Some(Duration::ZERO);
        config.slow_log.entries_max = 3;
    });
    let mut client = server.connect();
    client.check("CLIENT SETNAME ada", "+OK\r\n");
    for line in ["ECHO lost", "PING", "AUTH ada geheim", "BUCKET.INSERT users DOCS '{\"a\":1}'"] {
        client.send(format!("{line}\r\n"));
        client.line();
        if line.starts_with("ECHO") {
            client.line();
        }
    }
    client.check("SLOWLOG LEN", ":3\r\n");
    client.send("SLOWLOG GET -1\r\n");
    let mut shown = Vec::new();
    // Three entries of six lines and more; the oldest is the last.
    while !shown.last().is_some_and(|line: &String| line.contains("(2 words not shown)")) {
        shown.push(client.line());
    }
    let text = shown.join(" ");
    assert!(text.starts_with("*3 *6 :"), "{text}");
    assert!(
        text.contains("SLOWLOG $3 LEN") && text.contains("users $4 DOCS $9 (7 bytes)"),
        "{text}"
    );
    assert!(text.contains("$3 ada") && text.contains("127.0.0.1:"), "{text}");
    assert!(!text.contains("geheim") && !text.contains("lost"), "{text}");
    let mut other = server.connect();
    other.check("SLOWLOG RESET", "+OK\r\n");
    other.check("SLOWLOG LEN", ":1\r\n");
    let negative = "-ERR count should be greater than or equal to -1\r\n";
    other.check("SLOWLOG GET -2", negative);
    other.check("SLOWLOG GET 1 2", "-ERR wrong number of arguments for 'SLOWLOG|GET' command\r\n");
}

#[test]
fn without_a_threshold_nothing_is_slow() {
    let server = Running::start(|config| config.slow_log.threshold = None);
    let mut client = server.connect();
    client.check("PING", "+PONG\r\n");
    client.check("SLOWLOG LEN", ":0\r\n");
    client.check("SLOWLOG GET", "*0\r\n");
}

#[test]
fn the_log_says_which_request_and_removal_and_no_secrets() {
    let variables = [
        ("LETHE_LOG_FORMAT", "json"),
        ("LETHE_LOG_FILTER", "info"),
        ("LETHE_SLOW_LOG_THRESHOLD", "0s"),
    ];
    let mut program = Program::with(&variables, std::process::Stdio::piped());
    let mut log = program.child.stderr.take().unwrap();
    let mut client = Raw::connect(program.address);
    client.check("BUCKET.CREATE users", "+OK\r\n");
    client.send("BUCKET.INSERT users DOCS '{\"word\":\"vertraulich\"}'\r\n");
    assert_eq!((client.line(), client.bulk().len()), ("*1".to_owned(), 24));
    client.send("BUCKET.QUERY users '{\"word\":\"vertraulich\"}'\r\nAUTH ada geheim\r\n");
    client.send("BUCKET.REMOVE users\r\n");
    client.send("QUIT\r\n");
    client.rest();
    assert!(program.signal("-TERM").success());
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert!(!text.contains("geheim") && !text.contains("vertraulich"), "{text}");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let slow = |command: &str| {
        let found = lines
            .iter()
            .find(|line| line["message"] == "slow command" && line["command"] == command);
        found.unwrap_or_else(|| panic!("no {command} in {text}"))
    };
    let removed = slow("BUCKET.REMOVE");
    let span = &removed["span"];
    assert_eq!((&span["request"], &removed["request"]), (&"1-5".into(), &"1-5".into()));
    assert_eq!((&span["namespace"], &span["bucket"]), (&"global".into(), &"users".into()));
    assert!(span["removal"].as_str().is_some_and(|id| id.starts_with("r_")), "{removed}");
    assert_eq!(slow("BUCKET.QUERY")["span"]["request"], "1-3");
    assert!(lines.iter().any(|line| line["message"] == "joined the cluster"), "{text}");
}

#[test]
fn a_filter_of_the_log_that_cannot_be_read_stops_the_start_and_is_named() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lethe"))
        .env_remove("LETHE_LOG")
        .env("LETHE_LOG_FILTER", "lethe=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("log.filter") && message.contains("loud"), "{message}");
}
