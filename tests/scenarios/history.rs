//! Random transactions of several sessions on two nodes, with faults by chance,
//! and the checker that finds any anomaly in what they were answered.
//!
//! `LETHE_HISTORY_SEEDS=5000 cargo test --test scenarios history` runs longer;
//! `LETHE_HISTORY_SEED=17` runs one again.

mod checker;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use lethe::cluster::mutation::{Mutation, Mutations};
use lethe::resp::Reply;
use lethe::store::Chaos;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, fail, line, patiently};
use crate::seat::Seat;
use crate::transactions::index;
use checker::{Element, End, History, Key, Removed, Step, Transaction, check};

const SEEDS: u64 = 40;
/// Within so many seeds a planted mistake has to be found.
const SEEDS_TO_FIND: u64 = 200;
const BUCKETS: usize = 2;
const KEYS: u32 = 2;
const CLIENTS: usize = 4;
const TRANSACTIONS: usize = 6;

/// What is done beside reading and adding.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    mutations: Mutations,
    /// Sessions read without the claim that it still holds.
    snapshot_reads: bool,
    /// A client removes and restores a bucket all the time.
    removals: bool,
}

/// What all clients of one run share.
pub struct Run {
    seed: u64,
    events: AtomicU64,
    elements: AtomicU32,
}

impl Run {
    pub fn new(seed: u64) -> Self {
        Self { seed, events: AtomicU64::default(), elements: AtomicU32::default() }
    }

