//! One incarnation of a node in its cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::info;

use super::acknowledge::Roster;
use super::barrier::{self, BarrierState};
use super::errors::{Error, Result};
use super::follower::Follower;
use super::ids::IdBlocks;
use super::journal;
use super::membership;
use super::mutation::Mutations;
use super::observer::{Observer, Sighting, Sightings};
use super::progress::{Notes, Progress};
use super::rows::Identity;
use super::slots::Slots;
use super::time::{self, ClusterClock};
use super::types::{ClusterOptions, Controls, Ended, Listener, OwnedShards, Stop};
use super::view::{self, ClusterView};
use super::work::WorkTable;
use crate::clock::{Clock, milliseconds};
use crate::codec::record::{self, ClusterRecord, Event, EventKind, ShardRecord};
use crate::codec::{RemovalId, Versionstamp, keys};
use crate::store::{Read, Resolve, Store, Transaction, Watch};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A node's membership, from joining to its end. A cheap handle.
///
/// When [`Cluster::run`] has ended, whatever the reason, nothing that this
/// incarnation still does lands. To go on, let go of all handles and work and
/// join again.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: ClusterOptions,
    pub(super) record: ClusterRecord,
    pub(super) identity: Identity,
    pub(super) work: WorkTable,
    pub(super) time: ClusterClock,
    /// The shards that are this node's, as far as it knows.
    pub(super) owned: watch::Sender<OwnedShards>,
    /// Those of them that it is not about to give away.
    workable: watch::Sender<OwnedShards>,
    /// The counter of the last heartbeat that was written.
    pub(super) beats: watch::Sender<i64>,
    pub(super) stop: watch::Sender<Option<Stop>>,
    pub(super) controls: watch::Sender<Controls>,
    pub(super) progress: Notes,
    sightings: Mutex<Sightings>,
    /// Members and owners, as the follower last saw them.
    roster: Mutex<Option<Roster>>,
    ids: IdBlocks,
    slots: Slots,
    seen: Versionstamp,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("node", &self.shared.identity.node)
            .field("incarnation", &self.shared.identity.incarnation)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn sightings(&self) -> MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Members and owners, as the follower last saw them; `None` before its first look.
    pub(super) fn roster(&self) -> Option<Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_roster(&self, roster: &Roster) {
        *self.roster.lock().unwrap_or_else(PoisonError::into_inner) = Some(roster.clone());
    }

    /// Tells the workers which shards are theirs.
    pub(super) fn set_workable(&self, shards: BTreeMap<u16, i64>) {
        self.workable.send_if_modified(|known| {
            let changed = **known != shards;
            if changed {
                *known = Arc::new(shards);
            }
            changed
        });
    }
}

