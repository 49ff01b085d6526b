use std::collections::BTreeSet;

use crate::codec::record::{IndexField, IndexRecord, IndexStatus, IndexType};
use crate::error::{Error, Result};
use crate::value::{Collation, Raw, Value, collation};

/// The name of the index over the documents themselves, which every bucket has.
pub const PRIMARY: &str = "primary-index";

const COMPOUND_FIELDS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 256;
const SELECTOR_BYTES_MAX: usize = 512;
const SELECTOR_STEPS_MAX: usize = 100;

/// An index that is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIndex {
    pub name: String,
    pub fields: Vec<IndexField>,
    pub unique: bool,
    pub strings: Strings,
}

/// How the strings of an index are ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Strings {
    /// Nothing was said: as the bucket says.
    #[default]
    Inherited,
    /// By their bytes, whatever the bucket says.
    Bytes,
    Collated(Collation),
}

/// Reads a schema: indexes on single fields by their selectors, and a list of compound ones.
///
/// # Errors
/// `ERR`, in the words of docs/commands/bucket-index.md.
pub fn parse(schema: Raw<'_>) -> Result<Vec<NewIndex>> {
    let mut indexes = Vec::new();
    for field in schema {
        let selector = text(field.key)?;
        match (selector, field.value()) {
            ("$compound", Value::Array(list)) => {
                if list.is_empty() {
                    return refuse("$compound array must not be empty");
                }
                for definition in list.values() {
                    let Value::Document(definition) = definition else { return invalid() };
                    indexes.push(compound(definition)?);
                }
            }
            ("$compound", _) => return refuse("$compound value must be an array"),
            ("$vector", _) => return refuse("Vector indexes are not supported"),
            (directive, _) if directive.starts_with('$') => {
                return refuse(format!("Unknown directive: {directive}"));
            }
            (selector, Value::Document(definition)) => indexes.push(single(selector, definition)?),
            _ => return invalid(),
        }
    }
    if indexes.is_empty() {
        return refuse("Index schemas cannot be empty");
    }
    Ok(indexes)
}

/// Refuses an index that clashes with one that is there.
///
/// # Errors
/// `ERR`, in the words of docs/commands/bucket-index.md.
pub(super) fn expect_room(
    indexes: &[IndexRecord],
    new: &NewIndex,
    indexes_max: usize,
) -> Result<()> {
    let selectors = |fields: &[IndexField]| -> Vec<String> {
        fields.iter().map(|field| field.selector.clone()).collect()
    };
    let wanted = selectors(&new.fields);
    if let [selector] = &wanted[..]
        && selector == "_id"
    {
        return refuse("An index on field '_id' already exists");
    }
    if let Some(twin) = indexes.iter().find(|index| selectors(&index.fields) == wanted) {
        return refuse(match &wanted[..] {
            [selector] => format!("An index on field '{selector}' already exists"),
            _ => format!("A compound index on the same fields already exists: '{}'", twin.name),
        });
    }
    if new.name == PRIMARY || indexes.iter().any(|index| index.name == new.name) {
        return refuse(format!("'{}' has already exist", new.name));
    }
    if indexes.len() >= indexes_max {
        return refuse(format!("A bucket has at most {indexes_max} indexes"));
    }
    Ok(())
}

impl NewIndex {
    /// The record of it.
    pub(super) fn record(
        &self,
        id: u32,
        inherited: Option<&Collation>,
        status: IndexStatus,
        now: i64,
    ) -> IndexRecord {
        let has_strings = self.fields.iter().any(|field| field.bson_type == IndexType::String);
        let collation = match &self.strings {
            Strings::Inherited if has_strings => inherited.cloned(),
            Strings::Inherited | Strings::Bytes => None,
            Strings::Collated(collation) => Some(collation.clone()),
        };
        IndexRecord {
            id,
            name: self.name.clone(),
            fields: self.fields.clone(),
            unique: self.unique,
            collation,
            collation_data: collation::DATA_VERSION.to_owned(),
            status,
            created_at: now,
        }
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::syntax(message))
}

fn invalid<T>() -> Result<T> {
    refuse("Invalid index schema")
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).or_else(|_| invalid())
}

/// What may stand beside the fields of a definition.
#[derive(Default)]
struct Options<'a> {
    name: Option<&'a str>,
    unique: bool,
    strings: Strings,
}

/// What a definition says of one field.
#[derive(Default)]
struct Said<'a> {
    selector: Option<&'a str>,
    bson_type: Option<&'a str>,
    multi_key: bool,
    descending: bool,
}

