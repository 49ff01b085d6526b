use std::collections::HashMap;
use std::str::FromStr;

use serde::Serialize;
use tokio::time::Instant;

use crate::cli::remote::error::{Error, Result};
use crate::cli::remote::path::path;
use crate::cli::remote::rows::{Kind, Removal, maybe_text, number, text};
use crate::cli::remote::session::Session;
use crate::client::Answer;
use crate::codec::duration::parse_instant;

/// Removals of either kind that are looked at: those that were removed first.
const REMOVALS: &str = "10";
/// Commands that are told apart.
const COMMANDS: usize = 8;
/// The commands of one look itself, which are no work of anybody's: first what everybody is allowed, last what takes
/// the right `purge`.
const OWN: [&str; 6] = [
    "info",
    "cluster.describe",
    "cluster.members",
    "bucket.removed",
    "namespace removed",
    "purge.status",
];

/// What one look has found.
#[derive(Debug, Serialize)]
pub(super) struct Sample {
    #[serde(skip)]
    taken: Instant,
    pub(super) address: String,
    /// Null, as are the other figures of the cluster, where only the node was asked.
    pub(super) cluster: Option<String>,
    pub(super) store: String,
    pub(super) node: String,
    pub(super) cluster_time: Option<String>,
    /// Null, or why nothing is purged.
    pub(super) purging_stopped: Option<String>,
    pub(super) uptime_seconds: u64,
    pub(super) clients: u64,
    pub(super) memory_bytes: Option<u64>,
    pub(super) operations: Operations,
    pub(super) commands: Vec<Command>,
    /// Of the shards of this node.
    pub(super) removed: Counts,
    pub(super) removals: Option<Vec<Removal>>,
    /// Null as well where this user may not see it.
    pub(super) reclaim: Option<Vec<Reclaim>>,
    pub(super) members: Option<Vec<Member>>,
}

/// What is looked at: that for which the user has the rights, since a look that is refused is
/// entered into the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// The node itself, which everybody may look at.
    Node,
    /// What takes the right `admin` everywhere.
    Admin,
    /// And what takes the right `purge`.
    Whole,
}

impl Sight {
    /// What an administrator may see.
    pub(super) async fn of_admin(session: &mut Session) -> Result<Self> {
        // One thing that only an administrator may ask stands for all of them.
        session.call(&["CLUSTER.DESCRIBE"]).await.map_err(|error| match error.code() {
            "NOPERM" => error.hinted(
                "to see the cluster takes the right admin in all namespaces (~*), and the right purge for what is given \
                 back; `lethe top --node-only` shows what everybody may see",
            ),
            _ => error,
        })?;
        let name = session.call(&["ACL", "WHOAMI"]).await?.line();
        let user = match session.call(&["ACL", "GETUSER", &name]).await {
            // A rule may forbid an administrator this alone.
            Err(error) if error.code() == "NOPERM" => return Ok(Self::Admin),
            user => user?,
        };
        let selectors = user.field("selectors").map(Answer::list).unwrap_or_default();
        let purges = std::iter::once(&user).chain(selectors).any(sees_purges);
        Ok(if purges { Self::Whole } else { Self::Admin })
    }

    /// What one look sends.
    fn commands(self) -> &'static [&'static str] {
        let many = match self {
            Self::Node => 1,
            Self::Admin => OWN.len() - 1,
            Self::Whole => OWN.len(),
        };
        OWN.get(..many).unwrap_or_default()
    }
}

fn count(commands: &[&str]) -> u64 {
    u64::try_from(commands.len()).unwrap_or_default()
}

/// Whether rules as ACL GETUSER tells them allow PURGE.STATUS about everything.
fn sees_purges(rules: &Answer) -> bool {
    let words = |name: &str| rules.field(name).and_then(Answer::text).unwrap_or_default();
    let has = |name: &str, word: &str| words(name).split(' ').any(|it| it == word);
    let allowed = |word| has("commands", word);
    has("keys", "~*")
        && (allowed("+purge.status")
            || !allowed("-purge.status") && (allowed("+@all") || allowed("+@purge")))
}

/// What is seen of the cluster.
#[derive(Default)]
struct Cluster {
    name: Option<String>,
    time: Option<String>,
    purging_stopped: Option<String>,
    members: Option<Vec<Member>>,
    removals: Option<Vec<Removal>>,
    reclaim: Option<Vec<Reclaim>>,
}

