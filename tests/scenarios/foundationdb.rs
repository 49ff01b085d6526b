//! The scenarios over a FoundationDB: all clusters of this process lie on one server, each behind a prefix of its own.
//!
//! Time stands still here, too, but it must not leap while a server has a question to answer: leases would be over before
//! anybody could renew them. So it goes on in steps, and each costs the server a commit and a watch. What was asked before a
//! step has mostly been answered after it, however slow the machine is.
//!
//! `cargo test --features foundationdb --test scenarios on_foundationdb`; without an `fdbserver` they say that they were skipped.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use lethe::store::{Error, Read, Resolve, Store, Transaction};
use tokio::sync::oneshot;
use tokio::time::advance;

use crate::cluster::{self, Claim};
use crate::fdb;

/// A step while something is going on: as long as it takes, so that what is held back becomes no older for the servers
/// than it is here, between these bounds.
const STEP: Duration = Duration::from_millis(10);
const STEP_MAX: Duration = Duration::from_millis(250);
/// A step when nobody has asked for anything for so many steps, so that no answer is on its way to somebody who will.
const QUIET_STEP: Duration = Duration::from_millis(100);
const QUIET_AFTER: u32 = 3;

thread_local! {
    /// The stores of the clusters of this thread's scenario.
    static STORES: RefCell<Vec<Store>> = const { RefCell::new(Vec::new()) };
}

fn new_store() -> Pin<Box<dyn Future<Output = Store> + Send>> {
    Box::pin(async {
        let server = fdb::shared().expect("looked for before");
        let store = server.store().await;
        STORES.with_borrow_mut(|stores| stores.push(store.clone()));
        store
    })
}

/// Runs a scenario over a FoundationDB, if there is one to be had.
pub async fn holds(scenario: impl Future<Output = Claim>) {
    let Some(server) = fdb::shared() else { return };
    let scenario = Box::pin(scenario);
    let _kept = cluster::keep_in(new_store);
    // While the blocking pool has work, tokio's clock stands still.
    let (end, ended) = oneshot::channel::<()>();
    tokio::task::spawn_blocking(move || drop(ended.blocking_recv()));
    let time = tokio::spawn(go_on(server.store().await));
    let outcome = tokio::select! {
        outcome = scenario => outcome,
        stopped = time => Err(format!("the time stands still: {stopped:?}")),
    };
    STORES.with_borrow_mut(Vec::clear);
    drop(end);
    if let Err(violated) = outcome {
        panic!("{violated}");
    }
}

/// Lets the time go on, as fast as the server is.
#[allow(clippy::disallowed_methods, reason = "tokio's clock is what is moved here")]
async fn go_on(beats: Store) -> Result<(), Error> {
    let (mut quiet, mut last) = (0, Vec::new());
    for number in 0_u64.. {
        let began = Instant::now();
        beat(&beats, number).await?;
        let step = began.elapsed().clamp(STEP, STEP_MAX);
        let now = STORES.with_borrow(|stores| stores.iter().map(Store::stats).collect::<Vec<_>>());
        let asked: Vec<_> = now.iter().map(|stats| (stats.reads, stats.commits)).collect();
        let open = now.iter().any(|stats| stats.open_transactions > 0);
        quiet = if open || asked != last { 0 } else { quiet + 1 };
        last = asked;
        advance(if quiet < QUIET_AFTER { step } else { step.max(QUIET_STEP) }).await;
    }
    Ok(())
}

async fn beat(beats: &Store, number: u64) -> Result<(), Error> {
    const KEY: &[u8] = b"beat";
    let watch = |txn: Transaction| async move {
        txn.get(KEY, Read::Snapshot).await?;
        txn.watch(KEY)
    };
    let watch = beats.run("watch", Resolve::Idempotent, watch).await?.value;
    let set = |txn: Transaction| async move { txn.set(KEY, &number.to_be_bytes()) };
    beats.run("beat", Resolve::Idempotent, set).await?;
    watch.await
}
