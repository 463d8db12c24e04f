//! Values for tokens and a purpose; every reveal leaves a durable record before it is answered.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::Vault;
use super::audit::{Entry, Touched, outcome};
use super::read::{Found, Name};
use super::write::Record;
use crate::keys::Custody;
use crate::keys::flight::Flight;
use crate::model::{
    ApprovalId, Channel, Content, Error, Facts, FieldType, Label, Reason, Redaction, Reference, Result, SubjectId,
    Time, Token, TokenRow, redact,
};
use crate::policy::{self, Action, Admission, Caller, Catalogue, Claim, Permit};
use crate::store::brake::Used;
use crate::trace;

/// How often a value is looked for again whose key goes away meanwhile.
const LOOKS: usize = 3;

/// Tokens to be revealed.
pub struct Detokenize {
    /// The tokens, as the caller wrote them.
    pub tokens: Vec<String>,
    /// The code of a purpose.
    pub purpose: String,
    /// Over which channel; those that the type of the value serves when it is `Any`.
    pub channel: Channel,
    /// How much is shown.
    pub redaction: Redaction,
    /// A ticket.
    pub justification: Option<Reference>,
    /// The rpc.
    pub by: By,
}

/// The rpc that reveals, with what it has done before that.
pub struct By {
    /// Its name.
    pub deed: &'static str,
    /// What it has looked at to find the tokens.
    pub found: Vec<Touched<'static>>,
    /// What the caller has used of other limits.
    pub used: Vec<Used>,
}

impl Default for By {
    fn default() -> Self {
        Self { deed: "Detokenize", found: Vec::new(), used: Vec::new() }
    }
}

/// What came of one token.
pub struct Revealed {
    /// The value, or why there is none.
    pub outcome: Result<Content>,
    /// Of a token that exists: what the value is, and whose.
    pub known: Option<(FieldType, SubjectId)>,
    /// How much of it is shown.
    pub shown: Redaction,
    /// Whether that uses the token up. The copy that a legal hold keeps is shown as often as that is approved.
    pub spends: bool,
}

impl Vault {
    /// Gives back the values behind tokens, each one that the caller may see for the purpose, in the order asked.
    ///
    /// The answer may leave only while its flight may land: ask it last of all.
    pub async fn detokenize(&self, caller: &Caller, ask: &Detokenize) -> Result<(Vec<Revealed>, Flight)> {
        let claim = Claim { channel: ask.channel, ..self.claim(caller, Action::Reveal) };
        let catalogue = self.admit(&claim, ask.by.deed, &ask.purpose).await?;
        let approval = self.check_brakes(caller, ask).await?;
        let approval = self.check_outlasting(&claim, ask, &catalogue, approval).await?;
        let claim = Claim { approved: approval.is_some(), ..claim };
        let flight = self.custody.flights.begin();
        let names: Vec<Name> = ask.tokens.iter().map(|text| Name::parse(text, &self.custody)).collect();
        let found = self.read_facts(&ask.purpose, names).await?;
        let revealed = Box::pin(self.give(&claim, ask, catalogue, found, approval, &flight)).await?;
        Ok((revealed, flight))
    }

    /// Refuses a caller who asks for more than it may. Answers the approval that lets it through, if it needs one.
    pub(super) async fn check_brakes(&self, caller: &Caller, ask: &Detokenize) -> Result<Option<ApprovalId>> {
        self.check_budget(caller, ask).await?;
        self.check_bulk(caller, ask).await
    }

    /// Gives back what the caller may see of values whose facts were read during the flight, once that is on record.
    pub(super) async fn give(
        &self,
        claim: &Claim<'_>,
        ask: &Detokenize,
        catalogue: Arc<Catalogue>,
        mut found: Found,
        approval: Option<ApprovalId>,
        flight: &Flight,
    ) -> Result<Vec<Revealed>> {
        let caller = claim.caller;
        // By the documents that were there when the facts were read.
        let generation = found.iter().flatten().map(|facts| facts.catalogue).max().unwrap_or(0);
        let catalogue = self.catalogue_since(catalogue, generation).await?;
        let now = self.clock.now();
        // Again, by what is known now: of purposes, and of callers who were disabled elsewhere a moment ago.
        let admission = match policy::admit(claim, &ask.purpose, &catalogue, now) {
            Ok(admission) => admission,
            Err(error) => return Err(self.record_refusal(caller, ask.by.deed, error).await),
        };
        let opening = trace::stage("key.open");
        let mut revealed: Vec<Revealed> = ask
            .tokens
            .iter()
            .zip(&found)
            .map(|(text, facts)| self.reveal(&admission, ask.redaction, text, facts.as_deref(), now))
            .collect();
        drop(opening);
        self.look_again(&admission, ask, &mut found, &mut revealed).await?;
        let mut record = record(caller, &admission, ask, &found, &revealed, now);
        record.entry.approval = approval.map(|id| id.to_string()).unwrap_or_default();
        // What could not be answered any more must not be spent.
        flight.may_land()?;
        // From here on two calls at once cannot both be shown what is left for one.
        let used = match self.brakes.take(caller, shown(&revealed), now) {
            Ok(used) => used,
            Err(refusal) => return Err(self.record_unshown(record, refusal).await),
        };
        record.used.extend(used.clone());
        let reserved = self.brakes.reservation(used);
        let spent = self.record(record).await?;
        self.refuse_unspent(&admission, ask, &found, &spent, &mut revealed).await?;
        flight.may_land()?;
        reserved.shown(shown(&revealed));
        Ok(revealed)
    }

