//! Each deliberate mistake of the protocol's section 3 is found by the simulation, and each of
//! those that commands about documents could make.

use lethe::cluster::mutation::Mutation;

use crate::runner;

/// Within so many seeds.
const WITHIN: u64 = 300;

/// The mistakes, and the first seed that found each. When a change of the
/// program moves that, the others are searched.
const FOUND: &[(Mutation, u64)] = &[
    (Mutation::NoFenceConflict, 2),
    (Mutation::WitnessBeforeDrain, 0),
    (Mutation::BarrierInEarlierTransaction, 11),
    (Mutation::PurgeByName, 1),
    (Mutation::EvictWithoutCounter, 235),
    (Mutation::WorkersIgnoreEpoch, 0),
    (Mutation::FollowerIgnoresMembership, 9),
    (Mutation::LevelOneIgnoresMetadataVersion, 0),
    (Mutation::SeenIsJournalHead, 104),
    (Mutation::BusyRowsIgnored, 0),
    (Mutation::FlipIgnoresRemovalAndFence, 31),
    (Mutation::FlipIgnoresBusyRange, 11),
    (Mutation::RequestSurvivesRestore, 1),
    (Mutation::MembersWithoutShardsIgnored, 83),
    (Mutation::AbsentFenceEquals, 28),
    (Mutation::DeleteIgnoresRetain, 4),
    (Mutation::DeleteIgnoresBucketRetention, 5),
    (Mutation::SettingsLeaveHandles, 12),
    (Mutation::UndeleteIgnoresUnique, 12),
    (Mutation::UndeleteFindsExpired, 4),
    (Mutation::ExpungeIgnoresReplicas, 20),
    (Mutation::ExpungeHoldsNothing, 30),
    (Mutation::VacuumIgnoresReplicas, 4),
    (Mutation::VacuumForgetsFloor, 4),
    (Mutation::TtlByOwnClock, 35),
    (Mutation::TtlIgnoresPause, 6),
    (Mutation::SwapIgnoresTail, 87),
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
