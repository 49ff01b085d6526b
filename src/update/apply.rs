//! Applying an update: one pass over the bytes of a document.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::arithmetic::{Calculation, Failure, calculate, nought};
use super::array::{add_to_set, expect_array};
use super::operand::{Operand, type_name};
use super::tree::{Child, Leaf, Node, Operation, conflict};
use super::{Collated, FILLED_MAX, Update};
use crate::document::{Builder, Document, InputError};
use crate::error::{Error, Result};
use crate::query::{self, Ast};
use crate::value::{Field, Path, Raw, Steps, Value, compare_with, raw, raw::tag};

pub(super) fn expect_filter(update: &Update, filter: &Ast) -> Result<()> {
    match update.first.iter().find(|array| !speaks_of(filter, array)) {
        None => Ok(()),
        Some(array) => Err(Error::syntax(format!(
            "Positional operator $ requires array field '{}' in query",
            array.text()
        ))),
    }
}

fn speaks_of(filter: &Ast, array: &Path) -> bool {
    match filter {
        Ast::And(parts) | Ast::Or(parts) => parts.iter().any(|part| speaks_of(part, array)),
        Ast::Field { path, .. } => path.segments().starts_with(array.segments()),
        Ast::All | Ast::Nothing | Ast::Not(_) => false,
    }
}

pub(super) fn apply(
    collated: &Collated<'_>,
    filter: &Ast,
    document: &Document,
) -> Result<Option<Document>> {
    let (raw, update) = (document.raw(), collated.update);
    let steps = Steps::new(STEPS_MAX);
    let first = update.first.iter();
    let first = first.map(|array| query::first_element(filter, raw, array, &steps)).collect();
    let changed = walk(collated, &update.root, first, raw, steps)?;
    Ok((changed.bytes() != document.bytes()).then_some(changed))
}

/// Applies a tree of paths to a document.
pub(super) fn apply_tree(
    collated: &Collated<'_>,
    root: &Node,
    first: Vec<Option<usize>>,
    raw: Raw<'_>,
) -> Result<Document> {
    walk(collated, root, first, raw, Steps::new(STEPS_MAX))
}

/// [`apply_tree`] within what is left of the steps.
fn walk(
    collated: &Collated<'_>,
    root: &Node,
    first: Vec<Option<usize>>,
    raw: Raw<'_>,
    steps: Steps,
) -> Result<Document> {
    let update = collated.update;
    let mut sources = Vec::with_capacity(update.sources.len());
    for source in &update.sources {
        sources.push(rename_source(source, raw)?);
    }
    let pass = Pass { collated, first, sources, steps };
    let mut out = Builder::new();
    pass.document(&[root], raw, &mut out)?;
    pass.spend(0)?;
    let changed = out.finish();
    let limits = update.limits;
    let size = changed.bytes().len();
    let refused = |error: InputError| Error::syntax(format!("the updated document: {error}"));
    if size > limits.bytes_max {
        return Err(refused(InputError::TooLarge { size, limit: limits.bytes_max }));
    }
    // Of lengths and names it is valid by the way it was made; what was put deeper may be too deep.
    raw::validate(changed.bytes(), limits.depth_max)
        .map_err(|raw::Malformed { what, at }| refused(InputError::Bson { what, at }))?;
    Ok(changed)
}

/// The value that a `$rename` moves, if it is there.
fn rename_source(path: &Path, document: Raw<'_>) -> Result<Option<Operand>> {
    let mut value = Value::Document(document);
    for segment in path.segments() {
        value = match value {
            Value::Document(raw) => match raw.get(segment.name.as_bytes()) {
                Some(field) => field.value(),
                None => return Ok(None),
            },
            Value::Array(_) => {
                return Err(Error::syntax(format!(
                    "$rename '{}' leads into an array",
                    path.text()
                )));
            }
            _ => return Ok(None),
        };
    }
    Ok(Some(Operand::copy(&value)))
}

