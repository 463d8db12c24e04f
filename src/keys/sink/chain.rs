//! Chains: a whole checkpoint and those after it, each vouched for by the next, the newest by the root in the slot.

use super::super::checkpoint::{Base, Checkpoint, State, hex, unhex};
use super::super::slot::Root;
use super::name::half;
use super::{CheckpointSink, Name, unusable};
use crate::crypto::derive;
use crate::model::{Error, Result};

/// A checkpoint that was found to be what the next one, or the root, says.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name.
    pub name: Name,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// How many bytes it has.
    pub bytes: u64,
}

impl Link {
    /// The checkpoint of these bytes.
    pub fn of(name: Name, bytes: &[u8]) -> Self {
        Self { name, sha256: derive::sha256(&[bytes]), bytes: bytes.len() as u64 }
    }

    /// How the checkpoint after it names it.
    pub fn base(&self) -> Base {
        Base { root_id: hex(&self.name.root_id), sha256: hex(&self.sha256) }
    }
}

/// The key state of `root`, put together from a sink. `None` when the sink holds no checkpoint of that root.
///
/// # Errors
/// Naming the checkpoint that was altered, cut or is missing. Nothing of the others is used then.
pub async fn rebuild(sink: &dyn CheckpointSink, root: &Root) -> Result<Option<State>> {
    let Some(chain) = read(sink, &sink.checkpoints().await?, root, &[]).await? else { return Ok(None) };
    let mut state = State::default();
    for (link, checkpoint) in chain {
        let applied = checkpoint.content().and_then(|content| state.apply(content));
        applied.map_err(|error| about(sink, &link.name, error))?;
    }
    Ok(Some(state))
}

/// The chain that ends with the checkpoint of `root`, oldest first, having read all that is not `known`. `None` when the
/// sink holds no checkpoint of that root.
pub async fn trace(
    sink: &dyn CheckpointSink,
    names: &[Name],
    root: &Root,
    known: &[Link],
) -> Result<Option<Vec<Link>>> {
    let Some(read) = read(sink, names, root, known).await? else { return Ok(None) };
    let base = read.first().and_then(|(_, oldest)| oldest.base.clone());
    let upto = base.map_or(0, |base| known.iter().position(|link| link.base() == base).map_or(0, |at| at + 1));
    Ok(Some(known.iter().take(upto).cloned().chain(read.into_iter().map(|(link, _)| link)).collect()))
}

type Read = Vec<(Link, Checkpoint)>;

/// Reads back from a checkpoint of `root` to a whole one, or to one that is known; oldest first. Of several checkpoints
/// of the root any will do.
async fn read(sink: &dyn CheckpointSink, names: &[Name], root: &Root, known: &[Link]) -> Result<Option<Read>> {
    let mut trouble = None;
    for newest in names.iter().filter(|name| name.root_id == root.id) {
        match read_from(sink, names, newest, root, known).await {
            Ok(chain) => return Ok(Some(chain)),
            Err(error) => trouble = Some(error),
        }
    }
    trouble.map_or(Ok(None), Err)
}

async fn read_from(
    sink: &dyn CheckpointSink,
    names: &[Name],
    newest: &Name,
    root: &Root,
    known: &[Link],
) -> Result<Read> {
    let bytes = fetch(sink, newest).await?;
    let checkpoint = Checkpoint::open(&bytes, root).map_err(|error| about(sink, newest, error))?;
    let mut chain = vec![(Link::of(newest.clone(), &bytes), checkpoint)];
    while let Some((link, last)) = chain.last()
        && let Some(base) = last.base.clone()
        && !known.iter().any(|link| link.base() == base)
    {
        let name = named(names, &base).ok_or_else(|| {
            let root = &base.root_id;
            about(
                sink,
                &link.name,
                unusable(format!("it goes on from the checkpoint of root {root}, which is missing")),
            )
        })?;
        let bytes = fetch(sink, name).await?;
        let checkpoint = Checkpoint::open_base(&bytes, &base).map_err(|error| about(sink, name, error))?;
        if checkpoint.epoch >= last.epoch || checkpoint.tree != last.tree || checkpoint.root_id != base.root_id {
            return Err(about(sink, name, unusable("it is not what the checkpoint after it says".to_owned())));
        }
        chain.push((Link::of(name.clone(), &bytes), checkpoint));
    }
    chain.reverse();
    Ok(chain)
}

fn named<'a>(names: &'a [Name], base: &Base) -> Option<&'a Name> {
    let root_id = unhex(&base.root_id)?;
    let digest = data_encoding::HEXLOWER.decode(base.sha256.as_bytes()).ok()?;
    let digest = half(digest.as_slice().try_into().ok()?);
    names.iter().find(|name| name.root_id == root_id && name.digest == digest)
}

async fn fetch(sink: &dyn CheckpointSink, name: &Name) -> Result<Vec<u8>> {
    let gone = || about(sink, name, unusable("it is missing".to_owned()));
    sink.get(&name.to_string()).await?.ok_or_else(gone)
}

fn about(sink: &dyn CheckpointSink, name: &Name, error: Error) -> Error {
    Error::new(error.reason, format!("{name} in {}: {error}", sink.describe())).because(error)
}
