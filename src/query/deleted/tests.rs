use std::time::Duration;

use super::*;
use crate::codec::duration::Retention;
use crate::codec::record::Actor;
use crate::document::testing::{AT, World};
use crate::document::{Deletion, delete, undelete};
use crate::query::{Limits as FilterLimits, parse};

const HOUR: i64 = 3_600_000;

impl World {
    /// Inserts a document and deletes it again.
    async fn deleted(&self, text: &str, removal: u64, retention: Duration) -> ObjectId {
        let batch = [self.insert(text).await];
        let deletion = Deletion {
            removal: RemovalId(removal),
            by: Actor { user: format!("user{removal}"), client: String::new() },
            reason: (removal == 2).then(|| "why".to_owned()),
            retention: Retention::For(retention),
            continues: false,
        };
        let txn = self.store.begin("delete");
        delete(&txn, &self.home, &batch, &deletion, AT).await.unwrap();
        txn.commit().await.unwrap();
        batch[0].0
    }

    /// All that are found, in batches of `limit`: the `n` of each, and its removal.
    async fn found(&self, search: &Deleted, limit: usize, clock: i64) -> Vec<(i32, u64)> {
        let budget = &Budget::default();
        let (mut found, mut from) = (Vec::new(), DeletedPosition::Start);
        while from != DeletedPosition::End {
            let txn = self.store.begin("search");
            let looking = Looking { limit, read: Read::Snapshot, budget, clock };
            let batch = deleted(&txn, &self.home, search, &from, looking).await.unwrap();
            assert!(batch.found.len() <= limit);
            for one in &batch.found {
                let document = if let Some(document) = &one.document {
                    document.clone()
                } else {
                    let stored = one.tombstone.stored.clone().unwrap();
                    stored.load(&txn, &self.home, Read::Snapshot).await.unwrap()
                };
                let Some(Value::Int32(n)) = document.raw().get(b"n").map(|n| n.value()) else {
                    panic!("a document without n")
                };
                found.push((n, one.tombstone.removal.0));
            }
            from = batch.next;
        }
        found
    }
}

fn search(filter: &str, removal: Option<u64>, wanted: Wanted) -> Deleted {
    let filter = parse(&filter.to_owned().into(), &FilterLimits::default()).unwrap();
    Deleted::new(filter, removal.map(RemovalId), Collate::Bucket, wanted)
}

const ONE: &str = "6835a1c0e4b0f72a3c000001";
const TWO: &str = "6835a1c0e4b0f72a3c000002";

/// Three generations of one `_id`, the last of which was left by the removal with the lowest
/// number, and one of another.
async fn world() -> World {
    let world = World::new();
    let day = Duration::from_secs(86_400);
    world.deleted(&format!("{{'_id': '{ONE}', n: 1, name: 'a'}}"), 2, day).await;
    world.deleted(&format!("{{'_id': '{ONE}', n: 2, name: 'b'}}"), 3, day).await;
    world.deleted(&format!("{{'_id': '{ONE}', n: 3, name: 'a'}}"), 1, day).await;
    let large = format!("{{'_id': '{TWO}', n: 4, name: '{}'}}", "x".repeat(200_000));
    world.deleted(&large, 2, Duration::from_secs(3_600)).await;
    world
}

async fn check(filter: &str, removal: Option<u64>, wanted: Wanted, expected: &[(i32, u64)]) {
    let world = world().await;
    let search = search(filter, removal, wanted);
    for limit in [1, 2, 100] {
        assert_eq!(world.found(&search, limit, AT).await, expected, "{filter} {limit}");
    }
}

#[tokio::test]
async fn deleted_documents_come_in_the_order_of_ids_and_removals() {
    check("{}", None, Wanted::Each, &[(3, 1), (1, 2), (2, 3), (4, 2)]).await;
    check("{}", Some(2), Wanted::Each, &[(1, 2), (4, 2)]).await;
    check("{}", Some(9), Wanted::Each, &[]).await;
}

#[tokio::test]
async fn the_last_of_each_id_is_the_last_by_commit_among_those_that_match() {
    check("{}", None, Wanted::Newest, &[(3, 1), (4, 2)]).await;
    check("{name: 'b'}", None, Wanted::Newest, &[(2, 3)]).await;
    check("{name: 'a'}", None, Wanted::Newest, &[(3, 1)]).await;
    check("{}", Some(3), Wanted::Newest, &[(2, 3)]).await;
    check("{'@removal_id': {$ne: 'x'}, name: 'a'}", Some(2), Wanted::Newest, &[(1, 2)]).await;
}

