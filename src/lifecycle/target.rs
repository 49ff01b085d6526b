//! What a lifecycle command is about: a name, an instance id, or a removal id.

use std::fmt;

use crate::access::Place;
use crate::codec::record::{
    self, BucketRecord, GraveRecord, HoldRecord, NamespaceRecord, ReclaimRecord, RemovalRecord,
    RetentionRecord, State,
};
use crate::codec::{BucketId, NamespaceId, Object, ObjectKind, RemovalId, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::metadata::namespace::{self, Lineage};
use crate::metadata::policy::FOREVER;
use crate::metadata::{Path, bucket, name};
use crate::store::{RangeRead, Read, Transaction};

use super::remove::Rows;

/// Most candidates that an `AMBIGUOUSREMOVED` error names.
const CANDIDATES_NAMED: usize = 10;
/// So long something that was removed on its own is kept after a namespace above it was restored.
pub const CHILD_GRACE_MS: i64 = 3_600_000;

/// A target as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A bucket of the session's namespace.
    Name(String),
    Instance(BucketId),
    /// A removal of a bucket.
    Removal(RemovalId),
    Namespace(Path),
    NamespaceInstance(NamespaceId),
    /// A removal of a namespace.
    NamespaceRemoval(RemovalId),
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
        expect_no_id(text)?;
        Ok(Self::Name(name::bucket(raw)?.to_owned()))
    }

    /// As [`Target::parse`], for a namespace.
    ///
    /// # Errors
    /// An illegal path, or a mistyped id.
    pub fn parse_namespace(raw: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(raw).unwrap_or_default();
        if let Some(id) = NamespaceId::parse(text) {
            return Ok(Self::NamespaceInstance(id));
        }
        if let Some(id) = RemovalId::parse(text) {
            return Ok(Self::NamespaceRemoval(id));
        }
        expect_no_id(text)?;
        Ok(Self::Namespace(Path::parse(raw)?))
    }

    /// As [`Target::parse`], where the id of a namespace may stand as well.
    ///
    /// # Errors
    /// As [`Target::parse`].
    pub fn parse_either(raw: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(raw).unwrap_or_default();
        NamespaceId::parse(text)
            .map_or_else(|| Self::parse(raw), |id| Ok(Self::NamespaceInstance(id)))
    }

    /// What kind of object it is about.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Self::Name(_) | Self::Instance(_) | Self::Removal(_) => ObjectKind::Bucket,
            Self::Namespace(_) | Self::NamespaceInstance(_) | Self::NamespaceRemoval(_) => {
                ObjectKind::Namespace
            }
        }
    }
}

impl Target {
    /// The namespace and the bucket that an audit row names, as far as the words tell.
    #[must_use]
    pub fn place<'a>(&'a self, here: &'a Path) -> (&'a Path, String) {
        match self {
            Self::Namespace(path) => (path, String::new()),
            other => (here, other.to_string()),
        }
    }
}

fn expect_no_id(text: &str) -> Result<()> {
    if crate::codec::id::has_form_of_id(text) {
        // A mistyped or foreign id names nothing.
        return Err(Error::NoSuchRemoval(text.to_owned()));
    }
    Ok(())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Instance(id) => id.fmt(f),
            Self::Removal(id) | Self::NamespaceRemoval(id) => id.fmt(f),
            Self::Namespace(path) => path.fmt(f),
            Self::NamespaceInstance(id) => id.fmt(f),
        }
    }
}

/// The record of a removed instance.
#[derive(Debug, Clone)]
pub enum Instance {
    Bucket(BucketRecord),
    Namespace(NamespaceRecord),
}

/// A removed instance, read with conflict.
#[derive(Debug, Clone)]
pub struct Removed {
    pub removal: RemovalId,
    /// The version of the removing commit: what the barrier waits for.
    pub version: Versionstamp,
    pub record: RemovalRecord,
    pub instance: Instance,
    /// The namespace that it was removed from, and all above: active or removed.
    pub above: Lineage,
    pub retention: RetentionRecord,
    pub hold: Option<HoldRecord>,
}

impl Removed {
    #[must_use]
    pub const fn object(&self) -> Object {
        self.record.object
    }

    /// Its name as messages have it: a bucket's own, a namespace's whole path.
    #[must_use]
    pub fn title(&self) -> String {
        match self.record.object {
            Object::Bucket(_) => self.record.name.clone(),
            Object::Namespace(_) => self.above.path_of(&self.record.name),
        }
    }

