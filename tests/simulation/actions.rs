//! What happens to the nodes, beside commands: one line of the table each.

use std::time::Duration;

use lethe::cluster::work::Scope;
use lethe::codec::BucketId;
use lethe::document::{self, Document, Home, Limits, NewDocument, Origin};
use lethe::error::{Error, Result as DomainResult};
use lethe::lifecycle::Lifecycle;
use lethe::store::{Resolve, Transaction};

use crate::cluster::{Claim, NAMESPACE, SILENT_AFTER};
use crate::commands::{self, Effect, NAMES, Order};
use crate::world::{JUMPS, Kept, NODES, Open, World, later};

#[derive(Clone, Copy, Debug)]
enum Action {
    Command,
    /// Several commands at the same time, to the same few names.
    Burst,
    BeginWork,
    EndWork,
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
}

const ACTIONS: &[(u32, Action)] = &[
    (110, Action::Command),
    (12, Action::Burst),
    (25, Action::BeginWork),
    (18, Action::EndWork),
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
];

/// Commits that may be kept back: whatever the protocol has a rule about.
const LABELS: [&str; 14] = [
    "acknowledge",
    "acknowledge",
    "announce",
    "build",
    "delete",
    "evict",
    "evict",
    "flip",
    "flip",
    "insert",
    "join",
    "remove",
    "restore",
    "update",
];

/// Does one thing, by chance.
pub async fn act(world: &mut World) -> Claim {
    let node = world.dice.one_of(&NODES);
    let action = *world.dice.line(ACTIONS);
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
        Action::BeginWork => begin_work(world, node).await,
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
            world.open.retain(|open| open.node != node);
            world.leave(node).await?;
        }
        Action::Pause => world.cluster.pause(node),
        Action::Doze => {
            world.cluster.pause(node);
            let wakes = later(world, 1_500) + SILENT_AFTER.mul_f64(0.8);
            world.dozing.push((wakes, node));
        }
        Action::Outage => world.cluster.outage(node),
        Action::Heal => {
            for node in NODES {
                world.cluster.resume(node);
                world.cluster.end_outage(node);
            }
            world.dozing.clear();
        }
        Action::Jump => {
            let ahead = world.dice.one_of(&JUMPS);
            world.note(&format!("the clock of {node} is {ahead} ms ahead"));
            world.set_clock(node, ahead);
        }
        Action::Confirm => {
            let script = vec!["CLUSTER.CLOCK CONFIRM".to_owned()];
            world.send(node, Order { script, effect: Effect::Confirm });
        }
    }
    Ok(())
}

/// As a worker does: entered, then the check in a snapshot, then opened.
async fn begin_work(world: &mut World, node: &'static str) {
    let name = world.dice.one_of(&NAMES);
    let by_shard = world.dice.chance(0.5);
    let catalog = world.cluster.node(node).lifecycle().catalog().clone();
    let member = catalog.cluster();
    let Ok((bucket, _)) = catalog.bucket(NAMESPACE, name).await else { return };
    let shard = member.owned_shards().borrow().keys().next().copied();
    let scope = shard.filter(|_| by_shard).map_or(Scope::Member, Scope::Shard);
    let work = member.work().enter(bucket, scope, "simulated work");
    let txn: Transaction = catalog.store().begin("work");
    let active = catalog.handles().open_id(&txn, bucket).await.is_ok();
    if active && work.open().is_ok() {
        let incarnation = member.incarnation();
        world.open.push(Open { node, incarnation, bucket, work });
    }
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
    let lands = later(world, 100);
    world.kept.push((lands, Kept::Lost(lost)));
    Ok(())
}

/// The next commit of some kind waits, or is reported unknown and lands later.
fn keep_back(world: &mut World, node: &'static str) {
    let label = world.dice.one_of(&LABELS);
    world.note(label);
    let any = world.dice.chance(0.5);
    let kept = if world.dice.chance(0.5) {
        Kept::Held(if any { world.cluster.hold_any(label) } else { world.cluster.hold(node, label) })
    } else {
        Kept::Lost(world.cluster.lose(node, label))
    };
    let lands = later(world, 4_000);
    world.kept.push((lands, kept));
}
