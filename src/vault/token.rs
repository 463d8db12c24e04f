//! Tokens for values, and values for tokens and a purpose.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Vault;
use super::audit::{Entry, Touched};
use super::read::Name;
use super::write::{NewToken, NewTokens, Owner, Record, Tokenized, Write, Written};
use crate::keys::checkpoint::hex;
use crate::keys::index::{self, Entry as IndexEntry};
use crate::keys::Place;
use crate::model::{
    Content, Error, Facts, FieldType, Label, Reason, Redaction, Reference, RequestId, Result, Subject, SubjectId, Time,
    Token, TokenFormat, TokenRow, TokenState, Value, redact, shape,
};
use crate::policy::{self, Admission, Caller, Change, Permit};
use crate::store::key::SubjectKey;

/// The most values or tokens that one request may hold.
pub const MOST: usize = 1000;

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
    pub value: Value,
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

/// Tokens to be revealed.
pub struct Detokenize {
    /// The tokens, as the caller wrote them.
    pub tokens: Vec<String>,
    /// The code of a purpose.
    pub purpose: String,
    /// How much is shown.
    pub redaction: Redaction,
    /// A ticket.
    pub justification: Option<Reference>,
}

/// What came of one token.
pub struct Revealed {
    /// The value, or why there is none.
    pub outcome: Result<Content>,
    /// Of a token that exists: what the value is, and whose.
    pub known: Option<(FieldType, SubjectId)>,
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
    pub async fn tokenize(&self, caller: &Caller, ask: Tokenize) -> Result<(Option<SubjectId>, Vec<Described>)> {
        let now = self.clock.now();
        for (at, field) in ask.fields.iter().enumerate() {
            if field.expires_at.is_some_and(|time| time <= now) {
                return Err(Error::invalid(format!("fields[{at}].expire_time"), "must lie in the future"));
            }
        }
        let (owner, keys, leaves) = self.owner_with_keys(&ask, now).await?;
        let subject = match &owner {
            Owner::New(subject) => subject.id,
            Owner::Known(id) => *id,
        };
        let mut fields = Vec::with_capacity(ask.fields.len());
        for (at, field) in ask.fields.into_iter().enumerate() {
            let sealed = self.seal_new(subject, &leaves, &ask.source, field, now);
            fields.push(sealed.map_err(|error| error.within(&format!("fields[{at}]")))?);
        }
        let new = NewTokens { caller: caller.name.clone(), deed: "Tokenize", request: ask.request, owner, keys, fields };
        let Tokenized { subject, tokens } = self.write_tokens(new).await?;
        Ok((subject, tokens.into_iter().map(|(token, state)| self.describe(token, state)).collect()))
    }

    pub(super) async fn write_tokens(&self, new: NewTokens) -> Result<Tokenized> {
        match self.writes.call(Write::Tokens(Box::new(new))).await?? {
            Written::Tokens(tokenized) => Ok(tokenized),
            Written::Recorded(_) => Err(Error::internal("a write was answered as a record")),
        }
    }

    /// Whose values these are, the keys that are new, and for each class the leaf and version of its key.
    async fn owner_with_keys(&self, ask: &Tokenize, now: Time) -> Result<(Owner, Vec<SubjectKey>, Leaves)> {
        let (owner, subject, mut leaves) = match ask.subject {
            Some(id) => (Owner::Known(id), id, self.known_leaves(id).await?),
            None => {
                let id = SubjectId::new(now, self.custody.ring.random());
                let kind = Label::stored("customer".to_owned());
                (Owner::New(Subject::open(id, kind, None, ask.source.clone(), true, now)), id, Leaves::new())
            }
        };
        let mut keys = Vec::new();
        for field in &ask.fields {
            if !leaves.contains_key(field.class.as_str()) {
                let leaf = self.custody.take_leaf().await?;
                let class = field.class.as_str().to_owned();
                leaves.insert(class.clone(), (leaf, 1));
                keys.push(SubjectKey { leaf, subject, class, version: 1, created_at: now });
            }
        }
        Ok((owner, keys, leaves))
    }

