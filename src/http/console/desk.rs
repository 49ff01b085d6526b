//! Where a request runs its commands: a session, as a client has it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::fault::Fault;
use super::request::Fields;
use super::visitor::Visitor;
use crate::command::{Context, Services, execute};
use crate::http::serve::Peer;
use crate::resp::{Protocol, Reply, Words};
use crate::session::Session;

/// A session for the time of one request.
#[derive(Debug)]
pub(super) struct Desk {
    services: Arc<Services>,
    session: Session,
    pub(super) visitor: Visitor,
    pub(super) query: Fields,
    /// The address of the page that is asked for.
    pub(super) here: String,
}

impl Desk {
    /// HTTP has its own bound on connections, so there is always a place.
    pub(super) fn open(
        services: &Arc<Services>,
        peer: Peer,
        visitor: Visitor,
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
        Self { services: Arc::clone(services), session, visitor, query, here }
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
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

    /// Runs a command; an error is a fault.
    pub(super) async fn call<W: AsRef<[u8]>>(
        &mut self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<Reply, Fault> {
        let words = Words::from_words(words);
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
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.services.clients.disconnect(self.session.id());
    }
}
