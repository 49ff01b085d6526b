//! Pages of ranges: asks for as much as is missing until the page is full or the range is at its end.

use ::foundationdb::options::StreamingMode;
use ::foundationdb::{KeySelector, RangeOption};
use bytes::Bytes;

use super::super::merge::Merge;
use super::super::types::Page;
use super::reader::Reader;
use super::{Result, errors};

pub(super) async fn fill(reader: &Reader, mut merge: Merge) -> Result<Page> {
    let prefix = reader.engine().prefix();
    while let Some(missing) = merge.missing() {
        let range = RangeOption {
            begin: KeySelector::first_greater_or_equal(prefix.full(missing.begin)),
            end: KeySelector::first_greater_or_equal(prefix.full(missing.end)),
            limit: Some(missing.rows),
            target_bytes: missing.bytes,
            // The bounds of the page are the bounds of the question: everything in one answer.
            mode: StreamingMode::Exact,
            reverse: missing.reverse,
            ..RangeOption::default()
        };
        let found = reader.transaction().get_range(&range, 1, true);
        let found = found.await.map_err(errors::of_read)?;
        let rows = found
            .iter()
            .map(|row| Ok((prefix.strip(row.key())?, Bytes::copy_from_slice(row.value()))));
        merge.feed(rows.collect::<Result<Vec<_>>>()?, found.more());
    }
    Ok(merge.page())
}
