//! The keys of the store itself, all below `\xff`, and the chain of commits.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::codec::Versionstamp;

/// Holds the newest [`State`]; written last in every batch.
pub(super) const STATE_KEY: &[u8] = b"\xff/state";
/// Followed by a dropped prefix; its value is the version of the drop.
const DROPPED: &[u8] = b"\xff/dropped/";

/// What every batch says about itself and what went before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) version: u64,
    pub(super) metadata_version: Versionstamp,
    /// The chain up to the batch before.
    pub(super) previous: u128,
    /// Where the engine's sequence numbers stood after the batch before: above its own, and not above this batch's.
    pub(super) previous_end: u64,
    /// The chain up to this batch.
    pub(super) chain: u128,
}

impl State {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(58);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(self.metadata_version.as_bytes());
        bytes.extend_from_slice(&self.previous.to_be_bytes());
        bytes.extend_from_slice(&self.previous_end.to_be_bytes());
        bytes.extend_from_slice(&self.chain.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk()?;
        let (metadata_version, rest) = rest.split_first_chunk()?;
        let (previous, rest) = rest.split_first_chunk()?;
        let (previous_end, rest) = rest.split_first_chunk()?;
        Some(Self {
            version: u64::from_be_bytes(*version),
            metadata_version: Versionstamp::from_bytes(*metadata_version),
            previous: u128::from_be_bytes(*previous),
            previous_end: u64::from_be_bytes(*previous_end),
            chain: u128::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// What an item of a batch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Write,
    Clear,
}

impl Kind {
    /// As the engine writes it.
    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Write),
            1 => Some(Self::Clear),
            _ => None,
        }
    }
}

/// The hash of one batch, begun with the hash of the one before.
pub(super) struct Chain(Xxh3);

impl Chain {
    pub(super) fn new(previous: u128) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&previous.to_be_bytes());
        Self(hash)
    }

    pub(super) fn item(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes();
        self.0.update(&[u8::from(kind == Kind::Clear)]);
        self.0.update(&length(key));
        self.0.update(key);
        self.0.update(&length(value));
        self.0.update(value);
    }

    /// The hash with the state, whose own field for it does not count.
    pub(super) fn finish(mut self, state: &State) -> u128 {
        self.0.update(&State { chain: 0, ..*state }.encode());
        self.0.digest128()
    }
}

/// The key of the mark of a dropped prefix.
pub(super) fn dropped_key(prefix: &[u8]) -> Vec<u8> {
    [DROPPED, prefix].concat()
}

/// The prefix that a mark stands for.
pub(super) fn dropped_prefix(key: &[u8]) -> Option<Bytes> {
    key.strip_prefix(DROPPED).map(Bytes::copy_from_slice)
}

/// The range of all marks.
pub(super) fn dropped_range() -> (Vec<u8>, Vec<u8>) {
    (DROPPED.to_vec(), crate::store::prefix_end(DROPPED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_and_the_chain_depends_on_everything() {
        let state = State {
            version: 3,
            metadata_version: Versionstamp::new(2, 1),
            previous: 5,
            previous_end: 9,
            chain: u128::MAX - 1,
        };
        assert_eq!(State::decode(&state.encode()), Some(state));
        assert_eq!(State::decode(&state.encode()[1..]), None);
        let chain = |previous, key: &[u8], value: &[u8], version| {
            let mut chain = Chain::new(previous);
            chain.item(Kind::Write, key, value);
            chain.finish(&State { version, ..state })
        };
        let one = chain(1, b"a", b"b", 1);
        assert_eq!(one, chain(1, b"a", b"b", 1));
        for other in [chain(2, b"a", b"b", 1), chain(1, b"ab", b"", 1), chain(1, b"a", b"b", 2)] {
            assert_ne!(one, other);
        }
    }
}
