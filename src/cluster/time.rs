//! Cluster time: one clock made of the members' clocks, which decides when
//! something expires.
//!
//! It is the lower median of what the members' clocks say, never goes
//! backwards, and is written by the observer. It is *suspect* while the clocks
//! disagree by more than a minute (among each other, or with the time that was
//! reached) or have jumped by more than five minutes; nothing is purged then.
//! It stops being so when the clocks agree again, after ten quiet minutes in
//! which all of them agree on the new time (a laptop that slept), or when an
//! administrator says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::errors::Result;
use super::rows;
use crate::clock::{Clock, milliseconds};
use crate::codec::duration::format_instant;
use crate::codec::record::{self, ClusterTimeRecord};
use crate::codec::{DecodeError, keys};
use crate::store::{Read, Transaction};

/// More disagreement than this is suspect.
pub const DISAGREEMENT_MAX: i64 = 60_000;
/// Cluster time advances by the elapsed time and at most so much more at a step.
pub const STEP_MAX: i64 = 300_000;
/// So long must all clocks agree on a new time before it is believed.
pub const QUIET: Duration = Duration::from_secs(600);

/// What this node knows of cluster time. A cheap handle.
#[derive(Debug, Clone)]
pub struct ClusterClock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    record: ClusterTimeRecord,
    read_at: Instant,
    given: i64,
    /// The own clock, until the stored time was seen to be kept.
    own: Option<Arc<dyn Clock>>,
}

impl ClusterClock {
    /// Begins with what was read. Give the node's own clock when nobody may
    /// have kept cluster time for long: until it is seen to move, promises do not
    /// count from an earlier time than the own clock shows.
    pub(super) fn new(record: ClusterTimeRecord, own: Option<Arc<dyn Clock>>) -> Self {
        let (given, read_at) = (record.now, Instant::now());
        Self { state: Arc::new(Mutex::new(State { record, read_at, given, own })) }
    }

    /// What to stamp removals and other promises with, in milliseconds since
    /// 1970: the cluster time, or what the clocks say where they are ahead of
    /// it and not believed yet. So a promise that counts from here is never
    /// shortened by believing them later.
    #[must_use]
    pub fn now(&self) -> i64 {
        let certain = self.certain();
        let state = self.lock();
        let pending = state.record.pending.map(|pending| pending.saturating_add(state.elapsed()));
        let own = state.own.as_ref().map(|clock| clock.now());
        certain.max(pending.unwrap_or(certain)).max(own.unwrap_or(certain))
    }

    /// The time that has surely come, in milliseconds since 1970; what expires
    /// by it has expired. Never goes backwards.
    #[must_use]
    pub fn certain(&self) -> i64 {
        let mut state = self.lock();
        state.given = state.record.now.saturating_add(state.elapsed()).max(state.given);
        state.given
    }

    /// Why purging is stopped, if the clocks cannot be trusted.
    #[must_use]
    pub fn suspect(&self) -> Option<String> {
        self.lock().record.suspect.clone()
    }

