//! Namespaces: what is in them goes and comes with them; scenario 18's MOVE.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::codec::record::{self, TtlProgressRecord};
use lethe::codec::{BucketId, keys};
use lethe::store::Error as StoreError;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, fail, field, line};
use crate::seat::Seat;

/// Longer than any worker sleeps.
const LONG: Duration = Duration::from_secs(90);
const REMOVED: &str = "NAMESPACEBEINGREMOVED Namespace 'n' is being removed";

/// Two nodes, the namespace n.x, and in it the bucket b with a document.
pub async fn world(mutations: Mutations) -> Claim<Cluster> {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "NAMESPACE CREATE n.x", "OK").await?;
    let mut seat = seat(&cluster, "A", "n.x").await?;
    seat.expect("BUCKET.CREATE b", "OK").await?;
    seat.done("BUCKET.INSERT b DOCS {\"number\":1}").await?;
    Ok(cluster)
}

/// A client of a node whose current namespace this is.
pub async fn seat(cluster: &Cluster, node: &str, namespace: &str) -> Claim<Seat> {
    let mut seat = Seat::at(cluster, node);
    seat.expect(&format!("NAMESPACE USE {namespace}"), "OK").await?;
    Ok(seat)
}

/// The id of a bucket in a namespace, both active.
pub async fn id(cluster: &Cluster, namespace: &str, bucket: &str) -> Claim<BucketId> {
    let catalog = cluster.node("A").lifecycle().catalog();
    catalog.bucket(namespace, bucket).await.map(|(id, _)| id).map_err(fail)
}

/// By every command, on every node, in open transactions and on open cursors; and a
/// restore undoes just that.
pub async fn what_is_in_a_removed_namespace_is_removed_with_it(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let (mut a, mut b) = (seat(&cluster, "A", "n.x").await?, seat(&cluster, "B", "n.x").await?);
    a.expect("BUCKET.CREATE c", "OK").await?;
    a.expect("BUCKET.REMOVE c", "OK").await?;
    let (mut open, mut writes) =
        (seat(&cluster, "B", "n.x").await?, seat(&cluster, "A", "n.x").await?);
    open.expect("BEGIN", "OK").await?;
    open.done("BUCKET.QUERY b {}").await?;
    writes.expect("BEGIN", "OK").await?;
    writes.done("BUCKET.INSERT b DOCS {}").await?;
    for _ in 0..3 {
        b.done("BUCKET.INSERT b DOCS {}").await?;
    }
    let cursor = b.done("BUCKET.QUERY b {} LIMIT 2").await?;
    cluster.expect("A", "NAMESPACE REMOVE n", "OK").await?;
    open.expect("BUCKET.QUERY b {}", REMOVED).await?;
    open.expect("BUCKET.INSERT b DOCS {}", REMOVED).await?;
    writes.expect("COMMIT", REMOVED).await?;
    let lethe::resp::Reply::Array(parts) = &cursor else { return Err(line(&cursor)) };
    b.expect(&format!("BUCKET.ADVANCE QUERY {}", line(&parts[0])), REMOVED).await?;
    for seat in [&mut a, &mut b] {
        for command in [
            "BUCKET.INSERT b DOCS {}",
            "BUCKET.QUERY b {}",
            "BUCKET.LIST",
            "BUCKET.CREATE d",
            "BUCKET.REMOVE b",
            "BUCKET.RESTORE c",
            "BUCKET.REMOVED",
            "NAMESPACE USE n.x",
            "NAMESPACE EXISTS n.x",
            "NAMESPACE CREATE n.y",
            "NAMESPACE REMOVE n.x",
            "NAMESPACE REMOVE n",
            "NAMESPACE LIST n",
            "NAMESPACE MOVE n.x y",
            "NAMESPACE PROTECT n.x ON",
        ] {
            seat.expect(command, REMOVED).await?;
        }
    }
    cluster.expect("B", "NAMESPACE RESTORE n", "OK").await?;
    a.expect_documents("BUCKET.QUERY b {}", 4).await?;
    a.expect("BUCKET.LIST", "[b]").await?;
    b.expect("BUCKET.INSERT c DOCS {}", "BUCKETBEINGREMOVED Bucket 'c' is being removed").await?;
    b.expect("BUCKET.RESTORE c", "OK").await?;
    cluster.finish().await
}

