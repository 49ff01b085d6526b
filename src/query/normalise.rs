//! The same filter, simpler: nested `And` and `Or` flattened, double negations
//! and constants gone.
//!
//! Nothing is concluded from values (`a > 90 and a < 25` stays): on an array
//! different elements may satisfy each side, and what a filter means must not
//! depend on how it was simplified.

use super::ast::{Ast, Test};

/// Simplifies a filter without changing what it matches.
pub(super) fn normalise(filter: Ast) -> Ast {
    match filter {
        Ast::And(parts) => join(parts, Junction::And),
        Ast::Or(parts) => join(parts, Junction::Or),
        Ast::Not(part) => match normalise(*part) {
            Ast::All => Ast::Nothing,
            Ast::Nothing => Ast::All,
            Ast::Not(inner) => *inner,
            part => Ast::Not(Box::new(part)),
        },
        Ast::Field { test: Test::In(members), .. } if members.is_empty() => Ast::Nothing,
        Ast::Field { test: Test::All(members), .. } if members.is_empty() => Ast::Nothing,
        Ast::Field { path, test: Test::Element { form, filter } } => {
            Ast::Field { path, test: Test::Element { form, filter: Box::new(normalise(*filter)) } }
        }
        Ast::All | Ast::Nothing | Ast::Field { .. } => filter,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Junction {
    And,
    Or,
}

fn join(parts: Vec<Ast>, junction: Junction) -> Ast {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match (normalise(part), junction) {
            (Ast::All, Junction::And) | (Ast::Nothing, Junction::Or) => {}
            (Ast::Nothing, Junction::And) => return Ast::Nothing,
            (Ast::All, Junction::Or) => return Ast::All,
            (Ast::And(inner), Junction::And) | (Ast::Or(inner), Junction::Or) => flat.extend(inner),
            (part, _) => flat.push(part),
        }
    }
    match (flat.len(), junction) {
        (0, Junction::And) => Ast::All,
        (0, Junction::Or) => Ast::Nothing,
        (1, _) => flat.swap_remove(0),
        (_, Junction::And) => Ast::And(flat),
        (_, Junction::Or) => Ast::Or(flat),
    }
}
