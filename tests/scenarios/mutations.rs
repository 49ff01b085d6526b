//! Each deliberate mistake is found by a scenario, and by what it claims.

use lethe::cluster::mutation::{Mutation, Mutations};

use crate::cluster::{Claim, patiently};
use crate::{
    barrier, changes, deleted, indexes, members, purge, transactions, ttl, updates, writes,
};

/// Runs a scenario with a mistake; it must fail by this claim.
async fn found(mistake: Mutation, scenario: impl AsyncFnOnce(Mutations) -> Claim, violated: &str) {
    match patiently(scenario(Mutations::of(&[mistake]))).await {
        Ok(()) => panic!("nobody noticed {mistake:?} by '{violated}'"),
        Err(text) => assert!(text.contains(violated), "{mistake:?} was found by '{text}'"),
    }
}

macro_rules! mistakes {
    ($($test:ident: $mistake:ident, $($module:ident::$scenario:ident => $violated:literal),+;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                $(found(Mutation::$mistake, $module::$scenario, $violated).await;)+
            }
        )*

        /// The mistakes that have a test here.
        const FOUND: &[Mutation] = &[$(Mutation::$mistake),*];
    };
}

mistakes! {
    fences_are_among_the_conflicts_of_data: NoFenceConflict,
        writes::an_insert_under_way_when_its_bucket_is_removed_never_lands
            => "a write to a bucket landed after its REMOVE",
        writes::a_snapshot_from_before_the_removal_never_writes_into_the_old_instance
            => "a write landed in",
        writes::a_batch_that_lands_after_the_purge_is_refused
            => "a stopped worker's batch landed after the purge",
        writes::a_trim_under_way_is_named_and_refused => "a trim landed in a removed bucket",
        indexes::a_write_begun_before_the_index_is_not_missed
            => "a write that knows nothing of the index landed",
        indexes::a_batch_of_a_build_under_way_is_named_and_refused
            => "a batch of a build landed in a removed bucket",
        changes::a_change_under_way_when_its_bucket_is_removed_never_lands
            => "a write to a bucket landed after its REMOVE",
        deleted::an_undeletion_under_way_when_its_bucket_is_removed_never_lands
            => "a write to a bucket landed after its REMOVE",
        ttl::a_deletion_by_ttl_under_way_is_named_and_refused
            => "a deletion landed in a removed bucket",
        changes::a_vacuum_under_way_is_named_and_refused
            => "a vacuum landed in a removed bucket",
        transactions::a_removal_before_the_commit_is_what_the_commit_answers
            => "a write to a bucket landed after its REMOVE";
    witnesses_come_after_the_drain: WitnessBeforeDrain,
        barrier::work_beyond_the_grace_is_named_and_waited_for => "answered 'OK'",
        writes::work_that_was_checked_before_the_removal_does_not_open_after_it
            => "answered 'OK'";
    the_flip_evaluates_the_barrier_itself: BarrierInEarlierTransaction,
        members::a_join_before_the_flip_commits_makes_it_look_again
            => "the flip committed though a member had joined",
        barrier::a_busy_row_that_comes_before_the_flip_commits_stops_it
            => "the flip committed against a busy row";
    a_purge_is_bound_to_its_removal: PurgeByName,
        purge::a_purge_touches_only_the_removal_that_it_names
            => "";
    an_eviction_reads_the_counter_again: EvictWithoutCounter,
        members::a_heartbeat_before_the_eviction_commits_saves_the_member
            => "a member was put out though its heart beats";
    workers_work_under_their_epoch: WorkersIgnoreEpoch,
        writes::a_batch_of_a_former_incarnation_is_refused
            => "a write of a former incarnation landed beside the new one",
        indexes::a_batch_of_a_build_of_a_former_incarnation_is_refused
            => "a batch of a former incarnation landed";
    the_follower_is_a_member: FollowerIgnoresMembership,
        members::who_was_put_out_acknowledges_nothing => "B is no member and has reported";
    handles_are_checked_when_metadata_have_changed: LevelOneIgnoresMetadataVersion,
        writes::a_renamed_bucket_is_reached_by_what_its_name_means_now
            => "instead of 'NOSUCHBUCKET";
    seen_is_what_was_applied: SeenIsJournalHead,
        barrier::what_was_not_applied_is_not_acknowledged => "answered 'OK'";
    busy_rows_count: BusyRowsIgnored,
        barrier::work_beyond_the_grace_is_named_and_waited_for => "answered 'OK'";
    the_flip_conflicts_with_a_restore: FlipIgnoresRemovalAndFence,
        purge::of_a_restore_and_a_purge_exactly_one_wins => "both won: the flip landed";
    the_flip_conflicts_with_busy_rows: FlipIgnoresBusyRange,
        barrier::a_busy_row_that_comes_before_the_flip_commits_stops_it
            => "the flip committed against a busy row";
    a_restore_takes_the_request_away: RequestSurvivesRestore,
        purge::a_request_of_an_earlier_removal_does_not_purge_a_later_one
            => "an old request purged a later removal";
    members_without_shards_count: MembersWithoutShardsIgnored,
        members::a_member_without_a_shard_is_waited_for => "answered 'OK'";
    an_unknown_commit_is_looked_up: UnknownIsNotCommitted,
        transactions::an_unknown_commit_is_found_out => "COMMIT answered 'NOT_COMMITTED";
    changes_claim_what_they_found: ChangesSearchBySnapshot,
        updates::changes_that_look_for_what_the_other_makes_do_not_miss_it => "it missed one";
    an_absent_fence_equals_nothing: AbsentFenceEquals,
        members::clients_of_a_member_that_was_put_out_get_right_answers
            => "instead of 'NOSUCHBUCKET";
}

/// Those of commands about documents: the simulation finds them.
const ELSEWHERE: &[Mutation] = &[
    Mutation::DeleteIgnoresRetain,
    Mutation::DeleteIgnoresBucketRetention,
    Mutation::SettingsLeaveHandles,
    Mutation::UndeleteIgnoresUnique,
    Mutation::UndeleteFindsExpired,
    Mutation::ExpungeIgnoresReplicas,
    Mutation::ExpungeHoldsNothing,
    Mutation::VacuumIgnoresReplicas,
    Mutation::VacuumForgetsFloor,
    Mutation::TtlByOwnClock,
    Mutation::TtlIgnoresPause,
    Mutation::SwapIgnoresTail,
];

#[test]
fn every_mistake_has_a_test() {
    let known = |mistake: &&Mutation| FOUND.contains(mistake) || ELSEWHERE.contains(mistake);
    let missing: Vec<_> = Mutation::ALL.iter().filter(|mistake| !known(mistake)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
