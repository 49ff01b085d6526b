//! Parts of a transaction that are taken back, transactions that are given up, and commits by hand.

use std::fmt::Write;

use lethe::store::{Atomic, Error, Matcher, Read, Savepoint, Slot, Store, Transaction};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{put, value};

const KEYS: u8 = 12;

/// One write, as it can be done again in another transaction.
#[derive(Clone, Debug)]
enum Write {
    Set(u8, u8),
    Clear(u8),
    ClearRange(u8, u8),
    Add(u8, u8),
    StampedKey(u8),
    StampedValue(u8),
    Drop(u8),
}

fn key(n: u8) -> Vec<u8> {
    vec![b'k', n]
}

impl Write {
    fn random(random: &mut StdRng) -> Self {
        let (n, m) = (random.random_range(0..KEYS), random.random_range(0..KEYS));
        match random.random_range(0..10) {
            0..=2 => Self::Set(n, m),
            3 => Self::Clear(n),
            4 => Self::ClearRange(n.min(m), n.max(m)),
            5..=6 => Self::Add(n, m),
            7 => Self::StampedKey(n),
            8 => Self::StampedValue(n),
            _ => Self::Drop(n),
        }
    }

    fn apply(&self, txn: &Transaction) -> Result<(), Error> {
        match *self {
            Self::Set(n, m) => txn.set(&key(n), &[m]),
            Self::Clear(n) => txn.clear(&key(n)),
            Self::ClearRange(n, m) => txn.clear_range(&key(n), &key(m)),
            Self::Add(n, m) => txn.atomic(Atomic::Add, &key(n), &[m]),
            Self::StampedKey(n) => {
                let form = [key(n), vec![0; 10], 2_u32.to_le_bytes().to_vec()].concat();
                txn.set_versionstamped_key(&form, b"v")
            }
            Self::StampedValue(n) => {
                txn.set_versionstamped_value(&key(n), &[[0; 10].as_slice(), &[0; 4]].concat())
            }
            Self::Drop(n) => txn.drop_prefix(&key(n)),
        }
    }
}

/// All that can be seen of a write buffer.
async fn seen(txn: &Transaction) -> String {
    let mut seen = format!("{} {:?}", txn.approximate_size(), txn.write_conflicts());
    for n in 0..KEYS {
        let value = txn.get(&key(n), Read::Snapshot).await;
        write!(seen, " {value:?}").unwrap();
    }
    seen
}

pub async fn what_is_taken_back_was_never_written(store: &Store) {
    for seed in 0..150 {
        let mut random = StdRng::seed_from_u64(seed);
        let txn = store.begin("taken back");
        let mut done: Vec<Write> = Vec::new();
        let mut open: Vec<(Savepoint, usize)> = Vec::new();
        for _ in 0..random.random_range(1..40) {
            match random.random_range(0..8) {
                0 => open.push((txn.savepoint().unwrap(), done.len())),
                1 => {
                    if let Some((savepoint, length)) = open.pop() {
                        drop(savepoint);
                        done.truncate(length);
                    }
                }
                2 => {
                    if let Some((savepoint, _)) = open.pop() {
                        savepoint.keep();
                    }
                }
                _ => {
                    let write = Write::random(&mut random);
                    // Adding to what only the commit will know is refused.
                    if write.apply(&txn).is_ok() {
                        done.push(write);
                    }
                }
            }
            let again = store.begin("again");
            for write in &done {
                write.apply(&again).unwrap();
            }
            assert_eq!(seen(&txn).await, seen(&again).await, "seed {seed}: {done:?}");
        }
        while let Some((savepoint, _)) = open.pop() {
            savepoint.keep();
        }
    }
}

pub async fn what_was_taken_back_is_not_committed_and_what_was_read_still_conflicts(store: &Store) {
    put(store, &[("read", "1")]).await;
    let txn = store.begin("txn");
    txn.set(b"before", b"1").unwrap();
    let savepoint = txn.savepoint().unwrap();
    txn.set(b"since", b"1").unwrap();
    txn.get(b"read", Read::Conflict).await.unwrap();
    drop(savepoint);
    txn.commit().await.unwrap();
    assert_eq!(value(store, "before").await.as_deref(), Some("1"));
    assert_eq!(value(store, "since").await, None);
    let txn = store.begin("txn");
    let savepoint = txn.savepoint().unwrap();
    txn.get(b"read", Read::Conflict).await.unwrap();
    drop(savepoint);
    txn.set(b"x", b"1").unwrap();
    put(store, &[("read", "2")]).await;
    assert!(matches!(txn.commit().await, Err(Error::Conflict)));
}

pub async fn numbers_tell_the_versionstamped_keys_of_a_transaction_apart(store: &Store) {
    let txn = store.begin("txn");
    let savepoint = txn.savepoint().unwrap();
    assert_eq!(txn.next_order().unwrap(), Some(0));
    drop(savepoint);
    for expected in 1..=u16::MAX {
        assert_eq!(txn.next_order().unwrap(), Some(expected), "none is given out twice");
    }
    assert_eq!(txn.next_order().unwrap(), None);
}

