//! The reader: one recursive descent over the text that writes BSON as it goes.

use super::extended;
use crate::value::raw::tag;

/// Why a text is not a document, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line} column {column}")]
pub struct JsonError {
    /// What is wrong.
    pub what: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in bytes.
    pub column: usize,
}

/// Reads one document. `depth_max` bounds documents and arrays inside each other, `bytes_max` the BSON.
pub fn read(text: &[u8], depth_max: usize, bytes_max: usize) -> Result<Vec<u8>, JsonError> {
    read_with(text, depth_max, bytes_max, |reader| {
        if reader.peek() != Some(b'{') {
            return Err(reader.fail("a document must be a JSON object"));
        }
        reader.document(1)
    })
    .map(|reader| reader.out)
}

/// Reads one value of any type: its type byte and its BSON bytes.
pub fn read_value(
    text: &[u8],
    depth_max: usize,
    bytes_max: usize,
) -> Result<(u8, Vec<u8>), JsonError> {
    let reader = read_with(text, depth_max, bytes_max, |reader| {
        reader.out.push(0);
        reader.value(0, 0)
    })?;
    let mut bytes = reader.out;
    let tag = bytes.remove(0);
    Ok((tag, bytes))
}

fn read_with<'a>(
    text: &'a [u8],
    depth_max: usize,
    bytes_max: usize,
    body: impl FnOnce(&mut Reader<'a>) -> Result<(), Failure>,
) -> Result<Reader<'a>, JsonError> {
    let mut reader = Reader {
        text,
        at: 0,
        out: Vec::with_capacity(text.len() + text.len() / 8 + 32),
        keys: Vec::new(),
        depth_max,
        bytes_max,
    };
    if let Err(error) = std::str::from_utf8(text) {
        return Err(locate(text, &Failure::new(error.valid_up_to(), "invalid UTF-8")));
    }
    reader.skip_space();
    body(&mut reader)
        .and_then(|()| {
            reader.skip_space();
            match reader.peek() {
                None => Ok(()),
                Some(_) => Err(reader.fail("text after the end of the document")),
            }
        })
        .map_err(|failure| locate(text, &failure))?;
    Ok(reader)
}

/// A refusal and the byte it is about.
pub(super) struct Failure {
    at: usize,
    what: String,
}

impl Failure {
    pub(super) fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }
}

fn locate(text: &[u8], failure: &Failure) -> JsonError {
    let before = text.get(..failure.at).unwrap_or(text);
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    JsonError {
        what: failure.what.clone(),
        line: before.split(|&byte| byte == b'\n').count(),
        column: before.len() - line_start + 1,
    }
}

/// A name already read in a document that is still open: where it lies in the output, and in the text.
struct Key {
    start: usize,
    end: usize,
    text_at: usize,
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
    /// The names of all open documents, innermost last.
    keys: Vec<Key>,
    depth_max: usize,
    bytes_max: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fail(&self, what: impl Into<String>) -> Failure {
        Failure::new(self.at, what)
    }

    /// "expected X" at the present place, naming what stands there.
    fn expected(&self, what: &str) -> Failure {
        let rest = self.text.get(self.at..).unwrap_or_default();
        match std::str::from_utf8(rest).ok().and_then(|rest| rest.chars().next()) {
            None if rest.is_empty() => self.fail(format!("expected {what}, found the end")),
            None => self.fail(format!("expected {what}")),
            Some(found) => self.fail(format!("expected {what}, found '{}'", found.escape_debug())),
        }
    }

    fn check_size(&self) -> Result<(), Failure> {
        if self.out.len() > self.bytes_max {
            return Err(self.fail(format!("the document is larger than {} bytes", self.bytes_max)));
        }
        Ok(())
    }

    /// Begins a document or array: its length is filled in by [`Self::close`].
    fn open(&mut self, depth: usize) -> Result<usize, Failure> {
        if depth > self.depth_max {
            return Err(self.fail(format!("nested deeper than {}", self.depth_max)));
        }
        self.at += 1;
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        self.skip_space();
        Ok(start)
    }

    fn close(&mut self, start: usize) -> Result<(), Failure> {
        self.out.push(0);
        self.check_size()?;
        let length = i32::try_from(self.out.len() - start)
            .map_err(|_| self.fail("the document is larger than 2 GB"))?;
        if let Some(place) = self.out.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        Ok(())
    }

