//! Plays the recorded conversations of `tests/transcripts/**` and of the command pages against a node.
//!
//! ```text
//! > BUCKET.CREATE users          sent as it stands, split as redis-cli splits
//! c2:> BUCKET.LIST               the same on a second connection
//! ---
//! c2: 1) "users"                 printed as redis-cli prints; a plain OK prints nothing
//!
//! load data/a.jsonl users        inserts a file of the repository, a document a line
//! index users by-name            waits until the index is built and analyzed
//! ```
//!
//! Ids, versions, times and addresses are masked (`<removal:1>`), and a masked name in a
//! line stands for the value it was given for. Each script runs on a fresh node with the
//! memory store and on one with the embedded store, and must read the same on both; with the
//! feature `foundationdb` and a server of it also there.
//! `UPDATE_GOLDENFILES=1 cargo test --test transcripts` records: read what it recorded.

#[path = "support/cli.rs"]
mod cli;
#[path = "support/client.rs"]
mod client;
#[path = "support/mask.rs"]
mod mask;
#[path = "support/node.rs"]
mod node;
#[cfg(feature = "foundationdb")]
#[path = "support/report.rs"]
mod report;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use client::{Client, Value};
use mask::Masks;
use node::{StoreKind, TestNode};

/// How long a node that has nothing else to do may take to see a removal.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(20);

struct Player {
    node: TestNode,
    /// A connection beside the script's.
    watcher: Client,
    masks: Masks,
    connections: BTreeMap<String, Client>,
}

impl Player {
    fn new(store: StoreKind, script: &str) -> Player {
        let node = TestNode::start(store);
        let watcher = Client::connect(node.address()).expect("a connection");
        Player { node, watcher, masks: Masks::new(script), connections: BTreeMap::new() }
    }

    fn send(&mut self, connection: &str, line: &str) -> Result<String, Box<dyn Error>> {
        if !self.connections.contains_key(connection) {
            let client = Client::connect(self.node.address())?;
            self.connections.insert(connection.to_owned(), client);
        }
        let client = self.connections.get_mut(connection).expect("inserted above");
        let argv = cli::split(&self.masks.reveal(line))?;
        let reply = client.call(&argv)?;
        self.settle()?;
        if reply == Value::Simple("OK".to_owned()) {
            return Ok(String::new());
        }
        Ok(self.masks.hide(&cli::print(&reply)))
    }

    /// Inserts a file of the repository, a document a line, as a shell would with `xargs`.
    fn load(&mut self, file: &str, bucket: &str) -> Result<(), Box<dyn Error>> {
        let text = std::fs::read_to_string(root().join(file))?;
        for lines in text.lines().collect::<Vec<_>>().chunks(200) {
            let reply = self.watcher.call(&[&["BUCKET.INSERT", bucket, "DOCS"], lines].concat())?;
            if !matches!(reply, Value::Array(_)) {
                return Err(format!("{file}: {reply:?}").into());
            }
        }
        Ok(())
    }

    /// Waits until an index is built and how its values are spread is known.
    fn built(&mut self, bucket: &str, name: &str) -> Result<(), Box<dyn Error>> {
        let deadline = Instant::now() + SETTLE_TIME_MAX;
        while Instant::now() < deadline {
            let tasks = self.watcher.call(&["BUCKET.INDEX", "TASKS", bucket, name])?;
            let Value::Array(tasks) = &tasks else { return Err(format!("{tasks:?}").into()) };
            let completed = Value::Bulk(b"COMPLETED".to_vec());
            let (tasks, _) = tasks.as_chunks::<2>();
            // The build and the analysis behind it.
            if tasks.len() == 2
                && tasks.iter().all(|[_, task]| field(task, "status") == Some(&completed))
            {
                return Ok(());
            }
        }
        Err(format!("the index {name} is not built").into())
    }

