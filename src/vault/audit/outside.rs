//! The places outside the database where checkpoints are kept. Whoever can write to the database and not to them can
//! neither cut off the end of the log nor put an older copy in place unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::checkpoint::{Checkpoint, VaultId};
use super::place::{AT_ONCE, Place};
use crate::keys::checkpoint::{hex, unhex};
use crate::keys::sink::CheckpointSink;
use crate::model::{Error, Reason, Result};
use crate::store::node::NodeId;

/// What the names of checkpoints begin with.
const KIND: &str = "audit";

/// What the names of cuts begin with.
const CUT: &str = "auditcut";

/// How many checkpoints of a chain a place may have before the older ones are thinned out.
const MOST: usize = 512;

/// The places.
#[derive(Clone, Default)]
pub struct Outside(Vec<Place>);

/// What the places know.
#[derive(Debug, Default)]
pub struct Known {
    /// The checkpoints, each once.
    pub checkpoints: Vec<Checkpoint>,
    /// What could not be read, and what nobody has signed who should have, for people.
    pub troubles: Vec<String>,
    /// How many places could not be read.
    pub unread: usize,
}

impl Outside {
    /// These places.
    #[must_use]
    pub fn new(places: Vec<Arc<dyn CheckpointSink>>) -> Self {
        Self(places.into_iter().map(Place::new).collect())
    }

    /// Makes the places, for a vault that has never had a checkpoint. Later a missing one is an error.
    ///
    /// # Errors
    /// When one cannot be made.
    pub async fn make(&self) -> Result<()> {
        for place in &self.0 {
            place.make().await?;
        }
        Ok(())
    }

    /// Keeps a checkpoint in every place that does not have it. Answers what stood in the way, for each place that has it not.
    pub async fn put(&self, checkpoint: &Checkpoint, note: &str, keys: &[Vec<u8>]) -> Vec<String> {
        let name = name(checkpoint);
        let mut troubles = Vec::new();
        for place in &self.0 {
            let put = async {
                // Another node may have signed the same a moment before, or this one before it was stopped.
                let there = place.get(&name).await?;
                if there.is_none() {
                    return place.put(&name, note.as_bytes()).await;
                }
                if open(there, keys).is_some_and(|there| there.agrees(checkpoint)) {
                    return Ok(());
                }
                Err(Error::new(Reason::KeyCustodianUnavailable, format!("{name} is there and is not what was signed")))
            };
            match put.await {
                Ok(()) => thin(place, checkpoint).await,
                Err(error) => troubles.push(format!("{}: {error}", place.describe())),
            }
        }
        troubles
    }

    /// Everything that the places know. What is not signed by one of these keys does not count.
    pub async fn read(&self, keys: &[Vec<u8>]) -> Known {
        let mut known = Known::default();
        for place in &self.0 {
            let names = known.list(place).await;
            let notes = stream::iter(names).map(async |name| (place.get(&name).await, name)).buffered(AT_ONCE);
            let mut notes = pin!(notes);
            while let Some((note, name)) = notes.next().await {
                match known.note(place, &name, note, keys) {
                    Ok(Some(checkpoint)) if !known.checkpoints.contains(&checkpoint) => {
                        known.checkpoints.push(checkpoint);
                    }
                    _ => {}
                }
            }
        }
        known
    }

    /// The newest checkpoint of a chain that each place knows.
    pub async fn newest(&self, keys: &[Vec<u8>], vault: &VaultId, node: &NodeId) -> Known {
        let mut known = Known::default();
        for place in &self.0 {
            let names = known.list(place).await;
            let of_chain = names.iter().rev().filter(|name| parse(name).is_some_and(|of| of.is(vault, node)));
            for name in of_chain {
                match known.note(place, name, place.get(name).await, keys) {
                    Ok(Some(checkpoint)) => {
                        known.checkpoints.push(checkpoint);
                        break;
                    }
                    // What nobody signed who should have is in nobody's way.
                    Ok(None) => {}
                    // What cannot be read may be what matters: an older one is not the newest.
                    Err(()) => {
                        known.unread += 1;
                        break;
                    }
                }
            }
        }
        known
    }

    /// The chains of a vault that the places have a name of.
    pub async fn chains(&self, vault: &VaultId) -> (BTreeSet<NodeId>, Vec<String>) {
        let (mut known, mut chains) = (Known::default(), BTreeSet::new());
        for place in &self.0 {
            let names = known.list(place).await;
            chains
                .extend(names.iter().filter_map(|name| parse(name)).filter(|of| of.vault == *vault).map(|of| of.node));
        }
        (chains, known.troubles)
    }

    /// How many places there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.0.len()
    }
}

impl Known {
    async fn list(&mut self, place: &Place) -> Vec<String> {
        place.list(KIND).await.unwrap_or_else(|error| {
            self.unread += 1;
            self.troubles.push(format!("{}: {error}", place.describe()));
            Vec::new()
        })
    }

