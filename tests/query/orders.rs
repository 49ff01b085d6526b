//! Orders that indexes have: which of them answer a `SORTBY`, what that reads, and where the
//! next batch goes on.

use std::collections::BTreeSet;

use bson::doc;
use lethe::document::Home;
use lethe::query::{Budget, Direction, Position, Query, explain, run};
use lethe::store::{Read, Store};

use crate::bucket::{
    Belief, believe, decoded, fill, found, home, index, large, numbered, plain_query, said,
};

async fn explained(store: &Store, home: &Home, query: &Query, name: &str) -> Vec<String> {
    let (txn, budget) = (store.begin("explain"), Budget::default());
    let explained = explain(&txn, home, query, None, Read::Snapshot, &budget, false).await;
    said(&explained.unwrap(), name)
}

/// The numbers at these fields of all that a query finds.
async fn numbers<const N: usize>(
    store: &Store,
    homes: &[&Home],
    query: &Query,
    fields: [&str; N],
) -> Vec<[i32; N]> {
    let found = found(store, homes, query, &Budget::default()).await;
    let numbers = found.iter().map(|one| fields.map(|field| one.get_i32(field).unwrap()));
    numbers.collect()
}

#[tokio::test]
async fn a_batch_in_the_order_of_the_first_field_reads_no_more_than_it_gives() {
    for descending in [[false, false], [false, true], [true, false], [true, true]] {
        let mut by_tens = index(1, &["tens", "n"]);
        for (field, descending) in by_tens.fields.iter_mut().zip(descending) {
            field.descending = descending;
        }
        let (store, home) = large(vec![by_tens]).await;
        for direction in [Direction::Ascending, Direction::Descending] {
            let query = plain_query("{}", Some(("tens", direction)), 7);
            assert_eq!(explained(&store, &home, &query, "sort").await, ["Text(\"index\")"]);
            let budget = Budget::default();
            let mut from = Position::Start;
            let mut seen = Vec::new();
            while !matches!(from, Position::End) {
                let txn = store.begin("query");
                let batch = run(&txn, &home, &query, &from, Read::Snapshot, &budget).await.unwrap();
                let given = batch.documents.len();
                // In the middle of those with one value as well.
                assert_eq!((batch.examined, batch.entries), (given, given));
                let pair = |one| {
                    let one = decoded(one);
                    (one.get_i32("tens").unwrap(), one.get_i32("n").unwrap())
                };
                seen.extend(batch.documents.iter().map(pair));
                from = batch.next;
            }
            // What comes behind decides among equal ones, in its own direction.
            let backward = (direction == Direction::Descending) != descending[0];
            let mut expected: Vec<_> = (0..200).map(|n| (n / 10, n)).collect();
            let sign = |descending: bool| if descending == backward { 1 } else { -1 };
            expected.sort_by_key(|(tens, n)| (tens * sign(descending[0]), n * sign(descending[1])));
            assert_eq!(seen, expected, "{descending:?} {direction:?}");
        }
    }
}

#[tokio::test]
async fn an_index_gives_the_order_behind_fields_that_are_fixed() {
    let (store, home) = large(vec![index(1, &["even", "tens", "n"])]).await;
    for (filter, reads) in [
        ("{even: true}", "COMPOUND_INDEX_SCAN"),
        ("{even: {$in: [true, false]}, tens: {$gte: 3}}", "ORDERED_CONCAT"),
    ] {
        for direction in [Direction::Ascending, Direction::Descending] {
            let query = plain_query(filter, Some(("tens", direction)), 3);
            assert_eq!(explained(&store, &home, &query, "sort").await, ["Text(\"index\")"]);
            assert!(
                explained(&store, &home, &query, "scanType")
                    .await
                    .contains(&format!("Text({reads:?})"))
            );
            let bare = self::home(Vec::new());
            let by_index = numbers(&store, &[&home], &query, ["tens"]).await;
            assert_eq!(by_index, numbers(&store, &[&bare], &query, ["tens"]).await);
            let all = numbers(&store, &[&home, &bare], &query, ["tens", "n"]).await;
            let different: BTreeSet<_> = all.iter().map(|[_, n]| n).collect();
            assert_eq!((all.len(), different.len()), (by_index.len(), by_index.len()));
            let tens: Vec<_> = all.iter().map(|[tens, _]| [*tens]).collect();
            assert_eq!(tens, by_index, "{filter} {direction:?}");
        }
    }
}

