//! People: opening, describing, restricting.

use super::Vault;
use super::audit::{Touched, call};
use super::profiling::{Purged, purge_scores};
use super::write::{NewTokens, Owner};
use crate::crash;
use crate::model::{
    Error, Jurisdiction, Label, OutboxEvent, PermissionCause, Reason, Reference, RequestId, Result, Subject, SubjectId,
    Time,
};
use crate::policy::Caller;
use crate::store::journal::Mark;
use crate::store::subject::Filter;
use crate::trace;

/// What a subject is when nobody says.
pub const DEFAULT_KIND: &str = "customer";

/// A subject to be opened.
pub struct Create {
    /// What the person is.
    pub kind: Label,
    /// Under which law.
    pub jurisdiction: Option<Jurisdiction>,
    /// Where they came from.
    pub source: Label,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

impl Vault {
    /// Opens a subject.
    pub async fn create_subject(&self, caller: &Caller, ask: Create) -> Result<Subject> {
        let now = self.clock.now();
        let id = SubjectId::new(now, self.custody.ring.random());
        let subject = Subject::open(id, ask.kind, ask.jurisdiction, ask.source, true, now);
        let new = NewTokens {
            caller: caller.name.clone(),
            call: trace::request(),
            deed: "CreateSubject",
            request: ask.request,
            owner: Owner::New(subject),
            told: false,
            part: None,
            keys: Vec::new(),
            leaves: Vec::new(),
            fields: Vec::new(),
        };
        let written = self.write_tokens(new).await?;
        self.subject(written.subject.ok_or_else(|| Error::internal("no subject was opened"))?).await
    }

    /// Describes a subject, also after erasure.
    pub async fn subject(&self, id: SubjectId) -> Result<Subject> {
        let found = self.custody.store().read().await?.subjects(&[id]).await?;
        let found = found.into_iter().next().ok_or_else(|| unknown(id))?;
        call::touch([Touched::described(&found)]);
        Ok(found)
    }

    /// A page of subjects, oldest first, with the id after which the next one begins.
    pub async fn list_subjects(
        &self,
        filter: &Filter,
        after: Option<SubjectId>,
        size: u32,
    ) -> Result<(Vec<Subject>, Option<SubjectId>)> {
        let mut found = self.custody.store().read().await?.list_subjects(filter, after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|subject| subject.id).filter(|_| more);
        call::touch(found.iter().map(Touched::described));
        Ok((found, next))
    }

    /// Restricts processing (Art. 18 GDPR).
    pub async fn restrict_subject(
        &self,
        caller: &Caller,
        id: SubjectId,
        ground: Reference,
        etag: Option<u64>,
    ) -> Result<Subject> {
        let now = self.clock.now();
        Ok(self.change(caller, "RestrictSubject", id, etag, |subject| subject.restrict(ground, now)).await?.0)
    }

    /// Lifts a restriction, once the person has been told. Scores that it kept though profiling is off go with it.
    pub async fn lift_restriction(
        &self,
        caller: &Caller,
        id: SubjectId,
        informed_at: Time,
        etag: Option<u64>,
    ) -> Result<Subject> {
        if informed_at > self.clock.now() {
            return Err(Error::invalid("subject_informed_time", "must lie in the past: the person is told first"));
        }
        let (subject, purged) = self.change(caller, "LiftRestriction", id, etag, Subject::lift).await?;
        // The person is free again, whatever holds the keys.
        let _ = self.finish_purge(&purged.leaves).await;
        Ok(subject)
    }

    /// Changes what a person has decided, and takes out of the vault what must not be there then.
    pub(super) async fn change(
        &self,
        caller: &Caller,
        deed: &'static str,
        id: SubjectId,
        etag: Option<u64>,
        change: impl FnOnce(&mut Subject) -> Result<()> + Send,
    ) -> Result<(Subject, Purged)> {
        self.record_asked(caller, deed, id).await?;
        let mut tx = self.custody.store().write().await?;
        let mut subject = tx.lock_subjects(&[id]).await?.into_iter().next().ok_or_else(|| unknown(id))?;
        check_etag(etag, subject.version)?;
        let before = (subject.state, subject.profiling);
        if let Err(error) = change(&mut subject) {
            return Err(super::erasure::tell_due(&mut *tx, &subject, error).await?);
        }
        tx.update_subjects(std::slice::from_ref(&subject)).await?;
        tx.mark(&[Mark::Subject(id)]).await?;
        let purged = purge_scores(&self.custody, &mut *tx, &subject).await?;
        let (now, random) = (self.clock.now(), self.custody.ring.random());
        let mut told: Vec<_> = OutboxEvent::of_use(before.0, &subject, now, random).into_iter().collect();
        if subject.profiling != before.1 {
            told.push(OutboxEvent::of_switch(id, PermissionCause::Profiling, now, random));
        }
        tx.tell(&told).await?;
        crash::point("subject::before-change");
        tx.commit().await?;
        crash::point("subject::changed");
        // A reveal that read the facts before the change has landed when this returns, on every node.
        self.custody.land_all().await?;
        Ok((subject, purged))
    }
}

/// The refusal for a subject that does not exist.
pub(super) fn unknown(id: SubjectId) -> Error {
    Error::new(Reason::SubjectUnknown, "there is no such subject").with("subject", id)
}

/// Refuses a change that was decided on an older version.
pub(super) fn check_etag(asked: Option<u64>, present: u64) -> Result<()> {
    match asked {
        Some(etag) if etag != present => {
            Err(Error::new(Reason::EtagMismatch, "it has changed since it was read; read it again and decide anew")
                .with("etag", present))
        }
        _ => Ok(()),
    }
}
