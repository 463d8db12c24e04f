//! What becomes of what is told of a call: who its parties are, and which of their values are new.

use std::collections::HashMap;
use std::sync::Arc;

use super::upsert::{ToldParty, Upsert};
use super::{AGENT, CLASS, Found, PROVISIONAL, Whole, choose};
use crate::crypto::SecretBytes;
use crate::keys::index;
use crate::model::{
    Call, CallField, CallId, Content, Error, Facts, FieldType, Label, Leg, PartId, Party, PartyRole, Result, Subject,
    SubjectId, SubjectState, Time, Token, TokenFormat, TokenRow, TokenState, Value,
};
use crate::policy::{self, Caller, Upkeep};
use crate::store::Tx;
use crate::trace;
use crate::vault::Vault;
use crate::vault::token::Field;
use crate::vault::write::{NewCall, NewTokens, Owner, Sought, Told};

/// Most parties of a call.
const MOST_PARTIES: usize = 200;

/// What is to be made of a leg.
pub struct Plan {
    call: CallId,
    /// Who comes to the call.
    parties: Vec<Party>,
    /// The numbers of those in the leg, in the order in which they are told.
    positions: Vec<u8>,
    /// Whose values are kept.
    owners: Vec<Owned>,
    /// Tokens whose values others take the place of.
    replaced: Vec<Token>,
}

/// Somebody of whom values are told.
struct Owned {
    owner: Owner,
    /// Whether anything may be kept of them.
    active: bool,
    fields: Vec<(Option<(u8, CallField)>, Field)>,
    sought: Vec<Sought>,
    /// What somebody new is found by.
    identity: Option<Arc<Value>>,
}

/// What is read to make a plan.
struct Planning<'p> {
    vault: &'p Vault,
    ask: &'p Upsert,
    whole: Option<&'p Whole>,
    /// The values that parties have.
    kept: HashMap<TokenRow, Facts>,
    now: Time,
    plan: Plan,
}

impl Plan {
    pub async fn of(
        vault: &Vault,
        tx: &mut dyn Tx,
        ask: &Upsert,
        whole: Option<&Whole>,
        leg: Option<&Leg>,
        now: Time,
    ) -> Result<Self> {
        let call = whole.map_or_else(|| CallId::new(now, vault.custody.ring.random()), |whole| whole.call.id);
        let rows: Vec<TokenRow> = whole.iter().flat_map(|whole| &whole.values).map(|value| value.token).collect();
        let kept = tx.facts(&rows, &[]).await?.into_iter().map(|facts| (facts.token.row, facts)).collect();
        let plan = Self { call, parties: Vec::new(), positions: Vec::new(), owners: Vec::new(), replaced: Vec::new() };
        let mut planning = Planning { vault, ask, whole, kept, now, plan };
        for (at, told) in ask.parties.iter().enumerate() {
            let before = leg.and_then(|leg| leg.parties.get(at)).copied();
            planning.take(tx, told, before).await.map_err(|error| error.within(&format!("parties[{at}]")))?;
        }
        let mut plan = planning.plan;
        // Nobody is opened, and nothing kept of anybody, who came to be no party.
        let parties = || whole.iter().flat_map(|whole| &whole.parties).chain(&plan.parties);
        plan.owners.retain(|owned| parties().any(|party| party.subject == owned.owner.subject()));
        Ok(plan)
    }

    /// Everybody in the leg.
    fn subjects(&self, whole: Option<&Whole>) -> Vec<SubjectId> {
        let all = whole.iter().flat_map(|whole| &whole.parties).chain(&self.parties);
        all.filter(|party| self.positions.contains(&party.number)).map(|party| party.subject).collect()
    }
}

impl<'p> Planning<'p> {
    /// Who had the place that somebody has now, if it may be they: whoever was erased, or whoever is there.
    fn at_place(&self, told: &ToldParty, number: Option<u8>) -> (Option<&'p Party>, Option<&'p Party>) {
        let Some(whole) = self.whole else { return (None, None) };
        let found = whole.parties.iter().find(|party| Some(party.number) == number);
        let is_document = self.ask.document.is_some();
        let erased = found.filter(|party| whole.is_erased(party) && (is_document || party.role == told.role));
        let may_be = |party: &&Party| !whole.is_erased(party) && self.ask.are_alike(party.role, told.role);
        // Where somebody was erased, the place alone says nothing of whoever has no number either.
        if is_document && told.identity().is_none() && self.erased_like(told.role).is_some() {
            return (erased, whole.parties.iter().filter(may_be).find(|party| self.was_told(whole, party, told)));
        }
        (erased, found.filter(may_be))
    }

