//! What happens during a call, as a telephone system tells it: clear, and of nobody but a party's number in the call.

use super::numbered::numbered;
use super::{CallId, Error, Reason, Recording, Result, Span, Time};

numbered! {
    /// What has happened. The numbers are stored, and are those of `lacuna.v1.CallEventKind`.
    CallEventKind {
        /// It rings.
        Ring = 1,
        /// Somebody answers.
        Answer = 2,
        /// Somebody is put on hold.
        Hold = 3,
        /// They are taken back.
        Retrieve = 4,
        /// The call is passed on.
        Transfer = 5,
        /// Somebody comes to it.
        Join = 6,
        /// Somebody leaves it.
        Leave = 7,
        /// The recording begins.
        RecordingStart = 8,
        /// The recording ends.
        RecordingStop = 9,
        /// Somebody does not want to be recorded.
        Objection = 10,
        /// The recording is interrupted for the data of a card.
        CardPause = 11,
        /// It goes on.
        CardResume = 12,
        /// Somebody pays by card.
        Payment = 13,
        /// It is over.
        End = 14,
    }

    /// What has interrupted a recording. The numbers are stored, and are those of `lacuna.v1.CardPauseCause`.
    PauseCause {
        /// The agent did.
        Agent = 1,
        /// The page on which the card is taken did.
        Automatic = 2,
        /// Tones are masked while they are keyed in.
        DtmfMasking = 3,
    }
}

/// Something that happened during a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEvent {
    /// In which call.
    pub call: CallId,
    /// Which system tells of it.
    pub system: String,
    /// In which leg, by the name that the system has for it.
    pub source_id: String,
    /// What the system calls it, within the leg.
    pub event_id: String,
    /// What has happened.
    pub kind: CallEventKind,
    /// To which party, by number.
    pub party: Option<u8>,
    /// What has interrupted the recording.
    pub cause: Option<PauseCause>,
    /// By which decision the recording began.
    pub decision: Option<Recording>,
    /// When it happened.
    pub happened_at: Time,
    /// When it was told.
    pub told_at: Time,
}

impl CallEvent {
    /// Whether both are told of by the same name.
    #[must_use]
    pub fn is_named_like(&self, other: &Self) -> bool {
        (&self.system, &self.source_id, &self.event_id) == (&other.system, &other.source_id, &other.event_id)
    }

    /// Refuses another event by the name of this one. By which decision a recording began is not told, but found.
    ///
    /// # Errors
    /// `CallConflict`.
    pub fn check_repeats(&self, told: &Self) -> Result<()> {
        let what = |event: &Self| (event.call, event.kind, event.party, event.cause, event.happened_at);
        if what(self) == what(told) {
            return Ok(());
        }
        let message = "another event was told by this name; an event does not change";
        Err(Error::new(Reason::CallConflict, message).at("event_id").with("call", self.call))
    }
}

/// What a recorder has to do after an objection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Nothing: nothing is being recorded.
    None,
    /// To go on: a law demands it.
    GoOn,
    /// To stop, and what becomes of what there is.
    Stop(Span),
}

/// What follows from an objection after all that has happened in the call, in whatever order that is.
#[must_use]
pub fn objected(events: &[CallEvent], span: Span) -> Instruction {
    let recording =
        |event: &&CallEvent| matches!(event.kind, CallEventKind::RecordingStart | CallEventKind::RecordingStop);
    // Of two at the same time the stop comes last.
    let last = events.iter().filter(recording).max_by_key(|event| (event.happened_at, event.kind));
    match last.filter(|event| event.kind == CallEventKind::RecordingStart) {
        None => Instruction::None,
        Some(start) if start.decision == Some(Recording::MustRecord) => Instruction::GoOn,
        Some(_) => Instruction::Stop(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    fn event(kind: CallEventKind, at: i64, decision: Option<Recording>) -> CallEvent {
        CallEvent {
            call: CallId::from_bytes([7; 16]),
            system: "pbx".to_owned(),
            source_id: "1".to_owned(),
            event_id: format!("{at}"),
            kind,
            party: None,
            cause: None,
            decision,
            happened_at: Time::from_micros(at),
            told_at: Time::from_micros(at),
        }
    }

    #[test]
    fn an_objection_stops_what_no_law_demands() {
        use CallEventKind::{Objection, RecordingStart, RecordingStop};
        let begun = event(RecordingStart, 2, Some(Recording::Record));
        let span = Span::Destroyed;
        assert_eq!(objected(&[], span), Instruction::None);
        assert_eq!(objected(&[begun.clone(), event(Objection, 3, None)], span), Instruction::Stop(span));
        assert_eq!(objected(&[event(RecordingStop, 3, None), begun.clone()], span), Instruction::None, "told late");
        assert_eq!(objected(&[begun, event(RecordingStop, 2, None)], span), Instruction::None);
        let duty = event(RecordingStart, 5, Some(Recording::MustRecord));
        assert_eq!(objected(&[duty], span), Instruction::GoOn);
    }

    #[test]
    fn numbers_are_stable() {
        assert_eq!(
            CallEventKind::ALL.iter().map(|kind| kind.number()).collect::<Vec<_>>(),
            (1..=14).collect::<Vec<_>>()
        );
        assert_eq!(PauseCause::ALL.iter().map(|cause| cause.number()).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
