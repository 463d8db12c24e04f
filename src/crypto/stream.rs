//! Streams: what is too large for one seal, in chunks of 64 KiB of which none can be changed, left out, moved or added.
//!
//! This is the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár, 2015) over AES-256-GCM: the nonce of a chunk is
//! its number, eleven bytes big endian, and one byte that is 1 for the last chunk and 0 for any other. So a key is for
//! one stream only; whoever makes a stream derives a fresh key for it.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _};

use super::{Broken, Secret};

/// Bytes of plaintext in every chunk but the last, which has fewer or as many.
pub const CHUNK: usize = 64 << 10;

/// Bytes that sealing adds to a chunk.
pub const TAG: usize = 16;

/// Chunks that one key may seal (SP 800-38D, section 8.3): 256 TiB.
const MOST: u64 = 1 << 32;

/// A stream on its way, sealed or opened from its first chunk to its last.
pub struct Stream {
    cipher: Box<Aes256Gcm>,
    /// What every chunk is bound to.
    header: Vec<u8>,
    next: u64,
}

impl Stream {
    /// A stream under a key of its own, whose chunks open only with the same header.
    #[must_use]
    pub fn new(key: &Secret<32>, header: &[u8]) -> Self {
        Self { cipher: Box::new(Aes256Gcm::new(key.expose().into())), header: header.to_vec(), next: 0 }
    }

    /// Seals the next chunk where it stands and adds its tag. Refuses more than 2^32 chunks.
    pub fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), Broken> {
        let nonce = nonce(self.next, last)?;
        let buffer = InOutBuf::from(chunk.as_mut_slice());
        let tag = self.cipher.encrypt_inout_detached((&nonce).into(), &self.header, buffer).map_err(|_| Broken)?;
        chunk.extend_from_slice(&tag);
        self.next += 1;
        Ok(())
    }

    /// Opens the next chunk where it stands and takes its tag off. The tag is checked before a byte is decrypted; a
    /// chunk that is refused stays what it was, and is still the next.
    pub fn open(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), Broken> {
        let nonce = nonce(self.next, last)?;
        let length = chunk.len().checked_sub(TAG).ok_or(Broken)?;
        let (body, tag) = chunk.split_last_chunk_mut::<TAG>().ok_or(Broken)?;
        let tag = *tag;
        self.cipher
            .decrypt_inout_detached((&nonce).into(), &self.header, InOutBuf::from(body), (&tag).into())
            .map_err(|_| Broken)?;
        chunk.truncate(length);
        self.next += 1;
        Ok(())
    }
}

fn nonce(number: u64, last: bool) -> Result<[u8; 12], Broken> {
    if number >= MOST {
        return Err(Broken);
    }
    let mut nonce = [0; 12];
    for (byte, of) in nonce.iter_mut().skip(3).zip(number.to_be_bytes()) {
        *byte = of;
    }
    if let Some(end) = nonce.last_mut() {
        *end = u8::from(last);
    }
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(header: &[u8]) -> Stream {
        Stream::new(&Secret::build(|bytes| bytes.fill(4)), header)
    }

    #[test]
    fn a_chunk_opens_in_its_place_only() {
        let mut sealing = stream(b"header");
        let (mut one, mut two) = (b"one".to_vec(), b"two".to_vec());
        sealing.seal(&mut one, false).unwrap();
        sealing.seal(&mut two, true).unwrap();
        assert_eq!(one.len(), 3 + TAG);

        let mut opening = stream(b"header");
        assert_eq!(opening.open(&mut two.clone(), false), Err(Broken), "the second comes second");
        assert_eq!(opening.open(&mut two.clone(), true), Err(Broken));
        assert_eq!(opening.open(&mut one.clone(), true), Err(Broken), "the first is not the last");
        assert_eq!(stream(b"other").open(&mut one.clone(), false), Err(Broken));
        opening.open(&mut one, false).unwrap();
        assert_eq!(opening.open(&mut two.clone(), false), Err(Broken), "the end is the end");
        opening.open(&mut two, true).unwrap();
        assert_eq!((one.as_slice(), two.as_slice()), (&b"one"[..], &b"two"[..]));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for length in 0..=TAG {
            assert_eq!(stream(b"").open(&mut vec![0; length], true), Err(Broken));
        }
    }

    #[test]
    fn a_key_seals_no_more_than_it_may() {
        let mut spent = Stream { next: MOST, ..stream(b"") };
        assert_eq!(spent.seal(&mut Vec::new(), true), Err(Broken));
    }
}
