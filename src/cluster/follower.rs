//! The follower: applies the journal on this node and says so (rules 7 to 11).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::acknowledge::{
    Acknowledged, Acknowledgment, Look, Roster, acknowledge, beat, lineage, look,
};
use super::errors::{Error, Result};
use super::handle::Shared;
use super::membership;
use super::types::{Ended, Listener, Stop};
use super::work::Scope;
use crate::codec::record::{Event, EventKind};
use crate::codec::{BucketId, Versionstamp, keys};
use crate::store::{Read, Resolve, Transaction, Watch};

/// So many heartbeats pass before one carries `seen`, when it has moved.
const SEEN_EVERY: i64 = 10;
/// The first pause after a failed round; doubled up to the heartbeat.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// One task per incarnation, and the only one that writes what the node has
/// seen. Everything goes in turn: read events, tell the listeners, stop work,
/// wait for it, commit, give away shards, beat. So whatever holds it up holds
/// up the heartbeat, and a node that does not follow looks dead.
pub(super) struct Follower {
    shared: Arc<Shared>,
    listeners: Vec<Arc<dyn Listener>>,
    /// The last event applied; all before it are, too.
    applied: Versionstamp,
    /// What `seen` is known to be at least.
    written: Versionstamp,
    /// The shards whose witness stands at `written` or higher.
    witnessed: BTreeMap<u16, i64>,
    /// Removed objects that the next commit has to speak of.
    objects: BTreeSet<u64>,
    /// Those of them that may have busy rows of this node.
    touched: BTreeSet<u64>,
    /// Something was applied that must be acknowledged.
    due: bool,
    ended: watch::Receiver<u64>,
    counter: i64,
    next_beat: Instant,
    failing_since: Option<Instant>,
    pause: Duration,
}

impl Follower {
    pub(super) fn new(
        shared: Arc<Shared>,
        listeners: Vec<Arc<dyn Listener>>,
        seen: Versionstamp,
        shards: BTreeMap<u16, i64>,
    ) -> Self {
        let ended = shared.work.ended();
        Self {
            shared,
            listeners,
            applied: seen,
            written: seen,
            witnessed: shards,
            objects: BTreeSet::new(),
            touched: BTreeSet::new(),
            due: false,
            ended,
            counter: 0,
            next_beat: Instant::now(),
            failing_since: None,
            pause: PAUSE_MIN,
        }
    }

    /// Follows until the incarnation is over.
    pub(super) async fn run(mut self) -> Ended {
        loop {
            let mut stop = self.shared.stop.subscribe();
            let how = tokio::select! {
                biased;
                how = stopped(&mut stop) => Some(how),
                turn = self.step() => match turn {
                    Step::Again => None,
                    Step::End(ended) => return ended,
                },
            };
            match how {
                None => {}
                Some(Stop::Halt) => return Ended::Halted,
                Some(Stop::Graceful) => return self.leave().await,
            }
        }
    }

    async fn step(&mut self) -> Step {
        self.unpaused().await;
        if let Some(stuck) = self.stuck() {
            return Step::End(self.give_up(stuck).await);
        }
        match self.round().await {
            Ok(watches) => {
                self.failing_since = None;
                self.pause = PAUSE_MIN;
                self.wait(watches).await;
                Step::Again
            }
            Err(Error::NotMember { node, incarnation }) => {
                warn!(node, incarnation, "this node was removed from the cluster");
                Step::End(Ended::Evicted)
            }
            Err(error) => {
                let outage = error.is_outage();
                if self.pause == PAUSE_MIN {
                    warn!(node = %self.shared.identity.node, %error, outage, "the journal cannot be followed");
                }
                if !outage {
                    self.failing_since.get_or_insert_with(Instant::now);
                }
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(self.shared.options.heartbeat.max(PAUSE_MIN));
                Step::Again
            }
        }
    }

    /// One turn. Gives what announces the next.
    async fn round(&mut self) -> Result<Vec<Watch>> {
        // Before anything is looked at, so that no end of work is missed.
        if self.ended.has_changed().unwrap_or(false) {
            self.ended.mark_unchanged();
            self.due |= !self.objects.is_empty();
        }
        let (look, watches) = self.look().await?;
        let more = look.batch.more;
        self.apply(&look.batch.events).await?;
        let leaving = self.plan(&look.roster);
        let new_shards = {
            let owned = self.shared.owned.borrow();
            owned.iter().any(|(shard, epoch)| self.witnessed.get(shard) != Some(epoch))
        };
        if self.due || new_shards {
            self.commit().await?;
        }
        self.hand_over(&leaving).await?;
        self.beat().await?;
        // With more to read there is nothing to wait for.
        Ok(if more { Vec::new() } else { watches })
    }

    async fn look(&self) -> Result<(Look, Vec<Watch>)> {
        let (identity, applied, roster) =
            (&self.shared.identity, self.applied, self.shared.roster());
        let roster = roster.as_ref();
        let body = |txn: Transaction| async move {
            let look = look(&txn, identity, applied, roster).await?;
            let watches =
                vec![txn.watch(&keys::journal_head())?, txn.watch(&keys::membership_signal())?];
            Ok::<_, Error>((look, watches))
        };
        let found = self.shared.store.run("follow", Resolve::Idempotent, body).await?.value;
        self.shared.set_roster(&found.0.roster);
        Ok(found)
    }

