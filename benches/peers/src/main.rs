//! Lethe beside others, doing the same work under the same durability.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- in-process
//! ```
//!
//! measures it inside this process beside Nitrite, an embedded document store on
//! the same storage engine, and prints a table. `servers` measures running
//! servers over TCP, whose addresses are in `LETHE` and `POSTGRES`, and prints a
//! line for each figure: that is what `scripts/load` calls.
//!
//! `DOCUMENTS`, `REQUESTS`, `CLIENTS` and `RUNS` say how much, `LONGEST` how many seconds a kind of
//! request may be measured at most.

mod nitrite_peer;
mod ours;
mod postgres_peer;
mod work;

use std::collections::BTreeMap;

use work::{Figure, Peer, Size};

/// That of the program that is measured over TCP.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
        Err(_) => otherwise,
    }
}

fn main() {
    let size = Size {
        documents: number("DOCUMENTS", 20_000),
        requests: number("REQUESTS", 100_000),
        clients: number("CLIENTS", 64),
        seconds: number("LONGEST", 10),
    };
    match std::env::args().nth(1).as_deref() {
        Some("in-process") => in_process(&size, number("RUNS", 5)),
        Some("servers") => servers(&size),
        _ => {
            eprintln!("usage: lethe-peers in-process | servers");
            std::process::exit(2);
        }
    }
}

fn in_process(size: &Size, runs: u64) {
    let mut all: BTreeMap<&str, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    let mut rows: Vec<Figure> = Vec::new();
    for run in 1..=runs {
        eprintln!("run {run} of {runs}");
        let peers: [Box<dyn Peer>; 2] =
            [Box::new(ours::Embedded::start()), Box::new(nitrite_peer::Nitrite::open())];
        for peer in peers {
            rows = work::run(&*peer, size, &format!("run{run}"));
            for figure in &rows {
                all.entry(figure.what)
                    .or_default()
                    .entry(peer.name())
                    .or_default()
                    .push(figure.rate);
            }
        }
    }
    let Size { documents, clients, .. } = size;
    println!("{documents} documents, {clients} threads, median of {runs} runs, per second\n");
    println!("| what | lethe | nitrite | lethe / nitrite |\n|---|---|---|---|");
    for Figure { what, .. } in rows {
        let median = |peer: &str| {
            let mut rates = all[what][peer].clone();
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        let (ours, theirs) = (median("lethe"), median("nitrite"));
        println!("| {what} | {ours:.0} | {theirs:.0} | {:.2} |", ours / theirs);
    }
}

/// One run of each server that an address is given of.
fn servers(size: &Size) {
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    if let Ok(address) = std::env::var("LETHE") {
        peers.push(Box::new(ours::Server::at(&address)));
    }
    if let Ok(parameters) = std::env::var("POSTGRES") {
        peers.push(Box::new(postgres_peer::Postgres::at(&parameters)));
    }
    // So that several runs do not meet each other's documents.
    let name = format!("peers{}", std::process::id());
    for peer in peers {
        for Figure { what, rate } in work::run(&*peer, size, &name) {
            println!("{what}\t{}\t{rate:.1}", peer.name());
        }
    }
}
