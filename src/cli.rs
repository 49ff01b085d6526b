//! The command line: what `lethe` can be told to do.
//!
//! Each subcommand is a few calls into the layers below; what it prints is for
//! people. What is asked of a node over the wire is in `remote`. Settings come from the defaults, the file, `LETHE_*` variables and
//! flags, in that order.
//!
//! Not here: the process itself and its runtime (`main`).

mod copy;
mod generate;
mod line;
mod log;
mod password;
mod ready;
mod remote;
mod replicate;
mod run;
mod shown;

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::{Address, AddressError};
use crate::config::{Config, ConfigError};

pub use password::NoPassword;
pub use run::{Failure, Outcome, run};
pub use shown::harmless;

/// A document database that speaks the Redis protocol and whose deletions are safe.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Reads the arguments of the program.
///
/// # Errors
/// The status to end with, when they ask for help or make no sense, which has been said: with `--json` among them as
/// other errors are, in one line.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let words: Vec<OsString> = words.into_iter().collect();
    Cli::try_parse_from(&words).map_err(|error| {
        let asked = words.iter().any(|word| word == "--json");
        let said = if asked && error.use_stderr() {
            writeln!(std::io::stderr(), "{}", remote::usage_json(&error.render().to_string()))
        } else {
            error.print()
        };
        // Nothing is left to be done when even this cannot be written.
        drop(said);
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node (what `lethe` does without a subcommand)
    Server(ServerArgs),
    #[command(flatten)]
    Remote(remote::Remote),
    /// Scan a store that no node has open, and report every orphaned, dangling or inconsistent key
    Check(CheckArgs),
    /// Tell the whole story on real data, on a private node in a temporary folder
    Demo,
    /// Copy a whole store, also while a node runs on it
    Backup(BackupArgs),
    /// Make a data folder from a copy
    RestoreBackup(RestoreArgs),
    /// Keep a bucket of another cluster the same as a bucket of this one, one way
    Replicate(ReplicateArgs),
    /// Ask a node on this machine whether it is ready, as its /readyz says; exit 0 if it is
    Ready(ReadyArgs),
    /// Print completions for a shell
    Completions(generate::CompletionsArgs),
    /// Make the pages for man
    Man(generate::ManArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StoreArg {
    Embedded,
    Memory,
    #[value(name = "foundationdb")]
    FoundationDb,
}

impl StoreArg {
    const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Memory => "memory",
            Self::FoundationDb => "foundationdb",
        }
    }
}

#[derive(Debug, Args)]
struct BackupArgs {
    /// Where to; must be empty or not there
    to: PathBuf,
    /// Folder to copy, while no node has it open
    #[arg(long, default_value = "lethe-data")]
    data_dir: PathBuf,
    /// Let this running node, on this machine, make the copy: redis://user@host:port, rediss:// for TLS. The password is taken from
    /// LETHE_PASSWORD, or asked for on a terminal
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    node: Option<String>,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What a client of nodes trusts and shows where it talks by TLS, in redis-cli's words.
#[derive(Debug, Clone, Default, Args)]
struct TrustArgs {
    /// The authorities of nodes' certificates, in PEM, for addresses with rediss:// [default: those of this machine]
    #[arg(long, value_name = "FILE", env = "LETHE_CACERT")]
    cacert: Option<PathBuf>,
    /// A certificate to show to nodes that ask for one, in PEM
    #[arg(long, value_name = "FILE", env = "LETHE_CERT", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", env = "LETHE_KEY", requires = "cert")]
    key: Option<PathBuf>,
}

impl TrustArgs {
    /// Reads an address; if it is one with TLS, this is what counts there.
    fn address(&self, text: &str) -> Result<Address, AddressError> {
        let mut address: Address = text.parse()?;
        if let Some(trust) = &mut address.tls {
            trust.ca_file.clone_from(&self.cacert);
            trust.identity = self.cert.clone().zip(self.key.clone());
        }
        Ok(address)
    }
}

#[derive(Debug, Args)]
struct ReplicateArgs {
    /// Where the bucket is that is followed: lethe://user@host:port/namespace, lethes:// for TLS. The password is taken from
    /// LETHE_FROM_PASSWORD, or asked for on a terminal
    #[arg(long, value_name = "URL")]
    from: String,
    /// Where its changes are taken over; the password is taken from LETHE_TO_PASSWORD, or asked for
    #[arg(long, value_name = "URL")]
    to: String,
    /// The bucket that is followed
    #[arg(long)]
    bucket: String,
    /// The bucket that takes over its changes; made if it is not there [default: the same name]
    #[arg(long, value_name = "BUCKET")]
    to_bucket: Option<String>,
    /// Name of the replica at the source [default: made of the target's bucket]
    #[arg(long)]
    name: Option<String>,
    /// How long the replica may be silent before it has to start from a snapshot [default: replica.lease of the source]
    #[arg(long, value_name = "DURATION")]
    lease: Option<String>,
    /// End when nothing is left to take over
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Debug, Args)]
struct RestoreArgs {
    /// The copy
    from: PathBuf,
    /// The new data folder; must be empty or not there
    #[arg(long, default_value = "lethe-data")]
    data_dir: PathBuf,
}

#[derive(Debug, Default, Args)]
struct ServerArgs {
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long)]
    bind: Option<String>,
    /// Port for clients, 0 for any free one [default: 5484]
    #[arg(long)]
    port: Option<u16>,
    /// Address to listen on with TLS [default: none]
    #[arg(long)]
    tls_bind: Option<String>,
    /// Port for clients with TLS, 0 for any free one [default: 6484]
    #[arg(long)]
    tls_port: Option<u16>,
    /// The certificate for TLS, in PEM
    #[arg(long, value_name = "FILE")]
    tls_cert_file: Option<String>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE")]
    tls_key_file: Option<String>,
    /// Port for metrics and health, 0 for any free one [default: 9484]
    #[arg(long)]
    http_port: Option<u16>,
    /// Folder of the embedded store [default: lethe-data]
    #[arg(long)]
    data_dir: Option<String>,
    /// Engine that keeps the data [default: embedded]
    #[arg(long, value_enum)]
    store: Option<StoreArg>,
    #[command(flatten)]
    foundationdb: FoundationDbArgs,
    /// Where clients and other nodes reach this one [default: where it listens]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Listen on any address although no user needs a password: whoever reaches the port may do everything
    #[arg(long)]
    insecure: bool,
    /// Settings file
    #[arg(long, env = "LETHE_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Args)]
