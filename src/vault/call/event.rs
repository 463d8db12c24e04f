//! What happens during a call, while it happens.

use super::{Whole, unknown};
use crate::model::{
    CallEvent, CallEventKind, CallId, Error, Instruction, Jurisdiction, Label, Leg, PartyRole, PauseCause, Reason,
    Recording, RecordingRole, Reference, Result, SourceCallId, Time,
};
use crate::policy::{self, Caller};
use crate::trace;
use crate::vault::Vault;
use crate::vault::audit::call;
use crate::vault::recording::{self, DecideRecording};
use crate::vault::write::{NewEvent, Write, Written};

/// The rpc.
pub const APPEND: &str = "AppendCallEvent";

/// Most events of a call.
pub const MOST_EVENTS: usize = 1000;

/// Something that happened, as it is told.
pub struct AppendEvent {
    /// The rpc that tells of it.
    pub deed: &'static str,
    /// Which system tells of it.
    pub system: Label,
    /// In which leg.
    pub source_id: SourceCallId,
    /// What the system calls it.
    pub event_id: SourceCallId,
    /// What has happened.
    pub kind: CallEventKind,
    /// When.
    pub happened_at: Time,
    /// To which party.
    pub party: Option<u8>,
    /// What has interrupted the recording.
    pub cause: Option<PauseCause>,
    /// What the recording is for that begins.
    pub recording: Option<Terms>,
}

/// What a recording is for.
pub struct Terms {
    /// The purposes, beside those of the queue.
    pub purposes: Vec<Label>,
    /// Where parties are, by number.
    pub jurisdictions: Vec<(u8, Jurisdiction)>,
    /// Whether everybody was told.
    pub announced: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// In which call.
    pub call: CallId,
    /// Whether it was there already.
    pub repeated: bool,
    /// What follows from an objection.
    pub instruction: Option<Instruction>,
    /// By which decision a recording begins.
    pub decision: Option<Recording>,
}

impl Vault {
    /// Takes something that happened during a call. A recording begins only if it is permitted for everybody in the call.
    ///
    /// # Errors
    /// `CallUnknown` when nothing was told of the leg; `NoRecordingPermission`; `CallConflict` when the event is there and says something
    /// else; those of [`Vault::decide_recording`].
    pub async fn append_event(&self, caller: &Caller, ask: AppendEvent) -> Result<Appended> {
        let now = self.clock.now();
        let mut tx = self.custody.store().read().await?;
        let leg = tx.legs_named(&[(ask.system.as_str(), ask.source_id.as_str())]).await?.pop();
        let leg = leg.ok_or_else(|| {
            let message = "no leg of this name was told of; tell of it by UpsertCall first";
            Error::new(Reason::CallUnknown, message).at("source_call_id")
        })?;
        let whole = Whole::read(&mut *tx, &[leg.call]).await?.pop().ok_or_else(|| unknown(leg.call))?;
        let known = tx.call_events_of(&[leg.call]).await?;
        drop(tx);
        let party = whole.parties.iter().find(|party| Some(party.number) == ask.party);
        if ask.party.is_some() && party.is_none() {
            return Err(Error::invalid("party", "is no party of this call").with("call", leg.call));
        }
        let subject = party.map(|party| party.subject);
        let mut event = CallEvent {
            call: leg.call,
            system: leg.system.clone(),
            source_id: leg.source_id.clone(),
            event_id: ask.event_id.as_str().to_owned(),
            kind: ask.kind,
            party: ask.party,
            cause: ask.cause,
            decision: None,
            happened_at: ask.happened_at,
            told_at: now,
        };
        match known.iter().find(|known| known.is_named_like(&event)) {
            // Whether it may begin was decided then.
            Some(known) => known.check_repeats(&event)?,
            None => {
                if let Some(terms) = ask.recording {
                    event.decision = Some(self.permit_recording(caller, &whole, &leg, terms).await?);
                }
            }
        }
        let (caller, request_name) = (caller.name.clone(), trace::request());
        let span = self.recording.after_objection;
        let new = NewEvent { caller, request_name, deed: ask.deed, event, subject, span };
        match self.writes.call(Write::Event(Box::new(new))).await?? {
            Written::Event(appended) => {
                // Its entry was written along with it.
                call::note(false);
                Ok(appended)
            }
            _ => Err(Error::internal("an event was answered as something else")),
        }
    }

    /// The decision by which a call may be recorded, for everybody who takes part.
    async fn permit_recording(&self, caller: &Caller, whole: &Whole, leg: &Leg, terms: Terms) -> Result<Recording> {
        if let Some((number, _)) =
            terms.jurisdictions.iter().find(|(number, _)| whole.parties.iter().all(|party| party.number != *number))
        {
            let error = Error::invalid("recording.jurisdictions", "names somebody who is no party of this call");
            return Err(error.with("party", number));
        }
        let parties = whole.parties.iter().map(|party| recording::Party {
            subject: Some(party.subject),
            jurisdiction: terms
                .jurisdictions
                .iter()
                .find(|(number, _)| *number == party.number)
                .map(|(_, at)| at.clone()),
            role: match party.role {
                PartyRole::Customer => RecordingRole::Caller,
                PartyRole::Agent | PartyRole::Supervisor | PartyRole::Sme => RecordingRole::Agent,
                PartyRole::ThirdParty => RecordingRole::Other,
            },
        });
        let ask = DecideRecording {
            call: Some(Reference::from(whole.call.id)),
            parties: parties.collect(),
            purposes: terms.purposes,
            queue: Some(&leg.facts.queue)
                .filter(|queue| !queue.is_empty())
                .map(|queue| Label::queue(queue))
                .transpose()?,
            biometrics: None,
            language: String::new(),
        };
        let decided = self.decide_recording(caller, ask).await.map_err(|error| error.within("recording"))?;
        policy::recording::may_begin(decided.recording, terms.announced)
            .map_err(|error| error.with("call", whole.call.id).with("decision", decided.recording.name()))?;
        Ok(decided.recording)
    }
}
