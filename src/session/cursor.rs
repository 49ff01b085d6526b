//! The cursors of one session: numbers that stand for queries with more to give.
//!
//! Ids are counted from 1 and never reused within a session (SESSION.CLOSE
//! starts anew), whatever kind of cursor they name, so that an old id can't hit a
//! newer cursor. An exhausted cursor gives its state up and keeps only its id
//! until it is closed; what a cursor is about is up to the state.

use std::any::Any;
use std::collections::BTreeMap;

/// What a cursor remembers; the commands that made it know its type.
pub type State = Box<dyn Any + Send>;

/// No further cursor may be opened in this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many open cursors: at most {limit} per session; close some with BUCKET.CLOSE")]
pub struct TooManyCursors {
    /// How many may be open.
    pub limit: usize,
}

/// All cursors of a session, by id.
pub struct Cursors {
    limit: usize,
    next: u64,
    open: BTreeMap<u64, State>,
}

impl std::fmt::Debug for Cursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursors").field("open", &self.open.keys()).finish_non_exhaustive()
    }
}

impl Cursors {
    /// No cursor yet, and never more than `limit` at a time.
    pub const fn new(limit: usize) -> Self {
        Self { limit, next: 1, open: BTreeMap::new() }
    }

    /// Keeps `state` under a fresh id.
    pub fn open<S: Any + Send>(&mut self, state: S) -> Result<u64, TooManyCursors> {
        if self.open.len() >= self.limit {
            return Err(TooManyCursors { limit: self.limit });
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Box::new(state));
        Ok(id)
    }

    /// The state under `id`, if there is one and it is of this type.
    pub fn get_mut<S: Any>(&mut self, id: u64) -> Option<&mut S> {
        self.open.get_mut(&id)?.downcast_mut()
    }

    /// Forgets a cursor of this type; false where there was none.
    pub fn close<S: Any>(&mut self, id: u64) -> bool {
        let found = self.open.get(&id).is_some_and(|state| state.is::<S>());
        found && self.open.remove(&id).is_some()
    }

    /// The cursors of this type, by id.
    pub fn iter<S: Any>(&self) -> impl Iterator<Item = (u64, &S)> {
        self.open.iter().filter_map(|(id, state)| Some((*id, state.downcast_ref()?)))
    }

    /// How many are open, of all types.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_from_one_and_are_not_reused() {
        let mut cursors = Cursors::new(2);
        assert_eq!(cursors.open("a"), Ok(1));
        assert!(cursors.close::<&str>(1));
        assert_eq!(cursors.open("b"), Ok(2));
    }

    #[test]
    fn the_number_of_open_cursors_is_bounded() {
        let mut cursors = Cursors::new(1);
        assert_eq!(cursors.open(1_u8), Ok(1));
        assert_eq!(cursors.open(2_u8), Err(TooManyCursors { limit: 1 }));
        assert!(cursors.close::<u8>(1));
        assert_eq!(cursors.open(3_u8), Ok(2));
    }

    #[test]
    fn a_cursor_is_found_only_as_what_it_is() {
        let mut cursors = Cursors::new(3);
        assert_eq!(cursors.open("text"), Ok(1));
        assert_eq!(cursors.open(7_u8), Ok(2));
        assert!(cursors.get_mut::<u8>(1).is_none());
        assert!(!cursors.close::<u8>(1));
        assert_eq!(cursors.get_mut::<u8>(2), Some(&mut 7));
        assert_eq!(cursors.iter::<&str>().collect::<Vec<_>>(), [(1, &"text")]);
    }
}
