//! Randomness is an argument: whoever needs it is given a [`Random`], so that a test can repeat it.

use std::sync::{Mutex, PoisonError};

use ring::rand::SecureRandom as _;
use zeroize::Zeroize as _;

/// Bytes drawn from the system at once. A draw of 12 bytes costs more than sealing a value, so draws are shared.
const BLOCK: usize = 4096;

/// A source of bytes that nobody can guess.
pub trait Random: Send + Sync {
    /// Fills `bytes`, every one of them.
    fn fill(&self, bytes: &mut [u8]);
}

/// The system's generator, drawn in blocks; a byte is handed out once and wiped here.
pub struct SystemRandom {
    system: ring::rand::SystemRandom,
    block: Mutex<Block>,
}

struct Block {
    bytes: Box<[u8; BLOCK]>,
    used: usize,
}

impl SystemRandom {
    /// A generator with an empty block.
    #[must_use]
    pub fn new() -> Self {
        Self {
            system: ring::rand::SystemRandom::new(),
            block: Mutex::new(Block { bytes: Box::new([0; BLOCK]), used: BLOCK }),
        }
    }

    /// Asks the system itself. A system that cannot give randomness cannot be served safely: the process ends.
    fn draw(&self, bytes: &mut [u8]) {
        if self.system.fill(bytes).is_err() {
            eprintln!("lacuna: the system gives no randomness; nothing can be sealed without it");
            std::process::abort();
        }
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > BLOCK / 8 {
            return self.draw(bytes);
        }
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        if BLOCK - block.used < bytes.len() {
            self.draw(block.bytes.as_mut_slice());
            block.used = 0;
        }
        let (from, to) = (block.used, block.used + bytes.len());
        if let Some(fresh) = block.bytes.get_mut(from..to) {
            bytes.copy_from_slice(fresh);
            fresh.zeroize();
        }
        block.used = to;
    }
}
