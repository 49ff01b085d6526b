//! Noticing silent members: rule 15, and what else one member does for all.
//!
//! One member has the duty at a time. It evicts who is silent, gives shards
//! without a member to members, clears rows that nobody owns any more, trims
//! the journal and keeps cluster time. The others watch only the observer, and
//! one of them takes the duty when the observer is silent or gone.
//!
//! An interval counts as silence only between two successful heartbeats of
//! this node and two successful reads: the loop runs after each heartbeat, and
//! a failed read makes the next one start anew. So an outage of the store
//! evicts nobody. Nor does it count for longer than an interval should be, so
//! that a node that stood still itself does not blame the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{info, warn};

use super::acknowledge::Roster;
use super::errors::{Error, Result};
use super::handle::Shared;
use super::membership::{self, Silent};
use super::rows::{self, Identity};
use super::time::{self, Judge};
use super::{journal, membership::clear_prefix};
use crate::clock::milliseconds;
use crate::codec::record::{
    self, BeatRecord, BusyRecord, ClusterTimeRecord, JournalMarkRecord, ObserverRecord,
};
use crate::codec::{Versionstamp, keys};
use crate::store::{RangeRead, Read, Resolve, Transaction};

/// Rounds between two sweeps and between two writes of cluster time.
const SWEEP_EVERY: u64 = 10;
const TIME_EVERY: u64 = 5;
const TRIM_EVERY: u64 = 60;
/// Up to so many members everybody sights everybody.
const SIGHTED_MAX: usize = 50;
/// How long the journal is kept though everybody has seen it, in milliseconds.
const JOURNAL_KEPT: i64 = 3_600_000;

/// What this node has seen of another's heartbeat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    pub(super) beat: BeatRecord,
    /// When the counter was first seen to be this.
    pub(super) at: Instant,
    /// The counter was seen to move, so that `at` tells when it was written.
    pub(super) moved: bool,
    /// The intervals that count since then.
    silent: Duration,
}

impl Sighting {
    /// What the member's clock says now.
    pub(super) fn clock(&self, now: Instant) -> Option<i64> {
        let passed = milliseconds(now.duration_since(self.at));
        self.moved.then(|| self.beat.clock.saturating_add(passed))
    }
}

pub(super) type Sightings = BTreeMap<String, Sighting>;

pub(super) struct Observer {
    shared: Arc<Shared>,
    judge: Judge,
    /// The last round that succeeded; `None`: the next one only begins to count.
    last: Option<Instant>,
    rounds: u64,
    /// Someone was removed since the last sweep.
    sweep: bool,
}

/// What a round sees, at one snapshot.
struct Look {
    /// Those whose heartbeats were read.
    members: rows::Members,
    beats: BTreeMap<String, BeatRecord>,
    observer: Option<ObserverRecord>,
    time: ClusterTimeRecord,
}

