use std::collections::{BTreeMap, BTreeSet};

use bson::oid::ObjectId;

use super::peer::Peer;
use super::{Error, Options, Progress};
use crate::client::Answer;
use crate::value::{Raw, Value};

/// Changes of one reply of the source.
const CHANGES: &str = "200";
/// How long the source waits for a change, in milliseconds; then the lease is renewed.
const BLOCK_MS: &str = "10000";
/// Documents of a page of the snapshot.
const PAGE: usize = 200;
/// Bytes of documents that the target gets in one command, but for a larger document.
const BATCH_BYTES: usize = 2 << 20;
/// Pages of the snapshot after which the lease is renewed.
const RENEW_EVERY: u64 = 50;

/// Pages of changes after which the target is told again whom it follows.
const TELL_EVERY: u32 = 100;

/// Documents that may wait for later changes.
const WAITING_MAX: usize = 5_000;

/// Why it stopped taking over changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is left, which was to be the end.
    CaughtUp,
    /// The source has let go of what was not read: from a snapshot again.
    Resync,
}

/// What is to become of one document at the target.
#[derive(Clone, Debug, Default)]
struct Fate {
    /// As it is now at the source, if it is there.
    document: Option<Vec<u8>>,
    purged: bool,
}

/// A snapshot that was not completed.
struct Begun {
    /// The checkpoint of the replica when it began.
    sequence: String,
    /// The last document that it has passed.
    after: ObjectId,
}

/// Both sides, and where the replication stands.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    options: &'a Options,
    source: Peer,
    target: Peer,
    /// The source's bucket among all buckets of all clusters.
    origin: String,
    /// The replica's name at the source.
    name: String,
    /// Everything up to it has been taken over.
    sequence: String,
    applied: u64,
    /// What the target could not take over yet, but may with later changes.
    waiting: BTreeMap<ObjectId, Fate>,
    /// Pages of changes since the target was last told whom it follows.
    untold: u32,
}

impl<'a> Follower<'a> {
    pub(super) async fn connect(options: &'a Options) -> Result<Self, Error> {
        let mut source = Peer::connect("source", &options.from).await?;
        let mut target = Peer::connect("target", &options.to).await?;
        let known = ["BUCKET.REPLICA", "ORIGIN", &options.bucket];
        let known = source.call(&known).await?;
        let origin = text(&source, "ORIGIN", known.field("bucket"))?;
        target.call(&["BUCKET.CREATE", &options.to_bucket, "IF-NOT-EXISTS"]).await?;
        let mut follower = Self {
            options,
            source,
            target,
            origin,
            name: String::new(),
            sequence: String::new(),
            applied: 0,
            waiting: BTreeMap::new(),
            untold: 0,
        };
        let (own, _) = follower.tell_origins().await?;
        follower.name = options.name.clone().unwrap_or_else(|| format!("lethe:{own}"));
        Ok(follower)
    }

    /// Tells the target whom it follows, which refuses to follow itself. Again and
    /// again, since the source may have begun to follow somebody. Gives the target's own
    /// name, and how far a snapshot of the source is that has not been completed.
    async fn tell_origins(&mut self) -> Result<(String, Option<Begun>), Error> {
        let known = ["BUCKET.REPLICA", "ORIGIN", &self.options.bucket];
        let known = self.source.call(&known).await?;
        let mut words =
            vec!["BUCKET.REPLICA", "ORIGIN", &self.options.to_bucket, "ADD", &self.origin];
        words.extend(
            known.field("origins").map_or(&[][..], Answer::list).iter().filter_map(Answer::text),
        );
        let told = self.target.call(&words).await?;
        let own = text(&self.target, "ORIGIN", told.field("bucket"))?;
        let snapshots = told.field("snapshots").map_or(&[][..], Answer::list);
        let is_its = |row: &&Answer| {
            row.field("origin").and_then(Answer::text) == Some(self.origin.as_str())
        };
        let begun = match snapshots.iter().find(is_its) {
            None => None,
            Some(row) => {
                let after = text(&self.target, "ORIGIN", row.field("after"))?;
                let after = ObjectId::parse_str(after);
                let after = after.map_err(|_| self.target.unexpected("ORIGIN", row))?;
                let sequence = text(&self.target, "ORIGIN", row.field("sequence"))?;
                Some(Begun { sequence, after })
            }
        };
        Ok((own, begun))
    }

