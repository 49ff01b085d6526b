//! Namespaces: a tree whose nodes are found segment by segment.
//!
//! Functions here work inside a transaction of the caller's and neither retry
//! nor commit.

use crate::cluster::journal;
use crate::codec::record::{self, Event, EventKind, NamespaceRecord, State};
use crate::codec::{NamespaceId, ObjectKind, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Transaction};

use super::audit::{self, Entry};
use super::name::{DEPTH_MAX, Path};
use super::operation::Caller;
use super::{bucket, guard};

/// A namespace as a transaction found it: itself and everything above it.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub path: Path,
    /// From the topmost namespace to this one; never empty.
    pub chain: Vec<NamespaceId>,
}

impl Resolved {
    /// The namespace itself.
    #[must_use]
    pub fn id(&self) -> NamespaceId {
        self.chain.last().copied().unwrap_or(NamespaceId::ROOT)
    }

    /// Lets the transaction conflict with everything that would take away the
    /// namespace or one above it: protocol.md, rules 1 and 5.
    ///
    /// # Errors
    /// Those of the store.
    pub fn conflict_on_fences(&self, txn: &Transaction) -> Result<()> {
        for id in &self.chain {
            txn.add_read_conflict_key(&keys::fence(id.0))?;
        }
        Ok(())
    }
}

fn parse_id(value: &[u8]) -> Result<NamespaceId> {
    Ok(NamespaceId(parse_object_id("namespace/name", value)?))
}

