//! Calls of a contact centre: what is known of one in clear, and who took part. What parties say of themselves is tokens.

use std::time::Duration;

use super::card::contains_card_number;
use super::numbered::numbered;
use super::{CallId, Error, PartId, Reason, Result, SubjectId, Time, TokenRow};

/// Most parts of a call.
pub const MOST_PARTS: usize = 50;

numbered! {
    /// Which way a leg of a call goes.
    Direction {
        /// Somebody called the company.
        Inbound = 1,
        /// The company called somebody.
        Outbound = 2,
        /// Within the company.
        Internal = 3,
    }

    /// How a leg of a call ended.
    Disposition {
        /// They talked.
        Answered = 1,
        /// Nobody answered.
        NoAnswer = 2,
        /// The line was engaged.
        Busy = 3,
        /// It could not be put through.
        Failed = 4,
        /// The network had no room for it.
        Congestion = 5,
        /// The caller hung up while waiting.
        Abandoned = 6,
        /// It went to voicemail.
        Voicemail = 7,
    }

    /// What a party is in a call.
    PartyRole {
        /// Whom the call is for.
        Customer = 1,
        /// Who serves them.
        Agent = 2,
        /// Who supervises.
        Supervisor = 3,
        /// An expert who was asked in.
        Sme = 4,
        /// Anybody else.
        ThirdParty = 5,
    }

    /// What a value of a party is.
    CallField {
        /// Their number.
        Number = 1,
        /// Their name.
        Name = 2,
        /// Where they are.
        Place = 3,
        /// Free text.
        Note = 4,
        /// What the telephone system calls an agent.
        AgentId = 5,
    }

    /// Why a call is of somebody else.
    RelinkReason {
        /// The number has another holder than before.
        NumberReassigned = 1,
        /// Several people use the number.
        NumberShared = 2,
        /// Somebody presented a number that is not theirs.
        NumberSpoofed = 3,
        /// They were taken for somebody else.
        Mistaken = 4,
    }

    /// What a part of a call is.
    PartKind {
        /// What was said, or seen, as it was recorded.
        Recording = 1,
        /// What was said, written down.
        Transcript = 2,
        /// What it came to.
        Summary = 3,
        /// What somebody wrote about it.
        Note = 4,
        /// What was on a screen meanwhile.
        Screen = 5,
        /// How well somebody served.
        Scorecard = 6,
    }

    /// What is kept of a part beside what is clear.
    PartBody {
        /// Nothing: it lies where whoever keeps it knows.
        Elsewhere = 1,
        /// Where it lies.
        Address = 2,
        /// It itself, which is text.
        Text = 3,
        /// It itself, which is bytes.
        Bytes = 4,
    }
}

impl RelinkReason {
    /// Its name, as in the API and in the audit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NumberReassigned => "NUMBER_REASSIGNED",
            Self::NumberShared => "NUMBER_SHARED",
            Self::NumberSpoofed => "NUMBER_SPOOFED",
            Self::Mistaken => "MISTAKEN",
        }
    }
}

impl PartKind {
    /// The retention class of such a part, unless another is named.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Recording | Self::Transcript | Self::Summary | Self::Screen => "call.quality",
            Self::Note => "call.ops",
            Self::Scorecard => "agent.hr",
        }
    }
}

impl PartBody {
    /// Whether what the part stands for lies elsewhere, and so may be sealed there under a key of the part.
    #[must_use]
    pub const fn is_elsewhere(self) -> bool {
        matches!(self, Self::Elsewhere | Self::Address)
    }
}

impl PartyRole {
    /// Whether it is somebody who works there, and so is told by what the telephone system calls them.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Agent | Self::Supervisor | Self::Sme)
    }

    /// What to call somebody of whom nothing else is shown.
    #[must_use]
    pub const fn label(self, erased: bool) -> &'static str {
        match (self, erased) {
            (Self::Customer, false) => "customer",
            (Self::Customer, true) => "erased customer",
            (Self::Agent, false) => "agent",
            (Self::Agent, true) => "former agent",
            (Self::Supervisor, false) => "supervisor",
            (Self::Supervisor, true) => "former supervisor",
            (Self::Sme, false) => "expert",
            (Self::Sme, true) => "former expert",
            (Self::ThirdParty, false) => "third party",
            (Self::ThirdParty, true) => "erased third party",
        }
    }
}

