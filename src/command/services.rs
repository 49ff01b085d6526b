use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

use super::Stats;
use super::transaction::Tick;
use crate::clock::Clock;
use crate::config::Config;
use crate::document::ObjectIds;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::session::Clients;

/// What all connections share.
#[derive(Debug)]
pub struct Services {
    /// The settings in force.
    pub config: Arc<Config>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Everybody who is connected.
    pub clients: Arc<Clients>,
    /// Makes the ids of documents.
    pub object_ids: ObjectIds,
    /// What INFO counts.
    pub stats: Stats,
    /// When this process began to serve.
    pub started: Instant,
    /// The read version that TICK CACHED may repeat.
    pub(super) tick: Tick,
    lifecycle: OnceLock<Lifecycle>,
    stopping: AtomicBool,
}

impl Services {
    /// Services of a node with these settings that answers everything.
    pub fn new(config: Arc<Config>, clock: Arc<dyn Clock>) -> Self {
        Self {
            config,
            object_ids: ObjectIds::new(rand::random(), Arc::clone(&clock)),
            clock,
            clients: Arc::default(),
            stats: Stats::default(),
            started: Instant::now(),
            tick: Tick::default(),
            lifecycle: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Gives the commands the store to work on. Once; a second call changes nothing.
    pub fn attach(&self, lifecycle: Lifecycle) {
        self.lifecycle.get_or_init(|| lifecycle);
    }

    /// Buckets and all that can be done with them.
    ///
    /// # Errors
    /// While the node is starting.
    pub fn lifecycle(&self) -> Result<&Lifecycle> {
        self.lifecycle.get().ok_or_else(|| Error::syntax("server is starting"))
    }

    /// Whether the server finishes what it has begun, and begins nothing.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// From now on every command is answered with an error.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}
