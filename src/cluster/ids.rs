//! Ids for buckets, namespaces, removals and incarnations.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::errors::{Error, Result};
use crate::codec::{DecodeError, keys};
use crate::store::{Read, Resolve, Store, Transaction};

/// How many ids are reserved at a time.
pub const BLOCK: u64 = 1_000;

/// Where a new store's ids begin: anywhere below this. So that an id of one cluster, pasted into another, is not
/// the id of something there: of two stores with a million ids each, two in a million have one in common. Small
/// enough to stay short in keys.
pub const FIRST_ID_MAX: u64 = 1 << 40;

/// Makes ids that no other caller of any node gets, now or ever.
///
/// A node reserves them in blocks, so that making one costs no transaction and
/// contends with nobody. What is left of a block when the node ends is wasted,
/// and so is a block whose reservation had an unknown result. A cheap handle.
#[derive(Debug, Clone)]
pub struct IdBlocks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    first: u64,
    state: Mutex<State>,
    refilled: Notify,
}

#[derive(Debug, Default)]
struct State {
    blocks: VecDeque<Range<u64>>,
    /// Somebody is reserving a block: the others wait for it.
    refilling: bool,
}

enum Step {
    Take(u64),
    Refill,
    Wait,
}

impl IdBlocks {
    /// Of this store. Reserves nothing yet. If nobody has, ids begin at `first`.
    pub fn new(store: Store, first: u64) -> Self {
        let (state, refilled) = (Mutex::default(), Notify::new());
        Self { inner: Arc::new(Inner { store, first, state, refilled }) }
    }

    /// An id that was never given before.
    ///
    /// # Errors
    /// Those of the store, when a block is to be reserved.
    pub async fn next(&self) -> Result<u64> {
        loop {
            let refilled = self.inner.refilled.notified();
            tokio::pin!(refilled);
            // From here on a notification counts, also one before the wait.
            refilled.as_mut().enable();
            match self.inner.step() {
                Step::Take(id) => return Ok(id),
                Step::Wait => refilled.await,
                Step::Refill => {
                    // Also lets the next one try if this future is dropped.
                    let refill = Refill { inner: &self.inner };
                    let block = self.inner.reserve().await?;
                    self.inner.lock().blocks.push_back(block);
                    drop(refill);
                }
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> Step {
        let mut state = self.lock();
        while let Some(block) = state.blocks.front_mut() {
            if let Some(id) = block.next() {
                return Step::Take(id);
            }
            state.blocks.pop_front();
        }
        if std::mem::replace(&mut state.refilling, true) { Step::Wait } else { Step::Refill }
    }

    async fn reserve(&self) -> Result<Range<u64>> {
        let body = |txn| reserve(txn, self.first);
        let outcome = self.store.run("reserve-ids", Resolve::Idempotent, body).await?;
        Ok(outcome.value)
    }
}

/// Takes the next block. Run twice it takes two.
async fn reserve(txn: Transaction, first: u64) -> Result<Range<u64>> {
    let key = keys::next_id();
    let wrong = || Error::from(DecodeError { what: "next-id", detail: "no counter".to_owned() });
    let first = match txn.get(&key, Read::Conflict).await? {
        None => first,
        Some(value) => {
            <[u8; 8]>::try_from(value.as_ref()).map(u64::from_le_bytes).map_err(|_| wrong())?
        }
    };
    let end = first.checked_add(BLOCK).ok_or_else(wrong)?;
    txn.set(&key, &end.to_le_bytes())?;
    Ok(first..end)
}

struct Refill<'a> {
    inner: &'a Inner,
}

impl Drop for Refill<'_> {
    fn drop(&mut self) {
        self.inner.lock().refilling = false;
        self.inner.refilled.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::Matcher;

    #[tokio::test(start_paused = true)]
    async fn ids_begin_where_the_first_node_says_and_never_repeat_over_nodes() {
        let store = Store::memory();
        let (a, b) = (IdBlocks::new(store.clone(), 1), IdBlocks::new(store.clone(), 7));
        assert_eq!(a.next().await.unwrap(), 1);
        let mut all = BTreeSet::from([1]);
        for _ in 0..2 * BLOCK {
            assert!(all.insert(a.next().await.unwrap()));
            assert!(all.insert(b.next().await.unwrap()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_callers_share_one_reservation() {
        let store = Store::memory();
        let ids = IdBlocks::new(store.clone(), 1);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..BLOCK {
            let ids = ids.clone();
            tasks.spawn(async move { ids.next().await.unwrap() });
        }
        let all: BTreeSet<u64> = tasks.join_all().await.into_iter().collect();
        assert_eq!(all, (1..=BLOCK).collect());
        assert_eq!(store.stats().commits, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reservation_with_unknown_result_wastes_a_block_and_repeats_none() {
        let store = Store::memory();
        let ids = IdBlocks::new(store.clone(), 1);
        let lost = store.faults().unwrap().lose(Matcher::any().label("reserve-ids"));
        let first = ids.next().await.unwrap();
        assert_eq!(first, 1, "the lost reservation had not landed");
        assert!(lost.land().unwrap().is_err(), "and cannot land after the retry");
        assert_eq!(ids.next().await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_leaves_the_reservation_to_the_next() {
        let store = Store::memory();
        let ids = IdBlocks::new(store.clone(), 1);
        let held = store.faults().unwrap().hold(Matcher::any().label("reserve-ids"));
        let task = tokio::spawn({
            let ids = ids.clone();
            async move { ids.next().await }
        });
        held.arrived().await;
        task.abort();
        assert!(task.await.is_err());
        assert_eq!(ids.next().await.unwrap(), 1);
        assert!(held.release().unwrap().is_err(), "it conflicts: the block is taken");
    }
}