    /// The namespace and the bucket as listings and audit rows have them: of a
    /// namespace its own path, and no bucket.
    #[must_use]
    pub fn place(&self) -> (String, &str) {
        match self.record.object {
            Object::Bucket(_) => (self.above.path(), &self.record.name),
            Object::Namespace(_) => (self.above.path_of(&self.record.name), ""),
        }
    }

    /// Where rights to it are judged.
    pub(super) fn judged_at(&self) -> Place {
        match self.record.object {
            Object::Bucket(_) => Place::Namespace(self.above.path()),
            Object::Namespace(_) => Place::Tree(self.title()),
        }
    }

    /// Until when it can be restored. After something above it was restored there is a
    /// grace, so that nothing is lost in the very moment in which it could be seen again.
    #[must_use]
    pub fn expires_at(&self) -> Option<i64> {
        let expires_at = self.retention.expires_at?;
        let since = self.retention.set_at.unwrap_or(self.record.removed_at);
        let restored = self.above.restored_at().filter(|at| *at >= since);
        let grace = restored.map(|at| at.saturating_add(CHILD_GRACE_MS));
        // A minimum that was set later counts as well.
        let least = self.promise().at_least_until;
        Some(expires_at).max(grace).max(least).filter(|at| *at != FOREVER)
    }

    /// Whether it has expired. While something above it is removed it waits.
    #[must_use]
    pub fn is_expired(&self, now: i64) -> bool {
        self.above.removed().is_none() && self.expires_at().is_some_and(|at| at <= now)
    }

    /// The rows of its removal.
    pub(super) fn rows(&self) -> Rows<'_> {
        Rows { removal: self.removal, record: &self.record, expires_at: self.retention.expires_at }
    }
}

/// The path of the namespace that an id leads to, or that holds what it leads to: also of what
/// is removed or was purged. `None` for a name, and for an id that leads nowhere, which is found
/// out by as much reading.
///
/// # Errors
/// Those of the store.
pub async fn namespace_of(
    txn: &Transaction,
    target: &Target,
    usual: &Path,
) -> Result<Option<String>> {
    let object = match target {
        Target::Instance(id) => Some(Object::Bucket(*id)),
        Target::NamespaceInstance(id) => Some(Object::Namespace(*id)),
        Target::Removal(removal) | Target::NamespaceRemoval(removal) => {
            match txn.get(&keys::removal(*removal), Read::Snapshot).await? {
                Some(value) => {
                    let (_, row): (_, RemovalRecord) = record::decode_versioned("removal", &value)?;
                    Some(row.object)
                }
                None => match txn.get(&keys::grave(*removal), Read::Snapshot).await? {
                    Some(value) => {
                        let grave: GraveRecord = record::decode("grave", &value)?;
                        return Ok(Some(match grave.object {
                            Object::Namespace(_) if grave.namespace_path.is_empty() => grave.name,
                            Object::Namespace(_) => {
                                format!("{}.{}", grave.namespace_path, grave.name)
                            }
                            Object::Bucket(_) => grave.namespace_path,
                        }));
                    }
                    None => None,
                },
            }
        }
        Target::Name(_) | Target::Namespace(_) => None,
    };
    let namespace = match object {
        Some(Object::Namespace(id)) => Some(id),
        Some(Object::Bucket(id)) => match bucket::read_record(txn, id, Read::Snapshot).await {
            Ok(record) => Some(record.namespace),
            Err(Error::NoSuchBucket(_)) => None,
            Err(error) => return Err(error),
        },
        None => None,
    };
    if let Some(id) = namespace {
        match namespace::lineage(txn, id, Read::Snapshot).await {
            Ok(lineage) => return Ok(Some(lineage.path())),
            Err(Error::NoSuchNamespace(_)) => {}
            Err(error) => return Err(error),
        }
    }
    // Nothing: as much is read as where there is something.
    let usual = namespace::resolve(txn, usual, Read::Snapshot).await?.id();
    namespace::lineage(txn, usual, Read::Snapshot).await?;
    Ok(None)
}

/// What a target turned out to be.
#[derive(Debug, Clone)]
pub enum Resolved {
    Removed(Box<Removed>),
    /// Purging, or purged and remembered by its grave.
    Gone(RemovalId),
}

