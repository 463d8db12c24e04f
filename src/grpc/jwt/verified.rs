//! Tokens that were verified, so that the same one need not be again for each call.
//!
//! A token itself is not kept, only its digest. What is known of it belongs to the keys that it was verified with and goes
//! with them: there is no moment at which a token is taken for a key that its issuer has taken back. Whether its caller
//! may do anything is not known here, and asked at every call.

use quick_cache::sync::Cache;

use crate::formats::jwks::KeySet;
use crate::model::Time;
use crate::policy::Caller;

/// So many tokens are remembered of one issuer.
const MOST: usize = 4096;

/// The keys of an issuer, and the tokens that were verified with them.
pub struct Keys {
    /// The keys.
    pub set: KeySet,
    verified: Cache<[u8; 32], Verified>,
}

impl Default for Keys {
    fn default() -> Self {
        Self::of(KeySet::default())
    }
}

/// What a token says that was verified.
#[derive(Clone)]
pub struct Verified {
    /// Whom it names.
    pub caller: Caller,
    /// From when on it is good.
    pub from: Time,
    /// Until when.
    pub until: Time,
}

impl Keys {
    /// Keys with which nothing was verified yet.
    pub fn of(set: KeySet) -> Self {
        Self { set, verified: Cache::new(MOST) }
    }

    /// What a token of this digest says, if it is good now.
    pub fn recall(&self, digest: &[u8; 32], now: Time) -> Option<Verified> {
        self.verified.get(digest).filter(|known| known.from <= now && now < known.until)
    }

    /// Remembers a token.
    pub fn remember(&self, digest: [u8; 32], known: Verified) {
        self.verified.insert(digest, known);
    }

    /// Forgets tokens that have expired.
    pub fn forget_expired(&self, now: Time) {
        self.verified.retain(|_, known| now < known.until);
    }

    /// How many tokens are remembered.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.verified.len()
    }
}
