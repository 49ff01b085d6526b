//! A bucket that takes over the changes of another one.
//!
//! What comes is the state of documents, not what happened to them: this one is
//! now so, that one is gone. So it does not matter when the same comes again, and
//! a batch that was overtaken by a later one is refused by its position.
//!
//! The bucket notes whose changes it takes over, and whose those take over in turn.
//! A bucket that would so follow itself is refused, in the transaction that would
//! begin it and in each that carries changes.
//!
//! Not here: who reads the other bucket and sends its changes (`replicate`).

use std::collections::BTreeSet;
use std::time::Duration;

use bson::oid::ObjectId;

use super::change::Sums;
use super::delete::delete_counted;
use super::insert::insert_counted;
use super::replace::replace_counted;
use super::{Deletion, Home, NewDocument, Tombstone, get, tombstone};
use crate::codec::duration::Retention;
use crate::codec::record::{self, Actor, OriginRecord, SnapshotRecord};
use crate::codec::{BucketId, RemovalId, Sequence, keys};
use crate::error::{Error, Result};
use crate::metadata::policy::{self, Kept};
use crate::metadata::{Index, bucket};
use crate::store::{RangeRead, Read, Transaction};

/// Most origins of one bucket, those of its origins included.
pub const ORIGINS_MAX: usize = 100;
/// How long a document is kept that its origin has purged, in milliseconds, where no policy
/// says longer: until the worker comes, who knows what must be waited for.
const AT_ONCE_MS: i64 = 1;

/// How a bucket is named among all buckets of all clusters.
#[must_use]
pub fn identity(cluster: &str, bucket: BucketId) -> String {
    format!("{cluster}/{bucket}")
}

/// The buckets that this one follows.
///
/// # Errors
/// Those of the store; damage.
pub async fn origins(txn: &Transaction, bucket: BucketId, read: Read) -> Result<OriginRecord> {
    let value = txn.get(&keys::feed::origin(bucket), read).await?;
    Ok(value
        .map_or_else(|| Ok(OriginRecord::default()), |value| record::decode("origin", &value))?)
}

/// Notes that the bucket `own` follows these others.
///
/// # Errors
/// `REPLICATIONLOOP` when it is among them; `ERR` when they are too many.
pub async fn follow(
    txn: &Transaction,
    home: &Home,
    own: &str,
    others: &[&str],
) -> Result<OriginRecord> {
    let mut known = origins(txn, home.bucket(), Read::Conflict).await?;
    if others.contains(&own) {
        return Err(Error::ReplicationLoop(own.to_owned()));
    }
    let before = known.origins.len();
    for other in others {
        if !known.origins.iter().any(|origin| origin == other) {
            known.origins.push((*other).to_owned());
        }
    }
    if known.origins.len() > ORIGINS_MAX {
        return Err(Error::syntax(format!(
            "A bucket can have at most {ORIGINS_MAX} origins, those of its origins included"
        )));
    }
    if known.origins.len() > before {
        txn.set(&keys::feed::origin(home.bucket()), &record::encode(&known))?;
    }
    Ok(known)
}

/// Forgets whom the bucket follows: it stands on its own from now on.
///
/// # Errors
/// Those of the store.
pub fn stand_alone(txn: &Transaction, home: &Home) -> Result<()> {
    Ok(txn.clear(&keys::feed::origin(home.bucket()))?)
}

/// What has become of documents of the origin.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Those that are there, as they are now.
    pub put: Vec<NewDocument>,
    /// Those that are not.
    pub gone: Vec<ObjectId>,
    /// Those of which also what was deleted is no longer there.
    pub purged: Vec<ObjectId>,
    /// With this all documents up to this one have been compared, of a snapshot behind
    /// which the changes from the batch's sequence on are taken over.
    pub snapshot: Option<ObjectId>,
}

/// How a batch is applied.
#[derive(Debug, Clone)]
pub struct Applying<'a> {
    /// The bucket whose changes these are.
    pub origin: &'a str,
    /// Up to where, when all of the batch's page has been applied.
    pub sequence: Sequence,
    /// Cluster time.
    pub at: i64,
    pub by: Actor,
    /// Two numbers for what is deleted, and for what is purged.
    pub removals: [RemovalId; 2],
    /// How long deleted documents are kept here.
    pub retention: Retention,
}

/// Makes the documents of a bucket what they are at its origin. Gives how many were changed.
///
/// # Errors
/// `ERR` when the bucket does not follow this origin, or a later batch has been
/// applied; those of [`insert()`](super::insert()).
pub async fn apply(
    txn: &Transaction,
    home: &Home,
    batch: &Batch,
    how: &Applying<'_>,
) -> Result<usize> {
    note(txn, home, batch, how).await?;
    expect_once(batch)?;
    // Read before anything is written there in this transaction.
    hasten(txn, home, &batch.purged, how.at).await?;
    let put: BTreeSet<ObjectId> = batch.put.iter().map(NewDocument::id).collect();
    let purged: Vec<ObjectId> =
        batch.purged.iter().filter(|id| !put.contains(id)).copied().collect();
    let soonest = home.policy().soonest(Kept::Documents, policy::ms(how.retention));
    let at_once = policy::retention(soonest.max(AT_ONCE_MS));
    let [deletes, purges] = how.removals;
    // One sum over all of it: what goes makes room for what comes.
    let mut sums = Sums::default();
    let mut changed =
        take_away(txn, home, &batch.gone, (deletes, how.retention), how, &mut sums).await?;
    changed += take_away(txn, home, &purged, (purges, at_once), how, &mut sums).await?;
    changed += put_all(txn, home, &batch.put, how, &mut sums).await?;
    sums.write(txn, home)?;
    Ok(changed)
}

