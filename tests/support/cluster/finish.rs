//! What must hold at the end of every scenario.

use std::collections::BTreeMap;

use lethe::check::{self, Severity};
use lethe::clock::milliseconds;
use lethe::codec::record::{self, ClusterTimeRecord, GraveRecord};
use lethe::codec::{BucketId, NamespaceId, RemovalId, keys};
use lethe::config::Config;
use tokio::time::sleep;

use super::{Claim, Cluster, EPOCH, SILENT_AFTER, claim, fail};

impl Cluster {
    /// What must hold at the end of every scenario, once all is quiet.
    pub async fn finish(self) -> Claim {
        self.chaos(None);
        for (name, running) in &self.nodes {
            self.end_outage(name);
            running.node.cluster().resume();
        }
        sleep(SILENT_AFTER * 2).await;
        self.all_owned().await?;
        self.nothing_is_left_of_what_was_purged().await?;
        self.one_audit_row_for_each_transition().await?;
        self.the_store_is_in_order().await
    }

    /// The check finds nothing.
    pub async fn the_store_is_in_order(&self) -> Claim {
        let mut findings = check::all(&self.store).await.map_err(fail)?;
        findings.retain(|finding| finding.severity() == Severity::Error);
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        claim!(findings.is_empty(), "the check finds: {}", findings.join("; "));
        Ok(())
    }

    async fn nothing_is_left_of_what_was_purged(&self) -> Claim {
        for (key, value) in self.rows(&keys::kind_prefix(keys::kind::GRAVE)).await? {
            let removal = RemovalId(keys::parse_number("grave", &key).map_err(fail)?);
            let grave: GraveRecord = record::decode("grave", &value).map_err(fail)?;
            let (id, number) = (grave.object, grave.object.number());
            let left = self.raw_scan(BucketId(number)).await?;
            claim!(left == 0, "{left} keys are left below the prefix of {id}, which was purged");
            let busy = self.busy(BucketId(number)).await?;
            claim!(busy == 0, "{id} was purged and has a busy row");
            for (what, key) in [
                ("record", keys::bucket_record(BucketId(number))),
                ("record", keys::namespace_record(NamespaceId(number))),
                ("fence", keys::fence(number)),
                ("removal", keys::removal(removal)),
                ("retention", keys::retention(removal)),
                ("hold", keys::hold(removal)),
                ("request", keys::request(removal)),
                ("reclaim job", keys::reclaim(removal)),
            ] {
                claim!(self.get(&key).await?.is_none(), "{id} was purged and has a {what}");
            }
        }
        Ok(())
    }

    /// Whether cluster time has been where the first rows of the audit log are kept no longer.
    async fn has_audit_been_trimmed(&self) -> Claim<bool> {
        let row = self.get(&keys::cluster_time()).await?.ok_or("no cluster time")?;
        let time: ClusterTimeRecord = record::decode("cluster-time", &row).map_err(fail)?;
        Ok(time.now - EPOCH > milliseconds(Config::default().audit_retention))
    }

    async fn one_audit_row_for_each_transition(&self) -> Claim {
        let mut counted: BTreeMap<(String, String), i64> = BTreeMap::new();
        for row in self.audit().await? {
            if let Some(removal) = row.removal.filter(|_| row.outcome == "OK")
                && ["remove", "restore", "purge"].contains(&row.action.as_str())
            {
                *counted.entry((row.action, removal)).or_default() += row.count;
            }
        }
        let trimmed = self.has_audit_been_trimmed().await?;
        for ((action, removal), count) in &counted {
            claim!(*count == 1, "{removal} has {count} audit rows for '{action}'");
            let known = counted.contains_key(&("remove".to_owned(), removal.clone()));
            claim!(known || trimmed, "{removal} has a '{action}' in the audit log but no removal");
            let twice = ("restore".to_owned(), removal.clone());
            claim!(
                action != "purge" || !counted.contains_key(&twice),
                "{removal} was both restored and purged"
            );
        }
        if trimmed {
            return Ok(());
        }
        let of = |kind| keys::kind_prefix(kind);
        let purged = counted.keys().filter(|(action, _)| action == "purge").count();
        let graves = self.rows(&of(keys::kind::GRAVE)).await?.len();
        claim!(purged == graves, "{purged} purges in the audit log, but {graves} graves");
        let count = |wanted: &str| counted.keys().filter(|(action, _)| action == wanted).count();
        let open = count("remove") - count("restore") - purged;
        let removals = self.rows(&of(keys::kind::REMOVAL)).await?.len();
        claim!(open == removals, "{open} removals by the audit log, but {removals} rows");
        Ok(())
    }
}
