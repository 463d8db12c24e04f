//! The search index: which tokens have a given value, in buckets that die with whoever was in them.
//!
//! A normal form is digested under the index key; the digest names a bucket and a tag. A bucket is a row of chunks of
//! fixed size, sealed under a leaf of the bucket's own. Erasing a subject writes their buckets anew under fresh
//! leaves, without them, and punctures the old leaves in the same batch: an old copy of the index then confirms
//! nothing, even to somebody who has the index key and guesses the value.
//!
//! Every bucket exists from the start and every chunk has the same size, so that neither presence nor length tells
//! whether a value is there. Residual: whoever holds a write-ahead log, or PostgreSQL's row versions, together with
//! the index key can tell in which bucket a commit wrote (`log2` of the number of buckets, in bits).
//!
//! A rotation of the index key builds a second *generation* of the index under a new key, beside the one that is read.
//! Meanwhile every entry is put into both. Which generations there are is read within the transaction that writes, once
//! it has locked the buckets: another node may have begun or ended a rotation a moment ago.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use super::ring::{Epoch, INDEX_LEAF, Keyring};
use crate::crypto::{Aad, Key, SecretBytes, open, seal};
use crate::model::{Error, FieldType, Reason, Result, TokenRow};
use crate::store::Tx;
use crate::store::index::{Bucket, Chunk, Generation, Stage};

/// How many buckets a new vault has, unless its configuration says otherwise.
pub const BUCKETS: u32 = 1024;
/// How often a search looks for a bucket that moves while it looks.
const LOOKS: usize = 5;
/// Entries in a chunk.
const ROOM: usize = 32;
/// A tag and a row id.
const ENTRY: usize = 16 + 16;
/// A counted, padded chunk before it is sealed.
const CHUNK: usize = 1 + ROOM * ENTRY;

/// Where a normal form is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// The bucket.
    pub bucket: u32,
    /// What tells the value apart within it.
    tag: [u8; 16],
}

impl Spot {
    /// Whether it is in a generation of the index.
    #[must_use]
    pub fn is_in(&self, generation: &Generation) -> bool {
        generation.numbers().contains(&self.bucket)
    }
}

/// A token under a spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where.
    pub spot: Spot,
    /// Which token.
    pub row: TokenRow,
}

/// The spot of a normal form in a generation; `None` when its key is gone.
pub fn spot(ring: &Keyring, generation: &Generation, kind: FieldType, normal: &[u8]) -> Result<Option<Spot>> {
    let digest = ring.index_digest(generation.leaf, kind, normal)?;
    Ok(digest.map(|digest| spot_of(&digest, generation)))
}

/// The spot that a digest under the generation's key names.
pub(super) fn spot_of(digest: &[u8; 32], generation: &Generation) -> Spot {
    let (mut number, mut tag) = ([0; 8], [0; 16]);
    number.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    tag.iter_mut().zip(digest.iter().skip(16)).for_each(|(to, from)| *to = *from);
    let bucket = u64::from_be_bytes(number) % u64::from(generation.buckets.max(1));
    Spot { bucket: generation.first_bucket + u32::try_from(bucket).unwrap_or_default(), tag }
}

/// The first generation, of a new vault.
#[must_use]
pub const fn first_generation(buckets: u32) -> Generation {
    Generation { generation: 1, leaf: INDEX_LEAF, first_bucket: 0, buckets, stage: Stage::Current }
}

/// Makes empty buckets of these numbers, under leaves from `first_leaf` on.
pub async fn prepare(ring: &Keyring, tx: &mut dyn Tx, numbers: Range<u32>, first_leaf: u32) -> Result<()> {
    let empty =
        |(bucket, leaf)| Contents { bucket: Bucket { bucket, leaf, chunks: 1, dirty: false }, entries: Vec::new() };
    write_anew(ring, tx, numbers.zip(first_leaf..).map(empty).collect()).await
}

/// The generations that are written, with those buckets locked that `touched` names in them. `hint` is what they
/// probably are.
///
/// They are read when the buckets are locked already. Whoever begins a new generation locks each bucket of the present
/// one afterwards, and so waits for every transaction that did not know of the new one.
pub async fn lock(
    tx: &mut dyn Tx,
    hint: &[Generation],
    mut touched: impl FnMut(&[Generation]) -> Result<BTreeSet<u32>> + Send,
) -> Result<Vec<Generation>> {
    let mut known = hint.to_vec();
    loop {
        let buckets: Vec<u32> = touched(&known)?.into_iter().collect();
        tx.lock_buckets(&buckets).await?;
        let present = written(tx).await?;
        if present == known {
            return Ok(known);
        }
        known = present;
    }
}

