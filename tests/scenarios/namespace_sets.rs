//! The exact conflict sets of the commits on namespaces: they are the same whatever is inside.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::codec::record::{self, GraveRecord, RetentionRecord};
use lethe::codec::{NamespaceId, ObjectKind, RemovalId, keys};

use crate::cluster::{Claim, Cluster, fail, patiently};
use crate::namespaces::{id, world};
use crate::sets::{Expected, landed};

const KIND: ObjectKind = ObjectKind::Namespace;

/// The namespaces n and n.x, with a bucket.
async fn scene() -> Claim<(Cluster, NamespaceId, NamespaceId)> {
    let cluster = world(Mutations::default()).await?;
    id(&cluster, "n.x", "b").await?;
    let n = child(&cluster, NamespaceId::ROOT, "n").await?;
    let x = child(&cluster, n, "x").await?;
    Ok((cluster, n, x))
}

async fn child(cluster: &Cluster, parent: NamespaceId, name: &str) -> Claim<NamespaceId> {
    let row = cluster.get(&keys::namespace_name(parent, name)).await?.ok_or("no such name")?;
    Ok(NamespaceId(u64::from_be_bytes(row[..].try_into().map_err(fail)?)))
}

async fn removal_of(cluster: &Cluster, id: NamespaceId) -> Claim<RemovalId> {
    let row = cluster.get(&keys::removal_of(id.0)).await?.ok_or("no removal")?;
    Ok(RemovalId(u64::from_be_bytes(row[..].try_into().map_err(fail)?)))
}

async fn expiry_of(cluster: &Cluster, removal: RemovalId) -> Claim<Vec<u8>> {
    let row = cluster.get(&keys::retention(removal)).await?.ok_or("no retention")?;
    let row: RetentionRecord = record::decode("retention", &row).map_err(fail)?;
    let at = row.expires_at.ok_or("no expiry")?;
    Ok(keys::expiry(at, keys::due::REMOVAL, &removal.0.to_be_bytes()))
}

/// The rows of an internal operation, of which there is one in every commit.
fn without_operations(all: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let is_operation = |key: &[u8]| {
        keys::parse_operation(key).is_ok()
            || keys::parse_expiry(key).is_ok_and(|(_, what, _)| what == keys::due::OPERATION)
    };
    all.into_iter().filter(|(begin, _)| !is_operation(begin)).collect()
}

async fn removal() -> Claim {
    let (cluster, n, x) = scene().await?;
    let held = cluster.hold("A", "remove");
    let asked = cluster.ask("A", "NAMESPACE REMOVE n.x");
    let mut sets = landed(held).await?;
    asked.expect("OK").await?;
    let removal = removal_of(&cluster, x).await?;
    let expected = Expected::new(cluster.store());
    expected.reads(&[keys::user("default")])?;
    expected.reads(&[
        keys::namespace_name(NamespaceId::ROOT, "n"),
        keys::namespace_name(n, "x"),
        keys::namespace_record(n),
        keys::namespace_record(x),
        keys::fence(n.0),
        keys::fence(x.0),
    ])?;
    expected.reads_prefixes(&[
        keys::guard_prefix(keys::guard::PROTECTION, x),
        keys::guard_prefix(keys::guard::POLICY, x),
    ])?;
    expected.writes(&[
        keys::unpark(x),
        keys::namespace_name(n, "x"),
        keys::namespace_record(x),
        keys::fence(x.0),
        keys::removal_of(x.0),
        keys::removal(removal),
        keys::retention(removal),
        keys::removed_by_name(KIND, n, "x", removal),
        expiry_of(&cluster, removal).await?,
    ])?;
    expected.stamped(&[
        keys::removed_by_time_now(KIND, n),
        keys::removed_by_time_now(KIND, NamespaceId::ROOT),
    ])?;
    expected.transition()?;
    expected.0.touch_metadata_version().map_err(fail)?;
    (sets.reads, sets.writes) = (without_operations(sets.reads), without_operations(sets.writes));
    sets.check(&expected)?;
    cluster.finish().await
}

