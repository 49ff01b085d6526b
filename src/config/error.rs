use std::path::PathBuf;

/// Why a node doesn't start with these settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value that this setting can't have.
    #[error("{key} = {value:?} is not allowed: {allowed}")]
    Value {
        /// Its path, such as `server.port`.
        key: &'static str,
        /// What was written.
        value: String,
        /// What may be written.
        allowed: String,
    },
    /// A variable that names no setting.
    #[error(
        "{name} names no setting; the settings are those of config/lethe.toml, such as LETHE_SERVER_PORT for server.port"
    )]
    UnknownVariable {
        /// The variable.
        name: String,
    },
    /// The file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file that was asked for.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// An unknown key, or a value of the wrong type, in the file.
    #[error("in {}: {source}", path.display())]
    Text {
        /// The file that was asked for.
        path: PathBuf,
        /// What is wrong.
        source: config::ConfigError,
    },
    /// A value of the wrong type in a variable or a flag.
    #[error("{0}")]
    Source(#[from] config::ConfigError),
}
