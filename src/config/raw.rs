use serde::{Deserialize, Serialize};

use super::UserRules;

/// Settings as they are written in the file. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    pub data_dir: String,
    pub store: String,
    pub durability: String,
    pub foundationdb: RawFoundationDb,
    pub server: RawServer,
    pub http: RawHttp,
    pub tls: RawTls,
    pub log: RawLog,
    pub slow_log: RawSlowLog,
    pub session: RawSession,
    pub document: RawDocument,
    pub query: RawQuery,
    pub index: RawIndex,
    pub removal: RawRemoval,
    pub purge: RawPurge,
    pub copy: RawCopy,
    pub cluster: RawCluster,
    pub tombstone: RawRetention,
    pub ttl: RawTtl,
    pub changes: RawChanges,
    pub replica: RawReplica,
    pub audit: RawRetention,
    pub auth: RawAuth,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAuth {
    pub users: UserRules,
    pub users_file: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawFoundationDb {
    pub cluster_file: String,
    pub key_prefix: String,
    pub timeout: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawServer {
    pub bind: Vec<String>,
    pub port: u16,
    pub tls_bind: Vec<String>,
    pub tls_port: u16,
    pub tls_client_certificates: String,
    pub advertise: String,
    pub insecure: bool,
    pub max_clients: u64,
    pub idle_timeout: String,
    pub shutdown_notice: String,
    pub shutdown_timeout: String,
    pub hangup_grace: String,
    pub keepalive: String,
    pub backlog: u64,
    pub request_bytes_max: u64,
    pub arguments_max: u64,
    pub nesting_max: u64,
    pub inline_bytes_max: u64,
    pub output_bytes_max: u64,
    pub buffer_bytes_max: u64,
    pub output_timeout: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHttp {
    pub bind: Vec<String>,
    pub port: u16,
    pub tls: bool,
    pub tls_client_certificates: String,
    pub max_connections: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTls {
    pub cert_file: String,
    pub key_file: String,
    pub client_ca_file: String,
    pub handshake_timeout: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    pub format: String,
    pub filter: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSlowLog {
    pub threshold: String,
    pub entries_max: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSession {
    pub namespace: String,
    pub reply_type: String,
    pub input_type: String,
    pub limit: u64,
    pub object_id_format: String,
    pub cursors_max: u64,
    pub cursor_bytes_max: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDocument {
    pub bytes_max: u64,
    pub depth_max: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_field_names, reason = "the names of the settings")]
pub struct RawQuery {
    pub examined_max: u64,
    pub time_max: String,
    pub sort_bytes_max: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawIndex {
    pub per_bucket_max: u64,
    pub strict_types: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRemoval {
    pub retention: String,
    pub reserve_names: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPurge {
    pub wait: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCopy {
    pub wait: String,
    pub pause: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCluster {
    pub name: String,
    pub node: String,
    pub shards: u64,
    pub heartbeat: String,
    pub silent_after: String,
    pub drain_grace: String,
    pub drain_limit: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRetention {
    pub retention: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTtl {
    pub every: String,
    pub scan_every: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawChanges {
    pub retention: String,
    pub block_max: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawReplica {
    pub lease: String,
    pub lease_max: String,
}

impl Default for RawTtl {
    fn default() -> Self {
        Self { every: "60s".to_owned(), scan_every: "10m".to_owned() }
    }
}

impl Default for RawChanges {
    fn default() -> Self {
        Self { retention: "24h".to_owned(), block_max: "1h".to_owned() }
    }
}

impl Default for RawReplica {
    fn default() -> Self {
        Self { lease: "24h".to_owned(), lease_max: "30d".to_owned() }
    }
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            data_dir: "lethe-data".to_owned(),
            store: "embedded".to_owned(),
            durability: "sync".to_owned(),
            foundationdb: RawFoundationDb::default(),
            server: RawServer::default(),
            http: RawHttp::default(),
            tls: RawTls::default(),
            log: RawLog::default(),
            slow_log: RawSlowLog::default(),
            session: RawSession::default(),
            document: RawDocument::default(),
            query: RawQuery::default(),
            index: RawIndex::default(),
            removal: RawRemoval::default(),
            purge: RawPurge::default(),
            copy: RawCopy::default(),
            cluster: RawCluster::default(),
            tombstone: RawRetention { retention: "48h".to_owned() },
            ttl: RawTtl::default(),
            changes: RawChanges::default(),
            replica: RawReplica::default(),
            audit: RawRetention { retention: "90d".to_owned() },
            auth: RawAuth::default(),
        }
    }
}

impl Default for RawFoundationDb {
    fn default() -> Self {
        Self {
            cluster_file: String::new(),
            key_prefix: "lethe".to_owned(),
            timeout: "10s".to_owned(),
        }
    }
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            bind: vec!["127.0.0.1".to_owned()],
            port: 5484,
            tls_bind: Vec::new(),
            tls_port: 6484,
            tls_client_certificates: "off".to_owned(),
            advertise: String::new(),
            insecure: false,
            max_clients: 10_000,
            idle_timeout: "never".to_owned(),
            shutdown_notice: "0s".to_owned(),
            shutdown_timeout: "10s".to_owned(),
            hangup_grace: "1s".to_owned(),
            keepalive: "5m".to_owned(),
            backlog: 4_096,
            request_bytes_max: 64 * 1024 * 1024,
            arguments_max: 100_000,
            nesting_max: 8,
            inline_bytes_max: 64 * 1024,
            output_bytes_max: 64 * 1024 * 1024,
            buffer_bytes_max: 1024 * 1024 * 1024,
            output_timeout: "60s".to_owned(),
        }
    }
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            bind: vec!["127.0.0.1".to_owned()],
            port: 9484,
            tls: false,
            tls_client_certificates: "off".to_owned(),
            max_connections: 64,
        }
    }
}

impl Default for RawTls {
    fn default() -> Self {
        Self {
            cert_file: String::new(),
            key_file: String::new(),
            client_ca_file: String::new(),
            handshake_timeout: "10s".to_owned(),
        }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self { format: "text".to_owned(), filter: "warn".to_owned() }
    }
}

impl Default for RawSlowLog {
    fn default() -> Self {
        Self { threshold: "100ms".to_owned(), entries_max: 128 }
    }
}

impl Default for RawSession {
    fn default() -> Self {
        Self {
            namespace: "global".to_owned(),
            reply_type: "json".to_owned(),
            input_type: "json".to_owned(),
            limit: 100,
            object_id_format: "hex".to_owned(),
            cursors_max: 100,
            cursor_bytes_max: 128 * 1024 * 1024,
        }
    }
}

impl Default for RawDocument {
    fn default() -> Self {
        Self { bytes_max: 8 * 1024 * 1024, depth_max: 100 }
    }
}

impl Default for RawQuery {
    fn default() -> Self {
        Self { examined_max: 50_000, time_max: "2s".to_owned(), sort_bytes_max: 64 * 1024 * 1024 }
    }
}

impl Default for RawIndex {
    fn default() -> Self {
        Self { per_bucket_max: 64, strict_types: true }
    }
}

impl Default for RawRemoval {
    fn default() -> Self {
        Self { retention: "7d".to_owned(), reserve_names: false }
    }
}

impl Default for RawPurge {
    fn default() -> Self {
        Self { wait: "5s".to_owned() }
    }
}

impl Default for RawCopy {
    fn default() -> Self {
        Self { wait: "5s".to_owned(), pause: "1s".to_owned() }
    }
}

impl Default for RawCluster {
    fn default() -> Self {
        Self {
            name: "lethe".to_owned(),
            node: String::new(),
            shards: 7,
            heartbeat: "1s".to_owned(),
            silent_after: "10s".to_owned(),
            drain_grace: "2s".to_owned(),
            drain_limit: "60s".to_owned(),
        }
    }
}
