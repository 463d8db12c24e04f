//! What is told to the systems that keep copies.

use serde::{Deserialize, Serialize};

use super::consent::{Change, Channel};
use super::numbered::numbered;
use super::{
    ConsentEvent, Error, EventId, Hold, Notice, Purpose, Result, Subject, SubjectId, SubjectState, Time, Token,
    TokenRow,
};
use crate::crypto::Random;
use crate::crypto::derive::sha256;

/// What the digest over a history begins with, so that it is a digest of nothing else.
const DOMAIN: &[u8] = b"lacuna outbox v1\n";

numbered! {
    /// What has changed. The numbers are stored, and are those of `lacuna.v1.EventKind`.
    OutboxKind {
        /// A person was erased: their keys are gone.
        SubjectErased = 1,
        /// Values of a person may not be used any more, with few exceptions.
        SubjectRestricted = 2,
        /// What is permitted may have changed: ask again.
        PermissionChanged = 3,
        /// The value behind a token was replaced.
        TokenUpdated = 4,
        /// A notice was published.
        NoticeChanged = 5,
        /// A legal hold over values of a person was placed or released.
        HoldChanged = 6,
        /// Values of a person may be used again.
        SubjectReleased = 7,
        /// A token was deleted with its value, or its retention has ended.
        TokenDeleted = 8,
        /// Somebody touched a person who does not exist.
        HoneyTouched = 9,
        /// A caller looks again and again for what is not there.
        EnumerationSuspected = 10,
    }
}

numbered! {
    /// Why what is permitted may have changed. The numbers are those of `lacuna.v1.PermissionCause`.
    PermissionCause {
        /// A consent, or an objection to one purpose.
        Consent = 1,
        /// The person objects to direct marketing, or does so no more.
        Suppression = 2,
        /// The person's switch for profiling.
        Profiling = 3,
        /// The purpose has another version, or was retired.
        Purpose = 4,
    }
}

impl OutboxKind {
    /// Whether it is an alarm.
    #[must_use]
    pub const fn is_alarm(self) -> bool {
        matches!(self, Self::HoneyTouched | Self::EnumerationSuspected)
    }
}

/// Ids and codes of an event, by its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxBody {
    /// The erasure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasure: Option<String>,
    /// The number of the subject's state since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<i16>,
    /// Why a permission may have changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<PermissionCause>,
    /// The code of the purpose; absent when it is about several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The channel; absent when it is about all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// The entry of the ledger of consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent_event: Option<String>,
    /// The name of the notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// The version of the purpose or the notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// How much that version changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// The legal hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Whether that was released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released: Option<bool>,
    /// Whom an alarm is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub touched: Option<String>,
    /// The caller whom an alarm is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// What they called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc: Option<String>,
}

/// Something that changed. Names people and tokens by pseudonym, and holds no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Its name: the same each time that it is told.
    pub id: EventId,
    /// What.
    pub kind: OutboxKind,
    /// Whom it is about, if it is about one person. What is told about one is told in the order in which it happened.
    pub subject: Option<SubjectId>,
    /// Which token it is about.
    pub token: Option<TokenRow>,
    /// The rest.
    pub body: OutboxBody,
    /// When.
    pub created_at: Time,
}

impl OutboxEvent {
    fn new(kind: OutboxKind, subject: Option<SubjectId>, body: OutboxBody, now: Time, random: &dyn Random) -> Self {
        Self { id: EventId::new(now, random), kind, subject, token: None, body, created_at: now }
    }

    /// A person was erased.
    pub fn erased(subject: &Subject, now: Time, random: &dyn Random) -> Self {
        let erasure = subject.erasure.map(|erasure| erasure.to_string());
        let body = OutboxBody { state: Some(subject.state.number()), erasure, ..OutboxBody::default() };
        Self::new(OutboxKind::SubjectErased, Some(subject.id), body, now, random)
    }

    /// Whether the values of a person may be used has changed from what it was; `None` when it has not. That an erasure
    /// begins at once is not told: that it is done will be.
    pub fn of_use(before: SubjectState, after: &Subject, now: Time, random: &dyn Random) -> Option<Self> {
        let rests = |state| matches!(state, SubjectState::Restricted | SubjectState::Scheduled);
        let kind = match (before, after.state) {
            (SubjectState::Active, state) if rests(state) => OutboxKind::SubjectRestricted,
            (state, SubjectState::Active) if rests(state) => OutboxKind::SubjectReleased,
            _ => return None,
        };
        let erasure = after.erasure.map(|erasure| erasure.to_string());
        let body = OutboxBody { state: Some(after.state.number()), erasure, ..OutboxBody::default() };
        Some(Self::new(kind, Some(after.id), body, now, random))
    }

