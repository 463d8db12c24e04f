//! The catalogue: every purpose, notice, collection point and retention class there is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{
    Change, Cohort, CollectionPoint, Consent, Counting, Notice, Period, Purpose, RetentionBasis, RetentionClass, Time,
};

/// What a new vault begins with.
#[derive(Clone, Debug, Default)]
pub struct Seeds {
    /// Its purposes.
    pub purposes: Vec<Purpose>,
    /// Its retention classes.
    pub classes: Vec<RetentionClass>,
}

/// What a vault without configuration begins with.
#[must_use]
pub fn default_purposes() -> Vec<Purpose> {
    use crate::model::Basis::{Consent, Contract, LegalObligation, LegitimateInterests};
    let claims = Purpose {
        assessment: "GDPR Art. 17(3)(e)".to_owned(),
        ..Purpose::seed("legal_claims", LegitimateInterests, true)
    };
    vec![
        Purpose::seed("breach_notice", LegalObligation, true),
        Purpose::seed("customer_care", Contract, false),
        claims,
        Purpose::seed("marketing.email", Consent, false),
        Purpose::seed("order_confirmation", Contract, false),
        Purpose::seed("regulator_request", LegalObligation, true),
    ]
}

/// The retention classes that every new vault begins with. What is counted from a moment that the vault does not know, as
/// the end of an employment or of a consent, has no period: it goes with its person.
#[must_use]
pub fn default_classes() -> Vec<RetentionClass> {
    use Counting::{FromCreation, FromEndOfYear};
    use RetentionBasis::{Consent, Contract, LegalClaims, LegalObligation, LegitimateInterests};
    let class = RetentionClass::seed;
    vec![
        class("agent.hr", "Agents, as employees", Contract, None, FromCreation),
        class("call.ops", "Calls: routing and service", Contract, Some(Period::of(0, 0, 90)), FromCreation),
        class("call.quality", "Calls: quality", Consent, Some(Period::of(0, 6, 0)), FromCreation),
        class("consent.proof", "What proves a consent", LegalClaims, None, FromCreation),
        class("contract.evidence", "What proves a contract", LegalClaims, Some(Period::of(3, 0, 0)), FromEndOfYear),
        class("default", "All that names no class", LegitimateInterests, None, FromCreation),
        class("mifid.voice", "Recorded orders", LegalObligation, Some(Period::of(5, 0, 0)), FromCreation).outlasting(),
    ]
}

/// How long a version of a retention class waits that ends values sooner than the version before: what was destroyed by mistake
/// is gone.
const DELAY: Duration = Duration::from_hours(7 * 24);

/// Classes of scores are named so, and then after the class of which they are.
pub const SCORES: &str = "score/";

/// All documents, as of one generation. The texts of notices are left out: they decide nothing and are long.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Counts the documents.
    pub generation: i64,
    purposes: BTreeMap<String, Vec<Purpose>>,
    notices: BTreeMap<String, Vec<Notice>>,
    points: BTreeMap<String, CollectionPoint>,
    classes: BTreeMap<String, Vec<RetentionClass>>,
}

/// A consent that has to be confirmed, because what it was given under has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconfirm {
    /// Since when.
    pub since: Time,
    /// Until when it goes on all the same.
    pub usable_until: Time,
}

impl Catalogue {
    /// Adds the next version of a purpose.
    pub fn add_purpose(&mut self, purpose: Purpose) {
        self.purposes.entry(purpose.code.clone()).or_default().push(purpose);
    }

    /// Adds the next version of a notice, without its texts.
    pub fn add_notice(&mut self, mut notice: Notice) {
        for text in &mut notice.texts {
            text.text.clear();
        }
        self.notices.entry(notice.notice.clone()).or_default().push(notice);
    }

    /// Adds a collection point, or puts it in place of its former definition.
    pub fn put_point(&mut self, point: CollectionPoint) {
        self.points.insert(point.id.clone(), point);
    }

