//! Writers wait while a swap catches up with what they wrote.
//!
//! The record of a bucket says that its writers are to wait, and until when; the commit that says so
//! writes the fence, as the one does with which the swap ends or is given up. A writer that meets
//! it waits for the fence, at most until that time, and begins anew. Nothing rests on
//! anybody's waiting: a swap commits only if nobody has written what it did not see.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::codec::record::{PauseOf, State};
use crate::codec::{BucketId, RemovalId, keys};
use crate::error::{Error, Result};
use crate::store::Read;

use super::bucket;
use super::cache::LiveBucket;
use super::catalog::Catalog;

impl LiveBucket {
    /// Refuses to write to a copy that is being made.
    ///
    /// # Errors
    /// `ERR`.
    pub fn expect_no_copy(&self) -> Result<()> {
        bucket::expect_no_copy(self.name(), self.record())
    }

    /// Refuses to show the change log of a copy that is being made, which is not all there yet.
    ///
    /// # Errors
    /// `ERR`.
    pub fn expect_own_log(&self) -> Result<()> {
        if self.record().copy.is_none() {
            return Ok(());
        }
        Err(Error::syntax(format!(
            "Bucket '{}' is a copy that is being made: read the changes of its source",
            self.name()
        )))
    }

    /// The pause that a writer has to wait for, if there is one that is not over.
    #[must_use]
    pub fn pause(&self, now: i64) -> Option<PauseOf> {
        self.record().paused.filter(|pause| now < pause.until)
    }

    /// Lets a transaction write documents here.
    ///
    /// # Errors
    /// `ERR` for a copy; [`Error::WritesPaused`] while a swap lets writers wait,
    /// unless it is the one that was waited for already.
    pub fn expect_writable(&self, now: i64, waited: Option<RemovalId>) -> Result<()> {
        self.expect_no_copy()?;
        match self.pause(now) {
            Some(pause) if Some(pause.swap) != waited => {
                Err(Error::WritesPaused { bucket: self.id(), pause })
            }
            _ => Ok(()),
        }
    }
}

impl Catalog {
    /// Runs `write` again whenever it met a pause, behind it.
    pub(super) async fn past_pauses<T, F>(
        &self,
        write: impl Fn(Option<RemovalId>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut waited = None;
        loop {
            match write(waited).await {
                Err(Error::WritesPaused { bucket, pause }) => {
                    self.pause_over(bucket, pause).await;
                    waited = Some(pause.swap);
                }
                result => return result,
            }
        }
    }

    /// Waits until a pause is over: the swap has happened or was given up, or its time is up.
    pub async fn pause_over(&self, bucket: BucketId, pause: PauseOf) {
        let left = pause.until.saturating_sub(self.now()).clamp(0, pause.length_ms);
        let end = Instant::now() + Duration::from_millis(left.unsigned_abs());
        if let Ok(Err(_)) = timeout_at(end, self.pause_left(bucket, pause)).await {
            // Nobody can tell when it ends, but until when it lasts is known.
            sleep_until(end).await;
        }
    }

    async fn pause_left(&self, bucket: BucketId, pause: PauseOf) -> Result<()> {
        let txn = self.store().begin("pause");
        // Armed in the snapshot that is looked at, so that nothing is missed.
        let watch = txn.watch(&keys::fence(bucket.0))?;
        let record = match bucket::read_record(&txn, bucket, Read::Snapshot).await {
            Err(Error::NoSuchBucket(_)) => return Ok(()),
            record => record?,
        };
        txn.commit().await?;
        let lasts = record.paused.is_some_and(|other| other.swap == pause.swap);
        if lasts && record.state == State::Active {
            watch.await?;
        }
        Ok(())
    }
}
