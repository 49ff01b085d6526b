//! Damage of copies that are being made.

use lethe::check::Kind;
use lethe::codec::record::{BucketRecord, CopyPhase, CopyRecord, PauseOf};
use lethe::codec::{RemovalId, Sequence, Versionstamp, keys};
use lethe::document::carry::reader_name;

use crate::damage::{AtRest, clear, put, set};

#[tokio::test(start_paused = true)]
async fn a_copy_without_what_belongs_to_it_is_found() {
    use Kind::{Dangling, Leftover, Missing};
    let store = AtRest::new().await;
    let (source, copy) = (store.bucket("copied"), store.bucket("copy"));
    let (record, progress) = (keys::bucket_record(copy), keys::copy::progress(copy));
    let queued = keys::copy::queued(source, copy);
    let reader = keys::feed::replica(source, &reader_name(copy));
    for key in [&progress, &queued, &reader] {
        let found = store.found(&[clear(key.clone())]).await;
        assert_eq!(found, [(Missing, record.clone())], "without {key:?}");
    }
    let row: CopyRecord = store.record(&progress).await;
    let failed = put(progress.clone(), &CopyRecord { phase: CopyPhase::Failed, ..row });
    let expected = [(Leftover, record.clone()), (Leftover, record.clone())];
    store.expect("failed, and still at work", &[failed], &expected).await;
    // It is no copy any more, and everybody believes that it is.
    let is: BucketRecord = store.record(&record).await;
    let plain = put(record.clone(), &BucketRecord { copy: None, ..is });
    let found = store.found(&[plain]).await;
    for expected in [(Leftover, progress), (Dangling, queued), (Leftover, reader.clone())] {
        assert!(found.contains(&expected), "{expected:?} is not among {found:?}");
    }
    let nobody = keys::copy::queued(source, source);
    store.expect("no copy", &[set(nobody.clone(), b"")], &[(Dangling, nobody)]).await;
    let stranger = keys::feed::replica(source, "~copy-b_0000");
    let same = [(stranger.clone(), store.get(&reader).await)];
    store.expect("no reader", &same, &[(Leftover, stranger)]).await;
}

#[tokio::test(start_paused = true)]
async fn progress_that_cannot_be_is_found() {
    use Kind::{Contradiction, FutureVersion, Leftover};
    let store = AtRest::new().await;
    let copy = store.bucket("copy");
    let key = keys::copy::progress(copy);
    let row: CopyRecord = store.record(&key).await;
    let future = Sequence::end_of(Versionstamp::new(1 << 60, 0));
    let short = CopyRecord { positions: vec![row.positions[0]], ..row.clone() };
    let ahead = CopyRecord { positions: vec![row.positions[0], future], ..row.clone() };
    let late = CopyRecord { registered: future, ..row.clone() };
    for (what, row, kind) in [
        ("one shard too few", short, Contradiction),
        ("ahead of the log", ahead, FutureVersion),
        ("registered in the future", late, FutureVersion),
    ] {
        store.expect(what, &[put(key.clone(), &row)], &[(kind, key.clone())]).await;
    }
    let plain = keys::copy::progress(store.bucket("active"));
    let lonely = [put(plain.clone(), &row)];
    store.expect("of no copy", &lonely, &[(Leftover, plain)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_bucket_neither_waits_nor_copies() {
    let store = AtRest::new().await;
    let pause = PauseOf { swap: RemovalId(1), until: 0, length_ms: 1 };
    let key = keys::bucket_record(store.bucket("removed"));
    let record: BucketRecord = store.record(&key).await;
    let paused = [put(key.clone(), &BucketRecord { paused: Some(pause), ..record })];
    store.expect("it waits", &paused, &[(Kind::Contradiction, key)]).await;
    let copy = store.bucket("given up");
    let (key, progress) = (keys::bucket_record(copy), keys::copy::progress(copy));
    let row: CopyRecord = store.record(&progress).await;
    assert_eq!(row.phase, CopyPhase::Failed);
    let source = store.bucket("copied");
    let goes_on = [
        put(progress, &CopyRecord { phase: CopyPhase::Following, ..row }),
        set(keys::copy::queued(source, copy), b""),
        (
            keys::feed::replica(source, &reader_name(copy)),
            store.get(&keys::feed::replica(source, &reader_name(store.bucket("copy")))).await,
        ),
    ];
    store.expect("it goes on", &goes_on, &[(Kind::Contradiction, key)]).await;
}
