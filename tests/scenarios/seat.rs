//! One client of a node: a session that lasts over its commands.

use std::sync::Arc;

use lethe::command::{Context, Services, execute};
use lethe::resp::{Reply, Words};
use lethe::session::{Client, Session};

use crate::cluster::{Claim, Cluster, claim, line};

pub struct Seat {
    services: Arc<Services>,
    session: Session,
}

impl Seat {
    /// A new client of this node.
    pub fn at(cluster: &Cluster, node: &str) -> Self {
        let services = Arc::clone(cluster.node(node).services());
        let nowhere = ([127, 0, 0, 1], 0).into();
        let client = Arc::new(Client::new(0, nowhere, nowhere));
        let session = Session::new(client, Arc::clone(&services.config));
        Self { services, session }
    }

    /// Runs a command; its words are told apart by blanks.
    pub async fn ask(&mut self, command: &str) -> Reply {
        let mut context = Context { session: &mut self.session, services: &self.services };
        execute(&mut context, Words::from_words(command.split_whitespace())).await
    }

    /// Its answer, as one line.
    pub async fn say(&mut self, command: &str) -> String {
        line(&self.ask(command).await)
    }

    pub async fn expect(&mut self, command: &str, expected: &str) -> Claim {
        let got = self.say(command).await;
        claim!(got == expected, "'{command}' answered '{got}' instead of '{expected}'");
        Ok(())
    }

    /// Claims how the answer begins.
    pub async fn expect_start(&mut self, command: &str, expected: &str) -> Claim<String> {
        let got = self.say(command).await;
        claim!(got.starts_with(expected), "'{command}' answered '{got}' instead of '{expected}'");
        Ok(got)
    }

    /// The command must not fail.
    pub async fn done(&mut self, command: &str) -> Claim<Reply> {
        let reply = self.ask(command).await;
        claim!(!matches!(reply, Reply::Error(_)), "'{command}' answered '{}'", line(&reply));
        Ok(reply)
    }

    /// Claims how many documents a query gives.
    pub async fn expect_documents(&mut self, command: &str, expected: usize) -> Claim {
        let reply = self.done(command).await?;
        let Reply::Array(pair) = &reply else { return Err(format!("no batch: {}", line(&reply))) };
        let count = match pair.as_slice() {
            [_, Reply::Array(documents)] => documents.len(),
            _ => return Err(format!("no batch: {}", line(&reply))),
        };
        claim!(count == expected, "'{command}' gave {count} documents instead of {expected}");
        Ok(())
    }
}
