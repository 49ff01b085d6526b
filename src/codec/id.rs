//! Ids of instances and removals, and their text form.
//!
//! An id is a number from a block that a node reserved in the store, so it is
//! unique for ever and short in keys. Its text is the number and a check over
//! number and kind, 128 bits together, in 26 characters of Crockford's base32
//! behind a prefix that tells the kind: `b_`, `n_`, `r_`. A mistyped id is thus
//! recognised as no id at all, and never names another object.

use std::fmt;

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters behind the prefix.
const TEXT_LENGTH: usize = 26;

/// The finaliser of `SplitMix64`: spreads every bit of the number over the word.
const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn to_text(f: &mut fmt::Formatter<'_>, prefix: char, number: u64) -> fmt::Result {
    let check = mix(number ^ mix(u64::from(u32::from(prefix))));
    let mut rest = (u128::from(check) << 64) | u128::from(number ^ mix(check));
    let mut text = [0; TEXT_LENGTH];
    for place in text.iter_mut().rev() {
        // 26 places of five bits hold 130 bits: the first place is 0 to 7.
        *place = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    write!(f, "{prefix}_{}", std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn digit(byte: u8) -> Option<u128> {
    let folded = match byte.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    ALPHABET.iter().position(|&letter| letter == folded).map(|position| position as u128)
}

/// The 128 bits of a text that has the form of an id with this prefix.
fn bits(text: &str, prefix: char) -> Option<u128> {
    let mut bytes = text.bytes();
    if !bytes.next()?.eq_ignore_ascii_case(&u8::try_from(prefix).ok()?) || bytes.next()? != b'_' {
        return None;
    }
    if bytes.len() != TEXT_LENGTH {
        return None;
    }
    let mut value: u128 = 0;
    for (place, byte) in bytes.enumerate() {
        let digit = digit(byte)?;
        if place == 0 && digit > 7 {
            return None;
        }
        value = (value << 5) | digit;
    }
    Some(value)
}

fn from_text(text: &str, prefix: char) -> Option<u64> {
    let value = bits(text, prefix)?;
    let check = u64::try_from(value >> 64).ok()?;
    let number = u64::try_from(value & u128::from(u64::MAX)).ok()? ^ mix(check);
    (check == mix(number ^ mix(u64::from(u32::from(prefix))))).then_some(number)
}

/// Whether a name has the full form of an id, of whatever kind and whether or
/// not its check holds. Such names are refused, so that an id never resolves
/// as a name nor a name as an id.
#[must_use]
pub fn has_form_of_id(name: &str) -> bool {
    ['b', 'n', 'r', 'd'].into_iter().any(|prefix| bits(name, prefix).is_some())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Reads the text form, in any case; `None` when it is not an id of
            /// this kind.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                from_text(text, $prefix).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                to_text(f, $prefix, self.0)
            }
        }
    };
}

id!(
    /// One incarnation of a bucket.
    BucketId,
    'b'
);
id!(
    /// One incarnation of a namespace. [`NamespaceId::ROOT`] is above them all.
    NamespaceId,
    'n'
);
id!(
    /// One removal of one instance: the handle for RESTORE and PURGE.
    RemovalId,
    'r'
);

/// The two kinds of what can be removed and restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    Bucket,
    Namespace,
}

impl ObjectKind {
    /// As messages begin with it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Bucket => "Bucket",
            Self::Namespace => "Namespace",
        }
    }

    /// As metrics and replies call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Namespace => "namespace",
        }
    }
}

/// One incarnation of either. Their numbers come from one source, so a number alone
/// names one object: that is what fences, busy rows and events go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Object {
    #[serde(rename = "bucket")]
    Bucket(BucketId),
    /// Beside the namespace that it is in, hence the name.
    #[serde(rename = "child")]
    Namespace(NamespaceId),
}

impl Object {
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Bucket(id) => id.0,
            Self::Namespace(id) => id.0,
        }
    }

    #[must_use]
    pub const fn kind(self) -> ObjectKind {
        match self {
            Self::Bucket(_) => ObjectKind::Bucket,
            Self::Namespace(_) => ObjectKind::Namespace,
        }
    }

    /// The bucket, if it is one.
    #[must_use]
    pub const fn bucket(self) -> Option<BucketId> {
        match self {
            Self::Bucket(id) => Some(id),
            Self::Namespace(_) => None,
        }
    }
}

impl From<BucketId> for Object {
    fn from(id: BucketId) -> Self {
        Self::Bucket(id)
    }
}

impl From<NamespaceId> for Object {
    fn from(id: NamespaceId) -> Self {
        Self::Namespace(id)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(id) => id.fmt(f),
            Self::Namespace(id) => id.fmt(f),
        }
    }
}

impl NamespaceId {
    /// The parent of the topmost namespaces. Has no record and no fence.
    pub const ROOT: Self = Self(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_reads_back_in_any_case(number: u64) {
            let text = BucketId(number).to_string();
            prop_assert_eq!(text.len(), 28);
            prop_assert_eq!(BucketId::parse(&text), Some(BucketId(number)));
            prop_assert_eq!(BucketId::parse(&text.to_lowercase()), Some(BucketId(number)));
            prop_assert_eq!(RemovalId::parse(&text.replacen('b', "r", 1)), None);
            prop_assert!(has_form_of_id(&text));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            prop_assert!(BucketId::parse(&text).is_none());
        }
    }

    #[test]
    fn a_mistyped_id_is_no_id() {
        let text = RemovalId(7).to_string();
        for place in 2..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[place] = if wrong[place] == b'7' { b'3' } else { b'7' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(RemovalId::parse(&wrong), None, "{wrong}");
        }
    }
}
