//! Runs seeds, each in a process of its own, as many at once as there are processors.
//!
//! A process of its own, since the runtime's generator also depends on how many
//! runtimes the process has had; and a seed that hangs or aborts is only itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use lethe::cluster::mutation::{Mutation, Mutations};

use crate::{tally, world};

/// The seeds of every day.
const SEEDS: u64 = 200;
/// A run that takes longer has got stuck.
const STUCK: Duration = Duration::from_secs(300);

const SEED: &str = "LETHE_SEED";
const MISTAKE: &str = "LETHE_MISTAKE";
/// Has a run say what happens, and many runs how often what happened.
pub const TELL: &str = "LETHE_TELL";
/// How the process of a seed tells its outcome.
const TRACE: &str = "trace of the run: ";
const VIOLATED: &str = "violated: ";

/// How a seed ended: the hash of its trace, or what did not hold.
pub type Outcome = Result<String, String>;

/// The seeds that `LETHE_SEEDS` asks for: `1000`, or `1000..2000`.
pub fn wanted() -> Range<u64> {
    let wanted = std::env::var("LETHE_SEEDS").unwrap_or_default();
    let (begin, end) = wanted.split_once("..").unwrap_or(("0", &wanted));
    begin.parse().unwrap_or(0)..end.parse().unwrap_or(SEEDS)
}

fn mistake(name: &str) -> Mutation {
    let found = Mutation::ALL.iter().find(|mistake| format!("{mistake:?}") == name);
    *found.unwrap_or_else(|| panic!("no mistake is called '{name}'"))
}

/// Runs the seed that the environment names, in this process.
pub fn here() {
    let seed = std::env::var(SEED).map_or(0, |seed| seed.parse().expect("a number"));
    let mistakes = match std::env::var(MISTAKE) {
        Ok(name) => Mutations::of(&[mistake(&name)]),
        Err(_) => Mutations::default(),
    };
    let (done, running) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if running.recv_timeout(STUCK) == Err(mpsc::RecvTimeoutError::Timeout) {
            println!("{VIOLATED}it never ended");
            std::process::exit(1);
        }
    });
    if std::env::var(TELL).is_ok() {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .without_time()
            .init();
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    let outcome = runtime.block_on(world::simulate(seed, mistakes));
    drop(done);
    match outcome {
        Ok(trace) => {
            println!("\n{TRACE}{trace}");
            tally::tell();
        }
        Err(violated) => {
            println!("\n{VIOLATED}{violated}");
            panic!("seed {seed}: {violated}");
        }
    }
}

/// Runs a seed in a process of its own.
pub fn apart(seed: u64, mistake: Option<Mutation>) -> Outcome {
    run(seed, mistake).0
}

/// As [`apart`]; also gives all that the process said.
fn run(seed: u64, mistake: Option<Mutation>) -> (Outcome, String) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "one_seed", "--nocapture", "--test-threads=1"]);
    command.env(SEED, seed.to_string()).env_remove(MISTAKE).env_remove(TELL);
    if let Some(mistake) = mistake {
        command.env(MISTAKE, format!("{mistake:?}"));
    }
    let output = command.output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    let after = |mark: &str| text.lines().find_map(|line| line.strip_prefix(mark));
    let outcome = match (output.status.success(), after(TRACE), after(VIOLATED)) {
        (true, Some(trace), _) => Ok(trace.to_owned()),
        (_, _, Some(violated)) => Err(violated.to_owned()),
        _ => Err(format!("it died: {}", String::from_utf8_lossy(&output.stderr))),
    };
    (outcome, text.into_owned())
}

/// Runs all these seeds; gives the first of those that failed.
pub fn first_failure(seeds: &Range<u64>, mistake: Option<Mutation>) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<(u64, String)>> = Mutex::default();
    let total: Mutex<BTreeMap<String, tally::Count>> = Mutex::default();
    let work = || {
        while failed.lock().expect("no panic").is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let (outcome, said) = run(seed, mistake);
            tally::take(&mut total.lock().expect("no panic"), &said);
            if let Err(violated) = outcome {
                let mut failed = failed.lock().expect("no panic");
                if failed.as_ref().is_none_or(|(earlier, _)| seed < *earlier) {
                    *failed = Some((seed, violated));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if std::env::var(TELL).is_ok() && mistake.is_none() {
        tally::show(&total.into_inner().expect("no panic"), seeds.end - seeds.start);
    }
    failed.into_inner().expect("no panic")
}

/// Runs all these seeds; none may fail.
pub fn all(seeds: &Range<u64>) {
    if let Some((seed, violated)) = first_failure(seeds, None) {
        panic!(
            "seed {seed}: {violated}\n\
             again: LETHE_SEED={seed} cargo test --test simulation one_seed -- --nocapture"
        );
    }
}
