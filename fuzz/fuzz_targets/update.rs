//! Any update is refused, or makes a valid document of any document: within its
//! limits, with the same `_id`, the same each time, under a collation too.
//!
//! The input is an update, a filter, a document and a collation, all JSON, with a zero byte
//! between them.

#![no_main]

use bytes::Bytes;
use lethe::document::{Document, Limits as DocumentLimits};
use lethe::query::{Ast, Limits, parse};
use lethe::update::Update;
use lethe::value::{Collator, Value, collation, raw};
use libfuzzer_sys::fuzz_target;

const LIMITS: DocumentLimits = DocumentLimits { depth_max: 20, bytes_max: 1 << 16 };
const BYTES_MAX: usize = 1 << 12;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(4, |byte| *byte == 0).map(Bytes::copy_from_slice);
    let limits = Limits { document: LIMITS, pattern_bytes_max: 1 << 16, ..Limits::default() };
    let Ok(update) = Update::parse(&parts.next().unwrap_or_default(), &limits, BYTES_MAX) else { return };
    let filter = parts.next().and_then(|text| parse(&text, &limits).ok()).unwrap_or(Ast::All);
    if update.expect_filter(&filter).is_err() {
        return;
    }
    let mut read = || parts.next().and_then(|text| Document::from_json(&text, LIMITS).ok());
    let Some(document) = read() else { return };
    let spec = read().and_then(|spec| collation::parse(&Value::Document(spec.raw())).ok().flatten());
    let collator = spec.map(|spec| Collator::of(&spec).expect("what was read can be built"));
    let (update, filter) = match &collator {
        None => (update.within(None), filter),
        Some(collator) => (update.within(Some(collator)), filter.collated(collator)),
    };
    let valid = |made: &Document| {
        assert!(made.bytes().len() <= BYTES_MAX, "larger than it may be");
        raw::validate(made.bytes(), LIMITS.depth_max).expect("an update makes valid BSON");
    };
    if let Ok(Some(made)) = update.apply(&filter, &document) {
        valid(&made);
        let id = |document: &Document| document.raw().get(b"_id").map(|id| id.bytes.to_vec());
        assert_eq!(id(&made), id(&document), "an update never changes the _id");
        assert_ne!(made.bytes(), document.bytes(), "nothing changed and yet it is written");
        let again = update.apply(&filter, &document).expect("as before").expect("as before");
        assert_eq!(again.bytes(), made.bytes(), "not the same twice");
    }
    if let Ok(made) = update.new_document(&filter) {
        valid(&made);
    }
});
