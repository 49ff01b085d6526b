//! The table of users on a node, and how they are kept in the store.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::guesses::Guesses;
use super::password::{Digest, Hasher};
use super::right::{Place, Right};
use super::user::{DEFAULT, User};
use crate::codec::record::{self, UserRecord};
use crate::codec::{Versionstamp, keys};
use crate::error::{Error, Result};
use crate::store::{RangeRead, Read, Resolve, Store, Transaction};

/// Most users of a store: all nodes have all of them in memory.
const USERS_MAX: usize = 10_000;

/// A user as a node knows it.
pub struct Account {
    pub user: User,
    key: Vec<u8>,
    /// The record that it was made of; the default user needs none.
    stored: Option<Bytes>,
    /// The newest metadata version at which the store was seen to hold that record.
    seen: Mutex<Option<Versionstamp>>,
    /// Of connections that have said nothing: they are this user only while it asks for nothing.
    silent: bool,
}

/// Without the record, which has the hashes.
impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Account {
    fn new(user: User, stored: Option<Bytes>, seen: Option<Versionstamp>) -> Self {
        Self { key: keys::user(&user.name), user, stored, seen: Mutex::new(seen), silent: false }
    }

    /// The same user, for those who have said nothing.
    fn silent(&self) -> Arc<Self> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let user = self.user.clone();
        Arc::new(Self { silent: true, ..Self::new(user, self.stored.clone(), seen) })
    }

    /// Whether it is of those who have said nothing.
    pub(super) const fn is_silent(&self) -> bool {
        self.silent
    }

    /// Whether this is the user as of the transaction's snapshot. The commit of the transaction
    /// fails if that changes before.
    pub(super) async fn is_current(&self, txn: &Transaction) -> Result<bool> {
        let now = txn.metadata_version().await?;
        txn.add_read_conflict_key(&self.key)?;
        if *self.seen.lock().unwrap_or_else(PoisonError::into_inner) == Some(now) {
            return Ok(true);
        }
        if txn.get(&self.key, Read::Snapshot).await? != self.stored {
            return Ok(false);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = (*seen).max(Some(now));
        Ok(true)
    }

    /// The user of this name as of the transaction's snapshot.
    pub(super) async fn now(&self, txn: &Transaction) -> Result<Option<User>> {
        read(txn, &self.user.name).await
    }
}

/// Somebody who has logged in, or needed not to.
#[derive(Clone)]
pub struct Login {
    account: Arc<Account>,
    generation: u64,
    /// A password, or the name of a user without one, was given.
    proven: bool,
    /// What is stored of the password that was given.
    password: Option<String>,
}

/// Without the hash.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Login {
    /// Who it is.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Whether a password was given, and looked at.
    #[must_use]
    pub const fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether it would still be let in with what was given. A connection stays logged in when its
    /// user gets another password, as in Redis; what should end then asks this.
    #[must_use]
    pub fn would_be_let_in(&self) -> bool {
        let user = &self.account.user;
        user.is_open()
            || self.password.as_ref().is_some_and(|password| user.passwords.contains(password))
    }
}

#[derive(Debug)]
struct Table {
    generation: u64,
    accounts: BTreeMap<String, Arc<Account>>,
    /// Who has said nothing, if that is allowed.
    silent: Option<Arc<Account>>,
    /// Most passwords that a user has, at least one.
    passwords: usize,
}

impl Table {
    fn new(generation: u64, accounts: BTreeMap<String, Arc<Account>>) -> Self {
        let default = accounts.get(DEFAULT).filter(|account| account.user.is_open());
        let silent = default.map(|account| account.silent());
        let users = accounts.values().filter(|account| account.user.enabled);
        let passwords = users.map(|account| account.user.passwords.len()).max().unwrap_or(0).max(1);
        Self { generation, accounts, silent, passwords }
    }
}

/// All users, as this node knows them.
#[derive(Debug)]
pub struct Users {
    table: ArcSwap<Table>,
    hasher: Hasher,
    guesses: Guesses,
    turn: tokio::sync::Mutex<()>,
    /// Whoever comes from another machine is the default user too, where that one asks for no password.
    insecure: bool,
}

impl Users {
    /// The table of a store without users.
    #[must_use]
    pub fn new(insecure: bool) -> Self {
        let default = Arc::new(Account::new(User::open_to_all(), None, None));
        let accounts = BTreeMap::from([(DEFAULT.to_owned(), default)]);
        Self {
            table: ArcSwap::from_pointee(Table::new(1, accounts)),
            hasher: Hasher::default(),
            guesses: Guesses::default(),
            turn: tokio::sync::Mutex::new(()),
            insecure,
        }
    }

