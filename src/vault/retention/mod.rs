//! How long values are kept: which month a value counts to, what is due, and runs that destroy what was kept long enough.

mod clock;
mod sweep;

use std::collections::BTreeMap;

use self::clock::Moment;
pub(super) use self::sweep::FOUND;
use self::sweep::Place;
use super::audit::{Entry, Touched, call, outcome};
use super::profiling::want_root;
use super::write::Record;
use super::{Vault, answer};
use crate::crash;
use crate::keys::condemn;
use crate::model::{Cohort, Error, RequestId, Result, RetentionRun, RetentionRunId, RunState, SubjectId, Time};
use crate::policy::{Caller, Catalogue};
use crate::store::Tx;
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
        self.library.known().has_period(class).then(|| Cohort::of(now))
    }

    /// What is kept for a time, by class and month. Changes nothing.
    pub async fn preview_retention(&self) -> Result<Vec<Previewed>> {
        let (catalogue, now) = (self.library.refreshed().await?, self.clock.now());
        let mut tx = self.custody.store().read().await?;
        let mut counted = tx.count_cohorts(&catalogue.ending_classes()).await?;
        counted.extend(tx.count_kept().await?);
        drop(tx);
        // What outlasts an erasure beside what else is of its class and month.
        counted.sort_by(|one, other| (&one.class, one.cohort).cmp(&(&other.class, other.cohort)));
        let previewed = |counted: Counted| {
            let ends = |cohort| catalogue.ends(&counted.class, cohort, now);
            let ends_at = counted.kept_until.or_else(|| counted.cohort.and_then(ends));
            Previewed { counted, ends_at, overdue: ends_at.is_some_and(|end| end <= now) }
        };
        Ok(counted.into_iter().map(previewed).collect())
    }

    /// Destroys what was kept long enough. Answers when its keys are gone from everywhere, or what that waits for.
    pub async fn run_retention(&self, caller: &Caller, ask: RunRetention) -> Result<(RetentionRun, Option<String>)> {
        if let Some(answer) = self.answered(caller, "RunRetention", ask.request).await? {
            let run = self.retention_run(RetentionRunId::parse(&answer.answer)?).await?;
            if run.state != RunState::Sweeping {
                return self.finish_run(run).await;
            }
        }
        self.record_deed(caller, "RunRetention").await?;
        // One at a time on a node.
        let mut swept = self.swept.lock().await;
        let moment = self.believe_clock(ask.confirmed_at).await?;
        let (mut run, ours) = self.begin_run(caller, ask.request, moment.now).await?;
        let mut kept = 0;
        if ours {
            kept = self.sweep(&mut run, moment, u32::MAX, &mut Place::default()).await?.kept;
            run = self.close_run(run).await?;
            swept.done = Some((moment.now, true));
        }
        drop(swept);
        let (run, waiting) = self.finish_run(run).await?;
        let rest = || format!("{kept} keys could not be ended and are tried again; the operator's log has the details");
        Ok((run, waiting.or_else(|| (kept > 0).then(rest))))
    }

    /// The run that a request is answered with, and whether it is for this node to make: a new one, or one whose sweep was cut
    /// off.
    async fn begin_run(&self, caller: &Caller, request: Option<RequestId>, now: Time) -> Result<(RetentionRun, bool)> {
        let (run, node) = (
            RetentionRun::begin(RetentionRunId::new(now, self.custody.ring.random()), &caller.name, now),
            self.custody.node(),
        );
        let mut tx = self.custody.store().write().await?;
        let of = answer::Keep { caller: &caller.name, deed: "RunRetention", request, subject: None };
        answer::keep(&mut *tx, &of, run.id.to_string(), now).await?;
        // That of somebody who asked the same before, or at the same time, is kept.
        let kept = answer::given(&mut *tx, &caller.name, "RunRetention", request).await?;
        let kept = kept.map(|answer| RetentionRunId::parse(&answer.answer)).transpose()?;
        let begun = match kept.filter(|kept| *kept != run.id) {
            None => (tx.sweep_run(&run, &node).await?, run),
            Some(earlier) => {
                let ours = tx.adopt_run(earlier, &node).await?;
                (ours, tx.lock_run(earlier).await?.ok_or_else(gone)?)
            }
        };
        tx.commit().await?;
        crash::point("retention::begun");
        Ok((begun.1, begun.0))
    }

    /// Ends the sweep of a run that this node makes.
    async fn close_run(&self, run: RetentionRun) -> Result<RetentionRun> {
        let mut tx = self.custody.store().write().await?;
        tx.close_run(run.id, &self.custody.node()).await?;
        tx.commit().await?;
        self.retention_run(run.id).await
    }

    /// Writes a run whose sweep is the transaction that it is written in: these leaves go with the next change of the root.
    pub(super) async fn end_at_once(&self, tx: &mut dyn Tx, run: &RetentionRun, leaves: Vec<u32>) -> Result<()> {
        let node = self.custody.node();
        tx.sweep_run(run, &node).await?;
        tx.end_keys(&leaves, run.id).await?;
        condemn(tx, leaves).await?;
        tx.close_run(run.id, &node).await?;
        want_root(tx).await
    }

    pub(super) async fn retention_run(&self, id: RetentionRunId) -> Result<RetentionRun> {
        self.custody.store().read().await?.retention_run(id).await?.ok_or_else(gone)
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

    /// Lets go of a run whose caller has given up: whoever leads goes on with it.
    pub(super) async fn leave_retention(&self) -> Result<()> {
        let Ok(_nobody_sweeps) = self.swept.try_lock() else { return Ok(()) };
        let node = self.custody.node();
        if self.custody.store().read().await?.left_run(&node).await?.is_none() {
            return Ok(());
        }
        let mut tx = self.custody.store().write().await?;
        tx.leave_runs(&node).await?;
        tx.commit().await
    }

    /// Goes on with runs that wait or were left, and once an hour destroys what was kept long enough. While the clock is doubted
    /// it only notes of what a restored database has under keys that are gone that it has ended.
    pub(super) async fn keep_retention(&self) -> Result<()> {
        // Somebody has asked for a run, and gets it.
        let Ok(mut swept) = self.swept.try_lock() else { return Ok(()) };
        let moment = self.watch_clock().await?;
        if swept.trusted != moment.trusted {
            *swept = Swept { trusted: moment.trusted, ..Swept::default() };
        }
        let (node, mut tx) = (self.custody.node(), self.custody.store().read().await?);
        let (pending, left) = (tx.pending_runs().await?, tx.left_run(&node).await?);
        drop(tx);
        let is_due = swept.done.is_none_or(|(at, _)| at.hour() != moment.now.hour());
        let went_on = if is_due || (left.is_some() && moment.trusted) {
            self.go_on_sweeping(&mut swept, left, moment).await
        } else {
            Ok(())
        };
        // Whatever held that up: what is gone already is finished.
        for run in pending {
            let id = run.id;
            if let Err(error) = self.finish_run(run).await {
                tracing::warn!(%error, run = %id, "a run of retention waits");
            }
        }
        went_on
    }

    async fn go_on_sweeping(&self, swept: &mut Swept, left: Option<RetentionRunId>, moment: Moment) -> Result<()> {
        let mut run = match left {
            Some(left) => {
                let mut tx = self.custody.store().write().await?;
                if !tx.adopt_run(left, &self.custody.node()).await? {
                    return Ok(());
                }
                let run = tx.lock_run(left).await?.ok_or_else(gone)?;
                tx.commit().await?;
                run
            }
            None => {
                RetentionRun::begin(RetentionRunId::new(moment.now, self.custody.ring.random()), ITSELF, moment.now)
            }
        };
        let outcome = self.sweep(&mut run, moment, AT_ONCE, &mut swept.place).await?;
        swept.overdue += outcome.kept;
        if !outcome.all {
            return Ok(());
        }
        metrics::gauge!("lacuna_retention_overdue").set(u32::try_from(swept.overdue).map_or(f64::MAX, f64::from));
        *swept = Swept { done: Some((moment.now, moment.trusted)), trusted: moment.trusted, ..Swept::default() };
        // While the clock is doubted, a run that somebody asked for is not at its end.
        if moment.trusted && (left.is_some() || !run.items.is_empty()) {
            let run = self.close_run(run).await?;
            self.finish_run(run).await?;
        }
        Ok(())
    }

    /// Records whose values a run is about to destroy.
    async fn record_ending(&self, run: &RetentionRun, touched: Vec<Touched<'static>>) -> Result<()> {
        call::touch(touched.iter().cloned());
        let justification = run.id.to_string();
        let entry = Entry { justification, touched, ..Entry::new(&run.started_by, "RunRetention", self.clock.now()) };
        self.record(Record::of(entry)).await.map(drop)
    }
}

/// What upkeep knows of its sweep.
#[derive(Default)]
pub(super) struct Swept {
    /// When nothing was left to destroy, and whether the clock was believed then.
    done: Option<(Time, bool)>,
    /// Whether the clock is believed in the sweep that is under way.
    trusted: bool,
    /// How far that has come.
    place: Place,
    /// Keys that it has come upon, which are due and are still there.
    overdue: u64,
}

/// Of each class whose values end by themselves, the newest month that was kept long enough.
fn over(catalogue: &Catalogue, now: Time) -> BTreeMap<String, Cohort> {
    catalogue
        .ending_classes()
        .into_iter()
        .filter_map(|class| Some((class.clone(), catalogue.over(&class, now)?)))
        .collect()
}

fn gone() -> Error {
    Error::internal("a retention run is gone")
}

/// How a person is told of in the audit.
fn asked(subject: SubjectId) -> Touched<'static> {
    Touched::subject(subject, None, outcome::ASKED)
}
