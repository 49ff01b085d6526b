//! The one retry loop, and how a commit with an unknown result is resolved.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::limits::{RETRY_TIME_MAX, VERSIONSTAMP_BYTES};
use super::types::{Committed, Outcome, Read};
use super::{Error, Result, Store, Transaction};
use crate::codec::Versionstamp;

/// Lets [`Store::run`] see a store error inside an error of the domain.
pub trait Failure: From<Error> {
    /// The store error in it that decides about a retry, if there is one.
    fn store(&self) -> Option<&Error>;
}

impl Failure for Error {
    fn store(&self) -> Option<&Error> {
        Some(self)
    }
}

/// What to do about a commit whose result is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolve {
    /// Run again: the body itself finds out whether it has happened (an operation row that it reads first), or
    /// repeating it changes nothing (maxima).
    Idempotent,
    /// The attempt slot tells. On engines where a result is never unknown it is not used.
    Token(Slot),
    /// Give [`Error::CommitUnknown`] to the caller.
    Report,
}

/// A key that each attempt reads with conflict and writes with a token of its own.
///
/// Only one transaction at a time may use a slot. So an attempt whose result is unknown either has left its token in
/// the slot, or can never land once a later one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub key: Vec<u8>,
    /// Read together with the slot before a retry: when it has another value the slot may have been cleaned away,
    /// and the answer is [`Error::CommitUnknown`].
    pub guard_key: Vec<u8>,
    pub guard_value: Vec<u8>,
}

/// Attempts made however long they take.
const ATTEMPTS_MIN: u32 = 5;
const BACKOFF_MIN: Duration = Duration::from_millis(1);
const BACKOFF_MAX: Duration = Duration::from_millis(100);

/// An attempt whose result is not known.
struct Unknown<T> {
    token: [u8; 16],
    value: T,
}

/// What is known when an attempt is about to begin.
enum Check<T> {
    /// No earlier attempt has landed, as of this transaction's snapshot.
    GoOn,
    /// This earlier attempt has landed.
    Landed(T),
}

