//! Readers of the change log: what wakes them, that each meets every change
//! once, and that nothing goes which one of them has not passed.

use std::collections::BTreeSet;
use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::codec::duration::Retention;
use lethe::codec::{BucketId, Sequence, keys};
use lethe::config::Config;
use lethe::resp::Reply;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::cluster::{AT_ONCE, Asked, Claim, Cluster, claim, fail, field, line};

/// Longer than anything here takes that is due.
const PATIENCE: Duration = Duration::from_secs(200);

/// Two nodes and a bucket on two shards.
async fn world(mutations: Mutations, settings: impl Fn(&mut Config)) -> Claim<(Cluster, BucketId)> {
    let cluster = Cluster::with(&["A", "B"], mutations, settings).await?;
    cluster.expect("A", "BUCKET.CREATE b SHARDS 1 2", "OK").await?;
    let bucket = cluster.id("A", "b").await?;
    Ok((cluster, bucket))
}

/// Deleted documents are kept for so long.
fn keep(seconds: u64) -> impl Fn(&mut Config) {
    move |config| config.tombstone_retention = Retention::For(Duration::from_secs(seconds))
}

/// A change as a reader gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    sequence: Sequence,
    op: String,
    id: String,
}

/// Where to go on, and what was read.
fn page(reply: &Reply) -> Claim<(String, Vec<Change>)> {
    let next = line(field(reply, "sequence")?);
    let Reply::Array(changes) = field(reply, "changes")? else { return Err(line(reply)) };
    let change = |change: &Reply| {
        Ok::<_, String>(Change {
            sequence: line(field(change, "sequence")?).parse().map_err(fail)?,
            op: line(field(change, "op")?),
            id: line(field(change, "_id")?),
        })
    };
    Ok((next, changes.iter().map(change).collect::<Claim<_>>()?))
}

async fn read(cluster: &Cluster, node: &str, how: &str) -> Claim<(String, Vec<Change>)> {
    page(&cluster.run(node, &format!("BUCKET.CHANGES b {how}")).await?)
}

async fn tombstones(cluster: &Cluster, bucket: BucketId) -> Claim<usize> {
    Ok(cluster.rows(&keys::data_part(bucket, keys::data::TOMBSTONE)).await?.len())
}

/// The only replica.
async fn replica(cluster: &Cluster, name: &str) -> Claim<String> {
    let reply = cluster.run("A", "BUCKET.REPLICA LIST b").await?;
    let Reply::Array(rows) = &reply else { return Err(line(&reply)) };
    claim!(rows.len() == 1, "{}", line(&reply));
    Ok(line(field(&rows[0], name)?))
}

