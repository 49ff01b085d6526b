use std::time::Duration;

use super::*;
use crate::codec::keys;
use crate::codec::record::{ClusterTimeRecord, decode_change, encode};
use crate::document::testing::{AT, World};
use crate::document::{Purged, Tombstone, get, next_look, replace, vacuum};
use crate::store::RangeRead;

pub(in crate::document) const HOUR: i64 = 3_600_000;

impl World {
    pub(crate) async fn delete(
        &self,
        documents: &[(ObjectId, Document)],
        deletion: &Deletion,
    ) -> usize {
        let txn = self.store.begin("delete");
        let deleted = delete(&txn, &self.home, documents, deletion, AT).await.unwrap();
        txn.commit().await.unwrap();
        deleted.len()
    }

    /// Lets the store say what time it is.
    pub(crate) async fn time(&self, now: i64) {
        let (suspect, pending, accepted) = (None, None, None);
        let time = ClusterTimeRecord { now, suspect, pending, accepted, doubted_ms: 0 };
        let txn = self.store.begin("time");
        txn.set(&keys::cluster_time(), &encode(&time)).unwrap();
        txn.commit().await.unwrap();
    }

    /// Destroys all that has expired.
    pub(crate) async fn vacuum(&self, now: i64) -> Purged {
        let mut all = Purged::default();
        loop {
            let txn = self.store.begin("vacuum");
            let (page, more) = vacuum(&txn, &self.home, now).await.unwrap();
            txn.commit().await.unwrap();
            all.purged += page.purged;
            all.waiting += page.waiting;
            if !more {
                return all;
            }
        }
    }

    pub(crate) async fn next_look(&self, now: i64) -> Option<i64> {
        next_look(&self.store.begin("look"), &self.home, now).await.unwrap()
    }

    async fn replace(&self, id: ObjectId, old: &Document, new: &Document) {
        let txn = self.store.begin("update");
        replace(&txn, &self.home, &id, (old, new), AT).await.unwrap();
        txn.commit().await.unwrap();
    }

    /// The rows of a part of the bucket.
    pub(crate) async fn rows(&self, part: u16) -> Vec<(bytes::Bytes, bytes::Bytes)> {
        let txn = self.store.begin("rows");
        let range = RangeRead::prefix(keys::data_part(self.home.bucket(), part));
        txn.range(range).await.unwrap().rows
    }

    pub(crate) async fn sum(&self, what: u16) -> i64 {
        let mut sum = 0;
        for (key, value) in self.rows(keys::data::COUNT).await {
            if keys::parse_count(&key).unwrap().2 == what {
                sum += i64::from_le_bytes(value[..].try_into().unwrap());
            }
        }
        sum
    }

    pub(crate) async fn changes(&self) -> Vec<ChangeOp> {
        let rows = self.rows(keys::data::CHANGE).await;
        rows.iter().map(|(_, value)| decode_change(value).unwrap().op).collect()
    }
}

pub(in crate::document) fn deletion(retention: Retention) -> Deletion {
    let by = Actor { user: "default".to_owned(), client: "127.0.0.1:1".to_owned() };
    let reason = Some("why".to_owned());
    Deletion { removal: RemovalId(3), by, reason, retention, continues: false }
}

fn an_hour() -> Deletion {
    deletion(Retention::For(Duration::from_secs(3600)))
}

#[tokio::test]
async fn a_deleted_document_becomes_a_tombstone_with_all_it_had() {
    let world = World::new();
    let large = format!("{{t: '{}'}}", "x".repeat(200_000));
    for text in ["{a: 1}", large.as_str()] {
        let (id, document) = world.insert(text).await;
        let bodies = world.rows(keys::data::BODY).await;
        assert_eq!(world.delete(&[(id, document.clone())], &an_hour()).await, 1);
        assert_eq!(world.rows(keys::data::BODY).await, bodies, "a large body does not move");
        let txn = world.store.begin("read");
        assert_eq!(get(&txn, &world.home, &id, Read::Snapshot).await.unwrap(), None);
        let key = keys::tombstone(world.home.bucket(), &id.bytes(), RemovalId(3));
        let value = txn.get(&key, Read::Snapshot).await.unwrap().unwrap();
        let tombstone = Tombstone::decode(&key, &value).unwrap();
        assert_eq!((tombstone.id, tombstone.removal), (id, RemovalId(3)));
        assert_eq!(tombstone.record.deleted_at, AT);
        assert_eq!(tombstone.record.expires_at, Some(AT + HOUR));
        assert_eq!(tombstone.record.reason.as_deref(), Some("why"));
        let kept = tombstone.stored.unwrap().load(&txn, &world.home, Read::Snapshot).await.unwrap();
        assert_eq!(kept, document);
    }
    assert_eq!(world.sum(keys::counted::DOCUMENTS).await, 0);
    assert_eq!(world.sum(keys::counted::BYTES).await, 0);
    assert_eq!(world.sum(keys::counted::TOMBSTONES).await, 2);
    assert_eq!(world.rows(keys::data::DELETED_BY).await.len(), 2);
    assert_eq!(world.rows(keys::data::EXPIRING).await.len(), 2);
    assert_eq!(world.rows(keys::data::VACUUM).await.len(), 1);
    assert_eq!(world.changes().await.iter().filter(|op| **op == ChangeOp::Delete).count(), 2);
}

