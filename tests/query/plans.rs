//! Plans that were looked for by hand: which way a query takes, what that reads, and what it gives.

use bson::{Bson, Document};
use lethe::document::{Home, Limits as DocumentLimits, replace};
use lethe::query::{Budget, Direction, Position, Projection, Query, Steps, count, explain, run};
use lethe::store::{Read, Store};

use crate::bucket::{
    Belief, ast, believe, decoded, fill, found, home, id_of, index, large, numbered, plain_query,
    said,
};
use crate::{document, oracle};

#[tokio::test]
async fn each_kind_of_plan_is_explained_and_really_run() {
    let indexes = || {
        let of_elements = index(4, &["l.k"]);
        vec![index(1, &["n"]), index(2, &["even", "tens"]), index(3, &["tens"]), of_elements]
    };
    for (filter, order, scan, sort, returned) in [
        ("{n: 5}", None, "INDEX_SCAN", "none", 1),
        ("{n: {$gte: 5, $lt: 9}}", None, "RANGE_SCAN", "none", 4),
        ("{n: {$in: [5, 7, 900]}}", None, "INDEX_SCAN", "none", 2),
        ("{even: true, tens: 3}", None, "COMPOUND_INDEX_SCAN", "none", 5),
        ("{$or: [{n: 5}, {tens: 7}]}", None, "UNION", "none", 11),
        ("{even: true}", Some("tens"), "COMPOUND_INDEX_SCAN", "index", 100),
        ("{even: {$in: [true, false]}}", Some("tens"), "ORDERED_CONCAT", "index", 200),
        ("{}", Some("n"), "RANGE_SCAN", "index", 200),
        ("{}", Some("even"), "COMPOUND_INDEX_SCAN", "index", 200),
        ("{}", Some("other"), "FULL_SCAN", "memory", 200),
        ("{even: {$ne: true}}", None, "FULL_SCAN", "none", 100),
        ("{n: {$gt: 9, $lt: 3}}", None, "", "", 0),
        ("{l: {$elemMatch: {k: 7, m: null}}}", None, "INDEX_SCAN", "none", 0),
    ] {
        let (store, home) = large(indexes()).await;
        let order = order.map(|field| (field, Direction::Ascending));
        let query = plain_query(filter, order, 50);
        let txn = store.begin("explain");
        let budget = Budget::default();
        let explained =
            explain(&txn, &home, &query, None, Read::Snapshot, &budget, true).await.unwrap();
        let scans = said(&explained, "scanType");
        if scan.is_empty() {
            assert_eq!(said(&explained, "plan"), ["Null"], "{filter}");
        } else {
            let scan = format!("Text({scan:?})");
            assert!(scans.contains(&scan), "{filter}: {scan} {explained:?}");
            assert_eq!(said(&explained, "sort"), [format!("Text({sort:?})")], "{filter}");
        }
        assert_eq!(said(&explained, "returned"), [format!("Integer({returned})")], "{filter}");
        assert_eq!(said(&explained, "complete"), ["Boolean(true)"], "{filter}");
    }
}

#[tokio::test]
async fn two_indexes_are_intersected_where_that_leaves_little_to_put_in_order() {
    let (store, home) = large(vec![index(1, &["even"]), index(2, &["tens"])]).await;
    believe(&home, &Belief { documents: 1e6, entries: vec![(1e6, 10.0); 2] });
    let query = plain_query("{even: true, tens: 3}", Some(("n", Direction::Descending)), 3);
    let (txn, budget) = (store.begin("explain"), Budget::default());
    let explained =
        explain(&txn, &home, &query, None, Read::Snapshot, &budget, true).await.unwrap();
    assert_eq!(said(&explained, "scanType")[0], "Text(\"INTERSECTION\")", "{explained:?}");
    assert_eq!(said(&explained, "returned"), ["Integer(5)"]);
}

#[tokio::test]
async fn an_indexed_value_costs_one_range_and_the_documents() {
    let (store, home) = large(vec![index(1, &["tens"])]).await;
    let query = plain_query("{tens: 3}", None, 100);
    let budget = Budget::default();
    for turn in 0..2 {
        let txn = store.begin("query");
        let batch = run(&txn, &home, &query, &Position::Start, Read::Conflict, &budget).await;
        let batch = batch.unwrap();
        assert_eq!((batch.documents.len(), batch.examined, batch.entries), (10, 10, 10));
        // One range of entries, and ten documents; nothing else is read with conflict.
        assert_eq!(txn.read_conflicts().len(), 11, "turn {turn}");
    }
    let txn = store.begin("count");
    let all = plain_query("{tens: {$gte: 3, $lt: 5}}", None, usize::MAX);
    let counted = count(&txn, &home, &all, Read::Snapshot, &budget).await.unwrap();
    assert_eq!((counted.documents, counted.examined, counted.entries), (20, 0, 20));
}

