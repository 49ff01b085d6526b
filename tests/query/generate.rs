//! Documents and filters from a small world, so that they often meet.

use bson::{Bson, DateTime, Decimal128, Document, doc, oid::ObjectId, spec::BinarySubtype};
use proptest::prelude::*;

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse::<Decimal128>().unwrap())
}

fn oid() -> impl Strategy<Value = ObjectId> {
    (0_u8..4).prop_map(|last| ObjectId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, last]))
}

fn small_number() -> impl Strategy<Value = Bson> {
    prop_oneof![
        (-2_i32..4).prop_map(Bson::Int32),
        (-2_i64..4).prop_map(Bson::Int64),
        (-4_i32..8).prop_map(|half| Bson::Double(f64::from(half) / 2.0)),
        prop::sample::select(vec!["-1", "0", "1.0", "1.5", "2.50", "3E0", "NaN", "Infinity"])
            .prop_map(decimal),
        Just(Bson::Double(f64::NAN)),
        Just(Bson::Double(f64::NEG_INFINITY)),
    ]
}

fn text() -> impl Strategy<Value = Bson> {
    prop::sample::select(vec![
        "",
        "a",
        "A",
        "b",
        "ab",
        "aB",
        "B",
        "é",
        "e",
        "é\"\\\n",
        "6835a1c0e4b0f72a3c000001",
    ])
    .prop_map(|text| Bson::String(text.to_owned()))
}

fn scalar() -> impl Strategy<Value = Bson> {
    prop_oneof![
        5 => small_number(),
        3 => text(),
        3 => Just(Bson::Null),
        3 => any::<bool>().prop_map(Bson::Boolean),
        1 => oid().prop_map(Bson::ObjectId),
        1 => (-1_i64..3).prop_map(|millis| Bson::DateTime(DateTime::from_millis(millis))),
        1 => binary(),
        1 => (0_u32..3, 0_u32..2)
            .prop_map(|(time, increment)| Bson::Timestamp(bson::Timestamp { time, increment })),
        2 => rare(),
    ]
}

/// Binary of several subtypes; one of twelve bytes is a versionstamp.
fn binary() -> impl Strategy<Value = Bson> {
    let subtype = prop::sample::select(vec![
        BinarySubtype::Generic,
        BinarySubtype::BinaryOld,
        BinarySubtype::Uuid,
        BinarySubtype::UserDefined(0x80),
    ]);
    let bytes = prop_oneof![
        prop::collection::vec(0_u8..3, 0..2),
        (0_u8..2).prop_map(|last| [[0; 11].as_slice(), &[last]].concat()),
    ];
    (subtype, bytes).prop_map(|(subtype, bytes)| Bson::Binary(bson::Binary { subtype, bytes }))
}

/// A regular expression that is plain text.
fn regex() -> impl Strategy<Value = Bson> {
    let pattern = prop::sample::select(vec!["", "a", "b", "é"]);
    (pattern, prop::sample::select(vec!["", "i"])).prop_map(|(pattern, options)| {
        Bson::RegularExpression(bson::Regex {
            pattern: pattern.try_into().unwrap(),
            options: options.try_into().unwrap(),
        })
    })
}

/// The types that MongoDB has kept from its first years.
fn rare() -> impl Strategy<Value = Bson> {
    let code = || prop::sample::select(vec!["", "a", "A"]).prop_map(str::to_owned);
    let scoped = (code(), text()).prop_map(|(code, text)| {
        let scope = doc! {"s": text};
        Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code, scope })
    });
    prop_oneof![
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        Just(Bson::Undefined),
        code().prop_map(Bson::Symbol),
        code().prop_map(Bson::JavaScriptCode),
        scoped,
        regex(),
        (prop::sample::select(vec!["c", "d"]), oid()).prop_map(|(name, id)| pointer(name, &id)),
    ]
}

