//! The proof of what was permitted at a moment: everything that decides, so that anybody can decide again.
//!
//! A bundle holds the person's whole chain of events, those of other purposes by their hashes only; the versions of the
//! purpose and of its notices, with the texts that the person was shown; and what was known of the person. Whoever
//! verifies it recomputes every hash, and the decision by the code that decided. Nothing in it is personal data.

use serde::{Deserialize, Serialize};

use crate::crypto::derive::sha256;
use crate::keys::statement::{self, Statement, Verified};
use crate::model::consent::{hex, id_text, maybe_hex, maybe_moment, moment};
use crate::model::{
    Basis, Channel, CollectionPoint, ConsentEvent, ConsentState, Error, Notice, PersonFacts, Purpose, Reason, Result,
    Standing, SubjectId, SubjectState, Time,
};
use crate::policy::{Catalogue, Question, permission};
use crate::store::consent::Recorded;

/// The format.
const VERSION: u32 = 1;

/// A proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The format, 1.
    pub version: u32,
    /// About whom, by pseudonym.
    #[serde(with = "id_text")]
    pub subject: SubjectId,
    /// For what.
    pub purpose: String,
    /// Over which channel.
    pub channel: Channel,
    /// At which moment.
    #[serde(with = "moment")]
    pub at: Time,
    /// When the proof was made: what was recorded later is not in it.
    #[serde(with = "moment")]
    pub issue_time: Time,
    /// What was permitted.
    pub decision: Decision,
    /// How that was found.
    pub trace: Trace,
    /// What was known of the person.
    pub person: Person,
    /// The person's chain, from its beginning.
    pub chain: Vec<Link>,
    /// The purpose in all its versions, the first one first.
    pub purposes: Vec<Purpose>,
    /// The notices that the events name, in all their versions. A text is there when an event says that it was shown.
    pub notices: Vec<Notice>,
    /// The collection points that the events name, as they are defined now.
    pub collection_points: Vec<CollectionPoint>,
    /// The key that verifies the proof, base64.
    pub public_key: String,
}

impl Statement for Bundle {
    const TYPE: &'static str = "application/vnd.lacuna.consent-bundle+json";
    const NAME: &'static str = "bundle";

    fn public_key(&self) -> &str {
        &self.public_key
    }
}

/// What was permitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Whether.
    pub allowed: bool,
    /// Why not: a name of `lacuna.v1.ErrorReason` without its prefix; empty when allowed.
    pub reason: String,
    /// The basis of the purpose.
    pub basis: Basis,
    /// The version of the purpose that counted.
    pub purpose_version: u32,
    /// The channel that decided.
    pub channel: Channel,
    /// How the consent stood.
    pub state: ConsentState,
    /// The event that decided; empty without one.
    pub evidence_event: String,
    /// The version of the notice under which consent was given; 0 without one.
    pub notice_version: u32,
    /// Until when the answer held if nothing happened.
    #[serde(with = "maybe_moment")]
    pub valid_until: Option<Time>,
}

/// How a decision was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// What was looked at, in order; the last one decided.
    pub steps: Vec<Step>,
    /// The events that counted, in the order in which they were expressed.
    pub events: Vec<String>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What.
    pub rule: String,
    /// Whether it stood in the way.
    pub passed: bool,
}

/// What was known of the person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The state, by its number in the API.
    pub state: i16,
    /// Whether they may be profiled.
    pub profiling: bool,
    /// Since when they are restricted.
    #[serde(with = "maybe_moment")]
    pub restrict_time: Option<Time>,
    /// When the scheduled erasure is due.
    #[serde(with = "maybe_moment")]
    pub execute_time: Option<Time>,
    /// When they were erased.
    #[serde(with = "maybe_moment")]
    pub erase_time: Option<Time>,
    /// Since when they object to direct marketing.
    #[serde(with = "maybe_moment")]
    pub suppress_time: Option<Time>,
}

