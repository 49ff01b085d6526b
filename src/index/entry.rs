use bson::oid::ObjectId;
use sha2::{Digest, Sha256};

use super::{Index, covered};
use crate::codec::keys;
use crate::codec::record::{IndexField, IndexType};
use crate::error::{Error, Result};
use crate::value::{Path, Raw, Value, Visit, key, resolve};

/// Most entries that one document may have in one index.
pub const ENTRIES_MAX: usize = 1_000;

/// Bytes of the key of one field, and of those of all fields together: below the store's limit for keys.
const FIELD_BYTES_MAX: usize = 1_000;
const FIELDS_BYTES_MAX: usize = 8_000;

/// What stands for the rest of a key that was cut.
const HASH_BYTES: usize = 32;

/// The entries of one document in one index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The keys of the values, ascending and different, each with what the entry holds.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Fields with an array in or before them, and fields that were cut: see [`keys::index::marked`].
    pub marks: Vec<(u16, u16)>,
}

/// A value under one field, as it stands in the key.
struct Part<'a> {
    key: Vec<u8>,
    cut: bool,
    /// `None`: nothing is there.
    value: Option<Value<'a>>,
}

/// All values under one field.
struct Parts<'a> {
    list: Vec<Part<'a>>,
    array: bool,
}

/// How long the key of one field of so many may be.
pub(super) fn field_bytes_max(fields: usize) -> usize {
    FIELD_BYTES_MAX.min(FIELDS_BYTES_MAX / fields.max(1))
}

/// Bounds a key: what is longer is cut, and a hash stands for the rest. Gives whether it was cut.
pub(super) fn bound(key: &mut Vec<u8>, bytes_max: usize) -> bool {
    if key.len() <= bytes_max {
        return false;
    }
    let hash: [u8; HASH_BYTES] = Sha256::digest(&key).into();
    key.truncate(bytes_max - HASH_BYTES);
    key.extend_from_slice(&hash);
    true
}

/// How much of a cut key is still in the order of the values.
pub(super) fn ordered_bytes(bytes_max: usize) -> usize {
    bytes_max - HASH_BYTES
}

/// Turns the order around.
pub(super) fn invert(key: &mut [u8]) {
    for byte in key {
        *byte = !*byte;
    }
}

/// The entries of a document. With `strict`, values must be of the declared types.
///
/// # Errors
/// `INDEXTYPE_MISMATCH`; `ERR` when there would be more than [`ENTRIES_MAX`].
pub fn entries(index: &Index, document: Raw<'_>, strict: bool) -> Result<Entries> {
    let mut all = Entries::default();
    let parts = parts(index, document, strict)?;
    for (position, parts) in (0_u16..).zip(&parts) {
        if parts.array {
            all.marks.push((position, keys::index::marked::ARRAY));
        }
        if parts.list.iter().any(|part| part.cut) {
            all.marks.push((position, keys::index::marked::CUT));
        }
    }
    // With an array a document has several entries, and none of them is all of it.
    let covered = !parts.iter().any(|parts| parts.array);
    let order = if covered { covered::order(index, document) } else { Vec::new() };
    combine(&parts, &mut |chosen| {
        let key = chosen.iter().flat_map(|part| &part.key).copied().collect();
        let cut = chosen.iter().any(|part| part.cut);
        let values = chosen.iter().map(|part| part.value);
        all.rows.push((key, covered::encode(cut, covered.then_some(&order), values)));
        false
    });
    all.rows.sort_unstable();
    Ok(all)
}

/// The values of the entry of this key, for a message.
pub(super) fn shown(index: &Index, document: Raw<'_>, key: &[u8]) -> String {
    let Ok(parts) = parts(index, document, false) else { return String::new() };
    let mut shown = Vec::new();
    combine(&parts, &mut |chosen| {
        let found = chosen.iter().flat_map(|part| &part.key).eq(key);
        if found {
            shown = chosen.iter().map(|part| show(part.value)).collect();
        }
        found
    });
    match &shown[..] {
        [one] if !index.is_compound() => one.clone(),
        list => format!("[{}]", list.join(", ")),
    }
}

