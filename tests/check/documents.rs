//! Damage below a bucket: documents, their pieces, counters, change logs.

use lethe::check::Kind;
use lethe::codec::{BucketId, keys};

use crate::damage::{AtRest, Change, clear, set};

impl AtRest {
    /// The row in the queue for the trim of a bucket's change log.
    pub(crate) async fn due_trim(&self, bucket: BucketId) -> Vec<u8> {
        let trims = self.rows(keys::data_part(bucket, keys::data::TRIM)).await;
        let (_, at) = keys::parse_trim(&trims[0].0).unwrap();
        keys::expiry(at, keys::due::TRIM, &bucket.0.to_be_bytes())
    }

    /// The row in the queue for the tombstones of a bucket.
    pub(crate) async fn due_vacuum(&self, bucket: BucketId) -> Vec<u8> {
        let vacuums = self.rows(keys::data_part(bucket, keys::data::VACUUM)).await;
        let (_, at) = keys::parse_vacuum(&vacuums[0].0).unwrap();
        keys::expiry(at, keys::due::VACUUM, &bucket.0.to_be_bytes())
    }

    /// The documents of a bucket, the large one last.
    async fn documents(&self, bucket: BucketId) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = self.rows(keys::data_part(bucket, keys::data::DOCUMENT)).await;
        rows.sort_by_key(|(_, value)| value[0]);
        rows
    }
}

