//! Finds anomalies in what clients were answered, after Elle's idea.
//!
//! Transactions add elements, each only once in the whole history, to keys and
//! read all elements of a key. So of a reader and a writer of the same key it
//! is known which must come first: the writer, if its elements were read; else
//! the reader. These are the edges of a graph. If all transactions could have
//! happened one after the other, it has no circle. To that come the edges of
//! real time: what was answered before another began comes first.
//!
//! ```text
//!   writer --wr--> reader that saw it        reader that did not --rw--> writer
//! ```
//!
//! What a circle is made of names the anomaly: G1c without an rw edge, G-single
//! with one, G2 with more. Seen elements of a transaction that was not
//! committed are G1a, a part of what one wrote G1b (here a circle of two), an
//! element twice or not at all what they are called. Additions to one key
//! commute, so there is no order of writes to be wrong about (G0).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

pub type Key = (usize, u32);
pub type Element = u32;

/// How a transaction ended, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Committed,
    NotCommitted,
    Unknown,
}

/// What one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Added these; all were accepted.
    Add(Key, Vec<Element>),
    /// Was refused as a whole.
    Refused(Key, Vec<Element>),
    Read(Key, Vec<Element>),
}

/// One transaction. Times are the order of events as seen from outside.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub client: usize,
    pub begun: u64,
    /// When its COMMIT was sent; of a single command, when that was.
    pub committing: u64,
    pub ended: u64,
    pub end: End,
    pub steps: Vec<Step>,
}

/// From the answer of a REMOVE to the sending of its RESTORE the bucket was removed.
#[derive(Clone, Copy, Debug)]
pub struct Removed {
    pub bucket: usize,
    pub from: u64,
    pub to: u64,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub transactions: Vec<Transaction>,
    pub removed: Vec<Removed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    WriteRead,
    ReadWrite,
    RealTime,
}

impl Transaction {
    fn adds(&self) -> impl Iterator<Item = (Key, Element)> {
        self.steps.iter().flat_map(|step| match step {
            Step::Add(key, elements) => elements.iter().map(|e| (*key, *e)).collect(),
            Step::Refused(..) | Step::Read(..) => Vec::new(),
        })
    }

    fn reads(&self) -> impl Iterator<Item = (Key, &[Element])> {
        self.steps.iter().filter_map(|step| match step {
            Step::Read(key, elements) => Some((*key, elements.as_slice())),
            Step::Add(..) | Step::Refused(..) => None,
        })
    }

