//! Commits: hands an intent to the client in one go.
//!
//! The client transaction is a new one, so that reads that are still under way keep theirs, and so that the whole
//! timeout is there for the commit. At the read version of the snapshot it is the same transaction to FoundationDB.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::foundationdb::Transaction;
use ::foundationdb::options::{ConflictRangeType, MutationType};
use tokio::time::Instant;

use super::super::conflicts::ConflictSet;
use super::super::overlay::{Entry, Overlay};
use super::super::sequencer::{Intent, count};
use super::super::types::{Atomic, Committed, key_after};
use super::keys::Prefix;
use super::{Error, FoundationDb, Result, errors};
use crate::codec::Versionstamp;

pub(in super::super) async fn commit(
    engine: &Arc<FoundationDb>,
    read_version: Option<u64>,
    mut intent: Intent,
) -> Result<Committed> {
    let watches = std::mem::take(&mut intent.watches);
    let began = Instant::now();
    match try_commit(engine, read_version, &intent).await {
        Ok(committed) => {
            // It may have gone in a batch with others; the client does not say.
            engine.counters().batch(1, bytes(&intent.overlay), began.elapsed());
            engine.arm(watches, Some(committed.version));
            Ok(committed)
        }
        Err(error) => {
            if matches!(error, Error::Conflict) {
                engine.counters().conflicts.fetch_add(1, Ordering::Relaxed);
            }
            for arming in watches {
                arming.fail(&error);
            }
            Err(error)
        }
    }
}

async fn try_commit(
    engine: &FoundationDb,
    read_version: Option<u64>,
    intent: &Intent,
) -> Result<Committed> {
    let transaction = engine.transaction()?;
    match read_version.and_then(|version| i64::try_from(version).ok()) {
        Some(version) if !intent.reads.is_empty() => transaction.set_read_version(version),
        // The commit would ask for one anyway. Asked for here, its absence is certain to have changed nothing.
        _ => {
            engine.read_version(&transaction).await?;
        }
    }
    fill(&transaction, engine.prefix(), intent)?;
    // To be asked for before the commit, answered after it.
    let versionstamp = transaction.get_versionstamp();
    transaction.commit().await.map_err(|error| errors::of_commit(*error))?;
    // It has landed: from here on an error would only say that its version is not known.
    let versionstamp = versionstamp.await.map_err(|_| Error::CommitUnknown)?;
    let versionstamp = Versionstamp::decode(&versionstamp).map_err(|_| Error::CommitUnknown)?;
    let version = versionstamp.version();
    engine.saw(i64::try_from(version).unwrap_or_default());
    Ok(Committed { version, versionstamp: Some(versionstamp) })
}

fn fill(transaction: &Transaction, prefix: &Prefix, intent: &Intent) -> Result<()> {
    let Intent { overlay, reads, extra_writes, .. } = intent;
    conflicts(transaction, prefix, reads, || ConflictRangeType::Read)?;
    conflicts(transaction, prefix, extra_writes, || ConflictRangeType::Write)?;
    write(transaction, prefix, overlay);
    Ok(())
}

fn conflicts(
    transaction: &Transaction,
    prefix: &Prefix,
    set: &ConflictSet,
    kind: fn() -> ConflictRangeType,
) -> Result<()> {
    let add = |begin: &[u8], end: &[u8]| {
        transaction.add_conflict_range(begin, end, kind()).map_err(errors::of_read)
    };
    for key in &set.points {
        let key = prefix.full(key);
        add(&key, &key_after(&key))?;
    }
    for (begin, end) in &set.ranges {
        add(&prefix.full(begin), &prefix.full(end))?;
    }
    Ok(())
}

/// In the order in which they take effect: cleared ranges, then versionstamped keys with the clears that came after
/// them, then single keys, which are those written last.
fn write(transaction: &Transaction, prefix: &Prefix, overlay: &Overlay) {
    let clear_range = |begin: &[u8], end: &[u8]| {
        transaction.clear_range(&prefix.full(begin), &prefix.full(end));
    };
    for (begin, end) in overlay.cleared() {
        clear_range(begin, end);
    }
    for stamped in overlay.stamped() {
        let form = stamped.key.form(prefix.len(), |template| prefix.full(template));
        transaction.atomic_op(&form, &stamped.value, MutationType::SetVersionstampedKey);
        for (begin, end) in stamped.cleared.iter() {
            clear_range(begin, end);
        }
    }
    for (key, entry) in overlay.entries() {
        let key = prefix.full(key);
        match entry {
            Entry::Value(Some(value)) => transaction.set(&key, value),
            Entry::Value(None) => transaction.clear(&key),
            Entry::Changes(changes) => {
                for (op, operand) in changes {
                    transaction.atomic_op(&key, operand, mutation(*op));
                }
            }
            Entry::Stamped(value) => {
                let form = value.form(0, <[u8]>::to_vec);
                transaction.atomic_op(&key, &form, MutationType::SetVersionstampedValue);
            }
        }
    }
    if overlay.touched() {
        transaction.update_metadata_version();
    }
}

/// Bytes of keys and values that are written.
fn bytes(overlay: &Overlay) -> u64 {
    let value = |entry: &Entry| match entry {
        Entry::Value(value) => value.as_ref().map_or(0, bytes::Bytes::len),
        Entry::Changes(changes) => changes.iter().map(|(_, operand)| operand.len()).sum(),
        Entry::Stamped(value) => value.len(),
    };
    let single = overlay.entries().map(|(key, entry)| key.len() + value(entry));
    let stamped = overlay.stamped().map(|stamped| stamped.key.len() + stamped.value.len());
    count(single.sum::<usize>() + stamped.sum::<usize>())
}

fn mutation(op: Atomic) -> MutationType {
    match op {
        Atomic::Add => MutationType::Add,
        Atomic::Min => MutationType::Min,
        Atomic::Max => MutationType::Max,
        Atomic::ByteMin => MutationType::ByteMin,
        Atomic::ByteMax => MutationType::ByteMax,
    }
}