/// Finds the removed instance that a target means; a bucket's name is looked up in
/// `here`.
///
/// A name means a removed instance of that name, also while an active one has
/// the name; several are `AMBIGUOUSREMOVED` unless `latest` is set.
///
/// # Errors
/// `ERR Bucket 'x' is not removed`, `NOSUCHBUCKET`, `NOSUCHREMOVAL`,
/// `AMBIGUOUSREMOVED`, `NOSUCHNAMESPACE`, `NAMESPACEBEINGREMOVED`.
pub async fn resolve(
    txn: &Transaction,
    here: &Path,
    target: &Target,
    latest: bool,
) -> Result<Resolved> {
    let instance = |object: Object| async move {
        match removal_of(txn, object.number()).await? {
            Some(removal) => Ok(removal),
            None => Err(not_removed(txn, object).await?),
        }
    };
    let removal = match target {
        Target::Removal(removal) | Target::NamespaceRemoval(removal) => *removal,
        Target::Instance(id) => instance((*id).into()).await?,
        Target::NamespaceInstance(id) => instance((*id).into()).await?,
        Target::Name(name) => {
            let parent = namespace::resolve(txn, here, Read::Conflict).await?.id();
            by_name(txn, parent, name, target, latest).await?
        }
        Target::Namespace(path) => {
            let above = namespace::resolve_above(txn, path, Read::Conflict).await?;
            let parent = above.last().copied().unwrap_or(NamespaceId::ROOT);
            by_name(txn, parent, path.last(), target, latest).await?
        }
    };
    let kind = target.kind();
    let unknown = || match target {
        Target::Instance(id) => Error::NoSuchBucket(id.to_string()),
        Target::NamespaceInstance(id) => Error::NoSuchNamespace(id.to_string()),
        _ => Error::NoSuchRemoval(target.to_string()),
    };
    match read(txn, removal, Read::Conflict).await? {
        Some(removed) if removed.object().kind() == kind => {
            Ok(Resolved::Removed(Box::new(removed)))
        }
        None if gone(txn, removal).await? == Some(kind) => Ok(Resolved::Gone(removal)),
        Some(_) | None => Err(unknown()),
    }
}

/// As [`resolve`], for commands that can do nothing with what is purging.
///
/// # Errors
/// As [`resolve`], and `ALREADYPURGING`.
pub async fn resolve_removed(
    txn: &Transaction,
    here: &Path,
    target: &Target,
    latest: bool,
) -> Result<Removed> {
    match resolve(txn, here, target, latest).await? {
        Resolved::Removed(removed) => Ok(*removed),
        Resolved::Gone(removal) => {
            Err(Error::AlreadyPurging(format!("Removal '{removal}' is already purging or purged")))
        }
    }
}

/// The namespace that a target means, active or removed, for listing what is in it.
///
/// # Errors
/// As [`resolve`].
pub async fn namespace(txn: &Transaction, target: &Target) -> Result<Lineage> {
    let id = match target {
        Target::Namespace(path) => namespace::resolve(txn, path, Read::Snapshot).await?.id(),
        Target::NamespaceInstance(id) => *id,
        Target::NamespaceRemoval(removal) => match read(txn, *removal, Read::Snapshot).await? {
            Some(Removed {
                record: RemovalRecord { object: Object::Namespace(id), .. }, ..
            }) => id,
            _ => return Err(Error::NoSuchRemoval(removal.to_string())),
        },
        other => return Err(Error::NoSuchNamespace(other.to_string())),
    };
    namespace::lineage(txn, id, Read::Snapshot).await
}

/// The removal in which an object is.
///
/// # Errors
/// Those of the store; damage.
pub(super) async fn removal_of(txn: &Transaction, object: u64) -> Result<Option<RemovalId>> {
    let Some(value) = txn.get(&keys::removal_of(object), Read::Conflict).await? else {
        return Ok(None);
    };
    let bytes = <[u8; 8]>::try_from(&value[..])
        .map_err(|_| crate::codec::DecodeError::new("removal-of", "not eight bytes"))?;
    Ok(Some(RemovalId(u64::from_be_bytes(bytes))))
}

/// The error of a command on something removed that is not.
pub(super) fn is_not_removed(kind: ObjectKind, title: &str) -> Error {
    Error::syntax(format!("{} '{title}' is not removed", kind.title()))
}

/// Why an object is in no removal: it is active, or gone together with what is above it.
async fn not_removed(txn: &Transaction, object: Object) -> Result<Error> {
    let found = match object {
        Object::Bucket(id) => match bucket::read_record(txn, id, Read::Conflict).await {
            Ok(record) => {
                let above = namespace::lineage(txn, record.namespace, Read::Conflict).await;
                // What is above it is removed, and it with that.
                above.and_then(|above| above.expect_active()).map(|()| record.name)
            }
            Err(error) => Err(error),
        },
        Object::Namespace(id) => {
            namespace::lineage(txn, id, Read::Conflict).await.map(|lineage| lineage.path())
        }
    };
    match found {
        Ok(title) => Ok(is_not_removed(object.kind(), &title)),
        Err(Error::NoSuchBucket(_) | Error::NoSuchNamespace(_)) => Ok(match object {
            Object::Bucket(id) => Error::NoSuchBucket(id.to_string()),
            Object::Namespace(id) => Error::NoSuchNamespace(id.to_string()),
        }),
        Err(error) => Err(error),
    }
}