    async fn known_leaves(&self, subject: SubjectId) -> Result<Leaves> {
        let mut keys = self.custody.store().read().await?.subject_keys(&[subject]).await?;
        keys.sort_by_key(|key| key.version);
        Ok(keys.into_iter().map(|key| (key.class, (key.leaf, key.version))).collect())
    }

    fn seal_new(
        &self,
        subject: SubjectId,
        leaves: &Leaves,
        source: &Label,
        field: Field,
        now: Time,
    ) -> Result<NewToken> {
        let shaped = match field.format {
            TokenFormat::Opaque => None,
            TokenFormat::Shaped => Some(shape(&field.value, self.custody.ring.random())?),
        };
        let class = field.class.as_str().to_owned();
        let &(leaf, key_version) = leaves.get(&class).ok_or_else(|| Error::internal("a class without a key"))?;
        let mut token = Token {
            row: TokenRow::new(now, self.custody.ring.random()),
            subject,
            kind: field.value.kind(),
            class,
            format: field.format,
            shaped,
            tags: field.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            expires_at: field.expires_at,
            single_use: field.single_use,
            created_at: now,
            leaf,
            key_version,
            source: source.as_str().to_owned(),
            version: 1,
            spent_at: None,
            deleted_at: None,
            sealed: None,
        };
        token.sealed = Some(self.custody.ring.seal(&Place::of(&token), &field.value)?);
        let spot = self.spot(&field.value);
        let deduplicate = field.deduplicate && !field.single_use && field.expires_at.is_none();
        Ok(NewToken { token, spot, deduplicate, value: Arc::new(field.value) })
    }

    fn spot(&self, value: &Value) -> Option<index::Spot> {
        let normal = value.normal()?;
        Some(index::spot(&self.custody.ring, self.custody.buckets, value.kind(), normal))
    }

    /// Gives back the values behind tokens, each one that the caller may see for the purpose, in the order asked.
    pub async fn detokenize(&self, caller: &Caller, ask: &Detokenize) -> Result<Vec<Revealed>> {
        let admission = match policy::admit(caller, &ask.purpose, &self.purposes) {
            Ok(admission) => admission,
            Err(error) => return Err(self.record_refusal(caller, "Detokenize", error).await),
        };
        let flight = self.custody.flights.begin();
        let names: Vec<Name> = ask.tokens.iter().map(|text| Name::parse(text, &self.custody)).collect();
        let found = self.reads.call(names).await??;
        let now = self.clock.now();
        let mut revealed: Vec<Revealed> = ask
            .tokens
            .iter()
            .zip(&found)
            .map(|(text, facts)| self.reveal(&admission, ask.redaction, text, facts.as_deref(), now))
            .collect();
        let record = record(caller, &admission, ask, &found, &revealed, now);
        let spent = self.record(record).await?;
        refuse_unspent(&mut revealed, &found, &spent);
        flight.may_land()?;
        Ok(revealed)
    }

    fn reveal(
        &self,
        admission: &Admission<'_>,
        redaction: Redaction,
        text: &str,
        facts: Option<&Facts>,
        now: Time,
    ) -> Revealed {
        let Some(facts) = facts else { return Revealed { outcome: Err(unknown(text, &self.custody)), known: None } };
        let outcome = policy::decide(admission, redaction, facts, text, now)
            .and_then(|permit| self.open(&permit, &facts.token))
            .map_err(|error| if error.reason == Reason::SealBroken { error.with("token", text) } else { error });
        if let Err(error) = &outcome
            && error.reason == Reason::SealBroken
        {
            tracing::error!(subject = %facts.token.subject, ?error, "a stored ciphertext does not open");
        }
        Revealed { outcome, known: Some((facts.token.kind, facts.token.subject)) }
    }

    fn open(&self, permit: &Permit, token: &Token) -> Result<Content> {
        let value = self.custody.ring.open(permit, token)?;
        Ok(match permit.redaction() {
            Redaction::PlainText => value.into_content(),
            redaction => redact(&value, redaction),
        })
    }

