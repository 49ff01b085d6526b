use std::time::Duration;

use super::*;
use crate::codec::RemovalId;
use crate::codec::duration::Retention;
use crate::document::Deletion;
use crate::document::delete::tests::{HOUR, deletion};
use crate::document::replica::{Lease, ack, register, unregister};
use crate::document::testing::{AT, World};

const TOMBSTONES: [u16; 4] =
    [keys::data::TOMBSTONE, keys::data::DELETED_BY, keys::data::EXPIRING, keys::data::WAITING];

fn hours(hours: u64) -> Deletion {
    deletion(Retention::For(Duration::from_secs(hours * 3600)))
}

impl World {
    /// Deletes so many new documents, each by a transaction of its own.
    async fn delete_some(&self, documents: u64, how: &Deletion) {
        for number in 0..documents {
            let document = self.insert(&format!("{{n: {number}}}")).await;
            self.delete(&[document], how).await;
        }
    }

    async fn register(&self, name: &str, lease: Lease) {
        let txn = self.store.begin("register");
        register(&txn, &self.home, name, None, lease, AT).await.unwrap();
        txn.commit().await.unwrap();
    }

    /// Lets a reader pass this; true if that schedules a look.
    async fn pass(&self, name: &str, version: Versionstamp, at: i64) -> bool {
        let before = self.rows(keys::data::VACUUM).await.len();
        let txn = self.store.begin("ack");
        ack(&txn, &self.home, name, Sequence::end_of(version), at).await.unwrap();
        txn.commit().await.unwrap();
        self.rows(keys::data::VACUUM).await.len() > before
    }

    /// The versions that deleted what is still kept, the earliest first.
    async fn versions(&self) -> Vec<Versionstamp> {
        let expiring = self.rows(keys::data::EXPIRING).await;
        let mut versions: Vec<_> =
            expiring.iter().map(|(_, version)| Versionstamp::decode(version).unwrap()).collect();
        let waiting = self.rows(keys::data::WAITING).await;
        versions.extend(waiting.iter().map(|(key, _)| keys::feed::parse_waiting(key).unwrap().1));
        versions.sort_unstable();
        versions
    }

    async fn reads<T>(&self, work: impl Future<Output = T>) -> (T, u64) {
        let before = self.store.stats().reads;
        let done = work.await;
        (done, self.store.stats().reads - before)
    }

    async fn expect_rows(&self, parts: [usize; 4]) {
        for (part, rows) in TOMBSTONES.into_iter().zip(parts) {
            assert_eq!(self.rows(part).await.len(), rows, "part {part}");
        }
    }
}

#[tokio::test]
async fn what_has_expired_is_purged_without_a_trace() {
    let world = World::new();
    let large = format!("{{t: '{}'}}", "x".repeat(200_000));
    for text in ["{a: 1}", large.as_str(), "{a: 2}"] {
        let document = world.insert(text).await;
        world.delete(&[document], &hours(1)).await;
    }
    world.delete_some(1, &hours(2)).await;
    world.time(AT + HOUR - 1).await;
    assert_eq!(world.vacuum(AT + HOUR - 1).await, Purged::default());
    assert_eq!(world.next_look(AT).await, Some(AT + HOUR));
    assert_eq!(world.vacuum(AT + HOUR).await, Purged { purged: 3, waiting: 0 });
    assert_eq!(world.next_look(AT + HOUR).await, Some(AT + 2 * HOUR));
    world.expect_rows([1, 1, 1, 0]).await;
    assert!(world.rows(keys::data::BODY).await.is_empty());
    assert_eq!(world.sum(keys::counted::TOMBSTONES).await, 1);
    assert_eq!(world.changes().await.iter().filter(|op| **op == ChangeOp::Purge).count(), 3);
}

