//! Asking a filter of a document: on its bytes, without decoding or allocating.

use bson::oid::ObjectId;

use super::ast::{AllMember, Ast, Comparison, ElementForm, Operand, Test};
use crate::error::{Error, Result};
use crate::value::{
    Bracket, Path, Raw, Segment, Steps, Value, Visit, number::Number, resolve_within,
};

/// After so many steps of asking documents others are let run.
const STEPS_AT_ONCE: u64 = 1_000_000;

/// Documents asked one after the other: each in a bounded number of steps, and
/// between them others are let run.
#[derive(Debug)]
pub(super) struct Asking {
    steps_max: u64,
    /// Since others were let run.
    passed: u64,
}

impl Asking {
    /// At most so many steps for each document.
    pub(super) const fn new(steps_max: u64) -> Self {
        Self { steps_max, passed: 0 }
    }

    /// Asks one. What takes too long is refused. Gives as well whether others were let run.
    pub(super) async fn ask<T>(
        &mut self,
        id: &ObjectId,
        ask: impl FnOnce(&Steps) -> T,
    ) -> Result<(T, bool)> {
        let steps_max = self.steps_max;
        let steps = Steps::new(steps_max);
        let answer = ask(&steps);
        if steps.are_over() {
            return Err(Error::Syntax(format!(
                "the filter takes more than {steps_max} steps on document {id}. Hint: ask fewer conditions of long arrays"
            )));
        }
        self.passed += steps_max - steps.left();
        let pause = self.passed >= STEPS_AT_ONCE;
        if pause {
            self.passed = 0;
            tokio::task::yield_now().await;
        }
        Ok((answer, pause))
    }
}

/// Whether the document matches, however long it takes: for filters of our own.
pub fn matches(filter: &Ast, document: Raw<'_>) -> bool {
    matches_within(filter, document, &Steps::endless())
}

/// Whether the document matches, asked in a number of steps. When they are over
/// afterwards the answer means nothing.
pub fn matches_within(filter: &Ast, document: Raw<'_>, steps: &Steps) -> bool {
    value_matches(filter, Value::Document(document), steps)
}

/// The position of the first element of the array at `path` that makes the
/// filter's condition on that array true; for positional projection. `None`
/// when the filter does not mention the array or matches it otherwise, and when the steps are over.
pub fn first_element(filter: &Ast, document: Raw<'_>, path: &Path, steps: &Steps) -> Option<usize> {
    if !steps.pass() {
        return None;
    }
    match filter {
        Ast::And(parts) | Ast::Or(parts) => {
            parts.iter().find_map(|part| first_element(part, document, path, steps))
        }
        Ast::Field { path: tested, test } => position(tested, test, document, path, steps),
        Ast::All | Ast::Nothing | Ast::Not(_) => None,
    }
}

fn position(
    tested: &Path,
    test: &Test,
    document: Raw<'_>,
    path: &Path,
    steps: &Steps,
) -> Option<usize> {
    let rest = tested.segments().strip_prefix(path.segments())?;
    let mut found = None;
    let root = Value::Document(document);
    let _done = resolve_within(root, path.segments(), false, steps, &mut |value, _| {
        if let Some(Value::Array(array)) = value {
            found = array.values().take_while(|_| steps.pass()).position(|element| match test {
                Test::Element { form, filter } if rest.is_empty() => {
                    element_matches(*form, filter, element, steps)
                }
                _ => {
                    let reach = Reach { elements: !rest.is_empty(), spread: true };
                    any(element, rest, steps, &mut |value, _| holds(test, value, reach, steps))
                }
            });
        }
        Visit::Break(())
    });
    found
}

fn value_matches(filter: &Ast, value: Value<'_>, steps: &Steps) -> bool {
    match filter {
        Ast::All => true,
        Ast::Nothing => false,
        Ast::And(parts) => parts.iter().all(|part| value_matches(part, value, steps)),
        Ast::Or(parts) => parts.iter().any(|part| value_matches(part, value, steps)),
        Ast::Not(part) => !value_matches(part, value, steps),
        Ast::Field { path, test } => field_matches(path, test, value, steps),
    }
}

fn field_matches(path: &Path, test: &Test, value: Value<'_>, steps: &Steps) -> bool {
    // A condition on the element itself does not look into it.
    let elements = !path.is_element();
    let segments = path.segments();
    match test {
        Test::NotEqual(operand) => not_equal(operand, value, path, steps),
        Test::All(members) => {
            !members.is_empty()
                && members.iter().all(|member| {
                    any(value, segments, steps, &mut |value, spread| {
                        has_member(member, value, spread, steps)
                    })
                })
        }
        _ => any(value, segments, steps, &mut |value, spread| {
            holds(test, value, Reach { elements, spread }, steps)
        }),
    }
}

/// Whether any value that the path leads to satisfies the test.
fn any<'a>(
    value: Value<'a>,
    segments: &[Segment],
    steps: &Steps,
    test: &mut dyn FnMut(Option<Value<'a>>, bool) -> bool,
) -> bool {
    lead(value, segments, steps, &mut |value, spread| {
        if test(value, spread) { Visit::Break(()) } else { Visit::Continue(()) }
    })
    .is_break()
}

/// Where a path leads from a document, or from an element of an array that a
/// filter of fields is asked of: one that is an array itself has fields by position only.
fn lead<'a>(
    value: Value<'a>,
    segments: &[Segment],
    steps: &Steps,
    visit: &mut dyn FnMut(Option<Value<'a>>, bool) -> Visit,
) -> Visit {
    if !steps.pass() {
        return Visit::Break(());
    }
    match (value, segments.first()) {
        (Value::Array(_), Some(first)) if first.index.is_none() => visit(None, false),
        _ => resolve_within(value, segments, false, steps, visit),
    }
}

