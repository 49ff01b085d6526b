//! What lies below `data/<bucket>/`, key by key.

use bson::oid::ObjectId;
use bytes::Bytes;

use super::finding::{Kind, Report};
use super::look::{Look, Owner};
use super::{copies, feed, indexes};
use crate::codec::record::{self, BucketRecord, State, TtlProgressRecord};
use crate::codec::{BucketId, Versionstamp, keys, readable};
use crate::document::{Document, Home, Limits, Reference, Stored, Tombstone};
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
        Owner::Bucket(record) => *record,
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
                feed::change(look, report, bucket, shard, key).await?;
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
        keys::data::TOMBSTONE => {
            tombstone(look, report, &Home::of_record(bucket, &record), key, value).await?;
        }
        keys::data::DELETED_BY => {
            if let Some((_, removal, oid)) = report.decoded(keys::parse_deleted_by(key)) {
                expect_tombstone(look, report, &keys::tombstone(bucket, &oid, removal)).await?;
                waits(look, report, key, value).await?;
            }
        }
        keys::data::WAITING => {
            report.expect_empty(value);
            waiting(look, report, &record, key).await?;
        }
        keys::data::REGISTERED if *key == keys::feed::registered(bucket) => {
            if let Some(version) = report.decoded(Versionstamp::decode(value)) {
                look.expect_past(report, version);
            }
        }
        keys::data::EXPIRING => {
            if let Some(version) = report.decoded(Versionstamp::decode(value)) {
                look.expect_past(report, version);
            }
            expiring(look, report, &record, key).await?;
        }
        keys::data::VACUUM => {
            report.expect_empty(value);
            if let Some((_, at)) = report.decoded(keys::parse_vacuum(key)) {
                let due = keys::expiry(at, keys::due::VACUUM, &bucket.0.to_be_bytes());
                expect_due(look, report, &record, &due).await?;
            }
        }
        keys::data::COPY => copies::progress(look, report, &record, key, value),
        keys::data::HEAD => feed::head(look, report, &record, key, value).await?,
        keys::data::ORIGIN => {
            report.decoded(record::decode::<record::OriginRecord>("origin", value));
        }
        keys::data::FLOOR => feed::floor(look, report, key, value),
        keys::data::TTL if *key == keys::ttl(bucket) => {
            if let Some(progress) =
                report.decoded(record::decode::<TtlProgressRecord>("ttl", value))
            {
                let due = keys::expiry(progress.due_at, keys::due::TTL, &bucket.0.to_be_bytes());
                expect_due(look, report, &record, &due).await?;
                if record.ttl.is_none() {
                    let wrong = format!("the bucket '{}' has no TTL", record.name);
                    report.add(Kind::Dangling, wrong, "a TTL of the bucket");
                }
            }
        }
        other if indexes::part(look, report, (bucket, &record), other, key, value).await? => {}
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
    match Stored::decode(value) {
        Ok(stored) => {
            if let Some(document) = body(look, report, home, &id, stored).await? {
                let id = ObjectId::from_bytes(id);
                indexes::of_document(look, report, home, &id, &document).await?;
            }
            Ok(())
        }
        Err(error) => {
            damaged(report, error.to_string());
            Ok(())
        }
    }
}

fn damaged(report: &mut Report<'_>, wrong: String) {
    report.add(Kind::DamagedDocument, wrong, "the document as it was written");
}

/// What a document, or a tombstone, holds, if it can be read.
async fn body(
    look: &Look,
    report: &mut Report<'_>,
    home: &Home,
    id: &[u8; 12],
    stored: Stored,
) -> Result<Option<Document>> {
    if let Stored::Reference(reference) = &stored {
        if reference.length() as usize > TRANSACTION_BYTES_MAX {
            damaged(report, format!("it says that it has {} bytes", reference.length()));
            return Ok(None);
        }
        if let Some(piece) = beyond(look, home, reference).await? {
            let piece = readable::key(&piece);
            damaged(report, format!("{piece} lies behind its last piece"));
        }
    }
    let document = match look.document(stored, home).await? {
        Ok(document) => document,
        Err(wrong) => {
            damaged(report, wrong);
            return Ok(None);
        }
    };
    if let Err(malformed) = raw::validate(document.bytes(), Limits::default().depth_max) {
        let raw::Malformed { what, at } = malformed;
        damaged(report, format!("no valid BSON: {what} at byte {at}"));
        return Ok(None);
    }
    let own = document.raw().get(b"_id").map(|field| field.value());
    if !matches!(own, Some(Value::ObjectId(own)) if own == ObjectId::from_bytes(*id)) {
        damaged(report, "its _id is not the one in its key".to_owned());
    }
    Ok(Some(document))
}

