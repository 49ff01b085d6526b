//! Attempt slots: how a data commit whose result is unknown is resolved.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::codec::keys;
use crate::store::{Resolve, Slot, Store};

/// The attempt slots of one incarnation: one for each transaction in flight
/// (protocol.md, rule 21). A cheap handle.
///
/// The guard of each is the node's member row as this incarnation wrote it. So
/// a node that was evicted, whose slots may have been cleaned away, learns that
/// it cannot know.
#[derive(Clone)]
pub struct Slots {
    inner: Arc<Inner>,
}

struct Inner {
    node: String,
    incarnation: u64,
    guard_value: Bytes,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    free: Vec<u32>,
    /// Slots that were ever taken; as many as transactions at the same time.
    made: u32,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("node", &self.inner.node)
            .field("incarnation", &self.inner.incarnation)
            .finish_non_exhaustive()
    }
}

impl Slots {
    pub(super) fn new(node: &str, incarnation: u64, member_row: Bytes) -> Self {
        let (node, pool) = (node.to_owned(), Mutex::default());
        Self { inner: Arc::new(Inner { node, incarnation, guard_value: member_row, pool }) }
    }

    /// A slot for one transaction, all its attempts included.
    #[must_use]
    pub fn acquire(&self) -> SlotGuard {
        let mut pool = self.inner.lock();
        let number = pool.free.pop().unwrap_or_else(|| {
            pool.made += 1;
            pool.made - 1
        });
        drop(pool);
        SlotGuard { inner: Arc::clone(&self.inner), number }
    }

    /// How a data commit on this store resolves an unknown result. Keep the
    /// guard until the commit is over.
    #[must_use]
    pub fn resolve(&self, store: &Store) -> (Resolve, Option<SlotGuard>) {
        if store.commit_may_be_unknown() {
            let guard = self.acquire();
            (Resolve::Token(guard.slot()), Some(guard))
        } else {
            (Resolve::Report, None)
        }
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot in use; dropping it gives it back.
///
/// A commit of its last user that is still under way cannot disturb the next:
/// both read and write the slot's key, so at most one of them lands on each state.
pub struct SlotGuard {
    inner: Arc<Inner>,
    number: u32,
}

impl fmt::Debug for SlotGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SlotGuard").field(&self.number).finish()
    }
}

impl SlotGuard {
    /// The keys, for [`Resolve::Token`].
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot {
            key: keys::attempt(self.inner.incarnation, self.number),
            guard_key: keys::member(&self.inner.node),
            guard_value: self.inner.guard_value.to_vec(),
        }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.inner.lock().free.push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Error, Matcher, Read};

    fn slots() -> Slots {
        Slots::new("a", 7, Bytes::from_static(b"row"))
    }

    #[test]
    fn transactions_at_the_same_time_have_slots_of_their_own_and_give_them_back() {
        let slots = slots();
        let (first, second) = (slots.acquire(), slots.acquire());
        assert_ne!(first.slot().key, second.slot().key);
        let key = second.slot().key;
        drop(second);
        assert_eq!(slots.acquire().slot().key, key);
        assert_eq!(keys::parse_attempt(&first.slot().key).unwrap().0, 7);
        assert_eq!(first.slot().guard_key, keys::member("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_out_of_the_cluster_answers_that_the_result_is_unknown() {
        let store = Store::memory();
        let put = async |key: &[u8], value: &[u8]| {
            let txn = store.begin("put");
            txn.set(key, value).unwrap();
            txn.commit().await.unwrap();
        };
        put(&keys::member("a"), b"row").await;
        let slots = slots();
        let (resolve, _slot) = slots.resolve(&store);
        let lost = store.faults().unwrap().lose(Matcher::any().label("work"));
        // Evicted between the attempt and its retry.
        put(&keys::member("a"), b"another row").await;
        let result = store
            .run("work", resolve, |txn| async move {
                txn.get(b"x", Read::Conflict).await?;
                txn.set(b"x", b"1")?;
                Ok::<_, Error>(())
            })
            .await;
        assert!(matches!(result, Err(Error::CommitUnknown)));
        drop(lost);
    }
}
