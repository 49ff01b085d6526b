//! The wrappers of extended JSON, such as `{"$oid": "..."}`.
//!
//! The reader has written the object as a plain document, inner wrappers
//! already resolved; this turns it into the value it stands for.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bson::{DateTime, Decimal128, oid::ObjectId};

use crate::value::raw::{Field, Raw, Value, tag};

type Unwrapped = Result<Option<(u8, Vec<u8>)>, String>;

/// The value an object stands for: its type and bytes. `None`: it is an
/// ordinary document.
pub(super) fn unwrap(document: &[u8]) -> Unwrapped {
    // Type, then the name: the quick way out for ordinary documents.
    if document.get(5) != Some(&b'$') {
        return Ok(None);
    }
    let Some(raw) = Raw::new(document) else { return Ok(None) };
    let mut fields = raw.iter();
    let (first, second, third) = (fields.next(), fields.next(), fields.next());
    let Some(mut first) = first else { return Ok(None) };
    let mut second = second;
    // The two pairs whose parts may come in either order.
    if let Some(other) = second
        && matches!((first.key, other.key), (b"$scope", b"$code") | (b"$type", b"$binary"))
    {
        (first, second) = (other, Some(first));
    }
    let name = String::from_utf8_lossy(first.key);
    let allowed_second: &[u8] = match first.key {
        b"$code" => b"$scope",
        b"$binary" => b"$type",
        b"$oid"
        | b"$symbol"
        | b"$numberInt"
        | b"$numberLong"
        | b"$numberDouble"
        | b"$numberDecimal"
        | b"$uuid"
        | b"$timestamp"
        | b"$regularExpression"
        | b"$dbPointer"
        | b"$date"
        | b"$minKey"
        | b"$maxKey"
        | b"$undefined" => b"",
        _ => return Ok(None),
    };
    if third.is_some() || second.is_some_and(|field| field.key != allowed_second) {
        return Err(format!("{name} must stand alone in its object"));
    }
    let value = first.value();
    let converted = match first.key {
        b"$oid" => text(&value).and_then(|text| ObjectId::parse_str(text).ok()).map(object_id),
        b"$symbol" => text(&value).map(|_| (tag::SYMBOL, first.bytes.to_vec())),
        b"$numberInt" | b"$numberLong" | b"$numberDouble" | b"$numberDecimal" => {
            number(first.key, &value)
        }
        b"$uuid" => text(&value)
            .and_then(|text| bson::Uuid::parse_str(text).ok())
            .map(|uuid| binary(4, &uuid.bytes())),
        b"$date" => date(&value).map(|millis| (tag::DATE_TIME, millis.to_le_bytes().to_vec())),
        b"$minKey" => one(&value).then(|| (tag::MIN_KEY, Vec::new())),
        b"$maxKey" => one(&value).then(|| (tag::MAX_KEY, Vec::new())),
        b"$undefined" => {
            matches!(value, Value::Boolean(true)).then(|| (tag::UNDEFINED, Vec::new()))
        }
        b"$binary" => binary_wrapper(&value, second.as_ref()),
        b"$timestamp" => timestamp(&value),
        b"$regularExpression" => regex(&value)?,
        b"$dbPointer" => db_pointer(&value),
        b"$code" => code(&first, second.as_ref()),
        _ => None,
    };
    converted.map(Some).ok_or_else(|| format!("an invalid {name}"))
}

fn object_id(id: ObjectId) -> (u8, Vec<u8>) {
    (tag::OBJECT_ID, id.bytes().to_vec())
}

fn text<'a>(value: &Value<'a>) -> Option<&'a str> {
    match value {
        Value::String(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

fn integer(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int32(number) => Some(i64::from(*number)),
        Value::Int64(number) => Some(*number),
        _ => None,
    }
}

fn one(value: &Value<'_>) -> bool {
    integer(value) == Some(1)
}

/// Exactly these fields, in any order.
fn parts<'a, const N: usize>(value: &Value<'a>, names: [&[u8]; N]) -> Option<[Value<'a>; N]> {
    let Value::Document(raw) = value else { return None };
    if raw.iter().count() != N {
        return None;
    }
    let mut found = [Value::Null; N];
    for (place, name) in found.iter_mut().zip(names) {
        *place = raw.get(name)?.value();
    }
    Some(found)
}

fn number(wrapper: &[u8], value: &Value<'_>) -> Option<(u8, Vec<u8>)> {
    let written = text(value);
    match wrapper {
        b"$numberInt" => {
            let number = match written {
                Some(text) => text.parse::<i32>().ok()?,
                None => i32::try_from(integer(value)?).ok()?,
            };
            Some((tag::INT32, number.to_le_bytes().to_vec()))
        }
        b"$numberLong" => {
            let number = match written {
                Some(text) => text.parse::<i64>().ok()?,
                None => integer(value)?,
            };
            Some((tag::INT64, number.to_le_bytes().to_vec()))
        }
        b"$numberDouble" => {
            let number = match (written, value) {
                (Some("Infinity"), _) => f64::INFINITY,
                (Some("-Infinity"), _) => f64::NEG_INFINITY,
                (Some("NaN"), _) => f64::NAN,
                (Some(text), _) => text.parse::<f64>().ok().filter(|number| number.is_finite())?,
                (None, Value::Double(number)) => *number,
                (None, Value::Int32(number)) => f64::from(*number),
                _ => return None,
            };
            Some((tag::DOUBLE, number.to_le_bytes().to_vec()))
        }
        _ => {
            let number: Decimal128 = parse_decimal(written?)?;
            Some((tag::DECIMAL128, number.bytes().to_vec()))
        }
    }
}

