//! REMOVE: hide an instance at once, destroy nothing.

use serde::{Deserialize, Serialize};

use crate::access::Right;
use crate::cluster::journal;
use crate::codec::duration::Retention;
use crate::codec::record::{
    self, Event, EventKind, KeptBy, PromiseRecord, RemovalRecord, RequestRecord, RetentionRecord,
    State,
};
use crate::codec::{BucketId, NamespaceId, Object, ObjectKind, RemovalId, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::metadata::audit::{self, Entry};
use crate::metadata::bucket::{self, Counts};
use crate::metadata::guard;
use crate::metadata::namespace::{self, Lineage};
use crate::metadata::policy::{FOREVER, Kept, Policy};
use crate::metadata::{Caller, Path};
use crate::store::{Read, Transaction};

use super::target::Instance;
use super::{Lifecycle, copy, note_removal, park};

/// How much earlier than what applies an instant may be without being a shorter time.
const UNTIL_SLACK_MS: i64 = 60_000;

/// Until when a removed instance is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As the settings say.
    Default,
    For(Retention),
    /// Milliseconds since 1970.
    Until(i64),
}

impl Keep {
    /// The absolute expiry of something removed at `now`; `None` means never.
    ///
    /// # Errors
    /// `RETENTIONOUTOFRANGE` for an instant that has passed.
    pub fn expires_at(self, now: i64, default: Retention) -> Result<Option<i64>> {
        match self {
            Self::Default => Self::For(default).expires_at(now, default),
            Self::For(Retention::Forever) => Ok(None),
            Self::For(Retention::For(duration)) => {
                Ok(Some(now.saturating_add(crate::clock::milliseconds(duration))))
            }
            Self::Until(at) if at < now => Err(Error::RetentionOutOfRange(format!(
                "the time {} has passed; it is {}",
                crate::codec::duration::format_instant(at),
                crate::codec::duration::format_instant(now)
            ))),
            Self::Until(at) => Ok(Some(at)),
        }
    }
}

/// What REMOVE was asked to do.
#[derive(Debug, Clone)]
pub struct RemoveRequest {
    pub namespace: Path,
    /// A bucket of the namespace; without one it is about the namespace itself.
    pub bucket: Option<String>,
    pub keep: Keep,
    pub reason: Option<String>,
    pub reserve_name: bool,
    pub if_exists: bool,
    /// A lock of governance does not count.
    pub bypass: bool,
    pub dry_run: bool,
}

/// What REMOVE did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    pub removal: RemovalId,
    pub object: Object,
    pub removed_at: i64,
    pub expires_at: Option<i64>,
}

/// The rows of one removal, as REMOVE writes them and RESTORE and the flip
/// take them away.
pub(super) struct Rows<'a> {
    pub(super) removal: RemovalId,
    pub(super) record: &'a RemovalRecord,
    pub(super) expires_at: Option<i64>,
}

