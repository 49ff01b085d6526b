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
    (Mutation::BarrierInEarlierTransaction, 252),
    (Mutation::PurgeByName, 7),
    (Mutation::EvictWithoutCounter, 99),
    (Mutation::WorkersIgnoreEpoch, 4),
    (Mutation::FollowerIgnoresMembership, 38),
    (Mutation::LevelOneIgnoresMetadataVersion, 2),
    (Mutation::SeenIsJournalHead, 181),
    (Mutation::BusyRowsIgnored, 7),
    (Mutation::FlipIgnoresRemovalAndFence, 59),
    (Mutation::FlipIgnoresBusyRange, 252),
    (Mutation::RequestSurvivesRestore, 9),
    (Mutation::MembersWithoutShardsIgnored, 12),
    (Mutation::AbsentFenceEquals, 4),
    (Mutation::DeleteIgnoresRetain, 0),
    (Mutation::DeleteIgnoresBucketRetention, 4),
    (Mutation::SettingsLeaveHandles, 31),
    (Mutation::UndeleteIgnoresUnique, 28),
    (Mutation::UndeleteFindsExpired, 28),
    (Mutation::ExpungeIgnoresReplicas, 4),
    (Mutation::ExpungeHoldsNothing, 30),
    (Mutation::VacuumIgnoresReplicas, 4),
    (Mutation::VacuumForgetsFloor, 4),
    (Mutation::TtlByOwnClock, 35),
    (Mutation::TtlIgnoresPause, 40),
    (Mutation::SwapIgnoresTail, 22),
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
