//! Putting on record what is about to be done, by the deeds that know more of it than that they were asked for.

use super::Vault;
use super::audit::{Entry, Touched, call};
use super::write::Record;
use crate::model::{Result, SubjectId};
use crate::policy::Caller;

impl Vault {
    /// Records that a change was asked for, before it is made: nothing changes unrecorded.
    pub(super) async fn record_asked(&self, caller: &Caller, deed: &'static str, subject: SubjectId) -> Result<()> {
        self.record_touched(caller, deed, Touched::subject(subject, None, "ASKED")).await
    }

    /// Records that a person is about to be described to the caller.
    pub(super) async fn record_told(&self, caller: &Caller, deed: &'static str, subject: SubjectId) -> Result<()> {
        self.record_touched(caller, deed, Touched::subject(subject, None, "OK")).await
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
