//! From a BSON or JSON update to its tree.

use std::collections::HashMap;

use bytes::Bytes;

use super::arithmetic::is_number;
use super::array::{self, Pull, Push};
use super::condition::Condition;
use super::operand::{Operand, type_name};
use super::path::{self, Step};
use super::tree::{Child, Leaf, Node, Operation};
use super::{CONDITIONS_MAX, PATHS_MAX, Update};
use crate::document::{Document, Limits as DocumentLimits};
use crate::error::{Error, Result};
use crate::query::{self, Path, Under};
use crate::value::{Field, Raw, Value};

/// The operators, by their names in lower case.
const OPERATORS: &[&str] =
    &["$set", "$unset", "$inc", "$mul", "$min", "$max", "$push", "$pull", "$addToSet", "$rename"];

pub(super) fn parse(input: &Bytes, limits: &query::Limits, bytes_max: usize) -> Result<Update> {
    if input.is_empty() {
        return Err(Error::syntax("update parameter cannot be empty"));
    }
    let document = Document::sniff(input, limits.document)
        .map_err(|error| Error::syntax(error.to_string()))?;
    let mut parser = Parser {
        limits,
        bytes: document.bytes(),
        filters: HashMap::new(),
        paths: 0,
        operators: 0,
        update: Update {
            root: Node::default(),
            conditions: Vec::new(),
            under: Under::default(),
            first: Vec::new(),
            sources: Vec::new(),
            upsert: false,
            limits: DocumentLimits { bytes_max, ..limits.document },
        },
    };
    parser.whole(document.raw())?;
    Ok(parser.update)
}

/// One array filter: its condition is parsed when a path uses it, since the
/// same identifier may be asked of one element only.
struct Filter {
    condition: usize,
    used: bool,
}

struct Parser<'a> {
    limits: &'a query::Limits,
    /// The update, which operands share.
    bytes: &'a Bytes,
    filters: HashMap<Box<str>, Filter>,
    paths: usize,
    operators: usize,
    update: Update,
}

/// The text of a name. Names of validated documents are UTF-8.
fn name<'a>(field: &Field<'a>) -> &'a str {
    std::str::from_utf8(field.key).unwrap_or_default()
}