/// Scenario 18: with warm caches everywhere, and the old name used again.
pub async fn a_moved_namespace_is_reached_by_its_new_path_only(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let bucket = id(&cluster, "n.x", "b").await?;
    let mut old = seat(&cluster, "B", "n.x").await?;
    old.expect_documents("BUCKET.QUERY b {}", 1).await?;
    old.expect("BUCKET.CREATE gone", "OK").await?;
    old.expect("BUCKET.REMOVE gone", "OK").await?;
    cluster.expect("A", "NAMESPACE MOVE n far.away", "OK").await?;
    let missing = "NOSUCHNAMESPACE No such namespace: 'n.x'";
    for command in ["BUCKET.QUERY b {}", "BUCKET.INSERT b DOCS {}", "BUCKET.LIST"] {
        old.expect(command, missing).await?;
    }
    let mut new = seat(&cluster, "B", "far.away.x").await?;
    new.expect_documents("BUCKET.QUERY b {}", 1).await?;
    let gone = line(&new.done("BUCKET.REMOVED gone").await?);
    claim!(gone.contains("namespace: far.away.x"), "the removal is listed as {gone}");
    // The old name comes to mean another one.
    cluster.expect("A", "NAMESPACE CREATE n.x", "OK").await?;
    old.expect("BUCKET.QUERY b {}", "NOSUCHBUCKET No such bucket: 'b'").await?;
    old.expect("BUCKET.CREATE b", "OK").await?;
    old.done("BUCKET.INSERT b DOCS {}").await?;
    old.expect_documents("BUCKET.QUERY b {}", 1).await?;
    new.done("BUCKET.INSERT b DOCS {}").await?;
    new.expect_documents("BUCKET.QUERY b {}", 2).await?;
    claim!(id(&cluster, "far.away.x", "b").await? == bucket, "another instance moved");
    new.expect("BUCKET.RESTORE gone", "OK").await?;
    for (command, answer) in [
        ("NAMESPACE MOVE n far", "NAMESPACEALREADYEXISTS Namespace already exists: far"),
        ("NAMESPACE MOVE n n.y", "ERR Cannot move namespace 'n' below itself"),
        ("NAMESPACE MOVE nope a", "NOSUCHNAMESPACE No such namespace: 'nope'"),
        ("NAMESPACE MOVE global a", "ERR Cannot move the default namespace: 'global'"),
        (
            "NAMESPACE MOVE n a.__internal__",
            "ERR Namespace 'a.__internal__' is reserved for internal use",
        ),
        (
            "NAMESPACE MOVE far a.b.c.d.e.f.g.h.i",
            "ERR Namespace depth exceeds maximum allowed depth of 10",
        ),
    ] {
        cluster.expect("B", command, answer).await?;
    }
    cluster.expect("A", "NAMESPACE REMOVE n", "OK").await?;
    cluster.expect("B", "NAMESPACE MOVE far n.far", REMOVED).await?;
    // Deep enough, and what is removed counts, too.
    cluster.expect("B", "NAMESPACE MOVE far a.b.c.d.e.f.g.h", "OK").await?;
    let row = cluster.audit().await?.into_iter().rfind(|row| row.action == "move");
    let row = row.ok_or("no audit row")?;
    let moved = (row.namespace.as_str(), row.reason.as_deref());
    claim!(moved == ("far", Some("a.b.c.d.e.f.g.h")), "the audit row says {moved:?}");
    cluster.finish().await
}

