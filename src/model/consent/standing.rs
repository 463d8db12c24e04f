//! What a person's ledger comes to.
//!
//! A [`Standing`] is a fold of events in the order in which they were expressed; an event that was recorded late takes
//! its place in the past. It holds nothing that depends on the present moment: that an answer waits too long for its
//! confirmation, has expired, or was given under an old notice is found when it is asked about.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Actor, Channel, ConsentEvent, EventKind, Method};
use crate::model::numbered::numbered;
use crate::model::{ConsentEventId, Time};

/// How long a yes waits for its confirmation.
pub const CONFIRM_WITHIN: Duration = Duration::from_hours(72);

numbered! {
    /// How a consent stands.
    ConsentState {
        /// Nothing was recorded.
        Unknown = 0,
        /// The person was asked.
        Requested = 1,
        /// The person closed the question.
        Deferred = 2,
        /// A yes waits for its confirmation.
        Pending = 3,
        /// The person said yes.
        Given = 4,
        /// The person said yes again.
        Renewed = 5,
        /// The person said no.
        Refused = 6,
        /// The person took it back.
        Withdrawn = 7,
        /// The controller ended it.
        Revoked = 8,
        /// It was declared void.
        Invalidated = 9,
        /// Its time is over.
        Expired = 10,
        /// What it was given under has changed, or the child has grown up.
        ReconfirmDue = 11,
        /// Recorded with a method that is none.
        Invalid = 12,
    }
}

impl ConsentState {
    /// Whether the person has said yes, and it counts.
    #[must_use]
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Given | Self::Renewed)
    }
}

/// The consent to a purpose over a channel, as of the last event about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// How it stands, the present moment aside: never `Expired` or `ReconfirmDue`.
    pub state: ConsentState,
    /// The event that made it so.
    pub event: String,
    /// When that was expressed, in microseconds since 1970.
    pub since: i64,
    /// The version of the purpose then.
    pub purpose_version: u32,
    /// The notice; empty without one.
    pub notice: String,
    /// Its version.
    pub notice_version: u32,
    /// Whether the person said so in so many words.
    pub explicit_consent: bool,
    /// Whether silence does not permit, not even where it otherwise would: the last answer was a no, or a yes that ended or
    /// was none. A question after it, or a yes that waits to be confirmed, changes nothing about that.
    pub silence_is_no: bool,
    /// Until when a yes is valid.
    pub valid_until: Option<i64>,
    /// When a child has to confirm it.
    pub of_age_at: Option<i64>,
}

impl Default for Consent {
    fn default() -> Self {
        Self {
            state: ConsentState::Unknown,
            event: String::new(),
            since: 0,
            purpose_version: 0,
            notice: String::new(),
            notice_version: 0,
            explicit_consent: false,
            silence_is_no: false,
            valid_until: None,
            of_age_at: None,
        }
    }
}

/// An objection that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objection {
    /// The event.
    pub event: String,
    /// Since when, in microseconds since 1970.
    pub since: i64,
    /// The event by which it was overridden.
    pub overridden: Option<String>,
}

/// How a person's consents to one purpose stand, channel by channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// By channel; `Any` stands for those of which nothing particular was recorded.
    pub consents: BTreeMap<Channel, Consent>,
    /// The same.
    pub objections: BTreeMap<Channel, Objection>,
}

impl Standing {
    /// What events come to, up to and with `at`. They are of one person and purpose, in the order of their recording.
    #[must_use]
    pub fn of(events: &[ConsentEvent], at: Time) -> Self {
        let mut standing = Self::default();
        for event in Self::counted(events, at) {
            standing.apply(event);
        }
        standing
    }

    /// Those of the events that count at a moment, in the order in which they were expressed.
    #[must_use]
    pub fn counted(events: &[ConsentEvent], at: Time) -> Vec<&ConsentEvent> {
        let superseded: Vec<ConsentEventId> = events.iter().filter_map(|event| event.supersedes).collect();
        let mut counted: Vec<&ConsentEvent> =
            events.iter().filter(|event| event.effective_at <= at && !superseded.contains(&event.id)).collect();
        // Stable: of two at one moment the one recorded later has the last word.
        counted.sort_by_key(|event| event.effective_at);
        counted
    }

    /// The consent over a channel, at `now`.
    #[must_use]
    pub fn consent(&self, channel: Channel) -> Consent {
        self.consents.get(&channel).or_else(|| self.consents.get(&Channel::Any)).cloned().unwrap_or_default()
    }

    /// The objection over a channel.
    #[must_use]
    pub fn objection(&self, channel: Channel) -> Option<&Objection> {
        let specific = self.objections.get(&channel);
        specific.or_else(|| self.objections.get(&Channel::Any)).filter(|objection| objection.overridden.is_none())
    }

