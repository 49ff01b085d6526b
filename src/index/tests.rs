use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, RawDocumentBuf, doc};
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::codec::record::{
    BucketRecord, IndexField, IndexRecord, IndexStatus, IndexType, State, decode_sum,
};
use crate::codec::{BucketId, NamespaceId, keys};
use crate::error::{Error, Result};
use crate::store::{Chaos, RangeRead, Read, Store, Transaction};
use crate::value::collation::{self, DATA_VERSION};
use crate::value::{Collator, Raw, Value, compare_with};

const BUCKET: BucketId = BucketId(7);
const SHARD: u16 = 3;

fn field(selector: &str, descending: bool) -> IndexField {
    let bson_type = IndexType::Int32;
    IndexField { selector: selector.to_owned(), bson_type, descending, multi_key: false }
}

fn record(id: u32, fields: Vec<IndexField>, unique: bool, status: IndexStatus) -> IndexRecord {
    let name = format!("index-{id}");
    IndexRecord {
        id,
        name,
        fields,
        unique,
        collation: None,
        collation_data: String::new(),
        status,
        created_at: 0,
    }
}

fn indexes(list: Vec<IndexRecord>, strict: bool) -> Indexes {
    let mut record = BucketRecord::new(NamespaceId(1), "b", vec![SHARD], 0);
    assert_eq!(record.state, State::Active);
    record.indexes = list;
    record.strict_types = strict;
    Indexes::of(&record)
}

fn raw(document: &bson::Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document).unwrap()
}

