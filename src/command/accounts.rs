//! Keeping a node's table of users up to date, and telling the connections of those who changed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::gate::Known;
use super::{Error, Result, Services};
use crate::access::{self, DEFAULT, Rules, User};
use crate::codec::keys;
use crate::metadata::{Caller, Catalog};
use crate::store::{self, Store, Transaction, Watch};

/// The table is read anew at least this often, should a watch be lost.
const DEADMAN: Duration = Duration::from_secs(30);
/// How long to wait when the store does not answer.
const AGAIN: Duration = Duration::from_millis(500);

impl Services {
    /// Makes the users of the configuration, if the store has never had any.
    ///
    /// # Errors
    /// A rule that is none, which changes nothing; those of the store.
    pub async fn make_first_users(&self, catalog: &Catalog) -> Result<()> {
        let lines = &self.config.first_users.0;
        let untouched = |txn: Transaction| async move { access::is_untouched(&txn).await };
        if lines.is_empty() || !catalog.read("first-users", untouched).await? {
            return Ok(());
        }
        let mut users = Vec::new();
        for (line, place) in lines.iter().zip(1..) {
            let user = self.first_user(line).await;
            users.push(user.map_err(|error| {
                Error::Syntax(format!("user {place} of auth.users and auth.users_file: {error}"))
            })?);
        }
        if !users.iter().any(|user| user.name == DEFAULT) {
            users.push(User::new(DEFAULT, 1));
        }
        let (users, now) = (&users, catalog.now());
        let body = |txn: Transaction| async move {
            // Another node may have been faster.
            if access::is_untouched(&txn).await? {
                access::write_first(&txn, users, now).await?;
            }
            Ok(())
        };
        catalog.run("first-users", &Caller::system("start"), body).await
    }

    async fn first_user(&self, line: &str) -> Result<User> {
        let mut words = access::rule_words(line).into_iter();
        let mut name = words.next().unwrap_or_default();
        if name == "user" {
            // As Redis writes its own file.
            name = words.next().unwrap_or_default();
        }
        let born = rand::random_range(1..i64::MAX);
        let mut user = User::new(access::check_name(name)?, born);
        let rules = Rules::parse(words, &Known)?.prepare(&user, self.users.hasher()).await?;
        rules.apply(&mut user, &Known)?;
        Ok(user)
    }

    /// Reads all users anew; the connections of those who are others now look up from what they do.
    ///
    /// # Errors
    /// While the node is starting; those of the store.
    pub async fn reload_users(&self) -> Result<()> {
        self.reload_users_of(self.lifecycle()?.catalog()).await
    }

    /// As [`Services::reload_users`], also while the node is starting.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn reload_users_of(&self, catalog: &Catalog) -> Result<()> {
        let changed = self.users.reload(catalog.store()).await?;
        if !changed.is_empty() {
            for client in self.clients.list() {
                if changed.contains(&client.user()) {
                    client.note_change_of_user();
                }
            }
        }
        Ok(())
    }

    /// Follows the users of the store until told to stop.
    pub async fn follow_users(self: Arc<Self>, stop: CancellationToken) {
        let Ok(store) = self.lifecycle().map(|lifecycle| lifecycle.catalog().store().clone())
        else {
            return;
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.follow_once(&store) => {}
            }
        }
    }

    /// Reads the users after a watch was armed, and waits until it fires.
    async fn follow_once(&self, store: &Store) {
        let armed = arm(store).await;
        if let Err(error) = self.reload_users().await {
            tracing::debug!(%error, "the users could not be read");
            tokio::time::sleep(AGAIN).await;
            return;
        }
        match armed {
            Ok(watch) => {
                tokio::select! {
                    ended = watch => {
                        if let Err(error) = ended {
                            tracing::debug!(%error, "the watch on the users ended");
                            tokio::time::sleep(AGAIN).await;
                        }
                    }
                    () = tokio::time::sleep(DEADMAN) => {}
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the users could not be watched");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn arm(store: &Store) -> store::Result<Watch> {
    let txn = store.begin("users-watch");
    let watch = txn.watch(&keys::users_signal())?;
    txn.commit().await?;
    Ok(watch)
}
