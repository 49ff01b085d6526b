#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use super::*;
use crate::metadata::policy::names::{Name, Value};

const DAY: i64 = 86_400_000;

fn days(days: i64) -> KeepRecord {
    KeepRecord { ms: Some(days * DAY) }
}

fn chain(policies: &[PolicyRecord]) -> Vec<(NamespaceId, NamespaceRecord)> {
    let mut parent = NamespaceId::ROOT;
    let mut chain = Vec::new();
    for (number, policy) in (1_u64..).zip(policies) {
        let mut record = NamespaceRecord::new(parent, &format!("n{number}"), 0);
        record.policy = policy.clone();
        parent = NamespaceId(number);
        chain.push((parent, record));
    }
    chain
}

fn setting() -> Retention {
    Retention::For(Duration::from_secs(7 * 86_400))
}

#[test]
fn the_nearest_default_counts_and_the_strictest_limits() {
    let top = PolicyRecord {
        retention: Some(days(10)),
        retention_min: Some(days(5)),
        retention_max: Some(days(40)),
        lock: Some(Lock::Governance),
        ..PolicyRecord::default()
    };
    let middle = PolicyRecord {
        retention: Some(days(20)),
        retention_min: Some(days(3)),
        retention_max: Some(days(30)),
        lock: Some(Lock::None),
        ..PolicyRecord::default()
    };
    let policy = Policy::of(&chain(&[top, middle, PolicyRecord::default()]));
    let limits = &policy.objects;
    assert_eq!(limits.applied(None, setting()).ms, 20 * DAY);
    assert_eq!(&*limits.default.as_ref().unwrap().path, "n1.n2");
    assert_eq!(
        (limits.min.as_ref().unwrap().value, &*limits.min.as_ref().unwrap().path),
        (5 * DAY, "n1")
    );
    assert_eq!(limits.max.as_ref().unwrap().value, 30 * DAY);
    assert_eq!(policy.lock(), Lock::Governance);
    assert!(limits.expect(4 * DAY).is_err() && limits.expect(31 * DAY).is_err());
    assert!(limits.expect(5 * DAY).is_ok() && limits.expect(30 * DAY).is_ok());
    assert!(limits.expect(FOREVER).is_err());
}

#[test]
fn a_default_outside_the_limits_is_taken_into_them_and_says_by_whom() {
    let policy = PolicyRecord { retention_min: Some(days(30)), ..PolicyRecord::default() };
    let applied = Policy::of(&chain(&[policy])).objects.applied(None, setting());
    assert_eq!(applied.ms, 30 * DAY);
    assert_eq!(applied.source, Source::Namespace(NamespaceId(1), "n1".into()));
    // Limits that contradict each other, from two namespaces: rather kept than not.
    let low = PolicyRecord { retention_max: Some(days(3)), ..PolicyRecord::default() };
    let high = PolicyRecord { retention_min: Some(days(9)), ..PolicyRecord::default() };
    let limits = Policy::of(&chain(&[low, high])).objects;
    assert_eq!(limits.applied(None, setting()).ms, 9 * DAY);
    assert!(limits.expect(9 * DAY).is_ok() && limits.expect(10 * DAY).is_err());
    assert!(limits.expect(8 * DAY).is_err());
}

#[test]
fn under_a_lock_nothing_is_kept_shorter_than_what_applies() {
    let with = |lock| {
        let policy =
            PolicyRecord { lock: Some(lock), retention: Some(days(9)), ..PolicyRecord::default() };
        Policy::of(&chain(&[policy]))
    };
    for (lock, bypass, taken) in [
        (Lock::None, false, true),
        (Lock::Governance, false, false),
        (Lock::Governance, true, true),
        (Lock::Compliance, false, false),
        (Lock::Compliance, true, false),
    ] {
        let policy = with(lock);
        let applied = policy.objects.applied(None, setting());
        let who = Caller::system("test");
        let kept = policy.keep(Kept::Objects, Some(DAY), &applied, bypass.then_some(&who));
        assert_eq!(kept.is_ok(), taken, "{lock:?} {bypass}");
        assert_eq!(policy.keep(Kept::Objects, Some(9 * DAY), &applied, None).unwrap(), 9 * DAY);
        assert_eq!(policy.keep(Kept::Objects, None, &applied, None).unwrap(), 9 * DAY);
    }
}

#[test]
fn every_quota_on_the_path_counts_and_says_whether_removed_bytes_do() {
    let top = PolicyRecord {
        quota_bytes: Some(100),
        quota_counts_removed: Some(false),
        ..PolicyRecord::default()
    };
    let low = PolicyRecord { quota_documents: Some(5), ..PolicyRecord::default() };
    let quotas = Policy::of(&chain(&[top, PolicyRecord::default(), low])).quotas;
    let shown: Vec<_> = quotas.iter().map(|quota| (&*quota.path, quota.counts_removed)).collect();
    assert_eq!(shown, [("n1", false), ("n1.n2.n3", false)]);
    assert_eq!((quotas[0].bytes, quotas[1].documents), (Some(100), Some(5)));
}

