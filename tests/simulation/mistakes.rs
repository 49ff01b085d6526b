//! Each deliberate mistake of the protocol's section 3 is found by the simulation, and each of
//! those that commands about documents could make.

use lethe::cluster::mutation::Mutation;

use crate::runner;

/// Within so many seeds.
const WITHIN: u64 = 300;

/// The mistakes, and the first seed that found each, by the build without optimisation: others
/// order some things otherwise. When a change of the program moves that, the others are searched.
const FOUND: &[(Mutation, u64)] = &[
    (Mutation::NoFenceConflict, 3),
    (Mutation::WitnessBeforeDrain, 1),
    (Mutation::BarrierInEarlierTransaction, 258),
    (Mutation::PurgeByName, 1),
    (Mutation::EvictWithoutCounter, 32),
    (Mutation::WorkersIgnoreEpoch, 4),
    (Mutation::FollowerIgnoresMembership, 76),
    (Mutation::LevelOneIgnoresMetadataVersion, 3),
    (Mutation::SeenIsJournalHead, 1),
    (Mutation::BusyRowsIgnored, 7),
    (Mutation::FlipIgnoresRemovalAndFence, 23),
    (Mutation::FlipIgnoresBusyRange, 258),
    (Mutation::RequestSurvivesRestore, 3),
    (Mutation::MembersWithoutShardsIgnored, 9),
    (Mutation::AbsentFenceEquals, 156),
    (Mutation::DeleteIgnoresRetain, 0),
    (Mutation::DeleteIgnoresBucketRetention, 7),
    (Mutation::SettingsLeaveHandles, 31),
    (Mutation::UndeleteIgnoresUnique, 12),
    (Mutation::UndeleteFindsExpired, 28),
    (Mutation::ExpungeIgnoresReplicas, 21),
    (Mutation::ExpungeHoldsNothing, 17),
    (Mutation::VacuumIgnoresReplicas, 4),
    (Mutation::VacuumForgetsFloor, 4),
    (Mutation::TtlByOwnClock, 207),
    (Mutation::TtlIgnoresPause, 2),
    (Mutation::SwapIgnoresTail, 4),
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
