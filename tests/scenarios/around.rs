//! Ways around a policy: who may do all that some user may, short of what the policy forbids him,
//! does not get it by a detour. What a policy forbids outright is in `policy` and `compliance`.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use tokio::time::sleep;

use crate::cluster::Claim;
use crate::namespaces::{seat, world};

/// Longer than counting takes to come.
const COUNTED: Duration = Duration::from_secs(5);

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
