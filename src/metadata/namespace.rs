//! Namespaces: a tree whose nodes are found segment by segment.
//!
//! Functions here work inside a transaction of the caller's and neither retry
//! nor commit.

use crate::codec::record::{self, NamespaceRecord, State};
use crate::codec::{NamespaceId, Versionstamp, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Transaction};

use super::name::Path;

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
pub(super) fn parse_object_id(what: &'static str, value: &[u8]) -> Result<u64> {
    let bytes = <[u8; 8]>::try_from(value)
        .map_err(|_| crate::codec::DecodeError::new(what, "not eight bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Finds a namespace by its path.
///
/// # Errors
/// `NOSUCHNAMESPACE` with the whole path.
pub async fn resolve(txn: &Transaction, path: &Path, read: Read) -> Result<Resolved> {
    let mut chain = Vec::new();
    let mut parent = NamespaceId::ROOT;
    for segment in path.segments() {
        let Some(value) = txn.get(&keys::namespace_name(parent, segment), read).await? else {
            return Err(Error::NoSuchNamespace(path.to_string()));
        };
        parent = parse_id(&value)?;
        chain.push(parent);
    }
    Ok(Resolved { path: path.clone(), chain })
}

/// Creates a namespace and what is missing above it; all of them are full
/// namespaces. `ids` gives the ids for the new ones, one for each segment at
/// most, and `now` their time of creation.
///
/// # Errors
/// `NAMESPACEALREADYEXISTS` when the whole path exists.
pub async fn create(txn: &Transaction, path: &Path, ids: &[u64], now: i64) -> Result<()> {
    let mut parent = NamespaceId::ROOT;
    let mut ids = ids.iter();
    let mut created = false;
    for segment in path.segments() {
        let key = keys::namespace_name(parent, segment);
        // Nothing can exist below a namespace made in this very transaction.
        let found = if created { None } else { txn.get(&key, Read::Conflict).await? };
        parent = if let Some(value) = found {
            let id = parse_id(&value)?;
            txn.add_read_conflict_key(&keys::fence(id.0))?;
            id
        } else {
            let id = NamespaceId(
                *ids.next().ok_or_else(|| Error::Internal("too few ids for a path".to_owned()))?,
            );
            if created {
                txn.add_read_conflict_key(&key)?;
            }
            let record = NamespaceRecord {
                parent,
                segment: segment.to_owned(),
                state: State::Active,
                created_at: now,
            };
            txn.set(&key, &id.0.to_be_bytes())?;
            txn.set(&keys::namespace_record(id), &record::encode(&record))?;
            txn.set_versionstamped_value(&keys::fence(id.0), &Versionstamp::placeholder())?;
            created = true;
            id
        };
    }
    if created { Ok(()) } else { Err(Error::NamespaceAlreadyExists(path.to_string())) }
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

/// The path of a namespace and all ids from the topmost to itself, from the
/// records upwards. Works for removed ones too.
///
/// # Errors
/// `Damaged` when a record is missing or the chain does not end.
pub async fn path_of(txn: &Transaction, id: NamespaceId, read: Read) -> Result<Resolved> {
    let mut chain = Vec::new();
    let mut segments = Vec::new();
    let mut current = id;
    while current != NamespaceId::ROOT {
        if chain.len() > super::name::DEPTH_MAX {
            return Err(Error::Internal(format!("namespace {id} has no end of ancestors")));
        }
        let value = txn
            .get(&keys::namespace_record(current), read)
            .await?
            .ok_or_else(|| Error::NoSuchNamespace(current.to_string()))?;
        let record: NamespaceRecord = record::decode("namespace/record", &value)?;
        chain.push(current);
        segments.push(record.segment);
        current = record.parent;
    }
    chain.reverse();
    segments.reverse();
    Ok(Resolved { path: Path::parse(segments.join(".").as_bytes())?, chain })
}
