use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use tokio::time::Instant;

use super::bounds::KeyRange;
use crate::codec::record::{self, AnalysisRecord, HistogramBucket, HistogramRecord};
use crate::codec::{BucketId, keys};
use crate::error::Result;
use crate::store::{RangeRead, Read, Transaction};

/// About how many buckets a histogram has.
const BUCKETS: i64 = 100;
/// What a bucket keeps of the key at its end.
pub(super) const KEY_BYTES_MAX: usize = 64;

/// What is known of how many entries an index has, and where. Never exact for a
/// plan to rely on: it may be out of date.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    entries: i64,
    histogram: Option<HistogramRecord>,
}

impl Statistics {
    /// Reads them, without conflict.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn read(txn: &Transaction, bucket: BucketId, index: u32) -> Result<Self> {
        let histogram = txn.get(&keys::index::histogram(bucket, index), Read::Snapshot).await?;
        let histogram = histogram.map(|value| record::decode("histogram", &value)).transpose()?;
        Ok(Self { entries: cardinality(txn, bucket, index).await?, histogram })
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> i64 {
        self.entries
    }

    /// How many different values there were at the last analysis.
    #[must_use]
    pub fn distinct(&self) -> Option<i64> {
        self.histogram.as_ref().map(|histogram| histogram.distinct.max(1))
    }

    /// About how many entries lie in a range; `None` before the first analysis.
    #[must_use]
    pub fn estimate(&self, bucket: BucketId, index: u32, range: &KeyRange) -> Option<i64> {
        let histogram = self.histogram.as_ref().filter(|known| known.entries > 0)?;
        let prefix = keys::index::entries(bucket, index);
        let begin = range.begin.strip_prefix(&prefix[..]).unwrap_or_default();
        let end = range.end.strip_prefix(&prefix[..]);
        let (mut inside, mut first) = (0, &[][..]);
        for part in &histogram.buckets {
            let last = &part.last.bytes[..];
            let before = last < begin;
            let behind = end.is_some_and(|end| end <= first);
            if !before && !behind {
                let whole = begin <= first && end.is_none_or(|end| last < end);
                // Of a bucket at the edge of the range half is as good a guess as any, unless
                // both edges are in it: then it is about one value.
                let within = begin > first && end.is_some_and(|end| end <= last);
                let one = histogram.entries / histogram.distinct.max(1);
                inside += match (whole, within) {
                    (true, _) => part.entries,
                    (_, true) => one.clamp(1, part.entries.max(1)),
                    _ => (part.entries / 2).max(1),
                };
            }
            first = last;
        }
        // The index has grown or shrunk since.
        let scaled = i128::from(inside) * i128::from(self.entries) / i128::from(histogram.entries);
        Some(i64::try_from(scaled).unwrap_or(i64::MAX))
    }
}

/// How many entries an index has: exact, as of the transaction's snapshot.
///
/// # Errors
/// Those of the store; damage.
pub async fn cardinality(txn: &Transaction, bucket: BucketId, index: u32) -> Result<i64> {
    let mut sum = 0_i64;
    let mut next = Some(RangeRead::prefix(keys::index::count_prefix(bucket, index)).snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (_, value) in &page.rows {
            sum = sum.saturating_add(record::decode_sum("index-count", Some(value))?);
        }
        next = range.after(&page);
    }
    Ok(sum)
}

/// Makes a histogram of the entries of an index, which are shown to it in order.
#[derive(Debug)]
pub struct Analysis {
    histogram: HistogramRecord,
    /// Entries of one bucket.
    width: i64,
    open: i64,
    last: Vec<u8>,
    last_id: [u8; 12],
}

impl Analysis {
    /// Of an index with about so many entries.
    #[must_use]
    pub fn new(entries: i64) -> Self {
        let histogram = HistogramRecord { at: 0, entries: 0, distinct: 0, buckets: Vec::new() };
        let width = (entries / BUCKETS).max(1);
        Self { histogram, width, open: 0, last: Vec::new(), last_id: [0; 12] }
    }

    /// Goes on where another one stopped.
    #[must_use]
    pub fn resume(record: AnalysisRecord) -> Self {
        Self {
            histogram: record.histogram,
            width: record.width.max(1),
            open: record.open,
            last: record.last.bytes,
            last_id: record.last_id.bytes(),
        }
    }

    /// What it takes to go on elsewhere.
    #[must_use]
    pub fn record(&self) -> AnalysisRecord {
        AnalysisRecord {
            histogram: self.histogram.clone(),
            width: self.width,
            open: self.open,
            last: binary(self.last.clone()),
            last_id: ObjectId::from_bytes(self.last_id),
        }
    }

    /// What follows the prefix in the key of the last entry that was shown; `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<Vec<u8>> {
        (self.histogram.entries > 0).then(|| [&self.last[..], &self.last_id].concat())
    }

    /// The next entry: the keys of its values, and its document.
    pub fn show(&mut self, values: &[u8], id: [u8; 12]) {
        if self.histogram.entries == 0 || self.last != values {
            self.histogram.distinct += 1;
        }
        values.clone_into(&mut self.last);
        self.last_id = id;
        self.histogram.entries += 1;
        self.open += 1;
        if self.open >= self.width {
            self.close();
        }
    }

    /// How many were shown.
    #[must_use]
    pub fn entries(&self) -> i64 {
        self.histogram.entries
    }

    /// The histogram, made at this time.
    #[must_use]
    pub fn finish(mut self, at: i64) -> HistogramRecord {
        self.close();
        self.histogram.at = at;
        self.histogram
    }

    fn close(&mut self) {
        if self.open == 0 {
            return;
        }
        let mut bytes = self.last.clone();
        bytes.truncate(KEY_BYTES_MAX);
        let last = binary(bytes);
        self.histogram.buckets.push(HistogramBucket { last, entries: self.open });
        self.open = 0;
        // Many more came than were expected: two buckets become one.
        if i64::try_from(self.histogram.buckets.len()).unwrap_or(i64::MAX) >= 2 * BUCKETS {
            self.width *= 2;
            let buckets = std::mem::take(&mut self.histogram.buckets);
            self.histogram.buckets = buckets
                .chunks(2)
                .filter_map(|pair| {
                    let entries = pair.iter().map(|part| part.entries).sum();
                    Some(HistogramBucket { last: pair.last()?.last.clone(), entries })
                })
                .collect();
        }
    }
}

