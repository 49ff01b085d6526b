//! `$push`, `$addToSet`, `$pull`.

use std::borrow::Cow;

use bytes::Bytes;

use super::operand::{Operand, type_name};
use super::tree::Leaf;
use crate::document::Builder;
use crate::error::{Error, Result};
use crate::query::{Direction, Sort};
use crate::value::{Collator, Field, Path, Raw, Value, compare_with};

/// What is pushed, where, and what becomes of the array.
#[derive(Debug)]
pub(super) struct Push {
    each: Vec<Operand>,
    /// From the end when negative; at the end when there is none.
    position: Option<i64>,
    /// How many stay: the first, or the last when negative.
    slice: Option<i64>,
    sort: Option<Order>,
}

/// `$sort`.
#[derive(Debug)]
enum Order {
    Value(Direction),
    Fields(Vec<Sort>),
}

/// What is pulled out: elements that this condition of the update accepts.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) condition: usize,
}

impl Push {
    /// Reads the operand of `$push`: a value, or `$each` with modifiers.
    pub(super) fn parse(whole: &Bytes, path: &str, field: &Field<'_>) -> Result<Self> {
        let error = |what: String| Error::syntax(format!("$push '{path}': {what}"));
        let mut push = Self { each: Vec::new(), position: None, slice: None, sort: None };
        let Some(raw) = modifiers(field) else {
            push.each.push(Operand::of(whole, field));
            return Ok(push);
        };
        let mut has_each = false;
        for field in raw {
            match field.key {
                b"$each" => {
                    has_each = true;
                    push.each = each(whole, &field)
                        .ok_or_else(|| error("$each expects an array".to_owned()))?;
                }
                b"$position" => push.position = Some(integer("$position", &field).map_err(error)?),
                b"$slice" => push.slice = Some(integer("$slice", &field).map_err(error)?),
                b"$sort" => push.sort = Some(Order::parse(&field).map_err(error)?),
                other => {
                    let other = String::from_utf8_lossy(other);
                    return Err(error(format!("unknown modifier '{other}'")));
                }
            }
        }
        if has_each { Ok(push) } else { Err(error("its modifiers need $each".to_owned())) }
    }

    /// About how many bytes it holds.
    pub(super) fn weight(&self) -> usize {
        let fields = if let Some(Order::Fields(sorts)) = &self.sort { &sorts[..] } else { &[] };
        let fields = fields.iter().map(|sort| size_of_val(sort) + 4 * sort.path.text().len());
        let each = self.each.iter().map(|operand| size_of_val(operand) + operand.bytes.len());
        each.chain(fields).sum()
    }

    /// Writes the array as it is afterwards.
    pub(super) fn write(&self, array: Raw<'_>, collator: Option<&Collator>, out: &mut Builder) {
        let mut elements: Vec<(u8, &[u8])> =
            array.iter().map(|field| (field.tag, field.bytes)).collect();
        let at = match self.position {
            None => elements.len(),
            Some(position) => place(position, elements.len()),
        };
        let pushed = self.each.iter().map(|operand| (operand.tag, &operand.bytes[..]));
        elements.splice(at..at, pushed);
        if let Some(order) = &self.sort {
            order.sort(&mut elements, collator);
        }
        let kept = match self.slice {
            None => &elements[..],
            Some(slice) if slice < 0 => {
                elements.get(place(slice, elements.len())..).unwrap_or_default()
            }
            Some(slice) => {
                let end = usize::try_from(slice).unwrap_or(usize::MAX).min(elements.len());
                elements.get(..end).unwrap_or_default()
            }
        };
        for (tag, bytes) in kept {
            out.push_value(*tag, bytes);
        }
    }
}

/// A place in an array of this length, counted from its end when negative.
fn place(position: i64, length: usize) -> usize {
    let distance = usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX);
    if position < 0 { length.saturating_sub(distance) } else { distance.min(length) }
}

/// The modifiers of a `$push` or an `$addToSet`, if the operand has them rather than being the value.
fn modifiers<'a>(field: &Field<'a>) -> Option<Raw<'a>> {
    match field.value() {
        Value::Document(raw) => {
            let first = raw.iter().next()?;
            let is_modifier = first.key.starts_with(b"$") && first.key != b"$ref";
            (is_modifier || raw.get(b"$each").is_some()).then_some(raw)
        }
        _ => None,
    }
}

fn each(whole: &Bytes, field: &Field<'_>) -> Option<Vec<Operand>> {
    match field.value() {
        Value::Array(array) => Some(array.iter().map(|field| Operand::of(whole, &field)).collect()),
        _ => None,
    }
}

