//! The `lethe` program: arguments, runtime, and what comes after.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use lethe::cli::{self, Outcome};

/// A fifth of the time of a point read goes into allocating; this one takes less of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let outcome = runtime.block_on(cli::run(cli));
    // Work that does not end must not keep the process.
    runtime.shutdown_background();
    // Also before another program takes the place of this process, which would not see its end.
    lethe::store::shut_down();
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::FAILURE,
        Ok(Outcome::StartAgain) => start_again(),
        Ok(Outcome::Status(status)) => ExitCode::from(status),
        Err(error) => failed(&error),
    }
}

/// Starts the same program with the same arguments in place of this process, so
/// that nothing of the former incarnation lives on.
fn start_again() -> ExitCode {
    tracing::warn!("this node is no member of its cluster any more; it starts again");
    match std::env::current_exe() {
        Ok(program) => {
            failed(&std::process::Command::new(program).args(std::env::args_os().skip(1)).exec())
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    // Nothing is left to be done when even this cannot be written.
    drop(writeln!(std::io::stderr(), "lethe: {}", cli::harmless(&error.to_string())));
    ExitCode::from(2)
}