/// The crate takes digits of other kinds for granted after its first checks,
/// so the grammar is checked in front.
fn parse_decimal(text: &str) -> Option<Decimal128> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let special = ["nan", "infinity", "inf"].iter().any(|name| unsigned.eq_ignore_ascii_case(name));
    if !special {
        let (digits, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        let decimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !(decimal(whole) && decimal(fraction) && decimal(exponent))
            || whole.len() + fraction.len() == 0
            || exponent.is_empty()
            || exponent.len() > 9
            || text.len() > 6200
        {
            return None;
        }
    }
    text.parse().ok()
}

/// An ISO 8601 time, `{"$numberLong": "..."}` (already resolved), or a plain count of milliseconds.
fn date(value: &Value<'_>) -> Option<i64> {
    match text(value) {
        Some(text) => DateTime::parse_rfc3339_str(text).ok().map(DateTime::timestamp_millis),
        None => integer(value),
    }
}

fn binary(subtype: u8, bytes: &[u8]) -> (u8, Vec<u8>) {
    // Subtype 2 carries its length a second time.
    let inner = if subtype == 2 { length(bytes.len()).to_vec() } else { Vec::new() };
    let mut out = length(bytes.len() + inner.len()).to_vec();
    out.push(subtype);
    out.extend_from_slice(&inner);
    out.extend_from_slice(bytes);
    (tag::BINARY, out)
}

fn length(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_le_bytes()
}

fn binary_wrapper(value: &Value<'_>, legacy_type: Option<&Field<'_>>) -> Option<(u8, Vec<u8>)> {
    let (data, subtype) = if let Some(field) = legacy_type {
        (*value, field.value())
    } else {
        parts(value, [b"base64", b"subType"])?.into()
    };
    let subtype = match text(&subtype) {
        Some(digits) if (1..=2).contains(&digits.len()) => u8::from_str_radix(digits, 16).ok()?,
        Some(_) => return None,
        None => u8::try_from(integer(&subtype)?).ok()?,
    };
    let bytes = BASE64.decode(text(&data)?).ok()?;
    Some(binary(subtype, &bytes))
}

fn timestamp(value: &Value<'_>) -> Option<(u8, Vec<u8>)> {
    let [time, increment] = parts(value, [b"t", b"i"])?;
    let time = u32::try_from(integer(&time)?).ok()?;
    let increment = u32::try_from(integer(&increment)?).ok()?;
    Some((tag::TIMESTAMP, [increment.to_le_bytes(), time.to_le_bytes()].concat()))
}

fn regex(value: &Value<'_>) -> Result<Option<(u8, Vec<u8>)>, String> {
    let Some([pattern, options]) = parts(value, [b"pattern", b"options"]) else { return Ok(None) };
    let (Some(pattern), Some(options)) = (text(&pattern), text(&options)) else { return Ok(None) };
    if pattern.contains('\0') || options.contains('\0') {
        return Err("a regular expression must not contain a null character".into());
    }
    // BSON wants the options in alphabetical order.
    let mut options = options.as_bytes().to_vec();
    options.sort_unstable();
    let mut out = pattern.as_bytes().to_vec();
    out.push(0);
    if std::str::from_utf8(&options).is_err() {
        return Ok(None);
    }
    out.extend_from_slice(&options);
    out.push(0);
    Ok(Some((tag::REGEX, out)))
}

fn db_pointer(value: &Value<'_>) -> Option<(u8, Vec<u8>)> {
    let [namespace, id] = parts(value, [b"$ref", b"$id"])?;
    let (namespace, Value::ObjectId(id)) = (text(&namespace)?, id) else { return None };
    let mut out = length(namespace.len() + 1).to_vec();
    out.extend_from_slice(namespace.as_bytes());
    out.push(0);
    out.extend_from_slice(&id.bytes());
    Some((tag::DB_POINTER, out))
}

fn code(code: &Field<'_>, scope: Option<&Field<'_>>) -> Option<(u8, Vec<u8>)> {
    if code.tag != tag::STRING {
        return None;
    }
    let Some(scope) = scope else { return Some((tag::CODE, code.bytes.to_vec())) };
    let Value::Document(raw) = scope.value() else { return None };
    let mut out = length(4 + code.bytes.len() + raw.bytes().len()).to_vec();
    out.extend_from_slice(code.bytes);
    out.extend_from_slice(raw.bytes());
    Some((tag::CODE_WITH_SCOPE, out))
}