    /// Whether something that is told of somebody was told of the party before.
    fn was_told(&self, whole: &Whole, party: &Party, told: &ToldParty) -> bool {
        let own = whole.values.iter().filter(|kept| kept.party == party.number);
        let mut known = own.filter_map(|kept| Some((kept.field, self.kept.get(&kept.token)?)));
        known.any(|(field, facts)| {
            let value = told.values.iter().find(|(of, _)| *of == field);
            value.is_some_and(|(_, value)| self.open(facts).is_ok_and(|known| known.raw() == value.raw()))
        })
    }

    fn open(&self, facts: &Facts) -> Result<Value> {
        self.vault.custody.ring.open(&policy::for_upkeep(facts.token.row, Upkeep::Compare), &facts.token)
    }

    async fn take(&mut self, tx: &mut dyn Tx, told: &ToldParty, before: Option<u8>) -> Result<()> {
        let known = self.whole.map(|whole| whole.parties.as_slice()).unwrap_or_default();
        let is_document = self.ask.document.is_some();
        let (erased, before) = self.at_place(told, before);
        // Of somebody who was erased nothing comes back, however late it is told.
        if let Some(erased) = erased.filter(|_| !is_document) {
            self.plan.positions.push(erased.number);
            return Ok(());
        }
        let (at, candidates, sought) = self.owner_of(tx, told, before).await?;
        let (subject, is_new) = {
            let found = &self.owned(at)?.owner;
            (found.subject(), matches!(found, Owner::New(_)))
        };
        // A document may name people in another order than before; who is found in the call is nobody else.
        let stays = is_document && known.iter().any(|party| party.subject == subject);
        if let Some(erased) = erased.filter(|_| !stays) {
            self.plan.positions.push(erased.number);
            return Ok(());
        }
        // Nobody can tell any more whether it is they. Who serves and is known is somebody else.
        let may_be_erased =
            !stays && if told.role.serves() { is_new } else { is_document || told.role == PartyRole::Customer };
        let all = known.iter().chain(&self.plan.parties);
        let present = all.clone().find(|party| party.role == told.role && party.subject == subject);
        let number = if let Some(party) = present {
            party.number
        } else {
            if let Some(erased) = self.erased_like(told.role)
                && may_be_erased
                && told.subject.is_none()
            {
                self.plan.positions.push(erased.number);
                return Ok(());
            }
            let number = all.map(|party| party.number).max().unwrap_or_default().saturating_add(1);
            if usize::from(number) > MOST_PARTIES {
                return Err(Error::invalid("role", format!("is one more than the {MOST_PARTIES} parties of a call")));
            }
            let (call, role) = (self.plan.call, told.role);
            self.plan.parties.push(Party { call, number, role, subject, candidates });
            let owned = self.owned(at)?;
            // All values of whoever comes to the call are new, so they are pushed next, in order.
            let field = owned.fields.len();
            owned.sought.extend(sought.map(|sought| Sought { field: field + sought.field, ..sought }));
            number
        };
        self.plan.positions.push(number);
        self.take_values(at, number, told)
    }

