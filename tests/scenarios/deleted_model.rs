//! Random inserts, updates, deletions, undeletions and expunges on few ids under a
//! unique index, inside and outside of transactions, compared with a plain model after
//! each step; at the end the check finds nothing.
//!
//! `LETHE_DELETED_SEED=17 cargo test --test scenarios deleted_model` runs one again.

use std::collections::BTreeMap;

use lethe::cluster::mutation::Mutations;
use lethe::codec::RemovalId;
use lethe::resp::Reply;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::{Claim, Cluster, claim, line, patiently};
use crate::seat::Seat;

const SEEDS: u64 = 30;
const STEPS: usize = 60;
const IDS: u8 = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Doc {
    unique: u8,
    value: u8,
    letters: usize,
}

impl Doc {
    fn fields(&self) -> String {
        let Self { unique, value, letters } = self;
        format!("\"u\":{unique},\"v\":{value},\"t\":\"{}\"", "x".repeat(*letters))
    }
}

#[derive(Clone, Debug)]
struct Dead {
    id: u8,
    removal: RemovalId,
    /// The how manieth deletion it was.
    order: usize,
    doc: Doc,
}

#[derive(Clone, Debug, Default)]
struct Model {
    live: BTreeMap<u8, Doc>,
    dead: Vec<Dead>,
    deletions: usize,
}

/// Which documents a command is about.
#[derive(Clone, Copy, Debug)]
enum Which {
    All,
    Id(u8),
    Value(u8),
    Removal(RemovalId),
}

fn hex(id: u8) -> String {
    format!("6835a1c0e4b0f72a3c0000{id:02x}")
}

impl Which {
    fn words(self) -> String {
        match self {
            Self::All => "{}".to_owned(),
            Self::Id(id) => format!("{{\"_id\":\"{}\"}}", hex(id)),
            Self::Value(value) => format!("{{\"v\":{value}}}"),
            Self::Removal(removal) => format!("REMOVAL {removal}"),
        }
    }

    fn admits(self, id: u8, doc: &Doc, removal: Option<RemovalId>) -> bool {
        match self {
            Self::All => true,
            Self::Id(wanted) => id == wanted,
            Self::Value(value) => doc.value == value,
            Self::Removal(wanted) => removal == Some(wanted),
        }
    }
}

impl Model {
    fn is_taken(&self, id: u8, unique: u8) -> bool {
        self.live.iter().any(|(other, doc)| *other != id && doc.unique == unique)
    }

    /// Brings back what matches; gives the ids, or that it must fail.
    fn undelete(&mut self, which: Which, skip: bool) -> Option<Vec<u8>> {
        let before = self.clone();
        let mut ids = Vec::new();
        for id in 0..IDS {
            let of_id = self.dead.iter().enumerate().filter(|(_, dead)| {
                dead.id == id && which.admits(id, &dead.doc, Some(dead.removal))
            });
            let Some((at, _)) = of_id.max_by_key(|(_, dead)| dead.order) else { continue };
            let doc = self.dead[at].doc.clone();
            if self.live.contains_key(&id) || self.is_taken(id, doc.unique) {
                if skip {
                    continue;
                }
                *self = before;
                return None;
            }
            self.dead.remove(at);
            self.live.insert(id, doc);
            ids.push(id);
        }
        Some(ids)
    }

    fn queried(&self) -> Vec<String> {
        let shown =
            |(id, doc): (&u8, &Doc)| format!("{{\"_id\":\"{}\",{}}}", hex(*id), doc.fields());
        self.live.iter().map(shown).collect()
    }

    fn deleted(&self) -> Vec<String> {
        let mut dead: Vec<&Dead> = self.dead.iter().collect();
        dead.sort_by_key(|dead| (dead.id, dead.removal));
        let shown = |dead: &Dead| {
            let Dead { id, doc, .. } = dead;
            format!("\"document\":{{\"_id\":{{\"$oid\":\"{}\"}},{}}}}}", hex(*id), doc.fields())
        };
        dead.into_iter().map(shown).collect()
    }
}

struct Run {
    seat: Seat,
    random: StdRng,
    model: Model,
    bucket: String,
}