    /// Takes over what the store says.
    pub(super) fn update(&self, record: ClusterTimeRecord) {
        let mut state = self.lock();
        if state.record != record {
            state.record = record;
            state.read_at = Instant::now();
            state.own = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn elapsed(&self) -> i64 {
        milliseconds(self.read_at.elapsed())
    }
}

/// Reads cluster time for a transaction that rests on it.
///
/// # Errors
/// Those of the store; a missing record, since joining writes it.
pub async fn read(txn: &Transaction, read: Read) -> Result<ClusterTimeRecord> {
    let row = txn.get(&keys::cluster_time(), read).await?;
    let missing = || DecodeError { what: "cluster-time", detail: "it is missing".to_owned() };
    Ok(record::decode("cluster-time", &row.ok_or_else(missing)?)?)
}

/// Accepts what the clocks of the members say now, on an administrator's word.
/// Time still never goes backwards.
///
/// # Errors
/// Those of the store.
pub async fn confirm(txn: &Transaction) -> Result<ClusterTimeRecord> {
    let mut time = read(txn, Read::Conflict).await?;
    let members = rows::members(txn, Read::Snapshot).await?;
    let beats = rows::beats(txn).await?;
    let clocks: BTreeMap<String, i64> = beats
        .into_iter()
        .filter(|(node, beat)| {
            members.get(node).is_some_and(|member| member.incarnation == beat.incarnation)
        })
        .map(|(node, beat)| (node, beat.clock))
        .collect();
    if let Some(clocks) = Clocks::of(&clocks) {
        let spread = clocks.spread(time.now);
        time.accepted = (spread > DISAGREEMENT_MAX).then_some(spread);
        let now = time.now.max(clocks.median);
        time.doubted_ms = doubted(&time, now);
        time.now = now;
    }
    time.suspect = None;
    time.pending = None;
    txn.set(&keys::cluster_time(), &record::encode(&time))?;
    Ok(time)
}

/// By how much time has advanced in all while it was suspect, when it goes on to `now`.
fn doubted(stored: &ClusterTimeRecord, now: i64) -> i64 {
    let more = if stored.suspect.is_some() { now.saturating_sub(stored.now) } else { 0 };
    stored.doubted_ms.saturating_add(more)
}

/// What should be stored when the only member joins with its clock at `now`.
pub(super) fn judge_alone(stored: &ClusterTimeRecord, node: &str, now: i64) -> ClusterTimeRecord {
    let clocks = BTreeMap::from([(node.to_owned(), now)]);
    Judge::default().step(Instant::now(), stored, &clocks)
}

/// The clocks of the members at one moment.
struct Clocks {
    low: (String, i64),
    high: (String, i64),
    median: i64,
}

impl Clocks {
    fn of(clocks: &BTreeMap<String, i64>) -> Option<Self> {
        let mut sorted: Vec<(i64, &String)> =
            clocks.iter().map(|(node, clock)| (*clock, node)).collect();
        sorted.sort_unstable();
        let named = |(clock, node): &(i64, &String)| ((*node).clone(), *clock);
        Some(Self {
            low: named(sorted.first()?),
            high: named(sorted.last()?),
            median: sorted.get((sorted.len() - 1) / 2)?.0,
        })
    }

    /// How far the clocks and the time that was reached lie apart. That the
    /// clocks are ahead of it is no disagreement: time passes.
    fn spread(&self, reached: i64) -> i64 {
        self.high.1.max(reached).saturating_sub(self.low.1)
    }
}

/// Decides, step by step, what cluster time is. Keeps what only monotonic time
/// can tell; a new observer starts with none of it.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// The stored time, and since when it has been that.
    known: Option<(i64, Instant)>,
    /// Since when all clocks have agreed on a time that is not believed.
    quiet: Option<Quiet>,
}

#[derive(Debug, Clone, Copy)]
struct Quiet {
    since: Instant,
    clock: i64,
}

impl Judge {
    /// Takes note of the stored time, observer or not.
    pub(super) fn note(&mut self, at: Instant, stored: &ClusterTimeRecord) {
        if self.known.is_none_or(|(now, _)| now != stored.now) {
            self.known = Some((stored.now, at));
        }
    }

    /// What should be stored, given what is and what the members' clocks say.
    pub(super) fn step(
        &mut self,
        at: Instant,
        stored: &ClusterTimeRecord,
        clocks: &BTreeMap<String, i64>,
    ) -> ClusterTimeRecord {
        self.note(at, stored);
        let Some(clocks) = Clocks::of(clocks) else { return stored.clone() };
        let elapsed = self.known.map_or(0, |(_, since)| milliseconds(at.duration_since(since)));
        let expected = stored.now.saturating_add(elapsed);
        let spread = clocks.spread(stored.now);
        let tolerated = stored.accepted.unwrap_or(0).saturating_add(DISAGREEMENT_MAX);
        let jumped = clocks.median > expected.saturating_add(STEP_MAX);
        if spread <= tolerated && !jumped {
            self.quiet = None;
            let now = stored.now.max(clocks.median);
            return ClusterTimeRecord {
                now,
                suspect: None,
                pending: None,
                doubted_ms: doubted(stored, now),
                accepted: stored.accepted.filter(|_| spread > DISAGREEMENT_MAX),
            };
        }
        if self.is_quiet(at, &clocks) {
            self.quiet = None;
            let now = stored.now.max(clocks.median);
            return ClusterTimeRecord {
                now,
                suspect: None,
                pending: None,
                doubted_ms: doubted(stored, now),
                accepted: (spread > DISAGREEMENT_MAX).then_some(spread),
            };
        }
        let now = stored.now.max(clocks.median.min(expected));
        ClusterTimeRecord {
            now,
            doubted_ms: doubted(stored, now),
            suspect: Some(clocks.complaint(stored.now, tolerated)),
            pending: (clocks.median > expected).then_some(clocks.median),
            accepted: stored.accepted,
        }
    }