async fn by_name(
    txn: &Transaction,
    parent: NamespaceId,
    name: &str,
    target: &Target,
    latest: bool,
) -> Result<RemovalId> {
    let kind = target.kind();
    let mut candidates: Vec<(Versionstamp, RemovalId)> = Vec::new();
    let mut next = Some(RangeRead::prefix(keys::removed_by_name_prefix(kind, parent, name)));
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
        [] => Err(nothing_removed(txn, parent, name, target).await?),
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
                "{} '{target}' was removed several times, give a removal id or LATEST: {}",
                kind.title(),
                ids.join(" ")
            )))
        }
    }
}

/// Why nothing removed has a name: something active has it, or nothing.
async fn nothing_removed(
    txn: &Transaction,
    parent: NamespaceId,
    name: &str,
    target: &Target,
) -> Result<Error> {
    let pointer = match target.kind() {
        ObjectKind::Bucket => keys::bucket_name(parent, name),
        ObjectKind::Namespace => keys::namespace_name(parent, name),
    };
    Ok(match (txn.get(&pointer, Read::Conflict).await?, target.kind()) {
        (Some(_), kind) => is_not_removed(kind, &target.to_string()),
        (None, ObjectKind::Bucket) => Error::NoSuchBucket(name.to_owned()),
        (None, ObjectKind::Namespace) => Error::NoSuchNamespace(target.to_string()),
    })
}

/// Reads all there is of a removal; `None` when it is not there, also when something
/// above it was purged and it goes with that. Whoever decides by it reads with conflict.
///
/// # Errors
/// Those of the store; damage.
pub async fn read(txn: &Transaction, removal: RemovalId, read: Read) -> Result<Option<Removed>> {
    let Some(value) = txn.get(&keys::removal(removal), read).await? else {
        return Ok(None);
    };
    let (version, record) = record::decode_versioned::<RemovalRecord>("removal", &value)?;
    let above = match namespace::lineage(txn, record.namespace, read).await {
        Err(Error::NoSuchNamespace(_)) => return Ok(None),
        above => above?,
    };
    let instance = match record.object {
        Object::Bucket(id) => Instance::Bucket(bucket::read_record(txn, id, read).await?),
        Object::Namespace(id) => Instance::Namespace(namespace::read_record(txn, id, read).await?),
    };
    let retention = txn.get(&keys::retention(removal), read).await?.ok_or_else(|| {
        crate::codec::DecodeError::new("retention", format!("{removal} has none"))
    })?;
    let hold = txn.get(&keys::hold(removal), read).await?;
    Ok(Some(Removed {
        removal,
        version,
        record,
        instance,
        above,
        retention: record::decode("retention", &retention)?,
        hold: hold.map(|value| record::decode("hold", &value)).transpose()?,
    }))
}

/// The removed namespaces of a lineage, the topmost first, read with conflict.
///
/// # Errors
/// Those of the store; damage.
pub(super) async fn removed_above(txn: &Transaction, above: &Lineage) -> Result<Vec<Removed>> {
    let mut found = Vec::new();
    for (id, _) in above.chain.iter().filter(|(_, record)| record.state == State::Removed) {
        let removal = removal_of(txn, id.0).await?;
        let removed = match removal {
            Some(removal) => read(txn, removal, Read::Conflict).await?,
            None => None,
        };
        found.push(removed.ok_or_else(|| {
            crate::codec::DecodeError::new("removal-of", format!("{id} is removed and has none"))
        })?);
    }
    Ok(found)
}

/// What kind of object a removal was of, when it is purging or purged, on its own or with
/// something above it.
async fn gone(txn: &Transaction, removal: RemovalId) -> Result<Option<ObjectKind>> {
    if let Some(value) = txn.get(&keys::grave(removal), Read::Conflict).await? {
        return Ok(Some(record::decode::<GraveRecord>("grave", &value)?.object.kind()));
    }
    let job = txn.get(&keys::reclaim(removal), Read::Conflict).await?;
    if let Some(value) = job {
        return Ok(Some(record::decode::<ReclaimRecord>("reclaim", &value)?.object.kind()));
    }
    // It is there and could not be read: what was above it is gone, and nobody has come
    // to it yet.
    let waits = txn.get(&keys::removal(removal), Read::Conflict).await?;
    let waits = waits.map(|row| record::decode_versioned::<RemovalRecord>("removal", &row));
    Ok(waits.transpose()?.map(|(_, record)| record.object.kind()))
}
