//! Names of the journal's entries. A name tells what is needed to see which entries there are without reading one.

use std::fmt;

use super::super::checkpoint::{hex, unhex};
use super::name::half;
use crate::crypto::derive;

/// The name of an entry of the journal in a sink. It ends with a digest of the content, so that other content has
/// another name and nothing is ever written over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The stamp of the last that was put together in it. Stamps are moments in microseconds since 1970, and grow.
    pub last: i64,
    /// The stamp of the first.
    pub first: i64,
    /// How often what was put together has been put together again.
    pub level: u8,
    /// How many records it holds.
    pub records: u32,
    /// The first half of the SHA-256 of its bytes.
    pub digest: [u8; 16],
}

impl Entry {
    /// What the names of entries begin with.
    pub const KIND: &'static str = "journal";

    /// The name of these bytes.
    #[must_use]
    pub fn of((first, last): (i64, i64), level: u8, records: usize, bytes: &[u8]) -> Self {
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        Self { last, first, level, records, digest: half(&derive::sha256(&[bytes])) }
    }

    /// Reads what `to_string` wrote; `None` for the name of anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("journal-")?.strip_suffix(".entry")?.split('-');
        let (last, first) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (level, records) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let entry = Self { last, first, level, records, digest: unhex(parts.next()?)? };
        (entry.to_string() == text).then_some(entry)
    }

    /// Whether these bytes are the entry's.
    #[must_use]
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        self.digest == half(&derive::sha256(&[bytes]))
    }

    /// Whether all that `other` holds is in this one too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.level > other.level && self.first <= other.first && other.last <= self.last
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { last, first, level, records, digest } = self;
        write!(f, "journal-{last:020}-{first:020}-{level}-{records}-{}.entry", hex(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_nothing_else_is_a_name() {
        let entry = Entry::of((1_800_000_000_000_000, 1_800_000_000_000_007), 1, 64, b"bytes");
        let text = entry.to_string();
        assert_eq!(Entry::parse(&text), Some(entry.clone()));
        assert!(entry.is_of(b"bytes") && !entry.is_of(b"other bytes"));
        for other in [text.replace("entry", "checkpoint"), text.replace("-1-", "-01-"), format!("{text}.new")] {
            assert_eq!(Entry::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn one_that_was_put_together_covers_its_parts_and_nothing_else() {
        let whole = Entry::of((10, 20), 1, 2, b"whole");
        for (part, covered) in [((10, 10), true), ((20, 20), true), ((9, 9), false), ((21, 21), false)] {
            assert_eq!(whole.covers(&Entry::of(part, 0, 1, b"part")), covered, "{part:?}");
        }
        assert!(!whole.covers(&whole));
    }
}
