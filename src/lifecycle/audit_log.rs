//! Reading the audit log, newest first.

use crate::codec::record::{self, AuditRecord};
use crate::codec::{Versionstamp, keys};
use crate::error::Result;
use crate::store::{RangeRead, Transaction};

use super::Lifecycle;

/// Rows looked at in one transaction.
const PAGE: usize = 500;

impl Lifecycle {
    /// The newest rows that `admit` lets through, at most `limit`, newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn audit_log(
        &self,
        limit: usize,
        admit: impl Fn(&AuditRecord) -> bool,
    ) -> Result<Vec<(Versionstamp, AuditRecord)>> {
        let mut found = Vec::new();
        let prefix = keys::kind_prefix(keys::kind::AUDIT);
        let mut next = Some(RangeRead::prefix(prefix).reverse().limit(PAGE).snapshot());
        while let Some(range) = next {
            let range = &range;
            let page =
                self.catalog()
                    .read("audit-log", |txn: Transaction| async move {
                        Ok(txn.range(range.clone()).await?)
                    })
                    .await?;
            for (key, value) in &page.rows {
                let row: AuditRecord = record::decode("audit", value)?;
                if admit(&row) {
                    found.push((keys::parse_audit(key)?, row));
                }
                if found.len() == limit {
                    return Ok(found);
                }
            }
            next = range.after(&page);
        }
        Ok(found)
    }
}
