//! Damage of what finds the documents whose time is over.

use lethe::check::Kind;
use lethe::codec::keys;
use lethe::codec::record::{BucketRecord, TtlProgressRecord};

use crate::damage::{AtRest, clear, put, set};

#[tokio::test(start_paused = true)]
async fn a_ttl_that_nobody_carries_out_is_found() {
    use Kind::{Contradiction, Dangling, Missing, Undecodable};
    let store = AtRest::new().await;
    for (name, active) in [("indexed", true), ("moved", true), ("forever", false)] {
        let bucket = store.bucket(name);
        let (ttl, record) = (keys::ttl(bucket), keys::bucket_record(bucket));
        let progress: TtlProgressRecord = store.record(&ttl).await;
        let number = bucket.0.to_be_bytes();
        let due = keys::expiry(progress.due_at, keys::due::TTL, &number);
        let other = keys::expiry(progress.due_at + 5, keys::due::TTL, &number);
        let expected: &[_] = if active { &[(Missing, ttl.clone())] } else { &[] };
        store.expect("not due", &[clear(due.clone())], expected).await;
        let mut gone = vec![(Missing, record.clone())];
        // That of a removed bucket may have been set aside.
        if active || store.get(&due).await.is_some() {
            gone.push((Missing, due.clone()));
        }
        store.expect("no progress", &[clear(ttl.clone())], &gone).await;
        let twice = [(Contradiction, other.clone())];
        store.expect("due twice", &[set(other, b"")], &twice).await;
        let unreadable = [(Undecodable, ttl.clone())];
        let found = store.found(&[set(ttl.clone(), b"x")]).await;
        assert!(found.contains(&unreadable[0]), "{found:?}");
        let mut off: BucketRecord = store.record(&record).await;
        off.ttl = None;
        store.expect("no TTL", &[put(record, &off)], &[(Dangling, ttl)]).await;
    }
    let nobody = keys::expiry(1, keys::due::TTL, &99_999_u64.to_be_bytes());
    store.expect("nobody's", &[set(nobody.clone(), b"")], &[(Dangling, nobody)]).await;
}
