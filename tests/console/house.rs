//! A node with a console, and a visitor without a browser.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lethe::access::Login;
use lethe::clock::SystemClock;
use lethe::command::{Context, Reply, execute};
use lethe::config::{Config, UserRules};
use lethe::node::{Node, NodeOptions};
use lethe::resp::Words;
use lethe::session::{Client, Session};
use lethe::store::{Held, Matcher, Store};
use tokio::runtime::Runtime;

use crate::http::{Answer, send};

/// A node over a store in memory, with a runtime of its own. Stops when dropped.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    store: Store,
    node: Option<Node>,
    runtime: Option<Runtime>,
    /// Who furnishes it, where somebody has to log in.
    root: Option<Login>,
}

impl House {
    pub(crate) fn build() -> Self {
        Self::with(|_| {})
    }

    /// Where everybody has to log in: `root` with the password `geheim`, who may do everything, and
    /// these, whose password is `geheim`, too.
    pub(crate) fn with_users(rules: &[&str]) -> Self {
        let named = |rules: &&str| rules.replacen(' ', " on >geheim ", 1);
        let mut users = vec!["root on >geheim ~* +@all".to_owned()];
        users.extend(rules.iter().map(named));
        Self::with(|config| config.first_users = UserRules(users))
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.cluster.node = Some("here".to_owned());
        change(&mut config);
        let options = NodeOptions { exclusive: true, ..NodeOptions::default() };
        Self::over(&Store::memory(), config, options)
    }

    /// With another member that owned shards and has fallen silent, and is not put out for an hour.
    pub(crate) fn with_a_silent_member() -> Self {
        let store = Store::memory();
        let mut config = Config::default();
        config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.cluster.silent_after = Duration::from_secs(3_600);
        let named = |name: &str| NodeOptions {
            name: Some(name.to_owned()),
            exclusive: false,
            ..NodeOptions::default()
        };
        let mut lost = Self::over(&store.as_client("lost"), config.clone(), named("lost"));
        let house = Self::over(&store.as_client("here"), config, named("here"));
        house.wait_for(["CLUSTER.MEMBERS"], |members| {
            format!("{members:?}").matches("\"lost\"").count() > 0
        });
        // From now on it reaches nothing; then it stops in the middle of everything.
        store.faults().unwrap().outage("lost");
        if let Some(runtime) = lost.runtime.take() {
            runtime.shutdown_background();
        }
        house
    }

    fn over(store: &Store, config: Config, options: NodeOptions) -> Self {
        let runtime = Runtime::new().unwrap();
        let clock = Arc::new(SystemClock);
        let started = Node::start_on(store.clone(), Arc::new(config), clock, options);
        let node = runtime.block_on(started).unwrap();
        let address = node.http_addresses()[0];
        let (users, here) = (&node.services().users, address.ip());
        let root = users
            .unnamed(here)
            .is_none()
            .then(|| runtime.block_on(users.log_in(here, "root", b"geheim")).unwrap());
        Self { address, store: store.clone(), node: Some(node), runtime: Some(runtime), root }
    }

    /// Runs a command in a namespace, as a client does who may do everything.
    pub(crate) fn run<W: AsRef<[u8]>>(
        &self,
        namespace: &str,
        words: impl IntoIterator<Item = W>,
    ) -> Reply {
        self.run_by(self.root.clone(), namespace, words)
    }

    /// Runs a command as a user whose password is `geheim`.
    pub(crate) fn run_as<W: AsRef<[u8]>>(
        &self,
        user: &str,
        namespace: &str,
        words: impl IntoIterator<Item = W>,
    ) -> Reply {
        let users = &self.node.as_ref().unwrap().services().users;
        let login = users.log_in(self.address.ip(), user, b"geheim");
        let login = self.runtime.as_ref().unwrap().block_on(login).unwrap();
        self.run_by(Some(login), namespace, words)
    }

