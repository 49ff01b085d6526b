//! RESTORE of a bucket: bring the same instance back, with all it had.

use serde::{Deserialize, Serialize};

use crate::access::{Place, Right};
use crate::cluster::journal;
use crate::codec::record::{self, Actor, BucketRecord, Event, EventKind, RemovalRecord, State};
use crate::codec::{BucketId, NamespaceId, Object, ObjectKind, RemovalId, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::index;
use crate::metadata::audit::{self, Entry};
use crate::metadata::bucket;
use crate::metadata::guard;
use crate::metadata::namespace::{self, Lineage};
use crate::metadata::policy::{Policy, Quota};
use crate::metadata::usage;
use crate::metadata::{Caller, Path};
use crate::store::{Read, Transaction};

use super::remove::{self, Plan};
use super::target::{self, Instance, Removed, Target};
use super::{Lifecycle, copy, lock, note_removal, park, remove::Keep};

/// What RESTORE was asked to do.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The session's namespace, in which a name is looked up.
    pub namespace: Path,
    pub target: Target,
    pub latest: bool,
    /// The new name; else the old one.
    pub name: Option<String>,
    /// The destination; else the namespace it was removed from.
    pub into: Option<Path>,
    /// Remove the active bucket that has the name, in the same transaction.
    pub replace: bool,
    pub allow_expired: bool,
    /// A lock of governance does not count.
    pub bypass: bool,
    pub dry_run: bool,
}

/// What RESTORE did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// `None`: only a namespace above the bucket was removed.
    pub removal: Option<RemovalId>,
    pub object: Object,
    /// Of a bucket the namespace that it is in, of a namespace its own path.
    pub namespace: String,
    /// The bucket's name.
    pub name: Option<String>,
    /// The removal of the bucket that had the name, with `REPLACE`.
    pub replaced: Option<RemovalId>,
}

/// A bucket that is coming back.
struct Coming {
    id: BucketId,
    record: BucketRecord,
    /// What its own clock shows.
    clock: i64,
    above: Lineage,
    removed: Option<Removed>,
    /// The removed namespaces that it comes out of.
    out_of: Vec<Removed>,
}

impl Coming {
    /// The removals that it leaves.
    fn left(&self) -> impl Iterator<Item = &Removed> {
        self.out_of.iter().chain(&self.removed)
    }
}

/// When and for whom something is restored: decided before the first attempt.
pub(super) struct Course<'a> {
    pub(super) caller: &'a Caller,
    pub(super) now: i64,
    /// The time that has surely come: what has expired by it has.
    pub(super) certain: i64,
}

impl Lifecycle {
    /// Restores a bucket: the same instance, with all its documents. With `into` also one
    /// that is active in a removed namespace.
    ///
    /// # Errors
    /// Those of [`target::resolve_removed`]; `REMOVEDEXPIRED`,
    /// `BUCKETALREADYEXISTS`, `BUCKETBEINGREMOVED` when the name is reserved by
    /// another removal, `NOSUCHNAMESPACE`, `PROTECTED` when `replace` meets a
    /// protected bucket, `HELD` where it would be kept less strictly, `NOPERM` for what is
    /// on hold without the right to lift that.
    pub async fn restore(&self, caller: &Caller, request: &RestoreRequest) -> Result<Restored> {
        let catalog = self.catalog();
        let course = &Course { caller, now: catalog.now(), certain: catalog.certain_now() };
        let replacing = RemovalId(catalog.cluster().ids().next().await?);
        let body = |txn: Transaction| async move {
            self.restore_in(&txn, course, request, replacing).await
        };
        let restored = if request.dry_run {
            catalog.read("restore-dry-run", body).await
        } else {
            Box::pin(catalog.run("restore", caller, body)).await
        };
        let (namespace, bucket) = request.target.place(&request.namespace);
        match &restored {
            Err(Error::Protected(name)) => {
                self.note_refusal(caller, "remove", (namespace, name), &restored);
            }
            restored => self.note_refusal(caller, "restore", (namespace, &bucket), restored),
        }
        if let Ok(Restored { removal: Some(removal), .. }) = &restored {
            note_removal(*removal);
        }
        restored
    }

