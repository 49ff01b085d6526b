//! What each operator does, and what is refused.

mod collation;
mod hostile;
mod model;

use super::*;
use crate::query::{Limits, parse};

fn document(text: &str) -> Document {
    Document::from_json(text.as_bytes(), DocumentLimits::default()).unwrap()
}

fn update(text: &str) -> Result<Update> {
    Update::parse(&text.to_owned().into(), &Limits::default(), 8 << 20)
}

fn run(text: &str, filter: &str, before: &str) -> Result<Option<String>> {
    let update = update(text)?;
    let filter = parse(&filter.to_owned().into(), &Limits::default()).unwrap();
    update.expect_filter(&filter)?;
    let changed = update.within(None).apply(&filter, &document(before))?;
    Ok(changed.map(|document| String::from_utf8(document.to_json()).unwrap()))
}

/// The update makes exactly this of the document.
#[track_caller]
fn makes(text: &str, before: &str, after: &str) {
    makes_found_by("{}", text, before, after);
}

#[track_caller]
fn makes_found_by(filter: &str, text: &str, before: &str, after: &str) {
    let after = String::from_utf8(document(after).to_json()).unwrap();
    assert_eq!(run(text, filter, before).unwrap(), Some(after), "{text}");
}

#[track_caller]
fn changes_nothing(text: &str, before: &str) {
    assert_eq!(run(text, "{}", before).unwrap(), None, "{text}");
}

#[track_caller]
fn refuses(text: &str, before: &str, message: &str) {
    let error = run(text, "{}", before).unwrap_err();
    assert_eq!(error.to_line(), format!("ERR {message}"), "{text}");
}

#[test]
fn set_keeps_the_order_of_fields_and_makes_what_is_missing() {
    makes(
        "{$set: {b: 9, c: [1], 'd.e.f': 1}}",
        "{a: 1, b: 2}",
        "{a: 1, b: 9, c: [1], d: {e: {f: 1}}}",
    );
    makes("{$set: {'a.b': 1}}", "{a: {x: 0}}", "{a: {x: 0, b: 1}}");
    makes("{$SET: {'a.1': 'x'}}", "{a: [1, 2, 3]}", "{a: [1, 'x', 3]}");
    makes("{$set: {'a.3': 'x'}}", "{a: [1]}", "{a: [1, null, null, 'x']}");
    makes("{$set: {'a.0.b': 1}}", "{a: [{b: 0, c: 0}]}", "{a: [{b: 1, c: 0}]}");
    makes("{$set: {'a.0': 1}}", "{}", "{a: {'0': 1}}");
    changes_nothing("{$set: {a: 1}}", "{a: 1}");
    changes_nothing("{$set: {}}", "{a: 1}");
    refuses("{$set: {'a.b': 1}}", "{a: 5}", "$set 'a.b': a value of type INT32 is in the way");
    refuses("{$set: {'a.b': 1}}", "{a: [1]}", "$set 'a.b': an array has no field 'b'");
}

#[test]
fn unset_takes_fields_and_elements_away() {
    makes("{$unset: ['a', 'b.c', 'x.y']}", "{a: 1, b: {c: 1, d: 2}}", "{b: {d: 2}}");
    makes("{$unset: {a: ''}}", "{a: 1, b: 2}", "{b: 2}");
    makes("{$unset: ['a.0', 'a.2']}", "{a: [1, 2, 3]}", "{a: [2]}");
    makes("{$unset: ['a.$[]']}", "{a: [1, 2, 3]}", "{a: []}");
    makes("{$unset: ['a.$[].b']}", "{a: [{b: 1}, {c: 1}, 5]}", "{a: [{}, {c: 1}, 5]}");
    makes_found_by("{a: 2}", "{$unset: ['a.$']}", "{a: [1, 2, 3]}", "{a: [1, null, 3]}");
    for nothing in ["z", "a.b", "a.9", "b.x.y"] {
        changes_nothing(&format!("{{$unset: ['{nothing}']}}"), "{a: [1], b: {c: 1}}");
    }
}