/// One event in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its place, from 1.
    pub number: u64,
    /// The hash of the event before.
    #[serde(with = "maybe_hex")]
    pub previous_hash: Option<[u8; 32]>,
    /// Its hash.
    #[serde(with = "hex")]
    pub hash: [u8; 32],
    /// What was hashed; absent when it is about another purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
}

impl Link {
    /// The link of an event, with the document if it is about `purpose`.
    #[must_use]
    pub fn of(recorded: Recorded, purpose: &str) -> Self {
        let document = Some(recorded.document).filter(|_| recorded.event.purpose == purpose);
        Self { number: recorded.number, previous_hash: recorded.previous_hash, hash: recorded.hash, document }
    }
}

impl From<&PersonFacts> for Person {
    fn from(facts: &PersonFacts) -> Self {
        Self {
            state: facts.state.number(),
            profiling: facts.profiling,
            restrict_time: facts.restricted_at,
            execute_time: facts.execute_at,
            erase_time: facts.erased_at,
            suppress_time: facts.suppressed_at,
        }
    }
}

/// What is looked at, in order, and the refusals that it comes to. Everything else is a matter of the basis.
const RULES: [(&str, &[Reason]); 6] = [
    ("erasure", &[Reason::SubjectErased, Reason::ErasurePending]),
    ("purpose", &[Reason::PurposeInactive]),
    ("suppression", &[Reason::Suppressed]),
    ("restriction", &[Reason::SubjectRestricted, Reason::SubjectScheduled]),
    ("objection", &[Reason::Objected]),
    ("profiling", &[Reason::ProfilingOff]),
];

impl Bundle {
    /// The format that is written now.
    #[must_use]
    pub const fn format() -> u32 {
        VERSION
    }

    /// The events whose documents are there, in the order of their recording.
    ///
    /// # Errors
    /// `ValueInvalid` when one is none of this person and purpose.
    pub fn events(&self) -> Result<Vec<ConsentEvent>> {
        let documents = self.chain.iter().filter_map(|link| link.document.as_deref());
        let read = |document| {
            let event = ConsentEvent::read(document).map_err(|_| broken("an event makes no sense"))?;
            if event.subject != self.subject || event.purpose != self.purpose {
                return Err(broken("an event is about somebody or something else"));
            }
            Ok(event)
        };
        documents.map(read).collect()
    }

    /// Decides by what the bundle holds.
    ///
    /// # Errors
    /// `ValueInvalid` when that is not enough.
    pub fn decide(&self) -> Result<(Decision, Trace)> {
        let mut catalogue = Catalogue::default();
        self.purposes.iter().cloned().for_each(|purpose| catalogue.add_purpose(purpose));
        self.notices.iter().cloned().for_each(|notice| catalogue.add_notice(notice));
        let purpose = catalogue.purpose_at(&self.purpose, self.at).ok_or_else(|| broken("the purpose is missing"))?;
        let events = self.events()?;
        let state = SubjectState::from_number(self.person.state);
        let person = PersonFacts {
            subject: self.subject,
            state: state.ok_or_else(|| broken("the person is in a state that there is not"))?,
            profiling: self.person.profiling,
            restricted_at: self.person.restrict_time,
            erasure: None,
            execute_at: self.person.execute_time,
            erased_at: self.person.erase_time,
            suppressed_at: self.person.suppress_time,
        };
        let asked = [self.channel];
        let channels: &[Channel] = if self.channel == Channel::Any { &[] } else { &asked };
        let question = Question { catalogue: &catalogue, purpose, channels, at: self.at };
        let found = permission(&question, &person, &Standing::of(&events, self.at));
        let refusal = found.outcome.err().map(|error| error.reason);
        let decision = Decision {
            allowed: refusal.is_none(),
            reason: refusal.map(name).unwrap_or_default(),
            basis: purpose.basis,
            purpose_version: purpose.version,
            channel: found.channel,
            state: found.state,
            evidence_event: found.event,
            notice_version: found.notice_version,
            valid_until: found.valid_until,
        };
        let events = Standing::counted(&events, self.at).into_iter().map(|event| event.id.to_string()).collect();
        Ok((decision, Trace { steps: steps(refusal), events }))
    }

