//! What a condition on a field means for an index on it.
//!
//! An index has an entry for every value that a path leads to and, where that
//! is an array, for each of its elements as well; for null where the field is
//! missing. So a document satisfies a condition only if one of its entries lies
//! in the spans given here, and where they are exact, then always.
//!
//! What a condition asks of *all* entries (`$ne`, `$nin`, `$not`, `$size`) has
//! no spans. An `$elemMatch` on documents asks nothing of the array's own
//! path: what it means for the paths inside is said in [`super::leaf`].

use crate::codec::keys;
use crate::index::{self, Index};
use crate::query::ast::{AllMember, Ast, Comparison, ElementForm, Operand, Test};
use crate::query::pattern::Pattern;
use crate::value::{Bracket, Value, key, number::Number};

use super::span::{Span, Spans};

/// More of what a pattern begins with does not make the range narrower in practice.
const PREFIX_BYTES_MAX: usize = 48;

/// How an index writes the values of its fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding<'a> {
    index: &'a Index,
    /// Whether strings have to be in the order of the query.
    ordered: bool,
}

impl<'a> Encoding<'a> {
    /// That of an index.
    pub(super) fn of(index: &'a Index) -> Self {
        Self { index, ordered: true }
    }

    /// As if its strings were in the order of any query: only to tell whether they matter.
    pub(super) fn in_any_order(index: &'a Index) -> Self {
        Self { index, ordered: false }
    }

    /// Whether a value is kept as the query compares it: where no string is in
    /// it, the order of strings does not matter.
    fn fits(self, operand: &Operand) -> bool {
        !self.ordered || operand.fits(self.index.collator())
    }
}

/// What must all hold of some entry, each of one, not all of the same one.
/// Empty where the condition cannot be asked of an index.
pub(super) fn conditions(test: &Test, encoding: Encoding<'_>) -> Vec<Spans> {
    match test {
        Test::Equal(operand) | Test::Compare(_, operand) if !encoding.fits(operand) => Vec::new(),
        Test::In(members) if !members.values().iter().all(|one| encoding.fits(one)) => Vec::new(),
        // The keys at the ends compare with every kind, and with what is missing.
        Test::Compare(_, operand)
            if matches!(operand.bracket(), Bracket::MinKey | Bracket::MaxKey) =>
        {
            Vec::new()
        }
        Test::Equal(operand) => vec![Spans::new(vec![point(operand, encoding)], true)],
        Test::Compare(comparison, operand) => vec![range(*comparison, operand, encoding)],
        Test::In(members) => {
            let values = members.values().iter().map(|operand| point(operand, encoding));
            let patterns = members.patterns().iter().map(|pattern| text(pattern, encoding));
            // A listed array is looked for among the elements, not as the whole value.
            let whole = members.values().iter().any(|operand| operand.bracket() == Bracket::Array);
            let exact = members.patterns().is_empty() && !whole;
            vec![Spans::new(values.chain(patterns).collect(), exact)]
        }
        Test::Matches(pattern) => vec![Spans::new(vec![text(pattern, encoding)], false)],
        Test::All(members) => members.iter().filter_map(|one| member(one, encoding)).collect(),
        Test::Element { form: ElementForm::Value, filter } => {
            element(filter, encoding).into_iter().collect()
        }
        Test::Element { form: ElementForm::Document, .. }
        | Test::NotEqual(_)
        | Test::Size(_)
        | Test::Exists => Vec::new(),
    }
}

/// Spans that hold all that satisfies a condition, and more.
pub(super) fn inexact(mut spans: Spans) -> Spans {
    spans.exact = false;
    spans
}

fn member(member: &AllMember, encoding: Encoding<'_>) -> Option<Spans> {
    match member {
        AllMember::Equal(operand) if !encoding.fits(operand) => None,
        AllMember::Equal(operand) => Some(Spans::new(vec![point(operand, encoding)], false)),
        AllMember::Matches(pattern) => Some(Spans::new(vec![text(pattern, encoding)], false)),
        AllMember::Element { form: ElementForm::Value, filter } => element(filter, encoding),
        AllMember::Element { form: ElementForm::Document, .. } => None,
    }
}

/// Where the entry of the element lies that satisfies all of an `$elemMatch`: here the conditions meet.
fn element(filter: &Ast, encoding: Encoding<'_>) -> Option<Spans> {
    let spans = match filter {
        Ast::And(parts) => {
            let mut spans = parts.iter().filter_map(|part| element(part, encoding));
            let first = spans.next()?;
            spans.fold(first, |all, spans| all.and(&spans))
        }
        Ast::Or(parts) => {
            let all: Option<Vec<Spans>> =
                parts.iter().map(|part| element(part, encoding)).collect();
            Spans::any(all.filter(|all| !all.is_empty())?)
        }
        Ast::Field { path, test } if path.is_element() => {
            // Operators that look into the element speak of entries that are not there.
            if matches!(test, Test::All(_) | Test::Element { .. }) {
                return None;
            }
            conditions(test, encoding).into_iter().reduce(|all, spans| all.and(&spans))?
        }
        Ast::Field { .. } | Ast::All | Ast::Nothing | Ast::Not(_) => return None,
    };
    Some(inexact(spans))
}

fn point(operand: &Operand, encoding: Encoding<'_>) -> Span {
    Span::point(index::value_key(encoding.index, &operand.value()))
}

/// Values that compare so, all of the operand's kind. NaN compares with NaN only.
fn range(comparison: Comparison, operand: &Operand, encoding: Encoding<'_>) -> Spans {
    let value = operand.value();
    if matches!(operand.bracket(), Bracket::MinKey | Bracket::MaxKey) {
        // The two ends compare with values of every kind.
        return inexact(Spans::everything());
    }
    let mut span = Span::kind(operand.bracket());
    match Number::of(&value) {
        _ if operand.bracket() == Bracket::Boolean => return Spans::new(Vec::new(), true),
        Some(number) if number.is_nan() => span.end = vec![key::AFTER_NAN],
        Some(_) => span.begin = vec![key::AFTER_NAN],
        None => {}
    }
    let (edge, exact) = index::value_edge(encoding.index, &value);
    let behind = keys::after(&edge);
    // Where the edge was cut, what begins with it may lie on either side.
    match comparison {
        Comparison::Less if exact => span.end = edge,
        Comparison::Less | Comparison::LessOrEqual => span.end = behind,
        Comparison::Greater if exact => span.begin = behind,
        Comparison::Greater | Comparison::GreaterOrEqual => span.begin = edge,
    }
    Spans::new(vec![span], exact)
}

/// Strings among which are all that the pattern matches.
fn text(pattern: &Pattern, encoding: Encoding<'_>) -> Span {
    let mut span = Span::kind(Bracket::String);
    // In a collation strings with the same beginning do not lie together.
    if encoding.index.collator().is_none()
        && let Some(prefix) = pattern.prefix()
    {
        let prefix = prefix.get(..PREFIX_BYTES_MAX).unwrap_or(prefix);
        let (key, _) = index::value_edge(encoding.index, &Value::String(prefix));
        // Without the mark of the end, which a longer string does not have here.
        let begin = key.get(..key.len().saturating_sub(2)).unwrap_or_default().to_vec();
        span.end = keys::after(&begin);
        span.begin = begin;
    }
    span
}
