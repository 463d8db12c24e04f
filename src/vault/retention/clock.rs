//! Whether the clock may be believed. What is destroyed too early is gone, and what is kept a day longer is not: so a clock that
//! shows more than a day since it was last believed is not believed for a day, and one that shows more than a month not before a
//! person says what time it is.

use std::time::Duration;

use crate::model::{Error, Reason, Result, Time};
use crate::store::retention::ClockSeen;
use crate::vault::Vault;

/// How far the clock may move between two looks.
const JUMP: Duration = Duration::from_hours(24);

/// A clock that has moved further is not believed by itself.
const LEAP: Duration = Duration::from_hours(24 * 30);

/// How often it is written down that somebody has looked.
const LOOK: Duration = Duration::from_hours(1);

/// What the clock showed at a look, and whether that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// What it showed. Whatever is decided after the look is decided by this, and not by what it shows then.
    pub now: Time,
    /// Whether that is believed.
    pub trusted: bool,
}

/// Whether what the clock shows is near enough to what was believed. It may be before that: by it nothing ends early.
fn is_near(seen: ClockSeen, now: Time) -> bool {
    now <= seen.believed_at.plus(JUMP)
}

/// What is known of the clock after a look at it. It is believed if it is near what is believed then.
fn look(seen: ClockSeen, now: Time) -> ClockSeen {
    let believed = ClockSeen { seen_at: now, trusted_at: now, believed_at: now.max(seen.believed_at) };
    let doubted = !is_near(seen, seen.seen_at);
    if seen.seen_at == Time::from_micros(0) {
        return believed;
    }
    if is_near(seen, now) {
        let fresh = !doubted && now < seen.seen_at.plus(LOOK) && seen.seen_at < now.plus(LOOK);
        return if fresh { seen } else { ClockSeen { trusted_at: seen.trusted_at.min(now), ..believed } };
    }
    let steady = doubted && seen.seen_at <= now.plus(LOOK) && now <= seen.seen_at.plus(JUMP);
    if !steady {
        // The doubt begins, or begins anew: whoever has set a wrong clock may have set it to another wrong time.
        let leapt = now > seen.believed_at.plus(LEAP);
        let trusted_at = if leapt { Time::LAST } else { now.plus(JUMP) };
        return ClockSeen { seen_at: now, trusted_at, ..seen };
    }
    if now >= seen.trusted_at {
        ClockSeen { trusted_at: seen.trusted_at, ..believed }
    } else if now >= seen.seen_at.plus(LOOK) {
        ClockSeen { seen_at: now, ..seen }
    } else {
        seen
    }
}

impl Vault {
    /// Looks at the clock.
    pub(super) async fn watch_clock(&self) -> Result<Moment> {
        let (now, seen) = self.look_at_clock(None).await?;
        let trusted = is_near(seen, now);
        metrics::counter!("lacuna_retention_ended_total").increment(0);
        metrics::counter!("lacuna_retention_failed_total").increment(0);
        metrics::gauge!("lacuna_retention_clock_doubted").set(f64::from(u8::from(!trusted)));
        Ok(Moment { now, trusted })
    }

    /// The same for a run that a person has asked for, who may say what time it is.
    ///
    /// # Errors
    /// `ClockDoubted`; `ValueInvalid` when they say another time.
    pub(super) async fn believe_clock(&self, confirmed: Option<Time>) -> Result<Moment> {
        let (now, seen) = self.look_at_clock(confirmed).await?;
        if is_near(seen, now) {
            return Ok(Moment { now, trusted: true });
        }
        let message = "the vault's clock has jumped ahead, so nothing is destroyed by it yet; say in confirm_time what time it is";
        let error = Error::new(Reason::ClockDoubted, message).with("time", now);
        // Of a leap there is no such time.
        Err(if seen.trusted_at == Time::LAST { error } else { error.with("trusted_time", seen.trusted_at) })
    }

