//! One run: the nodes, what is under way on them, and the looks in between.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash};
use std::rc::Rc;
use std::time::Duration;

use lethe::clock::Clock;
use lethe::cluster::Ended;
use lethe::cluster::mutation::Mutations;
use lethe::cluster::work::Work;
use lethe::codec::{BucketId, RemovalId};
use lethe::resp::Reply;
use lethe::store::{Chaos, Held, Lost, Store};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Claim, Cluster, EPOCH, claim, fail, line, patiently};
use crate::commands::{Dice, Effect, NAMES, NAMESPACES, Order, create, insert};
use crate::look::Look;
use crate::mirror::Mirror;
use crate::model::{Given, Model, true_time};
use crate::seat::Seat;
use crate::tally;
use crate::told::{documents, removal_of};
use crate::{actions, commands, documents, runner};

const STEPS: usize = 150;
/// A commit that is to be kept back comes within this, or not at all.
const COMES_WITHIN: Duration = Duration::from_secs(3);
/// Looks into the buckets, too, once in so many.
const THOROUGH: usize = 5;
pub const NODES: [&str; 3] = ["A", "B", "C"];
/// Who looks on; nothing happens to it.
const LOOKER: &str = "looker";

/// A command that was sent and not answered yet.
pub struct Flying {
    node: &'static str,
    pub number: usize,
    task: JoinHandle<Vec<Reply>>,
    /// In which removal each bucket was when it was sent.
    before: BTreeMap<u64, Option<u64>>,
}

/// Work that is open on a bucket that was active when it began.
pub struct Open {
    pub node: &'static str,
    pub incarnation: u64,
    pub bucket: BucketId,
    /// What it is called.
    pub what: String,
    pub work: Work,
}

/// A commit that is kept back.
pub enum Kept {
    Held(Held),
    Lost(Lost),
}

