//! A count over the time that has just passed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::Time;

/// Into how many parts the time is divided. What was counted in a part is forgotten at once, when all of it is old enough.
const PARTS: i64 = 60;

/// At most so many within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub most: u64,
    /// Within how long.
    pub window: Duration,
}

impl Limit {
    fn micros(&self) -> i64 {
        i64::try_from(self.window.as_micros()).unwrap_or(i64::MAX)
    }

    /// The end of the part of time in which `now` lies.
    fn part(&self, now: Time) -> Time {
        let length = (self.micros() / PARTS).max(1);
        Time::from_micros(now.micros().div_euclid(length).saturating_add(1).saturating_mul(length))
    }
}

/// Until when what was counted in a part of time that ends then counts.
const fn forgotten(part: Time, micros: i64) -> Time {
    Time::from_micros(part.micros().saturating_add(micros))
}

/// What would go over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// How many would not.
    pub left: u64,
    /// After how long it would not; `None` for more than the limit itself.
    pub retry: Option<Duration>,
}

/// What was counted, by the end of the part of time.
type Counts = BTreeMap<Time, u64>;

/// A count against a limit: what this process has counted, and what others have as far as is known.
#[derive(Debug)]
pub struct Window {
    limit: Limit,
    own: Counts,
    others: Counts,
}

impl Window {
    /// Nothing counted yet.
    #[must_use]
    pub const fn new(limit: Limit) -> Self {
        Self { limit, own: BTreeMap::new(), others: BTreeMap::new() }
    }

    /// The limit.
    #[must_use]
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    /// Takes the place of what was known of others.
    pub fn learn(&mut self, others: Counts) {
        self.others = others;
    }

    fn forget(&mut self, now: Time) {
        let micros = self.limit.micros();
        for counts in [&mut self.own, &mut self.others] {
            counts.retain(|part, _| forgotten(*part, micros) > now);
        }
    }

    /// How many there are.
    pub fn count(&mut self, now: Time) -> u64 {
        self.forget(now);
        self.own.values().chain(self.others.values()).fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Counts `more`, whatever the limit. Answers when the part of time ends in which they stand.
    pub fn add(&mut self, more: u64, now: Time) -> Time {
        let part = self.limit.part(now);
        let count = self.own.entry(part).or_default();
        *count = count.saturating_add(more);
        part
    }

    /// Counts `more`, all of them or none.
    pub fn take(&mut self, more: u64, now: Time) -> Result<Time, Over> {
        self.check(more, now)?;
        Ok(self.add(more, now))
    }

    /// Whether `more` could be counted.
    pub fn check(&mut self, more: u64, now: Time) -> Result<(), Over> {
        let count = self.count(now);
        let left = self.limit.most.saturating_sub(count);
        if more <= left {
            return Ok(());
        }
        Err(self.over(count, more, now))
    }

    /// Whether anything could be counted. If not, the wait is that for `more`.
    pub fn check_left(&mut self, more: u64, now: Time) -> Result<(), Over> {
        let count = self.count(now);
        if count < self.limit.most { Ok(()) } else { Err(self.over(count, more, now)) }
    }

    fn over(&self, count: u64, more: u64, now: Time) -> Over {
        let most = self.limit.most;
        let many = count.saturating_add(more).saturating_sub(most);
        Over { left: most.saturating_sub(count), retry: self.wait(many, now).filter(|_| more <= most) }
    }

    /// How long it is until so many of those counted are forgotten.
    fn wait(&self, many: u64, now: Time) -> Option<Duration> {
        let mut parts: Vec<(Time, u64)> =
            self.own.iter().chain(&self.others).map(|(part, count)| (*part, *count)).collect();
        parts.sort_unstable();
        let mut gone = 0_u64;
        let last = parts.into_iter().find(|(_, count)| {
            gone = gone.saturating_add(*count);
            gone >= many
        });
        let until = forgotten(last?.0, self.limit.micros());
        Some(Duration::from_micros(until.micros().saturating_sub(now.micros()).max(0).unsigned_abs()))
    }

    /// Counts so many less that were counted in a part of time.
    pub fn give_back(&mut self, part: Time, less: u64) {
        if let Some(count) = self.own.get_mut(&part) {
            *count = count.saturating_sub(less);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(second: i64) -> Time {
        Time::from_micros(second * SECOND)
    }

    fn window(most: u64) -> Window {
        Window::new(Limit { most, window: Duration::from_mins(1) })
    }

    #[test]
    fn what_is_over_is_counted_not_at_all_and_fits_after_the_time_that_was_said() {
        let mut window = window(10);
        window.take(6, at(0)).unwrap();
        window.take(3, at(30)).unwrap();
        let over = window.take(2, at(31)).unwrap_err();
        // A part of a second, and a minute after it.
        assert_eq!(over, Over { left: 1, retry: Some(Duration::from_secs(30)) });
        assert!(window.take(2, at(60)).is_err());
        window.take(1, at(60)).unwrap();
        window.take(6, at(61)).unwrap();
        assert_eq!(window.take(11, at(500)).unwrap_err(), Over { left: 10, retry: None });
    }

    #[test]
    fn what_others_counted_counts_and_what_was_given_back_does_not() {
        let mut window = window(10);
        let part = window.take(10, at(5)).unwrap();
        window.give_back(part, 4);
        window.learn(BTreeMap::from([(at(4), 3)]));
        assert_eq!(window.count(at(6)), 9);
        assert_eq!(window.check(2, at(6)).unwrap_err().retry, Some(Duration::from_secs(58)));
        window.learn(BTreeMap::new());
        assert!(window.check(4, at(6)).is_ok());
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_as_long_as_the_window_holds_more_than_the_limit(
            asks in prop::collection::vec((0_i64..20, 1_u64..6), 1..60),
        ) {
            let mut window = window(10);
            let (mut now, mut given) = (0, Vec::new());
            for (pause, many) in asks {
                now += pause;
                match window.take(many, at(now)) {
                    Ok(_) => given.push((now, many)),
                    Err(over) => {
                        let retry = over.retry.unwrap();
                        let later = Time::from_micros(now * SECOND + i64::try_from(retry.as_micros()).unwrap());
                        let then = || Window { limit: window.limit, own: window.own.clone(), others: Counts::new() };
                        prop_assert!(then().check(many, Time::from_micros(later.micros() - 1)).is_err());
                        prop_assert!(then().check(many, later).is_ok());
                    }
                }
                let within: u64 = given.iter().filter(|(time, _)| *time > now - 60).map(|(_, many)| many).sum();
                prop_assert!(within <= 10);
            }
        }
    }
}
