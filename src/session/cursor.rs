//! The cursors of one session: numbers that stand for queries with more to give.
//!
//! Ids are counted from 1 and never reused within a session (SESSION.CLOSE
//! starts anew), whatever kind of cursor they name, so that an old id can't hit a
//! newer cursor. What a cursor is about is up to its state.
//!
//! What they hold together is bounded in number and in bytes, which whoever opens
//! one says beforehand. What a cursor comes to hold on its way is counted as well;
//! it may go beyond the bound by one batch, and then has to wait until others are closed.
//!
//! A cursor that is exhausted stays until it is closed, since clients may ask it
//! for the next, empty batch. Many never close one, so exhausted cursors, which hold
//! nothing but what a list shows of them, do not count against the limits; beyond the
//! same number the oldest of them is forgotten.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

/// What a cursor remembers; the commands that made it know its type.
pub type State = Box<dyn Any + Send>;

/// No further cursor may be opened in this session, or none may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// There are so many already.
    #[error("too many open cursors: at most {0} per session; close some with BUCKET.CLOSE")]
    Cursors(usize),
    /// They would hold too much.
    #[error(
        "the cursors of a session hold at most {0} bytes; close some with BUCKET.CLOSE, or ask for less"
    )]
    Bytes(usize),
}

/// All cursors of a session, by id.
pub struct Cursors {
    limit: usize,
    bytes_max: usize,
    next: u64,
    open: BTreeMap<u64, Kept>,
    exhausted: BTreeSet<u64>,
    /// What those that are not exhausted hold.
    bytes: usize,
}

/// A cursor, and about how many bytes it holds; an exhausted one counts for nothing.
struct Kept {
    state: State,
    weight: usize,
}

