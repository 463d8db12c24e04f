//! What one copy of a file slot holds, and its bytes before they are wrapped.

use std::path::Path;

use super::super::{Content, Root};
use crate::crypto::{Secret, SecretBytes, derive};
use crate::model::{Error, Result};

const ROOT: usize = 8 + 32;

/// What a copy holds: the content, and where all copies were when it was written.
pub struct Stored {
    /// What the slot holds.
    pub content: Content,
    /// The places of the copies.
    pub places: Vec<String>,
}

impl Stored {
    /// The bytes to be wrapped.
    pub fn encode(content: &Content, places: &[String]) -> Result<SecretBytes> {
        let places = serde_json::to_vec(places).map_err(Error::internal)?;
        let mut plain = SecretBytes::with_capacity(16 + 1 + 2 * ROOT + places.len());
        plain.append(&content.tree);
        plain.append(&[if content.next.is_some() { 2 } else { 1 }]);
        for root in std::iter::once(&content.current).chain(&content.next) {
            plain.append(&root.epoch.to_be_bytes());
            plain.append(root.key.expose());
        }
        plain.append(&places);
        Ok(plain)
    }

    /// Reads what [`Stored::encode`] wrote.
    pub fn decode(plain: &[u8]) -> Option<Self> {
        let (tree, rest) = plain.split_first_chunk::<16>()?;
        let (roots, rest) = rest.split_first()?;
        let (current, rest) = rest.split_at_checked(ROOT)?;
        let (next, places) = match roots {
            1 => (None, rest),
            2 => rest.split_at_checked(ROOT).map(|(next, places)| (Some(next), places))?,
            _ => return None,
        };
        let next = match next {
            Some(next) => Some(root(next)?),
            None => None,
        };
        let content = Content { next, ..Content::first(*tree, root(current)?) };
        Some(Self { content, places: serde_json::from_slice(places).ok()? })
    }

    /// Whether a copy was at that place when this one was written.
    pub fn knows(&self, path: &Path) -> bool {
        self.places.iter().any(|place| place.as_str() == path.to_string_lossy())
    }

    /// Whether it holds exactly these roots.
    pub fn holds(&self, content: &Content) -> bool {
        let next = |content: &Content| content.next.as_ref().map(|next| next.id);
        self.content.current.id == content.current.id && next(&self.content) == next(content)
    }

    /// Where it stands in time: whoever has advanced further, and then whoever has prepared further, decides.
    pub fn age(&self) -> (u64, Option<u64>) {
        (self.content.current.epoch, self.content.next.as_ref().map(|next| next.epoch))
    }
}

fn root(bytes: &[u8]) -> Option<Root> {
    let (epoch, key) = bytes.split_first_chunk::<8>()?;
    let key = Secret::from_slice(key)?;
    Some(Root { id: derive::root_id(&key), epoch: u64::from_be_bytes(*epoch), key })
}
