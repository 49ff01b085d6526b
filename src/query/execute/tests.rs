//! Batches, budgets, order, and that every document comes exactly once.

use std::sync::Arc;

use super::*;
use crate::clock::TestClock;
use crate::document::{Limits as DocumentLimits, NewDocument, ObjectIds, Origin};
use crate::query::{Limits, Path, parse};
use crate::store::Store;

fn home() -> Home {
    Home::for_test(3, &[0])
}

/// A bucket with these documents, in the order of their ids.
async fn bucket(documents: impl IntoIterator<Item = String>) -> Store {
    let store = Store::memory();
    let ids = ObjectIds::new([1; 5], Arc::new(TestClock::starting_at(1_700_000_000_000)));
    let documents: Vec<_> = documents
        .into_iter()
        .map(|text| {
            let document = Document::from_json(text.as_bytes(), DocumentLimits::default()).unwrap();
            NewDocument::new(document, Origin::Json, &ids).unwrap()
        })
        .collect();
    for part in documents.chunks(1000) {
        let txn = store.begin("insert");
        crate::document::insert(&txn, &home(), part, 0).await.unwrap();
        txn.commit().await.unwrap();
    }
    store
}

fn query(filter: &str, order: Option<(&str, Direction)>, limit: usize) -> Query {
    let filter = parse(&filter.to_owned().into(), &Limits::default()).unwrap();
    let order = order.map(|(path, direction)| Sort::new(Path::new(path), direction));
    Query::new(filter, order, limit)
}

async fn first(txn: &Transaction, query: &Query, read: Read, budget: &Budget) -> Result<Batch> {
    run(txn, &home(), query, &Position::Start, read, budget).await
}

fn numbers(batch: &Batch) -> Vec<i32> {
    let number = |document: &Document| match document.raw().get(b"n").unwrap().value() {
        crate::value::Value::Int32(number) => number,
        value => panic!("{value:?}"),
    };
    batch.documents.iter().map(number).collect()
}

/// All batches until the end, each in a transaction of its own.
async fn batches(store: &Store, query: &Query, budget: &Budget) -> Vec<Vec<i32>> {
    let mut position = Position::Start;
    let mut batches = Vec::new();
    while !matches!(position, Position::End) {
        let txn = store.begin("query");
        let batch = run(&txn, &home(), query, &position, Read::Snapshot, budget).await.unwrap();
        assert!(batch.documents.len() <= query.limit);
        batches.push(numbers(&batch));
        position = batch.next;
        assert!(batches.len() < 1000);
    }
    batches
}

fn numbered(count: i32) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("{{n: {n}, even: {}, turned: {}}}", n % 2 == 0, (n * 7) % 10))
}

#[tokio::test]
async fn batches_give_every_document_once_in_the_order_of_ids() {
    let store = bucket(numbered(10)).await;
    let budget = Budget::default();
    assert_eq!(
        batches(&store, &query("{}", None, 4), &budget).await,
        [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]
    );
    assert_eq!(
        batches(&store, &query("{even: true}", None, 2), &budget).await,
        [vec![0, 2], vec![4, 6], vec![8]]
    );
    let backwards = Some(("_id", Direction::Descending));
    assert_eq!(
        batches(&store, &query("{}", backwards, 5), &budget).await,
        [vec![9, 8, 7, 6, 5], vec![4, 3, 2, 1, 0], vec![]]
    );
}

#[tokio::test]
async fn a_batch_ends_when_its_budget_is_used_up_and_the_next_goes_on() {
    let store = bucket(numbered(10)).await;
    let examined = Budget { examined_max: 3, ..Budget::default() };
    assert_eq!(
        batches(&store, &query("{n: {$in: [1, 8]}}", None, 5), &examined).await,
        [vec![1], vec![], vec![8], vec![]]
    );
    let bytes = Budget { batch_bytes_max: 1, ..Budget::default() };
    assert_eq!(batches(&store, &query("{n: {$lt: 3}}", None, 5), &bytes).await.concat(), [0, 1, 2]);
}

#[tokio::test]
async fn ids_that_a_filter_names_are_read_as_points() {
    let store = bucket(numbered(5)).await;
    let txn = store.begin("ids");
    let all = first(&txn, &query("{}", None, 9), Read::Snapshot, &Budget::default()).await;
    let ids: Vec<String> = all
        .unwrap()
        .documents
        .iter()
        .map(|document| match document.raw().get(b"_id").unwrap().value() {
            crate::value::Value::ObjectId(id) => id.to_hex(),
            value => panic!("{value:?}"),
        })
        .collect();
    let one = format!("{{'_id': '{}'}}", ids[3]);
    let txn = store.begin("point");
    let found = first(&txn, &query(&one, None, 100), Read::Conflict, &Budget::default()).await;
    let found = found.unwrap();
    assert_eq!((numbers(&found), found.examined), (vec![3], 1));
    assert!(matches!(found.next, Position::End));
    // One point read and nothing else.
    assert_eq!(txn.read_conflicts().len(), 1);
    let three = format!("{{'_id': {{$in: ['{}', '{}', '{}']}}}}", ids[4], ids[0], ids[2]);
    assert_eq!(
        batches(&store, &query(&three, None, 2), &Budget::default()).await,
        [vec![0, 2], vec![4]]
    );
    let backwards = Some(("_id", Direction::Descending));
    assert_eq!(
        batches(&store, &query(&three, backwards, 2), &Budget::default()).await,
        [vec![4, 2], vec![0]]
    );
    let range = format!("{{'_id': {{$gt: '{}', $lte: '{}'}}, even: true}}", ids[0], ids[3]);
    assert_eq!(batches(&store, &query(&range, None, 9), &Budget::default()).await.concat(), [2]);
}

#[tokio::test]
async fn sorting_by_a_field_is_in_order_over_all_batches() {
    let store = bucket(numbered(10)).await;
    let budget = Budget::default();
    let up = Some(("turned", Direction::Ascending));
    assert_eq!(
        batches(&store, &query("{}", up, 4), &budget).await,
        [vec![0, 3, 6, 9], vec![2, 5, 8, 1], vec![4, 7]]
    );
    let down = Some(("turned", Direction::Descending));
    assert_eq!(
        batches(&store, &query("{even: true}", down, 3), &budget).await,
        [vec![4, 8, 2], vec![6, 0]]
    );
    // Equal keys: by id, none lost and none twice.
    let even = Some(("even", Direction::Ascending));
    assert_eq!(
        batches(&store, &query("{}", even, 3), &budget).await,
        [vec![1, 3, 5], vec![7, 9, 0], vec![2, 4, 6], vec![8]]
    );
}

#[tokio::test]
async fn a_sort_that_needs_too_much_memory_is_refused_by_name() {
    let store = bucket(numbered(10)).await;
    let budget = Budget { sort_bytes_max: 100, ..Budget::default() };
    let up = Some(("turned", Direction::Ascending));
    let txn = store.begin("sort");
    let sorted = first(&txn, &query("{}", up, 9), Read::Snapshot, &budget).await;
    assert_eq!(
        sorted.unwrap_err().to_string(),
        "SORTBY 'turned' needs more than 100 bytes of memory without an index. Hint: use a smaller LIMIT"
    );
}

#[tokio::test]
async fn more_documents_than_a_page_has_are_all_found() {
    let store = bucket(numbered(2500)).await;
    let all =
        batches(&store, &query("{even: {$exists: true}}", None, 9999), &Budget::default()).await;
    assert_eq!(all.concat(), (0..2500).collect::<Vec<_>>());
}
