//! Values as bytes that sort as the values do: what index keys are made of.
//!
//! ```text
//!   value  = code [payload]
//!   number = rank, exponent (2), upper 64 bits (8), 0                        int, double, exact decimal
//!            rank, exponent (2), upper 64 bits (8), 1, decade (2), digits (16)    a decimal between two of those
//!   text   = bytes, each 00 as 00 ff, then 00 01
//!   array  = value ... 00            document = (kind, name, value) ... 00
//! ```
//!
//! # Invariants
//!
//! * `key(a) < key(b)` exactly when [`super::compare`] says so, and equal values
//!   have equal bytes, whatever their numeric types.
//! * No key is the beginning of another one, so keys can follow each other.
//! * The first byte is neither 0 nor 255, nor is it when all bytes are inverted.
//!
//! Not here: which values a document has under a path, and keys that are cut
//! because they are too long (`index`).

mod number;

use super::raw::{Raw, Value};
use super::{Bracket, number::Number};

/// Puts text in the order of a collation instead of that of its bytes.
pub trait SortKeys: std::fmt::Debug + Send + Sync {
    /// Appends bytes that sort as the text does, the same for texts that the collation takes for equal.
    fn append(&self, text: &[u8], out: &mut Vec<u8>);
}

const MIN_KEY: u8 = 0x04;
const NOTHING: u8 = 0x06;
const NULL: u8 = 0x08;
const STRING: u8 = 0x20;
const DOCUMENT: u8 = 0x28;
const ARRAY: u8 = 0x30;
const BINARY: u8 = 0x38;
const OBJECT_ID: u8 = 0x40;
const BOOLEAN: u8 = 0x48;
const DATE_TIME: u8 = 0x50;
const TIMESTAMP: u8 = 0x58;
const REGEX: u8 = 0x60;
const DB_POINTER: u8 = 0x68;
const CODE: u8 = 0x70;
const CODE_WITH_SCOPE: u8 = 0x78;
const MAX_KEY: u8 = 0x80;

/// The first bytes that keys of a bracket begin with: the lowest and the highest.
pub const fn codes(bracket: Bracket) -> (u8, u8) {
    match bracket {
        Bracket::MinKey => (MIN_KEY, MIN_KEY),
        Bracket::Null => (NULL, NULL),
        Bracket::Number => (number::LOWEST, number::HIGHEST),
        Bracket::String => (STRING, STRING),
        Bracket::Document => (DOCUMENT, DOCUMENT),
        Bracket::Array => (ARRAY, ARRAY),
        Bracket::Binary => (BINARY, BINARY),
        Bracket::ObjectId => (OBJECT_ID, OBJECT_ID),
        Bracket::Boolean => (BOOLEAN, BOOLEAN),
        Bracket::DateTime => (DATE_TIME, DATE_TIME),
        Bracket::Timestamp => (TIMESTAMP, TIMESTAMP),
        Bracket::Regex => (REGEX, REGEX),
        Bracket::DbPointer => (DB_POINTER, DB_POINTER),
        Bracket::Code => (CODE, CODE),
        Bracket::CodeWithScope => (CODE_WITH_SCOPE, CODE_WITH_SCOPE),
        Bracket::MaxKey => (MAX_KEY, MAX_KEY),
    }
}

/// The key of "no value at all", which is below null and equal to no value: a
/// path through an array in which it leads nowhere.
pub fn nothing(out: &mut Vec<u8>) {
    out.push(NOTHING);
}

/// The key of a missing field, which is that of null.
pub fn missing(out: &mut Vec<u8>) {
    out.push(NULL);
}

/// Appends the key of a value. `collation` says how strings are ordered, at any depth.
pub fn encode(value: &Value<'_>, collation: Option<&dyn SortKeys>, out: &mut Vec<u8>) {
    if let Some(number) = Number::of(value) {
        number::encode(number, out);
        return;
    }
    out.push(codes(Bracket::of(value)).0);
    match value {
        Value::String(text) | Value::Symbol(text) => match collation {
            None => escaped(text, out),
            Some(collation) => {
                let mut sorted = Vec::with_capacity(text.len() * 2);
                collation.append(text, &mut sorted);
                escaped(&sorted, out);
            }
        },
        Value::Code(text) => escaped(text, out),
        Value::Document(raw) => document(*raw, collation, out),
        Value::Array(raw) => {
            for element in raw.values() {
                encode(&element, collation, out);
            }
            out.push(0);
        }
        Value::Binary { subtype, bytes } => {
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.push(*subtype);
            out.extend_from_slice(bytes);
        }
        Value::ObjectId(id) => out.extend_from_slice(&id.bytes()),
        Value::Boolean(flag) => out.push(u8::from(*flag)),
        Value::DateTime(millis) => {
            // The sign bit turned around, so that negative ones come first.
            out.extend_from_slice(&(millis.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        }
        Value::Timestamp { time, increment } => {
            out.extend_from_slice(&time.to_be_bytes());
            out.extend_from_slice(&increment.to_be_bytes());
        }
        Value::Regex { pattern, options } => {
            escaped(pattern, out);
            escaped(options, out);
        }
        Value::DbPointer { namespace, id } => {
            escaped(namespace, out);
            out.extend_from_slice(&id.bytes());
        }
        Value::CodeWithScope { code, scope } => {
            escaped(code, out);
            document(*scope, collation, out);
        }
        Value::Null
        | Value::Undefined
        | Value::MinKey
        | Value::MaxKey
        | Value::Int32(_)
        | Value::Int64(_)
        | Value::Double(_)
        | Value::Decimal128(_) => {}
    }
}

fn document(raw: Raw<'_>, collation: Option<&dyn SortKeys>, out: &mut Vec<u8>) {
    for field in raw {
        let value = field.value();
        // The kind decides before the name, and the name before the value.
        out.push(codes(Bracket::of(&value)).0);
        escaped(field.key, out);
        encode(&value, collation, out);
    }
    out.push(0);
}

fn escaped(text: &[u8], out: &mut Vec<u8>) {
    for part in text.split_inclusive(|byte| *byte == 0) {
        out.extend_from_slice(part);
        if part.last() == Some(&0) {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

/// Whether a number is a NaN is in its first byte: the first code behind it.
pub const AFTER_NAN: u8 = number::LOWEST + 1;

#[cfg(test)]
mod tests;