fn id(number: u32) -> ObjectId {
    let mut bytes = [0; 12];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

/// Writes a document, which is nowhere but in the indexes.
async fn write(
    txn: &Transaction,
    indexes: &Indexes,
    number: u32,
    old: Option<&bson::Document>,
    new: Option<&bson::Document>,
) -> Result<()> {
    let (old, new) = (old.map(raw), new.map(raw));
    let old = old.as_ref().and_then(|old| Raw::new(old.as_bytes()));
    let new = new.as_ref().and_then(|new| Raw::new(new.as_bytes()));
    maintain(txn, BUCKET, indexes, &[Written { shard: SHARD, id: id(number), old, new }]).await
}

async fn insert(store: &Store, indexes: &Indexes, number: u32, new: &bson::Document) -> Result<()> {
    let txn = store.begin("insert");
    write(&txn, indexes, number, None, Some(new)).await?;
    txn.commit().await?;
    Ok(())
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

async fn stored(store: &Store, index: u32) -> Rows {
    let txn = store.begin("look");
    let range = RangeRead::prefix(keys::index::entries(BUCKET, index)).bytes(1 << 30);
    let page = txn.range(range).await.unwrap();
    assert!(!page.more);
    page.rows.into_iter().map(|(key, held)| (key.to_vec(), held.to_vec())).collect()
}

fn computed(index: &Index, documents: &BTreeMap<u32, bson::Document>) -> Rows {
    let prefix = keys::index::entries(BUCKET, index.id());
    let mut rows = Rows::new();
    for (number, document) in documents {
        let document = raw(document);
        let all = entries(index, Raw::new(document.as_bytes()).unwrap(), false).unwrap();
        for (values, held) in all.rows {
            rows.insert([&prefix[..], &values, &id(*number).bytes()].concat(), held);
        }
    }
    rows
}

async fn counted(store: &Store, index: u32) -> i64 {
    let txn = store.begin("look");
    let value = txn.get(&keys::index::count(BUCKET, index, SHARD), Read::Snapshot).await.unwrap();
    decode_sum("index-count", value.as_deref()).unwrap()
}

#[track_caller]
fn keys_of(index: &Index, document: &bson::Document) -> Vec<Vec<u8>> {
    let document = raw(document);
    let all = entries(index, Raw::new(document.as_bytes()).unwrap(), false).unwrap();
    all.rows.into_iter().map(|(values, _)| values).collect()
}

#[test]
fn every_document_has_an_entry_whatever_it_holds() {
    let index = Index::new(record(1, vec![field("a.b", false)], false, IndexStatus::Ready));
    for (document, expected) in [
        (doc! {}, 1),
        (doc! {"a": 1}, 1),
        (doc! {"a": {"b": 1}}, 1),
        (doc! {"a": {"b": []}}, 1),
        (doc! {"a": {"b": [1, 2, 1]}}, 3),
        (doc! {"a": []}, 1),
        (doc! {"a": [1, 2]}, 1),
        (doc! {"a": [{"b": 1}, {"b": 1}, {}]}, 2),
        (doc! {"a": [{"b": [1, [2]]}]}, 3),
    ] {
        assert_eq!(keys_of(&index, &document).len(), expected, "{document}");
    }
    let missing = keys_of(&index, &doc! {});
    assert_eq!(missing, keys_of(&index, &doc! {"a": {"b": null}}));
    assert_ne!(missing, keys_of(&index, &doc! {"a": []}), "nothing at all is not null");
}

#[test]
fn the_entries_of_a_compound_index_are_all_combinations_up_to_a_limit() {
    let index =
        Index::new(record(1, vec![field("a", false), field("b", true)], false, IndexStatus::Ready));
    assert_eq!(keys_of(&index, &doc! {"a": [1, 2], "b": [3, 4]}).len(), 9);
    let long: Vec<i32> = (0..40).collect();
    let document = raw(&doc! {"a": long.clone(), "b": long});
    let error = entries(&index, Raw::new(document.as_bytes()).unwrap(), false).unwrap_err();
    assert_eq!(error.to_line(), "ERR A document has more than 1000 entries in index 'index-1'");
    let index = Index::new(record(1, vec![field("a", false)], false, IndexStatus::Ready));
    let same = vec![7; 100_000];
    assert_eq!(keys_of(&index, &doc! {"a": same}).len(), 2);
    let many: Vec<i32> = (0..100_000).collect();
    let document = raw(&doc! {"a": many});
    assert!(entries(&index, Raw::new(document.as_bytes()).unwrap(), false).is_err());
}

#[test]
fn long_values_are_cut_and_stay_different() {
    let fields: Vec<IndexField> = (0..32).map(|at| field(&format!("f{at}"), at % 2 == 1)).collect();
    let index = Index::new(record(1, fields, false, IndexStatus::Ready));
    let long = |end: &str| {
        let text = "x".repeat(5_000) + end;
        (0..32).map(|at| (format!("f{at}"), Bson::from(text.clone()))).collect::<bson::Document>()
    };
    let (left, right) = (keys_of(&index, &long("a")), keys_of(&index, &long("b")));
    assert!(left[0].len() < 9_000, "{}", left[0].len());
    assert_ne!(left, right);
    assert_eq!(left, keys_of(&index, &long("a")));
    let document = raw(&long("a"));
    let all = entries(&index, Raw::new(document.as_bytes()).unwrap(), false).unwrap();
    assert_eq!(all.marks.len(), 32);
}

#[tokio::test]
async fn a_unique_value_belongs_to_one_document() {
    let store = Store::memory();
    let unique = record(1, vec![field("a", false)], true, IndexStatus::Ready);
    let pair = vec![field("x", false), field("y", false)];
    let unique = indexes(vec![unique, record(2, pair, true, IndexStatus::Ready)], false);
    insert(&store, &unique, 1, &doc! {"a": [5, 5, 6], "x": 1, "y": 1}).await.unwrap();
    for (document, expected) in [
        (doc! {"a": 5.0, "x": 2}, "DUPLICATEKEY Duplicate key: 'a' 5"),
        (doc! {"a": [7, 6], "x": 2}, "DUPLICATEKEY Duplicate key: 'a' 6"),
        (doc! {"a": 8, "x": 1, "y": 1}, "DUPLICATEKEY Duplicate key: 'index-2' [1, 1]"),
    ] {
        let error = insert(&store, &unique, 2, &document).await.unwrap_err();
        assert_eq!(error.to_line(), expected);
    }
    insert(&store, &unique, 3, &doc! {"x": 1, "y": 2}).await.unwrap();
    let error = insert(&store, &unique, 4, &doc! {"a": null, "x": 9}).await.unwrap_err();
    assert_eq!(error.to_line(), "DUPLICATEKEY Duplicate key: 'a' null");
    // The same document keeps its own, and gives up what it does not have any more.
    let txn = store.begin("update");
    let (old, new) = (doc! {"a": [5, 5, 6], "x": 1, "y": 1}, doc! {"a": [6, 7], "x": 1, "y": 1});
    write(&txn, &unique, 1, Some(&old), Some(&new)).await.unwrap();
    write(&txn, &unique, 5, None, Some(&doc! {"a": 5})).await.unwrap();
    // Inside one transaction, too.
    let error = write(&txn, &unique, 6, None, Some(&doc! {"a": 5, "x": 4})).await.unwrap_err();
    assert!(matches!(error, Error::DuplicateKey(_)), "{error}");
    txn.commit().await.unwrap();
    let long = |end: &str| doc! {"a": "x".repeat(3_000) + end, "x": end};
    insert(&store, &unique, 7, &long("a")).await.unwrap();
    insert(&store, &unique, 8, &long("b")).await.unwrap();
    let error = insert(&store, &unique, 9, &long("b")).await.unwrap_err();
    assert!(matches!(error, Error::DuplicateKey(_)), "{error}");
}

#[tokio::test]
async fn of_two_transactions_with_one_unique_value_one_conflicts() {
    let store = Store::memory();
    let unique = indexes(vec![record(1, vec![field("a", false)], true, IndexStatus::Ready)], false);
    let (left, right) = (store.begin("left"), store.begin("right"));
    write(&left, &unique, 1, None, Some(&doc! {"a": 5})).await.unwrap();
    write(&right, &unique, 2, None, Some(&doc! {"a": 5})).await.unwrap();
    left.commit().await.unwrap();
    assert!(matches!(right.commit().await, Err(crate::store::Error::Conflict)));
    // Different values do not disturb each other.
    let (left, right) = (store.begin("left"), store.begin("right"));
    write(&left, &unique, 3, None, Some(&doc! {"a": 6})).await.unwrap();
    write(&right, &unique, 4, None, Some(&doc! {"a": 7})).await.unwrap();
    left.commit().await.unwrap();
    right.commit().await.unwrap();
}

#[tokio::test]
async fn strict_types_refuse_what_is_not_declared() {
    let store = Store::memory();
    let of = |bson_type| {
        let field = IndexField { bson_type, ..field("a", false) };
        indexes(vec![record(1, vec![field], false, IndexStatus::Ready)], true)
    };
    let strict = of(IndexType::Int64);
    for (number, document) in (0..).zip([
        doc! {},
        doc! {"a": null},
        doc! {"a": 1},
        doc! {"a": 1_i64},
        doc! {"a": [1, null]},
    ]) {
        insert(&store, &strict, number, &document).await.unwrap();
    }
    for (value, found) in [
        (Bson::Double(1.0), "DOUBLE"),
        (Bson::from("x"), "STRING"),
        (Bson::Array(vec![Bson::Int32(1), Bson::from("x")]), "STRING"),
        (Bson::Array(vec![Bson::Array(vec![])]), "ARRAY"),
        (Bson::Document(doc! {}), "DOCUMENT"),
    ] {
        let error = insert(&store, &strict, 9, &doc! {"a": value}).await.unwrap_err();
        let expected = format!(
            "INDEXTYPE_MISMATCH Index type mismatch: index 'index-1' expects 'INT64', \
             but selector 'a' matched a value of type '{found}'"
        );
        assert_eq!(error.to_line(), expected);
    }
    let wide = of(IndexType::Double);
    insert(&store, &wide, 20, &doc! {"a": 1}).await.unwrap();
    assert!(insert(&store, &wide, 21, &doc! {"a": 1_i64}).await.is_err());
}

#[tokio::test]
async fn marks_say_what_documents_there_were() {
    let store = Store::memory();
    let all = indexes(
        vec![record(1, vec![field("a", false), field("b", false)], false, IndexStatus::Ready)],
        false,
    );
    let index = all.by_id(1).unwrap();
    insert(&store, &all, 1, &doc! {"a": 1, "b": {"c": [1]}}).await.unwrap();
    let txn = store.begin("look");
    assert!(marks(&txn, BUCKET, index, Read::Snapshot).await.unwrap().is_empty());
    insert(&store, &all, 2, &doc! {"a": 1, "b": [1]}).await.unwrap();
    insert(&store, &all, 3, &doc! {"a": "x".repeat(2_000)}).await.unwrap();
    let txn = store.begin("look");
    let marks = marks(&txn, BUCKET, index, Read::Snapshot).await.unwrap();
    assert!(!marks.has_array(0) && marks.has_array(1) && marks.has_cut(0) && !marks.has_cut(1));
}

fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        6 => (-3..3_i32).prop_map(Bson::Int32),
        2 => (-3..3_i64).prop_map(Bson::Int64),
        3 => proptest::sample::select(vec![-1.5, 0.0, -0.0, 1.0, 2.5, f64::NAN, f64::INFINITY])
            .prop_map(Bson::Double),
        2 => "[aAb]{0,3}".prop_map(Bson::from),
        1 => ("[ab]", 900..1_100_usize).prop_map(|(letter, times)| {
            Bson::from("x".repeat(times) + &letter)
        }),
        1 => proptest::sample::select(vec![Bson::Null, Bson::Boolean(true), Bson::MinKey]),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
            inner.prop_map(|value| Bson::Document(doc! {"b": value})),
        ]
    })
}

