//! Order of results by a field.

use std::cmp::Ordering;

use crate::value::{Path, Raw, Value, Visit, compare, resolve};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

impl Direction {
    /// Turns the order around when descending.
    pub fn apply(self, order: Ordering) -> Ordering {
        match self {
            Self::Ascending => order,
            Self::Descending => order.reverse(),
        }
    }
}

/// A field and a direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    pub path: Path,
    pub direction: Direction,
}

impl Sort {
    /// By what a document is sorted: the value at the path, null where there is
    /// none. Where the path spreads over an array, the least of its values, or
    /// the greatest when descending.
    pub fn key<'a>(&self, document: Raw<'a>) -> Value<'a> {
        let mut key: Option<Value<'a>> = None;
        let _all =
            resolve(Value::Document(document), self.path.segments(), false, &mut |value, _| {
                let value = value.unwrap_or(Value::Null);
                let better = key.as_ref().is_none_or(|key| self.compare(&value, key).is_lt());
                if better {
                    key = Some(value);
                }
                Visit::Continue(())
            });
        key.unwrap_or(Value::Null)
    }

    /// The order of two keys.
    pub fn compare(&self, left: &Value<'_>, right: &Value<'_>) -> Ordering {
        self.direction.apply(compare(left, right))
    }
}
