//! How long values are kept: which month a value counts to, what is due, and runs that destroy what was kept long enough.

mod clock;
mod sweep;

use super::audit::{Entry, Touched, call, outcome};
use super::write::Record;
use super::{Vault, answer};
use crate::model::{Cohort, Error, RequestId, Result, RetentionRun, RetentionRunId, SubjectId, Time};
use crate::policy::{Caller, Catalogue};
use crate::store::retention::Counted;

/// As whom the vault destroys what was kept long enough, when nobody asks for it.
const ITSELF: &str = "lacuna";

/// So many pages of keys are ended at once when nobody asks for it: other duties wait meanwhile.
const AT_ONCE: u32 = 40;

/// A run that somebody asks for.
pub struct RunRetention {
    /// What time it is, as the caller knows.
    pub confirmed_at: Option<Time>,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// Values of one class and month, and when they end.
pub struct Previewed {
    /// How many.
    pub counted: Counted,
    /// When they have been kept long enough; `None` while their key has no month yet.
    pub ends_at: Option<Time>,
    /// Whether that is over.
    pub overdue: bool,
}

impl Vault {
    /// The month that a value of a class counts to, if the class has a period as far as this process knows. Should it have had
    /// none until a moment ago, the key gets its month later.
    pub(super) fn cohort_of(&self, class: &str, now: Time) -> Option<Cohort> {
        let period = self.library.known().class(class)?.period;
        period.map(|_| Cohort::of(now))
    }

    /// What is kept for a time, by class and month. Changes nothing.
    pub async fn preview_retention(&self) -> Result<Vec<Previewed>> {
        let (catalogue, now) = (self.library.refreshed().await?, self.clock.now());
        let counted = self.custody.store().read().await?.count_cohorts(&with_period(&catalogue)).await?;
        let previewed = |counted: Counted| {
            let class = catalogue.class(&counted.class);
            let ends_at = class.zip(counted.cohort).and_then(|(class, cohort)| class.ends(cohort));
            Previewed { counted, ends_at, overdue: ends_at.is_some_and(|end| end <= now) }
        };
        Ok(counted.into_iter().map(previewed).collect())
    }

    /// Destroys what was kept long enough. Answers when its keys are gone from everywhere, or what that waits for.
    pub async fn run_retention(&self, caller: &Caller, ask: RunRetention) -> Result<(RetentionRun, Option<String>)> {
        if let Some(answer) = self.answered(caller, "RunRetention", ask.request).await? {
            return self.finish_run(self.retention_run(RetentionRunId::parse(&answer.answer)?).await?).await;
        }
        self.record_deed(caller, "RunRetention").await?;
        // One at a time on a node.
        let mut swept = self.swept.lock().await;
        self.believe_clock(ask.confirmed_at).await?;
        let now = self.clock.now();
        let mut run = RetentionRun::begin(RetentionRunId::new(now, self.custody.ring.random()), &caller.name, now);
        let mut tx = self.custody.store().write().await?;
        tx.put_run(&run).await?;
        let of = answer::Keep { caller: &caller.name, deed: "RunRetention", request: ask.request, subject: None };
        answer::keep(&mut *tx, &of, run.id.to_string(), now).await?;
        tx.commit().await?;
        self.sweep(&mut run, true, u32::MAX).await?;
        *swept = Some((now, true));
        drop(swept);
        self.finish_run(run).await
    }

    async fn retention_run(&self, id: RetentionRunId) -> Result<RetentionRun> {
        let found = self.custody.store().read().await?.retention_run(id).await?;
        found.ok_or_else(|| Error::internal("a retention run is gone"))
    }

    /// A page of runs, newest first, with the id after which the next one begins.
    pub async fn list_retention_runs(
        &self,
        after: Option<RetentionRunId>,
        size: u32,
    ) -> Result<(Vec<RetentionRun>, Option<RetentionRunId>)> {
        let mut found = self.custody.store().read().await?.list_runs(after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|run| run.id).filter(|_| more);
        Ok((found, next))
    }

    /// Goes on with runs that wait, and once an hour destroys what was kept long enough. While the clock is doubted it only notes
    /// of what a restored database has under keys that are gone that it has ended.
    pub(super) async fn keep_retention(&self) -> Result<()> {
        // Somebody has asked for a run, and gets it.
        let Ok(mut swept) = self.swept.try_lock() else { return Ok(()) };
        let pending = self.custody.store().read().await?.pending_runs().await?;
        for run in pending {
            self.finish_run(run).await?;
        }
        let (trusted, now) = (self.watch_clock().await?, self.clock.now());
        if swept.is_some_and(|(at, known)| at.hour() == now.hour() && known == trusted) {
            return Ok(());
        }
        let mut run = RetentionRun::begin(RetentionRunId::new(now, self.custody.ring.random()), ITSELF, now);
        let swept_all = self.sweep(&mut run, trusted, AT_ONCE).await?;
        if !run.items.is_empty() {
            self.finish_run(run).await?;
        }
        if swept_all {
            *swept = Some((now, trusted));
        }
        Ok(())
    }

    /// Records whose values a run is about to destroy.
    async fn record_ending(&self, by: &str, touched: Vec<Touched<'static>>) -> Result<()> {
        call::touch(touched.iter().cloned());
        let entry = Entry { touched, ..Entry::new(by, "RunRetention", self.clock.now()) };
        self.record(Record::of(entry)).await.map(drop)
    }
}

/// The classes that have a period.
fn with_period(catalogue: &Catalogue) -> Vec<String> {
    catalogue.classes().filter(|class| class.period.is_some()).map(|class| class.code.clone()).collect()
}

/// Of each class with a period, the newest month that was kept long enough.
fn over(catalogue: &Catalogue, now: Time) -> Vec<(String, Cohort)> {
    catalogue.classes().filter_map(|class| Some((class.code.clone(), class.over(now)?))).collect()
}

/// How a person is told of in the audit.
fn asked(subject: SubjectId) -> Touched<'static> {
    Touched::subject(subject, None, outcome::ASKED)
}
