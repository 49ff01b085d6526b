//! The documents that a route leads to in the order of their ids, page by page,
//! each read when its turn comes.

use std::ops::Bound;

use bson::oid::ObjectId;

use super::covered::{self, Cover, Found};
use super::ids::{IdSet, Next};
use super::reading::Reading;
use crate::document::{self, Document, Scan, Stored};
use crate::error::Result;
use crate::query::plan::Access;

/// Rows of one page of a scan; the first page is no longer than the batch that is asked for.
pub(super) const PAGE_ROWS: usize = 1000;
pub(super) const PAGE_ROWS_MIN: usize = 32;
const PAGE_BYTES: usize = 4 << 20;
/// Documents read by their ids in one go.
pub(super) const POINTS_AT_ONCE: usize = 256;

/// Documents in the order of their ids.
pub(super) struct Documents<'a> {
    pub(super) reading: Reading<'a>,
    access: &'a Access,
    rest: Rest,
    cover: Option<Cover<'a>>,
    page: std::vec::IntoIter<(ObjectId, Found)>,
    page_rows: usize,
    /// Where an index stopped that may not be read further in this batch.
    stopped_at: Option<ObjectId>,
}

/// What has not been read yet.
enum Rest {
    Points(std::vec::IntoIter<ObjectId>),
    Range { begin: Bound<ObjectId>, end: Bound<ObjectId> },
    Set(IdSet),
    Nothing,
}

impl<'a> Documents<'a> {
    /// Those with the ids that are admitted, behind an id where a batch goes on.
    pub(super) fn new(reading: Reading<'a>, access: &'a Access, after: Option<ObjectId>) -> Self {
        let passed = |id: &ObjectId| after.is_some_and(|after| !reading.is_behind(id, &after));
        let rest = match access {
            Access::Nothing => Rest::Nothing,
            Access::Points(ids) => {
                let mut ids: Vec<_> = ids.iter().copied().filter(|id| !passed(id)).collect();
                if reading.descending {
                    ids.reverse();
                }
                Rest::Points(ids.into_iter())
            }
            Access::Range { begin, end } => match after {
                None => Rest::Range { begin: *begin, end: *end },
                Some(id) if reading.descending => {
                    Rest::Range { begin: *begin, end: Bound::Excluded(id) }
                }
                Some(id) => Rest::Range { begin: Bound::Excluded(id), end: *end },
            },
        };
        Self::over(reading, access, rest)
    }

    /// Those among the ids of a set that are admitted. With a cover they need not be read.
    pub(super) fn of_set(
        reading: Reading<'a>,
        access: &'a Access,
        set: IdSet,
        cover: Option<Cover<'a>>,
    ) -> Self {
        Self { cover, ..Self::over(reading, access, Rest::Set(set)) }
    }

    fn over(reading: Reading<'a>, access: &'a Access, rest: Rest) -> Self {
        let page = Vec::new().into_iter();
        let (page_rows, cover) = (PAGE_ROWS, None);
        Self { reading, access, rest, cover, page, page_rows, stopped_at: None }
    }

    /// Where nothing is filtered out, no more is read than is asked for; else the pages grow from there.
    pub(super) fn expect(&mut self, limit: usize, all_match: bool) {
        let least = if all_match { 1 } else { PAGE_ROWS_MIN };
        self.page_rows = limit.clamp(least, PAGE_ROWS);
    }

    /// Whether the next document needs another read.
    pub(super) fn page_is_empty(&self) -> bool {
        self.page.as_slice().is_empty()
    }

    /// Whether there is certainly no further document.
    pub(super) fn is_exhausted(&self) -> bool {
        self.page_is_empty()
            && match &self.rest {
                Rest::Nothing => true,
                Rest::Points(ids) => ids.as_slice().is_empty(),
                Rest::Set(set) => set.is_ended(),
                Rest::Range { .. } => false,
            }
    }

    /// Whether the batch has read as much as it may.
    pub(super) fn is_spent(&self) -> bool {
        self.reading.is_spent_by_documents() || self.page_is_empty() && self.reading.is_spent()
    }

    /// Behind which id the next batch goes on when an index may not be read further in this one.
    pub(super) fn stopped_at(&self) -> Option<ObjectId> {
        self.stopped_at
    }

    pub(super) async fn next(&mut self) -> Result<Option<(ObjectId, Document)>> {
        loop {
            if let Some((id, found)) = self.page.next() {
                return Ok(Some((id, found.load(&mut self.reading).await?)));
            }
            if self.is_exhausted() || self.stopped_at.is_some() {
                return Ok(None);
            }
            self.turn_page().await?;
        }
    }

    async fn turn_page(&mut self) -> Result<()> {
        if self.reading.examined > 0 {
            // A long scan lets others run, and ends here when its client has gone.
            tokio::task::yield_now().await;
        }
        let Reading { txn, home, read, descending, .. } = self.reading;
        let grown = self.page_rows.saturating_mul(4).clamp(PAGE_ROWS_MIN, PAGE_ROWS);
        match &mut self.rest {
            Rest::Nothing => {}
            Rest::Points(ids) => {
                let now: Vec<_> = ids.by_ref().take(POINTS_AT_ONCE).collect();
                self.page = stored(document::get_many(txn, home, &now, read).await?);
            }
            Rest::Set(set) => {
                let wanted = self.page_rows.min(POINTS_AT_ONCE);
                let mut hits = Vec::with_capacity(wanted);
                while hits.len() < wanted {
                    match set.next(&mut self.reading).await? {
                        Next::Id(id, covered) if self.access.admits(&id) => {
                            hits.push((id, covered));
                        }
                        Next::Id(id, _) if self.reading.is_spent() => {
                            self.stopped_at = Some(id);
                            break;
                        }
                        Next::Id(..) => {}
                        Next::Spent(at) => {
                            self.stopped_at = Some(self.reading.in_front_of(&at));
                            break;
                        }
                        Next::End => break,
                    }
                }
                let found = covered::find(&self.reading, self.cover.as_ref(), hits).await?;
                self.page = found.into_iter();
                self.page_rows = grown;
            }
            Rest::Range { begin, end } => {
                let scan = Scan {
                    begin: *begin,
                    end: *end,
                    reverse: descending,
                    rows_max: self.page_rows,
                    bytes_max: PAGE_BYTES,
                    read,
                };
                let page = document::scan(txn, home, &scan).await?;
                match page.rows.last() {
                    Some((last, _)) if page.more && descending => *end = Bound::Excluded(*last),
                    Some((last, _)) if page.more => *begin = Bound::Excluded(*last),
                    _ => self.rest = Rest::Nothing,
                }
                self.page_rows = grown;
                self.page = stored(page.rows);
            }
        }
        Ok(())
    }
}

fn stored(rows: Vec<(ObjectId, Stored)>) -> std::vec::IntoIter<(ObjectId, Found)> {
    let rows: Vec<_> = rows.into_iter().map(|(id, row)| (id, Found::Stored(row))).collect();
    rows.into_iter()
}
