use bytes::Bytes;

use crate::error::{Error, Result};
use crate::resp::Words;

/// The arguments of a command: the words after its name.
#[derive(Clone, Debug)]
pub struct Args {
    words: Words,
    /// Words that belong to the name.
    name: usize,
}

/// Contract: what every command says about a number that isn't one.
pub(crate) fn not_an_integer() -> Error {
    Error::syntax("value is not an integer or out of range")
}

impl Args {
    pub(super) fn new(words: Words, name: usize) -> Self {
        Self { words, name }
    }

    /// All words, the command's name included.
    pub(super) const fn words(&self) -> &Words {
        &self.words
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.len().saturating_sub(self.name)
    }

    /// Whether the name stood alone.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The argument at `index`, counted from 0.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.words.get(self.name + index)
    }

    /// The argument at `index`, an error where there is none: for those that the arity promises.
    pub fn required(&self, index: usize) -> Result<&[u8]> {
        self.get(index).ok_or_else(|| Error::syntax("syntax error"))
    }

    /// As [`Args::required`], without a copy: it keeps the memory of the whole request.
    pub fn bytes(&self, index: usize) -> Result<Bytes> {
        self.words.bytes(self.name + index).ok_or_else(|| Error::syntax("syntax error"))
    }

    /// The argument at `index` as text.
    pub fn text(&self, index: usize) -> Result<&str> {
        std::str::from_utf8(self.required(index)?).map_err(|_| {
            Error::Syntax(format!("argument {} is not valid UTF-8", index.saturating_add(1)))
        })
    }

    /// The argument at `index` as a whole number.
    pub fn integer(&self, index: usize) -> Result<i64> {
        self.text(index).ok().and_then(|text| text.parse().ok()).ok_or_else(not_an_integer)
    }

    /// Whether the argument at `index` is this word, in any case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|bytes| bytes.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Reads options from `index` on.
    pub fn options(&self, index: usize) -> Options<'_> {
        Options { args: self, next: index, named: Vec::new(), again: None }
    }
}

/// Reads the options of a command one after the other, in whatever order they come:
///
/// ```ignore
/// let mut options = args.options(1);
/// while let Some(option) = options.next() {
///     match option.to_ascii_uppercase().as_slice() {
///         b"LIMIT" => limit = options.integer()?,
///         b"NOWAIT" => wait = false,
///         _ => return Err(options.unknown()),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Options<'a> {
    args: &'a Args,
    next: usize,
    /// Where the names of the options are that were read.
    named: Vec<usize>,
    /// The name that came a second time.
    again: Option<usize>,
}

impl<'a> Options<'a> {
    /// The next option's name, as the client wrote it. One that was given before comes as an empty
    /// word, which is no option: so every command refuses it by [`Options::unknown`].
    #[expect(
        clippy::should_implement_trait,
        reason = "a loop needs the reader between two options"
    )]
    pub fn next(&mut self) -> Option<&'a [u8]> {
        let (at, word) = (self.next, self.word()?);
        let is_same = |named: &usize| {
            self.args.get(*named).is_some_and(|named| named.eq_ignore_ascii_case(word))
        };
        if self.named.iter().any(is_same) {
            self.again = Some(at);
            return Some(&[]);
        }
        self.named.push(at);
        Some(word)
    }

    /// The next word of a list, in which the same may come again.
    pub fn word(&mut self) -> Option<&'a [u8]> {
        let word = self.args.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    /// The value that follows.
    pub fn value(&mut self) -> Result<&'a [u8]> {
        let option = self.current();
        self.word().ok_or_else(|| Error::Syntax(format!("a value is missing after '{option}'")))
    }

    /// The value that follows, as text.
    pub fn text(&mut self) -> Result<&'a str> {
        let option = self.current();
        std::str::from_utf8(self.value()?)
            .map_err(|_| Error::Syntax(format!("the value of '{option}' is not valid UTF-8")))
    }

    /// The value that follows, without a copy.
    pub fn bytes(&mut self) -> Result<Bytes> {
        self.value()?;
        self.args.bytes(self.next - 1)
    }

    /// The value that follows, as a whole number.
    pub fn integer(&mut self) -> Result<i64> {
        std::str::from_utf8(self.value()?)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(not_an_integer)
    }

    /// The next word, which stays the next.
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.args.get(self.next)
    }

    /// Whether the next word is this one; if so, it is passed.
    pub fn accept(&mut self, word: &str) -> bool {
        let found = self.args.is(self.next, word);
        self.next += usize::from(found);
        found
    }

    /// How many words are left.
    pub fn remaining(&self) -> usize {
        self.args.len().saturating_sub(self.next)
    }

    /// Where the next word is, counted from 0.
    pub const fn position(&self) -> usize {
        self.next
    }

    /// The error for the option that was read last.
    pub fn unknown(&self) -> Error {
        if let Some(again) = self.again {
            let option = String::from_utf8_lossy(self.args.get(again).unwrap_or_default());
            return Error::Syntax(format!("syntax error: '{option}' is given twice"));
        }
        Error::Syntax(format!("Unknown '{}' argument", self.current()))
    }

    fn current(&self) -> String {
        let word = self.next.checked_sub(1).and_then(|index| self.args.get(index));
        String::from_utf8_lossy(word.unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(Words::from_words(line.split(' ')), 0)
    }

    #[test]
    fn an_option_that_is_given_twice_is_no_option() {
        let args = args("b LIMIT 1 sortby limit SORTBY x");
        let mut options = args.options(1);
        assert_eq!(options.next(), Some(&b"LIMIT"[..]));
        assert_eq!(options.integer().unwrap(), 1);
        assert_eq!(options.next(), Some(&b"sortby"[..]));
        // A value may look like an option.
        assert_eq!(options.value().unwrap(), b"limit");
        assert_eq!(options.next(), Some(&b""[..]));
        assert_eq!(options.unknown().to_string(), "syntax error: 'SORTBY' is given twice");
    }

    #[test]
    fn words_of_a_list_may_come_again() {
        let args = args("PUT x PUT x");
        let mut options = args.options(0);
        for word in ["PUT", "x", "PUT", "x"] {
            assert_eq!(options.word(), Some(word.as_bytes()));
        }
        assert_eq!(options.word(), None);
    }
}
