//! Swaps against everything that can happen while they are made: unknown results, nodes that
//! die, writers that are in the way, names that are known elsewhere.

use std::time::Duration;

use lethe::clock::Clock;
use lethe::cluster::mutation::Mutations;
use lethe::codec::keys;
use lethe::codec::record::{self, BucketRecord, PauseOf, TtlProgressRecord};
use lethe::store::Error as StoreError;
use tokio::time::{Instant, sleep};

use crate::cluster::{AT_ONCE, Claim, Cluster, claim, fail, field, line};
use crate::copies::{Model, SOON, caught_up, content, delete, insert, same, scene, update};

/// How long writers wait at most.
const PAUSE: Duration = Duration::from_secs(1);

async fn paused(cluster: &Cluster, bucket: lethe::codec::BucketId) -> Claim<bool> {
    Ok(pause(cluster, bucket).await?.is_some())
}

async fn pause(cluster: &Cluster, bucket: lethe::codec::BucketId) -> Claim<Option<PauseOf>> {
    let row = cluster.get(&keys::bucket_record(bucket)).await?.ok_or("no record")?;
    let row: BucketRecord = record::decode("bucket", &row).map_err(fail)?;
    Ok(row.paused)
}

/// The result of the swap is unknown, and it has or has not happened: it happens once, with one audit row.
pub async fn a_swap_with_an_unknown_result_happens_once(mutations: Mutations) -> Claim {
    for (lands, opid) in [(true, ""), (false, ""), (true, " OPID o"), (false, " OPID o")] {
        let (cluster, model) = scene(mutations).await?;
        cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
        let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
        caught_up(&cluster, "c").await?;
        let lost = cluster.lose("B", "swap");
        let swap = cluster.ask("B", &format!("BUCKET.SWAP b c{opid}"));
        lost.arrived().await;
        if lands {
            claim!(lost.land().is_some_and(|landed| landed.is_ok()), "it did not land");
            swap.expect("OK").await?;
        } else {
            swap.expect("OK").await?;
            let late = lost.land();
            claim!(late.is_none_or(|late| late.is_err()), "the first attempt landed, too");
        }
        if !opid.is_empty() {
            cluster.expect("C", &format!("BUCKET.SWAP b c{opid}"), "OK").await?;
        }
        claim!(cluster.id("C", "b").await? == copy, "the name does not mean the copy");
        same(&cluster, source, copy, false).await?;
        claim!(content(&cluster, copy).await? == model.documents, "something is lost");
        let rows = cluster.audit().await?;
        for action in ["swap", "remove"] {
            let count = rows.iter().filter(|row| row.action == action).count();
            claim!(count == 1, "{count} audit rows for '{action}'");
        }
        cluster.finish().await?;
    }
    Ok(())
}

/// The node that swaps dies while writers wait: they wait no longer than the pause, and a commit of
/// that node that lands afterwards is refused because of what they wrote.
pub async fn a_pause_ends_by_itself(mutations: Mutations) -> Claim {
    let (mut cluster, _) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let source = cluster.id("A", "b").await?;
    caught_up(&cluster, "c").await?;
    let held = cluster.hold("C", "swap");
    let _swap = cluster.ask("C", "BUCKET.SWAP b c");
    held.arrived().await;
    claim!(paused(&cluster, source).await?, "writers do not wait");
    let began = Instant::now();
    let write = cluster.ask("A", &insert(900, "late"));
    sleep(PAUSE / 2).await;
    // The pause has begun before the commit was held, on a slow store long before.
    let (answered, now) = (write.is_answered(), cluster.node("A").lifecycle().catalog().now());
    let over = pause(&cluster, source).await?.is_none_or(|pause| pause.until <= now);
    claim!(!answered || over, "a writer did not wait");
    cluster.kill("C").await;
    let answer = write.line().await?;
    claim!(answer.starts_with('['), "a writer answered '{answer}'");
    let waited = began.elapsed();
    claim!(waited <= PAUSE + AT_ONCE, "writers waited {waited:?}");
    let late = held.release();
    claim!(matches!(late, Some(Err(StoreError::Conflict))), "the swap landed: {late:?}");
    claim!(cluster.id("A", "b").await? == source, "it was swapped");
    // Others can swap, and nothing that was written meanwhile is lost.
    let left = content(&cluster, source).await?;
    claim!(left.contains_key(&crate::copies::id(900)), "what was acknowledged is not there");
    cluster
        .eventually("another swap", SOON, async || {
            Ok(line(&cluster.run("B", "BUCKET.SWAP b c").await?) == "OK")
        })
        .await?;
    let now = cluster.id("A", "b").await?;
    claim!(content(&cluster, now).await? == left, "something is lost");
    cluster.finish().await
}

