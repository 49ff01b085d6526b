//! What filters mean, and how bad ones are refused.

use super::*;
use crate::document::{Document, Limits as DocumentLimits};

/// The documents (by their `k`) that a filter matches.
#[track_caller]
fn check(documents: &[&str], filter: &str, expected: &[usize]) {
    let parsed = parse(&filter.to_owned().into(), &Limits::default()).unwrap();
    let found: Vec<usize> = documents
        .iter()
        .enumerate()
        .filter(|(_, text)| {
            let document = Document::from_json(text.as_bytes(), DocumentLimits::default()).unwrap();
            matches(&parsed, document.raw())
        })
        .map(|(index, _)| index)
        .collect();
    assert_eq!(found, expected, "{filter}");
}

#[track_caller]
fn refuses(filter: &str, expected: &str) {
    let error = parse(&filter.to_owned().into(), &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("BQL parse error: {expected}"), "{filter}");
}

const SCALARS: &[&str] = &[
    "{a: 5}",
    "{a: {$numberLong: '5'}}",
    "{a: 5.0}",
    "{a: {$numberDecimal: '5.00'}}",
    "{a: 'x'}",
    "{a: null}",
    "{}",
    "{a: [5, 'y']}",
    "{a: true}",
    "{a: []}",
    "{a: {b: 1}}",
];