pub async fn who_waits_wakes_on_a_commit_of_any_node_and_on_a_removal(
    mutations: Mutations,
) -> Claim {
    let (cluster, _) = world(mutations, |_| {}).await?;
    cluster.expect_start("A", "BUCKET.INSERT b DOCS {\"n\":1}", "[").await?;
    let (mut from, _) = read(&cluster, "A", "FROM $").await?;
    // A change of no size, too: no counter tells of it.
    for (write, op) in [
        ("BUCKET.INSERT b DOCS {\"n\":2}", "insert"),
        ("BUCKET.UPDATE b {\"n\":2} {\"$set\":{\"n\":3}}", "update"),
        ("BUCKET.DELETE b {\"n\":3}", "delete"),
    ] {
        let wait = format!("BUCKET.CHANGES b FROM {from} BLOCK 0");
        let waiting: Vec<Asked> = (0..20).map(|_| cluster.ask("A", &wait)).collect();
        sleep(Duration::from_secs(90)).await;
        claim!(waiting.iter().all(|asked| !asked.is_answered()), "there was nothing to tell");
        let rooms = cluster.node("A").services().waiters().map_err(fail)?.rooms();
        claim!(rooms == 1, "{rooms} rooms for one bucket");
        cluster.expect_start("B", write, "[").await?;
        let written = Instant::now();
        for asked in waiting {
            let (next, changes) = page(&asked.answer().await?)?;
            claim!(changes.len() == 1 && changes[0].op == op, "{op}: {changes:?}");
            from = next;
        }
        claim!(written.elapsed() < AT_ONCE, "{op}: {:?}", written.elapsed());
    }
    let quick = Instant::now();
    let (next, changes) = read(&cluster, "A", &format!("FROM {from} BLOCK 700")).await?;
    claim!(changes.is_empty() && next >= from, "{changes:?}");
    let waited = quick.elapsed();
    claim!(waited >= Duration::from_millis(700) && waited < Duration::from_secs(1), "{waited:?}");
    let rooms = cluster.node("A").services().waiters().map_err(fail)?.rooms();
    claim!(rooms == 0, "nobody waits any more");

    let waiting = cluster.ask("A", &format!("BUCKET.CHANGES b FROM {from} BLOCK 0"));
    sleep(Duration::from_secs(1)).await;
    let removed = cluster.remove("B", "b").await?;
    let gone = Instant::now();
    waiting.expect("BUCKETBEINGREMOVED Bucket 'b' is being removed").await?;
    claim!(gone.elapsed() < AT_ONCE, "{:?}", gone.elapsed());
    // The same instance goes on with the same positions.
    cluster.expect("A", &format!("BUCKET.RESTORE {}", removed.removal), "OK").await?;
    cluster.expect_start("B", "BUCKET.INSERT b DOCS {\"n\":4}", "[").await?;
    let (_, changes) = read(&cluster, "A", &format!("FROM {from}")).await?;
    claim!(changes.len() == 1, "{changes:?}");
    cluster.finish().await
}

/// A reader on A, writers on all nodes, of which one dies and one loses commits.
pub async fn a_reader_meets_each_change_once_in_the_order_of_commits(
    mutations: Mutations,
) -> Claim {
    let mut cluster = Cluster::with(&["A", "B", "C"], mutations, |_| {}).await?;
    cluster.expect("A", "BUCKET.CREATE b SHARDS 0 1 2 3", "OK").await?;
    let bucket = cluster.id("A", "b").await?;
    let mut random = StdRng::seed_from_u64(3);
    let (mut from, mut met) = ("0".to_owned(), Vec::new());
    for round in 0..40 {
        let lost = (round % 7 == 0).then(|| cluster.lose("B", "insert"));
        let mut writes = Vec::new();
        for node in ["A", "B", "C"] {
            if node == "C" && round >= 20 {
                continue;
            }
            let documents = "{\"n\":1} ".repeat(random.random_range(1..5));
            writes.push(cluster.ask(node, &format!("BUCKET.INSERT b DOCS {documents}")));
        }
        if round == 20 {
            cluster.kill("C").await;
        }
        let count = random.random_range(1..12);
        let how = format!("FROM {from} COUNT {count} BLOCK 50");
        let (next, changes) = read(&cluster, "A", &how).await?;
        claim!(changes.len() <= count, "{} changes instead of {count}", changes.len());
        met.extend(changes);
        from = next;
        if let Some(lost) = lost {
            sleep(Duration::from_millis(20)).await;
            drop(lost.land());
        }
        for write in writes {
            drop(write.answer().await);
        }
    }
    loop {
        let (next, changes) = read(&cluster, "A", &format!("FROM {from}")).await?;
        from = next;
        if changes.is_empty() {
            break;
        }
        met.extend(changes);
    }
    let rows = cluster.rows(&keys::data_part(bucket, keys::data::CHANGE)).await?;
    let mut written = BTreeSet::new();
    for (key, _) in &rows {
        let (_, _, version, order) = keys::parse_change(key).map_err(fail)?;
        written.insert(Sequence::new(version, order));
    }
    let sequences: Vec<Sequence> = met.iter().map(|change| change.sequence).collect();
    claim!(sequences.is_sorted_by(|a, b| a < b), "out of order, or twice");
    claim!(sequences.len() == written.len(), "{} of {}", sequences.len(), written.len());
    claim!(written.len() > 100, "only {} changes", written.len());
    claim!(sequences.iter().all(|sequence| written.contains(sequence)), "never written");
    cluster.finish().await
}

