use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::command::registry::table;
use crate::command::{Args, Context, Reply, Result};
use crate::config::StoreKind;

/// What we answer for clients that look at the version to know what they may send.
const REDIS_VERSION: &str = "7.4.0";

/// One section: its name, whether it is shown unasked, and what fills it.
type Section = (&'static str, bool, fn(&Context<'_>, &mut Fields));

const SECTIONS: &[Section] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Commandstats", false, command_stats),
    ("Errorstats", true, error_stats),
    ("Latencystats", false, latency_stats),
    ("Cluster", true, cluster),
    ("Members", true, members),
    ("Removals", true, removals),
];

/// Lines of `name:value`.
struct Fields(String);

impl Fields {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        let written = write!(self.0, "{name}:{value}\r\n");
        debug_assert!(written.is_ok(), "writing to a string can't fail");
    }
}

pub(super) fn info(ctx: &mut Context<'_>, args: &Args) -> Result<Reply> {
    ctx.session.publish(tokio::time::Instant::now());
    let asked = |word: &str| args.iter().any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    let all = asked("all") || asked("everything");
    let default = args.is_empty() || asked("default");
    let mut fields = Fields(String::new());
    for (name, by_default, fill) in SECTIONS {
        if all || (default && *by_default) || asked(name) {
            if !fields.0.is_empty() {
                fields.0.push_str("\r\n");
            }
            fields.0.push_str("# ");
            fields.0.push_str(name);
            fields.0.push_str("\r\n");
            fill(ctx, &mut fields);
        }
    }
    Ok(Reply::Verbatim(fields.0))
}

