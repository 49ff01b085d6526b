//! Faults on order, for scenarios and simulation: a commit held back, lost and
//! landed late, refused; a client cut off; and a seeded mode that does such
//! things by chance. The memory engine has them, and FoundationDB, whose
//! commits are caught before they are sent.
//!
//! All waiting is on tokio's clock and all chance comes from one seeded
//! generator, so that with one seed on a current-thread runtime with paused
//! time every run is the same.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{oneshot, watch};

#[cfg(feature = "foundationdb")]
use super::foundationdb::{self, FoundationDb};
use super::local::Landing;
use super::sequencer::Intent;
use super::shared::lock;
use super::types::Committed;
use super::{Error, Result};

/// Which commits a fault is meant for. Commits of transactions that only read are never meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matcher {
    client: Option<String>,
    label: Option<String>,
}

impl Matcher {
    /// Every commit.
    pub fn any() -> Self {
        Self::default()
    }

    /// Commits of this client (see [`super::Store::as_client`]).
    #[must_use]
    pub fn client(self, client: impl Into<String>) -> Self {
        Self { client: Some(client.into()), ..self }
    }

    /// Commits of transactions begun with this label.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    fn matches(&self, client: &str, label: &str) -> bool {
        self.client.as_deref().is_none_or(|wanted| wanted == client)
            && self.label.as_deref().is_none_or(|wanted| wanted == label)
    }
}

/// How often what happens by chance; probabilities from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Chaos {
    pub seed: u64,
    /// A commit is refused with a conflict.
    pub conflict: f64,
    /// A commit lands and is reported unknown.
    pub unknown_landed: f64,
    /// A commit never lands and is reported unknown.
    pub unknown_lost: f64,
    /// A commit is reported unknown and tries to land after up to `delay_max`.
    pub unknown_late: f64,
    /// A commit or a read is delayed by up to `delay_max`.
    pub delay: f64,
    pub delay_max: Duration,
}

impl Chaos {
    /// A mixture in which everything happens often.
    pub const fn with_seed(seed: u64) -> Self {
        Self {
            seed,
            conflict: 0.05,
            unknown_landed: 0.05,
            unknown_lost: 0.05,
            unknown_late: 0.05,
            delay: 0.2,
            delay_max: Duration::from_millis(50),
        }
    }
}

/// The switchboard. A cheap handle.
#[derive(Clone, Default)]
pub struct Faults {
    board: Arc<Board>,
}

#[derive(Default)]
struct Board {
    /// Something is on order; stores without faults pay one load.
    busy: AtomicBool,
    orders: Mutex<Orders>,
}

#[derive(Default)]
struct Orders {
    once: VecDeque<(Matcher, Order)>,
    outages: BTreeSet<String>,
    spared: BTreeSet<String>,
    chaos: Option<(Chaos, StdRng)>,
}

enum Order {
    Hold(Arc<Place>),
    Lose(Arc<Place>),
    Fail(Error),
}

/// Where a commit waits that was caught.
#[derive(Debug)]
struct Place {
    state: Mutex<Caught>,
    arrived: watch::Sender<bool>,
}

#[derive(Debug)]
enum Caught {
    NotYet,
    Here { commit: Box<Coming>, reply: Option<oneshot::Sender<Result<Committed>>> },
    Gone,
}

impl Place {
    fn new() -> Arc<Self> {
        let (arrived, _) = watch::channel(false);
        Arc::new(Self { state: Mutex::new(Caught::NotYet), arrived })
    }

    fn put(&self, commit: Coming, reply: Option<oneshot::Sender<Result<Committed>>>) {
        *lock(&self.state) = Caught::Here { commit: Box::new(commit), reply };
        self.arrived.send_replace(true);
    }

    async fn arrived(&self) {
        let mut arrived = self.arrived.subscribe();
        // The sender lives as long as this place, so that waiting cannot fail.
        drop(arrived.wait_for(|here| *here).await);
    }

    fn land(&self) -> Option<Result<Committed>> {
        let caught = std::mem::replace(&mut *lock(&self.state), Caught::Gone);
        match caught {
            Caught::Here { commit, reply } => {
                let result = to_its_end(commit.land());
                if let Some(reply) = reply {
                    // An error here means that the caller was cancelled: the commit lands all the same.
                    drop(reply.send(result.clone()));
                }
                Some(result)
            }
            Caught::NotYet | Caught::Gone => None,
        }
    }
}

/// Where a commit goes to.
#[derive(Debug)]
pub(super) enum Ground {
    Memory(Arc<Landing>),
    #[cfg(feature = "foundationdb")]
    FoundationDb {
        engine: Arc<FoundationDb>,
        /// What its transaction has read at.
        read_version: Option<u64>,
    },
}

/// A commit on its way to its store, which takes it whenever it comes.
#[derive(Debug)]
struct Coming {
    intent: Intent,
    to: Ground,
}