/// A swap that cannot be committed in time is given up: writers go on at once, and nothing has changed.
pub async fn a_swap_that_takes_too_long_is_given_up(mutations: Mutations) -> Claim {
    let (cluster, mut model) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
    caught_up(&cluster, "c").await?;
    let held = cluster.hold("B", "swap-drain");
    let swap = cluster.ask("B", "BUCKET.SWAP b c OPID o");
    held.arrived().await;
    let began = Instant::now();
    let write = cluster.ask("C", &insert(901, "waits"));
    let given_up = "ERR Bucket 'b' was not swapped: its copy could not catch up within copy.pause; \
                    nothing has changed";
    swap.expect(given_up).await?;
    let answer = write.line().await?;
    claim!(answer.starts_with('['), "a writer answered '{answer}'");
    let waited = began.elapsed();
    claim!(waited <= PAUSE + AT_ONCE, "a writer waited {waited:?}");
    drop(held);
    claim!(!paused(&cluster, source).await?, "the pause was left behind");
    claim!(cluster.id("A", "b").await? == source, "it was swapped");
    model.documents.insert(crate::copies::id(901), "waits".to_owned());
    // The same command again: nothing was recorded.
    cluster.expect("B", "BUCKET.SWAP b c OPID o", "OK").await?;
    claim!(content(&cluster, copy).await? == model.documents, "something is lost");
    cluster.finish().await
}

/// A writer that does not wait (it began before, and its clock is fast) makes the swap look again: what
/// it wrote is in the copy.
pub async fn a_write_before_the_swap_commits_is_in_the_copy(mutations: Mutations) -> Claim {
    let (cluster, mut model) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
    caught_up(&cluster, "c").await?;
    let held = cluster.hold("B", "swap");
    let swap = cluster.ask("B", "BUCKET.SWAP b c");
    held.arrived().await;
    // As one does for whom the pause is over.
    let catalog = cluster.node("A").lifecycle().catalog();
    let ids = &cluster.node("A").services().object_ids;
    let outcome = catalog
        .store()
        .run("rude", lethe::store::Resolve::Idempotent, |txn| async move {
            let live = catalog.handles().open(&txn, crate::cluster::NAMESPACE, "b").await?;
            let home = lethe::document::Home::from(&live);
            let text =
                format!("{{\"_id\":\"{}\",\"v\":\"rude\"}}", crate::copies::id(902).to_hex());
            let limits = lethe::document::Limits::default();
            let document = lethe::document::Document::from_json(text.as_bytes(), limits)
                .map_err(|error| lethe::error::Error::syntax(error.to_string()))?;
            let new =
                lethe::document::NewDocument::new(document, lethe::document::Origin::Json, ids)?;
            lethe::document::insert(&txn, &home, &[new], 0).await
        })
        .await;
    outcome.map_err(fail)?;
    model.documents.insert(crate::copies::id(902), "rude".to_owned());
    let refused = held.release();
    claim!(matches!(refused, Some(Err(StoreError::Conflict))), "the swap did not see it");
    swap.expect("OK").await?;
    same(&cluster, source, copy, false).await?;
    claim!(content(&cluster, copy).await? == model.documents, "something is lost");
    cluster.finish().await
}

