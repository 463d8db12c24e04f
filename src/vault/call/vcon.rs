//! Calls out of conversations in the vCon format.
//!
//! A document is told as a leg of a call, with parts that each belong to one of its people. So whoever is erased takes out of it what was
//! theirs, and what is written of the call afterwards leaves their places empty.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::upsert::{Outcome, Upsert};
use super::{AppendEvent, Attach};
use crate::model::{CallId, Error, Leg, MOST_PARTS, Part, PartId, Reason, Result};
use crate::policy::Caller;
use crate::vault::Vault;
use crate::vault::profiling::class_of;
use crate::vault::token::Field;

/// The rpc.
pub const IMPORT: &str = "ImportVcon";

/// A conversation to be recorded. Parties are told by their place in the leg, as long as nobody knows their number in the call.
pub struct ImportVcon {
    /// The leg.
    pub upsert: Upsert,
    /// Its parts, whose call and party are not known yet.
    pub parts: Vec<(usize, Attach)>,
    /// What happened in it, likewise.
    pub events: Vec<(Option<usize>, AppendEvent)>,
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
        let (system, name, revision) =
            (ask.upsert.system.as_str().to_owned(), ask.upsert.source_id.as_str().to_owned(), ask.upsert.revision);
        let (whole, outcome) = self.upsert_call(caller, ask.upsert).await?;
        let call = whole.call.id;
        let own = |leg: &&Leg| leg.system == system && leg.source_id == name;
        let leg = whole.legs.iter().find(own).ok_or_else(|| Error::internal("a leg that is not there"))?;
        if outcome == Outcome::Stale || leg.revision != revision {
            return Ok(Imported { call, outcome: Outcome::Stale, parts: 0, left_out: Vec::new() });
        }
        let number = |place: usize| leg.parties.get(place).copied().unwrap_or_default();
        let told = |at, party, attach| {
            let part = Some(PartId::told(&system, &name, revision, at));
            self.attach_part(caller, Attach { part, call, party, ..attach })
        };
        let (places, parts): (Vec<_>, Vec<_>) = ask.parts.into_iter().unzip();
        let parts = parts.into_iter().enumerate().zip(&places);
        let attached = join_all(parts.map(|((at, attach), place)| told(at, number(*place), attach))).await;
        let mut left_out = BTreeSet::new();
        let mut kept = 0;
        for (place, attached) in places.into_iter().zip(attached) {
            match attached {
                Ok(_) => kept += 1,
                // As of their values, nothing is kept of them.
                Err(error) if is_of_nobody(error.reason) => drop(left_out.insert(format!("parties[{place}]"))),
                Err(error) => return Err(error),
            }
        }
        let events = ask.events.into_iter().map(|(place, event)| {
            self.append_event(caller, AppendEvent { party: place.map(number).filter(|party| *party > 0), ..event })
        });
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
        let stays = |part: &&Part| {
            whole.gone(part, now).is_none() && leg.is_none_or(|leg| leg.place_of(part.id).is_none())
        };
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

/// Whether nothing is kept of somebody because of what they are, and everything else all the same.
const fn is_of_nobody(reason: Reason) -> bool {
    matches!(reason, Reason::SubjectErased | Reason::SubjectRestricted | Reason::SubjectScheduled)
}
