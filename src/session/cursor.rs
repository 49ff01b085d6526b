//! The cursors of one session: numbers that stand for queries with more to give.
//!
//! Ids are counted from 1 and never reused within a session (SESSION.CLOSE
//! starts anew), whatever kind of cursor they name, so that an old id can't hit a
//! newer cursor. What a cursor is about is up to its state.
//!
//! A cursor that is exhausted stays until it is closed, since clients may ask it
//! for the next, empty batch. Many never close one, so exhausted cursors do not
//! count against the limit; beyond the same number the oldest of them is forgotten.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

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
    exhausted: BTreeSet<u64>,
}

impl std::fmt::Debug for Cursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursors").field("open", &self.open.keys()).finish_non_exhaustive()
    }
}

impl Cursors {
    /// No cursor yet, and never more than `limit` at a time.
    pub const fn new(limit: usize) -> Self {
        Self { limit, next: 1, open: BTreeMap::new(), exhausted: BTreeSet::new() }
    }

    /// Keeps `state` under a fresh id.
    pub fn open<S: Any + Send>(&mut self, state: S) -> Result<u64, TooManyCursors> {
        self.expect_room()?;
        Ok(self.insert(state))
    }

    /// Whether another cursor with more to give may be opened.
    pub fn expect_room(&self) -> Result<(), TooManyCursors> {
        if self.open.len() - self.exhausted.len() < self.limit {
            Ok(())
        } else {
            Err(TooManyCursors { limit: self.limit })
        }
    }

    /// Keeps the state of a cursor that has nothing more to give under a fresh id.
    pub fn open_exhausted<S: Any + Send>(&mut self, state: S) -> u64 {
        let id = self.insert(state);
        self.exhaust(id);
        id
    }

    /// From now on this cursor has nothing more to give. May forget the oldest such.
    pub fn exhaust(&mut self, id: u64) {
        if self.open.contains_key(&id) {
            self.exhausted.insert(id);
        }
        while self.exhausted.len() > self.limit {
            if let Some(oldest) = self.exhausted.pop_first() {
                self.open.remove(&oldest);
            }
        }
    }

    fn insert<S: Any + Send>(&mut self, state: S) -> u64 {
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Box::new(state));
        id
    }

    /// The state under `id`, if there is one and it is of this type.
    pub fn get_mut<S: Any>(&mut self, id: u64) -> Option<&mut S> {
        self.open.get_mut(&id)?.downcast_mut()
    }

    /// As [`Cursors::get_mut`], to look at.
    pub fn get<S: Any>(&self, id: u64) -> Option<&S> {
        self.open.get(&id)?.downcast_ref()
    }

    /// Forgets a cursor of this type; false where there was none.
    pub fn close<S: Any>(&mut self, id: u64) -> bool {
        if !self.open.get(&id).is_some_and(|state| state.is::<S>()) {
            return false;
        }
        self.exhausted.remove(&id);
        self.open.remove(&id).is_some()
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
    fn exhausted_cursors_do_not_count_but_the_oldest_is_forgotten_beyond_the_limit() {
        let mut cursors = Cursors::new(2);
        assert_eq!(cursors.open("open"), Ok(1));
        for id in 2..=4 {
            assert_eq!(cursors.open_exhausted("done"), id);
        }
        let left: Vec<u64> = cursors.iter::<&str>().map(|(id, _)| id).collect();
        assert_eq!(left, [1, 3, 4]);
        assert_eq!(cursors.open("open"), Ok(5));
        assert_eq!(cursors.expect_room(), Err(TooManyCursors { limit: 2 }));
        cursors.exhaust(1);
        let left: Vec<u64> = cursors.iter::<&str>().map(|(id, _)| id).collect();
        assert_eq!(left, [3, 4, 5], "the one that was exhausted is the oldest");
        assert!(cursors.close::<&str>(3));
        assert_eq!(cursors.open("open"), Ok(6));
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
