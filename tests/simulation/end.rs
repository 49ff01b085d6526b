//! The end of a run: all is healed, what is deleted is destroyed or brought back, the check
//! finds nothing, all is purged, and nothing is left of it.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use lethe::codec::record::{IndexStatus, State};
use lethe::codec::{RemovalId, keys};
use lethe::resp::Reply;
use tokio::time::sleep;

use crate::cluster::{Claim, SILENT_AFTER, claim, fail};
use crate::commands::Effect;
use crate::kept::has_unique;
use crate::look::{Look, Oid};
use crate::model::Model;
use crate::seat::Seat;
use crate::told::documents;
use crate::world::{NODES, World};

impl World {
    /// Heals everything; then all comes to rest, can be purged, and nothing is left of it.
    pub async fn end(mut self) -> Claim<String> {
        self.note("the end");
        self.cluster.chaos(None);
        for node in NODES {
            self.cluster.end_outage(node);
            self.cluster.resume(node);
            self.set_clock(node, 0);
        }
        self.open.clear();
        self.entered.clear();
        self.follow.clear();
        self.end_replicas();
        sleep(SILENT_AFTER * 2).await;
        self.replace_the_ended().await?;
        sleep(SILENT_AFTER).await;
        self.replace_the_ended().await?;
        self.look(true).await?;
        claim!(self.flying.is_empty(), "a command was never answered");
        self.model.acknowledged()?;
        let mut seat = Seat::at(&self.cluster, "A");
        seat.done("CLUSTER.CLOCK CONFIRM").await?;
        seat.done("PURGE.RESUME").await?;
        self.destroy_what_has_expired(&mut seat).await?;
        self.bring_back_what_was_deleted(&mut seat).await?;
        for mirror in &self.mirrors {
            mirror.is_true(&mut seat).await?;
        }
        self.cluster.the_store_is_in_order().await?;
        self.purge_all().await?;
        let end = Look::take(&self.looker, self.now(), true).await?;
        end.digest().hash(&mut self.trace);
        self.nothing_names_what_was_purged(&end).await?;
        let trace = format!("{:016x}", self.trace.finish());
        self.cluster.finish().await?;
        Ok(trace)
    }

    /// The active buckets that are no copies, and where they are.
    fn active(&self) -> Vec<(u64, String, String)> {
        let buckets = self.last.buckets.iter();
        let active = buckets.filter(|(_, it)| it.state == State::Active && it.copy.is_none());
        let placed = active.map(|(id, it)| Some((*id, self.last.path(*id)?, it.name.clone())));
        placed.flatten().collect()
    }

    /// A command that the model has to know of.
    async fn say(&mut self, seat: &mut Seat, effect: Effect, line: String) -> Claim<Reply> {
        let (script, asked) = ([line], self.now());
        let number = self.model.told.send(effect, &script, asked);
        let reply = seat.done(&script[0]).await?;
        self.model.told.answer(number, std::slice::from_ref(&reply), self.now())?;
        Ok(reply)
    }

    async fn destroy_what_has_expired(&mut self, seat: &mut Seat) -> Claim {
        for (_, path, name) in self.active() {
            seat.done(&format!("NAMESPACE USE {path}")).await?;
            self.say(seat, Effect::Ttl(None), format!("BUCKET.TTL {name} at OFF")).await?;
            self.say(seat, Effect::Vacuum, format!("BUCKET.VACUUM {name}")).await?;
        }
        self.look(true).await?;
        Model::vacuumed(&self.last)
    }

    /// What stays deleted then has an id or a unique value that is taken.
    async fn bring_back_what_was_deleted(&mut self, seat: &mut Seat) -> Claim {
        for (id, path, name) in self.active() {
            seat.done(&format!("NAMESPACE USE {path}")).await?;
            let line = format!("BUCKET.UNDELETE {name} {{}} ON-CONFLICT SKIP LIMIT 9999");
            self.say(seat, Effect::Undelete, line).await?;
            let left = seat.done(&format!("BUCKET.DELETED {name} {{}} LIMIT 9999")).await?;
            self.look(true).await?;
            let content = self.last.contents.as_ref().and_then(|all| all.get(&id));
            let live = |oid: &Oid| content.is_some_and(|it| it.documents.contains_key(oid));
            let unique = has_unique(&self.last, id, |status| status != IndexStatus::Failed);
            let left = documents(&left).into_iter().find(|oid| !unique && !live(oid));
            let left = left.map(bson::oid::ObjectId::from_bytes);
            claim!(left.is_none(), "{left:?} of {path}.{name} cannot be brought back");
        }
        Ok(())
    }

