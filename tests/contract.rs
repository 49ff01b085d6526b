//! The store contract: one suite for every engine, with no exceptions per engine.

use std::sync::atomic::{AtomicU32, Ordering};

use lethe::store::{Error, Read, Resolve, Slot, Store};

/// The body of `run` borrows from its surroundings and crosses threads.
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_loses_no_update_among_spawned_tasks() {
    let store = Store::memory();
    let mut tasks = Vec::new();
    for n in 0..16 {
        let store = store.as_client("c");
        tasks.push(tokio::spawn(async move {
            let key = format!("counter/{}", 0);
            let slot = Slot {
                key: format!("slot/{n}").into_bytes(),
                guard_key: b"g".to_vec(),
                guard_value: vec![],
            };
            let tries = &AtomicU32::new(0);
            let key = &key;
            let outcome = store
                .run("count", Resolve::Token(slot), |txn| async move {
                    tries.fetch_add(1, Ordering::Relaxed);
                    let old = txn.get(key.as_bytes(), Read::Conflict).await?;
                    let old =
                        old.map_or(0, |old| u64::from_le_bytes(old.as_ref().try_into().unwrap()));
                    tokio::task::yield_now().await;
                    txn.set(key.as_bytes(), &(old + 1).to_le_bytes())?;
                    Ok::<_, Error>(old)
                })
                .await;
            assert_eq!(outcome.unwrap().attempts, tries.load(Ordering::Relaxed));
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let txn = store.begin("check");
    let value = txn.get(b"counter/0", Read::Snapshot).await.unwrap().unwrap();
    assert_eq!(value.as_ref(), 16u64.to_le_bytes());
}
