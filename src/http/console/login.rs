//! Who has logged in: sessions by their cookie, and the page that asks for a name and a password.
//!
//! A cookie is a random number; here only its hash is kept. A session ends when it is closed, after a
//! while without a request, at the end of its life, when the node stops, and when its user is deleted,
//! switched off or loses the password that it was opened with. What the user may do is judged by each
//! command.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use maud::html;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::desk::Desk;
use super::fault::Fault;
use super::page::{Page, token};
use super::request::address;
use crate::access::{Login, NAME_BYTES_MAX, Users};

/// How long a session lives, whatever happens on it.
const LIFE: Duration = Duration::from_secs(12 * 3_600);

/// How long it lives without a request of its visitor; a live page that asks again is none.
const IDLE: Duration = Duration::from_secs(3_600);

/// Sessions at a time; the one that was used longest ago makes room.
const SESSIONS_MAX: usize = 1_000;

/// Those of one user, so that nobody pushes others out.
const OF_A_USER_MAX: usize = 20;

type Key = [u8; 32];

#[derive(Debug)]
struct Open {
    login: Login,
    began: Instant,
    used: Instant,
}

impl Open {
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) < LIFE
            && now.saturating_duration_since(self.used) < IDLE
    }

    fn user(&self) -> &str {
        &self.login.account().user.name
    }
}

/// All who have logged in at this node.
#[derive(Debug, Default)]
pub(super) struct Logins(Mutex<HashMap<Key, Open>>);

fn key(cookie: &str) -> Key {
    Sha256::digest(cookie.as_bytes()).into()
}

impl Logins {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session for whoever has this cookie.
    pub(super) fn open(&self, cookie: &str, login: Login) {
        let now = Instant::now();
        let opened = Open { login, began: now, used: now };
        let mut open = self.lock();
        open.retain(|_, session| session.is_alive(now));
        let of_user = open.values().filter(|session| session.user() == opened.user()).count();
        if of_user >= OF_A_USER_MAX {
            make_room(&mut open, |session| session.user() == opened.user());
        } else if open.len() >= SESSIONS_MAX {
            make_room(&mut open, |_| true);
        }
        open.insert(key(cookie), opened);
    }

    /// Who has this cookie, if the session is alive and its user still stands.
    pub(super) fn find(&self, users: &Users, cookie: &str, by_visitor: bool) -> Option<Login> {
        let (key, now) = (key(cookie), Instant::now());
        let mut open = self.lock();
        let session = open.get_mut(&key)?;
        let stands = users.refresh(&mut session.login) && session.login.would_be_let_in();
        if !stands || !session.is_alive(now) {
            open.remove(&key);
            return None;
        }
        if by_visitor {
            session.used = now;
        }
        Some(session.login.clone())
    }

    /// Ends a session.
    pub(super) fn close(&self, cookie: &str) {
        self.lock().remove(&key(cookie));
    }
}

/// Ends the session among these that was used longest ago.
fn make_room(open: &mut HashMap<Key, Open>, among: impl Fn(&Open) -> bool) {
    let among = open.iter().filter(|(_, session)| among(session));
    let oldest = among.min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
    oldest.and_then(|oldest| open.remove(&oldest));
}

