use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::raw::{
    RawCluster, RawCopy, RawFoundationDb, RawHttp, RawLog, RawQuery, RawReplica, RawRetention,
    RawServer, RawSession, RawSlowLog, RawTtl,
};
use super::tls::ClientCertificates;
use super::{
    ChangesConfig, ClusterConfig, Config, ConfigError, CopyConfig, DocumentConfig, DocumentFormat,
    Durability, FoundationDbConfig, HttpConfig, IndexConfig, LogConfig, LogFormat, ObjectIdFormat,
    PurgeConfig, QueryConfig, RawConfig, RemovalConfig, ReplicaConfig, Retention, ServerConfig,
    SessionConfig, SlowLogConfig, StoreKind, TtlConfig,
};
use crate::codec::duration::{parse_duration, parse_retention};

pub(super) type Result<T> = std::result::Result<T, ConfigError>;

const DURATION: &str = "a duration such as 500ms, 45s, 30m, 48h or 7d";

impl RawConfig {
    /// Turns what was written into what it means.
    pub fn check(&self) -> Result<Config> {
        if self.data_dir.is_empty() {
            return Err(refuse("data_dir", &self.data_dir, "the path of a folder"));
        }
        let (server, http) = (self.server.check()?, self.http.check()?);
        let tls = self.tls.check(&server, &http)?;
        Ok(Config {
            data_dir: PathBuf::from(&self.data_dir),
            store: match self.store.as_str() {
                "embedded" => StoreKind::Embedded,
                "memory" => StoreKind::Memory,
                "foundationdb" => StoreKind::FoundationDb,
                other => {
                    return Err(refuse("store", other, "embedded, memory or foundationdb"));
                }
            },
            durability: match self.durability.as_str() {
                "sync" => Durability::Sync,
                "interval" => Durability::Interval,
                other => return Err(refuse("durability", other, "sync or interval")),
            },
            foundationdb: self.foundationdb.check()?,
            server,
            http,
            tls,
            log: self.log.check()?,
            slow_log: self.slow_log.check()?,
            session: self.session.check()?,
            document: DocumentConfig {
                bytes_max: size("document.bytes_max", self.document.bytes_max, 1_024..=9_000_000)?,
                depth_max: size("document.depth_max", self.document.depth_max, 1..=200)?,
            },
            query: self.query.check()?,
            index: IndexConfig {
                per_bucket_max: size("index.per_bucket_max", self.index.per_bucket_max, 0..=1_000)?,
                strict_types: self.index.strict_types,
            },
            removal: RemovalConfig {
                retention: retention("removal.retention", &self.removal.retention)?,
                reserve_names: self.removal.reserve_names,
            },
            purge: PurgeConfig { wait: duration("purge.wait", &self.purge.wait)? },
            copy: self.copy.check()?,
            cluster: self.cluster.check()?,
            tombstone_retention: retention("tombstone.retention", &self.tombstone.retention)?,
            ttl: self.ttl.check()?,
            changes_retention: duration("changes.retention", &self.changes.retention)?,
            changes: ChangesConfig {
                block_max: duration("changes.block_max", &self.changes.block_max)?,
            },
            replica: self.replica.check()?,
            audit_retention: audit_retention(&self.audit)?,
            first_users: self.auth.users.clone(),
            entries: self.entries(),
        })
    }
}

fn audit_retention(raw: &RawRetention) -> Result<Duration> {
    let retention = duration("audit.retention", &raw.retention)?;
    // Less tells nobody what happened to what he misses.
    if retention < Duration::from_hours(1) {
        return Err(refuse("audit.retention", &raw.retention, "1h or longer"));
    }
    Ok(retention)
}

impl RawCopy {
    fn check(&self) -> Result<CopyConfig> {
        let pause = duration("copy.pause", &self.pause)?;
        let allowed = Duration::from_millis(1)..=Duration::from_secs(60);
        if !allowed.contains(&pause) {
            return Err(refuse("copy.pause", &self.pause, "1ms to 60s"));
        }
        Ok(CopyConfig { wait: duration("copy.wait", &self.wait)?, pause })
    }
}

impl RawTtl {
    fn check(&self) -> Result<TtlConfig> {
        let interval = |name, text: &str| {
            let interval = duration(name, text)?;
            if (Duration::from_secs(1)..=Duration::from_hours(24)).contains(&interval) {
                Ok(interval)
            } else {
                Err(refuse(name, text, "1s to 1d"))
            }
        };
        Ok(TtlConfig {
            every: interval("ttl.every", &self.every)?,
            scan_every: interval("ttl.scan_every", &self.scan_every)?,
        })
    }
}

