//! What is due, and what a purge leaves behind: expiry rows, operations,
//! graves, reclaim jobs.

use super::finding::{Kind, Report};
use super::look::{Look, Row, number};
use crate::codec::record::{
    self, GraveRecord, OperationRecord, ReclaimRecord, State, TtlProgressRecord,
};
use crate::codec::{BucketId, NamespaceId, Object, RemovalId, keys, readable};
use crate::store::Result;

pub(super) async fn expiry(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    report.expect_empty(value);
    let Some((at, what, id)) = report.decoded(keys::parse_expiry(key)) else { return Ok(()) };
    if what == keys::due::OPERATION {
        return match look.record::<OperationRecord>("operation", &id).await? {
            Row::Absent => {
                report.add(Kind::Dangling, "there is no such operation row", "an operation row");
                Ok(())
            }
            Row::Is(row) if row.until != at => {
                wrong_time(report, row.until);
                Ok(())
            }
            Row::Is(_) | Row::Broken => Ok(()),
        };
    }
    let Some(number) = report.decoded(number("expiry", &id)) else { return Ok(()) };
    match what {
        keys::due::REMOVAL => {
            let removal = RemovalId(number);
            if look.removal(removal).await?.is_absent() {
                let wrong = format!("there is no removal {removal}");
                report.add(Kind::Dangling, wrong, "a removal that waits");
                return Ok(());
            }
            match look.retention(removal).await? {
                Row::Is(row) if row.expires_at != Some(at) => {
                    wrong_time(report, row.expires_at.unwrap_or(i64::MAX));
                }
                Row::Is(_) | Row::Broken | Row::Absent => {}
            }
            if look.exists(&keys::hold(removal)).await? {
                report.add(
                    Kind::Contradiction,
                    format!("removal {removal} is on hold, but in the queue of what is due"),
                    "no row while it is on hold",
                );
            }
        }
        keys::due::GRAVE => {
            let removal = RemovalId(number);
            match look.record::<GraveRecord>("grave", &keys::grave(removal)).await? {
                Row::Absent => {
                    let wrong = format!("there is no grave of removal {removal}");
                    report.add(Kind::Dangling, wrong, "a grave");
                }
                Row::Is(grave) if grave.until != at => wrong_time(report, grave.until),
                Row::Is(_) | Row::Broken => {}
            }
        }
        keys::due::UNPARK => {
            let namespace = NamespaceId(number);
            match look.namespace(namespace).await? {
                Row::Is(record) if record.state == State::Active => {
                    if *key != keys::unpark(namespace) {
                        wrong_time(report, 0);
                    }
                }
                Row::Broken => {}
                Row::Is(_) | Row::Absent => report.add(
                    Kind::Dangling,
                    format!("there is no active namespace {namespace}"),
                    "a namespace that was restored",
                ),
            }
        }
        keys::due::TTL => {
            let bucket = BucketId(number);
            match look.record::<TtlProgressRecord>("ttl", &keys::ttl(bucket)).await? {
                _ if look.bucket(bucket).await?.is_absent() => {
                    let wrong = format!("there is no bucket {bucket}");
                    report.add(Kind::Dangling, wrong, "the record of a bucket");
                }
                Row::Absent => {
                    let wrong = format!("the bucket {bucket} does not know of it");
                    report.add(Kind::Missing, wrong, readable::key(&keys::ttl(bucket)));
                }
                Row::Is(progress) if progress.due_at != at => wrong_time(report, progress.due_at),
                Row::Is(_) | Row::Broken => {}
            }
        }
        keys::due::TRIM | keys::due::VACUUM => {
            let bucket = BucketId(number);
            let known = match what {
                keys::due::TRIM => keys::trim(bucket, at),
                _ => keys::vacuum(bucket, at),
            };
            if look.bucket(bucket).await?.is_absent() {
                let wrong = format!("there is no bucket {bucket}");
                report.add(Kind::Dangling, wrong, "the record of a bucket");
            } else {
                let wrong = format!("the bucket {bucket} does not know of it");
                look.expect(report, &known, wrong).await?;
            }
        }
        other => report.add(
            Kind::UnknownKey,
            format!("something of kind {other} is due"),
            "a removal, an operation, a grave, a trim, a vacuum, a TTL or a namespace that is back",
        ),
    }
    Ok(())
}