fn binary(bytes: Vec<u8>) -> bson::Binary {
    bson::Binary { subtype: BinarySubtype::Generic, bytes }
}

/// Statistics that were read not long ago, so that plans cost no reads.
#[derive(Debug)]
pub struct StatisticsCache {
    cache: quick_cache::sync::Cache<(BucketId, u32), (Instant, Arc<Statistics>)>,
    age_max: Duration,
}

impl StatisticsCache {
    /// Keeps those of so many indexes for so long.
    #[must_use]
    pub fn new(capacity: usize, age_max: Duration) -> Self {
        Self { cache: quick_cache::sync::Cache::new(capacity.max(1)), age_max }
    }

    /// The statistics of an index, read if they are not known or too old.
    ///
    /// # Errors
    /// Those of [`Statistics::read`].
    pub async fn get(
        &self,
        txn: &Transaction,
        bucket: BucketId,
        index: u32,
    ) -> Result<Arc<Statistics>> {
        let known = self.cache.get(&(bucket, index));
        if let Some((at, known)) = known
            && at.elapsed() < self.age_max
        {
            return Ok(known);
        }
        let read = Arc::new(Statistics::read(txn, bucket, index).await?);
        self.cache.insert((bucket, index), (Instant::now(), Arc::clone(&read)));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: BucketId = BucketId(7);

    /// Statistics of an index with these values, one byte each.
    fn of(values: &[u8], expected: i64) -> Statistics {
        let mut analysis = Analysis::new(expected);
        for value in values {
            analysis.show(&[*value], [0; 12]);
        }
        let entries = analysis.entries();
        Statistics { entries, histogram: Some(analysis.finish(0)) }
    }

    fn estimate(statistics: &Statistics, begin: u8, end: u8) -> i64 {
        let prefix = keys::index::entries(BUCKET, 1);
        let key = |at: u8| [&prefix[..], &[at]].concat();
        let range = KeyRange { begin: key(begin), end: key(end), exact: true };
        statistics.estimate(BUCKET, 1, &range).unwrap()
    }

    #[test]
    fn an_estimate_is_near_what_is_there() {
        let values: Vec<u8> = (0..20_000_u32).map(|n| u8::try_from(n / 80).unwrap()).collect();
        for expected in [20_000, 100] {
            let statistics = of(&values, expected);
            assert_eq!(statistics.distinct(), Some(250));
            let all = keys::index::entries(BUCKET, 1);
            let all = KeyRange { begin: all.clone(), end: keys::after(&all), exact: true };
            assert_eq!(statistics.estimate(BUCKET, 1, &all), Some(20_000));
            let half = estimate(&statistics, 0, 125);
            assert!((9_000..=11_000).contains(&half), "{half}");
            let one = estimate(&statistics, 10, 11);
            assert!((1..=500).contains(&one), "{one}");
        }
    }

    #[test]
    fn a_value_that_most_have_is_seen_to_be_that() {
        let mut values = vec![5; 10_000];
        values.extend(6..200);
        let statistics = of(&values, 10_194);
        assert!(estimate(&statistics, 5, 6) > 9_000);
        assert!(estimate(&statistics, 100, 101) < 200);
    }

    #[test]
    fn an_analysis_that_is_stopped_anywhere_and_resumed_finds_the_same() {
        let values: Vec<u8> =
            (0..2_000_u32).map(|n| u8::try_from(n * n % 97 / 3).unwrap()).collect();
        let mut sorted = values;
        sorted.sort_unstable();
        for stop in [0, 1, 19, 20, 21, 777, 1_999, 2_000] {
            let mut analysis = Analysis::new(100);
            let mut stopped = None;
            for (at, value) in (0..=u8::MAX).cycle().zip(&sorted).enumerate() {
                if at == stop {
                    stopped = Some(analysis.record());
                    analysis = Analysis::resume(stopped.clone().unwrap());
                }
                analysis.show(&[*value.1], [value.0; 12]);
                assert_eq!(analysis.last(), Some([&[*value.1][..], &[value.0; 12]].concat()));
            }
            let mut whole = Analysis::new(100);
            for value in &sorted {
                whole.show(&[*value], [0; 12]);
            }
            assert_eq!(analysis.finish(7), whole.finish(7), "{stop}");
            assert!(stopped.is_some() || stop == sorted.len());
        }
        assert_eq!(Analysis::new(1).last(), None);
    }

    #[test]
    fn a_histogram_stays_small_however_many_entries_there_are() {
        let values: Vec<u8> = (0..=255).flat_map(|value| vec![value; 40]).collect();
        let statistics = of(&values, 0);
        assert!(statistics.histogram.unwrap().buckets.len() < 200);
        assert_eq!(Statistics::default().distinct(), None);
    }
}