#[tokio::test]
async fn without_retention_nothing_but_the_change_log_remains() {
    let world = World::new();
    let large = world.insert(&format!("{{t: '{}'}}", "x".repeat(200_000))).await;
    let small = world.insert("{a: 1}").await;
    world.time(AT).await;
    assert_eq!(world.delete(&[large, small], &deletion(Retention::For(Duration::ZERO))).await, 2);
    for part in [
        keys::data::DOCUMENT,
        keys::data::BODY,
        keys::data::TOMBSTONE,
        keys::data::DELETED_BY,
        keys::data::EXPIRING,
        keys::data::VACUUM,
    ] {
        assert!(world.rows(part).await.is_empty(), "part {part}");
    }
    assert_eq!(world.sum(keys::counted::TOMBSTONES).await, 0);
    let mut ops = world.changes().await;
    ops.sort_by_key(|op| *op as u8);
    let each = [ChangeOp::Insert, ChangeOp::Delete, ChangeOp::Purge];
    assert_eq!(ops, each.into_iter().flat_map(|op| [op, op]).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_kept_for_ever_never_comes_due() {
    let world = World::new();
    let document = world.insert("{a: 1}").await;
    world.delete(&[document], &deletion(Retention::Forever)).await;
    let rows = world.rows(keys::data::EXPIRING).await;
    assert_eq!(keys::parse_expiring(&rows[0].0).unwrap().1, keys::NEVER);
    assert!(world.rows(keys::data::VACUUM).await.is_empty());
    world.time(keys::NEVER - 2).await;
    assert_eq!(world.vacuum(keys::NEVER - 2).await, Purged::default());
    assert_eq!(world.next_look(keys::NEVER - 2).await, None);
    assert_eq!(world.rows(keys::data::TOMBSTONE).await.len(), 1);
}

#[tokio::test]
async fn a_deletion_takes_each_id_once_and_the_next_one_takes_it_again() {
    let world = World::new();
    let (id, document) = world.insert("{'_id': '6835a1c0e4b0f72a3c000001', a: 1}").await;
    world.delete(&[(id, document)], &an_hour()).await;
    let again = world.insert("{'_id': '6835a1c0e4b0f72a3c000001', a: 2}").await;
    let continued = Deletion { continues: true, ..an_hour() };
    assert_eq!(world.delete(std::slice::from_ref(&again), &continued).await, 0);
    assert_eq!(world.rows(keys::data::DOCUMENT).await.len(), 1);
    let other = Deletion { removal: RemovalId(4), ..continued };
    assert_eq!(world.delete(&[again], &other).await, 1);
    let tombstones = world.rows(keys::data::TOMBSTONE).await;
    assert_eq!(tombstones.len(), 2, "one beside the other");
}

#[tokio::test]
async fn a_replaced_document_leaves_nothing_of_its_old_body() {
    let world = World::new();
    let text = |letter: &str, size: usize| {
        format!("{{'_id': '6835a1c0e4b0f72a3c000001', t: '{}'}}", letter.repeat(size))
    };
    let (id, mut old) = world.insert(&text("a", 10)).await;
    for (letter, size) in [("b", 300_000), ("c", 100_000), ("d", 5), ("e", 6), ("f", 90_001)] {
        let new = world.document(&text(letter, size));
        world.replace(id, &old, new.document()).await;
        let txn = world.store.begin("read");
        let read = get(&txn, &world.home, &id, Read::Snapshot).await.unwrap().unwrap();
        assert_eq!(&read, new.document());
        let pieces = new.document().bytes().len().div_ceil(90_000);
        let expected = if pieces == 1 { 0 } else { pieces };
        assert_eq!(world.rows(keys::data::BODY).await.len(), expected, "{size}");
        let bytes = i64::try_from(new.document().bytes().len()).unwrap();
        assert_eq!(world.sum(keys::counted::BYTES).await, bytes);
        old = new.document().clone();
    }
    assert_eq!(world.sum(keys::counted::DOCUMENTS).await, 1);
    assert_eq!(world.changes().await.iter().filter(|op| **op == ChangeOp::Update).count(), 5);
}

#[tokio::test]
async fn a_change_by_somebody_else_fails_the_commit() {
    for size in [10, 200_000] {
        let world = World::new();
        let text = |letter: &str| {
            format!("{{'_id': '6835a1c0e4b0f72a3c000001', t: '{}'}}", letter.repeat(size))
        };
        let (id, old) = world.insert(&text("a")).await;
        let new = world.document(&text("b"));
        let (update, removal) = (world.store.begin("update"), world.store.begin("delete"));
        // Who writes has read before; that is when its snapshot was taken.
        update.read_version().await.unwrap();
        removal.read_version().await.unwrap();
        let documents = [(id, old.clone())];
        replace(&update, &world.home, &id, (&old, new.document()), AT).await.unwrap();
        delete(&removal, &world.home, &documents, &an_hour(), AT).await.unwrap();
        world.replace(id, &old, new.document()).await;
        assert!(update.commit().await.is_err());
        assert!(removal.commit().await.is_err());
    }
}
