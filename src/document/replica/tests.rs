use super::*;
use crate::codec::record::ClusterTimeRecord;
use crate::store::{self, Store};

const AT: i64 = 1_700_000_000_000;
const LEASE: Lease = Lease::For(60_000);

struct World {
    store: Store,
    home: Home,
}

impl World {
    async fn new() -> Self {
        let world = Self { store: Store::memory(), home: Home::for_test(7, &[2, 5]) };
        world.time(AT, None).await;
        world
    }

    async fn time(&self, now: i64, suspect: Option<&str>) {
        let suspect = suspect.map(str::to_owned);
        let (pending, accepted) = (None, None);
        self.keep(ClusterTimeRecord { now, suspect, pending, accepted, doubted_ms: 0 }).await;
    }

    async fn doubted(&self, now: i64, doubted_ms: i64) {
        let (suspect, pending, accepted) = (None, None, None);
        self.keep(ClusterTimeRecord { now, suspect, pending, accepted, doubted_ms }).await;
    }

    async fn keep(&self, row: ClusterTimeRecord) {
        let txn = self.store.begin("time");
        txn.set(&keys::cluster_time(), &record::encode(&row)).unwrap();
        txn.commit().await.unwrap();
    }

    /// Writes so many changes of one shard in one commit and gives its version.
    async fn change(&self, changes: u16) -> Versionstamp {
        let txn = self.store.begin("change");
        for order in 0..changes {
            let key = keys::change_now(self.home.bucket(), 5, order);
            txn.set_versionstamped_key(&key, b"").unwrap();
        }
        txn.commit().await.unwrap().versionstamp.unwrap()
    }

    async fn register(&self, name: &str, from: Option<Sequence>) -> Result<Sequence> {
        let txn = self.store.begin("register");
        let checkpoint = register(&txn, &self.home, name, from, LEASE, AT).await?;
        txn.commit().await?;
        Ok(checkpoint)
    }

    async fn ack(&self, name: &str, sequence: Sequence, at: i64) -> Result<()> {
        let txn = self.store.begin("ack");
        ack(&txn, &self.home, name, sequence, at).await?;
        txn.commit().await?;
        Ok(())
    }

    async fn readers(&self) -> Readers {
        let txn = self.store.begin("readers");
        let readers = readers(&txn, &self.home).await.unwrap();
        txn.commit().await.unwrap();
        readers
    }

    async fn raise(&self, to: Sequence) {
        let txn = self.store.begin("raise");
        raise_floor(&txn, self.home.bucket(), to).unwrap();
        txn.commit().await.unwrap();
    }

    async fn checkpoint(&self, name: &str) -> Sequence {
        let txn = self.store.begin("read");
        let time = time::read(&txn, Read::Snapshot).await.unwrap();
        read_one(&txn, &self.home, name, &time).await.unwrap().unwrap().record.checkpoint
    }
}

fn is_resync(result: &Result<impl std::fmt::Debug>) -> bool {
    matches!(result, Err(Error::ResyncRequired { .. }))
}

#[test]
fn names_of_readers_inside_the_cluster_are_no_clients_to_take() {
    for name in ["a", "eu-west.1:b_2/c@d", &"x".repeat(NAME_BYTES_MAX)] {
        assert_eq!(check_name(name.as_bytes()).unwrap(), name);
    }
    let internal = internal_name("copy");
    for name in ["", "a b", "é", &internal, &"x".repeat(NAME_BYTES_MAX + 1)] {
        assert!(check_name(name.as_bytes()).is_err(), "{name}");
    }
    assert!(is_internal(&internal) && !is_internal("a"));
}

#[tokio::test]
async fn the_lowest_checkpoint_is_that_of_the_slowest_reader() {
    let world = World::new().await;
    assert!(world.readers().await.have_passed(Versionstamp::MAX));
    let first = world.change(1).await;
    world.register("slow", None).await.unwrap();
    let second = world.change(1).await;
    world.register("quick", None).await.unwrap();
    let readers = world.readers().await;
    assert!(readers.have_passed(first) && !readers.have_passed(second));
    assert_eq!(readers.lowest.unwrap().1, "slow");
    world.ack("slow", Sequence::end_of(second), AT).await.unwrap();
    assert!(world.readers().await.have_passed(second));
}

