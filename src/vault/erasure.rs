//! Erasing people.

use std::collections::HashMap;

use super::audit::{Touched, call, outcome};
use super::kept::Kept;
use super::{Vault, answer};
use crate::crash;
use crate::keys::statement;
use crate::model::{
    Element, Erasure, ErasureId, ErasureState, Error, OutboxEvent, PlanItem, Reason, Reference, RequestId, Result,
    Subject, SubjectId, SubjectState, Time, Verdict,
};
use crate::policy::Caller;
use crate::store::Tx;
use crate::store::journal::Mark;

/// A person to be erased.
pub struct Erase {
    /// Who.
    pub subject: SubjectId,
    /// A legal ground or a ticket.
    pub reason: Reference,
    /// When; `None` is now.
    pub execute_at: Option<Time>,
    /// Only asks what would happen.
    pub validate_only: bool,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// An erasure as it is answered: one that was only validated has no id.
pub struct Erased {
    /// The erasure.
    pub erasure: Erasure,
    /// Whether it exists, or was only made up to be looked at.
    pub real: bool,
}

impl Vault {
    /// Erases a person. Answers when their keys are gone from everywhere, or what it waits for, or when it is due.
    ///
    /// Asking again for someone who is being erased, or has been, answers the erasure there is.
    pub async fn erase_subject(&self, caller: &Caller, ask: Erase) -> Result<Erased> {
        if let Some(answer) = self.answered(caller, "EraseSubject", ask.request).await? {
            return self.repeat(&ask, &answer).await;
        }
        let now = self.clock.now();
        let id = ErasureId::new(now, self.custody.ring.random());
        let mut erasure = match ask.execute_at {
            None => Erasure::immediate(id, ask.subject, ask.reason.clone(), &caller.name, now),
            Some(at) => Erasure::scheduled(id, ask.subject, ask.reason.clone(), &caller.name, now, at)?,
        };
        if ask.validate_only {
            return self.validate(erasure).await;
        }
        let arriving = self.custody.arrivals.begin();
        self.record_asked(caller, "EraseSubject", ask.subject).await?;
        let mut tx = self.custody.store().write().await?;
        let mut subject = lock(&mut *tx, ask.subject).await?;
        let kept = self.custody.remember_objection(&mut *tx, &subject).await?;
        let before = subject.state;
        erasure = match (subject.state, ask.execute_at) {
            (SubjectState::Shredding | SubjectState::Shredded, _) => present(&mut *tx, &subject).await?,
            (SubjectState::Scheduled, None) => {
                let mut scheduled = present(&mut *tx, &subject).await?;
                self.begin_shred(&mut *tx, &mut subject, &mut scheduled, kept, now).await?;
                tx.update_erasures(std::slice::from_ref(&scheduled)).await?;
                scheduled
            }
            (_, at) => {
                if at.is_none() {
                    self.begin_shred(&mut *tx, &mut subject, &mut erasure, kept, now).await?;
                } else if let Err(error) = subject.schedule(id) {
                    return Err(tell_due(&mut *tx, &subject, error).await?);
                } else {
                    erasure.plan = self.plan_erasure(&mut *tx, ask.subject, kept, now).await?.0;
                }
                tx.insert_erasures(std::slice::from_ref(&erasure)).await?;
                erasure
            }
        };
        tx.update_subjects(std::slice::from_ref(&subject)).await?;
        if erasure.state == ErasureState::Scheduled {
            tx.mark(&[Mark::Subject(subject.id), Mark::Erasure(erasure.id)]).await?;
        }
        tx.tell(OutboxEvent::of_use(before, &subject, now, self.custody.ring.random()).as_slice()).await?;
        let answer = erasure.id.to_string();
        let of = answer::Keep {
            caller: &caller.name,
            deed: "EraseSubject",
            request: ask.request,
            subject: Some(ask.subject),
        };
        answer::keep(&mut *tx, &of, answer, now).await?;
        crash::point("erase::before-request");
        tx.commit().await?;
        crash::point("erase::requested");
        drop(arriving);
        self.carry_out(erasure).await
    }

    /// What an erasure would do, without doing it.
    async fn validate(&self, mut erasure: Erasure) -> Result<Erased> {
        let mut tx = self.custody.store().read().await?;
        let found = tx.subjects(&[erasure.subject]).await?.into_iter().next();
        let subject = found.ok_or_else(|| super::subject::unknown(erasure.subject))?;
        call::touch([Touched::described(&subject)]);
        subject.alive()?;
        let kept = self.custody.objection(&mut *tx, &subject).await?.len();
        let now = erasure.execute_at.unwrap_or(erasure.requested_at);
        erasure.plan = self.plan_erasure(&mut *tx, erasure.subject, kept, now).await?.0;
        Ok(Erased { erasure, real: false })
    }