    /// Waits until every shard has seen every removal and the bytes of every purge are given back, so
    /// that what is printed does not depend on how fast that was.
    fn settle(&mut self) -> Result<(), Box<dyn Error>> {
        let deadline = Instant::now() + SETTLE_TIME_MAX;
        while Instant::now() < deadline {
            let mut removed = Vec::new();
            for list in [&["BUCKET.REMOVED", "NAMESPACE", "*"][..], &["NAMESPACE", "REMOVED"]] {
                let Value::Array(rows) = self.watcher.call(list)? else {
                    return Err(format!("{list:?} answers no array").into());
                };
                removed.extend(rows);
            }
            let settled = |row: &Value| {
                field(row, "witnessed") == field(row, "shards")
                    && field(row, "state") == Some(&Value::Bulk(b"removed".to_vec()))
            };
            if removed.iter().all(settled) {
                return Ok(());
            }
        }
        Err("the node does not come to rest".into())
    }
}

impl goldenscript::Runner for Player {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let arguments: Vec<&str> = command.consume_args().filter_map(|a| positional(a)).collect();
        match (command.name.as_str(), arguments.as_slice()) {
            // A line after `>` arrives whole, as the name.
            (line, []) => self.send(context.prefix.as_deref().unwrap_or_default(), line),
            ("load", [file, bucket]) => self.load(file, bucket).map(|()| String::new()),
            ("index", [bucket, name]) => self.built(bucket, name).map(|()| String::new()),
            (word, _) => Err(format!("no harness line `{word}`; commands start with `>`").into()),
        }
    }
}

fn positional(argument: &goldenscript::Argument) -> Option<&str> {
    match argument {
        goldenscript::Argument::Positional(value) => Some(value),
        _ => None,
    }
}

/// A field of a map that RESP2 has laid flat.
fn field<'a>(row: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Array(flat) = row else { return None };
    let (pairs, _) = flat.as_chunks::<2>();
    pairs.iter().find(|[key, _]| *key == Value::Bulk(name.into())).map(|[_, value]| value)
}

fn recording() -> bool {
    std::env::var("UPDATE_GOLDENFILES").is_ok_and(|value| value == "1")
}

/// Plays the scripts one after the other on one node; what each prints, with its commands.
fn play(store: StoreKind, scripts: &[&str]) -> Result<Vec<String>, String> {
    let mut player = Player::new(store, &scripts.join("\n"));
    scripts
        .iter()
        .map(|script| {
            goldenscript::generate(&mut player, script).map_err(|error| format!("{store}: {error}"))
        })
        .collect()
}

/// Plays on both stores; an error names the first line that differs.
fn play_on_both(scripts: &[&str]) -> Result<Vec<String>, String> {
    let memory = play(StoreKind::Memory, scripts)?;
    let embedded = play(StoreKind::Embedded, scripts)?;
    for (memory, embedded) in memory.iter().zip(&embedded) {
        same_text("the memory store", memory, "the embedded store", embedded)?;
    }
    Ok(memory)
}

/// Plays on FoundationDB, if there is one to be had; what differs was not recorded so.
#[cfg(feature = "foundationdb")]
fn play_on_foundationdb(scripts: &[&str]) -> Result<Vec<String>, String> {
    match StoreKind::foundationdb() {
        // What is being recorded is compared in the next run.
        Some(store) if !recording() => play(store, scripts),
        _ => Ok(scripts.iter().map(|script| (*script).to_owned()).collect()),
    }
}

