//! The journal: what was decided about people, in the sinks beside the checkpoints, so that a restored backup can be
//! told what it does not know. A checkpoint knows of erasures; the journal knows of consents and withdrawals, objections,
//! restrictions, profiling switches, scheduled erasures, and of the purposes, notices and collection points.
//!
//! A change marks itself in the transaction that makes it. The leading node writes what is marked into the sinks, sealed
//! under a key of the vault's own, within about a second, and takes the marks away. Whoever opens the vault reads what
//! the sinks hold beyond what the database knows, and does it again: what is known already changes nothing.
//!
//! An entry holds no value of anybody, and no token. It outlives an erasure as the ledger of consent does.

mod record;
mod replay;

use std::time::Duration;

pub use replay::{Replayed, replay};

use self::record::Record;
use super::Vault;
use crate::crash;
use crate::keys::Custody;
use crate::keys::house::HouseKey;
use crate::keys::ring::Keyring;
use crate::keys::sink::Entry;
use crate::model::{Error, Result};

/// Most marks that go into one entry.
const MOST_MARKS: u32 = 1000;

/// How many entries of one level are put together to one of the next.
const TOGETHER: usize = 64;

/// Most records in an entry that is put together.
const MOST_RECORDS: u64 = 20_000;

/// How long entries are kept. A backup that is older has to be told of the rest by people.
const KEPT: Duration = Duration::from_hours(24 * 400);

impl Vault {
    /// Writes what has changed into the sinks, if this is the node to do so. Answers how many records were written.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when too few sinks take it; everything is kept for the next time.
    pub async fn ship_journal(&self) -> Result<usize> {
        if !self.custody.leads() {
            return Ok(0);
        }
        let _one_at_a_time = self.journal.lock().await;
        let mut shipped = 0;
        let done = loop {
            match self.ship_one().await {
                Ok(0) => break Ok(shipped),
                Ok(more) => shipped += more,
                Err(error) => break Err(error),
            }
        };
        let waiting = if done.is_ok() { 0 } else { self.custody.store().read().await?.count_marks().await? };
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("lacuna_journal_waiting").set(waiting as f64);
        if self.custody.sinks().is_journal_long() {
            self.tend_journal().await?;
        }
        done
    }

    async fn ship_one(&self) -> Result<usize> {
        let custody = &*self.custody;
        let mut tx = custody.store().read().await?;
        let marks = tx.marks(MOST_MARKS).await?;
        if marks.is_empty() {
            return Ok(0);
        }
        let upto = tx.journal_upto().await?;
        let records = record::of(&mut *tx, &marks).await?;
        drop(tx);
        let stamp = self.clock.now().micros().max(upto.saturating_add(1));
        let sealed = seal(&custody.ring, &records)?;
        let entry = Entry::of((stamp, stamp), 0, records.len(), &sealed);
        custody.sinks().put_entry(&entry, &sealed).await?;
        crash::point("journal::kept");
        let mut tx = custody.store().write().await?;
        // Another node may have led meanwhile. Then it is written twice, which does no harm.
        if tx.advance_journal(upto, stamp).await? {
            tx.unmark(&marks).await?;
            tx.commit().await?;
        }
        Ok(marks.len())
    }

    /// Puts small entries together and drops what is old.
    async fn tend_journal(&self) -> Result<()> {
        let custody = &*self.custody;
        let oldest = self.clock.now().minus(KEPT).micros();
        let mut entries = custody.sinks().tend_journal(oldest).await?;
        while let Some(parts) = together(&entries) {
            let mut records = Vec::new();
            for part in parts {
                records.extend(open(&custody.ring, part, &custody.sinks().entry(part).await?)?);
            }
            let (Some(first), Some(last)) = (parts.first(), parts.last()) else { break };
            let sealed = seal(&custody.ring, &records)?;
            let entry = Entry::of((first.first, last.last), first.level + 1, records.len(), &sealed);
            custody.sinks().put_entry(&entry, &sealed).await?;
            entries = custody.sinks().tend_journal(oldest).await?;
        }
        Ok(())
    }
}

/// The oldest entries that are to be put together, if there are any.
fn together(entries: &[Entry]) -> Option<&[Entry]> {
    entries.windows(TOGETHER).find(|parts| {
        let records: u64 = parts.iter().map(|entry| u64::from(entry.records)).sum();
        let level = parts.first().map_or(u8::MAX, |entry| entry.level);
        level < u8::MAX && records <= MOST_RECORDS && parts.iter().all(|entry| entry.level == level)
    })
}

fn seal(ring: &Keyring, records: &[Record]) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    for record in records {
        serde_json::to_writer(&mut lines, record).map_err(Error::internal)?;
        lines.push(b'\n');
    }
    ring.seal_own(HouseKey::Journal, &lines)
}

fn open(ring: &Keyring, entry: &Entry, sealed: &[u8]) -> Result<Vec<Record>> {
    let foreign = || Error::internal(format!("{entry} was not sealed by this vault"));
    let lines = ring.open_own(HouseKey::Journal, sealed)?.ok_or_else(foreign)?;
    let records = serde_json::Deserializer::from_slice(lines.expose()).into_iter().collect::<Result<_, _>>();
    records.map_err(Error::internal)
}

/// An entry with what is in it.
async fn fetch(custody: &Custody, entry: &Entry) -> Result<Vec<Record>> {
    open(&custody.ring, entry, &custody.sinks().entry(entry).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_one_level_are_put_together_unless_they_are_large() {
        let entry = |at: i64, level, records| Entry::of((at, at), level, records, &at.to_be_bytes());
        let small: Vec<_> = (0..70).map(|at| entry(at, 0, 3)).collect();
        assert_eq!(together(&small).unwrap(), &small[..TOGETHER]);
        assert_eq!(together(&small[..TOGETHER - 1]), None);
        let mut mixed = small.clone();
        mixed[3] = entry(3, 1, 3);
        assert_eq!(together(&mixed).unwrap(), &mixed[4..4 + TOGETHER]);
        let large: Vec<_> = (0..70).map(|at| entry(at, 0, 1000)).collect();
        assert_eq!(together(&large), None);
    }
}
