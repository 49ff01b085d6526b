//! Any schema is refused or makes indexes, and any document has entries in them, in keys that the store takes.
//!
//! The input is a schema and a document, both JSON, with a zero byte between them.

#![no_main]

use bytes::Bytes;
use lethe::codec::record::BucketRecord;
use lethe::codec::NamespaceId;
use lethe::document::{Document, Limits};
use lethe::index::{self, Indexes, define, schema};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { depth_max: 20, bytes_max: 1 << 16 };

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let text = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let Ok(text) = Document::sniff(&text, LIMITS) else { return };
    let Ok(new) = schema::parse(text.raw()) else { return };
    let Ok(records) = define::of_new_bucket(&new, None, 64, 0) else { return };
    let mut bucket = BucketRecord::new(NamespaceId(1), "b", vec![0], 0);
    bucket.indexes = records;
    let indexes = Indexes::of(&bucket);
    let Some(Ok(document)) = parts.next().map(|text| Document::from_json(text, LIMITS)) else { return };
    for found in indexes.iter() {
        let Ok(all) = index::entries(found, document.raw(), false) else { continue };
        assert!(!all.rows.is_empty(), "every document has an entry");
        assert!(all.rows.len() <= index::ENTRIES_MAX);
        assert!(all.rows.iter().all(|(key, held)| key.len() < 9_000 && held.len() < 50_000));
        assert!(all.rows.windows(2).all(|pair| pair[0].0 < pair[1].0), "each once, in order");
    }
});
