//! Nitrite on fjall, with each commit synced.

use nitrite::collection::{Document as Stored, NitriteCollection, NitriteId, order_by};
use nitrite::common::{SortOrder, Value};
use nitrite::filter::field;
use nitrite::index::non_unique_index;
use nitrite_fjall_adapter::{Durability, FjallModule};
use tempfile::TempDir;

use crate::work::{
    Client, Document, FIRST, Find, Index, NAME, NOTE, Peer, RANGE, SIZES, STREET, code, group_name,
};

/// Where its ids begin.
const FIRST_ID: u64 = 1_000_000_000_000_000_000;

pub struct Nitrite {
    database: nitrite::nitrite::Nitrite,
    _folder: TempDir,
}

impl Nitrite {
    pub fn open() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("data");
        let module = FjallModule::with_config()
            .production_preset()
            .durability(Durability::OnCommit)
            .db_path(path.to_str().expect("a folder with a name"))
            .build();
        let database = nitrite::nitrite::Nitrite::builder();
        let database = database.load_module(module).open_or_create(None, None).expect("a database");
        Self { database, _folder: folder }
    }
}

impl Drop for Nitrite {
    fn drop(&mut self) {
        self.database.close().expect("it closes");
    }
}

impl Peer for Nitrite {
    fn name(&self) -> &'static str {
        "nitrite"
    }

    fn client(&self) -> Box<dyn Client + '_> {
        Box::new(Using { database: &self.database, last: None })
    }
}

struct Using<'a> {
    database: &'a nitrite::nitrite::Nitrite,
    /// Opening one takes time, so it is kept.
    last: Option<(String, NitriteCollection)>,
}

fn id(number: u64) -> NitriteId {
    NitriteId::create_id(FIRST_ID + number).expect("an id")
}

fn stored(document: &Document) -> Stored {
    let mut address = Stored::new();
    let mut new = Stored::new();
    let filled = (|| {
        address.put("street", STREET)?;
        address.put("zip", "34000")?;
        new.put("_id", id(document.number))?;
        new.put("code", code(document.number))?;
        new.put("group", group_name(document.group))?;
        new.put("size", document.size as i32)?;
        new.put("balance", document.number as f64 + 0.5)?;
        new.put("counter", 0)?;
        new.put("name", NAME)?;
        new.put("active", true)?;
        new.put("tags", Value::Array(vec![Value::from("reader"), Value::from("writer")]))?;
        new.put("address", address.clone())?;
        new.put("note", NOTE)
    })();
    filled.expect("fields of any type");
    new
}

impl Using<'_> {
    fn collection(&mut self, name: &str) -> NitriteCollection {
        match &self.last {
            Some((last, collection)) if last == name => collection.clone(),
            _ => {
                let collection = self.database.collection(name).expect("a collection");
                self.last = Some((name.to_owned(), collection.clone()));
                collection
            }
        }
    }
}

impl Client for Using<'_> {
    fn create(&mut self, collection: &str) {
        self.collection(collection);
    }

    fn insert(&mut self, collection: &str, documents: &[Document]) {
        let documents: Vec<Stored> = documents.iter().map(stored).collect();
        self.collection(collection).insert_many(documents).expect("an insert");
    }

    fn index(&mut self, collection: &str, index: Index) {
        let fields = match index {
            Index::Code => vec!["code"],
            Index::GroupAndSize => vec!["group", "size"],
        };
        self.collection(collection).create_index(fields, &non_unique_index()).expect("an index");
    }

    fn find(&mut self, collection: &str, find: Find) -> u64 {
        let collection = self.collection(collection);
        let filter = match find {
            Find::Id(number) => {
                let found = collection.get_by_id(&id(number)).expect("a read");
                return u64::from(found.is_some());
            }
            Find::Code(number) => field("code").eq(code(number)),
            Find::Codes(from) => field("code").between(code(from), code(from + RANGE), true, false),
            Find::Sizes(group) => field("group").eq(group_name(group)).and(field("size").between(
                SIZES.start as i32,
                SIZES.end as i32,
                true,
                false,
            )),
            Find::Largest(group) => {
                let options = order_by("size", SortOrder::Descending).limit(FIRST);
                let filter = field("group").eq(group_name(group));
                let found = collection.find_with_options(filter, &options).expect("a query");
                return found.count() as u64;
            }
            Find::Balance(from) => field("balance").gte(from as f64),
        };
        collection.find(filter).expect("a query").count() as u64
    }

    fn update(&mut self, collection: &str, number: u64) -> u64 {
        let mut change = Stored::new();
        change.put("counter", number as i32).expect("a field");
        let updated = self.collection(collection).update(field("code").eq(code(number)), &change);
        updated.expect("an update").affected_nitrite_ids().len() as u64
    }

    fn delete(&mut self, collection: &str, number: u64) -> u64 {
        let deleted = self.collection(collection).remove(field("code").eq(code(number)), false);
        deleted.expect("a deletion").affected_nitrite_ids().len() as u64
    }
}
