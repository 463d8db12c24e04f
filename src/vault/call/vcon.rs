//! Calls out of conversations in the vCon format.
//!
//! A document is told as a leg of a call, with parts that each belong to one of its people. So whoever is erased takes out of it what was
//! theirs, and what is written of the call afterwards leaves their places empty.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::upsert::{Outcome, ToldParty, Upsert};
use super::{AppendEvent, Attach};
use crate::formats::vcon::Happened;
use crate::model::{CallId, Error, Label, Leg, MOST_PARTS, Part, PartId, Reason, Result, SourceCallId, Value};
use crate::policy::Caller;
use crate::vault::Vault;
use crate::vault::profiling::class_of;
use crate::vault::token::Field;
use crate::vault::write::ToldLeg;

/// The rpc.
pub const IMPORT: &str = "ImportVcon";

/// A conversation to be recorded. Parties are told by their place in the leg, as long as nobody knows their number in the call.
pub struct ImportVcon {
    /// The leg.
    pub upsert: Upsert,
    /// Its parts, whose call and party are not known yet.
    pub parts: Vec<(usize, Attach)>,
    /// What happened in it, likewise.
    pub events: Vec<Happened>,
}

impl ImportVcon {
    /// Most bytes of a document. Half of what a request may have unless it is configured.
    pub const LARGEST: usize = 8 << 20;
}

/// What became of it.
pub struct Imported {
    /// The call.
    pub call: CallId,
    /// What became of the leg.
    pub outcome: Outcome,
    /// How many parts are kept.
    pub parts: usize,
    /// Of whom nothing is kept, by their names in the document.
    pub left_out: Vec<String>,
}

impl Vault {
    /// Records a conversation: the leg, then its parts and what happened in it. What is there already stays, so one that was broken off
    /// goes on when it is told again.
    ///
    /// # Errors
    /// Those of [`Vault::upsert_call`] and of what is told with it.
    pub async fn import_vcon(&self, caller: &Caller, ask: ImportVcon) -> Result<Imported> {
        let key = self.media_key()?;
        let fields: Vec<Vec<Field>> = ask.parts.iter().map(|(_, part)| part.fields(&key)).collect::<Result<_>>()?;
        let fields: Vec<Field> = fields.into_iter().flatten().collect();
        fields.iter().try_for_each(|field| class_of(field).map(drop))?;
        // Before anything of it is kept.
        self.check_fields(caller, IMPORT, &fields, self.clock.now()).await?;
        drop(fields);
        self.check_room(&ask).await?;
        let (system, source_id, revision) =
            (ask.upsert.system.clone(), ask.upsert.source_id.clone(), ask.upsert.revision);
        let customer = ask.upsert.parties.iter().position(|party| !party.role.serves());
        let alike = alike(&ask.upsert.parties);
        let (whole, outcome) = self.upsert_call(caller, ask.upsert).await?;
        let call = whole.call.id;
        let own = |leg: &&Leg| leg.system == system.as_str() && leg.source_id == source_id.as_str();
        let leg = whole.legs.iter().find(own).ok_or_else(|| Error::internal("a leg that is not there"))?;
        if outcome == Outcome::Stale || leg.revision != revision {
            return Ok(Imported { call, outcome: Outcome::Stale, parts: 0, left_out: Vec::new() });
        }
        let number = |place: usize| leg.parties.get(place).copied().unwrap_or_default();
        let first = whole.parties.iter().find(|party| !party.role.serves()).filter(|party| whole.is_erased(party));
        // Recordings and what was made of them were the first customer's. They do not come back as another's, who may have some already.
        let owner = |part: PartId, place: usize| match first {
            Some(first) if Some(place) == customer && whole.parts.iter().all(|known| known.id != part) => first.number,
            _ => number(place),
        };
        let told = |at, place, attach| {
            let part = PartId::told(system.as_str(), source_id.as_str(), revision, at);
            let of = Some(ToldLeg { system: leg.system.clone(), source_id: leg.source_id.clone(), revision });
            self.attach_part(caller, Attach { part: Some(part), call, party: owner(part, place), of, ..attach })
        };
        let (places, parts): (Vec<_>, Vec<_>) = ask.parts.into_iter().unzip();
        let parts = parts.into_iter().enumerate().zip(&places);
        let attached = join_all(parts.map(|((at, attach), place)| told(at, *place, attach))).await;
        // Who was told with the number of another is kept as that one, and nothing of them that is not the same.
        let lost = alike.into_iter().filter(|(place, other)| number(*place) == number(*other) && number(*place) > 0);
        let mut left_out: BTreeSet<String> = lost.map(|(place, _)| format!("parties[{place}]")).collect();
        let mut kept = 0;
        for (place, attached) in places.into_iter().zip(attached) {
            match attached {
                Ok(_) => kept += 1,
                // As of their values, nothing is kept of them.
                Err(error) if is_of_nobody(error.reason) => drop(left_out.insert(format!("parties[{place}]"))),
                // Somebody tells a higher revision at the same time, with which all of this one goes.
                Err(error) if error.reason == Reason::CallConflict => {
                    return Ok(Imported { call, outcome: Outcome::Stale, parts: 0, left_out: Vec::new() });
                }
                Err(error) => return Err(error),
            }
        }
        let events = ask.events.into_iter().map(|event| {
            let told_of = event.party.map(number).filter(|number| *number > 0);
            happened(&system, &source_id, &event, told_of).map(|event| self.append_event(caller, event))
        });
        let events: Vec<_> = events.collect::<Result<_>>()?;
        for event in join_all(events).await {
            event?;
        }
        Ok(Imported { call, outcome, parts: kept, left_out: left_out.into_iter().collect() })
    }

