//! Who reads change logs, and who waits for changes.

use std::fmt;

use super::Looked;
use super::page::{Page, number};
use crate::command::Services;
use crate::document::Waiters;

pub(super) fn write(services: &Services, looked: &Looked, page: &mut Page<'_>) -> fmt::Result {
    let rooms = services.waiters().ok().map(Waiters::rooms);
    page.gauge(
        "changes_waited_buckets",
        "Buckets for whose changes clients of this node wait",
        rooms.map(|rooms| u64::try_from(rooms).unwrap_or(u64::MAX)),
    )?;
    let figures = looked.replicas;
    let states = figures.map(|figures| [("live", figures.live), ("stale", figures.stale)]);
    page.gauges(
        "replicas",
        "Registered readers of change logs, counted up to 1,000",
        states.into_iter().flatten().map(|(state, count)| ([("state", state)], count)),
    )?;
    let now = services.lifecycle().ok().map(|lifecycle| lifecycle.catalog().now());
    let silence = figures.zip(now).map(|(figures, now)| {
        let since = figures.silent_since.map_or(0, |since| now.saturating_sub(since));
        number(u64::try_from(since).unwrap_or(0) / 1_000)
    });
    page.seconds(
        "replica_silence_seconds",
        "How long the live replica is silent that spoke longest ago; 0 without any",
        silence,
    )
}
