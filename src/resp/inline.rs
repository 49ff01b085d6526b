/// Splits a line into words as a shell would, with Redis' rules: words end at white space; in double quotes
/// `\xHH`, `\n`, `\r`, `\t`, `\b`, `\a` and `\` before any other byte are escapes; in single
/// quotes only `\'` is; a closing quote must end the word.
///
/// Gives `None` where quotes are not balanced.
pub fn split_line(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [byte, after @ ..] = rest
            && is_space(*byte)
        {
            rest = after;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let (word, after) = one_word(rest)?;
        words.push(word);
        rest = after;
    }
}

fn one_word(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    let mut rest = line;
    loop {
        match rest {
            [] => return Some((word, rest)),
            [byte, ..] if is_space(*byte) => return Some((word, rest)),
            [b'"', after @ ..] => return double_quoted(after, word),
            [b'\'', after @ ..] => return single_quoted(after, word),
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

fn double_quoted(line: &[u8], mut word: Vec<u8>) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = line;
    loop {
        match rest {
            [] => return None,
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) * 16 + hex(*low));
                rest = after;
            }
            [b'\\', byte, after @ ..] => {
                word.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            [b'"', after @ ..] => return closed(word, after),
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut word: Vec<u8>) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = line;
    loop {
        match rest {
            [] => return None,
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                rest = after;
            }
            [b'\'', after @ ..] => return closed(word, after),
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// A closing quote is followed by white space or the end of the line, never by more of the word.
fn closed(word: Vec<u8>, after: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match after {
        [byte, ..] if !is_space(*byte) => None,
        _ => Some((word, after)),
    }
}

/// C's `isspace` and the zero byte, both of which end a word in Redis.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0)
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A') + 10,
    }
}
