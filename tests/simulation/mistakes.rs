//! Each deliberate mistake of the protocol's section 3 is found by the simulation, and each of
//! those that commands about documents could make.

use lethe::cluster::mutation::Mutation;

use crate::runner;

/// Within so many seeds.
const WITHIN: u64 = 300;

/// The mistakes, and the first seed that found each. When a change of the
/// program moves that, the others are searched.
const FOUND: &[(Mutation, u64)] = &[
    (Mutation::NoFenceConflict, 7),
    (Mutation::WitnessBeforeDrain, 1),
    (Mutation::BarrierInEarlierTransaction, 134),
    (Mutation::PurgeByName, 1),
    (Mutation::EvictWithoutCounter, 32),
    (Mutation::WorkersIgnoreEpoch, 4),
    (Mutation::FollowerIgnoresMembership, 14),
    (Mutation::LevelOneIgnoresMetadataVersion, 1),
    (Mutation::SeenIsJournalHead, 107),
    (Mutation::BusyRowsIgnored, 1),
    (Mutation::FlipIgnoresRemovalAndFence, 41),
    (Mutation::FlipIgnoresBusyRange, 134),
    (Mutation::RequestSurvivesRestore, 7),
    (Mutation::MembersWithoutShardsIgnored, 10),
    (Mutation::AbsentFenceEquals, 170),
    (Mutation::DeleteIgnoresRetain, 0),
    (Mutation::DeleteIgnoresBucketRetention, 5),
    (Mutation::SettingsLeaveHandles, 15),
    (Mutation::UndeleteIgnoresUnique, 12),
    (Mutation::UndeleteFindsExpired, 15),
    (Mutation::ExpungeIgnoresReplicas, 20),
    (Mutation::ExpungeHoldsNothing, 17),
    (Mutation::VacuumIgnoresReplicas, 4),
    (Mutation::VacuumForgetsFloor, 0),
    (Mutation::TtlByOwnClock, 12),
    (Mutation::TtlIgnoresPause, 8),
];

/// Not of the protocol's: only what a session is told is wrong then. The random
/// histories of transactions find them.
const ELSEWHERE: &[Mutation] =
    &[Mutation::UnknownIsNotCommitted, Mutation::ChangesSearchBySnapshot];

fn find(mistake: Mutation, first: u64) -> (u64, String) {
    if let Err(violated) = runner::apart(first, Some(mistake)) {
        return (first, violated);
    }
    let found = runner::first_failure(&(0..WITHIN), Some(mistake));
    found.unwrap_or_else(|| panic!("{mistake:?} was not found by {WITHIN} seeds"))
}

#[test]
fn every_mistake_is_found_within_some_hundred_seeds() {
    for (mistake, first) in FOUND {
        let (seed, violated) = find(*mistake, *first);
        println!("{mistake:?} is found by seed {seed}: {violated}");
    }
}

#[test]
fn no_mistake_is_left_out() {
    let known = |mistake: &&Mutation| {
        FOUND.iter().any(|(found, _)| found == *mistake) || ELSEWHERE.contains(mistake)
    };
    let missing: Vec<_> = Mutation::ALL.iter().filter(|mistake| !known(mistake)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
