//! Updates that somebody wrote to break something: each is refused in so many words, or does
//! what it says and no more.

use super::*;

/// Refused when it is parsed or applied; the message begins so.
#[track_caller]
fn refuses_so(text: &str, before: &str, message: &str) {
    let error = run(text, "{}", before).unwrap_err().to_string();
    assert!(error.starts_with(message), "{text}: {error}");
}

#[test]
fn positional_operators_without_what_they_refer_to_are_refused() {
    for path in ["a.$[x]", "a.$[x].b", "a.$[x].b.c"] {
        let message = format!("No array filter found for identifier 'x' in path '{path}'");
        refuses(&format!("{{$set: {{'{path}': 1}}}}"), "{a: [{b: 1}]}", &message);
    }
    for (path, word) in [
        ("a.$[", "$["),
        ("a.$]", "$]"),
        ("a.$[x", "$[x"),
        ("a.$[x]]", "$[x]]"),
        ("a.$[$]", "$[$]"),
        ("a.$[ ]", "$[ ]"),
        ("a.$$", "$$"),
        ("a.$b.c", "$b"),
        ("$", "$"),
        ("$set", "$set"),
        ("$.a", "$"),
    ] {
        let message = format!("Invalid positional operator '{word}' in path: {path}");
        refuses(&format!("{{$set: {{'{path}': 1}}}}"), "{a: [1]}", &message);
    }
    refuses(
        "{$rename: {'a.$[]': 'b'}}",
        "{a: [1]}",
        "$rename 'a.$[]' must not have a positional operator",
    );
    for (id, known) in [("", "''"), ("x y", "'x y'"), ("$x", "'$x'")] {
        refuses(
            &format!("{{$set: {{a: 1}}, array_filters: [{{'{id}': 1}}]}}"),
            "{}",
            &format!("Invalid array filter identifier: {known}"),
        );
    }
}

#[test]
fn positions_far_behind_an_array_are_refused_where_they_would_fill_it() {
    let far = "1000000000";
    for operator in ["$set", "$inc", "$mul", "$min", "$max", "$push", "$addToSet"] {
        for below in ["", ".b", ".5"] {
            refuses_so(
                &format!("{{{operator}: {{'a.{far}{below}': 1}}}}"),
                "{a: [1]}",
                &format!(
                    "{operator} 'a.{far}{below}': an array of 1 elements grows to position {far}"
                ),
            );
        }
    }
    changes_nothing(
        &format!("{{$unset: ['a.{far}'], $pull: {{'b.{far}': 1}}}}"),
        "{a: [1], b: [1]}",
    );
    // Where there is no array it is a name like any other.
    makes(&format!("{{$set: {{'a.{far}': 1}}}}"), "{}", &format!("{{a: {{'{far}': 1}}}}"));
    for beyond in ["18446744073709551616", "-1", "01", "+1", "1e3"] {
        refuses(
            &format!("{{$set: {{'a.{beyond}': 1}}}}"),
            "{a: [1]}",
            &format!("$set 'a.{beyond}': an array has no field '{beyond}'"),
        );
        changes_nothing(&format!("{{$unset: ['a.{beyond}']}}"), "{a: [1]}");
    }
    // In steps, each of which is allowed, until the document is as large as it may be.
    let steps: Vec<String> =
        (1..=900).map(|step| format!("'a.{}': 1", step * FILLED_MAX)).collect();
    refuses(
        &format!("{{$set: {{{}}}}}", steps.join(",")),
        "{a: []}",
        "the updated document exceeds the limit of 8388608 bytes",
    );
}

#[test]
fn what_would_make_a_document_too_large_is_refused() {
    let small = |text: &str, before: &str| {
        let update = Update::parse(&text.to_owned().into(), &Limits::default(), 4_000).unwrap();
        update.within(None).apply(&Ast::All, &document(before))
    };
    let many = vec!["'xxxxxxxxxxxxxxxx'"; 300].join(",");
    for text in [
        format!("{{$push: {{a: {{$each: [{many}]}}}}}}"),
        format!("{{$push: {{a: {{$each: [{many}], $slice: 200}}}}}}"),
        format!("{{$set: {{a: [{many}]}}}}"),
        format!("{{$set: {{'a.0': '{}'}}}}", "x".repeat(5_000)),
    ] {
        let error = small(&text, "{a: [1]}").unwrap_err().to_string();
        assert!(error.starts_with("the updated document: Document of "), "{error}");
    }
    // What is cut off again does not count.
    let cut = format!("{{$push: {{a: {{$each: [{many}], $slice: -1}}}}}}");
    assert!(small(&cut, "{a: [1]}").unwrap().is_some());
    let equal = format!("{{$addToSet: {{a: {{$each: [{many}]}}}}}}");
    assert!(small(&equal, "{a: [1]}").unwrap().is_some());
}

