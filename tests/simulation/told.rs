//! What clients have asked for and what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::oid::ObjectId;
use lethe::resp::Reply;

use crate::cluster::{Claim, claim, line};
use crate::commands::Effect;
use crate::look::Oid;

/// A commit whose result was unknown, or whose client is gone, may land so much later.
const GHOST: Duration = Duration::from_secs(7);

/// Answers that tell nothing of what has happened.
const UNKNOWN: [&str; 3] =
    ["COMMIT_UNKNOWN_RESULT", "TRANSACTION_TIMED_OUT", "TRANSACTION_CANCELLED"];

/// What a command may be refused with. Anything else is a mistake of the server.
const REFUSALS: &[&str] = &[
    "NOSUCHBUCKET",
    "NOSUCHNAMESPACE",
    "NAMESPACEBEINGREMOVED",
    "NAMESPACEALREADYEXISTS",
    "BUCKETALREADYEXISTS",
    "BUCKETBEINGREMOVED",
    "NOSUCHREMOVAL",
    "AMBIGUOUSREMOVED",
    "REMOVEDEXPIRED",
    "ALREADYPURGING",
    "BARRIERNOTSATISFIED",
    "HELD",
    "PROTECTED",
    "CLOCKSUSPECT",
    "PURGEPAUSED",
    "RETENTIONOUTOFRANGE",
    "DUPLICATEKEY",
    "NOSUCHINDEX",
    "NOT_COMMITTED",
    "TRANSACTION_TOO_OLD",
    "STOREUNAVAILABLE",
    "TRANSACTION",
    "RESYNCREQUIRED",
    "FEEDTRUNCATED",
    "ERR Bucket '",
    "ERR An index ",
    "ERR server is ",
    "ERR Namespace ",
    "ERR Bucket",
    "ERR Cannot ",
    "ERR Index ",
    "ERR A namespace ",
];

/// A command that was sent.
#[derive(Debug)]
pub struct Sent {
    pub effect: Effect,
    pub script: String,
    pub asked: Duration,
    /// From when on it brings about nothing any more. `None`: it may still.
    pub over: Option<Duration>,
}

/// All that was said.
#[derive(Debug, Default)]
pub struct Told {
    pub sent: Vec<Sent>,
    /// Documents whose insertion was acknowledged.
    pub inserted: BTreeSet<Oid>,
    /// Documents whose deletion was acknowledged, and when that was asked for.
    pub deleted: BTreeMap<Oid, Duration>,
    /// How many increments of a document were acknowledged.
    pub increments: BTreeMap<Oid, i64>,
}

impl Told {
    /// Notes a command that is being sent; gives its number.
    pub fn send(&mut self, effect: Effect, script: &[String], at: Duration) -> usize {
        self.sent.push(Sent { effect, script: script.join("; "), asked: at, over: None });
        self.sent.len() - 1
    }

    /// The client of a command is gone, and nobody knows what came of it.
    pub fn lose(&mut self, number: usize, at: Duration) {
        self.sent[number].over = Some(at + GHOST);
    }

    /// Notes the answers to a command's lines.
    pub fn answer(&mut self, number: usize, replies: &[Reply], at: Duration) -> Claim {
        let sent = &mut self.sent[number];
        let unknown = replies.iter().map(line).any(|reply| {
            UNKNOWN.iter().any(|code| reply.starts_with(code))
                || reply.contains("the result is unknown")
        });
        sent.over = Some(if unknown { at + GHOST } else { at });
        for reply in replies {
            if let Reply::Error(text) = reply {
                let known = REFUSALS.iter().chain(&UNKNOWN).any(|code| text.starts_with(code));
                claim!(known, "'{}' answered '{text}'", sent.script);
            }
        }
        if matches!(replies.last(), None | Some(Reply::Error(_))) {
            return Ok(());
        }
        let ids = replies.iter().flat_map(object_ids);
        match sent.effect {
            Effect::Insert => self.inserted.extend(ids),
            Effect::Delete => self.deleted.extend(ids.map(|id| (id, sent.asked))),
            Effect::Increment => {
                for id in ids {
                    *self.increments.entry(id).or_default() += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a command that has such an effect was under way at some time between these.
    pub fn under_way(&self, from: Duration, to: Duration, is: impl Fn(&Effect) -> bool) -> bool {
        self.sent.iter().any(|sent| {
            is(&sent.effect) && sent.asked <= to && sent.over.is_none_or(|over| over >= from)
        })
    }
}

/// The ids that stand alone in a reply.
fn object_ids(reply: &Reply) -> Vec<Oid> {
    match reply {
        Reply::Array(items) => items.iter().flat_map(object_ids).collect(),
        other => ObjectId::parse_str(line(other)).iter().map(ObjectId::bytes).collect(),
    }
}

/// The ids of the documents of a batch.
pub fn documents(reply: &Reply) -> Vec<Oid> {
    let text = line(reply);
    let after = text.split(r#""_id":""#).skip(1);
    let ids = after.filter_map(|rest| ObjectId::parse_str(rest.get(..24)?).ok());
    ids.map(|id| id.bytes()).collect()
}
