//! Any filter is refused or can be asked of any document, under a collation
//! too; its plan agrees with it.
//!
//! The input is a filter, a document and a collation, all JSON, with a zero byte between them.

#![no_main]

use bytes::Bytes;
use lethe::document::{Document, Limits as DocumentLimits};
use lethe::value::{Collator, Steps, Value, collation};
use lethe::query::{Limits, Plan, Projection, matches, parse};
use libfuzzer_sys::fuzz_target;

const LIMITS: DocumentLimits = DocumentLimits { depth_max: 20, bytes_max: 1 << 16 };

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let filter = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let limits = Limits { document: LIMITS, pattern_bytes_max: 1 << 16, ..Limits::default() };
    // The same text as a projection.
    let projection = Projection::parse(&filter, LIMITS);
    let Ok(filter) = parse(&filter, &limits) else { return };
    let mut read = || parts.next().and_then(|text| Document::from_json(text, LIMITS).ok());
    let Some(document) = read() else { return };
    let spec = read().and_then(|spec| collation::parse(&Value::Document(spec.raw())).ok().flatten());
    let filter = match spec {
        None => filter,
        Some(spec) => filter.collated(&Collator::of(&spec).expect("what was read can be built")),
    };
    let matched = matches(&filter, document.raw());
    if let Some(Value::ObjectId(id)) = document.raw().get(b"_id").map(|field| field.value()) {
        let plan = Plan::new(filter.clone());
        assert_eq!(plan.access.admits(&id) && matches(&plan.residual, document.raw()), matched);
    }
    if let Ok(projection) = projection {
        let projected = projection.apply(&document, &filter, &Steps::endless());
        lethe::value::raw::validate(projected.bytes(), LIMITS.depth_max).expect("still valid");
    }
});