/// Scenario 18: no ring comes of it.
pub async fn of_two_moves_into_each_other_one_fails(mutations: Mutations) -> Claim {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "NAMESPACE CREATE one", "OK").await?;
    cluster.expect("A", "NAMESPACE CREATE two", "OK").await?;
    let held = cluster.hold("A", "move-namespace");
    let moving = cluster.ask("A", "NAMESPACE MOVE one two.one");
    held.arrived().await;
    cluster.expect("B", "NAMESPACE MOVE two one.two", "OK").await?;
    let landed = held.release();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "both moved: {landed:?}");
    let answer = moving.line().await?;
    claim!(answer.starts_with("NOSUCHNAMESPACE "), "it moved into what is in it: {answer}");
    cluster.expect("A", "NAMESPACE EXISTS one.two", "1").await?;
    cluster.expect("A", "NAMESPACE EXISTS two", "0").await?;
    cluster.finish().await
}

/// A MOVE and a CREATE or a REMOVE around it: each ends as one after the other.
pub async fn what_a_move_rests_on_makes_it_look_again(mutations: Mutations) -> Claim {
    for (other, answer) in [
        ("NAMESPACE REMOVE into", "NAMESPACEBEINGREMOVED Namespace 'into' is being removed"),
        ("NAMESPACE REMOVE n", REMOVED),
        ("NAMESPACE CREATE into.n", "NAMESPACEALREADYEXISTS Namespace already exists: into.n"),
        ("NAMESPACE MOVE into elsewhere", "NOSUCHNAMESPACE No such namespace: 'into'"),
    ] {
        let cluster = world(mutations).await?;
        cluster.expect("A", "NAMESPACE CREATE into", "OK").await?;
        let held = cluster.hold("A", "move-namespace");
        let moving = cluster.ask("A", "NAMESPACE MOVE n into.n");
        held.arrived().await;
        cluster.expect("B", other, "OK").await?;
        let landed = held.release();
        claim!(matches!(landed, Some(Err(StoreError::Conflict))), "against {other}: {landed:?}");
        moving.expect(answer).await.map_err(|wrong| format!("{other}: {wrong}"))?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Rule 19: what is protected, or on hold, speaks for all above it, and goes along.
pub async fn what_is_guarded_guards_what_is_above_it(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut x = seat(&cluster, "A", "n.x").await?;
    let bucket = "PROTECTED Bucket 'b' is protected";
    x.expect("BUCKET.PROTECT b ON", "OK").await?;
    for namespace in ["n", "n.x"] {
        cluster.expect("B", &format!("NAMESPACE REMOVE {namespace}"), bucket).await?;
    }
    cluster.expect("B", "NAMESPACE MOVE n.x m.y.x", "OK").await?;
    cluster.expect("B", "NAMESPACE REMOVE m", bucket).await?;
    cluster.expect("B", "NAMESPACE REMOVE n", "OK").await?;
    cluster.expect("B", "NAMESPACE PROTECT m.y ON", "OK").await?;
    let mut x = seat(&cluster, "A", "m.y.x").await?;
    x.expect("BUCKET.PROTECT b OFF", "OK").await?;
    let y = "PROTECTED Namespace 'm.y' is protected";
    for namespace in ["m", "m.y"] {
        cluster.expect("B", &format!("NAMESPACE REMOVE {namespace}"), y).await?;
    }
    cluster.expect("B", "NAMESPACE REMOVE m.y.x", "OK").await?;
    cluster.expect("B", "NAMESPACE RESTORE m.y.x", "OK").await?;
    cluster.expect("B", "NAMESPACE PROTECT m.y OFF", "OK").await?;
    // Of a PROTECT and a REMOVE above it at the same time one wins, either way round.
    let held = cluster.hold("A", "remove");
    let remove = cluster.ask("A", "NAMESPACE REMOVE m");
    held.arrived().await;
    let mut other = seat(&cluster, "B", "m.y.x").await?;
    other.expect("BUCKET.PROTECT b ON", "OK").await?;
    let landed = held.release();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "both won: {landed:?}");
    remove.expect(bucket).await?;
    other.expect("BUCKET.PROTECT b OFF", "OK").await?;
    let held = cluster.hold("B", "protect-namespace");
    let protect = cluster.ask("B", "NAMESPACE PROTECT m.y.x ON");
    held.arrived().await;
    cluster.expect("A", "NAMESPACE REMOVE m", "OK").await?;
    let landed = held.release();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "both won: {landed:?}");
    protect.expect("NAMESPACEBEINGREMOVED Namespace 'm' is being removed").await?;
    cluster.finish().await
}

