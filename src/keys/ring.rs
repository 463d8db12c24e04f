//! The keyring: derives, keeps and drops the keys of the tree, and seals and opens values with them.

use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::sync::Cache;

use super::house::HouseKey;
use super::tree::Tree;
use crate::crypto::{Aad, BlockKey, Key, Random, Secret, derive, open, scrub_stack, seal};
use crate::model::{Error, FieldType, OpaqueToken, Reason, Result, SubjectId, Token, TokenRow, Value};
use crate::policy::Permit;

/// Leaf of the key behind opaque tokens.
const TOKEN_LEAF: u32 = 0;
/// Leaf of the first key that names index buckets. Later ones are under leaves like any other.
pub(super) const INDEX_LEAF: u32 = 1;
/// The name of such a key.
pub(super) const INDEX_KEY: &str = "index";
/// Leaf of the other keys of the vault's own.
pub(super) const HOUSE_LEAF: u32 = 2;
/// The first leaf that is not reserved for the vault's own keys.
pub const FIRST_LEAF: u32 = 16;

/// How many subjects' keys are kept ready. Each takes about a kilobyte.
const CACHED_KEYS: usize = 16_384;

/// Where a value belongs: all that its seal is bound to.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The token's row.
    pub row: TokenRow,
    /// Whose value.
    pub subject: SubjectId,
    /// What the value is.
    pub kind: FieldType,
    /// Retention class.
    pub class: &'a str,
    /// The leaf of the subject's key for that class.
    pub leaf: u32,
    /// The version of that key.
    pub key_version: u32,
    /// Which value of the token it is.
    pub version: u64,
}

impl<'a> Place<'a> {
    /// The place that a row says its value is in.
    #[must_use]
    pub fn of(token: &'a Token) -> Self {
        Self {
            row: token.row,
            subject: token.subject,
            kind: token.kind,
            class: &token.class,
            leaf: token.leaf,
            key_version: token.key_version,
            version: token.version,
        }
    }

    /// The key of the place, from the seed of its leaf.
    pub(super) fn key(&self, seed: &Secret<32>, tree: &[u8; 16]) -> Secret<32> {
        derive::subject_key(seed, tree, self.subject.as_bytes(), self.class, self.key_version)
    }

    /// What the seal of a value is bound to.
    pub(super) fn bind(&self, tree: &[u8; 16]) -> Aad {
        Aad::new("lacuna/field/v1")
            .bytes(tree)
            .bytes(self.subject.as_bytes())
            .number(self.leaf.into())
            .text(self.class)
            .number(self.key_version.into())
            .bytes(self.row.as_bytes())
            .number(self.kind.number().cast_unsigned().into())
            .number(self.version)
    }
}

/// The tree at an epoch.
#[derive(Clone)]
pub struct Epoch {
    /// The keys.
    pub tree: Tree,
    /// How many roots came before.
    pub number: u64,
}

/// All that a subject's key follows from: its leaf, whose it is, for which class, in which version. A ready key must be
/// found under nothing less, or a value would be sealed under a key that nobody derives again.
type Name = (u32, SubjectId, Box<str>, u32);

/// The keys that this process holds.
pub struct Keyring {
    tree: [u8; 16],
    random: Arc<dyn Random>,
    /// `None` while this process must not use them.
    epoch: RwLock<Option<Epoch>>,
    ready: Cache<Name, Arc<Key>>,
    tokens: BlockKey,
    /// The keys of the search index, by their leaves: one, or two while it is rotated.
    indexes: RwLock<Vec<(u32, Arc<Secret<32>>)>>,
    /// Keys of the vault's own that were needed.
    pub(super) house: RwLock<Vec<(HouseKey, Arc<Secret<32>>)>>,
}

impl Keyring {
    /// Takes a tree that has been opened.
    ///
    /// # Errors
    /// `Internal` when the key behind tokens is punctured, which nothing does.
    pub fn new(epoch: Epoch, random: Arc<dyn Random>) -> Result<Self> {
        let tree = epoch.tree.id();
        let seed = epoch.tree.derive(TOKEN_LEAF).ok_or_else(|| Error::internal("the token key is punctured"))?;
        let tokens = BlockKey::new(&own_key(&seed, &tree, "token"));
        let (ready, indexes) = (Cache::new(CACHED_KEYS), RwLock::new(Vec::new()));
        let house = RwLock::new(Vec::new());
        Ok(Self { tree, random, ready, tokens, indexes, house, epoch: RwLock::new(Some(epoch)) })
    }

