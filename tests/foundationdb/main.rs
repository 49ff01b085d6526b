//! FoundationDB under the store and under nodes: what the contract cannot ask of every engine.
//!
//! Each test that disturbs a server has one of its own. Without an `fdbserver` they say that they were skipped; without the
//! cargo feature only the refusal is tested.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real servers take real time")]
#![allow(unreachable_pub, reason = "one binary in several files")]

#[cfg(feature = "foundationdb")]
#[path = "../support/clean.rs"]
mod clean;
#[cfg(feature = "foundationdb")]
#[path = "../support/fdb.rs"]
mod fdb;
#[cfg(feature = "foundationdb")]
#[path = "../support/report.rs"]
mod report;

#[cfg(feature = "foundationdb")]
mod limits;
#[cfg(feature = "foundationdb")]
mod loss;
#[cfg(feature = "foundationdb")]
mod nodes;
#[cfg(feature = "foundationdb")]
mod sharing;
#[cfg(not(feature = "foundationdb"))]
mod without;
