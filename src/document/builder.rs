use super::Document;
use crate::document::json::push_decimal;
use crate::value::{Field, raw::tag};

/// Puts a document together from fields of valid documents.
#[derive(Debug)]
pub struct Builder {
    out: Vec<u8>,
    /// The position of the next element, where an array is being written.
    index: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An empty document.
    pub fn new() -> Self {
        Self { out: vec![0; 4], index: 0 }
    }

    /// Appends a field as it is.
    pub fn copy(&mut self, field: &Field<'_>) {
        self.head(field.tag, field.key);
        self.out.extend_from_slice(field.bytes);
    }

    /// Appends a value under a name.
    pub fn value(&mut self, key: &[u8], tag: u8, bytes: &[u8]) {
        self.head(tag, key);
        self.out.extend_from_slice(bytes);
    }

    /// Appends an element of an array; it gets the next position.
    pub fn push(&mut self, element: &Field<'_>) {
        self.next_head(element.tag);
        self.out.extend_from_slice(element.bytes);
    }

    /// Appends a value as an element of an array.
    pub fn push_value(&mut self, tag: u8, bytes: &[u8]) {
        self.next_head(tag);
        self.out.extend_from_slice(bytes);
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was appended yet.
    pub fn is_empty(&self) -> bool {
        self.out.len() <= 4
    }

    /// Appends a document or an array, by its tag, that `fill` writes.
    pub fn nested(&mut self, key: &[u8], tag: u8, fill: impl FnOnce(&mut Self)) {
        self.head(tag, key);
        self.fill(fill);
    }

    /// The same as an element of an array.
    pub fn push_nested(&mut self, tag: u8, fill: impl FnOnce(&mut Self)) {
        self.next_head(tag);
        self.fill(fill);
    }

    /// As [`Builder::nested`], where writing may fail. After an error this is to be thrown away.
    pub fn try_nested<E>(
        &mut self,
        key: &[u8],
        tag: u8,
        fill: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut result = Ok(());
        self.nested(key, tag, |out| result = fill(out));
        result
    }

    /// As [`Builder::push_nested`], where writing may fail. After an error this is to be thrown away.
    pub fn try_push_nested<E>(
        &mut self,
        tag: u8,
        fill: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut result = Ok(());
        self.push_nested(tag, |out| result = fill(out));
        result
    }

    /// The document.
    pub fn finish(mut self) -> Document {
        self.close(0);
        Document::built(self.out.into())
    }

    fn head(&mut self, tag: u8, key: &[u8]) {
        debug_assert!(tag != 0 && !key.contains(&0), "the end mark is not a field");
        self.out.push(tag);
        self.out.extend_from_slice(key);
        self.out.push(0);
    }

    fn next_head(&mut self, tag: u8) {
        self.out.push(tag);
        push_decimal(&mut self.out, self.index);
        self.out.push(0);
        self.index += 1;
    }

    fn fill(&mut self, fill: impl FnOnce(&mut Self)) {
        let (start, index) = (self.out.len(), std::mem::take(&mut self.index));
        self.out.extend_from_slice(&[0; 4]);
        fill(self);
        self.close(start);
        self.index = index;
    }

    fn close(&mut self, start: usize) {
        self.out.push(0);
        let length = i32::try_from(self.out.len() - start).unwrap_or(i32::MAX).to_le_bytes();
        if let Some(place) = self.out.get_mut(start..start + 4) {
            place.copy_from_slice(&length);
        }
    }
}

/// The document with its `_id` as the last field.
pub(super) fn append_id(document: Document, id: &[u8; 12]) -> Document {
    let mut out = Vec::from(document.into_bytes());
    out.pop();
    let mut builder = Builder { out, index: 0 };
    builder.value(b"_id", tag::OBJECT_ID, id);
    builder.finish()
}