/// Scenario 18, the half of SWAP: with warm caches on every node, each name means what it means now.
pub async fn after_a_swap_every_name_means_what_it_means_now(mutations: Mutations) -> Claim {
    let (cluster, model) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    caught_up(&cluster, "c").await?;
    for node in ["A", "B", "C"] {
        for name in ["b", "c"] {
            cluster.expect_start(node, &format!("BUCKET.COUNT {name} {{}}"), "").await?;
        }
    }
    let copy = cluster.id("A", "c").await?;
    cluster.expect("A", "BUCKET.SWAP b c", "OK").await?;
    cluster
        .expect("C", "BUCKET.INSERT c DOCS {\"a\":1}", "NOSUCHBUCKET No such bucket: 'c'")
        .await?;
    cluster.expect("B", "BUCKET.CREATE c", "OK").await?;
    for node in ["A", "B", "C"] {
        cluster.expect_start(node, "BUCKET.INSERT c DOCS {\"a\":1}", "[").await?;
    }
    cluster.expect("C", "BUCKET.COUNT c {}", "3").await?;
    cluster.expect("B", "BUCKET.COUNT b {}", &model.documents.len().to_string()).await?;
    cluster.expect_start("C", &insert(903, "x"), "[").await?;
    claim!(content(&cluster, copy).await?.len() == model.documents.len() + 1, "not in the copy");
    cluster.finish().await
}

/// With LIVE-ONLY, the swap, and the purge of the old instance, no byte of what was deleted is left anywhere.
pub async fn nothing_is_left_of_what_was_deleted(mutations: Mutations) -> Claim {
    let (cluster, mut model) = scene(mutations).await?;
    let large = "SECRETMARK".repeat(30_000);
    for (number, value) in [(904, "SECRETMARKsmall"), (905, large.as_str())] {
        cluster.expect_start("A", &insert(number, value), "[").await?;
    }
    cluster.expect("A", "BUCKET.INDEX ANALYZE b v", "OK").await?;
    cluster.expect_start("B", &delete(904), "[").await?;
    cluster.expect("A", "BUCKET.COPY b c LIVE-ONLY", "OK").await?;
    let copy = cluster.id("A", "c").await?;
    model.round(&cluster).await?;
    // And one that is deleted while the copy follows.
    caught_up(&cluster, "c").await?;
    cluster.expect_start("B", &delete(905), "[").await?;
    cluster.expect("A", "BUCKET.SWAP b c", "OK").await?;
    let removed = cluster.run("A", "BUCKET.REMOVED b").await?;
    let lethe::resp::Reply::Array(rows) = &removed else { return Err(line(&removed)) };
    let removal = line(field(rows.first().ok_or("nothing is removed")?, "removal_id")?);
    cluster.expect("A", &format!("BUCKET.PURGE {removal}"), "OK").await?;
    let removal = lethe::codec::RemovalId::parse(&removal).ok_or("no removal id")?;
    let reclaim = keys::reclaim(removal);
    cluster
        .eventually("the reclaim", SOON, async || Ok(cluster.get(&reclaim).await?.is_none()))
        .await?;
    let found = cluster.rows(&[]).await?.iter().any(|(key, value)| {
        let has = |bytes: &[u8]| bytes.windows(10).any(|window| window == b"SECRETMARK");
        has(key) || has(value)
    });
    claim!(!found, "a byte of a deleted document is left");
    claim!(content(&cluster, copy).await? == model.documents, "something is lost");
    cluster.finish().await
}

/// Those who read the log of the source go on in the copy's: nobody misses a change or gets one twice.
pub async fn readers_of_the_log_follow_the_name(mutations: Mutations) -> Claim {
    let (cluster, mut model) = scene(mutations).await?;
    let (source, catalog) = (cluster.id("A", "b").await?, cluster.node("A").lifecycle().catalog());
    let home = lethe::document::Home::of_record(
        source,
        &catalog.bucket(crate::cluster::NAMESPACE, "b").await.map_err(fail)?.1,
    );
    let home = &home;
    let checkpoint = catalog
        .store()
        .run("register", lethe::store::Resolve::Idempotent, |txn| async move {
            let lease = lethe::document::replica::Lease::For(3_600_000);
            lethe::document::replica::register(&txn, home, "r", None, lease, catalog.now()).await
        })
        .await
        .map_err(fail)?
        .value;
    model.round(&cluster).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let copy = cluster.id("A", "c").await?;
    for _ in 0..3 {
        model.round(&cluster).await?;
    }
    let log = async |bucket| {
        let mut all = Vec::new();
        for shard in [1, 2] {
            let begin = keys::feed::change_behind(bucket, shard, checkpoint);
            let prefix = keys::change_prefix(bucket, shard);
            let rows = cluster.rows(&prefix).await?;
            let behind = rows.into_iter().filter(|(key, _)| key[..] >= begin[..]);
            all.extend(behind.map(|(key, value)| (shard, key.slice(prefix.len()..), value)));
        }
        Ok::<_, String>(all)
    };
    let before = log(source).await?;
    claim!(before.len() > 20, "{} changes", before.len());
    cluster.expect("B", "BUCKET.SWAP b c", "OK").await?;
    claim!(log(copy).await? == before, "the log of the copy is another");
    let row = cluster.get(&keys::feed::replica(copy, "r")).await?.ok_or("it did not follow")?;
    let row: record::ReplicaRecord = record::decode("replica", &row).map_err(fail)?;
    claim!(row.checkpoint == checkpoint && !row.stale, "{row:?}");
    claim!(cluster.get(&keys::feed::replica(source, "r")).await?.is_none(), "it is at both");
    model.round(&cluster).await?;
    claim!(log(copy).await?.len() > before.len(), "nothing is logged any more");
    cluster.finish().await
}

