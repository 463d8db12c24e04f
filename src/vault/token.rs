//! Tokens for values: making, describing, correcting and deleting them.

use std::sync::Arc;

use super::audit::{Touched, call, outcome};
use super::profiling::class_of;
use super::read::{Ask, Name};
use super::reveal::unknown;
use super::subject::DEFAULT_KIND;
use super::write::{NewTokens, Objection, Owner, Tokenized, Write, Written};
use super::{Vault, answer};
use crate::keys::Place;
use crate::keys::doubt::Doubt;
use crate::keys::index::{self, Entry as IndexEntry};
use crate::keys::leaves::{Leaf, hold};
use crate::model::{
    Content, Error, Facts, KeyState, Label, OutboxEvent, Reason, RequestId, Result, Subject, SubjectId, SubjectState,
    Time, Token, TokenFormat, TokenRow, TokenState, Value,
};
use crate::policy::{self, About, Action, Caller, Change, Inquiry};
use crate::store::Tx;
use crate::store::index::Generation;
use crate::store::key::SubjectKey;
use crate::store::request::Answer;
use crate::trace;

/// The most values or tokens that one request may hold.
pub const MOST: usize = 1000;

/// How often a value is sealed anew whose key is rotated away, or given up with the root, meanwhile.
pub(super) const ATTEMPTS: u32 = 10;

/// The retention class of a value that names none.
pub const DEFAULT_CLASS: &str = "default";

/// Values to be kept.
pub struct Tokenize {
    /// Whose; `None` opens a new subject.
    pub subject: Option<SubjectId>,
    /// Where they came from.
    pub source: Label,
    /// The values.
    pub fields: Vec<Field>,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// One value to be kept.
pub struct Field {
    /// The value.
    pub value: Arc<Value>,
    /// What its token looks like.
    pub format: TokenFormat,
    /// Retention class.
    pub class: Label,
    /// Whether an existing token for the same value will do.
    pub deduplicate: bool,
    /// Labels.
    pub tags: Vec<Label>,
    /// When the token stops revealing.
    pub expires_at: Option<Time>,
    /// Whether the first reveal is the last.
    pub single_use: bool,
}

/// Values that were kept.
pub struct Kept {
    /// Whose they are; `None` when every value was there already and nobody new was opened.
    pub subject: Option<SubjectId>,
    /// One token for each value, in order.
    pub tokens: Vec<Described>,
    /// Whether the person objects to direct marketing, as far as the caller is told.
    pub suppressed: bool,
}

/// A token as it may be told to anyone who may call the vault.
pub struct Described {
    /// The token itself.
    pub name: String,
    /// Its row.
    pub token: Token,
    /// Where it is in its life.
    pub state: TokenState,
}

impl Vault {
    /// Seals values under their subject's keys and answers with tokens.
    pub async fn tokenize(&self, caller: &Caller, mut ask: Tokenize) -> Result<Kept> {
        let now = self.clock.now();
        for (at, field) in ask.fields.iter_mut().enumerate() {
            field.class = class_of(field).map_err(|error| error.within(&format!("fields[{at}]")))?;
        }
        self.check_fields(caller, "Tokenize", &ask.fields, now).await?;
        let over = ask.fields.iter().position(|field| field.expires_at.is_some_and(|time| time <= now));
        // Unless it is the repetition of a request that was made in time.
        if let Some(at) = over
            && self.answered(caller, "Tokenize", ask.request).await?.is_none()
        {
            return Err(Error::invalid(format!("fields[{at}].expire_time"), "must lie in the future"));
        }
        call::touch(ask.subject.map(|id| Touched::subject(id, None, outcome::OK)));
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.try_to_tokenize(caller, &ask, now).await {
                // A key is gone: with the person, or rotated away a moment ago, or with a root that changed meanwhile.
                Err(error) if error.reason == Reason::KeyRetired && attempts < ATTEMPTS => {
                    if let Some(subject) = ask.subject {
                        self.subject(subject).await?.alive()?;
                    }
                    self.custody.forget_leaves();
                }
                outcome => {
                    let Tokenized { subject, tokens, objection } = outcome?;
                    let suppressed = self.tell_objection(caller, objection).await?;
                    let tokens = tokens.into_iter().map(|(token, state)| self.describe(token, state)).collect();
                    return Ok(Kept { subject, tokens, suppressed });
                }
            }
        }
    }

