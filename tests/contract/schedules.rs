//! Random concurrent transactions against a serial model: those that committed must give the same reads, and the same final
//! state, when they run one after the other in the order of their commits.

use std::collections::BTreeMap;

use lethe::codec::Versionstamp;
use lethe::store::{Atomic, Error, RangeRead, Read, Store, Transaction};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const PREFIX: &[u8] = b"s/";

#[derive(Debug, Clone)]
enum Op {
    Get(u8, Read),
    Range { begin: u8, end: u8, reverse: bool, limit: usize, read: Read },
    Set(u8, u8),
    Clear(u8),
    ClearRange(u8, u8),
    Add(u8, u8),
    Max(u8, u8),
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a transaction did and saw.
#[derive(Debug)]
struct Trace {
    ops: Vec<(Op, Rows)>,
    read_version: Option<u64>,
    /// `None`: it conflicted.
    versionstamp: Option<Versionstamp>,
}

fn key(n: u8) -> Vec<u8> {
    [PREFIX, &[n]].concat()
}

/// Does one step; gives what it saw.
async fn step(txn: &Transaction, op: &Op) -> Rows {
    match *op {
        Op::Get(n, read) => {
            let value = txn.get(&key(n), read).await.unwrap();
            value.into_iter().map(|value| (key(n), value.to_vec())).collect()
        }
        Op::Range { begin, end, reverse, limit, read } => {
            let mut range = RangeRead::new(key(begin), key(end.max(begin))).limit(limit);
            (range.reverse, range.read) = (reverse, read);
            let page = txn.range(range).await.unwrap();
            page.rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
        }
        Op::Set(n, value) => done(txn.set(&key(n), &[value])),
        Op::Clear(n) => done(txn.clear(&key(n))),
        Op::ClearRange(begin, end) => done(txn.clear_range(&key(begin), &key(end.max(begin)))),
        Op::Add(n, value) => done(txn.atomic(Atomic::Add, &key(n), &[value])),
        Op::Max(n, value) => done(txn.atomic(Atomic::Max, &key(n), &[value])),
    }
}

fn done(result: Result<(), Error>) -> Rows {
    result.unwrap();
    Vec::new()
}

/// The same step on the model.
fn replay(model: &mut Model, op: &Op) -> Rows {
    let row = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    match *op {
        Op::Get(n, _) => model.get_key_value(&key(n)).map(row).into_iter().collect(),
        Op::Range { begin, end, reverse, limit, .. } => {
            let rows = model.range(key(begin)..key(end.max(begin))).map(row);
            if reverse { rows.rev().take(limit).collect() } else { rows.take(limit).collect() }
        }
        Op::Set(n, value) => replace(model, n, value),
        Op::Clear(n) => {
            model.remove(&key(n));
            Vec::new()
        }
        Op::ClearRange(begin, end) => {
            model.retain(|key_, _| *key_ < key(begin) || *key_ >= key(end.max(begin)));
            Vec::new()
        }
        Op::Add(n, value) => {
            let old = model.get(&key(n)).map_or(0, |old| old[0]);
            replace(model, n, old.wrapping_add(value))
        }
        Op::Max(n, value) => {
            let old = model.get(&key(n)).map_or(0, |old| old[0]);
            replace(model, n, old.max(value))
        }
    }
}

fn replace(model: &mut Model, n: u8, value: u8) -> Rows {
    model.insert(key(n), vec![value]);
    Vec::new()
}

const fn is_snapshot_read(op: &Op) -> bool {
    matches!(op, Op::Get(_, Read::Snapshot) | Op::Range { read: Read::Snapshot, .. })
}

/// Checks all traces of a run that began with nothing below the prefix.
async fn check(store: &Store, mut traces: Vec<Trace>) {
    traces.retain(|trace| trace.versionstamp.is_some());
    traces.sort_by_key(|trace| trace.versionstamp);
    // The state after each commit version, for what was read at a snapshot.
    let mut states: BTreeMap<u64, Model> = BTreeMap::from([(0, Model::new())]);
    let mut model = Model::new();
    for trace in &traces {
        let committed = trace.versionstamp.unwrap();
        let mut at_snapshot = trace.read_version.map(|version| {
            let (_, state) = states.range(..=version).next_back().unwrap();
            state.clone()
        });
        for (op, seen) in &trace.ops {
            let serial = replay(&mut model, op);
            let snapshot = at_snapshot.as_mut().map(|state| replay(state, op));
            if is_snapshot_read(op) {
                assert_eq!(Some(seen), snapshot.as_ref(), "{op:?} at the snapshot of {committed}");
            } else {
                assert_eq!(*seen, serial, "{op:?} in the place of {committed}");
            }
        }
        states.insert(committed.version(), model.clone());
    }
    let page = store.begin("final").range(RangeRead::prefix(PREFIX)).await.unwrap();
    let stored: Model = page.rows.into_iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    assert_eq!(stored, model, "the final state");
}

async fn finish(txn: Transaction, ops: Vec<(Op, Rows)>) -> Trace {
    // A write conflict on a key of nobody's gives readers a place in the order too.
    txn.add_write_conflict_key(b"nobody").unwrap();
    let reads = |op: &Op| matches!(op, Op::Get(..) | Op::Range { .. });
    let read_version = if ops.iter().any(|(op, _)| reads(op)) {
        Some(txn.read_version().await.unwrap())
    } else {
        None
    };
    let versionstamp = match txn.commit().await {
        Ok(committed) => Some(committed.versionstamp.unwrap()),
        Err(Error::Conflict) => None,
        Err(other) => panic!("{other}"),
    };
    Trace { ops, read_version, versionstamp }
}

async fn clear_all(store: &Store) {
    let txn = store.begin("clear");
    txn.clear_range(PREFIX, &lethe::store::prefix_end(PREFIX)).unwrap();
    txn.commit().await.unwrap();
}

/// Transactions whose steps are taken in a given order; commits are sent without waiting for the one before.
#[allow(clippy::type_complexity, reason = "what is open, by program")]
async fn run_schedule(store: &Store, programs: Vec<Vec<Op>>, order: Vec<usize>) {
    clear_all(store).await;
    let mut open: Vec<Option<(Transaction, Vec<(Op, Rows)>)>> =
        programs.iter().map(|_| Some((store.begin("scheduled"), Vec::new()))).collect();
    let mut commits = Vec::new();
    let rest = (0..programs.len()).flat_map(|n| std::iter::repeat_n(n, programs[n].len() + 1));
    for n in order.into_iter().map(|n| n % programs.len()).chain(rest) {
        let Some((txn, trace)) = open[n].as_mut() else { continue };
        if let Some(op) = programs[n].get(trace.len()) {
            let seen = step(txn, op).await;
            trace.push((op.clone(), seen));
        } else if let Some((txn, trace)) = open[n].take() {
            commits.push(tokio::spawn(finish(txn, trace)));
        }
    }
    let mut traces = Vec::new();
    for commit in commits {
        traces.push(commit.await.unwrap());
    }
    check(store, traces).await;
}

fn read() -> impl Strategy<Value = Read> {
    prop_oneof![3 => Just(Read::Conflict), 1 => Just(Read::Snapshot)]
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0u8..12;
    prop_oneof![
        3 => (n.clone(), read()).prop_map(|(n, read)| Op::Get(n, read)),
        3 => (n.clone(), n.clone(), any::<bool>(), 1usize..6, read()).prop_map(
            |(begin, end, reverse, limit, read)| Op::Range { begin, end, reverse, limit, read }
        ),
        4 => (n.clone(), any::<u8>()).prop_map(|(n, value)| Op::Set(n, value)),
        1 => n.clone().prop_map(Op::Clear),
        1 => (n.clone(), n.clone()).prop_map(|(begin, end)| Op::ClearRange(begin, end)),
        2 => (n.clone(), any::<u8>()).prop_map(|(n, value)| Op::Add(n, value)),
        1 => (n, any::<u8>()).prop_map(|(n, value)| Op::Max(n, value)),
    ]
}

pub fn random_schedules_are_serializable(runtime: &tokio::runtime::Runtime, store: &Store) {
    let programs = proptest::collection::vec(proptest::collection::vec(op(), 1..7), 2..6);
    let cases = (programs, proptest::collection::vec(any::<usize>(), 0..40));
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&cases, |(programs, order)| {
            runtime.block_on(run_schedule(store, programs, order));
            Ok(())
        })
        .unwrap();
}

