//! How much a query reads: entries, documents, and how often it waits for the store.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use lethe::document::Home;
use lethe::query::{
    Asked, Batch, Budget, Collate, Direction, Limits, Position, Projection, Query, count, parse,
    run,
};
use lethe::store::{Chaos, Read, Store};
use tokio::time::Instant;

use crate::allocations;
use crate::bucket::{
    Belief, believe, decoded, fill, found, home, id, index, numbered, plain_query,
};

/// A bucket of these documents with an index on each of these lists of fields,
/// of which the planner believes that it is large.
async fn bucket(fields: &[&[&str]], documents: impl Iterator<Item = Document>) -> (Store, Home) {
    let store = Store::memory();
    let home = home((1..).zip(fields).map(|(id, fields)| index(id, fields)).collect());
    let documents = numbered(documents.collect(), 2);
    for part in documents.chunks(1000) {
        fill(&store, &home, part).await;
    }
    believe(&home, &Belief { documents: 1e7, entries: vec![(1e7, 1e5); fields.len()] });
    (store, home)
}

async fn first(store: &Store, home: &Home, query: &Query, budget: &Budget) -> Batch {
    let txn = store.begin("query");
    run(&txn, home, query, &Position::Start, Read::Snapshot, budget).await.unwrap()
}

#[tokio::test]
async fn a_page_behind_an_id_reads_no_entries_in_front_of_it() {
    let (store, home) = bucket(&[&["s"]], (0..3000).map(|n| doc! {"s": "x", "n": n})).await;
    let budget = Budget::default();
    for after in [0, 1500, 2899] {
        let up = format!("{{s: 'x', '_id': {{$gt: '{}'}}}}", id(after).to_hex());
        let down = format!("{{s: 'x', '_id': {{$lte: '{}'}}}}", id(after + 100).to_hex());
        for (filter, order) in [
            (&up, None),
            (&up, Some(("_id", Direction::Ascending))),
            (&down, Some(("_id", Direction::Descending))),
        ] {
            let batch = first(&store, &home, &plain_query(filter, order, 100), &budget).await;
            assert_eq!((batch.documents.len(), batch.entries), (100, 100), "{filter}");
            let first = decoded(&batch.documents[0]).get_i32("n").unwrap();
            let expected = i32::from(after) + if filter == &up { 1 } else { 100 };
            assert_eq!(first, expected, "{filter}");
        }
    }
}

#[tokio::test]
async fn entries_that_are_passed_in_the_order_of_an_index_count_for_the_batch() {
    let (store, home) = bucket(&[&["n"]], (0..3000).map(|n| doc! {"n": 3000 - n})).await;
    let budget = Budget { examined_max: 100, ..Budget::default() };
    // The one that is wanted is the last in this order.
    let filter = format!("{{n: {{$gte: 0}}, '_id': {{$lt: '{}'}}}}", id(1).to_hex());
    let query = plain_query(&filter, Some(("n", Direction::Ascending)), 10);
    let batch = first(&store, &home, &query, &budget).await;
    assert!(batch.documents.is_empty() && batch.entries < 400, "{}", batch.entries);
    assert!(matches!(batch.next, Position::Behind(_)));
    let all = found(&store, &[&home], &query, &budget).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].get_i32("n").unwrap(), 3000);
}

#[tokio::test]
async fn what_entries_led_to_is_given_back_however_many_were_read() {
    let (store, home) = bucket(&[&["s"]], (0..3000).map(|n| doc! {"s": n % 100})).await;
    let budget = Budget { examined_max: 1000, ..Budget::default() };
    let values: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let query = plain_query(&format!("{{s: {{$in: [{}]}}}}", values.join(",")), None, 300);
    let batch = first(&store, &home, &query, &budget).await;
    // More entries than the batch may look at, those of each value; and one read of documents.
    assert_eq!((batch.documents.len(), batch.entries), (256, 3000));
}

#[tokio::test]
async fn a_count_of_ids_in_an_index_ends_when_its_time_is_over() {
    let (store, home) = bucket(&[&["s"]], (0..300).map(|n| doc! {"s": [n % 2, 7]})).await;
    let budget = Budget { sort_time_max: Duration::ZERO, ..Budget::default() };
    for filter in
        ["{s: {$in: [0, 1]}}".to_owned(), format!("{{s: 7, '_id': {{$gt: '{}'}}}}", id(9).to_hex())]
    {
        let query = plain_query(&filter, None, usize::MAX);
        let txn = store.begin("count");
        let error = count(&txn, &home, &query, Read::Snapshot, &budget).await.unwrap_err();
        assert!(error.to_string().starts_with("counting took longer"), "{filter}: {error}");
        assert!(count(&txn, &home, &query, Read::Snapshot, &Budget::default()).await.is_ok());
    }
}

