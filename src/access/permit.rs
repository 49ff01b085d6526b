use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::right::{Need, Place, Right};
use super::user::User;
use super::users::Account;
use crate::error::{Error, Result};
use crate::store::Transaction;

/// That a user may run one command. Every transaction of the command holds it.
#[derive(Clone, Debug)]
pub struct Permit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    account: Arc<Account>,
    command: &'static str,
    needs: Vec<Need>,
    own_only: bool,
    /// What the snapshot that was held last knew of the user, where that was something newer.
    newer: ArcSwapOption<User>,
}

impl Permit {
    /// Judges a command. What it needs as [`Right::RestoreOwn`] it gets as [`Right::Restore`]
    /// where the user has that.
    ///
    /// # Errors
    /// `NOPERM`.
    pub fn of(account: &Arc<Account>, command: &'static str, needs: Vec<Need>) -> Result<Self> {
        let own_only = Self::judged(account, command, &needs)?;
        Ok(Self::new(account, command, needs, own_only))
    }

    /// As [`Permit::of`], and gives only whether it is about what the user has removed.
    pub(crate) fn judged(account: &Account, command: &str, needs: &[Need]) -> Result<bool> {
        let own = needs.iter().any(|need| need.right == Right::RestoreOwn);
        if own {
            let full: Vec<Need> = needs.iter().cloned().map(in_full).collect();
            if account.user.judge(command, &full).is_ok() {
                return Ok(false);
            }
        }
        account.user.judge(command, needs)?;
        Ok(own)
    }

    /// Of what was [judged](Permit::judged).
    pub(crate) fn new(
        account: &Arc<Account>,
        command: &'static str,
        needs: Vec<Need>,
        own_only: bool,
    ) -> Self {
        // In full, so that it is judged again by that.
        let needs = if own_only { needs } else { needs.into_iter().map(in_full).collect() };
        let newer = ArcSwapOption::empty();
        Self(Arc::new(Inner { account: Arc::clone(account), command, needs, own_only, newer }))
    }

    /// Whether it is what the same command of the same user gets that needs its rights in this
    /// namespace alone: then nothing has to be judged anew.
    pub(crate) fn repeats(&self, account: &Arc<Account>, command: &str, namespace: &str) -> bool {
        let here = |need: &Need| matches!(&need.place, Place::Namespace(path) if path == namespace);
        Arc::ptr_eq(&self.0.account, account)
            && self.0.command == command
            && self.0.needs.iter().all(here)
    }

    /// Whether it allows the same user the same.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.0.command == other.0.command
            && self.0.needs == other.0.needs
            && self.user().born == other.user().born
    }

    /// Whose it is.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.0.account.user
    }

    /// Whether it is only about what this user has removed.
    #[must_use]
    pub fn own_only(&self) -> bool {
        self.0.own_only
    }

    /// What it was judged by.
    #[must_use]
    pub fn needs(&self) -> &[Need] {
        &self.0.needs
    }

    /// Makes the transaction one that obeys: it fails unless its snapshot allows the command too,
    /// and does not commit if the user is changed before.
    ///
    /// # Errors
    /// `NOPERM`, `NOAUTH` when the user is gone; those of the store.
    pub async fn hold(&self, txn: &Transaction) -> Result<()> {
        let account = &self.0.account;
        if account.is_current(txn).await? {
            self.0.newer.store(None);
            return Ok(());
        }
        let Some(user) = account.now(txn).await? else { return Err(Error::NotLoggedIn) };
        self.judge_again(&user)?;
        self.0.newer.store(Some(Arc::new(user)));
        Ok(())
    }

    /// Judges the same command by what has become of the user.
    ///
    /// # Errors
    /// As [`Permit::hold`].
    pub fn judge_again(&self, user: &User) -> Result<()> {
        let asked_for_nothing = self.0.account.is_silent() && !user.nopass;
        if user.born != self.user().born || !user.enabled || asked_for_nothing {
            return Err(Error::NotLoggedIn);
        }
        user.judge(self.0.command, &self.0.needs)
    }

    /// Expects another right in the same places: of what a command turns out to do. It is judged by
    /// what the snapshot knew of the user that was [held](Permit::hold) last.
    ///
    /// # Errors
    /// `NOPERM`.
    pub fn expect(&self, right: Right) -> Result<()> {
        self.0.needs.iter().try_for_each(|need| self.expect_at(right, need.place.clone()))
    }

    /// As [`Permit::expect`], in another place: where what the command turns out to do is decided.
    ///
    /// # Errors
    /// `NOPERM`.
    pub fn expect_at(&self, right: Right, place: Place) -> Result<()> {
        let newer = self.0.newer.load();
        let user = newer.as_deref().unwrap_or_else(|| self.user());
        user.judge(self.0.command, &[Need::besides(right, place)])
    }

    /// Refuses what somebody else has removed, where only one's own may be restored.
    ///
    /// # Errors
    /// `NOPERM`, as if nothing were there.
    pub fn expect_own(&self, removed_by: &str) -> Result<()> {
        if self.0.own_only && removed_by != self.user().name {
            return Err(self.denied());
        }
        Ok(())
    }

    /// The refusal of this command.
    #[must_use]
    pub fn denied(&self) -> Error {
        let full = self.0.needs.first().cloned().map(in_full);
        self.user().denied(self.0.command, full.as_ref())
    }
}

fn in_full(need: Need) -> Need {
    let right = if need.right == Right::RestoreOwn { Right::Restore } else { need.right };
    Need { right, ..need }
}
