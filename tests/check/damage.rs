//! Damage that is planted in a store at rest, and what the check says about it.

use std::collections::BTreeSet;

use lethe::check::{self, Kind};
use lethe::codec::record::{
    self, BeatRecord, BucketRecord, BusyRecord, HoldRecord, NamespaceRecord, OperationRecord,
    PolicyRecord, PromiseRecord, ReclaimRecord, RemovalRecord, RetentionRecord, ShardRecord, State,
};
use lethe::codec::{BucketId, NamespaceId, ObjectKind, RemovalId, Versionstamp, keys, readable};
use lethe::store::{RangeRead, Read, Store};
use serde::{Serialize, de::DeserializeOwned};

use crate::world::{Filled, NOW, World};

/// A store that no node is working on any more.
pub(crate) struct AtRest {
    pub(crate) store: Store,
    pub(crate) filled: Filled,
    pub(crate) global: NamespaceId,
}

/// A change of one key; `None` clears it.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);
/// What is found about a key.
pub(crate) type Expected = (Kind, Vec<u8>);

pub(crate) fn set(key: Vec<u8>, value: &[u8]) -> Change {
    (key, Some(value.to_vec()))
}

pub(crate) fn put<T: Serialize>(key: Vec<u8>, record: &T) -> Change {
    (key, Some(record::encode(record)))
}

pub(crate) fn clear(key: Vec<u8>) -> Change {
    (key, None)
}

impl AtRest {
    pub(crate) async fn new() -> Self {
        let world = World::memory().await;
        let filled = world.fill().await;
        let World { store, node, .. } = world;
        node.kill();
        let global = pointer(&store, &keys::namespace_name(NamespaceId::ROOT, "global")).await;
        let world = Self { store, filled, global: NamespaceId(global) };
        world.expect("a healthy store", &[], &[]).await;
        world
    }

    pub(crate) fn bucket(&self, name: &str) -> BucketId {
        self.filled.buckets[name]
    }

    pub(crate) fn removal(&self, name: &str) -> RemovalId {
        self.filled.removals[name]
    }

    pub(crate) async fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let txn = self.store.begin("look");
        txn.get(key, Read::Snapshot).await.unwrap().map(|value| value.to_vec())
    }

    pub(crate) async fn record<T: DeserializeOwned>(&self, key: &[u8]) -> T {
        record::decode("record", &self.get(key).await.unwrap()).unwrap()
    }

    /// The version of a removal, waiting or purging.
    pub(crate) async fn version(&self, removal: RemovalId) -> Versionstamp {
        match self.get(&keys::removal(removal)).await {
            Some(value) => Versionstamp::decode(&value[..10]).unwrap(),
            None => self.record::<ReclaimRecord>(&keys::reclaim(removal)).await.version,
        }
    }

    pub(crate) async fn rows(&self, prefix: Vec<u8>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let range = match prefix.as_slice() {
            [] => RangeRead::new(Vec::new(), vec![0xff]),
            _ => RangeRead::prefix(prefix),
        };
        let page = self.store.begin("look").range(range.bytes(1 << 30)).await.unwrap();
        assert!(!page.more);
        page.rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }

    pub(crate) async fn write(&self, changes: &[Change]) {
        let txn = self.store.begin("damage");
        for (key, value) in changes {
            match value {
                Some(value) => txn.set(key, value).unwrap(),
                None => txn.clear(key).unwrap(),
            }
        }
        txn.commit().await.unwrap();
    }

    /// What is found with these changes, which are undone afterwards.
    pub(crate) async fn found(&self, changes: &[Change]) -> Vec<Expected> {
        let mut before = Vec::new();
        for (key, _) in changes {
            before.push((key.clone(), self.get(key).await));
        }
        self.write(changes).await;
        let findings = check::all(&self.store).await.unwrap();
        self.write(&before).await;
        findings.into_iter().map(|finding| (finding.kind, finding.key)).collect()
    }

    /// Exactly this is found with these changes.
    #[track_caller]
    pub(crate) fn expect<'a>(
        &'a self,
        what: &'a str,
        changes: &'a [Change],
        expected: &'a [Expected],
    ) -> impl Future<Output = ()> + 'a {
        let readable = |findings: &[Expected]| -> BTreeSet<String> {
            let text = |(kind, key): &Expected| format!("{} {}", kind.name(), readable::key(key));
            findings.iter().map(text).collect()
        };
        async move {
            let found = self.found(changes).await;
            assert_eq!(readable(&found), readable(expected), "{what}");
            assert_eq!(found.len(), expected.len(), "{what}: some were reported twice");
        }
    }
}

