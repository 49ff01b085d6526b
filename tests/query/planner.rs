//! Whatever indexes there are, and whichever of them a query takes, the answer
//! is that of the naive evaluator: filters, orders, counts, batch by batch.
//!
//! What the planner believes about sizes is made up here, so that it takes every
//! way there is also for a handful of documents.

use std::sync::Arc;

use bson::{Bson, Document};
use lethe::clock::TestClock;
use lethe::codec::record::{IndexField, IndexRecord, IndexStatus, IndexType};
use lethe::document::{Home, Limits as DocumentLimits, NewDocument, ObjectIds, Origin, insert};
use lethe::error::Error;
use lethe::index::Index;
use lethe::query::{
    Asked, Budget, Collate, Direction, Path, Projection, Query, Sort, Steps, count,
};
use lethe::store::{Read, Store};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::bucket::{Belief, ast, believe, decoded, fill, found, home, id, id_of, numbered};
use crate::{document, generate, oracle, raw};

const PATHS: [&str; 7] = ["a", "b", "c", "a.b", "a.0", "b.a", "a.b.c"];

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
        let mut steps = field.selector.split('.');
        let found = steps.try_fold(Bson::Document(document.clone()), |value, step| match value {
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

fn query(world: &World, filter: &Document) -> Query {
    let order = world.order.as_ref().map(|(path, up)| {
        let direction = if *up { Direction::Ascending } else { Direction::Descending };
        Sort::new(Path::new(path), direction)
    });
    let fields = world.projection().and_then(|projection| projection.fields());
    let query = Query::new(ast(filter, None), order, world.limit).with_fields(fields);
    world.asked(if world.change { query.to_change() } else { query }, filter)
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