impl Parser<'_> {
    fn whole(&mut self, raw: Raw<'_>) -> Result<()> {
        // Array filters come first, wherever they stand: paths refer to them.
        for field in raw {
            match name(&field).to_ascii_lowercase().as_str() {
                "array_filters" => self.array_filters(&field)?,
                "upsert" => match field.value() {
                    Value::Boolean(upsert) => self.update.upsert = upsert,
                    _ => return Err(Error::syntax("upsert must be a boolean")),
                },
                _ => {}
            }
        }
        for field in raw {
            let given = name(&field);
            if ["array_filters", "upsert"].iter().any(|option| given.eq_ignore_ascii_case(option)) {
                continue;
            }
            let operator = OPERATORS.iter().find(|known| given.eq_ignore_ascii_case(known));
            let operator = operator.ok_or_else(|| {
                Error::syntax(format!(
                    "Unknown update operator: {given}. Known are {}, array_filters and upsert",
                    OPERATORS.join(", ")
                ))
            })?;
            self.operators += 1;
            self.operator(operator, &field)?;
        }
        if self.operators == 0 {
            return Err(Error::syntax("update parameter cannot be empty"));
        }
        if let Some((id, _)) = self.filters.iter().find(|(_, filter)| !filter.used) {
            return Err(Error::syntax(format!(
                "Array filter '{id}' is used by no path of the update"
            )));
        }
        Ok(())
    }

    fn operator(&mut self, operator: &'static str, field: &Field<'_>) -> Result<()> {
        match field.value() {
            Value::Array(paths) if operator == "$unset" => {
                for path in paths {
                    let Value::String(text) = path.value() else {
                        return Err(Error::syntax(format!(
                            "unset key must be a string, got: {}",
                            type_name(path.tag)
                        )));
                    };
                    let text = std::str::from_utf8(text).unwrap_or_default();
                    self.change(operator, text, Operation::Unset)?;
                }
            }
            Value::Document(fields) => {
                for field in fields {
                    let path = name(&field);
                    if operator == "$rename" {
                        self.rename(path, &field)?;
                    } else {
                        let operation = self.operation(operator, path, &field)?;
                        self.change(operator, path, operation)?;
                    }
                }
            }
            _ => {
                return Err(Error::syntax(format!(
                    "{operator} expects a document of paths, not {}",
                    type_name(field.tag)
                )));
            }
        }
        Ok(())
    }

    fn operation(&mut self, operator: &str, path: &str, field: &Field<'_>) -> Result<Operation> {
        let operand = || Operand::of(self.bytes, field);
        let number = || {
            if is_number(&field.value()) {
                return Ok(operand());
            }
            let found = type_name(field.tag);
            Err(Error::syntax(format!("{operator} '{path}' expects a number, not {found}")))
        };
        Ok(match operator {
            "$set" => Operation::Set(operand()),
            "$inc" => Operation::Increment(number()?),
            "$mul" => Operation::Multiply(number()?),
            "$min" => Operation::Minimum(operand()),
            "$max" => Operation::Maximum(operand()),
            "$push" => Operation::Push(Push::parse(self.bytes, path, field)?),
            "$addToSet" => Operation::AddToSet(array::parse_set(self.bytes, path, field)?),
            "$pull" => {
                let condition = Condition::of_pull(path, field, self.limits)?;
                Operation::Pull(Pull { condition: self.condition(condition)? })
            }
            _ => Operation::Unset,
        })
    }

    fn change(&mut self, operator: &'static str, text: &str, operation: Operation) -> Result<()> {
        self.paths += 1;
        if self.paths > PATHS_MAX {
            return Err(Error::syntax(format!("an update has at most {PATHS_MAX} paths")));
        }
        let steps = path::parse(operator, text, self.update.limits.depth_max)?;
        let mut children = Vec::with_capacity(steps.len());
        for (at, step) in steps.iter().enumerate() {
            children.push(self.child(text, &steps, at, step)?);
        }
        let leaf = Leaf { operator, path: text.into(), operation };
        self.update.root.insert(&children, leaf)
    }

    fn child(&mut self, text: &str, steps: &[Step], at: usize, step: &Step) -> Result<Child> {
        if self.update.upsert && !matches!(step, Step::Name(_)) {
            return Err(Error::syntax("Positional operator $ cannot be used with upsert=true"));
        }
        Ok(match step {
            Step::Name(name) => Child::Name(name.clone()),
            Step::Every => Child::Every,
            Step::First => {
                let array = steps.iter().take(at).map(|step| match step {
                    Step::Name(name) => &**name,
                    Step::First | Step::Every | Step::Filtered(_) => "",
                });
                let array = Path::new(&array.collect::<Vec<_>>().join("."));
                let known = self.update.first.iter().position(|known| *known == array);
                Child::First(known.unwrap_or_else(|| {
                    self.update.first.push(array);
                    self.update.first.len() - 1
                }))
            }
            Step::Filtered(id) => match self.filters.get_mut(id) {
                Some(filter) => {
                    filter.used = true;
                    Child::Filtered(filter.condition)
                }
                None => {
                    return Err(Error::syntax(format!(
                        "No array filter found for identifier '{id}' in path '{text}'"
                    )));
                }
            },
        })
    }

    fn rename(&mut self, from: &str, field: &Field<'_>) -> Result<()> {
        let Value::String(to) = field.value() else {
            return Err(Error::syntax(format!(
                "$rename '{from}' expects the new path as a string, not {}",
                type_name(field.tag)
            )));
        };
        let to = std::str::from_utf8(to).unwrap_or_default();
        for path in [from, to] {
            let steps = path::parse("$rename", path, self.update.limits.depth_max)?;
            if steps.iter().any(|step| !matches!(step, Step::Name(_))) {
                return Err(Error::syntax(format!(
                    "$rename '{path}' must not have a positional operator"
                )));
            }
        }
        if from == to {
            return Err(Error::syntax(format!("$rename '{from}' to itself")));
        }
        self.update.sources.push(Path::new(from));
        let source = self.update.sources.len() - 1;
        self.change("$rename", from, Operation::RenameFrom)?;
        self.change("$rename", to, Operation::RenameTo(source))
    }

    fn condition(&mut self, condition: Condition) -> Result<usize> {
        if self.update.conditions.len() >= CONDITIONS_MAX {
            return Err(Error::syntax(format!(
                "an update has at most {CONDITIONS_MAX} conditions on elements"
            )));
        }
        self.update.conditions.push(condition);
        Ok(self.update.conditions.len() - 1)
    }

    fn array_filters(&mut self, field: &Field<'_>) -> Result<()> {
        let Value::Array(filters) = field.value() else {
            return Err(Error::syntax("array_filters must be an array of documents"));
        };
        for filter in filters.values() {
            let Value::Document(raw) = filter else {
                return Err(Error::syntax("array_filters element must be a document"));
            };
            let mut fields = raw.iter();
            let (Some(field), None) = (fields.next(), fields.next()) else {
                return Err(Error::syntax(
                    "Array filter document must have exactly one key (the identifier)",
                ));
            };
            let whole = name(&field);
            let (id, inner) = match whole.split_once('.') {
                Some((id, inner)) => (id, Some(inner)),
                None => (whole, None),
            };
            if !path::is_identifier(id) {
                return Err(Error::syntax(format!("Invalid array filter identifier: '{id}'")));
            }
            let condition = Condition::of_filter(inner, &field, self.limits)?;
            let condition = self.condition(condition)?;
            if self.filters.insert(id.into(), Filter { condition, used: false }).is_some() {
                return Err(Error::syntax(format!("Array filter '{id}' is given twice")));
            }
        }
        Ok(())
    }
}
