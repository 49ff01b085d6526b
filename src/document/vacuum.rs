//! Destroying deleted documents for good.
//!
//! What has expired goes, unless a reader of the change log has not passed its
//! deletion: then it waits, in the order in which readers pass it. So a look reads
//! what has expired since the last one and what may go, and nothing twice, however
//! much waits. Who lets something go, by an ACK or by its end, schedules a look
//! (`replica`); for the end of a lease [`next_look`] does.
//!
//! Not here: who looks, and when (`worker`, `command`).

use super::change::{Sums, log};
use super::replica::{self, Readers};
use super::tombstone::{self, Tombstone};
use super::{Home, Stored, join_all};
use crate::codec::record::ChangeOp;
use crate::codec::{BucketId, Sequence, Versionstamp, keys};
use crate::error::Result;
use crate::index;
use crate::metadata::bucket;
use crate::store::{RangeRead, Read, Transaction};

/// Tombstones looked at in one transaction.
const PAGE: usize = 100;
/// Keys of tombstones that wait which are counted in one transaction.
const COUNTED: usize = 10_000;
/// The next look is no sooner than this, in milliseconds.
const SOON_MS: i64 = 1_000;

/// What became of deleted documents that were to be destroyed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    pub purged: usize,
    /// Kept from now on, because a reader of the change log has not passed their deletion.
    pub waiting: usize,
}

/// Destroys deleted documents for good, but for those that a reader of the change log
/// still has to hear of, which wait, and raises the bucket's floor. They must be held
/// in this transaction, and `readers` have been read in it. `at` is cluster time, for
/// the change log.
fn purge(
    txn: &Transaction,
    home: &Home,
    readers: &Readers,
    tombstones: &[Tombstone],
    at: i64,
) -> Result<Purged> {
    let mut purged = Purged::default();
    let mut newest = None;
    let mut sums = Sums::default();
    for tombstone in tombstones {
        if !readers.have_passed(tombstone.version) {
            purged.waiting += 1;
            tombstone::wait(txn, home, tombstone)?;
            continue;
        }
        purged.purged += 1;
        newest = newest.max(Some(tombstone.version));
        tombstone::clear(txn, home, tombstone)?;
        if let Some(stored) = &tombstone.stored {
            tombstone::clear_body(txn, home, stored)?;
            log(txn, home, ChangeOp::Purge, &tombstone.id, at)?;
        }
        sums.of(home, &tombstone.id).tombstone_taken_away();
    }
    if let Some(version) = newest.filter(|_| !home.mutations().vacuum_forgets_floor) {
        replica::raise_floor(txn, home.bucket(), Sequence::end_of(version))?;
    }
    sums.write(txn, home)?;
    Ok(purged)
}

/// Takes what these held out of the figures of the indexes.
async fn forget<'a>(
    txn: &Transaction,
    home: &Home,
    tombstones: impl Iterator<Item = &'a Tombstone>,
    at: i64,
) -> Result<()> {
    let documents: Vec<_> = tombstones
        .filter_map(|tombstone| match tombstone.stored.as_ref()? {
            Stored::Inline(document) => Some(Some(document.raw())),
            Stored::Reference(_) => Some(None),
        })
        .collect();
    index::forget_values(txn, home.bucket(), home.indexes(), &documents, at).await
}

/// Destroys deleted documents before their time: of one whose deletion a reader of the
/// change log still has to hear of only the document goes, at once, and the rest as
/// soon as all have. That the tombstones are as they were read is guarded until the
/// commit.
///
/// # Errors
/// Those of the store; damage.
pub async fn expunge(
    txn: &Transaction,
    home: &Home,
    readers: &Readers,
    tombstones: Vec<Tombstone>,
    at: i64,
) -> Result<Purged> {
    let clock = home.clock(at);
    let nobody = Readers::default();
    let readers = if home.mutations().expunge_ignores_replicas { &nobody } else { readers };
    let mut passed = Vec::with_capacity(tombstones.len());
    forget(txn, home, tombstones.iter(), at).await?;
    let (mut waiting, mut sums) = (0, Sums::default());
    for mut tombstone in tombstones {
        if !home.mutations().expunge_holds_nothing {
            tombstone.hold(txn, home)?;
        }
        tombstone.look_up_version(txn, home).await?;
        if readers.have_passed(tombstone.version) {
            passed.push(tombstone);
            continue;
        }
        let Some(stored) = tombstone.stored.take() else { continue };
        waiting += 1;
        sums.of(home, &tombstone.id);
        tombstone::clear_body(txn, home, &stored)?;
        log(txn, home, ChangeOp::Purge, &tombstone.id, at)?;
        tombstone::strip(txn, home, tombstone, clock)?;
    }
    if waiting > 0 {
        bucket::schedule_vacuum(txn, home.bucket(), at.saturating_add(SOON_MS))?;
    }
    sums.write(txn, home)?;
    let Purged { purged, .. } = purge(txn, home, readers, &passed, at)?;
    Ok(Purged { purged, waiting })
}

