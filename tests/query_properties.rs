//! What filters mean, compared with a naive evaluator; JSON there and back;
//! that asking a filter allocates nothing; and the document commands on a node.
//!
//! `PROPTEST_CASES` sets how many cases each property tries, `PROPTEST_RNG_SEED` which.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is generated here fits")]

#[path = "query/allocations.rs"]
mod allocations;
#[path = "query/bucket.rs"]
mod bucket;
#[path = "query/commands.rs"]
mod commands;
#[path = "query/door.rs"]
mod door;
#[path = "query/generate.rs"]
mod generate;
#[path = "query/oracle.rs"]
mod oracle;

#[path = "query/orders.rs"]
mod orders;
#[path = "query/planner.rs"]
mod planner;
#[path = "query/plans.rs"]
mod plans;
#[path = "query/work.rs"]
mod work;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use bson::{Bson, RawDocumentBuf};
use bytes::Bytes;
use lethe::document::{Document, Limits as DocumentLimits};
use lethe::query::{Access, Limits, Plan, matches, parse};
use lethe::value::{Collator, Value, collation, compare_with, order};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn raw(document: &bson::Document) -> Bytes {
    RawDocumentBuf::try_from(document).unwrap().into_bytes().into()
}

fn document(document: &bson::Document) -> Document {
    Document::from_bson(raw(document), DocumentLimits::default()).unwrap()
}

/// Whether a value is what this JSON says, numbers exactly.
fn same(value: &Bson, json: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match (value, json) {
        (Bson::Null, Json::Null) => true,
        (Bson::Boolean(flag), Json::Bool(json)) => flag == json,
        (Bson::Int32(number), Json::Number(json)) => json.as_i64() == Some(i64::from(*number)),
        (Bson::Int64(number), Json::Number(json)) => json.as_i64() == Some(*number),
        (Bson::Double(number), Json::Number(json)) => json.as_f64() == Some(*number),
        (Bson::String(text), Json::String(json)) => text == json,
        (Bson::Array(array), Json::Array(json)) => {
            array.len() == json.len()
                && array.iter().zip(json).all(|(value, json)| same(value, json))
        }
        (Bson::Document(document), Json::Object(json)) => {
            document.len() == json.len()
                && document
                    .iter()
                    .zip(json)
                    .all(|((name, value), (key, json))| name == key && same(value, json))
        }
        _ => false,
    }
}

fn english(strength: u8) -> Collator {
    let spec = document(&bson::doc! {"locale": "en", "strength": i32::from(strength)});
    let collation = collation::parse(&Value::Document(spec.raw())).unwrap().unwrap();
    Collator::of(&collation).unwrap()
}

/// From where all chance of this run comes: `PROPTEST_RNG_SEED`, or a new one.
static SEED: LazyLock<u64> = LazyLock::new(|| match ProptestConfig::default().rng_seed {
    RngSeed::Fixed(seed) => seed,
    RngSeed::Random => RandomState::new().build_hasher().finish(),
});

