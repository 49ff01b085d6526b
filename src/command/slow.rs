//! Commands that took long: what is kept of them, and what is left out.
//!
//! What a command was given is shown as far as it helps to find it again. Secrets never are, nor documents, nor
//! the values in a filter: of a filter its shape is kept, and of anything else that may be a document its length.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::{Group, Spec, flags};
use crate::config::SlowLogConfig;
use crate::meter::Throttle;
use crate::resp::Words;
use crate::session::{Client, RequestId};

/// Words of a command that are shown.
pub(super) const WORDS_MAX: usize = 32;

/// Bytes of a word that are shown.
const WORD_BYTES_MAX: usize = 128;

/// Bytes of a filter whose shape is shown.
const FILTER_BYTES_MAX: usize = 2_048;

/// Lines that are logged in a second.
const LINES_MAX: u32 = 10;

/// One slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowEntry {
    /// Rises by one with each entry of this process.
    pub id: u64,
    /// When it ended, in milliseconds since 1970.
    pub at: i64,
    /// How long it took.
    pub took: Duration,
    /// Its words, as far as they are shown.
    pub words: Vec<String>,
    /// Who asked.
    pub address: SocketAddr,
    /// What who asked is called (CLIENT SETNAME).
    pub name: String,
}

/// A command that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ran<'a> {
    pub(super) spec: &'static Spec,
    pub(super) words: &'a Words,
    pub(super) client: &'a Client,
    pub(super) request: RequestId,
    pub(super) took: Duration,
}

/// The last slow commands of a node.
#[derive(Debug)]
pub struct SlowLog {
    config: SlowLogConfig,
    state: Mutex<State>,
    total: AtomicU64,
    lines: Throttle,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: VecDeque<SlowEntry>,
}

impl SlowLog {
    /// An empty one.
    pub fn new(config: SlowLogConfig) -> Self {
        let (state, total) = (Mutex::default(), AtomicU64::new(0));
        Self { config, state, total, lines: Throttle::new(LINES_MAX) }
    }

    /// Whether any command can be slow.
    pub const fn is_on(&self) -> bool {
        self.config.threshold.is_some()
    }