pub struct World {
    pub cluster: Cluster,
    pub dice: Dice,
    pub model: Model,
    pub open: Vec<Open>,
    /// How many pieces of work there have been.
    pub works: u32,
    /// Work that was entered and has not looked yet whether its bucket is active.
    pub entered: Vec<Open>,
    /// What is sent when its time has come.
    pub follow: Vec<(Duration, &'static str, Order)>,
    /// Replicas, of one name each.
    pub mirrors: Vec<Mirror>,
    /// Until when nodes stand still or are cut off.
    pub heals: Vec<(Duration, &'static str)>,
    /// Until when clocks show another time.
    pub back: Vec<(Duration, &'static str)>,
    /// How far ahead of the truth the clock of a node is.
    pub ahead: BTreeMap<&'static str, i64>,
    pub flying: Vec<Flying>,
    pub looker: Store,
    pub began: Instant,
    pub last: Rc<Look>,
    last_thorough: Rc<Look>,
    pub trace: DefaultHasher,
    told: bool,
}

impl World {
    async fn new(seed: u64, mutations: Mutations) -> Claim<Self> {
        let mut dice = Dice::new(seed);
        dice.settled = seed / 4 % 2 == 1;
        dice.thin(actions::ACTIONS);
        dice.thin(commands::COMMANDS);
        dice.thin(documents::COMMANDS);
        // With two shards there is a member that owns none.
        let shards = dice.one_of(&[2, 4]);
        let cluster =
            Cluster::with(&NODES, mutations, |config| config.cluster.shards = shards).await?;
        for namespace in [NAMESPACES[1], "k.m"] {
            cluster.expect("A", &format!("NAMESPACE CREATE {namespace}"), "OK").await?;
        }
        let mut follow = Vec::new();
        let settled = dice.settled;
        for name in NAMES.into_iter().filter(|_| settled) {
            for bucket in [create(name), create(name).within(NAMESPACES[1])] {
                follow.push((Duration::ZERO, NODES[0], bucket));
            }
            for _ in 0..4 {
                follow.push((Duration::from_millis(100), NODES[1], insert(&mut dice, name)));
            }
        }
        let looker = cluster.store().as_client(LOOKER);
        let faults = cluster.store().faults().ok_or("the store in memory has faults")?;
        faults.spare(LOOKER);
        // Every fourth run is without faults by chance, so that what is found is not always theirs.
        let chaos = Chaos { delay_max: Duration::from_millis(30), ..Chaos::with_seed(seed) };
        cluster.chaos((!seed.is_multiple_of(4)).then_some(chaos));
        // True time is what the clock of the first node showed, which never jumped so far.
        let shown = u64::try_from(cluster.clock("A").now() - EPOCH).map_err(fail)?;
        let began = Instant::now() - Duration::from_millis(shown);
        Ok(Self {
            cluster,
            dice,
            model: Model::default(),
            open: Vec::new(),
            works: 0,
            entered: Vec::new(),
            follow,
            mirrors: (0..).zip(["x", "y", "x"]).map(|(n, name)| Mirror::new(n, name)).collect(),
            heals: Vec::new(),
            back: Vec::new(),
            ahead: BTreeMap::new(),
            flying: Vec::new(),
            looker,
            began,
            last: Rc::default(),
            last_thorough: Rc::default(),
            trace: DefaultHasher::new(),
            told: std::env::var(runner::TELL).is_ok(),
        })
    }

    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes something for the trace, and says it when asked to.
    pub fn note(&mut self, text: &str) {
        text.hash(&mut self.trace);
        if self.told {
            println!("{:>7} ms  {text}", self.now().as_millis());
        }
    }

    /// Sends a command of a client of its own.
    pub fn send(&mut self, node: &'static str, mut order: Order) {
        for line in order.script.iter_mut().filter(|line| line.contains("REMOVAL ?")) {
            let known = line.split(' ').nth(1).and_then(|name| self.model.told.removals.get(name));
            let last = known.map_or(&[][..], |known| &known[known.len().saturating_sub(4)..]);
            let which = match last {
                [] => "{}".to_owned(),
                last => format!("REMOVAL {}", self.dice.one_of(last)),
            };
            *line = line.replacen("REMOVAL ?", &which, 1);
        }
        self.note(&format!("{node}: {}", order.script.join("; ")));
        let number = self.model.told.send(order.effect, &order.script, self.now());
        let mut seat = Seat::at(&self.cluster, node);
        let task = tokio::spawn(async move {
            let (mut replies, mut removal) = (Vec::new(), None);
            for line in order.script {
                // Without a DELETE before it that was done there is nothing to find.
                let own =
                    removal.map_or_else(|| r#"{"k":99}"#.to_owned(), |id| format!("REMOVAL {id}"));
                let reply = seat.ask(&line.replacen("REMOVAL @", &own, 1)).await;
                removal = removal_of(&reply).or(removal);
                replies.push(reply);
            }
            replies
        });
        self.fly(node, number, task);
    }

    /// Lets a replica follow its bucket for some rounds; one client at a time.
    pub fn follow_with(&mut self, node: &'static str, mirror: usize, pauses: Vec<Duration>) {
        let Mirror { name, bucket, .. } = &self.mirrors[mirror];
        let script = [format!("{name} follows {bucket}")];
        let sent = &self.model.told.sent;
        if self.flying.iter().any(|flying| sent[flying.number].script == script) {
            return;
        }
        let number = self.model.told.send(Effect::Follow, &script, self.now());
        let task = self.mirrors[mirror].clone().follow(Seat::at(&self.cluster, node), pauses);
        self.fly(node, number, tokio::spawn(task));
    }

    fn fly(&mut self, node: &'static str, number: usize, task: JoinHandle<Vec<Reply>>) {
        let ids = self.last.buckets.keys();
        let before = ids.map(|id| (*id, self.last.removal_of(*id))).collect();
        self.flying.push(Flying { node, number, task, before });
    }

    /// Some clients are gone, and get no answers.
    fn lose(&mut self, gone: impl Fn(&Flying, &Effect) -> bool) {
        let (now, told) = (self.now(), &mut self.model.told);
        let sent = |flying: &mut Flying| gone(flying, &told.sent[flying.number].effect);
        let lost: Vec<Flying> = self.flying.extract_if(.., sent).collect();
        for flying in lost {
            flying.task.abort();
            told.lose(flying.number, now);
        }
    }

    /// Replicas stop to follow.
    pub fn end_replicas(&mut self) {
        self.lose(|_, effect| *effect == Effect::Follow);
    }

    /// Crashes a node: its clients get no answers.
    pub async fn kill(&mut self, node: &'static str) {
        self.lose(|flying, _| flying.node == node);
        self.open.retain(|open| open.node != node);
        self.entered.retain(|open| open.node != node);
        self.heals.retain(|(_, healed)| *healed != node);
        self.cluster.end_outage(node);
        self.cluster.kill(node).await;
    }

    /// A node leaves in order, and comes back.
    pub async fn leave(&mut self, node: &'static str) -> Claim {
        self.lose(|flying, _| flying.node == node);
        self.open.retain(|open| open.node != node);
        self.entered.retain(|open| open.node != node);
        self.heals.retain(|(_, healed)| *healed != node);
        self.cluster.leave(node).await;
        self.cluster.start(node).await
    }

    pub async fn restart(&mut self, node: &'static str) -> Claim {
        self.kill(node).await;
        self.cluster.start(node).await
    }

    /// Sets how far a node's clock is ahead of the truth.
    pub fn set_clock(&mut self, node: &'static str, ahead: i64) {
        let was = self.ahead.insert(node, ahead).unwrap_or_default();
        self.cluster.clock(node).jump(ahead - was);
        self.model.note_clock(ahead);
    }

    async fn step(&mut self, thorough: bool) -> Claim {
        self.dice.now = true_time(self.now());
        actions::act(self).await?;
        // Mostly close together, so that they meet.
        let longest = if self.dice.chance(0.8) { 10 } else { 1_500 };
        sleep(self.dice.millis(longest)).await;
        self.what_is_due();
        self.replace_the_ended().await?;
        self.look(thorough).await
    }

    /// A bucket, removed or not.
    pub fn some_bucket(&mut self) -> Option<BucketId> {
        let all: Vec<u64> = self.last.buckets.keys().copied().collect();
        (!all.is_empty()).then(|| BucketId(self.dice.one_of(&all)))
    }

    /// A removal that has not been purged.
    pub fn some_removal(&mut self) -> Option<(RemovalId, BucketId)> {
        let all = self.last.removals.iter();
        let all = all.filter_map(|(id, (_, row))| Some((RemovalId(*id), row.object.bucket()?)));
        let all: Vec<_> = all.collect();
        (!all.is_empty()).then(|| self.dice.one_of(&all))
    }

    /// What a bucket is called.
    pub fn name_of(&self, bucket: BucketId) -> Option<&'static str> {
        let name = &self.last.buckets.get(&bucket.0)?.name;
        NAMES.iter().find(|known| *known == name).copied()
    }

    /// Nodes wake up, and the next command of a tale is sent.
    pub fn what_is_due(&mut self) {
        let now = self.now();
        let due: Vec<_> = self.follow.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, node, order) in due {
            self.send(node, order);
        }
        for (_, node) in self.heals.extract_if(.., |(at, _)| *at <= now) {
            self.cluster.resume(node);
            self.cluster.end_outage(node);
        }
        let back: Vec<_> = self.back.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, node) in back {
            self.set_clock(node, 0);
        }
    }

    /// An incarnation that is over is followed by another.
    pub async fn replace_the_ended(&mut self) -> Claim {
        for node in NODES {
            if self.cluster.is_over(node).await {
                let ended = self.cluster.ended(node).await?;
                let incarnation = self.cluster.node(node).cluster().incarnation();
                self.note(&format!("{node} has ended: {ended:?}"));
                self.look(false).await?;
                let early = ended == Ended::Evicted && self.model.ended_early(incarnation);
                claim!(!early, "{node} was put out though its heart had just beaten");
                self.restart(node).await?;
            }
        }
        Ok(())
    }

    pub async fn look(&mut self, thorough: bool) -> Claim {
        let look = Look::take(&self.looker, self.now(), thorough).await?;
        look.digest().hash(&mut self.trace);
        self.model.compare(&self.last, &look)?;
        self.nothing_open_is_purged(&look)?;
        if thorough {
            self.model.compare_contents(&self.last_thorough, &look)?;
        }
        self.answers(&look).await?;
        self.last = Rc::new(look);
        if thorough {
            self.last_thorough = Rc::clone(&self.last);
        }
        Ok(())
    }

    /// As long as a node is a member its open work keeps what it works on, and so
    /// does what it has reported as busy.
    fn nothing_open_is_purged(&self, look: &Look) -> Claim {
        for Open { node, incarnation, bucket, what, .. } in &self.entered {
            let live = look.members.get(*node).is_some_and(|m| m.incarnation == *incarnation);
            let flipped = self.model.flipped_with(bucket.0, look);
            // A row that does not name it is that of other work, and may go with it. One of the bucket is of its
            // removal, and keeps no namespace: work that is entered when the node has acknowledged the removal of a
            // namespace above finds the bucket removed when it looks.
            let busy = self.last.busy.iter().any(|(object, member, row)| {
                flipped.contains(object)
                    && (member.as_str(), row.incarnation) == (*node, *incarnation)
                    && row.what.contains(what)
            });
            claim!(
                !live || !busy,
                "{bucket} was purged while {node} had reported work on it as busy"
            );
        }
        for Open { node, incarnation, bucket, work, .. } in &self.open {
            let live = look.members.get(*node).is_some_and(|m| m.incarnation == *incarnation);
            claim!(
                !live || !self.model.is_buried(bucket.0, look),
                "{bucket} was purged while {node} had work open on it, stopped: {}",
                work.is_stopped()
            );
        }
        Ok(())
    }

    /// Takes in what was answered since the last look.
    async fn answers(&mut self, look: &Look) -> Claim {
        let answered: Vec<Flying> =
            self.flying.extract_if(.., |flying| flying.task.is_finished()).collect();
        for Flying { number, task, before, node } in answered {
            let replies = task.await.map_err(fail)?;
            let texts: Vec<String> = replies.iter().map(line).collect();
            self.note(&format!("{node} answered {number}: {}", texts.join("; ")));
            self.model.told.answer(number, &replies, self.now())?;
            let sent = &self.model.told.sent[number];
            if sent.effect == Effect::Read {
                let documents: Vec<_> = replies.iter().flat_map(documents).collect();
                let text = sent.text();
                let given = Given { command: &text, before: &before, documents: &documents };
                self.model.given(&given, look)?;
            }
        }
        Ok(())
    }
}

/// Lets a commit that is kept back land so long after it has come; whether it does is its own affair.
pub fn land_after(pause: Duration, kept: Kept) {
    tokio::spawn(async move {
        let arrived = async {
            match &kept {
                Kept::Held(held) => held.arrived().await,
                Kept::Lost(lost) => lost.arrived().await,
            }
        };
        // One that does not come is not waited for any more.
        drop(timeout(COMES_WITHIN, arrived).await);
        sleep(pause).await;
        match kept {
            Kept::Held(held) => landed("held", held.release().map(|held| held.is_ok())),
            Kept::Lost(lost) => landed("unknown", lost.land().map(|lost| lost.is_ok())),
        }
    });
}

fn landed(what: &str, landed: Option<bool>) {
    match landed {
        Some(true) => tally::event(&format!("commit {what}, landed late")),
        Some(false) => tally::event(&format!("commit {what}, refused late")),
        None => {}
    }
}

/// Runs a seed; gives the hash of its trace.
pub async fn simulate(seed: u64, mutations: Mutations) -> Claim<String> {
    let mut trace = String::new();
    let run = async {
        let mut world = World::new(seed, mutations).await?;
        for step in 1..=STEPS {
            world.step(step.is_multiple_of(THOROUGH)).await?;
        }
        trace = world.end().await?;
        Ok(())
    };
    patiently(run).await?;
    Ok(trace)
}

/// So little that nobody is suspected, an hour and a year, there and back.
pub const JUMPS: [i64; 10] = [0, 0, 0, 30_000, 30_000, -30_000, 3_600_000, -3_600_000, YEAR, -YEAR];
const YEAR: i64 = 365 * 24 * 3_600_000;
