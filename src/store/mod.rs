//! The transactional, ordered key-value store under everything.
//!
//! FoundationDB's model is the contract and every engine keeps it: keys are
//! ordered bytes; a transaction reads at one snapshot, sees its own writes, and
//! commits only if nothing that it read with conflict was written since, so
//! that all committed transactions could have run one after the other.
//!
//! ```text
//!   Store ──begin──► Transaction ──commit──► Intent ──► Sequencer ──► Engine
//!     │                  │ reads            │   │ validates, merges,    memory
//!     │ run: retries     ▼                  │   │ publishes, wakes      fjall
//!     └─────────────  Published (a snapshot)│ ◄─┘ watches
//!                                           └─► FoundationDB, which does all that itself
//! ```
//!
//! A transaction's writes, conflict sets and limits are the same code on every engine (`transaction`, `overlay`); the fork
//! between the local engines and FoundationDB is in `engine`.
//!
//! Keys that begin with `\xff` belong to the store itself (its version, marks
//! of dropped prefixes, its format) and are neither read nor written from here.
//!
//! # Invariants
//!
//! * Nothing is visible before it is durable, and nothing acknowledged is lost.
//! * Commit versions only grow, also over restarts; the versionstamps of
//!   commits sort in the order in which they happened.
//! * A watch fires once and never misses a change.
//! * After a failed sync or a full disk nothing is written any more; reads go on.
//! * Only this module knows which engine runs.
//!
//! Not here: what the keys mean (`codec` and the layers above).

mod backup;
mod calls;
mod conflicts;
mod embedded;
mod engine;
mod error;
mod faults;
#[cfg(feature = "foundationdb")]
mod foundationdb;
mod history;
mod join;
pub mod limits;
mod local;
mod memory;
mod merge;
mod overlay;
mod retry;
mod sequencer;
mod shared;
#[cfg(test)]
mod tests;
mod transaction;
mod types;
mod view;
mod watch;

use std::path::Path;
use std::sync::Arc;

pub use backup::{BackupSummary, backup, restore_backup};
pub use embedded::{Durability, EmbeddedOptions};
pub use error::{Error, Result};
pub use faults::{Chaos, Faults, Held, Lost, Matcher, Ranges};
pub(crate) use join::join_all;
pub use retry::{Failure, Resolve, Slot};
pub use transaction::{Savepoint, Transaction};
pub use types::{
    Atomic, Committed, FoundationDbOptions, Outcome, Page, RangeRead, Read, Reclaim, Stats,
    Transactions, key_after, prefix_end,
};
pub use watch::Watch;

use calls::Calls;
use engine::AnyEngine;
use local::Local;

/// Ends what engines have begun for the whole process. To be called when all stores are closed; none can be opened after it.
pub fn shut_down() {
    #[cfg(feature = "foundationdb")]
    self::foundationdb::stop_network();
}

/// A store. A cheap handle: clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    engine: AnyEngine,
    client: Arc<str>,
    calls: Arc<Calls>,
}

impl Store {
    /// An empty store in memory: for tests, simulation and `--store memory`.
    pub fn memory() -> Self {
        Self::new(AnyEngine::Local(Arc::new(Local::memory())))
    }

    /// Opens the store in a folder, or creates it there. The folder is locked until [`Store::close`].
    ///
    /// Refuses a folder that another process uses, that has another format, or whose files are not what was written to them: the
    /// error says what is wrong and where. What a crash left of a commit that was never acknowledged is cut off.
    pub async fn open(path: &Path, options: EmbeddedOptions) -> Result<Self> {
        let path = path.to_owned();
        let open = tokio::task::spawn_blocking(move || Local::open(&path, &options));
        let local = open.await.map_err(|_| Error::Cancelled)??;
        Ok(Self::new(AnyEngine::Local(Arc::new(local))))
    }

    /// A store on a FoundationDB, if this program was built with it. Fails when nobody answers there within the timeout.
    #[cfg(feature = "foundationdb")]
    pub async fn foundationdb(options: &FoundationDbOptions) -> Result<Self> {
        let engine = self::foundationdb::FoundationDb::open(options).await?;
        Ok(Self::new(AnyEngine::FoundationDb(Arc::new(engine))))
    }

    /// A store on a FoundationDB, if this program was built with it.
    #[cfg(not(feature = "foundationdb"))]
    #[expect(clippy::unused_async, reason = "it has to ask servers where it is built in")]
    pub async fn foundationdb(_options: &FoundationDbOptions) -> Result<Self> {
        Err(Error::Unsupported(
            "this program was built without FoundationDB: build it with \
             cargo build --release --features foundationdb, for which libfdb_c and libclang have to be there"
                .to_owned(),
        ))
    }

    fn new(engine: AnyEngine) -> Self {
        Self { engine, client: Arc::from(""), calls: Arc::default() }
    }

    /// The same store; its transactions bear this client name, by which faults can be meant for them, and are counted on their own.
    #[must_use]
    pub fn as_client(&self, client: &str) -> Self {
        Self { engine: self.engine.clone(), client: Arc::from(client), calls: Arc::default() }
    }

    /// Whether a commit may end with [`Error::CommitUnknown`] on this engine.
    pub fn commit_may_be_unknown(&self) -> bool {
        self.engine.commit_may_be_unknown()
    }

    /// Begins a transaction. `label` names its purpose ("insert", "flip").
    pub fn begin(&self, label: &'static str) -> Transaction {
        self.calls.begun();
        Transaction::new(&self.engine, Arc::clone(&self.client), label)
    }

    /// The faults that can be ordered; the engine in files has none.
    pub fn faults(&self) -> Option<&Faults> {
        self.engine.faults()
    }

    /// How far the bytes below a prefix given to [`Transaction::drop_prefix`] have been given back.
    #[expect(clippy::unused_async, reason = "an engine may have to ask its servers")]
    pub async fn reclaim_progress(&self, prefix: &[u8]) -> Result<Reclaim> {
        self.engine.reclaim_progress(prefix)
    }

    /// Waits until the bytes below a prefix given to [`Transaction::drop_prefix`] have been given back, as far as
    /// the engine can tell. Fails when the store is closed meanwhile.
    pub async fn reclaimed(&self, prefix: &[u8]) -> Result<Reclaim> {
        self.reclaimed_telling(prefix, &|_| {}).await
    }

    /// As [`Store::reclaimed`], and tells how far it is whenever it has come further.
    ///
    /// # Errors
    /// As [`Store::reclaimed`].
    pub async fn reclaimed_telling(
        &self,
        prefix: &[u8],
        told: &(dyn Fn(Reclaim) + Sync),
    ) -> Result<Reclaim> {
        self.engine.reclaimed(prefix, told).await
    }

    /// Whether commits are still taken, without a word to the disk or a server.
    ///
    /// # Errors
    /// What has ended them for good: [`Error::Stopped`] after a failed sync or a full disk, or that it was closed.
    pub fn writable(&self) -> Result<()> {
        self.engine.writable()
    }

    /// Counters since the store was opened.
    pub fn stats(&self) -> Stats {
        Stats { transactions: self.calls.read(), ..self.engine.stats() }
    }

    /// Ends all watches and, on an engine with files, commits what waits and lets go of the folder.
    pub async fn close(&self) {
        self.engine.close().await;
    }
}
