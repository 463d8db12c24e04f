//! Whether the clock may be believed. What is destroyed too early is gone, and what is kept a day longer is not: so a clock that
//! shows more than a day since somebody last looked is not believed for a day, unless a person says what time it is.

use std::time::Duration;

use crate::model::{Error, Reason, Result, Time};
use crate::store::retention::ClockSeen;
use crate::vault::Vault;

/// How far the clock may move between two looks.
const JUMP: Duration = Duration::from_hours(24);

/// How often it is written down that somebody has looked.
const LOOK: Duration = Duration::from_hours(1);

/// What is known of the clock after a look at it.
fn look(seen: ClockSeen, now: Time) -> ClockSeen {
    if seen.seen_at == Time::from_micros(0) || now.plus(LOOK) < seen.seen_at {
        // The first look; or it was set back, by which nothing ends early.
        ClockSeen { seen_at: now, trusted_at: now }
    } else if now > seen.seen_at.plus(JUMP) {
        ClockSeen { seen_at: now, trusted_at: now.plus(JUMP) }
    } else if now >= seen.seen_at.plus(LOOK) {
        ClockSeen { seen_at: now, ..seen }
    } else {
        seen
    }
}

impl Vault {
    /// Looks at the clock, and answers whether it may be believed.
    pub(super) async fn watch_clock(&self) -> Result<bool> {
        let seen = self.look_at_clock(None).await?;
        let trusted = seen.trusted_at <= self.clock.now();
        metrics::counter!("lacuna_retention_ended_total").increment(0);
        metrics::gauge!("lacuna_retention_clock_doubted").set(f64::from(u8::from(!trusted)));
        Ok(trusted)
    }

    /// The same for a run that a person has asked for, who may say what time it is.
    ///
    /// # Errors
    /// `ClockDoubted`; `ValueInvalid` when they say another time.
    pub(super) async fn believe_clock(&self, confirmed: Option<Time>) -> Result<()> {
        let now = self.clock.now();
        if confirmed.is_some_and(|time| time > now.plus(JUMP) || time.plus(JUMP) < now) {
            let error =
                Error::invalid("confirm_time", "is more than a day away from the vault's clock; set that right first");
            return Err(error.with("time", now));
        }
        let seen = self.look_at_clock(confirmed).await?;
        let now = self.clock.now();
        if seen.trusted_at <= now {
            return Ok(());
        }
        let message = "the vault's clock has jumped ahead, so nothing is destroyed by it yet; say in confirm_time what time it is";
        Err(Error::new(Reason::ClockDoubted, message).with("time", now).with("trusted_time", seen.trusted_at))
    }

    async fn look_at_clock(&self, confirmed: Option<Time>) -> Result<ClockSeen> {
        let now = self.clock.now();
        let seen = self.custody.store().read().await?.retention_clock().await?;
        if confirmed.is_none() && look(seen, now) == seen {
            return Ok(seen);
        }
        let mut tx = self.custody.store().write().await?;
        let before = tx.retention_clock().await?;
        let mut seen = look(before, now);
        if seen.trusted_at > before.trusted_at.max(now) {
            tracing::error!(
                %now, last_seen = %before.seen_at, believed_from = %seen.trusted_at,
                "THE CLOCK HAS JUMPED AHEAD, or the vault has rested: nothing is destroyed by retention until it is believed again"
            );
        }
        if confirmed.is_some() {
            seen = ClockSeen { seen_at: now, trusted_at: seen.trusted_at.min(now) };
        }
        if seen != before {
            tx.put_retention_clock(&seen).await?;
            tx.commit().await?;
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_not_believed_for_a_day() {
        let at = |hours: i64| Time::from_micros((1000 + hours) * 3_600_000_000);
        let seen = |seen, trusted| ClockSeen { seen_at: at(seen), trusted_at: at(trusted) };
        let never = ClockSeen { seen_at: Time::from_micros(0), trusted_at: Time::from_micros(0) };
        assert_eq!(look(never, at(5)), seen(5, 5));
        assert_eq!(look(seen(5, 5), at(5)), seen(5, 5));
        assert_eq!(look(seen(5, 5), at(6)), seen(6, 5));
        assert_eq!(look(seen(5, 5), at(29)), seen(29, 5));
        assert_eq!(look(seen(5, 5), at(30)), seen(30, 54));
        assert_eq!(look(seen(30, 54), at(54)), seen(54, 54), "a day later");
        assert_eq!(look(seen(30, 54), at(500)), seen(500, 524), "and it jumps on");
        assert_eq!(look(seen(500, 524), at(31)), seen(31, 31), "it is set right again");
    }
}
