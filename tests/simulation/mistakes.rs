//! Each deliberate mistake of the protocol's section 3 is found by the simulation.

use lethe::cluster::mutation::Mutation;

use crate::runner;

/// Within so many seeds.
const WITHIN: u64 = 300;

/// Which seed finds it, of those that were tried first.
const FOUND: &[(Mutation, u64)] = &[];

fn find(mistake: Mutation, first: u64) -> (u64, String) {
    if let Err(violated) = runner::apart(first, Some(mistake)) {
        return (first, violated);
    }
    let found = runner::first_failure(&(0..WITHIN), Some(mistake));
    found.unwrap_or_else(|| panic!("{mistake:?} was not found by {WITHIN} seeds"))
}

#[test]
fn every_mistake_is_found_within_some_hundred_seeds() {
    for mistake in Mutation::ALL {
        let known = FOUND.iter().find(|(known, _)| known == mistake);
        let (seed, violated) = find(*mistake, known.map_or(0, |(_, seed)| *seed));
        println!("{mistake:?} is found by seed {seed}: {violated}");
    }
}
