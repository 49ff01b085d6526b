//! JSON text to BSON and back.
//!
//! In: strict JSON, MongoDB's extended JSON (canonical and relaxed), and the
//! relaxed form that people type (single quotes, bare names). One pass writes
//! BSON as it reads; nothing is built in between. Every refusal says what and
//! where.
//!
//! Out: relaxed extended JSON, compact. A top-level `_id` that is an ObjectId
//! prints as its 24 hexadecimal digits.
//!
//! # Invariants
//!
//! * What [`read()`] returns passes [`super::raw::validate`].
//! * Nothing is rounded silently: an integer that neither int64 nor a double
//!   holds exactly is refused.

mod extended;
mod read;
mod write;

pub(super) use read::push_decimal;
pub use read::{JsonError, read, read_value};
pub use write::{write, write_hex, write_value};