fn document() -> impl Strategy<Value = bson::Document> {
    (proptest::option::of(value()), proptest::option::of(value())).prop_map(|(a, c)| {
        let mut document = bson::Document::new();
        document.extend(a.map(|a| ("a".to_owned(), a)));
        document.extend(c.map(|c| ("c".to_owned(), c)));
        document
    })
}

/// What happens to a document: it is written, taken away, or comes to the build.
#[derive(Clone, Debug)]
enum Op {
    Put(u32, bson::Document),
    Delete(u32),
    Build(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..6_u32, document()).prop_map(|(number, document)| Op::Put(number, document)),
        1 => (0..6_u32).prop_map(Op::Delete),
        2 => (0..6_u32).prop_map(Op::Build),
    ]
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Entries and counters after these writes, the build coming by now and then.
async fn kept(before: Vec<bson::Document>, ops: Vec<Op>, status: IndexStatus) {
    let store = Store::memory();
    let list = vec![
        record(1, vec![field("a", false)], false, status),
        record(2, vec![field("a.b", true)], false, status),
        record(3, vec![field("c", true), field("a", false), field("a.b", false)], false, status),
    ];
    let all = indexes(list, false);
    let mut documents: BTreeMap<u32, bson::Document> = (0..).zip(before).collect();
    if status == IndexStatus::Ready {
        for (number, document) in &documents {
            insert(&store, &all, *number, document).await.unwrap();
        }
    }
    let build = async |txn: &Transaction, number: u32, document: &bson::Document| {
        let document = raw(document);
        let document = Raw::new(document.as_bytes()).unwrap();
        for index in all.iter() {
            add(txn, BUCKET, SHARD, index, false, &id(number), document).await.unwrap();
        }
    };
    for op in ops {
        let txn = store.begin("write");
        match op {
            Op::Put(number, new) => {
                let old = documents.insert(number, new.clone());
                write(&txn, &all, number, old.as_ref(), Some(&new)).await.unwrap();
            }
            Op::Delete(number) => {
                if let Some(old) = documents.remove(&number) {
                    write(&txn, &all, number, Some(&old), None).await.unwrap();
                }
            }
            Op::Build(number) if status == IndexStatus::Building => {
                if let Some(document) = documents.get(&number) {
                    build(&txn, number, document).await;
                }
            }
            Op::Build(_) => {}
        }
        txn.commit().await.unwrap();
        for index in all.iter() {
            let (found, wanted) = (stored(&store, index.id()).await, computed(index, &documents));
            let missing = wanted.keys().filter(|key| !found.contains_key(*key)).count();
            assert!(missing == 0 || status == IndexStatus::Building);
            assert!(found.iter().all(|(key, held)| wanted.get(key) == Some(held)));
            assert_eq!(counted(&store, index.id()).await, i64::try_from(found.len()).unwrap());
        }
    }
    // The build comes to everything once.
    let txn = store.begin("build");
    for (number, document) in &documents {
        if status == IndexStatus::Building {
            build(&txn, *number, document).await;
        }
    }
    txn.commit().await.unwrap();
    for index in all.iter() {
        assert_eq!(stored(&store, index.id()).await, computed(index, &documents));
    }
}

