//! What speaks for a child when something above it is to go: protection, holds,
//! policies that bind, and what was promised.
//!
//! A guarded object has a row at the namespace it is in, and each namespace with
//! such a row has one at its own parent, up to the topmost:
//!
//! ```text
//!   b is protected:   guard/protection/<x>/<b>
//!                     guard/protection/<n>/<x>        n.x.b
//! ```
//!
//! So REMOVE and the flip of a namespace look at one row, whatever is below, and
//! MOVE carries one row along (protocol.md, rule 19). Both read the range with
//! conflict, so of a PROTECT and a REMOVE above it one wins.
//!
//! Not here: what is held and why (`lifecycle`).

use crate::codec::record::{self, NamespaceRecord, RetentionRecord, State};
use crate::codec::{BucketId, NamespaceId, RemovalId, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Transaction};

use super::namespace::{self, Lineage, parse_object_id};
use super::{bucket, name::DEPTH_MAX};

pub use crate::codec::keys::guard::{HOLD, LOCK, POLICY, PROTECTION};

/// Notes that a child of the last of `chain` is guarded.
///
/// # Errors
/// Those of the store.
pub fn raise(txn: &Transaction, what: u16, chain: &[NamespaceId], child: u64) -> Result<()> {
    let mut child = child;
    for id in chain.iter().rev() {
        txn.set(&keys::guard(what, *id, child), b"")?;
        child = id.0;
    }
    Ok(())
}

/// Notes that a child is not guarded any more, nor anything below it.
///
/// # Errors
/// Those of the store.
pub async fn lower(txn: &Transaction, what: u16, above: &Lineage, child: u64) -> Result<()> {
    let mut child = child;
    for (id, record) in above.chain.iter().rev() {
        txn.clear(&keys::guard(what, *id, child))?;
        if below(txn, what, *id).await?.is_some() || itself(txn, what, *id, record).await? {
            return Ok(());
        }
        child = id.0;
    }
    Ok(())
}

/// Lets what guards a namespace or something below it go with it to another parent.
/// `itself`: the namespace will be guarded for its own sake.
///
/// # Errors
/// Those of the store.
pub async fn carry(
    txn: &Transaction,
    what: u16,
    id: NamespaceId,
    itself: bool,
    from: &Lineage,
    to: &[NamespaceId],
) -> Result<()> {
    let guarded = itself || below(txn, what, id).await?.is_some();
    if !from.chain.is_empty() {
        let row = keys::guard(what, from.id(), id.0);
        if txn.get(&row, Read::Conflict).await?.is_some() {
            lower(txn, what, from, id.0).await?;
        }
    }
    if guarded { raise(txn, what, to, id.0) } else { Ok(()) }
}

/// The first child of a namespace that is guarded or has something below that is.
///
/// # Errors
/// Those of the store.
pub async fn below(txn: &Transaction, what: u16, id: NamespaceId) -> Result<Option<u64>> {
    let page = txn.range(RangeRead::prefix(keys::guard_prefix(what, id)).limit(1)).await?;
    let first = page.rows.first();
    Ok(first.map(|(key, _)| keys::parse_guard(key)).transpose()?.map(|(_, _, child)| child))
}

async fn itself(
    txn: &Transaction,
    what: u16,
    id: NamespaceId,
    record: &NamespaceRecord,
) -> Result<bool> {
    match what {
        PROTECTION => Ok(record.protected),
        POLICY => Ok(record.state == State::Active && record.policy.binds()),
        HOLD => held(txn, id.0).await.map(|removal| removal.is_some()),
        _ => locked(txn, id.0).await.map(|removal| removal.is_some()),
    }
}

/// The removal of this object, if it is in one.
async fn removal_of(txn: &Transaction, object: u64) -> Result<Option<RemovalId>> {
    let value = txn.get(&keys::removal_of(object), Read::Conflict).await?;
    value.map(|value| Ok(RemovalId(parse_object_id("removal-of", &value)?))).transpose()
}

