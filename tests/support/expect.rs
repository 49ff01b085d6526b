//! The expectations of the shared cases: what a reply must look like.

use serde_json::Value as Json;
use serde_yaml_ng::{Mapping, Value as Yaml};

use crate::client::Value;

/// Holds, or the reason why it does not.
pub(crate) type Verdict = Result<(), String>;

impl Value {
    /// The text of a simple or bulk string; None of every other type.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Value::Simple(text) | Value::Verbatim(text) => Some(text.clone()),
            Value::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }

    /// The elements of an array, or of a map laid flat as RESP2 has it.
    pub(crate) fn elements(&self) -> Option<Vec<Value>> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items.clone()),
            Value::Map(pairs) => {
                Some(pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect())
            }
            _ => None,
        }
    }

    /// The value of a field of a map, in either of its two forms.
    pub(crate) fn field(&self, name: &str) -> Option<Value> {
        let flat = self.elements()?;
        let (pairs, _) = flat.as_chunks::<2>();
        pairs.iter().find(|[key, _]| key.text().as_deref() == Some(name)).map(|[_, v]| v.clone())
    }
}

/// Compares a reply with an `expect` mapping. `${ns}` has been replaced already.
pub(crate) fn check(expected: &Yaml, reply: &Value) -> Verdict {
    let mapping = expected.as_mapping().ok_or("an expectation is a mapping")?;
    let ordered = matches!(mapping.get("ordered"), Some(Yaml::Bool(true)));
    let mut kinds = 0;
    for (kind, wanted) in mapping {
        let kind = kind.as_str().ok_or("an expectation has a name")?;
        if kind != "ordered" {
            kinds += 1;
            check_one(kind, wanted, ordered, reply)?;
        }
    }
    if kinds == 0 { Err("the expectation is empty".to_owned()) } else { Ok(()) }
}

fn check_one(kind: &str, wanted: &Yaml, ordered: bool, reply: &Value) -> Verdict {
    let text = || wanted.as_str().map(str::to_owned).ok_or(format!("`{kind}` takes a text"));
    let integer = || wanted.as_i64().ok_or(format!("`{kind}` takes an integer"));
    let holds = match kind {
        "ok" => *reply == Value::Simple("OK".to_owned()),
        "simple" => *reply == Value::Simple(text()?),
        "bulk" => *reply == Value::Bulk(text()?.into_bytes()),
        "int" => *reply == Value::Integer(integer()?),
        "int_min" => matches!(reply, Value::Integer(found) if *found >= integer()?),
        "double" => same_double(wanted.as_f64().ok_or("`double` takes a number")?, reply),
        "null" => *reply == Value::Null,
        "error" => *reply == Value::Error(text()?),
        "error_prefix" => {
            let code = text()?;
            matches!(reply, Value::Error(found) if found.split(' ').next() == Some(&code))
        }
        "array" => return check_array(wanted, reply),
        "array_len" => {
            let length = usize::try_from(integer()?).map_err(|error| error.to_string())?;
            reply.elements().is_some_and(|items| items.len() == length)
        }
        "any" => !matches!(reply, Value::Error(_)),
        "contains" => as_text(reply).contains(&text()?),
        "json_docs" => return check_documents(wanted, ordered, reply),
        "json_exact" => {
            let wanted: Json = json_of(wanted)?;
            let Value::Bulk(bytes) = reply else { return Err(different(&wanted, reply)) };
            serde_json::from_slice::<Json>(bytes).is_ok_and(|found| found == wanted)
        }
        _ => return Err(format!("the runner does not know `{kind}`")),
    };
    if holds { Ok(()) } else { Err(different(&(kind, wanted), reply)) }
}

fn check_array(wanted: &Yaml, reply: &Value) -> Verdict {
    let wanted = wanted.as_sequence().ok_or("`array` takes a list")?;
    let found = reply.elements().ok_or_else(|| different(&wanted, reply))?;
    if found.len() != wanted.len() {
        return Err(different(&wanted, reply));
    }
    wanted.iter().zip(&found).try_for_each(|(wanted, found)| check(wanted, found))
}

/// The same number of documents, and each expected one matched by a document of its own.
fn check_documents(wanted: &Yaml, ordered: bool, reply: &Value) -> Verdict {
    let wanted: Vec<Json> = serde_json::from_value(json_of(wanted)?)
        .map_err(|error| format!("`json_docs` takes a list: {error}"))?;
    let found = documents(reply)?;
    let accepts: Vec<Vec<bool>> = wanted
        .iter()
        .map(|wanted| found.iter().map(|found| has_listed_keys(wanted, found)).collect())
        .collect();
    let holds = found.len() == wanted.len()
        && if ordered {
            (0..wanted.len()).all(|at| accepts[at][at])
        } else {
            perfect_matching(&accepts)
        };
    if holds { Ok(()) } else { Err(different(&wanted, reply)) }
}

/// The documents of a query reply: `[cursor_id, [bulk...]]`, or in RESP3 a map with `entries`.
fn documents(reply: &Value) -> Result<Vec<Json>, String> {
    let bad = || format!("not the reply of a query: {}", as_text(reply));
    let entries = match reply {
        Value::Map(_) => reply.field("entries").ok_or_else(bad)?,
        Value::Array(items) => items.get(1).cloned().ok_or_else(bad)?,
        _ => return Err(bad()),
    };
    let Value::Array(entries) = entries else { return Err(bad()) };
    let parse = |entry: &Value| match entry {
        Value::Bulk(bytes) => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        other => Err(format!("not a document: {other:?}")),
    };
    entries.iter().map(parse).collect()
}

