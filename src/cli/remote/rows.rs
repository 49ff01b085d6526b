//! What a node answers, as this program shows it and as `--json` gives it.

use serde::Serialize;

use super::error::{Error, Result};
use super::path::path;
use crate::client::Answer;
use crate::codec::duration::parse_instant;

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Bucket,
    Namespace,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Namespace => "namespace",
        }
    }

    /// The words of a command of its family: `BUCKET.PURGE`, `NAMESPACE PURGE`.
    pub(super) fn command(self, verb: &str) -> Vec<String> {
        match self {
            Self::Bucket => vec![format!("BUCKET.{verb}")],
            Self::Namespace => vec!["NAMESPACE".to_owned(), verb.to_owned()],
        }
    }
}

/// A bucket or a namespace in a list.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) bucket: Option<String>,
    pub(super) id: Option<String>,
    pub(super) state: String,
    pub(super) documents: Option<i64>,
    pub(super) bytes: Option<i64>,
    pub(super) tombstones: Option<i64>,
    pub(super) indexes: Option<Vec<String>>,
    pub(super) protected: Option<bool>,
    pub(super) created_at: Option<String>,
    pub(super) removal_id: Option<String>,
    pub(super) expires_at: Option<String>,
}

impl Entry {
    pub(super) fn namespace(name: &str) -> Self {
        Self {
            path: path(name, None),
            kind: Kind::Namespace,
            namespace: name.to_owned(),
            bucket: None,
            id: None,
            state: "active".to_owned(),
            documents: None,
            bytes: None,
            tombstones: None,
            indexes: None,
            protected: None,
            created_at: None,
            removal_id: None,
            expires_at: None,
        }
    }

    /// A bucket of which no more is known.
    pub(super) fn active(namespace: &str, bucket: &str) -> Self {
        Self {
            path: path(namespace, Some(bucket)),
            kind: Kind::Bucket,
            bucket: Some(bucket.to_owned()),
            ..Self::namespace(namespace)
        }
    }

    /// A bucket in a row of BUCKET.LIST ALL.
    pub(super) fn listed(namespace: &str, row: &Answer) -> Result<Self> {
        Ok(Self {
            id: Some(text(row, "id")?),
            state: text(row, "state")?,
            removal_id: maybe_text(row, "removal_id"),
            expires_at: maybe_text(row, "expires_at"),
            ..Self::active(namespace, &text(row, "bucket")?)
        })
    }

    /// What DESCRIBE answers.
    pub(super) fn described(kind: Kind, row: &Answer) -> Result<Self> {
        let namespace = text(row, "namespace")?;
        let bucket = match kind {
            Kind::Bucket => Some(text(row, "bucket")?),
            Kind::Namespace => None,
        };
        let mut entry = Self {
            path: path(&namespace, bucket.as_deref()),
            kind,
            bucket,
            ..Self::namespace(&namespace)
        };
        entry.fill(row);
        Ok(entry)
    }

    /// Takes over what DESCRIBE says beyond the list.
    pub(super) fn fill(&mut self, row: &Answer) {
        self.id = maybe_text(row, "id").or(self.id.take());
        if let Some(state) = maybe_text(row, "state") {
            self.state = state;
        }
        self.documents = number(row, "documents");
        self.bytes = number(row, "bytes");
        self.tombstones = number(row, "tombstones");
        self.protected = flag(row, "protected");
        self.created_at = maybe_text(row, "created_at");
        self.removal_id = maybe_text(row, "removal_id").or(self.removal_id.take());
        self.expires_at = maybe_text(row, "expires_at").or(self.expires_at.take());
        self.indexes =
            row.field("indexes").map(|names| names.list().iter().map(Answer::line).collect());
    }
}

/// Who keeps something from being purged, and why.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Hold {
    pub(super) owner: String,
    pub(super) reason: String,
    pub(super) since: Option<String>,
    pub(super) review_at: Option<String>,
}