/// Plays changes on a model, in which each of them must be possible.
fn play(model: &mut BTreeSet<String>, changes: Vec<Change>) -> Claim {
    for Change { op, id, sequence } in changes {
        let possible = match op.as_str() {
            "insert" | "undelete" => model.insert(id),
            "update" => model.contains(&id),
            "delete" => model.remove(&id),
            // What is purged was deleted before; it may have been inserted again since.
            "purge" => true,
            _ => false,
        };
        claim!(possible, "{op} at {sequence} cannot be");
    }
    Ok(())
}

/// What the log says, played on a model, is what the bucket holds.
pub async fn the_changes_of_a_bucket_make_the_bucket(mutations: Mutations) -> Claim {
    let mut purges = 0;
    for seed in 0..6 {
        let (cluster, bucket) = world(mutations, keep(2)).await?;
        cluster.expect("A", "BUCKET.REPLICA REGISTER b r FROM 0", "OK").await?;
        let mut random = StdRng::seed_from_u64(seed);
        let (mut from, mut model) = ("0".to_owned(), BTreeSet::new());
        for step in 0..150 {
            let number = random.random_range(0..12);
            let id = format!("6835a1c0e4b0f72a000000{number:02x}");
            let node = if random.random() { "A" } else { "B" };
            let command = match random.random_range(0..6) {
                0..=2 => format!("BUCKET.INSERT b DOCS {{\"_id\":\"{id}\",\"n\":0}}"),
                3 => format!("BUCKET.UPDATE b {{\"_id\":\"{id}\"}} {{\"$inc\":{{\"n\":1}}}}"),
                4 => format!("BUCKET.DELETE b {{\"_id\":\"{id}\"}}"),
                _ => "BUCKET.DELETE b {} LIMIT 3 RETAIN 0s".to_owned(),
            };
            drop(cluster.run(node, &command).await?);
            if random.random_range(0..10) == 0 {
                let (next, changes) = read(&cluster, "B", &format!("FROM {from} COUNT 40")).await?;
                purges += changes.iter().filter(|change| change.op == "purge").count();
                play(&mut model, changes)?;
                cluster.expect("A", &format!("BUCKET.REPLICA ACK b r {next}"), "OK").await?;
                from = next;
            }
            if step % 30 == 29 {
                // Of what was deleted some is purged meanwhile.
                sleep(Duration::from_secs(5)).await;
            }
        }
        loop {
            let (next, changes) = read(&cluster, "B", &format!("FROM {from} COUNT 9")).await?;
            from = next;
            if changes.is_empty() {
                break;
            }
            purges += changes.iter().filter(|change| change.op == "purge").count();
            play(&mut model, changes)?;
        }
        let mut held = BTreeSet::new();
        for (key, _) in cluster.rows(&keys::data_part(bucket, keys::data::DOCUMENT)).await? {
            let (_, oid) = keys::parse_document(&key).map_err(fail)?;
            held.insert(lethe::codec::readable::hex(&oid));
        }
        claim!(model == held, "seed {seed}: {model:?} instead of {held:?}");
        cluster.finish().await?;
    }
    claim!(purges > 10, "only {purges} purges in all");
    Ok(())
}

