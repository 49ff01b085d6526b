//! Transactions of sessions, and what happens on other nodes between their
//! commands and their COMMIT.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::codec::keys;
use lethe::codec::record::{self, BucketRecord, IndexField, IndexRecord, IndexStatus, IndexType};
use lethe::metadata::bucket::invalidate;
use lethe::resp::Reply;
use lethe::store::{Read, key_after};
use tokio::time::sleep;

use crate::cluster::{AT_ONCE, Claim, Cluster, claim, fail, line};
use crate::seat::Seat;

const REMOVED: &str = "BUCKETBEINGREMOVED Bucket 'b' is being removed";
const GONE: &str = "NOSUCHBUCKET No such bucket: 'b'";
const CONFLICT: &str =
    "NOT_COMMITTED Transaction not committed due to conflict with another transaction";
const TOO_OLD: &str = "TRANSACTION_TOO_OLD Transaction is too old to perform reads or be committed";
const NONE_OPEN: &str = "TRANSACTION there is no transaction in progress.";

async fn two_nodes(mutations: Mutations) -> Claim<Cluster> {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    for bucket in ["b", "c"] {
        cluster.expect("A", &format!("BUCKET.CREATE {bucket}"), "OK").await?;
    }
    cluster.insert("B", "b", 1).await?;
    Ok(cluster)
}

/// Puts an index on a field of an empty bucket, as it is once it is built.
pub async fn index(cluster: &Cluster, bucket: &str, field: &str) -> Claim {
    let id = cluster.id("A", bucket).await?;
    let txn = cluster.store().begin("index");
    let key = keys::bucket_record(id);
    let value = txn.get(&key, Read::Conflict).await.map_err(fail)?.ok_or("no record")?;
    let mut record: BucketRecord = record::decode("bucket/record", &value).map_err(fail)?;
    record.next_index += 1;
    record.indexes.push(IndexRecord {
        id: record.next_index,
        name: field.to_owned(),
        fields: vec![IndexField {
            selector: field.to_owned(),
            bson_type: IndexType::Int32,
            descending: false,
            multi_key: false,
        }],
        unique: false,
        collation: None,
        collation_data: String::new(),
        status: IndexStatus::Ready,
        created_at: 0,
    });
    record.next_index += 1;
    txn.set(&key, &record::encode(&record)).map_err(fail)?;
    invalidate(&txn, id.0).map_err(fail)?;
    txn.commit().await.map_err(fail)?;
    Ok(())
}

