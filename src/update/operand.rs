use bytes::Bytes;

use crate::value::{Field, Value, raw};

/// A value with its type, sharing the bytes of the update or owning its own.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) tag: u8,
    pub(super) bytes: Bytes,
}

impl Operand {
    /// The value of a field that lies in `whole`.
    pub(super) fn of(whole: &Bytes, field: &Field<'_>) -> Self {
        Self { tag: field.tag, bytes: whole.slice_ref(field.bytes) }
    }

    /// A copy of a value.
    pub(super) fn copy(value: &Value<'_>) -> Self {
        let (tag, bytes) = raw::encode(value);
        Self { tag, bytes: bytes.into() }
    }

    pub(super) fn value(&self) -> Value<'_> {
        raw::decode(self.tag, &self.bytes).unwrap_or(Value::Undefined)
    }
}

/// The name of a value's type, as error messages of updates have it.
pub(super) fn type_name(tag: u8) -> &'static str {
    match tag {
        raw::tag::DOUBLE => "DOUBLE",
        raw::tag::STRING => "STRING",
        raw::tag::DOCUMENT => "DOCUMENT",
        raw::tag::ARRAY => "ARRAY",
        raw::tag::BINARY => "BINARY",
        raw::tag::UNDEFINED => "UNDEFINED",
        raw::tag::OBJECT_ID => "OBJECT_ID",
        raw::tag::BOOLEAN => "BOOLEAN",
        raw::tag::DATE_TIME => "DATE_TIME",
        raw::tag::NULL => "NULL",
        raw::tag::REGEX => "REGULAR_EXPRESSION",
        raw::tag::DB_POINTER => "DB_POINTER",
        raw::tag::CODE => "JAVASCRIPT",
        raw::tag::SYMBOL => "SYMBOL",
        raw::tag::CODE_WITH_SCOPE => "JAVASCRIPT_WITH_SCOPE",
        raw::tag::INT32 => "INT32",
        raw::tag::TIMESTAMP => "TIMESTAMP",
        raw::tag::INT64 => "INT64",
        raw::tag::DECIMAL128 => "DECIMAL128",
        raw::tag::MIN_KEY => "MIN_KEY",
        raw::tag::MAX_KEY => "MAX_KEY",
        _ => "UNKNOWN",
    }
}
