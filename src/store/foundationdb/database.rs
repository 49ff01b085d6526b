//! The connection to a FoundationDB, which all transactions of a store share.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::foundationdb::options::{DatabaseOption, TransactionOption};
use ::foundationdb::{Database, FdbError, Transaction};
use tokio_util::sync::CancellationToken;

use super::super::faults::Faults;
use super::super::limits::WATCHES_MAX;
use super::super::sequencer::closed;
use super::super::shared::Counters;
use super::super::types::{FoundationDbOptions, Reclaim, Stats, Transactions};
use super::super::watch::{Arming, WatchTable};
use super::keys::Prefix;
use super::{Error, Result, cluster_file, errors, network, watch};

/// A store on a FoundationDB.
pub(in super::super) struct FoundationDb {
    database: Database,
    cluster_file: PathBuf,
    prefix: Prefix,
    timeout: Duration,
    counters: Counters,
    watches: WatchTable,
    /// The newest version that was seen here.
    version: AtomicU64,
    closed: CancellationToken,
    faults: Faults,
}

impl fmt::Debug for FoundationDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundationDb")
            .field("cluster_file", &self.cluster_file)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl FoundationDb {
    /// Connects, and makes sure that somebody answers.
    pub(in super::super) async fn open(options: &FoundationDbOptions) -> Result<Self> {
        let prefix = Prefix::new(&options.key_prefix)?;
        let cluster_file = cluster_file::find(options.cluster_file.as_deref())?;
        network::boot()?;
        let database = connect(&cluster_file).map_err(|error| {
            Error::Unavailable(format!(
                "cannot use the cluster file {}: {error}",
                cluster_file.display()
            ))
        })?;
        let engine = Self {
            database,
            cluster_file,
            prefix,
            timeout: options.timeout,
            // Nodes that began at the same number would try again in step, and their tokens would be the same.
            counters: Counters { sequence: AtomicU64::new(rand::random()), ..Counters::default() },
            watches: WatchTable::default(),
            version: AtomicU64::new(0),
            closed: CancellationToken::new(),
            faults: Faults::default(),
        };
        let transaction = engine.transaction()?;
        let answered = engine.read_version(&transaction).await;
        network::stop_at_exit();
        answered?;
        Ok(engine)
    }

    /// A client transaction whose calls take no longer than the timeout together. Own writes are not its business.
    pub(super) fn transaction(&self) -> Result<Transaction> {
        let transaction = self.plain_transaction()?;
        transaction
            .set_option(TransactionOption::ReadYourWritesDisable)
            .map_err(errors::of_read)?;
        Ok(transaction)
    }

    /// The same with all that the client does by default, which its watches want.
    pub(super) fn plain_transaction(&self) -> Result<Transaction> {
        if self.closed.is_cancelled() {
            return Err(closed());
        }
        let timeout = i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX);
        let transaction = self.database.create_trx().map_err(errors::of_read)?;
        transaction.set_option(TransactionOption::Timeout(timeout)).map_err(errors::of_read)?;
        Ok(transaction)
    }

    /// The first thing that every transaction asks for. Nothing was changed when nobody answers.
    pub(super) async fn read_version(&self, transaction: &Transaction) -> Result<u64> {
        match transaction.get_read_version().await {
            Ok(version) => Ok(self.saw(version)),
            Err(error) if errors::is_silence(error) => Err(self.silent()),
            Err(error) => match errors::of_read(error) {
                // A cluster file that leads nowhere, a client that does not fit: waiting does not help.
                Error::FoundationDb { retryable: false, code, message } => {
                    Err(Error::Unavailable(format!(
                        "{message} (FoundationDB's error {code}), cluster file {}",
                        self.cluster_file.display()
                    )))
                }
                error => Err(error),
            },
        }
    }

    fn silent(&self) -> Error {
        Error::Unavailable(format!(
            "FoundationDB did not answer within {}, cluster file {}",
            humantime::format_duration(self.timeout),
            self.cluster_file.display()
        ))
    }

    /// Takes note of a version.
    pub(super) fn saw(&self, version: i64) -> u64 {
        let version = u64::try_from(version).unwrap_or_default();
        self.version.fetch_max(version, Ordering::Relaxed);
        version
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.closed.is_cancelled() { Err(closed()) } else { Ok(()) }
    }

    /// Ends with the store.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    pub(in super::super) fn prefix_bytes(&self) -> usize {
        self.prefix.len()
    }

    pub(in super::super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(in super::super) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(in super::super) fn watches(&self) -> &WatchTable {
        &self.watches
    }

    /// Arms watches. `committed` is the version of the commit whose values those expect that its transaction wrote.
    pub(in super::super) fn arm(self: &Arc<Self>, watches: Vec<Arming>, committed: Option<u64>) {
        for arming in watches {
            tokio::spawn(watch::guard(Arc::clone(self), arming, committed));
        }
    }

    /// FoundationDB destroys what a range clear has hidden on its own account and tells nobody how far it is.
    pub(in super::super) fn reclaim_progress(&self) -> Result<Reclaim> {
        self.check_open()?;
        Ok(Reclaim { done: true, pending_bytes: None, returned_bytes: None })
    }

    pub(in super::super) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            commits: read(&self.counters.commits),
            reads: read(&self.counters.reads),
            conflicts: read(&self.counters.conflicts),
            batches: read(&self.counters.batches),
            batch_max: read(&self.counters.batch_max),
            fsyncs: 0,
            open_transactions: read(&self.counters.open_transactions),
            watches: self.watches.len(),
            version: read(&self.version),
            history: 0,
            dropped_prefixes: 0,
            disk_bytes: 0,
            written_bytes: read(&self.counters.written_bytes),
            batch_sizes: self.counters.batch_sizes.read(),
            batch_times: self.counters.batch_times.read(),
            transactions: Transactions::default(),
        }
    }

    /// Ends all watches; everything else is refused from now on. The client itself goes on for other stores.
    pub(in super::super) fn close(&self) {
        self.closed.cancel();
    }
}

fn connect(cluster_file: &std::path::Path) -> Result<Database, FdbError> {
    /// "The path is not valid": the client takes UTF-8 only.
    const CONNECTION_STRING_INVALID: i32 = 2104;
    let path =
        cluster_file.to_str().ok_or_else(|| FdbError::from_code(CONNECTION_STRING_INVALID))?;
    let database = Database::new(Some(path))?;
    // Ours is the limit that counts; the client's must not be reached first.
    let watches = i32::try_from(2 * WATCHES_MAX).unwrap_or(i32::MAX);
    database.set_option(DatabaseOption::MaxWatches(watches))?;
    Ok(database)
}
