//! What happens to the nodes, beside commands: one line of the table each.

use std::time::Duration;

use lethe::cluster::work::Scope;
use lethe::codec::{BucketId, RemovalId};
use lethe::document::{self, Document, Home, Limits, NewDocument, Origin};
use lethe::error::{Error, Result as DomainResult};
use lethe::lifecycle::Lifecycle;
use lethe::store::{Resolve, Transaction};

use crate::cluster::{Claim, GRACE, NAMESPACE, SILENT_AFTER};
use crate::commands::{self, Effect, NAMES, Order};
use crate::tally;
use crate::world::{JUMPS, Kept, NODES, Open, World, land_after};

#[derive(Clone, Copy, Debug)]
pub enum Action {
    Command,
    /// Several commands at the same time, to the same few names.
    Burst,
    /// Commands whose order matters, one after the other.
    Tale,
    /// A replica follows a bucket for a while.
    Mirror,
    BeginWork,
    /// Work is entered, and looks later whether its bucket is active.
    EnterWork,
    OpenWork,
    EndWork,
    /// A removal is announced once more, as is done for those whose purge waits.
    Announce,
    /// A removal comes while the node still waits for the work of another one.
    Overtake,
    /// Work is entered and reported as busy just when the purge commits.
    Squeeze,
    /// A batch of a worker, whose result is unknown and which may land late.
    Batch,
    /// A commit of some kind is held back, or lost and landed late.
    KeepBack,
    Crash,
    /// A node leaves in order and comes back: its shards move.
    Leave,
    Pause,
    /// A node stands still for about as long as others wait for it.
    Doze,
    Outage,
    Heal,
    Jump,
    /// An administrator confirms the time that the clocks show.
    Confirm,
    /// Nothing is asked for more than a minute: what is done by time is done.
    Wait,
}

pub const ACTIONS: &[(u32, Action)] = &[
    (110, Action::Command),
    (12, Action::Burst),
    (14, Action::Tale),
    (10, Action::Mirror),
    (22, Action::BeginWork),
    (8, Action::EnterWork),
    (8, Action::OpenWork),
    (18, Action::EndWork),
    (4, Action::Announce),
    (3, Action::Overtake),
    (5, Action::Squeeze),
    (5, Action::Batch),
    (14, Action::KeepBack),
    (6, Action::Crash),
    (2, Action::Leave),
    (4, Action::Pause),
    (6, Action::Doze),
    (4, Action::Outage),
    (8, Action::Heal),
    (4, Action::Jump),
    (1, Action::Confirm),
    (1, Action::Wait),
];

/// Commits that may be kept back: whatever the protocol has a rule about.
const LABELS: [&str; 24] = [
    "acknowledge",
    "acknowledge",
    "alter-bucket",
    "announce",
    "build",
    "copy",
    "delete",
    "evict",
    "evict",
    "expunge",
    "flip",
    "flip",
    "insert",
    "join",
    "remove",
    "replica-register",
    "restore",
    "swap",
    "ttl",
    "ttl-bucket",
    "undelete",
    "update",
    "vacuum",
    "vacuum-now",
];

