//! What happens during calls, to the wire and from it.

use std::hash::{BuildHasher as _, RandomState};

use tokio::sync::{Mutex, MutexGuard};

use crate::grpc::parse;
use crate::model::{
    CallEvent, CallEventKind, Error, Instruction, Jurisdiction, Label, PauseCause, Recording, Result, SourceCallId,
    Span,
};
use crate::policy::Caller;
use crate::proto::v1;
use crate::vault::Vault;
use crate::vault::call::{APPEND, AppendEvent, Terms};
use crate::vault::recording::{MOST_PARTIES, MOST_PURPOSES};

/// How many turns a stream has.
const TURNS: usize = 64;

/// Whose turn it is in a stream: the events of one leg are taken in the order in which they come, those of others meanwhile.
/// Deeds of a stream begin in its order, and whoever waits for a turn gets it in that order.
pub struct Turns {
    turns: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self { turns: (0..TURNS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl Turns {
    /// Waits for the turn of a leg. Some legs share one.
    pub async fn of(&self, leg: &str) -> Option<MutexGuard<'_, ()>> {
        let at = usize::try_from(self.hasher.hash_one(leg) % TURNS as u64).ok()?;
        Some(self.turns.get(at)?.lock().await)
    }
}

pub async fn append(vault: &Vault, caller: &Caller, ask: v1::AppendCallEventRequest) -> Result<v1::AppendedCallEvent> {
    let kept = vault.append_event(caller, told(ask)?).await?;
    let instruction = match kept.instruction {
        None | Some(Instruction::None) => v1::RecordingInstruction::Unspecified,
        Some(Instruction::GoOn) => v1::RecordingInstruction::Continue,
        Some(Instruction::Stop(Span::Destroyed)) => v1::RecordingInstruction::StopAndDestroy,
        Some(Instruction::Stop(Span::Kept)) => v1::RecordingInstruction::StopAndKeep,
    };
    Ok(v1::AppendedCallEvent {
        call: kept.call.to_string(),
        repeated: kept.repeated,
        instruction: instruction.into(),
        decision: kept.decision.map_or(0, Recording::number),
    })
}

fn told(ask: v1::AppendCallEventRequest) -> Result<AppendEvent> {
    use CallEventKind::{CardPause, Objection, RecordingStart};
    let kind =
        CallEventKind::from_number(ask.kind).ok_or_else(|| Error::invalid("kind", "is missing, or not known"))?;
    let time = ask.event_time.ok_or_else(|| Error::invalid("event_time", "is missing"))?;
    let party = party("party", ask.party)?;
    if kind == Objection && party.is_none() {
        return Err(Error::invalid("party", "is missing: say who objects"));
    }
    let cause = match (kind == CardPause, ask.cause) {
        (false, 0) => None,
        (false, _) => return Err(Error::invalid("cause", "is taken of a CARD_PAUSE only")),
        (true, number) => Some(PauseCause::from_number(number).ok_or_else(|| {
            Error::invalid("cause", "is missing, or not known: say what has interrupted the recording")
        })?),
    };
    let recording = match (kind == RecordingStart, ask.recording) {
        (false, None) => None,
        (false, Some(_)) => return Err(Error::invalid("recording", "is taken of a RECORDING_START only")),
        (true, None) => return Err(Error::invalid("recording", "is missing: say what the call is recorded for")),
        (true, Some(terms)) => Some(self::terms(&terms).map_err(|error| error.within("recording"))?),
    };
    Ok(AppendEvent {
        deed: APPEND,
        system: Label::code("source_system", &ask.source_system)?,
        source_id: SourceCallId::parse("source_call_id", &ask.source_call_id)?,
        event_id: SourceCallId::parse("event_id", &ask.event_id)?,
        kind,
        happened_at: parse::time("event_time", time)?,
        party,
        cause,
        recording,
    })
}

fn terms(terms: &v1::RecordingTerms) -> Result<Terms> {
    parse::check_most("purposes", terms.purposes.len(), MOST_PURPOSES)?;
    parse::check_most("jurisdictions", terms.jurisdictions.len(), MOST_PARTIES)?;
    let purposes = terms.purposes.iter().enumerate();
    let purposes = purposes.map(|(at, code)| Label::purpose(code).map_err(|error| error.at(format!("purposes[{at}]"))));
    let place = |(at, one): (usize, &v1::PartyJurisdiction)| {
        let within = |error: Error| error.within(&format!("jurisdictions[{at}]"));
        let number = party("party", one.party).map_err(within)?;
        let number = number.ok_or_else(|| within(Error::invalid("party", "is missing")))?;
        Ok((number, Jurisdiction::parse(&one.jurisdiction).map_err(within)?))
    };
    let jurisdictions = terms.jurisdictions.iter().enumerate().map(place).collect::<Result<_>>()?;
    Ok(Terms { purposes: purposes.collect::<Result<_>>()?, jurisdictions, announced: terms.announced })
}

fn party(field: &'static str, number: u32) -> Result<Option<u8>> {
    let number = u8::try_from(number).map_err(|_| Error::invalid(field, "is no party of this call"))?;
    Ok(Some(number).filter(|number| *number > 0))
}

/// An event, on the wire.
pub fn wire(event: CallEvent) -> v1::CallEvent {
    v1::CallEvent {
        source_system: event.system,
        source_call_id: event.source_id,
        event_id: event.event_id,
        kind: event.kind.number(),
        event_time: Some(parse::wire_time(event.happened_at)),
        party: event.party.map_or(0, u32::from),
        cause: event.cause.map_or(0, PauseCause::number),
        decision: event.decision.map_or(0, Recording::number),
    }
}
