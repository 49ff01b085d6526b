use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What every connection may hold without asking: most never need more.
const FREE: usize = 512 * 1024;

/// Memory for requests and replies that all connections share. The limits of one connection times
/// the number of connections would be more than any machine has.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }
}

/// What one connection has taken of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    taken: usize,
}

impl Share {
    pub(super) const fn new(budget: Arc<Budget>) -> Self {
        Self { budget, taken: 0 }
    }

    /// Says that the connection now holds this many bytes in its buffers. False where it
    /// needs more than is left; then nothing changes.
    #[must_use]
    pub(super) fn resize(&mut self, held: usize) -> bool {
        let wanted = held.saturating_sub(FREE);
        if let Some(more) = wanted.checked_sub(self.taken) {
            let before = self.budget.used.fetch_add(more, Ordering::Relaxed);
            if more > 0 && before.saturating_add(more) > self.budget.limit {
                self.budget.used.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else {
            self.budget.used.fetch_sub(self.taken - wanted, Ordering::Relaxed);
        }
        self.taken = wanted;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_add_up_to_more_than_the_budget() {
        let budget = Budget::new(1_000);
        let (mut one, mut other) =
            (Share::new(Arc::clone(&budget)), Share::new(Arc::clone(&budget)));
        assert!(one.resize(FREE) && other.resize(FREE), "what is free is never refused");
        assert!(one.resize(FREE + 700));
        assert!(!other.resize(FREE + 301));
        assert!(other.resize(FREE + 300));
        assert!(one.resize(FREE + 700), "nothing more is nothing more");
        assert!(one.resize(0));
        assert!(other.resize(FREE + 1_000));
        drop(other);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
        assert!(one.resize(FREE + 1_000));
    }
}
