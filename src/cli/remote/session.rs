use std::time::Duration;

use tokio::time::timeout;

use super::RemoteArgs;
use super::error::{Error, Result, Why};
use super::path::Place;
use crate::cli::password::{NoPassword, PASSWORD, with_password};
use crate::client::{Address, Answer, Client};

/// How long a node may take for an answer, beyond what a command waits for.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to answer that it is one.
const DOOR_TIMEOUT: Duration = Duration::from_secs(5);
/// Items of a page of a list.
const PAGE: &str = "1000";
/// Most items of a list that is read whole.
const ITEMS_MAX: usize = 100_000;

/// A connection to a node, and the namespace it is in.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    address: Address,
    /// Where a bucket is that is named without its namespace.
    home: String,
    current: String,
}

/// A list, and whether there was more than [`ITEMS_MAX`].
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) items: Vec<Answer>,
    pub(super) more: bool,
}

impl Session {
    pub(super) async fn open(args: &RemoteArgs) -> Result<Self> {
        let address = args.trust.address(&args.url);
        let address = address.map_err(|error| Error::usage(format!("--url: {error}")))?;
        let address = with_password(address, PASSWORD).await.map_err(|error| match error {
            NoPassword::Io(error) => Error::from(error),
            missing @ NoPassword::Nowhere { .. } => Error::usage(missing.to_string()),
        })?;
        Self::connect(address).await
    }

    pub(super) async fn connect(address: Address) -> Result<Self> {
        let place = address.place();
        let client = Client::open(&address)
            .await
            .map_err(|error| hint_at_the_door(Error::client(error, &place)))?;
        let (home, current) = (String::new(), String::new());
        let mut session = Self { client, address, home, current };
        let begun = timeout(DOOR_TIMEOUT, session.begin()).await;
        begun
            .map_err(|_elapsed| silent(&session.address, DOOR_TIMEOUT))?
            .map_err(hint_at_the_door)?;
        Ok(session)
    }

    async fn begin(&mut self) -> Result<()> {
        if let Some(namespace) = self.address.namespace.clone() {
            self.call(&["NAMESPACE", "USE", &namespace]).await?;
        }
        let answer = self.call(&["NAMESPACE", "CURRENT"]).await?;
        let home = answer.text().ok_or_else(|| Error::odd(answer.line()))?;
        home.clone_into(&mut self.home);
        self.current.clone_from(&self.home);
        Ok(())
    }

    /// Another connection to the same node, when this one is lost.
    pub(super) async fn reconnect(&mut self) -> Result<()> {
        *self = Self::connect(self.address.clone()).await?;
        Ok(())
    }

    /// Where the node is.
    pub(super) fn place(&self) -> String {
        self.address.place()
    }

    /// The namespace of a bucket that is named without one.
    pub(super) fn home(&self) -> &str {
        &self.home
    }

    /// What a place means here: a bucket always has its namespace.
    pub(super) fn at_home(&self, place: &Place) -> Place {
        match place {
            Place::Bucket { namespace: None, bucket } => {
                Place::Bucket { namespace: Some(self.home.clone()), bucket: bucket.clone() }
            }
            other => other.clone(),
        }
    }

    /// Sends a command that is to succeed.
    pub(super) async fn call<W: AsRef<[u8]>>(&mut self, argv: &[W]) -> Result<Answer> {
        self.call_waiting(argv, Duration::ZERO).await
    }

    /// As [`Session::call`], where the node itself waits for as long as this.
    pub(super) async fn call_waiting<W: AsRef<[u8]>>(
        &mut self,
        argv: &[W],
        waits: Duration,
    ) -> Result<Answer> {
        let answered = timeout(REPLY_TIMEOUT + waits, self.client.call(argv)).await;
        let answer = match answered {
            Ok(answer) => answer.map_err(|error| Error::client(error, &self.address.place()))?,
            Err(_elapsed) => return Err(silent(&self.address, REPLY_TIMEOUT + waits)),
        };
        if let Answer::Error(line) = &answer { Err(Error::refused(line)) } else { Ok(answer) }
    }

