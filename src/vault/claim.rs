//! Claims: somebody of whom nobody knew more than how they called was asked what they alone know, and is a person whom the vault has, or
//! is to have. What was kept of them is that person's from then on, and the provisional subject is erased.

use super::audit::{Entry, Touched, call, outcome};
use super::call::PROVISIONAL;
use super::handover::{Handover, changed, is_passing};
use super::profiling::purge_scores;
use super::subject::{DEFAULT_KIND, unknown};
use super::token::ATTEMPTS;
use super::write::Record;
use super::{Vault, answer};
use crate::crash;
use crate::model::{
    Assurance, CallId, Erasure, ErasureId, Error, FieldType, Label, OutboxEvent, PermissionCause, Reason, Reference,
    RequestId, Result, Subject, SubjectId, Time,
};
use crate::policy::{self, Caller, Change};
use crate::store::Tx;
use crate::store::journal::Mark;
use crate::vault::erasure::Erased;

/// The rpc.
const DEED: &str = "ClaimSubject";

/// A provisional subject to be claimed.
pub struct Claiming {
    /// Who.
    pub subject: SubjectId,
    /// By whom; `None` for a customer who is new.
    pub claimant: Option<SubjectId>,
    /// How sure it is that they are the same.
    pub assurance: Assurance,
    /// What shows it: a ticket, the method.
    pub evidence: Reference,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// What came of a claim.
pub struct Claimed {
    /// Whose everything is now.
    pub claimant: Subject,
    /// The erasure of the provisional subject.
    pub erasure: Erased,
}

impl Vault {
    /// Has a person take over a provisional subject: its values, parts and consents, and its place in calls. What it was under dies with
    /// its erasure, which is part of the claim.
    ///
    /// # Errors
    /// `NotVerified` below that assurance; `NotProvisional` for anybody whom the vault knows; those of [`policy::check_change`] for either.
    pub async fn claim_subject(&self, caller: &Caller, ask: Claiming) -> Result<Claimed> {
        if ask.assurance != Assurance::Verified {
            let message =
                "who a caller is has to be VERIFIED before what is kept of them is somebody's: a number proves nothing";
            return Err(Error::new(Reason::NotVerified, message).with("subject", ask.subject));
        }
        if ask.claimant == Some(ask.subject) {
            return Err(Error::invalid("claimant", "is the subject itself"));
        }
        if let Some(answer) = self.answered(caller, DEED, ask.request).await? {
            return self.claimed_before(&ask, &answer).await;
        }
        let asked = [Some(ask.subject), ask.claimant];
        let asked = asked.into_iter().flatten().map(|id| Touched::subject(id, None, outcome::ASKED));
        let touched: Vec<Touched<'static>> = asked.collect();
        call::touch(touched.clone());
        let justification = ask.evidence.as_str().to_owned();
        let entry = Entry { justification, touched, ..Entry::new(&caller.name, DEED, self.clock.now()) };
        self.record(Record::of(entry)).await?;
        let mut attempts = 0;
        loop {
            // Somebody may have sent it twice at the same time.
            if let Some(answer) = self.answered(caller, DEED, ask.request).await? {
                return self.claimed_before(&ask, &answer).await;
            }
            attempts += 1;
            match self.try_to_claim(caller, &ask).await {
                Err(error) if is_passing(error.reason) && attempts < ATTEMPTS => self.custody.forget_leaves(),
                Err(error) => return Err(error),
                Ok((claimant, erasure)) => {
                    let erasure = self.carry_out(erasure).await?;
                    return Ok(Claimed { claimant: self.subject(claimant).await?, erasure });
                }
            }
        }
    }

    async fn claimed_before(&self, ask: &Claiming, answer: &crate::store::request::Answer) -> Result<Claimed> {
        let ids = answer.answer.split_once(' ').ok_or_else(|| Error::internal("an answer makes no sense"))?;
        let (erasure, claimant) = (ErasureId::parse(ids.0)?, SubjectId::parse(ids.1)?);
        if answer.subject != Some(ask.subject) || ask.claimant.is_some_and(|asked| asked != claimant) {
            return Err(answer::mismatch(answer.id));
        }
        let erasure = self.carry_out(self.erasure(erasure).await?).await?;
        Ok(Claimed { claimant: self.subject(claimant).await?, erasure })
    }

