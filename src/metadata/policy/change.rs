//! NAMESPACE POLICY SET and UNSET.

use super::{Kept, Name, Policy, Settings, Value, ms};
use crate::access::Right;
use crate::cluster::journal;
use crate::codec::record::{
    self, Event, EventKind, KeepRecord, Lock, NamespaceRecord, PolicyRecord,
};
use crate::codec::{NamespaceId, ObjectKind, keys};
use crate::error::{Error, Result};
use crate::metadata::audit::{self, Entry};
use crate::metadata::namespace::{self, Lineage};
use crate::metadata::{Caller, Path, bucket, guard};
use crate::store::{RangeRead, Read, Transaction};

/// What is to be set, or with `None` unset.
pub type Change = (Name, Option<Value>);

/// Changes the policy of an active namespace: all of it, or nothing.
///
/// # Errors
/// `NOSUCHNAMESPACE`, `NAMESPACEBEINGREMOVED`; `RETENTIONOUTOFRANGE` for limits that
/// contradict each other; `NOPERM` for what keeps anything less strictly, without the right to
/// purge; `HELD` for what would loosen a lock of compliance that still holds something.
pub async fn change(
    txn: &Transaction,
    caller: &Caller,
    path: &Path,
    changes: &[Change],
    settings: &Settings,
    now: i64,
) -> Result<()> {
    let found = namespace::resolve(txn, path, Read::Conflict).await?;
    found.conflict_on_fences(txn)?;
    let id = found.id();
    let mut above = namespace::lineage(txn, id, Read::Conflict).await?;
    let before = Policy::of(&above.chain);
    let Some((_, mut record)) = above.chain.pop() else {
        return Err(Error::NoSuchNamespace(path.to_string()));
    };
    let old = record.policy.clone();
    for (name, value) in changes {
        name.write(&mut record.policy, *value);
    }
    expect_not_below_lock(&Policy::of(&above.chain), path, &old, &record.policy)?;
    if record.policy.lock.is_some_and(|lock| lock != Lock::None) {
        let in_force = under(&above, id, &record, old.lock);
        // What is written down contradicts nothing.
        expect_consistent(&in_force, &old, &record.policy)?;
        write_down(&in_force, &mut record.policy, &old, settings);
    } else {
        let after = Policy::below(&above, Some((id, &record)));
        expect_consistent(&after, &old, &record.policy)?;
    }
    if record.policy == old {
        return Ok(());
    }
    let after = Policy::below(&above, Some((id, &record)));
    if !after.is_as_strict_as(&before, settings) {
        // To keep what goes from now on for less is to destroy it sooner: here, or further
        // down, where a limit or a lock counts though the default does not.
        caller.expect(Right::Purge)?;
    }
    if before.lock() == Lock::Compliance
        && !after.is_as_strict_as(&before, settings)
        && !is_empty(txn, id).await?
    {
        let by = before.lock.as_ref().map(|set| set.path.to_string()).unwrap_or_default();
        return Err(Error::Held(format!(
            "Namespace '{path}' is locked (compliance, by namespace '{by}'): its policy can be tightened, and loosened only when nothing is left in it, removed or not"
        )));
    }
    if old.binds() != record.policy.binds() {
        let ids = above.ids();
        guard::carry(txn, guard::POLICY, id, record.policy.binds(), &above, &ids).await?;
    }
    txn.set(&keys::namespace_record(id), &record::encode(&record))?;
    bucket::invalidate(txn, id.0)?;
    journal::append(txn, 0, &Event { kind: EventKind::Changed, object: id.0, removal: None })?;
    let shown = shown(changes);
    let entry = Entry {
        action: "policy",
        namespace: path.as_str(),
        bucket: "",
        id: Some(id.into()),
        removal: None,
        reason: Some(&shown),
    };
    audit::append(txn, 0, &caller.actor, now, &entry, "OK", 1)
}

/// What is in force at a namespace whose lock is still the one before.
fn under(above: &Lineage, id: NamespaceId, record: &NamespaceRecord, lock: Option<Lock>) -> Policy {
    let mut record = record.clone();
    record.policy.lock = lock;
    Policy::below(above, Some((id, &record)))
}

