//! How many numbers an agent may look up: whoever tries one after the other is reading a telephone directory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::window::{Limit, Window};
use super::{Brakes, Vault};
use crate::model::{Error, Reason, Result, SubjectId, Time};
use crate::policy::Caller;
use crate::store::brake::{Counted, Used};
use crate::vault::audit::Entry;
use crate::vault::write::Record;

/// Above so many agents those are forgotten who have looked nothing up of late. Whoever comes then beside so many who have
/// is counted with their caller: that many are not served at once by a process, but made up.
const MANY: usize = 4096;

/// How long they are remembered at least.
const SWEEP: Duration = Duration::from_secs(1);

/// The look-ups of each agent.
#[derive(Debug)]
pub(super) struct Lookups {
    limit: Limit,
    windows: Mutex<Windows>,
}

/// What each has looked up.
#[derive(Debug, Default)]
struct Windows {
    of: HashMap<String, Window>,
    /// When those were forgotten last who have looked nothing up.
    swept_at: Option<Time>,
}

impl Windows {
    /// Whose window counts a look-up of somebody: their own, or that of the caller.
    fn whose(&mut self, caller: &str, agent: Option<SubjectId>, now: Time) -> String {
        let Some(agent) = agent else { return caller.to_owned() };
        let own = format!("{caller} {agent}");
        if self.of.len() < MANY || self.of.contains_key(&own) {
            return own;
        }
        // That walks through all of them: not with every look-up.
        if self.swept_at.is_none_or(|at| at.plus(SWEEP) <= now || at > now) {
            self.swept_at = Some(now);
            self.of.retain(|_, window| window.count(now) > 0);
        }
        if self.of.len() < MANY { own } else { caller.to_owned() }
    }
}

impl Lookups {
    /// Nothing looked up yet.
    pub fn new(limit: Limit) -> Self {
        Self { limit, windows: Mutex::default() }
    }

    /// What is held to.
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what others have counted.
    pub fn learn(&self, mut others: HashMap<String, BTreeMap<Time, u64>>) {
        let windows = &mut self.windows().of;
        for (who, window) in windows.iter_mut() {
            window.learn(others.remove(who).unwrap_or_default());
        }
        for (who, counts) in others {
            windows.entry(who).or_insert_with(|| Window::new(self.limit)).learn(counts);
        }
    }
}

impl Brakes {
    /// Counts a look-up by an agent of a caller. What is over the limit is not counted.
    fn take_lookup(&self, caller: &Caller, agent: Option<SubjectId>, now: Time) -> Result<Used> {
        let mut windows = self.lookups.windows();
        let who = windows.whose(&caller.name, agent, now);
        let window = windows.of.entry(who.clone()).or_insert_with(|| Window::new(self.lookups.limit));
        let over = match window.take(1, now) {
            Ok(part) => return Ok(Used { counted: Counted::Lookups, caller: who, part, count: 1 }),
            Err(over) => over,
        };
        let limit = self.lookups.limit;
        let message =
            "as many numbers were looked up as may be within the time; the look-up is refused and an alarm raised";
        Err(Error::new(Reason::LookupLimit, message)
            .with("caller", &caller.name)
            .with("limit", limit.most)
            .with("seconds", limit.window.as_secs())
            .retry_in(over.retry))
    }
}

impl Vault {
    /// Counts a look-up; answers what goes on record of that. Too many are refused, recorded and told of.
    pub(in crate::vault) async fn take_lookup(
        &self,
        caller: &Caller,
        agent: Option<SubjectId>,
    ) -> Result<Option<Used>> {
        if let Err(error) = self.brakes.look(self.custody.store(), &*self.clock).await {
            tracing::debug!(%error, "what other nodes have counted is not known just now");
        }
        let now = self.clock.now();
        let refusal = match self.brakes.take_lookup(caller, agent, now) {
            Ok(used) => return Ok(Some(used)),
            Err(refusal) => refusal,
        };
        let limit = self.brakes.lookups.limit;
        let alarm = self.brakes.suspect(&caller.name, limit.most.saturating_add(1), limit, now);
        let entry = Entry::new(&caller.name, "LookupByCaller", now);
        Err(self.record_refused(Record { alarm, ..Record::of(entry) }, refusal).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: usize) -> SubjectId {
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        SubjectId::from_bytes(bytes)
    }

    #[test]
    fn so_many_agents_are_made_up_and_count_as_their_caller() {
        let (limit, now) = (Limit { most: 10, window: Duration::from_mins(1) }, Time::from_micros(1_000_000_000));
        let mut windows = Windows::default();
        for number in 0..MANY {
            let who = windows.whose("pbx", Some(agent(number)), now);
            assert_ne!(who, "pbx");
            assert!(windows.of.entry(who).or_insert_with(|| Window::new(limit)).take(1, now).is_ok());
        }
        assert_eq!(windows.whose("pbx", Some(agent(MANY)), now), "pbx");
        assert_ne!(windows.whose("pbx", Some(agent(3)), now), "pbx", "of whom there is a count");
        assert_ne!(
            windows.whose("pbx", Some(agent(MANY)), now.plus(Duration::from_mins(2))),
            "pbx",
            "the others are gone"
        );
    }
}