    /// The next event.
    pub fn now(&self) -> u64 {
        self.events.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// One that was not there before.
    pub fn element(&self) -> Element {
        self.elements.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn bucket(&self, number: usize) -> String {
        format!("h{}b{number}", self.seed)
    }
}

/// What an answer to a command or to COMMIT means for what it has written.
fn end(answer: &str) -> Claim<End> {
    Ok(match answer.split(' ').next().unwrap_or_default() {
        "OK" => End::Committed,
        _ if answer.starts_with('[') => End::Committed,
        "NOT_COMMITTED" | "TRANSACTION_TOO_OLD" | "BUCKETBEINGREMOVED" | "DUPLICATEKEY" => {
            End::NotCommitted
        }
        "COMMIT_UNKNOWN_RESULT" => End::Unknown,
        _ => return Err(format!("an answer that nobody expects: {answer}")),
    })
}

struct Client {
    number: usize,
    seat: Seat,
    run: Arc<Run>,
    random: StdRng,
}

impl Client {
    fn key(&mut self) -> Key {
        (self.random.random_range(0..BUCKETS), self.random.random_range(0..KEYS))
    }

    /// One command of a transaction, or one that is a transaction.
    async fn step(&mut self) -> Claim<(Step, End)> {
        let key = self.key();
        let bucket = self.run.bucket(key.0);
        if self.random.random_bool(0.5) {
            return self.read(key).await;
        }
        let elements: Vec<Element> =
            (0..self.random.random_range(1..3)).map(|_| self.run.element()).collect();
        let mut documents: Vec<String> =
            elements.iter().map(|element| format!(r#"{{"k":{},"v":{element}}}"#, key.1)).collect();
        if self.random.random_bool(0.1) {
            // Its last document has the id of another one of the same command.
            let id = format!("{:024x}", u64::from(self.run.element()));
            documents.push(format!(r#"{{"_id":"{id}","k":{0},"v":0}}"#, key.1));
            documents.push(format!(r#"{{"_id":"{id}","k":{0},"v":0}}"#, key.1));
        }
        let answer =
            self.seat.say(&format!("BUCKET.INSERT {bucket} DOCS {}", documents.join(" "))).await;
        Ok(match end(&answer)? {
            End::NotCommitted => (Step::Refused(key, elements), End::NotCommitted),
            end => (Step::Add(key, elements), end),
        })
    }

    async fn read(&mut self, key: Key) -> Claim<(Step, End)> {
        let bucket = self.run.bucket(key.0);
        let query = format!(r#"BUCKET.QUERY {bucket} {{"k":{}}} LIMIT 9999"#, key.1);
        let reply = self.seat.ask(&query).await;
        match &reply {
            Reply::Array(_) => Ok((Step::Read(key, elements(&reply)?), End::Committed)),
            _ => Ok((Step::Refused(key, Vec::new()), end(&line(&reply))?)),
        }
    }

    async fn transaction(&mut self) -> Claim<Transaction> {
        let begun = self.run.now();
        let (mut steps, mut committing) = (Vec::new(), begun);
        let end = if self.random.random_bool(0.25) {
            let (step, end) = self.step().await?;
            steps.push(step);
            end
        } else {
            self.seat.expect("BEGIN", "OK").await?;
            for _ in 0..self.random.random_range(1..5) {
                let (step, _) = self.step().await?;
                steps.push(step);
                if self.random.random_bool(0.3) {
                    sleep(Duration::from_millis(self.random.random_range(0..10))).await;
                }
            }
            committing = self.run.now();
            if self.random.random_bool(0.1) {
                self.seat.expect("ROLLBACK", "OK").await?;
                End::NotCommitted
            } else {
                end(&self.seat.say("COMMIT").await)?
            }
        };
        let (client, ended) = (self.number, self.run.now());
        Ok(Transaction { client, begun, committing, ended, end, steps })
    }
}

/// The `v` of each document of a batch, in its order.
fn elements(reply: &Reply) -> Claim<Vec<Element>> {
    let text = line(reply);
    let numbers = text.split(r#""v":"#).skip(1).map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().map_err(fail)
    });
    numbers.collect()
}

fn spawn_client(
    cluster: &Cluster,
    run: &Arc<Run>,
    plan: Plan,
    number: usize,
    random: StdRng,
) -> JoinHandle<Claim<Vec<Transaction>>> {
    let seat = Seat::at(cluster, ["A", "B"][number % 2]);
    let mut client = Client { number, seat, run: Arc::clone(run), random };
    tokio::spawn(async move {
        if plan.snapshot_reads {
            client.seat.expect("SNAPSHOTREAD ON", "OK").await?;
        }
        let mut transactions = Vec::new();
        for _ in 0..TRANSACTIONS {
            transactions.push(client.transaction().await?);
        }
        Ok(transactions)
    })
}

fn spawn_remover(
    cluster: &Cluster,
    run: &Arc<Run>,
    mut random: StdRng,
) -> JoinHandle<Claim<Vec<Removed>>> {
    let (mut seat, run) = (Seat::at(cluster, "A"), Arc::clone(run));
    tokio::spawn(async move {
        let mut removed = Vec::new();
        for _ in 0..6 {
            let mut pause = async || sleep(Duration::from_millis(random.random_range(0..60))).await;
            pause().await;
            let bucket = run.bucket(0);
            seat.expect(&format!("BUCKET.REMOVE {bucket}"), "OK").await?;
            let from = run.now();
            pause().await;
            let to = run.now();
            seat.expect(&format!("BUCKET.RESTORE {bucket}"), "OK").await?;
            removed.push(Removed { bucket: 0, from, to });
        }
        Ok(removed)
    })
}

/// Runs one seed and gives what was seen.
async fn run(cluster: &Cluster, plan: Plan, seed: u64) -> Claim<History> {
    let mut random = StdRng::seed_from_u64(seed);
    let run = Arc::new(Run::new(seed));
    for number in 0..BUCKETS {
        let bucket = run.bucket(number);
        cluster.expect("A", &format!("BUCKET.CREATE {bucket}"), "OK").await?;
        // Every other one finds its documents through an index.
        if seed % 2 == 1 {
            index(cluster, &bucket, "k").await?;
        }
    }
    let chaos = Chaos { delay_max: Duration::from_millis(20), ..Chaos::with_seed(seed) };
    cluster.chaos((!seed.is_multiple_of(4)).then_some(chaos));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let random = StdRng::seed_from_u64(random.random());
            spawn_client(cluster, &run, plan, number, random)
        })
        .collect();
    let remover = plan.removals.then(|| spawn_remover(cluster, &run, random));
    let mut history = History::default();
    for client in clients {
        history.transactions.extend(client.await.map_err(fail)??);
    }
    if let Some(remover) = remover {
        history.removed = remover.await.map_err(fail)??;
    }
    cluster.chaos(None);
    // What is late has landed or never will.
    sleep(Duration::from_millis(100)).await;
    history.transactions.sort_by_key(|transaction| transaction.begun);
    let (seat, random) = (Seat::at(cluster, "B"), StdRng::seed_from_u64(seed));
    let mut last = Client { number: CLIENTS, seat, run: Arc::clone(&run), random };
    let (begun, mut steps) = (run.now(), Vec::new());
    for bucket in 0..BUCKETS {
        for key in 0..KEYS {
            steps.push(last.read((bucket, key)).await?.0);
        }
    }
    let (client, ended, end) = (CLIENTS, run.now(), End::Committed);
    history.transactions.push(Transaction { client, begun, committing: begun, ended, end, steps });
    Ok(history)
}

/// Runs seeds; the first anomaly, with its seed.
async fn first_anomaly(plan: Plan, seeds: Range<u64>) -> Claim<Option<(u64, String)>> {
    let cluster = Cluster::with(&["A", "B"], plan.mutations, |_| {}).await?;
    let mut committed = 0;
    for seed in seeds {
        let history = run(&cluster, plan, seed).await.map_err(|e| format!("seed {seed}: {e}"))?;
        let ends = history.transactions.iter().map(|transaction| transaction.end);
        committed += ends.filter(|end| *end == End::Committed).count();
        if let Err(anomaly) = check(&history) {
            return Ok(Some((seed, anomaly)));
        }
    }
    claim!(committed > 0, "nothing was ever committed");
    // Doubled writes would show in the counters, which nobody reads.
    cluster.finish().await?;
    Ok(None)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The one seed that was asked for, or so many.
pub fn seeds(count: u64) -> Range<u64> {
    match number("LETHE_HISTORY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LETHE_HISTORY_SEEDS").unwrap_or(count),
    }
}

async fn no_anomaly(plan: Plan) -> Claim {
    none_of(first_anomaly(plan, seeds(SEEDS)).await?, "history")
}

/// What an anomaly is told as, and how to see it again.
pub fn none_of(anomaly: Option<(u64, String)>, module: &str) -> Claim {
    anomaly.map_or(Ok(()), |(seed, anomaly)| {
        Err(format!(
            "{anomaly}\nagain: LETHE_HISTORY_SEED={seed} cargo test --test scenarios {module}"
        ))
    })
}

/// A mistake must be found, by an anomaly that begins so.
async fn expect_found(plan: Plan, kinds: &[&str]) {
    let found = async {
        let found = first_anomaly(plan, 0..SEEDS_TO_FIND).await?;
        let (_, anomaly) = found.ok_or_else(|| format!("nobody noticed {plan:?}"))?;
        claim!(kinds.iter().any(|kind| anomaly.starts_with(kind)), "found by '{anomaly}'");
        Ok(())
    };
    if let Err(violated) = patiently(found).await {
        panic!("{violated}");
    }
}

on_each_store! {
    random_histories_have_no_anomaly: patiently(no_anomaly(Plan::default()));
    random_histories_with_removals_have_no_anomaly:
        patiently(no_anomaly(Plan { removals: true, ..Plan::default() }));
}

#[tokio::test(start_paused = true)]
async fn reads_without_conflict_are_found() {
    expect_found(Plan { snapshot_reads: true, ..Plan::default() }, &["G2"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_commit_taken_for_none_is_found() {
    let mutations = Mutations::of(&[Mutation::UnknownIsNotCommitted]);
    expect_found(Plan { mutations, ..Plan::default() }, &["G1a: "]).await;
}

#[tokio::test(start_paused = true)]
async fn commits_that_skip_the_fence_are_found() {
    let mutations = Mutations::of(&[Mutation::NoFenceConflict]);
    let plan = Plan { mutations, removals: true, ..Plan::default() };
    expect_found(plan, &["committed while"]).await;
}