/// A lock also writes down what is in force and comes from elsewhere, so that neither a change
/// of the server's configuration nor one of a namespace above shortens it, and nothing below
/// says less: the defaults, and at one of compliance, where nothing above counts any more, the
/// limits. `in_force`: under the lock that was there before.
fn write_down(in_force: &Policy, own: &mut PolicyRecord, old: &PolicyRecord, settings: &Settings) {
    let lock = own.lock.unwrap_or_default();
    // Later only what is missing: what was tightened above since can be loosened there again.
    let is_new = lock > old.lock.unwrap_or_default();
    let mut old = old.clone();
    let mut pin = |kept, of: fn(&mut PolicyRecord) -> [&mut Option<KeepRecord>; 3]| {
        let limits = in_force.limits(kept);
        let ([_, old_min, _], [default, min, max]) = (of(&mut old), of(own));
        let written = |value: i64| Some(KeepRecord::from(super::retention(value)));
        let applied = limits.applied(None, settings.of(kept)).ms;
        if is_new || default.is_none() {
            *default = written(default.map_or(applied, |own| applied.max(ms(own.into()))));
        }
        if lock != Lock::Compliance {
            return;
        }
        // One's own counts in both. A minimum is stronger than a maximum.
        let least = limits.min.as_ref().map_or(0, |set| set.value);
        if (is_new && least > 0) || (old_min.is_some() && min.is_none()) {
            *min = written(least);
        }
        if let Some(most) = limits.max.as_ref().filter(|_| is_new) {
            *max = written(most.value.max(least));
        }
    };
    pin(Kept::Objects, PolicyRecord::objects);
    pin(Kept::Documents, PolicyRecord::documents);
}

/// Refuses a new default or maximum that is shorter than the default of a lock above, where it would not count.
fn expect_not_below_lock(
    above: &Policy,
    path: &Path,
    old: &PolicyRecord,
    new: &PolicyRecord,
) -> Result<()> {
    let Some(lock) = above.lock.as_ref().filter(|lock| lock.value != Lock::None) else {
        return Ok(());
    };
    let shorter = [
        (&above.objects, old.retention, new.retention),
        (&above.objects, old.retention_max, new.retention_max),
        (&above.documents, old.tombstone_retention, new.tombstone_retention),
        (&above.documents, old.tombstone_retention_max, new.tombstone_retention_max),
    ];
    for (limits, old, new) in shorter {
        if let (Some(new), Some(set)) = (new.filter(|new| Some(*new) != old), &limits.default)
            && ms(new.into()) < set.value
        {
            return Err(Error::Held(format!(
                "Namespace '{path}' is locked ({}, by namespace '{}'): nothing in it is kept for less than the {} of namespace '{}'",
                lock.value.name(),
                lock.path,
                super::show(set.value),
                set.path
            )));
        }
    }
    Ok(())
}

/// Refuses what contradicts itself, or what binds from above, in what is changed.
fn expect_consistent(policy: &Policy, old: &PolicyRecord, own: &PolicyRecord) -> Result<()> {
    let old_lock = old.lock.unwrap_or_default();
    let objects = |of: &PolicyRecord| [of.retention, of.retention_min, of.retention_max];
    let documents = |of: &PolicyRecord| {
        [of.tombstone_retention, of.tombstone_retention_min, of.tombstone_retention_max]
    };
    let all = [
        (&policy.objects, objects(old), objects(own)),
        (&policy.documents, documents(old), documents(own)),
    ];
    for (limits, old, own) in all {
        if old == own {
            continue;
        }
        let ([old_default, ..], [default, ..]) = (old, own);
        if let (Some(min), Some(max)) = (&limits.min, &limits.max)
            && min.value > max.value
        {
            return Err(Error::RetentionOutOfRange(format!(
                "The minimum {} of namespace '{}' is above the maximum {} of namespace '{}'",
                super::show(min.value),
                min.path,
                super::show(max.value),
                max.path
            )));
        }
        // Under a lock it was written down: what binds takes it into the limits.
        let asked = old_default != default || old_lock == Lock::None;
        if let Some(default) = default.filter(|_| asked) {
            limits.expect(ms(default.into()))?;
        }
    }
    Ok(())
}

/// Whether nothing is in a namespace, active or removed. With conflict.
async fn is_empty(txn: &Transaction, id: NamespaceId) -> Result<bool> {
    let inside = [
        keys::bucket_name_prefix(id),
        keys::namespace_name_prefix(id),
        keys::removed_in_namespace_prefix(ObjectKind::Bucket, id),
        keys::removed_in_namespace_prefix(ObjectKind::Namespace, id),
    ];
    for prefix in inside {
        if !txn.range(RangeRead::prefix(prefix).limit(1)).await?.rows.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The changes as the audit log has them.
fn shown(changes: &[Change]) -> String {
    let words = changes.iter().map(|(name, value)| match value {
        Some(value) => format!("{} {value}", name.text()),
        None => format!("{} unset", name.text()),
    });
    words.collect::<Vec<_>>().join(", ")
}