/// Destroys one page of what has expired and no reader of the change log needs.
/// `now` is the time that has surely come. True: there may be more.
///
/// # Errors
/// Those of the store; damage.
pub async fn vacuum(txn: &Transaction, home: &Home, now: i64) -> Result<(Purged, bool)> {
    let mut readers = replica::readers(txn, home).await?;
    if home.mutations().vacuum_ignores_replicas {
        readers = Readers::default();
    }
    let (mut tombstones, more_passed) = passed(txn, home, &readers).await?;
    let clock = home.clock(now);
    let (expired, more_expired) = expired(txn, home, clock, PAGE - tombstones.len()).await?;
    for tombstone in expired {
        // A minimum that was set later counts as well.
        match tombstone.promise(home).at_least_until.filter(|at| *at > clock) {
            Some(later) => tombstone::keep_until(txn, home, tombstone, later)?,
            None => tombstones.push(tombstone),
        }
    }
    let goes = |tombstone: &&Tombstone| readers.have_passed(tombstone.version);
    forget(txn, home, tombstones.iter().filter(goes), now).await?;
    let purged = purge(txn, home, &readers, &tombstones, now)?;
    Ok((purged, more_passed || more_expired))
}

/// The first tombstones that have waited and need not any more; true when there may be more.
async fn passed(
    txn: &Transaction,
    home: &Home,
    readers: &Readers,
) -> Result<(Vec<Tombstone>, bool)> {
    let mut range = waiting(home).limit(PAGE).snapshot();
    if let Some((lowest, _)) = &readers.lowest {
        range.end = keys::feed::waiting_behind(home.bucket(), *lowest);
    }
    let page = txn.range(range).await?;
    let mut found = Vec::with_capacity(page.rows.len());
    for (row, _) in page.rows {
        let (bucket, version, removal, oid) = keys::feed::parse_waiting(&row)?;
        found.push(Found {
            row,
            version,
            waits: true,
            key: keys::tombstone(bucket, &oid, removal),
        });
    }
    Ok((load(txn, home, found).await?, page.more))
}

/// The first tombstones, at most `rows_max`, that have expired when the bucket's own
/// clock shows `clock`; true when there may be more.
async fn expired(
    txn: &Transaction,
    home: &Home,
    clock: i64,
    rows_max: usize,
) -> Result<(Vec<Tombstone>, bool)> {
    if rows_max == 0 {
        return Ok((Vec::new(), true));
    }
    let end = keys::feed::expiring_from(home.bucket(), clock.saturating_add(1));
    let range = RangeRead { end, ..expiring(home) };
    let page = txn.range(range.limit(rows_max).snapshot()).await?;
    let mut found = Vec::with_capacity(page.rows.len());
    for (row, version) in page.rows {
        let (bucket, _, removal, oid) = keys::parse_expiring(&row)?;
        let version = Versionstamp::decode(&version)?;
        found.push(Found {
            row,
            version,
            waits: false,
            key: keys::tombstone(bucket, &oid, removal),
        });
    }
    Ok((load(txn, home, found).await?, page.more))
}

/// What leads to a tombstone.
struct Found {
    row: bytes::Bytes,
    version: Versionstamp,
    waits: bool,
    key: Vec<u8>,
}