#[test]
fn inc_and_mul_widen_and_never_wrap() {
    makes("{$inc: {a: 2, n: 5}}", "{a: 1}", "{a: 3, n: 5}");
    makes("{$inc: {a: 1}}", "{a: 2147483647}", "{a: 2147483648}");
    makes("{$inc: {a: 0.5}}", "{a: 1}", "{a: 1.5}");
    makes("{$mul: {a: 3, n: 5}}", "{a: 2}", "{a: 6, n: 0}");
    makes("{$mul: {a: 2}}", "{a: 2147483647}", "{a: 4294967294}");
    let decimal = |text: &str| format!("{{a: {{$numberDecimal: '{text}'}}}}");
    makes(&format!("{{$inc: {}}}", decimal("1.10")), "{a: 1}", &decimal("2.10"));
    makes("{$inc: {a: 0.1}}", &decimal("0.2"), &decimal("0.300000000000000"));
    makes(&format!("{{$mul: {}}}", decimal("1.5")), &decimal("2.0"), &decimal("3.00"));
    makes(&format!("{{$inc: {}}}", decimal("Infinity")), "{a: 1}", &decimal("Infinity"));
    makes(&format!("{{$mul: {}}}", decimal("NaN")), "{a: 1}", &decimal("NaN"));
    changes_nothing("{$inc: {a: 0}}", "{a: 1}");
    refuses("{$inc: {a: 1}}", "{a: 9223372036854775807}", "$inc 'a': the result is no int64");
    refuses("{$mul: {a: 2}}", "{a: 9223372036854775807}", "$mul 'a': the result is no int64");
    refuses(
        "{$inc: {a: 1}}",
        "{a: 'x'}",
        "$inc 'a': it holds no number, but a value of type STRING",
    );
    refuses("{$inc: {a: 'x'}}", "{}", "$inc 'a' expects a number, not STRING");
}

#[test]
fn min_and_max_go_by_the_order_of_values() {
    makes("{$min: {a: 1}, $max: {b: 9, c: 1}}", "{a: 2, b: 3}", "{a: 1, b: 9, c: 1}");
    makes("{$max: {a: 'x'}}", "{a: 5}", "{a: 'x'}");
    changes_nothing("{$min: {a: 2.0, b: 'x'}, $max: {c: null}}", "{a: 2, b: 1, c: 0}");
}

#[test]
fn push_and_its_modifiers() {
    makes("{$push: {a: 4, b: {x: 1}}}", "{a: [1]}", "{a: [1, 4], b: [{x: 1}]}");
    makes("{$push: {a: {$each: [3, 1], $position: 0}}}", "{a: [2]}", "{a: [3, 1, 2]}");
    makes("{$push: {a: {$each: [9], $position: -1}}}", "{a: [1, 2]}", "{a: [1, 9, 2]}");
    makes("{$push: {a: {$each: [3, 1], $sort: 1, $slice: 2}}}", "{a: [2]}", "{a: [1, 2]}");
    makes("{$push: {a: {$each: [5], $slice: -2}}}", "{a: [1, 2]}", "{a: [2, 5]}");
    makes("{$push: {a: {$each: [], $slice: 0}}}", "{a: [1, 2]}", "{a: []}");
    makes(
        "{$push: {a: {$each: [{n: 2, m: 1}], $sort: {n: -1, m: 1}}}}",
        "{a: [{n: 1}, {n: 2, m: 5}]}",
        "{a: [{n: 2, m: 1}, {n: 2, m: 5}, {n: 1}]}",
    );
    refuses("{$push: {a: 1}}", "{a: 5}", "$push 'a': it holds no array, but a value of type INT32");
    refuses("{$push: {a: {$slice: 1}}}", "{}", "$push 'a': its modifiers need $each");
    refuses("{$push: {a: {$each: 1}}}", "{}", "$push 'a': $each expects an array");
    refuses("{$push: {a: {$each: [], $x: 1}}}", "{}", "$push 'a': unknown modifier '$x'");
    refuses("{$push: {a: {$each: [], $sort: 2}}}", "{}", "$push 'a': $sort expects 1 or -1");
}

