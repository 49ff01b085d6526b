//! From a normalised filter to a way to the documents.
//!
//! ```text
//!   filter ──► Plan: what `_id` alone admits (ids)          once, when it is parsed
//!          ──► Routed: by which indexes (choose)            in each transaction, by what is true there
//! ```
//!
//! A [`Plan`] is made without knowing the bucket. Which indexes there are, what
//! they have seen of arrays and how their values are spread is known only in the
//! transaction that reads them, so the route is chosen there, for every batch
//! anew. The choice of a route can be remembered by the shape of the filter ([`cache`]);
//! its bounds are always made of the values that are asked for.
//!
//! # Invariants
//!
//! * Whatever the route, the documents are the same: a route leads to all that
//!   may match, and each is asked what the route has not settled.
//! * Conditions are intersected on one entry only where no document has two
//!   (see [`crate::index`]).
//! * Every route but an ordered one gives documents in the order of their ids, and
//!   an ordered one in an [`Order`] of fields and then of ids. So where a batch ends is a
//!   place in one of these two, and the next may take another route that keeps to it.
//!
//! Not here: reading (`execute`).

pub(super) mod cache;
mod choose;
mod condition;
mod cover;
pub(super) mod figures;
mod ids;
mod leaf;
mod span;

use std::sync::Arc;

use crate::index::{Index, Marks};

use super::sort::Order;

pub(super) use choose::{Notes, Question, choose, follow, marks_wanted};
pub use figures::{Figures, Shares};
pub use ids::{Access, Plan};
pub use span::{Span, Spans};
/// A part of one index: equality on its first fields, then spans of the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// Which of the bucket's ready indexes, by its place among them.
    pub index: usize,
    /// For each of the first fields the values that it may have.
    pub fixed: Vec<Spans>,
    /// What of the next field; `None` where that is not restricted or all are fixed.
    pub then: Option<Spans>,
    /// The index has no further field.
    pub whole: bool,
    /// The parts of the filter that need not be asked any more.
    pub settled: Vec<usize>,
    /// In a union, the part of the filter that is an `$or`, and the branch of it that this is for.
    pub branch: Option<(usize, usize)>,
    /// A document may have several entries in it.
    pub several: bool,
    /// Entries in it, as far as can be told.
    pub rows: f64,
}

/// Some of the entries of an index: what their keys begin with, and ranges of what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub prefix: Vec<u8>,
    /// In order and disjoint.
    pub spans: Vec<Span>,
}

impl Leaf {
    /// Whether nothing can be in it.
    pub fn is_empty(&self) -> bool {
        self.fixed.iter().chain(&self.then).any(Spans::is_empty)
    }

    /// Whether each of its stretches is in the order of ids.
    pub fn in_order_of_ids(&self) -> bool {
        self.then.is_none() && self.whole
    }

    /// The values of the fixed fields in all combinations, each with the spans behind it.
    pub fn stretches(&self) -> Vec<Stretch> {
        let mut prefixes = vec![Vec::new()];
        for spans in &self.fixed {
            let with = |prefix: &Vec<u8>| -> Vec<Vec<u8>> {
                spans.list().iter().map(|span| [&prefix[..], &span.begin].concat()).collect()
            };
            prefixes = prefixes.iter().flat_map(with).collect();
        }
        let spans = match &self.then {
            Some(spans) => spans.list().to_vec(),
            None => vec![Span::everything()],
        };
        prefixes.into_iter().map(|prefix| Stretch { prefix, spans: spans.clone() }).collect()
    }

    /// How many stretches there are.
    pub fn combinations(&self) -> usize {
        self.fixed.iter().map(|spans| spans.list().len()).product()
    }
}

/// A way to the documents that may match.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// There are none.
    Nothing,
    /// All, or those with the ids that the filter admits.
    Whole,
    /// Those in any of these groups; in a group, those in all of its leaves. In the order of ids.
    Ids(Vec<Vec<Leaf>>),
    /// Those in the leaf, in the order of the fields behind the fixed ones.
    Ordered(Leaf, Order),
}

impl Route {
    /// The part of an index that it reads, where that is one.
    pub fn only_leaf(&self) -> Option<&Leaf> {
        let mut leaves = self.leaves();
        leaves.next().filter(|_| leaves.next().is_none())
    }

    /// The parts of indexes that it reads.
    pub fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        let (groups, leaf) = match self {
            Self::Nothing | Self::Whole => (&[][..], None),
            Self::Ids(groups) => (&groups[..], None),
            Self::Ordered(leaf, _) => (&[][..], Some(leaf)),
        };
        groups.iter().flatten().chain(leaf)
    }
}

