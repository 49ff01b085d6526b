//! Collation: ordering strings as the readers of a language do.
//!
//! A [`Collation`] says how; a [`Collator`] does it, by ICU4X with the data of
//! CLDR compiled in. Without one, strings are ordered by their UTF-8 bytes.
//!
//! A sort key is bytes in the order of the strings, which is what an index
//! stores. Its bytes may change with the data: [`DATA_VERSION`] names the one
//! that this program has, and keys written under another must be written anew.
//!
//! Not here: which collation a query or an index has (`query`, `index`).

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use icu_collator::options::{
    AlternateHandling, CaseLevel, CollatorOptions, MaxVariable as IcuMaxVariable, Strength,
};
use icu_collator::preferences::{CollationCaseFirst, CollationNumericOrdering};
use icu_collator::{CollatorBorrowed, CollatorPreferences};
use icu_locale_core::{Locale, extensions::unicode::key};
use quick_cache::sync::Cache;

pub use crate::codec::collation::{Alternate, CaseFirst, Collation, MaxVariable, Word};

use super::{Raw, Value};

/// The data that sort keys are made of: the version of ICU4X, whose minor
/// versions bring new data of Unicode and CLDR.
pub const DATA_VERSION: &str = "icu4x-2.4";

/// Whether the data of this program is newer than other data.
#[must_use]
pub fn is_newer_than(other: &str) -> bool {
    let numbers = |data: &str| -> Vec<u32> {
        let version = data.strip_prefix("icu4x-").unwrap_or_default();
        version.split('.').filter_map(|number| number.parse().ok()).collect()
    };
    numbers(DATA_VERSION) > numbers(other)
}

/// What is wrong with a collation. The messages are what the client reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollationError {
    /// Not an object, or a value of the wrong type.
    #[error("Invalid collation specification")]
    Invalid,
    /// A setting that there is not.
    #[error("Unknown collation field: {0}")]
    UnknownField(String),
    /// No locale.
    #[error("Collation 'locale' is required")]
    NoLocale,
    /// Not a language tag, or one of a language whose order is not known.
    #[error("Invalid collation locale: {0}")]
    Locale(String),
    /// A strength that there is not.
    #[error("Collation 'strength' must be between 1 and 5, got: {0}")]
    Strength(String),
    /// A word that the setting does not take.
    #[error("Collation '{field}' must be one of {allowed}, got: {got}")]
    Word { field: &'static str, allowed: String, got: String },
    /// Which way accents are compared comes with the locale.
    #[error(
        "Collation 'backwards' cannot be {0} for locale '{1}': only 'fr-CA' compares accents backwards, and always does"
    )]
    Backwards(bool, String),
    /// Settings beside `{"locale": "simple"}`, which has none.
    #[error("Collation locale 'simple' takes no other fields")]
    Simple,
}

type Result<T> = std::result::Result<T, CollationError>;

/// Reads a collation. `{"locale": "simple"}` is `None`: by bytes, whatever the
/// bucket's default says.
///
/// What is not said gets the default of the locale, so that what is read is
/// complete and two of them can be compared.
///
/// # Errors
/// In the words of the contract.
pub fn parse(value: &Value<'_>) -> Result<Option<Collation>> {
    let Value::Document(raw) = value else { return Err(CollationError::Invalid) };
    let said = Said::read(*raw)?;
    let written = said.locale.ok_or(CollationError::NoLocale)?;
    if written == "simple" {
        return if raw.iter().count() == 1 { Ok(None) } else { Err(CollationError::Simple) };
    }
    let locale = locale(written)?;
    let backwards = locale.to_string().starts_with("fr-CA");
    if let Some(asked) = said.backwards
        && asked != backwards
    {
        return Err(CollationError::Backwards(asked, written.to_owned()));
    }
    let (preferences, options) = said.settings(&locale);
    let collator = CollatorBorrowed::try_new(preferences, options)
        .map_err(|_| CollationError::Locale(written.to_owned()))?;
    let resolved = collator.resolved_options();
    Ok(Some(Collation {
        locale: locale.to_string(),
        strength: match resolved.strength {
            Strength::Primary => 1,
            Strength::Secondary => 2,
            Strength::Quaternary => 4,
            Strength::Identical => 5,
            _ => 3,
        },
        case_level: resolved.case_level == CaseLevel::On,
        case_first: match resolved.case_first {
            CollationCaseFirst::Upper => CaseFirst::Upper,
            CollationCaseFirst::Lower => CaseFirst::Lower,
            _ => CaseFirst::Off,
        },
        numeric_ordering: resolved.numeric == CollationNumericOrdering::True,
        alternate: match resolved.alternate_handling {
            AlternateHandling::Shifted => Alternate::Shifted,
            _ => Alternate::NonIgnorable,
        },
        backwards,
        normalization: said.normalization.unwrap_or(false),
        max_variable: match resolved.max_variable {
            IcuMaxVariable::Space => MaxVariable::Space,
            _ => MaxVariable::Punct,
        },
    }))
}