    /// Brings the target to where changes can be taken over from: by the
    /// checkpoint at the source, or else by a snapshot.
    pub(super) async fn settle(&mut self, report: &mut impl FnMut(Progress)) -> Result<(), Error> {
        if let Some(checkpoint) = self.checkpoint().await? {
            self.sequence = checkpoint;
            return Ok(());
        }
        self.register().await?;
        let registered = self.registered().await?;
        let row = registered.ok_or_else(|| self.source.unexpected("LIST", &Answer::Null))?;
        self.sequence = text(&self.source, "LIST", row.field("sequence"))?;
        // A snapshot that was begun at this very checkpoint goes on: whatever has changed
        // since in what it has passed is in the log behind the checkpoint, which has
        // been kept for this replica and will be taken over after it.
        let (_, begun) = self.tell_origins().await?;
        let after = begun.filter(|begun| begun.sequence == self.sequence).map(|begun| begun.after);
        if let Some(after) = after {
            report(Progress::Resumed { after: after.to_hex() });
        }
        self.snapshot(after, report).await?;
        // From now on the checkpoint says that the snapshot is complete.
        self.acknowledge().await.map(drop)
    }

    /// The replica's row at the source.
    async fn registered(&mut self) -> Result<Option<Answer>, Error> {
        let rows = self.source.call(&["BUCKET.REPLICA", "LIST", &self.options.bucket]).await?;
        let is_own =
            |row: &&Answer| row.field("replica").and_then(Answer::text) == Some(&self.name);
        Ok(rows.list().iter().find(is_own).cloned())
    }

    /// Up to where the target has everything, if it has had a whole snapshot.
    async fn checkpoint(&mut self) -> Result<Option<String>, Error> {
        let Some(row) = self.registered().await? else { return Ok(None) };
        let live = row.field("state").and_then(Answer::text) == Some("live");
        let complete = row.field("last_ack_at").is_some_and(|at| *at != Answer::Null);
        if !live || !complete {
            return Ok(None);
        }
        text(&self.source, "LIST", row.field("sequence")).map(Some)
    }

    /// Registers, or renews the lease of a replica that is registered.
    async fn register(&mut self) -> Result<(), Error> {
        let mut words = vec!["BUCKET.REPLICA", "REGISTER", &self.options.bucket, &self.name];
        if let Some(lease) = &self.options.lease {
            words.extend(["LEASE", lease]);
        }
        self.source.call(&words).await.map(drop)
    }

