//! Legal holds. A hold copies values and freezes nothing: each copy is sealed under a key of the hold's own, so that the values
//! themselves can be corrected, deleted, end or be erased at any time, with every backup of them. What is left then is the copy,
//! which opens for claims and for authorities only, when two people say so. A hold ends when somebody releases it and never by
//! time; its keys then go out of the tree by a run like those of retention.

pub(super) mod copy;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use self::copy::{Copies, Wanted, take_leaves};
use super::audit::{Entry, Touched, call, outcome};
use super::handover::{changed, is_passing};
use super::read::{Found, Name};
use super::reveal::unknown;
use super::write::Record;
use super::{Vault, answer};
use crate::crash;
use crate::model::{
    Error, Held, HeldSubject, Hold, HoldId, Label, OutboxEvent, Reason, Reference, Release, RequestId, Result,
    RetentionRun, RetentionRunId, SubjectId, TokenRow, TokenState,
};
use crate::policy::{self, Caller, OPENS_KEPT};
use crate::store::Tx;
use crate::store::hold::Filter;
use crate::store::journal::Mark;
use crate::store::request::Answer;

/// The rpcs.
const PLACE: &str = "PlaceHold";
const RELEASE: &str = "ReleaseHold";

/// Most values that one hold copies: they are in memory together, one after the other in clear.
const MOST_VALUES: u64 = 10_000;

/// How often a hold is begun again whose leaves were given up meanwhile.
const ATTEMPTS: usize = 4;

/// Over what a hold is to be placed.
pub enum Over {
    /// Everything of these people.
    Subjects(Vec<SubjectId>),
    /// The values of these tokens, as the caller wrote them.
    Tokens(Vec<String>),
}

/// A hold to be placed.
pub struct PlaceHold {
    /// The case.
    pub matter: Label,
    /// Over what.
    pub over: Over,
    /// A legal ground or a ticket.
    pub basis: Reference,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
    /// Whether to say only what would be copied.
    pub validate_only: bool,
}