#[test]
fn equality_widens_numbers_and_looks_into_arrays() {
    check(SCALARS, "{a: 5}", &[0, 1, 2, 3, 7]);
    check(SCALARS, "{a: {$eq: {$numberDecimal: '5'}}}", &[0, 1, 2, 3, 7]);
    check(SCALARS, "{a: null}", &[5, 6]);
    check(SCALARS, "{a: [5, 'y']}", &[7]);
    check(SCALARS, "{a: []}", &[9]);
    check(SCALARS, "{a: {b: 1.0}}", &[10]);
    check(SCALARS, "{a: {b: 1, c: 2}}", &[]);
    check(SCALARS, "{}", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn not_equal_matches_missing_null_and_arrays_but_no_other_type() {
    check(SCALARS, "{a: {$ne: 5}}", &[5, 6, 9]);
    check(SCALARS, "{a: {$ne: 6}}", &[0, 1, 2, 3, 5, 6, 7, 9]);
    check(SCALARS, "{a: {$ne: null}}", &[0, 1, 2, 3, 4, 7, 8, 9, 10]);
    check(SCALARS, "{a: {$not: {$eq: 5}}}", &[4, 5, 6, 8, 9, 10]);
    check(SCALARS, "{a: {$nin: [5, null]}}", &[4, 8, 9, 10]);
}

#[test]
fn comparisons_stay_in_their_bracket() {
    check(SCALARS, "{a: {$gt: 4.5}}", &[0, 1, 2, 3, 7]);
    check(SCALARS, "{a: {$gte: 5, $lte: 5}}", &[0, 1, 2, 3, 7]);
    check(SCALARS, "{a: {$gt: 'w'}}", &[4, 7]);
    check(SCALARS, "{a: {$lt: true}}", &[]);
    check(SCALARS, "{a: {$gte: true}}", &[]);
    check(SCALARS, "{a: {$not: {$gt: 4}}}", &[4, 5, 6, 8, 9, 10]);
    let nans = &["{a: {$numberDouble: 'NaN'}}", "{a: 1}"];
    check(nans, "{a: {$lt: 5}}", &[1]);
    check(nans, "{a: {$gte: {$numberDecimal: 'NaN'}}}", &[0]);
    check(nans, "{a: {$numberDouble: 'NaN'}}", &[0]);
    // Different elements may satisfy each side.
    check(&["{a: [1, 100]}", "{a: 50}"], "{a: {$gt: 90, $lt: 25}}", &[0]);
}

#[test]
fn lists_sizes_and_existence() {
    check(SCALARS, "{a: {$in: ['x', 5]}}", &[0, 1, 2, 3, 4, 7]);
    check(SCALARS, "{a: {$in: [null]}}", &[5, 6]);
    check(SCALARS, "{a: {$in: []}}", &[]);
    check(SCALARS, "{a: {$nin: []}}", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    check(SCALARS, "{a: {$size: 2}}", &[7]);
    check(SCALARS, "{a: {$size: 0}}", &[9]);
    check(SCALARS, "{a: {$exists: true}}", &[0, 1, 2, 3, 4, 5, 7, 8, 9, 10]);
    check(SCALARS, "{a: {$exists: false}}", &[6]);
    let tags = &["{t: ['a', 'b', 'c']}", "{t: 'a'}", "{t: [['a', 'b'], 'c']}", "{t: ['a', 'b']}"];
    check(tags, "{t: {$in: [['a', 'b']]}}", &[2]);
    check(tags, "{t: {$nin: [['a', 'b'], 'a']}}", &[]);
    check(tags, "{t: {$nin: [['a', 'b']]}}", &[0, 1, 3]);
    check(tags, "{t: {$all: ['a', 'b']}}", &[0, 3]);
    check(tags, "{t: {$all: ['a']}}", &[0, 3]);
    check(tags, "{t: {$all: [['a', 'b']]}}", &[2, 3]);
    check(tags, "{t: {$all: []}}", &[]);
    check(tags, "{t: {$all: [{$elemMatch: {$gt: 'b'}}]}}", &[0, 2]);
    check(tags, "{t: {$in: [{$regularExpression: {pattern: '^c', options: ''}}]}}", &[0, 2]);
}

#[test]
fn a_pattern_in_a_list_may_be_written_as_its_operator() {
    let documents = &["{a: 'Xy'}", "{a: ['x', 'yy']}", "{a: {$undefined: true}}"];
    check(documents, "{a: {$in: [{$regex: '^x', $options: 'i'}]}}", &[0, 1]);
    check(documents, "{a: {$nin: [{$regex: '^x'}, null]}}", &[0]);
    check(documents, "{a: {$all: [{$regex: '^y'}, 'x']}}", &[1]);
    check(documents, "{a: null}", &[2]);
}

#[test]
fn the_keys_at_the_ends_compare_with_every_kind() {
    let documents =
        &["{a: {$minKey: 1}}", "{a: 1}", "{a: true}", "{}", "{a: {$maxKey: 1}}", "{a: []}"];
    check(documents, "{a: {$gt: {$minKey: 1}}}", &[1, 2, 3, 4, 5]);
    check(documents, "{a: {$gte: {$minKey: 1}}}", &[0, 1, 2, 3, 4, 5]);
    check(documents, "{a: {$lt: {$maxKey: 1}}}", &[0, 1, 2, 3, 5]);
    check(documents, "{a: {$lte: {$minKey: 1}}}", &[0]);
    check(documents, "{a: {$gt: {$maxKey: 1}}}", &[]);
    check(documents, "{a: {$gt: 0}}", &[1]);
}

#[test]
fn a_collation_reaches_every_string_of_a_filter_and_nothing_else() {
    let documents = &[
        "{a: 'x', k: {b: 'X'}, l: ['x', 'y']}",
        "{a: 'X', k: {b: 'x'}, l: ['Y']}",
        "{a: {$symbol: 'x'}, k: {B: 'x'}, l: [['X']]}",
        "{a: 'y', k: 1, l: []}",
    ];
    let spec = Document::from_json(b"{locale: 'en', strength: 2}", DocumentLimits::default());
    let spec = spec.unwrap();
    let collation = crate::value::collation::parse(&crate::value::Value::Document(spec.raw()));
    let collator = crate::value::Collator::of(&collation.unwrap().unwrap()).unwrap();
    let check = |filter: &str, expected: &[usize]| {
        let parsed = parse(&filter.to_owned().into(), &Limits::default()).unwrap();
        let parsed = parsed.collated(&collator);
        let found: Vec<usize> = (0..documents.len())
            .filter(|index| {
                let text = documents[*index].as_bytes();
                let document = Document::from_json(text, DocumentLimits::default()).unwrap();
                matches(&parsed, document.raw())
            })
            .collect();
        assert_eq!(found, expected, "{filter}");
    };
    check("{a: 'X'}", &[0, 1, 2]);
    check("{a: {$ne: 'X'}}", &[3]);
    check("{a: {$gt: 'X'}}", &[3]);
    check("{a: {$gte: 'X', $lt: 'Y'}}", &[0, 1, 2]);
    check("{a: {$in: ['Y', 'y', 'q', 1]}}", &[3]);
    check("{a: {$nin: ['Y']}}", &[0, 1, 2]);
    check("{l: {$all: ['X', 'Y']}}", &[0]);
    check("{l: {$all: [{$elemMatch: {$eq: 'Y'}}]}}", &[0, 1]);
    check("{l: {$elemMatch: {$gt: 'X'}}}", &[0, 1]);
    check("{l: {$elemMatch: {'0': 'x'}}}", &[2]);
    check("{k: {b: 'x'}}", &[0, 1]);
    check("{l: ['X', 'Y']}", &[0]);
    check("{$or: [{a: 'Y'}, {$nor: [{a: 'x'}]}]}", &[3]);
    check("{a: {$not: {$eq: 'X'}}}", &[3]);
    check("{a: {$regex: 'X'}}", &[1]);
    check("{a: {$in: [{$regex: '^X'}, 'Y']}}", &[1, 3]);
}

#[test]
fn paths_lead_through_documents_and_arrays() {
    let documents = &[
        "{a: {b: 1}}",
        "{a: [{b: 1}, {b: 2}]}",
        "{a: [{c: 1}, 7]}",
        "{a: 7}",
        "{}",
        "{a: [[{b: 1}]]}",
        "{a: [{b: [3, 1]}]}",
        "{a: []}",
    ];
    check(documents, "{'a.b': 1}", &[0, 1, 6]);
    check(documents, "{'a.0.b': 1}", &[1, 5, 6]);
    check(documents, "{'a.1': 7}", &[2]);
    check(documents, "{'a.b': null}", &[2, 3, 4]);
    check(documents, "{'a.5': null}", &[0, 1, 2, 3, 4, 5, 6, 7]);
    check(documents, "{'a.b': {$exists: true}}", &[0, 1, 6]);
    check(documents, "{'a.b': {$exists: false}}", &[2, 3, 4, 5, 7]);
    check(documents, "{'a.b': {$ne: 1}}", &[2, 3, 4, 5, 7]);
    check(documents, "{'a.b': {$all: [1, 2]}}", &[1]);
    check(documents, "{'a.b': {$size: 2}}", &[6]);
}

#[test]
fn one_element_must_satisfy_a_whole_element_match() {
    let documents =
        &["{a: [1, 9]}", "{a: [4]}", "{a: [[4]]}", "{a: 4}", "{a: []}", "{}", "{a: [{x: 4}]}"];
    check(documents, "{a: {$elemMatch: {$gt: 3, $lt: 6}}}", &[1]);
    check(documents, "{a: {$elemMatch: {$elemMatch: {$gt: 3}}}}", &[2]);
    check(documents, "{a: {$elemMatch: {x: {$gt: 3}}}}", &[6]);
    check(documents, "{a: {$elemMatch: {$not: {$gt: 3}}}}", &[0, 2, 6]);
    check(documents, "{a: {$elemMatch: {$nor: [{$gt: 0}, {$elemMatch: {$eq: 4}}]}}}", &[6]);
    check(documents, "{a: {$elemMatch: {'0': 4}}}", &[2]);
    check(documents, "{a: {$not: {$elemMatch: {$gt: 3}}}}", &[2, 3, 4, 5, 6]);
}

#[test]
fn logical_operators_nest() {
    let documents = &["{a: 1, b: 1}", "{a: 1, b: 2}", "{a: 2, b: 2}"];
    check(documents, "{$or: [{a: 2}, {b: 1}]}", &[0, 2]);
    check(documents, "{$and: [{a: 1}, {$or: [{b: 2}, {b: 3}]}]}", &[1]);
    check(documents, "{$nor: [{a: 2}, {b: 1}]}", &[1]);
    check(documents, "{$not: {$not: {a: 1}}}", &[0, 1]);
    check(documents, "{$and: []}", &[0, 1, 2]);
    check(documents, "{$or: []}", &[]);
    check(documents, "{$nor: []}", &[0, 1, 2]);
    check(documents, "{$or: [{}, {a: 5}]}", &[0, 1, 2]);
}

#[test]
fn patterns_match_strings_only() {
    let documents =
        &["{a: 'Hello\\nworld'}", "{a: 123}", "{a: ['x', 'hello']}", "{a: {$symbol: 'hello'}}"];
    check(documents, "{a: {$regex: 'hell'}}", &[2]);
    check(documents, "{a: {$regex: 'HELL', $options: 'i'}}", &[0, 2]);
    check(documents, "{a: {$regex: '^world', $options: 'm'}}", &[0]);
    check(documents, "{a: {$regex: 'o.w', $options: 's'}}", &[0]);
    check(documents, "{a: {$regularExpression: {pattern: 'HELL', options: 'i'}}}", &[0, 2]);
    check(documents, "{a: {$not: {$regex: 'hell'}}}", &[0, 1, 3]);
    check(
        documents,
        "{a: {$not: {$regularExpression: {pattern: 'hell', options: ''}}}}",
        &[0, 1, 3],
    );
}

#[test]
fn only_the_id_takes_a_string_for_an_object_id() {
    let documents = &[
        "{'_id': {$oid: '6835a1c0e4b0f72a3c000001'}, s: '6835a1c0e4b0f72a3c000001'}",
        "{'_id': {$oid: '6835a1c0e4b0f72a3c000002'}, s: {$oid: '6835a1c0e4b0f72a3c000001'}}",
    ];
    check(documents, "{'_id': '6835a1c0e4b0f72a3c000001'}", &[0]);
    check(documents, "{'_id': {$in: ['6835a1c0e4b0f72a3c000002', 'x']}}", &[1]);
    check(documents, "{s: '6835a1c0e4b0f72a3c000001'}", &[0]);
    check(documents, "{s: {$oid: '6835a1c0e4b0f72a3c000001'}}", &[1]);
    // The `_id` of something inside the document is nothing special.
    let inside = &["{l: [{'_id': '6835a1c0e4b0f72a3c000001'}]}"];
    check(inside, "{l: {$elemMatch: {'_id': '6835a1c0e4b0f72a3c000001'}}}", &[0]);
    check(inside, "{'l._id': '6835a1c0e4b0f72a3c000001'}", &[0]);
}

#[test]
fn bad_filters_are_refused_by_name() {
    refuses("{$foo: 1}", "Unknown operator: $foo");
    refuses("{a: {$foo: 1}}", "Unknown operator: $foo (at a)");
    refuses("{a: {$gt: 1, sub: 2}}", "Unknown selector operator: sub (at a)");
    refuses("{a: {$size: 'x'}}", "$size expects an integer (at a)");
    refuses("{a: {$size: 1.5}}", "$size expects an integer (at a)");
    refuses("{a: {$size: -1}}", "$size must not be negative (at a)");
    refuses("{a: {$exists: 1}}", "$exists expects a boolean (at a)");
    refuses("{a: {$gt: null}}", "$gt operator does not support null values (at a)");
    refuses("{a: {$lte: null}}", "$lte operator does not support null values (at a)");
    refuses("{'a.b': {}}", "Empty selector operator document for: a.b");
    refuses("{a: {$regex: 1}}", "$regex expects a string pattern or a regular expression (at a)");
    refuses("{a: {$regex: 'a', $options: 1}}", "$options expects a string (at a)");
    refuses("{a: {$options: 'i'}}", "$options requires $regex (at a)");
    refuses("{a: {$regex: 'a', $options: 'x'}}", "Unsupported $regex option: x (at a)");
    refuses("{a: {$regex: '('}}", "Invalid $regex pattern: unclosed group (at a)");
    refuses(
        "{a: {$regex: '(?=a)'}}",
        "Invalid $regex pattern: look-around, including look-ahead and look-behind, is not supported (at a)",
    );
    refuses(
        "{a: {$regex: '(x{1000}){1000}'}}",
        "Invalid $regex pattern: it compiles to more than 1048576 bytes (at a)",
    );
    refuses("{$and: 1}", "$and expects an array of filters");
    refuses("{$or: [{}, 1]}", "$or expects an array of filters, its element 1 is none");
    refuses("{a: {$in: 1}}", "$in expects an array for: a");
    refuses("{a: {$elemMatch: 1}}", "$elemMatch expects a document (at a)");
    refuses("{a: {$elemMatch: {$gt: 1, b: 2}}}", "Unknown selector operator: b (at a.$elemMatch)");
    refuses("{a: {$elemMatch: {b: 2, $gt: 1}}}", "Unknown operator: $gt (at a.$elemMatch)");
    refuses("{a: {$not: 1}}", "$not expects an operator document or a regular expression for: a");
    refuses(
        "{$and: [{}, {$or: [{a: 1}, {'b.c': {$not: {$size: 'x'}}}]}]}",
        "$size expects an integer (at $and[1].$or[1].b.c.$not)",
    );
    refuses("{$and: [{$nor: 1}]}", "$nor expects an array of filters (at $and[0])");
    refuses("{$or: [{a: {}}]}", "Empty selector operator document for: a (at $or[0].a)");
    refuses("{$not: {a: {$foo: 1}}}", "Unknown operator: $foo (at $not.a)");
    refuses("{a: {$all: [{$elemMatch: {$foo: 1}}]}}", "Unknown operator: $foo (at a.$elemMatch)");
    refuses("{a: {$in: [{$gt: 1}]}}", "$gt cannot stand in the list of $in (at a)");
    refuses("{a: {$nin: [{$options: 'i'}]}}", "$options requires $regex (at a)");
    refuses("{a: {$all: [{$regex: 'a', $gt: 1}]}}", "$gt cannot stand in the list of $all (at a)");
    let regex = "{$regularExpression: {pattern: 'a', options: ''}}";
    refuses(
        &format!("{{a: {{$ne: {regex}}}}}"),
        "Unsupported value type: regular expression (at a)",
    );
    refuses(
        &format!("{{a: {{$gt: {regex}}}}}"),
        "Unsupported value type: regular expression (at a)",
    );
    refuses("{a: {$lt: {$undefined: true}}}", "$lt operator does not support null values (at a)");
    refuses(
        &format!("{{'{}': {{$foo: 1}}}}", "x".repeat(300)),
        &format!("Unknown operator: $foo (at {}...)", "x".repeat(200)),
    );
    refuses("{a: 1", "Invalid JSON: expected ',' or '}', found the end at line 1 column 6");
    refuses("{a: 1, a: 2}", "Invalid JSON: the name 'a' is given twice at line 1 column 8");
    let broken = bytes::Bytes::from_static(&[7, 0, 0, 0, 0x10, b'a', 0]);
    assert_eq!(
        parse(&broken, &Limits::default()).unwrap_err().to_string(),
        "BQL parse error: Invalid BSON format"
    );
}

#[test]
fn the_size_of_a_filter_is_bounded() {
    let many: Vec<String> = (0..10_001).map(|index| format!("{{a: {index}}}")).collect();
    refuses(&format!("{{$or: [{}]}}", many.join(",")), "more than 10000 conditions");
    let patterns: Vec<String> =
        (0..65).map(|index| format!("{{a: {{$regex: 'x{index}'}}}}")).collect();
    refuses(&format!("{{$or: [{}]}}", patterns.join(",")), "more than 64 regular expressions");
    let path = vec!["a"; 200_000].join(".");
    refuses(&format!("{{'{path}': 1}}"), "a path of more than 100 steps");
    refuses(&format!("{{b: {{$elemMatch: {{'{path}': 1}}}}}}"), "a path of more than 100 steps");
    let deep = format!("{}{}{}", "{$not: ".repeat(100), "{}", "}".repeat(100));
    refuses(&deep, "Invalid JSON: nested deeper than 100 at line 1 column 701");
}

#[test]
fn the_first_matching_element_is_found_for_projection() {
    let first = |document: &str, filter: &str, path: &str| {
        let document = Document::from_json(document.as_bytes(), DocumentLimits::default()).unwrap();
        let filter = parse(&filter.to_owned().into(), &Limits::default()).unwrap();
        first_element(&filter, document.raw(), &Path::new(path), &Steps::endless())
    };
    assert_eq!(first("{g: [70, 85, 90]}", "{g: {$gte: 85}}", "g"), Some(1));
    assert_eq!(first("{g: [{x: 1}, {x: 2}]}", "{'g.x': 2}", "g"), Some(1));
    assert_eq!(first("{g: [{x: 1}, {x: 2}]}", "{g: {$elemMatch: {x: {$gt: 1}}}}", "g"), Some(1));
    assert_eq!(first("{g: [1, 2], h: 1}", "{h: 1}", "g"), None);
}