    /// Refuses values that the caller may not hand over, whoever they are about. A refusal is recorded.
    pub(super) async fn check_fields(
        &self,
        caller: &Caller,
        deed: &'static str,
        fields: &[Field],
        now: Time,
    ) -> Result<()> {
        for (at, field) in fields.iter().enumerate() {
            let (kind, class) = (Some(field.value.kind()), field.class.as_str());
            let about = About::Value { kind, class, state: SubjectState::Active, jurisdiction: "" };
            let inquiry = Inquiry::new(caller, Action::Tokenize, about, now);
            let inquiry = Inquiry { deduplicate: field.deduplicate, ..inquiry };
            if let Err(error) = self.authority.check(&inquiry, now) {
                let error = error.with("field", format!("fields[{at}]"));
                return Err(self.record_refusal(caller, deed, error).await);
            }
        }
        Ok(())
    }

    async fn try_to_tokenize(&self, caller: &Caller, ask: &Tokenize, now: Time) -> Result<Tokenized> {
        let (owner, known) = if let Some(id) = ask.subject {
            (Owner::Known(id), self.custody.store().read().await?.subject_keys(&[id]).await?)
        } else {
            let id = SubjectId::new(now, self.custody.ring.random());
            let kind = Label::stored(DEFAULT_KIND.to_owned());
            (Owner::New(Subject::open(id, kind, None, ask.source.clone(), true, now)), Vec::new())
        };
        let (keys, leaves, places) = self.keys_for(owner.subject(), &known, None, &ask.fields, now).await?;
        let fields = self.seal_all(&owner, &places, ask, now)?;
        let (caller, call, request) = (caller.name.clone(), trace::request(), ask.request);
        let part = None;
        self.write_tokens(NewTokens {
            caller,
            call,
            deed: "Tokenize",
            request,
            owner,
            told: false,
            part,
            keys,
            leaves,
            fields,
        })
        .await
    }

    pub(super) async fn write_tokens(&self, new: NewTokens) -> Result<Tokenized> {
        // With its entry in the audit.
        let _writing = trace::stage("store.write");
        match self.writes.call(Write::Tokens(Box::new(new))).await?? {
            Written::Tokens(tokenized) => {
                // Its entry was written along with it.
                call::note(false);
                Ok(tokenized)
            }
            _ => Err(Error::internal("a write was answered as a record")),
        }
    }

    /// Describes a token, never its value.
    pub async fn token(&self, text: &str) -> Result<Described> {
        let facts = self.facts(text).await?;
        let state = policy::token_state(&facts, self.clock.now());
        call::touch([Touched::facts(&facts, outcome::OK)]);
        if state == TokenState::Deleted {
            return Err(policy::unknown_token(text));
        }
        Ok(self.describe(facts.token.clone(), state))
    }

    pub(super) async fn facts(&self, text: &str) -> Result<Arc<Facts>> {
        let found =
            self.reads.call(Ask { purpose: String::new(), names: vec![Name::parse(text, &self.custody)] }).await??;
        found.into_iter().next().flatten().ok_or_else(|| unknown(text, &self.custody))
    }

    /// A page of a subject's tokens, oldest first, with the row after which the next one begins.
    pub async fn list_tokens(
        &self,
        subject: SubjectId,
        after: Option<TokenRow>,
        size: u32,
    ) -> Result<(Vec<Described>, Option<TokenRow>)> {
        let mut tx = self.custody.store().read().await?;
        let known = tx.subjects(&[subject]).await?.pop().ok_or_else(|| super::subject::unknown(subject))?;
        call::touch([Touched::described(&known)]);
        let mut found = tx.list_tokens(subject, after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|facts| facts.token.row).filter(|_| more);
        let now = self.clock.now();
        let describe = |facts: Facts| {
            let state = policy::token_state(&facts, now);
            self.describe(facts.token, state)
        };
        Ok((found.into_iter().map(describe).collect(), next))
    }