#[tokio::test]
async fn a_batch_reads_no_more_of_a_range_than_it_gives_back() {
    let (store, home) = large(vec![index(1, &["n"])]).await;
    let budget = Budget::default();
    for order in [None, Some(("n", Direction::Descending))] {
        let query = plain_query("{n: {$gte: 50}}", order, 10);
        let txn = store.begin("query");
        let batch = run(&txn, &home, &query, &Position::Start, Read::Snapshot, &budget).await;
        let batch = batch.unwrap();
        assert_eq!((batch.documents.len(), batch.examined, batch.entries), (10, 10, 10));
    }
}

#[tokio::test]
async fn a_choice_is_remembered_by_shape_and_made_again_where_it_does_not_fit() {
    let (store, home) = large(vec![index(1, &["n"])]).await;
    let budget = Budget::default();
    let explained = async |filter: &str| {
        let query = plain_query(filter, None, 10);
        let txn = store.begin("explain");
        explain(&txn, &home, &query, None, Read::Snapshot, &budget, false).await.unwrap()
    };
    let first = explained("{n: 5}").await;
    assert_eq!(said(&first, "is_cached"), ["Boolean(false)"]);
    let second = explained("{n: 6}").await;
    assert_eq!(said(&second, "is_cached"), ["Boolean(true)"]);
    assert_eq!(said(&second, "operand"), ["Text(\"6\")"]);
    let other_shape = explained("{n: 'x'}").await;
    assert_eq!(said(&other_shape, "is_cached"), ["Boolean(false)"]);
    // Now the same shape is believed to lead to half of all entries.
    let distinct = vec![(1e6, 2.0)];
    believe(&home, &Belief { documents: 1e6, entries: distinct });
    assert_eq!(said(&explained("{n: 7}").await, "is_cached"), ["Boolean(false)"]);
}

#[tokio::test]
async fn documents_that_are_changed_on_the_way_are_each_found_once() {
    let (store, home) = large(vec![index(1, &["n"])]).await;
    let query = plain_query("{n: {$gte: 0}}", None, 7).to_change();
    let (mut position, mut changed) = (Position::Start, Vec::new());
    while !matches!(position, Position::End) {
        let txn = store.begin("update");
        let budget = Budget::default();
        let batch = run(&txn, &home, &query, &position, Read::Conflict, &budget).await.unwrap();
        for old in &batch.documents {
            let mut new = decoded(old);
            let id = id_of(&new);
            // Far in front of where the range is being read.
            new.insert("n", new.get_i32("n").unwrap() + 1000);
            replace(&txn, &home, &id, (old, &document(&new)), 0).await.unwrap();
            changed.push(id.bytes());
        }
        txn.commit().await.unwrap();
        position = batch.next;
        assert!(changed.len() <= 200);
    }
    assert!(changed.is_sorted());
    changed.dedup();
    assert_eq!(changed.len(), 200);
}

/// Numbers that are equal and of four types, in a bucket with an index on them.
async fn equal_numbers() -> (Store, Home, Vec<Document>) {
    let store = Store::memory();
    let home = home(vec![index(1, &["n", "m.x"])]);
    let five = bson::Decimal128::from_bytes("5.00".parse::<bson::Decimal128>().unwrap().bytes());
    let documents = vec![
        bson::doc! {"n": 5, "big": "x".repeat(5_000)},
        bson::doc! {"big": 1, "n": 5_i64, "m": {"x": 1, "y": 2}},
        bson::doc! {"m": {"y": 2, "x": "one"}, "n": 5.0},
        bson::doc! {"n": five},
    ];
    let documents = numbered(documents, 2);
    fill(&store, &home, &documents).await;
    believe(&home, &Belief { documents: 1e6, entries: vec![(1e6, 1e5)] });
    (store, home, documents)
}

fn projected(filter: &str, spec: &str, limit: usize) -> (Query, Projection) {
    let spec = Projection::parse(&spec.to_owned().into(), DocumentLimits::default()).unwrap();
    (plain_query(filter, None, limit).with_fields(spec.fields()), spec)
}