    /// The tree as it is now.
    ///
    /// # Errors
    /// `StoreUnavailable` while this process holds no keys, because it must not use them.
    pub(super) fn epoch(&self) -> Result<Epoch> {
        let held = self.epoch.read().unwrap_or_else(PoisonError::into_inner).clone();
        held.ok_or_else(|| {
            Error::new(Reason::StoreUnavailable, "this node holds no keys until it is back in touch with the database")
        })
    }

    /// Replaces the tree. What was derived from the old one is to be dropped with [`Keyring::forget`], once the
    /// flights that may still derive from it have landed.
    pub(super) fn replace(&self, epoch: Epoch) {
        *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = Some(epoch);
    }

    /// Whether the key of a leaf can still be derived.
    pub fn is_live(&self, leaf: u32) -> Result<bool> {
        Ok(self.epoch()?.tree.is_live(leaf))
    }

    /// Drops the ready keys of punctured leaves.
    pub fn forget(&self) {
        let Ok(epoch) = self.epoch() else { return };
        self.ready.retain(|(leaf, ..), _| epoch.tree.is_live(*leaf));
        self.indexes.write().unwrap_or_else(PoisonError::into_inner).retain(|(leaf, _)| epoch.tree.is_live(*leaf));
    }

    /// Drops every key of a person, until [`Keyring::replace`].
    pub(super) fn drop_keys(&self) {
        *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.ready.clear();
        self.indexes.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.house.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The source of randomness that keys and nonces are drawn from.
    #[must_use]
    pub fn random(&self) -> &dyn Random {
        &*self.random
    }

    /// Seals a value into its place.
    ///
    /// # Errors
    /// `KeyRetired` when the key is gone.
    pub fn seal(&self, place: &Place<'_>, value: &Value) -> Result<Vec<u8>> {
        let sealed = self.seal_below(place, value);
        scrub_stack();
        sealed
    }

    #[inline(never)]
    fn seal_below(&self, place: &Place<'_>, value: &Value) -> Result<Vec<u8>> {
        let key = self.key(place)?.ok_or_else(|| gone(place))?;
        Ok(seal(&key, place.leaf.into(), &place.bind(&self.tree), value.encode().expose(), &*self.random))
    }

    /// Opens the value that a permit is for.
    ///
    /// # Errors
    /// `KeyRetired` when the key or the ciphertext is gone: with the person, or with a rotation, which the row tells;
    /// `SealBroken` when the ciphertext is not the one that was sealed there.
    pub fn open(&self, permit: &Permit, token: &Token) -> Result<Value> {
        let opened = self.open_below(permit, token);
        scrub_stack();
        opened
    }

    #[inline(never)]
    fn open_below(&self, permit: &Permit, token: &Token) -> Result<Value> {
        let place = Place::of(token);
        if permit.row() != place.row {
            return Err(Error::internal("a permit was used for another token"));
        }
        let sealed = token.sealed.as_deref().ok_or_else(|| gone(&place))?;
        let key = self.key(&place)?.ok_or_else(|| gone(&place))?;
        let plain = open(&key, &place.bind(&self.tree), sealed).map_err(|broken| damaged(broken.to_string()))?;
        Value::decode(place.kind, plain.expose()).ok_or_else(|| damaged("it opened and makes no sense".to_owned()))
    }

    /// The opaque token of a row: one cipher block, so that it tells neither order nor time.
    #[must_use]
    pub fn opaque(&self, row: TokenRow) -> OpaqueToken {
        OpaqueToken::from_bytes(self.tokens.encrypt(*row.as_bytes()))
    }

    /// The row that an opaque token would have. Whether it exists only the store knows.
    #[must_use]
    pub fn row(&self, token: OpaqueToken) -> TokenRow {
        TokenRow::from_bytes(self.tokens.decrypt(*token.as_bytes()))
    }

    /// Names the place of a normal form in the search index, under the index key of a leaf; `None` when that key is
    /// gone.
    pub(super) fn index_digest(&self, leaf: u32, kind: FieldType, normal: &[u8]) -> Result<Option<[u8; 32]>> {
        Ok(self.index_key(leaf)?.map(|key| index_digest(&key, kind, normal)))
    }

    fn index_key(&self, leaf: u32) -> Result<Option<Arc<Secret<32>>>> {
        let ready = |keys: &[(u32, Arc<Secret<32>>)]| {
            keys.iter().find(|(ready, _)| *ready == leaf).map(|(_, key)| Arc::clone(key))
        };
        if let Some(key) = ready(&self.indexes.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Some(key));
        }
        let Some(seed) = self.epoch()?.tree.derive(leaf) else { return Ok(None) };
        let key = Arc::new(own_key(&seed, &self.tree, INDEX_KEY));
        // As with a subject's key: what is punctured meanwhile must not stay ready after `forget` has gone through.
        let mut keys = self.indexes.write().unwrap_or_else(PoisonError::into_inner);
        if self.epoch().is_ok_and(|epoch| epoch.tree.is_live(leaf)) && ready(&keys).is_none() {
            keys.push((leaf, Arc::clone(&key)));
        }
        Ok(Some(key))
    }

