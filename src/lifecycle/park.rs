//! What is due below a removed namespace, and waits.
//!
//! While a namespace is removed nothing below it expires and no background work is
//! done there. What comes due meanwhile is taken out of the queue by the worker that
//! finds it, so that nobody passes over it again and again, and parked under the
//! namespace. RESTORE schedules one row, upon which a worker puts it all back, in
//! steps, as far as it is still due; the flip clears it.
//!
//! Not here: the worker that does it (`worker`).

use crate::codec::record::{self, RetentionRecord, State};
use crate::codec::{BucketId, NamespaceId, RemovalId, keys};
use crate::error::{Error, Result};
use crate::metadata::{bucket, namespace, settings};
use crate::store::{RangeRead, Read, Transaction};

use super::inside::postpone;
use super::lock::Locked;
use super::target::Removed;

/// Rows put back in one transaction.
const PAGE: usize = 100;

/// Parks what is due below a namespace, which was read with conflict and is removed.
///
/// # Errors
/// Those of the store.
pub fn park(txn: &Transaction, below: NamespaceId, at: i64, what: u16, id: &[u8]) -> Result<()> {
    txn.clear(&keys::expiry(at, what, id))?;
    txn.set(&keys::parked(below, at, what, id), b"")?;
    Ok(())
}

/// Whether the expiry of something removed, which has come, waits for something above
/// it, or for what a lock keeps in it: then it leaves the queue or gets a later place there.
pub(super) async fn put_off(txn: &Transaction, removed: &Removed, now: i64) -> Result<bool> {
    let Some(at) = removed.retention.expires_at.filter(|at| *at <= now) else { return Ok(false) };
    let number = removed.removal.0.to_be_bytes();
    if let Some((below, _)) = removed.above.removed() {
        if removed.hold.is_none() {
            park(txn, below, at, keys::due::REMOVAL, &number)?;
        }
        return Ok(true);
    }
    let own = removed.expires_at().filter(|later| *later > now);
    let later = match (own, removed.documents_locked(txn, now, false).await?) {
        (None, None) => return Ok(false),
        (own, None) => own,
        (own, Some(Locked { until, .. })) => until.map(|until| own.unwrap_or(until).max(until)),
    };
    postpone(txn, removed, at, later)?;
    Ok(true)
}

/// Takes the trims and vacuums of a bucket that is going, and its TTL if it has one, off the queue.
pub(super) async fn unschedule_bucket(txn: &Transaction, id: BucketId, ttl: bool) -> Result<()> {
    // A copy that ends lets its source go, also when that is removed, and has it looked at: not unseen by this.
    for part in [keys::data::TRIM, keys::data::VACUUM] {
        let (begin, end) = keys::range(&keys::data_part(id, part));
        txn.add_read_conflict_range(&begin, &end)?;
    }
    scheduled(txn, id, ttl).await?.into_iter().try_for_each(|row| Ok(txn.clear(&row)?))
}

/// Puts the trims and vacuums of a bucket that is active again back into the queue,
/// which they have left when they came due.
pub(super) async fn reschedule_bucket(txn: &Transaction, id: BucketId, ttl: bool) -> Result<()> {
    scheduled(txn, id, ttl).await?.into_iter().try_for_each(|row| Ok(txn.set(&row, b"")?))
}

/// The rows of a bucket in the queue, whether they are there or not.
async fn scheduled(txn: &Transaction, id: BucketId, ttl: bool) -> Result<Vec<Vec<u8>>> {
    let number = id.0.to_be_bytes();
    let trims = bucket::scheduled_trims(txn, id).await?;
    let vacuums = bucket::scheduled_vacuums(txn, id).await?;
    let trims = trims.into_iter().map(|at| keys::expiry(at, keys::due::TRIM, &number));
    let vacuums = vacuums.into_iter().map(|at| keys::expiry(at, keys::due::VACUUM, &number));
    let ttl = if ttl { settings::ttl_progress(txn, id, Read::Snapshot).await? } else { None };
    let ttl = ttl.map(|progress| keys::expiry(progress.due_at, keys::due::TTL, &number));
    Ok(trims.chain(vacuums).chain(ttl).collect())
}

/// Schedules that what is parked under a namespace is put back, as it is restored.
pub(super) fn wake(txn: &Transaction, id: NamespaceId) -> Result<()> {
    txn.set(&keys::unpark(id), b"")?;
    super::signal_due(txn)
}

/// Takes that back, if it has not been done: the namespace is going.
pub(super) fn stop_waking(txn: &Transaction, id: NamespaceId) -> Result<()> {
    Ok(txn.clear(&keys::unpark(id))?)
}

/// Puts back a part of what is parked under a namespace that is active again; true
/// when there may be more. `due` is the row that asked for it.
///
/// # Errors
/// Those of the store; damage.
pub async fn unpark(txn: &Transaction, id: NamespaceId, due: &[u8]) -> Result<bool> {
    match namespace::read_record(txn, id, Read::Conflict).await {
        Ok(record) if record.state == State::Active => {}
        // It went again.
        Ok(_) | Err(Error::NoSuchNamespace(_)) => {
            txn.clear(due)?;
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    let page = txn.range(RangeRead::prefix(keys::parked_prefix(id)).limit(PAGE)).await?;
    for (key, _) in &page.rows {
        let (_, at, what, object) = keys::parse_parked(key)?;
        txn.clear(key)?;
        if still_due(txn, at, what, &object).await? {
            txn.set(&keys::expiry(at, what, &object), b"")?;
        }
    }
    if !page.more {
        txn.clear(due)?;
        super::signal_due(txn)?;
    }
    Ok(page.more)
}

/// Whether what was parked is still to be done at its time: meanwhile it may have been
/// restored elsewhere, purged, kept longer or put on hold.
async fn still_due(txn: &Transaction, at: i64, what: u16, object: &[u8]) -> Result<bool> {
    let Ok(number) = <[u8; 8]>::try_from(object).map(u64::from_be_bytes) else { return Ok(false) };
    Ok(match what {
        keys::due::REMOVAL => {
            let removal = RemovalId(number);
            let row = txn.get(&keys::retention(removal), Read::Conflict).await?;
            let row = row.map(|row| record::decode::<RetentionRecord>("retention", &row));
            row.transpose()?.is_some_and(|row| row.expires_at == Some(at))
                && txn.get(&keys::hold(removal), Read::Conflict).await?.is_none()
        }
        keys::due::TRIM => {
            txn.get(&keys::trim(BucketId(number), at), Read::Conflict).await?.is_some()
        }
        keys::due::VACUUM => {
            txn.get(&keys::vacuum(BucketId(number), at), Read::Conflict).await?.is_some()
        }
        keys::due::TTL => {
            let progress = settings::ttl_progress(txn, BucketId(number), Read::Conflict).await?;
            progress.is_some_and(|progress| progress.due_at == at)
        }
        _ => false,
    })
}
