use super::Error;
use crate::client::{Address, Answer, Client};

/// Codes of errors that may be over when it is tried again.
const PASSING: &[&str] = &[
    "NOT_COMMITTED",
    "TRANSACTION_TOO_OLD",
    "FUTURE_VERSION",
    "COMMIT_UNKNOWN_RESULT",
    "TRANSACTION_TIMED_OUT",
    "TRANSACTION_CANCELLED",
    "TOO_MANY_WATCHES",
    "STOREUNAVAILABLE",
    "STORESTOPPED",
    "PURGEPAUSED",
    "CLOCKSUSPECT",
    "BUCKETBEINGREMOVED",
    "NAMESPACEBEINGREMOVED",
];

/// One side of a replication.
#[derive(Debug)]
pub(super) struct Peer {
    side: &'static str,
    client: Client,
}

/// What a node said no with.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: String,
    error: Error,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

impl Refusal {
    pub(super) fn is(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }
}

impl Peer {
    pub(super) async fn connect(side: &'static str, address: &Address) -> Result<Self, Error> {
        let away = Error::client(side);
        let client = Client::open(address).await.map_err(away)?;
        let mut peer = Self { side, client };
        // Types that JSON does not have stay what they are.
        peer.call(&["SESSION.ATTRIBUTE", "SET", "reply_type", "bson"]).await?;
        peer.call(&["SESSION.ATTRIBUTE", "SET", "object_id_format", "hex"]).await?;
        if let Some(namespace) = &address.namespace {
            peer.call(&["NAMESPACE", "USE", namespace]).await?;
        }
        Ok(peer)
    }

    /// Sends a command; an error is an answer like any other.
    pub(super) async fn ask<W: AsRef<[u8]>>(
        &mut self,
        argv: &[W],
    ) -> Result<Result<Answer, Refusal>, Error> {
        let answer = self.client.call(argv).await.map_err(Error::client(self.side))?;
        let Answer::Error(text) = answer else { return Ok(Ok(answer)) };
        let code = text.split(' ').next().unwrap_or_default().to_owned();
        let starting = ["ERR server is starting", "ERR the server is stopping"];
        let passing = PASSING.contains(&code.as_str())
            || starting.iter().any(|start| text.starts_with(start));
        let error = if passing {
            Error::Away { side: self.side, error: text }
        } else {
            Error::Refused { side: self.side, command: name_of(argv), error: text }
        };
        Ok(Err(Refusal { code, error }))
    }

    /// Sends a command that is to succeed.
    pub(super) async fn call<W: AsRef<[u8]>>(&mut self, argv: &[W]) -> Result<Answer, Error> {
        Ok(self.ask(argv).await??)
    }

    /// The error for an answer that is not as the manual says.
    pub(super) fn unexpected(&self, command: &str, answer: &Answer) -> Error {
        let answer = answer.line().chars().take(200).collect();
        Error::Unexpected { side: self.side, command: command.to_owned(), answer }
    }
}

/// The words of a command that name it.
fn name_of<W: AsRef<[u8]>>(argv: &[W]) -> String {
    let words: Vec<_> =
        argv.iter().take(2).map(|word| String::from_utf8_lossy(word.as_ref())).collect();
    words.join(" ")
}
