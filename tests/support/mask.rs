//! Gives what differs from run to run (ids, versions, times, addresses) a stable name in a transcript.

use std::collections::BTreeMap;

use regex::{Captures, Regex};

/// What is masked, under which name. Numbered by first appearance; `None`: not numbered.
const KINDS: &[(&str, bool, &str)] = &[
    ("cluster", true, r"\b[0-9a-f]{32}\b"),
    ("bucket", true, r"(?i)\bb_[0-9a-hjkmnp-tv-z]{26}\b"),
    ("namespace", true, r"(?i)\bn_[0-9a-hjkmnp-tv-z]{26}\b"),
    ("removal", true, r"(?i)\br_[0-9a-hjkmnp-tv-z]{26}\b"),
    // Versions begin with noughts, ids with the time.
    ("sequence", true, r"\b0000[0-9a-f]{20}\b"),
    ("document", true, r"\b[0-9a-f]{24}\b"),
    ("version", true, r"\b[0-9a-f]{20}\b"),
    ("time", false, r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?Z"),
    // Each script runs on all, and must read the same.
    ("store", false, r"\b(?:memory|embedded|foundationdb)\b"),
    ("milliseconds", false, r#""milliseconds"\n\s*\d+\) \(integer\) \d+"#),
    // On FoundationDB a node is told apart by its machine.
    ("address", false, r"\b(?:127\.0\.0\.1|MACHINE):\d+\b"),
];

/// The names given so far in one script, both ways.
#[derive(Debug)]
pub(crate) struct Masks {
    patterns: Vec<(&'static str, bool, Regex)>,
    /// The script itself: what its author wrote down is not masked.
    script: String,
    names: BTreeMap<String, String>,
}

impl Masks {
    pub(crate) fn new(script: &str) -> Masks {
        let machine = regex::escape(&gethostname::gethostname().to_string_lossy());
        let patterns = KINDS
            .iter()
            .map(|(kind, numbered, pattern)| {
                let pattern = pattern.replace("MACHINE", &machine);
                (*kind, *numbered, Regex::new(&pattern).expect("a valid pattern"))
            })
            .collect();
        Masks { patterns, script: script.to_owned(), names: BTreeMap::new() }
    }

    /// A reply with everything that differs from run to run under its name.
    pub(crate) fn hide(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        let Masks { patterns, script, names } = self;
        for (kind, numbered, pattern) in patterns {
            let replace = |found: &Captures<'_>| {
                let value = &found[0];
                if script.contains(value) {
                    return value.to_owned();
                }
                if !*numbered {
                    return format!("<{kind}>");
                }
                let next =
                    names.values().filter(|name| name.starts_with(&format!("<{kind}:"))).count()
                        + 1;
                names.entry(value.to_owned()).or_insert_with(|| format!("<{kind}:{next}>")).clone()
            };
            text = pattern.replace_all(&text, replace).into_owned();
        }
        text
    }

    /// A line of the script with the names put back to what they stand for.
    pub(crate) fn reveal(&self, line: &str) -> String {
        self.names.iter().fold(line.to_owned(), |line, (value, name)| line.replace(name, value))
    }
}

mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_name_and_what_the_script_wrote_stays() {
        let mut masks = Masks::new("65f0aaaaaaaaaaaaaaaaaaaa");
        let id = "r_0123456789abcdefghjkmnpqrs";
        assert_eq!(masks.hide(&format!("{id} {id}")), "<removal:1> <removal:1>");
        assert_eq!(masks.hide("r_0123456789abcdefghjkmnpqrt"), "<removal:2>");
        assert_eq!(masks.hide("65f0aaaaaaaaaaaaaaaaaaaa"), "65f0aaaaaaaaaaaaaaaaaaaa");
        assert_eq!(masks.hide("65f0aaaaaaaaaaaaaaaaaaab"), "<document:1>");
        assert_eq!(masks.hide("00000000000000010000ffff"), "<sequence:1>");
        assert_eq!(
            masks.hide("00000000000000010000 2026-01-02T03:04:05.678Z"),
            "<version:1> <time>"
        );
        assert_eq!(masks.reveal("BUCKET.PURGE <removal:1>"), format!("BUCKET.PURGE {id}"));
    }
}
