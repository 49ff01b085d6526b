//! Pages that follow what happens.
//!
//! A browser that shows a page asks for it again with the tag of what it shows and how long it is
//! willing to wait. It is answered when the page would look different: at once, or when the journal
//! or a barrier has moved.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use xxhash_rust::xxh3::xxh3_64;

use super::desk::Desk;
use super::fault::Fault;
use super::page::{self, Live};
use super::{Console, get};
use crate::command::Services;
use crate::store::{Transaction, Watch};

/// How long a page waits at most; well within the life of a connection.
const WAIT_MAX: Duration = Duration::from_secs(25);

/// How often a page is looked at again that moves by itself.
const PACE: Duration = Duration::from_secs(1);

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Answers with a page, or after a while that it has not changed.
pub(super) async fn respond(
    console: &Console,
    path: &str,
    desk: &mut Desk,
    headers: &HeaderMap,
) -> Result<Response, Fault> {
    let until = Instant::now() + wait(headers);
    let shown = headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    let mut place = None;
    loop {
        // Asked before the page is made: what changes meanwhile is seen the next time.
        desk.take_change_of_user();
        // The watches come first: what happens while the page is made is not missed.
        let news = match shown {
            Some(_) => News::begin(Arc::clone(desk.services())).await,
            None => None,
        };
        let page = get(path, desk).await?;
        let text = page::render(desk, &page);
        let tag = format!("\"{:016x}\"", xxh3_64(text.as_bytes()));
        if shown != Some(&tag) {
            return Ok(page::send(desk, page.status, text, Some(&tag)));
        }
        let Some(news) = news.filter(|_| page.live != Live::No && Instant::now() < until) else {
            return Ok(page::unchanged(&tag));
        };
        if place.is_none() {
            // Who finds no place to wait is told at once, and comes again.
            place = console.waiting.try_acquire().ok();
            if place.is_none() {
                return Ok(page::unchanged(&tag));
            }
        }
        let waited = news.wait(page.live, until);
        let (alert, may_have_changed) = (desk.alert(), desk.take_change_of_user());
        let moved = may_have_changed
            || tokio::select! {
                moved = waited => moved,
                () = alert.notified() => true,
            };
        if !console.is_in_yet(desk) {
            return Err(Fault::log_in_first());
        }
        if !moved {
            return Ok(page::unchanged(&tag));
        }
    }
}

/// Whether a page asks for itself once more, with nobody at the keys.
pub(super) fn is_of_script(headers: &HeaderMap) -> bool {
    headers.contains_key(PREFER)
}

/// `Prefer: wait=<seconds>`.
fn wait(headers: &HeaderMap) -> Duration {
    let preferred = headers.get(PREFER).and_then(|value| value.to_str().ok());
    let seconds = preferred.and_then(|value| value.trim().strip_prefix("wait="));
    let seconds = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds).min(WAIT_MAX)
}

/// What tells that something may have changed.
struct News {
    journal: watch::Receiver<u64>,
    barriers: Watch,
}

impl News {
    async fn begin(services: Arc<Services>) -> Option<Self> {
        let lifecycle = services.lifecycle().ok()?;
        let mut journal = lifecycle.wakes();
        journal.mark_unchanged();
        let cluster = lifecycle.catalog().cluster();
        let watch = |txn: Transaction| async move { Ok(cluster.watch_barriers(&txn)?) };
        let barriers = lifecycle.catalog().read("console", watch).await.ok()?;
        Some(Self { journal, barriers })
    }

    /// Whether something may have changed before the time was over.
    async fn wait(mut self, live: Live, until: Instant) -> bool {
        let paced = async {
            match live {
                Live::Moving => sleep(PACE).await,
                Live::No | Live::Events => std::future::pending().await,
            }
        };
        let news = async {
            tokio::select! {
                changed = self.journal.changed() => changed.is_ok(),
                _ = self.barriers => true,
                () = paced => true,
            }
        };
        timeout_at(until, news).await.unwrap_or(false)
    }
}
