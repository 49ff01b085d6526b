//! Faults, and what the retry loop makes of them. On the memory engine, with paused time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::shared::lock;
use super::*;

const GUARD: &[u8] = b"member/b";

fn token() -> Resolve {
    Resolve::Token(Slot {
        key: b"attempt/1".to_vec(),
        guard_key: GUARD.to_vec(),
        guard_value: b"incarnation 1".to_vec(),
    })
}

async fn put(store: &Store, key: &[u8], value: &[u8]) {
    let txn = store.begin("put");
    txn.set(key, value).unwrap();
    txn.commit().await.unwrap();
}

async fn get(store: &Store, key: &[u8]) -> Option<Vec<u8>> {
    let value = store.begin("get").get(key, Read::Snapshot).await.unwrap();
    value.map(|value| value.to_vec())
}

async fn add_one(txn: Transaction) -> Result<()> {
    txn.atomic(Atomic::Add, b"n", &[1])
}

async fn member_store() -> (Store, Store) {
    let store = Store::memory();
    put(&store, GUARD, b"incarnation 1").await;
    let client = store.as_client("b");
    (store, client)
}

#[tokio::test(start_paused = true)]
async fn a_held_commit_waits_and_lands_after_others() {
    let (store, b) = member_store().await;
    let held = store.faults().unwrap().hold(Matcher::any().client("b").label("insert"));
    put(&b, b"another label", b"").await;
    let waiting = tokio::spawn(async move {
        let txn = b.begin("insert");
        txn.set(b"k", b"held").unwrap();
        txn.commit().await
    });
    held.arrived().await;
    assert!(!waiting.is_finished());
    put(&store, b"k", b"other").await;
    assert_eq!(get(&store, b"k").await.as_deref(), Some(b"other".as_slice()));
    let landed = held.release().unwrap().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), landed);
    assert_eq!(get(&store, b"k").await.as_deref(), Some(b"held".as_slice()));
}