impl Rows<'_> {
    fn write(&self, txn: &Transaction, term: &Term) -> Result<()> {
        let RemovalRecord { object, namespace, name, .. } = self.record;
        let (id, kind) = (self.removal.0.to_be_bytes(), object.kind());
        txn.set_versionstamped_value(
            &keys::removal(self.removal),
            &record::encode_versioned_now(self.record),
        )?;
        let retention = RetentionRecord {
            expires_at: self.expires_at,
            set_at: None,
            promise: term.promise,
            kept_by: Some(term.kept_by),
        };
        txn.set(&keys::retention(self.removal), &record::encode(&retention))?;
        txn.set_versionstamped_value(
            &keys::removed_by_name(kind, *namespace, name, self.removal),
            &Versionstamp::placeholder(),
        )?;
        for listed in keys::lists_of(*namespace) {
            txn.set_versionstamped_key(&keys::removed_by_time_now(kind, listed), &id)?;
        }
        txn.set(&keys::removal_of(object.number()), &id)?;
        if let Some(at) = self.expires_at {
            txn.set(&keys::expiry(at, keys::due::REMOVAL, &id), b"")?;
        }
        if self.record.reserved {
            txn.set(&keys::reserved_name(kind, *namespace, name), &id)?;
        }
        Ok(())
    }

    /// Takes away what makes the instance removed. The rows that list it by
    /// time stay: the caller says when they go.
    pub(super) fn clear(&self, txn: &Transaction) -> Result<()> {
        let RemovalRecord { object, namespace, name, .. } = self.record;
        let (id, kind) = (self.removal.0.to_be_bytes(), object.kind());
        txn.clear(&keys::removal(self.removal))?;
        txn.clear(&keys::retention(self.removal))?;
        txn.clear(&keys::hold(self.removal))?;
        txn.clear(&keys::request(self.removal))?;
        txn.clear(&keys::removed_by_name(kind, *namespace, name, self.removal))?;
        if let Some(at) = self.expires_at {
            txn.clear(&keys::expiry(at, keys::due::REMOVAL, &id))?;
        }
        if self.record.reserved {
            txn.clear(&keys::reserved_name(kind, *namespace, name))?;
        }
        Ok(())
    }
}

/// Takes a removal off the listings by time.
pub(super) fn unlist(
    txn: &Transaction,
    kind: ObjectKind,
    namespace: NamespaceId,
    version: Versionstamp,
) -> Result<()> {
    for listed in keys::lists_of(namespace) {
        txn.clear(&keys::removed_by_time(kind, listed, version))?;
    }
    Ok(())
}

/// How one instance is removed: decided before the first attempt.
#[derive(Debug, Clone)]
pub(super) struct Plan<'a> {
    pub(super) caller: &'a Caller,
    pub(super) removal: RemovalId,
    pub(super) now: i64,
    pub(super) keep: Keep,
    /// The server's setting, which counts where no policy says otherwise.
    pub(super) setting: Retention,
    pub(super) bypass: bool,
    pub(super) reason: Option<&'a str>,
    pub(super) reserve_name: bool,
}

/// How long a removal is kept, by whose order, and what is promised with it.
pub(super) struct Term {
    pub(super) expires_at: Option<i64>,
    promise: PromiseRecord,
    kept_by: KeptBy,
    governed_by: Option<NamespaceId>,
}

impl Plan<'_> {
    /// What the policy in force makes of it: judged in the transaction that removes, which
    /// conflicts with every change of the policy.
    ///
    /// # Errors
    /// `RETENTIONOUTOFRANGE`; `NOPERM` for less than what applies, without the purge right.
    pub(super) fn term(
        &self,
        above: &Lineage,
        object: Object,
        instance: &Instance,
    ) -> Result<Term> {
        let policy = match (object, instance) {
            (Object::Namespace(id), Instance::Namespace(own)) => {
                Policy::below(above, Some((id, own)))
            }
            _ => Policy::below(above, None),
        };
        let applied = policy.objects.applied(None, self.setting);
        let asked = match self.keep {
            Keep::Default => None,
            // Nothing but the instant is checked here, which may have passed.
            keep => Some(keep.expires_at(self.now, self.setting)?),
        };
        let asked = asked.map(|at| at.map_or(FOREVER, |at| at.saturating_sub(self.now)));
        // What passes between two commands makes no instant a short time.
        let slack = if matches!(self.keep, Keep::Until(_)) { UNTIL_SLACK_MS } else { 0 };
        if asked.is_some_and(|asked| asked.saturating_add(slack) < applied.ms) {
            self.caller.expect(Right::Purge)?;
        }
        let kept =
            policy.keep(Kept::Objects, asked, &applied, self.bypass.then_some(self.caller))?;
        Ok(Term {
            expires_at: (kept != FOREVER).then(|| self.now.saturating_add(kept)),
            promise: policy.promise(Kept::Objects, self.now),
            kept_by: asked.map_or(applied.source.record(), |_| KeptBy::Command),
            governed_by: policy.governed_by(),
        })
    }
}

