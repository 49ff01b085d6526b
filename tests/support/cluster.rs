//! Several whole nodes in one process, over one store: in memory, or what
//! [`keep_in`] says.
//!
//! Each node is what `lethe server` runs: its own listener, cache, workers and
//! membership, over the same store under its own client name, so that faults
//! can be meant for one node and one kind of transaction. Time is tokio's and
//! paused: seconds cost nothing. Commands run through the dispatcher with a
//! session of their own.
//!
//! What a scenario claims it says as a [`Claim`], so that the same scenario can
//! be run with a deliberate mistake and be expected to fail.

#[path = "cluster/finish.rs"]
mod finish;
#[path = "cluster/look.rs"]
pub mod look;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lethe::clock::TestClock;
use lethe::cluster::mutation::Mutations;
use lethe::cluster::work::{Scope, Work};
use lethe::cluster::{Controls, Ended, Stop};
use lethe::codec::record::{self, Change, ChangeOp};
use lethe::codec::{BucketId, RemovalId, keys};
use lethe::command::{Context, Services, execute};
use lethe::config::Config;
use lethe::error::Result as DomainResult;
use lethe::metadata::LiveBucket;
use lethe::node::{Node, NodeOptions};
use lethe::resp::{Reply, Words};
use lethe::session::{Client, Session};
use lethe::store::{Atomic, Faults, Held, Lost, Matcher, Store, Transaction};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep, timeout};

/// What was claimed and did not hold.
pub type Claim<T = ()> = Result<T, String>;

/// The time that clocks show at first.
pub const EPOCH: i64 = 1_800_000_000_000;
/// How often a member shows that it is alive.
pub const HEARTBEAT: Duration = Duration::from_millis(500);
/// When a member is taken for dead. Held commits are valid for five seconds,
/// so that this has to be less.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);
/// How long a removal waits for work before it is reported as busy.
pub const GRACE: Duration = Duration::from_secs(1);
/// When a node with work that does not stop gives itself up.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// The namespace that sessions start in.
pub const NAMESPACE: &str = "global";

/// What comes by an event takes less, also from servers; what is found by looking takes a heartbeat at least.
pub const AT_ONCE: Duration = Duration::from_millis(400);

/// Longer than anything in a scenario should take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Fails a scenario unless this holds.
macro_rules! claim {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}
pub(crate) use claim;

/// Turns any error into a claim that failed.
pub fn fail(error: impl Display) -> String {
    error.to_string()
}

/// Makes an empty store for a cluster.
pub type NewStore = fn() -> Pin<Box<dyn Future<Output = Store> + Send>>;

thread_local! {
    static NEW_STORE: Cell<NewStore> = const { Cell::new(memory) };
}

fn memory() -> Pin<Box<dyn Future<Output = Store> + Send>> {
    Box::pin(std::future::ready(Store::memory()))
}

/// Where clusters that this thread makes keep what they have, until what is given is dropped.
#[cfg(feature = "foundationdb")]
pub fn keep_in(store: NewStore) -> Kept {
    Kept(NEW_STORE.replace(store))
}

#[cfg(feature = "foundationdb")]
#[must_use = "dropping it ends it"]
pub struct Kept(NewStore);

#[cfg(feature = "foundationdb")]
impl Drop for Kept {
    fn drop(&mut self) {
        NEW_STORE.set(self.0);
    }
}

/// A store, the nodes over it, and their clocks.
pub struct Cluster {
    store: Store,
    config: Arc<Config>,
    mutations: Mutations,
    nodes: BTreeMap<&'static str, Running>,
    clocks: BTreeMap<&'static str, TestClock>,
}

struct Running {
    node: Node,
    /// Commands of its clients, which end with it.
    commands: std::sync::Mutex<Vec<AbortHandle>>,
}

/// A command that runs in the background.
pub struct Asked(JoinHandle<Reply>);

impl Asked {
    /// Its answer.
    pub async fn answer(self) -> Claim<Reply> {
        let reply = timeout(PATIENCE, self.0).await;
        reply.map_err(|_| "a command never answered".to_owned())?.map_err(fail)
    }

    /// Its answer, as one line.
    pub async fn line(self) -> Claim<String> {
        Ok(line(&self.answer().await?))
    }

    pub async fn expect(self, expected: &str) -> Claim {
        let line = self.line().await?;
        claim!(line == expected, "answered '{line}' instead of '{expected}'");
        Ok(())
    }

    pub fn is_answered(&self) -> bool {
        self.0.is_finished()
    }
}

