//! The journal in the sinks: entries that are written once, read after a restore, put together when they are many, and
//! dropped when they are old.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::set::{Sinks, Tracked};
use super::{Entry, unusable};
use crate::model::Result;

/// How many bytes an entry is taken to have before it is read.
const LARGE: usize = 64 << 20;

/// After how many entries a sink is looked through.
const TENDED_AFTER: u32 = 64;

impl Sinks {
    /// Keeps an entry. Durable in as many sinks as are required when this returns; the others get it later.
    pub async fn put_entry(&self, entry: &Entry, bytes: &[u8]) -> Result<()> {
        let awake = self.awake();
        let put = async |tracked: &&Tracked| tracked.put_entry(entry, bytes).await;
        let failures: Vec<_> = join_all(awake.iter().map(put)).await.into_iter().filter_map(Result::err).collect();
        let saved = awake.len() - failures.len();
        if saved >= self.required() {
            return Ok(());
        }
        let why: Vec<_> = failures.iter().map(ToString::to_string).collect();
        let required = self.required();
        Err(unusable(format!(
            "{saved} sinks have the journal's entry, and {required} are required: {}",
            why.join("; ")
        )))
    }

    /// The entries that hold something younger than a stamp, oldest first.
    ///
    /// # Errors
    /// When so many sinks do not answer that an entry may be in none of the others.
    pub async fn entries_after(&self, stamp: i64) -> Result<Vec<Entry>> {
        let all: Vec<&Tracked> = self.tracked().iter().collect();
        let (mut entries, mut failures) = (BTreeSet::new(), Vec::new());
        for found in join_all(all.iter().map(|tracked| tracked.entries())).await {
            match found {
                Ok(found) => entries.extend(found.into_iter().filter(|entry| entry.last > stamp)),
                Err(error) => failures.push(error),
            }
        }
        let enough = failures.len() < self.required();
        failures.pop().filter(|_| !enough).map_or(Ok(entries.into_iter().collect()), Err)
    }

    /// An entry, from the first sink that has it undamaged; `None` when every sink answers and none has.
    ///
    /// # Errors
    /// When a sink that may have it does not answer.
    pub async fn entry(&self, entry: &Entry) -> Result<Option<Vec<u8>>> {
        let mut trouble = None;
        for tracked in self.tracked() {
            match tracked.within(LARGE, tracked.sink().get(&entry.to_string())).await {
                Ok(Some(bytes)) if entry.is_of(&bytes) => return Ok(Some(bytes)),
                Ok(Some(_)) => tracing::error!(%entry, sink = tracked.sink().describe(), "an entry is damaged"),
                Ok(None) => {}
                Err(error) => trouble = Some(error),
            }
        }
        trouble.map_or(Ok(None), Err)
    }

    /// Whether it is time to look through the journal of some sink.
    #[must_use]
    pub fn is_journal_long(&self) -> bool {
        self.tracked().iter().any(|tracked| !tracked.rests() && tracked.untended() >= TENDED_AFTER)
    }

    /// Gives every sink that answers what others have of the journal, and drops what is of before `oldest`, and what one of
    /// `whole` covers that the same sink has. Answers what is there then.
    ///
    /// `whole` are entries that were opened and are what their names say: nothing goes because of a name alone.
    pub async fn tend_journal(&self, oldest: i64, whole: &BTreeSet<Entry>) -> Result<Vec<Entry>> {
        let all = self.entries_after(i64::MIN).await?;
        let covered = |entry: &Entry| whole.iter().any(|other| other.covers(entry));
        let stay: BTreeSet<Entry> = all.into_iter().filter(|entry| entry.last >= oldest && !covered(entry)).collect();
        for tracked in self.awake() {
            if let Err(error) = self.tend(tracked, &stay, (oldest, whole)).await {
                tracked.fail(&error);
            }
        }
        Ok(stay.into_iter().collect())
    }

    async fn tend(
        &self,
        tracked: &Tracked,
        stay: &BTreeSet<Entry>,
        (oldest, whole): (i64, &BTreeSet<Entry>),
    ) -> Result<()> {
        let mut held: BTreeSet<_> = tracked.entries().await?.into_iter().collect();
        for missing in stay.difference(&held.clone()) {
            // One that no sink has undamaged is told when it is wanted.
            if let Some(bytes) = self.entry(missing).await? {
                tracked.put_entry(missing, &bytes).await?;
                held.insert(missing.clone());
            }
        }
        let covered = |entry: &Entry| whole.iter().any(|other| held.contains(other) && other.covers(entry));
        for entry in held.iter().filter(|entry| entry.last < oldest || covered(entry)) {
            tracked.within(0, tracked.sink().remove(&entry.to_string())).await?;
        }
        tracked.tended();
        Ok(())
    }
}

impl Tracked {
    /// The names of what it holds, also of one that rests: nobody else may have them.
    async fn entries(&self) -> Result<Vec<Entry>> {
        self.ask(self.sink().journal()).await
    }

    async fn put_entry(&self, entry: &Entry, bytes: &[u8]) -> Result<()> {
        let done = self.within(bytes.len(), self.sink().put(&entry.to_string(), bytes)).await;
        match &done {
            Ok(()) => self.grown(),
            Err(error) => {
                self.lack_entries();
                self.fail(error);
            }
        }
        done
    }
}
