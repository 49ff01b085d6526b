//! What must always hold, seen from outside: each look at the store against the
//! one before, and against what clients asked for and were told.
//!
//! The numbers in brackets are those of the invariants of the design. What must hold of
//! deleted documents is in `kept.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lethe::clock::milliseconds;
use lethe::codec::record::{ChangeOp, State};
use lethe::codec::{BucketId, RemovalId, Sequence};

use crate::cluster::{Claim, EPOCH, SILENT_AFTER, claim};
use crate::commands::Effect;
use crate::kept::{Looks, Past, decoded, is_chosen};
use crate::look::{Content, Look, Oid};
use crate::swaps::Swap;
use crate::tally;
use crate::told::{Spell, Told};

/// Without RETAIN.
const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Cluster time is as old as the heartbeats and rounds that carry the clocks.
pub const TOLERANCE: i64 = 2_000;

/// Clocks that disagree by less are believed.
const BELIEVED: i64 = 60_000;

/// What was promised about a removal.
#[derive(Debug)]
struct Promise {
    /// It was committed after this look.
    since: Duration,
    /// The earliest true time at which it may be purged unasked.
    until: i64,
}

/// What is known of the past.
#[derive(Debug, Default)]
pub struct Model {
    pub told: Told,
    promises: BTreeMap<u64, Promise>,
    /// Where a document was seen: in its bucket, and in copies of that.
    homes: BTreeMap<Oid, BTreeSet<u64>>,
    /// In which namespaces a bucket or a namespace was seen last.
    lineages: BTreeMap<u64, Vec<u64>>,
    /// What a bucket was ever called.
    called: BTreeMap<u64, BTreeSet<String>>,
    /// Copies of a bucket that were seen.
    copies: BTreeMap<u64, BTreeSet<u64>>,
    /// Copies that took the place of their source since the last thorough look.
    swaps: Vec<Swap>,
    /// Buckets and namespaces that are no more, and when that was seen.
    gone: BTreeMap<u64, Duration>,
    /// When it was last looked what lies in a bucket.
    looked_into: BTreeMap<u64, Duration>,
    /// What change logs have told of documents.
    logged: BTreeMap<Oid, Vec<ChangeOp>>,
    /// When a member's heart beat last: incarnation, counter, not before this.
    hearts: BTreeMap<String, (u64, i64, Duration)>,
    /// Incarnations that were members no more soon after a beat.
    early: BTreeSet<u64>,
    /// Documents that workers write, and under which epoch of which shard.
    batches: BTreeMap<Oid, (u16, i64)>,
    /// How far ahead of the truth cluster time may be: what an administrator has accepted.
    pub ahead: i64,
    /// How far ahead any clock has ever been.
    farthest: i64,
    /// What has been deleted.
    pub past: Past,
}

/// A document that a client was given.
#[derive(Debug)]
pub struct Given<'a> {
    pub command: &'a str,
    /// The states of all buckets when the command was sent.
    pub before: &'a BTreeMap<u64, Option<u64>>,
    pub documents: &'a [Oid],
}

pub fn true_time(at: Duration) -> i64 {
    EPOCH + milliseconds(at)
}

impl Model {
    /// A clock is now so far ahead of the truth.
    pub fn note_clock(&mut self, ahead: i64) {
        self.farthest = self.farthest.max(ahead);
        if ahead <= BELIEVED {
            self.ahead = self.ahead.max(ahead);
        }
    }

    /// A worker writes this document.
    pub fn batch(&mut self, oid: Oid, shard: u16, epoch: i64) {
        self.batches.insert(oid, (shard, epoch));
    }

    /// Compares a look with the one before it.
    pub fn compare(&mut self, before: &Look, now: &Look) -> Claim {
        if self.told.under_way(Duration::ZERO, now.at, |effect| *effect == Effect::Confirm) {
            self.ahead = self.ahead.max(self.farthest);
        }
        self.past.note_time(now);
        for id in now.buckets.keys().chain(now.namespaces.keys()) {
            self.lineages.insert(*id, now.lineage(*id));
        }
        for (id, record) in &now.buckets {
            self.called.entry(*id).or_default().insert(record.name.clone());
            if let Some(of) = record.copy {
                self.copies.entry(of.source.0).or_default().insert(*id);
            }
        }
        self.swaps.extend(Swap::between(before, now));
        self.instances(before, now)?;
        self.removals(before, now);
        self.purges(before, now)?;
        self.members(before, now)?;
        self.replicas(now)?;
        shards(before, now)
    }

