use super::schema::{NewIndex, PRIMARY, expect_room};
use super::task::{self, Task};
use crate::cluster::journal;
use crate::codec::record::{
    self, BucketRecord, Event, EventKind, IndexRecord, IndexStatus, TaskKind, TaskStatus,
};
use crate::codec::{BucketId, keys};
use crate::error::{Error, Result};
use crate::metadata::audit::{self, Entry};
use crate::metadata::bucket::{self, Found};
use crate::metadata::namespace::Resolved;
use crate::metadata::{Caller, LiveBucket};
use crate::store::{RangeRead, Read, Transaction};
use crate::value::Collation;

/// The records of the indexes of a bucket that is about to be created: it is
/// empty, so they are ready.
///
/// # Errors
/// `ERR` when they clash, or are more than `indexes_max`.
pub fn of_new_bucket(
    new: &[NewIndex],
    inherited: Option<&Collation>,
    indexes_max: usize,
    now: i64,
) -> Result<Vec<IndexRecord>> {
    let mut records: Vec<IndexRecord> = Vec::new();
    for (id, new) in (1..).zip(new) {
        expect_room(&records, new, indexes_max)?;
        records.push(new.record(id, inherited, IndexStatus::Ready, now));
    }
    Ok(records)
}

/// Creates indexes on an active bucket. From this commit on every write keeps
/// them; the documents that are there are added in the background. With no
/// documents there is nothing to add, and they are ready.
///
/// # Errors
/// `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`; `ERR` when they clash, or are more
/// than `indexes_max`.
pub async fn create(
    txn: &Transaction,
    caller: &Caller,
    namespace: &Resolved,
    name: &str,
    new: &[NewIndex],
    indexes_max: usize,
    now: i64,
) -> Result<()> {
    namespace.conflict_on_fences(txn)?;
    let mut found = bucket::find(txn, namespace.id(), name).await?;
    bucket::expect_same_indexes(txn, &found).await?;
    // With conflict: a document that is written meanwhile must not be left out.
    let documents = RangeRead::prefix(keys::data_part(found.id, keys::data::DOCUMENT)).limit(1);
    let empty = txn.range(documents).await?.rows.is_empty();
    for new in new {
        expect_room(&found.record.indexes, new, indexes_max)?;
        let id = found.record.next_index.max(1);
        found.record.next_index = id + 1;
        let status = if empty { IndexStatus::Ready } else { IndexStatus::Building };
        let record = new.record(id, found.record.collation.as_ref(), status, now);
        found.record.indexes.push(record);
        if empty {
            task::note_done(txn, found.id, id, TaskKind::Build, now)?;
        } else {
            task::ask(txn, found.id, id, TaskKind::Build, now)?;
        }
    }
    let names: Vec<&str> = new.iter().map(|new| new.name.as_str()).collect();
    changed(txn, found.id, &found.record)?;
    audit_row(txn, caller, namespace, &found, "create-index", &names.join(", "), now)
}

/// Drops an index: from this commit on it is gone, whatever was being done
/// about it. Its bytes are given back in the background.
///
/// # Errors
/// `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`, `NOSUCHINDEX`; `ERR` for the primary index.
pub async fn drop(
    txn: &Transaction,
    caller: &Caller,
    namespace: &Resolved,
    name: &str,
    index: &str,
    now: i64,
) -> Result<()> {
    let (mut found, at) = find(txn, namespace, name, index, "drop").await?;
    let id = found.record.indexes.remove(at).id;
    forget(txn, found.id, id)?;
    changed(txn, found.id, &found.record)?;
    audit_row(txn, caller, namespace, &found, "drop-index", index, now)
}

/// A bucket and the place of an index in its record, both to be changed; `verb` is what cannot be done to the
/// primary index.
pub(super) async fn find(
    txn: &Transaction,
    namespace: &Resolved,
    name: &str,
    index: &str,
    verb: &str,
) -> Result<(Found, usize)> {
    namespace.conflict_on_fences(txn)?;
    let found = bucket::find(txn, namespace.id(), name).await?;
    if index == PRIMARY {
        return Err(Error::Syntax(format!("Cannot {verb} the primary index")));
    }
    bucket::expect_same_indexes(txn, &found).await?;
    let at = found.record.indexes.iter().position(|record| record.name == index);
    let at = at.ok_or_else(|| Error::NoSuchIndex(index.to_owned()))?;
    Ok((found, at))
}

