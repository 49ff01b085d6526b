//! How things look: tables, colours, sizes, times.

use std::io::IsTerminal;

use clap::ValueEnum;
use clap::builder::styling::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::path::escape;

/// Whether the output is in colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    Always,
    Never,
}

/// Paints, or leaves alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

/// What a text means, and by that how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Head,
    Good,
    Warning,
    Bad,
    Faint,
}

impl Paint {
    pub(super) fn new(color: Color) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !dumb,
        })
    }

    pub(super) fn text(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Plain => Style::new(),
            Tone::Head => Style::new().bold(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warning => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Faint => Style::new().dimmed(),
        };
        if self.0 && !text.is_empty() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// On which side of its column a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// A text in a table, safe for a terminal.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text that may come from anywhere.
    pub(super) fn of(text: &str) -> Self {
        Self { text: escape(text), tone: Tone::Plain }
    }

    /// A text that is escaped already, such as a path.
    pub(super) const fn made(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }

    /// What is not known, or does not apply.
    pub(super) fn none() -> Self {
        Self { text: "-".to_owned(), tone: Tone::Faint }
    }

    pub(super) const fn toned(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    /// No wider than this; what was cut is marked.
    pub(super) fn cut(mut self, width: usize) -> Self {
        self.text = cut(&self.text, width);
        self
    }
}

/// Rows whose columns stand below each other by the width at which they are shown.
#[derive(Debug)]
pub(super) struct Table {
    heads: Vec<(&'static str, Side)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(heads: &[(&'static str, Side)]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    pub(super) fn add(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Its lines, the head first, without blanks at their ends.
    pub(super) fn lines(&self, paint: Paint) -> Vec<String> {
        let heads: Vec<Cell> =
            self.heads.iter().map(|(name, _)| Cell::of(name).toned(Tone::Head)).collect();
        let widths: Vec<usize> = (0..heads.len())
            .map(|column| {
                let cells = self.rows.iter().chain([&heads]).filter_map(|row| row.get(column));
                cells.map(|cell| cell.text.width()).max().unwrap_or_default()
            })
            .collect();
        std::iter::once(&heads)
            .chain(&self.rows)
            .map(|row| {
                let mut line = String::new();
                for ((cell, (_, side)), width) in row.iter().zip(&self.heads).zip(&widths) {
                    if !line.is_empty() {
                        line.push_str("  ");
                    }
                    let room = " ".repeat(width.saturating_sub(cell.text.width()));
                    let text = paint.text(cell.tone, &cell.text);
                    match side {
                        Side::Left => line.extend([text, room]),
                        Side::Right => line.extend([room, text]),
                    }
                }
                line.truncate(line.trim_end().len());
                line
            })
            .collect()
    }
}

/// No wider than this on a terminal; what was cut is marked.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    for letter in text.chars() {
        shown.push(letter);
        if shown.width() >= width {
            shown.pop();
            break;
        }
    }
    shown.push('…');
    shown
}

/// A number with commas between the thousands.
pub(super) fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut shown = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A number and what there are so many of.
pub(super) fn many(number: i64, one: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {one}{end}", count(number))
}

/// A number of bytes, to three digits.
pub(super) fn size(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let bytes = u64::try_from(bytes).unwrap_or_default();
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In hundredths of the unit, so that nothing is lost to fractions.
    let (mut hundredths, mut unit) = (u128::from(bytes) * 100 / 1024, 0);
    while hundredths >= 102_400 && unit + 1 < UNITS.len() {
        hundredths /= 1024;
        unit += 1;
    }
    let unit = UNITS.get(unit).copied().unwrap_or_default();
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    match whole {
        0..10 => format!("{whole}.{rest:02} {unit}"),
        10..100 => format!("{whole}.{} {unit}", rest / 10),
        _ => format!("{whole} {unit}"),
    }
}

/// A time in seconds, by its two largest units.
pub(super) fn span(seconds: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let seconds = seconds.max(0);
    let first = UNITS.iter().position(|(length, _)| seconds >= *length).unwrap_or(UNITS.len() - 1);
    let (mut left, mut shown) = (seconds, Vec::new());
    for (length, unit) in UNITS.iter().skip(first).take(2) {
        let many = left / length;
        left %= length;
        if many > 0 || shown.is_empty() {
            shown.push(format!("{many}{unit}"));
        }
    }
    shown.join(" ")
}

/// A time as the node tells it, for people: to the minute, in UTC.
pub(super) fn minute(instant: &str) -> String {
    match crate::codec::duration::parse_instant(instant) {
        Some(_) => {
            let text = instant.get(..16).unwrap_or(instant).replace('T', " ");
            format!("{} UTC", escape(&text))
        }
        None => escape(instant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_whatever_the_width_of_their_letters() {
        let mut table = Table::new(&[("NAME", Side::Left), ("SIZE", Side::Right)]);
        table.add(vec![Cell::of("日本"), Cell::of("1 B")]);
        table.add(vec![Cell::of("a\u{1b}b"), Cell::none()]);
        assert_eq!(
            table.lines(Paint(false)),
            ["NAME      SIZE", "日本       1 B", "a\\u{1b}b     -"]
        );
        assert_eq!(
            table.lines(Paint(true))[0],
            "\u{1b}[1mNAME\u{1b}[0m      \u{1b}[1mSIZE\u{1b}[0m"
        );
    }

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!([count(0), count(-1_234), count(12_345_678)], ["0", "-1,234", "12,345,678"]);
        for (bytes, shown) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.00 KiB"),
            (10_240, "10.0 KiB"),
            (1_048_575, "1023 KiB"),
            (5 << 30, "5.00 GiB"),
            (i64::MAX, "7.99 EiB"),
            (-1, "0 B"),
        ] {
            assert_eq!(size(bytes), shown, "{bytes}");
        }
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_661, "1h 1m"),
            (604_800, "7d"),
            (700_000, "8d 2h"),
        ] {
            assert_eq!(span(seconds), shown);
        }
        assert_eq!(minute("2026-11-22T06:07:08.123Z"), "2026-11-22 06:07 UTC");
        assert_eq!(minute("\u{1b}c"), "\\u{1b}c");
    }

    #[test]
    fn what_is_too_wide_is_cut() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("日本語", 4), "日…");
    }
}
