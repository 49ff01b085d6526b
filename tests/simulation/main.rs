//! Several whole nodes, and everything that can happen to them, from one seed.
//!
//! A seed decides which commands are sent to whom, what crashes, stands still,
//! is cut off, comes back or jumps, which commits are refused, lost and late. A
//! run is the same each time: one thread, time that stands still until all
//! wait, one generator, and no randomness from outside (`entropy.rs`), for
//! which each seed has a process of its own (`runner.rs`).
//!
//! After every step `model.rs` compares what the store holds with what it held
//! before and with what clients were told; at the end all is healed, everything
//! removed is purged, and the check must find nothing. What can happen is a
//! table (`actions.rs`, `commands.rs`, `documents.rs`): a new command is one line there.
//!
//! ```sh
//! cargo test --test simulation                       # the seeds of every day
//! LETHE_SEEDS=1000..2000 cargo test --test simulation seeds
//! LETHE_TELL=1 cargo test --test simulation seeds -- --nocapture   # and how often what happened
//! LETHE_SEED=17 cargo test --test simulation one_seed -- --nocapture
//! ```

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "one binary in several files")]
#![allow(dead_code, reason = "the scenarios use what is not used here")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../scenarios/seat.rs"]
mod seat;

mod actions;
mod commands;
mod documents;
mod end;
mod entropy;
mod kept;
mod look;
mod mirror;
mod mistakes;
mod model;
mod runner;
mod swaps;
mod tally;
mod told;
mod world;

/// One seed, that of `LETHE_SEED` or the first: what the others run in a process of their own.
#[test]
fn one_seed() {
    runner::here();
}

#[test]
fn whatever_happens_all_invariants_hold_seeds() {
    runner::all(&runner::wanted());
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in [3, 17, 40] {
        let (one, two) = (runner::apart(seed, None), runner::apart(seed, None));
        assert_eq!(one, two, "seed {seed}");
        assert_ne!(one, runner::apart(seed + 1, None), "two seeds are one run");
    }
}