/// What a telephone system calls a leg of a call, or what the legs of one call have in common: 1 to 128 of
/// `A-Z a-z 0-9 . _ : / -`, beginning with a letter or digit. It outlives the people in the call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceCallId(Box<str>);

impl SourceCallId {
    /// Most characters.
    const LONGEST: usize = 128;

    /// Reads the name that stands in `field`.
    pub fn parse(field: &'static str, text: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
        let begins = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if !begins || text.len() > Self::LONGEST || !text.bytes().all(allowed) {
            let message = "expected 1 to 128 letters, digits and ._:/- beginning with a letter or digit; it is kept in clear, so \
                           it must not be a number or an address of a person";
            return Err(Error::invalid(field, message));
        }
        if contains_card_number(text) {
            return Err(Error::new(Reason::CardData, "holds what reads as a payment card number").at(field));
        }
        Ok(Self(text.into()))
    }

    /// The name, as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Refuses what is no number of the company's that was called: up to 32 of `0-9 + * #`, and only of an inbound leg, because
/// whoever else is called is a person.
pub fn check_dialled(direction: Direction, text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    if direction != Direction::Inbound {
        let message =
            "is kept in clear, and so only of an INBOUND leg: tell of whoever was called as a party with a number";
        return Err(Error::invalid("dialled", message));
    }
    if text.len() > 32 || !text.bytes().all(|byte| byte.is_ascii_digit() || b"+*#".contains(&byte)) {
        return Err(Error::invalid("dialled", "expected up to 32 of 0-9, +, * and #"));
    }
    if contains_card_number(text) {
        return Err(Error::new(Reason::CardData, "holds what reads as a payment card number").at("dialled"));
    }
    Ok(())
}

/// A call: what its legs have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub id: CallId,
    /// Which system tells of it.
    pub system: String,
    /// What its legs have in common there.
    pub group: Option<String>,
    /// When the first leg began.
    pub started_at: Time,
    /// When the last leg ended; `None` while one is under way.
    pub ended_at: Option<Time>,
    /// Counts changes.
    pub version: u64,
    /// When it was recorded.
    pub created_at: Time,
}

impl Call {
    /// A call of which nothing is known yet but how it begins.
    #[must_use]
    pub const fn open(id: CallId, system: String, group: Option<String>, leg: &LegFacts, now: Time) -> Self {
        let (started_at, ended_at) = (leg.started_at, leg.ended_at);
        Self { id, system, group, started_at, ended_at, version: 1, created_at: now }
    }

    /// Takes note of what its legs are now.
    pub fn fold<'l>(&mut self, legs: impl IntoIterator<Item = &'l LegFacts>) {
        let legs: Vec<&LegFacts> = legs.into_iter().collect();
        if let Some(first) = legs.iter().map(|leg| leg.started_at).min() {
            self.started_at = first;
        }
        let ends: Option<Vec<Time>> = legs.iter().map(|leg| leg.ended_at).collect();
        self.ended_at = ends.and_then(|ends| ends.into_iter().max());
        self.version += 1;
    }
}

/// What is told of a leg in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegFacts {
    /// Which way it goes.
    pub direction: Direction,
    /// The company's number that was called, or empty.
    pub dialled: String,
    /// A code, or empty.
    pub queue: String,
    /// A code, or empty.
    pub skill: String,
    /// A code, or empty.
    pub campaign: String,
    /// A code, or empty.
    pub contact_list: String,
    /// When it began.
    pub started_at: Time,
    /// When it rang.
    pub rung_at: Option<Time>,
    /// When it was answered.
    pub answered_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// How often somebody was put on hold.
    pub holds: u32,
    /// For how long together, in seconds.
    pub held_for: u32,
    /// How it ended.
    pub disposition: Option<Disposition>,
}

/// One leg of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Of which call.
    pub call: CallId,
    /// Which system tells of it.
    pub system: String,
    /// What that calls it.
    pub source_id: String,
    /// The revision that stands.
    pub revision: u64,
    /// The token of a digest of all that the revision says. It dies with the person under whose key it is, as it must:
    /// whoever has it could try numbers through.
    pub digest: Option<TokenRow>,
    /// The parties that took part, in the order in which they are told.
    pub parties: Vec<u8>,
    /// What is known in clear.
    pub facts: LegFacts,
}

impl Leg {
    /// Which of the parts this is that came with the leg, as it stands; `None` of a part that did not.
    #[must_use]
    pub fn place_of(&self, part: PartId) -> Option<usize> {
        (0..MOST_PARTS).find(|at| PartId::told(&self.system, &self.source_id, self.revision, *at) == part)
    }
}