    /// An entry of the ledger has changed what is permitted.
    pub fn of_consent(event: &ConsentEvent, now: Time, random: &dyn Random) -> Self {
        let body = OutboxBody {
            cause: Some(PermissionCause::Consent),
            purpose: Some(event.purpose.clone()),
            channel: Some(event.channel).filter(|channel| *channel != Channel::Any),
            consent_event: Some(event.id.to_string()),
            ..OutboxBody::default()
        };
        Self::new(OutboxKind::PermissionChanged, Some(event.subject), body, now, random)
    }

    /// A switch of the person has changed what is permitted for several purposes.
    pub fn of_switch(subject: SubjectId, cause: PermissionCause, now: Time, random: &dyn Random) -> Self {
        let body = OutboxBody { cause: Some(cause), ..OutboxBody::default() };
        Self::new(OutboxKind::PermissionChanged, Some(subject), body, now, random)
    }

    /// A purpose has another version.
    pub fn of_purpose(purpose: &Purpose, now: Time, random: &dyn Random) -> Self {
        let body = OutboxBody {
            cause: Some(PermissionCause::Purpose),
            purpose: Some(purpose.code.clone()),
            version: Some(purpose.version),
            change: Some(purpose.change),
            ..OutboxBody::default()
        };
        Self::new(OutboxKind::PermissionChanged, None, body, now, random)
    }

    /// A notice was published.
    pub fn of_notice(notice: &Notice, now: Time, random: &dyn Random) -> Self {
        let body = OutboxBody {
            notice: Some(notice.notice.clone()),
            version: Some(notice.version),
            change: Some(notice.change),
            ..OutboxBody::default()
        };
        Self::new(OutboxKind::NoticeChanged, None, body, now, random)
    }

    /// A token has another value, was deleted, or its retention has ended.
    pub fn of_token(token: &Token, now: Time, random: &dyn Random) -> Self {
        let deleted = token.deleted_at.is_some() || token.ended_at.is_some();
        let kind = if deleted { OutboxKind::TokenDeleted } else { OutboxKind::TokenUpdated };
        let event = Self::new(kind, Some(token.subject), OutboxBody::default(), now, random);
        Self { token: Some(token.row), ..event }
    }

    /// A hold over values of a person was placed, or released.
    pub fn of_hold(hold: &Hold, subject: SubjectId, now: Time, random: &dyn Random) -> Self {
        let (hold, released) = (Some(hold.id.to_string()), Some(hold.released.is_some()));
        let body = OutboxBody { hold, released, ..OutboxBody::default() };
        Self::new(OutboxKind::HoldChanged, Some(subject), body, now, random)
    }

    /// Somebody touched a person who does not exist. It is about whoever did: nobody who changes that person waits for it.
    pub fn of_honey(touched: SubjectId, caller: &str, rpc: &str, now: Time, random: &dyn Random) -> Self {
        let (caller, rpc) = (Some(caller.to_owned()), Some(rpc.to_owned()));
        let body = OutboxBody { touched: Some(touched.to_string()), caller, rpc, ..OutboxBody::default() };
        Self::new(OutboxKind::HoneyTouched, None, body, now, random)
    }

    /// A caller looks again and again for what is not there.
    pub fn of_enumeration(caller: &str, now: Time, random: &dyn Random) -> Self {
        let body = OutboxBody { caller: Some(caller.to_owned()), ..OutboxBody::default() };
        Self::new(OutboxKind::EnumerationSuspected, None, body, now, random)
    }

    /// Whether it is an alarm: whom it is about must not learn of it, nor anybody else who need not.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        self.kind.is_alarm()
    }

    /// Whether it tells that somebody objects to direct marketing, or does so no more: who may not know of the suppression
    /// list must not learn of it by this either.
    #[must_use]
    pub fn tells_of_objection(&self) -> bool {
        self.body.cause == Some(PermissionCause::Suppression)
    }

    /// The digest over a history that goes on with this event.
    #[must_use]
    pub fn mark_after(mark: Mark, id: EventId) -> Mark {
        let digest = sha256(&[DOMAIN, &mark, id.as_bytes()]);
        let mut next = Mark::default();
        next.iter_mut().zip(digest).for_each(|(byte, digest)| *byte = digest);
        next
    }
}

