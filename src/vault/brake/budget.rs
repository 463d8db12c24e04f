//! Budgets: how many values a caller may be shown within a time.

use super::window::{Limit, Over};
use super::{Brakes, Vault};
use crate::model::{Error, Reason, Redaction, Result, Time};
use crate::policy::Caller;
use crate::store::brake::{Counted, Used};
use crate::vault::reveal::Detokenize;
use crate::vault::write::Record;

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

    /// What was taken, until it is known how much of it is shown.
    #[must_use]
    pub const fn reservation(&self, used: Option<Used>) -> Reservation<'_> {
        Reservation { brakes: self, used }
    }
}

/// Values that were taken from a budget. Dropped, as when the call fails or is given up, they are given back to what this process
/// knows; in the database they stay counted once the call is on record.
pub struct Reservation<'b> {
    brakes: &'b Brakes,
    used: Option<Used>,
}

impl Reservation<'_> {
    /// So many of them are shown.
    pub fn shown(mut self, values: u64) {
        if let Some(used) = &mut self.used {
            used.count = used.count.saturating_sub(values);
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let Some(used) = &self.used else { return };
        if let Some(mut window) = self.brakes.window(used.counted, &used.caller) {
            window.give_back(used.part, used.count);
        }
    }
}

impl Vault {
    /// Refuses a caller whose budget is used up, before anything is opened for them. A refusal is recorded.
    pub(in crate::vault) async fn check_budget(&self, caller: &Caller, ask: &Detokenize) -> Result<()> {
        if !self.brakes.reveals.contains_key(&caller.name) || ask.redaction == Redaction::Redacted {
            return Ok(());
        }
        self.brakes.look(self.custody.store(), &*self.clock).await?;
        let checked = self.brakes.window(Counted::Reveals, &caller.name).map(|mut window| {
            let checked = window.check_left(ask.tokens.len() as u64, self.clock.now());
            checked.map_err(|over| refusal(caller, window.limit(), over))
        });
        match checked {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                let entry = self.entry_of_refusal(caller, ask, error.reason).await?;
                Err(self.record_refused(Record::of(entry), error).await)
            }
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
