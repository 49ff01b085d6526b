//! The indexes of a bucket as every transaction on it needs them: parsed once,
//! when the bucket's handle is made.
//!
//! Not here: their entries (`index`), creating and dropping them (`index::define`).

use std::any::Any;
use std::sync::{Arc, OnceLock};

use crate::codec::record::{BucketRecord, IndexField, IndexRecord, IndexStatus};
use crate::value::{Collator, Path, collation::DATA_VERSION};

/// One index and the parsed paths of its fields.
#[derive(Debug, Clone)]
pub struct Index {
    record: IndexRecord,
    paths: Box<[Path]>,
    collator: Option<Collator>,
}

impl Index {
    /// From the record.
    #[must_use]
    pub fn new(record: IndexRecord) -> Self {
        let paths = record.fields.iter().map(|field| Path::new(&field.selector)).collect();
        // One that was stored has been parsed before, so it always has a collator.
        let collator = record.collation.as_ref().and_then(|is| Collator::of(is).ok());
        Self { record, paths, collator }
    }

    #[must_use]
    pub fn record(&self) -> &IndexRecord {
        &self.record
    }

    /// Its number within the bucket.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.record.id
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its fields, each with where it leads.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&IndexField, &Path)> {
        self.record.fields.iter().zip(&self.paths)
    }

    /// The field at this position.
    #[must_use]
    pub fn field(&self, position: usize) -> Option<(&IndexField, &Path)> {
        self.record.fields.get(position).zip(self.paths.get(position))
    }

    /// How its strings are ordered; `None`: by their bytes. It serves only
    /// queries that compare them the same way.
    #[must_use]
    pub fn collator(&self) -> Option<&Collator> {
        self.collator.as_ref()
    }

    #[must_use]
    pub fn is_compound(&self) -> bool {
        self.record.fields.len() > 1
    }

    #[must_use]
    pub fn is_unique(&self) -> bool {
        self.record.unique
    }

    /// Whether queries may use it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.record.status == IndexStatus::Ready && !self.is_stale()
    }

    /// Whether its strings have keys of other collation data than those of this
    /// program: what it would look for or write there is not what stands there.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.record.collation.is_some() && self.record.collation_data != DATA_VERSION
    }

    /// Whether documents from before it are still being added.
    #[must_use]
    pub fn is_building(&self) -> bool {
        self.record.status == IndexStatus::Building
    }

    /// Whether writes keep it.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.record.status != IndexStatus::Failed
    }
}

/// The indexes of a bucket, without the primary one.
#[derive(Debug, Clone, Default)]
pub struct Indexes {
    list: Box<[Index]>,
    strict: bool,
    any_kept: bool,
    /// What layers above remember of this bucket; see [`Indexes::memory`].
    memory: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Indexes {
    /// From the record of the bucket.
    #[must_use]
    pub fn of(record: &BucketRecord) -> Self {
        let list: Box<[Index]> = record.indexes.iter().cloned().map(Index::new).collect();
        let any_kept = list.iter().any(Index::is_kept);
        Self { list, strict: record.strict_types, any_kept, memory: OnceLock::new() }
    }

    /// All of them, in the order in which they were created.
    pub fn iter(&self) -> impl Iterator<Item = &Index> {
        self.list.iter()
    }

    /// Those that writes keep.
    pub fn kept(&self) -> impl Iterator<Item = &Index> {
        self.list.iter().filter(|index| index.is_kept())
    }

    /// Those that queries may use.
    pub fn ready(&self) -> impl Iterator<Item = &Index> {
        self.list.iter().filter(|index| index.is_ready())
    }

    /// Whether a write has nothing to do for any of them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.any_kept
    }

    /// Whether a value of another type than declared is refused.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// What a layer above remembers as long as the bucket's handle lives, so that
    /// it is gone with whatever makes a handle invalid. There is one kind of it:
    /// the first that asks makes it, and another gets one of its own, kept by nobody.
    #[must_use]
    pub fn memory<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let kept = self.memory.get_or_init(|| Arc::new(T::default()));
        Arc::clone(kept).downcast().unwrap_or_default()
    }

    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Index> {
        self.list.iter().find(|index| index.name() == name)
    }

    #[must_use]
    pub fn by_id(&self, id: u32) -> Option<&Index> {
        self.list.iter().find(|index| index.id() == id)
    }
}
