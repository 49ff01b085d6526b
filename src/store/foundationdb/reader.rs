//! The snapshot that a transaction reads.

use std::fmt;
use std::sync::Arc;

use ::foundationdb::Transaction;
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::super::faults::Ground;
use super::super::merge::Merge;
use super::super::sequencer::Intent;
use super::super::types::{Committed, Page};
use super::{FoundationDb, Result, errors, pages};
use crate::codec::Versionstamp;

/// The key that FoundationDB sends along with each read version.
const METADATA_VERSION_KEY: &[u8] = b"\xff/metadataVersion";

/// Where one transaction reads and commits.
#[derive(Debug)]
pub(in super::super) struct RemoteSource {
    engine: Arc<FoundationDb>,
    reader: OnceCell<Reader>,
}

impl RemoteSource {
    pub(in super::super) fn new(engine: Arc<FoundationDb>) -> Self {
        Self { engine, reader: OnceCell::new() }
    }

    pub(in super::super) fn engine(&self) -> &Arc<FoundationDb> {
        &self.engine
    }

    pub(in super::super) fn read_version(&self) -> Option<u64> {
        self.reader.get().map(Reader::version)
    }

    /// The snapshot, which the first call takes.
    pub(in super::super) async fn reader(&self) -> Result<&Reader> {
        self.engine.check_open()?;
        self.reader.get_or_try_init(|| Reader::begin(&self.engine)).await
    }

    pub(in super::super) async fn commit(
        &self,
        client: &str,
        label: &'static str,
        intent: Intent,
    ) -> Result<Committed> {
        let engine = Arc::clone(&self.engine);
        let to = Ground::FoundationDb { engine, read_version: self.read_version() };
        self.engine.faults().commit(client, label, intent, to).await
    }
}

/// A client transaction that only reads, at a version that is known.
pub(in super::super) struct Reader {
    engine: Arc<FoundationDb>,
    transaction: Transaction,
    version: u64,
    taken: Instant,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Reader {
    async fn begin(engine: &Arc<FoundationDb>) -> Result<Self> {
        let transaction = engine.transaction()?;
        // From before the question, so that it is not younger than the version.
        let taken = Instant::now();
        let version = engine.read_version(&transaction).await?;
        Ok(Self { engine: Arc::clone(engine), transaction, version, taken })
    }

    pub(in super::super) fn version(&self) -> u64 {
        self.version
    }

    pub(in super::super) fn taken(&self) -> Instant {
        self.taken
    }

    pub(super) fn engine(&self) -> &FoundationDb {
        &self.engine
    }

    pub(super) fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Costs no question: the client has it from the read version.
    pub(in super::super) async fn metadata_version(&self) -> Result<Versionstamp> {
        let value = self.transaction.get(METADATA_VERSION_KEY, true).await;
        let Some(value) = value.map_err(errors::of_read)? else { return Ok(Versionstamp::MIN) };
        Versionstamp::decode(&value).map_err(|error| super::Error::Corrupt {
            detail: format!("FoundationDB's metadata version: {error}"),
        })
    }

    /// Asks at once, so that several questions can be under way before the first is awaited.
    pub(in super::super) fn get(
        &self,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Bytes>>> + use<> {
        let value = self.transaction.get(&self.engine.prefix().full(key), true);
        async move {
            let value = value.await.map_err(errors::of_read)?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        }
    }

    /// Fills a page.
    pub(in super::super) async fn scan(&self, merge: Merge) -> Result<Page> {
        pages::fill(self, merge).await
    }
}