impl std::fmt::Debug for Cursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Cursors");
        debug.field("open", &self.open.keys()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Cursors {
    /// No cursor yet, and never more than `limit` at a time, nor such as hold more than `bytes_max`.
    pub const fn new(limit: usize, bytes_max: usize) -> Self {
        Self {
            limit,
            bytes_max,
            next: 1,
            open: BTreeMap::new(),
            exhausted: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// Keeps `state`, which holds so many bytes, under a fresh id.
    ///
    /// # Errors
    /// When there is no room, of which [`Cursors::expect_room`] tells before anything is done.
    pub fn open<S: Any + Send>(&mut self, state: S, weight: usize) -> Result<u64, NoRoom> {
        if self.open.len() - self.exhausted.len() >= self.limit {
            return Err(NoRoom::Cursors(self.limit));
        }
        Ok(self.insert(state, weight))
    }

    /// Whether a cursor that holds so many bytes may be opened.
    ///
    /// # Errors
    /// Why not.
    pub fn expect_room(&self, weight: usize) -> Result<(), NoRoom> {
        if self.open.len() - self.exhausted.len() >= self.limit {
            return Err(NoRoom::Cursors(self.limit));
        }
        if self.bytes.saturating_add(weight) > self.bytes_max {
            return Err(NoRoom::Bytes(self.bytes_max));
        }
        Ok(())
    }

    /// Whether cursors that come to hold more may go on.
    ///
    /// # Errors
    /// They hold too much already.
    pub fn expect_bytes(&self) -> Result<(), NoRoom> {
        if self.bytes > self.bytes_max { Err(NoRoom::Bytes(self.bytes_max)) } else { Ok(()) }
    }

    /// Notes that a cursor holds so many bytes now.
    pub fn weigh(&mut self, id: u64, weight: usize) {
        if let Some(kept) = self.open.get_mut(&id).filter(|_| !self.exhausted.contains(&id)) {
            self.bytes = self.bytes - kept.weight + weight;
            kept.weight = weight;
        }
    }

    /// Keeps the state of a cursor that has nothing more to give under a fresh id.
    pub fn open_exhausted<S: Any + Send>(&mut self, state: S) -> u64 {
        let id = self.insert(state, 0);
        self.exhaust(id);
        id
    }

    /// From now on this cursor has nothing more to give. May forget the oldest such.
    pub fn exhaust(&mut self, id: u64) {
        self.weigh(id, 0);
        if self.open.contains_key(&id) {
            self.exhausted.insert(id);
        }
        while self.exhausted.len() > self.limit {
            if let Some(oldest) = self.exhausted.pop_first() {
                self.open.remove(&oldest);
            }
        }
    }

    fn insert<S: Any + Send>(&mut self, state: S, weight: usize) -> u64 {
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Kept { state: Box::new(state), weight });
        self.bytes += weight;
        id
    }

    /// The state under `id`, if there is one and it is of this type.
    pub fn get_mut<S: Any>(&mut self, id: u64) -> Option<&mut S> {
        self.open.get_mut(&id)?.state.downcast_mut()
    }

    /// As [`Cursors::get_mut`], to look at.
    pub fn get<S: Any>(&self, id: u64) -> Option<&S> {
        self.open.get(&id)?.state.downcast_ref()
    }

    /// Forgets a cursor of this type; false where there was none.
    pub fn close<S: Any>(&mut self, id: u64) -> bool {
        if !self.open.get(&id).is_some_and(|kept| kept.state.is::<S>()) {
            return false;
        }
        self.weigh(id, 0);
        self.exhausted.remove(&id);
        self.open.remove(&id).is_some()
    }

    /// The cursors of this type, by id.
    pub fn iter<S: Any>(&self) -> impl Iterator<Item = (u64, &S)> {
        self.open.iter().filter_map(|(id, kept)| Some((*id, kept.state.downcast_ref()?)))
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

    const ENOUGH: usize = 1_000;

    #[test]
    fn ids_count_from_one_and_are_not_reused() {
        let mut cursors = Cursors::new(2, ENOUGH);
        assert_eq!(cursors.open("a", 1), Ok(1));
        assert!(cursors.close::<&str>(1));
        assert_eq!(cursors.open("b", 1), Ok(2));
    }

    #[test]
    fn the_number_of_open_cursors_is_bounded() {
        let mut cursors = Cursors::new(1, ENOUGH);
        assert_eq!(cursors.open(1_u8, 1), Ok(1));
        assert_eq!(cursors.open(2_u8, 1), Err(NoRoom::Cursors(1)));
        assert!(cursors.close::<u8>(1));
        assert_eq!(cursors.open(3_u8, 1), Ok(2));
    }

    #[test]
    fn what_open_cursors_hold_is_bounded() {
        let mut cursors = Cursors::new(10, 100);
        assert_eq!(cursors.expect_room(101), Err(NoRoom::Bytes(100)));
        assert_eq!((cursors.expect_room(100), cursors.open("a", 60)), (Ok(()), Ok(1)));
        assert_eq!(cursors.expect_room(41), Err(NoRoom::Bytes(100)));
        assert_eq!((cursors.expect_room(40), cursors.open("b", 40)), (Ok(()), Ok(2)));
        // What grows is known only afterwards; then nothing goes on until there is room.
        cursors.weigh(1, 90);
        assert_eq!(cursors.expect_bytes(), Err(NoRoom::Bytes(100)));
        cursors.exhaust(2);
        cursors.weigh(2, 500);
        assert_eq!(cursors.expect_bytes(), Ok(()), "an exhausted one counts for nothing");
        assert_eq!(cursors.expect_room(11), Err(NoRoom::Bytes(100)));
        assert!(cursors.close::<&str>(1));
        assert_eq!(cursors.expect_room(100), Ok(()));
        assert_eq!(cursors.open_exhausted("c"), 3);
        assert!(cursors.close::<&str>(2) && cursors.close::<&str>(3));
        assert_eq!((cursors.bytes, cursors.len()), (0, 0));
    }

    #[test]
    fn exhausted_cursors_do_not_count_but_the_oldest_is_forgotten_beyond_the_limit() {
        let mut cursors = Cursors::new(2, ENOUGH);
        assert_eq!(cursors.open("open", 1), Ok(1));
        for id in 2..=4 {
            assert_eq!(cursors.open_exhausted("done"), id);
        }
        let left: Vec<u64> = cursors.iter::<&str>().map(|(id, _)| id).collect();
        assert_eq!(left, [1, 3, 4]);
        assert_eq!(cursors.open("open", 1), Ok(5));
        assert_eq!(cursors.expect_room(0), Err(NoRoom::Cursors(2)));
        cursors.exhaust(1);
        let left: Vec<u64> = cursors.iter::<&str>().map(|(id, _)| id).collect();
        assert_eq!(left, [3, 4, 5], "the one that was exhausted is the oldest");
        assert!(cursors.close::<&str>(3));
        assert_eq!(cursors.open("open", 1), Ok(6));
    }

    #[test]
    fn a_cursor_is_found_only_as_what_it_is() {
        let mut cursors = Cursors::new(3, ENOUGH);
        assert_eq!(cursors.open("text", 1), Ok(1));
        assert_eq!(cursors.open(7_u8, 1), Ok(2));
        assert!(cursors.get_mut::<u8>(1).is_none());
        assert!(!cursors.close::<u8>(1));
        assert_eq!(cursors.get_mut::<u8>(2), Some(&mut 7));
        assert_eq!(cursors.iter::<&str>().collect::<Vec<_>>(), [(1, &"text")]);
    }
}