    /// Adds the next version of a retention class.
    pub fn add_class(&mut self, class: RetentionClass) {
        self.classes.entry(class.code.clone()).or_default().push(class);
    }

    /// The present version of a retention class; `None` for one that is not defined.
    #[must_use]
    pub fn class(&self, code: &str) -> Option<&RetentionClass> {
        self.classes.get(code).and_then(|versions| versions.last())
    }

    /// The present version of every retention class, by code.
    pub fn classes(&self) -> impl Iterator<Item = &RetentionClass> {
        self.classes.values().filter_map(|versions| versions.last())
    }

    /// The versions by which values of a class end: scores end as the class beside which theirs is, unless that is defined
    /// itself. There are none for a class that is not defined, whose values have no period.
    fn ending(&self, code: &str) -> &[RetentionClass] {
        let defined = self.classes.get(code).or_else(|| self.classes.get(code.strip_prefix(SCORES)?));
        defined.map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether values of a class end by themselves.
    #[must_use]
    pub fn has_period(&self, code: &str) -> bool {
        self.ending(code).last().is_some_and(|class| class.period.is_some())
    }

    /// The classes whose values end by themselves, by code, those of scores among them.
    #[must_use]
    pub fn ending_classes(&self) -> Vec<String> {
        let of_scores = self.classes.keys().map(|code| format!("{SCORES}{code}"));
        let mut codes: Vec<String> = self.classes.keys().cloned().chain(of_scores).collect();
        codes.retain(|code| self.has_period(code));
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// When what was kept in a month has been kept long enough; `None` without a period. A version that ends it sooner than
    /// the one before leaves that in force for [`DELAY`].
    #[must_use]
    pub fn ends(&self, code: &str, cohort: Cohort, now: Time) -> Option<Time> {
        let versions = self.ending(code);
        let mut end = versions.last()?.ends(cohort)?;
        // Before the first version there was no period.
        let before = std::iter::once(None).chain(versions.iter().map(Some));
        for (before, next) in before.zip(versions) {
            let until = Time::from_micros(next.defined_at).plus(DELAY);
            if until > now {
                let kept = before.and_then(|before| before.ends(cohort));
                end = end.max(kept.map_or(until, |kept| kept.min(until)));
            }
        }
        Some(end)
    }

    /// Until when an erasure at `now` leaves what was kept in a month; `None` for what it takes. The scores of a class that
    /// outlasts an erasure do not.
    #[must_use]
    pub fn outlasts_erasure(&self, code: &str, cohort: Cohort, now: Time) -> Option<Time> {
        self.class(code).filter(|class| class.outlasts_erasure)?;
        self.ends(code, cohort, now).filter(|end| *end > now)
    }

    /// The newest month of which everything has been kept long enough.
    #[must_use]
    pub fn over(&self, code: &str, now: Time) -> Option<Cohort> {
        let mut newest = Cohort::of(now);
        while self.ends(code, newest, now)? > now {
            newest = Cohort::from_number(newest.number().checked_sub(1)?);
        }
        Some(newest)
    }

    /// The present version of a purpose.
    #[must_use]
    pub fn purpose(&self, code: &str) -> Option<&Purpose> {
        self.purposes.get(code).and_then(|versions| versions.last())
    }

    /// The version of a purpose that was in force at a moment: the first, before there was any.
    #[must_use]
    pub fn purpose_at(&self, code: &str, at: Time) -> Option<&Purpose> {
        let versions = self.purposes.get(code)?;
        versions.iter().rev().find(|version| version.defined_at <= at.micros()).or_else(|| versions.first())
    }

    /// A version of a purpose.
    #[must_use]
    pub fn purpose_version(&self, code: &str, version: u32) -> Option<&Purpose> {
        self.purposes.get(code)?.iter().find(|purpose| purpose.version == version)
    }

    /// The present version of every purpose, by code.
    pub fn purposes(&self) -> impl Iterator<Item = &Purpose> {
        self.purposes.values().filter_map(|versions| versions.last())
    }

    /// The purposes below one in the tree, itself left out.
    pub fn below<'c>(&'c self, code: &'c str) -> impl Iterator<Item = &'c Purpose> {
        self.purposes().filter(move |purpose| purpose.code != code && purpose.is_below(code))
    }

    /// The present version of a notice.
    #[must_use]
    pub fn notice(&self, name: &str) -> Option<&Notice> {
        self.notices.get(name).and_then(|versions| versions.last())
    }

    /// The present version of every notice, by name and without the texts.
    pub fn notices(&self) -> impl Iterator<Item = &Notice> {
        self.notices.values().filter_map(|versions| versions.last())
    }

    /// Every version of a notice, the first one first.
    #[must_use]
    pub fn notice_versions(&self, name: &str) -> &[Notice] {
        self.notices.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// A collection point.
    #[must_use]
    pub fn point(&self, id: &str) -> Option<&CollectionPoint> {
        self.points.get(id)
    }

    /// Every collection point, by id.
    pub fn points(&self) -> impl Iterator<Item = &CollectionPoint> {
        self.points.values()
    }

    /// Whether a purpose, or a notice that tells of it, has changed so that what its consents are due for cannot be told
    /// from when they were given.
    #[must_use]
    pub fn has_changed(&self, code: &str) -> bool {
        let versions = self.purposes.get(code).map(Vec::as_slice).unwrap_or_default();
        let major = versions.iter().skip(1).any(|version| version.change == Change::Major);
        let review =
            versions.windows(2).any(|pair| matches!(pair, [one, next] if one.review_after != next.review_after));
        let told = |versions: &Vec<Notice>| {
            versions.iter().any(|notice| notice.tells_of(code))
                && versions.iter().skip(1).any(|version| version.change == Change::Major)
        };
        major || review || self.notices.values().any(told)
    }

    /// Whether a consent to a purpose has to be confirmed at `now`: a major version of the purpose or of the notice
    /// came after it.
    #[must_use]
    pub fn reconfirm(&self, purpose: &Purpose, consent: &Consent, now: Time) -> Option<Reconfirm> {
        let purposes = self.purposes.get(&purpose.code).map(Vec::as_slice).unwrap_or_default();
        let later_purposes = purposes
            .iter()
            .filter(|version| version.version > consent.purpose_version)
            .map(|version| (version.change, version.widens, version.defined_at));
        let later_notices = self
            .notice_versions(&consent.notice)
            .iter()
            .filter(|version| version.version > consent.notice_version)
            .map(|version| (version.change, version.widens, version.published_at));
        let mut reconfirm: Option<Reconfirm> = None;
        for (_, widens, at) in later_purposes
            .chain(later_notices)
            .filter(|(change, _, at)| *change == Change::Major && *at <= now.micros())
        {
            let since = Time::from_micros(at);
            let usable = if widens { since } else { since.plus(Duration::from_secs(purpose.grace)) };
            reconfirm = Some(reconfirm.map_or(Reconfirm { since, usable_until: usable }, |known| Reconfirm {
                since: known.since.min(since),
                usable_until: known.usable_until.min(usable),
            }));
        }
        reconfirm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    fn catalogue(versions: &[(&str, Option<Period>)]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (at, period) in versions {
            let class = RetentionClass::seed("x", "", RetentionBasis::Contract, *period, Counting::FromCreation);
            catalogue.add_class(RetentionClass { defined_at: time(at).micros(), ..class });
        }
        catalogue
    }

    const DAYS: Option<Period> = Some(Period::of(0, 0, 5));
    const YEARS: Option<Period> = Some(Period::of(5, 0, 0));

    #[test]
    fn a_version_that_ends_values_sooner_leaves_the_one_before_in_force_for_a_week() {
        let (january, now) = (Cohort::of(time("2026-01-15T00:00:00Z")), time("2026-11-21T00:00:00Z"));
        let end = |versions: &[(&str, Option<Period>)], now| catalogue(versions).ends("x", january, now);
        let defined = "2026-11-20T00:00:00Z";
        let (seed, sooner) = (("1970-01-01T00:00:00Z", YEARS), (defined, DAYS));
        let week = time("2026-11-27T00:00:00Z");
        assert_eq!(end(&[seed], now), Some(time("2031-02-01T00:00:00Z")));
        assert_eq!(end(&[seed, sooner], now), Some(week));
        assert_eq!(end(&[seed, sooner], week), Some(time("2026-02-06T00:00:00Z")));
        assert_eq!(end(&[sooner], now), Some(week), "before it there was no period");
        assert_eq!(end(&[seed, (defined, None), sooner], now), Some(week));
        assert_eq!(end(&[seed, sooner, (defined, YEARS)], now), end(&[seed], now), "a longer one counts at once");
        assert_eq!(end(&[seed, sooner, (defined, None)], now), None);
        assert_eq!(end(&[(seed.0, DAYS), (defined, YEARS)], now), end(&[seed], now));
        let again = [seed, sooner, ("2026-11-24T00:00:00Z", Some(Period::of(0, 0, 1)))];
        assert_eq!(end(&again, time("2026-11-25T00:00:00Z")), Some(week), "the mistake of a mistake");
        assert_eq!(catalogue(&[seed, sooner]).over("x", now), Some(Cohort::of(time("2021-10-01T00:00:00Z"))));
        assert_eq!(catalogue(&[seed, sooner]).over("x", week), Some(Cohort::of(time("2026-10-01T00:00:00Z"))));
    }

    #[test]
    fn the_newest_month_that_is_over_is_the_last_that_ends() {
        let catalogue = catalogue(&[("1970-01-01T00:00:00Z", Some(Period::of(0, 0, 90)))]);
        for now in ["2027-02-28T23:59:59Z", "2027-03-01T00:00:00Z", "2028-02-29T12:00:00Z"].map(time) {
            let over = catalogue.over("x", now).unwrap();
            assert!(catalogue.ends("x", over, now).unwrap() <= now);
            assert!(catalogue.ends("x", Cohort::from_number(over.number() + 1), now).unwrap() > now);
        }
        assert_eq!(catalogue.over("x", time("1970-02-01T00:00:00Z")), None);
    }

    #[test]
    fn what_the_present_version_says_outlasts_an_erasure_until_its_period_is_over() {
        let (now, november) = (time("2026-11-21T00:00:00Z"), Cohort::of(time("2026-11-01T00:00:00Z")));
        let class = |period| RetentionClass::seed("x", "", RetentionBasis::LegalClaims, period, Counting::FromCreation);
        let mut catalogue = Catalogue::default();
        catalogue.add_class(class(YEARS));
        assert_eq!(catalogue.outlasts_erasure("x", november, now), None);
        catalogue.add_class(class(YEARS).outlasting());
        let end = time("2031-12-01T00:00:00Z");
        assert_eq!(catalogue.outlasts_erasure("x", november, now), Some(end));
        assert_eq!(catalogue.outlasts_erasure("x", november, end), None, "it is over");
        assert_eq!(catalogue.outlasts_erasure("score/x", november, now), None);
        assert_eq!(catalogue.outlasts_erasure("y", november, now), None);
        catalogue.add_class(class(YEARS));
        assert_eq!(catalogue.outlasts_erasure("x", november, now), None);
    }

    #[test]
    fn scores_end_as_the_class_that_they_are_of() {
        let mut catalogue = catalogue(&[("1970-01-01T00:00:00Z", DAYS)]);
        let now = time("2026-11-21T00:00:00Z");
        assert_eq!(catalogue.ending_classes(), ["score/x", "x"]);
        assert_eq!(catalogue.over("score/x", now), catalogue.over("x", now));
        let own = RetentionClass::seed("score/x", "", RetentionBasis::Contract, None, Counting::FromCreation);
        catalogue.add_class(own);
        assert_eq!((catalogue.ending_classes(), catalogue.over("score/x", now)), (vec!["x".to_owned()], None));
    }
}