/// The numbers of the documents in a range.
async fn found(store: &Store, range: &KeyRange, reverse: bool) -> Vec<ObjectId> {
    let txn = store.begin("scan");
    let mut found = Vec::new();
    let mut next = Some(range.clone());
    while let Some(range) = next {
        let how = Scan { reverse, rows_max: 3, bytes_max: 1 << 20, read: Read::Conflict };
        let page = scan(&txn, &range, how).await.unwrap();
        found.extend(page.entries.iter().map(|entry| entry.id));
        next = page.rest;
    }
    found
}

fn with<T>(value: &Bson, use_it: impl FnOnce(&Value<'_>) -> T) -> T {
    let document = raw(&doc! {"v": value.clone()});
    use_it(&Raw::new(document.as_bytes()).unwrap().get(b"v").unwrap().value())
}

/// The value of the only field.
fn only(document: &RawDocumentBuf) -> Value<'_> {
    Raw::new(document.as_bytes()).unwrap().get(b"v").unwrap().value()
}

fn english() -> Collator {
    let said = raw(&doc! {"locale": "en", "strength": 1});
    let said = Raw::new(said.as_bytes()).unwrap();
    Collator::of(&collation::parse(&Value::Document(said)).unwrap().unwrap()).unwrap()
}

/// All in the range that must be, nothing else if it says so, and in order.
async fn bounded(
    values: Vec<Bson>,
    low: Option<Bson>,
    high: Option<Bson>,
    how: (bool, bool, bool, bool),
) {
    let (descending, with_low, with_high, collated) = how;
    let collator = collated.then(english);
    let store = Store::memory();
    let mut one =
        record(1, vec![field("x", false), field("a", descending)], false, IndexStatus::Ready);
    one.collation = collator.as_ref().map(|collator| collator.collation().clone());
    DATA_VERSION.clone_into(&mut one.collation_data);
    let all = indexes(vec![one], false);
    let index = all.by_id(1).unwrap();
    let scalars: Vec<Bson> =
        values.into_iter().filter(|value| !matches!(value, Bson::Array(_))).collect();
    for (number, value) in (0..).zip(&scalars) {
        insert(&store, &all, number, &doc! {"x": 1, "a": value.clone()}).await.unwrap();
        insert(&store, &all, number + 1_000, &doc! {"x": 2, "a": value.clone()}).await.unwrap();
    }
    let order = |left: &Bson, right: &Bson| {
        with(left, |left| with(right, |right| compare_with(left, right, collator.as_ref())))
    };
    let is_nan = |value: &Bson| matches!(value, Bson::Double(number) if number.is_nan());
    let bracket = |value: &Bson| with(value, crate::value::Bracket::of);
    let inside = |value: &Bson| {
        let edges = [low.as_ref(), high.as_ref()];
        edges
            .into_iter()
            .flatten()
            .all(|edge| bracket(edge) == bracket(value) && is_nan(edge) == is_nan(value))
            && low.as_ref().is_none_or(|low| {
                order(value, low).is_gt() || with_low && order(value, low).is_eq()
            })
            && high.as_ref().is_none_or(|high| {
                order(value, high).is_lt() || with_high && order(value, high).is_eq()
            })
    };
    let wanted: BTreeSet<ObjectId> =
        (0..).zip(&scalars).filter(|(_, value)| inside(value)).map(|(n, _)| id(n)).collect();
    let edge = |value: &Option<Bson>| value.as_ref().map(|value| raw(&doc! {"v": value.clone()}));
    let (low_raw, high_raw) = (edge(&low), edge(&high));
    let low_value = low_raw.as_ref().map(only);
    let high_value = high_raw.as_ref().map(only);
    let (lower, upper) = (side(low_value.as_ref(), with_low), side(high_value.as_ref(), with_high));
    let range = Bounds::new(index).equal(&Value::Int32(1)).range(lower, upper).keys(BUCKET);
    let listed = found(&store, &range, false).await;
    let got: BTreeSet<ObjectId> = listed.iter().copied().collect();
    assert!(got.is_superset(&wanted), "{low:?} {high:?} {how:?}: {wanted:?} not in {got:?}");
    let is_cut = |value: &Bson| with(value, |value| !super::value_edge(index, value).1);
    let any_cut = scalars.iter().any(is_cut);
    if range.exact && !any_cut {
        assert_eq!(got, wanted, "{low:?} {high:?} {how:?}");
        let value = |id: &ObjectId| {
            let at = u32::from_be_bytes(id.bytes()[8..].try_into().unwrap());
            &scalars[at as usize]
        };
        for pair in listed.windows(2) {
            let order = order(value(&pair[0]), value(&pair[1]));
            assert!(if descending { order.is_ge() } else { order.is_le() });
        }
    }
    let mut backwards = found(&store, &range, true).await;
    backwards.reverse();
    assert_eq!(backwards, listed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn entries_are_those_of_the_documents_after_any_writes(
        before in proptest::collection::vec(document(), 0..4),
        ops in proptest::collection::vec(op(), 0..12),
        building in any::<bool>(),
    ) {
        let status = if building { IndexStatus::Building } else { IndexStatus::Ready };
        run(kept(before, ops, status));
    }

    #[test]
    fn bounds_hold_all_that_they_must(
        values in proptest::collection::vec(value(), 0..12),
        low in proptest::option::of(value()),
        high in proptest::option::of(value()),
        how in any::<(bool, bool, bool, bool)>(),
    ) {
        // An array as a bound is compared as a whole, like any other value.
        run(bounded(values, low, high, how));
    }
}

/// One side of a range.
fn side<'a>(value: Option<&'a Value<'a>>, included: bool) -> Bound<&'a Value<'a>> {
    match value {
        None => Bound::Unbounded,
        Some(value) if included => Bound::Included(value),
        Some(value) => Bound::Excluded(value),
    }
}