/// Removes an active object that was found with conflict, directly in the last of
/// `above`. `order` tells the events of one transaction apart.
pub(super) async fn write(
    txn: &Transaction,
    above: &Lineage,
    object: Object,
    instance: &Instance,
    plan: &Plan<'_>,
    order: u16,
) -> Result<Option<i64>> {
    let term = plan.term(above, object, instance)?;
    if let (Instance::Bucket(record::BucketRecord { copy: Some(of), .. }), Object::Bucket(id)) =
        (instance, object)
    {
        // A log is not kept for what nobody goes on with.
        copy::fail(txn, id, *of, "it was removed while it was being made", plan.now).await?;
    }
    let parent = above.id();
    let (name, stood_still_ms) = match instance {
        Instance::Bucket(found) => (&found.name, found.stood_still_ms),
        Instance::Namespace(found) => (&found.segment, found.stood_still_ms),
    };
    let record = RemovalRecord {
        object,
        namespace: parent,
        name: name.clone(),
        removed_at: plan.now,
        removed_by: plan.caller.actor.clone(),
        reason: plan.reason.map(str::to_owned),
        reserved: plan.reserve_name,
        clock: Some(plan.now - above.stood_still_ms() - stood_still_ms),
    };
    let (namespace, bucket) = match (instance, object) {
        (Instance::Bucket(found), _) => {
            txn.clear(&keys::bucket_name(parent, name))?;
            // What a swap that died left behind is over.
            let removed =
                record::BucketRecord { state: State::Removed, paused: None, ..found.clone() };
            txn.set(&keys::bucket_record(BucketId(object.number())), &record::encode(&removed))?;
            (above.path(), name.as_str())
        }
        (Instance::Namespace(found), _) => {
            let id = NamespaceId(object.number());
            txn.clear(&keys::namespace_name(parent, name))?;
            let removed = record::NamespaceRecord { state: State::Removed, ..found.clone() };
            txn.set(&keys::namespace_record(id), &record::encode(&removed))?;
            park::stop_waking(txn, id)?;
            if found.policy.binds() {
                guard::lower(txn, guard::POLICY, above, id.0).await?;
            }
            (above.path_of(name), "")
        }
    };
    let expires_at = term.expires_at;
    Rows { removal: plan.removal, record: &record, expires_at }.write(txn, &term)?;
    if !term.promise.is_none() {
        // Whoever purges something above it finds it there.
        guard::raise(txn, guard::LOCK, &above.ids(), object.number())?;
    }
    if expires_at.is_some_and(|at| at <= plan.now) {
        // No retention at all: as if its purge had been asked for.
        let (by, bypass) = (plan.caller.actor.clone(), plan.bypass);
        let request = RequestRecord { by, at: plan.now, bypass, passes: term.governed_by };
        txn.set(&keys::request(plan.removal), &record::encode(&request))?;
    }
    bucket::invalidate(txn, object.number())?;
    let event =
        Event { kind: EventKind::Removed, object: object.number(), removal: Some(plan.removal) };
    journal::append(txn, order, &event)?;
    let entry = Entry {
        action: "remove",
        namespace: &namespace,
        bucket,
        id: Some(object),
        removal: Some(plan.removal),
        reason: plan.reason,
    };
    audit::append(txn, order, &plan.caller.actor, plan.now, &entry, "OK", 1)?;
    Ok(expires_at)
}

/// The active object that REMOVE is about, read with conflict, and what is above it.
async fn find(txn: &Transaction, request: &RemoveRequest) -> Result<(Lineage, Object, Instance)> {
    let Some(name) = &request.bucket else { return find_namespace(txn, &request.namespace).await };
    let here = namespace::resolve(txn, &request.namespace, Read::Conflict).await?;
    here.conflict_on_fences(txn)?;
    let found = bucket::find(txn, here.id(), name).await?;
    if found.record.protected {
        return Err(Error::Protected(name.clone()));
    }
    // A MOVE writes the fences.
    let above = namespace::lineage(txn, here.id(), Read::Snapshot).await?;
    Ok((above, found.id.into(), Instance::Bucket(found.record)))
}

