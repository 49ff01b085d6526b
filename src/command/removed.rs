//! How what is removed is shown: a row of REMOVED, and the sums of a namespace.
//!
//! Not here: the commands (`lifecycle`), what they find (`crate::lifecycle::list`).

use super::lifecycle::map;
use super::namespace::policy;
use super::support::time_reply;
use super::{Reply, Result};
use crate::codec::Object;
use crate::codec::duration::format_instant;
use crate::lifecycle::list::Listed;
use crate::lifecycle::{Lifecycle, Sums};

/// What a namespace holds, as REMOVE, REMOVED and DESCRIBE show it.
pub(super) fn sums_fields(sums: Sums) -> [(&'static str, Reply); 4] {
    [
        ("buckets", Reply::from(sums.buckets)),
        ("documents", Reply::Integer(sums.documents)),
        ("bytes", Reply::Integer(sums.bytes)),
        ("incomplete", Reply::Boolean(sums.incomplete)),
    ]
}

/// `left`: how many objects may still be looked at for the sums of namespaces.
pub(super) async fn row_reply(
    lifecycle: &Lifecycle,
    row: &Listed,
    left: &mut usize,
) -> Result<Reply> {
    let (witnessed, shards) = lifecycle.witnessed(row.version).await?;
    let hold = policy::hold_reply(row.hold.as_ref(), lifecycle.catalog().now());
    let mut reply = vec![
        ("removal_id", Reply::Text(row.removal.to_string())),
        ("id", Reply::Text(row.object.to_string())),
        ("namespace", Reply::Text(row.namespace.clone())),
    ];
    let bucket = row.object.bucket();
    if bucket.is_some() {
        reply.push(("bucket", Reply::Text(row.name.clone())));
    }
    reply.extend([
        ("state", Reply::literal(if row.purging { "purging" } else { "removed" })),
        ("restorable", Reply::Boolean(!row.purging && !row.expired)),
        ("removed_at", Reply::Text(format_instant(row.removed_at))),
        ("removed_by", Reply::Text(row.removed_by.clone())),
        ("reason", Reply::text_or_null(row.reason.clone())),
        ("expires_at", time_reply(row.expires_at)),
        ("hold", hold),
        ("locked", policy::locked_reply(row.locked.as_ref())),
    ]);
    match row.object {
        Object::Bucket(_) => {
            reply.push(("documents", Reply::Integer(row.documents)));
            reply.push(("bytes", Reply::Integer(row.bytes)));
        }
        // It is being taken apart.
        Object::Namespace(_) if row.purging => {}
        Object::Namespace(id) => reply.extend(sums_fields(lifecycle.sums(id, left).await?)),
    }
    reply.extend([
        ("version", Reply::Text(row.version.to_string())),
        ("witnessed", Reply::from(witnessed)),
        ("shards", Reply::from(shards)),
    ]);
    if let Some(bucket) = bucket.filter(|_| row.purging) {
        let progress = lifecycle.reclaim_progress(bucket).await?;
        let bytes = |bytes: Option<u64>| bytes.map_or(Reply::Null, Reply::from);
        reply.push(("reclaimed_bytes", bytes(progress.returned_bytes)));
        reply.push(("pending_bytes", bytes(progress.pending_bytes)));
    }
    Ok(map(reply))
}
