//! Passwords of nodes: they belong into variables, since the arguments of a process can be
//! seen by others on the machine.
//!
//! Not here: sending them (`client`).

use std::io::{self, IsTerminal};

use super::shown::escape;
use crate::client::{Address, Secret};

/// Where the password is looked for when the address has none.
pub(super) const PASSWORD: &str = "LETHE_PASSWORD";
/// Where those are of the two sides of a replication.
pub(super) const FROM_PASSWORD: &str = "LETHE_FROM_PASSWORD";
pub(super) const TO_PASSWORD: &str = "LETHE_TO_PASSWORD";

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum NoPassword {
    #[error(
        "there is no password for the user '{user}' at {place}: set {variable}, or let yourself be asked on a terminal"
    )]
    Nowhere { user: String, place: String, variable: &'static str },
    #[error("the password could not be asked for: {0}")]
    Io(#[from] io::Error),
}

/// The address with its password: its own, the variable's, or that of a person who is asked.
pub(super) async fn with_password(
    mut address: Address,
    variable: &'static str,
) -> Result<Address, NoPassword> {
    if address.password.is_some() {
        return Ok(address);
    }
    let set = std::env::var(variable).ok().filter(|password| !password.is_empty());
    let password = match (set, &address.user) {
        (Some(password), _) => Some(password),
        (None, Some(user)) => Some(ask(&escape(user), address.place(), variable).await?),
        (None, None) => None,
    };
    address.password = password.map(Secret::new);
    Ok(address)
}

async fn ask(user: &str, place: String, variable: &'static str) -> Result<String, NoPassword> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(NoPassword::Nowhere { user: user.to_owned(), place, variable });
    }
    let prompt = format!("Password of {user} at {place}: ");
    // It blocks until somebody has typed it.
    let asked = tokio::task::spawn_blocking(|| rpassword::prompt_password(prompt));
    Ok(asked.await.map_err(io::Error::other)??)
}
