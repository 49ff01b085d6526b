use super::change::{Sums, indexes, log, taken, written};
use super::{Document, Home, Tombstone, tombstone};
use crate::codec::record::ChangeOp;
use crate::error::{Error, Result};
use crate::index;
use crate::store::{Read, Transaction};

/// Brings a deleted document back, with an entry in every index. `document` is
/// what the tombstone holds, read in this transaction; a body in pieces stays
/// where it is. That the tombstone is still there is guarded until the commit.
/// `at` is cluster time, for the change log.
///
/// # Errors
/// `DUPLICATEKEY` when its `_id` is taken again; those of [`crate::index::maintain`] and of the
/// store. What was written by then must be taken back.
pub async fn undelete(
    txn: &Transaction,
    home: &Home,
    tombstone: &Tombstone,
    document: &Document,
    at: i64,
) -> Result<()> {
    let Tombstone { id, stored: Some(stored), .. } = tombstone else {
        return Err(Error::Internal(format!("nothing is left of document {}", tombstone.id)));
    };
    tombstone.hold(txn, home)?;
    if txn.get(&home.key(id), Read::Conflict).await?.is_some() {
        return Err(taken(id));
    }
    let mut tombstone = tombstone.clone();
    tombstone.look_up_version(txn, home).await?;
    tombstone::clear(txn, home, &tombstone)?;
    txn.set(&home.key(id), &stored.encode())?;
    let written = written(home, id, None, Some(document));
    if home.mutations().undelete_ignores_unique {
        index::mirror(txn, home.bucket(), home.indexes(), written).await?;
    } else {
        indexes(txn, home, &[written]).await?;
    }
    log(txn, home, ChangeOp::Undelete, id, at)?;
    let mut sums = Sums::default();
    sums.of(home, id).inserted(document);
    sums.of(home, id).tombstone_taken_away();
    sums.write(txn, home)
}
