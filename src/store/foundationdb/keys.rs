//! The prefix in front of all keys of one store.
//!
//! It is the name, packed as a tuple: no packed name is the beginning of another, so that stores with different names never see each
//! other, and what the directory layer or other programs keep in the same FoundationDB is out of reach as well.

use bytes::Bytes;
use foundationdb_tuple::pack;

use super::super::limits::PREFIX_BYTES_MAX;
use super::{Error, Result};

#[derive(Debug, Clone)]
pub(super) struct Prefix(Bytes);

impl Prefix {
    pub(super) fn new(name: &str) -> Result<Self> {
        let packed = pack(&(name,));
        if packed.len() > PREFIX_BYTES_MAX {
            return Err(Error::Format(format!(
                "the key prefix '{name}' takes {} bytes packed, more than {PREFIX_BYTES_MAX}",
                packed.len()
            )));
        }
        Ok(Self(packed.into()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The key as FoundationDB knows it; also the bound of a range.
    pub(super) fn full(&self, key: &[u8]) -> Vec<u8> {
        [&self.0, key].concat()
    }

    /// The key as it was before.
    pub(super) fn strip(&self, full: &[u8]) -> Result<Bytes> {
        full.strip_prefix(self.0.as_ref())
            .map(Bytes::copy_from_slice)
            .ok_or_else(|| Error::Corrupt { detail: "a key lies outside its prefix".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_prefix_is_the_beginning_of_another(one in ".{0,20}", two in ".{0,20}") {
            let (a, b) = (Prefix::new(&one).unwrap(), Prefix::new(&two).unwrap());
            prop_assert_eq!(a.0.starts_with(&b.0), one == two);
        }
    }

    #[test]
    fn a_key_comes_back_and_a_long_prefix_is_refused() {
        let prefix = Prefix::new("lethe").unwrap();
        assert_eq!(prefix.strip(&prefix.full(b"key")).unwrap(), "key");
        assert!(matches!(prefix.strip(b"key"), Err(Error::Corrupt { .. })));
        assert!(matches!(Prefix::new(&"x".repeat(95)), Err(Error::Format(_))));
    }
}
