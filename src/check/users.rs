//! Users.

use super::finding::{Kind, Report};
use super::look::Look;
use crate::access::{User, check_name, password};
use crate::codec::keys;
use crate::codec::record::{self, UserRecord};
use crate::store::Result;

pub(super) async fn user(
    look: &Look,
    report: &mut Report<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    if !look.exists(&keys::users_signal()).await? {
        report.add(Kind::Missing, "`users-signal` is not there", "present in a store with users");
    }
    let Some(name) = report.decoded(keys::parse_user(key)) else { return Ok(()) };
    if let Err(error) = check_name(&name) {
        report.add(Kind::UnknownKey, error.to_string(), "the name of a user");
    }
    let decoded: Option<UserRecord> = report.decoded(record::decode("user", value));
    let Some(decoded) = decoded else { return Ok(()) };
    if !decoded.passwords.iter().all(|hash| password::is_hash(hash)) {
        // Nobody can log in with it. What it is is not shown: it may be a password.
        report.add(Kind::Undecodable, "a password is no hash", "as argon2id writes it");
    }
    report.decoded(User::from_record(&name, decoded));
    Ok(())
}
