//! Merkle tree hashes as in RFC 6962, section 2.1: leaves and nodes are hashed under different prefixes, so that
//! neither can be passed off as the other.

use super::derive::sha256;

const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

/// The hash of one entry.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> [u8; 32] {
    sha256(&[LEAF, entry])
}

/// The root over `leaves`, which are leaf hashes in order; over none, it is the SHA-256 of nothing.
#[must_use]
pub fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [only] => *only,
        several => {
            // The left side holds the largest power of two that leaves something for the right.
            let (left, right) = several.split_at(several.len().next_power_of_two() / 2);
            node(&root(left), &root(right))
        }
    }
}

/// The hash of a node over the roots of its two sides.
fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[NODE, left, right])
}

/// The roots of the complete trees that a log consists of so far, the largest first: all that is needed to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<[u8; 32]>,
}

impl Frontier {
    /// One that was kept; `None` when there are more or fewer roots than a log of this size has.
    #[must_use]
    pub fn of(size: u64, roots: Vec<[u8; 32]>) -> Option<Self> {
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    /// How many leaves there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots.
    #[must_use]
    pub fn roots(&self) -> &[[u8; 32]] {
        &self.roots
    }

    /// Which leaves each root is over, from and to.
    fn parts(&self) -> impl Iterator<Item = ((u64, u64), [u8; 32])> {
        let sizes = (0..u64::BITS).rev().map(|bit| 1_u64 << bit).filter(|bit| self.size & bit != 0);
        sizes.zip(&self.roots).scan(0, |at, (size, root)| {
            let from = *at;
            *at += size;
            Some(((from, *at), *root))
        })
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: [u8; 32]) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                hash = node(&left, &hash);
            }
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// The root of the whole log.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        let mut smaller = self.roots.iter().rev();
        let Some(last) = smaller.next() else { return root(&[]) };
        smaller.fold(*last, |right, left| node(left, &right))
    }
}

/// The proof that a leaf is in a log: the roots of what lies beside its way up (RFC 9162, section 2.1.3), the lowest
/// first. The log begins with what `frontier` stands for, of which single leaves are not known; `leaves` follow it. `None` when
/// the leaf is not among those.
#[must_use]
pub fn prove(frontier: &Frontier, leaves: &[[u8; 32]], index: u64) -> Option<Vec<[u8; 32]>> {
    let size = frontier.size + leaves.len() as u64;
    if index < frontier.size || index >= size {
        return None;
    }
    let mut path = Vec::new();
    let (mut from, mut to) = (0, size);
    while to - from > 1 {
        let middle = from + split(to - from);
        let beside = if index < middle { (middle, to) } else { (from, middle) };
        path.push(subtree(frontier, leaves, beside)?);
        (from, to) = if index < middle { (from, middle) } else { (middle, to) };
    }
    path.reverse();
    Some(path)
}

/// How many leaves are on the left side: the largest power of two that leaves something for the right.
const fn split(size: u64) -> u64 {
    size.next_power_of_two() / 2
}

/// The root over a part of a log.
fn subtree(frontier: &Frontier, leaves: &[[u8; 32]], (from, to): (u64, u64)) -> Option<[u8; 32]> {
    if from >= frontier.size {
        let first = usize::try_from(from - frontier.size).ok()?;
        let end = usize::try_from(to - frontier.size).ok()?;
        return leaves.get(first..end).map(root);
    }
    if let Some((_, known)) = frontier.parts().find(|(part, _)| *part == (from, to)) {
        return Some(known);
    }
    if to - from < 2 {
        return None;
    }
    let middle = from + split(to - from);
    Some(node(&subtree(frontier, leaves, (from, middle))?, &subtree(frontier, leaves, (middle, to))?))
}

/// The root that follows from a leaf, its place, the size of the log and a proof (RFC 9162, section 2.1.3.2). `None` when
/// the proof does not have the right length.
#[must_use]
pub fn follow(leaf: [u8; 32], index: u64, size: u64, path: &[[u8; 32]]) -> Option<[u8; 32]> {
    if index >= size {
        return None;
    }
    let (mut hash, mut at, mut last) = (leaf, index, size - 1);
    for beside in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            hash = node(beside, &hash);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            hash = node(&hash, beside);
        }
        (at, last) = (at / 2, last / 2);
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// The entries and roots that the reference implementation of certificate transparency tests with
    /// (`merkletree/merkle_tree_test.cc`); the first root is that of no entry at all.
    const ENTRIES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn agrees_with_the_reference() {
        let decode = |entry: &&str| leaf_hash(&HEXLOWER.decode(entry.as_bytes()).unwrap());
        let leaves: Vec<_> = ENTRIES.iter().map(decode).collect();
        for (count, expected) in ROOTS.iter().enumerate() {
            assert_eq!(&HEXLOWER.encode(&root(&leaves[..count])), expected, "{count} leaves");
        }
    }

    fn leaf(n: usize) -> [u8; 32] {
        leaf_hash(&n.to_be_bytes())
    }

    #[test]
    fn a_frontier_has_the_root_of_the_whole_log() {
        let (mut frontier, mut leaves) = (Frontier::default(), Vec::new());
        for n in 0..130 {
            assert_eq!(frontier.root(), root(&leaves), "{n} leaves");
            assert_eq!(Frontier::of(frontier.size(), frontier.roots().to_vec()), Some(frontier.clone()));
            frontier.push(leaf(n));
            leaves.push(leaf(n));
        }
        assert_eq!(Frontier::of(3, vec![leaf(0)]), None);
    }

    #[test]
    fn each_leaf_is_proven_also_when_what_came_before_is_gone() {
        for size in 1..40 {
            let leaves: Vec<_> = (0..size).map(leaf).collect();
            let whole = root(&leaves);
            for cut in 0..size {
                let mut frontier = Frontier::default();
                for leaf in &leaves[..cut] {
                    frontier.push(*leaf);
                }
                for index in 0..size as u64 {
                    let path = prove(&frontier, &leaves[cut..], index);
                    assert_eq!(path.is_some(), index >= cut as u64, "leaf {index} of {size}, cut at {cut}");
                    let Some(path) = path else { continue };
                    let of = leaves[usize::try_from(index).unwrap()];
                    assert_eq!(follow(of, index, size as u64, &path), Some(whole));
                    assert_ne!(follow(leaf(1000), index, size as u64, &path), Some(whole));
                    for other in (0..size as u64).filter(|other| *other != index) {
                        assert_ne!(follow(of, other, size as u64, &path), Some(whole), "not in another place");
                    }
                    let longer: Vec<_> = path.iter().copied().chain([leaf(7)]).collect();
                    assert_ne!(follow(of, index, size as u64, &longer), Some(whole));
                }
            }
        }
    }
}
