//! Destroying parts of a call before their time, and nothing else of their parties. Each part has a key of its own, so its values
//! go out of the rows and its leaf out of the tree, by a run like those of retention: whatever interrupts it, upkeep goes on
//! with it, and no copy opens the part when it is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Whole;
use super::part::unknown_part;
use super::show::ShownPart;
use crate::model::{
    CallId, Error, OutboxEvent, Part, PartId, Reason, Reference, RequestId, Result, RetentionRun, RetentionRunId,
    Subject, SubjectId, Time, Token,
};
use crate::policy::{self, Caller, Change};
use crate::vault::audit::{Entry, Touched, call, outcome};
use crate::vault::handover::{changed, is_passing};
use crate::vault::token::ATTEMPTS;
use crate::vault::write::Record;
use crate::vault::{Vault, answer};

/// The rpc.
const DEED: &str = "EraseParts";

/// Most values that are kept of the parts of a call.
const MOST_VALUES: u32 = 1000;

/// Parts to be destroyed.
pub struct EraseParts {
    /// Of which call.
    pub call: CallId,
    /// Which of them.
    pub parts: Vec<PartId>,
    /// A legal ground or a ticket.
    pub reason: Reference,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
    /// Whether to say only what would become of them.
    pub validate_only: bool,
}

/// What became of them.
pub struct ErasedParts {
    /// The parts, in the order asked.
    pub parts: Vec<ShownPart>,
    /// The run that destroys their keys; `None` when nothing was left to destroy, or nothing was to be.
    pub run: Option<RetentionRun>,
    /// What that waits for, if it does.
    pub waiting: Option<String>,
}

impl Vault {
    /// Destroys parts of a call that has ended. Answers when their keys are gone from everywhere, or what that waits for.
    ///
    /// # Errors
    /// `CallActive` while a leg has not ended; `PartUnknown`, naming the part; those of [`policy::check_change`] for whoever a part
    /// that is there belongs to.
    pub async fn erase_parts(&self, caller: &Caller, ask: EraseParts) -> Result<ErasedParts> {
        let mut recorded = false;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.try_to_erase_parts(caller, &ask, &mut recorded).await {
                // A part came to be somebody else's meanwhile, or somebody has sent the request twice at the same time.
                Err(error) if is_passing(error.reason) && attempts < ATTEMPTS => {}
                erased => return erased,
            }
        }
    }

    async fn try_to_erase_parts(&self, caller: &Caller, ask: &EraseParts, recorded: &mut bool) -> Result<ErasedParts> {
        let whole = self.whole_call(ask.call).await?;
        call::touch(whole.people.values().map(Touched::described));
        if let Some(answer) = self.answered(caller, DEED, ask.request).await? {
            let run = self.retention_run(RetentionRunId::parse(&answer.answer).map_err(Error::internal)?).await?;
            // What it destroyed then is gone, so whatever is left was not named.
            if run.call != Some(ask.call) || !ask.are_gone(&whole, self.clock.now()) {
                return Err(answer::mismatch(answer.id));
            }
            return self.finish_parts(ask, Some(run)).await;
        }
        let left = ask.left(&whole, self.clock.now())?;
        if ask.validate_only || left.is_empty() {
            return self.finish_parts(ask, None).await;
        }
        let owners: BTreeMap<u8, SubjectId> =
            left.iter().filter_map(|part| Some((part.party, whole.owner(part)?))).collect();
        let subjects: Vec<SubjectId> = owners.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let touched = subjects.iter().map(|id| Touched::subject(*id, None, outcome::ASKED)).collect();
        let justification = ask.reason.as_str().to_owned();
        let entry = Entry { justification, touched, ..Entry::new(&caller.name, DEED, self.clock.now()) };
        if !std::mem::replace(recorded, true) {
            self.record(Record::of(entry)).await?;
        }
        let run = self.take_parts(caller, ask, &subjects, &owners).await?;
        self.finish_parts(ask, run).await
    }

    /// Takes the parts out of the rows, and condemns what they are under. `None` when nobody is left to do it for.
    async fn take_parts(
        &self,
        caller: &Caller,
        ask: &EraseParts,
        subjects: &[SubjectId],
        owners: &BTreeMap<u8, SubjectId>,
    ) -> Result<Option<RetentionRun>> {
        let (custody, now) = (&*self.custody, self.clock.now());
        let mut tx = custody.store().write().await?;
        for subject in tx.lock_subjects(subjects).await? {
            may_go(&subject)?;
        }
        // As it is now that nobody can relink the call.
        let parties = tx.parties_of(&[ask.call]).await?;
        let same = owners.iter().all(|own| parties.iter().any(|party| (&party.number, &party.subject) == own));
        if !same || answer::given(&mut *tx, &caller.name, DEED, ask.request).await?.is_some() {
            return Err(changed());
        }
        let mut keys = tx.subject_keys(subjects).await?;
        keys.retain(|key| key.part.is_some_and(|part| ask.parts.contains(&part)) && !key.ended);
        let leaves: Vec<u32> = keys.iter().map(|key| key.leaf).collect();
        let mut tokens: Vec<Token> = Vec::new();
        for subject in subjects {
            tokens.extend(tx.tokens_under(*subject, &leaves, None, MOST_VALUES).await?);
        }
        let mut live = Vec::new();
        for leaf in leaves {
            if custody.ring.is_live(leaf)? {
                live.push(leaf);
            }
        }
        if live.is_empty() && tokens.is_empty() {
            return Ok(None);
        }
        self.unlist(&mut *tx, &tokens).await?;
        let mut values: HashMap<u32, u64> = HashMap::new();
        for token in &mut tokens {
            *values.entry(token.leaf).or_default() += 1;
            (token.deleted_at, token.sealed, token.version) = (Some(now), None, token.version + 1);
        }
        tx.update_tokens(&tokens).await?;
        let told = tokens.iter().map(|token| OutboxEvent::of_token(token, now, custody.ring.random()));
        tx.tell(&told.collect::<Vec<_>>()).await?;
        let id = RetentionRunId::new(now, custody.ring.random());
        let mut run = RetentionRun::of_call(id, &caller.name, ask.call, &ask.reason, now);
        for key in keys.iter().filter(|key| live.contains(&key.leaf)) {
            run.add(&key.class, key.cohort, 1, values.get(&key.leaf).copied().unwrap_or_default());
        }
        tx.touch_calls(&[ask.call]).await?;
        let of = answer::Keep { caller: &caller.name, deed: DEED, request: ask.request, subject: None };
        answer::keep(&mut *tx, &of, run.id.to_string(), now).await?;
        self.end_at_once(&mut *tx, &run, live).await?;
        tx.commit().await?;
        self.retention_run(run.id).await.map(Some)
    }

    async fn finish_parts(&self, ask: &EraseParts, run: Option<RetentionRun>) -> Result<ErasedParts> {
        // Somebody else may have taken them a moment ago, and their keys be there still.
        let pending = match run {
            Some(run) => vec![run],
            None if ask.validate_only => Vec::new(),
            None => {
                let pending = self.custody.store().read().await?.pending_runs().await?;
                pending.into_iter().filter(|run| run.call == Some(ask.call)).collect()
            }
        };
        let (mut run, mut waiting) = (None, None);
        for one in pending {
            let (finished, waits) = self.finish_run(one).await?;
            (run, waiting) = (Some(finished), waiting.or(waits));
        }
        let whole = self.whole_call(ask.call).await?;
        let parts = ask.parts.iter().map(|id| self.shown_part(&whole, *id)).collect::<Result<_>>()?;
        Ok(ErasedParts { parts, run, waiting })
    }
}

