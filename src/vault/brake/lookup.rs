//! How many numbers an agent may look up: whoever tries one after the other is reading a telephone directory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::window::{Limit, Window};
use super::{Brakes, Vault};
use crate::model::{Error, Reason, Result, SubjectId, Time};
use crate::policy::Caller;
use crate::store::brake::{Counted, Used};
use crate::vault::audit::Entry;
use crate::vault::write::Record;

/// Above so many agents those are forgotten who have looked nothing up of late.
const MANY: usize = 4096;

/// The look-ups of each agent.
#[derive(Debug)]
pub(super) struct Lookups {
    limit: Limit,
    windows: Mutex<HashMap<String, Window>>,
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

    fn windows(&self) -> MutexGuard<'_, HashMap<String, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what others have counted.
    pub fn learn(&self, mut others: HashMap<String, BTreeMap<Time, u64>>) {
        let mut windows = self.windows();
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
        let who = agent.map_or_else(|| caller.name.clone(), |agent| format!("{} {agent}", caller.name));
        let mut windows = self.lookups.windows();
        if windows.len() > MANY {
            windows.retain(|_, window| window.count(now) > 0);
        }
        let window = windows.entry(who.clone()).or_insert_with(|| Window::new(self.lookups.limit));
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
