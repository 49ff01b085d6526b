//! Members, shards, journal, clocks and open work, as this node sees them.

use std::fmt;
use std::time::Duration;

use super::Looked;
use super::page::Page;
use crate::cluster::Cluster;

pub(super) fn write(
    cluster: Option<&Cluster>,
    looked: &Looked,
    page: &mut Page<'_>,
) -> fmt::Result {
    let count = |length: usize| u64::try_from(length).ok();
    let silences = cluster.map(Cluster::silences).unwrap_or_default();
    let members = cluster.and_then(|_| count(silences.len()));
    page.gauge("cluster_members", "Members, as this node sees them", members)?;
    page.seconds_each(
        "member_silence_seconds",
        "Since this node saw the heartbeat of a member move",
        silences.iter().map(|(node, silence)| ([("node", node.as_str())], silence.as_secs_f64())),
    )?;
    let shards = cluster.map(|cluster| u64::from(cluster.shard_count()));
    page.gauge("shards", "Shards of the cluster", shards)?;
    let owned = cluster.map(|cluster| cluster.owned_shards().borrow().clone());
    let owned_count = owned.as_ref().and_then(|owned| count(owned.len()));
    page.gauge("shards_owned", "Shards that this node works for", owned_count)?;
    let epochs = owned.iter().flat_map(|owned| owned.iter());
    page.gauges(
        "shard_epoch",
        "Epochs of the shards that this node works for",
        epochs.map(|(shard, epoch)| ([("shard", *shard)], u64::try_from(*epoch).unwrap_or(0))),
    )?;
    let progress = cluster.map(Cluster::progress);
    page.gauge(
        "journal_lag_events",
        "Journal events that this node has not applied, counted up to 1000",
        looked.lag.and_then(count),
    )?;
    page.seconds(
        "heartbeat_age_seconds",
        "Since the store took the last heartbeat of this node",
        progress.and_then(|progress| progress.beat_ago).map(|ago| ago.as_secs_f64()),
    )?;
    let suspect = cluster.map(|cluster| u64::from(cluster.time().suspect().is_some()));
    page.gauge("clock_suspect", "1 while purging is stopped because of the clocks", suspect)?;
    let work = cluster.map(|cluster| cluster.work().list());
    let open = work.as_ref().and_then(|work| count(work.len()));
    page.gauge("work_open", "Work on buckets outside of transactions", open)?;
    let stopped = work.iter().flatten().filter_map(|work| work.stopped_for).max();
    page.seconds(
        "work_stopping_seconds",
        "How long the work has gone on that was told to stop first; 0 without any",
        cluster.map(|_| stopped.unwrap_or(Duration::ZERO).as_secs_f64()),
    )
}