fn has_listed_keys(wanted: &Json, found: &Json) -> bool {
    let Json::Object(wanted) = wanted else { return false };
    wanted
        .iter()
        .filter(|(key, _)| *key != "_id")
        .all(|(key, value)| found.get(key).is_some_and(|other| same(value, other)))
}

/// Equal as JSON, where `1` and `1.0` are the same number.
fn same(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(left), Json::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
        (Json::Array(left), Json::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(a, b)| same(a, b))
        }
        (Json::Object(left), Json::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, a)| right.get(key).is_some_and(|b| same(a, b)))
        }
        _ => left == right,
    }
}

/// Whether each row can have a column of its own (augmenting paths; the lists are short).
fn perfect_matching(accepts: &[Vec<bool>]) -> bool {
    fn place(
        row: usize,
        accepts: &[Vec<bool>],
        taken: &mut [Option<usize>],
        seen: &mut [bool],
    ) -> bool {
        for column in 0..taken.len() {
            if accepts[row][column] && !seen[column] {
                seen[column] = true;
                if taken[column].is_none_or(|other| place(other, accepts, taken, seen)) {
                    taken[column] = Some(row);
                    return true;
                }
            }
        }
        false
    }
    let columns = accepts.first().map_or(0, Vec::len);
    let mut taken = vec![None; columns];
    (0..accepts.len()).all(|row| place(row, accepts, &mut taken, &mut vec![false; columns]))
}

fn same_double(wanted: f64, reply: &Value) -> bool {
    match reply {
        Value::Double(found) => wanted.total_cmp(found).is_eq(),
        Value::Bulk(bytes) => {
            std::str::from_utf8(bytes).is_ok_and(|text| text.parse() == Ok(wanted))
        }
        _ => false,
    }
}

/// A reply as one text, for `contains` and for messages.
pub(crate) fn as_text(reply: &Value) -> String {
    match reply {
        Value::Error(text) => format!("-{text}"),
        Value::Integer(number) => number.to_string(),
        Value::Null => "(nil)".to_owned(),
        Value::Double(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::BigNumber(text) => text.clone(),
        other => other.text().unwrap_or_else(|| {
            let items = other.elements().unwrap_or_default();
            format!("[{}]", items.iter().map(as_text).collect::<Vec<_>>().join(", "))
        }),
    }
}

fn json_of(yaml: &Yaml) -> Result<Json, String> {
    serde_json::to_value(yaml).map_err(|error| error.to_string())
}

fn different(wanted: &dyn std::fmt::Debug, reply: &Value) -> String {
    format!("wanted {wanted:?}, got {}", as_text(reply))
}

/// Replaces `${ns}` in every text of an expectation.
pub(crate) fn substitute(value: &Yaml, namespace: &str) -> Yaml {
    match value {
        Yaml::String(text) => Yaml::String(text.replace("${ns}", namespace)),
        Yaml::Sequence(items) => {
            Yaml::Sequence(items.iter().map(|item| substitute(item, namespace)).collect())
        }
        Yaml::Mapping(mapping) => Yaml::Mapping(
            mapping
                .iter()
                .map(|(key, value)| (key.clone(), substitute(value, namespace)))
                .collect::<Mapping>(),
        ),
        other => other.clone(),
    }
}

/// The runner's own checks: an expectation that accepts everything would hide every bug.
mod tests {
    use super::*;

    #[track_caller]
    fn verdict(expected: &str, reply: &Value) -> bool {
        check(&serde_yaml_ng::from_str(expected).expect("valid YAML"), reply).is_ok()
    }

    fn query(documents: &[&str]) -> Value {
        let entries = documents.iter().map(|text| Value::Bulk(text.as_bytes().to_vec())).collect();
        Value::Array(vec![Value::Integer(1), Value::Array(entries)])
    }

    #[test]
    fn simple_and_bulk_strings_are_not_the_same() {
        let simple = Value::Simple("OK".to_owned());
        let bulk = Value::Bulk(b"OK".to_vec());
        assert!(verdict("ok: true", &simple) && !verdict("ok: true", &bulk));
        assert!(verdict("bulk: OK", &bulk) && !verdict("bulk: OK", &simple));
        assert!(!verdict("any: true", &Value::Error("ERR x".to_owned())));
        assert!(!verdict("{}", &simple));
        assert!(!verdict("unheard_of: 1", &simple));
    }

    #[test]
    fn an_error_matches_whole_and_its_prefix_as_a_word() {
        let error = Value::Error("NOSUCHBUCKET No such bucket: 'a'".to_owned());
        assert!(verdict("error_prefix: NOSUCHBUCKET", &error));
        assert!(!verdict("error_prefix: NOSUCH", &error));
        assert!(!verdict("error: NOSUCHBUCKET", &error));
    }

    #[test]
    fn documents_match_one_to_one_on_the_listed_keys() {
        let reply = query(&[r#"{"_id":"x","a":1,"b":2}"#, r#"{"_id":"y","a":1}"#]);
        assert!(verdict("json_docs: [{a: 1}, {a: 1.0, b: 2}]", &reply));
        assert!(verdict("{json_docs: [{a: 1, b: 2}, {a: 1}], ordered: true}", &reply));
        assert!(!verdict("{json_docs: [{a: 1}, {a: 1, b: 2}], ordered: true}", &reply));
        assert!(!verdict("json_docs: [{a: 1}]", &reply));
        assert!(!verdict("json_docs: [{a: 1, b: 2}, {a: 1, b: 2}]", &reply));
        assert!(verdict("json_docs: []", &query(&[])));
    }
}
