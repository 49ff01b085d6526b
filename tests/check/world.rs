//! A node over a store, and the shortest way to each state of its buckets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lethe::clock::{Clock, TestClock};
use lethe::codec::duration::Retention;
use lethe::codec::record::{self, Actor, CopyRecord, KeepRecord, TtlRecord};
use lethe::codec::{BucketId, RemovalId, keys};
use lethe::config::Config;
use lethe::document::replica::{self, Lease};
use lethe::document::{self, Deletion, Document, Home, Limits, NewDocument, Origin};
use lethe::error::{Error, Result};
use lethe::index;
use lethe::lifecycle::copy::CopyRequest;
use lethe::lifecycle::namespace::RestoreNamespaceRequest;
use lethe::lifecycle::purge::PurgeRequest;
use lethe::lifecycle::remove::{Keep, Removal, RemoveRequest};
use lethe::lifecycle::restore::RestoreRequest;
use lethe::lifecycle::{Lifecycle, Target};
use lethe::metadata::bucket::NewBucket;
use lethe::metadata::policy::{Name, Value};
use lethe::metadata::{Caller, Operation, Path, namespace};
use lethe::node::{Node, NodeOptions};
use lethe::store::{EmbeddedOptions, Held, Matcher, Read, Store, Transaction};

pub(crate) const NOW: i64 = 1_700_000_000_000;

/// The buckets of [`World::fill`] and the removals they are or were in, by name.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    pub(crate) buckets: BTreeMap<&'static str, BucketId>,
    pub(crate) removals: BTreeMap<&'static str, RemovalId>,
    /// Reclaim jobs that stand still: commits that were held.
    held: Vec<Held>,
}

/// The buckets in which documents are deleted, for a while and for ever.
const DELETED: &[&str] = &["active", "removed", "restored", "purged", "asked", "copied"];

/// The buckets whose documents expire.
const TTL: &[&str] = &["indexed", "forever", "moved", "dropped"];

/// The buckets that get a document in pieces as well.
const LARGE: &[&str] = &["active", "removed", "held", "restored", "a", "busy"];

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) node: Node,
    pub(crate) clock: TestClock,
}

impl World {
    pub(crate) async fn memory() -> Self {
        Self::over(Store::memory(), "a").await
    }

    pub(crate) async fn embedded(folder: &std::path::Path) -> Self {
        let store = Store::open(folder, EmbeddedOptions::default()).await.unwrap();
        Self::over(store, "a").await
    }

    pub(crate) async fn over(store: Store, node: &str) -> Self {
        let clock = TestClock::starting_at(NOW);
        let node = start(&store, node, &clock).await;
        Self { store, node, clock }
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        self.node.lifecycle()
    }

    pub(crate) async fn create(&self, name: &str) -> BucketId {
        let catalog = self.lifecycle().catalog();
        let on_two_shards = NewBucket { shards: Some(vec![1, 4]), ..NewBucket::default() };
        catalog.create_bucket(&caller(), &path(), name, &on_two_shards).await.unwrap();
        catalog.bucket("global", name).await.unwrap().0
    }

    /// Removes a bucket as `change` says.
    pub(crate) async fn remove(
        &self,
        name: &str,
        change: impl FnOnce(&mut RemoveRequest),
    ) -> Removal {
        let mut request = RemoveRequest {
            namespace: path(),
            bucket: Some(name.to_owned()),
            keep: Keep::Default,
            reason: None,
            reserve_name: false,
            if_exists: false,
            bypass: false,
            dry_run: false,
        };
        change(&mut request);
        self.lifecycle().remove(&caller(), &request).await.unwrap().unwrap()
    }

    pub(crate) async fn restore(
        &self,
        removal: RemovalId,
        change: impl FnOnce(&mut RestoreRequest),
    ) {
        let mut request = RestoreRequest {
            namespace: path(),
            target: Target::Removal(removal),
            latest: false,
            name: None,
            into: None,
            replace: false,
            allow_expired: false,
            bypass: false,
            dry_run: false,
        };
        change(&mut request);
        self.lifecycle().restore(&caller(), &request).await.unwrap();
    }

    pub(crate) async fn purge(&self, removal: RemovalId, timeout: Duration) -> Result<()> {
        let request = PurgeRequest {
            namespace: path(),
            target: Target::Removal(removal),
            latest: false,
            timeout,
            bypass: false,
            dry_run: false,
        };
        self.lifecycle().purge(&caller(), &request).await
    }

