//! What an entry holds besides its key, so that a query need not read the document.
//!
//! ```text
//!   value = flags [count, position ...] [type, length (2), bytes] ...
//! ```
//!
//! The values are those of the document, bytes and types: the key of an integer
//! is that of the double it equals. The positions say in which order the fields
//! stand in the document, since an answer shows them in that order; where it is
//! that of the index, with `_id` behind, nothing is said.
//!
//! Not here: the keys (`entry`), making documents of it (`query`).

use bytes::Bytes;

use super::Index;
use crate::codec::DecodeError;
use crate::error::{Error, Result};
use crate::value::{Raw, Segment, Value, raw};

/// Bytes of values that an entry holds besides its key.
pub const COVERED_BYTES_MAX: usize = 1_000;

const CUT: u8 = 1;
const COVERED: u8 = 1 << 1;
const ORDERED: u8 = 1 << 2;

/// The value of an entry: whether its key was cut, and, unless they are long, the values
/// of the fields and their `order`. Without an order no values are held.
pub(super) fn encode<'a>(
    cut: bool,
    order: Option<&Vec<u8>>,
    values: impl Iterator<Item = Option<Value<'a>>>,
) -> Vec<u8> {
    let mut out = vec![if cut { CUT } else { 0 }];
    let Some(order) = order else { return out };
    let mut flags = COVERED;
    if !order.is_sorted() {
        flags |= ORDERED;
        out.push(u8::try_from(order.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(order);
    }
    let held_max = out.len() + COVERED_BYTES_MAX;
    for value in values {
        let (tag, bytes) = value.as_ref().map_or((0, Vec::new()), raw::encode);
        if out.len() + bytes.len() > held_max {
            out.truncate(1);
            return out;
        }
        out.push(tag);
        out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(&bytes);
    }
    if let Some(first) = out.first_mut() {
        *first |= flags;
    }
    out
}

/// The positions of the fields that a document has, in its order; `_id` has the
/// position behind the last.
pub(super) fn order(index: &Index, document: Raw<'_>) -> Vec<u8> {
    let fields = index.fields().map(|(_, path)| path.segments());
    let wanted: Vec<_> = (0_u8..).zip(fields).collect();
    let mut order = Vec::with_capacity(wanted.len() + 1);
    let id = u8::try_from(wanted.len()).unwrap_or(u8::MAX);
    walk(document, &wanted, Some(id), &mut order);
    order
}

fn walk(raw: Raw<'_>, wanted: &[(u8, &[Segment])], id: Option<u8>, order: &mut Vec<u8>) {
    for field in raw {
        let mut deeper = Vec::new();
        for (position, steps) in wanted {
            let Some((first, rest)) = steps.split_first() else { continue };
            if first.name.as_bytes() != field.key {
                continue;
            }
            if rest.is_empty() {
                order.push(*position);
            } else {
                deeper.push((*position, rest));
            }
        }
        if !deeper.is_empty()
            && let Value::Document(raw) = field.value()
        {
            walk(raw, &deeper, None, order);
        }
        if let Some(id) = id.filter(|_| field.key == b"_id") {
            order.push(id);
        }
    }
}

/// What an entry holds of its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    bytes: Bytes,
}

impl Covered {
    pub(super) fn decode(value: Bytes) -> Result<Self> {
        let covered = Self { bytes: value };
        let sound = match covered.flags() {
            0 | CUT => covered.bytes.len() == 1,
            flags if flags & COVERED != 0 && flags & !(CUT | COVERED | ORDERED) == 0 => {
                covered.values().is_some_and(|values| rest_after(values, usize::MAX).is_empty())
            }
            _ => false,
        };
        if sound {
            return Ok(covered);
        }
        Err(Error::Damaged(DecodeError {
            what: "index entry",
            detail: "its value is neither flags nor flags and values".to_owned(),
        }))
    }

    /// Whether the key was cut, so that its order is not that of the values.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.flags() & CUT != 0
    }

    /// Whether the values are here.
    #[must_use]
    pub fn has_values(&self) -> bool {
        self.flags() & COVERED != 0
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The value of the field at this position, type and bytes: `None` when values are not
    /// here, `Some(None)` when the document lacks the field.
    #[must_use]
    pub fn field(&self, position: usize) -> Option<Option<(u8, &[u8])>> {
        if !self.has_values() {
            return None;
        }
        let (tag, bytes, _) = split(rest_after(self.values()?, position))?;
        Some((tag != 0).then_some((tag, bytes)))
    }

    /// The same, decoded.
    #[must_use]
    pub fn value(&self, position: usize) -> Option<Option<Value<'_>>> {
        match self.field(position)? {
            None => Some(None),
            Some((tag, bytes)) => raw::decode(tag, bytes).map(Some),
        }
    }

    /// The positions of so many fields in the order of the document, that of
    /// `_id` behind the last. Those of fields that the document lacks may be among them.
    pub fn order(&self, fields: usize) -> impl Iterator<Item = usize> + '_ {
        let listed = (self.flags() & ORDERED != 0).then(|| self.listed()).flatten();
        let usual = if listed.is_none() { 0..fields + 1 } else { 0..0 };
        listed.unwrap_or_default().iter().map(|at| usize::from(*at)).chain(usual)
    }

    fn flags(&self) -> u8 {
        self.bytes.first().copied().unwrap_or(u8::MAX)
    }

    /// The order, where there is one.
    fn listed(&self) -> Option<&[u8]> {
        let count = usize::from(*self.bytes.get(1)?);
        self.bytes.get(2..2 + count)
    }

    /// Where the values begin.
    fn values(&self) -> Option<&[u8]> {
        let skipped = if self.flags() & ORDERED != 0 { 2 + self.listed()?.len() } else { 1 };
        self.bytes.get(skipped..)
    }
}

