use std::time::Duration;

use super::sample::{Member, Reclaim, Sample};
use crate::cli::remote::ls::tone;
use crate::cli::remote::path::escape;
use crate::cli::remote::rows::Removal;
use crate::cli::remote::show::{Cell, Paint, Side, Table, Tone, count, many, minute, size, span};
use crate::codec::duration::{format_duration, parse_instant};

/// Parts of the bar of a barrier.
const BAR: usize = 10;

/// The page.
pub(super) fn lines(sample: &Sample, paint: Paint) -> Vec<String> {
    let mut lines = head(sample, paint);
    let mut add = |title: &str, table: Option<Table>| {
        if let Some(table) = table {
            lines.push(String::new());
            lines.push(paint.text(Tone::Head, title));
            lines.extend(table.lines(paint));
        }
    };
    add("Members", sample.members.as_deref().and_then(members));
    add("Removed, the oldest first", removals(sample));
    add("Given back", sample.reclaim.as_deref().and_then(reclaim));
    add("Commands of this node", commands(sample));
    if sample.reclaim.is_none() {
        let text = match sample.cluster {
            Some(_) => "what is given back takes the right purge in all namespaces to see",
            None => "what is the cluster's takes the right admin in all namespaces to see",
        };
        lines.extend([String::new(), paint.text(Tone::Faint, text)]);
    }
    lines
}