    /// Tells the listeners, stops work on what was removed and gives it some
    /// time to end. What has not ended is left to the busy rows.
    async fn apply(&mut self, events: &[(Versionstamp, Event)]) -> Result<()> {
        let Some((last, _)) = events.last() else { return Ok(()) };
        let removed: BTreeSet<u64> = events
            .iter()
            .filter(|(_, event)| event.kind == EventKind::Removed)
            .map(|(_, event)| event.object)
            .collect();
        // Before the listeners hear of it, since this may fail and come again.
        let affected = self.below(&removed).await?;
        for (version, event) in events {
            for listener in &self.listeners {
                listener.on_event(event, *version);
            }
        }
        let mutations = self.shared.options.mutations;
        if !removed.is_empty() {
            let grace = self.shared.options.drain_grace;
            let stopped = self.shared.work.stop_buckets(&affected, grace);
            if !stopped.is_empty() && !mutations.witness_before_drain {
                let drained = self.shared.work.drained(&stopped);
                if tokio::time::timeout(grace, drained).await.is_err() {
                    let node = &self.shared.identity.node;
                    info!(%node, "work on a removed object goes on; it is reported as busy");
                }
            }
            self.due = true;
            if !mutations.witness_before_drain {
                self.objects.extend(removed);
            }
        }
        self.applied = *last;
        self.shared.progress.applied(self.applied);
        Ok(())
    }

    /// The buckets with open work that lie at or below one of these objects.
    async fn below(&self, removed: &BTreeSet<u64>) -> Result<BTreeSet<BucketId>> {
        let buckets = self.shared.work.buckets();
        if removed.is_empty() || buckets.is_empty() {
            return Ok(BTreeSet::new());
        }
        let buckets = &buckets;
        let body = |txn: Transaction| async move {
            let mut below = BTreeSet::new();
            for &bucket in buckets {
                let lineage = lineage(&txn, bucket, Read::Snapshot).await?;
                if !lineage.is_disjoint(removed) {
                    below.insert(bucket);
                }
            }
            Ok::<_, Error>(below)
        };
        Ok(self.shared.store.run("follow-below", Resolve::Idempotent, body).await?.value)
    }

    /// Learns which shards are this node's, and gives those that should go to
    /// other members and have no work left. Their workers are told to stop.
    fn plan(&self, roster: &Roster) -> BTreeMap<u16, i64> {
        let node = self.shared.identity.node.as_str();
        let mut owned = membership::owned(roster.shards(), node);
        let wished = membership::wished_owners(roster.members(), roster.shards());
        let mut drained = BTreeMap::new();
        let mut kept = BTreeMap::new();
        for (&shard, &epoch) in &owned {
            if wished.get(&shard).is_some_and(|owner| *owner != node) {
                self.shared.work.block(shard);
                if !self.shared.work.has(Scope::Shard(shard)) {
                    drained.insert(shard, epoch);
                }
            } else {
                self.shared.work.unblock(shard);
                kept.insert(shard, epoch);
            }
        }
        for &shard in roster.shards().keys() {
            if !owned.contains_key(&shard) {
                self.shared.work.block(shard);
            }
        }
        // Until they are gone their witnesses are still this node's to write.
        self.shared.set_workable(kept);
        self.shared.owned.send_if_modified(|known| {
            let changed = **known != owned;
            if changed {
                *known = Arc::new(std::mem::take(&mut owned));
            }
            changed
        });
        drained
    }

    /// Acknowledges what was applied, with busy rows for what has not ended.
    async fn commit(&mut self) -> Result<()> {
        self.unpaused().await;
        let shared = Arc::clone(&self.shared);
        let owned = shared.owned.borrow().clone();
        let touched = Mutex::new(std::mem::take(&mut self.touched));
        let acknowledgment = Acknowledgment {
            identity: &shared.identity,
            applied: self.applied,
            shards: &owned,
            objects: &self.objects,
            touched: &touched,
            mutations: shared.options.mutations,
        };
        let (work, acknowledgment) = (&shared.work, &acknowledgment);
        let body = |txn: Transaction| async move { acknowledge(&txn, work, acknowledgment).await };
        let result = shared.store.run("acknowledge", Resolve::Idempotent, body).await;
        self.touched = touched.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Acknowledged { busy, witnessed } = result?.value;
        debug!(node = %shared.identity.node, version = %self.applied, busy = busy.len(), "acknowledged");
        self.objects.clone_from(&busy);
        self.touched = busy;
        self.witnessed = witnessed;
        self.written = self.applied;
        self.due = false;
        Ok(())
    }

