//! The cluster layer over the memory engine, with paused time.

mod chaos;
mod membership;
mod scenarios;
mod sets;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::mutation::{Mutation, Mutations};
use super::rows::{Members, Shards};
use super::{Cluster, ClusterOptions, Ended, Listener, Result, barrier, journal, rows};
use crate::clock::TestClock;
use crate::codec::record::{
    self, BucketRecord, BusyRecord, Event, EventKind, NamespaceRecord, State,
};
use crate::codec::{BucketId, NamespaceId, RemovalId, Versionstamp, keys};
use crate::store::{Committed, Faults, RangeRead, Read, Store, Transaction};

pub(super) const EPOCH: i64 = 1_800_000_000_000;
pub(super) const BUCKET: BucketId = BucketId(501);

/// A store and the nodes over it.
struct World {
    store: Store,
    clock: TestClock,
    mutations: Mutations,
    shards: u16,
    silent_after: Duration,
}

/// A running node. Its listener writes down the events.
struct Node {
    cluster: Cluster,
    task: JoinHandle<Ended>,
    heard: Arc<Mutex<Vec<Event>>>,
}

struct Recorder(Arc<Mutex<Vec<Event>>>);

impl Listener for Recorder {
    fn on_event(&self, event: &Event, _version: Versionstamp) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl World {
    fn new(shards: u16) -> Self {
        Self {
            store: Store::memory(),
            clock: TestClock::starting_at(EPOCH),
            mutations: Mutations::default(),
            shards,
            silent_after: Duration::from_secs(10),
        }
    }

    fn options(&self, node: &str) -> ClusterOptions {
        ClusterOptions {
            shards: self.shards,
            mutations: self.mutations,
            silent_after: self.silent_after,
            ..ClusterOptions::new(node)
        }
    }

    fn faults(&self) -> &Faults {
        self.store.faults().unwrap()
    }

    async fn join(&self, node: &str) -> Result<Cluster> {
        let clock = Arc::new(self.clock.clone());
        Cluster::join(self.store.as_client(node), clock, self.options(node)).await
    }

    /// Joins and runs.
    async fn start(&self, node: &str) -> Node {
        let cluster = self.join(node).await.unwrap();
        Node::run(cluster)
    }

    /// Nodes `a`, `b` and so on, once shards are spread and witnessed.
    async fn start_all<const N: usize>(&self) -> [Node; N] {
        let mut nodes = Vec::new();
        for name in ["a", "b", "c"].iter().take(N) {
            nodes.push(self.start(name).await);
            // So that the first of them is the observer.
            settle().await;
        }
        sleep(Duration::from_secs(3)).await;
        let Ok(nodes) = nodes.try_into() else { unreachable!("as many as were started") };
        nodes
    }

    async fn write(&self, change: impl FnOnce(&Transaction)) -> Committed {
        let txn = self.store.begin("test");
        change(&txn);
        txn.commit().await.unwrap()
    }

    /// A bucket in a namespace, both active, with their fences.
    async fn create(&self, bucket: BucketId, namespace: NamespaceId, parent: NamespaceId) {
        let place = NamespaceRecord::new(parent, &format!("n{}", namespace.0), EPOCH);
        let record = BucketRecord::new(namespace, "b", vec![0], EPOCH);
        self.write(|txn| {
            txn.set(&keys::namespace_record(namespace), &record::encode(&place)).unwrap();
            txn.set(&keys::bucket_record(bucket), &record::encode(&record)).unwrap();
            for object in [bucket.0, namespace.0] {
                txn.set_versionstamped_value(&keys::fence(object), &Versionstamp::placeholder())
                    .unwrap();
            }
        })
        .await;
    }

    /// What of a REMOVE this layer sees: the event. Gives the version.
    async fn remove(&self, object: u64) -> Versionstamp {
        self.event(object, EventKind::Removed).await
    }

    async fn event(&self, object: u64, kind: EventKind) -> Versionstamp {
        let event = Event { kind, object, removal: Some(RemovalId(9)) };
        let done = self.write(|txn| {
            journal::append(txn, 0, &event).unwrap();
            let version = Versionstamp::placeholder();
            txn.set_versionstamped_value(&keys::fence(object), &version).unwrap();
        });
        done.await.versionstamp.unwrap()
    }

    async fn barrier(&self, object: u64, version: Versionstamp) -> barrier::BarrierState {
        barrier::evaluate(&self.store.begin("barrier"), object, version, self.mutations)
            .await
            .unwrap()
    }

    async fn satisfied(&self, object: u64, version: Versionstamp) -> bool {
        self.barrier(object, version).await.satisfied()
    }

    /// Waits for the barrier as PURGE does; gives how long it took.
    async fn purgeable(&self, object: u64, version: Versionstamp) -> Duration {
        let started = Instant::now();
        loop {
            let txn = self.store.begin("purge");
            let state = barrier::evaluate(&txn, object, version, self.mutations).await.unwrap();
            if state.satisfied() {
                return started.elapsed();
            }
            let signal = txn.watch(&keys::barrier_signal()).unwrap();
            txn.commit().await.unwrap();
            let waited = tokio::time::timeout(Duration::from_secs(300), signal).await;
            waited.expect("the barrier was signalled").unwrap();
        }
    }

    async fn members(&self) -> Members {
        rows::members(&self.store.begin("members"), Read::Snapshot).await.unwrap()
    }

    async fn shards(&self) -> Shards {
        rows::shards(&self.store.begin("shards"), Read::Snapshot).await.unwrap()
    }

    async fn seen(&self, node: &str) -> Option<Versionstamp> {
        rows::seen(&self.store.begin("seen")).await.unwrap().get(node).copied()
    }

    async fn witnesses(&self) -> BTreeMap<u16, Versionstamp> {
        rows::witnesses(&self.store.begin("witnesses")).await.unwrap()
    }

    async fn get(&self, key: &[u8]) -> Option<bytes::Bytes> {
        self.store.begin("get").get(key, Read::Snapshot).await.unwrap()
    }

    /// The busy rows of an object: node, scope and what.
    async fn busy(&self, object: u64) -> Vec<(String, i32, Vec<String>)> {
        let range = RangeRead::prefix(keys::busy_prefix(object));
        let page = self.store.begin("busy").range(range).await.unwrap();
        let row = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
            let (_, node, scope) = keys::parse_busy(key).unwrap();
            (node, scope, record::decode::<BusyRecord>("busy", value).unwrap().what)
        };
        page.rows.iter().map(row).collect()
    }

    /// Every shard belongs to a member.
    async fn all_owned(&self) -> bool {
        let members = self.members().await;
        let shards = self.shards().await;
        shards.len() == usize::from(self.shards)
            && shards.values().all(|record| members.contains_key(&record.owner))
    }

    async fn owner_of(&self, shard: u16) -> String {
        self.shards().await[&shard].owner.clone()
    }
}

impl Node {
    fn run(cluster: Cluster) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener: Arc<dyn Listener> = Arc::new(Recorder(Arc::clone(&heard)));
        let running = cluster.clone();
        let task = tokio::spawn(async move { running.run(vec![listener]).await });
        Self { cluster, task, heard }
    }

    fn objects(&self) -> Vec<u64> {
        self.heard.lock().unwrap().iter().map(|event| event.object).collect()
    }

    /// The task ends as a process does that is killed.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    async fn ended(self) -> Ended {
        self.task.await.unwrap()
    }
}

/// Long enough for every follower to take note of what is in the journal.
async fn settle() {
    sleep(Duration::from_millis(500)).await;
}
