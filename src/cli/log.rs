//! The log of the process: where it goes, how it looks, what is left out.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::config::{LogConfig, LogFormat};

/// Wins over the setting, as `RUST_LOG` would.
const VARIABLE: &str = "LETHE_LOG";

/// Begins to log to the standard error.
///
/// # Errors
/// A filter that cannot be read.
pub(super) fn begin(config: &LogConfig) -> Result<(), Failure> {
    let (from, text) = match std::env::var(VARIABLE) {
        Ok(text) => (VARIABLE, text),
        Err(_) => ("log.filter", config.filter.clone()),
    };
    let filter = EnvFilter::builder().parse(&text).map_err(|error| {
        let allowed = "warn, info, or more in the form of RUST_LOG";
        Failure::Told(format!("{from} = {text:?} is not allowed: {allowed} ({error})"))
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let begun = match config.format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).try_init(),
    };
    // Who embeds the command line may have a log of its own, which is left alone.
    drop(begun);
    Ok(())
}
