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

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::ring::{Epoch, Keyring};
use crate::crypto::{Aad, Key, SecretBytes, open, seal};
use crate::model::{Error, FieldType, Reason, Result, TokenRow};
use crate::store::Tx;
use crate::store::index::{Bucket, Chunk};

/// How many buckets a new vault has, unless its configuration says otherwise.
pub const BUCKETS: u32 = 1024;
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

/// A token under a spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where.
    pub spot: Spot,
    /// Which token.
    pub row: TokenRow,
}

/// The spot of a normal form among `buckets`.
#[must_use]
pub fn spot(ring: &Keyring, buckets: u32, kind: FieldType, normal: &[u8]) -> Spot {
    spot_of(&ring.index_digest(kind, normal), buckets)
}

/// The spot that a digest under the index key names.
pub(super) fn spot_of(digest: &[u8; 32], buckets: u32) -> Spot {
    let (mut number, mut tag) = ([0; 8], [0; 16]);
    number.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    tag.iter_mut().zip(digest.iter().skip(16)).for_each(|(to, from)| *to = *from);
    let bucket = u64::from_be_bytes(number) % u64::from(buckets.max(1));
    Spot { bucket: u32::try_from(bucket).unwrap_or_default(), tag }
}

/// The empty buckets of a new vault, under leaves from `first_leaf` on.
pub fn genesis(ring: &Keyring, buckets: u32, first_leaf: u32) -> Result<(Vec<Bucket>, Vec<Chunk>)> {
    let epoch = ring.epoch()?;
    let buckets: Vec<_> =
        (0..buckets).map(|bucket| Bucket { bucket, leaf: first_leaf + bucket, chunks: 1, dirty: false }).collect();
    let mut chunks = Vec::new();
    for &bucket in &buckets {
        chunks.extend(Contents::default().seal(ring, &epoch, bucket)?.1);
    }
    Ok((buckets, chunks))
}

/// Adds entries, locking their buckets until the transaction ends.
pub async fn insert(ring: &Keyring, tx: &mut dyn Tx, entries: &[Entry]) -> Result<()> {
    let touched = by_bucket(entries);
    let numbers: Vec<u32> = touched.keys().copied().collect();
    tx.lock_buckets(&numbers).await?;
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

/// The tokens under each spot, oldest first. Locks nothing.
pub async fn find(ring: &Keyring, tx: &mut dyn Tx, spots: &[Spot]) -> Result<Vec<Entry>> {
    let wanted: HashSet<Spot> = spots.iter().copied().collect();
    let numbers: BTreeSet<u32> = spots.iter().map(|spot| spot.bucket).collect();
    let numbers: Vec<u32> = numbers.into_iter().collect();
    let mut found = Vec::new();
    for contents in read(ring, tx, &numbers).await? {
        found.extend(contents.entries.into_iter().filter(|entry| wanted.contains(&entry.spot)));
    }
    found.sort_by_key(|entry| entry.row);
    Ok(found)
}

/// Locks the buckets of the spots and answers the tokens under them, so that nobody adds one meanwhile.
pub async fn find_locked(ring: &Keyring, tx: &mut dyn Tx, spots: &[Spot]) -> Result<Vec<Entry>> {
    let numbers: BTreeSet<u32> = spots.iter().map(|spot| spot.bucket).collect();
    tx.lock_buckets(&numbers.into_iter().collect::<Vec<_>>()).await?;
    find(ring, tx, spots).await
}

/// Takes a token out of buckets of the live index. Old copies keep the entry, so the buckets are marked, and the next
/// erasure writes them anew.
pub async fn remove(ring: &Keyring, tx: &mut dyn Tx, buckets: Vec<u32>, row: TokenRow) -> Result<()> {
    tx.lock_buckets(&buckets).await?;
    let mut kept = Vec::new();
    for contents in read(ring, tx, &buckets).await? {
        let before = contents.entries.len();
        let mut contents = contents.without(&HashSet::from([row]));
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
    for contents in read(ring, tx, &numbers).await? {
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
#[derive(Default)]
struct Contents {
    bucket: Bucket,
    entries: Vec<Entry>,
}

impl Contents {
    fn without(mut self, dead: &HashSet<TokenRow>) -> Self {
        self.entries.retain(|entry| !dead.contains(&entry.row));
        self
    }

    fn seal(&self, ring: &Keyring, epoch: &Epoch, bucket: Bucket) -> Result<(Bucket, Vec<Chunk>)> {
        let key = bucket_key(epoch, bucket)?;
        Ok(seal_from(ring, epoch, &key, Bucket { chunks: 1, ..bucket }, 0, &self.entries))
    }
}

async fn read(ring: &Keyring, tx: &mut dyn Tx, numbers: &[u32]) -> Result<Vec<Contents>> {
    let epoch = ring.epoch()?;
    let mut all: Vec<Contents> = Vec::new();
    let mut key = None;
    for chunk in tx.chunks(numbers).await? {
        if all.last().is_none_or(|last| last.bucket != chunk.bucket) {
            key = Some(bucket_key(&epoch, chunk.bucket)?);
            all.push(Contents { bucket: chunk.bucket, entries: Vec::new() });
        }
        if let (Some(key), Some(contents)) = (&key, all.last_mut()) {
            contents.entries.extend(open_chunk(key, &epoch.tree.id(), &chunk)?);
        }
    }
    Ok(all)
}

async fn write_anew(ring: &Keyring, tx: &mut dyn Tx, contents: Vec<Contents>) -> Result<()> {
    let epoch = ring.epoch()?;
    let (mut buckets, mut chunks) = (Vec::new(), Vec::new());
    for contents in &contents {
        let (bucket, sealed) = contents.seal(ring, &epoch, contents.bucket)?;
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

fn encode(entries: &[Entry]) -> SecretBytes {
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

fn decode(bucket: u32, plain: &[u8]) -> Option<Vec<Entry>> {
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
    Keyring::bucket_key(epoch, bucket.bucket, bucket.leaf).ok_or_else(|| {
        Error::new(Reason::SealBroken, "part of the search index is under a punctured key; restart to rebuild it")
            .with("bucket", bucket.bucket)
    })
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
