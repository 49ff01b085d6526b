//! Real FoundationDB servers on the loopback, started by the tests that need them.
//!
//! The programs are `fdbserver` and `fdbcli`: those of the variables `FDBSERVER` and `FDBCLI`, those beside each other, those of the
//! PATH. A server ends with whoever owns it, also when that panics or is killed: a shell holds it, and waits for the end of its
//! standard input.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use lethe::store::{FoundationDbOptions, Store};
use tempfile::TempDir;

/// Starts the program, tells its process id, and kills it at a line of input. At the end of the input its owner is gone, and it
/// clears up.
const KEEPER: &str = r#""$@" >/dev/null 2>&1 & server=$!
echo $server
read -r _ || gone=yes
kill -9 $server
wait $server
[ -z "$gone" ] || rm -rf "$SERVER_FOLDER""#;
/// Another process may take a port between our choice and the server's start.
const STARTS_MAX: usize = 5;

/// Where the programs are.
#[derive(Debug, Clone)]
struct Programs {
    server: PathBuf,
    cli: PathBuf,
}

fn programs() -> Option<Programs> {
    let server = program("FDBSERVER", "fdbserver", None)?;
    let cli = program("FDBCLI", "fdbcli", server.parent())?;
    Some(Programs { server, cli })
}

fn program(variable: &str, name: &str, beside: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
        return Some(path);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut places = beside.map(Path::to_owned).into_iter().chain(std::env::split_paths(&folders));
    places.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
}

/// One server, alone in its cluster. What it acknowledged is on disk, so that it may be killed and started again.
pub(crate) struct Server {
    programs: Programs,
    folder: TempDir,
    port: u16,
    running: Mutex<Option<Running>>,
    prefixes: AtomicU64,
}

struct Running {
    keeper: Child,
    /// Closing it ends the server.
    input: Option<ChildStdin>,
    id: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The server that the tests of this process share; each of them takes a prefix of its own. `None`: there is no `fdbserver`
/// here, which has been said.
pub(crate) fn shared() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED.get_or_init(Server::start).as_ref()
}

impl Server {
    /// A server of the caller's own. `None`: there is no `fdbserver` here, which has been said.
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            crate::report::skipped(
                "FoundationDB: no fdbserver and fdbcli in PATH, FDBSERVER and FDBCLI",
            );
            return None;
        };
        let started = (0..STARTS_MAX).find_map(|_| Self::try_start(programs.clone()));
        Some(started.expect("fdbserver starts and lets itself be configured"))
    }

    fn try_start(programs: Programs) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = free.local_addr().expect("the port").port();
        drop(free);
        let line = format!("test:test@127.0.0.1:{port}\n");
        std::fs::write(folder.path().join("fdb.cluster"), line).expect("the cluster file");
        for name in ["data", "log"] {
            std::fs::create_dir(folder.path().join(name)).expect("its folders");
        }
        let running = Mutex::new(None);
        let server = Self { programs, folder, port, running, prefixes: AtomicU64::new(0) };
        server.go_on();
        server.try_cli("configure new single memory").then_some(server)
    }

    /// Starts it again after [`Server::kill`].
    pub(crate) fn go_on(&self) {
        let mut running = self.running.lock().expect("nobody panicked with it");
        assert!(running.is_none(), "it runs already");
        let path = |name: &str| self.folder.path().join(name);
        let mut keeper = Command::new("sh")
            .env("SERVER_FOLDER", self.folder.path())
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.programs.server)
            .arg("--cluster-file")
            .arg(path("fdb.cluster"))
            .args(["--public-address", &format!("127.0.0.1:{}", self.port)])
            .arg("--datadir")
            .arg(path("data"))
            .arg("--logdir")
            .arg(path("log"))
            .args(["--memory", "2GiB", "--cache-memory", "256MiB", "--storage-memory", "512MiB"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Where it would tell that the server was killed.
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut id = String::new();
        let output = keeper.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut id).expect("the server's id");
        let input = keeper.stdin.take();
        *running = Some(Running { keeper, input, id: id.trim().to_owned() });
    }

    /// SIGKILL: it gets no chance to finish anything.
    pub(crate) fn kill(&self) {
        if let Some(running) = self.running.lock().expect("nobody panicked with it").take() {
            running.end();
        }
    }

    /// Stops answering without losing its connections, until [`Server::resume`].
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Ends [`Server::pause`].
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let running = self.running.lock().expect("nobody panicked with it");
        let id = &running.as_ref().expect("it runs").id;
        let sent = Command::new("kill").args([signal, id]).status().expect("kill");
        assert!(sent.success(), "kill {signal} {id}");
    }

    /// Has `fdbcli` do something.
    pub(crate) fn cli(&self, command: &str) {
        assert!(self.try_cli(command), "fdbcli: {command}");
    }

    fn try_cli(&self, command: &str) -> bool {
        let output = Command::new(&self.programs.cli)
            .arg("-C")
            .arg(self.cluster_file())
            .args(["--timeout", "60", "--exec", command])
            .output()
            .expect("fdbcli");
        if !output.status.success() {
            // Kept back by the test runner unless the test fails.
            println!("fdbcli {command}: {}", String::from_utf8_lossy(&output.stdout));
            println!("{}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success()
    }

    pub(crate) fn cluster_file(&self) -> PathBuf {
        self.folder.path().join("fdb.cluster")
    }

    /// A prefix that nobody has used here.
    pub(crate) fn new_prefix(&self) -> String {
        format!("test-{}", self.prefixes.fetch_add(1, Ordering::Relaxed))
    }

    /// An empty store.
    pub(crate) async fn store(&self) -> Store {
        self.store_with(&self.new_prefix(), Duration::from_secs(30)).await
    }

    /// The store with this prefix.
    pub(crate) async fn store_with(&self, prefix: &str, timeout: Duration) -> Store {
        let options = FoundationDbOptions {
            cluster_file: Some(self.cluster_file()),
            key_prefix: prefix.to_owned(),
            timeout,
        };
        Store::foundationdb(&options).await.expect("FoundationDB answers")
    }
}

impl Running {
    fn end(mut self) {
        // The shell waits for this line, or for the end of the lines. It may be gone already.
        if let Some(mut input) = self.input.take() {
            drop(input.write_all(b"end\n"));
        }
        drop(self.keeper.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
