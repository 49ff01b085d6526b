//! The naive evaluator: straight from the filter's words, over decoded
//! documents, as slow and as plain as can be.

use std::cmp::Ordering;

use bson::{Bson, Document};

/// Whether the document matches the filter.
pub(crate) fn matches(filter: &Document, document: &Document) -> bool {
    holds(filter, &Bson::Document(document.clone()), true)
}

fn holds(filter: &Document, value: &Bson, top: bool) -> bool {
    filter.iter().all(|(name, wanted)| match name.as_str() {
        "$and" => parts(wanted).iter().all(|part| holds(part, value, top)),
        "$or" => parts(wanted).iter().any(|part| holds(part, value, top)),
        "$nor" => !parts(wanted).iter().any(|part| holds(part, value, top)),
        "$not" => !holds(wanted.as_document().unwrap(), value, top),
        path => {
            let id = top && path == "_id";
            let found = lead(value, &path.split('.').collect::<Vec<_>>(), false);
            match wanted {
                Bson::Document(operators) if is_operators(operators) => {
                    all_operators(operators, &found, true, id)
                }
                wanted => operator("$eq", wanted, &found, true, id),
            }
        }
    })
}

fn parts(list: &Bson) -> Vec<Document> {
    list.as_array().unwrap().iter().map(|part| part.as_document().unwrap().clone()).collect()
}

fn is_operators(document: &Document) -> bool {
    document.keys().next().is_some_and(|key| key.starts_with('$'))
}

/// What a path leads to, and whether through an array.
type Found = Vec<(Option<Bson>, bool)>;

fn lead(value: &Bson, steps: &[&str], spread: bool) -> Found {
    let [step, rest @ ..] = steps else { return vec![(Some(value.clone()), spread)] };
    match value {
        Bson::Document(document) => match document.get(step) {
            Some(inner) => lead(inner, rest, spread),
            None => vec![(None, spread)],
        },
        Bson::Array(array) => match step.parse::<usize>() {
            Ok(index) => match array.get(index) {
                Some(inner) => lead(inner, rest, spread),
                None => vec![(None, spread)],
            },
            Err(_) => array
                .iter()
                .filter(|element| matches!(element, Bson::Document(_)))
                .flat_map(|element| lead(element, steps, true))
                .collect(),
        },
        _ => vec![(None, spread)],
    }
}

fn all_operators(operators: &Document, found: &Found, inside: bool, id: bool) -> bool {
    operators.iter().all(|(name, wanted)| operator(name, wanted, found, inside, id))
}

/// `inside`: the elements of an array count as well as the array.
fn operator(name: &str, wanted: &Bson, found: &Found, inside: bool, id: bool) -> bool {
    let wanted = &as_id(wanted, id);
    let any = |test: &dyn Fn(&Bson) -> bool| {
        found
            .iter()
            .any(|(value, _)| value.as_ref().is_some_and(|value| test_value(value, inside, test)))
    };
    let missing = found.iter().any(|(value, _)| value.is_none());
    let equal = |wanted: &Bson| {
        any(&|value| order(value, wanted).is_eq()) || (*wanted == Bson::Null && missing)
    };
    // A list is looked up by the elements of an array, not by the array as a whole.
    let listed = |member: &Bson| {
        let same = |value: &Bson| order(value, member).is_eq();
        let here = |value: &Bson| match value {
            Bson::Array(array) if inside => array.iter().any(same),
            value => same(value),
        };
        found.iter().any(|(value, _)| value.as_ref().is_some_and(here))
            || (*member == Bson::Null && missing)
    };
    let compare = |accept: fn(Ordering) -> bool| {
        any(&|value| {
            rank(value) == rank(wanted)
                && !matches!(value, Bson::Boolean(_))
                && is_nan(value) == is_nan(wanted)
                && accept(order(value, wanted))
        })
    };
    match name {
        "$eq" => equal(wanted),
        "$ne" => {
            let stranger = match found.as_slice() {
                [(Some(value), false)] => {
                    *wanted != Bson::Null
                        && !matches!(value, Bson::Null | Bson::Array(_))
                        && rank(value) != rank(wanted)
                }
                _ => false,
            };
            !equal(wanted) && !stranger
        }
        "$gt" => compare(Ordering::is_gt),
        "$gte" => compare(Ordering::is_ge),
        "$lt" => compare(Ordering::is_lt),
        "$lte" => compare(Ordering::is_le),
        "$in" => list(wanted).iter().any(|member| listed(&as_id(member, id))),
        "$nin" => !list(wanted).iter().any(|member| listed(&as_id(member, id))),
        "$all" => {
            let members = list(wanted);
            !members.is_empty() && members.iter().all(|member| has_member(member, found))
        }
        "$size" => {
            let size = usize::try_from(wanted.as_i32().unwrap()).unwrap();
            found
                .iter()
                .any(|(value, _)| matches!(value, Some(Bson::Array(array)) if array.len() == size))
        }
        "$exists" => found.iter().any(|(value, _)| value.is_some()) == wanted.as_bool().unwrap(),
        "$regex" => {
            let text = wanted.as_str().unwrap();
            any(&|value| matches!(value, Bson::String(string) if string.contains(text)))
        }
        "$elemMatch" => elements(wanted.as_document().unwrap(), found),
        "$not" => !all_operators(wanted.as_document().unwrap(), found, inside, id),
        "$and" => parts(wanted).iter().all(|part| all_operators(part, found, inside, id)),
        "$or" => parts(wanted).iter().any(|part| all_operators(part, found, inside, id)),
        "$nor" => !parts(wanted).iter().any(|part| all_operators(part, found, inside, id)),
        other => panic!("unknown operator {other}"),
    }
}

