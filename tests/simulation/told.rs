//! What clients have asked for and what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::oid::ObjectId;
use lethe::codec::RemovalId;
use lethe::resp::Reply;

use crate::cluster::{Claim, claim, line};
use crate::commands::Effect;
use crate::look::Oid;
use crate::tally;

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
    "NOSUCHREPLICA",
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
    "ERR No previous query context found",
];

/// A command that was sent.
#[derive(Debug)]
pub struct Sent {
    pub effect: Effect,
    pub script: Vec<String>,
    pub asked: Duration,
    /// From when on it brings about nothing any more. `None`: it may still.
    pub over: Option<Duration>,
}

/// When something happened: not before it was asked for, not after it was answered.
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    /// Which command asked.
    pub number: usize,
    pub asked: Duration,
    pub answered: Duration,
}

/// All that was said.
#[derive(Debug, Default)]
pub struct Told {
    pub sent: Vec<Sent>,
    /// Documents whose insertion was acknowledged.
    pub inserted: BTreeMap<Oid, Spell>,
    /// Documents whose deletion was acknowledged.
    pub deleted: BTreeMap<Oid, Spell>,
    /// How many increments of a document were acknowledged.
    pub increments: BTreeMap<Oid, i64>,
    /// Documents of which it was acknowledged that they came back.
    pub undeleted: BTreeMap<Oid, Spell>,
    /// By the name of the bucket: the DELETEs that somebody was told of.
    pub removals: BTreeMap<String, Vec<RemovalId>>,
    /// What these have deleted, where all of it was told.
    pub of_removal: BTreeMap<RemovalId, BTreeSet<Oid>>,
}

impl Told {
    /// Notes a command that is being sent; gives its number.
    pub fn send(&mut self, effect: Effect, script: &[String], at: Duration) -> usize {
        self.sent.push(Sent { effect, script: script.to_vec(), asked: at, over: None });
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
                claim!(known, "'{}' answered '{text}'", sent.text());
            }
        }
        for (command, reply) in sent.script.iter().zip(replies) {
            tally::answered(command, reply);
        }
        let in_transaction = sent.script.iter().any(|line| line == "BEGIN");
        if matches!(replies.last(), None | Some(Reply::Error(_))) && in_transaction {
            return Ok(());
        }
        let ids = replies.iter().flat_map(object_ids);
        let spell = Spell { number, asked: sent.asked, answered: at };
        match sent.effect.clone() {
            Effect::Insert => self.inserted.extend(ids.map(|id| (id, spell))),
            Effect::Delete { .. } | Effect::Undelete => {
                self.deleted_or_back(number, replies, spell)?;
            }
            Effect::Increment => {
                for id in ids {
                    *self.increments.entry(id).or_default() += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes the answers to DELETE and UNDELETE. By the id of a DELETE comes back
    /// what that deleted, and nothing else.
    fn deleted_or_back(&mut self, number: usize, replies: &[Reply], spell: Spell) -> Claim {
        let Sent { script, .. } = &self.sent[number];
        let (mut own, mut failed) = (None, false);
        for (command, reply) in script.iter().zip(replies) {
            let ids = object_ids(reply);
            failed |= matches!(reply, Reply::Error(_));
            if command.contains("UNDELETE") {
                let wanted = match command.split_once(" REMOVAL ") {
                    Some((_, rest)) if rest.starts_with('@') => own,
                    Some((_, rest)) => rest.split(' ').next().and_then(RemovalId::parse),
                    None => None,
                };
                // What failed may have happened, so that nobody knows all that it deleted.
                let all = wanted.filter(|removal| !failed || own != Some(*removal));
                let all = all.and_then(|removal| self.of_removal.get(&removal));
                let other = all.and_then(|all| ids.iter().find(|id| !all.contains(*id)));
                let other = other.map(|id| ObjectId::from_bytes(*id));
                claim!(
                    other.is_none(),
                    "'{command}' brought {other:?} back, which it had not taken"
                );
                self.undeleted.extend(ids.into_iter().map(|id| (id, spell)));
            } else if command.starts_with("BUCKET.DELETE") || command.starts_with("BUCKET.ADV") {
                self.deleted.extend(ids.iter().map(|id| (*id, spell)));
                own = removal_of(reply).or(own);
                let Some(removal) = own else { continue };
                let told = self.of_removal.entry(removal).or_default();
                told.extend(ids);
                let name = command.split(' ').nth(1).filter(|name| *name != "DELETE");
                if let Some(name) = name {
                    self.removals.entry(name.to_owned()).or_default().push(removal);
                }
            }
        }
        if let Some(removal) = own.filter(|_| failed) {
            self.of_removal.remove(&removal);
        }
        Ok(())
    }

    /// Whether a command that has such an effect was under way at some time between these.
    pub fn under_way(&self, from: Duration, to: Duration, is: impl Fn(&Effect) -> bool) -> bool {
        self.all_under_way(from, to).any(|sent| is(&sent.effect))
    }

    /// The commands that were under way at some time between these.
    pub fn all_under_way(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Sent> {
        let over = move |sent: &&Sent| sent.over.is_none_or(|over| over >= from);
        self.sent.iter().filter(move |sent| sent.asked <= to).filter(over)
    }
}

impl Sent {
    pub fn text(&self) -> String {
        self.script.join("; ")
    }
}

/// The id of a DELETE, in what that answered.
pub fn removal_of(reply: &Reply) -> Option<RemovalId> {
    let Reply::Array(parts) = reply else { return None };
    parts.get(2).and_then(|removal| RemovalId::parse(&line(removal)))
}

/// The ids that stand alone in a reply.
pub fn object_ids(reply: &Reply) -> Vec<Oid> {
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
