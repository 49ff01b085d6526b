//! How many documents there are, and how their values are spread.
//!
//! Nothing here is exact and nothing has to be: figures are kept for a while
//! and only decide which way is thought to be the fastest.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::span::{Span, Spans};
use crate::codec::record::HistogramRecord;
use crate::codec::{keys, record};
use crate::document::Home;
use crate::error::Result;
use crate::index::Index;
use crate::store::{RangeRead, Read, Transaction, join_all};

/// How long figures are used before they are read again.
const KEPT: Duration = Duration::from_secs(15);

/// Documents that a bucket is thought to have when nothing is known.
const DOCUMENTS: f64 = 1_000.0;

/// What is thought of a condition on a field of which nothing is known.
const POINT: f64 = 0.01;
const RANGE: f64 = 0.2;

/// What is thought of an index of which nothing is known.
pub(super) static UNKNOWN: Shares =
    Shares { entries: DOCUMENTS, distinct: None, buckets: Vec::new(), descending: false };

/// The figures of a bucket.
#[derive(Clone, Debug)]
pub struct Figures {
    documents: f64,
    indexes: HashMap<u32, Shares>,
    read_at: Instant,
}

/// How the entries of one index are spread.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    entries: f64,
    /// Different values of all fields together.
    distinct: Option<f64>,
    /// Up to which key, and how many entries: those of the first field.
    buckets: Vec<(Vec<u8>, f64)>,
    descending: bool,
}

impl Figures {
    /// Figures given outright, as of now.
    pub fn new(documents: f64, indexes: HashMap<u32, Shares>) -> Self {
        Self { documents, indexes, read_at: Instant::now() }
    }

    /// Reads what is counted and what the last analysis of each index found.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn read(txn: &Transaction, home: &Home) -> Result<Self> {
        let range = RangeRead::prefix(keys::data_part(home.bucket(), keys::data::COUNT));
        let ready: Vec<_> = home.indexes().ready().collect();
        let shares: Vec<_> = ready.iter().map(|index| Shares::read(txn, home, index)).collect();
        let (counts, shares) = tokio::join!(txn.range(range.snapshot()), join_all(shares));
        let mut documents = 0;
        for (key, value) in counts?.rows {
            let (_, _, what) = keys::parse_count(&key)?;
            if what == keys::counted::DOCUMENTS {
                documents += record::decode_sum("count", Some(&value))?;
            }
        }
        let indexes = ready.iter().map(|index| index.id()).zip(shares?).collect();
        Ok(Self { documents: number(documents), indexes, read_at: Instant::now() })
    }

    /// Whether they have been used for long enough.
    pub fn are_stale(&self) -> bool {
        self.read_at.elapsed() >= KEPT
    }

    /// About how many documents there are.
    pub fn documents(&self) -> f64 {
        self.documents
    }

    /// How the entries of an index are spread.
    pub fn of(&self, index: u32) -> Option<&Shares> {
        self.indexes.get(&index)
    }
}

#[allow(clippy::cast_precision_loss, clippy::as_conversions, reason = "an estimate")]
fn number(count: i64) -> f64 {
    count.max(0) as f64
}

impl Shares {
    /// Shares given outright: entries, different values, and up to which key how many entries lie.
    pub fn new(entries: f64, distinct: Option<f64>, buckets: Vec<(Vec<u8>, f64)>) -> Self {
        Self { entries, distinct, buckets, descending: false }
    }

