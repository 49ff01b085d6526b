//! What a filter says.

use std::cmp::Ordering;

use bytes::Bytes;

use super::pattern::Pattern;
use crate::value::{
    Bracket, Field, Path, Value, compare,
    raw::{self, tag},
};

/// A filter, or a part of one.
#[derive(Clone, Debug)]
pub enum Ast {
    /// Matches every document.
    All,
    /// Matches none.
    Nothing,
    And(Vec<Ast>),
    Or(Vec<Ast>),
    /// The logical complement.
    Not(Box<Ast>),
    /// What a field, or the values a path leads to, must be.
    Field {
        path: Path,
        test: Test,
    },
}

/// A condition on what a path leads to. Where the path ends at an array, its
/// elements count as well as the array itself.
#[derive(Clone, Debug)]
pub enum Test {
    /// Any is equal. Null is equal to missing.
    Equal(Operand),
    /// None is equal; a present value of another bracket does not match.
    NotEqual(Operand),
    Compare(Comparison, Operand),
    /// Any is listed; of an array only its elements count.
    In(Members),
    /// An array with all of these.
    All(Vec<AllMember>),
    /// An array of this length.
    Size(u64),
    /// Present, be it null.
    Exists,
    Matches(Pattern),
    /// An array with an element that satisfies the whole filter.
    Element {
        form: ElementForm,
        filter: Box<Ast>,
    },
}

/// What the filter of an `$elemMatch` asks of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementForm {
    /// Its operators are asked of the element itself.
    Value,
    /// Its fields are those of the element, which must be a document (or an array, by position).
    Document,
}

/// `$lt` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Whether a value in this order to the operand satisfies it.
    pub fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// A member of an `$all`.
#[derive(Clone, Debug)]
pub enum AllMember {
    Equal(Operand),
    Matches(Pattern),
    Element { form: ElementForm, filter: Box<Ast> },
}

/// A value in a filter; shares the filter's bytes.
#[derive(Clone, Debug)]
pub struct Operand {
    tag: u8,
    bytes: Bytes,
}

impl Operand {
    /// The value of a field that lies in `filter`.
    pub fn new(filter: &Bytes, field: &Field<'_>) -> Self {
        Self { tag: field.tag, bytes: filter.slice_ref(field.bytes) }
    }

    /// An ObjectId.
    pub fn object_id(id: bson::oid::ObjectId) -> Self {
        Self { tag: tag::OBJECT_ID, bytes: Bytes::copy_from_slice(&id.bytes()) }
    }

    /// A copy of a value.
    pub fn copy(value: &Value<'_>) -> Self {
        let (tag, bytes) = raw::encode(value);
        Self { tag, bytes: bytes.into() }
    }

    /// The value.
    pub fn value(&self) -> Value<'_> {
        raw::decode(self.tag, &self.bytes).unwrap_or(Value::Undefined)
    }

    /// Its bracket.
    pub fn bracket(&self) -> Bracket {
        Bracket::of(&self.value())
    }
}

/// The list of an `$in`, ready to be searched.
#[derive(Clone, Debug)]
pub struct Members {
    /// In the order of values, each once.
    values: Vec<Operand>,
    patterns: Vec<Pattern>,
    null: bool,
}

impl Members {
    /// Sorts the values and drops what is there twice.
    pub fn new(mut values: Vec<Operand>, patterns: Vec<Pattern>) -> Self {
        values.sort_by(|left, right| compare(&left.value(), &right.value()));
        values.dedup_by(|left, right| compare(&left.value(), &right.value()).is_eq());
        let null = values.iter().any(|operand| operand.bracket() == Bracket::Null);
        Self { values, patterns, null }
    }

    /// The values in order.
    pub fn values(&self) -> &[Operand] {
        &self.values
    }

    /// The regular expressions among them.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether null is listed, which also means missing.
    pub fn has_null(&self) -> bool {
        self.null
    }

    /// Whether it lists nothing.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.patterns.is_empty()
    }

    /// Whether the value itself is listed or matched.
    pub fn contains(&self, value: &Value<'_>) -> bool {
        self.patterns.iter().any(|pattern| pattern.accepts(value))
            || self.values.binary_search_by(|operand| compare(&operand.value(), value)).is_ok()
    }
}
