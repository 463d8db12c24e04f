//! One AES-256 block (FIPS 197): a keyed permutation of 16 bytes, which turns ordered row ids into opaque tokens.

use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};

use super::Secret;

/// A permutation of 16-byte blocks, its expanded key in one place on the heap and wiped when dropped.
///
/// It hides and unhides a value but does not authenticate it, and equal blocks stay equal: it is for ids that are
/// unique, never for what a person entrusted.
pub struct BlockKey(Box<Aes256>);

impl BlockKey {
    /// Expands `secret`.
    #[must_use]
    pub fn new(secret: &Secret<32>) -> Self {
        Self(Box::new(Aes256::new(secret.expose().into())))
    }

    /// The block that stands for `block`.
    #[must_use]
    pub fn encrypt(&self, mut block: [u8; 16]) -> [u8; 16] {
        self.0.encrypt_block((&mut block).into());
        block
    }

    /// The block that `block` stands for. Every block has an answer, also one that was never given out.
    #[must_use]
    pub fn decrypt(&self, mut block: [u8; 16]) -> [u8; 16] {
        self.0.decrypt_block((&mut block).into());
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197, appendix C.3.
    #[test]
    fn aes_256_of_fips_197() {
        let key = BlockKey::new(&Secret::build(|bytes| bytes.iter_mut().zip(0..).for_each(|(to, from)| *to = from)));
        let plain = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes();
        let sealed = 0x8ea2_b7ca_5167_45bf_eafc_4990_4b49_6089_u128.to_be_bytes();
        assert_eq!(key.encrypt(plain), sealed);
        assert_eq!(key.decrypt(sealed), plain);
    }
}
