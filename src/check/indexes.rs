//! Indexes: each entry against its document, each document against its
//! entries, and what stands beside them.
//!
//! Not here: whether the counters are exact (`totals`).

use bson::oid::ObjectId;
use bytes::Bytes;

use super::finding::{Kind, Report};
use super::look::{Look, Row};
use crate::codec::record::{
    self, BucketRecord, HistogramRecord, IndexRecord, IndexStatus, IndexTaskRecord, TaskKind,
};
use crate::codec::{BucketId, keys, readable};
use crate::document::{Document, Home, Stored};
use crate::index::{self, Index};
use crate::store::Result;

/// Whether this is a part that belongs to indexes; if so, it has been looked at.
pub(super) async fn part(
    look: &Look,
    report: &mut Report<'_>,
    (bucket, record): (BucketId, &BucketRecord),
    part: u16,
    key: &[u8],
    value: &Bytes,
) -> Result<bool> {
    match part {
        keys::data::INDEX => entry(look, report, (bucket, record), key, value).await?,
        keys::data::INDEX_MARK => {
            report.expect_empty(value);
            if let Some((_, id, field, what)) = report.decoded(keys::index::parse_mark(key))
                && let Some(index) = find(report, record, id)
            {
                let known = [keys::index::marked::ARRAY, keys::index::marked::CUT];
                if usize::from(field) >= index.fields.len() || !known.contains(&what) {
                    report.add(
                        Kind::UnknownKey,
                        format!("there is no mark {what} of a field {field}"),
                        "a mark of a field of the index",
                    );
                }
            }
        }
        keys::data::INDEX_COUNT => {
            if let Some((_, id, shard)) = report.decoded(keys::index::parse_count(key)) {
                find(report, record, id);
                super::data::expect_shard(report, record, shard);
            }
            report.decoded(record::decode_sum("index-count", Some(value)));
        }
        keys::data::INDEX_TASK => task(look, report, (bucket, record), key, value).await?,
        keys::data::HISTOGRAM => {
            report.decoded(record::decode::<HistogramRecord>("histogram", value));
            if let Some((_, id)) = report.decoded(keys::index::parse_histogram(key)) {
                find(report, record, id);
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The index of this number, or a finding.
fn find<'a>(report: &mut Report<'_>, record: &'a BucketRecord, id: u32) -> Option<&'a IndexRecord> {
    let found = record.indexes.iter().find(|index| index.id == id);
    if found.is_none() {
        report.add(
            Kind::Dangling,
            format!("the bucket '{}' has no index {id}", record.name),
            "nothing of an index that is gone",
        );
    }
    found
}

async fn entry(
    look: &Look,
    report: &mut Report<'_>,
    (bucket, record): (BucketId, &BucketRecord),
    key: &[u8],
    value: &Bytes,
) -> Result<()> {
    let Some(entry) = report.decoded(keys::index::parse_entry(key)) else { return Ok(()) };
    let Some(index) = find(report, record, entry.index) else { return Ok(()) };
    if index.status == IndexStatus::Failed {
        report.add(
            Kind::Leftover,
            format!("the index '{}' has failed", index.name),
            "no entry of an index that has failed",
        );
        return Ok(());
    }
    let made = Index::new(index.clone());
    if made.is_stale() {
        // Only who has that data can tell.
        return Ok(());
    }
    let home = Home::of_record(bucket, record);
    let id = ObjectId::from_bytes(entry.id);
    let Some(stored) = look.get(&home.key(&id)).await? else {
        report.add(
            Kind::Dangling,
            format!("there is no document {id}"),
            "an entry of a document that is there",
        );
        return Ok(());
    };
    let Some(document) = document(look, &home, &stored).await? else { return Ok(()) };
    let wanted = index::entries(&made, document.raw(), false);
    let wanted = wanted.unwrap_or_default();
    match wanted.rows.iter().find(|(values, _)| values == entry.values) {
        None => report.add(
            Kind::Contradiction,
            format!("the document {id} does not have these values"),
            "an entry of what the document holds",
        ),
        Some((_, held)) if held[..] != value[..] => report.add(
            Kind::Contradiction,
            format!("it holds {}", readable::hex(value)),
            format!("what the document {id} holds: {}", readable::hex(held)),
        ),
        Some(_) => {}
    }
    Ok(())
}

/// `None`: it is damaged, which is a finding of its own.
async fn document(look: &Look, home: &Home, value: &Bytes) -> Result<Option<Document>> {
    let Ok(stored) = Stored::decode(value) else { return Ok(None) };
    Ok(look.document(stored, home).await?.ok())
}

/// The entries and marks that a document must have in all indexes that are ready.
pub(super) async fn of_document(
    look: &Look,
    report: &mut Report<'_>,
    home: &Home,
    id: &ObjectId,
    document: &Document,
) -> Result<()> {
    for index in home.indexes().ready() {
        let wanted = index::entries(index, document.raw(), false).unwrap_or_default();
        let prefix = keys::index::entries(home.bucket(), index.id());
        let entries =
            wanted.rows.iter().map(|(values, _)| [&prefix[..], values, &id.bytes()].concat());
        let marks = wanted
            .marks
            .iter()
            .map(|(field, what)| keys::index::mark(home.bucket(), index.id(), *field, *what));
        for key in entries.chain(marks) {
            let wrong =
                format!("the index '{}' does not have what it must have of it", index.name());
            look.expect(report, &key, wrong).await?;
        }
    }
    Ok(())
}

async fn task(
    look: &Look,
    report: &mut Report<'_>,
    (bucket, record): (BucketId, &BucketRecord),
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let task = report.decoded(record::decode_versioned::<IndexTaskRecord>("task", value));
    let parsed = report.decoded(keys::index::parse_task(key));
    let Some(((version, task), (_, id, kind))) = task.zip(parsed) else { return Ok(()) };
    look.expect_past(report, version);
    expect_kind(report, kind);
    find(report, record, id);
    let queued = keys::index::queued_task(bucket, id, kind);
    if task.status.is_open() {
        look.expect(report, &queued, "it is open, but the queue does not have it").await?;
    }
    Ok(())
}

fn expect_kind(report: &mut Report<'_>, kind: u16) {
    if TaskKind::from_number(kind).is_none() {
        report.add(Kind::UnknownKey, format!("there is no task {kind}"), "a build or an analysis");
    }
}

/// A row of the queue.
pub(super) async fn queued(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    report.expect_empty(value);
    let Some((bucket, id, kind)) = report.decoded(keys::index::parse_queued_task(key)) else {
        return Ok(());
    };
    expect_kind(report, kind);
    match look.bucket(bucket).await? {
        Row::Absent => {
            report.add(
                Kind::Dangling,
                format!("there is no bucket {bucket}"),
                "the record of a bucket",
            );
            return Ok(());
        }
        Row::Broken => return Ok(()),
        Row::Is(record) => {
            find(report, &record, id);
        }
    }
    let task = keys::index::task(bucket, id, kind);
    let open = match look.get(&task).await? {
        None => false,
        Some(value) => record::decode_versioned::<IndexTaskRecord>("task", &value)
            .is_ok_and(|(_, task)| task.status.is_open()),
    };
    if !open {
        report.add(Kind::Missing, "there is no open task of it", readable::key(&task));
    }
    Ok(())
}

/// What must stand beside the record of a bucket.
pub(super) async fn of_record(
    look: &Look,
    report: &mut Report<'_>,
    bucket: BucketId,
    record: &BucketRecord,
) -> Result<()> {
    for index in &record.indexes {
        let twice = record.indexes.iter().filter(|other| other.id == index.id).count() > 1;
        if twice || index.id >= record.next_index {
            report.add(
                Kind::IdBeyondCounter,
                format!("its index '{}' has the number {}", index.name, index.id),
                format!("different numbers below {}", record.next_index),
            );
        }
        let build = keys::index::task(bucket, index.id, TaskKind::Build.number());
        if index.status == IndexStatus::Building && !look.exists(&build).await? {
            report.add(
                Kind::Missing,
                format!("its index '{}' is being built by nobody", index.name),
                readable::key(&build),
            );
        }
    }
    Ok(())
}
