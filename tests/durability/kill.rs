//! kill -9 of a real process: this binary starts itself as the writer.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lethe::store::{Durability, EmbeddedOptions, Store};

use super::{open, put, rows};

const FOLDER: &str = "LETHE_TEST_WRITER_FOLDER";
const FIRST: &str = "LETHE_TEST_WRITER_FIRST";
/// Set where tables are made after a few batches.
const SOON: &str = "LETHE_TEST_WRITER_TABLES_SOON";
const WRITERS: u32 = 8;

/// The child's part: eight tasks that each write row after row, and say so once the store has acknowledged it.
#[tokio::test(flavor = "multi_thread")]
async fn writer_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let first: u32 = std::env::var(FIRST).unwrap().parse().unwrap();
    // Small tables, so that flushes and compactions are under way when the kill comes.
    let mut options = EmbeddedOptions { memtable_bytes: 256 << 10, ..EmbeddedOptions::default() };
    if std::env::var_os(SOON).is_some() {
        options.table_batches = 20;
        options.table_every = Duration::ZERO;
    }
    let store = Store::open(Path::new(&folder), options).await.unwrap();
    let tasks = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in first.. {
                put(&store, format!("{writer}/{n:08}").as_bytes(), &[7; 500]).await;
                writeln!(std::io::stdout(), "acknowledged {writer} {n}").unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

fn start_writer(folder: &Path, first: u32, soon: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if soon {
        command.env(SOON, "1");
    }
    command
        .args(["--exact", "kill::writer_process", "--nocapture"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads acknowledgments until there are so many, kills the writer, and reads the rest.
fn kill_after(mut child: Child, count: usize) -> Vec<(u32, u32)> {
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The harness prints the name of the test before the first one.
        let Some(at) = line.find("acknowledged ") else { continue };
        let mut numbers = line[at..].split(' ').skip(1).map(|n| n.parse().unwrap());
        acknowledged.push((numbers.next().unwrap(), numbers.next().unwrap()));
        if acknowledged.len() == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= count, "the writer ended by itself");
    acknowledged
}

#[tokio::test]
async fn acknowledged_commits_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut version = 0;
    let mut acknowledged = Vec::new();
    for round in 0..6u32 {
        let first = round * 1_000_000;
        acknowledged.extend(kill_after(start_writer(folder.path(), first, round % 2 == 1), 1500));
        let store = open(folder.path()).await.unwrap();
        let rows = rows(&store).await.unwrap();
        for (writer, n) in &acknowledged {
            let key = format!("{writer}/{n:08}");
            assert!(
                rows.contains_key(key.as_bytes()),
                "{key} was acknowledged in round {round} or before"
            );
        }
        // Each writer waits for one commit before the next, so at most one each was under way.
        assert!(rows.len() <= acknowledged.len() + usize::try_from(WRITERS * (round + 1)).unwrap());
        let now = store.begin("version").read_version().await.unwrap();
        assert!(now > version, "versions grow over kills");
        version = now;
        if round == 1 {
            // One round ends with an orderly close in between.
            store.close().await;
        } else {
            drop(store);
            wait_until_free(folder.path()).await;
        }
    }
}

/// A store that was dropped without closing lets go of its folder when its threads have ended.
async fn wait_until_free(folder: &Path) {
    loop {
        match open(folder).await {
            Ok(store) => return store.close().await,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn many_versions_of_one_row_become_a_table_and_the_last_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        table_batches: 10,
        table_every: Duration::ZERO,
        ..EmbeddedOptions::default()
    };
    let store = Store::open(folder.path(), options).await.unwrap();
    let mut rows_of = Vec::new();
    for n in 0..500u32 {
        put(&store, b"beat", &n.to_be_bytes()).await;
        if n % 100 == 99 {
            rows_of.push(rows(&store).await.unwrap()[b"beat".as_slice()].clone());
        }
    }
    let beats: Vec<_> = [99u32, 199, 299, 399, 499].map(|n| n.to_be_bytes().to_vec()).into();
    assert_eq!(rows_of, beats);
    // At most three may wait to be written when a commit is taken, so that most of the fifty have been.
    let tables = std::fs::read_dir(folder.path().join("fjall/keyspaces")).unwrap().flatten();
    let tables = tables.filter_map(|of| std::fs::read_dir(of.path().join("tables")).ok());
    assert!(tables.flatten().count() >= 1);
    store.close().await;
    let store = open(folder.path()).await.unwrap();
    assert_eq!(rows(&store).await.unwrap()[b"beat".as_slice()], 499u32.to_be_bytes());
    store.close().await;
}

#[tokio::test]
async fn a_kill_under_interval_durability_loses_nothing_that_the_system_has() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let interval = Durability::Interval(Duration::from_secs(3600));
    let options = EmbeddedOptions { durability: interval, ..EmbeddedOptions::default() };
    let store = Store::open(&live, options).await.unwrap();
    for n in 0..50u8 {
        put(&store, &[n], &[n]).await;
    }
    assert_eq!(store.stats().fsyncs, 0);
    let killed = folder.path().join("killed");
    super::copy(&live, &killed);
    let copy = open(&killed).await.unwrap();
    assert_eq!(rows(&copy).await.unwrap().len(), 50);
    copy.close().await;
    store.close().await;
}

#[tokio::test]
async fn a_torn_commit_that_nobody_was_told_of_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (live, before) = (folder.path().join("live"), folder.path().join("before"));
    let store = open(&live).await.unwrap();
    for n in 0..20u8 {
        put(&store, &[n], &[n; 100]).await;
    }
    super::copy(&live, &before);
    let txn = store.begin("last");
    for n in 20..23u8 {
        txn.set(&[n], &[n; 60]).unwrap();
    }
    txn.commit().await.unwrap();
    let journal = Path::new("fjall/0.jnl");
    let (old, new) = (read(&before.join(journal)), read(&live.join(journal)));
    store.close().await;
    let end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let (begin, end) = (end(&old), end(&new));
    assert!(begin + 200 < end, "the batch lies between");
    for cut in (begin..=end).step_by(23).chain([end - 1, end]) {
        let torn = folder.path().join("torn");
        super::copy(&before, &torn);
        let mut bytes = new.clone();
        bytes[cut..].fill(0);
        std::fs::write(torn.join(journal), bytes).unwrap();
        let store = open(&torn).await.unwrap();
        // All of the batch or nothing of it.
        let expected = if cut == end { 23 } else { 20 };
        assert_eq!(rows(&store).await.unwrap().len(), expected, "cut at {cut} of {begin}..{end}");
        put(&store, b"more", b"").await;
        store.close().await;
        let store = open(&torn).await.unwrap();
        assert_eq!(rows(&store).await.unwrap().len(), expected + 1);
        store.close().await;
        std::fs::remove_dir_all(&torn).unwrap();
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[tokio::test]
async fn what_the_store_knows_of_itself_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let txn = store.begin("touch");
    txn.touch_metadata_version().unwrap();
    let touched = txn.commit().await.unwrap().versionstamp.unwrap();
    let last = put(&store, b"k", b"1").await;
    let other = open(folder.path()).await.unwrap_err().to_string();
    assert!(other.contains("in use"), "{other}");
    store.close().await;
    for _ in 0..3 {
        let store = open(folder.path()).await.unwrap();
        let txn = store.begin("after");
        assert_eq!(txn.metadata_version().await.unwrap(), touched);
        assert_eq!(txn.read_version().await.unwrap(), last);
        store.close().await;
    }
    let store = open(folder.path()).await.unwrap();
    assert!(put(&store, b"k", b"2").await > last);
    store.close().await;
}

const ROUNDS: u64 = 20;
const TOGETHER: u64 = 64;

#[tokio::test]
async fn commits_that_arrive_together_share_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let before = store.stats();
    for round in 0..ROUNDS {
        let commits: Vec<_> = (0..TOGETHER)
            .map(|n| {
                let txn = store.begin("together");
                txn.set(format!("{round}/{n}").as_bytes(), b"").unwrap();
                tokio::spawn(txn.commit())
            })
            .collect();
        for commit in commits {
            commit.await.unwrap().unwrap();
        }
    }
    let stats = store.stats();
    assert_eq!(stats.commits - before.commits, ROUNDS * TOGETHER);
    assert_eq!(stats.fsyncs, stats.batches, "each batch is synced once");
    assert!(stats.fsyncs * 4 < stats.commits, "{stats:?}");
    assert!(stats.batch_max > 16, "{stats:?}");
    store.close().await;
}
