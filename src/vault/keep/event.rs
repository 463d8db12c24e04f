//! Events of calls within a shared transaction: whether one is new, and what follows from it.

use super::Keeping;
use crate::model::{CallEvent, CallEventKind, CallId, Error, Reason, Recording, Result, objected};
use crate::store::Tx;
use crate::vault::audit::{Entry, Touched, outcome};
use crate::vault::call::{Appended, MOST_EVENTS};
use crate::vault::write::{NewEvent, Write};

/// What a transaction has found and made of events.
#[derive(Default)]
pub struct Events {
    /// Those of each call that is told of, with those that are new.
    known: Vec<CallEvent>,
    new: Vec<CallEvent>,
}

impl Keeping<'_> {
    /// Reads what has happened in the calls that are told of. They are locked, so nothing else happens until the commit.
    pub(super) async fn read_events(&mut self, tx: &mut dyn Tx, writes: &[&Write]) -> Result<()> {
        let calls = told(writes);
        if !calls.is_empty() {
            self.events.known = tx.call_events_of(&calls).await?;
        }
        Ok(())
    }

    /// Decides about one event. A refusal is the write's own; nothing of it is kept then.
    pub(super) fn plan_event(&mut self, new: &NewEvent) -> Result<Appended> {
        let event = &new.event;
        let of_call: Vec<CallEvent> =
            self.events.known.iter().filter(|known| known.call == event.call).cloned().collect();
        let known = self.events.known.iter().find(|known| known.is_named_like(event)).cloned();
        if let Some(known) = &known {
            known.check_repeats(event)?;
        } else {
            admit(&of_call, event)?;
            self.events.known.push(event.clone());
            self.events.new.push(event.clone());
        }
        let touched = new.subject.map(|id| Touched::subject(id, None, outcome::KEPT));
        self.found.push(Entry {
            touched: touched.into_iter().collect(),
            request: new.request_name.clone(),
            justification: event.call.to_string(),
            ..Entry::new(&new.caller, new.deed, self.now)
        });
        let instruction = match event.kind {
            CallEventKind::Objection => Some(objected(&of_call, new.span)),
            _ => None,
        };
        let decision = known.as_ref().map_or(event.decision, |known| known.decision);
        Ok(Appended { call: event.call, repeated: known.is_some(), instruction, decision })
    }

    /// Writes what was decided.
    pub(super) async fn store_events(&mut self, tx: &mut dyn Tx) -> Result<()> {
        tx.insert_call_events(&std::mem::take(&mut self.events.new)).await
    }
}

/// The calls in which something has happened, each once.
pub fn told(writes: &[&Write]) -> Vec<CallId> {
    let of = |write: &&Write| if let Write::Event(new) = write { Some(new.event.call) } else { None };
    let mut calls: Vec<CallId> = writes.iter().filter_map(of).collect();
    calls.sort_unstable();
    calls.dedup();
    calls
}

fn admit(known: &[CallEvent], event: &CallEvent) -> Result<()> {
    if known.len() >= MOST_EVENTS {
        let message = format!("is of a call that has {MOST_EVENTS} events, which is as many as one can have");
        return Err(Error::new(Reason::BatchTooLarge, message).at("event_id").with("maximum", MOST_EVENTS));
    }
    let objection = known.iter().any(|known| known.kind == CallEventKind::Objection);
    if event.kind == CallEventKind::RecordingStart && objection && event.decision != Some(Recording::MustRecord) {
        let message = "somebody has objected to the recording during this call; it does not begin again";
        let error = Error::new(Reason::NoRecordingPermission, message).with("call", event.call);
        return Err(error.with("decision", Recording::DoNotRecord.name()));
    }
    Ok(())
}
