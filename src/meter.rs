//! Counters that are cheap enough for the hot path.
//!
//! Whoever does something counts it here: an addition to an atomic, no lock, no
//! allocation. Whoever wants to know reads a copy. INFO and the metrics page
//! read the same counters, so they never tell two stories.
//!
//! Not here: names, labels and units (`http`, docs/metrics.md), and who counts what.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Upper bounds of the buckets for times, in microseconds: 10 µs to 10 s.
pub const TIMES: [u64; 17] = [
    10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// Upper bounds of the buckets for numbers of things that go together.
pub const SIZES: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1_024, 4_096];

/// Microseconds in buckets.
pub type Times = Histogram<17>;

/// Numbers of things in buckets.
pub type Sizes = Histogram<11>;

/// Counts values by size, in buckets that are fixed from the start.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [AtomicU64; N],
    /// Values above the last bound.
    above: AtomicU64,
    sum: AtomicU64,
}

impl Times {
    /// An empty histogram of microseconds.
    pub const fn times() -> Self {
        Self::new(&TIMES)
    }

    /// Counts how long something took.
    pub fn note_time(&self, took: Duration) {
        self.note(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Sizes {
    /// An empty histogram of numbers of things.
    pub const fn sizes() -> Self {
        Self::new(&SIZES)
    }
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram with these upper bounds, in rising order.
    pub const fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; N],
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub fn note(&self, value: u64) {
        let place = self.bounds.iter().position(|bound| value <= *bound);
        let counter = place.and_then(|place| self.counts.get(place)).unwrap_or(&self.above);
        counter.fetch_add(1, Ordering::Relaxed);
        if value > 0 {
            self.sum.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// What was counted so far. While others count, the parts may be a moment apart.
    pub fn read(&self) -> Distribution<N> {
        Distribution {
            bounds: *self.bounds,
            counts: std::array::from_fn(|place| {
                self.counts.get(place).map_or(0, |counter| counter.load(Ordering::Relaxed))
            }),
            above: self.above.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What a [`Histogram`] has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distribution<const N: usize> {
    /// The upper bounds of the buckets.
    pub bounds: [u64; N],
    /// How many values lie in each bucket and in none before it.
    pub counts: [u64; N],
    /// How many lie above the last bound.
    pub above: u64,
    /// All values together.
    pub sum: u64,
}

impl Default for Distribution<11> {
    fn default() -> Self {
        Sizes::sizes().read()
    }
}

impl Default for Distribution<17> {
    fn default() -> Self {
        Times::times().read()
    }
}

impl<const N: usize> Distribution<N> {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(self.above, |sum, count| sum.saturating_add(*count))
    }

    /// The bound of the bucket in which this share of the values (in thousandths) is reached: no
    /// value of that share is larger. `None` where there are none, or where it lies above all bounds.
    pub fn permille(&self, share: u64) -> Option<u64> {
        let wanted = self.count().saturating_mul(share).div_ceil(1_000).max(1);
        let mut reached = 0_u64;
        self.bounds.iter().zip(&self.counts).find_map(|(bound, count)| {
            reached = reached.saturating_add(*count);
            (reached >= wanted).then_some(*bound)
        })
    }
}

/// Bounds how often something is said, so that nobody can flood a log by making us say it.
#[derive(Debug)]
pub struct Throttle {
    per_second: u32,
    state: Mutex<Spoken>,
}

#[derive(Debug, Default)]
struct Spoken {
    second: Option<Instant>,
    said: u32,
    kept_back: u64,
}

impl Throttle {
    /// Lets so many through in a second.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, state: Mutex::default() }
    }

    /// Whether it may be said now; then how often it was kept back since it was said last.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = state.second.is_none_or(|second| now - second >= Duration::from_secs(1));
        if fresh {
            state.second = Some(now);
            state.said = 0;
        }
        if state.said >= self.per_second {
            state.kept_back += 1;
            return None;
        }
        state.said += 1;
        Some(std::mem::take(&mut state.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_back_is_counted_and_told_later() {
        let throttle = Throttle::new(2);
        let now = Instant::now();
        let said: Vec<_> = (0..5).map(|_| throttle.admit(now)).collect();
        assert_eq!(said, [Some(0), Some(0), None, None, None]);
        let later = now + Duration::from_secs(1);
        assert_eq!((throttle.admit(later), throttle.admit(later)), (Some(3), Some(0)));
        assert_eq!(throttle.admit(later), None);
    }

    #[test]
    fn a_value_is_counted_in_the_first_bucket_that_holds_it() {
        let sizes = Sizes::sizes();
        for value in [0, 1, 2, 3, 4, 4_096, 4_097] {
            sizes.note(value);
        }
        let read = sizes.read();
        assert_eq!(&read.counts[..3], [2, 1, 2]);
        assert_eq!((read.counts[10], read.above), (1, 1));
        assert_eq!((read.count(), read.sum), (7, 10 + 4_096 + 4_097));
    }

    #[test]
    fn a_share_is_reached_in_the_bucket_with_enough_values() {
        let times = Times::times();
        assert_eq!(times.read().permille(500), None);
        for _ in 0..99 {
            times.note(40);
        }
        times.note(700);
        assert_eq!(times.read().permille(500), Some(50));
        assert_eq!(times.read().permille(990), Some(50));
        assert_eq!(times.read().permille(999), Some(1_000));
        times.note(u64::MAX / 2);
        assert_eq!(times.read().permille(1_000), None);
    }

    #[test]
    fn bounds_rise() {
        assert!(TIMES.is_sorted() && SIZES.is_sorted());
    }
}
