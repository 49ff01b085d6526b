//! Lethe: a node in this process without a socket, and a server over TCP.

#[path = "../../../tests/support/client.rs"]
#[allow(dead_code, reason = "written for tests that look at more of a reply")]
mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use client::Value;
use lethe::clock::SystemClock;
use lethe::command::{Context, Services, execute};
use lethe::config::Config;
use lethe::node::Node;
use lethe::resp::{Reply, Words};
use lethe::session::{Client as Connected, Session};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::work::{Client, Document, FIRST, Find, Index, Peer, RANGE, SIZES, code, group_name};

/// A reply, however it came.
enum Answer {
    Integer(i64),
    Text(String),
    List(Vec<Answer>),
    Nothing,
}

/// Who carries a command there and its reply back.
trait Ask: Send {
    fn ask(&mut self, argv: &[&str]) -> Answer;
}

/// A node on a folder of its own. Both go when it is dropped.
pub struct Embedded {
    services: Arc<Services>,
    node: Option<Node>,
    runtime: Runtime,
    _folder: TempDir,
}

impl Embedded {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.http.listen.clear();
        let runtime = Runtime::new().expect("a runtime");
        let started = Node::start(Arc::new(config), Arc::new(SystemClock));
        let node = runtime.block_on(started).expect("a node starts");
        let services = Arc::clone(node.services());
        Self { services, node: Some(node), runtime, _folder: folder }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            self.runtime.block_on(node.stop());
        }
    }
}

impl Peer for Embedded {
    fn name(&self) -> &'static str {
        "lethe"
    }

    fn client(&self) -> Box<dyn Client + '_> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = Arc::new(Connected::new(0, nowhere, nowhere));
        let session = Session::new(client, Arc::clone(&self.services.config));
        Box::new(Asking(Inside { peer: self, session }))
    }
}

struct Inside<'a> {
    peer: &'a Embedded,
    session: Session,
}

impl Ask for Inside<'_> {
    fn ask(&mut self, argv: &[&str]) -> Answer {
        let mut context = Context { session: &mut self.session, services: &self.peer.services };
        let reply = execute(&mut context, Words::from_words(argv));
        Answer::from(self.peer.runtime.handle().block_on(reply))
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Integer(number) => Self::Integer(number),
            Reply::Bulk(bytes) => Self::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Reply::Text(text) => Self::Text(text),
            Reply::Simple(text) => Self::Text(text.to_string()),
            Reply::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Reply::Map(pairs) => Self::List(
                pairs.into_iter().flat_map(|(key, value)| [key.into(), value.into()]).collect(),
            ),
            Reply::Error(message) => panic!("{message}"),
            _ => Self::Nothing,
        }
    }
}

/// A server that runs already.
pub struct Server {
    address: SocketAddr,
}

impl Server {
    pub fn at(address: &str) -> Self {
        Self { address: address.parse().expect("LETHE is an address") }
    }
}

impl Peer for Server {
    fn name(&self) -> &'static str {
        "lethe"
    }

    fn client(&self) -> Box<dyn Client + '_> {
        Box::new(Asking(client::Client::connect(self.address).expect("a connection")))
    }
}

impl Ask for client::Client {
    fn ask(&mut self, argv: &[&str]) -> Answer {
        Answer::from(self.call(argv).expect("a reply"))
    }
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(number) => Self::Integer(number),
            Value::Bulk(bytes) => Self::Text(String::from_utf8_lossy(&bytes).into_owned()),
            Value::Simple(text) => Self::Text(text),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Error(message) => panic!("{message}"),
            _ => Self::Nothing,
        }
    }
}

/// The work in commands.
struct Asking<A>(A);

impl<A: Ask> Asking<A> {
    /// The cursor and the number of items of a batch.
    fn batch(&mut self, argv: &[&str]) -> (i64, u64) {
        if let Answer::List(pair) = self.0.ask(argv)
            && let [Answer::Integer(cursor), Answer::List(items)] = pair.as_slice()
        {
            return (*cursor, items.len() as u64);
        }
        panic!("{argv:?} answered no batch")
    }