impl RawFoundationDb {
    fn check(&self) -> Result<FoundationDbConfig> {
        if !(1..=64).contains(&self.key_prefix.len()) {
            return Err(refuse("foundationdb.key_prefix", &self.key_prefix, "1 to 64 bytes"));
        }
        let timeout = duration("foundationdb.timeout", &self.timeout)?;
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&timeout) {
            return Err(refuse("foundationdb.timeout", &self.timeout, "1s to 60s"));
        }
        let cluster_file = Some(&self.cluster_file).filter(|path| !path.is_empty());
        Ok(FoundationDbConfig {
            cluster_file: cluster_file.map(PathBuf::from),
            key_prefix: self.key_prefix.clone(),
            timeout,
        })
    }
}

impl RawServer {
    fn check(&self) -> Result<ServerConfig> {
        if self.bind.is_empty() && self.tls_bind.is_empty() {
            let allowed = "at least one address, here or in server.tls_bind";
            return Err(refuse("server.bind", "[]", allowed));
        }
        Ok(ServerConfig {
            listen: addresses("server.bind", &self.bind, self.port)?,
            listen_tls: addresses("server.tls_bind", &self.tls_bind, self.tls_port)?,
            client_certificates: ClientCertificates::parse(
                "server.tls_client_certificates",
                &self.tls_client_certificates,
            )?,
            advertise: advertised(&self.advertise)?,
            insecure: self.insecure,
            max_clients: size("server.max_clients", self.max_clients, 1..=1_000_000)?,
            idle_timeout: perhaps("server.idle_timeout", &self.idle_timeout)?,
            shutdown_notice: duration("server.shutdown_notice", &self.shutdown_notice)?,
            shutdown_timeout: duration("server.shutdown_timeout", &self.shutdown_timeout)?,
            hangup_grace: duration("server.hangup_grace", &self.hangup_grace)?,
            keepalive: perhaps("server.keepalive", &self.keepalive)?,
            backlog: i32::try_from(size("server.backlog", self.backlog, 1..=65_535)?)
                .unwrap_or(i32::MAX),
            request_bytes_max: size(
                "server.request_bytes_max",
                self.request_bytes_max,
                1_024..=1 << 30,
            )?,
            arguments_max: size("server.arguments_max", self.arguments_max, 16..=1 << 20)?,
            nesting_max: size("server.nesting_max", self.nesting_max, 1..=128)?,
            inline_bytes_max: size("server.inline_bytes_max", self.inline_bytes_max, 64..=1 << 20)?,
            output_bytes_max: size(
                "server.output_bytes_max",
                self.output_bytes_max,
                1_024..=1 << 32,
            )?,
            buffer_bytes_max: size(
                "server.buffer_bytes_max",
                self.buffer_bytes_max,
                1 << 20..=1 << 40,
            )?,
            output_timeout: duration("server.output_timeout", &self.output_timeout)?,
        })
    }
}

impl RawHttp {
    fn check(&self) -> Result<HttpConfig> {
        Ok(HttpConfig {
            listen: addresses("http.bind", &self.bind, self.port)?,
            tls: self.tls,
            client_certificates: ClientCertificates::parse(
                "http.tls_client_certificates",
                &self.tls_client_certificates,
            )?,
            max_connections: size("http.max_connections", self.max_connections, 1..=10_000)?,
        })
    }
}

impl RawLog {
    fn check(&self) -> Result<LogConfig> {
        let format = match self.format.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return Err(refuse("log.format", other, "text or json")),
        };
        if self.filter.is_empty() {
            return Err(refuse("log.filter", "", "warn, info, or more in the form of RUST_LOG"));
        }
        Ok(LogConfig { format, filter: self.filter.clone() })
    }
}

impl RawSlowLog {
    fn check(&self) -> Result<SlowLogConfig> {
        Ok(SlowLogConfig {
            threshold: match self.threshold.as_str() {
                never if never.eq_ignore_ascii_case("never") => None,
                text => Some(parse_duration(text).ok_or_else(|| {
                    refuse("slow_log.threshold", text, format!("{DURATION}, or never"))
                })?),
            },
            entries_max: size("slow_log.entries_max", self.entries_max, 0..=10_000)?,
        })
    }
}

impl RawSession {
    fn check(&self) -> Result<SessionConfig> {
        if self.namespace.is_empty() {
            return Err(refuse("session.namespace", &self.namespace, "the path of a namespace"));
        }
        let format = |key, text: &str| {
            DocumentFormat::parse(text).ok_or_else(|| refuse(key, text, "json or bson"))
        };
        let limit = size("session.limit", self.limit, 1..=1_000_000)?;
        Ok(SessionConfig {
            namespace: self.namespace.clone(),
            reply_type: format("session.reply_type", &self.reply_type)?,
            input_type: format("session.input_type", &self.input_type)?,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            object_id_format: ObjectIdFormat::parse(&self.object_id_format).ok_or_else(|| {
                refuse("session.object_id_format", &self.object_id_format, "hex or bytes")
            })?,
            cursors_max: size("session.cursors_max", self.cursors_max, 1..=100_000)?,
            cursor_bytes_max: size(
                "session.cursor_bytes_max",
                self.cursor_bytes_max,
                1_048_576..=1 << 34,
            )?,
        })
    }
}