    /// Whoever was erased that somebody may be who is not known. Documents change the roles of people, and leave them out; so
    /// one of them who was erased is enough, whoever else is there.
    fn erased_like(&self, role: PartyRole) -> Option<&'p Party> {
        let whole = self.whole?;
        if self.ask.document.is_none() {
            return whole.erased_in(role);
        }
        whole.parties.iter().find(|party| self.ask.are_alike(party.role, role) && whole.is_erased(party))
    }

    fn owned(&mut self, at: usize) -> Result<&mut Owned> {
        self.plan.owners.get_mut(at).ok_or_else(|| Error::internal("a party without a subject"))
    }

    /// Whose values a party's are, who else the party may be, and by which of the values told that was found.
    async fn owner_of(
        &mut self,
        tx: &mut dyn Tx,
        told: &ToldParty,
        before: Option<&Party>,
    ) -> Result<(usize, Vec<SubjectId>, Option<Sought>)> {
        if let Some(id) = told.subject {
            let unknown = || crate::vault::subject::unknown(id).at("subject");
            let subject = tx.subjects(&[id]).await?.pop().ok_or_else(unknown)?;
            subject.alive()?;
            return Ok((self.known(id, subject.state == SubjectState::Active), Vec::new(), None));
        }
        let Some((_, value)) = told.identity() else {
            let active = |party: &Party| {
                let subject = self.whole.and_then(|whole| whole.people.get(&party.subject));
                subject.is_some_and(|subject| subject.state == SubjectState::Active)
            };
            return Ok(match before {
                Some(party) => (self.known(party.subject, active(party)), party.candidates.clone(), None),
                None => (self.opened(told, None)?, Vec::new(), None),
            });
        };
        let same = |owned: &Owned| {
            let known = owned.identity.as_ref();
            known.is_some_and(|known| known.kind() == value.kind() && known.normal() == value.normal())
        };
        if let Some(at) = self.plan.owners.iter().position(same) {
            return Ok((at, Vec::new(), None));
        }
        let found = self.look_for(tx, value).await?;
        let mark = if told.role.serves() { Some(self.ask.agent_mark()?.as_str().to_owned()) } else { None };
        let choice = choose(mark.as_deref(), &found);
        // Whoever is in the call already is the one, whom else the number may belong to.
        let parties = self.whole.map(|whole| whole.parties.as_slice()).unwrap_or_default();
        let present = parties.iter().find(|party| {
            self.ask.are_alike(party.role, told.role) && found.iter().any(|one| one.subject() == party.subject)
        });
        if let Some(party) = present.filter(|party| Some(party.subject) != choice.subject) {
            let active = found.iter().any(|one| one.subject() == party.subject && one.is_active());
            return Ok((self.known(party.subject, active), party.candidates.clone(), None));
        }
        let at = match choice.subject {
            Some(id) => self.known(id, choice.active),
            None => self.opened(told, Some(Arc::clone(value)))?,
        };
        let field = told.values.iter().position(|(_, other)| Arc::ptr_eq(other, value)).unwrap_or_default();
        let candidates = choice.candidates.clone();
        Ok((at, candidates, Some(Sought { field, agent: mark, choice })))
    }

    async fn look_for(&self, tx: &mut dyn Tx, value: &Value) -> Result<Vec<Found>> {
        let Some(normal) = value.normal() else { return Ok(Vec::new()) };
        let rows = index::find(&self.vault.custody.ring, tx, value.kind(), &[normal]).await?;
        let rows: Vec<TokenRow> = rows.into_iter().flatten().collect();
        let facts = tx.facts(&rows, &[]).await?;
        let mut ids: Vec<SubjectId> = facts.iter().map(|facts| facts.token.subject).collect();
        ids.sort_unstable();
        ids.dedup();
        let subjects: HashMap<SubjectId, Subject> =
            tx.subjects(&ids).await?.into_iter().map(|subject| (subject.id, subject)).collect();
        let found = |facts: &Facts| Found::of(facts, subjects.get(&facts.token.subject)?, self.now);
        Ok(facts.iter().filter_map(found).collect())
    }

    fn known(&mut self, id: SubjectId, active: bool) -> usize {
        let owners = &mut self.plan.owners;
        owners.iter().position(|owned| owned.owner.subject() == id).unwrap_or_else(|| {
            let (fields, sought) = (Vec::new(), Vec::new());
            owners.push(Owned { owner: Owner::Known(id), active, fields, sought, identity: None });
            owners.len() - 1
        })
    }

    fn opened(&mut self, told: &ToldParty, identity: Option<Arc<Value>>) -> Result<usize> {
        let kind = Label::stored(if told.role.serves() { AGENT } else { PROVISIONAL }.to_owned());
        let id = SubjectId::new(self.now, self.vault.custody.ring.random());
        let owner = Owner::New(Subject::open(id, kind, None, self.ask.source()?, true, self.now));
        self.plan.owners.push(Owned { owner, active: true, fields: Vec::new(), sought: Vec::new(), identity });
        Ok(self.plan.owners.len() - 1)
    }

    /// Keeps those of the values that are new. What was told last stands; what was deleted does not come back.
    fn take_values(&mut self, at: usize, number: u8, told: &ToldParty) -> Result<()> {
        if !self.owned(at)?.active {
            return Ok(());
        }
        let values = self.whole.map(|whole| whole.values.as_slice()).unwrap_or_default();
        for (field, value) in self.ask.fields(told) {
            // Whoever is told twice in a leg is told once.
            if self.owned(at)?.fields.iter().any(|(of, _)| *of == Some((number, field))) {
                continue;
            }
            let kept = values.iter().find(|kept| kept.party == number && kept.field == field);
            if let Some(facts) = kept.and_then(|kept| self.kept.get(&kept.token)) {
                let opens = policy::token_state(facts, self.now) == TokenState::Active;
                // What does not open, because a backup was restored or it is damaged, stands.
                if !opens || self.open(facts).map_or(true, |known| known.raw() == value.value.raw()) {
                    continue;
                }
                self.plan.replaced.push(facts.token.clone());
            }
            self.owned(at)?.fields.push((Some((number, field)), value));
        }
        Ok(())
    }
}

