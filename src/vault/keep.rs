//! Keeping values within a shared transaction: what is read for all writes at once, what each may do, what is stored.

mod call;
mod event;
mod part;
mod record;
mod suppression;

use std::collections::{BTreeSet, HashMap, HashSet};

use super::answer;
use super::audit::Entry;
use super::write::{NewToken, NewTokens, Objection, Owner, Tokenized, Write, Written};
use crate::keys::checkpoint::{hex, unhex};
use crate::keys::doubt::Doubt;
use crate::keys::index::{self, Spot};
use crate::keys::leaves::{self, Leaf};
use crate::keys::{Custody, Place};
use crate::model::{
    ErasureId, Error, Facts, KeyState, Reason, RequestId, Result, Standing, Subject, SubjectId, SubjectState, Time,
    Token, TokenRow, TokenState, shape,
};
use crate::policy::{self, Change};
use crate::store::Tx;
use crate::store::index::Generation;
use crate::store::key::SubjectKey;
use crate::store::request::Answer;
use crate::store::suppression::Name;

/// What a transaction has found and made, while it goes through its writes.
struct Keeping<'c> {
    custody: &'c Custody,
    now: Time,
    answered: HashMap<(String, RequestId), Answer>,
    subjects: HashMap<SubjectId, Subject>,
    /// The keys of those subjects, as they are while the subjects are locked.
    keys: HashMap<SubjectId, Vec<SubjectKey>>,
    /// Leaves of new keys that no change of the root can take along before the commit.
    held: HashSet<u32>,
    /// The generations of the index that are written.
    generations: Vec<Generation>,
    /// When the scheduled erasures of these subjects are due.
    due: HashMap<ErasureId, Time>,
    /// Tokens that a value may be deduplicated to, by its spot: those in the database, then those just made.
    same: HashMap<Spot, Vec<Token>>,
    /// Tokens of earlier answers.
    earlier: HashMap<TokenRow, Facts>,
    /// Those of the values that are on the suppression list.
    suppressed: HashSet<Name>,
    /// Those that are to be.
    new_names: Vec<Name>,
    /// People whom the vault had, and who were found to object to direct marketing.
    recognised: HashSet<SubjectId>,
    new_subjects: Vec<Subject>,
    new_keys: Vec<SubjectKey>,
    new_tokens: Vec<Token>,
    new_entries: Vec<index::Entry>,
    new_answers: Vec<Answer>,
    calls: call::Calls,
    events: event::Events,
    /// What is to be recorded: what was kept, and who was told of a token that was there already, which is a lookup.
    found: Vec<Entry>,
}

/// Keeps the values of all writes; answers each by its position, what is to be recorded of it, and what is in doubt until
/// the commit.
pub async fn keep_tokens(
    custody: &Custody,
    tx: &mut dyn Tx,
    writes: &[&Write],
    now: Time,
) -> Result<(HashMap<usize, Result<Written>>, Vec<Entry>, Option<Doubt>)> {
    if writes.iter().all(|write| matches!(write, Write::Record(_))) {
        return Ok((HashMap::new(), Vec::new(), None));
    }
    let news: Vec<&NewTokens> = writes.iter().flat_map(|write| write.tokens()).collect();
    let replaced: Vec<&Token> = writes.iter().flat_map(|write| write.replaced()).collect();
    let mut keeping = Keeping::read(custody, tx, &news, &replaced, now).await?;
    keeping.read_calls(tx, writes).await?;
    keeping.read_events(tx, writes).await?;
    let plan = |(at, write): (usize, &&Write)| match write {
        Write::Call(new) => Some((at, keeping.plan_call(new).map(|()| Written::Call))),
        Write::Event(new) => Some((at, keeping.plan_event(new).map(Written::Event))),
        Write::Part(new) => Some((at, keeping.plan_part(new).map(|()| Written::Part))),
        Write::Record(_) => None,
        Write::Tokens(new) => Some((at, keeping.plan(new).map(Written::Tokens))),
    };
    let mut outcomes: HashMap<usize, Result<Written>> = writes.iter().enumerate().filter_map(plan).collect();
    let (redrawn, doubt) = keeping.store(tx, &news).await?;
    for written in outcomes.values_mut().flatten() {
        let Written::Tokens(tokenized) = written else { continue };
        for (token, _) in &mut tokenized.tokens {
            if let Some(shape) = redrawn.get(&token.row) {
                token.shaped = Some(shape.clone());
            }
        }
    }
    Ok((outcomes, keeping.found, doubt))
}

