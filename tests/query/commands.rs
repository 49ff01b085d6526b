//! The document commands, from words to replies, on a node in memory.

use std::collections::BTreeMap;

use bson::{Document, oid::ObjectId};
use lethe::resp::Reply;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

use crate::door::{Door, House, batch, bulks};
use crate::{generate, oracle};

fn bytes(document: &Document) -> Vec<u8> {
    bson::RawDocumentBuf::try_from(document).unwrap().into_bytes()
}

fn document(bytes: &[u8]) -> Document {
    bson::RawDocument::from_bytes(bytes).unwrap().try_into().unwrap()
}

/// Runs a property with a door into one node; each case gets a bucket of its own.
fn on_a_node<S: Strategy>(
    cases: u32,
    strategy: S,
    property: &impl AsyncFn(&mut Door, &str, S::Value) -> Result<(), TestCaseError>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let house = runtime.block_on(House::build());
    let config = ProptestConfig { cases, ..crate::config() };
    let mut runner = TestRunner::new(config);
    let count = std::cell::Cell::new(0);
    let result = runner.run(&strategy, |value| {
        count.set(count.get() + 1);
        let bucket = format!("b{}", count.get());
        runtime.block_on(async {
            let mut door = house.door();
            door.done(&format!("BUCKET.CREATE {bucket}")).await;
            door.done("SESSION.ATTRIBUTE SET input_type bson").await;
            door.done("SESSION.ATTRIBUTE SET reply_type bson").await;
            property(&mut door, &bucket, value).await
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Everything a query finds, batch by batch to the end.
async fn all(door: &mut Door, words: &[&[u8]], limit: usize) -> Vec<Document> {
    let (cursor, mut entries) = batch(&door.call(words).await);
    let mut found = Vec::new();
    while !entries.is_empty() {
        assert!(entries.len() <= limit);
        found.extend(entries.iter().map(|entry| document(entry)));
        entries = batch(&door.say(&format!("BUCKET.ADVANCE QUERY {cursor}")).await).1;
    }
    door.done(&format!("BUCKET.CLOSE QUERY {cursor}")).await;
    found
}

/// Documents with the ids 0, 1, 2 and so on.
fn numbered(documents: Vec<Document>) -> Vec<Document> {
    let number = |(index, mut document): (usize, Document)| {
        let mut id = [0; 12];
        id[10..].copy_from_slice(&u16::try_from(index).unwrap().to_be_bytes());
        document.insert("_id", ObjectId::from_bytes(id));
        document
    };
    documents.into_iter().enumerate().map(number).collect()
}

async fn insert(door: &mut Door, bucket: &str, documents: &[Document]) -> Reply {
    let mut words = vec![b"BUCKET.INSERT".to_vec(), bucket.into(), b"DOCS".to_vec()];
    words.extend(documents.iter().map(bytes));
    door.call(words).await
}

#[test]
fn cursors_give_each_matching_document_once_whatever_the_limit() {
    let world = generate::world().prop_map(|(documents, filter)| (numbered(documents), filter));
    let strategy = (world, 1_usize..7);
    on_a_node(200, strategy, &async |door, bucket, ((documents, filter), limit)| {
        insert(door, bucket, &documents).await;
        let text = limit.to_string();
        let (words, filter_bytes) = (["BUCKET.QUERY", bucket, "LIMIT", &text], bytes(&filter));
        let [query, bucket, option, text] = words.map(str::as_bytes);
        let found = all(door, &[query, bucket, &filter_bytes, option, text], limit).await;
        let matching = documents.iter().filter(|one| oracle::matches(&filter, one));
        let expected: Vec<_> = matching.cloned().collect();
        // Compared as text, since NaN is not equal to itself.
        prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{}", filter);
        Ok(())
    });
}

#[test]
fn sorted_cursors_give_all_documents_in_order_whatever_the_limit() {
    let strategy = (
        prop::collection::vec(generate::document(), 1..20).prop_map(numbered),
        prop::sample::select(vec!["a", "b", "_id"]),
        any::<bool>(),
        1_usize..7,
    );
    on_a_node(200, strategy, &async |door, bucket, (documents, field, up, limit)| {
        insert(door, bucket, &documents).await;
        let direction = if up { "ASC" } else { "DESC" };
        let line = format!("BUCKET.QUERY {bucket} {{}} SORTBY {field} {direction} LIMIT {limit}");
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let found = all(door, &words, limit).await;
        let mut expected = documents;
        let key = |document: &Document| oracle::sort_key(document, field, up, None);
        // Equal ones by their ids, in the same direction.
        expected.sort_by(|left, right| oracle::order(&key(left), &key(right)));
        if !up {
            expected.reverse();
        }
        prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{}", line);
        Ok(())
    });
}

#[test]
fn inserts_are_whole_or_nothing_and_the_counts_are_exact() {
    let id = (0_u8..12).prop_map(|last| ObjectId::from_bytes([last; 12]));
    let one = (id, 0..200_000_usize, 0..3_u8).prop_map(|(id, size, large)| {
        // One in three is larger than a value of the store may be.
        let size = if large == 0 { size } else { size % 100 };
        bson::doc! {"t": "x".repeat(size), "_id": id}
    });
    let batches = prop::collection::vec(prop::collection::vec(one, 1..4), 1..6);
    on_a_node(100, batches, &async |door, bucket, batches| {
        let mut model: BTreeMap<ObjectId, Document> = BTreeMap::new();
        for documents in batches {
            let ids: Vec<_> =
                documents.iter().map(|one| one.get_object_id("_id").unwrap()).collect();
            let twice = (1..ids.len()).any(|at| ids[..at].contains(&ids[at]));
            let taken = twice || ids.iter().any(|id| model.contains_key(id));
            match insert(door, bucket, &documents).await {
                Reply::Error(message) => {
                    prop_assert!(taken && message.starts_with("DUPLICATEKEY Duplicate key: _id '"));
                }
                Reply::Array(replies) => {
                    let hex: Vec<_> =
                        ids.iter().map(|id| bytes::Bytes::from(id.to_hex())).collect();
                    prop_assert!(!taken);
                    prop_assert_eq!(bulks(&replies), hex);
                    model.extend(ids.into_iter().zip(documents));
                }
                reply => panic!("{reply:?}"),
            }
        }
        let words: [&[u8]; 3] = [b"BUCKET.QUERY", bucket.as_bytes(), b"{}"];
        let found = all(door, &words, 100).await;
        let expected: Vec<_> = model.values().cloned().collect();
        prop_assert_eq!(found, expected);
        let size: usize = model.values().map(|one| bytes(one).len()).sum();
        let described = door.done(&format!("BUCKET.DESCRIBE {bucket}")).await;
        let Reply::Map(described) = described else { panic!("{described:?}") };
        let told = |name| {
            let pair = described.iter().find(|(key, _)| *key == Reply::literal(name));
            pair.map(|(_, value)| value.clone())
        };
        prop_assert_eq!(
            told("documents"),
            Some(Reply::Integer(i64::try_from(model.len()).unwrap()))
        );
        prop_assert_eq!(told("bytes"), Some(Reply::Integer(i64::try_from(size).unwrap())));
        Ok(())
    });
}

#[tokio::test]
async fn documents_and_ids_come_in_the_form_that_the_session_wants() {
    let house = House::build().await;
    let mut door = house.door();
    door.done("BUCKET.CREATE b").await;
    let id = "6835a1c0e4b0f72a3c000001";
    let hex = door.done(&format!("BUCKET.INSERT b DOCS {{_id:'{id}',a:1}}")).await;
    assert_eq!(hex, Reply::Array(vec![Reply::literal(id)]));
    let json = Reply::literal(r#"{"_id":"6835a1c0e4b0f72a3c000001","a":1}"#);
    let entries = Reply::Array(vec![json]);
    let pair = Reply::Array(vec![Reply::Integer(1), entries.clone()]);
    assert_eq!(door.done("BUCKET.QUERY b {}").await, pair);
    door.done("SESSION.ATTRIBUTE SET reply_type bson").await;
    let stored = bson::doc! {"_id": ObjectId::parse_str(id).unwrap(), "a": 1};
    let (_, entries_bson) = batch(&door.done("BUCKET.QUERY b {}").await);
    assert_eq!(entries_bson, [bytes(&stored)]);
    door.done("SESSION.ATTRIBUTE SET reply_type json").await;
    door.done("HELLO 3").await;
    let map = Reply::map([("cursor_id", Reply::Integer(3)), ("entries", entries)]);
    assert_eq!(door.done("BUCKET.QUERY b {}").await, map);
    door.done("SESSION.ATTRIBUTE SET object_id_format bytes").await;
    let other = ObjectId::from_bytes([7; 12]);
    let raw = door.done(&format!("BUCKET.INSERT b DOCS {{_id:'{}'}}", other.to_hex())).await;
    assert_eq!(raw, Reply::Array(vec![Reply::copy(&other.bytes())]));
}

#[tokio::test]
async fn an_id_in_json_is_text_but_in_bson_an_object_id() {
    let house = House::build().await;
    let mut door = house.door();
    door.done("BUCKET.CREATE b").await;
    door.done("SESSION.ATTRIBUTE SET input_type bson").await;
    let text = bson::doc! {"_id": "6835a1c0e4b0f72a3c000001"};
    let refused = insert(&mut door, "b", &[text]).await;
    assert_eq!(refused, Reply::Error("ERR _id field must be of type ObjectId".into()));
    let refused = door.refused("BUCKET.INSERT b DOCS {}").await;
    assert_eq!(refused, "ERR Invalid BSON: shorter than its length field at byte 0");
}

#[tokio::test]
async fn wrong_words_are_refused_in_the_words_of_the_contract() {
    let house = House::build().await;
    let mut door = house.door();
    door.done("BUCKET.CREATE b").await;
    for (line, expected) in [
        ("BUCKET.INSERT b", "ERR wrong number of arguments for 'BUCKET.INSERT' command"),
        ("BUCKET.INSERT b DOCS", "ERR No documents provided"),
        ("BUCKET.INSERT b DOX {}", "ERR Unknown 'DOX' argument"),
        ("BUCKET.INSERT no DOCS {}", "NOSUCHBUCKET No such bucket: 'no'"),
        ("BUCKET.INSERT b DOCS {'_id':1}", "ERR _id field must be of type ObjectId"),
        ("BUCKET.QUERY no {}", "NOSUCHBUCKET No such bucket: 'no'"),
        ("BUCKET.QUERY b {} LIMIT -1", "ERR LIMIT argument must be a non-negative integer"),
        ("BUCKET.QUERY b {} LIMIT", "ERR LIMIT argument must be followed by a positive integer"),
        ("BUCKET.QUERY b {} LIMIT 10000", "ERR Maximum limit value is 10000"),
        ("BUCKET.QUERY b {} LIMIT x", "ERR value is not an integer or out of range"),
        ("BUCKET.QUERY b {} OFFSET 1", "ERR Unknown 'OFFSET' argument"),
        (
            "BUCKET.QUERY b {} SORTBY a",
            "ERR SORTBY argument must be followed by a field name and direction (ASC or DESC)",
        ),
        (
            "BUCKET.QUERY b {} RESULTSORT",
            "ERR RESULTSORT argument must be followed by a field name and direction (ASC or DESC)",
        ),
        ("BUCKET.QUERY b {} SORTBY a UP", "ERR Invalid sort direction: UP"),
        (
            "BUCKET.QUERY b {} SORTBY a ASC RESULTSORT a DESC",
            "ERR SORTBY and RESULTSORT cannot use the same field: 'a'",
        ),
        ("BUCKET.QUERY b {a:{$near:1}}", "ERR BQL parse error: Unknown operator: $near (at a)"),
        (
            "BUCKET.ADVANCE QUERY 99",
            "ERR No previous query context found for 'query' operation with the given cursor id",
        ),
        (
            "BUCKET.ADVANCE UPDATE -1",
            "ERR No previous query context found for 'update' operation with the given cursor id",
        ),
        ("BUCKET.ADVANCE QUERY x", "ERR value is not an integer or out of range"),
        ("BUCKET.ADVANCE SCAN 1", "ERR Unknown 'SCAN' action"),
        ("BUCKET.CLOSE QUERY 1", "ERR no cursor found"),
        ("BUCKET.CLOSE SCAN 1", "ERR Unknown 'SCAN' action"),
        ("BUCKET.CURSORS SCAN", "ERR Unknown 'SCAN' action"),
    ] {
        assert_eq!(door.refused(line).await, expected, "{line}");
    }
    let several = door.call(["BUCKET.INSERT", "b", "DOCS", "{a: 1}", "{a: }"]).await;
    let expected =
        "ERR Invalid JSON: expected a value, found '}' at line 1 column 5 (document 2 of 2)";
    assert_eq!(several, Reply::Error(expected.into()));
    // None of them left anything behind.
    assert_eq!(batch(&door.done("BUCKET.QUERY b {}").await), (1, Vec::new()));
}

#[tokio::test]
async fn cursors_are_listed_by_operation_and_forgotten_oldest_first() {
    let house = House::build().await;
    let mut door = house.door();
    door.done("BUCKET.CREATE b").await;
    for _ in 0..3 {
        door.done("BUCKET.INSERT b DOCS {} {}").await;
    }
    door.done("BUCKET.QUERY b {} LIMIT 2").await;
    let text = Reply::Text("{}".into());
    let queries =
        |id| (Reply::literal("QUERY"), Reply::Map(vec![(Reply::Integer(id), text.clone())]));
    let empty = |name| (Reply::literal(name), Reply::Map(Vec::new()));
    let listed = Reply::Map(vec![queries(1), empty("UPDATE"), empty("DELETE")]);
    assert_eq!(door.done("BUCKET.CURSORS").await, listed);
    assert_eq!(door.done("BUCKET.CURSORS update").await, Reply::Map(vec![empty("UPDATE")]));
    // Exhausted cursors never fill the session up; those with more to give do.
    for _ in 0..300 {
        door.done("BUCKET.QUERY b {_id:'6835a1c0e4b0f72a3c000001'}").await;
    }
    let unknown = "No previous query context found";
    assert!(door.refused("BUCKET.ADVANCE QUERY 2").await.contains(unknown));
    assert_eq!(batch(&door.done("BUCKET.ADVANCE QUERY 301").await), (301, Vec::new()));
    for _ in 0..99 {
        door.done("BUCKET.QUERY b {} LIMIT 1").await;
    }
    let full = door.refused("BUCKET.QUERY b {} LIMIT 1").await;
    assert!(full.starts_with("ERR too many open cursors"), "{full}");
    door.done("BUCKET.CLOSE QUERY 1").await;
    door.done("BUCKET.QUERY b {} LIMIT 1").await;
}

#[tokio::test]
async fn a_cursor_of_a_removed_bucket_says_so_and_goes_on_after_its_return() {
    let house = House::build().await;
    let mut door = house.door();
    door.done("NAMESPACE CREATE other").await;
    door.done("BUCKET.CREATE b").await;
    for n in 0..4 {
        door.done(&format!("BUCKET.INSERT b DOCS {{n:{n}}}")).await;
    }
    door.done("BUCKET.QUERY b {} LIMIT 2 PROJECTION {_id:0}").await;
    door.done("BUCKET.QUERY b {n:9}").await;
    // The cursor keeps its own namespace.
    door.done("NAMESPACE USE other").await;
    door.done("NAMESPACE USE global").await;
    door.done("BUCKET.REMOVE b").await;
    for line in [
        "BUCKET.ADVANCE QUERY 1",
        "BUCKET.ADVANCE QUERY 2",
        "BUCKET.QUERY b {}",
        "BUCKET.INSERT b DOCS {}",
    ] {
        let refused = door.refused(line).await;
        assert_eq!(refused, "BUCKETBEINGREMOVED Bucket 'b' is being removed", "{line}");
    }
    door.done("BUCKET.RESTORE b").await;
    door.done("NAMESPACE USE other").await;
    let (_, rest) = batch(&door.done("BUCKET.ADVANCE QUERY 1").await);
    assert_eq!(rest, [r#"{"n":2}"#, r#"{"n":3}"#]);
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_one_transaction_changes_nothing() {
    let house = House::build().await;
    let mut door = house.door();
    door.done("BUCKET.CREATE b").await;
    let large = format!("{{t:'{}'}}", "x".repeat(4_000_000));
    let words = ["BUCKET.INSERT", "b", "DOCS", large.as_str(), large.as_str(), large.as_str()];
    let Reply::Error(message) = door.call(words).await else { panic!("12 MB went in") };
    assert!(message.starts_with("TRANSACTION_TOO_LARGE "), "{message}");
    let huge = format!("{{t:'{}'}}", "x".repeat(9_000_000));
    let Reply::Error(message) = door.call(["BUCKET.INSERT", "b", "DOCS", &huge]).await else {
        panic!("9 MB went in")
    };
    assert!(message.contains("the document is larger than 8388608 bytes"), "{message}");
    assert_eq!(batch(&door.done("BUCKET.QUERY b {}").await).1.len(), 0);
    door.call(["BUCKET.INSERT", "b", "DOCS", large.as_str(), large.as_str()]).await;
    assert_eq!(batch(&door.done("BUCKET.QUERY b {}").await).1.len(), 2);
}

#[tokio::test]
async fn what_the_cursors_of_a_session_hold_is_bounded() {
    let house = House::with(|config| config.session.cursor_bytes_max = 1 << 20).await;
    let mut door = house.door();
    door.done("BUCKET.CREATE b").await;
    for n in 0..6 {
        door.done(&format!("BUCKET.INSERT b DOCS {{n:{n}}}")).await;
    }
    let value = "x".repeat(300_000);
    let update = |n: u32| format!("BUCKET.UPDATE b {{}} {{$set:{{t{n}:'{value}'}}}} LIMIT 1");
    for n in 0..3 {
        door.done(&update(n)).await;
    }
    let full = "ERR the cursors of a session hold at most 1048576 bytes; close some with BUCKET.CLOSE, or ask for less";
    // Refused before anything is changed.
    assert_eq!(door.refused(&update(3)).await, full);
    assert_eq!(batch(&door.done("BUCKET.QUERY b {t3:{$exists:true}}").await).1.len(), 0);
    let filter = format!("{{n:{{$nin:['{value}']}}}}");
    assert_eq!(door.refused(&format!("BUCKET.QUERY b {filter} LIMIT 1")).await, full);
    assert_eq!(door.refused(&format!("BUCKET.DELETE b {filter} LIMIT 1")).await, full);
    // Those that are open go on, and what is exhausted holds nothing any more.
    for _ in 0..6 {
        door.done("BUCKET.ADVANCE UPDATE 1").await;
    }
    door.done(&update(3)).await;
    assert_eq!(door.refused(&update(4)).await, full);
    door.done("BUCKET.CLOSE UPDATE 2").await;
    door.done(&update(4)).await;
    door.done("SESSION.CLOSE").await;
    let (cursor, _) = batch(&door.done("BUCKET.QUERY b {n:{$ne:'x'}} LIMIT 1").await);
    assert_eq!(cursor, 1);
}

/// What a cursor is to remember is with it again when its batch fails.
#[tokio::test]
async fn a_cursor_whose_batch_fails_goes_on_where_it_was_and_changes_nothing_twice() {
    let house = House::build().await;
    let mut door = house.door();
    door.done("BUCKET.CREATE b INDEXES {u:{bson_type:'int32',unique:true}}").await;
    for n in 0..6 {
        door.done(&format!("BUCKET.INSERT b DOCS {{n:{n},u:{n}}}")).await;
    }
    // Each moves behind the cursor in its own order.
    let (cursor, ids) =
        batch(&door.done("BUCKET.UPDATE b {} {$inc:{n:10,u:10,c:1}} SORTBY n ASC LIMIT 2").await);
    assert_eq!(ids.len(), 2);
    door.done("BUCKET.INSERT b DOCS {u:13,blocks:true}").await;
    let advance = format!("BUCKET.ADVANCE UPDATE {cursor}");
    for _ in 0..2 {
        assert!(door.refused(&advance).await.starts_with("DUPLICATEKEY"));
    }
    door.done("BUCKET.DELETE b {blocks:true}").await;
    let mut changed = ids.len();
    for _ in 0..6 {
        changed += batch(&door.done(&advance).await).1.len();
    }
    assert_eq!(changed, 6);
    assert_eq!(batch(&door.done("BUCKET.QUERY b {c:1}").await).1.len(), 6);
}
