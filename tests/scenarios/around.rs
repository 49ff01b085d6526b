//! Ways around a policy: who may do all that some user may, short of what the policy forbids him,
//! does not get it by a detour. What a policy forbids outright is in `policy` and `compliance`.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, field, line};
use crate::namespaces::{seat, world};
use crate::seat::Seat;

/// Longer than counting takes to come.
const COUNTED: Duration = Duration::from_secs(5);

/// A client of node A who has logged in as a new user with these rules.
async fn user(cluster: &Cluster, name: &str, rules: &str, namespace: &str) -> Claim<Seat> {
    let rules = format!("ACL SETUSER {name} on >geheim {rules}");
    cluster.expect("A", &rules, "OK").await?;
    let mut seat = Seat::at(cluster, "A");
    seat.expect(&format!("AUTH {name} geheim"), "OK").await?;
    seat.expect(&format!("NAMESPACE USE {namespace}"), "OK").await?;
    Ok(seat)
}

/// How long something is kept that is removed here, as DESCRIBE has it.
async fn kept(seat: &mut Seat, namespace: &str) -> Claim<String> {
    let removed = seat.done(&format!("NAMESPACE DESCRIBE {namespace}")).await?;
    Ok(line(field(field(&removed, "policy")?, "retention")?))
}

/// A lock of compliance rests on what is in force, also where shorter values were set before.
pub async fn a_lock_of_compliance_pins_what_is_in_force(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    // A default that a lock above has made longer.
    root.expect("NAMESPACE POLICY n.x SET retention 10d", "OK").await?;
    root.expect("NAMESPACE POLICY n SET lock governance retention 30d", "OK").await?;
    root.expect("NAMESPACE POLICY n.x SET lock compliance", "OK").await?;
    root.expect("NAMESPACE POLICY n SET lock none retention 1d", "OK").await?;
    let shown = kept(&mut root, "n.x").await?;
    claim!(shown.contains("30d"), "n.x keeps for {shown}");
    // A minimum above one's own.
    root.expect("NAMESPACE CREATE m.x", "OK").await?;
    root.expect("NAMESPACE POLICY m.x SET retention 10d retention-min 5d", "OK").await?;
    root.expect("NAMESPACE POLICY m SET retention-min 30d", "OK").await?;
    root.expect("NAMESPACE POLICY m.x SET lock compliance", "OK").await?;
    root.expect("NAMESPACE POLICY m UNSET retention-min", "OK").await?;
    let shown = kept(&mut root, "m.x").await?;
    claim!(shown.contains("30d"), "m.x keeps for {shown}");
    // A minimum above a maximum, both from above.
    root.expect("NAMESPACE CREATE k.l.x", "OK").await?;
    root.expect("NAMESPACE POLICY k SET retention-max 3d", "OK").await?;
    root.expect("NAMESPACE POLICY k.l SET quota-documents 100", "OK").await?;
    root.expect("NAMESPACE CREATE k.l.x.y", "OK").await?;
    root.expect("NAMESPACE POLICY k.l.x SET retention-max 4d", "OK").await?;
    root.expect("NAMESPACE POLICY k UNSET retention-max", "OK").await?;
    root.expect("NAMESPACE POLICY k SET retention-min 9d", "OK").await?;
    root.expect("NAMESPACE POLICY k.l.x.y SET lock compliance", "OK").await?;
    let shown = kept(&mut root, "k.l.x.y").await?;
    claim!(shown.contains("9d"), "k.l.x.y keeps for {shown}");
    // What is asked for is not changed.
    let asked = "NAMESPACE POLICY k.l SET lock compliance retention 2d";
    root.expect_start(asked, "RETENTIONOUTOFRANGE").await?;
    // What is tightened above later can be loosened there again.
    root.expect("NAMESPACE POLICY n SET retention 50d retention-min 50d", "OK").await?;
    root.expect("NAMESPACE POLICY n.x SET quota-documents 100", "OK").await?;
    root.expect("NAMESPACE POLICY n SET retention 1d retention-min 1d", "OK").await?;
    let shown = kept(&mut root, "n.x").await?;
    claim!(shown.contains("30d"), "n.x keeps for {shown}");
    cluster.finish().await
}

