//! Counts what namespaces with quotas hold, for this node's own writes.
//!
//! Every node counts what its clients write to, and only while they do. Between two counts
//! lies at least [`REST_MIN`] and this many times what the last one took, so that counting
//! takes a small part of the node.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::metadata::usage;

use super::{Workers, put_off};

/// So long what is written goes uncounted at least.
pub const REST_MIN: Duration = Duration::from_secs(1);
const REST_TIMES: u32 = 4;

pub(super) async fn run(workers: Workers, stop: CancellationToken) {
    let catalog = workers.lifecycle.catalog();
    let usages = catalog.handles().usages().clone();
    let mut wakes = workers.lifecycle.wakes();
    loop {
        if !usages.is_warm() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = wakes.changed() => usages.ask_all(),
                () = usages.asked() => {}
            }
        }
        let all = usages.take_asked();
        if all.is_empty() {
            continue;
        }
        let began = Instant::now();
        for asked in all {
            match usage::count(catalog, asked.id()).await {
                Ok(sums) => asked.note(sums, catalog.now()),
                Err(error) => put_off("usage", &asked.id(), &error),
            }
            if stop.is_cancelled() {
                return;
            }
        }
        let rest = REST_MIN.max(began.elapsed().saturating_mul(REST_TIMES));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(rest) => {}
        }
    }
}
