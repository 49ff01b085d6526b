//! Which engine runs, and where a transaction reads and commits on it.
//!
//! The local engines share one way (a published state and a sequencer); FoundationDB is the other. What is here is
//! the fork between the two. Everything that a transaction has of its own (its writes, its conflict sets, its limits)
//! is the same on both and not here.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::time::Instant;

#[cfg(feature = "foundationdb")]
use super::foundationdb::{FoundationDb, Reader, RemoteSource};
use super::limits::TRANSACTION_TIME_MAX;
use super::local::Local;
use super::merge::Merge;
use super::sequencer::Intent;
use super::shared::Counters;
use super::types::{Committed, Page, Reclaim, Stats};
use super::view::Published;
use super::watch::{Arming, WatchTable};
use super::{Error, Faults, Result};
use crate::codec::Versionstamp;

/// Rows of a range that are read on the caller's thread before the rest goes to the blocking pool.
const INLINE_ROWS: usize = 256;

/// What all handles of one store point to.
#[derive(Debug, Clone)]
pub(super) enum AnyEngine {
    Local(Arc<Local>),
    #[cfg(feature = "foundationdb")]
    FoundationDb(Arc<FoundationDb>),
}

impl AnyEngine {
    /// The local engine, if it is one; what is about files and snapshots of hours is only there.
    #[cfg_attr(
        not(feature = "foundationdb"),
        expect(clippy::unnecessary_wraps, reason = "FoundationDB is no local engine")
    )]
    pub(super) fn local(&self) -> Option<&Arc<Local>> {
        match self {
            Self::Local(local) => Some(local),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(_) => None,
        }
    }

    /// Where a new transaction reads and commits.
    pub(super) fn source(&self) -> Source {
        match self {
            Self::Local(local) => {
                Source::Local(LocalSource { local: Arc::clone(local), pin: OnceLock::new() })
            }
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(engine) => {
                Source::FoundationDb(RemoteSource::new(Arc::clone(engine)))
            }
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        match self {
            Self::Local(local) => &local.shared().counters,
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(engine) => engine.counters(),
        }
    }

    pub(super) fn commit_may_be_unknown(&self) -> bool {
        match self {
            Self::Local(local) => local.commit_may_be_unknown(),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(_) => true,
        }
    }

    pub(super) fn faults(&self) -> Option<&Faults> {
        match self {
            Self::Local(local) => local.faults(),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(engine) => Some(engine.faults()),
        }
    }

    pub(super) fn reclaim_progress(&self, prefix: &[u8]) -> Result<Reclaim> {
        match self {
            Self::Local(local) => local.reclaim_progress(prefix),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(engine) => engine.reclaim_progress(),
        }
    }

    pub(super) async fn reclaimed(
        &self,
        prefix: &[u8],
        told: &(dyn Fn(Reclaim) + Sync),
    ) -> Result<Reclaim> {
        match self {
            Self::Local(local) => local.reclaimed(prefix, told).await,
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(engine) => engine.reclaim_progress(),
        }
    }

    pub(super) fn writable(&self) -> Result<()> {
        match self {
            Self::Local(local) => local.writable(),
            // Each commit asks the servers.
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(_) => Ok(()),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        match self {
            Self::Local(local) => local.stats(),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(engine) => engine.stats(),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Local(local) => {
                let local = Arc::clone(local);
                // Joining fails only if closing panics, which has been logged.
                drop(tokio::task::spawn_blocking(move || local.close()).await);
            }
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(engine) => engine.close(),
        }
    }
}

/// Where one transaction reads and commits.
#[derive(Debug)]
pub(super) enum Source {
    Local(LocalSource),
    #[cfg(feature = "foundationdb")]
    FoundationDb(RemoteSource),
}

/// On a local engine: the published state that the first read has taken.
#[derive(Debug)]
pub(super) struct LocalSource {
    local: Arc<Local>,
    pin: OnceLock<Pinned>,
}

#[derive(Debug)]
struct Pinned {
    published: Arc<Published>,
    taken: Instant,
}

/// The unchanging picture that a transaction reads.
pub(super) enum Snapshot<'a> {
    Local {
        local: &'a Local,
        published: Arc<Published>,
    },
    #[cfg(feature = "foundationdb")]
    FoundationDb(&'a Reader),
}

impl Source {
    pub(super) fn counters(&self) -> &Counters {
        match self {
            Self::Local(source) => &source.local.shared().counters,
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(source) => source.engine().counters(),
        }
    }

    pub(super) fn watches(&self) -> &WatchTable {
        match self {
            Self::Local(source) => &source.local.shared().watches,
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(source) => source.engine().watches(),
        }
    }

    /// Bytes that each key of a commit takes beside its own.
    pub(super) fn bytes_per_key(&self) -> usize {
        match self {
            Self::Local(_) => 0,
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(source) => source.engine().prefix_bytes(),
        }
    }

    /// The version that it reads at, once it has read.
    pub(super) fn read_version(&self) -> Option<u64> {
        match self {
            Self::Local(source) => source.pin.get().map(|pin| pin.published.version),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(source) => source.read_version(),
        }
    }

    /// The state that this transaction reads, which is the newest when it reads for the first time.
    pub(super) async fn snapshot(&self, client: &str, label: &'static str) -> Result<Snapshot<'_>> {
        match self {
            Self::Local(source) => {
                let local = source.local.as_ref();
                local.before_read(client, label).await?;
                let take = || Pinned {
                    published: local.shared().published.load_full(),
                    taken: Instant::now(),
                };
                let pin = source.pin.get_or_init(take);
                check_age(pin.taken)?;
                Ok(Snapshot::Local { local, published: Arc::clone(&pin.published) })
            }
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(source) => {
                source.engine().faults().before_read(client, label).await?;
                let reader = source.reader().await?;
                check_age(reader.taken())?;
                Ok(Snapshot::FoundationDb(reader))
            }
        }
    }

    /// Arms the watches of a transaction that only read, and has seen `snapshot`.
    pub(super) fn arm(&self, watches: Vec<Arming>) {
        match self {
            Self::Local(source) => {
                let shared = source.local.shared();
                for arming in watches {
                    shared.watches.arm(arming, &shared.published);
                }
            }
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(source) => source.engine().arm(watches, None),
        }
    }

    pub(super) async fn commit(
        &self,
        client: &str,
        label: &'static str,
        mut intent: Intent,
    ) -> Result<Committed> {
        match self {
            Self::Local(source) => {
                intent.pin = source.pin.get().map(|pin| Arc::clone(&pin.published));
                source.local.commit(client, label, intent).await
            }
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(source) => source.commit(client, label, intent).await,
        }
    }
}

fn check_age(taken: Instant) -> Result<()> {
    if taken.elapsed() >= TRANSACTION_TIME_MAX { Err(Error::TooOld) } else { Ok(()) }
}

impl Snapshot<'_> {
    pub(super) fn version(&self) -> u64 {
        match self {
            Self::Local { published, .. } => published.version,
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(reader) => reader.version(),
        }
    }

    #[cfg_attr(
        not(feature = "foundationdb"),
        expect(clippy::unused_async, reason = "an engine on the network has to ask its servers")
    )]
    pub(super) async fn metadata_version(&self) -> Result<Versionstamp> {
        match self {
            Self::Local { published, .. } => Ok(published.metadata_version),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(reader) => reader.metadata_version().await,
        }
    }

    /// What is stored for a key, without own writes.
    #[cfg_attr(
        not(feature = "foundationdb"),
        expect(clippy::unused_async, reason = "an engine on the network has to ask its servers")
    )]
    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match self {
            Self::Local { published, .. } => published.get(key),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(reader) => reader.get(key).await,
        }
    }

    /// What is stored for some keys, asked for together.
    #[cfg_attr(
        not(feature = "foundationdb"),
        expect(clippy::unused_async, reason = "an engine on the network has to ask its servers")
    )]
    pub(super) async fn get_all(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
        match self {
            Self::Local { published, .. } => keys.iter().map(|key| published.get(key)).collect(),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(reader) => {
                let asked: Vec<_> = keys.iter().map(|key| reader.get(key)).collect();
                let mut values = Vec::with_capacity(asked.len());
                for value in asked {
                    values.push(value.await?);
                }
                Ok(values)
            }
        }
    }

    /// Fills a page.
    pub(super) async fn scan(self, mut merge: Merge) -> Result<Page> {
        let (local, published) = match self {
            Self::Local { local, published } => (local, published),
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(reader) => return reader.scan(merge).await,
        };
        if !published.blocks() {
            merge.scan(&published, usize::MAX)?;
            return Ok(merge.page());
        }
        if merge.scan(&published, INLINE_ROWS)? {
            return Ok(merge.page());
        }
        let _permit = local.shared().scans.acquire().await.map_err(|_| Error::Cancelled)?;
        let rest = tokio::task::spawn_blocking(move || {
            merge.scan(&published, usize::MAX)?;
            Ok(merge.page())
        });
        rest.await.map_err(|_| Error::Cancelled)?
    }
}