impl<'c> Keeping<'c> {
    async fn read(
        custody: &'c Custody,
        tx: &mut dyn Tx,
        news: &[&NewTokens],
        replaced: &[&Token],
        now: Time,
    ) -> Result<Self> {
        let requests: Vec<_> = news.iter().filter_map(|new| Some((new.caller.clone(), new.request?))).collect();
        let answered: HashMap<_, _> = tx
            .answers(&requests)
            .await?
            .into_iter()
            .map(|answer| ((answer.caller.clone(), answer.id), answer))
            .collect();
        let mut known: Vec<SubjectId> = news
            .iter()
            .filter_map(|new| match new.owner {
                Owner::Known(id) => Some(id),
                Owner::New(_) => None,
            })
            .chain(replaced.iter().map(|token| token.subject))
            .collect();
        known.sort_unstable();
        known.dedup();
        let subjects = tx.lock_subjects(&known).await?;
        let scheduled = subjects.iter().filter(|subject| subject.state == SubjectState::Scheduled);
        let due = super::erasure::due(tx, &scheduled.filter_map(|subject| subject.erasure).collect::<Vec<_>>()).await?;
        let subjects = subjects.into_iter().map(|subject| (subject.id, subject)).collect();
        let mut keys: HashMap<SubjectId, Vec<SubjectKey>> = HashMap::new();
        if !known.is_empty() {
            for key in tx.subject_keys(&known).await? {
                keys.entry(key.subject).or_default().push(key);
            }
        }
        let fresh: Vec<u32> = news.iter().flat_map(|new| &new.keys).map(|key| key.leaf).collect();
        let held = tx.hold_leaves(&fresh).await?.into_iter().collect();
        let mut keeping = Self {
            custody,
            now,
            answered,
            subjects,
            keys,
            held,
            generations: custody.generations(),
            due,
            same: HashMap::new(),
            earlier: HashMap::new(),
            suppressed: HashSet::new(),
            new_names: Vec::new(),
            recognised: HashSet::new(),
            new_subjects: Vec::new(),
            new_keys: Vec::new(),
            new_tokens: Vec::new(),
            new_entries: Vec::new(),
            new_answers: Vec::new(),
            calls: call::Calls::default(),
            events: event::Events::default(),
            found: Vec::new(),
        };
        keeping.lock_index(tx, news, replaced).await?;
        keeping.read_same(tx, news).await?;
        // Once the buckets are locked: whoever puts one of these values on the list has done so, or waits.
        let names: Vec<Name> = news.iter().flat_map(|new| &new.fields).filter_map(|field| field.name).collect();
        keeping.suppressed = tx.suppressed(&names).await?;
        keeping.read_earlier(tx).await?;
        Ok(keeping)
    }

    /// Locks all buckets that will be written, in one order: somebody else may be locking some of them too. Until the
    /// commit nobody else can add a token to them.
    async fn lock_index(&mut self, tx: &mut dyn Tx, news: &[&NewTokens], replaced: &[&Token]) -> Result<()> {
        let fields: Vec<&NewToken> = news.iter().flat_map(|new| &new.fields).collect();
        if replaced.is_empty() && fields.iter().all(|field| field.value.normal().is_none()) {
            return Ok(());
        }
        let custody = self.custody;
        let touched = |generations: &[Generation]| {
            let mut buckets = BTreeSet::new();
            for field in &fields {
                let known = field.spots.iter().copied();
                buckets.extend(known.filter(|spot| generations.iter().any(|generation| spot.is_in(generation))));
                let missing = generations.iter().filter(|generation| !field.is_in(generation)).copied();
                buckets.extend(custody.spots_near(&field.value, &missing.collect::<Vec<_>>())?);
            }
            let mut buckets: BTreeSet<u32> = buckets.into_iter().map(|spot| spot.bucket).collect();
            for token in replaced {
                buckets.extend(custody.buckets_of_token(token, generations)?);
            }
            Ok(buckets)
        };
        self.generations = index::lock(tx, &self.generations, touched).await?;
        custody.see_generations(&self.generations);
        Ok(())
    }

