//! From a BSON or JSON filter to its [`Ast`].

use bson::oid::ObjectId;
use bytes::Bytes;

use super::{
    Limits,
    ast::{AllMember, Ast, Comparison, ElementForm, Members, Operand, Test},
    normalise::normalise,
    pattern::Pattern,
};
use crate::document::{Document, InputError};
use crate::value::{Bracket, Field, Path, Raw, Value};

/// Why a filter cannot be asked. The message is what the client reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("BQL parse error: {0}")]
pub struct ParseError(String);

type Result<T> = std::result::Result<T, ParseError>;

fn error<T>(message: impl Into<String>) -> Result<T> {
    Err(ParseError(message.into()))
}

impl From<InputError> for ParseError {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Bson { .. } => Self("Invalid BSON format".into()),
            error => Self(error.to_string()),
        }
    }
}

/// Parses a filter, JSON or BSON (told apart by looking), and simplifies it.
pub fn parse(input: &Bytes, limits: &Limits) -> Result<Ast> {
    let document = Document::sniff(input, limits.document)?;
    let mut parser = Parser { limits, bytes: document.bytes(), conditions: 0, patterns: 0 };
    Ok(normalise(parser.filter(document.raw())?))
}

struct Parser<'a> {
    limits: &'a Limits,
    /// The filter, which operands share.
    bytes: &'a Bytes,
    conditions: usize,
    patterns: usize,
}

/// The text of a name. Names of validated documents are UTF-8.
fn name<'a>(field: &Field<'a>) -> &'a str {
    std::str::from_utf8(field.key).unwrap_or_default()
}

