//! Any bytes are refused or can be walked, printed, compared and decoded.

#![no_main]

use bytes::Bytes;
use lethe::document::{Document, Limits};
use lethe::value::{Value, order};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { depth_max: 20, bytes_max: 1 << 16 };

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = Document::from_bson(Bytes::copy_from_slice(bytes), LIMITS) else { return };
    let json = document.to_json();
    assert!(std::str::from_utf8(&json).is_ok());
    let whole = Value::Document(document.raw());
    assert!(order::equal(&whole, &whole));
    let fields: Vec<_> = document.raw().iter().collect();
    for left in &fields {
        for right in &fields {
            let order = order::compare(&left.value(), &right.value());
            assert_eq!(order, order::compare(&right.value(), &left.value()).reverse());
        }
    }
});