    /// The spot by which a value is found again, when it is searchable.
    fn spot(&self, field: &NewToken) -> Result<Option<Spot>> {
        let Some(current) = index::current(&self.generations) else { return Ok(None) };
        Ok(spots(self.custody, field, std::slice::from_ref(current))?.pop())
    }

    /// Reads the tokens that deduplicated values may be answered with.
    async fn read_same(&mut self, tx: &mut dyn Tx, news: &[&NewTokens]) -> Result<()> {
        let mut spots = BTreeSet::new();
        for field in news.iter().flat_map(|new| &new.fields).filter(|field| field.deduplicate) {
            spots.extend(self.spot(field)?);
        }
        if spots.is_empty() {
            return Ok(());
        }
        let entries = index::find_locked(&self.custody.ring, tx, &spots).await?;
        let spot_of: HashMap<TokenRow, Spot> = entries.iter().map(|entry| (entry.row, entry.spot)).collect();
        let rows: Vec<TokenRow> = entries.iter().map(|entry| entry.row).collect();
        let mut found = tx.facts(&rows, &[]).await?;
        found.sort_by_key(|facts| facts.token.row);
        for facts in found {
            let reusable = facts.state == SubjectState::Active
                && policy::token_state(&facts, self.now) == TokenState::Active
                && !facts.token.single_use
                && facts.token.expires_at.is_none();
            if let Some(spot) = spot_of.get(&facts.token.row).filter(|_| reusable) {
                self.same.entry(*spot).or_default().push(facts.token);
            }
        }
        Ok(())
    }

    async fn read_earlier(&mut self, tx: &mut dyn Tx) -> Result<()> {
        let mut rows = Vec::new();
        // The answers of other deeds are no rows. Whoever asks again with the id of one is refused when it comes to that.
        for found in self.answered.values().filter_map(|answer| rows_of(answer).ok()) {
            rows.extend(found);
        }
        let facts = tx.facts(&rows, &[]).await?;
        self.earlier = facts.into_iter().map(|facts| (facts.token.row, facts)).collect();
        Ok(())
    }

    /// Decides what one write makes. Refusals are the write's own; nothing of it is kept then.
    fn plan(&mut self, new: &NewTokens) -> Result<Tokenized> {
        if let Some(answer) = new.request.and_then(|id| self.answered.get(&(new.caller.clone(), id))) {
            let repeated = self.repeat(new, answer)?;
            self.record_repeated(new, &repeated);
            return Ok(repeated);
        }
        self.admit(new)?;
        let (tokenized, planned) = self.make(new)?;
        self.record_kept(new, &planned);
        self.remember(new, &tokenized)?;
        Ok(tokenized)
    }

    /// Refuses what may not be kept, or not under these keys.
    fn admit(&self, new: &NewTokens) -> Result<()> {
        self.check_owner(new)?;
        if new.keys.iter().all(|key| self.held.contains(&key.leaf)) { Ok(()) } else { Err(leaves::given_up()) }
    }

    /// Makes the tokens that are not there yet; answers all of them, and which are new.
    fn make(&mut self, new: &NewTokens) -> Result<(Tokenized, Vec<(Token, bool)>)> {
        let planned: Vec<(Token, bool)> =
            new.fields.iter().map(|field| self.reuse_or_make(new, field)).collect::<Result<_>>()?;
        let opens = new.told || planned.is_empty() || planned.iter().any(|(_, made)| *made);
        let subject = match &new.owner {
            Owner::Known(id) => Some(*id),
            Owner::New(subject) => opens.then_some(subject.id),
        };
        let objection = self.heed_suppression(new, &planned);
        if let Owner::New(subject) = &new.owner
            && opens
        {
            let mut subject = subject.clone();
            if objection > Objection::None {
                subject.recognise(self.now);
            }
            self.new_subjects.push(subject);
        }
        let used: HashSet<u32> = planned.iter().filter(|(_, made)| *made).map(|(token, _)| token.leaf).collect();
        new.leaves.iter().filter(|leaf| used.contains(&leaf.number())).for_each(Leaf::spend);
        self.new_keys.extend(new.keys.iter().filter(|key| used.contains(&key.leaf)).cloned());
        let tokens: Vec<_> = planned.iter().map(|(token, _)| (token.clone(), TokenState::Active)).collect();
        Ok((Tokenized { subject, tokens, objection }, planned))
    }