    /// False: the source has let go of this replica.
    async fn acknowledge(&mut self) -> Result<bool, Error> {
        let words =
            ["BUCKET.REPLICA", "ACK", &self.options.bucket, &self.name, self.sequence.as_str()];
        match self.source.ask(&words).await? {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.is(&["RESYNCREQUIRED", "NOSUCHREPLICA"]) => Ok(false),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Takes over all documents of the source in the order of their ids, and
    /// deletes at the target what lies between them.
    async fn snapshot(
        &mut self,
        mut after: Option<ObjectId>,
        report: &mut impl FnMut(Progress),
    ) -> Result<(), Error> {
        let (mut documents, mut deleted, mut pages) = (0, 0, 0_u64);
        loop {
            let page = query(&mut self.source, &self.options.bucket, after, None, false).await?;
            let more = page.len() >= PAGE;
            let through = page.last().map(|(id, _)| *id).filter(|_| more);
            let there: BTreeSet<ObjectId> = page.iter().map(|(id, _)| *id).collect();
            documents += u64::try_from(page.len()).unwrap_or(u64::MAX);
            let mut fates: BTreeMap<ObjectId, Fate> = page
                .into_iter()
                .map(|(id, document)| (id, Fate { document: Some(document), purged: false }))
                .collect();
            for id in self.strangers(after, through, &there).await? {
                deleted += 1;
                fates.entry(id).or_default();
            }
            self.apply_or_wait(fates, through, through.is_none()).await?;
            report(Progress::Snapshot { documents, deleted });
            pages += 1;
            if pages.is_multiple_of(RENEW_EVERY) {
                self.register().await?;
            }
            match through {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Documents of the target in this range of ids that the source has not.
    async fn strangers(
        &mut self,
        after: Option<ObjectId>,
        through: Option<ObjectId>,
        there: &BTreeSet<ObjectId>,
    ) -> Result<Vec<ObjectId>, Error> {
        let mut strangers = Vec::new();
        let mut from = after;
        loop {
            let page =
                query(&mut self.target, &self.options.to_bucket, from, through, true).await?;
            strangers.extend(page.iter().map(|(id, _)| *id).filter(|id| !there.contains(id)));
            match page.last() {
                Some((last, _)) if page.len() >= PAGE => from = Some(*last),
                _ => return Ok(strangers),
            }
        }
    }

    /// Takes over changes, for ever or until nothing is left.
    pub(super) async fn changes(
        &mut self,
        report: &mut impl FnMut(Progress),
    ) -> Result<End, Error> {
        loop {
            let mut words =
                vec!["BUCKET.CHANGES", &self.options.bucket, "FROM", &self.sequence, "WITH-DOCS"];
            words.extend(["COUNT", CHANGES]);
            if !self.options.once {
                words.extend(["BLOCK", BLOCK_MS]);
            }
            let page = match self.source.ask(&words).await? {
                Ok(page) => page,
                Err(refusal) if refusal.is(&["FEEDTRUNCATED"]) => {
                    self.forget().await?;
                    return Ok(End::Resync);
                }
                Err(refusal) => return Err(refusal.into()),
            };
            let next = text(&self.source, "CHANGES", page.field("sequence"))?;
            let changes = page.field("changes").map_or(&[][..], Answer::list);
            let fates = self.fates(changes)?;
            let idle = changes.is_empty();
            self.untold += 1;
            if idle || self.untold >= TELL_EVERY {
                self.tell_origins().await?;
                self.untold = 0;
            }
            self.sequence = next;
            if !self.apply_or_wait(fates, None, idle).await? {
                continue;
            }
            self.applied += u64::try_from(changes.len()).unwrap_or(u64::MAX);
            if !self.acknowledge().await? {
                return Ok(End::Resync);
            }
            let applied = self.applied;
            if idle {
                report(Progress::CaughtUp { applied });
                if self.options.once {
                    return Ok(End::CaughtUp);
                }
            } else {
                let behind = self.behind().await?;
                report(Progress::Changes { applied, behind });
            }
        }
    }

    /// What was read is no longer enough to go on: the replica begins anew.
    async fn forget(&mut self) -> Result<(), Error> {
        let words = ["BUCKET.REPLICA", "UNREGISTER", &self.options.bucket, &self.name];
        match self.source.ask(&words).await? {
            Err(refusal) if !refusal.is(&["NOSUCHREPLICA"]) => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    async fn behind(&mut self) -> Result<u64, Error> {
        let row = self.registered().await?;
        let behind = row.as_ref().and_then(|row| row.field("behind"));
        Ok(match behind {
            Some(Answer::Integer(behind)) => u64::try_from(*behind).unwrap_or(0),
            _ => 0,
        })
    }

    /// What is to become of the documents of these changes: the last change of each
    /// tells, since all come with the document as it is now.
    fn fates(&self, changes: &[Answer]) -> Result<BTreeMap<ObjectId, Fate>, Error> {
        let mut fates: BTreeMap<ObjectId, Fate> = BTreeMap::new();
        for change in changes {
            let unexpected = || self.source.unexpected("CHANGES", change);
            let id = change.field("_id").and_then(Answer::text);
            let id = id.and_then(|id| ObjectId::parse_str(id).ok()).ok_or_else(unexpected)?;
            let op = change.field("op").and_then(Answer::text).ok_or_else(unexpected)?;
            let fate = fates.entry(id).or_default();
            fate.purged |= op == "purge";
            fate.document = match change.field("document").ok_or_else(unexpected)? {
                Answer::Null => None,
                document => Some(document.bytes().ok_or_else(unexpected)?.to_vec()),
            };
        }
        Ok(fates)
    }

    /// As [`Follower::apply`]. False: a unique index of the target refused a value
    /// that another document has there, but may not have for long: they wait for what
    /// comes next, unless this is the `last`. What waits is known here only, so a
    /// snapshot is as far as it was before.
    async fn apply_or_wait(
        &mut self,
        fates: BTreeMap<ObjectId, Fate>,
        through: Option<ObjectId>,
        last: bool,
    ) -> Result<bool, Error> {
        let mut all = std::mem::take(&mut self.waiting);
        for (id, fate) in fates {
            let purged = all.get(&id).is_some_and(|waiting| waiting.purged) || fate.purged;
            all.insert(id, Fate { purged, ..fate });
        }
        let retry = all.clone();
        match self.apply(all, through).await {
            Err(Error::Refused { error, .. })
                if error.starts_with("DUPLICATEKEY") && !last && retry.len() <= WAITING_MAX =>
            {
                self.waiting = retry;
                Ok(false)
            }
            applied => applied.map(|()| true),
        }
    }

    /// Lets the target take these over, in as many commands as it needs, and note with
    /// the last of them through which document a snapshot has come.
    async fn apply(
        &mut self,
        fates: BTreeMap<ObjectId, Fate>,
        through: Option<ObjectId>,
    ) -> Result<(), Error> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for (id, fate) in fates {
            let size = fate.document.as_ref().map_or(0, Vec::len);
            if !batch.is_empty() && bytes + size > BATCH_BYTES {
                self.send(std::mem::take(&mut batch), None).await?;
                bytes = 0;
            }
            bytes += size;
            batch.push((id, fate));
        }
        self.send(batch, through).await
    }

    /// One command; if the target cannot take so much at once, two of half the size.
    async fn send(
        &mut self,
        batch: Vec<(ObjectId, Fate)>,
        through: Option<ObjectId>,
    ) -> Result<(), Error> {
        let mut waiting = vec![(batch, through)];
        while let Some((mut batch, through)) = waiting.pop() {
            if batch.is_empty() {
                continue;
            }
            match self.target.ask(&self.words(&batch, through)).await? {
                Ok(_) => {}
                Err(refusal) if refusal.is(&["TRANSACTION_TOO_LARGE"]) && batch.len() > 1 => {
                    let rest = batch.split_off(batch.len() / 2);
                    waiting.extend([(rest, through), (batch, None)]);
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Ok(())
    }

    fn words(&self, batch: &[(ObjectId, Fate)], through: Option<ObjectId>) -> Vec<Vec<u8>> {
        let head =
            ["BUCKET.REPLICA", "APPLY", &self.options.to_bucket, &self.origin, &self.sequence];
        let mut words: Vec<Vec<u8>> = head.iter().map(|word| word.as_bytes().to_vec()).collect();
        for (id, fate) in batch {
            let id = id.to_hex().into_bytes();
            if fate.purged {
                words.extend([b"PURGE".to_vec(), id.clone()]);
            }
            match &fate.document {
                Some(document) => words.extend([b"PUT".to_vec(), document.clone()]),
                None if !fate.purged => words.extend([b"DELETE".to_vec(), id]),
                None => {}
            }
        }
        if let Some(through) = through {
            words.extend([b"SNAPSHOT".to_vec(), through.to_hex().into_bytes()]);
        }
        words
    }
}

/// A page of documents in the order of their ids; with `bare` only their ids.
async fn query(
    peer: &mut Peer,
    bucket: &str,
    after: Option<ObjectId>,
    through: Option<ObjectId>,
    bare: bool,
) -> Result<Vec<(ObjectId, Vec<u8>)>, Error> {
    let bound = |word: &str, id: ObjectId| format!("\"{word}\": {{\"$oid\": \"{id}\"}}");
    let bounds: Vec<String> = after
        .map(|id| bound("$gt", id))
        .into_iter()
        .chain(through.map(|id| bound("$lte", id)))
        .collect();
    let filter = if bounds.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{\"_id\": {{{}}}}}", bounds.join(", "))
    };
    let limit = PAGE.to_string();
    let mut words = vec!["BUCKET.QUERY", bucket, &filter, "SORTBY", "_id", "ASC", "LIMIT", &limit];
    if bare {
        words.extend(["PROJECTION", "{\"_id\": 1}"]);
    }
    let answer = peer.call(&words).await?;
    let [cursor, first] = answer.list() else { return Err(peer.unexpected("QUERY", &answer)) };
    let cursor = cursor.line();
    let mut documents = Vec::new();
    read_into(peer, first, &mut documents)?;
    // A batch may end early; an empty one is the end.
    while documents.len() < PAGE && !documents.is_empty() {
        let answer = peer.call(&["BUCKET.ADVANCE", "QUERY", &cursor]).await?;
        let [_, more] = answer.list() else { return Err(peer.unexpected("ADVANCE", &answer)) };
        if more.list().is_empty() {
            break;
        }
        read_into(peer, more, &mut documents)?;
    }
    // One that is exhausted may be closed already.
    drop(peer.ask(&["BUCKET.CLOSE", "QUERY", &cursor]).await?);
    Ok(documents)
}

fn read_into(
    peer: &Peer,
    entries: &Answer,
    documents: &mut Vec<(ObjectId, Vec<u8>)>,
) -> Result<(), Error> {
    for entry in entries.list() {
        let bytes = entry.bytes().unwrap_or_default();
        let id = Raw::new(bytes).and_then(|raw| match raw.get(b"_id")?.value() {
            Value::ObjectId(id) => Some(id),
            _ => None,
        });
        let id = id.ok_or_else(|| peer.unexpected("QUERY", entry))?;
        documents.push((id, bytes.to_vec()));
    }
    Ok(())
}

fn text(peer: &Peer, command: &str, answer: Option<&Answer>) -> Result<String, Error> {
    let found = answer.and_then(Answer::text).map(str::to_owned);
    found.ok_or_else(|| peer.unexpected(command, answer.unwrap_or(&Answer::Null)))
}
