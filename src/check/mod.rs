//! The check: every key of a store against the rule of its kind.
//!
//! [`page`] walks the key space. The rows of a part are looked at in the
//! transaction that reads them, together with every row that they speak of, so
//! all of it is one snapshot. What seems wrong is looked at again in a
//! transaction of its own and reported only if it is still so. A scan of a
//! running node therefore reports nothing that is merely under way. It reads
//! by snapshot and writes nothing, so it makes no commit fail.
//!
//! # The rules
//!
//! | kind | what must hold |
//! |---|---|
//! | the whole store | if anything is there: `cluster`, `cluster-time`, `next-id`, a `shard` and a `witness` for each shard, `journal-head` if there is an event |
//! | all of them | keys and values decode; versions lie behind some commit; ids below `next-id`; kinds and parts are known |
//! | `namespace/name` | its record is active and has this parent and name |
//! | `namespace/record` | a fence; a way up to the root, at most 10 long, or to a namespace that was purged and is being taken apart; active or removed: as for a bucket; protected, or active with a policy that binds: a `guard` row at its parent |
//! | `bucket/name` | its record is active and has this namespace and name |
//! | `bucket/record` | its namespace has a record, or was purged and is being taken apart; protected: a `guard` row there; shards of the cluster; a fence; active: its name points at it and it is in no removal; removed: no name points at it, `removal-of` leads to its removal; its counters are exact; of a copy: `data/.../copy`, and unless it has failed `copy`, and `replica` for its source |
//! | `fence` | a bucket or a namespace of this number |
//! | `removal` | its bucket or namespace is removed and has this name; `removal-of`, `removed-by-name`, both `removed-by-time`, `retention`, and `reserved-name` where reserved, are there and say the same; an `expiry` row unless held, kept for ever, parked or going with what is above it; held, or promised a time: a `guard` row above; no grave and no reclaim job |
//! | `retention`, `hold`, `request` | a removal |
//! | `removed-by-name`, `reserved-name` | a removal that says the same; no active bucket of a reserved name |
//! | `removed-by-time` | a removal or a reclaim job that says the same |
//! | `guard` | a child that is protected, on hold, bound by its policy or promised a time, or has such a row below; a row at the parent |
//! | `parked` | a namespace that is removed, or an `expiry` row that puts it back |
//! | `removal-of` | a removal or a grave of this object |
//! | `expiry` | what it points at is there and due at this time; no removal on hold |
//! | `grave` | an `expiry` row; `removal-of` leads to it; neither record nor fence of its object |
//! | `reclaim` | both `removed-by-time` rows; neither record nor fence of its object |
//! | `data/<bucket>` | a record, or a reclaim job whose prefix is not dropped yet: one finding for a whole prefix |
//! | `data/.../doc` | valid BSON whose `_id` is that of the key; in pieces: all are there, none is behind the last, and length and checksum are right |
//! | `data/.../body` | a document or a tombstone refers to it |
//! | `data/.../count` | exactly the documents, bytes and tombstones of its shard |
//! | `data/.../tombstone` | its `deleted-by` row, and its `expiring` or its `waiting` row; its document, unless it was destroyed, as for `doc` |
//! | `data/.../waiting` | a tombstone that says so; a reader of the change log, or a `vacuum` row |
//! | `data/.../registered` | a version that can be |
//! | `data/.../deleted-by`, `expiring` | a tombstone that says the same; a `vacuum` row in this bucket for what expires, unless it is a copy |
//! | `data/.../change`, `count`, `head` | shards of the bucket |
//! | `data/.../change` | the first of a shard: `head` of that shard |
//! | `data/.../head` | no change of its shard is newer |
//! | `replica` | a bucket, and its `registered`; a checkpoint that is not below `floor`, unless it is stale; inside the cluster: a copy that reads |
//! | `data/.../index` | its document is there and has these values; of an index that has failed there is none (a warning) |
//! | `data/.../doc` | all its entries and marks in every index that is ready |
//! | `data/.../mark`, `histogram` | an index of the bucket |
//! | `data/.../index-count` | exactly the entries of its shard |
//! | `data/.../task` | an index of the bucket; open: an `index-task` row |
//! | `copy` | a copy of this bucket |
//! | `data/.../copy` | a bucket that is a copy; a position for each of its shards |
//! | `index-task` | an index of a bucket, and an open task of it |
//! | `data/.../trim`, `vacuum` | an `expiry` row, unless the bucket is removed, or it is parked |
//! | `data/.../ttl` | the same; a TTL of its bucket, which in turn has one |
//! | `journal-head` | the version of the last event |
//! | `member` | `seen` and `beat`; their rows without a member are a warning |
//! | `shard`, `witness` | a shard of the cluster; an owner that is a member while there are members, else a warning |
//! | `busy` | its object has a fence; of a dead incarnation it is a warning after ten minutes |
//! | `attempt` | of a dead incarnation it is a warning |
//! | `operation` | an `expiry` row |
//! | `user` | a legal name, known rights, passwords as argon2id writes them; `users-signal` |
//!
//! # Large buckets
//!
//! The page that has a bucket's record reads all of the bucket's documents, and
//! once more for every 10,000 bodies. Counters are compared in one snapshot if
//! the documents can be read in one, which lives for five seconds. Of a larger
//! bucket a shard is compared only if nothing was written to it during a whole
//! pass, of which there are four: a shard that is never quiet for so long is
//! not compared, and nothing says so. `totals` has the details.
//!
//! # Invariants
//!
//! * A healthy store gives no finding, whatever state it is in and whatever its
//!   nodes are doing.
//! * Memory is bounded by the page, not by the store.
//!
//! Not here: damage below the key space, which the engine reports when it reads
//! (`store`); mending.

mod cluster;
mod copies;
mod data;
mod feed;
mod finding;
mod guards;
mod indexes;
mod look;
mod names;
mod queue;
mod removals;
mod scan;
mod totals;
mod users;

pub use finding::{Finding, Kind, Severity};
pub use scan::{Page, page};

use crate::store::{Result, Store};

/// Keys of a page when nobody says otherwise.
pub const PAGE_KEYS: usize = 1_000;

/// Scans a whole store and gives all findings: for tests and small stores,
/// since the list has no bound.
///
/// # Errors
/// Those of the store that do not go away.
pub async fn all(store: &Store) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut from = None;
    loop {
        let page = page(store, from.as_deref(), PAGE_KEYS).await?;
        findings.extend(page.findings);
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(findings),
        }
    }
}