/// The parts of a reply to a command with a cursor.
fn parts(reply: &Reply) -> Claim<&[Reply]> {
    match reply {
        Reply::Array(parts) => Ok(parts),
        other => Err(format!("it answered {}", line(other))),
    }
}

fn list(reply: Option<&Reply>) -> Claim<Vec<String>> {
    match reply {
        Some(Reply::Array(items)) => Ok(items.iter().map(line).collect()),
        other => Err(format!("no list: {other:?}")),
    }
}

impl Run {
    fn which(&mut self, with_removals: bool) -> Which {
        let dead = self.model.dead.len();
        match self.random.random_range(0..8) {
            0 => Which::All,
            1..=3 => Which::Id(self.random.random_range(0..IDS)),
            4..=5 if with_removals && dead > 0 => {
                Which::Removal(self.model.dead[self.random.random_range(0..dead)].removal)
            }
            _ => Which::Value(self.random.random_range(0..3)),
        }
    }

    fn doc(&mut self) -> Doc {
        let letters = if self.random.random_bool(0.15) { 100_000 } else { 3 };
        let (unique, value) = (self.random.random_range(0..4), self.random.random_range(0..3));
        Doc { unique, value, letters }
    }

    /// Runs a command that the model says succeeds or meets a duplicate.
    async fn command(&mut self, command: &str, succeeds: bool) -> Claim<Reply> {
        let reply = self.seat.ask(command).await;
        let shown = line(&reply);
        let duplicate = shown.starts_with("DUPLICATEKEY ");
        let shortened: String = command.chars().take(200).collect();
        claim!(duplicate != succeeds, "'{shortened}' answered '{shown}'");
        Ok(reply)
    }

    async fn step(&mut self, inside: bool) -> Claim {
        let bucket = self.bucket.clone();
        match self.random.random_range(0..10) {
            0..=2 => {
                let (id, doc) = (self.random.random_range(0..IDS), self.doc());
                let free =
                    !self.model.live.contains_key(&id) && !self.model.is_taken(id, doc.unique);
                let text = format!("{{\"_id\":\"{}\",{}}}", hex(id), doc.fields());
                self.command(&format!("BUCKET.INSERT {bucket} DOCS {text}"), free).await?;
                if free {
                    self.model.live.insert(id, doc);
                }
            }
            3 => {
                let (id, unique) =
                    (self.random.random_range(0..IDS), self.random.random_range(0..4));
                let there = self.model.live.contains_key(&id);
                let free = !there || !self.model.is_taken(id, unique);
                let which = Which::Id(id).words();
                let set = format!("{{\"$set\":{{\"u\":{unique}}}}}");
                self.command(&format!("BUCKET.UPDATE {bucket} {which} {set}"), free).await?;
                if let (true, Some(doc)) = (free, self.model.live.get_mut(&id)) {
                    doc.unique = unique;
                }
            }
            4..=6 => {
                let which = self.which(false);
                let command = format!("BUCKET.DELETE {bucket} {} INFO", which.words());
                let reply = self.command(&command, true).await?;
                let parts = parts(&reply)?;
                let removal = parts.get(2).map(line).and_then(|text| RemovalId::parse(&text));
                let removal = removal.ok_or("a deletion without an id")?;
                let ids: Vec<u8> = self.model.live.keys().copied().collect();
                let mut expected = Vec::new();
                for id in ids {
                    if !which.admits(id, &self.model.live[&id], None) {
                        continue;
                    }
                    let Some(doc) = self.model.live.remove(&id) else { continue };
                    let order = self.model.deletions;
                    self.model.dead.push(Dead { id, removal, order, doc });
                    expected.push(hex(id));
                }
                self.model.deletions += 1;
                let got = list(parts.get(1))?;
                claim!(got == expected, "deleted {got:?} instead of {expected:?}");
            }
            7..=8 => {
                let which = self.which(true);
                let skip = self.random.random_bool(0.5);
                let expected = self.model.undelete(which, skip);
                let on_conflict = if skip { "SKIP" } else { "FAIL" };
                let which = which.words();
                let command = format!("BUCKET.UNDELETE {bucket} {which} ON-CONFLICT {on_conflict}");
                let reply = self.command(&command, expected.is_some()).await?;
                if let Some(expected) = expected {
                    let expected: Vec<String> = expected.into_iter().map(hex).collect();
                    let got = list(parts(&reply)?.get(1))?;
                    claim!(got == expected, "brought back {got:?} instead of {expected:?}");
                }
            }
            _ if inside => {}
            _ => {
                let which = self.which(true);
                let command = format!("BUCKET.EXPUNGE {bucket} {}", which.words());
                let reply = self.command(&command, true).await?;
                let before = self.model.dead.len();
                self.model
                    .dead
                    .retain(|dead| !which.admits(dead.id, &dead.doc, Some(dead.removal)));
                let purged = before - self.model.dead.len();
                let expected = format!("[purged, {purged}, waiting_for_replicas, 0]");
                let got = line(&reply).replace(": ", ", ").replace('{', "[").replace('}', "]");
                claim!(got == expected, "expunged {got} instead of {expected}");
            }
        }
        Ok(())
    }

