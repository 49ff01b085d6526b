//! Regular expressions: RE2's syntax by the crate `regex`, which takes linear
//! time whatever the pattern. No look-around, no back-references.

use regex::{Regex, RegexBuilder};

use crate::value::Value;

/// A compiled `$regex` with its options.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles. Options: `i` ignores case, `m` lets `^` and `$` match at
    /// lines, `s` lets `.` match line ends, `u` is always on.
    ///
    /// # Errors
    /// A message in the words of the contract.
    pub fn new(pattern: &str, options: &str, bytes_max: usize) -> Result<Self, String> {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(bytes_max).dfa_size_limit(bytes_max).nest_limit(100);
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
        Ok(Self(compiled))
    }

    /// Whether the value is a string in which it is found.
    pub fn accepts(&self, value: &Value<'_>) -> bool {
        let Value::String(text) = value else { return false };
        std::str::from_utf8(text).is_ok_and(|text| self.0.is_match(text))
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        self.0.as_str()
    }
}
