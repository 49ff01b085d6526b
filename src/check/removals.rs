//! Removals and what lists them.

use super::finding::{Kind, Report};
use super::look::{Look, Row, number};
use crate::codec::record::{
    self, GraveRecord, HoldRecord, ReclaimRecord, RemovalRecord, RequestRecord, RetentionRecord,
    State,
};
use crate::codec::{NamespaceId, ObjectKind, RemovalId, Versionstamp, keys};
use crate::store::Result;

pub(super) async fn removal(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let id = report.decoded(keys::parse_number("removal", key));
    let decoded = report.decoded(record::decode_versioned::<RemovalRecord>("removal", value));
    let Some((id, (version, record))) = id.zip(decoded) else { return Ok(()) };
    look.expect_reserved(report, id);
    look.expect_past(report, version);
    let removal = RemovalId(id);
    let (object, kind) = (record.object, record.object.kind());
    match look.instance(object).await? {
        Row::Absent => report.add(
            Kind::Dangling,
            format!("its {} {object} has no record", kind.name()),
            format!("the record of a removed {}", kind.name()),
        ),
        Row::Is(is) if is.state != State::Removed => report.add(
            Kind::Contradiction,
            format!("its {} {object} is active", kind.name()),
            format!("a removed {}", kind.name()),
        ),
        Row::Is(is) if is.parent != record.namespace || is.name != record.name => {
            report.add(
                Kind::Contradiction,
                format!("its {} has the name '{}' in {}", kind.name(), is.name, is.parent),
                format!("'{}' in {}", record.name, record.namespace),
            );
        }
        Row::Is(_) | Row::Broken => {}
    }
    let (of, own) = (keys::removal_of(object.number()), id.to_be_bytes());
    expect_value(look, report, &of, &own, "removal-of").await?;
    let by_name = keys::removed_by_name(kind, record.namespace, &record.name, removal);
    expect_value(look, report, &by_name, version.as_bytes(), "removed-by-name").await?;
    for namespace in keys::lists_of(record.namespace) {
        let by_time = keys::removed_by_time(kind, namespace, version);
        expect_value(look, report, &by_time, &own, "removed-by-time").await?;
    }
    if record.reserved {
        let reserved = keys::reserved_name(kind, record.namespace, &record.name);
        expect_value(look, report, &reserved, &own, "reserved-name").await?;
    }
    for (key, what) in [(keys::grave(removal), "grave"), (keys::reclaim(removal), "reclaim job")] {
        if look.exists(&key).await? {
            report.add(
                Kind::Contradiction,
                format!("it waits for its purge, but has a {what} already"),
                "no removal record after the purge",
            );
        }
    }
    let held = look.exists(&keys::hold(removal)).await?;
    if held {
        let number = object.number();
        super::guards::expect(look, report, keys::guard::HOLD, record.namespace, number).await?;
    }
    let retention = look.retention(removal).await?;
    if let Row::Is(row) = &retention
        && !row.promise.is_none()
    {
        let number = object.number();
        super::guards::expect(look, report, keys::guard::LOCK, record.namespace, number).await?;
    }
    match retention {
        Row::Absent => report.add(Kind::Missing, "it has no retention", "a retention row"),
        // What is on hold, and what is kept for ever, is not in the queue.
        Row::Is(RetentionRecord { expires_at: Some(at), .. }) if !held => {
            let due = keys::expiry(at, keys::due::REMOVAL, &id.to_be_bytes());
            let above = look.above(record.namespace).await?;
            let waits = above.going || look.is_parked(&above, at, keys::due::REMOVAL, &own).await?;
            if !waits && !look.exists(&due).await? {
                report.add(
                    Kind::Missing,
                    "it expires, but the queue of what is due does not have it",
                    crate::codec::readable::key(&due),
                );
            }
        }
        Row::Is(_) | Row::Broken => {}
    }
    Ok(())
}

/// Reports a row that does not hold what a removal needs.
async fn expect_value(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
    what: &str,
) -> Result<()> {
    let expected = || crate::codec::readable::key(key);
    match look.get(key).await? {
        None => report.add(Kind::Missing, format!("its {what} row is missing"), expected()),
        Some(found) if found[..] != *value => report.add(
            Kind::Contradiction,
            format!("its {what} row is about something else"),
            expected(),
        ),
        Some(_) => {}
    }
    Ok(())
}

/// `retention`, `hold` and `request`: what a removal has beside it.
pub(super) async fn beside_removal(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
    kind: u16,
) -> Result<()> {
    let id = report.decoded(keys::parse_number("number", key));
    match kind {
        keys::kind::RETENTION => {
            report.decoded(record::decode::<RetentionRecord>("retention", value));
        }
        keys::kind::HOLD => {
            report.decoded(record::decode::<HoldRecord>("hold", value));
        }
        _ => {
            report.decoded(record::decode::<RequestRecord>("request", value));
        }
    }
    if let Some(id) = id
        && look.removal(RemovalId(id)).await?.is_absent()
    {
        report.add(
            Kind::Dangling,
            format!("there is no removal {}", RemovalId(id)),
            "a row of a removal that waits",
        );
    }
    Ok(())
}

