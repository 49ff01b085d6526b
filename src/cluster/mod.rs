//! Who the members are, what they have seen, and who works for which shard.
//!
//! Nodes share nothing but the store. This layer lets them agree on two things
//! there: which of them owns which *shard* of the background work, and that
//! *everybody has let go* of something that was removed, so that it may be
//! destroyed. Numbers in parentheses are rules of the removal protocol.
//!
//! ```text
//!   REMOVE ──► journal ──watch──► follower of each member ──► listeners drop handles
//!                                   │ stops work, waits a little        [7]
//!                                   ▼
//!                  one commit: seen, witness per shard, busy rows    [8, 9]
//!                                   │ barrier-signal
//!                                   ▼
//!   PURGE ◄── barrier: every shard's witness and every member's seen
//!             have reached the removal, and no live busy row is left   [17]
//! ```
//!
//! * [`work`]: what a node keeps about buckets outside of transactions is
//!   entered in its table of open work *before* the snapshot in which it checks
//!   that the bucket is active. (7)
//! * `follower`: one task reads the journal, tells the listeners, stops work on
//!   what was removed and waits for it up to the grace. Its commit reads *and
//!   writes* `seen/<node>`, reads `member/<node>` and each shard it writes a
//!   witness for, and writes seen and witnesses as a maximum, so that no two
//!   commits of one node land out of order. (8) What has not ended is a busy
//!   row under the id of the removed object, written only while its fence
//!   exists, cleared only when nothing of that scope is left. (9) After the
//!   drain limit the node gives itself up. (10) It writes the heartbeat after
//!   all that, so that a stuck follower looks dead. (11)
//! * `membership`: joining is one transaction that makes a new incarnation,
//!   with `seen` at its own read version and the next epoch for every shard it
//!   still owned. (12) A new owner writes its witness at once. (13) A member is
//!   evicted in a transaction that re-reads its counter and its row. (14)
//! * `observer`: one member at a time counts the others' silence, and only
//!   intervals in which itself could read and beat. (15)
//! * [`barrier`]: the part of the flip that this layer answers for. (17)
//! * [`slots`]: attempt slots; their guard is the member row. (21)
//! * [`time`]: cluster time; [`ids`]: ids; [`journal`]: the events.
//!
//! # Invariants
//!
//! * After every commit each shard belongs to a member, as long as there is one.
//! * An incarnation is used once. What it still sends after its member row has
//!   gone does not land: everything reads that row, or a shard's epoch.
//! * Missing means version 0, never agreement.
//! * A busy row stops counting only with its incarnation.
//! * `seen` and `witness` only grow while their member lives.
//!
//! Not here: what a removal is and when the flip commits (`lifecycle`), what
//! handles are cached (`metadata`), what the workers do (`worker`), and who
//! starts a node again when its incarnation is over (`node`).

mod acknowledge;
mod assignment;
pub mod barrier;
mod errors;
mod follower;
mod handle;
pub mod ids;
pub mod journal;
mod membership;
pub mod mutation;
mod observer;
mod progress;
mod rows;
pub mod slots;
#[cfg(test)]
mod tests;
pub mod time;
mod types;
pub mod view;
pub mod work;

pub use errors::{Error, Result};
pub use handle::Cluster;
pub use ids::FIRST_ID_MAX;
pub use membership::FORMAT;
pub use progress::Progress;
pub use types::{ClusterOptions, Controls, Ended, Listener, OwnedShards, Stop};