/// A hold to be released.
pub struct ReleaseHold {
    /// Which.
    pub hold: HoldId,
    /// A legal ground or a ticket.
    pub reason: Reference,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// A hold as it is answered: one that was only validated has no id.
pub struct ShownHold {
    /// The hold.
    pub hold: Hold,
    /// Of whom it keeps how much.
    pub over: Vec<HeldSubject>,
    /// Whether it exists, or was only made up to be looked at.
    pub real: bool,
}

/// A hold that was released.
pub struct Released {
    /// The hold.
    pub hold: ShownHold,
    /// The run that destroys its keys; `None` when it had none.
    pub run: Option<RetentionRun>,
    /// What that waits for, if it does.
    pub waiting: Option<String>,
}

/// What is to be held, by whom it belongs to.
struct Target {
    held: Held,
    subjects: Vec<SubjectId>,
}

impl Target {
    fn wanted(&self, hold: &Hold) -> Wanted {
        match &self.held {
            Held::Subjects(_) => Wanted::Until(hold.placed_at),
            Held::Tokens(rows) => Wanted::Of(rows.iter().copied().collect()),
        }
    }
}

impl Vault {
    /// Places a hold: copies the values, and answers when the copies are durable.
    ///
    /// # Errors
    /// `SubjectUnknown`, `SubjectErased`, `ErasurePending`, `TokenUnknown` and what else keeps a value from being there, each naming
    /// the one at fault; `BatchTooLarge` for too many values.
    pub async fn place_hold(&self, caller: &Caller, ask: PlaceHold) -> Result<ShownHold> {
        let mut target = self.target(&ask.over).await?;
        if let Some(answer) = self.answered(caller, PLACE, ask.request).await? {
            return self.placed_before(&ask, &target.held, &answer).await;
        }
        let counted = self.check_target(&ask.over, &target).await?;
        let now = self.clock.now();
        let hold = Hold {
            id: HoldId::new(now, self.custody.ring.random()),
            matter: ask.matter.clone(),
            basis: ask.basis.clone(),
            by_token: target.held.by_token(),
            asked: target.held.digest(),
            placed_by: caller.name.clone(),
            placed_at: now,
            released: None,
        };
        if ask.validate_only {
            return Ok(ShownHold { hold, over: counted, real: false });
        }
        self.record_hold(caller, PLACE, &ask.basis, &target.subjects).await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.try_to_place(caller, &ask, &target, &hold).await {
                Err(error) if is_passing(error.reason) && attempts < ATTEMPTS => {
                    self.custody.forget_leaves();
                    target = self.target(&ask.over).await?;
                    self.check_target(&ask.over, &target).await?;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_to_place(&self, caller: &Caller, ask: &PlaceHold, target: &Target, hold: &Hold) -> Result<ShownHold> {
        let custody = &*self.custody;
        let leaves = take_leaves(custody, target.subjects.len()).await?;
        let mut tx = custody.store().write().await?;
        let people = tx.lock_subjects(&target.subjects).await?;
        if let Some(answer) = answer::given(&mut *tx, &caller.name, PLACE, ask.request).await? {
            drop(tx);
            return self.placed_before(ask, &target.held, &answer).await;
        }
        // From here on nobody can erase them before the commit.
        people.iter().try_for_each(crate::model::Subject::alive)?;
        let (subjects, wanted) = (&*target.subjects, &target.wanted(hold));
        let copies = Copies::make(custody, &mut *tx, hold, (subjects, wanted), &leaves).await?;
        let found: u64 = copies.over.iter().map(|held| held.copied + held.lost).sum();
        if matches!(&target.held, Held::Tokens(rows) if found < rows.len() as u64) {
            // One was deleted, or came to be somebody else's, since it was looked at.
            return Err(changed());
        }
        copies.store(&mut *tx, hold).await?;
        tx.mark(&[Mark::Hold(hold.id)]).await?;
        tx.tell(&told(hold, subjects, self)).await?;
        let of = answer::Keep { caller: &caller.name, deed: PLACE, request: ask.request, subject: None };
        answer::keep(&mut *tx, &of, hold.id.to_string(), hold.placed_at).await?;
        crash::point("hold::before-placed");
        tx.commit().await?;
        crash::point("hold::placed");
        Ok(ShownHold { hold: hold.clone(), over: copies.over, real: true })
    }

    /// Who and what a request names; a token that is none is refused.
    async fn target(&self, over: &Over) -> Result<Target> {
        let found = match over {
            Over::Subjects(subjects) => {
                let subjects: BTreeSet<SubjectId> = subjects.iter().copied().collect();
                let subjects: Vec<SubjectId> = subjects.into_iter().collect();
                return Ok(Target { held: Held::Subjects(subjects.clone()), subjects });
            }
            Over::Tokens(tokens) => self.facts_of(tokens).await?,
        };
        let Over::Tokens(tokens) = over else { return Err(Error::internal("tokens were asked for")) };
        let (mut rows, mut subjects) = (BTreeSet::new(), BTreeSet::new());
        for (at, (text, facts)) in tokens.iter().zip(found).enumerate() {
            let facts = facts.ok_or_else(|| unknown(text, &self.custody).at(format!("tokens[{at}]")))?;
            rows.insert(facts.token.row);
            subjects.insert(facts.token.subject);
        }
        let held = Held::Tokens(rows.into_iter().collect());
        Ok(Target { held, subjects: subjects.into_iter().collect() })
    }

    async fn facts_of(&self, tokens: &[String]) -> Result<Found> {
        let names = tokens.iter().map(|text| Name::parse(text, &self.custody)).collect();
        self.read_facts("", names).await
    }

    /// Refuses what cannot be held, naming it. Answers how many values there are of each person.
    async fn check_target(&self, over: &Over, target: &Target) -> Result<Vec<HeldSubject>> {
        let mut tx = self.custody.store().read().await?;
        let people = tx.subjects(&target.subjects).await?;
        call::touch(people.iter().map(Touched::described));
        let person = |id: SubjectId| people.iter().find(|person| person.id == id);
        let mut counted: Vec<HeldSubject> =
            target.subjects.iter().map(|id| HeldSubject { subject: *id, leaf: None, copied: 0, lost: 0 }).collect();
        match over {
            Over::Subjects(subjects) => {
                for (at, id) in subjects.iter().enumerate() {
                    let person = person(*id).ok_or_else(|| super::subject::unknown(*id));
                    person
                        .and_then(crate::model::Subject::alive)
                        .map_err(|error| error.at(format!("subjects[{at}]")))?;
                }
                for one in &mut counted {
                    one.copied = tx.count_values(one.subject).await?.iter().map(|(_, count)| count).sum();
                }
            }
            Over::Tokens(tokens) => {
                drop(tx);
                let now = self.clock.now();
                let mut seen = HashSet::new();
                for (at, (text, facts)) in tokens.iter().zip(self.facts_of(tokens).await?).enumerate() {
                    let facts = facts.ok_or_else(|| unknown(text, &self.custody).at(format!("tokens[{at}]")))?;
                    let alive = person(facts.token.subject).map_or(Ok(()), crate::model::Subject::alive);
                    let there = alive.and_then(|()| match policy::token_state(&facts, now) {
                        TokenState::Ended => Err(policy::ended(text, facts.token.ended_at)),
                        TokenState::Purged => Err(policy::purged(text)),
                        TokenState::Deleted | TokenState::Erased => Err(policy::unknown_token(text)),
                        TokenState::Active | TokenState::Expired | TokenState::Spent => Ok(()),
                    });
                    there.map_err(|error| error.at(format!("tokens[{at}]")))?;
                    let new = seen.insert(facts.token.row);
                    let one = counted.iter_mut().find(|one| one.subject == facts.token.subject && new);
                    if let Some(one) = one {
                        one.copied += 1;
                    }
                }
            }
        }
        let values: u64 = counted.iter().map(|one| one.copied).sum();
        if values > MOST_VALUES {
            let message =
                "one hold copies at most 10000 values: name fewer people, or tokens, and place several of one matter";
            let error = Error::new(Reason::BatchTooLarge, message).at("subjects");
            return Err(error.with("count", values).with("maximum", MOST_VALUES));
        }
        Ok(counted)
    }

    /// The answer that the same request got before.
    async fn placed_before(&self, ask: &PlaceHold, held: &Held, answer: &Answer) -> Result<ShownHold> {
        let shown = self.hold(HoldId::parse(&answer.answer).map_err(Error::internal)?).await?;
        if !shown.hold.is_for(&ask.matter, &ask.basis, held) {
            return Err(answer::mismatch(answer.id));
        }
        Ok(shown)
    }

    /// One hold.
    async fn hold(&self, id: HoldId) -> Result<ShownHold> {
        let mut tx = self.custody.store().read().await?;
        let hold = tx.holds(&[id]).await?.pop().ok_or_else(|| unknown_hold(id))?;
        let over: Vec<_> = tx.held_subjects(&[id]).await?.into_iter().map(|(_, one)| one).collect();
        call::touch(over.iter().map(|one| Touched::subject(one.subject, None, outcome::OK)));
        Ok(ShownHold { hold, over, real: true })
    }

    /// A page of holds, oldest first, with the id after which the next one begins.
    pub async fn list_holds(
        &self,
        filter: &Filter,
        after: Option<HoldId>,
        size: u32,
    ) -> Result<(Vec<ShownHold>, Option<HoldId>)> {
        let mut tx = self.custody.store().read().await?;
        let mut found = tx.list_holds(filter, after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|hold| hold.id).filter(|_| more);
        let ids: Vec<HoldId> = found.iter().map(|hold| hold.id).collect();
        let over = tx.held_subjects(&ids).await?;
        call::touch(over.iter().map(|(_, one)| Touched::subject(one.subject, None, outcome::OK)));
        let shown = |hold: Hold| {
            let over = over.iter().filter(|(id, _)| *id == hold.id).map(|(_, one)| *one).collect();
            ShownHold { hold, over, real: true }
        };
        Ok((found.into_iter().map(shown).collect(), next))
    }

    /// Releases a hold: its copies are gone, and their keys from everywhere when this returns, or it says what that waits for.
    ///
    /// # Errors
    /// `HoldUnknown`, `HoldReleased`.
    pub async fn release_hold(&self, caller: &Caller, ask: ReleaseHold) -> Result<Released> {
        if let Some(answer) = self.answered(caller, RELEASE, ask.request).await? {
            return self.released_before(&ask, &answer).await;
        }
        let before = self.hold(ask.hold).await?;
        let subjects: Vec<SubjectId> = before.over.iter().map(|one| one.subject).collect();
        self.record_hold(caller, RELEASE, &ask.reason, &subjects).await?;
        let (custody, now) = (&*self.custody, self.clock.now());
        let mut tx = custody.store().write().await?;
        tx.lock_subjects(&subjects).await?;
        let mut hold = tx.lock_hold(ask.hold).await?.ok_or_else(|| unknown_hold(ask.hold))?;
        if let Some(answer) = answer::given(&mut *tx, &caller.name, RELEASE, ask.request).await? {
            drop(tx);
            return self.released_before(&ask, &answer).await;
        }
        hold.release(Release { by: caller.name.clone(), at: now, reason: ask.reason.clone() })?;
        let id = RetentionRunId::new(now, custody.ring.random());
        let run = RetentionRun::of_hold(id, &caller.name, hold.id, &ask.reason, now);
        let begun = self.end_copies(&mut *tx, &hold, &before.over, run).await?;
        tx.mark(&[Mark::Hold(hold.id)]).await?;
        tx.tell(&told(&hold, &subjects, self)).await?;
        let answer = format!("{} {}", hold.id, begun.map(|id| id.to_string()).unwrap_or_default());
        let of = answer::Keep { caller: &caller.name, deed: RELEASE, request: ask.request, subject: None };
        answer::keep(&mut *tx, &of, answer, now).await?;
        crash::point("hold::before-released");
        tx.commit().await?;
        crash::point("hold::released");
        self.finish_release(ask.hold, begun).await
    }

    /// Takes the copies of a hold out of the rows, and has a run destroy what they are under. `None` when that is gone already.
    async fn end_copies(
        &self,
        tx: &mut dyn Tx,
        hold: &Hold,
        over: &[HeldSubject],
        mut run: RetentionRun,
    ) -> Result<Option<RetentionRunId>> {
        let leaves: HashSet<u32> = over.iter().filter_map(|one| one.leaf).collect();
        let subjects: Vec<SubjectId> = over.iter().map(|one| one.subject).collect();
        let mut live = Vec::new();
        for key in tx.subject_keys(&subjects).await? {
            if leaves.contains(&key.leaf) && !key.ended && self.custody.ring.is_live(key.leaf)? {
                run.add(&key.class, key.cohort, 1, tx.count_held(key.leaf).await?);
                live.push(key.leaf);
            }
        }
        tx.release_hold(hold).await?;
        if live.is_empty() {
            return Ok(None);
        }
        self.end_at_once(tx, &run, live).await?;
        Ok(Some(run.id))
    }

    async fn released_before(&self, ask: &ReleaseHold, answer: &Answer) -> Result<Released> {
        let (hold, run) = answer.answer.split_once(' ').unwrap_or_default();
        let before = self.hold(HoldId::parse(hold).map_err(Error::internal)?).await?.hold;
        let same = before.released.as_ref().is_none_or(|release| release.reason == ask.reason);
        if before.id != ask.hold || !same {
            return Err(answer::mismatch(answer.id));
        }
        let run = Some(run).filter(|run| !run.is_empty());
        let run = run.map(|run| RetentionRunId::parse(run).map_err(Error::internal)).transpose()?;
        self.finish_release(ask.hold, run).await
    }

    async fn finish_release(&self, hold: HoldId, run: Option<RetentionRunId>) -> Result<Released> {
        let Some(run) = run else {
            return Ok(Released { hold: self.hold(hold).await?, run: None, waiting: None });
        };
        let (run, waiting) = self.finish_run(self.retention_run(run).await?).await?;
        Ok(Released { hold: self.hold(hold).await?, run: Some(run), waiting })
    }

    async fn record_hold(
        &self,
        caller: &Caller,
        deed: &'static str,
        why: &Reference,
        subjects: &[SubjectId],
    ) -> Result<()> {
        let touched: Vec<_> = subjects.iter().map(|id| Touched::subject(*id, None, outcome::ASKED)).collect();
        let justification = why.as_str().to_owned();
        let entry = Entry { justification, touched, ..Entry::new(&caller.name, deed, self.clock.now()) };
        self.record(Record::of(entry)).await.map(drop)
    }

    /// Adds to facts that were read for a purpose that opens them the copies that holds keep.
    pub(super) async fn read_held(&self, purpose: &str, found: &mut Found) -> Result<()> {
        if !OPENS_KEPT.contains(&purpose) {
            return Ok(());
        }
        let rows: Vec<TokenRow> = found.iter().flatten().map(|facts| facts.token.row).collect();
        let copies = self.custody.store().read().await?.held_tokens(&rows).await?;
        for facts in found.iter_mut().flatten() {
            if let Some(copy) = copies.iter().find(|copy| copy.row == facts.token.row) {
                Arc::make_mut(facts).held = Some(Box::new(copy.clone()));
            }
        }
        Ok(())
    }
}

/// What other systems are told of a hold that was placed or released.
fn told(hold: &Hold, subjects: &[SubjectId], vault: &Vault) -> Vec<OutboxEvent> {
    let (now, random) = (vault.clock.now(), vault.custody.ring.random());
    subjects.iter().map(|subject| OutboxEvent::of_hold(hold, *subject, now, random)).collect()
}

fn unknown_hold(id: HoldId) -> Error {
    Error::new(Reason::HoldUnknown, "there is no such legal hold").with("hold", id)
}
