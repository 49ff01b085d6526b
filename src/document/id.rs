use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bson::oid::ObjectId;

use crate::clock::Clock;

/// Makes ObjectIds: seconds, five bytes that are this process, and a count.
///
/// Each id is greater than all that this maker has made before, also when the
/// clock goes back or more than sixteen million are made in one second (then
/// the seconds run ahead of the clock).
#[derive(Clone, Debug)]
pub struct ObjectIds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: [u8; 5],
    clock: Arc<dyn Clock>,
    /// Seconds in the upper 32 bits of 56, the count in the lower 24.
    last: AtomicU64,
}

impl ObjectIds {
    /// A maker. `process` must be random: it tells processes apart.
    pub fn new(process: [u8; 5], clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { process, clock, last: AtomicU64::new(0) }))
    }

    /// The next id.
    pub fn next_id(&self) -> ObjectId {
        let seconds = u64::try_from(self.0.clock.now() / 1000).unwrap_or_default() & 0xffff_ffff;
        let now = seconds << 24;
        let step = |last: u64| (last + 1).max(now);
        let before =
            self.0.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(step(last)));
        let [_, s0, s1, s2, s3, c0, c1, c2] = step(before.unwrap_or_default()).to_be_bytes();
        let [p0, p1, p2, p3, p4] = self.0.process;
        ObjectId::from_bytes([s0, s1, s2, s3, p0, p1, p2, p3, p4, c0, c1, c2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;

    #[tokio::test(start_paused = true)]
    async fn ids_grow_also_when_the_clock_goes_back() {
        let clock = TestClock::starting_at(1_700_000_000_000);
        let ids = ObjectIds::new([1, 2, 3, 4, 5], Arc::new(clock.clone()));
        let first = ids.next_id();
        let second = ids.next_id();
        clock.jump(-3_600_000);
        let third = ids.next_id();
        clock.jump(7_200_000);
        let fourth = ids.next_id();
        assert!(first < second && second < third && third < fourth);
        assert_eq!(first.timestamp().timestamp_millis(), 1_700_000_000_000);
        assert_eq!(fourth.timestamp().timestamp_millis(), 1_700_003_600_000);
    }
}
