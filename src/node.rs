//! The composition root: from a configuration to a node that answers.
//!
//! ```text
//!   Config ──► Store ──► Cluster (join) ──► Catalog ──► Lifecycle ──► Services
//!                           │ journal events   ▲            ▲            │
//!                           └── Events ────────┴────────────┘            ▼
//!                                                  Workers      Server, Http
//! ```
//!
//! Here, and only here, an engine is chosen and the layers are wired: what a
//! lower layer must tell a higher one goes through the listener made here.
//! Tests start nodes too, several over one store.
//!
//! # Invariants
//!
//! * A node that is no member any more answers nothing: when its incarnation
//!   ends for whatever reason, its server and its workers end with it.
//!
//! Not here: what any of the parts does; arguments and signals (`main`).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::access;
use crate::clock::{Clock, milliseconds};
use crate::cluster::mutation::Mutations;
use crate::cluster::{Cluster, ClusterOptions, Ended, FIRST_ID_MAX, Listener, Stop};
use crate::codec::record::Event;
use crate::codec::{BucketId, Versionstamp};
use crate::command::Services;
use crate::config::{Config, Durability, FoundationDbConfig, StoreKind};
use crate::error::Error;
use crate::http::Http;
use crate::lifecycle::{Lifecycle, LifecycleOptions};
use crate::metadata::catalog::CatalogOptions;
use crate::metadata::policy::Settings;
use crate::metadata::{Catalog, Path};
use crate::server::Server;
use crate::store::{self, Resolve, Store, Transaction};
use crate::tls::{Certificates, TlsError};
use crate::worker::{WorkerOptions, Workers};

/// Bucket handles that a node keeps in memory.
const HANDLES_MAX: usize = 100_000;
/// Graves are kept for 90 days.
const GRAVE_RETENTION_MS: i64 = 90 * 24 * 3_600 * 1_000;
/// A removal whose purge waits is announced again after so long.
const ANNOUNCE_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// With `durability = interval`, commits are synced this often.
const SYNC_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot open the store: {0}")]
    Store(#[from] store::Error),
    #[error("{0}")]
    Listen(#[from] std::io::Error),
    #[error("cannot join the cluster: {0}")]
    Cluster(#[from] crate::cluster::Error),
    #[error("{0}")]
    Domain(#[from] Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Config(String),
    /// Others than this machine could reach a node that lets everybody do everything.
    #[error(
        "refusing to listen on {0}: the user 'default' asks for no password, so that whoever reaches this address could do \
         everything. Give the first users with auth.users or auth.users_file (LETHE_AUTH_USERS='admin on >PASSWORD ~* +@all'), \
         or change the default user with ACL SETUSER while the node listens on 127.0.0.1, or, where only machines that you trust \
         reach the address, start with --insecure (server.insecure)"
    )]
    Unprotected(SocketAddr),
}

/// What the configuration does not say about a node.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// The node's name in the cluster; by default that of the configuration, or its address.
    pub name: Option<String>,
    /// Nobody else can reach the store, so all other members are dead.
    pub exclusive: bool,
    /// Where the ids of a new store begin; by default anywhere below [`FIRST_ID_MAX`].
    pub first_id: Option<u64>,
    /// Deliberate mistakes, for the tests that must find them.
    pub mutations: Mutations,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    http: Door,
    services: Arc<Services>,
    lifecycle: Lifecycle,
    cluster: Cluster,
    stop: CancellationToken,
    ended: watch::Receiver<Option<Ended>>,
    tasks: Vec<JoinHandle<()>>,
}

