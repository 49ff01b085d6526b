//! Three real nodes on a real FoundationDB: stopped, killed and cut off from their store.
//!
//! What the scenarios of the removal protocol show of nodes inside one process is shown here of processes, by signals. Without
//! an `fdbserver` each test says that it was skipped.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real servers take real time")]
#![allow(unreachable_pub, reason = "one binary in several files")]

mod barrier;
#[path = "../support/client.rs"]
#[allow(dead_code, reason = "the reply types are those of all tests of the wire")]
mod client;
#[path = "../support/fdb.rs"]
#[allow(dead_code, reason = "others need more of it")]
mod fdb;
mod members;
mod outage;
mod process;
#[path = "../support/report.rs"]
mod report;
mod world;
