use serde::{Deserialize, Serialize};

/// How strings are ordered: the nine settings, none left open.
///
/// Two collations order alike for certain when they are equal, so an index
/// serves a query only if theirs are. What is parsed and what it means is the
/// business of `value::collation`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Collation {
    /// A BCP 47 language tag, written the canonical way: `de-AT`, `es-u-co-trad`.
    pub locale: String,
    /// How much must be the same for two strings to be equal, 1 (letters) to 5 (every code point).
    pub strength: u8,
    /// Case tells strings apart although the strength does not.
    pub case_level: bool,
    /// Which case comes first among strings that differ in nothing else.
    pub case_first: CaseFirst,
    /// Digits are compared as numbers: `a2` before `a10`.
    pub numeric_ordering: bool,
    /// Whether spaces and punctuation count.
    pub alternate: Alternate,
    /// Accents are compared from the end of the string.
    pub backwards: bool,
    /// Strings are normalised before they are compared. They always are; this only keeps what was said.
    pub normalization: bool,
    /// What `shifted` passes over.
    pub max_variable: MaxVariable,
}

/// Values of `case_first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaseFirst {
    Upper,
    Lower,
    Off,
}

/// Values of `alternate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alternate {
    NonIgnorable,
    Shifted,
}

/// Values of `max_variable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaxVariable {
    Punct,
    Space,
}

/// A setting that takes one of a few words.
pub trait Word: Copy + PartialEq + 'static {
    /// The values in the order in which errors list them, each with its word.
    const WORDS: &'static [(Self, &'static str)];

    /// The value of a word.
    fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, text)| *text == word).map(|(value, _)| *value)
    }

    /// The word of a value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(value, _)| *value == self).map_or("", |(_, text)| text)
    }
}

impl Word for CaseFirst {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Upper, "upper"), (Self::Lower, "lower"), (Self::Off, "off")];
}

impl Word for Alternate {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::NonIgnorable, "non-ignorable"), (Self::Shifted, "shifted")];
}

impl Word for MaxVariable {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Punct, "punct"), (Self::Space, "space")];
}
