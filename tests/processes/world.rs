//! A cluster of processes, and how the tests talk to it.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use lethe::codec::keys;
use lethe::store::Store;
use tokio::runtime::Runtime;

use crate::client::{Client, Value};
use crate::fdb::Server;
use crate::process::Process;

/// Nothing that a test waits for takes longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A FoundationDB of the test's own with some nodes on it.
pub(crate) struct World {
    pub(crate) nodes: Vec<Process>,
    pub(crate) server: Server,
    prefix: String,
    shards: u16,
    /// The store of the nodes, looked at from here.
    store: Store,
    runtime: Runtime,
}

impl World {
    /// `None`: there is no FoundationDB here, which has been said.
    pub(crate) fn start(nodes: usize, shards: u16) -> Option<Self> {
        let server = Server::start()?;
        let prefix = server.new_prefix();
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(server.store_with(&prefix, PATIENCE));
        let mut world = Self { nodes: Vec::new(), server, prefix, shards, store, runtime };
        for _ in 0..nodes {
            world.add();
        }
        world.settled();
        Some(world)
    }

    /// Starts one more node.
    pub(crate) fn add(&mut self) {
        let node = Process::start(&self.server.cluster_file(), &self.prefix, self.shards);
        self.nodes.push(node);
    }

    /// Starts a node again that was there before.
    pub(crate) fn add_at(&mut self, address: std::net::SocketAddr) {
        let file = self.server.cluster_file();
        self.nodes.push(Process::start_at(&file, &self.prefix, self.shards, address));
    }

    /// Waits until the shards are spread evenly over just these nodes.
    pub(crate) fn settled(&self) {
        let mut client = self.nodes[0].connect();
        let names: Vec<String> = self.nodes.iter().map(Process::name).collect();
        let most = usize::from(self.shards).div_ceil(names.len());
        let least = usize::from(self.shards) / names.len();
        self.wait_for("the shards are spread evenly", &keys::membership_signal(), || {
            let owners = owners(&mut client);
            let of = |name: &String| owners.values().filter(|(owner, _)| owner == name).count();
            members(&mut client).len() == names.len()
                && names.iter().all(|name| (least..=most).contains(&of(name)))
        });
    }

    /// Waits until this holds: looks whenever the key has been written. Fails after [`PATIENCE`].
    pub(crate) fn wait_for(&self, what: &str, key: &[u8], mut holds: impl FnMut() -> bool) {
        let waiting = async {
            loop {
                let txn = self.store.begin("wait");
                let watch = txn.watch(key).unwrap();
                txn.commit().await.unwrap();
                if holds() {
                    return;
                }
                watch.await.unwrap();
            }
        };
        let waited = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, waiting).await });
        assert!(waited.is_ok(), "not within {PATIENCE:?}: {what}");
    }

    /// Ends the nodes in order and looks through what they leave.
    pub(crate) fn finish(self) {
        let Self { nodes, server, prefix, .. } = self;
        nodes.into_iter().for_each(Process::stop);
        let output = Command::new(env!("CARGO_BIN_EXE_lethe"))
            .args(["check", "--store", "foundationdb", "--key-prefix", &prefix, "--cluster-file"])
            .arg(server.cluster_file())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "the store is not in order:\n{said}{output:?}");
    }
}

/// Sends a line, its words apart at blanks, and gives the reply as it came.
pub(crate) fn call(client: &mut Client, line: &str) -> Value {
    let words: Vec<&str> = line.split(' ').collect();
    client.call(&words).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Sends a line that must succeed.
pub(crate) fn ok(client: &mut Client, line: &str) -> Value {
    match call(client, line) {
        Value::Error(error) => panic!("{line}: {error}"),
        reply => reply,
    }
}

/// Sends a line that must fail; gives the error.
pub(crate) fn error(client: &mut Client, line: &str) -> String {
    match call(client, line) {
        Value::Error(error) => error,
        reply => panic!("{line}: answered {reply:?}"),
    }
}

/// Inserts `{"n": n}`; gives the error if it fails.
pub(crate) fn insert(client: &mut Client, bucket: &str, n: usize) -> Result<(), String> {
    let document = format!(r#"{{"n": {n}}}"#);
    match client.call(&["BUCKET.INSERT", bucket, "DOCS", &document]) {
        Ok(Value::Array(ids)) if ids.len() == 1 => Ok(()),
        Ok(Value::Error(error)) => Err(error),
        Ok(reply) => panic!("BUCKET.INSERT answered {reply:?}"),
        Err(error) => Err(error.to_string()),
    }
}

/// A field of a map reply in RESP2.
pub(crate) fn field<'a>(reply: &'a Value, name: &str) -> &'a Value {
    let Value::Array(items) = reply else { panic!("no map: {reply:?}") };
    let pair = items.chunks(2).find(|pair| text(&pair[0]) == name);
    &pair.unwrap_or_else(|| panic!("no {name} in {reply:?}"))[1]
}

pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Value::Simple(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        other => panic!("no text: {other:?}"),
    }
}

/// The members by name, with their status.
pub(crate) fn members(client: &mut Client) -> BTreeMap<String, String> {
    let Value::Array(members) = ok(client, "CLUSTER.MEMBERS") else { panic!("a list") };
    members.iter().map(|m| (text(field(m, "node")), text(field(m, "status")))).collect()
}

/// Owner and epoch of each shard.
pub(crate) fn owners(client: &mut Client) -> BTreeMap<i64, (String, i64)> {
    let Value::Array(shards) = ok(client, "CLUSTER.SHARDS") else { panic!("a list") };
    let number = |shard: &Value, name: &str| text(field(shard, name)).parse().unwrap();
    let shard = |shard: &Value| {
        (number(shard, "shard"), (text(field(shard, "node")), number(shard, "epoch")))
    };
    shards.iter().map(shard).collect()
}

/// Sends what may be refused while a store comes back until it is not: a node tells nobody that it serves again, and
/// each of its answers takes as long as its store does. Fails after [`PATIENCE`].
pub(crate) fn at_last(what: &str, mut succeeds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !succeeds() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
    }
}