impl Store {
    /// Runs `body` in a transaction and commits, again and again until it succeeds, fails for good, or
    /// [`RETRY_TIME_MAX`] is over.
    ///
    /// The body must not keep anything from one attempt to the next, nor tell anybody of what it did before `run` returns.
    /// An error of the body is returned as it is, unless [`Failure::store`] finds a store error in it that is worth a retry.
    ///
    /// That a commit's result was unknown stays remembered over all further attempts: no error afterwards claims
    /// that nothing has happened, except, with [`Resolve::Token`], once that is certain.
    ///
    /// The body is a closure that gives a future: `|txn| async move { .. }`. What it borrows must be references before it is
    /// moved (`let key = &key;`), since it may run more than once. (An async closure would be neater, but a future that
    /// awaits one is not `Send` as of Rust 1.95, so that it cannot be spawned.)
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use lethe::store::{Error, Read, Resolve, Store, Transaction};
    /// # #[tokio::main] async fn main() -> Result<(), Error> {
    /// let store = Store::memory();
    /// let handle = tokio::spawn(async move {
    ///     let key = String::from("greeting");
    ///     let key = &key;
    ///     let body = |txn| async move { replace(&txn, key).await };
    ///     store.run("example", Resolve::Idempotent, body).await
    /// });
    /// assert_eq!(handle.await.unwrap()?.value, None);
    ///
    /// async fn replace(txn: &Transaction, key: &str) -> Result<Option<Bytes>, Error> {
    ///     let old = txn.get(key.as_bytes(), Read::Conflict).await?;
    ///     txn.set(key.as_bytes(), b"hello")?;
    ///     Ok(old)
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn run<T, E, F>(
        &self,
        label: &'static str,
        resolve: Resolve,
        mut body: impl FnMut(Transaction) -> F,
    ) -> Result<Outcome<T>, E>
    where
        E: Failure,
        F: Future<Output = Result<T, E>>,
    {
        let slot = match &resolve {
            Resolve::Token(slot) if self.commit_may_be_unknown() => Some(slot),
            Resolve::Token(_) | Resolve::Idempotent | Resolve::Report => None,
        };
        let started = Instant::now();
        let mut attempts = 0;
        let mut unknown = false;
        let mut candidates: Vec<Unknown<T>> = Vec::new();
        loop {
            if attempts > 0 {
                self.calls.retried();
                self.back_off(attempts).await;
            }
            attempts += 1;
            let last_try = attempts >= ATTEMPTS_MIN && started.elapsed() >= RETRY_TIME_MAX;
            let may_retry = |error: &Error| {
                let worth_it = error.is_retryable()
                    // Nothing can be told of the unknown attempt before the store is there again.
                    || unknown && matches!(error, Error::Unavailable(_));
                // Who was silent that long has used up the time of the next attempts as well.
                let waited = matches!(error, Error::TimedOut | Error::Unavailable(_))
                    && started.elapsed() >= RETRY_TIME_MAX;
                worth_it && !last_try && !waited
            };
            let txn = self.begin(label);
            let token = self.token();
            if let Some(slot) = slot {
                match enter_slot(&txn, slot, &token, unknown, &mut candidates).await {
                    Ok(Check::GoOn) => {}
                    Ok(Check::Landed(value)) => {
                        return Ok(Outcome { value, committed: None, attempts });
                    }
                    Err(error) => {
                        self.calls.failed(&error);
                        // That the slot tells nothing any more is final; a read that was given up is not.
                        if may_retry(&error) && !matches!(error, Error::CommitUnknown) {
                            continue;
                        }
                        return Err(final_error(error, unknown).into());
                    }
                }
            }
            let result = body(txn.clone()).await;
            if let Err(error) = &result {
                error
                    .store()
                    .map_or_else(|| self.calls.given_up(), |error| self.calls.failed(error));
            }
            let value = match result {
                Ok(value) => value,
                Err(error) => match error.store() {
                    // The body may have commits of its own, and only one that may repeat itself may repeat those.
                    Some(Error::CommitUnknown) if resolve != Resolve::Idempotent => {
                        return Err(error);
                    }
                    Some(store) if may_retry(store) => continue,
                    Some(store) if unknown => {
                        return Err(final_error(store.clone(), unknown).into());
                    }
                    Some(_) => return Err(error),
                    None => match slot {
                        Some(slot) if unknown => {
                            let late = self.settle(label, slot, started, &mut candidates).await?;
                            return match late {
                                Some(value) => Ok(Outcome { value, committed: None, attempts }),
                                None => Err(error),
                            };
                        }
                        Some(_) | None => return Err(error),
                    },
                },
            };
            let result = txn.commit().await;
            match &result {
                Ok(_) => self.calls.committed(),
                Err(error) => self.calls.failed(error),
            }
            match result {
                Ok(committed) => {
                    return Ok(Outcome { value, committed: Some(committed), attempts });
                }
                Err(error) if error.maybe_committed() => {
                    unknown = true;
                    if resolve == Resolve::Report || last_try {
                        return Err(Error::CommitUnknown.into());
                    }
                    candidates.push(Unknown { token, value });
                }
                Err(error) if may_retry(&error) => {}
                Err(error) => return Err(final_error(error, unknown).into()),
            }
        }
    }

    /// Commits a transaction that was begun by hand and cannot be run again. Where the result is unknown the slot
    /// tells; its versionstamp is kept in it, so that nothing of the answer is lost.
    ///
    /// The slot must have been this transaction's alone since before its snapshot. [`Error::CommitUnknown`] is given only
    /// where it cannot be known any more.
    pub async fn commit_once(&self, txn: Transaction, slot: Option<&Slot>) -> Result<Committed> {
        let slot = slot.filter(|_| self.commit_may_be_unknown());
        let (label, token) = (txn.label(), self.token());
        if let Some(slot) = slot {
            let place = u32::try_from(token.len()).unwrap_or_default().to_le_bytes();
            let value = [token.as_slice(), &[0; VERSIONSTAMP_BYTES], &place].concat();
            txn.add_read_conflict_key(&slot.key)?;
            txn.set_versionstamped_value(&slot.key, &value)?;
        }
        let result = txn.commit().await;
        match &result {
            Ok(_) => self.calls.committed(),
            Err(error) => self.calls.failed(error),
        }
        match (result, slot) {
            (Err(error), Some(slot)) if error.maybe_committed() => {
                self.look_up(label, slot, &token).await
            }
            (Err(error), None) if error.maybe_committed() => Err(Error::CommitUnknown),
            (result, _) => result,
        }
    }

