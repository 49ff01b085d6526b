use std::borrow::Cow;

use bytes::Bytes;

/// The version of the protocol that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every connection starts with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// The number that HELLO and CLIENT LIST show.
    pub const fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// What a command answers. It says what the value is; how it looks on the
/// wire depends on the protocol version and is the encoder's matter.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`
    Ok,
    /// A short status. Line ends in it are sent as spaces.
    Simple(Cow<'static, str>),
    /// Any bytes.
    Bulk(Bytes),
    /// Text, sent as a bulk string.
    Text(String),
    /// Text that clients show as it stands (INFO): verbatim in RESP3, else a bulk string.
    Verbatim(String),
    /// A signed 64-bit number.
    Integer(i64),
    /// A bulk string in RESP2.
    Double(f64),
    /// 1 or 0 in RESP2.
    Boolean(bool),
    /// `$-1` in RESP2.
    Null,
    /// `*-1` in RESP2: a missing array, where clients tell it from a missing string.
    NullArray,
    /// Replies in order.
    Array(Vec<Reply>),
    /// No order, no duplicates; an array in RESP2.
    Set(Vec<Reply>),
    /// Pairs in order; in RESP2 one flat array of keys and values.
    Map(Vec<(Reply, Reply)>),
    /// `CODE message`. Line ends in it are sent as spaces.
    Error(String),
    /// Nothing is sent (CLIENT REPLY).
    NoReply,
}

impl Reply {
    /// A bulk string from text known at compile time, without an allocation.
    pub const fn literal(text: &'static str) -> Self {
        Self::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// A bulk string from a copy of `bytes`.
    pub fn copy(bytes: &[u8]) -> Self {
        Self::Bulk(Bytes::copy_from_slice(bytes))
    }

    /// A map whose keys are known at compile time.
    pub fn map<const N: usize>(pairs: [(&'static str, Self); N]) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (Self::literal(key), value)).collect())
    }

    /// `text` as a bulk string, or null.
    pub fn text_or_null(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }

    /// Whether this is an error.
    pub const fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Self::Bulk(bytes)
    }
}

impl From<i64> for Reply {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u64> for Reply {
    /// A number above `i64::MAX`, which the protocol can't carry, is sent as `i64::MAX`.
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Reply {
    fn from(number: usize) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Reply {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<f64> for Reply {
    fn from(number: f64) -> Self {
        Self::Double(number)
    }
}

impl<T: Into<Reply>> From<Vec<T>> for Reply {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}