    async fn restore_in(
        &self,
        txn: &Transaction,
        course: &Course<'_>,
        request: &RestoreRequest,
        replacing: RemovalId,
    ) -> Result<Restored> {
        let now = course.now;
        let coming = find(txn, course.caller, request, course.certain).await?;
        let destination = match &request.into {
            Some(path) => {
                let id = namespace::resolve(txn, path, Read::Conflict).await?.id();
                namespace::lineage(txn, id, Read::Conflict).await?
            }
            None => coming.above.clone(),
        };
        destination.expect_active()?;
        destination.conflict_on_fences(txn)?;
        expect_may_end_holds(course.caller, coming.left())?;
        self.expect_taken_in(txn, course, &coming, &destination, request.bypass).await?;
        let name = request.name.clone().unwrap_or_else(|| coming.record.name.clone());
        let mut restored = Restored {
            removal: coming.removed.as_ref().map(|removed| removed.removal),
            object: coming.id.into(),
            namespace: destination.path(),
            name: Some(name.clone()),
            replaced: None,
        };

        let mut order = 0;
        match bucket::find_active(txn, destination.id(), &name).await? {
            Some(active) if request.replace => {
                if active.record.protected {
                    return Err(Error::Protected(name));
                }
                let plan = Plan {
                    caller: course.caller,
                    removal: replacing,
                    now,
                    keep: Keep::Default,
                    setting: self.options().retention,
                    bypass: false,
                    reason: Some("replaced by a restore"),
                    reserve_name: false,
                };
                if !request.dry_run {
                    let (object, instance) = (active.id.into(), Instance::Bucket(active.record));
                    remove::write(txn, &destination, object, &instance, &plan, order).await?;
                }
                order += 1;
                restored.replaced = Some(replacing);
            }
            Some(_) => return Err(Error::BucketAlreadyExists(name)),
            None => {}
        }
        let reserved = keys::reserved_name(ObjectKind::Bucket, destination.id(), &name);
        if reserved_by_another(txn, &reserved, restored.removal).await? {
            return Err(Error::BucketBeingRemoved(name));
        }
        if !request.dry_run {
            self.bring_back(txn, course, coming, &destination, &name, order).await?;
        }
        Ok(restored)
    }

    /// Whether the destination keeps it as strictly as it has been kept, and has room.
    async fn expect_taken_in(
        &self,
        txn: &Transaction,
        course: &Course<'_>,
        coming: &Coming,
        destination: &Lineage,
        bypass: bool,
    ) -> Result<()> {
        let to = Policy::below(destination, None);
        if destination.id() != coming.above.id() {
            let mut from = Policy::below(&coming.above, None);
            for removed in coming.left() {
                lock::keep_promised(&mut from, removed, course.now);
            }
            let what = format!("Bucket '{}'", coming.record.name);
            let who = (course.caller, Place::Namespace(coming.above.path()), bypass);
            to.expect_as_strict(&from, self.catalog().settings(), &what, who)?;
        }
        if to.quotas.is_empty() {
            return Ok(());
        }
        let counts = bucket::counts(txn, coming.id).await?;
        let usages = self.catalog().handles().usages();
        for quota in &to.quotas {
            // What counted as removed counts no more when it is active.
            let counted = coming.above.ids().contains(&quota.id);
            if (!counted || !quota.counts_removed)
                && let Some((sums, _)) = usages.of(quota.id).last()
            {
                // It is one of the removed ones that are too many.
                let quota = Quota { removed_bytes: None, ..quota.clone() };
                usage::expect_room(&quota, &sums, counts.documents, counts.bytes)?;
            }
        }
        Ok(())
    }

