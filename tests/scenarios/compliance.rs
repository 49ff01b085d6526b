//! A lock of compliance against every command that there is, as an administrator with every
//! right: what is under it is whole after each, and comes back at the end.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::codec::{BucketId, keys};
use lethe::command::registry::table;
use lethe::command::{Group, Spec, flags};
use lethe::document::Tombstone;
use lethe::resp::Reply;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, fail, field, line};
use crate::namespaces::{id, world};
use crate::rights::call;
use crate::seat::Seat;

const YEAR: i64 = 365 * 24 * 3_600_000;
/// Longer than any worker sleeps.
const LONG: Duration = Duration::from_secs(90);
/// Commands that take the administrator's own rights or connection away, stop all destruction,
/// or believe a clock that is wrong: with them the others would show nothing.
const SPARED: [&str; 13] = [
    "ACL DELUSER",
    "ACL SETUSER",
    "AUTH",
    "BACKUP",
    "BEGIN",
    "CLIENT KILL",
    "CLUSTER.CLOCK",
    "HELLO",
    "PURGE.PAUSE",
    "QUIT",
    "RESET",
    "SESSION.ATTRIBUTE",
    "SESSION.CLOSE",
];
/// What every command is tried with.
const OPTIONS: [&str; 5] = [
    "",
    "BYPASS-GOVERNANCE",
    "RETAIN 0s",
    "RETAIN 0s BYPASS-GOVERNANCE",
    "ALLOW-EXPIRED REPLACE BYPASS-GOVERNANCE",
];

/// A time that was over long ago.
const OLD: &str = "{\"$date\":\"2020-01-01T00:00:00Z\"}";

/// Something under the lock, and how many documents it holds, deleted ones included.
struct Kept {
    name: &'static str,
    id: BucketId,
    documents: usize,
}

/// What an administrator attacks.
struct Attack {
    cluster: Cluster,
    root: Seat,
    kept: Vec<Kept>,
    /// The ids of `n`, `n.x` and `n.x.y`.
    namespaces: [String; 3],
    /// Commands that were answered with anything but an error.
    done: usize,
}

impl Attack {
    /// Active, removed under the lock, removed before it, and in a removed namespace.
    async fn begin(mutations: Mutations) -> Claim<Self> {
        let cluster = world(mutations).await?;
        cluster.expect("A", "ACL SETUSER root on >geheim ~* +@all", "OK").await?;
        let mut root = Seat::at(&cluster, "A");
        root.expect("AUTH root geheim", "OK").await?;
        root.expect("NAMESPACE CREATE n.x.y", "OK").await?;
        for (bucket, namespace) in [("early", "n.x"), ("late", "n.x"), ("inside", "n.x.y")] {
            root.expect(&format!("NAMESPACE USE {namespace}"), "OK").await?;
            root.expect(&format!("BUCKET.CREATE {bucket}"), "OK").await?;
            root.done(&format!("BUCKET.INSERT {bucket} DOCS {{\"number\":1}}")).await?;
        }
        root.expect("NAMESPACE USE n.x", "OK").await?;
        for number in 2..6 {
            root.done(&format!("BUCKET.INSERT b DOCS {{\"number\":{number},\"at\":{OLD}}}"))
                .await?;
        }
        let mut kept = Vec::new();
        let there =
            [("b", "n.x", 5), ("early", "n.x", 1), ("late", "n.x", 1), ("inside", "n.x.y", 1)];
        for (name, namespace, documents) in there {
            kept.push(Kept { name, id: id(&cluster, namespace, name).await?, documents });
        }
        // Neither has a guard: there is no lock yet.
        root.expect("BUCKET.REMOVE early RETAIN forever", "OK").await?;
        root.done("BUCKET.DELETE b {\"number\":5} RETAIN forever").await?;
        let lock = "NAMESPACE POLICY n.x SET lock compliance retention 30d tombstone-retention 30d";
        root.expect(lock, "OK").await?;
        root.done("BUCKET.DELETE b {\"number\":4}").await?;
        root.expect("BUCKET.REMOVE late", "OK").await?;
        let mut namespaces = [String::new(), String::new(), String::new()];
        for (path, id) in ["n", "n.x", "n.x.y"].into_iter().zip(&mut namespaces) {
            let shown = root.done(&format!("NAMESPACE DESCRIBE {path}")).await?;
            *id = line(field(&shown, "id")?);
        }
        root.expect("NAMESPACE REMOVE n.x.y", "OK").await?;
        Ok(Self { cluster, root, kept, namespaces, done: 0 })
    }