impl RawQuery {
    fn check(&self) -> Result<QueryConfig> {
        let time_max = duration("query.time_max", &self.time_max)?;
        if time_max.is_zero() || time_max > Duration::from_secs(4) {
            // A transaction lives five seconds.
            return Err(refuse("query.time_max", &self.time_max, "1ms to 4s"));
        }
        Ok(QueryConfig {
            examined_max: size("query.examined_max", self.examined_max, 1..=1 << 32)?,
            time_max,
            sort_bytes_max: size("query.sort_bytes_max", self.sort_bytes_max, 1_024..=1 << 32)?,
        })
    }
}

impl RawReplica {
    fn check(&self) -> Result<ReplicaConfig> {
        let lease = duration("replica.lease", &self.lease)?;
        let lease_max = duration("replica.lease_max", &self.lease_max)?;
        if lease.is_zero() || lease > lease_max {
            let allowed = "more than 0s and at most replica.lease_max";
            return Err(refuse("replica.lease", &self.lease, allowed));
        }
        Ok(ReplicaConfig { lease, lease_max })
    }
}

impl RawCluster {
    fn check(&self) -> Result<ClusterConfig> {
        if self.name.is_empty() {
            return Err(refuse("cluster.name", &self.name, "a name"));
        }
        let shards = size("cluster.shards", self.shards, 1..=1_024)?;
        let checked = ClusterConfig {
            name: self.name.clone(),
            node: Some(self.node.clone()).filter(|name| !name.is_empty()),
            shards: u32::try_from(shards).unwrap_or(u32::MAX),
            heartbeat: duration("cluster.heartbeat", &self.heartbeat)?,
            silent_after: duration("cluster.silent_after", &self.silent_after)?,
            drain_grace: duration("cluster.drain_grace", &self.drain_grace)?,
            drain_limit: duration("cluster.drain_limit", &self.drain_limit)?,
        };
        if checked.heartbeat.is_zero() {
            return Err(refuse("cluster.heartbeat", &self.heartbeat, "more than 0s"));
        }
        if checked.silent_after < checked.heartbeat * 3 {
            return Err(refuse(
                "cluster.silent_after",
                &self.silent_after,
                "at least three times cluster.heartbeat, so that one late heartbeat puts nobody out",
            ));
        }
        if checked.drain_limit < checked.drain_grace {
            return Err(refuse(
                "cluster.drain_limit",
                &self.drain_limit,
                "at least cluster.drain_grace",
            ));
        }
        Ok(checked)
    }
}

/// Others take it as it is, so it has to be whole.
fn advertised(text: &str) -> Result<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    let whole = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if whole && !text.contains(char::is_whitespace) {
        return Ok(Some(text.to_owned()));
    }
    Err(refuse("server.advertise", text, "host:port, such as db1.example.org:5484"))
}

pub(super) fn refuse(
    key: &'static str,
    value: impl Display,
    allowed: impl Into<String>,
) -> ConfigError {
    ConfigError::Value { key, value: value.to_string(), allowed: allowed.into() }
}

fn addresses(key: &'static str, addresses: &[String], port: u16) -> Result<Vec<SocketAddr>> {
    let parse = |address: &String| {
        let ip = address.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
        ip.map_err(|_| refuse(key, address, "IP addresses such as 127.0.0.1 or ::1"))
    };
    addresses.iter().map(parse).collect()
}

pub(super) fn duration(key: &'static str, text: &str) -> Result<Duration> {
    parse_duration(text).ok_or_else(|| refuse(key, text, DURATION))
}

fn perhaps(key: &'static str, text: &str) -> Result<Option<Duration>> {
    if text.eq_ignore_ascii_case("never") {
        return Ok(None);
    }
    parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .map(Some)
        .ok_or_else(|| refuse(key, text, format!("{DURATION}, or never")))
}

fn retention(key: &'static str, text: &str) -> Result<Retention> {
    parse_retention(text).ok_or_else(|| refuse(key, text, format!("{DURATION}, or forever")))
}

fn size(key: &'static str, value: u64, allowed: RangeInclusive<u64>) -> Result<usize> {
    let (least, most) = (allowed.start(), allowed.end());
    usize::try_from(value)
        .ok()
        .filter(|_| allowed.contains(&value))
        .ok_or_else(|| refuse(key, value, format!("{least} to {most}")))
}
