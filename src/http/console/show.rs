//! How numbers, sizes, times and names look.

use std::borrow::Cow;

use maud::{Markup, html};

use super::request::address;
use crate::codec::duration::{Retention, format_instant, parse_instant, parse_retention};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// A time this near is now.
const NOW: i64 = 10 * SECOND;

/// `12,345`.
pub(super) fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// `1 document`, `12,345 documents`.
pub(super) fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

pub(super) fn documents(count: i64) -> String {
    counted(count, "document", "documents")
}

/// `1.2 MB`, which stays on one line.
pub(super) fn size_text(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes.unsigned_abs() < 1_000 {
        return format!("{bytes}\u{a0}B");
    }
    // Rounded once, from the bytes, and before the unit is chosen, so that 999,999 is 1.0 MB.
    let rounded = |times: i128, unit: i128| (i128::from(bytes) * times + unit / 2).div_euclid(unit);
    let (mut unit, mut name) = (1, "B");
    for next in UNITS {
        if unit > 1 && rounded(1, unit).abs() < 1_000 {
            break;
        }
        (unit, name) = (unit * 1_000, next);
    }
    let tenths = rounded(10, unit);
    if tenths.abs() >= 1_000 {
        return format!("{}\u{a0}{name}", rounded(1, unit));
    }
    format!("{}.{}\u{a0}{name}", tenths / 10, tenths.abs() % 10)
}

/// A size, with the exact bytes beside it.
pub(super) fn size(bytes: i64) -> Markup {
    html! { span title={ (number(bytes)) " bytes" } { (size_text(bytes)) } }
}

/// A size that may not be known.
pub(super) fn maybe_size(bytes: Option<i64>) -> Markup {
    bytes.map_or_else(unknown, size)
}

/// What the engine or the command can't tell.
pub(super) fn unknown() -> Markup {
    html! { span class="quiet" title="not known" { "–" } }
}

