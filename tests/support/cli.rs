//! What redis-cli does with a line and with a reply: splitting into arguments, and printing.

use std::fmt::Write as _;

use crate::client::Value;

/// Splits a line as redis-cli does: blanks separate, `"..."` with escapes, `'...'` without.
pub(crate) fn split(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut arguments = Vec::new();
    let mut bytes = line.bytes().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(first) = bytes.peek().copied() else { return Ok(arguments) };
        let mut argument = Vec::new();
        if first == b'"' || first == b'\'' {
            bytes.next();
            quoted(first, &mut bytes, &mut argument)
                .ok_or_else(|| format!("unbalanced quotes: {line}"))?;
            if bytes.peek().is_some_and(|next| !next.is_ascii_whitespace()) {
                return Err(format!("a closing quote must be followed by a blank: {line}"));
            }
        } else {
            while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
                argument.push(byte);
            }
        }
        arguments.push(argument);
    }
}

fn quoted(
    quote: u8,
    bytes: &mut std::iter::Peekable<std::str::Bytes<'_>>,
    argument: &mut Vec<u8>,
) -> Option<()> {
    loop {
        let byte = bytes.next()?;
        if byte == quote {
            return Some(());
        }
        if byte != b'\\' {
            argument.push(byte);
        } else if quote == b'\'' {
            argument.push(bytes.next_if_eq(&b'\'').unwrap_or(b'\\'));
        } else {
            argument.push(match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'a' => 7,
                b'x' => {
                    let digits = [bytes.next()?, bytes.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                other => other,
            });
        }
    }
}

/// A reply as redis-cli prints it to a terminal, with a line end after every line.
pub(crate) fn print(reply: &Value) -> String {
    let mut out = String::new();
    print_into(&mut out, reply, "");
    out
}

fn print_into(out: &mut String, reply: &Value, indent: &str) {
    let line = match reply {
        Value::Simple(text) | Value::Verbatim(text) => text.clone(),
        Value::Error(text) => format!("(error) {text}"),
        Value::Integer(number) => format!("(integer) {number}"),
        Value::Double(number) => format!("(double) {number}"),
        Value::Boolean(flag) => format!("({flag})"),
        Value::BigNumber(text) => format!("(big number) {text}"),
        Value::Bulk(bytes) => quote(bytes),
        Value::Null => "(nil)".to_owned(),
        Value::Array(items) => return print_items(out, items, ')', "(empty array)", indent),
        Value::Set(items) => return print_items(out, items, '~', "(empty set)", indent),
        Value::Push(items) => return print_items(out, items, ')', "(empty push)", indent),
        Value::Map(pairs) => return print_map(out, pairs, indent),
    };
    out.push_str(&line);
    out.push('\n');
}

fn print_items(out: &mut String, items: &[Value], mark: char, empty: &str, indent: &str) {
    if items.is_empty() {
        out.push_str(empty);
        out.push('\n');
    }
    let width = items.len().to_string().len();
    let deeper = format!("{indent}{}", " ".repeat(width + 2));
    for (number, item) in items.iter().enumerate() {
        let before = if number == 0 { "" } else { indent };
        write!(out, "{before}{:>width$}{mark} ", number + 1).expect("a string takes everything");
        print_into(out, item, &deeper);
    }
}

fn print_map(out: &mut String, pairs: &[(Value, Value)], indent: &str) {
    if pairs.is_empty() {
        out.push_str("(empty hash)\n");
    }
    let width = pairs.len().to_string().len();
    let deeper = format!("{indent}{}", " ".repeat(width + 2));
    for (number, (key, value)) in pairs.iter().enumerate() {
        let before = if number == 0 { "" } else { indent };
        write!(out, "{before}{:>width$}# ", number + 1).expect("a string takes everything");
        print_into(out, key, &deeper);
        out.pop();
        out.push_str(" => ");
        print_into(out, value, &deeper);
    }
}

fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                // redis-cli escapes every byte beyond ASCII; a file of text is read more easily without.
                other if other.is_control() => {
                    write!(out, "\\x{:02x}", u32::from(other)).expect("a string takes everything");
                }
                other => out.push(other),
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("a string takes everything");
        }
    }
    out.push('"');
    out
}

mod tests {
    use super::*;

    #[test]
    fn a_line_splits_as_redis_cli_splits_it() {
        let check = |line: &str, expected: &[&[u8]]| {
            assert_eq!(split(line).expect(line), expected, "{line}");
        };
        check(
            r#"BUCKET.INSERT b DOCS '{"a": 1}'"#,
            &[b"BUCKET.INSERT", b"b", b"DOCS", br#"{"a": 1}"#],
        );
        check(r#"ECHO "a\x00\"b\n" ''"#, &[b"ECHO", b"a\x00\"b\n", b""]);
        check(r#"A {"b":1} 'it\'s'"#, &[b"A", br#"{"b":1}"#, b"it's"]);
        assert!(split("A 'b").is_err() && split(r#"A "b"c"#).is_err());
    }

    #[test]
    fn a_reply_prints_as_redis_cli_prints_it() {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let nested = Value::Array(vec![
            Value::Integer(1),
            Value::Array(vec![bulk("a\"b"), Value::Null]),
            Value::Map(vec![(bulk("k"), Value::Array(Vec::new()))]),
        ]);
        assert_eq!(
            print(&nested),
            "1) (integer) 1\n2) 1) \"a\\\"b\"\n   2) (nil)\n3) 1# \"k\" => (empty array)\n"
        );
        assert_eq!(print(&Value::Error("ERR no".to_owned())), "(error) ERR no\n");
    }
}