/// What of a route depends on the shape of the filter only; indexes by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Nothing,
    Whole,
    Single(u32),
    Ordered(u32),
    Implied(u32),
    Both(u32, u32),
    /// Of the part of the filter at this place.
    Union(usize),
}

impl Choice {
    /// Whether it brings an order along that nobody asked for.
    pub fn is_implied(&self) -> bool {
        matches!(self, Self::Implied(_))
    }

    /// For people: which index.
    fn name(&self, known: &Known<'_>) -> String {
        let name = |id: &u32| {
            let mut indexes = known.indexes.iter();
            indexes
                .find(|index| index.id() == *id)
                .map_or_else(String::new, |index| index.name().to_owned())
        };
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Whole => "primary-index".to_owned(),
            Self::Single(id) | Self::Implied(id) => name(id),
            Self::Ordered(id) => format!("{} in its order", name(id)),
            Self::Both(first, second) => format!("{} and {}", name(first), name(second)),
            Self::Union(_) => "a union of indexes".to_owned(),
        }
    }
}

/// A way that was not taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    pub index: String,
    pub reason: String,
    pub cost: Option<f64>,
    /// Its strings are in another order than those of the query.
    pub collation: bool,
}

/// The way that is taken.
#[derive(Clone, Debug)]
pub struct Routed {
    pub route: Route,
    pub choice: Choice,
    /// The parts of the filter that each document is still asked, by their places.
    pub residual: Vec<usize>,
    /// The fields of the one index that is read which make up all that is needed of
    /// documents: where an entry holds them, its document is not read.
    pub cover: Option<Vec<usize>>,
    pub rows: f64,
    pub cost: f64,
    pub rejected: Vec<Rejected>,
    /// The choice was made for another filter of the same shape.
    pub cached: bool,
}

impl Routed {
    /// What was not taken where a remembered choice is followed instead of this one.
    pub(crate) fn instead(mut self, followed: &Self, known: &Known<'_>) -> Vec<Rejected> {
        if self.choice != followed.choice {
            let name = followed.choice.name(known);
            self.rejected.retain(|rejected| rejected.cost.is_none() || rejected.index != name);
            self.rejected.push(Rejected {
                index: self.choice.name(known),
                reason: format!(
                    "costs {:.0}; {name} was taken before for a filter of this shape, and still fits",
                    self.cost
                ),
                cost: Some(self.cost),
                collation: false,
            });
        }
        self.rejected
    }

    fn nothing() -> Self {
        Self {
            route: Route::Nothing,
            choice: Choice::Nothing,
            residual: Vec::new(),
            cover: None,
            rows: 0.0,
            cost: 0.0,
            rejected: Vec::new(),
            cached: false,
        }
    }
}

/// What is known of a bucket's indexes in one transaction.
#[derive(Clone, Debug)]
pub(crate) struct Known<'a> {
    /// Those that queries may use.
    pub(crate) indexes: Vec<&'a Index>,
    /// What they have seen of arrays; `None` where nobody has looked.
    marks: Vec<Option<Marks>>,
    figures: Arc<Figures>,
}

impl<'a> Known<'a> {
    /// What costs nothing to know.
    pub(crate) fn new(indexes: Vec<&'a Index>, figures: Arc<Figures>) -> Self {
        let marks = vec![None; indexes.len()];
        Self { indexes, marks, figures }
    }

    fn id(&self, at: usize) -> u32 {
        self.indexes.get(at).map_or(u32::MAX, |index| index.id())
    }

    /// Whether a document may have several entries because of a field. Where nobody has looked, it may.
    pub(crate) fn has_array(&self, at: usize, position: usize) -> bool {
        self.marks.get(at).and_then(Option::as_ref).is_none_or(|marks| marks.has_array(position))
    }

    /// Whether entries may not be in the order of a field's values.
    pub(crate) fn has_cut(&self, at: usize, position: usize) -> bool {
        self.marks.get(at).and_then(Option::as_ref).is_none_or(|marks| marks.has_cut(position))
    }

    /// Notes what an index has seen of arrays.
    pub(crate) fn note(&mut self, at: usize, seen: Marks) {
        if let Some(marks) = self.marks.get_mut(at) {
            *marks = Some(seen);
        }
    }

    fn shares(&self, at: usize) -> &Shares {
        self.figures.of(self.id(at)).unwrap_or(&figures::UNKNOWN)
    }

    fn documents(&self) -> f64 {
        self.figures.documents()
    }
}
