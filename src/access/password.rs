//! Passwords: what is kept of them, and the work of checking one.
//!
//! What is hashed by argon2id is the SHA-256 of a password in hex, so that what Redis keeps
//! (`#<hash>`) can be taken over as it is, and a long password costs no more than a short one.
//! Hashing takes tens of milliseconds and tens of MiB on purpose: it runs on the blocking pool, a
//! few at a time, and those who wait are bounded too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// Longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 512;

/// KiB of memory, passes and lanes: the least that OWASP's cheat sheet on storing passwords asks of argon2id.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

const SALT_BYTES: usize = 16;

/// Hashings at a time at most, whatever the machine has.
const PARALLEL_MAX: usize = 4;
/// Hashings that wait for their turn; who comes then is sent away.
const WAITING_MAX: usize = 64;

/// The SHA-256 of a password in hex: as good as the password itself, so never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest(String);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl Digest {
    /// That of a password; `None` for one that is empty or too long.
    pub fn of(password: &[u8]) -> Option<Self> {
        use std::fmt::Write as _;
        if !(1..=PASSWORD_BYTES_MAX).contains(&password.len()) {
            return None;
        }
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(password) {
            write!(hex, "{byte:02x}").ok()?;
        }
        Some(Self(hex))
    }

    /// As Redis writes it.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (hex.len() == 64 && hex.bytes().all(is_hex)).then(|| Self(hex.to_owned()))
    }
}

/// Hashes and checks, a few at a time.
#[derive(Debug)]
pub struct Hasher {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Hasher {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            places: Arc::new(Semaphore::new((cores / 2).clamp(1, PARALLEL_MAX))),
            waiting: AtomicUsize::new(0),
        }
    }
}

fn argon2() -> Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| Error::Internal(format!("argon2: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(digest: &Digest) -> Result<String> {
    let salt: [u8; SALT_BYTES] = rand::random();
    let hashed = argon2()?.hash_password_with_salt(digest.0.as_bytes(), &salt);
    hashed
        .map(|hash| hash.to_string())
        .map_err(|error| Error::Internal(format!("a password could not be hashed: {error}")))
}

/// Whether a stored hash is of this password. One that cannot be read is of none.
fn fits(digest: &Digest, stored: &str) -> bool {
    let Ok(stored) = PasswordHash::new(stored) else { return false };
    // The parameters are those that it was made with.
    argon2().is_ok_and(|argon2| argon2.verify_password(digest.0.as_bytes(), &stored).is_ok())
}

/// Takes as long as checking a password of a user who isn't there, or has fewer than another.
fn pretend(digest: &Digest) {
    // What comes of it is of nobody.
    drop(std::hint::black_box(hash(digest)));
}

/// Whether this can be what is stored of a password.
#[must_use]
pub fn is_hash(stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|hash| hash.algorithm.as_str() == "argon2id")
}

/// One who waits for his turn, or has it.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hasher {
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return Err(Error::syntax("too many passwords are being checked, try again later"));
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            // Kept until the work is done, also when nobody waits for it any more.
            let _place = place;
            work()
        });
        let done = done.await;
        drop(waiting);
        done.map_err(|error| Error::Internal(format!("checking a password failed: {error}")))
    }

    /// What is stored of a password.
    pub async fn hash(&self, digest: &Digest) -> Result<String> {
        let digest = digest.clone();
        self.work(move || hash(&digest)).await?
    }

    /// Which of these is of this password. That none is takes as long as looking at `at_least` of
    /// them, so that it does not tell how many there are.
    pub async fn find(
        &self,
        digest: &Digest,
        stored: &[String],
        at_least: usize,
    ) -> Result<Option<String>> {
        let (digest, stored) = (digest.clone(), stored.to_vec());
        self.work(move || {
            let pretended = at_least.saturating_sub(stored.len());
            let found = stored.into_iter().find(|stored| fits(&digest, stored));
            if found.is_none() {
                (0..pretended).for_each(|_| pretend(&digest));
            }
            found
        })
        .await
    }
}