/// Conditions that none of these arrays satisfies, so that each is asked of every element.
fn conditions(count: i32) -> String {
    let all: Vec<_> = (0..count).map(|n| format!("{{a: {}}}", -1 - n)).collect();
    format!("{{$or: [{}]}}", all.join(","))
}

#[tokio::test]
async fn one_document_is_asked_in_a_bounded_number_of_steps() {
    let array: Vec<i32> = (0..1000).collect();
    let (store, home) = bucket(&[], std::iter::once(doc! {"a": array})).await;
    for (filter, steps) in [
        (conditions(10), 10_000),
        ("{a: {$elemMatch: {$gt: 5, $lt: 3}}}".to_owned(), 2_000),
        ("{$nor: [{a: {$size: 3}}, {a: {$size: 4}}]}".to_owned(), 2_000),
        ("{a: {$all: [1, 999, 1000]}}".to_owned(), 2_000),
        ("{b: 1, 'a.b': 7}".to_owned(), 2),
    ] {
        let query = plain_query(&filter, None, 10);
        for (steps_max, enough) in [(steps, false), (3 * steps, true)] {
            let budget = Budget { steps_max, ..Budget::default() };
            let txn = store.begin("query");
            let batch = run(&txn, &home, &query, &Position::Start, Read::Snapshot, &budget).await;
            let counted = count(&txn, &home, &query, Read::Snapshot, &budget).await;
            assert_eq!((batch.is_ok(), counted.is_ok()), (enough, enough), "{filter}");
            if let Err(error) = batch {
                let expected = format!("the filter takes more than {steps} steps on document");
                assert!(error.to_string().starts_with(&expected), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn the_element_of_a_positional_projection_is_looked_for_in_a_bounded_number_of_steps() {
    let array: Vec<i32> = (0..1000).collect();
    let (store, home) = bucket(&[], std::iter::once(doc! {"a": array})).await;
    let limits = lethe::document::Limits::default();
    for filter in [conditions(10), "{a: {$elemMatch: {$gt: 5, $lt: 3}}, b: null}".to_owned()] {
        let projection = Projection::parse(&"{'a.$': 1}".into(), limits).unwrap();
        let query = plain_query("{}", None, 10);
        let found = first(&store, &home, &query, &Budget::default()).await.documents;
        let filter = parse(&filter.into(), &Limits::default()).unwrap();
        let shown = (None, Some(projection));
        let asked = Asked::shown(query, filter, Collate::Bucket, shown);
        let error = asked.shape(found.clone(), 1_000).await.unwrap_err().to_string();
        assert!(error.starts_with("the filter takes more than 1000 steps on document"), "{error}");
        let shown = asked.shape(found, 100_000).await.unwrap();
        assert_eq!(decoded(&shown[0]).get_array("a").unwrap().len(), 1);
    }
}

/// The batches and attempts of one command ask for the same again and again.
#[test]
fn a_filter_is_put_under_the_collation_of_its_bucket_once() {
    let filter = parse(&"{a: 'x'}".into(), &Limits::default()).unwrap();
    let asked =
        |collate| Arc::new(Asked::new(plain_query("{a: 'x'}", None, 10), filter.clone(), collate));
    let [english, other] = [2, 3].map(crate::english);
    let silent = asked(Collate::Bucket);
    let under = |collator| silent.in_bucket(Some(collator));
    assert!(Arc::ptr_eq(&under(&english), &under(&english)));
    assert_eq!(under(&english).collate, Collate::By(english.clone()));
    assert_eq!(under(&other).collate, Collate::By(other));
    assert!(Arc::ptr_eq(&silent, &silent.in_bucket(None)));
    let own = asked(Collate::Bytes);
    assert!(Arc::ptr_eq(&own, &own.in_bucket(Some(&english))));
}

#[tokio::test]
async fn a_batch_ends_between_documents_that_take_long_to_ask() {
    let array: Vec<i32> = (0..20_000).collect();
    let (store, home) = bucket(&[], (0..4).map(|n| doc! {"n": n, "a": array.clone()})).await;
    let query = plain_query(&conditions(60), None, 10);
    let budget = Budget { time_max: Duration::ZERO, ..Budget::default() };
    // All four lie in one page.
    let batch = first(&store, &home, &query, &budget).await;
    assert_eq!(batch.examined, 1);
    let budget = Budget { sort_time_max: Duration::ZERO, ..Budget::default() };
    let sorted = plain_query(&conditions(60), Some(("n", Direction::Ascending)), 10);
    let txn = store.begin("sort");
    let error = run(&txn, &home, &sorted, &Position::Start, Read::Snapshot, &budget).await;
    assert!(error.unwrap_err().to_string().contains("took longer than 0 ms"));
}

/// From now on each read of the store takes some of ten milliseconds of the
/// clock, which stands still but for that.
fn slow(store: &Store) {
    let quiet = Chaos { conflict: 0.0, unknown_landed: 0.0, ..Chaos::with_seed(1) };
    let quiet = Chaos { unknown_lost: 0.0, unknown_late: 0.0, delay: 1.0, ..quiet };
    let slow = Chaos { delay_max: Duration::from_millis(10), ..quiet };
    store.faults().unwrap().chaos(Some(slow));
}

fn among(count: i32) -> String {
    let values: Vec<_> = (0..count).map(|n| n.to_string()).collect();
    format!("{{s: {{$in: [{}]}}}}", values.join(","))
}

#[tokio::test(start_paused = true)]
async fn ranges_of_an_index_are_read_at_the_same_time() {
    let documents = (0..1000).map(|n| doc! {"s": n % 100, "n": n});
    let (store, home) = bucket(&[&["s"], &["s", "n"]], documents).await;
    slow(&store);
    let budget = Budget::default();
    let by_n = Some(("n", Direction::Ascending));
    for (query, documents) in [
        (plain_query(&among(100), None, 300), 256),
        (plain_query(&among(60), by_n, 30), 30),
        (plain_query(&among(60), by_n, 30).to_change(), 30),
    ] {
        let (reads, started) = (store.stats().reads, Instant::now());
        let batch = first(&store, &home, &query, &budget).await;
        assert!(batch.documents.len() >= documents, "{}", batch.documents.len());
        assert!(store.stats().reads - reads > 60, "one for each value");
        assert!(started.elapsed() < Duration::from_millis(160), "{:?}", started.elapsed());
    }
    let all = plain_query(&among(100), None, usize::MAX);
    let (txn, started) = (store.begin("count"), Instant::now());
    let counted = count(&txn, &home, &all, Read::Snapshot, &budget).await.unwrap();
    assert_eq!((counted.documents, counted.entries), (1000, 1000));
    assert!(started.elapsed() < Duration::from_millis(160), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn figures_are_read_at_once_and_by_one_query_while_others_use_the_old_ones() {
    let names: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
    let fields: Vec<Vec<&str>> = names.iter().map(|name| vec![name.as_str()]).collect();
    let fields: Vec<&[&str]> = fields.iter().map(Vec::as_slice).collect();
    let (store, home) = bucket(&fields, std::iter::once(doc! {"f1": 1})).await;
    let (query, budget) = (plain_query("{f1: 1}", None, 10), Budget::default());
    tokio::time::advance(Duration::from_secs(20)).await;
    slow(&store);
    let (reads, started) = (store.stats().reads, Instant::now());
    let (one, other) =
        tokio::join!(first(&store, &home, &query, &budget), first(&store, &home, &query, &budget));
    assert_eq!((one.documents.len(), other.documents.len()), (1, 1));
    // The documents are counted, and for each index there are two reads.
    let reads = store.stats().reads - reads;
    assert!((41..55).contains(&reads), "{reads}");
    assert!(started.elapsed() < Duration::from_millis(80), "{:?}", started.elapsed());
}

/// What one query allocates until its answer.
async fn allocated(store: &Store, home: &Home, filter: &str) -> u64 {
    let query = plain_query(filter, None, 10);
    let before = allocations::count();
    first(store, home, &query, &Budget::default()).await;
    allocations::count() - before
}

#[tokio::test]
async fn planning_grows_with_the_branches_of_an_or_and_not_with_their_square() {
    let mut costs = Vec::new();
    for count in [400, 800] {
        let (store, home) = bucket(&[&["a"]], std::iter::empty()).await;
        let branches: Vec<_> = (0..count).map(|n| format!("{{a: {n}}}")).collect();
        let filter = format!("{{$or: [{}]}}", branches.join(","));
        costs.push(allocated(&store, &home, &filter).await);
    }
    assert!(costs[1] < 3 * costs[0], "{costs:?}");
}

#[tokio::test]
async fn planning_grows_with_the_indexes_and_not_with_their_square() {
    let mut costs = Vec::new();
    for count in [16, 32] {
        let names: Vec<String> = (0..count).map(|n| format!("f{n}")).collect();
        let fields: Vec<Vec<&str>> = names.iter().map(|name| vec![name.as_str()]).collect();
        let fields: Vec<&[&str]> = fields.iter().map(Vec::as_slice).collect();
        let (store, home) = bucket(&fields, std::iter::empty()).await;
        let parts: Vec<_> = names.iter().map(|name| format!("{name}: 1")).collect();
        let filter = format!("{{{}}}", parts.join(","));
        costs.push(allocated(&store, &home, &filter).await);
    }
    assert!(costs[1] < 3 * costs[0], "{costs:?}");
}
