//! The client's network thread. A process has one, and can begin it once.

use std::sync::{Mutex, OnceLock};

use ::foundationdb::FdbError;
use ::foundationdb::api::{FdbApiBuilder, NetworkAutoStop};

use super::super::shared::lock;
use super::{Error, Result};

/// How beginning it went.
static BEGUN: OnceLock<Result<()>> = OnceLock::new();
/// Stops and joins the thread when dropped.
static NETWORK: Mutex<Option<NetworkAutoStop>> = Mutex::new(None);

/// Begins it, unless it is running already.
pub(super) fn boot() -> Result<()> {
    BEGUN.get_or_init(|| begin().map_err(|error| cannot(&error.to_string()))).clone()?;
    match *lock(&NETWORK) {
        Some(_) => Ok(()),
        None => Err(cannot("it was stopped, which is for good")),
    }
}

fn cannot(reason: &str) -> Error {
    Error::Unavailable(format!("the FoundationDB client cannot start: {reason}"))
}

#[expect(unsafe_code, reason = "the C client wants its network stopped before the process ends")]
fn begin() -> Result<(), FdbError> {
    let builder = FdbApiBuilder::default().build()?;
    // SAFETY: what `boot` gives must be dropped before the program exits. It goes into a static of which nothing
    // takes it but `stop`, and `stop` is called at every exit: by `main`, or by `at_exit`. An aborted process, or
    // one that becomes another program, need not stop it.
    let network = unsafe { builder.boot()? };
    *lock(&NETWORK) = Some(network);
    Ok(())
}

/// Has the network stopped at the exit of a process that does not call [`stop`], such as a test's.
///
/// To be called when the client has answered: what it makes on its first use is destroyed at the exit in the opposite order
/// of its making, and stopping needs it.
#[expect(unsafe_code, reason = "nothing else is told of every exit")]
pub(super) fn stop_at_exit() {
    // SAFETY: `at_exit` is a function of the C ABI without arguments that lives as long as the program. That it could not be
    // registered (no memory for the list) leaves a process that has to call `stop`, as `main` does.
    let _registered = unsafe { libc::atexit(at_exit) };
}

/// In a thread of its own: the client's thread-local values of the thread that exits are destroyed already.
extern "C" fn at_exit() {
    if let Ok(stopping) = std::thread::Builder::new().spawn(stop) {
        // It fails only by panicking, which has been told.
        drop(stopping.join());
    }
}

/// Ends it, for good. What is still waited for never comes.
pub(in super::super) fn stop() {
    let network = lock(&NETWORK).take();
    drop(network);
}