#[tokio::test]
async fn a_checkpoint_never_goes_back_and_never_ahead_of_the_log() {
    let world = World::new().await;
    let first = world.change(1).await;
    let begun = world.register("r", None).await.unwrap();
    assert!(begun >= Sequence::end_of(first));
    let second = world.change(1).await;
    world.ack("r", Sequence::end_of(second), AT).await.unwrap();
    world.ack("r", begun, AT).await.unwrap();
    assert_eq!(world.checkpoint("r").await, Sequence::end_of(second));
    let ahead = Sequence::end_of(Versionstamp::MAX);
    assert!(matches!(world.ack("r", ahead, AT).await, Err(Error::Syntax(_))));
    assert!(matches!(world.register("other", Some(ahead)).await, Err(Error::Syntax(_))));
    assert_eq!(world.register("r", None).await.unwrap(), Sequence::end_of(second));
    assert!(matches!(world.register("r", Some(begun)).await, Err(Error::Syntax(_))));
    assert!(matches!(world.ack("nobody", begun, AT).await, Err(Error::NoSuchReplica(_))));
}

#[tokio::test]
async fn the_last_change_of_a_commit_is_the_end_of_it() {
    let world = World::new().await;
    world.register("r", None).await.unwrap();
    let version = world.change(3).await;
    world.ack("r", Sequence::new(version, 1), AT).await.unwrap();
    assert_eq!(world.checkpoint("r").await, Sequence::new(version, 1));
    assert!(!world.readers().await.have_passed(version));
    world.ack("r", Sequence::new(version, 2), AT).await.unwrap();
    assert_eq!(world.checkpoint("r").await, Sequence::end_of(version));
    assert!(world.readers().await.have_passed(version));
}

#[tokio::test]
async fn a_silent_replica_is_stale_for_good_and_starts_again_from_now() {
    let world = World::new().await;
    let begun = world.register("r", None).await.unwrap();
    let version = world.change(1).await;
    world.time(AT + 60_000, None).await;
    assert!(!world.readers().await.have_passed(version), "its lease is just not over");
    world.time(AT + 60_001, Some("the clocks jumped")).await;
    assert!(!world.readers().await.have_passed(version), "nobody knows the time");
    world.time(AT + 60_001, None).await;
    assert!(world.readers().await.have_passed(version));
    // Marked by whoever destroyed: also if the clock is doubted afterwards.
    world.time(AT + 60_001, Some("the clocks jumped")).await;
    assert!(is_resync(&world.ack("r", begun, AT).await));
    let again = world.register("r", None).await.unwrap();
    assert!(again > begun);
    world.ack("r", again, AT).await.unwrap();
}

#[tokio::test]
async fn an_ack_renews_the_lease() {
    let world = World::new().await;
    let begun = world.register("r", None).await.unwrap();
    world.ack("r", begun, AT + 50_000).await.unwrap();
    world.time(AT + 110_000, None).await;
    assert!(world.readers().await.lowest.is_some());
    world.time(AT + 110_001, None).await;
    assert!(world.readers().await.lowest.is_none());
}

/// A replica that moves on does not get in the way of whoever destroys, nor he in its.
#[tokio::test]
async fn an_ack_and_a_purge_at_the_same_time_both_happen() {
    for ack_first in [true, false] {
        let world = World::new().await;
        world.register("r", None).await.unwrap();
        let first = Sequence::end_of(world.change(1).await);
        world.ack("r", first, AT).await.unwrap();
        let second = Sequence::end_of(world.change(1).await);
        let (purge, acknowledging) = (world.store.begin("purge"), world.store.begin("ack"));
        assert!(readers(&purge, &world.home).await.unwrap().have_read(first));
        raise_floor(&purge, world.home.bucket(), first).unwrap();
        ack(&acknowledging, &world.home, "r", second, AT).await.unwrap();
        let (one, other) = if ack_first { (acknowledging, purge) } else { (purge, acknowledging) };
        one.commit().await.unwrap();
        other.commit().await.unwrap();
        assert_eq!(world.checkpoint("r").await, second);
        assert!(world.readers().await.have_read(second));
    }
}