impl Vault {
    /// Seals what is planned, and says what the call is then.
    #[expect(clippy::too_many_arguments, reason = "what is told, what was there, and what becomes of it")]
    pub(super) async fn seal_call(
        &self,
        caller: &Caller,
        ask: &Upsert,
        whole: Option<Whole>,
        before: Option<Leg>,
        mut plan: Plan,
        digest: &[u8; 32],
        now: Time,
    ) -> Result<NewCall> {
        let subjects = plan.subjects(whole.as_ref());
        // Under the key of the first of whom something may be kept. It dies with them.
        if let Some(owned) = plan.owners.iter_mut().find(|owned| owned.active) {
            owned.fields.push((None, digest_field(digest)?));
        }
        let source = ask.source()?;
        let (mut told, mut digest_row) = (Vec::new(), None);
        for owned in
            plan.owners.into_iter().filter(|owned| !owned.fields.is_empty() || matches!(owned.owner, Owner::New(_)))
        {
            let (of, fields): (Vec<_>, Vec<Field>) = owned.fields.into_iter().unzip();
            let new = self.seal_told((caller, ask.deed), None, owned.owner, &fields, &source, now).await?;
            let digest = of.iter().zip(&new.fields).find(|(of, _)| of.is_none());
            digest_row = digest_row.or(digest.map(|(_, field)| field.token.row));
            told.push(Told { new, of, sought: owned.sought });
        }
        let mut replaced = plan.replaced;
        let mut rows: Vec<TokenRow> = before.iter().filter_map(|leg| leg.digest).collect();
        if let (Some(whole), Some(before), Some(_)) = (&whole, &before, &ask.document) {
            let came = whole.parts.iter().filter(|part| before.place_of(part.id).is_some());
            rows.extend(came.flat_map(|part| part.content.into_iter().chain(part.media_key)));
        }
        if !rows.is_empty() {
            let facts = self.custody.store().read().await?.facts(&rows, &[]).await?;
            replaced.extend(facts.into_iter().map(|facts| facts.token).filter(|token| token.sealed.is_some()));
        }
        let leg = Leg {
            call: plan.call,
            system: ask.system.as_str().to_owned(),
            source_id: ask.source_id.as_str().to_owned(),
            revision: ask.revision,
            digest: digest_row,
            parties: plan.positions,
            facts: ask.facts.clone(),
        };
        let group = ask.group.as_ref().map(|group| group.as_str().to_owned());
        let read = whole.as_ref().map(|whole| whole.call.version);
        let call = match whole {
            None => Call::open(plan.call, leg.system.clone(), group, &leg.facts, now),
            Some(whole) => {
                let mut call = whole.call;
                call.group = call.group.or(group);
                let others =
                    whole.legs.iter().filter(|other| other.source_id != leg.source_id || other.system != leg.system);
                call.fold(others.map(|other| &other.facts).chain([&leg.facts]));
                call
            }
        };
        let (caller, request_name, request) = (caller.name.clone(), trace::request(), ask.request);
        let parties = plan.parties;
        let deed = ask.deed;
        Ok(NewCall { caller, request_name, deed, request, read, call, leg, parties, subjects, told, replaced })
    }

    /// Seals values that are told with a call, or of a part of one.
    pub(super) async fn seal_told(
        &self,
        (caller, deed): (&Caller, &'static str),
        part: Option<PartId>,
        owner: Owner,
        fields: &[Field],
        source: &Label,
        now: Time,
    ) -> Result<NewTokens> {
        let subject = owner.subject();
        let known = match &owner {
            Owner::Known(id) => self.custody.store().read().await?.subject_keys(&[*id]).await?,
            Owner::New(_) => Vec::new(),
        };
        let (keys, leaves, places) = self.keys_for(subject, &known, part, fields, now).await?;
        let generations = self.custody.generations();
        let seal = |field: &Field| self.seal_new(subject, &places, source, field, &generations, now);
        let mut sealed = fields.iter().map(seal).collect::<Result<Vec<_>>>()?;
        let told = part.is_none();
        for new in &mut sealed {
            new.deduplicate = told;
        }
        let (caller, call) = (caller.name.clone(), trace::request());
        Ok(NewTokens { caller, call, deed, request: None, owner, told, part, keys, leaves, fields: sealed })
    }
}

fn digest_field(digest: &[u8; 32]) -> Result<Field> {
    Ok(Field {
        value: Arc::new(Value::parse(FieldType::Bytes, Content::Bytes(SecretBytes::new(digest.to_vec())))?),
        format: TokenFormat::Opaque,
        class: Label::retention_class(CLASS)?,
        deduplicate: false,
        tags: vec![Label::tag("call.digest")?],
        expires_at: None,
        single_use: false,
    })
}
