//! Members, shards, the journal, signals, audit rows.

use super::finding::{Kind, Report};
use super::look::Look;
use crate::codec::record::{
    self, AuditRecord, BeatRecord, BusyRecord, ClusterRecord, ClusterTimeRecord, Event,
    JournalMarkRecord, MemberRecord, ObserverRecord, PauseRecord, ShardRecord,
};
use crate::codec::{Versionstamp, keys};
use crate::store::{RangeRead, Result};

/// Busy rows of dead incarnations are swept within seconds; after so long, in
/// milliseconds of cluster time, they are odd.
const SWEPT_AFTER: i64 = 600_000;

/// What must be there as soon as anything is.
pub(super) async fn whole(look: &Look, findings: &mut Vec<super::Finding>) -> Result<()> {
    let next_id = keys::next_id();
    let below = RangeRead::new(Vec::new(), next_id.clone()).limit(1);
    let above = RangeRead::new(keys::next(&next_id), vec![0xff]).limit(1);
    let empty =
        look.range(below).await?.rows.is_empty() && look.range(above).await?.rows.is_empty();
    if empty {
        return Ok(());
    }
    let mut singles = vec![keys::cluster(), keys::cluster_time(), next_id];
    let journal = RangeRead::prefix(keys::kind_prefix(keys::kind::JOURNAL)).limit(1);
    if !look.range(journal).await?.rows.is_empty() {
        singles.push(keys::journal_head());
    }
    let shards = look.cluster.as_ref().map_or(0, |cluster| cluster.shards);
    for shard in 0..shards {
        singles.extend([keys::shard(shard), keys::witness(shard)]);
    }
    for key in singles {
        if !look.exists(&key).await? {
            let mut report = Report::on(&key);
            report.add(Kind::Missing, "it is not there", "present in every store that is in use");
            findings.extend(report.into_findings());
        }
    }
    Ok(())
}

pub(super) fn cluster(report: &mut Report<'_>, key: &[u8], value: &[u8]) {
    expect_single(report, key, &keys::cluster());
    report.decoded(record::decode::<ClusterRecord>("cluster", value));
}

/// Reports a key that goes on where it should end.
fn expect_single(report: &mut Report<'_>, key: &[u8], whole: &[u8]) {
    if key != whole {
        report.add(Kind::UnknownKey, "there is one key of this kind, and this is another", "none");
    }
}

pub(super) fn next_id(report: &mut Report<'_>, key: &[u8], value: &[u8]) {
    expect_single(report, key, &keys::next_id());
    if value.len() != 8 {
        report.add(Kind::Undecodable, "it is no counter", "eight bytes, little-endian");
    }
}

/// Keys that there is one of, whose value is a version.
pub(super) async fn signal(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
    whole: &[u8],
) -> Result<()> {
    expect_single(report, key, whole);
    let Some(version) = report.decoded(Versionstamp::decode(value)) else { return Ok(()) };
    look.expect_past(report, version);
    if whole != keys::journal_head() {
        return Ok(());
    }
    let last = RangeRead::prefix(keys::kind_prefix(keys::kind::JOURNAL)).reverse().limit(1);
    if let Some((last, _)) = look.range(last).await?.rows.first()
        && let Ok(last) = keys::parse_journal(last)
        && last != version
    {
        report.add(
            Kind::Contradiction,
            format!("it says {version}, but the last event is of {last}"),
            "the version of the last event",
        );
    }
    Ok(())
}

/// Keys that there is one of, whose value is a record.
pub(super) fn single(report: &mut Report<'_>, key: &[u8], value: &[u8], kind: u16) {
    use keys::kind;
    expect_single(report, key, &keys::kind_prefix(kind));
    match kind {
        kind::OBSERVER => {
            report.decoded(record::decode::<ObserverRecord>("observer", value));
        }
        kind::CLUSTER_TIME => {
            report.decoded(record::decode::<ClusterTimeRecord>("cluster-time", value));
        }
        kind::PURGE_PAUSE => {
            report.decoded(record::decode::<PauseRecord>("purge-pause", value));
        }
        _ => {
            report.decoded(record::decode::<JournalMarkRecord>("journal-mark", value));
        }
    }
}