    /// The catalogue as it was when so many documents were there, or later.
    pub(super) async fn catalogue_since(&self, known: Arc<Catalogue>, generation: i64) -> Result<Arc<Catalogue>> {
        if generation > known.generation { self.library.at_least(generation).await } else { Ok(known) }
    }

    /// The catalogue by which a caller may name a purpose. A purpose that is not known here may have been defined on
    /// another node a moment ago. A refusal is recorded.
    pub(super) async fn admit(&self, claim: &Claim<'_>, deed: &'static str, purpose: &str) -> Result<Arc<Catalogue>> {
        let mut catalogue = self.library.known();
        if catalogue.purpose(purpose).is_none() && Label::purpose(purpose).is_ok() {
            catalogue = self.library.refreshed().await?;
        }
        match policy::admit(claim, purpose, &catalogue, self.clock.now()) {
            Ok(_) => Ok(catalogue),
            Err(error) => Err(self.record_refusal(claim.caller, deed, error).await),
        }
    }

    fn reveal(
        &self,
        admission: &Admission<'_>,
        redaction: Redaction,
        text: &str,
        facts: Option<&Facts>,
        now: Time,
    ) -> Revealed {
        let Some(facts) = facts else {
            let refusal = admission.unknown(redaction, unknown(text, &self.custody), now);
            return Revealed { outcome: Err(refusal), known: None, shown: Redaction::Redacted, spends: false };
        };
        let permit = policy::decide(admission, redaction, facts, text, now);
        let shown = permit.as_ref().map_or(Redaction::Redacted, Permit::redaction);
        let spends = facts.token.single_use && permit.as_ref().is_ok_and(|permit| !permit.is_of_hold());
        let outcome =
            permit.and_then(|permit| self.open(&permit, facts.token_of(permit.is_of_hold()))).map_err(|error| {
                match error.reason {
                    Reason::SealBroken | Reason::KeyRetired => error.with("token", text),
                    _ => error,
                }
            });
        if let Err(error) = &outcome
            && error.reason == Reason::SealBroken
        {
            tracing::error!(subject = %facts.token.subject, ?error, "a stored ciphertext does not open");
        }
        // Nor is anything told of what the caller may not see.
        let hidden = matches!(&outcome, Err(error) if error.reason == Reason::NotPermitted);
        Revealed { outcome, known: (!hidden).then_some((facts.token.kind, facts.token.subject)), shown, spends }
    }

    /// Reads anew what was under a key that is gone: since its row was read, the person was erased, or the value was
    /// sealed under another key. The row tells which.
    async fn look_again(
        &self,
        admission: &Admission<'_>,
        ask: &Detokenize,
        found: &mut [Option<Arc<Facts>>],
        revealed: &mut [Revealed],
    ) -> Result<()> {
        let key_gone = |outcome: &Result<Content>| matches!(outcome, Err(error) if error.reason == Reason::KeyRetired);
        for _ in 0..LOOKS {
            let items = ask.tokens.iter().zip(found.iter_mut()).zip(revealed.iter_mut());
            let moved: Vec<_> = items.filter(|(_, revealed)| key_gone(&revealed.outcome)).collect();
            if moved.is_empty() {
                return Ok(());
            }
            let names = moved.iter().map(|((text, _), _)| Name::parse(text, &self.custody)).collect();
            let (fresh, now) = (self.read_facts(&ask.purpose, names).await?, self.clock.now());
            for (((text, facts), revealed), fresh) in moved.into_iter().zip(fresh) {
                *revealed = self.reveal(admission, ask.redaction, text, fresh.as_deref(), now);
                *facts = fresh;
            }
        }
        Ok(())
    }