fn same_text(left_name: &str, left: &str, right_name: &str, right: &str) -> Result<(), String> {
    if left == right {
        return Ok(());
    }
    let lines = left.lines().zip(right.lines());
    let number = lines.take_while(|(left, right)| left == right).count();
    let mut message = format!("line {}:", number + 1);
    for (name, text) in [(left_name, left), (right_name, right)] {
        let shown: Vec<&str> = text.lines().skip(number).take(6).collect();
        write!(message, "\n    {name}:\n      {}", shown.join("\n      "))
            .expect("a string takes everything");
    }
    Err(message)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return files };
    for entry in entries {
        let path = entry.expect("a folder entry can be read").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Plays scripts one after the other and gives what they print.
type Play = fn(&[&str]) -> Result<Vec<String>, String>;

fn check_script(path: &Path, play: Play) -> Result<(), String> {
    let recorded = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let played = play(&[&recorded])?.concat();
    check_played(path, &recorded, &played)
}

/// Compares with what stands in the file, or records.
fn check_played(path: &Path, recorded: &str, played: &str) -> Result<(), String> {
    if recording() && played != recorded {
        return std::fs::write(path, played).map_err(|error| error.to_string());
    }
    same_text("recorded", recorded, "played", played)
}

/// The page cut at its transcript blocks: text and scripts in turn, beginning and ending with text.
fn cut_page(page: &str) -> Vec<String> {
    const FENCE: &str = "```transcript\n";
    let mut parts = vec![String::new()];
    let mut in_script = false;
    for line in page.split_inclusive('\n') {
        if !in_script && line == FENCE {
            parts.last_mut().expect("never empty").push_str(line);
            parts.push(String::new());
            in_script = true;
        } else {
            if in_script && line.trim_end() == "```" {
                parts.push(String::new());
                in_script = false;
            }
            parts.last_mut().expect("never empty").push_str(line);
        }
    }
    parts
}

fn check_page(path: &Path, play: Play) -> Result<(), String> {
    let page = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut parts = cut_page(&page);
    let scripts: Vec<&str> = parts.iter().skip(1).step_by(2).map(String::as_str).collect();
    if scripts.is_empty() {
        return Err("the page shows no transcript".to_owned());
    }
    let played = play(&scripts)?;
    for (script, played) in parts.iter_mut().skip(1).step_by(2).zip(played) {
        *script = played;
    }
    check_played(path, &page, &parts.concat())
}

#[track_caller]
fn check_all(files: &[PathBuf], check: impl Fn(&Path) -> Result<(), String>) {
    assert!(!files.is_empty(), "there is nothing to play");
    let wrong: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let error = check(file).err()?;
            let name = file.strip_prefix(root()).unwrap_or(file).display();
            Some(format!("{name}: {error}"))
        })
        .collect();
    println!("{} played, {} differ", files.len(), wrong.len());
    assert!(wrong.is_empty(), "{} of {}:\n  {}", wrong.len(), files.len(), wrong.join("\n  "));
}

#[test]
fn every_transcript_reads_as_recorded_on_both_stores() {
    check_all(&transcripts(), |file| check_script(file, play_on_both));
}

#[cfg(feature = "foundationdb")]
#[test]
fn every_transcript_reads_as_recorded_on_foundationdb() {
    check_all(&transcripts(), |file| check_script(file, play_on_foundationdb));
}

fn transcripts() -> Vec<PathBuf> {
    files_below(&root().join("tests/transcripts"))
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = files_below(&root().join("docs/commands"))
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "README.md"))
        .collect();
    pages.push(root().join("README.md"));
    pages.extend(
        ["bql", "collation", "stories", "tutorial", "types"]
            .map(|name| root().join(format!("docs/{name}.md"))),
    );
    pages
}

#[test]
fn every_transcript_in_the_manual_reads_as_recorded_on_both_stores() {
    check_all(&pages(), |page| check_page(page, play_on_both));
}

#[cfg(feature = "foundationdb")]
#[test]
fn every_transcript_in_the_manual_reads_as_recorded_on_foundationdb() {
    check_all(&pages(), |page| check_page(page, play_on_foundationdb));
}

#[test]
fn a_page_is_cut_at_its_transcripts_and_at_nothing_else() {
    let page = "# A\n```sh\nx\n```\n```transcript\n> PING\n---\nPONG\n```\ntext\n";
    let parts = cut_page(page);
    assert_eq!(parts.concat(), page);
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[1], "> PING\n---\nPONG\n");
}
