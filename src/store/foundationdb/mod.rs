//! The engine for many nodes: FoundationDB, through its C client.
//!
//! ```text
//!   Transaction ──reads──► Reader: one snapshot, a client transaction that only reads
//!        │                        (own writes are merged here, not by the client)
//!        └──commit──► a second client transaction at the same read version: conflict
//!                     ranges and mutations of the intent, in one go
//!   Watch ◄── a task per watch: compare, arm a watch of the client, wait, compare again
//! ```
//!
//! A transaction is what it is on the other engines: write buffer, conflict sets and limits are ours, and the client is
//! asked for snapshot reads and for one commit. All keys lie behind a prefix (`keys`), so that several stores can share a FoundationDB.
//!
//! # Invariants
//!
//! * The client's network thread is begun once per process and ended before the process is (`network`).
//! * Nothing waits longer than the timeout of the options: what has no answer then is [`Error::Unavailable`] when it
//!   cannot have changed anything, and counts as unknown when it can.
//! * A watch that the client loses is armed again, and compared first, so that no change is missed.
//! * The metadata version is FoundationDB's own key, which all prefixes share: a touch by another store costs
//!   a look at the fences and nothing else.
//!
//! Not here: the servers; they are FoundationDB's.

mod cluster_file;
mod commit;
mod database;
mod errors;
mod keys;
mod network;
mod pages;
mod reader;
mod watch;

use super::{Error, Result};

pub(super) use commit::commit;
pub(super) use database::FoundationDb;
pub(super) use network::stop as stop_network;
pub(super) use reader::{Reader, RemoteSource};