/// The id that a name pointer holds: eight bytes, big-endian.
pub(crate) fn parse_object_id(what: &'static str, value: &[u8]) -> Result<u64> {
    let bytes = <[u8; 8]>::try_from(value)
        .map_err(|_| crate::codec::DecodeError::new(what, "not eight bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Finds an active namespace by its path.
///
/// # Errors
/// `NAMESPACEBEINGREMOVED` with the first one on the path that is removed, else
/// `NOSUCHNAMESPACE` with the whole path.
pub async fn resolve(txn: &Transaction, path: &Path, read: Read) -> Result<Resolved> {
    let mut chain = Vec::new();
    let mut parent = NamespaceId::ROOT;
    for segment in path.segments() {
        let Some(value) = txn.get(&keys::namespace_name(parent, segment), read).await? else {
            return Err(missing(txn, parent, path, chain.len()).await?);
        };
        parent = parse_id(&value)?;
        chain.push(parent);
    }
    Ok(Resolved { path: path.clone(), chain })
}

/// What lies above a path: the ids from the topmost down to its parent, none of a
/// topmost one.
///
/// # Errors
/// As [`resolve`], with the whole path.
pub async fn resolve_above(txn: &Transaction, path: &Path, read: Read) -> Result<Vec<NamespaceId>> {
    let Some(parent) = path.parent() else { return Ok(Vec::new()) };
    match resolve(txn, &parent, read).await {
        Ok(found) => Ok(found.chain),
        Err(Error::NoSuchNamespace(_)) => Err(Error::NoSuchNamespace(path.to_string())),
        Err(error) => Err(error),
    }
}

/// Why no active namespace has the name at this depth of a path.
async fn missing(
    txn: &Transaction,
    parent: NamespaceId,
    path: &Path,
    depth: usize,
) -> Result<Error> {
    let here = path.first(depth + 1);
    let prefix = keys::removed_by_name_prefix(ObjectKind::Namespace, parent, here.last());
    let page = txn.range(RangeRead::prefix(prefix).limit(1).snapshot()).await?;
    Ok(if page.rows.is_empty() {
        Error::NoSuchNamespace(path.to_string())
    } else {
        Error::NamespaceBeingRemoved(here.to_string())
    })
}

/// Creates a namespace and what is missing above it; all of them are full
/// namespaces. `ids` gives the ids for the new ones, one for each segment at
/// most, and `now` their time of creation.
///
/// # Errors
/// `NAMESPACEALREADYEXISTS` when the whole path exists, `NAMESPACEBEINGREMOVED` below
/// a removed one or where a removal keeps the name taken.
pub async fn create(txn: &Transaction, path: &Path, ids: &[u64], now: i64) -> Result<()> {
    let mut ids = ids.iter();
    let mut above = Vec::new();
    if let Some(parent) = path.parent() {
        above = make_all(txn, &parent, &mut ids, now).await?;
    }
    let parent = above.last().map_or(NamespaceId::ROOT, |(id, _)| *id);
    if above.last().is_none_or(|(_, made)| !made) {
        expect_free(txn, parent, path).await?;
    } else {
        txn.add_read_conflict_key(&keys::namespace_name(parent, path.last()))?;
    }
    make(txn, parent, path.last(), next(&mut ids)?, now)
}

/// Makes what is missing of a path; gives all ids from the topmost down, and whether
/// each was made just now.
///
/// # Errors
/// As [`create`].
pub async fn make_all(
    txn: &Transaction,
    path: &Path,
    ids: &mut std::slice::Iter<'_, u64>,
    now: i64,
) -> Result<Vec<(NamespaceId, bool)>> {
    let mut chain: Vec<(NamespaceId, bool)> = Vec::new();
    for segment in path.segments() {
        let (parent, made) = chain.last().copied().unwrap_or((NamespaceId::ROOT, false));
        let key = keys::namespace_name(parent, segment);
        // Nothing can exist below a namespace made in this very transaction.
        let found = if made { None } else { txn.get(&key, Read::Conflict).await? };
        if let Some(value) = found {
            let id = parse_id(&value)?;
            txn.add_read_conflict_key(&keys::fence(id.0))?;
            chain.push((id, false));
            continue;
        }
        if made {
            txn.add_read_conflict_key(&key)?;
        } else if let removed @ Error::NamespaceBeingRemoved(_) =
            missing(txn, parent, path, chain.len()).await?
        {
            // Whoever means something below a removed namespace does not mean a new one.
            return Err(removed);
        }
        let id = next(ids)?;
        make(txn, parent, segment, id, now)?;
        chain.push((id, true));
    }
    Ok(chain)
}

fn next(ids: &mut std::slice::Iter<'_, u64>) -> Result<NamespaceId> {
    let id = ids.next().ok_or_else(|| Error::Internal("too few ids for a path".to_owned()))?;
    Ok(NamespaceId(*id))
}

fn make(
    txn: &Transaction,
    parent: NamespaceId,
    segment: &str,
    id: NamespaceId,
    now: i64,
) -> Result<()> {
    let record = NamespaceRecord::new(parent, segment, now);
    txn.set(&keys::namespace_name(parent, segment), &id.0.to_be_bytes())?;
    txn.set(&keys::namespace_record(id), &record::encode(&record))?;
    txn.set_versionstamped_value(&keys::fence(id.0), &Versionstamp::placeholder())?;
    Ok(())
}

/// Refuses a path that an active namespace has or that a removal keeps taken.
///
/// # Errors
/// `NAMESPACEALREADYEXISTS`, or `NAMESPACEBEINGREMOVED` when reserved.
pub async fn expect_free(txn: &Transaction, parent: NamespaceId, path: &Path) -> Result<()> {
    if txn.get(&keys::namespace_name(parent, path.last()), Read::Conflict).await?.is_some() {
        return Err(Error::NamespaceAlreadyExists(path.to_string()));
    }
    let reserved = keys::reserved_name(ObjectKind::Namespace, parent, path.last());
    if txn.get(&reserved, Read::Conflict).await?.is_some() {
        return Err(Error::NamespaceBeingRemoved(path.to_string()));
    }
    Ok(())
}

/// Sets or lifts the protection against REMOVE.
///
/// # Errors
/// `NOSUCHNAMESPACE`, `NAMESPACEBEINGREMOVED`.
pub async fn protect(
    txn: &Transaction,
    caller: &Caller,
    path: &Path,
    protected: bool,
    now: i64,
) -> Result<()> {
    let found = resolve(txn, path, Read::Conflict).await?;
    found.conflict_on_fences(txn)?;
    let id = found.id();
    let mut above = lineage(txn, id, Read::Conflict).await?;
    let Some((_, mut record)) = above.chain.pop().filter(|(_, is)| is.protected != protected)
    else {
        return Ok(());
    };
    record.protected = protected;
    txn.set(&keys::namespace_record(id), &record::encode(&record))?;
    let to = above.ids();
    guard::carry(txn, guard::PROTECTION, id, protected, &above, &to).await?;
    bucket::invalidate(txn, id.0)?;
    journal::append(txn, 0, &Event { kind: EventKind::Changed, object: id.0, removal: None })?;
    let entry = Entry {
        action: if protected { "protect" } else { "unprotect" },
        namespace: path.as_str(),
        bucket: "",
        id: Some(id.into()),
        removal: None,
        reason: None,
    };
    audit::append(txn, 0, &caller.actor, now, &entry, "OK", 1)
}

/// One page of the direct children of a namespace: their segments, in byte
/// order, behind `after` if given, and whether there are more.
///
/// # Errors
/// Those of the store.
pub async fn children(
    txn: &Transaction,
    parent: NamespaceId,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<String>, bool)> {
    let (begin, end) = keys::range(&keys::namespace_name_prefix(parent));
    let begin = after.map_or(begin, |name| keys::next(&keys::namespace_name(parent, name)));
    let page = txn.range(RangeRead::new(begin, end).limit(limit).snapshot()).await?;
    let names = page
        .rows
        .iter()
        .map(|(key, _)| Ok(keys::parse_namespace_name(key)?.1))
        .collect::<Result<Vec<_>>>()?;
    Ok((names, page.more))
}

/// The record of a namespace, active or removed.
///
/// # Errors
/// `NOSUCHNAMESPACE` with the id when there is none.
pub async fn read_record(
    txn: &Transaction,
    id: NamespaceId,
    read: Read,
) -> Result<NamespaceRecord> {
    let value = txn
        .get(&keys::namespace_record(id), read)
        .await?
        .ok_or_else(|| Error::NoSuchNamespace(id.to_string()))?;
    Ok(record::decode("namespace/record", &value)?)
}

/// A namespace and all above it, by their records: also where one of them is removed.
/// Of [`NamespaceId::ROOT`] there is none.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// From the topmost one down.
    pub chain: Vec<(NamespaceId, NamespaceRecord)>,
}

impl Lineage {
    /// The lowest of them.
    #[must_use]
    pub fn id(&self) -> NamespaceId {
        self.chain.last().map_or(NamespaceId::ROOT, |(id, _)| *id)
    }

    #[must_use]
    pub fn ids(&self) -> Vec<NamespaceId> {
        self.chain.iter().map(|(id, _)| *id).collect()
    }

    /// Its path; empty of the root.
    #[must_use]
    pub fn path(&self) -> String {
        join(&self.chain)
    }

    /// The path of something of this name in it.
    #[must_use]
    pub fn path_of(&self, name: &str) -> String {
        if self.chain.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path()) }
    }

    /// The first from the top that is removed, by its path.
    #[must_use]
    pub fn removed(&self) -> Option<(NamespaceId, String)> {
        let (at, (id, _)) = (self.chain.iter().enumerate())
            .find(|(_, (_, record))| record.state == State::Removed)?;
        Some((*id, join(self.chain.get(..=at).unwrap_or_default())))
    }

    /// # Errors
    /// `NAMESPACEBEINGREMOVED` with the first from the top that is removed.
    pub fn expect_active(&self) -> Result<()> {
        match self.removed() {
            Some((_, path)) => Err(Error::NamespaceBeingRemoved(path)),
            None => Ok(()),
        }
    }

    /// By how much the clock of what lies in it is behind cluster time, as long as all of
    /// them are active.
    #[must_use]
    pub fn stood_still_ms(&self) -> i64 {
        self.chain.iter().map(|(_, record)| record.stood_still_ms).sum()
    }

    /// When any of them was last restored.
    #[must_use]
    pub fn restored_at(&self) -> Option<i64> {
        self.chain.iter().filter_map(|(_, record)| record.restored_at).max()
    }

    /// As [`Resolved::conflict_on_fences`].
    ///
    /// # Errors
    /// Those of the store.
    pub fn conflict_on_fences(&self, txn: &Transaction) -> Result<()> {
        for (id, _) in &self.chain {
            txn.add_read_conflict_key(&keys::fence(id.0))?;
        }
        Ok(())
    }
}

