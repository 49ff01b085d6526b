//! What must hold of deleted documents: how long they are kept, what destroys them and what
//! brings them back.
//!
//! A copy that is being made is left out: what it shows is what has come so far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lethe::clock::milliseconds;
use lethe::codec::record::{ChangeOp, IndexStatus};
use lethe::codec::{BucketId, Sequence};
use lethe::store::limits::TRANSACTION_TIME_MAX;

use crate::cluster::{Claim, claim};
use crate::commands::Effect;
use crate::documents::CHOSEN;
use crate::look::{Content, Deleted, Kept, Look, Oid};
use crate::model::{Model, TOLERANCE, true_time};
use crate::tally;

/// Where neither the command nor the bucket says.
const DEFAULT_RETENTION: Duration = Duration::from_secs(48 * 3600);

/// What is known of former looks.
#[derive(Debug, Default)]
pub struct Past {
    /// What cluster time was.
    times: Vec<(Duration, i64)>,
    /// How far it was ahead of the truth at most.
    ahead: i64,
    /// Deleted documents that were looked at once.
    judged: BTreeSet<Deleted>,
}

impl Past {
    pub fn note_time(&mut self, look: &Look) {
        if let Some(time) = &look.time {
            self.times.push((look.at, time.now));
            self.ahead = self.ahead.max(time.now - true_time(look.at));
        }
    }

    /// What every node knew then that cluster time had reached. What a node knows it has read
    /// in a transaction, and it may have stood still between that one's snapshot and its end.
    fn known(&self, at: Duration) -> i64 {
        let before = self.times.iter().rev().find(|(looked, _)| *looked <= at);
        let behind = TOLERANCE + milliseconds(TRANSACTION_TIME_MAX);
        before.map_or(i64::MIN, |(_, time)| time.saturating_sub(behind))
    }

    /// What cluster time has surely not passed yet.
    fn latest(&self, at: Duration) -> i64 {
        true_time(at) + self.ahead + TOLERANCE
    }
}

/// Whether clients choose such an id, so that it may come again.
pub fn is_chosen(oid: &Oid) -> bool {
    bson::oid::ObjectId::from_bytes(*oid).to_hex().starts_with(CHOSEN)
}

fn shown(oid: &Oid) -> bson::oid::ObjectId {
    bson::oid::ObjectId::from_bytes(*oid)
}

/// What stands under a document's key, or stood there.
pub fn decoded(stored: &[u8]) -> Claim<bson::Document> {
    let bytes = stored.get(1..).unwrap_or_default();
    bson::deserialize_from_slice(bytes).map_err(|error| error.to_string())
}

/// Two looks at one bucket.
pub struct Looks<'a> {
    pub bucket: BucketId,
    pub before: &'a Look,
    pub was: &'a Content,
    pub now: &'a Look,
    pub is: &'a Content,
}

impl Looks<'_> {
    /// All destruction was stopped all the while.
    fn paused(&self) -> bool {
        self.before.pause.is_some() && self.before.pause == self.now.pause
    }

    /// What has happened to each document meanwhile.
    fn since(&self) -> BTreeMap<Oid, Vec<ChangeOp>> {
        let changes = self.is.changes.iter();
        let mut new: Vec<_> = changes.filter(|(v, _)| v.version() > self.before.version).collect();
        new.sort_by_key(|(version, _)| *version);
        let mut since: BTreeMap<Oid, Vec<ChangeOp>> = BTreeMap::new();
        for (_, change) in new {
            since.entry(change.oid).or_default().push(change.op);
        }
        since
    }

    fn is_copy(&self) -> bool {
        let number = self.bucket.0;
        [self.before, self.now]
            .iter()
            .any(|look| look.buckets.get(&number).is_some_and(|record| record.copy.is_some()))
    }
}

impl Model {
    /// Compares what was kept of deleted documents with what is.
    pub fn kept(&mut self, looks: &Looks<'_>) -> Claim {
        // A copy follows later, and one that came and took the place of its source meanwhile
        // has brought along what was there before.
        let new = !looks.before.buckets.contains_key(&looks.bucket.0);
        if looks.is_copy() || new && self.asked(looks, |effect| *effect == Effect::Copy) {
            return Ok(());
        }
        let since = looks.since();
        self.gone(looks, &since)?;
        self.back(looks, &since)?;
        self.fresh(looks)?;
        Self::destroyed(looks, &since)?;
        unique(looks)
    }

    fn asked(&self, looks: &Looks<'_>, is: impl Fn(&Effect) -> bool) -> bool {
        self.told.under_way(looks.before.at, looks.now.at, is)
    }

