//! The embedded engine: a store in a folder, on the crate fjall.
//!
//! ```text
//!   callers ──intents──► Queue ──► committer thread ──► fjall batch + sync ──► published ──► callers, watches
//!                                        ▲
//!   drop_prefix ──calls──► reclaimer thread (asks for the oldest snapshot; has marks forgotten)
//! ```
//!
//! All keys lie in one keyspace of fjall, the store's own ones below `\xff` ([`state`]). Each batch carries the commit version
//! and a hash over all batches before it; the last synced one is also kept in a file of ours ([`committed`]). Before
//! fjall opens a folder, which may cut its journal, we read the journal ourselves ([`journal`]) and check the files that fjall
//! does not ([`verify`]).
//!
//! # Invariants
//!
//! * A commit is answered only after its batch was synced (with [`Durability::Sync`]) and published.
//! * What was acknowledged is there after a crash, or the store refuses to open and says why.
//! * A torn batch at the end of the journal that nobody was told of is cut, and nothing else is.
//!
//! Not here: transactions and validation, which all local engines share.

mod committed;
mod committer;
mod engine;
mod folder;
mod journal;
mod reclaim;
mod restore;
mod state;
mod verify;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use fjall::{AbstractTree, CompressionType, Database, KeyspaceCreateOptions, UserKey};
use tracing::{info, warn};

use self::committed::{Committed as Synced, CommittedFile};
use self::committer::Queue;
use self::engine::{FjallEngine, Handles, unreadable};
use self::folder::Folder;
pub(super) use self::folder::{io, make_private, sync_folder, write_synced};
use self::journal::{Scanned, SetAside, Tail};
use self::reclaim::{Board, Condemned, CondemnedFactory, Reclaimer};
pub(super) use self::restore::Restoring;
use self::state::{STATE_KEY, State, dropped_prefix, dropped_range};
use super::sequencer::{Intent, Sequencer, closed};
use super::shared::{Shared, lock};
use super::types::{Committed, Reclaim, Stats};
use super::view::{Dropped, Published};
use super::{Error, Result};

/// When a commit counts as durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Every batch is synced before it is seen or acknowledged.
    #[default]
    Sync,
    /// Batches are handed to the operating system and synced this often. A crash of the process loses nothing; a crash of the
    /// machine may lose the last ones.
    Interval(Duration),
}

/// How to open a store in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    pub durability: Durability,
    /// Memory for blocks read from disk.
    pub cache_bytes: u64,
    /// Written bytes kept in memory before they become a table. Settled when the store is created.
    pub memtable_bytes: u64,
    /// After so many batches what is in memory becomes a table as well, but not more often than
    /// [`table_every`](Self::table_every). A scan passes every version of a key that is in memory, and rows like
    /// heartbeats get one again and again: in a node that stores little nothing else would end that before memory is
    /// full. A table has only what is still seen of them, by what fjall knows of open snapshots: it looks at those
    /// after every 10,000 that were closed, and each batch closes one, so less than that is of no use.
    pub table_batches: u32,
    /// See [`table_batches`](Self::table_batches).
    pub table_every: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            cache_bytes: 64 << 20,
            memtable_bytes: 32 << 20,
            table_batches: 12_000,
            table_every: Duration::from_secs(10),
        }
    }
}

/// fjall's threads for flushes and compactions.
const WORKERS: usize = 2;
const JOURNAL_BYTES_MAX: u64 = 256 << 20;
/// How often closing looks whether the last flush is done.
const CLOSE_STEP: Duration = Duration::from_millis(2);

/// An open store in a folder.
#[derive(Debug)]
pub(super) struct Embedded {
    pub(super) shared: Arc<Shared>,
    queue: Arc<Queue>,
    board: Arc<Board>,
    condemned: Arc<Condemned>,
    fsyncs: Arc<AtomicU64>,
    running: Mutex<Option<Running>>,
}

/// What closing takes away.
#[derive(Debug)]
struct Running {
    committer: JoinHandle<Sequencer<FjallEngine>>,
    reclaimer: JoinHandle<()>,
    handles: Handles,
    _folder: Arc<Folder>,
}

