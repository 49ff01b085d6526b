//! The check: silent about a healthy store in whatever state, and exact about
//! each kind of damage.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "support/clean.rs"]
mod clean;
#[path = "check/copies.rs"]
mod copies;
#[path = "check/damage.rs"]
mod damage;
#[path = "check/documents.rs"]
mod documents;
#[path = "check/feed.rs"]
mod feed;
#[path = "check/tombstones.rs"]
mod tombstones;
#[path = "check/ttl.rs"]
mod ttl;
#[path = "check/users.rs"]
mod users;
#[path = "check/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use damage::AtRest;
use lethe::check::{self, Finding};
use lethe::codec::{keys, readable};
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

#[tokio::test(start_paused = true)]
async fn a_scan_page_by_page_finds_what_a_whole_one_finds() {
    let store = AtRest::new().await;
    let lonely = [damage::set(keys::fence(900), &[0; 10]), damage::set(b"text".to_vec(), b"")];
    store.write(&lonely).await;
    let whole = check::all(&store.store).await.unwrap();
    assert_eq!(whole.len(), 2);
    let rows = store.rows(Vec::new()).await.len();
    for size in [1, 7, 100] {
        let (mut findings, mut seen, mut from) = (Vec::new(), 0, None);
        loop {
            let page = check::page(&store.store, from.as_deref(), size).await.unwrap();
            assert!(page.keys <= size);
            seen += page.keys;
            findings.extend(page.findings);
            let Some(next) = page.next else { break };
            from = Some(next);
        }
        assert_eq!(findings, whole);
        assert!(seen <= rows && seen + 100 > rows, "prefixes of purging buckets are skipped");
    }
}

/// Rows that stand alone: their absence contradicts nothing.
fn may_be_absent(key: &[u8]) -> bool {
    use keys::{data, kind};
    match keys::kind_of(key).unwrap() {
        kind::HOLD
        | kind::REQUEST
        | kind::OBSERVER
        | kind::PURGE_PAUSE
        | kind::BARRIER_SIGNAL
        | kind::COPY_SIGNAL
        | kind::INDEX_TASK_SIGNAL
        | kind::MEMBERSHIP_SIGNAL
        | kind::DUE_SIGNAL
        | kind::JOURNAL
        | kind::JOURNAL_MARK
        | kind::MEMBER
        | kind::ATTEMPT
        | kind::REPLICA
        | kind::AUDIT => true,
        // A task that is over tells only that it was.
        kind::DATA => keys::parse_data(key).is_ok_and(|(_, part)| {
            [data::CHANGE, data::FLOOR, data::ORIGIN, data::INDEX_TASK].contains(&part)
        }),
        _ => false,
    }
}

/// Keys below the prefix of a bucket that waits for its reclaim.
fn is_purging(store: &AtRest, key: &[u8]) -> bool {
    let purging = [store.bucket("purging"), store.bucket("dropped")];
    keys::parse_data(key).is_ok_and(|(bucket, _)| purging.contains(&bucket))
}