/// Visits each combination of one value of each field, until the visitor says that it is enough.
fn combine<'a>(parts: &'a [Parts<'a>], visit: &mut dyn FnMut(&[&'a Part<'a>]) -> bool) {
    let Some(mut chosen) = parts.iter().map(|parts| parts.list.first()).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    // Most documents have one value of each field, and one entry.
    if visit(&chosen) || parts.iter().all(|parts| parts.list.len() == 1) {
        return;
    }
    let mut at = vec![0_usize; parts.len()];
    loop {
        // The last field turns fastest.
        let mut position = parts.len();
        loop {
            let Some(before) = position.checked_sub(1) else { return };
            position = before;
            let (Some(at), Some(parts), Some(chosen)) =
                (at.get_mut(position), parts.get(position), chosen.get_mut(position))
            else {
                return;
            };
            *at += 1;
            if let Some(next) = parts.list.get(*at) {
                *chosen = next;
                break;
            }
            *at = 0;
            if let Some(first) = parts.list.first() {
                *chosen = first;
            }
        }
        if visit(&chosen) {
            return;
        }
    }
}

fn parts<'a>(index: &Index, document: Raw<'a>, strict: bool) -> Result<Vec<Parts<'a>>> {
    let bytes_max = field_bytes_max(index.fields().len());
    let mut all = Vec::with_capacity(index.fields().len());
    let mut product = 1_usize;
    for (field, path) in index.fields() {
        let found = values(index, (field, path), document, strict, bytes_max)?
            .ok_or_else(|| too_many(index))?;
        product = product.saturating_mul(found.list.len());
        if product > ENTRIES_MAX {
            return Err(too_many(index));
        }
        all.push(found);
    }
    Ok(all)
}

fn too_many(index: &Index) -> Error {
    Error::Syntax(format!(
        "A document has more than {ENTRIES_MAX} entries in index '{}'",
        index.name()
    ))
}

/// All values under a field, each once; `None` when there are more than [`ENTRIES_MAX`].
fn values<'a>(
    index: &Index,
    (field, path): (&IndexField, &Path),
    document: Raw<'a>,
    strict: bool,
    bytes_max: usize,
) -> Result<Option<Parts<'a>>> {
    let collator = index.collator();
    let mut found = Parts { list: Vec::with_capacity(1), array: false };
    let mut problem = None;
    let add = |list: &mut Vec<Part<'a>>, value: Option<Value<'a>>| {
        let mut key = Vec::with_capacity(16);
        match &value {
            Some(value) => key::encode(value, collator, &mut key),
            None => key::missing(&mut key),
        }
        list.push(part(key, value, field, bytes_max));
    };
    let mut elements = 0_usize;
    let end = resolve(Value::Document(document), path.segments(), false, &mut |value, spread| {
        found.array |= spread;
        let mut check = |value: &Value<'a>| {
            if strict && problem.is_none() && !fits(field.bson_type, value) {
                problem = Some(mismatch(index, field, value));
            }
        };
        if let Some(Value::Array(array)) = value {
            found.array = true;
            for element in array.values() {
                check(&element);
                add(&mut found.list, Some(element));
                elements += 1;
                // Many of them may be the same: those count once.
                if elements.is_multiple_of(2 * ENTRIES_MAX) {
                    unique(&mut found.list);
                    if found.list.len() > ENTRIES_MAX {
                        return Visit::Break(());
                    }
                }
            }
        } else if let Some(value) = &value {
            check(value);
        }
        add(&mut found.list, value);
        elements += 1;
        if elements.is_multiple_of(2 * ENTRIES_MAX) {
            unique(&mut found.list);
            if found.list.len() > ENTRIES_MAX {
                return Visit::Break(());
            }
        }
        Visit::Continue(())
    });
    if let Some(problem) = problem {
        return Err(problem);
    }
    if found.list.is_empty() {
        // Only an array on the way can make a path lead nowhere.
        found.array = true;
        let mut key = Vec::with_capacity(1);
        key::nothing(&mut key);
        found.list.push(part(key, None, field, bytes_max));
    }
    unique(&mut found.list);
    Ok((end.is_continue() && found.list.len() <= ENTRIES_MAX).then_some(found))
}

fn part<'a>(
    mut key: Vec<u8>,
    value: Option<Value<'a>>,
    field: &IndexField,
    bytes_max: usize,
) -> Part<'a> {
    let cut = bound(&mut key, bytes_max);
    if field.descending {
        invert(&mut key);
    }
    Part { key, cut, value }
}

