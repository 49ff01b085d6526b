//! Slowing those who guess passwords.
//!
//! Each wrong password costs its address a second, of which it has a few to spare; who has
//! used them up waits before the next attempt is looked at. An attempt is charged when it begins and
//! paid back when it was right, so that many at once gain nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a wrong password costs.
const COST: Duration = Duration::from_secs(1);
/// What an address may owe without waiting.
const SPARE: Duration = Duration::from_secs(10);
/// Who would have to wait longer is sent away at once.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Addresses that are remembered; beyond it those that owe least are forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// Too many wrong passwords came from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many failed logins from this address, try again in {} seconds", .0.as_secs().max(1))]
pub struct TooManyGuesses(pub Duration);

/// Who owes how much: until when.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<HashMap<IpAddr, Instant>>);

/// Whoever has one IPv6 address has a whole network of them.
fn payer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Guesses {
    /// Charges an attempt; gives how long it has to wait.
    pub(super) fn charge(&self, from: IpAddr) -> Result<Duration, TooManyGuesses> {
        let now = Instant::now();
        let mut owed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = owed.get(&payer(from)).copied().filter(|until| *until > now).unwrap_or(now);
        let wait = until.saturating_duration_since(now).saturating_sub(SPARE);
        if wait > WAIT_MAX {
            return Err(TooManyGuesses(wait));
        }
        if owed.len() >= ADDRESSES_MAX {
            owed.retain(|_, until| *until > now);
            let least = owed.iter().min_by_key(|(_, until)| **until).map(|(address, _)| *address);
            if let Some(least) = least.filter(|_| owed.len() >= ADDRESSES_MAX) {
                owed.remove(&least);
            }
        }
        owed.insert(payer(from), until + COST);
        Ok(wait)
    }

    /// Pays an attempt back that was right.
    pub(super) fn pay_back(&self, from: IpAddr) {
        let mut owed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = owed.get_mut(&payer(from)) {
            *until = until.checked_sub(COST).unwrap_or(*until);
        }
    }
}