fn as_id(wanted: &Bson, id: bool) -> Bson {
    match wanted {
        Bson::String(text) if id => {
            bson::oid::ObjectId::parse_str(text).map_or_else(|_| wanted.clone(), Bson::ObjectId)
        }
        _ => wanted.clone(),
    }
}

fn test_value(value: &Bson, inside: bool, test: &dyn Fn(&Bson) -> bool) -> bool {
    test(value) || matches!(value, Bson::Array(array) if inside && array.iter().any(test))
}

fn list(wanted: &Bson) -> Vec<Bson> {
    wanted.as_array().unwrap().clone()
}

fn has_member(member: &Bson, found: &Found) -> bool {
    if let Bson::Document(document) = member
        && let Some(filter) = document.get("$elemMatch")
    {
        return elements(filter.as_document().unwrap(), found);
    }
    found.iter().any(|(value, spread)| match value {
        Some(value @ Bson::Array(_)) => {
            test_value(value, true, &|value| order(value, member).is_eq())
        }
        Some(value) => *spread && order(value, member).is_eq(),
        None => false,
    })
}

fn elements(filter: &Document, found: &Found) -> bool {
    let by_value = asks_the_value(filter);
    found.iter().any(|(value, _)| match value {
        Some(Bson::Array(array)) => array.iter().any(|element| {
            if by_value {
                all_operators(filter, &vec![(Some(element.clone()), false)], false, false)
            } else {
                matches!(element, Bson::Document(_) | Bson::Array(_))
                    && holds(filter, element, true)
            }
        }),
        _ => false,
    })
}

fn asks_the_value(filter: &Document) -> bool {
    filter.iter().all(|(name, inner)| match name.as_str() {
        "$and" | "$or" | "$nor" => parts(inner).iter().all(asks_the_value),
        name => name.starts_with('$'),
    })
}

/// By what a document is sorted.
pub(crate) fn sort_key(document: &Document, path: &str, up: bool) -> Bson {
    let steps: Vec<_> = path.split('.').collect();
    let found = lead(&Bson::Document(document.clone()), &steps, false);
    let values = found.into_iter().flat_map(|(value, _)| match value {
        Some(Bson::Array(array)) if !array.is_empty() => array,
        value => vec![value.unwrap_or(Bson::Null)],
    });
    let key = if up { values.min_by(order) } else { values.max_by(order) };
    key.unwrap_or(Bson::Null)
}

/// The place of a type in the order.
fn rank(value: &Bson) -> u8 {
    match value {
        Bson::Null => 0,
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => 1,
        Bson::String(_) => 2,
        Bson::Document(_) => 3,
        Bson::Array(_) => 4,
        Bson::Binary(_) => 5,
        Bson::ObjectId(_) => 6,
        Bson::Boolean(_) => 7,
        Bson::DateTime(_) => 8,
        Bson::Timestamp(_) => 9,
        other => panic!("not generated: {other:?}"),
    }
}