    async fn read(txn: &Transaction, home: &Home, index: &Index) -> Result<Self> {
        let counts = RangeRead::prefix(keys::index::count_prefix(home.bucket(), index.id()));
        let histogram = keys::index::histogram(home.bucket(), index.id());
        let (counts, histogram) =
            tokio::join!(txn.range(counts.snapshot()), txn.get(&histogram, Read::Snapshot));
        let mut sum = 0;
        for (_, value) in counts?.rows {
            sum += record::decode_sum("index-count", Some(&value))?;
        }
        let histogram = match histogram? {
            Some(value) => Some(record::decode::<HistogramRecord>("histogram", &value)?),
            None => None,
        };
        let descending = index.field(0).is_some_and(|(field, _)| field.descending);
        let Some(histogram) = histogram else {
            return Ok(Self {
                entries: number(sum),
                distinct: None,
                buckets: Vec::new(),
                descending,
            });
        };
        let buckets = histogram.buckets.into_iter();
        Ok(Self {
            entries: number(sum),
            distinct: Some(number(histogram.distinct)),
            buckets: buckets.map(|bucket| (bucket.last.bytes, number(bucket.entries))).collect(),
            descending,
        })
    }

    /// About how many entries there are.
    pub fn entries(&self) -> f64 {
        self.entries
    }

    /// Which part of the entries has a value in the spans under the field at a position.
    pub fn share(&self, position: usize, spans: &Spans) -> f64 {
        let spans = if self.descending && position == 0 { &spans.inverted() } else { spans };
        let share: f64 = spans.list().iter().map(|span| self.of_span(position, span)).sum();
        share.min(1.0)
    }

    fn of_span(&self, position: usize, span: &Span) -> f64 {
        if *span == Span::everything() {
            return 1.0;
        }
        let total: f64 = self.buckets.iter().map(|(_, entries)| entries).sum();
        if position > 0 || total <= 0.0 {
            return if span.point { POINT } else { RANGE };
        }
        let below = self.below(&span.end) - self.below(&span.begin);
        if span.point {
            // A value that fills a bucket is known to be frequent; else it is as frequent as the others.
            let others = self.distinct.map_or(POINT, |distinct| 1.0 / distinct.max(1.0));
            return (below / total).max(others).min(1.0);
        }
        // What lies within one bucket cannot be told from nothing.
        (below / total).max(1.0 / total).min(1.0)
    }

    /// Entries below a key: whole buckets, and half of the one that it falls into.
    fn below(&self, key: &[u8]) -> f64 {
        let mut sum = 0.0;
        for (last, entries) in &self.buckets {
            if last.as_slice() < key {
                sum += entries;
            } else {
                return sum + entries / 2.0;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Value, key};

    fn key(number: i32) -> Vec<u8> {
        let mut out = Vec::new();
        key::encode(&Value::Int32(number), None, &mut out);
        out
    }

    fn spans(begin: i32, end: i32) -> Spans {
        Spans::new(vec![Span { begin: key(begin), end: key(end), point: false }], true)
    }

    #[test]
    fn a_histogram_tells_narrow_from_wide() {
        let buckets = (1..=10).map(|tenth| (key(tenth * 100), 100.0)).collect();
        let shares = Shares::new(1000.0, Some(500.0), buckets);
        let half = shares.share(0, &spans(0, 501));
        assert!((0.4..0.6).contains(&half), "{half}");
        assert!(shares.share(0, &spans(900, 2000)) < 0.2);
        assert!(shares.share(0, &Spans::everything()) > 0.99);
        let point = shares.share(0, &Spans::new(vec![Span::point(key(7))], true));
        assert!(point < 0.01, "{point}");
    }

    #[test]
    fn a_frequent_value_is_known_as_one() {
        let buckets = vec![(key(1), 900.0), (key(1), 50.0), (key(9), 50.0)];
        let shares = Shares::new(1000.0, Some(50.0), buckets);
        assert!(shares.share(0, &Spans::new(vec![Span::point(key(1))], true)) > 0.4);
    }

    #[test]
    fn without_a_histogram_a_value_is_narrower_than_a_range() {
        let shares = Shares::new(1000.0, None, Vec::new());
        let point = Spans::new(vec![Span::point(key(1))], true);
        assert!(shares.share(0, &point) < shares.share(0, &spans(1, 2)));
    }
}
