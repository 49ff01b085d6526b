//! Commands about the server itself, and those of Redis that are refused.

use super::*;

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