    /// Takes an event into account that was expressed after all others.
    fn apply(&mut self, event: &ConsentEvent) {
        if event.channel == Channel::Any {
            self.consents.entry(Channel::Any).or_default();
            for consent in self.consents.values_mut() {
                consent.apply(event);
            }
        } else {
            let before = self.consent(event.channel);
            let consent = self.consents.entry(event.channel).or_insert(before);
            consent.apply(event);
        }
        self.object(event);
    }

    fn object(&mut self, event: &ConsentEvent) {
        let affected: Vec<Channel> = match event.channel {
            Channel::Any => {
                let known = self.objections.keys().copied();
                std::iter::once(Channel::Any).chain(known.filter(|channel| *channel != Channel::Any)).collect()
            }
            channel => vec![channel],
        };
        let raised = Objection { event: event.id.to_string(), since: event.effective_at.micros(), overridden: None };
        for channel in affected {
            match event.kind {
                EventKind::Object if self.objection(channel).is_none() => {
                    self.objections.insert(channel, raised.clone());
                }
                EventKind::WithdrawObjection | EventKind::OverrideObjection => {
                    let general = self.objections.get(&Channel::Any).cloned();
                    let Some(mut objection) = self.objections.remove(&channel).or(general) else { continue };
                    objection.overridden = Some(event.id.to_string());
                    self.objections.insert(channel, objection);
                }
                _ => {}
            }
        }
    }
}

impl Consent {
    /// How it stands at `now`: what has run out by itself counts.
    #[must_use]
    pub fn state_at(&self, now: Time) -> ConsentState {
        let over = |time: Option<i64>| time.is_some_and(|time| time <= now.micros());
        match self.state {
            ConsentState::Pending if self.lapses() <= now => ConsentState::Deferred,
            state if state.is_yes() && over(self.valid_until) => ConsentState::Expired,
            state if state.is_yes() && over(self.of_age_at) => ConsentState::ReconfirmDue,
            state => state,
        }
    }

    fn lapses(&self) -> Time {
        Time::from_micros(self.since).plus(CONFIRM_WITHIN)
    }

    /// How it stands after an event.
    fn apply(&mut self, event: &ConsentEvent) {
        use ConsentState::{
            Deferred, Expired, Given, Invalid, Invalidated, Pending, Refused, Renewed, Requested, Revoked, Unknown,
            Withdrawn,
        };
        let before = self.state_at(event.effective_at);
        let is_yes = before.is_yes() || before == ConsentState::ReconfirmDue;
        let valid = event.method.is_none_or(Method::is_valid);
        let after = match event.kind {
            EventKind::Give if !valid => matches!(before, Unknown | Requested | Deferred | Expired).then_some(Invalid),
            EventKind::Give if event.to_be_confirmed => (!is_yes && before != Pending).then_some(Pending),
            EventKind::Give => Some(if is_yes { Renewed } else { Given }),
            EventKind::Renew => (is_yes && valid).then_some(Renewed),
            EventKind::Confirm => (before == Pending && valid).then_some(Given),
            // A question takes no answer away.
            EventKind::Request => (!is_yes && before != Pending).then_some(Requested),
            EventKind::Defer => (before == Requested).then_some(Deferred),
            EventKind::Withdraw => (before != Withdrawn).then_some(Withdrawn),
            EventKind::Refuse => (before != Refused).then_some(Refused),
            EventKind::Revoke => (before != Revoked).then_some(Revoked),
            EventKind::Invalidate => (before != Invalidated).then_some(Invalidated),
            EventKind::Acknowledge
            | EventKind::Object
            | EventKind::OverrideObjection
            | EventKind::WithdrawObjection => None,
        };
        let Some(state) = after else { return };
        self.silence_is_no = match state {
            Given | Renewed => false,
            Refused | Withdrawn | Revoked | Invalidated => true,
            _ => self.silence_is_no || matches!(before, Expired | Invalid),
        };
        self.event = event.id.to_string();
        self.since = event.effective_at.micros();
        self.valid_until = event.valid_until.map(Time::micros);
        if event.kind == EventKind::Confirm {
            // What is confirmed is what was said before.
            self.state = state;
            return;
        }
        self.state = state;
        self.purpose_version = event.purpose_version;
        self.notice.clone_from(&event.notice);
        self.notice_version = event.notice_version;
        self.explicit_consent = event.explicit_consent;
        // A grown person's own yes needs no other.
        self.of_age_at =
            if event.actor == Actor::Guardian || state == Pending { event.of_age_at } else { None }.map(Time::micros);
    }
}
