//! Order of results by a field, and what decides among equal values.

use std::cmp::Ordering;

use bson::oid::ObjectId;

use super::ast::Operand;
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

/// The whole order of documents: by the field that was asked for, by those that
/// an index has behind it, and then by ids. A query asks for the first only, so what
/// answers its first batch decides the rest, and all other batches keep to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// At least one.
    pub fields: Vec<Sort>,
    /// Of documents with the same values.
    pub ids: Direction,
}

impl Order {
    /// By one field, then by ids in the same direction.
    pub fn by(sort: &Sort) -> Self {
        Self { fields: vec![sort.clone()], ids: sort.direction }
    }

    /// The same where strings are compared as the query says now.
    #[must_use]
    pub fn compared_by(&self, collator: Option<&Collator>) -> Self {
        let field = |sort: &Sort| Sort { collator: collator.cloned(), ..sort.clone() };
        Self { fields: self.fields.iter().map(field).collect(), ids: self.ids }
    }

    /// What a document is sorted by, but for its id.
    pub fn keys(&self, document: Raw<'_>) -> Vec<Operand> {
        self.fields.iter().map(|sort| Operand::copy(&sort.key(document))).collect()
    }

    /// Where a document stands to a place.
    pub fn compare(
        &self,
        (document, id): (Raw<'_>, &ObjectId),
        (keys, other): (&[Operand], &ObjectId),
    ) -> Ordering {
        let fields = self.fields.iter().zip(keys);
        self.decide(
            fields.map(|(sort, key)| sort.compare(&sort.key(document), &key.value())),
            id,
            other,
        )
    }

    /// Where one place stands to another.
    pub fn compare_places(
        &self,
        (keys, id): (&[Operand], &ObjectId),
        (other_keys, other): (&[Operand], &ObjectId),
    ) -> Ordering {
        let fields = self.fields.iter().zip(keys.iter().zip(other_keys));
        let each = fields.map(|(sort, (left, right))| sort.compare(&left.value(), &right.value()));
        self.decide(each, id, other)
    }

    fn decide(
        &self,
        mut fields: impl Iterator<Item = Ordering>,
        id: &ObjectId,
        other: &ObjectId,
    ) -> Ordering {
        let ids = || self.ids.apply(id.bytes().cmp(&other.bytes()));
        fields.find(|order| order.is_ne()).unwrap_or_else(ids)
    }
}
