//! What tests share: repeatable randomness and the known answers of `tests/vectors/crypto.json`.

use std::sync::Mutex;

use data_encoding::HEXLOWER;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::Value;

use super::{Random, Secret};

/// Randomness that repeats: the same seed gives the same bytes.
pub struct Seeded(Mutex<ChaCha20Rng>);

impl Seeded {
    /// Starts the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha20Rng::seed_from_u64(seed)))
    }
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap().fill_bytes(bytes);
    }
}

/// Answers computed in Python by `tests/vectors/crypto.py`, with other libraries than ours.
pub fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/crypto.json")).unwrap()
}

/// Reads a secret written in hexadecimal.
pub fn secret<const N: usize>(hex: &Value) -> Secret<N> {
    Secret::from_slice(&HEXLOWER.decode(hex.as_str().unwrap().as_bytes()).unwrap()).unwrap()
}
