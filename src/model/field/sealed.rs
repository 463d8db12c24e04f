//! The bytes of a value that are sealed, padded so that the length of a ciphertext tells little about the value.
//!
//! Layout: version (1 byte), flags (1 byte; 1 = a normal form follows), length of the raw value (4 bytes, big endian),
//! the raw value, the normal form. Then padding of ISO/IEC 7816-4: 0x80 and zeros up to the next length class.

use super::{FieldType, Value};
use crate::crypto::SecretBytes;

const VERSION: u8 = 1;
const HAS_NORMAL: u8 = 1;
const HEADER: usize = 6;
const PAD: u8 = 0x80;

impl Value {
    /// The value as bytes to be sealed, padded to a length class of its type.
    #[must_use]
    pub fn encode(&self) -> SecretBytes {
        let normal = self.normal.as_ref().map(SecretBytes::expose);
        let length = HEADER + self.raw.len() + normal.map_or(0, <[u8]>::len);
        let padded = padded_length(self.kind, length + 1);
        // Room for everything at once: growing would leave copies behind.
        let mut bytes = Vec::with_capacity(padded);
        bytes.extend([VERSION, if normal.is_some() { HAS_NORMAL } else { 0 }]);
        bytes.extend(u32::try_from(self.raw.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(self.raw.expose());
        bytes.extend(normal.unwrap_or_default());
        bytes.push(PAD);
        bytes.resize(padded, 0);
        SecretBytes::new(bytes)
    }

    /// The value that [`Value::encode`] gave these bytes for; `None` if it did not. Nothing is validated anew.
    #[must_use]
    pub fn decode(kind: FieldType, bytes: &[u8]) -> Option<Self> {
        let (header, body) = unpadded(bytes)?.split_at_checked(HEADER)?;
        let (&[VERSION, flags], length) = header.split_first_chunk()? else { return None };
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        let (raw, normal) = body.split_at_checked(length)?;
        let normal = match flags {
            0 if normal.is_empty() => None,
            HAS_NORMAL => Some(SecretBytes::new(normal.to_vec())),
            _ => return None,
        };
        Some(Self { kind, raw: SecretBytes::new(raw.to_vec()), normal })
    }
}

/// The length class for `length` bytes: steps of 32 bytes to 512, above that steps of at most an eighth of the length,
/// and never below what most values of the type need.
fn padded_length(kind: FieldType, length: usize) -> usize {
    let floor = match kind {
        FieldType::Email => 96,
        FieldType::PersonName => 64,
        FieldType::PostalAddress | FieldType::PaymentCard => 192,
        _ => 32,
    };
    let step = (length.next_power_of_two() / 16).max(32);
    length.next_multiple_of(step).max(floor)
}

/// The bytes before the padding; `None` if there is no padding.
fn unpadded(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().rposition(|&byte| byte != 0)?;
    (bytes.get(end) == Some(&PAD)).then(|| bytes.get(..end)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_from_a_small_set() {
        let lengths: std::collections::BTreeSet<usize> =
            (1..=70_000).map(|length| padded_length(FieldType::Text, length)).collect();
        assert!(lengths.len() <= 80, "{}", lengths.len());
        assert!((1..=70_000).all(|length| {
            let padded = padded_length(FieldType::Text, length);
            padded >= length && padded <= length + length / 8 + 32
        }));
    }

    #[test]
    fn foreign_bytes_are_not_values() {
        let foreign: [&[u8]; 6] = [
            b"",
            b"\x80",
            b"\0\0\0",
            b"\x02\0\0\0\0\x01a\x80\0",
            b"\x01\0\0\0\0\x05a\x80\0",
            b"\x01\x02\0\0\0\x01a\x80\0",
        ];
        for bytes in foreign {
            assert!(Value::decode(FieldType::Text, bytes).is_none());
        }
        assert!(Value::decode(FieldType::Text, b"\x01\0\0\0\0\x01a\x80\0").is_some());
    }
}