#[tokio::test(start_paused = true)]
async fn what_documents_that_come_together_ask_of_the_store_is_asked_together() {
    let all = indexes(
        vec![
            record(1, vec![field("a", false)], true, IndexStatus::Ready),
            record(2, vec![field("l", false)], false, IndexStatus::Ready),
        ],
        false,
    );
    let new = |n: i32| raw(&doc! {"a": n, "l": [n, n + 1]});
    let documents: Vec<_> = (0..500).map(new).collect();
    let written = |number: u32, document| Written {
        shard: SHARD,
        id: id(number),
        old: None,
        new: Raw::new(document),
    };
    let together: Vec<_> =
        (0..).zip(&documents).map(|(number, one)| written(number, one.as_bytes())).collect();
    let store = Store::memory();
    // Each read takes some of ten milliseconds; nothing else happens.
    let quiet = Chaos { conflict: 0.0, unknown_landed: 0.0, ..Chaos::with_seed(1) };
    let quiet = Chaos { unknown_lost: 0.0, unknown_late: 0.0, delay: 1.0, ..quiet };
    let slow = Chaos { delay_max: Duration::from_millis(10), ..quiet };
    store.faults().unwrap().chaos(Some(slow));
    let txn = store.begin("insert");
    let (reads, started) = (store.stats().reads, Instant::now());
    maintain(&txn, BUCKET, &all, &together).await.unwrap();
    // Each value of the unique index, and one mark; all in a handful of round trips.
    assert_eq!(store.stats().reads - reads, 501);
    assert!(started.elapsed() < Duration::from_millis(120), "{:?}", started.elapsed());
    store.faults().unwrap().chaos(None);
    // One that is there, and one that comes twice at the same time.
    let (there, twice) = (new(3), new(900));
    let single = maintain(&txn, BUCKET, &all, &[written(900, there.as_bytes())]).await;
    assert!(matches!(single, Err(Error::DuplicateKey(_))), "{single:?}");
    let pair = [written(901, twice.as_bytes()), written(902, twice.as_bytes())];
    let pair = maintain(&txn, BUCKET, &all, &pair).await;
    assert!(matches!(pair, Err(Error::DuplicateKey(_))), "{pair:?}");
}
