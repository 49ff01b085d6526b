use super::{Transaction, lock};
use crate::store::Result;

impl Transaction {
    /// From here on what is written can be taken back, without what was written before. What is read in between stays
    /// among the conflicts, and numbers of [`Transaction::next_order`] that were given out are not given out again.
    pub fn savepoint(&self) -> Result<Savepoint> {
        let mut state = self.state()?;
        state.overlay.savepoint();
        Ok(Savepoint { transaction: self.clone(), size: state.size, kept: false })
    }
}

/// A place in a transaction to go back to. Dropping it takes back what was written since; savepoints that are open at the
/// same time are ended in the opposite order.
#[derive(Debug)]
#[must_use = "dropping it takes back what was written since"]
pub struct Savepoint {
    transaction: Transaction,
    size: usize,
    kept: bool,
}

impl Savepoint {
    /// What was written since stays.
    pub fn keep(mut self) {
        self.kept = true;
        lock(&self.transaction.inner.state).overlay.keep();
    }
}

impl Drop for Savepoint {
    fn drop(&mut self) {
        if !self.kept {
            let mut state = lock(&self.transaction.inner.state);
            state.overlay.roll_back();
            if state.ended.is_none() {
                state.size = self.size;
            }
        }
    }
}
