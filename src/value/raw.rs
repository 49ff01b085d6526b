//! BSON as bytes: one bounds-checked walker for validating what comes in and
//! for reading what is stored.
//!
//! `bson::RawDocument` checks the UTF-8 of every key and string each time it
//! passes by and slices unchecked in places (code with scope), so hostile bytes
//! are judged here once, by [`validate`], and walked here afterwards: no
//! allocation, no panic, strings as bytes.

use bson::{Decimal128, oid::ObjectId};

/// The bytes of one BSON document or array whose lengths are sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a [u8]);

/// One element of a document or an array.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The name, without its end mark; in an array the position in decimal.
    pub key: &'a [u8],
    /// The BSON type byte.
    pub tag: u8,
    /// The bytes of the value alone.
    pub bytes: &'a [u8],
}

/// One BSON value, borrowed. Strings are UTF-8, checked when the document was
/// validated.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Double(f64),
    String(&'a [u8]),
    Document(Raw<'a>),
    Array(Raw<'a>),
    Binary { subtype: u8, bytes: &'a [u8] },
    Undefined,
    ObjectId(ObjectId),
    Boolean(bool),
    DateTime(i64),
    Null,
    Regex { pattern: &'a [u8], options: &'a [u8] },
    DbPointer { namespace: &'a [u8], id: ObjectId },
    Code(&'a [u8]),
    Symbol(&'a [u8]),
    CodeWithScope { code: &'a [u8], scope: Raw<'a> },
    Int32(i32),
    Timestamp { time: u32, increment: u32 },
    Int64(i64),
    Decimal128(Decimal128),
    MinKey,
    MaxKey,
}

/// The type bytes of BSON.
pub mod tag {
    pub const DOUBLE: u8 = 0x01;
    pub const STRING: u8 = 0x02;
    pub const DOCUMENT: u8 = 0x03;
    pub const ARRAY: u8 = 0x04;
    pub const BINARY: u8 = 0x05;
    pub const UNDEFINED: u8 = 0x06;
    pub const OBJECT_ID: u8 = 0x07;
    pub const BOOLEAN: u8 = 0x08;
    pub const DATE_TIME: u8 = 0x09;
    pub const NULL: u8 = 0x0a;
    pub const REGEX: u8 = 0x0b;
    pub const DB_POINTER: u8 = 0x0c;
    pub const CODE: u8 = 0x0d;
    pub const SYMBOL: u8 = 0x0e;
    pub const CODE_WITH_SCOPE: u8 = 0x0f;
    pub const INT32: u8 = 0x10;
    pub const TIMESTAMP: u8 = 0x11;
    pub const INT64: u8 = 0x12;
    pub const DECIMAL128: u8 = 0x13;
    pub const MIN_KEY: u8 = 0xff;
    pub const MAX_KEY: u8 = 0x7f;
}

/// Why bytes are not BSON: what is wrong, and at which byte of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub what: &'static str,
    pub at: usize,
}

impl<'a> Raw<'a> {
    /// The document without elements.
    pub const EMPTY: Raw<'static> = Raw(&[5, 0, 0, 0, 0]);

    /// The document that starts at the first byte. Only the outer frame is
    /// checked (length, end mark); [`validate`] checks the rest.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let length = length_at(bytes)?;
        (length >= 5 && length == bytes.len() && bytes.last() == Some(&0)).then_some(Self(bytes))
    }

    /// All bytes, with length and end mark.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether it has no element.
    pub fn is_empty(self) -> bool {
        self.0.len() <= 5
    }

    /// The elements in order. Stops early where the bytes are malformed, which
    /// a validated document never is.
    pub fn iter(self) -> Fields<'a> {
        Fields { rest: self.0.get(4..).unwrap_or_default() }
    }

    /// The first element of that name.
    pub fn get(self, key: &[u8]) -> Option<Field<'a>> {
        self.iter().find(|field| field.key == key)
    }

    /// The elements' values: what an array is.
    pub fn values(self) -> impl Iterator<Item = Value<'a>> {
        self.iter().map(|field| field.value())
    }
}

impl<'a> IntoIterator for Raw<'a> {
    type Item = Field<'a>;
    type IntoIter = Fields<'a>;

    fn into_iter(self) -> Fields<'a> {
        self.iter()
    }
}

