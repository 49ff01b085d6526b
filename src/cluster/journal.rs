//! The journal: metadata events in commit order.
//!
//! An event lies under `journal/<versionstamp>`, and `journal-head` is
//! rewritten with it, so that one watch tells every follower. Both are written
//! blindly: events conflict with nothing.

use super::errors::Result;
use crate::codec::record::{self, Event};
use crate::codec::{Versionstamp, keys};
use crate::store::{RangeRead, Transaction};

/// Most events that a follower takes at a time.
pub const PAGE_EVENTS: usize = 1_000;

/// Adds an event to the transaction. `order` tells several events of one
/// transaction apart: 0, 1 and so on.
///
/// # Errors
/// Those of the store.
pub fn append(txn: &Transaction, order: u16, event: &Event) -> Result<()> {
    txn.set_versionstamped_key(&keys::journal_now(order), &record::encode(event))?;
    txn.set_versionstamped_value(&keys::journal_head(), &Versionstamp::placeholder())?;
    Ok(())
}

/// Events behind a version, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub events: Vec<(Versionstamp, Event)>,
    /// There are more, behind the last of these.
    pub more: bool,
}

/// Reads events behind `after`, by snapshot. A batch never ends between two
/// events of one commit.
///
/// # Errors
/// Those of the store; an event that does not decode is an error, never skipped.
pub async fn read_after(txn: &Transaction, after: Versionstamp, limit: usize) -> Result<Batch> {
    let (_, end) = keys::range(&keys::kind_prefix(keys::kind::JOURNAL));
    let mut range = RangeRead::new(keys::journal_after(after), end).limit(limit).snapshot();
    let mut events: Vec<(Versionstamp, Event)> = Vec::new();
    loop {
        let page = txn.range(range.clone()).await?;
        for (key, value) in &page.rows {
            events.push((keys::parse_journal(key)?, record::decode("journal", value)?));
        }
        let Some(next) = range.after(&page) else { return Ok(Batch { events, more: false }) };
        // Of the last version there may be more events: it is left for the next batch.
        if let Some((last, _)) = events.last().cloned() {
            let whole = events.partition_point(|(version, _)| *version < last);
            if whole > 0 {
                events.truncate(whole);
                return Ok(Batch { events, more: true });
            }
        }
        // All of one commit: read on.
        range = next;
    }
}

/// How many events lie behind a version, counted up to `limit`.
///
/// # Errors
/// Those of the store.
pub async fn count_after(txn: &Transaction, after: Versionstamp, limit: usize) -> Result<usize> {
    let (_, end) = keys::range(&keys::kind_prefix(keys::kind::JOURNAL));
    let range = RangeRead::new(keys::journal_after(after), end).limit(limit).snapshot();
    Ok(txn.range(range).await?.rows.len())
}

/// Clears all events up to and including a version.
///
/// # Errors
/// Those of the store.
pub fn trim(txn: &Transaction, up_to: Versionstamp) -> Result<()> {
    let (begin, _) = keys::range(&keys::kind_prefix(keys::kind::JOURNAL));
    txn.clear_range(&begin, &keys::journal_after(up_to))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::record::EventKind;
    use crate::store::{Read, Store};

    fn event(object: u64) -> Event {
        Event { kind: EventKind::Removed, object, removal: None }
    }

    async fn write(store: &Store, objects: &[u64]) -> Versionstamp {
        let txn = store.begin("write");
        for (order, object) in (0..).zip(objects) {
            append(&txn, order, &event(*object)).unwrap();
        }
        txn.commit().await.unwrap().versionstamp.unwrap()
    }

    async fn objects(store: &Store, after: Versionstamp, limit: usize) -> (Vec<u64>, bool) {
        let batch = read_after(&store.begin("read"), after, limit).await.unwrap();
        (batch.events.iter().map(|(_, event)| event.object).collect(), batch.more)
    }

    #[tokio::test(start_paused = true)]
    async fn events_come_in_commit_order_behind_a_version() {
        let store = Store::memory();
        let first = write(&store, &[1, 2]).await;
        let second = write(&store, &[3]).await;
        assert_eq!(objects(&store, Versionstamp::MIN, 10).await, (vec![1, 2, 3], false));
        assert_eq!(objects(&store, first, 10).await, (vec![3], false));
        assert_eq!(objects(&store, second, 10).await, (vec![], false));
        let head = store.begin("head").get(&keys::journal_head(), Read::Snapshot).await.unwrap();
        assert_eq!(Versionstamp::decode(&head.unwrap()), Ok(second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_never_ends_within_a_commit() {
        let store = Store::memory();
        let first = write(&store, &[1]).await;
        write(&store, &[2, 3, 4]).await;
        write(&store, &[5]).await;
        assert_eq!(objects(&store, Versionstamp::MIN, 3).await, (vec![1], true));
        assert_eq!(objects(&store, first, 2).await, (vec![2, 3, 4], true));
    }

    #[tokio::test(start_paused = true)]
    async fn trimming_leaves_what_is_newer() {
        let store = Store::memory();
        let first = write(&store, &[1, 2]).await;
        write(&store, &[3]).await;
        let txn = store.begin("trim");
        trim(&txn, first).unwrap();
        txn.commit().await.unwrap();
        assert_eq!(objects(&store, Versionstamp::MIN, 10).await, (vec![3], false));
        assert_eq!(count_after(&store.begin("count"), Versionstamp::MIN, 10).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn appending_conflicts_with_nothing() {
        let store = Store::memory();
        let (one, two) = (store.begin("one"), store.begin("two"));
        append(&one, 0, &event(1)).unwrap();
        append(&two, 0, &event(2)).unwrap();
        assert!(one.read_conflicts().is_empty());
        one.commit().await.unwrap();
        two.commit().await.unwrap();
        assert_eq!(objects(&store, Versionstamp::MIN, 10).await, (vec![1, 2], false));
    }
}
