//! What a command asks of the store. On FoundationDB each transaction that reads takes a snapshot (one round trip), what is asked for
//! at once costs one more, and a commit one more. And how often a command allocates. docs/architecture.md has the tables.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "query/allocations.rs"]
mod allocations;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lethe::clock::SystemClock;
use lethe::command::{Context, Reply, execute};
use lethe::config::Config;
use lethe::node::{Node, NodeOptions};
use lethe::resp::Words;
use lethe::session::{Client, Session};
use lethe::store::{Chaos, Store};

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

    /// The fewest allocations of a command in several runs, the making of its words not counted.
    /// Everything runs on this thread: the command, the store in memory, and what little the node
    /// does meanwhile, which is why the fewest count.
    async fn allocations(&mut self, line: impl Fn(usize) -> String) -> u64 {
        let services = Arc::clone(self.node.services());
        let mut fewest = u64::MAX;
        for run in 0..RUNS {
            let line = line(run);
            let words = Words::from_words(line.split(' '));
            let mut context = Context { services: &services, session: &mut self.session };
            let before = allocations::count();
            let reply = execute(&mut context, words).await;
            let after = allocations::count();
            assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
            fewest = fewest.min(after - before);
        }
        fewest
    }

    fn node_transactions(&self) -> u64 {
        let lifecycle = self.node.services().lifecycle().unwrap();
        lifecycle.catalog().store().stats().transactions.begun
    }
}

const RUNS: usize = 30;

/// How many allocations a command may take; what it is measured at plus a little.
const ALLOCATIONS: [(&str, u64); 7] = [
    ("`BUCKET.INSERT` of one document", 90),
    ("the same with two indexes", 145),
    ("`BUCKET.QUERY` by `_id`", 60),
    ("`BUCKET.QUERY` by an index, one document", 125),
    ("`BUCKET.UPDATE` by `_id`, `$inc`", 145),
    ("the same of a field with an index", 205),
    ("`BUCKET.DELETE` by `_id`", 200),
];

