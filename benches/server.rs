//! How long single commands take on an idle node, over TCP, on both stores.
//!
//! `cargo bench --bench server`; one command at a time on one connection, so
//! these are latencies. `scripts/load` measures throughput, beside
//! redis-server and PostgreSQL. `BENCH_DOCUMENTS` is the size of the
//! large bucket (100,000).

#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

#[path = "../tests/support/client.rs"]
mod client;
#[path = "../tests/support/node.rs"]
mod node;
#[cfg(feature = "foundationdb")]
#[path = "../tests/support/report.rs"]
#[allow(dead_code, reason = "nothing is counted here")]
mod report;

use std::time::Duration;

use client::{Client, Value};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use node::{StoreKind, TestNode};
use tokio::time::Instant;

const DOCUMENT: &str = r#"{"name":"user","age":42,"city":"Istanbul","tags":["reader","writer"],"balance":1234.56,"address":{"street":"1 Main Street","zip":"34000"}}"#;

fn ok(client: &mut Client, argv: &[&str]) {
    let reply = client.call(argv).unwrap();
    assert!(!matches!(reply, Value::Error(_)), "{argv:?}: {reply:?}");
}

/// A bucket with so many documents, whose ids are their numbers.
fn fill(client: &mut Client, bucket: &str, documents: usize) {
    ok(client, &["BUCKET.CREATE", bucket]);
    let all: Vec<String> = (0..documents)
        .map(|number| format!("{{\"_id\":\"{number:024}\",{}", &DOCUMENT[1..]))
        .collect();
    for batch in all.chunks(500) {
        let mut argv = vec!["BUCKET.INSERT", bucket, "DOCS"];
        argv.extend(batch.iter().map(String::as_str));
        ok(client, &argv);
    }
}

fn commands(criterion: &mut Criterion) {
    let large: usize =
        std::env::var("BENCH_DOCUMENTS").map_or(100_000, |count| count.parse().unwrap());
    for store in [StoreKind::Memory, StoreKind::Embedded] {
        let node = TestNode::start(store);
        let mut client = Client::connect(node.address()).unwrap();
        let mut group = criterion.benchmark_group(format!("{store}"));
        group.measurement_time(Duration::from_secs(3));

        group.bench_function("ping", |bencher| bencher.iter(|| client.call(&["PING"]).unwrap()));

        ok(&mut client, &["BUCKET.CREATE", "inserted"]);
        group.bench_function("insert", |bencher| {
            bencher.iter(|| ok(&mut client, &["BUCKET.INSERT", "inserted", "DOCS", DOCUMENT]));
        });

        for (size, documents) in [("small", 10), ("large", large)] {
            fill(&mut client, size, documents);
            let filter = format!("{{\"_id\":\"{:024}\"}}", documents / 2);
            group.bench_function(format!("query by id, {size} bucket"), |bencher| {
                bencher.iter(|| ok(&mut client, &["BUCKET.QUERY", size, &filter]));
            });
            group.bench_function(format!("remove and restore, {size} bucket"), |bencher| {
                bencher.iter(|| {
                    ok(&mut client, &["BUCKET.REMOVE", size]);
                    ok(&mut client, &["BUCKET.RESTORE", size]);
                });
            });
        }

        let mut number = 0;
        group.bench_function("purge right after remove, 10 documents", |bencher| {
            bencher.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    number += 1;
                    let bucket = format!("purged{number}");
                    fill(&mut client, &bucket, 10);
                    ok(&mut client, &["BUCKET.REMOVE", &bucket]);
                    let start = Instant::now();
                    ok(&mut client, &["BUCKET.PURGE", &bucket]);
                    total += start.elapsed();
                }
                total
            });
        });

        let mut number = 0;
        group.bench_function("create a namespace", |bencher| {
            bencher.iter_batched(
                || {
                    number += 1;
                    format!("bench.n{number}")
                },
                |name| ok(&mut client, &["NAMESPACE", "CREATE", &name]),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, commands);
criterion_main!(benches);
