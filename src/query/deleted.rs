//! Searching deleted documents.
//!
//! A filter is asked of the document as it was when it was deleted, so the
//! filter of a DELETE finds again what that has deleted. What is known of the
//! deletion itself stands beside the document's own fields under the names of
//! [`ENTRY_FIELDS`], in place of a field of the document with such a name.
//!
//! Deleted documents come in the order of their ids, and those of one `_id` in
//! that of their removals. They have no indexes: conditions on `_id` and the
//! removal narrow down what is looked at, everything else is asked of each.
//! What has expired is no longer found, whether or not it has been purged yet,
//! and neither is what was destroyed before its time.
//!
//! Not here: bringing back and destroying (`document`), commands.

use std::ops::Bound;
use std::sync::Arc;

use bson::oid::ObjectId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::ast::Ast;
use super::collate::{Collate, Under};
use super::evaluate::{Asking, matches_within};
use super::execute::Budget;
use super::plan::{Access, Plan};
use crate::codec::{RemovalId, keys};
use crate::document::{Builder, Document, Home, Tombstone, join_all};
use crate::error::Result;
use crate::store::{RangeRead, Read, Transaction};
use crate::value::{Collator, Steps, Value, raw};

/// What a filter can ask of the deletion.
pub const ENTRY_FIELDS: [&str; 5] =
    ["@deleted_at", "@expires_at", "@deleted_by", "@removal_id", "@reason"];

/// Rows of one page.
const PAGE_ROWS: usize = 256;
const PAGE_BYTES: usize = 4 << 20;
/// Tombstones of one removal read at the same time.
const READS_AT_ONCE: usize = 64;

/// Which deleted documents are wanted.
#[derive(Clone, Debug)]
pub struct Deleted {
    filter: Ast,
    access: Access,
    removal: Option<RemovalId>,
    collate: Collate,
    /// The filter asks something of the deletion.
    of_entry: bool,
    wanted: Wanted,
    under: Under<Self>,
}

/// What is wanted of those that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every one, with its document.
    Each,
    /// The last one of each `_id`, with its document.
    Newest,
    /// Every one, also such as have expired, and their documents only where the
    /// filter has to see them.
    Rows,
}

/// Where the next batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletedPosition {
    Start,
    /// Behind this one.
    After(ObjectId, RemovalId),
    End,
}

/// A deleted document that was found.
#[derive(Clone, Debug)]
pub struct FoundDeleted {
    pub tombstone: Tombstone,
    /// Always there unless only rows were wanted.
    pub document: Option<Document>,
}

/// What a batch found.
#[derive(Debug)]
pub struct DeletedBatch {
    pub found: Vec<FoundDeleted>,
    pub next: DeletedPosition,
}

impl Deleted {
    /// A search with a filter, or for all that a removal deleted, or both.
    #[must_use]
    pub fn new(filter: Ast, removal: Option<RemovalId>, collate: Collate, wanted: Wanted) -> Self {
        let Plan { access, .. } = Plan::new(filter.clone());
        let of_entry = asks_entry(&filter);
        let (said, under) = (collate.clone(), Under::default());
        let search = Self { filter, access, removal, collate: said, of_entry, wanted, under };
        match collate {
            Collate::By(collator) => search.collated(&collator),
            Collate::Bucket | Collate::Bytes => search,
        }
    }

    /// The same under the bucket's default collation, where the command did not say.
    #[must_use]
    pub fn in_bucket(self: &Arc<Self>, default: Option<&Collator>) -> Arc<Self> {
        match default {
            Some(collator) if self.collate == Collate::Bucket => {
                self.under.get(collator, || Self::clone(self).collated(collator))
            }
            _ => Arc::clone(self),
        }
    }

    fn collated(self, collator: &Collator) -> Self {
        Self { filter: self.filter.collated(collator), ..self }
    }

