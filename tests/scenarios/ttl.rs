//! BUCKET.TTL: documents go when their time is over, whoever owns the work.

use std::collections::BTreeSet;
use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::codec::record::{self, TtlProgressRecord};
use lethe::codec::{BucketId, keys};
use lethe::config::Config;
use lethe::resp::Reply;
use lethe::store::Error as StoreError;
use tokio::time::sleep;

use crate::changes::{SOON, changed};
use crate::cluster::{Claim, Cluster, EPOCH, claim, fail, field, line};

const INDEX: &str =
    "BUCKET.INDEX CREATE b {\"at\":{\"bson_type\":\"datetime\",\"multi_key\":true}}";

/// A date, so many seconds from the beginning of the scenario.
fn date(seconds: i64) -> String {
    format!("{{\"$date\":{{\"$numberLong\":\"{}\"}}}}", EPOCH + seconds * 1_000)
}

async fn insert(cluster: &Cluster, name: &str, at: &str) -> Claim {
    let document = format!("{{\"name\":\"{name}\",\"at\":{at}}}");
    changed_one(&cluster.run("A", &format!("BUCKET.INSERT b DOCS {document}")).await?)
}

fn changed_one(reply: &Reply) -> Claim {
    claim!(matches!(reply, Reply::Array(ids) if ids.len() == 1), "it answered {}", line(reply));
    Ok(())
}

/// Two nodes and an empty bucket on one shard.
async fn world(mutations: Mutations) -> Claim<(Cluster, BucketId)> {
    // What is no date may stand in the field, too.
    let loose = |config: &mut Config| config.index.strict_types = false;
    let cluster = Cluster::with(&["A", "B"], mutations, loose).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    let bucket = cluster.id("A", "b").await?;
    Ok((cluster, bucket))
}

/// So many documents whose time was over long ago.
async fn old_documents(cluster: &Cluster, documents: usize) -> Claim {
    let words = ["BUCKET.INSERT", "b", "DOCS"].map(str::to_owned);
    let each = (0..documents).map(|n| format!("{{\"n\":{n},\"at\":{}}}", date(-100_000)));
    let reply = cluster.ask_words("A", words.into_iter().chain(each).collect()).answer().await?;
    claim!(matches!(&reply, Reply::Array(ids) if ids.len() == documents), "{}", line(&reply));
    Ok(())
}

async fn names(cluster: &Cluster) -> Claim<BTreeSet<String>> {
    let reply = cluster.run("A", "BUCKET.QUERY b {} PROJECTION {\"name\":1,\"_id\":0}").await?;
    let Reply::Array(parts) = &reply else { return Err(line(&reply)) };
    let Some(Reply::Array(entries)) = parts.get(1) else { return Err(line(&reply)) };
    let name = |entry| line(entry).split('"').nth(3).unwrap_or_default().to_owned();
    Ok(entries.iter().map(name).collect())
}

async fn progress(cluster: &Cluster, bucket: BucketId) -> Claim<TtlProgressRecord> {
    let value = cluster.get(&keys::ttl(bucket)).await?.ok_or("no progress")?;
    record::decode("ttl", &value).map_err(fail)
}