/// However much waits for a reader that lags, a look reads none of it before that reader moves, and
/// then only what may go.
#[tokio::test]
async fn what_waits_for_a_reader_is_read_when_it_begins_to_wait_and_when_it_goes() {
    for (count, few) in [(3, 1), (250, 40)] {
        let world = World::new();
        world.time(AT).await;
        world.register("slow", Lease::For(100 * HOUR)).await;
        world.register("slower", Lease::For(50 * HOUR)).await;
        world.delete_some(count, &hours(1)).await;
        world.time(AT + HOUR).await;
        let all = usize::try_from(count).unwrap();
        let versions = world.versions().await;
        let pages = (count + 1).div_ceil(100);
        // Each page: the time, the readers, what waits, what has expired, and that.
        let (purged, reads) = world.reads(world.vacuum(AT + HOUR)).await;
        assert_eq!((purged, reads), (Purged { purged: 0, waiting: all }, 4 * pages + count));
        world.expect_rows([all, all, 0, all]).await;
        for _ in 0..3 {
            let (purged, reads) = world.reads(world.vacuum(AT + 2 * HOUR)).await;
            assert_eq!((purged, reads), (Purged::default(), 4), "nobody has moved");
        }
        // When both are stale, if neither says anything.
        let look = world.next_look(AT + 2 * HOUR).await;
        assert_eq!(look, Some(AT + 100 * HOUR + 1));

        // The look is scheduled by whoever passes the first; it sees that another has not.
        let last = versions[few - 1];
        assert!(world.pass("slow", last, AT + HOUR).await);
        assert_eq!(world.reads(world.vacuum(AT + 2 * HOUR)).await, (Purged::default(), 4));
        assert!(!world.pass("slow", versions[few], AT + HOUR).await, "it had passed the first");
        assert!(world.pass("slower", last, AT + 2 * HOUR).await);
        let (purged, reads) = world.reads(world.vacuum(AT + 2 * HOUR)).await;
        let gone = u64::try_from(few).unwrap();
        assert_eq!((purged, reads), (Purged { purged: few, waiting: 0 }, 4 + gone));
        world.expect_rows([all - few, all - few, 0, all - few]).await;

        // Who goes away lets go of the rest.
        let txn = world.store.begin("unregister");
        unregister(&txn, &world.home, "slower", AT + 3 * HOUR).await.unwrap();
        txn.commit().await.unwrap();
        assert_eq!(world.vacuum(AT + 3 * HOUR).await.purged, 1, "slow has passed one more");
        world.pass("slow", versions[all - 1], AT + 3 * HOUR).await;
        assert_eq!(world.vacuum(AT + 3 * HOUR).await.purged, all - few - 1);
        world.expect_rows([0, 0, 0, 0]).await;
        assert_eq!(world.sum(keys::counted::TOMBSTONES).await, 0);
        assert_eq!(world.next_look(AT + 3 * HOUR).await, None);
    }
}

#[tokio::test]
async fn the_end_of_a_lease_lets_go_of_what_waited_and_nothing_does_for_a_reader_without_one() {
    let world = World::new();
    world.time(AT).await;
    world.register("mortal", Lease::For(2 * HOUR)).await;
    world.delete_some(2, &hours(1)).await;
    world.time(AT + HOUR).await;
    assert_eq!(world.vacuum(AT + HOUR).await.waiting, 2);
    let look = world.next_look(AT + HOUR).await.unwrap();
    assert_eq!(look, AT + 2 * HOUR + 1);
    world.time(look).await;
    assert_eq!(world.vacuum(look).await.purged, 2);
    world.register("~copy", Lease::Never).await;
    world.delete_some(1, &Deletion { removal: RemovalId(4), ..hours(1) }).await;
    assert_eq!(world.vacuum(look).await.waiting, 1);
    assert_eq!(world.next_look(look).await, None, "it says when it does not need it any more");
}

/// What begins to wait at the moment at which its reader moves on is not forgotten.
#[tokio::test]
async fn of_an_ack_and_a_look_at_the_same_time_one_sees_the_other() {
    let world = World::new();
    world.time(AT).await;
    world.register("r", Lease::For(100 * HOUR)).await;
    world.delete_some(1, &hours(1)).await;
    world.time(AT + HOUR).await;
    let version = world.versions().await[0];
    let acknowledging = world.store.begin("ack");
    ack(&acknowledging, &world.home, "r", Sequence::end_of(version), AT).await.unwrap();
    assert_eq!(world.vacuum(AT + HOUR).await.waiting, 1);
    assert!(acknowledging.commit().await.is_err(), "it has not scheduled a look");
    assert!(world.pass("r", version, AT + HOUR).await);
    assert_eq!(world.vacuum(AT + HOUR).await.purged, 1);
}

#[tokio::test]
async fn what_waits_can_be_brought_back_or_lose_its_document_and_leaves_nothing() {
    for stripped in [true, false] {
        let world = World::new();
        world.time(AT).await;
        world.register("r", Lease::For(100 * HOUR)).await;
        let (id, document) = world.insert("{a: 1}").await;
        world.delete(&[(id, document.clone())], &hours(1)).await;
        world.time(AT + HOUR).await;
        assert_eq!(world.vacuum(AT + HOUR).await.waiting, 1);
        let (key, value) = world.rows(keys::data::TOMBSTONE).await.remove(0);
        let tombstone = Tombstone::decode(&key, &value).unwrap();
        let txn = world.store.begin("change");
        if stripped {
            let readers = replica::readers(&txn, &world.home).await.unwrap();
            let all = vec![tombstone];
            let done = expunge(&txn, &world.home, &readers, all, AT + HOUR).await.unwrap();
            assert_eq!(done, Purged { purged: 0, waiting: 1 });
            txn.commit().await.unwrap();
            world.expect_rows([1, 1, 0, 1]).await;
            let version = world.versions().await[0];
            world.pass("r", version, AT + HOUR).await;
            assert_eq!(world.vacuum(AT + HOUR).await.purged, 1);
        } else {
            let back = crate::document::undelete;
            back(&txn, &world.home, &tombstone, &document, AT + HOUR).await.unwrap();
            txn.commit().await.unwrap();
            assert_eq!(world.rows(keys::data::DOCUMENT).await.len(), 1);
        }
        world.expect_rows([0, 0, 0, 0]).await;
        assert_eq!(world.sum(keys::counted::TOMBSTONES).await, 0);
    }
}