    fn matches(
        &self,
        home: &Home,
        tombstone: &Tombstone,
        document: &Document,
        steps: &Steps,
    ) -> bool {
        if self.of_entry {
            matches_within(&self.filter, view(home, tombstone, document).raw(), steps)
        } else {
            matches_within(&self.filter, document.raw(), steps)
        }
    }
}

/// Whether a filter asks something of the deletion.
fn asks_entry(filter: &Ast) -> bool {
    match filter {
        Ast::All | Ast::Nothing => false,
        Ast::And(parts) | Ast::Or(parts) => parts.iter().any(asks_entry),
        Ast::Not(part) => asks_entry(part),
        Ast::Field { path, .. } => {
            let first = path.segments().first();
            first.is_some_and(|first| ENTRY_FIELDS.contains(&&*first.name))
        }
    }
}

/// How one batch is read.
#[derive(Clone, Copy, Debug)]
pub struct Looking<'a> {
    /// Most that it finds.
    pub limit: usize,
    pub read: Read,
    pub budget: &'a Budget,
    /// What the bucket's own clock surely shows.
    pub clock: i64,
}

/// Finds one batch.
///
/// # Errors
/// Those of the store; damage.
pub async fn deleted(
    txn: &Transaction,
    home: &Home,
    search: &Deleted,
    from: &DeletedPosition,
    looking: Looking<'_>,
) -> Result<DeletedBatch> {
    let mut after = match from {
        DeletedPosition::Start => None,
        DeletedPosition::After(id, removal) => Some((*id, *removal)),
        DeletedPosition::End => {
            return Ok(DeletedBatch { found: Vec::new(), next: DeletedPosition::End });
        }
    };
    let mut run = Run::new(txn, home, search, looking);
    loop {
        let page = page(txn, home, search, after, looking.read).await?;
        for tombstone in page.rows {
            let same_id = after.is_some_and(|(id, _)| id == tombstone.id);
            if search.wanted != Wanted::Newest || !same_id {
                run.settle();
                if let Some((id, removal)) = after.filter(|_| run.is_over()) {
                    let next = DeletedPosition::After(id, removal);
                    return Ok(DeletedBatch { found: run.found, next });
                }
            }
            after = Some((tombstone.id, tombstone.removal));
            run.look_at(tombstone).await?;
        }
        if !page.more {
            run.settle();
            return Ok(DeletedBatch { found: run.found, next: DeletedPosition::End });
        }
        // A long search lets others run, and ends here when its client has gone.
        tokio::task::yield_now().await;
    }
}

/// A batch while it is read.
struct Run<'a> {
    txn: &'a Transaction,
    home: &'a Home,
    search: &'a Deleted,
    looking: Looking<'a>,
    started: Instant,
    found: Vec<FoundDeleted>,
    found_bytes: usize,
    examined: usize,
    examined_bytes: usize,
    asking: Asking,
    /// The last one so far of the `_id` that is looked at.
    newest: Option<FoundDeleted>,
}

impl<'a> Run<'a> {
    fn new(
        txn: &'a Transaction,
        home: &'a Home,
        search: &'a Deleted,
        looking: Looking<'a>,
    ) -> Self {
        Self {
            txn,
            home,
            search,
            looking,
            started: Instant::now(),
            found: Vec::new(),
            found_bytes: 0,
            examined: 0,
            examined_bytes: 0,
            asking: Asking::new(looking.budget.steps_max),
            newest: None,
        }
    }

    fn is_over(&self) -> bool {
        let budget = self.looking.budget;
        self.found.len() >= self.looking.limit
            || self.found_bytes > budget.batch_bytes_max
            || self.examined >= budget.examined_max
            || self.examined_bytes > budget.examined_bytes_max
            || self.started.elapsed() >= budget.time_max
    }

    /// There is no further one of the `_id` that was looked at.
    fn settle(&mut self) {
        if let Some(newest) = self.newest.take() {
            self.push(newest);
        }
    }

    fn push(&mut self, found: FoundDeleted) {
        self.found_bytes += found.document.as_ref().map_or(0, |document| document.bytes().len());
        self.found.push(found);
    }