pub(super) async fn removed_by_name(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let Some(kind) = report.decoded(keys::object_kind_of(key)) else { return Ok(()) };
    let parsed = report.decoded(keys::parse_removed_by_name(key));
    let version = report.decoded(Versionstamp::decode(value));
    let Some(((namespace, name, id), version)) = parsed.zip(version) else { return Ok(()) };
    match look.removal(id).await? {
        Row::Absent => {
            report.add(Kind::Dangling, format!("there is no removal {id}"), "a removal that waits");
        }
        Row::Is((at, record))
            if at != version
                || record.object.kind() != kind
                || record.namespace != namespace
                || record.name != name =>
        {
            report.add(
                Kind::Contradiction,
                format!("removal {id} is of '{}' in {} at {at}", record.name, record.namespace),
                "the removal's own namespace, name and version",
            );
        }
        Row::Is(_) | Row::Broken => {}
    }
    Ok(())
}

pub(super) async fn removed_by_time(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let Some(kind) = report.decoded(keys::object_kind_of(key)) else { return Ok(()) };
    let parsed = report.decoded(keys::parse_removed_by_time(key));
    let id = report.decoded(number("removed-by-time", value));
    let Some(((namespace, version), id)) = parsed.zip(id) else { return Ok(()) };
    let id = RemovalId(id);
    let found = match look.removal(id).await? {
        Row::Is((at, record)) => Some((at, record.namespace, record.object)),
        Row::Broken => return Ok(()),
        // It stays listed while its bytes are being reclaimed.
        Row::Absent => match look.record::<ReclaimRecord>("reclaim", &keys::reclaim(id)).await? {
            Row::Is(job) => Some((job.version, job.namespace, job.object)),
            Row::Broken => return Ok(()),
            Row::Absent => None,
        },
    };
    match found {
        None => report.add(
            Kind::Dangling,
            format!("removal {id} neither waits nor is being reclaimed"),
            "a removal or a reclaim job",
        ),
        Some((at, of, object))
            if at != version
                || object.kind() != kind
                || (namespace != of && namespace != NamespaceId::ROOT) =>
        {
            report.add(
                Kind::Contradiction,
                format!("removal {id} is of {of} at {at}"),
                "the removal's own namespace, or the root, and version",
            );
        }
        Some(_) => {}
    }
    Ok(())
}

pub(super) async fn removal_of(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let object = report.decoded(keys::parse_number("removal-of", key));
    let id = report.decoded(number("removal-of", value));
    let Some((object, id)) = object.zip(id) else { return Ok(()) };
    let id = RemovalId(id);
    let found = match look.removal(id).await? {
        Row::Is((_, record)) => Some(record.object),
        Row::Broken => return Ok(()),
        // The grave keeps the way from a purged bucket to its purge.
        Row::Absent => match look.record::<GraveRecord>("grave", &keys::grave(id)).await? {
            Row::Is(grave) => Some(grave.object),
            Row::Broken => return Ok(()),
            Row::Absent => None,
        },
    };
    match found {
        None => report.add(
            Kind::Dangling,
            format!("removal {id} has neither record nor grave"),
            "a removal that waits, or a grave",
        ),
        Some(of) if of.number() != object => report.add(
            Kind::Contradiction,
            format!("removal {id} is of the {} {of}", of.kind().name()),
            format!("a removal of number {object}"),
        ),
        Some(_) => {}
    }
    Ok(())
}

pub(super) async fn reserved_name(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let Some(kind) = report.decoded(keys::object_kind_of(key)) else { return Ok(()) };
    let parsed = report.decoded(keys::parse_reserved_name(key));
    let id = report.decoded(number("reserved-name", value));
    let Some(((namespace, name), id)) = parsed.zip(id) else { return Ok(()) };
    let id = RemovalId(id);
    match look.removal(id).await? {
        Row::Absent => report.add(
            Kind::Dangling,
            format!("there is no removal {id}, so the name is taken for ever"),
            "a removal that waits",
        ),
        Row::Is((_, record))
            if !record.reserved
                || record.object.kind() != kind
                || record.namespace != namespace
                || record.name != name =>
        {
            report.add(
                Kind::Contradiction,
                format!("removal {id} does not reserve this name"),
                "the name that the removal reserves",
            );
        }
        Row::Is(_) | Row::Broken => {}
    }
    let pointer = match kind {
        ObjectKind::Bucket => keys::bucket_name(namespace, &name),
        ObjectKind::Namespace => keys::namespace_name(namespace, &name),
    };
    if look.exists(&pointer).await? {
        report.add(
            Kind::Contradiction,
            format!("an active {} has the name though it is reserved", kind.name()),
            "nothing active of a reserved name",
        );
    }
    Ok(())
}
