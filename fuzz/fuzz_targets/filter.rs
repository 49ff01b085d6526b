//! Any filter is refused or can be asked of any document; its plan agrees with it.
//!
//! The input is a filter and a document, both JSON, with a zero byte between them.

#![no_main]

use bytes::Bytes;
use lethe::document::{Document, Limits as DocumentLimits};
use lethe::value::Value;
use lethe::query::{Limits, Plan, Projection, matches, parse};
use libfuzzer_sys::fuzz_target;

const LIMITS: DocumentLimits = DocumentLimits { depth_max: 20, bytes_max: 1 << 16 };

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let filter = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let limits = Limits { document: LIMITS, pattern_bytes_max: 1 << 16, ..Limits::default() };
    // The same text as a projection.
    let projection = Projection::parse(&filter, LIMITS);
    let Ok(filter) = parse(&filter, &limits) else { return };
    let Some(Ok(document)) = parts.next().map(|text| Document::from_json(text, LIMITS)) else { return };
    let matched = matches(&filter, document.raw());
    if let Some(Value::ObjectId(id)) = document.raw().get(b"_id").map(|field| field.value()) {
        let plan = Plan::new(filter.clone());
        assert_eq!(plan.access.admits(&id) && matches(&plan.residual, document.raw()), matched);
    }
    if let Ok(projection) = projection {
        let projected = projection.apply(&document, &filter);
        lethe::value::raw::validate(projected.bytes(), LIMITS.depth_max).expect("still valid");
    }
});
