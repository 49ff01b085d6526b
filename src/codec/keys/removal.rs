//! Keys that list removals, and those that speak for what lies below a namespace.
//!
//! Buckets and namespaces have names of their own kinds, so a bucket and a
//! namespace of one name never meet.

use foundationdb_tuple::Versionstamp as TupleVersionstamp;

use super::{decode, from_tuple, kind, kind_of, pack, stamp, stamped};
use crate::codec::{DecodeError, NamespaceId, ObjectKind, RemovalId, Versionstamp};

const fn by_name(of: ObjectKind) -> u16 {
    match of {
        ObjectKind::Bucket => kind::REMOVED_BY_NAME,
        ObjectKind::Namespace => kind::REMOVED_NAMESPACE_BY_NAME,
    }
}

const fn by_time(of: ObjectKind) -> u16 {
    match of {
        ObjectKind::Bucket => kind::REMOVED_BY_TIME,
        ObjectKind::Namespace => kind::REMOVED_NAMESPACE_BY_TIME,
    }
}

const fn reserved(of: ObjectKind) -> u16 {
    match of {
        ObjectKind::Bucket => kind::RESERVED_NAME,
        ObjectKind::Namespace => kind::RESERVED_NAMESPACE_NAME,
    }
}

/// Of which kind of object a key of this module speaks.
///
/// # Errors
/// When the key is of no such kind.
pub fn object_kind_of(key: &[u8]) -> Result<ObjectKind, DecodeError> {
    match kind_of(key)? {
        kind::REMOVED_BY_NAME | kind::REMOVED_BY_TIME | kind::RESERVED_NAME => {
            Ok(ObjectKind::Bucket)
        }
        kind::REMOVED_NAMESPACE_BY_NAME
        | kind::REMOVED_NAMESPACE_BY_TIME
        | kind::RESERVED_NAMESPACE_NAME => Ok(ObjectKind::Namespace),
        _ => Err(DecodeError::new("key", "it lists no removal")),
    }
}

/// `removed-by-name/<namespace>/<name>/<removal>`, and the same of namespaces.
#[must_use]
pub fn removed_by_name(
    of: ObjectKind,
    namespace: NamespaceId,
    name: &str,
    id: RemovalId,
) -> Vec<u8> {
    pack(&(by_name(of), namespace.0, name, id.0))
}

/// The removed instances of one name, in the order of their removal ids.
#[must_use]
pub fn removed_by_name_prefix(of: ObjectKind, namespace: NamespaceId, name: &str) -> Vec<u8> {
    pack(&(by_name(of), namespace.0, name))
}

/// The removed instances directly in a namespace, by name.
#[must_use]
pub fn removed_in_namespace_prefix(of: ObjectKind, namespace: NamespaceId) -> Vec<u8> {
    pack(&(by_name(of), namespace.0))
}

/// # Errors
/// When the key is no `removed-by-name` key.
pub fn parse_removed_by_name(key: &[u8]) -> Result<(NamespaceId, String, RemovalId), DecodeError> {
    let (_, namespace, name, id): (u16, u64, String, u64) = decode("removed-by-name", key)?;
    Ok((NamespaceId(namespace), name, RemovalId(id)))
}

/// `removed-by-time/<namespace>/<version>` -> removal id, with the version of
/// the writing commit, for `set_versionstamped_key`.
#[must_use]
pub fn removed_by_time_now(of: ObjectKind, namespace: NamespaceId) -> Vec<u8> {
    stamped(&(by_time(of), namespace.0, TupleVersionstamp::incomplete(0)))
}

/// `removed-by-time/<namespace>/<version>` -> removal id.
#[must_use]
pub fn removed_by_time(of: ObjectKind, namespace: NamespaceId, version: Versionstamp) -> Vec<u8> {
    pack(&(by_time(of), namespace.0, stamp(version)))
}

/// The removals of a namespace, oldest first.
#[must_use]
pub fn removed_by_time_prefix(of: ObjectKind, namespace: NamespaceId) -> Vec<u8> {
    pack(&(by_time(of), namespace.0))
}

/// # Errors
/// When the key is no `removed-by-time` key.
pub fn parse_removed_by_time(key: &[u8]) -> Result<(NamespaceId, Versionstamp), DecodeError> {
    let (_, namespace, version): (u16, u64, TupleVersionstamp) = decode("removed-by-time", key)?;
    Ok((NamespaceId(namespace), from_tuple(&version)?))
}

/// Where a removal is listed by time: in its namespace, and with all of them.
#[must_use = "it only says where"]
pub fn lists_of(namespace: NamespaceId) -> impl Iterator<Item = NamespaceId> {
    let own = Some(namespace).filter(|id| *id != NamespaceId::ROOT);
    own.into_iter().chain([NamespaceId::ROOT])
}

/// `reserved-name/<namespace>/<name>` -> the removal that keeps the name taken.
#[must_use]
pub fn reserved_name(of: ObjectKind, namespace: NamespaceId, name: &str) -> Vec<u8> {
    pack(&(reserved(of), namespace.0, name))
}

/// # Errors
/// When the key is no `reserved-name` key.
pub fn parse_reserved_name(key: &[u8]) -> Result<(NamespaceId, String), DecodeError> {
    let (_, namespace, name): (u16, u64, String) = decode("reserved-name", key)?;
    Ok((NamespaceId(namespace), name))
}

/// What a guard row stands for.
pub mod guard {
    /// A protected object: what is above it cannot be removed.
    pub const PROTECTION: u16 = 1;
    /// A removal on hold: what is above it cannot be purged.
    pub const HOLD: u16 = 2;
    /// An active namespace whose policy binds: what is above it cannot be removed.
    pub const POLICY: u16 = 3;
    /// A removal that was promised a time: what is above it cannot be purged before.
    pub const LOCK: u16 = 4;
}

/// `guard/<what>/<namespace>/<child>`: the child, or something below it, is guarded.
/// The child is the number of a bucket or a namespace directly in the namespace.
#[must_use]
pub fn guard(what: u16, namespace: NamespaceId, child: u64) -> Vec<u8> {
    pack(&(kind::GUARD, what, namespace.0, child))
}

/// The children of a namespace that are guarded or have something below that is.
#[must_use]
pub fn guard_prefix(what: u16, namespace: NamespaceId) -> Vec<u8> {
    pack(&(kind::GUARD, what, namespace.0))
}

/// # Errors
/// When the key is no `guard` key.
pub fn parse_guard(key: &[u8]) -> Result<(u16, NamespaceId, u64), DecodeError> {
    let (_, what, namespace, child): (u16, u16, u64, u64) = decode("guard", key)?;
    Ok((what, NamespaceId(namespace), child))
}

/// `parked/<namespace>/<time>/<what>/<id>`: an `expiry` row that waits until the
/// namespace, which is removed, is active again.
#[must_use]
pub fn parked(namespace: NamespaceId, at: i64, what: u16, id: &[u8]) -> Vec<u8> {
    pack(&(kind::PARKED, namespace.0, at, what, id))
}

/// All that waits for one namespace.
#[must_use]
pub fn parked_prefix(namespace: NamespaceId) -> Vec<u8> {
    pack(&(kind::PARKED, namespace.0))
}

/// # Errors
/// When the key is no `parked` key.
pub fn parse_parked(key: &[u8]) -> Result<(NamespaceId, i64, u16, Vec<u8>), DecodeError> {
    let (_, namespace, at, what, id): (u16, u64, i64, u16, Vec<u8>) = decode("parked", key)?;
    Ok((NamespaceId(namespace), at, what, id))
}
