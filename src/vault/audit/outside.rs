//! The places outside the database where checkpoints are kept. Whoever can write to the database and not to them can
//! neither cut off the end of the log nor put an older copy in place unseen.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use crate::keys::checkpoint::{hex, unhex};
use crate::keys::sink::CheckpointSink;
use crate::model::Result;
use crate::store::node::NodeId;

/// What the names of checkpoints begin with.
const KIND: &str = "audit";

/// What the names of cuts begin with.
const CUT: &str = "auditcut";

/// How many checkpoints of a chain a place may have before the older ones are thinned out.
const MOST: usize = 512;

/// The places.
#[derive(Clone, Default)]
pub struct Outside(Vec<Arc<dyn CheckpointSink>>);

/// What the places know.
#[derive(Debug, Default)]
pub struct Known {
    /// The checkpoints, each once.
    pub checkpoints: Vec<Checkpoint>,
    /// What could not be read, and what nobody has signed who should have, for people.
    pub troubles: Vec<String>,
}

impl Outside {
    /// These places.
    #[must_use]
    pub const fn new(places: Vec<Arc<dyn CheckpointSink>>) -> Self {
        Self(places)
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
    pub async fn put(&self, checkpoint: &Checkpoint, note: &str) -> Vec<String> {
        let name = name(checkpoint);
        let mut troubles = Vec::new();
        for place in &self.0 {
            let put = async {
                place.is_there().await?;
                // Another node may have signed the same a moment before, or this one before it was stopped.
                match place.get(&name).await? {
                    Some(_) => Ok(()),
                    None => place.put(&name, note.as_bytes()).await,
                }
            };
            match put.await {
                Ok(()) => thin(&**place, &checkpoint.node).await,
                Err(error) => troubles.push(format!("{}: {error}", place.describe())),
            }
        }
        troubles
    }

    /// Everything that the places know. What is not signed by one of these keys does not count.
    pub async fn read(&self, keys: &[Vec<u8>]) -> Known {
        self.read_of(keys, |names| names).await
    }

    /// The newest checkpoint of a chain that each place knows.
    pub async fn newest(&self, keys: &[Vec<u8>], node: &NodeId) -> Known {
        let newest =
            |names: Vec<String>| names.into_iter().rfind(|name| parse(name).is_some_and(|(_, of)| of == *node));
        self.read_of(keys, |names| newest(names).into_iter().collect()).await
    }

    async fn read_of(&self, keys: &[Vec<u8>], which: impl Fn(Vec<String>) -> Vec<String>) -> Known {
        let mut known = Known::default();
        for place in &self.0 {
            let listed = async {
                place.is_there().await?;
                place.list(KIND).await
            };
            let names = match listed.await {
                Ok(names) => which(names),
                Err(error) => {
                    known.troubles.push(format!("{}: {error}", place.describe()));
                    continue;
                }
            };
            for name in names {
                let note = match place.get(&name).await {
                    Ok(note) => note.and_then(|note| String::from_utf8(note).ok()).unwrap_or_default(),
                    Err(error) => {
                        known.troubles.push(format!("{name} in {}: {error}", place.describe()));
                        continue;
                    }
                };
                match Checkpoint::open(&note, keys).filter(|checkpoint| self::name(checkpoint) == name) {
                    Some(checkpoint) if !known.checkpoints.contains(&checkpoint) => known.checkpoints.push(checkpoint),
                    Some(_) => {}
                    None => known
                        .troubles
                        .push(format!("{name} in {}: no key of the vault has signed this", place.describe())),
                }
            }
        }
        known
    }
}

/// The name under which a checkpoint is kept. Names of one kind stand in the order of sizes.
fn name(checkpoint: &Checkpoint) -> String {
    let kind = if checkpoint.cut { CUT } else { KIND };
    format!("{kind}-{:020}-{}", checkpoint.size, hex(&checkpoint.node))
}

/// The size and the chain in a name.
pub(crate) fn parse(name: &str) -> Option<(u64, NodeId)> {
    let (size, node) = name.strip_prefix(KIND)?.strip_prefix('-')?.split_once('-')?;
    Some((size.parse().ok()?, unhex(node)?))
}

/// Removes every other one of the older checkpoints of a chain when there are many. A place that allows no removing
/// keeps them all.
async fn thin(place: &dyn CheckpointSink, node: &NodeId) {
    let Ok(names) = place.list(KIND).await else { return };
    let mut of_node: BTreeMap<u64, String> = BTreeMap::new();
    for name in names {
        if let Some((size, of)) = parse(&name)
            && of == *node
        {
            of_node.insert(size, name);
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
