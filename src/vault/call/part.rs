//! Parts of a call: recordings, transcripts, notes. Each belongs to one party, and what is kept of it is under a key of its own:
//! so it goes with its party, with its retention class, or alone.

use std::sync::Arc;

use super::{Whole, unknown};
use crate::crypto::{Secret, SecretBytes};
use crate::model::{
    CallId, Content, Error, Facts, FieldType, Label, MOST_PARTS, MediaType, Part, PartBody, PartId, PartKind, Party,
    Reason, RequestId, Result, Time, TokenFormat, TokenState, Value,
};
use crate::policy::{self, Caller, Upkeep};
use crate::vault::Vault;
use crate::vault::audit::{Touched, call, outcome};
use crate::vault::call::show::ShownPart;
use crate::vault::profiling::class_of;
use crate::vault::token::{ATTEMPTS, Field};
use crate::vault::write::{NewPart, Owner, ToldLeg, Write, Written};

/// The rpc.
pub const ATTACH: &str = "AttachPart";

/// Bytes of a media key.
const KEY: usize = 32;

/// A part to be attached to a call.
pub struct Attach {
    /// The rpc that attaches it.
    pub deed: &'static str,
    /// Its name; `None` to be given one.
    pub part: Option<PartId>,
    /// To which call.
    pub call: CallId,
    /// The leg that it is told with; without it, it belongs to the call.
    pub of: Option<ToldLeg>,
    /// Whose it is.
    pub party: u8,
    /// What it is.
    pub kind: PartKind,
    /// Retention class of what is kept of it.
    pub class: Label,
    /// The type of what it stands for.
    pub media_type: MediaType,
    /// SHA-256 of that.
    pub sha256: Option<[u8; 32]>,
    /// When that was made.
    pub occurred_at: Option<Time>,
    /// What is kept of it.
    pub body: PartBody,
    /// That itself, unless it is nothing.
    pub content: Option<Arc<Value>>,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// A part that was attached, and whether just now.
pub struct Attached {
    /// The part.
    pub part: ShownPart,
    /// Whether it was not there before.
    pub created: bool,
}

impl Vault {
    /// Attaches a part to a call, unless it is there.
    pub async fn attach_part(&self, caller: &Caller, ask: Attach) -> Result<Attached> {
        let now = self.clock.now();
        let fields = ask.fields(&self.media_key()?)?;
        fields.iter().try_for_each(|field| class_of(field).map(drop))?;
        self.check_fields(caller, ask.deed, &fields, now).await?;
        let mut attempts = 0;
        loop {
            if let Some(answer) = self.answered(caller, ask.deed, ask.request).await? {
                let id = PartId::parse(&answer.answer).map_err(Error::internal)?;
                return self.attached_before(&ask, id).await;
            }
            attempts += 1;
            match self.try_to_attach(caller, &ask, &fields, now).await {
                Err(error) if is_passing(error.reason) && attempts < ATTEMPTS => {
                    if error.reason == Reason::KeyRetired {
                        self.custody.forget_leaves();
                    }
                }
                attached => return attached,
            }
        }
    }

    async fn try_to_attach(&self, caller: &Caller, ask: &Attach, fields: &[Field], now: Time) -> Result<Attached> {
        if let Some(id) = ask.part {
            let mut tx = self.custody.store().read().await?;
            let present = tx.parts(&[id]).await?.pop();
            drop(tx);
            if present.is_some() {
                let attached = self.attached_before(ask, id).await?;
                self.keep_part_answer(caller, ask, id, now).await?;
                return Ok(attached);
            }
        }
        let whole = self.whole_call(ask.call).await?;
        let party = ask.party_of(&whole)?;
        let id = ask.part.unwrap_or_else(|| PartId::new(now, self.custody.ring.random()));
        let source = Label::source(&format!("call:{}", whole.call.system))?;
        let owner = Owner::Known(party.subject);
        let new = self.seal_told((caller, ask.deed), Some(id), owner, fields, &source, now).await?;
        let mut rows = new.fields.iter().map(|field| field.token.row);
        let part = Part {
            id,
            call: ask.call,
            party: ask.party,
            kind: ask.kind,
            class: ask.class.as_str().to_owned(),
            media_type: ask.media_type.as_str().to_owned(),
            sha256: ask.sha256.filter(|_| ask.body.is_elsewhere()),
            occurred_at: ask.occurred_at,
            body: ask.body,
            content: if ask.content.is_some() { rows.next() } else { None },
            media_key: rows.next(),
            created_at: now,
        };
        drop(rows);
        let write = NewPart { part, of: ask.of.clone(), new, request: ask.request, most: MOST_PARTS };
        match self.writes.call(Write::Part(Box::new(write))).await?.map_err(of_party)? {
            Written::Part => {
                // Its entry was written along with it.
                call::note(false);
                let whole = self.whole_call(ask.call).await?;
                Ok(Attached { part: self.shown_part(&whole, id)?, created: true })
            }
            _ => Err(Error::internal("a part was answered as something else")),
        }
    }

    pub(super) async fn whole_call(&self, id: CallId) -> Result<Whole> {
        let mut tx = self.custody.store().read().await?;
        Whole::read(&mut *tx, &[id]).await?.pop().ok_or_else(|| unknown(id))
    }

    pub(super) fn shown_part(&self, whole: &Whole, id: PartId) -> Result<ShownPart> {
        let part = whole.parts.iter().find(|part| part.id == id).ok_or_else(|| unknown_part(id))?;
        let token = part.content.map(|row| self.custody.ring.opaque(row).to_string()).unwrap_or_default();
        Ok(ShownPart { gone: whole.gone(part, self.clock.now()), part: part.clone(), token, outcome: None })
    }