impl Observer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, judge: Judge::default(), last: None, rounds: 0, sweep: true }
    }

    /// Observes until it is dropped; ends only with the node's last heartbeat.
    pub(super) async fn run(mut self) {
        let mut beats = self.shared.beats.subscribe();
        let mut controls = self.shared.controls.subscribe();
        while beats.changed().await.is_ok() {
            if controls.wait_for(|controls| !controls.observer_paused).await.is_err() {
                return;
            }
            match self.round().await {
                // The follower notices as well, and ends the incarnation.
                Ok(()) | Err(Error::NotMember { .. }) => {}
                Err(error) => {
                    self.last = None;
                    warn!(node = %self.shared.identity.node, %error, "cannot observe the cluster");
                }
            }
        }
    }

    async fn round(&mut self) -> Result<()> {
        let look = self.look().await?;
        let now = Instant::now();
        self.shared.time.update(look.time.clone());
        self.judge.note(now, &look.time);
        self.sight(now, &look);
        self.rounds += 1;
        let identity = &self.shared.identity;
        let duty = look.observer.as_ref().is_some_and(|observer| {
            observer.node == identity.node && observer.incarnation == identity.incarnation
        });
        if duty { self.observe(now, look).await } else { self.watch_observer(&look).await }
    }

    async fn look(&self) -> Result<Look> {
        let (identity, roster) = (&self.shared.identity, self.shared.roster());
        let roster = roster.as_ref();
        let body = |txn: Transaction| async move { look(&txn, identity, roster).await };
        Ok(self.shared.store.run("observe", Resolve::Idempotent, body).await?.value)
    }

    /// Compares the heartbeats with those of the last round.
    fn sight(&mut self, now: Instant, look: &Look) {
        let longest = self.shared.options.heartbeat.mul_f64(1.5);
        let interval = self.last.map_or(Duration::ZERO, |last| (now - last).min(longest));
        self.last = Some(now);
        let mut sightings = self.shared.sightings();
        sightings.retain(|node, _| look.members.contains_key(node));
        for (node, member) in &look.members {
            let missing = BeatRecord { incarnation: member.incarnation, counter: 0, clock: 0 };
            let beat = look.beats.get(node).copied().unwrap_or(missing);
            let known = sightings.get_mut(node).filter(|sighting| {
                sighting.beat.incarnation == beat.incarnation
                    && sighting.beat.counter == beat.counter
            });
            if let Some(sighting) = known {
                sighting.silent += interval;
            } else {
                let moved = sightings.contains_key(node);
                let sighting = Sighting { beat, at: now, moved, silent: Duration::ZERO };
                sightings.insert(node.clone(), sighting);
            }
        }
    }

    /// The counter of a member that has been silent too long.
    fn silent(&self, node: &str) -> Option<Silent> {
        let sightings = self.shared.sightings();
        let sighting = sightings.get(node)?;
        (sighting.silent >= self.shared.options.silent_after).then(|| Silent {
            node: node.to_owned(),
            incarnation: sighting.beat.incarnation,
            counter: sighting.beat.counter,
        })
    }

    fn silent_others(&self, look: &Look) -> Vec<Silent> {
        let own = &self.shared.identity.node;
        let others = look.members.keys().filter(|node| *node != own);
        others.filter_map(|node| self.silent(node)).collect()
    }

    /// Takes the duty if nobody has it or who has it is silent.
    async fn watch_observer(&mut self, look: &Look) -> Result<()> {
        let silent = match &look.observer {
            None => None,
            Some(observer) => {
                let member = look.members.get(&observer.node);
                if member.is_some_and(|member| member.incarnation == observer.incarnation) {
                    let silent = self.silent(&observer.node);
                    if silent.is_none() {
                        return Ok(());
                    }
                    silent
                } else {
                    None
                }
            }
        };
        let shared = &self.shared;
        let (identity, found, silent) = (&shared.identity, look.observer.as_ref(), silent.as_ref());
        let body = |txn: Transaction| async move { take_duty(&txn, identity, found, silent).await };
        if shared.store.run("observer", Resolve::Idempotent, body).await?.value {
            info!(node = %shared.identity.node, "observing the cluster from now on");
            // The successor counts anew.
            for sighting in shared.sightings().values_mut() {
                sighting.silent = Duration::ZERO;
            }
            self.sweep = true;
        }
        Ok(())
    }

    /// The duty itself.
    async fn observe(&mut self, now: Instant, look: Look) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let (store, identity) = (&shared.store, &shared.identity);
        for silent in &self.silent_others(&look) {
            if membership::evict(store, identity, silent, shared.options.mutations).await? {
                warn!(evicted = silent.node, by = %identity.node, "a silent member was evicted");
                self.sweep = true;
            }
        }
        if shared.roster().is_none_or(|roster| {
            !membership::without_member(roster.shards(), &look.members).is_empty()
        }) {
            for (shard, owner) in membership::reassign(store, identity).await? {
                info!(shard, owner, "a shard without a member has a new owner");
            }
        }
        self.keep_time(now, &look.time).await?;
        if self.sweep || self.rounds.is_multiple_of(SWEEP_EVERY) {
            let body = |txn: Transaction| async move { sweep(&txn, identity).await };
            store.run("sweep", Resolve::Idempotent, body).await?;
            self.sweep = false;
        }
        if self.rounds.is_multiple_of(TRIM_EVERY) {
            let at = shared.time.certain();
            let body = |txn: Transaction| async move { trim(&txn, at).await };
            store.run("trim-journal", Resolve::Idempotent, body).await?;
        }
        Ok(())
    }

    async fn keep_time(&mut self, now: Instant, stored: &ClusterTimeRecord) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut clocks: BTreeMap<String, i64> = {
            let sightings = shared.sightings();
            let clock =
                |(node, sighting): (&String, &Sighting)| Some((node.clone(), sighting.clock(now)?));
            sightings.iter().filter_map(clock).collect()
        };
        clocks.insert(shared.identity.node.clone(), shared.clock.now());
        let judged = self.judge.step(now, stored, &clocks);
        let news = judged.suspect.is_some() != stored.suspect.is_some();
        if judged == *stored || !(news || self.rounds.is_multiple_of(TIME_EVERY)) {
            return Ok(());
        }
        if let (true, Some(suspect)) = (news, &judged.suspect) {
            warn!(suspect, "purging is stopped: the clocks cannot be trusted");
        } else if news {
            info!("the clocks can be trusted again");
        }
        let (identity, new) = (&shared.identity, &judged);
        let body = |txn: Transaction| async move { write_time(&txn, identity, stored, new).await };
        if shared.store.run("cluster-time", Resolve::Idempotent, body).await?.value {
            self.judge.note(now, &judged);
            shared.time.update(judged);
        }
        Ok(())
    }
}

