use std::path::{Path, PathBuf};

use config::{Config as Layers, File, FileFormat};

use super::{Config, ConfigError, RawConfig, UserRules};

/// Variables with our prefix that are no settings.
const NOT_SETTINGS: &[&str] = &[
    "LETHE_CONFIG",
    "LETHE_LOG",
    "LETHE_URL",
    "LETHE_PASSWORD",
    "LETHE_FROM_PASSWORD",
    "LETHE_TO_PASSWORD",
    "LETHE_CACERT",
    "LETHE_CERT",
    "LETHE_KEY",
];

/// Settings that are lists.
const LISTS: &[&str] = &["server.bind", "server.tls_bind", "http.bind"];

/// Reads the settings: defaults, then the file if there is one, then `LETHE_*` variables (`LETHE_SERVER_PORT` for
/// `server.port`, lists with commas), then flags as pairs of key and value. What comes later wins.
pub fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    flags: &[(&str, String)],
) -> Result<Config, ConfigError> {
    let mut layers = Layers::builder().add_source(Layers::try_from(&RawConfig::default())?);
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        layers = layers.add_source(File::from_str(&text, FileFormat::Toml));
        // On its own, so that what is wrong in the file is told as that.
        let alone = layers.build_cloned().and_then(config::Config::try_deserialize::<RawConfig>);
        alone.map_err(|error| ConfigError::of_text(path, &error))?;
    }
    let keys: Vec<(String, String)> = RawConfig::default().entries();
    let variables = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with("LETHE_") && !NOT_SETTINGS.contains(&name.as_str()));
    for (name, value) in variables {
        let key = keys
            .iter()
            .map(|(key, _)| key.as_str())
            .find(|key| variable(key) == name)
            .ok_or(ConfigError::UnknownVariable { name })?;
        layers = set(layers, key, value)?;
    }
    for (key, value) in flags {
        layers = set(layers, key, value.clone())?;
    }
    let mut raw = layers.build()?.try_deserialize::<RawConfig>()?;
    if !raw.auth.users_file.is_empty() {
        let path = PathBuf::from(&raw.auth.users_file);
        let text =
            std::fs::read_to_string(&path).map_err(|source| ConfigError::File { path, source })?;
        raw.auth.users.0.extend(UserRules::lines(&text));
    }
    raw.check()
}

type Builder = config::ConfigBuilder<config::builder::DefaultState>;

fn set(layers: Builder, key: &str, value: String) -> Result<Builder, ConfigError> {
    Ok(if LISTS.contains(&key) {
        let addresses: Vec<String> = value
            .split(',')
            .map(|address| address.trim().to_owned())
            .filter(|address| !address.is_empty())
            .collect();
        layers.set_override(key, addresses)?
    } else {
        layers.set_override(key, value)?
    })
}

/// The variable that sets this key.
fn variable(key: &str) -> String {
    format!("LETHE_{}", key.replace('.', "_").to_ascii_uppercase())
}

impl RawConfig {
    /// Key and value of every setting, sorted by key; lists with spaces, as Redis shows them.
    pub fn entries(&self) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        if let Ok(value) = serde_json::to_value(self) {
            flatten("", &value, &mut entries);
        }
        entries.sort();
        entries
    }
}

fn flatten(path: &str, value: &serde_json::Value, entries: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, field, entries);
            }
        }
        serde_json::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            entries.push((path.to_owned(), items.join(" ")));
        }
        scalar => entries.push((path.to_owned(), plain(scalar))),
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
