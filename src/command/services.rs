use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::transaction::Tick;
use super::{SlowLog, Stats};
use crate::access::Users;
use crate::clock::Clock;
use crate::config::Config;
use crate::document::{ObjectIds, Waiters};
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::meter::Throttle;
use crate::session::Clients;
use crate::tls::Certificates;

/// Warnings about connections in a second.
const WARNINGS_MAX: u32 = 10;

/// What all connections share.
#[derive(Debug)]
pub struct Services {
    /// The settings in force.
    pub config: Arc<Config>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Who may do what.
    pub users: Users,
    /// Everybody who is connected.
    pub clients: Arc<Clients>,
    /// What TLS stands on; none where no port speaks it.
    pub certificates: Option<Arc<Certificates>>,
    /// Makes the ids of documents.
    pub object_ids: ObjectIds,
    /// What INFO counts.
    pub stats: Stats,
    /// Bounds the warnings about connections, so that no client can flood the log.
    pub warnings: Throttle,
    /// The last commands that took long.
    pub slow_log: SlowLog,
    /// When this process began to serve.
    pub started: Instant,
    /// The read version that TICK CACHED may repeat.
    pub(super) tick: Tick,
    lifecycle: OnceLock<Lifecycle>,
    leaving: AtomicBool,
    stopping: CancellationToken,
    waiters: OnceLock<Waiters>,
}

impl Services {
    /// Services of a node with these settings that answers everything.
    pub fn new(config: Arc<Config>, clock: Arc<dyn Clock>) -> Self {
        Self {
            object_ids: ObjectIds::new(rand::random(), Arc::clone(&clock)),
            clock,
            users: Users::new(config.server.insecure),
            clients: Arc::default(),
            certificates: None,
            stats: Stats::default(),
            slow_log: SlowLog::new(config.slow_log),
            warnings: Throttle::new(WARNINGS_MAX),
            started: Instant::now(),
            tick: Tick::default(),
            lifecycle: OnceLock::new(),
            leaving: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            waiters: OnceLock::new(),
            config,
        }
    }

    /// The same with certificates, without which no port speaks TLS.
    #[must_use]
    pub fn with_certificates(self, certificates: Option<Arc<Certificates>>) -> Self {
        Self { certificates, ..self }
    }

    /// Gives the commands the store to work on. Once; a second call changes nothing.
    pub fn attach(&self, lifecycle: Lifecycle) {
        self.waiters.get_or_init(|| Waiters::new(lifecycle.catalog().store().clone()));
        self.lifecycle.get_or_init(|| lifecycle);
    }

    /// All who wait for changes of a bucket.
    ///
    /// # Errors
    /// While the node is starting.
    pub fn waiters(&self) -> Result<&Waiters> {
        self.waiters.get().ok_or_else(|| Error::syntax("server is starting"))
    }

    /// Buckets and all that can be done with them.
    ///
    /// # Errors
    /// While the node is starting.
    pub fn lifecycle(&self) -> Result<&Lifecycle> {
        self.lifecycle.get().ok_or_else(|| Error::syntax("server is starting"))
    }

    /// Whether the node is about to stop: it still answers, but nobody should be sent here.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// From now on the node says that it is not ready.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether the server finishes what it has begun, and begins nothing.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Ends when the server begins to stop.
    pub(super) async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// From now on every command is answered with an error.
    pub fn stop(&self) {
        self.stopping.cancel();
    }
}
