//! The writer: BSON bytes to relaxed extended JSON, straight into a buffer.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bson::{DateTime, oid::ObjectId};

use super::read::push_decimal;
use crate::value::raw::{Raw, Value};

/// Appends a document. Its own `_id`, if an ObjectId, is written as 24 hex digits.
pub fn write(document: Raw<'_>, out: &mut Vec<u8>) {
    fields(document, out, true);
}

/// Appends the 24 hex digits of an id, without quotes.
pub fn write_hex(id: &ObjectId, out: &mut Vec<u8>) {
    for byte in id.bytes() {
        for digit in [byte >> 4, byte & 15] {
            out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
    }
}

fn fields(document: Raw<'_>, out: &mut Vec<u8>, top: bool) {
    out.push(b'{');
    for (index, field) in document.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(field.key, out);
        out.push(b':');
        match field.value() {
            Value::ObjectId(id) if top && field.key == b"_id" => {
                out.push(b'"');
                write_hex(&id, out);
                out.push(b'"');
            }
            value => write_value(&value, out),
        }
    }
    out.push(b'}');
}

/// Appends one value.
pub fn write_value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => string(text, out),
        Value::Int32(number) => signed(i64::from(*number), out),
        Value::Int64(number) => signed(*number, out),
        // The shortest text that reads back as the same double, always with a point or an exponent.
        Value::Double(number) if number.is_finite() => {
            out.extend_from_slice(format!("{number:?}").as_bytes());
        }
        Value::Boolean(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Null => out.extend_from_slice(b"null"),
        Value::Document(document) => fields(*document, out, false),
        Value::Array(array) => {
            out.push(b'[');
            for (index, value) in array.values().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(&value, out);
            }
            out.push(b']');
        }
        Value::ObjectId(id) => {
            out.extend_from_slice(b"{\"$oid\":\"");
            write_hex(id, out);
            out.extend_from_slice(b"\"}");
        }
        Value::CodeWithScope { code, scope } => {
            out.extend_from_slice(b"{\"$code\":");
            string(code, out);
            out.extend_from_slice(b",\"$scope\":");
            fields(*scope, out, false);
            out.push(b'}');
        }
        _ => rare(value, out),
    }
}

/// The types that are wrapped and seldom.
fn rare(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Double(number) => {
            let name = match number.is_nan() {
                true => "NaN",
                false if *number > 0.0 => "Infinity",
                false => "-Infinity",
            };
            wrapped("$numberDouble", name.as_bytes(), out);
        }
        Value::DateTime(millis) => date(*millis, out),
        Value::Decimal128(number) => {
            wrapped("$numberDecimal", number.to_string().as_bytes(), out);
        }
        Value::Timestamp { time, increment } => {
            let text = format!("{{\"$timestamp\":{{\"t\":{time},\"i\":{increment}}}}}");
            out.extend_from_slice(text.as_bytes());
        }
        Value::Binary { subtype, bytes } => {
            // The old subtype carries its length a second time.
            let bytes = if *subtype == 2 { bytes.get(4..).unwrap_or_default() } else { bytes };
            let text = BASE64.encode(bytes);
            let text =
                format!("{{\"$binary\":{{\"base64\":\"{text}\",\"subType\":\"{subtype:02x}\"}}}}");
            out.extend_from_slice(text.as_bytes());
        }
        Value::Regex { pattern, options } => {
            out.extend_from_slice(b"{\"$regularExpression\":{\"pattern\":");
            string(pattern, out);
            out.extend_from_slice(b",\"options\":");
            string(options, out);
            out.extend_from_slice(b"}}");
        }
        Value::Code(code) => wrapped("$code", code, out),
        Value::Symbol(text) => wrapped("$symbol", text, out),
        Value::DbPointer { namespace, id } => {
            out.extend_from_slice(b"{\"$dbPointer\":{\"$ref\":");
            string(namespace, out);
            out.extend_from_slice(b",\"$id\":{\"$oid\":\"");
            write_hex(id, out);
            out.extend_from_slice(b"\"}}}");
        }
        Value::MinKey => out.extend_from_slice(b"{\"$minKey\":1}"),
        Value::MaxKey => out.extend_from_slice(b"{\"$maxKey\":1}"),
        _ => out.extend_from_slice(b"{\"$undefined\":true}"),
    }
}

fn wrapped(name: &str, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"{name}\":").as_bytes());
    string(text, out);
    out.push(b'}');
}

/// Readable between the years 1970 and 9999, as milliseconds outside.
fn date(millis: i64, out: &mut Vec<u8>) {
    const YEAR_10000: i64 = 253_402_300_800_000;
    let readable = (0..YEAR_10000).contains(&millis);
    let text = readable.then(|| DateTime::from_millis(millis).try_to_rfc3339_string());
    if let Some(Ok(text)) = text {
        wrapped("$date", text.as_bytes(), out);
    } else {
        let text = format!("{{\"$date\":{{\"$numberLong\":\"{millis}\"}}}}");
        out.extend_from_slice(text.as_bytes());
    }
}

fn signed(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    match usize::try_from(number.unsigned_abs()) {
        Ok(digits) => push_decimal(out, digits),
        Err(_) => out.extend_from_slice(number.unsigned_abs().to_string().as_bytes()),
    }
}

/// A quoted string. The bytes are UTF-8, as in every validated document.
fn string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain_from = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(text.get(plain_from..at).unwrap_or_default());
        plain_from = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(text.get(plain_from..).unwrap_or_default());
    out.push(b'"');
}