    fn check_owner(&self, new: &NewTokens) -> Result<()> {
        let Owner::Known(id) = new.owner else { return Ok(()) };
        let unknown = || Error::new(Reason::SubjectUnknown, "there is no such subject").with("subject", id);
        let subject = self.subjects.get(&id).ok_or_else(unknown)?;
        for (at, field) in new.fields.iter().enumerate() {
            let change = Change::Add(field.token.kind);
            policy::check_change(subject.state, subject.profiling, change).map_err(|error| {
                let error = subject.tell(error).at(format!("fields[{at}]"));
                let due = subject.erasure.and_then(|erasure| self.due.get(&erasure));
                due.iter().fold(error, |error, time| error.with("execute_time", time))
            })?;
        }
        Ok(())
    }

    /// The token for one value, and whether it is a new one.
    fn reuse_or_make(&mut self, new: &NewTokens, field: &NewToken) -> Result<(Token, bool)> {
        let scope = match &new.owner {
            Owner::Known(id) => Some(*id),
            Owner::New(subject) => new.told.then_some(subject.id),
        };
        let made = self.under_active_key(new, field)?;
        let known = scope.and_then(|id| self.keys.get(&id)).map(Vec::as_slice).unwrap_or_default();
        let of_month = |leaf: u32| {
            let mut keys = known.iter().chain(&new.keys).chain(&self.new_keys);
            keys.any(|key| key.leaf == leaf && key.cohort == field.cohort)
        };
        if let Some(spot) = self.spot(field)?.filter(|_| field.deduplicate) {
            let known = self.same.entry(spot).or_default();
            let fits = |token: &&Token| {
                token.class == field.token.class
                    && token.format == field.token.format
                    && scope.is_none_or(|subject| token.subject == subject)
                    // Or it would end sooner than what is told now.
                    && (!new.told || of_month(token.leaf))
            };
            if let Some(token) = known.iter().find(fits) {
                return Ok((token.clone(), false));
            }
            known.push(made.clone());
        }
        let places = spots(self.custody, field, &self.generations)?;
        self.new_entries.extend(places.into_iter().map(|spot| index::Entry { spot, row: made.row }));
        self.new_tokens.push(made.clone());
        Ok((made, true))
    }

    /// The token as it was sealed, unless the key that was taken for it is being rotated: then it is sealed again. No
    /// value may come under a leaf that is about to die.
    fn under_active_key(&self, new: &NewTokens, field: &NewToken) -> Result<Token> {
        let Owner::Known(subject) = new.owner else { return Ok(field.token.clone()) };
        let keys = self.keys.get(&subject).map(Vec::as_slice).unwrap_or_default();
        // A key that was given a month meanwhile is none for what comes now.
        let active =
            |key: &&SubjectKey| key.state == KeyState::Active && key.cohort == field.cohort && key.part == new.part;
        let fresh = new.keys.iter().any(|key| key.leaf == field.token.leaf);
        if fresh || keys.iter().filter(active).any(|key| key.leaf == field.token.leaf) {
            return Ok(field.token.clone());
        }
        let key = keys.iter().filter(active).rfind(|key| key.class == field.token.class);
        let key = key.ok_or_else(leaves::given_up)?;
        let mut token = Token { leaf: key.leaf, key_version: key.version, ..field.token.clone() };
        token.sealed = Some(self.custody.ring.seal(&Place::of(&token), &field.value)?);
        Ok(token)
    }

