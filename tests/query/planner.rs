//! Whatever indexes there are, and whichever of them a query takes, the answer
//! is that of the naive evaluator: filters, orders, counts, batch by batch.
//!
//! What the planner believes about sizes is made up here, so that it takes every
//! way there is also for a handful of documents.

use std::collections::HashMap;
use std::sync::Arc;

use bson::{Bson, Document, oid::ObjectId};
use lethe::clock::TestClock;
use lethe::codec::record::{BucketRecord, IndexField, IndexRecord, IndexStatus, IndexType};
use lethe::codec::{BucketId, NamespaceId};
use lethe::document::{Home, NewDocument, ObjectIds, Origin, insert, replace};
use lethe::query::{
    Ast, Budget, Direction, Explained, Figures, Limits, Memory, Path, Position, Query, Shares,
    Sort, count, explain, parse, run,
};
use lethe::store::{Read, Store};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::{document, generate, oracle, raw};

const PATHS: [&str; 7] = ["a", "b", "c", "a.b", "a.0", "b.a", "a.b.c"];

/// What the planner believes.
#[derive(Clone, Debug)]
struct Belief {
    documents: f64,
    /// For each index: entries, different values.
    entries: Vec<(f64, f64)>,
}

#[derive(Clone, Debug)]
struct World {
    documents: Vec<Document>,
    filter: Document,
    /// Asked afterwards, of the same shape.
    other: Document,
    indexes: Vec<IndexRecord>,
    beliefs: [Belief; 2],
    order: Option<(&'static str, bool)>,
    limit: usize,
    change: bool,
    /// How strings are compared.
    by: oracle::By,
    /// So many documents or entries may be looked at in one batch.
    budget: usize,
}

fn field() -> impl Strategy<Value = IndexField> {
    (prop::sample::select(PATHS.to_vec()), prop::bool::weighted(0.2)).prop_map(
        |(path, descending)| IndexField {
            selector: path.to_owned(),
            bson_type: IndexType::Int32,
            descending,
            multi_key: false,
        },
    )
}

fn indexes() -> impl Strategy<Value = Vec<IndexRecord>> {
    let fields = prop_oneof![
        3 => prop::collection::vec(field(), 1),
        2 => prop::collection::vec(field(), 2..4),
    ];
    let distinct = fields.prop_map(|mut fields: Vec<IndexField>| {
        let mut seen = std::collections::BTreeSet::new();
        fields.retain(|field| seen.insert(field.selector.clone()));
        fields
    });
    let one = (distinct, by());
    prop::collection::vec(one, 0..4).prop_map(|all| {
        let index = |(id, (fields, by)): (u32, (Vec<IndexField>, oracle::By))| IndexRecord {
            id,
            name: format!("i{id}"),
            fields,
            unique: false,
            collation: by.map(|strength| crate::english(strength).collation().clone()),
            status: IndexStatus::Ready,
            created_at: 0,
        };
        (1_u32..).zip(all).map(index).collect()
    })
}

/// How strings are compared: indexes and queries have each their own, and often the same.
fn by() -> impl Strategy<Value = oracle::By> {
    prop_oneof![2 => Just(None), 1 => (1_u8..=3).prop_map(Some)]
}

fn belief() -> impl Strategy<Value = Belief> {
    let size = || prop::sample::select(vec![1.0, 50.0, 1e4, 1e7]);
    (size(), prop::collection::vec((size(), size()), 4))
        .prop_map(|(documents, entries)| Belief { documents, entries })
}

/// The same filter with other values of the same kinds.
fn varied(value: &Bson, step: i32) -> Bson {
    match value {
        Bson::Document(inner) => Bson::Document(
            inner
                .iter()
                .map(|(name, value)| match name.as_str() {
                    "$size" | "$exists" | "$regex" => (name.clone(), value.clone()),
                    _ => (name.clone(), varied(value, step)),
                })
                .collect(),
        ),
        Bson::Array(inner) => Bson::Array(inner.iter().map(|value| varied(value, step)).collect()),
        Bson::Int32(number) => Bson::Int32(number.wrapping_add(step)),
        Bson::Boolean(flag) => Bson::Boolean(!flag),
        Bson::String(text) if text == "a" => Bson::String("b".to_owned()),
        Bson::String(_) => Bson::String("a".to_owned()),
        other => other.clone(),
    }
}

/// Values without arrays are as likely as the wild ones: much may only be done without them.
fn plain() -> impl Strategy<Value = Vec<Document>> {
    let value = prop_oneof![
        4 => (0_i32..6).prop_map(Bson::Int32),
        1 => (0_i64..6).prop_map(Bson::Int64),
        1 => (0_i32..12).prop_map(|half| Bson::Double(f64::from(half) / 2.0)),
        1 => Just(Bson::Double(f64::NAN)),
        1 => prop::sample::select(vec!["", "a", "A", "ab", "b"]).prop_map(|text| Bson::String(text.into())),
        1 => Just(Bson::Null),
        1 => any::<bool>().prop_map(Bson::Boolean),
        1 => (0_i32..3).prop_map(|number| Bson::Document(bson::doc! {"b": number})),
        1 => (0_i32..3).prop_map(|number| Bson::Document(bson::doc! {"b": {"c": number}, "a": 1})),
    ];
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let fields = prop::collection::btree_map(name, value, 0..4);
    let document = fields.prop_map(|fields| {
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Document>()
    });
    prop::collection::vec(document, 0..24)
}

fn world() -> impl Strategy<Value = World> {
    let documents = prop_oneof![
        1 => plain().prop_flat_map(generate::with_filter),
        1 => generate::world(),
    ];
    let order = prop::option::of((prop::sample::select(PATHS.to_vec()), any::<bool>()));
    let budget = prop_oneof![4 => Just(50_000_usize), 1 => 1_usize..8];
    let asked = (order, 1_usize..7, any::<bool>(), by(), budget);
    (documents, indexes(), [belief(), belief()], 1_i32..4, asked).prop_map(
        |((documents, filter), indexes, beliefs, step, (order, limit, change, by, budget))| {
            let other = varied(&Bson::Document(filter.clone()), step);
            let other = other.as_document().cloned().unwrap_or_default();
            let documents = numbered(documents);
            World { documents, filter, other, indexes, beliefs, order, limit, change, by, budget }
        },
    )
}

fn numbered(documents: Vec<Document>) -> Vec<Document> {
    let number = |(index, mut document): (usize, Document)| {
        let mut id = [7; 12];
        id[10..].copy_from_slice(&u16::try_from(index).unwrap().to_be_bytes());
        document.insert("_id", ObjectId::from_bytes(id));
        document
    };
    documents.into_iter().enumerate().map(number).collect()
}

fn home(indexes: Vec<IndexRecord>) -> Home {
    let mut record = BucketRecord::new(NamespaceId(1), "b", vec![0], 0);
    record.indexes = indexes;
    record.strict_types = false;
    Home::of_record(BucketId(3), &record)
}

async fn fill(store: &Store, home: &Home, documents: &[Document]) {
    let ids = ObjectIds::new([1; 5], Arc::new(TestClock::starting_at(1_700_000_000_000)));
    let new: Vec<_> = documents
        .iter()
        .map(|one| NewDocument::new(document(one), Origin::Bson, &ids).unwrap())
        .collect();
    let txn = store.begin("insert");
    insert(&txn, home, &new, 0).await.unwrap();
    txn.commit().await.unwrap();
}

fn believe(home: &Home, belief: &Belief) {
    let shares = |(index, (entries, distinct)): (u32, &(f64, f64))| {
        let keys: Vec<_> =
            [0x12_u8, 0x15, 0x17, 0x20].map(|code| (vec![code], entries / 4.0)).into();
        (index, Shares::new(*entries, Some(*distinct), keys))
    };
    let indexes: HashMap<_, _> = (1_u32..).zip(&belief.entries).map(shares).collect();
    let figures = Arc::new(Figures::new(belief.documents, indexes));
    home.indexes().memory::<Memory>().keep_figures(figures);
}

fn ast(filter: &Document, by: oracle::By) -> Ast {
    let filter = parse(&raw(filter), &Limits::default()).unwrap();
    match by {
        None => filter,
        Some(strength) => filter.collated(&crate::english(strength)),
    }
}

fn id_of(document: &Document) -> ObjectId {
    document.get_object_id("_id").unwrap()
}

fn decoded(found: &lethe::document::Document) -> Document {
    bson::RawDocument::from_bytes(found.bytes()).unwrap().try_into().unwrap()
}

fn query(world: &World, filter: &Document) -> Query {
    let order = world.order.map(|(path, up)| {
        let direction = if up { Direction::Ascending } else { Direction::Descending };
        let sort = Sort::new(Path::new(path), direction);
        match world.by {
            None => sort,
            Some(strength) => sort.collated(&crate::english(strength)),
        }
    });
    let query = Query::new(ast(filter, world.by), order, world.limit);
    if world.change { query.to_change() } else { query }
}

/// All that a query finds, each batch over the bucket as this home sees it.
async fn found(store: &Store, homes: &[&Home], query: &Query, budget: &Budget) -> Vec<Document> {
    let mut position = Position::Start;
    let mut all = Vec::new();
    for turn in 0.. {
        assert!(turn < 5_000, "no end");
        let home = homes[turn % homes.len()];
        let txn = store.begin("query");
        let batch = run(&txn, home, query, &position, Read::Snapshot, budget).await.unwrap();
        assert!(batch.documents.len() <= query.limit);
        all.extend(batch.documents.iter().map(decoded));
        position = batch.next;
        if matches!(position, Position::End) {
            break;
        }
    }
    all
}

fn expected(world: &World, filter: &Document) -> Vec<Document> {
    let matching = world.documents.iter().filter(|one| oracle::matches_by(filter, one, world.by));
    let mut expected: Vec<_> = matching.cloned().collect();
    if let Some((path, up)) = world.order {
        let key = |document: &Document| oracle::sort_key(document, path, up, world.by);
        expected.sort_by(|left, right| oracle::order_by(&key(left), &key(right), world.by));
        if !up {
            expected.reverse();
        }
    }
    expected
}

async fn check(world: World) -> Result<(), TestCaseError> {
    let store = Store::memory();
    let indexed = home(world.indexes.clone());
    fill(&store, &indexed, &world.documents).await;
    let bare = home(Vec::new());
    let budget = Budget { examined_max: world.budget, ..Budget::default() };
    // Twice the same bucket with what it remembers: the second time a choice is found there.
    for (filter, belief) in [(&world.filter, &world.beliefs[0]), (&world.other, &world.beliefs[1])]
    {
        believe(&indexed, belief);
        let query = query(&world, filter);
        let expected = expected(&world, filter);
        // With the indexes, without them, and with indexes that come and go between two batches.
        for homes in [&[&indexed][..], &[&bare], &[&indexed, &bare], &[&bare, &indexed]] {
            let mut found = found(&store, homes, &query, &budget).await;
            if world.order.is_none() {
                if world.change {
                    prop_assert!(found.is_sorted_by_key(|one| id_of(one).bytes()), "{}", filter);
                }
                found.sort_by_key(|one| id_of(one).bytes());
            }
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{}", filter);
        }
        let all = Query::new(ast(filter, world.by), None, usize::MAX);
        for home in [&indexed, &bare] {
            let txn = store.begin("count");
            let counted = count(&txn, home, &all, Read::Snapshot, &budget).await.unwrap();
            prop_assert_eq!(counted.documents, expected.len() as u64, "count {}", filter);
        }
    }
    Ok(())
}

#[test]
fn an_answer_never_depends_on_which_indexes_there_are() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: crate::config().cases.min(100_000), ..crate::config() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&world(), |world| runtime.block_on(check(world)));
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A field with an index on it alone.
fn index(id: u32, fields: &[&str]) -> IndexRecord {
    let field = |path: &&str| IndexField {
        selector: (*path).to_owned(),
        bson_type: IndexType::Int32,
        descending: false,
        multi_key: false,
    };
    let fields: Vec<_> = fields.iter().map(field).collect();
    IndexRecord {
        id,
        name: format!("i{id}"),
        fields,
        unique: false,
        collation: None,
        status: IndexStatus::Ready,
        created_at: 0,
    }
}