/// As many cases as `PROPTEST_CASES` says; 2,000 where it says nothing. What is
/// printed is shown when a property fails.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let said = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if said { default.cases } else { 2_000 };
    println!("again: PROPTEST_RNG_SEED={} PROPTEST_CASES={cases}", *SEED);
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(*SEED), ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_filter_matches_what_the_naive_evaluator_says(
        (documents, filter) in generate::world(),
    ) {
        let parsed = parse(&raw(&filter), &Limits::default()).unwrap();
        for one in documents {
            let expected = oracle::matches(&filter, &one);
            prop_assert_eq!(matches(&parsed, document(&one).raw()), expected, "{} {}", filter, one);
        }
    }

    #[test]
    fn a_filter_under_a_collation_matches_what_the_naive_evaluator_says(
        (documents, filter) in generate::world(), strength in 1_u8..=3,
    ) {
        let collator = english(strength);
        let parsed = parse(&raw(&filter), &Limits::default()).unwrap().collated(&collator);
        for one in documents {
            let expected = oracle::matches_by(&filter, &one, Some(strength));
            let stored = document(&one);
            prop_assert_eq!(matches(&parsed, stored.raw()), expected, "{} {}", filter, one);
            let plan = Plan::new(parsed.clone());
            let Some(Bson::ObjectId(id)) = one.get("_id") else { panic!("no id") };
            prop_assert_eq!(plan.access.admits(id) && matches(&plan.residual, stored.raw()), expected);
        }
    }

    #[test]
    fn the_order_of_values_under_a_collation_agrees_with_the_naive_one(
        left in generate::value(), right in generate::value(), strength in 1_u8..=3,
    ) {
        let [one, two] = [&left, &right].map(|value| document(&bson::doc! {"v": value.clone()}));
        let order = compare_with(
            &one.raw().get(b"v").unwrap().value(),
            &two.raw().get(b"v").unwrap().value(),
            Some(&english(strength)),
        );
        let expected = oracle::order_by(&left, &right, Some(strength));
        prop_assert_eq!(order, expected, "{:?} {:?}", left, right);
    }

    #[test]
    fn a_plan_finds_what_the_filter_matches(
        (documents, filter) in generate::world(),
    ) {
        let parsed = parse(&raw(&filter), &Limits::default()).unwrap();
        let plan = Plan::new(parsed.clone());
        for one in documents {
            let Some(Bson::ObjectId(id)) = one.get("_id") else { panic!("no id") };
            let stored = document(&one);
            let found = plan.access.admits(id) && matches(&plan.residual, stored.raw());
            prop_assert_eq!(found, matches(&parsed, stored.raw()), "{} {:?}", filter, plan);
            let sorted = match &plan.access {
                Access::Points(ids) => ids.is_sorted(),
                _ => true,
            };
            prop_assert!(sorted);
        }
    }

    #[test]
    fn a_filter_means_the_same_as_json_and_as_bson(
        (documents, filter) in generate::world(),
    ) {
        let from_bson = parse(&raw(&filter), &Limits::default()).unwrap();
        let json = Bytes::from(document(&filter).to_json());
        let text = String::from_utf8_lossy(&json).into_owned();
        let from_json = parse(&json, &Limits::default()).unwrap();
        for one in documents {
            let stored = document(&one);
            prop_assert_eq!(matches(&from_bson, stored.raw()), matches(&from_json, stored.raw()), "{}", text);
        }
    }

    #[test]
    fn a_document_comes_back_from_json_as_the_same_values(mut original in generate::document()) {
        // At the top an ObjectId in `_id` prints as plain digits.
        original.remove("_id");
        let stored = document(&original);
        let text = stored.to_json();
        let back = Document::from_json(&text, DocumentLimits::default()).unwrap();
        let order = order::compare(&Value::Document(stored.raw()), &Value::Document(back.raw()));
        prop_assert!(order.is_eq(), "{} {}", original, String::from_utf8_lossy(&text));
        prop_assert_eq!(back.to_json(), text);
    }

    #[test]
    fn strict_json_is_read_as_another_reader_reads_it(value in generate::json()) {
        let text = serde_json::to_string(&value).unwrap();
        let read = Document::from_json(text.as_bytes(), DocumentLimits::default()).unwrap();
        let decoded = bson::Document::try_from(bson::RawDocument::from_bytes(read.bytes()).unwrap());
        prop_assert!(same(&Bson::Document(decoded.unwrap()), &value), "{}", text);
        let printed = read.to_json();
        let again = Document::from_json(&printed, DocumentLimits::default()).unwrap();
        prop_assert_eq!(again.bytes(), read.bytes());
        // serde_json rounds the last digit of doubles, so its reading is compared in shape only.
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&printed).is_ok());
    }

    #[test]
    fn the_order_of_values_is_total_and_agrees_with_the_naive_one(
        left in generate::value(), middle in generate::value(), right in generate::value(),
    ) {
        let documents = [left.clone(), middle.clone(), right.clone()]
            .map(|value| document(&bson::doc! {"v": value}));
        let compare = |left: usize, right: usize| {
            let value = |index: usize| documents[index].raw().get(b"v").unwrap().value();
            order::compare(&value(left), &value(right))
        };
        prop_assert_eq!(compare(0, 1), oracle::order(&left, &middle), "{:?} {:?}", left, middle);
        prop_assert_eq!(compare(0, 1), compare(1, 0).reverse());
        if compare(0, 1).is_le() && compare(1, 2).is_le() {
            prop_assert!(compare(0, 2).is_le(), "{:?} {:?} {:?}", left, middle, right);
        }
    }

    #[test]
    fn numbers_of_all_types_compare_as_exact_fractions(
        left in generate::number(), right in generate::number(),
    ) {
        let [left_document, right_document] = [&left, &right].map(|value| document(&bson::doc! {"v": value.clone()}));
        let order = order::compare(
            &left_document.raw().get(b"v").unwrap().value(),
            &right_document.raw().get(b"v").unwrap().value(),
        );
        prop_assert_eq!(order, oracle::order_of_fractions(&left, &right), "{:?} {:?}", left, right);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\[\\]{}:,'\"$a-e0-9.\\\\ \n-]{0,60}") {
        if let Ok(read) = Document::from_json(text.as_bytes(), DocumentLimits::default()) {
            let again = Document::from_json(&read.to_json(), DocumentLimits::default());
            prop_assert!(again.is_ok(), "{}", text);
        }
        let _answer = parse(&text.into(), &Limits::default()).is_ok();
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        original in generate::document(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        filter in generate::filter(),
    ) {
        let mut bytes = raw(&original).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = Bytes::from(bytes);
        let _answer = parse(&bytes, &Limits::default()).is_ok();
        if let Ok(read) = Document::from_bson(bytes, DocumentLimits::default()) {
            let filter = parse(&raw(&filter), &Limits::default()).unwrap();
            let _answer = matches(&filter, read.raw());
            let json = read.to_json();
            prop_assert!(std::str::from_utf8(&json).is_ok());
        }
    }

    #[test]
    fn asking_a_filter_allocates_nothing(
        (documents, filter) in generate::world(),
    ) {
        let parsed = parse(&raw(&filter), &Limits::default()).unwrap();
        let documents: Vec<_> = documents.iter().map(document).collect();
        // A regular expression makes its scratch space at its first use.
        let first: Vec<bool> = documents.iter().map(|one| matches(&parsed, one.raw())).collect();
        let before = allocations::count();
        let matched = documents.iter().zip(&first).all(|(one, first)| matches(&parsed, one.raw()) == *first);
        let after = allocations::count();
        prop_assert!(matched);
        prop_assert_eq!(after - before, 0, "{}", filter);
    }
}

/// The fewest allocations of this command on this thread in several runs: other tasks of the node share it.
async fn allocations_of(door: &mut door::Door, line: &str) -> u64 {
    let mut fewest = u64::MAX;
    for _ in 0..20 {
        fewest = fewest.min(door.allocations(line).await);
    }
    fewest
}

#[tokio::test]
async fn counting_and_timing_a_command_allocates_nothing() {
    let mut counts = Vec::new();
    for threshold in [None, Some(std::time::Duration::from_secs(3_600))] {
        let house = door::House::with(|config| config.slow_log.threshold = threshold).await;
        let mut door = house.door();
        door.say("BUCKET.CREATE users").await;
        let ping = allocations_of(&mut door, "PING").await;
        let insert = allocations_of(&mut door, "BUCKET.INSERT users DOCS {\"a\":1}").await;
        assert_eq!(ping, 0);
        counts.push(insert);
    }
    // Also where each command may turn out to be slow.
    assert_eq!(counts[0], counts[1]);
}