/// What a specification says, and what it leaves to the locale.
#[derive(Default)]
struct Said<'a> {
    locale: Option<&'a str>,
    strength: Option<u8>,
    case_level: Option<bool>,
    case_first: Option<CaseFirst>,
    numeric_ordering: Option<bool>,
    alternate: Option<Alternate>,
    backwards: Option<bool>,
    normalization: Option<bool>,
    max_variable: Option<MaxVariable>,
}

impl<'a> Said<'a> {
    fn read(raw: Raw<'a>) -> Result<Self> {
        let mut said = Self::default();
        for field in raw {
            let value = field.value();
            match field.key {
                b"locale" => said.locale = Some(text(&value)?),
                b"strength" => said.strength = Some(strength(&value)?),
                b"case_level" => said.case_level = Some(flag(&value)?),
                b"case_first" => said.case_first = Some(word("case_first", &value)?),
                b"numeric_ordering" => said.numeric_ordering = Some(flag(&value)?),
                b"alternate" => said.alternate = Some(word("alternate", &value)?),
                b"backwards" => said.backwards = Some(flag(&value)?),
                b"normalization" => said.normalization = Some(flag(&value)?),
                b"max_variable" => said.max_variable = Some(word("max_variable", &value)?),
                name => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    return Err(CollationError::UnknownField(name));
                }
            }
        }
        Ok(said)
    }

    fn settings(&self, locale: &Locale) -> (CollatorPreferences, CollatorOptions) {
        let mut preferences = CollatorPreferences::from(locale);
        preferences.case_first = self.case_first.map(|first| match first {
            CaseFirst::Upper => CollationCaseFirst::Upper,
            CaseFirst::Lower => CollationCaseFirst::Lower,
            CaseFirst::Off => CollationCaseFirst::False,
        });
        preferences.numeric_ordering = self.numeric_ordering.map(|numeric| {
            if numeric { CollationNumericOrdering::True } else { CollationNumericOrdering::False }
        });
        let mut options = CollatorOptions::default();
        options.strength = self.strength.map(|strength| match strength {
            1 => Strength::Primary,
            2 => Strength::Secondary,
            4 => Strength::Quaternary,
            5 => Strength::Identical,
            _ => Strength::Tertiary,
        });
        options.case_level =
            self.case_level.map(|on| if on { CaseLevel::On } else { CaseLevel::Off });
        options.alternate_handling = self.alternate.map(|alternate| match alternate {
            Alternate::Shifted => AlternateHandling::Shifted,
            Alternate::NonIgnorable => AlternateHandling::NonIgnorable,
        });
        options.max_variable = self.max_variable.map(|variable| match variable {
            MaxVariable::Space => IcuMaxVariable::Space,
            MaxVariable::Punct => IcuMaxVariable::Punctuation,
        });
        (preferences, options)
    }
}

fn text<'a>(value: &Value<'a>) -> Result<&'a str> {
    match value {
        Value::String(text) => std::str::from_utf8(text).map_err(|_| CollationError::Invalid),
        _ => Err(CollationError::Invalid),
    }
}

fn flag(value: &Value<'_>) -> Result<bool> {
    match value {
        Value::Boolean(flag) => Ok(*flag),
        _ => Err(CollationError::Invalid),
    }
}

fn strength(value: &Value<'_>) -> Result<u8> {
    let number = match *value {
        Value::Int32(number) => i64::from(number),
        Value::Int64(number) => number,
        Value::Double(number) => {
            let whole = (1_u8..=5).find(|whole| f64::from(*whole).to_bits() == number.to_bits());
            return whole.ok_or_else(|| CollationError::Strength(number.to_string()));
        }
        _ => return Err(CollationError::Invalid),
    };
    u8::try_from(number)
        .ok()
        .filter(|strength| (1..=5).contains(strength))
        .ok_or_else(|| CollationError::Strength(number.to_string()))
}

fn word<T: Word>(field: &'static str, value: &Value<'_>) -> Result<T> {
    let got = text(value)?;
    T::parse(got).ok_or_else(|| {
        let allowed: Vec<_> = T::WORDS.iter().map(|(_, word)| format!("'{word}'")).collect();
        CollationError::Word { field, allowed: allowed.join(", "), got: got.to_owned() }
    })
}