/// Deletes those of these documents that are there.
async fn take_away(
    txn: &Transaction,
    home: &Home,
    ids: &[ObjectId],
    (removal, retention): (RemovalId, Retention),
    how: &Applying<'_>,
    sums: &mut Sums,
) -> Result<usize> {
    let mut documents = Vec::new();
    for id in ids {
        if let Some(document) = get(txn, home, id, Read::Conflict).await? {
            documents.push((*id, document));
        }
    }
    let reason = Some(format!("deleted at {}", how.origin));
    let by = how.by.clone();
    let deletion = Deletion { removal, by, reason, retention, continues: false };
    Ok(delete_counted(txn, home, &documents, &deletion, how.at, sums).await?.len())
}

/// Refuses what comes late or from a stranger, and notes that it came.
async fn note(txn: &Transaction, home: &Home, batch: &Batch, how: &Applying<'_>) -> Result<()> {
    let mut known = origins(txn, home.bucket(), Read::Conflict).await?;
    if !known.origins.iter().any(|origin| origin == how.origin) {
        return Err(Error::syntax(format!(
            "This bucket does not follow '{}': say so by BUCKET.REPLICA ORIGIN first",
            how.origin
        )));
    }
    let applied = known.applied.get(how.origin).copied();
    if applied.is_some_and(|applied| applied > how.sequence) {
        return Err(Error::syntax(format!(
            "Changes up to {} of '{}' have been applied: these come too late",
            applied.unwrap_or_default(),
            how.origin
        )));
    }
    let before = known.clone();
    known.applied.insert(how.origin.to_owned(), how.sequence);
    if let Some(after) = &batch.snapshot {
        let snapshot = SnapshotRecord { sequence: how.sequence, after: after.bytes() };
        known.snapshots.insert(how.origin.to_owned(), snapshot);
    } else if known.snapshots.get(how.origin).is_some_and(|it| it.sequence != how.sequence) {
        // It is complete, or another has begun.
        known.snapshots.remove(how.origin);
    }
    if known != before {
        txn.set(&keys::feed::origin(home.bucket()), &record::encode(&known))?;
    }
    Ok(())
}

/// Nothing may be in a batch twice: then the order would count.
fn expect_once(batch: &Batch) -> Result<()> {
    let lists = [
        batch.put.iter().map(NewDocument::id).chain(batch.gone.iter().copied()).collect(),
        batch.gone.iter().chain(&batch.purged).copied().collect::<Vec<_>>(),
    ];
    for ids in lists {
        let mut seen = BTreeSet::new();
        if let Some(twice) = ids.into_iter().find(|id| !seen.insert(*id)) {
            return Err(Error::syntax(format!("The _id '{twice}' stands twice in one batch")));
        }
    }
    Ok(())
}

/// Writes those that are not here already.
async fn put_all(
    txn: &Transaction,
    home: &Home,
    documents: &[NewDocument],
    how: &Applying<'_>,
    sums: &mut Sums,
) -> Result<usize> {
    // Documents of one batch may have swapped values, so that one after the other
    // would be refused: then all go before all come.
    let swaps = home.indexes().kept().any(Index::is_unique);
    let (mut new, mut old) = (Vec::new(), Vec::new());
    let mut replaced = 0;
    for document in documents {
        let id = document.id();
        match get(txn, home, &id, Read::Conflict).await? {
            Some(known) if known == *document.document() => {}
            Some(known) if !swaps => {
                let (old, new) = (&known, document.document());
                replace_counted(txn, home, &id, (old, new), how.at, sums).await?;
                replaced += 1;
            }
            known => {
                old.extend(known.map(|known| (id, known)));
                new.push(document.clone());
            }
        }
    }
    if !old.is_empty() {
        let deletion = Deletion {
            removal: how.removals[0],
            by: how.by.clone(),
            reason: None,
            retention: Retention::For(Duration::ZERO),
            continues: false,
        };
        delete_counted(txn, home, &old, &deletion, how.at, sums).await?;
    }
    if !new.is_empty() {
        insert_counted(txn, home, &new, how.at, sums).await?;
    }
    Ok(replaced + new.len())
}

/// Lets what is kept of deleted documents expire now. It is destroyed by the
/// worker who destroys all that has expired, as soon as nobody needs it.
async fn hasten(txn: &Transaction, home: &Home, ids: &[ObjectId], at: i64) -> Result<()> {
    let mut hastened = false;
    for id in ids {
        let prefix = keys::tombstone_prefix(home.bucket(), &id.bytes());
        let mut next = Some(RangeRead::prefix(prefix));
        while let Some(range) = next {
            let page = txn.range(range.clone()).await?;
            for (key, value) in &page.rows {
                let mut kept = Tombstone::decode(key, value)?;
                kept.hold(txn, home)?;
                kept.look_up_version(txn, home).await?;
                tombstone::expire_at(txn, home, kept, home.clock(at))?;
                hastened = true;
            }
            next = range.after(&page);
        }
    }
    if hastened {
        bucket::schedule_vacuum(txn, home.bucket(), at)?;
    }
    Ok(())
}