/// The last byte changed by one.
fn flipped(value: &[u8], at: usize) -> Vec<u8> {
    let mut value = value.to_vec();
    value[at] ^= 1;
    value
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_not_what_was_written_is_found() {
    use Kind::DamagedDocument;
    let store = AtRest::new().await;
    for name in ["active", "removed", "held", "restored"] {
        let bucket = store.bucket(name);
        let documents = store.documents(bucket).await;
        let (small, value) = documents[0].clone();
        let (large, reference) = documents.last().unwrap().clone();
        let damaged = |key: &[u8]| [(DamagedDocument, key.to_vec())];
        for (what, changed) in [
            ("of an unknown form", flipped(&value, 0)),
            ("a length", flipped(&value, 1)),
            ("an end", flipped(&value, value.len() - 1)),
            ("the id in it", flipped(&value, value.len() - 2)),
        ] {
            let found = store.found(&[set(small.clone(), &changed)]).await;
            assert!(found.contains(&damaged(&small)[0]), "{what}: {found:?}");
        }
        let expected = damaged(&small);
        let other = flipped(&value, value.len() - 2);
        store.expect("another id", &[set(small.clone(), &other)], &expected).await;

        let checksum = flipped(&reference, reference.len() - 1);
        let expected = damaged(&large);
        store.expect("a checksum", &[set(large.clone(), &checksum)], &expected).await;
        let pieces = store.rows(keys::data_part(bucket, keys::data::BODY)).await;
        let body = u64::from_be_bytes(reference[1..9].try_into().unwrap());
        let of_body: Vec<_> = pieces
            .iter()
            .filter(|(key, _)| keys::parse_body_chunk(key).unwrap().1 == body)
            .collect();
        assert_eq!(of_body.len(), 3);
        let owner = store.owner_of(bucket, body).await;
        let expected = damaged(&owner);
        for (key, value) in &of_body {
            store.expect("a piece is missing", &[clear(key.clone())], &expected).await;
            store
                .expect("a piece is changed", &[set(key.clone(), &flipped(value, 0))], &expected)
                .await;
            let short = [set(key.clone(), &value[1..])];
            store.expect("a piece is too short", &short, &expected).await;
        }
        let extra = [set(keys::body_chunk(bucket, body, 3), b"x")];
        store.expect("a piece too many", &extra, &expected).await;
    }
}

impl AtRest {
    async fn owner_of(&self, bucket: BucketId, body: u64) -> Vec<u8> {
        let documents = self.documents(bucket).await;
        let refers = |value: &[u8]| value.get(1..9) == Some(&body.to_be_bytes()[..]);
        documents.into_iter().find(|(_, value)| value[0] == 2 && refers(value)).unwrap().0
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_no_document_refers_to_are_found() {
    let store = AtRest::new().await;
    for name in ["active", "removed"] {
        let bucket = store.bucket(name);
        let pieces: Vec<Change> =
            [0, 1].map(|chunk| set(keys::body_chunk(bucket, 42, chunk), b"x")).to_vec();
        let expected = [(Kind::OrphanedBody, keys::body_chunk(bucket, 42, 0))];
        store.expect("a body of nobody", &pieces, &expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn counters_that_differ_from_what_is_there_are_found() {
    let store = AtRest::new().await;
    for name in ["active", "removed", "restored"] {
        let bucket = store.bucket(name);
        let counts = store.rows(keys::data_part(bucket, keys::data::COUNT)).await;
        assert!(counts.len() >= 2, "documents and bytes of at least one shard");
        for (key, value) in counts {
            let expected = [(Kind::WrongCount, key.clone())];
            store.expect("one off", &[set(key.clone(), &flipped(&value, 0))], &expected).await;
            // A shard whose documents are all deleted again counts none, and a missing counter says the same.
            let missed = if value.iter().all(|byte| *byte == 0) { &[] } else { &expected[..] };
            store.expect("no counter", &[clear(key)], missed).await;
        }
        let (small, value) = store.documents(bucket).await[0].clone();
        let found = store.found(&[clear(small)]).await;
        assert_eq!(found.len(), 2, "a lost document is missing in both counters: {found:?}");
        assert!(found.iter().all(|(kind, _)| *kind == Kind::WrongCount));
        assert!(!value.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_bucket_cannot_have_is_found() {
    use Kind::{Contradiction, Undecodable, UnknownKey};
    let store = AtRest::new().await;
    let bucket = store.bucket("active");
    let (change, value) = store.rows(keys::data_part(bucket, keys::data::CHANGE)).await[0].clone();
    let torn = [set(change.clone(), &value[1..])];
    store.expect("a torn change", &torn, &[(Undecodable, change)]).await;
    let foreign = keys::count(bucket, 6, keys::counted::BYTES);
    let elsewhere = [set(foreign.clone(), &[0; 8])];
    store.expect("a shard of others", &elsewhere, &[(Contradiction, foreign)]).await;
    let what = keys::count(bucket, 1, 77);
    store.expect("it counts what", &[set(what.clone(), &[0; 8])], &[(UnknownKey, what)]).await;
    let mut short = keys::document(bucket, &[1; 12]);
    short.truncate(short.len() - 2);
    short.push(0);
    let expected = [(Undecodable, short.clone())];
    store.expect("an id of eleven bytes", &[set(short, b"x")], &expected).await;
    for (part, kind) in [(keys::data::INDEX, Undecodable), (200, UnknownKey)] {
        let key = keys::data_part(bucket, part);
        let found = store.found(&[set(key.clone(), b"x")]).await;
        assert_eq!(found, [(kind, key)]);
    }
}

#[tokio::test(start_paused = true)]
async fn entries_that_differ_from_their_documents_are_found() {
    use Kind::{Contradiction, Dangling, Missing, WrongCount};
    let store = AtRest::new().await;
    let bucket = store.bucket("indexed");
    let entries = store.rows(keys::index::entries(bucket, 1)).await;
    assert!(entries.len() >= 3, "each document has one");
    for (key, held) in &entries {
        let entry = keys::index::parse_entry(key).unwrap();
        let document = keys::document(bucket, &entry.id);
        let count = keys::index::count_prefix(bucket, 1);
        let of_shard = |found: &[(Kind, Vec<u8>)]| {
            found.iter().any(|(kind, key)| *kind == WrongCount && key.starts_with(&count))
        };
        let found = store.found(&[clear(key.clone())]).await;
        assert!(found.contains(&(Missing, document)) && of_shard(&found), "{found:?}");
        // The same values of a document that is not there, and other values of this one.
        let id = key.len() - 12;
        let mut orphan = key.clone();
        orphan[id] ^= 1;
        let found = store.found(&[set(orphan.clone(), held)]).await;
        assert!(found.contains(&(Dangling, orphan)) && of_shard(&found), "{found:?}");
        let mut other = key.clone();
        other.insert(id, 9);
        let found = store.found(&[set(other.clone(), held)]).await;
        assert!(found.contains(&(Contradiction, other)) && of_shard(&found), "{found:?}");
    }
    let unknown = keys::index::entries(bucket, 77);
    let unknown = [&unknown[..], &[8; 20]].concat();
    let expected = [(Dangling, unknown.clone())];
    store.expect("an index that is not there", &[set(unknown, &[0])], &expected).await;
    let lonely = keys::index::queued_task(bucket, 1, 1);
    let expected = [(Missing, lonely.clone())];
    store.expect("a task of nobody", &[set(lonely, b"")], &expected).await;
}