#[test]
fn add_to_set_adds_what_is_not_there() {
    makes("{$addToSet: {a: 2.0}}", "{a: [1]}", "{a: [1, 2.0]}");
    makes("{$addtoset: {a: {$each: [1, 3, 3, 4]}}}", "{a: [1]}", "{a: [1, 3, 4]}");
    makes("{$addToSet: {b: [1]}}", "{}", "{b: [[1]]}");
    changes_nothing("{$addToSet: {a: 1.0}}", "{a: [1]}");
    refuses(
        "{$addToSet: {a: {$each: 1}}}",
        "{}",
        "$addToSet 'a' expects a value, or $each with an array",
    );
}

#[test]
fn pull_takes_out_what_a_condition_accepts() {
    makes("{$pull: {a: 1}}", "{a: [1, 2, 1.0, [1]]}", "{a: [2, [1]]}");
    makes("{$pull: {a: {$gte: 2}}}", "{a: [1, 2, 3, 'x']}", "{a: [1, 'x']}");
    makes("{$pull: {a: {$in: ['x', 3]}}}", "{a: [1, 'x', 3]}", "{a: [1]}");
    makes(
        "{$pull: {a: {n: 1, m: {$gt: 1}}}}",
        "{a: [{n: 1, m: 1}, {n: 1, m: 2}, 5]}",
        "{a: [{n: 1, m: 1}, 5]}",
    );
    makes("{$pull: {a: {$elemMatch: {$gt: 1}}}}", "{a: [[1], [1, 2]]}", "{a: [[1]]}");
    changes_nothing("{$pull: {a: 9, b: 1}}", "{a: [1]}");
    refuses("{$pull: {a: 1}}", "{a: 5}", "$pull 'a': it holds no array, but a value of type INT32");
    refuses(
        "{$pull: {a: {$foo: 1}}}",
        "{a: []}",
        "BQL parse error: Unknown operator: $foo (at $pull.a)",
    );
}

#[test]
fn rename_moves_a_value() {
    makes("{$rename: {a: 'b'}}", "{a: 1, c: 2}", "{c: 2, b: 1}");
    makes("{$rename: {a: 'c'}}", "{a: 1, c: 2}", "{c: 1}");
    makes("{$rename: {'a.b': 'x.y'}}", "{a: {b: 1}}", "{a: {}, x: {y: 1}}");
    changes_nothing("{$rename: {z: 'c'}}", "{c: 2}");
    refuses("{$rename: {'a.0': 'b'}}", "{a: [1]}", "$rename 'a.0' leads into an array");
    refuses("{$rename: {b: 'a.0'}}", "{a: [1], b: 2}", "$rename 'a.0': it leads into an array");
    refuses("{$rename: {a: 'a'}}", "{}", "$rename 'a' to itself");
    refuses("{$rename: {a: 1}}", "{}", "$rename 'a' expects the new path as a string, not INT32");
}

