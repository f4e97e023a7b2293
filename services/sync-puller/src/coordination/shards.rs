//! Which shard a source is in, and which member should hold which shard: the
//! same in every process, without a word between them.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use transport::Address;

/// The shard that a source is in, of `shards`.
pub(crate) fn shard_of(source: &Address, shards: u32) -> u32 {
    u32::try_from(weight(source.to_string().as_bytes()) % u64::from(shards)).unwrap_or_default()
}

/// The member that should hold each shard: every one of `members` as many as
/// any other, or one more. A member that comes or goes moves few shards beside
/// those that it gets or leaves, as each pair of a shard and a member has a
/// weight of its own, and the heaviest pairs come first (rendezvous hashing).
pub(super) fn assign(shards: u32, members: &BTreeSet<String>) -> Vec<String> {
    let names: Vec<_> = members.iter().collect();
    let Ok(count) = u32::try_from(names.len()) else { return Vec::new() };
    if count == 0 {
        return Vec::new();
    }
    let mut pairs: Vec<_> = (0..shards)
        .flat_map(|shard| names.iter().enumerate().map(move |(member, name)| (shard, member, name)))
        .map(|(shard, member, name)| (weight(format!("{shard}/{name}").as_bytes()), shard, member))
        .collect();
    pairs.sort_unstable();
    let (each, mut one_more) = (shards / count, shards % count);
    let mut load = vec![0; names.len()];
    let mut assigned = vec![None; shards as usize];
    for (_, shard, member) in pairs.into_iter().rev() {
        let is_full = load[member] > each || load[member] == each && one_more == 0;
        if assigned[shard as usize].is_some() || is_full {
            continue;
        }
        one_more -= u32::from(load[member] == each);
        load[member] += 1;
        assigned[shard as usize] = Some(names[member].clone());
    }
    // There is room for exactly so many, so none is left.
    assigned.into_iter().flatten().collect()
}

/// Not the standard library's hash, which may change with its version.
fn weight(of: &[u8]) -> u64 {
    Sha256::digest(of).iter().take(8).fold(0, |weight, byte| weight << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn members(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<String> {
        numbers.into_iter().map(|number| format!("puller-{number}")).collect()
    }

    fn moved(before: &[String], after: &[String]) -> usize {
        before.iter().zip(after).filter(|(before, after)| before != after).count()
    }

    #[test]
    fn a_source_is_in_the_same_shard_in_every_version() {
        let shard = |text: &str| shard_of(&text.parse().unwrap(), 32);
        assert_eq!([shard("10.0.0.1"), shard("site2:41122"), shard("[::1]:41121")], [28, 23, 13]);
    }

    #[test]
    fn sources_are_in_all_shards_about_alike() {
        let mut found = BTreeMap::<u32, u32>::new();
        for site in 0..3200 {
            *found.entry(shard_of(&format!("site-{site}").parse().unwrap(), 32)).or_default() += 1;
        }
        assert_eq!(found.len(), 32);
        assert!(found.values().all(|sources| (60..=140).contains(sources)), "{found:?}");
    }

    #[test]
    fn nobody_is_assigned_where_there_is_nobody() {
        assert!(assign(32, &BTreeSet::new()).is_empty());
    }

    proptest! {
        #[test]
        fn shards_are_spread_evenly(shards in 1u32..300, numbers in prop::collection::btree_set(0u32..1000, 1..20)) {
            let members = members(numbers);
            let assigned = assign(shards, &members);
            prop_assert_eq!(assigned.len(), shards as usize);
            let each = shards as usize / members.len();
            for member in &members {
                let load = assigned.iter().filter(|one| *one == member).count();
                prop_assert!(load == each || load == each + 1, "{} of {}", load, shards);
            }
        }

        #[test]
        fn a_member_that_comes_or_goes_moves_few_shards(first in 0u32..1000, count in 2u32..12) {
            let few = members(first..first + count - 1);
            let many = members(first..first + count);
            let moved = moved(&assign(128, &few), &assign(128, &many));
            let least = 128 / count as usize;
            prop_assert!(moved >= least && moved <= 2 * least + 16, "{} of 128 with {}", moved, count);
        }
    }
}