    /// What became of a commit that left this token in its slot, if it landed; makes sure that it never will otherwise.
    async fn look_up(&self, label: &'static str, slot: &Slot, token: &[u8]) -> Result<Committed> {
        let started = Instant::now();
        for attempt in 1..=ATTEMPTS_MIN * 4 {
            self.back_off(attempt).await;
            let txn = self.begin(label);
            let found = async {
                let found = txn.get(&slot.key, Read::Conflict).await?;
                Ok::<_, Error>((found, txn.get(&slot.guard_key, Read::Conflict).await?))
            };
            let (found, guard) = match found.await {
                Ok(read) => read,
                Err(error) if passes(&error, started) => continue,
                Err(_) => break,
            };
            if let Some(rest) = found.as_deref().and_then(|value| value.strip_prefix(token)) {
                let stamp = Versionstamp::decode(rest).map_err(|_| Error::CommitUnknown)?;
                return Ok(Committed { version: stamp.version(), versionstamp: Some(stamp) });
            }
            if guard.as_deref() != Some(slot.guard_value.as_slice()) {
                break;
            }
            txn.set(&slot.key, &self.token())?;
            match txn.commit().await {
                // From here on it cannot land: what it has read of the slot does not hold any more.
                Ok(_) => return Err(Error::Conflict),
                Err(error) if passes(&error, started) => {}
                Err(_) => break,
            }
        }
        Err(Error::CommitUnknown)
    }

    /// Makes sure that no earlier attempt lands any more, or finds the one that has.
    async fn settle<T>(
        &self,
        label: &'static str,
        slot: &Slot,
        started: Instant,
        candidates: &mut Vec<Unknown<T>>,
    ) -> Result<Option<T>> {
        for attempt in 1..=ATTEMPTS_MIN * 4 {
            let txn = self.begin(label);
            match enter_slot(&txn, slot, &self.token(), true, candidates).await {
                Ok(Check::Landed(value)) => return Ok(Some(value)),
                Ok(Check::GoOn) => {}
                Err(error) if passes(&error, started) && !matches!(error, Error::CommitUnknown) => {
                    self.back_off(attempt).await;
                    continue;
                }
                Err(_) => return Err(Error::CommitUnknown),
            }
            match txn.commit().await {
                Ok(_) => return Ok(None),
                Err(error) if passes(&error, started) => self.back_off(attempt).await,
                Err(_) => return Err(Error::CommitUnknown),
            }
        }
        Err(Error::CommitUnknown)
    }

    async fn back_off(&self, attempts: u32) {
        let longest = BACKOFF_MIN.saturating_mul(1 << attempts.min(10)).min(BACKOFF_MAX);
        let share = u32::try_from(self.jitter() % 1000).unwrap_or_default();
        tokio::time::sleep(longest / 1000 * share).await;
    }

    /// Spread like chance, but the same in each run of a simulation.
    fn jitter(&self) -> u64 {
        // The finalizer of splitmix64.
        let n = self.engine.counters().sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Differs from all others of this store; slots of other processes are other keys.
    fn token(&self) -> [u8; 16] {
        let mut token = [0; 16];
        let sequence = self.engine.counters().sequence.fetch_add(1, Ordering::Relaxed);
        let (high, low) = token.split_at_mut(8);
        high.copy_from_slice(&sequence.to_be_bytes());
        low.copy_from_slice(&self.jitter().to_be_bytes());
        token
    }
}

/// Reads the slot if an earlier attempt may have landed, and writes this attempt's token.
async fn enter_slot<T>(
    txn: &Transaction,
    slot: &Slot,
    token: &[u8; 16],
    unknown: bool,
    candidates: &mut Vec<Unknown<T>>,
) -> Result<Check<T>> {
    if unknown {
        let found = txn.get(&slot.key, Read::Conflict).await?;
        let guard = txn.get(&slot.guard_key, Read::Conflict).await?;
        let landed = candidates.iter().position(|c| found.as_deref() == Some(c.token.as_slice()));
        if let Some(landed) = landed {
            return Ok(Check::Landed(candidates.swap_remove(landed).value));
        }
        if guard.as_deref() != Some(slot.guard_value.as_slice()) {
            return Err(Error::CommitUnknown);
        }
    } else {
        // A conflict needs a snapshot from before the attempt to be worth anything.
        txn.read_version().await?;
        txn.add_read_conflict_key(&slot.key)?;
    }
    txn.set(&slot.key, token)?;
    Ok(Check::GoOn)
}

/// Whether looking into the slot again may still tell what has become of an attempt: only the slot can.
fn passes(error: &Error, started: Instant) -> bool {
    let outage = matches!(error, Error::Unavailable(_));
    (error.is_retryable() || outage) && started.elapsed() < RETRY_TIME_MAX
}

/// After an unknown result no error may claim that nothing has happened.
fn final_error(error: Error, unknown: bool) -> Error {
    if unknown { Error::CommitUnknown } else { error }
}