/// An open transaction that wrote to the old instance does not commit, and can be tried again.
pub async fn an_open_transaction_is_told(mutations: Mutations) -> Claim {
    let (cluster, _) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    caught_up(&cluster, "c").await?;
    let mut seat = crate::seat::Seat::at(&cluster, "B");
    seat.expect("BEGIN", "OK").await?;
    seat.expect_start(&insert(906, "old"), "[").await?;
    cluster.expect("A", "BUCKET.SWAP b c", "OK").await?;
    seat.expect("COMMIT", "BUCKETBEINGREMOVED Bucket 'b' is being removed").await?;
    seat.expect("BEGIN", "OK").await?;
    seat.expect_start(&insert(906, "new"), "[").await?;
    seat.expect("COMMIT", "OK").await?;
    let found = content(&cluster, cluster.id("A", "b").await?).await?;
    claim!(found.get(&crate::copies::id(906)).map(String::as_str) == Some("new"), "{found:?}");
    cluster.finish().await
}

/// An open cursor goes on in the copy where it was.
pub async fn a_cursor_follows_the_name(mutations: Mutations) -> Claim {
    let (cluster, model) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    caught_up(&cluster, "c").await?;
    let mut seat = crate::seat::Seat::at(&cluster, "B");
    let count = |reply: &lethe::resp::Reply| line(reply).matches("\"_id\"").count();
    let mut open = Vec::new();
    for query in ["BUCKET.QUERY b {} LIMIT 10", "BUCKET.QUERY b {} SORTBY v ASC LIMIT 10"] {
        let first = seat.done(query).await?;
        let lethe::resp::Reply::Array(parts) = &first else { return Err(line(&first)) };
        open.push((line(parts.first().ok_or("no cursor")?), count(&first)));
    }
    cluster.expect("A", "BUCKET.SWAP b c", "OK").await?;
    for (cursor, mut seen) in open {
        claim!(seen == 10, "{seen} documents at first");
        loop {
            let more = count(&seat.done(&format!("BUCKET.ADVANCE QUERY {cursor}")).await?);
            if more == 0 {
                break;
            }
            seen += more;
        }
        claim!(seen == model.documents.len(), "{seen} documents of {}", model.documents.len());
    }
    cluster.finish().await
}

/// What cannot be swapped says so.
pub async fn a_swap_is_refused_with_its_reason(mutations: Mutations) -> Claim {
    let (cluster, _) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.CREATE d", "OK").await?;
    let none = "ERR Bucket 'd' is no copy of 'b': make one with BUCKET.COPY";
    cluster.expect("A", "BUCKET.SWAP b d", none).await?;
    cluster.expect("A", "BUCKET.SWAP b x", "NOSUCHBUCKET No such bucket: 'x'").await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    caught_up(&cluster, "c").await?;
    cluster.expect("B", "BUCKET.PROTECT b ON", "OK").await?;
    cluster.expect("A", "BUCKET.SWAP b c", "PROTECTED Bucket 'b' is protected").await?;
    cluster.expect("B", "BUCKET.PROTECT b OFF", "OK").await?;
    // While one swaps, another is told.
    let held = cluster.hold("A", "swap");
    let swap = cluster.ask("A", "BUCKET.SWAP b c");
    held.arrived().await;
    let second = "ERR Bucket 'b' is being swapped by another command";
    cluster.expect("B", "BUCKET.SWAP b c", second).await?;
    claim!(held.release().is_some_and(|landed| landed.is_ok()), "it did not land");
    swap.expect("OK").await?;
    cluster.expect("B", "BUCKET.SWAP b c", "NOSUCHBUCKET No such bucket: 'c'").await?;
    cluster.finish().await
}

