//! A bucket in memory for the tests of this module and of those above it.

use std::sync::Arc;

use bson::oid::ObjectId;

use super::{Document, Home, Limits, NewDocument, ObjectIds, Origin, insert};
use crate::clock::TestClock;
use crate::store::Store;

/// When everything in it happens.
pub(crate) const AT: i64 = 1_700_000_000_000;

/// An empty bucket in two shards.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) home: Home,
    ids: ObjectIds,
}

impl World {
    pub(crate) fn new() -> Self {
        let ids = ObjectIds::new([9; 5], Arc::new(TestClock::starting_at(AT)));
        Self { store: Store::memory(), home: Home::for_test(7, &[2, 5]), ids }
    }

    /// A document that can be inserted, with an id of its own if it has none.
    pub(crate) fn document(&self, text: &str) -> NewDocument {
        let document = Document::from_json(text.as_bytes(), Limits::default()).unwrap();
        NewDocument::new(document, Origin::Json, &self.ids).unwrap()
    }

    /// Inserts a document.
    pub(crate) async fn insert(&self, text: &str) -> (ObjectId, Document) {
        let new = self.document(text);
        let txn = self.store.begin("insert");
        insert(&txn, &self.home, std::slice::from_ref(&new), AT).await.unwrap();
        txn.commit().await.unwrap();
        (new.id(), new.document().clone())
    }
}
