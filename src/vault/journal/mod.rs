//! The journal: what was decided about people, in the sinks beside the checkpoints, so that a restored backup can be
//! told what it does not know. A checkpoint knows of erasures; the journal knows of consents and withdrawals, objections,
//! restrictions, profiling switches, scheduled erasures, legal holds, and of the purposes, notices and collection points.
//!
//! A change marks itself in the transaction that makes it. The leading node writes what is marked into the sinks, sealed
//! under a key of the vault's own, within about a second, and takes the marks away. Whoever opens the vault reads what
//! the sinks hold beyond what the database knows, and does it again: what is known already changes nothing. Until that
//! has been done nothing is written, or what was not read would be taken for known.
//!
//! An entry holds no value of anybody: of evidence it has the token. It outlives an erasure as the ledger of consent does.

pub(crate) mod record;
mod replay;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use replay::{Replayed, replay};

use self::record::Record;
use super::Vault;
use crate::crash;
use crate::keys::Custody;
use crate::keys::house::HouseKey;
use crate::keys::ring::Keyring;
use crate::keys::sink::Entry;
use crate::model::{Error, Result, Time};

/// Most marks that go into one entry.
const MOST_MARKS: u32 = 1000;

/// Most entries that are written in one go: what is marked all the while has its turn later.
const MOST_ENTRIES: usize = 16;

/// How many entries of one level are put together to one of the next.
const TOGETHER: usize = 64;

/// Most records in an entry that is put together.
const MOST_RECORDS: u64 = 20_000;

/// How long entries are kept. A backup that is older has to be told of the rest by people.
const KEPT: Duration = Duration::from_hours(24 * 400);

/// What this process knows of the journal.
#[derive(Default)]
pub struct Progress {
    /// The stamp up to which the database was seen to know it; `None` before that was looked at.
    known: Option<i64>,
    /// Entries that cover others, were opened, and are what their names say.
    whole: BTreeSet<Entry>,
    /// Entries of which nothing is to be had. They stay for whoever investigates, and are not put together with others.
    damaged: BTreeSet<Entry>,
}

/// What an entry begins with: what its name says, which anybody can write who can write to a sink.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    first: i64,
    last: i64,
    level: u8,
    records: u32,
}

impl Header {
    fn of(entry: &Entry) -> Self {
        Self { first: entry.first, last: entry.last, level: entry.level, records: entry.records }
    }
}

impl Vault {
    /// Learns from the sinks if the database does not know all that they do, and writes what has changed into them, if this
    /// is the node to do so. Answers how many records were written.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when too few sinks answer or take it; everything is kept for the next time.
    pub async fn ship_journal(&self) -> Result<usize> {
        let mut progress = self.journal.lock().await;
        self.learn_from_journal(&mut progress).await?;
        if !self.custody.leads() {
            return Ok(0);
        }
        let shipped = self.ship(&mut progress).await;
        let waiting = self.custody.store().read().await?.count_marks().await?;
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("lacuna_journal_waiting").set(waiting as f64);
        if self.custody.sinks().is_journal_long() {
            self.tend_journal(&mut progress).await?;
        }
        shipped
    }

    /// Does again what the sinks know of, at first and whenever the database has gone back.
    pub(super) async fn learn_from_journal(&self, progress: &mut Progress) -> Result<()> {
        let upto = self.custody.store().read().await?.journal_upto().await?;
        if progress.known.is_none_or(|known| upto < known) {
            progress.known = None;
            replay(&self.custody, &*self.clock).await?;
            // What it has defined counts from here on.
            self.library.refreshed().await?;
        }
        let upto = self.custody.store().read().await?.journal_upto().await?;
        progress.known = progress.known.max(Some(upto));
        Ok(())
    }

    async fn ship(&self, progress: &mut Progress) -> Result<usize> {
        let mut shipped = 0;
        for _ in 0..MOST_ENTRIES {
            let marks = self.ship_one(progress).await?;
            shipped += marks;
            if marks < MOST_MARKS as usize {
                break;
            }
        }
        Ok(shipped)
    }

    async fn ship_one(&self, progress: &mut Progress) -> Result<usize> {
        let custody = &*self.custody;
        let mut tx = custody.store().read().await?;
        let marks = tx.marks(MOST_MARKS).await?;
        let upto = tx.journal_upto().await?;
        if marks.is_empty() || progress.known != Some(upto) {
            return Ok(0);
        }
        let records = record::of(&mut *tx, &marks).await?;
        drop(tx);
        let stamp = self.clock.now().micros().max(upto.saturating_add(1));
        let (entry, sealed) = seal(&custody.ring, (stamp, stamp), 0, &records)?;
        custody.sinks().put_entry(&entry, &sealed).await?;
        crash::point("journal::kept");
        let mut tx = custody.store().write().await?;
        // Another node may have led meanwhile. Then it is written twice, which does no harm.
        if tx.advance_journal(upto, stamp).await? {
            tx.unmark(&marks).await?;
            tx.commit().await?;
            progress.known = Some(stamp);
        }
        Ok(marks.len())
    }