    /// Waits until nothing is being reclaimed.
    pub(crate) async fn reclaimed(&self) {
        let mut wakes = self.lifecycle().wakes();
        loop {
            wakes.mark_unchanged();
            if self.lifecycle().reclaim_jobs(&path(), None, 1).await.unwrap().is_empty() {
                return;
            }
            wakes.changed().await.unwrap();
        }
    }

    /// Everything that a bucket and its removal can be in, at the same time.
    pub(crate) async fn fill(&self) -> Filled {
        let catalog = self.lifecycle().catalog();
        let deep = Path::parse(b"a.b.c.d").unwrap();
        catalog.create_namespace(&caller(), &deep).await.unwrap();
        let mut filled = Filled::default();
        for name in [
            "active",
            "removed",
            "forever",
            "held",
            "released",
            "reserved",
            "expired",
            "asked",
            "restored",
            "renamed",
            "moved",
            "replacing",
            "replaced",
            "purging",
            "dropped",
            "purged",
            "indexed",
            "copied",
        ] {
            filled.buckets.insert(name, self.create(name).await);
            if ["indexed", "copied"].contains(&name) {
                self.index(name).await;
            }
            if TTL.contains(&name) {
                let ttl = Some(TtlRecord { field: "at".to_owned(), after_ms: 60_000 });
                catalog.expire_documents(&caller(), &path(), name, "at", ttl).await.unwrap();
            }
            self.write(name).await;
            if DELETED.contains(&name) {
                self.delete(name, Retention::For(Duration::from_secs(3600))).await;
                self.delete(name, Retention::Forever).await;
                self.register(name).await;
            }
        }
        catalog.rename_bucket(&caller(), &path(), "renamed", "new name").await.unwrap();
        catalog.protect_bucket(&caller(), &path(), "active", true).await.unwrap();
        let remembered = Operation::from_client(b"op", [&b"CREATE"[..]].into_iter()).unwrap();
        let with_id = Caller { operation: Some(remembered), ..caller() };
        catalog
            .create_bucket(&with_id, &path(), "remembered", &NewBucket::default())
            .await
            .unwrap();
        self.copy_some(&mut filled).await;
        self.remove_some(&mut filled.removals).await;
        self.restore_some(&mut filled.removals).await;
        self.namespaces(&mut filled.removals).await;
        self.purge_some(&mut filled).await;
        filled
    }