/// One application of an update.
struct Pass<'a> {
    collated: &'a Collated<'a>,
    /// Which element each `$` means in this document.
    first: Vec<Option<usize>>,
    /// What each `$rename` moves.
    sources: Vec<Option<Operand>>,
    /// Paths looked at, times the elements and fields that they meet, and what conditions pass in them.
    steps: Steps,
}

/// Steps that one update may take in one document, a second or so: many paths, or
/// conditions, and many elements multiply.
const STEPS_MAX: u64 = 20_000_000;

/// How an element was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// By `$`.
    First,
    Otherwise,
}

/// Where a value is written.
#[derive(Clone, Copy)]
enum Place<'a> {
    Field(&'a [u8]),
    Element,
}

impl Place<'_> {
    fn value(self, out: &mut Builder, tag: u8, bytes: &[u8]) {
        match self {
            Self::Field(key) => out.value(key, tag, bytes),
            Self::Element => out.push_value(tag, bytes),
        }
    }

    fn nested(
        self,
        out: &mut Builder,
        tag: u8,
        fill: impl FnOnce(&mut Builder) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Field(key) => out.try_nested(key, tag, fill),
            Self::Element => out.try_push_nested(tag, fill),
        }
    }
}

impl Pass<'_> {
    /// The order of an operand and what is there.
    fn compare(&self, operand: &Operand, there: &Field<'_>) -> Ordering {
        compare_with(&operand.value(), &there.value(), self.collated.collator)
    }

    /// Nothing grows beyond the limit by more than what one operator adds.
    fn expect_room(&self, out: &Builder) -> Result<()> {
        let limit = self.collated.update.limits.bytes_max;
        if out.len() <= limit {
            return Ok(());
        }
        Err(Error::syntax(format!("the updated document exceeds the limit of {limit} bytes")))
    }

    fn spend(&self, steps: usize) -> Result<()> {
        self.steps.take(u64::try_from(steps).unwrap_or(u64::MAX));
        if !self.steps.are_over() {
            return Ok(());
        }
        Err(Error::Syntax(format!(
            "the update takes more than {STEPS_MAX} steps in the document. Hint: use fewer paths and conditions"
        )))
    }

    /// What these nodes make of the value at their place; `None`: there is none.
    fn value(
        &self,
        nodes: &[&Node],
        there: Option<Field<'_>>,
        place: Place<'_>,
        out: &mut Builder,
    ) -> Result<()> {
        self.expect_room(out)?;
        if let Some(leaf) = nodes.iter().find_map(|node| node.leaf.as_ref()) {
            let mut others = nodes.iter().filter_map(|node| node.any_leaf());
            return match others.find(|other| !std::ptr::eq(*other, leaf)) {
                Some(other) => Err(conflict(leaf, other)),
                None => self.leaf(leaf, there, place, out),
            };
        }
        match there.map(|field| (field, field.value())) {
            Some((_, Value::Document(raw))) => {
                place.nested(out, tag::DOCUMENT, |out| self.document(nodes, raw, out))
            }
            Some((_, Value::Array(raw))) => {
                place.nested(out, tag::ARRAY, |out| self.array(nodes, raw, out))
            }
            Some((field, _)) => {
                if let Some(leaf) = nodes.iter().find_map(|node| node.creator(&self.sources)) {
                    let found = type_name(field.tag);
                    return Err(leaf.error(format!("a value of type {found} is in the way")));
                }
                place.value(out, field.tag, field.bytes);
                Ok(())
            }
            None if nodes.iter().any(|node| node.creates(&self.sources)) => {
                place.nested(out, tag::DOCUMENT, |out| self.document(nodes, Raw::EMPTY, out))
            }
            None => Ok(()),
        }
    }

    fn document(&self, nodes: &[&Node], raw: Raw<'_>, out: &mut Builder) -> Result<()> {
        self.spend(nodes.iter().map(|node| node.children.len()).sum())?;
        let mut met = HashSet::new();
        for field in raw {
            self.spend(nodes.len())?;
            let name = std::str::from_utf8(field.key).unwrap_or_default();
            let below: Vec<&Node> = nodes.iter().filter_map(|node| node.named(name)).collect();
            if below.is_empty() {
                out.copy(&field);
                continue;
            }
            met.insert(name);
            self.value(&below, Some(field), Place::Field(field.key), out)?;
        }
        for node in nodes {
            for (child, _) in &node.children {
                let Child::Name(name) = child else { continue };
                if met.insert(name) {
                    let below: Vec<&Node> =
                        nodes.iter().filter_map(|node| node.named(name)).collect();
                    self.value(&below, None, Place::Field(name.as_bytes()), out)?;
                }
            }
        }
        Ok(())
    }

    fn array(&self, nodes: &[&Node], raw: Raw<'_>, out: &mut Builder) -> Result<()> {
        self.refuse_names(nodes)?;
        let mut count = 0;
        let width = nodes.iter().map(|node| 1 + node.positional().count()).sum();
        for (index, field) in raw.iter().enumerate() {
            count = index + 1;
            self.spend(width)?;
            let below = self.below(nodes, index, &field);
            if below.is_empty() {
                out.push(&field);
                continue;
            }
            self.element(&below, field, out)?;
        }
        for (index, below) in beyond(nodes, count) {
            let creates: Vec<&Node> =
                below.into_iter().filter(|node| node.creates(&self.sources)).collect();
            let Some(leaf) = creates.iter().find_map(|node| node.creator(&self.sources)) else {
                continue;
            };
            if index - count > FILLED_MAX {
                return Err(leaf.error(format!(
                    "an array of {count} elements grows to position {index}; at most \
                     {FILLED_MAX} are filled up"
                )));
            }
            while count < index {
                out.push_value(tag::NULL, &[]);
                count += 1;
            }
            self.value(&creates, None, Place::Element, out)?;
            count += 1;
        }
        Ok(())
    }

    /// An element that nodes lead to. What is unset is taken out of the array, but where
    /// `$` found it a null stays.
    fn element(&self, below: &[(Found, &Node)], field: Field<'_>, out: &mut Builder) -> Result<()> {
        let nodes: Vec<&Node> = below.iter().map(|(_, node)| *node).collect();
        let unset = |node: &Node| {
            node.leaf.as_ref().is_some_and(|leaf| matches!(leaf.operation, Operation::Unset))
        };
        if let [(Found::First, node)] = below
            && unset(node)
        {
            out.push_value(tag::NULL, &[]);
            return Ok(());
        }
        self.value(&nodes, Some(field), Place::Element, out)
    }

    /// The nodes that lead to an element.
    fn below<'n>(
        &self,
        nodes: &[&'n Node],
        index: usize,
        field: &Field<'_>,
    ) -> Vec<(Found, &'n Node)> {
        let mut below = Vec::new();
        for node in nodes {
            if node.has_names()
                && let Some(inner) = node.named(&index.to_string())
            {
                below.push((Found::Otherwise, inner));
            }
            for (child, inner) in node.positional() {
                match child {
                    Child::First(first) if self.first.get(*first) == Some(&Some(index)) => {
                        below.push((Found::First, inner));
                    }
                    Child::Every => below.push((Found::Otherwise, inner)),
                    Child::Filtered(condition)
                        if self
                            .collated
                            .condition(*condition)
                            .is_some_and(|one| one.accepts(field.value(), &self.steps)) =>
                    {
                        below.push((Found::Otherwise, inner));
                    }
                    Child::Name(_) | Child::First(_) | Child::Filtered(_) => {}
                }
            }
        }
        below
    }

    /// An array has no fields that could be made.
    fn refuse_names(&self, nodes: &[&Node]) -> Result<()> {
        let children = nodes.iter().flat_map(|node| &node.children);
        for (child, node) in children {
            if let Child::Name(name) = child
                && position(name).is_none()
                && let Some(leaf) = node.creator(&self.sources)
            {
                return Err(leaf.error(format!("an array has no field '{name}'")));
            }
        }
        Ok(())
    }

    fn leaf(
        &self,
        leaf: &Leaf,
        there: Option<Field<'_>>,
        place: Place<'_>,
        out: &mut Builder,
    ) -> Result<()> {
        let keep = |out: &mut Builder| {
            if let Some(field) = there {
                place.value(out, field.tag, field.bytes);
            }
        };
        let set = |out: &mut Builder, operand: &Operand| {
            place.value(out, operand.tag, &operand.bytes);
        };
        match &leaf.operation {
            Operation::Set(operand) => set(out, operand),
            Operation::Unset | Operation::RenameFrom => {
                if let (Operation::RenameFrom, Place::Element) = (&leaf.operation, place) {
                    return Err(leaf.error("it leads into an array"));
                }
            }
            Operation::RenameTo(source) => {
                if matches!(place, Place::Element) {
                    return Err(leaf.error("it leads into an array"));
                }
                match self.sources.get(*source).and_then(Option::as_ref) {
                    Some(operand) => set(out, operand),
                    None => keep(out),
                }
            }
            Operation::Increment(operand) => {
                let there = there.map(|field| (field.tag, field.value()));
                let result = number(leaf, Calculation::Add, there, operand)?;
                set(out, result.as_ref().unwrap_or(operand));
            }
            Operation::Multiply(operand) => {
                let there = there.map(|field| (field.tag, field.value()));
                let result = number(leaf, Calculation::Multiply, there, operand)?;
                set(out, &result.unwrap_or_else(|| nought(&operand.value())));
            }
            Operation::Minimum(operand) => match there {
                Some(field) if self.compare(operand, &field).is_ge() => keep(out),
                _ => set(out, operand),
            },
            Operation::Maximum(operand) => match there {
                Some(field) if self.compare(operand, &field).is_le() => keep(out),
                _ => set(out, operand),
            },
            Operation::Push(push) => {
                let array = expect_array(leaf, there)?;
                place.nested(out, tag::ARRAY, |out| {
                    push.write(array, self.collated.collator, out);
                    Ok(())
                })?;
            }
            Operation::AddToSet(operands) => {
                let array = expect_array(leaf, there)?;
                place.nested(out, tag::ARRAY, |out| {
                    add_to_set(array, operands, self.collated.collator, out);
                    Ok(())
                })?;
            }
            Operation::Pull(pull) => {
                if there.is_none() {
                    return Ok(());
                }
                let array = expect_array(leaf, there)?;
                let condition = self.collated.condition(pull.condition);
                place.nested(out, tag::ARRAY, |out| {
                    for field in array {
                        let steps = &self.steps;
                        if !condition.is_some_and(|one| one.accepts(field.value(), steps)) {
                            out.push(&field);
                        }
                        self.spend(1)?;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

/// What `$inc` or `$mul` makes of the number there; `None` where there is none.
fn number(
    leaf: &Leaf,
    calculation: Calculation,
    there: Option<(u8, Value<'_>)>,
    operand: &Operand,
) -> Result<Option<Operand>> {
    let Some((tag, there)) = there else { return Ok(None) };
    match calculate(calculation, &there, &operand.value()) {
        Ok(result) => Ok(Some(result)),
        Err(Failure::NotANumber) => {
            Err(leaf.error(format!("it holds no number, but a value of type {}", type_name(tag))))
        }
        Err(Failure::Overflow(width)) => Err(leaf.error(format!("the result is no {width}"))),
    }
}

/// The position that a name means in an array.
fn position(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (name == "0" || !name.starts_with('0'))).then(|| name.parse().ok()).flatten()
}

/// The nodes that lead behind the end of an array of this length, in order.
fn beyond<'n>(nodes: &[&'n Node], length: usize) -> Vec<(usize, Vec<&'n Node>)> {
    let mut found = std::collections::BTreeMap::<usize, Vec<&'n Node>>::new();
    for (child, node) in nodes.iter().flat_map(|node| &node.children) {
        if let Child::Name(name) = child
            && let Some(index) = position(name)
            && index >= length
        {
            found.entry(index).or_default().push(node);
        }
    }
    found.into_iter().collect()
}
