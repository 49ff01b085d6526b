use std::collections::HashSet;

use bson::oid::ObjectId;
use xxhash_rust::xxh3::xxh3_64;

use super::change::{Sums, indexes, log, taken, written};
use super::{Builder, Document, Home, ObjectIds, builder::append_id, join_all, stored};
use crate::codec::record::ChangeOp;
use crate::error::{Error, Result};
use crate::store::{Read, Transaction};
use crate::value::{Raw, Value, raw::tag};

/// Existing ids looked up at the same time.
const READS_AT_ONCE: usize = 64;

/// A document that has its id and is ready to be stored.
#[derive(Clone, Debug)]
pub struct NewDocument {
    id: ObjectId,
    document: Document,
    /// The id was made here, so that nobody can have it already.
    generated: bool,
    /// Where to look for an unused body number, should it need one.
    body: u64,
}

/// Whether a document came as text, where an id is written as a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Json,
    Bson,
}

impl NewDocument {
    /// Takes the `_id` from the document, or makes one and appends it as the last field.
    ///
    /// # Errors
    /// `_id field must be of type ObjectId`.
    pub fn new(document: Document, origin: Origin, ids: &ObjectIds) -> Result<Self> {
        let field = document.raw().get(b"_id");
        let given = match field.map(|field| field.value()) {
            None => None,
            Some(Value::ObjectId(id)) => Some(id),
            Some(Value::String(text)) if origin == Origin::Json => {
                let id = std::str::from_utf8(text).ok().and_then(|t| ObjectId::parse_str(t).ok());
                Some(id.ok_or_else(wrong_id)?)
            }
            Some(_) => return Err(wrong_id()),
        };
        let fresh = ids.next_id();
        let id = given.unwrap_or(fresh);
        let document = match field {
            Some(field) if field.tag == tag::OBJECT_ID => document,
            Some(_) => with_id_in_place(document.raw(), &id),
            None => append_id(document, &id.bytes()),
        };
        Ok(Self { id, document, generated: given.is_none(), body: xxh3_64(&fresh.bytes()) })
    }

    /// Its id.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The document, its `_id` in it.
    pub fn document(&self) -> &Document {
        &self.document
    }
}

fn wrong_id() -> Error {
    Error::syntax("_id field must be of type ObjectId")
}

/// The same fields in the same order, `_id` being the ObjectId that its text meant.
fn with_id_in_place(raw: Raw<'_>, id: &ObjectId) -> Document {
    let mut out = Builder::new();
    for field in raw {
        if field.key == b"_id" {
            out.value(field.key, tag::OBJECT_ID, &id.bytes());
        } else {
            out.copy(&field);
        }
    }
    out.finish()
}

/// Inserts all of these, or fails and must not be committed. `at` is cluster
/// time, for the change log. Reads only the ids that were given, with
/// conflict; ids made here need no read.
///
/// # Errors
/// `DUPLICATEKEY`; those of [`crate::index::maintain`] and of the store.
pub async fn insert(
    txn: &Transaction,
    home: &Home,
    documents: &[NewDocument],
    at: i64,
) -> Result<()> {
    let mut sums = Sums::default();
    insert_counted(txn, home, documents, at, &mut sums).await?;
    sums.write(txn, home)
}

/// As [`insert`], which leaves it to the caller to write the sums.
pub(super) async fn insert_counted(
    txn: &Transaction,
    home: &Home,
    documents: &[NewDocument],
    at: i64,
    sums: &mut Sums,
) -> Result<()> {
    let given: Vec<&NewDocument> = documents.iter().filter(|new| !new.generated).collect();
    refuse_existing(txn, home, &given).await?;
    for new in documents {
        let value = stored::write(txn, home, &new.document, new.body).await?;
        txn.set(&home.key(&new.id), &value)?;
        log(txn, home, ChangeOp::Insert, &new.id, at)?;
        sums.of(home, &new.id).inserted(&new.document);
    }
    let all: Vec<_> =
        documents.iter().map(|new| written(home, &new.id, None, Some(&new.document))).collect();
    indexes(txn, home, &all).await
}

