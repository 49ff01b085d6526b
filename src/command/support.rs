//! What several families need: who calls, where, and lists in pages.

use std::time::Duration;

use super::{Args, Context, Error, Options, Reply, Result};
use crate::codec::duration::{self, Retention, format_instant};
use crate::codec::record::Actor;
use crate::lifecycle::remove::Keep;
use crate::metadata::{Caller, Operation, Path};
use crate::session::Session;

/// Most items of a list that is asked for in one piece.
pub(super) const LIST_MAX: usize = 10_000;
/// Items of a page when the client does not say.
const PAGE_DEFAULT: usize = 100;
/// Longest wait that a command takes: ten minutes.
const TIMEOUT_MS_MAX: i64 = 600_000;

/// The caller of a command; `opid` makes it safe to send again.
pub(super) fn caller(
    session: &Session,
    name: &str,
    args: &Args,
    opid: Option<&[u8]>,
) -> Result<Caller> {
    let words = std::iter::once(name.as_bytes())
        .chain(std::iter::once(session.namespace.as_bytes()))
        .chain(args.iter());
    let operation = opid.map(|id| Operation::from_client(id, words)).transpose()?;
    Ok(Caller { actor: actor(session), operation, permit: session.permit().cloned() })
}

/// Who sends the commands of a session.
pub(super) fn actor(session: &Session) -> Actor {
    Actor { user: session.user().to_owned(), client: session.client().address().to_string() }
}

/// The session's current namespace.
pub(super) fn current(ctx: &Context<'_>) -> Result<Path> {
    Path::parse(ctx.session.namespace.as_bytes())
}

/// The value of `RETAIN`.
pub(super) fn retain(text: &str) -> Result<Keep> {
    retention(text).map(Keep::For)
}

/// As [`retain`], where nothing but a duration may stand.
pub(super) fn retention(text: &str) -> Result<Retention> {
    if duration::is_too_long(text) {
        let message = format!("Retention '{text}' exceeds 1,000 years: say forever");
        return Err(Error::RetentionOutOfRange(message));
    }
    duration::parse_retention(text).ok_or_else(|| {
        Error::syntax(format!(
            "Invalid duration '{text}': give seconds, 45s, 30m, 48h, 7d, P7D or forever, at most 1,000 years"
        ))
    })
}

/// The value of `UNTIL` and of the filters by time.
pub(super) fn instant(text: &str) -> Result<i64> {
    duration::parse_instant(text).ok_or_else(|| {
        Error::syntax(format!(
            "Invalid time '{text}': give ISO 8601 with a zone, such as 2026-11-21T18:44:32Z, \
             at most 9999-12-30T22:00:00Z"
        ))
    })
}

/// The value of `TIMEOUT`.
pub(super) fn timeout(options: &mut Options<'_>) -> Result<Duration> {
    let wait = options.integer()?;
    if !(0..=TIMEOUT_MS_MAX).contains(&wait) {
        return Err(Error::Syntax(format!(
            "TIMEOUT must be between 0 and {TIMEOUT_MS_MAX} milliseconds"
        )));
    }
    Ok(Duration::from_millis(wait.unsigned_abs()))
}

/// An instant as a reply; `None` is null.
pub(super) fn time_reply(at: Option<i64>) -> Reply {
    Reply::text_or_null(at.map(format_instant))
}

/// `COUNT`, `CURSOR` and `MATCH` of a list.
#[derive(Debug, Default)]
pub(super) struct Paging {
    pub(super) count: Option<usize>,
    pub(super) cursor: Option<String>,
    pub(super) pattern: Option<String>,
}

impl Paging {
    /// Takes the option if it is one of the three.
    pub(super) fn accept(&mut self, option: &[u8], options: &mut Options<'_>) -> Result<bool> {
        match option.to_ascii_uppercase().as_slice() {
            b"COUNT" => {
                let count = options.integer()?;
                let count = usize::try_from(count).ok().filter(|n| (1..=LIST_MAX).contains(n));
                self.count = Some(count.ok_or_else(|| {
                    Error::syntax(format!("COUNT must be between 1 and {LIST_MAX}"))
                })?);
            }
            b"CURSOR" => self.cursor = Some(options.text()?.to_owned()),
            b"MATCH" => self.pattern = Some(options.text()?.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether the reply is `[cursor, items]`.
    pub(super) fn is_paged(&self) -> bool {
        self.count.is_some() || self.cursor.is_some()
    }

    /// Most items of the reply.
    pub(super) fn limit(&self) -> usize {
        if self.is_paged() { self.count.unwrap_or(PAGE_DEFAULT) } else { LIST_MAX }
    }

    /// Where the client wants to go on; `None` at the beginning.
    pub(super) fn position(&self) -> Option<&str> {
        self.cursor.as_deref().filter(|cursor| *cursor != "0")
    }

    /// The position that a list by name goes on behind: hex of the name.
    pub(super) fn position_name(&self) -> Result<Option<String>> {
        self.position().map(|cursor| from_hex(cursor).ok_or_else(bad_cursor)).transpose()
    }

    /// Whether a name is to be listed.
    pub(super) fn admits(&self, name: &str) -> bool {
        self.pattern
            .as_deref()
            .is_none_or(|pattern| super::glob_matches(pattern.as_bytes(), name.as_bytes()))
    }

    /// The reply: the items, with a cursor in front if the client pages.
    pub(super) fn reply(&self, items: Vec<Reply>, next: Option<String>) -> Reply {
        if self.is_paged() {
            let cursor = next.unwrap_or_else(|| "0".to_owned());
            Reply::Array(vec![Reply::Text(cursor), Reply::Array(items)])
        } else {
            Reply::Array(items)
        }
    }
}

/// The error for a cursor that this list never gave.
pub(super) fn bad_cursor() -> Error {
    Error::syntax("Invalid CURSOR: give 0, or what the last page answered")
}

/// A name as a cursor: hex, so that it holds no space and is never `0`.
pub(super) fn to_hex(name: &str) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    name.bytes()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .collect()
}

fn from_hex(text: &str) -> Option<String> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = (0..text.len())
        .step_by(2)
        .map(|at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    String::from_utf8(bytes?).ok()
}
