//! Refused attempts to destroy something, for the audit log.
//!
//! A refusal costs the client who tries a reply, and the log a row at most once
//! a second for the same attempt: repeated ones are counted together, and what
//! goes beyond the bound of kinds is counted under one row, so that a client in
//! a loop cannot fill the store.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::codec::record::Actor;
use crate::error::{Error, Result};
use crate::metadata::audit::{self, Entry};
use crate::metadata::{Caller, Path};
use crate::store::{Resolve, Transaction};

use super::Lifecycle;

/// Most kinds of refusals remembered until the next row is written.
const KINDS_MAX: usize = 256;
/// Most rows written in one transaction.
const ROWS_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    user: String,
    client: String,
    action: &'static str,
    namespace: String,
    bucket: String,
    outcome: &'static str,
}

/// Refusals that are not yet in the audit log.
#[derive(Debug, Default)]
pub struct Refusals {
    pending: Mutex<HashMap<Kind, i64>>,
    some: Notify,
}

impl Refusals {
    fn add(&self, kind: Kind) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = if pending.len() < KINDS_MAX || pending.contains_key(&kind) {
            kind
        } else {
            Kind {
                user: "*".to_owned(),
                client: "*".to_owned(),
                namespace: "*".to_owned(),
                bucket: "*".to_owned(),
                ..kind
            }
        };
        *pending.entry(kind).or_default() += 1;
        drop(pending);
        self.some.notify_one();
    }

    /// Waits until there is something to write.
    pub async fn some(&self) {
        self.some.notified().await;
    }

    fn take(&self) -> Vec<(Kind, i64)> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.drain().collect()
    }
}

impl Lifecycle {
    /// Notes a refused attempt to destroy something.
    pub fn refuse(
        &self,
        caller: &Caller,
        action: &'static str,
        namespace: &Path,
        bucket: &str,
        error: &Error,
    ) {
        self.refusals().add(Kind {
            user: caller.actor.user.clone(),
            client: caller.actor.client.clone(),
            action,
            namespace: namespace.to_string(),
            bucket: bucket.to_owned(),
            outcome: error.code(),
        });
    }

    /// Notes an attempt that protection, a hold, a lock, a limit or a quota refused, or a right
    /// that turned out to be missing.
    pub fn note_refusal<T>(
        &self,
        caller: &Caller,
        action: &'static str,
        (namespace, bucket): (&Path, &str),
        result: &Result<T>,
    ) {
        let refused = result.as_ref().err().filter(|error| {
            matches!(
                error,
                Error::NoPermission(_)
                    | Error::Protected(_)
                    | Error::NamespaceProtected(_)
                    | Error::Held(_)
                    | Error::PurgePaused(_)
                    | Error::ClockSuspect(_)
                    | Error::RetentionOutOfRange(_)
                    | Error::QuotaExceeded(_)
            )
        });
        if let Some(error) = refused {
            self.refuse(caller, action, namespace, bucket, error);
        }
    }

    /// Writes the refusals noted so far into the audit log. What the store does
    /// not take is lost, and the error says so.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn write_refusals(&self) -> Result<()> {
        let now = self.catalog().now();
        for rows in self.refusals().take().chunks(ROWS_MAX) {
            self.catalog()
                .store()
                .run("refusals", Resolve::Idempotent, |txn: Transaction| async move {
                    let txn = &txn;
                    for (order, (kind, count)) in (0_u16..).zip(rows) {
                        let by = Actor { user: kind.user.clone(), client: kind.client.clone() };
                        let entry = Entry {
                            action: kind.action,
                            namespace: &kind.namespace,
                            bucket: &kind.bucket,
                            id: None,
                            removal: None,
                            reason: None,
                        };
                        audit::append(txn, order, &by, now, &entry, kind.outcome, *count)?;
                    }
                    Ok::<(), Error>(())
                })
                .await?;
        }
        Ok(())
    }
}
