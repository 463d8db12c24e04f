//! The adversary: what somebody can read who has copies of everything and every key that still exists.
//!
//! The promise of an erasure is about this reader, so they are written down and tests run them: first before the
//! erasure, to see that they read everything, then after it, to see that they read nothing of whoever was erased.
//!
//! They do not walk the tree as the vault does. Every secret found so far is tried on every page, every value and
//! every chunk of the index, whatever the bookkeeping says it is for, so that a mistake in the bookkeeping cannot hide
//! what can be read. Pure: no file, no database. It opens no door of the vault and can do nothing that its loot could
//! not do without it.

use std::collections::{BTreeSet, HashSet};

use super::index::{self, Entry};
use super::ring::{INDEX_KEY, Place, bucket_key, index_digest, own_key};
use super::tree::{Branch, Loose};
use crate::crypto::{Key, Secret, open};
use crate::model::{FieldType, Token, TokenRow, Value};
use crate::store::index::{Chunk, Generation};
use crate::store::key::{Page, SubjectKey};

/// Everything that was taken.
#[derive(Default)]
pub struct Loot {
    /// The id of the key tree; it is no secret.
    pub tree: [u8; 16],
    /// Every version of every page, from databases and checkpoints. The same page may come in many times.
    pub pages: Vec<Page>,
    /// Every secret of 32 bytes that exists: roots, wrapping keys, signing keys, credentials.
    pub keys: Vec<Secret<32>>,
    /// Which leaf is whose, from every copy.
    pub subject_keys: Vec<SubjectKey>,
    /// Tokens with their ciphertexts, from every copy.
    pub tokens: Vec<Token>,
    /// Chunks of the index, each with its bucket as it was in the same copy.
    pub chunks: Vec<Chunk>,
    /// The generations of the index, from every copy.
    pub generations: Vec<Generation>,
}

/// What the loot comes to once every key in it has been tried on everything.
pub struct Spoils {
    tree: [u8; 16],
    generations: Vec<Generation>,
    subject_keys: Vec<SubjectKey>,
    tokens: Vec<Token>,
    branches: Vec<Branch>,
    keys: Vec<Key>,
    entries: Vec<Entry>,
    opened: usize,
    sealed: usize,
}

impl Loot {
    /// Tries every key on every page, and the keys and seeds found there as well, until nothing more opens.
    #[must_use]
    pub fn closure(self) -> Spoils {
        let Self { tree, pages, keys: mut untried, subject_keys, tokens, chunks, generations } = self;
        let mut known = HashSet::new();
        let mut sealed = distinct(pages);
        let all = sealed.len();
        let (mut branches, mut keys) = (Vec::new(), Vec::new());
        while let Some(secret) = untried.pop() {
            if !known.insert(*secret.expose()) {
                continue;
            }
            let key = Key::new(&secret);
            sealed.retain(|page| {
                let Some(page) = Loose::open(&tree, page, &key) else { return true };
                untried.extend(page.keys);
                untried.extend(page.branches.iter().map(|branch| copy(branch.seed())));
                branches.extend(page.branches);
                false
            });
            keys.push(key);
        }
        let (sealed, opened) = (sealed.len(), all - sealed.len());
        let entries = Vec::new();
        let mut spoils = Spoils { tree, generations, subject_keys, tokens, branches, keys, entries, opened, sealed };
        spoils.entries = chunks.iter().filter_map(|chunk| spoils.entries(chunk)).flatten().collect();
        spoils
    }
}

impl Spoils {
    /// The seed of a leaf, if any seed above it was found.
    #[must_use]
    pub fn leaf_seed(&self, leaf: u32) -> Option<Secret<32>> {
        self.branches.iter().find_map(|branch| branch.leaf(leaf))
    }

    /// Every seed that was found above a leaf.
    pub fn seeds_above(&self, leaf: u32) -> impl Iterator<Item = &Secret<32>> {
        self.branches.iter().filter(move |branch| branch.leaf(leaf).is_some()).map(Branch::seed)
    }