/// Does one thing, by chance.
pub async fn act(world: &mut World) -> Claim {
    let node = world.dice.one_of(&NODES);
    let action = *world.dice.line(ACTIONS);
    tally::event(&format!("{action:?}"));
    if !matches!(action, Action::Command | Action::Burst | Action::Jump) {
        world.note(&format!("{node}: {action:?}"));
    }
    match action {
        Action::Command => {
            let order = commands::draw(&mut world.dice);
            world.send(node, order);
        }
        Action::Burst => {
            for _ in 0..4 {
                let (node, order) = (world.dice.one_of(&NODES), commands::draw(&mut world.dice));
                world.send(node, order);
            }
        }
        Action::Tale => {
            let mut at = world.now();
            for order in commands::tale(&mut world.dice) {
                let node = world.dice.one_of(&NODES);
                world.follow.push((at, node, order));
                let longest = if world.dice.chance(0.7) { 40 } else { 1_200 };
                at += world.dice.millis(longest);
            }
        }
        Action::Mirror => {
            let mirror = world.dice.one_of(&[0, 1, 2]);
            // A slow one is silent for longer than its lease.
            let longest = world.dice.one_of(&[300, 300, 300, 3_000, 25_000]);
            let pauses = (0..6).map(|_| world.dice.millis(longest)).collect();
            world.follow_with(node, mirror, pauses);
        }
        Action::BeginWork => begin_work(world, node).await,
        Action::EnterWork => {
            if let Some(bucket) = world.some_bucket() {
                enter_work(world, node, bucket);
            }
        }
        Action::OpenWork => {
            if !world.entered.is_empty() {
                let opens = world.dice.below(world.entered.len());
                let entered = world.entered.swap_remove(opens);
                open_work(world, entered).await;
            }
        }
        Action::Announce => {
            if let Some((removal, bucket)) = world.some_removal() {
                announce(world, node, removal, bucket).await;
            }
        }
        // Where buckets are to live they are not all removed.
        Action::Overtake if world.dice.settled => {}
        Action::Overtake => overtake(world, node).await,
        Action::Squeeze => squeeze(world, node).await,
        Action::EndWork => {
            if !world.open.is_empty() {
                let ends = world.dice.below(world.open.len());
                drop(world.open.swap_remove(ends));
            }
        }
        Action::Batch => batch(world, node).await?,
        Action::KeepBack => keep_back(world, node),
        Action::Crash => world.restart(node).await?,
        Action::Leave => {
            world.cluster.resume(node);
            world.cluster.end_outage(node);
            world.leave(node).await?;
        }
        Action::Pause => world.cluster.pause(node),
        Action::Doze => {
            world.cluster.pause(node);
            let nap = SILENT_AFTER.mul_f64(0.8) + world.dice.millis(1_500);
            world.heals.push((world.now() + nap, node));
            // Sometimes it wakes when it is just being put out.
            if world.dice.chance(0.4) {
                let evict = world.cluster.hold_any("evict");
                land_after(world.dice.millis(1_000), Kept::Held(evict));
            }
        }
        Action::Outage => {
            world.cluster.outage(node);
            let lasts = world.dice.millis(5_000);
            world.heals.push((world.now() + lasts, node));
        }
        Action::Heal => {
            for node in NODES {
                world.cluster.resume(node);
                world.cluster.end_outage(node);
            }
            world.heals.clear();
        }
        Action::Jump => {
            let ahead = world.dice.one_of(&JUMPS);
            world.note(&format!("the clock of {node} is {ahead} ms ahead"));
            world.set_clock(node, ahead);
            if world.dice.chance(0.7) {
                world.back.push((world.now() + world.dice.millis(3_000), node));
            }
        }
        Action::Confirm => {
            let script = vec!["CLUSTER.CLOCK CONFIRM".to_owned()];
            world.send(node, Order { script, effect: Effect::Confirm });
        }
        Action::Wait => {
            for _ in 0..13 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                world.what_is_due();
                world.replace_the_ended().await?;
                world.look(false).await?;
            }
        }
    }
    Ok(())
}

/// As a worker does: entered, then the check in a snapshot, then opened.
async fn begin_work(world: &mut World, node: &'static str) {
    let name = world.dice.one_of(&NAMES);
    let catalog = world.cluster.node(node).lifecycle().catalog().clone();
    let Ok((bucket, _)) = catalog.bucket(NAMESPACE, name).await else { return };
    enter_work(world, node, bucket);
    if let Some(entered) = world.entered.pop() {
        open_work(world, entered).await;
    }
}

/// The first half: nobody has looked yet whether the bucket is active.
fn enter_work(world: &mut World, node: &'static str, bucket: BucketId) {
    let by_shard = world.dice.chance(0.5);
    let member = world.cluster.node(node).cluster();
    let shard = member.owned_shards().borrow().keys().next().copied();
    let scope = shard.filter(|_| by_shard).map_or(Scope::Member, Scope::Shard);
    world.works += 1;
    let what = format!("simulated work {}", world.works);
    let work = member.work().enter(bucket, scope, what.as_str());
    let incarnation = member.incarnation();
    world.entered.push(Open { node, incarnation, bucket, what, work });
}

/// The second half.
async fn open_work(world: &mut World, entered: Open) {
    let catalog = world.cluster.node(entered.node).lifecycle().catalog().clone();
    let txn: Transaction = catalog.store().begin("work");
    let active = catalog.handles().open_id(&txn, entered.bucket).await.is_ok();
    if active && entered.work.open().is_ok() {
        world.open.push(entered);
    }
}

async fn announce(world: &World, node: &'static str, removal: RemovalId, bucket: BucketId) {
    let member = world.cluster.node(node).cluster();
    let txn = world.cluster.store().begin("announce");
    // An announcement that is lost is no announcement.
    if member.announce(&txn, bucket.0, removal).is_ok() {
        drop(txn.commit().await);
    }
}