    /// What goes on record of a reveal that is refused before anybody looks at a value: whom it was about all the same.
    pub(super) async fn entry_of_refusal(&self, caller: &Caller, ask: &Detokenize, reason: Reason) -> Result<Entry> {
        let names = ask.tokens.iter().map(|text| Name::parse(text, &self.custody)).collect();
        let found = self.read_facts(&ask.purpose, names).await?;
        let reason = outcome::refused(reason);
        let touched: Vec<_> = found.iter().flatten().map(|facts| Touched::facts(facts, reason.clone())).collect();
        Ok(Entry {
            purpose: ask.purpose.clone(),
            redaction: ask.redaction.name(),
            justification: ask.justification.as_ref().map(|one| one.as_str().to_owned()).unwrap_or_default(),
            unknown: (found.len() - touched.len()) as u64,
            touched: ask.by.found.iter().cloned().chain(touched).collect(),
            ..Entry::new(&caller.name, ask.by.deed, self.clock.now())
        })
    }

    /// Records that nothing is shown of what was found, and answers why.
    async fn record_unshown(&self, mut record: Record, refusal: Error) -> Error {
        record.spend.clear();
        for one in record.entry.touched.iter_mut().filter(|one| one.outcome == outcome::OK) {
            (one.outcome, one.shown) = (Cow::Owned(outcome::refused(refusal.reason)), Cow::Borrowed(""));
        }
        self.record_refused(record, refusal).await
    }

    /// Takes back single-use values that another reveal, or an earlier place in the same request, was given.
    async fn refuse_unspent(
        &self,
        admission: &Admission<'_>,
        ask: &Detokenize,
        found: &[Option<Arc<Facts>>],
        spent: &[TokenRow],
        revealed: &mut [Revealed],
    ) -> Result<()> {
        let mut spent: HashSet<TokenRow> = spent.iter().copied().collect();
        let mut late = Vec::new();
        for ((revealed, facts), text) in revealed.iter_mut().zip(found).zip(&ask.tokens) {
            let single_use = facts.as_ref().filter(|_| revealed.spends && revealed.outcome.is_ok());
            if single_use.is_some_and(|facts| !spent.remove(&facts.token.row)) {
                late.push((revealed, text));
            }
        }
        if late.is_empty() {
            return Ok(());
        }
        let names = late.iter().map(|(_, text)| Name::parse(text, &self.custody)).collect();
        let (found, now) = (self.read_facts(&ask.purpose, names).await?, self.clock.now());
        for ((revealed, text), facts) in late.into_iter().zip(found) {
            let decided = facts.map(|facts| policy::decide(admission, ask.redaction, &facts, text, now));
            revealed.outcome = match decided {
                Some(Err(refusal)) => Err(refusal),
                None => Err(policy::unknown_token(text)),
                Some(Ok(_)) => Err(Error::internal("a token was spent and is not")),
            };
        }
        Ok(())
    }

    fn open(&self, permit: &Permit, token: &Token) -> Result<Content> {
        let value = self.custody.ring.open(permit, token)?;
        Ok(match permit.redaction() {
            Redaction::PlainText => value.into_content(),
            redaction => redact(&value, redaction),
        })
    }

    /// What a caller claims to be allowed, over any channel.
    pub(super) const fn claim<'c>(&'c self, caller: &'c Caller, action: Action) -> Claim<'c> {
        Claim { authority: &self.authority, caller, action, channel: Channel::Any, approved: false }
    }
}

/// The refusal for a token that does not exist; repeats it only if it looks like one.
pub(super) fn unknown(text: &str, custody: &Custody) -> Error {
    match Name::parse(text, custody) {
        Name::Row(_) | Name::Shape(_) => policy::unknown_token(text),
        Name::Malformed => Error::new(Reason::TokenUnknown, "this is not a token of the vault"),
    }
}

/// How many values are shown, wholly or in part.
fn shown(revealed: &[Revealed]) -> u64 {
    let shows = |one: &&Revealed| one.outcome.is_ok() && one.shown != Redaction::Redacted;
    revealed.iter().filter(shows).count() as u64
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
        if revealed.spends && revealed.outcome.is_ok() {
            spend.push(facts.token.row);
        }
        let outcome = match &revealed.outcome {
            Ok(_) => Cow::Borrowed(outcome::OK),
            Err(error) => Cow::Owned(outcome::refused(error.reason)),
        };
        let other = revealed.outcome.is_ok() && revealed.shown != ask.redaction;
        let shown = if other { revealed.shown.name() } else { "" }.into();
        all.push(Touched { shown, ..Touched::facts(facts, outcome) });
    }
    let entry = Entry {
        purpose: admission.code().to_owned(),
        redaction: ask.redaction.name(),
        justification: ask.justification.as_ref().map(|reference| reference.as_str().to_owned()).unwrap_or_default(),
        unknown: (found.len() - all.len()) as u64,
        touched: ask.by.found.iter().cloned().chain(all).collect(),
        ..Entry::new(&caller.name, ask.by.deed, now)
    };
    Record { spend, used: ask.by.used.clone(), ..Record::of(entry) }
}
