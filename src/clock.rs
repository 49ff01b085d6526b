//! Wall time, as something that can be passed in.
//!
//! Nothing below `node` asks the operating system what time it is: it is given
//! a [`Clock`], so that tests set the time and let it jump. Monotonic time is
//! `tokio::time::Instant`, which tests can pause. Cluster time, which decides
//! when something expires, is made of the members' clocks in `cluster`.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// A wall clock: milliseconds since 1970. May jump, forwards and backwards.
pub trait Clock: Debug + Send + Sync {
    fn now(&self) -> i64;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> i64 {
        match std::time::SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, std::ops::Neg::neg)
            }
        }
    }
}

/// A clock that shows what it was set to and then runs with tokio's time, so
/// that it stands still or jumps as a test wants.
#[derive(Debug, Clone)]
pub struct TestClock {
    origin: tokio::time::Instant,
    offset: Arc<AtomicI64>,
}

impl TestClock {
    /// A clock that shows `now` (milliseconds since 1970) at this moment.
    #[must_use]
    pub fn starting_at(now: i64) -> Self {
        Self { origin: tokio::time::Instant::now(), offset: Arc::new(AtomicI64::new(now)) }
    }

    /// Lets the clock jump, `by` milliseconds forwards or (negative) backwards.
    pub fn jump(&self, by: i64) {
        self.offset.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> i64 {
        self.offset.load(Ordering::SeqCst).saturating_add(milliseconds(self.origin.elapsed()))
    }
}

/// A duration in whole milliseconds, at most `i64::MAX`.
#[must_use]
pub fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
