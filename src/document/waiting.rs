//! Waiting until a bucket changes.
//!
//! Every commit that changes documents of a bucket writes, blindly, the version
//! of its shard's log under `data/<bucket>/head/<shard>`; the fences of the bucket
//! and of the namespaces above it are written when it is removed or moved. All who
//! wait for one bucket on a node share one [`Room`], a task that watches these
//! keys, so that a thousand clients cost the store no more than one.
//!
//! ```text
//!   commit on any node ──► head/<shard> ──watch──► room ──► every waiter reads the log
//! ```
//!
//! Nothing is missed: a waiter reads after its room has armed its watches, and
//! the room arms them anew before it tells anybody that they fired. What a waiter
//! holds is a position, checked by the fence when it reads again, so it is no work
//! that a removal would have to wait for.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::codec::{BucketId, keys};
use crate::error::Result;
use crate::metadata::LiveBucket;
use crate::store::limits::WATCHES_MAX;
use crate::store::{self, Store, Watch};

/// Watches of all rooms of a node; the rest of what the store has is for its workers.
const ROOMS_WATCHES_MAX: usize = WATCHES_MAX / 2;
/// All are told at least this often, should a watch be lost.
const DEADMAN: Duration = Duration::from_secs(60);
/// How long a room waits when the store does not let it watch.
const AGAIN: Duration = Duration::from_secs(1);

/// Those who wait on one node. A cheap handle.
#[derive(Debug, Clone)]
pub struct Waiters(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    rooms: Mutex<HashMap<BucketId, Weak<Room>>>,
    watches: AtomicUsize,
}

/// All who wait for one bucket.
#[derive(Debug)]
struct Room {
    bucket: BucketId,
    watches: usize,
    /// Counts how often the watches were armed; closed when the bucket is not what it was.
    armed: watch::Receiver<u64>,
    task: AbortHandle,
    inner: Weak<Inner>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.task.abort();
        let Some(inner) = self.inner.upgrade() else { return };
        inner.watches.fetch_sub(self.watches, Ordering::Relaxed);
        let mut rooms = inner.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.get(&self.bucket).is_some_and(|room| room.strong_count() == 0) {
            rooms.remove(&self.bucket);
        }
    }
}

/// The keys that are written when a bucket changes.
#[derive(Debug, Clone)]
pub struct Places {
    bucket: BucketId,
    heads: Vec<Vec<u8>>,
    fences: Vec<Vec<u8>>,
}

impl Places {
    #[must_use]
    pub fn of(bucket: &LiveBucket) -> Self {
        let head = |shard: &u16| keys::feed::head(bucket.id(), *shard);
        let heads = bucket.shards().iter().map(head).collect();
        Self { bucket: bucket.id(), heads, fences: bucket.fence_keys() }
    }
}

/// One who waits.
#[derive(Debug)]
pub struct Waiter {
    armed: watch::Receiver<u64>,
    _room: Arc<Room>,
}

impl Waiters {
    #[must_use]
    pub fn new(store: Store) -> Self {
        let (rooms, watches) = (Mutex::default(), AtomicUsize::new(0));
        Self(Arc::new(Inner { store, rooms, watches }))
    }

    /// How many buckets are waited for.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Begins to wait for changes of a bucket. What is read from now on misses
    /// none that [`Waiter::changed`] does not tell of.
    ///
    /// # Errors
    /// `TOO_MANY_WATCHES`.
    pub async fn join(&self, places: &Places) -> Result<Waiter> {
        let room = self.room(places)?;
        let mut waiter = Waiter { armed: room.armed.clone(), _room: room };
        // A room that closes at once is noticed by whoever waits in it.
        drop(waiter.armed.wait_for(|armed| *armed > 0).await);
        waiter.armed.mark_unchanged();
        Ok(waiter)
    }

    fn room(&self, places: &Places) -> Result<Arc<Room>> {
        let Places { bucket, heads, fences } = places;
        // Declared first, so that the last handle on a room is not dropped under the lock.
        let known;
        let mut rooms = self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        known = rooms.get(bucket).and_then(Weak::upgrade);
        if let Some(room) = known.filter(|room| room.armed.has_changed().is_ok()) {
            return Ok(room);
        }
        let watches = heads.len() + fences.len();
        let taken = self.0.watches.fetch_add(watches, Ordering::Relaxed);
        if taken.saturating_add(watches) > ROOMS_WATCHES_MAX {
            self.0.watches.fetch_sub(watches, Ordering::Relaxed);
            return Err(store::Error::TooManyWatches { limit: ROOMS_WATCHES_MAX }.into());
        }
        let (sender, armed) = watch::channel(0);
        let work = keep_watch(self.0.store.clone(), heads.clone(), fences.clone(), sender);
        let task = tokio::spawn(work);
        let room = Arc::new(Room {
            bucket: *bucket,
            watches,
            armed,
            task: task.abort_handle(),
            inner: Arc::downgrade(&self.0),
        });
        rooms.insert(*bucket, Arc::downgrade(&room));
        Ok(room)
    }
}

impl Waiter {
    /// Ends when the bucket has changed since the last time, or may have. False:
    /// it may not be what it was, so open it anew and [`Waiters::join`] again.
    pub async fn changed(&mut self) -> bool {
        self.armed.changed().await.is_ok()
    }
}

/// Watches until a fence is written, and tells of everything else.
async fn keep_watch(
    store: Store,
    heads: Vec<Vec<u8>>,
    fences: Vec<Vec<u8>>,
    armed: watch::Sender<u64>,
) {
    loop {
        let watches = arm(&store, heads.iter().chain(&fences)).await;
        armed.send_modify(|count| *count = count.wrapping_add(1));
        match watches {
            Ok(mut watches) => tokio::select! {
                (fired, result) = first(&mut watches) => match result {
                    Ok(()) if fired >= heads.len() => return,
                    Ok(()) => {}
                    Err(_) => tokio::time::sleep(AGAIN).await,
                },
                () = tokio::time::sleep(DEADMAN) => {}
            },
            // Who reads now learns what is wrong.
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Watches all of these keys.
async fn arm<'a>(
    store: &Store,
    keys: impl Iterator<Item = &'a Vec<u8>>,
) -> store::Result<Vec<Watch>> {
    let txn = store.begin("feed-watch");
    let watches = keys.map(|key| txn.watch(key)).collect::<store::Result<Vec<_>>>()?;
    txn.commit().await?;
    Ok(watches)
}

/// The first watch that has ended, and how.
async fn first(watches: &mut [Watch]) -> (usize, store::Result<()>) {
    std::future::poll_fn(|context| {
        let all = watches.iter_mut().enumerate().rev();
        let mut ended = all.map(|(place, watch)| (place, Pin::new(watch).poll(context)));
        let first = ended.find_map(|(place, ended)| match ended {
            Poll::Ready(result) => Some((place, result)),
            Poll::Pending => None,
        });
        first.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
