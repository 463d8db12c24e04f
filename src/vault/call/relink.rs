//! Relinking: whoever a call was recorded under turned out to be somebody else, or nobody knows who. What was told of them in this call,
//! and the parts of theirs, change hands; what they have told in other calls stays theirs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{PROVISIONAL, Whole};
use crate::crash;
use crate::keys::doubt::Doubt;
use crate::keys::index::{self, Entry as IndexEntry};
use crate::model::{
    CallId, Error, Facts, FieldType, KeyState, Label, OutboxEvent, Part, Party, PartyValue, Reason, Reference,
    RelinkReason, RequestId, Result, Subject, SubjectId, Time, Token, TokenFormat, TokenRow, TokenState, Value,
};
use crate::policy::{self, Caller, Change};
use crate::store::Tx;
use crate::store::journal::Mark;
use crate::vault::audit::{Entry, Touched, call, outcome};
use crate::vault::handover::{Handover, changed, is_passing};
use crate::vault::profiling::why;
use crate::vault::subject::unknown;
use crate::vault::token::ATTEMPTS;
use crate::vault::write::Record;
use crate::vault::{Vault, answer};

/// The rpc.
const DEED: &str = "RelinkCaller";

/// Whose a call turned out to be.
pub struct Relink {
    /// Which call.
    pub call: CallId,
    /// Whom it was recorded under.
    pub from: SubjectId,
    /// Who it was; `None` when nobody knows.
    pub to: Option<SubjectId>,
    /// Why.
    pub reason: RelinkReason,
    /// What shows it: a ticket.
    pub evidence: Reference,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// A call that was relinked.
pub struct Relinked {
    /// The call.
    pub call: Whole,
    /// Who its caller is now.
    pub to: SubjectId,
    /// What it waits for that no copy gives what changed hands away with the keys of whom it was recorded under.
    pub waiting: Option<String>,
}

/// What of a call changes hands.
struct Concerned {
    parties: Vec<Party>,
    /// Values that are told in this call alone, what is kept of parts, and what tells whether a leg was told before.
    moved: HashSet<TokenRow>,
    /// Values that stay whose they are, because they were told otherwise too, with what names them here.
    copied: Vec<(Facts, Vec<PartyValue>)>,
}

impl Vault {
    /// Says that a call was somebody else's, or that nobody knows whose. A rotation and both erasures do with what changes hands as with anything
    /// that its new subject has.
    ///
    /// # Errors
    /// `CallUnknown`; `CallerMismatch` when the call has no caller of this name; those of [`policy::check_change`] for either.
    pub async fn relink_caller(&self, caller: &Caller, ask: Relink) -> Result<Relinked> {
        if ask.to == Some(ask.from) {
            return Err(Error::invalid("to_subject", "is whom the call is recorded under already"));
        }
        if let Some(answer) = self.answered(caller, DEED, ask.request).await? {
            return self.relinked_before(&ask, &answer).await;
        }
        let asked = [Some(ask.from), ask.to];
        let asked = asked.into_iter().flatten().map(|id| Touched::subject(id, None, outcome::ASKED));
        let touched: Vec<Touched<'static>> = asked.collect();
        call::touch(touched.clone());
        let justification = format!("{} {}", ask.reason.name(), ask.evidence);
        let entry = Entry { justification, touched, ..Entry::new(&caller.name, DEED, self.clock.now()) };
        self.record(Record::of(entry)).await?;
        let mut attempts = 0;
        let (to, old) = loop {
            // Somebody may have sent it twice at the same time.
            if let Some(answer) = self.answered(caller, DEED, ask.request).await? {
                return self.relinked_before(&ask, &answer).await;
            }
            attempts += 1;
            match self.try_to_relink(caller, &ask).await {
                Err(error) if is_passing(error.reason) && attempts < ATTEMPTS => self.custody.forget_leaves(),
                relinked => break relinked?,
            }
        };
        let waiting = self.finish_purge(&old).await.err().map(|error| why(&error));
        Ok(Relinked { call: self.whole_call(ask.call).await?, to, waiting })
    }

