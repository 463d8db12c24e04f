//! Time is an argument: whoever needs it is given a [`Clock`], so that a test can turn it.

use std::fmt;

/// A moment, in microseconds since 1970-01-01T00:00:00Z. Ordered, and the same in both stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// The moment `micros` microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The last that can be written down in every time zone: 9999-12-30T22:00:00.999999Z.
    pub const LAST: Self = Self(253_402_207_200_999_999);

    /// Reads RFC 3339.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(|time: jiff::Timestamp| Self(time.as_microsecond()))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The moment `duration` earlier; the earliest moment that can be told when that overflows.
    #[must_use]
    pub fn minus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The moment at which the day (UTC) began.
    #[must_use]
    pub const fn day(self) -> Self {
        const DAY: i64 = 24 * 3600 * 1_000_000;
        Self(self.0.div_euclid(DAY).saturating_mul(DAY))
    }

    /// The moment at which the hour (UTC) began.
    #[must_use]
    pub const fn hour(self) -> Self {
        const HOUR: i64 = 3600 * 1_000_000;
        Self(self.0.div_euclid(HOUR).saturating_mul(HOUR))
    }

    /// The moment `duration` later; the furthest moment that can be told when that overflows.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// RFC 3339 in UTC, to the microsecond.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Time;
}

/// The machine's clock: the only place that asks it.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is given")]
    fn now(&self) -> Time {
        Time(jiff::Timestamp::now().as_microsecond())
    }
}