#[tokio::test(start_paused = true)]
async fn a_held_commit_is_validated_when_it_is_released() {
    let (store, b) = member_store().await;
    let held = store.faults().unwrap().hold(Matcher::any().client("b"));
    let waiting = tokio::spawn(async move {
        let txn = b.begin("insert");
        txn.get(b"fence", Read::Conflict).await.unwrap();
        txn.set(b"k", b"").unwrap();
        txn.commit().await
    });
    held.arrived().await;
    put(&store, b"fence", b"moved").await;
    assert!(matches!(held.release(), Some(Err(Error::Conflict))));
    assert!(matches!(waiting.await.unwrap(), Err(Error::Conflict)));
    assert_eq!(get(&store, b"k").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_held_commit_lands_though_its_caller_has_crashed() {
    let (store, b) = member_store().await;
    let held = store.faults().unwrap().hold(Matcher::any().client("b"));
    let caller = tokio::spawn(async move {
        let txn = b.begin("insert");
        txn.set(b"k", b"").unwrap();
        txn.commit().await
    });
    held.arrived().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    held.release().unwrap().unwrap();
    assert!(get(&store, b"k").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_discarded_commit_never_lands() {
    let (store, b) = member_store().await;
    let held = store.faults().unwrap().hold(Matcher::any().client("b"));
    let waiting = tokio::spawn(async move {
        let txn = b.begin("insert");
        txn.set(b"k", b"").unwrap();
        txn.commit().await
    });
    held.arrived().await;
    held.discard();
    assert!(matches!(waiting.await.unwrap(), Err(Error::CommitUnknown)));
    assert_eq!(get(&store, b"k").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_lost_commit_lands_late_or_is_too_old() {
    let (store, b) = member_store().await;
    for late in [Duration::from_secs(1), Duration::from_secs(6)] {
        let lost = store.faults().unwrap().lose(Matcher::any().client("b"));
        let txn = b.begin("seen");
        txn.get(b"seen", Read::Conflict).await.unwrap();
        txn.set(b"seen", b"1").unwrap();
        assert!(matches!(txn.commit().await, Err(Error::CommitUnknown)));
        put(&store, b"else", b"").await;
        tokio::time::advance(late).await;
        put(&store, b"else", b"").await;
        let landed = lost.land().unwrap();
        match late.as_secs() {
            1 => drop(landed.unwrap()),
            _ => assert!(matches!(landed, Err(Error::TooOld)), "{landed:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_commit_and_an_outage_change_nothing() {
    let (store, b) = member_store().await;
    let faults = store.faults().unwrap();
    faults.fail(Matcher::any().client("b").label("flip"), Error::Stopped { reason: "test".into() });
    let txn = b.begin("flip");
    txn.set(b"k", b"").unwrap();
    assert!(matches!(txn.commit().await, Err(Error::Stopped { .. })));
    faults.outage("b");
    let reading = b.begin("read");
    assert!(matches!(reading.get(b"k", Read::Snapshot).await, Err(Error::Unavailable(_))));
    let writing = b.begin("write");
    writing.set(b"k", b"").unwrap();
    assert!(matches!(writing.commit().await, Err(Error::Unavailable(_))));
    assert_eq!(get(&store, b"k").await, None, "others are not cut off");
    faults.end_outage("b");
    assert_eq!(get(&b, b"k").await, None);
    put(&b, b"k", b"").await;
}

#[tokio::test(start_paused = true)]
async fn a_token_stops_when_the_guard_has_changed() {
    let (store, b) = member_store().await;
    let lost = store.faults().unwrap().lose(Matcher::any().client("b"));
    let evicting = store.clone();
    let tries = &AtomicU32::new(0);
    let result = b
        .run("add", token(), |txn| {
            let evicting = evicting.clone();
            async move {
                tries.fetch_add(1, Ordering::Relaxed);
                add_one(txn).await?;
                put(&evicting, GUARD, b"incarnation 2").await;
                Ok::<_, Error>(())
            }
        })
        .await;
    assert!(matches!(result, Err(Error::CommitUnknown)));
    assert_eq!(tries.load(Ordering::Relaxed), 1, "it is not run again");
    drop(lost);
}

#[tokio::test(start_paused = true)]
async fn that_a_result_was_unknown_is_not_forgotten() {
    let (store, b) = member_store().await;
    let faults = store.faults().unwrap();
    for resolve in [Resolve::Idempotent, token()] {
        let _lost = faults.lose(Matcher::any().client("b"));
        faults.fail(Matcher::any().client("b"), Error::Conflict);
        faults.fail(Matcher::any().client("b"), Error::Stopped { reason: "test".into() });
        let result = b.run("add", resolve, add_one).await;
        assert!(matches!(result, Err(Error::CommitUnknown)), "{result:?}");
    }
    // A loss of several attempts is resolved to the one that has landed.
    let first = faults.lose(Matcher::any().client("b"));
    let second = faults.lose(Matcher::any().client("b"));
    let count = &AtomicU32::new(0);
    let running = b.run("add", token(), |txn| async move {
        let attempt = count.fetch_add(1, Ordering::Relaxed) + 1;
        add_one(txn).await?;
        Ok::<_, Error>(attempt)
    });
    let land = async {
        second.arrived().await;
        second.land().unwrap().unwrap();
        assert!(matches!(first.land().unwrap(), Err(Error::Conflict)));
    };
    let (outcome, ()) = tokio::join!(running, land);
    let outcome = outcome.unwrap();
    assert_eq!((outcome.value, outcome.committed, outcome.attempts), (2, None, 3));
    assert_eq!(get(&store, b"n").await, Some(vec![1]));
}

#[derive(Debug)]
enum Domain {
    Refused,
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
            Self::Refused => None,
            Self::Store(error) => Some(error),
        }
    }
}

/// The body refuses on its second run; by then the first attempt is out and could still land.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_unknown_result_makes_sure_that_nothing_lands_later() {
    let (store, b) = member_store().await;
    let lost = store.faults().unwrap().lose(Matcher::any().client("b"));
    let runs = &AtomicU32::new(0);
    let result = b
        .run("add", token(), |txn| async move {
            if runs.fetch_add(1, Ordering::Relaxed) > 0 {
                return Err(Domain::Refused);
            }
            Ok(add_one(txn).await?)
        })
        .await;
    assert!(matches!(result, Err(Domain::Refused)));
    assert!(matches!(lost.land().unwrap(), Err(Error::Conflict)));
    assert_eq!(get(&store, b"n").await, None);
}

#[tokio::test(start_paused = true)]
async fn the_retry_loop_gives_up_in_the_end() {
    let store = Store::memory();
    let started = tokio::time::Instant::now();
    let result = store
        .run("hopeless", Resolve::Idempotent, |txn| {
            let store = store.clone();
            async move {
                txn.get(b"k", Read::Conflict).await?;
                put(&store, b"k", b"again").await;
                txn.set(b"out", b"")?;
                Ok::<_, Error>(())
            }
        })
        .await;
    assert!(matches!(result, Err(Error::Conflict)));
    let took = started.elapsed();
    assert!(took >= limits::RETRY_TIME_MAX && took < limits::RETRY_TIME_MAX * 2, "{took:?}");
}

/// What a few clients see under chance faults.
async fn chaotic_run(seed: u64) -> (Vec<String>, u64) {
    let store = Store::memory();
    put(&store, GUARD, b"incarnation 1").await;
    store.faults().unwrap().chaos(Some(Chaos::with_seed(seed)));
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut added = 0u64;
    let tasks: Vec<_> = (0..4)
        .map(|client| {
            let (store, log) = (store.as_client(&client.to_string()), Arc::clone(&log));
            tokio::spawn(async move {
                let mut added = 0;
                for n in 0..20u64 {
                    let resolve = Resolve::Token(Slot {
                        key: format!("attempt/{client}").into_bytes(),
                        guard_key: GUARD.to_vec(),
                        guard_value: b"incarnation 1".to_vec(),
                    });
                    let add = |txn: Transaction| async move {
                        txn.atomic(Atomic::Add, b"sum", &1u64.to_le_bytes())
                    };
                    let outcome = store.run("add", resolve, add).await;
                    added += u64::from(outcome.is_ok());
                    let now = tokio::time::Instant::now();
                    lock(&log).push(format!("{client} {n} {outcome:?} {now:?}"));
                }
                added
            })
        })
        .collect();
    for task in tasks {
        added += task.await.unwrap();
    }
    store.faults().unwrap().chaos(None);
    // Whatever is still on its way lands or conflicts now.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let sum = get(&store, b"sum").await.unwrap();
    assert_eq!(
        u64::from_le_bytes(sum.try_into().unwrap()),
        added,
        "seed {seed}: applied once each"
    );
    let log = lock(&log).iter().map(|line| line.replace(char::is_whitespace, " ")).collect();
    (log, added)
}

#[test]
fn chance_faults_apply_nothing_twice_and_are_the_same_with_one_seed() {
    let run = |seed| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(chaotic_run(seed))
    };
    for seed in 0..20 {
        let (log, added) = run(seed);
        assert_eq!(added, 80, "seed {seed}: every unknown result is resolved");
        let untimed = |log: &[String]| -> Vec<String> {
            log.iter()
                .map(|line| line.split(" Instant").next().unwrap_or_default().to_owned())
                .collect()
        };
        assert_eq!(untimed(&log), untimed(&run(seed).0), "seed {seed}");
    }
    assert_ne!(run(1).0.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_commit_ends_its_watches() {
    let (store, b) = member_store().await;
    let _lost = store.faults().unwrap().lose(Matcher::any().client("b"));
    let txn = b.begin("watch");
    txn.set(b"k", b"").unwrap();
    let watch = txn.watch(b"other").unwrap();
    assert!(matches!(txn.commit().await, Err(Error::CommitUnknown)));
    assert!(matches!(watch.await, Err(Error::CommitUnknown)));
}
