//! What every peer is asked to do, and how long it takes.
//!
//! Document `n` of `N` has a `code` of its own, belongs to one of `N / 100`
//! groups and has its `size`, 0 to 99, within it. So it is known how many
//! documents each request has to find, and every answer is checked.

use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Documents of one batch.
pub const BATCH: u64 = 100;
/// Documents of one group.
const GROUP: u64 = 100;
/// Documents that a range finds.
pub const RANGE: u64 = 100;
/// What a compound condition asks of `size`.
pub const SIZES: Range<u64> = 20..70;
/// How many a sorted query gives.
pub const FIRST: u64 = 10;

/// How much is done.
pub struct Size {
    pub documents: u64,
    /// At most so many of each kind, where these seconds are enough for them.
    pub requests: u64,
    pub seconds: u64,
    pub clients: u64,
}

/// So many a second.
pub struct Figure {
    pub what: &'static str,
    pub rate: f64,
}

/// What is measured.
pub trait Peer: Sync {
    fn name(&self) -> &'static str;
    fn client(&self) -> Box<dyn Client + '_>;
}

/// An index on the documents.
#[derive(Clone, Copy)]
pub enum Index {
    Code,
    GroupAndSize,
}

/// A request for documents.
#[derive(Clone, Copy)]
pub enum Find {
    Id(u64),
    Code(u64),
    /// [`RANGE`] codes from this one on, in their order.
    Codes(u64),
    /// Those of a group with these [`SIZES`].
    Sizes(u64),
    /// The [`FIRST`] of a group, the largest first.
    Largest(u64),
    /// With a balance from this on, which has no index.
    Balance(u64),
}

/// One of those who ask at the same time. All of it is durable when it is answered.
pub trait Client: Send {
    fn create(&mut self, collection: &str);
    /// All of them at once.
    fn insert(&mut self, collection: &str, documents: &[Document]);
    /// Gives the index time until it is there.
    fn index(&mut self, collection: &str, index: Index);
    /// How many were found.
    fn find(&mut self, collection: &str, find: Find) -> u64;
    /// Changes the counter of the document with this code; how many were.
    fn update(&mut self, collection: &str, code: u64) -> u64;
    /// Deletes the document with this code; how many were.
    fn delete(&mut self, collection: &str, code: u64) -> u64;
}

/// A document, before each peer has it in its own form.
pub struct Document {
    pub number: u64,
    pub group: u64,
    pub size: u64,
}

impl Document {
    fn new(number: u64, documents: u64) -> Self {
        let groups = groups(documents);
        Self { number, group: number % groups, size: number / groups }
    }

    /// As JSON, without an id.
    pub fn json(&self) -> String {
        let Self { number, group, size } = self;
        let (code, group) = (code(*number), group_name(*group));
        format!(
            r#"{{"code":"{code}","group":"{group}","size":{size},"balance":{number}.5,"counter":0,"name":"{NAME}","active":true,"tags":["reader","writer"],"address":{{"street":"{STREET}","zip":"34000"}},"note":"{NOTE}"}}"#
        )
    }
}

pub const NAME: &str = "a name";
pub const STREET: &str = "1 Main Street";
pub const NOTE: &str = "the quick brown fox jumps over the lazy dog";

fn groups(documents: u64) -> u64 {
    (documents / GROUP).max(1)
}

pub fn code(number: u64) -> String {
    format!("{number:012}")
}

pub fn group_name(group: u64) -> String {
    format!("g{group:08}")
}

/// Spreads requests over `0..range`, each as often as the others.
fn spread(request: u64, range: u64) -> u64 {
    (request.wrapping_mul(2_654_435_761)) % range
}

/// Requests a second of several clients at the same time. It ends early after so long.
fn rate(
    peer: &dyn Peer,
    clients: u64,
    requests: u64,
    longest: Duration,
    ask: impl Fn(&mut dyn Client, u64) + Sync,
) -> f64 {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let begin = Barrier::new(clients as usize + 1);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = peer.client();
                    begin.wait();
                    let begun = Instant::now();
                    while begun.elapsed() < longest {
                        let request = next.fetch_add(1, Ordering::Relaxed);
                        if request >= requests {
                            break;
                        }
                        ask(&mut *client, request);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        begin.wait();
        let begun = Instant::now();
        for client in all {
            client.join().expect("a client ended by a panic");
        }
        done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
    })
}

/// Does all of it once, in collections whose names begin so.
pub fn run(peer: &dyn Peer, size: &Size, name: &str) -> Vec<Figure> {
    let Size { documents, requests, clients, seconds } = *size;
    let longest = Duration::from_secs(seconds);
    assert!(documents >= GROUP && documents % GROUP == 0, "DOCUMENTS are whole hundreds");
    let (one, many) = (&format!("{name}_one"), &format!("{name}_many"));
    let mut figures = Vec::new();
    let mut note = |what: &'static str, rate: f64| {
        eprintln!("  {:<10} {what:<46} {rate:>12.0}", peer.name());
        figures.push(Figure { what, rate });
    };
    let mut client = peer.client();
    client.create(one);
    client.create(many);
    let new = |number: u64| Document::new(number, documents);
    let inserted =
        rate(peer, clients, requests, longest, |client, n| client.insert(one, &[new(n)]));
    note("insert one by one", inserted);
    let batches = rate(peer, 1, documents / BATCH, Duration::MAX, |client, batch| {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        client.insert(many, &numbers.map(new).collect::<Vec<_>>());
    });
    note("documents inserted in batches of 100, 1 client", batches * BATCH as f64);
    for (what, index) in [
        ("documents of an index build, a string", Index::Code),
        ("documents of an index build, two fields", Index::GroupAndSize),
    ] {
        let begun = Instant::now();
        client.index(many, index);
        note(what, documents as f64 / begun.elapsed().as_secs_f64());
    }
    let groups = groups(documents);
    let find =
        |what: &'static str, requests: u64, expected: u64, find: &(dyn Fn(u64) -> Find + Sync)| {
            let rate = rate(peer, clients, requests, longest, |client, n| {
                assert_eq!(client.find(many, find(n)), expected, "{what}");
            });
            (what, rate)
        };
    let some = (requests / 10).max(1);
    for (what, rate) in [
        find("point query by id", requests, 1, &|n| Find::Id(spread(n, documents))),
        find("equality by an index", requests, 1, &|n| Find::Code(spread(n, documents))),
        find("range of 100 by an index", some, RANGE, &|n| {
            Find::Codes(spread(n, documents - RANGE + 1))
        }),
        find("compound, 50 of two fields", some, SIZES.end - SIZES.start, &|n| {
            Find::Sizes(spread(n, groups))
        }),
        find("sorted by an index, the first 10", some, FIRST, &|n| {
            Find::Largest(spread(n, groups))
        }),
    ] {
        note(what, rate);
    }
    let (what, scans) =
        find("documents of a full scan", clients.max(8), 10, &|_| Find::Balance(documents - 10));
    note(what, scans * documents as f64);
    let changes = requests.min(documents);
    let updated = rate(peer, clients, changes, longest, |client, n| {
        assert_eq!(client.update(many, spread(n, documents)), 1, "update");
    });
    note("update by an index", updated);
    let deleted = rate(peer, clients, changes, longest, |client, n| {
        assert_eq!(client.delete(many, n), 1, "delete");
    });
    note("delete by an index", deleted);
    figures
}
