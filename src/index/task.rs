use crate::codec::record::{self, IndexTaskRecord, TaskKind, TaskStatus};
use crate::codec::{BucketId, Versionstamp, keys};
use crate::error::Result;
use crate::store::{RangeRead, Read, Transaction};

/// A task on an index, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub kind: TaskKind,
    /// The commit that asked for it, which is its id.
    pub version: Versionstamp,
    pub record: IndexTaskRecord,
}

/// Asks for a task, in place of an earlier one of its kind.
///
/// # Errors
/// Those of the store.
pub(super) fn ask(
    txn: &Transaction,
    bucket: BucketId,
    index: u32,
    kind: TaskKind,
    now: i64,
) -> Result<()> {
    let row = record::encode_versioned_now(&IndexTaskRecord::waiting(now));
    txn.set_versionstamped_value(&keys::index::task(bucket, index, kind.number()), &row)?;
    txn.set(&keys::index::queued_task(bucket, index, kind.number()), b"")?;
    wake(txn)
}

/// Notes a task that needed nobody.
///
/// # Errors
/// Those of the store.
pub(super) fn note_done(
    txn: &Transaction,
    bucket: BucketId,
    index: u32,
    kind: TaskKind,
    now: i64,
) -> Result<()> {
    let done = IndexTaskRecord {
        status: TaskStatus::Completed,
        started_at: Some(now),
        ended_at: Some(now),
        ..IndexTaskRecord::waiting(now)
    };
    let row = record::encode_versioned_now(&done);
    Ok(txn.set_versionstamped_value(&keys::index::task(bucket, index, kind.number()), &row)?)
}

/// Tells all workers to look at the queue.
///
/// # Errors
/// Those of the store.
pub fn wake(txn: &Transaction) -> Result<()> {
    Ok(txn.set_versionstamped_value(&keys::index::task_signal(), &Versionstamp::placeholder())?)
}

/// Tells the workers of a bucket that is active again, if it has open tasks.
///
/// # Errors
/// Those of the store.
pub async fn wake_for(txn: &Transaction, bucket: BucketId) -> Result<()> {
    let queued = RangeRead::prefix(keys::index::queued_tasks_of(bucket)).limit(1).snapshot();
    if txn.range(queued).await?.rows.is_empty() { Ok(()) } else { wake(txn) }
}

/// Takes all tasks of a bucket that is purged off the queue.
///
/// # Errors
/// Those of the store.
pub fn forget_bucket(txn: &Transaction, bucket: BucketId) -> Result<()> {
    let (begin, end) = keys::range(&keys::index::queued_tasks_of(bucket));
    Ok(txn.clear_range(&begin, &end)?)
}

/// A task, if there ever was one of this kind.
///
/// # Errors
/// Those of the store; damage.
pub async fn read(
    txn: &Transaction,
    bucket: BucketId,
    index: u32,
    kind: TaskKind,
    read: Read,
) -> Result<Option<Task>> {
    let Some(value) = txn.get(&keys::index::task(bucket, index, kind.number()), read).await? else {
        return Ok(None);
    };
    let (version, record) = record::decode_versioned("task", &value)?;
    Ok(Some(Task { kind, version, record }))
}

/// All tasks of an index.
///
/// # Errors
/// Those of the store; damage.
pub async fn list(txn: &Transaction, bucket: BucketId, index: u32) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for kind in [TaskKind::Build, TaskKind::Analyze] {
        tasks.extend(read(txn, bucket, index, kind, Read::Snapshot).await?);
    }
    Ok(tasks)
}

/// Writes how far a task is; one that is over leaves the queue.
///
/// # Errors
/// Those of the store.
pub fn write(txn: &Transaction, bucket: BucketId, index: u32, task: &Task) -> Result<()> {
    let kind = task.kind.number();
    let row = record::encode_versioned(task.version, &task.record);
    txn.set(&keys::index::task(bucket, index, kind), &row)?;
    if !task.record.status.is_open() {
        txn.clear(&keys::index::queued_task(bucket, index, kind))?;
    }
    Ok(())
}
