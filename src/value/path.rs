//! Dotted paths and where they lead in a document.

use std::cell::Cell;
use std::ops::ControlFlow;

use super::{Raw, Value};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The name of a field.
    pub name: Box<str>,
    /// The position it means in an array, when the name is a number.
    pub index: Option<usize>,
}

/// A dotted path. The empty one means the value itself, which is what the
/// operators of an `$elemMatch` on scalars ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    text: Box<str>,
    segments: Box<[Segment]>,
}

impl Path {
    /// Splits at the dots. Every text is a path.
    pub fn new(text: &str) -> Self {
        let segment = |name: &str| Segment { name: name.into(), index: index(name) };
        Self { text: text.into(), segments: text.split('.').map(segment).collect() }
    }

    /// The path without a step.
    pub fn element() -> Self {
        Self { text: "".into(), segments: Box::new([]) }
    }

    /// Whether this is the value itself.
    pub fn is_element(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether this is the document's own `_id`.
    pub fn is_id(&self) -> bool {
        &*self.text == "_id"
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The steps.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// `0`, `7`, `12`, but not `07` or `+7`.
fn index(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (name == "0" || !name.starts_with('0'))).then(|| name.parse().ok()).flatten()
}

/// What a visit gives back: go on, or stop because the answer is known.
pub type Visit = ControlFlow<()>;

/// Counts the fields and elements that are passed on the way to an answer, up
/// to a bound. Whoever has come to it is to stop: the answer is not known then.
#[derive(Debug)]
pub struct Steps {
    left: Cell<u64>,
}

impl Steps {
    /// So many.
    pub const fn new(steps: u64) -> Self {
        Self { left: Cell::new(steps) }
    }

    /// Where what is passed is bounded by something else.
    pub const fn endless() -> Self {
        Self::new(u64::MAX)
    }

    /// Takes one; gives whether there was one.
    pub fn pass(&self) -> bool {
        self.take(1)
    }

    /// Takes so many; gives whether there were so many.
    pub fn take(&self, steps: u64) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(steps));
        left >= steps
    }

    /// Whether more were needed than there are.
    pub fn are_over(&self) -> bool {
        self.left.get() == 0
    }

    /// How many are left.
    pub fn left(&self) -> u64 {
        self.left.get()
    }
}

/// Follows a path from a value and visits what stands at its end, with
/// whether an array was spread out on the way.
///
/// A number steps into an array by position; any other name is looked up in
/// each of its elements that is a document (other elements are skipped).
/// Missing fields, positions out of range and steps into a scalar visit
/// `None`. Stops with the visitor.
pub fn resolve<'a>(
    value: Value<'a>,
    segments: &[Segment],
    spread: bool,
    visit: &mut dyn FnMut(Option<Value<'a>>, bool) -> Visit,
) -> Visit {
    resolve_within(value, segments, spread, &Steps::endless(), visit)
}

/// [`resolve`] within a number of steps; it may break off where they are over.
pub fn resolve_within<'a>(
    value: Value<'a>,
    segments: &[Segment],
    spread: bool,
    steps: &Steps,
    visit: &mut dyn FnMut(Option<Value<'a>>, bool) -> Visit,
) -> Visit {
    let Some((segment, rest)) = segments.split_first() else {
        return visit(Some(value), spread);
    };
    match value {
        Value::Document(raw) => step(raw, segment, rest, spread, steps, visit),
        Value::Array(raw) => {
            if let Some(index) = segment.index {
                let mut passed = raw.values().take_while(|_| steps.pass());
                return match passed.nth(index) {
                    Some(element) => resolve_within(element, rest, spread, steps, visit),
                    None => visit(None, spread),
                };
            }
            for element in raw.values().take_while(|_| steps.pass()) {
                if let Value::Document(raw) = element {
                    step(raw, segment, rest, true, steps, visit)?;
                }
            }
            Visit::Continue(())
        }
        _ => visit(None, spread),
    }
}

fn step<'a>(
    raw: Raw<'a>,
    segment: &Segment,
    rest: &[Segment],
    spread: bool,
    steps: &Steps,
    visit: &mut dyn FnMut(Option<Value<'a>>, bool) -> Visit,
) -> Visit {
    let mut passed = raw.iter().take_while(|_| steps.pass());
    match passed.find(|field| field.key == segment.name.as_bytes()) {
        Some(field) => resolve_within(field.value(), rest, spread, steps, visit),
        None => visit(None, spread),
    }
}