/// What follows so many values, or all that are sound.
fn rest_after(mut rest: &[u8], values: usize) -> &[u8] {
    for _ in 0..values {
        match split(rest) {
            Some((_, _, after)) => rest = after,
            None => break,
        }
    }
    rest
}

/// Type and bytes of the first value, and what follows.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((tag, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::record::{IndexField, IndexRecord, IndexStatus, IndexType};

    fn index(selectors: &[&str]) -> Index {
        let field = |selector: &&str| IndexField {
            selector: (*selector).to_owned(),
            bson_type: IndexType::Int32,
            descending: false,
            multi_key: false,
        };
        Index::new(IndexRecord {
            id: 1,
            name: "i".to_owned(),
            fields: selectors.iter().map(field).collect(),
            unique: false,
            collation: None,
            collation_data: String::new(),
            status: IndexStatus::Ready,
            created_at: 0,
        })
    }

    #[track_caller]
    fn stands(selectors: &[&str], document: &bson::Document, expected: &[u8]) {
        let bytes = bson::serialize_to_vec(document).unwrap();
        assert_eq!(order(&index(selectors), Raw::new(&bytes).unwrap()), expected, "{document}");
    }

    #[test]
    fn the_order_of_fields_is_that_of_the_document() {
        stands(&["a"], &bson::doc! {"x": 1, "a": 1, "_id": 1}, &[0, 1]);
        stands(&["a"], &bson::doc! {"_id": 1, "a": 1}, &[1, 0]);
        stands(&["a", "b"], &bson::doc! {"b": 1, "_id": 1}, &[1, 2]);
        stands(
            &["a.x", "b", "a.y"],
            &bson::doc! {"a": {"y": 1, "x": 1, "_id": 1}, "_id": 1, "b": 1},
            &[2, 0, 3, 1],
        );
        stands(&["a.x"], &bson::doc! {"a": 5, "_id": 1}, &[1]);
    }

    #[test]
    fn what_is_held_comes_back_and_damage_is_seen() {
        let values = || [Some(Value::Int32(5)), None, Some(Value::String(b"x"))].into_iter();
        let held = encode(true, Some(&vec![3, 0, 2]), values());
        let covered = Covered::decode(held.clone().into()).unwrap();
        assert!(covered.is_cut() && covered.has_values());
        assert_eq!(covered.order(3).collect::<Vec<_>>(), [3, 0, 2]);
        assert!(matches!(covered.value(0), Some(Some(Value::Int32(5)))));
        assert!(matches!(covered.value(1), Some(None)));
        assert!(matches!(covered.value(2), Some(Some(Value::String(b"x")))));
        for damaged in [&held[..held.len() - 1], &held[..3], &[CUT, 0], &[0x80], &[]] {
            assert!(Covered::decode(Bytes::copy_from_slice(damaged)).is_err(), "{damaged:?}");
        }
        let usual = Covered::decode(encode(false, Some(&vec![0, 2, 3]), values()).into()).unwrap();
        assert_eq!(usual.order(3).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let long = [Some(Value::String(&[b'x'; 2_000]))].into_iter();
        assert!(
            !Covered::decode(encode(false, Some(&vec![1, 0]), long).into()).unwrap().has_values()
        );
    }
}