    /// Finds tokens by exact value, among those that the purpose may read.
    pub async fn find_tokens(&self, caller: &Caller, value: Value, purpose: &str) -> Result<Vec<Described>> {
        let admission = match policy::admit(caller, purpose, &self.purposes) {
            Ok(admission) => admission,
            Err(error) => return Err(self.record_refusal(caller, "FindTokens", error).await),
        };
        let spot = self.spot(&value).ok_or_else(|| {
            Error::invalid("type", "values of this type, or as long as this one, cannot be searched for")
        })?;
        drop(value);
        let flight = self.custody.flights.begin();
        let mut tx = self.custody.store().read().await?;
        let entries = index::find(&self.custody.ring, &mut *tx, &[spot]).await?;
        let rows: Vec<TokenRow> = entries.iter().map(|entry| entry.row).collect();
        let mut found = tx.facts(&rows, &[]).await?;
        drop(tx);
        let now = self.clock.now();
        found.retain(|facts| policy::decide(&admission, Redaction::Redacted, facts, "", now).is_ok());
        found.sort_by_key(|facts| facts.token.row);
        let touched = found.iter().map(|facts| touched(&facts.token, "OK".to_owned())).collect();
        let entry = Entry { purpose: purpose.to_owned(), touched, ..entry(caller, "FindTokens", now) };
        self.record(Record { entry, spend: Vec::new() }).await?;
        flight.may_land()?;
        Ok(found.into_iter().map(|facts| self.describe(facts.token, TokenState::Active)).collect())
    }

    /// Describes a token, never its value.
    pub async fn token(&self, text: &str) -> Result<Described> {
        let facts = self.facts(text).await?;
        let state = policy::token_state(&facts, self.clock.now());
        if state == TokenState::Deleted {
            return Err(policy::unknown_token(text));
        }
        Ok(self.describe(facts.token.clone(), state))
    }

