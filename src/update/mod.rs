//! Updates: from text to a changed document.
//!
//! ```text
//! JSON or BSON --parse--> Update --apply--> the new document, or nothing changed
//!                            |
//!                            +--new_document--> what an upsert inserts
//! ```
//!
//! An update is parsed once per command into a tree of its paths and then
//! applied to raw BSON in one pass: what no path leads to is copied as it is,
//! and fields keep their order. New fields come last, in the order in which the
//! update names them.
//!
//! # Invariants
//!
//! * No two operators change the same place: that is an error, never an order.
//! * `_id` is never changed.
//! * A value that an operator compares is compared as the search compares it.
//! * What comes out is valid BSON within [`crate::document::Limits`], and nothing on the
//!   way there is larger than that by more than one update.
//!
//! Not here: which documents are changed (`query`), writing them (`document`),
//! batches and cursors (`command`).

mod apply;
mod arithmetic;
mod array;
mod condition;
mod operand;
mod parse;
mod path;
mod tree;
mod upsert;
pub mod weight;

use std::sync::Arc;

use bytes::Bytes;

use condition::Condition;
use tree::Node;

use crate::document::{Document, Limits as DocumentLimits};
use crate::error::Result;
use crate::query::{self, Ast, Path, Under};
use crate::value::Collator;

/// Most paths of one update.
pub const PATHS_MAX: usize = 1_000;
/// Most conditions on elements (`$pull`, array filters) of one update.
pub const CONDITIONS_MAX: usize = 64;
/// How many elements an array may be filled up with to reach a position.
pub const FILLED_MAX: usize = 10_000;

/// What UPDATE is to do with each document.
#[derive(Debug)]
pub struct Update {
    root: Node,
    /// What `$[id]` and `$pull` ask of elements.
    conditions: Vec<Condition>,
    under: Under<Vec<Condition>>,
    /// The arrays of which `$` means one element.
    first: Vec<Path>,
    /// Where each `$rename` takes its value from.
    sources: Vec<Path>,
    upsert: bool,
    limits: DocumentLimits,
}

impl Update {
    /// Parses an update, JSON or BSON (told apart by looking). `limits.document`
    /// are also those of what comes out, but for its size, which is `bytes_max`.
    ///
    /// # Errors
    /// Those of contract and manual; the message names operator and path.
    pub fn parse(input: &Bytes, limits: &query::Limits, bytes_max: usize) -> Result<Self> {
        parse::parse(input, limits, bytes_max)
    }

    /// Whether a document is inserted when none matches.
    pub const fn is_upsert(&self) -> bool {
        self.upsert
    }

    /// Refuses a `$` on an array that the filter does not speak of.
    ///
    /// # Errors
    /// `Positional operator $ requires array field '...' in query`.
    pub fn expect_filter(&self, filter: &Ast) -> Result<()> {
        apply::expect_filter(self, filter)
    }

    /// The same under a collation, by which operators compare strings; `None`: by their bytes.
    pub fn within<'a>(&'a self, collator: Option<&'a Collator>) -> Collated<'a> {
        let collated = |collator: &Collator| {
            let all = self.conditions.iter().map(|condition| condition.collated(collator));
            all.collect::<Vec<_>>()
        };
        let own = collator.map(|collator| self.under.get(collator, || collated(collator)));
        Collated { update: self, own, collator }
    }
}

/// An update and the collation in force, that of the search: `$min`, `$max`, `$addToSet`,
/// `$pull`, `$sort` of a `$push` and array filters go by it.
#[derive(Debug)]
pub struct Collated<'a> {
    update: &'a Update,
    /// The conditions of the update under the collation, where there is one.
    own: Option<Arc<Vec<Condition>>>,
    collator: Option<&'a Collator>,
}

impl Collated<'_> {
    fn condition(&self, at: usize) -> Option<&Condition> {
        self.own.as_deref().unwrap_or(&self.update.conditions).get(at)
    }

    /// The changed document; `None` when nothing changes. `filter` is the one
    /// that found the document: `$` means the element that it matched.
    ///
    /// # Errors
    /// An operator that does not fit what is there; a document above its limits.
    pub fn apply(&self, filter: &Ast, document: &Document) -> Result<Option<Document>> {
        apply::apply(self, filter, document)
    }

    /// What an upsert inserts: the equality conditions of the filter, then the
    /// update. Its `_id`, if it has one, is whatever the filter says.
    ///
    /// # Errors
    /// As [`Collated::apply`]; a filter that says two things of one field.
    pub fn new_document(&self, filter: &Ast) -> Result<Document> {
        upsert::new_document(self, filter)
    }
}

#[cfg(test)]
mod tests;
