//! Budgets: how many values a caller may be shown within a time.

use super::window::{Limit, Over};
use super::{Brakes, Vault};
use crate::model::{Error, Reason, Result, Time};
use crate::policy::Caller;
use crate::store::brake::{Counted, Used};

impl Brakes {
    /// Takes so many values from the budget of a caller, before they are shown: all of them or none. `None` for a caller
    /// without a budget.
    ///
    /// # Errors
    /// `RevealBudget`.
    pub fn take(&self, caller: &Caller, values: u64, now: Time) -> Result<Option<Used>> {
        let Some(mut window) = self.window(Counted::Reveals, &caller.name).filter(|_| values > 0) else {
            return Ok(None);
        };
        match window.take(values, now) {
            Ok(part) => Ok(Some(Used { counted: Counted::Reveals, caller: caller.name.clone(), part, count: values })),
            Err(over) => Err(refusal(caller, window.limit(), over)),
        }
    }

    /// Gives back what was taken and not shown.
    pub fn give_back(&self, used: &Used) {
        if let Some(mut window) = self.window(used.counted, &used.caller) {
            window.give_back(used.part, used.count);
        }
    }
}

impl Vault {
    /// Refuses a caller whose budget is used up, before anything is read for them. A refusal is recorded.
    pub(in crate::vault) async fn check_budget(&self, caller: &Caller, deed: &'static str) -> Result<()> {
        if !self.brakes.reveals.contains_key(&caller.name) {
            return Ok(());
        }
        self.brakes.look(self.custody.store(), &*self.clock).await?;
        let checked = self.brakes.window(Counted::Reveals, &caller.name).map(|mut window| {
            let checked = window.check(1, self.clock.now());
            checked.map_err(|over| refusal(caller, window.limit(), over))
        });
        match checked {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.record_refusal(caller, deed, error).await),
        }
    }
}

fn refusal(caller: &Caller, limit: Limit, over: Over) -> Error {
    metrics::counter!("lacuna_reveal_budget_refusals_total").increment(1);
    let message = if over.retry.is_some() {
        "the caller would be shown more values than its budget has left; nothing is shown. Try again later, or ask for fewer"
    } else {
        "the call asks for more values than the caller's whole budget; nothing is shown. Ask for fewer at a time"
    };
    Error::new(Reason::RevealBudget, message)
        .with("caller", &caller.name)
        .with("budget", limit.most)
        .with("seconds", limit.window.as_secs())
        .with("left", over.left)
        .retry_in(over.retry)
}