    /// Whether all that the bundle holds fits together: the chain, the texts, and the decision.
    fn check(&self) -> Result<()> {
        if self.version != VERSION {
            return Err(broken("it is of another format than this program reads"));
        }
        self.check_chain()?;
        self.check_versions()?;
        self.check_texts()?;
        let (decision, trace) = self.decide()?;
        if decision != self.decision || trace != self.trace {
            return Err(broken("what it holds comes to another decision than it states"));
        }
        Ok(())
    }

    fn check_chain(&self) -> Result<()> {
        let (mut number, mut before) = (0, None);
        for link in &self.chain {
            number += 1;
            if link.number != number || link.previous_hash != before {
                return Err(broken("the chain of events has a gap"));
            }
            let hash = |document: &String| ConsentEvent::hash(before.as_ref(), document);
            if link.document.as_ref().is_some_and(|document| hash(document) != link.hash) {
                return Err(broken("an event has another hash than the chain says"));
            }
            before = Some(link.hash);
        }
        Ok(())
    }

    /// No version may be left out: it could be the one that a consent had to be confirmed for.
    fn check_versions(&self) -> Result<()> {
        let purposes = self.purposes.iter().zip(1..);
        let mut whole = purposes.into_iter().all(|(one, version)| one.code == self.purpose && one.version == version);
        let mut before: Option<&Notice> = None;
        for notice in &self.notices {
            let follows = before.filter(|before| before.notice == notice.notice).map_or(0, |before| before.version);
            whole &= notice.version == follows + 1;
            before = Some(notice);
        }
        if whole { Ok(()) } else { Err(broken("a version of the purpose or of a notice is missing")) }
    }

    fn check_texts(&self) -> Result<()> {
        let texts = || self.notices.iter().flat_map(|notice| &notice.texts);
        if texts().any(|text| !text.text.is_empty() && sha256(&[text.text.as_bytes()]) != text.sha256) {
            return Err(broken("a text of a notice is not the one that was published"));
        }
        for event in self.events()? {
            let Some(shown) = event.notice_sha256.filter(|_| event.notice_version > 0) else { continue };
            let of = |notice: &&Notice| notice.notice == event.notice && notice.version == event.notice_version;
            let text = self.notices.iter().find(of).and_then(|notice| notice.text(&shown));
            if text.is_none_or(|text| text.text.is_empty() || text.language != event.language) {
                return Err(broken("a text that the person was shown is missing"));
            }
        }
        Ok(())
    }
}

/// Checks a bundle: its signature, as [`statement::verify`] does, and all that it holds.
///
/// # Errors
/// `ValueInvalid`, saying what does not hold.
pub fn verify(bundle: &[u8], expected: Option<&[Vec<u8>]>) -> Result<Verified<Bundle>> {
    let verified: Verified<Bundle> = statement::verify(bundle, expected)?;
    verified.statement.check()?;
    Ok(verified)
}

fn steps(refusal: Option<Reason>) -> Vec<Step> {
    let refuses = |reasons: &[Reason]| refusal.is_some_and(|reason| reasons.contains(&reason));
    let mut steps = Vec::new();
    for (rule, reasons) in RULES {
        let passed = !refuses(reasons);
        steps.push(Step { rule: rule.to_owned(), passed });
        if !passed {
            return steps;
        }
    }
    steps.push(Step { rule: "basis".to_owned(), passed: refusal.is_none() });
    steps
}

/// `NO_CONSENT`, as the API calls it.
fn name(reason: Reason) -> String {
    let mut name = String::new();
    for letter in format!("{reason:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn broken(what: &'static str) -> Error {
    Error::invalid("bundle", what)
}
