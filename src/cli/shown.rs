//! Texts that others have written, so that a terminal may show them: nothing in them
//! moves the cursor, changes the direction of writing or is unseen.
//!
//! Not here: how results look (`remote::show`).

/// On one line, in which a backslash stands for itself only when it is doubled: a name
/// that was shown so can be typed.
pub(super) fn escape(text: &str) -> String {
    // Quotes are harmless, and the one thing that the library escapes all the same.
    escape_but(text, &['\'', '"'])
}

/// A message as it is, lines and backslashes too, but for what a terminal would obey.
#[must_use]
pub fn harmless(text: &str) -> String {
    escape_but(text, &['\'', '"', '\\', '\n', '\t'])
}

fn escape_but(text: &str, plain: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(plain) {
        let end = part.chars().next_back().filter(|letter| plain.contains(letter));
        let rest = end.map_or(part, |end| part.strip_suffix(end).unwrap_or(part));
        shown.extend(rest.escape_debug());
        shown.extend(end);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown_as_it_is() {
        for escape in [escape, harmless] {
            assert_eq!(escape("a\u{1b}[2J\u{7f}\u{9b}5n"), "a\\u{1b}[2J\\u{7f}\\u{9b}5n");
            assert_eq!(
                escape("\u{202e}\u{200b}\u{2028}\u{feff}"),
                "\\u{202e}\\u{200b}\\u{2028}\\u{feff}"
            );
            assert_eq!(escape("it's \"größe\" 日本"), "it's \"größe\" 日本");
        }
        assert_eq!(escape("a\tb\r\nc\\d"), "a\\tb\\r\\nc\\\\d");
        assert_eq!(harmless("a\tb\r\nc\\d"), "a\tb\\r\nc\\d");
    }
}