/// The removal of this object, if it is on hold.
async fn held(txn: &Transaction, object: u64) -> Result<Option<RemovalId>> {
    let Some(removal) = removal_of(txn, object).await? else { return Ok(None) };
    let hold = txn.get(&keys::hold(removal), Read::Conflict).await?;
    Ok(hold.map(|_| removal))
}

/// The removal of this object, if it was promised a time.
async fn locked(txn: &Transaction, object: u64) -> Result<Option<RemovalId>> {
    let Some(removal) = removal_of(txn, object).await? else { return Ok(None) };
    let Some(row) = txn.get(&keys::retention(removal), Read::Conflict).await? else {
        return Ok(None);
    };
    let row: RetentionRecord = record::decode("retention", &row)?;
    Ok((!row.promise.is_none()).then_some(removal))
}

/// Refuses to remove a namespace while something below it is protected.
///
/// # Errors
/// `PROTECTED`, which names it.
pub async fn expect_unprotected(txn: &Transaction, id: NamespaceId) -> Result<()> {
    let mut above = id;
    for _ in 0..=DEPTH_MAX {
        let Some(child) = below(txn, PROTECTION, above).await? else { return Ok(()) };
        match bucket::read_record(txn, BucketId(child), Read::Snapshot).await {
            Ok(record) => return Err(Error::Protected(record.name)),
            Err(Error::NoSuchBucket(_)) => {}
            Err(error) => return Err(error),
        }
        let child = NamespaceId(child);
        let lineage = namespace::lineage(txn, child, Read::Snapshot).await?;
        if lineage.chain.last().is_some_and(|(_, record)| record.protected) {
            return Err(Error::NamespaceProtected(lineage.path()));
        }
        above = child;
    }
    Err(Error::Internal(format!("what is protected below {id} is not found")))
}

/// Refuses to remove a namespace while one below it has limits or a lock of its own.
///
/// # Errors
/// `HELD`, which names it.
pub async fn expect_unbound(txn: &Transaction, id: NamespaceId) -> Result<()> {
    let mut above = id;
    for _ in 0..=DEPTH_MAX {
        let Some(child) = below(txn, POLICY, above).await? else { return Ok(()) };
        let child = NamespaceId(child);
        let lineage = namespace::lineage(txn, child, Read::Snapshot).await?;
        if let Some((_, record)) = lineage.chain.last().filter(|(_, found)| found.policy.binds()) {
            let lock = record.policy.lock.unwrap_or_default().name();
            return Err(Error::Held(format!(
                "Namespace '{}' has a policy of its own (lock: {lock}): remove it before what is above it",
                lineage.path()
            )));
        }
        above = child;
    }
    Err(Error::Internal(format!("what is bound below {id} is not found")))
}

/// The removal below a namespace that is on hold, if there is one: the first.
///
/// # Errors
/// Those of the store.
pub async fn held_below(txn: &Transaction, id: NamespaceId) -> Result<Option<RemovalId>> {
    first_below(txn, HOLD, id).await
}

/// The removal below a namespace that was promised a time, if there is one: the first.
///
/// # Errors
/// Those of the store.
pub async fn locked_below(txn: &Transaction, id: NamespaceId) -> Result<Option<RemovalId>> {
    first_below(txn, LOCK, id).await
}

async fn first_below(txn: &Transaction, what: u16, id: NamespaceId) -> Result<Option<RemovalId>> {
    let mut above = id;
    for _ in 0..=DEPTH_MAX {
        let Some(child) = below(txn, what, above).await? else { return Ok(None) };
        let found = match what {
            HOLD => held(txn, child).await?,
            _ => locked(txn, child).await?,
        };
        if found.is_some() {
            return Ok(found);
        }
        above = NamespaceId(child);
    }
    Err(Error::Internal(format!("what is guarded below {id} is not found")))
}
