//! The store contract: one suite that runs on every engine, with no exceptions per engine.
//!
//! A claim is an async function over a fresh [`Store`], listed once below. Another engine is one more line of [`engine!`].

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "one binary in several files")]

#[cfg(feature = "foundationdb")]
#[path = "../support/fdb.rs"]
#[allow(dead_code, reason = "the contract disturbs no server")]
mod fdb;
mod isolation;
mod lifecycle;
mod reads;
#[cfg(feature = "foundationdb")]
#[path = "../support/report.rs"]
#[allow(dead_code, reason = "the contract counts nothing")]
mod report;
mod savepoints;
mod schedules;
mod unknown;
mod watches;
mod writes;

use lethe::store::{EmbeddedOptions, Read, Store, Transaction};
use tempfile::TempDir;

/// A store of one engine, and what must outlive it.
#[derive(Debug)]
pub struct Fixture {
    pub store: Store,
    _folder: Option<TempDir>,
}

async fn memory() -> Option<Fixture> {
    Some(Fixture { store: Store::memory(), _folder: None })
}

async fn embedded() -> Option<Fixture> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), EmbeddedOptions::default()).await.unwrap();
    Some(Fixture { store, _folder: Some(folder) })
}

/// A prefix of its own on the server of this process; nothing where there is no server to be had.
#[cfg(feature = "foundationdb")]
async fn foundationdb() -> Option<Fixture> {
    Some(Fixture { store: fdb::shared()?.store().await, _folder: None })
}

macro_rules! claims {
    ($engine:ident; $($module:ident: $($claim:ident)*;)*) => {
        $($(
            #[tokio::test]
            async fn $claim() {
                let Some(fixture) = super::$engine().await else { return };
                super::$module::$claim(&fixture.store).await;
                fixture.store.close().await;
            }
        )*)*
    };
}

macro_rules! engine {
    ($engine:ident) => {
        mod $engine {
            claims! { $engine;
                isolation:
                    a_lost_update_conflicts
                    write_skew_conflicts
                    a_phantom_conflicts
                    a_clear_of_a_range_that_was_read_conflicts
                    what_lies_behind_the_end_of_a_page_does_not_conflict
                    snapshot_reads_do_not_conflict
                    blind_writes_do_not_conflict
                    a_transaction_that_only_reads_never_conflicts
                    all_reads_are_of_one_snapshot
                    a_snapshot_is_taken_by_the_first_read
                    a_commit_is_seen_by_every_later_transaction
                    conflict_ranges_can_be_added_by_hand
                    the_exact_conflict_sets_can_be_asked_for
                    many_tasks_lose_no_update;
                reads:
                    own_writes_are_seen_in_gets
                    own_writes_are_seen_in_ranges
                    own_writes_hide_no_conflict_but_their_own
                    ranges_go_both_ways_and_stop_at_limits
                    a_page_ends_at_its_bytes
                    pages_follow_each_other
                    a_long_range_is_read_whole
                    what_is_not_known_before_the_commit_cannot_be_read;
                savepoints:
                    what_is_taken_back_was_never_written
                    what_was_taken_back_is_not_committed_and_what_was_read_still_conflicts
                    numbers_tell_the_versionstamped_keys_of_a_transaction_apart
                    a_transaction_that_was_given_up_answers_so
                    what_is_read_with_conflict_counts_for_the_size
                    a_commit_by_hand_is_found_with_its_versionstamp
                    a_commit_by_hand_that_was_lost_never_lands
                    a_commit_by_hand_is_unknown_only_where_its_slot_may_be_gone;
                writes:
                    atomic_changes_follow_foundationdb
                    atomic_changes_do_not_conflict
                    versionstamped_keys_sort_in_commit_order
                    versionstamped_values_hold_the_commit
                    a_clear_takes_away_a_versionstamped_key_of_its_own
                    limits_are_checked_in_front
                    keys_of_the_store_itself_are_out_of_reach
                    bad_ranges_and_offsets_are_refused;
                watches:
                    a_watch_fires_when_the_value_changes
                    a_watch_does_not_fire_for_other_keys_or_the_same_value
                    a_watch_fires_for_clears_and_dropped_prefixes
                    a_watch_of_an_own_write_waits_for_the_next
                    a_watch_ends_with_the_error_of_its_commit
                    a_watch_of_a_dropped_transaction_is_cancelled
                    a_dropped_watch_gives_its_place_back
                    no_watch_misses_a_change;
                lifecycle:
                    a_snapshot_lives_five_seconds
                    a_committed_transaction_cannot_be_used
                    the_metadata_version_is_that_of_its_last_touch
                    a_dropped_prefix_is_gone_at_once_and_its_neighbours_stay
                    an_older_snapshot_still_sees_a_dropped_prefix
                    a_dropped_prefix_conflicts_with_its_readers
                    versions_only_grow
                    statistics_count
                    attempts_of_a_run_are_counted_by_how_they_end
                    a_closed_store_says_so;
                unknown:
                    a_token_finds_the_attempt_that_has_landed
                    a_token_lets_a_lost_attempt_run_again_once
                    report_hands_the_unknown_result_out
                    an_error_of_the_body_is_returned_and_nothing_is_written
                    conflicts_are_retried;
                schedules:
                    many_tasks_are_serializable;
            }

            #[test]
            fn random_schedules_are_serializable() {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                let Some(fixture) = runtime.block_on(super::$engine()) else { return };
                super::schedules::random_schedules_are_serializable(&runtime, &fixture.store);
                runtime.block_on(fixture.store.close());
            }
        }
    };
}

engine!(memory);
engine!(embedded);
#[cfg(feature = "foundationdb")]
engine!(foundationdb);

/// Writes some rows.
pub async fn put(store: &Store, rows: &[(&str, &str)]) {
    let txn = store.begin("put");
    for (key, value) in rows {
        txn.set(key.as_bytes(), value.as_bytes()).unwrap();
    }
    txn.commit().await.unwrap();
}

/// The value that a new transaction sees.
pub async fn value(store: &Store, key: &str) -> Option<String> {
    get(&store.begin("get"), key).await
}

/// The value that this transaction sees, read with conflict.
pub async fn get(txn: &Transaction, key: &str) -> Option<String> {
    let value = txn.get(key.as_bytes(), Read::Conflict).await.unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}
