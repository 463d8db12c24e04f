//! Names of checkpoints. A name tells what is needed to see which checkpoints hang together without reading one.

use std::fmt;

use super::super::checkpoint::{hex, unhex};
use crate::crypto::derive;

/// The name of a checkpoint in a sink. It ends with a digest of the content, so that other content has another name
/// and nothing is ever written over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The epoch.
    pub epoch: u64,
    /// The root that opens it.
    pub root_id: [u8; 16],
    /// The first half of the SHA-256 of its bytes.
    pub digest: [u8; 16],
    /// The digest of the checkpoint before it; nothing but zeroes when it was not known.
    pub before: [u8; 16],
    /// Whether it is whole, and only people who investigate need what was before it.
    pub whole: bool,
}

impl Name {
    /// What the names of checkpoints begin with.
    pub const KIND: &'static str = "keys";

    /// The name of a checkpoint that comes after another.
    #[must_use]
    pub fn of(epoch: u64, root_id: [u8; 16], bytes: &[u8], before: Option<&Self>, whole: bool) -> Self {
        let before = before.map_or([0; 16], |name| name.digest);
        Self { epoch, root_id, digest: half(&derive::sha256(&[bytes])), before, whole }
    }

    /// Reads what `to_string` wrote; `None` for the name of anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("keys-")?.strip_suffix(".checkpoint")?.split('-');
        let epoch = parts.next()?.parse().ok()?;
        let (root_id, digest) = (unhex(parts.next()?)?, unhex(parts.next()?)?);
        let whole = match parts.next()? {
            "whole" => true,
            "after" => false,
            _ => return None,
        };
        let name = Self { epoch, root_id, digest, whole, before: unhex(parts.next()?)? };
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, root_id, digest, before, whole } = self;
        let kind = if *whole { "whole" } else { "after" };
        write!(f, "keys-{epoch:020}-{}-{}-{kind}-{}.checkpoint", hex(root_id), hex(digest), hex(before))
    }
}

/// The half of a digest that stands in names.
pub fn half(digest: &[u8; 32]) -> [u8; 16] {
    let [first, _] = digest.as_chunks().0 else { return [0; 16] };
    *first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_nothing_else_is_a_name() {
        let before = Name::of(6, [1; 16], b"before", None, true);
        let name = Name::of(7, [2; 16], b"bytes", Some(&before), false);
        assert_eq!(Name::parse(&name.to_string()), Some(name.clone()));
        assert_eq!(Name::parse(&before.to_string()), Some(before.clone()));
        assert_eq!((before.before, name.before), ([0; 16], before.digest));
        assert!(before < name, "in the order of epochs");
        let text = name.to_string();
        for other in
            [text.replace("after", "behind"), text.replace("keys", "key"), format!("{text}.new"), text.to_uppercase()]
        {
            assert_eq!(Name::parse(&other), None, "{other}");
        }
    }
}
