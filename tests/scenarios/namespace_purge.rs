//! The purge of namespaces: scenario 20, races, crashes, and what cannot be reached.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::cluster::work::Scope;
use lethe::codec::{BucketId, NamespaceId, RemovalId, keys};
use lethe::store::Error as StoreError;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, GRACE, claim, field, line};
use crate::namespaces::{id, seat, world};

const SOON: Duration = Duration::from_secs(5);

/// Removes a namespace and tells its id and which removal that was.
async fn remove(cluster: &Cluster, node: &str, path: &str) -> Claim<(NamespaceId, RemovalId)> {
    let reply = cluster.run(node, &format!("NAMESPACE REMOVE {path} INFO")).await?;
    let text = |name| field(&reply, name).map(line);
    let id = NamespaceId::parse(&text("id")?).ok_or("no namespace id")?;
    Ok((id, RemovalId::parse(&text("removal_id")?).ok_or("no removal id")?))
}

/// Waits until nothing is left of what a purge took.
async fn taken_apart(cluster: &Cluster, removal: RemovalId) -> Claim {
    let (grave, job) = (keys::grave(removal), keys::reclaim(removal));
    let done =
        async || Ok(cluster.get(&grave).await?.is_some() && cluster.get(&job).await?.is_none());
    cluster.eventually("nothing is left", Duration::from_secs(60), done).await?;
    Ok(())
}

/// No record of a bucket or a namespace is left but those of `global`.
async fn nothing_else_is_left(cluster: &Cluster) -> Claim {
    for kind in [keys::kind::BUCKET_RECORD, keys::kind::BUCKET_NAME, keys::kind::DATA] {
        let rows = cluster.rows(&keys::kind_prefix(kind)).await?.len();
        claim!(rows == 0, "{rows} rows of kind {kind} are left");
    }
    let namespaces = cluster.rows(&keys::kind_prefix(keys::kind::NAMESPACE_RECORD)).await?.len();
    claim!(namespaces == 1, "{namespaces} namespaces are left");
    Ok(())
}

