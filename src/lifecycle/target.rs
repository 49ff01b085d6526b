//! What a lifecycle command is about: a name, an instance id, or a removal id.

use std::fmt;

use crate::codec::record::{self, BucketRecord, HoldRecord, RemovalRecord, RetentionRecord};
use crate::codec::{BucketId, NamespaceId, RemovalId, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::metadata::{bucket, name};
use crate::store::{RangeRead, Read, Transaction};

/// Most candidates that an `AMBIGUOUSREMOVED` error names.
const CANDIDATES_NAMED: usize = 10;

/// A target as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Name(String),
    Instance(BucketId),
    Removal(RemovalId),
}

impl Target {
    /// Reads a target: an id when it has the form of one and its check holds,
    /// else a bucket name.
    ///
    /// # Errors
    /// An illegal name, or a mistyped id.
    pub fn parse(raw: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(raw).unwrap_or_default();
        if let Some(id) = BucketId::parse(text) {
            return Ok(Self::Instance(id));
        }
        if let Some(id) = RemovalId::parse(text) {
            return Ok(Self::Removal(id));
        }
        if crate::codec::id::has_form_of_id(text) {
            // A mistyped or foreign id names nothing.
            return Err(Error::NoSuchRemoval(text.to_owned()));
        }
        Ok(Self::Name(name::bucket(raw)?.to_owned()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Instance(id) => id.fmt(f),
            Self::Removal(id) => id.fmt(f),
        }
    }
}

/// A removed instance, read with conflict.
#[derive(Debug, Clone)]
pub struct Removed {
    pub removal: RemovalId,
    /// The version of the removing commit: what the barrier waits for.
    pub version: Versionstamp,
    pub record: RemovalRecord,
    pub bucket: BucketRecord,
    pub retention: RetentionRecord,
    pub hold: Option<HoldRecord>,
}

impl Removed {
    #[must_use]
    pub fn is_expired(&self, now: i64) -> bool {
        self.retention.expires_at.is_some_and(|at| at <= now)
    }
}

/// What a target turned out to be.
#[derive(Debug, Clone)]
pub enum Resolved {
    Removed(Box<Removed>),
    /// Purging, or purged and remembered by its grave.
    Gone(RemovalId),
}

/// Finds the removed instance that a target means in a namespace.
///
/// A name means a removed instance of that name, also while an active bucket
/// has the name; several are `AMBIGUOUSREMOVED` unless `latest` is set.
///
/// # Errors
/// `ERR Bucket 'x' is not removed`, `NOSUCHBUCKET`, `NOSUCHREMOVAL`,
/// `AMBIGUOUSREMOVED`.
pub async fn resolve(
    txn: &Transaction,
    namespace: NamespaceId,
    target: &Target,
    latest: bool,
) -> Result<Resolved> {
    let removal = match target {
        Target::Removal(removal) => *removal,
        Target::Instance(id) => match removal_of(txn, *id).await? {
            Some(removal) => removal,
            None => return Err(not_removed(txn, *id).await?),
        },
        Target::Name(name) => by_name(txn, namespace, name, latest).await?,
    };
    match read(txn, removal, Read::Conflict).await? {
        Some(removed) => Ok(Resolved::Removed(Box::new(removed))),
        None if is_gone(txn, removal).await? => Ok(Resolved::Gone(removal)),
        None => Err(Error::NoSuchRemoval(target.to_string())),
    }
}

/// As [`resolve`], for commands that can do nothing with what is purging.
///
/// # Errors
/// As [`resolve`], and `ALREADYPURGING`.
pub async fn resolve_removed(
    txn: &Transaction,
    namespace: NamespaceId,
    target: &Target,
    latest: bool,
) -> Result<Removed> {
    match resolve(txn, namespace, target, latest).await? {
        Resolved::Removed(removed) => Ok(*removed),
        Resolved::Gone(removal) => {
            Err(Error::AlreadyPurging(format!("Removal '{removal}' is already purging or purged")))
        }
    }
}

pub(super) async fn removal_of(txn: &Transaction, id: BucketId) -> Result<Option<RemovalId>> {
    let Some(value) = txn.get(&keys::removal_of(id.0), Read::Conflict).await? else {
        return Ok(None);
    };
    let bytes = <[u8; 8]>::try_from(&value[..])
        .map_err(|_| crate::codec::DecodeError::new("removal-of", "not eight bytes"))?;
    Ok(Some(RemovalId(u64::from_be_bytes(bytes))))
}

async fn not_removed(txn: &Transaction, id: BucketId) -> Result<Error> {
    match bucket::read_record(txn, id, Read::Conflict).await {
        Ok(record) => Ok(Error::syntax(format!("Bucket '{}' is not removed", record.name))),
        Err(Error::NoSuchBucket(name)) => Ok(Error::NoSuchBucket(name)),
        Err(error) => Err(error),
    }
}

async fn by_name(
    txn: &Transaction,
    namespace: NamespaceId,
    name: &str,
    latest: bool,
) -> Result<RemovalId> {
    let mut candidates: Vec<(Versionstamp, RemovalId)> = Vec::new();
    let mut next = Some(RangeRead::prefix(keys::removed_by_name_prefix(namespace, name)));
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (key, value) in &page.rows {
            let (_, _, removal) = keys::parse_removed_by_name(key)?;
            candidates.push((Versionstamp::decode(value)?, removal));
        }
        // Only the newest one needs them all; else more than are named suffice.
        next = range.after(&page).filter(|_| latest || candidates.len() <= CANDIDATES_NAMED);
    }
    candidates.sort_unstable();
    match candidates.as_slice() {
        [] => Err(match bucket::find_active(txn, namespace, name).await? {
            Some(_) => Error::syntax(format!("Bucket '{name}' is not removed")),
            None => Error::NoSuchBucket(name.to_owned()),
        }),
        [(_, only)] => Ok(*only),
        [.., (_, newest)] if latest => Ok(*newest),
        several => {
            let ids: Vec<String> = several
                .iter()
                .rev()
                .take(CANDIDATES_NAMED)
                .map(|(_, removal)| removal.to_string())
                .collect();
            Err(Error::AmbiguousRemoved(format!(
                "Bucket '{name}' was removed several times, give a removal id or LATEST: {}",
                ids.join(" ")
            )))
        }
    }
}

/// Reads all there is of a removal; `None` when it is not there. Whoever
/// decides by it reads with conflict.
///
/// # Errors
/// Those of the store; damage.
pub async fn read(txn: &Transaction, removal: RemovalId, read: Read) -> Result<Option<Removed>> {
    let Some(value) = txn.get(&keys::removal(removal), read).await? else {
        return Ok(None);
    };
    let (version, record) = record::decode_versioned::<RemovalRecord>("removal", &value)?;
    let bucket = bucket::read_record(txn, record.bucket, read).await?;
    let retention = txn.get(&keys::retention(removal), read).await?.ok_or_else(|| {
        crate::codec::DecodeError::new("retention", format!("{removal} has none"))
    })?;
    let hold = txn.get(&keys::hold(removal), read).await?;
    Ok(Some(Removed {
        removal,
        version,
        record,
        bucket,
        retention: record::decode("retention", &retention)?,
        hold: hold.map(|value| record::decode("hold", &value)).transpose()?,
    }))
}

async fn is_gone(txn: &Transaction, removal: RemovalId) -> Result<bool> {
    Ok(txn.get(&keys::grave(removal), Read::Conflict).await?.is_some()
        || txn.get(&keys::reclaim(removal), Read::Conflict).await?.is_some())
}
