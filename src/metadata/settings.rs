//! What can be changed of an active bucket besides its name: how long deleted
//! documents are kept, and when documents are deleted by themselves.
//!
//! A setting is read from the handle by the commands and workers that it
//! concerns, so a change invalidates handles (protocol.md, rule 4) like a change
//! of the name.

use crate::codec::duration::{Retention, format_retention};
use crate::codec::record::{self, BucketRecord, KeepRecord, TtlProgressRecord, TtlRecord};
use crate::codec::{BucketId, keys};
use crate::error::{Error, Result};
use crate::store::{Read, Transaction};

use super::bucket::{self, Found};
use super::namespace;
use super::operation::Caller;
use super::policy::Policy;
use super::{Catalog, Path};

impl Catalog {
    /// Says how long deleted documents of a bucket are kept where the command
    /// does not say; `None`: as the server's setting says. What is deleted
    /// already keeps its time.
    ///
    /// # Errors
    /// `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`; `RETENTIONOUTOFRANGE`.
    pub async fn keep_deleted(
        &self,
        caller: &Caller,
        path: &Path,
        name: &str,
        retention: Option<Retention>,
    ) -> Result<()> {
        let now = self.now();
        let shown = retention.map_or_else(|| "default".to_owned(), format_retention);
        let shown = &format!("tombstone-retention {shown}");
        self.run("alter-bucket", caller, |txn: Transaction| async move {
            let txn = &txn;
            let namespace = namespace::resolve(txn, path, Read::Conflict).await?;
            namespace.conflict_on_fences(txn)?;
            let mut found = bucket::find(txn, namespace.id(), name).await?;
            bucket::expect_no_copy(name, &found.record)?;
            let above = namespace::lineage(txn, namespace.id(), Read::Snapshot).await?;
            let before = found.record.tombstone_retention.map(Retention::from);
            Policy::of(&above.chain).expect_own(before, retention, self.settings())?;
            let retention = retention.map(KeepRecord::from);
            if found.record.tombstone_retention == retention {
                return Ok(());
            }
            found.record.tombstone_retention = retention;
            if self.handles().mutations().settings_leave_handles {
                txn.set(&keys::bucket_record(found.id), &record::encode(&found.record))?;
                return Ok(());
            }
            bucket::write_changed(txn, caller, &namespace, &found, ("alter", Some(shown)), now)
        })
        .await
    }

    /// Has documents of a bucket deleted by themselves from now on, or, without
    /// `ttl`, no longer. A bucket has one field with a time; another takes its place.
    ///
    /// # Errors
    /// `NOSUCHBUCKET`, `BUCKETBEINGREMOVED`; `ERR` when that of another field is switched off.
    pub async fn expire_documents(
        &self,
        caller: &Caller,
        path: &Path,
        name: &str,
        field: &str,
        ttl: Option<TtlRecord>,
    ) -> Result<()> {
        let (now, ttl) = (self.now(), &ttl);
        let shown = &match ttl {
            None => "off".to_owned(),
            Some(ttl) => format!("{} after {} ms", ttl.field, ttl.after_ms),
        };
        self.run("ttl-bucket", caller, |txn: Transaction| async move {
            let txn = &txn;
            let namespace = namespace::resolve(txn, path, Read::Conflict).await?;
            namespace.conflict_on_fences(txn)?;
            let mut found = bucket::find(txn, namespace.id(), name).await?;
            bucket::expect_no_copy(name, &found.record)?;
            if found.record.ttl == *ttl {
                return Ok(());
            }
            if let (None, Some(old)) = (ttl, &found.record.ttl)
                && old.field != field
            {
                let known = &old.field;
                return Err(Error::syntax(format!("The TTL of this bucket is of '{known}'")));
            }
            found.record.ttl.clone_from(ttl);
            restart_ttl(txn, &found, self.certain_now()).await?;
            bucket::write_changed(txn, caller, &namespace, &found, ("ttl", Some(shown)), now)
        })
        .await
    }
}

/// Begins to look for what has expired anew, or ends it.
async fn restart_ttl(txn: &Transaction, found: &Found, now: i64) -> Result<()> {
    if let Some(progress) = ttl_progress(txn, found.id, Read::Conflict).await? {
        txn.clear(&due(found.id, progress.due_at))?;
        txn.clear(&keys::ttl(found.id))?;
    }
    if found.record.ttl.is_some() {
        write_ttl_progress(txn, found.id, None, &TtlProgressRecord::new(now))?;
    }
    Ok(())
}

/// Lets an instance go on with the TTL that another one of the name had.
///
/// # Errors
/// Those of the store; damage.
pub async fn move_ttl(
    txn: &Transaction,
    from: BucketId,
    to: BucketId,
    record: &BucketRecord,
    now: i64,
) -> Result<()> {
    if record.ttl.is_none() {
        return Ok(());
    }
    let before = ttl_progress(txn, from, Read::Snapshot).await?;
    let before = before.unwrap_or_else(|| TtlProgressRecord::new(now));
    let progress = TtlProgressRecord { due_at: now, after: None, removal: None, ..before };
    write_ttl_progress(txn, to, None, &progress)
}

fn due(bucket: BucketId, at: i64) -> Vec<u8> {
    keys::expiry(at, keys::due::TTL, &bucket.0.to_be_bytes())
}

/// How far the search for documents that have expired has come.
///
/// # Errors
/// Those of the store; damage.
pub async fn ttl_progress(
    txn: &Transaction,
    bucket: BucketId,
    read: Read,
) -> Result<Option<TtlProgressRecord>> {
    let value = txn.get(&keys::ttl(bucket), read).await?;
    Ok(value.map(|value| record::decode("ttl", &value)).transpose()?)
}

/// Notes how far it has come, and when it goes on; `before` is when that was due.
///
/// # Errors
/// Those of the store.
pub fn write_ttl_progress(
    txn: &Transaction,
    bucket: BucketId,
    before: Option<i64>,
    progress: &TtlProgressRecord,
) -> Result<()> {
    if before != Some(progress.due_at) {
        if let Some(before) = before {
            txn.clear(&due(bucket, before))?;
        }
        txn.set(&due(bucket, progress.due_at), b"")?;
    }
    txn.set(&keys::ttl(bucket), &record::encode(progress))?;
    Ok(())
}

/// What TTL may look at: a field below which a document's own id does not lie.
///
/// # Errors
/// `ERR`.
pub fn check_ttl_field(field: &str) -> Result<()> {
    const BYTES_MAX: usize = 1_024;
    let fits = !field.is_empty()
        && field.len() <= BYTES_MAX
        && !field.contains('\0')
        && field.split('.').all(|name| !name.is_empty() && !name.starts_with('$'));
    if !fits {
        return Err(Error::syntax(format!(
            "Invalid field '{field}': names without a $ in front, joined by dots, at most {BYTES_MAX} bytes"
        )));
    }
    if field == "_id" {
        return Err(Error::syntax("_id is no date: TTL needs a field with the time"));
    }
    Ok(())
}