    /// Replaces the value behind a token. The token stays. Answers also whether the person objects to direct marketing, as
    /// far as the caller is told.
    pub async fn update_token(
        &self,
        caller: &Caller,
        text: &str,
        content: Content,
        source: &Label,
        etag: Option<u64>,
        request: Option<RequestId>,
    ) -> Result<(Described, bool)> {
        if let Some(answer) = self.answered(caller, "UpdateToken", request).await? {
            return self.updated_before(caller, &answer, text).await;
        }
        let seen = self.facts_for(caller, Action::Update, "UpdateToken", text).await?;
        // That the value does not fit tells that the token exists, and of which type it is.
        let told = |_: &Error| call::touch([Touched::facts(&seen, outcome::ASKED)]);
        let value = Value::parse(seen.token.kind, content).inspect_err(told)?;
        self.record_touched(caller, "UpdateToken", Touched::facts(&seen, outcome::ASKED)).await?;
        let spare = self.custody.take_leaf(None).await?;
        let mut tx = self.custody.store().write().await?;
        let before = lock(&mut *tx, &seen, text).await?;
        if let Some(answer) = answer::given(&mut *tx, &caller.name, "UpdateToken", request).await? {
            drop(tx);
            return self.updated_before(caller, &answer, text).await;
        }
        let mut facts = before.clone();
        policy::check_change(facts.state, facts.profiling, Change::Correct(facts.token.kind))
            .map_err(|error| policy::tell_erasure(error, &facts.person()))?;
        self.check_kept(&facts, text)?;
        super::subject::check_etag(etag, facts.token.version)?;
        facts.token.version += 1;
        source.as_str().clone_into(&mut facts.token.source);
        take_active_key(&mut *tx, &mut facts.token, &spare, self.clock.now()).await?;
        facts.token.sealed = Some(self.custody.ring.seal(&Place::of(&facts.token), &value)?);
        let doubt = self.move_in_index(&mut *tx, &before.token, Some(&value)).await?;
        tx.update_tokens(std::slice::from_ref(&facts.token)).await?;
        let objection = self.heed_suppression(&mut *tx, &facts, &value).await?;
        self.tell_of_token(&mut *tx, &facts.token).await?;
        self.remember(&mut *tx, caller, "UpdateToken", request, &facts.token).await?;
        tx.commit().await?;
        doubt.into_iter().for_each(Doubt::resolve);
        if objection == Objection::Found {
            self.record_found(caller, "UpdateToken", &facts.token).await?;
        }
        let suppressed = self.tell_objection(caller, objection).await?;
        let state = policy::token_state(&facts, self.clock.now());
        Ok((self.describe(facts.token, state), suppressed))
    }

    /// The answer to a correction that was made before.
    async fn updated_before(&self, caller: &Caller, answer: &Answer, text: &str) -> Result<(Described, bool)> {
        check_same(answer, text)?;
        let facts = self.facts(text).await?;
        let objection = if facts.suppressed_at.is_some() { Objection::Known } else { Objection::None };
        Ok((self.token(text).await?, self.tell_objection(caller, objection).await?))
    }

    /// Deletes a token and its value from the live vault.
    pub async fn delete_token(&self, caller: &Caller, text: &str, request: Option<RequestId>) -> Result<()> {
        if let Some(answer) = self.answered(caller, "DeleteToken", request).await? {
            return check_same(&answer, text);
        }
        let seen = self.facts_for(caller, Action::Delete, "DeleteToken", text).await?;
        self.record_touched(caller, "DeleteToken", Touched::facts(&seen, outcome::ASKED)).await?;
        let mut tx = self.custody.store().write().await?;
        let mut facts = lock(&mut *tx, &seen, text).await?;
        if let Some(answer) = answer::given(&mut *tx, &caller.name, "DeleteToken", request).await? {
            return check_same(&answer, text);
        }
        policy::check_change(facts.state, facts.profiling, Change::Delete)
            .map_err(|error| policy::tell_erasure(error, &facts.person()))?;
        if facts.token.deleted_at.is_some() {
            return Err(policy::unknown_token(text));
        }
        if facts.token.sealed.is_some() {
            self.move_in_index(&mut *tx, &facts.token, None).await?;
        }
        facts.token.deleted_at = Some(self.clock.now());
        facts.token.sealed = None;
        tx.update_tokens(std::slice::from_ref(&facts.token)).await?;
        self.tell_of_token(&mut *tx, &facts.token).await?;
        self.remember(&mut *tx, caller, "DeleteToken", request, &facts.token).await?;
        tx.commit().await
    }

    async fn tell_of_token(&self, tx: &mut dyn Tx, token: &Token) -> Result<()> {
        tx.tell(&[OutboxEvent::of_token(token, self.clock.now(), self.custody.ring.random())]).await
    }