    /// All that a filter finds, in one batch that is larger than it.
    fn all(&mut self, collection: &str, filter: &str, more: &[&str]) -> u64 {
        let argv = ["BUCKET.QUERY", collection, filter, "LIMIT", "1000"];
        self.batch(&[&argv, more].concat()).1
    }
}

impl<A: Ask> Client for Asking<A> {
    fn create(&mut self, collection: &str) {
        self.0.ask(&["BUCKET.CREATE", collection]);
    }

    fn insert(&mut self, collection: &str, documents: &[Document]) {
        let with_id = |document: &Document| {
            format!(r#"{{"_id":"{:024x}",{}"#, document.number, &document.json()[1..])
        };
        let documents: Vec<String> = documents.iter().map(with_id).collect();
        let mut argv = vec!["BUCKET.INSERT", collection, "DOCS"];
        argv.extend(documents.iter().map(String::as_str));
        self.0.ask(&argv);
    }

    fn index(&mut self, collection: &str, index: Index) {
        let (name, schema) = match index {
            Index::Code => ("code", r#"{"code":{"bson_type":"string","name":"code"}}"#),
            Index::GroupAndSize => (
                "sizes",
                r#"{"$compound":[{"name":"sizes","fields":[{"selector":"group","bson_type":"string"},{"selector":"size","bson_type":"int32"}]}]}"#,
            ),
        };
        self.0.ask(&["BUCKET.INDEX", "CREATE", collection, schema]);
        loop {
            let Answer::List(told) = self.0.ask(&["BUCKET.INDEX", "DESCRIBE", collection, name])
            else {
                panic!("an index without a description");
            };
            let is =
                |answer: &Answer, word: &str| matches!(answer, Answer::Text(text) if text == word);
            let status =
                told.iter().position(|one| is(one, "status")).and_then(|at| told.get(at + 1));
            match status {
                Some(status) if is(status, "READY") => return,
                Some(status) if is(status, "BUILDING") => sleep(Duration::from_millis(5)),
                _ => panic!("the index was not built"),
            }
        }
    }

    fn find(&mut self, collection: &str, find: Find) -> u64 {
        match find {
            Find::Id(number) => self.all(collection, &format!(r#"{{"_id":"{number:024x}"}}"#), &[]),
            Find::Code(number) => {
                self.all(collection, &format!(r#"{{"code":"{}"}}"#, code(number)), &[])
            }
            Find::Codes(from) => {
                let (from, to) = (code(from), code(from + RANGE));
                let filter = format!(r#"{{"code":{{"$gte":"{from}","$lt":"{to}"}}}}"#);
                self.all(collection, &filter, &["SORTBY", "code", "ASC"])
            }
            Find::Sizes(group) => {
                let (group, from, to) = (group_name(group), SIZES.start, SIZES.end);
                let filter =
                    format!(r#"{{"group":"{group}","size":{{"$gte":{from},"$lt":{to}}}}}"#);
                self.all(collection, &filter, &[])
            }
            Find::Largest(group) => {
                let (filter, first) =
                    (format!(r#"{{"group":"{}"}}"#, group_name(group)), FIRST.to_string());
                let query = [
                    "BUCKET.QUERY",
                    collection,
                    &filter,
                    "SORTBY",
                    "size",
                    "DESC",
                    "LIMIT",
                    &first,
                ];
                let (cursor, found) = self.batch(&query);
                self.0.ask(&["BUCKET.CLOSE", "QUERY", &cursor.to_string()]);
                found
            }
            Find::Balance(from) => {
                let filter = format!(r#"{{"balance":{{"$gte":{from}}}}}"#);
                match self.0.ask(&["BUCKET.COUNT", collection, &filter]) {
                    Answer::Integer(count) => u64::try_from(count).unwrap_or(0),
                    _ => panic!("a count is a number"),
                }
            }
        }
    }

    fn update(&mut self, collection: &str, number: u64) -> u64 {
        let filter = format!(r#"{{"code":"{}"}}"#, code(number));
        self.batch(&["BUCKET.UPDATE", collection, &filter, r#"{"$inc":{"counter":1}}"#]).1
    }

    fn delete(&mut self, collection: &str, number: u64) -> u64 {
        let filter = format!(r#"{{"code":"{}"}}"#, code(number));
        self.batch(&["BUCKET.DELETE", collection, &filter]).1
    }
}
