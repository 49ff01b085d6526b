//! Lines that are seen also when a test passes: what was counted, what was skipped.

use std::io::Write as _;

/// Writes a line past the test runner, which keeps back what passing tests print.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("the standard error is open");
}

/// Says what was left out and why; `.ci/run` repeats it at its end.
pub(crate) fn skipped(what: &str) {
    say(&format!("SKIPPED: {what}"));
}
