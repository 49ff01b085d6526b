//! Random INSERT, UPDATE, DELETE, QUERY and COUNT of several sessions on two
//! nodes, with cursors over batches and transactions, a unique index, and faults
//! by chance: some order of the transactions must explain every answer.
//!
//! `LETHE_HISTORY_SEEDS=5000 cargo test --test scenarios serial` runs longer;
//! `LETHE_HISTORY_SEED=17` runs one again.

mod model;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use lethe::cluster::mutation::{Mutation, Mutations};
use lethe::resp::Reply;
use lethe::store::Chaos;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, fail, line, patiently};
use crate::history::{Run, none_of, seeds};
use crate::seat::Seat;
use model::{Answer, Batch, Change, Document, End, Ended, Filter, Id, Step, Transaction, check};

const SEEDS: u64 = 60;
/// Within so many seeds a planted mistake has to be found.
const SEEDS_TO_FIND: u64 = 200;
const BUCKETS: usize = 2;
const KEYS: u32 = 3;
const UNIQUES: u32 = 6;
const CLIENTS: usize = 4;
const TRANSACTIONS: usize = 7;

/// A word without blanks that means these fields.
const INDEXES: [&str; BUCKETS] = [
    r#"{"k":{"bson_type":"int32"},"u":{"bson_type":"int32","unique":true}}"#,
    r#"{"k":{"bson_type":"int32"}}"#,
];

#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    mutations: Mutations,
    /// Sessions read without the claim that it still holds.
    snapshot_reads: bool,
}

/// What a cursor does.
#[derive(Clone, Copy, Debug)]
enum Action {
    Query,
    Update(Change, u32),
    Delete,
}

/// A cursor and what its next batch is.
struct Cursor {
    id: i64,
    bucket: usize,
    action: Action,
    next: Batch,
}

/// What became of a command.
enum Told {
    Step(Step),
    /// It could not be carried out, and whatever it belongs to cannot be committed.
    Failed,
}

struct Client {
    number: usize,
    seat: Seat,
    run: Arc<Run>,
    random: StdRng,
    cursors: Vec<Cursor>,
}

