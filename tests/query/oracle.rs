//! The naive evaluator: straight from the filter's words, over decoded
//! documents, as slow and as plain as can be.

use std::cmp::Ordering;

use bson::{Bson, Document};

/// How strings are compared: by their bytes, or as English at a strength of 1 to 3.
pub(crate) type By = Option<u8>;

/// Whether the document matches the filter.
pub(crate) fn matches(filter: &Document, document: &Document) -> bool {
    matches_by(filter, document, None)
}

/// The same under a collation.
pub(crate) fn matches_by(filter: &Document, document: &Document, by: By) -> bool {
    Oracle { by }.holds(filter, &Bson::Document(document.clone()), true)
}

/// The order of all values.
pub(crate) fn order(left: &Bson, right: &Bson) -> Ordering {
    order_by(left, right, None)
}

/// What a path leads to, and whether through an array.
type Found = Vec<(Option<Bson>, bool)>;

struct Oracle {
    by: By,
}

impl Oracle {
    fn same(&self, left: &Bson, right: &Bson) -> bool {
        order_by(left, right, self.by).is_eq()
    }

    fn holds(&self, filter: &Document, value: &Bson, top: bool) -> bool {
        filter.iter().all(|(name, wanted)| match name.as_str() {
            "$and" => parts(wanted).iter().all(|part| self.holds(part, value, top)),
            "$or" => parts(wanted).iter().any(|part| self.holds(part, value, top)),
            "$nor" => !parts(wanted).iter().any(|part| self.holds(part, value, top)),
            "$not" => !self.holds(wanted.as_document().unwrap(), value, top),
            path => {
                let id = top && path == "_id";
                let found = lead(value, &path.split('.').collect::<Vec<_>>(), false);
                match wanted {
                    Bson::Document(operators) if is_operators(operators) => {
                        self.all_operators(operators, &found, true, id)
                    }
                    Bson::RegularExpression(_) => self.operator("$regex", wanted, &found, true, id),
                    wanted => self.operator("$eq", wanted, &found, true, id),
                }
            }
        })
    }

    fn all_operators(&self, operators: &Document, found: &Found, inside: bool, id: bool) -> bool {
        operators.iter().all(|(name, wanted)| self.operator(name, wanted, found, inside, id))
    }

