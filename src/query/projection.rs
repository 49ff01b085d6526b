//! Which parts of a document a query gives back.

use bytes::Bytes;

use super::{ast::Ast, evaluate::first_element};
use crate::document::{Builder, Document, InputError, Limits};
use crate::value::{Field, Path, Raw, Steps, Value, raw::tag};

/// Why a projection cannot be used. The message is what the client reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProjectionError(String);

type Result<T> = std::result::Result<T, ProjectionError>;

fn error<T>(message: impl Into<String>) -> Result<T> {
    Err(ProjectionError(message.into()))
}

impl From<InputError> for ProjectionError {
    fn from(error: InputError) -> Self {
        Self(format!("Invalid PROJECTION: {error}"))
    }
}

/// A parsed PROJECTION.
#[derive(Clone, Debug)]
pub struct Projection {
    /// Only what is named is given, or all but what is named.
    inclusive: bool,
    root: Node,
}

#[derive(Clone, Debug, Default)]
struct Node {
    action: Option<Action>,
    children: Vec<(Box<str>, Node)>,
}

/// Fields that one projection may name.
const FIELDS_MAX: usize = 10_000;

#[derive(Clone, Debug)]
enum Action {
    Keep,
    Drop,
    /// So many elements from a position on; either may count from the end.
    Slice {
        skip: i64,
        limit: u64,
    },
    /// The element that made the filter true.
    Positional(Path),
}

impl Projection {
    /// Parses `{"a": 1, "b.c": 1, "_id": 0}`, JSON or BSON.
    pub fn parse(input: &Bytes, limits: Limits) -> Result<Self> {
        let document = Document::sniff(input, limits)?;
        let mut parsed = Parsed::default();
        for (index, field) in document.raw().iter().enumerate() {
            if index == FIELDS_MAX {
                return error(format!("A projection of more than {FIELDS_MAX} fields"));
            }
            let steps_max = limits.depth_max;
            if field.key.split(|byte| *byte == b'.').nth(steps_max).is_some() {
                return error(format!("A path of more than {steps_max} steps in a projection"));
            }
            parsed.field(&field)?;
        }
        parsed.finish()
    }

    /// The paths that make up all it gives, the id aside; `None` when it gives more than can be named.
    pub fn fields(&self) -> Option<Vec<Path>> {
        let mut fields = Vec::new();
        (self.inclusive && self.root.paths("", &mut fields)).then_some(fields)
    }

    /// The projected document. `filter` tells which element a positional `$` means;
    /// when finding that out takes all of the steps, what is given means nothing.
    pub fn apply(&self, document: &Document, filter: &Ast, steps: &Steps) -> Document {
        let (inclusive, whole) = (self.inclusive, document.raw());
        let projector = Projector { inclusive, filter, whole, steps };
        let mut out = Builder::new();
        projector.fields(document.raw(), &self.root, &mut out);
        out.finish()
    }
}

#[derive(Default)]
struct Parsed {
    root: Node,
    /// From the first field that says so, `_id` aside.
    inclusive: Option<bool>,
    id: Option<bool>,
    positional: bool,
    slices: Vec<String>,
    names: Vec<String>,
}

impl Parsed {
    fn field(&mut self, field: &Field<'_>) -> Result<()> {
        let name = std::str::from_utf8(field.key).unwrap_or_default();
        let action = match field.value() {
            Value::Document(raw) => self.slice(name, raw)?,
            value => match truth(&value) {
                None => return unsupported(name),
                Some(keep) if name == "_id" => {
                    self.id = Some(keep);
                    return Ok(());
                }
                Some(keep) => {
                    if self.inclusive.is_some_and(|inclusive| inclusive != keep) {
                        return error(
                            "Cannot mix inclusion and exclusion in projection spec (except _id: 0)",
                        );
                    }
                    self.inclusive = Some(keep);
                    if keep { Action::Keep } else { Action::Drop }
                }
            },
        };
        let (path, action) = self.positional(name, action)?;
        self.names.push(path.to_owned());
        self.root.insert(path, action);
        Ok(())
    }

    fn slice(&mut self, name: &str, raw: Raw<'_>) -> Result<Action> {
        let mut fields = raw.iter();
        let (Some(operator), None) = (fields.next(), fields.next()) else {
            return unsupported(name);
        };
        if operator.key != b"$slice" {
            return unsupported(name);
        }
        self.slices.push(name.to_owned());
        let wrong =
            || ProjectionError(format!("$slice on '{name}' must be a number or [skip, limit]"));
        if let Value::Array(pair) = operator.value() {
            let numbers: Option<Vec<i64>> = pair.values().map(|value| whole(&value)).collect();
            let Some(&[skip, limit]) = numbers.as_deref() else { return Err(wrong()) };
            return match u64::try_from(limit) {
                Ok(limit) if limit > 0 => Ok(Action::Slice { skip, limit }),
                _ => error(format!("$slice limit must be positive: {name}")),
            };
        }
        let count = whole(&operator.value()).ok_or_else(wrong)?;
        let skip = count.min(0);
        Ok(Action::Slice { skip, limit: count.unsigned_abs() })
    }

