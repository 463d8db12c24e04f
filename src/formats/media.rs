//! The envelope of a recording that lies in an object store, while its key lies in the vault and dies with the person.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `LCNMEDIA` |
//! | 1 | version of the envelope, now 1 |
//! | 1 | algorithm, 1 for AES-256-GCM in chunks of 64 KiB |
//! | 16 | the part of a call that this is, so that the right key can be asked for |
//! | 32 | random salt, of this file only |
//! | n | chunks, each with its tag of 16 bytes ([`crate::crypto::stream`]); at least one, which may be empty |
//!
//! The first 58 bytes are in the clear; every chunk is bound to all of them. docs/media.md says the same for whoever
//! writes another program. Memory does not grow with the recording.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use crate::crypto::derive::media_key;
use crate::crypto::stream::{CHUNK, Stream, TAG};
use crate::crypto::{Random, Secret};
use crate::model::PartId;

const MAGIC: [u8; 8] = *b"LCNMEDIA";
/// The version of the envelope that this program writes and reads.
pub const VERSION: u8 = 1;
const AES_256_GCM: u8 = 1;

/// Bytes before the first chunk.
pub const HEADER: usize = 58;

/// Bytes of a chunk with its tag.
const SEALED: usize = CHUNK + TAG;

/// Why there is no recording, or no envelope.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Something else is in the file.
    #[error("this is no envelope of a recording")]
    NotAnEnvelope,
    /// It was made for another part.
    #[error("the envelope is of another part than the one that was asked for: `lacuna media show` names its part")]
    OtherPart,
    /// A seal does not fit. Which of the reasons it is cannot be known.
    #[error("the key is another one than that of the envelope, or the envelope was damaged")]
    OtherKeyOrDamaged,
    /// The input failed.
    #[error("the input cannot be read")]
    Read(#[source] io::Error),
    /// The recording is larger than what one key may seal.
    #[error("a recording has 256 TiB at most")]
    TooLarge,
    /// The end is missing.
    #[error("the envelope was cut off: fetch it again")]
    Truncated,
    /// A newer program made it.
    #[error("the envelope has version {0}, and this program knows version 1: take a newer one")]
    Version(u8),
    /// The output failed.
    #[error("the output cannot be written")]
    Write(#[source] io::Error),
}

/// What everybody may know of an envelope. It is a claim until the envelope has been opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// The part of a call.
    pub part: PartId,
    salt: [u8; 32],
}

impl Header {
    /// Reads the beginning of an envelope, and no more.
    pub fn read(from: &mut (impl Read + ?Sized)) -> Result<Self, Fault> {
        let mut bytes = Vec::with_capacity(HEADER);
        fill(from, &mut bytes, HEADER)?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let (magic, rest) = bytes.split_first_chunk().ok_or(Fault::NotAnEnvelope)?;
        if *magic != MAGIC {
            return Err(Fault::NotAnEnvelope);
        }
        let ([version, algorithm], rest) = rest.split_first_chunk().ok_or(Fault::Truncated)?;
        if (*version, *algorithm) != (VERSION, AES_256_GCM) {
            return Err(if *version == VERSION { Fault::NotAnEnvelope } else { Fault::Version(*version) });
        }
        let (part, salt) = rest.split_first_chunk().ok_or(Fault::Truncated)?;
        let salt = salt.try_into().map_err(|_| Fault::Truncated)?;
        Ok(Self { part: PartId::from_bytes(*part), salt })
    }

    fn bytes(&self) -> Vec<u8> {
        [&MAGIC[..], &[VERSION, AES_256_GCM], self.part.as_bytes(), &self.salt].concat()
    }

    fn stream(&self, key: &Secret<32>) -> Stream {
        Stream::new(&media_key(key, self.part.as_bytes(), &self.salt), &self.bytes())
    }
}

