//! Removing, restoring and purging.
//!
//! A name is taken away in two steps. REMOVE hides the instance at once and
//! destroys nothing; PURGE erases it, and cannot be undone.
//!
//! ```text
//!             REMOVE                 PURGE or expiry: the flip
//!   active ------------> removed ------------------------------> purging ---> gone
//!     ^                     |           behind the barrier                  a grave
//!     +------ RESTORE ------+                                               remains
//! ```
//!
//! # Invariants
//!
//! * REMOVE and RESTORE are small transactions whatever the size, and wait for
//!   nobody.
//! * Everything after a removal is bound to the removal id, never to the name.
//! * The flip is one transaction that reads with conflict all it rests on
//!   (protocol.md, rule 17), so of a restore and a purge exactly one wins.
//! * A purge that cannot happen yet leaves a request behind, and nothing else.
//!
//! Not here: who carries out what is due and when (`worker`), the barrier itself
//! (`cluster::barrier`), the words of commands (`command`).

pub mod audit_log;
mod bury;
pub mod control;
pub mod copy;
pub mod dismantle;
pub mod inside;
pub mod list;
pub mod lock;
mod meters;
pub mod namespace;
pub mod park;
pub mod purge;
pub mod refusal;
pub mod remove;
pub mod restore;
pub mod retain;
mod sums;
pub mod target;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::cluster::mutation::Mutations;
use crate::codec::RemovalId;
use crate::codec::duration::Retention;
use crate::codec::{Versionstamp, keys};
use crate::error::Result;
use crate::metadata::Catalog;
use crate::store::Transaction;

pub use meters::{Census, Meters, Reclaims, WaitingPurge, WaitsFor};
pub use sums::{SUMMED_MAX, Sums};
pub use target::Target;

/// The settings of the lifecycle.
#[derive(Debug, Clone)]
pub struct LifecycleOptions {
    /// How long a removed instance stays restorable when nobody says otherwise.
    pub retention: Retention,
    /// Every removal keeps its name taken until the purge.
    pub reserve_names: bool,
    /// How long PURGE waits for the barrier when nobody says otherwise.
    pub purge_wait: Duration,
    /// How long SWAP waits for the copy when nobody says otherwise.
    pub copy_wait: Duration,
    /// How long writers wait for a SWAP at most.
    pub copy_pause: Duration,
    /// How long graves are kept, in milliseconds.
    pub grave_retention_ms: i64,
    pub mutations: Mutations,
}

/// The lifecycle of buckets. One for each node; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lifecycle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    catalog: Catalog,
    options: LifecycleOptions,
    refusals: refusal::Refusals,
    meters: Meters,
    /// Told whenever something may have become due.
    wake: watch::Sender<u64>,
}

impl Lifecycle {
    #[must_use]
    pub fn new(catalog: Catalog, options: LifecycleOptions) -> Self {
        let inner = Inner {
            catalog,
            options,
            refusals: refusal::Refusals::default(),
            meters: Meters::default(),
            wake: watch::Sender::new(0),
        };
        Self(Arc::new(inner))
    }

    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    #[must_use]
    pub fn options(&self) -> &LifecycleOptions {
        &self.0.options
    }

    #[must_use]
    pub fn refusals(&self) -> &refusal::Refusals {
        &self.0.refusals
    }

    /// What this node counts about removals and purges.
    #[must_use]
    pub fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// Tells the workers to look again at what is due.
    pub fn wake_workers(&self) {
        self.0.wake.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes whenever [`Lifecycle::wake_workers`] is called.
    #[must_use]
    pub fn wakes(&self) -> watch::Receiver<u64> {
        self.0.wake.subscribe()
    }
}

/// Tells the workers of all nodes that something may be due that was not before.
fn signal_due(txn: &Transaction) -> Result<()> {
    Ok(txn.set_versionstamped_value(&keys::due_signal(), &Versionstamp::placeholder())?)
}

/// Says in the log which removal the command is about.
fn note_removal(removal: RemovalId) {
    tracing::Span::current().record("removal", tracing::field::display(removal));
}
