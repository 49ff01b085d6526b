//! What an update asks of the elements of an array.

use crate::document::{Builder, Document};
use crate::error::{Error, Result};
use crate::query::{self, Ast, ElementForm, Test, element_matches};
use crate::value::{Collator, Field, Raw, Steps, Value, raw::tag};

/// A condition on one element: that of a `$pull` or an array filter.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    form: ElementForm,
    filter: Ast,
}

impl Condition {
    /// Whether an element satisfies it. When the steps are over afterwards the answer means nothing.
    pub(super) fn accepts(&self, element: Value<'_>, steps: &Steps) -> bool {
        element_matches(self.form, &self.filter, element, steps)
    }

    pub(super) fn filter(&self) -> &Ast {
        &self.filter
    }

    /// The same with its strings compared by a collation.
    pub(super) fn collated(&self, collator: &Collator) -> Self {
        Self { form: self.form, filter: self.filter.clone().collated(collator) }
    }

    /// That of a `$pull`: operators are asked of the element, other documents of
    /// its fields, and any other value is to be equal.
    pub(super) fn of_pull(path: &str, field: &Field<'_>, limits: &query::Limits) -> Result<Self> {
        let place = format!("$pull.{path}");
        match field.value() {
            Value::Document(raw) => Self::parse(&place, limits, |out| copy(out, raw)),
            _ => Self::parse(&place, limits, |out| equal(out, field)),
        }
    }

    /// That of an array filter, on the element itself or on a field of it.
    pub(super) fn of_filter(
        inner: Option<&str>,
        field: &Field<'_>,
        limits: &query::Limits,
    ) -> Result<Self> {
        let operators = operators(field)?;
        let place = format!("array_filters.{}", String::from_utf8_lossy(field.key));
        Self::parse(&place, limits, |out| match (inner, operators) {
            (None, Some(raw)) => copy(out, raw),
            (None, None) => equal(out, field),
            (Some(inner), Some(raw)) => {
                out.nested(inner.as_bytes(), tag::DOCUMENT, |out| copy(out, raw));
            }
            (Some(inner), None) => {
                out.nested(inner.as_bytes(), tag::DOCUMENT, |out| equal(out, field));
            }
        })
    }

    /// Parses what `fill` writes as the inside of an `$elemMatch`, so that a
    /// condition here means what it means in a filter. `place` is where it stands in the update.
    fn parse(place: &str, limits: &query::Limits, fill: impl FnOnce(&mut Builder)) -> Result<Self> {
        let mut out = Builder::new();
        out.nested(b"element", tag::DOCUMENT, |out| {
            out.nested(b"$elemMatch", tag::DOCUMENT, fill);
        });
        let limits = query::Limits {
            // The two documents around it are ours.
            document: crate::document::Limits {
                depth_max: limits.document.depth_max.saturating_add(3),
                bytes_max: limits.document.bytes_max.saturating_add(64),
            },
            patterns_max: 8,
            pattern_bytes_max: limits.pattern_bytes_max / 8,
            ..*limits
        };
        let document: Document = out.finish();
        match query::parse(document.bytes(), &limits) {
            Ok(Ast::Field { test: Test::Element { form, filter }, .. }) => {
                Ok(Self { form, filter: *filter })
            }
            Ok(_) => Err(Error::Internal("a condition on an element lost its form".to_owned())),
            Err(error) => {
                // The client knows nothing of the documents around it.
                Err(Error::syntax(error.to_string().replace("element.$elemMatch", place)))
            }
        }
    }
}

fn copy(out: &mut Builder, raw: Raw<'_>) {
    for field in raw {
        out.copy(&field);
    }
}

fn equal(out: &mut Builder, field: &Field<'_>) {
    let operator: &[u8] = if field.tag == tag::REGEX { b"$regex" } else { b"$eq" };
    out.value(operator, field.tag, field.bytes);
}

/// The one operator of an array filter; `None` where a value stands to be equal to.
fn operators<'a>(field: &Field<'a>) -> Result<Option<Raw<'a>>> {
    const ALLOWED: &[&[u8]] = &[
        b"$eq", b"$ne", b"$gt", b"$gte", b"$lt", b"$lte", b"$in", b"$nin", b"$all", b"$size",
        b"$exists",
    ];
    let Value::Document(raw) = field.value() else { return Ok(None) };
    if !raw.iter().any(|field| field.key.starts_with(b"$")) && !raw.is_empty() {
        return Ok(None);
    }
    let mut fields = raw.iter();
    let (Some(operator), None) = (fields.next(), fields.next()) else {
        return Err(Error::syntax("Array filter operator document must have exactly one operator"));
    };
    if !ALLOWED.contains(&operator.key) {
        let operator = String::from_utf8_lossy(operator.key);
        return Err(Error::syntax(format!("Unsupported array filter operator: {operator}")));
    }
    Ok(Some(raw))
}