fn join(chain: &[(NamespaceId, NamespaceRecord)]) -> String {
    let segments: Vec<&str> = chain.iter().map(|(_, record)| record.segment.as_str()).collect();
    segments.join(".")
}

/// A namespace and all above it, from the records upwards.
///
/// # Errors
/// `NOSUCHNAMESPACE` with the id of the one that has no record: it was purged. An error
/// of ours when the chain does not end.
pub async fn lineage(txn: &Transaction, id: NamespaceId, read: Read) -> Result<Lineage> {
    let mut chain = Vec::new();
    let mut current = id;
    while current != NamespaceId::ROOT {
        if chain.len() > DEPTH_MAX {
            return Err(Error::Internal(format!("namespace {id} has no end of ancestors")));
        }
        let record = read_record(txn, current, read).await?;
        let parent = record.parent;
        chain.push((current, record));
        current = parent;
    }
    chain.reverse();
    Ok(Lineage { chain })
}

/// The path of an active namespace and all ids from the topmost to itself.
///
/// # Errors
/// As [`lineage`], and `NAMESPACEBEINGREMOVED`.
pub async fn path_of(txn: &Transaction, id: NamespaceId, read: Read) -> Result<Resolved> {
    let lineage = lineage(txn, id, read).await?;
    lineage.expect_active()?;
    Ok(Resolved { path: Path::parse(lineage.path().as_bytes())?, chain: lineage.ids() })
}
