//! A position in a bucket's change log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DecodeError, Versionstamp};

/// Between which changes a reader stands: everything at or below it has been
/// read. One position serves for all shards of a bucket, because versions are
/// ordered over all of them. Printed as 24 hex digits; `0` is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence {
    version: Versionstamp,
    /// Tells the changes of one commit apart.
    order: u16,
}

impl Sequence {
    /// In front of every change.
    pub const START: Self = Self { version: Versionstamp::MIN, order: 0 };

    /// Of the change number `order` of a commit.
    #[must_use]
    pub const fn new(version: Versionstamp, order: u16) -> Self {
        Self { version, order }
    }

    /// Behind every change of a commit.
    #[must_use]
    pub const fn end_of(version: Versionstamp) -> Self {
        Self { version, order: u16::MAX }
    }

    /// Behind every change that a transaction reading at `version` can see.
    #[must_use]
    pub fn last_visible_at(version: u64) -> Self {
        Self::end_of(Versionstamp::last_visible_at(version))
    }

    /// Of the commit in which it stands.
    #[must_use]
    pub const fn version(&self) -> Versionstamp {
        self.version
    }

    #[must_use]
    pub const fn order(&self) -> u16 {
        self.order
    }

    /// Twelve bytes whose order is the order of positions.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..10].copy_from_slice(self.version.as_bytes());
        bytes[10..].copy_from_slice(&self.order.to_be_bytes());
        bytes
    }

    /// Reads what [`Sequence::to_bytes`] wrote.
    ///
    /// # Errors
    /// When there are more or fewer bytes.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let wrong = || DecodeError::new("sequence", format!("{} bytes, not 12", value.len()));
        let (version, order) = value.split_at_checked(10).ok_or_else(wrong)?;
        let order = <[u8; 2]>::try_from(order).map_err(|_| wrong())?;
        Ok(Self::new(Versionstamp::decode(version)?, u16::from_be_bytes(order)))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:04x}", self.version, self.order)
    }
}

impl FromStr for Sequence {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        if text == "0" {
            return Ok(Self::START);
        }
        let wrong = || DecodeError::new("sequence", "not 24 hex digits");
        let (version, order) = text.split_at_checked(20).ok_or_else(wrong)?;
        if order.len() != 4 || !order.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let order = u16::from_str_radix(order, 16).map_err(|_| wrong())?;
        Ok(Self::new(version.parse().map_err(|_| wrong())?, order))
    }
}

impl Serialize for Sequence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_read_back_and_nonsense_does_not() {
        let sequence = Sequence::new(Versionstamp::new(7, 1), 0x0a0b);
        assert_eq!(sequence.to_string(), "000000000000000700010a0b");
        assert_eq!(sequence.to_string().parse(), Ok(sequence));
        assert_eq!(Sequence::decode(&sequence.to_bytes()), Ok(sequence));
        assert_eq!("0".parse(), Ok(Sequence::START));
        for wrong in ["", "1", "00", "000000000000000700010a0", "000000000000000700010a0bc", "+é"]
        {
            assert!(wrong.parse::<Sequence>().is_err(), "{wrong}");
        }
        assert!("00000000000000070001+a0b".parse::<Sequence>().is_err());
        assert!(Sequence::decode(&[0; 11]).is_err());
        assert!(Sequence::decode(&[0; 13]).is_err());
    }

    #[test]
    fn order_is_commit_order_and_then_order_in_the_commit() {
        let at = |version, order| Sequence::new(Versionstamp::new(version, 0), order);
        assert!(Sequence::START < at(1, 0));
        assert!(at(1, 9) < Sequence::end_of(Versionstamp::new(1, 0)));
        assert!(Sequence::end_of(Versionstamp::new(1, 0)) < at(2, 0));
        assert!(at(2, 5) < Sequence::last_visible_at(2));
        assert!(at(1, 2).to_bytes() < at(1, 3).to_bytes());
    }
}
