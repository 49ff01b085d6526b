//! Reading the audit log, newest first.

use crate::codec::record::{self, AuditRecord};
use crate::codec::{Sequence, keys};
use crate::error::Result;
use crate::store::{RangeRead, Transaction};

use super::Lifecycle;

/// Rows looked at in one transaction.
const PAGE: usize = 500;

/// Which part of the audit log to read.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Only what is older than this row.
    pub before: Option<Sequence>,
    /// Most rows to give.
    pub limit: usize,
    /// Most rows to look at, whether or not they are wanted.
    pub look_at: usize,
}

impl Lifecycle {
    /// The newest rows of a part that `admit` lets through, newest first; and before which row to go on,
    /// `None` when there are no more.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn audit_log(
        &self,
        part: Part,
        admit: impl Fn(&AuditRecord) -> bool,
    ) -> Result<(Vec<AuditRecord>, Option<Sequence>)> {
        let (mut found, mut looked_at, mut last) = (Vec::new(), 0, None);
        let (begin, end) = keys::range(&keys::kind_prefix(keys::kind::AUDIT));
        let end = part.before.map_or(end, keys::audit);
        let mut next = Some(RangeRead::new(begin, end).reverse().limit(PAGE).snapshot());
        while let Some(range) = next {
            let range = &range;
            let page =
                self.catalog()
                    .read("audit-log", |txn: Transaction| async move {
                        Ok(txn.range(range.clone()).await?)
                    })
                    .await?;
            for (key, value) in &page.rows {
                if found.len() == part.limit || looked_at == part.look_at {
                    return Ok((found, last));
                }
                let row: AuditRecord = record::decode("audit", value)?;
                looked_at += 1;
                last = Some(keys::parse_audit(key)?);
                if admit(&row) {
                    found.push(row);
                }
            }
            next = range.after(&page);
        }
        Ok((found, None))
    }
}
