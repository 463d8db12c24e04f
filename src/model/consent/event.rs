//! One entry of a person's ledger of consent.

use serde::{Deserialize, Serialize};

use super::{Channel, ConsentState};
use crate::crypto::derive::sha256;
use crate::model::numbered::numbered;
use crate::model::{ConsentEventId, Error, Label, Reason, Reference, Result, SubjectId, Time};

/// What a hash of an event begins with, so that it is a hash of nothing else.
const DOMAIN: &[u8] = b"lacuna consent event v1\n";

numbered! {
    /// What is recorded.
    EventKind {
        /// The person says yes.
        Give = 1,
        /// The person says no.
        Refuse = 2,
        /// The person is asked.
        Request = 3,
        /// The person confirms a yes.
        Confirm = 4,
        /// The person says yes again.
        Renew = 5,
        /// The person takes a yes back (Art. 7(3) GDPR).
        Withdraw = 6,
        /// The person objects (Art. 21).
        Object = 7,
        /// The controller ends it.
        Revoke = 8,
        /// An authority or the data protection officer declares it void.
        Invalidate = 9,
        /// The person closed the question without an answer.
        Defer = 10,
        /// The person takes an objection back.
        WithdrawObjection = 11,
        /// The controller's compelling grounds override an objection (Art. 21(1)).
        OverrideObjection = 12,
        /// The person has read a notice.
        Acknowledge = 13,
    }
}

impl EventKind {
    /// Whether the person says yes by it, and so has to have been told what to.
    #[must_use]
    pub const fn says_yes(self) -> bool {
        matches!(self, Self::Give | Self::Renew)
    }

    /// Whether it can only take permission away: such an event is about everything below its purpose as well, and needs
    /// neither a notice nor a collection point.
    #[must_use]
    pub const fn says_no(self) -> bool {
        matches!(self, Self::Withdraw | Self::Refuse | Self::Object | Self::Revoke | Self::Invalidate)
    }

    /// Whether a reason has to be given.
    #[must_use]
    pub const fn needs_reason(self) -> bool {
        matches!(self, Self::Revoke | Self::Invalidate | Self::OverrideObjection)
    }
}

numbered! {
    /// How a decision was expressed.
    Method {
        /// A form was filled in.
        Form = 1,
        /// Said, and recorded or witnessed.
        Oral = 2,
        /// A key of a telephone was pressed.
        KeyPress = 3,
        /// Signed.
        Signature = 4,
        /// A message was sent.
        Message = 5,
        /// A link was followed.
        Link = 6,
        /// A browser sent a signal.
        BrowserSignal = 7,
        /// A program of the person called an interface.
        Api = 8,
        /// A box was ticked already.
        PreTicked = 9,
        /// Concluded from something else.
        Assumed = 10,
        /// Nothing was said.
        Silence = 11,
    }
}

impl Method {
    /// Whether it is a clear affirmative action (Art. 4(11) GDPR; CJEU C-673/17 for pre-ticked boxes). A setting of a browser
    /// is none: it says yes to nothing in particular.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        !matches!(self, Self::PreTicked | Self::Assumed | Self::Silence | Self::BrowserSignal)
    }
}

numbered! {
    /// Who decided.
    Actor {
        /// The person.
        Subject = 1,
        /// Who holds parental responsibility (Art. 8).
        Guardian = 2,
        /// Who acts by mandate.
        Representative = 3,
        /// An employee who writes down what the person said.
        Agent = 4,
        /// The controller, or a program of theirs.
        Controller = 5,
        /// The data protection officer.
        DataProtectionOfficer = 6,
        /// A supervisory authority or a court.
        Authority = 7,
    }
}

/// What backs a decision. The personal part is a value of the person like any other; only its token stands here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is.
    pub kind: String,
    /// SHA-256 of what is kept elsewhere.
    #[serde(with = "super::maybe_hex", default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<[u8; 32]>,
    /// The token of the personal part.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
}

/// An entry. Nothing in it is personal data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentEvent {
    /// Its name.
    #[serde(with = "text")]
    pub id: ConsentEventId,
    /// Whose.
    #[serde(with = "text")]
    pub subject: SubjectId,
    /// The code of the purpose.
    pub purpose: String,
    /// The version of the purpose that it is about.
    pub purpose_version: u32,
    /// The channel.
    pub channel: Channel,
    /// What is recorded.
    pub kind: EventKind,
    /// How the consent stood right after it, as far as was known when it was recorded.
    pub state: ConsentState,
    /// How it was expressed.
    pub method: Option<Method>,
    /// What the person did.
    pub affirmative_action: String,
    /// The person said so in so many words.
    pub explicit_consent: bool,
    /// Who decided.
    pub actor: Actor,
    /// Under which notice; empty without one.
    pub notice: String,
    /// Its version; 0 without one.
    pub notice_version: u32,
    /// In which language it was shown.
    pub language: String,
    /// SHA-256 of its text.
    #[serde(with = "super::maybe_hex")]
    pub notice_sha256: Option<[u8; 32]>,
    /// Where it was collected; empty where that does not matter.
    pub collection_point: String,
    /// Under which law the person was; empty when unknown.
    pub jurisdiction: String,
    /// When it was expressed.
    #[serde(with = "moment")]
    pub effective_at: Time,
    /// When it was recorded.
    #[serde(with = "moment")]
    pub recorded_at: Time,
    /// Until when a yes is valid.
    #[serde(with = "maybe_moment")]
    pub valid_until: Option<Time>,
    /// When a yes has to be confirmed by a child that has come of age.
    #[serde(with = "maybe_moment")]
    pub of_age_at: Option<Time>,
    /// Whether a yes waits for a confirmation.
    pub to_be_confirmed: bool,
    /// What backs it.
    pub evidence: Vec<Evidence>,
    /// One yes to several purposes at once.
    pub bundled: bool,
    /// A code or reference.
    pub reason: String,
    /// The event that this one corrects.
    #[serde(with = "maybe_text")]
    pub supersedes: Option<ConsentEventId>,
    /// The event that took this one along, which is about a purpose above.
    #[serde(with = "maybe_text")]
    pub along_with: Option<ConsentEventId>,
    /// Who recorded it.
    pub caller: String,
}