impl Hold {
    /// That of something removed, if there is one.
    pub(super) fn of(row: &Answer) -> Result<Option<Self>> {
        let Some(hold) = row.field("hold").filter(|hold| **hold != Answer::Null) else {
            return Ok(None);
        };
        Ok(Some(Self {
            owner: text(hold, "owner")?,
            reason: text(hold, "reason")?,
            since: maybe_text(hold, "since"),
            review_at: maybe_text(hold, "review_at"),
        }))
    }
}

/// A row of REMOVED.
#[derive(Debug, Clone, Serialize)]
#[expect(clippy::struct_field_names, reason = "the fields bear the names of the manual")]
pub(super) struct Removal {
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) bucket: Option<String>,
    pub(super) state: String,
    pub(super) restorable: bool,
    pub(super) removed_at: String,
    pub(super) removed_by: String,
    pub(super) reason: Option<String>,
    pub(super) expires_at: Option<String>,
    /// Null when it is kept for ever; 0 when it has expired.
    pub(super) seconds_left: Option<i64>,
    pub(super) hold: Option<Hold>,
    pub(super) documents: Option<i64>,
    pub(super) bytes: Option<i64>,
    pub(super) shards_witnessed: Option<i64>,
    pub(super) shards: Option<i64>,
    pub(super) pending_bytes: Option<i64>,
    pub(super) reclaimed_bytes: Option<i64>,
    pub(super) removal_id: String,
    pub(super) id: String,
}

impl Removal {
    /// `now` is the cluster's time.
    pub(super) fn read(kind: Kind, row: &Answer, now: i64) -> Result<Self> {
        let namespace = text(row, "namespace")?;
        let bucket = match kind {
            Kind::Bucket => Some(text(row, "bucket")?),
            Kind::Namespace => None,
        };
        let expires_at = maybe_text(row, "expires_at");
        let left =
            expires_at.as_deref().and_then(parse_instant).map(|at| (at - now).max(0) / 1_000);
        Ok(Self {
            path: path(&namespace, bucket.as_deref()),
            kind,
            namespace,
            bucket,
            state: text(row, "state")?,
            restorable: flag(row, "restorable").unwrap_or_default(),
            removed_at: text(row, "removed_at")?,
            removed_by: text(row, "removed_by")?,
            reason: maybe_text(row, "reason"),
            expires_at,
            seconds_left: left,
            hold: Hold::of(row)?,
            documents: number(row, "documents"),
            bytes: number(row, "bytes"),
            shards_witnessed: number(row, "witnessed"),
            shards: number(row, "shards"),
            pending_bytes: number(row, "pending_bytes"),
            reclaimed_bytes: number(row, "reclaimed_bytes"),
            removal_id: text(row, "removal_id")?,
            id: text(row, "id")?,
        })
    }

    /// How long ago it was removed, in seconds.
    pub(super) fn age(&self, now: i64) -> i64 {
        parse_instant(&self.removed_at).map_or(0, |at| (now - at).max(0) / 1_000)
    }

    /// In one word.
    pub(super) fn condition(&self) -> &str {
        if self.hold.is_some() {
            "held"
        } else if self.state == "removed" && !self.restorable {
            "expired"
        } else {
            &self.state
        }
    }
}

/// A field that must be there.
pub(super) fn text(row: &Answer, name: &str) -> Result<String> {
    maybe_text(row, name).ok_or_else(|| Error::odd(format!("no '{name}' in {}", row.line())))
}

/// A field that may be null.
pub(super) fn maybe_text(row: &Answer, name: &str) -> Option<String> {
    let bytes = row.field(name).and_then(Answer::bytes)?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

pub(super) fn number(row: &Answer, name: &str) -> Option<i64> {
    match row.field(name) {
        Some(Answer::Integer(number)) => Some(*number),
        _ => None,
    }
}

pub(super) fn flag(row: &Answer, name: &str) -> Option<bool> {
    number(row, name).map(|number| number != 0)
}
