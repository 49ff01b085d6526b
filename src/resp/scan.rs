use bytes::{Bytes, BytesMut};

use super::inline::split_line;
use super::words::{Ranges, Words};

/// What a client may send. Larger limits cost memory per connection that uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request, all of it; at most 1 GiB.
    pub frame_bytes: usize,
    /// Words of one request, the command's name included.
    pub arguments: usize,
    /// How deep arrays may lie in a request before the connection is closed. No command takes one.
    pub nesting: usize,
    /// Bytes of one inline command, and of one length line.
    pub inline_bytes: usize,
}

/// Why the bytes of a client can't be read any further; the text is what follows `ERR Protocol error: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// No line end within the bytes that an inline command may have.
    #[error("too big inline request")]
    InlineTooBig,
    /// An inline command with a quote that isn't closed.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A line that announces an array goes on for too long.
    #[error("too big mbulk count string")]
    CountLineTooBig,
    /// A line that announces a bulk string goes on for too long.
    #[error("too big bulk count string")]
    LengthLineTooBig,
    /// Not a number, or more words than a request may have.
    #[error("invalid multibulk length")]
    InvalidCount,
    /// Not a number, below 0, or more than a request may have.
    #[error("invalid bulk length")]
    InvalidLength,
    /// Words that are allowed one by one but not together.
    #[error("request is larger than {limit} bytes")]
    FrameTooBig {
        /// The limit that was passed.
        limit: usize,
    },
    /// Arrays within arrays.
    #[error("nesting is deeper than {limit}")]
    TooDeep {
        /// The limit that was passed.
        limit: usize,
    },
    /// Something else than a bulk string in a request.
    #[error("expected '$', got '{}'", got.escape_ascii())]
    ExpectedBulk {
        /// The byte where `$` should have been.
        got: u8,
    },
    /// A bulk string goes on where it should end.
    #[error("expected a line end after a bulk string")]
    UnterminatedBulk,
}

/// One request, as far as the protocol can tell.
#[derive(Debug)]
pub enum Request {
    /// A command and its arguments; never empty.
    Command(Words),
    /// A well-formed request with an array where a word should be. It's refused, and the connection goes on.
    Nested,
}

/// Reads requests from a growing buffer. It remembers how far it has looked, so bytes are looked at once.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    /// Everything before this position of the buffer has been understood.
    position: usize,
    /// Everything before this position holds no line end that matters.
    searched: usize,
    /// Words still to come, per open array; empty between requests.
    open: Vec<usize>,
    /// The innermost open array, kept out of `open`: requests have just this one.
    words_left: usize,
    in_array: bool,
    nested: bool,
    /// The length of the bulk string that begins at `position`.
    bulk: Option<usize>,
    ranges: Ranges,
}

/// A line is there up to this position, or not yet.
enum Line {
    Complete { end: usize, next: usize },
    Incomplete,
}

