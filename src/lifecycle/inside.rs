//! Looking through a removed namespace for what a lock keeps longer than the namespace.
//!
//! What was removed under a lock has a guard above, which the flip finds. What was removed
//! before there was a lock has none, and neither have deleted documents: a row for each
//! would be written where all writes of a bucket meet. So before a namespace that is or
//! was under a lock goes, all that is in it is looked at, in short transactions. Nothing
//! in it changes meanwhile but by RESTORE, which takes away, and by RETAIN, which guards.
//!
//! Not here: what a lock refuses (`lock`), who asks (`purge`, `worker`).

use crate::codec::record::{self, RetentionRecord};
use crate::codec::{BucketId, NamespaceId, Object, ObjectKind, RemovalId, keys};
use crate::error::{Error, Result};
use crate::metadata::bucket;
use crate::metadata::namespace::{self, parse_object_id};
use crate::metadata::policy::Policy;
use crate::store::{RangeRead, Read, Transaction};

use super::Lifecycle;
use super::lock::{self, Locked, Looked};
use super::target;

/// Objects looked at in one transaction.
const PAGE: usize = 100;

/// What is kept longest in a namespace, by name.
#[derive(Debug, Clone)]
pub struct KeptInside {
    what: String,
    locked: Locked,
}

impl KeptInside {
    /// Until when; `None`: for ever.
    #[must_use]
    pub const fn until(&self) -> Option<i64> {
        self.locked.until
    }

    /// The error of a command that it forbids.
    #[must_use]
    pub fn refusal(&self) -> Error {
        self.locked.refusal(&self.what)
    }
}

/// What one page has shown.
#[derive(Default)]
struct Seen {
    kept: Vec<KeptInside>,
    /// And what was promised to those that were removed themselves.
    below: Vec<(NamespaceId, Option<Looked>)>,
    next: Option<RangeRead>,
}

/// What is looked for.
#[derive(Clone, Copy)]
struct Look {
    now: i64,
    /// A lock of governance does not count.
    bypass: bool,
}

impl Lifecycle {
    /// What a lock or a minimum keeps longest in a removed namespace; `None`: nothing.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn kept_inside(
        &self,
        namespace: NamespaceId,
        by: Looked,
        bypass: bool,
    ) -> Result<Option<KeptInside>> {
        let look = Look { now: self.catalog().certain_now(), bypass };
        let mut longest: Option<KeptInside> = None;
        let mut inside = vec![(namespace, by)];
        while let Some((id, by)) = inside.pop() {
            let ranges = [
                keys::bucket_name_prefix(id),
                keys::namespace_name_prefix(id),
                keys::removed_in_namespace_prefix(ObjectKind::Bucket, id),
                keys::removed_in_namespace_prefix(ObjectKind::Namespace, id),
            ];
            for (at, prefix) in ranges.into_iter().enumerate() {
                let mut next = Some(RangeRead::prefix(prefix).limit(PAGE).snapshot());
                while let Some(range) = next {
                    let range = &range;
                    let read = |txn: Transaction| async move {
                        match at {
                            0 => look.buckets(&txn, (id, by), range).await,
                            1 => namespaces(&txn, range).await,
                            _ => look.removed(&txn, range).await,
                        }
                    };
                    let seen = self.catalog().read("look-through", read).await?;
                    let below = seen.below.into_iter();
                    inside.extend(below.map(|(id, own)| (id, own.unwrap_or(by))));
                    longest = seen.kept.into_iter().chain(longest).max_by_key(end);
                    if longest.as_ref().is_some_and(|kept| kept.until().is_none()) {
                        return Ok(longest);
                    }
                    next = seen.next;
                }
            }
        }
        Ok(longest)
    }

    /// Keeps an expired namespace for as long as what is in it is kept.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn keep_for(
        &self,
        txn: &Transaction,
        removal: RemovalId,
        kept: &KeptInside,
    ) -> Result<()> {
        let Some(removed) = target::read(txn, removal, Read::Conflict).await? else {
            return Ok(());
        };
        let Some(at) = removed.retention.expires_at else { return Ok(()) };
        if kept.until().is_none_or(|until| until > at) {
            postpone(txn, &removed, at, kept.until())?;
        }
        Ok(())
    }
}

fn end(kept: &KeptInside) -> i64 {
    kept.until().unwrap_or(i64::MAX)
}

/// Writes that something removed expires later, `None`: never.
pub(super) fn postpone(
    txn: &Transaction,
    removed: &target::Removed,
    at: i64,
    later: Option<i64>,
) -> Result<()> {
    let number = removed.removal.0.to_be_bytes();
    txn.clear(&keys::expiry(at, keys::due::REMOVAL, &number))?;
    if let Some(later) = later
        && removed.hold.is_none()
    {
        txn.set(&keys::expiry(later, keys::due::REMOVAL, &number), b"")?;
    }
    let row = RetentionRecord { expires_at: later, ..removed.retention };
    Ok(txn.set(&keys::retention(removed.removal), &record::encode(&row))?)
}

/// The namespaces of a page of names.
async fn namespaces(txn: &Transaction, range: &RangeRead) -> Result<Seen> {
    let page = txn.range(range.clone()).await?;
    let ids = page.rows.iter().map(|(_, id)| parse_object_id("namespace/name", id));
    let below = ids.map(|id| Ok((NamespaceId(id?), None))).collect::<Result<Vec<_>>>()?;
    Ok(Seen { below, next: range.after(&page), ..Seen::default() })
}

impl Look {
    /// The buckets of a page of names: what was deleted in them.
    async fn buckets(
        self,
        txn: &Transaction,
        (namespace, by): (NamespaceId, Looked),
        range: &RangeRead,
    ) -> Result<Seen> {
        let page = txn.range(range.clone()).await?;
        let mut seen = Seen { next: range.after(&page), ..Seen::default() };
        let above = namespace::lineage(txn, namespace, Read::Snapshot).await?;
        let by = by.under(Policy::of(&above.chain).lock(), self.bypass);
        for (_, id) in &page.rows {
            let id = BucketId(parse_object_id("bucket/name", id)?);
            let record = bucket::read_record(txn, id, Read::Snapshot).await?;
            let behind = record.stood_still_ms.saturating_add(above.stood_still_ms());
            if let Some(locked) = lock::documents_locked(txn, id, by, behind, self.now).await? {
                let what =
                    format!("A deleted document of bucket '{}.{}'", above.path(), record.name);
                seen.kept.push(KeptInside { what, locked });
            }
        }
        Ok(seen)
    }

    /// What a page of removals is about.
    async fn removed(self, txn: &Transaction, range: &RangeRead) -> Result<Seen> {
        let page = txn.range(range.clone()).await?;
        let mut seen = Seen { next: range.after(&page), ..Seen::default() };
        for (key, _) in &page.rows {
            let (_, _, removal) = keys::parse_removed_by_name(key)?;
            let Some(removed) = target::read(txn, removal, Read::Snapshot).await? else { continue };
            let own = removed.locked(self.now, self.bypass);
            let what = format!("{} '{}'", removed.object().kind().title(), removed.title());
            seen.kept.extend(own.map(|locked| KeptInside { what, locked }));
            match removed.object() {
                Object::Namespace(id) => {
                    seen.below.push((id, Some(Looked::of(&removed.promise(), self.bypass))));
                }
                Object::Bucket(_) => {
                    let found = removed.documents_locked(txn, self.now, self.bypass).await?;
                    let what = format!("A deleted document of bucket '{}'", removed.title());
                    seen.kept.extend(found.map(|locked| KeptInside { what, locked }));
                }
            }
        }
        Ok(seen)
    }
}
