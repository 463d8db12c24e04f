//! Signed checkpoints: how far a chain has come, in a note that anybody can keep and check (`c2sp.org/tlog-checkpoint`).
//!
//! Each chain is a log of its own. Its leaves are the hashes of its batches, in order, so that its size is the number of
//! the newest batch. Two lines more than the format asks for name the hash of that batch and the time.

use data_encoding::BASE64;

use crate::crypto::merkle::Frontier;
use crate::crypto::note;
use crate::keys::checkpoint::{hex, unhex};
use crate::model::Time;
use crate::store::audit::{Mark, MarkKind};
use crate::store::node::NodeId;

/// What the name of every log begins with.
const ORIGIN: &str = "lacuna/audit/";

/// What the line begins with that names the hash of the newest batch.
const HEAD: &str = "head ";

/// What the line begins with that tells when it was signed.
const TIME: &str = "time ";

/// The line that says that everything up to here was cut off.
const CUT: &str = "cut";

/// What the database says that was signed of a chain, with what is needed to go on from there; `None` when it was not, or
/// not of this vault.
#[must_use]
pub fn read_mark(mark: &Mark, vault: &VaultId, keys: &[Vec<u8>]) -> Option<(Checkpoint, Frontier)> {
    let signed = Checkpoint::open(&mark.note, keys)?;
    let frontier = unflatten(mark.size, &mark.frontier)?;
    let cut = mark.kind == MarkKind::Cut;
    let fits = (signed.vault, signed.node, signed.size, signed.cut) == (*vault, mark.node, mark.size, cut);
    (fits && frontier.root() == signed.root).then_some((signed, frontier))
}

/// The id of a vault: that of its key tree.
pub type VaultId = [u8; 16];

/// How far a chain had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The vault, by its tree.
    pub vault: VaultId,
    /// Whose chain.
    pub node: NodeId,
    /// How many batches there were.
    pub size: u64,
    /// The root over their hashes (RFC 6962).
    pub root: [u8; 32],
    /// The hash of the newest batch.
    pub head: [u8; 32],
    /// When it was signed.
    pub time: Time,
    /// Whether the chain begins here because what came before was old enough to be removed.
    pub cut: bool,
}

impl Checkpoint {
    /// The name of the log, which is that of the key too.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{ORIGIN}{}/{}", hex(&self.vault), hex(&self.node))
    }

    /// Whether both tell the same of the same chain, whenever they were signed.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        let of = |one: &Self| (one.vault, one.node, one.size, one.root, one.head, one.cut);
        of(self) == of(other)
    }

    /// What is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let (origin, root, head) = (self.origin(), BASE64.encode(&self.root), BASE64.encode(&self.head));
        let cut = if self.cut { "cut\n" } else { "" };
        format!("{origin}\n{}\n{root}\n{HEAD}{head}\n{TIME}{}\n{cut}", self.size, self.time)
    }

    /// The checkpoint in a note that one of these keys has signed; `None` when none has, or when it says something else.
    #[must_use]
    pub fn open(signed: &str, keys: &[Vec<u8>]) -> Option<Self> {
        let origin = signed.lines().next()?;
        let (text, _) = note::open(signed, origin, keys)?;
        let mut lines = text.lines();
        let (vault, node) = lines.next()?.strip_prefix(ORIGIN)?.split_once('/')?;
        let checkpoint = Self {
            vault: unhex(vault)?,
            node: unhex(node)?,
            size: lines.next()?.parse().ok()?,
            root: hash(lines.next()?)?,
            head: hash(lines.next()?.strip_prefix(HEAD)?)?,
            time: Time::parse(lines.next()?.strip_prefix(TIME)?)?,
            cut: lines.next().is_some_and(|line| line == CUT),
        };
        // Whatever else might be said in it would be signed and not understood.
        (checkpoint.text() == text).then_some(checkpoint)
    }
}

fn hash(text: &str) -> Option<[u8; 32]> {
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// The roots of a frontier, one after the other.
#[must_use]
pub fn flatten(frontier: &Frontier) -> Vec<u8> {
    frontier.roots().concat()
}

/// A frontier that was kept.
#[must_use]
pub fn unflatten(size: u64, roots: &[u8]) -> Option<Frontier> {
    let (roots, rest) = roots.as_chunks::<32>();
    Frontier::of(size, roots.to_vec()).filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;
    use crate::crypto::testing::Seeded;

    #[test]
    fn what_is_signed_is_read_as_it_was_meant_and_nothing_else_is() {
        let (key, _) = SigningKey::generate(&Seeded::new(1)).unwrap();
        let (vault, node, time) = ([1; 16], [2; 16], Time::from_micros(1_800_000_000_000_000));
        for cut in [false, true] {
            let checkpoint = Checkpoint { vault, node, size: 7, root: [3; 32], head: [4; 32], time, cut };
            let name = checkpoint.origin();
            let signed = note::sign(&checkpoint.text(), &name, &key);
            let keys = [vec![0; 32], key.public().to_vec()];
            assert_eq!(Checkpoint::open(&signed, &keys), Some(checkpoint.clone()));
            assert_eq!(Checkpoint::open(&signed, &keys[..1]), None, "by another key");
            for text in [checkpoint.text() + "more\n", checkpoint.text().replace("\n7\n", "\n07\n")] {
                assert_eq!(Checkpoint::open(&note::sign(&text, &name, &key), &keys), None, "{text}");
            }
        }
    }

    #[test]
    fn a_frontier_is_kept_whole_or_not_at_all() {
        let mut frontier = Frontier::default();
        (0..5).for_each(|n| frontier.push([n; 32]));
        let flat = flatten(&frontier);
        assert_eq!(unflatten(5, &flat), Some(frontier));
        assert_eq!(unflatten(4, &flat), None);
        assert_eq!(unflatten(5, flat.get(1..).unwrap()), None);
    }
}
