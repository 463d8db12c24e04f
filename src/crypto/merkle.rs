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
            sha256(&[NODE, &root(left), &root(right)])
        }
    }
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
}
