//! Durations and instants as people write them.
//!
//! Durations: seconds as an integer, `45s`, `30m`, `48h`, `7d`, `P7D`, or
//! `forever`. Instants: ISO 8601, printed in UTC with milliseconds.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// The longest duration taken, 1,000 years: beyond it say `forever`.
pub const DURATION_MAX: Duration = Duration::from_hours(1_000 * 365 * 24);

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    For(Duration),
    Forever,
}

/// Reads a duration. Gives `None` when the text is not one, is negative, or is
/// longer than [`DURATION_MAX`].
#[must_use]
pub fn parse_retention(text: &str) -> Option<Retention> {
    if text.eq_ignore_ascii_case("forever") {
        return Some(Retention::Forever);
    }
    parse_duration(text).map(Retention::For)
}

/// As [`parse_retention`], without `forever`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse_any(text).filter(|duration| *duration <= DURATION_MAX)
}

/// Whether this is a duration, but longer than [`DURATION_MAX`].
#[must_use]
pub fn is_too_long(text: &str) -> bool {
    parse_any(text).is_some_and(|duration| duration > DURATION_MAX)
}

fn parse_any(text: &str) -> Option<Duration> {
    let text = text.trim();
    let duration = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().ok()?)
    } else if text.starts_with(['P', 'p']) {
        let span: Span = text.parse().ok()?;
        // ISO 8601 days are taken as 24 hours: a retention knows no time zone.
        let signed: SignedDuration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
        Duration::try_from(signed).ok()?
    } else {
        humantime::parse_duration(text).ok()?
    };
    Some(duration)
}

/// Prints a duration as [`parse_duration`] reads it: `7d`, `36h`, `1h 30m`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let whole = [("d", 86_400), ("h", 3_600), ("m", 60)]
        .into_iter()
        .find(|(_, unit)| seconds > 0 && seconds.is_multiple_of(*unit));
    match whole {
        Some((unit, length)) if duration.subsec_nanos() == 0 => {
            format!("{}{unit}", seconds / length)
        }
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// Prints how long something is kept, as [`parse_retention`] reads it.
#[must_use]
pub fn format_retention(retention: Retention) -> String {
    match retention {
        Retention::For(duration) => format_duration(duration),
        Retention::Forever => "forever".to_owned(),
    }
}

/// Reads an ISO 8601 instant, as milliseconds since 1970.
#[must_use]
pub fn parse_instant(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Prints milliseconds since 1970 as ISO 8601 in UTC with milliseconds. An
/// instant that no calendar holds prints as its number.
#[must_use]
pub fn format_instant(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| milliseconds.to_string(), |instant| format!("{instant:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, seconds: Option<u64>) {
        assert_eq!(parse_duration(text), seconds.map(Duration::from_secs), "{text}");
    }

    #[test]
    fn durations_are_read_in_every_form() {
        check("90", Some(90));
        check("0", Some(0));
        check("45s", Some(45));
        check("30m", Some(1_800));
        check("48h", Some(172_800));
        check("7d", Some(604_800));
        check("P7D", Some(604_800));
        check("PT48H", Some(172_800));
        assert_eq!(parse_retention("FOREVER"), Some(Retention::Forever));
    }

    #[test]
    fn what_is_printed_reads_back() {
        for (seconds, text) in [(604_800, "7d"), (129_600, "36h"), (1_800, "30m"), (0, "0s")] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text), Some(duration));
        }
        let odd = Duration::from_millis(5_430_250);
        assert_eq!(parse_duration(&format_duration(odd)), Some(odd));
    }

    #[test]
    fn nonsense_is_no_duration() {
        for text in
            ["", " ", "-1", "1x", "P", "-P7D", "7 days and a bit", "99999999999999999999", "1e9d"]
        {
            check(text, None);
        }
    }

    #[test]
    fn instants_print_with_milliseconds_in_utc() {
        let instant = parse_instant("2026-11-21T20:44:32.123+02:00").unwrap();
        assert_eq!(format_instant(instant), "2026-11-21T18:44:32.123Z");
        assert_eq!(parse_instant("2026-11-21"), None);
    }
}
