//! Namespaces and buckets: their names, records, handles and audit rows.
//!
//! ```text
//!   path "production.orders"                bucket "users"
//!   namespace/name/0/production -> 1         bucket/name/2/users -> 17
//!   namespace/name/1/orders     -> 2         bucket/record/17    -> shards, ...
//!   fence/1, fence/2                         fence/17
//! ```
//!
//! Names are pointers to ids; everything else hangs on the ids, so that a
//! rename moves one pointer and a removed instance keeps all it had. A command
//! on documents reaches its bucket through [`cache::Handles::open`], which costs
//! no read while nothing changes and is safe when something does.
//!
//! # Invariants
//!
//! * At most one active bucket has a name in a namespace.
//! * Every active object has a fence; whatever makes a handle wrong rewrites it.
//! * CREATE writes only what belongs to the new object, so a million creations
//!   disturb no data command.
//!
//! Not here: removing, restoring and purging (`lifecycle`), documents
//! (`document`), who follows the journal (`cluster`).

pub mod audit;
pub mod bucket;
pub mod cache;
pub mod catalog;
pub mod guard;
pub mod indexes;
pub mod name;
pub mod namespace;
pub mod open;
pub mod operation;
mod pause;
pub mod policy;
pub mod relocate;
pub mod settings;
pub mod usage;

pub use cache::LiveBucket;
pub use catalog::Catalog;
pub use indexes::{Index, Indexes};
pub use name::Path;
pub use open::OpenTransaction;
pub use operation::{Caller, Operation};