/// With an index and without one; of an array the earliest date counts, and what
/// is no date never expires.
pub async fn documents_go_when_their_time_is_over(mutations: Mutations) -> Claim {
    for indexed in [true, false] {
        let (cluster, bucket) = world(mutations).await?;
        if indexed {
            cluster.expect("A", INDEX, "OK").await?;
        }
        for (name, at) in [
            ("old", date(-100)),
            ("later", date(20)),
            ("some", format!("[{},{}]", date(5_000), date(-100))),
            ("young", format!("[{},{}]", date(5_000), date(6_000))),
            ("text", "\"2020-01-01T00:00:00Z\"".to_owned()),
            ("number", "5".to_owned()),
            ("null", "null".to_owned()),
        ] {
            insert(&cluster, name, &at).await?;
        }
        cluster.expect("A", "BUCKET.TTL b at 60s", "OK").await?;
        let left = async |expected: &[&str]| {
            let names = names(&cluster).await?;
            Ok::<_, String>(names.iter().map(String::as_str).eq(expected.iter().copied()))
        };
        let limit = Duration::from_secs(65);
        let first = ["later", "null", "number", "text", "young"];
        cluster.eventually("what is old goes", limit, async || left(&first).await).await?;
        let shown = cluster.run("A", "BUCKET.DELETED b {\"@deleted_by\":\"system:ttl\"}").await?;
        claim!(changed(&shown)? == 2, "not listed: {}", line(&shown));
        let described = cluster.run("A", "BUCKET.DESCRIBE b").await?;
        let deleted = line(field(field(&described, "ttl")?, "deleted")?);
        claim!(deleted == "2", "DESCRIBE tells of {deleted}");
        let then = ["null", "number", "text", "young"];
        if indexed {
            // The next passes come a minute later each; without an index ten.
            let limit = Duration::from_secs(190);
            cluster.eventually("what was young goes", limit, async || left(&then).await).await?;
        } else {
            let progress = progress(&cluster, bucket).await?;
            let pause = progress.last_at.map(|at| progress.due_at - at);
            claim!(pause == Some(600_000), "the next pass is due after {pause:?}");
        }
        cluster.expect("A", "BUCKET.TTL b at OFF", "OK").await?;
        claim!(cluster.get(&keys::ttl(bucket)).await?.is_none(), "it still goes on");
        insert(&cluster, "more", &date(-100)).await?;
        sleep(Duration::from_secs(130)).await;
        let expected = names(&cluster).await?.contains("more");
        claim!(expected, "it went on though it was switched off");
        cluster.finish().await?;
    }
    Ok(())
}

/// Nobody knows the time: nothing goes by it, the metrics say since when the search is due,
/// and it is made up for when somebody says what time it is.
pub async fn nothing_expires_while_the_clocks_are_suspect(mutations: Mutations) -> Claim {
    let often = |config: &mut Config| config.ttl.every = Duration::from_secs(7);
    let cluster = Cluster::with(&["A", "B"], mutations, often).await?;
    cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
    let bucket = cluster.id("A", "b").await?;
    cluster.expect("A", INDEX, "OK").await?;
    cluster.expect("A", "BUCKET.TTL b at 60s", "OK").await?;
    let figures = || {
        let each = ["A", "B"].map(|node| cluster.node(node).lifecycle().meters().ttl());
        (each[0].0 + each[1].0, each[0].1.max(each[1].1))
    };
    let ended = async || Ok(progress(&cluster, bucket).await?.last_at.is_some());
    cluster.eventually("the first search ends", Duration::from_secs(65), ended).await?;
    let before = progress(&cluster, bucket).await?;
    let pause = before.last_at.map(|at| before.due_at - at);
    claim!(pause == Some(7_000), "the next one is due after {pause:?}");
    claim!(figures() == (0, None), "{:?}", figures());
    for node in ["A", "B"] {
        cluster.clock(node).jump(3_600_000);
    }
    insert(&cluster, "old", &date(-100)).await?;
    // Shorter than it takes them to be believed.
    sleep(Duration::from_secs(300)).await;
    claim!(names(&cluster).await?.contains("old"), "it went while nobody knew the time");
    let (deleted, since) = figures();
    claim!(deleted == 0, "{deleted} deleted");
    let due = progress(&cluster, bucket).await?.due_at;
    claim!(since == Some(due), "due since {since:?} and not {due}");
    cluster.run("A", "CLUSTER.CLOCK CONFIRM").await?;
    let gone = async || Ok(names(&cluster).await?.is_empty());
    cluster.eventually("it goes", Duration::from_secs(65), gone).await?;
    let ended = async || Ok(figures() == (1, None));
    cluster.eventually("the search ends", Duration::from_secs(65), ended).await?;
    cluster.finish().await
}

/// Scenario 4, with the worker that deletes by TTL.
pub async fn a_deletion_by_ttl_under_way_is_named_and_refused(mutations: Mutations) -> Claim {
    let (cluster, bucket) = world(mutations).await?;
    cluster.expect("A", INDEX, "OK").await?;
    cluster.expect("A", "BUCKET.TTL b at 60s", "OK").await?;
    let ended = async || Ok(progress(&cluster, bucket).await?.last_at.is_some());
    cluster.eventually("the first pass ends", Duration::from_secs(65), ended).await?;
    // From here on the handle is in the cache, so that nothing but the fence tells of the removal.
    old_documents(&cluster, 3).await?;
    let held = cluster.hold_any("ttl");
    let before = cluster.raw_scan(bucket).await?;
    held.arrived().await;
    let removed = cluster.remove("A", "b").await?;
    let text =
        cluster.expect_start("A", "BUCKET.PURGE b TIMEOUT 2500", "BARRIERNOTSATISFIED ").await?;
    let named = "busy with deletion by TTL since ";
    claim!(text.contains(named), "'{named}' is not in '{text}'");
    let landed = held.release();
    claim!(
        matches!(landed, Some(Err(StoreError::Conflict))),
        "a deletion landed in a removed bucket: {landed:?}"
    );
    claim!(cluster.raw_scan(bucket).await? == before, "the removed bucket is not what it was");
    cluster.purged(&removed, SOON).await?;
    cluster.finish().await
}