#[test]
fn many_operands_of_a_set_are_compared_in_order_and_kept_as_they_came() {
    let numbers = |range: std::ops::Range<u32>| {
        range.map(|n| (n * 7_919 % 50_000).to_string()).collect::<Vec<_>>().join(",")
    };
    let text = format!("{{$addToSet: {{a: {{$each: [{}]}}}}}}", numbers(0..50_000));
    let before = format!("{{a: [{}]}}", numbers(0..25_000));
    makes(&text, &before, &format!("{{a: [{}]}}", numbers(0..50_000)));
}

#[test]
fn a_rename_into_itself_or_in_a_circle_is_refused() {
    for (from, to) in [("a", "a.b"), ("a", "a.b.c"), ("a.b", "a"), ("a.0", "a")] {
        refuses(
            &format!("{{$rename: {{'{from}': '{to}'}}}}"),
            "{a: {b: {c: 1}}}",
            &format!(
                "$rename '{to}' conflicts with $rename '{from}': one update changes a place once"
            ),
        );
    }
    refuses_so("{$rename: {a: 'b', b: 'a'}}", "{a: 1, b: 2}", "$rename 'b' conflicts with");
    refuses_so("{$rename: {a: 'b', c: 'b'}}", "{a: 1, c: 2}", "$rename 'b' conflicts with");
    refuses_so("{$rename: {a: 'b', 'b': 'c'}}", "{a: 1}", "$rename 'b' conflicts with");
    refuses("{$rename: {a: ''}}", "{a: 1}", "$rename '' contains an empty field name");
    refuses(
        "{$rename: {a: 'b.c'}}",
        "{a: 1, b: 5}",
        "$rename 'b.c': a value of type INT32 is in the way",
    );
    // Without a source nothing is in its way.
    changes_nothing("{$rename: {a: 'b.c'}}", "{b: 5}");
}

#[test]
fn numbers_at_the_ends_of_their_types_do_not_wrap() {
    for (least, most) in
        [("$inc: {a: -1}", "-9223372036854775808"), ("$mul: {a: -1}", "-9223372036854775808")]
    {
        let operator = least.split(':').next().unwrap();
        refuses(
            &format!("{{{least}}}"),
            &format!("{{a: {most}}}"),
            &format!("{operator} 'a': the result is no int64"),
        );
    }
    makes("{$inc: {a: -1}}", "{a: -2147483648}", "{a: -2147483649}");
    makes("{$mul: {a: -1}}", "{a: -2147483648}", "{a: 2147483648}");
    makes("{$mul: {a: 10.0}}", "{a: 1e308}", "{a: {$numberDouble: 'Infinity'}}");
    let decimal = |text: &str| format!("{{a: {{$numberDecimal: '{text}'}}}}");
    let most = "9.999999999999999999999999999999999E+6144";
    refuses(
        &format!("{{$mul: {}}}", decimal("10")),
        &decimal(most),
        "$mul 'a': the result is no decimal128",
    );
    // Exponents as far apart as they can be; what is lost is below the last digit.
    changes_nothing(&format!("{{$inc: {}}}", decimal("1E-6176")), &decimal(most));
    refuses_so(&format!("{{$inc: {{a: {{$numberDecimal: '1E+{}'}}}}}}", "9".repeat(40)), "{}", "");
}

