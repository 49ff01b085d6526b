//! Clients and their commands.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::page::Page;
use crate::command::registry::table;
use crate::command::{CommandCounts, Services};

pub(super) fn write(services: &Services, page: &mut Page<'_>) -> fmt::Result {
    connections(services, page)?;
    let specs = table().specs().iter().map(|spec| spec.full_name().to_ascii_lowercase());
    // Only those that were ever called, so that the page stays small.
    let used: Vec<(String, CommandCounts)> =
        specs.zip(services.stats.commands()).filter(|(_, counts)| !counts.is_unused()).collect();
    let outcomes = used.iter().flat_map(|(name, counts)| {
        [
            ("ok", counts.succeeded()),
            ("error", counts.failed),
            ("rejected", counts.rejected),
            ("cancelled", counts.cancelled),
        ]
        .map(|(outcome, count)| ([("command", name.as_str()), ("outcome", outcome)], count))
    });
    page.counters("commands", "Commands by name and how they ended", outcomes)?;
    let times = used.iter().map(|(name, counts)| ([("command", name.as_str())], counts.times));
    page.times_each(
        "command_duration_seconds",
        "How long commands took that ran to their end",
        times,
    )?;
    let errors = services.stats.errors();
    page.counters(
        "command_errors",
        "Error replies by their code",
        errors.iter().map(|(code, count)| ([("code", *code)], *count)),
    )?;
    let unknown = services.stats.unknown_commands.load(Ordering::Relaxed);
    page.counter("unknown_commands", "Commands that do not exist", Some(unknown))?;
    let slow = services.slow_log.total();
    page.counter("slow_commands", "Commands that took slow_log.threshold or more", Some(slow))
}

fn connections(services: &Services, page: &mut Page<'_>) -> fmt::Result {
    let stats = &services.stats;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let open = u64::try_from(services.clients.len()).ok();
    page.gauge("connections", "Clients connected now", open)?;
    page.counter("connections_opened", "Connections taken", Some(load(&stats.connections)))?;
    page.counter(
        "connections_rejected",
        "Connections refused because of server.max_clients",
        Some(load(&stats.connections_rejected)),
    )?;
    let closed = [
        ("idle", &stats.closed_idle),
        ("slow_reader", &stats.closed_slow),
        ("protocol_error", &stats.closed_protocol),
        ("no_memory", &stats.closed_memory),
    ];
    page.counters(
        "connections_closed",
        "Connections closed by the node, by the reason",
        closed.map(|(reason, counter)| ([("reason", reason)], load(counter))),
    )?;
    let (bytes_in, bytes_out) = services.clients.traffic();
    page.counters(
        "network_bytes",
        "Bytes read from and written to clients",
        [("in", bytes_in), ("out", bytes_out)].map(|(way, bytes)| ([("direction", way)], bytes)),
    )
}