/// A reply as one line, enough to compare with.
pub fn line(reply: &Reply) -> String {
    match reply {
        Reply::Ok => "OK".to_owned(),
        Reply::Simple(text) => text.to_string(),
        Reply::Error(text) | Reply::Text(text) | Reply::Verbatim(text) => text.clone(),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Integer(number) => number.to_string(),
        Reply::Double(number) => number.to_string(),
        Reply::Boolean(value) => value.to_string(),
        Reply::Null | Reply::NullArray => "null".to_owned(),
        Reply::NoReply => String::new(),
        Reply::Array(items) | Reply::Set(items) => {
            format!("[{}]", items.iter().map(line).collect::<Vec<_>>().join(", "))
        }
        Reply::Map(pairs) => {
            let pair = |(key, value): &(Reply, Reply)| format!("{}: {}", line(key), line(value));
            format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The value of a field of a map.
pub fn field<'a>(reply: &'a Reply, name: &str) -> Claim<&'a Reply> {
    let Reply::Map(pairs) = reply else { return Err(format!("no map: {}", line(reply))) };
    let found = pairs.iter().find(|(key, _)| line(key) == name);
    found.map(|(_, value)| value).ok_or_else(|| format!("no '{name}' in {}", line(reply)))
}

/// What a REMOVE told of itself.
#[derive(Debug, Clone)]
pub struct Removed {
    pub removal: RemovalId,
    pub bucket: BucketId,
}

impl Cluster {
    /// Nodes with these names, once the shards are spread over them; the first
    /// is the observer.
    pub async fn new(names: &[&'static str]) -> Claim<Self> {
        Self::with(names, Mutations::default(), |_| {}).await
    }

    /// As [`Cluster::new`], with deliberate mistakes and other settings.
    pub async fn with(
        names: &[&'static str],
        mutations: Mutations,
        change: impl FnOnce(&mut Config),
    ) -> Claim<Self> {
        let mut config = Config::default();
        config.server.listen = vec![([127, 0, 0, 1], 0).into()];
        config.cluster.shards = 4;
        config.cluster.heartbeat = HEARTBEAT;
        config.cluster.silent_after = SILENT_AFTER;
        config.cluster.drain_grace = GRACE;
        config.cluster.drain_limit = DRAIN_LIMIT;
        change(&mut config);
        let mut cluster = Self {
            store: NEW_STORE.get()().await,
            config: Arc::new(config),
            mutations,
            nodes: BTreeMap::new(),
            clocks: BTreeMap::new(),
        };
        for name in names {
            cluster.start(name).await?;
            // So that the first of them takes the duty of the observer.
            sleep(Duration::from_millis(100)).await;
        }
        sleep(Duration::from_secs(2)).await;
        Ok(cluster)
    }

    /// Starts a node as a new incarnation.
    pub async fn start(&mut self, name: &'static str) -> Claim {
        let clock = self.clocks.entry(name).or_insert_with(|| TestClock::starting_at(EPOCH));
        let options = NodeOptions {
            name: Some(name.to_owned()),
            exclusive: false,
            first_id: Some(1),
            mutations: self.mutations,
        };
        let (store, config) = (self.store.as_client(name), Arc::clone(&self.config));
        let node = Node::start_on(store, config, Arc::new(clock.clone()), options).await;
        let node = node.map_err(|error| format!("{name} did not start: {error}"))?;
        let running = Running { node, commands: std::sync::Mutex::default() };
        self.nodes.insert(name, running);
        Ok(())
    }

    /// Crashes a node: nothing is finished, nothing is told to anybody. Commits
    /// that are held or lost may still land.
    pub async fn kill(&mut self, name: &str) {
        if let Some(running) = self.nodes.remove(name) {
            running.end_commands();
            running.node.kill();
            // Aborted tasks end when the runtime comes to them.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Crashes a node and starts it again at once.
    pub async fn restart(&mut self, name: &'static str) -> Claim {
        self.kill(name).await;
        self.start(name).await
    }

    /// Stops a node in order.
    pub async fn leave(&mut self, name: &str) {
        if let Some(mut running) = self.nodes.remove(name) {
            running.end_commands();
            running.node.leave(Stop::Graceful).await;
        }
    }

    /// The running node.
    pub fn node(&self, name: &str) -> &Node {
        match self.nodes.get(name) {
            Some(running) => &running.node,
            None => panic!("{name} does not run"),
        }
    }

    /// The node's follower and heartbeat stand still; its clients do not.
    pub fn pause(&self, name: &str) {
        self.node(name).cluster().pause();
    }

    pub fn resume(&self, name: &str) {
        self.node(name).cluster().resume();
    }

    /// Nobody observes others or keeps cluster time.
    pub fn pause_observers(&self) {
        for running in self.nodes.values() {
            let controls = Controls { observer_paused: true, ..Controls::default() };
            running.node.cluster().control(controls);
        }
    }

    /// Waits until the node's incarnation is over.
    pub async fn ended(&self, name: &str) -> Claim<Ended> {
        let ended = timeout(PATIENCE, self.node(name).ended()).await;
        ended.map_err(|_| format!("the incarnation of {name} never ended"))
    }

    /// Whether the node's incarnation is over.
    #[allow(dead_code, reason = "only the simulation asks")]
    pub async fn is_over(&self, name: &str) -> bool {
        timeout(Duration::ZERO, self.node(name).ended()).await.is_ok()
    }

    /// The wall clock of a node.
    pub fn clock(&self, name: &str) -> &TestClock {
        match self.clocks.get(name) {
            Some(clock) => clock,
            None => panic!("{name} has never run"),
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    fn faults(&self) -> &Faults {
        self.store.faults().expect("a store of scenarios has faults")
    }

    /// Holds the next commit of this kind of this node.
    pub fn hold(&self, node: &str, label: &str) -> Held {
        self.faults().hold(Matcher::any().client(node).label(label))
    }

    /// Holds the next commit of this kind, whoever makes it.
    pub fn hold_any(&self, label: &str) -> Held {
        self.faults().hold(Matcher::any().label(label))
    }

    /// Reports the next commit of this kind of this node as unknown, and keeps it.
    pub fn lose(&self, node: &str, label: &str) -> Lost {
        self.faults().lose(Matcher::any().client(node).label(label))
    }

    /// Cuts a node off the store.
    pub fn outage(&self, node: &str) {
        self.faults().outage(node);
    }

    pub fn end_outage(&self, node: &str) {
        self.faults().end_outage(node);
    }

    /// Faults by chance, or none any more.
    pub fn chaos(&self, chaos: Option<lethe::store::Chaos>) {
        self.faults().chaos(chaos);
    }

    /// Runs a command on a node and gives its answer.
    pub async fn run(&self, node: &str, command: &str) -> Claim<Reply> {
        self.ask(node, command).answer().await
    }

    /// Runs a command and claims its answer.
    pub async fn expect(&self, node: &str, command: &str, expected: &str) -> Claim {
        let got = line(&self.run(node, command).await?);
        claim!(got == expected, "{node}: '{command}' answered '{got}' instead of '{expected}'");
        Ok(())
    }

    /// Runs a command and claims how its answer begins.
    pub async fn expect_start(&self, node: &str, command: &str, expected: &str) -> Claim<String> {
        let got = line(&self.run(node, command).await?);
        claim!(
            got.starts_with(expected),
            "{node}: '{command}' answered '{got}' instead of '{expected}...'"
        );
        Ok(got)
    }

    /// Starts a command on a node, of a client of its own.
    pub fn ask(&self, node: &str, command: &str) -> Asked {
        self.ask_words(node, command.split_whitespace().map(str::to_owned).collect())
    }

    pub fn ask_words(&self, node: &str, words: Vec<String>) -> Asked {
        self.ask_in(node, NAMESPACE, words)
    }

    /// As [`Cluster::ask_words`], of a client whose current namespace is another one.
    pub fn ask_in(&self, node: &str, namespace: &str, words: Vec<String>) -> Asked {
        let running = self.nodes.get(node).unwrap_or_else(|| panic!("{node} does not run"));
        let services = Arc::clone(running.node.services());
        let task = tokio::spawn(command(services, namespace.to_owned(), words));
        running.lock().push(task.abort_handle());
        Asked(task)
    }

    /// Removes a bucket and tells which removal that was.
    pub async fn remove(&self, node: &str, bucket: &str) -> Claim<Removed> {
        let reply = self.run(node, &format!("BUCKET.REMOVE {bucket} INFO")).await?;
        let text = |name| field(&reply, name).map(line);
        let removal = RemovalId::parse(&text("removal_id")?).ok_or("no removal id")?;
        let bucket = BucketId::parse(&text("id")?).ok_or("no bucket id")?;
        Ok(Removed { removal, bucket })
    }

    /// The id of an active bucket.
    pub async fn id(&self, node: &str, bucket: &str) -> Claim<BucketId> {
        let catalog = self.node(node).lifecycle().catalog();
        catalog.bucket(NAMESPACE, bucket).await.map(|(id, _)| id).map_err(fail)
    }

    /// Inserts a document on a node.
    pub async fn insert(&self, node: &str, bucket: &str, number: u32) -> Claim {
        let reply = self.insert_later(node, bucket, number).answer().await?;
        let inserted = matches!(&reply, Reply::Array(ids) if ids.len() == 1);
        claim!(inserted, "{node}: an insert into {bucket} answered '{}'", line(&reply));
        Ok(())
    }

    /// Starts to insert a document on a node.
    pub fn insert_later(&self, node: &str, bucket: &str, number: u32) -> Asked {
        self.ask(node, &format!("BUCKET.INSERT {bucket} DOCS {{\"number\":{number}}}"))
    }

    /// A shard that this node works for, and its epoch.
    pub fn shard_of(&self, node: &str) -> Claim<(u16, i64)> {
        let owned = self.node(node).cluster().owned_shards();
        let owned = owned.borrow();
        let first = owned.first_key_value().map(|(shard, epoch)| (*shard, *epoch));
        first.ok_or_else(|| format!("{node} owns no shard"))
    }

    /// Enters and opens work on a node that ends only when it is dropped: a
    /// worker that does not stop.
    pub fn work(&self, node: &str, bucket: BucketId, scope: Scope, what: &str) -> Claim<Work> {
        let work = self.node(node).cluster().work().enter(bucket, scope, what);
        work.open().map_err(fail)?;
        Ok(work)
    }

    /// Waits until this holds, with the store's time.
    pub async fn eventually(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl AsyncFnMut() -> Claim<bool>,
    ) -> Claim<Duration> {
        let started = Instant::now();
        while !holds().await? {
            claim!(started.elapsed() < limit, "{what}: not within {limit:?}");
            sleep(Duration::from_millis(10)).await;
        }
        Ok(started.elapsed())
    }

    /// Waits until a removal is purged and nothing is left of its instance.
    pub async fn purged(&self, removed: &Removed, limit: Duration) -> Claim<Duration> {
        let grave = keys::grave(removed.removal);
        let reclaim = keys::reclaim(removed.removal);
        let what = format!("the purge of {}", removed.bucket);
        self.eventually(&what, limit, async || {
            Ok(self.get(&grave).await?.is_some() && self.get(&reclaim).await?.is_none())
        })
        .await
    }
}

impl Running {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.commands.lock().expect("no test panics while it holds this")
    }

    fn end_commands(&self) {
        for command in self.lock().drain(..) {
            command.abort();
        }
    }
}

async fn command(services: Arc<Services>, namespace: String, words: Vec<String>) -> Reply {
    let nowhere = ([127, 0, 0, 1], 0).into();
    let client = Arc::new(Client::new(0, nowhere, nowhere));
    let mut session = Session::new(client, Arc::clone(&services.config));
    session.namespace = namespace;
    let mut context = Context { session: &mut session, services: &services };
    execute(&mut context, Words::from_words(words)).await
}

/// Writes a document, its change and its counts, as a background build would.
pub fn put(txn: &Transaction, live: &LiveBucket, number: u32, at: i64) -> DomainResult<()> {
    let mut oid = [0; 12];
    oid[8..].copy_from_slice(&number.to_be_bytes());
    let id = bson::oid::ObjectId::from_bytes(oid);
    let document = record::encode(&bson::doc! { "_id": id, "number": i64::from(number) });
    let shard = live.shards()[0];
    let key = keys::document(live.id(), &oid);
    txn.set(&key, &[&[1], document.as_slice()].concat())?;
    let change = record::encode_change(&Change { op: ChangeOp::Insert, oid, at });
    txn.set_versionstamped_key(&keys::change_now(live.id(), shard, 0), &change)?;
    let bytes = i64::try_from(document.len()).expect("a small document");
    for (what, sum) in [(keys::counted::DOCUMENTS, 1), (keys::counted::BYTES, bytes)] {
        txn.atomic(Atomic::Add, &keys::count(live.id(), shard, what), &record::encode_sum(sum))?;
    }
    Ok(())
}

/// Runs a scenario, with patience, and gives what it claims.
pub fn patiently(scenario: impl Future<Output = Claim>) -> impl Future<Output = Claim> {
    within(PATIENCE * 2, scenario)
}

/// Runs a scenario that must have ended after so long.
pub fn within(
    limit: Duration,
    scenario: impl Future<Output = Claim>,
) -> impl Future<Output = Claim> {
    // A scenario of several nodes is large.
    let scenario = timeout(limit, Box::pin(scenario));
    async { scenario.await.unwrap_or_else(|_| Err("it never ended".to_owned())) }
}
