//! How a document lies in the store.
//!
//! ```text
//! data/<bucket>/doc/<oid>           1, BSON                                   small enough for one value
//!                                   2, body u64, length u32, checksum u64     big-endian; the rest lies in
//! data/<bucket>/body/<body>/<chunk>  the BSON in pieces of CHUNK_BYTES
//! ```

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::{Document, Home, join_all};
use crate::codec::{DecodeError, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Transaction};

/// Largest piece of a body, and largest document that needs none; below the store's limit of 100 kB.
pub(crate) const CHUNK_BYTES: usize = 90_000;

/// Chunks read at the same time.
const CHUNKS_AT_ONCE: usize = 16;

const INLINE: u8 = 1;
const REFERENCE: u8 = 2;

/// What the value of a document's key says.
#[derive(Clone, Debug)]
pub enum Stored {
    /// The document itself.
    Inline(Document),
    /// Where it lies in pieces.
    Reference(Reference),
}

/// A body in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    body: u64,
    length: u32,
    checksum: u64,
}

fn damaged(detail: &str) -> Error {
    Error::Damaged(DecodeError { what: "document", detail: detail.to_owned() })
}

impl Stored {
    /// Reads the value of a document's key.
    pub fn decode(value: &Bytes) -> Result<Self> {
        match value.first() {
            Some(&INLINE) => Document::stored(value.slice(1..))
                .map(Self::Inline)
                .ok_or_else(|| damaged("its length is wrong")),
            Some(&REFERENCE) => {
                let numbers = value.get(1..).and_then(|rest| <[u8; 20]>::try_from(rest).ok());
                let [b0, b1, b2, b3, b4, b5, b6, b7, l0, l1, l2, l3, checksum @ ..] =
                    numbers.ok_or_else(|| damaged("its reference has a wrong length"))?;
                Ok(Self::Reference(Reference {
                    body: u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
                    length: u32::from_be_bytes([l0, l1, l2, l3]),
                    checksum: u64::from_be_bytes(checksum),
                }))
            }
            _ => Err(damaged("neither inline nor a reference")),
        }
    }

    /// The value of a key, as [`Stored::decode`] reads it.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Inline(document) => {
                let mut value = Vec::with_capacity(document.bytes().len() + 1);
                value.push(INLINE);
                value.extend_from_slice(document.bytes());
                value
            }
            Self::Reference(Reference { body, length, checksum }) => {
                let mut value = Vec::with_capacity(21);
                value.push(REFERENCE);
                value.extend_from_slice(&body.to_be_bytes());
                value.extend_from_slice(&length.to_be_bytes());
                value.extend_from_slice(&checksum.to_be_bytes());
                value
            }
        }
    }

    /// Bytes of the document.
    pub fn length(&self) -> u64 {
        match self {
            Self::Inline(document) => document.bytes().len() as u64,
            Self::Reference(reference) => u64::from(reference.length),
        }
    }

    /// The document, its pieces read and put together where there are any.
    pub async fn load(self, txn: &Transaction, home: &Home, read: Read) -> Result<Document> {
        match self {
            Self::Inline(document) => Ok(document),
            Self::Reference(reference) => reference.load(txn, home, read).await,
        }
    }
}

impl Reference {
    /// The number of the body.
    pub fn body(&self) -> u64 {
        self.body
    }

    /// Bytes of the document.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// How many pieces there are.
    pub fn chunks(&self) -> u32 {
        self.length.div_ceil(u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX))
    }

    async fn load(&self, txn: &Transaction, home: &Home, read: Read) -> Result<Document> {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(length);
        let numbers: Vec<u32> = (0..self.chunks()).collect();
        for numbers in numbers.chunks(CHUNKS_AT_ONCE) {
            let reads = numbers.iter().map(|number| async move {
                txn.get(&keys::body_chunk(home.bucket(), self.body, *number), read).await
            });
            for chunk in join_all(reads).await? {
                bytes.extend_from_slice(&chunk.ok_or_else(|| damaged("a piece is missing"))?);
            }
        }
        if bytes.len() != length || xxh3_64(&bytes) != self.checksum {
            return Err(damaged("its pieces do not fit together"));
        }
        Document::stored(bytes.into()).ok_or_else(|| damaged("its length is wrong"))
    }
}

/// Writes a document's pieces, if it needs any, and gives the value for its
/// key. `body` is where the search for an unused body number starts.
pub(super) async fn write(
    txn: &Transaction,
    home: &Home,
    document: &Document,
    mut body: u64,
) -> Result<Vec<u8>> {
    let bytes = document.bytes();
    if bytes.len() <= CHUNK_BYTES {
        return Ok(Stored::Inline(document.clone()).encode());
    }
    loop {
        let range = RangeRead::prefix(keys::body_prefix(home.bucket(), body)).limit(1);
        if txn.range(range).await?.rows.is_empty() {
            break;
        }
        body = body.wrapping_add(1);
    }
    for (number, chunk) in (0_u32..).zip(bytes.chunks(CHUNK_BYTES)) {
        txn.set(&keys::body_chunk(home.bucket(), body, number), chunk)?;
    }
    let length = u32::try_from(bytes.len()).map_err(|_| Error::syntax("Document is too large"))?;
    Ok(Stored::Reference(Reference { body, length, checksum: xxh3_64(bytes) }).encode())
}
