use crate::codec::readable;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Harmless, and the cluster clears it by itself; odd only if it stays.
    Warning,
    /// A broken invariant.
    Error,
}

impl Severity {
    /// As CHECK shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A key or a value is not what its place in the key space says.
    Undecodable,
    /// A key of a kind that this program does not know.
    UnknownKey,
    /// Something that must stand beside this is not there.
    Missing,
    /// It points at something, or belongs to something, that is not there.
    Dangling,
    /// It and another row contradict each other.
    Contradiction,
    /// Keys below the prefix of a bucket that is gone.
    OrphanedData,
    /// A counter differs from what is there.
    WrongCount,
    /// A document whose bytes or pieces are not what was written.
    DamagedDocument,
    /// Pieces of a document that no document refers to.
    OrphanedBody,
    /// An id that is in use lies beyond the counter, so it may be given again.
    IdBeyondCounter,
    /// A version that no commit has reached.
    FutureVersion,
    /// Namespaces above each other without end.
    EndlessPath,
    /// A shard whose owner is no member, though there are members.
    UnownedShard,
    /// Rows of what is gone, which the cluster sweeps.
    Leftover,
}

impl Kind {
    /// As CHECK shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::UnknownKey => "unknown-key",
            Self::Missing => "missing",
            Self::Dangling => "dangling",
            Self::Contradiction => "contradiction",
            Self::OrphanedData => "orphaned-data",
            Self::WrongCount => "wrong-count",
            Self::DamagedDocument => "damaged-document",
            Self::OrphanedBody => "orphaned-body",
            Self::IdBeyondCounter => "id-beyond-counter",
            Self::FutureVersion => "future-version",
            Self::EndlessPath => "endless-path",
            Self::UnownedShard => "unowned-shard",
            Self::Leftover => "leftover",
        }
    }

    /// How bad findings of this kind are.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::UnownedShard | Self::Leftover => Severity::Warning,
            Self::Undecodable
            | Self::UnknownKey
            | Self::Missing
            | Self::Dangling
            | Self::Contradiction
            | Self::OrphanedData
            | Self::WrongCount
            | Self::DamagedDocument
            | Self::OrphanedBody
            | Self::IdBeyondCounter
            | Self::FutureVersion
            | Self::EndlessPath => Severity::Error,
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// The key that is wrong, or that should be there.
    pub key: Vec<u8>,
    /// What is wrong.
    pub wrong: String,
    /// What it should be.
    pub expected: String,
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.kind.severity()
    }

    /// The key in words.
    #[must_use]
    pub fn readable_key(&self) -> String {
        readable::key(&self.key)
    }

    /// The key in hex.
    #[must_use]
    pub fn raw_key(&self) -> String {
        readable::hex(&self.key)
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (severity, kind) = (self.severity().name(), self.kind.name());
        let key = self.readable_key();
        write!(f, "{severity} {kind} {key}: {}; expected: {}", self.wrong, self.expected)
    }
}

/// The findings about one key.
#[derive(Debug)]
pub(super) struct Report<'a> {
    key: &'a [u8],
    findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    pub(super) const fn on(key: &'a [u8]) -> Self {
        Self { key, findings: Vec::new() }
    }

    pub(super) fn add(
        &mut self,
        kind: Kind,
        wrong: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.findings.push(Finding {
            kind,
            key: self.key.to_vec(),
            wrong: wrong.into(),
            expected: expected.into(),
        });
    }

    /// What was decoded; else that it was not is a finding.
    pub(super) fn decoded<T>(&mut self, result: Result<T, crate::codec::DecodeError>) -> Option<T> {
        match result {
            Ok(decoded) => Some(decoded),
            Err(error) => {
                self.add(Kind::Undecodable, error.to_string(), "the form in docs/keyspace.md");
                None
            }
        }
    }

    /// Reports a value where the key says it all.
    pub(super) fn expect_empty(&mut self, value: &[u8]) {
        if !value.is_empty() {
            self.add(Kind::Undecodable, "it has a value", "nothing: its key says it all");
        }
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}