fn server(ctx: &Context<'_>, fields: &mut Fields) {
    let uptime = ctx.services.started.elapsed().as_secs();
    let port = ctx.session.client().local_address().port();
    fields.add("redis_version", REDIS_VERSION);
    fields.add("lethe_version", env!("CARGO_PKG_VERSION"));
    fields.add("redis_mode", "standalone");
    fields.add("os", format_args!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    fields.add("arch_bits", usize::BITS);
    fields.add("process_id", std::process::id());
    fields.add("tcp_port", port);
    fields.add("server_time_usec", ctx.services.clock.now().saturating_mul(1_000));
    fields.add("uptime_in_seconds", uptime);
    fields.add("uptime_in_days", uptime / 86_400);
}

fn clients(ctx: &Context<'_>, fields: &mut Fields) {
    fields.add("connected_clients", ctx.services.clients.len());
    fields.add("maxclients", ctx.services.config.server.max_clients);
}

/// What the system counts as ours; the allocator has no figures of its own.
fn memory(_: &Context<'_>, fields: &mut Fields) {
    for (name, line) in [("used_memory_rss", "VmRSS:"), ("used_memory_peak", "VmHWM:")] {
        if let Some(kilobytes) = status_line(line) {
            fields.add(name, kilobytes.saturating_mul(1_024));
        }
    }
}

/// Memory of this process, where the system shows it.
pub(crate) fn resident_bytes() -> Option<u64> {
    status_line("VmRSS:").map(|kilobytes| kilobytes.saturating_mul(1_024))
}

/// A figure of this process in kB, where the system shows it (Linux).
fn status_line(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn stats(ctx: &Context<'_>, fields: &mut Fields) {
    let stats = &ctx.services.stats;
    let (mut calls, mut rejected, mut failed) = (0_u64, 0_u64, 0_u64);
    for command in stats.commands() {
        calls = calls.saturating_add(command.calls());
        rejected = rejected.saturating_add(command.rejected);
        failed = failed.saturating_add(command.failed);
    }
    let (bytes_in, bytes_out) = ctx.services.clients.traffic();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    fields.add("total_connections_received", load(&stats.connections));
    fields.add("rejected_connections", load(&stats.connections_rejected));
    fields.add("total_commands_processed", calls);
    fields.add("rejected_commands", rejected);
    fields.add("failed_commands", failed);
    fields.add("unknown_commands", load(&stats.unknown_commands));
    fields.add("total_net_input_bytes", bytes_in);
    fields.add("total_net_output_bytes", bytes_out);
    fields.add("closed_idle", load(&stats.closed_idle));
    fields.add("closed_slow_reader", load(&stats.closed_slow));
    fields.add("closed_no_memory", load(&stats.closed_memory));
    fields.add("closed_protocol_error", load(&stats.closed_protocol));
    fields.add("slow_commands", ctx.services.slow_log.total());
    let errors: u64 = stats.errors().values().sum();
    fields.add("total_error_replies", errors);
    let Ok(lifecycle) = ctx.services.lifecycle() else { return };
    let transactions = lifecycle.catalog().store().stats().transactions;
    fields.add("total_transactions", transactions.begun);
    fields.add("transactions_committed", transactions.committed);
    fields.add("transaction_conflicts", transactions.conflicts);
    fields.add("transaction_retries", transactions.retries);
}

fn command_stats(ctx: &Context<'_>, fields: &mut Fields) {
    for (spec, counts) in table().specs().iter().zip(ctx.services.stats.commands()) {
        if counts.is_unused() {
            continue;
        }
        let (calls, microseconds) = (counts.calls(), counts.times.sum);
        let (rejected, failed) = (counts.rejected, counts.failed);
        // Hundredths of a microsecond, in whole numbers.
        let each = microseconds.saturating_mul(100) / calls.max(1);
        let name = spec.full_name().to_ascii_lowercase();
        fields.add(
            &format!("cmdstat_{name}"),
            format_args!(
                "calls={calls},usec={microseconds},usec_per_call={}.{:02},rejected_calls={rejected},failed_calls={failed}",
                each / 100,
                each % 100
            ),
        );
    }
}

/// What the store has written, where users of Redis look for its log and its snapshots.
fn persistence(ctx: &Context<'_>, fields: &mut Fields) {
    let config = &ctx.services.config;
    fields.add("loading", 0);
    fields.add("aof_enabled", u8::from(config.store != StoreKind::Memory));
    fields.add("store", config.store.name());
    let Ok(lifecycle) = ctx.services.lifecycle() else { return };
    let stats = lifecycle.catalog().store().stats();
    fields.add("store_commits", stats.commits);
    fields.add("store_batches", stats.batches);
    fields.add("store_batch_max", stats.batch_max);
    fields.add("store_fsyncs", stats.fsyncs);
    fields.add("store_written_bytes", stats.written_bytes);
    fields.add("store_disk_bytes", stats.disk_bytes);
    fields.add("store_open_transactions", stats.open_transactions);
}

fn error_stats(ctx: &Context<'_>, fields: &mut Fields) {
    for (code, count) in ctx.services.stats.errors() {
        fields.add(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

/// Upper bounds, as times are counted in buckets.
fn latency_stats(ctx: &Context<'_>, fields: &mut Fields) {
    for (spec, counts) in table().specs().iter().zip(ctx.services.stats.commands()) {
        if counts.calls() == 0 {
            continue;
        }
        let name = spec.full_name().to_ascii_lowercase();
        let below = |share| {
            counts.times.permille(share).map_or_else(|| "inf".to_owned(), |time| time.to_string())
        };
        fields.add(
            &format!("latency_percentiles_usec_{name}"),
            format_args!("p50={},p99={},p99.9={}", below(500), below(990), below(999)),
        );
    }
}

fn members(ctx: &Context<'_>, fields: &mut Fields) {
    let Ok(lifecycle) = ctx.services.lifecycle() else { return };
    let cluster = lifecycle.catalog().cluster();
    fields.add("node", cluster.node());
    fields.add("members", cluster.silences().len());
    fields.add("shards", cluster.shard_count());
    fields.add("shards_owned", cluster.owned_shards().borrow().len());
    if let Some(ago) = cluster.progress().beat_ago {
        fields.add("heartbeat_age_milliseconds", ago.as_millis());
    }
    fields.add("clock_suspect", u8::from(cluster.time().suspect().is_some()));
}

/// Of the shards of this node, as its workers saw it last.
fn removals(ctx: &Context<'_>, fields: &mut Fields) {
    let Ok(lifecycle) = ctx.services.lifecycle() else { return };
    let meters = lifecycle.meters();
    let census = meters.census();
    fields.add("removed_buckets", census.removed_buckets);
    fields.add("removed_documents", census.removed_documents);
    fields.add("removed_bytes", census.removed_bytes);
    for (waits_for, count) in meters.waiting() {
        fields.add(&format!("purges_waiting_{}", waits_for.name()), count);
    }
    let reclaims = meters.reclaims();
    fields.add("reclaim_jobs", census.jobs_queued.saturating_add(census.jobs_reclaiming));
    fields.add("reclaims", reclaims.done);
    fields.add("reclaim_pending_bytes", reclaims.pending_bytes);
    fields.add("reclaim_returned_bytes", reclaims.returned_bytes);
}

fn cluster(_: &Context<'_>, fields: &mut Fields) {
    fields.add("cluster_enabled", 0);
}
