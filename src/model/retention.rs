//! How long values are kept: retention classes, and periods of the calendar.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::consent::check_words;
use super::numbered::numbered;
use super::{CallId, Error, HOLDS, HoldId, Label, Reference, Result, RetentionRunId, Time};

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

/// A month of the calendar (UTC), counted from January 1970. Values of one class that were kept in it end together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cohort(u32);

impl Cohort {
    /// The month of a moment.
    #[must_use]
    pub fn of(time: Time) -> Self {
        let time = jiff::Timestamp::from_microsecond(time.micros().clamp(0, Time::LAST.micros())).unwrap_or_default();
        let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
        let years = u32::try_from(date.year() - 1970).unwrap_or_default();
        Self(years * 12 + u32::try_from(date.month() - 1).unwrap_or_default())
    }

    /// The month that is so many after January 1970.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// How many months after January 1970 it is.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Its first moment.
    #[must_use]
    pub fn begins(self) -> Time {
        let begins = self.date().to_zoned(jiff::tz::TimeZone::UTC);
        begins.map_or(Time::LAST, |begins| Time::from_micros(begins.timestamp().as_microsecond()))
    }

    fn date(self) -> jiff::civil::Date {
        let year = i16::try_from(1970 + self.0 / 12).unwrap_or(9999).min(9999);
        let month = i8::try_from(self.0 % 12 + 1).unwrap_or(1);
        jiff::civil::Date::new(year, month, 1).unwrap_or(jiff::civil::Date::MAX)
    }
}

/// `2026-11`.
impl fmt::Display for Cohort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", 1970 + self.0 / 12, self.0 % 12 + 1)
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
    /// Whether an erasure leaves its values until their period is over, because a law demands them.
    #[serde(default)]
    pub outlasts_erasure: bool,
    /// When this version was defined.
    pub defined_at: i64,
}

impl RetentionClass {
    /// A class that a vault begins with.
    #[must_use]
    pub fn seed(code: &str, title: &str, basis: RetentionBasis, period: Option<Period>, counting: Counting) -> Self {
        let (code, title) = (code.to_owned(), title.to_owned());
        Self { code, version: 1, title, basis, period, counting, outlasts_erasure: false, defined_at: 0 }
    }

    /// The same, of values that an erasure leaves.
    #[must_use]
    pub fn outlasting(self) -> Self {
        Self { outlasts_erasure: true, ..self }
    }

    /// Whether the document makes sense by itself.
    ///
    /// # Errors
    /// `ValueInvalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        Label::retention_class(&self.code).map_err(|error| error.at("retention_class.code"))?;
        if self.code.starts_with(HOLDS) {
            return Err(Error::invalid("retention_class.code", "the classes below hold/ are for legal holds alone"));
        }
        check_words("retention_class.title", &self.title)?;
        if self.period.is_none() && self.counting != Counting::FromCreation {
            return Err(Error::invalid("retention_class.counting", "there is nothing to count without a period"));
        }
        let demanded = matches!(self.basis, RetentionBasis::LegalObligation | RetentionBasis::LegalClaims);
        if self.outlasts_erasure && !(demanded && self.period.is_some()) {
            return Err(Error::invalid(
                "retention_class.outlasts_erasure",
                "only what a legal obligation or legal claims demand for a period outlasts the erasure of its person",
            ));
        }
        Ok(())
    }

    /// When what was kept in a month has been kept long enough; `None` without a period.
    #[must_use]
    pub fn ends(&self, cohort: Cohort) -> Option<Time> {
        let Period { years, months, days } = self.period?;
        let over = match self.counting {
            Counting::FromCreation => Cohort(cohort.0.saturating_add(1)),
            Counting::FromEndOfYear => Cohort((cohort.0 / 12).saturating_add(1).saturating_mul(12)),
        };
        let span = jiff::Span::new().years(i64::from(years)).months(i64::from(months)).days(i64::from(days));
        let end = over.date().checked_add(span).and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC));
        Some(end.map_or(Time::LAST, |end| Time::from_micros(end.timestamp().as_microsecond())))
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

numbered! {
    /// Where a run stands. The numbers are stored, and are those of `lacuna.v1.RetentionRunState`.
    RunState {
        /// Values are gone from the rows; their keys go with the next change of the root.
        Pending = 1,
        /// Their keys are gone from every copy.
        Done = 2,
        /// Values are being taken out of the rows.
        Sweeping = 3,
    }
}

/// What a run has destroyed of one class and month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The class.
    pub class: String,
    /// The month, as `2026-11`; empty of a class without a period.
    pub cohort: String,
    /// So many keys.
    pub keys: u64,
    /// So many values.
    pub values: u64,
}