#[tokio::test]
async fn conditions_on_ids_narrow_down_what_is_looked_at_and_change_no_answer() {
    let one = format!("{{'_id': '{ONE}'}}");
    check(&one, None, Wanted::Each, &[(3, 1), (1, 2), (2, 3)]).await;
    check(&one, Some(2), Wanted::Each, &[(1, 2)]).await;
    let both = format!("{{'_id': {{$in: ['{TWO}', '{ONE}']}}}}");
    check(&both, None, Wanted::Each, &[(3, 1), (1, 2), (2, 3), (4, 2)]).await;
    check(&format!("{{'_id': {{$gt: '{ONE}'}}}}"), None, Wanted::Each, &[(4, 2)]).await;
    let until = format!("{{'_id': {{$lte: '{ONE}'}}, n: {{$gte: 2}}}}");
    check(&until, None, Wanted::Each, &[(3, 1), (2, 3)]).await;
    check(&format!("{{'_id': {{$lt: '{ONE}'}}}}"), None, Wanted::Each, &[]).await;
    check(&format!("{{'_id': {{$gt: '{ONE}'}}}}"), Some(2), Wanted::Each, &[(4, 2)]).await;
    check(&format!("{{'_id': {{$lte: '{ONE}'}}}}"), Some(2), Wanted::Each, &[(1, 2)]).await;
}

#[tokio::test]
async fn a_filter_can_ask_who_deleted_when_and_why() {
    check("{'@deleted_by': 'user3'}", None, Wanted::Each, &[(2, 3)]).await;
    check("{'@reason': 'why', n: {$lt: 3}}", None, Wanted::Each, &[(1, 2)]).await;
    let removal = RemovalId(1);
    let of_removal = format!("{{$or: [{{'@removal_id': '{removal}'}}]}}");
    check(&of_removal, None, Wanted::Each, &[(3, 1)]).await;
    let later = "{'@deleted_at': {$gt: {$date: '2030-01-01T00:00:00Z'}}}";
    check(later, None, Wanted::Each, &[]).await;
    let soon = "{'@expires_at': {$lt: {$date: '2023-11-15T00:00:00Z'}}}";
    check(soon, None, Wanted::Each, &[(4, 2)]).await;
}

#[tokio::test]
async fn a_document_cannot_pass_off_a_field_of_its_own_as_one_of_the_deletion() {
    let world = World::new();
    let day = Duration::from_secs(86_400);
    world.deleted("{n: 1, '@deleted_by': 'somebody'}", 3, day).await;
    let as_if = search("{'@deleted_by': 'somebody'}", None, Wanted::Each);
    assert_eq!(world.found(&as_if, 9, AT).await, []);
    let truly = search("{'@deleted_by': 'user3'}", None, Wanted::Each);
    assert_eq!(world.found(&truly, 9, AT).await, [(1, 3)]);
}

#[tokio::test]
async fn what_has_expired_is_found_only_as_a_row() {
    let world = world().await;
    let (each, rows) = (search("{}", None, Wanted::Each), search("{}", None, Wanted::Rows));
    assert_eq!(world.found(&each, 9, AT + HOUR - 1).await.len(), 4);
    assert_eq!(world.found(&each, 9, AT + HOUR).await.len(), 3);
    assert_eq!(world.found(&rows, 9, AT + HOUR).await.len(), 4);
    let filtered = search("{n: 4}", None, Wanted::Rows);
    assert_eq!(world.found(&filtered, 9, AT + HOUR).await, [(4, 2)]);
}

#[tokio::test]
async fn a_batch_ends_when_it_has_looked_at_enough_and_goes_on_there() {
    let world = world().await;
    let none = search("{n: 9}", None, Wanted::Each);
    let budget = &Budget { examined_max: 1, ..Budget::default() };
    let (mut batches, mut from) = (0, DeletedPosition::Start);
    while from != DeletedPosition::End {
        let txn = world.store.begin("search");
        let looking = Looking { limit: 9, read: Read::Snapshot, budget, clock: AT };
        let batch = deleted(&txn, &world.home, &none, &from, looking).await.unwrap();
        assert!(batch.found.is_empty());
        (batches, from) = (batches + 1, batch.next);
    }
    assert_eq!(batches, 4);
}

#[tokio::test]
async fn what_came_back_is_whole_and_no_longer_deleted() {
    let world = world().await;
    let budget = &Budget::default();
    let txn = world.store.begin("undelete");
    let looking = Looking { limit: 9, read: Read::Snapshot, budget, clock: AT };
    let all = search("{}", None, Wanted::Newest);
    let start = DeletedPosition::Start;
    let batch = deleted(&txn, &world.home, &all, &start, looking).await.unwrap();
    for one in &batch.found {
        let document = one.document.as_ref().unwrap();
        undelete(&txn, &world.home, &one.tombstone, document, AT).await.unwrap();
        let again = undelete(&txn, &world.home, &one.tombstone, document, AT).await.unwrap_err();
        assert!(again.to_line().starts_with("DUPLICATEKEY Duplicate key: _id '"), "{again}");
    }
    txn.commit().await.unwrap();
    let txn = world.store.begin("read");
    for one in &batch.found {
        let live = crate::document::get(&txn, &world.home, &one.tombstone.id, Read::Snapshot);
        assert_eq!(live.await.unwrap(), one.document);
    }
    let each = search("{}", None, Wanted::Each);
    assert_eq!(world.found(&each, 9, AT).await, [(1, 2), (2, 3)]);
}
