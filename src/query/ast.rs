//! What a filter says.

use std::cmp::Ordering;

use bytes::Bytes;

use super::pattern::Pattern;
use crate::value::{
    Bracket, Collator, Field, Path, Raw, Value, compare_with,
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

/// A value in a filter; shares the filter's bytes. It knows by which collation
/// it is compared, so that asking a filter needs nothing beside it.
#[derive(Clone, Debug)]
pub struct Operand {
    tag: u8,
    bytes: Bytes,
    /// Only where a string is in it, at any depth: nothing else is compared by a collation.
    collator: Option<Collator>,
}

impl Operand {
    /// The value of a field that lies in `filter`.
    pub fn new(filter: &Bytes, field: &Field<'_>) -> Self {
        Self { tag: field.tag, bytes: filter.slice_ref(field.bytes), collator: None }
    }

    /// An ObjectId.
    pub fn object_id(id: bson::oid::ObjectId) -> Self {
        let bytes = Bytes::copy_from_slice(&id.bytes());
        Self { tag: tag::OBJECT_ID, bytes, collator: None }
    }

    /// A copy of a value.
    pub fn copy(value: &Value<'_>) -> Self {
        let (tag, bytes) = raw::encode(value);
        Self { tag, bytes: bytes.into(), collator: None }
    }

    /// The same value, its strings compared by a collation.
    #[must_use]
    pub fn collated(self, collator: &Collator) -> Self {
        let collator = has_string(&self.value()).then(|| collator.clone());
        Self { collator, ..self }
    }

    /// Whether an index whose strings are ordered by `index` (or by their bytes)
    /// answers what is asked of this value: where no string is in it, any does.
    pub fn fits(&self, index: Option<&Collator>) -> bool {
        self.collator.as_ref() == index || !has_string(&self.value())
    }

    /// Whether a value is the same, whatever numeric type each has.
    pub fn equals(&self, value: &Value<'_>) -> bool {
        self.order_of(value).is_eq()
    }

    /// The order of a value to this one.
    pub fn order_of(&self, value: &Value<'_>) -> Ordering {
        compare_with(value, &self.value(), self.collator.as_ref())
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

/// Whether a collation matters to a value.
fn has_string(value: &Value<'_>) -> bool {
    let any = |raw: &Raw<'_>| raw.values().any(|value| has_string(&value));
    match value {
        Value::String(_) | Value::Symbol(_) => true,
        Value::Document(raw) | Value::Array(raw) | Value::CodeWithScope { scope: raw, .. } => {
            any(raw)
        }
        _ => false,
    }
}

/// The list of an `$in`, ready to be searched.
#[derive(Clone, Debug)]
pub struct Members {
    /// In the order of values, each once.
    values: Vec<Operand>,
    patterns: Vec<Pattern>,
    null: bool,
    /// Orders them; strings or not, so that all of them are in one order.
    collator: Option<Collator>,
}

impl Members {
    /// Sorts the values and drops what is there twice.
    pub fn new(values: Vec<Operand>, patterns: Vec<Pattern>) -> Self {
        Self::sorted(values, patterns, None)
    }

    fn sorted(
        mut values: Vec<Operand>,
        patterns: Vec<Pattern>,
        collator: Option<Collator>,
    ) -> Self {
        let by = collator.as_ref();
        values.sort_by(|left, right| compare_with(&left.value(), &right.value(), by));
        values.dedup_by(|left, right| compare_with(&left.value(), &right.value(), by).is_eq());
        let null = values.iter().any(|operand| operand.bracket() == Bracket::Null);
        Self { values, patterns, null, collator }
    }

    /// The same list, its strings compared by a collation: what is equal by it is listed once.
    #[must_use]
    pub fn collated(self, collator: &Collator) -> Self {
        let values = self.values.into_iter().map(|operand| operand.collated(collator)).collect();
        Self::sorted(values, self.patterns, Some(collator.clone()))
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
            || self
                .values
                .binary_search_by(|operand| {
                    compare_with(&operand.value(), value, self.collator.as_ref())
                })
                .is_ok()
    }
}