    /// Hashes passwords.
    #[must_use]
    pub const fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// The user of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Account>> {
        self.table.load().accounts.get(name).cloned()
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Account>> {
        self.table.load().accounts.values().cloned().collect()
    }

    /// Who a connection is that has said nothing: the default user, if that asks for no password.
    #[must_use]
    pub fn unnamed(&self, from: IpAddr) -> Option<Login> {
        let table = self.table.load();
        let account = table.silent.as_ref()?;
        let trusted = self.insecure || from.to_canonical().is_loopback();
        trusted.then(|| Login {
            account: Arc::clone(account),
            generation: table.generation,
            proven: false,
            password: None,
        })
    }

    /// Brings a login up to date; false when its user is gone, disabled or another now, or asks
    /// for a password that was never given.
    pub fn refresh(&self, login: &mut Login) -> bool {
        let table = self.table.load();
        if table.generation == login.generation {
            return true;
        }
        let known = &login.account.user;
        let account =
            if login.proven { table.accounts.get(&known.name) } else { table.silent.as_ref() };
        let Some(account) = account else { return false };
        let user = &account.user;
        if user.born != known.born || !user.enabled {
            return false;
        }
        login.account = Arc::clone(account);
        login.generation = table.generation;
        true
    }

    /// Logs in. Takes as long whether the name or the password is wrong, and longer for an
    /// address from which many wrong ones came.
    ///
    /// # Errors
    /// `WRONGPASS`; `ERR` for an address with too many failures, and when too many log in at once.
    pub async fn log_in(&self, from: IpAddr, name: &str, password: &[u8]) -> Result<Login> {
        let wait = self.guesses.charge(from).map_err(|error| Error::syntax(error.to_string()))?;
        tokio::time::sleep(wait).await;
        let (generation, account, most) = {
            let table = self.table.load();
            (table.generation, table.accounts.get(name).cloned(), table.passwords)
        };
        let (account, password) = match account {
            // The default user without a password is for those on this machine.
            Some(account)
                if account.user.is_open() && (name != DEFAULT || self.unnamed(from).is_some()) =>
            {
                (account, None)
            }
            account => {
                let (account, password) = self.check(account, password, most).await?;
                (account, Some(password))
            }
        };
        self.guesses.pay_back(from);
        Ok(Login { account, generation, proven: true, password })
    }

    /// Gives also what is stored of the password. A wrong one takes as long as looking at `most` does.
    async fn check(
        &self,
        account: Option<Arc<Account>>,
        password: &[u8],
        most: usize,
    ) -> Result<(Arc<Account>, String)> {
        // An empty or an endless password is of nobody, which takes as long to find out.
        let digest = Digest::of(password);
        let known =
            account.filter(|account| account.user.enabled && !account.user.passwords.is_empty());
        let (Some(account), Some(digest)) = (&known, &digest) else {
            let stand_in = Digest::of(b"nobody").ok_or(Error::WrongPassword)?;
            self.hasher.find(digest.as_ref().unwrap_or(&stand_in), &[], most).await?;
            return Err(Error::WrongPassword);
        };
        let found = self.hasher.find(digest, &account.user.passwords, most).await?;
        found.map(|found| (Arc::clone(account), found)).ok_or(Error::WrongPassword)
    }

    /// Reads all users anew; gives the names of those who are others than before.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn reload(&self, store: &Store) -> Result<Vec<String>> {
        // One after the other, so that what was read last is what stays.
        let _turn = self.turn.lock().await;
        let body = |txn: Transaction| async move { load(&txn).await };
        let loaded = store.run("users", Resolve::Idempotent, body).await?.value;
        Ok(self.replace(loaded))
    }

    /// Puts what was loaded in place; gives the names of those who are others than before.
    fn replace(&self, loaded: Vec<Account>) -> Vec<String> {
        let old = self.table.load();
        let mut changed = Vec::new();
        let mut accounts = BTreeMap::new();
        for account in loaded {
            let name = account.user.name.clone();
            match old.accounts.get(&name) {
                Some(known) if known.stored == account.stored => {
                    let seen = *account.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    let mut newest = known.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    *newest = (*newest).max(seen);
                    accounts.insert(name, Arc::clone(known));
                }
                _ => {
                    changed.push(name.clone());
                    accounts.insert(name, Arc::new(account));
                }
            }
        }
        changed.extend(old.accounts.keys().filter(|name| !accounts.contains_key(*name)).cloned());
        if !changed.is_empty() {
            let generation = old.generation + 1;
            self.table.store(Arc::new(Table::new(generation, accounts)));
        }
        changed
    }
}

