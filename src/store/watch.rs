//! Watches: futures that end when the value of a key has changed.
//!
//! A watch is entered in the table first and compared with the published state
//! afterwards; a batch is published first and compared with the table
//! afterwards. So one of the two sees the other, and no change is missed.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::limits::WATCHES_MAX;
use super::sequencer::{Batch, count};
use super::shared::lock;
use super::view::Published;
use super::{Error, Result};

/// Ends with `Ok` once the value of the key differs from what its transaction saw; fires once.
///
/// It is armed by the commit of its transaction. If the commit fails, it ends with that error; if the
/// transaction is dropped or the store closed, with [`Error::Cancelled`]. Dropping it takes it out of the store.
#[derive(Debug)]
#[must_use = "a watch does nothing unless awaited"]
pub struct Watch {
    receiver: oneshot::Receiver<Result<()>>,
    place: Arc<Place>,
}

impl Future for Watch {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let receiver = Pin::new(&mut self.receiver);
        receiver.poll(context).map(|fired| fired.unwrap_or(Err(Error::Cancelled)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Closed first, so that whoever is arming it just now sees either this or the removal.
        self.receiver.close();
        self.place.table.remove(&self.place.key, self.place.id);
    }
}

/// Where a watch stands in the table; one of the limited number.
#[derive(Debug)]
struct Place {
    table: Arc<Table>,
    key: Bytes,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.reserved.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The value that a watch waits to see changed.
#[derive(Debug)]
pub(super) enum Expected {
    /// The commit will tell.
    Unknown,
    /// This one, or none.
    Value(Option<Bytes>),
}

/// A watch on its way to be armed.
#[derive(Debug)]
pub(super) struct Arming {
    pub(super) key: Bytes,
    /// What the transaction saw or leaves behind.
    pub(super) expected: Expected,
    id: u64,
    sender: oneshot::Sender<Result<()>>,
}

impl Arming {
    /// Ends the watch with the error of its commit.
    pub(super) fn fail(self, error: &Error) {
        // An error here means that the watch was dropped: nobody waits.
        drop(self.sender.send(Err(error.clone())));
    }
}

#[cfg(feature = "foundationdb")]
impl Arming {
    /// Ends when nobody waits for the watch any more.
    pub(super) async fn given_up(&mut self) {
        self.sender.closed().await;
    }

    /// Fires the watch, or ends it with an error.
    pub(super) fn end(self, result: Result<()>) {
        // An error here means that the watch was dropped: nobody waits.
        drop(self.sender.send(result));
    }
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    expected: Option<Bytes>,
    sender: oneshot::Sender<Result<()>>,
}

#[derive(Debug, Default)]
struct Table {
    waiters: Mutex<BTreeMap<Bytes, Vec<Waiter>>>,
    reserved: AtomicU64,
    next: AtomicU64,
}

impl Table {
    fn remove(&self, key: &Bytes, id: u64) {
        let mut waiters = lock(&self.waiters);
        if let Some(list) = waiters.get_mut(key) {
            list.retain(|waiter| waiter.id != id);
            if list.is_empty() {
                waiters.remove(key);
            }
        }
    }
}

/// All watches of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct WatchTable(Arc<Table>);

impl WatchTable {
    /// Watches armed or about to be.
    pub(super) fn len(&self) -> u64 {
        self.0.reserved.load(Ordering::Relaxed)
    }

    /// Makes a watch that is not armed yet.
    pub(super) fn reserve(&self, key: &[u8]) -> Result<(Watch, Arming)> {
        if self.0.reserved.fetch_add(1, Ordering::Relaxed) >= count(WATCHES_MAX) {
            self.0.reserved.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::TooManyWatches { limit: WATCHES_MAX });
        }
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let key = Bytes::copy_from_slice(key);
        let (sender, receiver) = oneshot::channel();
        let place = Arc::new(Place { table: Arc::clone(&self.0), key: key.clone(), id });
        Ok((Watch { receiver, place }, Arming { key, expected: Expected::Unknown, id, sender }))
    }

    /// Enters the watch, and fires it if the value has changed already.
    pub(super) fn arm(&self, arming: Arming, published: &ArcSwap<Published>) {
        let Arming { key, expected, id, sender } = arming;
        let expected = match expected {
            Expected::Value(value) => value,
            Expected::Unknown => None,
        };
        let waiter = Waiter { id, expected, sender };
        {
            let mut waiters = lock(&self.0.waiters);
            if waiter.sender.is_closed() {
                return;
            }
            waiters.entry(key.clone()).or_default().push(waiter);
        }
        self.compare(&key, &published.load());
    }

    /// Fires the watches whose values this batch, now published, has changed.
    pub(super) fn notify(&self, batch: &Batch, published: &Published) {
        if self.len() == 0 {
            return;
        }
        let touched: Vec<Bytes> = {
            let waiters = lock(&self.0.waiters);
            if batch.cleared.is_empty() && batch.writes.len() < waiters.len() {
                batch.writes.keys().filter(|key| waiters.contains_key(*key)).cloned().collect()
            } else {
                waiters.keys().filter(|key| batch.touches(key)).cloned().collect()
            }
        };
        for key in touched {
            self.compare(&key, published);
        }
    }

    fn compare(&self, key: &Bytes, published: &Published) {
        let value = published.get(key);
        let mut waiters = lock(&self.0.waiters);
        let Some(list) = waiters.get_mut(key) else { return };
        let changed = |waiter: &mut Waiter| match &value {
            Ok(value) => *value != waiter.expected,
            Err(_) => true,
        };
        let fired: Vec<Waiter> = list.extract_if(.., changed).collect();
        if list.is_empty() {
            waiters.remove(key);
        }
        drop(waiters);
        for waiter in fired {
            let result = value.as_ref().map(|_| ()).map_err(Clone::clone);
            // An error here means that the watch was dropped: nobody waits.
            drop(waiter.sender.send(result));
        }
    }

    /// Ends all watches: the store is closing.
    pub(super) fn close(&self) {
        lock(&self.0.waiters).clear();
    }
}
