//! A local store: the published state, and the way to its one committer.

use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use super::embedded::{Embedded, EmbeddedOptions};
use super::faults::{Faults, Ground};
use super::memory::Memory;
use super::sequencer::{Intent, Sequencer};
use super::shared::{Pin, Shared, lock};
use super::types::{Committed, Reclaim, Stats};
use super::{Error, Result};

/// What all handles of one store point to.
#[derive(Debug)]
pub(super) struct Local {
    committer: Committer,
}

#[derive(Debug)]
enum Committer {
    Memory { landing: Arc<Landing>, faults: Faults },
    Embedded(Embedded),
}

/// Commits to the memory engine at once, on the caller's thread.
#[derive(Debug)]
pub(super) struct Landing {
    pub(super) shared: Arc<Shared>,
    sequencer: Mutex<Sequencer<Memory>>,
}

impl Landing {
    /// Validates and applies.
    pub(super) fn land(&self, intent: Intent) -> Result<Committed> {
        let mut intents = [intent];
        let results = lock(&self.sequencer).commit(&self.shared, &mut intents);
        let result = results.into_iter().next().unwrap_or(Err(Error::Cancelled));
        if let Err(error) = &result {
            let [intent] = intents;
            intent.watches.into_iter().for_each(|arming| arming.fail(error));
        }
        result
    }
}

impl Local {
    pub(super) fn memory() -> Self {
        let shared = Arc::new(Shared::new(Memory::empty()));
        let sequencer = Mutex::new(Sequencer::new(Memory::default(), &shared));
        let landing = Arc::new(Landing { shared, sequencer });
        Self { committer: Committer::Memory { landing, faults: Faults::default() } }
    }

    /// Opens the store in a folder. Waits for the disk.
    pub(super) fn open(path: &Path, options: &EmbeddedOptions) -> Result<Self> {
        Ok(Self { committer: Committer::Embedded(Embedded::open(path, options)?) })
    }

    pub(super) fn shared(&self) -> &Shared {
        match &self.committer {
            Committer::Memory { landing, .. } => &landing.shared,
            Committer::Embedded(embedded) => &embedded.shared,
        }
    }

    /// The newest state, for as long as it is held.
    pub(super) fn pin(&self) -> Result<Pin> {
        Pin::new(match &self.committer {
            Committer::Memory { landing, .. } => Arc::clone(&landing.shared),
            Committer::Embedded(embedded) => Arc::clone(&embedded.shared),
        })
    }

    pub(super) fn faults(&self) -> Option<&Faults> {
        match &self.committer {
            Committer::Memory { faults, .. } => Some(faults),
            Committer::Embedded(_) => None,
        }
    }

    pub(super) fn commit_may_be_unknown(&self) -> bool {
        match &self.committer {
            Committer::Memory { .. } => true,
            Committer::Embedded(_) => false,
        }
    }

    pub(super) async fn before_read(&self, client: &str, label: &'static str) -> Result<()> {
        match &self.committer {
            Committer::Memory { faults, .. } => faults.before_read(client, label).await,
            Committer::Embedded(_) => Ok(()),
        }
    }

    pub(super) async fn commit(
        &self,
        client: &str,
        label: &'static str,
        intent: Intent,
    ) -> Result<Committed> {
        match &self.committer {
            Committer::Memory { landing, faults } => {
                let to = Ground::Memory(Arc::clone(landing));
                faults.commit(client, label, intent, to).await
            }
            Committer::Embedded(embedded) => embedded.commit(intent).await,
        }
    }

    pub(super) fn reclaim_progress(&self, prefix: &[u8]) -> Result<Reclaim> {
        match &self.committer {
            Committer::Memory { .. } => {
                Ok(Reclaim { done: true, pending_bytes: None, returned_bytes: None })
            }
            Committer::Embedded(embedded) => embedded.reclaim_progress(prefix),
        }
    }

    /// Waits until nothing is left below a dropped prefix, and tells meanwhile how far it is.
    pub(super) async fn reclaimed(
        &self,
        prefix: &[u8],
        told: &(dyn Fn(Reclaim) + Sync),
    ) -> Result<Reclaim> {
        let mut moved = pin!(self.shared().reclaimed.notified());
        loop {
            // Listening comes before looking, so that what happens in between is not slept through.
            moved.as_mut().enable();
            let progress = self.reclaim_progress(prefix)?;
            told(progress);
            if progress.done {
                return Ok(progress);
            }
            moved.as_mut().await;
            moved.set(self.shared().reclaimed.notified());
        }
    }

    /// Why nothing is committed any more, if so.
    pub(super) fn writable(&self) -> Result<()> {
        self.shared().stopped.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(super) fn stats(&self) -> Stats {
        match &self.committer {
            Committer::Memory { landing, .. } => landing.shared.stats(),
            Committer::Embedded(embedded) => embedded.stats(),
        }
    }

    /// Waits for the disk.
    pub(super) fn close(&self) {
        match &self.committer {
            Committer::Memory { landing, .. } => {
                lock(&landing.sequencer).close(&landing.shared);
            }
            Committer::Embedded(embedded) => embedded.close(),
        }
        self.shared().watches.close();
        self.shared().reclaimed.notify_waiters();
    }
}