#[tokio::test(start_paused = true)]
async fn no_row_vanishes_unnoticed() {
    let store = AtRest::new().await;
    let mut unnoticed = Vec::new();
    for (key, value) in store.rows(Vec::new()).await {
        if may_be_absent(&key) || is_purging(&store, &key) {
            continue;
        }
        // What was set aside while its bucket is removed is in no queue.
        let stands_still = keys::parse_expiry(&key).is_ok_and(|(_, what, _)| {
            [keys::due::TRIM, keys::due::VACUUM, keys::due::TTL].contains(&what)
        });
        // No counter and one at nought say the same.
        let is_nought = keys::parse_count(&key).is_ok() && value == [0; 8];
        let may_go = stands_still || is_nought;
        if store.found(&[damage::clear(key.clone())]).await.is_empty() && !may_go {
            unnoticed.push(readable::key(&key));
        }
    }
    assert_eq!(unnoticed, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn no_value_and_no_key_turns_to_nonsense_unnoticed() {
    let store = AtRest::new().await;
    let mut unnoticed = Vec::new();
    for (key, value) in store.rows(Vec::new()).await {
        if is_purging(&store, &key) {
            continue;
        }
        let nonsense = damage::set(key.clone(), b"\xffnonsense");
        let mut longer = key.clone();
        longer.push(0);
        let longer = damage::set(longer, &value);
        for change in [nonsense, longer] {
            let found = store.found(std::slice::from_ref(&change)).await;
            // A piece belongs to its document, which is the one that is damaged.
            let is_piece = keys::parse_data(&key).is_ok_and(|(_, part)| part == keys::data::BODY);
            let noticed = |(_, about): &(_, Vec<u8>)| *about == change.0 || is_piece;
            // A token is whatever its transaction wrote.
            let is_token = change.0 == key && keys::parse_attempt(&key).is_ok();
            if !found.iter().any(noticed) && !is_token {
                unnoticed.push(readable::key(&key));
            }
        }
    }
    assert_eq!(unnoticed, [""; 0]);
}

/// Everything that happens to buckets, over and over, on few names.
async fn churn(world: &World, name: &'static str, rounds: usize) {
    for round in 0..rounds {
        world.create(name).await;
        world.write(name).await;
        world.write(name).await;
        let removal = world.remove(name, |r| r.reserve_name = round % 2 == 0).await.removal;
        if round % 3 == 0 {
            world.restore(removal, |_| {}).await;
            world.write(name).await;
            let again = world.remove(name, |_| {}).await.removal;
            world.purge(again, Duration::from_secs(20)).await.unwrap();
        } else {
            world.purge(removal, Duration::from_secs(20)).await.unwrap();
        }
    }
}

async fn silent_under_load(world: World) {
    let world = Arc::new(world);
    let mut workers = tokio::task::JoinSet::new();
    for name in ["a", "b", "c"] {
        let world = Arc::clone(&world);
        workers.spawn(async move { churn(&world, name, 6).await });
    }
    let writer = Arc::clone(&world);
    writer.create("busy").await;
    workers.spawn(async move {
        for _ in 0..30 {
            writer.write("busy").await;
        }
    });
    let mut scans = 0;
    while !workers.is_empty() {
        tokio::select! {
            Some(ended) = workers.join_next() => ended.unwrap(),
            found = findings(&world.store) => {
                assert_eq!(found, [""; 0]);
                scans += 1;
            }
        }
    }
    assert!(scans > 0, "at least one scan ended while the others worked");
    world.reclaimed().await;
    assert_eq!(findings(&world.store).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_under_load_gives_no_false_finding() {
    silent_under_load(World::memory().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_on_files_under_load_gives_no_false_finding() {
    let folder = tempfile::tempdir().unwrap();
    silent_under_load(World::embedded(folder.path()).await).await;
}

#[tokio::test(start_paused = true)]
async fn members_that_come_and_go_and_crash_leave_nothing_to_find() {
    let world = World::memory().await;
    world.fill().await;
    let mut second = world::start(&world.store, "b", &world.clock).await;
    assert_eq!(findings(&world.store).await, [""; 0]);
    second.leave(lethe::cluster::Stop::Graceful).await;
    assert_eq!(findings(&world.store).await, [""; 0]);
    let third = world::start(&world.store, "c", &world.clock).await;
    third.kill();
    assert_eq!(findings(&world.store).await, [""; 0]);
    // Until it was evicted and its shards were given away.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(findings(&world.store).await, [""; 0]);
    let again = world::start(&world.store, "a", &world.clock).await;
    assert_eq!(findings(&world.store).await, [""; 0]);
    again.kill();
}

fn lethe_check(folder: &std::path::Path) -> (i32, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lethe"))
        .arg("check")
        .arg("--data-dir")
        .arg(folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lethe_check_prints_findings_and_tells_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, wrong) = lethe_check(&folder.path().join("nothing"));
    assert_eq!(code, 2);
    assert!(wrong.contains("there is no store in"), "{wrong}");
    assert!(!folder.path().join("nothing").exists(), "nothing was created");

    let data = folder.path().join("data");
    let world = World::embedded(&data).await;
    world.fill().await;
    let (code, _, wrong) = lethe_check(&data);
    assert_eq!(code, 2);
    assert!(wrong.contains("is in use by another process"), "{wrong}");
    world.node.stop().await;
    drop(world.store);
    let (code, out, _) = lethe_check(&data);
    assert_eq!(code, 0, "{out}");
    assert!(out.ends_with("keys checked: 0 errors, 0 warnings\n"), "{out}");

    let store = Store::open(&data, EmbeddedOptions::default()).await.unwrap();
    let txn = store.begin("damage");
    txn.set(&keys::fence(900), &[0; 10]).unwrap();
    txn.commit().await.unwrap();
    store.close().await;
    let (code, out, _) = lethe_check(&data);
    assert_eq!(code, 1, "{out}");
    assert!(out.starts_with("error dangling fence/900: "), "{out}");
    assert!(out.ends_with("keys checked: 1 errors, 0 warnings\n"), "{out}");
}