    /// A document from its brace on, written as a plain document.
    fn document(&mut self, depth: usize) -> Result<(), Failure> {
        let start = self.open(depth)?;
        let keys = self.keys.len();
        while !self.take(b'}') {
            let place = self.out.len();
            self.out.push(0);
            self.key()?;
            self.skip_space();
            if !self.take(b':') {
                return Err(self.expected("':'"));
            }
            self.skip_space();
            self.value(place, depth)?;
            self.skip_space();
            if self.take(b',') {
                self.skip_space();
                if self.peek() == Some(b'}') {
                    return Err(self.expected("a name"));
                }
            } else if self.peek() != Some(b'}') {
                return Err(self.expected("',' or '}'"));
            }
        }
        self.close(start)?;
        self.check_keys(keys)
    }

    fn array(&mut self, depth: usize) -> Result<(), Failure> {
        let start = self.open(depth)?;
        let mut index = 0_usize;
        while !self.take(b']') {
            let place = self.out.len();
            self.out.push(0);
            push_decimal(&mut self.out, index);
            self.out.push(0);
            index += 1;
            self.value(place, depth)?;
            self.skip_space();
            if self.take(b',') {
                self.skip_space();
                if self.peek() == Some(b']') {
                    return Err(self.expected("a value"));
                }
            } else if self.peek() != Some(b']') {
                return Err(self.expected("',' or ']'"));
            }
        }
        self.close(start)
    }