    /// The answer for a part that is there, if it is the same.
    async fn attached_before(&self, ask: &Attach, id: PartId) -> Result<Attached> {
        let found = self.custody.store().read().await?.parts(&[id]).await?.pop().ok_or_else(|| unknown_part(id))?;
        let whole = self.whole_call(found.call).await?;
        let other = || Error::new(Reason::PartConflict, "there is another part of this name; give this one a new name");
        if ask.part.is_some_and(|part| part != id) || !self.is_same_part(ask, &found, &whole)? {
            return Err(other().with("part", id));
        }
        call::touch(
            whole
                .parties
                .iter()
                .filter(|party| party.number == found.party)
                .map(|party| Touched::subject(party.subject, None, outcome::REPEATED)),
        );
        Ok(Attached { part: self.shown_part(&whole, id)?, created: false })
    }

    /// Whether a part that is there is the one that is told. Of one that is gone nobody can tell what it was.
    fn is_same_part(&self, ask: &Attach, found: &Part, whole: &Whole) -> Result<bool> {
        let same = found.call == ask.call
            && found.party == ask.party
            && found.kind == ask.kind
            && found.class == ask.class.as_str()
            && found.media_type == ask.media_type.as_str()
            && found.sha256 == ask.sha256.filter(|_| ask.body.is_elsewhere())
            && found.occurred_at == ask.occurred_at
            && found.body == ask.body;
        let Some(content) = ask.content.as_ref().filter(|_| same) else { return Ok(same) };
        let facts = found.content.and_then(|row| whole.facts.get(&row));
        let Some(facts) = facts.filter(|facts| policy::token_state(facts, self.clock.now()) == TokenState::Active)
        else {
            return Ok(true);
        };
        let known = self.custody.ring.open(&policy::for_upkeep(facts.token.row, Upkeep::Compare), &facts.token)?;
        Ok(known.raw() == content.raw())
    }

    async fn keep_part_answer(&self, caller: &Caller, ask: &Attach, id: PartId, now: Time) -> Result<()> {
        if ask.request.is_none() {
            return Ok(());
        }
        let mut tx = self.custody.store().write().await?;
        let of =
            crate::vault::answer::Keep { caller: &caller.name, deed: ask.deed, request: ask.request, subject: None };
        crate::vault::answer::keep(&mut *tx, &of, id.to_string(), now).await?;
        tx.commit().await
    }

    /// A new key for what lies elsewhere.
    pub(super) fn media_key(&self) -> Result<Arc<Value>> {
        let drawn = Secret::<KEY>::random(self.custody.ring.random());
        let mut key = SecretBytes::with_capacity(KEY);
        key.append(drawn.expose());
        Ok(Arc::new(Value::parse(FieldType::Bytes, Content::Bytes(key))?))
    }
}

impl Attach {
    /// Whose it is.
    fn party_of<'w>(&self, whole: &'w Whole) -> Result<&'w Party> {
        let party = whole.parties.iter().find(|party| party.number == self.party);
        let party = party.ok_or_else(|| Error::invalid("party", "is no party of this call"))?;
        if self.kind == PartKind::Scorecard && !party.role.serves() {
            let message = "a scorecard belongs to whom it is about: an AGENT, SUPERVISOR or SME of the call";
            return Err(Error::invalid("party", message));
        }
        Ok(party)
    }

    /// What is kept of it, and the key of what lies elsewhere.
    pub(super) fn fields(&self, key: &Arc<Value>) -> Result<Vec<Field>> {
        let key = Some(key).filter(|_| self.body.is_elsewhere());
        let tagged = [(self.content.as_ref(), "call.part"), (key, "call.media_key")];
        let field = |(value, tag): (&Arc<Value>, &str)| {
            Ok(Field {
                value: Arc::clone(value),
                format: TokenFormat::Opaque,
                class: self.class.clone(),
                deduplicate: false,
                tags: vec![Label::tag(tag)?],
                expires_at: None,
                single_use: false,
            })
        };
        tagged.into_iter().filter_map(|(value, tag)| Some(field((value?, tag)))).collect()
    }
}

impl Whole {
    /// Why a part is gone, if it is.
    #[must_use]
    pub(super) fn gone(&self, part: &Part, now: Time) -> Option<Reason> {
        Self::why_gone(part.token().and_then(|row| self.facts.get(&row))?, now)
    }

    /// The same by what the part's token is now.
    pub(crate) fn why_gone(facts: &Facts, now: Time) -> Option<Reason> {
        match policy::token_state(facts, now) {
            TokenState::Erased => Some(Reason::SubjectErased),
            TokenState::Ended => Some(Reason::RetentionEnded),
            TokenState::Deleted => Some(Reason::PartErased),
            TokenState::Purged => Some(Reason::ValuePurged),
            TokenState::Active | TokenState::Expired | TokenState::Spent => None,
        }
    }
}

/// The refusal for a part that does not exist.
pub(super) fn unknown_part(id: PartId) -> Error {
    Error::new(Reason::PartUnknown, "there is no such part of a call").with("part", id)
}

/// A refusal of what is kept of a part is one of its party.
fn of_party(mut error: Error) -> Error {
    if error.field.as_ref().is_some_and(|field| field.starts_with("fields[")) {
        error.field = Some("party".to_owned());
    }
    error
}

/// Whether the next attempt may go better: something has changed since it was read.
const fn is_passing(reason: Reason) -> bool {
    matches!(reason, Reason::EtagMismatch | Reason::KeyRetired)
}
