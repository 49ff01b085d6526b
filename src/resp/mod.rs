//! The Redis protocol: bytes on the socket to words, replies to bytes.
//!
//! ```text
//!   socket bytes ──► Scanner ──► Words ──► (a command) ──► Reply ──► encode ──► socket bytes
//! ```
//!
//! [`Scanner`] reads requests as they arrive, whatever the pieces; [`Words`]
//! is one request, its bytes shared and not copied; [`Reply`] is an answer that
//! knows nothing of protocol versions, and [`Reply::encode`] writes it for one.
//!
//! # Invariants
//!
//! * No byte is looked at twice, so a large request in small pieces costs linear time.
//! * Nothing is read, and no memory taken, beyond what [`Limits`] allow.
//! * An error or a simple string never contains a line end: a name in a message
//!   can't end the frame and forge a reply.
//! * A map, set, boolean or double is never sent to a RESP2 connection as such.
//!
//! Not here: sockets (`server`), what the words mean (`command`).

mod encode;
mod inline;
mod reply;
mod scan;
mod words;

#[cfg(test)]
mod tests;

pub use inline::split_line;
pub use reply::{Protocol, Reply};
pub use scan::{Limits, ProtocolError, Request, Scanner};
pub use words::Words;
