//! Where a request runs its commands: a session, as a client has it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use super::fault::Fault;
use super::page::Place;
use super::request::Fields;
use super::visitor::Visitor;
use crate::access::{Login, Permit};
use crate::command::{self, Context, Services, execute};
use crate::http::serve::Peer;
use crate::resp::{Protocol, Reply, Words};
use crate::session::Session;

/// Who a visitor is.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// He has logged in here.
    Member(Login),
    /// He needs not to.
    Unnamed(Login),
    /// He has to.
    Nobody,
    /// He would not need to, had he not called the node by a name that a stranger could own.
    Misled,
}

/// A session for the time of one request.
#[derive(Debug)]
pub(super) struct Desk {
    services: Arc<Services>,
    session: Session,
    pub(super) visitor: Visitor,
    pub(super) standing: Standing,
    pub(super) query: Fields,
    /// The address of the page that is asked for.
    pub(super) here: String,
    /// What of the menu is for this visitor, once that was looked up.
    pub(super) menu: Vec<Place>,
}

impl Desk {
    /// HTTP has its own bound on connections, so there is always a place.
    pub(super) fn open(
        services: &Arc<Services>,
        peer: Peer,
        visitor: Visitor,
        standing: Standing,
        query: Fields,
        here: String,
    ) -> Self {
        let Peer { address, local, .. } = peer;
        let client = services.clients.connect(usize::MAX, address, local);
        let nowhere = |address: SocketAddr| crate::session::Client::new(0, address, local);
        let client = client.unwrap_or_else(|| Arc::new(nowhere(address)));
        client.set_name(Some("console".to_owned()));
        let mut session = Session::new(client, Arc::clone(&services.config));
        session.set_protocol(Protocol::Resp3);
        if let Standing::Member(login) | Standing::Unnamed(login) = &standing {
            session.log_in(login.clone());
        }
        Self {
            services: Arc::clone(services),
            session,
            visitor,
            standing,
            query,
            here,
            menu: Vec::new(),
        }
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Refuses a visitor who is nobody.
    pub(super) fn expect_somebody(&self) -> Result<(), Fault> {
        match &self.standing {
            Standing::Member(_) | Standing::Unnamed(_) => Ok(()),
            Standing::Nobody => Err(Fault::log_in_first()),
            Standing::Misled => Err(Fault::wrong_host()),
        }
    }

    /// The name of the user, if the visitor is one.
    pub(super) fn user(&self) -> Option<&str> {
        match &self.standing {
            Standing::Member(login) | Standing::Unnamed(login) => Some(&login.account().user.name),
            Standing::Nobody | Standing::Misled => None,
        }
    }

    /// Checks a name and a password, as any client's.
    pub(super) async fn log_in(&mut self, name: &str, password: &str) -> Result<Login, Fault> {
        self.call(["AUTH", name, password]).await?;
        self.session.login().cloned().ok_or_else(Fault::log_in_first)
    }

    /// Cluster time, or this machine's before there is one: milliseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        match self.services.lifecycle() {
            Ok(lifecycle) => lifecycle.catalog().now(),
            Err(_) => self.services.clock.now(),
        }
    }

    /// Makes a namespace the current one; whether there is such a one is for the commands to say.
    pub(super) fn enter(&mut self, namespace: &str) {
        namespace.clone_into(&mut self.session.namespace);
    }

    /// The namespace that sessions start in.
    pub(super) fn default_namespace(&self) -> &str {
        &self.services.config.session.namespace
    }

    /// Fires when what the visitor may do has changed.
    pub(super) fn alert(&self) -> Arc<Notify> {
        self.session.client().alert()
    }

    /// Whether that was so since this was last asked.
    pub(super) fn take_change_of_user(&self) -> bool {
        self.session.client().take_change_of_user()
    }

    /// Runs a command; an error is a fault.
    pub(super) async fn call<W: AsRef<[u8]>>(
        &mut self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<Reply, Fault> {
        self.run(Words::from_words(words)).await
    }

    async fn run(&mut self, words: Words) -> Result<Reply, Fault> {
        let client = Arc::clone(self.session.client());
        let (alert, killed) = (client.alert(), client);
        let mut context = Context { session: &mut self.session, services: &self.services };
        let run = execute(&mut context, words);
        let ended = async {
            // The kill of before is remembered by the client, the alert by the notice.
            while !killed.is_killed() {
                alert.notified().await;
            }
        };
        let reply = tokio::select! {
            reply = run => reply,
            () = ended => return Err(Fault::gone_connection()),
        };
        match reply {
            Reply::Error(line) => Err(Fault::command(&line)),
            reply => Ok(reply),
        }
    }

    async fn judge(&mut self, words: Words) -> Result<Option<Permit>, Fault> {
        let mut context = Context { session: &mut self.session, services: &self.services };
        let judged = command::allowed(&mut context, words).await;
        judged.map_err(|error| Fault::command(&error.to_line()))
    }

    /// Refuses what the visitor may not do, before it is tried: it is not recorded.
    pub(super) async fn expect<W: AsRef<[u8]>>(
        &mut self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<(), Fault> {
        self.judge(Words::from_words(words)).await.map(drop)
    }

    /// What allows a command, if anything does.
    pub(super) async fn permit<W: AsRef<[u8]>>(
        &mut self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<Option<Permit>, Fault> {
        optional(self.judge(Words::from_words(words)).await).map(Option::flatten)
    }

    /// Whether the visitor may run a command.
    pub(super) async fn may<W: AsRef<[u8]>>(
        &mut self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<bool, Fault> {
        Ok(self.permit(words).await?.is_some())
    }

    /// As [`Desk::permit`], for what is in a namespace.
    pub(super) async fn permit_in<W: AsRef<[u8]>>(
        &mut self,
        namespace: &str,
        words: impl IntoIterator<Item = W>,
    ) -> Result<Option<Permit>, Fault> {
        let here = std::mem::replace(&mut self.session.namespace, namespace.to_owned());
        let permit = self.permit(words).await;
        self.session.namespace = here;
        permit
    }

    /// Whether the visitor may run such a command at least somewhere.
    pub(super) fn may_somewhere<W: AsRef<[u8]>>(
        &mut self,
        words: impl IntoIterator<Item = W>,
    ) -> bool {
        let mut context = Context { session: &mut self.session, services: &self.services };
        command::allowed_somewhere(&mut context, Words::from_words(words))
    }

    /// Runs a command if the visitor may: what is left out of a page is no refused attempt.
    pub(super) async fn look<W: AsRef<[u8]>>(
        &mut self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<Option<Reply>, Fault> {
        let words = Words::from_words(words);
        if optional(self.judge(words.clone()).await)?.is_none() {
            return Ok(None);
        }
        optional(self.run(words).await)
    }
}

/// What a visitor may not see is left out of a page that has more to show.
fn optional<T>(result: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(fault) if fault.is("NOPERM") => Ok(None),
        Err(fault) => Err(fault),
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.services.clients.disconnect(self.session.id());
    }
}