/// The generations that are written.
pub async fn written(tx: &mut dyn Tx) -> Result<Vec<Generation>> {
    let mut generations = tx.generations().await?;
    generations.retain(Generation::is_written);
    Ok(generations)
}

/// The generation that is read.
#[must_use]
pub fn current(generations: &[Generation]) -> Option<&Generation> {
    generations.iter().find(|generation| generation.stage == Stage::Current)
}

/// The buckets that entries are in.
#[must_use]
pub fn buckets(entries: &[Entry]) -> BTreeSet<u32> {
    entries.iter().map(|entry| entry.spot.bucket).collect()
}

/// Adds entries. Their buckets must be locked.
pub async fn insert(ring: &Keyring, tx: &mut dyn Tx, entries: &[Entry]) -> Result<()> {
    let touched = by_bucket(entries);
    let numbers: Vec<u32> = touched.keys().copied().collect();
    let (epoch, mut chunks, mut grown) = (ring.epoch()?, Vec::new(), Vec::new());
    for tail in tx.tail_chunks(&numbers).await? {
        let key = bucket_key(&epoch, tail.bucket)?;
        let mut rows = open_chunk(&key, &epoch.tree.id(), &tail)?;
        rows.extend(touched.get(&tail.bucket.bucket).into_iter().flatten().copied());
        let (bucket, sealed) = seal_from(ring, &epoch, &key, tail.bucket, tail.chunk, &rows);
        if bucket != tail.bucket {
            grown.push(bucket);
        }
        chunks.extend(sealed);
    }
    tx.put_chunks(&chunks).await?;
    if !grown.is_empty() {
        tx.put_buckets(&grown).await?;
    }
    Ok(())
}

/// The tokens under each normal form, oldest first. Locks nothing: if the buckets move meanwhile, it looks again.
///
/// # Errors
/// `SealBroken` when they are under a key that is gone, however often it looks.
pub async fn find(ring: &Keyring, tx: &mut dyn Tx, kind: FieldType, normals: &[&[u8]]) -> Result<Vec<Vec<TokenRow>>> {
    for _ in 0..LOOKS {
        // Without any keys nothing can be told, not even that one is gone.
        ring.epoch()?;
        let generations = tx.generations().await?;
        let Some(generation) = current(&generations) else { continue };
        let spots = normals.iter().map(|normal| spot(ring, generation, kind, normal));
        let Some(spots) = spots.collect::<Result<Option<Vec<Spot>>>>()? else { continue };
        let numbers: BTreeSet<u32> = spots.iter().map(|spot| spot.bucket).collect();
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let Some(found) = read(ring, tx, &numbers).await?.filter(|found| found.len() == numbers.len()) else {
            continue;
        };
        let entries: Vec<Entry> = found.into_iter().flat_map(|contents| contents.entries).collect();
        let under = |spot: &Spot| {
            let rows = entries.iter().filter(|entry| entry.spot == *spot).map(|entry| entry.row);
            rows.collect::<BTreeSet<TokenRow>>().into_iter().collect()
        };
        return Ok(spots.iter().map(under).collect());
    }
    Err(unreadable())
}

/// The entries under spots whose buckets are locked, so that nobody adds one meanwhile; oldest first.
pub async fn find_locked(ring: &Keyring, tx: &mut dyn Tx, spots: &BTreeSet<Spot>) -> Result<Vec<Entry>> {
    let numbers: BTreeSet<u32> = spots.iter().map(|spot| spot.bucket).collect();
    let contents = read_locked(ring, tx, &numbers.into_iter().collect::<Vec<_>>()).await?;
    let mut found: Vec<Entry> = contents.into_iter().flat_map(|contents| contents.entries).collect();
    found.retain(|entry| spots.contains(&entry.spot));
    found.sort_by_key(|entry| (entry.row, entry.spot));
    found.dedup();
    Ok(found)
}

/// Every token that buckets list; `None` when one of them does not open at this moment.
pub(super) async fn listed(ring: &Keyring, tx: &mut dyn Tx, numbers: &[u32]) -> Result<Option<Vec<TokenRow>>> {
    let entries = |contents: Vec<Contents>| contents.into_iter().flat_map(|contents| contents.entries);
    Ok(read(ring, tx, numbers).await?.map(|contents| entries(contents).map(|entry| entry.row).collect()))
}

