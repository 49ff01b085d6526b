//! The subcommands that talk to a node: the program itself, as a process, against
//! nodes in this one.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod barrier;
mod broken;
#[path = "../support/cli.rs"]
mod cli;
#[path = "../support/client.rs"]
mod client;
mod everyday;
#[path = "../support/mask.rs"]
mod mask;
mod pages;
mod passwords;
#[path = "../support/report.rs"]
mod report;
mod rights;

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lethe::clock::TestClock;
use lethe::config::Config;
use lethe::node::{Node, NodeOptions};
use lethe::store::Store;
use serde_json::Value as Json;
use tokio::runtime::Runtime;

/// The time that clocks show, 2027-01-15T08:00:00Z: it stands still.
const EPOCH: i64 = 1_800_000_000_000;

/// A node with a runtime of its own, so that its end is that of all its connections.
struct TestNode {
    node: Option<Node>,
    runtime: Option<Runtime>,
    address: SocketAddr,
    clock: TestClock,
}

impl TestNode {
    fn start() -> Self {
        let options = NodeOptions { exclusive: true, ..NodeOptions::default() };
        let runtime = Runtime::new().unwrap();
        let store = {
            let _entered = runtime.enter();
            Store::memory()
        };
        Self::over(runtime, &store, "n1", options, Config::default().cluster.silent_after)
    }

    /// One of several nodes over a store.
    fn over(
        runtime: Runtime,
        store: &Store,
        name: &str,
        options: NodeOptions,
        silent_after: Duration,
    ) -> Self {
        let mut config = Config::default();
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.http.listen.clear();
        config.store = lethe::config::StoreKind::Memory;
        config.cluster.node = Some(name.to_owned());
        config.cluster.heartbeat = Duration::from_millis(20);
        config.cluster.silent_after = silent_after;
        let clock = TestClock::starting_at(EPOCH);
        let started =
            Node::start_on(store.clone(), Arc::new(config), Arc::new(clock.clone()), options);
        let node = runtime.block_on(started).unwrap();
        let address = node.addresses()[0];
        Self { node: Some(node), runtime: Some(runtime), address, clock }
    }

    fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Plays a line as redis-cli would, which must succeed.
    fn play(&self, line: &str) -> client::Value {
        let mut connection = client::Client::connect(self.address).unwrap();
        let mut reply = client::Value::Null;
        // Several commands on one connection, since USE holds for the rest of it.
        for line in line.split("; ") {
            reply = connection.call(&cli::split(line).unwrap()).unwrap();
            assert!(!matches!(reply, client::Value::Error(_)), "{line}: {reply:?}");
        }
        reply
    }

    /// The program with these words, on this node.
    fn lethe(&self, words: &[&str]) -> Ran {
        Ran::of(lethe(words).env("LETHE_URL", self.url()))
    }

    /// As [`TestNode::lethe`], which must succeed and say nothing but its result.
    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let ran = self.lethe(words);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{words:?}");
        ran.out
    }

    /// As [`TestNode::ok`], with `--json`.
    #[track_caller]
    fn json(&self, words: &[&str]) -> Json {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ok(&words)).unwrap()
    }

    /// Ends as by kill -9.
    fn kill(&mut self) {
        if let Some(node) = self.node.take() {
            node.kill();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program, with nothing of our own environment that it would look at.
fn lethe(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lethe"));
    for name in [
        "LETHE_URL",
        "LETHE_PASSWORD",
        "LETHE_FROM_PASSWORD",
        "LETHE_TO_PASSWORD",
        "LETHE_LOG",
        "LETHE_CONFIG",
        "NO_COLOR",
    ] {
        command.env_remove(name);
    }
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs a program on a terminal, at which somebody types a line; `None` where there is none to be had.
fn on_a_terminal(program: &Command, typed: &str) -> Option<Ran> {
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    // None of our words has a blank or a quote in it.
    let line: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-q", "-e", "-f", "-c", &line.join(" "), "/dev/null"]);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    terminal.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = terminal.spawn().ok()?;
    // Open to the end: with it the terminal would be gone.
    let mut keys = terminal.stdin.take()?;
    writeln!(keys, "{typed}").unwrap();
    let ran = Ran::from(terminal.wait_with_output().unwrap());
    drop(keys);
    Some(ran)
}

/// How a run of the program ended.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    /// The one error that was told, as JSON.
    #[track_caller]
    fn error(&self) -> Json {
        let error: Json = serde_json::from_str(&self.err).unwrap_or_else(|_| panic!("{self:?}"));
        error["error"].clone()
    }

    /// That it ended with this status, and said all of this on the standard error.
    #[track_caller]
    fn expect(&self, status: i32, said: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        for text in said {
            assert!(self.err.contains(text), "no {text:?} in {self:?}");
        }
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            status: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}
