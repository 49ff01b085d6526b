use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use redis_protocol::resp2::types::OwnedFrame as Frame2;
use redis_protocol::resp3::types::OwnedFrame as Frame3;

use super::*;

const LIMITS: Limits = Limits { frame_bytes: 4_096, arguments: 64, nesting: 4, inline_bytes: 128 };

/// What a stream of bytes turned into.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Command(Vec<Vec<u8>>),
    Nested,
    Error(ProtocolError),
}

/// Feeds pieces one after the other and asks for requests after each.
fn feed<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut scanner = Scanner::new(limits);
    let mut buffer = BytesMut::new();
    let mut seen = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match scanner.next(&mut buffer) {
                Ok(None) => break,
                Ok(Some(Request::Nested)) => seen.push(Seen::Nested),
                Ok(Some(Request::Command(words))) => {
                    assert!(!words.is_empty());
                    seen.push(Seen::Command(words.iter().map(<[u8]>::to_vec).collect()));
                }
                Err(error) => {
                    seen.push(Seen::Error(error));
                    return seen;
                }
            }
        }
    }
    seen
}

fn command(words: &[&str]) -> Seen {
    Seen::Command(words.iter().map(|word| word.as_bytes().to_vec()).collect())
}

/// The same whole and byte by byte.
fn check(input: &[u8], expected: &[Seen]) {
    assert_eq!(feed(LIMITS, [input]), expected, "{}", input.escape_ascii());
    assert_eq!(feed(LIMITS, input.chunks(1)), expected, "{}", input.escape_ascii());
}

fn check_error(input: &[u8], expected: &str) {
    let Some(Seen::Error(error)) = feed(LIMITS, [input]).pop() else {
        panic!("{} is taken", input.escape_ascii())
    };
    assert_eq!(error.to_string(), expected);
    check(input, &feed(LIMITS, [input]));
}

#[test]
fn arrays_of_bulk_strings_are_commands() {
    check(b"*1\r\n$4\r\nPING\r\n", &[command(&["PING"])]);
    check(b"*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n", &[command(&["", "\r\n"])]);
    check(b"*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", &[command(&["a"]), command(&["b"])]);
    check(b"*1\r\n$4\r\nPIN", &[]);
}

#[test]
fn empty_requests_ask_for_nothing() {
    check(b"\r\n\n*0\r\n*-1\r\n*-7\r\n  \r\nPING\r\n", &[command(&["PING"])]);
}

#[test]
fn a_line_is_a_command() {
    check(b"PING\r\nset  a 'b c'\n", &[command(&["PING"]), command(&["set", "a", "b c"])]);
    check(b"a\"b\"\r\n", &[command(&["ab"])]);
    check(b"\"\\x41\\n\\\"\" '\\''\r\n", &[command(&["A\n\"", "'"])]);
    check(b"a\0b\r\n", &[command(&["a", "b"])]);
    check(b"\0\r\n", &[]);
    check(b"'' \"\"\r\n", &[command(&["", ""])]);
}

#[test]
fn lines_and_arrays_mix() {
    check(
        b"PING\r\n*1\r\n$4\r\nPING\r\nECHO x\r\n",
        &[command(&["PING"]), command(&["PING"]), command(&["ECHO", "x"])],
    );
}

#[test]
fn what_no_client_sends_is_an_error_as_in_redis() {
    check_error(b"ECHO 'a\r\n", "unbalanced quotes in request");
    check_error(b"ECHO \"a\"b\r\n", "unbalanced quotes in request");
    check_error(b"*x\r\n", "invalid multibulk length");
    check_error(b"*\r\n", "invalid multibulk length");
    check_error(b"*01\r\n", "invalid multibulk length");
    check_error(b"*-0\r\n", "invalid multibulk length");
    check_error(b"*1\n$1\r\na\r\n", "invalid multibulk length");
    check_error(b"*65\r\n", "invalid multibulk length");
    check_error(b"*99999999999999999999\r\n", "invalid multibulk length");
    check_error(b"*1\r\nPING\r\n", "expected '$', got 'P'");
    check_error(b"*1\r\n\xff\r\n", "expected '$', got '\\xff'");
    check_error(b"*1\r\n$x\r\n", "invalid bulk length");
    check_error(b"*1\r\n$-1\r\n", "invalid bulk length");
    check_error(b"*1\r\n$5000\r\n", "invalid bulk length");
    check_error(b"*1\r\n$1\r\nab\r\n", "expected a line end after a bulk string");
}

