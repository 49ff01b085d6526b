//! MOVE of a namespace: one pointer, and all that is in it goes along.
//!
//! Everything below hangs on ids, so nothing of it is written. Handles rest on the
//! fences of all namespaces above, so none survives on any node.

use std::sync::OnceLock;

use crate::access::Place;
use crate::cluster::journal;
use crate::codec::record::{self, Event, EventKind, RemovalRecord};
use crate::codec::{NamespaceId, Object, ObjectKind, RemovalId, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Transaction};

use super::audit::{self, Entry};
use super::name::{DEPTH_MAX, Path};
use super::namespace::{self, parse_object_id};
use super::operation::Caller;
use super::policy::{Policy, Settings};
use super::usage::{self, Usages};
use super::{bucket, guard};

/// Most namespaces that are looked at to see how deep they lie.
const LOOKED_MAX: usize = 10_000;

/// What MOVE was asked to do, and what it needs before its first attempt.
#[derive(Debug)]
pub struct Move<'a> {
    pub from: &'a Path,
    pub to: &'a Path,
    /// For what is missing above `to`.
    pub ids: &'a [u64],
    pub now: i64,
    /// A lock of governance does not count.
    pub bypass: bool,
    pub settings: &'a Settings,
    pub usages: &'a Usages,
    /// What was above `to` when it was first looked at.
    seen: OnceLock<Vec<NamespaceId>>,
}

impl<'a> Move<'a> {
    #[must_use]
    pub const fn new(
        (from, to): (&'a Path, &'a Path),
        ids: &'a [u64],
        (settings, usages): (&'a Settings, &'a Usages),
        bypass: bool,
        now: i64,
    ) -> Self {
        Self { from, to, ids, now, bypass, settings, usages, seen: OnceLock::new() }
    }

    /// Moves a namespace.
    ///
    /// # Errors
    /// `NOSUCHNAMESPACE`, `NAMESPACEBEINGREMOVED`, `NAMESPACEALREADYEXISTS`; `ERR` below
    /// itself, or when what is in it would lie too deep; `HELD` out of a lock or a minimum,
    /// `NOPERM` to where it would be kept for less without the right to purge; `QUOTAEXCEEDED`
    /// into what is full.
    pub async fn run(&self, txn: &Transaction, caller: &Caller) -> Result<()> {
        let Self { from, to, now, .. } = self;
        let found = namespace::resolve(txn, from, Read::Conflict).await?;
        found.conflict_on_fences(txn)?;
        if to.is_within(from) && to != from {
            return Err(Error::syntax(format!("Cannot move namespace '{from}' below itself")));
        }
        let parent = self.make_above(txn).await?;
        namespace::expect_free(txn, parent, to).await?;
        let id = found.id();
        let mut old = namespace::lineage(txn, id, Read::Conflict).await?;
        let Some((_, mut record)) = old.chain.pop() else {
            return Err(Error::NoSuchNamespace(from.to_string()));
        };
        let new = namespace::lineage(txn, parent, Read::Conflict).await?;
        new.conflict_on_fences(txn)?;
        if new.chain.len() > old.chain.len() {
            expect_room(txn, id, new.chain.len() + 1).await?;
        }
        let own = Some((id, &record));
        let above = Policy::below(&new, None);
        Policy::below(&new, own).expect_as_strict(
            &Policy::below(&old, own),
            self.settings,
            &format!("Namespace '{from}'"),
            (caller, Place::Tree(from.to_string()), self.bypass),
        )?;
        let counted = old.ids();
        let more = above.quotas.iter().filter(|quota| !counted.contains(&quota.id));
        usage::expect_room_for_more(self.usages, more)?;
        let to_ids = new.ids();
        for (what, itself) in [
            (guard::PROTECTION, record.protected),
            (guard::HOLD, false),
            (guard::POLICY, record.policy.binds()),
            (guard::LOCK, false),
        ] {
            guard::carry(txn, what, id, itself, &old, &to_ids).await?;
        }

        txn.clear(&keys::namespace_name(old.id(), from.last()))?;
        txn.set(&keys::namespace_name(parent, to.last()), &id.0.to_be_bytes())?;
        record.parent = parent;
        to.last().clone_into(&mut record.segment);
        // The clocks of what is in it go on where they are.
        record.stood_still_ms += old.stood_still_ms() - new.stood_still_ms();
        txn.set(&keys::namespace_record(id), &record::encode(&record))?;
        bucket::invalidate(txn, id.0)?;
        let event = Event { kind: EventKind::Changed, object: id.0, removal: None };
        journal::append(txn, 0, &event)?;
        let entry = Entry {
            action: "move",
            namespace: from.as_str(),
            bucket: "",
            id: Some(id.into()),
            removal: None,
            reason: Some(to.as_str()),
        };
        audit::append(txn, 0, &caller.actor, *now, &entry, "OK", 1)
    }

