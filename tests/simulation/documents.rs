//! What clients ask for about documents: deleted, brought back, destroyed, expired.
//!
//! In a line `REMOVAL ?` stands for the id of a DELETE that somebody was told
//! of, `REMOVAL @` for that of the DELETE before it in the same script.

use std::fmt::Write as _;
use std::time::Duration;

use crate::commands::{Dice, Drawn, Effect, Order, RETENTIONS, Tale, order};

/// A few ids that clients choose themselves, so that they come again.
pub const CHOSEN: &str = "f0f0f0f0f0f0f0f0f0f0f0";

/// Settings of TTL, in milliseconds; `None`: it is switched off.
const TTLS: [Option<u32>; 4] = [None, Some(0), Some(5_000), Some(60_000)];
/// How far the time in a document is from now, in milliseconds.
const TIMES: [i64; 6] = [-600_000, -3_000, 2_000, 20_000, 70_000, 3_600_000];

impl Dice {
    /// A document as it is inserted.
    pub fn document(&mut self) -> String {
        let mut text = "{".to_owned();
        if self.chance(0.1) {
            write!(text, r#""_id":"{}","#, self.chosen()).expect("a string takes it");
        }
        let (key, serial) = (self.key(), self.serial());
        let unique = if self.chance(0.1) { self.below(8) } else { 100 + self.below(1 << 30) };
        write!(text, r#""k":{key},"n":0,"s":{serial},"u":{unique}"#).expect("a string takes it");
        if self.chance(0.5) {
            let at = date(self.now + self.one_of(&TIMES));
            write!(text, r#","at":{at}"#).expect("a string takes it");
        }
        text + "}"
    }

    fn chosen(&mut self) -> String {
        format!("{CHOSEN}{:02x}", self.below(6))
    }

    fn filter(&mut self) -> String {
        match self.below(10) {
            0..3 => "{}".to_owned(),
            3..5 => format!(r#"{{"_id":"{}"}}"#, self.chosen()),
            _ => format!(r#"{{"k":{}}}"#, self.key()),
        }
    }
}

fn date(at: i64) -> String {
    format!(r#"{{"$date":{{"$numberLong":"{at}"}}}}"#)
}

fn insert_unique(dice: &mut Dice, name: &str, unique: usize) -> Order {
    let serial = dice.serial();
    let line = format!(r#"BUCKET.INSERT {name} DOCS {{"k":7,"n":0,"s":{serial},"u":{unique}}}"#);
    order(Effect::Insert, line)
}

/// Deletes, and says how long that is kept.
fn delete(dice: &mut Dice, name: &str, filter: &str, retain: Option<u64>) -> Order {
    let serial = dice.serial();
    let mut line = format!("BUCKET.DELETE {name} {filter} LIMIT 999 REASON d{serial} INFO");
    let retain = retain.map(Duration::from_secs);
    if let Some(retain) = retain {
        write!(line, " RETAIN {}s", retain.as_secs()).expect("a string takes it");
    }
    order(Effect::Delete { serial, retain, undone: false }, line)
}

fn undelete(name: &str, which: &str) -> Order {
    order(Effect::Undelete, format!("BUCKET.UNDELETE {name} {which} LIMIT 999"))
}

fn expunge(name: &str, which: &str) -> Order {
    order(Effect::Expunge, format!("BUCKET.EXPUNGE {name} {which}"))
}

fn vacuum(name: &str) -> Order {
    order(Effect::Vacuum, format!("BUCKET.VACUUM {name}"))
}

/// Has documents deleted by themselves; `None`: no longer.
fn ttl(name: &str, after: Option<u32>) -> Order {
    let shown = after.map_or_else(|| "OFF".to_owned(), |after| format!("{}s", after / 1_000));
    order(Effect::Ttl(after.map(i64::from)), format!("BUCKET.TTL {name} at {shown}"))
}

/// How long a bucket keeps what is deleted; `None`: as the server says.
fn alter(name: &str, retention: Option<u64>) -> Order {
    let shown = retention.map_or_else(|| "DEFAULT".to_owned(), |retention| format!("{retention}s"));
    let line = format!("BUCKET.ALTER {name} TOMBSTONE-RETENTION {shown}");
    order(Effect::Alter(retention.map(Duration::from_secs)), line)
}

fn register(name: &str, lease: u32) -> Order {
    order(Effect::Other, format!("BUCKET.REPLICA REGISTER {name} slow LEASE {lease}s"))
}

fn unregister(name: &str, replica: &str) -> Order {
    order(Effect::Other, format!("BUCKET.REPLICA UNREGISTER {name} {replica}"))
}

/// Creates an index: `k`, `at`, or the unique `u`.
pub fn create_index(name: &str, index: &str) -> Order {
    let fields = match index {
        "u" => r#""u":{"bson_type":"int32","unique":true,"name":"u"}"#,
        "at" => r#""at":{"bson_type":"datetime","name":"at"}"#,
        _ => r#""k":{"bson_type":"int32","name":"k"}"#,
    };
    order(Effect::Other, format!("BUCKET.INDEX CREATE {name} {{{fields}}}"))
}

pub const COMMANDS: &[Drawn] = &[
    (14, |dice| {
        let name = dice.name();
        let all: Vec<String> = (0..=dice.below(3)).map(|_| dice.document()).collect();
        order(Effect::Insert, format!("BUCKET.INSERT {name} DOCS {}", all.join(" ")))
    }),
    (3, |dice| {
        let (name, filter, at) = (dice.name(), dice.filter(), dice.now + dice.one_of(&TIMES));
        let set = format!(r#"{{"$set":{{"at":{}}}}}"#, date(at));
        order(Effect::Other, format!("BUCKET.UPDATE {name} {filter} {set} LIMIT 999"))
    }),
    (2, |dice| order(Effect::Other, format!("BUCKET.CREATE {}", dice.name()))),
    (2, |dice| order(Effect::Other, format!("BUCKET.RESTORE {} LATEST", dice.name()))),
    (9, |dice| {
        let (name, filter) = (dice.name(), dice.filter());
        let retain = dice.one_of(&RETENTIONS);
        let mut order = delete(dice, name, &filter, retain);
        if dice.chance(0.4) {
            let few = format!("LIMIT {}", 1 + dice.below(2));
            order.script[0] = order.script[0].replacen("LIMIT 999", &few, 1);
            order.script.push("BUCKET.ADVANCE DELETE 1".to_owned());
        }
        if dice.chance(0.2) {
            order.script.push(format!("BUCKET.UNDELETE {name} REMOVAL @"));
            if let Effect::Delete { undone, .. } = &mut order.effect {
                *undone = true;
            }
        }
        order
    }),
    (8, |dice| {
        let name = dice.name();
        let which = if dice.chance(0.4) { "REMOVAL ?".to_owned() } else { dice.filter() };
        let mut order = undelete(name, &which);
        if dice.chance(0.5) {
            order.script[0] += " ON-CONFLICT SKIP";
        }
        if dice.chance(0.3) {
            order.script[0] = order.script[0].replacen("LIMIT 999", "LIMIT 1", 1);
            order.script.push("BUCKET.ADVANCE UNDELETE 1".to_owned());
        }
        order
    }),
    (3, |dice| {
        let name = dice.name();
        let which = if dice.chance(0.4) { "REMOVAL ?".to_owned() } else { dice.filter() };
        expunge(name, &which)
    }),
    (4, |dice| vacuum(dice.name())),
    (3, |dice| {
        let (name, retention) = (dice.name(), dice.one_of(&RETENTIONS));
        alter(name, retention)
    }),
    (4, |dice| {
        let (name, after) = (dice.name(), dice.one_of(&TTLS));
        ttl(name, after)
    }),
    (2, |dice| {
        let (name, index) = (dice.name(), dice.one_of(&["u", "at"]));
        create_index(name, index)
    }),
    (1, |dice| {
        let (name, index) = (dice.name(), dice.one_of(&["u", "at"]));
        order(Effect::Other, format!("BUCKET.INDEX DROP {name} {index}"))
    }),
    (1, |dice| {
        let (name, lease) = (dice.name(), dice.one_of(&[3, 15, 600]));
        register(name, lease)
    }),
    (2, |dice| {
        let (name, replica) = (dice.name(), dice.one_of(&["slow", "slow", "m0", "m1", "m2"]));
        unregister(name, replica)
    }),
    (2, |dice| {
        let name = dice.name();
        order(Effect::Other, format!("BUCKET.DELETED {name} {} LIMIT 99", dice.filter()))
    }),
];

pub const TALES: &[(u32, Tale)] = &[
    // A unique value that somebody else has when the document comes back.
    (3, |dice, one, _| {
        let unique = dice.below(8);
        let which = format!(r#"{{"u":{unique}}}"#);
        let skipping =
            order(Effect::Undelete, format!("BUCKET.UNDELETE {one} {which} ON-CONFLICT SKIP"));
        vec![
            create_index(one, "u"),
            insert_unique(dice, one, unique),
            delete(dice, one, &which, None),
            insert_unique(dice, one, unique),
            undelete(one, &which),
            skipping,
        ]
    }),
    // Brought back and destroyed at once.
    (3, |dice, one, _| {
        let which = format!(r#"{{"k":{}}}"#, dice.key());
        let all = vec![delete(dice, one, &which, None), undelete(one, &which)];
        all.into_iter().chain([expunge(one, &which), delete(dice, one, &which, Some(1))]).collect()
    }),
    // A replica that has not heard of the deletion.
    (3, |dice, one, _| {
        let lease = dice.one_of(&[3, 600]);
        vec![
            register(one, lease),
            delete(dice, one, "{}", Some(1)),
            vacuum(one),
            undelete(one, r#"{"k":1}"#),
            expunge(one, r#"{"k":0}"#),
            vacuum(one),
            unregister(one, "slow"),
            vacuum(one),
        ]
    }),
    // How long a bucket keeps what is deleted, changed from another node.
    (2, |dice, one, _| {
        vec![
            alter(one, Some(600)),
            delete(dice, one, r#"{"k":0}"#, None),
            alter(one, Some(1)),
            delete(dice, one, r#"{"k":1}"#, None),
            vacuum(one),
            alter(one, None),
            delete(dice, one, r#"{"k":2}"#, None),
        ]
    }),
    // Destruction is stopped for a while.
    (2, |dice, one, _| {
        vec![
            delete(dice, one, r#"{"k":0}"#, Some(1)),
            order(Effect::Other, "PURGE.PAUSE"),
            ttl(one, Some(0)),
            vacuum(one),
            expunge(one, "{}"),
            order(Effect::Resume, "PURGE.RESUME"),
        ]
    }),
    // Documents whose time is over, and which are brought back.
    (2, |dice, one, _| {
        let document = dice.document();
        vec![
            create_index(one, "at"),
            order(Effect::Insert, format!("BUCKET.INSERT {one} DOCS {document}")),
            ttl(one, Some(0)),
            undelete(one, "{}"),
            ttl(one, Some(60_000)),
        ]
    }),
    // A copy takes the place of its source while documents go.
    (3, |dice, one, _| {
        let serial = dice.serial();
        let gone = Effect::Remove { serial, retain: None };
        vec![
            order(gone, format!("BUCKET.REMOVE c REASON c{serial}")),
            delete(dice, one, r#"{"k":0}"#, Some(1)),
            order(Effect::Copy, format!("BUCKET.COPY {one} c")),
            delete(dice, one, r#"{"k":1}"#, None),
            ttl(one, Some(0)),
            order(Effect::Copy, format!("BUCKET.SWAP {one} c TIMEOUT 3000")),
            undelete(one, "{}"),
            vacuum(one),
        ]
    }),
    // Writes meet the swap itself, on other nodes.
    (4, |dice, one, _| {
        let insert = |dice: &mut Dice| {
            let document = dice.document();
            order(Effect::Insert, format!("BUCKET.INSERT {one} DOCS {document}"))
        };
        let serial = dice.serial();
        let gone = Effect::Remove { serial, retain: None };
        vec![
            order(gone, format!("BUCKET.REMOVE c REASON c{serial}")),
            insert(dice),
            order(Effect::Copy, format!("BUCKET.COPY {one} c")),
            insert(dice),
            order(Effect::Copy, format!("BUCKET.SWAP {one} c TIMEOUT 3000")),
            insert(dice),
            delete(dice, one, r#"{"k":0}"#, None),
            insert(dice),
            undelete(one, "{}"),
            insert(dice),
        ]
    }),
];
