//! What the cluster layer is told and what it tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::mutation::Mutations;
use crate::codec::Versionstamp;
use crate::codec::record::Event;

/// How a node takes part in its cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The cluster's name, the same for all its nodes.
    pub name: String,
    /// This node's name, unlike any other's, the same after a restart.
    pub node: String,
    /// Where clients reach this node: `host:port`.
    pub address: String,
    /// Shards of background work; fixed when the cluster is made.
    pub shards: u16,
    /// How often a member shows that it is alive.
    pub heartbeat: Duration,
    /// A member whose counter has not moved for so long is evicted.
    pub silent_after: Duration,
    /// How long a removal waits for stopped work before it is acknowledged
    /// with a busy row.
    pub drain_grace: Duration,
    /// Work that goes on so long after its stop makes the node give itself up.
    pub drain_limit: Duration,
    /// No other process can reach the store: all other members are dead.
    pub exclusive: bool,
    /// Where the ids of a store begin that has given none yet.
    pub first_id: u64,
    /// Deliberate mistakes, for tests of the tests.
    pub mutations: Mutations,
}

impl ClusterOptions {
    /// The defaults of the configuration, for a node with this name.
    #[must_use]
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            name: "lethe".to_owned(),
            node: node.into(),
            address: String::new(),
            shards: 7,
            heartbeat: Duration::from_secs(1),
            silent_after: Duration::from_secs(10),
            drain_grace: Duration::from_secs(2),
            drain_limit: Duration::from_secs(60),
            exclusive: false,
            first_id: 1,
            mutations: Mutations::default(),
        }
    }
}

/// Is told of each journal event, in order, before the event counts as seen.
///
/// Must be quick and must not block: drop handles, wake workers. Work on a
/// removed object is stopped through the work table, not here.
pub trait Listener: Send + Sync {
    /// `version` is that of the event's commit.
    fn on_event(&self, event: &Event, version: Versionstamp);
}

/// The shards that a member owns, with their epochs.
pub type OwnedShards = Arc<BTreeMap<u16, i64>>;

/// Why an incarnation is over. Whatever the reason: nothing that it still does
/// lands, and before the node joins again its handles and work must be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop and has left.
    Left,
    /// It was told to stop as if it had crashed: its rows are still there.
    Halted,
    /// Work did not stop, or the journal could not be applied, for longer than
    /// the drain limit: it has left on its own account. Tells what was stuck.
    GaveUp(Vec<String>),
    /// It found that it is no member any more.
    Evicted,
}

/// How an incarnation is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Drain, then leave: the shards move at once.
    Graceful,
    /// Just stop, as a crash would.
    Halt,
}

/// What a test holds up on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Controls {
    /// The follower stands still, and with it the heartbeat.
    pub follower_paused: bool,
    /// The follower goes on without heartbeats.
    pub heartbeat_frozen: bool,
    /// The node neither observes others nor keeps cluster time.
    pub observer_paused: bool,
}