/// Documents in pieces, and several deleted ones of one id, are copied whole.
pub async fn large_documents_are_copied_whole(mutations: Mutations) -> Claim {
    let (cluster, mut model) = scene(mutations).await?;
    let text = |letter: &str, size: usize| letter.repeat(size);
    let write = async |model: &mut Model, number: u32, value: String, there: bool| {
        let command = if there { update(number, &value) } else { insert(number, &value) };
        cluster.expect_start("A", &command, "[").await?;
        model.documents.insert(crate::copies::id(number), value);
        Ok::<(), String>(())
    };
    write(&mut model, 910, text("a", 300_000), false).await?;
    write(&mut model, 911, text("b", 95_000), false).await?;
    for size in [100_000, 10, 200_000] {
        write(&mut model, 912, text("c", size), false).await?;
        cluster.expect_start("B", &delete(912), "[").await?;
    }
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
    write(&mut model, 910, text("d", 10), true).await?;
    write(&mut model, 911, text("e", 400_000), true).await?;
    write(&mut model, 912, text("f", 150_000), false).await?;
    cluster.expect_start("B", &delete(912), "[").await?;
    model.documents.remove(&crate::copies::id(912));
    cluster.expect("B", "BUCKET.SWAP b c", "OK").await?;
    let of = async |bucket| {
        Ok::<_, String>(cluster.rows(&keys::data_part(bucket, keys::data::BODY)).await?.len())
    };
    claim!(of(source).await? == of(copy).await?, "bodies are missing or left");
    cluster.expect("A", &format!("BUCKET.RESTORE {source} AS old"), "OK").await?;
    for name in ["b", "old"] {
        let count = cluster.run("C", &format!("BUCKET.COUNT {name} {{}}")).await?;
        claim!(line(&count) == model.documents.len().to_string(), "{name}: {}", line(&count));
        let described = cluster.run("C", &format!("BUCKET.DESCRIBE {name}")).await?;
        let tombstones = line(field(&described, "tombstones")?);
        claim!(tombstones.parse::<usize>().is_ok_and(|count| count >= 4), "{tombstones}");
    }
    cluster.finish().await
}

/// Who waits for changes when the bucket is swapped hears of the next one, under the old sequence.
pub async fn who_waits_for_changes_follows_the_name(mutations: Mutations) -> Claim {
    let (cluster, _) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    caught_up(&cluster, "c").await?;
    let all = cluster.run("B", "BUCKET.CHANGES b COUNT 10000").await?;
    let sequence = line(field(&all, "sequence")?);
    let mut waiting = Vec::new();
    for node in ["A", "B", "C"] {
        let ask = format!("BUCKET.CHANGES b FROM {sequence} BLOCK 20000");
        waiting.push(cluster.ask(node, &ask));
    }
    sleep(Duration::from_millis(100)).await;
    cluster.expect("A", "BUCKET.SWAP b c", "OK").await?;
    sleep(Duration::from_millis(100)).await;
    cluster.expect_start("C", &insert(907, "x"), "[").await?;
    for asked in waiting {
        let answer = asked.answer().await?;
        let changes = line(field(&answer, "changes")?);
        claim!(changes.matches("op: insert").count() == 1, "heard of {changes}");
        claim!(changes.contains(&crate::copies::id(907).to_hex()), "heard of {changes}");
    }
    let again = cluster.run("B", "BUCKET.CHANGES b COUNT 10000").await?;
    let count = |reply: &lethe::resp::Reply| line(reply).matches("op: ").count();
    claim!(count(&again) == count(&all) + 1, "{} and {} changes", count(&all), count(&again));
    cluster.finish().await
}