async fn refuse_existing(txn: &Transaction, home: &Home, given: &[&NewDocument]) -> Result<()> {
    let mut seen = HashSet::with_capacity(given.len());
    for new in given {
        if !seen.insert(new.id) {
            return Err(taken(&new.id));
        }
    }
    for part in given.chunks(READS_AT_ONCE) {
        let reads = part.iter().map(|new| async {
            let found = txn.get(&home.key(&new.id), Read::Conflict).await?;
            Ok::<_, Error>((new.id, found.is_some()))
        });
        for (id, exists) in join_all(reads).await? {
            if exists {
                return Err(taken(&id));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;
    use crate::codec::keys;
    use crate::codec::record::decode_change;
    use crate::document::{Limits, Scan, get, scan};
    use crate::store::{RangeRead, Store};
    use std::ops::Bound;
    use std::sync::Arc;

    const AT: i64 = 1_700_000_000_000;

    fn home() -> Home {
        Home::for_test(7, &[2, 5])
    }

    fn ids() -> ObjectIds {
        ObjectIds::new([9; 5], Arc::new(TestClock::starting_at(AT)))
    }

    fn new(ids: &ObjectIds, text: &str) -> Result<NewDocument> {
        let document = Document::from_json(text.as_bytes(), Limits::default()).unwrap();
        NewDocument::new(document, Origin::Json, ids)
    }

    async fn insert_all(store: &Store, documents: &[NewDocument]) -> Result<()> {
        let txn = store.begin("insert");
        insert(&txn, &home(), documents, AT).await?;
        txn.commit().await?;
        Ok(())
    }

    async fn sum(store: &Store, what: u16) -> i64 {
        let txn = store.begin("sum");
        let mut sum = 0;
        for shard in [2, 5] {
            let value = txn.get(&keys::count(home().bucket(), shard, what), Read::Snapshot).await;
            sum +=
                value.unwrap().map_or(0, |value| i64::from_le_bytes((*value).try_into().unwrap()));
        }
        sum
    }

    #[tokio::test]
    async fn a_missing_id_is_made_and_appended_and_a_text_becomes_an_object_id() {
        let ids = ids();
        let made = new(&ids, "{a: 1}").unwrap();
        let json = String::from_utf8(made.document().to_json()).unwrap();
        assert_eq!(json, format!("{{\"a\":1,\"_id\":\"{}\"}}", made.id().to_hex()));
        crate::value::raw::validate(made.document().bytes(), 9).unwrap();
        let given = new(&ids, "{a: 1, '_id': '6835a1c0e4b0f72a3c000001', b: 'x'}").unwrap();
        let json = String::from_utf8(given.document().to_json()).unwrap();
        assert_eq!(json, r#"{"a":1,"_id":"6835a1c0e4b0f72a3c000001","b":"x"}"#);
        crate::value::raw::validate(given.document().bytes(), 9).unwrap();
        let same = new(&ids, "{'_id': {$oid: '6835a1c0e4b0f72a3c000001'}}").unwrap();
        assert_eq!(same.id(), given.id());
        for wrong in ["{'_id': 1}", "{'_id': 'x'}", "{'_id': null}", "{'_id': {}}"] {
            let error = new(&ids, wrong).unwrap_err().to_string();
            assert_eq!(error, "_id field must be of type ObjectId");
        }
        let text = Document::from_json(b"{'_id': '6835a1c0e4b0f72a3c000001'}", Limits::default());
        assert!(NewDocument::new(text.unwrap(), Origin::Bson, &ids).is_err());
    }

    #[tokio::test]
    async fn generated_ids_are_inserted_without_a_read() {
        let (store, ids) = (Store::memory(), ids());
        let txn = store.begin("insert");
        let documents = [new(&ids, "{a: 1}").unwrap(), new(&ids, "{a: 2}").unwrap()];
        insert(&txn, &home(), &documents, AT).await.unwrap();
        assert_eq!(txn.read_conflicts(), []);
        txn.commit().await.unwrap();
    }

    #[tokio::test]
    async fn an_existing_id_fails_the_whole_batch_and_is_guarded_until_the_commit() {
        let (store, ids) = (Store::memory(), ids());
        let given = new(&ids, "{'_id': '6835a1c0e4b0f72a3c000001'}").unwrap();
        let txn = store.begin("insert");
        let batch = [given.clone()];
        insert(&txn, &home(), &batch, AT).await.unwrap();
        let key = home().key(&given.id());
        assert_eq!(txn.read_conflicts(), [(key.clone(), crate::store::key_after(&key))]);
        insert_all(&store, &batch).await.unwrap();
        assert!(txn.commit().await.is_err());
        for batch in [vec![new(&ids, "{}").unwrap(), given.clone()], vec![given.clone(); 2]] {
            let error = insert_all(&store, &batch).await.unwrap_err().to_line();
            assert_eq!(error, "DUPLICATEKEY Duplicate key: _id '6835a1c0e4b0f72a3c000001'");
        }
        assert_eq!(sum(&store, keys::counted::DOCUMENTS).await, 1);
    }

    #[tokio::test]
    async fn counters_and_the_change_log_have_every_document_once() {
        let (store, ids) = (Store::memory(), ids());
        let documents: Vec<_> =
            (0..50).map(|n| new(&ids, &format!("{{n: {n}}}")).unwrap()).collect();
        insert_all(&store, &documents[..20]).await.unwrap();
        insert_all(&store, &documents[20..]).await.unwrap();
        let bytes: usize = documents.iter().map(|new| new.document().bytes().len()).sum();
        assert_eq!(sum(&store, keys::counted::DOCUMENTS).await, 50);
        assert_eq!(sum(&store, keys::counted::BYTES).await, i64::try_from(bytes).unwrap());
        let txn = store.begin("changes");
        let mut changed = Vec::new();
        for shard in [2, 5] {
            let prefix = keys::change_prefix(home().bucket(), shard);
            let page = txn.range(RangeRead::prefix(prefix)).await.unwrap();
            assert!(!page.rows.is_empty(), "both shards get documents");
            for (_, value) in page.rows {
                let change = decode_change(&value).unwrap();
                assert_eq!((change.op, change.at), (ChangeOp::Insert, AT));
                assert_eq!(home().shard_of(&ObjectId::from_bytes(change.oid)), shard);
                changed.push(ObjectId::from_bytes(change.oid));
            }
        }
        changed.sort();
        assert_eq!(changed, documents.iter().map(NewDocument::id).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_large_document_lies_in_pieces_and_comes_back_whole() {
        let (store, ids) = (Store::memory(), ids());
        let mut documents = Vec::new();
        for size in [10, 89_950, 90_000, 180_000, 1_000_000] {
            documents.push(new(&ids, &format!("{{t: '{}'}}", "x".repeat(size))).unwrap());
        }
        insert_all(&store, &documents).await.unwrap();
        let txn = store.begin("read");
        for new in &documents {
            let read = get(&txn, &home(), &new.id(), Read::Snapshot).await.unwrap().unwrap();
            assert_eq!(&read, new.document());
        }
        let (begin, end, read) = (Bound::Unbounded, Bound::Unbounded, Read::Snapshot);
        let page = Scan { begin, end, reverse: true, rows_max: 10, bytes_max: 1 << 20, read };
        let page = scan(&txn, &home(), &page).await.unwrap();
        let found: Vec<_> = page.rows.iter().map(|(id, _)| *id).collect();
        assert_eq!(found, documents.iter().rev().map(NewDocument::id).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_missing_or_changed_piece_is_reported_and_never_served() {
        let (store, ids) = (Store::memory(), ids());
        let large = new(&ids, &format!("{{t: '{}'}}", "x".repeat(200_000))).unwrap();
        insert_all(&store, std::slice::from_ref(&large)).await.unwrap();
        let prefix = keys::data_part(home().bucket(), keys::data::BODY);
        for whole in [false, true] {
            let txn = store.begin("damage");
            let rows = txn.range(RangeRead::prefix(prefix.clone())).await.unwrap().rows;
            let (key, value) = rows.last().unwrap();
            if whole {
                txn.clear(key).unwrap();
            } else {
                txn.set(key, &vec![b'y'; value.len()]).unwrap();
            }
            txn.commit().await.unwrap();
            let txn = store.begin("read");
            let error = get(&txn, &home(), &large.id(), Read::Snapshot).await.unwrap_err();
            assert!(matches!(error, Error::Damaged(_)), "{error}");
        }
    }

    #[tokio::test]
    async fn the_body_of_a_new_document_never_lands_on_another() {
        let (store, ids) = (Store::memory(), ids());
        let text = |letter: &str| format!("{{t: '{}'}}", letter.repeat(100_000));
        let first = new(&ids, &text("a")).unwrap();
        let mut second = new(&ids, &text("b")).unwrap();
        second.body = first.body;
        insert_all(&store, &[first.clone(), second.clone()]).await.unwrap();
        let txn = store.begin("read");
        for new in [first, second] {
            let read = get(&txn, &home(), &new.id(), Read::Snapshot).await.unwrap().unwrap();
            assert_eq!(&read, new.document());
        }
    }
}
