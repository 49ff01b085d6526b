//! The one thread that commits, and its queue.
//!
//! Whoever commits puts an intent into the queue and waits. The thread takes all that wait, hands them to the sequencer as one batch, which
//! is synced once, and answers. What arrives meanwhile waits for the next batch: so the group grows with the load.

use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::engine::FjallEngine;
use super::folder::Folder;
use super::{Durability, EmbeddedOptions};
use crate::store::sequencer::{Intent, Sequencer, closed};
use crate::store::shared::{Shared, lock};
use crate::store::types::Committed;
use crate::store::{Error, Result};

/// Commits of one batch; their order in it must fit into two bytes.
const BATCH_MAX: usize = 10_000;

/// The queue, and whether it still takes anything.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    commits: Vec<Request>,
    chores: Vec<Chore>,
    closing: bool,
}

#[derive(Debug)]
struct Request {
    intent: Intent,
    reply: oneshot::Sender<Result<Committed>>,
}

/// What the reclaimer asks of the committer.
#[derive(Debug)]
pub(super) enum Chore {
    /// The version of the oldest state that somebody may still read.
    OldestOpen(mpsc::Sender<u64>),
    /// Takes away the marks of prefixes of which nothing is left.
    Forget(Vec<Bytes>, mpsc::Sender<Result<Committed>>),
}

impl Queue {
    /// Commits; the answer comes once it is durable and visible.
    pub(super) async fn commit(&self, intent: Intent) -> Result<Committed> {
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.closing {
                drop(waiting);
                return Err(fail(intent, closed()));
            }
            waiting.commits.push(Request { intent, reply });
        }
        self.arrived.notify_one();
        // The thread answers everything in its queue, also when it ends.
        answer.await.unwrap_or(Err(Error::CommitUnknown))
    }

    /// Hands over a chore; `false` when the store is closing.
    pub(super) fn chore(&self, chore: Chore) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.closing {
            return false;
        }
        waiting.chores.push(chore);
        self.arrived.notify_one();
        true
    }

    /// Lets the thread finish what waits and end.
    pub(super) fn close(&self) {
        lock(&self.waiting).closing = true;
        self.arrived.notify_one();
    }

    /// What waits; empty when it is time to sync or to end.
    fn take(&self, interval: Option<std::time::Duration>) -> (Vec<Request>, Vec<Chore>, bool) {
        let mut waiting = lock(&self.waiting);
        let idle = |waiting: &mut Waiting| {
            waiting.commits.is_empty() && waiting.chores.is_empty() && !waiting.closing
        };
        if let Some(interval) = interval {
            let waited = self.arrived.wait_timeout_while(waiting, interval, idle);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            let waited = self.arrived.wait_while(waiting, idle);
            waiting = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let count = waiting.commits.len().min(BATCH_MAX);
        let commits = waiting.commits.drain(..count).collect();
        let chores = std::mem::take(&mut waiting.chores);
        (commits, chores, waiting.closing && waiting.commits.is_empty())
    }
}

/// Starts the thread. It ends after [`Queue::close`] and gives the sequencer back.
pub(super) fn start(
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    engine: FjallEngine,
    options: &EmbeddedOptions,
    folder: Arc<Folder>,
) -> Result<JoinHandle<Sequencer<FjallEngine>>> {
    let interval = match options.durability {
        Durability::Sync => None,
        Durability::Interval(interval) => Some(interval),
    };
    let mut sequencer = Sequencer::new(engine, &shared);
    let run = move || {
        let mut synced = Instant::now();
        loop {
            let left = interval.map(|interval| interval.saturating_sub(synced.elapsed()));
            let (commits, chores, end) = queue.take(left);
            commit(&mut sequencer, &shared, commits);
            for chore in chores {
                // An error in an answer means that the reclaimer has gone.
                match chore {
                    Chore::OldestOpen(reply) => drop(reply.send(sequencer.oldest_open())),
                    Chore::Forget(prefixes, reply) => {
                        drop(reply.send(sequencer.forget(&shared, prefixes)));
                    }
                }
            }
            if interval.is_some_and(|interval| end || synced.elapsed() >= interval) {
                synced = Instant::now();
                if let Err(error) = sequencer.engine().sync() {
                    shared.stop(error);
                }
            }
            if end {
                // Until here the folder is ours, whoever else has let go of the store.
                drop(folder);
                return sequencer;
            }
        }
    };
    std::thread::Builder::new()
        .name("lethe-committer".to_owned())
        .spawn(run)
        .map_err(|error| Error::io("cannot start the committer", error))
}

fn commit(sequencer: &mut Sequencer<FjallEngine>, shared: &Shared, requests: Vec<Request>) {
    if requests.is_empty() {
        return;
    }
    let (mut intents, replies): (Vec<Intent>, Vec<_>) =
        requests.into_iter().map(|request| (request.intent, request.reply)).unzip();
    let results = sequencer.commit(shared, &mut intents);
    for ((intent, reply), result) in intents.into_iter().zip(replies).zip(results) {
        let result = result.map_err(|error| fail(intent, error));
        // An error here means that the caller was cancelled.
        drop(reply.send(result));
    }
}

fn fail(intent: Intent, error: Error) -> Error {
    for arming in intent.watches {
        arming.fail(&error);
    }
    error
}