    /// The answer that the same request got before.
    fn repeat(&self, new: &NewTokens, answer: &Answer) -> Result<Tokenized> {
        let same_owner = match &new.owner {
            Owner::Known(id) => answer.subject == Some(*id),
            Owner::New(_) => true,
        };
        if answer.deed != new.deed || !same_owner {
            return Err(answer::mismatch(answer.id));
        }
        let lost = || Error::internal("a token of an earlier answer is gone");
        let tokens = rows_of(answer)?
            .iter()
            .map(|row| {
                let facts = self.earlier.get(row).ok_or_else(lost)?;
                Ok((facts.token.clone(), policy::token_state(facts, self.now)))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut facts = rows_of(answer)?.into_iter().filter_map(|row| self.earlier.get(&row));
        let objects = facts.any(|facts| facts.suppressed_at.is_some() && Some(facts.token.subject) == answer.subject);
        let objection = if objects { Objection::Known } else { Objection::None };
        Ok(Tokenized { subject: answer.subject, tokens, objection })
    }

    fn remember(&mut self, new: &NewTokens, tokenized: &Tokenized) -> Result<()> {
        let Some(id) = new.request else { return Ok(()) };
        let Tokenized { subject, tokens, objection } = tokenized;
        let rows: Vec<String> = tokens.iter().map(|(token, _)| hex(token.row.as_bytes())).collect();
        let answer = Answer {
            caller: new.caller.clone(),
            id,
            deed: new.deed.to_owned(),
            subject: *subject,
            answer: serde_json::to_string(&rows).map_err(Error::internal)?,
            created_at: self.now,
        };
        // Two requests of the same id may share this transaction: the second gets the first one's answer as well.
        for (token, _) in tokens {
            let suppressed_at = (*objection > Objection::None).then_some(self.now);
            self.earlier.entry(token.row).or_insert_with(|| Facts { suppressed_at, ..fresh(token) });
        }
        self.answered.insert((new.caller.clone(), id), answer.clone());
        self.new_answers.push(answer);
        Ok(())
    }

    /// Writes what was decided. Answers the shapes that had to be drawn again, and what is in doubt until the commit.
    async fn store(
        &mut self,
        tx: &mut dyn Tx,
        news: &[&NewTokens],
    ) -> Result<(HashMap<TokenRow, String>, Option<Doubt>)> {
        tx.insert_subjects(&self.new_subjects).await?;
        tx.insert_subject_keys(&self.new_keys).await?;
        self.store_suppression(tx).await?;
        let redrawn = self.insert_tokens(tx, news).await?;
        let mut doubt = None;
        if !self.new_entries.is_empty() {
            doubt = Some(self.custody.doubt(index::buckets(&self.new_entries)));
            index::insert(&self.custody.ring, tx, &self.new_entries).await?;
        }
        self.store_calls(tx).await?;
        self.store_events(tx).await?;
        tx.insert_answers(&self.new_answers).await?;
        Ok((redrawn, doubt))
    }

    async fn insert_tokens(&mut self, tx: &mut dyn Tx, news: &[&NewTokens]) -> Result<HashMap<TokenRow, String>> {
        let mut redrawn = HashMap::new();
        let mut waiting = std::mem::take(&mut self.new_tokens);
        while !waiting.is_empty() {
            let inserted: HashSet<TokenRow> = tx.insert_tokens(&waiting).await?.into_iter().collect();
            waiting.retain(|token| !inserted.contains(&token.row));
            let fields = news.iter().flat_map(|new| &new.fields);
            let values: HashMap<TokenRow, &NewToken> = fields.map(|field| (field.token.row, field)).collect();
            for token in &mut waiting {
                let field = values.get(&token.row).ok_or_else(|| Error::internal("a token without a value"))?;
                let again = shape(&field.value, self.custody.ring.random())?;
                redrawn.insert(token.row, again.clone());
                token.shaped = Some(again);
            }
        }
        Ok(redrawn)
    }
}

/// Where a value belongs in the generations that are written: as it was worked out before, or, in one that is new
/// since, now.
fn spots(custody: &Custody, field: &NewToken, generations: &[Generation]) -> Result<Vec<Spot>> {
    let known =
        |generation: &Generation| field.spots.iter().find(|spot| generation.numbers().contains(&spot.bucket)).copied();
    let mut spots = Vec::with_capacity(generations.len());
    for generation in generations {
        match known(generation) {
            Some(spot) => spots.push(spot),
            None => spots.extend(custody.spots_for(&field.value, std::slice::from_ref(generation))?),
        }
    }
    Ok(spots)
}

fn fresh(token: &Token) -> Facts {
    Facts {
        kept_until: None,
        held: None,
        token: token.clone(),
        jurisdiction: None,
        state: SubjectState::Active,
        profiling: true,
        restricted_at: None,
        erasure: None,
        execute_at: None,
        erased_at: None,
        suppressed_at: None,
        purpose: String::new(),
        standing: Standing::default(),
        catalogue: 0,
        callers: 0,
    }
}

fn rows_of(answer: &Answer) -> Result<Vec<TokenRow>> {
    let rows: Vec<String> = serde_json::from_str(&answer.answer).map_err(Error::internal)?;
    let row = |text: &String| {
        let bytes = unhex(text).ok_or_else(|| Error::internal("an answer makes no sense"))?;
        Ok(TokenRow::from_bytes(bytes))
    };
    rows.iter().map(row).collect()
}
