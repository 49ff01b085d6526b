use crate::config::SessionConfig;
pub use crate::config::{DocumentFormat, ObjectIdFormat};

/// What SESSION.ATTRIBUTE shows and sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Documents in replies.
    pub reply_type: DocumentFormat,
    /// Documents in `BUCKET.INSERT`.
    pub input_type: DocumentFormat,
    /// Documents per batch where LIMIT is absent or 0; above 0.
    pub limit: u32,
    /// Ids in replies.
    pub object_id_format: ObjectIdFormat,
}

impl From<&SessionConfig> for Attributes {
    fn from(config: &SessionConfig) -> Self {
        Self {
            reply_type: config.reply_type,
            input_type: config.input_type,
            limit: config.limit,
            object_id_format: config.object_id_format,
        }
    }
}