    /// No id twice; states and rows agree; what is gone was removed [6, 8].
    fn instances(&mut self, before: &Look, now: &Look) -> Claim {
        let mut names = BTreeSet::new();
        for (id, bucket) in &now.buckets {
            let id = BucketId(*id);
            claim!(!self.gone.contains_key(&id.0), "{id} was purged and is there again");
            let removal = now.own_removal_of(id.0);
            let removed = bucket.state == State::Removed;
            claim!(removed == removal.is_some(), "{id} is {:?}, removal {removal:?}", bucket.state);
            let first = removed || names.insert((bucket.namespace.0, &bucket.name));
            claim!(first, "two active buckets are called {}", bucket.name);
        }
        for id in before.buckets.keys().filter(|id| !now.buckets.contains_key(id)) {
            let id = BucketId(*id);
            claim!(self.is_buried(id.0, now), "{id} is gone and has no grave");
        }
        for (removal, grave) in &now.graves {
            self.gone.entry(grave.object.number()).or_insert(now.at);
            // Also one that came and went between two looks.
            if let Some(bucket) = grave.object.bucket() {
                self.called.entry(bucket.0).or_default().insert(grave.name.clone());
            }
            let known = before.removals.get(removal);
            let same = known.is_none_or(|(_, known)| known.object == grave.object);
            claim!(same, "the purge of {} took another object", RemovalId(*removal));
        }
        Ok(())
    }

    /// Whether a bucket was purged, itself or with a namespace.
    pub fn is_buried(&self, bucket: u64, now: &Look) -> bool {
        now.graves.values().any(|grave| grave.object.number() == bucket)
            || self.went_with_another(bucket, now)
    }

    /// The objects whose flip took a bucket: itself, or namespaces above it. What lay in one of those
    /// gets its grave when that is taken apart.
    pub fn flipped_with(&self, bucket: u64, now: &Look) -> BTreeSet<u64> {
        let flip = |id: u64| {
            let graves = now.graves.values().filter(move |grave| grave.object.number() == id);
            graves.map(|grave| grave.purged_at).min()
        };
        let above = self.lineages.get(&bucket).into_iter().flatten();
        let above: BTreeMap<u64, i64> =
            above.filter_map(|id| flip(*id).map(|at| (*id, at))).collect();
        let first = above.values().min();
        let own = flip(bucket).filter(|own| first.is_none_or(|first| own < first));
        above.into_keys().chain(own.map(|_| bucket)).collect()
    }

    /// Whether a namespace was purged in which this was.
    fn went_with_another(&self, object: u64, now: &Look) -> bool {
        let mut above = self.lineages.get(&object).into_iter().flatten();
        above.any(|id| now.graves.values().any(|grave| grave.object.number() == *id))
    }

    /// Notes what new removals were promised.
    fn removals(&mut self, before: &Look, now: &Look) {
        for (id, (_, removal)) in &now.removals {
            let reason = removal.reason.as_deref().unwrap_or_default();
            let retain = self.told.sent.iter().find_map(|sent| match sent.effect {
                Effect::Remove { serial, retain } if reason == format!("c{serial}") => retain,
                _ => None,
            });
            let retain = milliseconds(retain.unwrap_or(DEFAULT_RETENTION));
            let since = before.at;
            let until = true_time(since).saturating_add(retain);
            self.promises.entry(*id).or_insert(Promise { since, until });
        }
    }

    /// The earliest true time at which a removal of this name may be purged unasked. Also a RETAIN that
    /// was not answered yet may have shortened it.
    fn until(&self, promise: &Promise, name: &str) -> i64 {
        let mut until = promise.until;
        for sent in self.told.all_under_way(promise.since, Duration::MAX) {
            if let Effect::Retain(of, retain) = sent.effect
                && of == name
            {
                let from = true_time(sent.asked.max(promise.since));
                until = until.min(from + milliseconds(retain));
            }
        }
        until
    }

