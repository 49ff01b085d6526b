//! What clients ask for: one line of the table for each kind of command.
//!
//! A command is one or several lines for one session; what the model has to
//! know of it is its [`Effect`].

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::documents;

/// The names that buckets have, in every namespace.
pub const NAMES: [&str; 2] = ["x", "y"];
/// The namespaces.
pub const NAMESPACES: [&str; 2] = ["global", "n.m"];

/// Paths of namespaces, and what each is called where it is.
const PATHS: [(&str, &str); 4] = [("n", "n"), ("n.m", "m"), ("k", "k"), ("k.m", "m")];

/// What a command may bring about, for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that the model follows.
    Other,
    Insert,
    Increment,
    Delete {
        serial: u32,
        retain: Option<Duration>,
        /// In the same script it is taken back.
        undone: bool,
    },
    Undelete,
    Expunge,
    Vacuum,
    /// What is deleted in a bucket is kept so long, or as long as the server says.
    Alter(Option<Duration>),
    /// Documents expire so many milliseconds after the time that they hold.
    Ttl(Option<i64>),
    /// Documents may be in two buckets from now on.
    Copy,
    Read,
    /// A replica follows its bucket.
    Follow,
    /// Buckets of this name are removed and kept so long.
    Remove {
        serial: u32,
        retain: Option<Duration>,
    },
    /// Removed buckets of this name may be purged.
    Purge(&'static str),
    /// Removed buckets of this name may expire so much later.
    Retain(&'static str, Duration),
    Unhold(&'static str),
    Resume,
    Confirm,
}

impl Effect {
    /// Whether deleted documents may come back by it.
    pub fn brings_back(&self) -> bool {
        matches!(self, Self::Undelete | Self::Delete { undone: true, .. })
    }
}

/// A command: what is sent, line by line.
#[derive(Clone, Debug)]
pub struct Order {
    pub script: Vec<String>,
    pub effect: Effect,
}

impl Order {
    /// The same in another namespace.
    pub fn within(mut self, namespace: &str) -> Self {
        self.script.insert(0, format!("NAMESPACE USE {namespace}"));
        self
    }
}

/// All chance of a run.
#[derive(Debug)]
pub struct Dice {
    random: StdRng,
    serial: u32,
    /// Lines of the tables that this run goes without: what always comes in
    /// between would hide what needs its absence.
    without: BTreeSet<(usize, usize)>,
    /// What the clocks show, if they are right.
    pub now: i64,
    /// A run in which buckets mostly live, so that much happens in them.
    pub settled: bool,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            serial: 0,
            without: BTreeSet::new(),
            now: 0,
            settled: false,
        }
    }

    /// Goes without some lines of a table of this size, but never without its first.
    pub fn thin<T>(&mut self, table: &'static [(u32, T)]) {
        for line in 1..table.len() {
            if self.chance(0.3) {
                self.without.insert((table.as_ptr().addr(), line));
            }
        }
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Milliseconds, up to this many.
    pub fn millis(&mut self, longest: u64) -> Duration {
        Duration::from_millis(self.random.random_range(0..longest))
    }

    /// A line of a table, by its weight.
    pub fn line<T>(&mut self, table: &'static [(u32, T)]) -> &'static T {
        let at = table.as_ptr().addr();
        let lines = (0..).zip(table).filter(|(line, _)| !self.without.contains(&(at, *line)));
        let left: Vec<(u32, &T)> = lines.map(|(_, (weight, line))| (*weight, line)).collect();
        let mut chosen = self.random.random_range(0..left.iter().map(|(weight, _)| weight).sum());
        for (weight, line) in left {
            match chosen.checked_sub(weight) {
                Some(rest) => chosen = rest,
                None => return line,
            }
        }
        unreachable!("less than the sum of all weights")
    }

    /// A number that no other command has.
    pub fn serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    pub fn name(&mut self) -> &'static str {
        self.one_of(&NAMES)
    }

    pub fn key(&mut self) -> usize {
        self.below(3)
    }
}

/// Draws a command.
pub fn draw(dice: &mut Dice) -> Order {
    let often = if dice.settled { 0.85 } else { 0.3 };
    let table = if dice.chance(often) { documents::COMMANDS } else { COMMANDS };
    let make = dice.line(table);
    let order = make(dice);
    if dice.chance(if dice.settled { 0.1 } else { 0.2 }) {
        return order.within(NAMESPACES[1]);
    }
    order
}

/// A tale: commands whose order matters, about two names.
pub fn tale(dice: &mut Dice) -> Vec<Order> {
    let table =
        if dice.chance(if dice.settled { 0.85 } else { 0.4 }) { documents::TALES } else { TALES };
    let make = dice.line(table);
    let (one, other) = if dice.chance(0.5) { ("x", "y") } else { ("y", "x") };
    make(dice, one, other)
}

/// Makes the commands of a tale.
pub type Tale = fn(&mut Dice, &'static str, &'static str) -> Vec<Order>;

/// Creates a bucket.
pub fn create(name: &str) -> Order {
    order(Effect::Other, format!("BUCKET.CREATE {name}"))
}

/// Removes for as long as buckets are kept by default.
pub fn remove(dice: &mut Dice, name: &str) -> Order {
    let serial = dice.serial();
    let effect = Effect::Remove { serial, retain: None };
    order(effect, format!("BUCKET.REMOVE {name} REASON c{serial}"))
}

fn restore(name: &str) -> Order {
    order(Effect::Other, format!("BUCKET.RESTORE {name} LATEST"))
}

/// Purges what is called so.
pub fn purge(name: &'static str, wait: &str) -> Order {
    order(Effect::Purge(name), format!("BUCKET.PURGE {name} LATEST {wait}"))
}

/// Inserts a document.
pub fn insert(dice: &mut Dice, name: &str) -> Order {
    order(Effect::Insert, format!("BUCKET.INSERT {name} DOCS {}", dice.document()))
}

fn read(name: &str) -> Order {
    order(Effect::Read, format!("BUCKET.QUERY {name} {{}} LIMIT 999"))
}

const TALES: &[(u32, Tale)] = &[
    // Namespaces that come and go with what is in them.
    (3, |dice, one, _| {
        let path = dice.one_of(&PATHS).0;
        let serial = dice.serial();
        let removed = Effect::Remove { serial, retain: None };
        let all = [
            order(removed, format!("NAMESPACE REMOVE {path} REASON c{serial}")),
            order(Effect::Other, format!("NAMESPACE RESTORE {path} LATEST")),
            order(Effect::Other, format!("NAMESPACE MOVE {path} v")),
            read(one),
            order(Effect::Other, format!("NAMESPACE MOVE v {path}")),
        ];
        all.into()
    }),
    // A removal that comes while another one drains.
    (3, |dice, one, other| {
        let second = remove(dice, other);
        vec![remove(dice, one), second, purge(other, "TIMEOUT 900"), purge(one, "NOWAIT")]
    }),
    // A request that outlives what it was about.
    (3, |dice, one, _| {
        let first = remove(dice, one);
        vec![first, purge(one, "NOWAIT"), restore(one), remove(dice, one)]
    }),
    // A namesake.
    (2, |dice, one, _| {
        let (first, document) = (remove(dice, one), insert(dice, one));
        vec![first, create(one), document, purge(one, "TIMEOUT 3000"), read(one)]
    }),
    // Restored, or purged.
    (2, |dice, one, _| vec![remove(dice, one), purge(one, "NOWAIT"), restore(one), read(one)]),
    // Clients of nodes that have not heard of it.
    (2, |dice, one, _| {
        let (first, document) = (remove(dice, one), insert(dice, one));
        vec![insert(dice, one), first, purge(one, "TIMEOUT 9000"), read(one), document]
    }),
];

/// A command of one line.
pub fn order(effect: Effect, line: impl Into<String>) -> Order {
    Order { script: vec![line.into()], effect }
}

/// How long something is kept: mostly short, so that it expires while we look.
pub const RETENTIONS: [Option<u64>; 5] = [None, Some(0), Some(1), Some(3), Some(600)];

/// How often a command is drawn, and how it is made.
pub type Drawn = (u32, fn(&mut Dice) -> Order);

pub const COMMANDS: &[Drawn] = &[
    (8, |dice| order(Effect::Other, format!("BUCKET.CREATE {}", dice.name()))),
    (10, |dice| {
        let (name, serial) = (dice.name(), dice.serial());
        let retain = dice.one_of(&RETENTIONS).map(Duration::from_secs);
        let mut line = format!("BUCKET.REMOVE {name} REASON c{serial}");
        if let Some(retain) = retain {
            write!(line, " RETAIN {}s", retain.as_secs()).expect("a string takes it");
        }
        if dice.chance(0.1) {
            write!(line, " OPID o{serial}").expect("a string takes it");
        }
        if dice.chance(0.05) {
            line += " RESERVE-NAME";
        }
        order(Effect::Remove { serial, retain }, line)
    }),
    (8, |dice| {
        let mut line = format!("BUCKET.RESTORE {} LATEST", dice.name());
        if dice.chance(0.3) {
            write!(line, " AS {}", dice.name()).expect("a string takes it");
        }
        if dice.chance(0.2) {
            write!(line, " INTO {}", dice.one_of(&NAMESPACES)).expect("a string takes it");
        }
        if dice.chance(0.3) {
            line += " REPLACE";
        }
        order(Effect::Other, line)
    }),
    (8, |dice| {
        let (name, wait) = (dice.name(), dice.one_of(&["NOWAIT", "TIMEOUT 300", "TIMEOUT 3000"]));
        order(Effect::Purge(name), format!("BUCKET.PURGE {name} LATEST {wait}"))
    }),
    (14, |dice| {
        let name = dice.name();
        let documents: Vec<String> = (0..=dice.below(3)).map(|_| dice.document()).collect();
        order(Effect::Insert, format!("BUCKET.INSERT {name} DOCS {}", documents.join(" ")))
    }),
    (5, |dice| {
        let (name, key) = (dice.name(), dice.key());
        let line = format!(r#"BUCKET.UPDATE {name} {{"k":{key}}} {{"$inc":{{"n":1}}}} LIMIT 999"#);
        order(Effect::Increment, line)
    }),
    (8, |dice| {
        let name = dice.name();
        let filter =
            if dice.chance(0.5) { "{}".to_owned() } else { format!(r#"{{"k":{}}}"#, dice.key()) };
        order(Effect::Read, format!("BUCKET.QUERY {name} {filter} LIMIT 999"))
    }),
    (3, |dice| {
        let (name, new) = (dice.name(), dice.name());
        order(Effect::Other, format!("BUCKET.RENAME {name} {new}"))
    }),
    (2, |dice| {
        let (name, retain) = (dice.name(), Duration::from_secs(dice.one_of(&[1, 5, 600])));
        let line = format!("BUCKET.RETAIN {name} LATEST {}s", retain.as_secs());
        order(Effect::Retain(name, retain), line)
    }),
    (1, |dice| order(Effect::Other, format!("BUCKET.HOLD {} LATEST REASON r", dice.name()))),
    (2, |dice| {
        let name = dice.name();
        order(Effect::Unhold(name), format!("BUCKET.UNHOLD {name} LATEST"))
    }),
    (2, |dice| {
        let on = dice.one_of(&["ON", "OFF", "OFF"]);
        order(Effect::Other, format!("BUCKET.PROTECT {} {on}", dice.name()))
    }),
    (1, |_| order(Effect::Other, "PURGE.PAUSE")),
    (3, |_| order(Effect::Resume, "PURGE.RESUME")),
    (2, |dice| documents::create_index(dice.name(), "k")),
    (1, |dice| order(Effect::Other, format!("BUCKET.INDEX DROP {} k", dice.name()))),
    (2, |dice| {
        let (name, other) = (dice.name(), dice.name());
        let mut insert = |name| insert(dice, name).script.remove(0);
        let script = vec![
            "BEGIN".to_owned(),
            insert(name),
            format!("BUCKET.QUERY {other} {{}}"),
            insert(other),
            "COMMIT".to_owned(),
        ];
        Order { script, effect: Effect::Insert }
    }),
    (3, |dice| {
        let (path, serial) = (dice.one_of(&PATHS).0, dice.serial());
        let retain = dice.one_of(&[None, Some(3), Some(600)]).map(Duration::from_secs);
        let mut line = format!("NAMESPACE REMOVE {path} REASON c{serial}");
        if let Some(retain) = retain {
            write!(line, " RETAIN {}s", retain.as_secs()).expect("a string takes it");
        }
        order(Effect::Remove { serial, retain }, line)
    }),
    (4, |dice| {
        let path = dice.one_of(&PATHS).0;
        let name =
            if dice.chance(0.2) { format!(" AS {}", dice.one_of(&PATHS).0) } else { String::new() };
        order(Effect::Other, format!("NAMESPACE RESTORE {path} LATEST{name}"))
    }),
    (2, |dice| {
        let (path, name) = dice.one_of(&PATHS);
        let wait = dice.one_of(&["NOWAIT", "TIMEOUT 1000"]);
        order(Effect::Purge(name), format!("NAMESPACE PURGE {path} LATEST {wait}"))
    }),
    (3, |dice| order(Effect::Other, format!("NAMESPACE CREATE {}", dice.one_of(&PATHS).0))),
    (2, |dice| {
        let (path, new) = (dice.one_of(&PATHS).0, dice.one_of(&PATHS).0);
        order(Effect::Other, format!("NAMESPACE MOVE {path} {new}"))
    }),
    (1, |dice| {
        order(Effect::Other, format!("NAMESPACE HOLD {} LATEST REASON r", dice.one_of(&PATHS).0))
    }),
    (2, |dice| {
        let (path, name) = dice.one_of(&PATHS);
        order(Effect::Unhold(name), format!("NAMESPACE UNHOLD {path} LATEST"))
    }),
    (2, |dice| {
        let live_only = dice.one_of(&["", " LIVE-ONLY"]);
        order(Effect::Copy, format!("BUCKET.COPY {} c{live_only}", dice.name()))
    }),
    (2, |dice| {
        let (name, wait) = (dice.name(), dice.one_of(&[300, 3_000]));
        order(Effect::Copy, format!("BUCKET.SWAP {name} c TIMEOUT {wait}"))
    }),
    (1, |dice| {
        let serial = dice.serial();
        let effect = Effect::Remove { serial, retain: None };
        order(effect, format!("BUCKET.REMOVE c REASON c{serial}"))
    }),
    (1, |_| order(Effect::Purge("c"), "BUCKET.PURGE c LATEST NOWAIT")),
    (1, |_| order(Effect::Other, "CLUSTER.DESCRIBE")),
    (1, |dice| order(Effect::Other, format!("BUCKET.BARRIER {} LATEST", dice.name()))),
];