    async fn relinked_before(&self, ask: &Relink, answer: &crate::store::request::Answer) -> Result<Relinked> {
        let ids = answer.answer.split_once(' ').ok_or_else(|| Error::internal("an answer makes no sense"))?;
        let (id, to) = (CallId::parse(ids.0)?, SubjectId::parse(ids.1)?);
        if id != ask.call || answer.subject != Some(ask.from) || ask.to.is_some_and(|asked| asked != to) {
            return Err(answer::mismatch(answer.id));
        }
        let keys = self.custody.store().read().await?.subject_keys(&[ask.from]).await?;
        let old: Vec<u32> = keys.iter().filter(|key| key.state == KeyState::Retired).map(|key| key.leaf).collect();
        let waiting = self.finish_purge(&old).await.err().map(|error| why(&error));
        Ok(Relinked { call: self.whole_call(id).await?, to, waiting })
    }

    async fn try_to_relink(&self, caller: &Caller, ask: &Relink) -> Result<(SubjectId, Vec<u32>)> {
        let now = self.clock.now();
        let whole = self.whole_call(ask.call).await?;
        let keys = self.custody.store().read().await?.subject_keys(&[ask.from]).await?;
        let spares = self.spares(&keys).await?;
        let mut tx = self.custody.store().write().await?;
        let (from, mut to) = self.both(&mut *tx, ask, &whole, now).await?;
        if answer::given(&mut *tx, &caller.name, DEED, ask.request).await?.is_some() {
            return Err(changed());
        }
        // Now that nobody can tell the same in another call of theirs.
        let concerned = Concerned::of(&mut *tx, &whole, ask, now).await?;
        let (moved, to_id) = (concerned.moved.clone(), to.id);
        let mut handover = Handover { custody: &self.custody, from: &from, to: to_id, rows: Some(moved), spares, now };
        // Before the handover: what is copied is opened under the key that it may lose.
        let (values, doubt) = concerned.copy(&mut *tx, &mut handover).await?;
        let old = handover.carry_out(&mut *tx).await?;
        drop(handover);
        let objects = self.carry_objection(&mut *tx, &from, &mut to, now).await?;
        if let Some(told) = &objects {
            tx.update_subjects(std::slice::from_ref(&to)).await?;
            tx.mark(&[Mark::Subject(to.id)]).await?;
            tx.tell(std::slice::from_ref(told)).await?;
        }
        if tx.lock_calls(&[ask.call]).await?.first().map(|call| call.version) != Some(whole.call.version) {
            return Err(changed());
        }
        let moved = |party: &Party| Party { subject: to_id, candidates: Vec::new(), ..party.clone() };
        tx.put_parties(&concerned.parties.iter().map(moved).collect::<Vec<_>>()).await?;
        tx.put_party_values(&values).await?;
        tx.touch_calls(&[ask.call]).await?;
        let of = answer::Keep { caller: &caller.name, deed: DEED, request: ask.request, subject: Some(ask.from) };
        answer::keep(&mut *tx, &of, format!("{} {to_id}", ask.call), now).await?;
        crash::point("relink::before-commit");
        tx.commit().await?;
        doubt.into_iter().for_each(Doubt::resolve);
        crash::point("relink::relinked");
        if objects.is_some() {
            // No reveal for marketing that has read otherwise is under way any more when this is answered.
            self.custody.land_all().await?;
        }
        Ok((to_id, old))
    }