impl Coming {
    #[cfg_attr(
        not(feature = "foundationdb"),
        expect(clippy::unused_async, reason = "an engine on the network has to ask its servers")
    )]
    async fn land(self) -> Result<Committed> {
        match self.to {
            Ground::Memory(landing) => landing.land(self.intent),
            #[cfg(feature = "foundationdb")]
            Ground::FoundationDb { engine, read_version } => {
                foundationdb::commit(&engine, read_version, self.intent).await
            }
        }
    }

    async fn meet(mut self, fate: Fate) -> Result<Committed> {
        match fate {
            Fate::Land => self.land().await,
            Fate::Delay(delay) => {
                tokio::time::sleep(delay).await;
                self.land().await
            }
            Fate::Fail(error) => Err(self.fail_watches(error)),
            Fate::Hold(place) => {
                let (reply, result) = oneshot::channel();
                place.put(self, Some(reply));
                result.await.unwrap_or(Err(Error::CommitUnknown))
            }
            Fate::Lose(place) => {
                let error = self.fail_watches(Error::CommitUnknown);
                place.put(self, None);
                Err(error)
            }
            Fate::UnknownLanded => {
                let error = self.fail_watches(Error::CommitUnknown);
                // Whether it has landed or met a conflict: the caller does not learn it.
                drop(self.land().await);
                Err(error)
            }
            Fate::UnknownLost => Err(self.fail_watches(Error::CommitUnknown)),
            Fate::UnknownLate(delay) => {
                let error = self.fail_watches(Error::CommitUnknown);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    // As above.
                    drop(self.land().await);
                });
                Err(error)
            }
        }
    }

    fn fail_watches(&mut self, error: Error) -> Error {
        for arming in self.intent.watches.drain(..) {
            arming.fail(&error);
        }
        error
    }
}

