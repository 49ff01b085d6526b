//! What is kept per namespace for what lies below it: guards, and what is parked.

use super::finding::{Kind, Report};
use super::look::{Look, Row, number};
use crate::codec::keys::due;
use crate::codec::record::{BucketRecord, NamespaceRecord, State};
use crate::codec::{BucketId, NamespaceId, RemovalId, keys};
use crate::store::{RangeRead, Result};

/// Reports something guarded that its parent has no row of.
pub(super) async fn expect(
    look: &Look,
    report: &mut Report<'_>,
    what: u16,
    parent: NamespaceId,
    child: u64,
) -> Result<()> {
    if parent == NamespaceId::ROOT {
        return Ok(());
    }
    let row = keys::guard(what, parent, child);
    look.expect(report, &row, "what is above it does not know that it is guarded").await
}

pub(super) async fn guard(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    report.expect_empty(value);
    let Some((what, parent, child)) = report.decoded(keys::parse_guard(key)) else {
        return Ok(());
    };
    let (bucket, namespace) =
        (look.bucket(BucketId(child)).await?, look.namespace(NamespaceId(child)).await?);
    let found = match (&bucket, &namespace) {
        (Row::Broken, _) | (_, Row::Broken) => return Ok(()),
        (Row::Is(BucketRecord { namespace, protected, .. }), _) => {
            Some((*namespace, *protected, false))
        }
        (_, Row::Is(NamespaceRecord { parent, protected, state, policy, .. })) => {
            Some((*parent, *protected, *state == State::Active && policy.binds()))
        }
        (Row::Absent, Row::Absent) => None,
    };
    let Some((within, protected, binds)) = found.filter(|(within, ..)| *within == parent) else {
        report.add(
            Kind::Dangling,
            format!("there is no number {child} in {parent}"),
            "a bucket or a namespace that is in it",
        );
        return Ok(());
    };
    let itself = match what {
        keys::guard::PROTECTION => protected,
        keys::guard::POLICY => binds,
        keys::guard::HOLD => is_held(look, child).await?,
        keys::guard::LOCK => is_locked(look, child).await?,
        _ => {
            report.add(Kind::UnknownKey, format!("a guard of kind {what}"), "a kind from 1 to 4");
            return Ok(());
        }
    };
    let below = RangeRead::prefix(keys::guard_prefix(what, NamespaceId(child))).limit(1);
    if !itself && look.range(below).await?.rows.is_empty() {
        report.add(
            Kind::Contradiction,
            "neither it nor anything below it is guarded",
            "something protected, on hold, bound by a policy, or promised a time",
        );
    }
    if let Row::Is(record) = look.namespace(within).await? {
        expect(look, report, what, record.parent, within.0).await?;
    }
    Ok(())
}

async fn is_held(look: &Look, object: u64) -> Result<bool> {
    match look.pointer(&keys::removal_of(object)).await? {
        Row::Is(removal) => look.exists(&keys::hold(RemovalId(removal))).await,
        Row::Broken => Ok(true),
        Row::Absent => Ok(false),
    }
}

async fn is_locked(look: &Look, object: u64) -> Result<bool> {
    Ok(match look.pointer(&keys::removal_of(object)).await? {
        Row::Is(removal) => match look.retention(RemovalId(removal)).await? {
            Row::Is(retention) => !retention.promise.is_none(),
            Row::Broken => true,
            Row::Absent => false,
        },
        Row::Broken => true,
        Row::Absent => false,
    })
}

/// What is parked may be stale: whoever puts it back looks. But it must be put back.
pub(super) async fn parked(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    report.expect_empty(value);
    let Some((namespace, _, what, id)) = report.decoded(keys::parse_parked(key)) else {
        return Ok(());
    };
    if ![due::REMOVAL, due::TRIM, due::VACUUM, due::TTL].contains(&what) {
        report.add(
            Kind::UnknownKey,
            format!("something of kind {what} is parked"),
            "a removal, a trim, a vacuum or a TTL",
        );
    }
    report.decoded(number("parked", &id));
    match look.namespace(namespace).await? {
        Row::Absent => report.add(
            Kind::Dangling,
            format!("there is no namespace {namespace}"),
            "a namespace that is removed",
        ),
        Row::Is(NamespaceRecord { state: State::Active, .. }) => {
            let wrong = format!("the namespace {namespace} is active, and nobody puts it back");
            look.expect(report, &keys::unpark(namespace), wrong).await?;
        }
        Row::Is(_) | Row::Broken => {}
    }
    Ok(())
}
