//! What a sink may drop.

use std::collections::HashMap;

use super::Name;

/// How many whole checkpoints are kept on the way back from the present one: that which it needs, and the one before for
/// whoever investigates.
const WHOLE: u8 = 2;

/// The checkpoints that nothing needs once the slot stands at the root `present`. None when there is no checkpoint of
/// that root: then this is not the sink that can tell.
///
/// Whatever is of that epoch or a later one stays, with all that it goes on from. So a writer that has slept for a long
/// time, and takes an old root for the present one, removes nothing that a later root needs. What an attempt left that
/// never came to be is of an earlier epoch then, nothing goes on from it, and it goes.
pub fn obsolete(names: &[Name], present: &[u8; 16]) -> Vec<Name> {
    let Some(epoch) = names.iter().find(|name| name.root_id == *present).map(|name| name.epoch) else {
        return Vec::new();
    };
    let mut open: Vec<(&Name, u8)> =
        names.iter().filter(|name| name.epoch >= epoch).map(|name| (name, WHOLE)).collect();
    let mut kept: HashMap<&[u8; 16], u8> = HashMap::new();
    while let Some((name, whole)) = open.pop() {
        let left = whole - u8::from(name.whole);
        if kept.get(&name.digest).is_some_and(|before| *before >= left) {
            continue;
        }
        kept.insert(&name.digest, left);
        if left > 0 {
            let before = |other: &&Name| other.digest == name.before && other.epoch < name.epoch;
            open.extend(names.iter().filter(before).map(|other| (other, left)));
        }
    }
    names.iter().filter(|name| !kept.contains_key(&name.digest)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint of an epoch, whose bytes are its number.
    fn name(epoch: u8, before: Option<&Name>, whole: bool) -> Name {
        Name::of(epoch.into(), [epoch; 16], &[epoch], before, whole)
    }

    fn epochs(names: &[Name]) -> Vec<u64> {
        names.iter().map(|name| name.epoch).collect()
    }

    /// 0 whole, 1, 2; 3 whole, 4; 5 was an attempt; 6 whole, 7; 8 is prepared.
    fn history() -> Vec<Name> {
        let mut names: Vec<Name> = Vec::new();
        for (epoch, before, whole) in [
            (0, None, true),
            (1, Some(0), false),
            (2, Some(1), false),
            (3, Some(2), true),
            (4, Some(3), false),
            (5, Some(4), false),
            (6, Some(4), true),
            (7, Some(6), false),
            (8, Some(7), false),
        ] {
            names.push(name(epoch, before.map(|at: usize| &names[at]), whole));
        }
        names
    }

    #[test]
    fn the_present_chain_and_the_one_before_it_stay() {
        assert_eq!(epochs(&obsolete(&history(), &[7; 16])), [0, 1, 2, 5]);
        assert_eq!(epochs(&obsolete(&history(), &[4; 16])), [] as [u64; 0]);
    }

    #[test]
    fn one_that_takes_an_old_root_for_the_present_one_removes_nothing_that_is_needed() {
        for old in 0..7 {
            let gone = epochs(&obsolete(&history(), &[old; 16]));
            assert!(gone.iter().all(|epoch| ![6, 7, 8].contains(epoch)), "{old}: {gone:?}");
        }
    }

    #[test]
    fn a_sink_without_the_present_checkpoint_drops_nothing() {
        assert_eq!(obsolete(&history(), &[9; 16]), []);
    }

    #[test]
    fn every_checkpoint_of_the_present_root_keeps_what_it_needs() {
        let mut names = history();
        let again = Name::of(7, [7; 16], b"written once more", None, true);
        names.push(again.clone());
        let gone = obsolete(&names, &[7; 16]);
        assert_eq!(epochs(&gone), [0, 1, 2, 5]);
        assert!(!gone.contains(&again));
    }
}