    /// What is above the new path, made where it is missing. What was there at the
    /// first attempt must be there at all: who moves something below a namespace does
    /// not mean another one that is made in its place.
    async fn make_above(&self, txn: &Transaction) -> Result<NamespaceId> {
        let Some(parent) = self.to.parent() else { return Ok(NamespaceId::ROOT) };
        let made = namespace::make_all(txn, &parent, &mut self.ids.iter(), self.now).await?;
        let there = made.iter().filter(|(_, made)| !made).map(|(id, _)| *id);
        let there: Vec<NamespaceId> = there.collect();
        let seen = self.seen.get_or_init(|| there.clone());
        let same = seen.iter().zip(&there).take_while(|(seen, there)| seen == there).count();
        if same < seen.len() {
            return Err(Error::NoSuchNamespace(parent.first(same + 1).to_string()));
        }
        Ok(made.last().map_or(NamespaceId::ROOT, |(id, _)| *id))
    }
}

/// Refuses a place `depth` deep for a namespace if something below it, active or
/// removed, would lie deeper than paths may be.
///
/// # Errors
/// `ERR` then, and when there are too many to look at.
pub async fn expect_room(txn: &Transaction, id: NamespaceId, depth: usize) -> Result<()> {
    let mut level = vec![id];
    let mut looked = 0;
    for _ in depth..=DEPTH_MAX {
        let mut below = Vec::new();
        for parent in level {
            children(txn, parent, &mut below).await?;
            looked += 1;
            if looked + below.len() > LOOKED_MAX {
                return Err(Error::syntax(format!(
                    "Cannot put more than {LOOKED_MAX} namespaces deeper at once"
                )));
            }
        }
        if below.is_empty() {
            return Ok(());
        }
        level = below;
    }
    Err(Error::syntax(format!("Namespace depth exceeds maximum allowed depth of {DEPTH_MAX}")))
}

/// Adds the namespaces directly in another one, active and removed.
async fn children(
    txn: &Transaction,
    parent: NamespaceId,
    below: &mut Vec<NamespaceId>,
) -> Result<()> {
    let mut next = Some(RangeRead::prefix(keys::namespace_name_prefix(parent)).snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (_, value) in &page.rows {
            below.push(NamespaceId(parse_object_id("namespace/name", value)?));
        }
        next = range.after(&page).filter(|_| below.len() <= LOOKED_MAX);
    }
    let removed = keys::removed_in_namespace_prefix(ObjectKind::Namespace, parent);
    let mut next = Some(RangeRead::prefix(removed).snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (key, _) in &page.rows {
            let (_, _, removal) = keys::parse_removed_by_name(key)?;
            below.extend(removed_namespace(txn, removal).await?);
        }
        next = range.after(&page).filter(|_| below.len() <= LOOKED_MAX);
    }
    Ok(())
}

async fn removed_namespace(txn: &Transaction, removal: RemovalId) -> Result<Option<NamespaceId>> {
    let Some(value) = txn.get(&keys::removal(removal), Read::Snapshot).await? else {
        return Ok(None);
    };
    let (_, row) = record::decode_versioned::<RemovalRecord>("removal", &value)?;
    Ok(match row.object {
        Object::Namespace(id) => Some(id),
        Object::Bucket(_) => None,
    })
}