/// Reads the operand of `$addToSet`: a value, or `$each`.
pub(super) fn parse_set(whole: &Bytes, path: &str, field: &Field<'_>) -> Result<Vec<Operand>> {
    let Some(raw) = modifiers(field) else { return Ok(vec![Operand::of(whole, field)]) };
    let mut fields = raw.iter();
    let values = match (fields.next(), fields.next()) {
        (Some(field), None) if field.key == b"$each" => each(whole, &field),
        _ => None,
    };
    values.ok_or_else(|| {
        Error::syntax(format!("$addToSet '{path}' expects a value, or $each with an array"))
    })
}

/// Writes an array and what of the operands it does not have.
pub(super) fn add_to_set(
    array: Raw<'_>,
    operands: &[Operand],
    collator: Option<&Collator>,
    out: &mut Builder,
) {
    for field in array {
        out.push(&field);
    }
    // By sorting, so that many operands and a long array do not take their product in time.
    let compare = |left: &Value<'_>, right: &Value<'_>| compare_with(left, right, collator);
    let mut known: Vec<Value<'_>> = array.values().collect();
    known.sort_by(compare);
    let mut new: Vec<(Value<'_>, usize)> =
        operands.iter().enumerate().map(|(at, operand)| (operand.value(), at)).collect();
    new.retain(|(value, _)| known.binary_search_by(|other| compare(other, value)).is_err());
    // The sort is stable: of equal ones the first stays.
    new.sort_by(|(left, _), (right, _)| compare(left, right));
    new.dedup_by(|(later, _), (first, _)| compare(later, first).is_eq());
    new.sort_by_key(|(_, at)| *at);
    for operand in new.iter().filter_map(|(_, at)| operands.get(*at)) {
        out.push_value(operand.tag, &operand.bytes);
    }
}

/// The array that an operator on arrays is applied to; none there is an empty one.
pub(super) fn expect_array<'a>(leaf: &Leaf, there: Option<Field<'a>>) -> Result<Raw<'a>> {
    match there.map(|field| (field.tag, field.value())) {
        None => Ok(Raw::EMPTY),
        Some((_, Value::Array(array))) => Ok(array),
        Some((tag, _)) => {
            Err(leaf.error(format!("it holds no array, but a value of type {}", type_name(tag))))
        }
    }
}

/// Fields by which `$push` sorts: each costs a look-up in both elements of a comparison.
const SORT_FIELDS_MAX: usize = 32;

impl Order {
    fn parse(field: &Field<'_>) -> std::result::Result<Self, String> {
        let direction = |field: &Field<'_>| match integer("$sort", field) {
            Ok(1) => Ok(Direction::Ascending),
            Ok(-1) => Ok(Direction::Descending),
            _ => Err("$sort expects 1 or -1".to_owned()),
        };
        match field.value() {
            Value::Document(raw) if raw.iter().nth(SORT_FIELDS_MAX).is_some() => {
                Err(format!("$sort takes at most {SORT_FIELDS_MAX} fields"))
            }
            Value::Document(raw) if !raw.is_empty() => {
                let sort = |field: Field<'_>| {
                    let path = Path::new(&String::from_utf8_lossy(field.key));
                    Ok(Sort { path, direction: direction(&field)?, collator: None })
                };
                Ok(Self::Fields(raw.iter().map(sort).collect::<std::result::Result<_, String>>()?))
            }
            _ => Ok(Self::Value(direction(field)?)),
        }
    }

    fn sort(&self, elements: &mut [(u8, &[u8])], collator: Option<&Collator>) {
        fn value<'a>((tag, bytes): &(u8, &'a [u8])) -> Value<'a> {
            crate::value::raw::decode(*tag, bytes).unwrap_or(Value::Undefined)
        }
        match self {
            Self::Value(direction) => elements.sort_by(|left, right| {
                direction.apply(compare_with(&value(left), &value(right), collator))
            }),
            Self::Fields(sorts) => {
                let sorts: Cow<'_, [Sort]> = match collator {
                    None => Cow::Borrowed(sorts),
                    Some(collator) => {
                        sorts.iter().map(|sort| sort.clone().collated(collator)).collect()
                    }
                };
                elements.sort_by(|left, right| {
                    let document = |element| match value(element) {
                        Value::Document(raw) => raw,
                        _ => Raw::EMPTY,
                    };
                    let (left, right) = (document(left), document(right));
                    let order = |sort: &Sort| sort.compare(&sort.key(left), &sort.key(right));
                    sorts
                        .iter()
                        .map(order)
                        .find(|order| order.is_ne())
                        .unwrap_or(std::cmp::Ordering::Equal)
                });
            }
        }
    }
}

/// A whole number, of whatever numeric type.
fn integer(name: &str, field: &Field<'_>) -> std::result::Result<i64, String> {
    match field.value() {
        Value::Int32(number) => Ok(i64::from(number)),
        Value::Int64(number) => Ok(number),
        #[allow(clippy::cast_possible_truncation, reason = "a whole number within 53 bits")]
        Value::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => Ok(number as i64),
        _ => Err(format!("{name} expects an integer, not {}", type_name(field.tag))),
    }
}