/// The HTTP server: open before the node joins and until it has left. Its task ends when this is dropped.
#[derive(Debug)]
struct Door {
    addresses: Vec<SocketAddr>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Door {
    fn open(services: &Arc<Services>) -> std::io::Result<Self> {
        let http = Http::bind(Arc::clone(services))?;
        let (addresses, stop) = (http.addresses().to_vec(), CancellationToken::new());
        let mut task = JoinSet::new();
        task.spawn(http.run(stop.clone()));
        Ok(Self { addresses, stop, task })
    }

    async fn close(&mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

/// Tells the layers above the cluster what the journal says.
#[derive(Debug)]
struct Events(Lifecycle);

impl Listener for Events {
    fn on_event(&self, event: &Event, _: Versionstamp) {
        self.0.meters().note_event(event.kind);
        self.0.catalog().handles().forget(BucketId(event.object));
        self.0.wake_workers();
    }
}

/// Opens the store that a configuration names.
///
/// # Errors
/// Those of the engine.
pub async fn open_store(config: &Config) -> Result<Store, store::Error> {
    match config.store {
        StoreKind::Memory => Ok(Store::memory()),
        StoreKind::Embedded => {
            let durability = match config.durability {
                Durability::Sync => store::Durability::Sync,
                Durability::Interval => store::Durability::Interval(SYNC_INTERVAL),
            };
            let options = store::EmbeddedOptions { durability, ..Default::default() };
            Store::open(&config.data_dir, options).await
        }
        StoreKind::FoundationDb => {
            let FoundationDbConfig { cluster_file, key_prefix, timeout } =
                config.foundationdb.clone();
            let options = store::FoundationDbOptions { cluster_file, key_prefix, timeout };
            Store::foundationdb(&options).await
        }
    }
}

/// Where others reach a node that listens on `addresses`. Also its name, if it has no other, so that it has to differ from those
/// of the nodes on other machines, if there can be any.
fn advertised(config: &Config, addresses: &[SocketAddr], tls: &[SocketAddr]) -> String {
    if let Some(advertised) = &config.server.advertise {
        return advertised.clone();
    }
    let is_local =
        |address: &&SocketAddr| address.ip().is_loopback() || address.ip().is_unspecified();
    let plain = addresses.first();
    // Who listens for others with TLS only is reached there.
    let Some(address) = plain.filter(|it| !is_local(it)).or(tls.first()).or(plain) else {
        return String::new();
    };
    if is_local(&address)
        && config.store == StoreKind::FoundationDb
        && let Some(machine) = gethostname::gethostname().to_str()
    {
        return format!("{machine}:{}", address.port());
    }
    address.to_string()
}

/// Whether whoever connects may do what the default user may, as far as can be told before the first start.
async fn is_open(store: &Store, config: &Config) -> Result<bool, Error> {
    let body = |txn: Transaction| async move {
        let default = access::read(&txn, access::DEFAULT).await?;
        Ok::<_, Error>((access::is_untouched(&txn).await?, default))
    };
    let (untouched, default) = store.run("protection", Resolve::Idempotent, body).await?.value;
    let first = untouched && !config.first_users.0.is_empty();
    Ok(!first && default.is_some_and(|user| user.is_open()))
}

/// Refuses to listen where others than this machine reach the node, while nobody has to log in.
fn expect_protected(config: &Config, open: bool) -> Result<(), StartError> {
    let is_public = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
    let server = config.server.listen.iter().chain(&config.server.listen_tls);
    let mut all = server.chain(&config.http.listen);
    match all.find(is_public) {
        Some(address) if open && !config.server.insecure => Err(StartError::Unprotected(*address)),
        _ => Ok(()),
    }
}

impl Node {
    /// Opens the store and starts a node on it. On a local engine it is the
    /// only one, since that belongs to one process.
    ///
    /// # Errors
    /// The store cannot be opened, an address cannot be bound, the settings are
    /// not those the store was made with.
    pub async fn start(config: Arc<Config>, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let store = open_store(&config).await?;
        let exclusive = config.store != StoreKind::FoundationDb;
        let options = NodeOptions { exclusive, ..NodeOptions::default() };
        Self::start_on(store, config, clock, options).await
    }

    /// Starts a node over a store that is open already.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_on(
        store: Store,
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        options: NodeOptions,
    ) -> Result<Self, StartError> {
        let certificates = Certificates::load(&config, Arc::clone(&clock))?;
        let services = Services::new(Arc::clone(&config), Arc::clone(&clock));
        let services = Arc::new(services.with_certificates(certificates));
        expect_protected(&config, is_open(&store, &config).await?)?;
        let server = Server::bind(Arc::clone(&services))?;
        let http = Door::open(&services)?;
        let addresses = server.addresses().to_vec();
        let tls_addresses = server.tls_addresses().to_vec();
        let address = advertised(&config, &addresses, &tls_addresses);

        let cluster = Cluster::join(
            store.clone(),
            clock,
            ClusterOptions {
                name: config.cluster.name.clone(),
                node: options
                    .name
                    .or_else(|| config.cluster.node.clone())
                    .unwrap_or_else(|| address.clone()),
                address,
                shards: u16::try_from(config.cluster.shards)
                    .map_err(|_| StartError::Config("too many shards".to_owned()))?,
                heartbeat: config.cluster.heartbeat,
                silent_after: config.cluster.silent_after,
                drain_grace: config.cluster.drain_grace,
                drain_limit: config.cluster.drain_limit,
                exclusive: options.exclusive,
                first_id: options.first_id.unwrap_or_else(|| rand::random_range(1..FIRST_ID_MAX)),
                mutations: options.mutations,
            },
        )
        .await?;
        let catalog_options = CatalogOptions {
            default_namespace: Path::parse(config.session.namespace.as_bytes())?,
            handles_max: HANDLES_MAX,
            changes_retention_ms: milliseconds(config.changes_retention),
            settings: Settings {
                retention: config.removal.retention,
                tombstone_retention: config.tombstone_retention,
            },
            mutations: options.mutations,
        };
        let catalog = Catalog::open(store, cluster.clone(), catalog_options).await?;
        let lifecycle = Lifecycle::new(
            catalog,
            LifecycleOptions {
                retention: config.removal.retention,
                reserve_names: config.removal.reserve_names,
                purge_wait: config.purge.wait,
                copy_wait: config.copy.wait,
                copy_pause: config.copy.pause,
                grave_retention_ms: GRAVE_RETENTION_MS,
                mutations: options.mutations,
            },
        );
        services.make_first_users(lifecycle.catalog()).await?;
        services.reload_users_of(lifecycle.catalog()).await?;
        // Not before: HTTP is open, and until now it knew only a default user that asks for nothing.
        services.attach(lifecycle.clone());
        // The configuration may have made a default user that asks for nothing.
        expect_protected(&config, services.users.unnamed(Ipv4Addr::LOCALHOST.into()).is_some())?;
        let workers = Workers {
            lifecycle: lifecycle.clone(),
            options: WorkerOptions {
                changes_retention_ms: milliseconds(config.changes_retention),
                tombstone_retention: config.tombstone_retention,
                ttl: config.ttl,
                audit_retention_ms: milliseconds(config.audit_retention),
                announce_every: ANNOUNCE_EVERY,
            },
        };
        let (ended_sender, ended) = watch::channel(None);
        let mut node = Self {
            addresses,
            tls_addresses,
            http,
            services,
            lifecycle: lifecycle.clone(),
            cluster: cluster.clone(),
            stop: CancellationToken::new(),
            ended,
            tasks: Vec::new(),
        };
        let stop = node.stop.clone();
        node.tasks.push(tokio::spawn(server.run(stop.clone())));
        node.tasks.push(tokio::spawn(workers.run(stop.clone())));
        let following = Arc::clone(&node.services).follow_users(stop.clone());
        node.tasks.push(tokio::spawn(following));
        node.tasks.push(tokio::spawn(async move {
            let ended = cluster.run(vec![Arc::new(Events(lifecycle))]).await;
            // Whatever the reason: without membership nothing may go on.
            stop.cancel();
            ended_sender.send_replace(Some(ended));
        }));
        Ok(node)
    }

    /// Where it listens without TLS.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens with TLS.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Where it listens for HTTP.
    #[must_use]
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.http.addresses
    }

    #[must_use]
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    #[must_use]
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        self.lifecycle.catalog().store()
    }

