//! What bytes from outside get to: each parser, with what must hold whatever they are.
//!
//! Built for tests and for `cargo fuzz` only. `tests/data/parsers.txt` says which function is reached by which target, and a story
//! makes sure that none is forgotten; the requests of the API have a target of their own, in `fuzz/fuzz_targets`. A target
//! panics when something does not hold, and only then: any bytes are fine.

mod documents;
mod doors;
mod formats;
mod keys;
mod proofs;
mod words;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::crypto::derive::sha256;
use crate::crypto::{Random, SigningKey};

/// One parser, or several that read the same.
pub struct Target {
    /// Its name, and that of the folder in `tests/data/seeds` with examples.
    pub name: &'static str,
    /// Reads these bytes.
    pub run: fn(&[u8]),
}

/// Every one of them.
#[must_use]
pub fn targets() -> Vec<Target> {
    let all = [words::TARGETS, documents::TARGETS, keys::TARGETS, proofs::TARGETS, doors::TARGETS, formats::TARGETS];
    all.into_iter().flatten().map(|&(name, run)| Target { name, run }).collect()
}

/// How targets are written down: the name and what runs.
type Named = (&'static str, fn(&[u8]));

/// Text, if that is what the bytes are.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// The bytes, divided at the first that is nothing.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..).unwrap_or_default())
}

/// Randomness that is the same each time, so that a target does the same with the same bytes.
#[derive(Default)]
struct Repeated(AtomicU64);

impl Random for Repeated {
    fn fill(&self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(32) {
            let block = sha256(&[&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes()]);
            part.iter_mut().zip(block).for_each(|(to, from)| *to = from);
        }
    }
}

/// The key that signs whatever is put to a target, so that what is behind the signature is read as well.
fn signer() -> Option<SigningKey> {
    SigningKey::generate(&Repeated::default()).ok().map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

    use super::*;

    /// How many changed examples each target is given.
    const ROUNDS: usize = 400;

    fn seeds() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/seeds")
    }

    fn examples(target: &Target) -> Vec<Vec<u8>> {
        let Ok(files) = fs::read_dir(seeds().join(target.name)) else { return Vec::new() };
        files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
    }

    /// What a fuzzer does, without its knowledge of what is worth while.
    fn changed(random: &mut ChaCha20Rng, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=random.next_u32() % 4 {
            let at = random.next_u32() as usize % (bytes.len() + 1);
            let end = bytes.len().min(at + random.next_u32() as usize % 8);
            match random.next_u32() % 5 {
                0 if at < bytes.len() => bytes[at] ^= 1 << (random.next_u32() % 8),
                1 => drop(bytes.drain(at..end)),
                2 => bytes.insert(at, random.next_u32().to_be_bytes()[0]),
                3 => {
                    let part = bytes[at..end].repeat(3);
                    drop(bytes.splice(at..at, part));
                }
                _ => bytes.truncate(at.max(1)),
            }
        }
        bytes
    }

    #[test]
    fn whatever_the_bytes_are_what_must_hold_holds() {
        let mut random = ChaCha20Rng::seed_from_u64(11);
        for target in targets() {
            let examples = examples(&target);
            assert!(!examples.is_empty(), "tests/data/seeds/{} holds no example", target.name);
            for bytes in &examples {
                (target.run)(bytes);
            }
            (target.run)(b"");
            for bytes in examples.iter().cycle().take(ROUNDS) {
                (target.run)(&changed(&mut random, bytes));
            }
        }
    }

    #[test]
    fn each_target_has_a_name_and_examples_of_its_own() {
        let names: Vec<_> = targets().iter().map(|target| target.name.to_owned()).collect();
        let set: BTreeSet<_> = names.iter().cloned().collect();
        assert_eq!(set.len(), names.len(), "{names:?}");
        let folders = fs::read_dir(seeds()).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap());
        let folders: BTreeSet<_> = folders.collect();
        assert_eq!(set, folders, "a folder for each target, and none for another");
    }
}