    /// All that is under the lock is there.
    async fn expect_whole(&self, after: &str) -> Claim {
        for Kept { name, id, documents } in &self.kept {
            let record = self.cluster.get(&keys::bucket_record(*id)).await?;
            claim!(record.is_some(), "'{name}' is gone after '{after}'");
            let prefix = keys::data_part(*id, keys::data::TOMBSTONE);
            let mut there = self.cluster.documents(*id).await?;
            for (key, value) in self.cluster.rows(&prefix).await? {
                let tombstone = Tombstone::decode(&key, &value).map_err(fail)?;
                there += usize::from(tombstone.stored.is_some());
            }
            claim!(there >= *documents, "'{name}' has only {there} documents after '{after}'");
        }
        Ok(())
    }

    /// One command; whatever it says, nothing under the lock is destroyed.
    async fn attack(&mut self, command: &str) -> Claim {
        if matches!(self.root.ask(command).await, Reply::Error(_)) {
            return Ok(());
        }
        self.done += 1;
        self.expect_whole(command).await?;
        let put_back = self.put_back().await;
        put_back.map_err(|error| format!("after '{command}': {error}"))
    }

    /// As it was in the beginning, which must be possible.
    async fn put_back(&mut self) -> Claim {
        let Self { root, namespaces, kept, .. } = self;
        for (id, path) in namespaces.iter().zip(["n", "n.x"]) {
            let shown = root.done(&format!("NAMESPACE DESCRIBE {id}")).await?;
            if line(field(&shown, "state")?) != "active" {
                root.expect(&format!("NAMESPACE RESTORE {id}"), "OK").await?;
            }
            let now = line(field(&shown, "namespace")?);
            if now != path {
                root.expect(&format!("NAMESPACE MOVE {now} {path}"), "OK").await?;
            }
            root.expect(&format!("NAMESPACE PROTECT {path} OFF"), "OK").await?;
        }
        root.expect("NAMESPACE USE n.x", "OK").await?;
        for Kept { name, id, .. } in kept.iter().filter(|it| it.name != "inside") {
            let shown = root.done(&format!("BUCKET.DESCRIBE {id}")).await?;
            let state = line(field(&shown, "state")?);
            if state == "active" {
                let now = line(field(&shown, "bucket")?);
                if now != *name {
                    root.expect(&format!("BUCKET.RENAME {now} {name}"), "OK").await?;
                }
                root.expect(&format!("BUCKET.PROTECT {name} OFF"), "OK").await?;
            } else {
                root.done(&format!("BUCKET.UNHOLD {id}")).await?;
            }
            match (*name, state.as_str()) {
                ("b", "active") | ("early" | "late", "removed") => {}
                ("b", _) => root.expect(&format!("BUCKET.RESTORE {id}"), "OK").await?,
                ("early", _) => root.expect("BUCKET.REMOVE early RETAIN forever", "OK").await?,
                _ => root.expect("BUCKET.REMOVE late", "OK").await?,
            }
        }
        let shown = root.done(&format!("NAMESPACE DESCRIBE {}", namespaces[2])).await?;
        if line(field(&shown, "state")?) == "active" {
            let now = line(field(&shown, "namespace")?);
            root.expect(&format!("NAMESPACE REMOVE {now}"), "OK").await?;
        }
        Ok(())
    }