/// How many bytes of recording an envelope of so many bytes holds; `None` if no envelope has so many.
#[must_use]
pub const fn plain_size(envelope: u64) -> Option<u64> {
    let (header, sealed, tag) = (HEADER as u64, SEALED as u64, TAG as u64);
    let Some(body) = envelope.checked_sub(header) else { return None };
    let chunks = body.div_ceil(sealed);
    let rest = body % sealed;
    // Only the first chunk may be empty.
    if body == 0 || (rest != 0 && (rest < tag || (rest == tag && chunks > 1))) {
        return None;
    }
    Some(body - chunks * tag)
}

/// Seals a recording; answers how many bytes it had.
pub fn encrypt(
    key: &Secret<32>,
    part: PartId,
    random: &dyn Random,
    from: &mut (impl Read + ?Sized),
    to: &mut (impl Write + ?Sized),
) -> Result<u64, Fault> {
    let mut header = Header { part, salt: [0; 32] };
    random.fill(&mut header.salt);
    to.write_all(&header.bytes()).map_err(Fault::Write)?;
    let mut stream = header.stream(key);
    chunks(from, to, CHUNK, |chunk, last| stream.seal(chunk, last).map_err(|_| Fault::TooLarge), |read, _| read)
}

/// Opens an envelope; answers its part and how many bytes the recording has. With `expected`, an envelope of another part is
/// refused before anything else.
///
/// A chunk is written as soon as it is known to be genuine, so what was written before a fault is a true beginning of the
/// recording; only without a fault it is all of it. Whoever needs all or nothing writes to a file that is kept on success.
pub fn decrypt(
    key: &Secret<32>,
    expected: Option<PartId>,
    from: &mut (impl Read + ?Sized),
    to: &mut (impl Write + ?Sized),
) -> Result<(PartId, u64), Fault> {
    let header = Header::read(from)?;
    if expected.is_some_and(|expected| expected != header.part) {
        return Err(Fault::OtherPart);
    }
    let mut stream = header.stream(key);
    let mut first = true;
    let open = |chunk: &mut Vec<u8>, last: bool| {
        let alone = std::mem::replace(&mut first, false);
        if chunk.is_empty() {
            return Err(Fault::Truncated);
        }
        if stream.open(chunk, last).is_err() {
            // One that is genuine and was not the last when it was sealed: what followed is gone.
            let cut = last && stream.open(chunk, false).is_ok();
            return Err(if cut { Fault::Truncated } else { Fault::OtherKeyOrDamaged });
        }
        // There is one envelope of a recording, not another that ends with nothing.
        if chunk.is_empty() && !alone { Err(Fault::OtherKeyOrDamaged) } else { Ok(()) }
    };
    let length = chunks(from, to, SEALED, open, |_, written| written)?;
    Ok((header.part, length))
}

/// Takes the input apart into chunks, of which the last is known by the end that follows it; answers the sum of what
/// `counted` says of each, given its lengths before and after.
fn chunks(
    from: &mut (impl Read + ?Sized),
    to: &mut (impl Write + ?Sized),
    size: usize,
    mut turn: impl FnMut(&mut Vec<u8>, bool) -> Result<(), Fault>,
    counted: impl Fn(u64, u64) -> u64,
) -> Result<u64, Fault> {
    let room = || Zeroizing::new(Vec::with_capacity(SEALED));
    let (mut chunk, mut next) = (room(), room());
    fill(from, &mut chunk, size)?;
    let mut total = 0;
    loop {
        next.clear();
        if chunk.len() == size {
            fill(from, &mut next, size)?;
        }
        let last = next.is_empty();
        let before = chunk.len() as u64;
        turn(&mut chunk, last)?;
        to.write_all(&chunk).map_err(Fault::Write)?;
        total += counted(before, chunk.len() as u64);
        if last {
            to.flush().map_err(Fault::Write)?;
            return Ok(total);
        }
        std::mem::swap(&mut chunk, &mut next);
    }
}

/// Reads so many bytes, or as many as there are.
fn fill(mut from: &mut (impl Read + ?Sized), buffer: &mut Vec<u8>, size: usize) -> Result<(), Fault> {
    let missing = size.saturating_sub(buffer.len()) as u64;
    Read::take(&mut from, missing).read_to_end(buffer).map_err(Fault::Read)?;
    Ok(())
}

#[cfg(test)]
mod tests;
