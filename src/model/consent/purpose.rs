//! What personal data may be used for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Notice;
use crate::model::numbered::numbered;
use crate::model::{Error, FieldType, Label, Reason, Reference, Result, Time};

numbered! {
    /// On what ground a purpose may process personal data (Art. 6(1) GDPR).
    Basis {
        /// Art. 6(1)(a).
        Consent = 1,
        /// Art. 6(1)(b).
        Contract = 2,
        /// Art. 6(1)(c).
        LegalObligation = 3,
        /// Art. 6(1)(d).
        VitalInterests = 4,
        /// Art. 6(1)(e).
        PublicTask = 5,
        /// Art. 6(1)(f).
        LegitimateInterests = 6,
    }
}

impl Basis {
    /// Whether a person may object to it (Art. 21(1)).
    #[must_use]
    pub const fn knows_objection(self) -> bool {
        matches!(self, Self::LegitimateInterests | Self::PublicTask)
    }
}

numbered! {
    /// What it takes for a purpose that rests on consent.
    Mode {
        /// Nothing is permitted until the person says yes.
        OptIn = 1,
        /// Permitted until the person says no, where a law allows that.
        OptOut = 2,
    }
}

numbered! {
    /// By which way a person is reached.
    Channel {
        /// All of them: of an event, that it is about every channel; of a question, whether any will do.
        Any = 0,
        /// E-mail.
        Email = 1,
        /// Text messages.
        Sms = 2,
        /// Telephone calls, their recording included.
        Voice = 3,
        /// Letters.
        Post = 4,
        /// Notifications of an app.
        Push = 5,
        /// Web pages.
        Web = 6,
        /// Face to face.
        InPerson = 7,
    }
}

impl Channel {
    /// The channels that a value of a type serves, when it serves particular ones: a permission to send letters is none
    /// to read an e-mail address.
    #[must_use]
    pub const fn served_by(kind: FieldType) -> &'static [Self] {
        match kind {
            FieldType::Email => &[Self::Email],
            FieldType::Phone => &[Self::Sms, Self::Voice],
            FieldType::PostalAddress => &[Self::Post],
            FieldType::DeviceId => &[Self::Push, Self::Web],
            _ => &[],
        }
    }
}

numbered! {
    /// How much a new version of a document changes. A person decides that.
    Change {
        /// Wording: consents stand.
        Minor = 1,
        /// Consents have to be confirmed anew.
        Major = 2,
    }
}

numbered! {
    /// Where a purpose is in its life.
    PurposeState {
        /// Nothing is permitted for it yet.
        Draft = 1,
        /// In use.
        Active = 2,
        /// Nothing is permitted for it any more.
        Retired = 3,
    }
}

/// A version of a purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a yes or no of a document, none excludes another")]
pub struct Purpose {
    /// Its code; the dots make a tree.
    pub code: String,
    /// 1 and upwards.
    pub version: u32,
    /// What people call it.
    pub title: String,
    /// The lawful ground.
    pub basis: Basis,
    /// For [`Basis::Consent`].
    pub mode: Mode,
    /// Consent must be explicit (Art. 9(2)(a)).
    pub explicit_consent: bool,
    /// An objection is absolute (Art. 21(3)).
    pub direct_marketing: bool,
    /// It profiles the person; their switch then decides.
    pub profiling: bool,
    /// It decides without a human (Art. 22).
    pub automated_decision: bool,
    /// A restriction spares it: legal claims, rights of others, important public interest (Art. 18(2)).
    pub despite_restriction: bool,
    /// Consent holds only once it is confirmed.
    pub double_opt_in: bool,
    /// The channels it uses; every one when empty.
    pub channels: Vec<Channel>,
    /// The types of values it may read, by number; every one when empty.
    pub data_categories: Vec<i16>,
    /// Who receives the data.
    pub recipients: Vec<String>,
    /// How long it is kept, in words.
    pub retention: String,
    /// The notice that tells of it; empty without one.
    pub notice: String,
    /// When a consent should be reviewed, in seconds after it was given.
    pub review_after: Option<u64>,
    /// How long a consent is valid, in seconds.
    pub expires_after: Option<u64>,
    /// How long a consent goes on after a major change that adds nothing, in seconds.
    pub grace: u64,
    /// How long after a refusal nobody may ask again, in seconds.
    pub ask_again_after: u64,
    /// Below the age of consent a guardian decides (Art. 8).
    pub age_rule: bool,
    /// Where the assessment is written down.
    pub assessment: String,
    /// The term of the Data Privacy Vocabulary.
    pub dpv_term: String,
    /// Where it stands.
    pub state: PurposeState,
    /// What this version changed.
    pub change: Change,
    /// Whether this version adds types of data, recipients or another end: a consent to the one before is none to it.
    pub widens: bool,
    /// When this version was defined.
    pub defined_at: i64,
}

impl Purpose {
    /// A purpose that a vault begins with: active, and told of by no notice yet.
    #[must_use]
    pub fn seed(code: &str, basis: Basis, despite_restriction: bool) -> Self {
        Self {
            code: code.to_owned(),
            version: 1,
            title: String::new(),
            basis,
            mode: Mode::OptIn,
            explicit_consent: false,
            direct_marketing: code == "marketing" || code.starts_with("marketing."),
            profiling: false,
            automated_decision: false,
            despite_restriction,
            double_opt_in: false,
            channels: Vec::new(),
            data_categories: Vec::new(),
            recipients: Vec::new(),
            retention: String::new(),
            notice: String::new(),
            review_after: None,
            expires_after: None,
            grace: 0,
            ask_again_after: 0,
            age_rule: false,
            assessment: String::new(),
            dpv_term: String::new(),
            state: PurposeState::Active,
            change: Change::Minor,
            widens: false,
            defined_at: 0,
        }
    }