impl Scanner {
    /// A scanner at the start of a connection's bytes.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            position: 0,
            searched: 0,
            open: Vec::new(),
            words_left: 0,
            in_array: false,
            nested: false,
            bulk: None,
            ranges: Ranges::new(),
        }
    }

    /// Has other limits from here on, also for what is left of a request that has begun.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the next complete request off the front of `buffer`, or gives `None`: then call
    /// again after appending to the buffer, and change it in no other way in between.
    ///
    /// After an error the connection is beyond repair: nobody knows where the next request begins.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        loop {
            if !self.in_array {
                match buffer.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        if !self.open_array(buffer)? {
                            return Ok(None);
                        }
                        if !self.in_array {
                            // An empty or null array asks for nothing.
                            self.take(buffer);
                            continue;
                        }
                    }
                    Some(_) => match self.inline(buffer)? {
                        None => return Ok(None),
                        Some(words) if words.is_empty() => continue,
                        Some(words) => return Ok(Some(Request::Command(words))),
                    },
                }
            }
            if !self.array(buffer)? {
                return Ok(None);
            }
            let nested = self.nested;
            let ranges = std::mem::take(&mut self.ranges);
            let frame = self.take(buffer);
            return Ok(Some(if nested {
                Request::Nested
            } else {
                Request::Command(Words::new(frame, ranges))
            }));
        }
    }

    /// How many bytes the request under way certainly still needs, as far as it has said so.
    pub fn missing(&self, buffer: &BytesMut) -> usize {
        self.bulk.map_or(0, |length| (self.position + length + 2).saturating_sub(buffer.len()))
    }

    /// Whether a request has begun and not ended.
    pub fn is_within_request(&self, buffer: &BytesMut) -> bool {
        self.in_array || !buffer.is_empty()
    }

    /// Where the next look at the buffer begins.
    #[cfg(test)]
    pub(super) fn place(&self) -> usize {
        self.position.max(self.searched)
    }

    /// Removes what has been understood from the buffer and starts afresh.
    fn take(&mut self, buffer: &mut BytesMut) -> Bytes {
        let frame = buffer.split_to(self.position).freeze();
        self.position = 0;
        self.searched = 0;
        self.open.clear();
        self.words_left = 0;
        self.in_array = false;
        self.nested = false;
        frame
    }

    fn inline(&mut self, buffer: &mut BytesMut) -> Result<Option<Words>, ProtocolError> {
        let unsearched = buffer.get(self.searched..).unwrap_or_default();
        let Some(offset) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = buffer.len();
            if buffer.len() > self.limits.inline_bytes {
                return Err(ProtocolError::InlineTooBig);
            }
            return Ok(None);
        };
        let end = self.searched + offset;
        if end > self.limits.inline_bytes {
            return Err(ProtocolError::InlineTooBig);
        }
        self.position = end + 1;
        let line = self.take(buffer);
        let words = split_line(&line).ok_or(ProtocolError::UnbalancedQuotes)?;
        if words.len() > self.limits.arguments {
            return Err(ProtocolError::InvalidCount);
        }
        Ok(Some(Words::from_words(words)))
    }

    /// Reads `*<count>`. Gives false when more bytes are needed. An array with no elements opens nothing.
    fn open_array(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        let Line::Complete { end, next } = self.line(buffer, ProtocolError::CountLineTooBig)?
        else {
            return Ok(false);
        };
        let count = number(buffer.get(self.position + 1..end).unwrap_or_default())
            .ok_or(ProtocolError::InvalidCount)?;
        self.position = next;
        self.searched = next;
        let Ok(count) = usize::try_from(count) else { return Ok(true) };
        if count > self.limits.arguments {
            return Err(ProtocolError::InvalidCount);
        }
        if count == 0 {
            return Ok(true);
        }
        if self.in_array {
            self.open.push(self.words_left);
        }
        self.words_left = count;
        self.in_array = true;
        Ok(true)
    }

    /// Reads the elements of the open arrays. Gives false when more bytes are needed.
    fn array(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        loop {
            if self.words_left == 0 {
                match self.open.pop() {
                    None => return Ok(true),
                    Some(outer) => {
                        self.words_left = outer;
                        continue;
                    }
                }
            }
            let length = match self.bulk {
                Some(length) => length,
                None => match buffer.get(self.position) {
                    None => return Ok(false),
                    Some(b'$') => {
                        let Line::Complete { end, next } =
                            self.line(buffer, ProtocolError::LengthLineTooBig)?
                        else {
                            return Ok(false);
                        };
                        let length = self.length(buffer, end)?;
                        self.position = next;
                        self.bulk = Some(length);
                        length
                    }
                    Some(b'*') => {
                        self.nested = true;
                        if self.open.len() + 2 > self.limits.nesting {
                            return Err(ProtocolError::TooDeep { limit: self.limits.nesting });
                        }
                        if !self.nested_array(buffer)? {
                            return Ok(false);
                        }
                        continue;
                    }
                    Some(got) => return Err(ProtocolError::ExpectedBulk { got: *got }),
                },
            };
            let end = self.position + length;
            match buffer.get(end..end + 2) {
                None => return Ok(false),
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::UnterminatedBulk),
            }
            if !self.nested {
                self.ranges.push(self.position, end);
            }
            self.position = end + 2;
            self.searched = self.position;
            self.bulk = None;
            self.words_left -= 1;
        }
    }

    /// An array takes the place of one word of the array around it.
    fn nested_array(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        let before = self.open.len();
        if !self.open_array(buffer)? {
            return Ok(false);
        }
        match self.open.get_mut(before) {
            Some(outer) => *outer -= 1,
            None => self.words_left -= 1,
        }
        Ok(true)
    }

    fn length(&self, buffer: &[u8], end: usize) -> Result<usize, ProtocolError> {
        let limit = self.limits.frame_bytes;
        let length = number(buffer.get(self.position + 1..end).unwrap_or_default())
            .and_then(|number| usize::try_from(number).ok())
            .filter(|length| *length <= limit)
            .ok_or(ProtocolError::InvalidLength)?;
        // Checked when announced: a request that will be refused is not collected first.
        if end + 2 + length + 2 > limit {
            return Err(ProtocolError::FrameTooBig { limit });
        }
        Ok(length)
    }

    /// Looks for the end of the line that begins at `position`.
    fn line(&mut self, buffer: &[u8], too_big: ProtocolError) -> Result<Line, ProtocolError> {
        let from = self.searched.max(self.position);
        let unsearched = buffer.get(from..).unwrap_or_default();
        let found = unsearched.iter().position(|byte| *byte == b'\n').map(|offset| from + offset);
        let length = found.unwrap_or(buffer.len()) - self.position;
        if length > self.limits.inline_bytes {
            return Err(too_big);
        }
        match found {
            None => {
                self.searched = buffer.len();
                Ok(Line::Incomplete)
            }
            Some(end) => {
                // Without a carriage return the line feed is left on the number, which then doesn't parse.
                let text_end = match buffer.get(self.position..end) {
                    Some([.., b'\r']) => end - 1,
                    _ => end + 1,
                };
                // Counted here too: arrays of empty arrays have no bulk string that is checked.
                if end + 1 > self.limits.frame_bytes {
                    return Err(ProtocolError::FrameTooBig { limit: self.limits.frame_bytes });
                }
                Ok(Line::Complete { end: text_end, next: end + 1 })
            }
        }
    }
}

/// Strict as Redis': decimal digits, perhaps a minus, no sign or zero in front.
fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