/// Of an ACK and whoever finds its lease over the one that commits first wins.
#[tokio::test]
async fn an_ack_that_comes_just_in_time_counts() {
    for ack_first in [true, false] {
        let world = World::new().await;
        let begun = world.register("r", None).await.unwrap();
        let deleted = world.change(1).await;
        let acknowledging = world.store.begin("ack");
        ack(&acknowledging, &world.home, "r", begun, AT + 30_000).await.unwrap();
        world.time(AT + 60_001, None).await;
        let purge = world.store.begin("purge");
        assert!(readers(&purge, &world.home).await.unwrap().have_passed(deleted));
        raise_floor(&purge, world.home.bucket(), Sequence::end_of(deleted)).unwrap();
        let (one, other) = if ack_first { (acknowledging, purge) } else { (purge, acknowledging) };
        one.commit().await.unwrap();
        assert!(matches!(other.commit().await, Err(store::Error::Conflict)));
        let checkpoint_is_kept = !world.readers().await.have_passed(deleted);
        assert_eq!(checkpoint_is_kept, ack_first);
        assert_eq!(is_resync(&world.ack("r", begun, AT).await), !ack_first);
    }
}

#[tokio::test]
async fn time_that_was_doubted_does_not_count_for_a_lease() {
    let world = World::new().await;
    let begun = world.register("r", None).await.unwrap();
    let version = world.change(1).await;
    let hour = 3_600_000;
    world.doubted(AT + hour, hour).await;
    assert!(!world.readers().await.have_passed(version), "an hour that nobody believed in");
    world.doubted(AT + hour + 60_000, hour).await;
    assert!(!world.readers().await.have_passed(version));
    // What is promised from here on counts from here on.
    world.ack("r", begun, AT + hour + 60_000).await.unwrap();
    world.doubted(AT + hour + 120_000, hour).await;
    assert!(!world.readers().await.have_passed(version));
    world.doubted(AT + hour + 120_001, hour).await;
    assert!(world.readers().await.have_passed(version));
}

#[tokio::test]
async fn below_the_floor_nobody_starts() {
    let world = World::new().await;
    let begun = world.register("r", None).await.unwrap();
    let first = Sequence::end_of(world.change(1).await);
    let second = Sequence::end_of(world.change(1).await);
    world.raise(first).await;
    world.raise(begun).await;
    let txn = world.store.begin("floor");
    assert_eq!(floor(&txn, world.home.bucket(), Read::Snapshot).await.unwrap(), first);
    assert!(is_resync(&world.register("late", Some(begun)).await));
    world.register("exact", Some(first)).await.unwrap();
    assert!(is_resync(&world.ack("r", second, AT).await), "it was passed over");
}

/// Whoever commits second of a registration and a purge sees the other.
#[tokio::test]
async fn a_registration_and_a_purge_at_the_same_time_are_decided_one_way() {
    for registers_first in [true, false] {
        let world = World::new().await;
        let from = Sequence::end_of(world.change(1).await);
        let deleted = world.change(1).await;
        let (purge, registration) = (world.store.begin("purge"), world.store.begin("register"));
        assert!(readers(&purge, &world.home).await.unwrap().have_passed(deleted));
        raise_floor(&purge, world.home.bucket(), Sequence::end_of(deleted)).unwrap();
        register(&registration, &world.home, "r", Some(from), LEASE, AT).await.unwrap();
        let (first, second) =
            if registers_first { (registration, purge) } else { (purge, registration) };
        first.commit().await.unwrap();
        assert!(matches!(second.commit().await, Err(store::Error::Conflict)));
        if registers_first {
            assert!(!world.readers().await.have_passed(deleted));
        } else {
            assert!(is_resync(&world.register("r", Some(from)).await));
        }
    }
}

#[tokio::test]
async fn a_bucket_has_a_bounded_number_of_readers_and_a_stale_one_makes_no_room() {
    let world = World::new().await;
    for number in 0..PER_BUCKET_MAX {
        world.register(&format!("r{number}"), None).await.unwrap();
    }
    assert!(matches!(world.register("more", None).await, Err(Error::Syntax(_))));
    world.register("r5", None).await.unwrap();
    world.time(AT + 60_001, None).await;
    world.register("r5", None).await.unwrap();
    let txn = world.store.begin("unregister");
    unregister(&txn, &world.home, "r5", AT).await.unwrap();
    txn.commit().await.unwrap();
    world.register("more", None).await.unwrap();
}
