//! Namespaces, buckets and fences.

use super::finding::{Kind, Report};
use super::guards;
use super::look::{Look, Row, number};
use crate::codec::record::{self, BucketRecord, NamespaceRecord, State};
use crate::codec::{BucketId, NamespaceId, ObjectKind, RemovalId, Versionstamp, keys, readable};
use crate::metadata::name::DEPTH_MAX;
use crate::store::Result;

pub(super) async fn namespace_name(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let Some((parent, segment)) = report.decoded(keys::parse_namespace_name(key)) else {
        return Ok(());
    };
    let Some(id) = report.decoded(number("namespace/name", value)) else { return Ok(()) };
    let id = NamespaceId(id);
    match look.namespace(id).await? {
        Row::Absent => report.add(
            Kind::Dangling,
            format!("it points at the namespace {id}, which has no record"),
            "the record of an active namespace",
        ),
        Row::Is(record) if record.state != State::Active => report.add(
            Kind::Contradiction,
            format!("it points at the namespace {id}, which is removed"),
            "no pointer at a removed namespace",
        ),
        Row::Is(record) if record.parent != parent || record.segment != segment => report.add(
            Kind::Contradiction,
            format!(
                "it points at the namespace {id}, whose record has the name '{}' below {}",
                record.segment, record.parent
            ),
            "the same parent and name in both",
        ),
        Row::Is(_) | Row::Broken => {}
    }
    Ok(())
}

pub(super) async fn namespace_record(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let id = report.decoded(keys::parse_number("namespace/record", key));
    let record: Option<NamespaceRecord> = report.decoded(record::decode("namespace/record", value));
    let Some((id, record)) = id.zip(record) else { return Ok(()) };
    look.expect_reserved(report, id);
    fence_present(look, report, id).await?;
    let pointer = look.pointer(&keys::namespace_name(record.parent, &record.segment)).await?;
    state_fits(look, report, id, ObjectKind::Namespace, record.state, &pointer).await?;
    if record.protected {
        guards::expect(look, report, keys::guard::PROTECTION, record.parent, id).await?;
    }
    if record.state == State::Active && record.policy.binds() {
        guards::expect(look, report, keys::guard::POLICY, record.parent, id).await?;
    }
    // The way up: it must end at the root, within the depth that paths may have.
    let mut above = record.parent;
    for _ in 0..DEPTH_MAX {
        if above == NamespaceId::ROOT {
            return Ok(());
        }
        match look.namespace(above).await? {
            Row::Is(record) => above = record.parent,
            Row::Broken => return Ok(()),
            Row::Absent => {
                expect_going(look, report, above).await?;
                return Ok(());
            }
        }
    }
    if above != NamespaceId::ROOT {
        report.add(
            Kind::EndlessPath,
            format!("more than {DEPTH_MAX} namespaces lie above each other"),
            "a path that ends at the root",
        );
    }
    Ok(())
}

/// Reports a namespace above something that has no record, unless it was purged and
/// what was in it is being taken apart.
async fn expect_going(look: &Look, report: &mut Report<'_>, above: NamespaceId) -> Result<()> {
    if !look.is_going(above).await? {
        report.add(
            Kind::Dangling,
            format!("the namespace {above} above it has no record"),
            "records up to the topmost namespace, or the job of one that was purged",
        );
    }
    Ok(())
}

