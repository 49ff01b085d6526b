//! Runs the shared command and reply cases (`shared/cases`) against a real node over TCP.
//!
//! The cases are the contract with what users know; their README says what a
//! case means. What is not built yet stands by name in `tests/cases_pending.txt`:
//! a case on that list which passes fails the test, so the list only shrinks.

#[path = "support/client.rs"]
mod client;
#[path = "support/expect.rs"]
mod expect;
#[path = "support/node.rs"]
mod node;
#[path = "support/report.rs"]
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_yaml_ng::Value as Yaml;
use tokio::time::Instant;

use client::{Client, Value};
use expect::Verdict;
use node::{StoreKind, TestNode};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(rename = "source")]
    _source: String,
    #[serde(default, rename = "note")]
    _note: Option<String>,
    #[serde(default)]
    needs: Vec<String>,
    #[serde(default)]
    setup: Vec<Vec<String>>,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    cmd: Vec<String>,
    expect: Yaml,
    #[serde(default)]
    retry_s: Option<u64>,
    /// Which connection; without it the first.
    #[serde(default)]
    conn: Option<String>,
}

/// The folder with the cases: beside the repository, or beside a folder above it.
fn cases_folder() -> Option<PathBuf> {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/cases"))
        .find(|folder| folder.is_dir())
}

/// Every case by `family/name`.
fn read_cases(folder: &PathBuf) -> BTreeMap<String, Case> {
    let mut cases = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the cases can be listed") {
        let path = entry.expect("a folder entry can be read").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let family = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a case file can be read");
        let list: Vec<Case> = serde_yaml_ng::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for case in list {
            let name = format!("{family}/{}", case.name);
            assert!(cases.insert(name.clone(), case).is_none(), "two cases are called {name}");
        }
    }
    cases
}

fn pending() -> BTreeSet<String> {
    include_str!("cases_pending.txt")
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// The connections of one case, each prepared in the same way.
struct Connections<'a> {
    node: &'a TestNode,
    namespace: &'a str,
    resp3: bool,
    open: BTreeMap<String, Client>,
}

impl Connections<'_> {
    fn call(&mut self, connection: &str, argv: &[String]) -> Result<Value, String> {
        if !self.open.contains_key(connection) {
            let client = self.prepare().map_err(|error| format!("connecting: {error}"))??;
            self.open.insert(connection.to_owned(), client);
        }
        let client = self.open.get_mut(connection).expect("inserted above");
        let argv: Vec<String> =
            argv.iter().map(|argument| argument.replace("${ns}", self.namespace)).collect();
        client.call(&argv).map_err(|error| format!("{argv:?}: {error}"))
    }

    fn prepare(&self) -> io::Result<Result<Client, String>> {
        let mut client = Client::connect(self.node.address())?;
        if self.resp3
            && let Value::Error(error) = client.call(&["HELLO", "3"])?
        {
            return Ok(Err(error));
        }
        for argv in [
            vec!["SESSION.ATTRIBUTE", "SET", "input_type", "json"],
            vec!["SESSION.ATTRIBUTE", "SET", "reply_type", "json"],
            vec!["SESSION.ATTRIBUTE", "SET", "object_id_format", "hex"],
            vec!["NAMESPACE", "USE", self.namespace],
        ] {
            if let Value::Error(error) = client.call(&argv)? {
                return Ok(Err(format!("{argv:?}: {error}")));
            }
        }
        Ok(Ok(client))
    }
}

fn run_case(node: &TestNode, namespace: &str, case: &Case) -> Verdict {
    if let Some(unknown) =
        case.needs.iter().find(|need| !["resp3", "slow"].contains(&need.as_str()))
    {
        return Err(format!("the runner does not know the need `{unknown}`"));
    }
    let mut admin = Client::connect(node.address()).map_err(|error| error.to_string())?;
    let created = admin.call(&["NAMESPACE", "CREATE", namespace]).map_err(|e| e.to_string())?;
    if created != Value::Simple("OK".to_owned()) {
        return Err(format!("NAMESPACE CREATE: {}", expect::as_text(&created)));
    }
    let resp3 = case.needs.iter().any(|need| need == "resp3");
    let mut connections = Connections { node, namespace, resp3, open: BTreeMap::new() };
    for argv in &case.setup {
        if let Value::Error(error) = connections.call("a", argv)? {
            return Err(format!("setup {argv:?}: {error}"));
        }
    }
    case.steps.iter().enumerate().try_for_each(|(number, step)| {
        run_step(&mut connections, namespace, step)
            .map_err(|error| format!("step {} {:?}: {error}", number + 1, step.cmd))
    })
}

fn run_step(connections: &mut Connections<'_>, namespace: &str, step: &Step) -> Verdict {
    let expected = expect::substitute(&step.expect, namespace);
    let connection = step.conn.as_deref().unwrap_or("a");
    let deadline = Instant::now() + Duration::from_secs(step.retry_s.unwrap_or(0));
    let mut first = None;
    loop {
        let reply = connections.call(connection, &step.cmd)?;
        let Err(error) = expect::check(&expected, &reply) else { return Ok(()) };
        // Asked again at once: the round trip to the node is the pause.
        if Instant::now() >= deadline {
            return Err(first.map_or(error.clone(), |first| format!("{first}; at last {error}")));
        }
        first.get_or_insert(error);
    }
}

fn run_all_on(store: StoreKind) {
    let Some(folder) = cases_folder() else {
        report::skipped(&format!("the shared cases on the {store} store: no folder shared/cases"));
        return;
    };
    let cases = read_cases(&folder);
    assert!(!cases.is_empty(), "{} holds no case", folder.display());
    let pending = pending();
    let unknown: Vec<_> = pending.iter().filter(|name| !cases.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "tests/cases_pending.txt names no case of ours: {unknown:?}");

    let node = TestNode::start(store);
    let mut wrong = Vec::new();
    let mut waiting = 0;
    for (number, (name, case)) in cases.iter().enumerate() {
        let verdict = run_case(&node, &format!("case_{number}"), case);
        match (verdict, pending.contains(name)) {
            (Ok(()), false) => {}
            (Err(_), true) => waiting += 1,
            (Ok(()), true) => wrong.push(format!("{name}: passes; take it off cases_pending.txt")),
            (Err(error), false) => wrong.push(format!("{name}: {error}")),
        }
    }
    let held = cases.len() - waiting - wrong.len();
    report::say(&format!(
        "shared cases on the {store} store: {} in all, {held} hold, {waiting} not built yet",
        cases.len()
    ));
    assert!(
        wrong.is_empty(),
        "{} cases on the {store} store:\n  {}",
        wrong.len(),
        wrong.join("\n  ")
    );
}

#[test]
fn the_shared_cases_hold_on_the_memory_store() {
    run_all_on(StoreKind::Memory);
}

#[test]
fn the_shared_cases_hold_on_the_embedded_store() {
    run_all_on(StoreKind::Embedded);
}

#[cfg(feature = "foundationdb")]
#[test]
fn the_shared_cases_hold_on_the_foundationdb_store() {
    if let Some(store) = StoreKind::foundationdb() {
        run_all_on(store);
    }
}
