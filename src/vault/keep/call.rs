//! Calls within a shared transaction: whether a call is still as it was read, whether whoever was looked for is still the
//! one who is found, and what is stored.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::part::{Parts, store_parts};
use super::{Keeping, event};
use crate::keys::index::{self, Spot};
use crate::model::{
    Call, CallId, Error, Facts, Leg, OutboxEvent, Party, PartyValue, Reason, Result, Subject, SubjectId, Token,
    TokenRow, TokenState,
};
use crate::policy;
use crate::store::Tx;
use crate::store::request::Answer;
use crate::vault::audit::{Entry, Touched, outcome};
use crate::vault::call::{Found, choose};
use crate::vault::write::{NewCall, NewPart, Owner, Sought, Told, Write};

/// What a transaction has found and made of calls.
#[derive(Default)]
pub struct Calls {
    /// The version of each call.
    pub(super) versions: HashMap<CallId, u64>,
    /// Of which call a leg is.
    legs: HashMap<(String, String), CallId>,
    /// Of which call a group is.
    groups: HashMap<(String, String), CallId>,
    /// Who is found by a value.
    found: HashMap<Spot, Vec<Found>>,
    /// Values by which somebody new is found, once this is committed.
    opened: HashSet<Spot>,
    begun: Vec<Call>,
    changed: Vec<Call>,
    new_legs: Vec<Leg>,
    new_parties: Vec<Party>,
    new_values: Vec<PartyValue>,
    replaced: Vec<Token>,
    pub(super) parts: Parts,
}