#[test]
fn depth_is_bounded_in_paths_in_values_and_in_conditions() {
    let nest = |depth: usize| format!("{}1{}", "{a: ".repeat(depth), "}".repeat(depth));
    for depth in [100, 100_000] {
        for text in [
            format!("{{$set: {{a: {}}}}}", nest(depth)),
            format!("{{$pull: {{a: {}}}}}", nest(depth)),
            format!("{{$set: {{'a.$[e]': 1}}, array_filters: [{{e: {}}}]}}", nest(depth)),
            format!("{{$push: {{a: {{$each: [{}]}}}}}}", nest(depth)),
            format!("{{$set: {{'{}': 1}}}}", vec!["a"; depth + 1].join(".")),
        ] {
            assert!(run(&text, "{}", "{a: []}").is_err(), "{depth}: {}", &text[..40]);
        }
    }
    // Conditions within conditions.
    let within =
        format!("{{$pull: {{a: {}{{$gt: 1}}{}}}}}", "{$elemMatch: ".repeat(120), "}".repeat(120));
    refuses_so(&within, "{a: []}", "");
    // What is put deep below is counted from the top.
    let text = format!("{{$set: {{'{}': {}}}}}", vec!["a"; 60].join("."), nest(60));
    refuses_so(&text, "{}", "the updated document: ");
}

#[test]
fn more_conditions_than_an_update_may_have_are_refused() {
    let many = |count: usize| {
        let pulls: Vec<String> = (0..count).map(|n| format!("'f{n}': 1")).collect();
        format!("{{$pull: {{{}}}}}", pulls.join(","))
    };
    changes_nothing(&many(CONDITIONS_MAX), "{}");
    refuses(&many(CONDITIONS_MAX + 1), "{}", "an update has at most 64 conditions on elements");
}

#[test]
fn names_that_stand_twice_are_never_applied_twice() {
    // Only BSON can have them.
    let twice = |operator: &str| {
        let mut inner = bson::RawDocumentBuf::new();
        for _ in 0..2 {
            inner.append(bson::cstr!("n"), 1_i32);
        }
        let mut whole = bson::RawDocumentBuf::new();
        whole.append(bson::cstr!("$inc"), inner);
        let mut other = bson::RawDocumentBuf::new();
        other.append(bson::cstr!("n"), 1_i32);
        whole.append(bson::raw::CString::try_from(operator.to_owned()).unwrap(), other);
        Update::parse(&whole.into_bytes().into(), &Limits::default(), 8 << 20)
    };
    for operator in ["$inc", "$INC", "$set"] {
        assert!(twice(operator).is_err(), "{operator}");
    }
}

#[test]
fn many_paths_through_many_elements_are_refused_and_not_walked() {
    let paths: Vec<String> = (0..900).map(|n| format!("'a.$[].f{n}': 1")).collect();
    let update = format!("{{$unset: {{{}}}}}", paths.join(","));
    let elements = vec!["{}"; 100_000].join(",");
    refuses(&update, &format!("{{a: [{elements}]}}"), TOO_MANY_STEPS);
    changes_nothing(&update, "{a: [{}, {}]}");
}

const TOO_MANY_STEPS: &str = "the update takes more than 20000000 steps in the document. Hint: use fewer paths and conditions";

/// What the filter of a search, a `$pull` and an array filter ask of long arrays is bounded as a whole.
#[test]
fn many_conditions_on_many_elements_are_refused_and_not_asked() {
    let none: Vec<String> = (1..500).map(|n| format!("{{x: {n}}}")).collect();
    let none = none.join(",");
    let long = format!("{{a: [{}]}}", vec!["{x: 0}"; 50_000].join(","));
    for (update, filter) in [
        (format!("{{$pull: {{a: {{$or: [{none}]}}}}}}"), "{}".to_owned()),
        ("{$set: {'a.$': 1}}".to_owned(), format!("{{a: {{$elemMatch: {{$or: [{none}]}}}}}}")),
    ] {
        let filter = parse(&filter.into(), &Limits::default()).unwrap();
        let update = super::update(&update).unwrap();
        let apply = |text: &str| update.within(None).apply(&filter, &document(text));
        assert_eq!(apply(&long).unwrap_err().to_string(), TOO_MANY_STEPS);
        assert!(apply("{a: [{x: 0}, {x: 0}]}").is_ok());
    }
}

#[test]
fn a_sort_of_pushed_elements_takes_so_many_fields() {
    let fields: Vec<String> = (0..33).map(|n| format!("f{n}: 1")).collect();
    let update = format!("{{$push: {{a: {{$each: [], $sort: {{{}}}}}}}}}", fields.join(","));
    let error = super::update(&update).unwrap_err().to_line();
    assert!(error.ends_with("$sort takes at most 32 fields"), "{error}");
}
