use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::command::registry::table;
use crate::command::{Args, Context, Reply, Result};

/// What we answer for clients that look at the version to know what they may send.
const REDIS_VERSION: &str = "7.4.0";

/// One section: its name, whether it is shown unasked, and what fills it.
type Section = (&'static str, bool, fn(&Context<'_>, &mut Fields));

const SECTIONS: &[Section] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Stats", true, stats),
    ("Commandstats", false, command_stats),
    ("Cluster", true, cluster),
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

/// A figure of this process in kB, where the system shows it (Linux).
fn status_line(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn stats(ctx: &Context<'_>, fields: &mut Fields) {
    let stats = &ctx.services.stats;
    let all = (0..table().specs().len()).filter_map(|index| stats.command(index));
    let (mut calls, mut rejected, mut failed) = (0_u64, 0_u64, 0_u64);
    for command in all {
        let (called, _, refused, broken) = command.read();
        calls = calls.saturating_add(called);
        rejected = rejected.saturating_add(refused);
        failed = failed.saturating_add(broken);
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
}

fn command_stats(ctx: &Context<'_>, fields: &mut Fields) {
    for (index, spec) in table().specs().iter().enumerate() {
        let Some(stats) = ctx.services.stats.command(index) else { continue };
        let (calls, microseconds, rejected, failed) = stats.read();
        if calls == 0 && rejected == 0 {
            continue;
        }
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

fn cluster(_: &Context<'_>, fields: &mut Fields) {
    fields.add("cluster_enabled", 0);
}
