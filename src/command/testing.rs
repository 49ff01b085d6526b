//! Commands for tests of the dispatcher and the server: one that waits until it is let go, and ones that panic.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::{Args, Context, Group, Handler, Reply, Result, Spec, flags, run};

const BASE: Spec = Spec {
    name: "TEST.WAIT",
    arity: 2,
    flags: 0,
    since: "0.1",
    group: Group::Server,
    summary: "Waits until the test lets it go.",
    complexity: "O(1)",
    arguments: &[super::Argument::string("gate")],
    handler: run!(wait),
};

pub(super) const COMMANDS: &[Spec] = &[
    BASE,
    Spec { name: "TEST.LATER", handler: run!(later), ..BASE },
    Spec { name: "TEST.PANIC", handler: Handler::Sync(|_, _| panic!("on purpose")), ..BASE },
    Spec { name: "TEST.PANIC-LATER", handler: run!(panic_later), ..BASE },
    Spec {
        name: "TEST.ALONE",
        flags: flags::NO_TRANSACTION,
        handler: Handler::Sync(|_, _| Ok(Reply::Ok)),
        ..BASE
    },
];

/// What a test and a `TEST.WAIT` of the same name say to each other.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) begun: Semaphore,
    pub(crate) release: Semaphore,
    pub(crate) dropped: Semaphore,
}

/// The gate of this name; a test takes a name that no other test takes.
pub(crate) fn gate(name: &str) -> Arc<Gate> {
    static GATES: LazyLock<Mutex<HashMap<String, Arc<Gate>>>> = LazyLock::new(Mutex::default);
    let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
    let gate = gates.entry(name.to_owned()).or_insert_with(|| {
        Arc::new(Gate {
            begun: Semaphore::new(0),
            release: Semaphore::new(0),
            dropped: Semaphore::new(0),
        })
    });
    Arc::clone(gate)
}

/// Tells when a handler is dropped, whatever the reason.
struct Dropped(Arc<Gate>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.add_permits(1);
    }
}

async fn wait(_: &mut Context<'_>, args: Args) -> Result<Reply> {
    let gate = gate(args.text(0)?);
    let _dropped = Dropped(Arc::clone(&gate));
    gate.begun.add_permits(1);
    gate.release.acquire().await.unwrap().forget();
    Ok(Reply::Simple("RELEASED".into()))
}

async fn later(_: &mut Context<'_>, args: Args) -> Result<Reply> {
    tokio::task::yield_now().await;
    Ok(Reply::Bulk(args.bytes(0)?))
}

async fn panic_later(_: &mut Context<'_>, _: Args) -> Result<Reply> {
    tokio::task::yield_now().await;
    panic!("on purpose")
}