/// The crate reads a DBPointer, and cannot make one.
fn pointer(namespace: &str, id: &ObjectId) -> Bson {
    let length = i32::try_from(namespace.len() + 1).unwrap().to_le_bytes();
    let value =
        [[0x0c, b'p', 0].as_slice(), &length, namespace.as_bytes(), &[0], &id.bytes(), &[0]]
            .concat();
    let whole = i32::try_from(value.len() + 4).unwrap().to_le_bytes();
    let bytes = [whole.as_slice(), &value].concat();
    let document = Document::try_from(bson::RawDocument::from_bytes(&bytes).unwrap()).unwrap();
    document.get("p").unwrap().clone()
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a", "a", "b", "b", "c", "0"]).prop_map(str::to_owned)
}

fn fields(inner: impl Strategy<Value = Bson> + 'static) -> impl Strategy<Value = Document> {
    prop::collection::btree_map(names(), inner, 0..3)
        .prop_map(|fields| fields.into_iter().collect())
        .prop_shuffle_fields()
}

/// Field order matters, a map's strategy always gives the same.
trait ShuffleFields: Strategy<Value = Document> + Sized + 'static {
    fn prop_shuffle_fields(self) -> BoxedStrategy<Document> {
        self.prop_flat_map(|document| Just(document.into_iter().collect::<Vec<_>>()).prop_shuffle())
            .prop_map(|fields| fields.into_iter().collect())
            .boxed()
    }
}

impl<S: Strategy<Value = Document> + 'static> ShuffleFields for S {}

/// Any value, nested up to three deep.
pub(crate) fn value() -> impl Strategy<Value = Bson> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            2 => prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
            1 => fields(inner.clone()).prop_map(Bson::Document),
            1 => array_of_arrays(inner),
        ]
    })
}

/// Documents in arrays in an array, and beside those.
fn array_of_arrays(
    inner: impl Strategy<Value = Bson> + Clone + 'static,
) -> impl Strategy<Value = Bson> {
    let one = fields(inner).prop_map(Bson::Document).boxed();
    let array = prop::collection::vec(one.clone(), 0..3).prop_map(Bson::Array);
    prop::collection::vec(prop_oneof![2 => array, 1 => one], 1..3).prop_map(Bson::Array)
}

/// A document with its `_id`.
pub(crate) fn document() -> impl Strategy<Value = Document> {
    (oid(), prop::collection::btree_map(names(), value(), 0..4)).prop_map(|(id, fields)| {
        let mut document: Document = fields.into_iter().collect();
        document.insert("_id", id);
        document
    })
}

fn path() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a", "a", "a", "b", "b", "c", "a.b", "a.b", "a.0", "b.a", "b.0", "a.b.c", "a.0.b", "b.1.a",
    ])
    .prop_map(str::to_owned)
}

/// What a filter may ask for: values that stand in the documents, so that they meet, and others.
#[derive(Clone, Debug)]
struct Pool(std::sync::Arc<Vec<Bson>>);

impl Pool {
    fn of(documents: &[Document]) -> Self {
        fn collect(value: &Bson, values: &mut Vec<Bson>) {
            match value {
                Bson::Document(inner) => inner.values().for_each(|value| collect(value, values)),
                Bson::Array(inner) => inner.iter().for_each(|value| collect(value, values)),
                _ => {}
            }
            values.push(value.clone());
        }
        let mut values = vec![Bson::Null];
        for document in documents {
            for (name, value) in document {
                if name != "_id" {
                    collect(value, &mut values);
                }
            }
        }
        Self(std::sync::Arc::new(values))
    }

    fn value(&self) -> BoxedStrategy<Bson> {
        let known = prop::sample::select(self.0.as_ref().clone());
        prop_oneof![3 => known, 1 => value()].boxed()
    }

    fn comparable(&self) -> BoxedStrategy<Bson> {
        let usable = |value: &Bson| {
            !matches!(value, Bson::Null | Bson::Undefined | Bson::RegularExpression(_))
        };
        self.value().prop_filter("null and patterns cannot be compared", usable).boxed()
    }