/// The observer reads every heartbeat. So do the others in a small cluster, to
/// have something to show; in a large one they read only the observer's, or N
/// members would read N rows each in every interval.
async fn look(txn: &Transaction, identity: &Identity, roster: Option<&Roster>) -> Result<Look> {
    let read = Read::Snapshot;
    let (own, observer, time) = tokio::try_join!(
        async { Ok(txn.get(&keys::member(&identity.node), read).await?) },
        observer_record(txn, read),
        time::read(txn, read),
    )?;
    if own.as_ref() != Some(&identity.row) {
        return Err(identity.lost());
    }
    let other = observer.as_ref().filter(|observer| observer.incarnation != identity.incarnation);
    let large = roster.filter(|roster| roster.members().len() > SIGHTED_MAX);
    let (members, beats) = match (other, large) {
        (Some(ObserverRecord { node, .. }), Some(_)) => {
            let (member, beat) = tokio::try_join!(rows::member(txn, node), rows::beat(txn, node))?;
            let member = member.map(|member| (node.clone(), member));
            let beat = beat.map(|beat| (node.clone(), beat));
            (member.into_iter().collect(), beat.into_iter().collect())
        }
        _ => tokio::try_join!(rows::members(txn, read), rows::beats(txn))?,
    };
    Ok(Look { members, beats, observer, time })
}

async fn observer_record(txn: &Transaction, read: Read) -> Result<Option<ObserverRecord>> {
    let row = txn.get(&keys::observer(), read).await?;
    Ok(row.map(|row| record::decode("observer", &row)).transpose()?)
}

/// Makes this member the observer, in the place of `found`. If that one is a
/// member it must still be silent.
async fn take_duty(
    txn: &Transaction,
    identity: &Identity,
    found: Option<&ObserverRecord>,
    silent: Option<&Silent>,
) -> Result<bool> {
    identity.check(txn).await?;
    let present = observer_record(txn, Read::Conflict).await?;
    if present.as_ref() != found {
        return Ok(false);
    }
    if let Some(silent) = silent {
        let beat = txn.get(&keys::beat(&silent.node), Read::Conflict).await?;
        if let Some(beat) = beat {
            let beat: BeatRecord = record::decode("beat", &beat)?;
            if (beat.incarnation, beat.counter) != (silent.incarnation, silent.counter) {
                return Ok(false);
            }
        }
    }
    let record = ObserverRecord { node: identity.node.clone(), incarnation: identity.incarnation };
    txn.set(&keys::observer(), &record::encode(&record))?;
    Ok(true)
}