struct FoundationDbArgs {
    /// Cluster file of FoundationDB [default: where its own tools look]
    #[arg(long, value_name = "FILE")]
    cluster_file: Option<String>,
    /// What stands in front of all keys in FoundationDB [default: lethe]
    #[arg(long, value_name = "PREFIX")]
    key_prefix: Option<String>,
}

#[derive(Debug, Args)]
struct ReadyArgs {
    /// Where it answers HTTP [default: http.bind and http.port of the settings]
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Settings file
    #[arg(long, env = "LETHE_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Folder of the embedded store [default: lethe-data]
    #[arg(long)]
    data_dir: Option<String>,
    /// Engine that keeps the data [default: embedded]
    #[arg(long, value_enum)]
    store: Option<StoreArg>,
    #[command(flatten)]
    foundationdb: FoundationDbArgs,
    /// Settings file
    #[arg(long, env = "LETHE_CONFIG")]
    config: Option<PathBuf>,
}

impl ServerArgs {
    /// The settings in force.
    fn load(&self) -> Result<Config, ConfigError> {
        let mut flags = Vec::new();
        if let Some(bind) = &self.bind {
            flags.push(("server.bind", bind.clone()));
        }
        if let Some(port) = self.port {
            flags.push(("server.port", port.to_string()));
        }
        if let Some(bind) = &self.tls_bind {
            flags.push(("server.tls_bind", bind.clone()));
        }
        if let Some(port) = self.tls_port {
            flags.push(("server.tls_port", port.to_string()));
        }
        if let Some(file) = &self.tls_cert_file {
            flags.push(("tls.cert_file", file.clone()));
        }
        if let Some(file) = &self.tls_key_file {
            flags.push(("tls.key_file", file.clone()));
        }
        if let Some(port) = self.http_port {
            flags.push(("http.port", port.to_string()));
        }
        if let Some(folder) = &self.data_dir {
            flags.push(("data_dir", folder.clone()));
        }
        if let Some(store) = self.store {
            flags.push(("store", store.name().to_owned()));
        }
        if let Some(file) = &self.foundationdb.cluster_file {
            flags.push(("foundationdb.cluster_file", file.clone()));
        }
        if let Some(prefix) = &self.foundationdb.key_prefix {
            flags.push(("foundationdb.key_prefix", prefix.clone()));
        }
        if self.insecure {
            flags.push(("server.insecure", "true".to_owned()));
        }
        if let Some(address) = &self.advertise {
            flags.push(("server.advertise", address.clone()));
        }
        let file = self.config.as_deref().or_else(|| {
            // The file of this name in the working folder is read when it is there.
            let usual = Path::new("lethe.toml");
            usual.is_file().then_some(usual)
        });
        crate::config::load(file, std::env::vars(), &flags)
    }
}
