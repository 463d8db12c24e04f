//! Enumeration: whoever looks for what is not there again and again is trying out what is.

use std::sync::PoisonError;

use super::{Brakes, Vault};
use crate::model::{OutboxEvent, Reason, Result, Time};
use crate::store::brake::{Counted, Used};
use crate::vault::audit::Entry;

/// What an entry is about that tells of it.
pub const DEED: &str = "EnumerationSuspected";

/// How often it is tried to tell of it, when others tell something at the same moment.
const ATTEMPTS: usize = 5;

/// How many look-ups of a call found nothing.
#[must_use]
pub fn misses(entry: &Entry) -> u64 {
    let unknown = |refused: &String| {
        let reasons =
            [Reason::TokenUnknown, Reason::SubjectUnknown, Reason::ErasureUnknown, Reason::ConsentEventUnknown];
        reasons.iter().any(|reason| *refused == format!("{reason:?}"))
    };
    match &entry.refused {
        Some(refused) => u64::from(unknown(refused)).max(entry.unknown),
        None if entry.deed == "FindTokens" && entry.touched.is_empty() => 1,
        None => entry.unknown,
    }
}

impl Brakes {
    /// Whether look-ups of a caller that find nothing are counted.
    #[must_use]
    pub fn counts_misses(&self, caller: &str) -> bool {
        self.windows(Counted::Misses).contains_key(caller)
    }

    /// Counts the look-ups of a call that found nothing. Answers what was counted, and what is put on record when there
    /// were too many: once in as much time as they are counted over.
    pub fn count_misses(&self, entry: &Entry, misses: u64, now: Time) -> Option<(Used, Option<Entry>)> {
        let mut window = self.window(Counted::Misses, &entry.caller)?;
        let part = window.add(misses, now);
        let (count, limit) = (window.count(now), window.limit());
        drop(window);
        let used = Used { counted: Counted::Misses, caller: entry.caller.clone(), part, count: misses };
        if count <= limit.most {
            return Some((used, None));
        }
        let mut suspected = self.suspected.lock().unwrap_or_else(PoisonError::into_inner);
        let before = suspected.get(&entry.caller).copied();
        if before.is_some_and(|before| before > now.minus(limit.window)) {
            return Some((used, None));
        }
        suspected.insert(entry.caller.clone(), now);
        drop(suspected);
        let justification = format!("{count} in {}s", limit.window.as_secs());
        let told = Entry { justification, ..Entry::new(&entry.caller, DEED, now) };
        Some((used, Some(told)))
    }
}

impl Vault {
    /// Tells of a caller who tries out what is there. That it is on record is enough for the call to be answered.
    pub(in crate::vault) async fn tell_of_enumeration(&self, told: &Entry) {
        metrics::counter!("lacuna_enumeration_suspected_total").increment(1);
        tracing::warn!(caller = told.caller, misses = told.justification, "ENUMERATION IS SUSPECTED");
        for attempt in 1..=ATTEMPTS {
            match self.try_to_tell(&told.caller).await {
                Ok(()) => return,
                Err(error) if attempt == ATTEMPTS => {
                    tracing::error!(%error, caller = told.caller, "that enumeration is suspected is told by no event");
                }
                Err(_) => {}
            }
        }
    }

    async fn try_to_tell(&self, caller: &str) -> Result<()> {
        let event = OutboxEvent::of_enumeration(caller, self.clock.now(), self.custody.ring.random());
        let mut tx = self.custody.store().write().await?;
        tx.tell(&[event]).await?;
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::audit::Touched;

    #[test]
    fn what_finds_nothing_is_a_miss() {
        let entry = |deed| Entry { deed, ..Entry::default() };
        let refused = |reason: &str| Entry { refused: Some(reason.to_owned()), ..entry("GetToken") };
        assert_eq!(misses(&entry("FindTokens")), 1);
        assert_eq!(misses(&Entry { touched: vec![Touched::default()], ..entry("FindTokens") }), 0);
        assert_eq!(misses(&Entry { unknown: 7, ..entry("Detokenize") }), 7);
        assert_eq!((misses(&refused("TokenUnknown")), misses(&refused("SubjectUnknown"))), (1, 1));
        assert_eq!((misses(&refused("NotPermitted")), misses(&entry("ListSubjects"))), (0, 0));
    }
}
