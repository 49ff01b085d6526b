//! Keys as people read them: `bucket/name/n_.../users`.

use foundationdb_tuple::{Element, unpack};

use super::duration::format_instant;
use super::keys::{self, data, due, kind};
use super::{BucketId, NamespaceId, RemovalId, Versionstamp};

/// What an element of a key is, where it is more than itself.
#[derive(Clone, Copy)]
enum As {
    Itself,
    Namespace,
    Bucket,
    Removal,
    Time,
    Due,
    DuePart,
    Guard,
    Part,
}

/// The name of a kind of key, and what its elements are.
const fn layout(kind: i64) -> Option<(&'static str, &'static [As])> {
    use As::{Bucket, Due, DuePart, Guard, Itself, Namespace, Part, Removal, Time};
    let Ok(kind) = u16_of(kind) else { return None };
    Some(match kind {
        kind::CLUSTER => ("cluster", &[]),
        kind::NEXT_ID => ("next-id", &[]),
        kind::NAMESPACE_NAME => ("namespace/name", &[Namespace, Itself]),
        kind::NAMESPACE_RECORD => ("namespace/record", &[Namespace]),
        kind::BUCKET_NAME => ("bucket/name", &[Namespace, Itself]),
        kind::BUCKET_RECORD => ("bucket/record", &[Bucket]),
        kind::FENCE => ("fence", &[Itself]),
        kind::REMOVAL => ("removal", &[Removal]),
        kind::RETENTION => ("retention", &[Removal]),
        kind::HOLD => ("hold", &[Removal]),
        kind::REMOVED_BY_NAME => ("removed-by-name", &[Namespace, Itself, Removal]),
        kind::REMOVED_BY_TIME => ("removed-by-time", &[Namespace, Itself]),
        kind::REMOVAL_OF => ("removal-of", &[Itself]),
        kind::RESERVED_NAME => ("reserved-name", &[Namespace, Itself]),
        kind::EXPIRY => ("expiry", &[Time, Due, DuePart]),
        kind::REQUEST => ("request", &[Removal]),
        kind::GRAVE => ("grave", &[Removal]),
        kind::RECLAIM => ("reclaim", &[Removal]),
        kind::INDEX_TASK => ("index-task", &[Bucket]),
        kind::INDEX_TASK_SIGNAL => ("index-task-signal", &[]),
        kind::COPY => ("copy", &[Bucket, Bucket]),
        kind::COPY_SIGNAL => ("copy-signal", &[]),
        kind::REMOVED_NAMESPACE_BY_NAME => {
            ("removed-namespace-by-name", &[Namespace, Itself, Removal])
        }
        kind::REMOVED_NAMESPACE_BY_TIME => ("removed-namespace-by-time", &[Namespace, Itself]),
        kind::RESERVED_NAMESPACE_NAME => ("reserved-namespace-name", &[Namespace, Itself]),
        kind::GUARD => ("guard", &[Guard, Namespace, Itself]),
        kind::PARKED => ("parked", &[Namespace, Time, Due, DuePart]),
        kind::DATA => ("data", &[Bucket, Part]),
        kind::JOURNAL => ("journal", &[]),
        kind::JOURNAL_HEAD => ("journal-head", &[]),
        kind::MEMBER => ("member", &[]),
        kind::BEAT => ("beat", &[]),
        kind::SEEN => ("seen", &[]),
        kind::SHARD => ("shard", &[]),
        kind::WITNESS => ("witness", &[]),
        kind::BUSY => ("busy", &[]),
        kind::BARRIER_SIGNAL => ("barrier-signal", &[]),
        kind::OBSERVER => ("observer", &[]),
        kind::CLUSTER_TIME => ("cluster-time", &[]),
        kind::PURGE_PAUSE => ("purge-pause", &[]),
        kind::REPLICA => ("replica", &[Bucket]),
        kind::MEMBERSHIP_SIGNAL => ("membership-signal", &[]),
        kind::DUE_SIGNAL => ("due-signal", &[]),
        kind::JOURNAL_MARK => ("journal-mark", &[]),
        kind::OPERATION => ("operation", &[]),
        kind::ATTEMPT => ("attempt", &[]),
        kind::AUDIT => ("audit", &[]),
        kind::USER => ("user", &[]),
        kind::USERS_SIGNAL => ("users-signal", &[]),
        _ => return None,
    })
}