    /// The value of a token as some copy had it: by the key of the place it claims, by the keys of every other leaf
    /// that its subject ever had, and by every secret as it stands.
    #[must_use]
    pub fn value(&self, token: &Token) -> Option<Value> {
        let (place, sealed) = (Place::of(token), token.sealed.as_deref()?);
        let others = self.subject_keys.iter().filter(|key| key.subject == token.subject);
        let places = others.map(|key| Place { leaf: key.leaf, class: &key.class, key_version: key.version, ..place });
        let in_place = |place: Place<'_>| {
            let key = Key::new(&place.key(&self.leaf_seed(place.leaf)?, &self.tree));
            open(&key, &place.bind(&self.tree), sealed).ok()
        };
        let bound = place.bind(&self.tree);
        let as_it_stands = || self.keys.iter().find_map(|key| open(key, &bound, sealed).ok());
        let plain = std::iter::once(place).chain(places).find_map(in_place).or_else(as_it_stands)?;
        Value::decode(token.kind, plain.expose())
    }

    /// Every token of the loot, read or not.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Every token of the loot that can be read, with its value.
    pub fn values(&self) -> impl Iterator<Item = (&Token, Value)> {
        self.tokens.iter().filter_map(|token| Some((token, self.value(token)?)))
    }

    /// What a chunk of the index lists, if it opens.
    #[must_use]
    pub fn entries(&self, chunk: &Chunk) -> Option<Vec<Entry>> {
        let seed = self.leaf_seed(chunk.bucket.leaf);
        let derived = seed.map(|seed| Key::new(&bucket_key(&seed, &self.tree, chunk.bucket.bucket)));
        let mut keys = derived.iter().chain(&self.keys);
        keys.find_map(|key| index::open_chunk(key, &self.tree, chunk).ok())
    }

    /// Every token that any chunk of the loot lists.
    #[must_use]
    pub fn listed(&self) -> BTreeSet<TokenRow> {
        self.entries.iter().map(|entry| entry.row).collect()
    }

    /// What each index key that was found makes of a guessed value, in its normal form.
    pub fn digests(&self, kind: FieldType, normal: &[u8]) -> impl Iterator<Item = (&Generation, [u8; 32])> {
        self.generations.iter().filter_map(move |generation| {
            let key = own_key(&self.leaf_seed(generation.leaf)?, &self.tree, INDEX_KEY);
            Some((generation, index_digest(&key, kind, normal)))
        })
    }

    /// The tokens that the index lists under a guessed value, in its normal form; `None` without an index key.
    #[must_use]
    pub fn listed_under(&self, kind: FieldType, normal: &[u8]) -> Option<BTreeSet<TokenRow>> {
        let digests = self.digests(kind, normal);
        let spots: Vec<_> = digests.map(|(generation, digest)| index::spot_of(&digest, generation)).collect();
        let listed = self.entries.iter().filter(|entry| spots.contains(&entry.spot)).map(|entry| entry.row);
        (!spots.is_empty()).then(|| listed.collect())
    }

    /// Whether the index confirms a guessed value, in its normal form, for anybody; `None` without the index key.
    #[must_use]
    pub fn index_confirms(&self, kind: FieldType, normal: &[u8]) -> Option<bool> {
        self.listed_under(kind, normal).map(|rows| !rows.is_empty())
    }

    /// How many page versions opened, and how many did not.
    #[must_use]
    pub fn pages(&self) -> (usize, usize) {
        (self.opened, self.sealed)
    }
}

fn distinct(mut pages: Vec<Page>) -> Vec<Page> {
    pages.sort_unstable_by(|one, other| (one.id, &one.blob).cmp(&(other.id, &other.blob)));
    pages.dedup_by(|one, other| one.id == other.id && one.blob == other.blob);
    pages
}

fn copy(secret: &Secret<32>) -> Secret<32> {
    Secret::build(|bytes| bytes.copy_from_slice(secret.expose()))
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;
    use crate::crypto::testing::Seeded;
    use crate::keys::tree::{Puncture, Tree};

    const ID: [u8; 16] = *b"a tree to attack";

    /// All page versions ever written, as they pile up in backups, and the root of each epoch.
    struct Past {
        random: Seeded,
        tree: Tree,
        pages: Vec<Page>,
        roots: Vec<Secret<32>>,
    }

    impl Past {
        fn new(seed: u64) -> Self {
            let random = Seeded::new(seed);
            let Puncture { tree, root, written, .. } = Tree::genesis(ID, &random);
            Self { random, tree, pages: written, roots: vec![root] }
        }

        fn puncture(&mut self, ranges: &[RangeInclusive<u32>]) {
            let next = self.tree.puncture(ranges, &self.random);
            self.pages.extend(next.written);
            self.roots.push(next.root);
            self.tree = next.tree;
        }

        fn spoils(&self, roots: &[usize]) -> Spoils {
            let keys = roots.iter().map(|root| copy(&self.roots[*root])).collect();
            Loot { tree: ID, pages: self.pages.clone(), keys, ..Loot::default() }.closure()
        }
    }

    #[test]
    fn with_the_last_root_they_derive_exactly_what_the_vault_can() {
        let mut past = Past::new(1);
        past.puncture(&[20..=20]);
        past.puncture(&[21..=24, 70_000..=70_000, u32::MAX..=u32::MAX]);
        past.puncture(&[1_000..=200_000]);
        let spoils = past.spoils(&[3]);
        for leaf in (0..64).chain([999, 1_000, 70_000, 200_000, 200_001, u32::MAX - 1, u32::MAX]) {
            let (mine, theirs) = (past.tree.derive(leaf), spoils.leaf_seed(leaf));
            assert_eq!(mine.map(|seed| *seed.expose()), theirs.map(|seed| *seed.expose()), "leaf {leaf}");
        }
        let (opened, sealed) = spoils.pages();
        assert!(opened > 0 && sealed > 0, "{opened} pages opened, {sealed} did not");
    }

    #[test]
    fn with_an_old_root_they_derive_what_was_punctured_since() {
        let mut past = Past::new(2);
        past.puncture(&[20..=20]);
        past.puncture(&[21..=21]);
        assert!(past.spoils(&[2]).leaf_seed(21).is_none());
        let spoils = past.spoils(&[1, 2]);
        assert!(spoils.leaf_seed(21).is_some(), "the root before it still opens the old pages");
        assert!(spoils.leaf_seed(20).is_none());
        assert!(past.spoils(&[0]).leaf_seed(20).is_some());
    }

    #[test]
    fn without_a_key_there_is_nothing() {
        let past = Past::new(3);
        let spoils = past.spoils(&[]);
        assert_eq!(spoils.pages(), (0, 1));
        assert!(spoils.leaf_seed(0).is_none());
        assert_eq!(spoils.index_confirms(FieldType::Email, b"ada@example.com"), None);
    }
}
