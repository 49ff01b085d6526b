//! What the commands mean, one after the other, on documents in memory; and
//! whether some order of the transactions explains all that was answered.
//!
//! Every transaction that was answered must have a place in the order: a
//! committed one with what it did, one that was not committed with what it was
//! told, one whose end nobody knows with or without. What was answered before
//! another began comes before it. The search tries them one after the other and
//! never comes to the same documents with the same transactions twice.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

pub type Id = String;

/// A document of these tests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Document {
    /// By which most commands find it; has an index.
    pub key: u32,
    /// How often it was changed.
    pub changes: usize,
    /// In the first bucket no two have the same.
    pub unique: u32,
    /// Appended to with each change.
    pub list: Vec<u32>,
}

pub type Bucket = BTreeMap<Id, Document>;
pub type State = [Bucket; 2];
/// The bucket with the unique index.
pub const UNIQUE: usize = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    All,
    Key(u32),
    /// Those changed so often or more.
    Changed(usize),
}

impl Filter {
    fn matches(self, document: &Document) -> bool {
        match self {
            Self::All => true,
            Self::Key(key) => document.key == key,
            Self::Changed(times) => document.changes >= times,
        }
    }
}

/// What an UPDATE does beside appending an element and counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// Another key, by which others and the same command look for it.
    Key(u32),
    Unique(u32),
}

/// Whether a cursor has come to its end with the batch before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    No,
    /// The batch was as large as it may be, and nobody told.
    Perhaps,
    Yes,
}

/// Which documents one batch means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub filter: Filter,
    pub limit: usize,
    /// The last one of the batch before.
    pub after: Option<Id>,
    pub ended: Ended,
}

/// What was asked and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Insert {
        bucket: usize,
        documents: Vec<Document>,
        answer: Answer,
    },
    Update {
        bucket: usize,
        batch: Batch,
        change: Change,
        element: u32,
        answer: Answer,
    },
    /// An UPDATE by key that inserts when it finds nothing.
    Upsert {
        bucket: usize,
        key: u32,
        unique: u32,
        element: u32,
        limit: usize,
        answer: Answer,
    },
    Delete {
        bucket: usize,
        batch: Batch,
        answer: Answer,
    },
    Query {
        bucket: usize,
        batch: Batch,
        found: Vec<(Id, Document)>,
    },
    Count {
        bucket: usize,
        filter: Filter,
        count: usize,
    },
}

/// What a command that writes answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Ids(Vec<Id>),
    /// DUPLICATEKEY: another document has the unique value.
    Duplicate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Committed,
    NotCommitted,
    Unknown,
}

/// One transaction. Times are the order of events as seen from outside.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub client: usize,
    pub begun: u64,
    pub ended: u64,
    pub end: End,
    pub steps: Vec<Step>,
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, begun, ended, end, .. } = self;
        write!(f, "client {client}, {begun} to {ended}, {end:?}:")?;
        self.steps.iter().try_for_each(|step| write!(f, "\n    {step:?}"))
    }
}

impl Batch {
    /// What the batch finds, by the order of ids.
    fn found(&self, bucket: &Bucket) -> Vec<Id> {
        let behind = |id: &Id| self.after.as_ref().is_none_or(|after| id > after);
        let all =
            bucket.iter().filter(|(id, document)| behind(id) && self.filter.matches(document));
        all.map(|(id, _)| id.clone()).take(self.limit).collect()
    }

    /// Whether it may have found nothing because the cursor had ended.
    fn explains_nothing(&self, nothing: bool) -> bool {
        nothing && self.ended != Ended::No
    }
}

/// Whether each value of the bucket with the unique index is there once.
fn is_unique(number: usize, bucket: &Bucket) -> bool {
    let mut seen = HashSet::new();
    number != UNIQUE || bucket.values().all(|document| seen.insert(document.unique))
}

