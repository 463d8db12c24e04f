//! What an event has to fit: its purpose, where it comes from, how it was expressed, and what was recorded before.

use std::time::Duration;

use super::catalogue::unknown_notice;
use super::record::Age;
use crate::model::{
    Actor, Basis, Channel, Consent, ConsentEvent, ConsentState, Error, EventKind, Method, PointKind, Purpose,
    PurposeState, Reason, Result, Standing, Subject, Time,
};
use crate::policy::{Catalogue, unknown_purpose};

/// How long ago something may have happened that is recorded live.
const LIVE: Duration = Duration::from_mins(5);
/// By how much the clocks of callers may be ahead.
const AHEAD: Duration = Duration::from_mins(1);

/// What an event has to fit.
pub(super) struct Deed<'d> {
    pub catalogue: &'d Catalogue,
    pub person: &'d Subject,
    pub age: Age,
    pub now: Time,
}

impl Deed<'_> {
    /// Refuses an event that does not fit, and adds what the vault knows of it. Answers its purpose.
    pub fn complete(&self, event: &mut ConsentEvent, effective_at: Option<Time>) -> Result<Purpose> {
        self.person.alive()?;
        let now = self.now;
        let present = self.catalogue.purpose(&event.purpose).ok_or_else(|| unknown_purpose(&event.purpose))?;
        event.recorded_at = now;
        event.effective_at = effective_at.unwrap_or(now);
        let late = self.check_point(event)?;
        check_method(event)?;
        if event.effective_at > now.plus(AHEAD) {
            return Err(Error::invalid("effective_time", "lies in the future"));
        }
        if !late && event.effective_at.plus(LIVE) < now {
            let message = "lies more than five minutes back; only collection points of kind IMPORT or PAPER tell of the \
                           past";
            return Err(Error::invalid("effective_time", message));
        }
        let purpose = self.catalogue.purpose_at(&event.purpose, event.effective_at).unwrap_or(present);
        event.purpose_version = purpose.version;
        event.jurisdiction = self.person.jurisdiction.as_ref().map(ToString::to_string).unwrap_or_default();
        if !purpose.uses(event.channel) && !event.kind.says_no() {
            return Err(Error::invalid("channel", "the purpose does not use this channel"));
        }
        check_kind(purpose, event)?;
        if event.kind.says_yes() {
            self.check_yes(present, purpose, event, late)?;
        } else if event.kind == EventKind::Confirm {
            event.valid_until = purpose.ends(event.effective_at);
        } else if event.kind == EventKind::Request {
            check_active(present)?;
            self.check_suppression(purpose)?;
        }
        Ok(purpose.clone())
    }

    /// Whether the event may come from where it does; answers whether it may come late.
    fn check_point(&self, event: &ConsentEvent) -> Result<bool> {
        let signal = event.method == Some(Method::BrowserSignal);
        if event.collection_point.is_empty() {
            return if signal { Err(no_signal_from_there()) } else { Ok(false) };
        }
        let point = self.catalogue.point(&event.collection_point).ok_or_else(|| {
            let error = Error::new(Reason::CollectionPointUnknown, "there is no such collection point");
            error.at("collection_point")
        })?;
        point.check_use(&event.notice)?;
        if signal != (point.kind == PointKind::BrowserSignal) {
            return Err(if signal { no_signal_from_there() } else { only_signals_from_there() });
        }
        Ok(point.kind.is_late())
    }

    fn check_suppression(&self, purpose: &Purpose) -> Result<()> {
        if purpose.direct_marketing && self.person.suppressed_at.is_some() {
            let message = "the person has objected to direct marketing; they must not even be asked, unless they take \
                           that back";
            return Err(Error::new(Reason::Suppressed, message).with("subject", self.person.id));
        }
        Ok(())
    }

    fn check_yes(&self, present: &Purpose, purpose: &Purpose, event: &mut ConsentEvent, late: bool) -> Result<()> {
        if purpose.basis != Basis::Consent {
            return Err(Error::invalid("kind", "the purpose does not rest on consent; there is nothing to say yes to"));
        }
        check_active(present)?;
        self.check_suppression(purpose)?;
        if !event.method.is_some_and(Method::is_valid) && !late {
            let message = "a ticked box, an assumption or silence is no consent (Art. 4(11) GDPR)";
            return Err(Error::new(Reason::InvalidMethod, message).at("method").with("purpose", &purpose.code));
        }
        if purpose.explicit_consent && !event.explicit_consent && !late {
            return Err(Error::invalid("explicit_consent", "the purpose needs explicit consent (Art. 9(2)(a) GDPR)"));
        }
        self.check_notice(purpose, event, late)?;
        event.valid_until = purpose.ends(event.effective_at);
        event.to_be_confirmed = purpose.double_opt_in;
        event.of_age_at = None;
        if !purpose.age_rule {
            return Ok(());
        }
        match self.age {
            Age::Grown => {}
            Age::NotAsked | Age::Unknown => {
                let message = "the purpose has an age rule, and nobody knows the person's age";
                return Err(Error::invalid("birth_date", message));
            }
            Age::ChildUntil(_) if event.actor != Actor::Guardian => {
                let message = "the person is below the age of consent; a guardian decides (Art. 8 GDPR)";
                return Err(Error::new(Reason::GuardianRequired, message).with("purpose", &purpose.code));
            }
            Age::ChildUntil(day) => {
                event.of_age_at = Some(day);
                // That it is a guardian has to be verified, with reasonable effort (Art. 8(2)).
                event.to_be_confirmed = true;
            }
        }
        Ok(())
    }

    fn check_notice(&self, purpose: &Purpose, event: &mut ConsentEvent, late: bool) -> Result<()> {
        if event.notice.is_empty() {
            if purpose.notice.is_empty() {
                return Ok(());
            }
            return Err(Error::invalid("notice", "say which notice the person was shown"));
        }
        let versions = self.catalogue.notice_versions(&event.notice);
        let Some(digest) = event.notice_sha256 else {
            return Err(Error::invalid("notice_sha256", "give the SHA-256 of the text as it was shown"));
        };
        let unknown_text = |message: &'static str| {
            let error = Error::new(Reason::NoticeUnknown, message).at("notice_sha256");
            error.with("notice", &event.notice).with("purpose", &purpose.code)
        };
        let newest = versions.last().ok_or_else(|| unknown_notice(&event.notice))?;
        let (notice, text) = versions
            .iter()
            .rev()
            .find_map(|notice| notice.text(&digest).map(|text| (notice, text)))
            .ok_or_else(|| unknown_text("no version of the notice has a text with this hash"))?;
        if !late && notice.version != newest.version {
            return Err(unknown_text("this text is of an old version of the notice; show the present one"));
        }
        if !notice.tells_of(&purpose.code) {
            return Err(unknown_text("the notice does not tell of this purpose"));
        }
        event.notice_version = notice.version;
        event.language.clone_from(&text.language);
        Ok(())
    }
}

