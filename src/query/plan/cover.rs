//! Whether entries alone answer a query.
//!
//! An entry holds the values of its fields as the document has them, unless they
//! are long or there is an array. So what is asked and given must not go beyond them; an entry
//! that does not hold them is no obstacle: its document is read.

use crate::index::Index;
use crate::query::ast::Ast;
use crate::value::Path;

use super::choose::Question;

/// The fields of an index, by position, that make up all that is needed of each
/// document, besides its id, once these parts of the filter are settled. `None` when more is needed.
pub(super) fn cover(
    question: &Question<'_>,
    index: &Index,
    settled: &[usize],
) -> Option<Vec<usize>> {
    let mut needed: Vec<&Path> = question.fields?.iter().collect();
    match question.exact {
        Some(order) => needed.extend(order.fields.iter().map(|sort| &sort.path)),
        None => needed.extend(question.order.map(|sort| &sort.path)),
    }
    for (at, part) in question.parts.iter().enumerate() {
        if !settled.contains(&at) {
            asked(part, &mut needed);
        }
    }
    let mut cover = Vec::new();
    for path in needed {
        if path.segments().first().is_some_and(|first| &*first.name == "_id") {
            continue;
        }
        let holds = |field: &Path| {
            // A number may be a position in an array, of which an entry has no more than this element.
            path.segments().starts_with(field.segments())
                && field.segments().iter().all(|step| step.index.is_none())
        };
        let holding = index.fields().enumerate().filter(|(_, (_, field))| holds(field));
        // The shortest: what it holds has the others in it.
        let (position, _) = holding.min_by_key(|(_, (_, field))| field.segments().len())?;
        if !cover.contains(&position) {
            cover.push(position);
        }
    }
    Some(cover)
}

/// The paths that a filter asks, those inside an `$elemMatch` aside: they lie below its own.
fn asked<'a>(filter: &'a Ast, paths: &mut Vec<&'a Path>) {
    match filter {
        Ast::All | Ast::Nothing => {}
        Ast::And(parts) | Ast::Or(parts) => parts.iter().for_each(|part| asked(part, paths)),
        Ast::Not(part) => asked(part, paths),
        Ast::Field { path, .. } => paths.push(path),
    }
}