    async fn bring_back(
        &self,
        txn: &Transaction,
        course: &Course<'_>,
        coming: Coming,
        destination: &Lineage,
        name: &str,
        order: u16,
    ) -> Result<()> {
        let ended = HoldsEnded::of(coming.left());
        let Coming { id, record: mut active, clock, above, removed, .. } = coming;
        if let Some(removed) = &removed {
            self.end_removal(txn, removed).await?;
            if removed.hold.is_some() {
                guard::lower(txn, guard::HOLD, &above, id.0).await?;
            }
            if !removed.retention.promise.is_none() {
                lock::let_go(txn, removed).await?;
            }
        } else {
            txn.clear(&keys::bucket_name(above.id(), &active.name))?;
            // Handles from before the removal of the namespace may still be around.
            bucket::invalidate(txn, id.0)?;
        }
        // What came due meanwhile has left the queue.
        park::reschedule_bucket(txn, id, active.ttl.is_some()).await?;
        index::task::wake_for(txn, id).await?;
        copy::wake_for(txn, id).await?;
        active.stood_still_ms = course.now - destination.stood_still_ms() - clock;
        active.state = State::Active;
        active.namespace = destination.id();
        name.clone_into(&mut active.name);
        txn.set(&keys::bucket_name(destination.id(), name), &id.0.to_be_bytes())?;
        txn.set(&keys::bucket_record(id), &record::encode(&active))?;
        let reason = removed.is_none().then(|| format!("out of {}", above.path()));
        let entry = Entry {
            action: "restore",
            namespace: &destination.path(),
            bucket: name,
            id: Some(id.into()),
            removal: removed.map(|removed| removed.removal),
            reason: reason.as_deref(),
        };
        ended.tell(txn, course, &entry, order + 1)?;
        tell(txn, course, &entry, order)
    }

    /// Takes away all that makes an instance removed, as it is restored.
    pub(super) async fn end_removal(&self, txn: &Transaction, removed: &Removed) -> Result<()> {
        if txn.get(&self.request_key(removed), Read::Conflict).await?.is_some() {
            // Whoever waits for the purge is to learn that there will be none.
            txn.set_versionstamped_value(&keys::barrier_signal(), &Versionstamp::placeholder())?;
        }
        let object = removed.object();
        removed.rows().clear(txn)?;
        remove::unlist(txn, object.kind(), removed.record.namespace, removed.version)?;
        txn.clear(&keys::removal_of(object.number()))?;
        Ok(())
    }
}

/// The bucket that RESTORE is about, read with conflict.
async fn find(
    txn: &Transaction,
    caller: &Caller,
    request: &RestoreRequest,
    certain: i64,
) -> Result<Coming> {
    if let (Target::Instance(id), Some(_)) = (&request.target, &request.into)
        && target::removal_of(txn, id.0).await?.is_none()
    {
        let coming = find_inside(txn, *id).await.map_err(|error| caller.hide(error))?;
        // Nobody has removed it itself.
        caller.expect_own(&Actor::system("nobody"))?;
        return Ok(coming);
    }
    let RestoreRequest { namespace, target, latest, .. } = request;
    let found = target::resolve_removed(txn, namespace, target, *latest).await;
    let removed = found.map_err(|error| caller.hide(error))?;
    caller.expect_own(&removed.record.removed_by)?;
    expect_restorable(&removed, certain, request.allow_expired)?;
    let out_of = target::removed_above(txn, &removed.above).await?;
    let Instance::Bucket(record) = &removed.instance else {
        return Err(Error::NoSuchRemoval(target.to_string()));
    };
    Ok(Coming {
        id: BucketId(removed.object().number()),
        clock: clock_at_removal(&removed.record, &removed.above, record.stood_still_ms),
        record: record.clone(),
        above: removed.above.clone(),
        removed: Some(removed),
        out_of,
    })
}

/// A bucket that is active in a removed namespace.
async fn find_inside(txn: &Transaction, id: BucketId) -> Result<Coming> {
    let gone = || Error::NoSuchBucket(id.to_string());
    let record = bucket::read_record(txn, id, Read::Conflict).await?;
    let above = match namespace::lineage(txn, record.namespace, Read::Conflict).await {
        Err(Error::NoSuchNamespace(_)) => return Err(gone()),
        above => above?,
    };
    let out_of = target::removed_above(txn, &above).await?;
    let Some(Removed { record: lowest, above: over, instance: Instance::Namespace(found), .. }) =
        out_of.last()
    else {
        return Err(target::is_not_removed(ObjectKind::Bucket, &record.name));
    };
    // Its clock stands where that of the lowest one that is removed does.
    let below = above.chain.iter().skip(over.chain.len() + 1);
    let behind = record.stood_still_ms + below.map(|(_, it)| it.stood_still_ms).sum::<i64>();
    let clock = clock_at_removal(lowest, over, found.stood_still_ms) - behind;
    Ok(Coming { id, record, clock, above, removed: None, out_of })
}