impl Embedded {
    /// Opens or creates the store in a folder. Waits for the disk.
    pub(super) fn open(path: &Path, options: &EmbeddedOptions) -> Result<Self> {
        let folder = Arc::new(Folder::lock(path)?);
        let created = folder.check_format()?;
        let opened = open_checked(&folder, created, options)?;
        let Opened { handles, state, committed, condemned } = opened;
        if !created {
            folder.write_format()?;
        }
        let view = handles.view();
        let dropped = read_dropped(&handles)?;
        let waiting = dropped.len();
        let published =
            Published::new(state.version, state.metadata_version, dropped, Box::new(view));
        let shared = Arc::new(Shared::new(published));
        let (queue, board) = (Arc::new(Queue::default()), Arc::new(Board::default()));
        let fsyncs = Arc::new(AtomicU64::new(0));
        let engine =
            FjallEngine::new(handles.clone(), state, committed, options, Arc::clone(&fsyncs));
        let committer = committer::start(
            Arc::clone(&queue),
            Arc::clone(&shared),
            engine,
            options,
            Arc::clone(&folder),
        )?;
        condemned.tell(&shared);
        let seen = Arc::clone(&condemned);
        let reclaimer = Reclaimer {
            handles: handles.clone(),
            shared: Arc::clone(&shared),
            queue: Arc::clone(&queue),
            board: Arc::clone(&board),
            condemned,
        };
        let reclaimer = reclaimer.start()?;
        info!(folder = %folder.path().display(), version = state.version, dropped = waiting, "store: opened");
        let running = Running { committer, reclaimer, handles, _folder: folder };
        let running = Mutex::new(Some(running));
        Ok(Self { shared, queue, board, condemned: seen, fsyncs, running })
    }

    pub(super) async fn commit(&self, intent: Intent) -> Result<Committed> {
        let drops = intent.drops();
        let committed = self.queue.commit(intent).await?;
        if drops {
            self.board.call();
        }
        Ok(committed)
    }

    pub(super) fn reclaim_progress(&self, prefix: &[u8]) -> Result<Reclaim> {
        let disk_bytes = self.with_handles(|handles| handles.data.disk_space())?;
        let pending = disk_bytes.saturating_sub(self.condemned.seen_bytes());
        Ok(self.board.progress(prefix, &self.shared.published.load().dropped, pending))
    }

    pub(super) fn stats(&self) -> Stats {
        let disk_bytes = self.with_handles(|handles| handles.data.disk_space());
        Stats {
            fsyncs: self.fsyncs.load(Ordering::Relaxed),
            disk_bytes: disk_bytes.unwrap_or_default(),
            ..self.shared.stats()
        }
    }

    fn with_handles<T>(&self, read: impl FnOnce(&Handles) -> T) -> Result<T> {
        lock(&self.running).as_ref().map(|running| read(&running.handles)).ok_or_else(closed)
    }

    /// Commits what waits, moves everything into tables so that the next start is quick, and lets go of the folder.
    pub(super) fn close(&self) {
        let Some(running) = lock(&self.running).take() else { return };
        self.board.close();
        if running.reclaimer.join().is_err() {
            warn!("store: the reclaimer had panicked");
        }
        self.queue.close();
        let Ok(mut sequencer) = running.committer.join() else {
            warn!("store: the committer had panicked");
            return;
        };
        let flushed = reclaim::flush(&running.handles, || {
            std::thread::park_timeout(CLOSE_STEP);
            false
        });
        let synced = flushed.and_then(|flushed| sequencer.engine().sync_all(flushed));
        if let Err(error) = synced {
            warn!(%error, "store: closed without moving the last commits into tables");
        }
        sequencer.close(&self.shared);
    }
}

impl Drop for Embedded {
    /// Ends the threads; the folder is let go of when they have ended. What was acknowledged is durable anyway.
    fn drop(&mut self) {
        self.board.close();
        self.queue.close();
    }
}

/// A database that has passed all checks.
struct Opened {
    handles: Handles,
    state: State,
    committed: CommittedFile,
    condemned: Arc<Condemned>,
}

fn open_checked(folder: &Folder, created: bool, options: &EmbeddedOptions) -> Result<Opened> {
    let path = folder.committed();
    if !created {
        if path.exists() && CommittedFile::open(&path)?.1.version > 0 {
            return Err(Error::Corrupt {
                detail: format!(
                    "{} holds a store whose making never finished, or its file FORMAT is missing",
                    folder.path().display()
                ),
            });
        }
        folder.clear_unfinished()?;
        let committed = CommittedFile::create(&path, Synced::default())?;
        let condemned = Arc::new(Condemned::default());
        let handles = open_fjall(folder, options, &condemned)?;
        return Ok(Opened { handles, state: State::default(), committed, condemned });
    }
    let (committed, synced) = CommittedFile::open(&path)?;
    let engine = folder.engine();
    verify::check(&engine)?;
    let (scanned, tail) = journal::scan(&engine)?;
    check_journal(scanned.as_ref(), synced)?;
    let unneeded = tail.is_none()
        && scanned.is_some_and(|scanned| scanned.last.state.version == synced.flushed);
    let aside = if unneeded { SetAside::set(&engine)? } else { SetAside::left_over(&engine)? };
    tail.as_ref().map_or(Ok(()), Tail::cut)?;
    let condemned = Arc::new(Condemned::default());
    let handles = open_fjall(folder, options, &condemned);
    let checked = handles.and_then(|handles| {
        let replayed = if unneeded { None } else { scanned.as_ref() };
        let state = check_opened(&handles, replayed, synced)?;
        Ok((handles, state))
    });
    match checked {
        Ok((handles, state)) => {
            if let Some(tail) = tail {
                warn!(bytes = tail.len(), "store: cut off a commit that was never acknowledged");
            }
            aside.remove()?;
            Ok(Opened { handles, state, committed, condemned })
        }
        Err(error) => {
            tail.as_ref().map_or(Ok(()), Tail::restore)?;
            if unneeded {
                aside.put_back()?;
            }
            Err(error)
        }
    }
}

