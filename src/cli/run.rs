use std::io::{IsTerminal, Write};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::password::NoPassword;
use super::shown::harmless;
use super::{CheckArgs, Cli, Command, ServerArgs, log};
use crate::check::{self, PAGE_KEYS, Severity};
use crate::client::AddressError;
use crate::clock::SystemClock;
use crate::cluster::Ended;
use crate::config::{Config, ConfigError, StoreKind};
use crate::demo::{self, Colours};
use crate::node::{Node, NodeOptions, StartError};
use crate::store::{self, RangeRead, Store};

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    Store(#[from] store::Error),
    /// Opening the folder would create an empty store there.
    #[error("there is no store in {0}")]
    NoStore(String),
    #[error("{0}")]
    Demo(#[from] demo::Error),
    #[error("{0}")]
    Domain(#[from] crate::error::Error),
    #[error("{0}")]
    Address(#[from] AddressError),
    #[error("{0}")]
    Password(#[from] NoPassword),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Something that is said best in its own words.
    #[error("{0}")]
    Told(String),
}

/// How a subcommand ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The check found something.
    Findings,
    /// The node is no member any more: the process is to start over.
    StartAgain,
    /// It has told what went wrong, and the process ends with this status.
    Status(u8),
}

/// Does what the command line says.
///
/// # Errors
/// With a message for the person who typed it.
pub async fn run(cli: Cli) -> Result<Outcome, Failure> {
    let Some(command) = cli.command else { return server(&cli.server).await };
    if !matches!(command, Command::Server(_)) {
        log::begin(&Config::default().log)?;
    }
    match command {
        Command::Server(args) => server(&args).await,
        Command::Check(args) => check(&args).await,
        Command::Demo => demo().await,
        Command::Backup(args) => super::copy::backup(&args).await,
        Command::RestoreBackup(args) => super::copy::restore(&args).await,
        Command::Replicate(args) => super::replicate::replicate(&args).await,
        Command::Ready(args) => super::ready::ready(&args),
        Command::Remote(remote) => Ok(super::remote::run(&remote).await),
        Command::Completions(args) => super::generate::completions(&args),
        Command::Man(args) => super::generate::man(&args),
    }
}

async fn server(args: &ServerArgs) -> Result<Outcome, Failure> {
    let config = Arc::new(args.load()?);
    log::begin(&config.log)?;
    // Before anybody is told that the node is there, and could stop it.
    let told_to_stop = told_to_stop();
    let hangups = signal(SignalKind::hangup())?;
    let node = Node::start(Arc::clone(&config), Arc::new(SystemClock)).await?;
    greet(&node, &config)?;
    let ended = tokio::select! {
        ended = node.ended() => Some(ended),
        () = told_to_stop => None,
        ended = read_certificates_on(hangups, &node) => ended,
    };
    match ended {
        // An incarnation that is over leaves nothing behind but a new process.
        Some(Ended::GaveUp(_) | Ended::Evicted) => Ok(Outcome::StartAgain),
        Some(Ended::Left | Ended::Halted) | None => {
            node.stop().await;
            Ok(Outcome::Done)
        }
    }
}

/// Reads the certificates again with each SIGHUP, for as long as the node runs.
async fn read_certificates_on(mut hangups: Signal, node: &Node) -> Option<Ended> {
    while hangups.recv().await.is_some() {
        let Some(certificates) = node.services().certificates.clone() else {
            tracing::warn!("SIGHUP: no port speaks TLS, so there is nothing to read again");
            continue;
        };
        // It reads files, and says in the log what came of it.
        let read = tokio::task::spawn_blocking(move || certificates.reload().is_ok()).await;
        if let Err(error) = read {
            tracing::error!(%error, "the certificates could not be read again");
        }
    }
    std::future::pending().await
}

async fn check(args: &CheckArgs) -> Result<Outcome, Failure> {
    let server = ServerArgs {
        data_dir: args.data_dir.clone(),
        store: args.store,
        foundationdb: args.foundationdb.clone(),
        config: args.config.clone(),
        ..ServerArgs::default()
    };
    let mut config = server.load()?;
    if config.store != StoreKind::FoundationDb {
        // The one kind of store that lies in a folder.
        config.store = StoreKind::Embedded;
        if !config.data_dir.join("FORMAT").is_file() {
            return Err(Failure::NoStore(config.data_dir.display().to_string()));
        }
    }
    let store = crate::node::open_store(&config).await?;
    let outcome = print_findings(&store, &mut std::io::stdout()).await;
    store.close().await;
    outcome
}

async fn print_findings(store: &Store, out: &mut impl Write) -> Result<Outcome, Failure> {
    let (mut keys, mut errors, mut warnings) = (0, 0, 0);
    let mut from = None;
    loop {
        let page = check::page(store, from.as_deref(), PAGE_KEYS).await?;
        keys += page.keys;
        for finding in &page.findings {
            match finding.severity() {
                Severity::Error => errors += 1,
                Severity::Warning => warnings += 1,
            }
            writeln!(out, "{} [{}]", harmless(&finding.to_string()), finding.raw_key())?;
        }
        match page.next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    writeln!(out, "{keys} keys checked: {errors} errors, {warnings} warnings")?;
    Ok(if errors > 0 { Outcome::Findings } else { Outcome::Done })
}

fn greet(node: &Node, config: &Config) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let place = match config.store {
        StoreKind::Embedded => format!("data in {}", config.data_dir.display()),
        StoreKind::Memory => "data in memory only, gone with this process".to_owned(),
        StoreKind::FoundationDb => {
            format!("data in FoundationDB, key prefix {}", config.foundationdb.key_prefix)
        }
    };
    writeln!(out, "Lethe {} is ready, {place}", env!("CARGO_PKG_VERSION"))?;
    let scheme = if config.http.tls { "https" } else { "http" };
    for address in node.http_addresses() {
        let page = format!("{scheme}://{address}");
        writeln!(out, "Metrics and health: {page}/metrics, {page}/readyz")?;
    }
    let plain = node.addresses().iter().map(|address| ("", address));
    let tls = node.tls_addresses().iter().map(|address| (" --tls", address));
    for (option, address) in plain.chain(tls) {
        writeln!(out, "Connect with: redis-cli{option} -h {} -p {}", address.ip(), address.port())?;
    }
    out.flush()
}

/// Waits for SIGTERM or SIGINT, from the call on: a signal that comes before anybody awaits is not lost.
pub(super) fn told_to_stop() -> impl Future<Output = ()> {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        match (terminate, interrupt) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            // Without signals only the end of the process ends the node.
            _ => std::future::pending().await,
        }
    }
}

async fn demo() -> Result<Outcome, Failure> {
    let folder = tempfile::tempdir()?;
    let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
    config.server.listen = vec![([127, 0, 0, 1], 0).into()];
    let store = crate::node::open_store(&config).await?;
    let options = NodeOptions { exclusive: true, ..NodeOptions::default() };
    let node =
        Node::start_on(store.clone(), Arc::new(config), Arc::new(SystemClock), options).await?;
    let Some(address) = node.addresses().first().copied() else { return Ok(Outcome::Done) };
    let colours = if std::io::stdout().is_terminal() { Colours::On } else { Colours::Off };
    let mut out = std::io::stdout();
    let told = demo::tell(address, &mut out, colours, async |bucket| {
        keys_left(&store, bucket)
            .await
            .map_err(|error| demo::Error::Io(std::io::Error::other(error)))
    })
    .await;
    node.stop().await;
    if let Err(error @ demo::Error::NotAsTold { .. }) = &told {
        writeln!(std::io::stderr(), "lethe: {error}")?;
        return Ok(Outcome::Findings);
    }
    told?;
    Ok(Outcome::Done)
}

/// Counts what the store holds below a bucket's prefix.
async fn keys_left(store: &Store, bucket: crate::codec::BucketId) -> store::Result<usize> {
    let txn = store.begin("demo");
    let mut count = 0;
    let mut next = Some(RangeRead::prefix(crate::codec::keys::data_prefix(bucket)).snapshot());
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        count += page.rows.len();
        next = range.after(&page);
    }
    Ok(count)
}
