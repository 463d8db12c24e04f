//! Flights: reveals on their way, and the fence that an erasure puts behind them.
//!
//! A reveal that read its facts before an erasure began may still hold a key or a value. The erasure may not answer
//! before such a reveal has landed. Flights that begin later read the new facts and need not be waited for, so the
//! fence waits for one generation only and never stops the traffic.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::lease::Lease;
use crate::model::{Error, Reason, Result};

/// How long a flight may take. What lands later is refused, so that a fence never waits longer.
pub const LONGEST: Duration = Duration::from_secs(2);

enum Never {}

/// All flights, by generation.
pub struct Flights {
    lease: Arc<Lease>,
    current: RwLock<(mpsc::Sender<Never>, mpsc::Receiver<Never>)>,
}

/// One reveal on its way. Dropping it lands it.
pub struct Flight {
    _generation: mpsc::Sender<Never>,
    deadline: Instant,
    lease: Arc<Lease>,
}

impl Flights {
    /// No flight yet. None may land without the lease.
    #[must_use]
    pub fn new(lease: Arc<Lease>) -> Self {
        Self { lease, current: RwLock::new(mpsc::channel(1)) }
    }

    /// Begins a flight. Call it before reading the facts.
    #[must_use]
    pub fn begin(&self) -> Flight {
        let generation = self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone();
        Flight { _generation: generation, deadline: Instant::now() + LONGEST, lease: Arc::clone(&self.lease) }
    }

    /// How many have begun since the last fence and are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0.strong_count() - 1
    }

    /// Waits until every flight that has begun before has landed, or can no longer.
    ///
    /// Until then the next generation is kept from ending as well, so that a fence that comes meanwhile waits for the
    /// same flights; and this goes on should the caller of this fence give up.
    pub async fn fence(&self) {
        let fresh = mpsc::channel(1);
        let heir = fresh.0.clone();
        let (ours, mut landed) = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, fresh)
        };
        drop(ours);
        let wait = tokio::spawn(async move {
            let _landed_or_too_late = tokio::time::timeout(LONGEST, landed.recv()).await;
            drop(heir);
        });
        let _never_fails = wait.await;
    }
}

impl Flight {
    /// To be asked just before a value leaves: refuses when the flight has taken too long, or when this node must no
    /// longer use its keys.
    pub fn may_land(&self) -> Result<()> {
        self.lease.check()?;
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(Error::new(Reason::StoreUnavailable, "the reveal took too long to be safe to answer; try again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test(start_paused = true)]
    async fn a_fence_waits_for_flights_begun_before_it_and_not_for_later_ones() {
        let flights = Flights::new(Arc::new(Lease::unlimited()));
        let before = flights.begin();
        let mut fence = Box::pin(flights.fence());
        assert!((&mut fence).now_or_never().is_none());
        let later = flights.begin();
        drop(before);
        fence.await;
        drop(later);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_fence_waits_for_the_flights_of_the_first_even_if_that_gave_up() {
        let flights = Flights::new(Arc::new(Lease::unlimited()));
        let before = flights.begin();
        let mut first = Box::pin(flights.fence());
        assert!((&mut first).now_or_never().is_none());
        drop(first);
        tokio::task::yield_now().await;
        let mut second = Box::pin(flights.fence());
        assert!((&mut second).now_or_never().is_none());
        tokio::task::yield_now().await;
        assert!((&mut second).now_or_never().is_none(), "the first flight is still under way");
        drop(before);
        second.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_that_takes_too_long_cannot_land_and_does_not_hold_the_fence() {
        let flights = Flights::new(Arc::new(Lease::unlimited()));
        let slow = flights.begin();
        assert!(slow.may_land().is_ok());
        flights.fence().await;
        assert!(slow.may_land().is_err());
    }
}