fn random_op(random: &mut StdRng) -> Op {
    let mut n = || random.random_range(0..12u8);
    let (one, two, value, choice) = (n(), n(), n(), n());
    let read = if random.random_bool(0.8) { Read::Conflict } else { Read::Snapshot };
    match choice {
        0..=2 => Op::Get(one, read),
        3..=5 => {
            let reverse = random.random_bool(0.5);
            Op::Range { begin: one, end: two, reverse, limit: usize::from(value) + 1, read }
        }
        6..=8 => Op::Set(one, value),
        9 => Op::ClearRange(one, two.min(one.saturating_add(3))),
        10 => Op::Add(one, value),
        _ => Op::Clear(one),
    }
}

pub async fn many_tasks_are_serializable(store: &Store) {
    clear_all(store).await;
    let tasks: Vec<_> = (0..8)
        .map(|seed| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(seed);
                let mut traces = Vec::new();
                for _ in 0..40 {
                    let txn = store.begin("task");
                    let mut trace = Vec::new();
                    for _ in 0..random.random_range(1..6) {
                        let op = random_op(&mut random);
                        let seen = step(&txn, &op).await;
                        trace.push((op, seen));
                        tokio::task::yield_now().await;
                    }
                    traces.push(finish(txn, trace).await);
                }
                traces
            })
        })
        .collect();
    let mut traces = Vec::new();
    for task in tasks {
        traces.extend(task.await.unwrap());
    }
    let committed = traces.iter().filter(|trace| trace.versionstamp.is_some()).count();
    assert!(
        committed > 20 && committed < traces.len(),
        "{committed} of {} committed",
        traces.len()
    );
    check(store, traces).await;
}
