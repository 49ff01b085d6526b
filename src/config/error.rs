use std::path::{Path, PathBuf};

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
    #[error("in {}: {what}", path.display())]
    Text {
        /// The file that was asked for.
        path: PathBuf,
        /// What is wrong and where, without the line itself: it may hold a password.
        what: String,
    },
    /// A value of the wrong type in a variable or a flag.
    #[error("{0}")]
    Source(#[from] config::ConfigError),
}

/// Below it passwords are written, so that no value there is repeated.
const SECRET: &str = "auth";

impl ConfigError {
    /// Of a file that is no TOML, or has something that no setting is.
    pub(super) fn of_text(path: &Path, error: &config::ConfigError) -> Self {
        let what = match error {
            config::ConfigError::FileParse { cause, .. } => without_excerpt(&cause.to_string()),
            config::ConfigError::At { key: Some(key), .. }
            | config::ConfigError::Type { key: Some(key), .. }
                if key.starts_with(SECRET) =>
            {
                format!(
                    "not of the type that it has in config/lethe.toml, or unknown, for key `{key}`"
                )
            }
            other => other.to_string(),
        };
        Self::Text { path: path.to_owned(), what }
    }
}

/// The error of the TOML parser without the lines of the file that it repeats, which have a rule on their left.
fn without_excerpt(text: &str) -> String {
    let repeats = |line: &&str| {
        let line = line.trim_start().trim_start_matches(|it: char| it.is_ascii_digit());
        line.trim_start().starts_with('|')
    };
    let said: Vec<&str> = text.lines().filter(|line| !repeats(line)).collect();
    said.join(": ")
}
