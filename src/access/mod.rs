//! Who may do what: users, rights, and the one judgement over them.
//!
//! ```text
//!   user/<name> in the store ──watch──► Users, a table on every node
//!                                         │ log_in            │ current
//!                                         ▼                   ▼
//!                                       Login of a session ── Permit of one command
//!                                                               │ hold, in every transaction
//!                                                               ▼
//!                                            the same record, read with conflict
//! ```
//!
//! A right counts in namespaces: a user has selectors, each with rights and with
//! patterns of namespaces. A command needs rights in places ([`Need`]); whoever
//! dispatches it asks [`User::judge`] and gets a [`Permit`], and every transaction
//! of the command holds it.
//!
//! # Invariants
//!
//! * All nodes obey at once: a node's table may be late by the time that a watch
//!   takes, but a transaction that writes, or that reads documents, reads the
//!   record of its user as of its own snapshot, and fails to commit if that changes.
//! * There is no password here and none in the store, only what argon2id makes of it;
//!   nothing that can be printed holds one.
//! * An unknown user costs who guesses as much time as a wrong password does.
//! * Without any user in the store everybody is the user `default` and may do everything.
//!
//! Not here: which command needs what (`command`), the words of ACL (`command`),
//! whom a node listens to (`node`), the audit log (`metadata`).

mod guesses;
pub mod password;
mod permit;
mod right;
mod rules;
mod user;
mod users;

pub use guesses::TooManyGuesses;
pub use permit::Permit;
pub use right::{Need, Place, Right, Rights};
pub use rules::{Commands, Prepared, Rules, rule_words};
pub use user::{DEFAULT, NAME_BYTES_MAX, Selector, User, check_name};
pub use users::{Account, Login, Users, is_untouched, load, read, remove, write, write_first};