#[test]
fn each_limit_has_its_own_error() {
    check_error(&[b'a'; 200], "too big inline request");
    check_error(&[b"a ".repeat(100).as_slice(), b"\r\n"].concat(), "too big inline request");
    check_error(&[b"*".as_slice(), &[b'1'; 200]].concat(), "too big mbulk count string");
    check_error(&[b"*1\r\n$".as_slice(), &[b'1'; 200]].concat(), "too big bulk count string");
    check_error(
        &[b"*2\r\n$4000\r\n".as_slice(), &[b'x'; 4_000], b"\r\n$100\r\n"].concat(),
        "request is larger than 4096 bytes",
    );
    check_error(&b"*1\r\n".repeat(200_000), "nesting is deeper than 4");
    // Arrays of empty arrays have no bulk string whose length would tell.
    let arrays = [b"*64\r\n".as_slice(), &b"*0\r\n".repeat(64)].concat().repeat(64);
    let endless = [b"*64\r\n".as_slice(), &arrays].concat();
    check_error(&endless, "request is larger than 4096 bytes");
}

#[test]
fn a_request_with_an_array_in_it_is_read_and_passed() {
    check(b"*2\r\n*1\r\n$1\r\na\r\n$1\r\nb\r\nPING\r\n", &[Seen::Nested, command(&["PING"])]);
    check(b"*2\r\n$1\r\na\r\n*2\r\n*0\r\n*-1\r\nPING\r\n", &[Seen::Nested, command(&["PING"])]);
    check(b"*1\r\n*1\r\n*1\r\n*1\r\n$1\r\na\r\nPING\r\n", &[Seen::Nested, command(&["PING"])]);
}

#[test]
fn a_length_is_refused_when_it_is_announced() {
    let mut buffer = BytesMut::from("*1\r\n$4097\r\n");
    assert_eq!(Scanner::new(LIMITS).next(&mut buffer).unwrap_err(), ProtocolError::InvalidLength);
}

#[test]
fn a_large_word_in_pieces_is_waited_for_without_looking_at_it_again() {
    let limits = Limits { frame_bytes: 1 << 20, ..LIMITS };
    let mut scanner = Scanner::new(limits);
    let mut buffer = BytesMut::from("*2\r\n$1\r\na\r\n$100000\r\n");
    assert!(scanner.next(&mut buffer).unwrap().is_none());
    let place = scanner.place();
    assert_eq!(scanner.missing(&buffer), 100_002);
    for _ in 0..99 {
        buffer.extend_from_slice(&[b'\n'; 1_000]);
        assert!(scanner.next(&mut buffer).unwrap().is_none());
        assert_eq!(scanner.place(), place);
    }
    assert_eq!(scanner.missing(&buffer), 1_002);
    buffer.extend_from_slice(&[b'\n'; 1_000]);
    buffer.extend_from_slice(b"\r\n");
    let Some(Request::Command(words)) = scanner.next(&mut buffer).unwrap() else {
        panic!("the request is complete")
    };
    assert_eq!(words.get(1).map(<[u8]>::len), Some(100_000));
}

#[test]
fn many_words_in_pieces_are_looked_at_once() {
    let limits = Limits { arguments: 10_000, frame_bytes: 1 << 20, ..LIMITS };
    let mut scanner = Scanner::new(limits);
    let mut buffer = BytesMut::from("*10000\r\n");
    for count in 0..9_999 {
        buffer.extend_from_slice(b"$3\r\nabc\r\n");
        assert!(scanner.next(&mut buffer).unwrap().is_none());
        assert_eq!(scanner.place(), 8 + 9 * (count + 1), "everything that came is behind us");
    }
}

#[test]
fn an_unfinished_line_is_searched_once() {
    let mut scanner = Scanner::new(LIMITS);
    let mut buffer = BytesMut::new();
    for count in 1..=100 {
        buffer.extend_from_slice(b"x");
        assert!(scanner.next(&mut buffer).unwrap().is_none());
        assert_eq!(scanner.place(), count);
    }
}

#[test]
fn words_can_be_taken_without_a_copy() {
    let mut buffer = BytesMut::from("*8\r\n");
    for word in ["a", "b", "c", "d", "e", "f", "g", "hello"] {
        buffer.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    let Some(Request::Command(words)) = Scanner::new(LIMITS).next(&mut buffer).unwrap() else {
        panic!("the request is complete")
    };
    assert_eq!(words.len(), 8);
    assert_eq!(words.bytes(7), Some(Bytes::from_static(b"hello")));
    assert_eq!(words.bytes(7).unwrap().as_ptr(), words.get(7).unwrap().as_ptr());
    assert_eq!(words.get(8), None);
}

/// One request as an array, and what it says.
fn request() -> impl Strategy<Value = (Vec<u8>, Seen)> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..12).prop_map(|words| {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in &words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        (bytes, Seen::Command(words))
    })
}

