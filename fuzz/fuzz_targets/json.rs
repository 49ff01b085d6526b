//! Any text is refused or becomes a valid document, whose print reads back as itself.

#![no_main]

use lethe::document::{Document, Limits};
use lethe::value::raw;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { depth_max: 20, bytes_max: 1 << 16 };

fuzz_target!(|text: &[u8]| {
    let Ok(document) = Document::from_json(text, LIMITS) else { return };
    raw::validate(document.bytes(), LIMITS.depth_max).expect("what was read is valid BSON");
    let printed = document.to_json();
    // A date or a binary prints longer than it was written, so the second reading has more room.
    let wide = Limits { depth_max: 3 * LIMITS.depth_max, bytes_max: 8 * LIMITS.bytes_max };
    // `{"a": {"": {"$oid": ...}}}`: names that look like a wrapper once printed may be refused then.
    if let Ok(again) = Document::from_json(&printed, wide) {
        assert_eq!(again.to_json(), printed);
    }
});