/// A language tag, with `_` as well as `-`, of a language whose order is known,
/// and with no setting in it that has a field of its own.
fn locale(written: &str) -> Result<Locale> {
    let invalid = || CollationError::Locale(written.to_owned());
    if written == "root" {
        return Ok(Locale::UNKNOWN);
    }
    let locale = Locale::try_from_str(&written.replace('_', "-")).map_err(|_| invalid())?;
    let extensions = &locale.extensions;
    let plain = extensions.transform.is_empty()
        && extensions.private.is_empty()
        && extensions.other.is_empty()
        && extensions.unicode.attributes.is_empty()
        && extensions.unicode.keywords.iter().all(|(key, _)| *key == key!("co"));
    let language = locale.id.language;
    let known = LANGUAGES.binary_search(&language.as_str()).is_ok();
    let order = extensions.unicode.keywords.get(&key!("co")).map(ToString::to_string);
    let known_order = order.is_none_or(|order| ORDERS.contains(&order.as_str()));
    if plain && known && known_order { Ok(locale) } else { Err(invalid()) }
}

/// The languages that CLDR has an order for, be it that of the root. Others
/// are refused: a mistyped language would silently be ordered like none.
const LANGUAGES: &[&str] = &[
    "af", "am", "ar", "as", "az", "be", "bg", "bn", "bo", "br", "bs", "ca", "ceb", "chr", "ckb",
    "cs", "cy", "da", "de", "dsb", "dz", "ee", "el", "en", "eo", "es", "et", "eu", "fa", "ff",
    "fi", "fil", "fo", "fr", "fy", "ga", "gl", "gu", "ha", "haw", "he", "hi", "hr", "hsb", "hu",
    "hy", "id", "ig", "is", "it", "ja", "ka", "kk", "kl", "km", "kn", "ko", "kok", "ku", "ky",
    "lb", "lij", "lkt", "ln", "lo", "lt", "lv", "mk", "ml", "mn", "mr", "ms", "mt", "my", "nb",
    "ne", "nl", "nn", "no", "nso", "om", "or", "pa", "pl", "ps", "pt", "ro", "ru", "sa", "se",
    "si", "sk", "sl", "smn", "sq", "sr", "ssy", "sv", "sw", "ta", "te", "tg", "th", "tk", "tn",
    "to", "tr", "ug", "uk", "und", "ur", "uz", "vi", "vo", "wae", "wo", "xh", "yi", "yo", "zh",
    "zu",
];

/// Orders that a language may have beside its usual one, as `-u-co-`.
const ORDERS: &[&str] = &[
    "compat", "dict", "eor", "phonebk", "pinyin", "standard", "stroke", "trad", "unihan", "zhuyin",
];

/// Compares strings by a collation. Cheap to clone; equal when the collations are.
#[derive(Clone)]
pub struct Collator(Arc<Built>);

struct Built {
    collation: Collation,
    icu: CollatorBorrowed<'static>,
}

/// Collators in use: few collations serve many queries.
static COLLATORS: LazyLock<Cache<Collation, Collator>> = LazyLock::new(|| Cache::new(128));

impl Collator {
    /// The collator of a collation, built once.
    ///
    /// # Errors
    /// When the locale is not a language tag, which none that [`parse`] has read is.
    pub fn of(collation: &Collation) -> Result<Self> {
        COLLATORS.get_or_insert_with(collation, || Self::build(collation))
    }

    fn build(collation: &Collation) -> Result<Self> {
        let locale = locale(&collation.locale)?;
        let said = Said {
            locale: None,
            strength: Some(collation.strength),
            case_level: Some(collation.case_level),
            case_first: Some(collation.case_first),
            numeric_ordering: Some(collation.numeric_ordering),
            alternate: Some(collation.alternate),
            backwards: None,
            normalization: None,
            max_variable: Some(collation.max_variable),
        };
        let (preferences, options) = said.settings(&locale);
        let icu = CollatorBorrowed::try_new(preferences, options)
            .map_err(|_| CollationError::Locale(collation.locale.clone()))?;
        Ok(Self(Arc::new(Built { collation: collation.clone(), icu })))
    }

    /// What it was built from.
    pub fn collation(&self) -> &Collation {
        &self.0.collation
    }

    /// The order of two strings in UTF-8.
    pub fn compare_strings(&self, left: &[u8], right: &[u8]) -> Ordering {
        self.0.icu.compare_utf8(left, right)
    }