    async fn look_at_clock(&self, confirmed: Option<Time>) -> Result<(Time, ClockSeen)> {
        let now = self.clock.now();
        if confirmed.is_some_and(|time| time > now.plus(JUMP) || time.plus(JUMP) < now) {
            let error =
                Error::invalid("confirm_time", "is more than a day away from the vault's clock; set that right first");
            return Err(error.with("time", now));
        }
        let seen = self.custody.store().read().await?.retention_clock().await?;
        if confirmed.is_none() && look(seen, now) == seen {
            return Ok((now, seen));
        }
        let mut tx = self.custody.store().write().await?;
        let before = tx.retention_clock().await?;
        let seen = match confirmed {
            Some(_) => ClockSeen { seen_at: now, trusted_at: now, believed_at: now },
            None => look(before, now),
        };
        if !is_near(seen, now) && seen.trusted_at != before.trusted_at {
            tracing::error!(
                %now, last_believed = %before.believed_at, believed_from = %seen.trusted_at,
                "THE CLOCK HAS JUMPED AHEAD, or the vault has rested: nothing is destroyed by retention until it is believed again"
            );
        }
        if seen != before {
            tx.put_retention_clock(&seen).await?;
            tx.commit().await?;
        }
        Ok((now, seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Time {
        Time::from_micros((1000 + hours) * 3_600_000_000)
    }

    const fn seen(seen_at: Time, trusted_at: Time, believed_at: Time) -> ClockSeen {
        ClockSeen { seen_at, trusted_at, believed_at }
    }

    #[test]
    fn a_clock_that_jumps_is_not_believed_for_a_day() {
        let seen = |one, two, three| seen(at(one), at(two), at(three));
        let zero = Time::from_micros(0);
        let never = ClockSeen { seen_at: zero, trusted_at: zero, believed_at: zero };
        assert_eq!(look(never, at(5)), seen(5, 5, 5));
        assert_eq!(look(seen(5, 5, 5), at(5)), seen(5, 5, 5));
        assert_eq!(look(seen(5, 5, 5), at(6)), seen(6, 5, 6));
        assert_eq!(look(seen(5, 5, 5), at(29)), seen(29, 5, 29));
        assert_eq!(look(seen(5, 5, 5), at(30)), seen(30, 54, 5));
        assert_eq!(look(seen(30, 54, 5), at(31)), seen(31, 54, 5), "it goes as clocks do");
        assert_eq!(look(seen(53, 54, 5), at(54)), seen(54, 54, 54), "a day later");
        assert_eq!(look(seen(30, 54, 5), at(100)), seen(100, 124, 5), "and it jumps on");
    }

    #[test]
    fn a_step_back_ends_a_doubt_only_where_the_clock_was_believed() {
        let seen = |one, two, three| seen(at(one), at(two), at(three));
        // Two hours back from a jump of twenty days: the doubt begins anew.
        assert_eq!(look(seen(500, 524, 5), at(498)), seen(498, 522, 5));
        assert_eq!(look(seen(500, 524, 5), at(30)), seen(30, 54, 5));
        assert!(!is_near(look(seen(500, 524, 5), at(30)), at(30)));
        assert_eq!(look(seen(500, 524, 5), at(29)), seen(29, 29, 29), "it is set right again");
        assert_eq!(look(seen(500, 524, 5), at(2)), seen(2, 2, 5), "what was believed is not forgotten");
        assert_eq!(look(seen(2, 2, 5), at(30)), seen(30, 54, 5));
        assert_eq!(look(seen(50, 50, 50), at(10)), seen(10, 10, 50), "nothing ends early by a clock that is behind");
    }

    #[test]
    fn a_leap_waits_for_a_person() {
        let year = 24 * 365;
        let leapt = look(seen(at(5), at(5), at(5)), at(10 * year));
        assert_eq!(leapt, seen(at(10 * year), Time::LAST, at(5)));
        // Hours go by, and days; two hours back, and nine years.
        for hours in [10 * year + 1, 10 * year + 24, 10 * year - 2, year] {
            let looked = look(leapt, at(hours));
            assert!(looked.trusted_at == Time::LAST && !is_near(looked, at(hours)), "{hours}: {looked:?}");
        }
        let mut patient = leapt;
        for hour in 0..24 * 40 {
            patient = look(patient, at(10 * year + hour));
        }
        assert!(!is_near(patient, patient.seen_at), "nor by itself");
        assert_eq!(look(leapt, at(6)), seen(at(6), at(6), at(6)), "it is set right again");
    }
}
