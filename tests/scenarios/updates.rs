//! UPDATE and DELETE over batches, through indexes, inside BEGIN, and beside each other.

use std::collections::BTreeMap;
use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use lethe::resp::Reply;
use lethe::store::{Chaos, Error as StoreError};
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, fail, line};
use crate::seat::Seat;

const CONFLICT: &str =
    "NOT_COMMITTED Transaction not committed due to conflict with another transaction";
const TOO_OLD: &str = "TRANSACTION_TOO_OLD Transaction is too old to perform reads or be committed";
const INDEXES: &str =
    r#"{"n":{"bson_type":"int32","unique":true},"l":{"bson_type":"int32","multi_key":true}}"#;

/// Two nodes, and a bucket with so many documents whose `n` are their numbers.
async fn world(mutations: Mutations, documents: u32) -> Claim<Cluster> {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", &format!("BUCKET.CREATE b INDEXES {INDEXES}"), "OK").await?;
    let mut client = Seat::at(&cluster, "A");
    for n in 0..documents {
        client.done(&format!(r#"BUCKET.INSERT b DOCS {{"n":{n},"l":[{n},{}]}}"#, n + 1)).await?;
    }
    Ok(cluster)
}

/// The cursor of a batch and its items as lines.
fn batch(reply: &Reply) -> Claim<(i64, Vec<String>)> {
    if let Reply::Array(pair) = reply
        && let [Reply::Integer(id), Reply::Array(items)] = pair.as_slice()
    {
        return Ok((*id, items.iter().map(line).collect()));
    }
    Err(format!("no batch: {}", line(reply)))
}

/// Runs a change to its end, and tells how often it changed each document.
async fn to_the_end(client: &mut Seat, command: &str) -> Claim<BTreeMap<String, usize>> {
    let action = if command.starts_with("BUCKET.UPDATE") { "UPDATE" } else { "DELETE" };
    let (cursor, mut ids) = batch(&client.done(command).await?)?;
    let mut changed = BTreeMap::new();
    while !ids.is_empty() {
        for id in ids {
            *changed.entry(id).or_default() += 1;
        }
        ids = batch(&client.done(&format!("BUCKET.ADVANCE {action} {cursor}")).await?)?.1;
    }
    Ok(changed)
}

/// The change moves each document in the very index that finds it, in front of the cursor.
pub async fn each_document_is_changed_once_whatever_finds_it(mutations: Mutations) -> Claim {
    for order in ["", " SORTBY n ASC", " SORTBY n DESC"] {
        for (begin, end) in [("PING", "PING"), ("BEGIN", "COMMIT")] {
            for (filter, update) in [
                (r#"{"n":{"$gte":0}}"#, r#"{"$inc":{"n":100}}"#),
                (r#"{"n":{"$lt":1000}}"#, r#"{"$inc":{"n":-100}}"#),
                (r#"{"l":{"$gte":0}}"#, r#"{"$push":{"l":{"$each":[500,-1]}},"$inc":{"n":50}}"#),
            ] {
                let cluster = world(mutations, 30).await?;
                let mut client = Seat::at(&cluster, "B");
                client.done(begin).await?;
                let command = format!("BUCKET.UPDATE b {filter} {update} LIMIT 7{order}");
                let changed = to_the_end(&mut client, &command).await?;
                client.done(end).await?;
                claim!(
                    changed.len() == 30 && changed.values().all(|times| *times == 1),
                    "'{command}' changed {changed:?}"
                );
                let left = format!("BUCKET.COUNT b {{\"n\":{{\"$gte\":0,\"$lt\":{}}}}}", 30);
                client.expect(&left, "0").await?;
                cluster.finish().await?;
            }
        }
    }
    Ok(())
}

/// Indexes come and go between the batches of one cursor.
pub async fn a_change_goes_on_while_its_index_goes_and_comes(mutations: Mutations) -> Claim {
    let cluster = world(mutations, 30).await?;
    let mut client = Seat::at(&cluster, "B");
    let update = r#"BUCKET.UPDATE b {"n":{"$gte":0}} {"$inc":{"n":100}} LIMIT 10 SORTBY n ASC"#;
    let (cursor, first) = batch(&client.done(update).await?)?;
    client.done("BUCKET.INDEX DROP b selector:n.bsonType:INT32").await?;
    let advance = format!("BUCKET.ADVANCE UPDATE {cursor}");
    let (_, second) = batch(&client.done(&advance).await?)?;
    client.done(r#"BUCKET.INDEX CREATE b {"n":{"bson_type":"int32","name":"again"}}"#).await?;
    sleep(Duration::from_secs(5)).await;
    let mut all = [first, second].concat();
    loop {
        let (_, ids) = batch(&client.done(&advance).await?)?;
        if ids.is_empty() {
            break;
        }
        all.extend(ids);
    }
    let count = all.len();
    all.sort();
    all.dedup();
    claim!(count == 30 && all.len() == 30, "{count} changes of {} documents", all.len());
    client.expect(r#"BUCKET.COUNT b {"n":{"$gte":100,"$lt":130}}"#, "30").await?;
    cluster.finish().await
}

/// What a transaction changed it finds by the new values, and others do not before its COMMIT.
pub async fn a_transaction_finds_its_changes_through_indexes(mutations: Mutations) -> Claim {
    let cluster = world(mutations, 4).await?;
    let (mut client, mut other) = (Seat::at(&cluster, "B"), Seat::at(&cluster, "A"));
    client.expect("BEGIN", "OK").await?;
    client.done(r#"BUCKET.UPDATE b {"n":1} {"$set":{"n":50},"$pull":{"l":1}}"#).await?;
    client.expect_documents(r#"BUCKET.QUERY b {"n":50}"#, 1).await?;
    client.expect_documents(r#"BUCKET.QUERY b {"n":1}"#, 0).await?;
    client.expect(r#"BUCKET.COUNT b {"l":1}"#, "1").await?;
    // A value that was given up is free, one that another document has is not.
    client.done(r#"BUCKET.UPDATE b {"n":50} {"$inc":{"n":1},"$push":{"l":7}}"#).await?;
    client.done(r#"BUCKET.DELETE b {"n":2}"#).await?;
    client.done(r#"BUCKET.INSERT b DOCS {"n":2} {"n":1}"#).await?;
    client.expect_start(r#"BUCKET.INSERT b DOCS {"n":51}"#, "DUPLICATEKEY").await?;
    let refused = r#"BUCKET.UPDATE b {"n":{"$gte":0}} {"$set":{"n":9}}"#;
    client.expect_start(refused, "DUPLICATEKEY Duplicate key: 'n' 9").await?;
    client.expect_documents(r#"BUCKET.QUERY b {"n":9}"#, 0).await?;
    client.expect_documents(r#"BUCKET.QUERY b {"l":7}"#, 1).await?;
    client.expect("BUCKET.COUNT b", "5").await?;
    // An upsert finds what the transaction has made, and makes what it deleted.
    let upsert = |n| format!(r#"BUCKET.UPDATE b {{"n":{n}}} {{"$set":{{"x":1}},"upsert":true}}"#);
    client.done(&upsert(51)).await?;
    client.done(r#"BUCKET.DELETE b {"n":3}"#).await?;
    client.done(&upsert(3)).await?;
    client.expect(r#"BUCKET.COUNT b {"x":1}"#, "2").await?;
    other.expect("BUCKET.COUNT b", "4").await?;
    other.expect(r#"BUCKET.COUNT b {"n":1}"#, "1").await?;
    client.expect("COMMIT", "OK").await?;
    other.expect("BUCKET.COUNT b", "5").await?;
    other.expect(r#"BUCKET.COUNT b {"n":51}"#, "1").await?;
    other.expect(r#"BUCKET.COUNT b {"l":1}"#, "1").await?;
    cluster.finish().await
}

/// Ten megabytes and five seconds are for changes as for everything, and leave no trace of them.
pub async fn what_is_too_large_or_too_late_changes_nothing(mutations: Mutations) -> Claim {
    let cluster = world(mutations, 12).await?;
    let mut client = Seat::at(&cluster, "B");
    let large = "x".repeat(1_000_000);
    let update = format!(r#"BUCKET.UPDATE b {{}} {{"$set":{{"t":"{large}"}}}}"#);
    client.expect("BEGIN", "OK").await?;
    client.done(r#"BUCKET.UPDATE b {"n":0} {"$set":{"x":1}}"#).await?;
    let size = |text: String| text.parse::<u64>().map_err(fail);
    let before = size(client.say("GETAPPROXIMATESIZE").await)?;
    // A batch ends before it is too large; three of them are.
    let mut answers = vec![client.say(&update).await];
    while answers.len() < 5 && answers.last().is_some_and(|last| last.starts_with('[')) {
        answers.push(client.say("BUCKET.ADVANCE UPDATE 2").await);
    }
    let last = answers.pop().ok_or("nothing was asked")?;
    claim!(
        last.starts_with("TRANSACTION_TOO_LARGE Transaction exceeds byte limit"),
        "after {} batches: {last}",
        answers.len()
    );
    claim!(!answers.is_empty(), "not one batch went in");
    let after = size(client.say("GETAPPROXIMATESIZE").await)?;
    claim!(before < after && after <= 10_000_000, "{before} bytes became {after}");
    client.expect("ROLLBACK", "OK").await?;
    client.expect(r#"BUCKET.COUNT b {"t":{"$exists":true}}"#, "0").await?;
    client.expect(r#"BUCKET.COUNT b {"x":1}"#, "0").await?;
    // Outside the same goes through, batch by batch.
    let changed = to_the_end(&mut client, &update).await?;
    claim!(changed.len() == 12 && changed.values().all(|times| *times == 1), "{changed:?}");
    for command in [
        r#"BUCKET.UPDATE b {} {"$set":{"x":1}}"#,
        "BUCKET.DELETE b {}",
        "BUCKET.ADVANCE DELETE 99",
        "BUCKET.COUNT b",
    ] {
        client.expect("BEGIN", "OK").await?;
        client.done(r#"BUCKET.UPDATE b {"n":1} {"$set":{"late":1}}"#).await?;
        let open = batch(&client.done("BUCKET.DELETE b {} LIMIT 1").await?)?.0;
        sleep(Duration::from_millis(5_100)).await;
        client.expect(&command.replace("99", &open.to_string()), TOO_OLD).await?;
        client.expect("COMMIT", TOO_OLD).await?;
    }
    client.expect(r#"BUCKET.COUNT b {"late":1}"#, "0").await?;
    client.expect("BUCKET.COUNT b", "12").await?;
    cluster.finish().await
}

/// What COMMIT and ROLLBACK mean for the batches before, a cursor goes on behind them.
pub async fn cursors_of_changes_go_on_after_the_transaction(mutations: Mutations) -> Claim {
    for (end, kept) in [("COMMIT", true), ("ROLLBACK", false)] {
        for (action, command) in [
            ("UPDATE", r#"BUCKET.UPDATE b {"x":{"$exists":false}} {"$set":{"x":1}} LIMIT 2"#),
            ("DELETE", r#"BUCKET.DELETE b {"x":{"$exists":false}} LIMIT 2"#),
        ] {
            let cluster = world(mutations, 7).await?;
            let mut client = Seat::at(&cluster, "B");
            client.expect("BEGIN", "OK").await?;
            let (cursor, first) = batch(&client.done(command).await?)?;
            client.expect(end, "OK").await?;
            let advance = format!("BUCKET.ADVANCE {action} {cursor}");
            let mut all = first.clone();
            all.extend(batch(&client.done(&advance).await?)?.1);
            // And from outside into the next.
            client.expect("BEGIN", "OK").await?;
            all.extend(batch(&client.done(&advance).await?)?.1);
            client.expect("COMMIT", "OK").await?;
            all.extend(batch(&client.done(&advance).await?)?.1);
            let count = all.len();
            all.sort();
            all.dedup();
            claim!(count == 7 && all.len() == 7, "{end}, {action}: {all:?}");
            let left = if kept { 0 } else { first.len() };
            let left = left.to_string();
            client.expect(r#"BUCKET.COUNT b {"x":{"$exists":false}}"#, &left).await?;
            cluster.finish().await?;
        }
    }
    Ok(())
}

/// Each moves what the other looks for. One after the other, the second finds both.
pub async fn changes_that_look_for_what_the_other_makes_do_not_miss_it(
    mutations: Mutations,
) -> Claim {
    for (label, late, left) in [
        ("update", r#"BUCKET.UPDATE b {"k":1} {"$set":{"k":2}}"#, 2),
        ("delete", r#"BUCKET.DELETE b {"k":1}"#, 0),
    ] {
        let cluster = world(mutations, 0).await?;
        cluster.run("A", r#"BUCKET.INSERT b DOCS {"n":1,"k":1} {"n":2,"k":2}"#).await?;
        let held = cluster.hold("B", label);
        let late = cluster.ask("B", late);
        held.arrived().await;
        let moved = cluster.run("A", r#"BUCKET.UPDATE b {"k":2} {"$set":{"k":1}}"#).await?;
        claim!(batch(&moved)?.1.len() == 1, "nothing was in its way: {}", line(&moved));
        let landed = held.release();
        claim!(matches!(landed, Some(Err(StoreError::Conflict))), "it missed one: {landed:?}");
        let changed = batch(&late.answer().await?)?.1.len();
        claim!(changed == 2, "{label}: {changed} changed instead of both");
        cluster.expect("A", r#"BUCKET.COUNT b {"k":2}"#, &left.to_string()).await?;
        cluster.finish().await?;
    }
    Ok(())
}

/// However many upserts run at once and whatever goes wrong, one inserts and all apply.
pub async fn of_many_upserts_one_inserts(mutations: Mutations) -> Claim {
    let cluster = world(mutations, 0).await?;
    for seed in 0..10_u64 {
        cluster
            .chaos(Some(Chaos { delay_max: Duration::from_millis(20), ..Chaos::with_seed(seed) }));
        let command = format!(
            r#"BUCKET.UPDATE b {{"n":{seed}}} {{"$push":{{"l":1}},"$inc":{{"c":1}},"upsert":true}}"#
        );
        let asked: Vec<_> =
            (0..6).map(|client| cluster.ask(["A", "B"][client % 2], &command)).collect();
        let mut applied = 0;
        for asked in asked {
            let reply = asked.answer().await?;
            match batch(&reply) {
                Ok((_, ids)) => applied += ids.len(),
                Err(_) if line(&reply).starts_with("NOT_COMMITTED") => {}
                Err(other) => return Err(other),
            }
        }
        cluster.chaos(None);
        let found =
            format!(r#"BUCKET.COUNT b {{"n":{seed},"c":{applied},"l":{{"$size":{applied}}}}}"#);
        cluster.expect("A", &found, "1").await?;
        cluster.expect("A", &format!(r#"BUCKET.COUNT b {{"n":{seed}}}"#), "1").await?;
    }
    // Inside BEGIN the later COMMIT conflicts, whether the filter has an index or not.
    for field in ["n", "k"] {
        let upsert =
            format!(r#"BUCKET.UPDATE b {{"{field}":99}} {{"$set":{{"x":1}},"upsert":true}}"#);
        let (mut one, mut two) = (Seat::at(&cluster, "A"), Seat::at(&cluster, "B"));
        for client in [&mut one, &mut two] {
            client.expect("BEGIN", "OK").await?;
            client.done(&upsert).await?;
        }
        two.expect("COMMIT", "OK").await?;
        one.expect("COMMIT", CONFLICT).await?;
        one.expect(&format!(r#"BUCKET.COUNT b {{"{field}":99}}"#), "1").await?;
        one.done(&format!(r#"BUCKET.DELETE b {{"{field}":99}}"#)).await?;
    }
    cluster.finish().await
}

/// What is inserted into a part that an upsert has searched already, between two of its batches or
/// while its last one commits, is what it changes. Where nothing comes, it inserts, also when
/// others write elsewhere in the bucket.
pub async fn an_upsert_that_searches_in_several_batches_inserts_no_second(
    mutations: Mutations,
) -> Claim {
    #[derive(Clone, Copy, PartialEq)]
    enum Comes {
        Nothing,
        Other,
        Between,
        AtTheCommit,
    }
    const UPSERT: &str = r#"BUCKET.UPDATE b {"k":"x"} {"$inc":{"c":1},"upsert":true}"#;
    // In front of all others.
    const ONE: &str = r#"BUCKET.INSERT b DOCS {"_id":"000000000000000000000001","k":"x","n":-1}"#;
    for comes in [Comes::Nothing, Comes::Other, Comes::Between, Comes::AtTheCommit] {
        for (begin, end) in [("PING", "PING"), ("BEGIN", "COMMIT")] {
            if begin == "BEGIN" && comes == Comes::AtTheCommit {
                // One transaction from the first batch on: it is its COMMIT that fails.
                continue;
            }
            let cluster =
                Cluster::with(&["A", "B"], mutations, |config| config.query.examined_max = 5);
            let cluster = cluster.await?;
            cluster.expect("A", "BUCKET.CREATE b", "OK").await?;
            let (mut client, mut other) = (Seat::at(&cluster, "A"), Seat::at(&cluster, "B"));
            for n in 0..12 {
                other.done(&format!(r#"BUCKET.INSERT b DOCS {{"n":{n}}}"#)).await?;
            }
            let (cursor, ids) = batch(&client.done(UPSERT).await?)?;
            claim!(ids.is_empty(), "{ids:?} after the first batch");
            match comes {
                Comes::Nothing | Comes::AtTheCommit => {}
                Comes::Other => drop(other.done(r#"BUCKET.INSERT b DOCS {"k":"y"}"#).await?),
                Comes::Between => drop(other.done(ONE).await?),
            }
            client.done(begin).await?;
            let mut held = (comes == Comes::AtTheCommit).then(|| cluster.hold("A", "update"));
            let advance = format!("BUCKET.ADVANCE UPDATE {cursor}");
            let mut changed = Vec::new();
            for _ in 0..12 {
                let (mut asking, line) = (client, advance.clone());
                let asked = tokio::spawn(async move {
                    let reply = asking.done(&line).await;
                    (asking, reply)
                });
                tokio::pin!(asked);
                let (back, reply) = loop {
                    let arrived = async {
                        match &mut held {
                            Some(held) => held.arrived().await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        answer = &mut asked => break answer.map_err(fail)?,
                        () = arrived => {}
                    }
                    other.done(ONE).await?;
                    if let Some(held) = held.take() {
                        held.release();
                    }
                };
                client = back;
                changed.extend(batch(&reply?)?.1);
            }
            client.done(end).await?;
            claim!(changed.len() == 1, "{changed:?} changed");
            cluster.expect("A", r#"BUCKET.COUNT b {"k":"x"}"#, "1").await?;
            cluster.expect("B", r#"BUCKET.COUNT b {"k":"x","c":1}"#, "1").await?;
            let own = if matches!(comes, Comes::Between | Comes::AtTheCommit) { "1" } else { "0" };
            cluster.expect("B", r#"BUCKET.COUNT b {"k":"x","n":-1}"#, own).await?;
            drop(held);
            cluster.finish().await?;
        }
    }
    Ok(())
}

/// Who looks at all documents comes to an end though others insert all the time.
pub async fn a_change_of_everything_gets_through_beside_inserts(mutations: Mutations) -> Claim {
    for (label, command) in [
        ("update", r#"BUCKET.UPDATE b {"x":1} {"$set":{"x":2}}"#),
        ("delete", r#"BUCKET.DELETE b {"x":1}"#),
    ] {
        let cluster = world(mutations, 0).await?;
        let mut other = Seat::at(&cluster, "A");
        let insert = |n: u32| format!(r#"BUCKET.INSERT b DOCS {{"n":{n},"x":1}}"#);
        for n in 0..5 {
            other.done(&insert(n)).await?;
        }
        let mut held = cluster.hold("B", label);
        let mut client = Seat::at(&cluster, "B");
        let mut change = tokio::spawn(async move {
            let reply = client.ask(command).await;
            (client, reply)
        });
        let (mut n, mut tried) = (5, 0);
        let (mut client, reply) = loop {
            tokio::select! {
                changed = &mut change => break changed.map_err(fail)?,
                () = held.arrived() => {}
            }
            other.done(&insert(n)).await?;
            let next = cluster.hold("B", label);
            let landed = std::mem::replace(&mut held, next).release();
            tried += 1;
            n += 1;
            claim!(tried < 20, "it never got through: {landed:?}");
        };
        drop(held);
        let (cursor, ids) = batch(&reply)?;
        // All that was there when this attempt began; the cursor goes on with what came after.
        claim!(ids.len() == 21 && tried == 17, "{} changed at attempt {tried}", ids.len());
        let action = label.to_ascii_uppercase();
        let rest = batch(&client.done(&format!("BUCKET.ADVANCE {action} {cursor}")).await?)?.1;
        claim!(rest.len() == 1, "{} changed by the second batch", rest.len());
        client.expect(r#"BUCKET.COUNT b {"x":1}"#, "0").await?;
        cluster.finish().await?;
    }
    Ok(())
}