    /// Takes the `$` off the end of a path.
    fn positional<'a>(&mut self, name: &'a str, action: Action) -> Result<(&'a str, Action)> {
        let (path, last) = name.rsplit_once('.').unwrap_or(("", name));
        if path.split('.').any(|segment| segment == "$") || (last == "$" && path.is_empty()) {
            return error(format!(
                "The positional operator $ can only appear at the end of the field path: {name}"
            ));
        }
        if last != "$" {
            return Ok((name, action));
        }
        if self.positional {
            return error("Only one positional $ operator is allowed in the projection spec");
        }
        self.positional = true;
        match action {
            Action::Keep => Ok((path, Action::Positional(Path::new(path)))),
            _ => unsupported(name),
        }
    }

    fn finish(mut self) -> Result<Projection> {
        if self.positional && !self.slices.is_empty() {
            return error(
                "$slice cannot be combined with the positional $ operator in the same projection spec",
            );
        }
        for slice in &self.slices {
            let inside = |outer: &str, inner: &str| {
                inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
            };
            let other = self.names.iter().find(|name| inside(slice, name) || inside(name, slice));
            if let Some(other) = other {
                return error(format!(
                    "$slice on '{slice}' collides with projecting field '{other}'"
                ));
            }
        }
        // `{_id: 1}` alone asks for nothing but the id; a slice alone leaves the rest as it is.
        let inclusive = self.inclusive.unwrap_or(self.id == Some(true) && self.slices.is_empty());
        let keep_id = self.id.unwrap_or(true);
        if keep_id == inclusive {
            self.root.insert("_id", if inclusive { Action::Keep } else { Action::Drop });
        }
        Ok(Projection { inclusive, root: self.root })
    }
}

fn unsupported<T>(name: &str) -> Result<T> {
    error(format!("Unsupported projection operator for field '{name}': only $slice is supported"))
}

fn truth(value: &Value<'_>) -> Option<bool> {
    match *value {
        Value::Boolean(flag) => Some(flag),
        Value::Int32(number) => Some(number != 0),
        Value::Int64(number) => Some(number != 0),
        Value::Double(number) => Some(number != 0.0),
        _ => None,
    }
}

fn whole(value: &Value<'_>) -> Option<i64> {
    match *value {
        Value::Int32(number) => Some(i64::from(number)),
        Value::Int64(number) => Some(number),
        _ => None,
    }
}

impl Node {
    /// Names what is kept below this node. False where that is not all that matters.
    fn paths(&self, above: &str, fields: &mut Vec<Path>) -> bool {
        self.children.iter().all(|(name, node)| {
            let path = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
            match node.action {
                Some(Action::Keep) => fields.push(Path::new(&path)),
                Some(_) => return false,
                None => {}
            }
            node.paths(&path, fields)
        })
    }

    fn insert(&mut self, path: &str, action: Action) {
        let (name, rest) =
            path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let index =
            self.children.iter().position(|(child, _)| **child == *name).unwrap_or_else(|| {
                self.children.push((name.into(), Node::default()));
                self.children.len() - 1
            });
        let Some((_, child)) = self.children.get_mut(index) else { return };
        match rest {
            Some(rest) => child.insert(rest, action),
            None => child.action = Some(action),
        }
    }

    fn child(&self, name: &[u8]) -> Option<&Node> {
        self.children.iter().find(|(child, _)| child.as_bytes() == name).map(|(_, node)| node)
    }
}

struct Projector<'a> {
    inclusive: bool,
    filter: &'a Ast,
    whole: Raw<'a>,
    steps: &'a Steps,
}