/// Test 8 of the complaints: a replica that registers at the same moment as tombstones go.
pub async fn a_registration_and_a_purge_at_once_are_decided_one_way(mutations: Mutations) -> Claim {
    for registers_first in [true, false] {
        let (cluster, bucket) = world(mutations, keep(3)).await?;
        cluster.expect_start("A", "BUCKET.INSERT b DOCS {\"n\":1}", "[").await?;
        let (before, _) = read(&cluster, "A", "FROM $").await?;
        let register = format!("BUCKET.REPLICA REGISTER b r FROM {before}");
        let purge = cluster.hold_any("vacuum");
        cluster.expect_start("A", "BUCKET.DELETE b {}", "[").await?;
        purge.arrived().await;
        if registers_first {
            cluster.expect("B", &register, "OK").await?;
            let landed = purge.release();
            claim!(landed.is_some_and(|landed| landed.is_err()), "it purged what is needed");
            sleep(Duration::from_secs(20)).await;
            claim!(tombstones(&cluster, bucket).await? == 1, "purged, though r has not read it");
            let (next, changes) = read(&cluster, "B", &format!("FROM {before}")).await?;
            claim!(changes.len() == 1 && changes[0].op == "delete", "{changes:?}");
            cluster.expect("B", &format!("BUCKET.REPLICA ACK b r {next}"), "OK").await?;
        } else {
            let registration = cluster.hold("B", "replica-register");
            let asked = cluster.ask("B", &register);
            registration.arrived().await;
            claim!(purge.release().is_some_and(|landed| landed.is_ok()), "nobody has registered");
            claim!(tombstones(&cluster, bucket).await? == 0, "it was not purged");
            let landed = registration.release();
            claim!(landed.is_some_and(|landed| landed.is_err()), "it registered below the floor");
            let refused = asked.line().await?;
            claim!(refused.starts_with("RESYNCREQUIRED"), "{refused}");
        }
        cluster
            .eventually(
                "the purge",
                PATIENCE,
                async || Ok(tombstones(&cluster, bucket).await? == 0),
            )
            .await?;
        cluster.finish().await?;
    }
    Ok(())
}

pub async fn a_silent_replica_holds_what_it_has_not_read_until_its_lease_is_over(
    mutations: Mutations,
) -> Claim {
    let (cluster, bucket) = world(mutations, keep(2)).await?;
    cluster.expect("A", "BUCKET.REPLICA REGISTER b r LEASE 30s", "OK").await?;
    cluster.expect_start("A", "BUCKET.INSERT b DOCS {\"n\":1}", "[").await?;
    cluster.expect_start("A", "BUCKET.DELETE b {}", "[").await?;
    let begun = replica(&cluster, "sequence").await?;
    sleep(Duration::from_secs(25)).await;
    claim!(tombstones(&cluster, bucket).await? == 1, "purged within the lease");
    // While the bucket is removed the lease stands still.
    let removed = cluster.remove("A", "b").await?;
    sleep(Duration::from_secs(100)).await;
    cluster.expect("B", &format!("BUCKET.RESTORE {}", removed.removal), "OK").await?;
    claim!(replica(&cluster, "state").await? == "live", "it ran while the bucket was removed");
    // While nobody knows the time, too.
    for node in ["A", "B"] {
        cluster.clock(node).jump(3_600_000);
    }
    sleep(Duration::from_secs(60)).await;
    claim!(replica(&cluster, "state").await? == "live", "the clocks are suspect");
    claim!(tombstones(&cluster, bucket).await? == 1, "the clocks are suspect");
    cluster.run("A", "CLUSTER.CLOCK CONFIRM").await?;
    claim!(replica(&cluster, "state").await? == "live", "it ran while the clocks were suspect");
    claim!(tombstones(&cluster, bucket).await? == 1, "it ran while the clocks were suspect");
    cluster
        .eventually("the purge", PATIENCE, async || Ok(tombstones(&cluster, bucket).await? == 0))
        .await?;
    claim!(replica(&cluster, "state").await? == "stale", "nobody marked it");
    for node in ["A", "B"] {
        let ack = format!("BUCKET.REPLICA ACK b r {begun}");
        cluster.expect_start(node, &ack, "RESYNCREQUIRED").await?;
        let again = format!("BUCKET.REPLICA REGISTER b r FROM {begun}");
        cluster.expect_start(node, &again, "RESYNCREQUIRED").await?;
        cluster
            .expect_start(node, &format!("BUCKET.CHANGES b FROM {begun}"), "FEEDTRUNCATED")
            .await?;
    }
    cluster.expect("B", "BUCKET.REPLICA REGISTER b r", "OK").await?;
    claim!(replica(&cluster, "state").await? == "live", "it has begun anew");
    claim!(replica(&cluster, "sequence").await? > begun, "from a snapshot of now");
    cluster.finish().await
}