/// A bucket of documents `{n: 0, even: true, tens: 0}` and so on, with these
/// indexes, of which the planner believes that it is large.
async fn large(indexes: Vec<IndexRecord>) -> (Store, Home) {
    let store = Store::memory();
    let count = indexes.len();
    let home = home(indexes);
    let one = |n: i32| bson::doc! {"n": n, "even": n % 2 == 0, "tens": n / 10};
    fill(&store, &home, &numbered((0..200).map(one).collect())).await;
    believe(&home, &Belief { documents: 1e6, entries: vec![(1e6, 1e5); count] });
    (store, home)
}

fn plain_query(filter: &str, order: Option<(&str, Direction)>, limit: usize) -> Query {
    let filter = parse(&filter.to_owned().into(), &Limits::default()).unwrap();
    let order = order.map(|(path, direction)| Sort::new(Path::new(path), direction));
    Query::new(filter, order, limit)
}

/// What an explanation says at a path of names; lists are looked into.
fn said(explained: &Explained, name: &str) -> Vec<String> {
    let mut all = Vec::new();
    match explained {
        Explained::Map(pairs) => {
            for (key, value) in pairs {
                if *key == name {
                    all.push(format!("{value:?}"));
                }
                all.extend(said(value, name));
            }
        }
        Explained::List(list) => list.iter().for_each(|one| all.extend(said(one, name))),
        _ => {}
    }
    all
}