    /// Every command of the table, against all of them, by name and by id.
    async fn sweep(&mut self) -> Claim {
        let ids: Vec<String> = self.kept.iter().map(|it| it.id.to_string()).collect();
        let mut buckets = vec!["b", "late", "early"];
        buckets.extend(ids.iter().map(String::as_str));
        let namespaces = self.namespaces.clone();
        let mut paths = vec!["n", "n.x", "n.x.y"];
        paths.extend(namespaces.iter().map(String::as_str));
        let specs = table().specs().iter();
        let spared = |spec: &&Spec| !SPARED.contains(&spec.name) && !spec.has(flags::REFUSED);
        for spec in specs.filter(spared) {
            let targets = if spec.group == Group::Namespace { &paths } else { &buckets };
            for target in targets {
                for options in OPTIONS {
                    self.attack(&format!("{} {options}", call(spec, target, target))).await?;
                }
            }
        }
        Ok(())
    }
}

/// By every command with every target and option, by what is left to workers, by detours over
/// other namespaces, copies and replication, and by clocks that jump.
pub async fn no_command_destroys_what_is_under_compliance(mutations: Mutations) -> Claim {
    let mut attack = Attack::begin(mutations).await?;
    attack.sweep().await?;
    claim!(attack.done > 100, "only {} commands did anything", attack.done);
    for command in [
        // From above.
        "NAMESPACE POLICY n SET retention 1s tombstone-retention 1s",
        "NAMESPACE POLICY n SET retention-max 1s tombstone-retention-max 1s",
        "NAMESPACE POLICY n.x UNSET retention tombstone-retention",
        "NAMESPACE POLICY n.x SET tombstone-retention 0s",
        "BUCKET.ALTER b TOMBSTONE-RETENTION 0s",
        "BUCKET.DELETE b {} RETAIN 0s BYPASS-GOVERNANCE",
        "BUCKET.DELETE b {\"number\":3}",
        "BUCKET.EXPUNGE b {} BYPASS-GOVERNANCE",
        "BUCKET.VACUUM b",
        // As if another bucket had destroyed them.
        "BUCKET.REPLICA ORIGIN b ADD elsewhere/users",
        "BUCKET.TTL b at 1s",
        "BUCKET.REMOVE b",
        "BUCKET.PURGE b",
        "BUCKET.RESTORE late INTO global",
        "BUCKET.RETAIN late 1s",
        "NAMESPACE REMOVE n.x",
        "NAMESPACE PURGE n.x BYPASS-GOVERNANCE",
        "NAMESPACE MOVE n.x free",
    ] {
        attack.attack(command).await?;
    }
    let root = &mut attack.root;
    let shown = line(&root.done("BUCKET.QUERY b {}").await?);
    for id in object_ids(&shown) {
        let purge =
            format!("BUCKET.REPLICA APPLY b elsewhere/users 000000ff0000000700000000 PURGE {id}");
        root.done(&purge).await?;
    }
    root.expect_documents("BUCKET.QUERY b {}", 0).await?;
    let described = root.done("BUCKET.DESCRIBE b").await?;
    claim!(line(field(&described, "ttl")?) != "null", "no TTL: {}", line(&described));
    sleep(LONG).await;
    attack.expect_whole("what workers do").await?;
    let Attack { cluster, root, .. } = &mut attack;
    // The instance that a swap puts away.
    root.expect("BUCKET.COPY b copy LIVE-ONLY", "OK").await?;
    root.expect("BUCKET.SWAP b copy", "OK").await?;
    for command in ["BUCKET.PURGE b NOWAIT", "BUCKET.PURGE b BYPASS-GOVERNANCE"] {
        root.expect_start(command, "HELD").await?;
    }
    // Clocks that all jump, as long as nobody believes them.
    for node in ["A", "B"] {
        cluster.clock(node).jump(YEAR);
    }
    sleep(LONG).await;
    for command in ["BUCKET.PURGE late", "BUCKET.VACUUM b", "NAMESPACE PURGE n.x.y"] {
        root.say(command).await;
    }
    for node in ["A", "B"] {
        cluster.clock(node).jump(-YEAR);
    }
    sleep(LONG).await;
    attack.expect_whole("clocks that jumped").await?;

    let Attack { cluster, mut root, kept, namespaces, .. } = attack;
    for Kept { name, id, documents } in kept {
        let name = if name == "inside" {
            let restore = format!("NAMESPACE RESTORE {} AS n.x.again", namespaces[2]);
            root.expect(&restore, "OK").await?;
            root.expect("NAMESPACE USE n.x.again", "OK").await?;
            name.to_owned()
        } else {
            // Namesakes have come meanwhile.
            let name = format!("{name}-again");
            root.expect(&format!("BUCKET.RESTORE {id} AS {name}"), "OK").await?;
            name
        };
        let all = "{\"number\":{\"$gte\":1}}";
        root.done(&format!("BUCKET.UNDELETE {name} {all} ON-CONFLICT SKIP")).await?;
        root.expect_documents(&format!("BUCKET.QUERY {name} {all}"), documents).await?;
    }
    cluster.finish().await
}