    fn unequal(&self) -> BoxedStrategy<Bson> {
        let usable = |value: &Bson| !matches!(value, Bson::RegularExpression(_));
        self.value().prop_filter("nothing is unequal to a pattern", usable).boxed()
    }

    fn list(&self) -> BoxedStrategy<Bson> {
        prop::collection::vec(self.value(), 0..4).prop_map(Bson::Array).boxed()
    }
}

fn pattern() -> impl Strategy<Value = Bson> {
    prop::sample::select(vec!["a", "b", ""]).prop_map(|text| Bson::String(text.to_owned()))
}

/// Operators of which all may be asked of one path; none nests.
fn simple_operators(pool: &Pool) -> BoxedStrategy<Document> {
    let operator = prop_oneof![
        pool.value().prop_map(|value| ("$eq", value)),
        pool.unequal().prop_map(|value| ("$ne", value)),
        pool.comparable().prop_map(|value| ("$gt", value)),
        pool.comparable().prop_map(|value| ("$gte", value)),
        pool.comparable().prop_map(|value| ("$lt", value)),
        pool.comparable().prop_map(|value| ("$lte", value)),
        pool.list().prop_map(|list| ("$in", list)),
        pool.list().prop_map(|list| ("$nin", list)),
        pool.list().prop_map(|list| ("$all", list)),
        (0_i32..4).prop_map(|size| ("$size", Bson::Int32(size))),
        any::<bool>().prop_map(|flag| ("$exists", Bson::Boolean(flag))),
        pattern().prop_map(|pattern| ("$regex", pattern)),
        regex().prop_map(|pattern| ("$not", pattern)),
    ];
    let collect = |operators: Vec<(&str, Bson)>| {
        operators.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    prop_oneof![
        2 => operator.clone().prop_map(move |one| collect(vec![one])),
        1 => prop::collection::vec(operator, 2..3).prop_map(collect),
    ]
    .boxed()
}

/// Operators on one path, nested ones among them.
fn operators(pool: &Pool) -> BoxedStrategy<Document> {
    let missing = (names(), pool.value()).prop_map(|(name, other)| {
        doc! {"$elemMatch": {name: {"$in": [Bson::Null, other]}}}
    });
    let missing = missing.boxed();
    simple_operators(pool)
        .prop_recursive(2, 8, 2, move |inner| {
            let joined = (inner.clone(), inner.clone());
            let logical = prop::sample::select(vec!["$and", "$or", "$nor"]);
            let value_form = (logical, joined).prop_map(|(name, (left, right))| {
                doc! {"$elemMatch": {name: [left, right]}}
            });
            // Two conditions on one field of the element, or one on each of two.
            let fields = (names(), inner.clone(), names(), inner.clone());
            let element = fields.prop_map(|(one, first, other, second)| {
                let mut filter = doc! {&one: first.clone()};
                if one == other {
                    filter.insert("$and", vec![doc! {other: second}]);
                } else {
                    filter.insert(other, second);
                }
                doc! {"$elemMatch": filter}
            });
            prop_oneof![
                2 => element,
                // What is missing from an element, which may be an array and have no names.
                2 => missing.clone(),
                2 => inner.clone().prop_map(|operators| doc! {"$not": operators}),
                2 => inner.clone().prop_map(|operators| doc! {"$elemMatch": operators}),
                1 => value_form,
                1 => (names(), inner.clone())
                    .prop_map(|(name, operators)| doc! {"$elemMatch": {name: operators}}),
                1 => inner.prop_map(|operators| doc! {"$all": [{"$elemMatch": operators}]}),
            ]
        })
        .boxed()
}

fn condition(pool: &Pool) -> BoxedStrategy<Document> {
    // Without an operator an empty document is refused.
    let implicit = pool.value().prop_filter(
        "an empty document is refused",
        |value| !matches!(value, Bson::Document(document) if document.is_empty()),
    );
    let id = prop_oneof![
        oid().prop_map(|id| doc! {"_id": id}),
        oid().prop_map(|id| doc! {"_id": id.to_hex()}),
        prop::collection::vec(oid(), 0..3).prop_map(|ids| doc! {"_id": {"$in": ids}}),
        (prop::sample::select(vec!["$gt", "$gte", "$lt", "$lte", "$ne"]), oid())
            .prop_map(|(name, id)| doc! {"_id": {name: id}}),
        small_number().prop_map(|number| doc! {"_id": number}),
    ];
    prop_oneof![
        3 => (path(), implicit).prop_map(|(path, value)| doc! {path: value}),
        8 => (path(), operators(pool)).prop_map(|(path, operators)| doc! {path: operators}),
        1 => id,
    ]
    .boxed()
}

fn filter_on(pool: &Pool) -> BoxedStrategy<Document> {
    let several = prop::collection::vec(condition(pool), 0..3)
        .prop_map(|conditions| conditions.into_iter().flatten().collect::<Document>());
    let conditions = prop_oneof![3 => condition(pool), 1 => several];
    let nested = conditions.clone().prop_recursive(2, 8, 3, |inner| {
        let logical = prop::sample::select(vec!["$and", "$or", "$nor"]);
        prop_oneof![
            (logical, prop::collection::vec(inner.clone(), 0..3), inner.clone()).prop_map(
                |(name, parts, mut rest)| {
                    rest.insert(name, parts);
                    rest
                }
            ),
            inner.prop_map(|filter| doc! {"$not": filter}),
        ]
    });
    prop_oneof![3 => conditions, 1 => nested].boxed()
}

/// Documents, and a filter that asks for values which stand in them.
pub(crate) fn world() -> impl Strategy<Value = (Vec<Document>, Document)> {
    prop::collection::vec(document(), 1..16).prop_flat_map(with_filter)
}

/// A filter that asks for what is in these documents.
pub(crate) fn with_filter(
    documents: Vec<Document>,
) -> impl Strategy<Value = (Vec<Document>, Document)> {
    let filter = filter_on(&Pool::of(&documents));
    (Just(documents), filter)
}

/// A filter on its own.
pub(crate) fn filter() -> impl Strategy<Value = Document> {
    filter_on(&Pool::of(&[]))
}

/// JSON objects as other programs write them.
pub(crate) fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<i32>().prop_map(serde_json::Value::from),
        prop::num::f64::NORMAL.prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
    ];
    let key = any::<String>().prop_filter("not BSON, or a wrapper", |key| {
        !key.contains('\0') && !key.starts_with('$') && key != "_id"
    });
    let value = leaf.prop_recursive(4, 32, 4, {
        let key = key.clone();
        move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::hash_map(key.clone(), inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        }
    });
    prop::collection::hash_map(key, value, 0..5)
        .prop_map(|map| serde_json::Value::Object(map.into_iter().collect()))
}

/// Finite numbers of every type and size, many of them close to each other.
pub(crate) fn number() -> impl Strategy<Value = Bson> {
    let near = prop::sample::select(vec![
        0_i64,
        1,
        1 << 53,
        (1 << 53) + 1,
        i64::MAX,
        i64::MAX - 1,
        i64::MIN,
        1_000_000_000_000_000_000,
    ]);
    prop_oneof![
        any::<i32>().prop_map(Bson::Int32),
        near.clone().prop_map(Bson::Int64),
        any::<i64>().prop_map(Bson::Int64),
        #[allow(clippy::cast_precision_loss, reason = "the nearest double is what is wanted")]
        near.clone().prop_map(|number| Bson::Double(number as f64)),
        (prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO)
            .prop_map(Bson::Double),
        (-1000_i32..1000).prop_map(|tenth| Bson::Double(f64::from(tenth) / 10.0)),
        (-1000_i32..1000).prop_map(|tenth| decimal(&format!("{tenth}E-1"))),
        near.prop_map(|number| decimal(&number.to_string())),
        (any::<i64>(), -340_i32..330)
            .prop_map(|(digits, exponent)| decimal(&format!("{digits}E{exponent}"))),
    ]
}
