use bson::oid::ObjectId;
use serde::{Deserialize, Serialize};

use crate::codec::collation::Collation;

/// The types of values that an index may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexType {
    String,
    Int32,
    Int64,
    Double,
    Boolean,
    DateTime,
    Timestamp,
    Binary,
    ObjectId,
    Decimal128,
}

impl IndexType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::String,
        Self::Int32,
        Self::Int64,
        Self::Double,
        Self::Boolean,
        Self::DateTime,
        Self::Timestamp,
        Self::Binary,
        Self::ObjectId,
        Self::Decimal128,
    ];

    /// As schemas, descriptions and messages write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "STRING",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Double => "DOUBLE",
            Self::Boolean => "BOOLEAN",
            Self::DateTime => "DATETIME",
            Self::Timestamp => "TIMESTAMP",
            Self::Binary => "BINARY",
            Self::ObjectId => "OBJECTID",
            Self::Decimal128 => "DECIMAL128",
        }
    }
}

/// How far an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexStatus {
    /// Writes keep it, documents from before are being added: no query uses it.
    Building,
    Ready,
    /// The build met something that the index forbids: nobody keeps or uses it.
    Failed,
}

impl IndexStatus {
    /// As descriptions and messages write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Building => "BUILDING",
            Self::Ready => "READY",
            Self::Failed => "FAILED",
        }
    }
}

/// One field of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexField {
    /// A dotted path.
    pub selector: String,
    pub bson_type: IndexType,
    #[serde(default)]
    pub descending: bool,
    #[serde(default)]
    pub multi_key: bool,
}

/// An index, in the record of its bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRecord {
    /// Within the bucket; never used again.
    pub id: u32,
    pub name: String,
    /// One, or several of a compound index.
    pub fields: Vec<IndexField>,
    #[serde(default)]
    pub unique: bool,
    /// How its strings are ordered; `None`: by their bytes.
    #[serde(default)]
    pub collation: Option<Collation>,
    /// The data that the keys of its strings are made of, where there is a collation.
    #[serde(default = "first_collation_data")]
    pub collation_data: String,
    pub status: IndexStatus,
    pub created_at: i64,
}

/// That of indexes from before it was written down: there had been only one.
fn first_collation_data() -> String {
    "icu4x-2.4".to_owned()
}

/// What is done about an index in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    Build,
    Analyze,
}

impl TaskKind {
    /// As TASKS writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "BUILD",
            Self::Analyze => "ANALYZE",
        }
    }

    /// The number in the keys of a task.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Build => 1,
            Self::Analyze => 2,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Build),
            2 => Some(Self::Analyze),
            _ => None,
        }
    }
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    Waiting,
    Running,
    Completed,
    Failed,
}

impl TaskStatus {
    /// As TASKS writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }

    /// Whether somebody still has to do something about it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }
}

/// `data/<bucket>/task/<index>/<kind>`, behind the version of the commit that
/// asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexTaskRecord {
    pub status: TaskStatus,
    pub created_at: i64,
    #[serde(default)]
    pub started_at: Option<i64>,
    #[serde(default)]
    pub ended_at: Option<i64>,
    /// The first and the last document that a build has to look at.
    #[serde(default)]
    pub lower: Option<ObjectId>,
    #[serde(default)]
    pub upper: Option<ObjectId>,
    /// The last document that was looked at.
    #[serde(default)]
    pub cursor: Option<ObjectId>,
    /// Documents (of an analysis: entries) looked at, and about how many there are.
    #[serde(default)]
    pub done: i64,
    #[serde(default)]
    pub total: i64,
    #[serde(default)]
    pub error: Option<String>,
    /// What an analysis has found so far.
    #[serde(default)]
    pub analysis: Option<Box<AnalysisRecord>>,
}

impl IndexTaskRecord {
    /// A task that nobody has begun.
    #[must_use]
    pub const fn waiting(created_at: i64) -> Self {
        Self {
            status: TaskStatus::Waiting,
            created_at,
            started_at: None,
            ended_at: None,
            lower: None,
            upper: None,
            cursor: None,
            done: 0,
            total: 0,
            error: None,
            analysis: None,
        }
    }
}

/// `data/<bucket>/histogram/<index>`: how the entries of an index were spread
/// when it was last analyzed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramRecord {
    pub at: i64,
    pub entries: i64,
    /// Different values.
    pub distinct: i64,
    pub buckets: Vec<HistogramBucket>,
}

/// Some of the entries of an index that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramBucket {
    /// The values of the last one as they stand in its key, cut where they are long.
    pub last: bson::Binary,
    pub entries: i64,
}

/// How far an analysis is: what it takes to go on elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalysisRecord {
    pub histogram: HistogramRecord,
    /// Entries of one bucket, and how many the open one has.
    pub width: i64,
    pub open: i64,
    /// The last entry: the keys of its values, and its document.
    pub last: bson::Binary,
    pub last_id: ObjectId,
}