/// Iterator over the elements of a [`Raw`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if let Ok((Some(field), rest)) = split_field(self.rest) {
            self.rest = rest;
            Some(field)
        } else {
            self.rest = &[];
            None
        }
    }
}

impl<'a> Field<'a> {
    /// The value. Bytes that are not of their type (never in a validated
    /// document) read as `Undefined`.
    pub fn value(&self) -> Value<'a> {
        decode(self.tag, self.bytes).unwrap_or(Value::Undefined)
    }
}

/// Splits one element off the front; `None` at the end mark.
fn split_field(bytes: &[u8]) -> Result<(Option<Field<'_>>, &[u8]), &'static str> {
    let (&tag, rest) = bytes.split_first().ok_or("the end mark is missing")?;
    if tag == 0 {
        return Ok((None, rest));
    }
    let (key, rest) = split_cstring(rest)?;
    let length = value_length(tag, rest)?;
    let (value, rest) = rest.split_at_checked(length).ok_or("a value is cut short")?;
    Ok((Some(Field { key, tag, bytes: value }), rest))
}

fn split_cstring(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let end = bytes.iter().position(|&byte| byte == 0).ok_or("a name has no end mark")?;
    let (text, rest) = bytes.split_at(end);
    Ok((text, rest.get(1..).unwrap_or_default()))
}

fn length_at(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<4>().map(|bytes| i32::from_le_bytes(*bytes))?;
    usize::try_from(length).ok()
}

fn value_length(tag: u8, bytes: &[u8]) -> Result<usize, &'static str> {
    let prefixed = || length_at(bytes).ok_or("a length is negative or cut short");
    Ok(match tag {
        tag::NULL | tag::UNDEFINED | tag::MIN_KEY | tag::MAX_KEY => 0,
        tag::BOOLEAN => 1,
        tag::INT32 => 4,
        tag::DOUBLE | tag::DATE_TIME | tag::TIMESTAMP | tag::INT64 => 8,
        tag::OBJECT_ID => 12,
        tag::DECIMAL128 => 16,
        tag::STRING | tag::CODE | tag::SYMBOL => prefixed()?.saturating_add(4),
        tag::BINARY => prefixed()?.saturating_add(5),
        tag::DB_POINTER => prefixed()?.saturating_add(16),
        tag::DOCUMENT | tag::ARRAY | tag::CODE_WITH_SCOPE => prefixed()?,
        tag::REGEX => {
            let (pattern, rest) = split_cstring(bytes)?;
            let (options, _) = split_cstring(rest)?;
            pattern.len() + options.len() + 2
        }
        _ => return Err("an unknown type"),
    })
}

/// A length-prefixed string with its end mark, which is not part of the text.
fn text(bytes: &[u8]) -> Option<&[u8]> {
    let length = length_at(bytes)?;
    match bytes.get(4..4_usize.checked_add(length)?)?.split_last() {
        Some((0, text)) => Some(text),
        _ => None,
    }
}