/// What can be done, or what is wrong.
pub(super) fn foot(interval: Duration, trouble: Option<&str>, paint: Paint) -> String {
    if let Some(trouble) = trouble {
        return paint.text(Tone::Bad, &format!("{}; it is tried again", escape(trouble)));
    }
    let every = format_duration(interval);
    paint.text(Tone::Faint, &format!("every {every}; q leaves, any other key looks at once"))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn head(sample: &Sample, paint: Paint) -> Vec<String> {
    let node = escape(&sample.node);
    let title = match &sample.cluster {
        Some(cluster) => format!("cluster {} by node {node}", escape(cluster)),
        None => format!("node {node}"),
    };
    let time = sample.cluster_time.as_deref();
    let mut lines = vec![
        format!(
            "{} at {}, store {}, up {}{}",
            paint.text(Tone::Head, &title),
            escape(&sample.address),
            escape(&sample.store),
            span(signed(sample.uptime_seconds)),
            time.map_or_else(String::new, |time| format!(", {}", minute(time))),
        ),
        format!(
            "operations  {}/s  ({} in all, {} failed)  {}  memory {}",
            sample.operations.per_second,
            count(signed(sample.operations.total)),
            count(signed(sample.operations.failed)),
            many(signed(sample.clients), "client"),
            sample.memory_bytes.map_or_else(|| "-".to_owned(), |bytes| size(signed(bytes))),
        ),
        format!(
            "removed     {}, {} ({})  {} given back, {} pending",
            many(signed(sample.removed.buckets), "bucket"),
            many(signed(sample.removed.documents), "document"),
            size(signed(sample.removed.bytes)),
            size(signed(sample.removed.reclaim_returned_bytes)),
            size(signed(sample.removed.reclaim_pending_bytes)),
        ),
    ];
    if let Some(why) = &sample.purging_stopped {
        let text = format!("purging     stopped: {}", escape(why));
        lines.push(paint.text(Tone::Bad, &text));
    }
    lines
}

fn members(members: &[Member]) -> Option<Table> {
    let mut table = Table::new(&[
        ("NODE", Side::Left),
        ("ADDRESS", Side::Left),
        ("STATUS", Side::Left),
        ("SEEN", Side::Right),
        ("BEHIND", Side::Right),
        ("CLOCK", Side::Right),
        ("SHARDS", Side::Left),
    ]);
    for member in members {
        let tone = if member.status == "alive" { Tone::Good } else { Tone::Bad };
        let milliseconds = |number: Option<i64>| {
            number.map_or_else(Cell::none, |number| Cell::made(format!("{} ms", count(number))))
        };
        let shards: Vec<String> = member.shards.iter().map(ToString::to_string).collect();
        table.add(vec![
            Cell::of(&member.node),
            Cell::of(&member.address),
            Cell::of(&member.status).toned(tone),
            milliseconds(member.last_seen_ms),
            member.behind.map_or_else(Cell::none, |behind| Cell::made(count(behind))),
            milliseconds(member.clock_offset_ms),
            Cell::made(shards.join(" ")),
        ]);
    }
    (!members.is_empty()).then_some(table)
}

fn removals(sample: &Sample) -> Option<Table> {
    let now = sample.cluster_time.as_deref().and_then(parse_instant).unwrap_or_default();
    let removals = sample.removals.as_deref().unwrap_or_default();
    let mut table = Table::new(&[
        ("NAME", Side::Left),
        ("STATE", Side::Left),
        ("SIZE", Side::Right),
        ("REMOVED", Side::Left),
        ("LEFT", Side::Left),
        ("BARRIER", Side::Left),
    ]);
    for removal in removals {
        let state = removal.condition();
        let left = match (removal.state.as_str(), removal.seconds_left) {
            ("removed", None) => Cell::of("forever"),
            (_, Some(left)) => Cell::made(span(left)),
            _ => Cell::none(),
        };
        table.add(vec![
            Cell::made(removal.path.clone()),
            Cell::of(state).toned(tone(state)),
            removal.bytes.map_or_else(Cell::none, |bytes| Cell::made(size(bytes))),
            Cell::made(format!("{} ago", span(removal.age(now)))),
            left,
            barrier(removal),
        ]);
    }
    (!removals.is_empty()).then_some(table)
}

/// How many shards have seen a removal.
fn barrier(removal: &Removal) -> Cell {
    let (Some(seen), Some(shards)) = (removal.shards_witnessed, removal.shards) else {
        return Cell::none();
    };
    let (done, all) = (usize::try_from(seen).unwrap_or(0), usize::try_from(shards).unwrap_or(0));
    let full = (done * BAR).checked_div(all).unwrap_or_default().min(BAR);
    let tone = if seen < shards { Tone::Warning } else { Tone::Good };
    let bar = format!("[{}{}] {seen} of {shards}", "#".repeat(full), ".".repeat(BAR - full));
    Cell::made(bar).toned(tone)
}

fn reclaim(jobs: &[Reclaim]) -> Option<Table> {
    let mut table = Table::new(&[
        ("NAME", Side::Left),
        ("PHASE", Side::Left),
        ("SINCE", Side::Right),
        ("PENDING", Side::Right),
        ("RETURNED", Side::Right),
        ("PER SECOND", Side::Right),
        ("LAST ERROR", Side::Left),
    ]);
    for job in jobs {
        let bytes = |bytes: Option<i64>| bytes.map_or_else(Cell::none, |it| Cell::made(size(it)));
        let error = job.last_error.as_ref();
        table.add(vec![
            Cell::made(job.path.clone()),
            Cell::of(&job.phase),
            Cell::made(span(job.seconds)),
            bytes(job.bytes_pending),
            bytes(job.bytes_returned),
            bytes(job.bytes_per_second),
            error.map_or_else(Cell::none, |error| Cell::of(error).toned(Tone::Bad)),
        ]);
    }
    (!jobs.is_empty()).then_some(table)
}

fn commands(sample: &Sample) -> Option<Table> {
    let mut table = Table::new(&[
        ("COMMAND", Side::Left),
        ("PER SECOND", Side::Right),
        ("CALLS", Side::Right),
        ("FAILED", Side::Right),
        ("MICROSECONDS EACH", Side::Right),
    ]);
    let mut some = false;
    for command in sample.busiest() {
        some = true;
        table.add(vec![
            Cell::of(&command.name),
            Cell::made(command.per_second.to_string()),
            Cell::made(count(signed(command.calls))),
            Cell::made(count(signed(command.failed))),
            Cell::made(command.microseconds_per_call.to_string()),
        ]);
    }
    some.then_some(table)
}