pub async fn a_replica_keeps_the_log_from_being_trimmed_and_then_the_floor_is_told(
    mutations: Mutations,
) -> Claim {
    let short = |config: &mut Config| config.changes_retention = Duration::from_secs(5);
    let (cluster, bucket) = world(mutations, short).await?;
    cluster.expect("A", "BUCKET.REPLICA REGISTER b r FROM 0", "OK").await?;
    for _ in 0..9 {
        cluster.expect_start("B", "BUCKET.INSERT b DOCS {\"n\":1}", "[").await?;
    }
    let log = async || {
        Ok::<_, String>(cluster.rows(&keys::data_part(bucket, keys::data::CHANGE)).await?.len())
    };
    sleep(Duration::from_secs(100)).await;
    claim!(log().await? == 9, "trimmed, though r has read nothing");
    claim!(replica(&cluster, "behind").await? == "9", "it is 9 behind");
    let (next, changes) = read(&cluster, "A", "FROM 0 COUNT 4").await?;
    claim!(changes.len() == 4, "{changes:?}");
    cluster.expect("A", &format!("BUCKET.REPLICA ACK b r {next}"), "OK").await?;
    claim!(replica(&cluster, "behind").await? == "5", "it is 5 behind");
    cluster.eventually("the trim", PATIENCE, async || Ok(log().await? == 5)).await?;
    cluster.expect_start("A", "BUCKET.CHANGES b FROM 0", "FEEDTRUNCATED").await?;
    let (_, rest) = read(&cluster, "A", &format!("FROM {next}")).await?;
    let (_, oldest) = read(&cluster, "B", "").await?;
    claim!(rest.len() == 5 && rest == oldest, "{rest:?} {oldest:?}");
    cluster.expect("A", "BUCKET.REPLICA UNREGISTER b r", "OK").await?;
    cluster.eventually("the rest", PATIENCE, async || Ok(log().await? == 0)).await?;
    cluster.expect_start("B", &format!("BUCKET.CHANGES b FROM {next}"), "FEEDTRUNCATED").await?;
    cluster.finish().await
}

pub async fn what_a_replica_says_with_an_unknown_result_is_done_once(
    mutations: Mutations,
) -> Claim {
    for lands in [true, false] {
        let (cluster, _) = world(mutations, |_| {}).await?;
        let unknown = async |label: &str, command: String| {
            let lost = cluster.lose("A", label);
            let asked = cluster.ask("A", &command);
            lost.arrived().await;
            if lands {
                drop(lost.land());
                return asked.expect("OK").await;
            }
            asked.expect("OK").await?;
            // Too late: it must change nothing any more.
            drop(lost.land());
            Ok(())
        };
        unknown("replica-register", "BUCKET.REPLICA REGISTER b r".to_owned()).await?;
        let begun = replica(&cluster, "sequence").await?;
        cluster.expect_start("B", "BUCKET.INSERT b DOCS {\"n\":1}", "[").await?;
        let (next, _) = read(&cluster, "B", &format!("FROM {begun}")).await?;
        unknown("replica-ack", format!("BUCKET.REPLICA ACK b r {next}")).await?;
        claim!(replica(&cluster, "behind").await? == "0", "it has said so");
        unknown("replica-unregister", "BUCKET.REPLICA UNREGISTER b r".to_owned()).await?;
        cluster.expect("A", "BUCKET.REPLICA LIST b", "[]").await?;
        cluster.finish().await?;
    }
    Ok(())
}