/// Asks for the statistics of an index to be made anew.
///
/// # Errors
/// `NOSUCHINDEX`; `ERR` when it is not ready, or is being analyzed already.
pub async fn analyze(txn: &Transaction, live: &LiveBucket, index: &str, now: i64) -> Result<()> {
    live.expect_no_copy()?;
    if index == PRIMARY {
        return Ok(());
    }
    let found =
        live.indexes().by_name(index).ok_or_else(|| Error::NoSuchIndex(index.to_owned()))?;
    if !found.is_ready() {
        return Err(Error::Syntax(format!(
            "Cannot analyze index: index is not in READY state (current={})",
            found.record().status.name()
        )));
    }
    let running = task::read(txn, live.id(), found.id(), TaskKind::Analyze, Read::Conflict);
    if running.await?.is_some_and(|task| task.record.status.is_open()) {
        return Err(Error::syntax("An analyze task has already exist"));
    }
    task::ask(txn, live.id(), found.id(), TaskKind::Analyze, now)
}

/// What a build came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Built {
    /// Every document is in it.
    All,
    /// A document is not as the index wants it: the message.
    Refused(String),
}

/// Has the indexes of a bucket analyzed that are those of another, where that one's have been.
///
/// # Errors
/// Those of the store.
pub async fn analyze_as(
    txn: &Transaction,
    other: BucketId,
    bucket: BucketId,
    record: &BucketRecord,
    now: i64,
) -> Result<()> {
    for index in &record.indexes {
        let histogram = keys::index::histogram(other, index.id);
        if txn.get(&histogram, Read::Snapshot).await?.is_some() {
            task::ask(txn, bucket, index.id, TaskKind::Analyze, now)?;
        }
    }
    Ok(())
}

/// Ends a build: the index becomes ready, or failed, which takes its entries
/// away and lets writes alone. The caller has checked the fence and its shard.
///
/// # Errors
/// Those of the store.
pub async fn end_build(
    txn: &Transaction,
    live: &LiveBucket,
    index: u32,
    built: &Built,
    now: i64,
) -> Result<()> {
    let mut record = live.record().clone();
    let found = record.indexes.iter_mut().find(|record| record.id == index);
    let Some(found) = found.filter(|record| record.status == IndexStatus::Building) else {
        return Ok(());
    };
    let read = Read::Conflict;
    let Some(task) = task::read(txn, live.id(), index, TaskKind::Build, read).await? else {
        return Ok(());
    };
    let mut task = Task { record: task.record, ..task };
    task.record.ended_at = Some(now);
    match built {
        Built::All => {
            found.status = IndexStatus::Ready;
            task.record.status = TaskStatus::Completed;
            task::ask(txn, live.id(), index, TaskKind::Analyze, now)?;
        }
        Built::Refused(message) => {
            found.status = IndexStatus::Failed;
            task.record.status = TaskStatus::Failed;
            task.record.error = Some(message.clone());
            clear_entries(txn, live.id(), index)?;
        }
    }
    task::write(txn, live.id(), index, &task)?;
    changed(txn, live.id(), &record)
}

/// Takes away all there is of an index whose number will not be used again.
pub(super) fn forget(txn: &Transaction, bucket: BucketId, index: u32) -> Result<()> {
    clear_entries(txn, bucket, index)?;
    for prefix in [
        keys::index::task_prefix(bucket, index),
        keys::index::queued_task_prefix(bucket, index),
        keys::index::histogram(bucket, index),
    ] {
        let (begin, end) = keys::range(&prefix);
        txn.clear_range(&begin, &end)?;
    }
    Ok(())
}

/// Takes away the entries of an index that will never have any again, and what was counted and marked of them.
fn clear_entries(txn: &Transaction, bucket: BucketId, index: u32) -> Result<()> {
    txn.drop_prefix(&keys::index::entries(bucket, index))?;
    for prefix in
        [keys::index::mark_prefix(bucket, index), keys::index::count_prefix(bucket, index)]
    {
        let (begin, end) = keys::range(&prefix);
        txn.clear_range(&begin, &end)?;
    }
    Ok(())
}

/// Writes the record of a bucket whose indexes have changed, and makes all handles and plans on it invalid.
pub(super) fn changed(txn: &Transaction, id: BucketId, record: &BucketRecord) -> Result<()> {
    txn.set(&keys::bucket_record(id), &record::encode(record))?;
    bucket::invalidate(txn, id.0)?;
    journal::append(txn, 0, &Event { kind: EventKind::Changed, object: id.0, removal: None })?;
    Ok(())
}

pub(super) fn audit_row(
    txn: &Transaction,
    caller: &Caller,
    namespace: &Resolved,
    found: &Found,
    action: &'static str,
    indexes: &str,
    now: i64,
) -> Result<()> {
    let entry = Entry {
        action,
        namespace: namespace.path.as_str(),
        bucket: &found.record.name,
        id: Some(found.id.into()),
        removal: None,
        reason: Some(indexes),
    };
    audit::append(txn, 0, &caller.actor, now, &entry, "OK", 1)
}
