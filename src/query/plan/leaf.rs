//! The part of one index in which all documents lie that may match.

use crate::index::Index;
use crate::query::ast::{AllMember, Ast, ElementForm, Test};
use crate::value::{Path, Segment};

use super::condition::{Encoding, conditions, inexact};
use super::figures::Shares;
use super::span::Spans;
use super::{Known, Leaf};

/// Combinations of values of the fixed fields, each of which is a read of its own.
const COMBINATIONS_MAX: usize = 128;

/// What a filter asks of one path, for one index.
struct Asked {
    /// Which part of the filter asks it.
    part: usize,
    spans: Spans,
    /// The part says nothing else.
    alone: bool,
}

/// What the parts of a filter, which must all hold, ask of a field of an index.
fn asked(parts: &[&Ast], path: &Path, encoding: Encoding<'_>) -> Vec<Asked> {
    let mut all = Vec::new();
    for (part, filter) in parts.iter().enumerate() {
        let spans = of_part(filter, path.segments(), encoding);
        let alone = spans.len() == 1;
        all.extend(spans.into_iter().map(|spans| Asked { part, spans, alone }));
    }
    all
}

/// What one part asks of a path. An `$or` over one path is one condition.
fn of_part(filter: &Ast, path: &[Segment], encoding: Encoding<'_>) -> Vec<Spans> {
    match filter {
        Ast::Field { path: asked, test } if asked.segments() == path => conditions(test, encoding),
        Ast::Field { path: asked, test } if !asked.is_element() => {
            match path.strip_prefix(asked.segments()) {
                // Of an element that is an array itself, fields are asked by position,
                // but the index looks at a position of the array around it.
                Some(rest) if rest.first().is_some_and(|step| step.index.is_none()) => {
                    of_elements(test, rest, encoding)
                }
                _ => Vec::new(),
            }
        }
        Ast::Or(branches) => {
            let mut all = Vec::with_capacity(branches.len());
            for branch in branches {
                let mut spans = of_part(branch, path, encoding);
                if spans.len() != 1 {
                    return Vec::new();
                }
                all.append(&mut spans);
            }
            if all.is_empty() { all } else { vec![Spans::any(all)] }
        }
        _ => Vec::new(),
    }
}

/// What an `$elemMatch` on documents asks of a path inside its array. The index
/// has an entry for what that path leads to in each element, so each condition has one
/// in its spans. They are never taken together: the values of the entry may be those of an
/// array inside the element, of which each condition takes another.
fn of_elements(test: &Test, path: &[Segment], encoding: Encoding<'_>) -> Vec<Spans> {
    match test {
        Test::Element { form: ElementForm::Document, filter } => within(filter, path, encoding),
        Test::All(members) => {
            let filters = members.iter().filter_map(|member| match member {
                AllMember::Element { form: ElementForm::Document, filter } => Some(filter),
                _ => None,
            });
            filters.flat_map(|filter| within(filter, path, encoding)).collect()
        }
        _ => Vec::new(),
    }
}

fn within(filter: &Ast, path: &[Segment], encoding: Encoding<'_>) -> Vec<Spans> {
    let parts = match filter {
        Ast::And(parts) => parts.as_slice(),
        part => std::slice::from_ref(part),
    };
    // An element decides, not the document: it is asked the whole again. An element that
    // is an array itself has no field of a name, and so satisfies what is asked of a missing
    // one, but has no entry here: an index cannot answer that.
    let asked = parts.iter().flat_map(|part| of_part(part, path, encoding));
    asked.filter(|spans| !spans.hold_missing()).map(inexact).collect()
}

/// Whether an index leads nowhere only because its strings are in another order.
pub(super) fn mismatched(parts: &[&Ast], index: &Index) -> bool {
    let Some((_, path)) = index.field(0) else { return false };
    asked(parts, path, Encoding::of(index)).is_empty()
        && !asked(parts, path, Encoding::in_any_order(index)).is_empty()
}