    /// A name: quoted in either way, or bare.
    fn key(&mut self) -> Result<(), Failure> {
        let text_at = self.at;
        let start = self.out.len();
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.string(quote)?,
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$') => {
                while let Some(
                    byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | b'.' | b'-'),
                ) = self.peek()
                {
                    self.out.push(byte);
                    self.at += 1;
                }
            }
            _ => return Err(self.expected("a name")),
        }
        let end = self.out.len();
        if self.out.get(start..end).unwrap_or_default().contains(&0) {
            return Err(Failure::new(text_at, "a name must not contain a null character"));
        }
        self.keys.push(Key { start, end, text_at });
        self.out.push(0);
        Ok(())
    }

    /// Refuses a name given twice in the document just closed and forgets its names.
    fn check_keys(&mut self, from: usize) -> Result<(), Failure> {
        let name = |key: &Key| self.out.get(key.start..key.end).unwrap_or_default();
        let keys = self.keys.get_mut(from..).unwrap_or_default();
        let twice = if keys.len() <= 16 {
            keys.iter().enumerate().find_map(|(index, key)| {
                let earlier = keys.iter().take(index);
                earlier.into_iter().any(|other| name(other) == name(key)).then_some(key)
            })
        } else {
            keys.sort_by(|left, right| name(left).cmp(name(right)));
            keys.windows(2).find_map(|pair| match pair {
                [left, right] if name(left) == name(right) => Some(right),
                _ => None,
            })
        };
        if let Some(key) = twice {
            let name = String::from_utf8_lossy(name(key));
            return Err(Failure::new(key.text_at, format!("the name '{name}' is given twice")));
        }
        self.keys.truncate(from);
        Ok(())
    }

    /// Any value: its bytes go to the end of the output, its type to `place`.
    fn value(&mut self, place: usize, depth: usize) -> Result<(), Failure> {
        let tag = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => {
                self.array(depth + 1)?;
                tag::ARRAY
            }
            Some(quote @ (b'"' | b'\'')) => {
                let start = self.out.len();
                self.out.extend_from_slice(&[0; 4]);
                self.string(quote)?;
                self.out.push(0);
                self.check_size()?;
                let length = i32::try_from(self.out.len() - start - 4)
                    .map_err(|_| self.fail("the string is larger than 2 GB"))?;
                if let Some(bytes) = self.out.get_mut(start..start + 4) {
                    bytes.copy_from_slice(&length.to_le_bytes());
                }
                tag::STRING
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | b'+' | b'.') => self.word()?,
            _ => return Err(self.expected("a value")),
        };
        if let Some(byte) = self.out.get_mut(place) {
            *byte = tag;
        }
        Ok(())
    }

    /// An object that is a value: a document, or a wrapper of extended JSON, which is turned into what it means.
    fn object(&mut self, depth: usize) -> Result<u8, Failure> {
        let text_at = self.at;
        let start = self.out.len();
        self.document(depth + 1)?;
        let written = self.out.get(start..).unwrap_or_default();
        match extended::unwrap(written) {
            Ok(None) => Ok(tag::DOCUMENT),
            Ok(Some((tag, bytes))) => {
                self.out.truncate(start);
                self.out.extend_from_slice(&bytes);
                Ok(tag)
            }
            Err(what) => Err(Failure::new(text_at, what)),
        }
    }

    fn word(&mut self) -> Result<u8, Failure> {
        let start = self.at;
        let mut end = self.at;
        while matches!(
            self.text.get(end),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | b'+' | b'-' | b'.')
        ) {
            end += 1;
        }
        let word = self.text.get(start..end).unwrap_or_default();
        let tag = match word {
            b"true" | b"false" => {
                self.out.push(u8::from(word == b"true"));
                tag::BOOLEAN
            }
            b"null" => tag::NULL,
            b"NaN" | b"Infinity" | b"+Infinity" => {
                return Err(self.fail(format!(
                    "{} is not JSON, write {{\"$numberDouble\": \"...\"}}",
                    String::from_utf8_lossy(word)
                )));
            }
            _ => {
                let word: String = String::from_utf8_lossy(word).chars().take(40).collect();
                return Err(self.fail(format!("expected a value, found '{word}'")));
            }
        };
        self.at = end;
        Ok(tag)
    }

    /// The text inside quotes, its escapes resolved, to the end of the output.
    fn string(&mut self, quote: u8) -> Result<(), Failure> {
        let opened_at = self.at;
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = rest
                .iter()
                .position(|&byte| byte == quote || byte == b'\\' || byte < 0x20)
                .ok_or_else(|| Failure::new(opened_at, "the string has no end"))?;
            self.out.extend_from_slice(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            match self.peek() {
                Some(b'\\') => self.escape()?,
                Some(byte) if byte == quote => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fail("a control character must be escaped in a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Failure> {
        let start = self.at;
        let plain = match self.text.get(self.at + 1) {
            Some(byte @ (b'"' | b'\'' | b'\\' | b'/')) => *byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 2;
                let character = self.unicode(start)?;
                let mut bytes = [0; 4];
                self.out.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
                return Ok(());
            }
            _ => return Err(self.fail("an unknown escape")),
        };
        self.out.push(plain);
        self.at += 2;
        Ok(())
    }

    fn unicode(&mut self, start: usize) -> Result<char, Failure> {
        let lone = || Failure::new(start, "half of a surrogate pair");
        let first = self.hex(start)?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or_else(lone);
        }
        if first >= 0xdc00 || !(self.take(b'\\') && self.take(b'u')) {
            return Err(lone());
        }
        let second = self.hex(start)?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(lone());
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or_else(lone)
    }

    fn hex(&mut self, start: usize) -> Result<u32, Failure> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let digit = digit.ok_or_else(|| Failure::new(start, "\\u needs four hex digits"))?;
            value = value * 16 + digit;
            self.at += 1;
        }
        Ok(value)
    }

    /// A number by JSON's grammar: int32 when it fits, else int64, else a
    /// double if that is exact; with a fraction or an exponent a double.
    fn number(&mut self) -> Result<u8, Failure> {
        let start = self.at;
        self.take(b'-');
        if self.text.get(self.at..).unwrap_or_default().starts_with(b"Infinity") {
            return Err(Failure::new(
                start,
                "-Infinity is not JSON, write {\"$numberDouble\": \"-Infinity\"}",
            ));
        }
        if self.take(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(Failure::new(start, "a number must not start with 0"));
            }
        } else {
            self.digits()?;
        }
        let mut whole = true;
        if self.take(b'.') {
            whole = false;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            whole = false;
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let text = std::str::from_utf8(text).unwrap_or_default();
        if whole && let Ok(number) = text.parse::<i64>() {
            return Ok(if let Ok(small) = i32::try_from(number) {
                self.out.extend_from_slice(&small.to_le_bytes());
                tag::INT32
            } else {
                self.out.extend_from_slice(&number.to_le_bytes());
                tag::INT64
            });
        }
        let number: f64 = text.parse().map_err(|_| Failure::new(start, "an invalid number"))?;
        if !number.is_finite() {
            return Err(Failure::new(start, "a number out of the range of a double"));
        }
        if whole && format!("{number:.0}") != text {
            return Err(Failure::new(
                start,
                "an integer that int64 cannot hold, write {\"$numberDecimal\": \"...\"}",
            ));
        }
        self.out.extend_from_slice(&number.to_le_bytes());
        Ok(tag::DOUBLE)
    }

    fn digits(&mut self) -> Result<(), Failure> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.expected("a digit"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }
}

/// The decimal digits of a number, without an allocation.
pub(in crate::document) fn push_decimal(out: &mut Vec<u8>, mut number: usize) {
    let start = out.len();
    loop {
        out.push(b'0' + u8::try_from(number % 10).unwrap_or_default());
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}
