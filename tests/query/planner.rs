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
use lethe::document::{
    Home, Limits as DocumentLimits, NewDocument, ObjectIds, Origin, insert, replace,
};
use lethe::error::Error;
use lethe::index::Index;
use lethe::query::{
    Asked, Ast, Budget, Collate, Direction, Explained, Figures, Limits, Memory, Path, Position,
    Projection, Query, Shares, Sort, Steps, count, explain, parse, run,
};
use lethe::store::{Read, Store};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::{document, generate, oracle, raw};

const PATHS: [&str; 7] = ["a", "b", "c", "a.b", "a.0", "b.a", "a.b.c"];

/// What the planner believes.
#[derive(Clone, Debug)]
pub(crate) struct Belief {
    pub(crate) documents: f64,
    /// For each index: entries, different values.
    pub(crate) entries: Vec<(f64, f64)>,
}

#[derive(Clone, Debug)]
struct World {
    documents: Vec<Document>,
    filter: Document,
    /// Asked afterwards, of the same shape.
    other: Document,
    indexes: Vec<IndexRecord>,
    beliefs: [Belief; 2],
    order: Option<(String, bool)>,
    limit: usize,
    change: bool,
    /// Paths, and whether the id is wanted as well.
    projection: Option<(Vec<String>, bool)>,
    /// The bucket's default, and what the query says about it.
    bucket: oracle::By,
    asks: Asks,
    /// How strings are compared after all.
    by: oracle::By,
    /// So many documents or entries may be looked at in one batch.
    budget: usize,
}

/// What a query says about collation.
#[derive(Clone, Copy, Debug)]
enum Asks {
    /// Nothing: the default of the bucket counts.
    Nothing,
    Bytes,
    Own(u8),
}

fn asks() -> impl Strategy<Value = Asks> {
    prop_oneof![3 => Just(Asks::Nothing), 1 => Just(Asks::Bytes), 2 => (1_u8..=3).prop_map(Asks::Own)]
}

