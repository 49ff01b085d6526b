//! Any bytes, in any pieces, are the same requests as in one piece, and never a panic.
//!
//! The first byte of the input says how large the pieces are.

#![no_main]

use bytes::BytesMut;
use lethe::resp::{Limits, Protocol, Reply, Request, Scanner};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits =
    Limits { frame_bytes: 4_096, arguments: 64, nesting: 4, inline_bytes: 256 };

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Command(Vec<Vec<u8>>),
    Nested,
    Error(String),
}

fn read(bytes: &[u8], piece: usize) -> Vec<Seen> {
    let mut scanner = Scanner::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut seen = Vec::new();
    for piece in bytes.chunks(piece) {
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
                    seen.push(Seen::Error(error.to_string()));
                    return seen;
                }
            }
        }
        assert!(buffer.len() <= LIMITS.frame_bytes, "more is kept than a request may have");
    }
    seen
}

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else { return };
    let whole = read(bytes, LIMITS.frame_bytes);
    assert_eq!(read(bytes, usize::from(*piece).max(1)), whole);
    for seen in whole {
        if let Seen::Command(words) = seen {
            // What comes back in an error stays one line.
            let mut line = BytesMut::new();
            let text = String::from_utf8_lossy(&words.concat()).into_owned();
            Reply::Error(text).encode(Protocol::Resp3, &mut line);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }
});