/// Waits on this thread: the answers of servers come by a thread of their client.
fn to_its_end<T>(future: impl Future<Output = T>) -> T {
    struct Sleeper(Thread);
    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Sleeper(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Sorted, disjoint ranges of keys.
pub type Ranges = Vec<(Vec<u8>, Vec<u8>)>;

/// A commit that is held back: its caller waits. Dropping it releases the commit.
#[derive(Debug)]
#[must_use = "dropping it releases the commit"]
pub struct Held {
    place: Arc<Place>,
    faults: Faults,
}

impl Held {
    /// Waits until the commit is here.
    pub async fn arrived(&self) {
        self.place.arrived().await;
    }

    /// Lands it now, also if its caller is gone; the caller gets the result, and so do you. `None`: none has come yet,
    /// and none will be held any more.
    pub fn release(self) -> Option<Result<Committed>> {
        self.faults.withdraw(&self.place);
        self.place.land()
    }

    /// What the commit checks and what it makes others conflict with, in the form of
    /// [`super::Transaction::read_conflicts`] and [`super::Transaction::write_conflicts`]. `None`: none has come yet.
    #[must_use]
    pub fn conflicts(&self) -> Option<(Ranges, Ranges)> {
        match &*lock(&self.place.state) {
            Caught::Here { commit, .. } => {
                let intent = &commit.intent;
                let writes = intent.overlay.all_write_conflicts(&intent.extra_writes);
                Some((intent.reads.merged(), writes))
            }
            Caught::NotYet | Caught::Gone => None,
        }
    }

    /// Throws it away; its caller is told that the result is unknown.
    pub fn discard(self) {
        self.faults.withdraw(&self.place);
        if let Caught::Here { reply: Some(reply), .. } =
            std::mem::replace(&mut *lock(&self.place.state), Caught::Gone)
        {
            // An error here means that the caller was cancelled.
            drop(reply.send(Err(Error::CommitUnknown)));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.faults.withdraw(&self.place);
        self.place.land();
    }
}

/// A commit whose caller was told that the result is unknown. Dropping it means that it never lands.
#[derive(Debug)]
#[must_use = "dropping it means that the commit never lands"]
pub struct Lost {
    place: Arc<Place>,
    faults: Faults,
}

impl Lost {
    /// Waits until the commit is here.
    pub async fn arrived(&self) {
        self.place.arrived().await;
    }

    /// Lets it land now: it is validated as if it had just come. `None`: none has come yet, and none will be lost any more.
    pub fn land(self) -> Option<Result<Committed>> {
        self.faults.withdraw(&self.place);
        self.place.land()
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        self.faults.withdraw(&self.place);
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("busy", &self.board.busy).finish_non_exhaustive()
    }
}

/// What is to happen to one commit.
enum Fate {
    Land,
    Delay(Duration),
    Fail(Error),
    Hold(Arc<Place>),
    Lose(Arc<Place>),
    UnknownLanded,
    UnknownLost,
    UnknownLate(Duration),
}

impl Faults {
    /// Holds back the next commit that matches.
    pub fn hold(&self, matcher: Matcher) -> Held {
        let place = Place::new();
        self.order(|orders| orders.once.push_back((matcher, Order::Hold(Arc::clone(&place)))));
        Held { place, faults: self.clone() }
    }

    /// Reports the next commit that matches as unknown, and keeps it.
    pub fn lose(&self, matcher: Matcher) -> Lost {
        let place = Place::new();
        self.order(|orders| orders.once.push_back((matcher, Order::Lose(Arc::clone(&place)))));
        Lost { place, faults: self.clone() }
    }

    /// Refuses the next commit that matches; it never lands.
    pub fn fail(&self, matcher: Matcher, error: Error) {
        self.order(|orders| orders.once.push_back((matcher, Order::Fail(error))));
    }

    /// Cuts a client off: all its reads and commits give [`Error::Unavailable`].
    pub fn outage(&self, client: &str) {
        self.order(|orders| {
            orders.outages.insert(client.to_owned());
        });
    }

    /// Ends [`Faults::outage`].
    pub fn end_outage(&self, client: &str) {
        self.order(|orders| {
            orders.outages.remove(client);
        });
    }

    /// Faults by chance from now on; `None` ends them.
    pub fn chaos(&self, chaos: Option<Chaos>) {
        self.order(|orders| {
            orders.chaos = chaos.map(|chaos| {
                let random = StdRng::seed_from_u64(chaos.seed);
                (chaos, random)
            });
        });
    }

    /// Nothing happens by chance to this client: it looks on.
    pub fn spare(&self, client: &str) {
        self.order(|orders| {
            orders.spared.insert(client.to_owned());
        });
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        let mut orders = lock(&self.board.orders);
        change(&mut orders);
        let quiet = orders.once.is_empty() && orders.outages.is_empty() && orders.chaos.is_none();
        self.board.busy.store(!quiet, Ordering::Release);
    }

    fn withdraw(&self, place: &Arc<Place>) {
        self.order(|orders| {
            orders.once.retain(|(_, order)| match order {
                Order::Hold(other) | Order::Lose(other) => !Arc::ptr_eq(place, other),
                Order::Fail(_) => true,
            });
        });
    }

    fn quiet(&self) -> bool {
        !self.board.busy.load(Ordering::Acquire)
    }

    pub(super) async fn before_read(&self, client: &str, _label: &'static str) -> Result<()> {
        if self.quiet() {
            return Ok(());
        }
        let delay = {
            let mut orders = lock(&self.board.orders);
            orders.check_outage(client)?;
            orders.chance(client).and_then(|(chaos, random)| chaos.delay(random))
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    pub(super) async fn commit(
        &self,
        client: &str,
        label: &'static str,
        intent: Intent,
        to: Ground,
    ) -> Result<Committed> {
        let commit = Coming { intent, to };
        match if self.quiet() { Fate::Land } else { self.fate(client, label) } {
            Fate::Land => commit.land().await,
            // What is rare lies beside the future of what is frequent, not in it.
            fate => Box::pin(commit.meet(fate)).await,
        }
    }

    fn fate(&self, client: &str, label: &str) -> Fate {
        let mut orders = lock(&self.board.orders);
        if let Err(error) = orders.check_outage(client) {
            return Fate::Fail(error);
        }
        let ordered = orders.once.iter().position(|(matcher, _)| matcher.matches(client, label));
        if let Some((_, order)) = ordered.and_then(|at| orders.once.remove(at)) {
            return match order {
                Order::Hold(place) => Fate::Hold(place),
                Order::Lose(place) => Fate::Lose(place),
                Order::Fail(error) => Fate::Fail(error),
            };
        }
        let Some((chaos, random)) = orders.chance(client) else { return Fate::Land };
        let mut chance = random.random::<f64>();
        let mut happens = |probability: f64| {
            chance -= probability;
            chance < 0.0
        };
        if happens(chaos.conflict) {
            Fate::Fail(Error::Conflict)
        } else if happens(chaos.unknown_landed) {
            Fate::UnknownLanded
        } else if happens(chaos.unknown_lost) {
            Fate::UnknownLost
        } else if happens(chaos.unknown_late) {
            Fate::UnknownLate(chaos.delay_max.mul_f64(random.random::<f64>()))
        } else {
            chaos.delay(random).map_or(Fate::Land, Fate::Delay)
        }
    }
}

impl Chaos {
    fn delay(&self, random: &mut StdRng) -> Option<Duration> {
        (random.random::<f64>() < self.delay)
            .then(|| self.delay_max.mul_f64(random.random::<f64>()))
    }
}

impl Orders {
    /// What decides by chance about this client, if anything does.
    fn chance(&mut self, client: &str) -> Option<&mut (Chaos, StdRng)> {
        self.chaos.as_mut().filter(|_| !self.spared.contains(client))
    }

    fn check_outage(&self, client: &str) -> Result<()> {
        if self.outages.contains(client) {
            return Err(Error::Unavailable(format!("'{client}' is cut off")));
        }
        Ok(())
    }
}
