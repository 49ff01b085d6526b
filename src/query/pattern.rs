//! Regular expressions: RE2's syntax by the crate `regex`, which takes linear
//! time whatever the pattern. No look-around, no back-references.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Look, literal::Extractor};

use crate::value::Value;

/// A compiled `$regex` with its options.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    options: Box<str>,
    prefix: OnceLock<Option<Box<[u8]>>>,
}

/// Groups inside each other.
const NEST_MAX: u32 = 100;

impl Pattern {
    /// Compiles. Options: `i` ignores case, `m` lets `^` and `$` match at
    /// lines, `s` lets `.` match line ends, `u` is always on.
    ///
    /// # Errors
    /// A message in the words of the contract.
    pub fn new(pattern: &str, options: &str, bytes_max: usize) -> Result<Self, String> {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(bytes_max).dfa_size_limit(bytes_max).nest_limit(NEST_MAX);
        for option in options.chars() {
            match option {
                'i' => builder.case_insensitive(true),
                'm' => builder.multi_line(true),
                's' => builder.dot_matches_new_line(true),
                'u' => &mut builder,
                _ => return Err(format!("Unsupported $regex option: {option}")),
            };
        }
        let compiled = builder.build().map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("Invalid $regex pattern: it compiles to more than {limit} bytes")
            }
            // The crate draws the place under the pattern, over several lines: its last line says what it is.
            error => {
                let text = error.to_string();
                let what = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                format!("Invalid $regex pattern: {what}")
            }
        })?;
        Ok(Self { regex: compiled, options: options.into(), prefix: OnceLock::new() })
    }

    /// Whether the value is a string in which it is found.
    pub fn accepts(&self, value: &Value<'_>) -> bool {
        let Value::String(text) = value else { return false };
        std::str::from_utf8(text).is_ok_and(|text| self.regex.is_match(text))
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        self.regex.as_str()
    }

    /// What every string begins with in which it is found, as far as it says so.
    pub fn prefix(&self) -> Option<&[u8]> {
        self.prefix.get_or_init(|| self.find_prefix()).as_deref()
    }

    fn find_prefix(&self) -> Option<Box<[u8]>> {
        let hir = ParserBuilder::new()
            .case_insensitive(self.options.contains('i'))
            .multi_line(self.options.contains('m'))
            .dot_matches_new_line(self.options.contains('s'))
            .nest_limit(NEST_MAX)
            .build()
            .parse(self.text())
            .ok()?;
        if !hir.properties().look_set_prefix().contains(Look::Start) {
            return None;
        }
        let literals = Extractor::new().extract(&hir);
        let prefix = literals.longest_common_prefix()?;
        (!prefix.is_empty()).then(|| prefix.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, options: &str, expected: Option<&str>) {
        let pattern = Pattern::new(pattern, options, 1 << 20).unwrap();
        let prefix = pattern.prefix();
        assert_eq!(prefix, expected.map(str::as_bytes), "{pattern:?}");
    }

    #[test]
    fn only_an_anchored_pattern_tells_what_strings_begin_with() {
        check("^abc", "", Some("abc"));
        check("^abc*d", "", Some("ab"));
        check("^(abd|abc)x", "", Some("ab"));
        check("^a+b", "", Some("a"));
        check("^über.*", "", Some("über"));
        check("abc", "", None);
        check("^abc|d", "", None);
        check("^abc", "i", None);
        check("^abc", "m", None);
        check("(?i)^abc", "", None);
        check("^", "", None);
        check("^.a", "", None);
        check("^(?:abc)?d", "", None);
    }
}