impl Cluster {
    /// Makes this node a member, and the cluster if there is none yet. Call
    /// [`Cluster::run`] at once: until then the node looks dead.
    ///
    /// # Errors
    /// [`Error::Setting`] when the options are not those of the cluster; those
    /// of the store.
    pub async fn join(
        store: Store,
        clock: Arc<dyn Clock>,
        options: ClusterOptions,
    ) -> Result<Self> {
        if options.shards == 0 {
            return Err(Error::Setting("cluster.shards must be at least 1".to_owned()));
        }
        let ids = IdBlocks::new(store.clone(), options.first_id);
        let joined = membership::join(&store, &ids, clock.as_ref(), &options).await?;
        let own = (!joined.alone).then(|| Arc::clone(&clock));
        let shards: OwnedShards = Arc::new(joined.shards);
        let identity = joined.identity;
        info!(node = %identity.node, incarnation = identity.incarnation, shards = shards.len(), "joined the cluster");
        let slots = Slots::new(&identity.node, identity.incarnation, identity.row.clone());
        let shared = Shared {
            work: WorkTable::new(Arc::clone(&clock)),
            time: ClusterClock::new(joined.time, own),
            owned: watch::Sender::new(Arc::clone(&shards)),
            workable: watch::Sender::new(shards),
            beats: watch::Sender::new(0),
            stop: watch::Sender::new(None),
            controls: watch::Sender::default(),
            progress: Notes::new(joined.seen),
            sightings: Mutex::default(),
            roster: Mutex::default(),
            seen: joined.seen,
            record: joined.record,
            store,
            clock,
            options,
            identity,
            ids,
            slots,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes part in the cluster until this incarnation is over, and tells
    /// why. Call it once. The listeners are told of each journal event behind
    /// the moment of joining.
    pub async fn run(&self, listeners: Vec<Arc<dyn Listener>>) -> Ended {
        let shared = Arc::clone(&self.shared);
        let shards = shared.owned.borrow().as_ref().clone();
        let follower = Follower::new(Arc::clone(&shared), listeners, shared.seen, shards);
        let observer = Observer::new(Arc::clone(&shared));
        // Boxed: that the futures are `Send` is then seen here, whoever spawns this one.
        let follower: BoxFuture<Ended> = Box::pin(follower.run());
        let observer: BoxFuture<()> = Box::pin(observer.run());
        let ended = tokio::select! {
            biased;
            ended = follower => ended,
            () = observer => Ended::Halted,
        };
        shared.progress.ended();
        shared.work.close();
        shared.set_workable(BTreeMap::new());
        info!(node = %shared.identity.node, incarnation = shared.identity.incarnation, ?ended, "left the cluster");
        ended
    }

    /// Tells [`Cluster::run`] to end. A graceful stop can still be turned into
    /// a halt.
    pub fn stop(&self, how: Stop) {
        self.shared.stop.send_replace(Some(how));
    }

    /// The name of this node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.shared.identity.node
    }

    /// The number of this start of the node.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.shared.identity.incarnation
    }

    /// What the cluster was made with.
    #[must_use]
    pub fn record(&self) -> &ClusterRecord {
        &self.shared.record
    }