async fn flip() -> Claim {
    let (cluster, n, x) = scene().await?;
    cluster.expect("A", "NAMESPACE REMOVE n.x", "OK").await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let removal = removal_of(&cluster, x).await?;
    let expiry = expiry_of(&cluster, removal).await?;
    let held = cluster.hold("A", "flip");
    let asked = cluster.ask("A", &format!("NAMESPACE PURGE {removal}"));
    let mut sets = landed(held).await?;
    asked.expect("OK").await?;
    let grave = cluster.get(&keys::grave(removal)).await?.ok_or("no grave")?;
    let grave: GraveRecord = record::decode("grave", &grave).map_err(fail)?;
    let expected = Expected::new(cluster.store());
    expected.reads(&[keys::user("default")])?;
    expected.reads(&[
        keys::removal(removal),
        keys::retention(removal),
        keys::hold(removal),
        keys::request(removal),
        keys::namespace_record(n),
        keys::namespace_record(x),
        keys::fence(n.0),
        keys::fence(x.0),
        keys::purge_pause(),
        keys::cluster_time(),
    ])?;
    expected.reads_prefixes(&[
        keys::guard_prefix(keys::guard::PROTECTION, x),
        keys::guard_prefix(keys::guard::HOLD, x),
        keys::guard_prefix(keys::guard::LOCK, x),
        keys::kind_prefix(keys::kind::MEMBER),
        keys::kind_prefix(keys::kind::SHARD),
        keys::busy_prefix(x.0),
    ])?;
    expected.writes(&[
        keys::unpark(x),
        keys::removal(removal),
        keys::retention(removal),
        keys::hold(removal),
        keys::request(removal),
        keys::removed_by_name(KIND, n, "x", removal),
        expiry,
        keys::namespace_record(x),
        keys::fence(x.0),
        keys::grave(removal),
        keys::expiry(grave.until, keys::due::GRAVE, &removal.0.to_be_bytes()),
        keys::reclaim(removal),
    ])?;
    for prefix in [keys::busy_prefix(x.0), keys::parked_prefix(x)] {
        let (begin, end) = keys::range(&prefix);
        expected.clears(&begin, &end)?;
    }
    expected.transition()?;
    (sets.reads, sets.writes) = (without_operations(sets.reads), without_operations(sets.writes));
    sets.check(&expected)?;
    cluster.finish().await
}

async fn move_to() -> Claim {
    let (cluster, n, x) = scene().await?;
    let held = cluster.hold("A", "move-namespace");
    let asked = cluster.ask("A", "NAMESPACE MOVE n.x y");
    let mut sets = landed(held).await?;
    asked.expect("OK").await?;
    let expected = Expected::new(cluster.store());
    expected.reads(&[keys::user("default")])?;
    let root = NamespaceId::ROOT;
    expected.reads(&[
        keys::namespace_name(root, "n"),
        keys::namespace_name(n, "x"),
        keys::namespace_name(root, "y"),
        keys::reserved_name(KIND, root, "y"),
        keys::namespace_record(n),
        keys::namespace_record(x),
        keys::fence(n.0),
        keys::fence(x.0),
        keys::guard(keys::guard::PROTECTION, n, x.0),
        keys::guard(keys::guard::HOLD, n, x.0),
        keys::guard(keys::guard::POLICY, n, x.0),
        keys::guard(keys::guard::LOCK, n, x.0),
    ])?;
    expected.reads_prefixes(&[
        keys::guard_prefix(keys::guard::PROTECTION, x),
        keys::guard_prefix(keys::guard::HOLD, x),
        keys::guard_prefix(keys::guard::POLICY, x),
        keys::guard_prefix(keys::guard::LOCK, x),
    ])?;
    expected.writes(&[
        keys::namespace_name(n, "x"),
        keys::namespace_name(root, "y"),
        keys::namespace_record(x),
        keys::fence(x.0),
    ])?;
    expected.transition()?;
    expected.0.touch_metadata_version().map_err(fail)?;
    (sets.reads, sets.writes) = (without_operations(sets.reads), without_operations(sets.writes));
    sets.check(&expected)?;
    cluster.finish().await
}

on_each_store! {
    a_removal_of_a_namespace_reads_what_is_above_and_one_range_below: patiently(removal());
    the_flip_of_a_namespace_reads_all_that_it_rests_on: patiently(flip());
    a_move_writes_one_pointer_and_reads_both_paths: patiently(move_to());
}