    /// Appends bytes whose order is that of the strings; equal strings have the
    /// same. They have no end mark, and may hold any byte.
    pub fn sort_key(&self, text: &[u8], out: &mut Vec<u8>) {
        let Ok(()) = self.0.icu.write_sort_key_utf8_to(text, out);
    }
}

impl PartialEq for Collator {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.collation == other.0.collation
    }
}

impl Eq for Collator {}

impl std::fmt::Debug for Collator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Collator").field(&self.0.collation).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Document, doc};
    use proptest::prelude::*;

    fn read(spec: &Document) -> Result<Option<Collation>> {
        let bytes = bson::serialize_to_vec(spec).unwrap();
        parse(&Value::Document(Raw::new(&bytes).unwrap()))
    }

    fn collator(spec: &Document) -> Collator {
        Collator::of(&read(spec).unwrap().unwrap()).unwrap()
    }

    #[track_caller]
    fn refuses(spec: &Document, expected: &str) {
        assert_eq!(read(spec).unwrap_err().to_string(), expected);
    }

    #[track_caller]
    fn sorts(spec: &Document, words: &[&str]) {
        let collator = collator(spec);
        let mut sorted = words.to_vec();
        sorted.reverse();
        sorted.sort_by(|left, right| collator.compare_strings(left.as_bytes(), right.as_bytes()));
        assert_eq!(sorted, words, "{spec}");
    }

    #[test]
    fn what_is_left_out_comes_from_the_locale() {
        let german = read(&doc! {"locale": "de"}).unwrap().unwrap();
        assert_eq!((german.strength, german.case_first), (3, CaseFirst::Off));
        assert_eq!(german.alternate, Alternate::NonIgnorable);
        assert_eq!(german.max_variable, MaxVariable::Punct);
        let danish = read(&doc! {"locale": "da"}).unwrap().unwrap();
        assert_eq!(danish.case_first, CaseFirst::Upper);
        let thai = read(&doc! {"locale": "th"}).unwrap().unwrap();
        assert_eq!(thai.alternate, Alternate::Shifted);
        assert!(read(&doc! {"locale": "fr_CA"}).unwrap().unwrap().backwards);
        assert_eq!(read(&doc! {"locale": "simple"}), Ok(None));
        // Said or implied, it is the same collation.
        assert_eq!(read(&doc! {"locale": "da", "case_first": "upper"}).unwrap(), Some(danish));
        assert_eq!(
            read(&doc! {"locale": "en_us", "strength": 2.0}),
            read(&doc! {"strength": 2_i64, "locale": "en-US"})
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        refuses(&doc! {}, "Collation 'locale' is required");
        refuses(&doc! {"locale": 1}, "Invalid collation specification");
        refuses(&doc! {"locale": "en", "strength": "3"}, "Invalid collation specification");
        refuses(&doc! {"locale": "en", "extra": true}, "Unknown collation field: extra");
        refuses(
            &doc! {"locale": "en", "strength": 99},
            "Collation 'strength' must be between 1 and 5, got: 99",
        );
        refuses(
            &doc! {"locale": "en", "strength": 1.5},
            "Collation 'strength' must be between 1 and 5, got: 1.5",
        );
        refuses(
            &doc! {"locale": "en", "case_first": "bad"},
            "Collation 'case_first' must be one of 'upper', 'lower', 'off', got: bad",
        );
        refuses(
            &doc! {"locale": "en", "alternate": "x"},
            "Collation 'alternate' must be one of 'non-ignorable', 'shifted', got: x",
        );
        refuses(
            &doc! {"locale": "en", "max_variable": "x"},
            "Collation 'max_variable' must be one of 'punct', 'space', got: x",
        );
        for wrong in ["", "e", "english", "xx", "en-u-kn", "en-x-a", "de-u-co-nonsense", "e n"] {
            refuses(&doc! {"locale": wrong}, &format!("Invalid collation locale: {wrong}"));
        }
        refuses(
            &doc! {"locale": "fr", "backwards": true},
            "Collation 'backwards' cannot be true for locale 'fr': only 'fr-CA' compares accents backwards, and always does",
        );
        refuses(
            &doc! {"locale": "simple", "strength": 1},
            "Collation locale 'simple' takes no other fields",
        );
        assert_eq!(parse(&Value::Int32(1)), Err(CollationError::Invalid));
    }

    #[test]
    fn each_setting_changes_the_order() {
        sorts(&doc! {"locale": "en"}, &["a", "A", "ä", "b", "z"]);
        sorts(&doc! {"locale": "sv"}, &["a", "b", "z", "å", "ä", "ö"]);
        sorts(&doc! {"locale": "en", "case_first": "upper"}, &["A", "a", "B", "b"]);
        sorts(&doc! {"locale": "en", "numeric_ordering": true}, &["a2", "a10", "b1"]);
        sorts(&doc! {"locale": "en"}, &["a10", "a2", "b1"]);
        sorts(&doc! {"locale": "es-u-co-trad"}, &["polvo", "pollo"]);
        sorts(&doc! {"locale": "fr"}, &["cote", "coté", "côte", "côté"]);
        sorts(&doc! {"locale": "fr-CA"}, &["cote", "côte", "coté", "côté"]);
        let equal = |spec: &Document, left: &str, right: &str| {
            collator(spec).compare_strings(left.as_bytes(), right.as_bytes()).is_eq()
        };
        assert!(equal(&doc! {"locale": "en", "strength": 1}, "Résumé", "resume"));
        assert!(!equal(&doc! {"locale": "en", "strength": 2}, "Résumé", "resume"));
        assert!(equal(&doc! {"locale": "en", "strength": 2}, "Résumé", "résumé"));
        assert!(!equal(&doc! {"locale": "en", "strength": 1, "case_level": true}, "A", "a"));
        assert!(!equal(&doc! {"locale": "en", "strength": 5}, "a\u{1}", "a"));
        assert!(equal(&doc! {"locale": "en"}, "a\u{1}", "a"));
        let shifted = doc! {"locale": "en", "alternate": "shifted"};
        assert!(equal(&shifted, "black-bird", "blackbird"));
        let spaces = doc! {"locale": "en", "alternate": "shifted", "max_variable": "space"};
        assert!(!equal(&spaces, "black-bird", "blackbird"));
        // Turkish has a dotted and a dotless i, each with its capital.
        assert!(equal(&doc! {"locale": "tr", "strength": 2}, "ı", "I"));
        assert!(!equal(&doc! {"locale": "tr", "strength": 2}, "i", "I"));
    }

    #[test]
    fn a_collation_is_stored_as_it_is_and_a_collator_is_built_once() {
        let collation = read(&doc! {"locale": "th", "case_first": "lower"}).unwrap().unwrap();
        let stored = bson::serialize_to_vec(&collation).unwrap();
        assert_eq!(bson::deserialize_from_slice::<Collation>(&stored).unwrap(), collation);
        let (one, two) = (Collator::of(&collation).unwrap(), Collator::of(&collation).unwrap());
        assert!(Arc::ptr_eq(&one.0, &two.0));
        let broken = Collation { locale: "nonsense".into(), ..collation };
        assert!(Collator::of(&broken).is_err());
    }

    #[test]
    fn newer_data_is_known_by_its_numbers() {
        assert!(is_newer_than("icu4x-2.3") && is_newer_than("icu4x-1.10") && is_newer_than(""));
        assert!(!is_newer_than(DATA_VERSION));
        assert!(!is_newer_than("icu4x-2.10") && !is_newer_than("icu4x-3.0"));
    }

    /// Sort keys on disk are bytes of this data: whoever updates the crate must see this fail.
    #[test]
    fn the_data_version_is_that_of_the_crate() {
        let lock = include_str!("../../Cargo.lock");
        let minor = DATA_VERSION.replace("icu4x-", "") + ".";
        for name in ["icu_collator", "icu_collator_data"] {
            let after = lock.split(&format!("name = \"{name}\"\nversion = \"")).nth(1).unwrap();
            assert!(after.starts_with(&minor), "{name} is another version than {DATA_VERSION}");
        }
    }

    proptest! {
        #[test]
        fn sort_keys_are_in_the_order_of_the_strings(
            left in ".{0,12}", right in ".{0,12}", letters in "[a-bA-B\u{e4}\u{301} -]{0,6}",
            other in "[a-bA-B\u{e4}\u{301} -]{0,6}", which in 0..5_usize,
        ) {
            let spec = [
                doc! {"locale": "en", "strength": 1}, doc! {"locale": "de", "strength": 5},
                doc! {"locale": "fr-CA", "strength": 2}, doc! {"locale": "ja", "strength": 4},
                doc! {"locale": "th", "numeric_ordering": true, "case_level": true},
            ];
            let collator = collator(&spec[which]);
            for (left, right) in [(&left, &right), (&letters, &other), (&left, &left)] {
                let (mut left_key, mut right_key) = (Vec::new(), Vec::new());
                collator.sort_key(left.as_bytes(), &mut left_key);
                collator.sort_key(right.as_bytes(), &mut right_key);
                let order = collator.compare_strings(left.as_bytes(), right.as_bytes());
                prop_assert_eq!(left_key.cmp(&right_key), order, "{:?} {:?}", left, right);
            }
        }
    }
}
