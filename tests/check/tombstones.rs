//! Damage of what deleted documents leave behind.

use lethe::check::Kind;
use lethe::codec::{BucketId, Versionstamp, keys};

use crate::damage::{AtRest, clear, set};

impl AtRest {
    /// The tombstones of a bucket that expire, with the time, or that never do.
    async fn tombstones(&self, bucket: BucketId, expiring: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
        let due = self.rows(keys::data_part(bucket, keys::data::EXPIRING)).await;
        let due: Vec<Vec<u8>> = due
            .iter()
            .filter_map(|(key, _)| {
                let (bucket, at, removal, oid) = keys::parse_expiring(key).unwrap();
                (at != keys::NEVER).then(|| keys::tombstone(bucket, &oid, removal))
            })
            .collect();
        let all = self.rows(keys::data_part(bucket, keys::data::TOMBSTONE)).await;
        all.into_iter().filter(|(key, _)| due.contains(key) == expiring).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_tombstone_that_are_missing_or_left_over_are_found() {
    use Kind::{Dangling, FutureVersion, Missing, WrongCount};
    let store = AtRest::new().await;
    for name in ["active", "removed", "restored"] {
        let bucket = store.bucket(name);
        for rows in [store.tombstones(bucket, true).await, store.tombstones(bucket, false).await] {
            assert!(rows.len() >= 2, "{name}: {}", rows.len());
            for (key, _) in rows {
                let (_, oid, removal) = keys::parse_tombstone(&key).unwrap();
                let listed = keys::deleted_by(bucket, removal, &oid);
                let expected = [(Missing, key.clone())];
                store.expect("not listed", &[clear(listed.clone())], &expected).await;
                let found = store.found(&[clear(key.clone())]).await;
                assert!(found.contains(&(Dangling, listed)), "{found:?}");
                assert!(found.iter().any(|(kind, _)| *kind == WrongCount), "{found:?}");
                let due = store.rows(keys::data_part(bucket, keys::data::EXPIRING)).await;
                let (due, _) = due
                    .iter()
                    .find(|(due, _)| keys::parse_expiring(due).unwrap().3 == oid)
                    .unwrap();
                assert!(found.contains(&(Dangling, due.clone())), "{found:?}");
                store.expect("not due", &[clear(due.clone())], &expected).await;
                let future = (FutureVersion, due.clone());
                let found = store.found(&[set(due.clone(), &[0xfe; 10])]).await;
                assert_eq!(found, [future]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_that_expires_at_another_time_is_found() {
    let store = AtRest::new().await;
    let bucket = store.bucket("active");
    let (key, _) = store.tombstones(bucket, true).await.remove(0);
    let (_, oid, removal) = keys::parse_tombstone(&key).unwrap();
    let early = keys::expiring(bucket, 5, removal, &oid);
    let expected = [(Kind::Contradiction, early.clone())];
    store.expect("a second row", &[set(early, &[0; 10])], &expected).await;
    let (key, _) = store.tombstones(bucket, false).await.remove(0);
    let (_, oid, removal) = keys::parse_tombstone(&key).unwrap();
    let never = keys::expiring(bucket, 5, removal, &oid);
    let expected = [(Kind::Contradiction, never.clone())];
    store.expect("it is kept for ever", &[set(never, &[0; 10])], &expected).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_readers_and_does_not_say_so_is_found() {
    use Kind::{Contradiction, Dangling, FutureVersion, Missing};
    let store = AtRest::new().await;
    for name in ["active", "removed"] {
        let bucket = store.bucket(name);
        let (key, _) = store.tombstones(bucket, true).await.remove(0);
        let (_, oid, removal) = keys::parse_tombstone(&key).unwrap();
        let listed = keys::deleted_by(bucket, removal, &oid);
        let due = store.rows(keys::data_part(bucket, keys::data::EXPIRING)).await;
        let is_its = |due: &[u8]| keys::parse_expiring(due).unwrap().3 == oid;
        let (due, version) = due.into_iter().find(|(due, _)| is_its(due)).unwrap();
        let version = Versionstamp::decode(&version).unwrap();
        let waiting = keys::feed::waiting(bucket, version, removal, &oid);
        let waits = [
            clear(due.clone()),
            set(listed.clone(), version.as_bytes()),
            set(waiting.clone(), b""),
        ];
        store.expect("it waits", &waits, &[]).await;
        let both = [(Contradiction, key.clone())];
        store.expect("it expires as well", &waits[1..], &both).await;
        let lost = [(Missing, listed.clone())];
        store.expect("nobody finds it", &waits[..2], &lost).await;
        let left = [(Dangling, waiting.clone())];
        store.expect("it does not wait", &waits[2..], &left).await;
        let mut future = waits;
        future[1] = set(listed.clone(), &[0xfe; 10]);
        let found = store.found(&future).await;
        assert!(found.contains(&(FutureVersion, listed)), "{found:?}");
        assert!(found.contains(&left[0]), "{found:?}");
    }
    let registered = keys::feed::registered(store.bucket("active"));
    let ahead = [(FutureVersion, registered.clone())];
    store.expect("registered tomorrow", &[set(registered, &[0xfe; 10])], &ahead).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_document_that_is_not_what_was_written_is_found() {
    let store = AtRest::new().await;
    for name in ["active", "removed"] {
        let bucket = store.bucket(name);
        let rows = store.rows(keys::data_part(bucket, keys::data::TOMBSTONE)).await;
        for (key, value) in rows {
            let expected = [(Kind::DamagedDocument, key.clone())];
            let mut flipped = value.clone();
            *flipped.last_mut().unwrap() ^= 1;
            let found = store.found(&[set(key.clone(), &flipped)]).await;
            assert_eq!(found, expected);
            let found = store.found(&[set(key.clone(), &value[..20])]).await;
            assert!(found.contains(&expected[0]), "{found:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_whose_tombstones_nobody_looks_for_is_found() {
    use Kind::{Dangling, Missing};
    let store = AtRest::new().await;
    for name in ["active", "removed"] {
        let bucket = store.bucket(name);
        let (scheduled, _) =
            store.rows(keys::data_part(bucket, keys::data::VACUUM)).await[0].clone();
        let due = store.due_vacuum(bucket).await;
        let set_aside = store.found(&[clear(due.clone())]).await;
        let expected: &[_] = if name == "active" { &[(Missing, scheduled.clone())] } else { &[] };
        assert_eq!(set_aside, expected);
        let found = store.found(&[clear(scheduled)]).await;
        assert!(found.contains(&(Missing, due.clone())), "{found:?}");
        let expiring = store.rows(keys::data_part(bucket, keys::data::EXPIRING)).await;
        assert!(found.contains(&(Missing, expiring[0].0.clone())), "{found:?}");
    }
    let nobody = keys::expiry(1, keys::due::VACUUM, &99_999_u64.to_be_bytes());
    store.expect("nobody's", &[set(nobody.clone(), b"")], &[(Dangling, nobody)]).await;
}
