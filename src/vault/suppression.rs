//! The suppression list, as the deeds heed it: who is given an identifier that is on it objects to direct marketing.

use super::Vault;
use super::audit::{Entry, Touched, outcome};
use super::write::{Objection, Record};
use crate::model::{Facts, OutboxEvent, PermissionCause, Result, Token, Value};
use crate::policy::Caller;
use crate::store::Tx;
use crate::store::journal::Mark;

impl Vault {
    /// Sees whether the new value of a token is on the suppression list, or belongs there. The person must be locked, and
    /// where the index has the value.
    pub(super) async fn heed_suppression(&self, tx: &mut dyn Tx, facts: &Facts, value: &Value) -> Result<Objection> {
        let Some(name) = self.custody.ring.suppression_name(value)? else { return Ok(Objection::None) };
        if facts.suppressed_at.is_some() {
            self.custody.list(tx, &[name]).await?;
            return Ok(Objection::Known);
        }
        if tx.suppressed(&[name]).await?.is_empty() {
            return Ok(Objection::None);
        }
        let mut people = tx.lock_subjects(&[facts.token.subject]).await?;
        for person in &mut people {
            person.recognise(self.clock.now());
            self.custody.remember_objection(tx, person).await?;
        }
        tx.update_subjects(&people).await?;
        let (subject, now, random) = (facts.token.subject, self.clock.now(), self.custody.ring.random());
        tx.tell(&[OutboxEvent::of_switch(subject, PermissionCause::Suppression, now, random)]).await?;
        tx.mark(&[Mark::Subject(subject)]).await?;
        Ok(Objection::Found)
    }

    /// Records that a value was found on the list: whoever looks for somebody there leaves a trace.
    pub(super) async fn record_found(&self, caller: &Caller, deed: &'static str, token: &Token) -> Result<()> {
        let touched = vec![Touched::token(token, outcome::SUPPRESSED)];
        let entry = Entry { touched, ..Entry::new(&caller.name, deed, self.clock.now()) };
        self.record(Record::of(entry)).await.map(drop)
    }

    /// Whether a caller is told that a person objects to direct marketing. When that was found just now, no node reveals by
    /// what was permitted before when this returns.
    pub(super) async fn tell_objection(&self, caller: &Caller, objection: Objection) -> Result<bool> {
        if objection == Objection::None {
            return Ok(false);
        }
        if objection == Objection::Found {
            self.custody.land_all().await?;
        }
        self.authority.may_market(caller, &*self.library.refreshed().await?, self.clock.now())
    }
}
