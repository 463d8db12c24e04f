//! Keys of the vault's own: for what it says to itself by way of others, and for what it must still know when a person
//! is gone.
//!
//! They follow from one leaf that no erasure and no rotation punctures, so they are the same under every root and in
//! every restored backup, and end with the vault. None of them protects anything that an erasure promises to destroy.

use std::sync::{Arc, PoisonError};

use super::ring::{HOUSE_LEAF, Keyring, own_key};
use crate::crypto::{Aad, Key, Secret, SecretBytes, derive, open, seal};
use crate::model::{Error, Result};

/// What a key of the vault's own is for. Each use has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HouseKey {
    /// Links by which a person withdraws a consent.
    WithdrawalLink,
    /// Names identifiers on the suppression list.
    Suppression,
    /// The journal in the sinks.
    Journal,
    /// Tells apart what is told of a call.
    CallContent,
}

impl HouseKey {
    const fn name(self) -> &'static str {
        match self {
            Self::WithdrawalLink => "withdrawal-link",
            Self::Suppression => "suppression",
            Self::Journal => "journal",
            Self::CallContent => "call-content",
        }
    }
}

/// Chance that goes into the key of each seal. It lets one use of the house keys seal without a limit, which a single
/// key with random nonces does not allow.
const SALT: usize = 16;

impl Keyring {
    /// A key of the vault's own. It is the same for good, so it stays ready until this process must not use any.
    fn house_key(&self, which: HouseKey) -> Result<Arc<Secret<32>>> {
        let tree = self.epoch()?.tree;
        let ready = |keys: &[(HouseKey, Arc<Secret<32>>)]| {
            keys.iter().find(|(ready, _)| *ready == which).map(|(_, key)| Arc::clone(key))
        };
        if let Some(key) = ready(&self.house.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(key);
        }
        let seed = tree.derive(HOUSE_LEAF).ok_or_else(|| Error::internal("the vault's own key is punctured"))?;
        let key = Arc::new(own_key(&seed, &tree.id(), which.name()));
        let mut keys = self.house.write().unwrap_or_else(PoisonError::into_inner);
        // The keys may have been dropped meanwhile; then it must not stay ready.
        if self.epoch().is_ok() && ready(&keys).is_none() {
            keys.push((which, Arc::clone(&key)));
        }
        Ok(key)
    }

    /// Names something for whoever asks this vault again, and for nobody else: the same for the same parts, and nothing
    /// of them can be told from it without the key.
    ///
    /// # Errors
    /// `StoreUnavailable` while this process holds no keys.
    pub(super) fn name_own(&self, which: HouseKey, parts: &[&[u8]]) -> Result<[u8; 32]> {
        Ok(derive::tag(&*self.house_key(which)?, parts))
    }

    /// A digest of what is told of a call, to tell it from something else that is told of it.
    ///
    /// # Errors
    /// `StoreUnavailable` while this process holds no keys.
    pub fn call_digest(&self, content: &[u8]) -> Result<[u8; 32]> {
        self.name_own(HouseKey::CallContent, &[b"lacuna/call/v1", content])
    }

    /// Seals what only this vault can open again. Whoever sees two seals cannot tell whether they hold the same.
    ///
    /// # Errors
    /// `StoreUnavailable` while this process holds no keys.
    pub fn seal_own(&self, which: HouseKey, plain: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = vec![0; SALT];
        self.random().fill(&mut sealed);
        let key = salted(&*self.house_key(which)?, &sealed);
        sealed.extend(seal(&key, HOUSE_LEAF.into(), &bind(which), plain, self.random()));
        Ok(sealed)
    }

    /// Opens what [`Keyring::seal_own`] sealed for the same use; `None` for anything else.
    ///
    /// # Errors
    /// `StoreUnavailable` while this process holds no keys.
    pub fn open_own(&self, which: HouseKey, sealed: &[u8]) -> Result<Option<SecretBytes>> {
        let house = self.house_key(which)?;
        let Some((salt, envelope)) = sealed.split_first_chunk::<SALT>() else { return Ok(None) };
        Ok(open(&salted(&house, salt), &bind(which), envelope).ok())
    }
}

fn salted(house: &Secret<32>, salt: &[u8]) -> Key {
    Key::new(&derive::mac(house, &[b"lacuna/salted/v1", salt]))
}

fn bind(which: HouseKey) -> Aad {
    Aad::new("lacuna/house/v1").text(which.name())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::ring::Epoch;
    use super::super::tree::Tree;
    use super::*;
    use crate::crypto::SystemRandom;

    fn ring(tree: u8) -> Keyring {
        let random = SystemRandom::new();
        let genesis = Tree::genesis([tree; 16], &random);
        Keyring::new(Epoch { tree: genesis.tree, number: 0 }, Arc::new(random)).unwrap()
    }

    #[test]
    fn it_opens_what_it_sealed_and_nothing_else() {
        let (ring, other) = (ring(1), ring(1));
        let sealed = ring.seal_own(HouseKey::WithdrawalLink, b"who and what").unwrap();
        assert_eq!(ring.open_own(HouseKey::WithdrawalLink, &sealed).unwrap().unwrap().expose(), b"who and what");
        assert!(other.open_own(HouseKey::WithdrawalLink, &sealed).unwrap().is_none());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(ring.open_own(HouseKey::WithdrawalLink, &altered).unwrap().is_none(), "byte {at}");
            assert!(ring.open_own(HouseKey::WithdrawalLink, &sealed[..at]).unwrap().is_none(), "cut at {at}");
        }
        assert_ne!(sealed, ring.seal_own(HouseKey::WithdrawalLink, b"who and what").unwrap());
    }
}
