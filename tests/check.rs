//! The check: silent about a healthy store in whatever state, and exact about
//! each kind of damage.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "support/clean.rs"]
mod clean;
#[path = "check/world.rs"]
mod world;

use lethe::check::{self, Finding};
use lethe::store::Store;
use world::World;

async fn findings(store: &Store) -> Vec<String> {
    check::all(store).await.unwrap().iter().map(Finding::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_never_used_gives_no_finding() {
    assert_eq!(findings(&Store::memory()).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn buckets_in_every_state_give_no_finding() {
    let world = World::memory().await;
    world.fill().await;
    assert_eq!(findings(&world.store).await, [""; 0]);
    clean::assert_clean(&world.store).await;
}