    /// Begins an erasure, and settles what it destroys and what it leaves. The subject must be locked.
    pub(super) async fn begin_shred(
        &self,
        tx: &mut dyn Tx,
        subject: &mut Subject,
        erasure: &mut Erasure,
        names: usize,
        now: Time,
    ) -> Result<()> {
        if erasure.state == ErasureState::Scheduled {
            erasure.begin()?;
        }
        subject.begin_shred(erasure.id)?;
        let (plan, kept) = self.plan_erasure(tx, subject.id, names, now).await?;
        erasure.plan = plan;
        kept.keep(tx).await
    }

    /// What an erasure destroys and what it leaves; of an objection to direct marketing, so many names.
    async fn plan_erasure(
        &self,
        tx: &mut dyn Tx,
        subject: SubjectId,
        names: usize,
        now: Time,
    ) -> Result<(Vec<PlanItem>, Kept)> {
        let kept = self.demanded(tx, subject, now).await?;
        let (classes, mut plan) = (tx.count_values(subject).await?, Vec::new());
        let total = classes.iter().map(|(_, count)| count).sum();
        for (class, count) in &classes {
            let count = count.saturating_sub(kept.of_class(class));
            if count > 0 {
                plan.push(PlanItem::of_class(class, Verdict::Destroy, count));
            }
        }
        plan.extend(kept.plan());
        plan.push(PlanItem::new(Element::Tokens, Verdict::KeepPseudonym, total));
        if names > 0 {
            plan.push(PlanItem::new(Element::Suppression, Verdict::KeepDigest, names as u64));
        }
        Ok((plan, kept))
    }

    /// Runs a PENDING erasure, together with whatever others wait.
    pub(super) async fn carry_out(&self, erasure: Erasure) -> Result<Erased> {
        if erasure.state != ErasureState::Pending {
            // A reveal that read the facts before the subject was restricted has landed when this returns.
            self.custody.land_all().await?;
            return Ok(Erased { erasure, real: true });
        }
        let erasure = self.shred(erasure.id).await?;
        metrics::counter!("lacuna_erasures_total", "state" => format!("{:?}", erasure.state)).increment(1);
        Ok(Erased { erasure, real: true })
    }

    async fn repeat(&self, ask: &Erase, answer: &crate::store::request::Answer) -> Result<Erased> {
        if answer.subject != Some(ask.subject) {
            return Err(answer::mismatch(answer.id));
        }
        let erasure = self.erasure(ErasureId::parse(&answer.answer)?).await?;
        self.carry_out(erasure).await
    }

    /// Describes an erasure.
    pub async fn erasure(&self, id: ErasureId) -> Result<Erasure> {
        let found = self.custody.store().read().await?.erasures(&[id]).await?;
        let found = found.into_iter().next().ok_or_else(|| unknown(id))?;
        call::touch([Touched::subject(found.subject, None, outcome::OK)]);
        Ok(found)
    }

    /// A page of erasures, oldest first, with the id after which the next one begins.
    pub async fn list_erasures(
        &self,
        after: Option<ErasureId>,
        size: u32,
    ) -> Result<(Vec<Erasure>, Option<ErasureId>)> {
        let mut found = self.custody.store().read().await?.list_erasures(after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|erasure| erasure.id).filter(|_| more);
        call::touch(found.iter().map(|erasure| Touched::subject(erasure.subject, None, outcome::OK)));
        Ok((found, next))
    }

    /// Cancels an erasure that has not begun.
    pub async fn cancel_erasure(&self, caller: &Caller, id: ErasureId) -> Result<Erasure> {
        let subject = self.erasure(id).await?.subject;
        self.record_asked(caller, "CancelErasure", subject).await?;
        let mut tx = self.custody.store().write().await?;
        let mut subject = lock(&mut *tx, subject).await?;
        let mut erasure = tx.lock_erasures(&[id]).await?.into_iter().next().ok_or_else(|| unknown(id))?;
        let before = subject.state;
        erasure.cancel()?;
        subject.cancel()?;
        tx.update_erasures(std::slice::from_ref(&erasure)).await?;
        tx.update_subjects(std::slice::from_ref(&subject)).await?;
        tx.mark(&[Mark::Subject(subject.id), Mark::Erasure(id)]).await?;
        let (now, random) = (self.clock.now(), self.custody.ring.random());
        tx.tell(OutboxEvent::of_use(before, &subject, now, random).as_slice()).await?;
        tx.commit().await?;
        Ok(erasure)
    }