impl Parser<'_> {
    fn count(&mut self) -> Result<()> {
        self.conditions += 1;
        if self.conditions > self.limits.conditions_max {
            return error(format!("more than {} conditions", self.limits.conditions_max));
        }
        Ok(())
    }

    /// A filter on fields: the top level, the members of `$and`, documents in `$elemMatch`.
    fn filter(&mut self, raw: Raw<'_>) -> Result<Ast> {
        let mut parts = Vec::new();
        for field in raw {
            self.count()?;
            let name = name(&field);
            parts.push(match name {
                "$and" | "$or" | "$nor" => self.junction(name, &field, Self::filter)?,
                "$not" => match field.value() {
                    Value::Document(raw) => Ast::Not(Box::new(self.filter(raw)?)),
                    _ => return error("$not expects a filter"),
                },
                _ if name.starts_with('$') => return error(format!("Unknown operator: {name}")),
                _ => self.field(&Path::new(name), &field)?,
            });
        }
        Ok(Ast::And(parts))
    }

    /// `$and`, `$or`, `$nor` over what `part` parses.
    fn junction(
        &mut self,
        name: &str,
        field: &Field<'_>,
        mut part: impl FnMut(&mut Self, Raw<'_>) -> Result<Ast>,
    ) -> Result<Ast> {
        let Value::Array(array) = field.value() else {
            return error(format!("{name} expects an array of filters"));
        };
        let mut parts = Vec::new();
        for (index, value) in array.values().enumerate() {
            let Value::Document(raw) = value else {
                return error(format!(
                    "{name} expects an array of filters, its element {index} is none"
                ));
            };
            self.count()?;
            parts.push(part(self, raw)?);
        }
        Ok(match name {
            "$and" => Ast::And(parts),
            "$or" => Ast::Or(parts),
            _ => Ast::Not(Box::new(Ast::Or(parts))),
        })
    }

    /// What stands behind the name of a field: operators, a pattern, or a value to be equal to.
    fn field(&mut self, path: &Path, field: &Field<'_>) -> Result<Ast> {
        match field.value() {
            Value::Document(raw) if is_operators(raw) => self.operators(path, raw),
            Value::Regex { pattern, options } => {
                Ok(test(path, Test::Matches(self.bson_pattern(pattern, options)?)))
            }
            _ => Ok(test(path, Test::Equal(self.operand(path, field)))),
        }
    }

    /// A value of the filter. For `_id`, and only there, 24 hex digits are an ObjectId.
    fn operand(&self, path: &Path, field: &Field<'_>) -> Operand {
        if path.is_id()
            && let Value::String(text) = field.value()
            && let Some(id) =
                std::str::from_utf8(text).ok().and_then(|t| ObjectId::parse_str(t).ok())
        {
            return Operand::object_id(id);
        }
        Operand::new(self.bytes, field)
    }

    /// `{$gt: 1, $lt: 5}` on one path; all must hold.
    fn operators(&mut self, path: &Path, raw: Raw<'_>) -> Result<Ast> {
        if raw.is_empty() {
            return error(format!("Empty selector operator document for: {}", path.text()));
        }
        let mut parts = Vec::new();
        for field in raw {
            self.count()?;
            let operator = name(&field);
            let part = match operator {
                "$eq" => Test::Equal(self.operand(path, &field)),
                "$ne" => Test::NotEqual(self.operand(path, &field)),
                "$gt" => self.comparison(Comparison::Greater, path, &field)?,
                "$gte" => self.comparison(Comparison::GreaterOrEqual, path, &field)?,
                "$lt" => self.comparison(Comparison::Less, path, &field)?,
                "$lte" => self.comparison(Comparison::LessOrEqual, path, &field)?,
                "$in" => Test::In(self.members(path, &field)?),
                "$nin" => {
                    let members = Test::In(self.members(path, &field)?);
                    parts.push(Ast::Not(Box::new(test(path, members))));
                    continue;
                }
                "$all" => Test::All(self.all(path, &field)?),
                "$size" => Test::Size(size(&field.value())?),
                "$exists" => match field.value() {
                    Value::Boolean(true) => Test::Exists,
                    Value::Boolean(false) => {
                        parts.push(Ast::Not(Box::new(test(path, Test::Exists))));
                        continue;
                    }
                    _ => return error("$exists expects a boolean"),
                },
                "$regex" => Test::Matches(self.pattern(raw, &field)?),
                "$options" => {
                    if raw.get(b"$regex").is_none() {
                        return error("$options requires $regex");
                    }
                    continue;
                }
                "$elemMatch" => {
                    let (form, filter) = self.element(&field.value())?;
                    Test::Element { form, filter: Box::new(filter) }
                }
                "$not" => {
                    let part = match field.value() {
                        Value::Document(raw) => self.operators(path, raw)?,
                        Value::Regex { pattern, options } => {
                            test(path, Test::Matches(self.bson_pattern(pattern, options)?))
                        }
                        _ => {
                            return error(format!(
                                "$not expects an operator document or a regular expression for: {}",
                                path.text()
                            ));
                        }
                    };
                    parts.push(Ast::Not(Box::new(part)));
                    continue;
                }
                "$and" | "$or" | "$nor" if path.is_element() => {
                    let part =
                        self.junction(operator, &field, |parser, raw| parser.operators(path, raw))?;
                    parts.push(part);
                    continue;
                }
                _ if operator.starts_with('$') => {
                    return error(format!("Unknown operator: {operator}"));
                }
                _ => return error(format!("Unknown selector operator: {operator}")),
            };
            parts.push(test(path, part));
        }
        Ok(Ast::And(parts))
    }

    fn comparison(&self, comparison: Comparison, path: &Path, field: &Field<'_>) -> Result<Test> {
        let operand = self.operand(path, field);
        match operand.bracket() {
            Bracket::Null => {
                error(format!("{} operator does not support null values", name(field)))
            }
            Bracket::Regex => error("Unsupported value type: regular expression"),
            _ => Ok(Test::Compare(comparison, operand)),
        }
    }

    fn members(&mut self, path: &Path, field: &Field<'_>) -> Result<Members> {
        let Value::Array(array) = field.value() else {
            return error(format!("{} expects an array for: {}", name(field), path.text()));
        };
        let (mut values, mut patterns) = (Vec::new(), Vec::new());
        for member in array {
            match member.value() {
                Value::Regex { pattern, options } => {
                    patterns.push(self.bson_pattern(pattern, options)?);
                }
                _ => values.push(self.operand(path, &member)),
            }
        }
        Ok(Members::new(values, patterns))
    }

    fn all(&mut self, path: &Path, field: &Field<'_>) -> Result<Vec<AllMember>> {
        let Value::Array(array) = field.value() else {
            return error(format!("$all expects an array for: {}", path.text()));
        };
        let mut members = Vec::new();
        for member in array {
            self.count()?;
            members.push(match member.value() {
                Value::Regex { pattern, options } => {
                    AllMember::Matches(self.bson_pattern(pattern, options)?)
                }
                Value::Document(raw) => match raw.get(b"$elemMatch") {
                    Some(inner) if raw.iter().count() == 1 => {
                        let (form, filter) = self.element(&inner.value())?;
                        AllMember::Element { form, filter: Box::new(filter) }
                    }
                    _ => AllMember::Equal(self.operand(path, &member)),
                },
                _ => AllMember::Equal(self.operand(path, &member)),
            });
        }
        Ok(members)
    }

    fn element(&mut self, value: &Value<'_>) -> Result<(ElementForm, Ast)> {
        let Value::Document(raw) = value else { return error("$elemMatch expects a document") };
        let form = element_form(*raw).unwrap_or(ElementForm::Document);
        let filter = match form {
            ElementForm::Value => self.operators(&Path::element(), *raw)?,
            ElementForm::Document => self.filter(*raw)?,
        };
        Ok((form, filter))
    }

    /// `$regex` with the `$options` beside it, which win over those of a BSON pattern.
    fn pattern(&mut self, raw: Raw<'_>, field: &Field<'_>) -> Result<Pattern> {
        let beside = match raw.get(b"$options").map(|options| options.value()) {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => return error("$options expects a string"),
        };
        match field.value() {
            Value::String(pattern) => self.bson_pattern(pattern, beside.unwrap_or_default()),
            Value::Regex { pattern, options } => {
                self.bson_pattern(pattern, beside.unwrap_or(options))
            }
            _ => error("$regex expects a string pattern or a regular expression"),
        }
    }

    fn bson_pattern(&mut self, pattern: &[u8], options: &[u8]) -> Result<Pattern> {
        self.patterns += 1;
        if self.patterns > self.limits.patterns_max {
            return error(format!("more than {} regular expressions", self.limits.patterns_max));
        }
        let (pattern, options) =
            (String::from_utf8_lossy(pattern), String::from_utf8_lossy(options));
        Pattern::new(&pattern, &options, self.limits.pattern_bytes_max).map_err(ParseError)
    }
}

