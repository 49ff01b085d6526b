//! Places for connections, a bounded number of them.
//!
//! Who comes when all are taken gets the place of whoever has sat there longest without asking for anything: half a
//! request keeps nobody else out. A place at which a request is being answered is taken from nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// All places.
#[derive(Debug)]
pub(super) struct Seats {
    max: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    seats: HashMap<u64, Sitting>,
    /// Counts, so that what came first can be told.
    turn: u64,
}

#[derive(Debug)]
struct Sitting {
    /// Since when nothing is asked; none while something is answered.
    idle_since: Option<u64>,
    stands_up: CancellationToken,
}

impl Taken {
    fn turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }
}

impl Seats {
    /// So many, at least one.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: max.max(1), taken: Mutex::default(), freed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place; waits while at all of them something is answered.
    pub(super) async fn take(self: &Arc<Self>) -> Seat {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on a notification counts, also one before the wait.
            freed.as_mut().enable();
            if let Some(seat) = self.sit_down() {
                return seat;
            }
            freed.await;
        }
    }

    /// A free place; if there is none somebody is told to stand up.
    fn sit_down(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = self.lock();
        if taken.seats.len() >= self.max {
            if !taken.seats.values().any(|sitting| sitting.stands_up.is_cancelled()) {
                let idle = taken.seats.values().filter(|sitting| sitting.idle_since.is_some());
                if let Some(longest) = idle.min_by_key(|sitting| sitting.idle_since) {
                    longest.stands_up.cancel();
                }
            }
            return None;
        }
        let number = taken.turn();
        let stands_up = CancellationToken::new();
        let sitting = Sitting { idle_since: Some(number), stands_up: stands_up.clone() };
        taken.seats.insert(number, sitting);
        let busy = watch::Sender::new(false);
        Some(Seat { seats: Arc::clone(self), number, stands_up, busy })
    }
}

/// A place that is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    stands_up: CancellationToken,
    busy: watch::Sender<bool>,
}

impl Seat {
    /// A whole request is there and is being answered. False if the place has been given to another already.
    pub(super) fn begin(&self) -> bool {
        self.note(true);
        !self.stands_up.is_cancelled()
    }

    /// It has been answered.
    pub(super) fn end(&self) {
        self.note(false);
    }

    fn note(&self, busy: bool) {
        let mut taken = self.seats.lock();
        let turn = taken.turn();
        if let Some(sitting) = taken.seats.get_mut(&self.number) {
            sitting.idle_since = (!busy).then_some(turn);
        }
        drop(taken);
        self.busy.send_replace(busy);
        // Who waits may have found nobody to take the place of.
        self.seats.freed.notify_waiters();
    }

    /// Waits until the place is another's.
    pub(super) async fn lost(&self) {
        self.stands_up.cancelled().await;
    }

    /// Waits until nothing is being answered.
    pub(super) async fn idle(&self) {
        // The sender is here, so that it does not end.
        drop(self.busy.subscribe().wait_for(|busy| !busy).await);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().seats.remove(&self.number);
        self.seats.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What is there at once.
    async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_nanos(1), future).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_idled_longest_gives_up_his_place() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take().await, seats.take().await);
        first.end();
        assert!(now(seats.take()).await.is_none());
        assert!(now(second.lost()).await.is_some(), "the first has asked since");
        assert!(now(first.lost()).await.is_none() && !second.begin());
        drop(second);
        let third = now(seats.take()).await.unwrap();
        assert!(first.begin() && third.begin());
        assert!(now(seats.take()).await.is_none());
        assert!(now(first.lost()).await.is_none() && now(third.lost()).await.is_none());
        // As soon as one is done, whoever waits gets his place.
        let waiting = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.take().await }
        });
        assert!(now(first.idle()).await.is_none());
        first.end();
        first.lost().await;
        drop(first);
        drop(waiting.await.unwrap());
        third.end();
        third.idle().await;
    }
}