/// A node has work open on two buckets. Both are removed, the second when the
/// node is about to report what is left of the first.
async fn overtake(world: &mut World, node: &'static str) {
    for name in NAMES {
        let catalog = world.cluster.node(node).lifecycle().catalog().clone();
        let Ok((bucket, _)) = catalog.bucket(NAMESPACE, name).await else { return };
        enter_work(world, node, bucket);
        if let Some(entered) = world.entered.pop() {
            open_work(world, entered).await;
        }
    }
    let removals = NAMES.map(|name| commands::remove(&mut world.dice, name));
    for (order, name) in removals.into_iter().zip(NAMES) {
        let asked = world.dice.one_of(&NODES);
        world.send(asked, order);
        let pause = GRACE.mul_f64(0.75) + world.dice.millis(200);
        if name == NAMES[0] {
            tokio::time::sleep(pause).await;
        }
    }
    let asked = world.dice.one_of(&NODES);
    world.send(asked, commands::purge(NAMES[1], "TIMEOUT 900"));
}

/// Work is entered on a removed bucket, the removal is announced again, and the
/// flip commits at about the time when the busy row does.
async fn squeeze(world: &mut World, node: &'static str) {
    let Some((removal, bucket)) = world.some_removal() else { return };
    enter_work(world, node, bucket);
    announce(world, node, removal, bucket).await;
    let pause = GRACE.mul_f64(0.7) + world.dice.millis(300);
    tokio::time::sleep(pause).await;
    let flip = world.cluster.hold_any("flip");
    if let Some(name) = world.name_of(bucket) {
        let script = vec![format!("BUCKET.PURGE {removal} TIMEOUT 300")];
        let asked = world.dice.one_of(&NODES);
        world.send(asked, Order { script, effect: Effect::Purge(name) });
    }
    land_after(world.dice.millis(400), Kept::Held(flip));
}

/// A worker inserts a document under the epoch of its shard. Its commit is lost,
/// its node crashes and comes back, and the commit lands.
async fn batch(world: &mut World, node: &'static str) -> Claim {
    async fn write(
        lifecycle: Lifecycle,
        bucket: BucketId,
        (shard, epoch): (u16, i64),
        new: NewDocument,
    ) -> DomainResult<()> {
        let (catalog, new) = (lifecycle.catalog(), &[new]);
        let body = |txn: Transaction| async move {
            let txn = &txn;
            catalog.cluster().check_shard(txn, shard, epoch).await?;
            let home = Home::from(&catalog.handles().open_id(txn, bucket).await?);
            document::insert(txn, &home, new, 0).await?;
            Ok::<(), Error>(())
        };
        catalog.store().run("build", Resolve::Report, body).await?;
        Ok(())
    }
    let name = world.dice.one_of(&NAMES);
    let lifecycle = world.cluster.node(node).lifecycle().clone();
    let Ok((bucket, _)) = lifecycle.catalog().bucket(NAMESPACE, name).await else { return Ok(()) };
    let Ok((shard, epoch)) = world.cluster.shard_of(node) else { return Ok(()) };
    let text = format!("{{\"_id\":\"{:024x}\",\"k\":9}}", world.dice.serial());
    let services = world.cluster.node(node).services();
    let document = Document::from_json(text.as_bytes(), Limits::default());
    let document = document.map_err(|error| error.to_string())?;
    let new = NewDocument::new(document, Origin::Json, &services.object_ids);
    let new = new.map_err(|error| error.to_string())?;
    world.model.batch(new.id().bytes(), shard, epoch);
    let lost = world.cluster.lose(node, "build");
    let task = tokio::spawn(write(lifecycle, bucket, (shard, epoch), new));
    tokio::time::sleep(Duration::from_millis(40)).await;
    task.abort();
    if world.dice.chance(0.7) {
        world.restart(node).await?;
    }
    land_after(world.dice.millis(100), Kept::Lost(lost));
    Ok(())
}

/// The next commit of some kind waits, or is reported unknown and lands later.
fn keep_back(world: &mut World, node: &'static str) {
    let label = world.dice.one_of(&LABELS);
    world.note(label);
    let any = world.dice.chance(0.5);
    let kept = if world.dice.chance(0.5) {
        Kept::Held(if any {
            world.cluster.hold_any(label)
        } else {
            world.cluster.hold(node, label)
        })
    } else {
        Kept::Lost(world.cluster.lose(node, label))
    };
    land_after(world.dice.millis(1_500), kept);
}