#[test]
fn positional_operators_find_their_elements() {
    makes_found_by(
        "{'i.n': 2}",
        "{$set: {'i.$.p': 5, 'i.$.q': 6}}",
        "{i: [{n: 1}, {n: 2}]}",
        "{i: [{n: 1}, {n: 2, p: 5, q: 6}]}",
    );
    makes_found_by("{g: {$gte: 3}}", "{$inc: {'g.$': 1}}", "{g: [1, 3, 4]}", "{g: [1, 4, 4]}");
    makes("{$inc: {'a.$[].n': 1}}", "{a: [{n: 1}, {}]}", "{a: [{n: 2}, {n: 1}]}");
    makes(
        "{$set: {'a.$[hi]': 0}, array_filters: [{hi: {$gte: 5}}]}",
        "{a: [1, 5, 9]}",
        "{a: [1, 0, 0]}",
    );
    makes(
        "{$set: {'a.$[e].b': 0}, array_filters: [{'e.n': 1}]}",
        "{a: [{n: 1}, {n: 2}]}",
        "{a: [{n: 1, b: 0}, {n: 2}]}",
    );
    makes("{$unset: ['a.$[e]'], array_filters: [{e: {$lt: 2}}]}", "{a: [1, 2, 1]}", "{a: [2]}");
    changes_nothing("{$set: {'a.$[]': 1}}", "{a: 5}");
    changes_nothing("{$set: {'b.$[].c': 1}}", "{a: 5}");
    makes("{$set: {'a.$[].x': 1, 'a.0.y': 2}}", "{a: [{}, {}]}", "{a: [{y: 2, x: 1}, {x: 1}]}");
    refuses(
        "{$set: {'a.$[]': 1}, $inc: {'a.0': 2}}",
        "{a: [1]}",
        "$inc 'a.0' conflicts with $set 'a.$[]': one update changes a place once",
    );
}

#[test]
fn what_makes_no_sense_is_refused_in_these_words() {
    for (text, message) in [
        ("", "update parameter cannot be empty"),
        ("{}", "update parameter cannot be empty"),
        ("{upsert: true}", "update parameter cannot be empty"),
        ("{$set: {'_id': 1}}", "_id field is immutable and cannot be modified with $set"),
        ("{$unset: ['_id']}", "_id field is immutable and cannot be modified with $unset"),
        ("{$rename: {a: '_id'}}", "_id field is immutable and cannot be modified with $rename"),
        ("{$set: {a: 1}, upsert: 1}", "upsert must be a boolean"),
        ("{$unset: [1]}", "unset key must be a string, got: INT32"),
        ("{$set: 5}", "$set expects a document of paths, not INT32"),
        (
            "{$set: {a: 1}, array_filters: [{}]}",
            "Array filter document must have exactly one key (the identifier)",
        ),
        (
            "{$set: {a: 1}, array_filters: [{a: 1, b: 2}]}",
            "Array filter document must have exactly one key (the identifier)",
        ),
        (
            "{$set: {'a.$[x]': 1}, array_filters: [{x: {$gt: 1, $lt: 3}}]}",
            "Array filter operator document must have exactly one operator",
        ),
        (
            "{$set: {'a.$[x]': 1}, array_filters: [{x: {$regex: 'a'}}]}",
            "Unsupported array filter operator: $regex",
        ),
        ("{$set: {a: 1}, array_filters: [1]}", "array_filters element must be a document"),
        ("{$set: {a: 1}, array_filters: 1}", "array_filters must be an array of documents"),
        (
            "{$set: {a: 1}, array_filters: [{x: 1}]}",
            "Array filter 'x' is used by no path of the update",
        ),
        (
            "{$set: {'a.$[x]': 1}, array_filters: [{x: 1}, {x: 2}]}",
            "Array filter 'x' is given twice",
        ),
        (
            "{$set: {'a.$': 1}, upsert: true}",
            "Positional operator $ cannot be used with upsert=true",
        ),
        (
            "{$set: {'a.$[]': 1}, upsert: true}",
            "Positional operator $ cannot be used with upsert=true",
        ),
        ("{$set: {'a.$.b.$': 1}}", "Multiple positional operators not supported in path: a.$.b.$"),
        ("{$set: {'a.$x': 1}}", "Invalid positional operator '$x' in path: a.$x"),
        ("{$set: {'$[].a': 1}}", "Invalid positional operator '$[]' in path: $[].a"),
        ("{$set: {'a.$[x]': 1}}", "No array filter found for identifier 'x' in path 'a.$[x]'"),
        ("{$set: {'a.$': 1}}", "Positional operator $ requires array field 'a' in query"),
        ("{$set: {'a..b': 1}}", "$set 'a..b' contains an empty field name"),
        (
            "{$set: {a: 1}, $inc: {a: 1}}",
            "$inc 'a' conflicts with $set 'a': one update changes a place once",
        ),
        (
            "{$set: {'a.b': 1}, $unset: ['a']}",
            "$unset 'a' conflicts with $set 'a.b': one update changes a place once",
        ),
        (
            "{$set: {a: 1}, $push: {'a.b': 1}}",
            "$push 'a.b' conflicts with $set 'a': one update changes a place once",
        ),
        (
            "{$set: {a: 1}, $rename: {b: 'a'}}",
            "$rename 'a' conflicts with $set 'a': one update changes a place once",
        ),
    ] {
        refuses(text, "{a: [1]}", message);
    }
    for unknown in ["$foo", "name", "$currentDate"] {
        let error = update(&format!("{{'{unknown}': {{a: 1}}}}")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("Unknown update operator: {unknown}. Known are $set")));
    }
}