    /// Nothing is purged that nobody asked to purge and that has not expired, whatever
    /// the clocks show; nothing on hold, nothing while destruction is paused [3].
    fn purges(&self, before: &Look, now: &Look) -> Claim {
        for (id, grave) in now.graves.iter().filter(|(id, _)| !before.graves.contains_key(id)) {
            let removal = RemovalId(*id);
            let since = self.promises.get(id).map_or(before.at, |promise| promise.since);
            let asked = self.told.under_way(
                since,
                now.at,
                |effect| matches!(effect, Effect::Purge(name) if *name == grave.name),
            );
            // One that came and went between two looks: its promise is not known.
            let expired = self.promises.get(id).is_none_or(|promise| {
                self.until(promise, &grave.name)
                    <= true_time(now.at).saturating_add(self.ahead + TOLERANCE)
            });
            claim!(
                asked || expired || self.went_with_another(grave.object.number(), now),
                "{removal} of {} was purged at {} before its time, and nobody asked for it: {:?}",
                grave.name,
                true_time(now.at),
                self.promises.get(id)
            );
            let unheld =
                |effect: &Effect| matches!(effect, Effect::Unhold(name) if *name == grave.name);
            let held = before.holds.contains(id) && !self.told.under_way(before.at, now.at, unheld);
            claim!(!held, "{removal} was purged though it was on hold");
            tally::event(if asked {
                "purged as asked"
            } else {
                "purged by expiry or with its namespace"
            });
            let paused = before.pause.is_some() && before.pause == now.pause;
            claim!(!paused, "{removal} was purged though purging was paused");
        }
        Ok(())
    }

    /// Members are put out only when their hearts stand still, and report nothing afterwards [4].
    fn members(&mut self, before: &Look, now: &Look) -> Claim {
        for (node, member) in &before.members {
            let is = now.members.get(node).map(|is| is.incarnation);
            if let Some((incarnation, _, beaten)) = self.hearts.get(node)
                && is != Some(member.incarnation)
                && *incarnation == member.incarnation
                && now.at.saturating_sub(*beaten) < SILENT_AFTER
            {
                self.early.insert(member.incarnation);
            }
        }
        for (node, beat) in &now.beats {
            let heart = self.hearts.get(node);
            let moved = heart.is_none_or(|(incarnation, counter, _)| {
                (*incarnation, *counter) != (beat.incarnation, beat.counter)
            });
            if moved {
                self.hearts.insert(node.clone(), (beat.incarnation, beat.counter, before.at));
            }
        }
        for (node, seen) in &now.seen {
            let was = before.seen.get(node);
            let out = !before.members.contains_key(node) && !now.members.contains_key(node);
            claim!(!out || was == Some(seen), "{node} is no member and has reported");
            let same = before.members.get(node) == now.members.get(node);
            let grown = was.is_none_or(|was| was <= seen);
            claim!(!same || grown, "what {node} has seen has gone back");
        }
        Ok(())
    }

    /// What a replica has not read is kept, as long as its lease lasts [9].
    fn replicas(&self, now: &Look) -> Claim {
        for ((bucket, name), replica) in &now.replicas {
            let id = BucketId(*bucket);
            let known = now.buckets.contains_key(bucket) || self.is_buried(*bucket, now);
            claim!(known, "{id} is no more, and replica {name} is");
            let floor = now.floors.get(bucket).copied().unwrap_or(Sequence::START);
            let doubted = now.time.as_ref().map_or(0, |time| time.doubted_ms);
            let stood_still = now.stood_still(*bucket) + doubted;
            let clock = true_time(now.at) + self.ahead + TOLERANCE - stood_still;
            let live = !replica.stale && replica.lease_until.is_none_or(|until| until > clock);
            claim!(
                !live || replica.checkpoint >= floor,
                "replica {name} has read up to {}, and {floor} is no longer kept",
                replica.checkpoint
            );
        }
        Ok(())
    }

    /// Whether this incarnation was no member any more soon after its heart had beaten.
    pub fn ended_early(&self, incarnation: u64) -> bool {
        self.early.contains(&incarnation)
    }