fn unique(parts: &mut Vec<Part<'_>>) {
    parts.sort_unstable_by(|left, right| left.key.cmp(&right.key));
    parts.dedup_by(|left, right| left.key == right.key);
}

/// Whether a value may stand in an index of this type: the type itself, null, and numbers in wider ones.
fn fits(declared: IndexType, value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Undefined => true,
        Value::String(_) | Value::Symbol(_) => declared == IndexType::String,
        Value::Int32(_) => {
            matches!(
                declared,
                IndexType::Int32 | IndexType::Int64 | IndexType::Double | IndexType::Decimal128
            )
        }
        Value::Int64(_) => matches!(declared, IndexType::Int64 | IndexType::Decimal128),
        Value::Double(_) => matches!(declared, IndexType::Double | IndexType::Decimal128),
        Value::Decimal128(_) => declared == IndexType::Decimal128,
        Value::Boolean(_) => declared == IndexType::Boolean,
        Value::DateTime(_) => declared == IndexType::DateTime,
        Value::Timestamp { .. } => declared == IndexType::Timestamp,
        Value::Binary { .. } => declared == IndexType::Binary,
        Value::ObjectId(_) => declared == IndexType::ObjectId,
        _ => false,
    }
}

fn mismatch(index: &Index, field: &IndexField, value: &Value<'_>) -> Error {
    Error::IndexTypeMismatch {
        index: index.name().to_owned(),
        declared: field.bson_type.name(),
        selector: field.selector.clone(),
        found: type_name(value),
    }
}

fn type_name(value: &Value<'_>) -> &'static str {
    match value {
        Value::Double(_) => "DOUBLE",
        Value::String(_) => "STRING",
        Value::Document(_) => "DOCUMENT",
        Value::Array(_) => "ARRAY",
        Value::Binary { .. } => "BINARY",
        Value::Undefined => "UNDEFINED",
        Value::ObjectId(_) => "OBJECTID",
        Value::Boolean(_) => "BOOLEAN",
        Value::DateTime(_) => "DATETIME",
        Value::Null => "NULL",
        Value::Regex { .. } => "REGEX",
        Value::DbPointer { .. } => "DBPOINTER",
        Value::Code(_) => "CODE",
        Value::Symbol(_) => "SYMBOL",
        Value::CodeWithScope { .. } => "CODEWITHSCOPE",
        Value::Int32(_) => "INT32",
        Value::Timestamp { .. } => "TIMESTAMP",
        Value::Int64(_) => "INT64",
        Value::Decimal128(_) => "DECIMAL128",
        Value::MinKey => "MINKEY",
        Value::MaxKey => "MAXKEY",
    }
}

/// A value in a message: text as it is, bytes in hex, and not too much of it.
fn show(value: Option<Value<'_>>) -> String {
    const LETTERS_MAX: usize = 200;
    let text = match value {
        None | Some(Value::Null | Value::Undefined) => "null".to_owned(),
        Some(Value::String(text) | Value::Symbol(text)) => {
            String::from_utf8_lossy(text.get(..4 * LETTERS_MAX).unwrap_or(text)).into_owned()
        }
        Some(Value::Binary { bytes, .. }) => {
            let bytes = bytes.iter().take(LETTERS_MAX);
            bytes.fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
        }
        Some(Value::ObjectId(id)) => ObjectId::to_hex(id),
        Some(Value::Document(_)) => "a document".to_owned(),
        Some(Value::Array(_)) => "an array".to_owned(),
        Some(Value::DateTime(millis)) => crate::codec::duration::format_instant(millis),
        Some(Value::Boolean(flag)) => flag.to_string(),
        Some(Value::Int32(number)) => number.to_string(),
        Some(Value::Int64(number)) => number.to_string(),
        Some(Value::Double(number)) => number.to_string(),
        Some(Value::Decimal128(number)) => number.to_string(),
        Some(Value::Timestamp { time, increment }) => format!("{time}:{increment}"),
        Some(other) => type_name(&other).to_lowercase(),
    };
    match text.char_indices().nth(LETTERS_MAX) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text,
    }
}
