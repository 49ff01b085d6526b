use super::operand::Operand;
use super::tree::{Child, Leaf, Node, Operation};
use super::{Collated, Update, apply};
use crate::document::Document;
use crate::error::Result;
use crate::query::{Ast, Test, Under};

pub(super) fn new_document(collated: &Collated<'_>, filter: &Ast) -> Result<Document> {
    let mut root = Node::default();
    equalities(filter, &mut root)?;
    let nothing = crate::value::Raw::EMPTY;
    let base = empty_like(collated.update);
    let base = apply::apply_tree(&base.within(None), &root, Vec::new(), nothing)?;
    apply::apply_tree(collated, &collated.update.root, Vec::new(), base.raw())
}

fn empty_like(update: &Update) -> Update {
    Update {
        root: Node::default(),
        conditions: Vec::new(),
        under: Under::default(),
        first: Vec::new(),
        sources: Vec::new(),
        upsert: true,
        limits: update.limits,
    }
}

/// What a filter says that a document must be equal to.
fn equalities(filter: &Ast, root: &mut Node) -> Result<()> {
    match filter {
        Ast::And(parts) => parts.iter().try_for_each(|part| equalities(part, root)),
        Ast::Field { path, test: Test::Equal(operand) } => {
            let names: Vec<Child> =
                path.segments().iter().map(|segment| Child::Name(segment.name.clone())).collect();
            let leaf = Leaf {
                operator: "the filter's",
                path: path.text().into(),
                operation: Operation::Set(Operand::copy(&operand.value())),
            };
            root.insert(&names, leaf)
        }
        Ast::Field { .. } | Ast::Or(_) | Ast::Not(_) | Ast::All | Ast::Nothing => Ok(()),
    }
}