async fn tombstone(
    look: &Look,
    report: &mut Report<'_>,
    home: &Home,
    key: &[u8],
    value: &Bytes,
) -> Result<()> {
    let Some((bucket, oid, removal)) = report.decoded(keys::parse_tombstone(key)) else {
        return Ok(());
    };
    let tombstone = match Tombstone::decode(key, value) {
        Ok(tombstone) => tombstone,
        Err(error) => {
            damaged(report, error.to_string());
            return Ok(());
        }
    };
    look.expect_reserved(report, removal.0);
    let listed = keys::deleted_by(bucket, removal, &oid);
    let at = tombstone.record.expires_at.unwrap_or(keys::NEVER);
    let queued = keys::expiring(bucket, at, removal, &oid);
    let found = look.get(&listed).await?;
    let waits = found.as_ref().is_some_and(|version| !version.is_empty());
    if found.is_none() {
        report.add(Kind::Missing, "its removal does not list it", readable::key(&listed));
    }
    let queue = readable::key(&queued);
    match (waits, look.exists(&queued).await?) {
        (false, false) => report.add(Kind::Missing, "nothing says when it expires", queue),
        (true, true) => {
            report.add(Kind::Contradiction, "it expires, and waits as one that has", "one of both");
        }
        (true, false) | (false, true) => {}
    }
    if let Some(stored) = tombstone.stored {
        body(look, report, home, &oid, stored).await?;
    }
    Ok(())
}

/// What a removal lists and has a version waits for the readers of the change log.
async fn waits(look: &Look, report: &mut Report<'_>, key: &[u8], value: &[u8]) -> Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    let Some(version) = report.decoded(Versionstamp::decode(value)) else { return Ok(()) };
    look.expect_past(report, version);
    let Some((bucket, removal, oid)) = report.decoded(keys::parse_deleted_by(key)) else {
        return Ok(());
    };
    let row = keys::feed::waiting(bucket, version, removal, &oid);
    look.expect(report, &row, "it is not among those that wait").await
}

async fn waiting(
    look: &Look,
    report: &mut Report<'_>,
    record: &BucketRecord,
    key: &[u8],
) -> Result<()> {
    let Some((bucket, version, removal, oid)) = report.decoded(keys::feed::parse_waiting(key))
    else {
        return Ok(());
    };
    let listed = look.get(&keys::deleted_by(bucket, removal, &oid)).await?;
    if listed.is_none_or(|listed| &listed[..] != version.as_bytes()) {
        report.add(Kind::Dangling, "no tombstone waits like this", "a tombstone that waits");
    }
    let readers = RangeRead::prefix(keys::feed::replica_prefix(bucket)).limit(1);
    if look.range(readers).await?.rows.is_empty() {
        expect_look(look, report, record, bucket).await?;
    }
    Ok(())
}

async fn expect_tombstone(look: &Look, report: &mut Report<'_>, tombstone: &[u8]) -> Result<()> {
    if !look.exists(tombstone).await? {
        report.add(Kind::Dangling, "there is no such tombstone", readable::key(tombstone));
    }
    Ok(())
}

async fn expiring(
    look: &Look,
    report: &mut Report<'_>,
    record: &BucketRecord,
    key: &[u8],
) -> Result<()> {
    let Some((bucket, at, removal, oid)) = report.decoded(keys::parse_expiring(key)) else {
        return Ok(());
    };
    let tombstone = keys::tombstone(bucket, &oid, removal);
    match look.get(&tombstone).await?.map(|value| Tombstone::decode(&tombstone, &value)) {
        None => expect_tombstone(look, report, &tombstone).await?,
        Some(Ok(tombstone)) if tombstone.record.expires_at.unwrap_or(keys::NEVER) != at => report
            .add(
                Kind::Contradiction,
                "its tombstone expires at another time",
                "a row at the time that its tombstone says",
            ),
        Some(_) => {}
    }
    if at == keys::NEVER { Ok(()) } else { expect_look(look, report, record, bucket).await }
}

/// Somebody is going to look for what may be destroyed in a bucket.
async fn expect_look(
    look: &Look,
    report: &mut Report<'_>,
    record: &BucketRecord,
    bucket: BucketId,
) -> Result<()> {
    if record.copy.is_some() {
        // Those of a copy are looked for in its source, and what goes there goes here.
        return Ok(());
    }
    let vacuums = RangeRead::prefix(keys::data_part(bucket, keys::data::VACUUM)).limit(1);
    if look.range(vacuums).await?.rows.is_empty() {
        let wrong = "nobody is going to look for what expires in this bucket";
        report.add(Kind::Missing, wrong, "a row below data/<bucket>/vacuum");
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

pub(super) fn expect_shard(report: &mut Report<'_>, record: &BucketRecord, shard: u16) {
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
        let known = [keys::counted::DOCUMENTS, keys::counted::BYTES, keys::counted::TOMBSTONES];
        if !known.contains(&what) {
            report.add(
                Kind::UnknownKey,
                format!("counters count nothing of kind {what}"),
                "documents, bytes or tombstones",
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
    expect_due(look, report, record, &due).await
}

/// While a bucket or a namespace above it is removed its log and its tombstones stand still, and what came due of them is
/// set aside or parked.
async fn expect_due(
    look: &Look,
    report: &mut Report<'_>,
    record: &BucketRecord,
    due: &[u8],
) -> Result<()> {
    if record.state != State::Active || look.exists(due).await? {
        return Ok(());
    }
    let Some((at, what, id)) = report.decoded(keys::parse_expiry(due)) else { return Ok(()) };
    let above = look.above(record.namespace).await?;
    if !above.going && !look.is_parked(&above, at, what, &id).await? {
        report.add(Kind::Missing, "the queue of what is due does not have it", readable::key(due));
    }
    Ok(())
}