    /// How many shards the cluster has: `0 .. shard_count`.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        self.shared.record.shards
    }

    /// The options that it joined with.
    #[must_use]
    pub fn options(&self) -> &ClusterOptions {
        &self.shared.options
    }

    /// The deliberate mistakes of a test; none otherwise.
    #[must_use]
    pub fn mutations(&self) -> Mutations {
        self.shared.options.mutations
    }

    /// What this member's own clock shows. Cluster time is made of it; nothing else goes by it.
    #[must_use]
    pub fn own_clock(&self) -> i64 {
        self.shared.clock.now()
    }

    /// The table of open work.
    #[must_use]
    pub fn work(&self) -> &WorkTable {
        &self.shared.work
    }

    /// Makes ids.
    #[must_use]
    pub fn ids(&self) -> &IdBlocks {
        &self.shared.ids
    }

    /// The attempt slots of this incarnation.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.shared.slots
    }

    /// Cluster time.
    #[must_use]
    pub fn time(&self) -> &ClusterClock {
        &self.shared.time
    }

    /// The shards that this node works for, with their epochs, as they change:
    /// those that it owns and is not about to give away. What a worker does
    /// for one it does under [`Cluster::check_shard`].
    #[must_use]
    pub fn owned_shards(&self) -> watch::Receiver<OwnedShards> {
        self.shared.workable.subscribe()
    }

    /// Makes the transaction land only while this node owns the shard under
    /// this epoch (rule 2).
    ///
    /// # Errors
    /// [`Error::ShardMoved`] when it does not.
    pub async fn check_shard(&self, txn: &Transaction, shard: u16, epoch: i64) -> Result<()> {
        if self.mutations().workers_ignore_epoch {
            return Ok(());
        }
        let row = txn.get(&keys::shard(shard), Read::Conflict).await?;
        let record: Option<ShardRecord> =
            row.map(|row| record::decode("shard", &row)).transpose()?;
        let owns =
            record.is_some_and(|record| record.owner == self.node() && record.epoch == epoch);
        if owns { Ok(()) } else { Err(Error::ShardMoved { shard, epoch }) }
    }

    /// Makes the transaction land only while this incarnation is a member
    /// (rule 2).
    ///
    /// # Errors
    /// [`Error::NotMember`] when it is not.
    pub async fn check_member(&self, txn: &Transaction) -> Result<()> {
        self.shared.identity.check(txn).await
    }

    /// Evaluates the barrier of a removal: see [`barrier::evaluate`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn barrier(
        &self,
        txn: &Transaction,
        object: u64,
        version: Versionstamp,
    ) -> Result<BarrierState> {
        barrier::evaluate(txn, object, version, self.mutations()).await
    }

    /// Watches for anything that may complete a barrier.
    ///
    /// # Errors
    /// Those of the store.
    pub fn watch_barriers(&self, txn: &Transaction) -> Result<Watch> {
        Ok(txn.watch(&keys::barrier_signal())?)
    }

    /// Announces a removal again, so that whoever missed it lets go (rule 18).
    ///
    /// # Errors
    /// Those of the store.
    pub fn announce(&self, txn: &Transaction, object: u64, removal: RemovalId) -> Result<()> {
        let event = Event { kind: EventKind::Removed, object, removal: Some(removal) };
        journal::append(txn, 0, &event)
    }

    /// Accepts what the members' clocks say as cluster time.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn confirm_time(&self) -> Result<()> {
        let run = self.shared.store.run("confirm-time", Resolve::Idempotent, |txn| async move {
            time::confirm(&txn).await
        });
        self.shared.time.update(run.await?.value);
        Ok(())
    }

    /// The members and shards as they are now, for people.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn view(&self) -> Result<ClusterView> {
        let run = self
            .shared
            .store
            .run("view", Resolve::Idempotent, |txn| async move { view::read(&txn).await });
        let mut view = run.await?.value;
        let now = tokio::time::Instant::now();
        let time = self.shared.time.certain();
        let sightings = self.shared.sightings();
        for member in &mut view.members {
            let Some(sighting) = sightings.get(&member.node) else {
                // In a large cluster only the observer sights everybody: the age of the
                // last heartbeat is as exact as the members' clocks agree.
                if let Some(clock) = member.beat_clock {
                    member.last_seen_ms = time.saturating_sub(clock).max(0);
                }
                continue;
            };
            if sighting.beat.counter == member.counter {
                let passed = now.duration_since(sighting.at);
                member.last_seen_ms = milliseconds(passed);
                member.alive = passed < self.shared.options.silent_after;
            }
            member.clock_offset_ms = sighting.clock(now).map(|clock| clock - time);
        }
        Ok(view)
    }

    /// How far this node follows, as it knows without asking the store.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.progress.read()
    }

    /// How many journal events this node has not applied, counted up to
    /// [`view::BEHIND_MAX`]. One read.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn lag(&self) -> Result<usize> {
        let applied = self.progress().applied;
        let body = |txn: Transaction| async move {
            journal::count_after(&txn, applied, view::BEHIND_MAX).await
        };
        Ok(self.shared.store.run("lag", Resolve::Idempotent, body).await?.value)
    }

    /// The members, and how long ago this node saw each of their heartbeats
    /// move; empty until it has looked for the first time.
    #[must_use]
    pub fn silences(&self) -> Vec<(String, Duration)> {
        let now = tokio::time::Instant::now();
        let sightings = self.shared.sightings();
        let silence = |(node, sighting): (&String, &Sighting)| {
            (node.clone(), now.duration_since(sighting.at))
        };
        sightings.iter().map(silence).collect()
    }

    /// Holds parts of this node up, as tests want. Takes effect before the
    /// node's next commit.
    pub fn control(&self, controls: Controls) {
        self.shared.controls.send_replace(controls);
    }

    /// Lets the whole cluster task of this node stand still.
    pub fn pause(&self) {
        let standstill = Controls {
            follower_paused: true,
            observer_paused: true,
            ..*self.shared.controls.borrow()
        };
        self.control(standstill);
    }

    /// Ends everything that [`Cluster::pause`] and [`Cluster::control`] hold up.
    pub fn resume(&self) {
        self.control(Controls::default());
    }
}