/// Whether the journal reaches as far as it must.
fn check_journal(scanned: Option<&Scanned>, synced: Synced) -> Result<()> {
    let Some(Scanned { last, .. }) = scanned else { return Ok(()) };
    let (state, sequence) = (last.state, last.sequence);
    if state.version < synced.version {
        return Err(shortened(state.version, synced.version));
    }
    if state.version == synced.version
        && (state.chain != synced.chain || sequence >= synced.sequence_end)
    {
        return Err(Error::Corrupt {
            detail: format!(
                "commit {} in the journal is not the one that was synced",
                state.version
            ),
        });
    }
    Ok(())
}

/// Whether what was opened is what the journal and COMMITTED say.
fn check_opened(handles: &Handles, scanned: Option<&Scanned>, synced: Synced) -> Result<State> {
    let persisted = handles.data.tree.get_highest_persisted_seqno();
    let state = match handles.data.get(STATE_KEY).map_err(unreadable)? {
        Some(state) => State::decode(&state).ok_or_else(|| Error::Corrupt {
            detail: "the commit number cannot be read".to_owned(),
        })?,
        None => State::default(),
    };
    if state.version < synced.version {
        return Err(shortened(state.version, synced.version));
    }
    if state.version == synced.version && state.chain != synced.chain {
        return Err(Error::Corrupt {
            detail: format!(
                "commit {} in the tables is not the one that was synced",
                state.version
            ),
        });
    }
    if persisted.is_some_and(|persisted| persisted >= handles.database.visible_seqno()) {
        return Err(Error::Corrupt { detail: "the sequence numbers have gone back".to_owned() });
    }
    if let Some(Scanned { first, last }) = scanned {
        if state != last.state {
            return Err(Error::Corrupt {
                detail: format!(
                    "the journal ends with commit {}, but the store opened with commit {}",
                    last.state.version, state.version
                ),
            });
        }
        // The very first batch follows none.
        let follows = first.state.previous != 0;
        if follows && version_in_tables(handles)? + 1 < first.state.version {
            return Err(Error::Corrupt {
                detail: format!(
                    "the journal begins with commit {}; files before it are missing",
                    first.state.version
                ),
            });
        }
    }
    Ok(state)
}

/// The newest commit of which something is in a table.
fn version_in_tables(handles: &Handles) -> Result<u64> {
    let mut newest = 0;
    for table in handles.data.tree.current_version().iter_tables() {
        let key = UserKey::from(STATE_KEY);
        for item in table.range(key.clone()..=key) {
            let item = item.map_err(|error| unreadable(error.into()))?;
            newest = newest.max(State::decode(&item.value).map_or(0, |state| state.version));
        }
    }
    Ok(newest)
}

fn shortened(found: u64, synced: u64) -> Error {
    Error::Corrupt {
        detail: format!(
            "the store ends with commit {found}, but commit {synced} was acknowledged: \
             its journal is damaged or shortened"
        ),
    }
}

fn open_fjall(
    folder: &Folder,
    options: &EmbeddedOptions,
    condemned: &Arc<Condemned>,
) -> Result<Handles> {
    let factory: Arc<dyn fjall::compaction::filter::Factory> =
        Arc::new(CondemnedFactory(Arc::clone(condemned)));
    let memtable_bytes = options.memtable_bytes;
    let open = || {
        let database = Database::builder(folder.engine())
            .cache_size(options.cache_bytes)
            .worker_threads(WORKERS)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            // Our own reading of the journal knows no compression.
            .journal_compression(CompressionType::None)
            .with_compaction_filter_factories(Arc::new(move |_| Some(Arc::clone(&factory))))
            .open()?;
        let create = || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes);
        let data = database.keyspace("data", create)?;
        Ok(Handles { database, data })
    };
    // fjall panics on some damage that it had not expected.
    match std::panic::catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(|error: fjall::Error| match error {
            fjall::Error::Io(error) => Error::io("cannot open the store", error),
            other => Error::Corrupt { detail: format!("{other}") },
        }),
        Err(_) => {
            Err(Error::Corrupt { detail: "the engine cannot make sense of its files".to_owned() })
        }
    }
}

fn read_dropped(handles: &Handles) -> Result<Dropped> {
    let (begin, end) = dropped_range();
    let mut prefixes = BTreeSet::new();
    for row in handles.data.range(begin..end) {
        let key: Bytes = Bytes::copy_from_slice(&row.key().map_err(unreadable)?);
        prefixes.extend(dropped_prefix(&key));
    }
    Ok(Dropped::new(prefixes))
}