#[test]
fn a_policy_is_as_strict_as_another_when_nothing_is_kept_shorter() {
    let settings = Settings { retention: setting(), tombstone_retention: setting() };
    let policy = |record: PolicyRecord| Policy::of(&chain(&[record]));
    let locked = policy(PolicyRecord {
        lock: Some(Lock::Compliance),
        retention: Some(days(30)),
        ..PolicyRecord::default()
    });
    let longer = policy(PolicyRecord {
        lock: Some(Lock::Compliance),
        retention_min: Some(days(40)),
        ..PolicyRecord::default()
    });
    let governed = policy(PolicyRecord {
        lock: Some(Lock::Governance),
        retention: Some(days(60)),
        ..PolicyRecord::default()
    });
    assert!(longer.is_as_strict_as(&locked, &settings));
    assert!(!locked.is_as_strict_as(&longer, &settings));
    assert!(!governed.is_as_strict_as(&locked, &settings));
    let who = Caller::system("test");
    let taken = |from: &Policy, to: &Policy, bypass| {
        to.expect_as_strict(from, &settings, "it", (&who, Place::Everywhere, bypass)).is_ok()
    };
    assert!(!taken(&locked, &NOTHING, true));
    assert!(!taken(&governed, &NOTHING, false) && taken(&governed, &NOTHING, true));
    assert!(taken(&locked, &longer, false));
    // A minimum yields to nobody, and none is as good as one of nothing.
    let min = |days_min| {
        policy(PolicyRecord {
            lock: Some(Lock::Governance),
            tombstone_retention_min: Some(days(days_min)),
            ..PolicyRecord::default()
        })
    };
    assert!(!taken(&min(3), &governed, true) && !taken(&min(3), &min(2), true));
    assert!(taken(&min(3), &min(3), false) && taken(&min(0), &NOTHING, true));
}

#[test]
fn below_a_lock_nothing_is_kept_shorter_and_above_one_of_compliance_nothing_counts() {
    let lock = |lock| PolicyRecord {
        lock: Some(lock),
        retention: Some(days(30)),
        retention_max: Some(days(50)),
        ..PolicyRecord::default()
    };
    let short = PolicyRecord { retention: Some(days(2)), ..PolicyRecord::default() };
    let long = PolicyRecord { retention: Some(days(40)), ..PolicyRecord::default() };
    let low = PolicyRecord { retention_max: Some(days(1)), ..PolicyRecord::default() };
    let applied = |policies: &[PolicyRecord]| {
        Policy::of(&chain(policies)).applied(Kept::Objects, None, setting()).ms
    };
    for locked in [lock(Lock::Governance), lock(Lock::Compliance)] {
        assert_eq!(applied(&[locked.clone(), short.clone()]), 30 * DAY);
        assert_eq!(applied(&[locked.clone(), long.clone()]), 40 * DAY);
        // Neither does a maximum below it shorten anything.
        assert_eq!(applied(&[locked.clone(), low.clone()]), 30 * DAY);
        assert_eq!(applied(&[locked.clone(), low.clone(), short.clone()]), 30 * DAY);
        // A bucket's own counts if it is longer.
        let policy = Policy::of(&chain(&[locked]));
        let own = |days: u64| Some(Retention::For(Duration::from_secs(days * 86_400)));
        let by = |own| policy.applied(Kept::Objects, own, setting());
        assert_eq!(by(own(3)).ms, 30 * DAY);
        assert_eq!((by(own(45)).ms, by(own(45)).source), (45 * DAY, Source::Bucket));
        // What is to go at once is kept as long as everything.
        assert_eq!(policy.soonest(Kept::Objects, 30 * DAY), 30 * DAY);
    }
    assert_eq!(applied(&[low.clone(), lock(Lock::Governance)]), DAY);
    assert_eq!(applied(&[low, lock(Lock::Compliance)]), 30 * DAY);
    assert_eq!(NOTHING.soonest(Kept::Objects, DAY), 0);
}

#[test]
fn a_lower_maximum_is_less_strict() {
    let settings = Settings { retention: setting(), tombstone_retention: setting() };
    let with = |max| {
        let record = PolicyRecord { retention_max: max, ..PolicyRecord::default() };
        Policy::of(&chain(&[record]))
    };
    assert!(!with(Some(days(60))).is_as_strict_as(&with(None), &settings));
    assert!(!with(Some(days(60))).is_as_strict_as(&with(Some(days(61))), &settings));
    assert!(with(None).is_as_strict_as(&with(Some(days(60))), &settings));
}

#[test]
fn every_name_writes_and_reads_its_own_value() {
    let mut record = PolicyRecord::default();
    for name in Name::ALL {
        assert_eq!(Name::parse(name.text().to_uppercase().as_bytes()), Some(name));
        let value = match name {
            Name::Lock => Value::Lock(Lock::Governance),
            Name::QuotaDocuments | Name::QuotaBytes | Name::QuotaRemovedBytes => Value::Count(3),
            Name::QuotaCountsRemoved => Value::Flag(false),
            _ => Value::Keep(KeepRecord { ms: Some(5) }),
        };
        name.write(&mut record, Some(value));
        assert_eq!(name.read(&record), Some(value), "{name:?}");
    }
    for name in Name::ALL {
        name.write(&mut record, None);
        assert_eq!(name.read(&record), None);
    }
    assert!(record.is_empty());
}
