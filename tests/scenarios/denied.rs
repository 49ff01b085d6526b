//! Every command of the table without its right: refused before anything is looked at, and recorded.

use std::time::Duration;

use lethe::access::Right;
use lethe::codec::{BucketId, NamespaceId, RemovalId};
use lethe::command::registry::table;
use lethe::command::{Spec, flags, rights_of};
use lethe::resp::Reply;

use crate::cluster::{Claim, Cluster, claim, line};
use crate::rights::{ada_at, call, with_ada};
use crate::seat::Seat;

#[tokio::test(start_paused = true)]
async fn every_command_is_refused_before_it_is_known_whether_the_thing_is_there() {
    if let Err(violated) = crate::cluster::patiently(each_alike()).await {
        panic!("{violated}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_of_what_is_there_is_refused_as_one_of_nothing_is() {
    if let Err(violated) = crate::cluster::patiently(each_id_alike()).await {
        panic!("{violated}");
    }
}

/// Gives ada all rights but one; an administrator's are as good as some of them.
fn all_but(right: Right) -> String {
    let own = if right == Right::Restore { " -@restore-own" } else { "" };
    format!("ACL SETUSER ada resetkeys ~* +@all -@{} -@admin{own}", right.name())
}

/// Those that need this right, whatever their words.
fn commands_of(right: Right) -> impl Iterator<Item = &'static Spec> {
    table().specs().iter().filter(move |spec| {
        // What goes on with a cursor is of the cursor's right, and there is none.
        let is_cursor = spec.name == "BUCKET.ADVANCE";
        !spec.has(flags::REFUSED) && !is_cursor && rights_of(spec).any(|of| of == right)
    })
}

async fn furnished() -> Claim<Cluster> {
    let cluster = with_ada(&["A"], "").await?;
    for command in [
        "BUCKET.CREATE users",
        "BUCKET.INSERT users DOCS {} {}",
        "BUCKET.DELETE users {} LIMIT 1",
        "NAMESPACE CREATE there.below",
        "BUCKET.CREATE gone",
        "NAMESPACE CREATE left",
    ] {
        let reply = cluster.run("A", command).await?;
        claim!(!matches!(reply, Reply::Error(_)), "'{command}' answered '{}'", line(&reply));
    }
    Ok(cluster)
}

async fn each_alike() -> Claim {
    let cluster = furnished().await?;
    cluster.remove("A", "gone").await?;
    for right in Right::ALL {
        cluster.expect("A", &all_but(right), "OK").await?;
        let mut ada = ada_at(&cluster, "A").await?;
        let mut refused = 0;
        for spec in commands_of(right) {
            let (there, nowhere) = (call(spec, "users", "there"), call(spec, "nothing", "nowhere"));
            let (said, of_nothing) = (ada.say(&there).await, ada.say(&nowhere).await);
            claim!(said.starts_with("NOPERM User ada"), "'{there}' without {right:?}: '{said}'");
            claim!(
                said.replace("'there'", "'nowhere'") == of_nothing,
                "'{there}' answers '{said}', but '{nowhere}' '{of_nothing}'"
            );
            refused += 2;
        }
        if !matches!(right, Right::Read | Right::Write | Right::RestoreOwn) {
            claim!(refused > 0, "no command is of {right:?}");
            expect_recorded(&cluster, right, refused).await?;
        }
    }
    cluster.finish().await
}

/// Claims that so many refusals of this right stand in the audit log, under the name of who tried.
async fn expect_recorded(cluster: &Cluster, right: Right, expected: i64) -> Claim {
    let asked = format!("AUDIT.LOG BY ada ACTION {} COUNT 1000", right.name());
    let mut found = 0;
    for _ in 0..100 {
        let Reply::Array(rows) = cluster.run("A", &asked).await? else {
            return Err("AUDIT.LOG gives no list".to_owned());
        };
        found = rows.iter().map(refused_times).sum();
        if found >= expected {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("of {right:?} {found} refusals are recorded instead of {expected}"))
}

fn refused_times(row: &Reply) -> i64 {
    let Reply::Map(pairs) = row else { return 0 };
    let get =
        |name: &str| pairs.iter().find(|(key, _)| line(key) == name).map(|(_, value)| line(value));
    match get("outcome").as_deref() {
        Some("NOPERM") => get("count").and_then(|count| count.parse().ok()).unwrap_or(0),
        _ => 0,
    }
}

async fn each_id_alike() -> Claim {
    let cluster = furnished().await?;
    let gone = cluster.remove("A", "gone").await?;
    cluster.expect("A", "NAMESPACE REMOVE left", "OK").await?;
    let left = line(&cluster.run("A", "NAMESPACE REMOVED").await?);
    let word = |name: &str| {
        let (_, rest) = left.split_once(&format!("{name}: "))?;
        rest.split([',', '}']).next().map(str::to_owned)
    };
    let (Some(left_removal), Some(left_id)) = (word("removal_id"), word(" id")) else {
        return Err(format!("no ids in '{left}'"));
    };
    let pairs = [
        (gone.removal.to_string(), RemovalId(gone.removal.0 + 1_000_000).to_string()),
        (gone.bucket.to_string(), BucketId(gone.bucket.0 + 1_000_000).to_string()),
        (left_removal, RemovalId(gone.removal.0 + 2_000_000).to_string()),
        (left_id, NamespaceId(1_000_000).to_string()),
    ];
    let mut judged = 0;
    // One who may do all that in another namespace, so that it depends on where the id leads.
    for elsewhere in [false, true] {
        for right in [Right::Read, Right::Restore, Right::Purge, Right::Hold] {
            let all_elsewhere = "ACL SETUSER ada resetkeys ~other ~other.* +@all".to_owned();
            let rules = if elsewhere { all_elsewhere } else { all_but(right) };
            cluster.expect("A", &rules, "OK").await?;
            let mut ada = ada_at(&cluster, "A").await?;
            for spec in commands_of(right).filter(|spec| takes_id(spec)) {
                for (id, of_nothing) in &pairs {
                    expect_alike(&mut ada, spec, id, of_nothing).await?;
                    judged += 1;
                }
            }
        }
    }
    claim!(judged > 100, "only {judged} pairs were judged");
    cluster.finish().await
}

/// Commands whose first word may be an id.
fn takes_id(spec: &Spec) -> bool {
    const VERBS: [&str; 7] =
        ["BARRIER", "DESCRIBE", "HOLD", "PURGE", "RESTORE", "RETAIN", "UNHOLD"];
    let verb = spec.name.rsplit(['.', ' ']).next().unwrap_or_default();
    VERBS.contains(&verb)
        && (spec.name.starts_with("BUCKET.") || spec.name.starts_with("NAMESPACE "))
        && !spec.name.starts_with("BUCKET.INDEX")
}

async fn expect_alike(ada: &mut Seat, spec: &Spec, id: &str, of_nothing: &str) -> Claim {
    let about = |id| call(spec, id, id);
    let (one, other) = (ada.say(&about(id)).await, ada.say(&about(of_nothing)).await);
    claim!(one.starts_with("NOPERM"), "'{}' answered '{one}'", about(id));
    let (one, other) = (one.replace(id, "ID"), other.replace(of_nothing, "ID"));
    claim!(one == other, "'{}': '{one}', but '{}': '{other}'", about(id), about(of_nothing));
    Ok(())
}