    /// The key of a bucket of the index, as the tree `epoch` gives it; `None` when its leaf is punctured.
    pub(super) fn bucket_key(epoch: &Epoch, bucket: u32, leaf: u32) -> Option<Key> {
        Some(Key::new(&self::bucket_key(&epoch.tree.derive(leaf)?, &epoch.tree.id(), bucket)))
    }

    fn key(&self, place: &Place<'_>) -> Result<Option<Arc<Key>>> {
        let name: Name = (place.leaf, place.subject, place.class.into(), place.key_version);
        if let Some(key) = self.ready.get(&name) {
            return Ok(Some(key));
        }
        if place.leaf < FIRST_LEAF {
            return Err(damaged("it claims a leaf of the vault's own".to_owned()));
        }
        let Some(seed) = self.epoch()?.tree.derive(place.leaf) else { return Ok(None) };
        let key = Arc::new(Key::new(&place.key(&seed, &self.tree)));
        self.ready.insert(name.clone(), Arc::clone(&key));
        // The leaf may have been punctured meanwhile; then it must not stay ready after `forget` has gone through.
        if !self.epoch().is_ok_and(|epoch| epoch.tree.is_live(place.leaf)) {
            self.ready.remove(&name);
        }
        Ok(Some(key))
    }
}

/// A key of the vault's own, from the seed of its leaf.
pub(super) fn own_key(seed: &Secret<32>, tree: &[u8; 16], name: &str) -> Secret<32> {
    derive::subject_key(seed, tree, &[], name, 1)
}

/// The key of an index bucket, from the seed of the bucket's leaf.
pub(super) fn bucket_key(seed: &Secret<32>, tree: &[u8; 16], bucket: u32) -> Secret<32> {
    derive::subject_key(seed, tree, &bucket.to_be_bytes(), "index-bucket", 1)
}

/// Names the place of a normal form in the search index, under the index key.
pub(super) fn index_digest(index: &Secret<32>, kind: FieldType, normal: &[u8]) -> [u8; 32] {
    derive::tag(index, &[b"lacuna/index/v1", &kind.number().to_be_bytes(), normal])
}

fn gone(place: &Place<'_>) -> Error {
    let message = match place.kind {
        FieldType::Score => {
            "the score is sealed under a key that is gone: rotated away, and then a later backup of the database has it \
             under the new one, or destroyed when the person switched profiling off"
        }
        _ => {
            "the value is sealed under a key that was rotated away; a later backup of the database has it under the new \
             one"
        }
    };
    Error::new(Reason::KeyRetired, message).with("subject", place.subject)
}

fn damaged(source: String) -> Error {
    Error::new(Reason::SealBroken, "the stored ciphertext does not open in its place: it was damaged or moved")
        .because(source)
}