/// Does what a command does. `None`: in this state it would have answered otherwise.
fn perform(state: &mut State, step: &Step) -> Option<()> {
    match step {
        Step::Insert { bucket, documents, answer } => {
            let mut after = state[*bucket].clone();
            if let Answer::Ids(ids) = answer {
                for (id, document) in ids.iter().zip(documents) {
                    after.insert(id.clone(), document.clone()).is_none().then_some(())?;
                }
                return settle(state, *bucket, after);
            }
            for (number, document) in documents.iter().enumerate() {
                after.insert(format!("new {number}"), document.clone());
            }
            (!is_unique(*bucket, &after)).then_some(())
        }
        Step::Update { bucket, batch, change, element, answer } => {
            if batch.explains_nothing(*answer == Answer::Ids(Vec::new())) {
                return Some(());
            }
            let ids = batch.found(&state[*bucket]);
            update(state, *bucket, &ids, *change, *element, answer)
        }
        Step::Upsert { bucket, key, unique, element, limit, answer } => {
            let filter = Filter::Key(*key);
            let batch = Batch { filter, limit: *limit, after: None, ended: Ended::No };
            let found = batch.found(&state[*bucket]);
            if !found.is_empty() {
                let change = Change::Unique(*unique);
                return update(state, *bucket, &found, change, *element, answer);
            }
            let new = Document { key: *key, changes: 1, unique: *unique, list: vec![*element] };
            let step =
                Step::Insert { bucket: *bucket, documents: vec![new], answer: answer.clone() };
            perform(state, &step)
        }
        Step::Delete { bucket, batch, answer } => {
            let Answer::Ids(answer) = answer else { return None };
            if batch.explains_nothing(answer.is_empty()) {
                return Some(());
            }
            let ids = batch.found(&state[*bucket]);
            state[*bucket].retain(|id, _| !ids.contains(id));
            (ids == *answer).then_some(())
        }
        Step::Query { bucket, batch, found } => {
            let bucket = &state[*bucket];
            let ids = batch.found(bucket).into_iter();
            let expected: Vec<_> = ids.map(|id| (id.clone(), bucket[&id].clone())).collect();
            (batch.explains_nothing(found.is_empty()) || expected == *found).then_some(())
        }
        Step::Count { bucket, filter, count } => {
            let documents = state[*bucket].values();
            (documents.filter(|document| filter.matches(document)).count() == *count).then_some(())
        }
    }
}

fn update(
    state: &mut State,
    bucket: usize,
    ids: &[Id],
    change: Change,
    element: u32,
    answer: &Answer,
) -> Option<()> {
    let mut after = state[bucket].clone();
    for id in ids {
        let document = after.get_mut(id)?;
        document.changes += 1;
        document.list.push(element);
        match change {
            Change::Nothing => {}
            Change::Key(key) => document.key = key,
            Change::Unique(unique) => document.unique = unique,
        }
    }
    match answer {
        Answer::Ids(answer) => {
            (ids == answer).then_some(())?;
            settle(state, bucket, after)
        }
        Answer::Duplicate => (!is_unique(bucket, &after)).then_some(()),
    }
}

fn settle(state: &mut State, bucket: usize, after: Bucket) -> Option<()> {
    is_unique(bucket, &after).then_some(())?;
    state[bucket] = after;
    Some(())
}

/// Whether some order of the transactions explains everything; if not, how far one comes.
pub fn check(history: &[Transaction]) -> Result<(), String> {
    assert!(history.len() <= 64, "a set of transactions is a number of 64 bits");
    let mut search = Search { history, seen: HashSet::new(), best: (0, Vec::new()) };
    if search.from(0, &State::default(), &mut Vec::new()) {
        return Ok(());
    }
    let (placed, ref order) = search.best;
    let list = |numbers: &mut dyn Iterator<Item = usize>| {
        let lines: Vec<String> = numbers.map(|number| history[number].to_string()).collect();
        lines.join("\n  ")
    };
    Err(format!(
        "no order of the transactions explains what they were answered. After\n  {}\nnone of \
         these can come:\n  {}",
        list(&mut order.iter().copied()),
        list(&mut search.candidates(placed))
    ))
}

struct Search<'a> {
    history: &'a [Transaction],
    /// Sets of transactions and the documents they led to.
    seen: HashSet<(u64, State)>,
    /// The longest order that explains its answers.
    best: (u64, Vec<usize>),
}

