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

/// So much of a place is shown: names are as long as a client likes.
const PLACE_CHARS_MAX: usize = 200;

type Result<T> = std::result::Result<T, ParseError>;

fn error<T>(message: impl Into<String>) -> Result<T> {
    Err(ParseError(message.into()))
}

impl ParseError {
    /// The same with the place in the filter, unless it is the whole filter or named already.
    fn at(self, place: &str) -> Self {
        if place.is_empty() || self.0.ends_with(&format!(": {place}")) {
            return self;
        }
        let mut shown: String = place.chars().take(PLACE_CHARS_MAX).collect();
        if shown.len() < place.len() {
            shown.push_str("...");
        }
        Self(format!("{} (at {shown})", self.0))
    }
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
    let mut parser = Parser {
        limits,
        bytes: document.bytes(),
        conditions: 0,
        patterns: 0,
        elements: 0,
        place: String::new(),
    };
    match parser.filter(document.raw()) {
        Ok(filter) => Ok(normalise(filter)),
        Err(error) => Err(error.at(&parser.place)),
    }
}

struct Parser<'a> {
    limits: &'a Limits,
    /// The filter, which operands share.
    bytes: &'a Bytes,
    conditions: usize,
    patterns: usize,
    /// Inside how many `$elemMatch` it is.
    elements: usize,
    /// Where it is: `$or[1].price`. After an error, where that is.
    place: String,
}

/// The text of a name. Names of validated documents are UTF-8.
fn name<'a>(field: &Field<'a>) -> &'a str {
    std::str::from_utf8(field.key).unwrap_or_default()
}

impl Parser<'_> {
    /// Parses a part of the filter. When it fails, the place stays as it was there.
    fn inside<T>(&mut self, step: &str, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.place.len();
        if before > 0 {
            self.place.push('.');
        }
        self.place.push_str(step);
        let parsed = part(self)?;
        self.place.truncate(before);
        Ok(parsed)
    }

    fn count(&mut self) -> Result<()> {
        self.conditions += 1;
        if self.conditions > self.limits.conditions_max {
            self.place.clear();
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
                    Value::Document(raw) => {
                        let part = self.inside(name, |parser| parser.filter(raw))?;
                        Ast::Not(Box::new(part))
                    }
                    _ => return error("$not expects a filter"),
                },
                _ if name.starts_with('$') => return error(format!("Unknown operator: {name}")),
                _ => self.inside(name, |parser| {
                    let path = parser.path(name)?;
                    parser.field(&path, &field)
                })?,
            });
        }
        Ok(Ast::And(parts))
    }

    /// A dotted path. A longer one than documents are deep would match nothing, and cost a step each time.
    fn path(&mut self, name: &str) -> Result<Path> {
        let steps_max = self.limits.document.depth_max;
        if name.split('.').nth(steps_max).is_some() {
            self.place.clear();
            return error(format!("a path of more than {steps_max} steps"));
        }
        Ok(Path::new(name))
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
            let step = format!("{name}[{index}]");
            parts.push(self.inside(&step, |parser| part(parser, raw))?);
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

    /// A value of the filter. For the document's `_id`, and only there, 24 hex digits are an ObjectId.
    fn operand(&self, path: &Path, field: &Field<'_>) -> Operand {
        if path.is_id()
            && self.elements == 0
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
                "$ne" => match field.value() {
                    Value::Regex { .. } => return error(REGEX_UNSUPPORTED),
                    _ => Test::NotEqual(self.operand(path, &field)),
                },
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
                        Value::Document(raw) => {
                            self.inside(operator, |parser| parser.operators(path, raw))?
                        }
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
            Bracket::Regex => error(REGEX_UNSUPPORTED),
            _ => Ok(Test::Compare(comparison, operand)),
        }
    }

    /// A pattern in a list, as BSON has it or as its operator: `{$regex: "^a"}`.
    fn listed_pattern(&mut self, list: &str, value: &Value<'_>) -> Result<Option<Pattern>> {
        match *value {
            Value::Regex { pattern, options } => self.bson_pattern(pattern, options).map(Some),
            Value::Document(raw) if is_operators(raw) && !raw.is_empty() => {
                let mut names = raw.iter().map(|field| name(&field));
                match (
                    names.find(|name| !matches!(*name, "$regex" | "$options")),
                    raw.get(b"$regex"),
                ) {
                    (None, Some(field)) => self.pattern(raw, &field).map(Some),
                    (None, None) => error("$options requires $regex"),
                    (Some(other), _) => {
                        error(format!("{other} cannot stand in the list of {list}"))
                    }
                }
            }
            _ => Ok(None),
        }
    }

    fn members(&mut self, path: &Path, field: &Field<'_>) -> Result<Members> {
        let Value::Array(array) = field.value() else {
            return error(format!("{} expects an array for: {}", name(field), path.text()));
        };
        let (mut values, mut patterns) = (Vec::new(), Vec::new());
        for member in array {
            match self.listed_pattern(name(field), &member.value())? {
                Some(pattern) => patterns.push(pattern),
                None => values.push(self.operand(path, &member)),
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
            if let Value::Document(raw) = member.value()
                && let Some(inner) = raw.get(b"$elemMatch")
                && raw.iter().count() == 1
            {
                let (form, filter) = self.element(&inner.value())?;
                members.push(AllMember::Element { form, filter: Box::new(filter) });
                continue;
            }
            members.push(match self.listed_pattern("$all", &member.value())? {
                Some(pattern) => AllMember::Matches(pattern),
                None => AllMember::Equal(self.operand(path, &member)),
            });
        }
        Ok(members)
    }

    fn element(&mut self, value: &Value<'_>) -> Result<(ElementForm, Ast)> {
        let Value::Document(raw) = value else { return error("$elemMatch expects a document") };
        let form = element_form(*raw).unwrap_or(ElementForm::Document);
        self.elements += 1;
        let filter = self.inside("$elemMatch", |parser| match form {
            ElementForm::Value => parser.operators(&Path::element(), *raw),
            ElementForm::Document => parser.filter(*raw),
        })?;
        self.elements -= 1;
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
            self.place.clear();
            return error(format!("more than {} regular expressions", self.limits.patterns_max));
        }
        let (pattern, options) =
            (String::from_utf8_lossy(pattern), String::from_utf8_lossy(options));
        Pattern::new(&pattern, &options, self.limits.pattern_bytes_max).map_err(ParseError)
    }
}

const REGEX_UNSUPPORTED: &str = "Unsupported value type: regular expression";

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