    /// Compares what lies in the buckets with a former thorough look.
    pub fn compare_contents(&mut self, before: &Look, now: &Look) -> Claim {
        let (none, nothing) = (BTreeMap::new(), Content::default());
        let was = before.contents.as_ref().unwrap_or(&none);
        let is = now.contents.as_ref().unwrap_or(&none);
        for (id, content) in is {
            let bucket = BucketId(*id);
            for oid in content.documents.keys() {
                self.homes.entry(*oid).or_default().insert(*id);
            }
            for (_, change) in &content.changes {
                let ops = self.logged.entry(change.oid).or_default();
                if !ops.contains(&change.op) {
                    ops.push(change.op);
                }
            }
            let Some(record) = now.buckets.get(id) else {
                let above = self.lineages.get(id).into_iter().flatten();
                let objects: BTreeSet<u64> = above.copied().chain([*id]).collect();
                let purging = now.reclaims.iter().any(|removal| {
                    let grave = now.graves.get(removal);
                    grave.is_some_and(|grave| objects.contains(&grave.object.number()))
                });
                claim!(purging, "{bucket} is no more, and {} keys of it are", content.rows);
                continue;
            };
            self.looked_into.insert(*id, now.at);
            if let Some(removal) = now.removal_of(*id) {
                let (removed, _) = now.removals[&removal];
                for (version, change) in &content.changes {
                    let op = change.op;
                    claim!(
                        *version < removed,
                        "{bucket} was written to ({op:?}) after its removal"
                    );
                }
                let same = before.removal_of(*id) == Some(removal);
                let digest = was.get(id).map_or(content.digest, |was| was.digest);
                claim!(
                    !same || digest == content.digest,
                    "{bucket} has changed while it was removed"
                );
            }
            // A copy that is still being made shows what has come so far.
            if record.copy.is_none() {
                explained(bucket, content)?;
            }
            let was = was.get(id).unwrap_or(&nothing);
            // And when it comes back it goes on being made.
            let made = |look: &Look| look.buckets.get(id).is_some_and(|it| it.copy.is_some());
            if before.buckets.contains_key(id) && !(made(before) && made(now)) {
                Self::restored(bucket, (before, was), (now, content))?;
            }
            self.kept(&Looks { bucket, before, was, now, is: content })?;
            self.counted(content)?;
            self.epochs(before, content)?;
        }
        self.swaps.drain(..).try_for_each(|swap| swap.lost_nothing(now, is))
    }

    /// A worker writes nothing once its shard has another epoch [4].
    fn epochs(&self, before: &Look, content: &Content) -> Claim {
        for (version, change) in
            content.changes.iter().filter(|(v, _)| v.version() > before.version)
        {
            let Some((shard, epoch)) = self.batches.get(&change.oid) else { continue };
            let moved = before.shards.get(shard).is_some_and(|shard| shard.epoch > *epoch);
            claim!(
                !moved || change.op != ChangeOp::Insert,
                "a batch of a former epoch of shard {shard} landed at {version}"
            );
        }
        Ok(())
    }

    /// What was removed came back as it was, but for what was written since [5].
    fn restored(
        bucket: BucketId,
        (before, was): (&Look, &Content),
        (now, is): (&Look, &Content),
    ) -> Claim {
        let Some(removal) = before.removal_of(bucket.0) else { return Ok(()) };
        if now.removal_of(bucket.0) == Some(removal) {
            return Ok(());
        }
        let (removed, _) = before.removals[&removal];
        let since = is.changes.iter().filter(|(version, _)| *version > removed);
        let touched: BTreeSet<Oid> = since.map(|(_, change)| change.oid).collect();
        let untouched = |content: &Content| -> BTreeMap<Oid, bytes::Bytes> {
            let kept = content.documents.iter().filter(|(oid, _)| !touched.contains(*oid));
            kept.map(|(oid, value)| (*oid, value.clone())).collect()
        };
        let same = untouched(was) == untouched(is);
        claim!(same, "{bucket} was restored with other documents than it had");
        Ok(())
    }

    /// What was acknowledged has happened, and once.
    fn counted(&self, content: &Content) -> Claim {
        // What was acknowledged since the copy was made stands only in one of the two.
        if self.told.under_way(Duration::ZERO, Duration::MAX, |effect| *effect == Effect::Copy) {
            return Ok(());
        }
        let asked = self.told.sent.iter().filter(|sent| sent.effect == Effect::Increment).count();
        // An id that comes again counts anew.
        for (oid, value) in content.documents.iter().filter(|(oid, _)| !is_chosen(oid)) {
            let id = bson::oid::ObjectId::from_bytes(*oid);
            let document = decoded(value)?;
            let Ok(count) = document.get_i32("n").map(i64::from) else { continue };
            let acknowledged = self.told.increments.get(oid).copied().unwrap_or_default();
            claim!(
                count >= acknowledged && count <= i64::try_from(asked).unwrap_or(i64::MAX),
                "{id} counts {count}; {acknowledged} increments were acknowledged, {asked} asked for"
            );
        }
        Ok(())
    }

    /// At the end: what was acknowledged stood in a change log at some look, or went with a bucket
    /// into which nobody looked after it.
    pub fn acknowledged(&self) -> Claim {
        let told = &self.told;
        for (all, op) in [
            (&told.inserted, ChangeOp::Insert),
            (&told.deleted, ChangeOp::Delete),
            (&told.undeleted, ChangeOp::Undelete),
        ] {
            for (oid, spell) in all {
                let id = bson::oid::ObjectId::from_bytes(*oid);
                let logged = self.logged.get(oid).is_some_and(|ops| ops.contains(&op));
                claim!(
                    logged || self.went_unseen(*spell),
                    "{op:?} of {id} was acknowledged, and nothing tells of it: it is lost"
                );
                tally::event(if logged {
                    "acknowledged and seen"
                } else {
                    "acknowledged and purged"
                });
            }
        }
        Ok(())
    }