/// Whether an index leads anywhere for these parts, and whether what it has
/// seen of arrays matters then.
pub(super) fn interest(parts: &[&Ast], index: &Index) -> Interest {
    let mut interest = Interest { starts: false, marks: false };
    for (position, (_, path)) in index.fields().enumerate() {
        let asked = asked(parts, path, Encoding::of(index));
        interest.starts |= position == 0 && !asked.is_empty();
        interest.marks |= asked.len() > 1 || asked.iter().any(|one| !one.spans.are_points());
        if asked.is_empty() {
            // Behind a field that is left open the entries are in no useful order.
            interest.marks |= position > 0;
            break;
        }
    }
    interest
}

/// See [`interest`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Interest {
    pub starts: bool,
    pub marks: bool,
}

/// The part of an index for these parts of a filter, as narrow as it gets. With
/// `open_at`, the field at that position is not fixed, because it is to give the order.
pub(super) fn leaf(
    parts: &[&Ast],
    known: &Known<'_>,
    at: usize,
    open_at: Option<usize>,
) -> Option<Leaf> {
    let index = known.indexes.get(at)?;
    let shares = known.shares(at);
    let encoding = Encoding::of(index);
    let count = index.fields().len();
    let (mut fixed, mut then, mut settled) = (Vec::new(), None, Vec::new());
    let (mut share, mut several, mut combinations) = (1.0, false, 1_usize);
    for (position, (field, path)) in index.fields().enumerate() {
        let arrays = known.has_array(at, position);
        let asked = asked(parts, path, encoding);
        let Some((spans, mut parts)) = joined(asked, arrays, shares, position) else {
            // Here the order begins: every value.
            if open_at == Some(position) {
                then = Some(Spans::everything());
                several |= arrays;
            }
            break;
        };
        settled.append(&mut parts);
        share *= shares.share(position, &spans);
        let next = combinations.saturating_mul(spans.list().len());
        let spans = if field.descending { spans.inverted() } else { spans };
        if spans.are_points() && next <= COMBINATIONS_MAX && open_at != Some(position) {
            // Several of its values may be asked for.
            several |= arrays && spans.list().len() > 1;
            combinations = next;
            fixed.push(spans);
        } else {
            several |= arrays;
            then = Some(spans);
            break;
        }
    }
    if fixed.is_empty() && then.is_none() {
        return None;
    }
    let used = fixed.len() + usize::from(then.is_some());
    // Fields behind those that are used may have several values each.
    several |= (used..count).any(|position| known.has_array(at, position));
    let mut rows = shares.entries() * share;
    if index.is_unique() && fixed.len() == count {
        rows = rows.min(as_rows(combinations));
    }
    settled.sort_unstable();
    settled.dedup();
    let whole = used == count;
    Some(Leaf { index: at, fixed, then, whole, settled, branch: None, several, rows })
}

/// What is left of a field by all that is asked of it, and the parts that this settles.
///
/// Only where every document has one entry must that one satisfy everything;
/// where there are arrays, each condition may be met by another element, so
/// only the narrowest is taken.
fn joined(
    asked: Vec<Asked>,
    arrays: bool,
    shares: &Shares,
    position: usize,
) -> Option<(Spans, Vec<usize>)> {
    let settles = |one: &Asked| (one.alone && one.spans.exact).then_some(one.part);
    if arrays {
        let narrowest = asked.into_iter().min_by(|left, right| {
            shares.share(position, &left.spans).total_cmp(&shares.share(position, &right.spans))
        })?;
        let settled = settles(&narrowest).into_iter().collect();
        return Some((narrowest.spans, settled));
    }
    let settled = asked.iter().filter_map(settles).collect();
    let spans = asked.into_iter().map(|one| one.spans).reduce(|all, one| all.and(&one))?;
    Some((spans, settled))
}

#[allow(clippy::cast_precision_loss, clippy::as_conversions, reason = "an estimate")]
fn as_rows(count: usize) -> f64 {
    count as f64
}