    /// The checkpoint that was read under a name, if somebody has signed it who should; an error when it cannot be read.
    fn note(
        &mut self,
        place: &Place,
        name: &str,
        read: Result<Option<Vec<u8>>>,
        keys: &[Vec<u8>],
    ) -> std::result::Result<Option<Checkpoint>, ()> {
        let (note, unread) = match read {
            // Thinned out since it was listed.
            Ok(None) => return Ok(None),
            Ok(note) => (note, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let signed = open(note, keys).filter(|checkpoint| self::name(checkpoint) == name);
        if signed.is_none() {
            let trouble = unread.as_deref().unwrap_or("no key of the vault has signed this");
            self.troubles.push(format!("{name} in {}: {trouble}", place.describe()));
        }
        if unread.is_some() { Err(()) } else { Ok(signed) }
    }
}

fn open(note: Option<Vec<u8>>, keys: &[Vec<u8>]) -> Option<Checkpoint> {
    Checkpoint::open(&String::from_utf8(note?).ok()?, keys)
}

/// The name under which a checkpoint is kept. Names of one kind stand in the order of sizes.
fn name(checkpoint: &Checkpoint) -> String {
    let kind = if checkpoint.cut { CUT } else { KIND };
    format!("{kind}-{:020}-{}-{}", checkpoint.size, hex(&checkpoint.vault), hex(&checkpoint.node))
}

/// What the name of a checkpoint tells.
pub(crate) struct Of {
    size: u64,
    vault: VaultId,
    node: NodeId,
}

impl Of {
    fn is(&self, vault: &VaultId, node: &NodeId) -> bool {
        (&self.vault, &self.node) == (vault, node)
    }
}

pub(crate) fn parse(name: &str) -> Option<Of> {
    let mut parts = name.strip_prefix(KIND)?.strip_prefix('-')?.splitn(3, '-');
    Some(Of { size: parts.next()?.parse().ok()?, vault: unhex(parts.next()?)?, node: unhex(parts.next()?)? })
}

/// Removes every other one of the older checkpoints of a chain when there are many. A place that allows no removing
/// keeps them all.
async fn thin(place: &Place, newest: &Checkpoint) {
    let Ok(names) = place.list(KIND).await else { return };
    let mut of_node: BTreeMap<u64, String> = BTreeMap::new();
    for name in names {
        if let Some(of) = parse(&name).filter(|of| of.is(&newest.vault, &newest.node)) {
            of_node.insert(of.size, name);
        }
    }
    if of_node.len() <= MOST {
        return;
    }
    for name in of_node.values().take(MOST / 2).skip(1).step_by(2) {
        if let Err(error) = place.remove(name).await {
            tracing::debug!(%error, "an old checkpoint of the audit stays");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::Seeded;
    use crate::crypto::{SigningKey, note};
    use crate::keys::sink::DirectorySink;
    use crate::model::Time;

    const NODE: NodeId = [0; 16];

    fn signed(vault: u8, size: u64, key: &SigningKey) -> (Checkpoint, String) {
        let (root, head) = ([vault; 32], [2; 32]);
        let checkpoint =
            Checkpoint { vault: [vault; 16], node: NODE, size, root, head, time: Time::from_micros(7), cut: false };
        let note = note::sign(&checkpoint.text(), &checkpoint.origin(), key);
        (checkpoint, note)
    }

    #[tokio::test]
    async fn vaults_that_share_a_place_and_strangers_who_write_there_are_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let places = Outside::new(vec![Arc::new(DirectorySink::new(folder.path()))]);
        let [ours, theirs] = [1, 2].map(|seed| SigningKey::generate(&Seeded::new(seed)).unwrap().0);
        let [our_keys, their_keys] = [&ours, &theirs].map(|key| vec![key.public().to_vec()]);
        for size in 1..=3 {
            let (checkpoint, note) = signed(9, size, &theirs);
            assert_eq!(places.put(&checkpoint, &note, &their_keys).await, Vec::<String>::new());
        }
        let (checkpoint, note) = signed(1, 2, &ours);
        for _ in 0..2 {
            assert_eq!(places.put(&checkpoint, &note, &our_keys).await, Vec::<String>::new());
        }
        let stranger = name(&Checkpoint { size: 1 << 40, ..checkpoint.clone() });
        std::fs::write(folder.path().join(&stranger), "anything").unwrap();
        let known = places.newest(&our_keys, &checkpoint.vault, &NODE).await;
        assert_eq!((known.checkpoints, known.troubles.len()), (vec![checkpoint.clone()], 1), "and it is said");
        assert_eq!(places.chains(&checkpoint.vault).await.0, BTreeSet::from([NODE]));

        // What is there under a name and is something else is not taken for what was to be kept.
        let (other, note) = signed(1, 2, &theirs);
        assert_eq!(places.put(&other, &note, &their_keys).await.len(), 1);
    }
}
