//! The queue of what is due, as workers on buckets walk it.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cluster::work::Work;
use crate::codec::record::PauseOf;
use crate::codec::{BucketId, DecodeError, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Transaction};

use super::trim::set_aside;
use super::{DEADMAN, Workers, put_off};

/// Due rows taken in one transaction.
const PAGE: usize = 100;

/// A bucket in which something is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct DueBucket {
    pub(super) bucket: BucketId,
    /// What is due, of [`keys::due`].
    pub(super) what: u16,
    /// The time of its row.
    pub(super) at: i64,
    /// The time that has surely come.
    pub(super) now: i64,
}

impl DueBucket {
    /// The key of its row.
    pub(super) fn key(&self) -> Vec<u8> {
        keys::expiry(self.at, self.what, &self.bucket.0.to_be_bytes())
    }
}

/// Has each bucket looked at in which something of this kind is due, whenever
/// it is, until `stop`.
pub(super) async fn run<F>(
    workers: &Workers,
    what: u16,
    stop: &CancellationToken,
    look: impl Fn(DueBucket) -> F,
) where
    F: Future<Output = Result<()>>,
{
    let mut shards = workers.lifecycle.catalog().cluster().owned_shards();
    let mut wakes = workers.lifecycle.wakes();
    while !stop.is_cancelled() {
        shards.mark_unchanged();
        wakes.mark_unchanged();
        let pause = match pass(workers, what, stop, &look).await {
            Ok(pause) => pause,
            Err(error) => {
                put_off("due", &"queue", &error);
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            biased;
            _ = shards.changed() => {}
            _ = wakes.changed() => {}
            () = sleep(pause.min(DEADMAN)) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// One pass; gives how long until the next bucket is due.
async fn pass<F>(
    workers: &Workers,
    what: u16,
    stop: &CancellationToken,
    look: &impl Fn(DueBucket) -> F,
) -> Result<Duration>
where
    F: Future<Output = Result<()>>,
{
    let now = workers.lifecycle.catalog().certain_now();
    let all = RangeRead::prefix(keys::kind_prefix(keys::kind::EXPIRY));
    let mut next = Some(all.limit(PAGE).snapshot());
    while let Some(range) = next {
        let range = &range;
        let page = workers
            .lifecycle
            .catalog()
            .read(
                "due-queue",
                |txn: Transaction| async move { Ok(txn.range(range.clone()).await?) },
            )
            .await?;
        for (key, _) in &page.rows {
            let (at, found, id) = keys::parse_expiry(key)?;
            if at > now {
                let wait = u64::try_from(at.saturating_sub(now)).unwrap_or(0);
                return Ok(Duration::from_millis(wait + 1));
            }
            if found != what || stop.is_cancelled() {
                continue;
            }
            let bucket = <[u8; 8]>::try_from(&id[..])
                .map_err(|_| DecodeError::new("expiry", "not eight bytes"))?;
            let bucket = BucketId(u64::from_be_bytes(bucket));
            match look(DueBucket { bucket, what, at, now }).await {
                // It goes on when destruction does, and with a restore of what a removal stopped.
                Ok(())
                | Err(
                    Error::PurgePaused(_)
                    | Error::ClockSuspect(_)
                    | Error::BucketBeingRemoved(_)
                    | Error::NamespaceBeingRemoved(_)
                    | Error::NoSuchBucket(_),
                ) => {}
                Err(error) => put_off("due", &bucket, &error),
            }
        }
        next = range.after(&page);
    }
    Ok(DEADMAN)
}

/// Waits behind the pause of a swap, in which only what was written before is followed: each
/// deletion meanwhile would be one more. False: the work was told to stop.
pub(super) async fn past_pause(
    workers: &Workers,
    work: &Work,
    (bucket, pause): (BucketId, PauseOf),
) -> bool {
    tokio::select! {
        biased;
        () = work.stopped() => false,
        () = workers.lifecycle.catalog().pause_over(bucket, pause) => true,
    }
}

/// Whether what is due of a bucket is to be done now. Of a removed one the row is
/// set aside; of one that was purged since the queue was read it went with it.
///
/// # Errors
/// Those of the store.
pub(super) async fn is_open(workers: &Workers, due: &DueBucket) -> Result<bool> {
    let catalog = workers.lifecycle.catalog();
    let opened = catalog
        .read("due-open", |txn: Transaction| async move {
            catalog.handles().open_id(&txn, due.bucket).await
        })
        .await;
    match opened {
        Ok(_) => Ok(true),
        Err(Error::BucketBeingRemoved(_) | Error::NamespaceBeingRemoved(_)) => {
            set_aside(workers, due.bucket, &due.key()).await?;
            Ok(false)
        }
        Err(Error::NoSuchBucket(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