/// One of governance says what is kept, too: nothing below says less.
pub async fn a_lock_of_governance_pins_the_defaults(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    root.expect("NAMESPACE POLICY n.x SET retention 1h", "OK").await?;
    root.expect("NAMESPACE POLICY n SET lock governance", "OK").await?;
    let shown = kept(&mut root, "n.x").await?;
    claim!(shown.contains("7d"), "n.x keeps for {shown}");
    root.expect_start("NAMESPACE POLICY n.x SET retention 2h", "HELD").await?;
    // What was written down is no retention that somebody asked for.
    root.expect("NAMESPACE POLICY n SET retention-min 9d", "OK").await?;
    root.expect("NAMESPACE POLICY n UNSET retention-min", "OK").await?;
    root.expect("NAMESPACE POLICY n.x SET retention-max 100d", "OK").await?;
    root.expect_start("BUCKET.REMOVE b RETAIN 101d", "RETENTIONOUTOFRANGE").await?;
    // Neither where it is moved to.
    root.expect("NAMESPACE CREATE m", "OK").await?;
    root.expect("NAMESPACE POLICY m SET lock governance", "OK").await?;
    root.expect("NAMESPACE POLICY n.x UNSET retention-max", "OK").await?;
    root.expect("NAMESPACE MOVE n.x m.x", "OK").await?;
    let shown = kept(&mut root, "m.x").await?;
    claim!(shown.contains("7d"), "m.x keeps for {shown}");
    cluster.finish().await
}

/// Whatever it is that keeps less: a limit or a lock counts further down.
pub async fn to_loosen_a_policy_takes_the_right_to_purge(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut root = seat(&cluster, "A", "n.x").await?;
    let mut admin = user(&cluster, "admin", "~n ~n.* +@admin +@read", "n.x").await?;
    root.expect("NAMESPACE POLICY n.x SET retention 60d", "OK").await?;
    let start =
        "NAMESPACE POLICY n SET retention-min 2d tombstone-retention-max 90d lock governance";
    admin.expect_start(start, "NOPERM").await?;
    root.expect(start, "OK").await?;
    for loosened in [
        "SET retention-max 10d",
        "UNSET retention-min",
        "SET retention-min 1d",
        "SET tombstone-retention-max 80d",
        "SET lock none",
        "UNSET lock",
        "SET retention 6d",
    ] {
        let command = format!("NAMESPACE POLICY n {loosened}");
        admin.expect_start(&command, "NOPERM").await?;
    }
    for tightened in [
        "SET retention-min 3d",
        "SET tombstone-retention-max 95d",
        "UNSET tombstone-retention-max",
        "SET retention 8d",
        "SET quota-documents 10",
    ] {
        admin.expect(&format!("NAMESPACE POLICY n {tightened}"), "OK").await?;
    }
    cluster.finish().await
}

/// What a replica replaces makes room for what replaces it.
pub async fn a_replica_goes_on_at_a_full_quota(mutations: Mutations) -> Claim {
    let cluster = world(mutations).await?;
    let mut a = seat(&cluster, "A", "n.x").await?;
    a.expect("NAMESPACE POLICY n SET quota-documents 2", "OK").await?;
    a.expect("BUCKET.CREATE mirror", "OK").await?;
    a.done("BUCKET.REPLICA ORIGIN mirror ADD elsewhere/users").await?;
    // Then what is replaced goes before all of it comes.
    let index = "{\"mail\":{\"bson_type\":\"string\",\"unique\":true}}";
    a.done(&format!("BUCKET.INDEX CREATE mirror {index}")).await?;
    let apply = "BUCKET.REPLICA APPLY mirror elsewhere/users";
    let document = |number: u8| format!("6835a1c0e4b0f72a3c00000{number}");
    let put = |number, mail| {
        let id = document(number);
        format!("PUT {{\"_id\":\"{id}\",\"mail\":\"{mail}\"}}")
    };
    let first = format!("{apply} 000000ff0000000700000000 {}", put(1, "somebody@b"));
    a.expect(&first, "1").await?;
    sleep(COUNTED).await;
    a.expect_start("BUCKET.INSERT mirror DOCS {}", "QUOTAEXCEEDED").await?;
    let smaller = format!("{apply} 000000ff0000000800000000 {}", put(1, "a@b"));
    a.expect(&smaller, "1").await?;
    let gone = format!("DELETE {}", document(1));
    let other = format!("{apply} 000000ff0000000900000000 {gone} {}", put(2, "a@b"));
    a.expect(&other, "2").await?;
    let more = format!("{apply} 000000ff0000000a00000000 {}", put(3, "c@b"));
    a.expect_start(&more, "QUOTAEXCEEDED").await?;
    cluster.finish().await
}
