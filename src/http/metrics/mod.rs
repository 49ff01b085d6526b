//! The metrics page: every family, in the text form of Prometheus.
//!
//! Nearly all of it is a copy of counters in memory. What only the store knows is read at most once
//! in [`FRESH`], by one request for all that ask: the journal behind what was applied (as a rule
//! no row), whether purging is paused, who reads change logs, whether the node is ready (four reads
//! together).
//!
//! docs/metrics.md has all families; a test compares the two.

mod cluster;
mod commands;
mod feed;
mod page;
mod removals;
mod store;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::ready;
use crate::command::Services;
use crate::document::replica::{self, Figures};
use crate::error::Result;
use crate::lifecycle::Lifecycle;
use crate::store::Transaction;
use page::Page;

/// How long what was read from the store is shown.
const FRESH: Duration = Duration::from_secs(1);

/// How long the store may take to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// What only the store knows; `None` where it did not answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Looked {
    lag: Option<usize>,
    paused: Option<bool>,
    replicas: Option<Figures>,
    ready: bool,
}

/// The last look into the store.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<Option<(Instant, Looked)>>);

impl Looks {
    /// Looks, unless somebody has just looked. Who comes meanwhile waits and shares.
    pub(super) async fn look(&self, services: &Services) -> Looked {
        let mut last = self.0.lock().await;
        if let Some((at, looked)) = *last
            && at.elapsed() < FRESH
        {
            return looked;
        }
        let looked = Box::pin(look(services)).await;
        *last = Some((Instant::now(), looked));
        looked
    }
}

async fn look(services: &Services) -> Looked {
    let Ok(lifecycle) = services.lifecycle() else { return Looked::default() };
    let lag = tokio::time::timeout(STORE_TIMEOUT, lifecycle.catalog().cluster().lag());
    let paused = tokio::time::timeout(STORE_TIMEOUT, lifecycle.paused());
    let replicas = tokio::time::timeout(STORE_TIMEOUT, replicas(lifecycle));
    let (lag, paused, replicas, ready) =
        tokio::join!(lag, paused, replicas, ready::check(services));
    Looked {
        lag: lag.ok().and_then(std::result::Result::ok),
        paused: paused.ok().and_then(Result::ok).map(|pause| pause.is_some()),
        replicas: replicas.ok().and_then(Result::ok),
        ready: ready.is_ok(),
    }
}

async fn replicas(lifecycle: &Lifecycle) -> Result<Figures> {
    let body = |txn: Transaction| async move { replica::figures(&txn).await };
    lifecycle.catalog().read("replica-figures", body).await
}

/// Writes the page.
pub(super) fn page(
    services: &Arc<Services>,
    looked: Looked,
) -> std::result::Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("lethe");
    registry.register_collector(Box::new(Families { services: Arc::clone(services), looked }));
    let mut page = String::with_capacity(32 * 1024);
    text::encode(&mut page, &registry)?;
    Ok(page)
}

#[derive(Debug)]
struct Families {
    services: Arc<Services>,
    looked: Looked,
}

impl Collector for Families {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (services, looked) = (&*self.services, &self.looked);
        let mut page = Page::new(encoder);
        process(services, looked, &mut page)?;
        commands::write(services, &mut page)?;
        tls::write(services.certificates.as_deref(), &mut page)?;
        // While it is starting a node has neither a store nor a membership: the families are there, empty.
        let lifecycle = services.lifecycle().ok();
        store::write(lifecycle.map(|lifecycle| lifecycle.catalog().store()), &mut page)?;
        let cluster = lifecycle.map(|lifecycle| lifecycle.catalog().cluster());
        cluster::write(cluster, looked, &mut page)?;
        feed::write(services, looked, &mut page)?;
        removals::write(lifecycle, looked, &mut page)
    }
}

fn process(services: &Services, looked: &Looked, page: &mut Page<'_>) -> fmt::Result {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    page.gauges("build_info", "The program, always 1", [(version, 1)])?;
    let uptime = services.started.elapsed().as_secs();
    page.gauge("uptime_seconds", "Since the node began to serve", Some(uptime))?;
    page.gauge(
        "ready",
        "1 while clients should be sent here, as /readyz says",
        Some(u64::from(looked.ready)),
    )?;
    let resident = crate::command::resident_bytes();
    page.gauge("memory_resident_bytes", "Memory of the process", resident)
}