    /// Sends many commands; errors are answers like any other.
    pub(super) async fn call_all<W: AsRef<[u8]>>(
        &mut self,
        commands: &[Vec<W>],
    ) -> Result<Vec<Answer>> {
        timeout(REPLY_TIMEOUT, self.client.call_all(commands))
            .await
            .map_err(|_elapsed| silent(&self.address, REPLY_TIMEOUT))?
            .map_err(|error| Error::client(error, &self.address.place()))
    }

    /// Makes a namespace the current one.
    pub(super) async fn enter(&mut self, namespace: &str) -> Result<()> {
        if self.current != namespace {
            self.call(&["NAMESPACE", "USE", namespace]).await?;
            namespace.clone_into(&mut self.current);
        }
        Ok(())
    }

    /// Sends a command under an operation id, so that it happens once also when the connection
    /// is lost before the answer: then it is sent again. Without a namespace it names its own: this user may
    /// have no right in the one that connections start in.
    pub(super) async fn call_once(
        &mut self,
        namespace: Option<&str>,
        mut argv: Vec<String>,
    ) -> Result<Answer> {
        argv.extend(["OPID".to_owned(), format!("{:032x}", rand::random::<u128>())]);
        let namespace = namespace.unwrap_or(&self.current).to_owned();
        self.enter(&namespace).await?;
        let lost = match self.call(&argv).await {
            Err(lost) if matches!(lost.why, Why::Away(_)) => lost,
            told => return told,
        };
        let unknown = "whether it has happened is not known: `lethe ls` and `lethe bin` tell";
        self.reconnect().await.map_err(|_| lost.hinted(unknown))?;
        self.enter(&namespace).await?;
        self.call(&argv).await.map_err(|error| match error.why {
            Why::Away(_) => error.hinted(unknown),
            _ => error,
        })
    }

    /// A list to its end, page by page.
    pub(super) async fn list(&mut self, command: &[&str]) -> Result<Listed> {
        let mut items = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let argv: Vec<&str> =
                command.iter().copied().chain(["COUNT", PAGE, "CURSOR", &cursor]).collect();
            let page = self.call(&argv).await?;
            let [next, some] = page.list() else { return Err(Error::odd(page.line())) };
            items.extend_from_slice(some.list());
            match next.text() {
                Some("0") => return Ok(Listed { items, more: false }),
                Some(_) if items.len() >= ITEMS_MAX => return Ok(Listed { items, more: true }),
                Some(next) if next != cursor => next.clone_into(&mut cursor),
                _ => return Err(Error::odd(next.line())),
            }
        }
    }

    /// The time by the node's clock, in milliseconds since 1970. The cluster's own takes the right `admin`
    /// to see; the two differ by seconds, unless the clocks are suspect.
    pub(super) async fn now(&mut self) -> Result<i64> {
        let answer = self.call(&["TIME"]).await?;
        let [seconds, microseconds] = answer.list() else { return Err(Error::odd(answer.line())) };
        let number = |part: &Answer| part.text().and_then(|text| text.parse::<i64>().ok());
        number(seconds)
            .and_then(|seconds| {
                seconds.checked_mul(1_000)?.checked_add(number(microseconds)? / 1_000)
            })
            .ok_or_else(|| Error::odd(answer.line()))
    }
}

fn silent(address: &Address, patience: Duration) -> Error {
    let (place, seconds) = (address.place(), patience.as_secs());
    Error::from(Why::Away(format!("no answer from {place} within {seconds} s")))
        .hinted("does a node of Lethe listen there? --url or LETHE_URL names another")
}

fn hint_at_the_door(error: Error) -> Error {
    match error.code() {
        "NOAUTH" | "WRONGPASS" => error.hinted(format!(
            "name the user, --url redis://user@host:port, and set {PASSWORD} or let yourself be \
             asked"
        )),
        "NOSUCHNAMESPACE" => {
            error.hinted("the namespace stands in the address: --url or LETHE_URL")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_accepts_a_connection_and_says_nothing_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let began = tokio::time::Instant::now();
        for address in [format!("redis://{place}"), format!("redis://:geheim@{place}")] {
            let error = Session::connect(address.parse().unwrap()).await.unwrap_err();
            let text = error.text();
            assert!(matches!(error.why, Why::Away(_)) && text.contains(&place), "{text}");
            assert!(!text.contains("geheim"), "{text}");
        }
        assert!(began.elapsed() <= 2 * DOOR_TIMEOUT, "{:?}", began.elapsed());
    }
}
