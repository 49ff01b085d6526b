//! The settings of a node: what they may be and where they come from.
//!
//! ```text
//!   defaults < file < LETHE_* variables < flags ──► RawConfig ──check──► Config
//! ```
//!
//! [`RawConfig`] is what was written: numbers and text, unknown keys refused.
//! [`Config`] is what it means: checked, with units in the types. Everything that
//! takes a setting takes it from a `Config`, so nothing can be out of range.
//!
//! # Invariants
//!
//! * `config/lethe.toml` holds every setting at its default; a test compares the two.
//! * An error names the key, the value and what is allowed.
//!
//! Not here: what a setting does.

mod check;
mod error;
mod load;
mod raw;
mod tls;
mod users;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use error::ConfigError;
pub use load::load;
pub use raw::RawConfig;
pub use tls::{ClientCertificates, TlsConfig};
pub use users::UserRules;

pub use crate::codec::duration::Retention;

/// Which engine keeps the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In the data folder of this node.
    Embedded,
    /// In memory, gone with the process.
    Memory,
    /// In a FoundationDB, which other nodes share.
    FoundationDb,
}

impl StoreKind {
    /// As the setting names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Memory => "memory",
            Self::FoundationDb => "foundationdb",
        }
    }
}

/// When a commit is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk.
    Sync,
    /// When it is written; a crash of the machine may lose the last moments.
    Interval,
}

/// How documents are written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentFormat {
    /// Binary.
    Bson,
    /// Text.
    Json,
}

impl DocumentFormat {
    /// Reads a name in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Bson, Self::Json].into_iter().find(|it| it.name().eq_ignore_ascii_case(text))
    }

    /// The name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bson => "bson",
            Self::Json => "json",
        }
    }
}

/// How ids of documents are written in replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectIdFormat {
    /// 12 raw bytes.
    Bytes,
    /// 24 hex digits.
    Hex,
}

impl ObjectIdFormat {
    /// Reads a name in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Bytes, Self::Hex].into_iter().find(|it| it.name().eq_ignore_ascii_case(text))
    }

    /// The name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Hex => "hex",
        }
    }
}

/// All settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the embedded store lives.
    pub data_dir: PathBuf,
    /// Which engine keeps the data.
    pub store: StoreKind,
    /// When a commit is answered.
    pub durability: Durability,
    /// Which FoundationDB, if it is the engine.
    pub foundationdb: FoundationDbConfig,
    /// The listener and its connections.
    pub server: ServerConfig,
    /// The port for metrics and health.
    pub http: HttpConfig,
    /// What TLS stands on; `None` where no port speaks it.
    pub tls: Option<TlsConfig>,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Which commands are remembered as slow.
    pub slow_log: SlowLogConfig,
    /// What a session starts with.
    pub session: SessionConfig,
    /// What a document may be.
    pub document: DocumentConfig,
    /// What a query may cost.
    pub query: QueryConfig,
    /// What indexes may be.
    pub index: IndexConfig,
    /// What becomes of removed buckets and namespaces.
    pub removal: RemovalConfig,
    /// Purging.
    pub purge: PurgeConfig,
    /// Copying and swapping.
    pub copy: CopyConfig,
    /// Members, shards and how they watch each other.
    pub cluster: ClusterConfig,
    /// How long deleted documents are kept, where DELETE doesn't say otherwise.
    pub tombstone_retention: Retention,
    /// How often documents are looked for whose time is over.
    pub ttl: TtlConfig,
    /// How long a bucket's change log is kept, if no replica needs it longer.
    pub changes_retention: Duration,
    /// Readers of change logs that wait.
    pub changes: ChangesConfig,
    /// Registered readers of change logs.
    pub replica: ReplicaConfig,
    /// How long the audit log is kept.
    pub audit_retention: Duration,
    /// Who is made a user when a store without users is first started on.
    pub first_users: UserRules,
    /// Key and value of every setting, for CONFIG GET, sorted by key.
    pub entries: Vec<(String, String)>,
}

/// Readers of change logs that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangesConfig {
    /// The longest wait for a change; then the client is to ask again.
    pub block_max: Duration,
}

/// Looking for documents whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlConfig {
    /// From the end of a look to the next, where an index leads to their dates.
    pub every: Duration,
    /// The same where all documents are looked at.
    pub scan_every: Duration,
}

/// Registered readers of change logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// How long a replica may be silent, where it doesn't say.
    pub lease: Duration,
    /// The longest lease that it may ask for.
    pub lease_max: Duration,
}

/// Which FoundationDB, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundationDbConfig {
    /// The cluster file; `None`: where FoundationDB's own tools look.
    pub cluster_file: Option<PathBuf>,
    /// Stores with different prefixes do not see each other.
    pub key_prefix: String,
    /// How long it may take for the reads of a transaction, and for its commit.
    pub timeout: Duration,
}