    /// Puts small entries together and drops what is old.
    async fn tend_journal(&self, progress: &mut Progress) -> Result<()> {
        let sinks = self.custody.sinks();
        // By the youngest entry, and not by a clock that may be wrong.
        let youngest = Time::from_micros(progress.known.unwrap_or_default());
        let oldest = youngest.minus(KEPT).micros();
        // What covers others takes their place, so it has to be looked into first.
        let listed = sinks.entries_after(i64::MIN).await?;
        let covers = |entry: &&Entry| listed.iter().any(|other| entry.covers(other));
        for entry in listed.iter().filter(covers) {
            if progress.whole.contains(entry) {
                continue;
            }
            if matches!(fetch(&self.custody, entry).await?, Fetched::Records(_)) {
                progress.whole.insert(entry.clone());
            }
        }
        let mut entries = sinks.tend_journal(oldest, &progress.whole).await?;
        while let Some(parts) = together(&entries, &progress.damaged) {
            let (Some(first), Some(last)) = (parts.first(), parts.last()) else { break };
            let mut records = Vec::new();
            for part in parts {
                match fetch(&self.custody, part).await? {
                    Fetched::Records(some) => records.extend(some),
                    Fetched::Nothing(_) => {
                        progress.damaged.insert(part.clone());
                    }
                }
            }
            if parts.iter().any(|part| progress.damaged.contains(part)) {
                continue;
            }
            let level = first.level.saturating_add(1);
            let (entry, sealed) = seal(&self.custody.ring, (first.first, last.last), level, &records)?;
            sinks.put_entry(&entry, &sealed).await?;
            progress.whole.insert(entry);
            entries = sinks.tend_journal(oldest, &progress.whole).await?;
        }
        let there: BTreeSet<_> = entries.into_iter().collect();
        progress.whole.retain(|entry| there.contains(entry));
        progress.damaged.retain(|entry| there.contains(entry));
        Ok(())
    }
}

/// The oldest entries that are to be put together, if there are so many of one level: as many as one entry may hold.
/// What is put together covers all that lies between, so nothing `damaged` may.
fn together<'e>(entries: &'e [Entry], damaged: &BTreeSet<Entry>) -> Option<&'e [Entry]> {
    let alike =
        |one: &Entry, next: &Entry| one.level == next.level && !damaged.contains(one) && !damaged.contains(next);
    for run in entries.chunk_by(alike).filter(|run| run.len() >= TOGETHER) {
        let mut from = 0;
        while let Some(rest) = run.get(from..).filter(|rest| rest.len() >= 2) {
            let mut records = 0;
            let fits = rest.iter().take(TOGETHER).take_while(|entry| {
                records += u64::from(entry.records);
                records <= MOST_RECORDS
            });
            match fits.count() {
                fits if fits >= 2 => return rest.get(..fits),
                _ => from += 1,
            }
        }
    }
    None
}

/// An entry of these records, with its name.
fn seal(ring: &Keyring, (first, last): (i64, i64), level: u8, records: &[Record]) -> Result<(Entry, Vec<u8>)> {
    let count = u32::try_from(records.len()).map_err(Error::internal)?;
    let mut lines = serde_json::to_vec(&Header { first, last, level, records: count }).map_err(Error::internal)?;
    for record in records {
        lines.push(b'\n');
        serde_json::to_writer(&mut lines, record).map_err(Error::internal)?;
    }
    let sealed = ring.seal_own(HouseKey::Journal, &lines)?;
    Ok((Entry::of((first, last), level, records.len(), &sealed), sealed))
}

/// What came of looking for an entry.
enum Fetched {
    /// What is in it.
    Records(Vec<Record>),
    /// There is nothing to be had, now or later, and why.
    Nothing(&'static str),
}

/// An entry with what is in it.
///
/// # Errors
/// When a sink that may have it does not answer, or this process holds no keys.
async fn fetch(custody: &Custody, entry: &Entry) -> Result<Fetched> {
    let Some(sealed) = custody.sinks().entry(entry).await? else {
        return Ok(Fetched::Nothing("no sink has it undamaged"));
    };
    let Some(lines) = custody.ring.open_own(HouseKey::Journal, &sealed)? else {
        return Ok(Fetched::Nothing("it was not sealed by this vault"));
    };
    let (header, records) = parse(lines.expose());
    if header.as_ref() != Some(&Header::of(entry)) {
        return Ok(Fetched::Nothing("its name says something else than it does"));
    }
    Ok(records.map_or(Fetched::Nothing("it was written by another version of the program"), Fetched::Records))
}

/// What an entry says of itself and what is in it: each a line.
pub(crate) fn parse(lines: &[u8]) -> (Option<Header>, Option<Vec<Record>>) {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let header = lines.next().and_then(|line| serde_json::from_slice(line).ok());
    (header, lines.map(|line| serde_json::from_slice(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: i64, level: u8, records: usize) -> Entry {
        Entry::of((at, at), level, records, &at.to_be_bytes())
    }

    #[test]
    fn the_oldest_of_one_level_are_put_together_when_they_are_many() {
        let small: Vec<_> = (0..70).map(|at| entry(at, 0, 3)).collect();
        let none = BTreeSet::new();
        assert_eq!(together(&small, &none).unwrap(), &small[..TOGETHER]);
        assert_eq!(together(&small[..TOGETHER - 1], &none), None);
        let mut mixed = small.clone();
        mixed[3] = entry(3, 1, 3);
        assert_eq!(together(&mixed, &none).unwrap(), &mixed[4..4 + TOGETHER]);
        assert_eq!(together(&small, &[small[3].clone()].into()).unwrap(), &small[4..4 + TOGETHER]);
        assert_eq!(together(&small, &[small[30].clone()].into()), None);
    }

    #[test]
    fn as_many_are_put_together_as_one_may_hold() {
        let larger: Vec<_> = (0..70).map(|at| entry(at, 0, 1000)).collect();
        let none = BTreeSet::new();
        assert_eq!(together(&larger, &none).unwrap(), &larger[..20]);
        let mut one_is_huge = larger;
        one_is_huge[0] = entry(0, 0, 30_000);
        assert_eq!(together(&one_is_huge, &none).unwrap(), &one_is_huge[1..21]);
        let full: Vec<_> = (0..70).map(|at| entry(at, 0, 20_000)).collect();
        assert_eq!(together(&full, &none), None);
    }
}