/// `u16::try_from`, where it cannot be called yet.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked in front"
)]
const fn u16_of(number: i64) -> Result<u16, ()> {
    if number >= 0 && number <= u16::MAX as i64 { Ok(number as u16) } else { Err(()) }
}

/// A key in words, with ids and times in their text form. A key that is no
/// tuple, or of no known kind, is hex.
#[must_use]
pub fn key(key: &[u8]) -> String {
    if keys::parse_data(key).is_ok_and(|(_, part)| part == data::INDEX) {
        return other(key);
    }
    let Ok(elements) = unpack::<Vec<Element<'_>>>(key) else { return other(key) };
    let Some((Element::Int(kind), rest)) = elements.split_first() else { return hex(key) };
    let Some((name, forms)) = layout(*kind) else { return hex(key) };
    let mut text = name.to_owned();
    let mut before = None;
    for (place, element) in rest.iter().enumerate() {
        text.push('/');
        let form = forms.get(place).copied().unwrap_or(As::Itself);
        text.push_str(&readable(form, element, before));
        before = Some(element);
    }
    text
}

/// A key whose elements have no form of their own: numbers of bodies may need
/// all 64 bits.
fn other(key: &[u8]) -> String {
    if let Ok(entry) = keys::index::parse_entry(key) {
        let (values, id) = (hex(entry.values), hex(&entry.id));
        return format!("data/{}/index/{}/{values}/{id}", entry.bucket, entry.index);
    }
    match keys::parse_body_chunk(key) {
        Ok((bucket, body, chunk))
            if keys::parse_data(key).is_ok_and(|(_, part)| part == data::BODY) =>
        {
            format!("data/{bucket}/body/{body}/{chunk}")
        }
        _ => hex(key),
    }
}

/// `due` is the element before this one.
fn readable(form: As, element: &Element<'_>, due: Option<&Element<'_>>) -> String {
    match (form, element) {
        (As::Time, Element::Int(at)) => format_instant(*at),
        (As::Due, Element::Int(what)) => match u16_of(*what) {
            Ok(due::REMOVAL) => "removal".to_owned(),
            Ok(due::OPERATION) => "operation".to_owned(),
            Ok(due::GRAVE) => "grave".to_owned(),
            Ok(due::TRIM) => "trim".to_owned(),
            Ok(due::UNPARK) => "unpark".to_owned(),
            Ok(due::VACUUM) => "vacuum".to_owned(),
            Ok(due::TTL) => "ttl".to_owned(),
            _ => what.to_string(),
        },
        (As::DuePart, Element::Bytes(id)) => due_id(due, id),
        (As::Guard, Element::Int(what)) => match u16_of(*what) {
            Ok(keys::guard::PROTECTION) => "protection".to_owned(),
            Ok(keys::guard::HOLD) => "hold".to_owned(),
            _ => what.to_string(),
        },
        (As::Part, Element::Int(part)) => match u16_of(*part) {
            Ok(data::DOCUMENT) => "doc".to_owned(),
            Ok(data::BODY) => "body".to_owned(),
            Ok(data::CHANGE) => "change".to_owned(),
            Ok(data::COUNT) => "count".to_owned(),
            Ok(data::INDEX) => "index".to_owned(),
            Ok(data::TOMBSTONE) => "tombstone".to_owned(),
            Ok(data::DELETED_BY) => "deleted-by".to_owned(),
            Ok(data::TRIM) => "trim".to_owned(),
            Ok(data::INDEX_MARK) => "mark".to_owned(),
            Ok(data::INDEX_COUNT) => "index-count".to_owned(),
            Ok(data::INDEX_TASK) => "task".to_owned(),
            Ok(data::HISTOGRAM) => "histogram".to_owned(),
            Ok(data::EXPIRING) => "expiring".to_owned(),
            Ok(data::VACUUM) => "vacuum".to_owned(),
            Ok(data::TTL) => "ttl".to_owned(),
            Ok(data::WAITING) => "waiting".to_owned(),
            Ok(data::HEAD) => "head".to_owned(),
            Ok(data::FLOOR) => "floor".to_owned(),
            Ok(data::ORIGIN) => "origin".to_owned(),
            Ok(data::REGISTERED) => "registered".to_owned(),
            Ok(data::COPY) => "copy".to_owned(),
            _ => part.to_string(),
        },
        (_, Element::Int(number)) => match (form, u64::try_from(*number)) {
            (As::Namespace, Ok(id)) => NamespaceId(id).to_string(),
            (As::Bucket, Ok(id)) => BucketId(id).to_string(),
            (As::Removal, Ok(id)) => RemovalId(id).to_string(),
            _ => number.to_string(),
        },
        (_, Element::String(text)) => printable(text),
        (_, Element::Bytes(bytes)) => hex(bytes),
        (_, Element::Versionstamp(version)) => {
            let stamp = Versionstamp::decode(version.transaction_version());
            let stamp = stamp.map_or_else(|_| String::new(), |stamp| stamp.to_string());
            format!("{stamp}+{}", version.user_version())
        }
        (_, other) => format!("{other:?}"),
    }
}

