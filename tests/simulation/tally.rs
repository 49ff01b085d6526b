//! How often what happened: a command that nearly always fails proves nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;

use lethe::resp::Reply;

use crate::cluster::{field, line};
use crate::told::{documents, object_ids};

/// How the process of a seed tells what it counted.
pub const COUNTED: &str = "counted: ";

/// How often it was asked for, succeeded, and had something to do.
pub type Count = [u64; 3];

thread_local! {
    static COUNTS: RefCell<BTreeMap<String, Count>> = RefCell::default();
}

fn add(what: String, count: Count) {
    COUNTS.with_borrow_mut(|counts| sum(counts.entry(what).or_default(), count));
}

fn sum(to: &mut Count, other: Count) {
    for (to, other) in to.iter_mut().zip(other) {
        *to += other;
    }
}

/// Something happened.
pub fn event(what: &str) {
    add(format!("* {what}"), [1, 1, 1]);
}

/// A command was answered.
pub fn answered(command: &str, reply: &Reply) {
    let ok = !matches!(reply, Reply::Error(_));
    let did = ok && had_something_to_do(reply);
    let name = name(command);
    if let Reply::Error(text) = reply {
        let words: Vec<&str> = text.split([' ', ':']).take(2).collect();
        let code = if words[0] == "ERR" { words.join(" ") } else { words[0].to_owned() };
        add(format!("{name}: {code}"), [1, 0, 0]);
    }
    add(name, [1, u64::from(ok), u64::from(did)]);
}

/// The words of a command that say what it is.
fn name(command: &str) -> String {
    let groups = ["NAMESPACE", "BUCKET.INDEX", "BUCKET.REPLICA", "BUCKET.ADVANCE", "CLUSTER.CLOCK"];
    let mut words = command.split_whitespace();
    let first = words.next().unwrap_or_default();
    let mut name = first.to_owned();
    if groups.contains(&first) {
        name = [first, words.next().unwrap_or_default()].join(" ");
    }
    for option in ["REMOVAL", "ON-CONFLICT", "REPLACE", "INTO", "AS", "OFF", "LIVE-ONLY"] {
        if command.split_whitespace().any(|word| word == option) {
            name = format!("{name} {option}");
        }
    }
    name
}

fn had_something_to_do(reply: &Reply) -> bool {
    if let Ok(purged) = field(reply, "purged") {
        return line(purged) != "0";
    }
    match reply {
        Reply::Array(_) => !object_ids(reply).is_empty() || !documents(reply).is_empty(),
        _ => true,
    }
}

/// What this process counted, for the one that started it.
pub fn tell() {
    COUNTS.with_borrow(|counts| {
        for (what, [asked, ok, did]) in counts {
            println!("{COUNTED}{asked} {ok} {did} {what}");
        }
    });
}

/// Adds what the process of a seed told.
pub fn take(total: &mut BTreeMap<String, Count>, text: &str) {
    for counted in text.lines().filter_map(|line| line.strip_prefix(COUNTED)) {
        let mut parts = counted.splitn(4, ' ');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or_default();
        let count = [number(), number(), number()];
        sum(total.entry(parts.next().unwrap_or_default().to_owned()).or_default(), count);
    }
}

/// Shows the sums of all seeds.
pub fn show(total: &BTreeMap<String, Count>, seeds: u64) {
    println!("{:>9} {:>9} {:>9}  of {seeds} seeds", "asked", "succeeded", "did it");
    for (what, [asked, ok, did]) in total {
        println!("{asked:>9} {ok:>9} {did:>9}  {what}");
    }
}
