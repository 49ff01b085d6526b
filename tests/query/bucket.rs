//! Buckets in memory with indexes, and what the planner believes of them: sizes are made up, so that it takes every way
//! there is also for a handful of documents.

use std::collections::HashMap;
use std::sync::Arc;

use bson::{Document, oid::ObjectId};
use lethe::clock::TestClock;
use lethe::codec::record::{BucketRecord, IndexField, IndexRecord, IndexStatus, IndexType};
use lethe::codec::{BucketId, NamespaceId};
use lethe::document::{Home, NewDocument, ObjectIds, Origin, insert};
use lethe::query::{
    Ast, Budget, Direction, Explained, Figures, Limits, Memory, Path, Position, Query, Shares,
    Sort, parse, run,
};
use lethe::store::{Read, Store};

use crate::{document, oracle, raw};

/// What the planner believes.
#[derive(Clone, Debug)]
pub(crate) struct Belief {
    pub(crate) documents: f64,
    /// For each index: entries, different values.
    pub(crate) entries: Vec<(f64, f64)>,
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

pub(crate) fn decoded(found: &lethe::document::Document) -> Document {
    bson::RawDocument::from_bytes(found.bytes()).unwrap().try_into().unwrap()
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

pub(crate) fn ast(filter: &Document, by: oracle::By) -> Ast {
    let filter = parse(&raw(filter), &Limits::default()).unwrap();
    match by {
        None => filter,
        Some(strength) => filter.collated(&crate::english(strength)),
    }
}

pub(crate) fn id_of(document: &Document) -> ObjectId {
    document.get_object_id("_id").unwrap()
}
