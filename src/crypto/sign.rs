//! Signatures: Ed25519 (RFC 8032).

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::{Random, Secret, SecretBytes};

/// The DER of an Ed25519 private key (RFC 8410, section 7) up to its 32 secret bytes: what `OpenSSL` reads and writes.
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The bytes are not an Ed25519 private key in PKCS#8 form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 private key in PKCS#8 (DER) form")]
pub struct BadKey;

/// A key that signs. The library that holds it does not wipe it, so it must never be one that erasure depends on.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A fresh key, and its PKCS#8 form to be kept: 48 bytes of DER.
    pub fn generate(random: &dyn Random) -> Result<(Self, SecretBytes), BadKey> {
        let seed = Secret::<32>::random(random);
        let mut pkcs8 = SecretBytes::with_capacity(PKCS8.len() + 32);
        pkcs8.append(&PKCS8);
        pkcs8.append(seed.expose());
        Ok((Self::from_pkcs8(&pkcs8)?, pkcs8))
    }

    /// Reads a key in PKCS#8 form, version 1 or 2.
    pub fn from_pkcs8(pkcs8: &SecretBytes) -> Result<Self, BadKey> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8.expose()).map(Self).map_err(|_| BadKey)
    }

    /// The public key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        copy(self.0.public_key().as_ref())
    }

    /// Signs `message`: the same message always gets the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        copy(self.0.sign(message).as_ref())
    }
}

/// Whether `signature` was made over exactly `message` by the key whose public half is `public`.
#[must_use]
pub fn verify(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// The library gives slices of a known length.
fn copy<const N: usize>(from: &[u8]) -> [u8; N] {
    let mut to = [0; N];
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::crypto::testing::Seeded;

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn ed25519_of_rfc_8032() {
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).unwrap();
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature = hex(concat!(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ));
        let key = SigningKey::from_pkcs8(&SecretBytes::new([&PKCS8[..], &seed].concat())).unwrap();
        assert_eq!(key.public(), *public);
        assert_eq!(key.sign(&[0x72]), *signature);
        assert!(verify(&public, &[0x72], &signature));
    }

    #[test]
    fn a_kept_key_signs_as_before() {
        let (key, pkcs8) = SigningKey::generate(&Seeded::new(1)).unwrap();
        let again = SigningKey::from_pkcs8(&pkcs8).unwrap();
        assert_eq!(key.public(), again.public());
        assert_eq!(key.sign(b"m"), again.sign(b"m"));
    }

    #[test]
    fn refuses_what_was_not_signed() {
        let (key, _) = SigningKey::generate(&Seeded::new(1)).unwrap();
        let (other, _) = SigningKey::generate(&Seeded::new(2)).unwrap();
        let signature = key.sign(b"message");
        assert!(verify(&key.public(), b"message", &signature));
        assert!(!verify(&key.public(), b"massage", &signature));
        assert!(!verify(&other.public(), b"message", &signature));
        assert!(!verify(&key.public(), b"message", &signature[1..]));
        assert!(!verify(b"", b"message", &signature));
        assert!(SigningKey::from_pkcs8(&SecretBytes::new(vec![0; 48])).is_err());
    }
}
