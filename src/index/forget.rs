//! Values of documents that are destroyed, where the figures of indexes hold them.
//!
//! The entries of a document go when it is deleted, but a histogram names the last
//! value of each of its parts, and an analysis under way has some of them already. When
//! nothing of a document is to be left these are looked through: a histogram that
//! names a value which no other document has goes, and the index is analyzed anew.
//! It happens for one in many documents, about as often as there are parts.
//!
//! Not here: making histograms (`statistics`, `worker`).

use std::collections::BTreeSet;

use super::statistics::KEY_BYTES_MAX;
use super::{Index, Indexes, entries, task};
use crate::codec::record::{self, AnalysisRecord, HistogramRecord, TaskKind};
use crate::codec::{BucketId, keys};
use crate::error::{Error, Result};
use crate::store::{self, RangeRead, Read, Transaction};
use crate::value::Raw;

/// Takes the values of documents that are destroyed in this transaction out of the
/// figures of all indexes. They must have been deleted before, or earlier in this
/// transaction. Of a document that is too large to be looked at (`None`) any value may
/// be there.
///
/// # Errors
/// Those of the store; damage.
pub async fn forget_values(
    txn: &Transaction,
    bucket: BucketId,
    indexes: &Indexes,
    documents: &[Option<Raw<'_>>],
    now: i64,
) -> Result<()> {
    if documents.is_empty() || indexes.is_empty() {
        return Ok(());
    }
    for index in indexes.kept() {
        let key = keys::index::histogram(bucket, index.id());
        let histogram = txn.get(&key, Read::Conflict).await?;
        let histogram = histogram
            .map(|value| record::decode::<HistogramRecord>("histogram", &value))
            .transpose()?;
        // With conflict also on its absence: one that is asked for at this moment may
        // read entries that go in this transaction.
        let task = task::read(txn, bucket, index.id(), TaskKind::Analyze, Read::Conflict).await;
        let (task, asked) = match task {
            Ok(task) => (task.filter(|task| task.record.status.is_open()), false),
            // This transaction has asked for it before.
            Err(Error::Store(store::Error::AccessedUnreadable)) => (None, true),
            Err(error) => return Err(error),
        };
        if histogram.is_none() && task.is_none() {
            continue;
        }
        let gone = Gone::new(index, documents);
        let named = match &histogram {
            Some(histogram) => gone.is_named(txn, bucket, histogram).await?,
            None => false,
        };
        if named {
            txn.clear(&key)?;
        }
        let analysis = task.as_ref().and_then(|task| task.record.analysis.as_deref());
        let begun = match analysis {
            Some(analysis) => gone.is_in(txn, bucket, analysis).await?,
            None => false,
        };
        match task {
            _ if asked => {}
            _ if (named || begun) && index.is_ready() => {
                task::ask(txn, bucket, index.id(), TaskKind::Analyze, now)?;
            }
            // A part of it that has read the entries before they went is read again.
            Some(task) => task::write(txn, bucket, index.id(), &task)?,
            None => {}
        }
    }
    Ok(())
}

/// The values that documents had in one index, as they stand in keys.
struct Gone {
    index: u32,
    values: BTreeSet<Vec<u8>>,
    /// There may be any others.
    unknown: bool,
}

impl Gone {
    fn new(index: &Index, documents: &[Option<Raw<'_>>]) -> Self {
        let known = documents.iter().flatten();
        // One with too many of them cannot have come in, so it had none.
        let rows = known.flat_map(|raw| entries(index, *raw, false).unwrap_or_default().rows);
        let values = rows.map(|(values, _)| values).collect();
        let unknown = documents.iter().any(Option::is_none);
        Self { index: index.id(), values, unknown }
    }

    async fn is_named(
        &self,
        txn: &Transaction,
        bucket: BucketId,
        histogram: &HistogramRecord,
    ) -> Result<bool> {
        for part in &histogram.buckets {
            if self.was(txn, bucket, &part.last.bytes).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn is_in(
        &self,
        txn: &Transaction,
        bucket: BucketId,
        analysis: &AnalysisRecord,
    ) -> Result<bool> {
        Ok(self.was(txn, bucket, &analysis.last.bytes).await?
            || self.is_named(txn, bucket, &analysis.histogram).await?)
    }

    /// Whether a value, cut where it is long, is one of these, and nobody else has it.
    async fn was(&self, txn: &Transaction, bucket: BucketId, named: &[u8]) -> Result<bool> {
        let is_it = |values: &Vec<u8>| {
            values[..] == *named || (named.len() == KEY_BYTES_MAX && values.starts_with(named))
        };
        if !self.unknown && !self.values.iter().any(is_it) {
            return Ok(false);
        }
        // With conflict: of two that go at once neither counts on the other.
        let range = RangeRead::prefix([&keys::index::entries(bucket, self.index), named].concat());
        Ok(txn.range(range.limit(1)).await?.rows.is_empty())
    }
}