/// Scenario 20 a, b, c: work on a bucket is busy for whatever above it is purged.
pub async fn work_below_a_namespace_is_waited_for(mutations: Mutations) -> Claim {
    for course in ["a", "b", "c"] {
        let cluster = world(mutations).await?;
        let bucket = id(&cluster, "n.x", "b").await?;
        let work = cluster.work("B", bucket, Scope::Member, "scan")?;
        let mut purges = vec!["NAMESPACE PURGE n TIMEOUT 3000".to_owned()];
        match course {
            "b" => {
                cluster.expect("A", "NAMESPACE CREATE m", "OK").await?;
                cluster.expect("A", "NAMESPACE MOVE n.x m.x", "OK").await?;
                cluster.expect("A", "NAMESPACE REMOVE m", "OK").await?;
                purges = vec!["NAMESPACE PURGE m TIMEOUT 3000".to_owned()];
            }
            "c" => {
                let mut x = seat(&cluster, "A", "n.x").await?;
                let removed = x.done("BUCKET.REMOVE b INFO").await?;
                let removal = line(field(&removed, "removal_id")?);
                cluster.expect("A", "NAMESPACE REMOVE n", "OK").await?;
                purges.push(format!("BUCKET.PURGE {removal} TIMEOUT 3000"));
            }
            _ => cluster.expect("A", "NAMESPACE REMOVE n", "OK").await?,
        }
        sleep(GRACE * 2).await;
        for purge in &purges {
            let answer = cluster.expect_start("A", purge, "BARRIERNOTSATISFIED ").await?;
            claim!(answer.contains("busy with scan"), "{course}: PURGE answered '{answer}'");
        }
        if course == "b" {
            // Nothing is left in n that anybody works on.
            cluster.expect("A", "NAMESPACE REMOVE n", "OK").await?;
            cluster.expect("A", "NAMESPACE PURGE n", "OK").await?;
        }
        drop(work);
        let gone = async || Ok(cluster.raw_scan(bucket).await? == 0);
        cluster.eventually("the request is finished", SOON, gone).await?;
        sleep(SOON).await;
        nothing_else_is_left(&cluster).await.map_err(|left| format!("{course}: {left}"))?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Scenario 20 d and e: the bucket is wholly out, or wholly purged.
pub async fn a_bucket_that_comes_out_at_the_flip_is_out_or_gone(mutations: Mutations) -> Claim {
    for (held_label, purged) in [("restore", true), ("flip", false)] {
        let cluster = world(mutations).await?;
        let bucket = id(&cluster, "n.x", "b").await?;
        cluster.expect("A", "NAMESPACE CREATE z", "OK").await?;
        let (_, removal) = remove(&cluster, "A", "n").await?;
        sleep(Duration::from_millis(200)).await;
        let (restore, purge) =
            (format!("BUCKET.RESTORE {bucket} INTO z"), "NAMESPACE PURGE n".to_owned());
        let (first, second) = if purged { (&restore, &purge) } else { (&purge, &restore) };
        let held = cluster.hold("A", held_label);
        let one = cluster.ask("A", first);
        held.arrived().await;
        cluster.expect("B", second, "OK").await?;
        let landed = held.release();
        if purged {
            claim!(matches!(landed, Some(Err(StoreError::Conflict))), "both won: {landed:?}");
            one.expect(&format!("NOSUCHBUCKET No such bucket: '{bucket}'")).await?;
        } else {
            one.expect("OK").await?;
        }
        taken_apart(&cluster, removal).await?;
        let left = cluster.documents(bucket).await?;
        claim!(left == usize::from(!purged), "{left} documents are left");
        if !purged {
            seat(&cluster, "B", "z").await?.expect_documents("BUCKET.QUERY b {}", 1).await?;
        }
        cluster.finish().await?;
    }
    // The place it is to go to is purged.
    let cluster = world(mutations).await?;
    let bucket = id(&cluster, "n.x", "b").await?;
    cluster.expect("A", "NAMESPACE CREATE z", "OK").await?;
    remove(&cluster, "A", "n").await?;
    let held = cluster.hold("A", "restore");
    let restore = cluster.ask("A", &format!("BUCKET.RESTORE {bucket} INTO z"));
    held.arrived().await;
    remove(&cluster, "B", "z").await?;
    cluster.expect("B", "NAMESPACE PURGE z", "OK").await?;
    let landed = held.release();
    claim!(matches!(landed, Some(Err(StoreError::Conflict))), "into what is gone: {landed:?}");
    restore.expect("NOSUCHNAMESPACE No such namespace: 'z'").await?;
    claim!(cluster.documents(bucket).await? == 1, "the bucket is lost");
    cluster.finish().await
}

/// Scenario 20 f: a hold on something in it, and the flip.
pub async fn a_hold_below_a_namespace_before_its_flip_wins(mutations: Mutations) -> Claim {
    for hold_first in [true, false] {
        let cluster = world(mutations).await?;
        let mut x = seat(&cluster, "A", "n.x").await?;
        let removed = x.done("BUCKET.REMOVE b INFO").await?;
        let b = line(field(&removed, "removal_id")?);
        let (_, removal) = remove(&cluster, "A", "n").await?;
        sleep(Duration::from_millis(200)).await;
        let (purge, hold) = ("NAMESPACE PURGE n", format!("BUCKET.HOLD {b} REASON audit"));
        let held = "HELD Bucket 'b' is on hold by default: audit";
        if hold_first {
            let flip = cluster.hold("A", "flip");
            let purging = cluster.ask("A", purge);
            flip.arrived().await;
            cluster.expect("B", &hold, "OK").await?;
            let landed = flip.release();
            claim!(matches!(landed, Some(Err(StoreError::Conflict))), "both won: {landed:?}");
            purging.expect(held).await?;
            cluster.expect("B", purge, held).await?;
            cluster.expect("B", &format!("BUCKET.UNHOLD {b}"), "OK").await?;
            cluster.expect("B", purge, "OK").await?;
        } else {
            let commit = cluster.hold("B", "hold");
            let holding = cluster.ask("B", &hold);
            commit.arrived().await;
            let apart = cluster.hold_any("dismantle");
            cluster.expect("A", purge, "OK").await?;
            apart.arrived().await;
            let landed = commit.release();
            claim!(matches!(landed, Some(Err(StoreError::Conflict))), "both won: {landed:?}");
            let gone = format!("ALREADYPURGING Removal '{b}' is already purging or purged");
            holding.expect(&gone).await?;
            // Nobody has come to it yet; then it is gone. It is the same to whoever asks.
            let row = keys::removal(RemovalId::parse(&b).ok_or("no removal")?);
            claim!(cluster.get(&row).await?.is_some(), "it was taken apart before it was let");
            cluster.expect("B", &hold, &gone).await?;
            drop(apart);
            taken_apart(&cluster, removal).await?;
            claim!(cluster.get(&row).await?.is_none(), "it was not taken apart");
            cluster.expect("B", &hold, &gone).await?;
        }
        taken_apart(&cluster, removal).await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Of a RESTORE and a PURGE of one namespace one wins, also where a result is unknown.
pub async fn of_a_restore_and_a_purge_of_a_namespace_one_wins(mutations: Mutations) -> Claim {
    for (label, first, second, refused) in [
        ("flip", "NAMESPACE PURGE n", "NAMESPACE RESTORE n", "ERR Namespace 'n' is not removed"),
        (
            "restore",
            "NAMESPACE RESTORE n",
            "NAMESPACE PURGE n",
            "NOSUCHNAMESPACE No such namespace: 'n'",
        ),
    ] {
        for late in [false, true] {
            let cluster = world(mutations).await?;
            let bucket = id(&cluster, "n.x", "b").await?;
            let (_, removal) = remove(&cluster, "A", "n").await?;
            sleep(Duration::from_millis(200)).await;
            let lost = late.then(|| cluster.lose("A", label));
            let held = cluster.hold("A", label);
            let one = cluster.ask("A", first);
            held.arrived().await;
            cluster.expect("B", second, "OK").await?;
            if let Some(lost) = lost {
                let landed = lost.land();
                claim!(matches!(landed, Some(Err(StoreError::Conflict))), "both won: {landed:?}");
            }
            let landed = held.release();
            claim!(matches!(landed, Some(Err(StoreError::Conflict))), "both won: {landed:?}");
            let answer = one.line().await?;
            claim!(answer == refused, "{first} answered '{answer}'");
            if label == "flip" {
                claim!(cluster.documents(bucket).await? == 1, "the document is gone");
                cluster.expect("B", "NAMESPACE EXISTS n.x", "1").await?;
            } else {
                taken_apart(&cluster, removal).await?;
                nothing_else_is_left(&cluster).await?;
            }
            cluster.finish().await?;
        }
    }
    Ok(())
}

/// A commit that landed though its result was unknown is not made twice.
pub async fn commands_on_namespaces_with_unknown_results_happen_once(
    mutations: Mutations,
) -> Claim {
    for (label, command) in [
        ("remove", "NAMESPACE REMOVE n"),
        ("move-namespace", "NAMESPACE MOVE n m.n"),
        ("protect-namespace", "NAMESPACE PROTECT n ON"),
        ("create-namespace", "NAMESPACE CREATE k"),
    ] {
        let cluster = world(mutations).await?;
        let lost = cluster.lose("B", label);
        let asked = cluster.ask("B", command);
        lost.arrived().await;
        claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
        asked.expect("OK").await.map_err(|wrong| format!("{command}: {wrong}"))?;
        cluster.finish().await?;
    }
    let cluster = world(mutations).await?;
    remove(&cluster, "A", "n").await?;
    let lost = cluster.lose("B", "restore");
    let asked = cluster.ask("B", "NAMESPACE RESTORE n AS m.n");
    lost.arrived().await;
    claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
    asked.expect("OK").await?;
    let (_, removal) = remove(&cluster, "A", "m").await?;
    sleep(Duration::from_millis(200)).await;
    let lost = cluster.lose("B", "flip");
    let asked = cluster.ask("B", "NAMESPACE PURGE m");
    lost.arrived().await;
    claim!(lost.land().is_some_and(|landed| landed.is_ok()), "nothing was in its way");
    asked.expect("OK").await?;
    taken_apart(&cluster, removal).await?;
    cluster.finish().await
}

/// Everything that can be in a namespace, and a node that dies while it is taken apart:
/// nothing of it can be reached meanwhile, and nothing is left.
pub async fn a_purged_namespace_goes_whole_also_over_the_death_of_its_node(
    mutations: Mutations,
) -> Claim {
    for label in ["dismantle", "flip"] {
        let mut cluster = world(mutations).await?;
        let mut x = seat(&cluster, "A", "n.x").await?;
        let mut buckets: Vec<BucketId> = Vec::new();
        for number in 0..150 {
            x.expect(&format!("BUCKET.CREATE b{number}"), "OK").await?;
            if number % 10 == 0 {
                x.done(&format!("BUCKET.INSERT b{number} DOCS {{}}")).await?;
                x.done(&format!("BUCKET.DELETE b{number} {{}}")).await?;
                buckets.push(id(&cluster, "n.x", &format!("b{number}")).await?);
            }
        }
        let schema = "BUCKET.INDEX CREATE b0 {\"a\":{\"bson_type\":\"int32\"}}";
        x.done(schema).await?;
        let removed = x.done("BUCKET.REMOVE b140 RETAIN 5s RESERVE-NAME INFO").await?;
        let own = RemovalId::parse(&line(field(&removed, "removal_id")?)).ok_or("no removal")?;
        for path in ["n.p.q.r", "n.s"] {
            cluster.expect("A", &format!("NAMESPACE CREATE {path}"), "OK").await?;
        }
        let (child, child_removal) = remove(&cluster, "A", "n.p").await?;
        let (_, removal) = remove(&cluster, "A", "n").await?;
        // What was removed before expires, and waits.
        sleep(Duration::from_secs(10)).await;
        // Whoever does it dies in the middle.
        let held = cluster.hold_any(label);
        let purge = cluster.ask("B", "NAMESPACE PURGE n");
        held.arrived().await;
        if label == "flip" {
            drop(purge);
            cluster.kill("B").await;
            drop(held);
            // It may have landed, or not.
            let answer = line(&cluster.run("A", "NAMESPACE PURGE n").await?);
            let gone = "NOSUCHNAMESPACE No such namespace: 'n'";
            claim!(answer == "OK" || answer == gone, "PURGE answered '{answer}'");
        } else {
            purge.expect("OK").await?;
            let into = "INTO global";
            for (command, answer) in [
                (format!("BUCKET.RESTORE {} {into}", buckets[1]), "NOSUCHBUCKET "),
                (format!("BUCKET.RESTORE {own} {into}"), "ALREADYPURGING "),
                (format!("BUCKET.PURGE {own}"), "OK"),
                (format!("BUCKET.HOLD {own} REASON x"), "ALREADYPURGING "),
                (format!("BUCKET.DESCRIBE {}", buckets[1]), "NOSUCHBUCKET "),
                (format!("NAMESPACE RESTORE {child_removal} AS k"), "ALREADYPURGING "),
                (format!("NAMESPACE RESTORE {child} AS k"), "ALREADYPURGING "),
                (format!("BUCKET.LIST NAMESPACE {child}"), "NOSUCHNAMESPACE "),
                ("NAMESPACE EXISTS n.s".to_owned(), "0"),
            ] {
                cluster.expect_start("B", &command, answer).await?;
            }
            // The check understands what is under way.
            let found = lethe::check::all(cluster.store()).await.map_err(crate::cluster::fail)?;
            claim!(found.is_empty(), "the check finds {found:?}");
            for node in ["A", "B"] {
                cluster.restart(node).await?;
            }
            drop(held);
        }
        taken_apart(&cluster, removal).await?;
        nothing_else_is_left(&cluster).await?;
        for bucket in buckets {
            claim!(cluster.raw_scan(bucket).await? == 0, "keys of {bucket} are left");
        }
        for removal in [own, child_removal] {
            claim!(cluster.get(&keys::grave(removal)).await?.is_some(), "{removal} has no grave");
        }
        cluster.expect("A", "NAMESPACE CREATE n.x", "OK").await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// A copy that is taken before its source is no reader of that any more, in the same transaction.
pub async fn a_copy_goes_with_its_source(mutations: Mutations) -> Claim {
    for copy in ["a", "z"] {
        let cluster = world(mutations).await?;
        let mut x = seat(&cluster, "A", "n.x").await?;
        x.expect(&format!("BUCKET.COPY b {copy}"), "OK").await?;
        let (_, removal) = remove(&cluster, "A", "n").await?;
        cluster.expect("B", "NAMESPACE PURGE n TIMEOUT 5000", "OK").await?;
        taken_apart(&cluster, removal).await?;
        nothing_else_is_left(&cluster).await?;
        cluster.finish().await?;
    }
    Ok(())
}
