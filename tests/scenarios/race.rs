//! Clients of two nodes race on one name, with faults by chance. Whatever they
//! were answered and whatever is left must be explained by some order in which
//! the commands happened one after the other.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;

use lethe::codec::record::{self, RemovalRecord};
use lethe::codec::{BucketId, keys};
use lethe::store::Chaos;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, fail, patiently};

const SEEDS: u64 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Create,
    Insert,
    Remove,
    Restore,
    Purge,
}

const COMMANDS: [Command; 7] = [
    Command::Create,
    Command::Insert,
    Command::Insert,
    Command::Remove,
    Command::Remove,
    Command::Restore,
    Command::Purge,
];

impl Command {
    fn words(self, name: &str) -> String {
        match self {
            Self::Create => format!("BUCKET.CREATE {name}"),
            Self::Insert => format!("BUCKET.INSERT {name} DOCS {{}}"),
            Self::Remove => format!("BUCKET.REMOVE {name}"),
            Self::Restore => format!("BUCKET.RESTORE {name} LATEST"),
            Self::Purge => format!("BUCKET.PURGE {name} LATEST TIMEOUT 60000"),
        }
    }
}

/// The codes of the answers that the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Ok,
    Exists,
    BeingRemoved,
    NoSuch,
    NotRemoved,
}

fn answer(line: &str) -> Claim<Answer> {
    Ok(match line.split(' ').next().unwrap_or_default() {
        "OK" => Answer::Ok,
        _ if line.starts_with('[') => Answer::Ok,
        "BUCKETALREADYEXISTS" => Answer::Exists,
        "BUCKETBEINGREMOVED" => Answer::BeingRemoved,
        "NOSUCHBUCKET" => Answer::NoSuch,
        "ERR" if line.ends_with("is not removed") => Answer::NotRemoved,
        _ => return Err(format!("an answer that nobody expects: {line}")),
    })
}

/// A command that was answered. Times are the order of events as seen from outside.
#[derive(Clone, Debug)]
struct Event {
    client: usize,
    command: Command,
    begun: u64,
    ended: u64,
    answer: Answer,
}

/// What the name means: instances by their documents, removals by the event that made them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Model {
    active: Option<u32>,
    removed: Vec<(usize, u32)>,
    purged: Vec<usize>,
}

/// How far one event has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Progress {
    Waits,
    /// A purge that knows which removal it is about.
    Bound(usize),
    Done,
}

impl Model {
    fn missing(&self) -> Answer {
        if self.removed.is_empty() { Answer::NoSuch } else { Answer::BeingRemoved }
    }

    fn not_removed(&self) -> Answer {
        if self.active.is_some() { Answer::NotRemoved } else { Answer::NoSuch }
    }

    /// What the next step of an event does and answers; a purge that has only
    /// been bound has not answered yet.
    fn step(&mut self, event: usize, command: Command, so_far: Progress) -> (Progress, Answer) {
        let answer = match (command, so_far) {
            (Command::Create, _) if self.active.is_some() => Answer::Exists,
            (Command::Create, _) => {
                self.active = Some(0);
                Answer::Ok
            }
            (Command::Insert, _) => match &mut self.active {
                Some(documents) => {
                    *documents += 1;
                    Answer::Ok
                }
                None => self.missing(),
            },
            (Command::Remove, _) => match self.active.take() {
                Some(documents) => {
                    self.removed.push((event, documents));
                    Answer::Ok
                }
                None => self.missing(),
            },
            (Command::Restore, _) => match self.removed.last() {
                None => self.not_removed(),
                Some(_) if self.active.is_some() => Answer::Exists,
                Some(_) => {
                    self.active = self.removed.pop().map(|(_, documents)| documents);
                    Answer::Ok
                }
            },
            (Command::Purge, Progress::Bound(removal)) => {
                let found = self.removed.iter().position(|(of, _)| *of == removal);
                if let Some(found) = found {
                    self.removed.remove(found);
                    self.purged.push(removal);
                    Answer::Ok
                } else if self.purged.contains(&removal) {
                    Answer::Ok
                } else {
                    Answer::NotRemoved
                }
            }
            (Command::Purge, _) => match self.removed.last() {
                Some((removal, _)) => return (Progress::Bound(*removal), Answer::Ok),
                None => self.not_removed(),
            },
        };
        (Progress::Done, answer)
    }
}

/// What is left at the end: documents of the active instance, of the removed
/// ones from the oldest to the newest, and how many were purged.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    active: Option<u32>,
    removed: Vec<u32>,
    purged: usize,
}

/// Whether some order explains all answers and what is left.
fn explained(events: &[Event], left: &Left) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![(vec![Progress::Waits; events.len()], Model::default())];
    while let Some((progress, model)) = open.pop() {
        if progress.iter().all(|progress| *progress == Progress::Done) {
            let removed: Vec<u32> = model.removed.iter().map(|(_, documents)| *documents).collect();
            if model.active == left.active
                && removed == left.removed
                && model.purged.len() == left.purged
            {
                return true;
            }
            continue;
        }
        for (number, event) in events.iter().enumerate() {
            let begun = events
                .iter()
                .zip(&progress)
                .all(|(other, progress)| *progress == Progress::Done || other.ended > event.begun);
            let so_far = progress[number];
            if so_far == Progress::Done || !begun {
                continue;
            }
            let mut model = model.clone();
            let (next, answer) = model.step(number, event.command, so_far);
            if next == Progress::Done && answer != event.answer {
                continue;
            }
            let mut progress = progress.clone();
            progress[number] = next;
            if seen.insert((progress.clone(), model.clone())) {
                open.push((progress, model));
            }
        }
    }
    false
}

