use proptest::prelude::*;

use super::*;
use crate::crypto::testing::{Seeded, secret, vectors};

const PART: PartId = PartId::from_bytes([9; 16]);

fn key(byte: u8) -> Secret<32> {
    Secret::build(|bytes| bytes.fill(byte))
}

fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut envelope = Vec::new();
    let length = encrypt(&key(1), PART, &Seeded::new(5), &mut &*plain, &mut envelope).unwrap();
    assert_eq!(length, plain.len() as u64);
    envelope
}

fn opened(envelope: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut plain = Vec::new();
    let (part, length) = decrypt(&key(1), Some(PART), &mut &*envelope, &mut plain)?;
    assert_eq!((part, length), (PART, plain.len() as u64));
    Ok(plain)
}

/// Bytes of which no two chunks are the same.
fn recording(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Seeded::new(length as u64).fill(&mut bytes);
    bytes
}

#[test]
fn agrees_with_another_implementation() {
    let vectors = vectors();
    let vector = &vectors["media"];
    for case in vector["envelopes"].as_array().unwrap() {
        let length = usize::try_from(case["length"].as_u64().unwrap()).unwrap();
        let plain: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let part = PartId::from_slice(secret::<16>(&vector["part"]).expose()).unwrap();
        let mut envelope = Vec::new();
        let salt = Fixed(*secret::<32>(&vector["salt"]).expose());
        encrypt(&secret(&vector["key"]), part, &salt, &mut &*plain, &mut envelope).unwrap();
        let digest = crate::crypto::derive::sha256(&[&envelope]);
        assert_eq!(data_encoding::HEXLOWER.encode(&digest), case["sha256"].as_str().unwrap(), "{length} bytes");
        if let Some(hex) = case["envelope"].as_str() {
            assert_eq!(data_encoding::HEXLOWER.encode(&envelope), hex);
        }
        let mut read = Vec::new();
        decrypt(&secret(&vector["key"]), None, &mut &*envelope, &mut read).unwrap();
        assert_eq!(read, plain);
    }
}

/// The salt that the vectors have.
struct Fixed([u8; 32]);

impl Random for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0);
    }
}

#[test]
fn every_length_comes_back_and_is_known_before() {
    for length in [0, 1, 15, 16, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17] {
        let plain = recording(length);
        let envelope = sealed(&plain);
        assert_eq!(plain_size(envelope.len() as u64), Some(length as u64));
        assert!(opened(&envelope).unwrap() == plain, "{length} bytes");
    }
    for none in [0, HEADER, HEADER + TAG - 1, HEADER + SEALED + 1, HEADER + SEALED + TAG] {
        assert_eq!(plain_size(none as u64), None, "{none}");
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let envelope = sealed(b"a call that somebody recorded");
    for at in 0..envelope.len() * 8 {
        let mut changed = envelope.clone();
        changed[at / 8] ^= 1 << (at % 8);
        let fault = opened(&changed).unwrap_err();
        let expected = match at / 8 {
            0..8 | 9 => matches!(fault, Fault::NotAnEnvelope),
            8 => matches!(fault, Fault::Version(_)),
            10..26 => matches!(fault, Fault::OtherPart),
            _ => matches!(fault, Fault::OtherKeyOrDamaged),
        };
        assert!(expected, "bit {at}: {fault}");
    }
}

#[test]
fn every_cut_is_noticed() {
    let envelope = sealed(&recording(2 * CHUNK + 9));
    let borders = [HEADER + SEALED, HEADER + 2 * SEALED];
    for length in (0..200).chain(borders).chain(envelope.len() - 30..envelope.len()).chain([SEALED, 2 * SEALED]) {
        let fault = opened(&envelope[..length]).unwrap_err();
        let truncated = (8..=HEADER).contains(&length) || borders.contains(&length);
        assert_eq!(matches!(fault, Fault::Truncated), truncated, "{length} bytes: {fault}");
        assert_eq!(matches!(fault, Fault::NotAnEnvelope), length < 8, "{length} bytes: {fault}");
    }
}

#[test]
fn chunks_keep_their_order_and_their_number() {
    let envelope = sealed(&recording(3 * CHUNK));
    let chunk = |at: usize| &envelope[HEADER + at * SEALED..HEADER + (at + 1) * SEALED];
    let head = &envelope[..HEADER];
    for order in [vec![1, 0, 2], vec![0, 0, 2], vec![0, 2], vec![0, 1, 2, 2], vec![2], vec![0, 1, 1, 2]] {
        let changed = [head].into_iter().chain(order.iter().map(|at| chunk(*at))).collect::<Vec<_>>().concat();
        assert!(matches!(opened(&changed), Err(Fault::OtherKeyOrDamaged)), "{order:?}");
    }
    let extended = [&envelope[..], b"more"].concat();
    assert!(matches!(opened(&extended), Err(Fault::OtherKeyOrDamaged)));
    // A chunk of another recording under the same data key has another salt.
    let mut other = Vec::new();
    encrypt(&key(1), PART, &Seeded::new(6), &mut &*recording(3 * CHUNK), &mut other).unwrap();
    let mixed = [&other[..HEADER + SEALED], chunk(1), chunk(2)].concat();
    assert!(matches!(opened(&mixed), Err(Fault::OtherKeyOrDamaged)));
}

#[test]
fn an_envelope_ends_with_something() {
    let header = Header { part: PART, salt: [3; 32] };
    let mut stream = header.stream(&key(1));
    let (mut full, mut empty) = (recording(CHUNK), Vec::new());
    stream.seal(&mut full, false).unwrap();
    stream.seal(&mut empty, true).unwrap();
    let second = [header.bytes(), full, empty].concat();
    assert!(matches!(opened(&second), Err(Fault::OtherKeyOrDamaged)), "there is one envelope of a recording");
}

#[test]
fn nothing_is_written_before_it_is_known_to_be_genuine() {
    let plain = recording(2 * CHUNK);
    let mut envelope = sealed(&plain);
    *envelope.last_mut().unwrap() ^= 1;
    let mut written = Vec::new();
    decrypt(&key(1), None, &mut &*envelope, &mut written).unwrap_err();
    assert!(written == plain[..CHUNK], "the first chunk, and nothing of the second");
    written.clear();
    decrypt(&key(2), None, &mut &*envelope, &mut written).unwrap_err();
    assert!(written.is_empty(), "nothing under another key");
}

#[test]
fn an_output_that_fails_is_no_fault_of_the_envelope() {
    let mut room = [0; 10];
    let full = &mut room.as_mut_slice();
    assert!(matches!(decrypt(&key(1), None, &mut &*sealed(&[7; 100]), full), Err(Fault::Write(_))));
}

proptest! {
    #[test]
    fn what_was_sealed_is_opened_and_nothing_else(plain: Vec<u8>, at: prop::sample::Index, change in 1_u8..) {
        let envelope = sealed(&plain);
        prop_assert_eq!(opened(&envelope).unwrap(), plain);
        let mut changed = envelope.clone();
        changed[at.index(envelope.len())] ^= change;
        prop_assert!(opened(&changed).is_err());
        prop_assert!(opened(&envelope[..at.index(envelope.len())]).is_err());
    }

    #[test]
    fn noise_is_refused(noise: Vec<u8>) {
        prop_assert!(opened(&noise).is_err());
        let beginning = [&sealed(b"")[..HEADER], &noise].concat();
        prop_assert!(opened(&beginning).is_err());
    }
}
