//! Filters: from text to an answer.
//!
//! ```text
//! JSON or BSON --parse--> Ast --normalise--> Ast --plan--> Plan --execute--> batch, resume key
//! ```
//!
//! A filter is parsed once per command and then asked of raw BSON: no document
//! is decoded. What a filter means does not depend on how it is run: a plan
//! only narrows down which documents are asked.
//!
//! # Invariants
//!
//! * [`matches()`] neither allocates nor fails, whatever the filter and the document.
//! * Depth, number of conditions and cost of patterns of a filter are bounded by [`Limits`].
//!
//! Not here: where documents lie (`document`), replies (`command`).

mod ast;
mod collate;
mod cursor;
pub mod deleted;
mod evaluate;
mod execute;
mod explain;
mod normalise;
mod parse;
mod pattern;
mod plan;
mod projection;
mod sort;

pub use crate::value::{Path, Segment, Steps, Visit, resolve};
pub use ast::{AllMember, Ast, Comparison, ElementForm, Members, Operand, Test};
pub use collate::{Collate, Under};
pub use cursor::{Asked, QueryCursor, filter_text};
pub use evaluate::{element_matches, first_element, matches, matches_within};
pub use execute::{Batch, Budget, Count, Place, Position, Purpose, Query, count, run};
pub use explain::{Explained, explain};
pub use parse::{ParseError, parse};
pub use pattern::Pattern;
pub use plan::cache::{Memory, Remembered};
pub use plan::{Access, Choice, Figures, Leaf, Plan, Rejected, Route, Routed, Shares, Span, Spans};
pub use projection::{Projection, ProjectionError};
pub use sort::{Direction, Order, Sort};

/// What a filter may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What its text may be; depth included.
    pub document: crate::document::Limits,
    /// Conditions and logical operators together. Members of lists are not counted.
    pub conditions_max: usize,
    /// Regular expressions.
    pub patterns_max: usize,
    /// Bytes that one compiled regular expression may take.
    pub pattern_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document: crate::document::Limits::default(),
            conditions_max: 10_000,
            patterns_max: 64,
            pattern_bytes_max: 1 << 20,
        }
    }
}

#[cfg(test)]
mod tests;