/// Two units at most: `6 d 23 h`.
pub(super) fn span(milliseconds: i64) -> String {
    const UNITS: [(i64, &str); 5] =
        [(YEAR, "y"), (DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s")];
    let Some(at) = UNITS.iter().position(|(unit, _)| milliseconds >= *unit) else {
        return "0 s".to_owned();
    };
    let Some((unit, name)) = UNITS.get(at) else { return "0 s".to_owned() };
    let (whole, rest) = (milliseconds / unit, milliseconds % unit);
    match UNITS.get(at + 1) {
        // Seconds beside minutes say too much, and would change all the time.
        Some((smaller, small)) if rest >= *smaller && whole < 10 && *smaller > SECOND => {
            format!("{whole} {name} {} {small}", rest / smaller)
        }
        _ => format!("{whole} {name}"),
    }
}

fn moment(at: i64, text: &str) -> Markup {
    let exact = format_instant(at);
    html! { time class="whole" datetime=(exact) title=(readable(&exact)) { (text) } }
}

/// `2026-11-22 06:30:00 UTC` of an instant in ISO 8601.
pub(super) fn readable(exact: &str) -> String {
    let text = exact.split_once('.').map_or(exact, |(seconds, _)| seconds);
    format!("{} UTC", text.trim_end_matches('Z').replace('T', " "))
}

/// When it happened.
pub(super) fn ago(now: i64, at: Option<i64>) -> Markup {
    let Some(at) = at else { return unknown() };
    let passed = now.saturating_sub(at);
    match passed {
        ..NOW => moment(at, "just now"),
        NOW..MINUTE => moment(at, "less than a minute ago"),
        _ => moment(at, &format!("{} ago", span(passed))),
    }
}

/// When it will happen, in text.
pub(super) fn in_text(now: i64, at: i64) -> Markup {
    let left = at.saturating_sub(now);
    let text = match left {
        ..=0 => "now".to_owned(),
        1..MINUTE => "in less than a minute".to_owned(),
        _ => format!("in {}", span(left)),
    };
    html! { span class="whole" { (text) } }
}

/// How long something is kept, as a command tells it: `7d`.
pub(super) fn kept(retention: &str) -> String {
    match parse_retention(retention) {
        Some(Retention::For(time)) => {
            let milliseconds = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
            span(milliseconds)
        }
        Some(Retention::Forever) | None => retention.to_owned(),
    }
}

/// Why nothing is purged: `paused by ada since 2026-...` as a command tells it.
pub(super) fn stopped(now: i64, why: &str) -> Markup {
    let paused = why.strip_prefix("paused by ").and_then(|rest| rest.rsplit_once(" since "));
    let paused = paused.and_then(|(by, since)| Some((by, parse_instant(since)?)));
    html! {
        @if let Some((by, since)) = paused {
            "paused by user " strong { (by) } ", " (ago(now, Some(since)))
        } @else { (why) }
    }
}

/// How long something removed is kept yet.
pub(super) fn left(now: i64, at: Option<i64>) -> Markup {
    let Some(at) = at else { return html! { "forever" } };
    let left = at.saturating_sub(now);
    match left {
        ..=0 => moment(at, "expired"),
        1..MINUTE => moment(at, "less than a minute"),
        _ => moment(at, &span(left)),
    }
}

/// An instant to the second, exactly.
pub(super) fn exactly(at: i64) -> Markup {
    let exact = format_instant(at);
    html! { time datetime=(exact) { (readable(&exact)) } }
}

/// A word in a colour of its own.
pub(super) fn badge(kind: &str, text: &str) -> Markup {
    html! { span class={ "badge " (kind) } { (text) } }
}

/// What stands over a column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column<'a> {
    Text(&'a str),
    /// Set to the right.
    Number(&'a str),
    /// What can be done with a row: seen without words.
    Does,
}

/// A table whose rows become cards on a phone.
pub(super) fn table(caption: &str, columns: &[Column<'_>], bodies: &Markup) -> Markup {
    html! {
        table class="list" {
            caption { (caption) }
            thead {
                tr {
                    @for column in columns {
                        @match column {
                            Column::Text(label) => th scope="col" { (label) },
                            Column::Number(label) => th scope="col" class="number" { (label) },
                            Column::Does => th scope="col" { span class="unseen" { "What can be done" } },
                        }
                    }
                }
            }
            (bodies)
        }
    }
}

/// Nothing there, and what that means.
pub(super) fn empty(title: &str, text: &str) -> Markup {
    html! { div class="empty" { p class="lead" { (title) } p { (text) } } }
}

/// The end of a list that has more.
pub(super) fn more(href: &str, first: Option<&str>) -> Markup {
    html! {
        nav class="pages" aria-label="Pages" {
            @if let Some(first) = first { a class="button" href=(first) { "First page" } }
            @if !href.is_empty() { a class="button" rel="next" href=(href) { "Next page" } }
        }
    }
}

/// What a namespace holds, as a link.
pub(super) fn namespace_link(path: &str) -> Markup {
    html! { a class="name" href=(address("namespace", &[("name", path)])) { (path) } }
}

/// A bucket, as a link.
pub(super) fn bucket_link(namespace: &str, bucket: &str) -> Markup {
    let href = address("bucket", &[("namespace", namespace), ("name", bucket)]);
    html! { a class="name" href=(href) { (bucket) } }
}

/// The beginning of a long text.
pub(super) fn clip(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        for (value, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (-12_345_678, "-12,345,678")]
        {
            assert_eq!(number(value), text);
        }
        assert_eq!(documents(1), "1 document");
        assert_eq!(documents(0), "0 documents");
    }

    #[test]
    fn sizes_have_at_most_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_250, "1.3 kB"),
            (99_949, "99.9 kB"),
            (123_456, "123 kB"),
            (999_499, "999 kB"),
            (999_999, "1.0 MB"),
            (i64::MAX, "9.2 EB"),
        ] {
            assert_eq!(size_text(bytes), text.replace(' ', "\u{a0}"), "{bytes}");
        }
    }

    #[test]
    fn spans_have_two_units_at_most() {
        for (milliseconds, text) in [
            (0, "0 s"),
            (59_999, "59 s"),
            (MINUTE + 30 * SECOND, "1 min"),
            (2 * HOUR + 5 * MINUTE, "2 h 5 min"),
            (23 * HOUR + 5 * MINUTE, "23 h"),
            (6 * DAY + 23 * HOUR, "6 d 23 h"),
            (30 * DAY, "30 d"),
            (2 * YEAR + 40 * DAY, "2 y 40 d"),
        ] {
            assert_eq!(span(milliseconds), text);
        }
    }

    #[test]
    fn hostile_text_is_text() {
        let link = bucket_link("a\"b", "<script>").into_string();
        assert!(!link.contains("<script>") && link.contains("&lt;script&gt;"), "{link}");
        assert_eq!(clip("äöü", 2), "äö…");
    }
}
