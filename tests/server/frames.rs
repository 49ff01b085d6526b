//! Requests and replies as bytes: order, pieces, limits, clients that do not read or do not speak.

use super::*;

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
