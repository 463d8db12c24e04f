//! Enumeration: whoever looks for what is not there again and again is trying out what is.

use std::sync::PoisonError;

use super::window::Limit;
use super::{Alarm, Brakes};
use crate::crypto::Random;
use crate::model::{OutboxEvent, Reason, Time};
use crate::store::brake::{Counted, Used};
use crate::vault::audit::{Entry, outcome};

/// What an entry is about that tells of it.
pub const DEED: &str = "EnumerationSuspected";

/// How many look-ups of a call found nothing. Whoever tells of a call otherwise than it was told may be trying numbers out.
#[must_use]
pub fn misses(entry: &Entry) -> u64 {
    let unknown = |refused: &String| {
        let reasons = [
            Reason::TokenUnknown,
            Reason::SubjectUnknown,
            Reason::ErasureUnknown,
            Reason::ConsentEventUnknown,
            Reason::CallConflict,
        ];
        reasons.iter().any(|reason| *refused == outcome::refused(*reason))
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
        self.misses.contains_key(caller)
    }

    /// A suspicion of a caller, until it is told.
    #[must_use]
    pub fn suspicion(&self, caller: &str) -> Suspicion<'_> {
        Suspicion { brakes: self, caller: caller.to_owned(), told: false }
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
        let told = self.suspect(&entry.caller, count, limit, now);
        Some((used, told))
    }

    /// What is put on record of a caller who did something too often, once in as much time as that is counted over.
    pub(super) fn suspect(&self, caller: &str, count: u64, limit: Limit, now: Time) -> Option<Entry> {
        let mut suspected = self.suspected.lock().unwrap_or_else(PoisonError::into_inner);
        let before = suspected.get(caller).copied();
        if before.is_some_and(|before| before > now.minus(limit.window)) {
            return None;
        }
        suspected.insert(caller.to_owned(), now);
        drop(suspected);
        let justification = format!("{count} in {}s", limit.window.as_secs());
        Some(Entry { justification, ..Entry::new(caller, DEED, now) })
    }
}

/// A suspicion that is about to be told. Dropped before it is, as when the call is given up, it is none, so that the next look-up
/// tells of it.
pub struct Suspicion<'b> {
    brakes: &'b Brakes,
    caller: String,
    told: bool,
}

impl Suspicion<'_> {
    /// It was told.
    pub fn told(mut self) {
        self.told = true;
    }
}

impl Drop for Suspicion<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.brakes.suspected.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.caller);
        }
    }
}

/// What is to be told of an entry that says that enumeration is suspected.
pub fn alarm(told: &Entry, random: &dyn Random, now: Time) -> Alarm {
    Alarm { entry: told.clone(), events: vec![OutboxEvent::of_enumeration(&told.caller, now, random)] }
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
        assert_eq!(misses(&refused("CallConflict")), 1);
        assert_eq!((misses(&refused("NotPermitted")), misses(&entry("ListSubjects"))), (0, 0));
    }
}
