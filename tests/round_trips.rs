//! What a command asks of the store. On FoundationDB each transaction that reads takes a snapshot (one round trip), what is asked for
//! at once costs one more, and a commit one more. docs/architecture.md has the table.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lethe::clock::SystemClock;
use lethe::command::{Context, Reply, execute};
use lethe::config::Config;
use lethe::node::{Node, NodeOptions};
use lethe::resp::Words;
use lethe::session::{Client, Session};
use lethe::store::Store;

struct World {
    store: Store,
    node: Node,
    session: Session,
}

/// What one command cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    transactions: u64,
    reads: u64,
    commits: u64,
}

impl World {
    async fn start() -> Self {
        let store = Store::memory();
        let mut config = Config::default();
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.http.listen.clear();
        let config = Arc::new(config);
        let options = NodeOptions { exclusive: true, ..NodeOptions::default() };
        let clock = Arc::new(SystemClock);
        let node = Node::start_on(store.clone(), Arc::clone(&config), clock, options).await;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let session = Session::new(Arc::new(Client::new(7, nowhere, nowhere)), config);
        let mut world = Self { store, node: node.unwrap(), session };
        world.quiet(true).await;
        world
    }

    /// Whether the node's background work stands still, so that only the command counts.
    async fn quiet(&mut self, quiet: bool) {
        let lifecycle = self.node.services().lifecycle().unwrap();
        let cluster = lifecycle.catalog().cluster();
        if quiet {
            tokio::time::sleep(Duration::from_secs(3)).await;
            cluster.pause();
        } else {
            cluster.resume();
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    async fn run(&mut self, line: &str) -> Reply {
        let services = Arc::clone(self.node.services());
        let mut context = Context { services: &services, session: &mut self.session };
        execute(&mut context, Words::from_words(line.split(' '))).await
    }

    async fn cost(&mut self, line: &str) -> Cost {
        let before = self.store.stats();
        let begun = self.node_transactions();
        let reply = self.run(line).await;
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
        let after = self.store.stats();
        Cost {
            transactions: self.node_transactions() - begun,
            reads: after.reads - before.reads,
            commits: after.commits - before.commits,
        }
    }

    fn node_transactions(&self) -> u64 {
        let lifecycle = self.node.services().lifecycle().unwrap();
        lifecycle.catalog().store().stats().transactions.begun
    }
}

#[tokio::test(start_paused = true)]
async fn data_commands_with_a_warm_cache_read_no_metadata() {
    let mut world = World::start().await;
    let costs = |transactions, reads, commits| Cost { transactions, reads, commits };
    world.run("BUCKET.CREATE b").await;
    let insert = "BUCKET.INSERT b DOCS {\"_id\":\"6835a1c0e4b0f72a3c000001\"}";
    world.run(insert).await;
    assert_eq!(world.cost("BUCKET.INSERT b DOCS {}").await, costs(1, 0, 1));
    let query = "BUCKET.QUERY b {\"_id\":\"6835a1c0e4b0f72a3c000001\"}";
    assert_eq!(world.cost(query).await, costs(1, 1, 0));
    // After something changed elsewhere, once: the fences of the bucket and of its namespace.
    world.run("BUCKET.CREATE other").await;
    world.run("BUCKET.REMOVE other").await;
    world.quiet(false).await;
    world.quiet(true).await;
    assert_eq!(world.cost(query).await, costs(1, 3, 0));
    assert_eq!(world.cost(query).await, costs(1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn removing_and_purging_cost_the_same_however_much_is_inside() {
    let mut costs = Vec::new();
    for documents in [1, 300] {
        let mut world = World::start().await;
        world.run("BUCKET.CREATE b").await;
        for _ in 0..documents {
            world.run("BUCKET.INSERT b DOCS {}").await;
        }
        let remove = world.cost("BUCKET.REMOVE b").await;
        world.quiet(false).await;
        world.quiet(true).await;
        let purge = world.cost("BUCKET.PURGE b").await;
        costs.push((remove, purge));
    }
    assert_eq!(costs[0], costs[1]);
    let (remove, purge) = costs[0];
    assert_eq!(remove, Cost { transactions: 1, reads: 4, commits: 1 });
    // The members, shards, busy rows, seen and witnesses are five of them, whatever is in them.
    assert_eq!(purge, Cost { transactions: 1, reads: 21, commits: 1 });
}