fn filter_text(filter: Filter) -> String {
    match filter {
        Filter::All => "{}".to_owned(),
        Filter::Key(key) => format!(r#"{{"k":{key}}}"#),
        Filter::Changed(times) => format!(r#"{{"n":{{"$gte":{times}}}}}"#),
    }
}

/// `{"$inc":...,"$push":...}` and what else the update does.
fn update_text(change: Change, element: u32, upsert: bool) -> String {
    let set = match change {
        Change::Nothing => String::new(),
        Change::Key(key) => format!(r#","$set":{{"k":{key}}}"#),
        Change::Unique(unique) => format!(r#","$set":{{"u":{unique}}}"#),
    };
    let upsert = if upsert { r#","upsert":true"# } else { "" };
    format!(r#"{{"$inc":{{"n":1}},"$push":{{"l":{element}}}{set}{upsert}}}"#)
}

/// A failure that says that nothing was or will be committed.
fn is_not_committed(answer: &str) -> bool {
    ["NOT_COMMITTED", "TRANSACTION_TOO_OLD"].iter().any(|code| answer.starts_with(code))
}

impl Client {
    fn pick_filter(&mut self) -> Filter {
        match self.random.random_range(0..8) {
            0 => Filter::All,
            1 => Filter::Changed(self.random.random_range(0..4)),
            _ => Filter::Key(self.random.random_range(0..KEYS)),
        }
    }

    fn pick_unique(&mut self) -> u32 {
        self.random.random_range(0..UNIQUES)
    }

    /// One command of a transaction, or one that is a transaction.
    async fn step(&mut self) -> Claim<Told> {
        let bucket = self.random.random_range(0..BUCKETS);
        match self.random.random_range(0..100) {
            0..18 => self.insert(bucket).await,
            18..28 => self.upsert(bucket).await,
            28..36 => {
                let filter = self.pick_filter();
                self.count(bucket, filter).await
            }
            36..56 if !self.cursors.is_empty() => {
                let at = self.random.random_range(0..self.cursors.len());
                let cursor = self.cursors.swap_remove(at);
                self.advance(cursor).await
            }
            chosen => {
                let action = match chosen {
                    36..64 => Action::Query,
                    64..74 => Action::Delete,
                    _ => {
                        let change = match self.random.random_range(0..4) {
                            0 => Change::Key(self.random.random_range(0..KEYS)),
                            1 => Change::Unique(self.pick_unique()),
                            _ => Change::Nothing,
                        };
                        Action::Update(change, self.run.element())
                    }
                };
                let filter = self.pick_filter();
                let limit = self.random.random_range(1..4);
                self.open(bucket, action, filter, limit).await
            }
        }
    }

    async fn insert(&mut self, bucket: usize) -> Claim<Told> {
        let count = self.random.random_range(1..3);
        let documents: Vec<Document> = (0..count)
            .map(|_| Document {
                key: self.random.random_range(0..KEYS),
                changes: 0,
                unique: self.pick_unique(),
                list: Vec::new(),
            })
            .collect();
        let texts: Vec<String> = documents
            .iter()
            .map(|one| format!(r#"{{"k":{},"n":0,"u":{},"l":[]}}"#, one.key, one.unique))
            .collect();
        let command = format!("BUCKET.INSERT {} DOCS {}", self.run.bucket(bucket), texts.join(" "));
        let reply = self.seat.ask(&command).await;
        let Some(answer) = answer(&reply, &reply)? else { return Ok(Told::Failed) };
        Ok(Told::Step(Step::Insert { bucket, documents, answer }))
    }

    async fn upsert(&mut self, bucket: usize) -> Claim<Told> {
        let (key, unique) = (self.random.random_range(0..KEYS), self.pick_unique());
        let (element, limit) = (self.run.element(), self.random.random_range(1..4));
        let update = update_text(Change::Unique(unique), element, true);
        let filter = filter_text(Filter::Key(key));
        let name = self.run.bucket(bucket);
        let command = format!("BUCKET.UPDATE {name} {filter} {update} LIMIT {limit}");
        let reply = self.seat.ask(&command).await;
        let Some((_, answer)) = batch_answer(&reply)? else { return Ok(Told::Failed) };
        Ok(Told::Step(Step::Upsert { bucket, key, unique, element, limit, answer }))
    }

    async fn count(&mut self, bucket: usize, filter: Filter) -> Claim<Told> {
        let name = self.run.bucket(bucket);
        let reply = self.seat.ask(&format!("BUCKET.COUNT {name} {}", filter_text(filter))).await;
        match reply {
            Reply::Integer(count) => {
                let count = usize::try_from(count).map_err(fail)?;
                Ok(Told::Step(Step::Count { bucket, filter, count }))
            }
            other => Ok(failed(&line(&other))?.unwrap_or(Told::Failed)),
        }
    }

    async fn open(
        &mut self,
        bucket: usize,
        action: Action,
        filter: Filter,
        limit: usize,
    ) -> Claim<Told> {
        let (name, filter_text) = (self.run.bucket(bucket), filter_text(filter));
        let command = match action {
            Action::Query => format!("BUCKET.QUERY {name} {filter_text} LIMIT {limit}"),
            Action::Delete => format!("BUCKET.DELETE {name} {filter_text} LIMIT {limit}"),
            Action::Update(change, element) => {
                let update = update_text(change, element, false);
                format!("BUCKET.UPDATE {name} {filter_text} {update} LIMIT {limit}")
            }
        };
        let next = Batch { filter, limit, after: None, ended: Ended::No };
        let reply = self.seat.ask(&command).await;
        self.told(Cursor { id: 0, bucket, action, next }, &reply)
    }

    async fn advance(&mut self, cursor: Cursor) -> Claim<Told> {
        let action = match cursor.action {
            Action::Query => "QUERY",
            Action::Update(..) => "UPDATE",
            Action::Delete => "DELETE",
        };
        let reply = self.seat.ask(&format!("BUCKET.ADVANCE {action} {}", cursor.id)).await;
        self.told(cursor, &reply)
    }

    /// What a batch answered, and what the cursor's next one is.
    fn told(&mut self, mut cursor: Cursor, reply: &Reply) -> Claim<Told> {
        let Cursor { bucket, action, .. } = cursor;
        let batch = cursor.next.clone();
        let (step, last, count) = if let Action::Query = action {
            let Some((id, found)) = documents(reply)? else { return Ok(self.again(cursor)) };
            cursor.id = id;
            let (last, count) = (found.last().map(|(id, _)| id.clone()), found.len());
            (Step::Query { bucket, batch, found }, last, count)
        } else {
            let Some((id, answer)) = batch_answer(reply)? else { return Ok(self.again(cursor)) };
            let Answer::Ids(ids) = &answer else {
                // What is refused leaves an open cursor as it is, and opens none.
                let step = step_of(action, bucket, batch, answer);
                self.again(cursor);
                return Ok(Told::Step(step));
            };
            cursor.id = id;
            let (last, count) = (ids.last().cloned(), ids.len());
            (step_of(action, bucket, batch, answer), last, count)
        };
        let next = &mut cursor.next;
        next.ended = match next.ended {
            Ended::Yes => Ended::Yes,
            Ended::Perhaps if count == 0 => Ended::Yes,
            _ if count < next.limit => Ended::Yes,
            _ => Ended::Perhaps,
        };
        next.after = last.or_else(|| next.after.take());
        self.cursors.push(cursor);
        Ok(Told::Step(step))
    }

    fn again(&mut self, cursor: Cursor) -> Told {
        if cursor.id > 0 {
            self.cursors.push(cursor);
        }
        Told::Failed
    }

    async fn transaction(&mut self) -> Claim<Transaction> {
        let begun = self.run.now();
        let mut steps = Vec::new();
        let end = if self.random.random_bool(0.4) {
            match self.step().await? {
                Told::Step(step) => {
                    steps.push(step);
                    End::Committed
                }
                Told::Failed => End::NotCommitted,
            }
        } else {
            self.seat.expect("BEGIN", "OK").await?;
            let mut failed = false;
            for _ in 0..self.random.random_range(1..5) {
                match self.step().await? {
                    Told::Step(step) if !failed => steps.push(step),
                    Told::Step(step) => return Err(format!("{step:?} in what is too old")),
                    Told::Failed => failed = true,
                }
                if self.random.random_bool(0.3) {
                    sleep(Duration::from_millis(self.random.random_range(0..10))).await;
                }
            }
            if self.random.random_bool(0.1) {
                self.seat.expect("ROLLBACK", "OK").await?;
                End::NotCommitted
            } else {
                let answer = self.seat.say("COMMIT").await;
                match answer.as_str() {
                    "OK" if failed => return Err("what had failed was committed".to_owned()),
                    "OK" => End::Committed,
                    _ if is_not_committed(&answer) => End::NotCommitted,
                    _ if answer.starts_with("COMMIT_UNKNOWN_RESULT") => End::Unknown,
                    _ => return Err(format!("COMMIT answered '{answer}'")),
                }
            }
        };
        Ok(Transaction { client: self.number, begun, ended: self.run.now(), end, steps })
    }
}

fn step_of(action: Action, bucket: usize, batch: Batch, answer: Answer) -> Step {
    match action {
        Action::Update(change, element) => Step::Update { bucket, batch, change, element, answer },
        Action::Delete | Action::Query => Step::Delete { bucket, batch, answer },
    }
}

/// A command that failed, which some may.
fn failed<T>(answer: &str) -> Claim<Option<T>> {
    claim!(is_not_committed(answer), "an answer that nobody expects: {answer}");
    Ok(None)
}

/// The ids of a reply, or of a part of it.
fn answer(reply: &Reply, ids: &Reply) -> Claim<Option<Answer>> {
    match (reply, ids) {
        (_, Reply::Array(ids)) => Ok(Some(Answer::Ids(ids.iter().map(line).collect()))),
        (Reply::Error(text), _) if text.starts_with("DUPLICATEKEY") => Ok(Some(Answer::Duplicate)),
        (other, _) => failed(&line(other)),
    }
}

/// The cursor and the ids of an UPDATE or a DELETE.
fn batch_answer(reply: &Reply) -> Claim<Option<(i64, Answer)>> {
    let (id, ids) = match reply {
        Reply::Array(pair) => match pair.as_slice() {
            [Reply::Integer(id), ids] => (*id, ids),
            _ => return Err(format!("no batch: {}", line(reply))),
        },
        _ => (0, reply),
    };
    Ok(answer(reply, ids)?.map(|answer| (id, answer)))
}

/// A cursor and documents by their ids.
type Found = (i64, Vec<(Id, Document)>);

/// The cursor and the documents of a QUERY.
fn documents(reply: &Reply) -> Claim<Option<Found>> {
    let Reply::Array(pair) = reply else { return failed(&line(reply)) };
    let [Reply::Integer(id), Reply::Array(entries)] = pair.as_slice() else {
        return Err(format!("no batch: {}", line(reply)));
    };
    let entries = entries.iter().map(|entry| document(&line(entry)));
    Ok(Some((*id, entries.collect::<Claim<_>>()?)))
}

fn document(text: &str) -> Claim<(Id, Document)> {
    let json: serde_json::Value = serde_json::from_str(text).map_err(fail)?;
    let read = || -> Option<(Id, Document)> {
        let number = |name: &str| u32::try_from(json.get(name)?.as_u64()?).ok();
        let list = json.get("l")?.as_array()?.iter();
        let list = list.map(|one| u32::try_from(one.as_u64()?).ok()).collect::<Option<_>>()?;
        let changes = usize::try_from(number("n")?).ok()?;
        let document = Document { key: number("k")?, changes, unique: number("u")?, list };
        Some((json.get("_id")?.as_str()?.to_owned(), document))
    };
    read().ok_or_else(|| format!("a document that nobody wrote: {text}"))
}

/// Runs one seed and gives what was seen.
async fn run(cluster: &Cluster, plan: Plan, seed: u64) -> Claim<Vec<Transaction>> {
    let mut random = StdRng::seed_from_u64(seed);
    let run = Arc::new(Run::new(seed));
    for (number, indexes) in INDEXES.iter().enumerate() {
        let create = format!("BUCKET.CREATE {} INDEXES {indexes}", run.bucket(number));
        cluster.expect("A", &create, "OK").await?;
    }
    let chaos = Chaos { delay_max: Duration::from_millis(20), ..Chaos::with_seed(seed) };
    cluster.chaos((!seed.is_multiple_of(4)).then_some(chaos));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let seat = Seat::at(cluster, ["A", "B"][number % 2]);
        let random = StdRng::seed_from_u64(random.random());
        let run = Arc::clone(&run);
        let mut client = Client { number, seat, run, random, cursors: Vec::new() };
        clients.push(tokio::spawn(async move {
            if plan.snapshot_reads {
                client.seat.expect("SNAPSHOTREAD ON", "OK").await?;
            }
            let mut transactions = Vec::new();
            for _ in 0..TRANSACTIONS {
                transactions.push(client.transaction().await?);
            }
            Claim::Ok(transactions)
        }));
    }
    let mut history = Vec::new();
    for client in clients {
        history.extend(client.await.map_err(fail)??);
    }
    cluster.chaos(None);
    // What is late has landed or never will.
    sleep(Duration::from_millis(100)).await;
    let (seat, run) = (Seat::at(cluster, "B"), Arc::clone(&run));
    let mut last = Client { number: CLIENTS, seat, run, random, cursors: Vec::new() };
    for bucket in 0..BUCKETS {
        let begun = last.run.now();
        let Told::Step(step) = last.open(bucket, Action::Query, Filter::All, 9_999).await? else {
            return Err("the last query failed".to_owned());
        };
        let (client, ended, end) = (CLIENTS, last.run.now(), End::Committed);
        history.push(Transaction { client, begun, ended, end, steps: vec![step] });
    }
    Ok(history)
}

/// Runs seeds; the first history that nothing explains, with its seed.
async fn first_anomaly(plan: Plan, seeds: Range<u64>) -> Claim<Option<(u64, String)>> {
    let cluster = Cluster::with(&["A", "B"], plan.mutations, |_| {}).await?;
    let (mut seen, all) = (BTreeSet::new(), seeds.end - seeds.start >= SEEDS);
    for seed in seeds {
        let history = run(&cluster, plan, seed).await.map_err(|e| format!("seed {seed}: {e}"))?;
        let committed = history.iter().filter(|transaction| transaction.end == End::Committed);
        seen.extend(committed.flat_map(|transaction| &transaction.steps).filter_map(worth));
        if let Err(anomaly) = check(&history) {
            return Ok(Some((seed, anomaly)));
        }
    }
    let missing: Vec<_> = WORTH.iter().filter(|kind| !seen.contains(**kind)).collect();
    claim!(!all || missing.is_empty(), "it never came to {missing:?}");
    cluster.finish().await?;
    Ok(None)
}

/// What has to come about in many histories, or they tell nothing.
const WORTH: [&str; 8] = [
    "a refused insert",
    "a refused update",
    "an upsert",
    "a second batch of an update",
    "a second batch of a deletion",
    "a second batch of a query",
    "a count",
    "a change of the key",
];

/// Which of these a step is.
fn worth(step: &Step) -> Option<&'static str> {
    let full = |answer: &Answer| matches!(answer, Answer::Ids(ids) if !ids.is_empty());
    Some(match step {
        Step::Insert { answer: Answer::Duplicate, .. } => "a refused insert",
        Step::Update { answer: Answer::Duplicate, .. } => "a refused update",
        Step::Upsert { answer, .. } if full(answer) => "an upsert",
        Step::Update { batch: Batch { after: Some(_), .. }, answer, .. } if full(answer) => {
            "a second batch of an update"
        }
        Step::Delete { batch: Batch { after: Some(_), .. }, answer, .. } if full(answer) => {
            "a second batch of a deletion"
        }
        Step::Query { batch: Batch { after: Some(_), .. }, found, .. } if !found.is_empty() => {
            "a second batch of a query"
        }
        Step::Count { count: 1.., .. } => "a count",
        Step::Update { change: Change::Key(_), answer, .. } if full(answer) => {
            "a change of the key"
        }
        _ => return None,
    })
}

async fn expect_found(plan: Plan) {
    let found = async {
        let found = first_anomaly(plan, 0..SEEDS_TO_FIND).await?;
        claim!(found.is_some(), "nobody noticed {plan:?}");
        Ok(())
    };
    if let Err(violated) = patiently(found).await {
        panic!("{violated}");
    }
}

async fn no_anomaly() -> Claim {
    none_of(first_anomaly(Plan::default(), seeds(SEEDS)).await?, "serial")
}

on_each_store! {
    some_order_explains_random_changes: patiently(no_anomaly());
}

#[tokio::test(start_paused = true)]
async fn no_order_explains_queries_by_snapshot() {
    expect_found(Plan { snapshot_reads: true, ..Plan::default() }).await;
}

#[tokio::test(start_paused = true)]
async fn no_order_explains_changes_that_search_by_snapshot() {
    let mutations = Mutations::of(&[Mutation::ChangesSearchBySnapshot]);
    expect_found(Plan { mutations, ..Plan::default() }).await;
}

#[tokio::test(start_paused = true)]
async fn no_order_explains_an_unknown_commit_taken_for_none() {
    let mutations = Mutations::of(&[Mutation::UnknownIsNotCommitted]);
    expect_found(Plan { mutations, ..Plan::default() }).await;
}