fn test(path: &Path, test: Test) -> Ast {
    Ast::Field { path: path.clone(), test }
}

/// An operator document, not a document to be equal to. An empty one is taken
/// as operators, and refused as such; a reference (`$ref`) is a value.
fn is_operators(raw: Raw<'_>) -> bool {
    raw.iter().next().is_none_or(|field| field.key.starts_with(b"$") && field.key != b"$ref")
}

/// Whether an `$elemMatch` asks the element itself or its fields: its first
/// condition, however deep inside logical operators, tells.
fn element_form(raw: Raw<'_>) -> Option<ElementForm> {
    raw.iter().find_map(|field| match (field.key, field.value()) {
        (b"$and" | b"$or" | b"$nor", Value::Array(array)) => {
            array.values().find_map(|value| match value {
                Value::Document(raw) => element_form(raw),
                _ => None,
            })
        }
        (b"$not", Value::Document(raw)) => element_form(raw),
        (b"$and" | b"$or" | b"$nor", _) => None,
        (key, _) if key.starts_with(b"$") => Some(ElementForm::Value),
        _ => Some(ElementForm::Document),
    })
}

fn size(value: &Value<'_>) -> Result<u64> {
    let number = match *value {
        Value::Int32(number) => Some(i64::from(number)),
        Value::Int64(number) => Some(number),
        _ => None,
    };
    match number.map(u64::try_from) {
        Some(Ok(size)) => Ok(size),
        Some(Err(_)) => error("$size must not be negative"),
        None => error("$size expects an integer"),
    }
}