/// The page that asks who it is, once more with the name that was given and what is wrong.
pub(super) fn page(desk: &Desk, back: &str, again: Option<(&str, &Fault)>) -> Page {
    let status = again.map_or(StatusCode::OK, |(_, fault)| fault.status);
    let wrong = again.map(|_| "wrong");
    let body = html! {
        div class="ask login" {
            h1 { "Log in" }
            @if let Some((_, fault)) = again {
                p class="notice bad" role="alert" id="wrong" { (fault.sentence()) }
            }
            form class="card" method="post" action=(address("login", &[])) {
                (token(desk))
                input type="hidden" name="back" value=(back);
                div class="field" {
                    label for="name" { "User" }
                    input type="text" id="name" name="name" required autofocus[again.is_none()]
                        autocomplete="username" autocapitalize="off" spellcheck="false"
                        maxlength=(NAME_BYTES_MAX) value=(again.map_or("", |(name, _)| name))
                        aria-describedby=[wrong];
                }
                div class="field" {
                    label for="password" { "Password" }
                    input type="password" id="password" name="password" required autofocus[again.is_some()]
                        autocomplete="current-password" aria-describedby=[wrong];
                }
                button class="button primary" type="submit" { "Log in" }
            }
            p class="quiet" {
                "The users are those of the database: an administrator makes them with "
                code { "ACL SETUSER" } "."
            }
        }
    };
    Page::new(None, "Log in", body).status(status)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::access::{DEFAULT, Rules, Selector, User, write, write_first};
    use crate::store::{Resolve, Store, Transaction};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn logged_in(users: &Users, name: &str) -> Login {
        users.log_in(HERE, name, b"geheim").await.unwrap()
    }

    /// Users without a password, who may do everything.
    async fn users(store: &Store, names: &[&str]) -> Users {
        let users = Users::new(false);
        let made: Vec<User> = names
            .iter()
            .zip(1..)
            .map(|(name, born)| {
                let mut user = User::new(name, born);
                (user.enabled, user.nopass, user.root) = (true, true, Selector::everything());
                user
            })
            .collect();
        let made = &made;
        let body = |txn: Transaction| async move { write_first(&txn, made, 1).await };
        store.run("users", Resolve::Idempotent, body).await.unwrap();
        users.reload(store).await.unwrap();
        users
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_after_a_while_without_its_visitor() {
        let (logins, users) = (Logins::default(), Users::new(false));
        logins.open("a", logged_in(&users, DEFAULT).await);
        for _ in 0..3 {
            tokio::time::advance(IDLE.saturating_sub(Duration::from_secs(1))).await;
            assert!(logins.find(&users, "a", true).is_some());
        }
        // A live page alone keeps nobody in.
        for _ in 0..2 {
            tokio::time::advance((IDLE / 2).saturating_sub(Duration::from_secs(1))).await;
            assert!(logins.find(&users, "a", false).is_some());
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(logins.find(&users, "a", true).is_none());
        assert!(logins.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_however_much_it_is_used() {
        let (logins, users) = (Logins::default(), Users::new(false));
        logins.open("a", logged_in(&users, DEFAULT).await);
        let began = Instant::now();
        while logins.find(&users, "a", true).is_some() {
            tokio::time::advance(IDLE / 2).await;
        }
        assert_eq!(began.elapsed(), LIFE);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_bounded_for_each_user_and_for_all() {
        let names: Vec<String> = (0..=50).map(|number| format!("u{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let users = users(&Store::memory(), &names).await;
        let logins = Logins::default();
        for (number, name) in names.iter().enumerate() {
            let login = logged_in(&users, name).await;
            for session in 0..OF_A_USER_MAX {
                logins.open(&format!("{number}-{session}"), login.clone());
                tokio::time::advance(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(logins.lock().len(), SESSIONS_MAX);
        assert!(logins.find(&users, "0-19", true).is_none(), "the oldest made room");
        assert!(logins.find(&users, "1-0", true).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        logins.open("1-more", logged_in(&users, "u1").await);
        assert!(logins.find(&users, "1-1", true).is_none(), "the oldest of its user");
        assert!(logins.find(&users, "1-0", true).is_some() && logins.lock().len() == SESSIONS_MAX);
        logins.close("1-0");
        assert!(logins.find(&users, "1-0", true).is_none());
    }

    #[tokio::test]
    async fn a_session_ends_with_its_user_and_with_its_password() {
        let store = Store::memory();
        let users = users(&store, &["root", "ada"]).await;
        let logins = Logins::default();
        let change = async |rules: &'static str| {
            let mut ada = users.get("ada").unwrap().user.clone();
            let rules = Rules::parse(rules.split(' '), &Nothing).unwrap();
            rules.prepare(&ada, users.hasher()).await.unwrap().apply(&mut ada, &Nothing).unwrap();
            let ada = &ada;
            let body = |txn: Transaction| async move { write(&txn, ada, 1, "root").await };
            store.run("users", Resolve::Idempotent, body).await.unwrap();
            users.reload(&store).await.unwrap();
        };
        logins.open("open", logged_in(&users, "ada").await);
        change("resetpass >geheim").await;
        assert!(logins.find(&users, "open", true).is_none(), "it gave no password");
        logins.open("one", logged_in(&users, "ada").await);
        change(">another -@write").await;
        let found = logins.find(&users, "one", true).unwrap();
        assert_eq!(found.account().user, users.get("ada").unwrap().user, "as it is now");
        change("<geheim").await;
        assert!(logins.find(&users, "one", true).is_none(), "its password is gone");
        let other = users.log_in(HERE, "ada", b"another").await.unwrap();
        logins.open("two", other);
        change("off").await;
        assert!(logins.find(&users, "two", true).is_none(), "switched off");
        change("on").await;
        assert!(logins.find(&users, "two", true).is_none(), "and for good");
    }

    /// No command has a rule of its own here.
    struct Nothing;

    impl crate::access::Commands for Nothing {
        fn exists(&self, _: &str) -> bool {
            false
        }

        fn takes(&self, _: &str, _: crate::access::Right) -> bool {
            false
        }
    }
}
