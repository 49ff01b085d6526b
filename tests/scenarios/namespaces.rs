//! Namespaces: what is in them goes and comes with them, scenarios 18 and 20.

use std::time::Duration;

use lethe::cluster::mutation::Mutations;
use tokio::time::sleep;

use crate::cluster::{Claim, Cluster, claim, line};

/// Runs commands in a namespace as one client.
async fn in_namespace(
    cluster: &Cluster,
    node: &str,
    namespace: &str,
    command: &str,
) -> Claim<String> {
    let words = command.split_whitespace().map(str::to_owned).collect();
    Ok(line(&cluster.ask_in(node, namespace, words).answer().await?))
}

async fn expect_in(
    cluster: &Cluster,
    node: &str,
    namespace: &str,
    command: &str,
    expected: &str,
) -> Claim {
    let got = in_namespace(cluster, node, namespace, command).await?;
    claim!(got == expected, "{node}, {namespace}: '{command}' answered '{got}' not '{expected}'");
    Ok(())
}

/// Removal is inherited, by every command and on every node; a restore undoes just that.
pub async fn what_is_in_a_removed_namespace_is_removed_with_it(mutations: Mutations) -> Claim {
    let cluster = Cluster::with(&["A", "B"], mutations, |_| {}).await?;
    cluster.expect("A", "NAMESPACE CREATE n.x", "OK").await?;
    for bucket in ["b", "c"] {
        expect_in(&cluster, "A", "n.x", &format!("BUCKET.CREATE {bucket}"), "OK").await?;
    }
    // Warm on both nodes.
    for node in ["A", "B"] {
        let inserted = in_namespace(&cluster, node, "n.x", "BUCKET.INSERT b DOCS {}").await?;
        claim!(inserted.starts_with('['), "an insert answered '{inserted}'");
    }
    expect_in(&cluster, "A", "n.x", "BUCKET.REMOVE c", "OK").await?;
    cluster.expect("A", "NAMESPACE REMOVE n", "OK").await?;
    let removed = "NAMESPACEBEINGREMOVED Namespace 'n' is being removed";
    for node in ["A", "B"] {
        for command in [
            "BUCKET.INSERT b DOCS {}",
            "BUCKET.QUERY b {}",
            "BUCKET.LIST",
            "BUCKET.CREATE d",
            "BUCKET.REMOVE b",
            "BUCKET.RESTORE c",
            "BUCKET.REMOVED",
            "NAMESPACE USE n.x",
            "NAMESPACE EXISTS n.x",
            "NAMESPACE CREATE n.y",
            "NAMESPACE REMOVE n.x",
            "NAMESPACE REMOVE n",
            "NAMESPACE LIST n",
            "NAMESPACE MOVE n.x y",
        ] {
            expect_in(&cluster, node, "n.x", command, removed).await?;
        }
    }
    cluster.expect("B", "NAMESPACE RESTORE n", "OK").await?;
    expect_in(&cluster, "A", "n.x", "BUCKET.COUNT b {}", "2").await?;
    expect_in(&cluster, "A", "n.x", "BUCKET.LIST", "[b]").await?;
    let gone = "BUCKETBEINGREMOVED Bucket 'c' is being removed";
    expect_in(&cluster, "B", "n.x", "BUCKET.INSERT c DOCS {}", gone).await?;
    expect_in(&cluster, "B", "n.x", "BUCKET.RESTORE c", "OK").await?;
    sleep(Duration::from_secs(1)).await;
    cluster.finish().await
}