    /// What queries with and without the index, the counters and DELETED show.
    async fn compare(&mut self) -> Claim {
        let bucket = self.bucket.clone();
        let reply = self.seat.done(&format!("BUCKET.QUERY {bucket} {{}}")).await?;
        let got = list(parts(&reply)?.get(1))?;
        claim!(got == self.model.queried(), "there is {got:?} instead of {:?}", self.model.live);
        for unique in 0..4 {
            let count = self.seat.say(&format!("BUCKET.COUNT {bucket} {{\"u\":{unique}}}")).await;
            let expected = self.model.live.values().filter(|doc| doc.unique == unique).count();
            claim!(
                count == expected.to_string(),
                "{count} of {unique} in the index, not {expected}"
            );
        }
        let reply = self.seat.done(&format!("BUCKET.DELETED {bucket} LIMIT 1000")).await?;
        let got = list(parts(&reply)?.get(1))?;
        let expected = self.model.deleted();
        let same = got.len() == expected.len()
            && got.iter().zip(&expected).all(|(got, expected)| got.ends_with(expected));
        claim!(same, "deleted are {got:?} instead of {:?}", self.model.dead);
        Ok(())
    }
}

async fn one(cluster: &Cluster, seed: u64) -> Claim {
    let bucket = format!("m{seed}");
    let mut seat = Seat::at(cluster, "A");
    let index = "{\"u\":{\"bson_type\":\"int32\",\"unique\":true}}";
    seat.expect(&format!("BUCKET.CREATE {bucket} INDEXES {index}"), "OK").await?;
    let random = StdRng::seed_from_u64(seed);
    let mut run = Run { seat, random, model: Model::default(), bucket };
    let mut step = 0;
    while step < STEPS {
        if run.random.random_bool(0.2) {
            let before = run.model.clone();
            run.seat.expect("BEGIN", "OK").await?;
            for _ in 0..run.random.random_range(1..6) {
                run.step(true).await?;
                run.compare().await?;
                step += 1;
            }
            if run.random.random_bool(0.3) {
                run.seat.expect("ROLLBACK", "OK").await?;
                run.model = before;
            } else {
                run.seat.done("COMMIT").await?;
            }
        } else {
            run.step(false).await?;
            step += 1;
        }
        run.compare().await?;
    }
    let vacuumed = run.seat.say(&format!("BUCKET.VACUUM {}", run.bucket)).await;
    let kept = run.model.dead.len().to_string();
    claim!(vacuumed.contains(&kept), "{vacuumed} instead of {kept} kept");
    Ok(())
}

async fn all() -> Claim {
    let seed = std::env::var("LETHE_DELETED_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = seed.map_or_else(|| (0..SEEDS).collect(), |seed| vec![seed]);
    let cluster = Cluster::with(&["A"], Mutations::default(), |_| {}).await?;
    for seed in seeds {
        let outcome = one(&cluster, seed).await;
        outcome.map_err(|wrong| {
            format!("{wrong}\nLETHE_DELETED_SEED={seed} cargo test --test scenarios deleted_model")
        })?;
    }
    cluster.finish().await
}

on_each_store! {
    random_deletions_match_a_plain_model: patiently(all());
}