pub(super) fn journal(look: &Look, report: &mut Report<'_>, key: &[u8], value: &[u8]) {
    if let Some(version) = report.decoded(keys::parse_journal(key)) {
        look.expect_past(report, version);
    }
    report.decoded(record::decode::<Event>("journal", value));
}

pub(super) fn audit(look: &Look, report: &mut Report<'_>, key: &[u8], value: &[u8]) {
    if let Some(at) = report.decoded(keys::parse_audit(key)) {
        look.expect_past(report, at.version());
    }
    report.decoded(record::decode::<AuditRecord>("audit", value));
}

pub(super) async fn member(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let node = report.decoded(keys::parse_node(key));
    let record: Option<MemberRecord> = report.decoded(record::decode("member", value));
    if let Some(record) = record {
        look.expect_reserved(report, record.incarnation);
    }
    let Some(node) = node else { return Ok(()) };
    for (key, what) in [(keys::seen(&node), "seen"), (keys::beat(&node), "beat")] {
        if !look.exists(&key).await? {
            report.add(Kind::Missing, format!("it has no {what} row"), "one for each member");
        }
    }
    Ok(())
}

/// `beat` and `seen`: they come and go with the member.
pub(super) fn beside_member(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
    kind: u16,
) {
    if kind == keys::kind::BEAT {
        report.decoded(record::decode::<BeatRecord>("beat", value));
    } else if let Some(version) = report.decoded(Versionstamp::decode(value)) {
        look.expect_past(report, version);
    }
    if let Some(node) = report.decoded(keys::parse_node(key))
        && !look.members.contains_key(&node)
    {
        report.add(Kind::Leftover, format!("there is no member '{node}'"), "none without a member");
    }
}

pub(super) fn shard(look: &Look, report: &mut Report<'_>, key: &[u8], value: &[u8], kind: u16) {
    let Some(shard) = report.decoded(keys::parse_shard(key)) else { return };
    if look.cluster.as_ref().is_some_and(|cluster| shard >= cluster.shards) {
        report.add(Kind::Dangling, format!("the cluster has no shard {shard}"), "none");
    }
    if kind == keys::kind::WITNESS {
        if let Some(version) = report.decoded(Versionstamp::decode(value)) {
            look.expect_past(report, version);
        }
        return;
    }
    let record: Option<ShardRecord> = report.decoded(record::decode("shard", value));
    if let Some(record) = record
        && !look.members.is_empty()
        && !look.members.contains_key(&record.owner)
    {
        report.add(
            Kind::UnownedShard,
            format!("its owner '{}' is no member", record.owner),
            "an owner who is a member",
        );
    }
}

pub(super) async fn busy(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let parsed = report.decoded(keys::parse_busy(key));
    let record: Option<BusyRecord> = report.decoded(record::decode("busy", value));
    let Some(((object, node, scope), record)) = parsed.zip(record) else { return Ok(()) };
    if !look.exists(&keys::fence(object)).await? {
        report.add(
            Kind::Dangling,
            format!("there is no object {object} any more"),
            "cleared by the purge",
        );
    }
    let shards = look.cluster.as_ref().map_or(i32::MAX, |cluster| i32::from(cluster.shards));
    if scope < -1 || scope >= shards {
        report.add(Kind::Dangling, format!("the cluster has no shard {scope}"), "a shard, or -1");
    }
    // Only live ones count, and the others are swept.
    let live = look.members.get(&node) == Some(&record.incarnation);
    let old = look.now.is_some_and(|now| now.saturating_sub(record.since) > SWEPT_AFTER);
    if !live && old {
        report.add(
            Kind::Leftover,
            format!("its incarnation {} of '{node}' is long gone", record.incarnation),
            "swept",
        );
    }
    Ok(())
}

pub(super) fn attempt(look: &Look, report: &mut Report<'_>, key: &[u8]) {
    if let Some((incarnation, _)) = report.decoded(keys::parse_attempt(key))
        && !look.members.values().any(|live| *live == incarnation)
    {
        report.add(
            Kind::Leftover,
            format!("incarnation {incarnation} is gone"),
            "swept with its incarnation",
        );
    }
}
