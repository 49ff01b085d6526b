//! What a connection keeps: protocol, attributes, names, whether it gets replies.

use super::*;

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
        "HELLO 2 SETNAME you AUTH nobody x",
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
fn auth_says_that_there_are_no_passwords() {
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
