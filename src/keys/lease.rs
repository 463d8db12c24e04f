//! The lease: until when this process may use the keys that it holds.
//!
//! Where several nodes share a database, each holds keys in memory, and an erasure has to know that none of them still
//! uses a dead one. A node that can be heard says so itself. For one that cannot, a limit of time speaks: its lease,
//! which it must renew in the database. A lease is measured by the time since the machine started, which nobody can
//! set and which goes on while a process is stopped or the machine sleeps. A vault of one process has it for ever.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{Error, Reason, Result};
use crate::platform::uptime;

/// How long a lease lasts from the moment at which its renewal was sent.
pub const VALID: Duration = Duration::from_secs(3);

/// What a node may go by when it wonders whether it may answer.
pub struct Lease(Option<Mutex<State>>);

struct State {
    /// By [`uptime`].
    until: Duration,
    /// Whether the end that came last was noticed.
    lapsed: bool,
    /// How often it has ended.
    lapses: u64,
}

impl State {
    fn notice(&mut self) {
        if !self.lapsed && uptime() >= self.until {
            self.lapsed = true;
            self.lapses += 1;
        }
    }
}

impl Lease {
    /// One that never ends.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(None)
    }

    /// One that has yet to begin.
    #[must_use]
    pub const fn limited() -> Self {
        Self(Some(Mutex::new(State { until: Duration::ZERO, lapsed: true, lapses: 0 })))
    }

    /// Whether the keys may be used.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.state().is_none_or(|state| uptime() < state.until)
    }

    /// How often it has ended. What was made ready before an end must not leave after it.
    #[must_use]
    pub fn lapses(&self) -> u64 {
        let Some(mut state) = self.state() else { return 0 };
        state.notice();
        state.lapses
    }

    /// Refuses when the keys must not be used.
    pub fn check(&self) -> Result<()> {
        if self.is_valid() {
            return Ok(());
        }
        Err(Error::new(
            Reason::StoreUnavailable,
            "this node has lost touch with the database and must not use its keys until it is back; try again, or \
             another node",
        ))
    }

    /// Makes it last from `sent`, which is when the renewal was sent.
    pub(super) fn extend(&self, sent: Duration) {
        if let Some(mut state) = self.state() {
            // An end that nobody has noticed counts as well: something may have been made ready before it.
            state.notice();
            state.until = sent + VALID;
            state.lapsed = false;
        }
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.0.as_ref().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_renewal_and_each_end_counts_once() {
        let lease = Lease::limited();
        assert!(!lease.is_valid() && lease.check().is_err());
        assert_eq!(lease.lapses(), 0, "what never began cannot end");
        lease.extend(uptime());
        assert!(lease.is_valid() && lease.lapses() == 0);
        lease.extend(uptime().saturating_sub(VALID));
        assert_eq!((lease.is_valid(), lease.lapses(), lease.lapses()), (false, 1, 1));
        lease.extend(uptime());
        assert!(lease.check().is_ok());
        assert_eq!(lease.lapses(), 1, "and what was made ready before it stays behind");
        lease.extend(uptime().saturating_sub(VALID));
        lease.extend(uptime());
        assert_eq!(lease.lapses(), 2, "an end that nobody noticed counts too");
    }

    #[test]
    fn without_other_nodes_it_never_ends() {
        assert!(Lease::unlimited().check().is_ok());
        assert_eq!(Lease::unlimited().lapses(), 0);
    }
}
