//! Parts of calls within a shared transaction: whether there is one of the name, and what is stored.

use std::collections::{BTreeSet, HashMap};

use super::Keeping;
use super::call::moved;
use crate::model::{CallId, Error, Facts, Leg, Part, PartId, Reason, Result, SubjectId, TokenRow};
use crate::store::Tx;
use crate::store::request::Answer;
use crate::vault::call::Whole;
use crate::vault::write::NewPart;

/// What a transaction has found and made of parts.
#[derive(Default)]
pub struct Parts {
    /// The parts that there are of the calls, and those just made. A name is taken for ever.
    known: HashMap<CallId, Vec<PartId>>,
    /// How many of them are not gone.
    living: HashMap<CallId, usize>,
    /// The legs of the calls that parts are told with.
    legs: Vec<Leg>,
    /// Whose the parties of the calls are.
    owners: HashMap<(CallId, u8), SubjectId>,
    new: Vec<Part>,
}

impl Keeping<'_> {
    /// Reads what parts there are and whose the parties are, now that their calls are locked.
    pub(super) async fn read_parts(&mut self, tx: &mut dyn Tx, news: &[&NewPart]) -> Result<()> {
        if news.is_empty() {
            return Ok(());
        }
        // Each once, or its parts would count as often as it is named.
        let calls: BTreeSet<CallId> = news.iter().map(|new| new.part.call).collect();
        let calls: Vec<CallId> = calls.into_iter().collect();
        let parts = tx.parts_of(&calls).await?;
        let rows: Vec<TokenRow> = parts.iter().filter_map(Part::token).collect();
        let facts = if rows.is_empty() { Vec::new() } else { tx.facts(&rows, &[]).await? };
        let facts: HashMap<TokenRow, Facts> = facts.into_iter().map(|facts| (facts.token.row, facts)).collect();
        for part in parts {
            let kept = part.token().and_then(|row| facts.get(&row));
            let lives = kept.is_none_or(|facts| Whole::why_gone(facts, self.now).is_none());
            *self.calls.parts.living.entry(part.call).or_default() += usize::from(lives);
            self.calls.parts.known.entry(part.call).or_default().push(part.id);
        }
        if news.iter().any(|new| new.of.is_some()) {
            self.calls.parts.legs = tx.legs_of(&calls).await?;
        }
        let parties = tx.parties_of(&calls).await?.into_iter();
        self.calls.parts.owners = parties.map(|party| ((party.call, party.number), party.subject)).collect();
        Ok(())
    }

    /// Decides about one part. A refusal is the write's own; nothing of it is kept then.
    pub(super) fn plan_part(&mut self, new: &NewPart) -> Result<()> {
        let asked = new.request.map(|id| (new.new.caller.clone(), id));
        if asked.as_ref().is_some_and(|asked| self.answered.contains_key(asked)) {
            return Err(moved());
        }
        let part = &new.part;
        let version = self.calls.versions.get_mut(&part.call).ok_or_else(moved)?;
        let known = self.calls.parts.known.entry(part.call).or_default();
        if known.contains(&part.id) {
            return Err(moved());
        }
        // Somebody may have said meanwhile that the call was another's: what was sealed is under the key of whom it was read of.
        if self.calls.parts.owners.get(&(part.call, part.party)) != Some(&new.new.owner.subject()) {
            return Err(moved());
        }
        if new
            .of
            .as_ref()
            .is_some_and(|of| !self.calls.parts.legs.iter().any(|leg| leg.call == part.call && of.is(leg)))
        {
            let message = "a higher revision of the document that this is told with was told meanwhile";
            return Err(Error::new(Reason::CallConflict, message).with("call", part.call));
        }
        let living = self.calls.parts.living.get(&part.call).copied().unwrap_or_default();
        if living >= new.most {
            let message = format!("has {} parts already, the most that a call may have", new.most);
            return Err(Error::new(Reason::BatchTooLarge, message).at("call").with("maximum", new.most));
        }
        let bumped = *version + 1;
        self.admit(&new.new)?;
        let (_, planned) = self.make(&new.new)?;
        self.record_kept(&new.new, &planned);
        self.calls.versions.insert(part.call, bumped);
        self.calls.parts.known.entry(part.call).or_default().push(part.id);
        *self.calls.parts.living.entry(part.call).or_default() += 1;
        if let Some((caller, id)) = asked {
            let (deed, answer) = (new.new.deed.to_owned(), part.id.to_string());
            let answer = Answer { caller: caller.clone(), id, deed, subject: None, answer, created_at: self.now };
            self.answered.insert((caller, id), answer.clone());
            self.new_answers.push(answer);
        }
        self.calls.parts.new.push(part.clone());
        Ok(())
    }
}

/// Writes what was decided. `false` when on another node somebody was faster: then it is all to be done anew.
pub(super) async fn store_parts(tx: &mut dyn Tx, parts: &Parts) -> Result<bool> {
    if parts.new.is_empty() {
        return Ok(true);
    }
    let calls: Vec<CallId> = parts.new.iter().map(|part| part.call).collect();
    tx.touch_calls(&calls).await?;
    Ok(tx.insert_parts(&parts.new).await? == parts.new.len() as u64)
}