    /// Waits until the node's incarnation is over, and tells why.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(Ended::Halted),
            // Its task was aborted.
            Err(_) => Ended::Halted,
        }
    }

    /// Stops in order: says that it is not ready, takes no more commands, lets those that run end, stops
    /// the workers, leaves the cluster, closes the store.
    pub async fn stop(mut self) {
        let store = self.store().clone();
        self.leave(Stop::Graceful).await;
        store.close().await;
        info!("stopped");
    }

    /// As [`Node::stop`], but the store stays open for other nodes over it.
    pub async fn leave(&mut self, how: Stop) {
        self.services.leave();
        let notice = self.services.config.server.shutdown_notice;
        if how == Stop::Graceful && !notice.is_zero() {
            tokio::time::sleep(notice).await;
        }
        // Server and workers first: what they have begun may still need the
        // membership.
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut self.tasks);
        let cluster = tasks.pop();
        for task in tasks {
            if let Err(error) = task.await {
                error!(%error, "a task of the node ended badly");
            }
        }
        self.cluster.stop(how);
        if let Some(task) = cluster {
            self.end_membership(task).await;
        }
        self.http.close().await;
    }

    /// Waits until the node has left the cluster, but no longer than the others would wait for it.
    async fn end_membership(&self, mut task: JoinHandle<()>) {
        let options = self.cluster.options();
        let patience = options.silent_after.saturating_add(options.drain_grace);
        let ended = match tokio::time::timeout(patience, &mut task).await {
            Ok(ended) => ended,
            Err(_elapsed) => {
                warn!("the store did not let the node leave; the others will put it out");
                self.cluster.stop(Stop::Halt);
                task.await
            }
        };
        if let Err(error) = ended {
            error!(%error, "the membership of the node ended badly");
        }
    }

    /// Ends as a crash would: nothing is finished, nothing is told to anybody.
    pub fn kill(mut self) {
        self.http.task.abort_all();
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }
}