    /// Two indexes on an empty bucket: they are ready at once.
    async fn index(&self, name: &str) {
        let schema = r#"{"b.c": {"bson_type": "int32"}, "$compound": [{"fields": [
            {"selector": "a", "bson_type": "int32", "direction": "desc"},
            {"selector": "b.c", "bson_type": "int32"}]}]}"#;
        let schema = Document::from_json(schema.as_bytes(), Limits::default()).unwrap();
        let (caller, new) = (&caller(), &index::schema::parse(schema.raw()).unwrap());
        let path = &path();
        let body = |txn: Transaction| async move {
            let here = namespace::resolve(&txn, path, Read::Conflict).await?;
            index::define::create(&txn, caller, &here, name, new, 64, NOW).await
        };
        self.lifecycle().catalog().run("create-index", caller, body).await.unwrap();
    }

    /// A copy that follows its source, and one that nobody goes on with.
    async fn copy_some(&self, filled: &mut Filled) {
        for name in ["copy", "given up"] {
            let request = CopyRequest {
                namespace: path(),
                bucket: "copied".to_owned(),
                copy: name.to_owned(),
                live_only: false,
            };
            self.lifecycle().copy(&caller(), &request).await.unwrap();
            let copy = self.lifecycle().catalog().bucket("global", name).await.unwrap().0;
            filled.buckets.insert(name, copy);
            self.following(copy).await;
        }
        filled.removals.insert("given up", self.remove("given up", |_| {}).await.removal);
    }

    /// Waits until a copy has taken over what there is.
    pub(crate) async fn following(&self, copy: BucketId) {
        loop {
            let txn = self.store.begin("copy");
            let watch = txn.watch(&keys::copy::progress(copy)).unwrap();
            let row = txn.get(&keys::copy::progress(copy), Read::Snapshot).await.unwrap().unwrap();
            txn.commit().await.unwrap();
            let row: CopyRecord = record::decode("copy", &row).unwrap();
            if row.positions.iter().all(|position| *position > row.registered) {
                return;
            }
            watch.await.unwrap();
        }
    }

    async fn remove_some(&self, removals: &mut BTreeMap<&'static str, RemovalId>) {
        removals.insert("removed", self.remove("removed", |_| {}).await.removal);
        let forever = self.remove("forever", |r| r.keep = Keep::For(Retention::Forever)).await;
        removals.insert("forever", forever.removal);
        let reserved = self.remove("reserved", |r| r.reserve_name = true).await;
        removals.insert("reserved", reserved.removal);
        for (name, held) in [("held", true), ("released", false)] {
            let removal = self.remove(name, |_| {}).await.removal;
            let target = Target::Removal(removal);
            let lifecycle = self.lifecycle();
            let reason = "for the court";
            lifecycle.hold(&caller(), &path(), &target, false, reason, None).await.unwrap();
            let week = Keep::For(Retention::For(Duration::from_secs(604_800)));
            lifecycle.retain(&caller(), &path(), &target, false, week, false).await.unwrap();
            if !held {
                lifecycle.unhold(&caller(), &path(), &target, false).await.unwrap();
            }
            removals.insert(name, removal);
        }
    }

    /// Namespaces: removed with what is in them, on hold, reserved, protected below, moved,
    /// and back again.
    async fn namespaces(&self, removals: &mut BTreeMap<&'static str, RemovalId>) {
        let (lifecycle, caller) = (self.lifecycle(), &caller());
        let catalog = lifecycle.catalog();
        let path = |text: &str| Path::parse(text.as_bytes()).unwrap();
        for name in ["n.gone.x", "n.held", "n.kept", "n.back.x", "n.from.y", "safe.x", "bound.x"] {
            catalog.create_namespace(caller, &path(name)).await.unwrap();
            let new = NewBucket { shards: Some(vec![1, 4]), ..NewBucket::default() };
            catalog.create_bucket(caller, &path(name), "inside", &new).await.unwrap();
        }
        catalog.protect_bucket(caller, &path("safe.x"), "inside", true).await.unwrap();
        catalog.protect_namespace(caller, &path("n.from.y"), true).await.unwrap();
        let (from, to) = (path("n.from"), path("to.here"));
        catalog.move_namespace(caller, &from, &to, false).await.unwrap();
        let hour = Value::Keep(KeepRecord { ms: Some(3_600_000) });
        let bound = [(Name::RetentionMin, Some(hour))];
        catalog.change_policy(caller, &path("bound.x"), &bound).await.unwrap();
        let promised = self.remove("inside", |r| r.namespace = path("bound.x")).await.removal;
        removals.insert("promised", promised);
        let own = self.remove("inside", |r| r.namespace = path("n.gone.x")).await.removal;
        removals.insert("inside", own);
        let target = Target::Removal(own);
        let here = path("global");
        lifecycle.hold(caller, &here, &target, false, "for the court", None).await.unwrap();
        for (name, namespace) in [
            ("n.gone", "gone"),
            ("n.held", "held-namespace"),
            ("n.kept", "kept"),
            ("n.back", "back"),
        ] {
            let change = |r: &mut RemoveRequest| {
                (r.namespace, r.bucket) = (path(name), None);
                r.reserve_name = name == "n.kept";
            };
            removals.insert(namespace, self.remove("", change).await.removal);
        }
        let target = Target::NamespaceRemoval(removals["held-namespace"]);
        lifecycle.hold(caller, &here, &target, false, "for the court", None).await.unwrap();
        let request = RestoreNamespaceRequest {
            target: Target::NamespaceRemoval(removals["back"]),
            latest: false,
            path: Some(path("back.again")),
            allow_expired: false,
            bypass: false,
            dry_run: false,
        };
        lifecycle.restore_namespace(caller, &request).await.unwrap();
    }

    async fn restore_some(&self, removals: &mut BTreeMap<&'static str, RemovalId>) {
        let restored = self.remove("restored", |r| r.reserve_name = true).await;
        self.restore(restored.removal, |_| {}).await;
        self.write("restored").await;
        let moved = self.remove("moved", |_| {}).await;
        self.restore(moved.removal, |r| {
            r.into = Some(Path::parse(b"a.b").unwrap());
            r.name = Some("elsewhere".to_owned());
        })
        .await;
        let replacing = self.remove("replacing", |_| {}).await;
        self.restore(replacing.removal, |r| {
            r.name = Some("replaced".to_owned());
            r.replace = true;
        })
        .await;
        removals.insert("restored", restored.removal);
    }

    async fn purge_some(&self, filled: &mut Filled) {
        let purged = self.remove("purged", |_| {}).await.removal;
        self.purge(purged, Duration::from_secs(5)).await.unwrap();
        self.reclaimed().await;
        filled.removals.insert("purged", purged);
        for (name, label) in [("purging", "reclaim-drop"), ("dropped", "reclaim-done")] {
            let removal = self.remove(name, |_| {}).await.removal;
            filled.removals.insert(name, removal);
            // Where commits can be held, the job stands still half-way.
            let commit = self.store.faults().map(|faults| faults.hold(Matcher::any().label(label)));
            self.purge(removal, Duration::from_secs(5)).await.unwrap();
            if let Some(commit) = commit {
                commit.arrived().await;
                filled.held.push(commit);
            }
        }
        // From here on nothing is destroyed, so that all that waits goes on waiting.
        self.lifecycle().pause_purging(&caller()).await.unwrap();
        let asked = self.remove("asked", |r| r.keep = Keep::For(Retention::For(Duration::ZERO)));
        filled.removals.insert("asked", asked.await.removal);
        let expired = self.remove("expired", |r| r.keep = Keep::Until(self.clock.now() + 1)).await;
        self.clock.jump(2);
        filled.removals.insert("expired", expired.removal);
        let refused = self.purge(expired.removal, Duration::ZERO).await;
        assert!(matches!(refused, Err(Error::PurgePaused(_))), "{refused:?}");
    }

    /// Small documents and a large one; the first write schedules a trim.
    pub(crate) async fn write(&self, name: &str) {
        self.try_write(name).await.unwrap();
    }

    /// Deletes a small document and, where there are several, one in pieces.
    pub(crate) async fn delete(&self, name: &str, retention: Retention) {
        let deletion = &Deletion {
            removal: RemovalId(self.lifecycle().catalog().cluster().ids().next().await.unwrap()),
            by: caller().actor,
            reason: Some("a test".to_owned()),
            retention,
            continues: false,
        };
        let at = self.clock.now();
        self.write(name).await;
        let catalog = self.lifecycle().catalog();
        let deleted = catalog
            .write_data("delete", "global", name, |txn, live| async move {
                let home = &Home::from(&live);
                let everything = document::Scan {
                    begin: std::ops::Bound::Unbounded,
                    end: std::ops::Bound::Unbounded,
                    reverse: true,
                    rows_max: 2,
                    bytes_max: 1 << 20,
                    read: lethe::store::Read::Snapshot,
                };
                let mut documents = Vec::new();
                for (id, stored) in document::scan(&txn, home, &everything).await?.rows {
                    documents.push((id, stored.load(&txn, home, everything.read).await?));
                }
                document::delete(&txn, home, &documents, deletion, at).await
            })
            .await
            .unwrap();
        assert_eq!(deleted.value.len(), 2);
    }

    /// Registers a reader of a bucket's change log, `r`, from now on.
    pub(crate) async fn register(&self, name: &str) {
        let (at, lease) = (self.clock.now(), Lease::For(3_600_000));
        let catalog = self.lifecycle().catalog();
        catalog
            .write_data("register", "global", name, |txn, live| async move {
                replica::register(&txn, &Home::from(&live), "r", None, lease, at).await
            })
            .await
            .unwrap();
    }

    pub(crate) async fn try_write(&self, name: &str) -> Result<()> {
        let ids = &self.node.services().object_ids;
        let large = format!("{{large: '{}'}}", "x".repeat(2 * 90_000 + 5));
        let mut texts = vec!["{a: 1}", "{b: [2, {c: 3}]}", "{}"];
        if LARGE.contains(&name) {
            texts.push(&large);
        }
        let documents: Vec<NewDocument> = texts
            .into_iter()
            .map(|text| {
                let document = Document::from_json(text.as_bytes(), Limits::default()).unwrap();
                NewDocument::new(document, Origin::Json, ids).unwrap()
            })
            .collect();
        let (at, documents) = (self.clock.now(), &documents);
        let catalog = self.lifecycle().catalog();
        catalog
            .write_data("insert", "global", name, |txn, live| async move {
                let home = Home::from(&live);
                document::insert(&txn, &home, documents, at).await
            })
            .await?;
        Ok(())
    }
}

pub(crate) async fn start(store: &Store, name: &str, clock: &TestClock) -> Node {
    let mut config = Config::default();
    config.server.listen = vec![([127, 0, 0, 1], 0).into()];
    let options = NodeOptions { name: Some(name.to_owned()), ..NodeOptions::default() };
    let store = store.as_client(name);
    Node::start_on(store, Arc::new(config), Arc::new(clock.clone()), options).await.unwrap()
}

pub(crate) fn caller() -> Caller {
    let actor = Actor { user: "default".to_owned(), client: "127.0.0.1:1".to_owned() };
    Caller { actor, operation: None, permit: None }
}

pub(crate) fn path() -> Path {
    Path::parse(b"global").unwrap()
}