/// What tells a history, up to one position, from every other: a digest over the ids of its events in their order.
pub type Mark = [u8; 8];

/// A place in the history of events: of the event at `position`, or before the first one when that is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The name of the history.
    pub history: Mark,
    /// 1 and upwards.
    pub position: u64,
    /// What the history was up to there.
    pub mark: Mark,
}

impl Cursor {
    /// What the text of every cursor begins with.
    const PREFIX: &'static str = "cur_";
    /// The first byte: the version of the rest.
    const VERSION: u8 = 1;

    /// Reads a cursor in its one spelling.
    ///
    /// # Errors
    /// `ValueInvalid` for anything else, which is not repeated.
    pub fn parse(field: &'static str, text: &str) -> Result<Self> {
        let foreign = || Error::invalid(field, "is not a cursor that the vault gave");
        let text = text.strip_prefix(Self::PREFIX).ok_or_else(foreign)?;
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let bytes = data_encoding::BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| foreign())?;
        let read = || {
            let (&version, rest) = bytes.split_first()?;
            let (history, rest) = rest.split_first_chunk::<8>()?;
            let (position, rest) = rest.split_first_chunk::<8>()?;
            let mark = rest.try_into().ok()?;
            let position = u64::from_be_bytes(*position);
            let known = version == Self::VERSION && lower && i64::try_from(position).is_ok();
            known.then_some(Self { history: *history, position, mark })
        };
        read().ok_or_else(foreign)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = [&[Self::VERSION][..], &self.history, &self.position.to_be_bytes(), &self.mark].concat();
        write!(f, "{}{}", Self::PREFIX, data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::SystemRandom;
    use crate::model::Label;

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(history: Mark, position in 0..u64::MAX / 2, mark: Mark) {
            let cursor = Cursor { history, position, mark };
            prop_assert_eq!(Cursor::parse("cursor", &cursor.to_string()).unwrap(), cursor);
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused_and_not_repeated() {
        let good = Cursor { history: [7; 8], position: 3, mark: [9; 8] }.to_string();
        let wrong = [
            String::new(),
            "MARKED".to_owned(),
            good.to_uppercase(),
            good.replace("cur_", "tok_"),
            format!("{good}a"),
            good[..good.len() - 1].to_owned(),
            Cursor { position: u64::MAX, ..Cursor::default() }.to_string(),
            good.replacen("cur_a", "cur_b", 1),
        ];
        for wrong in wrong {
            let error = Cursor::parse("from_cursor", &wrong).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("from_cursor"), "{wrong}");
            assert!(!format!("{error:?}").contains("MARKED"));
        }
    }

    #[test]
    fn a_mark_tells_what_came_before_and_in_which_order() {
        let [a, b] = [1, 2].map(|byte| EventId::from_bytes([byte; 16]));
        let marked = |ids: &[EventId]| ids.iter().fold(Mark::default(), |mark, id| OutboxEvent::mark_after(mark, *id));
        assert_eq!(marked(&[a, b]), marked(&[a, b]));
        let others = [marked(&[b, a]), marked(&[b]), marked(&[a]), marked(&[a, b, a]), Mark::default()];
        assert!(!others.contains(&marked(&[a, b])));
    }

    #[test]
    fn only_what_changes_the_use_of_values_is_told() {
        use SubjectState::{Active, Restricted, Scheduled, Shredding};

        let (random, now) = (SystemRandom::new(), Time::from_micros(5));
        let (kind, source) = (Label::kind("customer").unwrap(), Label::source("test").unwrap());
        let subject = Subject::open(SubjectId::from_bytes([1; 16]), kind, None, source, true, now);
        let told = |before, state| {
            let after = Subject { state, ..subject.clone() };
            OutboxEvent::of_use(before, &after, now, &random).map(|event| event.kind)
        };
        assert_eq!(told(Active, Restricted), Some(OutboxKind::SubjectRestricted));
        assert_eq!(told(Active, Scheduled), Some(OutboxKind::SubjectRestricted));
        assert_eq!(told(Scheduled, Active), Some(OutboxKind::SubjectReleased));
        for (before, after) in [(Restricted, Scheduled), (Scheduled, Restricted), (Active, Shredding), (Active, Active)]
        {
            assert_eq!(told(before, after), None);
        }
    }
}
