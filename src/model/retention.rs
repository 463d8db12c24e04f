//! How long values are kept: retention classes, and periods of the calendar.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::consent::{check_words, numbered};
use super::{Error, Label, Result, Time};

numbered! {
    /// On what ground values of a class are kept. The numbers are those of `lacuna.v1.RetentionBasis`.
    RetentionBasis {
        /// The person has agreed.
        Consent = 1,
        /// A contract with the person needs them.
        Contract = 2,
        /// A law demands that they are kept.
        LegalObligation = 3,
        /// An interest that was weighed against the person's.
        LegitimateInterests = 4,
        /// Claims may be made, or have to be answered.
        LegalClaims = 5,
        /// A task in the public interest.
        PublicTask = 6,
        /// Somebody's life or health.
        VitalInterests = 7,
    }
}

numbered! {
    /// From when a period counts. The numbers are those of `lacuna.v1.RetentionCounting`.
    Counting {
        /// From the end of the month in which a value was kept.
        FromCreation = 1,
        /// From the end of the year in which it was kept.
        FromEndOfYear = 2,
    }
}

/// A length of time on the calendar: years, months and days, at least a day and at most a hundred years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period {
    years: u16,
    months: u16,
    days: u16,
}

/// The longest period, in years.
const YEARS: u16 = 100;

impl Period {
    /// A period of whole years, months and days; for those that a vault begins with.
    #[must_use]
    pub(crate) const fn of(years: u16, months: u16, days: u16) -> Self {
        Self { years, months, days }
    }

    /// Reads ISO 8601: `P90D`, `P6M`, `P5Y`, `P1Y6M`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(
                "period",
                "expected years, months and days as in ISO 8601, a day to a hundred years: P90D, P6M",
            )
        };
        let (mut rest, mut parts) = (text.strip_prefix('P').ok_or_else(wrong)?, [0_u16; 3]);
        let mut named = false;
        for (part, letter) in parts.iter_mut().zip(['Y', 'M', 'D']) {
            let Some((number, behind)) = rest.split_once(letter) else { continue };
            let digits = (1..=5).contains(&number.len()) && number.bytes().all(|digit| digit.is_ascii_digit());
            *part = number.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
            (rest, named) = (behind, true);
        }
        let [years, months, days] = parts;
        let fits = years <= YEARS && months <= 12 * YEARS && days <= 366 * YEARS && parts != [0; 3];
        if named && rest.is_empty() && fits { Ok(Self { years, months, days }) } else { Err(wrong()) }
    }
}

/// As [`Period::parse`] reads it.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P")?;
        let parts = [(self.years, 'Y'), (self.months, 'M'), (self.days, 'D')];
        parts.iter().filter(|(number, _)| *number > 0).try_for_each(|(number, letter)| write!(f, "{number}{letter}"))
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl TryFrom<String> for Period {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

/// A version of a retention class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionClass {
    /// The name that values are put into it by.
    pub code: String,
    /// 1 and upwards.
    pub version: u32,
    /// What people call it.
    pub title: String,
    /// The ground.
    pub basis: RetentionBasis,
    /// How long; `None` is until a value is deleted or its person erased.
    pub period: Option<Period>,
    /// From when the period counts.
    pub counting: Counting,
    /// When this version was defined.
    pub defined_at: i64,
}

impl RetentionClass {
    /// A class that a vault begins with.
    #[must_use]
    pub fn seed(code: &str, title: &str, basis: RetentionBasis, period: Option<Period>, counting: Counting) -> Self {
        let (code, title) = (code.to_owned(), title.to_owned());
        Self { code, version: 1, title, basis, period, counting, defined_at: 0 }
    }

    /// Whether the document makes sense by itself.
    ///
    /// # Errors
    /// `ValueInvalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        Label::retention_class(&self.code).map_err(|error| error.at("retention_class.code"))?;
        check_words("retention_class.title", &self.title)?;
        if self.period.is_none() && self.counting != Counting::FromCreation {
            return Err(Error::invalid("retention_class.counting", "there is nothing to count without a period"));
        }
        Ok(())
    }

    /// Makes this the version after `before`, at `now`.
    ///
    /// # Errors
    /// `ValueInvalid` when it is the same.
    pub fn follow(&mut self, before: &Self, now: Time) -> Result<()> {
        (self.version, self.defined_at) = (before.version, before.defined_at);
        if self == before {
            return Err(Error::invalid("retention_class", "this version is the one that there is"));
        }
        (self.version, self.defined_at) = (before.version + 1, now.micros());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_of_the_calendar() {
        for text in ["P90D", "P6M", "P5Y", "P1Y6M", "P1Y2M3D", "P100Y", "P36600D"] {
            assert_eq!(Period::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["", "P", "P0D", "90D", "P101Y", "P1W", "P-1D", "P+1D", "PT1H", "P1D1Y", "P1Y1Y", "P1.5Y", "P99999D", "p1d"]
        {
            let error = Period::parse(text).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("period"), "{text}");
        }
        assert!(serde_json::from_str::<Period>("\"P0Y\"").is_err());
    }

    #[test]
    fn a_version_differs_from_the_one_before() {
        let period = Some(Period::of(0, 0, 90));
        let before = RetentionClass::seed("call.ops", "", RetentionBasis::Contract, period, Counting::FromCreation);
        before.check().unwrap();
        let mut same = RetentionClass { version: 0, defined_at: 3, ..before.clone() };
        assert!(same.follow(&before, Time::from_micros(5)).is_err());
        let mut next = RetentionClass { period: None, ..same };
        next.follow(&before, Time::from_micros(5)).unwrap();
        assert_eq!((next.version, next.defined_at), (2, 5));
        let counted = RetentionClass { counting: Counting::FromEndOfYear, ..next };
        assert_eq!(counted.check().unwrap_err().field.as_deref(), Some("retention_class.counting"));
    }
}