/// What was removed on its own before waits with its expiry, and has a grace afterwards.
pub async fn the_expiry_of_a_child_waits_for_what_is_above_it(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let bucket = id(&cluster, "n.x", "b").await?;
    let mut x = seat(&cluster, "A", "n.x").await?;
    let removed = x.done("BUCKET.REMOVE b RETAIN 30s INFO").await?;
    let removal = line(field(&removed, "removal_id")?);
    cluster.expect("A", "NAMESPACE REMOVE n", "OK").await?;
    sleep(LONG).await;
    claim!(cluster.documents(bucket).await? == 1, "purged while what is above it was removed");
    let parked = cluster.rows(&keys::kind_prefix(keys::kind::PARKED)).await?;
    claim!(!parked.is_empty(), "what waits is still in the queue");
    cluster.expect("B", "NAMESPACE RESTORE n", "OK").await?;
    sleep(LONG).await;
    claim!(cluster.documents(bucket).await? == 1, "purged within the grace");
    let parked = cluster.rows(&keys::kind_prefix(keys::kind::PARKED)).await?;
    claim!(parked.is_empty(), "nobody put back what waited");
    let mut x = seat(&cluster, "B", "n.x").await?;
    let listed = line(&x.done("BUCKET.REMOVED b").await?);
    claim!(listed.contains("restorable: true"), "it is listed as {listed}");
    // Whoever says when it expires means it.
    x.expect("BUCKET.RETAIN b 5s", "OK").await?;
    let gone = async || Ok(cluster.raw_scan(bucket).await? == 0);
    cluster.eventually("it is purged", LONG, gone).await?;
    let purge = format!("BUCKET.PURGE {removal}");
    x.expect(&purge, "OK").await?;
    cluster.finish().await
}

/// Deleted documents do not expire meanwhile, also where both the bucket and what is
/// above it were removed for a time, and the bucket came out of it.
pub async fn the_clocks_of_what_is_removed_stand_still(mutations: Mutations) -> Claim {
    let cluster = Cluster::with(&["A", "B"], mutations, |config| {
        config.tombstone_retention =
            lethe::codec::duration::Retention::For(Duration::from_secs(120));
    })
    .await?;
    cluster.expect("A", "NAMESPACE CREATE n.x", "OK").await?;
    cluster.expect("A", "NAMESPACE CREATE z", "OK").await?;
    let mut x = seat(&cluster, "A", "n.x").await?;
    for bucket in ["b", "c"] {
        x.expect(&format!("BUCKET.CREATE {bucket}"), "OK").await?;
        x.done(&format!("BUCKET.INSERT {bucket} DOCS {{}}")).await?;
        x.done(&format!("BUCKET.DELETE {bucket} {{}}")).await?;
    }
    let (b, c) = (id(&cluster, "n.x", "b").await?, id(&cluster, "n.x", "c").await?);
    let tombstones = async |bucket| {
        Ok::<_, String>(cluster.rows(&keys::data_part(bucket, keys::data::TOMBSTONE)).await?.len())
    };
    sleep(Duration::from_secs(20)).await;
    x.expect("BUCKET.REMOVE b", "OK").await?;
    sleep(Duration::from_secs(200)).await;
    cluster.expect("A", "NAMESPACE REMOVE n", "OK").await?;
    sleep(Duration::from_secs(200)).await;
    cluster.expect("A", "NAMESPACE RESTORE n AS m.n", "OK").await?;
    let mut x = seat(&cluster, "A", "m.n.x").await?;
    x.expect("BUCKET.RESTORE b", "OK").await?;
    cluster.expect("A", "NAMESPACE MOVE m k", "OK").await?;
    cluster.expect("A", "NAMESPACE REMOVE k.n", "OK").await?;
    sleep(Duration::from_secs(200)).await;
    cluster.expect("B", &format!("BUCKET.RESTORE {b} INTO z"), "OK").await?;
    // Twenty seconds of its own had passed.
    sleep(Duration::from_secs(80)).await;
    claim!(tombstones(b).await? == 1, "its clock has gone on");
    let gone = async || Ok(tombstones(b).await? == 0);
    cluster.eventually("they expire", Duration::from_secs(100), gone).await?;
    claim!(tombstones(c).await? == 0, "that of an active bucket stood still");
    cluster.finish().await
}

