//! The same nodes over TCP, as clients see them.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::cluster::{Claim, Cluster, SILENT_AFTER, claim, fail, patiently};

/// A connection that sends inline commands.
pub struct Connection(BufStream<TcpStream>);

impl Connection {
    pub async fn open(address: SocketAddr) -> Claim<Self> {
        Ok(Self(BufStream::new(TcpStream::connect(address).await.map_err(fail)?)))
    }

    /// Sends a command and gives the first line of its reply.
    pub async fn send(&mut self, command: &str) -> Claim<String> {
        self.0.write_all(format!("{command}\r\n").as_bytes()).await.map_err(fail)?;
        self.0.flush().await.map_err(fail)?;
        self.line().await
    }

    async fn line(&mut self) -> Claim<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).await.map_err(fail)?;
        Ok(line.trim_end().to_owned())
    }

    pub async fn expect(&mut self, command: &str, expected: &str) -> Claim {
        let got = self.send(command).await?;
        claim!(got == expected, "'{command}' answered '{got}' instead of '{expected}'");
        Ok(())
    }
}

async fn story() -> Claim {
    let mut cluster = Cluster::new(&["A", "B", "C"]).await?;
    let mut connections = Vec::new();
    for node in ["A", "B", "C"] {
        let address = cluster.node(node).addresses()[0];
        connections.push(Connection::open(address).await?);
    }
    let [a, b, c] = connections.as_mut_slice() else { return Err("three of them".to_owned()) };
    a.expect("BUCKET.CREATE users", "+OK").await?;
    b.expect("BUCKET.INSERT users DOCS '{\"name\":\"ada\"}'", "*1").await?;
    let length = b.line().await?;
    claim!(length == "$24", "an id of another length: {length}");
    let id = b.line().await?;
    claim!(id.len() == 24, "no id: {id}");
    c.expect("BUCKET.REMOVE users", "+OK").await?;
    let refused = "-BUCKETBEINGREMOVED Bucket 'users' is being removed";
    for connection in [&mut *a, &mut *b, &mut *c] {
        connection.expect("BUCKET.INSERT users DOCS {}", refused).await?;
    }
    b.expect("BUCKET.RESTORE users", "+OK").await?;
    c.expect("BUCKET.INSERT users DOCS {}", "*1").await?;
    c.line().await?;
    c.line().await?;
    a.expect("BUCKET.REMOVE users", "+OK").await?;
    b.expect("BUCKET.PURGE users", "+OK").await?;
    for connection in [&mut *a, &mut *b, &mut *c] {
        let gone = "-NOSUCHBUCKET No such bucket: 'users'";
        connection.expect("BUCKET.INSERT users DOCS {}", gone).await?;
    }
    // A node that leaves lets its clients go, and the others go on.
    cluster.leave("B").await;
    claim!(b.send("PING").await.is_ok_and(|line| line.is_empty()), "B still answers");
    a.expect("BUCKET.CREATE users", "+OK").await?;
    cluster.finish().await
}

/// Connections that break in a transaction, the last two in the middle of its COMMIT.
async fn hanging_up() -> Claim {
    let cluster = Cluster::new(&["A", "B"]).await?;
    let [a, b] = ["A", "B"].map(|node| cluster.node(node).addresses()[0]);
    let mut other = Connection::open(b).await?;
    other.expect("BUCKET.CREATE users", "+OK").await?;
    other.expect("BUCKET.INSERT users DOCS '{\"name\":\"ada\"}'", "*1").await?;
    other.line().await?;
    other.line().await?;
    for last in ["", "COMMIT", "*1\r\n$6\r\nCOMMI"] {
        let before = cluster.store().stats().open_transactions;
        let mut client = Connection::open(a).await?;
        client.expect("BEGIN", "+OK").await?;
        for (command, first, more) in [
            ("BUCKET.INSERT users DOCS '{\"name\":\"bob\"}'", "*1", 2),
            ("BUCKET.UPDATE users '{\"name\":\"ada\"}' '{\"$set\":{\"name\":\"eve\"}}'", "*2", 4),
            ("BUCKET.DELETE users '{\"name\":\"bob\"}'", "*2", 4),
            ("BUCKET.COUNT users '{\"name\":\"eve\"}'", ":1", 0),
        ] {
            client.expect(command, first).await?;
            for _ in 0..more {
                client.line().await?;
            }
        }
        client.0.write_all(last.as_bytes()).await.map_err(fail)?;
        client.0.flush().await.map_err(fail)?;
        drop(client);
        let gone = async || Ok(cluster.store().stats().open_transactions <= before);
        cluster.eventually("the transaction is gone", SILENT_AFTER, gone).await?;
        other.expect("BUCKET.COUNT users '{\"name\":\"ada\"}'", ":1").await?;
        other.expect("BUCKET.COUNT users", ":1").await?;
    }
    cluster.finish().await
}

async fn handing_over() -> Claim {
    let mut cluster = Cluster::new(&["A", "B"]).await?;
    cluster.shard_of("B")?;
    let started = Instant::now();
    cluster.leave("B").await;
    claim!(!cluster.is_member("B").await?, "B has left and is a member");
    cluster.all_owned().await?;
    let all = cluster.node("A").cluster().shard_count();
    let mut owned = cluster.node("A").cluster().owned_shards();
    owned.wait_for(|owned| owned.len() == usize::from(all)).await.map_err(fail)?;
    let took = started.elapsed();
    claim!(took < SILENT_AFTER / 4, "the shards of B were waited for: {took:?}");
    cluster.finish().await
}

on_each_store! {
    three_nodes_tell_the_whole_story_over_tcp: patiently(story());
    a_connection_that_breaks_rolls_back: patiently(hanging_up());
    a_node_that_leaves_hands_its_shards_over_at_once: patiently(handing_over());
}
