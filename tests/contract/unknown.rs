//! The retry loop, and commits whose result is unknown.
//!
//! The memory engine makes unknown results on order. Where nothing can be ordered the same claims hold without them; what
//! FoundationDB makes of a server that stops answering is in `tests/foundationdb`.

use std::sync::atomic::{AtomicU32, Ordering};

use lethe::store::{Atomic, Error, Failure, Matcher, Read, Resolve, Slot, Store, Transaction};

use super::{put, value};

fn slot() -> Resolve {
    Resolve::Token(Slot {
        key: b"attempt/1".to_vec(),
        guard_key: b"member/1".to_vec(),
        guard_value: b"here".to_vec(),
    })
}

async fn add_one(txn: Transaction) -> Result<(), Error> {
    txn.atomic(Atomic::Add, b"n", &[1])
}

async fn counted(store: &Store) -> u8 {
    let value = store.begin("count").get(b"n", Read::Snapshot).await.unwrap();
    value.map_or(0, |value| value[0])
}

pub async fn a_token_finds_the_attempt_that_has_landed(store: &Store) {
    put(store, &[("member/1", "here")]).await;
    let lost = store.faults().map(|faults| faults.lose(Matcher::any().label("add")));
    let running = tokio::spawn({
        let store = store.clone();
        async move { store.run("add", slot(), add_one).await }
    });
    if let Some(lost) = lost {
        lost.arrived().await;
        lost.land().unwrap().unwrap();
    }
    let outcome = running.await.unwrap().unwrap();
    assert_eq!(counted(store).await, 1);
    assert_eq!(outcome.committed.is_none(), store.faults().is_some());
    store.run("add", slot(), add_one).await.unwrap();
    assert_eq!(counted(store).await, 2, "the slot can be used again");
}

pub async fn a_token_lets_a_lost_attempt_run_again_once(store: &Store) {
    put(store, &[("member/1", "here")]).await;
    let lost = store.faults().map(|faults| faults.lose(Matcher::any().label("add")));
    let outcome = store.run("add", slot(), add_one).await.unwrap();
    assert!(outcome.committed.is_some());
    if let Some(lost) = lost {
        assert!(matches!(lost.land().unwrap(), Err(Error::Conflict)), "it can never land any more");
    }
    assert_eq!(counted(store).await, 1);
}

pub async fn report_hands_the_unknown_result_out(store: &Store) {
    let lost = store.faults().map(|faults| faults.lose(Matcher::any().label("add")));
    let result = store.run("add", Resolve::Report, add_one).await;
    match lost {
        Some(_) => assert!(matches!(result, Err(Error::CommitUnknown))),
        None => drop(result.unwrap()),
    }
    assert_eq!(counted(store).await, u8::from(store.faults().is_none()));
}

#[derive(Debug)]
enum Domain {
    Taken,
    Store(Error),
}

impl From<Error> for Domain {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Failure for Domain {
    fn store(&self) -> Option<&Error> {
        match self {
            Self::Taken => None,
            Self::Store(error) => Some(error),
        }
    }
}

pub async fn an_error_of_the_body_is_returned_and_nothing_is_written(store: &Store) {
    let body = |txn: Transaction| async move {
        txn.set(b"k", b"1")?;
        Err::<(), _>(Domain::Taken)
    };
    assert!(matches!(store.run("taken", Resolve::Idempotent, body).await, Err(Domain::Taken)));
    let body = |txn: Transaction| async move {
        txn.set(b"k", &vec![0; 200_000])?;
        Ok::<_, Domain>(())
    };
    let refused = store.run("large", Resolve::Idempotent, body).await;
    assert!(matches!(refused, Err(Domain::Store(Error::ValueTooLarge { .. }))));
    assert_eq!(value(store, "k").await, None);
}

pub async fn conflicts_are_retried(store: &Store) {
    let tries = &AtomicU32::new(0);
    let body = |txn: Transaction| async move {
        let old = txn.get(b"k", Read::Conflict).await?;
        if tries.fetch_add(1, Ordering::Relaxed) < 3 {
            put(store, &[("k", "in between")]).await;
        }
        txn.set(b"out", &old.unwrap_or_default())?;
        Ok::<_, Error>(())
    };
    let outcome = store.run("retry", Resolve::Idempotent, body).await.unwrap();
    assert_eq!(outcome.attempts, 4);
    assert_eq!(value(store, "out").await.as_deref(), Some("in between"));
}
