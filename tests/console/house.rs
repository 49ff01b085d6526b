//! A node with a console, and a visitor without a browser.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lethe::clock::SystemClock;
use lethe::command::{Context, Reply, execute};
use lethe::config::Config;
use lethe::node::{Node, NodeOptions};
use lethe::resp::Words;
use lethe::session::{Client, Session};
use lethe::store::Store;
use tokio::runtime::Runtime;

use crate::http::{Answer, send};

/// A node over a store in memory, with a runtime of its own. Stops when dropped.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    node: Option<Node>,
    runtime: Option<Runtime>,
}

impl House {
    pub(crate) fn build() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.cluster.node = Some("here".to_owned());
        change(&mut config);
        let options = NodeOptions { exclusive: true, ..NodeOptions::default() };
        let runtime = Runtime::new().unwrap();
        let clock = Arc::new(SystemClock);
        let started = Node::start_on(Store::memory(), Arc::new(config), clock, options);
        let node = runtime.block_on(started).unwrap();
        let address = node.http_addresses()[0];
        Self { address, node: Some(node), runtime: Some(runtime) }
    }

    /// Runs a command in a namespace, as a client does.
    pub(crate) fn run<W: AsRef<[u8]>>(
        &self,
        namespace: &str,
        words: impl IntoIterator<Item = W>,
    ) -> Reply {
        let services = self.node.as_ref().unwrap().services();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = Arc::new(Client::new(7, nowhere, nowhere));
        let mut session = Session::new(client, Arc::clone(&services.config));
        namespace.clone_into(&mut session.namespace);
        let mut context = Context { session: &mut session, services };
        let words = Words::from_words(words);
        self.runtime.as_ref().unwrap().block_on(execute(&mut context, words))
    }

    /// As [`House::run`] in the namespace that sessions start in, words told apart by spaces; it must succeed.
    pub(crate) fn done(&self, line: &str) -> Reply {
        self.done_in("global", line.split(' '))
    }

    /// As [`House::run`]; it must succeed.
    pub(crate) fn done_in<W: AsRef<[u8]>>(
        &self,
        namespace: &str,
        words: impl IntoIterator<Item = W>,
    ) -> Reply {
        let reply = self.run(namespace, words);
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        reply
    }

    /// A bucket with so many documents.
    pub(crate) fn bucket(&self, name: &str, documents: usize) {
        self.done_in("global", ["BUCKET.CREATE", name]);
        for number in 0..documents {
            let document = format!("{{\"n\":{number}}}");
            self.done_in("global", ["BUCKET.INSERT", name, "DOCS", &document]);
        }
    }

    /// How many documents a bucket has.
    pub(crate) fn count(&self, name: &str) -> Reply {
        self.run("global", ["BUCKET.COUNT", name, "{}"])
    }

    /// The id of what was removed last.
    pub(crate) fn removal(&self) -> String {
        let list = ["BUCKET.REMOVED", "NAMESPACE", "*", "ORDER", "NEWEST"];
        field(&self.done_in("global", list), "removal_id")
    }

    pub(crate) fn visitor(&self) -> Visitor {
        Visitor { address: self.address, cookies: BTreeMap::new() }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let (Some(runtime), Some(node)) = (self.runtime.take(), self.node.take()) {
            runtime.block_on(node.stop());
            runtime.shutdown_background();
        }
    }
}

/// A field of the first map of a list.
pub(crate) fn field(list: &Reply, name: &str) -> String {
    let Reply::Array(items) = list else { panic!("{list:?}") };
    let Some(Reply::Map(pairs)) = items.first() else { panic!("{list:?}") };
    let name = Reply::copy(name.as_bytes());
    match pairs.iter().find(|(key, _)| *key == name) {
        Some((_, Reply::Text(text))) => text.clone(),
        Some((_, Reply::Bulk(bytes))) => String::from_utf8_lossy(bytes).into_owned(),
        found => panic!("{found:?}"),
    }
}

/// Somebody with a jar for cookies.
pub(crate) struct Visitor {
    address: SocketAddr,
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Visitor {
    fn head(&self, method: &str, path: &str) -> String {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = if cookies.is_empty() {
            String::new()
        } else {
            format!("Cookie: {}\r\n", cookies.join("; "))
        };
        let host = self.address;
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{cookies}")
    }

    pub(crate) fn send(&mut self, request: &str) -> Answer {
        let answer = send(self.address, request.as_bytes());
        for line in answer.head.lines() {
            if let Some(cookie) = line.strip_prefix("set-cookie: ") {
                let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Asks for a page, with more fields of the head.
    pub(crate) fn ask(&mut self, path: &str, more: &str) -> Answer {
        let request = format!("{}{more}\r\n", self.head("GET", path));
        self.send(&request)
    }

    /// A page that must be there.
    pub(crate) fn page(&mut self, path: &str) -> String {
        let answer = self.ask(path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// Sends a form as it is, with more fields of the head.
    pub(crate) fn post(&mut self, path: &str, more: &str, form: &str) -> Answer {
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        let length = form.len();
        let head = self.head("POST", path);
        self.send(&format!("{head}{kind}{more}Content-Length: {length}\r\n\r\n{form}"))
    }

    /// Opens the page with a form, fills it in and sends it.
    pub(crate) fn fill(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let page = self.page(path);
        let fields: Vec<(&str, &str)> = ["token", "operation"]
            .map(|name| (name, hidden(&page, name)))
            .into_iter()
            .chain(fields.iter().copied())
            .collect();
        self.post(path, "", &encoded(&fields))
    }
}

/// The value of a hidden field of the page's own form, which is its last.
pub(crate) fn hidden<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, rest) = page.rsplit_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split('"').next().unwrap()
}

pub(crate) fn encoded(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
    pairs.join("&")
}

/// Every byte escaped.
pub(crate) fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02x}"))
}

/// Where an answer sends the visitor.
pub(crate) fn location(answer: &Answer) -> String {
    assert_eq!(answer.status, 303, "{}", answer.body);
    let line = answer.head.lines().find_map(|line| line.strip_prefix("location: "));
    line.unwrap().to_owned()
}
