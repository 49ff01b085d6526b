//! PURGE.PAUSE and PURGE.RESUME: stop and go on with all destruction.

use crate::cluster::time;
use crate::codec::duration::format_instant;
use crate::codec::keys;
use crate::codec::record::{self, PauseRecord};
use crate::error::{Error, Result};
use crate::metadata::Caller;
use crate::metadata::audit::{self, Entry};
use crate::store::{Read, Transaction};

use super::Lifecycle;

impl Lifecycle {
    /// Stops all destruction in the whole cluster: no flip commits and the
    /// reclaimer starts nothing new until [`Lifecycle::resume_purging`]. Restoring
    /// goes on. A second pause leaves the first in force.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn pause_purging(&self, caller: &Caller) -> Result<()> {
        let now = self.catalog().now();
        self.catalog()
            .run("purge-pause", caller, |txn: Transaction| async move {
                let txn = &txn;
                if txn.get(&keys::purge_pause(), Read::Conflict).await?.is_some() {
                    return Ok(());
                }
                let row = PauseRecord { by: caller.actor.clone(), since: now };
                txn.set(&keys::purge_pause(), &record::encode(&row))?;
                audit::append(txn, 0, &caller.actor, now, &entry("purge-pause"), "OK", 1)
            })
            .await
    }

    /// Lets destruction go on.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn resume_purging(&self, caller: &Caller) -> Result<()> {
        let now = self.catalog().now();
        self.catalog()
            .run("purge-resume", caller, |txn: Transaction| async move {
                let txn = &txn;
                if txn.get(&keys::purge_pause(), Read::Conflict).await?.is_none() {
                    return Ok(());
                }
                txn.clear(&keys::purge_pause())?;
                super::signal_due(txn)?;
                audit::append(txn, 0, &caller.actor, now, &entry("purge-resume"), "OK", 1)
            })
            .await?;
        self.wake_workers();
        Ok(())
    }

    /// Refuses whatever destroys for good while that is stopped for the whole
    /// cluster. Reads with conflict, so that a pause stops also what is under way.
    ///
    /// # Errors
    /// `PURGEPAUSED`, `CLOCKSUSPECT`.
    pub async fn expect_destruction(&self, txn: &Transaction) -> Result<()> {
        if let Some(value) = txn.get(&keys::purge_pause(), Read::Conflict).await? {
            let pause: PauseRecord = record::decode("purge-pause", &value)?;
            return Err(Error::PurgePaused(format!(
                "Purging is paused since {} by {}",
                format_instant(pause.since),
                pause.by.user
            )));
        }
        match time::read(txn, Read::Conflict).await?.suspect {
            Some(reason) => Err(Error::ClockSuspect(format!("Purging is stopped: {reason}"))),
            None => Ok(()),
        }
    }

    /// Who stopped destruction, if it is stopped.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn paused(&self) -> Result<Option<PauseRecord>> {
        self.catalog()
            .read("purge-paused", |txn: Transaction| async move {
                let txn = &txn;
                let value = txn.get(&keys::purge_pause(), Read::Snapshot).await?;
                Ok(value.map(|value| record::decode("purge-pause", &value)).transpose()?)
            })
            .await
    }
}

const fn entry(action: &str) -> Entry<'_> {
    Entry { action, namespace: "", bucket: "", id: None, removal: None, reason: None }
}
