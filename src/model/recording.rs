//! Whether a telephone call may be recorded: the words.

use serde::Deserialize;

use super::numbered::numbered;
use super::{ConsentState, Reason};

numbered! {
    /// Whether a call may be recorded. The order is that of strictness for the person, with one exception: what a law demands
    /// comes last, because no refusal can make it anything else. The numbers are those of `lacuna.v1.RecordingDecision`.
    Recording {
        /// It may.
        Record = 1,
        /// It may, once everybody was told.
        AnnounceThenRecord = 2,
        /// It may, once somebody has agreed who has not yet.
        Ask = 3,
        /// It must not.
        DoNotRecord = 4,
        /// It has to be, by law, whoever refuses.
        MustRecord = 5,
    }

    /// What becomes of what was recorded until somebody objected.
    #[derive(Default)]
    Span {
        /// It is destroyed.
        #[default]
        Destroyed = 1,
        /// It is kept: the recording was permitted until then.
        Kept = 2,
    }
}

impl Recording {
    /// Its name, in the API and in the audit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Record => "RECORD",
            Self::AnnounceThenRecord => "ANNOUNCE_THEN_RECORD",
            Self::Ask => "ASK",
            Self::DoNotRecord => "DO_NOT_RECORD",
            Self::MustRecord => "MUST_RECORD",
        }
    }
}

/// What somebody is in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingRole {
    /// Works for whoever records.
    Agent,
    /// Whom the contact centre speaks with, whoever has called.
    Caller,
    /// Anybody else who is heard.
    Other,
}

/// Who has to agree for a call to be recorded, by the law of secrecy of a jurisdiction. The later is the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// One of those who speak, such as the agent.
    OneParty,
    /// All of them.
    AllParty,
}

/// How a known person stands to a purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Why their data may not be used for it; `None` when it may.
    pub refusal: Option<Reason>,
    /// What they have said of it, also where it does not rest on that.
    pub said: ConsentState,
}

impl Stand {
    /// Why they are against it, or nothing of theirs may be used, whether or not that decides.
    #[must_use]
    pub const fn against(self) -> Option<Reason> {
        match (self.refusal, self.said) {
            (Some(reason), _) => Some(reason),
            (None, ConsentState::Refused) => Some(Reason::ConsentRefused),
            (None, ConsentState::Withdrawn | ConsentState::Revoked | ConsentState::Invalidated) => {
                Some(Reason::ConsentWithdrawn)
            }
            (None, _) => None,
        }
    }
}
