use crate::error::{Error, Result};

/// One step of a path in an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A field by its name, or an element by its position.
    Name(Box<str>),
    /// `$`: the element that the filter matched.
    First,
    /// `$[]`: every element.
    Every,
    /// `$[id]`: the elements that the array filter `id` accepts.
    Filtered(Box<str>),
}

impl Step {
    fn parse(word: &str, path: &str) -> Result<Self> {
        let invalid =
            || Error::syntax(format!("Invalid positional operator '{word}' in path: {path}"));
        Ok(match word.strip_prefix('$') {
            None => Self::Name(word.into()),
            Some("") => Self::First,
            Some("[]") => Self::Every,
            Some(rest) => {
                let id = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                let id = id.filter(|id| is_identifier(id)).ok_or_else(invalid)?;
                Self::Filtered(id.into())
            }
        })
    }

    fn is_positional(&self) -> bool {
        !matches!(self, Self::Name(_))
    }
}

/// Whether this names an array filter.
pub(super) fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Takes a path apart.
pub(super) fn parse(operator: &str, path: &str, depth_max: usize) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for word in path.split('.') {
        if word.is_empty() {
            return Err(Error::syntax(format!("{operator} '{path}' contains an empty field name")));
        }
        if word.contains('\0') {
            return Err(Error::syntax(format!("{operator} '{path}' contains a zero byte")));
        }
        steps.push(Step::parse(word, path)?);
        if steps.len() > depth_max {
            return Err(Error::syntax(format!(
                "{operator} has a path of more than {depth_max} steps"
            )));
        }
    }
    let positional: Vec<&Step> = steps.iter().filter(|step| step.is_positional()).collect();
    if positional.len() > 1 {
        return Err(Error::syntax(format!(
            "Multiple positional operators not supported in path: {path}"
        )));
    }
    if let Some(first) = steps.first()
        && first.is_positional()
    {
        let word = path.split('.').next().unwrap_or_default();
        return Err(Error::syntax(format!("Invalid positional operator '{word}' in path: {path}")));
    }
    if matches!(steps.first(), Some(Step::Name(name)) if &**name == "_id") {
        return Err(Error::syntax(format!(
            "_id field is immutable and cannot be modified with {operator}"
        )));
    }
    Ok(steps)
}