    /// Keeps the command, if it was slow.
    pub(super) fn note(&self, ran: &Ran<'_>, now: impl FnOnce() -> i64) {
        if self.config.threshold.is_none_or(|threshold| ran.took < threshold) {
            return;
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        let words = shown(ran.spec, ran.words);
        let address = ran.client.address();
        if let Some(suppressed) = self.lines.admit(Instant::now()) {
            let took_us = u64::try_from(ran.took.as_micros()).unwrap_or(u64::MAX);
            let (command, request) = (ran.spec.name, ran.request);
            warn!(%request, command, took_us, %address, ?words, suppressed, "slow command");
        }
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let name = ran.client.name().unwrap_or_default();
        let entry = SlowEntry { id, at: now(), took: ran.took, words, address, name };
        state.entries.push_front(entry);
        state.entries.truncate(self.config.entries_max);
    }

    /// How many commands were slow, also those that are kept no more.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// The last ones, newest first.
    pub fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.lock().entries.iter().take(count).cloned().collect()
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets those that are kept. Ids go on.
    pub fn reset(&self) {
        self.lock().entries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The words of a command as the log may show them.
fn shown(spec: &Spec, words: &Words) -> Vec<String> {
    let name_words = if spec.subcommand().is_some() { 2 } else { 1 };
    let given = words.len().saturating_sub(name_words);
    let mut shown: Vec<String> = words.iter().take(name_words).map(printable).collect();
    if spec.has(flags::SECRET) {
        if given > 0 {
            shown.push(format!("({given} words not shown)"));
        }
        return shown;
    }
    let room = if words.len() > WORDS_MAX { WORDS_MAX - 1 } else { WORDS_MAX };
    let rest = words.iter().skip(name_words).take(room.saturating_sub(name_words));
    shown.extend(rest.map(|word| argument(spec, word)));
    if words.len() > shown.len() {
        shown.push(format!("... ({} more words)", words.len() - shown.len()));
    }
    shown
}

fn argument(spec: &Spec, word: &[u8]) -> String {
    let text = std::str::from_utf8(word).ok();
    let begins = text.map(str::trim_start).and_then(|text| text.chars().next());
    let may_be_document =
        text.is_none_or(|text| text.contains('\0')) || matches!(begins, Some('{' | '['));
    if !may_be_document {
        return printable(word);
    }
    let asks = spec.group == Group::Document && !spec.has(flags::WRITE);
    let filter = text.filter(|_| asks && word.len() <= FILTER_BYTES_MAX);
    let parsed = filter.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    match parsed {
        Some(mut filter) => {
            without_values(&mut filter);
            clip(filter.to_string())
        }
        None => format!("({} bytes)", word.len()),
    }
}

/// Leaves the fields and operators of a filter.
fn without_values(filter: &mut serde_json::Value) {
    match filter {
        serde_json::Value::Object(fields) => fields.values_mut().for_each(without_values),
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_values),
        value => *value = serde_json::Value::String("?".to_owned()),
    }
}

fn printable(word: &[u8]) -> String {
    let beginning = word.get(..WORD_BYTES_MAX.saturating_mul(2)).unwrap_or(word);
    let text = String::from_utf8_lossy(beginning);
    clip(text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect())
}

fn clip(mut text: String) -> String {
    if text.len() > WORD_BYTES_MAX {
        let more = text.len() - WORD_BYTES_MAX;
        text.truncate(text.floor_char_boundary(WORD_BYTES_MAX));
        text = format!("{text}... ({more} more bytes)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::registry::table;

    fn check(words: &[&str], expected: &[&str]) {
        let name = words[0];
        let (_, spec) = table().find(name.as_bytes()).unwrap();
        assert_eq!(shown(spec, &Words::from_words(words)), expected);
    }

    #[test]
    fn secrets_are_not_shown() {
        check(&["AUTH", "ada", "geheim"], &["AUTH", "(2 words not shown)"]);
        check(&["HELLO", "3", "AUTH", "ada", "geheim"], &["HELLO", "(4 words not shown)"]);
    }

    #[test]
    fn every_command_that_takes_a_password_is_marked() {
        fn has_password(arguments: &[crate::command::Argument]) -> bool {
            arguments.iter().any(|argument| {
                ["password", "rule"].contains(&argument.name) || has_password(argument.parts)
            })
        }
        for spec in table().specs() {
            assert_eq!(has_password(spec.arguments), spec.has(flags::SECRET), "{}", spec.name);
        }
    }

    #[test]
    fn documents_are_shown_by_their_length_and_filters_by_their_shape() {
        check(
            &["BUCKET.INSERT", "users", "DOCS", "{\"name\":\"Ada\"}"],
            &["BUCKET.INSERT", "users", "DOCS", "(14 bytes)"],
        );
        check(
            &["BUCKET.QUERY", "users", "{\"name\":{\"$in\":[\"Ada\",1]}}", "LIMIT", "5"],
            &["BUCKET.QUERY", "users", "{\"name\":{\"$in\":[\"?\",\"?\"]}}", "LIMIT", "5"],
        );
        check(
            &["BUCKET.QUERY", "users", "{'name': secret}"],
            &["BUCKET.QUERY", "users", "(16 bytes)"],
        );
        check(&["BUCKET.QUERY", "users", "\u{5}\0\0\0\0"], &["BUCKET.QUERY", "users", "(5 bytes)"]);
    }

    #[test]
    fn long_words_and_many_words_are_cut() {
        let long = "x".repeat(WORD_BYTES_MAX + 3);
        let clipped = format!("{}... (3 more bytes)", "x".repeat(WORD_BYTES_MAX));
        check(&["ECHO", &long], &["ECHO", &clipped]);
        check(&["ECHO", "a\r\nb"], &["ECHO", "a  b"]);
        let mut many = vec!["CONFIG"; 40];
        many[0] = "PING";
        let (_, spec) = table().find(b"PING").unwrap();
        let shown = shown(spec, &Words::from_words(&many));
        assert_eq!(shown.len(), WORDS_MAX);
        assert_eq!(shown[31], "... (9 more words)");
    }
}