pub(crate) async fn pointer(store: &Store, key: &[u8]) -> u64 {
    let value = store.begin("look").get(key, Read::Snapshot).await.unwrap().unwrap();
    u64::from_be_bytes(value[..].try_into().unwrap())
}

/// An id that is used for nothing, though it was reserved.
const NOBODY: u64 = 900;

#[tokio::test(start_paused = true)]
async fn names_and_records_that_do_not_belong_together_are_found() {
    use Kind::{Contradiction, Dangling, EndlessPath, Missing, OrphanedData};
    let store = AtRest::new().await;
    let (active, removed) = (store.bucket("active"), store.bucket("removed"));
    let name = |name: &str| keys::bucket_name(store.global, name);
    let (record, fence) = (keys::bucket_record(active), keys::fence(active.0));
    store.expect("no pointer", &[clear(name("active"))], &[(Missing, record.clone())]).await;
    let ghost = [set(name("ghost"), &NOBODY.to_be_bytes())];
    store.expect("a pointer at nothing", &ghost, &[(Dangling, name("ghost"))]).await;
    let second = [set(name("second"), &active.0.to_be_bytes())];
    store.expect("a second name", &second, &[(Contradiction, name("second"))]).await;
    let at_removed = [set(name("removed"), &removed.0.to_be_bytes())];
    let expected =
        [(Contradiction, name("removed")), (Contradiction, keys::bucket_record(removed))];
    store.expect("a pointer at a removed bucket", &at_removed, &expected).await;
    let crossed = [set(name("active"), &store.bucket("restored").0.to_be_bytes())];
    let expected = [(Contradiction, name("active")), (Contradiction, record.clone())];
    store.expect("a pointer at another bucket", &crossed, &expected).await;

    let first = store.rows(keys::data_prefix(active)).await[0].0.clone();
    let due = store.due_trim(active).await;
    let expected = [
        (Dangling, name("active")),
        (Dangling, fence.clone()),
        (Dangling, due),
        (Dangling, store.due_vacuum(active).await),
        (Dangling, keys::feed::replica(active, "r")),
        (Dangling, keys::guard(keys::guard::PROTECTION, store.global, active.0)),
        (OrphanedData, first),
    ];
    store.expect("no record", &[clear(record.clone())], &expected).await;
    store.expect("no fence", &[clear(fence)], &[(Missing, record.clone())]).await;
    let nobody = keys::fence(NOBODY);
    let lonely = [set(nobody.clone(), &[0; 10])];
    store.expect("a fence of nobody", &lonely, &[(Dangling, nobody)]).await;

    let original: BucketRecord = store.record(&record).await;
    let changed = |change: fn(&mut BucketRecord)| {
        let mut changed = original.clone();
        change(&mut changed);
        [put(record.clone(), &changed)]
    };
    let expected = [
        (Contradiction, name("active")),
        (Contradiction, record.clone()),
        (Missing, record.clone()),
    ];
    store.expect("removed in no removal", &changed(|r| r.state = State::Removed), &expected).await;
    let change_logs = store.rows(keys::data_part(active, keys::data::CHANGE)).await;
    let counts = store.rows(keys::data_part(active, keys::data::COUNT)).await;
    let heads = store.rows(keys::data_part(active, keys::data::HEAD)).await;
    let mut expected = vec![(Contradiction, record.clone())];
    for (key, _) in change_logs.into_iter().chain(counts).chain(heads) {
        expected.push((Contradiction, key));
    }
    for what in [keys::counted::DOCUMENTS, keys::counted::BYTES, keys::counted::TOMBSTONES] {
        expected.push((Kind::WrongCount, keys::count(active, 99, what)));
    }
    store.expect("on a shard that is not", &changed(|r| r.shards = vec![99]), &expected).await;

    let a = NamespaceId(pointer(&store.store, &keys::namespace_name(NamespaceId::ROOT, "a")).await);
    let b = NamespaceId(pointer(&store.store, &keys::namespace_name(a, "b")).await);
    let c = NamespaceId(pointer(&store.store, &keys::namespace_name(b, "c")).await);
    let d = NamespaceId(pointer(&store.store, &keys::namespace_name(c, "d")).await);
    let mut looped: NamespaceRecord = store.record(&keys::namespace_record(a)).await;
    looped.parent = d;
    let mut expected = vec![
        (Contradiction, keys::namespace_name(NamespaceId::ROOT, "a")),
        (Missing, keys::namespace_record(a)),
    ];
    expected.extend([a, b, c, d].map(|id| (EndlessPath, keys::namespace_record(id))));
    store.expect("above each other", &[put(keys::namespace_record(a), &looped)], &expected).await;
    let expected = [
        (Dangling, keys::namespace_name(b, "c")),
        (Dangling, keys::fence(c.0)),
        (Dangling, keys::namespace_record(d)),
    ];
    store.expect("a hole in the path", &[clear(keys::namespace_record(c))], &expected).await;
    let expected = [(Missing, keys::namespace_record(d))];
    store.expect("no fence", &[clear(keys::fence(d.0))], &expected).await;
    store.expect("no name", &[clear(keys::namespace_name(c, "d"))], &expected).await;
    let mut gone: NamespaceRecord = store.record(&keys::namespace_record(d)).await;
    gone.state = State::Removed;
    let expected = [
        (Contradiction, keys::namespace_name(c, "d")),
        (Contradiction, keys::namespace_record(d)),
        (Missing, keys::namespace_record(d)),
    ];
    store.expect("removed", &[put(keys::namespace_record(d), &gone)], &expected).await;
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_removal_that_are_missing_or_left_over_are_found() {
    use Kind::{Contradiction, Dangling, Missing};
    let store = AtRest::new().await;
    let (bucket, id) = (store.bucket("removed"), store.removal("removed"));
    let (removal, version) = (keys::removal(id), store.version(id).await);
    let number = id.0.to_be_bytes();
    let expires = store.record::<RetentionRecord>(&keys::retention(id)).await.expires_at.unwrap();
    let due = keys::expiry(expires, keys::due::REMOVAL, &number);
    let beside = [
        keys::retention(id),
        keys::removed_by_name(ObjectKind::Bucket, store.global, "removed", id),
        keys::removed_by_time(ObjectKind::Bucket, store.global, version),
        keys::removed_by_time(ObjectKind::Bucket, NamespaceId::ROOT, version),
        due.clone(),
    ];
    for key in &beside {
        let expected = [(Missing, removal.clone())];
        store.expect("a row is missing", &[clear(key.clone())], &expected).await;
    }
    let of = keys::removal_of(bucket.0);
    let expected = [(Missing, removal.clone()), (Missing, keys::bucket_record(bucket))];
    store.expect("no removal-of", &[clear(of.clone())], &expected).await;
    let mut expected = vec![(Missing, keys::bucket_record(bucket)), (Dangling, of)];
    expected.extend(beside.iter().map(|key| (Dangling, key.clone())));
    store.expect("no removal", &[clear(removal.clone())], &expected).await;
    let record = keys::bucket_record(bucket);
    let fence = keys::fence(bucket.0);
    let first = store.rows(keys::data_prefix(bucket)).await[0].0.clone();
    let trim = store.due_trim(bucket).await;
    let expected = [
        (Dangling, removal.clone()),
        (Dangling, fence),
        (Dangling, trim),
        (Dangling, store.due_vacuum(bucket).await),
        (Dangling, keys::feed::replica(bucket, "r")),
        (Kind::OrphanedData, first),
    ];
    store.expect("no record", &[clear(record.clone())], &expected).await;
    let mut active: BucketRecord = store.record(&record).await;
    active.state = State::Active;
    let expected = [
        (Contradiction, removal.clone()),
        (Contradiction, record.clone()),
        (Missing, record.clone()),
    ];
    store.expect("active in a removal", &[put(record, &active)], &expected).await;

    let nobody = RemovalId(NOBODY);
    let nobodys = NOBODY.to_be_bytes();
    let hold =
        HoldRecord { owner: String::new(), reason: String::new(), review_at: None, since: 0 };
    for lonely in [
        put(
            keys::retention(nobody),
            &RetentionRecord {
                expires_at: None,
                set_at: None,
                promise: PromiseRecord::default(),
                kept_by: None,
            },
        ),
        put(keys::hold(nobody), &hold),
        (keys::request(nobody), store.get(&keys::request(store.removal("asked"))).await),
        set(
            keys::removed_by_name(ObjectKind::Bucket, store.global, "x", nobody),
            version.as_bytes(),
        ),
        set(keys::removed_by_time(ObjectKind::Bucket, store.global, Versionstamp::MIN), &nobodys),
        set(keys::removal_of(NOBODY), &nobodys),
        set(keys::reserved_name(ObjectKind::Bucket, store.global, "x"), &nobodys),
        set(keys::expiry(NOW, keys::due::REMOVAL, &nobodys), b""),
        set(keys::expiry(NOW, keys::due::GRAVE, &nobodys), b""),
        set(keys::expiry(NOW, keys::due::TRIM, &nobodys), b""),
        set(keys::expiry(NOW, keys::due::OPERATION, &keys::operation("u", "x")), b""),
    ] {
        let expected = [(Dangling, lonely.0.clone())];
        store.expect("a row of nobody", std::slice::from_ref(&lonely), &expected).await;
    }

    let guard = keys::guard(keys::guard::HOLD, store.global, bucket.0);
    let held = [put(keys::hold(id), &hold), set(guard, b"")];
    store.expect("held, yet in the queue", &held, &[(Contradiction, due)]).await;
    let early = keys::expiry(NOW, keys::due::REMOVAL, &number);
    let twice = [set(early.clone(), b"")];
    store.expect("in the queue twice", &twice, &[(Contradiction, early)]).await;
    let unknown = keys::expiry(NOW, 77, &number);
    store
        .expect("an unknown due", &[set(unknown.clone(), b"")], &[(Kind::UnknownKey, unknown)])
        .await;
    let listed = keys::removed_by_time(ObjectKind::Bucket, store.global, Versionstamp::new(1, 1));
    let twice = [set(listed.clone(), &number)];
    store.expect("listed twice", &twice, &[(Contradiction, listed)]).await;
    let listed = keys::removed_by_name(ObjectKind::Bucket, store.global, "other", id);
    let twice = [set(listed.clone(), version.as_bytes())];
    store.expect("listed under another name", &twice, &[(Contradiction, listed)]).await;

    let reserved = keys::reserved_name(ObjectKind::Bucket, store.global, "reserved");
    let expected = [(Missing, keys::removal(store.removal("reserved")))];
    store.expect("not reserved", &[clear(reserved.clone())], &expected).await;
    let taken = keys::bucket_name(store.global, "reserved");
    let active = store.bucket("active").0.to_be_bytes();
    let expected = [(Contradiction, taken.clone()), (Contradiction, reserved)];
    store.expect("a reserved name is taken", &[set(taken, &active)], &expected).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_purge_left_and_what_it_should_have_taken_is_found() {
    use Kind::{Contradiction, Dangling, Missing, OrphanedData};
    let store = AtRest::new().await;
    let (purged, purging) = (store.bucket("purged"), store.bucket("purging"));
    let id = store.removal("purged");
    let document = |bucket| keys::document(bucket, &[7; 12]);
    // The most important one: bytes of what was promised to be gone.
    let back = [set(document(purged), b"x"), set(keys::count(purged, 1, 1), b"x")];
    store.expect("keys of a purged bucket", &back, &[(OrphanedData, document(purged))]).await;
    let never = [set(document(BucketId(NOBODY)), b"x")];
    let expected = [(OrphanedData, document(BucketId(NOBODY)))];
    store.expect("keys of a bucket that never was", &never, &expected).await;
    let dropped = store.bucket("dropped");
    let late = [set(document(dropped), b"x")];
    store.expect("keys behind the drop", &late, &[(OrphanedData, document(dropped))]).await;

    let grave = keys::grave(id);
    let record = store.record::<record::GraveRecord>(&grave).await;
    let due = keys::expiry(record.until, keys::due::GRAVE, &id.0.to_be_bytes());
    let of = keys::removal_of(purged.0);
    store.expect("kept for ever", &[clear(due.clone())], &[(Missing, grave.clone())]).await;
    store.expect("no way to it", &[clear(of.clone())], &[(Missing, grave.clone())]).await;
    let expected = [(Dangling, due), (Dangling, of)];
    store.expect("no grave", &[clear(grave.clone())], &expected).await;
    let revived = [set(keys::fence(purged.0), &[0; 10])];
    let expected = [(Contradiction, grave), (Dangling, keys::fence(purged.0))];
    store.expect("a fence is back", &revived, &expected).await;

    let id = store.removal("purging");
    let (job, version) = (keys::reclaim(id), store.version(id).await);
    let listed = [store.global, NamespaceId::ROOT]
        .map(|n| keys::removed_by_time(ObjectKind::Bucket, n, version));
    for row in &listed {
        store.expect("unlisted", &[clear(row.clone())], &[(Missing, job.clone())]).await;
    }
    let first = store.rows(keys::data_prefix(purging)).await[0].0.clone();
    let mut expected = vec![(OrphanedData, first)];
    expected.extend(listed.map(|row| (Dangling, row)));
    store.expect("no reclaim job", &[clear(job.clone())], &expected).await;
    let mut done: ReclaimRecord = store.record(&job).await;
    done.dropped = true;
    let first = store.rows(keys::data_prefix(purging)).await[0].0.clone();
    store.expect("said to be dropped", &[put(job, &done)], &[(OrphanedData, first)]).await;

    let operation = keys::operation("default", "op");
    let record = store.record::<OperationRecord>(&operation).await;
    let due = keys::expiry(record.until, keys::due::OPERATION, &operation);
    store.expect("kept for ever", &[clear(due.clone())], &[(Missing, operation.clone())]).await;
    store.expect("forgotten", &[clear(operation.clone())], &[(Dangling, due.clone())]).await;
    let mut later = record.clone();
    later.until += 1;
    let expected = [(Missing, operation.clone()), (Contradiction, due)];
    store.expect("due at another time", &[put(operation.clone(), &later)], &expected).await;
    let piece = keys::operation_piece("default", "op", 0);
    let stray = [set(piece.clone(), b"x")];
    store.expect("a piece too many", &stray, &[(Dangling, piece)]).await;
    let mut large = record;
    large.pieces = 2;
    store.expect("no pieces", &[put(operation.clone(), &large)], &[(Missing, operation)]).await;

    let (active, removed) = (store.bucket("active"), store.bucket("removed"));
    let trim = store.rows(keys::data_part(active, keys::data::TRIM)).await[0].0.clone();
    let due = store.due_trim(active).await;
    store.expect("never trimmed", &[clear(due.clone())], &[(Missing, trim.clone())]).await;
    store.expect("a trim unknown below", &[clear(trim)], &[(Missing, due)]).await;
    let aside = [clear(store.due_trim(removed).await)];
    store.expect("set aside while it is removed", &aside, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn rows_of_the_cluster_that_contradict_each_other_are_found() {
    use Kind::{
        Contradiction, Dangling, FutureVersion, IdBeyondCounter, Leftover, Missing, UnknownKey,
        UnownedShard,
    };
    let store = AtRest::new().await;
    for key in [keys::cluster_time(), keys::shard(3), keys::witness(3), keys::journal_head()] {
        store.expect("it is missing", &[clear(key.clone())], &[(Missing, key)]).await;
    }
    let last = store.removal("expired");
    let low = [set(keys::next_id(), &last.0.to_le_bytes())];
    store.expect("an id in use", &low, &[(IdBeyondCounter, keys::removal(last))]).await;
    for key in [keys::seen("a"), keys::beat("a")] {
        store.expect("beside it", &[clear(key)], &[(Missing, keys::member("a"))]).await;
    }
    let beat = BeatRecord { incarnation: 1, counter: 1, clock: NOW };
    let stray = [put(keys::beat("b"), &beat), set(keys::seen("b"), &[0; 10])];
    let expected = [(Leftover, keys::beat("b")), (Leftover, keys::seen("b"))];
    store.expect("of no member", &stray, &expected).await;
    let future = *Versionstamp::new(1 << 60, 0).as_bytes();
    for key in [keys::witness(2), keys::seen("a"), keys::barrier_signal()] {
        let ahead = [set(key.clone(), &future)];
        store.expect("ahead of all commits", &ahead, &[(FutureVersion, key)]).await;
    }
    let head = [set(keys::journal_head(), &[0; 10])];
    store.expect("behind the journal", &head, &[(Contradiction, keys::journal_head())]).await;
    let foreign = [put(keys::shard(2), &ShardRecord { owner: "z".to_owned(), epoch: 9 })];
    store.expect("owned by nobody", &foreign, &[(UnownedShard, keys::shard(2))]).await;
    let extra = [set(keys::witness(99), &[0; 10])];
    store.expect("a shard too many", &extra, &[(Dangling, keys::witness(99))]).await;

    let row = BusyRecord { incarnation: 0, epoch: 1, what: Vec::new(), since: NOW };
    let removed = store.bucket("removed").0;
    let busy = |object, scope| keys::busy(object, "a", scope);
    let swept_soon = [put(busy(removed, 1), &row)];
    store.expect("a dead incarnation's", &swept_soon, &[]).await;
    let old = BusyRecord { since: NOW - 3_600_000, ..row.clone() };
    let never_swept = [put(busy(removed, 1), &old)];
    store.expect("not swept", &never_swept, &[(Leftover, busy(removed, 1))]).await;
    for key in [busy(store.bucket("purged").0, -1), busy(NOBODY, 1), busy(removed, 99)] {
        let wrong = [put(key.clone(), &row)];
        store.expect("busy with nothing", &wrong, &[(Dangling, key)]).await;
    }
    let attempt = keys::attempt(3, 0);
    let dead = [set(attempt.clone(), b"token")];
    store.expect("a dead incarnation's", &dead, &[(Leftover, attempt)]).await;
    for key in [b"\x15\x63".to_vec(), b"text".to_vec(), b"\x16\x01\x00".to_vec()] {
        let strange = [set(key.clone(), b"")];
        store.expect("of no kind", &strange, &[(UnknownKey, key)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rows_of_namespaces_that_are_missing_or_left_over_are_found() {
    use Kind::{Dangling, Missing};
    let store = AtRest::new().await;
    let of = |name| store.removal(name);
    let nobody = NamespaceId(NOBODY);
    for lonely in [
        keys::guard(keys::guard::PROTECTION, store.global, NOBODY),
        keys::guard(keys::guard::HOLD, nobody, NOBODY),
        keys::parked(nobody, NOW, keys::due::TRIM, &NOBODY.to_be_bytes()),
        keys::expiry(NOW, keys::due::UNPARK, &NOBODY.to_be_bytes()),
    ] {
        let rows = [set(lonely.clone(), b"")];
        store.expect("a row of nobody", &rows, &[(Dangling, lonely)]).await;
    }
    // Nobody puts back what is parked under a namespace that is active.
    for what in [keys::due::TRIM, keys::due::VACUUM, keys::due::TTL] {
        let parked = keys::parked(store.global, NOW, what, &NOBODY.to_be_bytes());
        store.expect("parked for ever", &[set(parked.clone(), b"")], &[(Missing, parked)]).await;
    }
    // A namespace without its record takes what is below it out of reach, unless that is being taken apart.
    let row = keys::removal(of("gone"));
    let (version, removal) = record::decode_versioned::<record::RemovalRecord>(
        "removal",
        &store.get(&row).await.unwrap(),
    )
    .unwrap();
    let id = NamespaceId(removal.object.number());
    let below = pointer(&store.store, &keys::namespace_name(id, "x")).await;
    let record = keys::namespace_record(id);
    let expected = [
        (Dangling, keys::fence(id.0)),
        (Dangling, row.clone()),
        (Dangling, keys::namespace_record(NamespaceId(below))),
        (Dangling, keys::guard(keys::guard::HOLD, removal.namespace, id.0)),
    ];
    store.expect("no record", &[clear(record)], &expected).await;
    let by_time = keys::removed_by_time(ObjectKind::Namespace, removal.namespace, version);
    store.expect("not listed", &[clear(by_time)], &[(Missing, row)]).await;
}

#[tokio::test(start_paused = true)]
async fn guards_of_policies_and_promises_that_are_missing_or_left_over_are_found() {
    use Kind::{Contradiction, Missing, UnknownKey};
    let store = AtRest::new().await;
    let id = store.removal("promised");
    let row = keys::removal(id);
    let value = store.get(&row).await.unwrap();
    let (_, removal) = record::decode_versioned::<RemovalRecord>("removal", &value).unwrap();
    let x = removal.namespace;
    let record: NamespaceRecord = store.record(&keys::namespace_record(x)).await;
    let guard = |what, namespace, child| keys::guard(what, namespace, child);
    let policy = guard(keys::guard::POLICY, record.parent, x.0);
    let lock = guard(keys::guard::LOCK, x, removal.object.number());
    let above = guard(keys::guard::LOCK, record.parent, x.0);
    let expected = [(Missing, keys::namespace_record(x))];
    store.expect("a policy that nobody above knows of", &[clear(policy.clone())], &expected).await;
    let expected = [(Missing, row), (Contradiction, above.clone())];
    store.expect("a promise that nobody knows of", &[clear(lock.clone())], &expected).await;
    let expected = [(Missing, lock.clone())];
    store.expect("a promise known only below", &[clear(above)], &expected).await;
    let unbound = NamespaceRecord { policy: PolicyRecord::default(), ..record.clone() };
    let unbound = [put(keys::namespace_record(x), &unbound)];
    store.expect("a guard of no policy", &unbound, &[(Contradiction, policy)]).await;
    let retention: RetentionRecord = store.record(&keys::retention(id)).await;
    let promise = PromiseRecord::default();
    let nothing = [put(keys::retention(id), &RetentionRecord { promise, ..retention })];
    store.expect("a guard of no promise", &nothing, &[(Contradiction, lock)]).await;
    let unknown = guard(9, record.parent, x.0);
    let strange = [set(unknown.clone(), b"")];
    store.expect("a guard of no kind", &strange, &[(UnknownKey, unknown)]).await;
}
