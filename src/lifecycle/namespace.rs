//! RESTORE of a namespace: it comes back with all that was in it.
//!
//! What had been removed on its own before stays removed, since each child has its
//! own record and none of them is touched.

use crate::codec::record::{self, State};
use crate::codec::{NamespaceId, ObjectKind, keys};
use crate::error::{Error, Result};
use crate::index;
use crate::metadata::audit::Entry;
use crate::metadata::namespace::{self, Lineage};
use crate::metadata::policy::Policy;
use crate::metadata::{Caller, Path, guard, relocate, usage};
use crate::store::{Read, Transaction};

use super::restore::{
    Course, HoldsEnded, Restored, clock_at_removal, expect_may_end_holds, expect_restorable,
    reserved_by_another, tell,
};
use super::target::{self, Instance, Removed, Target};
use super::{Lifecycle, copy, lock, note_removal, park};

/// What RESTORE of a namespace was asked to do.
#[derive(Debug, Clone)]
pub struct RestoreNamespaceRequest {
    pub target: Target,
    pub latest: bool,
    /// The new path, of which what is missing above is made; else the old one.
    pub path: Option<Path>,
    pub allow_expired: bool,
    /// A lock of governance does not count.
    pub bypass: bool,
    pub dry_run: bool,
}

impl Lifecycle {
    /// Restores a removed namespace.
    ///
    /// # Errors
    /// Those of [`target::resolve_removed`]; `REMOVEDEXPIRED`, `NAMESPACEALREADYEXISTS`,
    /// `NAMESPACEBEINGREMOVED` when something above it is removed or the name is reserved
    /// by another removal; `HELD` where it would be kept less strictly; `NOPERM` for what is on
    /// hold without the right to lift that; `ERR` when what is in it would lie too deep.
    pub async fn restore_namespace(
        &self,
        caller: &Caller,
        request: &RestoreNamespaceRequest,
    ) -> Result<Restored> {
        let catalog = self.catalog();
        let course = &Course { caller, now: catalog.now(), certain: catalog.certain_now() };
        let ids = &catalog.ids_for(request.path.as_ref()).await?;
        let body = |txn: Transaction| async move {
            self.restore_namespace_in(&txn, course, request, ids).await
        };
        let restored = if request.dry_run {
            // All of it, but for the commit.
            body(catalog.store().begin("restore-dry-run")).await
        } else {
            catalog.run("restore", caller, body).await
        };
        let (namespace, bucket) = request.target.place(catalog.default_namespace());
        self.note_refusal(caller, "restore", (namespace, &bucket), &restored);
        let restored = restored?;
        if let Some(removal) = restored.removal {
            note_removal(removal);
        }
        self.wake_workers();
        Ok(restored)
    }

    async fn restore_namespace_in(
        &self,
        txn: &Transaction,
        course: &Course<'_>,
        request: &RestoreNamespaceRequest,
        ids: &[u64],
    ) -> Result<Restored> {
        // A namespace is named by its whole path, wherever the session is.
        let here = self.catalog().default_namespace();
        let found = target::resolve_removed(txn, here, &request.target, request.latest).await;
        let removed = found.map_err(|error| course.caller.hide(error))?;
        course.caller.expect_own(&removed.record.removed_by)?;
        expect_restorable(&removed, course.certain, request.allow_expired)?;
        let Instance::Namespace(found) = &removed.instance else {
            return Err(Error::NoSuchRemoval(request.target.to_string()));
        };
        let id = NamespaceId(removed.object().number());
        let (destination, path) = destination(txn, &removed, request, ids, course.now).await?;
        let reserved = keys::reserved_name(ObjectKind::Namespace, destination.id(), path.last());
        if reserved_by_another(txn, &reserved, Some(removed.removal)).await? {
            return Err(Error::NamespaceBeingRemoved(path.to_string()));
        }
        if destination.chain.len() > removed.above.chain.len() {
            relocate::expect_room(txn, id, destination.chain.len() + 1).await?;
        }

        let out_of = target::removed_above(txn, &removed.above).await?;
        let left = || out_of.iter().chain([&removed]);
        expect_may_end_holds(course.caller, left())?;
        if destination.id() != removed.above.id() {
            let mut from = removed.policy();
            left().for_each(|removed| lock::keep_promised(&mut from, removed, course.now));
            let to = Policy::below(&destination, Some((id, found)));
            let what = format!("Namespace '{}'", removed.title());
            let who = (course.caller, removed.judged_at(), request.bypass);
            to.expect_as_strict(&from, self.catalog().settings(), &what, who)?;
        }
        let counted = removed.above.ids();
        let more = Policy::below(&destination, None).quotas;
        // What counted as removed counts no more when it is active.
        let more = more.iter().filter(|it| !it.counts_removed || !counted.contains(&it.id));
        usage::expect_room_for_more(self.catalog().handles().usages(), more)?;

        self.end_removal(txn, &removed).await?;
        for (what, itself) in [
            (guard::HOLD, false),
            (guard::PROTECTION, false),
            (guard::POLICY, found.policy.binds()),
            (guard::LOCK, false),
        ] {
            guard::carry(txn, what, id, itself, &removed.above, &destination.ids()).await?;
        }
        let clock = clock_at_removal(&removed.record, &removed.above, found.stood_still_ms);
        let mut active = found.clone();
        active.stood_still_ms = course.now - destination.stood_still_ms() - clock;
        active.state = State::Active;
        active.parent = destination.id();
        path.last().clone_into(&mut active.segment);
        active.restored_at = Some(course.now);
        txn.set(&keys::namespace_name(active.parent, path.last()), &id.0.to_be_bytes())?;
        txn.set(&keys::namespace_record(id), &record::encode(&active))?;
        park::wake(txn, id)?;
        index::task::wake(txn)?;
        copy::wake(txn)?;
        let entry = Entry {
            action: "restore",
            namespace: path.as_str(),
            bucket: "",
            id: Some(id.into()),
            removal: Some(removed.removal),
            reason: None,
        };
        tell(txn, course, &entry, 0)?;
        HoldsEnded::of(left()).tell(txn, course, &entry, 1)?;
        Ok(Restored {
            removal: Some(removed.removal),
            object: id.into(),
            namespace: path.to_string(),
            name: None,
            replaced: None,
        })
    }
}

/// Where a namespace is restored to: what is above, and its whole path, which is free.
async fn destination(
    txn: &Transaction,
    removed: &Removed,
    request: &RestoreNamespaceRequest,
    ids: &[u64],
    now: i64,
) -> Result<(Lineage, Path)> {
    let (above, path) = match &request.path {
        Some(path) => {
            let mut ids = ids.iter();
            let made = match path.parent() {
                Some(parent) => namespace::make_all(txn, &parent, &mut ids, now).await?,
                None => Vec::new(),
            };
            let parent = made.last().map_or(NamespaceId::ROOT, |(id, _)| *id);
            (namespace::lineage(txn, parent, Read::Conflict).await?, path.clone())
        }
        None => (removed.above.clone(), Path::parse(removed.title().as_bytes())?),
    };
    above.expect_active()?;
    above.conflict_on_fences(txn)?;
    if txn.get(&keys::namespace_name(above.id(), path.last()), Read::Conflict).await?.is_some() {
        return Err(Error::NamespaceAlreadyExists(path.to_string()));
    }
    Ok((above, path))
}
