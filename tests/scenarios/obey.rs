//! What has become of a user counts at once, and who is nobody yet gets little.

use std::net::SocketAddr;
use std::time::Duration;

use lethe::config::UserRules;

use crate::cluster::{Claim, Cluster, claim, fail, line};
use crate::rights::{ada_at, start, with_ada};
use crate::seat::Seat;
use crate::smoke::Connection;

here_in_memory! {
    what_a_command_turns_out_to_need_is_judged_by_who_the_user_is_now
    a_password_for_everybody_counts_at_once_for_those_who_gave_none
    who_was_switched_off_has_to_log_in_again
    a_vacuum_and_what_a_replica_applies_obey_at_once
    a_stranger_may_not_send_much
    a_bucket_that_deletes_for_good_is_made_only_by_who_may_purge
    what_was_refused_stands_in_the_log_as_what_it_was
}

async fn what_a_command_turns_out_to_need_is_judged_by_who_the_user_is_now() -> Claim {
    let rules = "~global +@read +@write +@remove +@restore +@purge";
    let cluster = with_ada(&["A", "B"], rules).await?;
    cluster.expect("A", "BUCKET.CREATE users", "OK").await?;
    cluster.expect("A", "BUCKET.CREATE kept", "OK").await?;
    cluster.expect("A", "NAMESPACE POLICY global SET retention 60d", "OK").await?;
    cluster.expect("A", "BUCKET.REMOVE users", "OK").await?;
    let mut ada = ada_at(&cluster, "B").await?;
    ada.expect("BUCKET.RETAIN users 50d", "OK").await?;
    cluster.expect("A", "ACL SETUSER ada -@purge", "OK").await?;
    // The node of hers knows her as she was.
    for command in ["BUCKET.RETAIN users 1d", "BUCKET.REMOVE kept RETAIN 30d"] {
        let said = ada.say(command).await;
        claim!(said.ends_with("it takes @purge"), "'{command}' answered '{said}'");
    }
    cluster.finish().await
}

async fn a_password_for_everybody_counts_at_once_for_those_who_gave_none() -> Claim {
    let cluster = Cluster::new(&["A", "B"]).await?;
    cluster.expect("A", "BUCKET.CREATE users", "OK").await?;
    let mut silent = Seat::at(&cluster, "B");
    silent.done("BUCKET.INSERT users DOCS {}").await?;
    let mut root = Seat::at(&cluster, "A");
    root.expect("ACL SETUSER root on >geheim ~* +@all", "OK").await?;
    root.expect("AUTH root geheim", "OK").await?;
    root.expect("ACL SETUSER default resetpass >offen", "OK").await?;
    // Not even a watch has had time to fire.
    silent.expect("BUCKET.INSERT users DOCS {}", "NOAUTH Authentication required.").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    silent.expect("AUTH offen", "OK").await?;
    silent.expect_documents("BUCKET.QUERY users {}", 1).await?;
    root.expect("ACL SETUSER default nopass", "OK").await?;
    cluster.finish().await
}

async fn who_was_switched_off_has_to_log_in_again() -> Claim {
    let cluster = with_ada(&["A"], "~global +@read").await?;
    let mut ada = ada_at(&cluster, "A").await?;
    ada.done("BUCKET.LIST").await?;
    cluster.expect("A", "ACL SETUSER ada off", "OK").await?;
    cluster.expect("A", "ACL SETUSER ada on", "OK").await?;
    ada.expect("BUCKET.LIST", "NOAUTH Authentication required.").await?;
    ada.expect("AUTH ada geheim", "OK").await?;
    ada.done("BUCKET.LIST").await?;
    cluster.finish().await
}

async fn a_vacuum_and_what_a_replica_applies_obey_at_once() -> Claim {
    let rules = "~global +@read +@write +@remove +@purge";
    let cluster = with_ada(&["A", "B"], rules).await?;
    cluster.expect("A", "BUCKET.CREATE users", "OK").await?;
    let mut ada = ada_at(&cluster, "B").await?;
    let apply = |number: u32| {
        let id = format!("{number:024x}");
        format!("BUCKET.REPLICA APPLY users x/b_1 {number:024x} PURGE {id}")
    };
    cluster.run("A", "BUCKET.REPLICA ORIGIN users ADD x/b_1").await?;
    ada.done("BUCKET.VACUUM users").await?;
    ada.done(&apply(1)).await?;
    let rows = line(&cluster.run("A", "AUDIT.LOG").await?);
    claim!(rows.contains("purged where it is replicated from"), "the log has '{rows}'");
    cluster.expect("A", "ACL SETUSER ada -@write -@purge", "OK").await?;
    for command in ["BUCKET.VACUUM users".to_owned(), apply(2)] {
        ada.expect_start(&command, "NOPERM").await?;
    }
    cluster.finish().await
}