    /// Whether the clocks have agreed long enough and run as clocks do.
    fn is_quiet(&mut self, at: Instant, clocks: &Clocks) -> bool {
        let agree = clocks.high.1.saturating_sub(clocks.low.1) <= DISAGREEMENT_MAX;
        let goes_on = |quiet: &Quiet| {
            let passed = milliseconds(at.duration_since(quiet.since));
            let wanted = quiet.clock.saturating_add(passed);
            clocks.median.saturating_sub(wanted).saturating_abs() <= DISAGREEMENT_MAX
        };
        if !agree {
            self.quiet = None;
            return false;
        }
        let fresh = Quiet { since: at, clock: clocks.median };
        let quiet = self.quiet.filter(goes_on).unwrap_or(fresh);
        self.quiet = Some(quiet);
        at.duration_since(quiet.since) >= QUIET
    }
}

impl Clocks {
    fn complaint(&self, reached: i64, tolerated: i64) -> String {
        let seconds = |span: i64| span / 1_000;
        let among = self.high.1.saturating_sub(self.low.1);
        if among > tolerated {
            let ((low, _), (high, _)) = (&self.low, &self.high);
            format!("the clock of {high} is {} s ahead of that of {low}", seconds(among))
        } else if self.median > reached {
            format!(
                "the clocks have jumped {} s ahead of cluster time, to {}",
                seconds(self.median.saturating_sub(reached)),
                format_instant(self.median)
            )
        } else {
            format!(
                "the clock of {} is {} s behind cluster time, {}",
                self.low.0,
                seconds(reached.saturating_sub(self.low.1)),
                format_instant(reached)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(now: i64) -> ClusterTimeRecord {
        ClusterTimeRecord { now, suspect: None, pending: None, accepted: None, doubted_ms: 0 }
    }

    fn doubted(now: i64, doubted_ms: i64) -> ClusterTimeRecord {
        ClusterTimeRecord { doubted_ms, ..stored(now) }
    }

    fn clocks(list: &[i64]) -> BTreeMap<String, i64> {
        ["a", "b", "c"].iter().zip(list).map(|(node, clock)| ((*node).to_owned(), *clock)).collect()
    }

    /// Lets time run in steps of five seconds, with clocks that run on.
    struct Run {
        judge: Judge,
        record: ClusterTimeRecord,
        at: Instant,
    }

    impl Run {
        fn at(now: i64) -> Self {
            Self { judge: Judge::default(), record: stored(now), at: Instant::now() }
        }

        fn step(&mut self, list: &[i64]) -> &ClusterTimeRecord {
            self.record = self.judge.step(self.at, &self.record, &clocks(list));
            self.judge.note(self.at, &self.record);
            &self.record
        }

        fn pass(&mut self, seconds: i64) {
            self.at += Duration::from_secs(seconds.unsigned_abs());
        }
    }

    #[test]
    fn it_is_the_lower_median_and_never_goes_backwards() {
        let mut run = Run::at(1_000);
        assert_eq!(run.step(&[5_000, 3_000, 9_000]).now, 5_000);
        assert_eq!(run.step(&[6_000, 9_000]).now, 6_000);
        assert_eq!(run.step(&[2_000]), &stored(6_000));
    }

    #[test]
    fn a_small_step_is_believed_at_once() {
        let mut run = Run::at(0);
        assert_eq!(run.step(&[STEP_MAX]), &stored(STEP_MAX));
    }

    #[test]
    fn a_jump_is_suspect_and_believed_after_ten_quiet_minutes() {
        const NIGHT: i64 = 8 * 3_600_000;
        let mut run = Run::at(0);
        run.step(&[0]);
        let first = run.step(&[NIGHT]).clone();
        assert_eq!((first.now, first.pending), (0, Some(NIGHT)));
        assert!(first.suspect.unwrap().contains("28800 s ahead"));
        for second in (5..600).step_by(5) {
            run.pass(5);
            let record = run.step(&[NIGHT + second * 1_000]);
            assert!(record.suspect.is_some(), "{second}");
            assert_eq!(record.now, second * 1_000, "it goes on at its own pace");
        }
        run.pass(5);
        let believed = doubted(NIGHT + 600_000, NIGHT + 600_000);
        assert_eq!(run.step(&[NIGHT + 600_000]), &believed);
        run.pass(5);
        assert_eq!(run.step(&[NIGHT + 605_000]).doubted_ms, NIGHT + 600_000, "it is trusted");
    }

    #[test]
    fn a_clock_that_jumps_again_begins_the_ten_minutes_anew() {
        let mut run = Run::at(0);
        run.step(&[1_000_000]);
        run.pass(590);
        assert!(run.step(&[9_000_000]).suspect.is_some());
        run.pass(590);
        assert!(run.step(&[9_590_000]).suspect.is_some());
        run.pass(10);
        assert_eq!(run.step(&[9_600_000]), &doubted(9_600_000, 9_600_000));
    }

    #[test]
    fn a_jump_that_is_taken_back_is_forgotten() {
        let mut run = Run::at(0);
        run.step(&[1_000_000]);
        run.pass(5);
        assert_eq!(run.step(&[5_000]), &doubted(5_000, 5_000));
    }

    #[test]
    fn members_that_disagree_are_named_and_not_believed_however_long() {
        let mut run = Run::at(0);
        for second in 0..2_000 {
            let record = run.step(&[second * 1_000, second * 1_000 + 61_000]);
            let suspect = record.suspect.as_deref().unwrap();
            assert_eq!(suspect, "the clock of b is 61 s ahead of that of a");
            run.pass(1);
        }
        assert_eq!(run.record.now, 1_999_000);
        assert_eq!(run.step(&[2_000_000, 2_060_000]), &doubted(2_000_000, 2_000_000));
    }

    #[test]
    fn clocks_behind_the_time_that_was_reached_are_suspect_and_time_stands_still() {
        let mut run = Run::at(3_600_000);
        let record = run.step(&[0]).clone();
        assert!(record.suspect.unwrap().contains("the clock of a is 3600 s behind"));
        assert_eq!((record.now, record.pending), (3_600_000, None));
        run.pass(600);
        let record = run.step(&[600_000]).clone();
        assert_eq!((record.now, record.suspect), (3_600_000, None));
        assert_eq!(record.accepted, Some(3_000_000));
        run.pass(2_000);
        assert!(run.step(&[2_600_000]).suspect.is_none());
        run.pass(1_000);
        assert_eq!(run.step(&[3_600_000]), &stored(3_600_000));
    }

    #[test]
    fn what_was_accepted_is_tolerated_until_it_grows() {
        let mut run = Run::at(0);
        run.record.accepted = Some(100_000);
        assert!(run.step(&[0, 160_000]).suspect.is_none());
        assert!(run.step(&[0, 160_001]).suspect.is_some());
        assert!(run.step(&[0, 1_000]).accepted.is_none(), "forgotten when they agree");
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_runs_on_between_reads_and_never_backwards() {
        let clock = ClusterClock::new(stored(1_000), None);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!((clock.now(), clock.certain()), (4_000, 4_000));
        clock.update(stored(2_000));
        assert_eq!(clock.certain(), 4_000);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.certain(), 5_000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_own_clock_counts_for_promises_until_somebody_keeps_time() {
        let own = crate::clock::TestClock::starting_at(9_000);
        let clock = ClusterClock::new(stored(1_000), Some(Arc::new(own)));
        assert_eq!((clock.now(), clock.certain()), (9_000, 1_000));
        clock.update(stored(1_000));
        assert_eq!(clock.now(), 9_000, "nobody has kept it yet");
        clock.update(stored(2_000));
        assert_eq!(clock.now(), 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn promises_count_from_the_later_of_two_times_while_clocks_are_not_believed() {
        let clock = ClusterClock::new(stored(0), None);
        clock.update(ClusterTimeRecord {
            now: 0,
            suspect: Some("jumped".to_owned()),
            pending: Some(1_000_000),
            ..stored(0)
        });
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((clock.now(), clock.certain()), (1_001_000, 1_000));
        assert_eq!(clock.suspect().as_deref(), Some("jumped"));
        clock.update(stored(2_000));
        assert_eq!(clock.now(), 2_000);
    }
}