    fn run_by<W: AsRef<[u8]>>(
        &self,
        login: Option<Login>,
        namespace: &str,
        words: impl IntoIterator<Item = W>,
    ) -> Reply {
        let services = self.node.as_ref().unwrap().services();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = Arc::new(Client::new(7, nowhere, nowhere));
        let mut session = Session::new(client, Arc::clone(&services.config));
        if let Some(login) = login {
            session.log_in(login);
        }
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

    /// Runs a command until its reply is as expected: refused attempts are recorded a little later.
    pub(crate) fn wait_for<const N: usize>(
        &self,
        words: [&str; N],
        holds: impl Fn(&Reply) -> bool,
    ) -> Reply {
        let mut reply = Reply::Null;
        for _ in 0..500 {
            reply = self.done_in("global", words);
            if holds(&reply) {
                return reply;
            }
            let pause = async { tokio::time::sleep(Duration::from_millis(20)).await };
            self.runtime.as_ref().unwrap().block_on(pause);
        }
        panic!("{words:?} never answered as expected: {reply:?}");
    }

    /// Begins to log in as `root` with a wrong password so many times, and does not wait for the answer.
    pub(crate) fn guess(&self, times: usize) {
        let users = &self.node.as_ref().unwrap().services().users;
        self.runtime.as_ref().unwrap().block_on(async {
            for _ in 0..times {
                let guess = users.log_in(self.address.ip(), "root", b"falsch");
                // Given up at once, or answered: both are well.
                drop(tokio::time::timeout(Duration::ZERO, guess).await);
            }
        });
    }

    /// Does this, until a commit with this label is about to be made, and holds it.
    pub(crate) fn until(&self, label: &str, done: impl FnOnce()) -> Held {
        let held = self.store.faults().unwrap().hold(Matcher::any().label(label));
        done();
        self.runtime.as_ref().unwrap().block_on(held.arrived());
        held
    }

    /// Which commands have run how often, and how they ended.
    pub(crate) fn commands(&self) -> BTreeMap<String, i64> {
        let page = crate::http::get(self.address, "/metrics").body;
        let counted = page.lines().filter_map(|line| line.strip_prefix("lethe_commands_total{"));
        let counted = counted.filter_map(|line| line.rsplit_once("} "));
        counted.map(|(of, count)| (of.to_owned(), count.parse().unwrap())).collect()
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
        Visitor { address: self.address, host: None, cookies: BTreeMap::new() }
    }

    /// A visitor who has logged in.
    pub(crate) fn logged_in(&self, user: &str) -> Visitor {
        let mut visitor = self.visitor();
        let answer = visitor.log_in(user, "geheim");
        assert_eq!(location(&answer), "/console");
        visitor
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
    /// What it calls the node, if not by its address.
    pub(crate) host: Option<String>,
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Visitor {
    /// The name of the cookie that says who it is.
    pub(crate) fn name(&self) -> String {
        format!("lethe_visitor_{}", self.address.port())
    }

    /// Sends the form of the page that asks who it is.
    pub(crate) fn log_in(&mut self, user: &str, password: &str) -> Answer {
        self.fill("/console/login", &[("name", user), ("password", password)])
    }

    pub(crate) fn head(&self, method: &str, path: &str) -> String {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = if cookies.is_empty() {
            String::new()
        } else {
            format!("Cookie: {}\r\n", cookies.join("; "))
        };
        let host = self.host.clone().unwrap_or_else(|| self.address.to_string());
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
        let kept = ["token", "operation", "back"].iter().filter(|name| has(&page, name));
        let kept: Vec<(&str, String)> =
            kept.map(|name| (*name, hidden(&page, name).replace("&amp;", "&"))).collect();
        let kept = kept.iter().map(|(name, value)| (*name, value.as_str()));
        let fields: Vec<(&str, &str)> = kept.chain(fields.iter().copied()).collect();
        self.post(path, "", &encoded(&fields))
    }
}

/// The value of a hidden field of the page's own form, which is the last before the foot.
pub(crate) fn hidden<'a>(page: &'a str, name: &str) -> &'a str {
    let own = page.split("</main>").next().unwrap();
    let field = format!("name=\"{name}\" value=\"");
    let page = if own.contains(&field) { own } else { page };
    let (_, rest) = page.rsplit_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split('"').next().unwrap()
}

fn has(page: &str, name: &str) -> bool {
    page.contains(&format!("name=\"{name}\" value=\""))
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