/// Inside BEGIN a write that meets the pause waits for its end, fails, and succeeds when it is sent again.
pub async fn a_transaction_that_meets_the_pause_begins_anew(mutations: Mutations) -> Claim {
    let (cluster, _) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    caught_up(&cluster, "c").await?;
    let held = cluster.hold("C", "swap");
    let swap = cluster.ask("C", "BUCKET.SWAP b c");
    held.arrived().await;
    let mut seat = crate::seat::Seat::at(&cluster, "B");
    seat.expect("BEGIN", "OK").await?;
    seat.expect_start("BUCKET.COUNT b {}", "").await?;
    let command = insert(908, "x");
    let mut write = Box::pin(seat.say(&command));
    let early = tokio::time::timeout(PAUSE / 4, &mut write).await;
    claim!(early.is_err(), "it did not wait: {early:?}");
    claim!(held.release().is_some_and(|landed| landed.is_ok()), "it did not land");
    swap.expect("OK").await?;
    let answer = write.as_mut().await;
    drop(write);
    claim!(answer.starts_with("NOT_COMMITTED"), "it answered '{answer}'");
    seat.expect("ROLLBACK", "OK").await?;
    seat.expect("BEGIN", "OK").await?;
    seat.expect_start(&command, "[").await?;
    seat.expect("COMMIT", "OK").await?;
    cluster.finish().await
}

/// With conflicts, delays and lost commits by chance, and nodes that crash, the copy ends up as its
/// source, and a swap happens once or not at all.
pub async fn by_chance_nothing_is_lost(mutations: Mutations) -> Claim {
    for seed in 0..4_u64 {
        let (mut cluster, mut model) = scene(mutations).await?;
        cluster.chaos(Some(lethe::store::Chaos::with_seed(seed)));
        let option = if seed % 2 == 0 { "" } else { " LIVE-ONLY" };
        let copied = cluster.run("B", &format!("BUCKET.COPY b c{option} OPID copy")).await?;
        claim!(line(&copied) == "OK", "{seed}: {}", line(&copied));
        let source = cluster.id("A", "b").await?;
        for round in 0..8 {
            model.round(&cluster).await.map_err(|error| format!("{seed}: {error}"))?;
            if round == 3 {
                let node = ["A", "B", "C"][usize::try_from(seed % 3).map_err(fail)?];
                cluster.restart(node).await?;
            }
        }
        let mut tries = 0;
        loop {
            let swap = cluster.ask("C", &format!("BUCKET.SWAP b c OPID swap{tries}"));
            for _ in 0..5 {
                model.round(&cluster).await.map_err(|error| format!("{seed}: {error}"))?;
            }
            let answer = swap.line().await?;
            tries += 1;
            if answer == "OK" {
                break;
            }
            claim!(answer.contains("was not swapped"), "{seed}: {answer}");
            claim!(tries < 50, "{seed}: it is never swapped: {answer}");
        }
        for _ in 0..3 {
            model.round(&cluster).await.map_err(|error| format!("{seed}: {error}"))?;
        }
        let now = cluster.id("A", "b").await?;
        claim!(now != source, "{seed}: the name still means the old one");
        let found = content(&cluster, now).await?;
        claim!(found == model.documents, "{seed}: {found:?} instead of {:?}", model.documents);
        let swaps = cluster.audit().await?.iter().filter(|row| row.action == "swap").count();
        claim!(swaps == 1, "{seed}: {swaps} swaps");
        cluster.finish().await.map_err(|error| format!("{seed}: {error}"))?;
    }
    Ok(())
}