impl<'a> Options<'a> {
    fn accept(&mut self, key: &str, value: &Value<'a>) -> Result<bool> {
        match (key, value) {
            ("name", Value::String(name)) => self.name = Some(text(name)?),
            ("unique", Value::Boolean(unique)) => self.unique = *unique,
            ("name" | "unique" | "collation", Value::Null) => {}
            ("collation", value) => {
                let parsed = collation::parse(value);
                let parsed = parsed.map_err(|error| Error::syntax(error.to_string()))?;
                self.strings = parsed.map_or(Strings::Bytes, Strings::Collated);
            }
            ("name" | "unique", _) => return invalid(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn name(&self, otherwise: impl FnOnce() -> String) -> Result<String> {
        let Some(name) = self.name else {
            let mut name = otherwise();
            // Of 32 long selectors: the beginning is enough to tell them apart, mostly; a clash is an error.
            while name.len() > NAME_BYTES_MAX {
                name.pop();
            }
            return Ok(name);
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return refuse(format!(
                "Index names have 1 to {NAME_BYTES_MAX} bytes and no control characters"
            ));
        }
        Ok(name.to_owned())
    }
}

impl<'a> Said<'a> {
    fn accept(&mut self, key: &str, value: &Value<'a>) -> Result<bool> {
        match (key, value) {
            ("selector", Value::String(selector)) => self.selector = Some(text(selector)?),
            ("bson_type", Value::String(name)) => self.bson_type = Some(text(name)?),
            ("multi_key", Value::Boolean(multi_key)) => self.multi_key = *multi_key,
            ("direction", Value::String(direction)) => {
                self.descending = match text(direction)?.to_ascii_lowercase().as_str() {
                    "asc" => false,
                    "desc" => true,
                    other => return refuse(format!("Unknown direction: {other}")),
                };
            }
            ("selector" | "bson_type" | "multi_key" | "direction", Value::Null) => {}
            ("selector" | "bson_type" | "multi_key" | "direction", _) => return invalid(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn field(&self, selector: &str) -> Result<IndexField> {
        let Some(name) = self.bson_type else { return refuse("'bson_type' cannot be null") };
        let found =
            IndexType::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(name));
        let Some(bson_type) = found else {
            return refuse(format!("Unknown BSON type: {name}"));
        };
        let steps = selector.split('.').count();
        if selector.is_empty()
            || selector.contains('\0')
            || selector.len() > SELECTOR_BYTES_MAX
            || steps > SELECTOR_STEPS_MAX
        {
            return refuse(format!(
                "Selectors have 1 to {SELECTOR_BYTES_MAX} bytes and at most {SELECTOR_STEPS_MAX} steps"
            ));
        }
        Ok(IndexField {
            selector: selector.to_owned(),
            bson_type,
            descending: self.descending,
            multi_key: self.multi_key,
        })
    }
}

fn unknown_option<T>(key: &str) -> Result<T> {
    refuse(format!("Unknown index option: {key}"))
}

fn single(selector: &str, definition: Raw<'_>) -> Result<NewIndex> {
    let (mut options, mut said) = (Options::default(), Said::default());
    for field in definition {
        let (key, value) = (text(field.key)?, field.value());
        if key == "selector" || !(options.accept(key, &value)? || said.accept(key, &value)?) {
            return unknown_option(key);
        }
    }
    let field = said.field(selector)?;
    if options.unique && field.multi_key {
        return refuse("A unique index cannot be multi-key");
    }
    if options.strings != Strings::Inherited && field.bson_type != IndexType::String {
        return refuse("Collation is only supported for STRING indexes");
    }
    let name =
        options.name(|| format!("selector:{selector}.bsonType:{}", field.bson_type.name()))?;
    let Options { unique, strings, .. } = options;
    Ok(NewIndex { name, fields: vec![field], unique, strings })
}

fn compound(definition: Raw<'_>) -> Result<NewIndex> {
    let mut options = Options::default();
    let mut list = None;
    for field in definition {
        let (key, value) = (text(field.key)?, field.value());
        match value {
            Value::Array(fields) if key == "fields" => list = Some(fields),
            _ if key == "fields" => return invalid(),
            _ if options.accept(key, &value)? => {}
            _ => return unknown_option(key),
        }
    }
    let Some(list) = list else { return invalid() };
    match list.iter().count() {
        0 | 1 => return refuse("Compound index requires at least 2 fields"),
        count if count > COMPOUND_FIELDS_MAX => {
            return refuse(format!("Compound index supports at most {COMPOUND_FIELDS_MAX} fields"));
        }
        _ => {}
    }
    let mut fields = Vec::new();
    let mut selectors = BTreeSet::new();
    for definition in list.values() {
        let Value::Document(definition) = definition else { return invalid() };
        let mut said = Said::default();
        for field in definition {
            let key = text(field.key)?;
            if !said.accept(key, &field.value())? {
                return unknown_option(key);
            }
        }
        let Some(selector) = said.selector else {
            return refuse("Each compound index field must have a 'selector'");
        };
        if said.bson_type.is_none() {
            return refuse("Each compound index field must have a 'bson_type'");
        }
        if !selectors.insert(selector) {
            return refuse(format!("Duplicate selector in compound index: '{selector}'"));
        }
        fields.push(said.field(selector)?);
    }
    match fields.iter().filter(|field| field.multi_key).count() {
        0 => {}
        _ if options.unique => return refuse("A unique index cannot be multi-key"),
        1 => {}
        _ => return refuse("Compound index allows at most one multi-key field"),
    }
    if options.strings != Strings::Inherited
        && fields.iter().all(|field| field.bson_type != IndexType::String)
    {
        return refuse("Collation requires at least one STRING field in compound index");
    }
    let name = options.name(|| {
        let part = |field: &IndexField| format!("{}.{}", field.selector, field.bson_type.name());
        format!("compound:{}", fields.iter().map(part).collect::<Vec<_>>().join("_"))
    })?;
    let Options { unique, strings, .. } = options;
    Ok(NewIndex { name, fields, unique, strings })
}