    /// Locks both, and opens whoever is new.
    async fn both(&self, tx: &mut dyn Tx, ask: &Relink, whole: &Whole, now: Time) -> Result<(Subject, Subject)> {
        let ids: Vec<SubjectId> = [Some(ask.from), ask.to].into_iter().flatten().collect();
        let locked = tx.lock_subjects(&ids).await?;
        let find =
            |id: SubjectId, field| locked.iter().find(|one| one.id == id).cloned().ok_or_else(|| unknown(id).at(field));
        let may = |one: &Subject, change, field| {
            policy::check_change(one.state, one.profiling, change).map_err(|error| one.tell(error).at(field))
        };
        let from = find(ask.from, "from_subject")?;
        may(&from, Change::Delete, "from_subject")?;
        if let Some(id) = ask.to {
            let to = find(id, "to_subject")?;
            may(&to, Change::Add(FieldType::Text), "to_subject")?;
            return Ok((from, to));
        }
        let kind = Label::stored(PROVISIONAL.to_owned());
        let source = Label::source(&format!("call:{}", whole.call.system))?;
        let to = Subject::open(SubjectId::new(now, self.custody.ring.random()), kind, None, source, true, now);
        tx.insert_subjects(std::slice::from_ref(&to)).await?;
        Ok((from, to))
    }
}

impl Concerned {
    async fn of(tx: &mut dyn Tx, whole: &Whole, ask: &Relink, now: Time) -> Result<Self> {
        let mut parties = whole.parties.clone();
        parties.retain(|party| party.subject == ask.from && !party.role.serves());
        if parties.is_empty() {
            let message = "the call has no caller of this name; read it again";
            return Err(Error::new(Reason::CallerMismatch, message).with("call", ask.call).with("subject", ask.from));
        }
        let own = |number: u8| parties.iter().any(|party| party.number == number);
        let told: Vec<PartyValue> = whole.values.iter().filter(|value| own(value.party)).copied().collect();
        let parts = whole.parts.iter().filter(|part| own(part.party));
        let digests = whole.legs.iter().filter_map(|leg| leg.digest);
        let kept = |part: &Part| [part.content, part.media_key].into_iter().flatten();
        let mut moved: HashSet<TokenRow> = parts.flat_map(kept).chain(digests).collect();
        let rows: Vec<TokenRow> = told.iter().map(|value| value.token).collect();
        let others: BTreeSet<TokenRow> = tx
            .party_values_by(&rows)
            .await?
            .into_iter()
            .filter(|value| value.call != ask.call || !own(value.party))
            .map(|value| value.token)
            .collect();
        let mut copied: BTreeMap<TokenRow, (Facts, Vec<PartyValue>)> = BTreeMap::new();
        for facts in tx.facts(&rows, &[]).await? {
            let row = facts.token.row;
            if facts.token.is_of_a_call() && !others.contains(&row) {
                moved.insert(row);
            } else if policy::token_state(&facts, now) == TokenState::Active {
                let named = told.iter().filter(|value| value.token == row).copied().collect();
                copied.insert(row, (facts, named));
            }
        }
        Ok(Self { parties, moved, copied: copied.into_values().collect() })
    }

    /// Keeps what stays whose it is once more, for whoever the call is of now. Answers by which tokens it is then.
    async fn copy(&self, tx: &mut dyn Tx, handover: &mut Handover<'_>) -> Result<(Vec<PartyValue>, Option<Doubt>)> {
        if self.copied.is_empty() {
            return Ok((Vec::new(), None));
        }
        let custody = handover.custody;
        let mut opened: Vec<(Token, Value)> = Vec::new();
        let (mut named, mut keys) = (Vec::new(), tx.subject_keys(&[handover.from.id, handover.to]).await?);
        for (seen, values) in &self.copied {
            // As it is now that its subject is locked.
            let facts =
                tx.facts(&[seen.token.row], &[]).await?.pop().filter(|facts| facts.token.subject == handover.from.id);
            let mut token = facts.ok_or_else(changed)?.token;
            let value = handover.open(&token)?;
            let row = TokenRow::new(handover.now, custody.ring.random());
            (token.row, token.version, token.format, token.shaped) = (row, 1, TokenFormat::Opaque, None);
            handover.seal(tx, &mut token, handover.to, &value, &mut keys, &[]).await?;
            named.extend(values.iter().map(|value| PartyValue { token: row, ..*value }));
            opened.push((token, value));
        }
        let touched = |generations: &[_]| {
            let mut buckets = BTreeSet::new();
            for (_, value) in &opened {
                buckets.extend(custody.spots_for(value, generations)?.into_iter().map(|spot| spot.bucket));
            }
            Ok(buckets)
        };
        let generations = index::lock(tx, &custody.generations(), touched).await?;
        let mut entries = Vec::new();
        for (token, value) in &opened {
            let spots = custody.spots_for(value, &generations)?;
            entries.extend(spots.into_iter().map(|spot| IndexEntry { spot, row: token.row }));
        }
        let doubt = custody.doubt(index::buckets(&entries));
        let tokens: Vec<Token> = opened.into_iter().map(|(token, _)| token).collect();
        if tx.insert_tokens(&tokens).await?.len() < tokens.len() {
            return Err(changed());
        }
        index::insert(&custody.ring, tx, &entries).await?;
        let told = tokens.iter().map(|token| OutboxEvent::of_token(token, handover.now, custody.ring.random()));
        tx.tell(&told.collect::<Vec<_>>()).await?;
        Ok((named, Some(doubt)))
    }
}
