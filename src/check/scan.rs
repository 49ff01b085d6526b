use std::time::Duration;

use bytes::Bytes;

use super::finding::{Finding, Kind, Report};
use super::look::Look;
use super::{cluster, copies, data, feed, guards, indexes, names, queue, removals, totals, users};
use crate::codec::BucketId;
use crate::codec::keys::{self, kind};
use crate::store::{Error, RangeRead, Result, Store};

/// Behind every key that may be read.
const END: [u8; 1] = [0xff];
/// Tries in a row that bring nothing before an error of the store is handed out.
const TRIES_MAX: u32 = 20;

/// A part of the scan.
#[derive(Debug, Default)]
pub struct Page {
    /// What is wrong, each verified.
    pub findings: Vec<Finding>,
    /// Keys looked at.
    pub keys: usize,
    /// Where to go on; `None` at the end of the store.
    pub next: Option<Vec<u8>>,
}

/// What a rule said about one key.
struct Examined {
    findings: Vec<Finding>,
    /// Where to go on when that is not the next key.
    skip_to: Option<Vec<u8>>,
    /// A bucket whose documents are to be counted.
    bucket: Option<BucketId>,
}

/// What a page has found so far.
#[derive(Debug, Default)]
struct Found {
    /// To be looked at again.
    suspects: Vec<Finding>,
    certain: Vec<Finding>,
}

/// Patience with a store that asks to try again.
#[derive(Debug, Default)]
pub(super) struct Patience(u32);

impl Patience {
    /// Something was done meanwhile.
    pub(super) fn renew(&mut self) {
        self.0 = 0;
    }

    /// Waits before another try, or hands the error back when there is none.
    pub(super) async fn wait(&mut self, error: Error) -> Result<()> {
        self.0 += 1;
        if !error.is_retryable() || self.0 > TRIES_MAX {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(u64::from(self.0))).await;
        Ok(())
    }
}

/// Looks at up to `limit` keys, from the beginning or from where the last page
/// ended.
///
/// # Errors
/// Those of the store that do not go away.
pub async fn page(store: &Store, from: Option<&[u8]>, limit: usize) -> Result<Page> {
    let mut page = Page::default();
    let mut found = Found::default();
    if from.is_none() {
        found.suspects.extend(whole(store).await?);
    }
    let mut at = from.unwrap_or_default().to_vec();
    let mut patience = Patience::default();
    page.next = loop {
        let wanted = limit.max(1) - page.keys;
        match part(store, &at, wanted, &mut page.keys, &mut found).await {
            (None, Ok(())) => break None,
            (Some(next), Ok(())) if page.keys >= limit.max(1) => break Some(next),
            (Some(next), Ok(())) => {
                patience.renew();
                at = next;
            }
            (next, Err(error)) => {
                if let Some(next) = next.filter(|next| *next != at) {
                    patience.renew();
                    at = next;
                }
                patience.wait(error).await?;
            }
        }
    };
    page.findings = verified(store, found.suspects).await?;
    page.findings.extend(found.certain);
    Ok(page)
}

/// Looks at keys at one snapshot, as long as it lasts. Gives where to go on,
/// also after an error.
async fn part(
    store: &Store,
    from: &[u8],
    limit: usize,
    keys: &mut usize,
    found: &mut Found,
) -> (Option<Vec<u8>>, Result<()>) {
    let mut at = from.to_vec();
    let result = async {
        let mut look = Look::open(store).await?;
        let page = look.range(RangeRead::new(from, END).limit(limit)).await?;
        for (key, value) in &page.rows {
            // A rule has skipped it.
            if key[..] < at[..] {
                continue;
            }
            let examined = examine(&mut look, key, value).await?;
            if let Some(bucket) = examined.bucket {
                found.certain.extend(totals::check(store, bucket).await?);
            }
            found.suspects.extend(examined.findings);
            *keys += 1;
            at = examined.skip_to.unwrap_or_else(|| keys::next(key));
        }
        Ok(page.more)
    }
    .await;
    match result {
        Ok(true) => (Some(at), Ok(())),
        Ok(false) => (None, Ok(())),
        Err(error) => (Some(at), Err(error)),
    }
}

async fn whole(store: &Store) -> Result<Vec<Finding>> {
    let mut patience = Patience::default();
    loop {
        let result = async {
            let mut findings = Vec::new();
            cluster::whole(&Look::open(store).await?, &mut findings).await?;
            Ok(findings)
        };
        match result.await {
            Ok(findings) => return Ok(findings),
            Err(error) => patience.wait(error).await?,
        }
    }
}

