//! The store alone, on both engines: commits with 1 and with 64 tasks at a time, point reads, short ranges, and opening a folder with a
//! million keys. Run with `cargo bench --bench store`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark fails by panicking")]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lethe::store::{EmbeddedOptions, RangeRead, Read, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const ROWS: u32 = 100_000;
const MANY_ROWS: u32 = 1_000_000;
const VALUE: [u8; 200] = [7; 200];

fn key(n: u32) -> [u8; 12] {
    let mut key = *b"row/....\0\0\0\0";
    key[4..8].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

async fn open(folder: &TempDir) -> Store {
    Store::open(folder.path(), EmbeddedOptions::default()).await.unwrap()
}

async fn fill(store: &Store, rows: u32, value: &[u8]) {
    for first in (0..rows).step_by(1000) {
        let txn = store.begin("fill");
        for n in first..(first + 1000).min(rows) {
            txn.set(&key(n), value).unwrap();
        }
        txn.commit().await.unwrap();
    }
}

/// One commit per task and round, each of three keys, as an insert makes.
async fn commit_together(store: &Store, tasks: u32, round: u32) {
    let commits: Vec<_> = (0..tasks)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let txn = store.begin("insert");
                let id = round.wrapping_mul(tasks) + task;
                let fence = txn.get(&key(id % ROWS), Read::Conflict).await.unwrap();
                assert!(fence.is_some());
                for part in 0..3 {
                    txn.set(&[b"new/", key(id).as_slice(), &[part]].concat(), &VALUE).unwrap();
                }
                txn.commit().await.unwrap();
            })
        })
        .collect();
    for commit in commits {
        commit.await.unwrap();
    }
}

fn engines(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let embedded = runtime.block_on(open(&folder));
    for (name, store) in [("memory", Store::memory()), ("embedded", embedded)] {
        runtime.block_on(fill(&store, ROWS, &VALUE));
        let mut group = criterion.benchmark_group(name);
        let mut round = 0;
        for tasks in [1, 64] {
            group.throughput(Throughput::Elements(u64::from(tasks)));
            group.bench_function(BenchmarkId::new("commit", tasks), |bencher| {
                bencher.iter(|| {
                    round += 1;
                    runtime.block_on(commit_together(&store, tasks, round));
                });
            });
        }
        group.throughput(Throughput::Elements(1));
        let mut n = 0;
        group.bench_function("begin and get", |bencher| {
            bencher.iter(|| {
                n = (n + 7919) % ROWS;
                runtime.block_on(async {
                    store.begin("get").get(&key(n), Read::Conflict).await.unwrap().unwrap()
                })
            });
        });
        for rows in [10, 100, 200, 300, 1000] {
            group.throughput(Throughput::Elements(rows));
            let limit = usize::try_from(rows).unwrap();
            group.bench_function(BenchmarkId::new("range", rows), |bencher| {
                bencher.iter(|| {
                    n = (n + 7919) % ROWS;
                    let range = RangeRead::new(key(n), "s").limit(limit).snapshot();
                    runtime.block_on(async { store.begin("range").range(range).await.unwrap() })
                });
            });
        }
        group.finish();
        println!("{name}: {:?}", store.stats());
        runtime.block_on(store.close());
    }
}

fn opening(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let store = open(&folder).await;
        fill(&store, MANY_ROWS, b"small value").await;
        store.close().await;
    });
    let mut group = criterion.benchmark_group("open");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.bench_function("a million rows", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let store = open(&folder).await;
                assert!(store.begin("get").get(&key(5), Read::Snapshot).await.unwrap().is_some());
                store.close().await;
            });
        });
    });
    group.finish();
}

criterion_group!(benches, engines, opening);
criterion_main!(benches);
