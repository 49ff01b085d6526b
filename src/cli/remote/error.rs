use std::io;

use serde_json::json;

use super::path::escape;
use crate::client;

pub(super) type Result<T> = std::result::Result<T, Error>;

/// Why something could not be done on a node.
#[derive(Debug, thiserror::Error)]
pub(super) enum Why {
    /// The node said no: its code, and its message without it.
    #[error("{code} {message}")]
    Refused { code: String, message: String },
    /// Nobody answers, or no longer.
    #[error("{0}")]
    Away(String),
    /// One side does not trust the certificate of the other.
    #[error("{0}")]
    Untrusted(String),
    /// An answer that this program does not understand.
    #[error("the node answered what cannot be understood: {0}")]
    Odd(String),
    /// What was asked for cannot be done so.
    #[error("{0}")]
    Usage(String),
    /// A person was asked, and said no.
    #[error("nothing was done: {0}")]
    Declined(String),
    /// It is under way, and the cluster finishes it.
    #[error("{0}")]
    Waiting(String),
    /// Somebody stopped this program.
    #[error("{0}")]
    Interrupted(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Why, about what, and what to do about it.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) why: Why,
    /// The path it is about.
    pub(super) about: Option<String>,
    pub(super) hint: Option<String>,
}

impl Why {
    /// For scripts.
    fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Away(_) => "UNREACHABLE",
            Self::Untrusted(_) => "UNTRUSTED",
            Self::Odd(_) => "UNEXPECTED",
            Self::Usage(_) => "USAGE",
            Self::Declined(_) => "DECLINED",
            Self::Waiting(_) => "WAITING",
            Self::Interrupted(_) => "INTERRUPTED",
            Self::Io(_) => "IO",
        }
    }

    /// The status with which the program ends.
    const fn status(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::Odd(_) | Self::Declined(_) | Self::Io(_) => 1,
            Self::Usage(_) => 2,
            Self::Away(_) | Self::Untrusted(_) => 3,
            Self::Waiting(_) => 4,
            Self::Interrupted(_) => 130,
        }
    }
}

impl From<Why> for Error {
    fn from(why: Why) -> Self {
        Self { why, about: None, hint: None }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Why::Io(error).into()
    }
}

impl Error {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Why::Usage(message.into()).into()
    }

    pub(super) fn odd(message: impl Into<String>) -> Self {
        Why::Odd(message.into()).into()
    }

    /// What a node's error line says.
    pub(super) fn refused(line: &str) -> Self {
        let (code, message) = line.split_once(' ').unwrap_or((line, ""));
        Why::Refused { code: code.to_owned(), message: message.to_owned() }.into()
    }

    pub(super) fn client(error: client::Error, place: &str) -> Self {
        match error {
            client::Error::NotLetIn(line) => Self::refused(&line),
            client::Error::Protocol(error) => Self::odd(error.to_string())
                .hinted("a port with TLS answers so to who comes without; with it is rediss://"),
            error @ client::Error::Unreachable { .. } => Self::from(Why::Away(error.to_string()))
                .hinted(
                    "is a node running there? `lethe server` starts one; another is named with \
                     --url redis://host:port or LETHE_URL",
                ),
            error @ client::Error::Untrusted { .. } => {
                Self::from(Why::Untrusted(error.to_string())).hinted(
                    "--cacert FILE (LETHE_CACERT) names the authority of the node's certificate, \
                     --cert and --key what to show to a node that asks for one",
                )
            }
            client::Error::Tls(error) => Self::usage(error.to_string()),
            client::Error::Io(error) => {
                Why::Away(format!("the connection to {place} is lost: {error}")).into()
            }
        }
    }

    pub(super) fn about(mut self, path: &(impl ToString + ?Sized)) -> Self {
        self.about.get_or_insert_with(|| path.to_string());
        self
    }

    pub(super) fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The code of what the node said; empty when it is not the node that said no.
    pub(super) fn code(&self) -> &str {
        if let Why::Refused { code, .. } = &self.why { code } else { "" }
    }

    pub(super) const fn status(&self) -> u8 {
        self.why.status()
    }

    /// Whether whoever read the output has gone.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(&self.why, Why::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether asking the same node for more is of no use.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self.why, Why::Away(_) | Why::Untrusted(_) | Why::Interrupted(_) | Why::Io(_))
    }

    /// For people: the error, and on a line of its own what to do.
    pub(super) fn text(&self) -> String {
        let about = self.about.as_ref().map_or_else(String::new, |path| format!("{path}: "));
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("\n  {hint}"));
        format!("lethe: {about}{}{hint}", escape(&self.why.to_string()))
    }

    /// For scripts: one line.
    pub(super) fn json(&self) -> String {
        let message = match &self.why {
            Why::Refused { message, .. } => message.clone(),
            other => other.to_string(),
        };
        json!({
            "error": {
                "code": self.why.code(),
                "message": message,
                "path": self.about,
                "hint": self.hint,
            }
        })
        .to_string()
    }
}