/// The user of this name as of the transaction's snapshot; the default user is always there.
///
/// # Errors
/// Those of the store; a record that cannot be read.
pub async fn read(txn: &Transaction, name: &str) -> Result<Option<User>> {
    match txn.get(&keys::user(name), Read::Conflict).await? {
        Some(value) => Ok(Some(decode(name, &value)?)),
        None if name == DEFAULT => Ok(Some(User::open_to_all())),
        None => Ok(None),
    }
}

fn decode(name: &str, value: &[u8]) -> Result<User> {
    let record: UserRecord = record::decode("user", value)?;
    Ok(User::from_record(name, record)?)
}

/// All users as of the transaction's snapshot, which conflicts with every change of one.
///
/// # Errors
/// Those of the store; a record that cannot be read.
pub async fn load(txn: &Transaction) -> Result<Vec<Account>> {
    let seen = txn.metadata_version().await?;
    let mut accounts = Vec::new();
    let mut next = Some(RangeRead::prefix(keys::kind_prefix(keys::kind::USER)));
    while let Some(range) = next {
        let page = txn.range(range.clone()).await?;
        for (key, value) in &page.rows {
            let name = keys::parse_user(key)?;
            accounts.push(Account::new(decode(&name, value)?, Some(value.clone()), Some(seen)));
        }
        next = range.after(&page);
    }
    if !accounts.iter().any(|account| account.user.name == DEFAULT) {
        accounts.push(Account::new(User::open_to_all(), None, Some(seen)));
    }
    Ok(accounts)
}

/// Writes a user, new or changed, so that every node learns of it.
///
/// # Errors
/// `ERR` when it would leave nobody who can manage users, or would be one too many; those of the store.
pub async fn write(txn: &Transaction, user: &User, now: i64, by: &str) -> Result<()> {
    let mut others = load(txn).await?;
    others.retain(|account| account.user.name != user.name);
    if others.len() >= USERS_MAX {
        return Err(Error::syntax(format!("there are {USERS_MAX} users, and no more may be made")));
    }
    expect_manager(others.iter().map(|account| &account.user).chain([user]))?;
    txn.set(&keys::user(&user.name), &record::encode(&user.to_record(now, by)))?;
    tell(txn)
}

/// Whether the store has never had a user.
///
/// # Errors
/// Those of the store.
pub async fn is_untouched(txn: &Transaction) -> Result<bool> {
    Ok(txn.get(&keys::users_signal(), Read::Conflict).await?.is_none())
}

/// Writes the first users of a store.
///
/// # Errors
/// As [`write()`].
pub async fn write_first(txn: &Transaction, users: &[User], now: i64) -> Result<()> {
    if users.len() > USERS_MAX {
        return Err(Error::syntax(format!("there can be {USERS_MAX} users")));
    }
    expect_manager(users.iter())?;
    for user in users {
        let record = user.to_record(now, "system:start");
        txn.set(&keys::user(&user.name), &record::encode(&record))?;
    }
    tell(txn)
}

/// Deletes users; gives how many there were.
///
/// # Errors
/// As [`write()`].
pub async fn remove(txn: &Transaction, names: &[String]) -> Result<Vec<String>> {
    let all = load(txn).await?;
    let is_named =
        |account: &&Account| names.contains(&account.user.name) && account.user.name != DEFAULT;
    let gone: Vec<String> =
        all.iter().filter(is_named).map(|account| account.user.name.clone()).collect();
    if gone.is_empty() {
        return Ok(gone);
    }
    expect_manager(all.iter().filter(|it| !is_named(it)).map(|account| &account.user))?;
    for name in &gone {
        txn.clear(&keys::user(name))?;
    }
    tell(txn)?;
    Ok(gone)
}

/// Refuses to lock everybody out.
fn expect_manager<'a>(mut users: impl Iterator<Item = &'a User>) -> Result<()> {
    let manages = |user: &User| user.can_log_in() && user.may(Right::Admin, &Place::Everywhere);
    if users.any(manages) {
        return Ok(());
    }
    Err(Error::syntax(
        "no user would be left that can log in and has +@admin on ~*: nobody could undo it",
    ))
}

fn tell(txn: &Transaction) -> Result<()> {
    txn.set_versionstamped_value(&keys::users_signal(), &Versionstamp::placeholder())?;
    Ok(txn.touch_metadata_version()?)
}