/// Another node goes on where the owner died, and what the pass deletes is one removal.
pub async fn a_deletion_by_ttl_goes_on_after_the_death_of_its_node(mutations: Mutations) -> Claim {
    let (mut cluster, bucket) = world(mutations).await?;
    old_documents(&cluster, 350).await?;
    let shard = u16::try_from(bucket.0 % 4).map_err(fail)?;
    let view = cluster.view().await?;
    let owner = view.members.iter().find(|member| member.shards.contains(&shard));
    let owner = owner.ok_or("nobody owns the shard")?.node.clone();
    let (owner, other) = if owner == "A" { ("A", "B") } else { ("B", "A") };
    let first = cluster.hold(owner, "ttl");
    cluster.expect(other, "BUCKET.TTL b at 60s", "OK").await?;
    first.arrived().await;
    let second = cluster.hold(owner, "ttl");
    claim!(first.release().is_some_and(|landed| landed.is_ok()), "the first batch");
    second.arrived().await;
    cluster.kill(owner).await;
    let some = progress(&cluster, bucket).await?;
    claim!(some.deleted == 100 && some.after.is_some(), "after the first batch: {some:?}");
    let done = async || Ok(cluster.documents(bucket).await? == 0);
    cluster.eventually("the next owner goes on", Duration::from_secs(120), done).await?;
    let landed = second.release();
    claim!(!matches!(landed, Some(Ok(_))), "a batch of the dead landed: {landed:?}");
    let ended = async || Ok(progress(&cluster, bucket).await?.last_at.is_some());
    cluster.eventually("the pass ends", SOON, ended).await?;
    let progress = progress(&cluster, bucket).await?;
    claim!(progress.deleted == 350, "{} deleted", progress.deleted);
    let rows = cluster.rows(&keys::data_part(bucket, keys::data::DELETED_BY)).await?;
    let removals: BTreeSet<_> = rows
        .iter()
        .filter_map(|(key, _)| keys::parse_deleted_by(key).ok())
        .map(|row| row.1)
        .collect();
    claim!(rows.len() == 350 && removals.len() == 1, "{} in {removals:?}", rows.len());
    cluster.finish().await
}

/// Neither while its bucket is removed nor while destruction is stopped.
pub async fn a_ttl_stands_still_while_its_bucket_is_removed_or_purging_paused(
    mutations: Mutations,
) -> Claim {
    let (cluster, bucket) = world(mutations).await?;
    cluster.expect("A", "PURGE.PAUSE", "OK").await?;
    cluster.expect("A", "BUCKET.TTL b at 60s", "OK").await?;
    old_documents(&cluster, 3).await?;
    sleep(Duration::from_secs(130)).await;
    claim!(cluster.documents(bucket).await? == 3, "deleted in spite of the pause");
    cluster.remove("A", "b").await?;
    cluster.expect("A", "PURGE.RESUME", "OK").await?;
    sleep(Duration::from_secs(130)).await;
    claim!(cluster.documents(bucket).await? == 3, "deleted in a removed bucket");
    cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
    let gone = async || Ok(cluster.documents(bucket).await? == 0);
    cluster.eventually("it goes on", Duration::from_secs(65), gone).await?;
    let removed = cluster.remove("A", "b").await?;
    cluster.expect("A", "BUCKET.PURGE b TIMEOUT 20000", "OK").await?;
    cluster.purged(&removed, SOON).await?;
    let rows = cluster.rows(&keys::kind_prefix(keys::kind::EXPIRY)).await?;
    let due = rows.iter().filter_map(|(key, _)| keys::parse_expiry(key).ok());
    let ttls = due.filter(|(_, what, _)| *what == keys::due::TTL).count();
    claim!(ttls == 0, "{ttls} rows of a purged bucket are due");
    cluster.finish().await
}
