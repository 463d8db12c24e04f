//! Sealing: AES-256-GCM (NIST SP 800-38D) in a versioned envelope that opens only where it belongs.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of the envelope, now 1 |
//! | 1 | algorithm, 1 for AES-256-GCM |
//! | 5 | the leaf whose key sealed it, big endian |
//! | 12 | random nonce |
//! | n | ciphertext, as long as the plaintext |
//! | 16 | tag |
//!
//! The first seven bytes are in the clear and authenticated with the associated data. With random nonces one key
//! may seal 2^32 values before two nonces meet with a chance above 2^-32 (SP 800-38D, section 8.3).

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _};

use super::bind::Aad;
use super::{Random, Secret, SecretBytes};

/// The first two bytes: version 1, algorithm 1.
const FORMAT: u64 = 0x0101;
const LEAF_BITS: u32 = 40;
const HEADER: usize = 7;
const NONCE: usize = 12;
const TAG: usize = 16;

/// Bytes that an envelope adds to its plaintext.
pub const OVERHEAD: usize = HEADER + NONCE + TAG;

/// The seal does not fit: wrong key, wrong place, changed bytes, or not an envelope at all. Which of them is not
/// told, because the answer would help only whoever forged it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seal is broken or belongs elsewhere")]
pub struct Broken;

/// A cipher ready to seal and open: the expanded key stays in one place on the heap and is wiped when dropped.
pub struct Key(Box<Aes256Gcm>);

impl Key {
    /// Expands `secret`; costs about as much as sealing a short value, so keep the result while it is needed.
    #[must_use]
    pub fn new(secret: &Secret<32>) -> Self {
        Self(Box::new(Aes256Gcm::new(secret.expose().into())))
    }
}

/// Seals `plain` under `key`, bound to `aad` and to `leaf`, of which the low 40 bits are kept.
///
/// At most 2^36 - 32 bytes can be sealed (SP 800-38D, section 5.2.1.1).
#[must_use]
pub fn seal(key: &Key, leaf: u64, aad: &Aad, plain: &[u8], random: &dyn Random) -> Vec<u8> {
    let mut nonce = [0; NONCE];
    random.fill(&mut nonce);
    seal_with(key, leaf, aad, plain, nonce)
}

/// Opens what [`seal`] made with the same key and the same associated data.
pub fn open(key: &Key, aad: &Aad, sealed: &[u8]) -> Result<SecretBytes, Broken> {
    let (header, rest) = sealed.split_first_chunk::<HEADER>().ok_or(Broken)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(Broken)?;
    let (body, tag) = rest.split_last_chunk::<TAG>().ok_or(Broken)?;
    leaf_of(header).ok_or(Broken)?;
    // The tag is checked before the first byte is decrypted, so a refusal leaves only zeroes here.
    let mut plain = vec![0; body.len()];
    let buffer = InOutBuf::new(body, &mut plain).map_err(|_| Broken)?;
    let bound = bound(aad, header);
    key.0.decrypt_inout_detached(nonce.into(), &bound, buffer, tag.into()).map_err(|_| Broken)?;
    Ok(SecretBytes::new(plain))
}

/// The leaf named in the header of an envelope (or of its first seven bytes); `None` if this is not an envelope of
/// a known version and algorithm. The answer is a claim until [`open`] has checked it.
#[must_use]
pub fn leaf_of(sealed: &[u8]) -> Option<u64> {
    let header = sealed.first_chunk::<HEADER>()?;
    let number = header.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    (number >> LEAF_BITS == FORMAT).then_some(number ^ FORMAT << LEAF_BITS)
}

fn seal_with(key: &Key, leaf: u64, aad: &Aad, plain: &[u8], nonce: [u8; NONCE]) -> Vec<u8> {
    let header = header(leaf);
    let mut sealed = vec![0; OVERHEAD + plain.len()];
    let bound = bound(aad, &header);
    if fill(key, &bound, &header, &nonce, plain, &mut sealed).is_none() {
        // Only a plaintext beyond 64 GiB comes here. Returning anything would lose the value or leak it.
        eprintln!("lacuna: a value of {} bytes cannot be sealed", plain.len());
        std::process::abort();
    }
    sealed
}

/// Writes the envelope into `sealed`; the plaintext goes through the cipher without being copied first.
fn fill(key: &Key, bound: &[u8], header: &[u8], nonce: &[u8; NONCE], plain: &[u8], sealed: &mut [u8]) -> Option<()> {
    let (head, rest) = sealed.split_at_mut_checked(HEADER)?;
    let (nonce_out, rest) = rest.split_at_mut_checked(NONCE)?;
    let (body, tag_out) = rest.split_at_mut_checked(plain.len())?;
    head.copy_from_slice(header);
    nonce_out.copy_from_slice(nonce);
    let buffer = InOutBuf::new(plain, body).ok()?;
    let tag = key.0.encrypt_inout_detached(nonce.into(), bound, buffer).ok()?;
    tag_out.copy_from_slice(&tag);
    Some(())
}

