//! The ground: bytes in, bytes out.
//!
//! This floor knows ciphers, signatures and randomness, and is the only one that names the crates they come from.
//! It knows no subject, no database and no file. What it promises: a secret leaves no copy that it can help
//! (SP 800-88 calls the aim sanitisation), and a sealed value opens only in the place it was sealed for.

mod bind;
mod block;
pub mod derive;
pub mod dsse;
pub mod jws;
pub mod merkle;
pub mod note;
mod random;
mod seal;
mod secret;
mod sign;
pub mod stream;
#[cfg(test)]
pub(crate) mod testing;

pub use bind::Aad;
pub use block::BlockKey;
pub use random::{Random, SystemRandom};
pub use seal::{Broken, Key, OVERHEAD, leaf_of, open, seal};
pub use secret::{Secret, SecretBytes, scrub_stack};
pub use sign::{BadKey, SigningKey, verify};
