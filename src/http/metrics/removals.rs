//! What is removed, what waits for its purge, what is given back.

use std::fmt;

use super::Looked;
use super::page::{Page, number};
use crate::lifecycle::{Lifecycle, Meters};

pub(super) fn write(
    lifecycle: Option<&Lifecycle>,
    looked: &Looked,
    page: &mut Page<'_>,
) -> fmt::Result {
    let meters = lifecycle.map(Lifecycle::meters);
    page.counters(
        "journal_events",
        "Journal events that this node has applied",
        meters.iter().flat_map(|meters| meters.events()).map(|(kind, n)| ([("kind", kind)], n)),
    )?;
    let waits = meters.iter().flat_map(|meters| meters.barrier_waits());
    page.times_each(
        "purge_barrier_wait_seconds",
        "How long PURGE waited until everybody had seen the removal, or gave up",
        waits.map(|(outcome, times)| ([("outcome", outcome)], times)),
    )?;
    let paused = looked.paused.map(u64::from);
    page.gauge("purging_paused", "1 while PURGE.PAUSE is in force", paused)?;
    let waiting = meters.iter().flat_map(|meters| meters.waiting());
    page.gauges(
        "purges_waiting",
        "Purges of this node's shards that are due and wait, by what they wait for",
        waiting.map(|(reason, count)| ([("waits_for", reason.name())], count)),
    )?;
    page.seconds(
        "purge_overdue_seconds",
        "How long the oldest purge is due that nobody holds; 0 without any",
        lifecycle.map(|lifecycle| number(overdue_seconds(lifecycle))),
    )?;
    census(meters, page)?;
    copies(lifecycle, page)?;
    ttl(lifecycle, page)?;
    let reclaims = meters.map(Meters::reclaims);
    page.counter("reclaims", "Purged buckets given back", reclaims.map(|it| it.done))?;
    page.counter(
        "reclaim_failures",
        "Attempts to give bytes back that failed",
        reclaims.map(|it| it.failures),
    )?;
    page.counter(
        "reclaim_dismantled",
        "Buckets and namespaces taken out of purged namespaces",
        reclaims.map(|it| it.dismantled),
    )?;
    page.gauge(
        "reclaim_pending_bytes",
        "Bytes on disk that the jobs under way here have still to look through",
        reclaims.map(|it| it.pending_bytes),
    )?;
    page.counter(
        "reclaim_returned_bytes",
        "Bytes on disk given back",
        reclaims.map(|it| it.returned_bytes),
    )
}

fn census(meters: Option<&Meters>, page: &mut Page<'_>) -> fmt::Result {
    let census = meters.map(Meters::census);
    let removed = census.map(|census| {
        [("bucket", census.removed_buckets), ("namespace", census.removed_namespaces)]
    });
    page.gauges(
        "removed_objects",
        "What is removed, of this node's shards",
        removed.into_iter().flatten().map(|(kind, count)| ([("kind", kind)], count)),
    )?;
    page.gauge(
        "removed_documents",
        "Documents of what is removed, of this node's shards",
        census.map(|census| census.removed_documents),
    )?;
    page.gauge(
        "removed_bytes",
        "Bytes of the documents of what is removed, of this node's shards",
        census.map(|census| census.removed_bytes),
    )?;
    page.gauge(
        "holds",
        "Removals on hold, of this node's shards",
        census.map(|census| census.holds),
    )?;
    page.gauge(
        "holds_overdue",
        "Holds whose review date has passed, of this node's shards",
        census.map(|census| census.holds_overdue),
    )?;
    let jobs = census
        .map(|census| [("queued", census.jobs_queued), ("reclaiming", census.jobs_reclaiming)]);
    page.gauges(
        "reclaim_jobs",
        "Purged buckets whose bytes are not all given back, of this node's shards",
        jobs.into_iter().flatten().map(|(phase, count)| ([("phase", phase)], count)),
    )?;
    page.gauge(
        "removed_incomplete",
        "1 where more is removed than is counted",
        census.map(|census| u64::from(census.incomplete)),
    )
}

fn copies(lifecycle: Option<&Lifecycle>, page: &mut Page<'_>) -> fmt::Result {
    let copies = lifecycle.map(|lifecycle| (lifecycle, lifecycle.meters().copies()));
    page.gauge(
        "copies",
        "Copies of buckets that this node makes",
        copies.map(|(_, (count, _))| u64::try_from(count).unwrap_or(u64::MAX)),
    )?;
    let lag = copies.map(|(lifecycle, (_, since))| seconds_since(lifecycle, since));
    page.seconds(
        "copy_lag_seconds",
        "How long the copy that has been behind its source longest has been so; 0 when all have caught up",
        lag.map(number),
    )
}

fn ttl(lifecycle: Option<&Lifecycle>, page: &mut Page<'_>) -> fmt::Result {
    let ttl = lifecycle.map(|lifecycle| (lifecycle, lifecycle.meters().ttl()));
    page.counter(
        "ttl_deleted_documents",
        "Documents deleted because their time was over",
        ttl.map(|(_, (deleted, _))| deleted),
    )?;
    let lag = ttl.map(|(lifecycle, (_, since))| seconds_since(lifecycle, since));
    page.seconds(
        "ttl_lag_seconds",
        "How long the search for such documents that has not ended and was due first is due; 0 without any",
        lag.map(number),
    )
}

fn seconds_since(lifecycle: &Lifecycle, since: Option<i64>) -> u64 {
    let now = lifecycle.catalog().now();
    since.map_or(0, |since| u64::try_from(now.saturating_sub(since)).unwrap_or(0) / 1_000)
}

fn overdue_seconds(lifecycle: &Lifecycle) -> u64 {
    let now = lifecycle.catalog().certain_now();
    lifecycle
        .meters()
        .oldest_due_at()
        .and_then(|due_at| u64::try_from(now.saturating_sub(due_at)).ok())
        .unwrap_or(0)
        / 1_000
}