    async fn try_to_claim(&self, caller: &Caller, ask: &Claiming) -> Result<(SubjectId, Erasure)> {
        let (now, random) = (self.clock.now(), self.custody.ring.random());
        let keys = self.custody.store().read().await?.subject_keys(&[ask.subject]).await?;
        let spares = self.spares(&keys).await?;
        let arriving = self.custody.arrivals.begin();
        let mut tx = self.custody.store().write().await?;
        let (mut subject, mut claimant) = self.both_of(&mut *tx, caller, ask, now).await?;
        let names = self.custody.remember_objection(&mut *tx, &subject).await?;
        let mut handover =
            Handover { custody: &self.custody, from: &subject, to: claimant.id, rows: None, spares, now };
        handover.carry_out(&mut *tx).await?;
        drop(handover);
        let catalogue = self.library.read_in(&mut *tx).await?;
        let consents = super::consent::carry_over(&mut *tx, &catalogue, subject.id, claimant.id, (now, random)).await?;
        let mut told = self.take_over(&mut *tx, &subject, &mut claimant, now).await?;
        told.extend(consents);
        let calls: Vec<CallId> = tx.calls_with(subject.id).await?;
        tx.lock_calls(&calls).await?;
        tx.give_parties(subject.id, claimant.id).await?;
        tx.touch_calls(&calls).await?;
        let reason = Reference::stored(format!("claimed by {}", claimant.id));
        let mut erasure = Erasure::immediate(ErasureId::new(now, random), subject.id, reason, &caller.name, now);
        self.begin_shred(&mut *tx, &mut subject, &mut erasure, names, now).await?;
        tx.insert_erasures(std::slice::from_ref(&erasure)).await?;
        tx.update_subjects(&[subject, claimant.clone()]).await?;
        tx.tell(&told).await?;
        let of = answer::Keep { caller: &caller.name, deed: DEED, request: ask.request, subject: Some(ask.subject) };
        answer::keep(&mut *tx, &of, format!("{} {}", erasure.id, claimant.id), now).await?;
        crash::point("claim::before-commit");
        tx.commit().await?;
        crash::point("claim::claimed");
        drop(arriving);
        Ok((claimant.id, erasure))
    }

    /// Locks both, and opens whoever is new.
    async fn both_of(&self, tx: &mut dyn Tx, caller: &Caller, ask: &Claiming, now: Time) -> Result<(Subject, Subject)> {
        let ids: Vec<SubjectId> = [Some(ask.subject), ask.claimant].into_iter().flatten().collect();
        let mut locked = tx.lock_subjects(&ids).await?;
        if answer::given(tx, &caller.name, DEED, ask.request).await?.is_some() {
            return Err(changed());
        }
        let mut take = |id: SubjectId| {
            let at = locked.iter().position(|one| one.id == id);
            at.map(|at| locked.swap_remove(at)).ok_or_else(|| unknown(id))
        };
        let subject = take(ask.subject)?;
        let claimant = ask.claimant.map(|id| take(id).map_err(|error| error.at("claimant"))).transpose()?;
        let may = |one: &Subject, change, field| {
            policy::check_change(one.state, one.profiling, change).map_err(|error| one.tell(error).at(field))
        };
        if subject.kind.as_str() != PROVISIONAL {
            let message = "the vault knows who the subject is; only one that a call was recorded under for want of anybody is claimed";
            return Err(Error::new(Reason::NotProvisional, message).with("subject", subject.id));
        }
        may(&subject, Change::Delete, "subject")?;
        if let Some(claimant) = claimant {
            if claimant.kind.as_str() == PROVISIONAL {
                return Err(Error::invalid(
                    "claimant",
                    "is provisional too; name a person, or nobody for one who is new",
                ));
            }
            may(&claimant, Change::Add(FieldType::Text), "claimant")?;
            return Ok((subject, claimant));
        }
        let kind = Label::stored(DEFAULT_KIND.to_owned());
        let (id, source) = (SubjectId::new(now, self.custody.ring.random()), subject.source.clone());
        let claimant = Subject::open(id, kind, subject.jurisdiction.clone(), source, true, now);
        tx.insert_subjects(std::slice::from_ref(&claimant)).await?;
        Ok((subject, claimant))
    }

    /// Has what the provisional subject wanted hold for the claimant: no profiles, no direct marketing.
    async fn take_over(
        &self,
        tx: &mut dyn Tx,
        subject: &Subject,
        claimant: &mut Subject,
        now: Time,
    ) -> Result<Vec<OutboxEvent>> {
        let (mut told, random) = (Vec::new(), self.custody.ring.random());
        if !subject.profiling && claimant.profiling {
            claimant.set_profiling(false)?;
            told.push(OutboxEvent::of_switch(claimant.id, PermissionCause::Profiling, now, random));
        }
        purge_scores(&self.custody, tx, claimant).await?;
        told.extend(self.carry_objection(tx, subject, claimant, now).await?);
        tx.mark(&[Mark::Subject(claimant.id)]).await?;
        Ok(told)
    }
}