fn wrong_time(report: &mut Report<'_>, at: i64) {
    let expected = match at {
        i64::MAX => "no row: it is kept for ever".to_owned(),
        at => format!("a row at {}", crate::codec::duration::format_instant(at)),
    };
    report.add(Kind::Contradiction, "what it points at is due at another time", expected);
}

pub(super) async fn operation(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let parsed = report.decoded(keys::parse_operation(key));
    if let Some((user, id, Some(piece))) = parsed {
        let owner = keys::operation(&user, &id);
        match look.record::<OperationRecord>("operation", &owner).await? {
            Row::Is(row) if piece >= row.pieces => report.add(
                Kind::Dangling,
                format!("the result of the operation has {} pieces", row.pieces),
                readable::key(&owner),
            ),
            Row::Absent => {
                report.add(Kind::Dangling, "there is no such operation row", readable::key(&owner));
            }
            Row::Is(_) | Row::Broken => {}
        }
        return Ok(());
    }
    let row: Option<OperationRecord> = report.decoded(record::decode("operation", value));
    let Some(row) = row else { return Ok(()) };
    expect_due(look, report, &keys::expiry(row.until, keys::due::OPERATION, key)).await?;
    if let Some((user, id, None)) = parsed {
        for piece in 0..row.pieces {
            let key = keys::operation_piece(&user, &id, piece);
            if !look.exists(&key).await? {
                report.add(Kind::Missing, "a piece of its result is missing", readable::key(&key));
                break;
            }
        }
    }
    Ok(())
}

async fn expect_due(look: &Look, report: &mut Report<'_>, due: &[u8]) -> Result<()> {
    look.expect(report, due, "the queue of what is due does not have it, so it is kept for ever")
        .await
}

pub(super) async fn grave(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let id = report.decoded(keys::parse_number("grave", key));
    let row: Option<GraveRecord> = report.decoded(record::decode("grave", value));
    let Some((id, grave)) = id.zip(row) else { return Ok(()) };
    expect_due(look, report, &keys::expiry(grave.until, keys::due::GRAVE, &id.to_be_bytes()))
        .await?;
    expect_gone(look, report, grave.object).await?;
    match look.pointer(&keys::removal_of(grave.object.number())).await? {
        Row::Is(found) if found == id => {}
        Row::Broken => {}
        Row::Absent | Row::Is(_) => report.add(
            Kind::Missing,
            format!("removal-of does not lead from {} to it", grave.object),
            readable::key(&keys::removal_of(grave.object.number())),
        ),
    }
    Ok(())
}

/// Reports what is still there of a purged bucket or namespace.
async fn expect_gone(look: &Look, report: &mut Report<'_>, object: Object) -> Result<()> {
    let record = match object {
        Object::Bucket(id) => keys::bucket_record(id),
        Object::Namespace(id) => keys::namespace_record(id),
    };
    for (key, what) in [(record, "a record"), (keys::fence(object.number()), "a fence")] {
        if look.exists(&key).await? {
            report.add(
                Kind::Contradiction,
                format!("the {} {object} was purged, but has {what}", object.kind().name()),
                format!("nothing of a purged {}", object.kind().name()),
            );
        }
    }
    Ok(())
}

pub(super) async fn reclaim(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let id = report.decoded(keys::parse_number("reclaim", key));
    let job: Option<ReclaimRecord> = report.decoded(record::decode("reclaim", value));
    let Some((id, job)) = id.zip(job) else { return Ok(()) };
    expect_gone(look, report, job.object).await?;
    for namespace in keys::lists_of(job.namespace) {
        let listed = keys::removed_by_time(job.object.kind(), namespace, job.version);
        match look.pointer(&listed).await? {
            Row::Is(found) if found == id => {}
            Row::Broken => {}
            Row::Absent | Row::Is(_) => report.add(
                Kind::Missing,
                "its removed-by-time row is missing",
                readable::key(&listed),
            ),
        }
    }
    Ok(())
}
