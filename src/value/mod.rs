//! BSON values as they lie in the bytes: walking them, following dotted paths
//! through them, and their order.
//!
//! Nothing here decodes or copies: a [`Raw`] is a view of a document's bytes,
//! a [`Value`] a view of one of its values, and a [`Path`] leads from the one
//! to the other. Documents, filters and indexes all stand on this, so that a
//! value means the same to each of them.
//!
//! # Invariants
//!
//! * Whatever the bytes are, nothing here panics or allocates without bound.
//! * The order of values is total, and equality is its `Equal`.
//! * The bytes of two values from [`key`] are in the order of the values.
//!
//! Not here: what a document may be (`document`), what a filter asks (`query`).

pub mod collation;
pub mod key;
pub mod number;
pub mod order;
pub mod path;
pub mod raw;

pub use collation::{Collation, Collator};
pub use order::{Bracket, compare, compare_with};
pub use path::{Path, Segment, Steps, Visit, resolve, resolve_within};
pub use raw::{Field, Raw, Value};