    /// A deleted document is destroyed when it has expired, or when somebody asked for
    /// it; not while destruction is stopped; and from then on the floor tells of it [9].
    fn gone(&self, looks: &Looks<'_>, since: &BTreeMap<Oid, Vec<ChangeOp>>) -> Claim {
        let Looks { bucket, now, .. } = looks;
        let expunging = self.asked(looks, |effect| *effect == Effect::Expunge);
        let undeleting = self.asked(looks, Effect::brings_back);
        let clock = true_time(now.at).saturating_add(self.ahead + TOLERANCE);
        let clock = clock.saturating_sub(now.stood_still(bucket.0));
        let floor = now.floors.get(&bucket.0).copied().unwrap_or(Sequence::START);
        for (deleted, kept) in &looks.was.tombstones {
            if looks.is.tombstones.contains_key(deleted) {
                continue;
            }
            let id = shown(&deleted.0);
            let expires_at = kept.record.expires_at;
            // Its document went before; what is left of it waited for a reader, and for nothing else.
            let stripped = kept.stored.is_empty();
            let expired = stripped || expires_at.is_some_and(|at| at <= clock);
            let ops = since.get(&deleted.0).map_or(&[][..], Vec::as_slice);
            let back = undeleting && ops.contains(&ChangeOp::Undelete);
            claim!(
                expired || expunging || back,
                "deleted document {id} was destroyed before its time: {expires_at:?} at {clock}"
            );
            if back {
                continue;
            }
            tally::event(if expired { "deleted document expired" } else { "expunged" });
            claim!(!looks.paused(), "deleted document {id} was destroyed while that was paused");
            let end = kept.version.map(Sequence::end_of);
            claim!(
                end.is_none_or(|end| end <= floor),
                "deleted document {id} of {bucket} is gone, and the floor {floor} does not say so"
            );
        }
        Ok(())
    }

    /// What comes back is what was deleted and had not expired, and somebody asked for it.
    fn back(&self, looks: &Looks<'_>, since: &BTreeMap<Oid, Vec<ChangeOp>>) -> Claim {
        let asked = self.told.all_under_way(looks.before.at, looks.now.at);
        let asked = asked.filter(|sent| sent.effect.brings_back()).map(|sent| sent.asked).min();
        let clock = asked.map_or(i64::MIN, |asked| self.past.known(asked));
        let clock = clock.saturating_sub(looks.now.stood_still(looks.bucket.0));
        for (oid, ops) in since.iter().filter(|(_, ops)| ops.contains(&ChangeOp::Undelete)) {
            let id = shown(oid);
            claim!(asked.is_some(), "{id} came back, and nobody asked for it");
            tally::event("deleted document came back");
            let Some(document) = looks.is.documents.get(oid) else { continue };
            let new = !looks.before.buckets.contains_key(&looks.bucket.0);
            if ops.len() > 1 || new {
                continue;
            }
            let all = looks.was.tombstones.range((*oid, 0)..=(*oid, u64::MAX));
            let same: Vec<&Kept> =
                all.map(|(_, kept)| kept).filter(|kept| kept.stored == *document).collect();
            claim!(!same.is_empty(), "{id} came back as another document than was deleted");
            let expired = |kept: &&Kept| kept.record.expires_at.is_some_and(|at| at <= clock);
            claim!(
                self.ahead > 0 || !same.iter().all(expired),
                "{id} came back though it had expired: {same:?} at {clock}"
            );
        }
        Ok(())
    }

    /// A document is kept for as long as its DELETE, its bucket or the server says,
    /// and none is deleted by TTL before its time.
    fn fresh(&mut self, looks: &Looks<'_>) -> Claim {
        let Looks { bucket, before, now, .. } = looks;
        for (deleted, kept) in &looks.is.tombstones {
            let known = looks.was.tombstones.contains_key(deleted);
            if known || !self.past.judged.insert(*deleted) || kept.stored.is_empty() {
                continue;
            }
            let id = shown(&deleted.0);
            if kept.record.by.user == "system:ttl" {
                tally::event("document deleted by TTL");
                claim!(!looks.paused(), "{id} was deleted by TTL while destruction was paused");
                self.over(looks, id, kept)?;
            }
            let stood_still = now.stood_still(bucket.0);
            if before.stood_still(bucket.0) != stood_still {
                continue;
            }
            let begin = kept.record.deleted_at - stood_still;
            let lasts = kept.record.expires_at.map(|at| at - begin);
            let allowed = self.retentions(looks, kept);
            claim!(
                allowed.contains(&lasts),
                "deleted document {id} of {bucket} is kept for {lasts:?} ms instead of {allowed:?}"
            );
        }
        Ok(())
    }

