//! What JSON text becomes, what BSON prints as, and what is refused where.

use super::*;
use bson::{Bson, doc};

fn limits() -> Limits {
    Limits { depth_max: 6, bytes_max: 1000 }
}

/// The text becomes exactly this document, in types and field order.
#[track_caller]
fn reads(text: &str, expected: &bson::Document) {
    let document = Document::from_json(text.as_bytes(), limits()).unwrap();
    assert_eq!(raw::validate(document.bytes(), limits().depth_max), Ok(()));
    let expected = bson::RawDocumentBuf::try_from(expected).unwrap();
    assert_eq!(document.bytes().as_ref(), expected.as_bytes(), "{text}");
}

#[track_caller]
fn refuses(text: &str, expected: &str) {
    let error = Document::from_json(text.as_bytes(), limits()).unwrap_err();
    assert_eq!(error.to_string(), format!("Invalid JSON: {expected}"));
}

#[track_caller]
fn prints(document: &bson::Document, expected: &str) {
    let raw = bson::RawDocumentBuf::try_from(document).unwrap();
    let document = Document::from_bson(raw.into_bytes().into(), limits()).unwrap();
    assert_eq!(String::from_utf8(document.to_json()).unwrap(), expected);
}

#[test]
fn integers_take_the_smallest_type_and_fractions_are_doubles() {
    reads(
        r#"{"a":1,"b":-2147483648,"c":2147483648,"d":9223372036854775807,"e":1.0,"f":1e2,"g":-0,"h":1e-400}"#,
        &doc! {"a": 1, "b": i32::MIN, "c": 2_147_483_648_i64, "d": i64::MAX, "e": 1.0, "f": 100.0, "g": 0, "h": 0.0},
    );
    reads(r#"{"a": 18446744073709551616}"#, &doc! {"a": 18_446_744_073_709_551_616.0});
    refuses(
        r#"{"a": 18446744073709551615}"#,
        "an integer that int64 cannot hold, write {\"$numberDecimal\": \"...\"} at line 1 column 7",
    );
    refuses(r#"{"a": 1e999}"#, "a number out of the range of a double at line 1 column 7");
    refuses(r#"{"a": 01}"#, "a number must not start with 0 at line 1 column 7");
    refuses(r#"{"a": 1.}"#, "expected a digit, found '}' at line 1 column 9");
    refuses(r#"{"a": -}"#, "expected a digit, found '}' at line 1 column 8");
}

#[test]
fn extended_json_gives_every_type_in_canonical_and_relaxed_form() {
    let id = bson::oid::ObjectId::parse_str("6835a1c0e4b0f72a3c000001").unwrap();
    reads(r#"{"v": {"$oid": "6835a1c0e4b0f72a3c000001"}}"#, &doc! {"v": id});
    reads(
        r#"{"v": {"$date": "1970-01-01T00:00:01.5Z"}}"#,
        &doc! {"v": bson::DateTime::from_millis(1500)},
    );
    reads(
        r#"{"v": {"$date": {"$numberLong": "-5"}}}"#,
        &doc! {"v": bson::DateTime::from_millis(-5)},
    );
    reads(r#"{"v": {"$date": 1500}}"#, &doc! {"v": bson::DateTime::from_millis(1500)});
    reads(
        r#"{"a": {"$numberInt": "7"}, "b": {"$numberLong": "7"}, "c": {"$numberDouble": "-0.0"}, "d": {"$numberLong": 8}}"#,
        &doc! {"a": 7, "b": 7_i64, "c": -0.0, "d": 8_i64},
    );
    reads(r#"{"v": {"$numberDouble": "-Infinity"}}"#, &doc! {"v": f64::NEG_INFINITY});
    reads(
        r#"{"v": {"$numberDecimal": "1.50"}}"#,
        &doc! {"v": "1.50".parse::<bson::Decimal128>().unwrap()},
    );
    let blob = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2, 3] };
    reads(r#"{"v": {"$binary": {"subType": "0", "base64": "AQID"}}}"#, &doc! {"v": blob.clone()});
    reads(r#"{"v": {"$binary": "AQID", "$type": "00"}}"#, &doc! {"v": blob.clone()});
    reads(r#"{"v": {"$type": "00", "$binary": "AQID"}}"#, &doc! {"v": blob});
    let old = bson::Binary { subtype: bson::spec::BinarySubtype::BinaryOld, bytes: vec![1, 2, 3] };
    reads(r#"{"v": {"$binary": {"base64": "AQID", "subType": "02"}}}"#, &doc! {"v": old});
    reads(
        r#"{"v": {"$timestamp": {"t": 4294967295, "i": 1}}}"#,
        &doc! {"v": bson::Timestamp { time: u32::MAX, increment: 1 }},
    );
    let regex =
        bson::Regex { pattern: "a.b".try_into().unwrap(), options: "im".try_into().unwrap() };
    reads(
        r#"{"v": {"$regularExpression": {"pattern": "a.b", "options": "mi"}}}"#,
        &doc! {"v": regex},
    );
    reads(
        r#"{"v": [{"$minKey": 1}, {"$maxKey": 1}, {"$undefined": true}]}"#,
        &doc! {"v": [Bson::MinKey, Bson::MaxKey, Bson::Undefined]},
    );
    reads(r#"{"v": {"$symbol": "s"}}"#, &doc! {"v": Bson::Symbol("s".into())});
    reads(r#"{"v": {"$code": "f()"}}"#, &doc! {"v": Bson::JavaScriptCode("f()".into())});
    let scoped = bson::JavaScriptCodeWithScope { code: "f()".into(), scope: doc! {"a": 1_i64} };
    reads(
        r#"{"v": {"$scope": {"a": {"$numberLong": "1"}}, "$code": "f()"}}"#,
        &doc! {"v": Bson::JavaScriptCodeWithScope(scoped)},
    );
    reads(
        r#"{"v": {"$uuid": "c8edabc3-f738-4ca3-b68d-ab92a91478a3"}}"#,
        &doc! {"v": bson::Uuid::parse_str("c8edabc3-f738-4ca3-b68d-ab92a91478a3").unwrap()},
    );
    reads(
        r#"{"v": {"$ref": "c", "$id": 1, "$db": "d"}}"#,
        &doc! {"v": {"$ref": "c", "$id": 1, "$db": "d"}},
    );
    reads(r#"{"v": {"$gt": 1}}"#, &doc! {"v": {"$gt": 1}});
}

#[test]
fn a_broken_wrapper_is_refused_and_not_taken_as_a_document() {
    refuses(r#"{"v": {"$oid": "xyz"}}"#, "an invalid $oid at line 1 column 7");
    refuses(
        r#"{"v": {"$oid": "6835a1c0e4b0f72a3c000001", "b": 1}}"#,
        "$oid must stand alone in its object at line 1 column 7",
    );
    refuses(r#"{"v": {"$date": "yesterday"}}"#, "an invalid $date at line 1 column 7");
    refuses(r#"{"v": {"$numberInt": "2147483648"}}"#, "an invalid $numberInt at line 1 column 7");
    refuses(r#"{"v": {"$numberDecimal": "1e"}}"#, "an invalid $numberDecimal at line 1 column 7");
    refuses(
        r#"{"v": {"$binary": {"base64": "?", "subType": "00"}}}"#,
        "an invalid $binary at line 1 column 7",
    );
    refuses(
        r#"{"v": {"$timestamp": {"t": -1, "i": 1}}}"#,
        "an invalid $timestamp at line 1 column 7",
    );
}

#[test]
fn single_quotes_and_bare_names_are_read() {
    reads(
        r#"{'a': 'it\'s', b_1: "x'y", $c: 1, d.e: 2}"#,
        &doc! {"a": "it's", "b_1": "x'y", "$c": 1, "d.e": 2},
    );
    refuses("{a: b}", "expected a value, found 'b' at line 1 column 5");
    refuses("{1a: 1}", "expected a name, found '1' at line 1 column 2");
}

#[test]
fn strings_with_every_escape_come_through() {
    reads(
        r#"{"a": "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\u0000é"}"#,
        &doc! {"a": "\"\\/\u{8}\u{c}\n\r\té😀\0é"},
    );
    refuses(r#"{"a": "\ud83d"}"#, "half of a surrogate pair at line 1 column 8");
    refuses(r#"{"a": "\ude00"}"#, "half of a surrogate pair at line 1 column 8");
    refuses(r#"{"a": "\x"}"#, "an unknown escape at line 1 column 8");
    refuses(
        "{\"a\": \"\n\"}",
        "a control character must be escaped in a string at line 1 column 8",
    );
    refuses(r#"{"a": "b}"#, "the string has no end at line 1 column 7");
    refuses(r#"{"a\u0000": 1}"#, "a name must not contain a null character at line 1 column 2");
}

#[test]
fn what_is_not_a_document_is_refused_with_its_place() {
    refuses("", "a document must be a JSON object at line 1 column 1");
    refuses("[1]", "a document must be a JSON object at line 1 column 1");
    refuses("{\"a\": 1,\n \"b\" 2}", "expected ':', found '2' at line 2 column 6");
    refuses(r#"{"a": 1"#, "expected ',' or '}', found the end at line 1 column 8");
    refuses(r#"{"a": 1,}"#, "expected a name, found '}' at line 1 column 9");
    refuses(r#"{"a": [1,]}"#, "expected a value, found ']' at line 1 column 10");
    refuses(r#"{"a": 1} x"#, "text after the end of the document at line 1 column 10");
    refuses(
        r#"{"a": NaN}"#,
        "NaN is not JSON, write {\"$numberDouble\": \"...\"} at line 1 column 7",
    );
    refuses(
        r#"{"a": -Infinity}"#,
        "-Infinity is not JSON, write {\"$numberDouble\": \"-Infinity\"} at line 1 column 7",
    );
    refuses(
        r#"{"a": {"b": 1, "c": 2, "b": 3}}"#,
        "the name 'b' is given twice at line 1 column 24",
    );
    let many: Vec<String> = (0..40).map(|index| format!("\"k{}\": 1", index % 39)).collect();
    let error = Document::from_json(format!("{{{}}}", many.join(",")).as_bytes(), limits());
    assert!(error.unwrap_err().to_string().contains("the name 'k0' is given twice"));
    let error = Document::from_json(b"{\"a\": \"\xff\"}", limits()).unwrap_err();
    assert_eq!(error.to_string(), "Invalid JSON: invalid UTF-8 at line 1 column 8");
}

#[test]
fn depth_and_size_are_bounded_on_both_doors() {
    reads(r#"{"a": [[[[{}]]]]}"#, &doc! {"a": [[[[{}]]]]});
    refuses(r#"{"a": [[[[{"b": {}}]]]]}"#, "nested deeper than 6 at line 1 column 17");
    let deep = format!("{{\"a\": {}", "[".repeat(200_000));
    refuses(&deep, "nested deeper than 6 at line 1 column 12");
    let long = format!("{{\"a\": \"{}\"}}", "x".repeat(2000));
    let error = Document::from_json(long.as_bytes(), limits()).unwrap_err().to_string();
    assert!(error.contains("the document is larger than 1000 bytes"), "{error}");
    let long = bson::rawdoc! {"a": "x".repeat(2000)};
    assert_eq!(
        Document::from_bson(long.into_bytes().into(), limits()),
        Err(InputError::TooLarge { size: 2013, limit: 1000 })
    );
}

#[test]
fn documents_print_as_relaxed_extended_json() {
    let id = bson::oid::ObjectId::parse_str("6835a1c0e4b0f72a3c000001").unwrap();
    prints(
        &doc! {"_id": id, "b": {"_id": id}, "c": [1, 2_i64, 1.0, 1e300, -0.5, true, null]},
        r#"{"_id":"6835a1c0e4b0f72a3c000001","b":{"_id":{"$oid":"6835a1c0e4b0f72a3c000001"}},"c":[1,2,1.0,1e300,-0.5,true,null]}"#,
    );
    prints(
        &doc! {"d": bson::DateTime::from_millis(1500), "e": bson::DateTime::from_millis(-1), "n": f64::NAN},
        r#"{"d":{"$date":"1970-01-01T00:00:01.5Z"},"e":{"$date":{"$numberLong":"-1"}},"n":{"$numberDouble":"NaN"}}"#,
    );
    prints(
        &doc! {"x": bson::Binary { subtype: bson::spec::BinarySubtype::BinaryOld, bytes: vec![1, 2, 3] }, "y": "1.50".parse::<bson::Decimal128>().unwrap()},
        r#"{"x":{"$binary":{"base64":"AQID","subType":"02"}},"y":{"$numberDecimal":"1.50"}}"#,
    );
    prints(&doc! {"s": "a\"\\\n\u{1}é/"}, "{\"s\":\"a\\\"\\\\\\n\\u0001é/\"}");
    prints(&doc! {"i": i64::MIN}, r#"{"i":-9223372036854775808}"#);
}

#[test]
fn bson_is_told_from_json_by_its_length() {
    let bson = bson::rawdoc! {"a": 1}.into_bytes();
    let binary = Document::sniff(&bson.into(), limits()).unwrap();
    let text = Document::sniff(&Bytes::from_static(b" {a: 1}"), limits()).unwrap();
    assert_eq!(binary, text);
    let broken = Bytes::from_static(&[7, 0, 0, 0, 0x10, b'a', 0]);
    assert!(matches!(Document::sniff(&broken, limits()), Err(InputError::Bson { .. })));
}
