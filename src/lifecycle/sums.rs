//! What a namespace holds.
//!
//! Nobody keeps sums of namespaces: a hot key would be the price. They are added up
//! from the counters of the buckets when somebody asks, in small transactions, and of
//! so many objects only; beyond that the sums say that there is more.

use crate::codec::{BucketId, DecodeError, NamespaceId, keys};
use crate::error::Result;
use crate::metadata::bucket::{self, Counts};
use crate::store::{RangeRead, Transaction, join_all};

use super::Lifecycle;

/// Buckets and namespaces that one command looks at for its sums.
pub const SUMMED_MAX: usize = 1_000;
/// Buckets, or names of namespaces, that one transaction reads.
const PAGE: usize = 100;

/// What is in a namespace and in those below it, but for what was removed on its own before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub buckets: u64,
    pub documents: i64,
    pub bytes: i64,
    /// There is more than was looked at.
    pub incomplete: bool,
}

/// Names in a namespace that were read, and where to go on.
struct Names {
    ids: Vec<u64>,
    next: Option<RangeRead>,
}

impl Lifecycle {
    /// Adds up what is in a namespace, active or removed. `left` is how many objects may
    /// still be looked at, and is lowered.
    ///
    /// # Errors
    /// Those of the store; damage.
    pub async fn sums(&self, namespace: NamespaceId, left: &mut usize) -> Result<Sums> {
        let mut sums = Sums::default();
        let mut inside = vec![namespace];
        while let Some(id) = inside.pop() {
            if *left == 0 {
                sums.incomplete = true;
                break;
            }
            *left -= 1;
            self.add_buckets(id, left, &mut sums).await?;
            let mut next = Some(RangeRead::prefix(keys::namespace_name_prefix(id)));
            while let Some(range) = next {
                if inside.len() >= *left {
                    // One more than may be looked at is enough to tell.
                    let names = self.names(&range.limit(1)).await?;
                    sums.incomplete |= !names.ids.is_empty();
                    break;
                }
                let names = self.names(&range.limit(PAGE)).await?;
                inside.extend(names.ids.into_iter().map(NamespaceId));
                next = names.next;
            }
        }
        Ok(sums)
    }

    async fn names(&self, range: &RangeRead) -> Result<Names> {
        self.catalog()
            .read("sums", |txn: Transaction| async move { names(&txn, range).await })
            .await
    }

    async fn add_buckets(
        &self,
        namespace: NamespaceId,
        left: &mut usize,
        sums: &mut Sums,
    ) -> Result<()> {
        let mut next = Some(RangeRead::prefix(keys::bucket_name_prefix(namespace)));
        while let Some(range) = next {
            let range = &range.limit(PAGE.min((*left).max(1)));
            let full = *left == 0;
            let read = |txn: Transaction| async move {
                let txn = &txn;
                let names = names(txn, range).await?;
                // A bucket too many is only noticed.
                let ids = if full { &[][..] } else { &names.ids };
                let counts = ids.iter().map(|id| bucket::counts(txn, BucketId(*id)));
                Ok((join_all(counts).await?, names))
            };
            let (counts, names) = self.catalog().read("sums", read).await?;
            if full {
                sums.incomplete |= !names.ids.is_empty();
                return Ok(());
            }
            *left = left.saturating_sub(counts.len());
            for Counts { documents, bytes, .. } in counts {
                sums.buckets += 1;
                sums.documents = sums.documents.saturating_add(documents);
                sums.bytes = sums.bytes.saturating_add(bytes);
            }
            next = names.next;
        }
        Ok(())
    }
}

async fn names(txn: &Transaction, range: &RangeRead) -> Result<Names> {
    let range = range.clone().snapshot();
    let page = txn.range(range.clone()).await?;
    let mut ids = Vec::with_capacity(page.rows.len());
    for (_, value) in &page.rows {
        let number = <[u8; 8]>::try_from(&value[..]);
        ids.push(u64::from_be_bytes(
            number.map_err(|_| DecodeError::new("name", "not eight bytes"))?,
        ));
    }
    Ok(Names { ids, next: range.after(&page) })
}