/// All numbers that are generated here are exact as doubles.
fn double(value: &Bson) -> f64 {
    match value {
        Bson::Int32(number) => f64::from(*number),
        #[allow(clippy::cast_precision_loss, reason = "small")]
        Bson::Int64(number) => *number as f64,
        Bson::Double(number) => *number,
        Bson::Decimal128(number) => number.to_string().parse().unwrap(),
        other => panic!("not a number: {other:?}"),
    }
}

fn is_nan(value: &Bson) -> bool {
    rank(value) == 1 && double(value).is_nan()
}

/// The order of all values.
pub(crate) fn order(left: &Bson, right: &Bson) -> Ordering {
    if rank(left) != rank(right) {
        return rank(left).cmp(&rank(right));
    }
    match (left, right) {
        (Bson::Null, Bson::Null) => Ordering::Equal,
        (Bson::String(left), Bson::String(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Bson::Boolean(left), Bson::Boolean(right)) => left.cmp(right),
        (Bson::ObjectId(left), Bson::ObjectId(right)) => left.to_hex().cmp(&right.to_hex()),
        (Bson::DateTime(left), Bson::DateTime(right)) => left.cmp(right),
        (Bson::Timestamp(left), Bson::Timestamp(right)) => left.cmp(right),
        (Bson::Binary(left), Bson::Binary(right)) => {
            left.bytes.len().cmp(&right.bytes.len()).then_with(|| left.bytes.cmp(&right.bytes))
        }
        (Bson::Array(left), Bson::Array(right)) => {
            let pairs = left.iter().zip(right).map(|(left, right)| order(left, right));
            pairs
                .chain([left.len().cmp(&right.len())])
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        }
        (Bson::Document(left), Bson::Document(right)) => {
            let pairs = left.iter().zip(right).map(|((left_name, left), (right_name, right))| {
                rank(left)
                    .cmp(&rank(right))
                    .then_with(|| left_name.cmp(right_name))
                    .then_with(|| order(left, right))
            });
            pairs
                .chain([left.len().cmp(&right.len())])
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        }
        _ => {
            let (left, right) = (double(left), double(right));
            left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
        }
    }
}

/// The order of two finite numbers, by their decimal digits written out in full.
pub(crate) fn order_of_fractions(left: &Bson, right: &Bson) -> Ordering {
    let (left_negative, left_whole, left_fraction) = written_out(left);
    let (right_negative, right_whole, right_fraction) = written_out(right);
    let zero = |whole: &str, fraction: &str| whole.is_empty() && fraction.is_empty();
    let left_sign = sign(left_negative, zero(&left_whole, &left_fraction));
    let right_sign = sign(right_negative, zero(&right_whole, &right_fraction));
    if left_sign != right_sign {
        return left_sign.cmp(&right_sign);
    }
    let size = left_whole
        .len()
        .cmp(&right_whole.len())
        .then_with(|| left_whole.cmp(&right_whole))
        .then_with(|| left_fraction.cmp(&right_fraction));
    if left_sign < 0 { size.reverse() } else { size }
}

fn sign(negative: bool, zero: bool) -> i8 {
    match (zero, negative) {
        (true, _) => 0,
        (false, true) => -1,
        (false, false) => 1,
    }
}

/// Sign, digits before and behind the point, without zeros that say nothing.
fn written_out(value: &Bson) -> (bool, String, String) {
    let text = match value {
        Bson::Int32(number) => number.to_string(),
        Bson::Int64(number) => number.to_string(),
        // With this precision a double is written exactly.
        Bson::Double(number) => format!("{number:.1100}"),
        Bson::Decimal128(number) => number.to_string(),
        other => panic!("not a number: {other:?}"),
    };
    let (negative, text) =
        text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
    let (digits, exponent) = text.split_once('E').unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().unwrap();
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
    for _ in 0..exponent.max(0) {
        whole.push(if fraction.is_empty() { '0' } else { fraction.remove(0) });
    }
    for _ in 0..(-exponent).max(0) {
        fraction.insert(0, whole.pop().unwrap_or('0'));
    }
    (negative, whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned())
}
