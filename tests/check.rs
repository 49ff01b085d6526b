//! The check: silent about a healthy store in whatever state, and exact about
//! each kind of damage.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "support/clean.rs"]
mod clean;
#[path = "check/world.rs"]
mod world;

use lethe::check::{self, Finding};
use lethe::store::{EmbeddedOptions, Store};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_gives_no_finding_either_also_after_its_node_crashed() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::embedded(folder.path()).await;
    world.fill().await;
    clean::assert_clean(&world.store).await;
    let World { store, node, .. } = world;
    node.kill();
    store.close().await;
    drop(store);
    let world = World::embedded(folder.path()).await;
    assert_eq!(findings(&world.store).await, [""; 0]);
    world.clock.jump(3_600_000);
    world.node.stop().await;
    let store = Store::open(folder.path(), EmbeddedOptions::default()).await.unwrap();
    assert_eq!(findings(&store).await, [""; 0]);
    store.close().await;
}
