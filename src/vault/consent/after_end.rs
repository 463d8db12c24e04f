//! Whether anything was revealed on the ground of a consent that had ended: what the audit log says was done, held against
//! what the ledger says was permitted. Neither side is asked for its opinion: the decision of the moment is in neither.

use std::collections::HashMap;
use std::time::Duration;

use super::chain::MOST_EVENTS;
use crate::model::{Basis, ConsentEvent, ConsentEventId, ConsentState, Mode, Result, Standing, SubjectId, Time};
use crate::policy::Catalogue;
use crate::store::Tx;
use crate::store::consent::Recorded;
use crate::vault::Vault;
use crate::vault::audit::reveals;

/// How far back it looks.
const WINDOW: Duration = Duration::from_hours(30 * 24);
/// A reveal that is recorded so soon after an end may have been decided before it, or by a clock that goes ahead.
const BLUR: Duration = Duration::from_mins(1);
/// Batches read in one go.
const PAGE: u32 = 100;

impl Vault {
    /// Counts values that were revealed for a purpose that rests on consent after that had ended.
    pub(super) async fn count_reveals_after_end(&self, catalogue: &Catalogue, now: Time) -> Result<u64> {
        let begin = now.micros().saturating_sub(i64::try_from(WINDOW.as_micros()).unwrap_or(i64::MAX));
        let begin = Time::from_micros(begin);
        let mut tx = self.custody.store().read().await?;
        let mut count = 0;
        let changed = last_changes(&mut *tx, begin).await?;
        for node in tx.audit_nodes().await? {
            let mut before = i64::MAX.cast_unsigned();
            loop {
                let page = tx.audit_batches_before(&node, before, PAGE).await?;
                let Some(oldest) = page.last() else { break };
                before = oldest.seq;
                let over = oldest.created_at < begin;
                let mut times: HashMap<(SubjectId, String), Vec<Time>> = HashMap::new();
                for batch in &page {
                    for reveal in reveals(batch)?.into_iter().filter(|reveal| reveal.time >= begin) {
                        let purpose = catalogue.purpose_at(&reveal.purpose, reveal.time);
                        if purpose.is_some_and(|purpose| purpose.basis == Basis::Consent) {
                            times.entry((reveal.subject, reveal.purpose)).or_default().push(reveal.time);
                        }
                    }
                }
                count += count_ended(&mut *tx, catalogue, &changed, &times).await?;
                if over {
                    break;
                }
            }
        }
        Ok(count)
    }
}

/// When anything was last recorded of a person and a purpose, if that was after a moment.
async fn last_changes(tx: &mut dyn Tx, begin: Time) -> Result<HashMap<(SubjectId, String), Time>> {
    let (mut changes, mut after) = (HashMap::new(), ConsentEventId::floor(begin));
    loop {
        let page = tx.consent_events_after(after, MOST_EVENTS).await?;
        let Some(last) = page.last() else { return Ok(changes) };
        after = last.event.id;
        for Recorded { event, .. } in page {
            let change = changes.entry((event.subject, event.purpose)).or_insert(event.recorded_at);
            *change = event.recorded_at.max(*change);
        }
    }
}

/// Of moments at which people's values were revealed for a purpose, how many come after the end of their consent.
async fn count_ended(
    tx: &mut dyn Tx,
    catalogue: &Catalogue,
    changed: &HashMap<(SubjectId, String), Time>,
    times: &HashMap<(SubjectId, String), Vec<Time>>,
) -> Result<u64> {
    let of: Vec<(SubjectId, &str)> = times.keys().map(|(subject, purpose)| (*subject, purpose.as_str())).collect();
    let mut count = 0;
    for stood in tx.standings(&of).await? {
        let of = (stood.subject, stood.purpose.clone());
        let Some(times) = times.get(&of) else { continue };
        // Mostly the consent of today was there throughout, and nothing else has to be read. What was recorded only
        // later proves nothing of what was known.
        let known = |time: &Time| changed.get(&of).is_none_or(|change| change < time);
        if times.iter().all(|time| known(time) && has_stood(&stood.standing, *time)) {
            continue;
        }
        let recorded = tx.consent_events(stood.subject, &stood.purpose, 0, MOST_EVENTS).await?;
        let events: Vec<ConsentEvent> = recorded.into_iter().map(|recorded| recorded.event).collect();
        let ended = |time: &&Time| {
            let mode = catalogue.purpose_at(&stood.purpose, **time).map_or(Mode::OptIn, |purpose| purpose.mode);
            has_ended(&events, mode, **time)
        };
        count += times.iter().filter(ended).count() as u64;
    }
    Ok(count)
}

/// Whether the yes of today was given before a moment and was valid then.
fn has_stood(standing: &Standing, time: Time) -> bool {
    let mut consents = standing.consents.values();
    consents.any(|consent| consent.state_at(time).is_yes() && consent.since <= time.micros())
}

/// Whether no channel was permitted at a moment, and one had been or was refused, as far as was recorded by then.
fn has_ended(events: &[ConsentEvent], mode: Mode, time: Time) -> bool {
    use ConsentState::{Expired, Given, Invalidated, ReconfirmDue, Refused, Renewed, Revoked, Withdrawn};
    // In doubt, as it is better for whoever revealed.
    let was_known = |event: &&ConsentEvent| {
        if event.kind.says_no() { event.recorded_at.plus(BLUR) <= time } else { event.recorded_at <= time.plus(BLUR) }
    };
    let known: Vec<ConsentEvent> = events.iter().filter(was_known).cloned().collect();
    let standing = Standing::of(&known, time);
    let states: Vec<ConsentState> = standing.consents.values().map(|consent| consent.state_at(time)).collect();
    let ended = |state: &ConsentState| matches!(state, Expired | Withdrawn | Refused | Revoked | Invalidated);
    let permits = |state: &ConsentState| match state {
        Given | Renewed | ReconfirmDue => true,
        state => mode == Mode::OptOut && !ended(state),
    };
    states.iter().any(ended) && !states.iter().any(permits)
}