    /// Each read sees what was added before it in the same transaction, and
    /// otherwise always the same.
    fn check_alone(&self) -> Result<(), String> {
        let mut own: BTreeMap<Key, BTreeSet<Element>> = BTreeMap::new();
        let mut others: BTreeMap<Key, BTreeSet<Element>> = BTreeMap::new();
        for step in &self.steps {
            match step {
                Step::Refused(..) => {}
                Step::Add(key, elements) => own.entry(*key).or_default().extend(elements),
                Step::Read(key, elements) => {
                    let seen: BTreeSet<Element> = elements.iter().copied().collect();
                    if seen.len() < elements.len() {
                        return Err(format!("an element is there twice: {self}"));
                    }
                    let own = own.entry(*key).or_default();
                    if !own.is_subset(&seen) {
                        return Err(format!("its own elements were not read: {self}"));
                    }
                    let rest: BTreeSet<Element> = seen.difference(own).copied().collect();
                    if others.insert(*key, rest.clone()).is_some_and(|before| before != rest) {
                        return Err(format!("a read was not repeatable: {self}"));
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, begun, ended, end, .. } = self;
        write!(f, "client {client}, {begun} to {ended}, {end:?}:")?;
        for step in &self.steps {
            match step {
                Step::Add((bucket, key), elements) => {
                    write!(f, " add b{bucket}/{key} {elements:?}")?;
                }
                Step::Refused((bucket, key), elements) => {
                    write!(f, " refused b{bucket}/{key} {elements:?}")?;
                }
                Step::Read((bucket, key), elements) => {
                    write!(f, " read b{bucket}/{key} {elements:?}")?;
                }
            }
        }
        Ok(())
    }
}

/// Whether the history is strictly serializable. The last transaction must have
/// read every key, alone, after all others.
pub fn check(history: &History) -> Result<(), String> {
    let all = &history.transactions;
    let last = all.last().ok_or("an empty history")?;
    let mut writers: BTreeMap<(Key, Element), usize> = BTreeMap::new();
    let mut refused: BTreeSet<(Key, Element)> = BTreeSet::new();
    for (number, transaction) in all.iter().enumerate() {
        writers.extend(transaction.adds().map(|added| (added, number)));
        for step in &transaction.steps {
            if let Step::Refused(key, elements) = step {
                refused.extend(elements.iter().map(|element| (*key, *element)));
            }
        }
    }
    let left: BTreeSet<(Key, Element)> =
        last.reads().flat_map(|(key, elements)| elements.iter().map(move |e| (key, *e))).collect();
    // Of an unknown result the last read tells.
    let committed = |number: usize| match all[number].end {
        End::Committed => true,
        End::NotCommitted => false,
        End::Unknown => all[number].adds().any(|added| left.contains(&added)),
    };
    for (number, transaction) in all.iter().enumerate() {
        transaction.check_alone()?;
        for (key, elements) in transaction.reads() {
            for element in elements {
                if refused.contains(&(key, *element)) {
                    return Err(format!(
                        "G1a: {element} of a command that was refused was seen by {transaction}"
                    ));
                }
                let Some(writer) = writers.get(&(key, *element)) else {
                    return Err(format!("{element} was never added: {transaction}"));
                };
                if *writer != number && !committed(*writer) {
                    return Err(format!(
                        "G1a: {element} of what was not committed ({}) was seen by {transaction}",
                        all[*writer]
                    ));
                }
            }
        }
        if committed(number)
            && let Some((_, lost)) = transaction.adds().find(|added| !left.contains(added))
        {
            return Err(format!("{lost} is lost: {transaction}"));
        }
        for removed in &history.removed {
            let inside = removed.from < transaction.committing && transaction.ended < removed.to;
            let wrote = transaction.adds().any(|((bucket, _), _)| bucket == removed.bucket);
            if inside && wrote && committed(number) {
                return Err(format!("committed while {removed:?}: {transaction}"));
            }
        }
    }
    let numbers: Vec<usize> = (0..all.len()).filter(|number| committed(*number)).collect();
    let graph = graph(all, &numbers);
    for allowed in [0, 1, usize::MAX] {
        if let Some(circle) = circle(&graph, allowed) {
            return Err(told(all, &graph, &circle));
        }
    }
    Ok(())
}

type Graph = BTreeMap<usize, BTreeMap<usize, Edge>>;

fn graph(all: &[Transaction], committed: &[usize]) -> Graph {
    let mut graph: Graph = committed.iter().map(|number| (*number, BTreeMap::new())).collect();
    let mut join = |from: usize, to: usize, edge: Edge| {
        let edges = graph.entry(from).or_default();
        // What is needed to explain the rest with the fewest rw edges.
        let known = edges.entry(to).or_insert(edge);
        if *known == Edge::ReadWrite {
            *known = edge;
        }
    };
    for writer in committed {
        for (key, element) in all[*writer].adds() {
            for reader in committed.iter().filter(|reader| *reader != writer) {
                for (of, elements) in all[*reader].reads() {
                    if of != key {
                    } else if elements.contains(&element) {
                        join(*writer, *reader, Edge::WriteRead);
                    } else {
                        join(*reader, *writer, Edge::ReadWrite);
                    }
                }
            }
        }
    }
    for first in committed {
        for second in committed {
            if all[*first].ended < all[*second].begun {
                join(*first, *second, Edge::RealTime);
            }
        }
    }
    graph
}

/// A shortest circle with at most so many rw edges.
fn circle(graph: &Graph, allowed: usize) -> Option<Vec<usize>> {
    let mut best: Option<Vec<usize>> = None;
    for start in graph.keys() {
        let mut seen = BTreeSet::from([(*start, 0)]);
        let mut open = VecDeque::from([(vec![*start], 0)]);
        while let Some((path, used)) = open.pop_front() {
            if best.as_ref().is_some_and(|best| best.len() <= path.len()) {
                break;
            }
            let Some(edges) = path.last().and_then(|last| graph.get(last)) else { continue };
            for (next, edge) in edges {
                // Beyond two it makes no difference how many there are.
                let used = (used + usize::from(*edge == Edge::ReadWrite)).min(2);
                if used > allowed {
                    continue;
                }
                if next == start {
                    best = Some(path.clone());
                    break;
                }
                if seen.insert((*next, used)) {
                    let mut longer = path.clone();
                    longer.push(*next);
                    open.push_back((longer, used));
                }
            }
        }
    }
    best
}

fn told(all: &[Transaction], graph: &Graph, circle: &[usize]) -> String {
    let edges: Vec<Edge> = circle
        .iter()
        .zip(circle.iter().cycle().skip(1))
        .filter_map(|(from, to)| graph.get(from)?.get(to).copied())
        .collect();
    let anomaly = match edges.iter().filter(|edge| **edge == Edge::ReadWrite).count() {
        0 => "G1c",
        1 => "G-single",
        _ => "G2",
    };
    let real_time = if edges.contains(&Edge::RealTime) { " in real time" } else { "" };
    let places = circle
        .iter()
        .zip(&edges)
        .map(|(number, edge)| format!("\n  {}\n    before ({edge:?})", all[*number]));
    format!("{anomaly}{real_time}:{}\n  the first again", places.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Key = (0, 1);
    const Y: Key = (1, 1);

    fn add(key: Key, element: Element) -> Step {
        Step::Add(key, vec![element])
    }

    fn read(key: Key, elements: &[Element]) -> Step {
        Step::Read(key, elements.to_vec())
    }

    fn at(begun: u64, ended: u64, end: End, steps: Vec<Step>) -> Transaction {
        Transaction { client: 0, begun, committing: begun, ended, end, steps }
    }

    /// All at the same time, but for the last.
    fn verdict(transactions: Vec<Vec<Step>>, left: &[(Key, &[Element])]) -> String {
        let committed = |steps| at(1, 10, End::Committed, steps);
        judge(transactions.into_iter().map(committed).collect(), left)
    }

    fn judge(mut transactions: Vec<Transaction>, left: &[(Key, &[Element])]) -> String {
        let last = left.iter().map(|(key, elements)| read(*key, elements)).collect();
        transactions.push(at(100, 101, End::Committed, last));
        let history = History { transactions, removed: Vec::new() };
        check(&history).err().unwrap_or_default().lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn what_could_have_happened_one_after_the_other_is_no_anomaly() {
        let one = vec![read(X, &[]), add(X, 1), read(X, &[1]), add(Y, 2)];
        let two = vec![read(X, &[1]), read(Y, &[2]), add(X, 3)];
        assert_eq!(verdict(vec![two, one], &[(X, &[1, 3]), (Y, &[2])]), "");
    }

    #[test]
    fn a_part_of_a_transaction_and_information_in_circles_are_found() {
        let part = vec![vec![add(X, 1), add(Y, 2)], vec![read(X, &[1]), read(Y, &[])]];
        assert_eq!(verdict(part, &[(X, &[1]), (Y, &[2])]), "G-single:");
        let circle = vec![vec![add(X, 1), read(Y, &[2])], vec![add(Y, 2), read(X, &[1])]];
        assert_eq!(verdict(circle, &[(X, &[1]), (Y, &[2])]), "G1c:");
    }

    #[test]
    fn write_skew_and_a_lost_update_are_found() {
        let skew = vec![vec![read(X, &[]), add(Y, 1)], vec![read(Y, &[]), add(X, 2)]];
        assert_eq!(verdict(skew, &[(X, &[2]), (Y, &[1])]), "G2:");
        let lost = vec![vec![read(X, &[]), add(X, 1)], vec![read(X, &[]), add(X, 2)]];
        assert_eq!(verdict(lost, &[(X, &[1, 2])]), "G2:");
    }

    #[test]
    fn a_stale_read_is_found_by_real_time_alone() {
        let write = at(1, 2, End::Committed, vec![add(X, 1)]);
        let read_later = at(3, 4, End::Committed, vec![read(X, &[])]);
        let before = at(1, 4, End::Committed, vec![read(X, &[])]);
        let left: &[(Key, &[Element])] = &[(X, &[1])];
        assert_eq!(judge(vec![write.clone(), read_later], left), "G-single in real time:");
        assert_eq!(judge(vec![write, before], left), "");
    }

    #[test]
    fn what_was_not_committed_or_refused_must_not_be_seen() {
        let not = at(1, 2, End::NotCommitted, vec![add(X, 1)]);
        assert!(judge(vec![not], &[(X, &[1])]).starts_with("G1a: 1 of what was not committed"));
        let refused = at(1, 2, End::Committed, vec![Step::Refused(X, vec![1])]);
        assert!(judge(vec![refused], &[(X, &[1])]).starts_with("G1a: 1 of a command"));
        for left in [[].as_slice(), &[1]] {
            let unknown = at(1, 2, End::Unknown, vec![add(X, 1)]);
            assert_eq!(judge(vec![unknown], &[(X, left)]), "");
        }
        let unknown = at(1, 2, End::Unknown, vec![add(X, 1), add(X, 2)]);
        assert!(judge(vec![unknown], &[(X, &[1])]).starts_with("2 is lost"));
    }

    #[test]
    fn what_is_lost_doubled_or_changes_under_a_reader_is_found() {
        let one = || vec![add(X, 1)];
        assert!(verdict(vec![one()], &[(X, &[])]).starts_with("1 is lost"));
        assert!(verdict(vec![one()], &[(X, &[1, 1])]).starts_with("an element is there twice"));
        assert!(verdict(vec![one()], &[(X, &[1, 7])]).starts_with("7 was never added"));
        let fuzzy = vec![read(X, &[]), read(X, &[1])];
        assert!(verdict(vec![one(), fuzzy], &[(X, &[1])]).starts_with("a read was not repeatable"));
        let blind = vec![add(X, 1), read(X, &[])];
        assert!(verdict(vec![blind], &[(X, &[1])]).starts_with("its own elements"));
    }

    #[test]
    fn a_commit_to_a_removed_bucket_is_found() {
        let last = |from| at(from, from + 1, End::Committed, vec![read(X, &[1])]);
        let writer = at(5, 6, End::Committed, vec![add(X, 1)]);
        for (from, to, expected) in [(4, 7, true), (5, 7, false), (4, 6, false)] {
            let history = History {
                transactions: vec![writer.clone(), last(100)],
                removed: vec![Removed { bucket: 0, from, to }],
            };
            let found = check(&history).is_err_and(|text| text.starts_with("committed while"));
            assert_eq!(found, expected, "{from} to {to}");
        }
    }
}