/// Reads a value of the type `tag` from exactly its bytes.
pub fn decode(tag: u8, bytes: &[u8]) -> Option<Value<'_>> {
    Some(match tag {
        tag::DOUBLE => Value::Double(f64::from_le_bytes(bytes.try_into().ok()?)),
        tag::STRING => Value::String(text(bytes)?),
        tag::DOCUMENT => Value::Document(Raw::new(bytes)?),
        tag::ARRAY => Value::Array(Raw::new(bytes)?),
        tag::BINARY => {
            let (&subtype, data) = bytes.get(4..)?.split_first()?;
            Value::Binary { subtype, bytes: data }
        }
        tag::UNDEFINED => Value::Undefined,
        tag::OBJECT_ID => Value::ObjectId(ObjectId::from_bytes(bytes.try_into().ok()?)),
        tag::BOOLEAN => Value::Boolean(*bytes.first()? != 0),
        tag::DATE_TIME => Value::DateTime(i64::from_le_bytes(bytes.try_into().ok()?)),
        tag::NULL => Value::Null,
        tag::REGEX => {
            let (pattern, rest) = split_cstring(bytes).ok()?;
            let (options, _) = split_cstring(rest).ok()?;
            Value::Regex { pattern, options }
        }
        tag::DB_POINTER => {
            let (namespace, id) = bytes.split_last_chunk::<12>()?;
            Value::DbPointer { namespace: text(namespace)?, id: ObjectId::from_bytes(*id) }
        }
        tag::CODE => Value::Code(text(bytes)?),
        tag::SYMBOL => Value::Symbol(text(bytes)?),
        tag::CODE_WITH_SCOPE => {
            let rest = bytes.get(4..)?;
            let code = text(rest)?;
            let scope = Raw::new(rest.get(code.len() + 5..)?)?;
            Value::CodeWithScope { code, scope }
        }
        tag::INT32 => Value::Int32(i32::from_le_bytes(bytes.try_into().ok()?)),
        tag::TIMESTAMP => {
            let (increment, time) = bytes.split_first_chunk::<4>()?;
            Value::Timestamp {
                time: u32::from_le_bytes(time.try_into().ok()?),
                increment: u32::from_le_bytes(*increment),
            }
        }
        tag::INT64 => Value::Int64(i64::from_le_bytes(bytes.try_into().ok()?)),
        tag::DECIMAL128 => Value::Decimal128(Decimal128::from_bytes(bytes.try_into().ok()?)),
        tag::MIN_KEY => Value::MinKey,
        tag::MAX_KEY => Value::MaxKey,
        _ => return None,
    })
}

/// The type byte and the bytes of a value: what [`decode`] reads back.
pub fn encode(value: &Value<'_>) -> (u8, Vec<u8>) {
    fn prefixed(parts: &[&[u8]], after: &[u8]) -> Vec<u8> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = i32::try_from(length).unwrap_or(i32::MAX).to_le_bytes();
        let mut out = length.to_vec();
        for part in parts {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(after);
        out
    }
    match *value {
        Value::Double(number) => (tag::DOUBLE, number.to_le_bytes().to_vec()),
        Value::String(text) => (tag::STRING, prefixed(&[text, &[0]], &[])),
        Value::Document(raw) => (tag::DOCUMENT, raw.bytes().to_vec()),
        Value::Array(raw) => (tag::ARRAY, raw.bytes().to_vec()),
        Value::Binary { subtype, bytes } => {
            let mut out = i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_le_bytes().to_vec();
            out.push(subtype);
            out.extend_from_slice(bytes);
            (tag::BINARY, out)
        }
        Value::Undefined => (tag::UNDEFINED, Vec::new()),
        Value::ObjectId(id) => (tag::OBJECT_ID, id.bytes().to_vec()),
        Value::Boolean(flag) => (tag::BOOLEAN, vec![u8::from(flag)]),
        Value::DateTime(millis) => (tag::DATE_TIME, millis.to_le_bytes().to_vec()),
        Value::Null => (tag::NULL, Vec::new()),
        Value::Regex { pattern, options } => (tag::REGEX, [pattern, &[0], options, &[0]].concat()),
        Value::DbPointer { namespace, id } => {
            (tag::DB_POINTER, prefixed(&[namespace, &[0]], &id.bytes()))
        }
        Value::Code(text) => (tag::CODE, prefixed(&[text, &[0]], &[])),
        Value::Symbol(text) => (tag::SYMBOL, prefixed(&[text, &[0]], &[])),
        Value::CodeWithScope { code, scope } => {
            let code = prefixed(&[code, &[0]], &[]);
            // This length counts itself.
            (tag::CODE_WITH_SCOPE, whole(&[&code, scope.bytes()].concat()))
        }
        Value::Int32(number) => (tag::INT32, number.to_le_bytes().to_vec()),
        Value::Timestamp { time, increment } => {
            (tag::TIMESTAMP, [increment.to_le_bytes(), time.to_le_bytes()].concat())
        }
        Value::Int64(number) => (tag::INT64, number.to_le_bytes().to_vec()),
        Value::Decimal128(number) => (tag::DECIMAL128, number.bytes().to_vec()),
        Value::MinKey => (tag::MIN_KEY, Vec::new()),
        Value::MaxKey => (tag::MAX_KEY, Vec::new()),
    }
}