/// Bytes that look like the protocol more often than random ones do.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"*1\r\n".to_vec()),
        Just(b"*3\r\n".to_vec()),
        Just(b"*0\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        Just(b"$1\r\n".to_vec()),
        Just(b"$0\r\n\r\n".to_vec()),
        Just(b"$4\r\nPING\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"PING 'x y'\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

fn split(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for size in sizes {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces.push(rest.to_vec());
    pieces
}

proptest! {
    #[test]
    fn pieces_make_the_same_commands_as_the_whole(
        requests in prop::collection::vec(request(), 1..6),
        sizes in prop::collection::vec(0_usize..40, 0..40),
    ) {
        let (bytes, expected): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let bytes = bytes.concat();
        let pieces = split(&bytes, &sizes);
        prop_assert_eq!(&feed(LIMITS, pieces.iter().map(Vec::as_slice)), &expected);
        prop_assert_eq!(&feed(LIMITS, [bytes.as_slice()]), &expected);
    }

    #[test]
    fn garbage_in_pieces_is_the_same_garbage_and_never_panics(
        bytes in garbage(),
        sizes in prop::collection::vec(0_usize..10, 0..40),
    ) {
        let pieces = split(&bytes, &sizes);
        let whole = feed(LIMITS, [bytes.as_slice()]);
        prop_assert_eq!(feed(LIMITS, pieces.iter().map(Vec::as_slice)), whole);
    }

    /// A second opinion: the decoder of redis-protocol.
    #[test]
    fn another_decoder_reads_the_same_words((bytes, expected) in request()) {
        let (frame, used) = redis_protocol::resp2::decode::decode(&bytes).unwrap().unwrap();
        prop_assert_eq!(used, bytes.len());
        let Frame2::Array(items) = frame else { panic!("an array") };
        let words = items.into_iter().map(|item| match item {
            Frame2::BulkString(word) => word,
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(Seen::Command(words.collect()), expected);
    }

    #[test]
    fn a_quoted_word_reads_back(word in prop::collection::vec(any::<u8>(), 0..30)) {
        let escapes: Vec<String> = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        let line = format!("\"{}\"", escapes.concat());
        prop_assert_eq!(split_line(line.as_bytes()), Some(vec![word]));
    }

    #[test]
    fn replies_are_what_a_client_reads(reply in reply()) {
        let mut resp2 = BytesMut::new();
        reply.encode(Protocol::Resp2, &mut resp2);
        let (frame, used) = redis_protocol::resp2::decode::decode(&resp2).unwrap().unwrap();
        prop_assert_eq!(used, resp2.len());
        prop_assert_eq!(frame, as_resp2(&reply));
        let mut resp3 = BytesMut::new();
        reply.encode(Protocol::Resp3, &mut resp3);
        let (frame, used) =
            redis_protocol::resp3::decode::complete::decode(&resp3).unwrap().unwrap();
        prop_assert_eq!(used, resp3.len());
        prop_assert_eq!(frame, as_resp3(&reply));
    }
}

fn reply() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        Just(Reply::Ok),
        Just(Reply::Null),
        "[ -~]{0,10}".prop_map(|text| Reply::Simple(text.into())),
        "[a-z ]{1,10}".prop_map(|text| Reply::Error(format!("ERR {text}"))),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Reply::Bulk(bytes.into())),
        ".{0,10}".prop_map(Reply::Text),
        any::<i64>().prop_map(Reply::Integer),
        prop::num::f64::NORMAL.prop_map(Reply::Double),
        any::<bool>().prop_map(Reply::Boolean),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Reply::Array),
            prop::collection::vec(("[a-z]{1,5}".prop_map(Reply::Text), inner), 0..4).prop_map(
                |mut pairs| {
                    // The client's map has no order and no duplicates.
                    pairs.sort_by_key(|(key, _)| format!("{key:?}"));
                    pairs.dedup_by_key(|(key, _)| format!("{key:?}"));
                    Reply::Map(pairs)
                }
            ),
        ]
    })
}

