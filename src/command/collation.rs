//! `COLLATION <json>`, which several commands take, and how a collation is shown.

use bytes::Bytes;

use super::{Options, Reply, Result};
use crate::document::{Document, Limits};
use crate::error::Error;
use crate::query::Collate;
use crate::value::Value;
use crate::value::collation::{self, Collation, CollationError, Collator, Word};

/// Nine settings of a few bytes each.
const LIMITS: Limits = Limits { depth_max: 4, bytes_max: 4096 };

/// Reads a collation, JSON or BSON. `None` is `{"locale": "simple"}`: by bytes.
///
/// # Errors
/// In the words of the contract.
pub(super) fn parse(spec: &Bytes) -> Result<Option<Collation>> {
    let refuse = |error: CollationError| Error::Syntax(error.to_string());
    let document = Document::sniff(spec, LIMITS).map_err(|_| refuse(CollationError::Invalid))?;
    collation::parse(&Value::Document(document.raw())).map_err(refuse)
}

/// The value of `COLLATION` in a command that asks a filter.
///
/// # Errors
/// As [`parse`]; when there is no value.
pub(super) fn option(options: &mut Options<'_>) -> Result<Collate> {
    Ok(match parse(&options.bytes()?)? {
        None => Collate::Bytes,
        Some(collation) => {
            let collator = Collator::of(&collation);
            Collate::By(collator.map_err(|error| Error::Syntax(error.to_string()))?)
        }
    })
}

/// The nine settings; without a collation an empty map.
pub(super) fn reply(collation: Option<&Collation>) -> Reply {
    let Some(collation) = collation else { return Reply::Map(Vec::new()) };
    Reply::map([
        ("locale", Reply::Text(collation.locale.clone())),
        ("strength", Reply::Integer(i64::from(collation.strength))),
        ("case_level", Reply::Boolean(collation.case_level)),
        ("case_first", Reply::literal(collation.case_first.word())),
        ("numeric_ordering", Reply::Boolean(collation.numeric_ordering)),
        ("alternate", Reply::literal(collation.alternate.word())),
        ("backwards", Reply::Boolean(collation.backwards)),
        ("normalization", Reply::Boolean(collation.normalization)),
        ("max_variable", Reply::literal(collation.max_variable.word())),
    ])
}