/// Runs the commands of one client, one after the other.
async fn client(
    cluster: &Cluster,
    node: &str,
    name: &str,
    number: usize,
    mut random: StdRng,
    order: &Cell<u64>,
) -> Claim<Vec<Event>> {
    let now = || {
        order.set(order.get() + 1);
        order.get()
    };
    let mut events = Vec::new();
    for _ in 0..4 {
        let command = COMMANDS[random.random_range(0..COMMANDS.len())];
        let begun = now();
        let line = cluster.ask(node, &command.words(name)).line().await?;
        let answer = answer(&line).map_err(|violated| format!("{command:?}: {violated}"))?;
        events.push(Event { client: number, command, begun, ended: now(), answer });
        if random.random_bool(0.3) {
            sleep(Duration::from_millis(random.random_range(0..20))).await;
        }
    }
    Ok(events)
}

async fn left(cluster: &Cluster, name: &str) -> Claim<Left> {
    let documents = async |bucket: BucketId| -> Claim<u32> {
        u32::try_from(cluster.documents(bucket).await?).map_err(fail)
    };
    let active = match cluster.id("A", name).await {
        Ok(id) => Some(documents(id).await?),
        Err(_) => None,
    };
    let mut removals = Vec::new();
    for (_, value) in cluster.rows(&keys::kind_prefix(keys::kind::REMOVAL)).await? {
        let (version, row) =
            record::decode_versioned::<RemovalRecord>("removal", &value).map_err(fail)?;
        if let Some(bucket) = row.object.bucket().filter(|_| row.name == name) {
            removals.push((version, bucket));
        }
    }
    removals.sort_unstable();
    let mut removed = Vec::new();
    for (_, bucket) in removals {
        removed.push(documents(bucket).await?);
    }
    let mut purged = 0;
    for (_, value) in cluster.rows(&keys::kind_prefix(keys::kind::GRAVE)).await? {
        let grave: record::GraveRecord = record::decode("grave", &value).map_err(fail)?;
        purged += usize::from(grave.name == name);
    }
    Ok(Left { active, removed, purged })
}

fn told(events: &[Event]) -> String {
    let mut text = String::new();
    for Event { client, command, begun, ended, answer } in events {
        let written =
            writeln!(text, "  {begun:>3} to {ended:>3}, client {client}: {command:?} {answer:?}");
        written.unwrap();
    }
    text
}

async fn race(cluster: &Cluster, seed: u64) -> Claim {
    let name = format!("race{seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // Every other one with faults.
    let chaos = Chaos { delay_max: Duration::from_millis(20), ..Chaos::with_seed(seed) };
    cluster.chaos((seed % 2 == 1).then_some(chaos));
    let order = Cell::new(0);
    let mut clients = (0_usize..).zip(["A", "B", "B"]).map(|(number, node)| {
        let random = StdRng::seed_from_u64(random.random());
        client(cluster, node, &name, number, random, &order)
    });
    let (Some(one), Some(two), Some(three)) = (clients.next(), clients.next(), clients.next())
    else {
        return Err("three clients".to_owned());
    };
    let (one, two, three) = tokio::try_join!(one, two, three)?;
    cluster.chaos(None);
    // What is late has landed or never will, and workers have done what was asked for.
    sleep(Duration::from_millis(100)).await;
    let mut events = [one, two, three].concat();
    events.sort_by_key(|event| event.begun);
    let left = left(cluster, &name).await?;
    claim!(explained(&events, &left), "no order explains\n{}and {left:?}", told(&events));
    Ok(())
}

async fn races() -> Claim {
    let cluster = Cluster::new(&["A", "B"]).await?;
    for seed in 0..SEEDS {
        race(&cluster, seed).await.map_err(|violated| format!("seed {seed}: {violated}"))?;
    }
    cluster.finish().await
}

on_each_store! {
    races_on_one_name_end_as_some_order_of_the_commands: patiently(races());
}

#[test]
fn an_impossible_history_is_not_explained() {
    let event =
        |client, command, begun, ended, answer| Event { client, command, begun, ended, answer };
    let create = event(0, Command::Create, 1, 2, Answer::Ok);
    let insert = event(0, Command::Insert, 3, 6, Answer::Ok);
    let remove = event(1, Command::Remove, 4, 5, Answer::Ok);
    let left = |documents| Left { active: None, removed: vec![documents], purged: 0 };
    let all = [create.clone(), insert, remove.clone()];
    assert!(explained(&all, &left(1)));
    // The insert was answered, and its document is not there.
    assert!(!explained(&all, &left(0)));
    // It began after the removal had been answered.
    let insert = event(0, Command::Insert, 7, 8, Answer::Ok);
    assert!(!explained(&[create, insert, remove], &left(1)));
}
