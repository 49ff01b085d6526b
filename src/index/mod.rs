//! Secondary indexes: what entries a document has, keeping them with every
//! write, and reading them.
//!
//! ```text
//!   define ──► bucket/record: IndexRecord ──► metadata::Indexes (in the handle)
//!                                                │
//!   document writes ──► maintain ──► entries     │   data/<bucket>/index/<index>/<key per field><oid>
//!   queries ──► Bounds ──► scan  ◄───────────────┘     -> flags, the values themselves when short
//! ```
//!
//! # What is in an index
//!
//! Every document has at least one entry in every index, whatever the types of
//! its values, so an answer never depends on which indexes there are:
//!
//! * a missing field has the key of null, which equals it in every filter;
//! * an array has an entry for itself as a whole and one for each of its
//!   different elements; a path that spreads over an array of documents one for each
//!   value it comes to; a path that comes to nothing at all ([`value::key::nothing`]) one that no value equals;
//! * with several fields, all combinations, at most [`ENTRIES_MAX`] of a document.
//!
//! So all documents that match a condition on a field are among the entries in
//! the [`Bounds`] made of it. Two things keep a reader from taking an index for more than that, and [`marks`] tells
//! of each field whether they ever happened:
//!
//! * `array`: a document has several entries: two conditions may not be intersected into one range
//!   (different elements may satisfy them), the entries do not sort the documents, and no document is covered;
//! * `cut`: keys are bounded; of a longer one a hash stands for the rest. Equal values still have equal keys and
//!   different ones different keys, but the order among cut ones is not theirs.
//!
//! # Writes while an index is built
//!
//! Creating an index writes the fence of the bucket (`metadata::bucket::invalidate`), which every write has among its
//! read conflicts. So a write either commits before the index is created, and then the build, whose snapshots are
//! all younger, finds its document; or it began before and fails on the fence and is tried again; or it has
//! read the record with the index in it, and keeps the index itself. No write falls between. The build in turn reads each document with conflict
//! in the transaction that adds its entries: an update or delete that commits in between makes the batch run again, and one that
//! commits later finds the entries and takes them away. While an index is built, writes look whether an entry is there
//! before they count it, so that the counters are exact at any moment.
//!
//! # Unique
//!
//! A write reads the range of all entries with its values, with conflict, and fails if another document has one there. Of two
//! writers of the same values one conflicts. A missing field counts as null, so it collides.
//!
//! [`value::key::nothing`]: crate::value::key::nothing
//!
//! # Invariants
//!
//! * A document's entries in an index that is ready are exactly [`entries`] of it; in one that is being built
//!   they are these or some of these.
//! * Ids of indexes are never used again within a bucket, so dropping an index is dropping a prefix.
//!
//! Not here: which index a query uses (`query`), the build itself (`worker`), commands.

mod bounds;
mod covered;
pub mod define;
mod entry;
mod forget;
mod maintain;
mod place;
pub mod rebuild;
mod scan;
pub mod schema;
pub mod statistics;
pub mod task;

pub use crate::metadata::{Index, Indexes};
pub use bounds::{Bounds, KeyRange};
pub use covered::{COVERED_BYTES_MAX, Covered};
pub use entry::{ENTRIES_MAX, Entries, entries};
pub use forget::forget_values;
pub use maintain::{Written, add, maintain, mirror, stale};
pub use place::{field_key, value_edge, value_key};
pub use scan::{Entry, Marks, Page, Scan, marks, scan};
pub use statistics::{Statistics, StatisticsCache};

#[cfg(test)]
mod tests;