#[tokio::test]
async fn each_kind_of_plan_is_explained_and_really_run() {
    let indexes = || vec![index(1, &["n"]), index(2, &["even", "tens"]), index(3, &["tens"])];
    for (filter, order, scan, sort, returned) in [
        ("{n: 5}", None, "INDEX_SCAN", "none", 1),
        ("{n: {$gte: 5, $lt: 9}}", None, "RANGE_SCAN", "none", 4),
        ("{n: {$in: [5, 7, 900]}}", None, "INDEX_SCAN", "none", 2),
        ("{even: true, tens: 3}", None, "COMPOUND_INDEX_SCAN", "none", 5),
        ("{$or: [{n: 5}, {tens: 7}]}", None, "UNION", "none", 11),
        ("{even: true}", Some("tens"), "COMPOUND_INDEX_SCAN", "index", 100),
        ("{even: {$in: [true, false]}}", Some("tens"), "ORDERED_CONCAT", "index", 200),
        ("{}", Some("n"), "RANGE_SCAN", "index", 200),
        ("{}", Some("even"), "FULL_SCAN", "memory", 200),
        ("{even: {$ne: true}}", None, "FULL_SCAN", "none", 100),
        ("{n: {$gt: 9, $lt: 3}}", None, "", "", 0),
    ] {
        let (store, home) = large(indexes()).await;
        let order = order.map(|field| (field, Direction::Ascending));
        let query = plain_query(filter, order, 50);
        let txn = store.begin("explain");
        let budget = Budget::default();
        let explained = explain(&txn, &home, &query, Read::Snapshot, &budget, true).await.unwrap();
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
        explain(&txn, &home, &query, Read::Snapshot, &budget, false).await.unwrap()
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