    /// How long a deleted document may have to be kept, in milliseconds.
    fn retentions(&self, looks: &Looks<'_>, kept: &Kept) -> BTreeSet<Option<i64>> {
        let reason = kept.record.reason.as_deref().unwrap_or_default();
        let said = self.told.sent.iter().find_map(|sent| match sent.effect {
            Effect::Delete { serial, retain, .. } if reason == format!("d{serial}") => retain,
            _ => None,
        });
        if let Some(said) = said {
            return BTreeSet::from([Some(milliseconds(said))]);
        }
        let default = || Some(milliseconds(DEFAULT_RETENTION));
        let mut all = BTreeSet::new();
        for look in [looks.before, looks.now] {
            let record = look.buckets.get(&looks.bucket.0);
            let own = record.and_then(|record| record.tombstone_retention);
            all.insert(own.map_or_else(default, |own| own.ms));
        }
        for sent in self.told.all_under_way(looks.before.at, looks.now.at) {
            if let Effect::Alter(retention) = &sent.effect {
                all.insert(retention.map_or_else(default, |it| Some(milliseconds(it))));
            }
        }
        all
    }

    /// The time of a document that a TTL deleted was over.
    fn over(&self, looks: &Looks<'_>, id: bson::oid::ObjectId, kept: &Kept) -> Claim {
        let mut settings: Vec<i64> = Vec::new();
        for look in [looks.before, looks.now] {
            let record = look.buckets.get(&looks.bucket.0);
            settings.extend(record.and_then(|record| record.ttl.as_ref()).map(|ttl| ttl.after_ms));
        }
        let document = decoded(&kept.stored)?;
        let at = document.get_datetime("at").map_err(|error| format!("{id}: {error}"))?;
        let latest = self.past.latest(looks.now.at);
        let is_over = |after: i64| at.timestamp_millis() + after <= latest;
        let asked = |effect: &Effect| matches!(effect, Effect::Ttl(Some(after)) if is_over(*after));
        claim!(
            settings.iter().any(|after| is_over(*after)) || self.asked(looks, asked),
            "{id} of {at} was deleted by TTL before its time, {settings:?} ms, at {latest}"
        );
        Ok(())
    }

    /// What was destroyed before its time has left no document behind.
    fn destroyed(looks: &Looks<'_>, since: &BTreeMap<Oid, Vec<ChangeOp>>) -> Claim {
        for ((oid, _), kept) in looks.is.tombstones.iter().filter(|((oid, _), _)| !is_chosen(oid)) {
            let last = since.get(oid).and_then(|ops| ops.last());
            claim!(
                last != Some(&ChangeOp::Purge) || kept.stored.is_empty(),
                "{} was destroyed, and its document is still there",
                shown(oid)
            );
        }
        Ok(())
    }

    /// At the end, when all clocks are right and nothing else happens: what has expired
    /// was destroyed, unless a replica still has to hear of it.
    pub fn vacuumed(end: &Look) -> Claim {
        let Some(time) = &end.time else { return Err("no cluster time".to_owned()) };
        for (id, content) in end.contents.iter().flatten() {
            let Some(record) = end.buckets.get(id) else { continue };
            if end.removal_of(*id).is_some() || record.copy.is_some() {
                continue;
            }
            let clock = time.now - end.stood_still(*id) - TOLERANCE;
            let readers: Vec<Sequence> = end
                .replicas
                .iter()
                .filter(|((bucket, _), replica)| {
                    // Leases stand still while the clocks are in doubt.
                    let clock = clock - time.doubted_ms;
                    let over = replica.lease_until.is_some_and(|until| until < clock);
                    bucket == id && !replica.stale && !over
                })
                .map(|(_, replica)| replica.checkpoint)
                .collect();
            for ((oid, _), kept) in &content.tombstones {
                let expired = kept.record.expires_at.is_some_and(|at| at < clock);
                let end = kept.version.map(Sequence::end_of);
                let waits = readers.iter().any(|reader| end.is_none_or(|end| *reader < end));
                claim!(
                    !expired || waits,
                    "deleted document {} of {} has expired and is still there: {kept:?}",
                    shown(oid),
                    BucketId(*id)
                );
            }
        }
        Ok(())
    }
}

/// What is unique is there once.
fn unique(looks: &Looks<'_>) -> Claim {
    let Looks { bucket, now, is, .. } = looks;
    if !has_unique(now, bucket.0, |status| status == IndexStatus::Ready) {
        return Ok(());
    }
    let mut seen: BTreeMap<Option<i32>, Oid> = BTreeMap::new();
    for (oid, stored) in &is.documents {
        let unique = decoded(stored)?.get_i32("u").ok();
        let other = seen.insert(unique, *oid).map(|other| shown(&other));
        claim!(
            other.is_none(),
            "{bucket} has a unique index, and {} and {other:?} both have {unique:?}",
            shown(oid)
        );
    }
    Ok(())
}

/// Whether a bucket has a unique index in such a state.
pub fn has_unique(look: &Look, bucket: u64, is: impl Fn(IndexStatus) -> bool) -> bool {
    let record = look.buckets.get(&bucket);
    let mut indexes = record.into_iter().flat_map(|record| &record.indexes);
    indexes.any(|index| index.unique && is(index.status))
}