impl EraseParts {
    /// Whether nothing is there of any of them.
    fn are_gone(&self, whole: &Whole, now: Time) -> bool {
        let known = |id: &PartId| whole.parts.iter().find(|part| part.id == *id);
        self.parts.iter().all(|id| known(id).is_some_and(|part| whole.gone(part, now).is_some()))
    }

    /// Those of the parts that are still there, and may go.
    fn left<'w>(&self, whole: &'w Whole, now: Time) -> Result<Vec<&'w Part>> {
        if whole.call.ended_at.is_none() {
            let message = "a leg of the call has not ended; its parts can be destroyed when all have";
            return Err(Error::new(Reason::CallActive, message).with("call", self.call));
        }
        let mut left = Vec::new();
        for (at, id) in self.parts.iter().enumerate() {
            let field = || format!("parts[{at}]");
            let part = whole.parts.iter().find(|part| part.id == *id).ok_or_else(|| unknown_part(*id).at(field()))?;
            if whole.gone(part, now).is_some() {
                continue;
            }
            if let Some(subject) = whole.owner(part).and_then(|id| whole.people.get(&id)) {
                may_go(subject).map_err(|error| error.at(field()))?;
            }
            left.push(part);
        }
        Ok(left)
    }
}

impl Whole {
    /// Whose part it is.
    fn owner(&self, part: &Part) -> Option<SubjectId> {
        self.parties.iter().find(|party| party.number == part.party).map(|party| party.subject)
    }
}

fn may_go(subject: &Subject) -> Result<()> {
    policy::check_change(subject.state, subject.profiling, Change::Delete).map_err(|error| subject.tell(error))
}
