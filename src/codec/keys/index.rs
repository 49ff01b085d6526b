//! The keys of indexes: their entries, and what is known and done about them.
//!
//! Not here: what the bytes of an entry mean (`index`).

use super::{data, decode, kind, pack};
use crate::codec::{BucketId, DecodeError};

/// `data/<bucket>/index/<index>`: the prefix of all entries of an index, which
/// dropping it drops whole. What follows is no tuple: the keys of the values,
/// one after the other, then the twelve bytes of the document's id.
#[must_use]
pub fn entries(bucket: BucketId, index: u32) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::INDEX, index))
}

/// The key of an entry, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryKey<'a> {
    pub bucket: BucketId,
    pub index: u32,
    /// The keys of the values.
    pub values: &'a [u8],
    /// Of the document.
    pub id: [u8; 12],
}

/// # Errors
/// When the key is no `data/<bucket>/index` key.
pub fn parse_entry(key: &[u8]) -> Result<EntryKey<'_>, DecodeError> {
    let wrong = |detail: &str| DecodeError::new("index entry", detail);
    let (bucket, _) = super::parse_data(key)?;
    let head = super::data_part(bucket, data::INDEX);
    let rest = key.strip_prefix(&head[..]).ok_or_else(|| wrong("no entry of an index"))?;
    // The id of the index is an integer: its length stands in its first byte.
    let length = rest.first().and_then(|first| first.checked_sub(0x14)).unwrap_or(u8::MAX);
    let split = rest.split_at_checked(usize::from(length) + 1);
    let (number, rest) = split.ok_or_else(|| wrong("the number of its index is cut short"))?;
    let index: (u32,) = decode("index entry", number)?;
    let (values, id) = rest.split_last_chunk::<12>().ok_or_else(|| wrong("it has no id"))?;
    Ok(EntryKey { bucket, index: index.0, values, id: *id })
}

/// `data/<bucket>/mark/<index>/<field>/<what>`: what documents there have been
/// since the index was created; `what` is one of [`mark`].
#[must_use]
pub fn mark(bucket: BucketId, index: u32, field: u16, what: u16) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::INDEX_MARK, index, field, what))
}

/// All marks of an index.
#[must_use]
pub fn mark_prefix(bucket: BucketId, index: u32) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::INDEX_MARK, index))
}

/// What is marked of a field.
pub mod marked {
    /// A document had an array there, or on the way there.
    pub const ARRAY: u16 = 1;
    /// A value was longer than keys hold.
    pub const CUT: u16 = 2;
}

/// # Errors
/// When the key is no `data/<bucket>/mark` key.
pub fn parse_mark(key: &[u8]) -> Result<(BucketId, u32, u16, u16), DecodeError> {
    let (_, bucket, _, index, field, what): (u16, u64, u16, u32, u16, u16) = decode("mark", key)?;
    Ok((BucketId(bucket), index, field, what))
}

/// `data/<bucket>/index-count/<index>/<shard>`: the entries of an index, as a
/// little-endian sum.
#[must_use]
pub fn count(bucket: BucketId, index: u32, shard: u16) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::INDEX_COUNT, index, shard))
}

/// The counters of an index.
#[must_use]
pub fn count_prefix(bucket: BucketId, index: u32) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::INDEX_COUNT, index))
}

/// # Errors
/// When the key is no `data/<bucket>/index-count` key.
pub fn parse_count(key: &[u8]) -> Result<(BucketId, u32, u16), DecodeError> {
    let (_, bucket, _, index, shard): (u16, u64, u16, u32, u16) = decode("index-count", key)?;
    Ok((BucketId(bucket), index, shard))
}

/// `data/<bucket>/task/<index>/<kind>`: how far a task is.
#[must_use]
pub fn task(bucket: BucketId, index: u32, task: u16) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::INDEX_TASK, index, task))
}

/// The tasks of an index.
#[must_use]
pub fn task_prefix(bucket: BucketId, index: u32) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::INDEX_TASK, index))
}

/// # Errors
/// When the key is no `data/<bucket>/task` key.
pub fn parse_task(key: &[u8]) -> Result<(BucketId, u32, u16), DecodeError> {
    let (_, bucket, _, index, task): (u16, u64, u16, u32, u16) = decode("task", key)?;
    Ok((BucketId(bucket), index, task))
}

/// `data/<bucket>/histogram/<index>`.
#[must_use]
pub fn histogram(bucket: BucketId, index: u32) -> Vec<u8> {
    pack(&(kind::DATA, bucket.0, data::HISTOGRAM, index))
}

/// # Errors
/// When the key is no `data/<bucket>/histogram` key.
pub fn parse_histogram(key: &[u8]) -> Result<(BucketId, u32), DecodeError> {
    let (_, bucket, _, index): (u16, u64, u16, u32) = decode("histogram", key)?;
    Ok((BucketId(bucket), index))
}

/// `index-task/<bucket>/<index>/<kind>`: the queue of open tasks.
#[must_use]
pub fn queued_task(bucket: BucketId, index: u32, task: u16) -> Vec<u8> {
    pack(&(kind::INDEX_TASK, bucket.0, index, task))
}

/// The queued tasks of an index.
#[must_use]
pub fn queued_task_prefix(bucket: BucketId, index: u32) -> Vec<u8> {
    pack(&(kind::INDEX_TASK, bucket.0, index))
}

/// The queued tasks of a bucket.
#[must_use]
pub fn queued_tasks_of(bucket: BucketId) -> Vec<u8> {
    pack(&(kind::INDEX_TASK, bucket.0))
}

/// # Errors
/// When the key is no `index-task` key.
pub fn parse_queued_task(key: &[u8]) -> Result<(BucketId, u32, u16), DecodeError> {
    let (_, bucket, index, task): (u16, u64, u32, u16) = decode("index-task", key)?;
    Ok((BucketId(bucket), index, task))
}

/// `index-task-signal`: rewritten when there may be a task that was not there
/// or could not go on, so that workers can watch it.
#[must_use]
pub fn task_signal() -> Vec<u8> {
    pack(&(kind::INDEX_TASK_SIGNAL,))
}