/// Bytes with a length in front that counts itself.
fn whole(bytes: &[u8]) -> Vec<u8> {
    let length = i32::try_from(bytes.len() + 4).unwrap_or(i32::MAX);
    [length.to_le_bytes().as_slice(), bytes].concat()
}

/// Checks a whole document: every length, type, end mark and string, names
/// given once per document, and at most `depth_max` documents and arrays
/// inside each other. After this nothing that walks the bytes can fail.
pub fn validate(bytes: &[u8], depth_max: usize) -> Result<(), Malformed> {
    let whole = Whole { start: bytes.as_ptr().addr(), depth_max };
    match length_at(bytes) {
        None => Err(Malformed { what: "shorter than its length field", at: 0 }),
        Some(length) if length > bytes.len() => {
            Err(Malformed { what: "shorter than its length says", at: 0 })
        }
        Some(length) if length < bytes.len() => {
            Err(Malformed { what: "bytes after the end of the document", at: length })
        }
        Some(_) => whole.document(bytes, 1, tag::DOCUMENT),
    }
}

struct Whole {
    start: usize,
    depth_max: usize,
}

impl Whole {
    fn error(&self, what: &'static str, at: &[u8]) -> Malformed {
        Malformed { what, at: at.as_ptr().addr().saturating_sub(self.start) }
    }

    fn document(&self, bytes: &[u8], depth: usize, tag: u8) -> Result<(), Malformed> {
        if depth > self.depth_max {
            return Err(self.error("nested too deeply", bytes));
        }
        let raw = Raw::new(bytes).ok_or_else(|| self.error("a document's length", bytes))?;
        let mut rest = bytes.get(4..).unwrap_or_default();
        let mut count = 0_usize;
        loop {
            let (field, after) = split_field(rest).map_err(|what| self.error(what, rest))?;
            let Some(field) = field else {
                if !after.is_empty() {
                    return Err(self.error("bytes after an end mark", after));
                }
                break;
            };
            if std::str::from_utf8(field.key).is_err() {
                return Err(self.error("a name is not UTF-8", field.key));
            }
            self.value(&field, depth)?;
            count += 1;
            rest = after;
        }
        // An array's names are never looked at: elements count by position.
        match if tag == tag::ARRAY { None } else { duplicate(raw, count) } {
            Some(key) => Err(self.error("a name is given twice", key)),
            None => Ok(()),
        }
    }

    fn value(&self, field: &Field<'_>, depth: usize) -> Result<(), Malformed> {
        let bytes = field.bytes;
        let utf8 = |text: &[u8]| match std::str::from_utf8(text) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.error("a string is not UTF-8", text)),
        };
        let exact = |used: usize| {
            if used == bytes.len() {
                Ok(())
            } else {
                Err(self.error("a wrong inner length", bytes))
            }
        };
        let value = decode(field.tag, bytes).ok_or_else(|| self.error("a broken value", bytes))?;
        match value {
            Value::String(text) | Value::Code(text) | Value::Symbol(text) => utf8(text),
            Value::Document(raw) | Value::Array(raw) => {
                self.document(raw.bytes(), depth + 1, field.tag)
            }
            Value::Boolean(_) if !matches!(bytes, [0 | 1]) => {
                Err(self.error("a boolean that is neither 0 nor 1", bytes))
            }
            // The old binary subtype repeats its length inside.
            Value::Binary { subtype: 2, bytes: data } => match length_at(data) {
                Some(length) if length.checked_add(4) == Some(data.len()) => Ok(()),
                _ => Err(self.error("a wrong inner length", bytes)),
            },
            Value::Regex { pattern, options } => utf8(pattern).and_then(|()| utf8(options)),
            Value::DbPointer { namespace, .. } => {
                utf8(namespace)?;
                exact(namespace.len() + 17)
            }
            Value::CodeWithScope { code, scope } => {
                utf8(code)?;
                exact(code.len() + 9 + scope.bytes().len())?;
                self.document(scope.bytes(), depth + 1, tag::DOCUMENT)
            }
            _ => Ok(()),
        }
    }
}

