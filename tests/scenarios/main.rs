//! The scenarios of the removal protocol on whole nodes, several in one
//! process over one store: see `support/cluster.rs`. Each runs over the store in
//! memory and, where there is one, over a FoundationDB (`foundationdb.rs`).
//!
//! A scenario is a function over the mistakes that are switched on. Each is a
//! test with none; `mutations.rs` runs them with the mistakes that they must
//! find.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "one binary in several files")]

#[path = "../support/cluster.rs"]
mod cluster;
#[cfg(feature = "foundationdb")]
#[path = "../support/fdb.rs"]
#[allow(dead_code, reason = "scenarios disturb no server")]
mod fdb;
#[cfg(feature = "foundationdb")]
mod foundationdb;
#[cfg(feature = "foundationdb")]
#[path = "../support/report.rs"]
#[allow(dead_code, reason = "scenarios count nothing")]
mod report;

/// Each as a test over the store in memory and, in `on_foundationdb`, over a FoundationDB.
macro_rules! on_each_store {
    (@memory $($test:ident: $scenario:expr;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                if let Err(violated) = Box::pin($scenario).await {
                    panic!("{violated}");
                }
            }
        )*
    };
    ($($test:ident: $scenario:expr;)*) => {
        on_each_store!(@memory $($test: $scenario;)*);

        #[cfg(feature = "foundationdb")]
        mod on_foundationdb {
            use super::*;

            $(
                #[tokio::test(start_paused = true)]
                async fn $test() {
                    crate::foundationdb::holds($scenario).await;
                }
            )*
        }
    };
}

/// The functions of a module with these names, over the store in memory: they are about what no store makes different.
macro_rules! here_in_memory {
    ($($name:ident)*) => {
        mod tests {
            $(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    if let Err(violated) = crate::cluster::patiently(super::$name()).await {
                        panic!("{violated}");
                    }
                }
            )*
        }
    };
}

/// Tests over the store in memory only, and why; where they would run over a FoundationDB, that is said.
macro_rules! only_in_memory {
    ($why:literal, $($test:ident: $scenario:expr;)*) => {
        on_each_store!(@memory $($test: $scenario;)*);

        #[cfg(feature = "foundationdb")]
        mod not_on_foundationdb {
            $(
                #[test]
                fn $test() {
                    crate::report::skipped(concat!(
                        "scenario ", stringify!($test), " over FoundationDB: ", $why
                    ));
                }
            )*
        }
    };
}

mod around;
mod barrier;
mod changes;
mod compliance;
mod copies;
mod deleted;
mod deleted_model;
mod denied;
mod elsewhere;
mod feed;
mod history;
mod indexes;
mod members;
mod mutations;
mod namespace_purge;
mod namespace_sets;
mod namespaces;
mod obey;
mod policy;
mod purge;
mod race;
mod rights;
mod seat;
mod serial;
mod sets;
mod smoke;
mod swaps;
mod time;
mod transactions;
mod ttl;
mod unknown;
mod updates;
mod writes;

use lethe::cluster::mutation::Mutations;

macro_rules! scenarios {
    ($($module:ident: $($scenario:ident)*;)*) => {
        on_each_store! {
            $($($scenario: cluster::patiently($module::$scenario(Mutations::default()));)*)*
        }
    };
}

only_in_memory! { "five seconds of tokio's clock are not five of the servers'",
    an_old_transaction_answers_so_and_keeps_nothing: cluster::patiently(
        transactions::an_old_transaction_answers_so_and_keeps_nothing(Mutations::default())
    );
}

mod timed {
    use super::{Mutations, cluster, swaps};

    only_in_memory! { "what comes due has to meet a pause of one second, and the servers' time waits for nobody",
        what_expires_waits_for_a_swap: cluster::patiently(
            swaps::what_expires_waits_for_a_swap(Mutations::default())
        );
    }
}