/// The listener and its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where to listen without TLS.
    pub listen: Vec<SocketAddr>,
    /// Where to listen with TLS. There is at least one address here or above.
    pub listen_tls: Vec<SocketAddr>,
    /// What clients that come with TLS have to show.
    pub client_certificates: ClientCertificates,
    /// Where others reach this node, if not where it listens.
    pub advertise: Option<String>,
    /// Whoever reaches the port may do what the default user may, from wherever he comes.
    pub insecure: bool,
    /// Connections at a time.
    pub max_clients: usize,
    /// A connection from which nothing comes for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// How long a shutdown lets clients go on after the node has said that it is not ready any more.
    pub shutdown_notice: Duration,
    /// How long a shutdown waits for running commands.
    pub shutdown_timeout: Duration,
    /// How long a command goes on after its client hung up.
    pub hangup_grace: Duration,
    /// TCP keepalive.
    pub keepalive: Option<Duration>,
    /// Connections that wait to be taken.
    pub backlog: i32,
    /// Bytes of one request.
    pub request_bytes_max: usize,
    /// Words of one request.
    pub arguments_max: usize,
    /// How deep arrays may lie in a request.
    pub nesting_max: usize,
    /// Bytes of one inline command.
    pub inline_bytes_max: usize,
    /// Bytes of replies that wait for a client to read them; then no further command of it is begun.
    pub output_bytes_max: usize,
    /// Bytes of requests and replies of all connections together, beyond half a MiB each.
    pub buffer_bytes_max: usize,
    /// A client with that much waiting that reads nothing for so long is disconnected.
    pub output_timeout: Duration,
}

/// The port for metrics and health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to listen; nowhere if there is no address.
    pub listen: Vec<SocketAddr>,
    /// Whether it speaks HTTPS, and HTTPS only.
    pub tls: bool,
    /// What its clients have to show then.
    pub client_certificates: ClientCertificates,
    /// Connections at a time.
    pub max_connections: usize,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line, for programs.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How a line is written.
    pub format: LogFormat,
    /// What is written, in the form of `RUST_LOG`.
    pub filter: String,
}

/// Which commands are remembered as slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowLogConfig {
    /// Commands that took at least so long; `None`: none.
    pub threshold: Option<Duration>,
    /// How many of them are kept.
    pub entries_max: usize,
}

/// What a session starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The current namespace at the start.
    pub namespace: String,
    /// Documents in replies.
    pub reply_type: DocumentFormat,
    /// Documents in `BUCKET.INSERT`.
    pub input_type: DocumentFormat,
    /// Documents per batch; above 0.
    pub limit: u32,
    /// Ids in replies.
    pub object_id_format: ObjectIdFormat,
    /// Open cursors at a time.
    pub cursors_max: usize,
    /// Bytes that all of them hold together.
    pub cursor_bytes_max: usize,
}

/// What a document may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentConfig {
    /// Bytes of BSON; one transaction has to hold it.
    pub bytes_max: usize,
    /// Documents and arrays inside each other.
    pub depth_max: usize,
}

/// What one batch of a query may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryConfig {
    /// Documents looked at.
    pub examined_max: usize,
    /// After so long a batch ends, however little it has found.
    pub time_max: Duration,
    /// Bytes of documents held while sorting without an index.
    pub sort_bytes_max: usize,
}

/// What indexes may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexConfig {
    /// Indexes of one bucket, without the primary one.
    pub per_bucket_max: usize,
    /// Whether new buckets refuse values of another type than their indexes declare.
    pub strict_types: bool,
}

/// What becomes of removed buckets and namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalConfig {
    /// How long they stay restorable.
    pub retention: Retention,
    /// Whether their names stay taken until the purge.
    pub reserve_names: bool,
}

/// Purging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeConfig {
    /// How long PURGE waits for the barrier.
    pub wait: Duration,
}

/// Copying and swapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyConfig {
    /// How long SWAP waits until the copy is close behind.
    pub wait: Duration,
    /// How long writers wait for a SWAP, at most.
    pub pause: Duration,
}

/// Members, shards and how they watch each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Shown in CLUSTER.DESCRIBE.
    pub name: String,
    /// This node's name in it; `None`: its address.
    pub node: Option<String>,
    /// Slices of the background work; fixed at the first start.
    pub shards: u32,
    /// How often a member says that it is alive.
    pub heartbeat: Duration,
    /// A member that has said nothing for so long is put out.
    pub silent_after: Duration,
    /// How long work on a removed object may take to stop before it is reported as busy.
    pub drain_grace: Duration,
    /// A node with work that has not stopped after so long gives itself up.
    pub drain_limit: Duration,
}

impl Default for Config {
    fn default() -> Self {
        match RawConfig::default().check() {
            Ok(config) => config,
            // A test checks the defaults; they depend on nothing.
            Err(error) => unreachable!("the defaults are valid: {error}"),
        }
    }
}