    async fn hand_over(&self, leaving: &BTreeMap<u16, i64>) -> Result<()> {
        if leaving.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        for (shard, owner) in
            membership::hand_over(&shared.store, &shared.identity, leaving).await?
        {
            info!(node = %shared.identity.node, shard, owner, "handed a shard over");
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<()> {
        let now = Instant::now();
        if now < self.next_beat || self.shared.controls.borrow().heartbeat_frozen {
            return Ok(());
        }
        let shared = &self.shared;
        let counter = self.counter + 1;
        let seen =
            (self.applied > self.written && counter % SEEN_EVERY == 0).then_some(self.applied);
        let clock = shared.clock.now();
        let identity = &shared.identity;
        let body =
            |txn: Transaction| async move { beat(&txn, identity, counter, clock, seen).await };
        shared.store.run("heartbeat", Resolve::Idempotent, body).await?;
        self.counter = counter;
        self.written = seen.unwrap_or(self.written);
        self.next_beat = now + shared.options.heartbeat;
        shared.progress.beat(now);
        shared.beats.send_replace(counter);
        Ok(())
    }

    /// Waits for something to do.
    async fn wait(&mut self, watches: Vec<Watch>) {
        let Ok([journal, membership]) = <[Watch; 2]>::try_from(watches) else { return };
        let frozen = self.shared.controls.borrow().heartbeat_frozen;
        let heartbeat = self.shared.options.heartbeat;
        let deadman = if frozen { Instant::now() + heartbeat } else { self.next_beat };
        let limit = self.shared.work.oldest_stop().map(|at| at + self.shared.options.drain_limit);
        let timer = limit.map_or(deadman, |limit| limit.min(deadman));
        let mut controls = self.shared.controls.subscribe();
        // A watch that ends with an error is a reason to look again, too; the
        // senders of the channels live as long as this follower. In a fixed
        // order, so that a simulation repeats itself.
        tokio::select! {
            biased;
            result = journal => debug!(ok = result.is_ok(), "the journal has moved"),
            result = membership => debug!(ok = result.is_ok(), "the membership has moved"),
            changed = self.ended.changed() => {
                debug!(ok = changed.is_ok(), "work has ended");
                self.due |= !self.objects.is_empty();
            }
            changed = controls.changed() => debug!(ok = changed.is_ok(), "the controls have changed"),
            () = tokio::time::sleep_until(timer) => {}
        }
    }

    /// Stands still while a test wants it.
    async fn unpaused(&self) {
        let mut controls = self.shared.controls.subscribe();
        // The sender lives as long as this follower: waiting cannot fail.
        drop(controls.wait_for(|controls| !controls.follower_paused).await);
    }

    /// What has kept this node from following for too long.
    fn stuck(&self) -> Option<Vec<String>> {
        let limit = self.shared.options.drain_limit;
        let stuck: Vec<String> = self
            .shared
            .work
            .list()
            .into_iter()
            .filter(|entry| entry.stopped_for.is_some_and(|stopped| stopped >= limit))
            .map(|entry| format!("{} on {} did not stop", entry.what, entry.bucket))
            .collect();
        if !stuck.is_empty() {
            return Some(stuck);
        }
        let failing = self.failing_since.is_some_and(|since| since.elapsed() >= limit);
        failing.then(|| vec!["the journal could not be applied".to_owned()])
    }

    /// Gives the own incarnation up: rule 10.
    async fn give_up(&mut self, stuck: Vec<String>) -> Ended {
        warn!(node = %self.shared.identity.node, ?stuck, "giving this incarnation up");
        self.shared.work.close();
        self.depart("give-up").await;
        Ended::GaveUp(stuck)
    }

    /// Drains and leaves. Work that does not end within the grace is refused
    /// from then on, as that of any former incarnation.
    async fn leave(&mut self) -> Ended {
        let stopped = self.shared.work.close();
        let drained = self.shared.work.drained(&stopped);
        if tokio::time::timeout(self.shared.options.drain_grace, drained).await.is_err() {
            warn!(node = %self.shared.identity.node, "leaving with work that did not stop");
        }
        self.depart("leave").await;
        Ended::Left
    }

    /// Tries until it is no member any more, by its own hand or another's.
    async fn depart(&mut self, label: &'static str) {
        loop {
            let shared = &self.shared;
            let mut stop = shared.stop.subscribe();
            let result = tokio::select! {
                biased;
                // Whoever is told to halt does not even say goodbye.
                () = halted(&mut stop) => return,
                result = membership::depart(&shared.store, label, &shared.identity) => result,
            };
            match result {
                Ok(_) => return,
                Err(error) => {
                    warn!(node = %shared.identity.node, %error, "cannot leave the cluster yet");
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(shared.options.heartbeat.max(PAUSE_MIN));
                }
            }
        }
    }
}

enum Step {
    Again,
    End(Ended),
}

/// Waits until the incarnation is told to stop.
async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    match stop.wait_for(Option::is_some).await.map(|how| *how) {
        Ok(Some(how)) => how,
        // Nobody is left who could say so.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

async fn halted(stop: &mut watch::Receiver<Option<Stop>>) {
    if stop.wait_for(|how| *how == Some(Stop::Halt)).await.is_err() {
        std::future::pending::<()>().await;
    }
}