fn no_signal_from_there() -> Error {
    Error::invalid(
        "collection_point",
        "the signal of a browser comes from a collection point of the kind BROWSER_SIGNAL",
    )
}

fn only_signals_from_there() -> Error {
    Error::invalid("method", "from a collection point of the kind BROWSER_SIGNAL comes nothing but BROWSER_SIGNAL")
}

/// Whether something can be expressed by such a method. A signal that a browser sends by itself says no for the person
/// (Art. 21(5) GDPR), and never yes; and what was objected to is permitted again only by a clear act of theirs.
fn check_method(event: &ConsentEvent) -> Result<()> {
    let refused = |message: &'static str| {
        let error = Error::new(Reason::InvalidMethod, message).at("method");
        Err(error.with("purpose", &event.purpose))
    };
    if event.method == Some(Method::BrowserSignal) {
        if !matches!(event.kind, EventKind::Object | EventKind::Refuse | EventKind::Withdraw) {
            return refused("the signal of a browser can object, refuse and withdraw, and nothing else");
        }
        if event.actor != Actor::Subject {
            return Err(Error::invalid("actor", "the signal of a browser is the person's own"));
        }
    }
    if event.kind == EventKind::WithdrawObjection && !event.method.is_some_and(Method::is_valid) {
        return refused("an objection is taken back by a clear act of the person, not by a ticked box or silence");
    }
    Ok(())
}

fn check_active(purpose: &Purpose) -> Result<()> {
    if purpose.state == PurposeState::Active {
        return Ok(());
    }
    let message = "the purpose is a draft or retired; nobody can be asked for it";
    Err(Error::new(Reason::PurposeInactive, message).with("purpose", &purpose.code))
}