/// Whether an element of an array satisfies the test.
fn any_element<'a>(array: Raw<'a>, steps: &Steps, mut test: impl FnMut(Value<'a>) -> bool) -> bool {
    array.values().any(|element| !steps.pass() || test(element))
}

/// How a value was come by and how far a test may look.
#[derive(Clone, Copy)]
struct Reach {
    /// An array's elements count as well.
    elements: bool,
    /// An array was spread out on the way.
    spread: bool,
}

/// The tests that one value alone decides.
fn holds(test: &Test, value: Option<Value<'_>>, reach: Reach, steps: &Steps) -> bool {
    let Some(value) = value else {
        return match test {
            Test::Equal(operand) => operand.bracket() == Bracket::Null,
            Test::In(members) => members.has_null(),
            Test::Compare(comparison, operand) => compares(*comparison, &Value::Null, operand),
            _ => false,
        };
    };
    match test {
        Test::Equal(operand) => one_or_element(value, reach, steps, |value| operand.equals(value)),
        Test::NotEqual(operand) => {
            !one_or_element(value, reach, steps, |value| operand.equals(value))
        }
        Test::Compare(comparison, operand) => {
            one_or_element(value, reach, steps, |value| compares(*comparison, value, operand))
        }
        // Of an array the elements are looked up, never the array as a whole.
        Test::In(members) => match value {
            Value::Array(array) if reach.elements => {
                any_element(array, steps, |element| members.contains(&element))
            }
            _ => members.contains(&value),
        },
        Test::Matches(pattern) => {
            one_or_element(value, reach, steps, |value| pattern.accepts(value))
        }
        Test::Size(size) => match value {
            Value::Array(array) => {
                let count = array.iter().take_while(|_| steps.pass()).count();
                u64::try_from(count) == Ok(*size)
            }
            _ => false,
        },
        Test::Exists => true,
        Test::Element { form, filter } => match value {
            Value::Array(array) => {
                any_element(array, steps, |element| element_matches(*form, filter, element, steps))
            }
            _ => false,
        },
        Test::All(members) => {
            !members.is_empty()
                && members.iter().all(|member| has_member(member, Some(value), reach.spread, steps))
        }
    }
}

fn one_or_element(
    value: Value<'_>,
    reach: Reach,
    steps: &Steps,
    test: impl Fn(&Value<'_>) -> bool,
) -> bool {
    if test(&value) {
        return true;
    }
    match value {
        Value::Array(array) if reach.elements => {
            any_element(array, steps, |element| test(&element))
        }
        _ => false,
    }
}

/// Only within one bracket, booleans never, NaN only with itself and only where
/// equal is enough. The two keys at the ends compare with everything.
fn compares(comparison: Comparison, value: &Value<'_>, operand: &Operand) -> bool {
    let bracket = Bracket::of(value);
    let other = operand.bracket();
    if bracket != other {
        let end = matches!(other, Bracket::MinKey | Bracket::MaxKey);
        return end && comparison.accepts(bracket.cmp(&other));
    }
    if bracket == Bracket::Boolean {
        return false;
    }
    if let (Some(left), Some(right)) = (Number::of(value), Number::of(&operand.value()))
        && left.is_nan() != right.is_nan()
    {
        return false;
    }
    comparison.accepts(operand.order_of(value))
}

/// Nothing there is equal. Where exactly one scalar stands, it must also be of the operand's bracket, or null.
fn not_equal(operand: &Operand, value: Value<'_>, path: &Path, steps: &Steps) -> bool {
    let elements = !path.is_element();
    let bracket = operand.bracket();
    lead(value, path.segments(), steps, &mut |value, spread| {
        let Some(value) = value else {
            return if bracket == Bracket::Null { Visit::Break(()) } else { Visit::Continue(()) };
        };
        let reach = Reach { elements, spread };
        if one_or_element(value, reach, steps, |value| operand.equals(value)) {
            return Visit::Break(());
        }
        let other = Bracket::of(&value);
        let stranger = !spread
            && other != bracket
            && bracket != Bracket::Null
            && !matches!(other, Bracket::Null | Bracket::Array);
        if stranger { Visit::Break(()) } else { Visit::Continue(()) }
    })
    .is_continue()
}

/// Whether an array (or what was collected from one) has this member of an `$all`.
fn has_member(member: &AllMember, value: Option<Value<'_>>, spread: bool, steps: &Steps) -> bool {
    let array = match value {
        Some(Value::Array(array)) => Some(array),
        Some(_) if spread => None,
        _ => return false,
    };
    let Some(value) = value else { return false };
    let reach = Reach { elements: true, spread };
    match member {
        AllMember::Equal(operand) => {
            one_or_element(value, reach, steps, |value| operand.equals(value))
        }
        AllMember::Matches(pattern) => {
            one_or_element(value, reach, steps, |value| pattern.accepts(value))
        }
        AllMember::Element { form, filter } => array.is_some_and(|array| {
            any_element(array, steps, |element| element_matches(*form, filter, element, steps))
        }),
    }
}

/// Whether an element of an array satisfies the filter of an `$elemMatch`. When the
/// steps are over afterwards the answer means nothing.
pub fn element_matches(form: ElementForm, filter: &Ast, element: Value<'_>, steps: &Steps) -> bool {
    let fits =
        form == ElementForm::Value || matches!(element, Value::Document(_) | Value::Array(_));
    fits && value_matches(filter, element, steps)
}