/// A swap that died left the pause behind: a removal of the bucket ends that, too.
pub async fn a_removal_ends_a_pause(mutations: Mutations) -> Claim {
    let (mut cluster, _) = scene(mutations).await?;
    cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
    let source = cluster.id("A", "b").await?;
    caught_up(&cluster, "c").await?;
    let held = cluster.hold("C", "swap");
    let swap = cluster.ask("C", "BUCKET.SWAP b c");
    held.arrived().await;
    let write = cluster.ask("A", &insert(909, "x"));
    sleep(PAUSE / 4).await;
    claim!(!write.is_answered(), "a writer did not wait");
    let removed = cluster.remove("B", "b").await?;
    write.expect("BUCKETBEINGREMOVED Bucket 'b' is being removed").await?;
    claim!(!paused(&cluster, source).await?, "the pause was left behind");
    cluster.kill("C").await;
    drop(swap);
    let late = held.release();
    claim!(matches!(late, Some(Err(StoreError::Conflict))), "the swap landed: {late:?}");
    cluster.expect("B", &format!("BUCKET.RESTORE {}", removed.removal), "OK").await?;
    cluster.expect_start("A", &insert(909, "x"), "[").await?;
    cluster
        .eventually("the swap", SOON, async || {
            Ok(line(&cluster.run("B", "BUCKET.SWAP b c").await?) == "OK")
        })
        .await?;
    claim!(content(&cluster, cluster.id("A", "b").await?).await?.len() > 1, "nothing is left");
    cluster.finish().await
}

/// What comes due while a swap lets writers wait, waits as they do: the swap is not given up for it, and
/// it is done in the instance that has the name then.
pub async fn what_expires_waits_for_a_swap(mutations: Mutations) -> Claim {
    for what in ["vacuum", "ttl"] {
        let (cluster, _) = scene(mutations).await?;
        let now = || cluster.clock("A").now();
        let due = if what == "vacuum" {
            cluster.expect_start("A", "BUCKET.DELETE b {} LIMIT 20 RETAIN 20s", "[").await?;
            // A look is due at most a 64th of the retention later.
            now() + 20_400
        } else {
            let index = r#"{"at":{"bson_type":"datetime","name":"at"}}"#;
            cluster.expect("A", &format!("BUCKET.INDEX CREATE b {index}"), "OK").await?;
            cluster.expect("A", "BUCKET.TTL b at 1s", "OK").await?;
            let source = cluster.id("A", "b").await?;
            let first = async || Ok(ttl(&cluster, source).await?.last_at.is_some());
            cluster.eventually("the first pass", Duration::from_secs(70), first).await?;
            // That needs no index; a copy waits for one that is being built.
            let built = async || {
                let described = cluster.run("A", "BUCKET.INDEX DESCRIBE b at").await?;
                Ok(line(field(&described, "status")?) == "READY")
            };
            cluster.eventually("the index", SOON, built).await?;
            let old = format!("{{\"$date\":{{\"$numberLong\":\"{}\"}}}}", now() - 60_000);
            for number in 920..930 {
                let set = insert(number, "old").replace("\"v\"", &format!("\"at\":{old},\"v\""));
                cluster.expect_start("A", &set, "[").await?;
            }
            ttl(&cluster, source).await?.due_at
        };
        cluster.expect("A", "BUCKET.COPY b c", "OK").await?;
        let (source, copy) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
        caught_up(&cluster, "c").await?;
        sleep(Duration::from_millis((due - now() - 400).unsigned_abs())).await;
        let held = cluster.hold("C", "swap");
        let swap = cluster.ask("C", "BUCKET.SWAP b c");
        held.arrived().await;
        let before = cluster.raw_scan(source).await?;
        sleep(PAUSE * 7 / 10).await;
        claim!(now() > due, "{what} was not due yet");
        claim!(cluster.raw_scan(source).await? == before, "{what} did not wait for the swap");
        let landed = held.release();
        claim!(landed.is_some_and(|landed| landed.is_ok()), "{what} came in between");
        swap.expect("OK").await?;
        let done = async || {
            let deleted = cluster.rows(&keys::data_part(copy, keys::data::EXPIRING)).await?;
            let left = content(&cluster, copy).await?;
            let expired = |(key, _): &(bytes::Bytes, bytes::Bytes)| {
                keys::parse_expiring(key).is_ok_and(|(_, at, ..)| at <= now())
            };
            Ok(!deleted.iter().any(expired) && !left.values().any(|value| value == "old"))
        };
        cluster.eventually(what, SOON, done).await?;
        cluster.finish().await?;
    }
    Ok(())
}

async fn ttl(cluster: &Cluster, bucket: lethe::codec::BucketId) -> Claim<TtlProgressRecord> {
    let row = cluster.get(&keys::ttl(bucket)).await?.ok_or("no TTL")?;
    record::decode("ttl", &row).map_err(fail)
}
