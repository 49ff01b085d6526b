//! The store: what this node has asked of it, and how its engine fares.

use std::fmt;

use super::page::Page;
use crate::store::Store;

pub(super) fn write(store: Option<&Store>, page: &mut Page<'_>) -> fmt::Result {
    let stats = store.map(Store::stats);
    let stats = stats.as_ref();
    let transactions = stats.map(|stats| stats.transactions);
    page.counter(
        "transactions_begun",
        "Transactions begun, each attempt counted",
        transactions.map(|counts| counts.begun),
    )?;
    let outcomes = transactions.map(|counts| {
        [
            ("committed", counts.committed),
            ("conflict", counts.conflicts),
            ("too_old", counts.too_old),
            ("unknown", counts.unknown),
            ("failed", counts.failed),
            ("given_up", counts.given_up),
        ]
    });
    page.counters(
        "transactions",
        "Transactions by how they ended, each attempt counted",
        outcomes.into_iter().flatten().map(|(outcome, count)| ([("outcome", outcome)], count)),
    )?;
    page.counter(
        "transaction_retries",
        "Attempts after the first",
        transactions.map(|counts| counts.retries),
    )?;
    page.gauge(
        "transactions_open",
        "Transactions begun and not ended",
        stats.map(|stats| stats.open_transactions),
    )?;
    page.gauge("watches", "Watches of keys", stats.map(|stats| stats.watches))?;
    page.counter(
        "store_commits",
        "Commits that wrote something",
        stats.map(|stats| stats.commits),
    )?;
    page.counter(
        "store_conflicts",
        "Commits refused because of a conflict",
        stats.map(|stats| stats.conflicts),
    )?;
    page.counter("store_fsyncs", "Syncs to disk", stats.map(|stats| stats.fsyncs))?;
    page.sizes(
        "store_batch_commits",
        "Commits made durable together, with one sync",
        stats.map(|stats| &stats.batch_sizes),
    )?;
    page.times(
        "store_batch_duration_seconds",
        "How long a batch took to be written and made durable",
        stats.map(|stats| &stats.batch_times),
    )?;
    page.counter(
        "store_written_bytes",
        "Bytes of keys and values written",
        stats.map(|stats| stats.written_bytes),
    )?;
    page.gauge(
        "store_disk_bytes",
        "Bytes of the tables on disk",
        stats.map(|stats| stats.disk_bytes),
    )?;
    page.gauge(
        "store_dropped_prefixes",
        "Purged prefixes whose bytes are not all given back",
        stats.map(|stats| stats.dropped_prefixes),
    )?;
    page.gauge(
        "store_history_ranges",
        "Written ranges kept to find conflicts",
        stats.map(|stats| stats.history),
    )?;
    page.gauge("store_version", "The last commit version", stats.map(|stats| stats.version))
}
