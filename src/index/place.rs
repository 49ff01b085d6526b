//! Where a value lies among the entries of an index.

use super::Index;
use super::entry::{bound, field_bytes_max, invert, ordered_bytes};
use crate::value::{Value, key};

/// What the keys of all entries begin with that have this value under a field,
/// as it is before a descending field turns it around. Equal values have equal
/// keys and others have others, also where they are cut.
#[must_use]
pub fn value_key(index: &Index, value: &Value<'_>) -> Vec<u8> {
    let mut key = Vec::with_capacity(16);
    key::encode(value, index.collator(), &mut key);
    bound(&mut key, field_bytes_max(index.fields().len()));
    key
}

/// What the keys of all entries have that hold this value under the field at a
/// position: [`value_key`], turned around where the field is descending.
#[must_use]
pub fn field_key(index: &Index, position: usize, value: &Value<'_>) -> Vec<u8> {
    let mut key = value_key(index, value);
    if index.field(position).is_some_and(|(field, _)| field.descending) {
        invert(&mut key);
    }
    key
}

/// The place of a value in the order of the entries, and whether it is exact.
/// Else there are values on either side of it whose keys begin alike.
#[must_use]
pub fn value_edge(index: &Index, value: &Value<'_>) -> (Vec<u8>, bool) {
    let mut key = Vec::with_capacity(16);
    key::encode(value, index.collator(), &mut key);
    // A longer value keeps only so much of its order in front of its hash.
    let ordered = ordered_bytes(field_bytes_max(index.fields().len()));
    let exact = key.len() <= ordered;
    key.truncate(ordered);
    (key, exact)
}