/// The ids of documents, as a reply shows them.
fn object_ids(shown: &str) -> Vec<String> {
    let parts = shown.split(|c: char| !c.is_ascii_hexdigit()).filter(|part| part.len() == 24);
    parts.map(str::to_owned).collect()
}

/// What lies in a bucket or a namespace, and was promised longer than that, has no guard above
/// it: it is looked for.
pub async fn what_is_kept_longer_than_what_it_lies_in_keeps_it(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut a = Seat::at(&cluster, "A");
    a.expect("NAMESPACE CREATE n.x.y", "OK").await?;
    a.expect("NAMESPACE USE n.x", "OK").await?;
    for bucket in ["early", "documents"] {
        a.expect(&format!("BUCKET.CREATE {bucket}"), "OK").await?;
        a.done(&format!("BUCKET.INSERT {bucket} DOCS {{}}")).await?;
    }
    a.done("BUCKET.DELETE documents {} RETAIN 4m").await?;
    a.expect("BUCKET.REMOVE early RETAIN 8m", "OK").await?;
    a.expect("NAMESPACE POLICY n.x SET lock compliance retention 60s", "OK").await?;
    let documents = cluster.node("B").lifecycle().catalog().bucket("n.x", "documents").await;
    let (documents, _) = documents.map_err(fail)?;
    a.expect("BUCKET.REMOVE documents", "OK").await?;
    sleep(LONG).await;
    // Longer than the bucket: as long as what was deleted in it.
    a.expect_start("BUCKET.PURGE documents", "HELD Bucket 'documents' is locked until").await?;
    a.expect("BUCKET.RESTORE documents ALLOW-EXPIRED", "OK").await?;
    let mut global = Seat::at(&cluster, "B");
    global.expect("NAMESPACE REMOVE n.x", "OK").await?;
    sleep(LONG).await;
    // The worker has come by, and has written down for how long it waits.
    global.expect_start("NAMESPACE PURGE n.x", "HELD Namespace 'n.x' is locked until").await?;
    let there = [(documents, "documents", 1)];
    for (id, name, count) in there {
        let rows = cluster.rows(&keys::data_part(id, keys::data::TOMBSTONE)).await?;
        claim!(rows.len() == count, "'{name}' has {} deleted documents", rows.len());
    }
    // When all of it is over, it goes by itself.
    sleep(Duration::from_secs(10 * 60)).await;
    global.expect_start("NAMESPACE DESCRIBE n.x", "NOSUCHNAMESPACE").await?;
    cluster.finish().await
}
