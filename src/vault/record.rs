//! Putting on record what is about to be answered, done or refused, by the deeds that know more of it than that they were asked
//! for.

use super::Vault;
use super::audit::{Entry, Touched, call, outcome};
use super::brake::enumeration;
use super::write::{Record, Write, Written};
use crate::model::{Error, Reason, Result, SubjectId, TokenRow};
use crate::policy::Caller;
use crate::trace;

impl Vault {
    /// Makes a record durable; answers the single-use tokens that it spent.
    pub(super) async fn record(&self, mut record: Record) -> Result<Vec<TokenRow>> {
        let misses = enumeration::misses(&record.entry);
        if misses > 0 && self.brakes.counts_misses(&record.entry.caller) {
            if let Err(error) = self.brakes.look(self.custody.store(), &*self.clock).await {
                tracing::debug!(%error, "what other nodes have counted is not known just now");
            }
            let counted = self.brakes.count_misses(&record.entry, misses, self.clock.now());
            let (used, alarm) = counted.unzip();
            record.used.extend(used);
            record.alarm = record.alarm.or(alarm.flatten());
        }
        let suspicion = record.alarm.as_ref().map(|told| self.brakes.suspicion(&told.caller));
        let unavailable = |error: Error| {
            if error.reason == Reason::Overloaded {
                return error;
            }
            self.audit.note(false);
            Error::new(Reason::AuditUnavailable, "the record of this call could not be made durable; try again")
                .because(error)
        };
        let _waiting = trace::stage("audit.wait");
        let refused = record.entry.refused.is_some();
        let written = self.writes.call(Write::Record(Box::new(record))).await.map_err(Error::from).flatten();
        match written.map_err(unavailable)? {
            Written::Recorded(spent) => {
                self.audit.note(true);
                call::note(refused);
                if let Some(suspicion) = suspicion {
                    suspicion.told();
                }
                Ok(spent)
            }
            _ => Err(Error::internal("a record was answered as a write")),
        }
    }

    /// Records what is answered meanwhile because it tells nothing of anybody.
    pub(super) fn record_later(&self, entry: Entry) {
        let writes = self.writes.clone();
        tokio::spawn(async move {
            let written = writes.call(Write::Record(Box::new(Record::of(entry)))).await;
            if let Err(error) = written.map_err(Error::from).flatten() {
                tracing::error!(%error, "an answer that tells of nobody is not on record");
            }
        });
    }

    /// Records that a whole call was refused, and answers the refusal; or that even this could not be recorded.
    pub(super) async fn record_refusal(&self, caller: &Caller, deed: &'static str, error: Error) -> Error {
        self.record_refused(Record::of(Entry::new(&caller.name, deed, self.clock.now())), error).await
    }

    /// The same with all that is known of the call.
    pub(super) async fn record_refused(&self, mut record: Record, error: Error) -> Error {
        record.entry.refused = Some(outcome::refused(error.reason));
        self.record(record).await.err().unwrap_or(error)
    }

    /// Records that a change was asked for, before it is made: nothing changes unrecorded.
    pub(super) async fn record_asked(&self, caller: &Caller, deed: &'static str, subject: SubjectId) -> Result<()> {
        self.record_touched(caller, deed, Touched::subject(subject, None, outcome::ASKED)).await
    }

    /// Records that a person is about to be described to the caller.
    pub(super) async fn record_told(&self, caller: &Caller, deed: &'static str, subject: SubjectId) -> Result<()> {
        self.record_touched(caller, deed, Touched::subject(subject, None, outcome::OK)).await
    }

    /// Records what is about to be done to something.
    pub(super) async fn record_touched(
        &self,
        caller: &Caller,
        deed: &'static str,
        touched: Touched<'static>,
    ) -> Result<()> {
        call::touch([touched.clone()]);
        let entry = Entry { touched: vec![touched], ..Entry::new(&caller.name, deed, self.clock.now()) };
        self.record(Record::of(entry)).await.map(drop)
    }

    /// Records that a definition is about to be made.
    pub(super) async fn record_deed(&self, caller: &Caller, deed: &'static str) -> Result<()> {
        let entry = Entry::new(&caller.name, deed, self.clock.now());
        self.record(Record::of(entry)).await.map(drop)
    }
}
