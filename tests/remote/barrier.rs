//! Waiting for a barrier that does not hold: a second member has died and is not
//! evicted, so that nobody agrees in its name.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use lethe::node::NodeOptions;
use lethe::store::Store;
use tokio::runtime::Runtime;

use super::{Ran, TestNode, lethe};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3_600);

/// A cluster of one live member and one dead, with a removed bucket.
struct Stuck {
    node: TestNode,
    _store: Runtime,
}

impl Stuck {
    fn new(silent_after: Duration) -> Self {
        // What the store runs ends with neither node.
        let runtime = Runtime::new().unwrap();
        let store = {
            let _entered = runtime.enter();
            Store::memory()
        };
        let start = |name| {
            let runtime = Runtime::new().unwrap();
            TestNode::over(runtime, &store, name, NodeOptions::default(), silent_after)
        };
        let (node, mut other) = (start("n1"), start("n2"));
        node.play("BUCKET.CREATE users; BUCKET.INSERT users DOCS '{\"n\": 1}'");
        other.kill();
        node.play("BUCKET.REMOVE users");
        Self { node, _store: runtime }
    }

    fn purge(&self, more: &[&str]) -> Command {
        let mut command = lethe(&["purge", "users", "--yes", "users"]);
        command.args(more).env("LETHE_URL", self.node.url());
        command
    }

    /// A purge that waits, and has said for whom.
    fn waiting(&self) -> (Child, BufReader<ChildStderr>) {
        let mut command = self.purge(&[]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.starts_with("purging global/users  [") && line.contains("n2"), "{line:?}");
        (child, said)
    }

    fn bin(&self) -> String {
        self.node.ok(&["bin"])
    }
}

fn end((child, mut said): (Child, BufReader<ChildStderr>)) -> Ran {
    let mut err = String::new();
    said.read_to_string(&mut err).unwrap();
    let mut ran = Ran::from(child.wait_with_output().unwrap());
    ran.err = err;
    ran
}

#[test]
fn a_purge_shows_whom_it_waits_for_and_is_done_when_they_are_evicted() {
    let stuck = Stuck::new(Duration::from_millis(500));
    let ran = Ran::of(&mut stuck.purge(&[]));
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.starts_with("purged global/users (1 document"), "{ran:?}");
}

#[test]
fn a_purge_that_is_not_done_in_time_has_a_status_of_its_own() {
    let stuck = Stuck::new(NEVER);
    let ran = Ran::of(&mut stuck.purge(&["--timeout", "50ms"]));
    ran.expect(4, &["not purged yet", "BARRIERNOTSATISFIED", "the request stays"]);
    let ran = Ran::of(&mut stuck.purge(&["--timeout", "50ms", "--json"]));
    assert_eq!((ran.status, ran.error()["code"].as_str()), (4, Some("WAITING")));
    let ran = Ran::of(&mut stuck.purge(&["--no-wait"]));
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.starts_with("asked to purge global/users"), "{ran:?}");
    assert!(stuck.bin().contains("global/users"));
}

/// The right to purge, and to read what is purged by its name, is enough to wait and to see for whom.
#[test]
fn who_may_purge_and_no_more_waits_like_everybody() {
    let stuck = Stuck::new(NEVER);
    stuck.node.play("ACL SETUSER ada on >geheim ~global +@read +@purge");
    let ran = Ran::of(
        stuck
            .purge(&["--timeout", "50ms"])
            .env("LETHE_URL", format!("redis://ada@{}", stuck.node.address))
            .env("LETHE_PASSWORD", "geheim"),
    );
    ran.expect(4, &["purging global/users  [", "of 7 shards have let go; waiting for", "n2"]);
    stuck.node.none_refused();
}

#[test]
fn who_stops_waiting_is_told_that_the_cluster_goes_on() {
    let stuck = Stuck::new(NEVER);
    let (child, said) = stuck.waiting();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    end((child, said)).expect(130, &["stopped waiting", "the cluster finishes it alone"]);
    assert!(stuck.bin().contains("global/users"));
    assert!(stuck.node.ok(&["restore", "users"]).starts_with("restored global/users"));
}

#[test]
fn a_node_that_dies_meanwhile_is_named_and_the_request_stays() {
    let mut stuck = Stuck::new(NEVER);
    let waiting = stuck.waiting();
    stuck.node.kill();
    end(waiting)
        .expect(3, &[&stuck.node.address.to_string(), "the request stays", "lethe purge r_"]);
}
