//! Associated data: the place a sealed value belongs to, spelt so that two places never read the same.

/// What a seal is bound to, as unambiguous bytes: a label, then each coordinate of the place.
///
/// Every part is preceded by its length in bytes (eight bytes, big endian), so a byte can never move from one part
/// to its neighbour unnoticed. The label names the kind of value and fixes which parts follow, in which order.
pub struct Aad(Vec<u8>);

impl Aad {
    /// Starts with `label`, which must be unique to one kind of sealed value and one version of its parts.
    #[must_use]
    pub fn new(label: &'static str) -> Self {
        Self(Vec::with_capacity(160)).text(label)
    }

    /// Adds raw bytes, such as an id.
    #[must_use]
    pub fn bytes(mut self, part: &[u8]) -> Self {
        append(&mut self.0, part);
        self
    }

    /// Adds a number, as eight bytes, big endian.
    #[must_use]
    pub fn number(self, part: u64) -> Self {
        self.bytes(&part.to_be_bytes())
    }

    /// Adds a text, as UTF-8.
    #[must_use]
    pub fn text(self, part: &str) -> Self {
        self.bytes(part.as_bytes())
    }

    /// The bytes to authenticate.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn append(to: &mut Vec<u8>, part: &[u8]) {
    to.extend_from_slice(&prefix(part));
    to.extend_from_slice(part);
}

/// The length that precedes a part: eight bytes hold any length, so no two parts can share a prefix by overflow.
pub(super) fn prefix(part: &[u8]) -> [u8; 8] {
    (part.len() as u64).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_each_part_with_its_length() {
        let aad = Aad::new("ab").bytes(&[7]).number(258).text("é");
        let expected = [
            &[0, 0, 0, 0, 0, 0, 0, 2][..],
            b"ab",
            &[0, 0, 0, 0, 0, 0, 0, 1, 7],
            &[0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 0, 0, 0, 0, 0, 0, 2, 0xc3, 0xa9],
        ];
        assert_eq!(aad.as_bytes(), expected.concat());
    }

    #[test]
    fn a_byte_cannot_move_between_parts() {
        let one = Aad::new("x").text("ab").text("c");
        let other = Aad::new("x").text("a").text("bc");
        assert_ne!(one.as_bytes(), other.as_bytes());
        assert_ne!(Aad::new("x").text("").as_bytes(), Aad::new("x").as_bytes());
    }
}