scenarios! {
    writes:
        an_insert_under_way_when_its_bucket_is_removed_never_lands
        a_snapshot_from_before_the_removal_never_writes_into_the_old_instance
        work_that_was_checked_before_the_removal_does_not_open_after_it
        a_batch_that_lands_after_the_purge_is_refused
        a_batch_of_a_former_incarnation_is_refused
        a_trim_under_way_is_named_and_refused
        a_renamed_bucket_is_reached_by_what_its_name_means_now;
    feed:
        who_waits_wakes_on_a_commit_of_any_node_and_on_a_removal
        a_reader_meets_each_change_once_in_the_order_of_commits
        the_changes_of_a_bucket_make_the_bucket
        a_registration_and_a_purge_at_once_are_decided_one_way
        a_silent_replica_holds_what_it_has_not_read_until_its_lease_is_over
        a_replica_keeps_the_log_from_being_trimmed_and_then_the_floor_is_told
        what_a_replica_says_with_an_unknown_result_is_done_once;
    changes:
        an_update_with_an_unknown_result_is_applied_once
        a_large_reply_is_remembered_by_its_operation
        a_deletion_with_an_unknown_result_leaves_one_tombstone
        a_change_under_way_when_its_bucket_is_removed_never_lands
        of_two_upserts_one_inserts
        deleted_documents_are_purged_when_they_have_expired
        while_a_bucket_is_removed_its_deleted_documents_do_not_expire
        a_pause_keeps_deleted_documents
        a_vacuum_under_way_is_named_and_refused;
    updates:
        each_document_is_changed_once_whatever_finds_it
        a_change_goes_on_while_its_index_goes_and_comes
        a_transaction_finds_its_changes_through_indexes
        what_is_too_large_or_too_late_changes_nothing
        cursors_of_changes_go_on_after_the_transaction
        changes_that_look_for_what_the_other_makes_do_not_miss_it
        of_many_upserts_one_inserts
        an_upsert_that_searches_in_several_batches_inserts_no_second
        a_change_of_everything_gets_through_beside_inserts;
    deleted:
        an_undeletion_with_an_unknown_result_happens_once
        an_undeletion_under_way_when_its_bucket_is_removed_never_lands
        of_an_undeletion_and_an_expunge_one_wins
        of_an_undeletion_and_a_vacuum_one_wins
        an_undeletion_meets_an_insert_of_the_same_id
        what_was_expunged_is_nowhere_in_the_store
        values_of_what_was_destroyed_leave_the_figures_of_indexes
        an_expunge_sent_again_counts_all_that_it_destroyed
        an_expunge_waits_for_replicas_with_nothing_but_a_name
        an_expunge_that_dies_half_way_is_finished_by_the_next
        a_vacuum_by_command_beside_the_worker_purges_once
        a_bucket_can_keep_deleted_documents_longer_or_not_at_all;
    ttl:
        documents_go_when_their_time_is_over
        a_deletion_by_ttl_under_way_is_named_and_refused
        a_deletion_by_ttl_goes_on_after_the_death_of_its_node
        a_ttl_stands_still_while_its_bucket_is_removed_or_purging_paused
        nothing_expires_while_the_clocks_are_suspect;
    policy:
        under_compliance_nothing_goes_before_its_time
        a_lock_ends_when_the_time_is_over
        governance_yields_to_who_says_so_and_a_minimum_to_nobody
        a_removal_keeps_the_strictest_of_then_and_now
        what_is_above_a_lock_waits_for_it
        a_policy_is_judged_in_the_commit
        a_quota_refuses_writes_and_nothing_that_makes_room
        refused_attempts_are_in_the_audit_log
        a_hold_shows_that_its_review_date_has_passed;
    around:
        a_minimum_is_left_by_no_detour
        to_where_less_is_kept_takes_the_right_to_purge
        a_lock_of_compliance_pins_what_is_in_force
        a_lock_of_governance_pins_the_defaults
        a_hold_ends_with_a_restore_only_for_who_may_lift_it
        deleted_documents_keep_what_they_lie_in_for_their_minimum
        deleted_documents_keep_what_they_lie_in_under_compliance
        to_loosen_a_policy_takes_the_right_to_purge
        a_grace_is_shortened_only_with_the_right_to_purge
        only_the_flip_lets_go_what_was_promised
        governance_is_passed_by_only_by_who_could_lift_it
        a_purge_that_waits_passes_by_no_later_lock
        what_a_command_turns_out_to_need_is_judged_in_its_commit
        a_replica_goes_on_at_a_full_quota
        what_moves_into_a_full_namespace_is_refused;
    compliance:
        no_command_destroys_what_is_under_compliance
        what_is_kept_longer_than_what_it_lies_in_keeps_it;
    barrier:
        work_beyond_the_grace_is_named_and_waited_for
        a_node_with_work_that_never_stops_gives_itself_up
        a_late_clear_leaves_the_busy_row_of_a_later_removal
        a_late_busy_row_is_not_revived
        a_late_seen_lowers_nothing
        the_busy_row_stays_until_the_last_work_ends
        what_was_not_applied_is_not_acknowledged
        a_busy_row_that_comes_before_the_flip_commits_stops_it
        barrier_not_satisfied_names_who_is_missing_and_a_retry_succeeds
        a_dead_node_does_not_block_a_purge
        a_request_is_finished_by_the_worker;
    indexes:
        a_build_misses_no_write
        a_write_begun_before_the_index_is_not_missed
        a_build_goes_on_after_the_death_of_its_node
        a_build_goes_on_with_the_next_owner_of_its_shard
        a_batch_of_a_build_under_way_is_named_and_refused
        a_restored_bucket_goes_on_with_its_builds
        a_batch_of_a_build_of_a_former_incarnation_is_refused
        a_build_that_finds_a_duplicate_fails_and_lets_writes_alone
        an_index_that_is_dropped_while_it_is_built_is_gone
        an_index_on_an_empty_bucket_is_ready_at_once
        an_analysis_goes_on_after_the_death_of_its_node
        an_index_of_older_collation_data_is_built_anew_by_the_next_write
        an_index_of_newer_collation_data_is_not_written_and_not_read;
    copies:
        a_copy_loses_no_write_and_a_swap_fails_none
        a_copy_is_its_source_key_by_key
        a_copy_is_listed_as_one
        a_copy_is_read_only_and_indexes_stay
        a_copy_goes_on_after_the_death_of_its_node
        a_copy_goes_on_with_the_next_owner_of_its_shard
        a_copy_waits_for_its_source_and_ends_with_it
        a_copy_that_ends_at_the_flip_of_its_source_leaves_nothing
        a_removed_copy_is_stopped_and_keeps_nothing
        unique_values_that_move_are_copied;
    swaps:
        a_swap_with_an_unknown_result_happens_once
        a_pause_ends_by_itself
        a_swap_that_takes_too_long_is_given_up
        a_write_before_the_swap_commits_is_in_the_copy
        after_a_swap_every_name_means_what_it_means_now
        nothing_is_left_of_what_was_deleted
        readers_of_the_log_follow_the_name
        an_open_transaction_is_told
        a_cursor_follows_the_name
        a_swap_is_refused_with_its_reason
        large_documents_are_copied_whole
        who_waits_for_changes_follows_the_name
        a_transaction_that_meets_the_pause_begins_anew
        by_chance_nothing_is_lost
        a_removal_ends_a_pause;
    members:
        a_silent_member_delays_a_purge_by_its_lease_and_is_refused_on_waking
        who_was_put_out_acknowledges_nothing
        clients_of_a_member_that_was_put_out_get_right_answers
        a_heartbeat_before_the_eviction_commits_saves_the_member
        an_outage_of_the_store_puts_nobody_out
        evictions_that_cross_leave_every_shard_with_a_member
        a_member_without_a_shard_is_waited_for
        a_member_that_joins_does_not_block_a_purge_that_waits
        a_join_before_the_flip_commits_makes_it_look_again;
    purge:
        a_request_of_an_earlier_removal_does_not_purge_a_later_one
        a_purge_touches_only_the_removal_that_it_names
        of_a_restore_and_a_purge_exactly_one_wins
        what_has_expired_is_purged_and_not_before
        a_restore_wins_over_an_expiry_under_way
        what_is_removed_without_retention_is_purged_at_once
        holds_and_pauses_keep_what_has_expired
        a_hold_before_the_flip_commits_wins
        nothing_is_purged_while_the_clocks_are_suspect
        a_reserved_name_is_taken_until_the_purge
        a_restore_gives_back_exactly_what_was_removed;
    namespaces:
        what_is_in_a_removed_namespace_is_removed_with_it
        a_moved_namespace_is_reached_by_its_new_path_only
        of_two_moves_into_each_other_one_fails
        what_a_move_rests_on_makes_it_look_again
        what_is_guarded_guards_what_is_above_it
        the_expiry_of_a_child_waits_for_what_is_above_it
        the_clocks_of_what_is_removed_stand_still
        one_bucket_comes_out_of_a_removed_namespace
        what_is_asked_for_under_wrong_clocks_is_not_put_off;
    namespace_purge:
        work_below_a_namespace_is_waited_for
        a_bucket_that_comes_out_at_the_flip_is_out_or_gone
        a_hold_below_a_namespace_before_its_flip_wins
        of_a_restore_and_a_purge_of_a_namespace_one_wins
        commands_on_namespaces_with_unknown_results_happen_once
        a_purged_namespace_goes_whole_also_over_the_death_of_its_node
        a_copy_goes_with_its_source;
    unknown:
        a_removal_that_is_tried_again_happens_once
        an_operation_is_answered_again_by_another_node
        an_increment_with_an_unknown_result_is_applied_once
        who_was_put_out_does_not_try_an_increment_again
        an_insert_with_an_unknown_result_inserts_once
        an_insert_that_is_sent_again_gets_the_stored_ids;
    transactions:
        a_removal_before_the_commit_is_what_the_commit_answers
        a_reader_hears_of_a_removal_at_its_commit
        renames_and_restores_before_the_commit_make_it_conflict
        the_conflicts_of_a_transaction_are_what_it_has_read
        of_two_that_read_what_the_other_writes_one_commits
        queries_through_an_index_see_and_claim_what_they_look_for
        cursors_go_on_after_the_transaction
        an_unknown_commit_is_found_out
        a_commit_is_safe_to_send_again
        a_command_that_fails_leaves_no_trace
        a_client_that_leaves_rolls_back;
    elsewhere:
        a_purge_that_is_sent_again_leaves_the_namesake_alone
        a_shard_without_an_owner_blocks_nothing
        a_restart_forgets_nothing_of_a_removal
        a_replica_that_registers_stops_a_vacuum_under_way
        a_replica_that_was_silent_too_long_starts_anew
        commands_of_redis_that_destroy_are_refused;
}
