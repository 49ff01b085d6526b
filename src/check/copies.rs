//! Copies that are being made: the queue, the progress, and what is kept for them.

use super::finding::{Kind, Report};
use super::look::{Look, Row};
use crate::codec::record::{self, BucketRecord, CopyPhase, CopyRecord, State};
use crate::codec::{BucketId, keys, readable};
use crate::document::carry::{reader_name, reader_of};
use crate::document::replica;
use crate::store::Result;

/// A row of the queue: a copy that somebody still works on.
pub(super) async fn queued(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    report.expect_empty(value);
    let Some((source, copy)) = report.decoded(keys::copy::parse_queued(key)) else {
        return Ok(());
    };
    let is_copy = |record: &BucketRecord| record.copy.is_some_and(|of| of.source == source);
    match look.bucket(copy).await? {
        Row::Is(record) if is_copy(&record) => {}
        Row::Broken => {}
        Row::Is(_) | Row::Absent => report.add(
            Kind::Dangling,
            format!("the bucket {copy} is no copy of {source}"),
            "no row of what nobody has to work on",
        ),
    }
    Ok(())
}

/// `data/<copy>/copy`.
pub(super) fn progress(
    look: &Look,
    report: &mut Report<'_>,
    bucket: &BucketRecord,
    key: &[u8],
    value: &[u8],
) {
    let known = keys::parse_data(key).map(|(bucket, _)| keys::copy::progress(bucket));
    if known.is_ok_and(|known| known != key) {
        report.add(Kind::UnknownKey, "a copy has one row, and this is another key", "none");
    }
    if bucket.copy.is_none() {
        report.add(
            Kind::Leftover,
            format!("the bucket '{}' is no copy", bucket.name),
            "no row of a bucket that is no copy",
        );
    }
    let row: Option<CopyRecord> = report.decoded(record::decode("copy", value));
    let Some(row) = row else { return };
    look.expect_past(report, row.registered.version());
    for position in &row.positions {
        look.expect_past(report, position.version());
    }
    if row.positions.len() != bucket.shards.len() {
        report.add(
            Kind::Contradiction,
            format!("it follows {} shards of the change log", row.positions.len()),
            format!("one position for each of {:?}", bucket.shards),
        );
    }
}

/// What stands beside the record of a bucket that is a copy, or whose writers wait.
pub(super) async fn of_record(
    look: &Look,
    report: &mut Report<'_>,
    id: BucketId,
    bucket: &BucketRecord,
) -> Result<()> {
    if bucket.paused.is_some() && bucket.state != State::Active {
        report.add(
            Kind::Contradiction,
            "it is removed, but its writers wait for a swap",
            "no pause of a removed bucket",
        );
    }
    let Some(of) = bucket.copy else { return Ok(()) };
    let progress = keys::copy::progress(id);
    let Row::Is(row) = look.record::<CopyRecord>("copy", &progress).await? else {
        if !look.exists(&progress).await? {
            report.add(
                Kind::Missing,
                "it is a copy, but nothing tells how far",
                readable::key(&progress),
            );
        }
        return Ok(());
    };
    let reader = keys::feed::replica(of.source, &reader_name(id));
    let queued = keys::copy::queued(of.source, id);
    if row.phase == CopyPhase::Failed {
        for (key, wrong) in [
            (reader, "it has failed, but the log of its source is kept for it"),
            (queued, "it has failed, but stands in the queue"),
        ] {
            if look.exists(&key).await? {
                report.add(Kind::Leftover, wrong, format!("no {}", readable::key(&key)));
            }
        }
        return Ok(());
    }
    if bucket.state != State::Active {
        report.add(
            Kind::Contradiction,
            "it is removed, but its copying has not ended",
            "a copy that has failed",
        );
    }
    look.expect(report, &queued, "it is a copy that nobody works on").await?;
    // With its source purged the log is gone; the work on it finds out.
    if !look.bucket(of.source).await?.is_absent() {
        look.expect(report, &reader, "the log of its source is not kept for it").await?;
    }
    Ok(())
}

/// A reader inside the cluster: the copy that reads must be there.
pub(super) async fn reader(
    look: &Look,
    report: &mut Report<'_>,
    source: BucketId,
    name: &str,
) -> Result<()> {
    if !replica::is_internal(name) {
        return Ok(());
    }
    let reads = match reader_of(name) {
        Some(copy) => match look.bucket(copy).await? {
            Row::Is(record) => record.copy.is_some_and(|of| of.source == source),
            Row::Broken => true,
            Row::Absent => false,
        },
        None => false,
    };
    if !reads {
        report.add(
            Kind::Leftover,
            "no copy reads here, but the log is kept for it",
            "no reader of a copy that is gone",
        );
    }
    Ok(())
}
