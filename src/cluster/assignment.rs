//! Who should own which shard.

use std::collections::BTreeMap;

/// Spreads the shards evenly over the members and moves as few as it can.
///
/// `owners` tells for each shard which member owns it now; `None` when nobody
/// does. Gives the wished owner of each shard: the same for everybody who asks
/// with the same members and owners, and the present ones when they are even.
/// With no members nobody owns anything.
pub(super) fn assign<'a>(
    members: impl IntoIterator<Item = &'a str>,
    owners: &BTreeMap<u16, Option<&'a str>>,
) -> BTreeMap<u16, &'a str> {
    let mut owned: BTreeMap<&str, usize> = members.into_iter().map(|node| (node, 0)).collect();
    if owned.is_empty() {
        return BTreeMap::new();
    }
    for owner in owners.values().flatten() {
        if let Some(count) = owned.get_mut(owner) {
            *count += 1;
        }
    }
    let (share, extra) = (owners.len() / owned.len(), owners.len() % owned.len());
    // Who has most may keep one more than the others.
    let mut order: Vec<(&str, usize)> = owned.into_iter().collect();
    order.sort_by_key(|&(node, count)| (std::cmp::Reverse(count), node));
    let mut room: BTreeMap<&str, usize> = order
        .iter()
        .enumerate()
        .map(|(rank, &(node, _))| (node, share + usize::from(rank < extra)))
        .collect();
    let mut wished = BTreeMap::new();
    let mut homeless = Vec::new();
    for (&shard, owner) in owners {
        match owner.and_then(|owner| room.get_key_value_mut(owner)) {
            Some((node, left)) if *left > 0 => {
                *left -= 1;
                wished.insert(shard, node);
            }
            Some(_) | None => homeless.push(shard),
        }
    }
    let places = order
        .iter()
        .flat_map(|&(node, _)| std::iter::repeat_n(node, room.get(node).copied().unwrap_or(0)));
    wished.extend(homeless.into_iter().zip(places));
    wished
}

/// As `get_mut`, with the key as it stands in the map.
trait KeyValueMut<'a> {
    fn get_key_value_mut(&mut self, key: &str) -> Option<(&'a str, &mut usize)>;
}

impl<'a> KeyValueMut<'a> for BTreeMap<&'a str, usize> {
    fn get_key_value_mut(&mut self, key: &str) -> Option<(&'a str, &mut usize)> {
        let node = *self.get_key_value(key)?.0;
        self.get_mut(key).map(|left| (node, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owners(list: &[Option<&'static str>]) -> BTreeMap<u16, Option<&'static str>> {
        (0..).zip(list.iter().copied()).collect()
    }

    fn check(members: &[&'static str], before: &[Option<&'static str>], after: &[&str]) {
        let wished = assign(members.iter().copied(), &owners(before));
        assert_eq!(wished.into_values().collect::<Vec<_>>(), after);
    }

    #[test]
    fn one_member_owns_everything() {
        check(&["a"], &[None, None, None], &["a", "a", "a"]);
        check(&["a"], &[Some("gone"), Some("a")], &["a", "a"]);
    }

    #[test]
    fn a_joiner_gets_its_share_and_nothing_else_moves() {
        let a = Some("a");
        check(&["a", "b"], &[a; 7], &["a", "a", "a", "a", "b", "b", "b"]);
        check(&["a", "b"], &[Some("b"), a, Some("b")], &["b", "a", "b"]);
    }

    #[test]
    fn more_members_than_shards_leaves_some_without() {
        check(&["a", "b", "c"], &[Some("c")], &["c"]);
        check(&["a", "b", "c"], &[None, None], &["a", "b"]);
    }

    #[test]
    fn without_members_there_is_no_owner() {
        assert!(assign([], &owners(&[Some("a")])).is_empty());
    }

    proptest! {
        #[test]
        fn every_shard_has_an_owner_evenly_and_step_by_step_leads_there(
            members in 1..6_usize,
            shards in prop::collection::vec(prop::option::of(0..8_usize), 1..20),
        ) {
            const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let nodes = &NAMES[..members];
            let list: Vec<_> = shards.iter().map(|owner| owner.map(|index| NAMES[index])).collect();
            let mut owners = owners(&list);
            let wished = assign(nodes.iter().copied(), &owners);
            prop_assert_eq!(wished.len(), owners.len());
            let count = |node: &str| wished.values().filter(|owner| **owner == node).count();
            let counts: Vec<usize> = nodes.iter().map(|node| count(node)).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            // Members give away one shard after the other: the wishes do not change, and it ends.
            for shard in wished.keys().copied().collect::<Vec<_>>() {
                let now = assign(nodes.iter().copied(), &owners);
                owners.insert(shard, Some(now[&shard]));
            }
            let settled: BTreeMap<u16, &str> =
                owners.iter().map(|(shard, owner)| (*shard, owner.unwrap())).collect();
            prop_assert_eq!(assign(nodes.iter().copied(), &owners), settled);
        }
    }
}