#[tokio::test]
async fn what_entries_hold_is_answered_without_documents_each_value_of_its_own_type() {
    let (store, home, documents) = equal_numbers().await;
    let budget = Budget::default();
    for (filter, spec, paths, examined) in [
        ("{n: 5}", "{n: 1}", vec![vec!["n"], vec!["_id"]], 0),
        ("{n: {$gte: 4}}", "{n: 1, '_id': 0}", vec![vec!["n"]], 0),
        // In two of them there is no `m`, or nothing in it: the entry does not say which.
        ("{n: 5}", "{'m.x': 1, n: 1}", vec![vec!["m", "x"], vec!["n"], vec!["_id"]], 2),
        ("{n: 5}", "{m: 1}", vec![vec!["m"], vec!["_id"]], 4),
    ] {
        let (query, projection) = projected(filter, spec, 10);
        let txn = store.begin("query");
        let batch = run(&txn, &home, &query, &Position::Start, Read::Conflict, &budget).await;
        let batch = batch.unwrap();
        assert_eq!(batch.examined, examined, "{filter} {spec}");
        let show = |one| decoded(&projection.apply(one, &query.plan.residual, &Steps::endless()));
        let sorted = |documents: Vec<Document>| {
            let mut texts: Vec<_> = documents.iter().map(|one| format!("{one:?}")).collect();
            texts.sort();
            texts
        };
        let found = sorted(batch.documents.iter().map(show).collect());
        let expected = documents.iter().map(|one| oracle::project(one, &paths)).collect();
        assert_eq!(found, sorted(expected), "{filter} {spec}");
        let txn = store.begin("explain");
        let explained =
            explain(&txn, &home, &query, None, Read::Snapshot, &budget, true).await.unwrap();
        let covered = format!("Boolean({})", examined < 4);
        assert_eq!(said(&explained, "covered"), [covered], "{filter} {spec}");
        assert_eq!(said(&explained, "examined_documents"), [format!("Integer({examined})")]);
    }
}

#[tokio::test]
async fn what_is_left_of_a_filter_is_asked_of_the_entries() {
    let (store, home) = large(vec![index(1, &["even", "n"])]).await;
    let (query, _) = projected("{even: true, n: {$ne: 4}}", "{n: 1}", 300);
    let budget = Budget::default();
    let txn = store.begin("query");
    let batch = run(&txn, &home, &query, &Position::Start, Read::Snapshot, &budget).await.unwrap();
    assert_eq!((batch.documents.len(), batch.examined, batch.entries), (99, 0, 100));
    let counted = count(&txn, &home, &query, Read::Snapshot, &budget).await.unwrap();
    assert_eq!((counted.documents, counted.examined), (99, 0));
}

#[tokio::test]
async fn an_answer_from_entries_conflicts_with_who_changes_them_and_with_nobody_else() {
    let (store, home, documents) = equal_numbers().await;
    let budget = Budget::default();
    let mut now = documents[0].clone();
    for (field, value, conflicts) in [
        ("big", Bson::Int32(7), false),
        // The key stays the same: the type does not.
        ("n", Bson::Int64(5), true),
        ("n", Bson::Int64(6), true),
    ] {
        let (query, _) = projected("{n: 5}", "{n: 1}", 10);
        let reader = store.begin("query");
        let batch = run(&reader, &home, &query, &Position::Start, Read::Conflict, &budget).await;
        assert_eq!(batch.unwrap().examined, 0);
        reader.set(b"elsewhere", b"").unwrap();
        let mut new = now.clone();
        new.insert(field, value);
        let writer = store.begin("update");
        let id = id_of(&new);
        replace(&writer, &home, &id, (&document(&now), &document(&new)), 0).await.unwrap();
        writer.commit().await.unwrap();
        assert_eq!(reader.commit().await.is_err(), conflicts, "{field}");
        now = new;
    }
}

/// An element that is an array has no field of a name, so that a condition on null holds of it,
/// and an index on the field inside, where such an element has no entry, may not be asked.
#[tokio::test]
async fn an_element_that_is_an_array_lacks_every_name_with_indexes_and_without() {
    let documents = [
        bson::doc! {"b": [[{}, {}]]},
        bson::doc! {"b": [[{"a": 1}], {"a": 2}]},
        bson::doc! {"b": [{"a": 1}]},
        bson::doc! {"b": [[]], "c": 1},
    ];
    let listed = bson::doc! {"a": {"$in": [null]}, "$and": [{"a": {"$nin": []}}]};
    let filters = [
        bson::doc! {"b": {"$elemMatch": {"a": null}}},
        bson::doc! {"b": {"$elemMatch": {"a": {"$in": [null, 7]}}}},
        bson::doc! {"b": {"$elemMatch": {"$or": [{"a": null}, {"a": 9}]}}},
        bson::doc! {"b": {"$all": [{"$elemMatch": {"a": null}}]}},
        bson::doc! {"$not": {"b": {"$not": {"$elemMatch": listed}}}},
    ];
    for filter in &filters {
        for fields in [&[][..], &["b.a"], &["b"], &["b.a", "c"]] {
            let store = Store::memory();
            let indexes = if fields.is_empty() { vec![] } else { vec![index(1, fields)] };
            let home = home(indexes);
            fill(&store, &home, &documents).await;
            let query = Query::new(ast(filter, oracle::By::default()), None, 100);
            let found = found(&store, &[&home], &query, &Budget::default()).await;
            let wanted = documents.iter().filter(|one| oracle::matches(filter, one)).count();
            assert_eq!((found.len(), wanted), (3, 3), "{filter} {fields:?} {found:?}");
        }
    }
}
