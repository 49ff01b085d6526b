//! Copies of a running store.

use lethe::store::{Error, Store, backup, restore_backup};

use super::{disk_bytes, files, open, put, rows};

#[tokio::test]
async fn a_copy_of_a_running_store_is_of_one_moment_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (live, saved, back) =
        (folder.path().join("live"), folder.path().join("saved"), folder.path().join("back"));
    let store = open(&live).await.unwrap();
    // Two rows that always say the same.
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 0..2000u32 {
                let txn = store.begin("pair");
                txn.set(b"a/first", &n.to_be_bytes()).unwrap();
                txn.set(b"z/last", &n.to_be_bytes()).unwrap();
                txn.set(format!("m/{n}").as_bytes(), &[1; 500]).unwrap();
                txn.touch_metadata_version().unwrap();
                txn.commit().await.unwrap();
            }
        }
    });
    while store.stats().commits < 200 {
        tokio::task::yield_now().await;
    }
    let summary = backup(&store, &saved).await.unwrap();
    writer.await.unwrap();
    put(&store, b"after", b"").await;

    assert_eq!(restore_backup(&saved, &back).await.unwrap(), summary);
    let restored = open(&back).await.unwrap();
    let all = rows(&restored).await.unwrap();
    assert_eq!(u64::try_from(all.len()).unwrap(), summary.rows);
    assert_eq!(all[b"a/first".as_slice()], all[b"z/last".as_slice()], "one moment");
    let n = u32::from_be_bytes(all[b"a/first".as_slice()].clone().try_into().unwrap());
    assert_eq!(all.len(), usize::try_from(n).unwrap() + 3, "all rows up to that moment");
    let txn = restored.begin("versions");
    assert!(txn.read_version().await.unwrap() > summary.version);
    let touched = txn.metadata_version().await.unwrap();
    assert_eq!(touched.version(), summary.version, "each commit touched it");
    assert!(put(&restored, b"more", b"").await > summary.version, "versions go on");
    restored.close().await;
    let restored = open(&back).await.unwrap();
    assert_eq!(rows(&restored).await.unwrap().len(), all.len() + 1);
    restored.close().await;
    store.close().await;
}

#[tokio::test]
async fn a_copy_leaves_dropped_prefixes_out_and_waits_for_no_expiry() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::memory();
    put(&store, b"gone/1", b"").await;
    put(&store, b"kept/1", b"").await;
    let txn = store.begin("drop");
    txn.drop_prefix(b"gone/").unwrap();
    txn.commit().await.unwrap();
    let saved = folder.path().join("saved");
    assert_eq!(
        backup(&store, &saved).await.unwrap().rows,
        1,
        "a store in memory can be copied too"
    );
    let back = folder.path().join("back");
    restore_backup(&saved, &back).await.unwrap();
    let store = open(&back).await.unwrap();
    assert!(rows(&store).await.unwrap().keys().eq([b"kept/1"]));
    store.close().await;
}

#[tokio::test]
async fn damaged_copies_and_used_folders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, back) = (folder.path().join("saved"), folder.path().join("back"));
    let store = Store::memory();
    for n in 0..20u8 {
        put(&store, &[n], &[n; 20]).await;
    }
    backup(&store, &saved).await.unwrap();
    assert!(matches!(backup(&store, &saved).await, Err(Error::Format(_))), "not empty");
    for file in files(&saved) {
        let original = std::fs::read(&file).unwrap();
        for place in 0..original.len() {
            let mut bytes = original.clone();
            bytes[place] ^= 1 << (place % 8);
            std::fs::write(&file, bytes).unwrap();
            let refused = restore_backup(&saved, &back).await;
            assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
            assert!(!back.exists(), "refused before anything is written");
        }
        std::fs::write(&file, &original).unwrap();
    }
    std::fs::create_dir(&back).unwrap();
    std::fs::write(back.join("photo.jpg"), b"mine").unwrap();
    assert!(matches!(restore_backup(&saved, &back).await, Err(Error::Format(_))));
    assert_eq!(std::fs::read(back.join("photo.jpg")).unwrap(), b"mine");
    std::fs::remove_file(back.join("photo.jpg")).unwrap();
    restore_backup(&saved, &back).await.unwrap();
    assert!(disk_bytes(&back) > 0);
    assert!(
        matches!(restore_backup(&saved, &back).await, Err(Error::Format(_))),
        "a store is there"
    );
    std::fs::remove_file(saved.join("MANIFEST")).unwrap();
    let unfinished = restore_backup(&saved, &folder.path().join("other")).await.unwrap_err();
    assert!(unfinished.to_string().contains("no finished copy"), "{unfinished}");
}
