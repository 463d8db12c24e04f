//! Secrets are types: wiped when dropped, without `Debug` and `Clone`, read only through a method that greps.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Random;

/// A secret of exactly `N` bytes, kept on the heap so that moving it leaves no copy behind.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Builds the secret in place, so that it never lies around on the stack.
    pub fn build(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut bytes = Box::new([0; N]);
        fill(&mut bytes);
        Self(bytes)
    }

    /// Draws a fresh secret.
    pub fn random(random: &dyn Random) -> Self {
        Self::build(|bytes| random.fill(bytes))
    }

    /// Takes the secret from a slice of exactly `N` bytes; `None` for any other length.
    #[must_use]
    pub fn from_slice(slice: &[u8]) -> Option<Self> {
        (slice.len() == N).then(|| Self::build(|bytes| bytes.copy_from_slice(slice)))
    }

    /// The bytes themselves. Every call is a place to review.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

/// A secret of any length: a value of a person, or a serialised key state.
#[derive(Default, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes ownership of `bytes`, to be wiped when dropped.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// No bytes yet, with room for `capacity` of them.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Adds `bytes` at the end. When the room runs out, everything moves and the old place is wiped.
    pub fn append(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Vec::with_capacity(needed.max(self.0.capacity() * 2));
            larger.extend_from_slice(&self.0);
            drop(std::mem::replace(self, Self(larger)));
        }
        self.0.extend_from_slice(bytes);
    }

    /// The bytes themselves. Every call is a place to review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Gives the bytes away; whoever takes them answers for wiping them.
    #[must_use]
    pub fn into_exposed(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

/// How much of the stack [`scrub_stack`] writes over, in bytes: more than derivations and ciphers use, which without
/// optimisation is a lot.
const DEEP: usize = if cfg!(debug_assertions) { 64 << 10 } else { 16 << 10 };

/// Writes over the part of the stack that calls from here have used: what they kept of a key in their frames, or spilled
/// from registers, would stay there until something else happens to go as deep.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "the stack is what it is about")]
pub fn scrub_stack() {
    std::hint::black_box(&mut [0_u8; DEEP]);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use super::super::{Aad, Key, SystemRandom, derive, open, seal};
    use super::*;

    /// How far below this test's frame the stack is looked at.
    const BELOW: usize = 256 << 10;

    /// The stack below a frame, as the system sees it.
    fn below(frame: &u8) -> Vec<u8> {
        let top = std::ptr::from_ref(frame) as u64;
        let mut bytes = vec![0; BELOW];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, top - BELOW as u64).unwrap();
        bytes
    }

    #[inline(never)]
    #[expect(clippy::large_stack_arrays, reason = "the stack is what it is about")]
    fn paint() {
        std::hint::black_box(&mut [0xa5_u8; BELOW + 4096]);
    }

    /// All that happens to the key of a person.
    #[inline(never)]
    fn use_a_key(seed: &Secret<32>) {
        let secret = derive::subject_key(seed, &[7; 16], b"subject", "identity", 3);
        let key = Key::new(&secret);
        let sealed = seal(&key, 20, &Aad::new("test"), b"a value", &SystemRandom::new());
        assert_eq!(open(&key, &Aad::new("test"), &sealed).unwrap().expose(), b"a value");
    }

    #[test]
    fn what_a_key_leaves_on_the_stack_is_written_over() {
        let seed = Secret::random(&SystemRandom::new());
        let halves = move |seed: &Secret<32>, stack: &[u8]| {
            let key = derive::subject_key(seed, &[7; 16], b"subject", "identity", 3);
            key.expose().chunks(16).filter(|half| stack.windows(16).any(|window| window == *half)).count()
        };
        std::thread::Builder::new()
            .stack_size(8 << 20)
            .spawn(move || {
                let frame = 0_u8;
                paint();
                use_a_key(&seed);
                let stack = below(&frame);
                assert!(halves(&seed, &stack) > 0, "there is something to write over");
                let used = stack.iter().position(|byte| *byte != 0xa5).map_or(0, |at| BELOW - at);
                assert!(used < DEEP / 2, "{used} bytes of the stack were used");
                use_a_key(&seed);
                scrub_stack();
                assert_eq!(halves(&seed, &below(&frame)), 0);
            })
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn append_grows_past_its_room() {
        let mut bytes = SecretBytes::with_capacity(2);
        for part in [&b"a"[..], b"bcd", b"", b"efghijkl"] {
            bytes.append(part);
        }
        assert_eq!(bytes.expose(), b"abcdefghijkl");
        assert_eq!(bytes.into_exposed(), b"abcdefghijkl");
    }

    #[test]
    fn a_secret_has_its_length() {
        assert!(Secret::<4>::from_slice(b"abc").is_none());
        assert_eq!(Secret::<3>::from_slice(b"abc").unwrap().expose(), b"abc");
    }
}