/// Reports a state that its name and its removal contradict.
async fn state_fits(
    look: &Look,
    report: &mut Report<'_>,
    id: u64,
    kind: ObjectKind,
    state: State,
    pointer: &Row<u64>,
) -> Result<()> {
    let points_here = matches!(pointer, Row::Is(found) if *found == id);
    let removal = look.pointer(&keys::removal_of(id)).await?;
    match state {
        State::Active => {
            if !points_here {
                no_pointer(report, pointer);
            }
            if let Row::Is(removal) = removal {
                let removal = RemovalId(removal);
                report.add(
                    Kind::Contradiction,
                    format!("it is active, but removal-of says that it is in removal {removal}"),
                    format!("an active {} is in no removal", kind.name()),
                );
            }
        }
        State::Removed => {
            if points_here {
                report.add(
                    Kind::Contradiction,
                    "it is removed, but its name still points at it",
                    format!("no pointer at a removed {}", kind.name()),
                );
            }
            match removal {
                Row::Absent => report.add(
                    Kind::Missing,
                    "it is removed, but removal-of does not say in which removal",
                    "a removal-of row",
                ),
                Row::Broken => {}
                Row::Is(removal) => {
                    let removal = RemovalId(removal);
                    if look.removal(removal).await?.is_absent() {
                        report.add(
                            Kind::Missing,
                            format!("it is removed, but its removal {removal} has no record"),
                            "a removal record",
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

pub(super) async fn bucket_name(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let Some((namespace, name)) = report.decoded(keys::parse_bucket_name(key)) else {
        return Ok(());
    };
    let Some(id) = report.decoded(number("bucket/name", value)) else { return Ok(()) };
    let id = BucketId(id);
    match look.bucket(id).await? {
        Row::Absent => report.add(
            Kind::Dangling,
            format!("it points at the bucket {id}, which has no record"),
            "the record of an active bucket",
        ),
        Row::Is(record) if record.state != State::Active => report.add(
            Kind::Contradiction,
            format!("it points at the bucket {id}, which is removed"),
            "no pointer at a removed bucket",
        ),
        Row::Is(record) if record.namespace != namespace || record.name != name => report.add(
            Kind::Contradiction,
            format!(
                "it points at the bucket {id}, whose record has the name '{}' in {}",
                record.name, record.namespace
            ),
            "the same namespace and name in both",
        ),
        Row::Is(_) | Row::Broken => {}
    }
    Ok(())
}

/// Gives the bucket when its documents can be counted.
pub(super) async fn bucket_record(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<Option<BucketId>> {
    let id = report.decoded(keys::parse_number("bucket/record", key));
    let record: Option<BucketRecord> = report.decoded(record::decode("bucket/record", value));
    let Some((id, record)) = id.zip(record) else { return Ok(None) };
    look.expect_reserved(report, id);
    fence_present(look, report, id).await?;
    if look.namespace(record.namespace).await?.is_absent() {
        expect_going(look, report, record.namespace).await?;
    }
    if record.protected {
        guards::expect(look, report, keys::guard::PROTECTION, record.namespace, id).await?;
    }
    let shards = look.cluster.as_ref().map(|cluster| cluster.shards);
    let unknown = record.shards.iter().find(|shard| shards.is_some_and(|count| **shard >= count));
    if let Some(unknown) = unknown {
        report.add(
            Kind::Contradiction,
            format!("it lies on shard {unknown}, which the cluster does not have"),
            "shards of the cluster",
        );
    }
    if record.shards.is_empty() {
        report.add(Kind::Contradiction, "it lies on no shard", "at least one shard");
    }
    super::copies::of_record(look, report, BucketId(id), &record).await?;
    super::indexes::of_record(look, report, BucketId(id), &record).await?;
    let ttl = keys::ttl(BucketId(id));
    if record.ttl.is_some() && !look.exists(&ttl).await? {
        report.add(Kind::Missing, "nobody looks for what its TTL ends", readable::key(&ttl));
    }
    let pointer = look.pointer(&keys::bucket_name(record.namespace, &record.name)).await?;
    state_fits(look, report, id, ObjectKind::Bucket, record.state, &pointer).await?;
    Ok(Some(BucketId(id)))
}

fn no_pointer(report: &mut Report<'_>, pointer: &Row<u64>) {
    match pointer {
        Row::Absent => {
            report.add(
                Kind::Missing,
                "it is active, but its name points nowhere",
                "a pointer at it",
            );
        }
        Row::Broken => {}
        Row::Is(other) => report.add(
            Kind::Contradiction,
            format!("it is active, but its name points at number {other}"),
            "a pointer at it",
        ),
    }
}

async fn fence_present(look: &Look, report: &mut Report<'_>, id: u64) -> Result<()> {
    if !look.exists(&keys::fence(id)).await? {
        report.add(Kind::Missing, "it has no fence, which means that it is gone", "a fence");
    }
    Ok(())
}

pub(super) async fn fence(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let Some(id) = report.decoded(keys::parse_number("fence", key)) else { return Ok(()) };
    if let Some(version) = report.decoded(Versionstamp::decode(value)) {
        look.expect_past(report, version);
    }
    let object = look.exists(&keys::bucket_record(BucketId(id))).await?
        || look.exists(&keys::namespace_record(NamespaceId(id))).await?;
    if !object {
        report.add(
            Kind::Dangling,
            "there is neither a bucket nor a namespace of this number",
            "no fence of what is gone",
        );
    }
    Ok(())
}
