use std::ops::Bound;

use super::Index;
use super::entry::{bound, field_bytes_max, invert, ordered_bytes};
use crate::codec::{BucketId, keys};
use crate::value::{Bracket, Value, key, number::Number};

/// Builds the range of an index's keys in which all entries for some conditions
/// lie: equality on any number of leading fields, then at most one range.
///
/// ```ignore
/// let range = Bounds::new(&index).equal(&a).equal(&b).range(lower, upper).keys(bucket);
/// ```
#[derive(Clone, Debug)]
pub struct Bounds<'a> {
    index: &'a Index,
    position: usize,
    /// The keys of the fields with equality, one after the other.
    head: Vec<u8>,
    /// Of the field with the range: from here (included), to here (excluded).
    begin: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
    exact: bool,
}

/// A range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub begin: Vec<u8>,
    pub end: Vec<u8>,
    /// Whether the entries in it are only those that were asked for. Else, or
    /// where an entry was cut, there may be others, and the document decides.
    pub exact: bool,
}

impl KeyRange {
    /// Whether nothing can lie in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begin >= self.end
    }
}

impl<'a> Bounds<'a> {
    /// All entries.
    #[must_use]
    pub fn new(index: &'a Index) -> Self {
        Self { index, position: 0, head: Vec::new(), begin: None, end: None, exact: true }
    }

    /// Only entries whose next field has this value. Null means missing as well.
    #[must_use]
    pub fn equal(mut self, value: &Value<'_>) -> Self {
        let mut part = Vec::with_capacity(16);
        key::encode(value, self.index.collator(), &mut part);
        bound(&mut part, field_bytes_max(self.index.fields().len()));
        if self.is_descending() {
            invert(&mut part);
        }
        self.head.extend_from_slice(&part);
        self.position += 1;
        self
    }

    /// Only entries whose next field lies between these, within their bracket.
    /// With no bound at all it is every value. A NaN lies only in a range with a
    /// NaN at an end, and nothing else does.
    #[must_use]
    pub fn range(mut self, lower: Bound<&Value<'_>>, upper: Bound<&Value<'_>>) -> Self {
        let (low, high) = (value_of(lower), value_of(upper));
        let Some(some) = low.or(high) else { return self };
        let bracket = Bracket::of(some);
        let is_nan = |value: &Value<'_>| Number::of(value).is_some_and(Number::is_nan);
        if low.is_some_and(is_nan) || high.is_some_and(is_nan) {
            self.exact = false;
            let nan = vec![key::AFTER_NAN - 1];
            return self.between(Bound::Included(nan.clone()), Bound::Included(nan));
        }
        if high.is_some_and(|value| Bracket::of(value) != bracket) {
            self.exact = false;
        }
        let (first, last) = key::codes(bracket);
        let lower = match lower {
            Bound::Included(value) => Bound::Included(self.edge(value)),
            Bound::Excluded(value) => Bound::Excluded(self.edge(value)),
            Bound::Unbounded if bracket == Bracket::Number => Bound::Excluded(vec![first]),
            Bound::Unbounded => Bound::Included(vec![first]),
        };
        let upper = match upper {
            Bound::Included(value) => Bound::Included(self.edge(value)),
            Bound::Excluded(value) => Bound::Excluded(self.edge(value)),
            Bound::Unbounded => Bound::Included(vec![last]),
        };
        self.between(lower, upper)
    }

    /// Only entries whose next field is of this bracket, such as every string.
    #[must_use]
    pub fn bracket(self, bracket: Bracket) -> Self {
        let (first, last) = key::codes(bracket);
        self.between(Bound::Included(vec![first]), Bound::Included(vec![last]))
    }

    /// Sets the range of the next field: a bound stands for all keys that begin with it.
    fn between(mut self, lower: Bound<Vec<u8>>, upper: Bound<Vec<u8>>) -> Self {
        let exact = self.exact;
        let (first, last) = if self.is_descending() {
            (upper.map(inverted), lower.map(inverted))
        } else {
            (lower, upper)
        };
        self.begin = match first {
            Bound::Included(edge) => Some(edge),
            Bound::Excluded(edge) => Some(if exact { keys::after(&edge) } else { edge }),
            Bound::Unbounded => None,
        };
        self.end = match last {
            Bound::Included(edge) => Some(keys::after(&edge)),
            Bound::Excluded(edge) => Some(if exact { edge } else { keys::after(&edge) }),
            Bound::Unbounded => None,
        };
        self
    }

    /// The range of keys in a bucket.
    #[must_use]
    pub fn keys(&self, bucket: BucketId) -> KeyRange {
        let prefix = [keys::index::entries(bucket, self.index.id()), self.head.clone()].concat();
        let with = |edge: &Vec<u8>| [&prefix[..], edge].concat();
        KeyRange {
            begin: self.begin.as_ref().map_or_else(|| prefix.clone(), with),
            end: self.end.as_ref().map_or_else(|| keys::after(&prefix), with),
            exact: self.exact,
        }
    }

    fn is_descending(&self) -> bool {
        self.index.field(self.position).is_some_and(|(field, _)| field.descending)
    }

    /// What all keys of this value begin with, cut where they are.
    fn edge(&mut self, value: &Value<'_>) -> Vec<u8> {
        let mut edge = Vec::with_capacity(16);
        key::encode(value, self.index.collator(), &mut edge);
        // Of a longer value the entry keeps no more of its order than this, so
        // those that share it may lie on either side.
        let ordered = ordered_bytes(field_bytes_max(self.index.fields().len()));
        if edge.len() > ordered {
            self.exact = false;
            edge.truncate(ordered);
        }
        edge
    }
}

fn value_of<'a>(bound: Bound<&'a Value<'a>>) -> Option<&'a Value<'a>> {
    match bound {
        Bound::Included(value) | Bound::Excluded(value) => Some(value),
        Bound::Unbounded => None,
    }
}

fn inverted(mut edge: Vec<u8>) -> Vec<u8> {
    invert(&mut edge);
    edge
}