    /// `inside`: the elements of an array count as well as the array.
    fn operator(&self, name: &str, wanted: &Bson, found: &Found, inside: bool, id: bool) -> bool {
        let wanted = &as_id(wanted, id);
        let any = |test: &dyn Fn(&Bson) -> bool| {
            found.iter().any(|(value, _)| {
                value.as_ref().is_some_and(|value| test_value(value, inside, test))
            })
        };
        let missing = found.iter().any(|(value, _)| value.is_none());
        let equal =
            |wanted: &Bson| any(&|value| self.same(value, wanted)) || (is_null(wanted) && missing);
        // A list is looked up by the elements of an array, not by the array as a whole.
        let listed = |member: &Bson| {
            if matches!(member, Bson::RegularExpression(_)) {
                return any(&|value| found_in(member, value));
            }
            let same = |value: &Bson| self.same(value, member);
            let here = |value: &Bson| match value {
                Bson::Array(array) if inside => array.iter().any(same),
                value => same(value),
            };
            found.iter().any(|(value, _)| value.as_ref().is_some_and(here))
                || (is_null(member) && missing)
        };
        let compare = |accept: fn(Ordering) -> bool| {
            let end = matches!(wanted, Bson::MinKey | Bson::MaxKey);
            let test = |value: &Bson| {
                if rank(value) != rank(wanted) {
                    return end && accept(rank(value).cmp(&rank(wanted)));
                }
                !matches!(value, Bson::Boolean(_))
                    && is_nan(value) == is_nan(wanted)
                    && accept(order_by(value, wanted, self.by))
            };
            any(&test) || (missing && test(&Bson::Null))
        };
        let all = |operators: &Document| self.all_operators(operators, found, inside, id);
        match name {
            "$eq" => equal(wanted),
            "$ne" => {
                let stranger = match found.as_slice() {
                    [(Some(value), false)] => {
                        !is_null(wanted)
                            && !is_null(value)
                            && !matches!(value, Bson::Array(_))
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
                !members.is_empty() && members.iter().all(|member| self.has_member(member, found))
            }
            "$size" => {
                let size = usize::try_from(wanted.as_i32().unwrap()).unwrap();
                found.iter().any(
                    |(value, _)| matches!(value, Some(Bson::Array(array)) if array.len() == size),
                )
            }
            "$exists" => {
                found.iter().any(|(value, _)| value.is_some()) == wanted.as_bool().unwrap()
            }
            "$regex" => any(&|value| found_in(wanted, value)),
            "$elemMatch" => self.elements(wanted.as_document().unwrap(), found),
            "$not" => match wanted {
                Bson::Document(operators) => !all(operators),
                pattern => !any(&|value| found_in(pattern, value)),
            },
            "$and" => parts(wanted).iter().all(all),
            "$or" => parts(wanted).iter().any(all),
            "$nor" => !parts(wanted).iter().any(all),
            other => panic!("unknown operator {other}"),
        }
    }

    fn has_member(&self, member: &Bson, found: &Found) -> bool {
        if let Bson::Document(document) = member
            && let Some(filter) = document.get("$elemMatch")
        {
            return self.elements(filter.as_document().unwrap(), found);
        }
        let fits = |value: &Bson| match member {
            Bson::RegularExpression(_) => found_in(member, value),
            _ => self.same(value, member),
        };
        found.iter().any(|(value, spread)| match value {
            Some(value @ Bson::Array(_)) => test_value(value, true, &fits),
            Some(value) => *spread && fits(value),
            None => false,
        })
    }

    fn elements(&self, filter: &Document, found: &Found) -> bool {
        let by_value = asks_the_value(filter);
        found.iter().any(|(value, _)| match value {
            Some(Bson::Array(array)) => array.iter().any(|element| {
                if by_value {
                    let found = vec![(Some(element.clone()), false)];
                    self.all_operators(filter, &found, false, false)
                } else {
                    by_name(element)
                        .is_some_and(|fields| self.holds(filter, &Bson::Document(fields), false))
                }
            }),
            _ => false,
        })
    }
}

/// What of an element can be asked by name: an array has positions for names.
fn by_name(element: &Bson) -> Option<Document> {
    match element {
        Bson::Document(document) => Some(document.clone()),
        Bson::Array(array) => {
            let named = |(at, value): (usize, &Bson)| (at.to_string(), value.clone());
            Some(array.iter().enumerate().map(named).collect())
        }
        _ => None,
    }
}

fn parts(list: &Bson) -> Vec<Document> {
    list.as_array().unwrap().iter().map(|part| part.as_document().unwrap().clone()).collect()
}

fn is_operators(document: &Document) -> bool {
    document.keys().next().is_some_and(|key| key.starts_with('$'))
}

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

/// The patterns that are generated are plain text, with `i` or without.
fn found_in(pattern: &Bson, value: &Bson) -> bool {
    let (pattern, options) = match pattern {
        Bson::String(text) => (text.as_str(), ""),
        Bson::RegularExpression(regex) => (regex.pattern.as_str(), regex.options.as_str()),
        other => panic!("no pattern: {other:?}"),
    };
    let Bson::String(text) = value else { return false };
    if options.contains('i') {
        text.to_lowercase().contains(&pattern.to_lowercase())
    } else {
        text.contains(pattern)
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

fn asks_the_value(filter: &Document) -> bool {
    filter.iter().all(|(name, inner)| match name.as_str() {
        "$and" | "$or" | "$nor" => parts(inner).iter().all(asks_the_value),
        name => name.starts_with('$'),
    })
}

/// What is at these paths, where it stands in the document.
pub(crate) fn project(document: &Document, paths: &[Vec<&str>]) -> Document {
    let mut projected = Document::new();
    for (name, value) in document {
        let below: Vec<_> = paths.iter().filter(|path| path[0] == name).collect();
        let rest: Vec<_> = below.iter().map(|path| path[1..].to_vec()).collect();
        if rest.iter().any(Vec::is_empty) {
            projected.insert(name, value.clone());
        } else if !rest.is_empty()
            && let Some(value) = project_value(value, &rest)
        {
            projected.insert(name, value);
        }
    }
    projected
}

fn project_value(value: &Bson, paths: &[Vec<&str>]) -> Option<Bson> {
    match value {
        Bson::Document(inner) => Some(Bson::Document(project(inner, paths))),
        Bson::Array(array) => {
            let inner = array.iter().filter_map(|element| project_value(element, paths));
            Some(Bson::Array(inner.collect()))
        }
        _ => None,
    }
}

/// By what a document is sorted.
pub(crate) fn sort_key(document: &Document, path: &str, up: bool, by: By) -> Bson {
    let steps: Vec<_> = path.split('.').collect();
    let found = lead(&Bson::Document(document.clone()), &steps, false);
    let values = found.into_iter().flat_map(|(value, _)| match value {
        Some(Bson::Array(array)) if !array.is_empty() => array,
        value => vec![value.unwrap_or(Bson::Null)],
    });
    let order = |left: &Bson, right: &Bson| order_by(left, right, by);
    let key = if up { values.min_by(order) } else { values.max_by(order) };
    key.unwrap_or(Bson::Null)
}

fn is_null(value: &Bson) -> bool {
    matches!(value, Bson::Null | Bson::Undefined)
}

/// The place of a type in the order.
fn rank(value: &Bson) -> u8 {
    match value {
        Bson::MinKey => 0,
        Bson::Null | Bson::Undefined => 1,
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => 2,
        Bson::String(_) | Bson::Symbol(_) => 3,
        Bson::Document(_) => 4,
        Bson::Array(_) => 5,
        Bson::Binary(_) => 6,
        Bson::ObjectId(_) => 7,
        Bson::Boolean(_) => 8,
        Bson::DateTime(_) => 9,
        Bson::Timestamp(_) => 10,
        Bson::RegularExpression(_) => 11,
        Bson::DbPointer(_) => 12,
        Bson::JavaScriptCode(_) => 13,
        Bson::JavaScriptCodeWithScope(_) => 14,
        Bson::MaxKey => 15,
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
    rank(value) == 2 && double(value).is_nan()
}

/// The order of all values, strings by a collation.
pub(crate) fn order_by(left: &Bson, right: &Bson, by: By) -> Ordering {
    if rank(left) != rank(right) {
        return rank(left).cmp(&rank(right));
    }
    match (left, right) {
        (
            Bson::Null | Bson::Undefined | Bson::MinKey | Bson::MaxKey,
            Bson::Null | Bson::Undefined | Bson::MinKey | Bson::MaxKey,
        ) => Ordering::Equal,
        (Bson::String(left) | Bson::Symbol(left), Bson::String(right) | Bson::Symbol(right)) => {
            match by {
                None => left.as_bytes().cmp(right.as_bytes()),
                Some(strength) => english(left, right, strength),
            }
        }
        (Bson::JavaScriptCode(left), Bson::JavaScriptCode(right)) => left.cmp(right),
        (Bson::JavaScriptCodeWithScope(left), Bson::JavaScriptCodeWithScope(right)) => {
            left.code.cmp(&right.code).then_with(|| documents(&left.scope, &right.scope, by))
        }
        (Bson::RegularExpression(left), Bson::RegularExpression(right)) => {
            (left.pattern.as_str(), left.options.as_str())
                .cmp(&(right.pattern.as_str(), right.options.as_str()))
        }
        // Namespace and id are not to be had; all namespaces here are of one length.
        (Bson::DbPointer(left), Bson::DbPointer(right)) => {
            format!("{left:?}").cmp(&format!("{right:?}"))
        }
        (Bson::Boolean(left), Bson::Boolean(right)) => left.cmp(right),
        (Bson::ObjectId(left), Bson::ObjectId(right)) => left.to_hex().cmp(&right.to_hex()),
        (Bson::DateTime(left), Bson::DateTime(right)) => left.cmp(right),
        (Bson::Timestamp(left), Bson::Timestamp(right)) => left.cmp(right),
        (Bson::Binary(left), Bson::Binary(right)) => {
            // The old subtype has its length in front, which counts.
            let old =
                |binary: &bson::Binary| binary.subtype == bson::spec::BinarySubtype::BinaryOld;
            let key = |binary: &bson::Binary| {
                let length = binary.bytes.len() + if old(binary) { 4 } else { 0 };
                (length, u8::from(binary.subtype), binary.bytes.clone())
            };
            key(left).cmp(&key(right))
        }
        (Bson::Array(left), Bson::Array(right)) => {
            let pairs = left.iter().zip(right).map(|(left, right)| order_by(left, right, by));
            pairs
                .chain([left.len().cmp(&right.len())])
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        }
        (Bson::Document(left), Bson::Document(right)) => documents(left, right, by),
        _ => {
            let (left, right) = (double(left), double(right));
            left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
        }
    }
}

fn documents(left: &Document, right: &Document, by: By) -> Ordering {
    let pairs = left.iter().zip(right).map(|((left_name, left), (right_name, right))| {
        rank(left)
            .cmp(&rank(right))
            .then_with(|| left_name.cmp(right_name))
            .then_with(|| order_by(left, right, by))
    });
    pairs
        .chain([left.len().cmp(&right.len())])
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// The characters that are generated, in the order of English: what each is
/// first of all, then its accent, then its case.
fn weights(character: char) -> [u32; 3] {
    match character {
        '\n' => [1, 0, 0],
        '"' => [2, 0, 0],
        '\\' => [3, 0, 0],
        'é' => [u32::from('e'), 1, 0],
        '0'..='9' | 'a'..='z' => [u32::from(character), 0, 0],
        'A'..='Z' => [u32::from(character.to_ascii_lowercase()), 0, 1],
        other => panic!("not generated: {other:?}"),
    }
}

fn english(left: &str, right: &str, strength: u8) -> Ordering {
    let level = |text: &str, level: usize| {
        text.chars().map(|character| weights(character)[level]).collect::<Vec<_>>()
    };
    (0..usize::from(strength))
        .map(|at| level(left, at).cmp(&level(right, at)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
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
