//! One node as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::client::Client;

/// Longer than a node takes to become a member, on a machine that is busy.
const READY: Duration = Duration::from_secs(60);

/// Heartbeats and leases shorter than the defaults, so that a test waits seconds.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
const SETTINGS: &[(&str, &str)] = &[
    ("LETHE_CLUSTER_HEARTBEAT", "300ms"),
    ("LETHE_CLUSTER_SILENT_AFTER", "3s"),
    ("LETHE_HTTP_BIND", ""),
    ("LETHE_LOG", "warn"),
];

/// A running node; killed when it goes out of scope.
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
    /// Says each time that the program has become ready: again after it started itself anew.
    ready: Receiver<()>,
}

impl Process {
    /// Starts a node on a free port and waits until it serves.
    pub(crate) fn start(cluster_file: &Path, prefix: &str, shards: u16) -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        Self::start_at(cluster_file, prefix, shards, address)
    }

    /// Starts a node there: also its name, so that it is the same one again.
    pub(crate) fn start_at(
        cluster_file: &Path,
        prefix: &str,
        shards: u16,
        address: SocketAddr,
    ) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lethe"))
            .args(["server", "--store", "foundationdb", "--key-prefix", prefix, "--cluster-file"])
            .arg(cluster_file)
            .args(["--port", &address.port().to_string()])
            .args(["--advertise", &address.to_string()])
            .env("LETHE_CLUSTER_SHARDS", shards.to_string())
            .envs(SETTINGS.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, ready) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody listens any more when the test is over.
                if line.contains("redis-cli") && sender.send(()).is_err() {
                    return;
                }
            }
        });
        let node = Self { child, address, ready };
        node.wait_ready();
        node
    }

    /// Waits until the program says, once more, that it is ready.
    pub(crate) fn wait_ready(&self) {
        let ready = self.ready.recv_timeout(READY);
        ready.unwrap_or_else(|_| panic!("the node at {} is not ready", self.address));
    }

    /// Its name in the cluster.
    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address).unwrap()
    }

    /// SIGSTOP: the process stands still, its connections stay.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.address
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(mut self) {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success());
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; one that stands still can be killed, too.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