async fn find_namespace(txn: &Transaction, path: &Path) -> Result<(Lineage, Object, Instance)> {
    let found = namespace::resolve(txn, path, Read::Conflict).await?;
    found.conflict_on_fences(txn)?;
    let (id, mut above) = (found.id(), namespace::lineage(txn, found.id(), Read::Conflict).await?);
    let own = above.chain.pop();
    let (_, record) = own.ok_or_else(|| Error::NoSuchNamespace(path.to_string()))?;
    if record.protected {
        return Err(Error::NamespaceProtected(path.to_string()));
    }
    guard::expect_unprotected(txn, id).await?;
    guard::expect_unbound(txn, id).await?;
    Ok((above, id.into(), Instance::Namespace(record)))
}

/// Whether the error says that what was to be removed is not there.
fn is_absence(error: &Error, request: &RemoveRequest) -> bool {
    match error {
        Error::NoSuchBucket(_) | Error::BucketBeingRemoved(_) => true,
        Error::NoSuchNamespace(_) => request.bucket.is_none(),
        Error::NamespaceBeingRemoved(path) => {
            request.bucket.is_none() && path == request.namespace.as_str()
        }
        _ => false,
    }
}

impl Lifecycle {
    /// Removes a bucket, or a namespace with all that is in it. `None`: there was
    /// none and `if_exists` was set.
    ///
    /// One transaction, whatever the size; once it is committed no write to what was
    /// removed commits any more, on any node. With `dry_run` nothing is changed.
    ///
    /// # Errors
    /// `NOSUCHNAMESPACE`, `NAMESPACEBEINGREMOVED`, `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`,
    /// `PROTECTED`, `HELD` for a namespace above a lock, `RETENTIONOUTOFRANGE`; `ERR` for the
    /// default namespace.
    pub async fn remove(
        &self,
        caller: &Caller,
        request: &RemoveRequest,
    ) -> Result<Option<Removal>> {
        let catalog = self.catalog();
        if request.bucket.is_none() {
            catalog.expect_not_default("remove", &request.namespace)?;
        }
        let now = catalog.now();
        let plan = Plan {
            caller,
            removal: RemovalId(catalog.cluster().ids().next().await?),
            now,
            keep: request.keep,
            setting: self.options().retention,
            bypass: request.bypass,
            reason: request.reason.as_deref(),
            reserve_name: request.reserve_name || self.options().reserve_names,
        };
        let plan = &plan;
        let body = |txn: Transaction| async move {
            let txn = &txn;
            let (above, object, instance) = match find(txn, request).await {
                Ok(found) => found,
                Err(error) if request.if_exists && is_absence(&error, request) => return Ok(None),
                Err(error) => return Err(error),
            };
            let expires_at = if request.dry_run {
                plan.term(&above, object, &instance)?.expires_at
            } else {
                write(txn, &above, object, &instance, plan, 0).await?
            };
            Ok(Some(Removal { removal: plan.removal, object, removed_at: now, expires_at }))
        };
        let result = if request.dry_run {
            catalog.read("remove-dry-run", body).await
        } else {
            catalog.run("remove", caller, body).await
        };
        let bucket = request.bucket.as_deref().unwrap_or_default();
        self.note_refusal(caller, "remove", (&request.namespace, bucket), &result);
        let removal = result?;
        if let Some(removal) = &removal {
            note_removal(removal.removal);
        }
        self.wake_workers();
        Ok(removal)
    }

    /// What an instance holds. Of a removed one the counts no longer change.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn counts(&self, bucket: BucketId) -> Result<Counts> {
        self.catalog()
            .read("counts", |txn: Transaction| async move { bucket::counts(&txn, bucket).await })
            .await
    }
}