/// Takes tokens out of buckets of the live index. Old copies keep the entries, so the buckets are marked, and the next
/// erasure writes them anew. They must be locked.
pub async fn remove(ring: &Keyring, tx: &mut dyn Tx, buckets: &[u32], rows: &[TokenRow]) -> Result<()> {
    let (rows, mut kept) = (rows.iter().copied().collect(), Vec::new());
    for contents in read_locked(ring, tx, buckets).await? {
        let before = contents.entries.len();
        let mut contents = contents.without(&rows);
        if contents.entries.len() < before {
            contents.bucket.dirty = true;
            kept.push(contents);
        }
    }
    write_anew(ring, tx, kept).await
}

/// Writes buckets anew under fresh leaves, without the dead. `fresh` pairs each bucket, as it must still be, with its
/// new leaf. The old leaves are to be punctured in the same batch.
///
/// # Errors
/// `Internal` when a bucket is no longer under the leaf that the batch punctures.
pub(super) async fn rekey(
    ring: &Keyring,
    tx: &mut dyn Tx,
    fresh: &[(Bucket, u32)],
    dead: &HashSet<TokenRow>,
) -> Result<()> {
    let leaves: BTreeMap<u32, (u32, u32)> =
        fresh.iter().map(|(bucket, leaf)| (bucket.bucket, (bucket.leaf, *leaf))).collect();
    let numbers: Vec<u32> = leaves.keys().copied().collect();
    tx.lock_buckets(&numbers).await?;
    let mut renewed = Vec::new();
    for contents in read_locked(ring, tx, &numbers).await? {
        let Some(&(old, new)) = leaves.get(&contents.bucket.bucket) else { continue };
        if contents.bucket.leaf != old {
            return Err(Error::internal("a bucket moved while an erasure was under way"));
        }
        let mut contents = contents.without(dead);
        contents.bucket.leaf = new;
        contents.bucket.dirty = false;
        renewed.push(contents);
    }
    write_anew(ring, tx, renewed).await
}

/// Writes buckets with given entries under given leaves, whatever they held. For rebuilding what cannot be read.
pub async fn rebuild(ring: &Keyring, tx: &mut dyn Tx, buckets: &[Bucket], entries: &[Entry]) -> Result<()> {
    let mut by_number: BTreeMap<u32, Contents> =
        buckets.iter().map(|&bucket| (bucket.bucket, Contents { bucket, entries: Vec::new() })).collect();
    for entry in entries {
        if let Some(contents) = by_number.get_mut(&entry.spot.bucket) {
            contents.entries.push(*entry);
        }
    }
    write_anew(ring, tx, by_number.into_values().collect()).await
}

/// A bucket, opened.
struct Contents {
    bucket: Bucket,
    entries: Vec<Entry>,
}

impl Contents {
    fn without(mut self, dead: &HashSet<TokenRow>) -> Self {
        self.entries.retain(|entry| !dead.contains(&entry.row));
        self
    }

    fn seal(&self, ring: &Keyring, epoch: &Epoch) -> Result<(Bucket, Vec<Chunk>)> {
        let key = bucket_key(epoch, self.bucket)?;
        Ok(seal_from(ring, epoch, &key, Bucket { chunks: 1, ..self.bucket }, 0, &self.entries))
    }
}

/// Opens buckets; `None` when one is under a key that is gone. A bucket that does not exist is left out.
async fn read(ring: &Keyring, tx: &mut dyn Tx, numbers: &[u32]) -> Result<Option<Vec<Contents>>> {
    let epoch = ring.epoch()?;
    let mut all: Vec<Contents> = Vec::new();
    let mut key = None;
    for chunk in tx.chunks(numbers).await? {
        if all.last().is_none_or(|last| last.bucket != chunk.bucket) {
            key = Keyring::bucket_key(&epoch, chunk.bucket.bucket, chunk.bucket.leaf);
            all.push(Contents { bucket: chunk.bucket, entries: Vec::new() });
        }
        let (Some(key), Some(contents)) = (&key, all.last_mut()) else { return Ok(None) };
        contents.entries.extend(open_chunk(key, &epoch.tree.id(), &chunk)?);
    }
    Ok(Some(all))
}

