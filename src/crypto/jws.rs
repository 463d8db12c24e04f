//! Signatures of others: the public keys and algorithms of JSON Web Signatures (RFC 7518, RFC 8037) that are taken.
//!
//! Only signatures that need a private key: with none there would be no signature, and with a shared secret whoever may
//! verify could sign as well. An algorithm belongs to a key, so that no token can choose how it is verified.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// RSA with PKCS#1 v1.5 and SHA-256.
    Rs256,
}

impl Algorithm {
    /// The algorithm of this registered name, if it is one of ours.
    #[must_use]
    pub fn called(name: &str) -> Option<Self> {
        match name {
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            _ => None,
        }
    }
}

/// The public key of somebody who signs tokens.
#[derive(Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// For Ed25519: its 32 bytes.
    EdDsa(Vec<u8>),
    /// For P-256: the point, uncompressed.
    Es256(Vec<u8>),
    /// For RSA: modulus and exponent, big-endian.
    Rs256 {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
}

impl PublicKey {
    /// A key for Ed25519; `None` when it cannot be one.
    #[must_use]
    pub fn ed25519(x: Vec<u8>) -> Option<Self> {
        (x.len() == 32).then_some(Self::EdDsa(x))
    }

    /// A point on P-256 by its coordinates; `None` when they cannot be that.
    #[must_use]
    pub fn p256(x: &[u8], y: &[u8]) -> Option<Self> {
        (x.len() == 32 && y.len() == 32).then(|| Self::Es256([&[4], x, y].concat()))
    }

    /// A key for RSA of 2048 to 8192 bits; `None` when it is none.
    #[must_use]
    pub fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let (n, e) = (number(n), number(e));
        ((256..=1024).contains(&n.len()) && (1..=5).contains(&e.len())).then_some(Self::Rs256 { n, e })
    }

    /// A key as other programs write it: `SubjectPublicKeyInfo` in DER (RFC 5280); `None` when it is none of ours.
    #[must_use]
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        if let Some(x) = der.strip_prefix(&ED25519_SPKI) {
            return Self::ed25519(x.to_vec());
        }
        if let Some(point) = der.strip_prefix(&P256_SPKI) {
            let (x, y) = point.split_at_checked(32)?;
            return Self::p256(x, y);
        }
        let (inner, rest) = element(der, 0x30)?;
        let key = inner.strip_prefix(&RSA_ALGORITHM)?;
        let (bits, end) = element(key, 0x03)?;
        let (numbers, more) = element(bits.strip_prefix(&[0])?, 0x30)?;
        let (n, numbers) = element(numbers, 0x02)?;
        let (e, last) = element(numbers, 0x02)?;
        (rest.is_empty() && end.is_empty() && more.is_empty() && last.is_empty()).then(|| Self::rsa(n, e)).flatten()
    }

    /// The one algorithm that this key is for.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::EdDsa(_) => Algorithm::EdDsa,
            Self::Es256(_) => Algorithm::Es256,
            Self::Rs256 { .. } => Algorithm::Rs256,
        }
    }

    /// Whether `signature` was made over exactly `message` by the private half of this key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::EdDsa(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Self::Es256(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature),
            Self::Rs256 { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        }
        .is_ok()
    }
}

/// What stands before the 32 bytes of a key for Ed25519 (RFC 8410).
pub(crate) const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What stands before the coordinates of a point on P-256, uncompressed (RFC 5480).
const P256_SPKI: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// The algorithm of a key for RSA (RFC 3279).
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The content of the element of DER that this begins with, if it has that tag, and what stands behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), rest.get(2..)?),
        _ => return None,
    };
    (*first == tag).then(|| rest.split_at_checked(length)).flatten()
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()
    }

    /// RFC 7515, appendix A.3.
    #[test]
    fn es256_of_rfc_7515() {
        let key = PublicKey::p256(
            &bytes("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
            &bytes("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
        )
        .unwrap();
        let message = concat!(
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb2",
            "90Ijp0cnVlfQ"
        );
        let signature = bytes("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
        assert!(key.verify(message.as_bytes(), &signature));
        assert!(!key.verify(&message.as_bytes()[1..], &signature));
        assert_eq!(key.algorithm(), Algorithm::Es256);
    }

    /// RFC 8037, appendix A.4.
    #[test]
    fn eddsa_of_rfc_8037() {
        let key = PublicKey::ed25519(bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")).unwrap();
        let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = bytes("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
        assert!(key.verify(message.as_bytes(), &signature));
        assert!(!key.verify(message.as_bytes(), &signature[1..]));
        assert!(!key.verify(message.as_bytes(), &[]));
    }

    #[test]
    fn what_cannot_be_a_key_is_none() {
        assert!(PublicKey::ed25519(vec![1; 31]).is_none());
        assert!(PublicKey::p256(&[1; 32], &[1; 31]).is_none());
        assert!(PublicKey::rsa(&[1; 255], &[1, 0, 1]).is_none(), "too short");
        assert!(PublicKey::rsa(&[0; 256], &[1, 0, 1]).is_none(), "zero");
        assert!(PublicKey::rsa(&[1; 256], &[]).is_none());
        for name in ["none", "HS256", "rs256", "PS256", "ES384", ""] {
            assert!(Algorithm::called(name).is_none(), "{name}");
        }
    }
}
