//! `lethe demo`: the whole story on real data, told over the wire.
//!
//! A private node in a temporary folder gets a week of earthquakes
//! (`data/README.md`), loses them, has them back, and loses them for good. Each
//! step says what it does, shows what the node answered, and is checked: the
//! first answer that is not as told ends the story with an error.
//!
//! The demo is a client like any other, with two connections to the node. Only
//! the last step looks below, at the keys in the store.
//!
//! Not here: how a node is put together (`node`).

mod story;

use std::io;

pub use story::tell;

use crate::client;

/// One JSON document per line; where it is from stands in `data/README.md`.
const DOCUMENTS: &str = include_str!("../../data/earthquakes.jsonl");

/// Why the story could not be told to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node answered something else than the story says.
    #[error("{step}: expected {expected}, got {got}")]
    NotAsTold { step: String, expected: String, got: String },
    /// The terminal.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The connection to the node.
    #[error("{0}")]
    Client(#[from] client::Error),
}

/// Whether the output is in colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    On,
    Off,
}