    async fn look_at(&mut self, tombstone: Tombstone) -> Result<()> {
        self.examined += 1;
        let rows_only = self.search.wanted == Wanted::Rows;
        if !rows_only && tombstone.is_expired(self.looking.clock) {
            return Ok(());
        }
        let Some(stored) = tombstone.stored.clone() else { return Ok(()) };
        if rows_only && matches!(self.search.filter, Ast::All) {
            self.push(FoundDeleted { tombstone, document: None });
            return Ok(());
        }
        let document = stored.load(self.txn, self.home, self.looking.read).await?;
        self.examined_bytes += document.bytes().len();
        let (search, home) = (self.search, self.home);
        let ask = |steps: &Steps| search.matches(home, &tombstone, &document, steps);
        if !self.asking.ask(&tombstone.id, ask).await?.0 {
            return Ok(());
        }
        let document = (!rows_only).then_some(document);
        let mut found = FoundDeleted { tombstone, document };
        if self.search.wanted != Wanted::Newest {
            self.push(found);
            return Ok(());
        }
        if let Some(mut other) = self.newest.take() {
            other.tombstone.look_up_version(self.txn, self.home).await?;
            found.tombstone.look_up_version(self.txn, self.home).await?;
            if other.tombstone.order() > found.tombstone.order() {
                found = other;
            }
        }
        self.newest = Some(found);
        Ok(())
    }
}

struct Page {
    rows: Vec<Tombstone>,
    more: bool,
}

/// The next tombstones behind one, those of the wanted ids and the wanted removal.
async fn page(
    txn: &Transaction,
    home: &Home,
    search: &Deleted,
    after: Option<(ObjectId, RemovalId)>,
    read: Read,
) -> Result<Page> {
    let (begin, end) = match &search.access {
        Access::Nothing => return Ok(Page { rows: Vec::new(), more: false }),
        Access::Points(ids) => return points(txn, home, search, ids, after, read).await,
        Access::Range { begin, end } => (*begin, *end),
    };
    let bounds = Bounds { home, removal: search.removal };
    let begin = match (after, begin) {
        (Some(place), _) => bounds.behind(place),
        (None, Bound::Unbounded) => bounds.all().0,
        (None, Bound::Included(id)) => bounds.of_id(&id).0,
        (None, Bound::Excluded(id)) => bounds.of_id(&id).1,
    };
    let end = match end {
        Bound::Unbounded => bounds.all().1,
        Bound::Included(id) => bounds.of_id(&id).1,
        Bound::Excluded(id) => bounds.of_id(&id).0,
    };
    bounds.read(txn, begin, end, read).await
}

/// As [`page`], of ids that are known.
async fn points(
    txn: &Transaction,
    home: &Home,
    search: &Deleted,
    ids: &[ObjectId],
    after: Option<(ObjectId, RemovalId)>,
    read: Read,
) -> Result<Page> {
    let bounds = Bounds { home, removal: search.removal };
    let mut page = Page { rows: Vec::new(), more: false };
    for id in ids {
        let (mut begin, end) = bounds.of_id(id);
        match after {
            Some((passed, _)) if *id < passed => continue,
            Some(place) if *id == place.0 => begin = bounds.behind(place),
            _ => {}
        }
        if page.rows.len() >= PAGE_ROWS {
            page.more = true;
            break;
        }
        let part = bounds.read(txn, begin, end, read).await?;
        page.rows.extend(part.rows);
        if part.more {
            page.more = true;
            break;
        }
    }
    Ok(page)
}

/// Where the tombstones lie, or of one removal what finds them.
struct Bounds<'a> {
    home: &'a Home,
    removal: Option<RemovalId>,
}