/// Somebody in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Of which call.
    pub call: CallId,
    /// Their number in it, from 1.
    pub number: u8,
    /// What they are in it.
    pub role: PartyRole,
    /// Who they are.
    pub subject: SubjectId,
    /// Who else they may be.
    pub candidates: Vec<SubjectId>,
}

/// A value of a party, by its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartyValue {
    /// Of which call.
    pub call: CallId,
    /// Of which party.
    pub party: u8,
    /// What it is.
    pub field: CallField,
    /// Its token.
    pub token: TokenRow,
}

/// Which calls to list.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Only those that this subject is a party of.
    pub subject: Option<SubjectId>,
    /// Whether it has to have served in them.
    pub served: bool,
    /// Only those of this queue.
    pub queue: Option<String>,
    /// Only those that began then or later.
    pub from: Option<Time>,
    /// Only those that began before.
    pub until: Option<Time>,
    /// Only those in which somebody paid by card while nothing had interrupted the recording.
    pub paid_unpaused: bool,
    /// Only those whose recording was interrupted for a card for longer.
    pub paused_longer: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(from: i64, until: Option<i64>) -> LegFacts {
        LegFacts {
            direction: Direction::Inbound,
            dialled: String::new(),
            queue: String::new(),
            skill: String::new(),
            campaign: String::new(),
            contact_list: String::new(),
            started_at: Time::from_micros(from),
            rung_at: None,
            answered_at: None,
            ended_at: until.map(Time::from_micros),
            holds: 0,
            held_for: 0,
            disposition: None,
        }
    }

    #[test]
    fn a_call_lasts_from_its_first_leg_to_its_last() {
        let legs = [leg(20, Some(30)), leg(10, Some(25))];
        let mut call = Call::open(CallId::from_bytes([1; 16]), "pbx".to_owned(), None, &legs[0], Time::from_micros(99));
        call.fold(&legs);
        assert_eq!((call.started_at.micros(), call.ended_at.map(Time::micros), call.version), (10, Some(30), 2));
        call.fold(&[leg(20, Some(30)), leg(5, None)]);
        assert_eq!((call.started_at.micros(), call.ended_at, call.version), (5, None, 3));
    }

    #[test]
    fn names_of_calls_are_no_people() {
        for text in ["1795262400.118", "CA0123456789abcdef0123456789abcdef", "0f5b3f08-0fbb-4552-ac56-f7ee0d7b8e0c"] {
            assert_eq!(SourceCallId::parse("source_call_id", text).unwrap().as_str(), text);
        }
        for text in ["", "+49301234567", "ann@example.com", "a b", "-a", &"a".repeat(129), "4111111111111111"] {
            let error = SourceCallId::parse("source_call_id", text).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("source_call_id"));
            assert!(text.len() < 3 || !format!("{error:?}").contains(text));
        }
    }

    #[test]
    fn only_the_companys_number_is_kept_in_clear() {
        assert!(check_dialled(Direction::Outbound, "").is_ok());
        assert!(check_dialled(Direction::Inbound, "+49800123*1#").is_ok());
        assert!(check_dialled(Direction::Outbound, "+49800123").is_err());
        assert!(check_dialled(Direction::Inbound, "sip:ann").is_err());
        assert_eq!(check_dialled(Direction::Inbound, "4111111111111111").unwrap_err().reason, Reason::CardData);
    }

    #[test]
    fn numbers_are_stable() {
        let stable = |known: fn(i32) -> bool, count: i32| (0..20).filter(|&number| known(number)).eq(1..=count);
        assert!(stable(|n| Direction::from_number(n).is_some_and(|one| one.number() == n), 3));
        assert!(stable(|n| Disposition::from_number(n).is_some_and(|one| one.number() == n), 7));
        assert!(stable(|n| PartyRole::from_number(n).is_some_and(|one| one.number() == n), 5));
        assert!(stable(|n| CallField::from_number(n).is_some_and(|one| one.number() == n), 5));
        assert!(stable(|n| RelinkReason::from_number(n).is_some_and(|one| one.number() == n), 4));
        assert!(stable(|n| PartKind::from_number(n).is_some_and(|one| one.number() == n), 6));
        assert!(stable(|n| PartBody::from_number(n).is_some_and(|one| one.number() == n), 4));
    }
}
