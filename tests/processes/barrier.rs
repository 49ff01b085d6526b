//! The barrier over three processes: everybody agrees, somebody stands still, somebody is dead.

use std::time::Instant;

use lethe::codec::{RemovalId, keys};

use crate::client::Value;
use crate::process::Process;
use crate::report::say;
use crate::world::{World, call, error, field, insert, ok, owners, text};

/// What a removed bucket answers until it is purged, and after.
const REFUSED: [&str; 2] =
    ["BUCKETBEINGREMOVED Bucket 'b' is being removed", "NOSUCHBUCKET No such bucket: 'b'"];

#[test]
fn a_removal_is_refused_everywhere_at_once_and_purged_within_milliseconds() {
    const ROUNDS: usize = 20;
    let Some(world) = World::start(3, 7) else { return };
    let mut clients: Vec<_> = world.nodes.iter().map(Process::connect).collect();
    let mut waits = Vec::new();
    for round in 0..ROUNDS {
        ok(&mut clients[round % 3], "BUCKET.CREATE b");
        for (n, client) in clients.iter_mut().enumerate() {
            insert(client, "b", n).unwrap();
        }
        ok(&mut clients[round % 3], "BUCKET.REMOVE b");
        let removed = Instant::now();
        ok(&mut clients[(round + 1) % 3], "BUCKET.PURGE b");
        waits.push(removed.elapsed());
        ok(&mut clients[round % 3], "BUCKET.CREATE b");
        // Caches that were warm for the purged instance serve the new one.
        for client in &mut clients {
            insert(client, "b", 1).unwrap();
        }
        ok(&mut clients[(round + 2) % 3], "BUCKET.REMOVE b");
        for client in &mut clients {
            assert_eq!(error(client, "BUCKET.QUERY b {}"), REFUSED[0]);
            assert_eq!(insert(client, "b", 2).unwrap_err(), REFUSED[0]);
        }
        ok(&mut clients[round % 3], "BUCKET.PURGE b");
    }
    waits.sort_unstable();
    let (median, longest) = (waits[ROUNDS / 2], waits[ROUNDS - 1]);
    say(&format!("barrier and purge on three nodes: median {median:?}, longest {longest:?}"));
    world.finish();
}

#[test]
fn scenario_12_a_node_that_stands_still_is_named_waited_for_no_longer_than_its_lease_and_refused() {
    let Some(world) = World::start(3, 7) else { return };
    let mut clients: Vec<_> = world.nodes.iter().map(Process::connect).collect();
    for bucket in ["b", "kept"] {
        ok(&mut clients[0], &format!("BUCKET.CREATE {bucket}"));
        for client in &mut clients {
            insert(client, bucket, 0).unwrap();
        }
    }
    let before = owners(&mut clients[0]);
    let (sleeper, name) = (&world.nodes[2], world.nodes[2].name());
    sleeper.pause();
    // It will read this when it wakes.
    clients[2].send(&["BUCKET.INSERT", "b", "DOCS", "{}"]).unwrap();
    ok(&mut clients[0], "BUCKET.REMOVE b");
    let refused = error(&mut clients[1], "BUCKET.PURGE b TIMEOUT 300");
    assert!(refused.starts_with("BARRIERNOTSATISFIED Barrier not satisfied: "), "{refused}");
    assert!(refused.contains(&name), "{refused}");
    let began = Instant::now();
    ok(&mut clients[1], "BUCKET.PURGE b TIMEOUT 50000");
    say(&format!("a purge waited {:?} for a node that stood still", began.elapsed()));
    let after = owners(&mut clients[0]);
    for (shard, (owner, epoch)) in &before {
        if *owner == name {
            assert_ne!(after[shard].0, name);
            assert!(after[shard].1 > *epoch, "shard {shard} has a new epoch");
        }
    }
    // It wakes, is refused whatever it had begun, and starts again as another incarnation.
    sleeper.resume();
    match clients[2].read() {
        Ok(Value::Error(_)) | Err(_) => {}
        Ok(reply) => panic!("the woken node answered {reply:?}"),
    }
    sleeper.wait_ready();
    let mut woken = sleeper.connect();
    assert_eq!(error(&mut woken, "BUCKET.QUERY b {}"), REFUSED[1]);
    assert_eq!(insert(&mut woken, "b", 1).unwrap_err(), REFUSED[1]);
    insert(&mut woken, "kept", 1).unwrap();
    ok(&mut woken, "BUCKET.CREATE b");
    insert(&mut clients[0], "b", 1).unwrap();
    world.settled();
    world.finish();
}

#[test]
fn a_node_that_was_killed_is_waited_for_no_longer_than_its_lease() {
    let Some(mut world) = World::start(3, 7) else { return };
    let mut client = world.nodes[0].connect();
    ok(&mut client, "BUCKET.CREATE b");
    insert(&mut world.nodes[2].connect(), "b", 0).unwrap();
    let dead = world.nodes.pop().unwrap();
    let name = dead.name();
    let address = dead.kill();
    ok(&mut client, "BUCKET.REMOVE b");
    let refused = error(&mut client, "BUCKET.PURGE b TIMEOUT 300");
    assert!(refused.contains(&name), "{refused}");
    ok(&mut client, "BUCKET.PURGE b TIMEOUT 50000");
    assert!(owners(&mut client).values().all(|(owner, _)| *owner != name));
    world.add_at(address);
    world.settled();
    let mut again = world.nodes[2].connect();
    assert_eq!(error(&mut again, "BUCKET.QUERY b {}"), REFUSED[1]);
    world.finish();
}

#[test]
fn scenario_15_a_member_without_shards_is_waited_for_and_one_that_joins_meanwhile_does_not_block() {
    let Some(mut world) = World::start(3, 1) else { return };
    let mut client = world.nodes[0].connect();
    let owner = owners(&mut client)[&0].0.clone();
    let idle = world.nodes.iter().rposition(|node| node.name() != owner).unwrap();
    let name = world.nodes[idle].name();
    let mut client = world.nodes[usize::from(idle == 0)].connect();
    ok(&mut client, "BUCKET.CREATE b");
    insert(&mut client, "b", 0).unwrap();
    world.nodes[idle].pause();
    let removed = ok(&mut client, "BUCKET.REMOVE b INFO");
    let removal = RemovalId::parse(&text(field(&removed, "removal_id"))).unwrap();
    let refused = error(&mut client, "BUCKET.PURGE b NOWAIT");
    assert!(refused.contains(&format!("member {name}")), "{refused}");
    // The request waits; a node joins after the removal, and no event follows.
    world.add();
    let mut joined = world.nodes.last().unwrap().connect();
    ok(&mut joined, "BUCKET.PURGE b TIMEOUT 50000");
    world.wait_for(
        "its bytes are given back",
        &keys::reclaim(removal),
        || matches!(call(&mut joined, "BUCKET.REMOVED b"), Value::Array(rows) if rows.is_empty()),
    );
    world.nodes[idle].resume();
    world.nodes[idle].wait_ready();
    world.settled();
    world.finish();
}