#[test]
fn what_a_client_can_make_large_is_bounded() {
    refuses(
        "{$set: {'a.10000000': 1}}",
        "{a: [1]}",
        "$set 'a.10000000': an array of 1 elements grows to position 10000000; at most 10000 are filled up",
    );
    let paths: Vec<String> = (0..=PATHS_MAX).map(|n| format!("'f{n}': 1")).collect();
    refuses(
        &format!("{{$set: {{{}}}}}", paths.join(",")),
        "{}",
        "an update has at most 1000 paths",
    );
    let long = vec!["a"; 101].join(".");
    refuses(&format!("{{$set: {{'{long}': 1}}}}"), "{}", "$set has a path of more than 100 steps");
    let deep = vec!["a"; 100].join(".");
    let error = run(&format!("{{$set: {{'{deep}': {{b: 1}}}}}}"), "{}", "{}").unwrap_err();
    assert!(error.to_string().contains("nested too deeply"), "{error}");
    let array = format!("{{a: [{}]}}", vec!["1"; 1000].join(","));
    let large = format!("{{$set: {{'a.$[]': '{}'}}}}", "x".repeat(100_000));
    refuses(&large, &array, "the updated document exceeds the limit of 8388608 bytes");
    let one = Update::parse(&"{$set: {b: 'xxxxxxxxxx'}}".into(), &Limits::default(), 20).unwrap();
    let error = one.within(None).apply(&Ast::All, &document("{a: 1}")).unwrap_err().to_string();
    assert_eq!(error, "the updated document: Document of 30 bytes exceeds the limit of 20 bytes");
}

#[track_caller]
fn inserts(filter: &str, text: &str, expected: &str) {
    let filter = parse(&filter.to_owned().into(), &Limits::default()).unwrap();
    let new = update(text).unwrap().within(None).new_document(&filter).unwrap();
    assert_eq!(new.to_json(), document(expected).to_json());
}

#[test]
fn an_upsert_begins_with_what_the_filter_is_equal_to() {
    inserts(
        "{a: 1, 'b.c': 'x', n: {$gt: 5}}",
        "{$set: {d: 1}, upsert: true}",
        "{a: 1, b: {c: 'x'}, d: 1}",
    );
    inserts(
        "{$and: [{a: {$eq: 1}}, {b: 2}]}",
        "{$inc: {a: 5, n: 1}, upsert: true}",
        "{a: 6, b: 2, n: 1}",
    );
    inserts("{$or: [{a: 1}, {b: 2}]}", "{$push: {t: 1}, upsert: true}", "{t: [1]}");
    inserts(
        "{'_id': '6835a1c0e4b0f72a3c000001'}",
        "{$set: {x: 1}, upsert: true}",
        "{'_id': {$oid: '6835a1c0e4b0f72a3c000001'}, x: 1}",
    );
    let filter = parse(&"{a: 1, $and: [{'a.b': 2}]}".into(), &Limits::default()).unwrap();
    let upsert = update("{$set: {x: 1}, upsert: true}").unwrap();
    let error = upsert.within(None).new_document(&filter).unwrap_err();
    assert!(error.to_string().starts_with("the filter's 'a.b' conflicts with the filter's 'a'"));
}