#[tokio::test(start_paused = true)]
async fn data_commands_allocate_no_more_than_is_written_down() {
    let mut world = World::start().await;
    let id = |run: usize| format!("{{\"_id\":\"6835a1c0e4b0f72a3c{run:06x}\"}}");
    let document = |run: usize| format!("{},\"k\":{run},\"n\":1}}", id(run).trim_end_matches('}'));
    world.run("BUCKET.CREATE plain").await;
    let indexes = r#"{"k":{"bson_type":"int32"},"n":{"bson_type":"int32"}}"#;
    world.run(&format!("BUCKET.CREATE indexed INDEXES {indexes}")).await;
    for bucket in ["plain", "indexed"] {
        for run in 0..RUNS {
            world.run(&format!("BUCKET.INSERT {bucket} DOCS {}", document(run))).await;
        }
    }
    let increase = r#"{"$inc":{"n":1}}"#;
    let measured = [
        world.allocations(|_| r#"BUCKET.INSERT plain DOCS {"k":99,"n":1}"#.to_owned()).await,
        world.allocations(|_| r#"BUCKET.INSERT indexed DOCS {"k":99,"n":1}"#.to_owned()).await,
        world.allocations(|run| format!("BUCKET.QUERY plain {}", id(run))).await,
        world.allocations(|run| format!("BUCKET.QUERY indexed {{\"k\":{run}}}")).await,
        world.allocations(|run| format!("BUCKET.UPDATE plain {} {increase}", id(run))).await,
        world.allocations(|run| format!("BUCKET.UPDATE indexed {} {increase}", id(run))).await,
        world.allocations(|run| format!("BUCKET.DELETE plain {}", id(run))).await,
    ];
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut wrong = Vec::new();
    for ((what, most), measured) in ALLOCATIONS.into_iter().zip(measured) {
        // Much below the bound, the bound says nothing any more.
        if measured > most || measured < most / 2 {
            wrong.push(format!("{what}: {measured} allocations, {most} are written down"));
        }
        let row = format!("| {what} | {most} |");
        if !page.contains(&row) {
            wrong.push(format!("docs/architecture.md has no row '{row}'"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
    let update = r#"BUCKET.UPDATE b {"_id":"6835a1c0e4b0f72a3c000001"} {"$inc":{"n":1}}"#;
    assert_eq!(world.cost(update).await, costs(1, 1, 1));
    world.run(r#"BUCKET.CREATE i INDEXES {"k":{"bson_type":"int32"}}"#).await;
    world.run(r#"BUCKET.INSERT i DOCS {"k":1} {"k":2} {"k":2}"#).await;
    world.run(r#"BUCKET.QUERY i {"k":1}"#).await;
    assert_eq!(world.cost(r#"BUCKET.QUERY i {"k":1}"#).await, costs(1, 2, 0));
    assert_eq!(world.cost(r#"BUCKET.QUERY i {"k":2}"#).await, costs(1, 3, 0));
    assert_eq!(world.cost(r#"BUCKET.UPDATE i {"k":1} {"$set":{"n":1}}"#).await, costs(1, 2, 1));
    world.run(r#"BUCKET.DELETE i {"k":2} LIMIT 1"#).await;
    assert_eq!(world.cost(r#"BUCKET.DELETE i {"k":1}"#).await, costs(1, 2, 1));
    // After something changed elsewhere, once: the fences of the bucket and of its namespace, and the user.
    world.run("BUCKET.CREATE other").await;
    world.run("BUCKET.REMOVE other").await;
    world.quiet(false).await;
    world.quiet(true).await;
    assert_eq!(world.cost(query).await, costs(1, 4, 0));
    assert_eq!(world.cost(query).await, costs(1, 1, 0));
}

/// A change asks for what it has to know of many documents at once, not of one after the other.
#[tokio::test(start_paused = true)]
async fn a_batch_of_an_update_waits_for_the_store_a_few_times_however_many_it_changes() {
    const DOCUMENTS: usize = 120;
    let mut world = World::start().await;
    world.run(r#"BUCKET.CREATE b INDEXES {"n":{"bson_type":"int32","unique":true}}"#).await;
    for n in 0..DOCUMENTS {
        world.run(&format!(r#"BUCKET.INSERT b DOCS {{"n":{n}}}"#)).await;
    }
    // Each read takes some of ten milliseconds of the clock, which stands still but for that.
    let quiet = Chaos { conflict: 0.0, unknown_landed: 0.0, ..Chaos::with_seed(1) };
    let quiet = Chaos { unknown_lost: 0.0, unknown_late: 0.0, delay: 1.0, ..quiet };
    let slow = Chaos { delay_max: Duration::from_millis(10), ..quiet };
    for (update, sequential) in [
        (r#"{"$inc":{"n":1000}}"#, false),
        (r#"{"$set":{"x":1}}"#, false),
        // Each takes the value that the one before gives up: there the order matters.
        (r#"{"$inc":{"n":-1}}"#, true),
    ] {
        world.store.faults().unwrap().chaos(Some(slow.clone()));
        let (started, before) = (tokio::time::Instant::now(), world.store.stats().reads);
        let reply = world.run(&format!("BUCKET.UPDATE b {{}} {update} LIMIT 1000")).await;
        let (took, reads) = (started.elapsed(), world.store.stats().reads - before);
        world.store.faults().unwrap().chaos(None);
        let Reply::Array(pair) = &reply else { panic!("{reply:?}") };
        let Reply::Array(ids) = &pair[1] else { panic!("{reply:?}") };
        assert_eq!(ids.len(), DOCUMENTS, "{update}");
        let asked = if update.contains("$inc") { u64::try_from(DOCUMENTS).unwrap() } else { 0 };
        assert!((asked..asked + 10).contains(&reads), "{update}: {reads} reads");
        if !sequential {
            assert!(took < Duration::from_millis(100), "{update}: {took:?}");
        }
    }
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
    // The name and the record of the bucket and of its namespace, and what is below neither.
    assert_eq!(remove, Cost { transactions: 1, reads: 5, commits: 1 });
    // The members, shards, busy rows, seen and witnesses are five of them, whatever is in them.
    assert_eq!(purge, Cost { transactions: 1, reads: 22, commits: 1 });
}

/// Writes buckets, all in one namespace, without the commands.
async fn fill(world: &World, namespace: &str, buckets: usize) {
    use lethe::codec::BucketId;
    use lethe::codec::record::BucketRecord;
    use lethe::metadata::{Path, bucket, namespace};
    use lethe::store::Read;

    let path = Path::parse(namespace.as_bytes()).unwrap();
    for page in 0..buckets.div_ceil(1_000) {
        let txn = world.store.begin("fill");
        let parent = namespace::resolve(&txn, &path, Read::Snapshot).await.unwrap().id();
        for number in page * 1_000..buckets.min((page + 1) * 1_000) {
            let id = world.node.cluster().ids().next().await.unwrap();
            let record = BucketRecord::new(parent, &format!("b{number}"), vec![0], 0);
            bucket::write_new(&txn, BucketId(id), &record).unwrap();
        }
        txn.commit().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_and_comes_back_for_the_same_however_much_is_in_it() {
    let mut costs = Vec::new();
    for buckets in [10, 10_000] {
        let mut world = World::start().await;
        world.run("NAMESPACE CREATE n.x").await;
        fill(&world, "n.x", buckets).await;
        let mut cost = Vec::new();
        for command in [
            "NAMESPACE REMOVE n",
            "NAMESPACE RESTORE n",
            "NAMESPACE MOVE n m",
            "NAMESPACE REMOVE m",
        ] {
            cost.push(world.cost(command).await);
            world.quiet(false).await;
            world.quiet(true).await;
        }
        cost.push(world.cost("NAMESPACE PURGE m").await);
        assert!(cost.iter().all(|cost| cost.transactions == 1 && cost.commits == 1), "{cost:?}");
        costs.push(cost);
    }
    assert_eq!(costs[0], costs[1]);
}

/// Test 10 of the complaints, in work instead of time: what it takes to take a purged
/// namespace apart grows with what is in it and with nothing else, in steps that stay
/// small. 60,000 empty buckets are 600 transactions of 100 buckets each, and a rest as long
/// as each took: minutes, also where a transaction takes a tenth of a second.
#[tokio::test(start_paused = true)]
async fn each_bucket_of_a_purged_namespace_costs_the_same() {
    let mut costs = Vec::new();
    for buckets in [300_u64, 1_300, 3_300] {
        let mut world = World::start().await;
        world.run("NAMESPACE CREATE n").await;
        fill(&world, "n", usize::try_from(buckets).unwrap()).await;
        world.run("NAMESPACE REMOVE n").await;
        world.quiet(false).await;
        world.quiet(true).await;
        let before = world.store.stats();
        assert_eq!(world.run("NAMESPACE PURGE n").await, Reply::Ok);
        let lifecycle = world.node.services().lifecycle().unwrap();
        // The namespace itself went with the purge.
        let soon = tokio::time::Instant::now() + Duration::from_secs(60);
        while lifecycle.meters().reclaims().dismantled < buckets {
            assert!(tokio::time::Instant::now() < soon, "it was not taken apart");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(lifecycle.meters().reclaims().dismantled, buckets);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = world.store.stats();
        costs.push((after.commits - before.commits, after.reads - before.reads));
    }
    let more = |large: usize, small: usize| {
        (costs[large].0 - costs[small].0, costs[large].1 - costs[small].1)
    };
    let (thousand, two) = (more(1, 0), more(2, 1));
    assert_eq!((thousand.0, two.0), (10, 20), "transactions: {costs:?}");
    assert_eq!(two.1, 2 * thousand.1, "reads: {costs:?}");
    // Of a bucket without data its prefix, its trims and its vacuums.
    assert!(thousand.1 <= 3_100, "{costs:?}");
}

/// Sums of a namespace are added up of so many buckets and no more.
#[tokio::test(start_paused = true)]
async fn the_sums_of_a_namespace_cost_no_more_however_much_is_in_it() {
    let mut reads = Vec::new();
    for (buckets, counted, incomplete) in [(3, 4, false), (1_500, 998, true), (6_000, 998, true)] {
        let mut world = World::start().await;
        world.run("NAMESPACE CREATE n.x").await;
        world.run("NAMESPACE USE n").await;
        world.run("BUCKET.CREATE own").await;
        world.run("BUCKET.INSERT own DOCS {}").await;
        fill(&world, "n.x", buckets).await;
        let before = world.store.stats().reads;
        let reply = world.run("NAMESPACE DESCRIBE n").await;
        reads.push(world.store.stats().reads - before);
        let Reply::Map(fields) = &reply else { panic!("{reply:?}") };
        let has =
            |name: &'static str, value: Reply| fields.contains(&(Reply::literal(name), value));
        // The namespaces are looked at, too.
        assert!(has("buckets", Reply::Integer(counted)), "{reply:?}");
        assert!(has("documents", Reply::Integer(1)), "{reply:?}");
        assert!(has("incomplete", Reply::Boolean(incomplete)), "{reply:?}");
    }
    assert_eq!(reads[1], reads[2]);
    assert!(reads[1] < 1_100, "{reads:?}");
}