impl ConsentEvent {
    /// The document that is kept, hashed and proven: JSON, with the fields in the order above.
    ///
    /// # Errors
    /// Never for an event that exists.
    pub fn document(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }

    /// Reads what [`ConsentEvent::document`] wrote.
    ///
    /// # Errors
    /// `Internal` for what it did not write.
    pub fn read(document: &str) -> Result<Self> {
        serde_json::from_str(document).map_err(Error::internal)
    }

    /// The hash of an event in its person's chain: of the hash before and the document.
    #[must_use]
    pub fn hash(previous: Option<&[u8; 32]>, document: &str) -> [u8; 32] {
        sha256(&[DOMAIN, previous.unwrap_or(&[0; 32]), document.as_bytes()])
    }

    /// Whether it tells of a purpose over a channel.
    #[must_use]
    pub fn is_about(&self, channel: Channel) -> bool {
        self.channel == Channel::Any || self.channel == channel
    }

    /// Whether the document makes sense by itself.
    ///
    /// # Errors
    /// `ValueInvalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        let required = |field: &'static str, message: &'static str| Err(Error::invalid(field, message));
        let takes_back = self.kind == EventKind::WithdrawObjection;
        if self.kind.says_yes() || self.kind == EventKind::Confirm || takes_back {
            if self.method.is_none() {
                return required("method", "say how the person decided");
            }
            if self.kind != EventKind::Confirm && self.affirmative_action.is_empty() {
                return required("affirmative_action", "say what the person did, such as \"ticked I agree\"");
            }
        }
        if self.kind.needs_reason() && self.reason.is_empty() {
            return required("reason", "name a code or a ticket");
        }
        if !self.reason.is_empty() {
            Reference::parse("reason", &self.reason)?;
        }
        if !self.affirmative_action.is_empty() {
            check_action(&self.affirmative_action)?;
        }
        if self.collection_point.is_empty() && !self.kind.says_no() {
            return required("collection_point", "say where it was collected");
        }
        for evidence in &self.evidence {
            let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
            if evidence.kind.is_empty() || evidence.kind.len() > 64 || !evidence.kind.bytes().all(word) {
                return required("evidence.kind", "expected 1 to 64 of a-z, 0-9 and _, such as \"recording_span\"");
            }
            Label::tag(&evidence.kind).map_err(|error| error.at("evidence.kind"))?;
        }
        self.check_actor()
    }

    fn check_actor(&self) -> Result<()> {
        use Actor::{Authority, Controller, DataProtectionOfficer};
        let fits = match self.kind {
            EventKind::Revoke | EventKind::OverrideObjection | EventKind::Request => {
                matches!(self.actor, Controller | DataProtectionOfficer | Authority | Actor::Agent)
            }
            EventKind::Invalidate => matches!(self.actor, DataProtectionOfficer | Authority),
            _ => !matches!(self.actor, Controller | DataProtectionOfficer | Authority),
        };
        if fits {
            return Ok(());
        }
        Err(Error::invalid("actor", "this actor cannot do that: people decide, controllers ask, revoke and invalidate"))
    }
}

/// Prose about what somebody did, short and without what could name them.
fn check_action(text: &str) -> Result<()> {
    let digits = text.split(|c: char| !c.is_numeric()).any(|run| run.chars().count() > 8);
    if text.chars().count() > 200 || text.contains('@') || text.chars().any(char::is_control) || digits {
        let message = "expected at most 200 characters on one line, without addresses and long numbers: it outlives \
                       the person's erasure";
        return Err(Error::invalid("affirmative_action", message));
    }
    if crate::model::contains_card_data(text) {
        return Err(Error::new(Reason::CardData, "holds what reads as payment card data").at("affirmative_action"));
    }
    Ok(())
}

/// Serde of moments as RFC 3339.
pub(crate) mod moment {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::model::Time;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
    pub fn serialize<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(Time::from_micros(time.as_microsecond()))
    }
}

/// The same of one that may be absent.
pub(crate) mod maybe_moment {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Time;

    #[derive(Deserialize)]
    struct Moment(#[serde(with = "super::moment")] Time);

    #[expect(clippy::ref_option, reason = "the shape that serde asks for")]
    pub fn serialize<S: Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::moment::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
        Ok(Option::<Moment>::deserialize(deserializer)?.map(|moment| moment.0))
    }
}

/// Serde of ids as text.
pub(crate) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<T: Display, S: Serializer>(id: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The same of one that may be absent.
mod maybe_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "the shape that serde asks for")]
    pub fn serialize<T: Display, S: Serializer>(id: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