impl Projector<'_> {
    fn fields(&self, raw: Raw<'_>, node: &Node, out: &mut Builder) {
        for field in raw {
            match node.child(field.key) {
                None if self.inclusive => {}
                None => out.copy(&field),
                Some(child) => self.field(&field, child, out),
            }
        }
    }

    fn field(&self, field: &Field<'_>, node: &Node, out: &mut Builder) {
        match (&node.action, field.value()) {
            (Some(Action::Drop), _) => {}
            (Some(Action::Slice { skip, limit }), Value::Array(array)) => {
                let count = i64::try_from(array.iter().count()).unwrap_or(i64::MAX);
                let skip = if *skip < 0 { count.saturating_add(*skip).max(0) } else { *skip };
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
                out.nested(field.key, tag::ARRAY, |out| {
                    for element in array.iter().skip(skip).take(limit) {
                        out.push(&element);
                    }
                });
            }
            (Some(Action::Positional(path)), Value::Array(array)) => {
                let index = first_element(self.filter, self.whole, path, self.steps);
                let index = index.unwrap_or_default();
                out.nested(field.key, tag::ARRAY, |out| {
                    if let Some(element) = array.iter().nth(index) {
                        out.push(&element);
                    }
                });
            }
            (None, Value::Document(raw)) => {
                out.nested(field.key, tag::DOCUMENT, |out| self.fields(raw, node, out));
            }
            (None, Value::Array(array)) => {
                out.nested(field.key, tag::ARRAY, |out| self.elements(array, node, out));
            }
            // The path leads on, the value does not.
            (None, _) if self.inclusive => {}
            _ => out.copy(field),
        }
    }

    fn elements(&self, array: Raw<'_>, node: &Node, out: &mut Builder) {
        for element in array {
            match element.value() {
                Value::Document(raw) => {
                    out.push_nested(tag::DOCUMENT, |out| self.fields(raw, node, out));
                }
                Value::Array(inner) => {
                    out.push_nested(tag::ARRAY, |out| self.elements(inner, node, out));
                }
                _ if self.inclusive => {}
                _ => out.push(&element),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Limits as FilterLimits, parse};

    fn project(document: &str, filter: &str, spec: &str) -> Result<String> {
        let document = Document::from_json(document.as_bytes(), Limits::default()).unwrap();
        let filter = parse(&filter.to_owned().into(), &FilterLimits::default()).unwrap();
        let projection = Projection::parse(&spec.to_owned().into(), Limits::default())?;
        let projected = projection.apply(&document, &filter, &Steps::endless());
        crate::value::raw::validate(projected.bytes(), 100).unwrap();
        Ok(String::from_utf8(projected.to_json()).unwrap())
    }

    #[track_caller]
    fn check(document: &str, spec: &str, expected: &str) {
        assert_eq!(project(document, "{}", spec).unwrap(), expected, "{spec}");
    }

    #[test]
    fn what_would_cost_more_than_any_document_is_worth_is_refused() {
        let deep = vec!["a"; 500_000].join(".");
        refuses(&format!("{{\"{deep}\":1}}"), "A path of more than 100 steps in a projection");
        let wide: Vec<String> = (0..=FIELDS_MAX).map(|n| format!("\"f{n}\":1")).collect();
        refuses(&format!("{{{}}}", wide.join(",")), "A projection of more than 10000 fields");
        check("{\"a\":1}", &format!("{{\"{}\":1}}", vec!["a"; 100].join(".")), "{}");
    }

    #[track_caller]
    fn refuses(spec: &str, expected: &str) {
        assert_eq!(project("{}", "{}", spec).unwrap_err().to_string(), expected);
    }

    const PERSON: &str = "{'_id': 1, name: 'A', age: 3, home: {city: 'X', zip: 1}, l: [{a: 1, b: 2}, 5, [{a: 3, b: 4}]]}";

    #[test]
    fn fields_are_included_or_excluded() {
        check(PERSON, "{name: 1}", r#"{"_id":1,"name":"A"}"#);
        check(PERSON, "{name: true, '_id': 0}", r#"{"name":"A"}"#);
        check(PERSON, "{'_id': 1}", r#"{"_id":1}"#);
        check(PERSON, "{'_id': 0, home: 0, l: 0}", r#"{"name":"A","age":3}"#);
        check(PERSON, "{home: 0, l: 0, '_id': 1}", r#"{"_id":1,"name":"A","age":3}"#);
        check("{a: 1}", "{}", r#"{"a":1}"#);
        check("{'_id': 1, a: 1}", "{'_id': 0}", r#"{"a":1}"#);
    }

    #[test]
    fn dotted_paths_map_over_arrays() {
        check(PERSON, "{'home.city': 1}", r#"{"_id":1,"home":{"city":"X"}}"#);
        check(PERSON, "{'home.city': 0, l: 0}", r#"{"_id":1,"name":"A","age":3,"home":{"zip":1}}"#);
        check(PERSON, "{'l.a': 1, '_id': 0}", r#"{"l":[{"a":1},[{"a":3}]]}"#);
        check(
            PERSON,
            "{'l.a': 0, '_id': 0, home: 0}",
            r#"{"name":"A","age":3,"l":[{"b":2},5,[{"b":4}]]}"#,
        );
        check(PERSON, "{'age.x': 1, '_id': 0}", "{}");
    }

    #[test]
    fn what_a_projection_needs_is_known() {
        let fields = |spec: &str| {
            let parsed = Projection::parse(&spec.to_owned().into(), Limits::default()).unwrap();
            let texts = |fields: Vec<Path>| {
                fields.iter().map(|path| path.text().to_owned()).collect::<Vec<_>>()
            };
            parsed.fields().map(texts)
        };
        let known = |paths: &[&str]| Some(paths.iter().map(|path| (*path).to_owned()).collect());
        assert_eq!(fields("{a: 1, 'b.c': 1, '_id': 0}"), known(&["a", "b.c"]));
        assert_eq!(fields("{'_id': 1}"), known(&["_id"]));
        assert_eq!(fields("{a: 1}"), known(&["a", "_id"]));
        for more in ["{a: 0}", "{}", "{a: {$slice: 1}}", "{a: 1, b: {$slice: 1}}", "{'a.$': 1}"] {
            assert_eq!(fields(more), None, "{more}");
        }
    }

    #[test]
    fn slices_count_from_either_end() {
        let list = "{'_id': 1, l: [1, 2, 3, 4], o: 'x'}";
        check(list, "{l: {$slice: 2}}", r#"{"_id":1,"l":[1,2],"o":"x"}"#);
        check(list, "{l: {$slice: -1}}", r#"{"_id":1,"l":[4],"o":"x"}"#);
        check(list, "{l: {$slice: [1, 2]}, '_id': 0}", r#"{"l":[2,3],"o":"x"}"#);
        check(list, "{l: {$slice: [-3, 2]}, '_id': 0}", r#"{"l":[2,3],"o":"x"}"#);
        check(list, "{l: {$slice: [-9, 2]}, o: 1}", r#"{"_id":1,"l":[1,2],"o":"x"}"#);
        check(list, "{l: {$slice: 0}, o: 0}", r#"{"_id":1,"l":[]}"#);
        check(list, "{o: {$slice: 1}}", r#"{"_id":1,"l":[1,2,3,4],"o":"x"}"#);
    }

    #[test]
    fn a_positional_projection_gives_the_element_that_matched() {
        let grades = "{'_id': 1, g: [70, 85, 90], x: 1}";
        let project = |filter| project(grades, filter, "{'g.$': 1}").unwrap();
        assert_eq!(project("{g: {$gte: 80}}"), r#"{"_id":1,"g":[85]}"#);
        assert_eq!(project("{g: {$elemMatch: {$gt: 85}}}"), r#"{"_id":1,"g":[90]}"#);
        assert_eq!(project("{x: 1}"), r#"{"_id":1,"g":[70]}"#);
    }

    #[test]
    fn bad_projections_are_refused_by_name() {
        refuses(
            "{a: 1, b: 0}",
            "Cannot mix inclusion and exclusion in projection spec (except _id: 0)",
        );
        refuses(
            "{'a.$.b': 1}",
            "The positional operator $ can only appear at the end of the field path: a.$.b",
        );
        refuses(
            "{'a.$': 1, 'b.$': 1}",
            "Only one positional $ operator is allowed in the projection spec",
        );
        refuses(
            "{a: {$elemMatch: {b: 1}}}",
            "Unsupported projection operator for field 'a': only $slice is supported",
        );
        refuses(
            "{a: {b: 1}}",
            "Unsupported projection operator for field 'a': only $slice is supported",
        );
        refuses(
            "{a: 'x'}",
            "Unsupported projection operator for field 'a': only $slice is supported",
        );
        refuses(
            "{'a.$': 1, b: {$slice: 1}}",
            "$slice cannot be combined with the positional $ operator in the same projection spec",
        );
        refuses("{a: {$slice: [1, 0]}}", "$slice limit must be positive: a");
        refuses("{a: {$slice: [1, -1]}}", "$slice limit must be positive: a");
        refuses("{a: {$slice: 'x'}}", "$slice on 'a' must be a number or [skip, limit]");
        refuses("{a: {$slice: [1]}}", "$slice on 'a' must be a number or [skip, limit]");
        refuses("{a: {$slice: 1}, 'a.b': 1}", "$slice on 'a' collides with projecting field 'a.b'");
        refuses(
            "{a: 1",
            "Invalid PROJECTION: Invalid JSON: expected ',' or '}', found the end at line 1 column 6",
        );
    }
}