    /// Whether a bucket of the name that was written to is no more, and nobody looked into it since.
    fn went_unseen(&self, spell: Spell) -> bool {
        let script = &self.told.sent[spell.number].script;
        let words: BTreeSet<&str> = script.iter().flat_map(|line| line.split(' ')).collect();
        let buried = |bucket: &u64| {
            let above = self.lineages.get(bucket).into_iter().flatten();
            above.chain([bucket]).filter_map(|object| self.gone.get(object)).min()
        };
        self.called.iter().any(|(bucket, names)| {
            let looked = self.looked_into.get(bucket);
            names.iter().any(|name| words.contains(name.as_str()))
                && buried(bucket).is_some_and(|buried| *buried >= spell.asked)
                && looked.is_none_or(|looked| *looked < spell.answered)
        })
    }

    /// Where a document may be: where it was seen, and in all copies of that. One of an id
    /// that clients choose may be anywhere.
    fn homes_of(&self, oid: &Oid) -> Option<BTreeSet<u64>> {
        let mut left: Vec<u64> = self.homes.get(oid)?.iter().copied().collect();
        let mut homes = BTreeSet::new();
        while let Some(home) = left.pop() {
            if homes.insert(home) {
                left.extend(self.copies.get(&home).into_iter().flatten());
            }
        }
        (!is_chosen(oid)).then_some(homes)
    }

    /// A command was given no document of a bucket that was removed all the while [1, 2].
    pub fn given(&self, given: &Given<'_>, now: &Look) -> Claim {
        let copied = self.told.sent.iter().any(|sent| sent.effect == Effect::Copy);
        for oid in given.documents {
            let Some(mut homes) = self.homes_of(oid) else { continue };
            // A copy may have come and taken the place of its source since the last thorough look.
            if copied {
                let all = now.buckets.keys();
                homes.extend(all.filter(|bucket| !self.looked_into.contains_key(bucket)));
            }
            let removed = |home: &u64| {
                let Some(Some(removal)) = given.before.get(home) else { return false };
                now.removal_of(*home) == Some(*removal) || now.graves.contains_key(removal)
            };
            claim!(
                !homes.iter().all(removed),
                "'{}' was given a document of {:?}, which was removed before",
                given.command,
                homes.iter().map(|home| BucketId(*home)).collect::<Vec<_>>()
            );
        }
        Ok(())
    }
}

/// Epochs and witnesses only grow.
fn shards(before: &Look, now: &Look) -> Claim {
    for (shard, record) in &now.shards {
        let Some(was) = before.shards.get(shard) else { continue };
        claim!(record.epoch >= was.epoch, "the epoch of shard {shard} has gone back");
        let moved = record.owner != was.owner;
        claim!(!moved || record.epoch > was.epoch, "shard {shard} moved without a new epoch");
    }
    for (shard, witness) in &before.witnesses {
        let is = now.witnesses.get(shard);
        claim!(is.is_some_and(|is| is >= witness), "the witness of shard {shard} has gone back");
    }
    Ok(())
}

/// The change log tells how the documents came to be what they are.
fn explained(bucket: BucketId, content: &Content) -> Claim {
    let mut changes: Vec<_> = content.changes.iter().collect();
    changes.sort_by_key(|(version, _)| *version);
    let mut live: BTreeSet<Oid> = BTreeSet::new();
    for (_, change) in changes {
        let id = bson::oid::ObjectId::from_bytes(change.oid);
        let (op, was) = (change.op, live.contains(&change.oid));
        let sensible = match op {
            ChangeOp::Insert | ChangeOp::Undelete => !was && live.insert(change.oid),
            ChangeOp::Update => was,
            ChangeOp::Delete => was && live.remove(&change.oid),
            // Of a document that was there before this one.
            ChangeOp::Purge => !was || is_chosen(&change.oid),
        };
        claim!(sensible, "the log of {bucket} has {op:?} of {id}, which was there: {was}");
    }
    let documents: BTreeSet<Oid> = content.documents.keys().copied().collect();
    let differ = live.symmetric_difference(&documents).next();
    let Some(differ) = differ.map(|oid| bson::oid::ObjectId::from_bytes(*oid)) else {
        return Ok(());
    };
    Err(format!("the log of {bucket} does not explain document {differ}"))
}
