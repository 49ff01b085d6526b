//! Names of namespaces and buckets: what is a legal one.

use crate::codec::id;
use crate::error::{Error, Result};

/// Most bytes of a bucket name or of one segment of a namespace path.
pub const NAME_BYTES_MAX: usize = 255;
/// Most segments of a namespace path.
pub const DEPTH_MAX: usize = 10;
/// The segment that nobody may use.
pub const RESERVED_SEGMENT: &str = "__internal__";

/// Checks a text and gives what is wrong with it, if anything.
fn fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > NAME_BYTES_MAX {
        Some("it is longer than 255 bytes")
    } else if name.chars().any(char::is_control) {
        Some("it contains a control character")
    } else {
        None
    }
}

/// Reads a bucket name: UTF-8, 1 to 255 bytes, no control characters, not in
/// the form of an id.
///
/// # Errors
/// `ERR Invalid bucket name: ...` says what is wrong.
pub fn bucket(raw: &[u8]) -> Result<&str> {
    let wrong = |what: &str| Error::syntax(format!("Invalid bucket name: {what}"));
    let name = std::str::from_utf8(raw).map_err(|_| wrong("it is not UTF-8"))?;
    if let Some(fault) = fault(name) {
        return Err(wrong(fault));
    }
    if id::has_form_of_id(name) {
        return Err(wrong("it has the form of an id"));
    }
    Ok(name)
}

/// A legal namespace path: 1 to 10 segments between dots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path(String);

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// The reserved segment, a depth above 10, and `ERR Invalid namespace
    /// name: ...` for all else.
    pub fn parse(raw: &[u8]) -> Result<Self> {
        let wrong = |what: &str| Error::syntax(format!("Invalid namespace name: {what}"));
        let text = std::str::from_utf8(raw).map_err(|_| wrong("it is not UTF-8"))?;
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if text.split('.').any(|segment| segment == RESERVED_SEGMENT) {
            // A reserved name of hostile length is not echoed whole.
            let shown: String = text.chars().take(NAME_BYTES_MAX).collect();
            return Err(Error::syntax(format!("Namespace '{shown}' is reserved for internal use")));
        }
        if text.split('.').count() > DEPTH_MAX {
            return Err(Error::syntax(format!(
                "Namespace depth exceeds maximum allowed depth of {DEPTH_MAX}"
            )));
        }
        for segment in text.split('.') {
            match fault(segment) {
                Some("it is empty") => return Err(wrong("a segment is empty")),
                Some("it is longer than 255 bytes") => {
                    return Err(wrong("a segment is longer than 255 bytes"));
                }
                Some(fault) => return Err(wrong(fault)),
                None if id::has_form_of_id(segment) => {
                    return Err(wrong("a segment has the form of an id"));
                }
                None => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Its own name, without what is above it.
    #[must_use]
    pub fn last(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or_default()
    }

    /// The namespace above it; `None` of a topmost one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('.').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Its first segments, at least one.
    #[must_use]
    pub fn first(&self, segments: usize) -> Self {
        let first: Vec<&str> = self.segments().take(segments.max(1)).collect();
        Self(first.join("."))
    }

    /// Whether it is this namespace or lies below it.
    #[must_use]
    pub fn is_within(&self, above: &Self) -> bool {
        let rest = self.0.strip_prefix(&above.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_path(text: &str, expected: &str) {
        let actual = match Path::parse(text.as_bytes()) {
            Ok(path) => path.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected);
    }

    #[test]
    fn paths_have_one_to_ten_legal_segments() {
        check_path("a.b.c", "a.b.c");
        check_path("", "Invalid namespace name: it is empty");
        check_path("a..b", "Invalid namespace name: a segment is empty");
        check_path(".a", "Invalid namespace name: a segment is empty");
        check_path("a.__internal__", "Namespace 'a.__internal__' is reserved for internal use");
        check_path("a.b.c.d.e.f.g.h.i.j.k", "Namespace depth exceeds maximum allowed depth of 10");
        check_path("a\nb", "Invalid namespace name: it contains a control character");
    }

    #[test]
    fn a_path_knows_what_is_above_it() {
        let path = |text: &str| Path::parse(text.as_bytes()).unwrap();
        let deep = path("a.b.c");
        assert_eq!((deep.last(), deep.parent()), ("c", Some(path("a.b"))));
        assert_eq!((path("a").last(), path("a").parent()), ("a", None));
        assert_eq!(deep.first(2), path("a.b"));
        assert!(deep.is_within(&path("a")) && deep.is_within(&deep));
        assert!(!path("ab").is_within(&path("a")) && !path("a").is_within(&deep));
    }

    #[test]
    fn bucket_names_are_not_ids() {
        let id = crate::codec::BucketId(3).to_string();
        assert!(bucket(id.as_bytes()).is_err());
        assert!(bucket(id.to_lowercase().as_bytes()).is_err());
        assert!(bucket(b"b_1").is_ok());
        assert!(bucket(&[0xff]).is_err());
        assert!(bucket("x".repeat(256).as_bytes()).is_err());
        assert!(bucket("x".repeat(255).as_bytes()).is_ok());
    }
}
