//! A real node in this process, listening on a free port of the loopback.

#[cfg(feature = "foundationdb")]
#[path = "fdb.rs"]
#[allow(dead_code, reason = "nodes disturb no server")]
mod fdb;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use lethe::clock::SystemClock;
use lethe::config::{self, Config};
use lethe::node::Node;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Which engine the node stands on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StoreKind {
    Memory,
    #[allow(dead_code, reason = "not every test runs on all")]
    Embedded,
    /// On the server of this process, behind a prefix of its own.
    #[cfg(feature = "foundationdb")]
    #[allow(dead_code, reason = "not every test runs on all")]
    FoundationDb(&'static fdb::Server),
}

#[cfg(feature = "foundationdb")]
impl StoreKind {
    /// FoundationDB, if a server can be had; if not, that has been said.
    #[allow(dead_code, reason = "not every test runs on all")]
    pub(crate) fn foundationdb() -> Option<Self> {
        fdb::shared().map(Self::FoundationDb)
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Embedded => "embedded",
            #[cfg(feature = "foundationdb")]
            Self::FoundationDb(_) => "FoundationDB",
        })
    }
}

/// A node with a runtime and a folder of its own; both go when it is dropped.
#[derive(Debug)]
pub(crate) struct TestNode {
    address: SocketAddr,
    node: Option<Node>,
    runtime: Option<Runtime>,
    _folder: TempDir,
}

impl TestNode {
    pub(crate) fn start(store: StoreKind) -> TestNode {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        config.store = match store {
            StoreKind::Memory => config::StoreKind::Memory,
            StoreKind::Embedded => config::StoreKind::Embedded,
            #[cfg(feature = "foundationdb")]
            StoreKind::FoundationDb(server) => {
                config.foundationdb.cluster_file = Some(server.cluster_file());
                config.foundationdb.key_prefix = server.new_prefix();
                config::StoreKind::FoundationDb
            }
        };
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let runtime = Runtime::new().expect("a runtime");
        let started = Node::start(Arc::new(config), Arc::new(SystemClock));
        let node = runtime.block_on(started).expect("a node starts");
        let address = node.addresses()[0];
        TestNode { address, node: Some(node), runtime: Some(runtime), _folder: folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let (Some(runtime), Some(node)) = (self.runtime.take(), self.node.take()) {
            runtime.block_on(node.stop());
            runtime.shutdown_background();
        }
    }
}
