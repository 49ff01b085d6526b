//! A node in this process, and a session on it without a socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use lethe::clock::SystemClock;
use lethe::command::{Context, Services, execute};
use lethe::config::Config;
use lethe::node::{Node, NodeOptions};
use lethe::resp::{Reply, Words};
use lethe::session::Session;
use lethe::store::Store;

/// A node over a store in memory.
pub(crate) struct House {
    // Stops when dropped.
    _node: Node,
    services: Arc<Services>,
}

impl House {
    pub(crate) async fn build() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.server.listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        change(&mut config);
        let options = NodeOptions { exclusive: true, ..NodeOptions::default() };
        let clock = Arc::new(SystemClock);
        let node = Node::start_on(Store::memory(), Arc::new(config), clock, options).await.unwrap();
        Self { services: Arc::clone(node.services()), _node: node }
    }

    pub(crate) fn door(&self) -> Door {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let client = self.services.clients.connect(usize::MAX, nowhere, nowhere).unwrap();
        let session = Session::new(client, Arc::clone(&self.services.config));
        Door { services: Arc::clone(&self.services), session }
    }
}

/// One session.
pub(crate) struct Door {
    services: Arc<Services>,
    session: Session,
}

impl Door {
    /// Runs a command; its words are bytes, so that BSON can be among them.
    pub(crate) async fn call<W: AsRef<[u8]>>(
        &mut self,
        words: impl IntoIterator<Item = W>,
    ) -> Reply {
        let mut ctx = Context { session: &mut self.session, services: &self.services };
        execute(&mut ctx, Words::from_words(words)).await
    }

    /// How often this thread allocates while it runs a command, the making of its words and of the
    /// future not counted.
    pub(crate) async fn allocations(&mut self, line: &str) -> u64 {
        let words = Words::from_words(line.split(' '));
        let mut ctx = Context { session: &mut self.session, services: &self.services };
        let before = crate::allocations::count();
        let reply = execute(&mut ctx, words).await;
        let after = crate::allocations::count();
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
        after - before
    }

    /// Runs a command written as in a shell without quotes: words are told apart by spaces, so JSON has none.
    pub(crate) async fn say(&mut self, line: &str) -> Reply {
        self.call(line.split(' ')).await
    }

    /// As [`Door::say`], for commands that must succeed.
    pub(crate) async fn done(&mut self, line: &str) -> Reply {
        let reply = self.say(line).await;
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
        reply
    }

    /// As [`Door::say`], for commands that must fail: the message with its code.
    pub(crate) async fn refused(&mut self, line: &str) -> String {
        match self.say(line).await {
            Reply::Error(message) => message,
            reply => panic!("{line}: {reply:?}"),
        }
    }
}

/// The id and the entries of a reply with a cursor, in RESP2.
pub(crate) fn batch(reply: &Reply) -> (i64, Vec<bytes::Bytes>) {
    let Reply::Array(pair) = reply else { panic!("{reply:?}") };
    let [Reply::Integer(id), Reply::Array(entries)] = pair.as_slice() else { panic!("{reply:?}") };
    (*id, bulks(entries))
}

/// Bulk strings.
pub(crate) fn bulks(replies: &[Reply]) -> Vec<bytes::Bytes> {
    let bulk = |reply: &Reply| match reply {
        Reply::Bulk(bytes) => bytes.clone(),
        reply => panic!("{reply:?}"),
    };
    replies.iter().map(bulk).collect()
}
