//! Stored rows and own writes on their way into a page.
//!
//! An engine hands over what is stored, in order; [`Merge`] puts a
//! transaction's own writes between, and says when the page is full.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Result;
use super::conflicts::RangeSet;
use super::overlay::{Part, Seen, apply_changes};
use super::types::{Page, RangeRead, key_after};
use super::view::Published;

/// A page of one range as it grows, in the order of the read.
#[derive(Debug)]
pub(super) struct Merge {
    own: std::iter::Peekable<std::vec::IntoIter<(Bytes, Seen)>>,
    cleared: RangeSet,
    range: RangeRead,
    rows: Vec<(Bytes, Bytes)>,
    bytes: usize,
    full: bool,
}

/// A question to an engine that is asked for rows.
#[cfg(feature = "foundationdb")]
#[derive(Debug)]
pub(super) struct Missing<'a> {
    pub(super) begin: &'a [u8],
    pub(super) end: &'a [u8],
    pub(super) reverse: bool,
    /// Rows and bytes until the page is full.
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Merge {
    pub(super) fn new(part: Part, range: &RangeRead) -> Self {
        let mut own = part.entries;
        if range.reverse {
            own.reverse();
        }
        let full = range.limit == 0;
        Self {
            own: own.into_iter().peekable(),
            cleared: part.cleared,
            range: range.clone(),
            rows: Vec::new(),
            bytes: 0,
            full,
        }
    }

    /// Goes on for so many stored rows; `true` when the page is complete.
    pub(super) fn scan(&mut self, published: &Published, stored_max: usize) -> Result<bool> {
        let (begin, end, reverse) =
            (self.range.begin.clone(), self.range.end.clone(), self.range.reverse);
        if self.full || begin >= end {
            return Ok(true);
        }
        let mut stored = 0;
        let mut last = None;
        published.scan(&begin, &end, reverse, &mut |key, value| {
            stored += 1;
            if stored == stored_max {
                last = Some(key.clone());
            }
            self.stored(key, value);
            if self.full || stored == stored_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        match last {
            Some(key) if !self.full => {
                // The rest of the range, for another call.
                if reverse {
                    self.range.end = key.to_vec();
                } else {
                    self.range.begin = key_after(&key);
                }
                Ok(false)
            }
            _ => {
                self.end();
                Ok(true)
            }
        }
    }

    /// What has to be asked of the store next; `None`: the page is complete.
    #[cfg(feature = "foundationdb")]
    pub(super) fn missing(&self) -> Option<Missing<'_>> {
        if self.full || self.range.begin >= self.range.end {
            return None;
        }
        Some(Missing {
            begin: &self.range.begin,
            end: &self.range.end,
            reverse: self.range.reverse,
            rows: self.range.limit - self.rows.len(),
            bytes: self.range.bytes - self.bytes,
        })
    }

    /// Takes what is stored at the beginning of what was missing; `more`: and something behind it.
    #[cfg(feature = "foundationdb")]
    pub(super) fn feed(&mut self, rows: Vec<(Bytes, Bytes)>, more: bool) {
        let last = rows.last().map(|(key, _)| key.clone());
        for (key, value) in rows {
            self.stored(key, value);
        }
        match last {
            Some(key) if more && self.range.reverse => self.range.end = key.to_vec(),
            Some(key) if more => self.range.begin = key_after(&key),
            _ => {
                self.end();
                self.range.end.clone_from(&self.range.begin);
            }
        }
    }

    /// Nothing more is stored in the range: the rest of the page is own writes.
    pub(super) fn end(&mut self) {
        while !self.full
            && let Some((key, seen)) = self.own.next()
        {
            self.own_row(key, seen, None);
        }
    }

    fn stored(&mut self, key: Bytes, value: Bytes) {
        loop {
            if self.full {
                return;
            }
            let Some((own, _)) = self.own.peek() else { break };
            let earlier = if self.range.reverse { *own > key } else { *own < key };
            if !earlier && *own != key {
                break;
            }
            let Some((own, seen)) = self.own.next() else { break };
            if own == key {
                return self.own_row(own, seen, Some(value));
            }
            self.own_row(own, seen, None);
        }
        if !self.cleared.contains(&key) {
            self.push(key, value);
        }
    }

    fn own_row(&mut self, key: Bytes, seen: Seen, stored: Option<Bytes>) {
        let value = match seen {
            Seen::Decided(value) => value,
            Seen::Changed(changes) => apply_changes(stored, &changes),
            Seen::Stored => stored,
        };
        if let Some(value) = value {
            self.push(key, value);
        }
    }

    fn push(&mut self, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.rows.push((key, value));
        self.full = self.rows.len() >= self.range.limit || self.bytes >= self.range.bytes;
    }

    pub(super) fn page(self) -> Page {
        Page { rows: self.rows, more: self.full }
    }
}