/// The findings that still hold, each looked at again in one transaction of
/// its own.
async fn verified(store: &Store, suspects: Vec<Finding>) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut absent: Option<Vec<Finding>> = None;
    for suspect in suspects {
        let again = match again(store, &suspect.key).await? {
            Some(again) => again,
            // About a key that should be there.
            None if suspect.kind == Kind::Missing => {
                if absent.is_none() {
                    absent = Some(whole(store).await?);
                }
                absent.clone().unwrap_or_default()
            }
            None => continue,
        };
        let same = |finding: &&Finding| finding.kind == suspect.kind && finding.key == suspect.key;
        let holds = again.iter().filter(same).find(|finding| finding.expected == suspect.expected);
        if let Some(finding) = holds
            && !findings.contains(finding)
        {
            findings.push(finding.clone());
        }
    }
    Ok(findings)
}

/// What the rules say about a key now; `None` when it is gone.
async fn again(store: &Store, key: &[u8]) -> Result<Option<Vec<Finding>>> {
    let mut patience = Patience::default();
    loop {
        let result = async {
            let mut look = Look::open(store).await?;
            match look.get(key).await? {
                Some(value) => Ok(Some(examine(&mut look, key, &value).await?.findings)),
                None => Ok(None),
            }
        };
        match result.await {
            Ok(findings) => return Ok(findings),
            Err(error) => patience.wait(error).await?,
        }
    }
}

/// The rule for one key.
async fn examine(look: &mut Look, key: &[u8], value: &Bytes) -> Result<Examined> {
    let mut report = Report::on(key);
    let (mut skip_to, mut bucket) = (None, None);
    let r = &mut report;
    let Ok(kind) = keys::kind_of(key) else {
        r.add(Kind::UnknownKey, "it does not begin with a kind", "no such key");
        return Ok(Examined { findings: report.into_findings(), skip_to, bucket });
    };
    match kind {
        kind::CLUSTER => cluster::cluster(r, key, value),
        kind::NEXT_ID => cluster::next_id(r, key, value),
        kind::NAMESPACE_NAME => names::namespace_name(look, r, key, value).await?,
        kind::NAMESPACE_RECORD => names::namespace_record(look, r, key, value).await?,
        kind::BUCKET_NAME => names::bucket_name(look, r, key, value).await?,
        kind::BUCKET_RECORD => bucket = names::bucket_record(look, r, key, value).await?,
        kind::FENCE => names::fence(look, r, key, value).await?,
        kind::REMOVAL => removals::removal(look, r, key, value).await?,
        kind::RETENTION | kind::HOLD | kind::REQUEST => {
            removals::beside_removal(look, r, key, value, kind).await?;
        }
        kind::REMOVED_BY_NAME | kind::REMOVED_NAMESPACE_BY_NAME => {
            removals::removed_by_name(look, r, key, value).await?;
        }
        kind::REMOVED_BY_TIME | kind::REMOVED_NAMESPACE_BY_TIME => {
            removals::removed_by_time(look, r, key, value).await?;
        }
        kind::REMOVAL_OF => removals::removal_of(look, r, key, value).await?,
        kind::RESERVED_NAME | kind::RESERVED_NAMESPACE_NAME => {
            removals::reserved_name(look, r, key, value).await?;
        }
        kind::GUARD => guards::guard(look, r, key, value).await?,
        kind::PARKED => guards::parked(look, r, key, value).await?,
        kind::EXPIRY => queue::expiry(look, r, key, value).await?,
        kind::GRAVE => queue::grave(look, r, key, value).await?,
        kind::RECLAIM => queue::reclaim(look, r, key, value).await?,
        kind::OPERATION => queue::operation(look, r, key, value).await?,
        kind::INDEX_TASK => indexes::queued(look, r, key, value).await?,
        kind::COPY => copies::queued(look, r, key, value).await?,
        kind::REPLICA => feed::replica(look, r, key, value).await?,
        kind::DATA => skip_to = data::data(look, r, key, value).await?,
        kind::JOURNAL => cluster::journal(look, r, key, value),
        kind::AUDIT => cluster::audit(look, r, key, value),
        kind::USER => users::user(look, r, key, value).await?,
        kind::JOURNAL_HEAD
        | kind::INDEX_TASK_SIGNAL
        | kind::COPY_SIGNAL
        | kind::BARRIER_SIGNAL
        | kind::MEMBERSHIP_SIGNAL
        | kind::DUE_SIGNAL
        | kind::USERS_SIGNAL => {
            cluster::signal(look, r, key, value, &keys::kind_prefix(kind)).await?;
        }
        kind::MEMBER => cluster::member(look, r, key, value).await?,
        kind::BEAT | kind::SEEN => cluster::beside_member(look, r, key, value, kind),
        kind::SHARD | kind::WITNESS => cluster::shard(look, r, key, value, kind),
        kind::BUSY => cluster::busy(look, r, key, value).await?,
        kind::OBSERVER | kind::CLUSTER_TIME | kind::PURGE_PAUSE | kind::JOURNAL_MARK => {
            cluster::single(r, key, value, kind);
        }
        kind::ATTEMPT => cluster::attempt(look, r, key),
        other => r.add(Kind::UnknownKey, format!("there is no kind {other}"), "no such key"),
    }
    Ok(Examined { findings: report.into_findings(), skip_to, bucket })
}
