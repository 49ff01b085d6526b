use bson::{Bson, Decimal128, doc, oid::ObjectId};
use proptest::prelude::*;

use super::*;
use crate::value::compare;

/// The value's key, next to its bytes.
fn with<T>(value: &Bson, use_it: impl FnOnce(Value<'_>) -> T) -> T {
    let document = bson::RawDocumentBuf::try_from(&doc! {"v": value.clone()}).unwrap();
    let field = Raw::new(document.as_bytes()).unwrap().get(b"v").unwrap();
    use_it(field.value())
}

fn key_of(value: &Bson) -> Vec<u8> {
    let mut key = Vec::new();
    with(value, |value| encode(&value, None, &mut key));
    key
}

#[track_caller]
fn check(left: &Bson, right: &Bson) {
    let (left_key, right_key) = (key_of(left), key_of(right));
    let expected = with(left, |left| with(right, |right| compare(&left, &right)));
    assert_eq!(
        left_key.cmp(&right_key),
        expected,
        "{left:?} {right:?}\n{left_key:x?}\n{right_key:x?}"
    );
    assert!(
        left_key == right_key || !right_key.starts_with(&left_key),
        "{left:?} is the beginning of {right:?}"
    );
    assert!(left_key.first().is_some_and(|first| (1..0xff).contains(first)));
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse::<Decimal128>().unwrap())
}

/// Numbers at which something changes: the edges of types, and their neighbours.
fn edges() -> Vec<Bson> {
    let two53 = 1_i64 << 53;
    let mut all = vec![];
    for number in
        [0, 1, -1, 7, 255, 256, two53 - 1, two53, two53 + 1, i64::MAX, i64::MIN, i64::MAX - 1]
    {
        all.push(Bson::Int64(number));
        all.push(Bson::Int64(number.wrapping_neg()));
        #[allow(clippy::cast_precision_loss, reason = "the nearest double is what is wanted")]
        let double = number as f64;
        for double in [double, -double, double.next_up(), double.next_down()] {
            all.push(Bson::Double(double));
        }
        all.push(decimal(&number.to_string()));
        all.push(decimal(&format!("{number}.5")));
        all.push(decimal(&format!("{number}.0000000000001")));
    }
    for double in [
        0.1,
        0.5,
        1e300,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        -5e-324,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        -f64::NAN,
        -0.0,
        1e23,
        4.35,
    ] {
        all.push(Bson::Double(double));
    }
    for text in [
        "NaN",
        "Infinity",
        "-Infinity",
        "-0",
        "0E+100",
        "0.1",
        "0.10",
        "1E-1",
        "0.5",
        "1E+6111",
        "9.999999999999999999999999999999999E+6144",
        "-1E+6144",
        "1E-6176",
        "-1E-6176",
        "1E+308",
        "9.999999999999999999999999999999999E+308",
        "1E+309",
        "1E+310",
        "1E-323",
        "1E-324",
        "1E-325",
        "4.940656458412465441765687928682213E-324",
        "4.940656458412465441765687928682214E-324",
        "1.797693134862315708145274237317043E+308",
        "1.797693134862315708145274237317044E+308",
        "0.1000000000000000055511151231257827",
        "0.1000000000000000055511151231257828",
        "1E+23",
        "4.35",
        "-4.35",
        "9999999999999999999999999999999999",
        "1E+34",
        "1.00E+34",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551617",
    ] {
        all.push(decimal(text));
    }
    for number in [0, 1, -1, i32::MAX, i32::MIN] {
        all.push(Bson::Int32(number));
    }
    all
}

#[test]
fn numbers_of_all_types_are_in_one_exact_order() {
    let edges = edges();
    for left in &edges {
        for right in &edges {
            check(left, right);
        }
    }
}

#[test]
fn small_integers_are_short() {
    assert_eq!(key_of(&Bson::Int32(5)).len(), 12);
    assert_eq!(key_of(&Bson::Int32(5)), key_of(&decimal("5.00")));
    assert_eq!(key_of(&Bson::Int32(0)).len(), 1);
}

#[test]
fn keys_follow_each_other_without_a_mark_between() {
    // A text that ends where another goes on, before every kind of neighbour.
    let texts = ["", "a", "a\0", "a\0\0", "a\u{1}", "b"];
    for left in texts {
        for right in texts {
            for next in [0x04_u8, 0x80, 0xff] {
                let join = |text: &str| [key_of(&Bson::from(text)), vec![next]].concat();
                assert_eq!(join(left).cmp(&join(right)), left.cmp(right), "{left:?} {right:?}");
            }
        }
    }
}

fn number() -> impl Strategy<Value = Bson> {
    let edges = edges();
    let digits = "-?[0-9]{1,34}";
    prop_oneof![
        proptest::sample::select(edges),
        any::<i64>().prop_map(Bson::Int64),
        (-20..20_i64).prop_map(Bson::Int64),
        any::<i32>().prop_map(Bson::Int32),
        any::<u64>().prop_map(|bits| Bson::Double(f64::from_bits(bits))),
        any::<f64>().prop_map(Bson::Double),
        // The same number in two types, as often as not.
        any::<f64>().prop_map(|double| {
            format!("{double:e}")
                .parse::<Decimal128>()
                .map_or(Bson::Double(double), Bson::Decimal128)
        }),
        (digits, -400..400_i32).prop_map(|(digits, ten)| decimal(&format!("{digits}E{ten}"))),
        (digits, -6176..6111_i32).prop_map(|(digits, ten)| decimal(&format!("{digits}E{ten}"))),
        (digits, -36..4_i32).prop_map(|(digits, ten)| decimal(&format!("{digits}E{ten}"))),
    ]
}

fn text() -> impl Strategy<Value = String> {
    "[ab\\x00\\x01\\xff]{0,4}"
}

fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        8 => number(),
        4 => text().prop_map(Bson::from),
        1 => text().prop_map(Bson::Symbol),
        1 => text().prop_map(Bson::JavaScriptCode),
        1 => (text(), number()).prop_map(|(code, number)| {
            Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code, scope: doc! {"a": number} })
        }),
        1 => proptest::sample::select(vec![Bson::Null, Bson::Undefined, Bson::MinKey, Bson::MaxKey]),
        1 => any::<bool>().prop_map(Bson::Boolean),
        1 => any::<i64>().prop_map(|at| Bson::DateTime(bson::DateTime::from_millis(at))),
        1 => any::<[u8; 12]>().prop_map(|id| Bson::ObjectId(ObjectId::from_bytes(id))),
        1 => (any::<u32>(), any::<u32>())
            .prop_map(|(time, increment)| Bson::Timestamp(bson::Timestamp { time, increment })),
        1 => (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(subtype, bytes)| {
            // The old binary type has a second length in it, so it is not made here.
            let subtype = if subtype == 2 { 3 } else { subtype };
            Bson::Binary(bson::Binary { subtype: subtype.into(), bytes })
        }),
        1 => ("[ab]{0,2}", "[im]{0,1}").prop_map(|(pattern, options)| {
            Bson::RegularExpression(bson::Regex {
                pattern: pattern.try_into().unwrap(),
                options: options.try_into().unwrap(),
            })
        }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Bson::Array),
            proptest::collection::vec(("[ab]{0,2}", inner), 0..3)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn keys_are_in_the_order_of_the_values(left in value(), right in value()) {
        check(&left, &right);
        check(&left, &left);
    }

    #[test]
    fn keys_of_numbers_are_in_the_order_of_the_numbers(left in number(), right in number()) {
        check(&left, &right);
    }
}
