use bytes::{BufMut, BytesMut};

use super::{Protocol, Reply};

impl Reply {
    /// Appends this reply to `out` as a connection of this protocol version expects it.
    pub fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        let resp3 = protocol == Protocol::Resp3;
        match self {
            Self::Ok => out.extend_from_slice(b"+OK\r\n"),
            Self::Simple(text) => line(b'+', text, out),
            Self::Error(text) => line(b'-', text, out),
            Self::Bulk(bytes) => bulk(bytes, out),
            Self::Verbatim(text) if resp3 => {
                header(b'=', text.len() + 4, out);
                out.reserve(text.len() + 6);
                out.put_slice(b"txt:");
                out.put_slice(text.as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Text(text) | Self::Verbatim(text) => bulk(text.as_bytes(), out),
            Self::Integer(number) => {
                out.put_u8(b':');
                integer(*number, out);
                out.put_slice(b"\r\n");
            }
            Self::Double(number) if resp3 => {
                out.put_u8(b',');
                out.put_slice(double(*number).as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Double(number) => bulk(double(*number).as_bytes(), out),
            Self::Boolean(truth) if resp3 => {
                out.put_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" });
            }
            Self::Boolean(truth) => out.put_slice(if *truth { b":1\r\n" } else { b":0\r\n" }),
            Self::Null | Self::NullArray if resp3 => out.put_slice(b"_\r\n"),
            Self::Null => out.put_slice(b"$-1\r\n"),
            Self::NullArray => out.put_slice(b"*-1\r\n"),
            Self::Array(items) => sequence(b'*', items, protocol, out),
            Self::Set(items) => sequence(if resp3 { b'~' } else { b'*' }, items, protocol, out),
            Self::Map(pairs) => {
                if resp3 {
                    header(b'%', pairs.len(), out);
                } else {
                    header(b'*', pairs.len() * 2, out);
                }
                for (key, value) in pairs {
                    key.encode(protocol, out);
                    value.encode(protocol, out);
                }
            }
            Self::NoReply => {}
        }
    }
}

fn sequence(kind: u8, items: &[Reply], protocol: Protocol, out: &mut BytesMut) {
    header(kind, items.len(), out);
    for item in items {
        item.encode(protocol, out);
    }
}

fn bulk(bytes: &[u8], out: &mut BytesMut) {
    header(b'$', bytes.len(), out);
    out.reserve(bytes.len() + 2);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn header(kind: u8, length: usize, out: &mut BytesMut) {
    out.put_u8(kind);
    integer(i64::try_from(length).unwrap_or(i64::MAX), out);
    out.put_slice(b"\r\n");
}

/// A line can't hold a control character: a client would take what follows a line end for the next reply.
fn line(kind: u8, text: &str, out: &mut BytesMut) {
    out.put_u8(kind);
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        out.put_slice(clean.as_bytes());
    } else {
        out.put_slice(text.as_bytes());
    }
    out.put_slice(b"\r\n");
}

/// Decimal digits without going through a `String`: every reply with a length needs them.
fn integer(number: i64, out: &mut BytesMut) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    let mut rest = number.unsigned_abs();
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        start -= 1;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.put_u8(b'-');
    }
    out.put_slice(digits.get(start..).unwrap_or_default());
}

/// The shortest text that reads back as the same number, with the names that RESP3 gives to the odd ones.
fn double(number: f64) -> String {
    if number.is_nan() {
        "nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "inf" } else { "-inf" }.to_owned()
    } else if number != 0.0 && !(1e-5..1e17).contains(&number.abs()) {
        format!("{number:e}")
    } else {
        number.to_string()
    }
}