fn field() -> impl Strategy<Value = IndexField> {
    (prop::sample::select(PATHS.to_vec()), prop::bool::weighted(0.4)).prop_map(
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
    let one = (distinct, by(), prop::bool::weighted(0.2));
    prop::collection::vec(one, 0..4).prop_map(|all| {
        let index =
            |(id, (fields, by, unique)): (u32, (Vec<IndexField>, oracle::By, bool))| IndexRecord {
                id,
                name: format!("i{id}"),
                fields,
                unique,
                collation: by.map(|strength| crate::english(strength).collation().clone()),
                collation_data: lethe::value::collation::DATA_VERSION.to_owned(),
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
        // Longer than a key may be, and than what an entry holds.
        1 => prop::sample::select(vec!["a", "b"]).prop_map(|end| {
            Bson::String("a".repeat(1_000) + end)
        }),
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

/// Arrays of documents, some of them inside arrays: what `$elemMatch` is for.
fn listed() -> impl Strategy<Value = Vec<Document>> {
    let scalar = prop_oneof![
        6 => (0_i32..6).prop_map(Bson::Int32),
        1 => Just(Bson::Null),
        1 => Just(Bson::String("a".to_owned())),
        1 => prop::collection::vec((0_i32..6).prop_map(Bson::Int32), 0..3).prop_map(Bson::Array),
    ];
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let fields = prop::collection::btree_map(name(), scalar.clone(), 0..3).prop_map(|fields| {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        Bson::Document(fields.collect())
    });
    let element = prop_oneof![
        6 => fields.clone(),
        1 => scalar,
        1 => prop::collection::vec(fields, 0..3).prop_map(Bson::Array),
    ];
    let list = prop::collection::vec(element, 0..4).prop_map(Bson::Array);
    let document = prop::collection::btree_map(name(), list, 0..3).prop_map(|fields| {
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Document>()
    });
    prop::collection::vec(document, 0..16)
}

fn world() -> impl Strategy<Value = World> {
    let documents = prop_oneof![
        1 => plain().prop_flat_map(generate::with_filter),
        1 => listed().prop_flat_map(generate::with_filter),
        1 => generate::world(),
    ];
    let order = prop::option::of((prop::sample::select(PATHS.to_vec()), any::<bool>()));
    // More often a field of an index, with those in front of it fixed; and then as often
    // nothing else is asked, so that there is much to be put in order.
    let places = [any::<prop::sample::Index>(), any::<prop::sample::Index>()];
    let within = prop::option::weighted(0.7, (places, any::<bool>()));
    let order = (order, within);
    let budget = prop_oneof![4 => Just(50_000_usize), 1 => 1_usize..8];
    let path = prop::sample::select(PATHS.to_vec()).prop_map(str::to_owned);
    let paths = prop::collection::vec(path, 0..3);
    // As often what an index holds, so that its entries answer.
    let own = prop::option::of(any::<prop::sample::Index>());
    let projection = prop::option::of((paths, any::<bool>(), own));
    let asked = (order, 1_usize..7, any::<bool>(), projection, (by(), asks()), budget);
    let ids = prop::option::weighted(0.25, (0_u16..20, 0_u16..24));
    (documents, indexes(), [belief(), belief()], 1_i32..4, asked, ids).prop_map(
        |((documents, mut filter), indexes, beliefs, step, asked, ids)| {
            if let Some((after, until)) = ids {
                filter.insert("_id", bson::doc! {"$gt": id(after), "$lte": id(until)});
            }
            let ((order, within), limit, change, projection, (bucket, asks), budget) = asked;
            let order = order.map(|(path, up)| (path.to_owned(), up));
            let order = match (order, within) {
                (Some((_, up)), Some(([which, place], alone))) if !indexes.is_empty() => {
                    if alone {
                        filter.clear();
                    }
                    let fields = &which.get(&indexes).fields;
                    let at = place.index(fields.len());
                    fix(&mut filter, &fields[..at], &documents, place);
                    Some((fields[at].selector.clone(), up))
                }
                (order, _) => order,
            };
            let other = varied(&Bson::Document(filter.clone()), step);
            let other = other.as_document().cloned().unwrap_or_default();
            let by = match asks {
                Asks::Nothing => bucket,
                Asks::Bytes => None,
                Asks::Own(strength) => Some(strength),
            };
            let projection = projection.map(|(paths, id, own)| match own {
                Some(own) if !indexes.is_empty() => {
                    let fields = &own.get(&indexes).fields;
                    (fields.iter().map(|field| field.selector.clone()).collect(), id)
                }
                _ => (paths, id),
            });
            World {
                documents: numbered(documents, step),
                filter,
                other,
                indexes,
                beliefs,
                order,
                limit,
                change,
                projection,
                bucket,
                asks,
                by,
                budget,
            }
        },
    )
}

/// Asks that these fields are equal to what one of the documents has there.
fn fix(
    filter: &mut Document,
    fields: &[IndexField],
    documents: &[Document],
    which: prop::sample::Index,
) {
    if documents.is_empty() {
        return;
    }
    let document = which.get(documents);
    for field in fields {
        let steps = field.selector.split('.');
        let found =
            steps.fold(Some(Bson::Document(document.clone())), |value, step| match value? {
                Bson::Document(inner) => inner.get(step).cloned(),
                _ => None,
            });
        let value = found.unwrap_or(Bson::Null);
        if !matches!(value, Bson::RegularExpression(_)) {
            filter.insert(&field.selector, bson::doc! {"$eq": value});
        }
    }
}

impl World {
    /// The query for this filter, under the collation that counts in the bucket.
    fn asked(&self, query: Query, filter: &Document) -> Query {
        let filter = ast(filter, None);
        let collate = match self.asks {
            Asks::Nothing => Collate::Bucket,
            Asks::Bytes => Collate::Bytes,
            Asks::Own(strength) => Collate::By(crate::english(strength)),
        };
        let asked = Arc::new(Asked::new(query, filter, collate));
        asked.in_bucket(self.bucket.map(crate::english).as_ref()).query.clone()
    }

    fn projection(&self) -> Option<Projection> {
        let (paths, id) = self.projection.as_ref()?;
        let mut spec = Document::new();
        for path in paths {
            spec.insert(path, 1);
        }
        // With nothing but `_id: 0` all else would be wanted.
        if *id || !paths.is_empty() {
            spec.insert("_id", i32::from(*id));
        }
        Some(Projection::parse(&raw(&spec), DocumentLimits::default()).unwrap())
    }

    /// What a document is shown as, by the naive projection.
    fn shown(&self, document: &Document) -> Document {
        match &self.projection {
            Some((paths, id)) if *id || !paths.is_empty() => {
                let mut paths: Vec<Vec<&str>> =
                    paths.iter().map(|path| path.split('.').collect()).collect();
                if *id {
                    paths.push(vec!["_id"]);
                }
                oracle::project(document, &paths)
            }
            _ => document.clone(),
        }
    }
}

pub(crate) fn id(number: u16) -> ObjectId {
    let mut id = [7; 12];
    id[10..].copy_from_slice(&number.to_be_bytes());
    ObjectId::from_bytes(id)
}

/// Gives each its id, in front, behind, or where it was.
pub(crate) fn numbered(documents: Vec<Document>, place: i32) -> Vec<Document> {
    let number = |(index, mut document): (usize, Document)| {
        if place < 3 {
            document.remove("_id");
        }
        document.insert("_id", id(u16::try_from(index).unwrap()));
        if place == 1 {
            let id = document.remove("_id").unwrap();
            let fields = std::iter::once(("_id".to_owned(), id)).chain(document);
            return fields.collect();
        }
        document
    };
    documents.into_iter().enumerate().map(number).collect()
}

pub(crate) fn home(indexes: Vec<IndexRecord>) -> Home {
    let mut record = BucketRecord::new(NamespaceId(1), "b", vec![0], 0);
    record.indexes = indexes;
    record.strict_types = false;
    Home::of_record(BucketId(3), &record)
}

pub(crate) async fn fill(store: &Store, home: &Home, documents: &[Document]) {
    let ids = ObjectIds::new([1; 5], Arc::new(TestClock::starting_at(1_700_000_000_000)));
    let new: Vec<_> = documents
        .iter()
        .map(|one| NewDocument::new(document(one), Origin::Bson, &ids).unwrap())
        .collect();
    let txn = store.begin("insert");
    insert(&txn, home, &new, 0).await.unwrap();
    txn.commit().await.unwrap();
}

/// Inserts what the unique indexes let in, and gives that.
async fn fill_distinct(store: &Store, home: &Home, documents: &[Document]) -> Vec<Document> {
    if !home.indexes().iter().any(Index::is_unique) {
        fill(store, home, documents).await;
        return documents.to_vec();
    }
    let ids = ObjectIds::new([1; 5], Arc::new(TestClock::starting_at(1_700_000_000_000)));
    let mut inside = Vec::new();
    for one in documents {
        let new = NewDocument::new(document(one), Origin::Bson, &ids).unwrap();
        let txn = store.begin("insert");
        match insert(&txn, home, &[new], 0).await {
            Ok(()) => {
                txn.commit().await.unwrap();
                inside.push(one.clone());
            }
            Err(Error::DuplicateKey(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    inside
}

pub(crate) fn believe(home: &Home, belief: &Belief) {
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

pub(crate) fn decoded(found: &lethe::document::Document) -> Document {
    bson::RawDocument::from_bytes(found.bytes()).unwrap().try_into().unwrap()
}

fn query(world: &World, filter: &Document) -> Query {
    let order = world.order.as_ref().map(|(path, up)| {
        let direction = if *up { Direction::Ascending } else { Direction::Descending };
        Sort::new(Path::new(path), direction)
    });
    let fields = world.projection().and_then(|projection| projection.fields());
    let query = Query::new(ast(filter, None), order, world.limit).with_fields(fields);
    world.asked(if world.change { query.to_change() } else { query }, filter)
}

/// All that a query finds, each batch over the bucket as this home sees it.
pub(crate) async fn found(
    store: &Store,
    homes: &[&Home],
    query: &Query,
    budget: &Budget,
) -> Vec<Document> {
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

/// In the order of their ids.
fn expected(world: &World, filter: &Document) -> Vec<Document> {
    let matching = world.documents.iter().filter(|one| oracle::matches_by(filter, one, world.by));
    let mut expected: Vec<_> = matching.cloned().collect();
    expected.sort_by_key(|one| id_of(one).bytes());
    expected
}

/// Whether documents, of which no more may be here than was asked for, come in the order
/// that was wanted. Nobody promises which of two with the same value comes first.
fn are_in_order(world: &World, found: &[Document]) -> bool {
    let Some((path, up)) = &world.order else {
        return !world.change || found.is_sorted_by_key(|one| id_of(one).bytes());
    };
    let key = |one: &Document| {
        let whole = world.documents.iter().find(|whole| id_of(whole) == id_of(one)).unwrap();
        oracle::sort_key(whole, path, *up, world.by)
    };
    let keys: Vec<_> = found.iter().map(key).collect();
    keys.is_sorted_by(|left, right| {
        let order = oracle::order_by(left, right, world.by);
        if *up { order.is_le() } else { order.is_ge() }
    })
}

async fn check(mut world: World) -> Result<(), TestCaseError> {
    let store = Store::memory();
    let indexed = home(world.indexes.clone());
    world.documents = fill_distinct(&store, &indexed, &world.documents).await;
    let (bare, fewer) = (home(Vec::new()), home(world.indexes.iter().skip(1).cloned().collect()));
    let budget = Budget { examined_max: world.budget, ..Budget::default() };
    // Twice the same bucket with what it remembers: the second time a choice is found there.
    for (filter, belief) in [(&world.filter, &world.beliefs[0]), (&world.other, &world.beliefs[1])]
    {
        believe(&indexed, belief);
        believe(&fewer, belief);
        let query = query(&world, filter);
        let expected = expected(&world, filter);
        // With the indexes, without them, and with indexes that come and go between two batches.
        for homes in [
            &[&indexed][..],
            &[&bare],
            &[&indexed, &bare],
            &[&bare, &indexed],
            &[&indexed, &fewer],
            &[&fewer, &indexed],
        ] {
            let mut found = found(&store, homes, &query, &budget).await;
            prop_assert!(are_in_order(&world, &found), "{} {:?}", filter, found);
            found.sort_by_key(|one| id_of(one).bytes());
            if let Some(projection) = world.projection() {
                let show = |one: &Document| {
                    decoded(&projection.apply(
                        &document(one),
                        &query.plan.residual,
                        &Steps::endless(),
                    ))
                };
                found = found.iter().map(show).collect();
            }
            let expected: Vec<_> = expected.iter().map(|one| world.shown(one)).collect();
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{}", filter);
        }
        let all = world.asked(Query::new(ast(filter, None), None, usize::MAX), filter);
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
    let mut runner = proptest::test_runner::TestRunner::new(crate::config());
    let result = runner.run(&world(), |world| runtime.block_on(check(world)));
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A field with an index on it alone.
pub(crate) fn index(id: u32, fields: &[&str]) -> IndexRecord {
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
        collation_data: String::new(),
        status: IndexStatus::Ready,
        created_at: 0,
    }
}

/// A bucket of documents `{n: 0, even: true, tens: 0}` and so on, with these
/// indexes, of which the planner believes that it is large.
pub(crate) async fn large(indexes: Vec<IndexRecord>) -> (Store, Home) {
    let store = Store::memory();
    let count = indexes.len();
    let home = home(indexes);
    let one = |n: i32| bson::doc! {"n": n, "even": n % 2 == 0, "tens": n / 10};
    fill(&store, &home, &numbered((0..200).map(one).collect(), 2)).await;
    believe(&home, &Belief { documents: 1e6, entries: vec![(1e6, 1e5); count] });
    (store, home)
}

pub(crate) fn plain_query(filter: &str, order: Option<(&str, Direction)>, limit: usize) -> Query {
    let filter = parse(&filter.to_owned().into(), &Limits::default()).unwrap();
    let order = order.map(|(path, direction)| Sort::new(Path::new(path), direction));
    Query::new(filter, order, limit)
}

/// What an explanation says at a path of names; lists are looked into.
pub(crate) fn said(explained: &Explained, name: &str) -> Vec<String> {
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
