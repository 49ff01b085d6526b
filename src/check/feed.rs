//! The readers of a change log, where its shards end, and its floor.

use super::data::expect_shard;
use super::finding::{Kind, Report};
use super::look::Look;
use crate::codec::record::{self, BucketRecord, ReplicaRecord};
use crate::codec::{BucketId, Sequence, Versionstamp, keys, readable};
use crate::store::{RangeRead, Result};

pub(super) async fn replica(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let name = report.decoded(keys::feed::parse_replica(key));
    let row: Option<ReplicaRecord> = report.decoded(record::decode("replica", value));
    let Some(((bucket, name), replica)) = name.zip(row) else { return Ok(()) };
    look.expect_past(report, replica.checkpoint.version());
    if look.bucket(bucket).await?.is_absent() {
        let wrong = format!("there is no bucket {bucket}");
        report.add(Kind::Dangling, wrong, "the record of a bucket");
        return Ok(());
    }
    super::copies::reader(look, report, bucket, &name).await?;
    let registered = keys::feed::registered(bucket);
    if !look.exists(&registered).await? {
        report.add(Kind::Missing, "nobody noted that it registered", readable::key(&registered));
    }
    if replica.lease_ms.is_some() != replica.lease_until.is_some() {
        report.add(Kind::Contradiction, "its lease has no end, or its end no lease", "both");
    }
    if let Some(value) = look.get(&keys::feed::floor(bucket)).await?
        && let Ok(floor) = Sequence::decode(&value)
        && replica.checkpoint < floor
        && !replica.stale
    {
        report.add(
            Kind::Contradiction,
            format!("what it has not read is gone, up to {floor}, and it does not know"),
            "a checkpoint at the floor or above, or a replica that is stale",
        );
    }
    Ok(())
}

pub(super) fn floor(look: &Look, report: &mut Report<'_>, key: &[u8], value: &[u8]) {
    let bucket = keys::parse_data(key).map(|(bucket, _)| bucket);
    if bucket.is_ok_and(|bucket| keys::feed::floor(bucket) != key) {
        report.add(Kind::UnknownKey, "there is one floor, and this is another key", "none");
    }
    if let Some(floor) = report.decoded(Sequence::decode(value)) {
        look.expect_past(report, floor.version());
    }
}

/// The end of a shard of the log: nothing in it is newer.
pub(super) async fn head(
    look: &Look,
    report: &mut Report<'_>,
    record: &BucketRecord,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let Some((bucket, shard)) = report.decoded(keys::feed::parse_head(key)) else { return Ok(()) };
    expect_shard(report, record, shard);
    let Some(version) = report.decoded(Versionstamp::decode(value)) else { return Ok(()) };
    look.expect_past(report, version);
    let last = RangeRead::prefix(keys::change_prefix(bucket, shard)).reverse().limit(1);
    if let Some((last, _)) = look.range(last).await?.rows.first()
        && let Ok((_, _, newest, _)) = keys::parse_change(last)
        && newest > version
    {
        report.add(
            Kind::Contradiction,
            format!("the change log goes on to {newest}"),
            "the version of the last change: who waits for the next one watches it",
        );
    }
    Ok(())
}

/// Of the changes of a shard the first one tells whether its end is noted.
pub(super) async fn change(
    look: &Look,
    report: &mut Report<'_>,
    bucket: BucketId,
    shard: u16,
    key: &[u8],
) -> Result<()> {
    let begin = keys::change_prefix(bucket, shard);
    let is_first = look.range(RangeRead::new(begin, key.to_vec()).limit(1)).await?.rows.is_empty();
    let head = keys::feed::head(bucket, shard);
    if is_first && !look.exists(&head).await? {
        let wrong = "nothing tells where its shard of the change log ends";
        report.add(Kind::Missing, wrong, readable::key(&head));
    }
    Ok(())
}