/// A query through an index sees the transaction's own documents, claims that
/// no other comes where it has looked, and claims nothing about the rest.
pub async fn queries_through_an_index_see_and_claim_what_they_look_for(
    mutations: Mutations,
) -> Claim {
    let cluster = two_nodes(mutations).await?;
    let (mut client, mut other) = (Seat::at(&cluster, "B"), Seat::at(&cluster, "A"));
    for (number, (elsewhere, expected)) in
        [(7, "OK"), (3, "OK"), (2, CONFLICT), (0, CONFLICT)].into_iter().enumerate()
    {
        let bucket = format!("i{number}");
        cluster.expect("A", &format!("BUCKET.CREATE {bucket}"), "OK").await?;
        index(&cluster, &bucket, "k").await?;
        let point = format!(r#"BUCKET.QUERY {bucket} {{"k":1}}"#);
        let range = format!(r#"BUCKET.QUERY {bucket} {{"k":{{"$lt":3}}}}"#);
        let insert = format!("BUCKET.INSERT {bucket} DOCS ");
        client.done(&(insert.clone() + r#"{"k":1} {"k":1} {"k":2} {"k":3}"#)).await?;
        client.expect("BEGIN", "OK").await?;
        client.expect_documents(&point, 2).await?;
        client.done(&(insert.clone() + r#"{"k":1} {"k":9}"#)).await?;
        client.expect_documents(&point, 3).await?;
        client.expect_documents(&range, 4).await?;
        other.done(&(insert + &format!(r#"{{"k":{elsewhere}}}"#))).await?;
        client.expect_documents(&range, 4).await?;
        let answer = client.say("COMMIT").await;
        claim!(answer == expected, "after an insert of {elsewhere} COMMIT answered '{answer}'");
    }
    cluster.finish().await
}

/// REMOVE between a command and COMMIT, also where the node's follower sleeps:
/// only the fence is to be trusted. Writing or only reading, nothing commits.
pub async fn a_removal_before_the_commit_is_what_the_commit_answers(mutations: Mutations) -> Claim {
    for (paused, writes, purged) in
        [(false, true, false), (true, true, false), (false, false, false), (false, true, true)]
    {
        let cluster = two_nodes(mutations).await?;
        let mut client = Seat::at(&cluster, "B");
        client.expect("BEGIN", "OK").await?;
        client.done("BUCKET.INSERT c DOCS {}").await?;
        client.expect_documents("BUCKET.QUERY b {}", 1).await?;
        if writes {
            client.done("BUCKET.INSERT b DOCS {}").await?;
        }
        if paused {
            cluster.pause("B");
        }
        let removed = cluster.remove("A", "b").await?;
        let mut expected = REMOVED;
        if purged {
            // The purge does not wait for a transaction that the fence has made harmless.
            cluster.expect("A", "BUCKET.PURGE b", "OK").await?;
            expected = GONE;
        }
        client.expect("BUCKET.QUERY b {}", expected).await?;
        client.expect("BUCKET.INSERT b DOCS {}", expected).await?;
        let answer = client.say("COMMIT").await;
        claim!(answer == expected, "a write to a bucket landed after its REMOVE: '{answer}'");
        client.expect("COMMIT", NONE_OPEN).await?;
        client.expect_documents("BUCKET.QUERY c {}", 0).await?;
        if purged {
            claim!(cluster.raw_scan(removed.bucket).await? == 0, "the transaction has left keys");
        } else {
            claim!(cluster.documents(removed.bucket).await? == 1, "documents of a removed bucket");
        }
        if paused {
            cluster.resume("B");
        }
        cluster.finish().await?;
    }
    Ok(())
}

/// A transaction that only reads commits nothing, and hears of the removal all the same.
pub async fn a_reader_hears_of_a_removal_at_its_commit(mutations: Mutations) -> Claim {
    let cluster = two_nodes(mutations).await?;
    let mut client = Seat::at(&cluster, "B");
    client.expect("BEGIN", "OK").await?;
    client.expect_documents("BUCKET.QUERY b {}", 1).await?;
    cluster.remove("A", "b").await?;
    client.expect("COMMIT", REMOVED).await?;
    cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
    client.expect("BEGIN", "OK").await?;
    client.expect_documents("BUCKET.QUERY b {}", 1).await?;
    client.expect("COMMIT RETURNING committed-version", "-1").await?;
    cluster.finish().await
}

/// RENAME, and a RESTORE right after a REMOVE: what the transaction did is not
/// committed, and the same again is about what the name means now.
pub async fn renames_and_restores_before_the_commit_make_it_conflict(
    mutations: Mutations,
) -> Claim {
    let cluster = two_nodes(mutations).await?;
    let mut client = Seat::at(&cluster, "B");
    let insert = "BUCKET.INSERT b DOCS {}";
    client.expect("BEGIN", "OK").await?;
    client.done(insert).await?;
    cluster.expect("A", "BUCKET.REMOVE b", "OK").await?;
    cluster.expect("A", "BUCKET.RESTORE b", "OK").await?;
    client.expect("COMMIT", CONFLICT).await?;
    client.expect("BEGIN", "OK").await?;
    client.done(insert).await?;
    client.expect("COMMIT", "OK").await?;
    // Renamed away: the name means nothing, and then another bucket.
    let old = cluster.id("A", "b").await?;
    for (then, expected) in [(None, GONE), (Some("BUCKET.CREATE b"), CONFLICT)] {
        client.expect("BEGIN", "OK").await?;
        client.done(insert).await?;
        cluster.expect("A", "BUCKET.RENAME b other", "OK").await?;
        if let Some(then) = then {
            cluster.expect("A", then, "OK").await?;
        }
        client.expect("COMMIT", expected).await?;
        if then.is_none() {
            cluster.expect("A", "BUCKET.RENAME other b", "OK").await?;
        }
    }
    claim!(cluster.documents(old).await? == 2, "a write landed in a bucket of another name");
    client.expect_documents("BUCKET.QUERY b {}", 0).await?;
    cluster.finish().await
}

/// What commits a transaction is checked against exactly what it has used.
pub async fn the_conflicts_of_a_transaction_are_what_it_has_read(mutations: Mutations) -> Claim {
    let cluster = two_nodes(mutations).await?;
    let mut client = Seat::at(&cluster, "B");
    client.expect("BEGIN", "OK").await?;
    client.expect_documents("BUCKET.QUERY b {}", 1).await?;
    client.done(r#"BUCKET.INSERT c DOCS {"_id":"6835a1c0e4b0f72a3c000001"}"#).await?;
    let held = cluster.hold("B", "transaction");
    let commit = tokio::spawn(async move { client.say("COMMIT").await });
    held.arrived().await;
    let (reads, writes) = held.conflicts().ok_or("no commit is held")?;
    let (b, c) = (cluster.id("A", "b").await?, cluster.id("A", "c").await?);
    let point = |key: Vec<u8>| (key.clone(), key_after(&key));
    let id = [0x68, 0x35, 0xa1, 0xc0, 0xe4, 0xb0, 0xf7, 0x2a, 0x3c, 0, 0, 1];
    for key in [keys::fence(b.0), keys::fence(c.0), keys::document(c, &id)] {
        claim!(reads.contains(&point(key.clone())), "{key:?} is not among the read conflicts");
    }
    let all = keys::range(&keys::data_part(b, keys::data::DOCUMENT));
    claim!(reads.contains(&all), "the query's range is not among the read conflicts: no phantoms");
    let slots = keys::kind_prefix(keys::kind::ATTEMPT);
    let slot = |ranges: &[(Vec<u8>, Vec<u8>)]| {
        ranges.iter().filter(|(from, _)| from.starts_with(&slots)).count()
    };
    claim!(slot(&reads) == 1 && slot(&writes) == 1, "the attempt slot is not read and written");
    // Both buckets, their namespace, the document that was chosen, the range, the slot, and the user.
    claim!(
        reads.contains(&point(keys::user("default"))),
        "the user is not among the read conflicts"
    );
    claim!(reads.len() == 7, "{} read conflicts: {reads:?}", reads.len());
    held.release();
    let answer = commit.await.map_err(fail)?;
    claim!(answer == "OK", "COMMIT answered '{answer}'");
    cluster.finish().await
}

/// Write skew: each reads what the other writes. With SNAPSHOTREAD both may commit.
pub async fn of_two_that_read_what_the_other_writes_one_commits(mutations: Mutations) -> Claim {
    for (switch, second) in [("OFF", CONFLICT), ("ON", "OK")] {
        let cluster = two_nodes(mutations).await?;
        let (mut one, mut two) = (Seat::at(&cluster, "A"), Seat::at(&cluster, "B"));
        for (client, reads, writes) in [(&mut one, "b", "c"), (&mut two, "c", "b")] {
            client.expect(&format!("SNAPSHOTREAD {switch}"), "OK").await?;
            client.expect("BEGIN", "OK").await?;
            client.done(&format!("BUCKET.QUERY {reads} {{}}")).await?;
            client.done(&format!("BUCKET.INSERT {writes} DOCS {{}}")).await?;
        }
        one.expect("COMMIT", "OK").await?;
        two.expect("COMMIT", second).await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// Cursors belong to the session, not to the transaction.
pub async fn cursors_go_on_after_the_transaction(mutations: Mutations) -> Claim {
    for (end, left) in [("COMMIT", 2), ("ROLLBACK", 1)] {
        let cluster = two_nodes(mutations).await?;
        cluster.insert("A", "b", 2).await?;
        let mut client = Seat::at(&cluster, "B");
        client.expect("BEGIN", "OK").await?;
        client.done("BUCKET.INSERT b DOCS {}").await?;
        client.expect_documents("BUCKET.QUERY b {} LIMIT 1", 1).await?;
        client.expect(end, "OK").await?;
        client.expect_documents("BUCKET.ADVANCE QUERY 1", 1).await?;
        let rest = client.done("BUCKET.ADVANCE QUERY 1").await?;
        let expected = left - 1;
        let Reply::Array(pair) = &rest else { return Err(line(&rest)) };
        claim!(
            matches!(pair.get(1), Some(Reply::Array(documents)) if documents.len() == expected),
            "after {end} the cursor gave '{}'",
            line(&rest)
        );
        // And one from outside goes on inside, where it sees what is written there.
        client.expect_documents("BUCKET.QUERY b {} LIMIT 1", 1).await?;
        client.expect("BEGIN", "OK").await?;
        client.done("BUCKET.INSERT b DOCS {}").await?;
        client.expect("SESSION.CLOSE", "OK").await?;
        client.expect("COMMIT", NONE_OPEN).await?;
        client.expect_documents("BUCKET.QUERY b {}", left + 1).await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// A commit whose result is unknown is found, or made sure never to land.
pub async fn an_unknown_commit_is_found_out(mutations: Mutations) -> Claim {
    let cluster = two_nodes(mutations).await?;
    let mut client = Seat::at(&cluster, "B");
    let id = cluster.id("A", "b").await?;
    // It lands while its result is being looked for.
    client.expect("BEGIN", "OK").await?;
    client.done("BUCKET.INSERT b DOCS {}").await?;
    let lost = cluster.lose("B", "transaction");
    let committing = tokio::spawn(async move {
        let reply = client.ask("COMMIT RETURNING versionstamp").await;
        (client, reply)
    });
    lost.arrived().await;
    let landed = lost.land().ok_or("no commit was lost")?.map_err(fail)?;
    let (mut client, reply) = committing.await.map_err(fail)?;
    let stamp = landed.versionstamp.ok_or("a commit without a versionstamp")?;
    let same = matches!(&reply, Reply::Bulk(bytes) if **bytes == *stamp.as_bytes());
    claim!(same, "COMMIT answered '{}'", line(&reply));
    claim!(cluster.documents(id).await? == 2, "the commit did not land once");
    // It does not land.
    client.expect("BEGIN", "OK").await?;
    client.done("BUCKET.INSERT b DOCS {}").await?;
    let lost = cluster.lose("B", "transaction");
    client.expect("COMMIT", CONFLICT).await?;
    let late = lost.land().ok_or("no commit was lost")?;
    claim!(late.is_err(), "a commit landed that was answered as not committed");
    claim!(cluster.documents(id).await? == 2, "a commit landed twice");
    // Only a node that was put out cannot know any more.
    client.expect("BEGIN", "OK").await?;
    client.done("BUCKET.INSERT b DOCS {}").await?;
    cluster.pause("B");
    while cluster.is_member("B").await? {
        // The transaction lives shorter than the lease: a new one each time.
        client.expect("ROLLBACK", "OK").await?;
        sleep(Duration::from_millis(500)).await;
        client.expect("BEGIN", "OK").await?;
        client.done("BUCKET.INSERT b DOCS {}").await?;
    }
    let lost = cluster.lose("B", "transaction");
    let unknown = "COMMIT_UNKNOWN_RESULT Transaction may or may not have committed";
    client.expect("COMMIT", unknown).await?;
    drop(lost);
    client.expect("COMMIT", NONE_OPEN).await
}

/// `COMMIT OPID` is answered again on another node, and a commit that nobody
/// found never lands after that was said.
pub async fn a_commit_is_safe_to_send_again(mutations: Mutations) -> Claim {
    let cluster = two_nodes(mutations).await?;
    let (mut one, mut two) = (Seat::at(&cluster, "A"), Seat::at(&cluster, "B"));
    let id = cluster.id("A", "b").await?;
    let commit = "COMMIT RETURNING versionstamp OPID first";
    one.expect("BEGIN", "OK").await?;
    one.done("BUCKET.INSERT b DOCS {}").await?;
    let stamp = one.done(commit).await?;
    let again = two.done(commit).await?;
    claim!(stamp == again, "'{}' and then '{}'", line(&stamp), line(&again));
    two.expect("COMMIT OPID first", "ERR OPID 'first' was already used for another command")
        .await?;
    // The whole transaction again: nothing of it is committed, the answer is the old one.
    two.expect("BEGIN", "OK").await?;
    two.done("BUCKET.INSERT b DOCS {}").await?;
    let again = two.done(commit).await?;
    claim!(stamp == again, "'{}' and then '{}'", line(&stamp), line(&again));
    claim!(cluster.documents(id).await? == 2, "a transaction that was sent again ran again");
    two.expect("COMMIT", NONE_OPEN).await?;
    // One is under way on A when B is asked: B says that there is none, and it never lands.
    one.expect("BEGIN", "OK").await?;
    one.done("BUCKET.INSERT b DOCS {}").await?;
    let held = cluster.hold("A", "transaction");
    let committing = tokio::spawn(async move { one.say("COMMIT OPID second").await });
    held.arrived().await;
    two.expect("COMMIT OPID second", NONE_OPEN).await?;
    held.release();
    let answer = committing.await.map_err(fail)?;
    claim!(answer == CONFLICT, "COMMIT answered '{answer}' after B had been told otherwise");
    claim!(cluster.documents(id).await? == 2, "it landed all the same");
    // An insert with an operation id: its row is part of the transaction.
    let insert = "BUCKET.INSERT b OPID third DOCS {}";
    two.expect("BEGIN", "OK").await?;
    let first = two.done(insert).await?;
    claim!(two.done(insert).await? == first, "the same insert made another document");
    two.expect("ROLLBACK", "OK").await?;
    let mut three = Seat::at(&cluster, "A");
    let second = three.done(insert).await?;
    claim!(second != first, "what was rolled back was remembered");
    claim!(two.done(insert).await? == second, "the same insert made another document");
    claim!(cluster.documents(id).await? == 3, "documents of b");
    cluster.finish().await
}

/// Five seconds from the first read, on the clock of tests.
pub async fn an_old_transaction_answers_so_and_keeps_nothing(mutations: Mutations) -> Claim {
    let cluster = two_nodes(mutations).await?;
    let mut client = Seat::at(&cluster, "B");
    // Time begins with the first read.
    client.expect("BEGIN", "OK").await?;
    sleep(Duration::from_secs(60)).await;
    client.done("BUCKET.INSERT b DOCS {}").await?;
    sleep(Duration::from_millis(4_900)).await;
    client.expect("COMMIT", "OK").await?;
    for command in ["BUCKET.QUERY b {}", "BUCKET.INSERT b DOCS {}", "GETREADVERSION"] {
        client.expect("BEGIN", "OK").await?;
        client.done(command).await?;
        sleep(Duration::from_millis(5_100)).await;
        client.expect("GETAPPROXIMATESIZE", "0").await?;
        client.expect("BUCKET.QUERY b {}", TOO_OLD).await?;
        client.expect("BUCKET.INSERT b DOCS {}", TOO_OLD).await?;
        client.expect("COMMIT", TOO_OLD).await?;
        client.expect("COMMIT", NONE_OPEN).await?;
    }
    client.expect_documents("BUCKET.QUERY b {}", 2).await?;
    cluster.finish().await
}

/// What is too much is refused, leaves no trace, and the rest commits.
pub async fn a_command_that_fails_leaves_no_trace(mutations: Mutations) -> Claim {
    let cluster = two_nodes(mutations).await?;
    let mut client = Seat::at(&cluster, "B");
    let large = format!(r#"BUCKET.INSERT b DOCS {{"t":"{}"}}"#, "x".repeat(6_000_000));
    client.expect("BEGIN", "OK").await?;
    client.done(&large).await?;
    let size = async |client: &mut Seat| -> Claim<u64> {
        client.say("GETAPPROXIMATESIZE").await.parse().map_err(fail)
    };
    let before = size(&mut client).await?;
    client.expect_start(&large, "TRANSACTION_TOO_LARGE Transaction exceeds byte limit").await?;
    // What it has read before it was refused stays among the conflicts.
    let after = size(&mut client).await?;
    claim!((before..before + 1_000).contains(&after), "{before} bytes became {after}");
    let id = |n: u32| format!(r#"{{"_id":"6835a1c0e4b0f72a3c{n:06x}"}}"#);
    client.done(&format!("BUCKET.INSERT c DOCS {}", id(1))).await?;
    let twice = format!("BUCKET.INSERT c DOCS {} {} {}", id(2), id(3), id(1));
    client.expect_start(&twice, "DUPLICATEKEY").await?;
    client.expect_documents("BUCKET.QUERY c {}", 1).await?;
    client.expect_start("BUCKET.QUERY nope {}", "NOSUCHBUCKET").await?;
    client.expect_start("BUCKET.REMOVE c", "ERR BUCKET.REMOVE is not allowed").await?;
    client.expect("COMMIT", "OK").await?;
    client.expect_documents("BUCKET.QUERY b {}", 2).await?;
    client.expect_documents("BUCKET.QUERY c {}", 1).await?;
    // `finish` compares counters and documents: nothing was counted that was taken back.
    cluster.finish().await
}

/// However a client leaves, nothing of its transaction remains.
pub async fn a_client_that_leaves_rolls_back(mutations: Mutations) -> Claim {
    let mut cluster = two_nodes(mutations).await?;
    for how in ["hang up", "SESSION.CLOSE", "RESET", "crash"] {
        let before = cluster.store().stats().open_transactions;
        let mut client = Seat::at(&cluster, "B");
        client.expect("SNAPSHOTREAD ON", "OK").await?;
        client.expect("BEGIN", "OK").await?;
        client.done("BUCKET.INSERT b DOCS {}").await?;
        client.done(r#"BUCKET.UPDATE b {} {"$set":{"x":1}} LIMIT 1"#).await?;
        client.done("BUCKET.DELETE b {}").await?;
        match how {
            "hang up" => drop(client),
            "crash" => {
                cluster.restart("B").await?;
                drop(client);
            }
            command => {
                client.done(command).await?;
                client.expect("COMMIT", NONE_OPEN).await?;
            }
        }
        if how != "crash" {
            // Beside it those that nodes have open for themselves.
            let gone = async || Ok(cluster.store().stats().open_transactions <= before);
            cluster.eventually(&format!("after {how} it is closed"), AT_ONCE, gone).await?;
        }
        let mut other = Seat::at(&cluster, "A");
        other.expect_documents("BUCKET.QUERY b {}", 1).await?;
        other.expect_documents(r#"BUCKET.QUERY b {"x":1}"#, 0).await?;
    }
    cluster.finish().await
}