/// A run that destroys what was kept long enough, or parts of a call before that, or the copies of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRun {
    /// Its name.
    pub id: RetentionRunId,
    /// Who began it.
    pub started_by: String,
    /// When.
    pub started_at: Time,
    /// Where it stands.
    pub state: RunState,
    /// What it has destroyed, by class and month.
    pub items: Vec<Ended>,
    /// The epoch of the key tree that lacks the keys.
    pub epoch: Option<u64>,
    /// When they were gone.
    pub ended_at: Option<Time>,
    /// The signed receipt; a run that had nothing to destroy has none.
    pub receipt: Option<Vec<u8>>,
    /// The call whose parts it destroys before their time; `None` of one that destroys what was kept long enough.
    pub call: Option<CallId>,
    /// The hold whose copies it destroys; `None` of one that destroys values.
    pub hold: Option<HoldId>,
    /// A legal ground or a ticket; `retention` of what was kept long enough.
    pub reason: String,
}

impl RetentionRun {
    /// A run that has destroyed nothing yet.
    #[must_use]
    pub fn begin(id: RetentionRunId, started_by: &str, now: Time) -> Self {
        let (state, items) = (RunState::Sweeping, Vec::new());
        let started_by = started_by.to_owned();
        let (epoch, ended_at, receipt) = (None, None, None);
        let (call, hold, reason) = (None, None, "retention".to_owned());
        Self { id, started_by, started_at: now, state, items, epoch, ended_at, receipt, call, hold, reason }
    }

    /// A run that destroys parts of a call, and has destroyed none yet.
    #[must_use]
    pub fn of_call(id: RetentionRunId, started_by: &str, call: CallId, reason: &Reference, now: Time) -> Self {
        Self { call: Some(call), reason: reason.as_str().to_owned(), ..Self::begin(id, started_by, now) }
    }

    /// A run that destroys the copies of a hold, and has destroyed none yet.
    #[must_use]
    pub fn of_hold(id: RetentionRunId, started_by: &str, hold: HoldId, reason: &Reference, now: Time) -> Self {
        Self { hold: Some(hold), reason: reason.as_str().to_owned(), ..Self::begin(id, started_by, now) }
    }

    /// Adds what was destroyed.
    pub fn add(&mut self, class: &str, cohort: Option<Cohort>, keys: u64, values: u64) {
        let cohort = cohort.map(|cohort| cohort.to_string()).unwrap_or_default();
        match self.items.iter_mut().find(|item| item.class == class && item.cohort == cohort) {
            Some(item) => (item.keys, item.values) = (item.keys + keys, item.values + values),
            None => self.items.push(Ended { class: class.to_owned(), cohort, keys, values }),
        }
        self.items.sort_by(|one, other| (&one.class, &one.cohort).cmp(&(&other.class, &other.cohort)));
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
    fn a_month_ends_with_its_period() {
        let time = |text: &str| Time::parse(text).unwrap();
        let november = Cohort::of(time("2026-11-30T23:59:59.999999Z"));
        assert_eq!((november.to_string().as_str(), november.number()), ("2026-11", 682));
        assert_eq!(Cohort::of(time("2026-12-01T00:00:00Z")).number(), 683);
        let basis = RetentionBasis::Contract;
        let class = |text, counting| RetentionClass::seed("x", "", basis, Some(Period::parse(text).unwrap()), counting);
        for (period, counting, end) in [
            ("P90D", Counting::FromCreation, "2027-03-01T00:00:00Z"),
            ("P6M", Counting::FromCreation, "2027-06-01T00:00:00Z"),
            ("P5Y", Counting::FromCreation, "2031-12-01T00:00:00Z"),
            ("P3Y", Counting::FromEndOfYear, "2030-01-01T00:00:00Z"),
            ("P1D", Counting::FromEndOfYear, "2027-01-02T00:00:00Z"),
        ] {
            let (class, end) = (class(period, counting), time(end));
            assert_eq!(class.ends(november), Some(end), "{period}");
        }
        let endless = RetentionClass { period: None, ..class("P1D", Counting::FromCreation) };
        assert_eq!(endless.ends(november), None);
        assert_eq!(november.begins(), time("2026-11-01T00:00:00Z"));
        assert_eq!(class("P100Y", Counting::FromEndOfYear).ends(Cohort(u32::MAX)), Some(Time::LAST));
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

    #[test]
    fn only_what_a_law_demands_for_a_period_outlasts_an_erasure() {
        use RetentionBasis::{Consent, Contract, LegalClaims, LegalObligation, LegitimateInterests, VitalInterests};
        let period = Some(Period::of(5, 0, 0));
        let class = |basis, period| RetentionClass::seed("x", "", basis, period, Counting::FromCreation).outlasting();
        for basis in [LegalObligation, LegalClaims] {
            class(basis, period).check().unwrap();
            let endless = class(basis, None).check().unwrap_err();
            assert_eq!(endless.field.as_deref(), Some("retention_class.outlasts_erasure"));
        }
        for basis in [Consent, Contract, LegitimateInterests, VitalInterests] {
            assert!(class(basis, period).check().is_err(), "{basis:?}");
        }
        let before =
            serde_json::to_string(&class(LegalClaims, period)).unwrap().replace(",\"outlasts_erasure\":true", "");
        assert!(
            !serde_json::from_str::<RetentionClass>(&before).unwrap().outlasts_erasure,
            "one of an earlier version"
        );
    }
}