/// Whether such an event can be about the purpose at all.
pub(super) fn check_kind(purpose: &Purpose, event: &ConsentEvent) -> Result<()> {
    let objectionable = purpose.direct_marketing || purpose.basis.knows_objection();
    match event.kind {
        EventKind::Object | EventKind::WithdrawObjection if !objectionable => {
            let message = "nobody can object to a purpose on this basis that is no direct marketing (Art. 21 GDPR)";
            Err(Error::invalid("kind", message))
        }
        EventKind::OverrideObjection if purpose.direct_marketing => {
            let message = "an objection to direct marketing is absolute (Art. 21(3) GDPR)";
            Err(Error::new(Reason::RightAbsolute, message).at("kind").with("purpose", &purpose.code))
        }
        EventKind::OverrideObjection if !objectionable => Err(Error::invalid("kind", "there is nothing to override")),
        _ => Ok(()),
    }
}

/// Whether the event follows on what was recorded before.
pub(super) fn check_follows(
    purpose: &Purpose,
    person: &Subject,
    event: &ConsentEvent,
    before: &Standing,
    events: &[ConsentEvent],
) -> Result<()> {
    let consent = before.consent(event.channel);
    let state = consent.state_at(event.effective_at);
    let mismatch = |message: &'static str| {
        let error = Error::new(Reason::ConsentStateMismatch, message).with("purpose", &purpose.code);
        Err(error.with("state", format!("{state:?}")))
    };
    if let Some(id) = event.supersedes
        && !events.iter().any(|known| known.id == id)
    {
        let error = Error::new(Reason::ConsentEventUnknown, "no such event of this person and purpose");
        return Err(error.at("supersedes").with("consent_event", id));
    }
    match event.kind {
        EventKind::Confirm if state != ConsentState::Pending => mismatch("there is no yes that waits to be confirmed"),
        // Or a child would be their own guardian.
        EventKind::Confirm if event.actor != Actor::Guardian && is_child(&consent, event) => {
            let message = "the person is below the age of consent; a guardian confirms (Art. 8 GDPR)";
            Err(Error::new(Reason::GuardianRequired, message).with("purpose", &purpose.code))
        }
        EventKind::Renew if !state.is_yes() && state != ConsentState::ReconfirmDue => {
            mismatch("there is no yes to be renewed; record a GIVE")
        }
        // The objection may be to another purpose, or to one of somebody with the same address or number.
        EventKind::WithdrawObjection if purpose.direct_marketing && person.suppressed_at.is_some() => Ok(()),
        EventKind::WithdrawObjection | EventKind::OverrideObjection
            if before.objection(event.channel).is_none() && before.objection(Channel::Any).is_none() =>
        {
            mismatch("there is no objection")
        }
        EventKind::Request if state == ConsentState::Refused => {
            let again = Time::from_micros(consent.since).plus(Duration::from_secs(purpose.ask_again_after));
            if event.effective_at >= again {
                return Ok(());
            }
            let error = Error::new(Reason::ConsentRefused, "the person has refused, and must not be asked again yet");
            Err(error.with("purpose", &purpose.code).with("ask_again_time", again))
        }
        _ => Ok(()),
    }
}

/// Whether a yes that waits to be confirmed is one for a child.
fn is_child(consent: &Consent, event: &ConsentEvent) -> bool {
    consent.of_age_at.is_some_and(|time| time > event.effective_at.micros())
}

/// When a person last objected to direct marketing, as far as their events tell.
pub(super) fn newest_objection<'e>(
    catalogue: &Catalogue,
    events: impl IntoIterator<Item = &'e ConsentEvent>,
) -> Option<Time> {
    let markets = |event: &&ConsentEvent| {
        let purpose = catalogue.purpose_version(&event.purpose, event.purpose_version);
        event.kind == EventKind::Object && purpose.is_none_or(|purpose| purpose.direct_marketing)
    };
    events.into_iter().filter(markets).map(|event| event.effective_at).max()
}

/// What an event does to a person's objection to direct marketing. It is to all of it, whichever purpose it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suppression {
    /// It begins; or it is said again, for identifiers that were added where nobody noticed.
    Begins,
    /// The person takes it back.
    Ends,
    /// Nothing changes.
    Stays,
}

impl Suppression {
    /// Notes it of the person. Who takes back what is later than the event takes nothing back, neither what the person's
    /// record tells nor what was said again since, of which `newest` is the last.
    pub fn of(purpose: &Purpose, event: &ConsentEvent, newest: Option<Time>, person: &mut Subject) -> Self {
        match event.kind {
            EventKind::WithdrawObjection if newest.is_some_and(|newest| newest > event.effective_at) => Self::Stays,
            EventKind::Object if purpose.direct_marketing => {
                person.suppress(event.effective_at);
                Self::Begins
            }
            EventKind::WithdrawObjection if purpose.direct_marketing && person.release(event.effective_at) => {
                Self::Ends
            }
            _ => Self::Stays,
        }
    }
}