#[tokio::test]
async fn an_order_that_one_index_began_is_kept_when_another_has_to_go_on() {
    // Each decides among the documents of one value in its own way.
    let mut down = index(2, &["tens", "n"]);
    down.fields[1].descending = true;
    let (store, up) = large(vec![index(1, &["tens", "n"])]).await;
    let others = [
        home(vec![down]),
        home(vec![index(3, &["tens"])]),
        home(vec![index(4, &["tens", "even"])]),
        home(Vec::new()),
    ];
    for other in &others {
        believe(other, &Belief { documents: 1e6, entries: vec![(1e6, 1e5); 4] });
        // What these indexes lack is never read: an order that was begun is not theirs.
        for direction in [Direction::Ascending, Direction::Descending] {
            let query = plain_query("{}", Some(("tens", direction)), 7);
            let homes = [&[&up][..], &vec![other; 40]].concat();
            let seen = numbers(&store, &homes, &query, ["n"]).await;
            assert_eq!(seen, numbers(&store, &[&up], &query, ["n"]).await);
        }
    }
}

/// Which order an index cannot give, and why.
#[tokio::test]
async fn arrays_and_long_values_in_the_order_or_behind_it_are_sorted_in_memory() {
    let long = "x".repeat(2_000);
    for (document, reason) in [
        (doc! {"a": [1, 5], "b": 2}, "there are arrays in the field of the order"),
        (doc! {"a": 3, "b": [1, 5]}, "there are arrays in a field behind that of the order"),
        (doc! {"a": 3, "b": []}, "there are arrays in a field behind that of the order"),
        (doc! {"a": 3, "b": &long}, "there are values too long to be in order"),
        (doc! {"a": &long, "b": 3}, "there are values too long to be in order"),
    ] {
        let store = Store::memory();
        let home = home(vec![index(1, &["a", "b"])]);
        let others = (0..20).map(|n| doc! {"a": n / 5, "b": n});
        let documents = numbered(others.chain([document.clone()]).collect(), 2);
        fill(&store, &home, &documents).await;
        believe(&home, &Belief { documents: 1e6, entries: vec![(1e6, 1e5)] });
        let query = plain_query("{}", Some(("a", Direction::Ascending)), 4);
        assert_eq!(explained(&store, &home, &query, "sort").await, ["Text(\"memory\")"]);
        let reasons = explained(&store, &home, &query, "reason").await;
        assert!(reasons.contains(&format!("Text({reason:?})")), "{document} {reasons:?}");
        let found = found(&store, &[&home], &query, &Budget::default()).await;
        let different: BTreeSet<_> =
            found.iter().map(|one| one.get_object_id("_id").unwrap().bytes()).collect();
        assert_eq!((found.len(), different.len()), (21, 21), "{document}");
    }
}

#[tokio::test]
async fn an_array_in_a_fixed_field_in_front_of_the_order_gives_each_document_once() {
    let store = Store::memory();
    let home = home(vec![index(1, &["tags", "n", "even"])]);
    let one = |n: i32| doc! {"tags": ["a", "b", "c"], "n": n / 4, "even": n % 2 == 0};
    fill(&store, &home, &numbered((0..40).map(one).collect(), 2)).await;
    believe(&home, &Belief { documents: 1e6, entries: vec![(1e6, 1e5)] });
    for direction in [Direction::Ascending, Direction::Descending] {
        let query = plain_query("{tags: {$in: ['a', 'c']}}", Some(("n", direction)), 3);
        assert_eq!(explained(&store, &home, &query, "sort").await, ["Text(\"index\")"]);
        let seen = numbers(&store, &[&home], &query, ["n"]).await;
        let mut expected: Vec<_> = (0..40).map(|n| [n / 4]).collect();
        if direction == Direction::Descending {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn a_range_of_the_first_field_needs_no_more_entries_than_the_batch() {
    let (store, home) = large(vec![index(1, &["n", "even"])]).await;
    let query = plain_query("{n: {$gte: 50}}", None, 10);
    let budget = Budget::default();
    let txn = store.begin("query");
    let batch = run(&txn, &home, &query, &Position::Start, Read::Snapshot, &budget).await.unwrap();
    assert_eq!((batch.documents.len(), batch.examined, batch.entries), (10, 10, 10));
    let all = found(&store, &[&home], &query, &budget).await;
    assert_eq!(all.len(), 150);
}