impl Cluster {
    async fn look(session: &mut Session, sight: Sight) -> Result<Self> {
        if sight == Sight::Node {
            return Ok(Self::default());
        }
        let cluster = session.call(&["CLUSTER.DESCRIBE"]).await?;
        let time = text(&cluster, "cluster_time")?;
        let now = parse_instant(&time).unwrap_or_default();
        let members = session.call(&["CLUSTER.MEMBERS"]).await?;
        let paged = ["COUNT", REMOVALS, "CURSOR", "0"];
        let mut removals = Vec::new();
        for (kind, head) in [
            (Kind::Bucket, ["BUCKET.REMOVED", "NAMESPACE", "*"].as_slice()),
            (Kind::Namespace, &["NAMESPACE", "REMOVED"]),
        ] {
            let argv: Vec<&str> = head.iter().copied().chain(paged).collect();
            let page = session.call(&argv).await?;
            for row in page.list().get(1).map(Answer::list).unwrap_or_default() {
                removals.push(Removal::read(kind, row, now)?);
            }
        }
        let reclaim = match sight {
            Sight::Whole => {
                let jobs = session.call(&["PURGE.STATUS"]).await?;
                Some(jobs.list().iter().map(|row| job(row, now)).collect::<Result<_>>()?)
            }
            Sight::Node | Sight::Admin => None,
        };
        Ok(Self {
            name: Some(text(&cluster, "cluster")?),
            time: Some(time),
            purging_stopped: maybe_text(&cluster, "purging_stopped"),
            members: Some(members.list().iter().map(member).collect::<Result<_>>()?),
            removals: Some(removals),
            reclaim,
        })
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Operations {
    pub(super) total: u64,
    pub(super) failed: u64,
    pub(super) per_second: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Command {
    #[serde(rename = "command")]
    pub(super) name: String,
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) microseconds_per_call: f64,
    pub(super) per_second: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Counts {
    pub(super) buckets: u64,
    pub(super) documents: u64,
    pub(super) bytes: u64,
    pub(super) reclaim_jobs: u64,
    pub(super) reclaim_pending_bytes: u64,
    pub(super) reclaim_returned_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Reclaim {
    pub(super) path: String,
    pub(super) phase: String,
    pub(super) seconds: i64,
    pub(super) bytes_pending: Option<i64>,
    pub(super) bytes_returned: Option<i64>,
    pub(super) bytes_per_second: Option<i64>,
    pub(super) last_error: Option<String>,
    pub(super) removal_id: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Member {
    pub(super) node: String,
    pub(super) address: String,
    pub(super) status: String,
    pub(super) last_seen_ms: Option<i64>,
    pub(super) behind: Option<i64>,
    pub(super) shards: Vec<i64>,
    pub(super) clock_offset_ms: Option<i64>,
}

impl Sample {
    pub(super) async fn take(
        session: &mut Session,
        sight: Sight,
        last: Option<&Self>,
    ) -> Result<Self> {
        let info = session.call(&["INFO", "default", "commandstats"]).await?;
        let taken = Instant::now();
        let info = Info::read(info.text().ok_or_else(|| Error::odd(info.line()))?);
        let cluster = Cluster::look(session, sight).await?;
        // What is read from another node, or from before it started again, is no base for a rate.
        let node = info.text("node");
        let total = info.number("total_commands_processed");
        let last = last.filter(|last| last.node == node && last.operations.total <= total);
        let uptime_seconds = info.number("uptime_in_seconds");
        let seconds = last.map_or_else(
            || seconds(uptime_seconds.max(1)),
            |last| taken.duration_since(last.taken).as_secs_f64().max(0.001),
        );
        let since = last.map_or(total, |last| total - last.operations.total);
        let own = last.map_or([].as_slice(), |_| sight.commands());
        Ok(Self {
            taken,
            address: session.place(),
            cluster: cluster.name,
            store: info.text("store"),
            node,
            cluster_time: cluster.time,
            purging_stopped: cluster.purging_stopped,
            uptime_seconds,
            clients: info.number("connected_clients"),
            memory_bytes: info.maybe("used_memory_rss"),
            operations: Operations {
                total,
                failed: info.number("failed_commands"),
                per_second: rate(since.saturating_sub(count(own)), seconds),
            },
            commands: info.commands(last, own, seconds),
            removed: Counts {
                buckets: info.number("removed_buckets"),
                documents: info.number("removed_documents"),
                bytes: info.number("removed_bytes"),
                reclaim_jobs: info.number("reclaim_jobs"),
                reclaim_pending_bytes: info.number("reclaim_pending_bytes"),
                reclaim_returned_bytes: info.number("reclaim_returned_bytes"),
            },
            removals: cluster.removals,
            reclaim: cluster.reclaim,
            members: cluster.members,
        })
    }
}

fn job(row: &Answer, now: i64) -> Result<Reclaim> {
    let namespace = text(row, "namespace")?;
    let since = maybe_text(row, "purged_at").as_deref().and_then(parse_instant);
    Ok(Reclaim {
        path: path(&namespace, maybe_text(row, "bucket").as_deref()),
        phase: text(row, "phase")?,
        seconds: since.map_or(0, |since| (now - since).max(0) / 1_000),
        bytes_pending: number(row, "bytes_pending"),
        bytes_returned: number(row, "bytes_returned"),
        bytes_per_second: number(row, "rate"),
        last_error: maybe_text(row, "last_error"),
        removal_id: text(row, "removal_id")?,
    })
}

fn member(row: &Answer) -> Result<Member> {
    let shards = row.field("shards").map(Answer::list).unwrap_or_default();
    let number_of = |shard: &Answer| match shard {
        Answer::Integer(number) => Some(*number),
        _ => None,
    };
    Ok(Member {
        node: text(row, "node")?,
        address: text(row, "address")?,
        status: text(row, "status")?,
        last_seen_ms: number(row, "last_seen_ms"),
        behind: number(row, "behind"),
        shards: shards.iter().filter_map(number_of).collect(),
        clock_offset_ms: number(row, "clock_offset_ms"),
    })
}

/// What INFO says: lines of `name:value`.
struct Info<'a>(HashMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    fn read(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    fn maybe(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.parse().ok()
    }

    /// Nothing where the node does not say it.
    fn text(&self, name: &str) -> String {
        self.0.get(name).copied().unwrap_or_default().to_owned()
    }

    fn number(&self, name: &str) -> u64 {
        self.maybe(name).unwrap_or_default()
    }

    /// Those that are called most.
    fn commands(&self, last: Option<&Sample>, own: &[&str], seconds: f64) -> Vec<Command> {
        let mut commands: Vec<Command> = self
            .0
            .iter()
            .filter_map(|(name, value)| {
                let name = name.strip_prefix("cmdstat_")?.replace('|', " ");
                let fields: HashMap<&str, &str> =
                    value.split(',').filter_map(|field| field.split_once('=')).collect();
                let calls: u64 = field(&fields, "calls")?;
                let before = last.map_or(0, |last| last.calls(&name));
                let own = u64::from(own.contains(&name.as_str()));
                Some(Command {
                    per_second: rate(calls.saturating_sub(before + own), seconds),
                    name,
                    calls,
                    failed: field(&fields, "failed_calls").unwrap_or_default(),
                    microseconds_per_call: field(&fields, "usec_per_call").unwrap_or_default(),
                })
            })
            .collect();
        commands.sort_by(|a, b| {
            let by_rate = b.per_second.total_cmp(&a.per_second);
            by_rate.then(b.calls.cmp(&a.calls)).then_with(|| a.name.cmp(&b.name))
        });
        commands
    }
}

impl Sample {
    /// How often a command had been called.
    fn calls(&self, name: &str) -> u64 {
        self.commands.iter().find(|command| command.name == name).map_or(0, |command| command.calls)
    }

    /// The commands that are called most.
    pub(super) fn busiest(&self) -> impl Iterator<Item = &Command> {
        self.commands.iter().take(COMMANDS)
    }
}

fn field<T: FromStr>(fields: &HashMap<&str, &str>, name: &str) -> Option<T> {
    fields.get(name)?.parse().ok()
}

fn rate(many: u64, seconds: f64) -> f64 {
    // A figure for people: beyond 2^53 its last digits do not matter.
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown to three digits")]
    let many = many as f64;
    (many / seconds * 10.0).round() / 10.0
}

#[expect(clippy::cast_precision_loss, reason = "no node runs for 2^53 seconds")]
const fn seconds(whole: u64) -> f64 {
    whole as f64
}
