//! Order of results by a field.

use std::cmp::Ordering;

use crate::value::{Collator, Path, Raw, Value, Visit, compare_with, resolve};

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

/// A field and a direction, and how strings are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    pub path: Path,
    pub direction: Direction,
    /// `None`: by their bytes.
    pub collator: Option<Collator>,
}

impl Sort {
    /// By a field, strings by their bytes.
    pub fn new(path: Path, direction: Direction) -> Self {
        Self { path, direction, collator: None }
    }

    /// The same sort under a collation.
    #[must_use]
    pub fn collated(self, collator: &Collator) -> Self {
        Self { collator: Some(collator.clone()), ..self }
    }

    /// By what a document is sorted: the value at the path, null where there is
    /// none. Of an array it is the least element, or the greatest when
    /// descending, and likewise where the path spreads over an array; an array without
    /// elements stands for itself.
    pub fn key<'a>(&self, document: Raw<'a>) -> Value<'a> {
        self.best(document, true)
    }

    /// By what a document is sorted within its batch: as [`Sort::key`], but an
    /// array where the path ends stands for itself, among its own kind.
    pub fn whole_key<'a>(&self, document: Raw<'a>) -> Value<'a> {
        self.best(document, false)
    }

    fn best<'a>(&self, document: Raw<'a>, elements: bool) -> Value<'a> {
        let mut key: Option<Value<'a>> = None;
        let mut offer = |value: Value<'a>| {
            if key.as_ref().is_none_or(|key| self.compare(&value, key).is_lt()) {
                key = Some(value);
            }
        };
        let _all =
            resolve(Value::Document(document), self.path.segments(), false, &mut |value, _| {
                match value {
                    Some(Value::Array(array)) if elements && !array.is_empty() => {
                        array.values().for_each(&mut offer);
                    }
                    value => offer(value.unwrap_or(Value::Null)),
                }
                Visit::Continue(())
            });
        key.unwrap_or(Value::Null)
    }

    /// The order of two keys.
    pub fn compare(&self, left: &Value<'_>, right: &Value<'_>) -> Ordering {
        self.direction.apply(compare_with(left, right, self.collator.as_ref()))
    }
}