    async fn facts(&self, text: &str) -> Result<Arc<Facts>> {
        let found = self.reads.call(vec![Name::parse(text, &self.custody)]).await??;
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
        if tx.subjects(&[subject]).await?.is_empty() {
            return Err(super::subject::unknown(subject));
        }
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

    /// Replaces the value behind a token. The token stays.
    pub async fn update_token(
        &self,
        caller: &Caller,
        text: &str,
        content: Content,
        source: &Label,
        etag: Option<u64>,
        request: Option<RequestId>,
    ) -> Result<Described> {
        if let Some(answer) = self.answered(caller, "UpdateToken", request).await? {
            return self.again(&answer).await;
        }
        let seen = self.facts(text).await?;
        let value = Value::parse(seen.token.kind, content)?;
        self.record_asked(caller, "UpdateToken", seen.token.subject, Some(seen.token.row)).await?;
        let mut tx = self.custody.store().write().await?;
        let before = lock(&mut *tx, &seen, text).await?;
        let mut facts = before.clone();
        policy::check_change(facts.state, facts.profiling, Change::Correct(facts.token.kind))
            .map_err(|error| policy::tell_erasure(error, &facts))?;
        self.check_kept(&facts, text)?;
        super::subject::check_etag(etag, facts.token.version)?;
        let new = self.spot(&value);
        facts.token.version += 1;
        source.as_str().clone_into(&mut facts.token.source);
        facts.token.sealed = Some(self.custody.ring.seal(&Place::of(&facts.token), &value)?);
        self.take_out_of_index(&mut *tx, &before.token).await?;
        if let Some(spot) = new {
            let entry = IndexEntry { spot, row: facts.token.row };
            index::insert(&self.custody.ring, &mut *tx, &[entry]).await?;
        }
        tx.update_tokens(std::slice::from_ref(&facts.token)).await?;
        self.remember(&mut *tx, caller, "UpdateToken", request, &facts.token).await?;
        tx.commit().await?;
        Ok(self.describe(facts.token, TokenState::Active))
    }

    /// Deletes a token and its value from the live vault.
    pub async fn delete_token(&self, caller: &Caller, text: &str, request: Option<RequestId>) -> Result<()> {
        if self.answered(caller, "DeleteToken", request).await?.is_some() {
            return Ok(());
        }
        let seen = self.facts(text).await?;
        self.record_asked(caller, "DeleteToken", seen.token.subject, Some(seen.token.row)).await?;
        let mut tx = self.custody.store().write().await?;
        let mut facts = lock(&mut *tx, &seen, text).await?;
        policy::check_change(facts.state, facts.profiling, Change::Delete)
            .map_err(|error| policy::tell_erasure(error, &facts))?;
        if facts.token.deleted_at.is_some() {
            return Err(policy::unknown_token(text));
        }
        self.take_out_of_index(&mut *tx, &facts.token).await?;
        facts.token.deleted_at = Some(self.clock.now());
        facts.token.sealed = None;
        tx.update_tokens(std::slice::from_ref(&facts.token)).await?;
        self.remember(&mut *tx, caller, "DeleteToken", request, &facts.token).await?;
        tx.commit().await
    }

    /// Removes a token's entry from the search index. Where it was is told by its value; if that does not open, every
    /// bucket is gone through.
    async fn take_out_of_index(&self, tx: &mut dyn crate::store::Tx, token: &Token) -> Result<()> {
        let buckets = match self.custody.spot_of(token) {
            Ok(spot) => spot.map(|spot| spot.bucket).into_iter().collect(),
            Err(error) if error.reason == Reason::SealBroken => (0..self.custody.buckets).collect(),
            Err(error) => return Err(error),
        };
        index::remove(&self.custody.ring, tx, buckets, token.row).await
    }

    /// Whether a token still has a value that can be corrected.
    fn check_kept(&self, facts: &Facts, text: &str) -> Result<()> {
        match policy::token_state(facts, self.clock.now()) {
            TokenState::Deleted | TokenState::Erased => Err(policy::unknown_token(text)),
            TokenState::Active | TokenState::Expired => Ok(()),
            TokenState::Spent => Err(Error::new(Reason::TokenSpent, "the single-use token has been revealed before")
                .with("token", text)),
        }
    }

    /// Describes the token of an earlier answer as it is now.
    async fn again(&self, answer: &crate::store::request::Answer) -> Result<Described> {
        let name: String = serde_json::from_str(&answer.answer).map_err(Error::internal)?;
        self.token(&name).await
    }

    async fn remember(
        &self,
        tx: &mut dyn crate::store::Tx,
        caller: &Caller,
        deed: &'static str,
        request: Option<RequestId>,
        token: &Token,
    ) -> Result<()> {
        let name = serde_json::to_string(&self.name(token)).map_err(Error::internal)?;
        self.remember_answer(tx, caller, deed, request, Some(token.subject), name).await
    }

    /// Records that a change was asked for, before it is made: nothing changes unrecorded.
    pub(super) async fn record_asked(
        &self,
        caller: &Caller,
        deed: &'static str,
        subject: SubjectId,
        row: Option<TokenRow>,
    ) -> Result<()> {
        let row = row.map(|row| hex(row.as_bytes()));
        let touched = vec![Touched { row, subject: subject.to_string(), outcome: "ASKED".to_owned() }];
        let entry = Entry { touched, ..entry(caller, deed, self.clock.now()) };
        self.record(Record { entry, spend: Vec::new() }).await.map(drop)
    }

    /// Makes a record durable; answers the single-use tokens that it spent.
    pub(super) async fn record(&self, record: Record) -> Result<Vec<TokenRow>> {
        let unavailable = |error: Error| {
            if error.reason == Reason::Overloaded {
                return error;
            }
            Error::new(Reason::AuditUnavailable, "the record of this call could not be made durable; try again")
                .because(error)
        };
        let written = self.writes.call(Write::Record(Box::new(record))).await.map_err(Error::from).flatten();
        match written.map_err(unavailable)? {
            Written::Recorded(spent) => Ok(spent),
            Written::Tokens(_) => Err(Error::internal("a record was answered as a write")),
        }
    }

    /// Records that a whole call was refused, and answers the refusal; or that even this could not be recorded.
    async fn record_refusal(&self, caller: &Caller, deed: &'static str, error: Error) -> Error {
        let now = self.clock.now();
        let entry = Entry { refused: Some(format!("{:?}", error.reason)), ..entry(caller, deed, now) };
        match self.record(Record { entry, spend: Vec::new() }).await {
            Ok(_) => error,
            Err(unrecorded) => unrecorded,
        }
    }

    fn describe(&self, token: Token, state: TokenState) -> Described {
        Described { name: self.name(&token), token, state }
    }

    fn name(&self, token: &Token) -> String {
        token.shaped.clone().unwrap_or_else(|| self.custody.ring.opaque(token.row).to_string())
    }
}

/// For each retention class, the leaf of its key and the key's version.
type Leaves = HashMap<String, (u32, u32)>;

/// Reads a token anew with its subject locked, so that no erasure can begin before the transaction ends.
async fn lock(tx: &mut dyn crate::store::Tx, before: &Facts, text: &str) -> Result<Facts> {
    tx.lock_subjects(&[before.token.subject]).await?;
    let mut facts = tx.facts(&[before.token.row], &[]).await?;
    facts.pop().ok_or_else(|| policy::unknown_token(text))
}

/// The refusal for a token that does not exist; repeats it only if it looks like one.
fn unknown(text: &str, custody: &crate::keys::Custody) -> Error {
    match Name::parse(text, custody) {
        Name::Row(_) | Name::Shape(_) => policy::unknown_token(text),
        Name::Malformed => Error::new(Reason::TokenUnknown, "this is not a token of the vault"),
    }
}

fn entry(caller: &Caller, deed: &'static str, now: Time) -> Entry {
    Entry { time: now.to_string(), caller: caller.name.clone(), deed, ..Entry::default() }
}

fn touched(token: &Token, outcome: String) -> Touched {
    Touched { row: Some(hex(token.row.as_bytes())), subject: token.subject.to_string(), outcome }
}

fn record(
    caller: &Caller,
    admission: &Admission<'_>,
    ask: &Detokenize,
    found: &[Option<Arc<Facts>>],
    revealed: &[Revealed],
    now: Time,
) -> Record {
    let (mut all, mut spend) = (Vec::new(), Vec::new());
    for (facts, revealed) in found.iter().zip(revealed) {
        let Some(facts) = facts else { continue };
        if facts.token.single_use && revealed.outcome.is_ok() {
            spend.push(facts.token.row);
        }
        let outcome = match &revealed.outcome {
            Ok(_) => "OK".to_owned(),
            Err(error) => format!("{:?}", error.reason),
        };
        all.push(touched(&facts.token, outcome));
    }
    let entry = Entry {
        purpose: admission.code().to_owned(),
        redaction: redaction_name(ask.redaction),
        justification: ask.justification.as_ref().map(|reference| reference.as_str().to_owned()).unwrap_or_default(),
        unknown: (found.len() - all.len()) as u64,
        touched: all,
        ..entry(caller, "Detokenize", now)
    };
    Record { entry, spend }
}

const fn redaction_name(redaction: Redaction) -> &'static str {
    match redaction {
        Redaction::PlainText => "PLAIN_TEXT",
        Redaction::Masked => "MASKED",
        Redaction::LastFour => "LAST_FOUR",
        Redaction::Redacted => "REDACTED",
    }
}

/// Takes back single-use values that another reveal, or an earlier place in the same request, was given.
fn refuse_unspent(revealed: &mut [Revealed], found: &[Option<Arc<Facts>>], spent: &[TokenRow]) {
    let mut spent: HashSet<TokenRow> = spent.iter().copied().collect();
    for (revealed, facts) in revealed.iter_mut().zip(found) {
        let Some(facts) = facts.as_ref().filter(|facts| facts.token.single_use) else { continue };
        if revealed.outcome.is_ok() && !spent.remove(&facts.token.row) {
            revealed.outcome = Err(Error::new(Reason::TokenSpent, "the single-use token has been revealed before")
                .with("subject", facts.token.subject));
        }
    }
}
