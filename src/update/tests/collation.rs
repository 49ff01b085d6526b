//! Operators that compare strings do so by the collation of the search.

use super::*;
use crate::value::{Value, collation};

/// Letters only: case and accents make no difference.
fn letters() -> Collator {
    let spec = document("{locale: 'de', strength: 1}");
    let read = collation::parse(&Value::Document(spec.raw())).unwrap().unwrap();
    Collator::of(&read).unwrap()
}

/// What the update makes of a document by bytes and by letters; `None`: nothing changes.
#[track_caller]
fn makes_by(text: &str, before: &str, bytes: Option<&str>, letters_only: Option<&str>) {
    let (update, before, letters) = (update(text).unwrap(), document(before), letters());
    for (collator, expected) in [(None, bytes), (Some(&letters), letters_only)] {
        let changed = update.within(collator).apply(&Ast::All, &before).unwrap();
        let expected = expected.map(|text| document(text).to_json());
        assert_eq!(changed.map(|document| document.to_json()), expected, "{text} {collator:?}");
    }
}

#[test]
fn min_and_max_order_strings_by_it() {
    makes_by("{$max: {a: 'Z'}}", "{a: 'b'}", None, Some("{a: 'Z'}"));
    makes_by("{$min: {a: 'Z'}}", "{a: 'b'}", Some("{a: 'Z'}"), None);
    // What is equal by it stays as it is.
    makes_by("{$max: {a: 'b'}}", "{a: 'B'}", Some("{a: 'b'}"), None);
    makes_by("{$max: {a: ['Z']}}", "{a: ['b']}", None, Some("{a: ['Z']}"));
}

#[test]
fn add_to_set_adds_what_differs_by_it() {
    makes_by("{$addToSet: {a: 'Ä'}}", "{a: ['a']}", Some("{a: ['a', 'Ä']}"), None);
    makes_by(
        "{$addToSet: {a: {$each: ['B', 'b', 'c']}}}",
        "{a: ['a']}",
        Some("{a: ['a', 'B', 'b', 'c']}"),
        Some("{a: ['a', 'B', 'c']}"),
    );
    makes_by(
        "{$addToSet: {a: {n: 'X'}}}",
        "{a: [{n: 'x'}]}",
        Some("{a: [{n: 'x'}, {n: 'X'}]}"),
        None,
    );
}

#[test]
fn pull_and_array_filters_find_elements_by_it() {
    makes_by("{$pull: {a: 'A'}}", "{a: ['a', 'ä', 'b']}", None, Some("{a: ['b']}"));
    makes_by(
        "{$pull: {a: {$lt: 'B'}}}",
        "{a: ['A', 'a', 'b']}",
        Some("{a: ['a', 'b']}"),
        Some("{a: ['b']}"),
    );
    makes_by("{$pull: {a: {n: {$in: ['X']}}}}", "{a: [{n: 'x'}]}", None, Some("{a: []}"));
    // A pattern is searched for as it is written.
    makes_by("{$pull: {a: {$regex: 'A'}}}", "{a: ['a']}", None, None);
    makes_by(
        "{$set: {'a.$[e]': 1}, array_filters: [{e: 'A'}]}",
        "{a: ['a', 'b']}",
        None,
        Some("{a: [1, 'b']}"),
    );
}

#[test]
fn push_sorts_by_it() {
    makes_by(
        "{$push: {a: {$each: ['b'], $sort: 1}}}",
        "{a: ['C', 'a']}",
        Some("{a: ['C', 'a', 'b']}"),
        Some("{a: ['a', 'b', 'C']}"),
    );
    makes_by(
        "{$push: {a: {$each: [{n: 'b'}], $sort: {n: -1}, $slice: 1}}}",
        "{a: [{n: 'a'}, {n: 'C'}]}",
        Some("{a: [{n: 'b'}]}"),
        Some("{a: [{n: 'C'}]}"),
    );
}

#[test]
fn whether_a_set_changes_anything_goes_by_bytes() {
    makes_by("{$set: {a: 'A'}}", "{a: 'a'}", Some("{a: 'A'}"), Some("{a: 'A'}"));
}

#[test]
fn the_element_of_a_filter_under_it_is_the_one_that_it_matched() {
    let (letters, update) = (letters(), update("{$set: {'a.$': 1}}").unwrap());
    let filter = parse(&"{a: 'B'}".into(), &Limits::default()).unwrap().collated(&letters);
    let changed = update.within(Some(&letters)).apply(&filter, &document("{a: ['a', 'b', 'B']}"));
    assert_eq!(changed.unwrap().unwrap().to_json(), document("{a: ['a', 1, 'B']}").to_json());
}

#[test]
fn an_upsert_compares_what_its_filter_says_by_it() {
    let (letters, update) = (letters(), update("{$max: {a: 'Z'}, upsert: true}").unwrap());
    let filter = parse(&"{a: 'b'}".into(), &Limits::default()).unwrap();
    let new = |collator| update.within(collator).new_document(&filter).unwrap().to_json();
    assert_eq!(new(None), document("{a: 'b'}").to_json());
    assert_eq!(new(Some(&letters)), document("{a: 'Z'}").to_json());
}