    /// Refuses what would be more parts than a call may have, with those that others have attached; those of an earlier revision go.
    async fn check_room(&self, ask: &ImportVcon) -> Result<()> {
        let mut tx = self.custody.store().read().await?;
        let Some(whole) = self.whole_told(&mut *tx, &ask.upsert).await? else { return Ok(()) };
        drop(tx);
        let leg = whole.legs.iter().find(|leg| ask.upsert.tells_of(leg));
        // Of what is stale nothing is kept.
        if leg.is_some_and(|leg| leg.revision > ask.upsert.revision) {
            return Ok(());
        }
        let now = self.clock.now();
        let stays =
            |part: &&Part| whole.gone(part, now).is_none() && leg.is_none_or(|leg| leg.place_of(part.id).is_none());
        let others = whole.parts.iter().filter(stays).count();
        if others + ask.parts.len() <= MOST_PARTS {
            return Ok(());
        }
        let message = format!(
            "it has {} parts beside the {others} that others have attached to its call, which may have {MOST_PARTS} in all",
            ask.parts.len()
        );
        let error = Error::new(Reason::BatchTooLarge, message).at("document").with("call", whole.call.id);
        Err(error.with("maximum", MOST_PARTS))
    }
}

/// Places of those who are told with a value that another before them is told otherwise, each with that other's place.
fn alike(parties: &[ToldParty]) -> Vec<(usize, usize)> {
    let says =
        |party: &ToldParty, of, value: &Value| party.values.iter().any(|(f, v)| *f == of && v.raw() == value.raw());
    let mut alike = Vec::new();
    for (at, party) in parties.iter().enumerate() {
        let others = parties.iter().enumerate().take(at);
        let loses = |other: &ToldParty| party.values.iter().any(|(of, value)| !says(other, *of, value));
        alike.extend(others.filter(|(_, other)| loses(other)).map(|(other, _)| (at, other)));
    }
    alike
}

/// An event, by a name that stays the same when a later revision tells of it, in whatever place its party is there.
fn happened(system: &Label, source_id: &SourceCallId, event: &Happened, party: Option<u8>) -> Result<AppendEvent> {
    let whom = party.map_or_else(|| "all".to_owned(), |party| party.to_string());
    let name = format!("vcon.{}.{}.{whom}", event.kind.number(), event.at.micros());
    Ok(AppendEvent {
        deed: IMPORT,
        system: system.clone(),
        source_id: source_id.clone(),
        event_id: SourceCallId::parse("party_history", &name)?,
        kind: event.kind,
        happened_at: event.at,
        party,
        cause: None,
        recording: None,
    })
}

/// Whether nothing is kept of somebody because of what they are, and everything else all the same.
const fn is_of_nobody(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ErasurePending | Reason::SubjectErased | Reason::SubjectRestricted | Reason::SubjectScheduled
    )
}