async fn a_stranger_may_not_send_much() -> Claim {
    let rules = vec!["root on >geheim ~* +@all".to_owned()];
    let node = start(|config| config.first_users = UserRules(rules)).await.map_err(fail)?;
    let address = SocketAddr::from(([127, 0, 0, 1], node.addresses()[0].port()));
    let words = "PING ".repeat(11);
    let long = format!("PING {}", "x".repeat(17_000));
    for hostile in [&words, &long] {
        let mut client = Connection::open(address).await?;
        let said = client.send(hostile).await?;
        claim!(said.starts_with("-ERR Protocol error"), "it answers '{said}'");
    }
    let mut client = Connection::open(address).await?;
    client.expect("AUTH root geheim", "+OK").await?;
    let said = client.send(&long.replace("PING", "ECHO")).await?;
    claim!(said.starts_with('$'), "it answers '{said}'");
    node.stop().await;
    Ok(())
}

async fn a_bucket_that_deletes_for_good_is_made_only_by_who_may_purge() -> Claim {
    let cluster = with_ada(&["A"], "~global +@read +@write +@remove").await?;
    let mut ada = ada_at(&cluster, "A").await?;
    for retention in ["0s", "1h"] {
        let said = ada.say(&format!("BUCKET.CREATE gone TOMBSTONE-RETENTION {retention}")).await;
        claim!(said.ends_with("it takes @purge"), "with {retention} it answered '{said}'");
    }
    ada.expect("BUCKET.CREATE kept TOMBSTONE-RETENTION 60d", "OK").await?;
    ada.expect("BUCKET.CREATE usual", "OK").await?;
    cluster.expect("A", "ACL SETUSER ada +@purge", "OK").await?;
    ada.expect("BUCKET.CREATE gone TOMBSTONE-RETENTION 0s", "OK").await?;
    cluster.finish().await
}

async fn what_was_refused_stands_in_the_log_as_what_it_was() -> Claim {
    let rules = "~global ~n +@read +@write +@remove (~global +@restore)";
    let cluster = with_ada(&["A"], rules).await?;
    cluster.expect("A", "NAMESPACE CREATE n", "OK").await?;
    let mut root = Seat::at(&cluster, "A");
    root.done("NAMESPACE USE n").await?;
    root.done("BUCKET.CREATE users").await?;
    root.done("BUCKET.INSERT users DOCS {}").await?;
    let removed = root.done("BUCKET.REMOVE users INFO").await?;
    let id = line(crate::cluster::field(&removed, "removal_id")?);
    root.done("BUCKET.CREATE other").await?;
    root.done("BUCKET.INSERT other DOCS {}").await?;
    let mut ada = ada_at(&cluster, "A").await?;
    ada.expect_start("BUCKET.REMOVED NAMESPACE *", "NOPERM").await?;
    ada.expect_start(&format!("BUCKET.RESTORE {id}"), "NOPERM").await?;
    // What a transaction has done may not be done any more when it commits.
    ada.done("NAMESPACE USE n").await?;
    ada.done("BEGIN").await?;
    ada.done("BUCKET.DELETE other {}").await?;
    cluster.expect("A", "ACL SETUSER ada -@remove", "OK").await?;
    ada.expect_start("COMMIT", "NOPERM").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let log = cluster.run("A", "AUDIT.LOG BY ada").await?;
    let rows = line(&log);
    claim!(!rows.contains("bucket: NAMESPACE"), "an option stands for a bucket: {rows}");
    for action in ["restore", "remove"] {
        let found = line(&cluster.run("A", &format!("AUDIT.LOG BY ada ACTION {action}")).await?);
        claim!(found.contains("outcome: NOPERM"), "{action} is not entered: {rows}");
    }
    let by_id = line(&cluster.run("A", "AUDIT.LOG BY ada NAMESPACE n ACTION restore").await?);
    claim!(by_id.contains(&id), "the log does not say where it was: {rows}");
    cluster.finish().await
}
