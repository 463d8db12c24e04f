//! Padding: a ciphertext is as long as its plaintext, so the plaintext is first brought to one of a few lengths.
//!
//! ISO/IEC 7816-4: one byte `0x80`, then zeroes. It is removed without knowing the length it was padded to.

use super::SecretBytes;

const MARK: u8 = 0x80;

/// Beyond the largest class, lengths grow in steps of this many bytes.
const STEP: usize = 32;

/// Pads `plain` to the first of `classes` (bytes, ascending) that holds it and the mark; beyond the last class, to
/// the next multiple of 32 bytes.
#[must_use]
pub fn pad(plain: &[u8], classes: &[usize]) -> SecretBytes {
    let needed = plain.len() + 1;
    let class = classes.iter().copied().find(|class| *class >= needed);
    let length = class.unwrap_or_else(|| needed.next_multiple_of(STEP));
    let mut padded = Vec::with_capacity(length);
    padded.extend_from_slice(plain);
    padded.push(MARK);
    padded.resize(length, 0);
    SecretBytes::new(padded)
}

/// Takes the padding off, in place; `None` if there is no mark, which no padded value lacks.
///
/// Use it only on what an authenticated seal gave back: how long it takes depends on the padding.
#[must_use]
pub fn unpad(padded: SecretBytes) -> Option<SecretBytes> {
    let zeroes = padded.expose().iter().rev().take_while(|byte| **byte == 0).count();
    let mark = padded.len().checked_sub(zeroes + 1)?;
    if padded.expose().get(mark) != Some(&MARK) {
        return None;
    }
    let mut plain = padded.into_exposed();
    plain.truncate(mark);
    Some(SecretBytes::new(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pads_to_the_first_class_that_fits() {
        let cases = [(0, 16), (15, 16), (16, 64), (63, 64), (64, 96), (95, 96), (96, 128)];
        for (plain, padded) in cases {
            assert_eq!(pad(&vec![b'x'; plain], &[16, 64]).len(), padded, "{plain} bytes");
        }
        assert_eq!(pad(b"", &[]).len(), 32);
    }

    #[test]
    fn refuses_what_was_never_padded() {
        for malformed in [&b""[..], b"\0\0\0", b"abc", b"\x80\x01", b"\x80\x00\x7f\x00"] {
            assert!(unpad(SecretBytes::new(malformed.to_vec())).is_none(), "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn comes_back_whole(plain: Vec<u8>) {
            let padded = pad(&plain, &[32, 64]);
            prop_assert!(padded.len() > plain.len() && padded.len().is_multiple_of(32));
            let unpadded = unpad(padded).unwrap();
            prop_assert_eq!(unpadded.expose(), &plain);
        }
    }
}