impl Bounds<'_> {
    fn all(&self) -> (Vec<u8>, Vec<u8>) {
        let bucket = self.home.bucket();
        keys::range(&match self.removal {
            None => keys::data_part(bucket, keys::data::TOMBSTONE),
            Some(removal) => keys::deleted_by_prefix(bucket, removal),
        })
    }

    fn of_id(&self, id: &ObjectId) -> (Vec<u8>, Vec<u8>) {
        let (bucket, oid) = (self.home.bucket(), id.bytes());
        keys::range(&match self.removal {
            None => keys::tombstone_prefix(bucket, &oid),
            Some(removal) => keys::deleted_by(bucket, removal, &oid),
        })
    }

    fn behind(&self, (id, removal): (ObjectId, RemovalId)) -> Vec<u8> {
        let (bucket, oid) = (self.home.bucket(), id.bytes());
        keys::next(&match self.removal {
            None => keys::tombstone(bucket, &oid, removal),
            Some(removal) => keys::deleted_by(bucket, removal, &oid),
        })
    }

    async fn read(
        &self,
        txn: &Transaction,
        begin: Vec<u8>,
        end: Vec<u8>,
        read: Read,
    ) -> Result<Page> {
        if begin >= end {
            return Ok(Page { rows: Vec::new(), more: false });
        }
        let range = RangeRead::new(begin, end).limit(PAGE_ROWS).bytes(PAGE_BYTES);
        let page = txn.range(RangeRead { read, ..range }).await?;
        let mut rows = Vec::with_capacity(page.rows.len());
        if self.removal.is_none() {
            for (key, value) in &page.rows {
                rows.push(Tombstone::decode(key, value)?);
            }
            return Ok(Page { rows, more: page.more });
        }
        for part in page.rows.chunks(READS_AT_ONCE) {
            let reads = part.iter().map(|(key, _)| async move {
                let (bucket, removal, oid) = keys::parse_deleted_by(key)?;
                let key = keys::tombstone(bucket, &oid, removal);
                match txn.get(&key, read).await? {
                    Some(value) => Tombstone::decode(&key, &value).map(Some),
                    None => Ok(None),
                }
            });
            rows.extend(join_all(reads).await?.into_iter().flatten());
        }
        Ok(Page { rows, more: page.more })
    }
}

/// A deleted document as a filter sees it that asks something of the deletion.
fn view(home: &Home, tombstone: &Tombstone, document: &Document) -> Document {
    let mut out = Builder::new();
    for field in document.raw() {
        if !ENTRY_FIELDS.iter().any(|name| name.as_bytes() == field.key) {
            out.copy(&field);
        }
    }
    deletion(home, tombstone, ENTRY_FIELDS, &mut out);
    out.finish()
}

/// What BUCKET.DELETED shows of a deleted document.
#[must_use]
pub fn entry(home: &Home, tombstone: &Tombstone, document: &Document) -> Document {
    let mut out = Builder::new();
    out.value(b"_id", raw::tag::OBJECT_ID, &tombstone.id.bytes());
    let names = ["deleted_at", "expires_at", "deleted_by", "removal_id", "reason"];
    deletion(home, tombstone, names, &mut out);
    out.value(b"document", raw::tag::DOCUMENT, document.bytes());
    out.finish()
}

fn deletion(home: &Home, tombstone: &Tombstone, names: [&str; 5], out: &mut Builder) {
    let record = &tombstone.record;
    let removal = tombstone.removal.to_string();
    let expires_at = record.expires_at.map(|at| Value::DateTime(home.cluster_time(at)));
    let values = [
        Some(Value::DateTime(record.deleted_at)),
        Some(expires_at.unwrap_or(Value::Null)),
        Some(Value::String(record.by.user.as_bytes())),
        Some(Value::String(removal.as_bytes())),
        record.reason.as_ref().map(|reason| Value::String(reason.as_bytes())),
    ];
    for (name, value) in names.into_iter().zip(values) {
        if let Some(value) = value {
            let (tag, bytes) = raw::encode(&value);
            out.value(name.as_bytes(), tag, &bytes);
        }
    }
}

#[cfg(test)]
mod tests;
