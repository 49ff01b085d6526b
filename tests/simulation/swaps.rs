//! What must hold of a copy that has taken the place of its source: it has what that had.

use std::collections::{BTreeMap, BTreeSet};

use lethe::codec::BucketId;
use lethe::codec::record::CopyOf;

use crate::cluster::{Claim, claim};
use crate::kept::decoded;
use crate::look::{Content, Look, Oid};
use crate::tally;

/// As a SWAP removes the source.
const REASON: &str = "swapped for its copy";

/// A copy that is none any more.
#[derive(Debug)]
pub struct Swap {
    copy: u64,
    of: CopyOf,
}

impl Swap {
    /// The copies that took the place of their source between two looks.
    pub fn between<'a>(before: &'a Look, now: &'a Look) -> impl Iterator<Item = Self> + use<'a> {
        before.buckets.iter().filter_map(|(copy, record)| {
            let of = record.copy?;
            let is_none_now = now.buckets.get(copy).is_some_and(|record| record.copy.is_none());
            is_none_now.then_some(Self { copy: *copy, of })
        })
    }

    /// What was in the source when it was swapped is in the copy, and nothing else is, but for
    /// what was written there since. Says nothing when the source is not removed any more.
    pub fn lost_nothing(self, now: &Look, contents: &BTreeMap<u64, Content>) -> Claim {
        let Self { copy, of } = self;
        let source = of.source.0;
        let removal = now.own_removal_of(source).and_then(|removal| now.removals.get(&removal));
        let Some((swapped, _)) = removal.filter(|(_, row)| row.reason.as_deref() == Some(REASON))
        else {
            return Ok(());
        };
        let (Some(was), Some(is)) = (contents.get(&source), contents.get(&copy)) else {
            return Ok(());
        };
        let since = is.changes.iter().filter(|(version, _)| version > swapped);
        let touched: BTreeSet<Oid> = since.map(|(_, change)| change.oid).collect();
        let untouched = |content: &Content| -> Claim<BTreeMap<Oid, bson::Document>> {
            let kept = content.documents.iter().filter(|(oid, _)| !touched.contains(*oid));
            kept.map(|(oid, stored)| Ok((*oid, decoded(stored)?))).collect()
        };
        let (was_live, is_live) = (untouched(was)?, untouched(is)?);
        let copy = BucketId(copy);
        for (oid, document) in &was_live {
            let id = bson::oid::ObjectId::from_bytes(*oid);
            let same = is_live.get(oid) == Some(document);
            claim!(
                same,
                "{copy} has taken the place of its source, and {id} is not as it was there"
            );
        }
        let more = is_live.keys().find(|oid| !was_live.contains_key(*oid));
        let more = more.map(|oid| bson::oid::ObjectId::from_bytes(*oid));
        claim!(more.is_none(), "{copy} has taken the place of its source, which had no {more:?}");
        tally::event("swap compared");
        if of.live_only {
            return Ok(());
        }
        // What has come back or was destroyed since stands in the log.
        for ((oid, removal), _) in was
            .tombstones
            .iter()
            .filter(|((oid, _), kept)| !touched.contains(oid) && !kept.stored.is_empty())
        {
            let id = bson::oid::ObjectId::from_bytes(*oid);
            let there = is.tombstones.contains_key(&(*oid, *removal));
            claim!(there, "{copy} has taken the place of its source without deleted document {id}");
        }
        Ok(())
    }
}