/// Reads tombstones, which are held from then on.
async fn load(txn: &Transaction, home: &Home, found: Vec<Found>) -> Result<Vec<Tombstone>> {
    let values = join_all(found.iter().map(|found| txn.get(&found.key, Read::Conflict))).await?;
    let mut tombstones = Vec::with_capacity(found.len());
    for (Found { row, version, waits, key }, value) in found.into_iter().zip(values) {
        // A row that leads nowhere is damage; whoever looks must not meet it for ever.
        let Some(value) = value else {
            txn.clear(&row)?;
            continue;
        };
        let tombstone = Tombstone { version, waits, ..Tombstone::decode(&key, &value)? };
        tombstone.hold(txn, home)?;
        tombstones.push(tombstone);
    }
    Ok(tombstones)
}

fn expiring(home: &Home) -> RangeRead {
    RangeRead::prefix(keys::data_part(home.bucket(), keys::data::EXPIRING))
}

fn waiting(home: &Home) -> RangeRead {
    RangeRead::prefix(keys::data_part(home.bucket(), keys::data::WAITING))
}

/// When the next tombstone expires, in cluster time, or has.
///
/// # Errors
/// Those of the store; damage.
pub async fn next_expiry(txn: &Transaction, home: &Home) -> Result<Option<i64>> {
    let page = txn.range(expiring(home).limit(1).snapshot()).await?;
    let first = page.rows.first().map(|(key, _)| keys::parse_expiring(key)).transpose()?;
    let at = first.map(|(_, at, ..)| at).filter(|at| *at != keys::NEVER);
    Ok(at.map(|at| home.cluster_time(at)))
}

/// When the last of the tombstones expires that have not yet, on the bucket's own clock;
/// [`keys::NEVER`] if one never does.
///
/// # Errors
/// Those of the store; damage.
pub async fn last_expiry(txn: &Transaction, bucket: BucketId) -> Result<Option<i64>> {
    let range = RangeRead::prefix(keys::data_part(bucket, keys::data::EXPIRING));
    let page = txn.range(range.reverse().limit(1).snapshot()).await?;
    let last = page.rows.first().map(|(key, _)| keys::parse_expiring(key)).transpose()?;
    Ok(last.map(|(_, at, ..)| at))
}

/// Whether something that has expired waits for a reader of the change log.
///
/// # Errors
/// Those of the store.
pub async fn is_waiting(txn: &Transaction, bucket: BucketId) -> Result<bool> {
    let range = RangeRead::prefix(keys::data_part(bucket, keys::data::WAITING));
    Ok(!txn.range(range.limit(1).snapshot()).await?.rows.is_empty())
}

/// The version that deleted what waits and is passed first.
pub(super) async fn first_waiting(
    txn: &Transaction,
    home: &Home,
    read: Read,
) -> Result<Option<Versionstamp>> {
    let page = txn.range(RangeRead { read, ..waiting(home).limit(1) }).await?;
    let first = page.rows.first().map(|(key, _)| keys::feed::parse_waiting(key)).transpose()?;
    Ok(first.map(|(_, version, ..)| version))
}

/// When to look at a bucket again, in cluster time; `None`: nothing will expire, and
/// nothing waits for the end of a lease. Whatever else may let something go schedules a
/// look itself.
///
/// # Errors
/// Those of the store; damage.
pub async fn next_look(txn: &Transaction, home: &Home, now: i64) -> Result<Option<i64>> {
    let mut next = next_expiry(txn, home).await?;
    if let Some(first) = first_waiting(txn, home, Read::Snapshot).await? {
        let readers = replica::readers(txn, home).await?;
        next = next.into_iter().chain(readers.passed_at(first)).min();
    }
    Ok(next.map(|at| at.max(now.saturating_add(SOON_MS))))
}

/// How many tombstones wait, counted from a key on, and where to go on counting.
///
/// # Errors
/// Those of the store.
pub async fn count_waiting(
    txn: &Transaction,
    home: &Home,
    from: Option<&[u8]>,
) -> Result<(usize, Option<Vec<u8>>)> {
    let mut range = waiting(home).limit(COUNTED).snapshot();
    if let Some(from) = from {
        range.begin = from.to_vec();
    }
    let page = txn.range(range.clone()).await?;
    Ok((page.rows.len(), range.after(&page).map(|rest| rest.begin)))
}

#[cfg(test)]
mod tests;
