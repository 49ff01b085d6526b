//! Commit versions: ten bytes whose order is the order of commits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::DecodeError;

/// The version of a commit: eight bytes of commit version and two bytes that
/// order the transactions of one commit batch, both big-endian, so that byte
/// order is commit order. Printed as 20 hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Versionstamp([u8; 10]);

impl Versionstamp {
    /// Below every commit: what a missing witness counts as.
    pub const MIN: Self = Self([0; 10]);
    /// Above every commit.
    pub const MAX: Self = Self([0xff; 10]);

    /// The versionstamp of transaction `order` in the batch with `version`.
    #[must_use]
    pub fn new(version: u64, order: u16) -> Self {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&version.to_be_bytes());
        bytes[8..].copy_from_slice(&order.to_be_bytes());
        Self(bytes)
    }

    /// The largest versionstamp that a transaction reading at `version` can see.
    #[must_use]
    pub fn last_visible_at(version: u64) -> Self {
        Self::new(version, u16::MAX)
    }

    #[must_use]
    pub const fn from_bytes(bytes: [u8; 10]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 10] {
        &self.0
    }

    /// The commit version, without the order within its batch.
    #[must_use]
    pub fn version(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(bytes)
    }

    /// Reads the value of a versionstamped key: exactly ten bytes.
    ///
    /// # Errors
    /// When there are more or fewer bytes.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        <[u8; 10]>::try_from(value).map(Self).map_err(|_| {
            DecodeError::new("versionstamp", format!("{} bytes, expected 10", value.len()))
        })
    }

    /// The value that asks the store to write the commit's own versionstamp:
    /// ten bytes to be overwritten, and their offset, 0.
    #[must_use]
    pub const fn placeholder() -> [u8; 14] {
        let mut value = [0xff; 14];
        value[10] = 0;
        value[11] = 0;
        value[12] = 0;
        value[13] = 0;
        value
    }
}

impl fmt::Display for Versionstamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Versionstamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Versionstamp {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let wrong = || DecodeError::new("versionstamp", "not 20 hex digits");
        if text.len() != 20 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 10];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Versionstamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Versionstamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_twenty_hex_digits_and_reads_back() {
        let stamp = Versionstamp::new(0x0102_0304_0506_0708, 0x090a);
        assert_eq!(stamp.to_string(), "0102030405060708090a");
        assert_eq!("0102030405060708090A".parse(), Ok(stamp));
        assert!("0102030405060708090".parse::<Versionstamp>().is_err());
        assert!("é102030405060708090".parse::<Versionstamp>().is_err());
        assert_eq!(stamp.version(), 0x0102_0304_0506_0708);
    }

    #[test]
    fn order_is_commit_order() {
        assert!(Versionstamp::new(1, 9) < Versionstamp::new(2, 0));
        assert!(Versionstamp::new(2, 1) < Versionstamp::last_visible_at(2));
        assert!(Versionstamp::last_visible_at(2) < Versionstamp::new(3, 0));
    }
}
