//! The ground: bytes in, bytes out.
//!
//! This floor knows ciphers, signatures and randomness, and is the only one that names the crates they come from.
//! It knows no subject, no database and no file. What it promises: a secret leaves no copy that it can help
//! (SP 800-88 calls the aim sanitisation), and a sealed value opens only in the place it was sealed for.

mod random;
mod secret;

pub use random::{Random, SystemRandom};
pub use secret::{Secret, SecretBytes};