    /// Takes a token, as it was, out of the search index, and puts it where its new value belongs. Answers what is in
    /// doubt until the commit.
    async fn move_in_index(&self, tx: &mut dyn Tx, before: &Token, value: Option<&Value>) -> Result<Option<Doubt>> {
        let custody = &*self.custody;
        // Both places in one order: somebody else may be moving a value the other way.
        let touched = |generations: &[Generation]| {
            let mut buckets = custody.buckets_of_token(before, generations)?;
            if let Some(value) = value {
                buckets.extend(custody.spots_near(value, generations)?.into_iter().map(|spot| spot.bucket));
            }
            Ok(buckets)
        };
        let generations = index::lock(tx, &custody.generations(), touched).await?;
        custody.see_generations(&generations);
        let from: Vec<u32> = custody.buckets_of_token(before, &generations)?.into_iter().collect();
        index::remove(&custody.ring, tx, &from, &[before.row]).await?;
        let Some(value) = value else { return Ok(None) };
        let entry = |spot| IndexEntry { spot, row: before.row };
        let entries: Vec<_> = custody.spots_for(value, &generations)?.into_iter().map(entry).collect();
        if entries.is_empty() {
            return Ok(None);
        }
        let doubt = custody.doubt(index::buckets(&entries));
        index::insert(&custody.ring, tx, &entries).await?;
        Ok(Some(doubt))
    }

    /// Whether a token still has a value that can be corrected.
    fn check_kept(&self, facts: &Facts, text: &str) -> Result<()> {
        match policy::token_state(facts, self.clock.now()) {
            TokenState::Deleted | TokenState::Erased => Err(policy::unknown_token(text)),
            TokenState::Active | TokenState::Expired => Ok(()),
            TokenState::Purged => Err(policy::tell_erasure(policy::purged(text), &facts.person())),
            TokenState::Ended => Err(policy::tell_erasure(policy::ended(text, facts.token.ended_at), &facts.person())),
            TokenState::Spent => {
                Err(Error::new(Reason::TokenSpent, "the single-use token has been revealed before").with("token", text))
            }
        }
    }

    async fn remember(
        &self,
        tx: &mut dyn Tx,
        caller: &Caller,
        deed: &'static str,
        request: Option<RequestId>,
        token: &Token,
    ) -> Result<()> {
        let name = serde_json::to_string(&self.name(token)).map_err(Error::internal)?;
        let of = answer::Keep { caller: &caller.name, deed, request, subject: Some(token.subject) };
        answer::keep(tx, &of, name, self.clock.now()).await
    }

    pub(super) fn describe(&self, token: Token, state: TokenState) -> Described {
        Described { name: self.name(&token), token, state }
    }

    fn name(&self, token: &Token) -> String {
        token.shaped.clone().unwrap_or_else(|| self.custody.ring.opaque(token.row).to_string())
    }
}

/// Refuses a request id that was used for another token.
fn check_same(answer: &Answer, text: &str) -> Result<()> {
    let name: String = serde_json::from_str(&answer.answer).map_err(Error::internal)?;
    if name == text { Ok(()) } else { Err(answer::mismatch(answer.id)) }
}

/// Gives a token whose key is being rotated, or was, the key that takes its place, or one under a spare leaf. Its subject
/// must be locked.
async fn take_active_key(tx: &mut dyn Tx, token: &mut Token, spare: &Leaf, now: Time) -> Result<()> {
    let mut keys = tx.subject_keys(&[token.subject]).await?;
    // A correction does not begin the period anew.
    let present = keys.iter().find(|key| key.leaf == token.leaf);
    let (cohort, part) = (present.and_then(|key| key.cohort), present.and_then(|key| key.part));
    keys.retain(|key| key.class == token.class && key.cohort == cohort && key.part == part);
    let active: Vec<&SubjectKey> = keys.iter().filter(|key| key.state == KeyState::Active).collect();
    if active.iter().any(|key| key.leaf == token.leaf) {
        return Ok(());
    }
    let key = if let Some(key) = active.last() {
        (*key).clone()
    } else {
        // In a database that was restored from before a rotation.
        let leaf = spare.number();
        hold(tx, &[leaf]).await?;
        spare.spend();
        let version = keys.last().map_or(1, |key| key.version + 1);
        let key = SubjectKey::active(leaf, token.subject, token.class.clone(), version, now);
        let key = SubjectKey { cohort, part, ..key };
        tx.insert_subject_keys(std::slice::from_ref(&key)).await?;
        key
    };
    (token.leaf, token.key_version) = (key.leaf, key.version);
    Ok(())
}

/// Reads a token anew with its subject locked, so that no erasure can begin before the transaction ends.
async fn lock(tx: &mut dyn Tx, before: &Facts, text: &str) -> Result<Facts> {
    let mut subject = before.token.subject;
    loop {
        tx.lock_subjects(&[subject]).await?;
        let facts = tx.facts(&[before.token.row], &[]).await?.pop().ok_or_else(|| policy::unknown_token(text))?;
        // It may have come to be somebody else's meanwhile.
        if facts.token.subject == subject {
            return Ok(facts);
        }
        subject = facts.token.subject;
    }
}