/// Writes cluster time, unless it has changed or the duty is somebody else's.
async fn write_time(
    txn: &Transaction,
    identity: &Identity,
    stored: &ClusterTimeRecord,
    judged: &ClusterTimeRecord,
) -> Result<bool> {
    let observer = observer_record(txn, Read::Conflict).await?;
    let duty = observer.is_some_and(|observer| observer.incarnation == identity.incarnation);
    let present = time::read(txn, Read::Conflict).await?;
    if !duty || present != *stored {
        return Ok(false);
    }
    txn.set(&keys::cluster_time(), &record::encode(judged))?;
    Ok(true)
}

/// Clears the rows of incarnations that are no members.
///
/// The members are read with conflict, so that nobody joins meanwhile, and a
/// busy row with the conflict of its own key, since a later incarnation of the
/// same node may be writing its row there.
async fn sweep(txn: &Transaction, identity: &Identity) -> Result<()> {
    let members = rows::members(txn, Read::Conflict).await?;
    identity.check_in(&members)?;
    let live: BTreeSet<u64> = members.values().map(|member| member.incarnation).collect();
    for kind in [keys::kind::BEAT, keys::kind::SEEN] {
        for (key, _) in rows::all(txn, rows::kind(kind, Read::Snapshot)).await? {
            if !members.contains_key(&keys::parse_node(&key)?) {
                txn.clear(&key)?;
            }
        }
    }
    for (key, value) in rows::all(txn, rows::kind(keys::kind::BUSY, Read::Snapshot)).await? {
        let row: BusyRecord = record::decode("busy", &value)?;
        if !live.contains(&row.incarnation) {
            txn.add_read_conflict_key(&key)?;
            txn.clear(&key)?;
        }
    }
    for incarnation in attempts(txn).await? {
        if !live.contains(&incarnation) {
            clear_prefix(txn, &keys::attempt_prefix(incarnation))?;
        }
    }
    Ok(())
}

/// The incarnations that have attempt rows, skipping from one to the next.
async fn attempts(txn: &Transaction) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    let (mut begin, end) = keys::range(&keys::kind_prefix(keys::kind::ATTEMPT));
    loop {
        let range = RangeRead::new(begin, end.clone()).limit(1).snapshot();
        let page = txn.range(range).await?;
        let Some((key, _)) = page.rows.first() else { return Ok(found) };
        let (incarnation, _) = keys::parse_attempt(key)?;
        found.push(incarnation);
        begin = keys::after(&keys::attempt_prefix(incarnation));
    }
}

/// Trims what every member has seen and what is older than an hour.
///
/// Times are not in the journal: `journal-mark` holds where it ended at some
/// time, and once that is an hour ago what lies before may go.
async fn trim(txn: &Transaction, at: i64) -> Result<()> {
    let members = rows::members(txn, Read::Conflict).await?;
    let head = txn.get(&keys::journal_head(), Read::Snapshot).await?;
    let Some(head) = head else { return Ok(()) };
    let head = Versionstamp::decode(&head)?;
    let mark: Option<Bytes> = txn.get(&keys::journal_mark(), Read::Conflict).await?;
    if let Some(mark) = mark {
        let mark: JournalMarkRecord = record::decode("journal-mark", &mark)?;
        if at.saturating_sub(mark.at) < JOURNAL_KEPT {
            return Ok(());
        }
        let seen = rows::seen(txn).await?;
        let all_seen = members.keys().map(|node| seen.get(node).copied().unwrap_or_default()).min();
        journal::trim(txn, mark.version.min(all_seen.unwrap_or_default()))?;
    }
    let mark = JournalMarkRecord { version: head, at };
    Ok(txn.set(&keys::journal_mark(), &record::encode(&mark))?)
}