/// The same for buckets that are locked, whose keys cannot go away.
async fn read_locked(ring: &Keyring, tx: &mut dyn Tx, numbers: &[u32]) -> Result<Vec<Contents>> {
    read(ring, tx, numbers).await?.ok_or_else(unreadable)
}

async fn write_anew(ring: &Keyring, tx: &mut dyn Tx, contents: Vec<Contents>) -> Result<()> {
    let epoch = ring.epoch()?;
    let (mut buckets, mut chunks) = (Vec::new(), Vec::new());
    for mut contents in contents {
        // A token that was written while a rotation came by is listed twice.
        let mut seen = HashSet::new();
        contents.entries.retain(|entry| seen.insert(*entry));
        let (bucket, sealed) = contents.seal(ring, &epoch)?;
        buckets.push(bucket);
        chunks.extend(sealed);
    }
    tx.delete_chunks(&buckets.iter().map(|bucket| bucket.bucket).collect::<Vec<_>>()).await?;
    tx.put_buckets(&buckets).await?;
    tx.put_chunks(&chunks).await
}

/// Seals entries into as many chunks as they need, from chunk number `from` on.
fn seal_from(
    ring: &Keyring,
    epoch: &Epoch,
    key: &Key,
    bucket: Bucket,
    from: u32,
    entries: &[Entry],
) -> (Bucket, Vec<Chunk>) {
    let parts: Vec<&[Entry]> = if entries.is_empty() { vec![&[]] } else { entries.chunks(ROOM).collect() };
    let grown = Bucket { chunks: from + u32::try_from(parts.len()).unwrap_or(u32::MAX), ..bucket };
    let tree = epoch.tree.id();
    let seal_part = |(chunk, part): (u32, &[Entry])| Chunk {
        bucket: grown,
        chunk,
        blob: seal(key, bucket.leaf.into(), &bind(&tree, bucket, chunk), encode(part).expose(), ring.random()),
    };
    (grown, (from..).zip(parts).map(seal_part).collect())
}

/// The entries of one chunk.
pub(super) fn open_chunk(key: &Key, tree: &[u8; 16], chunk: &Chunk) -> Result<Vec<Entry>> {
    let plain = open(key, &bind(tree, chunk.bucket, chunk.chunk), &chunk.blob).map_err(|_| damaged())?;
    decode(chunk.bucket.bucket, plain.expose()).ok_or_else(damaged)
}

pub(crate) fn encode(entries: &[Entry]) -> SecretBytes {
    let mut plain = SecretBytes::with_capacity(CHUNK);
    plain.append(&[u8::try_from(entries.len()).unwrap_or_default()]);
    for entry in entries {
        plain.append(&entry.spot.tag);
        plain.append(entry.row.as_bytes());
    }
    for _ in entries.len()..ROOM {
        plain.append(&[0; ENTRY]);
    }
    plain
}

pub(crate) fn decode(bucket: u32, plain: &[u8]) -> Option<Vec<Entry>> {
    let (count, rows) = plain.split_first()?;
    let count = usize::from(*count);
    if count > ROOM || plain.len() != CHUNK {
        return None;
    }
    let entry = |bytes: &[u8]| {
        let (tag, row) = bytes.split_first_chunk::<16>()?;
        Some(Entry { spot: Spot { bucket, tag: *tag }, row: TokenRow::from_slice(row)? })
    };
    rows.chunks_exact(ENTRY).take(count).map(entry).collect()
}

fn bind(tree: &[u8; 16], bucket: Bucket, chunk: u32) -> Aad {
    Aad::new("lacuna/index-chunk/v1")
        .bytes(tree)
        .number(bucket.bucket.into())
        .number(bucket.leaf.into())
        .number(chunk.into())
}

fn bucket_key(epoch: &Epoch, bucket: Bucket) -> Result<Key> {
    Keyring::bucket_key(epoch, bucket.bucket, bucket.leaf).ok_or_else(unreadable)
}

pub(super) fn unreadable() -> Error {
    Error::new(Reason::SealBroken, "part of the search index is under a punctured key; restart to rebuild it")
}

fn by_bucket(entries: &[Entry]) -> BTreeMap<u32, Vec<Entry>> {
    let mut buckets: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        buckets.entry(entry.spot.bucket).or_default().push(*entry);
    }
    buckets
}

fn damaged() -> Error {
    Error::new(Reason::SealBroken, "a chunk of the search index does not open in its place")
}
