//! Order and equality of BSON values.
//!
//! Values of different kinds are ordered by their [`Bracket`]; within numbers
//! the order is exact across types. Documents compare field by field (kind of
//! the value, then name, then value), arrays element by element, a shorter one
//! first. The order is total, so it sorts, and equality is its `Equal`.

use std::cmp::Ordering;

use super::{
    collation::Collator,
    number::Number,
    raw::{Raw, Value},
};

/// The kinds of values in sort order. `$gt` and its like compare only within
/// one bracket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bracket {
    MinKey,
    /// Null, undefined, and a field that is missing.
    Null,
    Number,
    String,
    Document,
    Array,
    Binary,
    ObjectId,
    Boolean,
    DateTime,
    Timestamp,
    Regex,
    DbPointer,
    Code,
    CodeWithScope,
    MaxKey,
}

impl Bracket {
    /// The bracket a value belongs to.
    pub fn of(value: &Value<'_>) -> Self {
        match value {
            Value::MinKey => Self::MinKey,
            Value::Null | Value::Undefined => Self::Null,
            Value::Int32(_) | Value::Int64(_) | Value::Double(_) | Value::Decimal128(_) => {
                Self::Number
            }
            Value::String(_) | Value::Symbol(_) => Self::String,
            Value::Document(_) => Self::Document,
            Value::Array(_) => Self::Array,
            Value::Binary { .. } => Self::Binary,
            Value::ObjectId(_) => Self::ObjectId,
            Value::Boolean(_) => Self::Boolean,
            Value::DateTime(_) => Self::DateTime,
            Value::Timestamp { .. } => Self::Timestamp,
            Value::Regex { .. } => Self::Regex,
            Value::DbPointer { .. } => Self::DbPointer,
            Value::Code(_) => Self::Code,
            Value::CodeWithScope { .. } => Self::CodeWithScope,
            Value::MaxKey => Self::MaxKey,
        }
    }
}

/// The total order of all values, strings by their bytes.
pub fn compare(left: &Value<'_>, right: &Value<'_>) -> Ordering {
    compare_with(left, right, None)
}

/// The total order of all values, with strings as a collator orders them, those
/// inside documents and arrays too. Names of fields, code and patterns are not
/// text for readers: they are ordered by their bytes.
pub fn compare_with(left: &Value<'_>, right: &Value<'_>, collator: Option<&Collator>) -> Ordering {
    match (left, right) {
        (Value::Int32(left), Value::Int32(right)) => left.cmp(right),
        (
            Value::String(left) | Value::Symbol(left),
            Value::String(right) | Value::Symbol(right),
        ) => match collator {
            None => left.cmp(right),
            Some(collator) => collator.compare_strings(left, right),
        },
        (Value::Code(left), Value::Code(right)) => left.cmp(right),
        (Value::Document(left), Value::Document(right)) => {
            compare_documents(*left, *right, collator)
        }
        (Value::Array(left), Value::Array(right)) => compare_arrays(*left, *right, collator),
        (
            Value::Binary { subtype: left_type, bytes: left },
            Value::Binary { subtype: right_type, bytes: right },
        ) => (left.len(), left_type, left).cmp(&(right.len(), right_type, right)),
        (Value::ObjectId(left), Value::ObjectId(right)) => left.bytes().cmp(&right.bytes()),
        (Value::Boolean(left), Value::Boolean(right)) => left.cmp(right),
        (Value::DateTime(left), Value::DateTime(right)) => left.cmp(right),
        (
            Value::Timestamp { time: left, increment: left_increment },
            Value::Timestamp { time: right, increment: right_increment },
        ) => (left, left_increment).cmp(&(right, right_increment)),
        (
            Value::Regex { pattern: left, options: left_options },
            Value::Regex { pattern: right, options: right_options },
        ) => (left, left_options).cmp(&(right, right_options)),
        (
            Value::DbPointer { namespace: left, id: left_id },
            Value::DbPointer { namespace: right, id: right_id },
        ) => (left, left_id.bytes()).cmp(&(right, right_id.bytes())),
        (
            Value::CodeWithScope { code: left, scope: left_scope },
            Value::CodeWithScope { code: right, scope: right_scope },
        ) => left.cmp(right).then_with(|| compare_documents(*left_scope, *right_scope, collator)),
        _ => match (Number::of(left), Number::of(right)) {
            (Some(left), Some(right)) => left.compare(right),
            _ => Bracket::of(left).cmp(&Bracket::of(right)),
        },
    }
}

/// Whether two values are the same, whatever numeric type each has.
pub fn equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    compare(left, right) == Ordering::Equal
}

fn compare_documents(left: Raw<'_>, right: Raw<'_>, collator: Option<&Collator>) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    one_by_one(left.iter(), right.iter(), |left, right| {
        let (left_value, right_value) = (left.value(), right.value());
        Bracket::of(&left_value)
            .cmp(&Bracket::of(&right_value))
            .then_with(|| left.key.cmp(right.key))
            .then_with(|| compare_with(&left_value, &right_value, collator))
    })
}

fn compare_arrays(left: Raw<'_>, right: Raw<'_>, collator: Option<&Collator>) -> Ordering {
    one_by_one(left.values(), right.values(), |left, right| compare_with(left, right, collator))
}

/// The first difference decides; else the shorter one comes first.
fn one_by_one<T>(
    mut left: impl Iterator<Item = T>,
    mut right: impl Iterator<Item = T>,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Ordering {
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(left), Some(right)) => {
                let order = compare(&left, &right);
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    fn check(left: &bson::Document, right: &bson::Document, expected: Ordering) {
        let left = bson::RawDocumentBuf::try_from(left).unwrap();
        let right = bson::RawDocumentBuf::try_from(right).unwrap();
        let (left, right) =
            (Raw::new(left.as_bytes()).unwrap(), Raw::new(right.as_bytes()).unwrap());
        assert_eq!(compare(&Value::Document(left), &Value::Document(right)), expected);
        assert_eq!(compare(&Value::Document(right), &Value::Document(left)), expected.reverse());
    }

    #[test]
    fn documents_are_equal_in_the_same_field_order_with_equal_numbers() {
        check(&doc! {"a": 1, "b": [1, 2_i64]}, &doc! {"a": 1.0, "b": [1, 2]}, Ordering::Equal);
        check(&doc! {"a": 1, "b": 1}, &doc! {"b": 1, "a": 1}, Ordering::Less);
        check(&doc! {"a": 1}, &doc! {"a": 1, "b": 1}, Ordering::Less);
    }

    #[test]
    fn the_kind_of_a_value_decides_before_its_name() {
        check(&doc! {"z": 1}, &doc! {"a": "x"}, Ordering::Less);
        check(&doc! {"a": null}, &doc! {"a": false}, Ordering::Less);
    }
}
