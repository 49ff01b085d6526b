//! A full disk.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lethe::clock::SystemClock;
use lethe::config::Config;
use lethe::node::{Node, NodeOptions};
use lethe::store::{Error, Read, Store};

use super::{open, rows};

/// A small disk of its own. Needs the right to mount; `None` without it.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        mount(folder.path(), &format!("size={megabytes}m")).then_some(Self { folder })
    }

    fn grow(&self, megabytes: u32) {
        assert!(mount(self.folder.path(), &format!("remount,size={megabytes}m")));
    }
}

fn mount(folder: &Path, options: &str) -> bool {
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).output();
    mounted.is_ok_and(|output| output.status.success())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.folder.path()).output());
    }
}

/// Writes until the store takes no more; gives how many rows it took, and why no more.
async fn fill(store: &Store) -> (u32, Error) {
    let mut acknowledged = 0u32;
    loop {
        let txn = store.begin("fill");
        // Noise that nothing can compress.
        let value: Vec<u8> = (0..50_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761 + acknowledged) >> 13).to_le_bytes()[0])
            .collect();
        txn.set(&acknowledged.to_be_bytes(), &value).unwrap();
        match txn.commit().await {
            Ok(_) => acknowledged += 1,
            Err(error) => return (acknowledged, error),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_a_full_disk_is_not_ready_from_then_on() {
    let Some(disk) = SmallDisk::mount(24) else {
        println!("SKIPPED: needs the right to mount a small tmpfs");
        return;
    };
    let store = open(&disk.folder.path().join("store")).await.unwrap();
    let any = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let mut config = Config::default();
    config.server.listen.clone_from(&any);
    config.http.listen = any;
    // Its heart may be silent for as long as the test takes: that is not what tells.
    config.cluster.silent_after = Duration::from_secs(600);
    let options = NodeOptions { exclusive: true, ..NodeOptions::default() };
    let started =
        Node::start_on(store.clone(), Arc::new(config), Arc::new(SystemClock), options).await;
    let node = started.unwrap();
    let address = node.http_addresses()[0];
    let ask = || tokio::task::spawn_blocking(move || super::http::get(address, "/readyz"));
    let before = ask().await.unwrap();
    assert!(!before.body.contains("stopped writing"), "{}", before.body);
    let (_, error) = fill(&store).await;
    assert!(matches!(&error, Error::Stopped { .. }), "{error}");
    let answer = ask().await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("stopped writing"), "{}", answer.body);
    node.kill();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_writing_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(24) else {
        println!("SKIPPED: needs the right to mount a small tmpfs");
        return;
    };
    let path = disk.folder.path().join("store");
    let store = open(&path).await.unwrap();
    store.writable().unwrap();
    let (acknowledged, error) = fill(&store).await;
    assert!(matches!(&error, Error::Stopped { .. }), "{error}");
    assert!(error.to_string().contains("disk"), "{error}");
    assert!(acknowledged > 100);

    // What failed is not visible, everything else still is, and nothing more is written.
    let txn = store.begin("read");
    assert!(txn.get(&acknowledged.to_be_bytes(), Read::Snapshot).await.unwrap().is_none());
    assert_eq!(rows(&store).await.unwrap().len(), usize::try_from(acknowledged).unwrap());
    let txn = store.begin("again");
    txn.set(b"small", b"").unwrap();
    assert!(matches!(txn.commit().await, Err(Error::Stopped { .. })));
    assert!(matches!(store.writable(), Err(Error::Stopped { .. })));
    store.close().await;

    disk.grow(200);
    let store = open(&path).await.unwrap();
    assert_eq!(rows(&store).await.unwrap().len(), usize::try_from(acknowledged).unwrap());
    super::put(&store, b"small", b"").await;
    store.close().await;
}