    /// Whether the document makes sense by itself.
    ///
    /// # Errors
    /// `ValueInvalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        Label::purpose(&self.code).map_err(|error| error.at("purpose.code"))?;
        let sensible_code = self.code.split('.').all(|part| !part.is_empty()) && !self.code.contains(['/', ':']);
        if !sensible_code {
            return Err(Error::invalid("purpose.code", "expected words of a-z, 0-9, _ and - with dots between them"));
        }
        for (field, text) in [("purpose.title", &self.title), ("purpose.retention", &self.retention)] {
            check_words(field, text)?;
        }
        check_list("purpose.recipients", &self.recipients)?;
        if !self.assessment.is_empty() {
            Reference::parse("purpose.assessment", &self.assessment)?;
        }
        let balances = self.basis == Basis::LegitimateInterests || self.mode == Mode::OptOut;
        if balances && self.assessment.is_empty() {
            let message = "legitimate interests and opt-out need an assessment: say where it is written down";
            return Err(Error::invalid("purpose.assessment", message));
        }
        if self.mode == Mode::OptOut && self.basis != Basis::Consent {
            return Err(Error::invalid("purpose.mode", "OPT_OUT is a mode of the basis CONSENT"));
        }
        if self.double_opt_in && self.basis != Basis::Consent {
            return Err(Error::invalid("purpose.double_opt_in", "there is nothing to confirm without consent"));
        }
        if !self.notice.is_empty() {
            Label::purpose(&self.notice).map_err(|error| error.at("purpose.notice"))?;
        }
        Ok(())
    }

    /// Makes this the version after `before`, at `now`.
    ///
    /// # Errors
    /// `ValueInvalid` when it is the same.
    pub fn follow(&mut self, before: &Self, now: Time) -> Result<()> {
        self.version = before.version + 1;
        self.defined_at = now.micros();
        let adds = |new: &[String], old: &[String]| new.iter().any(|one| !old.contains(one));
        let opens =
            |new: &[i16], old: &[i16]| !old.is_empty() && (new.is_empty() || new.iter().any(|one| !old.contains(one)));
        self.widens = self.basis != before.basis
            || adds(&self.recipients, &before.recipients)
            || opens(&self.data_categories, &before.data_categories)
            || (self.profiling && !before.profiling)
            || (self.automated_decision && !before.automated_decision)
            || (self.direct_marketing && !before.direct_marketing);
        if self.widens {
            self.change = Change::Major;
        }
        let same = Self { version: before.version, defined_at: before.defined_at, ..self.clone() };
        if (Self { change: before.change, widens: before.widens, ..same }) == *before {
            return Err(Error::invalid("purpose", "this version is the one that there is"));
        }
        Ok(())
    }

    /// Whether anybody can be asked to consent to it: by a notice that names it.
    ///
    /// # Errors
    /// `NoticeUnknown` when the notice is not published or says nothing of the purpose.
    pub fn check_notice(&self, notice: Option<&Notice>) -> Result<()> {
        if self.basis != Basis::Consent || self.state != PurposeState::Active {
            return Ok(());
        }
        if notice.is_some_and(|notice| notice.tells_of(&self.code)) {
            return Ok(());
        }
        let message = "a purpose that rests on consent needs a published notice that names it; publish that first, or \
                       define the purpose as a draft";
        Err(Error::new(Reason::NoticeUnknown, message).at("purpose.notice").with("purpose", &self.code))
    }

    /// Whether it may read values of a type.
    #[must_use]
    pub fn may_read(&self, kind: FieldType) -> bool {
        self.data_categories.is_empty() || self.data_categories.contains(&(kind as i16))
    }

    /// Whether it uses a channel.
    #[must_use]
    pub fn uses(&self, channel: Channel) -> bool {
        channel == Channel::Any || self.channels.is_empty() || self.channels.contains(&channel)
    }

    /// Whether `code` is this purpose, or one above it in the tree.
    #[must_use]
    pub fn is_below(&self, code: &str) -> bool {
        self.code.strip_prefix(code).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// When a consent given at `time` ends.
    #[must_use]
    pub fn ends(&self, time: Time) -> Option<Time> {
        self.expires_after.map(|seconds| time.plus(Duration::from_secs(seconds)))
    }

    /// When a consent given at `time` should be reviewed.
    #[must_use]
    pub fn review(&self, time: Time) -> Option<Time> {
        self.review_after.map(|seconds| time.plus(Duration::from_secs(seconds)))
    }
}

/// The longest text in words, in characters.
const WORDS: usize = 200;
/// The longest list.
const ITEMS: usize = 100;

/// Whether a text in words is short enough, and none that a number of a person could be in.
pub(in crate::model) fn check_words(field: &'static str, text: &str) -> Result<()> {
    if text.chars().count() > WORDS || text.chars().any(char::is_control) {
        return Err(Error::invalid(field, format!("expected at most {WORDS} characters on one line")));
    }
    Ok(())
}

/// The same of each item.
pub(super) fn check_list(field: &'static str, list: &[String]) -> Result<()> {
    if list.len() > ITEMS {
        let error = Error::new(Reason::BatchTooLarge, "the list is too long").at(field);
        return Err(error.with("count", list.len()).with("maximum", ITEMS));
    }
    list.iter().try_for_each(|item| {
        if item.trim().is_empty() {
            return Err(Error::invalid(field, "an item is empty"));
        }
        check_words(field, item)
    })
}