/// One bucket comes out of a removed namespace by its id, removed before or with it.
pub async fn one_bucket_comes_out_of_a_removed_namespace(mutations: Mutations) -> Claim {
    for before in [true, false] {
        let cluster = world(mutations).await?;
        let bucket = id(&cluster, "n.x", "b").await?;
        cluster.expect("A", "NAMESPACE CREATE z", "OK").await?;
        let mut x = seat(&cluster, "B", "n.x").await?;
        if before {
            x.expect("BUCKET.REMOVE b", "OK").await?;
        }
        let info = cluster.run("A", "NAMESPACE REMOVE n INFO").await?;
        let namespace = line(field(&info, "id")?);
        let inside = line(&cluster.run("B", &format!("BUCKET.DESCRIBE {bucket}")).await?);
        claim!(inside.contains("state: removed"), "it is described as {inside}");
        let listed = line(&cluster.run("B", &format!("NAMESPACE REMOVED {namespace}")).await?);
        claim!(listed == "[]", "a child is listed as removed itself: {listed}");
        let restore = format!("BUCKET.RESTORE {bucket}");
        cluster.expect("B", &restore, REMOVED).await?;
        cluster.expect("B", &format!("{restore} INTO n.x"), REMOVED).await?;
        cluster.expect("B", &format!("{restore} INTO z AS c"), "OK").await?;
        let mut z = seat(&cluster, "A", "z").await?;
        z.expect_documents("BUCKET.QUERY c {}", 1).await?;
        z.done("BUCKET.INSERT c DOCS {}").await?;
        let again = "ERR Bucket 'c' is not removed";
        cluster.expect("B", &format!("{restore} INTO z AS d"), again).await?;
        cluster.expect("B", "NAMESPACE PURGE n", "OK").await?;
        z.expect_documents("BUCKET.QUERY c {}", 2).await?;
        claim!(id(&cluster, "z", "c").await? == bucket, "another instance came back");
        cluster.finish().await?;
    }
    Ok(())
}

/// What is due at once is due by every clock: a namespace is restored though the clocks say that it has
/// expired, work that waited for it goes on, and a TTL begins, also when the clocks are right again.
pub async fn what_is_asked_for_under_wrong_clocks_is_not_put_off(mutations: Mutations) -> Claim {
    const YEAR: i64 = 365 * 24 * 3_600_000;
    let cluster = world(mutations).await?;
    let bucket = id(&cluster, "n.x", "b").await?;
    let mut x = seat(&cluster, "A", "n.x").await?;
    x.done("BUCKET.DELETE b {} RETAIN 5s").await?;
    cluster.expect("A", "NAMESPACE REMOVE n", "OK").await?;
    sleep(LONG).await;
    let parked = keys::kind_prefix(keys::kind::PARKED);
    claim!(!cluster.rows(&parked).await?.is_empty(), "nothing has come due");
    for node in ["A", "B"] {
        cluster.clock(node).jump(YEAR);
    }
    sleep(LONG).await;
    cluster.expect("B", "NAMESPACE RESTORE n", "OK").await?;
    let mut x = seat(&cluster, "B", "n.x").await?;
    x.expect("BUCKET.TTL b at 1d", "OK").await?;
    for node in ["A", "B"] {
        cluster.clock(node).jump(-YEAR);
    }
    let back = async || Ok(cluster.rows(&parked).await?.is_empty());
    cluster.eventually("what waited is put back", LONG, back).await?;
    let looked = async || {
        let row = cluster.get(&keys::ttl(bucket)).await?.ok_or("no TTL")?;
        let progress: TtlProgressRecord = record::decode("ttl", &row).map_err(fail)?;
        Ok(progress.last_at.is_some())
    };
    cluster.eventually("the first pass of the TTL", LONG, looked).await?;
    cluster.finish().await
}
