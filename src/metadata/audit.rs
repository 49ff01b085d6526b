//! The audit log: one row for each transition, in the same commit.

use crate::codec::keys;
use crate::codec::record::{self, Actor, AuditRecord};
use crate::codec::{Object, RemovalId};
use crate::error::Result;
use crate::store::Transaction;

/// What happened to what.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    pub action: &'a str,
    pub namespace: &'a str,
    /// Empty of what happened to a namespace.
    pub bucket: &'a str,
    pub id: Option<Object>,
    pub removal: Option<RemovalId>,
    pub reason: Option<&'a str>,
}

/// Writes an audit row with the version of the transaction's own commit.
/// `order` tells the rows of one transaction apart.
///
/// # Errors
/// Those of the store.
pub fn append(
    txn: &Transaction,
    order: u16,
    by: &Actor,
    now: i64,
    entry: &Entry<'_>,
    outcome: &str,
    count: i64,
) -> Result<()> {
    let row = AuditRecord {
        at: now,
        by: by.clone(),
        action: entry.action.to_owned(),
        namespace: entry.namespace.to_owned(),
        bucket: entry.bucket.to_owned(),
        id: entry.id.map(|id| id.to_string()).unwrap_or_default(),
        removal: entry.removal.map(|id| id.to_string()),
        reason: entry.reason.map(str::to_owned),
        outcome: outcome.to_owned(),
        count,
    };
    txn.set_versionstamped_key(&keys::audit_now(order), &record::encode(&row))?;
    Ok(())
}