    /// Nothing that is left stands in the way of a purge.
    async fn purge_all(&mut self) -> Claim {
        let mut seat = Seat::at(&self.cluster, "A");
        self.given_back().await?;
        // What lies in a removed namespace goes with it, so these come first.
        let look = Look::take(&self.looker, self.now(), false).await?;
        for removal in &look.holds {
            let (family, removal) = (family(&look, *removal), RemovalId(*removal));
            seat.done(&format!("{family}UNHOLD {removal}")).await?;
        }
        loop {
            let look = Look::take(&self.looker, self.now(), false).await?;
            let namespaces =
                look.removals.iter().filter(|(_, (_, row))| row.object.bucket().is_none());
            let Some((removal, _)) = namespaces.max_by_key(|(removal, _)| **removal) else { break };
            let purge = format!("NAMESPACE PURGE {} TIMEOUT 60000", RemovalId(*removal));
            seat.expect(&purge, "OK").await?;
            self.given_back().await?;
        }
        let look = Look::take(&self.looker, self.now(), false).await?;
        for (id, bucket) in &look.buckets {
            let (Some(path), State::Active) = (look.path(*id), bucket.state) else { continue };
            seat.done(&format!("NAMESPACE USE {path}")).await?;
            seat.done(&format!("BUCKET.PROTECT {} OFF", bucket.name)).await?;
            seat.expect(&format!("BUCKET.REMOVE {}", bucket.name), "OK").await?;
        }
        let look = Look::take(&self.looker, self.now(), false).await?;
        for (removal, (_, row)) in &look.removals {
            claim!(row.object.bucket().is_some(), "{} is not purged", row.object);
            let purge = format!("BUCKET.PURGE {} TIMEOUT 5000", RemovalId(*removal));
            seat.expect(&purge, "OK").await?;
        }
        self.given_back().await
    }

    /// Waits until nothing is left of what was purged.
    async fn given_back(&self) -> Claim {
        let (store, began) = (&self.looker, self.began);
        let given_back = async || {
            let look = Look::take(store, began.elapsed(), false).await?;
            Ok(look.reclaims.is_empty())
        };
        let limit = Duration::from_secs(60);
        self.cluster.eventually("giving back what was purged", limit, given_back).await?;
        Ok(())
    }

    /// A scan of everything finds no key that belongs to a purged bucket [7].
    async fn nothing_names_what_was_purged(&self, end: &Look) -> Claim {
        claim!(end.buckets.is_empty(), "{} buckets are left", end.buckets.len());
        for (kind, what) in [
            (keys::kind::BUCKET_NAME, "name"),
            (keys::kind::BUCKET_RECORD, "record"),
            (keys::kind::REMOVAL, "removal"),
            (keys::kind::RETENTION, "retention"),
            (keys::kind::HOLD, "hold"),
            (keys::kind::REMOVED_BY_NAME, "entry by name"),
            (keys::kind::REMOVED_BY_TIME, "entry by time"),
            (keys::kind::RESERVED_NAME, "reserved name"),
            (keys::kind::REQUEST, "request"),
            (keys::kind::RECLAIM, "reclaim job"),
            (keys::kind::INDEX_TASK, "index task"),
            (keys::kind::DATA, "row of data"),
            (keys::kind::BUSY, "busy row"),
            (keys::kind::REPLICA, "replica"),
        ] {
            let left = self.cluster.rows(&keys::kind_prefix(kind)).await?;
            claim!(left.is_empty(), "all is purged, and {} has a {what}", left.len());
        }
        for (key, _) in self.cluster.rows(&keys::kind_prefix(keys::kind::EXPIRY)).await? {
            let (_, what, _) = keys::parse_expiry(&key).map_err(fail)?;
            let ours = [keys::due::OPERATION, keys::due::GRAVE].contains(&what);
            claim!(ours, "all is purged, and something of kind {what} is still due");
        }
        Ok(())
    }
}

/// The commands for what a removal has removed.
fn family(look: &Look, removal: u64) -> &'static str {
    let bucket = look.removals.get(&removal).and_then(|(_, row)| row.object.bucket());
    if bucket.is_some() { "BUCKET." } else { "NAMESPACE " }
}
