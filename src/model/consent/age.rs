//! The age of consent (Art. 8 GDPR).

use jiff::ToSpan as _;
use jiff::civil::Date;

use crate::model::{Jurisdiction, Time};

/// Member states that have lowered the age, as of 2026. Everywhere else it is 16.
const LOWERED: [(&str, i16); 17] = [
    ("AT", 14),
    ("BE", 13),
    ("BG", 14),
    ("CY", 14),
    ("CZ", 15),
    ("DK", 15),
    ("EE", 13),
    ("ES", 14),
    ("FI", 13),
    ("FR", 15),
    ("GB", 13),
    ("GR", 15),
    ("IT", 14),
    ("LT", 14),
    ("LV", 13),
    ("PT", 13),
    ("SE", 13),
];

/// From which age on a person decides alone, in years.
fn age_of_consent(jurisdiction: Option<&Jurisdiction>) -> i16 {
    let country = jurisdiction.map(Jurisdiction::country).unwrap_or_default();
    LOWERED.iter().find(|(code, _)| *code == country).map_or(16, |(_, age)| *age)
}

/// Whether somebody born on `birth` is of age at `now`.
fn is_of_age(birth: Date, jurisdiction: Option<&Jurisdiction>, now: Time) -> bool {
    of_age_on(birth, jurisdiction).is_none_or(|day| starts(day).is_none_or(|time| time <= now))
}

/// When somebody born on `birth` decides alone: the first day of the month after that birthday, so that the day of birth
/// cannot be told from it. `None` when they do already.
#[must_use]
pub fn comes_of_age(birth: Date, jurisdiction: Option<&Jurisdiction>, now: Time) -> Option<Time> {
    if is_of_age(birth, jurisdiction, now) {
        return None;
    }
    let day = of_age_on(birth, jurisdiction)?;
    starts(day.first_of_month().checked_add(1.month()).ok()?)
}

fn of_age_on(birth: Date, jurisdiction: Option<&Jurisdiction>) -> Option<Date> {
    birth.checked_add(age_of_consent(jurisdiction).years()).ok()
}

fn starts(day: Date) -> Option<Time> {
    let midnight = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Time::from_micros(midnight.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon(day: Date) -> Time {
        starts(day).unwrap().plus(std::time::Duration::from_hours(12))
    }

    #[test]
    fn a_child_comes_of_age_by_the_law_of_their_country_and_the_day_is_not_told() {
        let birth = jiff::civil::date(2013, 3, 14);
        let [germany, austria] = ["DE", "AT"].map(|code| Jurisdiction::parse(code).unwrap());
        let now = noon(jiff::civil::date(2027, 3, 14));
        assert!(!is_of_age(birth, Some(&germany), now) && is_of_age(birth, Some(&austria), now));
        assert!(!is_of_age(birth, None, now));
        assert_eq!(comes_of_age(birth, Some(&austria), now), None);
        assert_eq!(comes_of_age(birth, Some(&germany), now), starts(jiff::civil::date(2029, 4, 1)));
    }
}