impl Keeping<'_> {
    /// Reads the calls that are told of, and who is found by what they are told with. The buckets are locked, so nobody
    /// comes to be found, or ceases to, until the commit.
    pub(super) async fn read_calls(&mut self, tx: &mut dyn Tx, writes: &[&Write]) -> Result<()> {
        let calls = writes.iter().filter_map(|write| if let Write::Call(new) = write { Some(&**new) } else { None });
        let calls: Vec<&NewCall> = calls.collect();
        let parts = writes.iter().filter_map(|write| if let Write::Part(new) = write { Some(&**new) } else { None });
        let parts: Vec<&NewPart> = parts.collect();
        // All at once, or two nodes would wait for each other.
        let known = calls.iter().filter(|new| new.read.is_some()).map(|new| new.call.id);
        let known = known.chain(parts.iter().map(|new| new.part.call)).chain(event::told(writes));
        let known: Vec<CallId> = known.collect();
        self.calls.versions = tx.lock_calls(&known).await?.into_iter().map(|call| (call.id, call.version)).collect();
        if calls.is_empty() && parts.is_empty() {
            return Ok(());
        }
        let requests = calls.iter().map(|new| (&new.caller, new.request));
        let requests = requests.chain(parts.iter().map(|new| (&new.new.caller, new.request)));
        let requests: Vec<_> = requests.filter_map(|(caller, id)| Some((caller.clone(), id?))).collect();
        for answer in tx.answers(&requests).await? {
            self.answered.insert((answer.caller.clone(), answer.id), answer);
        }
        self.read_found(tx, &calls).await?;
        let names: Vec<_> = calls.iter().map(|new| (&*new.leg.system, &*new.leg.source_id)).collect();
        let legs = tx.legs_named(&names).await?.into_iter().map(|leg| ((leg.system, leg.source_id), leg.call));
        self.calls.legs = legs.collect();
        let groups: Vec<_> =
            calls.iter().filter_map(|new| Some((&*new.call.system, new.call.group.as_deref()?))).collect();
        let groups = tx.calls_grouped(&groups).await?.into_iter();
        self.calls.groups = groups.filter_map(|call| Some(((call.system, call.group?), call.id))).collect();
        self.read_parts(tx, &parts).await
    }

    async fn read_found(&mut self, tx: &mut dyn Tx, calls: &[&NewCall]) -> Result<()> {
        let mut spots = BTreeSet::new();
        for told in calls.iter().flat_map(|new| &new.told) {
            spots.extend(self.spots_sought(told)?.into_iter().map(|(spot, _)| spot));
        }
        if spots.is_empty() {
            return Ok(());
        }
        let entries = index::find_locked(&self.custody.ring, tx, &spots).await?;
        let rows: Vec<TokenRow> = entries.iter().map(|entry| entry.row).collect();
        let facts: HashMap<TokenRow, Facts> =
            tx.facts(&rows, &[]).await?.into_iter().map(|facts| (facts.token.row, facts)).collect();
        let ids: BTreeSet<SubjectId> = facts.values().map(|facts| facts.token.subject).collect();
        let subjects = tx.subjects(&ids.into_iter().collect::<Vec<_>>()).await?;
        let subjects: HashMap<SubjectId, Subject> = subjects.into_iter().map(|subject| (subject.id, subject)).collect();
        for entry in entries {
            let Some(facts) = facts.get(&entry.row) else { continue };
            let subject = subjects.get(&facts.token.subject);
            let found = subject.and_then(|subject| Found::of(facts, subject, self.now));
            self.calls.found.entry(entry.spot).or_default().extend(found);
        }
        Ok(())
    }

    fn spots_sought<'t>(&self, told: &'t Told) -> Result<Vec<(Spot, &'t Sought)>> {
        let mut spots = Vec::new();
        for sought in &told.sought {
            let Some(field) = told.new.fields.get(sought.field) else { continue };
            spots.extend(self.spot(field)?.map(|spot| (spot, sought)));
        }
        Ok(spots)
    }

    /// Decides about one call. A refusal is the write's own; nothing of it is kept then.
    pub(super) fn plan_call(&mut self, new: &NewCall) -> Result<()> {
        if new.request.is_some_and(|id| self.answered.contains_key(&(new.caller.clone(), id))) {
            return Err(moved());
        }
        self.check_unchanged(new)?;
        for told in &new.told {
            self.check_sought(told)?;
            self.admit(&told.new)?;
        }
        let mut touched: Vec<Touched<'static>> = Vec::new();
        for told in &new.told {
            let (_, planned) = self.make(&told.new)?;
            touched.extend(self.touched_by(&told.new, &planned));
            if matches!(told.new.owner, Owner::New(_)) {
                let spots = self.spots_sought(told)?;
                self.calls.opened.extend(spots.into_iter().map(|(spot, _)| spot));
            }
            let values = planned.iter().zip(&told.of).filter_map(|((token, _), of)| {
                let (party, field) = (*of)?;
                Some(PartyValue { call: new.call.id, party, field, token: token.row })
            });
            self.calls.new_values.extend(values);
        }
        let told: HashSet<SubjectId> = new.told.iter().map(|told| told.new.owner.subject()).collect();
        let others = new.subjects.iter().filter(|id| !told.contains(id));
        touched.extend(others.map(|id| Touched::subject(*id, None, outcome::KEPT)));
        let entry = Entry { touched, request: new.request_name.clone(), ..Entry::new(&new.caller, new.deed, self.now) };
        self.found.push(entry);
        self.take_call(new);
        Ok(())
    }

    fn check_unchanged(&self, new: &NewCall) -> Result<()> {
        let (call, leg) = (&new.call, &new.leg);
        let own = |found: Option<&CallId>| found.is_none_or(|id| *id == call.id && new.read.is_some());
        let group = call.group.as_ref().map(|group| (call.system.clone(), group.clone()));
        let same = self.calls.versions.get(&call.id).copied() == new.read
            && own(self.calls.legs.get(&(leg.system.clone(), leg.source_id.clone())))
            && own(group.and_then(|group| self.calls.groups.get(&group)));
        if same { Ok(()) } else { Err(moved()) }
    }

    fn check_sought(&self, told: &Told) -> Result<()> {
        for (spot, sought) in self.spots_sought(told)? {
            let found = self.calls.found.get(&spot).map(Vec::as_slice).unwrap_or_default();
            if choose(sought.agent.as_deref(), found) != sought.choice || self.calls.opened.contains(&spot) {
                return Err(moved());
            }
        }
        Ok(())
    }

    fn take_call(&mut self, new: &NewCall) {
        let (call, leg) = (new.call.clone(), new.leg.clone());
        self.calls.versions.insert(call.id, call.version);
        self.calls.legs.insert((leg.system.clone(), leg.source_id.clone()), call.id);
        if let Some(group) = &call.group {
            self.calls.groups.insert((call.system.clone(), group.clone()), call.id);
        }
        if let Some(id) = new.request {
            let (caller, deed) = (new.caller.clone(), new.deed.to_owned());
            let answer = Answer { caller, id, deed, subject: None, answer: call.id.to_string(), created_at: self.now };
            self.answered.insert((new.caller.clone(), id), answer.clone());
            self.new_answers.push(answer);
        }
        if new.read.is_some() {
            self.calls.changed.push(call);
        } else {
            self.calls.begun.push(call);
        }
        self.calls.new_legs.push(leg);
        self.calls.new_parties.extend(new.parties.iter().cloned());
        self.calls.replaced.extend(new.replaced.iter().cloned());
    }

    /// Writes what was decided.
    pub(super) async fn store_calls(&mut self, tx: &mut dyn Tx) -> Result<()> {
        let calls = std::mem::take(&mut self.calls);
        // On another node somebody may have been faster, whom nobody here has seen yet: then it is all to be done anew.
        if tx.insert_calls(&calls.begun).await? < calls.begun.len() as u64 {
            return Err(moved());
        }
        tx.update_calls(&calls.changed).await?;
        if tx.put_legs(&calls.new_legs).await? < calls.new_legs.len() as u64 {
            return Err(moved());
        }
        tx.insert_parties(&calls.new_parties).await?;
        tx.put_party_values(&calls.new_values).await?;
        if !store_parts(tx, &calls.parts).await? {
            return Err(moved());
        }
        self.delete_replaced(tx, calls.replaced).await
    }

    async fn delete_replaced(&self, tx: &mut dyn Tx, replaced: Vec<Token>) -> Result<()> {
        if replaced.is_empty() {
            return Ok(());
        }
        // As they are now that their subjects are locked.
        let mut rows: Vec<TokenRow> = replaced.iter().map(|token| token.row).collect();
        // What was told with another call too is still needed there.
        let named: HashSet<TokenRow> = tx.party_values_by(&rows).await?.into_iter().map(|value| value.token).collect();
        rows.retain(|row| !named.contains(row));
        let (mut buckets, mut deleted) = (BTreeSet::new(), Vec::new());
        for facts in tx.facts(&rows, &[]).await? {
            if policy::token_state(&facts, self.now) != TokenState::Active {
                continue;
            }
            buckets.extend(self.custody.buckets_of_token(&facts.token, &self.generations)?);
            let version = facts.token.version + 1;
            deleted.push(Token { deleted_at: Some(self.now), sealed: None, version, ..facts.token });
        }
        let rows: Vec<TokenRow> = deleted.iter().map(|token| token.row).collect();
        index::remove(&self.custody.ring, tx, &buckets.into_iter().collect::<Vec<_>>(), &rows).await?;
        tx.update_tokens(&deleted).await?;
        let random = self.custody.ring.random();
        let tell = |token: &Token| OutboxEvent::of_token(token, self.now, random);
        tx.tell(&deleted.iter().map(tell).collect::<Vec<_>>()).await
    }
}

/// The refusal for what was decided on something that has changed since.
pub(super) fn moved() -> Error {
    Error::new(Reason::EtagMismatch, "the call, or who is known by a number in it, has changed meanwhile; try again")
}