/// The third part of an expiry key: what it points at.
fn due_id(due: Option<&Element<'_>>, id: &[u8]) -> String {
    let number = <[u8; 8]>::try_from(id).map(u64::from_be_bytes);
    match (due, number) {
        (Some(Element::Int(what)), Ok(number)) => match u16_of(*what) {
            Ok(due::TRIM | due::VACUUM | due::TTL) => BucketId(number).to_string(),
            Ok(due::UNPARK) => NamespaceId(number).to_string(),
            _ => RemovalId(number).to_string(),
        },
        // The key of an operation row.
        (Some(_), Err(_)) => key(id),
        _ => hex(id),
    }
}

/// Text without control characters, so that it stays on its line.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| {
            let escaped = letter.is_control().then(|| letter.escape_default());
            let plain = escaped.is_none().then_some(letter);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// Bytes as lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// Reads what [`hex`] wrote, in any case.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ObjectKind;

    #[test]
    fn keys_read_as_in_the_manual() {
        let namespace = NamespaceId(3);
        assert_eq!(
            key(&keys::bucket_name(namespace, "users")),
            format!("bucket/name/{namespace}/users")
        );
        let bucket = BucketId(9);
        assert_eq!(key(&keys::count(bucket, 6, 2)), format!("data/{bucket}/count/6/2"));
        assert_eq!(
            key(&keys::document(bucket, &[0xab; 12])),
            format!("data/{bucket}/doc/{}", "ab".repeat(12))
        );
        assert_eq!(
            key(&keys::expiry(0, due::REMOVAL, &7_u64.to_be_bytes())),
            format!("expiry/1970-01-01T00:00:00.000Z/removal/{}", RemovalId(7))
        );
        for body in [5, u64::MAX] {
            let text = format!("data/{bucket}/body/{body}/3");
            assert_eq!(key(&keys::body_chunk(bucket, body, 3)), text);
        }
        let operation = keys::operation("default", "\u{1}5");
        assert_eq!(
            key(&keys::expiry(0, due::OPERATION, &operation)),
            "expiry/1970-01-01T00:00:00.000Z/operation/operation/default/\\u{1}5"
        );
        assert_eq!(key(&keys::busy(4, "a", -1)), "busy/4/a/-1");
        assert_eq!(key(&keys::cluster()), "cluster");
        assert_eq!(
            key(&keys::removed_by_time(ObjectKind::Bucket, namespace, Versionstamp::new(1, 2))),
            format!("removed-by-time/{namespace}/00000000000000010002+0")
        );
    }

    #[test]
    fn what_is_no_key_of_ours_is_hex() {
        assert_eq!(key(b"\xfe\x01"), "fe01");
        assert_eq!(key(&foundationdb_tuple::pack(&(999, "x"))), "1603e7027800");
        assert_eq!(key(b""), "");
    }
}