impl Search<'_> {
    /// Those that may come next: not behind one that was answered before they began.
    fn candidates(&self, placed: u64) -> impl Iterator<Item = usize> {
        let open = move |number: &usize| placed & (1 << number) == 0;
        let known = |number: &usize| self.history[*number].end != End::Unknown;
        let all = 0..self.history.len();
        let first =
            all.clone().filter(open).filter(known).map(|number| self.history[number].ended).min();
        let first = first.unwrap_or(u64::MAX);
        all.filter(open).filter(move |number| self.history[*number].begun < first)
    }

    fn from(&mut self, placed: u64, state: &State, order: &mut Vec<usize>) -> bool {
        let left = (0..self.history.len()).filter(|number| placed & (1 << number) == 0);
        let mut left = left.map(|number| self.history[number].end);
        if left.all(|end| end == End::Unknown) {
            return true;
        }
        if !self.seen.insert((placed, state.clone())) {
            return false;
        }
        if order.len() > self.best.1.len() {
            self.best = (placed, order.clone());
        }
        let candidates: Vec<usize> = self.candidates(placed).collect();
        for number in candidates {
            let transaction = &self.history[number];
            let mut after = state.clone();
            if transaction.steps.iter().any(|step| perform(&mut after, step).is_none()) {
                continue;
            }
            let after = if transaction.end == End::NotCommitted { state } else { &after };
            order.push(number);
            if self.from(placed | (1 << number), after, order) {
                return true;
            }
            order.pop();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(key: u32, unique: u32) -> Document {
        Document { key, changes: 0, unique, list: Vec::new() }
    }

    fn ids(ids: &[&str]) -> Answer {
        Answer::Ids(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    fn insert(id: &str, key: u32, unique: u32) -> Step {
        Step::Insert { bucket: 0, documents: vec![document(key, unique)], answer: ids(&[id]) }
    }

    fn by(key: u32) -> Batch {
        Batch { filter: Filter::Key(key), limit: 9, after: None, ended: Ended::No }
    }

    fn update(key: u32, change: Change, answer: Answer) -> Step {
        Step::Update { bucket: 0, batch: by(key), change, element: 7, answer }
    }

    fn query(key: u32, found: &[(&str, Document)]) -> Step {
        let found = found.iter().map(|(id, document)| ((*id).to_owned(), document.clone()));
        Step::Query { bucket: 0, batch: by(key), found: found.collect() }
    }

    fn delete(key: u32, answer: &[&str]) -> Step {
        Step::Delete { bucket: 0, batch: by(key), answer: ids(answer) }
    }

    fn changed(key: u32, unique: u32, times: usize) -> Document {
        Document { key, changes: times, unique, list: vec![7; times] }
    }

    fn at(begun: u64, ended: u64, end: End, steps: Vec<Step>) -> Transaction {
        Transaction { client: 0, begun, ended, end, steps }
    }

    /// Behind an insert of the documents 1 and 2, all at the same time.
    fn explained(at_once: Vec<Vec<Step>>) -> bool {
        let first = at(0, 1, End::Committed, vec![insert("1", 1, 1), insert("2", 2, 2)]);
        let others = at_once.into_iter().map(|steps| at(2, 9, End::Committed, steps));
        check(&std::iter::once(first).chain(others).collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn what_happens_one_after_the_other_is_explained_in_that_order_alone() {
        let change = || update(1, Change::Nothing, ids(&["1"]));
        let before = || query(1, &[("1", document(1, 1))]);
        let after = || query(1, &[("1", changed(1, 1, 1))]);
        assert!(explained(vec![vec![after()], vec![change()], vec![before()]]));
        assert!(!explained(vec![vec![after(), before()], vec![change()]]));
        let one = |begun, step| at(begun, begun + 1, End::Committed, vec![step]);
        let late = [one(0, insert("1", 1, 1)), one(2, change()), one(4, before())];
        assert!(check(&late).unwrap_err().contains("none of these can come"));
    }

    #[test]
    fn lost_and_doubled_updates_are_found() {
        let change = || update(1, Change::Nothing, ids(&["1"]));
        let twice = || query(1, &[("1", changed(1, 1, 2))]);
        assert!(explained(vec![vec![change()], vec![change()], vec![twice()]]));
        assert!(!explained(vec![vec![change()], vec![twice()]]));
        let lost = vec![change(), query(1, &[("1", changed(1, 1, 1))])];
        assert!(!explained(vec![lost.clone(), lost]));
    }

    #[test]
    fn changes_that_miss_each_other_are_found() {
        // Each moves what the other looks for, and neither sees the other.
        let over = update(1, Change::Key(2), ids(&["1"]));
        let back = update(2, Change::Key(1), ids(&["2"]));
        assert!(!explained(vec![vec![over.clone()], vec![back]]));
        let back = update(2, Change::Key(1), ids(&["1", "2"]));
        assert!(explained(vec![vec![back], vec![over]]));
    }

    #[test]
    fn a_deleted_document_stays_deleted() {
        assert!(explained(vec![
            vec![delete(1, &["1"])],
            vec![update(1, Change::Nothing, ids(&[]))]
        ]));
        assert!(!explained(vec![vec![delete(1, &["1"])], vec![delete(1, &["1"])]]));
        let risen = vec![delete(1, &["1"]), query(1, &[("1", document(1, 1))])];
        assert!(!explained(vec![risen]));
    }

    #[test]
    fn a_unique_value_is_there_once_and_refused_only_then() {
        let duplicate = |unique| update(1, Change::Unique(unique), Answer::Duplicate);
        assert!(explained(vec![vec![duplicate(2)]]));
        assert!(!explained(vec![vec![duplicate(3)]]));
        assert!(!explained(vec![vec![insert("3", 3, 2)]]));
        assert!(explained(vec![vec![delete(2, &["2"])], vec![insert("3", 3, 2)]]));
        let upsert =
            |answer| Step::Upsert { bucket: 0, key: 5, unique: 5, element: 7, limit: 9, answer };
        assert!(!explained(vec![vec![upsert(ids(&["3"]))], vec![upsert(ids(&["4"]))]]));
        assert!(explained(vec![vec![upsert(ids(&["3"]))], vec![upsert(ids(&["3"]))]]));
    }

    #[test]
    fn a_cursor_skips_and_repeats_nothing() {
        let batch = |after: Option<&str>, ended| Batch {
            filter: Filter::All,
            limit: 1,
            after: after.map(ToOwned::to_owned),
            ended,
        };
        let step = |batch, answer| Step::Delete { bucket: 0, batch, answer: ids(answer) };
        let first = || step(batch(None, Ended::No), &["1"]);
        assert!(explained(vec![vec![first(), step(batch(Some("1"), Ended::Perhaps), &["2"])]]));
        assert!(explained(vec![vec![first(), step(batch(Some("1"), Ended::Perhaps), &[])]]));
        assert!(!explained(vec![vec![first(), step(batch(Some("1"), Ended::No), &[])]]));
        assert!(!explained(vec![vec![first(), step(batch(Some("1"), Ended::Perhaps), &["1"])]]));
        assert!(explained(vec![vec![first(), step(batch(Some("1"), Ended::Yes), &[])]]));
    }

    #[test]
    fn what_was_not_committed_is_explained_and_without_effect() {
        let history = |end, seen: &[(&str, Document)]| {
            let writer = at(2, 3, end, vec![update(1, Change::Nothing, ids(&["1"]))]);
            let reader = at(4, 5, End::Committed, vec![query(1, seen)]);
            let first = at(0, 1, End::Committed, vec![insert("1", 1, 1)]);
            check(&[first, writer, reader]).is_ok()
        };
        let (before, after) = ([("1", document(1, 1))], [("1", changed(1, 1, 1))]);
        assert!(history(End::Committed, &after) && !history(End::Committed, &before));
        assert!(history(End::NotCommitted, &before) && !history(End::NotCommitted, &after));
        assert!(history(End::Unknown, &before) && history(End::Unknown, &after));
        // Also who does not commit is told what is so.
        let wrong = at(2, 3, End::NotCommitted, vec![query(1, &after)]);
        assert!(check(&[wrong]).is_err());
    }
}