/// A name that stands twice in one document. Quadratic only while small.
fn duplicate(raw: Raw<'_>, count: usize) -> Option<&[u8]> {
    if count <= 16 {
        let mut fields = raw.iter();
        while let Some(field) = fields.next() {
            if let Some(again) = fields.clone().find(|other| other.key == field.key) {
                return Some(again.key);
            }
        }
        return None;
    }
    let mut keys: Vec<&[u8]> = raw.iter().map(|field| field.key).collect();
    keys.sort_unstable();
    keys.windows(2).find_map(|pair| match pair {
        [left, right] if left == right => Some(*right),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{doc, rawdoc};

    fn bytes() -> Vec<u8> {
        let document = doc! {
            "text": "a", "list": [1, {"x": 2.5}], "none": null, "scope": bson::Bson::JavaScriptCodeWithScope(
                bson::JavaScriptCodeWithScope { code: "f()".into(), scope: doc! {"a": 1} }),
            "re": bson::Regex { pattern: "a.*".try_into().unwrap(), options: "i".try_into().unwrap() },
            "id": ObjectId::from_bytes([7; 12]), "at": bson::Timestamp { time: 3, increment: 4 },
            "blob": bson::Binary { subtype: bson::spec::BinarySubtype::BinaryOld, bytes: vec![1, 2] },
        };
        bson::RawDocumentBuf::try_from(&document).unwrap().into_bytes()
    }

    #[test]
    fn every_type_that_the_bson_crate_writes_is_valid() {
        assert_eq!(validate(&bytes(), 3), Ok(()));
        assert_eq!(validate(&bytes(), 2).unwrap_err().what, "nested too deeply");
    }

    #[test]
    fn no_cut_and_no_flipped_byte_makes_the_walker_panic() {
        let good = bytes();
        for cut in 0..good.len() {
            assert!(validate(good.get(..cut).unwrap(), 100).is_err());
        }
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.clone();
                *bad.get_mut(at).unwrap() = value;
                if validate(&bad, 100).is_ok() {
                    let document = bson::RawDocument::from_bytes(&bad).unwrap();
                    bson::Document::try_from(document).unwrap();
                }
                walk(Raw(&bad));
            }
        }
    }

    fn walk(raw: Raw<'_>) {
        for field in raw {
            if let Some(value) = decode(field.tag, field.bytes) {
                let (tag, bytes) = encode(&value);
                assert_eq!(tag, field.tag);
                decode(tag, &bytes).unwrap();
            }
            match field.value() {
                Value::Document(inner) | Value::Array(inner) => walk(inner),
                Value::CodeWithScope { scope, .. } => walk(scope),
                _ => {}
            }
        }
    }

    #[test]
    fn a_value_is_encoded_as_it_was_decoded() {
        let bytes = bytes();
        for field in Raw::new(&bytes).unwrap() {
            assert_eq!(encode(&field.value()), (field.tag, field.bytes.to_vec()));
        }
    }

    #[test]
    fn trailing_bytes_and_names_given_twice_are_refused() {
        let mut long = rawdoc! {"a": 1}.into_bytes();
        long.push(0);
        assert_eq!(
            validate(&long, 9),
            Err(Malformed { what: "bytes after the end of the document", at: 12 })
        );
        let mut twice = rawdoc! {"a": 1, "b": 2}.into_bytes();
        let at = twice.iter().position(|&byte| byte == b'b').unwrap();
        *twice.get_mut(at).unwrap() = b'a';
        assert_eq!(validate(&twice, 9), Err(Malformed { what: "a name is given twice", at }));
    }
}