fn header(leaf: u64) -> [u8; HEADER] {
    let leaf = leaf & ((1 << LEAF_BITS) - 1);
    let [_, header @ ..] = (FORMAT << LEAF_BITS | leaf).to_be_bytes();
    header
}

/// The header has one length, so appending it keeps the associated data unambiguous.
fn bound(aad: &Aad, header: &[u8]) -> Vec<u8> {
    [aad.as_bytes(), header].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::testing::{Seeded, secret, vectors};

    const LEAF: u64 = 0x12_3456_789a;

    fn key(byte: u8) -> Key {
        Key::new(&Secret::build(|bytes| bytes.fill(byte)))
    }

    fn place() -> Aad {
        Aad::new("test/1").text("subject").number(3)
    }

    fn sealed() -> Vec<u8> {
        seal(&key(1), LEAF, &place(), b"+41 44 668 18 00", &Seeded::new(1))
    }

    #[test]
    fn agrees_with_another_implementation() {
        let vectors = vectors();
        let vector = &vectors["seal"];
        let nonce = secret::<12>(&vector["nonce"]);
        let key = Key::new(&secret(&vector["key"]));
        let aad = Aad::new("lacuna/field/v1").bytes(b"subject").number(7).text("identity");
        let sealed = seal_with(&key, LEAF, &aad, b"ada@example.org", *nonce.expose());
        assert_eq!(data_encoding::HEXLOWER.encode(&sealed), vector["sealed"].as_str().unwrap());
    }

    #[test]
    fn opens_where_it_belongs() {
        let sealed = sealed();
        assert_eq!(sealed.len(), 16 + OVERHEAD);
        assert_eq!(OVERHEAD, 35);
        assert_eq!(leaf_of(&sealed), Some(LEAF));
        assert_eq!(open(&key(1), &place(), &sealed).unwrap().expose(), b"+41 44 668 18 00");
    }

    #[test]
    fn keeps_forty_bits_of_the_leaf() {
        let sealed = seal(&key(1), u64::MAX, &place(), b"", &Seeded::new(1));
        assert_eq!(leaf_of(&sealed), Some((1 << 40) - 1));
        assert!(open(&key(1), &place(), &sealed).unwrap().is_empty());
    }

    #[test]
    fn another_key_or_place_does_not_open() {
        assert_eq!(open(&key(2), &place(), &sealed()).err(), Some(Broken));
        let elsewhere = Aad::new("test/1").text("subject").number(4);
        assert_eq!(open(&key(1), &elsewhere, &sealed()).err(), Some(Broken));
    }

    #[test]
    fn every_changed_bit_breaks_it() {
        for at in 0..sealed().len() * 8 {
            let mut changed = sealed();
            changed[at / 8] ^= 1 << (at % 8);
            assert_eq!(open(&key(1), &place(), &changed).err(), Some(Broken), "bit {at}");
        }
    }

    #[test]
    fn every_truncation_breaks_it() {
        let sealed = sealed();
        for length in 0..sealed.len() {
            assert_eq!(open(&key(1), &place(), &sealed[..length]).err(), Some(Broken), "{length} bytes");
            assert_eq!(leaf_of(&sealed[..length]).is_some(), length >= HEADER);
        }
    }

    #[test]
    fn nonces_differ() {
        let random = Seeded::new(3);
        let one = seal(&key(1), 1, &place(), b"same", &random);
        let other = seal(&key(1), 1, &place(), b"same", &random);
        assert_ne!(one, other);
        assert_ne!(one[HEADER..HEADER + NONCE], other[HEADER..HEADER + NONCE]);
    }

    proptest! {
        #[test]
        fn opens_what_it_sealed(plain: Vec<u8>, leaf in 0_u64..1 << 40, seed: u64) {
            let sealed = seal(&key(9), leaf, &place(), &plain, &Seeded::new(seed));
            prop_assert_eq!(leaf_of(&sealed), Some(leaf));
            let opened = open(&key(9), &place(), &sealed).unwrap();
            prop_assert_eq!(opened.expose(), &plain);
        }

        #[test]
        fn noise_is_refused(noise: Vec<u8>) {
            prop_assert!(open(&key(9), &place(), &noise).is_err());
        }
    }
}