/// Expects the right to lift the holds that a restore ends: of what comes back, and of what is
/// above it and stays removed.
///
/// # Errors
/// `NOPERM`.
pub(super) fn expect_may_end_holds<'a>(
    caller: &Caller,
    left: impl Iterator<Item = &'a Removed>,
) -> Result<()> {
    for removed in left.filter(|removed| removed.hold.is_some()) {
        caller.expect_at(Right::Hold, removed.judged_at())?;
    }
    Ok(())
}

/// The holds that a restore ends: their removals, and what was said of them.
pub(super) struct HoldsEnded(Vec<(RemovalId, String)>);

impl HoldsEnded {
    pub(super) fn of<'a>(left: impl Iterator<Item = &'a Removed>) -> Self {
        let said = left.filter_map(|removed| {
            let hold = removed.hold.as_ref()?;
            let what = format!("{} '{}'", removed.object().kind().name(), removed.title());
            let said = format!("restored; {what} was on hold by {}: {}", hold.owner, hold.reason);
            Some((removed.removal, said))
        });
        Self(said.collect())
    }

    /// Enters them into the audit log, each as lifted from what `restored` is about.
    pub(super) fn tell(
        &self,
        txn: &Transaction,
        course: &Course<'_>,
        restored: &Entry<'_>,
        order: u16,
    ) -> Result<()> {
        for (order, (removal, said)) in (order..).zip(&self.0) {
            let (namespace, bucket) = (restored.namespace, restored.bucket);
            let (removal, reason) = (Some(*removal), Some(said.as_str()));
            let entry =
                Entry { action: "unhold", namespace, bucket, id: restored.id, removal, reason };
            audit::append(txn, order, &course.caller.actor, course.now, &entry, "OK", 1)?;
        }
        Ok(())
    }
}

/// What the object's own clock showed when it was removed.
pub(super) fn clock_at_removal(
    record: &RemovalRecord,
    above: &Lineage,
    stood_still_ms: i64,
) -> i64 {
    record.clock.unwrap_or_else(|| record.removed_at - above.stood_still_ms() - stood_still_ms)
}

/// # Errors
/// `REMOVEDEXPIRED`, unless that is allowed.
pub(super) fn expect_restorable(
    removed: &Removed,
    certain: i64,
    allow_expired: bool,
) -> Result<()> {
    if removed.is_expired(certain) && !allow_expired {
        return Err(Error::RemovedExpired(format!(
            "{} '{}' expired at {}",
            removed.object().kind().title(),
            removed.title(),
            crate::codec::duration::format_instant(removed.expires_at().unwrap_or_default())
        )));
    }
    Ok(())
}

/// Whether a name is kept taken by another removal than this one.
pub(super) async fn reserved_by_another(
    txn: &Transaction,
    key: &[u8],
    own: Option<RemovalId>,
) -> Result<bool> {
    let by = txn.get(key, Read::Conflict).await?;
    Ok(by.is_some_and(|by| own.is_none_or(|own| by[..] != own.0.to_be_bytes())))
}

/// Tells journal and audit log of a restore.
pub(super) fn tell(
    txn: &Transaction,
    course: &Course<'_>,
    entry: &Entry<'_>,
    order: u16,
) -> Result<()> {
    let object = entry.id.map_or(NamespaceId::ROOT.0, Object::number);
    journal::append(
        txn,
        order,
        &Event { kind: EventKind::Restored, object, removal: entry.removal },
    )?;
    audit::append(txn, order, &course.caller.actor, course.now, entry, "OK", 1)
}