fn as_resp2(reply: &Reply) -> Frame2 {
    match reply {
        Reply::Ok => Frame2::SimpleString(b"OK".to_vec()),
        Reply::Simple(text) => Frame2::SimpleString(text.as_bytes().to_vec()),
        Reply::Error(text) => Frame2::Error(text.clone()),
        Reply::Bulk(bytes) => Frame2::BulkString(bytes.to_vec()),
        Reply::Text(text) | Reply::Verbatim(text) => Frame2::BulkString(text.as_bytes().to_vec()),
        Reply::Integer(number) => Frame2::Integer(*number),
        Reply::Double(number) => {
            let mut out = BytesMut::new();
            Reply::Double(*number).encode(Protocol::Resp3, &mut out);
            Frame2::BulkString(out[1..out.len() - 2].to_vec())
        }
        Reply::Boolean(truth) => Frame2::Integer(i64::from(*truth)),
        Reply::Null | Reply::NullArray | Reply::NoReply => Frame2::Null,
        Reply::Array(items) | Reply::Set(items) => {
            Frame2::Array(items.iter().map(as_resp2).collect())
        }
        Reply::Map(pairs) => Frame2::Array(
            pairs.iter().flat_map(|(key, value)| [as_resp2(key), as_resp2(value)]).collect(),
        ),
    }
}

fn as_resp3(reply: &Reply) -> Frame3 {
    let blob = |data: &[u8]| Frame3::BlobString { data: data.to_vec(), attributes: None };
    match reply {
        Reply::Ok => Frame3::SimpleString { data: b"OK".to_vec(), attributes: None },
        Reply::Simple(text) => {
            Frame3::SimpleString { data: text.as_bytes().to_vec(), attributes: None }
        }
        Reply::Error(text) => Frame3::SimpleError { data: text.clone(), attributes: None },
        Reply::Bulk(bytes) => blob(bytes),
        Reply::Text(text) | Reply::Verbatim(text) => blob(text.as_bytes()),
        Reply::Integer(number) => Frame3::Number { data: *number, attributes: None },
        Reply::Double(number) => Frame3::Double { data: *number, attributes: None },
        Reply::Boolean(truth) => Frame3::Boolean { data: *truth, attributes: None },
        Reply::Null | Reply::NullArray | Reply::NoReply => Frame3::Null,
        Reply::Array(items) | Reply::Set(items) => {
            Frame3::Array { data: items.iter().map(as_resp3).collect(), attributes: None }
        }
        Reply::Map(pairs) => Frame3::Map {
            data: pairs.iter().map(|(key, value)| (as_resp3(key), as_resp3(value))).collect(),
            attributes: None,
        },
    }
}

/// What goes out for each of the two versions.
fn check_encoding(reply: &Reply, resp2: &str, resp3: &str) {
    for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
        let mut out = BytesMut::new();
        reply.encode(protocol, &mut out);
        assert_eq!(out.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
    }
}

#[test]
fn values_that_only_resp3_knows_are_converted_down() {
    check_encoding(&Reply::Null, "$-1\r\n", "_\r\n");
    check_encoding(&Reply::NullArray, "*-1\r\n", "_\r\n");
    check_encoding(&Reply::Boolean(true), ":1\r\n", "#t\r\n");
    check_encoding(&Reply::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
    check_encoding(&Reply::Double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
    check_encoding(&Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
    check_encoding(&Reply::Double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n");
    check_encoding(&Reply::Double(1e300), "$5\r\n1e300\r\n", ",1e300\r\n");
    check_encoding(&Reply::Double(0.0), "$1\r\n0\r\n", ",0\r\n");
    check_encoding(&Reply::Set(vec![Reply::Integer(1)]), "*1\r\n:1\r\n", "~1\r\n:1\r\n");
    check_encoding(&Reply::Verbatim("a".into()), "$1\r\na\r\n", "=5\r\ntxt:a\r\n");
    let map = Reply::map([("a", Reply::Boolean(false))]);
    check_encoding(&map, "*2\r\n$1\r\na\r\n:0\r\n", "%1\r\n$1\r\na\r\n#f\r\n");
    check_encoding(&Reply::NoReply, "", "");
}

#[test]
fn numbers_are_written_in_full() {
    for number in [0, 7, -7, 10, i64::MAX, i64::MIN] {
        let line = format!(":{number}\r\n");
        check_encoding(&Reply::Integer(number), &line, &line);
    }
}

#[test]
fn a_line_end_in_a_message_does_not_end_the_frame() {
    let forged = "ERR No such bucket: 'a\r\n+OK\u{85}\r\n'";
    let safe = "-ERR No such bucket: 'a  +OK   '\r\n";
    check_encoding(&Reply::Error(forged.to_owned()), safe, safe);
    check_encoding(&Reply::Simple("a\nb".into()), "+a b\r\n", "+a b\r\n");
}
