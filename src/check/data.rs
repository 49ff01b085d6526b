//! What lies below `data/<bucket>/`, key by key.

use bson::oid::ObjectId;
use bytes::Bytes;

use super::finding::{Kind, Report};
use super::look::{Look, Owner};
use crate::codec::record::{self, BucketRecord, State};
use crate::codec::{BucketId, keys, readable};
use crate::document::{Home, Limits, Reference, Stored};
use crate::store::limits::TRANSACTION_BYTES_MAX;
use crate::store::{RangeRead, Result};
use crate::value::{Value, raw};

/// Gives the key to go on at when the rest of the prefix need not be looked at.
pub(super) async fn data(
    look: &mut Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &Bytes,
) -> Result<Option<Vec<u8>>> {
    let Some((bucket, part)) = report.decoded(keys::parse_data(key)) else { return Ok(None) };
    let rest = || Some(keys::after(&keys::data_prefix(bucket)));
    let record = match look.owner(bucket).await? {
        Owner::Bucket(record) => record,
        Owner::Waiting | Owner::Unclear => return Ok(rest()),
        Owner::Dropped => {
            orphaned(report, bucket, "its prefix was dropped");
            return Ok(rest());
        }
        Owner::Nobody => {
            orphaned(report, bucket, "it has neither a record nor a reclaim job");
            return Ok(rest());
        }
    };
    match part {
        keys::data::CHANGE => {
            if let Some((_, shard, version, _)) = report.decoded(keys::parse_change(key)) {
                look.expect_past(report, version);
                expect_shard(report, &record, shard);
            }
            report.decoded(record::decode_change(value));
        }
        keys::data::COUNT => count(report, &record, key, value),
        keys::data::TRIM => {
            report.expect_empty(value);
            trim(look, report, &record, key).await?;
        }
        keys::data::DOCUMENT => {
            document(look, report, &Home::of_record(bucket, &record), key, value).await?;
        }
        keys::data::BODY => {
            report.decoded(keys::parse_body_chunk(key));
        }
        other => report.add(
            Kind::UnknownKey,
            format!("buckets have no part {other}"),
            "a part in docs/keyspace.md that is in use",
        ),
    }
    Ok(None)
}

async fn document(
    look: &Look,
    report: &mut Report<'_>,
    home: &Home,
    key: &[u8],
    value: &Bytes,
) -> Result<()> {
    let Some((_, id)) = report.decoded(keys::parse_document(key)) else { return Ok(()) };
    let mut damaged = |wrong: String| {
        report.add(Kind::DamagedDocument, wrong, "the document as it was written");
    };
    let stored = match Stored::decode(value) {
        Ok(stored) => stored,
        Err(error) => {
            damaged(error.to_string());
            return Ok(());
        }
    };
    if let Stored::Reference(reference) = &stored {
        if reference.length() as usize > TRANSACTION_BYTES_MAX {
            damaged(format!("it says that it has {} bytes", reference.length()));
            return Ok(());
        }
        if let Some(piece) = beyond(look, home, reference).await? {
            damaged(format!("{} lies behind its last piece", readable::key(&piece)));
        }
    }
    let document = match look.document(stored, home).await? {
        Ok(document) => document,
        Err(wrong) => {
            damaged(wrong);
            return Ok(());
        }
    };
    if let Err(malformed) = raw::validate(document.bytes(), Limits::default().depth_max) {
        damaged(format!("no valid BSON: {} at byte {}", malformed.what, malformed.at));
        return Ok(());
    }
    let own = document.raw().get(b"_id").map(|field| field.value());
    if !matches!(own, Some(Value::ObjectId(own)) if own == ObjectId::from_bytes(id)) {
        damaged("its _id is not the one in its key".to_owned());
    }
    Ok(())
}

/// A piece of a body behind the last that its document has.
async fn beyond(look: &Look, home: &Home, reference: &Reference) -> Result<Option<Bytes>> {
    let begin = keys::body_chunk(home.bucket(), reference.body(), reference.chunks());
    let end = keys::after(&keys::body_prefix(home.bucket(), reference.body()));
    let page = look.range(RangeRead::new(begin, end).limit(1)).await?;
    Ok(page.rows.into_iter().next().map(|(key, _)| key))
}

/// One finding for all that lies below the prefix.
fn orphaned(report: &mut Report<'_>, bucket: BucketId, why: &str) {
    report.add(
        Kind::OrphanedData,
        format!("the bucket {bucket} is gone ({why}), but keys lie below its prefix, this first"),
        "no key of a bucket that is gone",
    );
}

fn expect_shard(report: &mut Report<'_>, record: &BucketRecord, shard: u16) {
    if !record.shards.contains(&shard) {
        report.add(
            Kind::Contradiction,
            format!("the bucket '{}' does not lie on shard {shard}", record.name),
            format!("one of its shards, {:?}", record.shards),
        );
    }
}

fn count(report: &mut Report<'_>, record: &BucketRecord, key: &[u8], value: &[u8]) {
    if let Some((_, shard, what)) = report.decoded(keys::parse_count(key)) {
        expect_shard(report, record, shard);
        if ![keys::counted::DOCUMENTS, keys::counted::BYTES].contains(&what) {
            report.add(
                Kind::UnknownKey,
                format!("counters count nothing of kind {what}"),
                "documents or bytes",
            );
        }
    }
    report.decoded(record::decode_sum("count", Some(value)));
}

async fn trim(
    look: &Look,
    report: &mut Report<'_>,
    record: &BucketRecord,
    key: &[u8],
) -> Result<()> {
    let Some((bucket, at)) = report.decoded(keys::parse_trim(key)) else { return Ok(()) };
    let due = keys::expiry(at, keys::due::TRIM, &bucket.0.to_be_bytes());
    // While it is removed its log stands still, and a trim that came due is set aside.
    if record.state == State::Active && !look.exists(&due).await? {
        report.add(
            Kind::Missing,
            "the queue of what is due does not have this trim",
            readable::key(&due),
        );
    }
    Ok(())
}
