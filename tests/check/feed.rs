//! Damage of a change log's ends and of its readers.

use lethe::check::Kind;
use lethe::codec::record::ReplicaRecord;
use lethe::codec::{BucketId, Sequence, Versionstamp, keys};

use crate::damage::{AtRest, clear, put, set};

#[tokio::test(start_paused = true)]
async fn an_end_of_the_log_that_is_wrong_or_missing_is_found() {
    use Kind::{Contradiction, FutureVersion, Missing, Undecodable};
    let store = AtRest::new().await;
    for name in ["active", "removed"] {
        let bucket = store.bucket(name);
        let heads = store.rows(keys::data_part(bucket, keys::data::HEAD)).await;
        assert_eq!(heads.len(), 2, "{name}");
        for (head, _) in heads {
            let shard = keys::feed::parse_head(&head).unwrap().1;
            let first = store.rows(keys::change_prefix(bucket, shard)).await[0].0.clone();
            store.expect("no end", &[clear(head.clone())], &[(Missing, first)]).await;
            let early = [set(head.clone(), Versionstamp::new(1, 0).as_bytes())];
            store.expect("behind", &early, &[(Contradiction, head.clone())]).await;
            let late = [set(head.clone(), Versionstamp::new(1 << 60, 0).as_bytes())];
            store.expect("ahead", &late, &[(FutureVersion, head.clone())]).await;
            let short = [set(head.clone(), b"short")];
            store.expect("no version", &short, &[(Undecodable, head)]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_floor_and_readers_that_contradict_it_are_found() {
    use Kind::{Contradiction, Dangling, FutureVersion, Undecodable, UnknownKey};
    let store = AtRest::new().await;
    let bucket = store.bucket("active");
    let (floor, key) = (keys::feed::floor(bucket), keys::feed::replica(bucket, "r"));
    let low = Sequence::end_of(Versionstamp::new(1, 0)).to_bytes();
    store.expect("a floor", &[set(floor.clone(), &low)], &[]).await;
    let ahead = Sequence::end_of(Versionstamp::new(1 << 60, 0));
    let high = [set(floor.clone(), &ahead.to_bytes())];
    let expected = [(FutureVersion, floor.clone()), (Contradiction, key.clone())];
    store.expect("above everything", &high, &expected).await;
    let short = [set(floor.clone(), b"short")];
    store.expect("no position", &short, &[(Undecodable, floor.clone())]).await;
    let mut other = floor.clone();
    other.extend_from_slice(&keys::kind_prefix(1));
    let second = [set(other.clone(), &low)];
    store.expect("a second floor", &second, &[(UnknownKey, other)]).await;

    let replica: ReplicaRecord = store.record(&key).await;
    let changed = |change: fn(&mut ReplicaRecord)| {
        let mut changed = replica.clone();
        change(&mut changed);
        put(key.clone(), &changed)
    };
    let nobody = keys::feed::replica(BucketId(900), "r");
    let lonely = [put(nobody.clone(), &replica)];
    store.expect("of no bucket", &lonely, &[(Dangling, nobody)]).await;
    let purged = keys::feed::replica(store.bucket("purged"), "r");
    assert!(store.get(&purged).await.is_none(), "readers go with their bucket");
    let late = changed(|r| r.checkpoint = Sequence::end_of(Versionstamp::new(1 << 60, 0)));
    store.expect("ahead", &[late], &[(FutureVersion, key.clone())]).await;
    let endless = changed(|r| r.lease_until = None);
    store.expect("a lease without end", &[endless], &[(Contradiction, key.clone())]).await;
    let behind = changed(|r| r.checkpoint = Sequence::START);
    let below = [set(floor.clone(), &low), behind];
    store.expect("passed over", &below, &[(Contradiction, key.clone())]).await;
    let stale = changed(|r| (r.checkpoint, r.stale) = (Sequence::START, true));
    store.expect("it is stale", &[set(floor, &low), stale], &[]).await;
    let broken = [set(key.clone(), b"no record")];
    store.expect("no record", &broken, &[(Undecodable, key)]).await;
}
