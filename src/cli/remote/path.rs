use std::fmt;
use std::str::FromStr;

pub(super) use crate::cli::shown::escape;
use crate::codec::{BucketId, NamespaceId, RemovalId};

/// What an argument names: `namespace/bucket`, `bucket`, `namespace/`, `/`, or an id.
///
/// Namespaces are paths with dots, so the first slash ends them; one that belongs
/// to a namespace is written `\/`, a backslash `\\`, and any character `\u{..}`: as
/// they are shown, so that what was shown can be typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Above all namespaces.
    Root,
    Namespace(String),
    Bucket {
        /// `None`: the one that the connection is in.
        namespace: Option<String>,
        bucket: String,
    },
    /// An instance of a bucket.
    BucketId(String),
    /// An instance of a namespace.
    NamespaceId(String),
    /// A removal of either.
    Removal(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty; give namespace/bucket, bucket, or namespace/".to_owned());
        }
        if text == "/" {
            return Ok(Self::Root);
        }
        if RemovalId::parse(text).is_some() {
            return Ok(Self::Removal(text.to_owned()));
        }
        if BucketId::parse(text).is_some() {
            return Ok(Self::BucketId(text.to_owned()));
        }
        if NamespaceId::parse(text).is_some() {
            return Ok(Self::NamespaceId(text.to_owned()));
        }
        let (namespace, bucket) = split(text)?;
        match (namespace, bucket) {
            (Some(namespace), _) if namespace.is_empty() => {
                Err("it names no namespace in front of the slash".to_owned())
            }
            (Some(namespace), bucket) if bucket.is_empty() => Ok(Self::Namespace(namespace)),
            (namespace, bucket) => Ok(Self::Bucket { namespace, bucket }),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("/"),
            Self::Namespace(namespace) => f.write_str(&path(namespace, None)),
            Self::Bucket { namespace: Some(namespace), bucket } => {
                f.write_str(&path(namespace, Some(bucket)))
            }
            Self::Bucket { namespace: None, bucket } => {
                f.write_str(&escape(bucket).replace('/', "\\/"))
            }
            Self::BucketId(id) | Self::NamespaceId(id) | Self::Removal(id) => f.write_str(id),
        }
    }
}

/// A bucket, or with `None` the namespace itself, as [`Place`] reads it.
pub(super) fn path(namespace: &str, bucket: Option<&str>) -> String {
    let namespace = escape(namespace).replace('/', "\\/");
    format!("{namespace}/{}", escape(bucket.unwrap_or_default()))
}

/// Takes the escapes out, and ends the namespace at the first slash that has none.
fn split(text: &str) -> Result<(Option<String>, String), String> {
    let (mut namespace, mut name) = (None, String::new());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '/' if namespace.is_none() => namespace = Some(std::mem::take(&mut name)),
            '\\' => {
                let escaped = match letters.next() {
                    Some(same @ ('\\' | '/')) => Some(same),
                    Some('u') => code_point(&mut letters),
                    _ => None,
                };
                name.push(escaped.ok_or(
                    "a backslash is written \\\\, a slash in a namespace \\/, any character \\u{..}",
                )?);
            }
            other => name.push(other),
        }
    }
    Ok((namespace, name))
}

/// The rest of `\u{..}`.
fn code_point(letters: &mut std::str::Chars<'_>) -> Option<char> {
    let (digits, rest) = letters.as_str().strip_prefix('{')?.split_once('}')?;
    *letters = rest.chars();
    char::from_u32(u32::from_str_radix(digits, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(namespace: Option<&str>, bucket: &str) -> Place {
        Place::Bucket { namespace: namespace.map(str::to_owned), bucket: bucket.to_owned() }
    }

    #[test]
    fn paths_are_read_and_shown_so_that_they_read_back() {
        for (text, place) in [
            ("/", Place::Root),
            ("users", bucket(None, "users")),
            ("a.b/users", bucket(Some("a.b"), "users")),
            ("a.b/", Place::Namespace("a.b".to_owned())),
            ("a/b/c", bucket(Some("a"), "b/c")),
            ("a\\/b/c", bucket(Some("a/b"), "c")),
            ("a\\\\/", Place::Namespace("a\\".to_owned())),
            ("n/\\u{202e}x", bucket(Some("n"), "\u{202e}x")),
            ("a\\/b", bucket(None, "a/b")),
            ("größe/日本", bucket(Some("größe"), "日本")),
            ("b's/\"x\"", bucket(Some("b's"), "\"x\"")),
        ] {
            assert_eq!(text.parse::<Place>(), Ok(place.clone()), "{text}");
            assert_eq!(place.to_string().parse(), Ok(place), "{text}");
        }
        for text in ["", "/users", "a\\b", "a\\", "\\u{zz}", "\\u{110000}", "\\u41"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
