//! Members come and go.

use lethe::codec::keys;

use crate::process::{LEASE, Process};
use crate::world::{World, at_last, error, insert, members, ok, owners};

#[test]
fn a_node_that_is_stopped_hands_its_shards_over_before_it_ends() {
    let Some(mut world) = World::start(3, 7) else { return };
    let mut client = world.nodes[0].connect();
    let leaving = world.nodes.pop().unwrap();
    let name = leaving.name();
    leaving.stop();
    // Not after a lease: by now.
    assert!(!members(&mut client).contains_key(&name));
    assert!(owners(&mut client).values().all(|(owner, _)| *owner != name));
    world.settled();
    // Down to one, and up again.
    world.nodes.pop().unwrap().stop();
    assert!(owners(&mut client).values().all(|(owner, _)| *owner == world.nodes[0].name()));
    world.add();
    world.add();
    world.settled();
    world.finish();
}

#[test]
fn scenario_14_two_that_stand_still_at_once_leave_no_shard_without_a_member() {
    let Some(world) = World::start(3, 7) else { return };
    let mut client = world.nodes[0].connect();
    let own = world.nodes[0].name();
    ok(&mut client, "BUCKET.CREATE b");
    for node in &world.nodes[1..] {
        node.pause();
    }
    let signal = keys::membership_signal();
    world.wait_for("both are evicted", &signal, || members(&mut client).len() == 1);
    assert!(owners(&mut client).values().all(|(owner, _)| *owner == own));
    ok(&mut client, "BUCKET.REMOVE b");
    ok(&mut client, "BUCKET.PURGE b");
    for node in &world.nodes[1..] {
        node.resume();
        node.wait_ready();
        assert!(error(&mut node.connect(), "BUCKET.QUERY b {}").starts_with("NOSUCHBUCKET"));
    }
    world.settled();
    world.finish();
}

#[test]
fn scenario_13_a_store_that_does_not_answer_for_longer_than_a_lease_evicts_nobody() {
    let Some(world) = World::start(3, 7) else { return };
    let mut clients: Vec<_> = world.nodes.iter().map(Process::connect).collect();
    ok(&mut clients[0], "BUCKET.CREATE b");
    let before = owners(&mut clients[0]);
    world.server.pause();
    std::thread::sleep(LEASE * 3);
    world.server.resume();
    for (n, client) in clients.iter_mut().enumerate() {
        at_last("the node serves again", || insert(client, "b", n).is_ok());
    }
    // The epochs say so: an eviction would have raised them.
    assert_eq!(owners(&mut clients[0]), before);
    assert!(members(&mut clients[1]).values().all(|status| status == "alive"));
    world.finish();
}
