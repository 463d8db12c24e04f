//! Derivation: HMAC-SHA256 (RFC 2104, FIPS 198-1) makes one secret from another, SHA-256 (FIPS 180-4) names things.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::bind::prefix;
use super::{Secret, scrub_stack};

const SUBJECT_KEY: &[u8] = b"lacuna/subject-key/v1";
const MEDIA_KEY: &[u8] = b"lacuna/media/v1";
const ROOT: &[u8] = b"lacuna/root";

/// A new secret: HMAC-SHA256 of `parts` under `key`.
///
/// A single part is authenticated as it stands. Of several, each is preceded by its length in bytes (eight bytes,
/// big endian), so that no two lists of parts read the same. Use a key with one number of parts only.
#[must_use]
pub fn mac(key: &Secret<32>, parts: &[&[u8]]) -> Secret<32> {
    Secret::build(|out| finish(absorb(keyed(key.expose()), parts), out))
}

/// The same function as [`mac`] for outputs that are stored in the open, such as the tags of an index. Leaves nothing of
/// the parts, which may be somebody's values, on the stack.
#[must_use]
pub fn tag(key: &Secret<32>, parts: &[&[u8]]) -> [u8; 32] {
    let tag = tag_below(key, parts);
    scrub_stack();
    tag
}

#[inline(never)]
fn tag_below(key: &Secret<32>, parts: &[&[u8]]) -> [u8; 32] {
    absorb(keyed(key.expose()), parts).finalize().into_bytes().into()
}

/// One step down a GGM tree: HMAC-SHA256 of one byte, 0 for the left child and 1 for the right.
#[must_use]
pub fn child(parent: &Secret<32>, bit: bool) -> Secret<32> {
    descend(parent.expose(), u32::from(bit), 1)
}

/// Both children of `parent`, left then right, for the price of preparing its key once.
#[must_use]
pub fn children(parent: &[u8; 32]) -> [Secret<32>; 2] {
    let prepared = keyed(parent);
    [0, 1].map(|bit: u8| Secret::build(|out| finish(prepared.clone().chain_update([bit]), out)))
}

/// As many steps down a GGM tree as `steps` says (0 to 32), along the low bits of `path`, highest first.
///
/// One secret is made and overwritten on the way, so the seeds passed through leave no trace.
#[must_use]
pub fn descend(seed: &[u8; 32], path: u32, steps: u32) -> Secret<32> {
    Secret::build(|out| {
        out.copy_from_slice(seed);
        for step in (0..steps).rev() {
            let bit = u8::from(path.checked_shr(step).is_some_and(|shifted| shifted & 1 == 1));
            finish(keyed(out).chain_update([bit]), out);
        }
    })
}

/// The key of one retention class of one subject, in one version. Naming the subject makes a leaf that was handed
/// out twice by mistake harmless.
#[must_use]
pub fn subject_key(leaf_seed: &Secret<32>, tree: &[u8; 16], subject: &[u8], class: &str, version: u32) -> Secret<32> {
    mac(leaf_seed, &[SUBJECT_KEY, tree, subject, class.as_bytes(), &version.to_be_bytes()])
}

/// The key of one file of a recording: a recording that is sealed again, under the same data key, has another salt and so
/// another key.
#[must_use]
pub fn media_key(data_key: &Secret<32>, part: &[u8; 16], salt: &[u8; 32]) -> Secret<32> {
    mac(data_key, &[MEDIA_KEY, part, salt])
}

/// SHA-256 of `parts` written one after the other. Nothing separates them: keep all but the last at a fixed length.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// SHA-256 of what does not fit into memory, a part at a time.
#[derive(Default)]
pub struct Digest(Sha256);

impl Digest {
    /// Takes the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The digest of all parts.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// The public name of a root key, which also commits to it: the first 16 bytes of SHA-256("lacuna/root" ‖ R).
#[must_use]
pub fn root_id(root: &Secret<32>) -> [u8; 16] {
    let mut id = [0; 16];
    id.iter_mut().zip(sha256(&[ROOT, root.expose()])).for_each(|(to, from)| *to = from);
    id
}

/// HMAC pads a short key with zeroes to its block of 64 bytes; doing so here leaves no failure to handle.
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    Hmac::new((&*block).into())
}

fn absorb(mut mac: Hmac<Sha256>, parts: &[&[u8]]) -> Hmac<Sha256> {
    if let [only] = parts {
        return mac.chain_update(only);
    }
    for part in parts {
        mac.update(&prefix(part));
        mac.update(part);
    }
    mac
}

fn finish(mac: Hmac<Sha256>, out: &mut [u8; 32]) {
    let mut result = mac.finalize().into_bytes();
    out.copy_from_slice(&result);
    result.zeroize();
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::crypto::testing::{secret, vectors};

    fn hex(bytes: impl AsRef<[u8]>) -> String {
        HEXLOWER.encode(bytes.as_ref())
    }

    #[test]
    fn agrees_with_another_implementation() {
        let vectors = vectors();
        let vector = &vectors["derive"];
        let key = secret(&vector["key"]);
        assert_eq!(hex(mac(&key, &[b"one"]).expose()), vector["mac_one"].as_str().unwrap());
        assert_eq!(hex(mac(&key, &[b"one", b"", b"three"]).expose()), vector["mac_three"].as_str().unwrap());
        assert_eq!(hex(child(&key, false).expose()), vector["left"].as_str().unwrap());
        assert_eq!(hex(child(&key, true).expose()), vector["right"].as_str().unwrap());
        assert_eq!(hex(root_id(&key)), vector["root_id"].as_str().unwrap());
        let subject = subject_key(&key, &[7; 16], b"subject", "identity", 3);
        assert_eq!(hex(subject.expose()), vector["subject_key"].as_str().unwrap());
    }

    /// RFC 4231, test case 2, whose key is shorter than a block: padded with zeroes it is the same key.
    #[test]
    fn hmac_of_rfc_4231() {
        let key = Secret::build(|bytes| bytes[..4].copy_from_slice(b"Jefe"));
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(tag(&key, &[b"what do ya want for nothing?"])), expected);
    }

    #[test]
    fn sha256_of_fips_180() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(sha256(&[b"a", b"", b"bc"])), expected);
    }

    #[test]
    fn tag_and_mac_are_one_function() {
        let key = Secret::build(|bytes| bytes.fill(5));
        assert_eq!(mac(&key, &[b"a", b"b"]).expose(), &tag(&key, &[b"a", b"b"]));
        assert_ne!(tag(&key, &[b"a", b"b"]), tag(&key, &[b"ab", b""]));
    }

    #[test]
    fn descending_is_one_child_after_the_other() {
        let seed = Secret::build(|bytes| bytes.fill(8));
        let [left, right] = children(seed.expose());
        assert_eq!(left.expose(), child(&seed, false).expose());
        assert_eq!(right.expose(), child(&seed, true).expose());
        let stepped = child(&child(&right, false), true);
        assert_eq!(descend(seed.expose(), 0b101, 3).expose(), stepped.expose());
        assert_eq!(descend(seed.expose(), 0, 0).expose(), seed.expose());
    }
}
