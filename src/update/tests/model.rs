//! Updates against a plain model on decoded documents.

use bson::{Bson, Document as Decoded};
use proptest::prelude::*;

use std::result::Result;

use super::*;

/// A change of the model: operator, path, operand.
type Step = (&'static str, Vec<&'static str>, i32);

/// Where a path leads, made where it is missing; `None` when something is in the way.
fn place<'a>(
    mut there: &'a mut Bson,
    path: &[&str],
    make: bool,
) -> Result<Option<&'a mut Bson>, ()> {
    for (at, name) in path.iter().enumerate() {
        let last = at + 1 == path.len();
        let missing = if last { Bson::Undefined } else { Bson::Document(Decoded::new()) };
        there = match there {
            Bson::Document(document) => {
                if !document.contains_key(name) {
                    if !make {
                        return Ok(None);
                    }
                    document.insert((*name).to_owned(), missing);
                }
                document.get_mut(name).unwrap()
            }
            Bson::Array(array) => match name.parse::<usize>() {
                Ok(index) if index < array.len() => &mut array[index],
                Ok(index) if make => {
                    array.resize(index, Bson::Null);
                    array.push(missing);
                    &mut array[index]
                }
                Err(_) if make => return Err(()),
                _ => return Ok(None),
            },
            _ if make => return Err(()),
            _ => return Ok(None),
        };
    }
    Ok(Some(there))
}

/// `Err`: the operator does not fit what is there.
#[allow(clippy::match_same_arms, reason = "one arm for each operator and kind of value")]
fn step(document: &mut Bson, (operator, path, operand): &Step) -> Result<(), ()> {
    let value = Bson::Int32(*operand);
    if *operator == "$unset" {
        let (last, above) = path.split_last().unwrap();
        match place(document, above, false)? {
            Some(Bson::Document(document)) => {
                document.remove(last);
            }
            Some(Bson::Array(array)) => {
                if let Ok(index) = last.parse::<usize>()
                    && index < array.len()
                {
                    array.remove(index);
                }
            }
            _ => {}
        }
        return Ok(());
    }
    let Some(there) = place(document, path, *operator != "$pull")? else { return Ok(()) };
    *there = match (*operator, std::mem::replace(there, Bson::Undefined)) {
        ("$set", _) => value,
        ("$inc" | "$min" | "$max", Bson::Undefined) => value,
        ("$mul", Bson::Undefined) => Bson::Int32(0),
        ("$inc", Bson::Int32(number)) => Bson::Int32(number + operand),
        ("$mul", Bson::Int32(number)) => Bson::Int32(number * operand),
        ("$inc" | "$mul", _) => return Err(()),
        ("$min", Bson::Int32(number)) => Bson::Int32(number.min(*operand)),
        ("$max", Bson::Int32(number)) => Bson::Int32(number.max(*operand)),
        ("$min", Bson::Null) => Bson::Null,
        ("$max", Bson::Null) => value,
        // Numbers come in front of documents and arrays.
        ("$min", _) => value,
        ("$max", other) => other,
        ("$push", Bson::Undefined) => Bson::Array(vec![value]),
        ("$addToSet", Bson::Undefined) => Bson::Array(vec![value]),
        ("$push", Bson::Array(mut array)) => {
            array.push(value);
            Bson::Array(array)
        }
        ("$addToSet", Bson::Array(mut array)) => {
            if !array.contains(&value) {
                array.push(value);
            }
            Bson::Array(array)
        }
        ("$pull", Bson::Array(mut array)) => {
            array.retain(|element| *element != value);
            Bson::Array(array)
        }
        _ => return Err(()),
    };
    Ok(())
}

fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![(-3..4).prop_map(Bson::Int32), Just(Bson::Null),];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Bson::Array),
            fields(inner).prop_map(Bson::Document),
        ]
    })
}

fn fields(inner: impl Strategy<Value = Bson>) -> impl Strategy<Value = Decoded> {
    let name = prop::sample::select(vec!["a", "b", "0", "1"]);
    prop::collection::vec((name, inner), 0..4).prop_map(|fields| {
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let operator = prop::sample::select(vec![
        "$set",
        "$unset",
        "$inc",
        "$mul",
        "$min",
        "$max",
        "$push",
        "$pull",
        "$addToSet",
    ]);
    let name = prop::sample::select(vec!["a", "b", "0", "1"]);
    let step = (operator, prop::collection::vec(name, 1..4), -3..4);
    prop::collection::vec(step, 1..3)
}

/// Whether one path leads to, or through, the place of another.
fn collide(steps: &[Step]) -> bool {
    steps.iter().enumerate().any(|(at, (_, path, _))| {
        let mut others = steps.iter().take(at);
        others.any(|(_, other, _)| path.starts_with(other) || other.starts_with(path))
    })
}

proptest! {
    #[test]
    fn an_update_makes_what_the_model_makes(document in fields(value()), steps in steps()) {
        let mut text = Decoded::new();
        for (operator, path, operand) in &steps {
            let all = text.entry((*operator).to_owned()).or_insert_with(|| Bson::Document(Decoded::new()));
            all.as_document_mut().unwrap().insert(path.join("."), *operand);
        }
        let raw = bson::serialize_to_vec(&text).unwrap();
        let update = Update::parse(&raw.into(), &Limits::default(), 1 << 20);
        if collide(&steps) {
            // The same operator twice on one path is one field, so no conflict.
            let count: usize = text.values().map(|all| all.as_document().unwrap().len()).sum();
            prop_assert!(update.is_err() || count < steps.len());
            return Ok(());
        }
        // In an array taking out an element moves the others: the model knows no two steps at once.
        let unsets = steps.iter().filter(|(operator, ..)| *operator == "$unset").count();
        prop_assume!(unsets == 0 || steps.len() == 1);
        let update = update.unwrap();
        let before = bson::serialize_to_vec(&document).unwrap();
        let before = Document::from_bson(before.into(), DocumentLimits::default()).unwrap();
        let mut expected = Bson::Document(document);
        let refused = steps.iter().any(|change| step(&mut expected, change).is_err());
        match update.within(None).apply(&Ast::All, &before) {
            Err(_) => prop_assert!(refused),
            Ok(after) => {
                prop_assert!(!refused);
                let after = after.unwrap_or(before);
                let after = Bson::Document(bson::deserialize_from_slice(after.bytes()).unwrap());
                prop_assert!(same(&after, &expected), "{} {}", after, expected);
            }
        }
    }
}

/// Equal but for the order of fields, in which the model makes new ones as steps come.
fn same(left: &Bson, right: &Bson) -> bool {
    match (left, right) {
        (Bson::Document(left), Bson::Document(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, value)| right.get(name).is_some_and(|other| same(value, other)))
        }
        (Bson::Array(left), Bson::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        _ => left == right,
    }
}