    /// The signed receipt of an erasure, and the statement in it as JSON.
    pub async fn receipt(&self, id: ErasureId) -> Result<(Vec<u8>, String)> {
        let erasure = self.erasure(id).await?;
        let Some(receipt) = erasure.receipt else {
            let error = match erasure.state {
                ErasureState::Cancelled => Error::new(Reason::ErasureUnknown, "the erasure was cancelled"),
                _ => Error::new(Reason::ErasurePending, "there is no receipt before the erasure is complete"),
            };
            let error = error.with("erasure", id);
            return Err(erasure.pending_reason.iter().fold(error, |error, why| error.with("waiting_for", why)));
        };
        let json = statement::json(&receipt)?;
        Ok((receipt, json))
    }

    /// Begins the scheduled erasures whose time has come, and carries out whatever is pending. Answers how many still
    /// wait for something. One that cannot be begun does not keep the others waiting.
    pub(super) async fn carry_out_due(&self) -> Result<usize> {
        let now = self.clock.now();
        let due = self.custody.store().read().await?.erasures_in(ErasureState::Scheduled, now).await?;
        for erasure in due {
            if let Err(error) = self.begin(erasure.id).await {
                tracing::error!(erasure = %erasure.id, %error, "a scheduled erasure cannot be begun");
            }
        }
        let pending = self.custody.store().read().await?.erasures_in(ErasureState::Pending, now).await?;
        let runs = pending.into_iter().map(|erasure| self.carry_out(erasure));
        let mut waiting = 0;
        for outcome in futures_util::future::join_all(runs).await {
            waiting += usize::from(outcome?.erasure.state == ErasureState::Pending);
        }
        Ok(waiting)
    }

    async fn begin(&self, id: ErasureId) -> Result<()> {
        let scheduled = self.erasure(id).await?;
        let subject = scheduled.subject;
        let caller = Caller::named(&scheduled.requested_by);
        self.record_asked(&caller, "EraseSubject", subject).await?;
        let mut tx = self.custody.store().write().await?;
        let mut subject = lock(&mut *tx, subject).await?;
        let mut erasure = tx.lock_erasures(&[id]).await?.into_iter().next().ok_or_else(|| unknown(id))?;
        if !erasure.due(self.clock.now()) {
            return Ok(());
        }
        let names = self.custody.remember_objection(&mut *tx, &subject).await?;
        self.begin_shred(&mut *tx, &mut subject, &mut erasure, names, self.clock.now()).await?;
        tx.update_erasures(std::slice::from_ref(&erasure)).await?;
        tx.update_subjects(std::slice::from_ref(&subject)).await?;
        tx.commit().await
    }
}

/// When each of the erasures that is scheduled is due.
pub(super) async fn due(tx: &mut dyn Tx, ids: &[ErasureId]) -> Result<HashMap<ErasureId, Time>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found = tx.erasures(ids).await?;
    Ok(found.into_iter().filter_map(|erasure| Some((erasure.id, erasure.execute_at?))).collect())
}

/// A refusal that a scheduled erasure is the cause of, with when that is due.
pub(super) async fn tell_due(tx: &mut dyn Tx, subject: &Subject, error: Error) -> Result<Error> {
    if error.reason != Reason::SubjectScheduled {
        return Ok(error);
    }
    let ids: Vec<ErasureId> = subject.erasure.into_iter().collect();
    Ok(due(tx, &ids).await?.values().fold(error, |error, time| error.with("execute_time", time)))
}

async fn lock(tx: &mut dyn Tx, id: SubjectId) -> Result<Subject> {
    tx.lock_subjects(&[id]).await?.into_iter().next().ok_or_else(|| super::subject::unknown(id))
}

/// The erasure that a subject has.
async fn present(tx: &mut dyn Tx, subject: &Subject) -> Result<Erasure> {
    let lost = || Error::internal("a subject names an erasure that is not there");
    let id = subject.erasure.ok_or_else(lost)?;
    tx.lock_erasures(&[id]).await?.into_iter().next().ok_or_else(lost)
}

fn unknown(id: ErasureId) -> Error {
    Error::new(Reason::ErasureUnknown, "there is no such erasure").with("erasure", id)
}
