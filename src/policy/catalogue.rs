//! The catalogue: every purpose, notice, collection point and retention class there is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{
    Change, CollectionPoint, Consent, Counting, Notice, Period, Purpose, RetentionBasis, RetentionClass, Time,
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
        class("mifid.voice", "Recorded orders", LegalObligation, Some(Period::of(5, 0, 0)), FromCreation),
    ]
}

/// All documents, as of one generation. The texts of notices are left out: they decide nothing and are long.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Counts the documents.
    pub generation: i64,
    purposes: BTreeMap<String, Vec<Purpose>>,
    notices: BTreeMap<String, Vec<Notice>>,
    points: BTreeMap<String, CollectionPoint>,
    classes: BTreeMap<String, RetentionClass>,
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

    /// Adds a retention class, or puts it in place of the version before.
    pub fn put_class(&mut self, class: RetentionClass) {
        self.classes.insert(class.code.clone(), class);
    }

    /// A retention class; `None` for one that is not defined, whose values have no period.
    #[must_use]
    pub fn class(&self, code: &str) -> Option<&RetentionClass> {
        self.classes.get(code)
    }

    /// Every retention class, by code.
    pub fn classes(&self) -> impl Iterator<Item = &RetentionClass> {
        self.classes.values()
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