pub async fn a_transaction_that_was_given_up_answers_so(store: &Store) {
    let txn = store.begin("txn");
    txn.set(b"x", b"1").unwrap();
    let savepoint = txn.savepoint().unwrap();
    txn.give_up(Error::TooOld);
    savepoint.keep();
    assert_eq!(txn.approximate_size(), 0, "it keeps nothing");
    assert!(matches!(txn.set(b"x", b"1"), Err(Error::TooOld)));
    assert!(matches!(txn.get(b"x", Read::Conflict).await, Err(Error::TooOld)));
    assert!(matches!(txn.commit().await, Err(Error::TooOld)));
    assert_eq!(value(store, "x").await, None);
}

pub async fn what_is_read_with_conflict_counts_for_the_size(store: &Store) {
    let txn = store.begin("txn");
    let long = |n: u16| [vec![b'x'; 9_000], n.to_be_bytes().to_vec()].concat();
    txn.get(&long(0), Read::Snapshot).await.unwrap();
    assert_eq!(txn.approximate_size(), 0);
    let mut refused = None;
    for n in 0..1_000 {
        if let Err(error) = txn.get(&long(n), Read::Conflict).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(Error::TransactionTooLarge { .. })), "{refused:?}");
    assert!(txn.approximate_size() < 10_100_000);
    txn.set(b"x", b"1").unwrap_err();
    assert!(matches!(txn.commit().await, Err(Error::TransactionTooLarge { .. })));
}

fn slot() -> Slot {
    Slot {
        key: b"attempt/1".to_vec(),
        guard_key: b"member/1".to_vec(),
        guard_value: b"here".to_vec(),
    }
}

async fn adding(store: &Store) -> Transaction {
    let txn = store.begin("by hand");
    txn.read_version().await.unwrap();
    txn.atomic(Atomic::Add, b"n", &[1]).unwrap();
    txn
}

async fn counted(store: &Store) -> u8 {
    let value = store.begin("count").get(b"n", Read::Snapshot).await.unwrap();
    value.map_or(0, |value| value[0])
}

pub async fn a_commit_by_hand_is_found_with_its_versionstamp(store: &Store) {
    put(store, &[("member/1", "here")]).await;
    let lost = store.faults().map(|faults| faults.lose(Matcher::any().label("by hand")));
    let txn = adding(store).await;
    let running = tokio::spawn({
        let store = store.clone();
        async move { store.commit_once(txn, Some(&slot())).await }
    });
    let mut landed = None;
    if let Some(lost) = lost {
        lost.arrived().await;
        landed = Some(lost.land().unwrap().unwrap());
    }
    let committed = running.await.unwrap().unwrap();
    assert!(committed.versionstamp.is_some());
    assert!(landed.is_none_or(|landed| landed == committed), "{landed:?} {committed:?}");
    assert_eq!(counted(store).await, 1);
}

pub async fn a_commit_by_hand_that_was_lost_never_lands(store: &Store) {
    put(store, &[("member/1", "here")]).await;
    let Some(faults) = store.faults() else { return };
    let lost = faults.lose(Matcher::any().label("by hand"));
    let result = store.commit_once(adding(store).await, Some(&slot())).await;
    assert!(matches!(result, Err(Error::Conflict)), "that nothing was committed is certain");
    assert!(matches!(lost.land().unwrap(), Err(Error::Conflict)));
    assert_eq!(counted(store).await, 0);
    store.commit_once(adding(store).await, Some(&slot())).await.unwrap();
    assert_eq!(counted(store).await, 1, "the slot can be used again");
}

pub async fn a_commit_by_hand_is_unknown_only_where_its_slot_may_be_gone(store: &Store) {
    put(store, &[("member/1", "here")]).await;
    let Some(faults) = store.faults() else { return };
    let lost = faults.lose(Matcher::any().label("by hand"));
    let txn = adding(store).await;
    put(store, &[("member/1", "another")]).await;
    let result = store.commit_once(txn, Some(&slot())).await;
    assert!(matches!(result, Err(Error::CommitUnknown)), "{result:?}");
    lost.land().unwrap().unwrap();
    // Without a slot nobody can tell.
    faults.fail(Matcher::any().label("by hand"), Error::TimedOut);
    let result = store.commit_once(adding(store).await, None).await;
    assert!(matches!(result, Err(Error::CommitUnknown)), "{result:?}");
    // Any other error is what it is.
    faults.fail(Matcher::any().label("by hand"), Error::TooOld);
    let result = store.commit_once(adding(store).await, Some(&slot())).await;
    assert!(matches!(result, Err(Error::TooOld)), "{result:?}");
}
